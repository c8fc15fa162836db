"""What every hostile child needs: its victim, a way to be looked at, and its own word at the end.

A child is copied into a project and runs there as a function. It imports nothing of the tests.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import re
import select
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

CONFIG: dict[str, Any] = json.loads(Path(os.environ["RUNWRIGHT_CONFIG"]).read_bytes())
NAME: str = CONFIG["attack"]
VICTIM: dict[str, Any] = CONFIG["victim"]
#: The folder of this attack's own victim, with `file` in it.
TARGET = Path(VICTIM["folder"]) / NAME
SCRATCH = Path(os.environ["HOME"])
LIBC = ctypes.CDLL(None, use_errno=True)
TOKEN = re.compile(rb"escape-[a-z_]+-[0-9a-f]{16}")
HELD_S = 10.0


def must(status: int, what: str = "") -> int:
    """Return what a call of the C library returned. Raises: OSError when it failed."""
    if status < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return status


def syscall(number: int, *arguments: object) -> int:
    """Call the kernel by number; every integer is passed as a long."""
    words = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    LIBC.syscall.restype = ctypes.c_long
    return must(LIBC.syscall(ctypes.c_long(number), *words), f"call {number}")


def run_code(code: bytes) -> int:
    """Call machine code as a function and return what it returns."""
    page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(code)
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    status: int = ctypes.CFUNCTYPE(ctypes.c_int)(address)()
    return status


def hold(**what: Any) -> None:
    """Stand still until somebody outside has had a look."""
    made = SCRATCH / "making"
    made.write_text(json.dumps({"attack": NAME, "pid": os.getpid(), **what}))
    made.rename(SCRATCH / "ready")
    deadline_s = time.monotonic() + HELD_S
    while not (SCRATCH / "seen").exists():
        if time.monotonic() > deadline_s:
            raise TimeoutError("nobody looked")
        select.select([], [], [], 0.003)


def found(data: bytes) -> str:
    """Return the secrets in some bytes."""
    return " ".join(sorted({each.decode() for each in TOKEN.findall(data)}))


def parent(pid: int) -> int:
    """Return the parent of a process."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def role(name: str) -> int:
    """Return the pid of the supervisor, the launcher, the conductor, or a process of the user."""
    supervisor = os.getppid()
    if not supervisor and name in ("supervisor", "launcher", "conductor"):
        # None of them is to be seen: what is nearest is who holds this place together.
        return 1
    if name == "supervisor":
        return supervisor
    if name == "launcher":
        return parent(supervisor)
    if name == "conductor":
        return parent(parent(supervisor))
    return int(VICTIM[name]["pid"])


def main(attacks: dict[str, Any]) -> None:
    """Try the attack and leave the child's own word on it."""
    attack: Callable[[], Any] = attacks[CONFIG.get("as", NAME)]
    word: dict[str, Any] = {"achieved": False}
    try:
        learned = attack()
        word = {"achieved": True, "learned": learned or ""}
    except OSError as error:
        word["why"] = f"{error.errno}: {error.strerror or error}"
    except MemoryError:
        word["why"] = "no memory"
    except (RuntimeError, ValueError) as error:
        # What a thread that cannot be started raises, and a limit that cannot be raised.
        word["why"] = str(error)
    sys.stdout.flush()
    result = Path(os.environ["RUNWRIGHT_RESULT"])
    if not os.path.lexists(result):
        result.write_text(json.dumps(word))
