"""Level T2, inside a child: bubblewrap makes namespaces, the child enters them and keeps watch.

The child cannot become its program itself: only what is forked after entering stands in the new
process namespace. So it forks it, stays outside as its *keeper*, ends the namespaces when it has
ended, and ends as it did. The first process inside is bubblewrap's, whose end takes all others with
it. Everything that T1 gives up is given up afterwards, by the program's process alone: Landlock
before it would forbid bubblewrap to mount.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # typeshed knows only `signal`, which imports enum
import _socket
import ctypes
import errno
import os
import resource
import select
import struct
import time

from runwright.adapters.cgroups import make
from runwright.adapters.processes import (
    GIVE_UP_S,
    IGNORED,
    PDEATHSIG,
    RESTORED,
    SEARCH_S,
    SETTLE_S,
    SIGKILL,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    # typing alone takes as long to import as everything else here.
    from collections.abc import Callable, Mapping
    from typing import Any, Final, NoReturn

    from runwright.adapters.sandbox import Sandbox

#: Mounts, control groups, host name, IPC, processes.
_SPACES: Final = 0x00020000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x20000000
_USER_SPACE, _NETWORK_SPACE = 0x10000000, 0x40000000
#: Inside: bubblewrap's own process, and the program that shows that all is mounted.
_HOLDING: Final = frozenset(("1", "2"))
_INFO_BYTES: Final = 4096
_BACKLOG: Final = 64
#: rtnetlink: RTM_NEWADDR, with NLM_F_REQUEST, ACK and CREATE; the attributes; the first device.
_NEW_ADDRESS, _REQUEST, _IFA_ADDRESS, _IFA_LOCAL, _LOOPBACK = 20, 0x405, 1, 2, 1


class _Space:
    """The namespaces of one run, held by bubblewrap."""

    def __init__(self, wish: Mapping[str, Any]) -> None:
        """Have bubblewrap make them. Raises: OSError, after its own words on standard error."""
        arguments = list(wish["arguments"])
        hosts = os.memfd_create("hosts")
        os.write(hosts, wish["hosts"].encode())
        os.lseek(hosts, 0, os.SEEK_SET)
        info, told = os.pipe()
        arguments += ["--info-fd", str(told)]
        if wish["hosts"]:
            arguments += ["--ro-bind-data", str(hosts), wish["hosts_path"]]
        # Not on its command line, where the inside would read which paths there are.
        listed = os.memfd_create("arguments")
        os.write(listed, b"".join(os.fsencode(word) + b"\0" for word in arguments))
        os.lseek(listed, 0, os.SEEK_SET)
        for descriptor in (hosts, told, listed):
            os.set_inheritable(descriptor, True)  # noqa: FBT003 - its only signature
        asking, self.lifeline = os.pipe()
        answer, answering = os.pipe()
        self.bubblewrap = os.posix_spawn(
            wish["program"],
            [wish["program"], "--args", str(listed), wish["echo"]],
            {},
            file_actions=[
                (os.POSIX_SPAWN_DUP2, asking, 0),
                (os.POSIX_SPAWN_DUP2, answering, 1),
            ],
        )
        for descriptor in (hosts, told, listed, asking, answering):
            os.close(descriptor)
        os.write(self.lifeline, b".")
        # It comes back once everything is mounted and a program runs inside.
        if not os.read(answer, 1):
            os.waitpid(self.bubblewrap, 0)
            raise OSError(0, "")
        first = os.read(info, _INFO_BYTES).partition(b'"child-pid":')[2]
        self.first = os.pidfd_open(int(first.replace(b",", b" ").split()[0]))
        os.close(info)
        os.close(answer)

    def enter(self, *, network: bool) -> None:
        """Enter them, but for processes: only what is forked from now on does that."""
        flags = _SPACES | _NETWORK_SPACE * network | _USER_SPACE * (os.geteuid() != 0)
        call = ctypes.CDLL(None, use_errno=True).setns
        if call(self.first, flags) < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    def settle(self) -> int:
        """Wait a moment for what is left inside to end; return how many processes did not."""
        until = time.monotonic() + SETTLE_S
        while left := _running():
            if time.monotonic() >= until:
                return left
            select.poll().poll(SEARCH_S * 1000)
        return 0

    def end(self) -> None:
        """Kill what is inside, and wait until the last of it is gone."""
        _kill(self.first)
        gone = select.poll()
        # Only then has it collected all that it had.
        gone.register(os.pidfd_open(self.bubblewrap), select.POLLIN)
        if gone.poll(GIVE_UP_S * 1000):
            os.waitpid(self.bubblewrap, 0)


def enter(
    wish: Mapping[str, Any],
    *,
    complaint: int,
    prctl: Callable[[int, int], object],
    sandbox: Sandbox,
    group: str,
    tasks: int,
) -> None:
    """Return in a process inside of the namespaces; the caller's own process never returns.

    It is not confined yet. Raises: OSError.
    """
    supervisor = os.getppid()
    os.chdir("/")
    # Whoever asks the tree to end means the program.
    for number in IGNORED:
        _signal.signal(number, _signal.SIG_IGN)
    counter = make(group, tasks) if tasks else -1
    forwarder, link = _start_forwarder(wish, prctl, sandbox) if wish["doors"] else (0, None)
    space = _Space(wish)
    space.enter(network=wish["network"])
    # Entering a user namespace took it back.
    prctl(PDEATHSIG, SIGKILL)
    if os.getppid() != supervisor:
        os._exit(127)
    if link is not None:
        _hand_out(wish, link)
    program = os.fork()
    if program:
        _keep(space, program, forwarder, complaint)
    # A signal to its group must not reach the keeper.
    os.setsid()
    prctl(PDEATHSIG, SIGKILL)
    for number in RESTORED:
        _signal.signal(number, _signal.SIG_DFL)
    if counter >= 0:
        os.write(counter, b"0")
        os.close(counter)


def _keep(space: _Space, program: int, forwarder: int, complaint: int) -> NoReturn:
    """Wait for the end of the program, end everything else, and end as it did."""
    status = 127
    # Whatever happens, this process must not go on as a second program.
    try:
        for output in (1, 2):
            os.dup2(0, output)
        _pid, status = os.waitpid(program, 0)
        strays = space.settle()
        space.end()
        if forwarder:
            os.kill(forwarder, SIGKILL)
            os.waitpid(forwarder, 0)
        if strays:
            os.write(complaint, b"0 0 %d" % strays)
        if os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            if number != SIGKILL:
                _signal.signal(number, _signal.SIG_DFL)
            os.kill(os.getpid(), number)
    finally:
        os._exit(os.WEXITSTATUS(status) if os.WIFEXITED(status) else 127)


def _kill(handle: int) -> None:
    try:
        _signal.pidfd_send_signal(handle, SIGKILL)
    except OSError:
        # It has ended.
        return


def _running() -> int:
    """Return how many processes run inside, but for those that hold it."""
    count = 0
    for name in os.listdir("/proc"):  # noqa: PTH208 - pathlib is slow to import
        if name.isdigit() and name not in _HOLDING:
            try:
                with open(f"/proc/{name}/stat", "rb") as file:  # noqa: PTH123 - as above
                    count += file.read().rpartition(b")")[2].split()[0] not in b"ZX"
            except (OSError, IndexError):
                continue
    return count


# ------------------------------------------------------------------------------------ the network


def _start_forwarder(
    wish: Mapping[str, Any], prctl: Callable[[int, int], object], sandbox: Sandbox
) -> tuple[int, _socket.socket]:
    """Fork the forwarder, which stays outside; return its pid and a socket to it."""
    from runwright.adapters.forwarder import serve  # lazy: only where something may be reached

    mine, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
    keeper = os.getpid()
    pid = os.fork()
    if pid:
        theirs.close()
        return pid, mine
    # Whatever happens, this process must not go on as a second keeper.
    try:
        mine.close()
        prctl(PDEATHSIG, SIGKILL)
        if os.getppid() == keeper:
            for output in (1, 2):
                os.dup2(0, output)
            sandbox.confine({"hidden": wish["hidden"], "writable": (), "offline": False})
            serve(theirs, [door["target"] for door in wish["doors"]])
    finally:
        os._exit(0)


def _hand_out(wish: Mapping[str, Any], link: _socket.socket) -> None:
    """Listen inside, and give the listening sockets to the forwarder. Raises: OSError."""
    for door in wish["doors"]:
        family = _socket.AF_INET6 if ":" in door["address"] else _socket.AF_INET
        if not door["address"].startswith("127.") and door["address"] != "::1":
            _add_address(family, door["address"])
        listener = _socket.socket(family, _socket.SOCK_STREAM)
        listener.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
        listener.bind((door["address"], door["port"]))
        listener.listen(_BACKLOG)
        rights = memoryview(bytearray(4)).cast("i")
        rights[0] = listener.fileno()
        link.sendmsg([b"."], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)])
        listener.close()
    link.close()


def _add_address(family: int, address: str) -> None:
    """Make an address one of the loopback device's, as rtnetlink(7) says. Raises: OSError."""
    raw = _socket.inet_pton(family, address)
    # struct ifaddrmsg: family, length of the prefix, IFA_F_NODAD, scope host, the device.
    body = struct.pack("=BBBBI", family, len(raw) * 8, 0x02, 254, _LOOPBACK)
    for kind in (_IFA_ADDRESS, _IFA_LOCAL):
        body += struct.pack("=HH", 4 + len(raw), kind) + raw
    wish = struct.pack("=IHHII", 16 + len(body), _NEW_ADDRESS, _REQUEST, 0, 0) + body
    link = _socket.socket(_socket.AF_NETLINK, _socket.SOCK_RAW, 0)
    link.send(wish)
    (number,) = struct.unpack("=i", link.recv(_INFO_BYTES)[16:20])
    link.close()
    if -number not in (0, errno.EEXIST):
        raise OSError(-number, os.strerror(-number))
