"""What hostile children try to reach: listeners that keep who came, and a terminal."""

from __future__ import annotations

import os
import select
import socket
import threading
from pathlib import Path
from typing import Any

READ_BYTES = 4096


class Listeners:
    """Listeners on loopback, on paths and on abstract names, and a name server."""

    def __init__(self, folder: Path, word: str) -> None:
        """Open all of them, for everybody on this machine."""
        self.heard: set[str] = set()
        self.where: dict[str, Any] = {}
        self._doors: list[socket.socket] = []
        self._links: list[socket.socket] = []
        self._answers: set[socket.socket] = set()
        self._carried: set[socket.socket] = set()
        self._end, self._ended = os.pipe()
        self._open("tcp", socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0))
        # What a function was granted: whoever comes here is not away from where it may be.
        self._granted = self._open("granted", socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0))
        self.through: set[str] = set()
        where = ("127.0.0.1", self.where["granted"])
        self._open("udp_granted", socket.AF_INET, socket.SOCK_DGRAM, where)
        self._open("tcp_new", socket.AF_INET6, socket.SOCK_STREAM, ("::1", 0))
        self._open("udp", socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0))
        self._answers.add(self._open("dns", socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0)))
        for name, kind in (("socket", socket.SOCK_STREAM), ("datagram", socket.SOCK_DGRAM)):
            path = folder / name
            self._open(f"path_{name}", socket.AF_UNIX, kind, str(path))
            path.chmod(0o777)
            self.where[f"path_{name}"] = str(path)
        self._open("abstract", socket.AF_UNIX, socket.SOCK_STREAM, f"\0{word}")
        self.where["abstract_socket"] = word
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _open(self, name: str, family: int, kind: int, address: Any) -> socket.socket:
        door = socket.socket(family, kind)
        door.bind(address)
        if kind == socket.SOCK_STREAM:
            door.listen()
        self._doors.append(door)
        if family != socket.AF_UNIX:
            self.where[name] = door.getsockname()[1]
        return door

    def _serve(self) -> None:
        while True:
            ready, _, _ = select.select([self._end, *self._doors, *self._links], [], [])
            if self._end in ready:
                return
            for each in ready:
                if each in self._links:
                    self._hear(each)
                elif each.type == socket.SOCK_STREAM:
                    link = each.accept()[0]
                    self._links.append(link)
                    if each is self._granted:
                        self._carried.add(link)
                else:
                    data, address = each.recvfrom(READ_BYTES)
                    if each in self._answers:
                        self._resolve(each, data, address)
                    else:
                        self.heard.add(data.decode())

    def _hear(self, link: socket.socket) -> None:
        data = link.recv(READ_BYTES)
        if data:
            (self.through if link in self._carried else self.heard).add(data.decode())
        else:
            self._links.remove(link)
            link.close()

    def _resolve(self, door: socket.socket, question: bytes, address: Any) -> None:
        """Answer a question of a resolver with an address; its first label is who asked."""
        self.heard.add(question[13 : 13 + question[12]].decode().replace("-", "_"))
        end = question.index(0, 12) + 5
        header = question[:2] + bytes.fromhex("81800001000100000000")
        answer = bytes.fromhex("c00c00010001000000010004") + socket.inet_aton("192.0.2.1")
        door.sendto(header + question[12:end] + answer, address)

    def close(self) -> None:
        """Close all."""
        os.write(self._ended, b".")
        self._thread.join()
        for each in (*self._doors, *self._links):
            each.close()
        for end in (self._end, self._ended):
            os.close(end)


class Terminal:
    """A terminal that somebody of the user works at."""

    def __init__(self, user: int) -> None:
        """Make it; the one who works at it reads nothing, so all that is typed stays visible."""
        self.master, slave = os.openpty()
        self.path = os.ttyname(slave)
        # The path would be gone with its last descriptor.
        self._slave = slave
        os.fchown(slave, user, -1)
        self._shown = b""

    def shown(self) -> bytes:
        """Return all that was shown on it, what was typed included, as a terminal echoes it."""
        while select.select([self.master], [], [], 0)[0]:
            self._shown += os.read(self.master, READ_BYTES)
        return self._shown

    def close(self) -> None:
        """Give it back."""
        os.close(self.master)
        os.close(self._slave)
