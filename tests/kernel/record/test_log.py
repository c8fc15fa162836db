"""A block of an input log: its bytes are fixed by a check vector, and read back as they went in."""

from __future__ import annotations

import hashlib
import json
from itertools import pairwise

import msgspec
import pytest

from runwright.kernel.errors import InternalError, StoreCorrupt
from runwright.kernel.record.block import Past, derive, genesis, make, segment_root
from runwright.kernel.record.ledger import leaf_hash, node_hash
from runwright.kernel.record.log import (
    BlockHead,
    Genesis,
    Known,
    StoredBlock,
    about,
    head_of,
    problem_of,
    read,
    restored,
)

ABOUT = Genesis(kind="streams", name="prices", origin="example.org/ledger", config="ab" * 32)


def first() -> StoredBlock:
    """Return block 0 of the check vector in docs/reference/log.md."""
    return genesis("prices", ABOUT)


def second(**fields: object) -> StoredBlock:
    """Return block 1 of the check vector in docs/reference/log.md."""
    past = Past(log="prices", number=0, last_seq=0, digest=first().digest.hex())
    values = {"newest": {}, "positions": [("file", 3)], **fields}
    return make(past, [b"one", b"two!", b"\x00"], ["A", "B", "A"], [100, 100, 107], **values)


def test_the_check_vector() -> None:
    """Whoever writes another reader holds it against these."""
    body = hashlib.sha256(b"onetwo!\x00").hexdigest()
    assert first().digest.hex() == (
        "1f1ae8ad2f7e56646b5e6253d3aa090ca587b8f57f455043dce2dbdaa801eee5"
    )
    assert second().head == (
        b'{"at":100,"before":[0,0],"body":"%s","count":3,"first":1,"ids":"AAEA","keys":["A","B"],'
        b'"log":"prices","number":1,"positions":[["file",3]],"prev":"%s","sizes":"AwQB",'
        b'"steps":"AAAH","v":1}' % (body.encode(), first().digest.hex().encode())
    )
    assert second().digest.hex() == (
        "4362fc1cd91f2637a169d173a84c6048bff695f30e8615c888fcdc40f6caddd7"
    )
    assert [one.record_hash for one in derive(read(second()))] == [
        "396d01a1b6999842676eed66214cf46ee32c3dcbcb0d0032565f9ddeaea35ae2",
        "db04e112c2453a976e83b4eda2b6b23db5f44aba89115331df6026f81d7c6ad4",
        "f49d2857bf0e4b7d6e4f0c98022d2f0dabc465f075e1fd05e5fa260649af26ad",
    ]
    assert segment_root([first().digest, second().digest]).hex() == (
        "b05914958ad511a0c337cd6f4513641ff2ef1249b6e1c21d95e04e7da2ccb073"
    )


def test_a_block_reads_back() -> None:
    """Records, keys and stamps, as they went in."""
    block = read(second())
    assert block.items() == [b"one", b"two!", b"\x00"]
    assert [block.head.keys[number] for number in block.ids()] == ["A", "B", "A"]
    assert list(block.stamps()) == [100, 100, 107]
    assert block.of("A") == [(1, 100, b"one"), (3, 107, b"\x00")]
    assert block.of("C") == []
    assert about(first()) == ABOUT


@pytest.mark.parametrize("keys", [1, 2, 256, 257, 1_000])
@pytest.mark.parametrize("size", [0, 255, 256, 65_535, 65_536])
def test_numbers_are_kept_in_the_width_that_they_need(keys: int, size: int) -> None:
    """Up to and over each edge."""
    names = [f"K{number}" for number in range(keys)]
    items = [b"x" * size, *[b"y"] * (keys - 1)]
    stamps = [0, *[size] * (keys - 1)]
    past = Past(log="prices", number=0)
    block = read(make(past, items, names, stamps, newest={}))
    assert block.items() == items
    assert [block.head.keys[number] for number in block.ids()] == names
    assert list(block.stamps()) == stamps


