"""Children that will not end, or that leave something running behind."""

from __future__ import annotations

import atexit
import fcntl
import os
import select
import signal
import sys
import time

from child import CONFIG, TARGET, hold, main, run_code


def linger() -> None:
    """Stay for ever, whatever it takes."""
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    while True:
        signal.pause()


def close_all() -> None:
    """Let go of every descriptor."""
    os.closerange(0, 64)


def double_fork() -> None:
    """Leave a process whose parent has ended."""
    if os.fork() == 0:
        if os.fork() == 0:
            close_all()
            linger()
        os._exit(0)
    os.wait()


def own_session() -> None:
    """Leave a process in a session of its own."""
    if os.fork() == 0:
        os.setsid()
        close_all()
        linger()


def daemon() -> None:
    """Leave a daemon under another name, without environment, terminal, parent or folder."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.chdir("/")
            close_all()
            source = "import signal as s; s.signal(15, s.SIG_IGN); s.pause()"
            os.execve(sys.executable, ["[kworker/u8:3]", "-I", "-S", "-c", source], {})
        os._exit(0)
    os.wait()


def hold_stdout() -> None:
    """Leave a process that holds only standard output, so that no reader sees its end."""
    if os.fork() == 0:
        os.close(0)
        os.close(2)
        linger()


def hold_stderr() -> None:
    """Leave a process in a session of its own that holds only standard error."""
    if os.fork() == 0:
        os.setsid()
        os.close(0)
        os.close(1)
        linger()


def fork_at_exit() -> None:
    """Fork when everybody thinks that it is over."""
    atexit.register(double_fork)


def respawn() -> None:
    """Leave two processes that watch each other's end and replace the other."""
    if os.fork() == 0:
        os.setsid()
        until_s = time.monotonic() + CONFIG["seconds"]
        while time.monotonic() < until_s:
            pid = os.fork()
            if pid == 0:
                linger()
            os.waitpid(pid, 0)
        os._exit(0)


def hold_lock() -> None:
    """Hold a lock for as long as anybody of this tree lives, which is seen from outside."""
    fcntl.flock(os.open(TARGET / "file", os.O_RDONLY), fcntl.LOCK_EX)


def relay() -> None:
    """Run away: each process forks its successor and ends at once, faster than a list is read."""
    hold_lock()
    until_s = time.monotonic() + CONFIG["seconds"]
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, signal.SIG_IGN)
    while time.monotonic() < until_s:
        if os.fork():
            os._exit(0)
    os._exit(0)


def relay_fast() -> None:
    """Run away in machine code, sharing all memory, so that a successor costs next to nothing."""
    # mov r12d, COUNT; again: mov eax, 56 (clone); mov edi, CLONE_VM | SIGCHLD; xor esi, esi;
    # xor edx, edx; xor r10d, r10d; xor r8d, r8d; syscall; test eax, eax; jnz end; dec r12d;
    # jnz again; end: mov eax, 60 (exit); xor edi, edi; syscall
    code = (
        b"\x41\xbc" + (30_000).to_bytes(4, "little") + b"\xb8\x38\0\0\0\xbf\x11\x01\0\0"
        b"\x31\xf6\x31\xd2\x45\x31\xd2\x45\x31\xc0\x0f\x05\x85\xc0\x75\x05\x41\xff\xcc\x75\xe1"
        b"\xb8\x3c\0\0\0\x31\xff\x0f\x05"
    )
    hold_lock()
    run_code(code)


def relay_left() -> None:
    """Leave such a runaway behind and end well."""
    if os.fork() == 0:
        os.setsid()
        relay()
        os._exit(0)


def ignore_term() -> None:
    """Do not end when asked to."""
    linger()


def pester() -> None:
    """Keep whoever answers for forks busy, past the time that is allowed."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    until_s = time.monotonic() + CONFIG["seconds"]
    forked = 0
    while time.monotonic() < until_s:
        try:
            # No more than a machine can bear where nobody limits it.
            if forked < 200 and os.fork() == 0:
                signal.pause()
            forked += 1
        except OSError:
            continue


def stop_itself() -> None:
    """Stop, so that no handler can run."""
    os.kill(os.getpid(), signal.SIGSTOP)
    linger()


def close_stdio() -> None:
    """Close what the conductor listens to, and stay."""
    close_all()
    linger()


def drip() -> None:
    """Write slowly, for ever."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        os.write(1, b".")
        os.write(2, b".")
        select.select([], [], [], 0.01)


def flood() -> None:
    """Write much more than anybody wants to keep."""
    piece = b"x" * (1 << 20)
    for _ in range(CONFIG["mebibytes"]):
        left = memoryview(piece)
        while left:
            left = left[os.write(1, left) :]


def stop_supervisor() -> None:
    """Stop the supervisor, stay longer than allowed, and let it go on as if nothing was."""
    supervisor = os.getppid()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.kill(supervisor, signal.SIGSTOP)
    try:
        select.select([], [], [], CONFIG["seconds"])
    finally:
        os.kill(supervisor, signal.SIGCONT)


def outlive() -> None:
    """Leave a daemon and stay as well, while somebody outside kills what watches."""
    double_fork()
    hold()
    linger()


def stand() -> None:
    """Do no harm: the first and the last of a cycle, which let the tests look around."""
    hold()


if __name__ == "__main__":
    main(globals())
