"""What streams-003 demands of contracts (phase 0) and of readiness (phase 8)."""

from __future__ import annotations

import hashlib
import json
import re

import msgspec
import pytest

from runwright.kernel.errors import InvalidSpec
from runwright.streams.contracts import (
    RUN_ID_FIELDS,
    EngineRunRecord,
    OrchestratorEvent,
    RawInputBufferRecord,
    run_id,
)
from runwright.streams.schema import breaks
from runwright.streams.soundness import check_spec
from runwright.streams.spec import StreamSpec, delays_ms
from tests.e2e.project import Project
from tests.streams.generate import FROZEN, PAGE, SCHEMAS
from tests.streams.test_soundness import changed

PUBLIC = {
    OrchestratorEvent: (
        "schema schema_version event_type run_id symbol engine_timestamp_ms cut_start_ingest_seq"
        " cut_end_ingest_seq cut_kind engine_mode attempt published_ts_ms counts_by_event_type"
        " payload"
    ),
    RawInputBufferRecord: "ingest_seq ingest_ts_ms event",
    EngineRunRecord: (
        "run_id symbol engine_timestamp_ms engine_mode cut_kind cut_start_ingest_seq"
        " cut_end_ingest_seq planned_ts_ms started_ts_ms completed_ts_ms status attempts"
        " error_kind error_detail"
    ),
}
#: Fields that may be absent.
OPTIONAL = frozenset(
    "engine_mode attempt published_ts_ms counts_by_event_type payload schema schema_version".split()
)


@pytest.mark.seed(
    "streams-003/contract-orchestrator-event",
    "streams-003/contract-raw-input-buffer-record",
    "streams-003/contract-engine-run-record",
)
@pytest.mark.parametrize("kind", PUBLIC, ids=lambda kind: kind.__name__)
def test_a_contract_has_the_fields_of_the_specification(kind: type[msgspec.Struct]) -> None:
    """All of them, required where they were; whatever else it has is optional."""
    public = PUBLIC[kind].split()
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    assert set(public) <= set(fields)
    for name, field in fields.items():
        is_optional = name not in public or (kind is OrchestratorEvent and name in OPTIONAL)
        assert field.required != is_optional, name


@pytest.mark.seed("streams-003/contract-retention-capacity")
def test_retention_and_capacity_are_inputs_of_the_configuration() -> None:
    """With a default, and refused at zero."""
    defaults = msgspec.convert(changed(), StreamSpec)
    assert defaults.buffer_retention.max_records == 10_000_000
    assert defaults.output_publish.max_pending == 1000
    with pytest.raises(InvalidSpec, match=r"buffer_retention\.max_records"):
        check_spec(msgspec.convert(changed(**{"buffer_retention.max_records": 0}), StreamSpec))
    spec = msgspec.convert(
        changed(**{"buffer_retention.max_records": 5, "output_publish.max_pending": 7}), StreamSpec
    )
    check_spec(spec)
    assert (spec.buffer_retention.max_records, spec.output_publish.max_pending) == (5, 7)


@pytest.mark.seed(
    "streams-003/config-scheduling",
    "streams-003/config-engine-mode",
    "streams-003/config-retry-bounds",
)
def test_the_configuration_has_modes_states_and_bounds() -> None:
    """Two modes of scheduling, two of engines, a place for states, bounds for four domains."""
    for mode, key in (("timer", "timer_interval_ms"), ("boundary", "boundary_interval_ms")):
        spec = msgspec.convert(changed(scheduler={"mode": mode, key: 360_000}), StreamSpec)
        check_spec(spec)
        assert spec.scheduler.interval_ms == 360_000
    state = {"engine.engine_mode": "hysteresis", "engine.hysteresis_state_path": "store:"}
    check_spec(msgspec.convert(changed(**state), StreamSpec))
    for domain in ("ingestion_retry", "buffer_retry", "engine_retry", "publish_retry"):
        bounds = {"min_delay_ms": 10, "max_delay_ms": 20, "max_attempts": 4}
        spec = msgspec.convert(changed(**{domain: bounds}), StreamSpec)
        check_spec(spec)
        assert delays_ms(getattr(spec, domain)) == (10, 20, 20)


@pytest.mark.seed("streams-003/run-id-derivation")
def test_a_run_id_follows_from_the_documented_fields() -> None:
    """In their documented order, and the page says why cut_start is not one of them."""
    assert run_id("TEST", 100, 10, "truth") == hashlib.sha256(b"TEST|100|10|truth").hexdigest()
    section = PAGE.read_text().partition("## The id of a run")[2].partition("\n## ")[0]
    assert tuple(re.findall(r"^- `(\w+)`$", section, re.MULTILINE)) == RUN_ID_FIELDS
    assert "`cut_start_ingest_seq` is not among them" in section


@pytest.mark.seed("streams-003/contract-replay-rules", "streams-003/contracts-additive-only")
def test_contracts_are_frozen_and_only_grow() -> None:
    """Against the frozen copies; the page says the rules of additions and of replay."""
    for file in FROZEN.iterdir():
        frozen, shipped = (
            json.loads((folder / file.name).read_bytes()) for folder in (FROZEN, SCHEMAS)
        )
        assert breaks(frozen, shipped) == []
        first = next(iter(frozen["properties"]))
        del shipped["properties"][first]
        assert f"$.properties.{first} is gone" in breaks(frozen, shipped)
    text = PAGE.read_text()
    assert "Version 1 only grows." in text
    assert "the same engine give the same outputs" in text


@pytest.mark.slow
@pytest.mark.seed(
    "streams-003/freeze-schema",
    "streams-003/freeze-minimal-keys",
    "streams-003/freeze-non-goals",
)
def test_the_freeze_note_is_printed_and_its_checks_hold(project: Project) -> None:
    """Schemas with their digests, event types, minimal keys, and every non-goal looked for."""
    note = project.done("streams", "freeze", "--json").json
    assert note["schemas"] == {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in SCHEMAS.iterdir()
    }
    assert note["output_types"][:4] == [
        "EngineRunStarted",
        "EngineRunCompleted",
        "EngineRunFailed",
        "HysteresisDecisionPublished",
    ]
    assert {"sources[0].symbols", "scheduler.mode", "engine.ref"} <= set(note["minimal_keys"])
    assert len(note["checks"]) == 6
    assert [check["violations"] for check in note["checks"]] == [[]] * 6
    text = project.done("streams", "freeze").stdout
    assert "nothing outside the engines computes on market values" in text
