"""The input log as arithmetic: records become blocks, blocks a chain, segments one RFC 6962 tree.

A block is what one commit made durable. Its head is JSON that says everything of its records but
their bytes; they stand in the body, one after the other, as they arrived. The digest of a block is
the SHA-256 of its head, which holds the SHA-256 of its body and the digest of the block before.
Block 0 holds no record: it says whose log it is. What a single record hashes to is derived, never
kept beside it, so there is no second hash that could disagree. Nothing here knows a store.
"""

from __future__ import annotations

import hashlib
import sys
from array import array
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, pairwise
from operator import sub
from typing import Any, Final, NamedTuple

import msgspec

from runwright.kernel.canonical import encode
from runwright.kernel.errors import StoreCorrupt, require
from runwright.kernel.record.ledger import EMPTY_ROOT, Head, StoredBlock, extend, leaf_hash

#: The version of the format of a block.
FORMAT: Final = 1
#: The most records and the most bytes of records in one block.
RECORDS_MAX: Final = 65_536
BODY_MAX: Final = 256 * 1024**2
#: A map of all keys is kept again after so many blocks, or as many as there are keys.
MAP_EVERY: Final = 64

_sha256 = hashlib.sha256
_ENCODER: Final = msgspec.json.Encoder(order="sorted")
#: Bytes of a number -> its code in an array.
_CODES: Final[Mapping[int, str]] = {1: "B", 2: "H", 4: "I", 8: "Q"}


class Known(NamedTuple):
    """What is known of a key at some point of a log."""

    key: str
    #: The ingest_seq of its first and of its newest record.
    first: int
    newest: int


