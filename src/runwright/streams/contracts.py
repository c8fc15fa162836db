"""Version 1 of what a consumer of a stream sees: events in, records, runs, states, events out.

The records are deeply immutable, and equal records are equal bytes. A field without a default is
always there, null included; an optional one that has nothing to say is left out. What version 1
freezes are these fields: digests of single records follow from the log and are given by `show` and
in bundles.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, TypeAlias, get_args

import msgspec
from msgspec import Meta

from runwright.kernel.errors import NotCanonical
from runwright.streams.frozen import hold
from runwright.streams.normalized import Instant

#: The version of every contract here.
VERSION: Final = "1"
#: The fields of a run's id, in their order. cut_start follows from the run before and cut_kind
#: from the configuration, so neither tells one run from another.
RUN_ID_FIELDS: Final = ("symbol", "engine_timestamp_ms", "cut_end_ingest_seq", "engine_mode")
#: The event types of a stream's output; readers ignore those that they do not know.
OUTPUT_TYPES: Final = (
    "EngineRunStarted",
    "EngineRunCompleted",
    "EngineRunFailed",
    "HysteresisDecisionPublished",
    "HysteresisStatePublished",
)
#: Why a run failed; more may come.
ErrorKind: TypeAlias = Literal[
    "missing_snapshot_inputs",
    "snapshot_build_failure",
    "engine_timestamp_misaligned",
    "engine_failure",
    "engine_timeout",
    "engine_output_invalid",
    "hysteresis_monotonicity_violation",
    "hysteresis_persistence_failure",
    "engine_nondeterministic",
]
ERROR_KINDS: Final = get_args(ErrorKind)
EngineMode: TypeAlias = Literal["truth", "hysteresis"]
CutKind: TypeAlias = Literal["timer", "boundary"]
Status: TypeAlias = Literal["planned", "started", "completed", "failed"]

_Seq: TypeAlias = Annotated[int, Meta(ge=1)]
_Hex: TypeAlias = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
_Symbol: TypeAlias = Annotated[str, Meta(description="canonical, after any mapping")]
_RunId: TypeAlias = Annotated[
    str,
    Meta(
        pattern="^[0-9a-f]{64}$",
        description="SHA-256 of symbol, engine_timestamp_ms, cut_end_ingest_seq and engine_mode, "
        "joined by `|`",
    ),
]
_EngineTime: TypeAlias = Annotated[
    int, Meta(ge=0, description="the instant that the run is about, epoch ms")
]
_CutStart: TypeAlias = Annotated[
    int, Meta(ge=1, description="the first ingest_seq of the cut; cut_end + 1 where it is empty")
]
_CutEnd: TypeAlias = Annotated[
    int, Meta(ge=0, description="the highest ingest_seq stamped at or before planned_ts_ms")
]
_Additive: TypeAlias = Annotated[_Hex | None, Meta(description="absent where there is none")]


def _version() -> str:
    # A default that is made is always encoded.
    return VERSION


class _Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Frozen, keyword-only data whose optional fields are left out when they say nothing."""


class RawMarketEvent(_Record, frozen=True, kw_only=True):
    """One event as a source delivered it; it is never changed, deduplicated or reordered."""

    schema: Literal["raw_market_event"] = msgspec.field(default_factory=lambda: "raw_market_event")
    schema_version: Literal["1"] = msgspec.field(default_factory=_version)  # type: ignore[arg-type]
    event_type: Annotated[str, Meta(description="one of the table below; others are kept as well")]
    source_id: Annotated[str, Meta(description="the stable id of the venue or vendor")]
    symbol: _Symbol
    exchange_ts_ms: Annotated[
        Instant | None, Meta(description="from the payload, brought to ms and nothing else")
    ]
    recv_ts_ms: Annotated[Instant, Meta(description="assigned once, at receipt")]
    #: Bytes are taken as well, and become base64.
    raw_payload: Annotated[str, Meta(description="what arrived, untouched; bytes as base64")]
    raw_payload_encoding: Annotated[
        Literal["text", "base64"] | None, Meta(description="absent: text")
    ] = None
    normalized: Annotated[
        Mapping[str, Any], Meta(description="required keys by event_type, direct mappings only")
    ]
    source_event_id: str | None = None
    source_seq: int | None = None
    channel: str | None = None
    payload_content_type: str | None = None
    payload_hash: Annotated[str | None, Meta(description="SHA-256 of the payload, hex")] = None
    #: Fields that version 1 does not know, by name; on the wire they stand beside the others.
    extra: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        hold(self, "normalized", "extra")
        if isinstance(self.raw_payload, bytes):
            text, encoding = payload_text(self.raw_payload)
            msgspec.structs.force_setattr(self, "raw_payload", text)
            msgspec.structs.force_setattr(self, "raw_payload_encoding", encoding)
        if not self.extra:
            msgspec.structs.force_setattr(self, "extra", None)

    @property
    def payload(self) -> bytes | str:
        """What arrived, with the type that it had."""
        if self.raw_payload_encoding == "base64":
            return base64.b64decode(self.raw_payload, validate=True)
        return self.raw_payload


