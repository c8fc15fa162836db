"""Cycles on a schedule, other commands beside them, and what a signal does to them."""

from __future__ import annotations

import itertools
import signal
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.e2e.project import Project, processes, until

HELLO = "print('hello')\n"
SECOND = 1000


def occurrences(project: Project) -> list[int]:
    """Return the planned instants of the scheduled cycles, as recorded."""
    planned = [body["occurrence"] for body in project.bodies("round.planned")]
    return [tick["planned_ms"] for tick in planned if tick["type"] == "scheduled"]


# -------------------------------------------------------------------------------------- schedule


@pytest.mark.slow
def test_an_interval_is_kept_without_drift(project: Project) -> None:
    """Starts lie on a fixed grid, however long a cycle takes."""
    project.apply(project.task("a", "import time\ntime.sleep(0.3)\n"))
    running = project.start("run", "demo", "--continuous", "--interval", 1)
    running.wait_event("round.judged", count=5)
    running.send(signal.SIGTERM)
    assert running.end().status == 0
    # What came due before the command was given, and while that ran, shifts the first two.
    planned = occurrences(project)[1:]
    assert {later - earlier for earlier, later in itertools.pairwise(planned)} == {SECOND}
    starts = [entry["ts"] for entry in project.entries("run.started")][1:]
    lags = [start - instant for start, instant in zip(starts, planned, strict=True)]
    assert min(lags) >= 0


def test_the_interval_of_the_command_wins_and_is_recorded(project: Project) -> None:
    """For this process only: the spec keeps its schedule."""
    project.apply(project.task("a", HELLO), schedule={"cron": "0 0 1 1 *"})
    running = project.start("run", "demo", "--continuous", "--interval", 1)
    running.wait_event("round.judged")
    running.send(signal.SIGTERM)
    assert running.end().status == 0
    assert project.bodies("schedule.overridden")[0]["interval_s"] == 1
    (row,) = project.done("show", "schedule", "--json").json
    assert row["schedule"] == "cron 0 0 1 1 * (UTC)"
    assert row["next"][0].endswith("-01-01T00:00:00Z")


@pytest.mark.slow
def test_what_was_missed_while_nobody_conducted_is_on_the_record(project: Project) -> None:
    """The newest one runs late, the others are MISSED, and none is lost or doubled."""
    project.apply(project.task("a", HELLO), schedule={"interval_s": 1})
    first = project.start("run", "demo", "--continuous")
    first.wait_event("round.judged")
    first.kill()
    # Ran, or came due while the first one ran: either way it has its record.
    ((last,),) = project.sql("SELECT max(last_ms) FROM tick")
    until(lambda: time.time() * 1000 > last + 3.5 * SECOND, "three occurrences pass")
    second = project.start("run", "demo", "--continuous")
    passed = second.wait_event("tick.passed")
    assert (passed["status"], passed["reason"]) == ("MISSED", "misfire")
    second.wait_event("round.judged")
    second.send(signal.SIGTERM)
    assert second.end().status == 0
    later = [body for body in project.bodies("tick.passed") if body["first_ms"] > last]
    body = next(body for body in later if body["status"] == "MISSED")
    assert body["first_ms"] == last + SECOND
    assert body["count"] == (body["last_ms"] - body["first_ms"]) // SECOND + 1
    assert body["count"] >= 2
    after = [instant for instant in occurrences(project) if instant > last]
    assert after[0] == body["last_ms"] + SECOND
    rows = [row for row in project.done("show", "--json").json if row["outcome"] == "missed"]
    assert body["count"] in [row["count"] for row in rows]


@pytest.mark.slow
def test_a_cycle_longer_than_its_interval_skips_what_came_due_meanwhile(project: Project) -> None:
    """Overlap `skip`: recorded as SKIPPED, and the next one is on the grid again."""
    gate = project.gate()
    project.apply(project.task("a", gate.source), schedule={"interval_s": 1})
    running = project.start("run", "demo", "--continuous")
    gate.wait_begun()
    first = occurrences(project)[0]
    until(lambda: time.time() * 1000 > first + 2.2 * SECOND, "two occurrences pass")
    gate.let_go()
    gate.wait_begun()
    gate.let_go()
    running.wait_event("round.judged", count=2)
    running.send(signal.SIGTERM)
    assert running.end().status == 0
    second = occurrences(project)[1]
    passed = [body for body in project.bodies("tick.passed") if first < body["first_ms"] < second]
    assert {(body["status"], body["reason"]) for body in passed} == {("SKIPPED", "overlap")}
    skipped = sum(body["count"] for body in passed)
    assert second == first + (skipped + 1) * SECOND
    assert skipped >= 2


