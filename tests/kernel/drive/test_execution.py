"""One round under way: what is durable before what, and what ends it."""

from __future__ import annotations

import itertools

import msgspec
import pytest

from runwright.adapters.memory import MemoryStore
from runwright.kernel.criteria import Verdict
from runwright.kernel.drive.execution import BATCH_MAX, LEFT_MAX, MESSAGE_MAX, VALUE_MAX
from runwright.kernel.drive.rebuild import fold_again
from runwright.kernel.errors import InternalError, Refused, StoreCorrupt, StoreUnwritable
from runwright.kernel.run import Cut, Rate, Ref, Retry
from tests.kernel.drive.rig import plan_of, round_of, workload_of


def virtual(rig, judge=None, **fields):
    extra = {} if judge is None else {"judge": judge}
    return rig(workload_of(round_of(**fields), **extra), virtual=True)


def takes(key: str, ms: int, lane: str = "", **args):
    return plan_of(key, lane=lane, args={"takes_ms": ms, **args})


# ------------------------------------------------------------------------------------- commits


def test_a_pure_round_costs_two_commits(rig):
    """Planned; then the outcomes and the verdict."""
    made = rig(workload_of(round_of("a", "b", "c")))
    made.conduct()
    assert made.commits() == [
        ["round.planned"],
        ["run.finished", "run.finished", "run.finished", "round.judged"],
    ]


def test_an_impure_round_of_three_runs_costs_four_commits(rig):
    """One end shares its commit with the next start, the last with the verdict."""
    made = rig(workload_of(round_of("a", "b", "c", pure=False)))
    made.conduct()
    assert made.commits() == [
        ["round.planned", "run.started"],
        ["run.finished", "run.started"],
        ["run.finished", "run.started"],
        ["run.finished", "round.judged"],
    ]


def test_a_round_without_runs_costs_one_commit(rig):
    """A judgement on facts alone."""
    made = rig(workload_of(round_of()))
    made.conduct()
    assert made.commits() == [["round.planned", "round.judged"]]


def test_every_start_is_durable_before_its_run_starts(rig):
    """When the place is asked to start a run, the store holds its run.started."""
    made = virtual(rig, runs=[takes(str(n), 10) for n in range(5)], workers=2, pure=False)
    seen = []
    opened = made.places.open

    def spying(round):  # noqa: A002 - the word of the port
        place = opened(round)
        start = place.start

        def started(work):
            recorded = {entry.body.key for entry in made.entries("run.started")}
            seen.append({item.plan.key for item in work} <= recorded)
            start(work)

        place.start = started
        return place

    made.places.open = spying
    made.conduct()
    assert len(seen) >= 3
    assert all(seen)


def test_the_plan_is_durable_before_the_first_pure_run_starts(rig):
    """A commit that fails leaves nothing started."""
    made = virtual(rig, runs=[takes("a", 10)])
    made.store.failure = StoreUnwritable("full")
    with pytest.raises(StoreUnwritable):
        made.conduct()
    assert made.places.log == []
    assert made.entries("round.planned") == []


def test_the_end_of_an_impure_run_is_durable_while_others_go_on(rig):
    """It does not wait for the next start when there is none, and is sealed within a second."""
    made = virtual(rig, runs=[takes("a", 1), takes("b", 60_000)], workers=2, pure=False)
    made.conduct()
    assert made.commits() == [
        ["round.planned", "run.started", "run.started"],
        ["run.finished"],
        ["seal"],
        ["run.finished", "round.judged"],
    ]


def test_outcomes_of_a_long_pure_round_commit_in_batches(rig):
    """As soon as there are so many, or the oldest has waited for 20 ms."""
    made = rig(workload_of(round_of(*(f"{n:04}" for n in range(BATCH_MAX + 100)))))
    made.conduct()
    counts = [types.count("run.finished") for types in made.commits()]
    assert sum(counts) == BATCH_MAX + 100
    assert max(counts) <= BATCH_MAX + 32
    assert len(counts) == 3

    slow = [takes(str(n), 50) for n in range(3)]
    aged = made.again(workload_of(round_of(runs=slow)), virtual=True)
    aged.conduct(at=1)
    assert [types.count("run.finished") for types in aged.commits()] == [0, 1, 1, 1]


