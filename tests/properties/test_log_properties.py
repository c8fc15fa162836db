"""Whatever is appended, a log answers as a plain list of records does, from memory and reopened."""

from __future__ import annotations

from typing import Any, TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runwright.adapters.memory import MemoryStore
from runwright.kernel.drive.log import Log, LogLimits
from runwright.kernel.ports import Batch
from runwright.kernel.run import Cut
from tests.kernel.drive.rig import ToyClock

Blocks: TypeAlias = list[tuple[list[tuple[bytes, str, int]], int | None]]

KEYS = ("A", "B", "C", "D")
RECORD = st.tuples(st.binary(max_size=6), st.sampled_from(KEYS), st.integers(0, 60))
#: Blocks of records with stamps of their own, some after a range of time was closed.
BLOCKS = st.lists(
    st.tuples(st.lists(RECORD, min_size=1, max_size=8), st.none() | st.integers(0, 60)),
    min_size=1,
    max_size=90,
)


def opened(store: MemoryStore) -> Log:
    def commit(drafts: Any = (), *, blocks: Any = (), retired: Any = ()) -> int:
        store.commit(Batch(blocks=list(blocks), retired=list(retired)))
        return len(drafts)

    return Log(store, "prices", limits=LogLimits(), clock=ToyClock(), commit=commit)


class Plain:
    """The same as a list of bytes, key and stamp."""

    def __init__(self) -> None:
        self.records: list[tuple[bytes, str, int]] = []
        self.closed_ms = -1

    def append(self, records: list[tuple[bytes, str, int]]) -> None:
        for data, key, stamp in records:
            last = self.records[-1][2] if self.records else 0
            self.records.append((data, key, max(stamp, last, self.closed_ms + 1)))


def put(log: Log, records: list[tuple[bytes, str, int]]) -> int:
    items, keys, stamps = zip(*records, strict=True)
    return log.append(items, keys, stamps)


def filled(blocks: Blocks) -> tuple[MemoryStore, Log, Plain]:
    store, plain = MemoryStore(), Plain()
    log = opened(store)
    for records, closed in blocks:
        if closed is not None:
            log.close_through(closed)
            plain.closed_ms = max(plain.closed_ms, closed)
        plain.append(records)
        assert put(log, records) == len(plain.records)
    return store, log, plain


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(blocks=BLOCKS, data=st.data())
def test_a_log_answers_as_a_plain_list_does(blocks: Blocks, data: st.DataObject) -> None:
    """Ends, slices, newest, first ones, and all records."""
    store, log, plain = filled(blocks)
    count = len(plain.records)
    ms = data.draw(st.integers(-1, 130))
    key = data.draw(st.sampled_from((*KEYS, "none")))
    first = data.draw(st.integers(1, count))
    last = data.draw(st.integers(first - 1, count))
    number = data.draw(st.integers(0, 20))
    own = [(seq, one[0]) for seq, one in enumerate(plain.records, 1) if one[1] == key]
    for one in (log, opened(store)):
        assert one.end_at(ms).seq == sum(record[2] <= ms for record in plain.records)
        cut = Cut(log="prices", key=key, first=first, last=last)
        assert one.slice(cut) == tuple(item for seq, item in own if first <= seq <= last)
        newest = [(record.seq, record.data) for record in one.newest(key, number)]
        assert newest == own[len(own) - min(number, len(own)) :]
        assert one.first_of(key, last) == next((seq for seq, _ in own if seq <= last), None)
        whole = [(found.data, found.key, found.ingest_ts_ms) for found in one.records(1, count)]
        assert whole == plain.records


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(blocks=BLOCKS, at=st.integers(0, 130), more=BLOCKS)
def test_a_cut_never_changes_once_it_was_closed(blocks: Blocks, at: int, more: Blocks) -> None:
    """Whatever arrives later, and whatever it is stamped."""
    store, log, _ = filled(blocks)
    log.close_through(at)
    end = log.end_at(at)
    for records, _ in more:
        put(log, records)
    assert log.end_at(at) == opened(store).end_at(at) == end


def test_the_control_a_log_that_is_not_closed_changes_its_cut() -> None:
    """The property would see it."""
    _, log, _ = filled([([(b"1", "A", 1)], None)])
    end = log.end_at(5)
    put(log, [(b"2", "A", 2)])
    assert log.end_at(5) != end
