"""Tables are a function of the record: folded again, they are the ones in use."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runwright.cycles import WORKLOAD
from runwright.kernel.drive.rebuild import fold_again, folded, rows_of
from runwright.kernel.ports import Batch, Row
from runwright.kernel.record.entries import BlobErased, Draft
from tests.cycles.scripted import CyclesRig, Gone, store
from tests.kernel.drive.rig import MemoryStore, sqlite_store

SCHEDULES = ({"interval_s": 3600}, {"interval_s": 60}, {"cron": "0 6 * * *"}, None)
EDITS = (
    {"interval_seconds": 1800},
    {"enabled": 0},
    {"enabled": 1},
    {"schedule_type": "EVENT_DRIVEN"},
    {"config": '{"retry_on_failure":true,"max_retries":2}'},
)
WORDS = ("done", "exit", "timeout", "deferred", "gone")
STEPS = st.one_of(
    st.tuples(st.just("apply"), st.sampled_from(SCHEDULES), st.sampled_from(["ab", "a", "c"])),
    st.tuples(st.just("edit"), st.sampled_from(EDITS)),
    st.tuples(st.just("serve"), st.integers(0, 8_000)),
    st.tuples(st.just("ask"), st.lists(st.sampled_from(WORDS), max_size=3)),
    st.tuples(st.just("erase"), st.integers(0, 20)),
)


class Story:
    """What happened to a store, step by step."""

    def __init__(self, kept: Any, folder: Path) -> None:
        self.rig = CyclesRig(kept, folder)
        self.rig.declare("a", "b", schedule=SCHEDULES[0])
        self.count = 0

    def apply(self, schedule: Any, names: str) -> None:
        self.rig.declare(*names, schedule=schedule)

    def edit(self, values: dict[str, Any]) -> None:
        self.rig.edit(**values)

    def serve(self, seconds: int) -> None:
        self.rig.stop.level = 0
        self.rig.serve(lambda: self.rig.clock.advance(seconds))

    def ask(self, words: list[str]) -> None:
        self.count += 1
        self.rig.script["a"] = list(words)
        try:
            self.rig.conduct(f"asked-{self.count}", kind="cycles")
        except Gone:
            self.rig = self.rig.again()
            self.rig.conductor.recover()
        self.rig.script.clear()

    def erase(self, index: int) -> None:
        blobs = [blob.digest for entry in self.rig.entries("run.finished") for blob in entry.blobs]
        if blobs:
            wanted = blobs[index % len(blobs)]
            draft = Draft(body=BlobErased(digest=wanted, reason="asked"))
            self.rig.writer.commit([draft], erased=[wanted])


@pytest.mark.proves("tables-follow-from-the-ledger")
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=st.lists(STEPS, max_size=10))
def test_rows_in_use_equal_rows_folded_again(steps: list[tuple[Any, ...]]) -> None:
    """Over applied specs, edits, schedules, failures, repeats, crashes and erasures."""
    with tempfile.TemporaryDirectory() as folder:
        story = Story(store(), Path(folder))
        for name, *values in steps:
            getattr(story, name)(*values)
        assert story.rig.differences() == []


def story_of_all(kept: Any, folder: Path) -> Story:
    """Return a story in which every table has rows."""
    story = Story(kept, folder)
    story.ask(["exit"])
    story.serve(4_000)
    story.edit(EDITS[0])
    story.serve(10)
    story.ask(["done", "gone"])
    story.ask(["gone"])
    story.erase(0)
    return story


#: A column that is altered in a row of each table.
ALTERED: dict[str, tuple[str, Any]] = {
    "spec": ("since_ms", 1),
    "tick": ("state", "open"),
    "round": ("outcome", "PERFECT"),
    "governance_action": ("decision", "PERFECT"),
    "execution_state": ("state_value", '{"cycle_status":"PERFECT"}'),
    "orchestrator_metrics": ("metric_value", "no number"),
    "orchestrator_schedule": ("failure_count", 77),
    "reconciliation_snapshots": ("discrepancy_count", 77),
    "reconciliation_evidence": ("evidence_hash", "00"),
}


@pytest.mark.parametrize("table", ALTERED)
def test_an_altered_row_is_found_and_put_right(table: str, tmp_path: Path) -> None:
    """On the store that people use: named with its column, and mended by what is folded again."""
    kept = sqlite_store(tmp_path, tables=WORKLOAD.tables)
    rig = story_of_all(kept, tmp_path).rig
    assert rig.differences() == []
    column, value = ALTERED[table]
    (row, *_) = rig.store.rows(table, order=f"-{_key(table)[0]}")
    key = {name: row[name] for name in _key(table)}
    assert row[column] != value
    kept.commit(Batch(rows=[Row(table, {**key, column: value}, update=True)]))
    found = rig.differences()
    assert [(it.table, it.what) for it in found] == [(table, column)]
    again = _folded_again(rig)
    kept.commit(rows_of(again, WORKLOAD.tables))
    assert rig.differences() == []
    rig.store.close()


def test_the_control_is_of_every_table_that_cycles_fill(tmp_path: Path) -> None:
    """A table that is added has to be altered above too, once its rows follow from the record."""
    rig = story_of_all(store(), tmp_path).rig
    partly = {table.name for table in WORKLOAD.tables if table.is_edited and table.folded}
    filled = {name for name in (*folded(WORKLOAD.tables), *partly) if rig.store.rows(name)}
    assert filled == set(ALTERED)


@pytest.mark.parametrize("table", ["governance_action", "tick"])
def test_a_row_that_was_put_in_or_taken_out_is_found(table: str, tmp_path: Path) -> None:
    """Both ways."""
    kept: Any = store()
    rig = story_of_all(kept, tmp_path).rig
    rows = kept._rows[table]
    place = max(rows)
    taken = rows.pop(place)
    assert [(it.table, it.what) for it in rig.differences()] == [(table, "missing")]
    rows[place] = taken
    rows[(10_000,)] = {**taken, _key(table)[0]: 10_000}
    assert [(it.table, it.what) for it in rig.differences()] == [(table, "not in the record")]


def _key(table: str) -> tuple[str, ...]:
    return folded(WORKLOAD.tables).get(table, ("schedule_name",))


def _folded_again(rig: CyclesRig) -> MemoryStore:
    again = MemoryStore(tables=WORKLOAD.tables)
    fold_again(rig.store, rig.ports.workloads, again)
    return again
