"""Children that reach for the network, other rights, the kernel, or more than their share."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import resource
import select
import signal
import socket
import struct
import subprocess
import threading
import time
from pathlib import Path

from child import (
    CONFIG,
    LIBC,
    NAME,
    SCRATCH,
    TARGET,
    VICTIM,
    found,
    hold,
    main,
    must,
    role,
    run_code,
    syscall,
)

MIB = 1 << 20
WORD = NAME.encode()


# ------------------------------------------------------------------------------------ network


def connect(family: int, address: object, kind: int = socket.SOCK_STREAM) -> None:
    with socket.socket(family, kind) as link:
        link.connect(address)  # type: ignore[arg-type]
        link.sendall(WORD)


def tcp_connect() -> None:
    connect(socket.AF_INET, ("127.0.0.1", VICTIM["tcp"]))


def tcp_connect_new() -> None:
    connect(socket.AF_INET6, ("::1", VICTIM["tcp_new"]))


def udp_send() -> None:
    connect(socket.AF_INET, ("127.0.0.1", VICTIM["udp"]), socket.SOCK_DGRAM)


def udp_granted() -> None:
    """Send where TCP is granted."""
    connect(socket.AF_INET, ("127.0.0.1", VICTIM["udp_granted"]), socket.SOCK_DGRAM)


def scan_ports() -> None:
    """Try every port that somebody listens on outside, by every address that may lead there."""
    names = {*re.findall(r"^([0-9a-f.:]+)", Path("/etc/hosts").read_text(), re.MULTILINE)}
    reached = []
    for port in (VICTIM["tcp"], VICTIM["tcp_new"]):
        for address in (*names, "127.0.0.1", "127.0.0.2", "0.0.0.0", "::1", "::"):
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            with contextlib.suppress(OSError):
                connect(family, (address, port))
                reached.append(address)
    if not reached:
        raise ConnectionRefusedError(111, "nobody answers")


def ask_forwarder() -> None:
    """Ask for another port as one asks a proxy, and go on as if that had worked."""
    with socket.create_connection(("127.0.0.1", VICTIM["granted"])) as link:
        link.sendall(b"CONNECT 127.0.0.1:%d HTTP/1.1\r\n\r\n" % VICTIM["tcp"])
        hold()
        link.sendall(WORD)
        select.select([link], [], [], 0.2)


def path_connect() -> None:
    connect(socket.AF_UNIX, VICTIM["path_socket"])


def abstract_connect() -> None:
    connect(socket.AF_UNIX, "\0" + VICTIM["abstract_socket"])


def tcp_listen() -> None:
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        door.listen()
        hold(port=door.getsockname()[1])


def resolve_name() -> None:
    """Ask a name server by the C library's own resolver."""
    LIBC.__res_state.restype = ctypes.c_void_p
    must(LIBC.__res_init())
    state = LIBC.__res_state()
    server = struct.pack("=HHI8x", 2, socket.htons(VICTIM["dns"]), 0x0100007F)
    # One second, one try, one server.
    ctypes.memmove(state, struct.pack("=ii", 1, 1), 8)
    ctypes.memmove(state + 16, struct.pack("=i", 1) + server, 20)
    socket.getaddrinfo(f"{NAME.replace('_', '-')}.escape.test.", None, socket.AF_INET)


def netlink() -> None:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as link:
        link.bind((0, 0))
        hold()


def raw_socket() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP):
        hold()


def any_socket() -> None:
    """Make a socket of any family that there is."""
    held = []
    for family in range(1, 46):
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW):
            with contextlib.suppress(OSError):
                held.append(socket.socket(family, kind))
    if not held:
        raise OSError(1, "no family")
    hold()


def aimed_pair() -> None:
    """Aim one end of a datagram pair, which needs no call of socket, at a socket outside."""
    one, _two = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    one.sendto(WORD, VICTIM["path_datagram"])


def io_uring() -> None:
    """Get the queue that makes and connects sockets without a call of socket."""
    must(syscall(425, 4, ctypes.create_string_buffer(120)))
    hold()


def foreign_calls() -> None:
    """Make a socket by the calls of a 32-bit program, which a filter may not know."""
    # mov eax, 359 (socket); mov ebx, 2; mov ecx, 1; xor edx, edx; int 0x80; ret
    code = bytes.fromhex("b867010000 bb02000000 b901000000 31d2 cd80 c3".replace(" ", ""))
    # rbx is the caller's: push it before, pop it after.
    code = b"\x53" + code[:-1] + b"\x5b\xc3"
    status = run_code(code)
    if status < 0:
        raise OSError(-status, os.strerror(-status))
    hold()


# ------------------------------------------------------------------------------------- rights


def keep_rights() -> None:
    hold()


def set_user_program() -> str:
    """Gain the rights of a program's owner."""
    told = subprocess.run(
        [VICTIM["set_user_program"], VICTIM["root_only"]], capture_output=True, check=False
    )
    return found(told.stdout)


def mount_over() -> None:
    """Hide a folder below an empty file system."""
    must(LIBC.mount(b"none", bytes(TARGET), b"tmpfs", 0, None), "mount")


def mount_in_namespace() -> None:
    """Become root of a user namespace, and mount there."""
    must(LIBC.unshare(0x10000000 | 0x00020000), "unshare")
    (SCRATCH / "mounted").mkdir()
    must(LIBC.mount(b"none", bytes(SCRATCH / "mounted"), b"tmpfs", 0, None), "mount")
    hold()


