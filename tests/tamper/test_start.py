"""A store or a memory that was put back, cut off or exchanged: what the next start says.

The start is the real command. Whatever it refuses, it ends with status 4 and writes nothing: every
row of every table, every paper and the signer's memory are as they were.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from runwright.bootstrap.project import heads, open_store
from runwright.bootstrap.verification import verify_store
from runwright.kernel.errors import RunwrightError
from runwright.kernel.record import ledger
from tests.e2e.project import Project
from tests.tamper.flips import Pick, flipped
from tests.tamper.forging import forged, rechained, rows
from tests.tamper.sample import Sample

HALT = 4


def refused(sample: Sample, *words: object) -> str:
    """Start, insist on status 4 and on nothing written; return the code of the error."""
    before = sample.everything()
    done = sample.project.done(*(words or ("run", "demo")), status=HALT)
    assert sample.everything() == before
    return done.error[0]


def goes_on(sample: Sample) -> None:
    """Start, and insist that a cycle ran and that all of it verifies."""
    size = sample.size()
    sample.project.done("run", "demo")
    assert sample.size() > size
    assert sample.verify().held


def put_back(sample: Sample, older: Sample) -> None:
    """Put an older copy of the whole store in the place of this one; the memory stays."""
    for path in sample.project.store.parent.glob("store.db*"):
        path.unlink()
    for path in older.project.store.parent.glob("store.db*"):
        shutil.copy(path, sample.project.store.with_name(path.name))


@pytest.mark.slow
@pytest.mark.proves("a rollback of the store is detected")
def test_a_store_that_was_cut_off_is_refused_at_every_length(sample: Sample) -> None:
    """The seals beyond are gone too, so that the store alone looks whole."""
    for length in reversed(range(sample.size())):
        sample.alter("DELETE FROM entry WHERE seq >= ?", (length,))
        sample.alter("DELETE FROM seal WHERE size > ?", (length,))
        sample.alter("DELETE FROM signature WHERE seq >= ?", (length,))
        expected = "rollback-detected" if length else "store-corrupt"
        assert refused(sample) == expected, length
        if length:
            assert sample.verify().held


@pytest.mark.slow
def test_an_older_copy_of_the_store_is_refused_and_can_be_adopted(
    sample: Sample, made: Sample
) -> None:
    """`verify --store` never asks the signer, so it holds; a start, and `doctor`, do ask."""
    goes_on(sample)
    put_back(sample, made)
    assert sample.verify().held
    assert refused(sample) == "rollback-detected"
    doctor = sample.project.run("doctor")
    assert doctor.status != 0
    assert "rollback" in doctor.stdout + doctor.stderr or "were sealed" in doctor.stdout
    adopted = sample.project.done("ledger", "adopt", "--reason", "the copy of Monday")
    assert "remembered" in adopted.stdout
    report = verify_store(sample.loaded, sample.keys)
    assert report["held"]
    assert len(report["adopted"]) == 1
    goes_on(sample)


@pytest.mark.slow
def test_a_store_and_a_memory_put_back_together_are_not_noticed(
    sample: Sample, made: Sample
) -> None:
    """The limit: who owns both can put back both; only a checkpoint kept elsewhere shows it."""
    goes_on(sample)
    put_back(sample, made)
    shutil.copy(made.memory, sample.memory)
    goes_on(sample)


@pytest.mark.slow
def test_a_memory_that_is_lost_stale_or_of_another_ledger_is_refused(
    sample: Sample, made: Sample, initialised_too: Sample
) -> None:
    """Each is `signer-memory-lost`; the control: with its own memory it goes on."""
    goes_on(sample)
    own = sample.memory.read_bytes()
    states = {
        "lost": None,
        "stale": made.memory.read_bytes(),
        "of another ledger": initialised_too.memory.read_bytes(),
        "garbage": b"x" * len(own),
        "cut off": own[:100],
    }
    for state, data in states.items():
        if data is None:
            sample.memory.unlink()
        else:
            sample.memory.write_bytes(data)
        assert refused(sample) == "signer-memory-lost", state
        assert sample.verify().held
    sample.memory.write_bytes(own)
    goes_on(sample)


@pytest.fixture
def initialised_too(tmp_path: Path) -> Sample:
    """Another ledger."""
    Project(tmp_path / "other").done("init", "--name", "other")
    return Sample(tmp_path / "other")


@pytest.mark.slow
def test_every_flipped_byte_of_the_memory_is_refused_or_harmless(
    sample: Sample, is_campaign: bool
) -> None:
    """The newest slot: its signature is then unknown; the older one: nothing depends on it."""
    goes_on(sample)
    own = sample.memory.read_bytes()
    said: dict[str, set[int]] = {}
    for place, bit in Pick(1 if is_campaign else 7).of(len(own)):
        sample.memory.write_bytes(flipped(own, place, bit))
        said.setdefault(state_of(sample), set()).add(place // 512)
    sample.memory.write_bytes(own)
    assert said.keys() == {"whole", "signer-memory-lost"}
    # One slot is the newest one, in every byte of it; the other is the older one.
    assert all(len(slots) == 1 for slots in said.values())
    assert state_of(sample) == "whole"


def state_of(sample: Sample) -> str:
    """Return what a start finds, before it would write anything."""
    store = open_store(sample.loaded, read_only=True)
    try:
        heads(sample.loaded, store)
    except RunwrightError as error:
        return error.code
    finally:
        store.close()
    return "whole"


@pytest.mark.slow
def test_a_record_chained_again_or_with_an_altered_tail_is_refused(sample: Sample) -> None:
    """From each entry on it has another root than was signed; also after seals were deleted."""
    for seq in range(sample.size()):
        copy = sample.copy_to(sample.project.base.with_name(f"copy{seq}"))
        with copy.altering() as other:
            for statement, values in rechained(copy, seq):
                other.execute(statement, values)
            other.execute("DELETE FROM seal")
        assert state_of(copy) == "rollback-detected", seq
    assert refused(copy) == "rollback-detected"


@pytest.mark.slow
def test_an_altered_unsealed_tail_is_refused_unless_it_was_chained(sample: Sample) -> None:
    """What was never sealed is vouched for by nobody: chained well it is taken for the record."""
    size = sample.size()
    insert = "INSERT INTO entry VALUES (?, ?, ?)"
    wrong = forged(sample, "5" * 64)
    sample.alter(insert, (size, wrong, ledger.leaf_hash(wrong)))
    assert refused(sample) == "store-corrupt"
    sample.alter("DELETE FROM entry WHERE seq = ?", (size,))
    right = forged(sample, rows(sample, "entry")[-1][2].hex())
    sample.alter(insert, (size, right, bytes(32)))
    assert refused(sample) == "store-corrupt"
    sample.alter("UPDATE entry SET leaf = ? WHERE seq = ?", (ledger.leaf_hash(right), size))
    assert state_of(sample) == "whole"


@pytest.mark.slow
def test_an_entry_put_in_far_away_is_refused_at_once(sample: Sample) -> None:
    """Not read for ever: the start looks from row to row, not from number to number."""
    for key in (sample.size(), 1 << 40, (1 << 63) - 1):
        sample.alter("INSERT INTO entry SELECT ?, raw, leaf FROM entry WHERE seq = 3", (key,))
        assert refused(sample) == "store-corrupt"
        sample.alter("DELETE FROM entry WHERE seq = ?", (key,))
    goes_on(sample)


@pytest.mark.slow
def test_altered_bytes_under_an_old_seal_are_for_verify_to_find(sample: Sample) -> None:
    """A start compares the leaf hashes kept; it does not hash all the years again."""
    raw = rows(sample, "entry")[3][1]
    sample.alter("UPDATE entry SET raw = ? WHERE seq = 3", (flipped(raw, 9, 1),))
    assert state_of(sample) == "whole"
    assert sample.verify().first_bad == 3
    sample.alter("UPDATE entry SET leaf = ? WHERE seq = 3", (bytes(32),))
    assert refused(sample) == "rollback-detected"
