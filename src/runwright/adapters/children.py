"""The conductor's side of the launcher: start it, hand it children, follow each to its end.

Imported and started before the rest of Runwright, so that the launcher's own start costs nothing;
so it imports next to nothing itself.
"""

from __future__ import annotations

import _socket
import contextlib
import marshal
import os
import select
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from runwright.adapters import supervisor as words
from runwright.adapters.processes import IS_LINUX, RESTORED, SIGKILL, pass_on, receive

#: Where a program is looked for, unless PATH is granted.
PATH: Final = "/usr/local/bin:/usr/bin:/bin"
#: Bytes read from an output stream at once.
READ_BYTES: Final = 1 << 16
#: The most that can still stand in a pipe whose writers are all gone.
PIPE_BYTES_MAX: Final = 1 << 20
#: Seconds that the streams of a tree have to end when its supervisor was killed, and it with that.
OUTLAST_S: Final = 2.0
#: Seconds that a launcher has to end after its socket closed.
CLOSE_S: Final = 25.0
#: Times that a child is handed over while no supervisor takes it: the first may find one gone that
#: stayed, the second meet a dying launcher, the third find it dead, the fourth has a new one.
ATTEMPTS_MAX: Final = 4
#: The most supervisors that stay for another child.
STAYING_MAX: Final = 8
#: The longest script that is forked from a template.
SOURCE_BYTES_MAX: Final = 4 << 20
#: Bytes of a report line, with its start sign.
REPORT_BYTES_MAX: Final = 512

#: The launcher as a module, because a module's code is compiled once and a script's each time.
_START: Final = (
    "import sys; sys.path += sys.argv[1:]; from runwright.adapters.launcher import main; main()"
)


class LauncherLost(Exception):
    """The launcher is gone, and the child was certainly not started."""


class Start(msgspec.Struct, frozen=True):
    """What a supervisor needs to start one child."""

    #: The file that is executed.
    program: str
    argv: Sequence[str]
    environment: Mapping[str, str]
    folder: str
    #: (RLIMIT_*, soft, how much more the hard one is).
    limits: Sequence[tuple[int, int, int]] = ()
    #: Seconds before the tree is ended; 0 is never.
    timeout_s: float = 0
    grace_s: float = 2
    #: What `Sandbox.confine` wants; None for T0.
    sandbox: Mapping[str, object] | None = None
    #: What `namespaces.enter` wants; None below T2.
    spaces: Mapping[str, object] | None = None
    #: The most processes and threads of its tree, counted in a control group; 0 for no group.
    tasks: int = 0
    #: It is a template, which forks children for as long as its control socket is open.
    keeps: bool = False
    #: For a child of a template: what it executes as the file `program`.
    source: bytes = b""

    def frame(self) -> bytes:
        """Return the request as its length and its bytes."""
        # As `os.fsencode` does it, which takes three times as long for a dozen of words.
        coded = sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()
        body = marshal.dumps(
            {
                "program": self.program.encode(*coded),
                "argv": [word.encode(*coded) for word in self.argv],
                "environment": {
                    name.encode(*coded): value.encode(*coded)
                    for name, value in self.environment.items()
                },
                "folder": self.folder.encode(*coded),
                "limits": [tuple(limit) for limit in self.limits],
                "timeout_s": float(self.timeout_s),
                "grace_s": float(self.grace_s),
                "sandbox": dict(self.sandbox) if self.sandbox else None,
                "spaces": dict(self.spaces) if self.spaces else None,
                "tasks": self.tasks,
                "keeps": self.keeps,
                "source": self.source,
            }
        )
        return len(body).to_bytes(words.LENGTH_BYTES, "big") + body


