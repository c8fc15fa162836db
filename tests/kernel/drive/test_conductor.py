"""The road of one tick: observed, planned, recorded, executed, judged, reported, recovered."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from runwright.kernel.criteria import Verdict
from runwright.kernel.drive.ticks import Conducted
from runwright.kernel.errors import (
    InternalError,
    InvalidSpec,
    StoreUnwritable,
    UnknownName,
    Usage,
)
from runwright.kernel.ports import Row, Table
from runwright.kernel.record.entries import Actor
from runwright.kernel.run import Arrived, Rate, Ref, Retry
from runwright.kernel.workload import Paper
from tests.kernel.drive.rig import NOW_MS, ORIGIN, Rig, plan_of, round_of, spec_body, workload_of


def one_paper(seen, this, outcomes, verdict) -> list[Paper]:
    return [Paper(sink="list", name=f"{this.key}.json", body=verdict.status, hold="sealed")]


# ------------------------------------------------------------------------------------- the road


def test_what_is_planned_stands_before_what_is_started(rig):
    """The entries of an impure round, in order, each under its id."""
    made = rig(workload_of(round_of("a", "b", pure=False)))
    result = made.conduct()
    assert made.types(2) == [
        "round.planned",
        "run.started",
        "run.finished",
        "run.started",
        "run.finished",
        "round.judged",
    ]
    planned, *_, judged = made.entries()[2:]
    assert planned.round == judged.round == result.rounds[0]
    assert (planned.n, judged.n) == (0, 1)
    assert (planned.body.runs, planned.body.pure, planned.body.code) == (2, False, "c0de")
    assert judged.body.last
    assert judged.body.outcomes == {"done": 2}


def test_a_tick_with_a_held_paper_costs_six_commits(rig):
    """Four for three impure runs and the verdict, one for the seal, one to acknowledge."""
    made = rig(workload_of(round_of("a", "b", "c", pure=False), report=one_paper))
    made.conduct()
    made.conductor.outbox.pump()
    assert len(made.commits()) == 6
    assert made.commits()[4:] == [["seal"], ["[paper]"]]
    assert made.sink.names == ["only.json"]


def test_a_tick_without_a_held_paper_is_not_sealed_at_once(rig):
    """The cadence seals it."""
    made = rig(workload_of(round_of("a")))
    made.conduct()
    assert len(made.commits()) == 2
    assert made.writer.sealed.size < made.writer.next_seq


def test_what_is_pinned_can_be_read_back(rig):
    """Spec, roster, facts and what was seen are blobs under the digests in round.planned."""
    made = rig(workload_of(round_of("a"), observe=lambda spec, tick, world: {"n": 1}))
    made.conduct()
    entry = made.entries("round.planned")[0]
    kept = {blob.name: made.store.blob(blob.digest).data for blob in entry.blobs}
    assert kept["spec"] == spec_body()
    assert kept["facts"] == b'{"n":1}'
    assert msgspec.json.decode(kept["roster"])[0]["key"] == "a"
    assert msgspec.json.decode(kept["seen"])["at"] == NOW_MS
    assert {entry.body.spec, entry.body.roster, entry.body.seen} <= {
        blob.digest for blob in entry.blobs
    }


def test_a_schedule_or_a_person_caused_it(rig):
    """The actor of round.planned."""
    made = rig(workload_of(round_of("a")))
    made.conduct()
    made.conduct("request-1")
    actors = [entry.actor for entry in made.entries("round.planned")]
    assert actors == [Actor(kind="schedule"), Actor(kind="person", id="ada")]


def test_rounds_are_planned_one_after_the_other_until_there_is_none(rig):
    """Each plan sees the rounds before it, with their outcomes and verdicts."""
    seen = []

    def plan(this):
        seen.append([(done.round.key, done.verdict.status) for done in this.done])
        return round_of("a", key=f"rung-{len(this.done)}") if len(this.done) < 2 else None

    made = rig(workload_of(plan=plan))
    result = made.conduct()
    assert seen == [[], [("rung-0", "PASS")], [("rung-0", "PASS"), ("rung-1", "PASS")]]
    assert len(result.rounds) == 2
    assert [entry.body.last for entry in made.entries("round.judged")] == [False, True]
    assert [entry.body.index for entry in made.entries("round.planned")] == [0, 1]
    assert result.outcomes == {"done": 2}
    assert [row["state"] for row in made.store.rows("tick")] == ["closed"]


def test_two_rounds_of_a_tick_cannot_share_a_key(rig):
    """The second would have the id of the first."""
    made = rig(workload_of(round_of("a"), round_of("a")))
    with pytest.raises(InternalError, match="planned twice in a tick"):
        made.conduct()


def test_a_lane_remembers_across_ticks(rig):
    """What the last outcome left is what the next run of the lane and the next plan see."""
    seen = []

    def plan(this):
        seen.append(dict(this.memory))
        return round_of(runs=[plan_of("a", "count", lane="x")]) if not this.done else None

    made = rig(workload_of(plan=plan))
    made.conduct(at=0)
    made.conduct(at=1)
    assert [entry.body.value["was"] for entry in made.entries("run.finished")] == [0, 1]
    assert seen == [{}, {"x": {"n": 1}}, {"x": {"n": 1}}, {"x": {"n": 2}}]


def test_a_lane_remembers_across_the_rounds_of_a_tick(rig):
    """The second round starts with what the first left, in the plan and in the runs."""
    rounds = [
        round_of(key=key, runs=[plan_of("a", "count", lane="x")]) for key in ("first", "second")
    ]
    made = rig(workload_of(*rounds))
    made.conduct()
    assert [entry.body.value["was"] for entry in made.entries("run.finished")] == [0, 1]
    assert made.store.rows("lane")[0]["memory"] == '{"n":2}'


def test_lanes_of_two_specs_do_not_meet(rig):
    """Memory belongs to a spec and a lane."""
    made = rig(workload_of(round_of(runs=[plan_of("a", "count", lane="x")])))
    made.apply("other")
    made.conduct()
    made.conduct(name="other")
    assert [entry.body.value["was"] for entry in made.entries("run.finished")] == [0, 0]


def test_a_large_thing_is_kept_once_with_the_first_round(rig):
    """Facts name it by its digest."""

    def observe(spec, tick, world):
        return {"ref": msgspec.to_builtins(world.keep(b"x" * 100_000))}

    def plan(seen):
        if len(seen.done) == 2:
            return None
        ref = Ref(**seen.facts["ref"])
        return round_of(key=f"{len(seen.done)}", runs=[plan_of("a", inputs=(ref,))])

    made = rig(workload_of(observe=observe, plan=plan))
    made.store.batches.clear()
    with pytest.raises(Usage):
        made.conductor.conduct("toy", "nobody", Arrived(id="x", planned_ms=1))
    made.conduct()
    held = [
        sum(len(item.data) == 100_000 for item in batch.contents) for batch in made.store.batches
    ]
    assert sum(held) == 1
    assert held[0] == 1


def test_the_past_may_be_asked_for(rig):
    """Rounds, ticks and lanes; nothing else of the store."""
    asked: list[Any] = []

    def observe(spec, tick, world):
        asked.append(len(world.recorded("round")) + len(world.rows("spec", {"name": "demo"})))
        return {}

    made = rig(workload_of(round_of("a"), observe=observe))
    made.conduct(at=0)
    made.conduct(at=1)
    assert asked == [1, 2]


# ------------------------------------------------------------------------------ recognised, refused


def test_a_repeat_of_a_tick_is_recognised_and_not_run_again(rig):
    """It answers with what the record says, and writes nothing."""
    made = rig(workload_of(round_of("a", "b", pure=False)))
    first = made.conduct("request-1")
    made.store.batches.clear()
    second = made.conduct("request-1")
    assert made.store.batches == []
    assert second == first
    assert second.outcomes == {"done": 2}


def test_the_id_of_a_tick_is_the_same_on_every_machine(rig):
    """Another name or another instant is another tick."""
    made = rig(workload_of(round_of("a")))
    made.apply("other")
    found = [made.conduct(0), made.conduct(1), made.conduct(0, "other"), made.conduct("0")]
    assert len({result.tick for result in found}) == 4
    from runwright.kernel.run import Scheduled, tick_id

    tick = Scheduled(planned_ms=NOW_MS)
    assert found[0].tick == tick_id(origin=ORIGIN, workload="toy", spec="demo", tick=tick)


def refuses(spec, tick, world):
    raise Usage("there is nothing to do")


def floats(spec, tick, world):
    return {"price": 0.5}


@pytest.mark.parametrize(
    ("fields", "code", "message"),
    [
        ({"observe": refuses}, "usage", "there is nothing to do"),
        ({"observe": floats}, "not-canonical", "$.price: float has no canonical form"),
        ({"plan": lambda seen: None}, "usage", "the plan has nothing for this tick"),
        ({"plan": lambda seen: refuses(0, 0, 0)}, "usage", "there is nothing to do"),
    ],
)
def test_a_tick_that_cannot_be_planned_is_recorded_as_refused(rig, fields, code, message):
    """One entry with the code and the message; nothing was executed."""
    made = rig(workload_of(**fields))
    made.submit("request-1")
    result = made.conduct("request-1")
    assert (result.error, result.message, result.rounds) == (code, message, ())
    entry = made.entries()[-1]
    assert entry.type == "tick.refused"
    assert (entry.body.code, entry.body.message, entry.tick) == (code, message, result.tick)
    assert made.store.blob(entry.body.spec).data == spec_body()
    assert made.answer("request-1")["error"] == code
    assert made.store.rows("tick")[0]["state"] == "refused"


def test_a_repeat_of_a_refused_tick_is_answered_with_the_same_error(rig):
    """It is not observed again."""
    made = rig(workload_of(observe=refuses))
    assert made.conduct("request-1") == made.conduct("request-1")
    assert len(made.entries("tick.refused")) == 1


def test_a_spec_that_was_not_applied_is_unknown(rig):
    """And so is a kind; nothing is written."""
    made = rig()
    with pytest.raises(UnknownName, match="no toy spec of the name 'other' was applied"):
        made.conduct(name="other")
    with pytest.raises(UnknownName, match="there is no workload of kind 'x'; known: toy"):
        made.conduct(kind="x")
    assert made.store.batches == []


def test_a_spec_may_come_with_the_request(rig):
    """An inline spec ticks without being applied, and is pinned with the round."""
    made = rig(workload_of(round_of("a")), apply=False)
    tick = Arrived(id="decision-1", planned_ms=NOW_MS)
    body = spec_body("once")
    result = made.conductor.conduct("toy", "once", tick, inline=body)
    assert result.verdict == "PASS"
    assert made.store.rows("spec") == []
    assert made.store.blob(made.entries("round.planned")[0].body.spec).data == body


# ---------------------------------------------------------------------------------------- apply


def test_applying_a_spec_is_an_entry(rig):
    """With its digest and the one that it replaces; the same again changes nothing."""
    made = rig(apply=False)
    assert made.apply()["changed"] is True
    assert made.apply()["changed"] is False
    made.apply(settings={"n": 1})
    first, second = made.entries("spec.applied")
    assert (first.body.replaces, second.body.replaces) == ("", first.body.digest)
    assert first.actor == Actor(kind="person", id="ada")
    (row,) = made.store.rows("spec")
    assert (row["digest"], row["seq"]) == (second.body.digest, second.seq)


def test_a_spec_keeps_the_instant_when_it_was_first_applied(rig):
    """The grid of its interval hangs on it."""
    made = rig(apply=False)
    made.apply()
    made.clock.advance(60)
    made.apply(settings={"n": 1})
    assert made.store.rows("spec")[0]["applied_ms"] == NOW_MS


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"colour": "red"}, "toy: Object contains unknown field `colour`"),
        ({"schedule": {"interval_s": 0}}, "schedule.interval_s"),
        ({"schedule": {}}, "give exactly one of once_at, interval_s and cron"),
    ],
)
def test_a_spec_that_is_not_valid_is_not_applied(rig, fields, message):
    """An unknown key, or a schedule that never fires."""
    made = rig(apply=False)
    with pytest.raises(InvalidSpec, match=message) as caught:
        made.apply(**fields)
    assert caught.value.code == "invalid-spec"
    assert made.store.rows("spec") == []
    assert made.entries("spec.applied") == []


TABLE = Table(name="thing", columns=("name", "n"), key=("name",), sql="")


def test_the_rows_that_a_spec_declares_are_written_with_it(tmp_path):
    """`register` sees what the tables hold; its counts stand in the entry."""
    from runwright.adapters.memory import MemoryStore

    def register(spec, at_ms, tables):
        n = len(tables["thing"])
        return [Row("thing", {"name": spec.name, "n": n})], {"added": 1}

    made = Rig(
        MemoryStore(tables=[TABLE]), tmp_path, workload_of(tables=[TABLE], register=register)
    )
    made.apply("a")
    made.apply("b")
    assert made.store.rows("thing", order="name") == [{"name": "a", "n": 0}, {"name": "b", "n": 1}]
    assert made.entries("spec.applied")[0].body.rows == {"added": 1}


# ------------------------------------------------------------------------------------- recovery


class Died(Exception):
    """Stands for the end of the process."""


def dying(made: Rig, at: int) -> None:
    """Let the commit with this number not happen."""
    inner = made.store._inner.commit
    left = [at]

    def commit(batch):
        if left[0] == 0:
            raise Died
        left[0] -= 1
        inner(batch)
        made.store.batches.append(batch)

    made.store.commit = commit


def after_crash(made: Rig, at: int, *workloads, tick: int | str = 0) -> tuple[Rig, list[Conducted]]:
    dying(made, at)
    with pytest.raises(Died):
        made.conduct(tick)
    other = made.again(*workloads)
    return other, other.conductor.recover()


def test_a_tick_that_was_not_planned_left_nothing(rig):
    """Before the first commit nothing happened; the tick runs as if it were new."""
    made = rig(workload_of(round_of("a")))
    other, recovered = after_crash(made, 0)
    assert recovered == []
    assert other.conduct().verdict == "PASS"


def test_a_pure_round_is_completed(rig):
    """What has no outcome is run; the verdict is that of a tick without a crash."""
    made = rig(workload_of(round_of("a", "b")))
    other, (result,) = after_crash(made, 1)
    assert (result.verdict, result.outcomes) == ("PASS", {"done": 2})
    assert other.types(2) == ["round.planned", "run.finished", "run.finished", "round.judged"]
    assert other.store.rows("tick")[0]["state"] == "closed"
    assert other.conductor.recover() == []


def test_an_impure_run_that_had_started_ends_as_interrupted(rig):
    """It is never repeated; what had not started is skipped."""
    made = rig(workload_of(round_of("a", "b", "c", pure=False)))
    other, (result,) = after_crash(made, 2)
    assert result.outcomes == {"done": 1, "interrupted": 1, "skipped": 1}
    outcomes = other.outcomes()
    assert {key: (body.status, body.attempts) for key, body in outcomes.items()} == {
        "a": ("done", 1),
        "b": ("interrupted", 1),
        "c": ("skipped", 0),
    }
    assert {outcomes[key].reason for key in "bc"} == {"conductor-died"}
    assert len(other.entries("run.started")) == 2


def test_a_request_whose_conductor_died_is_answered_by_the_next(rig):
    """With the verdict of the recovered tick."""
    made = rig(workload_of(round_of("a")))
    made.submit("request-1")
    other, _ = after_crash(made, 1, tick="request-1")
    assert other.answer("request-1")["verdict"] == "PASS"


@pytest.mark.parametrize("at", range(1, 6))
def test_a_tick_of_several_rounds_goes_on_where_it_was(rig, at: int):
    """Its next rounds see the earlier ones, and it counts all outcomes."""
    seen = []

    def plan(this):
        seen.append([(done.round.key, len(done.outcomes)) for done in this.done])
        if len(this.done) == 3:
            return None
        return round_of(
            key=f"{len(this.done)}",
            runs=[plan_of(key, "count", lane=key) for key in "ab"],
        )

    made = rig(workload_of(plan=plan, report=one_paper))
    other, (result,) = after_crash(made, at)
    assert result.outcomes == {"done": 6}
    assert len(result.rounds) == 3
    assert seen[-1] == [("0", 2), ("1", 2), ("2", 2)]
    values = [entry.body.value["was"] for entry in other.entries("run.finished")]
    assert values == [0, 0, 1, 1, 2, 2]
    other.conductor.outbox.pump()
    assert other.sink.names == ["0.json", "1.json", "2.json"]


def test_a_recovered_round_keeps_its_policy(rig):
    """Rate, retry, deadline and judge_every are read back as they were planned."""
    policies = []

    def judge(seen, this, outcomes):
        policies.append(msgspec.structs.replace(this, runs=()))
        return Verdict(status="PASS")

    planned = round_of(
        "a",
        rate=Rate(starts=5, period_s=0.25),
        retry=Retry(attempts=3, min_s=0.5, max_s=2),
        deadline_s=12.5,
        label="LABEL",
    )
    made = rig(workload_of(planned, judge=judge))
    after_crash(made, 1)
    assert policies == [msgspec.structs.replace(planned, runs=())] * 2


def test_facts_are_what_the_record_gives_back(rig):
    """A tuple that observe returned is a list in every pure room, here as after a crash."""
    seen = []

    def judge(this, round_, outcomes):
        seen.append((this.facts, round_.runs[0].work.args))
        return Verdict(status="PASS")

    workload = workload_of(
        round_of(runs=[plan_of("a", args={"pair": (1, 2)})]),
        observe=lambda spec, tick, world: {"pair": (3, 4)},
        judge=judge,
    )
    made = rig(workload)
    made.conduct(at=1)
    after_crash(made, 1)
    assert seen == [({"pair": [3, 4]}, {"pair": [1, 2]})] * 3


def test_whether_a_rule_could_stop_is_not_seen_by_the_next_plan(rig):
    """It is not recorded, so a recovered tick could not tell."""
    seen = []

    def plan(this):
        seen.extend(done.verdict.stop for done in this.done)
        return round_of("a") if not this.done else None

    made = rig(workload_of(plan=plan, judge=lambda *_: Verdict(status="PASS", stop=True)))
    made.conduct()
    assert seen == [False]


# ----------------------------------------------------------------------------------------- halt


def test_a_halt_is_recorded_and_sealed(rig):
    """With its code and its message."""
    made = rig()
    made.conductor.halt(StoreUnwritable("no space"))
    entry = made.entries("halt.raised")[0]
    assert (entry.body.code, entry.body.message) == ("store-unwritable", "no space")
    assert made.writer.sealed.size == made.writer.next_seq


def test_a_halt_that_cannot_be_recorded_is_said(rig):
    """The message is all there is, and the error that led to it is not hidden by another."""
    made = rig()
    made.store.failure = StoreUnwritable("no space")
    made.conductor.halt(StoreUnwritable("no space"))
    assert made.entries("halt.raised") == []
    assert made.said[-1] == (
        "halt.raised",
        {"text": "no space", "level": "error", "code": "store-unwritable"},
    )
