"""The loop of a conductor: requests, schedules, and nothing in between."""

from __future__ import annotations

import msgspec
import pytest

from runwright.kernel.canonical import commitment
from runwright.kernel.criteria import Verdict
from runwright.kernel.drive.service import LOOK_S, REQUESTS_MAX, anchored
from runwright.kernel.errors import Deferred, Halt, StoreUnwritable, Usage
from runwright.kernel.record.entries import ScheduleOverridden
from runwright.kernel.run import Content, Schedule
from runwright.kernel.workload import Paper
from tests.kernel.drive.rig import NOW_MS, defers, plan_of, round_of, spec_body, workload_of

MINUTELY = {"interval_s": 60}


def scheduled(rig, *, takes_s: float = 0, schedule=MINUTELY, **fields):
    """Return a rig whose spec has a schedule, and whose cycle takes a while."""
    runs = [plan_of("a", args={"takes_ms": takes_s * 1000})]
    made = rig(workload_of(round_of(runs=runs), **fields), virtual=True, apply=False)
    made.apply(schedule=schedule)
    return made


def fired(made) -> list[float]:
    """Return the seconds after the start at which occurrences were planned that ran."""
    planned = [entry.body.occurrence.planned_ms for entry in made.entries("round.planned")]
    return [(at_ms - NOW_MS) / 1000 for at_ms in planned]


def passed(made) -> list[tuple[str, str, float, float, int]]:
    return [
        (
            entry.body.status,
            entry.body.reason,
            (entry.body.first_ms - NOW_MS) / 1000,
            (entry.body.last_ms - NOW_MS) / 1000,
            entry.body.count,
        )
        for entry in made.entries("tick.passed")
    ]


# ------------------------------------------------------------------------------------- requests


def test_a_request_to_run_is_answered_with_what_came_of_it(rig):
    """In the commit of its verdict; whoever asked is knocked for."""
    made = rig()
    made.submit("r1", reply="/run/reply")
    made.serve()
    answer = made.answer("r1")
    assert (answer["verdict"], answer["outcomes"]) == ("PASS", {"done": 1})
    assert made.bell.rung == ["/run/reply"]
    entry = made.entries("round.planned")[0]
    assert entry.actor.id == "ada"
    assert entry.body.occurrence.id == "r1"
    assert any(
        [row.table for row in batch.rows].count("request") and batch.entries
        for batch in made.store.batches
    )


def test_requests_are_taken_in_the_order_in_which_they_came(rig):
    """However their ids sort."""
    made = rig()
    for identity in ("z", "m", "a"):
        made.submit(identity)
        made.clock.advance(0.01)
    assert made.service().drain() == 3
    assert [e.body.occurrence.id for e in made.entries("round.planned")] == ["z", "m", "a"]
    assert made.service().drain() == 0


def test_a_request_may_name_its_instant_and_its_args(rig):
    """They stand in the occurrence."""
    made = rig()
    body = {"kind": "toy", "name": "demo", "at_ms": NOW_MS + 5, "args": {"function": "f"}}
    made.submit("r1", body=body)
    made.service().drain()
    occurrence = made.entries("round.planned")[0].body.occurrence
    assert (occurrence.planned_ms, occurrence.args) == (NOW_MS + 5, {"function": "f"})


def test_a_request_may_carry_its_spec(rig):
    """It needs no spec that was applied."""
    made = rig(apply=False)
    body = {"kind": "toy", "name": "once", "inline": spec_body("once").decode()}
    made.submit("r1", body=body)
    made.service().drain()
    assert made.answer("r1")["verdict"] == "PASS"


def test_a_request_to_apply_is_answered(rig):
    """The spec ticks from then on."""
    made = rig(apply=False)
    made.submit("r1", "apply", {"kind": "toy", "spec": spec_body().decode()})
    made.service().drain()
    assert made.answer("r1") == {"kind": "toy", "name": "demo", "changed": True, "rows": {}}
    assert made.entries("spec.applied")[0].actor.id == "ada"


