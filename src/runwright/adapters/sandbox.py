"""Level T1: what a child gives up right before it becomes its program, on Linux.

Landlock confines what it may write, hides the project's private folders and keeps its signals and
its eyes inside its own tree; seccomp takes away system calls that reach outside; its capabilities
go, and no_new_privs keeps them away.

Constants are those of linux/landlock.h, linux/seccomp.h and linux/filter.h; numbers of system calls
those of the kernel's tables for x86_64 and of asm-generic, which aarch64 uses.
"""

from __future__ import annotations

import errno
import os
import struct
import sys
from itertools import starmap

TYPE_CHECKING = False
if TYPE_CHECKING:
    # typing alone takes as long to import as everything else here.
    from collections.abc import Iterable, Iterator
    from typing import Any, Final

#: Landlock of Linux 6.12: the first that confines signals and abstract sockets.
LANDLOCK_ABI_MIN: Final = 6

_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446
_CREATE_VERSION: Final = 1
_PATH_BENEATH: Final = 1
_BENEATH: Final = struct.Struct("=Qi")
_WRITE_FILE, _READ_FILE, _TRUNCATE = 1 << 1, 1 << 2, 1 << 14
#: Remove, make of every kind, refer.
_FOLDER_RIGHTS: Final = sum(1 << bit for bit in (4, 5, 6, 7, 8, 9, 10, 11, 12, 13))
_FILE_RIGHTS: Final = _WRITE_FILE | _READ_FILE | _TRUNCATE
_HANDLED: Final = _FILE_RIGHTS | _FOLDER_RIGHTS
#: TCP: bind, connect. Scopes: abstract Unix sockets, signals.
_NET_TCP, _SCOPES = 0b11, 0b11
#: What programs expect to open below /dev, where disks can be opened as well.
_DEVICES: Final = tuple(f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom"))

_PDEATHSIG, _SIGKILL = 1, 9
_NO_NEW_PRIVS, _CAP_AMBIENT, _CAP_AMBIENT_CLEAR = 38, 47, 4
_CAPABILITY_VERSION: Final = 0x20080522

_SECCOMP_FILTER, _SECCOMP_AVAILABLE = 1, 2
_INSTRUCTION: Final = struct.Struct("=HBBI")

_ALLOW, _DIE = 0x7FFF0000, 0x80000000
_REFUSE: Final = 0x00050000
#: A namespace of one's own, in the flags of clone and unshare.
_NAMESPACES, _TIME_NAMESPACE = 0x7E020000, 0x80
_DATAGRAM, _SOCKET_TYPE = 2, 0xF
_X32: Final = 0x40000000

#: Machine -> the audit architecture, and the place of its numbers in a row of the tables.
_MACHINES: Final = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}
#: Refused whatever the arguments: who needs them configures a machine, or looks into others.
_REFUSED: Final = {
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "setns": (308, 268),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "clock_adjtime": (305, 266),
    "adjtimex": (159, 171),
    "open_by_handle_at": (304, 265),
    "userfaultfd": (323, 282),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "process_mrelease": (448, 448),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    "kcmp": (312, 272),
    "pidfd_getfd": (438, 438),
    # By its number everybody of the user may use what others made, so no call of theirs is left.
    "shmget": (29, 194),
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "msgget": (68, 186),
    "msgsnd": (69, 189),
    "msgrcv": (70, 188),
    "msgctl": (71, 187),
    "semget": (64, 190),
    "semop": (65, 193),
    "semctl": (66, 191),
    "semtimedop": (220, 192),
    "mq_open": (240, 180),
    "mq_unlink": (241, 181),
    "acct": (163, 89),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "syslog": (103, 116),
    "vhangup": (153, 58),
    "fanotify_init": (300, 262),
    "iopl": (172, None),
    "ioperm": (173, None),
}
#: Answered as on a kernel without them, so that programs use what can be looked into instead.
_ABSENT: Final = {
    "clone3": (435, 435),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
}
#: With no network; a stream pair inside the tree is left.
_NETWORK: Final = {"socket": (41, 198), "connect": (42, 203), "bind": (49, 200)}
#: Refused on any process but oneself: the place of the argument that names it.
_ON_OTHERS: Final = {
    "sched_setaffinity": ((203, 122), 0),
    "sched_setscheduler": ((144, 119), 0),
    "sched_setparam": ((142, 118), 0),
    "sched_setattr": ((314, 274), 0),
    "setpriority": ((141, 140), 1),
    "ioprio_set": ((251, 30), 1),
}
#: Refused on every process of a user, which 0 names as well: the first argument that says so.
_ON_USERS: Final = {"setpriority": 2, "ioprio_set": 3}
_PRLIMIT, _UNSHARE, _SOCKETPAIR = (302, 261), (272, 97), (53, 199)
_CLONE: Final = (56, 220)


