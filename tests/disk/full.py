"""A command that meets a full disk: how it ended, and what the next start finds."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tests.disk import builds
from tests.disk.builds import Built
from tests.disk.cuts import acknowledged_by, lost
from tests.disk.volumes import Volumes, leave
from tests.e2e.project import Done
from tests.e2e.test_crash import is_whole
from tests.tidy.tree import REPOSITORY

#: Says on a file elsewhere which attempt acted, with the size of its config.
ACT = """
import os
config = os.environ["RUNWRIGHT_CONFIG"]
with open({effects!r}, "a") as file:
    file.write(f"{{os.environ['RUNWRIGHT_RUN_ID']}} {{os.path.getsize(config)}}\\n")
"""

#: Writes a temporary file and a result, and prints.
LOUD = """
with open(os.environ["TMPDIR"] + "/left", "wb") as file:
    file.write(bytes({temporary}))
with open(os.environ["RUNWRIGHT_RESULT"], "w") as file:
    file.write('{{"text": "' + "x" * {result} + '"}}')
print("x" * {output})
"""


@dataclass
class Met:
    """What one command met on a disk with so many free pages."""

    pages: int
    done: Done
    #: The code of the error that it ended with; "" without one.
    code: str
    #: What is not as it was promised, in words.
    broken: list[str] = field(default_factory=list)
    is_well: bool = False


def documented() -> set[tuple[int, str]]:
    """Return the exit statuses and codes of the reference."""
    found, status = set(), ""
    for line in (REPOSITORY / "docs/reference/errors.md").read_text().splitlines():
        if family := re.match(r"Exit status (\d+)\.", line):
            status = family[1]
        elif row := re.match(r"\| `([a-z-]+)` \|.*?(?:\| (\d+) )?\|$", line):
            found.add((int(row[2] or status), row[1]))
    return found


def made(volumes: Volumes, **settings: Path) -> Built:
    """Make a project whose parts lie where the settings say."""
    project = Built(volumes.base / "base", **settings)
    for path in settings.values():
        path.parent.mkdir(parents=True, exist_ok=True)
    project.done("init", "--name", "demo")
    return project


def apply_three(project: Built, *, output: int = 10, result: int = 10, temporary: int = 10) -> None:
    """Apply a spec of three functions; the second is the loudest."""
    effects = project.base / "effects"
    effects.touch()
    source = ACT.format(effects=str(effects))
    quiet = LOUD.format(output=10, result=result, temporary=10)
    loud = LOUD.format(output=output, result=result, temporary=temporary)
    # At T0 a function may write where it likes: what acts outside is what must not be repeated.
    how = {"level": "T0", "note": "n" * 3000}
    texts = {"a": source + quiet, "b": source + loud, "c": source + quiet}
    project.apply(*(project.task(name, text, **how) for name, text in texts.items()))


def acted(project: Built) -> list[list[str]]:
    """Return which attempts acted, each with the size of its config."""
    return [line.split() for line in (project.base / "effects").read_text().splitlines()]


def meet(
    project: Built,
    small: Path,
    pages: int,
    *words: object,
    build: str = builds.WHOLE,
    named: Path,
) -> Met:
    """Give a command of a build with so many pages free, then free the others."""
    project.build = build
    ballast = leave(small, pages)
    try:
        done = project.run(*words)
    finally:
        ballast.unlink()
        project.build = builds.WHOLE
    code, message = done.error if "error[" in done.stderr else ("", "")
    met = Met(pages, done, code)
    if "Traceback" in done.stderr + done.stdout:
        met.broken.append("a traceback")
    if code == "internal" or (code and (done.status, code) not in documented()):
        met.broken.append(f"not documented: {done.status} {code}: {message}")
    if code and str(named) not in message:
        met.broken.append(f"{named} is not named: {message}")
    # 5 needs no error: the failures stand in the outcomes.
    if done.status not in (0, 5) and not code:
        met.broken.append(f"{done.status} without an error")
    return met


def recovered(project: Built, done: Done) -> list[str]:
    """Return what is not as it was promised once there is space again."""
    again = project.run("apply", "demo.yaml")
    if again.status:
        return [f"the next start ends with {again.error}"]
    broken = []
    if lost(acknowledged_by(done), dict(project.sql("SELECT seq, raw FROM entry"))):
        broken.append("something acknowledged is lost")
    if not is_whole(project):
        broken.append("the record is not whole")
    runs = [run for run, _ in acted(project)]
    if len(runs) != len(set(runs)):
        broken.append("a run acted twice")
    if not set(runs) <= {entry["run"] for entry in project.entries("run.started")}:
        broken.append("something acted that is not recorded")
    return broken


def broken_in(found: Iterable[Met]) -> str:
    """Return what is not as it was promised, of all."""
    return "; ".join(words for met in found for words in met.broken)


def told(found: Iterable[Met]) -> str:
    """Return what was met, one line for each size."""
    return "\n".join(
        f"{met.pages} pages: {met.done.status} {met.code} {met.broken or ''}" for met in found
    )
