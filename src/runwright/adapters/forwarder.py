"""The one way out of a network namespace: from a listener inside to one granted host and port.

It is handed sockets that listen inside, and stays outside, where names are resolved and connections
go. Which listener somebody came in by decides where they get to, and nothing that they say: a byte
is carried, never read. It sees neither the store nor the keys, and ends with its run.
"""

from __future__ import annotations

import _socket
import _thread
import os
import select

from runwright.adapters.processes import receive

TYPE_CHECKING = False
if TYPE_CHECKING:
    # typing alone takes as long to import as everything else here.
    from collections.abc import Sequence
    from typing import Final

#: Connections at a time; who comes later waits in the queue of the listener.
CONNECTIONS_MAX: Final = 128
#: Seconds that a connection to one address may take.
CONNECT_S: Final = 10.0
#: Bytes carried at once, one way.
PIECE_BYTES: Final = 1 << 16
_ABORT: Final = b"\1\0\0\0\0\0\0\0"

Target = tuple[str, int]


def serve(link: _socket.socket, targets: Sequence[Target]) -> None:
    """Take one listener for each target from the link, and carry what comes, for ever."""
    doors: dict[int, tuple[_socket.socket, Target]] = {}
    poll = select.poll()
    for target in targets:
        _word, passed = receive(link, 1)
        if not passed:
            return
        listener = _socket.socket(-1, -1, -1, passed[0])
        listener.setblocking(False)  # noqa: FBT003 - its only signature
        doors[listener.fileno()] = (listener, target)
        poll.register(listener.fileno(), select.POLLIN)
    room = _thread.allocate_lock()
    busy = _Count(room)
    while True:
        busy.wait()
        for descriptor, _events in poll.poll():
            listener, target = doors[descriptor]
            try:
                # The one that `socket` is made from, which is slow to import.
                accepted, _address = listener._accept()  # type: ignore[attr-defined]  # noqa: SLF001
            except OSError:
                # Whoever came has left again.
                continue
            busy.enter()
            _thread.start_new_thread(_carry, (accepted, target, busy))


class _Count:
    """How many connections there are, at most so many."""

    def __init__(self, lock: _thread.LockType) -> None:
        self._lock = lock
        self._count = 0
        self._free, self._freed = os.pipe()

    def wait(self) -> None:
        """Wait until there is room for all that one look may bring."""
        while self._count >= CONNECTIONS_MAX:
            os.read(self._free, PIECE_BYTES)

    def enter(self) -> None:
        with self._lock:
            self._count += 1

    def leave(self) -> None:
        with self._lock:
            self._count -= 1
            full = self._count == CONNECTIONS_MAX - 1
        if full:
            os.write(self._freed, b".")


def _carry(accepted: int, target: Target, busy: _Count) -> None:
    """Connect one who came in to the target, and carry bytes until both have said all."""
    inner = _socket.socket(-1, -1, -1, accepted)
    try:
        outer = connected(target)
        if outer is None:
            # What it would have heard from a port that nobody listens on, as near as may be.
            inner.setsockopt(_socket.SOL_SOCKET, _socket.SO_LINGER, _ABORT)
            return
        try:
            _pump(inner, outer)
        finally:
            outer.close()
    except OSError:
        # A connection broke, which both ends see.
        return
    finally:
        inner.close()
        busy.leave()


def connected(target: Target) -> _socket.socket | None:
    """Return a connection to the first address of the target that answers, resolved here."""
    try:
        found = _socket.getaddrinfo(*target, 0, _socket.SOCK_STREAM)
    except OSError:
        return None
    for family, kind, protocol, _name, address in found:
        outer = _socket.socket(family, kind, protocol)
        outer.settimeout(CONNECT_S)
        try:
            outer.connect(address)
        except OSError:
            outer.close()
            continue
        outer.settimeout(None)
        return outer
    return None


def _pump(inner: _socket.socket, outer: _socket.socket) -> None:
    """Carry bytes both ways at once: a slow reader of one way must not hold up the other."""
    over = _thread.allocate_lock()
    over.acquire()
    _thread.start_new_thread(_answer, (outer, inner, over))
    try:
        _one_way(inner, outer)
    finally:
        over.acquire()


def _answer(source: _socket.socket, target: _socket.socket, over: _thread.LockType) -> None:
    try:
        _one_way(source, target)
    finally:
        over.release()


def _one_way(source: _socket.socket, target: _socket.socket) -> None:
    """Carry bytes until there are no more, which is passed on; what breaks ends both ways."""
    try:
        while piece := source.recv(PIECE_BYTES):
            target.sendall(piece)
        target.shutdown(_socket.SHUT_WR)
    except OSError:
        _break_off(source)
        _break_off(target)


def _break_off(link: _socket.socket) -> None:
    try:
        link.shutdown(_socket.SHUT_RDWR)
    except OSError:
        # It has gone by itself.
        return