def test_lane_memory_is_committed_with_the_outcome_that_left_it(rig):
    """In the same batch, and the entry holds its digest."""
    runs = [plan_of("a", "count", lane="x"), plan_of("b", "count", lane="x")]
    made = rig(workload_of(round_of(runs=runs, pure=False)))
    made.conduct()
    for batch in made.store.batches:
        finished = [entry for entry in batch.entries if b"run.finished" in entry.raw]
        assert len(finished) == sum(row.table == "lane" for row in batch.rows)
    assert [made.outcomes()[key].value["was"] for key in "ab"] == [0, 1]
    assert made.store.rows("lane")[0]["memory"] == '{"n":2}'


# ---------------------------------------------------------------------------------- rate, lanes


def test_a_rate_holds_for_all_runs_of_a_round(rig):
    """Three starts a second, whatever the number of workers."""
    runs = [takes(str(n), 10) for n in range(8)]
    made = virtual(rig, runs=runs, workers=8, rate=Rate(starts=3), pure=False)
    began_s = made.clock.at_s
    made.conduct()
    starts = [round(at_s - began_s, 3) for at_s in made.places.starts()]
    assert starts == [0, 0, 0, 1, 1, 1, 2, 2]


def test_a_place_that_holds_runs_back_cannot_burst(rig):
    """No more pure runs are handed out than can start, so slow ones do not pile up."""
    runs = [takes("slow", 2_000), *(takes(str(n), 0) for n in range(20))]
    made = virtual(rig, runs=runs, rate=Rate(starts=5))
    made.conduct()
    starts = made.places.starts()
    assert len(starts) == 21
    for first in starts:
        assert sum(first <= at_s < first + 1 for at_s in starts) <= 5


def test_a_slow_commit_does_not_squeeze_the_starts(rig):
    """The rate is about when runs start, not about when they were allowed to."""
    runs = [takes(str(n), 0) for n in range(6)]
    made = virtual(rig, runs=runs, rate=Rate(starts=1), pure=False)
    commit, delays = made.store.commit, itertools.cycle([0.0, 0.9, 0.0, 0.3, 0.1])

    def slow(batch):
        made.clock.advance(next(delays))
        commit(batch)

    made.store.commit = slow
    made.conduct()
    starts = made.places.starts()
    assert len(starts) == 6
    assert all(later - first >= 1 for first, later in itertools.pairwise(starts))


def test_lanes_run_side_by_side_and_in_order(rig):
    """Two lanes take as long as the longer one."""
    runs = [takes(f"{lane}{n}", 100, lane) for n in range(3) for lane in "xy"]
    made = virtual(rig, runs=runs, workers=4, pure=False)
    began_s = made.clock.at_s
    made.conduct()
    assert round(made.clock.at_s - began_s, 3) == 0.3
    started = [key for what, key, _ in made.places.log if what == "start"]
    assert [key for key in started if key[0] == "x"] == ["x0", "x1", "x2"]


# ----------------------------------------------------------------------------- refused, unusable


def test_a_refused_run_is_recorded_without_being_started(rig):
    """It has failed with the reason of its plan; its lane goes on."""
    runs = [
        plan_of("a", lane="x", refused="no such file"),
        plan_of("b", lane="x"),
    ]
    made = rig(workload_of(round_of(runs=runs, pure=False)))
    assert made.conduct().outcomes == {"failed": 1, "done": 1}
    body = made.outcomes()["a"]
    assert (body.status, body.reason, body.message, body.attempts) == (
        "failed",
        "refused",
        "no such file",
        0,
    )
    assert [entry.body.key for entry in made.entries("run.started")] == ["b"]


