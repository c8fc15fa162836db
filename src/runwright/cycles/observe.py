"""Reads the registry and the files it names into facts."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from runwright.cycles.budget import standing
from runwright.cycles.registry import Registered, select
from runwright.cycles.spec import CycleSpec, TaskConfig, network_of
from runwright.cycles.suspension import suspensions
from runwright.cycles.timetable import retry_of
from runwright.kernel.canonical import exact
from runwright.kernel.errors import Usage
from runwright.kernel.ports import World
from runwright.kernel.run import Facts, Requested, Tick, instant_text


class _Root(msgspec.Struct, frozen=True):
    """The folder below which functions must lie: as given, and with every link resolved."""

    given: Path
    resolved: str


def observe(spec: CycleSpec, tick: Tick, world: World) -> Facts:
    """Return which functions are to run, with the digest of each file, and the cycle's id.

    Raises: unknown-name when there is nothing to run.
    """
    args = tick.args if isinstance(tick, Requested) else {}
    command = args.get("command")
    given = Path(spec.folder or ".", spec.root)
    root = _Root(given, os.path.realpath(given))
    if command:
        tasks = [_ad_hoc(spec, root, args)]
    else:
        rows = world.rows("task_registry")
        tasks = [_located(root, row) for row in select(spec, rows, str(args.get("function") or ""))]
    cycle_id = _cycle_id(tick, world)
    facts: dict[str, Any] = {"cycle_id": cycle_id, "tasks": tasks}
    retry = retry_of(spec, world)
    if retry != spec.retry:
        facts["retry"] = exact(msgspec.to_builtins(retry))
    if spec.budgets:
        facts["budgets"] = standing(spec, tick, world, cycle_id)
    suspended = suspensions(tick, world)
    if suspended:
        facts["suspended"] = suspended
    return facts


def _cycle_id(tick: Tick, world: World) -> str:
    """Return CYCLE_YYYYMMDD_HHMMSS of the planned time in UTC; `_2`… when it is taken."""
    base = instant_text(tick.planned_ms, "CYCLE_%Y%m%d_%H%M%S")
    cycle_id, count = base, 1
    while world.recorded("round", {"label": cycle_id}):
        count += 1
        cycle_id = f"{base}_{count}"
    return cycle_id


def _ad_hoc(spec: CycleSpec, root: _Root, args: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts of one command that stands in no registry."""
    config = TaskConfig(
        command=tuple(args["command"]),
        env=tuple(args.get("env", ())),
        secret=tuple(args.get("secret", ())),
        network=network_of(args.get("network", "any")),
        write=tuple(args.get("write", ())),
        level=args.get("level", ""),
        timeout_s=args.get("timeout_ms", 0) / 1000 or None,
    )
    row = Registered(
        task_id=0,
        task_name="command",
        agent_id=spec.agent,
        task_config="{}",
        config=config,
    )
    return {**_located(root, row), "folder": str(args.get("folder", "")), "config": config_of(row)}


def config_of(row: Registered) -> dict[str, Any]:
    """Return what a command without a registry row was granted, as a canonical value."""
    timeout_s, network = row.config.timeout_s, row.config.network
    return {
        "command": list(row.config.command),
        "env": list(row.config.env),
        "secret": list(row.config.secret),
        "network": network if isinstance(network, str) else list(network),
        "level": row.config.level,
        "timeout_ms": int(timeout_s * 1000) if timeout_s else 0,
    }


def _located(root: _Root, row: Registered) -> dict[str, Any]:
    """Return the facts of one row: what would be executed, or why it cannot be."""
    facts: dict[str, Any] = {
        "task_id": row.task_id,
        "task_name": row.task_name,
        "agent_id": row.agent_id,
        "task_config": row.task_config,
        "problem": row.problem,
    }
    if row.problem:
        return facts
    try:
        if row.config.function_path:
            path, digest = _script(root, row.config.function_path)
            facts["argv"] = [sys.executable, path, *row.config.args]
        else:
            path, digest = _program(root, row.config.command[0])
            facts["argv"] = [path, *row.config.command[1:], *row.config.args]
        if row.config.write:
            facts["write"] = [str(root.given.absolute() / path) for path in row.config.write]
        facts["folder"] = root.resolved
        if digest:
            facts["folder"] = os.path.dirname(path)  # noqa: PTH120 - as in `_script`
            facts["script"] = {"path": path, "root": root.resolved, "digest": digest}
    except Usage as error:
        facts["problem"] = str(error)
    return facts


def _script(root: _Root, given: str) -> tuple[str, str]:
    """Return the resolved path of a file below the root and its digest. Raises: usage."""
    # As text: every cycle asks for each of its files, and a Path takes as long as the question.
    try:
        path = os.path.realpath(os.path.join(root.given, given), strict=True)  # noqa: PTH118
    except (OSError, ValueError) as error:
        raise Usage(f"Function file not found: {root.given / given}") from error
    resolved = root.resolved
    if path != resolved and not path.startswith(f"{resolved.rstrip(os.sep)}{os.sep}"):
        asked = root.given / given
        is_below = asked.absolute().is_relative_to(root.given.absolute())
        how = "through a link " if is_below else ""
        if ".." in Path(given).parts:
            how = ""
        raise Usage(f"function_path {given} leads {how}out of the root {resolved}")
    if not os.path.isfile(path):  # noqa: PTH113
        raise Usage(f"function_path {given} is not a file")
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123
            return path, hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise Usage(f"{path}: {error.strerror}") from error


def _program(root: _Root, given: str) -> tuple[str, str]:
    """Return the path of a command's program, and its digest when it lies below the root."""
    if os.sep not in given:
        import shutil  # lazy: 2 ms that only a command without a path needs

        found = shutil.which(given)
        if found is None:
            raise Usage(f"command not found: {given}")
        return found, ""
    if Path(given).is_absolute():
        if not os.access(given, os.X_OK):
            raise Usage(f"command not found or not executable: {given}")
        return given, ""
    return _script(root, given)
