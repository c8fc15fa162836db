"""The input log of a stream: appended by the writer alone, read by ticks, replays and views.

One append is one block in one durable commit, and its records are acknowledged when it returns. A
record gets its stamp with its block: never before that of the one before it, never inside a range
of time that was closed. So a cut is a function of the log, and nobody has to lock it for a tick.
Where the newest record of a key is, is known without looking at the others.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, islice
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from runwright.kernel.drive.blocks import Blocks
from runwright.kernel.drive.segment import Segment
from runwright.kernel.errors import BufferFull, InputsRetired, StoreCorrupt, Usage
from runwright.kernel.ports import Clock, LogEnd, Reader, Span, StoredBlock
from runwright.kernel.record import log as record
from runwright.kernel.record.block import MAP_EVERY, Derived, Past, derive, genesis, make
from runwright.kernel.record.entries import Draft, Header, LogRetired
from runwright.kernel.record.log import Block, Genesis, Known
from runwright.kernel.run import Cut

#: The most bytes of records that are grouped at once for all keys, and how many ahead of a range.
RANGE_BYTES_MAX: Final = 64 * 1024**2
AHEAD_BYTES_MAX: Final = 4 * 1024**2
#: Blocks that are looked at for the first record of a key after a retirement, before its own ones.
_FORWARD_MAX: Final = 64


class LogLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How many records a log holds, and for how long."""

    #: Records that are not retired; more are not taken.
    max_records: int = 10_000_000
    #: Sealed segments whose last record is older may be retired; None: age does not matter.
    max_age_ms: int | None = None
    #: Sealed segments before the newest so many records may be retired; None: count does not.
    keep_records: int | None = None
    #: A segment is sealed once it has so many records.
    segment_records: int = 65_536


class LogRecord(NamedTuple):
    """One record as it is read back."""

    seq: int
    ingest_ts_ms: int
    key: str
    #: The bytes that arrived.
    data: bytes


class Commit(Protocol):
    """The door of the writer, `Writer.commit`."""

    def __call__(
        self,
        drafts: Sequence[Draft] = (),
        *,
        blocks: Sequence[StoredBlock] = (),
        retired: Sequence[Span] = (),
    ) -> int:
        """Write all of it in one durable transaction."""


class _Range(NamedTuple):
    """Whole blocks whose records were grouped by key, once for all keys."""

    first: int
    last: int
    #: Key -> the ingest_seq of each of its records, and their bytes.
    by_key: Mapping[str, tuple[list[int], list[bytes]]]