def test_a_place_that_refuses_a_round_leaves_every_run_refused(rig):
    """The tick is closed with a verdict on it."""
    made = virtual(rig, runs=[takes("a", 1), takes("b", 1)], pure=False)

    def refuse(round):  # noqa: A002 - the word of the port
        raise Refused("T2 is not held here")

    made.places.open = refuse
    assert made.conduct().outcomes == {"failed": 2}
    assert {body.reason for body in made.outcomes().values()} == {"refused"}
    assert made.store.rows("tick")[0]["state"] == "closed"


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        ("raises", "raised"),
        ("raises_surrogate", "raised"),
        ("says_too_much", "value"),
        ("missing", "unknown"),
    ],
)
def test_a_run_that_breaks_fails_alone(rig, call: str, reason: str):
    """Whatever it raises or answers becomes an outcome, and the others are executed."""
    made = rig(workload_of(round_of(runs=[plan_of("a", call), plan_of("b")], pure=False)))
    assert made.conduct().outcomes == {"failed": 1, "done": 1}
    assert made.outcomes()["a"].reason == reason
    assert made.outcomes()["a"].value == {}


def test_a_reason_and_a_message_have_a_maximum(rig):
    """What a call says of itself cannot grow past an entry."""
    made = rig(workload_of(round_of(runs=[plan_of("a", "talks")])))
    made.conduct()
    assert len(made.outcomes()["a"].message) == MESSAGE_MAX
    assert len(made.outcomes()["a"].reason) == 100


def test_an_answer_that_is_too_long_says_how_long_it_was(rig):
    """The limit stands in the message."""
    made = rig(workload_of(round_of(runs=[plan_of("a", "says_too_much")])))
    made.conduct()
    assert f"at most {VALUE_MAX} are kept" in made.outcomes()["a"].message


# ----------------------------------------------------------------------------------- what stops


def stop_after(failures: int):
    def judge(seen, this, outcomes):
        failed = sum(outcome.status == "failed" for outcome in outcomes)
        return Verdict(status="FAIL" if failed else "PASS", stop=failed >= failures)

    return judge


@pytest.mark.parametrize("pure", [True, False])
def test_a_verdict_that_stops_cancels_the_rest_on_the_record(rig, pure: bool):
    """What has not started is skipped for the reason "verdict"; every run has an outcome."""
    runs = [takes(f"{n:02}", 10, fails=n in (1, 3)) for n in range(60)]
    made = virtual(rig, judge=stop_after(2), runs=runs, judge_every=2, pure=pure)
    result = made.conduct()
    assert result.stopped == "verdict"
    outcomes = made.outcomes()
    assert len(outcomes) == 60
    assert result.outcomes["failed"] == 2
    skipped = [body for body in outcomes.values() if body.status == "skipped"]
    assert skipped
    assert {(body.reason, body.attempts) for body in skipped} == {("verdict", 0)}
    judged = made.entries("round.judged")[0].body
    assert judged.stopped == "verdict"
    assert sum(judged.outcomes.values()) == 60


def test_the_rest_of_a_stopped_round_is_skipped_in_the_order_of_the_plan(rig):
    """The record lists them as they were planned."""
    runs = [takes(f"{n}", 10, "x" if n % 2 else "", fails=n == 0) for n in range(6)]
    made = virtual(rig, judge=stop_after(1), runs=runs, judge_every=1, pure=False)
    made.conduct()
    skipped = [e.body.key for e in made.entries("run.finished") if e.body.status == "skipped"]
    assert skipped == sorted(skipped)
    assert len(skipped) == 5


def test_prefixes_are_judged_every_so_many_outcomes(rig):
    """And the last judgement is on all of them."""
    seen = []

    def judge(this_seen, this, outcomes):
        seen.append(len(outcomes))
        return Verdict(status="PASS")

    runs = [takes(f"{n}", 10) for n in range(7)]
    made = virtual(rig, judge=judge, runs=runs, judge_every=3, pure=False)
    made.conduct()
    assert seen == [3, 6, 7]


