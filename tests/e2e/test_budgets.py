"""Budgets through the real command line: what did not start left no trace of having started."""

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e.people import decide, person
from tests.e2e.project import Project, until

#: Acts: a byte in effects/NAME, then reports what its task_config says.
SPENDS = """
import json, os, pathlib
config = json.load(open(os.environ["RUNWRIGHT_CONFIG"]))
folder = pathlib.Path(__file__).parent.parent / "effects"
with open(folder / pathlib.Path(__file__).stem, "a") as file:
    file.write("x")
json.dump(config.get("says", {}), open(os.environ["RUNWRIGHT_RESULT"], "w"))
"""
LAST_MORNING = "2026-01-01T23:59:59Z"
MIDNIGHT = "2026-01-02T00:00:00Z"


def effects(project: Project) -> dict[str, int]:
    """Return how often each function acted."""
    folder = project.folder / "effects"
    return {path.name: path.stat().st_size for path in sorted(folder.glob("*"))}


def budget(name: str = "b", **fields: Any) -> dict[str, Any]:
    limits = {
        key: fields.pop(key) for key in ("calls", "steps", "seconds", "cost") if key in fields
    }
    return {"name": name, "limits": limits, **fields}


def refusals(project: Project) -> dict[str, Any]:
    """Return the figures of the refused runs of the newest cycle, by function."""
    shown = project.done("show", "latest", "--json").json
    return {
        run["key"]: run["value"]["refused"] for run in shown["runs"] if run["reason"] == "refused"
    }


def verified(project: Project) -> None:
    """The record holds, and every table follows from it."""
    project.done("verify", "--store")
    project.done("db", "rebuild", "--check")


@pytest.mark.parametrize(
    ("bound", "says", "limit"),
    [
        ({"calls": 1}, {}, ("calls", "1", "1")),
        ({"steps": 5}, {"usage": {"steps": 5}}, ("steps", "5", "5")),
        ({"cost": "0.3"}, {"usage": {"cost": 0.3}}, ("cost", "0.3", "0.3")),
        (
            {"cost": "9"},
            {"usage": {"cost": "free"}, "much": "x" * 5000},
            ("cost", "9", "unreadable"),
        ),
    ],
)
def test_a_limit_is_held_inside_a_cycle_before_the_call(
    project: Project, bound: dict[str, Any], says: dict[str, Any], limit: tuple[str, str, str]
) -> None:
    """The first function uses it up; the second leaves no trace, the one out of scope runs."""
    tasks = [
        project.task("a", SPENDS, says=says),
        project.task("b", SPENDS, says=says),
        project.task("c", SPENDS, agent_id="STIG"),
    ]
    project.apply(*tasks)
    project.done("run", "demo")
    assert effects(project) == {"a": 1, "b": 1, "c": 1}, "the control: nothing is bound yet"
    held = budget(window="cycle", scope={"agent": "FINN"}, **bound)
    project.apply(*tasks, budgets=[held])
    project.done("run", "demo", status=5)
    assert effects(project) == {"a": 2, "b": 1, "c": 2}
    found = refusals(project)
    assert list(found) == ["b"]
    assert tuple(found["b"][name] for name in ("limit", "allowed", "actual")) == limit
    assert [body["key"] for body in project.bodies("run.started")][3:] == ["a", "c"]
    (row,) = project.sql(
        "SELECT task_name, agent_id, violation_type, limit_name, limit_value, actual_value,"
        " hash_prev, violation_id, state FROM budget_violation"
    )
    entry = next(it for it in project.entries("run.finished") if it["seq"] == row[7])
    assert row[:2] == ("b", "FINN")
    assert row[3:6] == limit
    assert (row[6], row[8]) == (entry["prev"], "OPEN")
    assert entry["body"]["message"].startswith(f"over-budget: b: {limit[2]} of {limit[1]}")
    verified(project)


def test_a_day_is_held_over_restarts_and_its_scope_stays_closed_the_next(
    project: Project,
) -> None:
    """Each cycle is a process of its own; a person opens it again."""
    task = project.task("a", SPENDS)
    project.apply(task, budgets=[budget(calls=2, scope={"function": "a"})])
    person(project, "ada", "owner")
    for at in ("2026-01-01T10:00:00Z", LAST_MORNING):
        project.done("run", "demo", "--at", at)
    assert project.sql("SELECT window_key, calls FROM budget_usage") == [("2026-01-01", 2)]
    assert project.done("show", "waiting", "--json").json == []
    project.done("run", "demo", "--at", LAST_MORNING, status=5)
    assert refusals(project)["a"]["actual"] == "2"

    # The next day has used nothing, and yet nothing starts.
    project.done("run", "demo", "--at", MIDNIGHT, status=5)
    assert refusals(project)["a"].keys() == {"rule", "budget", "violation"}
    assert effects(project) == {"a": 2}
    (waiting,) = project.done("show", "waiting", "--json").json
    assert (waiting["subject"], waiting["state"]) == ("budget/b", "CLOSED")
    assert "budget/b" in project.run("doctor").stdout
    # Nor does a higher limit open it.
    project.apply(task, budgets=[budget(calls=9, scope={"function": "a"})])
    project.done("run", "demo", "--at", MIDNIGHT, status=5)
    project.apply(task, budgets=[budget(calls=2, scope={"function": "a"})])

    decide(project, "budget/b", "continue")
    project.done("run", "demo", "--at", MIDNIGHT)
    assert effects(project) == {"a": 3}
    assert project.done("show", "waiting", "--json").json == []
    # What the day before used still counts there, until it is waived.
    project.done("run", "demo", "--at", LAST_MORNING, status=5)
    decide(project, "budget/demo/b", "waive")
    project.done("run", "demo", "--at", LAST_MORNING)
    assert effects(project) == {"a": 4}
    assert project.sql("SELECT state, decided_by FROM budget_violation") == [
        ("RELEASED", "ada"),
        ("RELEASED", "ada"),
    ]
    verified(project)