class RawInputBufferRecord(_Record, frozen=True, kw_only=True):
    """One event with its place in the log."""

    ingest_seq: Annotated[int, Meta(ge=1, description="gap-free, from 1, by the single writer")]
    ingest_ts_ms: Annotated[
        int, Meta(ge=0, description="non-decreasing, never inside a cut that is closed")
    ]
    event: Annotated[RawMarketEvent, Meta(description="byte for byte as it arrived")]
    segment_id: Annotated[
        int | None,
        Meta(description="the unit of sealing and retention"),
    ] = None


class EngineRunRecord(_Record, frozen=True, kw_only=True):
    """One run of the engine, as far as it has come; the last record of a run is in force."""

    run_id: _RunId
    symbol: _Symbol
    engine_timestamp_ms: _EngineTime
    engine_mode: EngineMode
    cut_kind: CutKind
    cut_start_ingest_seq: _CutStart
    cut_end_ingest_seq: _CutEnd
    planned_ts_ms: Annotated[
        int, Meta(ge=0, description="when it was due; committed before any attempt")
    ]
    started_ts_ms: int | None
    completed_ts_ms: int | None
    status: Annotated[Status, Meta(description="the last value of a run is part of its result")]
    attempts: Annotated[int, Meta(ge=0)]
    error_kind: Annotated[str | None, Meta(description="a stable category; the list below")]
    error_detail: Annotated[
        str | None,
        Meta(description="the name of a class; of engine_nondeterministic what differed"),
    ]
    record_seq: Annotated[_Seq | None, Meta(description="its place in the record")] = None
    snapshot_ingest_seq: Annotated[
        _Seq | None, Meta(description="the SnapshotInputs event that the engine was given")
    ] = None
    snapshot_sha256: _Additive = None
    output_sha256: _Additive = None
    state_before_sha256: _Additive = None
    state_after_sha256: _Additive = None
    engine_ref: str | None = None
    engine_sha256: _Additive = None
    config_sha256: _Additive = None


class OrchestratorEvent(_Record, frozen=True, kw_only=True):
    """What a consumer of a stream is told; at least once, in order for each symbol."""

    schema: Literal["orchestrator_event"] = msgspec.field(
        default_factory=lambda: "orchestrator_event"
    )
    schema_version: Literal["1"] = msgspec.field(default_factory=_version)  # type: ignore[arg-type]
    event_type: Annotated[str, Meta(description="one of the table below; ignore others")]
    run_id: _RunId
    symbol: _Symbol
    engine_timestamp_ms: _EngineTime
    cut_start_ingest_seq: _CutStart
    cut_end_ingest_seq: _CutEnd
    cut_kind: CutKind
    engine_mode: EngineMode | None = None
    attempt: Annotated[
        _Seq | None, Meta(description="1 in EngineRunStarted, the last one where a run ends")
    ] = None
    published_ts_ms: int | None = None
    counts_by_event_type: Annotated[
        Mapping[str, int] | None, Meta(description="events of the symbol in the cut")
    ] = None
    payload: Annotated[Mapping[str, Any] | None, Meta(description="by event_type, below")] = None
    event_id: Annotated[
        _Hex | None,
        Meta(description="SHA-256 of run_id and event_type, joined by `|`; drop duplicates by it"),
    ] = None
    publish_seq: Annotated[_Seq | None, Meta(description="gap-free for each symbol, from 1")] = None

    def __post_init__(self) -> None:
        hold(self, "payload", "counts_by_event_type")


