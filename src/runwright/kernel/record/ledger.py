"""The ledger as arithmetic: entries become leaves, leaves become one RFC 6962 tree.

    leaf = SHA-256(0x00 || bytes of the entry)        node = SHA-256(0x01 || left || right)

`prev` inside an entry is the leaf hash of the one before it, so the hash chain is part of what the
tree commits to and there is no second hash that could disagree. A growing ledger needs only its
right edge (`Head`); proofs read stored roots of full subtrees of 256 ** level entries (tiles), so
a proof out of a million entries touches a few hundred hashes. Nothing here knows a store.
"""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Callable, Sequence
from typing import Any, Final, Literal, NamedTuple, TypeAlias, get_origin

import msgspec

from runwright.kernel.canonical import INT_MAX, check, fit
from runwright.kernel.errors import InternalError, NotCanonical, StoreCorrupt, require
from runwright.kernel.record.entries import (
    ENTRY_MAX,
    FORMAT,
    TYPES,
    Draft,
    Entry,
    decoder_of,
)

#: The root of no entries.
EMPTY_ROOT: Final = hashlib.sha256(b"").digest()
#: `prev` of the first entry, as bytes.
NO_LEAF: Final = bytes(32)
#: A tile is the root of 2 ** (level * TILE_BITS) entries.
TILE_BITS: Final = 8
TILE_WIDTH: Final = 1 << TILE_BITS
#: The most hashes in a proof: a tree has at most 2 ** 63 entries.
PROOF_MAX: Final = 63

#: (level, start, stop) -> hashes of full subtrees of that level, start <= index < stop.
Tiles: TypeAlias = Callable[[int, int, int], list[bytes]]

_ENCODER: Final = msgspec.json.Encoder(order="sorted")
_sha256 = hashlib.sha256


class StoredEntry(msgspec.Struct, frozen=True, gc=False):
    """An entry as it stands in a store: its bytes, and the leaf hash kept beside them."""

    seq: int
    raw: bytes
    #: SHA-256(0x00 || raw), 32 bytes.
    leaf: bytes


class StoredBlock(msgspec.Struct, frozen=True, gc=False):
    """A block as it stands in a store: what it is found by, and its bytes."""

    log: str
    #: The ingest_seq of its last record; 0 in block 0.
    last_seq: int
    #: Counted from 0 on.
    number: int
    #: The ingest_seq of its first record; 0 in block 0.
    first_seq: int
    #: The stamps of its first and its last record, epoch ms.
    first_ms: int
    last_ms: int
    #: How many bytes its records have.
    size: int
    #: SHA-256 of the head, 32 bytes.
    digest: bytes
    head: bytes
    #: The records, one after the other.
    body: bytes


class Tile(msgspec.Struct, frozen=True, gc=False):
    """The root of a full subtree of 256 ** level entries."""

    level: int
    index: int
    hash: bytes


class SealRow(msgspec.Struct, frozen=True):
    """A signed checkpoint over the first `size` entries (C2SP tlog-checkpoint)."""

    size: int
    root: bytes
    note: str


class Head(msgspec.Struct, frozen=True):
    """How far a ledger reaches: all that is needed to append to it and to name its root."""

    size: int = 0
    #: The leaf hash of the last entry; 32 zero bytes when there is none.
    prev: bytes = NO_LEAF
    #: Roots of the full subtrees along the right edge, the largest first.
    frontier: tuple[bytes, ...] = ()

    def root(self) -> bytes:
        """Return the root of the tree over all entries up to here."""
        return _fold(self.frontier)


class Appended(msgspec.Struct, frozen=True):
    """What an append leads to: rows to commit, and the head once they are committed."""

    head: Head
    entries: list[StoredEntry]
    #: The same entries as they read back.
    decoded: list[Entry]
    tiles: list[Tile]


# ---------------------------------------------------------------------------------------- hashes


