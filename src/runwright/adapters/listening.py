"""A bell over PostgreSQL: LISTEN on a channel, NOTIFY to ring it, from any machine.

A notification is a hint and carries nothing. It is sent in a transaction of its own, after the one
that it is about: sent inside, it would put the commits of all submitters in one row.
"""

from __future__ import annotations

import contextlib
import os
import select
from typing import Final, NamedTuple

import psycopg

from runwright.adapters.libpq import Target, connect, translate
from runwright.adapters.postgres import SQL

#: Bytes of the name of a channel; PostgreSQL refuses a longer one.
CHANNEL_MAX: Final = 63


class Channel(NamedTuple):
    """Where to listen or to knock."""

    target: Target
    name: str

    def __str__(self) -> str:
        return self.name


class ListeningBell:
    """The Bell port on a channel of a database."""

    def __init__(self, channel: Channel) -> None:
        """Hang the bell. Raises: store-unreachable."""
        self._name = channel.target.name
        self._db = connect(channel.target, SQL["session"], role="runwright bell")
        self._db.execute(f'LISTEN "{channel.name}"'.encode())
        #: Notifications that came with the answer to another statement.
        self._heard = False
        self._db.add_notify_handler(self._hear)
        self._wake_read, self._wake_write = os.pipe()
        for descriptor in (self._wake_read, self._wake_write):
            os.set_blocking(descriptor, False)

    def _hear(self, _notify: psycopg.Notify) -> None:
        self._heard = True

    def wait(self, timeout_s: float | None) -> bool:
        """Wait until somebody rings, `wake` is called or time is up; True when rung or woken.

        Raises: store-unreachable when the server is gone, and nobody could ring.
        """
        if self._heard:
            self._heard = False
            return True
        try:
            link = self._db.fileno()
            ready, _, _ = select.select([link, self._wake_read], [], [], timeout_s)
            if self._wake_read in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._wake_read, 4096)
            if link in ready:
                self._db.pgconn.consume_input()
                while self._db.pgconn.notifies() is not None:
                    pass
        except psycopg.Error as error:
            raise translate(error, self._name) from error
        return bool(ready)

    def wake(self) -> None:
        """Make `wait` return; safe in a signal handler."""
        with contextlib.suppress(BlockingIOError, OSError):
            os.write(self._wake_write, b"!")

    def ring(self, address: str) -> None:
        """Wake whoever listens on a channel; nobody there is nothing."""
        if len(address.encode()) > CHANNEL_MAX:
            # An application may insert any text as its address.
            return
        try:
            self._db.execute(b"SELECT pg_notify(%s, '')", (address,))
        except psycopg.Error as error:
            raise translate(error, self._name) from error

    def close(self) -> None:
        """Take the bell down."""
        self._db.close()
        for descriptor in (self._wake_read, self._wake_write):
            with contextlib.suppress(OSError):
                os.close(descriptor)
        # Whoever wakes a bell that was taken down must not write into what has its number now.
        self._wake_write = -1


def ring(channel: Channel) -> None:
    """Knock at a channel; a knock that is lost costs a look later."""
    with contextlib.suppress(psycopg.Error):
        db = connect(channel.target, SQL["session"], role="runwright knock")
        with contextlib.closing(db):
            db.execute(b"SELECT pg_notify(%s, '')", (channel.name,))
