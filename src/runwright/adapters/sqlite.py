"""The default store: one SQLite file in WAL mode, every commit flushed.

The holder of the lease (an flock on a file beside the store, released when the process dies) is the
only one that commits entries. Everybody may insert a request. A second writer that got past the
lease would meet the primary key of `entry` and stop.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from runwright.adapters.blocks import blocks
from runwright.kernel.errors import (
    CommitUnknown,
    RunwrightError,
    StoreBusy,
    StoreCorrupt,
    StoreMissing,
    StoreUnwritable,
    StoreVersion,
    Usage,
    require,
)
from runwright.kernel.ports import Batch, Request, Row, SealRow, StoredEntry, Table
from runwright.kernel.run import Content

#: The version of the schema, in `PRAGMA user_version`.
SCHEMA_VERSION: Final = 3
#: "RWL1" in `PRAGMA application_id`, so that `file` and others can tell.
APPLICATION_ID: Final = 0x52574C31
#: Milliseconds a statement waits for another connection.
BUSY_MS: Final = 5_000
#: Pages of the log that are merged into the file at once. With more, those that change again and
#: again are written once; with fewer, the log is written over sooner, and growing it costs a flush.
CHECKPOINT_PAGES: Final = 2_000
#: Pages after which a commit merges them, when whoever commits calls `merge` at a better moment.
CHECKPOINT_PAGES_LATE: Final = 8_000
#: About the bytes that `merge` waits for, and how many of them a row of a table stands for.
_MERGED_MIN: Final = 8 * 1024**2
_ROW_BYTES: Final = 1_024
#: What stands in the text of every view of ours.
VIEW_MARK: Final = "-- Runwright: "
_READ_CHUNK: Final = 4_096


_SQL: Final = blocks(Path(__file__).with_suffix(".sql"))


class FileLease:
    """An exclusive flock on a file; it ends with the process that holds it."""

    def __init__(self, path: Path) -> None:
        """Take the lock. Raises: store-busy."""
        try:
            self._fd: int | None = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            message = f"{path}: {error.strerror}"
            raise StoreUnwritable(message) from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(self._fd, 32, 0).decode("ascii", "replace").strip() or "?"
            os.close(self._fd)
            self._fd = None
            message = f"Another conductor (process {holder}) holds {path.with_suffix('')}"
            raise StoreBusy(message) from error
        # Who holds it is for people; the lock itself needs no space on the disk.
        with contextlib.suppress(OSError):
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Give it up."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


class SqliteStore:
    """The Store port on one SQLite file."""

    kind: Final = "sqlite"

    def __init__(
        self,
        path: Path,
        *,
        tables: Sequence[Table] = (),
        create: bool = False,
        read_only: bool = False,
    ) -> None:
        """Open the file, or create it with the kernel's tables and the workloads'.

        Raises: store-missing, store-version, store-corrupt, store-unwritable.
        """
        self.path = path
        self._tables = {table.name: table for table in tables}
        self._upserts: dict[tuple[Any, ...], tuple[str, tuple[str, ...]]] = {}
        self._queries: dict[_Asked, tuple[str, Sequence[str]]] = {}
        #: About the bytes that stand in the log alone; None while commits merge them.
        self._unmerged: int | None = None
        exists = path.exists()
        if not exists and not create:
            message = f"There is no store at {path}"
            raise StoreMissing(message)
        if exists and create:
            message = f"There is a store at {path} already"
            raise Usage(message)
        try:
            self._db = self._connect(read_only=read_only)
            if create:
                self._create()
            else:
                self._check_version()
        except sqlite3.DatabaseError as error:
            raise _translate(error, path) from error
        except RunwrightError:
            # Left open, it would leave its two files beside a store that is not ours to touch.
            self._db.close()
            raise

    @property
    def name(self) -> str:
        """What messages call it."""
        return str(self.path)

    def _connect(self, *, read_only: bool) -> sqlite3.Connection:
        if read_only and not os.access(self.path, os.W_OK):
            log = self.path.with_name(self.path.name + "-wal")
            # A log that was not merged holds commits that an immutable reader would not see.
            has_log = log.exists() and log.stat().st_size > 0
            still = "" if has_log else "&immutable=1"
            uri = f"{self.path.absolute().as_uri()}?mode=ro{still}"
            return sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
        db = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        db.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
        if read_only:
            db.execute("PRAGMA query_only = 1")
        else:
            db.execute("PRAGMA synchronous = FULL")
            db.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        return db

    def _create(self) -> None:
        self.path.chmod(0o600)
        self._db.execute("PRAGMA journal_mode = WAL")
        ddl = [_SQL["create"], *map(self._ddl, self._tables.values())]
        script = ";\n".join(text.rstrip().rstrip(";") for text in ddl)
        self._db.executescript(
            f"BEGIN IMMEDIATE;\n{script};\n"
            f"PRAGMA application_id = {APPLICATION_ID};\n"
            f"PRAGMA user_version = {SCHEMA_VERSION};\nCOMMIT;"
        )

    def _ddl(self, table: Table) -> str:
        return blocks(table.sql)[f"{table.name} {self.kind}"]

    def adopted(self) -> list[dict[str, Any]]:
        """Return the tables of a site that are read in the place of ours: none in a file."""
        return []

    def install_views(self, tables: Sequence[Table]) -> list[str]:
        """Make the views anew, all of them or none; return their names.

        Raises: usage when something that is not ours has the name of one.
        """
        views = [table for table in tables if table.is_view]
        script = "".join(f"DROP VIEW IF EXISTS {view.name};\n{self._ddl(view)}\n" for view in views)
        with self._changing_schema():
            self._refuse_taken(views)
            for statement in _statements(script):
                self._db.execute(statement)
        return [view.name for view in views]

    def uninstall_views(self, tables: Sequence[Table]) -> list[str]:
        """Take down the views that are ours; return their names."""
        with self._changing_schema():
            ours = [table.name for table in tables if table.is_view and self._is_ours(table.name)]
            for name in ours:
                self._db.execute(f"DROP VIEW {name}")
        return ours

    @contextlib.contextmanager
    def _changing_schema(self) -> Iterator[None]:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            raise _translate(error, self.path) from error

    def _refuse_taken(self, views: Sequence[Table]) -> None:
        for view in views:
            if self._is_ours(view.name) is False:
                message = f"{self.path}: {view.name} is there already and is not ours"
                raise Usage(message, hint="Give it another name, or drop it, and try again.")

    def _is_ours(self, name: str) -> bool | None:
        """Say whether a view was made here; None when nothing has the name."""
        rows = self._one("SELECT type, sql FROM sqlite_master WHERE name = ?", (name,))
        return (rows[0][0] == "view" and VIEW_MARK in rows[0][1]) if rows else None

    def _check_version(self) -> None:
        (application,) = self._db.execute("PRAGMA application_id").fetchone()
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if application != APPLICATION_ID:
            message = f"{self.path} is not a Runwright store"
            raise StoreMissing(message)
        if version != SCHEMA_VERSION:
            age = "a newer" if version > SCHEMA_VERSION else "an older"
            message = (
                f"{self.path} was written by {age} version of Runwright "
                f"(schema {version}; this one reads {SCHEMA_VERSION})"
            )
            raise StoreVersion(message)

    # ------------------------------------------------------------------------------ the writer

    def lease(self) -> FileLease:
        """Take the right to conduct. Raises: store-busy."""
        return FileLease(self.path.with_name(self.path.name + ".lease"))

    def holder(self) -> str:
        """Return who conducts; empty when nobody does. Raises: store-unwritable."""
        try:
            self.lease().release()
        except StoreBusy as error:
            return str(error)
        return ""

    def commit(self, batch: Batch) -> None:
        """Write a batch in one flushed transaction.

        Raises: store-unwritable, store-corrupt, commit-unknown.
        """
        if batch.failure is not None:
            raise batch.failure
        db = self._db
        try:
            db.execute("BEGIN IMMEDIATE")
            try:
                self._write(batch)
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            failure = _translate(error, self.path)
            if isinstance(failure, StoreBusy):
                # Not for the writer to wait longer: it holds entries that it cannot write.
                raise StoreUnwritable(str(failure)) from error
            raise failure from error
        try:
            db.execute("COMMIT")
        except sqlite3.Error as error:
            message = f"COMMIT on {self.path} raised: {error}"
            raise CommitUnknown(message) from error
        if self._unmerged is not None:
            self._unmerged += _weight(batch)

    def merge(self) -> None:
        """Merge the log of SQLite into the file when it is long, so that no commit has to.

        That takes some 20 ms, which whoever calls this has now. What others read just now stays in
        the log, where it is as durable. Raises: store-unwritable.
        """
        if self._unmerged is None:
            self._db.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES_LATE}")
        elif self._unmerged < _MERGED_MIN:
            return
        self._unmerged = 0
        try:
            self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        except sqlite3.Error as error:
            failure = _translate(error, self.path)
            if not isinstance(failure, StoreBusy):
                raise failure from error

    def _write(self, batch: Batch) -> None:
        db = self._db
        if batch.entries:
            # Asked once for a commit: a trigger that asks for each entry costs a tenth of the rate.
            ((size,),) = db.execute(_SQL["size"]).fetchall()
            rows = [*map(msgspec.structs.astuple, batch.entries)]
            if [row[0] for row in rows] != list(range(size, size + len(rows))):
                message = f"{self.path}: the entries to write do not continue at seq {size}"
                raise StoreCorrupt(message)
            db.executemany(_SQL["insert-entry"], rows)
        if batch.tiles:
            db.executemany(
                _SQL["insert-tile"], [(tile.level, tile.index, tile.hash) for tile in batch.tiles]
            )
        for block in batch.blocks:
            place = (block.log, block.first_seq - 1)
            added = db.execute(_SQL["insert-block"], (*msgspec.structs.astuple(block), *place))
            if added.rowcount != 1:
                message = f"{self.path}: log {block.log} does not end before {block.first_seq}"
                raise StoreCorrupt(message)
        for span in batch.retired:
            gone = (span.log, span.first_seq, span.last_seq, span.first_seq)
            db.execute(_SQL["retire-blocks"], gone)
        if batch.contents:
            values = [(item.digest, item.salt, item.data) for item in batch.contents]
            db.executemany(_SQL["insert-blob"], values)
        for name in batch.emptied:
            db.execute(f'DELETE FROM "{self._table(name).name}"')  # noqa: S608 - a name of ours
        for _, group in itertools.groupby(batch.rows, _shape):
            rows_of_one = list(group)
            statement, columns = self._upsert(rows_of_one[0])
            bound = [[row.values[column] for column in columns] for row in rows_of_one]
            db.executemany(statement, bound)
        if batch.seals:
            db.executemany(
                _SQL["insert-seal"], [(seal.size, seal.root, seal.note) for seal in batch.seals]
            )
        if batch.erased:
            db.executemany(_SQL["erase-blob"], [(digest,) for digest in batch.erased])

    def _upsert(self, row: Row) -> tuple[str, tuple[str, ...]]:
        """Return the statement for the columns of a row, made once for each shape."""
        shape, columns = _shape(row), tuple(row.values)
        known = self._upserts.get(shape)
        if known is None:
            table = self._table(row.table)
            unknown = set(columns) - set(table.columns)
            require(not unknown, f"table {row.table} has no columns {sorted(unknown)}")
            names = ", ".join(f'"{name}"' for name in columns)
            marks = ", ".join("?" for _ in columns)
            changed = [name for name in columns if name not in table.key]
            if row.update:
                sets = ", ".join(f'"{name}" = ?' for name in changed)
                tests = " AND ".join(f'"{name}" = ?' for name in table.key)
                # Names of tables and columns are ours; values are always bound.
                known = f'UPDATE "{row.table}" SET {sets} WHERE {tests}', (*changed, *table.key)  # noqa: S608
                self._upserts[shape] = known
                return known
            if set(table.key) <= set(columns):
                key = ", ".join(f'"{name}"' for name in table.key)
                sets = ", ".join(f'"{name}" = excluded."{name}"' for name in changed)
                action = f"UPDATE SET {sets}" if sets else "NOTHING"
                tail = f" ON CONFLICT ({key}) DO {action}"
            else:
                tail = ""
            known = f'INSERT INTO "{row.table}" ({names}) VALUES ({marks}){tail}', columns  # noqa: S608
            self._upserts[shape] = known
        return known

    def _table(self, name: str) -> Table:
        table = self._tables.get(name)
        if table is None:
            info = self._db.execute("SELECT name, pk FROM pragma_table_info(?)", (name,)).fetchall()
            require(info, f"there is no table {name}")
            key = tuple(column for column, place in info if place)
            table = Table(name=name, columns=tuple(column for column, _ in info), key=key)
            self._tables[name] = table
        return table

    # ------------------------------------------------------------------------------ everybody

    def submit(self, request: Request) -> None:
        """Insert a request in a transaction of its own."""
        values = (
            request.id,
            request.kind,
            request.body,
            request.created_ms,
            request.by,
            request.reply,
        )
        try:
            self._db.execute(_SQL["insert-request"], values)
        except sqlite3.Error as error:
            raise _translate(error, self.path) from error

    def size(self) -> int:
        """Return how many entries there are."""
        return int(self._one(_SQL["size"])[0][0])

    def entries(self, start: int = 0, stop: int | None = None) -> Iterator[StoredEntry]:
        """Yield the entries with start <= seq < stop, in order."""
        low, last = start, (self.size() if stop is None else stop) - 1
        # From row to row, not from seq to seq: a row put in far away would make that endless.
        while low <= last and (rows := self._one(_SQL["entries"], (low, last, _READ_CHUNK))):
            yield from itertools.starmap(StoredEntry, rows)
            low = rows[-1][0] + 1

    def tiles(self, level: int, start: int, stop: int) -> list[bytes]:
        """Return the hashes of full subtrees of a level (0: leaves)."""
        if level == 0:
            rows = self._one(_SQL["leaves"], (start, stop))
        else:
            rows = self._one(_SQL["tiles"], (level, start, stop))
        return [row[0] for row in rows]

    def seals(self, *, latest: bool = False) -> list[SealRow]:
        """Return the seals by size, or the newest one only."""
        rows = self._one(_SQL["latest-seal" if latest else "seals"])
        # What is no text any more is for verification to refuse, not for the store.
        return [SealRow(size, root, note.decode(errors="replace")) for size, root, note in rows]

    def blob(self, digest: str) -> Content | None:
        """Return kept bytes; None when erased or never kept."""
        rows = self._one(_SQL["blob"], (digest,))
        if not rows:
            return None
        return Content(digest=rows[0][0], data=rows[0][1], salt=rows[0][2])

    def rows(
        self,
        table: str,
        where: Mapping[str, Any] | None = None,
        *,
        order: str = "",
        limit: int = 0,
        after: Mapping[str, Any] | None = None,
        columns: Sequence[str] = (),
    ) -> list[dict[str, Any]]:
        """Return rows whose columns equal `where` and lie above `after`."""
        where, after = where or {}, after or {}
        nulls = tuple([name for name, value in where.items() if value is None])
        asked = _Asked(table, (*where,), nulls, order, limit, (*after,), (*columns,))
        known = self._queries.get(asked)
        if known is None:
            known = self._queries[asked] = self._query(asked)
        statement, shown = known
        values = [value for value in where.values() if value is not None]
        values += after.values()
        return [dict(zip(shown, row, strict=True)) for row in self._one(statement, values)]

    def _query(self, asked: _Asked) -> tuple[str, Sequence[str]]:
        """Return the statement that asks for rows, and the columns that it gives."""
        held, order = self._table(asked.table), asked.order
        by = [order.removeprefix("-")] if order else []
        unknown = {*asked.where, *asked.after, *by, *asked.columns} - set(held.columns)
        require(not unknown, f"table {asked.table} has no columns {sorted(unknown)}")
        lacking = set(asked.after) & set(held.types)
        require(not lacking, f"{sorted(asked.after)} have no order on every store")
        shown = asked.columns or held.columns
        names = ", ".join(f'"{name}"' for name in shown)
        # Names of tables and columns are checked against the schema; values are always bound.
        statement = f'SELECT {names} FROM "{asked.table}"'  # noqa: S608
        tests = [
            f'"{name}" IS NULL' if name in asked.nulls else f'"{name}" = ?' for name in asked.where
        ]
        tests += [f'"{name}" > ?' for name in asked.after]
        if tests:
            statement += " WHERE " + " AND ".join(tests)
        if order:
            statement += f' ORDER BY "{by[0]}"' + (" DESC" * (order[0] == "-"))
        if asked.limit:
            statement += f" LIMIT {int(asked.limit)}"
        return statement, shown

    def version(self) -> int:
        """Return the version of the schema."""
        return int(self._one("PRAGMA user_version")[0][0])

    def migrate(self) -> list[str]:
        """Return the names of the migrations that were made: the first schema has none."""
        require(self.version() == SCHEMA_VERSION, "opening checked the version")
        return []

    def check(self) -> list[str]:
        """Return what SQLite's own check finds wrong with the file; nothing when it is sound."""
        found = [row[0] for row in self._one("PRAGMA integrity_check")]
        return [] if found == ["ok"] else found

    def _one(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        try:
            return self._db.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise _translate(error, self.path) from error

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()


class _Asked(NamedTuple):
    """By which statement rows are asked for."""

    table: str
    where: tuple[str, ...]
    #: Those of `where` that are to be NULL.
    nulls: tuple[str, ...]
    order: str
    limit: int
    after: tuple[str, ...]
    columns: tuple[str, ...]


def _shape(row: Row) -> tuple[Any, ...]:
    """Return what says by which statement a row is written."""
    return (row.table, row.update, *row.values)


def _statements(script: str) -> Iterator[str]:
    """Yield the statements of a script, one by one."""
    statement = ""
    for line in script.splitlines():
        statement += line + "\n"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _weight(batch: Batch) -> int:
    """Return about how many bytes of the log a batch takes."""
    blocks = sum(len(block.head) + block.size for block in batch.blocks)
    contents = sum(len(item.data) for item in batch.contents)
    return blocks + contents + _ROW_BYTES * (len(batch.entries) + len(batch.rows))


def _translate(
    error: sqlite3.Error, path: Path
) -> StoreUnwritable | StoreCorrupt | StoreBusy | StoreMissing:
    """Return our error for one of SQLite's that was raised before any COMMIT."""
    name = getattr(error, "sqlite_errorname", "") or ""
    message = f"{path}: {error}"
    if name.startswith(("SQLITE_CONSTRAINT", "SQLITE_CORRUPT")):
        return StoreCorrupt(message)
    if name.startswith("SQLITE_NOTADB"):
        return StoreMissing(f"{path} is not a Runwright store: {error}")
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return StoreBusy(message)
    if name.startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY")):
        return StoreUnwritable(f"{path} is on a read-only file system, or may not be written")
    return StoreUnwritable(message)
