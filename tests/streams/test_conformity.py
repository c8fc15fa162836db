"""What a stream publishes and shows of its runs is what version 1 says."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from runwright.kernel.run import Call, Cut, Outcome, Round, RunPlan
from runwright.streams.contracts import (
    EngineRunRecord,
    OrchestratorEvent,
    encode,
    event_id,
    run_id,
)
from runwright.streams.events import run_events
from runwright.streams.records import run_records
from runwright.streams.schema import PAYLOADS

RUN = RunPlan(
    key="TEST",
    work=Call(
        name="runwright.streams.calls:execute",
        args={
            "engine": "a:b",
            "run_id": run_id("TEST", 180_000, 10, "hysteresis"),
            "engine_mode": "hysteresis",
            "engine_timestamp_ms": 180_000,
            "cut_kind": "boundary",
        },
    ),
    cut=Cut(log="s", key="TEST", first=1, last=10),
)
OUTPUT = '{"confidence":0.5,"regime":"CHOP_BALANCED"}'
OUTCOMES = [
    Outcome(key="TEST", status="done", value={"output": OUTPUT}),
    Outcome(key="TEST", status="done", attempts=2, value={"output": OUTPUT, "decision": "{}"}),
    Outcome(key="TEST", status="failed", reason="timeout"),
    Outcome(
        key="TEST",
        status="failed",
        reason="missing_snapshot_inputs",
        value={"error_kind": "missing_snapshot_inputs"},
    ),
]


@pytest.mark.parametrize("outcome", OUTCOMES, ids=lambda one: f"{one.status}-{one.reason}")
def test_published_bytes_are_those_of_the_contract(outcome: Outcome) -> None:
    """Read by the contract and written again they are the same bytes; payloads have their keys."""
    for number, data in enumerate(run_events(RUN, outcome, 4), 5):
        read = msgspec.json.decode(data, type=OrchestratorEvent)
        assert encode(read) == data
        assert read.publish_seq == number
        assert read.event_id == event_id(read.run_id, read.event_type)
        if read.event_type == "EngineRunStarted":
            assert read.payload is None
        else:
            msgspec.convert(read.payload, PAYLOADS[read.event_type])


@pytest.mark.parametrize("outcome", [None, *OUTCOMES], ids=lambda one: one and one.status)
def test_shown_runs_are_those_of_the_contract(outcome: Outcome | None) -> None:
    """Every field that a record of a run must have, typed, planned or at its end."""
    tick: Any = SimpleNamespace(
        seq=5,
        round=Round(key="tick", runs=(RUN,)),
        outcomes={"TEST": outcome} if outcome else {},
        facts={"engine": {"sha256": "0" * 64}},
        planned=SimpleNamespace(occurrence=SimpleNamespace(planned_ms=180_000), spec="1" * 64),
    )
    (shown,) = run_records(tick)
    strict = msgspec.defstruct(
        "Strict", [], bases=(EngineRunRecord,), frozen=True, forbid_unknown_fields=True
    )
    read = msgspec.convert(shown, strict)
    ends = {"done": "completed", "failed": "failed"}
    assert read.status == (ends[outcome.status] if outcome else "planned")