def test_captured_bytes_are_erased_on_request(rig):
    """With the reason on the record; the bytes and their salt are gone."""
    made = rig()
    kept = Content(digest=commitment(b"salt", b"x"), data=b"x", salt=b"salt")
    made.writer.commit(contents=[kept])
    made.submit("r1", "erase", {"digest": kept.digest, "reason": "article 17"})
    made.service().drain()
    assert made.answer("r1") == {"erased": kept.digest}
    assert made.store.blob(kept.digest) is None
    entry = made.entries("blob.erased")[0]
    assert (entry.body.digest, entry.body.reason) == (kept.digest, "article 17")
    assert entry.actor.id == "ada"


@pytest.mark.parametrize(
    ("kind", "body", "code", "message"),
    [
        ("run", {"kind": "toy", "name": "x"}, "unknown-name", "no toy spec of the name 'x'"),
        ("run", {"kind": "x", "name": "x"}, "unknown-name", "there is no workload of kind 'x'"),
        ("run", {"kind": "toy"}, "usage", "missing required field `name`"),
        ("run", {"kind": "toy", "name": "demo", "x": 1}, "usage", "unknown field `x`"),
        ("run", b"\xff{", "usage", "request r1: "),
        ("run", b"", "usage", "request r1: "),
        ("apply", {"kind": "toy", "spec": "{"}, "invalid-spec", "toy: "),
        (
            "apply",
            {"kind": "toy", "spec": '{"kind":"toy","name":"n","schedule":{"interval_s":0}}'},
            "invalid-spec",
            "schedule.interval_s",
        ),
        ("erase", {"digest": "00", "reason": ""}, "usage", "blob 00 is not kept"),
        ("dance", {}, "usage", "there is no request of kind 'dance'"),
        (
            "run",
            {"kind": "toy", "name": "demo", "args": {"text": "x" * 20_000}},
            "not-canonical",
            "over the limit of 16384",
        ),
        (
            "run",
            {"kind": "toy", "name": "demo", "args": {"price": 0.5}},
            "not-canonical",
            "float has no canonical form",
        ),
    ],
)
def test_a_request_that_cannot_be_met_is_answered_with_the_error(rig, kind, body, code, message):
    """Its code and its message; the conductor goes on with the next."""
    made = rig()
    made.submit("r1", kind, body)
    made.submit("r2")
    assert made.service().drain() == 2
    answer = made.answer("r1")
    assert answer["error"] == code
    assert message in answer["message"]
    assert made.answer("r2")["verdict"] == "PASS"


def test_pinned_bytes_cannot_be_erased(rig):
    """Proofs need them."""
    made = rig()
    made.conduct()
    kept = made.entries("round.planned")[0].body.spec
    made.submit("r1", "erase", {"digest": kept, "reason": "why not"})
    made.service().drain()
    assert made.answer("r1")["message"] == f"blob {kept} is pinned: proofs need it"
    assert made.store.blob(kept) is not None


def test_a_request_for_a_tick_that_is_recorded_is_answered_from_the_record(rig):
    """A conductor died between its verdict and its answer, or somebody asked twice."""
    made = rig()
    made.conduct("r1")
    made.submit("r1")
    made.service().drain()
    assert made.answer("r1")["verdict"] == "PASS"
    assert len(made.entries("round.planned")) == 1


def test_a_request_that_is_put_off_stays_open_and_is_tried_again(rig):
    """A second later, although nobody knocks."""
    tries = []

    def observe(spec, tick, world):
        tries.append(tick.id)
        if len(tries) < 3:
            raise Deferred("the source is not there")
        return {}

    made = rig(workload_of(round_of("a"), observe=observe))
    made.submit("r1")
    made.serve(None, None)
    assert tries == ["r1"] * 3
    assert made.bell.waits[:2] == [1.0, 1.0]
    assert made.answer("r1")["verdict"] == "PASS"


def test_a_request_waits_while_the_outbox_is_full(rig):
    """It is not lost and not refused; papers leave first."""
    made = rig(
        workload_of(
            round_of("a"),
            report=lambda *_: [Paper(sink="list", name="p", body="")],
        ),
        outbox_max=1,
    )
    made.conduct()
    made.sink.failures = defers(1)
    made.submit("r1")
    made.serve(None, None)
    assert made.answer("r1")["verdict"] == "PASS"
    assert made.sink.names == ["p", "p"]