class Report(msgspec.Struct, frozen=True):
    """How a child and its tree ended."""

    #: Exit code, -1 when there is none.
    exit: int
    #: The signal that ended it, or 0.
    signal: int
    #: What failed before the program ran: one of `supervisor.STEPS`, "" for nothing.
    step: str
    errno: int
    #: One of `supervisor.BY_ITSELF`, `TIMEOUT`, `STOPPED`, `NO_CONDUCTOR`, `NO_LAUNCHER`.
    ended: int
    duration_ms: int
    cpu_ms: int
    #: Of the largest process; never below what a fresh fork of the launcher has, about 8 MiB.
    peak_kib: int
    #: Descendants that were killed because they outlived the child.
    strays: int
    #: Descendants that could not be killed.
    survivors: int
    #: 1 when its supervisor waits at the same control socket, with another child.
    stays: int


class Staying(NamedTuple):
    """A supervisor that stays for another child."""

    control: _socket.socket
    #: Where that child waits for its errand.
    errand: _socket.socket

    def close(self) -> None:
        """Let go of it, which ends it."""
        self.control.close()
        self.errand.close()


class Child:
    """One child under its supervisor."""

    def __init__(self, control: _socket.socket, stdout: int, stderr: int) -> None:
        """Take over the control socket and the read ends of the output."""
        self.control = control
        self.stdout = stdout
        self.stderr = stderr
        self._told = b""
        #: Where the next child of its supervisor waits, which says so at the end.
        self._next: _socket.socket | None = None
        #: Held while something is said: what is said to one child must not reach the next.
        self._lock = threading.Lock()
        self._is_asked = False
        self._is_left = False

    def ask(self) -> None:
        """Have the tree ended with SIGTERM, and SIGKILL after its grace."""
        self._say(words.ASK)

    def kill(self) -> None:
        """Have the tree killed at once."""
        self._say(words.KILL)

    def _say(self, word: bytes) -> None:
        # What cannot be told has ended, which is what was asked for.
        with self._lock, contextlib.suppress(OSError):
            self._is_asked = True
            if not self._is_left:
                self.control.send(word)

    def leave(self) -> Staying | None:
        """Give up the control socket if its supervisor stays for another child."""
        with self._lock:
            if self._next is None or self._is_asked:
                return None
            self._is_left = True
            return Staying(self.control, self._next)

    def send_off(self, frame: bytes, errand: _socket.socket, output: list[int]) -> None:
        """Tell the child of a supervisor that stayed what it is to become, and then that one.

        Raises: OSError when it certainly was not started.
        """
        # The child first, who has the longer way; its supervisor ends it if it hears of nothing.
        pass_on(errand, frame, output)
        self._told = words.STARTING
        with contextlib.suppress(OSError):
            self.control.sendall(frame)

    def follow(
        self,
        stdout: Callable[[bytes], object],
        stderr: Callable[[bytes], object],
    ) -> Report | None:
        """Feed the output until the whole tree has ended; None when its supervisor was killed.

        Raises: LauncherLost when it was certainly not started.
        """
        feeds = {self.stdout: stdout, self.stderr: stderr}
        poll = select.poll()
        control = self.control.fileno()
        for descriptor in (control, *feeds):
            poll.register(descriptor, select.POLLIN)
        telling = True
        while telling:
            for descriptor, _events in poll.poll():
                if descriptor == control:
                    telling = self.hear()
                elif not _feed(descriptor, feeds[descriptor]):
                    poll.unregister(descriptor)
                    del feeds[descriptor]
        if not self._told.endswith(b"\n"):
            poll.unregister(control)
            _outlast(poll, feeds)
        for descriptor, feed in feeds.items():
            _drain(descriptor, feed)
        return self.report()

    def hear(self) -> bool:
        """Take in what the supervisor says; False when it has said everything."""
        passed: list[int] = []
        try:
            piece, passed = receive(self.control, REPORT_BYTES_MAX)
        except OSError:
            piece = b""
        if passed:
            self._next = _socket.socket(-1, -1, -1, passed[0])
        self._told += piece
        return bool(piece) and not piece.endswith(b"\n")

    def report(self) -> Report | None:
        """Return how the tree ended, once everything is said; None when its supervisor was killed.

        Raises: LauncherLost when it was certainly not started.
        """
        line = self._told.removeprefix(words.STARTING)
        if line.endswith(b"\n"):
            values = dict(zip(words.FIELDS, map(int, line.split()), strict=True))
            return Report(**{**values, "step": words.STEPS[values["step"]]})  # type: ignore[arg-type]
        if not self._told:
            raise LauncherLost
        return None

    def close(self) -> None:
        """Let go of the socket and the pipes; a tree that still runs is killed by that."""
        if not self._is_left:
            self.control.close()
            if self._next is not None:
                self._next.close()
        os.close(self.stdout)
        os.close(self.stderr)