def leaf_hash(raw: bytes) -> bytes:
    """Return the leaf hash of an entry's bytes."""
    return _sha256(b"\0" + raw).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of an inner node."""
    return _sha256(b"\1" + left + right).digest()


def root_of(leaves: Sequence[bytes]) -> bytes:
    """Return the root over leaf hashes."""
    if not leaves:
        return EMPTY_ROOT
    sha256 = _sha256
    row = leaves
    while len(row) > 1:
        pairs = iter(row)
        above = [
            sha256(b"\1" + left + right).digest() for left, right in zip(pairs, pairs, strict=False)
        ]
        if len(row) & 1:
            # A last node without a partner rises as it is: the split of RFC 6962.
            above.append(row[-1])
        row = above
    return row[0]


def _fold(frontier: Sequence[bytes]) -> bytes:
    """Return the root over subtrees along a right edge, the largest first."""
    if not frontier:
        return EMPTY_ROOT
    root = frontier[-1]
    for left in frontier[-2::-1]:
        root = _sha256(b"\1" + left + root).digest()
    return root


# ---------------------------------------------------------------------------------------- growing


def append(head: Head, origin: str, ts_ms: int, drafts: Sequence[Draft]) -> Appended:
    """Give drafts their place in the ledger; nothing is written.

    Raises: not-canonical for a value outside the profile, and for an entry over ENTRY_MAX bytes.
    """
    seq, prev = head.size, head.prev
    entries: list[StoredEntry] = []
    decoded: list[Entry] = []
    leaves: list[bytes] = []
    sha256 = _sha256
    for draft in drafts:
        raw, back = _encoded(draft, origin, seq, prev, ts_ms)
        decoded.append(back)
        prev = sha256(b"\0" + raw).digest()
        leaves.append(prev)
        entries.append(StoredEntry(seq, raw, prev))
        seq += 1
    tiles: list[Tile] = []
    return Appended(extend(head, leaves, tiles), entries, decoded, tiles)


def prepare(*bodies: type[msgspec.Struct]) -> None:
    """Make ahead what the first entry of each type would have to wait for."""
    for body in bodies:
        _form_of(body)


def _encoded(draft: Draft, origin: str, seq: int, prev: bytes, ts_ms: int) -> tuple[bytes, Entry]:
    body = draft.body
    form = _FORMS.get(type(body)) or _form_of(type(body))
    entry = Entry(
        v=FORMAT,
        origin=origin,
        seq=seq,
        prev=prev.hex(),
        ts=ts_ms,
        type=form.name,
        n=draft.n,
        actor=draft.actor,
        body=body,
        run=draft.run,
        round=draft.round,
        tick=draft.tick,
        blobs=draft.blobs,
        sup=draft.sup,
    )
    try:
        raw = _ENCODER.encode(entry)
        # What a verifier would refuse must not get in: the entry could never be taken out again.
        back: Entry = form.decode(raw)
    except (TypeError, UnicodeEncodeError, msgspec.ValidationError) as error:
        check(draft)
        msg = f"{form.name} entry does not read back: {error}"
        raise InternalError(msg) from error
    # Texts that read back as they were are canonical, and so is nothing; the rest is looked at.
    integers, others = form.integers(body), form.others(body)
    if (
        back.body != body
        or back.blobs != draft.blobs
        or back.actor != draft.actor
        or max(integers) > INT_MAX
        or min(integers) < -INT_MAX
        or not -INT_MAX <= draft.n <= INT_MAX
        or ((draft.blobs or draft.sup) and not _are_exact(draft))
        or (not draft.fits and any(others) and not fit(others, 1))
    ):
        check(draft)
    if len(raw) > ENTRY_MAX:
        msg = f"{form.name} entry of {len(raw)} bytes is over the limit of {ENTRY_MAX}"
        raise NotCanonical(msg, hint="Keep large things as a blob and name them by digest.")
    return raw, back


def _are_exact(draft: Draft) -> bool:
    """Say whether the integers beside the body are inside the profile."""
    sizes = [size for blob in draft.blobs for size in (blob.size, blob.whole_size, blob.masked)]
    return all(-INT_MAX <= size <= INT_MAX for size in (draft.sup or 0, *sizes))


class _Form(NamedTuple):
    """What is known of the entries of one type."""

    name: str
    decode: Callable[[bytes], Entry]
    #: What takes its integers out of a body, and what takes those of its values that are neither
    #: integers nor text; both look into the Structs of the body too.
    integers: Callable[[Any], tuple[int, ...]]
    others: Callable[[Any], tuple[Any, ...]]


def _form_of(kind: type) -> _Form:
    name = TYPES.get(kind)
    if name is None:
        msg = f"{kind.__name__} is not the body of an entry"
        raise InternalError(msg)
    integers: list[str] = []
    others: list[str] = []
    _sort_fields(kind, "", integers, others)
    form = _FORMS[kind] = _Form(
        name,
        decoder_of(name).decode,
        _taker_of(integers) if integers else _zero,
        _taker_of(others) if others else _zero,
    )
    return form


def _sort_fields(kind: type, path: str, integers: list[str], others: list[str]) -> None:
    """Add the fields of a Struct, by their paths; texts and flags read back or are refused."""
    for field in msgspec.structs.fields(kind):
        if field.type is int:
            integers.append(path + field.name)
        elif isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            _sort_fields(field.type, f"{path}{field.name}.", integers, others)
        elif field.type not in (str, bool) and get_origin(field.type) is not Literal:
            others.append(path + field.name)


def _taker_of(paths: Sequence[str]) -> Callable[[Any], tuple[Any, ...]]:
    """Return what takes the values at these paths."""
    # Twice the last one, so that there are always several and the answer is a tuple.
    return operator.attrgetter(*paths, paths[-1])


def _zero(_body: object) -> tuple[int, ...]:
    return (0,)


#: The type of a body -> what is known of its entries.
_FORMS: Final[dict[type, _Form]] = {}


def extend(head: Head, leaves: Sequence[bytes], tiles: list[Tile] | None = None) -> Head:
    """Return the head after more leaves.

    The tiles that they complete are added to `tiles`, those of one level in order.
    """
    if not leaves:
        return head
    found = [] if tiles is None else tiles
    sha256 = _sha256
    edge, ends = list(head.frontier), list[bytes]()
    row, index, height = leaves, head.size, 0
    while row:
        if index & 1:
            # The root beside the first of them waited for it at the edge.
            row = [edge.pop(), *row]
        if len(row) & 1:
            ends.append(row[-1])
        pairs = iter(row)
        row = [
            sha256(b"\1" + left + right).digest() for left, right in zip(pairs, pairs, strict=False)
        ]
        index >>= 1
        height += 1
        if not height & (TILE_BITS - 1):
            level = height // TILE_BITS
            found.extend(Tile(level, index + place, node) for place, node in enumerate(row))
    return Head(head.size + len(leaves), leaves[-1], (*edge, *reversed(ends)))


# ---------------------------------------------------------------------------------------- proofs


def head_of(tiles: Tiles, size: int) -> Head:
    """Rebuild the head at any size from stored tiles.

    Raises: store-corrupt when a tile is missing.
    """
    require(size >= 0, "a ledger has no negative size")
    if size == 0:
        return Head()
    reader = _Reader(tiles)
    frontier = tuple(reader.root(start, height) for start, height in _edge(0, size))
    return Head(size, reader.root(size - 1, 0), frontier)


def subtree_root(tiles: Tiles, start: int, stop: int) -> bytes:
    """Return the root over the entries start <= seq < stop, `start` being aligned for them."""
    reader = _Reader(tiles)
    return _fold([reader.root(place, height) for place, height in _edge(start, stop)])


def inclusion_proof(tiles: Tiles, index: int, size: int) -> list[bytes]:
    """Return the audit path of an entry in the tree of the first `size` (RFC 6962, 2.1.1).

    Raises: store-corrupt when a tile is missing.
    """
    require(0 <= index < size, "the entry is in the tree")
    reader = _Reader(tiles)
    path: list[bytes] = []
    start, stop = 0, size
    while stop - start > 1:
        middle = start + _split(stop - start)
        if index < middle:
            path.append(reader.span(middle, stop))
            stop = middle
        else:
            path.append(reader.span(start, middle))
            start = middle
    path.reverse()
    return path


def consistency_proof(tiles: Tiles, old: int, new: int) -> list[bytes]:
    """Return the proof that the first `old` entries are a prefix of the first `new` (2.1.2).

    Raises: store-corrupt when a tile is missing.
    """
    require(0 <= old <= new, "a ledger grows")
    if old in (0, new):
        return []
    reader = _Reader(tiles)
    path: list[bytes] = []
    start, stop, whole = 0, new, True
    while old != stop:
        middle = start + _split(stop - start)
        if old <= middle:
            path.append(reader.span(middle, stop))
            stop = middle
        else:
            path.append(reader.span(start, middle))
            start, whole = middle, False
    if not whole:
        path.append(reader.span(start, stop))
    path.reverse()
    return path


def check_inclusion(
    leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes
) -> bool:
    """Say whether a leaf is at an index of the tree with this root (RFC 9162, 2.1.3.2)."""
    if not 0 <= index < size or len(proof) > PROOF_MAX:
        return False
    node, place, last = leaf, index, size - 1
    for other in proof:
        if last == 0 or len(other) != len(EMPTY_ROOT):
            return False
        if place & 1 or place == last:
            node = node_hash(other, node)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            node = node_hash(node, other)
        place, last = place >> 1, last >> 1
    return last == 0 and node == root


def check_consistency(
    old: int, new: int, proof: Sequence[bytes], old_root: bytes, new_root: bytes
) -> bool:
    """Say whether the tree of size `new` continues the one of size `old` (RFC 9162, 2.1.4.2)."""
    if not 0 <= old <= new or len(proof) > PROOF_MAX + 1:
        return False
    if old == new:
        return not proof and old_root == new_root
    if old == 0:
        return not proof and old_root == EMPTY_ROOT
    path = [old_root, *proof] if old & (old - 1) == 0 else list(proof)
    if not path or any(len(node) != len(EMPTY_ROOT) for node in path):
        return False
    place, last = old - 1, new - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    first = second = path[0]
    for other in path[1:]:
        if last == 0:
            return False
        if place & 1 or place == last:
            first, second = node_hash(other, first), node_hash(other, second)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            second = node_hash(second, other)
        place, last = place >> 1, last >> 1
    return last == 0 and first == old_root and second == new_root


def _split(count: int) -> int:
    """Return the largest power of two below a count."""
    return 1 << (count - 1).bit_length() - 1


def _edge(start: int, stop: int) -> list[tuple[int, int]]:
    """Return the full subtrees (place, height) that cover a span, from left to right."""
    pieces = []
    while start < stop:
        height = (stop - start).bit_length() - 1
        pieces.append((start, height))
        start += 1 << height
    return pieces


class _Reader:
    """Reads tiles in aligned blocks, each block once."""

    def __init__(self, tiles: Tiles) -> None:
        self._tiles = tiles
        self._blocks: dict[tuple[int, int], list[bytes]] = {}

    def span(self, start: int, stop: int) -> bytes:
        """Return the root over a span whose start is aligned for its size."""
        return _fold([self.root(place, height) for place, height in _edge(start, stop)])

    def root(self, start: int, height: int) -> bytes:
        """Return the root of the full subtree of 2 ** height entries at `start`."""
        level, rest = divmod(height, TILE_BITS)
        first = start >> (level * TILE_BITS)
        number, offset = divmod(first, TILE_WIDTH)
        block = self._block(level, number)
        hashes = block[offset : offset + (1 << rest)]
        if len(hashes) != 1 << rest:
            msg = f"tiles of level {level} from {first} on are missing"
            raise StoreCorrupt(msg)
        return root_of(hashes)

    def _block(self, level: int, number: int) -> list[bytes]:
        block = self._blocks.get((level, number))
        if block is None:
            start = number * TILE_WIDTH
            block = self._tiles(level, start, start + TILE_WIDTH)
            self._blocks[level, number] = block
        return block
