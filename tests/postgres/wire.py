"""A server's socket with somebody in between, who counts requests and does harm at one of them.

A request is what a client sends up to the point from which it waits: a statement, or a pipeline up
to its Sync. Between its arrival and the server's whole answer there are two moments: the server has
not got it, and the client has not heard of it. After a COMMIT the second one is a commit of which
nobody knows.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import shutil
import signal
import socket
import struct
import tempfile
import threading
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from tests.e2e.project import SOON_S, until
from tests.postgres.server import Server

#: The conductor is killed, its connection is cut, or its backend is ended by an administrator.
KILL, CUT, END = "kill", "cut", "end"
#: Codes in the place of a version: encryption is asked for, or a statement is to be cancelled.
_ENCRYPTED, _CANCEL = (80877103, 80877104), 80877102
#: What ends a request: a simple query, Sync. At a Flush what came so far is passed on.
_ENDS, _FLUSH = (b"Q", b"S"), b"H"
_BYE = b"X"
_STATEMENT = re.compile(rb"(?:SELECT|INSERT INTO|UPDATE|DELETE|BEGIN|COMMIT|SET) ?[ \w.\"]{0,40}")


class Point(NamedTuple):
    """The n-th request that begins so by connections of one name; before it arrives, or after."""

    role: str
    text: str
    n: int
    #: Whether the server has answered it, and the client not heard of it.
    is_answered: bool

    @property
    def kind(self) -> str:
        """What is counted together."""
        return f"{self.text.split()[0]} {'answered' if self.is_answered else 'sent'}"

    def __str__(self) -> str:
        when = "after the answer to" if self.is_answered else "before"
        return f"{when} {self.role}: {self.text} ({self.n})"


class Wire:
    """Listens in the place of a server and passes on what comes, until its point is reached."""

    def __init__(self, server: Server) -> None:
        """Listen on a socket of its own."""
        self._server = server
        self._folder = Path(tempfile.mkdtemp(prefix="rw-wire-"))
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(self._folder / f".s.PGSQL.{server.port}"))
        self._listening.listen(64)
        self._counts: Counter[tuple[str, str]] = Counter()
        self._point: Point | None = None
        self._fault = ""
        self._victim = 0
        self._has_victim = threading.Event()
        self._lock = threading.Lock()
        #: Every request that came, and whether the harm was done.
        self.seen: list[Point] = []
        self.was_met = False
        threading.Thread(target=self._accept, daemon=True).start()

    def url(self, database: str) -> str:
        """Return the URL of a database by this socket."""
        return self._server.url(database).replace(str(self._server.folder), str(self._folder))

    def arm(self, point: Point | None = None, fault: str = "") -> None:
        """Count from 0 again, and do harm at a point."""
        self._counts.clear()
        self.seen, self.was_met = [], False
        self._point, self._fault = point, fault
        self._has_victim.clear()

    def victim(self, pid: int) -> None:
        """Say which process is killed."""
        self._victim = pid
        self._has_victim.set()

    def close(self) -> None:
        """Listen no more."""
        self._listening.close()
        shutil.rmtree(self._folder)

    # ---------------------------------------------------------------------------- in its threads

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        path = str(self._server.folder / f".s.PGSQL.{self._server.port}")
        # Either side may be gone at any moment.
        gone = contextlib.suppress(OSError, EOFError)
        with gone, client, socket.socket(socket.AF_UNIX) as backend:
            backend.connect(path)
            _Connection(self, client, backend).serve()

    def request(self, role: str, data: bytes) -> Point:
        """Count a request; return the point before it."""
        found = _STATEMENT.search(data)
        text = found[0].decode().strip() if found else "PIPELINED"
        with self._lock:
            self._counts[role, text] += 1
            made = Point(role, text, self._counts[role, text], is_answered=False)
            self.seen.append(made)
        return made

    def is_due(self, point: Point) -> bool:
        """Say whether harm is to be done here."""
        return self._point is not None and not self.was_met and point == self._point

    def harm(self, backend_pid: int) -> bool:
        """Do it; say whether the connection is cut."""
        self.was_met = True
        if self._fault == KILL:
            assert self._has_victim.wait(SOON_S)
            os.kill(self._victim, signal.SIGKILL)
        elif self._fault == END:
            gone = "SELECT 1 FROM pg_stat_activity WHERE pid = %s"
            self._server.sql("postgres", "SELECT pg_terminate_backend(%s)", backend_pid)
            until(lambda: not self._server.sql("postgres", gone, backend_pid), "it is gone")
        return self._fault != END


class _Connection:
    """One connection of a client, and the one to the server that stands for it."""

    def __init__(self, wire: Wire, client: socket.socket, backend: socket.socket) -> None:
        self._wire = wire
        self._client = client
        self._backend = backend
        self._role = ""
        self._pid = 0

    def serve(self) -> None:
        """Pass on messages until one side ends."""
        self._backend.sendall(self._startup())
        sent, answer = b"", b""
        #: The request whose answer nobody hears, and how many answers come before its own.
        withheld, waiting = b"", 0
        held: Point | None = None
        #: The request so far, and what of it was not passed on.
        asked, unsent = b"", b""
        while True:
            ready, _, _ = select.select([self._client, self._backend], [], [])
            if self._backend in ready:
                data = self._backend.recv(1 << 16)
                if not data:
                    return
                answer += data
                while message := _message(answer):
                    answer = answer[len(message) :]
                    if message[:1] == b"K":
                        (self._pid,) = struct.unpack("!I", message[5:9])
                    if message[:1] == b"Z":
                        waiting -= 1
                    if held is None:
                        self._client.sendall(message)
                        continue
                    withheld += message
                    if message[:1] == b"Z" and waiting <= 0:
                        if self._wire.harm(self._pid):
                            return
                        held = None
                        self._client.sendall(withheld)
            if self._client in ready:
                data = self._client.recv(1 << 16)
                if not data:
                    return
                sent += data
                while message := _message(sent):
                    sent = sent[len(message) :]
                    asked, unsent = asked + message, unsent + message
                    if message[:1] in _ENDS:
                        point = self._wire.request(self._role, asked)
                        if self._wire.is_due(point) and self._wire.harm(self._pid):
                            return
                        if self._wire.is_due(point._replace(is_answered=True)):
                            held = point
                        asked, waiting = b"", waiting + 1
                    elif message[:1] not in (_FLUSH, _BYE):
                        continue
                    # An ended backend takes no more; what it said last is still to be passed on.
                    with contextlib.suppress(BrokenPipeError):
                        self._backend.sendall(unsent)
                    unsent = b""

    def _startup(self) -> bytes:
        """Read the first packet; refuse encryption, so that the rest can be read."""
        while True:
            head = _exactly(self._client, 8)
            length, code = struct.unpack("!II", head)
            packet = head + _exactly(self._client, length - 8)
            if code not in _ENCRYPTED:
                break
            self._client.sendall(b"N")
        if code != _CANCEL:
            words = packet[8:].split(b"\0")
            given = dict(zip(words[::2], words[1::2], strict=False))
            self._role = given.get(b"application_name", b"").decode()
        return packet


def _exactly(source: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        if not (more := source.recv(size - len(data))):
            raise EOFError
        data += more
    return data


def _message(data: bytes) -> bytes:
    """Return the first message of some bytes; empty when it is not whole."""
    if len(data) < 5:
        return b""
    (length,) = struct.unpack("!I", data[1:5])
    return data[: 1 + length] if len(data) > length else b""