def test_no_run_starts_after_the_deadline(rig):
    """What has not started is skipped for the reason "deadline"; what is under way is ended."""
    runs = [takes(f"{n}", 400) for n in range(5)]
    made = virtual(rig, runs=runs, deadline_s=1, pure=False)
    result = made.conduct()
    assert result.stopped == "deadline"
    outcomes = made.outcomes()
    assert [outcomes[key].status for key in "01234"] == ["done"] * 3 + ["skipped"] * 2
    assert {outcomes[key].reason for key in "34"} == {"deadline"}
    assert ("ask", "", made.places.log[0][2] + 1) in made.places.log


def test_a_deadline_ends_a_wait_for_a_repeat(rig):
    """A repeat that would come too late is skipped with the attempts it had."""
    retry = Retry(attempts=5, min_s=30)
    made = virtual(rig, runs=[takes("a", 0, defers=9)], retry=retry, deadline_s=10, pure=False)
    began_s = made.clock.at_s
    made.conduct()
    body = made.outcomes()["a"]
    assert (body.status, body.reason, body.attempts) == ("skipped", "deadline", 1)
    assert made.clock.at_s - began_s == 10


def test_the_first_signal_drains_what_is_under_way(rig):
    """Nothing new starts; the run under way ends as it would."""
    runs = [takes(f"{n}", 400) for n in range(3)]
    made = virtual(rig, runs=runs, pure=False)
    said = made.ports.messages

    def stopping(event, text="", /, **fields):
        said(event, text, **fields)
        if event == "run.started" and fields["key"] == "0":
            made.stop.ask(15)

    made.conductor._ports = made.ports._replace(messages=stopping)
    result = made.conduct()
    assert result.stopped == "signal"
    assert [made.outcomes()[key].status for key in "012"] == ["done", "skipped", "skipped"]
    assert not any(what in ("ask", "kill") for what, _, _ in made.places.log)


def test_what_does_not_drain_in_time_is_asked_to_end(rig):
    """After `drain_s`; a second signal kills at once."""
    made = virtual(rig, runs=[takes("a", 3_600_000)], pure=False)
    made.ports = made.ports._replace(drain_s=10)
    said = made.ports.messages

    def stopping(event, text="", /, **fields):
        said(event, text, **fields)
        if event == "run.started":
            made.stop.ask(15)

    made.conductor._ports = made.ports._replace(messages=stopping)
    began_s = made.clock.at_s
    made.conduct()
    assert ("ask", "", began_s + 10) in made.places.log


def test_a_second_signal_kills_at_once(rig):
    """Level 2 does not wait for the drain."""
    made = virtual(rig, runs=[takes("a", 3_600_000)], pure=False)

    def stopping(event, text="", /, **fields):
        if event == "run.started":
            made.stop.ask(15)
            made.stop.ask(15)

    made.conductor._ports = made.ports._replace(messages=stopping)
    began_s = made.clock.at_s
    made.conduct()
    assert ("kill", "", began_s) in made.places.log


# ---------------------------------------------------------------------------------- the outcome


def test_judge_sees_what_the_record_will_give_back(rig):
    """A tuple is a list, and lane memory is not part of an outcome: as after a crash."""
    seen = []

    def judge(this_seen, this, outcomes):
        seen.extend(outcomes)
        return Verdict(status="PASS")

    runs = [plan_of("a", "pairs", lane="x")]
    made = rig(workload_of(round_of(runs=runs), judge=judge))
    made.conduct()
    assert seen[0].value == {"pair": [1, 2]}
    assert seen[0].memory is None
    assert made.store.rows("lane")[0]["memory"] == '{"pair":[3,4]}'


def test_two_runs_of_a_round_cannot_share_a_key(rig):
    """The key is what tells them apart in the record."""
    made = rig(workload_of(round_of("a", "a")))
    with pytest.raises(InternalError, match="two runs of a round share a key"):
        made.conduct()
    assert made.entries("round.planned") == []