def clone_namespace() -> None:
    """Get a user namespace by clone instead."""
    # SIGCHLD | CLONE_NEWUSER
    pid = syscall(56, 17 | 0x10000000, 0, 0, 0, 0)
    if pid == 0:
        with contextlib.suppress(OSError):
            hold()
        os._exit(0)
    os.waitpid(pid, 0)


def enter_namespaces() -> None:
    """Enter those of a process outside."""
    for name in ("net", "ipc", "uts"):
        place = os.open(f"/proc/{role('supervisor')}/ns/{name}", os.O_RDONLY)
        must(LIBC.setns(place, 0), "setns")
    hold()


def change_root() -> None:
    """Change the root, the first step out of one."""
    (SCRATCH / "root").mkdir()
    outside = os.open("/", os.O_RDONLY)
    os.chroot(SCRATCH / "root")
    os.fchdir(outside)
    # Still here: what is to be looked at stands below the old root.
    link = Path(f"./{SCRATCH}")
    (link / "making").write_text(f'{{"attack": "{NAME}", "pid": {os.getpid()}}}')
    (link / "making").rename(link / "ready")
    while not (link / "seen").exists():
        select.select([], [], [], 0.003)
    os.chroot(".")


def set_clock() -> None:
    """Set the clock, to what it shows."""
    time.clock_settime_ns(time.CLOCK_REALTIME, time.clock_gettime_ns(time.CLOCK_REALTIME))


def load_bpf() -> None:
    """Load data into the kernel: an array of one element."""
    wish = struct.pack("=IIII56x", 2, 4, 8, 1)
    must(syscall(321, 0, wish, len(wish)))
    hold()


def measure_processor() -> None:
    """Count what the processor does, from which secrets were told before."""
    # Type 1 (software), size 128, task clock, without the kernel and the hypervisor.
    wish = struct.pack("=IIQQQQQ", 1, 128, 1, 0, 0, 0, 0b1100000) + bytes(80)
    must(syscall(298, wish, 0, -1, -1, 0))
    hold()


def catch_faults() -> None:
    """Stop the kernel in the middle of a copy, for as long as one likes."""
    must(syscall(323, 1))
    hold()


def administer() -> str:
    """Knock at calls that only an administrator may make, with arguments that cannot work."""
    knocks = {
        "init_module": (175, b"\0" * 16, 16, b"\0"),
        "swapon": (167, b"/nowhere\0", 0),
        "kexec_load": (246, 0, 0, 0, 0xFFFF),
        "reboot": (169, 0, 0, 0, 0),
        "quotactl": (179, 0x80000102, b"/nowhere\0", 0, 0),
        "acct": (163, b"/nowhere\0"),
    }
    let_in = []
    for name, words in knocks.items():
        try:
            syscall(*words)
            let_in.append(name)
        except OSError as error:
            if error.errno not in (1, 38):
                let_in.append(name)
    if not let_in:
        raise PermissionError(1, "all refused")
    hold()
    return " ".join(let_in)


# -------------------------------------------------------------------------------------- limits


def fork_bomb() -> None:
    """Fork more often than the limit allows; each stays until it was counted."""
    pids: list[int] = []
    try:
        for _ in range(CONFIG["wanted"]):
            pid = os.fork()
            if pid == 0:
                signal.pause()
            pids.append(pid)
    finally:
        hold()
        for pid in pids:
            os.kill(pid, signal.SIGKILL)


def thread_bomb() -> None:
    """Start more threads than the limit allows."""
    threading.stack_size(64 * 1024)
    gate = threading.Event()
    try:
        for _ in range(CONFIG["wanted"]):
            threading.Thread(target=gate.wait, daemon=True).start()
    finally:
        hold()
        gate.set()


def take_memory() -> None:
    """Use twice the memory that is allowed."""
    held = bytearray(CONFIG["mebibytes"] * MIB)
    held[::4096] = bytes(len(held[::4096]))
    hold()


def take_memory_by_many() -> None:
    """Use more memory than is allowed to one process, by many of them."""
    for _ in range(CONFIG["processes"]):
        if os.fork() == 0:
            held = bytearray(CONFIG["mebibytes"] * MIB)
            held[::4096] = bytes(len(held[::4096]))
            signal.pause()
    deadline_s = time.monotonic() + 5
    wanted = CONFIG["processes"]
    while time.monotonic() < deadline_s:
        text = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        sizes = [int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in text]
        if len([size for size in sizes if size * 4096 > CONFIG["mebibytes"] * MIB]) >= wanted:
            break
        select.select([], [], [], 0.005)
    hold()


def raise_limits() -> None:
    """Raise a limit above what was set."""
    most = CONFIG["mebibytes"] * MIB
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    take_memory()


def large_file() -> None:
    """Write a larger file than is allowed."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with (SCRATCH / "large").open("wb") as file:
        for _ in range(CONFIG["mebibytes"]):
            file.write(bytes(MIB))
            file.flush()
    hold()


def many_descriptors() -> None:
    """Open more than is allowed."""
    try:
        for number in range(CONFIG["wanted"]):
            os.dup2(0, 3 + number)
    finally:
        # To be looked at takes some as well.
        os.closerange(10, 20)
        hold()


def long_computation() -> None:
    """Use more processor time than is allowed."""
    signal.signal(signal.SIGXCPU, signal.SIG_IGN)
    until_s = time.process_time() + CONFIG["seconds"]
    while time.process_time() < until_s:
        sum(range(10_000))


def dump_core() -> None:
    """Crash where the image of the memory, with all secrets in it, would be left."""
    os.chdir(TARGET)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, resource.getrlimit(resource.RLIMIT_CORE)[1:] * 2)
    os.kill(os.getpid(), signal.SIGSEGV)


if __name__ == "__main__":
    main(globals())
