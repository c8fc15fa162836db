"""What entries make of the seed's governance tables: actions, states and metrics.

A row follows from the record alone; `seq` and `leaf` in its metadata say which entry it shows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

import msgspec

from runwright.cycles import budget
from runwright.cycles.report import bundle, hash_chain_id
from runwright.cycles.spec import CycleSpec
from runwright.kernel.ports import Row
from runwright.kernel.run import Blob, Scheduled, instant_text
from runwright.kernel.workload import Recorded, Tables

#: How a run ended -> the decision that its row shows.
_DECISIONS: Final = {
    "done": "COMPLETED",
    "failed": "FAILED",
    "interrupted": "INTERRUPTED",
    "skipped": "SKIPPED",
}
#: The entries that `snapshots` makes rows of.
_RECONCILED: Final = frozenset({"state.reconciled", "suspension.requested", "decision.made"})
#: The table whose counters move.
SCHEDULE: Final = "orchestrator_schedule"
#: The action of one function.
FUNCTION: Final = "VISION_FUNCTION_EXECUTION"
#: What stands in the metadata of a function beside its own result.
_OWN: Final = (
    "result_digest",
    "function",
    "agent_id",
    "cycle_id",
    "success",
    "exit_code",
    "execution_time_seconds",
    "attempts",
    "level",
    "seq",
    "leaf",
)
#: Characters of the end of an output stream that a state keeps.
_TAIL: Final = 500
#: Metrics of one entry are numbered from its seq times this.
_METRICS_MAX: Final = 1_000
_JSON: Final = msgspec.json.Encoder(order="sorted")


def fold(recorded: Recorded, tables: Tables) -> Sequence[Row]:
    """Return the rows of an entry: of a spec, of a cycle, of a function, of an erasure."""
    answer = _FOLDS.get(recorded.entry.type)
    rows = list(answer(recorded, tables)) if answer else []
    rows += budget.fold(recorded, tables)
    if recorded.entry.type in _RECONCILED:
        from runwright.cycles import snapshots  # lazy: a cycle is reconciled when it has ended

        rows += snapshots.fold(recorded, tables)
    return rows


def _registered(recorded: Recorded, tables: Tables) -> Iterator[Row]:
    spec: CycleSpec = recorded.spec
    metadata = {
        "orchestrator_version": spec.orchestrator_version,
        "spec": spec.name,
        "manages_tasks": [task.task_name for task in spec.tasks if task.enabled],
        "compliance": list(spec.compliance),
    }
    yield from _action(
        recorded,
        "VISION_ORCHESTRATOR_REGISTRATION",
        decision="APPROVED",
        target=spec.orchestrator,
        metadata=metadata,
    )
    counts: dict[str, Any] = {"next_execution_at": _next(recorded, tables)}
    if not tables.rows(SCHEDULE, {"schedule_name": spec.row_name}):
        counts |= {"last_execution_at": None, "execution_count": 0, "failure_count": 0}
    yield Row(SCHEDULE, {"schedule_name": spec.row_name, **counts}, update=True)


def _started(recorded: Recorded, _tables: Tables) -> Iterator[Row]:
    entry, spec = recorded.entry, recorded.spec
    metadata = {
        "cycle_id": entry.body.label,
        "orchestrator_version": spec.orchestrator_version,
        "tasks_scheduled": len(recorded.runs),
        "task_names": [run.key for run in recorded.runs],
    }
    yield from _action(
        recorded,
        "VISION_ORCHESTRATOR_CYCLE_START",
        decision="IN_PROGRESS",
        target=spec.orchestrator,
        metadata=metadata,
    )


def _executed(recorded: Recorded, tables: Tables) -> Iterator[Row]:
    entry, run = recorded.entry, recorded.run
    body = entry.body
    result, result_digest = _result_of(recorded, tables)
    metadata = {
        **result,
        **result_digest,
        "function": body.key,
        "agent_id": run.agent if run else "",
        "cycle_id": _label(recorded),
        "success": body.status == "done",
        "exit_code": body.used.exit,
        "execution_time_seconds": body.used.duration_ms / 1000,
        "attempts": body.attempts,
        "level": body.level,
    }
    yield from _action(
        recorded,
        FUNCTION,
        decision=_DECISIONS[body.status],
        target=body.key,
        rationale=body.message or body.reason,
        agent=run.agent if run else "",
        metadata=metadata,
    )
    if body.attempts:
        used = body.used
        values = {
            "FUNCTION_DURATION": used.duration_ms / 1000,
            "FUNCTION_CPU": used.cpu_ms / 1000,
            "FUNCTION_PEAK_MEMORY_KIB": used.peak_kib,
            "FUNCTION_EXIT": used.exit if used.exit is not None else -(used.signal or 0),
        }
        yield from _metrics(recorded, body.key, values)


def _completed(recorded: Recorded, tables: Tables) -> Iterator[Row]:
    entry, spec = recorded.entry, recorded.spec
    body, label = entry.body, _label(recorded)
    by_run = {found.entry.run: found.entry for found in recorded.finished}
    ended = [(run, by_run[key]) for key, run in _runs(recorded) if key in by_run]
    planned = recorded.planned
    at = planned.body.at if planned else entry.ts
    state = bundle(
        spec,
        label,
        at_ms=max([at, *(found.body.finished_ms for _, found in ended)]),
        counts=body.counts,
        status=body.label,
        results=[(run.agent, found.body) for run, found in ended],
    )
    for result, (_, found) in zip(state["results"], ended, strict=True):
        result.update(_output(found.blobs, tables))
    counts = {name: state[name] for name in ("tasks_executed", "success_count", "failure_count")}
    yield from _action(
        recorded,
        "VISION_ORCHESTRATOR_CYCLE",
        decision=body.label,
        target=spec.orchestrator,
        rationale="; ".join(body.reasons),
        metadata={
            "cycle_id": label,
            "orchestrator_version": spec.orchestrator_version,
            "execution_timestamp": state["execution_timestamp"],
            "execution_results": [
                {name: value for name, value in result.items() if name not in _OUTPUT}
                for result in state["results"]
            ],
            **counts,
        },
    )
    yield _state(recorded, spec, state, tables)
    executed = counts["tasks_executed"]
    values: dict[str, float] = {"EXECUTION_TIME": (entry.ts - at) / 1000}
    if executed:
        values["SUCCESS_RATE"] = round(100 * counts["success_count"] / executed, 2)
        values["ERROR_RATE"] = round(100 * counts["failure_count"] / executed, 2)
    yield from _metrics(recorded, spec.orchestrator, values)
    if planned and isinstance(planned.body.occurrence, Scheduled):
        failed = int(body.status != "PASS")
        executed_at = _instant(planned.body.at)
        yield from _counted(recorded, tables, spec, failed=failed, executed_at=executed_at)


def _passed(recorded: Recorded, tables: Tables) -> Iterator[Row]:
    """Move on the next occurrence: this one is over, and nothing was executed."""
    yield from _counted(recorded, tables, _spec_of(recorded, tables))


def _refused(recorded: Recorded, tables: Tables) -> Iterator[Row]:
    if isinstance(recorded.entry.body.occurrence, Scheduled):
        yield from _counted(recorded, tables, _spec_of(recorded, tables), failed=1)


def _counted(
    recorded: Recorded,
    tables: Tables,
    spec: CycleSpec | None,
    *,
    failed: int = 0,
    executed_at: str = "",
) -> Iterator[Row]:
    """Move the counters of a schedule; a spec that was never applied has none."""
    rows = tables.rows(SCHEDULE, {"schedule_name": spec.row_name}) if spec else ()
    for row in rows:
        values = {
            "schedule_name": row["schedule_name"],
            "next_execution_at": _next(recorded, tables),
            "failure_count": row["failure_count"] + failed,
        }
        if executed_at:
            count = row["execution_count"] + 1
            values |= {"last_execution_at": executed_at, "execution_count": count}
        yield Row(SCHEDULE, values, update=True)


def _spec_of(recorded: Recorded, tables: Tables) -> CycleSpec | None:
    """Return the spec that an entry names, as it was applied last before it."""
    body = recorded.entry.body
    rows = tables.rows("spec", {"kind": body.kind, "name": body.name})
    return msgspec.json.decode(rows[0]["body"], type=CycleSpec) if rows else None


def _next(recorded: Recorded, tables: Tables) -> str | None:
    next_ms = tables.next_ms(recorded)
    return None if next_ms is None else _instant(next_ms)


def _erased(recorded: Recorded, tables: Tables) -> Iterator[Row]:
    """Take what was erased out of the rows that showed it."""
    digest = recorded.entry.body.digest
    for row in tables.rows("governance_action", {"action_type": FUNCTION}):
        if digest in row["metadata"]:
            metadata = msgspec.json.decode(row["metadata"])
            kept = _json({name: metadata[name] for name in _OWN if name in metadata})
            values = {"action_id": row["action_id"], "metadata": kept}
            yield Row("governance_action", values, update=True)
    for row in tables.rows("execution_state"):
        if digest not in row["state_value"]:
            continue
        state = msgspec.json.decode(row["state_value"])
        for result in state["results"]:
            for name in _OUTPUT:
                if result.get(f"{name}_digest") == digest:
                    result[name] = ""
        value = _JSON.encode(state).decode()
        yield Row(
            "execution_state",
            {"state_id": row["state_id"], "state_value": value},
            update=True,
        )


_FOLDS: Final = {
    "spec.applied": _registered,
    "schedule.changed": _passed,
    "tick.passed": _passed,
    "tick.refused": _refused,
    "round.planned": _started,
    "run.finished": _executed,
    "round.judged": _completed,
    "blob.erased": _erased,
}
#: The streams whose end a state keeps.
_OUTPUT: Final = ("stdout", "stderr")


# ------------------------------------------------------------------------------------------ rows


def _action(
    recorded: Recorded, action_type: str, metadata: Mapping[str, Any], *, agent: str = "", **of: str
) -> Iterator[Row]:
    """Yield the row of an action and the signature that it waits for.

    `of` holds its target, its decision and why.
    """
    entry, spec = recorded.entry, recorded.spec
    at = _instant(entry.ts)
    label = _label(recorded) or spec.name
    yield Row("signature", {"seq": entry.seq, "agent": agent or spec.agent, "key": "", "value": ""})
    yield Row(
        "governance_action",
        {
            "action_id": entry.seq,
            "action_type": action_type,
            "action_target": of["target"],
            "action_target_type": "FUNCTION" if agent else "ORCHESTRATOR",
            "initiated_by": entry.actor.id or entry.actor.kind,
            "initiated_at": at,
            "decision": of["decision"],
            "decision_rationale": of.get("rationale", ""),
            "metadata": _json({**metadata, "seq": entry.seq, "leaf": recorded.leaf}),
            "hash_chain_id": hash_chain_id(spec, label),
            "agent_id": agent or spec.agent,
            "timestamp": at,
        },
    )


def _state(recorded: Recorded, spec: CycleSpec, state: Mapping[str, Any], tables: Tables) -> Row:
    entry = recorded.entry
    before = tables.rows(
        "execution_state", {"component_name": spec.orchestrator}, order="-state_id", limit=1
    )
    at = _instant(entry.ts)
    return Row(
        "execution_state",
        {
            "state_id": entry.seq,
            "component_name": spec.orchestrator,
            "state_type": "ACTIVE",
            "state_value": _json(state),
            "state_version": before[0]["state_version"] + 1 if before else 1,
            "previous_state_id": before[0]["state_id"] if before else None,
            "created_by": spec.agent,
            "created_at": at,
            "updated_at": at,
            "hash_chain_id": state["hash_chain_id"],
            "signature_id": entry.seq,
        },
    )


def _metrics(recorded: Recorded, name: str, values: Mapping[str, float]) -> Iterator[Row]:
    entry, label = recorded.entry, _label(recorded)
    metadata, at = _json({"seq": entry.seq}), _instant(entry.ts)
    for index, (kind, value) in enumerate(values.items()):
        yield Row(
            "orchestrator_metrics",
            {
                "metric_id": entry.seq * _METRICS_MAX + index,
                "cycle_id": label,
                "metric_type": kind,
                "metric_name": name,
                "metric_value": repr(value),
                "metadata": metadata,
                "recorded_at": at,
            },
        )


# ------------------------------------------------------------------------------------- helpers


def _label(recorded: Recorded) -> str:
    body = (recorded.planned or recorded.entry).body
    return str(getattr(body, "label", ""))


def _runs(recorded: Recorded) -> Iterator[tuple[str, Any]]:
    """Yield the id and the plan of every run of the round that ended, in planned order."""
    ids = {found.run.key: found.entry.run for found in recorded.finished if found.run}
    for run in recorded.runs:
        if run.key in ids:
            yield ids[run.key], run


def _result_of(recorded: Recorded, tables: Tables) -> tuple[Mapping[str, Any], Mapping[str, str]]:
    """Return what a function left as its result, and the digest under which it can be erased."""
    for blob in recorded.entry.blobs:
        if blob.name == "result":
            kept = tables.blob(blob.digest)
            return msgspec.json.decode(kept.data) if kept else {}, {"result_digest": blob.digest}
    return recorded.entry.body.value.get("result", {}), {}


def _output(blobs: Sequence[Blob], tables: Tables) -> dict[str, str]:
    """Return the ends of the output streams, and the digests under which they can be erased."""
    found: dict[str, str] = {}
    for blob in blobs:
        if blob.name in _OUTPUT:
            kept = tables.blob(blob.digest)
            text = kept.data.decode("utf-8", "replace")[-_TAIL:] if kept else ""
            found |= {blob.name: text, f"{blob.name}_digest": blob.digest}
    return found


def _json(value: Any) -> str:
    """Return JSON text without NUL, which PostgreSQL cannot keep."""
    return _JSON.encode(value).decode().replace("\\u0000", "\\ufffd")


@lru_cache(maxsize=64)
def _instant(epoch_ms: int) -> str:
    return f"{instant_text(epoch_ms, '%Y-%m-%dT%H:%M:%S')}.{epoch_ms % 1000:03d}Z"
