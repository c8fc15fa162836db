"""The shared store: a schema of a PostgreSQL database, for several machines and many submitters.

Everybody inserts requests in transactions of their own. One conductor holds the lease: a session
advisory lock, free as soon as its connection ends, and a token that grows with each holder. Every
commit reads the token in its own transaction, so that a conductor that lost its lease, whether it
noticed or not, never appends. A connection that broke is never made again behind the writer's back:
the next start reads what was kept.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import starmap
from pathlib import Path
from typing import Any, Final, NamedTuple, NoReturn

import msgspec
import psycopg
from psycopg import errors as pg

from runwright.adapters.adopted import Given, Relation, problem_of, selected
from runwright.adapters.blocks import blocks
from runwright.adapters.libpq import Target, connect, translate
from runwright.adapters.prepared import Prepared
from runwright.kernel.errors import (
    CommitUnknown,
    InvalidSetting,
    LeaseLost,
    RunwrightError,
    StoreBusy,
    StoreCorrupt,
    StoreMissing,
    StoreVersion,
    Usage,
    require,
)
from runwright.kernel.ports import Batch, Lease, Request, Row, SealRow, StoredEntry, Table
from runwright.kernel.run import Content

#: The version of the schema, in the table `about`.
SCHEMA_VERSION: Final = 3
PRODUCT: Final = "runwright"
_READ_CHUNK: Final = 4_096
_BIGINT_BYTES: Final = 8
#: Statements as bytes: psycopg takes text only where it is written down in the code.
SQL: Final[Mapping[str, bytes]] = {
    name: text.encode() for name, text in blocks(Path(__file__).with_suffix(".sql")).items()
}

#: Type of a column -> how it is read, and how a value is written.
_READ: Final[Mapping[str, str]] = {
    "jsonb": '"{0}"::text',
    "json": '"{0}"::text',
    "boolean": '"{0}"::integer',
    "numeric": '"{0}"::text',
    "timestamp with time zone": (
        "rtrim(rtrim(to_char(\"{0}\" AT TIME ZONE 'UTC', "
        "'YYYY-MM-DD\"T\"HH24:MI:SS.US'), '0'), '.') || 'Z'"
    ),
}
_WRITTEN: Final[Mapping[str, str]] = {
    "jsonb": "%s::jsonb",
    "json": "%s::json",
    "boolean": "(%s::integer)::boolean",
    "numeric": "%s::numeric",
    "timestamp with time zone": "%s::timestamptz",
}
_TEXTS: Final = frozenset({"text", "character varying", "character"})
#: Sorted and without spaces: jsonb keeps neither the order nor the spaces of what was written.
_JSON_IN: Final = msgspec.json.Decoder(float_hook=Decimal)
_JSON_OUT: Final = msgspec.json.Encoder(order="sorted", decimal_format="number")


class Column(NamedTuple):
    """A column, as the catalogue describes it."""

    name: str
    type: str
    is_required: bool
    is_key: bool


class Place(NamedTuple):
    """A table: where it stands, and its columns by name."""

    #: Quoted, with its schema.
    sql: str
    columns: Mapping[str, Column]

    @property
    def key(self) -> list[str]:
        """The columns of the primary key."""
        return [column.name for column in self.columns.values() if column.is_key]


class Layout(NamedTuple):
    """The tables of workloads, and where they stand."""

    #: Asked when a store is made, or a site's table is read.
    tables: Callable[[], Sequence[Table]] = tuple
    #: "governance" and others -> their schemas.
    schemas: Mapping[str, str] = {}
    #: Table -> "schema.table" of a site that is read in its place.
    adopted: Mapping[str, str] = {}


class PostgresLease:
    """An advisory lock of a connection of its own; it ends with that connection."""

    def __init__(self, store: PostgresStore) -> None:
        """Take the lock and the next token. Raises: store-busy."""
        self._store: PostgresStore | None = None
        db = connect(store.target, SQL["session"], role="runwright lease")
        try:
            ((is_free,),) = db.execute(SQL["try-lock"], (store.lock,)).fetchall()
            if not is_free:
                raise StoreBusy(store.busy(db.execute(SQL["last-holder"]).fetchall()))
            # Waits for a commit of the last holder that is under way.
            holder = (os.getpid(), socket.gethostname())
            ((self.token,),) = db.execute(SQL["take-lease"], holder).fetchall()
        except pg.LockNotAvailable as error:
            db.close()
            message = f"{store.name}: a commit of the last conductor is still under way"
            raise StoreBusy(message) from error
        except psycopg.Error as error:
            db.close()
            raise translate(error, store.name) from error
        except BaseException:
            db.close()
            raise
        self._db = db
        self._store = store

    def release(self) -> None:
        """Give it up."""
        if self._store is not None:
            # Closing is noticed by the server a moment later, and the next may ask before.
            with contextlib.suppress(psycopg.Error):
                self._db.execute(SQL["unlock"])
            self._db.close()
            self._store.token = None
            self._store = None


class _NewLease:
    """What conducts a store that is being made: nobody else sees it yet."""

    def release(self) -> None:
        """Keep it until the store is there."""


class PostgresStore:
    """The Store port on one schema of a PostgreSQL database."""

    kind: Final = "postgres"

    def __init__(
        self,
        target: Target,
        *,
        layout: Layout | None = None,
        create: bool = False,
        read_only: bool = False,
        unwritten: Callable[[Batch, RunwrightError], str] | None = None,
    ) -> None:
        """Open the store, or begin to make it: it is there once `finish` was called.

        `unwritten` keeps a batch that could not be committed and returns where.

        Raises: store-missing, store-version, store-unreachable, store-busy, usage, invalid-setting.
        """
        self.target = target
        self.name = target.name
        self.lock = int.from_bytes(
            hashlib.sha256(f"runwright lease {target.schema}".encode()).digest()[:8],
            signed=True,
        )
        #: The token of the lease that this store holds.
        self.token: int | None = None
        self._unwritten = unwritten
        self._places: dict[str, Place] = {}
        self._schemas: dict[str, str] = {}
        self._adopted: dict[str, Relation] = {}
        self._layout = layout or Layout()
        self._upserts: dict[str, tuple[str, tuple[str, ...], tuple[Column, ...]]] = {}
        self._is_new = create
        self._db = connect(target, SQL["session"], read_only=read_only)
        self._submitting = Prepared(self._db, "runwright_submit", SQL["insert-request"])
        try:
            if create:
                self._create(self._layout)
            else:
                self._check_version()
            self._read_places()
            self._check_remembered(self._layout.adopted)
        except psycopg.Error as error:
            self._db.close()
            raise translate(error, self.name) from error
        except RunwrightError:
            self._db.close()
            raise

    @property
    def host_key(self) -> tuple[int, int]:
        """The lock as the two halves that pg_locks shows."""
        plain = self.lock % (1 << 64)
        return plain >> 32, plain & 0xFFFFFFFF

    def _read_places(self) -> None:
        """Learn where the tables of workloads stand."""
        rows = self._db.execute(SQL["places"]).fetchall()
        self._schemas = {name: schema for name, schema, relation in rows if not relation}
        self._adopted = {
            name: Relation(schema, relation) for name, schema, relation in rows if relation
        }

    def _check_remembered(self, adopted: Mapping[str, str]) -> None:
        """Refuse a setting that says something else than what `init` was told."""
        for name, wanted in adopted.items():
            stands = self._adopted[name].text if name in self._adopted else "a table of its own"
            if stands != wanted:
                message = f"{self.name}: registry.table says {wanted}; the store reads {stands}"
                hint = "What `init` was told stands: take the setting back, or make another store."
                raise InvalidSetting(message, hint=hint)

    def _create(self, layout: Layout) -> None:
        """Begin the one transaction that makes everything."""
        db, schema = self._db, self.target.schema
        db.execute("BEGIN")
        ((is_free,),) = db.execute(SQL["try-lock-once"], (self.lock,)).fetchall()
        if not is_free:
            message = f"somebody else makes {self.name} now"
            raise StoreBusy(message)
        if db.execute(SQL["tables"], (schema,)).fetchall():
            message = f"There is a store at {self.name} already"
            raise Usage(message)
        try:
            self._make_schema(schema)
            db.execute(SQL["create"])
            db.execute(SQL["insert-about"], (PRODUCT, SCHEMA_VERSION))
            for table in layout.tables():
                if table.name in layout.adopted:
                    relation = Relation(*layout.adopted[table.name].split("."))
                    self._check_adopted(table, relation)
                    db.execute(SQL["insert-place"], (table.name, *relation))
                else:
                    self._create_table(table, layout.schemas)
        except (pg.DuplicateTable, pg.DuplicateObject, pg.DuplicateFunction) as error:
            raise _taken(self.name, error, layout) from error

    def _create_table(self, table: Table, schemas: Mapping[str, str]) -> None:
        require(not table.schema or table.schema in schemas, f"no schema {table.schema!r} is set")
        db, kernel = self._db, self.target.schema
        schema = schemas.get(table.schema, kernel)
        self._make_schema(schema)
        # What a statement of a workload names stands beside it, or is the kernel's; a view shows
        # tables of other schemas too.
        others = sorted({*schemas.values()} - {schema}) if table.is_view else []
        path = ", ".join(f'"{name}"' for name in (schema, *others, kernel))
        db.execute(f"SET LOCAL search_path = {path}, pg_catalog".encode())
        db.execute(blocks(table.sql)[f"{table.name} {self.kind}"].encode())
        db.execute(f'SET LOCAL search_path = "{kernel}", pg_catalog'.encode())
        db.execute(SQL["insert-place"], (table.name, schema, ""))

    def _check_adopted(self, table: Table, relation: Relation) -> list[Given]:
        """Return the columns of a site's table. Raises: invalid-setting when it cannot be read."""
        found = [Given(*row) for row in self._one(SQL["columns-of-a-site"], relation)]
        problem = problem_of(table, relation, found)
        if problem:
            message = f"{self.name}: {table.name} cannot be read there: {problem}"
            hint = "The setting registry.table names it; a view with the right columns serves too."
            raise InvalidSetting(message, hint=hint)
        return found

    def adopted(self) -> list[dict[str, Any]]:
        """Return the tables of a site that are read in the place of ours.

        Of each: its name here, its name there, those of our columns that it has, and the others
        that an INSERT has to give. Raises: invalid-setting.
        """
        return [self._described(name, relation) for name, relation in self._adopted.items()]

    def _described(self, name: str, relation: Relation) -> dict[str, Any]:
        table = self._definition(name)
        found = self._check_adopted(table, relation)
        return {
            "name": name,
            "relation": relation.text,
            "columns": [column.name for column in found if column.name in table.columns],
            "required": [
                column.name
                for column in found
                if column.is_required and column.name not in table.columns
            ],
        }

    def _definition(self, name: str) -> Table:
        return next(table for table in self._layout.tables() if table.name == name)

    def install_views(self, tables: Sequence[Table]) -> list[str]:
        """Make the views anew, all of them or none; return their names.

        Raises: usage when something that is not ours has the name of one.
        """
        views, schemas = [table for table in tables if table.is_view], self._places_of(tables)
        try:
            with self._db.transaction():
                for view in views:
                    place = f'"{schemas[view.schema]}"."{view.name}"'
                    if self._is_ours(schemas[view.schema], view.name) is False:
                        message = f"{self.name}: {place} is there already and is not ours"
                        hint = "Give it another name, or drop it, and try again."
                        raise Usage(message, hint=hint)
                    self._db.execute(f"DROP VIEW IF EXISTS {place}".encode())
                    self._db.execute(SQL["delete-place"], (view.name,))
                    self._create_table(view, schemas)
        except psycopg.Error as error:
            raise translate(error, self.name) from error
        self._read_places()
        return [view.name for view in views]

    def uninstall_views(self, tables: Sequence[Table]) -> list[str]:
        """Take down the views that are ours; return their names."""
        schemas, gone = self._places_of(tables), []
        try:
            with self._db.transaction():
                for view in (table for table in tables if table.is_view):
                    if self._is_ours(schemas[view.schema], view.name):
                        place = f'"{schemas[view.schema]}"."{view.name}"'
                        self._db.execute(f"DROP VIEW {place}".encode())
                        self._db.execute(SQL["delete-place"], (view.name,))
                        gone.append(view.name)
        except psycopg.Error as error:
            raise translate(error, self.name) from error
        return gone

    def _places_of(self, tables: Sequence[Table]) -> dict[str, str]:
        """Return where the schemas of workloads stand in this store, whatever is set today."""
        return {
            table.schema: self._schemas[table.name]
            for table in tables
            if not table.is_view and table.name in self._schemas
        }

    def _is_ours(self, schema: str, name: str) -> bool | None:
        """Say whether a view was made here; None when nothing has the name."""
        rows = self._one(SQL["relation"], (schema, name))
        return (rows[0][0] == "v" and rows[0][1].startswith("Runwright: ")) if rows else None

    def _make_schema(self, schema: str) -> None:
        """Make a schema unless it is there: only making one needs a right on the database."""
        if not self._db.execute(SQL["schema"], (schema,)).fetchall():
            self._db.execute(f'CREATE SCHEMA "{schema}"'.encode())

    def finish(self) -> None:
        """Let the world see a store that was made. Raises: commit-unknown."""
        self._commit()
        self._is_new = False

    def _check_version(self) -> None:
        try:
            rows = self._db.execute(SQL["about"]).fetchall()
        except (pg.UndefinedTable, pg.InvalidSchemaName, pg.UndefinedColumn) as error:
            message = f"There is no store at {self.name}"
            raise StoreMissing(message) from error
        if not rows or rows[0][0] != PRODUCT:
            message = f"{self.name} is not a Runwright store"
            raise StoreMissing(message)
        version = rows[0][1]
        if version != SCHEMA_VERSION:
            age = "a newer" if version > SCHEMA_VERSION else "an older"
            message = (
                f"{self.name} was written by {age} version of Runwright "
                f"(schema {version}; this one reads {SCHEMA_VERSION})"
            )
            raise StoreVersion(message)

    # ------------------------------------------------------------------------------ the writer

    def lease(self) -> Lease:
        """Take the right to conduct. Raises: store-busy, store-unreachable."""
        if self._is_new:
            return _NewLease()
        lease = PostgresLease(self)
        self.token = lease.token
        return lease

    def busy(self, rows: Sequence[tuple[int, str]]) -> str:
        """Return the message that somebody else conducts."""
        who = "".join(f" (process {pid} on {host})" for pid, host in rows)
        return f"Another conductor{who} holds {self.name}"

    def holder(self) -> str:
        """Return who conducts; empty when nobody does."""
        rows = self._one(SQL["holder"], self.host_key)
        return self.busy(rows) if rows else ""

    def merge(self) -> None:
        """Do nothing: the server has a process of its own for that."""

    def commit(self, batch: Batch) -> None:
        """Write a batch in one durable transaction.

        Raises: store-unreachable, store-unwritable, store-corrupt, lease-lost, commit-unknown.
        """
        if batch.failure is not None:
            self._fail(batch, batch.failure, batch.failure.__cause__)
        if self._is_new:
            self._write(batch)
            return
        try:
            try:
                self._db.execute("BEGIN")
                self._fence()
                self._write(batch)
            except BaseException:
                with contextlib.suppress(psycopg.Error):
                    self._db.rollback()
                raise
            self._commit()
        except psycopg.Error as error:
            self._fail(batch, translate(error, self.name), error)
        except RunwrightError as error:
            self._fail(batch, error, error.__cause__)

    def _commit(self) -> None:
        try:
            done = self._db.execute("COMMIT")
        except psycopg.Error as error:
            message = f"COMMIT on {self.name} raised: {' '.join(str(error).split())}"
            raise CommitUnknown(message) from error
        require(done.statusmessage == "COMMIT", "a transaction without an error is committed")

    def _fail(self, batch: Batch, failure: RunwrightError, cause: BaseException | None) -> NoReturn:
        """Keep what was to be written beside the project, and say where."""
        place = self._unwritten(batch, failure) if self._unwritten and batch else ""
        if place:
            message = f"{failure}; what was to be written is kept in {place}"
            failure = type(failure)(message, hint=failure.hint)
        raise failure from cause

    def _fence(self) -> None:
        """Refuse to write unless the lease is still ours, or nobody conducts."""
        if self.token is None:
            ((is_free,),) = self._db.execute(SQL["try-lock-once"], (self.lock,)).fetchall()
            if not is_free:
                message = f"{self.name}: another conductor holds it"
                raise LeaseLost(message)
            return
        ((token,),) = self._db.execute(SQL["fence"]).fetchall()
        if token != self.token:
            who = self._db.execute(SQL["last-holder"]).fetchall()
            message = f"the lease of {self.name} was lost: {self.busy(who)}"
            raise LeaseLost(message)

    def _write(self, batch: Batch) -> None:
        with self._db.cursor() as cursor:
            if batch.entries:
                ((last,),) = cursor.execute(SQL["last-seq"]).fetchall()
                size = last + 1
                entries = [(row.seq, row.raw, row.leaf) for row in batch.entries]
                if [row[0] for row in entries] != list(range(size, size + len(entries))):
                    message = f"{self.name}: the entries to write do not continue at seq {size}"
                    raise StoreCorrupt(message)
                cursor.executemany(SQL["insert-entry"], entries)
            if batch.tiles:
                tiles = [(tile.level, tile.index, tile.hash) for tile in batch.tiles]
                cursor.executemany(SQL["insert-tile"], tiles)
            for block in batch.blocks:
                values = (*msgspec.structs.astuple(block), block.log, block.first_seq - 1)
                if cursor.execute(SQL["insert-block"], values).rowcount != 1:
                    message = f"{self.name}: log {block.log} does not end before {block.first_seq}"
                    raise StoreCorrupt(message)
            for span in batch.retired:
                gone = (span.log, span.first_seq, span.last_seq, span.first_seq)
                cursor.execute(SQL["retire-blocks"], gone)
            if batch.contents:
                contents = [(item.digest, item.salt, item.data) for item in batch.contents]
                cursor.executemany(SQL["insert-blob"], contents)
            for name in batch.emptied:
                require(name not in self._adopted, f"{name} is a site's own")
                cursor.execute(f"DELETE FROM {self._table(name).sql}".encode())  # noqa: S608
            upserts = [(*self._upsert(row), row) for row in batch.rows]
            for statement, group in itertools.groupby(upserts, key=lambda each: each[0]):
                cursor.executemany(statement.encode(), [_bound(*each[1:]) for each in group])
            if batch.seals:
                seals = [(seal.size, seal.root, seal.note) for seal in batch.seals]
                cursor.executemany(SQL["insert-seal"], seals)
            if batch.erased:
                cursor.executemany(SQL["erase-blob"], [(digest,) for digest in batch.erased])

    def _upsert(self, row: Row) -> tuple[str, tuple[str, ...], tuple[Column, ...]]:
        """Return the statement for the columns of a row, made once for each shape."""
        names = tuple(row.values)
        shape = f"{row.table}/{row.update}/{','.join(names)}"
        known = self._upserts.get(shape)
        if known is None:
            require(row.table not in self._adopted, f"{row.table} is a site's own")
            table = self._table(row.table)
            unknown = set(names) - set(table.columns)
            require(not unknown, f"table {row.table} has no columns {sorted(unknown)}")
            changed = [name for name in names if name not in table.key]
            order = (*changed, *table.key) if row.update else names
            columns = tuple(table.columns[name] for name in order)
            known = self._upserts[shape] = (
                _update(table, changed) if row.update else _insert(table, names, changed),
                order,
                columns,
            )
        return known

    def _table(self, name: str) -> Place:
        if name in self._adopted:
            # Looked at each time: whoever keeps it may change it without a word to us.
            return self._site(name, self._adopted[name])
        table = self._places.get(name)
        if table is None:
            schema = self._schemas.get(name, self.target.schema)
            rows = self._one(SQL["columns"], (schema, name))
            require(rows, f"there is no table {name}")
            found = {row[0]: Column(*row) for row in rows}
            table = self._places[name] = Place(f'"{schema}"."{name}"', found)
        return table

    def _site(self, name: str, relation: Relation) -> Place:
        """Return a site's table in the shape of ours. Raises: invalid-setting."""
        table = self._definition(name)
        shape = selected(table, self._check_adopted(table, relation))
        # Names of columns are ours, that of the table was checked: nothing of a row is in it.
        shown = ", ".join(
            f'{expression} AS "{column}"' for column, (_, expression) in shape.items()
        )
        columns = {
            column: Column(column, kind, is_required=True, is_key=False)
            for column, (kind, _) in shape.items()
        }
        return Place(f'(SELECT {shown} FROM {relation.sql}) AS "{name}"', columns)  # noqa: S608

    # ------------------------------------------------------------------------------ everybody

    def submit(self, request: Request) -> None:
        """Insert a request in a transaction of its own."""
        values = (
            request.id.encode(),
            request.kind.encode(),
            request.body,
            request.created_ms.to_bytes(_BIGINT_BYTES, "big", signed=True),
            request.by.encode(),
            request.reply.encode(),
        )
        try:
            self._submitting.execute(values)
        except psycopg.Error as error:
            raise translate(error, self.name) from error

    def size(self) -> int:
        """Return how many entries there are."""
        return int(self._one(SQL["last-seq"])[0][0]) + 1

    def entries(self, start: int = 0, stop: int | None = None) -> Iterator[StoredEntry]:
        """Yield the entries with start <= seq < stop, in order."""
        low, last = start, (self.size() if stop is None else stop) - 1
        # From row to row, not from seq to seq: a row put in far away would make that endless.
        while low <= last and (rows := self._one(SQL["entries"], (low, last, _READ_CHUNK))):
            yield from starmap(StoredEntry, rows)
            low = rows[-1][0] + 1

    def tiles(self, level: int, start: int, stop: int) -> list[bytes]:
        """Return the hashes of full subtrees of a level (0: leaves)."""
        if level == 0:
            rows = self._one(SQL["leaves"], (start, stop))
        else:
            rows = self._one(SQL["tiles"], (level, start, stop))
        return [row[0] for row in rows]

    def seals(self, *, latest: bool = False) -> list[SealRow]:
        """Return the seals by size, or the newest one only."""
        return list(starmap(SealRow, self._one(SQL["latest-seal" if latest else "seals"])))

    def blob(self, digest: str) -> Content | None:
        """Return kept bytes; None when erased or never kept."""
        rows = self._one(SQL["blob"], (digest,))
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
        place, by = self._table(table), order.removeprefix("-")
        where, after = where or {}, after or {}
        unknown = {*where, *after, *columns, *([by] if by else [])} - set(place.columns)
        require(not unknown, f"table {table} has no columns {sorted(unknown)}")
        shown = {name: place.columns[name] for name in columns or place.columns}
        # Names of tables and columns are checked against the catalogue; values are always bound.
        statement = f"SELECT {', '.join(map(_read, shown.values()))} FROM {place.sql}"  # noqa: S608
        tests = [
            f'"{name}" IS NULL' if value is None else f'"{name}" = {_mark(place.columns[name])}'
            for name, value in where.items()
        ]
        tests += [_above(place.columns[name]) for name in after]
        if tests:
            statement += f" WHERE {' AND '.join(tests)}"
        values = [_plain(value) for value in where.values() if value is not None]
        values += map(_plain, after.values())
        if by:
            statement += f" ORDER BY {_ordered(place.columns[by], is_falling=order[0] == '-')}"
        if limit:
            statement += f" LIMIT {int(limit)}"
        found = self._one(statement.encode(), values)
        json = [name for name, column in shown.items() if column.type in ("json", "jsonb")]
        rows = [dict(zip(shown, row, strict=True)) for row in found]
        for row in rows if json else ():
            row.update((name, _sorted(row[name])) for name in json if row[name] is not None)
        return rows

    def version(self) -> int:
        """Return the version of the schema."""
        return int(self._one(SQL["about"])[0][1])

    def migrate(self) -> list[str]:
        """Return the names of the migrations that were made: the first schema has none."""
        require(self.version() == SCHEMA_VERSION, "opening checked the version")
        return []

    def check(self) -> list[str]:
        """Return what is wrong with the store or its server; nothing when it is sound."""
        found = []
        ((_, fsync, full_pages, is_standby),) = self._one(SQL["server"])
        if fsync != "on" or full_pages != "on":
            found.append(f"fsync is {fsync}, full_page_writes {full_pages}: commits may be lost")
        if is_standby:
            found.append("the server is a standby: nothing can be written")
        triggers = dict(self._one(SQL["triggers"]))
        wanted = (
            "entry_is_never_changed",
            "seal_is_never_deleted",
            "seal_is_never_edited",
            "tile_is_never_changed",
        )
        found += [
            f"the trigger {name} is {'missing' if name not in triggers else 'disabled'}"
            for name in wanted
            if triggers.get(name) not in ("O", "A")
        ]
        for relation in self._adopted.items():
            try:
                self._described(*relation)
            except InvalidSetting as error:
                found.append(str(error))
        ((count, last, first),) = self._one(SQL["gaps"])
        if count != last + 1 or first:
            found.append(f"there are {count} entries, and the last one is {last}")
        return found

    def about(self) -> str:
        """Return the version of the server."""
        return str(self._one(SQL["server"])[0][0])

    def roles(self) -> str:
        """Return the SQL that makes the roles and grants each what it needs."""
        schema = self.target.schema
        sites = {relation.schema for relation in self._adopted.values()}
        every = sorted({schema, *self._schemas.values(), *sites})
        all_schemas = ", ".join(f'"{name}"' for name in every)
        text = SQL["roles"].decode()
        lines = [text.replace("{schemas}", all_schemas).replace("{schema}", schema)]
        for name in sorted(self._schemas):
            table = self._table(name).sql
            lines.append(f'GRANT SELECT ON {table} TO "{schema}_reader";')
            to = f'"{schema}_conductor", "{schema}_operator"'
            lines.append(f"GRANT INSERT, UPDATE ON {table} TO {to};")
        lines += [
            f'GRANT SELECT ON {relation.sql} TO "{schema}_reader";'
            for _, relation in sorted(self._adopted.items())
        ]
        return "\n".join(lines) + "\n"

    def execute(self, script: str) -> None:
        """Execute statements of an administrator in one transaction."""
        try:
            with self._db.transaction():
                self._db.execute(script.encode())
        except psycopg.Error as error:
            raise translate(error, self.name) from error

    def _one(self, statement: bytes, values: Sequence[Any] = ()) -> list[Any]:
        try:
            return self._db.execute(statement, values, binary=True).fetchall()
        except psycopg.Error as error:
            raise translate(error, self.name) from error

    def close(self) -> None:
        """Let go of the connection; what was made and not finished is gone."""
        self._db.close()


