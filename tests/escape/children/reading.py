"""Children that look into what is not theirs: files, memory, descriptors, other processes."""

from __future__ import annotations

import array
import contextlib
import ctypes
import fcntl
import hashlib
import os
import re
import signal
import socket
from pathlib import Path

from child import LIBC, SCRATCH, TARGET, VICTIM, found, hold, main, must, role, syscall

ANYONE = "bystander"


def digest(path: str | Path) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def read_key() -> str:
    return digest(VICTIM["key"])


def read_key_by_link() -> str:
    os.link(VICTIM["key"], SCRATCH / "key")
    return digest(SCRATCH / "key")


def read_key_by_root() -> str:
    return digest(f"/proc/self/root{VICTIM['key']}")


def read_key_by_handle() -> str:
    """Open the key by its inode, past every folder above it."""
    handle = ctypes.create_string_buffer(8 + 128)
    ctypes.memmove(handle, (128).to_bytes(4, "little"), 4)
    mount = ctypes.c_int()
    must(LIBC.name_to_handle_at(-100, VICTIM["key"].encode(), handle, ctypes.byref(mount), 0))
    beside = os.open(VICTIM["folder"], os.O_RDONLY)
    opened = must(LIBC.open_by_handle_at(beside, handle, os.O_RDONLY))
    return hashlib.sha256(os.read(opened, 1 << 16)).hexdigest()


def read_memory() -> str:
    return digest(VICTIM["memory"])


def read_store() -> str:
    data = Path(VICTIM["store"]).read_bytes()
    with contextlib.suppress(OSError):
        data += Path(f"{VICTIM['store']}-wal").read_bytes()
    return found(data)


def read_journal() -> str:
    """Read the newest of the record, which stands beside the store: what came before this run."""
    data = Path(f"{VICTIM['store']}-wal").read_bytes()
    run = os.environ["RUNWRIGHT_RUN_ID"].encode()
    return b" ".join(re.findall(rb'"prev":"([0-9a-f]{64})","run":"' + run, data)).decode()


def see_private() -> str:
    """Learn what stands where the store and the keys are."""
    return " ".join(sorted(each.name for each in Path(VICTIM["store"]).parent.iterdir()))


def read_scratch() -> str:
    beside = SCRATCH.parent / "other" / "secret"
    # That of a child of a template stands one folder deeper.
    return found(
        (beside if beside.exists() else SCRATCH.parent.parent / "other/secret").read_bytes()
    )


def read_file() -> str:
    return found((TARGET / "file").read_bytes())


def read_disk() -> str:
    """Read the disk below all files."""
    with Path(VICTIM["disk"]["path"]).open("rb", buffering=0) as disk:
        disk.seek(1024)
        return hashlib.sha256(disk.read(512)[0x68:0x78]).hexdigest()


def read_own_environment() -> str:
    return found(Path("/proc/self/environ").read_bytes())


def inherited_descriptors() -> str:
    hold()
    text = b""
    for name in [each.name for each in Path("/proc/self/fd").iterdir()]:
        if int(name) > 2:
            with contextlib.suppress(OSError):
                text += os.pread(int(name), 1 << 16, 0)
    return found(text)


# --------------------------------------------------------------------------- other processes


def environment_of(name: str) -> str:
    return found(Path(f"/proc/{role(name)}/environ").read_bytes())


def environment_of_conductor() -> str:
    return environment_of("conductor")


def environment_of_bystander() -> str:
    return environment_of(ANYONE)


def arguments_of_bystander() -> str:
    return found(Path(f"/proc/{role(ANYONE)}/cmdline").read_bytes())


def list_processes() -> str:
    """Read the arguments of everybody who is to be seen."""
    text = b""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                text += (folder / "cmdline").read_bytes()
    return found(text)


def stack_of(pid: int) -> tuple[int, int]:
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        if line.endswith("[stack]"):
            first, last = line.split()[0].split("-")
            return int(first, 16), int(last, 16)
    raise OSError(0, "no stack")


def memory_of(name: str) -> str:
    pid = role(name)
    first, last = stack_of(pid)
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        memory.seek(first)
        return found(memory.read(last - first))


def memory_of_conductor() -> str:
    return memory_of("conductor")


def memory_of_bystander() -> str:
    return memory_of(ANYONE)


def descriptors_of(name: str) -> str:
    folder = Path(f"/proc/{role(name)}/fd")
    text = b""
    for place in sorted(folder.iterdir()):
        if place.is_file():
            text += place.open("rb", buffering=0).read(1 << 22)
    return found(text)


def descriptors_of_conductor() -> str:
    return descriptors_of("conductor")


def descriptors_of_bystander() -> str:
    return descriptors_of(ANYONE)


def trace(name: str) -> None:
    """Become the tracer of a process, by PTRACE_SEIZE."""
    LIBC.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
    must(LIBC.ptrace(0x4206, role(name), None, None), "seize")
    hold()


def trace_bystander() -> None:
    trace(ANYONE)


def trace_supervisor() -> None:
    trace("supervisor")


def trace_launcher() -> None:
    trace("launcher")


def trace_conductor() -> None:
    trace("conductor")