def test_midnight_parts_two_days(project: Project) -> None:
    """The day is that of the planned instant, in the time zone of the budget."""
    project.apply(
        project.task("a", SPENDS),
        budgets=[budget("utc", calls=9), budget("oslo", calls=9, timezone="Europe/Oslo")],
    )
    for at in (LAST_MORNING, MIDNIGHT):
        project.done("run", "demo", "--at", at)
    rows = "SELECT budget_name, window_key, calls FROM budget_usage ORDER BY 1, 2"
    assert project.sql(rows) == [
        ("oslo", "2026-01-02", 2),
        ("utc", "2026-01-01", 1),
        ("utc", "2026-01-02", 1),
    ]


def test_what_is_left_of_the_seconds_ends_a_function(project: Project) -> None:
    """Its limit is what the budget leaves, on the record; afterwards nothing starts."""
    gate = project.gate()
    project.apply(
        project.task("a", gate.source, timeout_s=300),
        project.task("b", SPENDS),
        budgets=[budget(seconds=0.4)],
    )
    project.done("run", "demo", status=5)
    (started,) = project.bodies("run.started")
    assert (started["key"], started["timeout_ms"]) == ("a", 400)
    ended = {body["key"]: body for body in project.bodies("run.finished")}
    assert ended["a"]["reason"] == "timeout"
    assert ended["a"]["used"]["duration_ms"] >= 400
    assert ended["b"]["reason"] == "refused"
    assert refusals(project)["b"]["limit"] == "seconds"
    assert effects(project) == {}


def test_a_call_that_a_crash_interrupted_counts(project: Project) -> None:
    """It had started: what it did is not known, so it is not forgotten."""
    gate = project.gate()
    project.apply(project.task("a", SPENDS + gate.source), budgets=[budget(calls=1)])
    running = project.start("run", "demo")
    gate.wait_begun()
    running.kill()
    until(lambda: effects(project) == {"a": 1}, "it acted before it was killed")
    project.done("run", "demo", status=5)
    assert [body["status"] for body in project.bodies("run.finished")] == ["interrupted", "failed"]
    assert refusals(project)["a"]["actual"] == "1"
    assert effects(project) == {"a": 1}
    verified(project)


def test_a_repeat_is_refused_like_a_first_start(project: Project) -> None:
    """A function that asks to be repeated spends a call each time."""
    project.apply(
        project.task("a", SPENDS + "raise SystemExit(75)"),
        retry={"attempts": 5, "min_s": 0},
        budgets=[budget(calls=2)],
    )
    project.done("run", "demo", status=5)
    assert effects(project) == {"a": 2}
    (ended,) = project.bodies("run.finished")
    assert (ended["reason"], ended["attempts"]) == ("refused", 2)
    assert project.sql("SELECT calls FROM budget_usage") == [(2,)]


def test_a_dry_run_shows_what_would_be_refused(project: Project) -> None:
    """And changes nothing."""
    tasks = [project.task(name, SPENDS) for name in "abc"]
    project.apply(*tasks, budgets=[budget(calls=2)])
    before = project.counts()
    dry = project.done("run", "demo", "--dry-run", "--json", status=2).json
    assert [bool(run["problem"]) for run in dry["runs"]] == [False, False, True]
    assert "over-budget: b: 2 of 2 calls" in dry["problems"][0]
    assert project.counts() == before
    assert effects(project) == {}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"calls": -1}, "budgets[0].limits.calls"),
        ({"calls": 1, "window": "week"}, "budgets[0].window"),
        ({"calls": 1, "scope": "some"}, "budgets[0].scope"),
    ],
)
def test_a_budget_that_cannot_be_kept_is_refused_with_its_key(
    project: Project, fields: dict[str, Any], message: str
) -> None:
    """Nothing of the spec is applied."""
    spec = project.spec(project.task("a", SPENDS), budgets=[budget(**fields)])
    code, text = project.done("apply", spec, status=2).error
    assert code == "invalid-spec"
    assert message in text
    assert project.bodies("spec.applied") == []
