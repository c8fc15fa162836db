"""One round: the functions in order, in one lane, each a command of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from runwright.cycles.budget import permit
from runwright.cycles.spec import CycleSpec, TaskConfig, network_of, read_config
from runwright.cycles.suspension import suspension_of
from runwright.kernel.run import Command, Retry, Round, RunPlan, Script, Warm
from runwright.kernel.workload import Seen


def plan(seen: Seen) -> Round | None:
    """Answer with the cycle, once."""
    if seen.done:
        return None
    spec: CycleSpec = seen.spec
    return Round(
        key="cycle",
        label=seen.facts["cycle_id"],
        runs=[_allowed(seen, _run(spec, task)) for task in seen.facts["tasks"]],
        pure=False,
        place="command",
        workers=1,
        # A row of orchestrator_schedule may say otherwise than the spec.
        retry=msgspec.convert(seen.facts["retry"], Retry, strict=False)
        if "retry" in seen.facts
        else spec.retry,
    )


def _allowed(seen: Seen, run: RunPlan) -> RunPlan:
    """Return a run, refused when its agent is suspended or its budget was spent before."""
    if run.refused:
        return run
    message, refusal = suspension_of(seen, run)
    if not message:
        found = permit(seen, Round(key="cycle"), run, {}, {})
        message, refusal = found.refused, found.refusal
    return msgspec.structs.replace(run, refused=message, refusal=refusal) if message else run


def _run(spec: CycleSpec, task: Mapping[str, Any]) -> RunPlan:
    config, _ = read_config(task["task_config"])
    if "config" in task:
        config = _ad_hoc(task["config"])
    script = task.get("script")
    timeout_s = spec.function_timeout_s if config.timeout_s is None else config.timeout_s
    return RunPlan(
        key=task["task_name"],
        lane="cycle",
        agent=task["agent_id"],
        refused=task["problem"],
        work=Command(
            argv=tuple(task.get("argv", ())),
            script=msgspec.convert(script, Script) if script else None,
            folder=task.get("folder", ""),
            env=config.env,
            secret=config.secret,
            network=config.network,
            write=tuple(task.get("write", ())),
            config=task["task_config"],
            limits=msgspec.structs.replace(config.limits, timeout_s=timeout_s),
            level=config.level,
            warm=Warm() if config.warm is True else config.warm or None,
        ),
    )


def _ad_hoc(config: Mapping[str, Any]) -> TaskConfig:
    return TaskConfig(
        command=tuple(config["command"]),
        env=tuple(config["env"]),
        secret=tuple(config["secret"]),
        network=network_of(config.get("network", "any")),
        level=config.get("level", ""),
        timeout_s=config["timeout_ms"] / 1000 or None,
    )
