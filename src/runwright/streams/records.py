"""EngineRunRecord v1 of recorded runs: what consumers see of the plan and of what came of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from runwright.kernel.canonical import digest
from runwright.kernel.run import Outcome, Round
from runwright.streams.calls import args_of
from runwright.streams.events import failure_of


class RecordedTick(Protocol):
    """A round of a stream as the record gives it back."""

    seq: int
    round: Round
    outcomes: dict[str, Outcome]
    facts: Any
    planned: Any


def run_records(tick: RecordedTick) -> Iterator[dict[str, Any]]:
    """Yield the effective record of each run of a tick: planned, completed or failed."""
    for run in tick.round.runs:
        args, outcome = args_of(run), tick.outcomes.get(run.key)
        record: dict[str, Any] = {
            "run_id": args["run_id"],
            "symbol": run.key,
            "engine_timestamp_ms": args["engine_timestamp_ms"],
            "engine_mode": args["engine_mode"],
            "cut_kind": args["cut_kind"],
            "cut_start_ingest_seq": run.cut.first if run.cut else 0,
            "cut_end_ingest_seq": run.cut.last if run.cut else 0,
            "planned_ts_ms": tick.planned.occurrence.planned_ms,
            "started_ts_ms": outcome.started_ms or None if outcome else None,
            "completed_ts_ms": outcome.finished_ms or None if outcome else None,
            "status": "planned",
            "attempts": outcome.attempts if outcome else 0,
            "error_kind": None,
            "error_detail": None,
            "record_seq": tick.seq,
            "engine_ref": args["engine"],
            "engine_sha256": tick.facts["engine"]["sha256"],
            "config_sha256": tick.planned.spec,
        }
        if outcome is not None and outcome.status == "done":
            record["status"] = "completed"
            record["output_sha256"] = digest(outcome.value["output"].encode())
            record["snapshot_sha256"] = outcome.value.get("snapshot_sha256")
        elif outcome is not None:
            record |= {"status": "failed", **failure_of(outcome)}
        yield record