def test_more_requests_than_are_taken_at_once_do_not_wait(rig):
    """The schedules are looked at in between, and the rest is taken at once."""
    made = rig(workload_of(round_of()))
    for index in range(REQUESTS_MAX + 1):
        made.submit(f"r{index}")
    made.serve(None)
    assert made.bell.waits[0] == 0.0
    assert len(made.entries("round.judged")) == REQUESTS_MAX + 1


def test_a_store_that_cannot_be_written_ends_the_service(rig):
    """No request is swallowed: it stays open for the next start."""
    made = rig()
    made.submit("r1")
    made.store.failure = StoreUnwritable("full")
    with pytest.raises(StoreUnwritable):
        made.serve()
    assert made.store.rows("request")[0]["state"] == "open"


# ------------------------------------------------------------------------------------ schedules


def test_occurrences_fire_once_each_on_their_grid(rig):
    """Without drift, however long a cycle takes within the period."""
    made = scheduled(rig, takes_s=7)
    made.serve(*[None] * 12)
    found = fired(made)
    assert found == [60.0 * index for index in range(len(found))]
    assert len(found) >= 3
    assert passed(made) == []


def test_nothing_is_looked_at_when_nothing_is_due(rig):
    """The wait is until the next occurrence or the next look, whichever is first."""
    made = scheduled(rig, schedule={"interval_s": 100})
    made.serve(
        *[None] * 6,
    )
    # A second until the seal of the first tick, then looks, then the rest of the period.
    assert made.bell.waits[:6] == [1.0, LOOK_S, LOOK_S, LOOK_S, 9.0, 1.0]


def test_without_a_schedule_only_the_look_is_waited_for(rig):
    """Sealed, nothing in the outbox, nothing due."""
    made = rig()
    made.writer.seal()
    made.serve()
    assert made.bell.waits == [LOOK_S]


def test_a_seal_is_made_when_it_is_due(rig):
    """The service seals what a tick left, a second after it."""
    made = rig()
    made.submit("r1")
    made.serve(None)
    assert made.bell.waits[0] == 1.0
    assert made.writer.sealed.size == made.writer.next_seq - 1
    assert made.types()[-1] == "conductor.stopped"


def test_what_has_left_is_written_before_it_rests(rig):
    """An acknowledgement may wait for the next commit, not for the next hour."""
    found = []
    paper = Paper(sink="list", name="a", body="")
    made = rig(workload_of(round_of(), report=lambda *_: [paper]))
    made.submit("r1")
    made.serve(lambda: found.extend(row["state"] for row in made.store.rows("paper")))
    assert (made.sink.names, found) == (["a"], ["delivered"])


def test_a_knock_is_answered_at_once(rig):
    """A request that arrives during a wait is run before the next one."""
    made = rig()
    made.serve(lambda: made.submit("r1"))
    assert made.answer("r1")["verdict"] == "PASS"


def test_occurrences_that_nobody_saw_are_recorded_as_missed(rig):
    """The newest runs, the others share an entry."""
    made = scheduled(rig)
    made.serve()
    made.clock.advance(310)
    made.stop.level = 0
    made.serve()
    assert fired(made) == [0.0, 300.0]
    assert passed(made) == [("MISSED", "misfire", 60.0, 240.0, 4)]
    states = [(row["state"], row["count"]) for row in made.store.rows("tick", order="seq")]
    assert states == [("closed", 1), ("missed", 4), ("closed", 1)]


def test_what_comes_due_during_a_cycle_is_skipped(rig):
    """Under overlap skip each of them is recorded, and the next one on time runs."""
    made = scheduled(rig, takes_s=150)
    made.serve(None)
    assert fired(made)[0] == 0.0
    assert passed(made)[0] == ("SKIPPED", "overlap", 60.0, 120.0, 2)


