"""What the tests of places start: calls, and ways to see whether something still lives."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from runwright.kernel.errors import Deferred
from runwright.kernel.run import Outcome, RunPlan

#: Seconds within which what is certain to happen happens, also on a busy machine.
SOON_S = 20


def answer(run: RunPlan, inputs: Sequence[bytes], memory: Mapping[str, Any] | None) -> Outcome:
    """Answer with what it was given."""
    value = {"pid": os.getpid(), "size": sum(map(len, inputs)), **dict(memory or {})}
    return Outcome(key="whatever", status="done", value=value)


def die(run: RunPlan, inputs: Sequence[bytes], memory: Mapping[str, Any] | None) -> Outcome:
    """Take the whole process down."""
    os._exit(9)


def leave(run: RunPlan, inputs: Sequence[bytes], memory: Mapping[str, Any] | None) -> Outcome:
    """Call exit, as a script would."""
    raise SystemExit(3)


def fail(run: RunPlan, inputs: Sequence[bytes], memory: Mapping[str, Any] | None) -> Outcome:
    """Raise something long."""
    raise RuntimeError("no " * 1000)


def defer(run: RunPlan, inputs: Sequence[bytes], memory: Mapping[str, Any] | None) -> Outcome:
    """Ask to be repeated."""
    raise Deferred("the other side is busy")


def mumble(run: RunPlan, inputs: Sequence[bytes], memory: Mapping[str, Any] | None) -> Any:
    """Return something else than an outcome."""
    return {"status": "done"}


def blur(run: RunPlan, inputs: Sequence[bytes], memory: Mapping[str, Any] | None) -> Outcome:
    """Return a float, which no entry may hold."""
    return Outcome(key=run.key, status="done", value={"mean": 0.5})


def await_gate(run: RunPlan, inputs: Sequence[bytes], memory: Mapping[str, Any] | None) -> Outcome:
    """Say that it began, and end when the test says so."""
    begun, gate = run.work.args["begun"], run.work.args["gate"]  # type: ignore[union-attr]
    Path(begun).write_text("", encoding="utf-8")
    Path(gate).read_bytes()
    return Outcome(key=run.key, status="done")


def alive(marker: str) -> list[int]:
    """Return the processes that carry a marker in their arguments or their environment."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            try:
                text = (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
            except OSError:
                continue
            if marker.encode() in text:
                found.append(int(folder.name))
    return found


def all_gone(marker: str) -> bool:
    """Wait until no process carries a marker."""
    until = time.monotonic() + SOON_S
    while alive(marker):
        if time.monotonic() > until:
            return False
    return True


class Holders:
    """A named pipe that says when its first writer came and when its last one is gone."""

    def __init__(self, path: Path) -> None:
        """Make the pipe."""
        self.path = path
        os.mkfifo(path)
        self._read = os.open(path, os.O_RDONLY | os.O_NONBLOCK)

    def came(self) -> bool:
        """Wait until somebody wrote into it."""
        return self._wait() and bool(os.read(self._read, 4096))

    def gone(self) -> bool:
        """Wait until nobody holds it any more."""
        while self._wait():
            if not os.read(self._read, 4096):
                return True
        return False

    def held(self) -> bool:
        """Say whether somebody holds it now."""
        poll = select.poll()
        poll.register(self._read, select.POLLIN)
        return not any(events & select.POLLHUP for _descriptor, events in poll.poll(0))

    def _wait(self) -> bool:
        poll = select.poll()
        poll.register(self._read, select.POLLIN)
        return bool(poll.poll(SOON_S * 1000))

    def close(self) -> None:
        """Let go of the reading end."""
        os.close(self._read)
