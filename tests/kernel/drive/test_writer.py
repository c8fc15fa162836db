"""The one writer: all or nothing, nothing after a failure, seals over what is read back."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from runwright.adapters.sqlite import SqliteStore
from runwright.kernel.drive.writer import STEP_MS_MIN, Writer, adopt
from runwright.kernel.errors import (
    CommitUnknown,
    RollbackDetected,
    StoreBusy,
    StoreCorrupt,
    StoreUnwritable,
    Usage,
)
from runwright.kernel.ports import Row
from runwright.kernel.record.entries import (
    ClockStepped,
    Draft,
    HaltRaised,
    ScheduleOverridden,
    decode,
)
from runwright.kernel.record.ledger import leaf_hash
from runwright.kernel.record.seal import open_note, parse_key
from tests.kernel.drive.rig import Rig, round_of, workload_of

NOTE = Draft(body=ScheduleOverridden(kind="toy", name="demo", interval_s=5))
LANE = {"kind": "toy", "name": "demo", "lane": "x", "memory": "{}"}


def test_a_commit_says_where_its_first_entry_stands(rig):
    """It is what `next_seq` said before, and rows are written with it."""
    made = rig(apply=False)
    expected = made.writer.next_seq
    assert made.writer.commit([NOTE, NOTE], rows=[Row("lane", LANE)]) == expected
    assert made.writer.next_seq == expected + 2
    assert [decode(entry.raw).seq for entry in made.store.entries(expected)] == [1, 2]
    assert made.store.rows("lane") == [LANE]


@pytest.mark.parametrize("failure", [StoreUnwritable("full"), CommitUnknown("who knows")])
def test_after_a_failed_commit_the_writer_refuses_everything(rig, failure):
    """What the store holds is for the next start to find out: the same error is raised again."""
    made = rig(apply=False)
    made.store.failure = failure
    with pytest.raises(type(failure)):
        made.writer.commit([NOTE])
    held = made.store.size()
    for act in (
        lambda: made.writer.commit([NOTE]),
        lambda: made.writer.commit(rows=[Row("lane", LANE)]),
    ):
        with pytest.raises(type(failure), match=str(failure)):
            act()
    assert made.store.size() == held
    made.writer.close()
    made.store.lease().release()


def test_a_failed_seal_breaks_the_writer_too(rig):
    """Nothing is written after a seal that was refused."""
    made = rig(apply=False)
    made.writer.commit([NOTE])
    made.store.failure = StoreUnwritable("full")
    with pytest.raises(StoreUnwritable):
        made.writer.seal()
    with pytest.raises(StoreUnwritable):
        made.writer.commit([NOTE])


def test_a_second_writer_is_refused(rig):
    """One store, one writer."""
    made = rig(apply=False)
    with pytest.raises(StoreBusy) as caught:
        Writer(made.store, clock=made.clock, signer=made.signer)
    assert caught.value.code == "store-busy"


def test_a_halt_is_sealed_at_once(rig):
    """Other entries wait for the cadence."""
    made = rig(apply=False)
    made.writer.commit([NOTE])
    assert made.writer.sealed.size == 1
    made.writer.commit([Draft(body=HaltRaised(code="halt", message="stop"))])
    assert made.writer.sealed.size == 3
    assert [seal.size for seal in made.store.seals()] == [1, 3]


def test_a_seal_is_due_a_second_after_the_first_unsealed_entry(rig):
    """Later entries do not put it off; nothing is due when all is sealed."""
    made = rig(apply=False)
    assert made.writer.wait_before_seal_s() is None
    made.clock.advance(50)
    made.writer.commit([NOTE])
    assert made.writer.wait_before_seal_s() == 1.0
    made.clock.advance(0.75)
    made.writer.commit([NOTE])
    assert made.writer.wait_before_seal_s() == 0.25
    made.clock.advance(5)
    assert made.writer.wait_before_seal_s() == 0.0
    made.writer.seal()
    assert made.writer.wait_before_seal_s() is None


def test_a_seal_is_a_signed_checkpoint_over_all_entries(rig):
    """The key that the first entry names opens it."""
    made = rig(apply=False)
    made.writer.commit([NOTE])
    made.writer.close()
    key = parse_key(made.entries("ledger.opened")[0].body.seal_key)
    checkpoint = open_note(made.store.seals(latest=True)[0].note, [key])
    assert (checkpoint.size, checkpoint.root) == (2, made.writer.head.root())


def test_sealing_what_is_sealed_writes_nothing(rig):
    """Only rows that go with it are written."""
    made = rig(apply=False)
    made.writer.seal()
    assert made.store.batches == []
    made.writer.seal([Row("lane", LANE)])
    assert made.commits() == [["[lane]"]]


def test_closing_seals_and_gives_up_the_lease(rig):
    """The next writer takes it."""
    made = rig(apply=False)
    made.writer.commit([NOTE])
    made.writer.close()
    assert made.store.seals(latest=True)[0].size == 2
    made.store.lease().release()


def test_a_step_of_the_wall_clock_is_recorded(rig):
    """Forward or back against the monotonic clock, with the next commit; once for each step."""
    made = rig(apply=False)
    made.clock.advance(3_600)
    made.writer.commit([NOTE])
    made.clock.wall_ms -= 60_000
    made.writer.commit([NOTE])
    made.writer.commit([NOTE])
    made.clock.wall_ms += STEP_MS_MIN - 1
    made.writer.commit([NOTE])
    made.clock.wall_ms += 1
    made.writer.commit([NOTE])
    steps = [entry.body for entry in made.entries("clock.stepped")]
    assert steps == [ClockStepped(step_ms=-60_000), ClockStepped(step_ms=STEP_MS_MIN)]


def test_the_signer_refuses_a_row_that_was_altered_after_its_commit(on_sqlite, tmp_path: Path):
    """Through another connection, past the trigger: the entry is named and nothing is signed."""
    made: Rig = on_sqlite(workload_of(round_of("a")))
    made.apply()
    made.conduct()
    signed = made.signer.last()
    other = sqlite3.connect(tmp_path / "store/store.db")
    other.execute("DROP TRIGGER entry_is_never_edited")
    raw = other.execute("SELECT raw FROM entry WHERE seq = 2").fetchone()[0]
    other.execute("UPDATE entry SET raw = ? WHERE seq = 2", (raw.replace(b"demo", b"dem0"),))
    other.commit()
    other.close()
    with pytest.raises(StoreCorrupt, match="entry 2 in the store is not what was committed"):
        made.writer.seal()
    assert made.signer.last() == signed
    assert [seal.size for seal in made.store.seals()] == [1]
    with pytest.raises(StoreCorrupt):
        made.writer.commit([NOTE])


def test_the_signer_refuses_a_row_that_was_altered_with_its_hash(on_sqlite, tmp_path: Path):
    """A leaf hash that fits the altered bytes does not fit the head that the writer holds."""
    made: Rig = on_sqlite()
    made.writer.commit([NOTE])
    other = sqlite3.connect(tmp_path / "store/store.db")
    other.execute("DROP TRIGGER entry_is_never_edited")
    raw = other.execute("SELECT raw FROM entry WHERE seq = 1").fetchone()[0]
    raw = raw.replace(b'"interval_s":5', b'"interval_s":6')
    other.execute("UPDATE entry SET raw = ?, leaf = ? WHERE seq = 1", (raw, leaf_hash(raw)))
    other.commit()
    other.close()
    with pytest.raises(StoreCorrupt, match="entry 1 in the store is not what was committed"):
        made.writer.close()
    made.store.lease().release()


def test_an_older_copy_of_a_store_is_a_rollback(on_sqlite, tmp_path: Path):
    """The signer remembers more entries than the copy holds; adopting it is an entry."""
    made: Rig = on_sqlite()
    copy = tmp_path / "store/copy.db"
    made.store._db.execute("VACUUM INTO ?", (str(copy),))
    made.writer.commit([NOTE])
    made.writer.close()
    older = SqliteStore(copy)
    with pytest.raises(RollbackDetected, match="the store holds 1 entries, 2 were sealed"):
        Writer(older, clock=made.clock, signer=made.signer)
    body = adopt(older, clock=made.clock, signer=made.signer, reason="restored", by="ann")
    assert (body.remembered_size, body.found_size) == (2, 1)
    Writer(older, clock=made.clock, signer=made.signer).close()
    assert [decode(entry.raw).type for entry in older.entries()] == [
        "ledger.opened",
        "ledger.adopted",
    ]
    older.close()


def test_a_store_that_the_signer_vouches_for_cannot_be_adopted(rig):
    """Adoption is for doubt."""
    made = rig(apply=False)
    made.writer.close()
    with pytest.raises(Usage, match="there is nothing to adopt"):
        adopt(made.store, clock=made.clock, signer=made.signer, reason="why not", by="ann")
