"""A statement that one connection executes again and again, without a cursor of psycopg.

A cursor looks at the type of each value and of each answer anew, which takes four times as long as
all the rest of inserting a row. What is sent here is what a cursor would send: the statement is
prepared once, a transaction of its own, and executed with its values in binary form.
"""

from __future__ import annotations

import select
from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg import errors as pg
from psycopg.pq import DiagnosticField, ExecStatus

#: Statuses of a statement that was executed.
_DONE = (ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK)
_BINARY = 1


class Prepared:
    """One statement on one connection, whose values are all of known types."""

    def __init__(self, db: psycopg.Connection[Any], name: str, statement: bytes) -> None:
        """Prepare nothing yet; the marks of `statement` are those of the server: $1 and so on."""
        self._db = db
        self._name = name.encode()
        self._statement = statement
        self._is_prepared = False
        self._poll = select.poll()

    def execute(self, values: Sequence[bytes]) -> None:
        """Execute it with values in binary form; rows are not handed on. Raises: psycopg.Error."""
        try:
            if not self._is_prepared:
                self._prepare()
            try:
                self._send(values)
            except pg.InvalidSqlStatementName:
                # psycopg lets all statements go after a ROLLBACK; this one was not executed.
                self._prepare()
                self._send(values)
        except pg.Error:
            raise
        except BaseException:
            # Interrupted between question and answer, it can be asked nothing more.
            self._db.close()
            raise

    def _prepare(self) -> None:
        if not self._is_prepared:
            self._poll.register(self._db.pgconn.socket, select.POLLIN)
        self._db.pgconn.send_prepare(self._name, self._statement)
        self._finish()
        self._is_prepared = True

    def _send(self, values: Sequence[bytes]) -> None:
        self._db.pgconn.send_query_prepared(self._name, values, [_BINARY] * len(values))
        self._finish()

    def _finish(self) -> None:
        """Wait for the answer. Raises: psycopg.Error for one that says no, or never comes."""
        libpq = self._db.pgconn
        while libpq.flush():
            # What the server says must be read, or it takes no more.
            self._poll.modify(libpq.socket, select.POLLIN | select.POLLOUT)
            self._poll.poll()
            libpq.consume_input()
            self._poll.modify(libpq.socket, select.POLLIN)
        failure: pg.Error | None = None
        while True:
            while libpq.is_busy():
                self._poll.poll()
                libpq.consume_input()
            result = libpq.get_result()
            if result is None:
                break
            if result.status not in _DONE:
                failure = _error(result)
        if failure is not None:
            raise failure


def _error(result: Any) -> pg.Error:
    """Return what the server said as the error that a cursor would have raised."""
    state = (result.error_field(DiagnosticField.SQLSTATE) or b"").decode()
    text = result.error_message.decode(errors="replace").strip()
    if not state:
        # The connection broke: nobody said anything.
        return pg.OperationalError(text)
    try:
        return pg.lookup(state)(text)
    except KeyError:
        return pg.DatabaseError(f"{state}: {text}")
