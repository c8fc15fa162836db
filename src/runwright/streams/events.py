"""The events that a run publishes: Started, then the decision, then Completed or Failed.

A tick's events are built from what was planned and what came of it, and from nothing else: so the
same bytes follow from the record whenever somebody builds them again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from runwright.kernel.errors import require
from runwright.kernel.run import Call, Memory, Outcome, RunPlan
from runwright.streams.contracts import event_id

#: The sinks that deliver papers of streams, one paper a tick: JSON Lines, every symbol in order.
MEDIA: Final = "application/jsonl"
#: How many events a run publishes that ends without a decision: Started and its end.
EVENTS_MIN: Final = 2


#: error_kind of a run that ended without saying one itself, by the reason of its outcome.
_KINDS: Final[Mapping[str, str]] = {"timeout": "engine_timeout"}


class _Event(msgspec.Struct, kw_only=True, gc=False):
    """An OrchestratorEvent v1 on its way out; fields in the order of their names."""

    attempt: int
    cut_end_ingest_seq: int
    cut_kind: str
    cut_start_ingest_seq: int
    engine_mode: str
    engine_timestamp_ms: int
    event_id: str
    event_type: str
    payload: Any = msgspec.UNSET
    publish_seq: int
    run_id: str
    schema: str = "orchestrator_event"
    schema_version: str = "1"
    symbol: str


_ENCODER: Final = msgspec.json.Encoder()


def run_events(run: RunPlan, outcome: Outcome, publish_seq: int) -> list[bytes]:
    """Return the events of one run in order; the first gets the number after `publish_seq`."""
    require(isinstance(run.work, Call) and run.cut is not None, "a run of a stream has a cut")
    args: Mapping[str, Any] = run.work.args  # type: ignore[union-attr]
    # The first attempt started it; what ended it was the last.
    parts: list[tuple[str, int, Any]] = [("EngineRunStarted", 1, msgspec.UNSET)]
    value = outcome.value
    if outcome.status == "done":
        if "decision" in value:
            decision = {"hysteresis_decision": msgspec.Raw(value["decision"].encode())}
            parts.append(("HysteresisDecisionPublished", outcome.attempts, decision))
        output = {"regime_output": msgspec.Raw(value["output"].encode())}
        parts.append(("EngineRunCompleted", outcome.attempts, output))
    else:
        parts.append(("EngineRunFailed", max(1, outcome.attempts), failure_of(outcome)))
    cut, run_id = run.cut, args["run_id"]
    event = _Event(
        attempt=0,
        cut_end_ingest_seq=cut.last,  # type: ignore[union-attr]
        cut_kind=args["cut_kind"],
        cut_start_ingest_seq=cut.first,  # type: ignore[union-attr]
        engine_mode=args["engine_mode"],
        engine_timestamp_ms=args["engine_timestamp_ms"],
        event_id="",
        event_type="",
        publish_seq=publish_seq,
        run_id=run_id,
        symbol=run.key,
    )
    lines = []
    for event.event_type, event.attempt, event.payload in parts:
        event.event_id = event_id(run_id, event.event_type)
        event.publish_seq += 1
        lines.append(_ENCODER.encode(event))
    return lines


def failure_of(outcome: Outcome) -> Mapping[str, str | None]:
    """Return error_kind and error_detail of a run that failed: stable words, no text of chance."""
    kind = outcome.value.get("error_kind")
    if kind is not None:
        return {"error_detail": outcome.value.get("error_detail"), "error_kind": kind}
    return {
        "error_detail": outcome.reason,
        "error_kind": _KINDS.get(outcome.reason, "engine_failure"),
    }


def messages_of(body: bytes) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Yield (name, level, fields) of what operators are told of a tick: a line for each run.

    `orchestrator.engine_run`, and `orchestrator.failure` for one that failed, by the seed's names.
    """
    for line in body.splitlines():
        event = msgspec.json.decode(line)
        if event["event_type"] not in ("EngineRunCompleted", "EngineRunFailed"):
            continue
        fields = {
            "run_id": event["run_id"],
            "symbol": event["symbol"],
            "engine_timestamp_ms": event["engine_timestamp_ms"],
            "cut_start": event["cut_start_ingest_seq"],
            "cut_end": event["cut_end_ingest_seq"],
            "engine_mode": event["engine_mode"],
            "attempt": event["attempt"],
        }
        yield "orchestrator.engine_run", "debug", fields
        if event["event_type"] == "EngineRunFailed":
            failure = {"failure_domain": "engine", **event["payload"]}
            yield "orchestrator.failure", "warning", {**failure, **fields}


def tick_events(
    runs: Sequence[RunPlan], outcomes: Sequence[Outcome], memory: Mapping[str, Memory]
) -> Iterator[bytes]:
    """Yield the events of a tick, symbol by symbol, as lines without their ends.

    `memory` is that from before the tick: it holds the newest publish_seq of each symbol.
    """
    by_key = {outcome.key: outcome for outcome in outcomes}
    for run in runs:
        before = memory.get(run.key)
        yield from run_events(run, by_key[run.key], before["publish_seq"] if before else 0)
