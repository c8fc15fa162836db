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
from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any, Final, NamedTuple

import msgspec

from runwright.kernel.errors import StoreCorrupt
from runwright.kernel.record.ledger import StoredBlock

#: The version of the format of a block.
FORMAT: Final = 1
#: The most records and the most bytes of records in one block.
RECORDS_MAX: Final = 65_536
BODY_MAX: Final = 256 * 1024**2
#: `prev` of block 0.
NO_PREV: Final = "0" * 64

#: What is wrong with a block whose head is sound and whose body is another one.
ALTERED: Final = "has records that are not the ones its head says"

_sha256 = hashlib.sha256
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
        places = [place for place, number in enumerate(self.ids()) if number == own]
        stamps = self.stamps() if head.steps else ()
        first, at, body = head.first, head.at, self.body
        return [
            (first + place, stamps[place] if stamps else at, body[ends[place] : ends[place + 1]])
            for place in places
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
    head, problem = _checked(stored)
    if head is None or problem:
        msg = f"log {stored.log}: block {stored.number} {problem}"
        raise StoreCorrupt(msg)
    return Block(stored, head)


def head_of(stored: StoredBlock) -> BlockHead:
    """Return the head of a block. Raises: store-corrupt when it is none."""
    try:
        return _HEAD.decode(stored.head)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        msg = f"log {stored.log}: the head of block {stored.number} cannot be read: {error}"
        raise StoreCorrupt(msg) from error


def problem_of(stored: StoredBlock) -> str:
    """Return what is wrong with the bytes of a block by themselves; "" when nothing is."""
    return _checked(stored)[1]


def _checked(stored: StoredBlock) -> tuple[BlockHead | None, str]:
    """Return the head of a block, and what is wrong with it."""
    if not all(isinstance(part, bytes) for part in (stored.head, stored.body, stored.digest)):
        return None, "does not hold bytes"
    if _sha256(stored.head).digest() != stored.digest:
        return None, "has a head that is not the one its digest says"
    try:
        head = _HEAD.decode(stored.head)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return None, f"has a head that cannot be read: {error}"
    problem = _misfit(stored, head)
    if not problem and _sha256(stored.body).hexdigest() != head.body:
        problem = ALTERED
    return head, problem


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
    for name, part in (("sizes", head.sizes), ("ids", head.ids), ("steps", head.steps)):
        width, rest = divmod(len(part), count)
        if rest or (width not in _CODES and (part or name == "sizes")):
            return f"has {name} that do not fit its records"
    if keys > 1:
        used = set(_unpacked(head.ids, count)) if head.ids else {-1}
        # As many numbers as keys, and none beyond the last: all of them.
        if len(used) != keys or max(used) != keys - 1:
            return "has keys that are not those of its records"
    elif head.ids:
        return "numbers the one key that it has"
    if sum(_unpacked(head.sizes, count)) != size:
        return "has sizes that do not add up to its bytes"
    return ""


def about(stored: StoredBlock) -> Genesis:
    """Return whose log it is, by its block 0. Raises: store-corrupt."""
    try:
        return _GENESIS.decode(stored.body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        msg = f"log {stored.log}: block 0 does not say whose log it is: {error}"
        raise StoreCorrupt(msg) from error


def restored(head: bytes, body: bytes) -> StoredBlock:
    """Return a block of its bytes alone, kept under what its head says."""
    digest = _sha256(head).digest()
    try:
        says = _HEAD.decode(head)
        steps = _unpacked(says.steps, says.count) if says.steps else ()
    except (msgspec.DecodeError, UnicodeDecodeError, ArithmeticError, LookupError, ValueError):
        return StoredBlock("", 0, 0, 0, 0, 0, len(body), digest, head, body)
    last = says.first + says.count - 1 if says.count else 0
    last_ms = says.at + sum(steps)
    place = (last, says.number, says.first, says.at, last_ms, len(body))
    return StoredBlock(says.log, *place, digest, head, body)