class BlockHead(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """What a block says of its records. Arrays are little-endian numbers of one width, base64."""

    v: int
    log: str
    number: int
    #: The ingest_seq of the first record, and how many there are.
    first: int
    count: int
    #: The digest of the block before, hex.
    prev: str
    #: SHA-256 of the body, hex.
    body: str
    #: The stamp of the first record, epoch ms.
    at: int
    #: How much later each record is than the one before it, ms; empty: all have one stamp.
    steps: bytes = b""
    #: The keys of the records, each once, in the order in which they appear.
    keys: tuple[str, ...] = ()
    #: Of each record the index of its key, in 1 byte, or 2 beyond 256 keys; empty: there is one.
    ids: bytes = b""
    #: Of each record its bytes.
    sizes: bytes = b""
    #: Of each key the ingest_seq of its newest record in an earlier block; 0: it is new.
    before: tuple[int, ...] = ()
    #: The last ingest_seq of the newest earlier block with a map of all keys; 0: none has one.
    map: int = 0
    #: The map, in some blocks: every key that was there before this block.
    known: tuple[Known, ...] = ()
    #: Where each source goes on after these records.
    positions: tuple[tuple[str, Any], ...] = ()


class Genesis(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """Whose log it is: the body of block 0."""

    #: The kind and the name of the spec that it belongs to.
    kind: str
    name: str
    #: The ledger that it stands beside.
    origin: str
    #: The digest of the spec with which it began.
    config: str = ""


_HEAD: Final = msgspec.json.Decoder(BlockHead)
_GENESIS: Final = msgspec.json.Decoder(Genesis)


class Past(msgspec.Struct, frozen=True, kw_only=True):
    """What a block has to know of the ones before it."""

    log: str
    number: int = -1
    last_seq: int = 0
    #: The digest of the newest block, hex.
    digest: str = "0" * 64
    #: The last ingest_seq of the newest block with a map.
    map: int = 0


class Derived(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One record with the hashes that follow from its block."""

    ingest_seq: int
    ingest_ts_ms: int
    key: str
    #: SHA-256 of the bytes that arrived, hex.
    event_sha256: str
    #: The record_hash before, hex; of the first record of a block: the digest of the block before.
    prev_hash: str
    #: SHA-256 over prev_hash, seq and stamp (8 bytes each, big-endian) and event_sha256, hex.
    record_hash: str
    data: bytes


# --------------------------------------------------------------------------------------- making


def genesis(log: str, about: Genesis) -> StoredBlock:
    """Return block 0 of a log."""
    body = encode(about)
    head = BlockHead(
        v=FORMAT,
        log=log,
        number=0,
        first=0,
        count=0,
        prev="0" * 64,
        body=_sha256(body).hexdigest(),
        at=0,
    )
    raw = _ENCODER.encode(head)
    return StoredBlock(log, 0, 0, 0, 0, 0, len(body), _sha256(raw).digest(), raw, body)


def make(  # noqa: PLR0913 - what a block is made of
    past: Past,
    items: Sequence[bytes],
    keys: Sequence[str],
    stamps: int | Sequence[int],
    *,
    newest: Mapping[str, int],
    known: Sequence[Known] = (),
    positions: Sequence[tuple[str, Any]] = (),
) -> StoredBlock:
    """Return the block that holds these records; stamps are one for all, or each its own.

    `newest` says of keys where their newest record is. Nothing here is done for each record but in
    loops that C runs.
    """
    count = len(items)
    require(0 < count <= RECORDS_MAX, f"a block holds 1 to {RECORDS_MAX} records, not {count}")
    require(len(keys) == count, "every record has a key")
    body = b"".join(items)
    require(len(body) <= BODY_MAX, f"a block holds at most {BODY_MAX} bytes")
    own = dict.fromkeys(keys)
    if len(own) == 1:
        ids = b""
    else:
        index = dict(zip(own, range(len(own)), strict=True))
        numbers = map(index.__getitem__, keys)
        ids = bytes(numbers) if len(own) <= _BYTE else _array("H", list(numbers))
    first_ms, last_ms, steps = _stamped(stamps, count)
    head = _ENCODER.encode(
        BlockHead(
            v=FORMAT,
            log=past.log,
            number=past.number + 1,
            first=past.last_seq + 1,
            count=count,
            prev=past.digest,
            body=_sha256(body).hexdigest(),
            at=first_ms,
            steps=steps,
            keys=tuple(own),
            ids=ids,
            sizes=_packed(list(map(len, items))),
            before=tuple([newest.get(key, 0) for key in own]),
            map=past.map,
            known=tuple(known),
            positions=tuple(positions),
        )
    )
    return StoredBlock(
        past.log,
        past.last_seq + count,
        past.number + 1,
        past.last_seq + 1,
        first_ms,
        last_ms,
        len(body),
        _sha256(head).digest(),
        head,
        body,
    )


def _stamped(stamps: int | Sequence[int], count: int) -> tuple[int, int, bytes]:
    """Return the first stamp, the last one, and the steps between them."""
    if isinstance(stamps, int):
        return stamps, stamps, b""
    require(len(stamps) == count, "every record has a stamp")
    first, last = stamps[0], stamps[-1]
    if first == last:
        return first, last, b""
    return first, last, _packed([0, *map(sub, stamps[1:], stamps)])


_BYTE: Final = 256


def _packed(values: list[int]) -> bytes:
    """Return numbers in the least width that holds all of them."""
    most = max(values)
    if most < _BYTE:
        return bytes(values)
    return _array("H" if most < 1 << 16 else "I" if most < 1 << 32 else "Q", values)


def _array(code: str, values: list[int]) -> bytes:
    found = array(code, values)
    if sys.byteorder == "big":
        found.byteswap()
    return found.tobytes()


# -------------------------------------------------------------------------------------- reading


class Block:
    """A block that was read: its bytes are what its digest says."""

    __slots__ = ("body", "digest", "head", "last_ms", "last_seq")

    def __init__(self, stored: StoredBlock, head: BlockHead) -> None:
        """Take a head that was decoded, and the bytes of the records."""
        self.head = head
        self.body = stored.body
        self.digest = stored.digest
        self.last_seq = stored.last_seq
        self.last_ms = stored.last_ms

    @property
    def first_seq(self) -> int:
        """The ingest_seq of its first record."""
        return self.head.first

    def stamps(self) -> Sequence[int]:
        """Return the stamps of its records."""
        head = self.head
        if not head.steps:
            return [head.at] * head.count
        return list(accumulate(_unpacked(head.steps, head.count), initial=head.at))[1:]

    def ids(self) -> Sequence[int]:
        """Return of each record the index of its key."""
        head = self.head
        return _unpacked(head.ids, head.count) if head.ids else bytes(head.count)

    def items(self) -> list[bytes]:
        """Return the records, as they arrived."""
        body, sizes = self.body, _unpacked(self.head.sizes, self.head.count)
        return [body[start:stop] for start, stop in pairwise(accumulate(sizes, initial=0))]

    def of(self, key: str) -> list[tuple[int, int, bytes]]:
        """Return ingest_seq, stamp and bytes of the records of one key."""
        head = self.head
        if key not in head.keys:
            return []
        own = head.keys.index(key)
        ends = list(accumulate(_unpacked(head.sizes, head.count), initial=0))
        stamps = self.stamps()
        return [
            (head.first + place, stamps[place], self.body[ends[place] : ends[place + 1]])
            for place, number in enumerate(self.ids())
            if number == own
        ]

    def before(self, key: str) -> int:
        """Return the ingest_seq of the newest record of a key in an earlier block; 0: none."""
        return self.head.before[self.head.keys.index(key)]


def _unpacked(data: bytes, count: int) -> Sequence[int]:
    width = len(data) // count
    if width == 1:
        return data
    found = array(_CODES[width])
    found.frombytes(data)
    if sys.byteorder == "big":
        found.byteswap()
    return found


def read(stored: StoredBlock) -> Block:
    """Return a block whose bytes are what it says. Raises: store-corrupt."""
    problem = problem_of(stored)
    if problem:
        msg = f"log {stored.log}: block {stored.number} {problem}"
        raise StoreCorrupt(msg)
    return Block(stored, head_of(stored))


def head_of(stored: StoredBlock) -> BlockHead:
    """Return the head of a block. Raises: store-corrupt when it is none."""
    try:
        return _HEAD.decode(stored.head)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        msg = f"log {stored.log}: the head of block {stored.number} cannot be read: {error}"
        raise StoreCorrupt(msg) from error


def problem_of(stored: StoredBlock) -> str:
    """Return what is wrong with the bytes of a block by themselves; "" when nothing is."""
    if not all(isinstance(part, bytes) for part in (stored.head, stored.body, stored.digest)):
        return "does not hold bytes"
    if _sha256(stored.head).digest() != stored.digest:
        return "has a head that is not the one its digest says"
    try:
        head = _HEAD.decode(stored.head)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return f"has a head that cannot be read: {error}"
    if _sha256(stored.body).hexdigest() != head.body:
        return "has records that are not the ones its head says"
    return _misfit(stored, head)


def _misfit(stored: StoredBlock, head: BlockHead) -> str:
    """Return where a head does not fit itself, its body or what it is kept under."""
    if head.v != FORMAT:
        return f"is of version {head.v}"
    if not head.count:
        shape = (head.number, head.first, head.at, head.keys, head.known)
        if shape != (0, 0, 0, (), ()):
            return "holds no record"
        last, last_ms = 0, 0
    else:
        problem = _unfit(head, len(stored.body))
        if problem:
            return problem
        last = head.first + head.count - 1
        last_ms = head.at + (sum(_unpacked(head.steps, head.count)) if head.steps else 0)
    own = (head.log, last, head.number, head.first, head.at, last_ms, len(stored.body))
    kept = msgspec.structs.astuple(stored)[: len(own)]
    return "" if own == kept else "is kept under another place than it says"


def _unfit(head: BlockHead, size: int) -> str:
    """Return what is wrong with the arrays of a head."""
    count, keys = head.count, len(head.keys)
    if not 0 < count <= RECORDS_MAX or head.first < 1 or head.number < 1:
        return "has a place or a count that no block has"
    if len(set(head.keys)) != keys or len(head.before) != keys or not keys:
        return "has keys that are not each there once"
    widths = {name: divmod(len(part), count) for name, part in _arrays(head).items()}
    wrong = [name for name, (width, rest) in widths.items() if rest or width not in _CODES]
    if wrong:
        return f"has {' and '.join(wrong)} that do not fit its records"
    if keys > 1:
        used = set(_unpacked(head.ids, count)) if head.ids else set()
        if used != set(range(keys)):
            return "has keys that are not those of its records"
    elif head.ids:
        return "numbers the one key that it has"
    if sum(_unpacked(head.sizes, count)) != size:
        return "has sizes that do not add up to its bytes"
    return ""


def _arrays(head: BlockHead) -> dict[str, bytes]:
    named = {"sizes": head.sizes, "ids": head.ids, "steps": head.steps}
    return {name: part for name, part in named.items() if part or name == "sizes"}


def about(stored: StoredBlock) -> Genesis:
    """Return whose log it is, by its block 0. Raises: store-corrupt."""
    try:
        return _GENESIS.decode(stored.body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        msg = f"log {stored.log}: block 0 does not say whose log it is: {error}"
        raise StoreCorrupt(msg) from error


# -------------------------------------------------------------------------------------- deriving


def derive(block: Block) -> Iterator[Derived]:
    """Yield the records of a block with the hashes that follow from it."""
    head, prev = block.head, bytes.fromhex(block.head.prev)
    records = zip(block.stamps(), block.ids(), block.items(), strict=True)
    for seq, (stamp, number, data) in enumerate(records, head.first):
        event = _sha256(data).digest()
        own = record_hash(prev, seq, stamp, event)
        yield Derived(
            ingest_seq=seq,
            ingest_ts_ms=stamp,
            key=head.keys[number],
            event_sha256=event.hex(),
            prev_hash=prev.hex(),
            record_hash=own.hex(),
            data=data,
        )
        prev = own


def record_hash(prev: bytes, seq: int, stamp_ms: int, event_sha256: bytes) -> bytes:
    """Return the hash of one record."""
    place = seq.to_bytes(8, "big") + stamp_ms.to_bytes(8, "big")
    return _sha256(prev + place + event_sha256).digest()


def segment_root(digests: Sequence[bytes]) -> bytes:
    """Return the root of the RFC 6962 tree whose leaves are the digests of blocks."""
    return extend(Head(), [leaf_hash(one) for one in digests]).root() if digests else EMPTY_ROOT
