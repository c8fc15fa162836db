"""Says of input logs whether they are what the ledger says: part of `verify`.

A whole log is read once, from its first block or from behind what was retired. Of a log in a bundle
there are some blocks: each run of them has to lead to a block that a round names.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Final, TypeAlias

import msgspec

from runwright.kernel.errors import StoreCorrupt
from runwright.kernel.record.entries import LogRetired, LogSealed
from runwright.kernel.record.ledger import Head, StoredBlock, extend, leaf_hash
from runwright.kernel.record.log import (
    ALTERED,
    NO_PREV,
    Block,
    BlockHead,
    about,
    head_of,
    problem_of,
)

#: Word -> the sentence that `verify` prints.
SENTENCES: Final[Mapping[str, str]] = {
    "log-form": "Every block of a log is the one that its digest says.",
    "log-chain": "Every block of a log holds the digest of the one before it.",
    "log-seq": "The records of a log are numbered without a gap, from 1 or what was retired.",
    "log-time": "The stamps of a log never go back.",
    "log-keys": "Every block of a log says where the newest records before it are.",
    "log-sealed": "Every segment of a log is the one that was sealed, and they follow each other.",
    "log-pinned": "Every round that reads a log names the block in which its records end.",
    "log-cuts": "Every run reads records up to there, and they are there or were retired.",
}
#: What some blocks of a log cannot show.
UNASKED_OF_A_PART: Final = frozenset({"log-keys", "log-sealed"})

#: Takes what breaks a sentence: the word, the seq of an entry, the detail.
Add: TypeAlias = Callable[[str, int | None, str], None]


class Pin(msgspec.Struct, frozen=True, gc=False):
    """Where a log ended for a round: `log` of its facts."""

    end: int
    block: int
    digest: str


class CutOf(msgspec.Struct, frozen=True, gc=False):
    """What a planned run reads of a log."""

    log: str
    first: int
    last: int


class Facts(msgspec.Struct, frozen=True):
    """The part of what was observed that says where a log ended."""

    log: Pin | None = None


class _Seen(msgspec.Struct, frozen=True):
    facts: str = ""


_FACTS: Final = msgspec.json.Decoder(Facts)
_SEEN: Final = msgspec.json.Decoder(_Seen)


class _About:
    """What the entries say of one log."""

    def __init__(self) -> None:
        self.segments: list[tuple[int, LogSealed]] = []
        self.retired: LogRetired | None = None
        #: Number of a block -> who names it: the seq of the entry and the pin.
        self.pins: dict[int, list[tuple[int, Pin]]] = {}
        #: What runs read, with the seq of the entry that plans them.
        self.cuts: list[tuple[int, CutOf]] = []

    @property
    def retired_seq(self) -> int:
        """The last record that was retired; 0: none was."""
        return self.retired.last_seq if self.retired else 0


class Logs:
    """What the entries say of logs, held against the blocks."""

    def __init__(self, add: Add, *, is_part: bool) -> None:
        """State what breaks a sentence by `add`."""
        self._add = add
        self._is_part = is_part
        self._logs: dict[str, _About] = {}
        self._records = self._blocks = self._unseen = 0
        self._is_told = False

    def _log(self, name: str) -> _About:
        return self._logs.setdefault(name, _About())

    def sealed(self, body: LogSealed, seq: int) -> None:
        """Take in log.sealed."""
        own = self._log(body.name).segments
        last = own[-1][1] if own else None
        place = (last.index + 1, last.last_seq + 1) if last else (0, 1)
        if (body.index, body.first_seq) != place and not self._is_part:
            detail = f"segment {body.index} of log {body.name} does not follow the one before it"
            self._add("log-sealed", seq, detail)
        own.append((seq, body))

    def retired(self, body: LogRetired, seq: int) -> None:
        """Take in log.retired."""
        log = self._log(body.name)
        first = log.retired.last + 1 if log.retired else 0
        gone = [found for _, found in log.segments][body.first : body.last + 1]
        spans = bool(gone) and (gone[0].first_seq, gone[-1].last_seq)
        if not self._is_part and (body.first != first or spans != (body.first_seq, body.last_seq)):
            detail = f"entry {seq} retires what no segment of log {body.name} holds"
            self._add("log-sealed", seq, detail)
        log.retired = body

    def planned(
        self,
        name: str,
        seen: str,
        cuts: Sequence[CutOf],
        seq: int,
        bytes_of: Callable[[str], bytes | None],
    ) -> None:
        """Take in a round whose runs read a log: what was seen, by its digest, and their cuts."""
        try:
            facts = _SEEN.decode(bytes_of(seen) or b"{}").facts
            pin = _FACTS.decode(bytes_of(facts) or b"{}").log
        except (msgspec.DecodeError, UnicodeDecodeError):
            pin = None
        if pin is None:
            self._add("log-pinned", seq, f"the facts of entry {seq} do not say where its log ends")
            return
        log = self._log(name)
        log.pins.setdefault(pin.block, []).append((seq, pin))
        for cut in cuts:
            if cut.log != name or not 1 <= cut.first <= cut.last + 1 <= pin.end + 1:
                self._add("log-cuts", seq, f"a run of entry {seq} reads what its round does not")
            elif cut.first <= cut.last:
                log.cuts.append((seq, cut))

    def close(self, blocks: Iterable[StoredBlock], origin: str) -> bool:
        """Hold it against blocks, which come log by log in order; say whether there was any."""
        for name, group in groupby(blocks, key=lambda block: block.log):
            self._walk(name, group, origin)
        for name in sorted(self._logs):
            self._walk(name, (), origin)
        return bool(self._blocks or self._is_told)

    def _walk(self, name: str, blocks: Iterable[StoredBlock], origin: str) -> None:
        log = self._logs.pop(name, None)
        self._is_told = self._is_told or log is not None
        walk = (_Part if self._is_part else _Whole)(name, log or _About(), self._add, origin)
        for stored in blocks:
            walk.take(stored)
            self._blocks += 1
        walk.close()
        self._records += walk.records
        self._unseen += walk.unseen

    @property
    def figures(self) -> Mapping[str, str]:
        """What there was, and what could not be looked at any more."""
        gone = f"{self._unseen} of them in blocks that were retired" if self._unseen else ""
        counted = f"{self._records} records in {self._blocks} blocks"
        return {"log-form": counted, "log-pinned": gone}


class _Walk:
    """One pass over the blocks of a log."""

    def __init__(self, name: str, log: _About, add: Add, origin: str) -> None:
        self._name, self._log, self._add, self._origin = name, log, add, origin
        self.records = self.unseen = 0
        #: The block before: its number, its last record and stamp, its digest; "": not known.
        self._number, self._seq, self._ms, self._prev = -1, 0, 0, NO_PREV
        #: Ranges of records that are there.
        self._spans: list[tuple[int, int]] = []

    def _say(self, word: str, detail: str) -> None:
        self._add(word, None, f"log {self._name}: {detail}")

    def take(self, stored: StoredBlock) -> None:
        """Hold one block against the one before it, and against what the entries say of it."""
        problem = problem_of(stored)
        if problem:
            records = f"records {stored.first_seq} to {stored.last_seq}"
            self._say("log-form", f"block {stored.number} ({records}) {problem}")
        try:
            head = head_of(stored)
        except (StoreCorrupt, TypeError):
            # What it says cannot be read, so the next one is only held against its place.
            self._number, self._seq, self._prev = stored.number, stored.last_seq, ""
            self._count(stored, stored.digest)
            self._lose()
            return
        last = head.first + head.count - 1 if head.number else 0
        self._place(head)
        if head.number:
            self._extend(head.first, last)
            self.records += head.count
        self._look(stored, head, problem)
        own = hashlib.sha256(stored.head).digest()
        digest = own.hex()
        self._count(stored, own)
        self._named(head, last, digest)
        self._number, self._seq, self._prev = head.number, last, digest
        self._ms = max(self._ms, stored.last_ms)

    def _place(self, head: BlockHead) -> None:
        """Hold a block against the one before it."""
        first = self._seq + 1 if head.number else 0
        if head.number != self._number + 1 or head.first != first:
            self._say("log-seq", f"block {head.number} begins at record {head.first}, not {first}")
        if self._prev and head.prev != self._prev:
            detail = f"block {head.number} (from record {head.first} on) does not continue it"
            self._say("log-chain", detail)
        if head.at < self._ms:
            self._say("log-time", f"record {head.first} is stamped before the one before it")

    def _extend(self, first: int, last: int) -> None:
        if self._spans and self._spans[-1][1] == first - 1:
            first = self._spans.pop()[0]
        self._spans.append((first, last))

    def _look(self, stored: StoredBlock, head: BlockHead, problem: str) -> None:
        """Look into a block, as far as its problem lets it be believed."""

    def _count(self, stored: StoredBlock, digest: bytes) -> None:
        """Take a block to those of its segment, whatever is wrong with its records."""

    def _lose(self) -> None:
        """Go on without knowing what a block said."""

    def _named(self, head: BlockHead, last: int, digest: str) -> bool:
        """Hold a block against the rounds that name it; say whether one does."""
        pins = self._log.pins.pop(head.number, ())
        for seq, pin in pins:
            if pin.digest != digest or not head.first <= pin.end <= last:
                detail = f"entry {seq} names another block {pin.block} of log {self._name}"
                self._add("log-pinned", seq, detail)
        return bool(pins)

    def close(self) -> None:
        """State what only the end shows."""
        for seq, cut in self._log.cuts:
            if cut.first <= self._log.retired_seq:
                continue
            if not any(first <= cut.first and cut.last <= last for first, last in self._spans):
                detail = f"records {cut.first} to {cut.last} of log {self._name} are not there"
                self._add("log-cuts", seq, f"{detail}; a run of entry {seq} reads them")


class _Part(_Walk):
    """Over some blocks: every run of them leads to one that a round names."""

    _is_named = True

    def _place(self, head: BlockHead) -> None:
        if head.number == self._number + 1:
            super()._place(head)
        else:
            self._end()

    def _named(self, head: BlockHead, last: int, digest: str) -> bool:
        self._is_named = super()._named(head, last, digest)
        return self._is_named

    def _end(self) -> None:
        if not self._is_named:
            self._say("log-pinned", f"no round names block {self._number}")

    def close(self) -> None:
        self._end()
        super().close()
        reading = {seq for seq, cut in self._log.cuts if cut.first > self._log.retired_seq}
        for number, pins in self._log.pins.items():
            for seq, _ in pins:
                if seq in reading:
                    detail = f"block {number} of log {self._name}, which entry {seq} names"
                    self._add("log-pinned", seq, f"{detail}, is not there")


class _Whole(_Walk):
    """Over all blocks that were not retired."""

    def __init__(self, name: str, log: _About, add: Add, origin: str) -> None:
        super().__init__(name, log, add, origin)
        #: Key -> its first and its newest record; without those of keys last met before `_from`.
        self._known: dict[str, tuple[int, int]] = {}
        self._from = 0
        self._map: int | None = 0
        self._is_clear = True
        self._segments = iter(log.segments)
        self._segment = next(self._segments, None)
        self._tree, self._first_ms, self._bytes = Head(), 0, 0

    def _place(self, head: BlockHead) -> None:
        if head.number and self._number <= 0:
            if self._number < 0:
                self._say("log-seq", "block 0 is not there")
            if self._log.retired_seq:
                self._skip()
        super()._place(head)

    def _skip(self) -> None:
        """Go on behind what was retired, by what the segments say of it."""
        self._from, self._map = self._log.retired_seq, None
        blocks = 0
        while self._segment and self._segment[1].last_seq <= self._from:
            segment = self._segment[1]
            blocks += segment.blocks
            self._number, self._seq = blocks, segment.last_seq
            self._prev, self._ms = segment.head, segment.last_ms
            self._segment = next(self._segments, None)

    def _look(self, stored: StoredBlock, head: BlockHead, problem: str) -> None:
        if not head.number:
            if not problem:
                self._check_genesis(stored)
        elif problem not in ("", ALTERED):
            # Which keys it has is not known, so nothing is said of those that come after it.
            self._lose()
        elif self._is_clear:
            self._check_keys(stored, head)

    def _lose(self) -> None:
        self._is_clear = False

    def _check_genesis(self, stored: StoredBlock) -> None:
        try:
            found = about(stored)
        except StoreCorrupt as error:
            self._add("log-form", None, str(error))
            return
        if found.name != self._name or found.origin != self._origin:
            self._say("log-form", f"it began as log {found.name} of {found.origin}")

    def _check_keys(self, stored: StoredBlock, head: BlockHead) -> None:
        """Hold pointers and maps against the records before."""
        known, start = self._known, self._from
        wrong = [
            key
            for key, seq in zip(head.keys, head.before, strict=True)
            if (seq != known[key][1] if key in known else not 0 <= seq <= start)
        ]
        if head.known:
            told = {one.key: (one.first, one.newest) for one in head.known}
            wrong += [key for key in known if key not in told]
            wrong += [key for key in told if not self._is_known(key, *told[key])]
        if wrong:
            detail = f"block {head.number} (from record {head.first} on) says wrongly where the"
            self._say("log-keys", f"{detail} records of {wrong[0]!r} before it are")
        is_mapped = head.map == self._map if self._map is not None else head.map <= start
        if not is_mapped:
            self._say("log-keys", f"block {head.number} says wrongly where the newest map is")
        if head.known or self._map is None:
            self._map = stored.last_seq if head.known else None
        for seq, number in enumerate(Block(stored, head).ids(), head.first):
            key = head.keys[number]
            known[key] = (known[key][0] if key in known else self._first(head, key, seq), seq)

    def _is_known(self, key: str, first: int, newest: int) -> bool:
        own = self._known.get(key)
        if own is None:
            return first <= newest <= self._from
        return newest == own[1] and (first == own[0] or first <= self._from)

    def _first(self, head: BlockHead, key: str, seq: int) -> int:
        """Return the first record of a key, as far as it can be known behind what was retired."""
        return seq if not head.before[head.keys.index(key)] else 0

    def _count(self, stored: StoredBlock, digest: bytes) -> None:
        if self._segment is None or not stored.number:
            return
        seq, segment = self._segment
        if not self._tree.size:
            self._first_ms = stored.first_ms
        self._tree = extend(self._tree, [leaf_hash(digest)])
        self._bytes += stored.size
        if stored.last_seq < segment.last_seq:
            return
        own = (stored.last_seq, self._tree.size, self._tree.root().hex(), digest.hex())
        said = (segment.last_seq, segment.blocks, segment.root, segment.head)
        figures = (self._first_ms, stored.last_ms, self._bytes)
        if own != said or figures != (segment.first_ms, segment.last_ms, segment.bytes):
            records = f"records {segment.first_seq} to {segment.last_seq}"
            detail = f"segment {segment.index} ({records}) of log {self._name} is another one"
            self._add("log-sealed", seq, detail)
        self._segment = next(self._segments, None)
        self._tree, self._bytes = Head(), 0

    def close(self) -> None:
        super().close()
        if self._segment is not None:
            seq, segment = self._segment
            detail = f"log {self._name} ends at record {self._seq}, segment {segment.index} at"
            self._add("log-sealed", seq, f"{detail} {segment.last_seq}")
        retired = self._log.segments[: self._log.retired.last + 1] if self._log.retired else []
        gone = sum(found.blocks for _, found in retired)
        for number, pins in self._log.pins.items():
            for seq, pin in pins:
                if 0 < number < gone or (gone and pin.digest == retired[-1][1].head):
                    self.unseen += 1
                    continue
                detail = f"entry {seq} names block {number} of log {self._name}, which is not there"
                self._add("log-pinned", seq, detail)
