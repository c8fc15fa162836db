"""Input logs on every store: blocks are kept in order, never edited, and deleted in spans only."""

from __future__ import annotations

from pathlib import Path

import pytest

from runwright.kernel.errors import StoreCorrupt
from runwright.kernel.ports import Batch, Span, StoredBlock
from tests.kernel.drive.logs import SYMBOLS, Stage, cut, events
from tests.kernel.drive.rig import NOW_MS


def block(last: int, first: int, log: str = "prices") -> StoredBlock:
    return StoredBlock(log, last, last, first, 1, 2, 3, b"d" * 32, b"head", b"a\0\xff")


def last_seqs(store, where=None, **how) -> list[int]:
    return [row["last_seq"] for row in store.rows("log_block", where, order="last_seq", **how)]


def test_a_block_comes_back_byte_for_byte(store):
    """All of its columns."""
    store.commit(Batch(blocks=[block(0, 0), block(4, 1)]))
    rows = store.rows("log_block", {"log": "prices"}, order="last_seq")
    assert [StoredBlock(**row) for row in rows] == [block(0, 0), block(4, 1)]


def test_a_block_that_is_not_the_next_one_is_refused(store):
    """Whether it leaves records out, has them twice, or begins a log in its middle."""
    store.commit(Batch(blocks=[block(0, 0), block(4, 1)]))
    store.commit(Batch(blocks=[block(0, 0, "other")]))
    for bad in (block(9, 4), block(9, 6), block(4, 1), block(0, 0), block(9, 1, "third")):
        with pytest.raises(StoreCorrupt, match="does not end before"):
            store.commit(Batch(blocks=[bad]))
    assert last_seqs(store, {"log": "prices"}) == [0, 4]
    assert last_seqs(store, {"log": "other"}) == [0]


def test_rows_can_begin_behind_a_value_and_show_some_columns(store):
    """So that a log is read on from where one was."""
    store.commit(Batch(blocks=[block(0, 0), *(block(n, n) for n in range(1, 9))]))
    assert last_seqs(store, after={"last_seq": 5}) == [6, 7, 8]
    assert last_seqs(store, {"log": "prices"}, after={"last_seq": 5}, limit=2) == [6, 7]
    assert last_seqs(store, after={"last_seq": 8}) == []
    found = store.rows("log_block", after={"last_seq": 7}, columns=("size", "log"))
    assert found == [{"size": 3, "log": "prices"}]
    newest = store.rows("log_block", order="-last_seq", limit=1, columns=["number"])
    assert newest == [{"number": 8}]


def test_logs_are_told_apart_by_bytes(store):
    """In the order of their names, whatever the locale of a server says."""
    names = ["b", "A", "a", "B-1", "\N{LATIN SMALL LETTER E WITH ACUTE}"]
    for name in names:
        store.commit(Batch(blocks=[block(0, 0, name)]))
    found: list[str] = []
    after = None
    while rows := store.rows("log_block", after=after, order="log", limit=1):
        found.append(rows[0]["log"])
        after = {"log": found[-1]}
    assert found == sorted(names)


def test_a_span_deletes_the_blocks_that_lie_in_it(store):
    """Not those that reach over its edges, nor those of another log, nor block 0."""
    store.commit(Batch(blocks=[block(0, 0), block(2, 1), block(5, 3), block(8, 6)]))
    store.commit(Batch(blocks=[block(0, 0, "other"), block(5, 1, "other")]))
    store.commit(Batch(retired=[Span(log="prices", first_seq=1, last_seq=6)]))
    assert last_seqs(store, {"log": "prices"}) == [0, 8]
    assert last_seqs(store, {"log": "other"}) == [0, 5]
    store.commit(Batch(blocks=[block(9, 9)]))


def test_a_block_is_never_edited(store):
    """A store that has a door for statements refuses by itself."""
    store.commit(Batch(blocks=[block(0, 0)]))
    if store.kind == "memory":
        assert not hasattr(store, "_db")
        return
    statement = "UPDATE log_block SET size = 5"
    with pytest.raises(Exception, match="never edited"):
        store._db.execute(statement if store.kind == "sqlite" else statement.encode())


def test_a_log_is_the_same_on_every_store(store, tmp_path: Path):
    """Appended, closed, read, sealed, retired, opened again and verified."""
    stage = Stage(store, tmp_path)
    log = stage.log(segment_records=100, keep_records=150)
    for number in range(80):
        log.append(*events(5, number * 5 + 1), [number * 10] * 5, {"file": number})
        log.seal()
    log.close_through(1_000)
    log.append(*events(3, 401), [1, 2, 3])
    assert log.retire(403) == 200
    for opened in (log, stage.reader(), stage.log(segment_records=100)):
        assert (opened.last_seq, opened.last_ms, opened.retired_seq) == (403, 1_001, 200)
        assert opened.end_at(455).seq == 230
        assert opened.position("file") == 79
        items = [item for key in SYMBOLS for item in opened.slice(cut(key, 221, 230))]
        assert sorted(items) == events(10, 221)[0]
        assert [one.seq for one in opened.newest("BTC", 3)] == [396, 399, 402]
        assert opened.first_of("ETH", 999) == 202
        assert len(list(opened.records(201, 403))) == 203
    report = stage.verify()
    assert report.held
    assert any(check.detail == "203 records in 42 blocks" for check in report.checks)
    stage.writer.close()


def test_a_second_writer_leaves_no_gap_and_nothing_twice(store, tmp_path: Path):
    """It stops, and what the first one wrote is what is there."""
    stage = Stage(store, tmp_path)
    log, other = stage.log(), stage.log()
    log.append(*events(3))
    with pytest.raises(StoreCorrupt, match="log prices does not end before 1"):
        other.append(*events(3))
    assert stage.reader().end_at(NOW_MS).seq == 3
    stage.writer._lease.release()
