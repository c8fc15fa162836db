"""The alterations of tests/tamper on a record in PostgreSQL, by a superuser without triggers.

The functions imported here are the same tests; the sample that they are given is in a database.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.project import Project
from tests.postgres.project import SharedProject
from tests.postgres.server import Server
from tests.postgres.tampering import SharedSample, make
from tests.tamper.flips import Pick, flip_store
from tests.tamper.forging import rechained
from tests.tamper.test_controls import SABOTAGES, blinded, copied, lost
from tests.tamper.test_flips import SMALL, WITH_A_TILE, whole
from tests.tamper.test_rows import (
    test_a_blob_and_a_salt_that_nothing_names,
    test_a_copy_of_an_entry_put_in_anywhere_is_named,
    test_a_deleted_blob_is_named_by_the_entry_that_names_it,
    test_a_deleted_entry_is_named,
    test_a_deleted_or_added_tile_is_named,
    test_a_forged_entry_is_named_unless_it_continues_an_unsealed_tail,
    test_a_forged_seal_is_found,
    test_a_tail_chained_again_breaks_the_root_and_signed_again_the_signature,
    test_a_truncated_record_is_too_short_for_its_seals,
    test_deleted_seals_leave_a_record_that_is_sealed_less_far,
    test_swapped_entries_are_named,
    test_swapped_seals_and_blobs_are_found,
)
from tests.tamper.test_sizes import (
    holds_until_one_byte_is_flipped,
    test_a_store_without_entries_is_refused,
)
from tests.tamper.test_start import goes_on, refused, state_of

__all__ = [
    "test_a_blob_and_a_salt_that_nothing_names",
    "test_a_copy_of_an_entry_put_in_anywhere_is_named",
    "test_a_deleted_blob_is_named_by_the_entry_that_names_it",
    "test_a_deleted_entry_is_named",
    "test_a_deleted_or_added_tile_is_named",
    "test_a_forged_entry_is_named_unless_it_continues_an_unsealed_tail",
    "test_a_forged_seal_is_found",
    "test_a_store_without_entries_is_refused",
    "test_a_tail_chained_again_breaks_the_root_and_signed_again_the_signature",
    "test_a_truncated_record_is_too_short_for_its_seals",
    "test_deleted_seals_leave_a_record_that_is_sealed_less_far",
    "test_swapped_entries_are_named",
    "test_swapped_seals_and_blobs_are_found",
]

pytestmark = pytest.mark.slow

#: The verifiers made blind that are tried here too; the others differ in nothing that a store does.
TRIED = ("the leaf hash is not compared", "every signature of a seal holds")


@pytest.fixture(scope="session")
def kept(tmp_path_factory: pytest.TempPathFactory, server: Server) -> SharedSample:
    """The sample as it was made; nobody alters it."""
    return make(tmp_path_factory.mktemp("shared-sample"), server)


@pytest.fixture
def sample(kept: SharedSample, tmp_path: Path) -> SharedSample:
    """A copy of the sample in a database of its own, for the test to alter."""
    return kept.copy_to(tmp_path / "copy")


def test_every_flipped_byte_of_the_database_is_found_at_its_entry(
    sample: SharedSample, is_campaign: bool, record_property
) -> None:
    """Every column that verification covers; the entry named is the one that was hit."""
    assert sample.verify().held
    whole(flip_store(sample, Pick(1 if is_campaign else 41)), record_property)
    if is_campaign:
        whole(flip_store(sample, Pick(every_bit=True), only=SMALL), record_property)
        whole(flip_store(sample, Pick(), lint=False), record_property)
    assert sample.verify().held


def test_every_flipped_byte_of_a_tile_is_found(sample: SharedSample, record_property) -> None:
    """The root over 256 entries, which proofs read."""
    sample.grow_to(WITH_A_TILE)
    whole(flip_store(sample, Pick(), only=("tile.hash",)), record_property)


def test_ledgers_of_many_sizes_hold_until_a_byte_is_flipped(server: Server, tmp_path: Path) -> None:
    """From the one entry that `init` leaves, over the border of a tile: no false alarm."""
    project = SharedProject(tmp_path, server, server.new_database())
    project.done("init", "--name", "demo")
    sample = SharedSample(project)
    assert sample.size() == 1
    for size in (1, 2, 255, 256, 257):
        sample.grow_to(size)
        assert sample.size() == size
        holds_until_one_byte_is_flipped(sample)
    assert sample.project.sql("SELECT count(*) FROM tile") == [(1,)]


@pytest.mark.parametrize("name", TRIED)
def test_the_matrix_names_what_a_blind_verifier_does_not_see(
    sample: SharedSample, tmp_path: Path, name: str
) -> None:
    """The control: exactly the blinded fields; what is read from the server is what is judged."""
    sabotage = SABOTAGES[name]
    stride = sabotage.stride * 3
    assert lost(sample, blinded(tmp_path, sabotage), sabotage.only, stride) == sabotage.blind


def test_a_copy_that_is_not_blind_loses_nothing(sample: SharedSample, tmp_path: Path) -> None:
    """The control of the controls: copying the package alone changes nothing."""
    only = ("entry.leaf", "seal.note", "blob.data")
    assert lost(sample, copied(tmp_path), only, 61) == set()


# ------------------------------------------------------------------------------- the next start


def test_an_older_dump_that_was_restored_is_refused_and_can_be_adopted(
    sample: SharedSample,
) -> None:
    """`verify --store` never asks the signer, so it holds; a start does ask, and writes nothing."""
    server, database = sample.project.server, sample.project.database
    older = server.dump(database)
    goes_on(sample)
    server.restore(database, older)
    assert sample.verify().held
    assert refused(sample) == "rollback-detected"
    doctor = sample.project.run("doctor")
    assert doctor.status != 0
    assert "were sealed" in doctor.stdout, doctor
    sample.project.done("ledger", "adopt", "--reason", "the dump of Monday")
    goes_on(sample)
    # The control: a dump of what is there now, put back, is nothing to refuse.
    server.restore(database, server.dump(database))
    goes_on(sample)


def test_a_record_that_was_cut_off_or_chained_again_is_refused_at_every_length(
    sample: SharedSample,
) -> None:
    """With the seals beyond gone as well, so that the record alone looks whole."""
    assert state_of(sample) == "whole"
    for length in range(sample.size()):
        with sample.taking_back() as other:
            other.execute("DELETE FROM entry WHERE seq >= ?", (length,))
            other.execute("DELETE FROM seal WHERE size > ?", (length,))
            assert state_of(sample) == ("rollback-detected" if length else "store-corrupt"), length
        with sample.taking_back() as other:
            for statement, values in rechained(sample, length):
                other.execute(statement, values)
            other.execute("DELETE FROM seal")
            assert state_of(sample) == "rollback-detected", length
    assert state_of(sample) == "whole"


def test_a_memory_that_is_lost_stale_or_of_another_ledger_is_refused(
    sample: SharedSample, kept: SharedSample, tmp_path: Path
) -> None:
    """Each is `signer-memory-lost`, except where the key's own seals lead on from a stale one."""
    goes_on(sample)
    own = sample.memory.read_bytes()
    other = Project(tmp_path / "other")
    other.done("init", "--name", "other")
    (foreign,) = (other.state / "runwright").glob("*.memory")
    states = {
        "of another ledger": foreign.read_bytes(),
        "garbage": b"x" * len(own),
        "cut off": own[:100],
    }
    for state, data in states.items():
        sample.memory.write_bytes(data)
        assert state_of(sample) == "signer-memory-lost", state
    sample.memory.unlink()
    assert refused(sample) == "signer-memory-lost"
    # Several machines share this store: one whose memory is behind finds its own key's seals.
    sample.memory.write_bytes(kept.memory.read_bytes())
    assert state_of(sample) == "whole"
    sample.memory.write_bytes(own)
    goes_on(sample)