def test_outcomes_come_to_judge_in_the_order_of_their_keys(rig):
    """Whatever ended first."""
    seen = []

    def judge(this_seen, this, outcomes):
        seen.append([outcome.key for outcome in outcomes])
        return Verdict(status="PASS")

    runs = [takes("c", 10), takes("a", 30), takes("b", 20)]
    made = virtual(rig, judge=judge, runs=runs, workers=3, pure=False)
    made.conduct()
    assert seen == [["a", "b", "c"]]
    finished = [entry.body.key for entry in made.entries("run.finished")]
    assert finished == ["c", "b", "a"]


def test_every_entry_of_a_run_is_counted_without_a_gap(rig):
    """`n` rises from 0 within each run."""
    runs = [takes(f"{n}", 10, defers=n) for n in range(3)]
    made = virtual(rig, runs=runs, retry=Retry(attempts=3), pure=False, workers=3)
    made.conduct()
    counts: dict[str, list[int]] = {}
    for entry in made.entries():
        if entry.run:
            counts.setdefault(entry.run, []).append(entry.n)
    assert all(found == list(range(len(found))) for found in counts.values())
    assert sorted(len(found) for found in counts.values()) == [2, 4, 6]


def test_inputs_reach_the_call_by_their_digest(rig):
    """What observe kept is resolved for the run, before and after it is committed."""

    def observe(spec, tick, world):
        return {"ref": msgspec.to_builtins(world.keep(b"large"))}

    def plan(seen):
        if len(seen.done) == 2:
            return None
        ref = Ref(**seen.facts["ref"])
        return round_of(key=str(len(seen.done)), runs=[plan_of("a", inputs=(ref,))])

    made = rig(workload_of(observe=observe, plan=plan))
    made.conduct()
    assert [e.body.value["inputs"] for e in made.entries("run.finished")] == [["large"]] * 2


@pytest.mark.parametrize("state", ["missing", "altered"])
def test_an_input_is_checked_before_it_is_read(on_sqlite, state: str):
    """Bytes that are not those of their digest stop the conductor."""

    def observe(spec, tick, world):
        return {"ref": msgspec.to_builtins(world.keep(b"large"))}

    def plan(seen):
        if len(seen.done) == 2:
            return None
        if seen.done:
            ended = "DELETE FROM blob" if state == "missing" else "UPDATE blob SET data = x'00'"
            made.store._db.execute(f"{ended} WHERE digest = ?", (seen.facts["ref"]["digest"],))
        runs = [plan_of("a", inputs=(Ref(**seen.facts["ref"]),))]
        return round_of(key=str(len(seen.done)), runs=runs)

    made = on_sqlite(workload_of(observe=observe, plan=plan))
    made.apply()
    with pytest.raises(StoreCorrupt, match=f"of a is {state}"):
        made.conduct()
    assert len(made.entries("run.finished")) == 1


def test_a_cut_is_resolved_into_the_records_of_the_log(rig):
    """After what is named by digest; each run gets its own, and an empty cut is none."""
    log = {"a": [b"one", b"two"], "b": [b"three"], "c": []}

    def observe(spec, tick, world):
        return {"ref": msgspec.to_builtins(world.keep(b"large"))}

    def plan(seen):
        if seen.done:
            return None
        ref = Ref(**seen.facts["ref"])
        runs = [
            plan_of("a", inputs=(ref,), cut=Cut(log="ticks", key="a", first=3, last=9)),
            plan_of("b", cut=Cut(log="ticks", key="b", first=1, last=9)),
            plan_of("c", cut=Cut(log="ticks", key="c", first=10, last=9)),
            plan_of("d"),
        ]
        return round_of(runs=runs)

    asked = []

    class Reading:
        def slice(self, cut):
            asked.append(cut)
            return log[cut.key]

    made = rig(workload_of(observe=observe, plan=plan))
    made.conductor.logs["ticks"] = Reading()
    made.conduct()
    found = {e.body.key: e.body.value["inputs"] for e in made.entries("run.finished")}
    assert found == {"a": ["large", "one", "two"], "b": ["three"], "c": [], "d": []}
    assert asked[0] == Cut(log="ticks", key="a", first=3, last=9)
    assert [cut.key for cut in asked] == ["a", "b", "c"]


