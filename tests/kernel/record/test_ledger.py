"""The ledger's arithmetic against the definitions of RFC 6962 and the CT test vectors."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runwright.kernel.errors import InternalError, NotCanonical, StoreCorrupt
from runwright.kernel.record import ledger
from runwright.kernel.record.entries import (
    ENTRY_MAX,
    NO_PREV,
    ClockStepped,
    Draft,
    HaltRaised,
    RunFinished,
)
from runwright.kernel.record.ledger import Head
from runwright.kernel.run import Blob, Resources, Warmth

#: The leaves of the reference tree in the certificate-transparency sources.
CT_LEAVES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
#: Its roots at sizes 1 to 8.
CT_ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
#: Audit paths of that tree: (index, size, path).
CT_PATHS = [
    (0, 1, []),
    (
        0,
        8,
        [
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ],
    ),
    (
        5,
        8,
        [
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ],
    ),
    (2, 3, ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"]),
    (
        1,
        5,
        [
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        ],
    ),
]


def naive_root(leaves: Sequence[bytes]) -> bytes:
    """MTH of RFC 6962, section 2.1, word for word."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return hashlib.sha256(b"\x01" + naive_root(leaves[:k]) + naive_root(leaves[k:])).digest()


def naive_path(m: int, leaves: Sequence[bytes]) -> list[bytes]:
    """PATH of RFC 6962, section 2.1.1."""
    if len(leaves) == 1:
        return []
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    if m < k:
        return [*naive_path(m, leaves[:k]), naive_root(leaves[k:])]
    return [*naive_path(m - k, leaves[k:]), naive_root(leaves[:k])]


def naive_proof(m: int, leaves: Sequence[bytes]) -> list[bytes]:
    """PROOF of RFC 6962, section 2.1.2."""

    def sub(m: int, part: Sequence[bytes], whole: bool) -> list[bytes]:
        if m == len(part):
            return [] if whole else [naive_root(part)]
        k = 1
        while k * 2 < len(part):
            k *= 2
        if m <= k:
            return [*sub(m, part[:k], whole), naive_root(part[k:])]
        return [*sub(m - k, part[k:], whole=False), naive_root(part[:k])]

    return sub(m, leaves, whole=True)


class Shelf:
    """Tiles of a list of leaves, as `append` emits them."""

    def __init__(self, leaves: Sequence[bytes]) -> None:
        self.rows: dict[int, list[bytes]] = {0: list(leaves)}
        tiles: list[ledger.Tile] = []
        head = Head()
        for leaf in leaves:
            head = ledger.extend(head, [leaf], tiles)
        for tile in tiles:
            row = self.rows.setdefault(tile.level, [])
            assert len(row) == tile.index
            row.append(tile.hash)
        self.reads = 0

    def __call__(self, level: int, start: int, stop: int) -> list[bytes]:
        self.reads += 1
        return self.rows.get(level, [])[start:stop]


def leaves_of(count: int) -> list[bytes]:
    return [ledger.leaf_hash(b"%d" % number) for number in range(count)]


def place_of(tile: ledger.Tile) -> tuple[int, int]:
    return tile.level, tile.index


def drafts_of(count: int) -> list[Draft]:
    return [Draft(body=ClockStepped(step_ms=number)) for number in range(count)]


def test_roots_are_those_of_the_certificate_transparency_vectors() -> None:
    leaves = [ledger.leaf_hash(data) for data in CT_LEAVES]
    for size, expected in enumerate(CT_ROOTS, 1):
        assert ledger.root_of(leaves[:size]).hex() == expected
        assert ledger.extend(Head(), leaves[:size]).root().hex() == expected
    assert Head().root() == hashlib.sha256(b"").digest()


@pytest.mark.parametrize(("index", "size", "path"), CT_PATHS)
def test_audit_paths_are_those_of_the_vectors(index: int, size: int, path: list[str]) -> None:
    leaves = [ledger.leaf_hash(data) for data in CT_LEAVES]
    proof = ledger.inclusion_proof(Shelf(leaves), index, size)
    assert [node.hex() for node in proof] == path
    root = bytes.fromhex(CT_ROOTS[size - 1])
    assert ledger.check_inclusion(leaves[index], index, size, proof, root)


@given(st.integers(0, 1200))
@settings(max_examples=60, deadline=None)
def test_every_way_to_a_root_gives_the_naive_root(size: int) -> None:
    leaves = leaves_of(size)
    expected = naive_root(leaves)
    assert ledger.root_of(leaves) == expected
    assert ledger.extend(Head(), leaves).root() == expected
    assert ledger.head_of(Shelf(leaves), size).root() == expected


