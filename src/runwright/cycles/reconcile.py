"""Holds what was reported of a cycle and its functions against what the ledger says of them.

A cycle is reported by its `execution_state` row as it stands in the store; a function reports
`reported_state` in its result. The record is the ledger: outcomes and the verdict. Far apart, a
suspension of the agent is requested; a person decides, nothing here suspends.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from runwright.cycles import discrepancy
from runwright.cycles.discrepancy import Unweighable
from runwright.cycles.report import bundle
from runwright.cycles.spec import CycleSpec
from runwright.kernel.ports import Row
from runwright.kernel.run import Outcome, Requested, RunPlan, instant_text, run_id
from runwright.kernel.workload import (
    Closed,
    Compared,
    Kept,
    StateReconciled,
    SuspensionRequested,
)

#: The fields of the orchestrator that are compared unless an operator says otherwise: how much
#: each weighs, its tolerance, and what that tolerance allows.
DEFAULTS: Final = (
    ("cycle_id", "1.0", "EXACT", None),
    ("tasks_executed", "1.0", "EXACT", None),
    ("success_count", "0.8", "EXACT", None),
    ("failure_count", "0.8", "EXACT", None),
    ("orchestrator_version", "0.5", "EXACT", None),
    ("execution_timestamp", "0.3", "TIMESTAMP", "5.0"),
)
WEIGHTS: Final = "reconciliation_field_weights"
#: The key of a function's result under which it reports its state.
REPORTED: Final = "reported_state"
#: Characters of a value that an entry shows; fewer when it would grow beyond its bound.
SHOWN_MAX: Final = (200, 60, 0)
ENTRY_MAX: Final = 14 * 1024
#: A request that nobody has decided, or that stands, is not made again.
_UNDER_WAY: Final = ("PENDING", "APPROVED")
_JSON: Final = msgspec.json.Encoder(order="sorted")


class Component(NamedTuple):
    """Whose state is compared, on whose behalf it acts, and by which rows."""

    name: str
    agent: str
    rules: Sequence[Mapping[str, Any]]
    #: The key of its run when it is a function.
    key: str = ""


def default_weights(component: str, rows: Sequence[Mapping[str, Any]] | None) -> list[Row]:
    """Return the six weights of an orchestrator that has none yet; none without the table."""
    if rows is None or any(row["component_name"] == component for row in rows):
        return []
    # Even: a store that numbers rows by itself takes the odd ones, so the two never meet.
    next_id = max((row["weight_id"] for row in rows), default=0) // 2 * 2 + 2
    return [
        Row(
            WEIGHTS,
            {
                "weight_id": next_id + 2 * index,
                "component_name": component,
                "field_name": field,
                "criticality_weight": weight,
                "tolerance_type": tolerance,
                "tolerance_value": within,
                "description": "",
            },
        )
        for index, (field, weight, tolerance, within) in enumerate(DEFAULTS)
    ]


def reconcile(closed: Closed, tables: Kept) -> list[Any]:
    """Return what was found of the functions and of their cycle, and what it asks of people.

    None for a command that stands in no registry, and for a cycle that was reconciled before.
    """
    tick = closed.tick
    if isinstance(tick, Requested) and tick.args.get("command"):
        return []
    if tables.rows("reconciliation_snapshots", {"round_id": closed.id}, limit=1):
        return []
    rules: dict[str, list[Mapping[str, Any]]] = {}
    for row in tables.rows(WEIGHTS):
        rules.setdefault(row["component_name"], []).append(row)
    found = [*_functions(closed, tables, rules), _cycle(closed, tables, rules)]
    return [*found, *_requests(closed, tables, found)]


def _cycle(
    closed: Closed, tables: Kept, rules: Mapping[str, Sequence[Mapping[str, Any]]]
) -> StateReconciled:
    spec: CycleSpec = closed.spec
    label = closed.round.label
    ended = [closed.at, *(outcome.finished_ms for outcome in closed.outcomes)]
    recorded = bundle(
        spec,
        label,
        at_ms=max(ended),
        counts=closed.verdict.counts,
        status=closed.verdict.label,
        results=(),
    )
    del recorded["results"]
    rows = tables.rows(
        "execution_state",
        {"component_name": spec.orchestrator, "hash_chain_id": recorded["hash_chain_id"]},
        order="-state_id",
        limit=1,
    )
    reported = _object(rows[0]["state_value"]) if rows else {}
    component = Component(spec.orchestrator, spec.agent, rules.get(spec.orchestrator, ()))
    return _compared(closed, component, reported, recorded)


def _functions(
    closed: Closed, tables: Kept, rules: Mapping[str, Sequence[Mapping[str, Any]]]
) -> Iterator[StateReconciled]:
    by_key = {outcome.key: outcome for outcome in closed.outcomes}
    for run in closed.round.runs:
        outcome = by_key.get(run.key)
        if outcome is None or not outcome.attempts:
            continue
        reported = result_of(outcome, tables).get(REPORTED)
        # One that did not succeed and claims nothing has nothing to be held against.
        if reported is None and (outcome.status != "done" or run.key not in rules):
            continue
        component = Component(run.key, run.agent, rules.get(run.key, ()), key=run.key)
        claimed = reported if isinstance(reported, Mapping) else {}
        yield _compared(closed, component, claimed, recorded_of(closed, run, outcome))


def recorded_of(closed: Closed, run: RunPlan, outcome: Outcome) -> dict[str, Any]:
    """Return what the record says of a run, under the names that a function may report."""
    return {
        "task_name": run.key,
        "function": run.key,
        "agent_id": run.agent,
        "cycle_id": closed.round.label,
        "run_id": run_id(round=closed.id, key=run.key),
        "success": outcome.status == "done",
        "status": outcome.status,
        "exit_code": outcome.used.exit,
        "attempts": outcome.attempts,
        "execution_time_seconds": outcome.used.duration_ms / 1000,
        "started_at": _instant(outcome.started_ms),
        "execution_timestamp": _instant(outcome.finished_ms),
    }


def result_of(outcome: Outcome, tables: Kept) -> Mapping[str, Any]:
    """Return the result that a function left, from the entry or the blob beside it."""
    for blob in outcome.blobs:
        if blob.name == "result":
            kept = tables.blob(blob.digest)
            return _object(kept.data) if kept else {}
    found = outcome.value.get("result", {})
    return found if isinstance(found, Mapping) else {}


def _compared(
    closed: Closed,
    component: Component,
    reported: Mapping[str, Any],
    recorded: Mapping[str, Any],
) -> StateReconciled:
    told = StateReconciled(
        kind="cycles",
        round=closed.id,
        label=closed.round.label,
        component=component.name,
        agent=component.agent,
        key=component.key,
    )
    replace = msgspec.structs.replace
    try:
        rules = discrepancy.weights(component.name, component.rules)
        compared = discrepancy.compare(rules, reported, recorded)
        value = discrepancy.score(compared)
    except Unweighable as error:
        return replace(told, problem=str(error)[:500])
    found = replace(
        told,
        classification=discrepancy.classify(value),
        score=discrepancy.score_text(value),
    )
    for shown in SHOWN_MAX:
        fields = tuple(
            Compared(
                field=item.rule.field,
                weight=str(item.rule.weight),
                tolerance=item.rule.tolerance,
                within=item.rule.within,
                matches=item.matches,
                reported=_shown(reported, item.rule.field, shown),
                recorded=_shown(recorded, item.rule.field, shown),
            )
            for item in compared
        )
        found = replace(found, fields=fields)
        if len(_JSON.encode(found)) <= ENTRY_MAX:
            break
    return found


def _requests(
    closed: Closed, tables: Kept, found: Sequence[StateReconciled]
) -> Iterator[SuspensionRequested]:
    """Yield a request for each agent that is too far apart and about whom nobody was asked yet."""
    asked: set[str] = set()
    for index, item in enumerate(found):
        if item.classification != "CATASTROPHIC" or item.agent in asked:
            continue
        asked.add(item.agent)
        before = tables.rows("suspension_request", {"agent_id": item.agent})
        if any(row["state"] in _UNDER_WAY for row in before):
            continue
        yield SuspensionRequested(
            kind="cycles",
            round=item.round,
            label=item.label,
            component=item.component,
            agent=item.agent,
            score=item.score,
            snapshot=closed.next_seq + index,
        )


def _shown(state: Mapping[str, Any], field: str, most: int) -> str:
    if field not in state:
        return ""
    text = _JSON.encode(state[field]).decode(errors="replace")
    return text if len(text) <= most else f"{text[:most]}…"


def _object(data: bytes | str) -> Mapping[str, Any]:
    """Return the JSON object that bytes hold; nothing when they hold none."""
    try:
        found = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeError):
        return {}
    return found if isinstance(found, dict) else {}


def _instant(epoch_ms: int) -> str:
    return f"{instant_text(epoch_ms, '%Y-%m-%dT%H:%M:%S')}.{epoch_ms % 1000:03d}Z"