def test_the_newest_of_what_comes_due_may_wait(rig):
    """Under overlap queue_one it runs as soon as the cycle has ended."""
    made = scheduled(rig, takes_s=150, schedule={**MINUTELY, "overlap": "queue_one"})
    made.bell.steps = [None]
    service = made.service()
    service.run()
    assert fired(made)[:2] == [0.0, 120.0]
    assert passed(made)[0] == ("SKIPPED", "overlap", 60.0, 60.0, 1)
    assert made.bell.waits[0] == 0.0


def test_what_comes_due_under_allow_runs_as_soon_as_there_is_room(rig):
    """It is not left for the next look."""
    made = scheduled(rig, takes_s=61, schedule={**MINUTELY, "overlap": "allow"})
    made.serve(None, None)
    assert fired(made)[:3] == [0.0, 60.0, 120.0]
    assert made.bell.waits[0] == 0.0
    assert passed(made) == []


def failing(seen, this, outcomes):
    return Verdict(status="FAIL")


def test_a_schedule_pauses_after_so_many_failures(rig):
    """Then its occurrences are recorded as skipped; a run by hand that passes ends the pause."""
    verdicts = ["FAIL", "FAIL", "PASS"]
    made = scheduled(
        rig,
        schedule={**MINUTELY, "pause_on_failures": 2},
        judge=lambda *_: Verdict(status=verdicts.pop(0) if verdicts else "PASS"),
    )
    made.serve(*[None] * 12)
    assert fired(made) == [0.0, 60.0]
    assert {found[:2] for found in passed(made)} == {("SKIPPED", "paused")}
    made.stop.level = 0
    made.submit("by-hand")
    made.serve(*[None] * 4)
    assert len(fired(made)) >= 4


def test_failures_are_counted_by_tick_and_not_by_round(rig):
    """A gate whose last rung fails has failed once, however many rungs passed before."""
    rounds = [round_of(key="smoke"), round_of(key="full")]
    made = rig(
        workload_of(
            *rounds,
            judge=lambda seen, this, _: Verdict(status="PASS" if this.key == "smoke" else "FAIL"),
        ),
        apply=False,
    )
    made.apply(schedule={**MINUTELY, "pause_on_failures": 2})
    made.serve(*[None] * 14)
    ticks = [row for row in made.store.rows("tick") if row["state"] == "closed"]
    assert len(ticks) == 2


def test_a_full_outbox_skips_an_occurrence_on_the_record(rig):
    """The entry says why."""
    made = scheduled(
        rig, report=lambda *_: [Paper(sink="list", name="p", body="")], schedule=MINUTELY
    )
    made.conductor.outbox._most = 1
    made.sink.failures = defers(99)
    made.serve(*[None] * 6)
    assert fired(made) == [0.0]
    assert passed(made)[0] == ("SKIPPED", "deferred", 60.0, 60.0, 1)


def test_a_spec_that_fires_before_it_was_applied_is_not_caught_up(rig):
    """Nothing is due before it came into force."""
    made = scheduled(rig, schedule={"interval_s": 3600, "anchor": "2020-01-01T00:30:00Z"})
    made.serve(None)
    assert fired(made) == []
    assert made.bell.waits[-1] <= LOOK_S


def test_a_changed_spec_ticks_by_its_new_schedule(rig):
    """As soon as it is applied."""
    made = scheduled(rig, schedule={"interval_s": 3600})

    def change():
        body = {"kind": "toy", "spec": spec_body(schedule={"interval_s": 20}).decode()}
        made.submit("r1", "apply", body)

    made.serve(change, *[None] * 8)
    assert fired(made)[:3] == [0.0, 20.0, 40.0]


def test_only_one_spec_may_be_served(rig):
    """Requests for the others are still answered."""
    made = scheduled(rig)
    made.apply("other", schedule=MINUTELY)
    made.submit("r1", body={"kind": "toy", "name": "other"})
    made.serve(*[None] * 6, only=("toy", "demo"))
    names = [entry.body.name for entry in made.entries("round.planned")]
    assert names.count("other") == 1
    assert names.count("demo") >= 2


