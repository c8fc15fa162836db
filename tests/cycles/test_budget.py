"""What a budget permits before each start, and which window an instant falls into."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from runwright.cycles.budget import Used, breach_of, permit, used_by, window_of
from runwright.cycles.spec import Budget, BudgetLimits, CycleSpec, Scope, check_spec
from runwright.kernel.errors import InvalidSpec
from runwright.kernel.run import Command, Outcome, Resources, Round, RunPlan, Scheduled
from runwright.kernel.workload import Permit, Seen

#: 2026-03-28T23:30:00Z: the next day begins in Oslo, and clocks change there two hours later.
EVENING_MS = 1_774_740_600_000


def budget(scope: Any = "all", **limits: Any) -> Budget:
    return Budget(name="b", scope=scope, limits=BudgetLimits(**limits))


def run(key: str, agent: str = "FINN") -> RunPlan:
    return RunPlan(key=key, agent=agent, work=Command(argv=("true",)))


def ended(key: str, ms: int = 0, **usage: Any) -> Outcome:
    value = {"result": {"usage": usage}} if usage else {}
    return Outcome(key=key, status="done", value=value, used=Resources(duration_ms=ms))


def asked(
    it: Budget, key: str, *outcomes: Outcome, before: dict[str, Any] | None = None, **of: Any
) -> Permit:
    """Ask for a start in a cycle of `a` and `b` of FINN and `c` of STIG."""
    fact = {"calls": 0, "steps": 0, "ms": 0, "cost": "0", "unreadable": "", **(before or {})}
    facts = {"budgets": [{"name": "b", "window_key": "today", **fact}]}
    runs = [run("a"), run("b"), run("c", "STIG")]
    seen = Seen(
        spec=CycleSpec(kind="cycles", name="s", budgets=(it,)),
        tick=Scheduled(planned_ms=0),
        at=0,
        facts=facts,
    )
    starts = {outcome.key: outcome.attempts for outcome in outcomes} | of
    by_key = {each.key: each for each in runs}
    done = {outcome.key: outcome for outcome in outcomes}
    return permit(seen, Round(key="cycle", runs=runs), by_key[key], done, starts)


@pytest.mark.parametrize(
    ("limits", "used", "refused"),
    [
        ({"calls": 2}, {"calls": 1}, ""),
        ({"calls": 2}, {"calls": 2}, "2 of 2 calls used in today"),
        ({"calls": 0}, {}, "0 of 0 calls used in today"),
        ({"steps": 5}, {"steps": 4}, ""),
        ({"steps": 5}, {"steps": 5}, "5 of 5 steps used in today"),
        ({"seconds": 1.5}, {"ms": 1499}, ""),
        ({"seconds": 1.5}, {"ms": 1500}, "1.5 of 1.5 seconds used in today"),
        ({"cost": "0.3"}, {"cost": "0.29999999999999998"}, ""),
        ({"cost": "0.3"}, {"cost": "0.3"}, "0.3 of 0.3 cost used in today"),
        ({"cost": "1", "calls": 9}, {"cost": "2"}, "2 of 1 cost used in today"),
        ({"cost": "1"}, {"unreadable": "cost"}, "unreadable of 1 cost used in today"),
        ({"calls": 9}, {"unreadable": "cost"}, ""),
    ],
)
def test_a_limit_is_reached_at_its_value(
    limits: dict[str, Any], used: dict[str, Any], refused: str
) -> None:
    """By what closed cycles used; the answer names limit, allowance and use."""
    answer = asked(budget(**limits), "a", before=used)
    assert answer.refused == (f"over-budget: b: {refused}" if refused else "")
    if refused:
        actual, _, allowed = refused.split()[:3]
        assert (answer.refusal["actual"], answer.refusal["allowed"]) == (actual, allowed)


def test_what_earlier_functions_of_the_cycle_used_counts() -> None:
    """Calls, steps, seconds and cost of those in the scope, and of no other."""
    finn = Scope(agent="FINN")
    assert asked(budget(finn, calls=1), "b", ended("a")).refused
    assert not asked(budget(finn, calls=1), "b", ended("c")).refused
    assert not asked(budget(finn, calls=1), "c", ended("a")).refused
    assert asked(budget(steps=3), "b", ended("a", steps=3)).refused
    assert asked(budget(seconds=1), "b", ended("a", ms=1000)).refused
    assert asked(budget(cost="0.3"), "c", ended("a", cost="0.1"), ended("b", cost="0.2")).refused
    assert not asked(
        budget(cost="0.3"), "c", ended("a", cost="0.1"), ended("b", cost="0.1")
    ).refused
    only = Scope(function="b")
    assert not asked(budget(only, calls=1), "b", ended("a")).refused


def test_a_repeat_is_a_call_too() -> None:
    """Starts count, not ends."""
    assert asked(budget(calls=2), "a", a=2).refused
    assert not asked(budget(calls=3), "a", a=2).refused


def test_what_is_left_of_the_seconds_caps_the_time() -> None:
    """The smallest of what budgets leave."""
    assert asked(budget(seconds=2), "b", ended("a", ms=500)).timeout_s == 1.5
    assert asked(budget(calls=2), "b", ended("a")).timeout_s is None


def test_after_a_breach_nothing_in_the_scope_starts() -> None:
    """Whatever was used since: a person has to decide."""
    answer = asked(budget(calls=9), "a", before={"violation": 17, "since": "CYCLE_1"})
    assert "entry 17" in answer.refused
    assert answer.refusal == {"rule": "over-budget", "budget": "b", "violation": 17}
    assert not asked(
        budget(Scope(agent="STIG"), calls=9), "a", before={"violation": 17, "since": "CYCLE_1"}
    ).refused


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (None, {"steps": 0, "cost": Decimal(0)}),
        ({}, {"steps": 0, "cost": Decimal(0)}),
        ({"steps": 2, "cost": "0.10"}, {"steps": 2, "cost": Decimal("0.10")}),
        ({"steps": "2.0"}, {"steps": 2}),
        ({"steps": 2.5}, {"unreadable": "steps"}),
        ({"steps": -1}, {"unreadable": "steps"}),
        ({"steps": True}, {"unreadable": "steps"}),
        ({"cost": "free"}, {"unreadable": "cost"}),
        ({"cost": -1}, {"unreadable": "cost"}),
        ([1], {"unreadable": "steps"}),
    ],
)
def test_what_a_function_reports_is_read_exactly_or_told(
    usage: Any, expected: dict[str, Any]
) -> None:
    """An amount that cannot be read is not 0."""
    used = used_by(ended("a", ms=7), usage)
    assert {name: getattr(used, name) for name in expected} == expected
    assert (used.calls, used.ms) == (1, 7)


def test_an_unreadable_amount_reaches_its_limit() -> None:
    """No data never passes."""
    assert breach_of(budget(cost="100"), Used(unreadable="cost")) == ("cost", "100", "unreadable")
    assert breach_of(budget(steps=100), Used(unreadable="cost")) is None


@pytest.mark.parametrize(
    ("window", "timezone", "minutes", "expected"),
    [
        ("day", "UTC", 0, "2026-03-28"),
        ("day", "UTC", 29, "2026-03-28"),
        ("day", "UTC", 30, "2026-03-29"),
        ("day", "Europe/Oslo", 0, "2026-03-29"),
        ("day", "Europe/Oslo", -31, "2026-03-28"),
        ("hour", "UTC", 0, "2026-03-28T23"),
        ("hour", "Europe/Oslo", 0, "2026-03-29T00+0100"),
        ("hour", "Europe/Oslo", 90, "2026-03-29T03+0200"),
        ("cycle", "UTC", 0, "CYCLE_1"),
    ],
)
def test_a_window_is_that_of_the_planned_instant(
    window: Any, timezone: str, minutes: int, expected: str
) -> None:
    """In the time zone of the budget; the hour that a clock change leaves out is in no window."""
    it = Budget(name="b", window=window, timezone=timezone, limits=BudgetLimits(calls=1))
    assert window_of(it, EVENING_MS + minutes * 60_000, "CYCLE_1") == expected


@pytest.mark.parametrize(
    ("fields", "key"),
    [
        ({"limits": {}}, r"budgets\[0\].limits"),
        ({"limits": {"calls": -1}}, r"budgets\[0\].limits.calls"),
        ({"limits": {"cost": "1e3"}}, r"budgets\[0\].limits.cost"),
        ({"limits": {"cost": "much"}}, r"budgets\[0\].limits.cost"),
        ({"limits": {"seconds": float("inf")}}, r"budgets\[0\].limits.seconds"),
        ({"limits": {"calls": 1}, "timezone": "Mars/Base"}, r"budgets\[0\].timezone"),
        ({"limits": {"calls": 1}, "scope": Scope()}, r"budgets\[0\].scope"),
        (
            {"limits": {"calls": 1}, "scope": Scope(function="a", agent="b")},
            r"budgets\[0\].scope",
        ),
        ({"limits": {"calls": 1}, "name": "a b"}, r"budgets\[0\].name"),
    ],
)
def test_a_budget_that_cannot_be_kept_is_refused(fields: dict[str, Any], key: str) -> None:
    """With the key that is wrong."""
    limits = BudgetLimits(**fields.pop("limits"))
    it = Budget(**{"name": "b", **fields}, limits=limits)
    with pytest.raises(InvalidSpec, match=key):
        check_spec(CycleSpec(kind="cycles", name="s", budgets=(it,)))


def test_two_budgets_of_one_name_are_refused() -> None:
    """A decision names a budget."""
    with pytest.raises(InvalidSpec, match="declared twice"):
        check_spec(CycleSpec(kind="cycles", name="s", budgets=(budget(calls=1), budget(steps=1))))
