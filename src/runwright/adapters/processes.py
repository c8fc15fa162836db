"""What the launcher and its supervisors ask of the system about processes.

Like them it imports only what imports in no time: `socket` and `signal` would double their start.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # typeshed knows only `signal`, which imports enum
import _socket
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    # typing alone takes as long to import as everything else here.
    from collections.abc import Callable
    from typing import Final

IS_LINUX: Final = sys.platform == "linux"
#: Options of prctl(2).
PDEATHSIG: Final = 1
CHILD_SUBREAPER: Final = 36
#: Signals to a whole group or session, which the conductor answers for its children.
IGNORED: Final = (_signal.SIGINT, _signal.SIGTERM, _signal.SIGHUP, _signal.SIGPIPE)
#: What the launcher, or the conductor before it, may ignore and a child must not inherit.
RESTORED: Final = (
    *IGNORED,
    *(_signal.SIGCHLD, _signal.SIGXFSZ, _signal.SIGQUIT, _signal.SIGUSR1, _signal.SIGUSR2),
    *(_signal.SIGTSTP, _signal.SIGTTIN, _signal.SIGTTOU),
)
SIGKILL: Final = _signal.SIGKILL
#: Seconds that descendants have to end by themselves once the child has ended.
SETTLE_S: Final = 0.05
#: Seconds between two searches for descendants that are left.
SEARCH_S: Final = 0.005
#: Seconds after which who ends them gives up on processes that cannot be killed.
GIVE_UP_S: Final = 20.0
#: Descriptors that come with a request: the write ends of stdout and stderr.
OUTPUTS: Final = 2
INT_BYTES: Final = 4
#: The flag by which received descriptors are not inherited from the first moment on; 0: none.
_NOT_INHERITED: Final = getattr(_socket, "MSG_CMSG_CLOEXEC", 0)


def load_prctl() -> Callable[[int, int], object]:
    """Return prctl(2) with an option and its argument; elsewhere than on Linux it does nothing."""
    if not IS_LINUX:
        return lambda _option, _argument: None
    import ctypes  # lazy: who imports this module for its words does not pay for it

    call = ctypes.CDLL(None, use_errno=True).prctl
    long = ctypes.c_ulong
    call.argtypes = (ctypes.c_int, long, long, long, long)
    return lambda option, argument: call(option, argument, 0, 0, 0)


def wake_on_child() -> int:
    """Return a descriptor that becomes readable when a child ends."""
    read, write = os.pipe()
    os.set_blocking(read, False)
    os.set_blocking(write, False)
    _signal.signal(_signal.SIGCHLD, lambda _number, _frame: None)
    _signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    return read


def receive(source: _socket.socket, size: int) -> tuple[bytes, list[int]]:
    """Return the next bytes of a socket and the descriptors that came with the first of them."""
    space = _socket.CMSG_SPACE(OUTPUTS * INT_BYTES)
    data, notes, _flags, _address = source.recvmsg(size, space, _NOT_INHERITED)
    passed: list[int] = []
    for _level, _kind, body in notes:
        passed += memoryview(body)[: len(body) // INT_BYTES * INT_BYTES].cast("i")
    if not _NOT_INHERITED:
        for descriptor in passed:
            os.set_inheritable(descriptor, False)  # noqa: FBT003 - its only signature
    return data, passed


def pass_on(target: _socket.socket, data: bytes, descriptors: list[int]) -> None:
    """Send data through a socket, and descriptors with the first of it. Raises: OSError."""
    rights = b"".join([each.to_bytes(INT_BYTES, sys.byteorder) for each in descriptors])
    notes = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)] if rights else []
    sent = target.sendmsg([data], notes)
    if sent < len(data):
        target.sendall(data[sent:])


def close(descriptors: list[int]) -> None:
    """Close descriptors, and forget them."""
    while descriptors:
        os.close(descriptors.pop())


def send(pid: int, number: int) -> bool:
    """Send a signal; False when the process is gone or not ours."""
    try:
        os.kill(pid, number)
    except OSError:
        return False
    return True


def descendants(root: int, *, apart: set[int] | frozenset[int] = frozenset()) -> list[int]:
    """Return what descends from a process and runs, parents first, but for some and theirs."""
    children: dict[int, list[tuple[int, bool]]] = {}
    for name in os.listdir("/proc"):  # noqa: PTH208 - pathlib is slow to import
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:  # noqa: PTH123 - pathlib is slow
                    # The name of the program stands in parentheses and may contain anything.
                    state, parent = file.read().rpartition(b")")[2].split()[:2]
            except (OSError, ValueError):
                continue
            children.setdefault(int(parent), []).append((int(name), state != b"Z"))
    found: list[int] = []
    waiting = [root]
    while waiting:
        for pid, runs in children.get(waiting.pop(), ()):
            if pid not in apart:
                waiting.append(pid)
                if runs:
                    found.append(pid)
    return found


def descendants_elsewhere(child: int) -> list[int]:
    """Return a child and what psutil finds below it, where there is no /proc to read."""
    import psutil  # lazy: only at a kill, and only where there is no /proc to read

    try:
        return [child, *(each.pid for each in psutil.Process(child).children(recursive=True))]
    except psutil.Error:
        return []
