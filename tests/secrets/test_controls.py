"""The search catches a product whose masker has a hole, in a process of its own for each hole."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.e2e.project import Project
from tests.secrets.canaries import CANARIES
from tests.secrets.channels import HEAD, environment, granted
from tests.secrets.search import leaks

FEW = {name: CANARIES[name] for name in ("CANARY_ASCII", "CANARY_QUOTED", "CANARY_OVERLAP")}
SOURCE = """
whole = b"".join(name + b": " + data + b"\\n" for name, data in shown())
put(whole)
for value in CANARIES.values():
    put(value[:9])
    wait_read()
    put(value[9:] + b"\\n")
put(CANARIES[b"CANARY_ASCII"] + CANARIES[b"CANARY_OVERLAP"][6:])
put(CANARIES[b"CANARY_ASCII"], descriptor=2)
leave({CANARIES[b"CANARY_ASCII"].decode(): {"deep": CANARIES[b"CANARY_ASCII"].decode()}})
"""
#: What is done to the product before it starts, and what has to be undone to see what it leaks.
SABOTAGE = {
    "nothing": ("", None),
    "no base64": (
        "redact._encoded = lambda value: {value.hex().encode(), value.hex().upper().encode()}",
        ("base64",),
    ),
    "no hex": (
        """
real = redact._encoded
redact._encoded = lambda value: {form for form in real(value) if len(form) < 2 * len(value)}
""",
        ("hex",),
    ),
    "no escapes": ("escapes._ESCAPES_MAX = 0", ("URL",)),
    "nothing held back between chunks": (
        """
def feed(self, chunk):
    self._held, self._size, self._passed, self._covered = [chunk], len(chunk), 0, 0
    masked = self._release(is_last=True)
    self._held = []
    return masked
redact.Masking.feed = feed
""",
        (),
    ),
    "nothing behind an overlap": (
        """
real = redact.Masker.spans
def spans(self, data):
    found = []
    for span in real(self, data):
        if not found or span.start >= found[-1].end:
            found.append(span)
    return found
redact.Masker.spans = spans
""",
        (),
    ),
    "stderr not masked": (
        """
real, turns = commands.Commands._capture, []
def capture(self, limits, masker):
    turns.append(1)
    return real(self, limits, masker if len(turns) % 2 else redact.Masker({}))
commands.Commands._capture = capture
""",
        (),
    ),
    "keys of results not masked": (
        """
real = commands._masked
def masked(value, masker):
    if isinstance(value, dict):
        return {key: masked(item, masker) for key, item in value.items()}
    return real(value, masker)
commands._masked = masked
""",
        (),
    ),
}

#: What the holes are made in.
IMPORTS = """
from runwright.adapters import commands
from runwright.kernel.record import escapes, redact
"""


class Sabotaged(Project):
    """A project whose commands are given to a product with a hole."""

    def __init__(self, base: Path, hole: str) -> None:
        """Keep the Python text that makes the hole."""
        super().__init__(base)
        self._hole = hole

    def _argv(self, words: tuple[object, ...]) -> list[str]:
        start = f"{IMPORTS}\n{self._hole}\nfrom runwright.cli.main import main\nmain()"
        return [sys.executable, "-c", start, *map(str, words)]


@pytest.mark.slow
@pytest.mark.parametrize("name", SABOTAGE)
def test_a_hole_in_the_masker_is_found(initialised: Project, tmp_path: Path, name: str) -> None:
    """Each sabotaged build leaks and is caught; the honest one, run the same way, is not."""
    hole, undone = SABOTAGE[name]
    initialised.copy_to(tmp_path)
    project = Sabotaged(tmp_path, hole)
    project.apply(project.task("a", HEAD + SOURCE, **granted(FEW)))
    done = project.run("run", "demo", env=environment(FEW))
    assert done.status == 0, done
    found = leaks(project, FEW)
    print(f"{name}: {len(found)} leaks")
    assert bool(found) == bool(hole)
    if undone is not None:
        assert undone in {leak.undone for leak in found}