def test_a_failing_cycle_does_not_end_the_conductor(project: Project) -> None:
    """It goes on until the schedule says otherwise, and ends with 0."""
    project.apply(project.task("a", "raise SystemExit(1)\n"), schedule={"interval_s": 1})
    running = project.start("run", "demo", "--continuous")
    assert running.wait_event("round.judged", count=2)["outcome"] == "FAILED"
    running.send(signal.SIGTERM)
    assert running.end().status == 0


@pytest.mark.slow
def test_failures_in_a_row_pause_a_schedule_that_says_so(project: Project) -> None:
    """After the second failure nothing starts, and what came due is SKIPPED as paused."""
    project.apply(
        project.task("a", "raise SystemExit(1)\n"),
        schedule={"interval_s": 1, "pause_on_failures": 2},
    )
    running = project.start("run", "demo", "--continuous")
    running.wait_event("round.judged", count=2)
    last = occurrences(project)[-1]
    until(lambda: time.time() * 1000 > last + 1.2 * SECOND, "an occurrence passes")
    # Somebody knocks, so the conductor looks.
    project.done("apply", "demo.yaml")
    # On a busy machine a cycle may take longer than the interval: that is skipped for its overlap.
    passed = running.wait_event("tick.passed", reason="paused")
    assert passed["status"] == "SKIPPED"
    running.send(signal.SIGTERM)
    assert running.end().status == 0
    assert len(occurrences(project)) == 2


def test_a_spec_without_a_schedule_runs_every_hour(project: Project) -> None:
    """The default of the seed, 3600 s, recorded like an interval of the command."""
    project.apply(project.task("a", HELLO))
    running = project.start("run", "demo", "--continuous")
    running.wait_event("round.judged")
    running.send(signal.SIGTERM)
    assert running.end().status == 0
    assert project.bodies("schedule.overridden")[0]["interval_s"] == 3600
    # It is in force from the start of the command, so the first cycle is due at once.
    (planned,) = occurrences(project)
    assert 0 <= project.entries("run.started")[0]["ts"] - planned < 5 * SECOND


@pytest.mark.slow
def test_an_idle_conductor_sleeps(project: Project) -> None:
    """Between ticks it takes no processor: its thread is not woken."""
    project.apply(project.task("a", HELLO), schedule={"cron": "0 0 1 1 *"})
    running = project.start("run", "demo", "--continuous")
    running.wait_event("conductor.started")

    def switches() -> list[str]:
        text = Path(f"/proc/{running.pid}/status").read_text()
        return [line for line in text.splitlines() if "ctxt_switches" in line]

    # It seals once what starting left unsealed, and then it is idle.
    until(lambda: project.sql("SELECT max(size) FROM seal")[0][0] == len(project.entries()), "seal")
    before = until(lambda: (found := switches()) and found, "status")
    began_s = time.monotonic()
    until(lambda: time.monotonic() - began_s > 1.5, "a second and a half")
    after = switches()
    woken = sum(int(line.split()[1]) for line in after) - sum(
        int(line.split()[1]) for line in before
    )
    assert woken <= 2
    running.send(signal.SIGTERM)
    assert running.end().status == 0


# --------------------------------------------------------------------------------------- signals


def test_sigterm_while_idle_ends_with_zero(project: Project) -> None:
    """Nothing was under way; everything is sealed and the lease is free."""
    project.apply(project.task("a", HELLO), schedule={"cron": "0 0 1 1 *"})
    running = project.start("run", "demo", "--continuous")
    running.wait_event("conductor.started")
    running.send(signal.SIGTERM)
    done = running.end()
    assert done.status == 0
    assert done.events[-1]["event"] == "conductor.stopped"
    assert project.sql("SELECT max(size) FROM seal") == [(len(project.entries()),)]
    assert not project.store.with_name("store.db.bell").exists()
    project.done("run", "demo")


def test_sigterm_lets_a_function_finish_within_its_patience(project: Project) -> None:
    """The cycle is complete, so the status is 0."""
    gate = project.gate()
    project.apply(project.task("a", gate.source), schedule={"interval_s": 1})
    running = project.start("run", "demo", "--continuous")
    gate.wait_begun()
    running.send(signal.SIGTERM)
    gate.let_go()
    assert running.end().status == 0
    assert project.bodies("round.judged")[0]["label"] == "COMPLETED"


def test_sigterm_ends_a_function_that_does_not_finish(project: Project) -> None:
    """After the patience it is ended, recorded as INTERRUPTED, and the status is 143."""
    gate = project.gate()
    project.apply(
        project.task("a", gate.source), project.task("b", HELLO), schedule={"interval_s": 1}
    )
    env = {"RUNWRIGHT_CONDUCTOR_DRAIN_S": "0.2"}
    running = project.start("run", "demo", "--continuous", env=env)
    gate.wait_begun()
    running.send(signal.SIGTERM)
    assert running.end().status == 143
    (judged,) = project.bodies("round.judged")
    assert (judged["label"], judged["stopped"]) == ("INTERRUPTED", "signal")
    assert judged["outcomes"] == {"interrupted": 1, "skipped": 1}
    assert project.evidence()["cycle_status"] == "INTERRUPTED"