def test_another_interval_for_one_process_is_recorded(rig):
    """The schedule of the spec stands as it was."""
    made = scheduled(rig, schedule={"interval_s": 3600})
    made.serve(*[None] * 6, only=("toy", "demo"), interval_s=10)
    assert made.entries("schedule.overridden")[0].body == ScheduleOverridden(
        kind="toy", name="demo", interval_s=10
    )
    assert fired(made)[:3] == [0.0, 10.0, 20.0]


def test_a_step_of_the_clock_is_recorded(rig):
    """With the next commit."""
    made = scheduled(rig)

    def step():
        made.clock.wall_ms += 90_000

    made.serve(None, step, None)
    assert made.entries("clock.stepped")[0].body.step_ms == 90_000


def test_a_refused_tick_does_not_end_the_service(rig):
    """It is a record, and the next one comes."""

    def observe(spec, tick, world):
        raise Usage("No tasks found")

    made = scheduled(rig, observe=observe)
    made.serve(*[None] * 8)
    assert len(made.entries("tick.refused")) >= 2


def test_a_halt_ends_the_service(rig):
    """It is not for the loop to go on."""

    def observe(spec, tick, world):
        raise Halt("the source contradicts itself")

    made = scheduled(rig, observe=observe)
    with pytest.raises(Halt):
        made.serve()


def test_a_signal_during_a_cycle_leaves_it_undone(rig):
    """The service says so; what was cancelled is on the record."""
    runs = [plan_of(key, args={"takes_ms": 1_000}) for key in "abc"]
    made = rig(workload_of(round_of(runs=runs, pure=False)), virtual=True, apply=False)
    made.apply(schedule=MINUTELY)
    said = made.ports.messages

    def stopping(event, text="", /, **fields):
        said(event, text, **fields)
        if event == "run.started":
            made.stop.ask(15)

    made.conductor._ports = made.ports._replace(messages=stopping)
    service = made.serve()
    assert service.undone is True
    assert {key: body.status for key, body in made.outcomes().items()} == {
        "a": "done",
        "b": "skipped",
        "c": "skipped",
    }


def test_a_signal_between_cycles_leaves_nothing_undone(rig):
    """A service that was stopped in a wait has drained."""
    made = scheduled(rig)
    service = made.serve(None)
    assert service.undone is False


def test_papers_leave_between_ticks(rig):
    """A sink that defers is asked again when it said so, without a tick."""
    made = rig(
        workload_of(round_of("a"), report=lambda *_: [Paper(sink="list", name="p", body="")])
    )
    made.sink.failures = defers(2)
    made.submit("r1")
    made.serve(*[None] * 4)
    assert made.sink.names == ["p"]
    assert made.clock.now_ms() >= NOW_MS + 3_000


def test_the_grid_of_an_interval_hangs_on_when_its_spec_was_applied():
    """Unless the schedule names an anchor; other schedules have none."""
    assert anchored(Schedule(interval_s=60), 1_000_000).anchor == "1970-01-01T00:16:40Z"
    named = Schedule(interval_s=60, anchor="2026-01-01T00:00:00Z")
    assert anchored(named, 1_000_000) is named
    cron = Schedule(cron="0 6 * * *")
    assert anchored(cron, 1_000_000) is cron


def test_an_answer_is_json_that_names_the_tick(rig):
    """A submitter finds the rounds by it."""
    made = rig()
    made.submit("r1")
    made.service().drain()
    row = made.store.rows("request")[0]
    assert row["state"] == "done"
    found = msgspec.json.decode(row["result"])
    assert found["rounds"] == [made.entries("round.planned")[0].round]


def test_an_occurrence_that_waited_does_not_excuse_the_next(rig):
    """Once it ran, what nobody saw in time is missed again, and not skipped for an overlap."""

    def plan(seen):
        long_ms = 90_000 if seen.tick.planned_ms == NOW_MS else 0
        return None if seen.done else round_of(runs=[plan_of("a", args={"takes_ms": long_ms})])

    made = rig(workload_of(plan=plan), virtual=True, apply=False)
    made.apply(schedule={**MINUTELY, "overlap": "queue_one"})
    made.serve(None, lambda: made.clock.advance(310), None)
    assert fired(made)[:2] == [0.0, 60.0]
    assert [found[:2] for found in passed(made)] == [("MISSED", "misfire")]