def trace_and_change() -> None:
    """Write into the memory of a process by PTRACE_ATTACH and PTRACE_POKEDATA."""
    pid = role(ANYONE)
    LIBC.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
    must(LIBC.ptrace(16, pid, None, None), "attach")
    os.waitpid(pid, 0x40000000)
    address = VICTIM[ANYONE]["traced"]
    must(LIBC.ptrace(5, pid, address, int.from_bytes(b"CHANGED!", "little")), "poke")
    must(LIBC.ptrace(17, pid, None, None), "detach")


class Vector(ctypes.Structure):
    """A piece of memory, as the kernel counts it."""

    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


def copy(number: int, address: int, buffer: ctypes.Array[ctypes.c_char]) -> None:
    mine = Vector(ctypes.addressof(buffer), len(buffer))
    theirs = Vector(address, len(buffer))
    syscall(number, role(ANYONE), ctypes.byref(mine), 1, ctypes.byref(theirs), 1, 0)


def memory_by_call() -> str:
    buffer = ctypes.create_string_buffer(64)
    copy(310, VICTIM[ANYONE]["secret"], buffer)
    return found(buffer.raw)


def change_memory_by_call() -> None:
    copy(311, VICTIM[ANYONE]["written"], ctypes.create_string_buffer(b"CHANGED!", 8))


def take_descriptor() -> str:
    """Copy an open descriptor out of another process."""
    handle = os.pidfd_open(role(ANYONE))
    return found(os.pread(syscall(438, handle, VICTIM[ANYONE]["descriptor"], 0), 64, 0))


def passed_descriptor() -> None:
    """Be given a descriptor by a helper that listens on an abstract socket, and write to it."""
    with socket.socket(socket.AF_UNIX) as link:
        link.connect("\0" + VICTIM[ANYONE]["passes"])
        _data, notes, _flags, _from = link.recvmsg(1, socket.CMSG_SPACE(4))
    places = array.array("i", notes[0][2])
    os.write(places[0], b"written through a passed descriptor")


def attach_shared_memory() -> str:
    """Attach the shared memory of another process by its number."""
    LIBC.shmat.restype = ctypes.c_long
    address = must(LIBC.shmat(VICTIM[ANYONE]["segment"], None, 0o10000), "shmat")
    return found(ctypes.string_at(address, 64))


def read_queue() -> str:
    """Take a message out of the queue of other processes, by its number."""
    message = ctypes.create_string_buffer(8 + 128)
    size = must(LIBC.msgrcv(VICTIM[ANYONE]["messages"], message, 128, 0, 0o4000), "msgrcv")
    return found(message.raw[8 : 8 + size])


def remove_shared_memory() -> None:
    """Remove the shared memory of another process by its number."""
    must(LIBC.shmctl(VICTIM[ANYONE]["removable"], 0, None), "shmctl")


# ------------------------------------------------------------------------ signals and priorities


def kill_bystander() -> None:
    os.kill(role("target"), signal.SIGKILL)


def kill_by_handle() -> None:
    signal.pidfd_send_signal(os.pidfd_open(role("other")), signal.SIGKILL)


def kill_by_descriptor() -> None:
    """Have the kernel send the signal, as one that announces input."""
    ready, write = os.pipe()
    fcntl.fcntl(ready, fcntl.F_SETOWN, role("third"))
    fcntl.fcntl(ready, 10, signal.SIGKILL)
    fcntl.fcntl(ready, fcntl.F_SETFL, os.O_ASYNC)
    os.write(write, b"!")


def kill_supervisor() -> None:
    os.kill(role("supervisor"), signal.SIGKILL)
    signal.pause()


def kill_launcher() -> None:
    os.kill(role("launcher"), signal.SIGKILL)
    signal.pause()


def kill_conductor() -> None:
    os.kill(role("conductor"), signal.SIGKILL)
    signal.pause()


def kill_everything() -> None:
    os.kill(-1, signal.SIGKILL)


def slow_conductor() -> None:
    os.setpriority(os.PRIO_PROCESS, role("conductor"), 3)


def slow_everybody() -> None:
    """Take processor time from every process of the user, without naming one."""
    os.setpriority(os.PRIO_USER, 0, 4)


def slow_disk_of_everybody() -> None:
    """Put every process of the user last in line for the disk, without naming one."""
    syscall(251, 3, os.getuid(), 3 << 13)


def slow_disk_of_bystander() -> None:
    syscall(251, 1, role(ANYONE), (2 << 13) | 7)


def pin_conductor() -> None:
    os.sched_setaffinity(role("conductor"), {max(os.sched_getaffinity(0))})


def schedule_bystander() -> None:
    os.sched_setscheduler(role(ANYONE), os.SCHED_BATCH, os.sched_param(0))


def limit_conductor() -> None:
    import resource

    resource.prlimit(role("conductor"), resource.RLIMIT_CORE, (0, 0))
    soft, hard = resource.prlimit(role("conductor"), resource.RLIMIT_MSGQUEUE)
    resource.prlimit(role("conductor"), resource.RLIMIT_MSGQUEUE, (min(soft, 4242), hard))


if __name__ == "__main__":
    main(globals())