def _taken(name: str, error: psycopg.Error, layout: Layout) -> Usage:
    said = error.diag.message_primary or ""
    message = f"{name}: {said}: somebody else's tables stand there"
    hint = "Give other names in the settings store.schema and [schemas]."
    for table in layout.tables():
        if table.spared is not None and f'"{table.name}"' in said:
            place = f"{layout.schemas[table.schema]}.{table.name}"
            hint += f' Or have that table read instead of ours: registry.table = "{place}".'
    return Usage(message, hint=hint)


def _insert(table: Place, names: Sequence[str], changed: Sequence[str]) -> str:
    """Return the statement that inserts a row, or replaces the one with its key."""
    columns = ", ".join(f'"{name}"' for name in names)
    marks = ", ".join(_mark(table.columns[name]) for name in names)
    tail = ""
    if set(table.key) <= set(names):
        key = ", ".join(f'"{name}"' for name in table.key)
        sets = ", ".join(f'"{name}" = excluded."{name}"' for name in changed)
        tail = f" ON CONFLICT ({key}) DO {f'UPDATE SET {sets}' if sets else 'NOTHING'}"
    # Names of tables and columns are ours; values are always bound.
    return f"INSERT INTO {table.sql} ({columns}) VALUES ({marks}){tail}"  # noqa: S608


