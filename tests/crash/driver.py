"""The command line with a defect planted in it, in a process of its own.

    python -m tests.crash.driver SABOTAGE WORDS...

Each sabotage is one that the campaign's check has to catch.
"""

from __future__ import annotations

import os
import sqlite3
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runwright.adapters import sqlite as store_module
from runwright.cli.main import main
from runwright.kernel.drive import conductor as driving
from runwright.kernel.drive import execution as executing
from runwright.kernel.drive import writer as writing
from runwright.kernel.drive.execution import Execution
from runwright.kernel.errors import CommitUnknown
from runwright.kernel.ports import Batch
from tests.e2e.project import until


class LateExecution(Execution):
    """Starts a run and records that it started once it has acted."""

    def _start(self, runs: Sequence[Any], lanes: Any, place: Any) -> None:
        places = [Path.cwd().parent / "effects" / run.key for run in runs]
        before = [_lines(path) for path in places]
        commit, self._commit = self._commit, lambda: None  # type: ignore[method-assign]
        super()._start(runs, lanes, place)
        self._commit = commit  # type: ignore[method-assign]
        until(lambda: all(map(int.__lt__, before, map(_lines, places))), "they acted")
        if self._pending.drafts:
            self._commit()


def _lines(path: Path) -> int:
    return len(path.read_text().splitlines()) if path.exists() else 0


class EagerPending(executing.Pending):
    """Says what happened before it is durable."""

    def commit(self, writer: Any) -> int:
        unsaid, self._unsaid = self._unsaid, []
        for event, fields in unsaid:
            self._messages(event, **fields)
        return super().commit(writer)


def split(commit: Any) -> Any:
    """Return a commit that writes the entries first and what they change after."""

    def commit_split(self: Any, batch: Batch) -> None:
        rows, batch.rows = batch.rows, []
        commit(self, batch)
        if rows:
            commit(self, Batch(rows=rows))

    return commit_split


class Doubtful:
    """A connection whose k-th COMMIT raises after it is on the disk.

    Each BEGIN after that is announced: there must be none.
    """

    def __init__(self, inner: sqlite3.Connection, at: int) -> None:
        self._inner = inner
        self._left = at

    def execute(self, statement: str, *values: Any) -> Any:
        if self._left == 0 and statement.startswith("BEGIN"):
            os.write(1, b"began again\n")
        done = self._inner.execute(statement, *values)
        if statement == "COMMIT":
            self._left -= 1
            if self._left == 0:
                message = "disk I/O error"
                raise sqlite3.OperationalError(message)
        return done

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def doubtful(at: int) -> None:
    """Make the k-th COMMIT of every store raise although it is durable."""
    connect = store_module.SqliteStore._connect

    def connected(self: Any, *, read_only: bool) -> Any:
        db = connect(self, read_only=read_only)
        return db if read_only else Doubtful(db, at)

    store_module.SqliteStore._connect = connected  # type: ignore[method-assign]


def careless(self: Any, batch: Batch) -> None:
    """Write a batch and take a COMMIT that raised for one that worked."""
    try:
        self._store.commit(batch)
    except CommitUnknown:
        return


def leave_open(*args: Any, **fields: Any) -> None:
    """Do not end what had started before a crash, so that it is run again."""


def sabotage(word: str) -> None:
    """Plant one defect, or several joined by a plus sign."""
    for name in word.split("+"):
        if name == "late":
            driving.Execution = LateExecution  # type: ignore[misc]
        elif name == "eager":
            driving.Pending = EagerPending  # type: ignore[misc]
        elif name == "split":
            store = store_module.SqliteStore
            store.commit = split(store.commit)  # type: ignore[method-assign]
        elif name == "repeating":
            driving.add_interrupted = leave_open
        elif name == "careless":
            writing.Writer._write = careless  # type: ignore[method-assign]
        elif name.startswith("doubtful-"):
            doubtful(int(name.removeprefix("doubtful-")))
        else:
            raise ValueError(name)


if __name__ == "__main__":
    sabotage(sys.argv[1])
    del sys.argv[1]
    main()
