"""A gate in real processes, killed at every commit: no run is repeated without a record of it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest

from runwright.kernel.run import round_id, run_id, tick_id
from tests.kernel.toys import gate
from tests.kernel.toys.driver import ORIGIN
from tests.kernel.toys.killing import Project, failures, killed, prepared

PARTS = 4
#: Commits differ in number with the clock: what falls due together is committed together.
POINTS_MIN = 24


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A gate that has not run."""
    return prepared(tmp_path_factory.mktemp("gate") / "project", "gate")


@pytest.fixture(scope="module")
def whole(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The same one, driven to its end by one process."""
    made = project.copy(tmp_path_factory.mktemp("gate") / "whole")
    assert not made.run().was_killed
    return made


def calls(project: Project) -> list[dict[str, Any]]:
    """Return what the outside saw, in order."""
    path = project.folder / "calls.jsonl"
    lines = path.read_bytes().splitlines() if path.exists() else []
    return [msgspec.json.decode(line) for line in lines]


def run_of(call: dict[str, Any]) -> str:
    """Return the id of the run that made a call, derived again."""
    (tick,) = [tick for tick in gate.ticks() if f"requested:{tick.id}" == call["tick"]]
    identity = tick_id(origin=ORIGIN, workload="gate", spec="toy", tick=tick)
    return run_id(round=round_id(tick=identity, round_key=call["rung"]), key=call["case"])


def rosters(project: Project) -> dict[str, set[str]]:
    """Return the ids of the runs of each round, by its id, as they were planned."""
    found = {}
    store = project.store()
    for entry in project.entries():
        if entry.type == "round.planned":
            runs = msgspec.json.decode(store.blob(entry.body.roster).data)
            found[entry.round] = {run_id(round=entry.round, key=run["key"]) for run in runs}
    store.close()
    return found


def check(project: Project) -> None:
    """Hold the record against what the outside saw."""
    entries = project.entries()
    started = Counter(entry.run for entry in entries if entry.type == "run.started")
    finished = {entry.run: entry.body for entry in entries if entry.type == "run.finished"}
    made = Counter(map(run_of, calls(project)))
    for run, times in made.items():
        assert started[run] >= times, f"{times} calls of a run, {started[run]} starts recorded"
        assert times == 1, "a run was repeated"
    for run in started:
        assert run in finished, "a run that started has no outcome"
        if not made[run]:
            assert finished[run].status == "interrupted", "an outcome without a call"
    for run, body in finished.items():
        if body.status in ("done", "failed"):
            assert made[run] == 1, "an outcome without a call"
    planned = rosters(project)
    assert set().union(*planned.values()) == set(finished), "a planned run has no outcome"
    judged = [entry for entry in entries if entry.type == "round.judged"]
    assert [entry.round for entry in judged] == list(planned), "a round has no verdict"
    assert judged[-1].body.last
    assert len(project.events()) == len(gate.ticks()), "a decision did not leave"
    order = [entry.type for entry in entries if entry.run in started or entry.round in planned]
    assert order[0] == "round.planned"
    for run in started:
        seqs = [entry.seq for entry in entries if entry.run == run]
        kinds = [entry.type for entry in entries if entry.run == run]
        assert kinds == ["run.started", "run.finished"], "a run is not started, then finished"
        assert seqs == sorted(seqs)


def rungs(project: Project) -> list[tuple[str, str]]:
    entries = project.entries()
    keys = {entry.round: entry.body.key for entry in entries if entry.type == "round.planned"}
    return [(keys[e.round], e.body.status) for e in entries if e.type == "round.judged"]


def test_a_gate_goes_up_its_rungs_and_stops(whole: Project):
    """Two smokes hold; the full rung stops as soon as nothing can make it GO; sign-off says so."""
    check(whole)
    assert rungs(whole) == [
        ("smoke", "PASS"),
        ("smoke-2", "PASS"),
        ("full", "FAIL"),
        ("sign-off", "FAIL"),
    ]
    full = [
        (entry.body.key, entry.body.status, entry.body.reason)
        for entry in whole.entries()
        if entry.type == "run.finished"
    ][4:]
    assert full == [
        ("case-1", "done", ""),
        ("case-2", "failed", ""),
        ("case-3", "failed", ""),
        ("case-4", "skipped", "verdict"),
        ("case-5", "skipped", "verdict"),
        ("case-6", "skipped", "verdict"),
    ]
    assert whole.events()[0]["body"] == '{"decision":"NO-GO","rungs":["PASS","PASS","FAIL"]}'


def test_the_outside_sees_each_case_of_each_rung_once(whole: Project):
    """A second smoke asks again; cases that were cancelled were never asked."""
    assert [(call["rung"], call["case"]) for call in calls(whole)] == [
        *(("smoke", case) for case in gate.SMOKE),
        *(("smoke-2", case) for case in gate.SMOKE),
        *(("full", case) for case in gate.FULL[:3]),
    ]


def test_the_outside_is_not_asked_faster_than_the_rate(whole: Project):
    """By its own clock: in no window of a period are there more calls of the full rung."""
    at = [call["at_s"] for call in calls(whole) if call["rung"] == "full"]
    period_s = float(gate.RATE.period_s)
    for first in at:
        assert sum(first <= moment < first + period_s for moment in at) <= gate.RATE.starts


def test_a_second_driver_asks_nobody(whole: Project, tmp_path: Path):
    """The request is recognised."""
    copy = whole.copy(tmp_path / "again")
    before = copy.entries(), calls(copy)
    assert copy.run().points == []
    assert (copy.entries(), calls(copy)) == before


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_a_gate_killed_at_any_commit_repeats_nothing_silently(
    project: Project, whole: Project, tmp_path: Path, part: int
):
    """Every call has a start on the record, every start an outcome, every tick a verdict."""
    count = len(whole.points)
    assert count >= POINTS_MIN
    seen = []

    def closed(copy: Project) -> None:
        seen.append(copy)
        check(copy)
        finished = [entry.body for entry in copy.entries() if entry.type == "run.finished"]
        statuses = Counter(body.status for body in finished)
        assert statuses["interrupted"] <= 1, "one run at most was under way"
        if not statuses["interrupted"] and not any(
            body.reason == "conductor-died" for body in finished
        ):
            assert rungs(copy) == rungs(whole), "a verdict changed without a reason"
            assert copy.events() == whole.events()
        else:
            assert rungs(copy)[-1][0] == "sign-off"
            assert rungs(copy)[-2][1] in {"INCONCLUSIVE", "FAIL"}

    copies = killed(project, tmp_path, count, start=part, step=PARTS)
    assert list(failures(copies, closed)) == []
    assert len(seen) >= len(range(part, POINTS_MIN, PARTS))


@pytest.mark.slow
@pytest.mark.parametrize("sabotage", ["late", "repeating"])
def test_a_sabotaged_gate_is_seen(project: Project, tmp_path: Path, sabotage: str):
    """A control: recording a start after it, or running again what had started."""
    reason = {"late": "calls of a run", "repeating": "a run was repeated"}
    unkilled = project.copy(tmp_path / "unkilled")
    count = len(unkilled.run(sabotage=sabotage).points)
    check(unkilled)
    found = failures(killed(project, tmp_path, count, sabotage=sabotage), check)
    assert any(reason[sabotage] in failure for failure in found)
