"""The task registry: which rows a spec declares, which of them a cycle executes, in which order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from runwright.cycles import timetable
from runwright.cycles.spec import ORCHESTRATOR, CycleSpec, Task, TaskConfig, check_spec, read_config
from runwright.kernel.errors import InvalidSpec, UnknownName, Usage
from runwright.kernel.ports import Row
from runwright.kernel.run import instant_text

#: The columns that a spec file declares.
_DECLARED = ("task_type", "agent_id", "task_description", "task_config", "enabled", "spec_name")
#: What is counted of the rows that a spec leaves.
_COUNTED = ("added", "changed", "disabled")


class Registered(msgspec.Struct, frozen=True, kw_only=True):
    """A row of the registry as a cycle reads it."""

    #: A site's registry may number its rows otherwise, by a UUID for one.
    task_id: int | str
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
    others = [found for found in _specs(tables) if found.name != spec.name]
    schedules = _schedules(spec, tables, others)
    # lazy: only `apply` declares
    from runwright.cycles.reconcile import WEIGHTS, default_weights  # lazy: as above

    weights = default_weights(spec.orchestrator, tables.get(WEIGHTS))
    for site in tables.get("adopted", ()):
        if site["name"] == "task_registry":
            check_kept(spec, tables["task_registry"], site)
            return [*schedules, *weights], dict.fromkeys(_COUNTED, 0)
    changes, counts = _registered(spec, tables["task_registry"], others, instant_text(at_ms))
    return [*changes, *schedules, *weights], counts


def _registered(
    spec: CycleSpec, rows: Sequence[Mapping[str, Any]], others: Sequence[CycleSpec], now: str
) -> tuple[list[Row], Mapping[str, int]]:
    """Return the rows of our registry that a spec leaves, and how many of each kind."""
    known = {row["task_name"]: row for row in rows}
    changes: list[Row] = []
    counts = dict.fromkeys(_COUNTED, 0)
    for task in spec.tasks:
        before = known.get(task.task_name)
        if before is not None and before["spec_name"] not in ("", spec.name):
            raise InvalidSpec(f"{task.task_name} is declared by the spec {before['spec_name']} too")
        change = _row_of(task, spec.name, before, now)
        if change is not None:
            changes.append(change)
            counts["added" if before is None else "changed"] += 1
    declared = {task.task_name for task in spec.tasks}
    for row in rows:
        if row["spec_name"] == spec.name and row["enabled"] and row["task_name"] not in declared:
            values = {"task_id": row["task_id"], "enabled": 0, "updated_at": now}
            changes.append(Row("task_registry", values, update=True))
            counts["disabled"] += 1
    # Nobody's: specs may share an orchestrator.
    of_all = _row_of(_orchestrator(spec, others), "", known.get(spec.orchestrator), now)
    return [*changes, *([of_all] if of_all else [])], counts


def check_kept(spec: CycleSpec, rows: Sequence[Mapping[str, Any]], site: Mapping[str, Any]) -> None:
    """Check that a site's registry, which is never written to, holds what a spec declares.

    Raises: invalid-spec, naming the task and what its keeper would give.
    """
    missing: list[dict[str, Any]] = []
    for task in spec.tasks:
        values = _values(task, "")
        compared = [name for name in _DECLARED if name in site["columns"]]
        theirs = [row for row in rows if row["task_name"] == task.task_name]
        apart = [
            [name for name in compared if not _is_same(name, row[name], values[name])]
            for row in theirs
        ]
        if not theirs:
            missing.append({name: values[name] for name in ("task_name", *compared)})
        elif [] not in apart:
            message = (
                f"tasks: {task.task_name} differs in {', '.join(apart[0])} from its row in"
                f" {site['relation']}, which is the site's own and never written to"
            )
            hint = "Make the spec equal to the row, leave the task out of it, or have it changed."
            raise InvalidSpec(message, hint=hint)
    if missing:
        names = ", ".join(values["task_name"] for values in missing)
        message = (
            f"tasks: {names} stands in no row of {site['relation']}, which is the site's own and"
            " never written to"
        )
        raise InvalidSpec(message, hint=_insert(missing, site))


def _insert(missing: Sequence[Mapping[str, Any]], site: Mapping[str, Any]) -> str:
    """Return what the keeper of a site's registry would give for rows that are not there."""
    schema, _, name = site["relation"].partition(".")
    rows = ", ".join(
        f"({', '.join(_literal(name, value) for name, value in values.items())})"
        for values in missing
    )
    told = f'Its keeper gives: INSERT INTO "{schema}"."{name}" ({", ".join(missing[0])})'
    told = f"{told} VALUES {rows};"
    if site["required"]:
        told += f" It requires {', '.join(site['required'])} too."
    return told


def _literal(name: str, value: Any) -> str:
    """Return a value as SQL has it."""
    if name == "enabled":
        return "true" if value else "false"
    return "'" + str(value).replace("'", "''") + "'"