def test_a_cut_without_a_log_refuses_the_tick(rig):
    """Nothing is planned that could not be executed; the message says what to do."""
    cut = Cut(log="ticks", key="a", first=1, last=2)
    made = rig(workload_of(round_of(runs=[plan_of("a", cut=cut)])))
    refused = made.conduct()
    assert refused.error == "usage"
    assert refused.message == "a run reads a of the log 'ticks', and this conductor has no log"
    assert made.types(2) == ["tick.refused"]


@pytest.mark.parametrize(
    ("size", "is_inside"), [(10, True), (LEFT_MAX - 11, True), (LEFT_MAX, False)]
)
def test_what_a_run_left_stands_in_its_entry_or_is_a_blob(rig, size: int, is_inside: bool):
    """Short memory needs no blob; the lane is the same either way, and folds again."""
    plans = [plan_of(str(n), "grows", lane="a", args={"size": size}) for n in range(2)]
    made = rig(workload_of(round_of(runs=plans)))
    made.conduct()
    bodies = [entry.body for entry in made.entries("run.finished")]
    assert [body.left is not None for body in bodies] == [is_inside] * 2
    assert [bool(body.memory) for body in bodies] == [not is_inside] * 2
    assert [body.value["was"] for body in bodies] == [0, size]
    lane = {"kind": "toy", "name": "demo", "lane": "a", "memory": '{"text":"' + "x" * size + '"}'}
    assert made.store.rows("lane") == [lane]
    again = MemoryStore()
    fold_again(made.store, made.ports.workloads, again)
    assert again.rows("lane") == [lane]


def test_a_run_may_do_what_it_likes_with_the_memory_it_gets(rig):
    """What the one before it left is on the record already, as it left it."""
    plans = [plan_of(str(n), "scribbles", lane="a") for n in range(3)]
    made = rig(workload_of(round_of(runs=plans)))
    made.conduct()
    assert [e.body.left for e in made.entries("run.finished")] == [{"n": 1}, {"n": 2}, {"n": 3}]


def test_a_run_that_defers_while_the_round_stops_is_not_repeated(rig):
    """Its last attempt is its outcome; no repeat is recorded that will not come."""
    made = virtual(
        rig, runs=[takes("a", 2_000, defers=9)], retry=Retry(attempts=5), deadline_s=1, pure=False
    )
    made.conduct()
    body = made.outcomes()["a"]
    assert (body.status, body.reason, body.attempts) == ("failed", "deferred", 1)
    assert made.entries("run.deferred") == []


def test_a_long_run_is_sealed_while_it_goes_on(rig):
    """Its start is beyond doubt a second later, not when it has ended."""
    made = virtual(rig, runs=[takes("a", 60_000)], pure=False)
    made.writer.seal()
    made.store.batches.clear()
    made.conduct()
    assert made.commits() == [
        ["round.planned", "run.started"],
        ["seal"],
        ["run.finished", "round.judged"],
    ]


def test_errands_are_done_while_a_run_goes_on(rig):
    """One at a time, each once, and only when nothing has ended for a moment."""
    done = []
    made = rig(
        workload_of(round_of(runs=[takes("a", 5_000), takes("b", 5_000)], pure=False)),
        virtual=True,
        meanwhile=[lambda: done.append((1, made.clock.at_s)), lambda: done.append((2, 0))],
    )
    began_s = made.clock.at_s
    made.conduct()
    assert [number for number, _ in done] == [1, 2]
    assert 0 < done[0][1] - began_s < 5
    assert made.clock.at_s - began_s < 11


def test_a_round_that_ends_at_once_does_no_errands(rig):
    """They are for the time in which the conductor would only wait."""
    done = []
    made = rig(workload_of(round_of("a", pure=False)), meanwhile=[lambda: done.append(1)])
    made.conduct()
    assert done == []