class HysteresisStateRecord(_Record, frozen=True, kw_only=True):
    """The state that a run left for the next one of its symbol."""

    symbol: _Symbol
    engine_timestamp_ms: _EngineTime
    run_id: _RunId
    state: Annotated[Any, Meta(description="the engine's own; canonical JSON")]
    state_sha256: _Hex
    prev_state_sha256: Annotated[_Hex | None, Meta(description="null before the first state")]

    def __post_init__(self) -> None:
        hold(self, "state")


Record: TypeAlias = (
    RawMarketEvent
    | RawInputBufferRecord
    | EngineRunRecord
    | OrchestratorEvent
    | HysteresisStateRecord
)

#: Contract -> its fields that no replay gives again: instants of execution, units of storage.
OPERATIONAL: Final[Mapping[str, frozenset[str]]] = {
    "RawInputBufferRecord": frozenset({"segment_id"}),
    "EngineRunRecord": frozenset({"started_ts_ms", "completed_ts_ms"}),
    "OrchestratorEvent": frozenset({"published_ts_ms"}),
}

_ENCODER: Final = msgspec.json.Encoder(order="sorted")
_FIELDS: Final = msgspec.json.Decoder(dict[str, Any])
_EVENT_FIELDS: Final = frozenset(RawMarketEvent.__struct_fields__) - {"extra"}


def run_id(symbol: str, engine_timestamp_ms: int, cut_end_ingest_seq: int, engine_mode: str) -> str:
    """Return the id of a run: the same wherever and whenever it is planned."""
    text = f"{symbol}|{engine_timestamp_ms}|{cut_end_ingest_seq}|{engine_mode}"
    return hashlib.sha256(text.encode()).hexdigest()


def event_id(run: str, event_type: str) -> str:
    """Return the id of an output event: duplicates have the same one."""
    return hashlib.sha256(f"{run}|{event_type}".encode()).hexdigest()


def payload_text(payload: bytes | str) -> tuple[str, Literal["base64"] | None]:
    """Return a payload as it stands in JSON, and how it is written there.

    Raises: not-canonical for text with a lone surrogate, which no UTF-8 has.
    """
    if isinstance(payload, str):
        try:
            payload.encode()
        except UnicodeEncodeError as error:
            raise NotCanonical("raw_payload: lone surrogate in text") from error
        return payload, None
    return base64.b64encode(payload).decode(), "base64"


def kept_text(item: bytes) -> tuple[str, Literal["base64"] | None]:
    """Return what arrived as it stands in JSON: text where it is UTF-8."""
    try:
        return item.decode(), None
    except UnicodeDecodeError:
        return payload_text(item)


def encode(record: Record) -> bytes:
    """Return the canonical bytes of a record: sorted keys, compact, UTF-8."""
    if isinstance(record, RawMarketEvent):
        return encode_event(record)
    if isinstance(record, RawInputBufferRecord):
        event = msgspec.Raw(encode_event(record.event))
        return _ENCODER.encode({**_plain(record), "event": event})
    return _ENCODER.encode(record)


def encode_event(event: RawMarketEvent) -> bytes:
    """Return the canonical bytes of an event, with the fields that version 1 does not know."""
    if not event.extra:
        return _ENCODER.encode(event)
    known = _plain(event)
    del known["extra"]
    return _ENCODER.encode({**event.extra, **known})


def _plain(record: msgspec.Struct) -> dict[str, Any]:
    defaults = {field.name: field.default for field in msgspec.structs.fields(record)}
    given = msgspec.structs.asdict(record)
    return {name: value for name, value in given.items() if value is not defaults[name]}


def read_event(data: bytes) -> RawMarketEvent:
    """Return an event of a log as a consumer sees it.

    Raises: not-canonical when the bytes are none, which a log does not hold.
    """
    try:
        fields = _FIELDS.decode(data)
        known = {name: value for name, value in fields.items() if name in _EVENT_FIELDS}
        unknown = {name: value for name, value in fields.items() if name not in _EVENT_FIELDS}
        return msgspec.convert({**known, **({"extra": unknown} if unknown else {})}, RawMarketEvent)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise NotCanonical(f"no RawMarketEvent: {error}") from error


def authoritative(record: Record) -> dict[str, Any]:
    """Return the fields of a record that a replay must give again."""
    fields: dict[str, Any] = _FIELDS.decode(encode(record))
    left_out = OPERATIONAL.get(type(record).__name__, frozenset())
    return {name: value for name, value in fields.items() if name not in left_out}
