"""The one-event door of a log: many threads, one order, groups, a bounded window, no loss."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from runwright.kernel.drive.intake import Intake
from runwright.kernel.errors import BufferFull, StoreUnwritable
from tests.kernel.drive.logs import Stage, cut
from tests.kernel.drive.rig import CountedStore, sqlite_store

THREADS, EACH = 4, 25_000


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """A stage on a file whose commits are flushed."""
    store = sqlite_store(tmp_path / "store")
    yield Stage(CountedStore(store), tmp_path)
    store.close()


@pytest.mark.slow
def test_four_threads_leave_no_gap_and_nothing_twice(stage: Stage) -> None:
    """25,000 puts each are exactly the records 1 to 100,000, those of a thread in their order."""
    log = stage.log()

    def put(number: int) -> None:
        for count in range(EACH):
            intake.put(b"%d/%d" % (number, count), f"T{number}")

    with Intake(log) as intake:
        threads = [threading.Thread(target=put, args=[number]) for number in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert intake.acknowledged == log.last_seq == THREADS * EACH
    reader = stage.reader()
    assert [record.seq for record in reader.records(1, THREADS * EACH)] == list(
        range(1, THREADS * EACH + 1)
    )
    for number in range(THREADS):
        own = reader.slice(cut(f"T{number}", 1, THREADS * EACH))
        assert own == tuple(b"%d/%d" % (number, count) for count in range(EACH))
    assert len(stage.store.batches) < THREADS * EACH / 20, "they were not made durable in groups"


def test_what_is_flushed_is_durable(stage: Stage) -> None:
    """Whoever waits for it finds it in the store."""
    log = stage.log()
    with Intake(log) as intake:
        for number in range(10):
            intake.put(b"%d" % number, "A")
        assert intake.flush() == 10
        assert stage.reader().last_seq == 10
        assert intake.flush() == 10


def test_leaving_makes_durable_what_was_taken(stage: Stage) -> None:
    """An intake that ends in good order loses nothing."""
    with Intake(stage.log()) as intake:
        for number in range(1_000):
            intake.put(b"%d" % number, "A")
    assert stage.reader().last_seq == intake.acknowledged == 1_000


def test_the_window_bounds_what_is_not_durable(stage: Stage) -> None:
    """However slow the store is, no more than that is held in memory."""
    most = 0

    class Watched(Intake):
        def _append(self) -> None:
            nonlocal most
            most = max(most, len(self._pending))
            super()._append()

    with Watched(stage.log(), window=50, group=20) as intake:
        for number in range(2_000):
            intake.put(b"%d" % number, "A")
    assert 1 < most <= 50
    assert max(block.last_seq - block.first_seq for block in blocks(stage)) < 20
    assert stage.reader().last_seq == 2_000


def blocks(stage: Stage) -> list:
    return [block for batch in stage.store.batches for block in batch.blocks]


def test_a_full_log_makes_put_wait_and_then_says_so(stage: Stage) -> None:
    """Nothing is dropped: what was taken is there once segments were retired."""
    log = stage.log(max_records=200, segment_records=50, keep_records=50)
    intake = Intake(log, window=10, group=1, patience_s=1.0)
    taken = 0
    with intake:
        with pytest.raises(BufferFull, match="log prices took no event for"):
            while True:
                intake.put(b"%d" % taken, "A")
                taken += 1
        assert log.last_seq == 200
        with intake.alone() as held:
            assert held.seal()
            assert held.retire(200) == 0, "the map is in the one segment that there is"
        with pytest.raises(BufferFull):
            intake.flush()
        log.limits = replace(log.limits, max_records=400)
        with intake.alone():
            """Between two groups: the intake looks again."""
        assert intake.flush() == taken
        intake.put(b"%d" % taken, "A")
    records = [record.data for record in stage.reader().records(1, taken + 1)]
    assert records == [b"%d" % number for number in range(taken + 1)]


def test_an_intake_that_closes_on_a_full_log_says_what_it_holds(stage: Stage) -> None:
    """The caller learns that not all of it is durable."""
    log = stage.log(max_records=5)
    with pytest.raises(BufferFull, match="has no room for 3 events"), Intake(log) as intake:
        for number in range(8):
            intake.put(b"%d" % number, "A")
    assert (log.last_seq, intake.acknowledged) == (5, 5)


def test_a_store_that_fails_stops_the_intake(stage: Stage) -> None:
    """Nothing is acknowledged after it, and everybody who puts or waits is told."""
    log = stage.log()
    with pytest.raises(StoreUnwritable, match="full"), Intake(log) as intake:
        intake.put(b"1", "A")
        intake.flush()
        stage.store.failure = StoreUnwritable("full")
        intake.put(b"2", "A")
        with pytest.raises(StoreUnwritable, match="full"):
            intake.flush()
        with pytest.raises(StoreUnwritable, match="full"):
            intake.put(b"3", "A")
    assert intake.acknowledged == stage.reader().last_seq == 1
