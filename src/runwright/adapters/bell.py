"""A bell: a datagram socket beside the store that others knock on after they submitted.

A knock is a hint and carries nothing; one that is lost costs a look later. Paths longer than a
socket address may be are reached through the folder's descriptor.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
from collections.abc import Iterator
from pathlib import Path


class SocketBell:
    """The Bell port on a Unix datagram socket."""

    def __init__(self, path: Path) -> None:
        """Hang the bell at a path, in the place of one that a dead process left there."""
        self._path = path
        self._wake_read, self._wake_write = os.pipe()
        for descriptor in (self._wake_read, self._wake_write):
            os.set_blocking(descriptor, False)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(0)
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        with _address(path) as address:
            self._socket.bind(address)

    def wait(self, timeout_s: float | None) -> bool:
        """Wait until somebody rings, `wake` is called or time is up; True when rung or woken."""
        descriptors = [self._socket.fileno(), self._wake_read]
        ready, _, _ = select.select(descriptors, [], [], timeout_s)
        if self._wake_read in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(self._wake_read, 4096)
        if descriptors[0] in ready:
            with contextlib.suppress(BlockingIOError):
                while True:
                    self._socket.recv(16)
        return bool(ready)

    def wake(self) -> None:
        """Make `wait` return; safe in a signal handler."""
        with contextlib.suppress(BlockingIOError, OSError):
            os.write(self._wake_write, b"!")

    def ring(self, address: str) -> None:
        """Wake whoever waits at a path; nobody there is nothing."""
        ring(Path(address))

    def close(self) -> None:
        """Take the bell down."""
        self._socket.close()
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()
        for descriptor in (self._wake_read, self._wake_write):
            with contextlib.suppress(OSError):
                os.close(descriptor)


def ring(path: Path) -> None:
    """Knock at a path without waiting; nobody there, or a full queue, is nothing."""
    with (
        contextlib.suppress(OSError),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as knocker,
        _address(path) as address,
    ):
        knocker.settimeout(0)
        knocker.sendto(b"!", address)


#: The longest path that fits into a Unix socket address on every platform.
_ADDRESS_MAX = 100


@contextlib.contextmanager
def _address(path: Path) -> Iterator[str]:
    """Yield an address for a path, short enough for a socket."""
    if len(os.fsencode(path)) <= _ADDRESS_MAX:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