def test_a_second_signal_kills(project: Project, tmp_path: Path) -> None:
    """A function that ignores SIGTERM, and a long patience: the second signal ends both."""
    gate = project.gate()
    marker = f"stubborn-{tmp_path.name}"
    source = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + gate.source
    project.apply(project.task("a", source, args=[marker], limits={"grace_s": 60}))
    running = project.start("run", "demo", "--json")
    gate.wait_begun()
    assert len(processes(marker)) == 1
    running.send(signal.SIGTERM)
    began_s = time.monotonic()
    running.send(signal.SIGINT)
    done = running.end()
    assert time.monotonic() - began_s < 10
    assert done.status in (130, 143)
    assert done.json["outcomes"] == {"interrupted": 1}
    assert processes(marker) == []


@pytest.mark.slow
def test_sigterm_at_any_moment_leaves_a_whole_record(project: Project) -> None:
    """Whatever was under way, the next command finds no open cycle and a store that verifies."""
    project.apply(*(project.task(name, HELLO) for name in ("a", "b")))
    moments = ("round.planned", "run.started", "run.finished", "round.judged")
    for moment in moments:
        running = project.start("run", "demo")
        running.wait_event(moment)
        running.send(signal.SIGTERM)
        assert running.end().status in (0, 143), moment
    for delay in (0.02, 0.08, 0.15):
        running = project.start("run", "demo")
        began_s = time.monotonic()
        until(lambda: time.monotonic() - began_s > delay, "a moment")  # noqa: B023 - used at once
        running.send(signal.SIGTERM)
        assert running.end().status in (0, 143, -signal.SIGTERM), delay
    assert project.done("run", "demo", "--json").json["outcome"] == "COMPLETED"
    assert project.sql("SELECT count(*) FROM tick WHERE state = 'open'") == [(0,)]
    assert [entry["seq"] for entry in project.entries()] == list(range(len(project.entries())))
    assert project.done("doctor").status == 0


# ------------------------------------------------------------------------------ beside a conductor


@pytest.fixture
def conductor(project: Project):
    """A conductor that waits for a schedule that never falls due."""
    project.apply(project.task("a", HELLO), schedule={"cron": "0 0 1 1 *"})
    running = project.start("run", "demo", "--continuous")
    running.wait_event("conductor.started")
    yield running
    if running.process.poll() is None:
        running.send(signal.SIGTERM)
        assert running.end().status == 0


def test_a_second_continuous_conductor_is_turned_away(project: Project, conductor) -> None:
    """75, and it says which process holds the store."""
    done = project.run("run", "demo", "--continuous")
    assert done.status == 75
    code, message = done.error
    assert code == "store-busy"
    assert message == f"Another conductor (process {conductor.pid}) holds {project.store}"
    assert project.entries("round.planned") == []


def test_a_run_beside_a_conductor_is_handed_to_it_and_answered(project: Project, conductor) -> None:
    """Same answer as if it had conducted itself; the record says who asked."""
    done = project.done("run", "demo", "--json")
    assert [event["event"] for event in done.events] == ["request.submitted"]
    assert done.json["outcome"] == "COMPLETED"
    assert done.json["exit"] == 0
    assert conductor.wait_event("round.judged")["label"] == done.json["label"]
    (planned,) = project.entries("round.planned")
    assert planned["actor"] == {"kind": "person", "id": "operator"}
    assert project.evidence(done.json["label"])["cycle_status"] == "COMPLETED"
    assert not list(project.store.parent.glob("*.wait.*"))


def test_a_failure_beside_a_conductor_has_the_same_status(project: Project, conductor) -> None:
    """Failed functions 5, unknown function 2 with the names that there are."""
    project.apply(project.task("a", HELLO), project.task("b", "raise SystemExit(1)\n"))
    assert project.run("run", "demo").status == 5
    done = project.run("run", "demo", "--function", "nope")
    assert done.status == 2
    assert "there is no function 'nope'; enabled functions: a, b" in done.error[1]
    done = project.run("run", "nothing")
    assert done.status == 2
    assert done.error == ("unknown-name", "no cycles spec of the name 'nothing' was applied")


def test_apply_beside_a_conductor_takes_effect_at_once(project: Project, conductor) -> None:
    """Rows, counts and refusals are the same as without one."""
    done = project.apply(project.task("a", HELLO), project.task("b", HELLO))
    assert done.stdout == "cycles/demo: applied (1 added)\n"
    assert project.done("run", "demo", "--json").json["outcomes"] == {"done": 2}
    project.spec(project.task("b", HELLO), name="other")
    refused = project.run("apply", "other.yaml")
    assert refused.status == 2
    assert refused.error == ("invalid-spec", "b is declared by the spec demo too")


