"""A supervisor: it starts one child in a session of its own, watches it and ends its whole tree.

It is a subreaper, so a descendant that forked twice or left its session is still found. It ends the
tree when its control socket closes (the conductor died), when its launcher dies, and when the child
ends. The child is forked before it is needed: up to its last step it stands ready.

When a tree has ended by itself and left nothing, the supervisor stays for another one, with the
next child ready. Two forks and the pages they copy cost more than all the rest, so only the first
child in a row pays for both. With its report it hands out the socket at which that child waits: the
next request goes to the child, by its own, and to the supervisor, by the same control socket.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # typeshed knows only `signal`, which imports enum
import _socket
import errno
import marshal
import os
import resource
import select
import time

from runwright.adapters.cgroups import join, remove
from runwright.adapters.processes import (
    CHILD_SUBREAPER,
    GIVE_UP_S,
    IS_LINUX,
    OUTPUTS,
    PDEATHSIG,
    RESTORED,
    SEARCH_S,
    SETTLE_S,
    close,
    descendants,
    descendants_elsewhere,
    pass_on,
    receive,
    send,
    wake_on_child,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    # typing alone takes as long to import as everything else here.
    from collections.abc import Callable
    from typing import Any, Final, NoReturn

    from runwright.adapters.sandbox import Sandbox

#: Where a launcher and its supervisors find the conductor's socket.
CONDUCTOR: Final = 0
#: What a launcher says when it starts, in bits of one byte: that it holds T1, that it can count.
HOLDS_T1, COUNTS = 1, 2
#: What a supervisor says just before it lets the child go.
STARTING: Final = b"+"
#: What a conductor says to a supervisor; the end of the stream means kill as well.
ASK, KILL = b"T", b"K"
#: The fields of a report, integers in this order on one line.
FIELDS: Final = (
    "exit signal step errno ended duration_ms cpu_ms peak_kib strays survivors stays".split()
)
#: Field `step`: what failed before the program ran, with `errno`.
STEPS: Final = ("", "fork", "folder", "sandbox", "limits", "program", "namespaces")
#: Field `ended`: why a supervisor ended its tree.
BY_ITSELF, TIMEOUT, STOPPED, NO_CONDUCTOR, NO_LAUNCHER = range(5)
#: How a supervisor ends that was never asked, because nobody can ask any more.
NOBODY_ASKS: Final = 3

#: Seconds between two searches for descendants that were not asked to end yet.
ASK_S: Final = 0.1
#: Bytes of a request frame's length.
LENGTH_BYTES: Final = 4
READ_BYTES: Final = 1 << 16


class Supervisor:
    """Watches over one child and everything that descends from it."""

    def __init__(
        self,
        conductor: _socket.socket,
        lifeline: int,
        prctl: Callable[[int, int], object],
        sandbox: Sandbox | None,
        groups: str,
    ) -> None:
        """Fork the first child up to its last step."""
        prctl(CHILD_SUBREAPER, 1)
        self.conductor = conductor
        self.control = conductor
        self.lifeline = lifeline
        self._prctl = prctl
        self._sandbox = sandbox
        #: True once what was started is a template, which a keeper goes on with.
        self.keeps = False
        #: Whether another child may follow.
        self.may_stay = True
        #: The control group of the tree, when its processes are counted.
        self.group = f"{groups}{os.getpid()}"
        self.wake = wake_on_child()
        self.ends = select.poll()
        self.ends.register(self.wake, select.POLLIN)
        self.events = select.poll()
        self.events.register(self.wake, select.POLLIN)
        self.events.register(lifeline, select.POLLIN)
        #: What a child hears of its errand by, and the end of it that the next one gets.
        self.errand, self.waiting = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
        self._make_ready()

    def _make_ready(self) -> None:
        """Fork the next child up to its last step. Raises: OSError."""
        #: The wait status of the child, once it has ended.
        self.status: int | None = None
        #: The first reason to end it.
        self.ended = BY_ITSELF
        #: True when no grace is left.
        self.urgent = False
        self.childless = False
        #: Whether a child waits for its errand.
        self.is_idle = True
        self.killed: set[int] = set()
        #: What all processes of the tree used that were collected here.
        self.cpu_s, self.peak = 0.0, 0
        self.trouble, complaint = os.pipe()
        self.child = os.fork()
        if self.child == 0:
            _become(self.waiting, complaint, self._prctl, self._sandbox, self.group)
        self.waiting.close()
        os.close(complaint)

    def serve(self, taking: int) -> int:
        """Take requests and see each to its end; return the exit status of this process."""
        if not self._is_asked(CONDUCTOR):
            return NOBODY_ASKS
        try:
            data, passed = receive(self.conductor, 1)
        except OSError:
            return NOBODY_ASKS
        if not data:
            return NOBODY_ASKS
        self.conductor.close()
        if not passed:
            return 0
        self.control = _socket.socket(-1, -1, -1, passed[0])
        self.events.register(passed[0], select.POLLIN)
        while self._is_asked(passed[0]) and self._supervise(taking):
            taking = 0
        if self.is_idle:
            # It ends by itself where nobody can tell it anything any more. But somebody may have
            # told it what nobody told us, and was killed in between.
            self.ends.poll(SETTLE_S * 1000)
            self._reap()
            self._kill()
        return 0

    def _is_asked(self, where: int) -> bool:
        """Wait until somebody asks for a child, or the launcher is gone."""
        asked = select.poll()
        asked.register(where, select.POLLIN)
        asked.register(self.lifeline, select.POLLIN)
        return all(descriptor != self.lifeline for descriptor, _events in asked.poll())

    def _supervise(self, taking: int) -> bool:
        """See to the errand of the child until its end; say whether to stay for another."""
        frame, output = self._read_request()
        if not frame:
            return False
        self.is_idle = False
        started = time.monotonic()
        if output:
            # Only the first child has to be told; whoever asks for another tells it as well.
            self.control.send(STARTING)
            self._send_on(self.errand, frame, output)
        # Only now: making the next one ready would compete with the child for the processor.
        if taking:
            os.write(taking, b".")
        request = marshal.loads(frame[LENGTH_BYTES:])  # noqa: S302 - written by our conductor
        self.keeps = request["keeps"]
        if self.keeps:
            return False
        if not self.see_to_end(request, started):
            return False
        # The conductor first: it was woken for this processor, and a fork is long.
        os.sched_yield()
        os.close(self.trouble)
        try:
            self._make_ready()
        except OSError:
            # Whoever asks next is told by the socket, which closes.
            return False
        return True

    def _send_on(self, door: _socket.socket, frame: bytes, output: list[int]) -> None:
        """Hand a child what it is to become, and the ends of its output."""
        try:
            pass_on(door, frame, output)
        except OSError:
            # The child was killed before it became the program; its status tells.
            return
        finally:
            close(output)
        # Who is woken by a message waits for the processor of who sent it.
        os.sched_yield()

    def see_to_end(self, request: dict[str, Any], started: float) -> bool:
        """Watch the child, end its tree and report; say whether nothing is left of it."""
        self._watch(started + request["timeout_s"] if request["timeout_s"] else None)
        if self.ended in (TIMEOUT, STOPPED) and not self.urgent:
            self._ask(request["grace_s"])
        elif self.status is not None:
            self._wait(time.monotonic() + SETTLE_S, lambda: self.childless)
        survivors = self._kill()
        duration_ms = round((time.monotonic() - started) * 1000)
        complaint = (*map(int, self._complaint().split()), 0, 0, 0)
        # At T2 its keeper counted them, and what is killed here is bubblewrap and the keeper.
        strays = complaint[2] if request["spaces"] else len(self.killed - {self.child})
        # What took more than a child to hold, or left anything, is not gone on with.
        is_plain = not (request["tasks"] or request["spaces"] or survivors or complaint[0])
        stays = self.may_stay and is_plain and self.ended == BY_ITSELF and not self.urgent
        if stays:
            self.errand.close()
            self.errand, self.waiting = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
        self._tell(complaint, duration_ms, strays, survivors, stays=stays)
        if request["tasks"]:
            remove(self.group)
        return stays

    def _complaint(self) -> bytes:
        """Return what failed before the program ran; nothing can be writing any more."""
        return os.read(self.trouble, 64)

    def _read_request(self) -> tuple[bytes, list[int]]:
        """Return the frame of a request, and the ends of its output.

        The frame is empty when the conductor went away before it was whole.
        """
        try:
            # No byte more: a word to end it may stand behind it already.
            frame, output = receive(self.control, LENGTH_BYTES)
            while (left := frame_size(frame) - len(frame)) > 0:
                piece = self.control.recv(left)
                if not piece:
                    break
                frame += piece
        except OSError:
            return b"", []
        if len(output) in (0, OUTPUTS) and len(frame) == frame_size(frame):
            return frame, output
        close(output)
        return b"", []

    def _watch(self, deadline: float | None) -> None:
        """Wait until the child has ended or there is a reason to end it."""
        self._wait(deadline, lambda: self.status is not None or self.ended != BY_ITSELF)
        if self.status is None:
            self._end(TIMEOUT)

    def _ask(self, grace_s: float) -> None:
        """Send SIGTERM to the whole tree, and give it its grace."""
        until = time.monotonic() + grace_s
        asked: set[int] = set()
        while True:
            # Again and again: a process may fork while the others are being looked for. Parents
            # come first, so that none hears of the end of its children before its own signal.
            for pid in [each for each in self._descendants() if each not in asked]:
                asked.add(pid)
                send(pid, _signal.SIGTERM)
                # A stopped process ends only once it goes on.
                send(pid, _signal.SIGCONT)
            self._wait(min(until, time.monotonic() + ASK_S), lambda: self.childless)
            if self.childless or self.urgent or time.monotonic() >= until:
                return

    def _wait(self, until: float | None, arrived: Callable[[], bool]) -> None:
        """Wait until it arrived, the time is over or nothing may be waited for any more."""
        while True:
            self._reap()
            left = None if until is None else max(0.0, until - time.monotonic())
            if arrived() or self.urgent or left == 0:
                return
            # Rounded up: poll counts in milliseconds, and waking early would only spin.
            self._hear(self.events.poll(None if left is None else int(left * 1000) + 1))

    def _hear(self, events: list[tuple[int, int]]) -> None:
        """Take in why `poll` returned."""
        for descriptor, _events in events:
            if descriptor == self.wake:
                os.read(self.wake, 512)
            elif descriptor == self.lifeline:
                self._end(NO_LAUNCHER, urgent=True)
            else:
                word = self._word()
                self._end(STOPPED if word else NO_CONDUCTOR, urgent=word != ASK)

    def _word(self) -> bytes:
        try:
            return self.control.recv(1)
        except OSError:
            return b""

    def _end(self, reason: int, *, urgent: bool = False) -> None:
        """Keep the first reason to end a child that still runs."""
        if self.status is None and self.ended == BY_ITSELF:
            self.ended = reason
        self.urgent = self.urgent or urgent

    def _reap(self) -> None:
        """Collect every descendant that ended and was left to this process."""
        while not self.childless:
            try:
                pid, status, used = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                self.childless = True
                return
            if pid == 0:
                return
            self.cpu_s += used.ru_utime + used.ru_stime
            self.peak = max(self.peak, used.ru_maxrss)
            if pid == self.child:
                self.status = status

    def _kill(self) -> int:
        """Kill until nothing is left; return how many could not be killed."""
        until = time.monotonic() + GIVE_UP_S
        left: list[int] = []
        if not IS_LINUX:
            # Orphans do not come here, so the group is all that is left of the session.
            send(-self.child, _signal.SIGKILL)
        while not self.childless and time.monotonic() < until:
            left = self._descendants()
            self.killed.update(pid for pid in left if send(pid, _signal.SIGKILL))
            # Every end wakes this up; a child of a killed process comes here a moment later.
            for descriptor, _events in self.ends.poll(SEARCH_S * 1000):
                os.read(descriptor, 512)
            self._reap()
        return 0 if self.childless else len(left)

    def _descendants(self) -> list[int]:
        if IS_LINUX:
            return descendants(os.getpid())
        return descendants_elsewhere(self.child)

    def _tell(
        self,
        complaint: tuple[int, ...],
        duration_ms: int,
        strays: int,
        survivors: int,
        *,
        stays: bool,
    ) -> None:
        """Report to the conductor, if it is still there."""
        code = -1 if self.status is None else os.waitstatus_to_exitcode(self.status)
        values = {
            "exit": code if code >= 0 else -1,
            "signal": -code if code < 0 and self.status is not None else 0,
            "step": complaint[0],
            "errno": complaint[1],
            "ended": self.ended,
            "duration_ms": duration_ms,
            "cpu_ms": round(self.cpu_s * 1000),
            "peak_kib": self.peak if IS_LINUX else self.peak // 1024,
            "strays": strays,
            "survivors": survivors,
            "stays": int(stays),
        }
        try:
            # The end that it hands out is kept by nobody else.
            pass_on(self.control, report(values), [self.errand.fileno()] if stays else [])
        except OSError:
            return
        finally:
            if stays:
                self.errand.close()


def frame_size(begun: bytes) -> int:
    """Return how long a frame is, or its length alone while that is not there."""
    if len(begun) < LENGTH_BYTES:
        return LENGTH_BYTES
    return LENGTH_BYTES + int.from_bytes(begun[:LENGTH_BYTES], "big")


def report(values: dict[str, int]) -> bytes:
    """Return a report as its line; what is not said is 0."""
    return " ".join(str(values.get(name, 0)) for name in FIELDS).encode() + b"\n"


def _become(
    errand: _socket.socket,
    complaint: int,
    prctl: Callable[[int, int], object],
    sandbox: Sandbox | None,
    group: str,
) -> NoReturn:
    """Wait for the errand and become its program; on failure write the step and the errno."""
    step = "folder"
    # Whatever happens, this process must not go on as a second supervisor.
    try:
        os.setsid()
        # Should the supervisor be killed, this child goes with it.
        prctl(PDEATHSIG, _signal.SIGKILL)
        for number in RESTORED:
            _signal.signal(number, _signal.SIG_DFL)
        os.umask(0o077)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        # Nothing of the supervisor's: what it holds must end with it alone.
        low, high = sorted((errand.fileno(), complaint))
        os.closerange(3, low)
        os.closerange(low + 1, high)
        os.closerange(high + 1, os.sysconf("SC_OPEN_MAX"))
        frame, output = receive(errand, READ_BYTES)
        while len(frame) < frame_size(frame):
            piece = errand.recv(READ_BYTES)
            if not piece:
                os._exit(127)
            frame += piece
        request = marshal.loads(frame[LENGTH_BYTES:])  # noqa: S302 - written by our conductor
        os.dup2(output[0], 1)
        os.dup2(output[1], 2)
        if request["keeps"]:
            # A template hears of its errands there.
            os.dup2(errand.fileno(), 0)
        close(output)
        errand.close()
        if request["spaces"]:
            step = "namespaces"
            _enter(request, complaint, prctl, sandbox, group)
            step = "folder"
        os.chdir(request["folder"])
        step = "limits"
        if request["tasks"] and not request["spaces"]:
            join(group, request["tasks"])
        step = "sandbox"
        if request["sandbox"]:
            if sandbox is None:
                raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
            sandbox.confine(request["sandbox"])
        step = "limits"
        for limit, value, spare in request["limits"]:
            set_limit(0, limit, value, spare)
        step = "program"
        os.execve(request["program"], request["argv"], request["environment"])
    except OSError as error:
        os.write(complaint, b"%d %d" % (STEPS.index(step), error.errno or 0))
    except ValueError:
        os.write(complaint, b"%d 0" % STEPS.index(step))
    finally:
        os._exit(127)


def _enter(
    request: dict[str, Any],
    complaint: int,
    prctl: Callable[[int, int], object],
    sandbox: Sandbox | None,
    group: str,
) -> None:
    """Go on as a process inside of namespaces of its own, which is level T2. Raises: OSError."""
    from runwright.adapters.namespaces import enter  # lazy: only a child at T2 needs it

    if sandbox is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    tasks = request["tasks"]
    enter(
        request["spaces"],
        complaint=complaint,
        prctl=prctl,
        sandbox=sandbox,
        group=group,
        tasks=tasks,
    )


def set_limit(pid: int, limit: int, value: int, spare: int) -> None:
    """Set a limit of a process, 0 for this one, never above the one that holds already.

    `spare` lies between soft and hard. Raises: OSError, ValueError.
    """
    own = not pid
    _soft, hard = resource.getrlimit(limit) if own else resource.prlimit(pid, limit)
    if hard == resource.RLIM_INFINITY:
        hard = value + spare
    limits = (min(value, hard), min(value + spare, hard))
    if own:
        resource.setrlimit(limit, limits)
    else:
        resource.prlimit(pid, limit, limits)
