"""The conductor's side of workers: starts them, keeps idle ones, and knows what is with each.

A worker is a supervised child like a command, so its session, its limits, its confinement and its
end with the conductor are those of docs/reference/isolation.md. It reads chunks from a named pipe
in its scratch folder and answers on its output.
"""

from __future__ import annotations

import os
import select
import sys
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from runwright.adapters import supervisor as words
from runwright.adapters.children import PATH, Child, Launcher, LauncherLost, Start
from runwright.adapters.commands import PLAIN, Held, limits_of, signal_text
from runwright.adapters.scratch import Scratch
from runwright.adapters.worker import (
    PROGRESS_FILE,
    READ_BYTES,
    REQUESTS_FILE,
    Answer,
    Chunk,
    Frames,
    frame,
    make_progress,
    read_progress,
)
from runwright.kernel.ports import Work
from runwright.kernel.run import Call, Limits

#: Workers that are kept for the next round.
IDLE_MAX: Final = 64
#: Seconds that the trees of workers have to end when everything is being closed.
CLOSE_S: Final = 5.0
#: Bytes that a pipe to a worker may hold, where the system grants it.
PIPE_BYTES: Final = 1 << 20
#: The largest file that a worker may write, MiB, and its open files.
FILE_MIB, OPEN_FILES = 1024, 1024

_START: Final = "from runwright.adapters.worker import main; main()"
_DECODER: Final = msgspec.msgpack.Decoder(Answer)
_ENCODER: Final = msgspec.msgpack.Encoder()


class Garbled(Exception):
    """What a worker says is no answer to what was sent."""


class Kind(NamedTuple):
    """What tells workers apart."""

    #: It has no network, and writes only to its scratch folder.
    is_confined: bool = False
    #: 0: no limit.
    memory_mib: int = 0


def timeout_s(work: Work) -> float:
    """Return the seconds that a call may take; 0: no limit."""
    return work.plan.work.timeout_ms / 1000 if isinstance(work.plan.work, Call) else 0.0


class Flight:
    """A chunk that is with a worker."""

    def __init__(self, number: int, work: Sequence[Work]) -> None:
        """Know when all of it has to have ended, if each call has its limit."""
        self.number = number
        self.work = list(work)
        limits_s = [timeout_s(each) for each in work]
        self.most_s = sum(limits_s) if all(limits_s) else 0.0
        #: The shortest limit of a call in it; 0: none has one.
        self.least_s = min(filter(None, limits_s), default=0.0)
        #: When it became the one that the worker is at.
        self.since_s = time.monotonic()


class Worker:
    """One worker process."""

    def __init__(self, child: Child, scratch: Scratch, kind: Kind, level: str) -> None:
        """Take over a child, and make what it needs of its scratch folder."""
        self.kind = kind
        #: The isolation level that is applied.
        self.level = level
        #: What is with it, in order.
        self.flights: deque[Flight] = deque()
        self.child = child
        self._scratch = scratch
        self._frames = Frames()
        self._unsent = bytearray()
        #: It says what is no answer: a call has written where only answers belong.
        self.is_garbled = False
        os.set_blocking(child.stdout, False)
        # Read and write: opening it waits for nobody, and the worker hears when it is closed.
        flags = os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC
        self.requests = os.open(f"{scratch.path}/{REQUESTS_FILE}", flags)
        self._progress = os.open(f"{scratch.path}/{PROGRESS_FILE}", os.O_RDONLY | os.O_CLOEXEC)
        _widen(self.requests)

    @property
    def has_unsent(self) -> bool:
        """Whether something waits for room in the pipe."""
        return bool(self._unsent)

    @property
    def least_s(self) -> float:
        """The shortest limit of a call that may be under way; 0: none has one."""
        return self.flights[0].least_s if self.flights else 0.0

    def send(self, chunk: Chunk) -> None:
        """Send a chunk, as far as there is room for it."""
        self.flights.append(Flight(chunk.number, chunk.work))
        self._unsent += frame(_ENCODER.encode(chunk))
        self.flush()

    def flush(self) -> None:
        """Send what waits for room."""
        try:
            while self._unsent:
                del self._unsent[: os.write(self.requests, self._unsent)]
        except BlockingIOError:
            return

    def answers(self) -> list[Answer]:
        """Return what has come of chunks; the next one is under way by that.

        What is no answer to what was sent makes it `is_garbled`, and it is heard no more.
        """
        found: list[Answer] = []
        if self.is_garbled:
            return found
        try:
            while data := os.read(self.child.stdout, READ_BYTES):
                # One by one: what came before what is no answer is kept.
                for body in self._frames.feed(data):
                    found.append(self._answer(body))  # noqa: PERF401
                if len(data) < READ_BYTES:
                    break
        except BlockingIOError:
            pass
        except (Garbled, msgspec.MsgspecError, UnicodeError, OverflowError):
            # What follows may look like an answer.
            self.is_garbled = True
        if found and self.flights:
            self.flights[0].since_s = time.monotonic()
        return found

    def _answer(self, body: bytes) -> Answer:
        answer = _DECODER.decode(body)
        keys = [each.outcome.key for each in answer.executed]
        if not self.flights or keys != [work.plan.key for work in self.flights[0].work]:
            raise Garbled
        self.flights.popleft()
        return answer

    def is_silent(self) -> bool:
        """Say whether its output is closed for good."""
        poll = select.poll()
        poll.register(self.child.stdout, select.POLLIN)
        return any(
            events & select.POLLHUP and not events & select.POLLIN for _, events in poll.poll(0)
        )

    def under_way(self) -> tuple[Work, float] | None:
        """Return the call that is under way and since when; None between two calls."""
        if not self.flights:
            return None
        flight = self.flights[0]
        number, place, since_s = read_progress(self._progress)
        if number != flight.number or not 0 < place <= len(flight.work):
            return None
        return flight.work[place - 1], since_s

    def unanswered(self) -> list[Work]:
        """Return the calls that have all ended without an answer having come."""
        if not self.flights:
            return []
        number, place, _since_s = read_progress(self._progress)
        head = self.flights[0]
        has_ended = number > head.number or (number == head.number and not place)
        return head.work if has_ended else []

    def ending(self) -> str:
        """Return how it ended, as the end of a sentence, once its control socket is closed."""
        try:
            report = self.child.report()
        except LauncherLost:
            return "could not be started"
        if report is None:
            return "ended with its supervisor, which was killed"
        if report.step:
            return f"could not be started: {report.step}: {os.strerror(report.errno)}"
        if report.signal:
            return f"was ended by {signal_text(report.signal)}"
        return f"ended with exit status {report.exit}"

    def kill(self) -> None:
        """Have it and its tree killed."""
        self.child.kill()

    def close(self) -> None:
        """Let go of it; its tree is killed if it still lives."""
        self.child.close()
        os.close(self.requests)
        os.close(self._progress)
        # What cannot be removed now is swept when the conductor starts again.
        self._scratch.remove()


