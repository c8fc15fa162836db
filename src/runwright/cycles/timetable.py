"""The row of orchestrator_schedule: what a spec declares, and what operators make of it.

The row drives. A row that cannot be meant is refused, and then nothing runs by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from runwright.cycles.spec import CycleSpec
from runwright.kernel.errors import Usage
from runwright.kernel.ports import World
from runwright.kernel.run import ONCE, InForce, Retry, Schedule

TABLE: Final = "orchestrator_schedule"
#: The columns that operators edit.
EDITED: Final = ("schedule_type", "cron_expression", "interval_seconds", "enabled", "config")
#: The most repeats of a failed function.
RETRIES_MAX: Final = 99
_JSON: Final = msgspec.json.Encoder(order="sorted")


class RowConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys of `config`, a closed list."""

    timezone: str = "UTC"
    #: Repeat a function that failed; None: as the spec says.
    retry_on_failure: bool | None = None
    #: How often; it says nothing while nothing is repeated.
    max_retries: int | None = None
    #: The one instant of a row of type MANUAL that is not only asked for.
    once_at: str | None = None


def declared(spec: CycleSpec) -> dict[str, Any]:
    """Return what the columns that operators edit hold when a spec was just applied."""
    schedule = spec.schedule or Schedule()
    kind = "MANUAL"
    if schedule.interval_s is not None:
        kind = "INTERVAL"
    elif schedule.cron is not None:
        kind = "CRON"
    config: dict[str, Any] = {"timezone": schedule.timezone}
    if spec.retry.on_failure:
        config |= {"retry_on_failure": True, "max_retries": spec.retry.attempts - 1}
    if schedule.once_at is not None:
        config["once_at"] = schedule.once_at
    return {
        "schedule_type": kind,
        "cron_expression": schedule.cron,
        "interval_seconds": schedule.interval_s,
        "enabled": int(schedule.enabled),
        "config": _JSON.encode(config).decode(),
    }


def in_force(spec: CycleSpec, world: World) -> InForce:
    """Return what a spec runs by, as its row stands now."""
    rows = world.rows(TABLE, {"schedule_name": spec.row_name})
    if not rows:
        return InForce(refused=f"{TABLE} has no row {spec.row_name}; apply the spec again")
    row = rows[0]
    if _is_as_declared(row, spec):
        return InForce(schedule=spec.schedule)
    try:
        return InForce(schedule=_schedule(row, spec))
    except Usage as error:
        return InForce(refused=str(error))


def retry_of(spec: CycleSpec, world: World) -> Retry:
    """Return how the functions of a spec are repeated. Raises: usage for a config it cannot obey.

    A spec that was never applied has no row, and repeats as it says.
    """
    rows = world.rows(TABLE, {"schedule_name": spec.row_name})
    config = _config(rows[0]) if rows else RowConfig()
    if config.retry_on_failure is None:
        return spec.retry
    attempts = spec.retry.attempts
    if config.retry_on_failure:
        attempts = 1 + (attempts - 1 if config.max_retries is None else config.max_retries)
    if config.retry_on_failure and attempts == 1:
        raise _refusal(rows[0], "config.retry_on_failure: max_retries is missing or 0")
    base = spec.retry if spec.retry != ONCE else Retry()
    return msgspec.structs.replace(base, attempts=attempts, on_failure=config.retry_on_failure)


def _schedule(row: Mapping[str, Any], spec: CycleSpec) -> Schedule | None:
    """Return the schedule of a row, with the policies of its spec. Raises: usage."""
    kind, config = row["schedule_type"], _config(row)
    cron, interval_s = row["cron_expression"], row["interval_seconds"]
    if kind == "EVENT_DRIVEN":
        raise _refusal(row, "schedule_type: EVENT_DRIVEN is not something that cycles run by")
    if kind not in ("CRON", "INTERVAL", "MANUAL"):
        raise _refusal(row, f"schedule_type: {kind!r} is none of CRON, INTERVAL, MANUAL")
    if kind == "CRON" and not cron:
        raise _refusal(row, "cron_expression: a row of type CRON needs one")
    if kind == "INTERVAL" and interval_s is None:
        raise _refusal(row, "interval_seconds: a row of type INTERVAL needs one")
    if config.once_at is not None and kind != "MANUAL":
        raise _refusal(row, f"config.once_at: a row of type {kind} has none")
    if kind != "CRON" and config.timezone != "UTC":
        raise _refusal(row, f"config.timezone: {config.timezone!r}: only CRON has one")
    if kind != "CRON" and cron:
        raise _refusal(row, f"cron_expression: a row of type {kind} has none")
    if kind != "INTERVAL" and interval_s is not None:
        raise _refusal(row, f"interval_seconds: a row of type {kind} has none")
    if kind == "MANUAL" and config.once_at is None:
        return None
    base = spec.schedule or Schedule()
    return Schedule(
        once_at=config.once_at,
        interval_s=interval_s,
        anchor=base.anchor if kind == "INTERVAL" else "",
        cron=cron or None,
        timezone=config.timezone,
        dst=base.dst if kind == "CRON" else Schedule().dst,
        misfire=base.misfire,
        overlap=base.overlap,
        deadline_s=base.deadline_s,
        pause_on_failures=base.pause_on_failures,
        enabled=bool(row["enabled"]),
    )


def _config(row: Mapping[str, Any]) -> RowConfig:
    try:
        config = msgspec.json.decode(row["config"] or "{}", type=RowConfig)
    except msgspec.ValidationError as error:
        text, _, path = str(error).partition(" - at `$")
        where = f"config{path.rstrip('`')}" if path else "config"
        raise _refusal(row, f"{where}: {text}") from error
    except msgspec.DecodeError as error:
        raise _refusal(row, f"config: broken JSON: {error}") from error
    if config.max_retries is not None and not 0 <= config.max_retries <= RETRIES_MAX:
        raise _refusal(
            row, f"config.max_retries: {config.max_retries} is not within 0 to {RETRIES_MAX}"
        )
    return config


def _is_as_declared(row: Mapping[str, Any], spec: CycleSpec) -> bool:
    wanted = declared(spec)
    try:
        held, config = (msgspec.json.decode(it["config"] or "{}") for it in (row, wanted))
    except msgspec.DecodeError:
        return False
    return held == config and all(row[name] == wanted[name] for name in EDITED if name != "config")


def _refusal(row: Mapping[str, Any], text: str) -> Usage:
    return Usage(f"{TABLE} {row['schedule_name']}: {text}")
