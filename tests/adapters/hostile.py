"""What the tests of places start: calls, and ways to see whether something still lives."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
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


def hang(run: RunPlan, inputs: Sequence[bytes], memory: Mapping[str, Any] | None) -> Outcome:
    """Never return, and hold a pipe meanwhile if one is named; the descendant holds it too."""
    path = run.work.args.get("held")  # type: ignore[union-attr]
    held = os.open(path, os.O_WRONLY) if path else -1
    if path and os.fork() == 0:
        os.setsid()
    if path:
        os.write(held, b"here")
    while True:
        signal.pause()


def raise_signal(
    run: RunPlan, inputs: Sequence[bytes], memory: Mapping[str, Any] | None
) -> Outcome:
    """Die by a signal, as a fault in a library would."""
    signal.signal(signal.SIGSEGV, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGSEGV)
    raise AssertionError("it went on")


def shut(run: RunPlan, inputs: Sequence[bytes], memory: Mapping[str, Any] | None) -> Outcome:
    """Close everything that it has open, the way to its conductor included."""
    os.closerange(0, 256)
    return Outcome(key=run.key, status="done")


def garble(run: RunPlan, inputs: Sequence[bytes], memory: Mapping[str, Any] | None) -> Outcome:
    """Write nonsense wherever it can."""
    for descriptor in range(3, 32):
        with contextlib.suppress(OSError):
            os.write(descriptor, b"\x00\x00\x00\x04\x93nil")
    return Outcome(key=run.key, status="done")


def forge(run: RunPlan, inputs: Sequence[bytes], memory: Mapping[str, Any] | None) -> Outcome:
    """Say what is not so of the call that is under way, and hang."""
    Path("progress").write_bytes(bytes.fromhex(run.work.args["forged"]))  # type: ignore[union-attr]
    return hang(run, inputs, memory)


def talk(run: RunPlan, inputs: Sequence[bytes], memory: Mapping[str, Any] | None) -> Outcome:
    """Print more than any pipe holds, and answer with half a character."""
    for _ in range(300):
        os.write(1, b"x" * 1000)
        os.write(2, b"y" * 1000)
    print("z" * 100_000, flush=True)
    return Outcome(key=run.key, status="failed", reason="odd", message="half \udc80")


def hoard(run: RunPlan, inputs: Sequence[bytes], memory: Mapping[str, Any] | None) -> Outcome:
    """Ask for much memory."""
    return Outcome(key=run.key, status="done", value={"size": len(bytearray(1 << 28))})


def look(run: RunPlan, inputs: Sequence[bytes], memory: Mapping[str, Any] | None) -> Outcome:
    """Answer with what its process is and may do."""
    target = Path(run.work.args["write"])  # type: ignore[union-attr]
    value: dict[str, Any] = {
        "environment": dict(os.environ),
        "words": list({"alpha", "beta", "gamma", "delta", "epsilon"}),
        "leads": os.getsid(0) != os.getsid(os.getppid()),
    }
    for name, attempt in (
        ("own", lambda: Path("note").write_text("x", encoding="utf-8")),
        ("other", lambda: target.write_text("x", encoding="utf-8")),
        ("network", lambda: socket.socket().close()),
    ):
        try:
            attempt()
        except OSError as error:
            value[name] = error.strerror
        else:
            value[name] = "allowed"
    return Outcome(key=run.key, status="done", value=value)


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
