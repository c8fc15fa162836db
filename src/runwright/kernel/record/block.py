"""Makes blocks of an input log, and says what each record in a block hashes to.

Whatever making does for each record is done in loops that C runs: this is the way of every event.
"""

from __future__ import annotations

import hashlib
import sys
from array import array
from collections.abc import Iterator, Mapping, Sequence
from operator import sub
from typing import Any, Final

import msgspec

from runwright.kernel.canonical import encode
from runwright.kernel.errors import require
from runwright.kernel.record.ledger import StoredBlock, leaf_hash, root_of
from runwright.kernel.record.log import (
    BODY_MAX,
    FORMAT,
    NO_PREV,
    RECORDS_MAX,
    Block,
    BlockHead,
    Genesis,
    Known,
)

#: A map of all keys is kept again after so many blocks, or as many as there are keys.
MAP_EVERY: Final = 64

_sha256 = hashlib.sha256
_ENCODER: Final = msgspec.json.Encoder(order="sorted")
_BYTE: Final = 256


class Past(msgspec.Struct, frozen=True, kw_only=True):
    """What a block has to know of the ones before it."""

    log: str
    number: int = -1
    last_seq: int = 0
    #: The digest of the newest block, hex.
    digest: str = NO_PREV
    #: The last ingest_seq of the newest block with a map.
    map: int = 0


def genesis(log: str, about: Genesis) -> StoredBlock:
    """Return block 0 of a log."""
    body = encode(about)
    head = BlockHead(
        v=FORMAT,
        log=log,
        number=0,
        first=0,
        count=0,
        prev=NO_PREV,
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

    `newest` says of keys where their newest record is.
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
    return root_of([leaf_hash(one) for one in digests])
