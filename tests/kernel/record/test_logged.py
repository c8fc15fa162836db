"""Each sentence about input logs can be broken alone, by a forger who chains and signs again."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from runwright.adapters.memory import MemoryStore
from runwright.kernel.drive.blocks import between, every
from runwright.kernel.ports import LogEnd
from runwright.kernel.record import bundle
from runwright.kernel.record.entries import Draft, LogSealed, decode
from runwright.kernel.record.log import BlockHead, StoredBlock, restored
from runwright.kernel.record.logged import SENTENCES
from runwright.kernel.record.verify import Report, verify
from tests.kernel.drive.logs import NAME, Stage, cut, events, told
from tests.kernel.record.test_bundle import EVIDENCE, pem, resigned

#: The blocks of the honest log, by number: 0 begins it, 4 is pinned, 1 to 6 are sealed.
PINNED, SEALED, LONELY = 4, 6, 8


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    """A log of ten blocks of three records: a round reads some of it, a segment is sealed."""
    made = Stage(MemoryStore(), tmp_path)
    log = made.log(segment_records=18)
    for number in range(1, 11):
        items, keys = events(3, number * 3 - 2)
        if number == LONELY:
            keys = ["LONELY"] * 3
        log.append(items, keys, [number * 100] * 3, {"file": number})
        log.seal()
        if number == PINNED + 1:
            made.round(log.end_at(499), cut("BTC", 1, 12), cut("ETH", 5, 12), cut("XRP", 13, 12))
    return made


def blocks_of(stage: Stage) -> list[StoredBlock]:
    return list(every(stage.store))


def forged(block: StoredBlock, **fields: Any) -> StoredBlock:
    """Return a block with other words in its head, hashed and kept as they say."""
    head = msgspec.json.decode(block.head, type=BlockHead)
    raw = msgspec.json.encode(msgspec.structs.replace(head, **fields), order="sorted")
    return restored(raw, fields.pop("whole", block.body))


def chained(blocks: Sequence[StoredBlock], number: int, **fields: Any) -> list[StoredBlock]:
    """Return blocks of which one was forged, and those after it chained again."""
    found = [*blocks[:number], forged(blocks[number], **fields)]
    for block in blocks[number + 1 :]:
        found.append(forged(block, prev=found[-1].digest.hex()))
    return found


def altered(stage: Stage) -> Report:
    blocks = blocks_of(stage)
    body = bytearray(blocks[LONELY].body)
    body[0] ^= 1
    blocks[LONELY] = msgspec.structs.replace(blocks[LONELY], body=bytes(body))
    return stage.verify(blocks=blocks)


def unchained(stage: Stage) -> Report:
    return stage.verify(blocks=chained(blocks_of(stage), LONELY, prev="ab" * 32))


def left_out(stage: Stage) -> Report:
    blocks = blocks_of(stage)
    del blocks[LONELY]
    blocks[LONELY] = forged(blocks[LONELY], prev=blocks[LONELY - 1].digest.hex())
    blocks[LONELY + 1] = forged(blocks[LONELY + 1], prev=blocks[LONELY].digest.hex())
    return stage.verify(blocks=blocks)


def stamped_back(stage: Stage) -> Report:
    return stage.verify(blocks=chained(blocks_of(stage), LONELY, at=1))


def pointed_elsewhere(stage: Stage) -> Report:
    return stage.verify(blocks=chained(blocks_of(stage), LONELY, before=(3,)))


def another_root(stage: Stage) -> Report:
    body = LogSealed(
        kind="streams",
        name=NAME,
        index=1,
        first_seq=19,
        last_seq=30,
        blocks=4,
        root="ab" * 32,
        head=blocks_of(stage)[-1].digest.hex(),
        first_ms=700,
        last_ms=1_000,
        bytes=sum(block.size for block in blocks_of(stage)[7:]),
    )
    stage.writer.commit([Draft(body=body)])
    return stage.verify()


def pinned_elsewhere(stage: Stage) -> Report:
    end = LogEnd(12, PINNED, "ab" * 32)
    stage.round(end, cut("BTC", 1, 12), planned_ms=1)
    return stage.verify()


def read_beyond(stage: Stage) -> Report:
    stage.round(stage.reader().end_at(499), cut("BTC", 1, 13), planned_ms=1)
    return stage.verify()


FORGERS: list[tuple[str, Callable[[Stage], Report], str]] = [
    ("log-form", altered, "block 8 (records 22 to 24) has records that are not"),
    ("log-chain", unchained, "block 8 (from record 22 on) does not continue it"),
    ("log-seq", left_out, "block 9 begins at record 25, not 22"),
    ("log-time", stamped_back, "record 22 is stamped before the one before it"),
    ("log-keys", pointed_elsewhere, "block 8 (from record 22 on) says wrongly where the records"),
    ("log-sealed", another_root, "segment 1 (records 19 to 30) of log prices is another one"),
    ("log-pinned", pinned_elsewhere, "names another block 4 of log prices"),
    ("log-cuts", read_beyond, "reads what its round does not"),
]
WORDS = {word for word, _, _ in FORGERS}


def test_an_honest_log_holds(stage: Stage) -> None:
    """Every sentence is stated, and the report says how much was read."""
    report = stage.verify()
    assert told(report) == {}
    found = {check.word: check.detail for check in report.checks if check.level == "log"}
    assert found.keys() == SENTENCES.keys()
    assert found["log-form"] == "30 records in 11 blocks"


def test_a_record_without_logs_has_no_sentence_about_them(tmp_path: Path) -> None:
    """What was not checked is not stated."""
    report = Stage(MemoryStore(), tmp_path).verify()
    assert report.held
    assert not [check for check in report.checks if check.level == "log"]


@pytest.mark.parametrize(("word", "forge", "detail"), FORGERS, ids=[word for word, _, _ in FORGERS])
def test_a_forged_log_breaks_only_the_sentence_that_it_breaks(
    stage: Stage, word: str, forge: Callable[[Stage], Report], detail: str
) -> None:
    """And the first bad record, or the entry, is named."""
    broken = told(forge(stage))
    assert broken.keys() == {word}
    assert detail in broken[word]


def test_every_sentence_about_logs_has_a_forger() -> None:
    """None of them is only printed."""
    assert SENTENCES.keys() == WORDS


def test_an_edit_that_is_chained_again_meets_what_the_ledger_says(stage: Stage) -> None:
    """Whoever rewrites a record that a round read or a segment holds has to sign it too."""
    block = blocks_of(stage)[2]
    body = block.body.replace(b"4", b"9")
    one = hashlib.sha256(body).hexdigest()
    blocks = blocks_of(stage)
    found = [*blocks[:2], restored(forged(block, body=one).head, body)]
    for after in blocks[3:]:
        found.append(forged(after, prev=found[-1].digest.hex()))
    assert told(stage.verify(blocks=found)).keys() == {"log-sealed", "log-pinned"}


@pytest.mark.parametrize("number", range(1, 11))
def test_records_that_were_altered_break_one_sentence_wherever_they_are(
    stage: Stage, number: int
) -> None:
    """The digest of their block says it; what its head says of others is still right."""
    blocks = blocks_of(stage)
    body = blocks[number].body.replace(b"n", b"m")
    blocks[number] = msgspec.structs.replace(blocks[number], body=body)
    assert told(stage.verify(blocks=blocks)).keys() == {"log-form"}


@pytest.mark.parametrize("keep", [0, 1, PINNED, SEALED, SEALED + 1])
def test_a_log_that_was_cut_off_is_found(stage: Stage, keep: int) -> None:
    """As far as the ledger holds it: by the segment, by the round, or because it never began."""
    broken = told(stage.verify(blocks=blocks_of(stage)[:keep]))
    assert bool(broken) == (keep <= SEALED)
    if keep == SEALED:
        assert broken == {
            "log-sealed": "log prices ends at record 15, segment 0 at 18",
        }


def test_a_log_without_its_beginning_is_found(stage: Stage) -> None:
    """Nothing was retired, so every block has to be there."""
    blocks = blocks_of(stage)
    assert "block 0 is not there" in told(stage.verify(blocks=blocks[1:]))["log-seq"]
    found = told(stage.verify(blocks=blocks[:1] + blocks[2:]))
    assert "begins at record 4, not 1" in found["log-seq"]


def test_a_log_of_another_ledger_is_found(stage: Stage) -> None:
    """Block 0 says whose it is."""
    blocks = blocks_of(stage)
    body = blocks[0].body.replace(b"example.org/log", b"example.org/lag")
    first = forged(blocks[0], body=hashlib.sha256(body).hexdigest())
    found = told(stage.verify(blocks=[restored(first.head, body), *blocks[1:]]))
    assert "it began as log prices of example.org/lag" in found["log-form"]


@pytest.mark.slow
def test_every_flipped_byte_of_a_log_is_found(stage: Stage) -> None:
    """In heads, bodies, digests and in what blocks are kept under; the block is named."""
    blocks, evidence = blocks_of(stage), stage.evidence()

    def found(place: int, **fields: Any) -> str:
        bad = msgspec.structs.replace(blocks[place], **fields)
        again = [*blocks[:place], bad, *blocks[place + 1 :]]
        return told(verify(msgspec.structs.replace(evidence, blocks=again), lint=False))["log-form"]

    for number, block in enumerate(blocks):
        for field in ("head", "body", "digest"):
            data = getattr(block, field)
            for at in range(0, len(data), 1 if field == "body" else 11):
                flip = bytearray(data)
                flip[at] ^= 1 << (at % 8)
                assert f"block {number} (records" in found(number, **{field: bytes(flip)})
        for field in ("last_seq", "number", "first_seq", "first_ms", "last_ms", "size"):
            detail = found(number, **{field: getattr(block, field) + 1})
            assert "is kept under another place than it says" in detail


def test_blocks_of_other_types_are_named_and_do_not_stop_the_verifier(stage: Stage) -> None:
    """A store may hold text where bytes were."""
    blocks = blocks_of(stage)
    for field in ("head", "body", "digest"):
        bad = msgspec.structs.replace(blocks[3], **{field: "text"})
        found = told(stage.verify(blocks=[*blocks[:3], bad, *blocks[4:]]))
        assert "does not hold bytes" in found["log-form"]


def test_a_block_that_repeats_or_swaps_is_found(stage: Stage) -> None:
    """Order and number are part of the chain."""
    blocks = blocks_of(stage)
    twice = [*blocks[:5], blocks[4], *blocks[5:]]
    assert {"log-seq", "log-chain"} <= told(stage.verify(blocks=twice)).keys()
    swapped = [*blocks[:4], blocks[5], blocks[4], *blocks[6:]]
    assert {"log-seq", "log-chain"} <= told(stage.verify(blocks=swapped)).keys()


# ------------------------------------------------------------------------------------ in a bundle

READ = ("log/%s.head", "log/%s.body")


def bundled(
    stage: Stage, seq: int, blocks: Sequence[StoredBlock] | None = None
) -> dict[str, bytes]:
    """Write the bundle of a round with the blocks that its runs read, or with others."""
    stage.writer.seal()
    entries = list(stage.store.entries())
    chosen = bundle.entries_of(entries, {decode(entries[seq].raw).round}, stage.store.blob)
    chosen += [one for one in entries if decode(one.raw).type == "log.retired"]
    reading = next(iter(bundle.readings_of(chosen, stage.store.blob)), None)
    read = between(stage.store, NAME, reading.first, reading.end) if reading else ()
    return bundle.write_bundle(
        chosen,
        seal=stage.store.seals(latest=True)[0],
        tiles=stage.store.tiles,
        blob=stage.store.blob,
        key=EVIDENCE,
        blocks=list(read) if blocks is None else blocks,
    )


def in_bundle(stage: Stage, files: dict[str, bytes]) -> dict[str, str]:
    keys = [stage.key().text(), pem(EVIDENCE)]
    return told(bundle.verify_bundle(files, keys))


def planned(stage: Stage) -> int:
    found = (decode(one.raw) for one in stage.store.entries())
    return next(one.seq for one in found if one.type == "round.planned")


def test_a_bundle_brings_the_blocks_that_its_runs_read(stage: Stage) -> None:
    """From the first record of a cut to the block that the round names, and no other."""
    files = bundled(stage, planned(stage))
    assert in_bundle(stage, files) == {}
    names = {name % block.digest.hex() for name in READ for block in blocks_of(stage)[1:5]}
    assert {name for name in files if name.startswith("log/")} == names
    assert b"## 5. What the runs read is what arrived" in files["VERIFY.md"]


def test_the_blocks_of_a_bundle_are_checked_by_hand(stage: Stage, tmp_path: Path) -> None:
    """By the commands that VERIFY.md says; they find an altered record and a missing block."""
    files = bundled(stage, planned(stage))
    assert by_hand(files, tmp_path / "right") == 0
    name = READ[1] % blocks_of(stage)[2].digest.hex()
    assert by_hand({**files, name: files[name].replace(b"4", b"5")}, tmp_path / "altered") != 0
    name = READ[0] % blocks_of(stage)[PINNED].digest.hex()
    left = {other: data for other, data in files.items() if other != name}
    assert by_hand(left, tmp_path / "missing") != 0


def by_hand(files: dict[str, bytes], folder: Path) -> int:
    """Run the commands of the fifth section of VERIFY.md in a folder; return their status."""
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    section = files["VERIFY.md"].decode().partition("## 5. ")[2]
    commands = section.partition("```sh\n")[2].partition("```")[0]
    return subprocess.run(["sh", "-e", "-c", commands], cwd=folder, check=False).returncode


@pytest.mark.parametrize(
    ("words", "change"),
    [
        ({"log-cuts"}, lambda blocks: blocks[1:4]),
        ({"log-cuts", "log-pinned"}, lambda blocks: blocks[0:3]),
        ({"log-cuts", "log-pinned"}, lambda blocks: []),
        ({"log-cuts", "log-pinned"}, lambda blocks: [*blocks[:1], *blocks[2:4]]),
        ({"log-pinned"}, lambda blocks: blocks[:5]),
        ({"log-chain"}, lambda blocks: [forged(blocks[0], at=99), *blocks[1:4]]),
        ({"log-chain", "log-pinned"}, lambda blocks: chained(blocks[:4], 2, prev="ab" * 32)),
        ({"log-pinned"}, lambda blocks: chained(blocks[:4], 0, at=99)),
    ],
    ids=["first", "last", "all", "hole", "more", "first-forged", "unchained", "rewritten"],
)
def test_a_bundle_with_other_blocks_than_the_pinned_ones_is_found(
    stage: Stage, words: set[str], change: Callable[[list[StoredBlock]], list[StoredBlock]]
) -> None:
    """Left out, forged and chained again, or added: offline, by following the digests."""
    files = bundled(stage, planned(stage), change(blocks_of(stage)[1:]))
    assert in_bundle(stage, files).keys() == words


def test_a_record_that_was_altered_in_a_bundle_is_found(stage: Stage) -> None:
    """By the manifest; and by its block when the forger holds the key of the manifest."""
    files = bundled(stage, planned(stage))
    name = READ[1] % blocks_of(stage)[2].digest.hex()
    files[name] = files[name].replace(b"4", b"5")
    assert in_bundle(stage, files).keys() == {"files", "log-form"}
    assert in_bundle(stage, resigned(files)).keys() == {"log-form"}


def test_a_bundle_of_a_round_that_read_nothing_needs_no_block(stage: Stage) -> None:
    """Its cuts are empty."""
    seq = stage.round(stage.reader().end_at(499), cut("BTC", 13, 12), planned_ms=1)
    assert in_bundle(stage, bundled(stage, seq)) == {}


def test_a_bundle_of_a_round_whose_inputs_were_retired_says_so(tmp_path: Path) -> None:
    """The entry that retired them is in it; without that their absence is a finding."""
    stage, seq = retiring(tmp_path)
    files = bundled(stage, seq)
    assert in_bundle(stage, files) == {}
    stage, seq = retiring(tmp_path / "other", retires=False)
    assert {"log-cuts", "log-pinned"} <= in_bundle(stage, bundled(stage, seq, [])).keys()


def test_pins_of_blocks_that_were_retired_are_counted_as_not_looked_at(tmp_path: Path) -> None:
    """What cannot be checked any more is said, not passed over."""
    stage, _ = retiring(tmp_path)
    report = stage.verify()
    assert report.held
    details = {check.word: check.detail for check in report.checks}
    assert details["log-pinned"] == "1 of them in blocks that were retired"


def retiring(folder: Path, *, retires: bool = True) -> tuple[Stage, int]:
    """Return a log of which the first sixty records were retired, and a round that read some."""
    folder.mkdir(exist_ok=True)
    stage = Stage(MemoryStore(), folder)
    log = stage.log(segment_records=30, keep_records=60)
    for number in range(1, 101):
        log.append(*events(3, number * 3), [number * 100] * 3)
        log.seal()
    seq = stage.round(log.end_at(300), cut("BTC", 1, 9))
    assert not retires or log.retire(60) == 60
    return stage, seq