class Workers:
    """All workers of a conductor: those at work, those that wait for it, those that end."""

    def __init__(self, launcher: Launcher, scratch: Path, private: Sequence[str]) -> None:
        """Start nothing; `private` are paths that a confined worker cannot read."""
        self._launcher = launcher
        self._scratch = scratch
        self._private = private
        self._idle: list[Worker] = []
        self._ending: list[Worker] = []
        self._count = 0
        self._holds: bool | None = None

    def holds_confinement(self) -> bool:
        """Say whether this machine holds T1; asked once."""
        if self._holds is None:
            try:
                self._holds = self._launcher.holds(words.HOLDS_T1)
            except LauncherLost:
                # Nothing will be started either, and that is what will be said.
                return False
        return self._holds

    def take(self, kind: Kind) -> Worker:
        """Return a worker, an idle one if there is one. Raises: LauncherLost, OSError."""
        self._bury()
        for worker in reversed(self._idle):
            if worker.kind == kind:
                self._idle.remove(worker)
                return worker
        return self._started(kind)

    def give_back(self, worker: Worker) -> None:
        """Keep a worker that has nothing to do for later."""
        self._idle.append(worker)
        if len(self._idle) > IDLE_MAX:
            self.end(self._idle.pop(0))

    def end(self, worker: Worker) -> None:
        """Kill a worker; it is let go of once its tree has ended."""
        worker.kill()
        self._ending.append(worker)

    def close(self) -> None:
        """Kill all that wait, and let go of those that end."""
        for worker in self._idle:
            self.end(worker)
        self._idle.clear()
        until = time.monotonic() + CLOSE_S
        while self._ending and (left_s := until - time.monotonic()) > 0:
            self._bury(left_s)
        for worker in self._ending:
            worker.close()
        self._ending.clear()

    def _bury(self, wait_s: float = 0) -> None:
        """Let go of workers whose trees have ended."""
        if not self._ending:
            return
        poll = select.poll()
        for worker in self._ending:
            poll.register(worker.child.control.fileno(), select.POLLIN)
        ended = {descriptor for descriptor, _events in poll.poll(int(wait_s * 1000))}
        for worker in [*self._ending]:
            if worker.child.control.fileno() in ended and not worker.child.hear():
                worker.close()
                self._ending.remove(worker)

    def _started(self, kind: Kind) -> Worker:
        level = "T1" if kind.is_confined else PLAIN
        self._count += 1
        scratch = Scratch(self._scratch, f"worker-{os.getpid()}-{self._count}")
        try:
            os.mkfifo(f"{scratch.path}/{REQUESTS_FILE}", 0o600)
            make_progress(f"{scratch.path}/{PROGRESS_FILE}")
            child = self._launcher.begin(self._start(kind, level, scratch))
        except (OSError, LauncherLost):
            scratch.remove()
            raise
        return Worker(child, scratch, kind, level)

    def _start(self, kind: Kind, level: str, scratch: Scratch) -> Start:
        own = os.path.realpath(scratch.path)
        sandbox = {"hidden": self._private, "writable": [own], "offline": True}
        limits = Limits(memory_mib=kind.memory_mib, file_mib=FILE_MIB, open_files=OPEN_FILES)
        return Start(
            program=sys.executable,
            argv=[sys.executable, "-c", _START],
            environment={
                "PATH": PATH,
                "LANG": "C.UTF-8",
                "LC_ALL": "C.UTF-8",
                "HOME": own,
                "TMPDIR": own,
                "PYTHONPATH": os.pathsep.join(os.path.abspath(path) for path in sys.path),  # noqa: PTH100 - as strings
                # Nothing that stands in the scratch folder is imported.
                "PYTHONSAFEPATH": "1",
                # The same order of a set in every worker, today and when it is replayed.
                "PYTHONHASHSEED": "0",
            },
            folder=scratch.path,
            limits=limits_of(limits, Held(level, counts=False)),
            sandbox=sandbox if kind.is_confined else None,
        )


def _widen(pipe: int) -> None:
    from fcntl import F_SETPIPE_SZ, fcntl  # lazy: there is no such call elsewhere than on Linux

    try:
        fcntl(pipe, F_SETPIPE_SZ, PIPE_BYTES)
    except OSError:
        # A user may have only so much; it is slower, and works.
        return