def test_exec_with_granted_variables_is_not_handed_over(project: Project, conductor) -> None:
    """The conductor's variables of those names are other ones, so it waits for its turn."""
    refused = project.run("exec", "--env", "HOME", "--", "true")
    assert refused.status == 75
    assert "granted variables is not handed over" in refused.stderr


def test_other_commands_work_beside_a_conductor(project: Project, conductor) -> None:
    """Reading needs no lease; exec and erase are handed over."""
    done = project.run("exec", "--", "sh", "-c", "echo beside; exit 4")
    assert (done.status, done.stdout) == (4, "beside\n")
    (blob,) = project.done("show", "latest", "--json").json["runs"][0]["outputs"]
    project.done("ledger", "erase", blob["digest"], "--reason", "test")
    found = {each["what"]: each for each in project.done("doctor", "--json").json}
    assert f"process {conductor.pid}" in found["conductor"]["detail"]
    busy = project.run("ledger", "rotate-key")
    assert (busy.status, busy.error[0]) == (75, "store-busy")


def test_requests_are_answered_in_the_order_in_which_they_came(project: Project) -> None:
    """One after the other, while another cycle is under way as well."""
    gate = project.gate()
    project.apply(project.task("a", gate.source))
    first = project.start("run", "demo", "--json")
    gate.wait_begun()
    later = []
    for _ in range(3):
        later.append(project.start("run", "demo", "--json"))
        later[-1].wait_event("request.submitted")
    assert len(project.entries("round.planned")) == 1
    for _ in range(4):
        gate.let_go()
        if _ < 3:
            gate.wait_begun()
    done = [running.end() for running in (first, *later)]
    assert [each.status for each in done] == [0] * 4
    ticks = [body["tick"] for body in project.bodies("round.planned")]
    assert ticks == [each.json["tick"] for each in done]


def test_a_waiter_takes_over_when_its_conductor_dies(project: Project, tmp_path: Path) -> None:
    """It closes what was under way as INTERRUPTED, and conducts its own request itself."""
    gate = project.gate()
    marker = f"taken-{tmp_path.name}"
    project.apply(project.task("a", gate.source, args=[marker]), schedule={"interval_s": 1})
    conductor = project.start("run", "demo", "--continuous")
    gate.wait_begun()
    waiter = project.start("run", "demo", "--json")
    waiter.wait_event("request.submitted")
    conductor.kill()
    gate.wait_begun()
    gate.let_go()
    done = waiter.end()
    assert (done.status, done.json["outcome"]) == (0, "COMPLETED")
    assert [body["label"] for body in project.bodies("round.judged")] == [
        "INTERRUPTED",
        "COMPLETED",
    ]
    until(lambda: processes(marker) == [], "no orphan is left")


def test_a_request_that_nobody_took_is_answered_by_the_next_conductor(project: Project) -> None:
    """A waiter that was killed leaves its request, and it is run once, not lost and not twice."""
    gate = project.gate()
    project.apply(project.task("a", gate.source))
    first = project.start("run", "demo")
    gate.wait_begun()
    waiter = project.start("run", "demo")
    waiter.wait_event("request.submitted")
    waiter.kill()
    gate.let_go()
    gate.wait_begun()
    gate.let_go()
    assert first.end().status == 0
    assert project.sql("SELECT state FROM request") == [("done",)]
    assert len(project.entries("round.judged")) == 2


def test_two_conductors_that_start_together_share_one_store(project: Project) -> None:
    """One conducts and the others submit; all cycles run, one after the other, each with its id."""
    project.apply(project.task("a", HELLO))
    both = [project.start("run", "demo", "--json") for _ in range(4)]
    done = [running.end() for running in both]
    assert [each.status for each in done] == [0] * 4
    assert len({each.json["label"] for each in done}) == 4
    assert len(project.entries("round.judged")) == 4


def test_a_cycle_is_planned_at_the_scheduled_time_it_stands_for(project: Project) -> None:
    """The id is that of the occurrence, in UTC, not of when it started."""
    project.apply(project.task("a", HELLO), schedule={"interval_s": 1})
    running = project.start("run", "demo", "--continuous")
    label = running.wait_event("round.judged")["label"]
    running.send(signal.SIGTERM)
    assert running.end().status == 0
    planned = occurrences(project)[0]
    assert label == f"CYCLE_{datetime.fromtimestamp(planned / 1000, UTC):%Y%m%d_%H%M%S}"
    assert project.evidence(label)["cycle_id"] == label