class Log:
    """One log of a store; without `commit` it is only read."""

    def __init__(  # noqa: PLR0913 - what a log is made of
        self,
        store: Reader,
        name: str,
        *,
        limits: LogLimits,
        clock: Clock,
        commit: Commit | None = None,
        config: str = "",
        kind: str = "streams",
    ) -> None:
        """Open it at its end, and begin it when there is none yet and it may be written.

        `config` is the digest of the spec with which it begins. What was closed before is for the
        caller to close again. Raises: store-corrupt.
        """
        self._store = store
        self._commit = commit
        self._clock = clock
        self.name, self.kind, self.limits = name, kind, limits
        #: The ingest_seq and the stamp of the last record.
        self.last_seq = self.last_ms = 0
        #: Nothing is stamped at or before it any more.
        self.closed_ms = -1
        #: Records up to this ingest_seq were deleted.
        self.retired_seq = 0
        self._blocks = Blocks(store, name)
        self._past = Past(log=name)
        self._since_map = 0
        self._newest: dict[str, int] = {}
        self._firsts: dict[str, int] = {}
        self._positions: dict[str, Any] = {}
        self._range = _Range(0, -1, {})
        #: The first record of the block in which a tick ended last, and its stamps.
        self._stamped: tuple[int, Sequence[int]] = (0, ())
        self._segment = Segment(0, 0)
        last = self._blocks.newest()
        if last is not None:
            self._resume(last)
        elif commit is not None:
            about = Genesis(kind=kind, name=name, origin=_origin(store), config=config)
            self._write(genesis(name, about), {}, is_map=False)

    # ------------------------------------------------------------------------------- appending

    def room(self) -> int:
        """Return how many records still fit."""
        return self.limits.max_records - (self.last_seq - self.retired_seq)

    def most(self) -> int:
        """Return how many records the next block may have: a quarter of the log at most.

        What is sealed and retired are whole blocks, and never the last one.
        """
        return min(self.room(), max(1, self.limits.max_records // 4))

    def append(
        self,
        items: Sequence[bytes],
        keys: Sequence[str],
        stamps: Sequence[int] | None = None,
        positions: Mapping[str, Any] | None = None,
    ) -> int:
        """Append records as one block, durable on return; return the ingest_seq of the last.

        Without stamps of their own they get the time of now. Nothing to append is no block.

        Raises: buffer-full when not all of them fit, and then none is taken; halt.
        """
        if not items:
            return self.last_seq
        if len(items) > self.room():
            message = f"log {self.name} holds {self.limits.max_records} records and takes no more"
            raise BufferFull(message)
        floor = max(self.last_ms, self.closed_ms + 1)
        stamped: int | list[int]
        if stamps is None:
            stamped = max(self._clock.now_ms(), floor)
        else:
            stamped = list(accumulate(stamps, max, initial=floor))[1:]
        if positions:
            self._positions.update(positions)
        is_map = self._is_map_due(len(items))
        block = make(
            self._past,
            items,
            keys,
            stamped,
            newest=self._newest,
            known=self._known() if is_map else (),
            positions=sorted(self._positions.items()),
        )
        seqs = range(block.first_seq, block.last_seq + 1)
        self._write(block, dict(zip(keys, seqs, strict=True)), is_map=is_map)
        if len(self._firsts) != len(self._newest):
            # Backwards, so that of each key the first one stays.
            new = dict(zip(reversed(keys), reversed(seqs), strict=True))
            self._firsts = new | self._firsts
        return self.last_seq

    def _is_map_due(self, count: int) -> bool:
        """Say whether the next block is to know of every key, as whoever opens the log has to.

        Nothing retires that a map does not stand behind, so the block that fills the log has one.
        """
        is_last = count == self.room()
        return is_last or self._since_map >= max(MAP_EVERY, len(self._newest))

    def position(self, source: str) -> Any:
        """Return the newest position committed for a source; None when there is none."""
        return self._positions.get(source)

    def close_through(self, ms: int) -> None:
        """Stamp nothing at or before an instant from now on; what is closed stays closed."""
        self.closed_ms = max(self.closed_ms, ms)

    def _known(self) -> list[Known]:
        firsts = self._firsts
        return [Known(key, firsts[key], newest) for key, newest in self._newest.items()]

    def _door(self) -> Commit:
        if self._commit is None:
            message = f"log {self.name} was opened to be read"
            raise Usage(message)
        return self._commit

    def _write(self, block: StoredBlock, newest: Mapping[str, int], *, is_map: bool) -> None:
        """Commit a block, and go on behind it."""
        self._door()(blocks=[block])
        self._newest.update(newest)
        self._since_map = 1 if is_map else self._since_map + (block.number > 0)
        self._blocks.add(block)
        if block.number:
            self._segment.take(block)
        self._stand(block, block.last_seq if is_map else self._past.map)

    def _stand(self, block: StoredBlock, map_seq: int) -> None:
        """Stand behind a block that is durable."""
        self.last_seq, self.last_ms = block.last_seq, block.last_ms
        self._past = Past(
            log=self.name,
            number=block.number,
            last_seq=block.last_seq,
            digest=block.digest.hex(),
            map=map_seq,
        )

    # --------------------------------------------------------------------------------- opening

    def _resume(self, last: StoredBlock) -> None:
        """Learn what the writer of the log knew."""
        head = record.read(last).head
        first = self._blocks.first()
        self.retired_seq = first.first_seq - 1 if first else 0
        map_seq = last.last_seq if head.known else head.map
        self._recall(map_seq)
        self._positions = dict(head.positions)
        self._blocks.add(last)
        self._stand(last, map_seq)
        where = {"kind": self.kind, "name": self.name}
        rows = self._store.rows("log_segment", where, order="-idx", limit=1)
        done, index = (rows[0]["last_seq"], rows[0]["idx"] + 1) if rows else (0, 0)
        self._segment = Segment(index, done)
        for place in self._blocks.places(done):
            self._segment.take(place)

    def _recall(self, map_seq: int) -> None:
        """Learn of every key from the newest map and the blocks since."""
        for stored in self._blocks.heads(max(map_seq - 1, 0)):
            head = record.head_of(stored)
            for key, first, newest in head.known:
                self._firsts[key], self._newest[key] = first, newest
            own = [head.keys[number] for number in Block(stored, head).ids()]
            seqs = range(head.first, stored.last_seq + 1)
            self._newest.update(zip(own, seqs, strict=True))
            for key, seq in zip(own, seqs, strict=True):
                self._firsts.setdefault(key, seq)
            self._since_map = 1 if head.known else self._since_map + 1

    # --------------------------------------------------------------------------------- reading

    def end_at(self, planned_ms: int) -> LogEnd:
        """Return the last record stamped at or before an instant, and the block that holds it.

        Raises: inputs-retired when that record was deleted.
        """
        if planned_ms >= self.last_ms and self._past.number >= 0:
            return LogEnd(self.last_seq, self._past.number, self._past.digest)
        place = self._blocks.at(planned_ms, self.retired_seq + 1, self.last_seq)
        if place is None:
            return self._end_before(planned_ms)
        if place.last_ms <= planned_ms:
            return LogEnd(place.last_seq, place.number, place.digest.hex())
        if self._stamped[0] != place.first_seq:
            self._stamped = place.first_seq, self._blocks.holding(place.first_seq).stamps()
        seq = place.first_seq + bisect_right(self._stamped[1], planned_ms) - 1
        return LogEnd(seq, place.number, place.digest.hex())

    def _end_before(self, planned_ms: int) -> LogEnd:
        """Return the end of a cut that holds none of the records that are there."""
        if not self.retired_seq:
            found = self._blocks.genesis()
            return LogEnd(0, 0, found.digest.hex() if found else "")
        where = {"kind": self.kind, "name": self.name, "last_seq": self.retired_seq}
        (segment,) = self._store.rows("log_segment", where)
        first = self._blocks.first()
        if segment["last_ms"] > planned_ms or first is None:
            raise self._retired(f"the record that was the last at {planned_ms}")
        return LogEnd(self.retired_seq, first.number - 1, segment["head"])

    def first_of(self, key: str, end: int) -> int | None:
        """Return the first record of a key that is there, at or before an end; None: there is none.

        It is found at once, but in a log of which records were retired.
        """
        first = self._firsts.get(key)
        if first is not None and first <= self.retired_seq:
            first = self._first_left(key)
        return first if first is not None and first <= end else None

    def _first_left(self, key: str) -> int | None:
        """Return the first record of a key after a retirement."""
        newest, first = self._newest[key], self.retired_seq + 1
        if newest < first:
            return None
        # A key that is often there is in one of the first blocks; one that is not has few to pass.
        for stored in islice(self._blocks.heads(self.retired_seq), _FORWARD_MAX):
            found = Block(stored, record.head_of(stored))
            if key in found.head.keys:
                own = found.head.keys.index(key)
                return found.head.first + list(found.ids()).index(own)
        seq = newest
        while True:
            block = self._blocks.holding(seq)
            if block.before(key) < first:
                return block.of(key)[0][0]
            seq = block.before(key)

    def slice(self, cut: Cut) -> tuple[bytes, ...]:
        """Return the records of a cut, as they arrived.

        Raises: inputs-retired, usage for a cut of another log, store-corrupt when records are gone.
        """
        if cut.log != self.name:
            message = f"a cut of log {cut.log} was asked of log {self.name}"
            raise Usage(message)
        if cut.first > cut.last:
            return ()
        self._require_there(cut.first, cut.last)
        held = self._range
        if not held.first <= cut.first <= cut.last <= held.last:
            if not self._group(cut.first, cut.last):
                return tuple(data for _, _, data in self._backwards(cut.key, cut))[::-1]
            held = self._range
        seqs, items = held.by_key.get(cut.key, ((), ()))
        return tuple(items[bisect_left(seqs, cut.first) : bisect_right(seqs, cut.last)])

    def _group(self, first: int, last: int) -> bool:
        """Group the records of a range by key, and some after it; False: they are too many."""
        by_key: dict[str, tuple[list[int], list[bytes]]] = {}
        start, stop, size = 0, 0, 0
        ahead = self.last_seq if self._blocks.is_read(last) else last
        for block in self._blocks.between(first, ahead):
            start = start or block.head.first
            size += len(block.body)
            if block.head.first > last and size > AHEAD_BYTES_MAX:
                break
            if size > RANGE_BYTES_MAX and block.head.first > first:
                return False
            _gather(block, by_key)
            stop = block.last_seq
        self._range = _Range(start, stop, by_key)
        return True

    def _backwards(self, key: str, cut: Cut) -> Iterator[tuple[int, int, bytes]]:
        """Yield the records of one key in a cut, the newest first."""
        seq = self._newest.get(key, 0)
        if seq > cut.last:
            seq = self._newest_before(key, cut)
        while seq >= cut.first:
            block = self._blocks.holding(seq)
            yield from (
                found for found in reversed(block.of(key)) if cut.first <= found[0] <= cut.last
            )
            seq = block.before(key)

    def _newest_before(self, key: str, cut: Cut) -> int:
        """Return the newest record of a key in a block of a cut; 0: there is none."""
        seq = 0
        for stored in self._blocks.heads(cut.first - 1):
            if stored.first_seq > cut.last:
                break
            if key in record.head_of(stored).keys:
                seq = stored.first_seq
        return seq

    def newest(self, key: str, count: int) -> list[LogRecord]:
        """Return the newest records of a key that are there, in order.

        Only blocks that hold the key are read, however long the log is.
        """
        found: list[LogRecord] = []
        seq = self._newest.get(key, 0)
        while seq > self.retired_seq and len(found) < count:
            block = self._blocks.holding(seq)
            found += [LogRecord(at, ms, key, data) for at, ms, data in reversed(block.of(key))]
            seq = block.before(key)
        return found[:count][::-1]

    def records(self, first: int, last: int) -> Iterator[LogRecord]:
        """Yield the records of a range. Raises: inputs-retired, store-corrupt."""
        if first > last:
            return
        self._require_there(first, last)
        for block in self._blocks.between(first, last):
            keys = block.head.keys
            whole = zip(block.stamps(), block.ids(), block.items(), strict=True)
            for seq, (stamp, number, data) in enumerate(whole, block.head.first):
                if first <= seq <= last:
                    yield LogRecord(seq, stamp, keys[number], data)

    def derived(self, first: int, last: int) -> Iterator[Derived]:
        """Yield the records of a range with the hashes that follow from their blocks.

        Raises: inputs-retired, store-corrupt.
        """
        self._require_there(first, last)
        for block in self._blocks.between(first, last):
            yield from (found for found in derive(block) if first <= found.ingest_seq <= last)

    def _require_there(self, first: int, last: int) -> None:
        if first <= self.retired_seq:
            raise self._retired(f"records from {first} on")
        if last > self.last_seq:
            message = f"log {self.name} ends at record {self.last_seq}, not {last}"
            raise StoreCorrupt(message)

    def _retired(self, what: str) -> InputsRetired:
        gone = f"everything up to {self.retired_seq} is retired"
        message = f"log {self.name}: {what} cannot be read: {gone}"
        return InputsRetired(message)

    # ------------------------------------------------------------------------------- retention

    @property
    def unsealed(self) -> int:
        """How many records are in no sealed segment yet."""
        return self.last_seq - self._segment.done

    def seal(self, *, whole: bool = True) -> bool:
        """Commit log.sealed over what is not sealed yet; say whether there was anything to seal.

        Unless `whole` is False, only when a segment has the records that it should have.
        """
        if self.unsealed < (self.limits.segment_records if whole else 1):
            return False
        body = self._segment.body(self.kind, self.name)
        self._door()([Draft(body=body)])
        self._segment = Segment(body.index + 1, body.last_seq)
        return True

    def retire(self, through_seq: int) -> int:
        """Delete what may go of the sealed segments up to a record; return how many records went.

        Nothing after `through_seq` is touched: the caller knows what unfinished runs still need.
        """
        where = {"kind": self.kind, "name": self.name, "retired": None}
        rows = self._store.rows("log_segment", where, order="idx")
        # Whoever opens the log begins at the newest map, and the chain goes on from the last block.
        most = min(through_seq, self._past.map - 1, self.last_seq - 1)
        gone = []
        for row in rows:
            if row["last_seq"] > most or not self._why(row):
                break
            gone.append(row)
        if not gone:
            return 0
        first, last = gone[0], gone[-1]
        body = LogRetired(
            kind=self.kind,
            name=self.name,
            first=first["idx"],
            last=last["idx"],
            first_seq=first["first_seq"],
            last_seq=last["last_seq"],
            reason=self._why(last),
        )
        span = Span(log=self.name, first_seq=body.first_seq, last_seq=body.last_seq)
        self._door()([Draft(body=body)], retired=[span])
        self.retired_seq = body.last_seq
        self._range = _Range(0, -1, {})
        return body.last_seq - body.first_seq + 1

    def may_retire(self, through_seq: int) -> bool:
        """Say whether a segment up to a record is there that only its age keeps."""
        where = {"kind": self.kind, "name": self.name, "retired": None}
        rows = self._store.rows("log_segment", where, order="idx", limit=1)
        most = min(through_seq, self._past.map - 1, self.last_seq - 1)
        return self.limits.max_age_ms is not None and bool(rows) and rows[0]["last_seq"] <= most

    def _why(self, segment: Mapping[str, Any]) -> str:
        """Return why a segment may go; "" when it may not."""
        age_ms, count = self.limits.max_age_ms, self.limits.keep_records
        if age_ms is not None and segment["last_ms"] < self._clock.now_ms() - age_ms:
            return "age"
        if count is not None and segment["last_seq"] <= self.last_seq - count:
            return "count"
        return ""


def _gather(block: Block, by_key: dict[str, tuple[list[int], list[bytes]]]) -> None:
    """Put the records of a block to those of their keys."""
    places = [by_key.setdefault(key, ([], [])) for key in block.head.keys]
    whole = zip(block.ids(), block.items(), strict=True)
    for seq, (number, data) in enumerate(whole, block.head.first):
        seqs, items = places[number]
        seqs.append(seq)
        items.append(data)


def _origin(store: Reader) -> str:
    """Return the ledger that a store holds; "" before its first entry."""
    first = next(iter(store.entries(0, 1)), None)
    return _HEADER.decode(first.raw).origin if first else ""


_HEADER: Final = msgspec.json.Decoder(Header)