def test_steps_of_centuries_are_kept() -> None:
    """A step may be wider than four bytes."""
    stamps = [0, 1 << 40, (1 << 40) + 5]
    block = make(Past(log="prices", number=0), [b"a"] * 3, ["A"] * 3, stamps, newest={})
    assert list(read(block).stamps()) == stamps


def test_each_record_has_a_hash_that_follows_from_its_block() -> None:
    """The first continues the block before, each other one the record before it."""
    found = list(derive(read(second())))
    assert found[0].prev_hash == first().digest.hex()
    assert all(after.prev_hash == before.record_hash for before, after in pairwise(found))
    for one, data in zip(found, [b"one", b"two!", b"\x00"], strict=True):
        event = hashlib.sha256(data).digest()
        assert (one.data, one.event_sha256) == (data, event.hex())
        place = one.ingest_seq.to_bytes(8, "big") + one.ingest_ts_ms.to_bytes(8, "big")
        own = hashlib.sha256(bytes.fromhex(one.prev_hash) + place + event).hexdigest()
        assert one.record_hash == own


def test_the_root_of_a_segment_is_the_tree_of_the_ledger() -> None:
    """RFC 6962 over the digests of blocks as leaves."""
    a, b, c = (bytes([number]) * 32 for number in range(3))
    leaves = [leaf_hash(one) for one in (a, b, c)]
    assert segment_root([a]) == leaves[0]
    assert segment_root([a, b, c]) == node_hash(node_hash(leaves[0], leaves[1]), leaves[2])
    assert segment_root([]) == hashlib.sha256(b"").digest()


def test_a_block_is_restored_from_its_bytes_alone() -> None:
    """As a bundle brings it."""
    for block in (first(), second(known=[Known("A", 1, 2)])):
        assert restored(block.head, block.body) == block
    assert problem_of(restored(b"{}", b"")) != ""
    assert problem_of(restored(b"\xff", b"")) != ""


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"v": 2}, "is of version 2"),
        ({"count": 0}, "holds no record"),
        ({"count": 4}, "has sizes that do not fit its records"),
        ({"first": 0}, "has a place or a count that no block has"),
        ({"keys": ("A", "A")}, "has keys that are not each there once"),
        ({"before": (0,)}, "has keys that are not each there once"),
        ({"keys": ("A", "B", "C"), "before": (0, 0, 0)}, "has keys that are not those of its"),
        ({"ids": b"\x00\x01\x02"}, "has keys that are not those of its records"),
        ({"keys": ("A",), "before": (0,)}, "numbers the one key that it has"),
        ({"sizes": b"\x03\x04\x02"}, "has sizes that do not add up to its bytes"),
        ({"at": 101}, "is kept under another place than it says"),
        ({"log": "other"}, "is kept under another place than it says"),
    ],
)
def test_a_head_that_does_not_fit_its_records_is_refused(
    fields: dict[str, object], problem: str
) -> None:
    """However right its digest is."""
    block = second()
    head = msgspec.structs.replace(msgspec.json.decode(block.head, type=BlockHead), **fields)
    raw = msgspec.json.encode(head, order="sorted")
    digest = hashlib.sha256(raw).digest()
    forged = msgspec.structs.replace(block, head=raw, digest=digest)
    assert problem in problem_of(forged)
    with pytest.raises(StoreCorrupt, match="log prices: block 1"):
        read(forged)


def test_a_head_with_an_unknown_field_is_refused() -> None:
    """The form is closed."""
    block = second()
    raw = json.dumps({**json.loads(block.head), "more": 1}).encode()
    forged = restored(raw, block.body)
    assert "has a head that cannot be read" in problem_of(forged)
    with pytest.raises(StoreCorrupt, match="cannot be read"):
        head_of(forged)


@pytest.mark.parametrize(
    ("items", "keys", "stamps"),
    [([], [], 1), ([b"a"], [], 1), ([b"a"], ["A"], [1, 2]), ([b"a"] * 65_537, ["A"] * 65_537, 1)],
)
def test_what_is_no_block_is_never_made(items: list, keys: list, stamps: object) -> None:
    """That would be a defect of the caller."""
    with pytest.raises(InternalError):
        make(Past(log="prices"), items, keys, stamps, newest={})