def _feed(descriptor: int, feed: Callable[[bytes], object]) -> bool:
    """Hand on what is there; False at the end of the stream."""
    data = os.read(descriptor, READ_BYTES)
    if data:
        feed(data)
    return bool(data)


def _outlast(poll: select.poll, feeds: dict[int, Callable[[bytes], object]]) -> None:
    """Wait a while for the end of both streams: the tree of a killed supervisor is being killed."""
    until = time.monotonic() + OUTLAST_S
    while feeds and (left := until - time.monotonic()) > 0:
        for descriptor, _events in poll.poll(int(left * 1000) + 1):
            if not _feed(descriptor, feeds[descriptor]):
                poll.unregister(descriptor)
                del feeds[descriptor]


def _drain(descriptor: int, feed: Callable[[bytes], object]) -> None:
    """Hand on what the tree left in a pipe, also when something outside it holds the other end."""
    os.set_blocking(descriptor, False)
    for _ in range(PIPE_BYTES_MAX // READ_BYTES):
        try:
            if not _feed(descriptor, feed):
                return
        except BlockingIOError:
            return


class Launcher:
    """The launcher process, started once, and again when somebody killed it."""

    def __init__(self) -> None:
        """Start nothing yet."""
        self._lock = threading.Lock()
        self._socket: _socket.socket | None = None
        self._pid = 0
        #: What the launcher holds; None until it has said so.
        self._holds: int | None = None
        #: Supervisors that stay for another child.
        self._staying: list[Staying] = []
        self._is_ending = False

    def start(self) -> None:
        """Start the process, unless it runs."""
        with self._lock:
            if self._socket is None:
                self._socket = self._begin()

    def holds(self, what: int) -> bool:
        """Say whether it holds `supervisor.HOLDS_T1` or `COUNTS`. Raises: LauncherLost."""
        self.start()
        with self._lock:
            if self._holds is None and self._socket is not None:
                said = self._socket.recv(1)
                if not said:
                    self._drop()
                    raise LauncherLost
                self._holds = said[0]
        return bool((self._holds or 0) & what)

    def run(
        self,
        start: Start,
        *,
        stdout: Callable[[bytes], object],
        stderr: Callable[[bytes], object],
        started: Callable[[Child], object],
    ) -> Report | None:
        """Start a child, announce it, and feed its output until its whole tree has ended.

        Returns None when its supervisor was killed. Raises: LauncherLost when it did not start.
        """
        for left in reversed(range(ATTEMPTS_MAX)):
            try:
                child = self._ask_staying(start) or self._hand_over(start)
                try:
                    started(child)
                    report = child.follow(stdout, stderr)
                    self._let_stay(child)
                    return report
                finally:
                    child.close()
            except LauncherLost:
                if not left:
                    raise
        raise LauncherLost

    def begin(self, start: Start) -> Child:
        """Start a template and return it; nobody follows it. Raises: LauncherLost.

        Its supervisor is a new one, which knows nothing of other children.
        """
        for _ in range(ATTEMPTS_MAX - 1):
            try:
                return self._hand_over(start)
            except LauncherLost:
                # The next one gets a new launcher.
                continue
        return self._hand_over(start)

    def hang_up(self) -> None:
        """Tell the process to end, and with it the children that still run; `close` waits for it.

        Nothing may be started between the two.
        """
        # It may be closed already at the other end.
        with self._lock, contextlib.suppress(OSError):
            self._is_ending = True
            self._dismiss()
            if self._socket is not None:
                self._socket.shutdown(_socket.SHUT_WR)

    def close(self) -> None:
        """End the process; children that still run are killed."""
        self.hang_up()
        with self._lock:
            held, self._socket = self._socket, None
        if held is None:
            return
        # The other end closes when the process has ended; what it said at its start comes first.
        poll = select.poll()
        poll.register(held.fileno(), select.POLLIN)
        while poll.poll(CLOSE_S * 1000):
            if not _word(held):
                break
        else:
            os.kill(self._pid, SIGKILL)
        held.close()
        _forget(self._pid)

    def _begin(self) -> _socket.socket:
        mine, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
        self._holds = None
        self._is_ending = False
        # The folder of the package: pathlib is slow to import.
        folder = words.__file__.rpartition("/runwright/")[0]
        # For psutil, which is needed only where there is no /proc.
        packages = () if IS_LINUX else sys.path
        self._pid = os.posix_spawn(
            sys.executable,
            [sys.executable, "-I", "-S", "-c", _START, folder, *packages],
            # Nothing of ours, so that nothing can be read there.
            {},
            file_actions=[
                (os.POSIX_SPAWN_DUP2, theirs.fileno(), words.CONDUCTOR),
                (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
            ],
            # A signal to the conductor's group is for the conductor alone to answer.
            setpgroup=0,
            setsigmask=(),
            setsigdef=RESTORED,
        )
        theirs.close()
        return mine

    def _ask_staying(self, start: Start) -> Child | None:
        """Hand a child to a supervisor that stays; None when none does. Raises: LauncherLost."""
        with self._lock:
            staying = self._staying.pop() if self._staying else None
        if staying is None:
            return None
        try:
            return request(start, *staying)
        except LauncherLost:
            with self._lock:
                # It is the end of the launcher that ends them.
                self._dismiss()
            raise

    def _let_stay(self, child: Child) -> None:
        staying = child.leave()
        if staying is None:
            return
        with self._lock:
            is_welcome = self._socket is not None and not self._is_ending
            if is_welcome and len(self._staying) < STAYING_MAX:
                self._staying.append(staying)
                return
        staying.close()

    def _dismiss(self) -> None:
        """Let go of the supervisors that stay, which ends them."""
        while self._staying:
            self._staying.pop().close()

    def _hand_over(self, start: Start) -> Child:
        """Hand a child over. Raises: LauncherLost, and the next one gets a new launcher."""
        self.start()
        return hand_over(start, self._pass)

    def _pass(self, descriptor: int) -> None:
        with self._lock:
            if self._socket is None:
                raise BrokenPipeError
            try:
                pass_on(self._socket, b".", [descriptor])
            except OSError:
                self._drop()
                raise

    def _drop(self) -> None:
        """Let go of a launcher that is gone."""
        self._dismiss()
        if self._socket is not None:
            self._socket.close()
            self._socket = None
            _forget(self._pid)


def hand_over(start: Start, give: Callable[[int], object]) -> Child:
    """Hand a child over to whoever gets its control socket by `give`. Raises: LauncherLost."""
    mine, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        give(theirs.fileno())
    except OSError as error:
        mine.close()
        raise LauncherLost from error
    finally:
        theirs.close()
    return request(start, mine)


def request(start: Start, control: _socket.socket, errand: _socket.socket | None = None) -> Child:
    """Ask a supervisor for a child, or one that stayed and its child. Raises: LauncherLost."""
    stdout, stdout_end = os.pipe()
    stderr, stderr_end = os.pipe()
    child = Child(control, stdout, stderr)
    try:
        frame = start.frame()
        if errand is None:
            pass_on(control, frame, [stdout_end, stderr_end])
        else:
            child.send_off(frame, errand, [stdout_end, stderr_end])
    except OSError as error:
        child.close()
        raise LauncherLost from error
    finally:
        os.close(stdout_end)
        os.close(stderr_end)
        if errand is not None:
            errand.close()
    return child


def _word(source: _socket.socket) -> bytes:
    try:
        return source.recv(1)
    except OSError:
        return b""


def _forget(pid: int) -> None:
    """Collect a launcher that has ended."""
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        # Somebody else collected it.
        return