def _specs(tables: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[CycleSpec]:
    rows = tables.get("spec", ())
    return [msgspec.json.decode(row["body"], type=CycleSpec) for row in rows]


def _row_of(task: Task, spec_name: str, before: Mapping[str, Any] | None, now: str) -> Row | None:
    """Return the row that a task leaves; None when it stands there already."""
    values = _values(task, spec_name)
    if before is None:
        # Its task_id comes from the table, as that of a row which an operator inserts.
        return Row("task_registry", {**values, "created_at": now, "updated_at": now})
    if all(_is_same(name, before[name], values[name]) for name in _DECLARED):
        return None
    kept = {name: before[name] for name in ("task_id", "created_at")}
    return Row("task_registry", {**values, **kept, "updated_at": now})


def _values(task: Task, spec_name: str) -> dict[str, Any]:
    return {
        "task_name": task.task_name,
        "task_type": task.task_type,
        "agent_id": task.agent_id,
        "task_description": task.task_description,
        "task_config": msgspec.json.encode(task.task_config).decode(),
        "enabled": int(task.enabled),
        "spec_name": spec_name,
    }


def _is_same(name: str, before: Any, declared: Any) -> bool:
    """Say whether a column holds what is declared; JSON in any order and with any spaces."""
    if name != "task_config" or before == declared:
        return bool(before == declared)
    try:
        return bool(msgspec.json.decode(before) == msgspec.json.decode(declared))
    except msgspec.DecodeError:  # an operator left something that is no JSON
        return False


def _orchestrator(spec: CycleSpec, others: Sequence[CycleSpec]) -> Task:
    """Return the row by which an orchestrator is known: it is shown, and executes nothing."""
    sharing = [other for other in others if other.orchestrator == spec.orchestrator]
    managed = [task.task_name for it in (spec, *sharing) for task in it.tasks if task.enabled]
    return Task(
        task_name=spec.orchestrator,
        task_type=ORCHESTRATOR,
        agent_id=spec.agent,
        task_description=spec.title or f"Executes the enabled rows of type {spec.task_type}",
        task_config={
            "manages_tasks": managed,
            "compliance": list(spec.compliance),
            "version": spec.orchestrator_version,
        },
    )


def _schedules(
    spec: CycleSpec,
    tables: Mapping[str, Sequence[Mapping[str, Any]]],
    others: Sequence[CycleSpec],
) -> list[Row]:
    """Return the row of the schedule, unless the spec has the same schedule as before.

    What operators made of it stays until then.
    """
    for other in others:
        if other.row_name == spec.row_name:
            raise InvalidSpec(f"schedule_name: {spec.row_name} is that of the spec {other.name}")
    rows = tables[timetable.TABLE]
    values = timetable.declared(spec)
    known = any(row["schedule_name"] == spec.row_name for row in rows)
    before = [found for found in _specs(tables) if found.name == spec.name]
    is_same = [
        (found.row_name, found.schedule, timetable.declared(found))
        == (spec.row_name, spec.schedule, values)
        for found in before
    ]
    if known and is_same == [True]:
        return []
    return [Row(timetable.TABLE, {"schedule_name": spec.row_name, **values}, update=known)]


def select(
    spec: CycleSpec, rows: Sequence[Mapping[str, Any]], function: str = ""
) -> list[Registered]:
    """Return the rows that a cycle executes: priority rising, missing last, then as registered.

    Ids that are no numbers say nothing of an order: the names decide then.

    A row that another spec declares is that spec's; one that no spec declares is everybody's.
    Raises: unknown-name when there is none, naming what there is; usage when two have one name.
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
            hint="Apply a spec with tasks, or insert or enable a row.",
        )
    its = (spec.orchestrator, ORCHESTRATOR)
    if any((row["task_name"], row["task_type"]) == its and not row["enabled"] for row in rows):
        raise UnknownName(
            f"the orchestrator {spec.orchestrator} is disabled in task_registry",
            hint=f"Enable its row of task_type {ORCHESTRATOR}.",
        )
    its_names = [row["task_name"] for row in enabled]
    twice = sorted({name for name in its_names if its_names.count(name) > 1 or not name})
    if twice:
        message = f"task_registry has two enabled rows of the name {twice[0]!r}, or one without any"
        raise Usage(message, hint="A function is known by its name: disable one of them.")
    return sorted((_read(row) for row in enabled), key=_order)


def _read(row: Mapping[str, Any]) -> Registered:
    text = row["task_config"]
    config, problem = read_config(text)
    if not problem and not row["agent_id"]:
        problem = "agent_id is empty: on whose behalf would it execute?"
    return Registered(
        task_id=row["task_id"],
        task_name=row["task_name"],
        agent_id=row["agent_id"],
        task_config=text,
        config=config,
        problem=problem,
    )


def _order(row: Registered) -> tuple[bool, int, int, str]:
    priority, number = row.config.priority, row.task_id
    order = number if isinstance(number, int) else 0
    return priority is None, priority or 0, order, row.task_name
