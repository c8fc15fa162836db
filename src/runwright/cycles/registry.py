"""The task registry: which rows a spec declares, which of them a cycle executes, in which order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from runwright.cycles.reconcile import WEIGHTS, default_weights
from runwright.cycles.spec import CycleSpec, TaskConfig, check_spec, read_config
from runwright.kernel.errors import InvalidSpec, UnknownName
from runwright.kernel.ports import Row
from runwright.kernel.run import instant_text

#: The columns that a spec file declares.
_DECLARED = ("task_type", "agent_id", "task_description", "task_config", "enabled", "spec_name")


class Registered(msgspec.Struct, frozen=True, kw_only=True):
    """A row of the registry as a cycle reads it."""

    task_id: int
    task_name: str
    agent_id: str
    #: JSON text, as it stands in the registry.
    task_config: str
    config: TaskConfig
    #: Why it cannot be executed; empty when it can.
    problem: str = ""


def declare(
    spec: CycleSpec, at_ms: int, tables: Mapping[str, Sequence[Mapping[str, Any]]]
) -> tuple[list[Row], Mapping[str, int]]:
    """Return the registry rows that applying a spec leaves, and how many of each kind.

    A row that the spec declared before and declares no more is disabled, never deleted.
    Raises: invalid-spec.
    """
    check_spec(spec)
    rows = tables["task_registry"]
    known = {row["task_name"]: row for row in rows}
    now = instant_text(at_ms)
    changes: list[Row] = []
    counts = {"added": 0, "changed": 0, "disabled": 0}
    for task in spec.tasks:
        before = known.get(task.task_name)
        if before is not None and before["spec_name"] not in ("", spec.name):
            raise InvalidSpec(f"{task.task_name} is declared by the spec {before['spec_name']} too")
        values = {
            "task_name": task.task_name,
            "task_type": task.task_type,
            "agent_id": task.agent_id,
            "task_description": task.task_description,
            "task_config": msgspec.json.encode(task.task_config).decode(),
            "enabled": int(task.enabled),
            "spec_name": spec.name,
        }
        if before is None:
            # Its task_id comes from the table, as that of a row which an operator inserts.
            stamps = {"created_at": now, "updated_at": now}
            counts["added"] += 1
        elif all(_is_same(name, before[name], values[name]) for name in _DECLARED):
            continue
        else:
            stamps = {
                "task_id": before["task_id"],
                "created_at": before["created_at"],
                "updated_at": now,
            }
            counts["changed"] += 1
        changes.append(Row("task_registry", {**values, **stamps}))
    declared = {task.task_name for task in spec.tasks}
    for row in rows:
        if row["spec_name"] == spec.name and row["enabled"] and row["task_name"] not in declared:
            values = {"task_id": row["task_id"], "enabled": 0, "updated_at": now}
            changes.append(Row("task_registry", values, update=True))
            counts["disabled"] += 1
    changes += default_weights(spec.orchestrator, tables.get(WEIGHTS))
    return changes, counts


def _is_same(name: str, before: Any, declared: Any) -> bool:
    """Say whether a column holds what is declared; JSON in any order and with any spaces."""
    if name != "task_config" or before == declared:
        return bool(before == declared)
    try:
        return bool(msgspec.json.decode(before) == msgspec.json.decode(declared))
    except msgspec.DecodeError:  # an operator left something that is no JSON
        return False


def select(
    spec: CycleSpec, rows: Sequence[Mapping[str, Any]], function: str = ""
) -> list[Registered]:
    """Return the rows that a cycle executes: priority rising, missing last, then as registered.

    A row that another spec declares is that spec's; one that no spec declares is everybody's.
    Raises: unknown-name when there is none, naming what there is.
    """
    of_type = [
        row
        for row in rows
        if row["task_type"] == spec.task_type and row["spec_name"] in ("", spec.name)
    ]
    enabled = [row for row in of_type if row["enabled"]]
    if function:
        if not any(row["task_name"] == function for row in of_type):
            names = ", ".join(sorted(row["task_name"] for row in enabled)) or "none"
            raise UnknownName(f"there is no function {function!r}; enabled functions: {names}")
        enabled = [row for row in enabled if row["task_name"] == function]
        if not enabled:
            raise UnknownName(f"the function {function!r} is disabled in task_registry")
    if not enabled:
        raise UnknownName(
            f"No tasks found: task_registry has no enabled row of task_type {spec.task_type}",
            hint="Apply a spec with tasks, or enable a row.",
        )
    return sorted((_read(row) for row in enabled), key=_order)


def _read(row: Mapping[str, Any]) -> Registered:
    text = row["task_config"]
    config, problem = read_config(text)
    return Registered(
        task_id=row["task_id"],
        task_name=row["task_name"],
        agent_id=row["agent_id"],
        task_config=text,
        config=config,
        problem=problem,
    )


def _order(row: Registered) -> tuple[bool, int, int]:
    priority = row.config.priority
    return priority is None, priority or 0, row.task_id