def _update(table: Place, changed: Sequence[str]) -> str:
    """Return the statement that changes columns of the row with a key."""
    sets = ", ".join(f'"{name}" = {_mark(table.columns[name])}' for name in changed)
    tests = " AND ".join(f'"{name}" = %s' for name in table.key)
    return f"UPDATE {table.sql} SET {sets} WHERE {tests}"  # noqa: S608 - as above


def _bound(order: Sequence[str], columns: Sequence[Column], row: Row) -> list[Any]:
    return [
        _plain(row.values[name], is_json=column.type in ("json", "jsonb"))
        for name, column in zip(order, columns, strict=True)
    ]


def _plain(value: Any, *, is_json: bool = False) -> Any:
    """Return a value that PostgreSQL takes: its texts hold every character but NUL."""
    if not isinstance(value, str):
        return value
    if is_json and "\\u0000" in value:
        return value.replace("\\u0000", "\\ufffd")
    return value.replace("\0", "\N{REPLACEMENT CHARACTER}")


def _mark(column: Column) -> str:
    return _WRITTEN.get(column.type, "%s")


def _read(column: Column) -> str:
    return _READ.get(column.type, '"{0}"').format(column.name)


def _collated(column: Column) -> str:
    """Return a column that is compared as in SQLite: by bytes."""
    is_text = column.type in ("text", "character varying", "character")
    return f'"{column.name}"' + (' COLLATE "C"' if is_text else "")


def _above(column: Column) -> str:
    """Return the test that a column lies above a value: of types that every store orders alike."""
    require(column.type not in _READ, f"{column.name} has no order on every store")
    return f"{_collated(column)} > {_mark(column)}"


def _ordered(column: Column, *, is_falling: bool) -> str:
    """Return an order as in SQLite: by bytes, and nothing before everything."""
    text = _collated(column)
    if is_falling:
        text += " DESC"
    if not column.is_required:
        text += " NULLS LAST" if is_falling else " NULLS FIRST"
    return text


def _sorted(text: str) -> str:
    return _JSON_OUT.encode(_JSON_IN.decode(text)).decode()
