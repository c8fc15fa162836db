"""A store in memory: the same promises as the others but durability, for tests and trials."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from runwright.kernel.errors import StoreBusy, StoreCorrupt, require
from runwright.kernel.ports import Batch, Request, SealRow, StoredEntry, Table
from runwright.kernel.run import Content


def _table(name: str, columns: str, key: str) -> Table:
    return Table(name=name, columns=tuple(columns.split()), key=tuple(key.split()))


#: The kernel's own tables.
_TABLES: Final = (
    _table("request", "id kind body created_ms by state result reply", "id"),
    _table("spec", "kind name digest body applied_ms since_ms in_force opened_ms seq", "kind name"),
    _table(
        "tick",
        "seq id kind name occurrence scheduled planned_ms last_ms count at state label reason",
        "seq",
    ),
    _table(
        "round",
        "seq id tick idx kind name key label runs at judged_seq judged_ms verdict outcome",
        "seq",
    ),
    _table("lane", "kind name lane memory", "kind name lane"),
    _table(
        "paper",
        "seq idx id sink name media body inserts sealed_size state attempts next_ms delivered_ms",
        "seq idx",
    ),
    _table("person", "id name roles users revoked_ms reason seq", "id"),
    _table(
        "person_key",
        "person fingerprint key from_ms until_ms revoked_ms reason seq",
        "person fingerprint",
    ),
    _table(
        "decision",
        "seq document subject action person reason evidence seen first_seq last_seq expires_ms "
        "made_ms at_ms key",
        "seq",
    ),
    _table("agent_key", "agent fingerprint key state from_ms until_ms seq", "agent fingerprint"),
    _table("signature", "seq agent key value", "seq"),
    _table(
        "log_block",
        "log last_seq number first_seq first_ms last_ms size digest head body",
        "log last_seq",
    ),
    _table(
        "log_segment",
        "kind name idx first_seq last_seq blocks root head first_ms last_ms bytes seq retired",
        "kind name idx",
    ),
)
#: What a column holds that a row does not name.
_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "person": {"revoked_ms": 0, "reason": ""},
    "person_key": {"revoked_ms": 0, "reason": ""},
    "signature": {"key": "", "value": ""},
    "spec": {"opened_ms": 0},
    "tick": {"count": 1, "label": "", "reason": ""},
    "round": {"judged_seq": None, "judged_ms": None, "verdict": "", "outcome": ""},
    "paper": {
        "inserts": "[]",
        "sealed_size": 0,
        "state": "open",
        "attempts": 0,
        "next_ms": 0,
        "delivered_ms": None,
    },
}


class MemoryLease:
    """The right to conduct a memory store."""

    def __init__(self, store: MemoryStore) -> None:
        """Take it."""
        self._store: MemoryStore | None = store

    def release(self) -> None:
        """Give it up."""
        if self._store is not None:
            self._store.leased = False
            self._store = None


class MemoryStore:
    """The Store port in plain lists and dicts."""

    kind = "memory"

    def __init__(self, *, tables: Sequence[Table] = ()) -> None:
        """Start empty."""
        self._tables = {table.name: table for table in (*_TABLES, *tables) if table.key}
        self._entries: list[StoredEntry] = []
        self._tiles: dict[tuple[int, int], bytes] = {}
        self._seals: dict[int, SealRow] = {}
        self._blobs: dict[str, Content] = {}
        self._rows: dict[str, dict[tuple[Any, ...], dict[str, Any]]] = {
            name: {} for name in self._tables
        }
        #: Log -> its last ingest_seq.
        self._log_ends: dict[str, int] = {}
        self.leased = False

    def lease(self) -> MemoryLease:
        """Take the right to conduct. Raises: store-busy."""
        if self.leased:
            raise StoreBusy
        self.leased = True
        return MemoryLease(self)

    def commit(self, batch: Batch) -> None:
        """Write a batch, all of it or nothing. Raises: store-corrupt."""
        if batch.failure is not None:
            raise batch.failure
        expected = range(len(self._entries), len(self._entries) + len(batch.entries))
        if [entry.seq for entry in batch.entries] != list(expected):
            message = f"entries do not continue at seq {len(self._entries)}"
            raise StoreCorrupt(message)
        for row in batch.rows:
            self._require(row.table, row.values)
        self._write_blocks(batch)
        self._entries.extend(batch.entries)
        self._tiles.update({(tile.level, tile.index): tile.hash for tile in batch.tiles})
        self._seals.update({seal.size: seal for seal in batch.seals})
        for item in batch.contents:
            self._blobs.setdefault(item.digest, item)
        for name in batch.emptied:
            self._rows[name].clear()
        for row in batch.rows:
            rows, names = self._rows[row.table], self._tables[row.table].key
            key = tuple(row.values.get(name, len(rows) + 1) for name in names)
            if row.update and key not in rows:
                continue
            known = rows.get(key, dict(_DEFAULTS.get(row.table, {})))
            columns = dict.fromkeys(self._tables[row.table].columns)
            generated = dict(zip(names, key, strict=True))
            rows[key] = {**columns, **known, **generated, **row.values}
        for digest in batch.erased:
            self._blobs.pop(digest, None)

    def _write_blocks(self, batch: Batch) -> None:
        blocks = self._rows["log_block"]
        for block in batch.blocks:
            if self._log_ends.get(block.log, -1) != block.first_seq - 1:
                message = f"log {block.log} does not end before {block.first_seq}"
                raise StoreCorrupt(message)
            self._log_ends[block.log] = block.last_seq
            blocks[block.log, block.last_seq] = msgspec.structs.asdict(block)
        for span in batch.retired:
            gone = [
                key
                for key, row in blocks.items()
                if row["log"] == span.log
                and row["first_seq"] >= span.first_seq
                and row["last_seq"] <= span.last_seq
            ]
            for key in gone:
                del blocks[key]

    def submit(self, request: Request) -> None:
        """Insert a request. Raises: store-corrupt when its id is taken."""
        rows = self._rows["request"]
        if (request.id,) in rows:
            message = f"request {request.id} is there already"
            raise StoreCorrupt(message)
        rows[(request.id,)] = msgspec.structs.asdict(request)

    def size(self) -> int:
        """Return how many entries there are."""
        return len(self._entries)

    def entries(self, start: int = 0, stop: int | None = None) -> Iterator[StoredEntry]:
        """Yield the entries with start <= seq < stop, in order."""
        yield from self._entries[start:stop]

    def tiles(self, level: int, start: int, stop: int) -> list[bytes]:
        """Return the hashes of full subtrees of a level (0: leaves)."""
        if level == 0:
            return [entry.leaf for entry in self._entries[start:stop]]
        places = (place for place in sorted(self._tiles) if place[0] == level)
        return [self._tiles[place] for place in places if start <= place[1] < stop]

    def seals(self, *, latest: bool = False) -> list[SealRow]:
        """Return the seals by size, or the newest one only."""
        ordered = [self._seals[size] for size in sorted(self._seals)]
        return ordered[-1:] if latest else ordered

    def blob(self, digest: str) -> Content | None:
        """Return kept bytes; None when erased or never kept."""
        return self._blobs.get(digest)

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
        where, after, by = where or {}, after or {}, order.removeprefix("-")
        self._require(table, [*where, *after, *columns, *([by] if by else [])])
        types = self._tables[table].types
        require(not set(after) & set(types), f"{sorted(after)} have no order on every store")
        found = [
            row
            for row in self._rows[table].values()
            if all(row.get(name) == value for name, value in where.items())
            and all(row[name] is not None and row[name] > value for name, value in after.items())
        ]
        if order:
            # Nothing sorts before everything, as in SQLite.
            found.sort(key=lambda row: (row[by] is not None, row[by]), reverse=order[0] == "-")
        shown = columns or self._tables[table].columns
        return [{name: row[name] for name in shown} for row in found[: limit or None]]

    def _require(self, table: str, columns: Iterable[str]) -> None:
        require(table in self._tables, f"there is no table {table}")
        unknown = sorted(set(columns) - set(self._tables[table].columns))
        require(not unknown, f"table {table} has no columns {unknown}")

    def merge(self) -> None:
        """Do nothing: there is nothing beside what is kept."""

    def close(self) -> None:
        """Keep everything: a memory store lives as long as it is referred to."""
