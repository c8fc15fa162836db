"""What a workload is asked before each start, and after each verdict."""

from __future__ import annotations

import msgspec

from runwright.kernel.errors import StoreUnwritable
from runwright.kernel.record.entries import StateReconciled
from runwright.kernel.run import Retry
from runwright.kernel.workload import Permit
from tests.kernel.drive.rig import plan_of, round_of, workload_of


def with_rooms(workload, **rooms):
    return msgspec.structs.replace(workload, **rooms)


def found(closed, tables):
    return [StateReconciled(kind="toy", round=closed.id, label="", component="c", agent="a")]


def test_a_run_that_is_not_permitted_is_refused_and_the_rest_goes_on(rig):
    """It is asked with what earlier runs came to, and its figures stand in the outcome."""

    def permit(seen, this, run, outcomes, starts):
        if "a" in outcomes and run.key == "b":
            return Permit(refused="enough", refusal={"rule": "toy", "n": len(outcomes)})
        return Permit()

    runs = [plan_of(key, lane="one") for key in "abc"]
    made = rig(
        with_rooms(workload_of(round_of(runs=runs, pure=False)), permit=permit), virtual=True
    )
    made.conduct()
    ended = made.outcomes()
    assert [ended[key].status for key in "abc"] == ["done", "failed", "done"]
    assert (ended["b"].reason, ended["b"].message, ended["b"].attempts) == ("refused", "enough", 0)
    assert ended["b"].value == {"refused": {"rule": "toy", "n": 1}}
    assert [entry.body.key for entry in made.entries("run.started")] == ["a", "c"]


def test_a_repeat_is_asked_for_too(rig):
    """With how often the run has started; what is refused then keeps its attempts."""
    asked = []

    def permit(seen, this, run, outcomes, starts):
        asked.append(dict(starts))
        return Permit(refused="twice is enough") if starts.get("a") == 2 else Permit()

    runs = [plan_of("a", args={"takes_ms": 1, "defers": 9})]
    this = round_of(runs=runs, pure=False, retry=Retry(attempts=5))
    made = rig(with_rooms(workload_of(this), permit=permit), virtual=True)
    made.conduct()
    assert asked == [{}, {"a": 1}, {"a": 2}]
    (ended,) = made.outcomes().values()
    assert (ended.status, ended.reason, ended.attempts) == ("failed", "refused", 2)


def test_a_verdict_is_reconciled_before_it_is_sealed(rig):
    """In a commit of its own, by what the store holds then."""
    seen = []

    def reconcile(closed, tables):
        seen.append((closed.verdict.status, closed.next_seq, tables.rows("round")[0]["verdict"]))
        return found(closed, tables)

    made = rig(with_rooms(workload_of(round_of("a")), reconcile=reconcile))
    made.conduct()
    assert made.commits() == [
        ["round.planned"],
        ["run.finished", "round.judged"],
        ["state.reconciled"],
    ]
    (entry,) = made.entries("state.reconciled")
    assert seen == [("PASS", entry.seq, "PASS")]


def test_what_a_crash_left_out_is_reconciled_by_the_next_start(rig):
    """Once, and for the newest round only."""
    made = rig(with_rooms(workload_of(round_of("a")), reconcile=found))
    made.conduct()
    made.conductor.recover()
    assert len(made.entries("state.reconciled")) == 1

    commit = made.store.commit

    def failing(batch):
        if any(b"state.reconciled" in stored.raw for stored in batch.entries):
            raise StoreUnwritable("full")
        commit(batch)

    made.store.commit = failing
    try:
        made.conduct(at=1)
    except StoreUnwritable:
        pass
    else:
        raise AssertionError("the commit did not fail")
    assert len(made.entries("round.judged")) == 2
    assert len(made.entries("state.reconciled")) == 1

    again = made.again()
    again.conductor.recover()
    again.conductor.recover()
    about = [entry.body.round for entry in again.entries("state.reconciled")]
    assert about == [entry.round for entry in again.entries("round.judged")]


def test_a_workload_that_finds_nothing_costs_no_commit(rig):
    """Nor does one that is not asked."""
    made = rig(with_rooms(workload_of(round_of("a")), reconcile=lambda closed, tables: []))
    made.conduct()
    assert made.commits() == [["round.planned"], ["run.finished", "round.judged"]]