class Sandbox:
    """What this machine offers for T1, loaded once by the launcher."""

    def __init__(self) -> None:
        """Load what a child calls. Raises: OSError where T1 is not held."""
        import ctypes  # lazy: who imports this module for its words does not pay for it

        machine = os.uname().machine
        if sys.platform != "linux" or machine not in _MACHINES or sys.maxsize < 1 << 32:
            raise OSError(errno.ENOSYS, "no system call filter for this machine")
        library = ctypes.CDLL(None, use_errno=True)
        self._call = library.syscall
        self._call.restype = ctypes.c_long
        # The one call that is made for each file beside a private one: its types are known.
        self._add = library["syscall"]
        self._add.restype = ctypes.c_long
        self._add.argtypes = (ctypes.c_long, *[ctypes.c_int] * 2, ctypes.c_char_p, ctypes.c_uint)
        self._prctl = library.prctl
        self._prctl.argtypes = (ctypes.c_int, *[ctypes.c_ulong] * 4)
        self._capset = library.capset
        self._error = ctypes.get_errno
        self._address = ctypes.addressof
        self._buffer = ctypes.create_string_buffer
        self._long = ctypes.c_long
        self._architecture, self._column = _MACHINES[machine]
        self._seccomp = (317, 277)[self._column]
        self._check()
        #: offline -> the filter; the frequent one is made before anybody waits for a child.
        self._filters = {False: self._filter(offline=False)}

    def confine(self, wanted: dict[str, Any]) -> None:
        """Give up everything but what is wanted.

        `hidden` are paths that cannot be read, `writable` those below which may be written,
        `offline` is for no network, `reach` for sockets of the Internet alone. Raises: OSError.
        """
        rules = self._ruleset(wanted["hidden"], wanted["writable"], wanted["offline"])
        self._must(self._prctl(_NO_NEW_PRIVS, 1, 0, 0, 0))
        self._must(self._prctl(_CAP_AMBIENT, _CAP_AMBIENT_CLEAR, 0, 0, 0))
        # With no_new_privs not even root gets any back from a program that it executes.
        self._must(self._capset(struct.pack("=Ii", _CAPABILITY_VERSION, 0), bytes(24)))
        self._restrict(rules)
        self._filter_calls(offline=wanted["offline"], reach=bool(wanted.get("reach")))

    def narrow(self, writable: Iterable[str], *, offline: bool = False) -> None:
        """Give up more, in a thread that is confined: writing but below these paths, the network.

        What it starts from now on is out of reach for its signals but for its own tree.
        Raises: OSError.
        """
        handled = _HANDLED & ~_READ_FILE
        described = struct.pack("=QQQ", handled, _NET_TCP if offline else 0, _SCOPES)
        rules = self._must(self._sys(_LANDLOCK_CREATE, described, len(described), 0))
        for path in _DEVICES:
            self._allow(rules, path, _FILE_RIGHTS & handled, must_exist=False)
        self._allow_writing(rules, writable, handled)
        self._restrict(rules)
        if offline:
            self._filter_calls(offline=True)

    def _restrict(self, rules: int) -> None:
        self._must(self._sys(_LANDLOCK_RESTRICT, rules, 0))
        os.close(rules)

    def end_with_parent(self) -> None:
        """Have this process killed when its parent ends. Raises: OSError."""
        self._must(self._prctl(_PDEATHSIG, _SIGKILL, 0, 0, 0))

    def _filter_calls(self, *, offline: bool, reach: bool = False) -> None:
        if reach:
            program = self._filter(offline=False, reach=True)
        else:
            program = self._filters.get(offline) or self._filter(offline=offline)
        code = self._buffer(program, len(program))
        described = struct.pack("=H6xQ", len(program) // _INSTRUCTION.size, self._address(code))
        self._must(self._sys(self._seccomp, _SECCOMP_FILTER, 0, described))

    def _check(self) -> None:
        """Raise OSError when this kernel lacks a part of it."""
        version = self._must(self._sys(_LANDLOCK_CREATE, None, 0, _CREATE_VERSION))
        if version < LANDLOCK_ABI_MIN:
            raise OSError(errno.ENOSYS, f"Landlock {version}, not {LANDLOCK_ABI_MIN} or later")
        for action in (_DIE, _REFUSE):
            self._must(self._sys(self._seccomp, _SECCOMP_AVAILABLE, 0, struct.pack("=I", action)))

    def _sys(self, number: int, *arguments: object) -> int:
        words = [self._long(each) if isinstance(each, int) else each for each in arguments]
        status: int = self._call(self._long(number), *words)
        return status

    def _must(self, status: int) -> int:
        if status < 0:
            number = self._error()
            raise OSError(number, os.strerror(number))
        return status

    # ------------------------------------------------------------------------------- Landlock

    def _ruleset(self, hidden: Iterable[str], writable: Iterable[str], offline: bool) -> int:  # noqa: FBT001
        """Return a ruleset for the paths. Raises: OSError for a writable one that is missing."""
        described = struct.pack("=QQQ", _HANDLED, _NET_TCP if offline else 0, _SCOPES)
        rules = self._must(self._sys(_LANDLOCK_CREATE, described, len(described), 0))
        for path in outside((*hidden, "/dev")):
            self._allow(rules, path, _READ_FILE, must_exist=False)
        for path in _DEVICES:
            self._allow(rules, path, _FILE_RIGHTS, must_exist=False)
        self._allow_writing(rules, writable, _HANDLED)
        return rules

    def _allow_writing(self, rules: int, writable: Iterable[str], handled: int) -> None:
        for path in writable:
            rights = _HANDLED if os.path.isdir(path) else _FILE_RIGHTS  # noqa: PTH112 - hot
            self._allow(rules, path, rights & handled, must_exist=True)

    def _allow(self, rules: int, path: str, rights: int, *, must_exist: bool) -> None:
        try:
            place = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            if must_exist:
                raise
            return
        try:
            self._must(
                self._add(_LANDLOCK_ADD, rules, _PATH_BENEATH, _BENEATH.pack(rights, place), 0)
            )
        finally:
            os.close(place)

    # -------------------------------------------------------------------------------- seccomp

    def _filter(self, *, offline: bool, reach: bool = False) -> bytes:
        """Return the instructions of the filter."""
        refuse, absent = _REFUSE | errno.EPERM, _REFUSE | errno.ENOSYS
        code = [*_load(4), _jump(0x15, self._architecture, 1, 0), _return(_DIE), *_load(0)]
        if self._column == 0:
            code += [_jump(0x35, _X32, 0, 1), _return(_DIE)]
        refused = {**_REFUSED, **(_NETWORK if offline else {})}
        for table, answer in ((refused, refuse), (_ABSENT, absent)):
            for numbers in table.values():
                code += self._on(numbers, [_return(answer)])
        for name, (numbers, place) in _ON_OTHERS.items():
            check = [*_argument(place), _jump(0x15, 0, 1, 0), _return(refuse)]
            if name in _ON_USERS:
                check += [*_argument(0), _jump(0x15, _ON_USERS[name], 0, 1), _return(refuse)]
            code += self._on(numbers, check)
        # Reading another's limits is harmless; `resource` names itself by 0.
        sets = [*_argument(2), _jump(0x15, 0, 0, 2), *_argument(2, high=True), _jump(0x15, 0, 3, 0)]
        others = [*_argument(0), _jump(0x15, 0, 1, 0), _return(refuse)]
        code += self._on(_PRLIMIT, [*sets, *others])
        spaces = _jump(0x45, _NAMESPACES | _TIME_NAMESPACE, 0, 1)
        code += self._on(_UNSHARE, [*_argument(0), spaces, _return(refuse)])
        if reach:
            others = [_jump(0x15, family, left, 0) for left, family in ((2, 2), (1, 10))]
            code += self._on(_NETWORK["socket"], [*_argument(0), *others, _return(refuse)])
        if offline or reach:
            # A datagram pair could be aimed at any path.
            kind = [*_argument(1), (0x54, 0, 0, _SOCKET_TYPE), _jump(0x15, _DATAGRAM, 0, 1)]
            code += self._on(_SOCKETPAIR, [*kind, _return(refuse)])
        spaces = _jump(0x45, _NAMESPACES, 0, 1)
        code += self._on(_CLONE, [*_argument(0), spaces, _return(refuse)])
        code.append(_return(_ALLOW))
        return b"".join(starmap(_INSTRUCTION.pack, code))

    def _on(
        self, numbers: tuple[int | None, ...], then: list[tuple[int, int, int, int]]
    ) -> list[tuple[int, int, int, int]]:
        """Return instructions that are skipped for every other call; the number is loaded again."""
        number = numbers[self._column]
        if number is None:
            return []
        after = [] if len(then) == 1 else _load(0)
        return [_jump(0x15, number, 0, len(then) + len(after)), *then, *after]


def outside(hidden: Iterable[str]) -> Iterator[str]:
    """Yield paths that together hold everything but the hidden ones.

    Links are left out: what they lead to stands elsewhere. So is what stands in a folder that
    cannot be listed.
    """
    kept = {path.rstrip("/") for path in hidden}
    above = {path[:end] or "/" for path in kept for end, sign in enumerate(path) if sign == "/"}
    known = kept | above
    for folder in above:
        if any(folder == path or folder.startswith(f"{path}/") for path in kept):
            continue
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.path not in known and not entry.is_symlink():
                        yield entry.path
        except OSError:
            continue


# ----------------------------------------------------------------- instructions of the filter


def _load(offset: int) -> list[tuple[int, int, int, int]]:
    return [(0x20, 0, 0, offset)]


def _argument(place: int, *, high: bool = False) -> list[tuple[int, int, int, int]]:
    return _load(16 + 8 * place + 4 * high)


def _jump(how: int, value: int, when: int, otherwise: int) -> tuple[int, int, int, int]:
    return (how, when, otherwise, value)


def _return(action: int) -> tuple[int, int, int, int]:
    return (0x06, 0, 0, action)
