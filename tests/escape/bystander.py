"""A process of the same user that is nobody's child: it holds secrets and minds its own business.

It runs beside the product as a program of its own, tells on its first line where everything is,
and answers each further line with what its memory holds now.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import socket
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

LIBC = ctypes.CDLL(None, use_errno=True)
TRACED = ctypes.create_string_buffer(b"original", 8)
WRITTEN = ctypes.create_string_buffer(b"original", 8)


def segment(secret: bytes) -> int:
    """Return the number of shared memory that holds a secret."""
    number: int = LIBC.shmget(0, 4096, 0o1600)
    LIBC.shmat.restype = ctypes.c_void_p
    address = LIBC.shmat(number, None, 0)
    ctypes.memmove(address, secret, len(secret))
    return number


def queue(secret: bytes) -> int:
    """Return the number of a message queue that holds a secret."""
    number: int = LIBC.msgget(0, 0o1600)
    LIBC.msgsnd(number, ctypes.create_string_buffer((1).to_bytes(8, "little") + secret), 64, 0)
    return number


def pass_on(door: socket.socket, path: str) -> None:
    """Give everybody who connects a descriptor that writes to a file."""
    while True:
        link, _address = door.accept()
        with link, Path(path).open("ab") as file:
            socket.send_fds(link, [b"."], [file.fileno()])


def main() -> None:
    """Hold everything, say where it is, and answer until standard input closes."""
    wish: dict[str, Any] = json.loads(sys.argv[1])
    if "terminal" in wish:
        # As somebody's shell has it: a session of its own with this terminal.
        fcntl.ioctl(os.open(wish["terminal"], os.O_RDWR), 0x540E, 0)
    secret = ctypes.create_string_buffer(wish["memory"].encode(), 64)
    # Only its descriptor leads to it.
    place, path = tempfile.mkstemp()
    Path(path).unlink()
    os.write(place, wish["file"].encode())
    door = socket.socket(socket.AF_UNIX)
    door.bind("\0" + wish["passes"])
    door.listen()
    threading.Thread(target=pass_on, args=(door, wish["passed"]), daemon=True).start()
    told = {
        "pid": os.getpid(),
        "secret": ctypes.addressof(secret),
        "traced": ctypes.addressof(TRACED),
        "written": ctypes.addressof(WRITTEN),
        "descriptor": place,
        "passes": wish["passes"],
        "segment": segment(wish["segment"].encode()),
        "removable": segment(b"not to be removed"),
        "messages": queue(wish["queue"].encode()),
    }
    print(json.dumps(told), flush=True)
    for _line in sys.stdin:
        now = {"traced": TRACED.raw.decode(), "written": WRITTEN.raw.decode()}
        print(json.dumps(now), flush=True)
    for number in (told["segment"], told["removable"]):
        LIBC.shmctl(number, 0, None)
    LIBC.msgctl(told["messages"], 0, None)


if __name__ == "__main__":
    main()
