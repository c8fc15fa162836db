"""What a project prints when asked for everything, and what functions it is asked about."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.e2e.project import Done, Project
from tests.secrets import forms

#: What every function starts with: the ways of writing, the canaries, and how to write in pieces.
HEAD = f"""{Path(forms.__file__).read_text(encoding="utf-8")}
import array, fcntl, os, random, select, sys, termios
CANARIES = {{k: v for k, v in sorted(os.environb.items()) if k.startswith(b"CANARY_")}}
CONFIG = json.load(open(os.environ["RUNWRIGHT_CONFIG"]))


def put(data, sizes=(1 << 30,), descriptor=1):
    at = turn = 0
    while at < len(data):
        at += os.write(descriptor, data[at:at + sizes[turn % len(sizes)]])
        turn += 1


def wait_read():
    # Until the pipe is empty: what is written next is read apart from what was.
    unread = array.array("i", [1])
    while unread[0]:
        fcntl.ioctl(1, termios.FIONREAD, unread)
        select.select([], [], [], 0.001)


def leave(value):
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    open(os.environ["RUNWRIGHT_RESULT"], "wb").write(text)


def ascii_of(text):
    return text.encode("ascii", "ignore").decode()


def shown():
    for value in CANARIES.values():
        for name, way in WAYS.items():
            yield name.encode(), way(value)
            yield b"stripped", way(value.strip())
"""


def granted(canaries: Mapping[str, bytes]) -> dict[str, Any]:
    """Return the keys of a task_config that grant canaries and declare them secret."""
    return {"env": list(canaries), "secret": list(canaries)}


def environment(canaries: Mapping[str, bytes]) -> dict[str, str]:
    """Return canaries as the variables of whoever conducts, who also wants to see tracebacks."""
    values = {name: value.decode() for name, value in canaries.items()}
    return {**values, "RUNWRIGHT_TRACEBACK": "1"}


def told(project: Project, env: Mapping[str, str]) -> Iterator[tuple[str, bytes]]:
    """Ask everything that can be asked about the newest round; yield what each command said."""
    last = len(project.entries()) - 1
    commands: list[tuple[object, ...]] = [
        ("run", "demo", "--dry-run"),
        *(("show", what) for what in ("runs", "ledger", "schedule", "outbox")),
        ("show", "ledger", "--json"),
        ("export", "latest", "--out", project.base / "bundle"),
        ("export", "all", "--out", project.base / "all", "--json"),
        ("verify", project.base / "bundle", "--all"),
        ("verify", "--store", "--rejudge", "--json"),
        *(("ledger", "entry", last, "--raw"), ("ledger", "entry", last), ("ledger", "head")),
        *(("ledger", "keys"), ("ledger", "proof", last)),
        *(("doctor",), ("config", "show", "--origin"), ("db", "check")),
        *(("run", "nobody"), ("--set", "store.path=/dev/null/x", "show")),
        *(("show", "latest", "--output", stream) for stream in ("stdout", "stderr")),
    ]
    yield from shown(project, env)
    for words in commands:
        yield " ".join(map(str, words)), _said(project.run(*words, env=env))
    for folder in ("bundle", "all"):
        for path in sorted((project.base / folder).rglob("*")):
            if path.is_file():
                yield f"{folder}/{path.name}", path.read_bytes()


def shown(project: Project, env: Mapping[str, str]) -> Iterator[tuple[str, bytes]]:
    """Yield how the newest round is shown."""
    for words in (("show", "latest"), ("show", "latest", "--json")):
        yield " ".join(words), _said(project.run(*words, env=env))


def run(
    project: Project, env: Mapping[str, str], form: str = "human"
) -> tuple[Done, list[tuple[str, bytes]]]:
    """Run the spec with messages of this form; return how it ended, and what it said."""
    # Megabytes of escapes take their time on a machine that others use as well.
    asked = {**env, "RUNWRIGHT_MESSAGES_FORM": form}
    done = project.run("run", "demo", env=asked, within_s=180)
    return done, [("run", _said(done))]


def finished(project: Project) -> dict[str, dict[str, Any]]:
    """Return what the record says of each function, so that one that never ran is noticed."""
    detail = project.done("show", "latest", "--json").json
    return {each["key"]: each for each in detail["runs"]}


def _said(done: Done) -> bytes:
    return f"{done.stdout}\0{done.stderr}".encode()
