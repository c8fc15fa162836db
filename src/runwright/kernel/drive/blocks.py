"""Blocks of an input log, found by the records in them: the newest from memory, others read.

What is read from a store is held against its digest before anything is made of it.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from runwright.kernel.errors import StoreCorrupt
from runwright.kernel.ports import Reader, StoredBlock
from runwright.kernel.record.log import Block, head_of, read

#: About the most bytes that are held of the newest blocks; twice as many before some go.
TAIL_BYTES_MAX: Final = 8 * 1024**2
#: Blocks that one question to the store brings; the first brings fewer.
READ_MAX: Final = 32
READ_MIN: Final = 4
_LEAST: Final = -(1 << 63)
TABLE: Final = "log_block"
#: What a block takes beside its bytes.
_OVERHEAD: Final = 300
_PLACE: Final = ("last_seq", "number", "first_seq", "first_ms", "last_ms", "size", "digest")


def every(store: Reader) -> Iterator[StoredBlock]:
    """Yield the blocks of all logs of a store, log by log and in order, as they stand there."""
    log: str | None = None
    while names := store.rows(
        TABLE,
        after=None if log is None else {"log": log},
        order="log",
        limit=1,
        columns=("log",),
    ):
        log = names[0]["log"]
        after = _LEAST
        while rows := store.rows(
            TABLE, {"log": log}, after={"last_seq": after}, order="last_seq", limit=READ_MAX
        ):
            yield from (StoredBlock(**row) for row in rows)
            after = rows[-1]["last_seq"]


def between(store: Reader, log: str, first: int, last: int) -> Iterator[StoredBlock]:
    """Yield the blocks of a log that hold records of a range, as they stand in a store."""
    while first <= last:
        rows = store.rows(
            TABLE, {"log": log}, after={"last_seq": first - 1}, order="last_seq", limit=READ_MAX
        )
        for row in rows:
            if row["first_seq"] > last:
                return
            yield StoredBlock(**row)
            first = row["last_seq"] + 1
        if not rows:
            return


class Place(NamedTuple):
    """A block without its bytes: where it is, and what it hashes to."""

    last_seq: int
    number: int
    first_seq: int
    first_ms: int
    last_ms: int
    size: int
    digest: bytes


class Blocks:
    """The blocks of one log."""

    def __init__(self, store: Reader, log: str) -> None:
        """Know none yet."""
        self._store = store
        self._log = log
        #: The newest blocks, without a gap, and the last ingest_seq of each.
        self._tail: list[StoredBlock] = []
        self._ends: list[int] = []
        self._tail_bytes = 0

    def add(self, block: StoredBlock) -> None:
        """Take in the newest block."""
        self._tail.append(block)
        self._ends.append(block.last_seq)
        self._tail_bytes += _weight(block)
        if self._tail_bytes > 2 * TAIL_BYTES_MAX:
            self._shorten()

    def _shorten(self) -> None:
        """Let go of the older half, all at once: a list gives its front away slowly."""
        keep = 0
        while self._tail_bytes > TAIL_BYTES_MAX and keep < len(self._tail) - 1:
            self._tail_bytes -= _weight(self._tail[keep])
            keep += 1
        del self._tail[:keep]
        del self._ends[:keep]

    def newest(self) -> StoredBlock | None:
        """Return the last block in the store."""
        rows = self._rows(order="-last_seq", limit=1)
        return rows[0] if rows else None

    def first(self) -> Place | None:
        """Return the first block with records that is there."""
        return next(self.places(0, most=1), None)

    def genesis(self) -> Place | None:
        """Return block 0."""
        return next(self.places(-1, most=1), None)

    def holding(self, seq: int) -> Block:
        """Return the block that holds a record. Raises: store-corrupt."""
        block = next(self._following(seq, 1))
        if block.head.first > seq:
            raise self._missing(seq)
        return block

    def between(self, first: int, last: int) -> Iterator[Block]:
        """Yield the blocks that hold the records of a range. Raises: store-corrupt."""
        following, most = first, READ_MIN
        while following <= last:
            for block in self._following(following, most):
                if block.head.first > following:
                    break
                yield block
                following = block.last_seq + 1
                if following > last:
                    return
                most = min(2 * most, READ_MAX)
            else:
                continue
            raise self._missing(following)

    def _missing(self, seq: int) -> StoreCorrupt:
        return StoreCorrupt(f"log {self._log}: record {seq} is missing")

    def _following(self, seq: int, most: int) -> Iterator[Block]:
        """Yield some blocks from the one on that holds a record; the first is always there."""
        if self._tail and seq >= self._tail[0].first_seq:
            for stored in self._tail[bisect_left(self._ends, seq) :]:
                yield Block(stored, head_of(stored))
            return
        found = self._rows(after=seq - 1, limit=most)
        if not found:
            raise self._missing(seq)
        yield from map(read, found)

    def is_read(self, seq: int) -> bool:
        """Say whether a record has to be read from the store."""
        return not self._tail or seq < self._tail[0].first_seq

    def heads(self, after: int) -> Iterator[StoredBlock]:
        """Yield the blocks behind an ingest_seq without their records."""
        columns = (*_PLACE, "head")
        while rows := self._asked(after, READ_MAX, columns):
            for row in rows:
                if hashlib.sha256(row["head"]).digest() != row["digest"]:
                    msg = f"log {self._log}: the head of block {row['number']} was altered"
                    raise StoreCorrupt(msg)
                yield StoredBlock(log=self._log, body=b"", **row)
            after = rows[-1]["last_seq"]

    def places(self, after: int, *, most: int = 0) -> Iterator[Place]:
        """Yield where the blocks behind an ingest_seq are."""
        while rows := self._asked(after, most or 128 * READ_MAX, _PLACE):
            yield from (Place(**row) for row in rows)
            if most:
                return
            after = rows[-1]["last_seq"]

    def at(self, ms: int, first: int, last: int) -> Place | None:
        """Return the last block of a range of records that begins at or before an instant."""
        tail, begin = self._tail, bisect_left(self._ends, first)
        if begin < len(tail) and tail[begin].first_ms <= ms:
            index = bisect_left(tail, ms + 1, begin, key=lambda block: block.first_ms)
            found = tail[index - 1]
            return Place(*(getattr(found, name) for name in _PLACE))
        best = None
        while first <= last:
            middle = (first + last) // 2
            place = next(self.places(middle - 1, most=1), None)
            if place is None:
                raise self._missing(middle)
            if place.first_ms <= ms:
                best, first = place, place.last_seq + 1
            else:
                last = place.first_seq - 1
        return best

    def _asked(self, after: int, most: int, columns: Sequence[str]) -> list[dict[str, Any]]:
        return self._store.rows(
            TABLE,
            {"log": self._log},
            after={"last_seq": after},
            order="last_seq",
            limit=most,
            columns=columns,
        )

    def _rows(
        self, *, order: str = "last_seq", limit: int, after: int | None = None
    ) -> list[StoredBlock]:
        bound = None if after is None else {"last_seq": after}
        rows = self._store.rows(TABLE, {"log": self._log}, after=bound, order=order, limit=limit)
        return [StoredBlock(**row) for row in rows]


def _weight(block: StoredBlock) -> int:
    """Return about how many bytes a block takes: of a single small event the head is more."""
    return block.size + len(block.head) + _OVERHEAD
