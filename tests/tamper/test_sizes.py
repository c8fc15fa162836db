"""Clean ledgers of many sizes verify, and the same ledgers with one flipped byte do not."""

from __future__ import annotations

import pytest

from runwright.kernel.record.ledger import SealRow, head_of
from runwright.kernel.record.verify import Evidence, verify
from tests.tamper.flips import flipped
from tests.tamper.sample import Sample

#: Around the width of a tile, and far beyond it; the sample itself is small.
SIZES = (255, 256, 257, 10_000)


def holds_until_one_byte_is_flipped(sample: Sample) -> None:
    """Verify with and without the lint, before and after; the first, a middle and the last."""
    size = sample.size()
    assert sample.verify().held
    assert sample.verify(lint=False).held
    for seq in {0, size // 2, size - 1}:
        ((raw,),) = sample.project.sql("SELECT raw FROM entry WHERE seq = ?", seq)
        changed = flipped(raw, len(raw) // 3, seq % 8)
        sample.alter("UPDATE entry SET raw = ? WHERE seq = ?", (changed, seq))
        for lint in (True, False):
            verdict = sample.verify(lint=lint)
            assert (verdict.held, verdict.raised, verdict.first_bad) == (False, False, seq)
        sample.alter("UPDATE entry SET raw = ? WHERE seq = ?", (raw, seq))
    assert sample.verify().held


def test_no_entries_are_no_ledger() -> None:
    """Nothing holds that nobody opened and nobody sealed."""
    evidence = Evidence(entries=[], seals=[], blob=lambda _: None, keys=[])
    report = verify(evidence)
    assert {check.word for check in report.checks if not check.held} == {"opened", "sealed"}


def test_a_store_without_entries_is_refused(sample: Sample) -> None:
    """`init` puts a store with its first entry in place at once, so this one was emptied."""
    sample.alter("DELETE FROM entry")
    verdict = sample.verify()
    assert (verdict.held, verdict.first_bad) == (False, 0)
    assert {"length", "opened"} <= verdict.words
    sample.alter("DELETE FROM seal")
    assert sample.verify().words == {"raised StoreCorrupt"}
    done = sample.project.done("verify", "--store", status=4)
    assert done.error[0] == "store-corrupt"


@pytest.mark.slow
def test_ledgers_of_one_and_of_four_entries_hold_until_a_byte_is_flipped(made: Sample, tmp_path):
    """As `init` leaves it, and with a spec applied that names two agents."""
    project = type(made.project)(tmp_path / "new")
    project.done("init", "--name", "demo")
    sample = Sample(tmp_path / "new")
    assert sample.size() == 1
    holds_until_one_byte_is_flipped(sample)
    project.apply(project.task("alpha"))
    assert sample.size() == 4
    holds_until_one_byte_is_flipped(sample)


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
def test_a_ledger_holds_until_a_byte_is_flipped(sample: Sample, size: int) -> None:
    """The same store, grown by a conductor; its tiles are looked at too."""
    sample.grow_to(size)
    assert sample.size() == size
    tiles = sample.project.sql("SELECT count(*) FROM tile")[0][0]
    assert tiles == size // 256
    holds_until_one_byte_is_flipped(sample)
    kept = sample.project.sql("SELECT size, root, note FROM seal ORDER BY size DESC LIMIT 1")
    leaves = [leaf for (leaf,) in sample.project.sql("SELECT leaf FROM entry ORDER BY seq")]
    row = SealRow(*kept[0])

    def read(level: int, start: int, stop: int) -> list[bytes]:
        return leaves[start:stop] if level == 0 else stored[start:stop]

    stored = [tile for (tile,) in sample.project.sql("SELECT hash FROM tile ORDER BY idx")]
    assert head_of(read, row.size).root() == row.root
