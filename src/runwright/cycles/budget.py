"""What functions may spend: refused before the call, and after a breach until a person says so.

What was used in closed cycles stands in `budget_usage`; what the cycle under way has used follows
from its outcomes. All amounts are exact: calls and steps are integers, seconds are milliseconds,
cost is a decimal.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

import msgspec

from runwright.cycles.spec import Budget, CycleSpec
from runwright.kernel.ports import Row, World
from runwright.kernel.run import Outcome, Round, RunPlan, Tick, instant_text
from runwright.kernel.workload import Permit, Recorded, Seen, Tables

#: The rule that a refusal names.
OVER: Final = "over-budget"
#: Limit -> the seed's word for what is violated.
_VIOLATIONS: Final = {
    "calls": "RATE",
    "steps": "EXECUTION",
    "seconds": "EXECUTION",
    "cost": "COST",
}
#: Decisions about a budget that let its scope start again; `waive` forgives what was used too.
_RELEASING: Final = ("continue", "waive")
#: The words of a window in the form of an instant in UTC.
_WINDOWS: Final = {"day": "%Y-%m-%d", "hour": "%Y-%m-%dT%H"}
#: What stands for an amount that a function reported and nobody can read.
UNREADABLE: Final = "unreadable"


class Used(msgspec.Struct, frozen=True, kw_only=True):
    """What was spent."""

    calls: int = 0
    steps: int = 0
    ms: int = 0
    cost: Decimal = Decimal(0)
    #: A limit whose use cannot be read: it counts as reached.
    unreadable: str = ""


# ----------------------------------------------------------------------------- before the plan


def standing(spec: CycleSpec, tick: Tick, world: World, cycle_id: str) -> list[dict[str, Any]]:
    """Return what each budget has used in the window of a tick, and the breach that holds it."""
    found = []
    for budget in spec.budgets:
        window_key = window_of(budget, tick.planned_ms, cycle_id)
        key = {"spec_name": spec.name, "budget_name": budget.name}
        rows = world.rows("budget_usage", {**key, "window_key": window_key})
        open_ = world.rows("budget_violation", {**key, "state": "OPEN"})
        used = _of_row(rows[0]) if rows else Used()
        told: dict[str, Any] = {"name": budget.name, "window_key": window_key, **_plain(used)}
        if open_:
            first = min(open_, key=lambda row: int(row["violation_id"]))
            told["violation"] = first["violation_id"]
            told["since"] = first["cycle_id"]
        found.append(told)
    return found


def window_of(budget: Budget, at_ms: int, cycle_id: str) -> str:
    """Return the name of the window that an instant falls into."""
    if budget.window == "cycle":
        return cycle_id
    form = _WINDOWS[budget.window]
    if budget.timezone == "UTC":
        return instant_text(at_ms, form)
    from datetime import UTC, datetime  # lazy: only another time zone needs it
    from zoneinfo import ZoneInfo  # lazy: as above

    moment = datetime.fromtimestamp(at_ms // 1000, UTC).astimezone(ZoneInfo(budget.timezone))
    # The hour that clocks repeat is two windows.
    return moment.strftime(f"{form}%z" if budget.window == "hour" else form)


# ----------------------------------------------------------------------------- before the start


def permit(
    seen: Seen,
    round: Round,  # noqa: A002 - the word
    run: RunPlan,
    outcomes: Mapping[str, Outcome],
    starts: Mapping[str, int],
) -> Permit:
    """Say whether a function may start now by every budget that it is in the scope of."""
    spec: CycleSpec = seen.spec
    if not spec.budgets:
        return Permit()
    left: list[float] = []
    facts = {fact["name"]: fact for fact in seen.facts.get("budgets", ())}
    for budget in spec.budgets:
        if not is_in_scope(budget, run):
            continue
        fact = facts[budget.name]
        if "violation" in fact:
            return _held(budget, fact)
        used = spent(budget, fact, round.runs, outcomes, starts)
        breach = breach_of(budget, used)
        if breach is not None:
            return _breached(budget, fact, *breach)
        limit_ms = _seconds_ms(budget)
        if limit_ms is not None:
            left.append((limit_ms - used.ms) / 1000)
    return Permit(timeout_s=min(left, default=None))


def is_in_scope(budget: Budget, run: RunPlan) -> bool:
    """Say whether a budget is about a run."""
    if budget.scope == "all":
        return True
    if budget.scope.function:
        return run.key == budget.scope.function
    return run.agent == budget.scope.agent


def spent(
    budget: Budget,
    fact: Mapping[str, Any],
    runs: Sequence[RunPlan],
    outcomes: Mapping[str, Outcome],
    starts: Mapping[str, int],
) -> Used:
    """Return what a budget has used: before this cycle, and in it so far."""
    total = _of_fact(fact)
    for run in runs:
        if is_in_scope(budget, run):
            outcome = outcomes.get(run.key)
            used = used_by(outcome, _usage(outcome.value)) if outcome else Used()
            used = msgspec.structs.replace(used, calls=starts.get(run.key, 0))
            total = _sum(total, used)
    return total


def used_by(outcome: Any, usage: Any) -> Used:
    """Return what one run used, by its outcome or the body that records it.

    `usage` is what the function reported: {"steps": integer, "cost": decimal}. What it leaves out
    is 0; what cannot be read is told.
    """
    used = Used(calls=outcome.attempts, ms=outcome.used.duration_ms)
    if usage is None:
        return used
    if not isinstance(usage, Mapping):
        return msgspec.structs.replace(used, unreadable="steps")
    from runwright.cycles.discrepancy import number  # lazy: few functions report what they use

    steps, cost = number(usage.get("steps", 0)), number(usage.get("cost", 0))
    if steps is None or steps < 0 or steps != steps.to_integral_value():
        return msgspec.structs.replace(used, unreadable="steps")
    if cost is None or cost < 0:
        return msgspec.structs.replace(used, steps=int(steps), unreadable="cost")
    return msgspec.structs.replace(used, steps=int(steps), cost=cost)


def breach_of(budget: Budget, used: Used) -> tuple[str, str, str] | None:
    """Return the first limit that is reached, what it allows, and what was used; or None."""
    limits = budget.limits
    if limits.calls is not None and used.calls >= limits.calls:
        return "calls", str(limits.calls), str(used.calls)
    if limits.steps is not None and _is_reached(used, "steps", used.steps, limits.steps):
        return "steps", str(limits.steps), _actual(used, "steps", str(used.steps))
    limit_ms = _seconds_ms(budget)
    if limit_ms is not None and used.ms >= limit_ms:
        return "seconds", _ms_text(limit_ms), _ms_text(used.ms)
    if limits.cost is not None and _is_reached(used, "cost", used.cost, Decimal(limits.cost)):
        return "cost", str(limits.cost), _actual(used, "cost", format(used.cost, "f"))
    return None


def _is_reached(used: Used, limit: str, actual: Any, allowed: Any) -> bool:
    return used.unreadable == limit or bool(actual >= allowed)


def _actual(used: Used, limit: str, text: str) -> str:
    return UNREADABLE if used.unreadable == limit else text


def _breached(
    budget: Budget, fact: Mapping[str, Any], limit: str, allowed: str, actual: str
) -> Permit:
    window = fact["window_key"]
    return Permit(
        refused=f"{OVER}: {budget.name}: {actual} of {allowed} {limit} used in {window}",
        refusal={
            "rule": OVER,
            "budget": budget.name,
            "window": window,
            "limit": limit,
            "allowed": allowed,
            "actual": actual,
        },
    )


def _held(budget: Budget, fact: Mapping[str, Any]) -> Permit:
    violation = fact["violation"]
    return Permit(
        refused=f"{OVER}: {budget.name} stays closed since the breach of entry {violation}"
        f" ({fact['since']}); `runwright decide budget/{budget.name} continue` opens it",
        refusal={"rule": OVER, "budget": budget.name, "violation": violation},
    )


# ------------------------------------------------------------------------------ what entries leave


def fold(recorded: Recorded, tables: Tables) -> Sequence[Row]:
    """Return the rows of a breach, of what a cycle used, or of a decision about a budget."""
    answer = _FOLDS.get(recorded.entry.type)
    return list(answer(recorded, tables)) if answer else ()


def _refused(recorded: Recorded, _tables: Tables) -> Iterator[Row]:
    entry, spec, run = recorded.entry, recorded.spec, recorded.run
    refusal = entry.body.value.get("refused")
    if entry.body.reason != "refused" or not isinstance(refusal, dict):
        return
    if refusal.get("rule") != OVER or "limit" not in refusal:
        return
    yield Row(
        "budget_violation",
        {
            "violation_id": entry.seq,
            "spec_name": spec.name,
            "budget_name": refusal["budget"],
            "window_key": refusal["window"],
            "agent_id": run.agent if run else "",
            "task_name": entry.body.key,
            "cycle_id": recorded.planned.body.label if recorded.planned else "",
            "violation_type": _VIOLATIONS[refusal["limit"]],
            "limit_name": refusal["limit"],
            "limit_value": refusal["allowed"],
            "actual_value": refusal["actual"],
            "governance_action": "SCOPE_CLOSED",
            "severity": "CLASS_B",
            "hash_prev": entry.prev,
            "hash_self": recorded.leaf,
            "created_at": _instant(entry.ts),
            "state": "OPEN",
            "decision_id": None,
            "decided_by": "",
            "decision_reason": "",
        },
    )


def _judged(recorded: Recorded, tables: Tables) -> Iterator[Row]:
    """Yield what each budget has used once a cycle is over; a window has one row."""
    spec: CycleSpec = recorded.spec
    if not spec.budgets or recorded.planned is None:
        return
    windows = _windows_of(recorded, tables)
    for budget in spec.budgets:
        if budget.name not in windows:
            continue
        key = {
            "spec_name": spec.name,
            "budget_name": budget.name,
            "window_key": windows[budget.name],
        }
        before = tables.rows("budget_usage", key)
        total = _of_row(before[0]) if before else Used()
        for found in recorded.finished:
            if found.run is not None and is_in_scope(budget, found.run):
                body = found.entry.body
                total = _sum(total, used_by(body, _usage(body.value)))
        yield Row(
            "budget_usage",
            {
                **key,
                "calls": total.calls,
                "steps": total.steps,
                "duration_ms": total.ms,
                "cost": format(total.cost, "f"),
                "unreadable": total.unreadable,
                "cycle_id": recorded.planned.body.label,
                "updated_at": _instant(recorded.entry.ts),
            },
        )


def _windows_of(recorded: Recorded, tables: Tables) -> dict[str, str]:
    """Return the window of each budget as it was seen when the cycle was planned."""
    planned = recorded.planned
    seen = tables.blob(planned.body.seen) if planned else None
    facts = tables.blob(msgspec.json.decode(seen.data)["facts"]) if seen else None
    budgets = msgspec.json.decode(facts.data).get("budgets", ()) if facts else ()
    return {fact["name"]: fact["window_key"] for fact in budgets}


def _decided(recorded: Recorded, tables: Tables) -> Iterator[Row]:
    entry, document = recorded.entry, recorded.entry.body.document
    kind, _, name = document.subject.partition("/")
    if kind != "budget" or document.action not in _RELEASING:
        return
    spec_name, _, own = name.rpartition("/")
    where = {"budget_name": own, "state": "OPEN", **({"spec_name": spec_name} if spec_name else {})}
    forgiven = set()
    for row in tables.rows("budget_violation", where):
        yield Row(
            "budget_violation",
            {
                "violation_id": row["violation_id"],
                "state": "RELEASED",
                "decision_id": entry.seq,
                "decided_by": document.person,
                "decision_reason": document.reason,
            },
            update=True,
        )
        forgiven.add((row["spec_name"], own, row["window_key"]))
    if document.action == "waive":
        for at in sorted(forgiven):
            key = dict(zip(("spec_name", "budget_name", "window_key"), at, strict=True))
            nothing = {"calls": 0, "steps": 0, "duration_ms": 0, "cost": "0", "unreadable": ""}
            yield Row("budget_usage", {**key, **nothing}, update=True)


_FOLDS: Final = {"run.finished": _refused, "round.judged": _judged, "decision.made": _decided}


# ------------------------------------------------------------------------------------- amounts


def _usage(value: Mapping[str, Any]) -> Any:
    """Return what a function reported to have used, beside its result when that is long."""
    result = value.get("result")
    return (result if isinstance(result, Mapping) else value).get("usage")


def _sum(one: Used, other: Used) -> Used:
    return Used(
        calls=one.calls + other.calls,
        steps=one.steps + other.steps,
        ms=one.ms + other.ms,
        cost=one.cost + other.cost,
        unreadable=one.unreadable or other.unreadable,
    )


def _seconds_ms(budget: Budget) -> int | None:
    seconds = budget.limits.seconds
    return None if seconds is None else round(Decimal(str(seconds)) * 1000)


def _ms_text(ms: int) -> str:
    return format(Decimal(ms).scaleb(-3).normalize() + 0, "f")


def _plain(used: Used) -> dict[str, Any]:
    plain = {"calls": used.calls, "steps": used.steps, "ms": used.ms}
    return {**plain, "cost": format(used.cost, "f"), "unreadable": used.unreadable}


def _of_fact(fact: Mapping[str, Any]) -> Used:
    return Used(
        calls=fact["calls"],
        steps=fact["steps"],
        ms=fact["ms"],
        cost=Decimal(fact["cost"]),
        unreadable=fact["unreadable"],
    )


def _of_row(row: Mapping[str, Any]) -> Used:
    return Used(
        calls=row["calls"],
        steps=row["steps"],
        ms=row["duration_ms"],
        cost=Decimal(str(row["cost"])),
        unreadable=row["unreadable"],
    )


def _instant(epoch_ms: int) -> str:
    return f"{instant_text(epoch_ms, '%Y-%m-%dT%H:%M:%S')}.{epoch_ms % 1000:03d}Z"