@pytest.mark.parametrize("step", [1, 3, 100, 255, 256, 257, 1_000])
def test_tiles_do_not_depend_on_how_many_leaves_come_at_once(step: int) -> None:
    """Every full subtree of 256 and of 65,536 entries, once and in order."""
    leaves = leaves_of(66_000 if step > 99 else 1_000)
    head, tiles = Head(), list[ledger.Tile]()
    for start in range(0, len(leaves), step):
        head = ledger.extend(head, leaves[start : start + step], tiles)
    assert head == ledger.extend(Head(), leaves)
    rows = [[tile for tile in tiles if tile.level == level] for level in (1, 2)]
    for level, row in enumerate(rows, 1):
        width = 256**level
        assert [tile.index for tile in row] == list(range(len(leaves) // width))
        for tile in row[-1:] + row[:1]:
            span = leaves[tile.index * width : (tile.index + 1) * width]
            assert tile.hash == ledger.root_of(span)
    assert len(tiles) == len(rows[0]) + len(rows[1])


BIG = 2**53


@pytest.mark.parametrize(
    "fields",
    [
        {"attempts": BIG},
        {"started_ms": -BIG},
        {"used": Resources(duration_ms=BIG)},
        {"used": Resources(exit=BIG)},
        {"value": {"a": [BIG]}},
        {"value": {"a": 0.5}},
        {"value": {"\u00e4": 1}},
        {"left": {"a": {"b": -BIG}}},
        {"left": {"a": float("nan")}},
        {"warmth": Warmth(state="warm", n=BIG)},
        {"key": b"x"},
    ],
)
def test_a_value_outside_the_profile_is_refused_wherever_it_stands(fields: dict[str, Any]) -> None:
    """As an integer of the body, of a Struct in it, or inside a value of its own."""
    body = RunFinished(**{"key": "a", "status": "done", **fields})
    with pytest.raises(NotCanonical):
        ledger.append(Head(), "o", 1, [Draft(body=body)])


@pytest.mark.parametrize(
    "fields",
    [{"n": BIG}, {"sup": BIG}, {"blobs": (Blob(name="a", digest="b", size=BIG),)}],
)
def test_a_draft_outside_the_profile_is_refused(fields: dict[str, Any]) -> None:
    """What stands beside the body, as well."""
    with pytest.raises(NotCanonical):
        ledger.append(Head(), "o", 1, [Draft(body=ClockStepped(step_ms=1), **fields)])


@given(st.integers(0, 1100), st.integers(0, 1100))
@settings(max_examples=60, deadline=None)
def test_a_tree_extended_in_two_steps_is_the_tree_extended_in_one(first: int, second: int) -> None:
    leaves = leaves_of(first + second)
    head = ledger.extend(ledger.extend(Head(), leaves[:first]), leaves[first:])
    assert head == ledger.extend(Head(), leaves)
    assert head == ledger.head_of(Shelf(leaves), len(leaves))


@given(st.data())
@settings(max_examples=80, deadline=None)
def test_inclusion_proofs_equal_the_naive_ones_and_hold(data: st.DataObject) -> None:
    total = data.draw(st.integers(1, 700))
    size = data.draw(st.integers(1, total))
    index = data.draw(st.integers(0, size - 1))
    leaves = leaves_of(total)
    proof = ledger.inclusion_proof(Shelf(leaves), index, size)
    assert proof == naive_path(index, leaves[:size])
    root = naive_root(leaves[:size])
    assert ledger.check_inclusion(leaves[index], index, size, proof, root)
    assert not ledger.check_inclusion(leaves[index], (index + 1) % (size + 1), size, proof, root)
    assert not ledger.check_inclusion(bytes(32), index, size, proof, root)
    if proof:
        place = data.draw(st.integers(0, len(proof) - 1))
        forged = [*proof]
        forged[place] = ledger.leaf_hash(forged[place])
        assert not ledger.check_inclusion(leaves[index], index, size, forged, root)
        assert not ledger.check_inclusion(leaves[index], index, size, proof[:-1], root)
    assert not ledger.check_inclusion(leaves[index], index, size, [*proof, bytes(32)], root)


@given(st.data())
@settings(max_examples=80, deadline=None)
def test_consistency_proofs_equal_the_naive_ones_and_hold(data: st.DataObject) -> None:
    new = data.draw(st.integers(1, 700))
    old = data.draw(st.integers(1, new))
    leaves = leaves_of(new)
    proof = ledger.consistency_proof(Shelf(leaves), old, new)
    assert proof == naive_proof(old, leaves)
    old_root, new_root = naive_root(leaves[:old]), naive_root(leaves)
    assert ledger.check_consistency(old, new, proof, old_root, new_root)
    assert not ledger.check_consistency(old, new, [*proof, bytes(32)], old_root, new_root)
    assert not ledger.check_consistency(old, new, proof, bytes(32), new_root)
    assert not ledger.check_consistency(old, new, proof, old_root, bytes(32))
    if proof:
        assert not ledger.check_consistency(old, new, proof[:-1], old_root, new_root)


@given(st.integers(0, 60), st.integers(1, 60), st.data())
@settings(max_examples=60, deadline=None)
def test_a_random_proof_never_holds(index: int, size: int, data: st.DataObject) -> None:
    proof = data.draw(st.lists(st.binary(min_size=32, max_size=32), max_size=8))
    root = naive_root(leaves_of(size))
    leaf = ledger.leaf_hash(b"not in the tree")
    assert not ledger.check_inclusion(leaf, index, size, proof, root)


def test_append_chains_entries_and_the_head_names_their_root() -> None:
    appended = ledger.append(Head(), "example.org/ledger", 1_700_000_000_000, drafts_of(5))
    prev = NO_PREV
    for seq, entry in enumerate(appended.entries):
        fields = json.loads(entry.raw)
        assert (fields["seq"], fields["prev"], fields["origin"]) == (
            seq,
            prev,
            "example.org/ledger",
        )
        assert entry.leaf == hashlib.sha256(b"\0" + entry.raw).digest()
        prev = entry.leaf.hex()
    assert appended.head.root() == naive_root([entry.leaf for entry in appended.entries])
    assert appended.head.prev.hex() == prev


def test_append_in_batches_equals_append_at_once_and_emits_every_tile() -> None:
    origin, ts_ms, count = "example.org/ledger", 1, 70_000
    whole = ledger.append(Head(), origin, ts_ms, drafts_of(count))
    assert [(tile.level, tile.index) for tile in whole.tiles if tile.level > 1] == [(2, 0)]
    assert len([tile for tile in whole.tiles if tile.level == 1]) == count // 256
    head, entries, tiles = Head(), [], []
    drafts = drafts_of(count)
    for start in range(0, count, 997):
        part = ledger.append(head, origin, ts_ms, drafts[start : start + 997])
        head = part.head
        entries += part.entries
        tiles += part.tiles
    assert head == whole.head
    assert entries == whole.entries
    assert sorted(tiles, key=place_of) == sorted(whole.tiles, key=place_of)
    leaves = [entry.leaf for entry in entries]
    for tile in (tiles[0], tiles[-1], *(tile for tile in tiles if tile.level == 2)):
        width = 256**tile.level
        start = tile.index * width
        assert tile.hash == ledger.root_of(leaves[start : start + width])
    shelf = Shelf(leaves)
    assert ledger.head_of(shelf, count) == head
    shelf.reads = 0
    proof = ledger.inclusion_proof(shelf, 12_345, count)
    assert shelf.reads <= 8
    assert ledger.check_inclusion(leaves[12_345], 12_345, count, proof, head.root())


def test_subtree_roots_are_those_of_the_leaves() -> None:
    leaves = leaves_of(700)
    for start, stop in ((0, 700), (256, 512), (512, 700), (640, 644)):
        expected = naive_root(leaves[start:stop])
        assert ledger.subtree_root(Shelf(leaves), start, stop) == expected


def test_a_missing_tile_is_a_corrupt_store() -> None:
    shelf = Shelf(leaves_of(600))
    shelf.rows[1].clear()
    with pytest.raises(StoreCorrupt, match="tiles of level 1 from 0 on are missing"):
        ledger.head_of(shelf, 600)


def test_an_entry_over_the_limit_is_refused() -> None:
    """The message names the type and both sizes."""
    draft = Draft(body=HaltRaised(code="halt", message="x" * ENTRY_MAX))
    with pytest.raises(NotCanonical, match=r"halt.raised entry of \d+ bytes is over the limit"):
        ledger.append(Head(), "example.org/ledger", 1, [draft])


def test_a_value_without_canonical_form_is_refused() -> None:
    draft = Draft(body=ClockStepped(step_ms=2**53))
    with pytest.raises(NotCanonical, match=r"body.step_ms: 9007199254740992 is beyond"):
        ledger.append(Head(), "example.org/ledger", 1, [draft])


@pytest.mark.parametrize("body", [{"step_ms": 1}, ClockStepped(step_ms="1")])  # type: ignore[arg-type]
def test_what_a_verifier_would_refuse_does_not_get_in(body: object) -> None:
    with pytest.raises(InternalError):
        ledger.append(Head(), "example.org/ledger", 1, [Draft(body=body)])
