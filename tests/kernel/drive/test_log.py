"""The input log: what is appended is there, once, in order, stamped, and found without a search."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from runwright.adapters.memory import MemoryStore
from runwright.kernel.drive.rebuild import differences, fold_again
from runwright.kernel.errors import (
    BufferFull,
    InputsRetired,
    StoreCorrupt,
    StoreUnwritable,
    Usage,
)
from runwright.kernel.ports import StoredBlock
from runwright.kernel.record.entries import LogRetired, LogSealed, decode
from runwright.kernel.record.log import read
from tests.kernel.drive.logs import SYMBOLS, Stage, cut, events
from tests.kernel.drive.rig import NOW_MS, CountedStore

HOUR_MS = 3_600_000


@pytest.fixture
def stage(store, tmp_path: Path) -> Stage:
    """A stage on each kind of store; durability is for other tests."""
    if store.kind == "sqlite":
        store._db.execute("PRAGMA synchronous = OFF")
    return Stage(store, tmp_path)


def bodies(stage: Stage, kind: type) -> list:
    found = [decode(stored.raw).body for stored in stage.store.entries()]
    return [body for body in found if isinstance(body, kind)]


def test_a_log_begins_with_a_block_that_says_whose_it_is(stage):
    """It holds no record, and a cut of nothing names it."""
    log = stage.log()
    end = log.end_at(NOW_MS)
    assert (log.last_seq, end.seq, end.block) == (0, 0, 0)
    assert stage.reader().end_at(0) == end
    (row,) = stage.store.rows("log_block")
    assert row["digest"].hex() == end.digest
    assert b'"origin":"example.org/log"' in row["body"]


def test_records_come_back_as_they_arrived(stage):
    """Whatever the bytes are: empty, NUL, no UTF-8, a megabyte; the same after a new start."""
    items = [b"", b"\0", b"\xff\xfe", b'{"a":1}', b"x" * 1_000_000]
    keys = ["A", "B", "A", '\N{GREEK SMALL LETTER BETA} \\"', ""]
    log = stage.log()
    assert log.append(items, keys, positions={"file": {"line": 5}}) == 5
    for opened in (log, stage.log(), stage.reader()):
        assert [(one.key, one.data) for one in opened.records(1, 5)] == list(
            zip(keys, items, strict=True)
        )
        assert opened.position("file") == {"line": 5}
        assert opened.position("other") is None
        assert opened.slice(cut("A", 1, 5)) == (b"", b"\xff\xfe")
        assert opened.newest("A", 9)[-1].data == b"\xff\xfe"


def test_a_duplicate_is_kept_twice(stage):
    """Nothing is dropped because it was there before."""
    log = stage.log()
    log.append([b"same", b"same"], ["A", "A"])
    log.append([b"same"], ["A"])
    assert log.slice(cut("A", 1, 3)) == (b"same",) * 3


def test_nothing_to_append_is_no_block(stage):
    """An empty poll costs no commit."""
    log = stage.log()
    log.append(*events(2))
    assert log.append([], []) == 2
    assert len(stage.store.rows("log_block")) == 2


def test_one_append_is_one_commit(store, tmp_path):
    """Without an entry, whatever the number of its records."""
    counted = CountedStore(store)
    log = Stage(counted, tmp_path).log()
    counted.batches.clear()
    log.append(*events(500))
    assert [(len(batch.blocks), len(batch.entries)) for batch in counted.batches] == [(1, 0)]


def test_stamps_never_go_back_when_the_clock_does(stage):
    """An hour back, and the records go on at the stamp of the last one."""
    log = stage.log()
    log.append(*events(1))
    stage.clock.wall_ms -= HOUR_MS
    log.append(*events(1))
    stage.clock.wall_ms += HOUR_MS + 7
    log.append(*events(1))
    assert [one.ingest_ts_ms for one in log.records(1, 3)] == [NOW_MS, NOW_MS, NOW_MS + 7]


def test_stamps_that_are_given_are_raised_to_the_ones_before(stage):
    """What was received earlier than its neighbours is stamped as late as they are."""
    log = stage.log()
    log.append(*events(5), [30, 10, 40, 35, 90])
    log.append(*events(2), [50, 200])
    stamps = [30, 30, 40, 40, 90, 90, 200]
    assert [one.ingest_ts_ms for one in log.records(1, 7)] == stamps
    assert [one.ingest_ts_ms for one in stage.reader().records(1, 7)] == stamps


def test_nothing_is_stamped_inside_a_closed_range(stage):
    """A tick closes the log at its instant, so its cut stays what it was."""
    log = stage.log()
    log.append(*events(1), [100])
    log.close_through(500)
    log.close_through(400)
    end = log.end_at(500)
    log.append(*events(3), [200, 450, 600])
    assert [one.ingest_ts_ms for one in log.records(2, 4)] == [501, 501, 600]
    assert log.end_at(500) == end
    stage.clock.wall_ms = 300
    log.close_through(700)
    log.append(*events(1))
    assert log.last_ms == 701


def test_the_end_of_a_cut_names_the_block_that_holds_it(stage):
    """Before, in the middle of and behind blocks, from memory and from the store."""
    log = stage.log()
    for start in range(0, 300, 10):
        log.append(*events(10), list(range(start, start + 10)))
    log.append(*events(1), [1_000])
    for opened in (log, stage.reader()):
        for ms, seq in ((-1, 0), (0, 1), (9, 10), (14, 15), (299, 300), (999, 300), (1_000, 301)):
            end = opened.end_at(ms)
            assert end.seq == seq
            (row,) = stage.store.rows("log_block", {"number": end.block})
            assert row["digest"].hex() == end.digest
            assert row["first_seq"] <= seq <= row["last_seq"]


def test_the_first_record_of_a_key_is_known_at_once(stage):
    """At or before an end; a key that came later is not there yet."""
    log = stage.log()
    log.append([b"1", b"2", b"3"], ["A", "A", "B"])
    for _ in range(200):
        log.append([b"n"], ["A"])
    log.append([b"4"], ["C"])
    for opened in (log, stage.reader()):
        assert (opened.first_of("A", 1), opened.first_of("B", 2)) == (1, None)
        assert (opened.first_of("B", 3), opened.first_of("C", 999)) == (3, 204)
        assert opened.first_of("D", 999) is None


def test_a_cut_of_another_log_or_beyond_the_end_is_refused(stage):
    """What is not there is never an empty cut."""
    log = stage.log()
    log.append(*events(3))
    assert log.slice(cut("BTC", 4, 3)) == ()
    with pytest.raises(Usage, match="a cut of log other was asked of log prices"):
        log.slice(cut("BTC", 1, 3, log="other"))
    with pytest.raises(StoreCorrupt, match="log prices ends at record 3, not 4"):
        log.slice(cut("BTC", 1, 4))


def test_a_range_that_is_too_large_to_group_is_read_key_by_key(stage, monkeypatch):
    """With the same answer."""
    log = stage.log()
    for start in range(1, 101, 5):
        log.append(*events(5, start))
    whole = {key: log.slice(cut(key, 3, 88)) for key in SYMBOLS}
    monkeypatch.setattr("runwright.kernel.drive.log.RANGE_BYTES_MAX", 10)
    reader = stage.reader()
    assert {key: reader.slice(cut(key, 3, 88)) for key in SYMBOLS} == whole
    assert reader.slice(cut("none", 3, 88)) == ()


def test_logs_of_one_store_do_not_meet(stage):
    """Each has its own numbers and keys."""
    first, second = stage.log("a"), stage.log("b")
    first.append([b"1"], ["K"])
    second.append([b"2", b"3"], ["K", "K"])
    assert (stage.reader("a").last_seq, stage.reader("b").last_seq) == (1, 2)
    assert stage.reader("b").slice(cut("K", 1, 2, log="b")) == (b"2", b"3")


def test_a_log_that_was_opened_to_be_read_appends_nothing(stage):
    """Only who holds the lease does."""
    stage.log()
    with pytest.raises(Usage, match="log prices was opened to be read"):
        stage.reader().append(*events(1))


def test_two_writers_of_one_log_cannot_both_append(stage):
    """The second one meets a log that does not end where it thinks."""
    first, second = stage.log(), stage.log()
    first.append(*events(3))
    with pytest.raises(StoreCorrupt, match="log prices does not end before 1"):
        second.append(*events(2))
    assert stage.reader().last_seq == 3


def test_what_could_not_be_written_is_not_there(store, tmp_path):
    """A failed commit acknowledges nothing, and the next start goes on from what is kept."""
    counted = CountedStore(store)
    stage = Stage(counted, tmp_path)
    log = stage.log()
    log.append(*events(3))
    counted.failure = StoreUnwritable("full")
    with pytest.raises(StoreUnwritable, match="full"):
        log.append(*events(3))
    assert log.last_seq == 3
    with pytest.raises(StoreUnwritable, match="full"):
        log.append(*events(3))
    assert stage.reader().last_seq == 3


def test_a_block_that_was_altered_is_not_read(stage):
    """Its bytes are held against its digest each time."""
    log = stage.log()
    log.append(*events(3))
    rows = stage.store.rows("log_block", {"number": 1})
    damaged = {**rows[0], "body": rows[0]["body"].replace(b"2", b"3")}
    if stage.store.kind == "memory":
        stage.store._rows["log_block"]["prices", 3].update(damaged)
    else:
        stage.store._db.execute("DROP TRIGGER log_block_is_never_edited")
        stage.store._db.execute("UPDATE log_block SET body = ? WHERE number = 1", [damaged["body"]])
    with pytest.raises(StoreCorrupt, match="block 1 has records that are not the ones its head"):
        stage.reader()


def test_a_head_that_was_altered_is_not_recalled(stage):
    """Whoever opens the log reads heads alone, and holds them against their digests too."""
    log = stage.log()
    log.append(*events(3))
    log.append(*events(3, 4))
    (row,) = stage.store.rows("log_block", {"number": 1})
    head = row["head"].replace(b"BTC", b"BTX")
    if stage.store.kind == "memory":
        stage.store._rows["log_block"]["prices", 3]["head"] = head
    else:
        stage.store._db.execute("DROP TRIGGER log_block_is_never_edited")
        stage.store._db.execute("UPDATE log_block SET head = ? WHERE number = 1", [head])
    with pytest.raises(StoreCorrupt, match="the head of block 1 was altered"):
        stage.reader()


# ------------------------------------------------------------------------------------- capacity


def test_a_full_log_takes_nothing_and_drops_nothing(stage):
    """Not even the part that would fit; after a retirement it goes on, and nothing was lost."""
    log = stage.log(max_records=100, segment_records=50, keep_records=0)
    for start in range(1, 91):
        log.append(*events(1, start))
    assert log.room() == 10
    with pytest.raises(BufferFull, match="holds 100 records and takes no more"):
        log.append(*events(11, 91))
    assert (log.last_seq, log.room()) == (90, 10)
    log.append(*events(10, 91))
    with pytest.raises(BufferFull):
        log.append(*events(1, 101))
    assert log.seal()
    assert log.retire(100) == 0, "the newest map is still needed by whoever opens the log"
    with pytest.raises(BufferFull):
        log.append(*events(1, 101))


def filled(stage: Stage, **limits: int | None) -> object:
    """Return a log of 300 records in blocks of one, sealed in segments of fifty."""
    log = stage.log(segment_records=50, **limits)
    for start in range(1, 301):
        log.append(*events(1, start), [start * 10])
        log.seal()
    return log


def test_segments_are_sealed_as_they_are_filled(stage):
    """Each with the root over the digests of its blocks; the last one when the run ends."""
    log = filled(stage)
    log.append(*events(5, 301))
    assert not log.seal()
    assert log.unsealed == 5
    assert log.seal(whole=False)
    assert not log.seal(whole=False)
    sealed = bodies(stage, LogSealed)
    assert [(body.first_seq, body.last_seq, body.blocks) for body in sealed[:2]] == [
        (1, 50, 50),
        (51, 100, 50),
    ]
    assert (sealed[-1].first_seq, sealed[-1].last_seq, sealed[-1].blocks) == (301, 305, 1)
    assert stage.verify().held


def test_a_new_start_goes_on_with_the_segment_that_was_begun(stage):
    """Its root is the same as if nothing had been interrupted."""
    log = stage.log(segment_records=50)
    for start in range(1, 31):
        log.append(*events(1, start))
    again = stage.log(segment_records=50)
    assert again.unsealed == 30
    for start in range(31, 51):
        again.append(*events(1, start))
    assert again.seal()
    assert stage.verify().held


def test_retention_by_count_keeps_the_newest_records(stage):
    """Only sealed segments go, and only those that nobody needs."""
    log = filled(stage, keep_records=100)
    assert log.retire(120) == 100
    assert log.retire(120) == 0
    assert log.retire(300) == 100
    assert (log.retired_seq, log.last_seq) == (200, 300)
    assert [(b.first, b.last, b.reason) for b in bodies(stage, LogRetired)] == [
        (0, 1, "count"),
        (2, 3, "count"),
    ]
    assert log.room() == 10_000_000 - 100


def test_retention_by_age_keeps_what_is_young(stage):
    """The age is that of the last record of a segment."""
    log = filled(stage, max_age_ms=1_000)
    stage.clock.wall_ms = 2_000 + 1
    assert log.retire(300) == 100
    assert [body.reason for body in bodies(stage, LogRetired)] == ["age"]


def test_nothing_is_retired_unless_it_was_asked_for(stage):
    """Without a limit of age or count a log only ever grows."""
    assert filled(stage).retire(300) == 0


def test_retired_records_are_refused_and_the_rest_is_read(stage):
    """By cut, by range and by instant; what is left still verifies."""
    log = filled(stage, keep_records=100)
    log.retire(300)
    for opened in (log, stage.reader(keep_records=100)):
        for act in (
            lambda o=opened: o.slice(cut("BTC", 200, 210)),
            lambda o=opened: list(o.records(1, 2)),
            lambda o=opened: o.end_at(1_000),
        ):
            with pytest.raises(InputsRetired, match="everything up to 200 is retired") as caught:
                act()
            assert caught.value.status != 0
        assert len(opened.slice(cut("BTC", 201, 300))) == 34
        assert opened.newest("BTC", 1_000)[0].seq == 201
        assert opened.first_of("BTC", 300) == 201
        assert opened.end_at(2_005).seq == 200
        assert opened.end_at(2_010).seq == 201
    assert stage.verify().held


def test_a_quiet_key_is_found_behind_what_was_retired(stage):
    """Its first record that is left, or none."""
    log = stage.log(segment_records=50, keep_records=100)
    log.append([b"early"], ["EARLY"])
    for start in range(1, 300):
        both = start in (20, 250, 260)
        log.append([b"n"] * (1 + both), ["A"] + ["RARE"] * both)
        log.seal()
    log.retire(200)
    assert log.retired_seq >= 150
    for opened in (log, stage.reader()):
        assert opened.first_of("EARLY", 999) is None
        rare = opened.newest("RARE", 10)
        assert [opened.first_of("RARE", 999)] == [rare[0].seq]
        assert len(rare) == 2


def test_after_retirement_the_log_goes_on_and_verifies(stage):
    """The chain continues from the digest that the ledger holds."""
    log = filled(stage, keep_records=100)
    log.retire(300)
    again = stage.log(segment_records=50, keep_records=100)
    for start in range(301, 401):
        again.append(*events(1, start))
        again.seal()
    assert again.retire(400) == 100
    report = stage.verify()
    assert report.held
    assert any("100 records in 101 blocks" in check.detail for check in report.checks)


def test_the_map_of_keys_is_bounded_and_complete(stage):
    """However long the log is, whoever opens it reads few blocks."""
    log = stage.log()
    for number in range(400):
        log.append([b"n"], [f"K{number % 90}"])
    blocks = [read_row(row) for row in stage.store.rows("log_block", order="last_seq")]
    maps = [block.head.number for block in blocks if block.head.known]
    steps = [after - before for before, after in pairwise(maps)]
    assert maps[0] == 65
    assert all(64 <= step <= 90 for step in steps)
    assert stage.reader()._newest == log._newest
    assert stage.reader()._firsts == log._firsts


def read_row(row: dict) -> object:
    return read(StoredBlock(**row))


def test_the_rows_of_segments_can_be_made_again(stage):
    """They follow from the entries alone."""
    log = filled(stage, keep_records=100)
    log.retire(300)
    again = MemoryStore()
    fold_again(stage.store, {}, again)
    assert differences(stage.store, again, []) == []
    assert len(again.rows("log_segment")) == 6
    assert [row["retired"] is None for row in again.rows("log_segment", order="idx")] == [
        False,
        False,
        False,
        False,
        True,
        True,
    ]
