"""The records of version 1: immutable, equal bytes for equal records, nothing lost (check 2)."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
import pytest

from runwright.kernel.errors import NotCanonical
from runwright.streams.contracts import (
    ERROR_KINDS,
    OPERATIONAL,
    RUN_ID_FIELDS,
    EngineRunRecord,
    HysteresisStateRecord,
    OrchestratorEvent,
    RawInputBufferRecord,
    RawMarketEvent,
    Record,
    authoritative,
    encode,
    event_id,
    read_event,
    run_id,
)
from runwright.streams.normalized import EVENT_TYPES
from runwright.streams.schema import CONTRACTS
from tests.streams.events import NORMALIZED, event

RUN = run_id("TEST", 100, 10, "truth")


def market_event(**changes: Any) -> RawMarketEvent:
    """Return an event of the contract."""
    return msgspec.convert(event(**changes), RawMarketEvent)


RECORDS: list[Record] = [
    market_event(),
    RawInputBufferRecord(ingest_seq=1, ingest_ts_ms=2, event=market_event(), segment_id=1),
    EngineRunRecord(
        run_id=RUN,
        symbol="TEST",
        engine_timestamp_ms=100,
        engine_mode="truth",
        cut_kind="boundary",
        cut_start_ingest_seq=1,
        cut_end_ingest_seq=10,
        planned_ts_ms=100,
        started_ts_ms=None,
        completed_ts_ms=None,
        status="planned",
        attempts=0,
        error_kind=None,
        error_detail=None,
    ),
    OrchestratorEvent(
        event_type="EngineRunCompleted",
        run_id=RUN,
        symbol="TEST",
        engine_timestamp_ms=100,
        cut_start_ingest_seq=1,
        cut_end_ingest_seq=10,
        cut_kind="boundary",
        attempt=1,
        published_ts_ms=105,
        counts_by_event_type={"TradeTick": 2},
        payload={"regime_output": {"regime": "CHOP_BALANCED", "drivers": ["a"]}},
        event_id=event_id(RUN, "EngineRunCompleted"),
        publish_seq=2,
    ),
    HysteresisStateRecord(
        symbol="TEST",
        engine_timestamp_ms=100,
        run_id=RUN,
        state={"stable": {"regime": "X"}, "counts": [1]},
        state_sha256="0" * 64,
        prev_state_sha256=None,
    ),
]


def mutable(value: Any, path: str = "$") -> list[str]:
    """Return the paths below a value at which something can be changed."""
    if isinstance(value, msgspec.Struct):
        found = [] if type(value).__struct_config__.frozen else [path]
        for name in value.__struct_fields__:
            found += mutable(getattr(value, name), f"{path}.{name}")
        return found
    if isinstance(value, dict):
        try:
            value["planted"] = 1
        except TypeError:
            inner = (mutable(item, f"{path}.{key}") for key, item in value.items())
            return [found for one in inner for found in one]
        return [path]
    if isinstance(value, tuple):
        inner = (mutable(item, f"{path}[{at}]") for at, item in enumerate(value))
        return [found for one in inner for found in one]
    return [path] if isinstance(value, list | set | bytearray) else []


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_a_record_is_immutable_all_the_way_down(record: Record) -> None:
    """Check 2: no field, no key and no item of any of them can be changed, decoded or made."""
    assert mutable(record) == []
    read = (
        read_event(encode(record))
        if isinstance(record, RawMarketEvent)
        else msgspec.json.decode(encode(record), type=type(record))
    )
    assert read == record
    assert mutable(read) == []
    assert hash(read) == hash(record)
    with pytest.raises(AttributeError):
        setattr(record, record.__struct_fields__[0], "x")


def test_an_open_dict_in_a_record_would_be_seen() -> None:
    """The control: the same look finds a dict and a list in a frozen Struct."""

    class Shallow(msgspec.Struct, frozen=True):
        normalized: dict[str, Any]

    assert mutable(Shallow({"a": 1})) == ["$.normalized"]
    assert mutable(([1], {1})) == ["$[0]", "$[1]"]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_equal_records_are_equal_bytes(record: Record) -> None:
    """Keys are sorted, what says nothing is left out, and what is required is always there."""
    data = encode(record)
    fields = msgspec.json.decode(data)
    assert data == msgspec.json.encode(fields, order="sorted")
    required = {f.name for f in msgspec.structs.fields(record) if f.required}
    constant = {"schema", "schema_version"} & set(record.__struct_fields__)
    assert required | constant <= fields.keys()
    assert "extra" not in fields


def test_the_run_id_is_that_of_the_vector() -> None:
    """The published vector, and every field of it counts; cut_start does not."""
    assert RUN == "977204d4613841a755fc6ec57cf63f792c20c4e2f0d3c1e796291a529fec83d3"
    assert hashlib.sha256(b"TEST|100|10|truth").hexdigest() == RUN
    others = {
        run_id("TESS", 100, 10, "truth"),
        run_id("TEST", 101, 10, "truth"),
        run_id("TEST", 100, 11, "truth"),
        run_id("TEST", 100, 10, "hysteresis"),
    }
    assert len(others | {RUN}) == 5
    assert RUN_ID_FIELDS == (
        "symbol",
        "engine_timestamp_ms",
        "cut_end_ingest_seq",
        "engine_mode",
    )


def test_an_event_id_follows_from_run_and_type() -> None:
    """Its vector, and two types of one run have two ids."""
    known = hashlib.sha256(f"{RUN}|EngineRunStarted".encode()).hexdigest()
    assert event_id(RUN, "EngineRunStarted") == known
    assert event_id(RUN, "EngineRunFailed") != known


def test_the_error_kinds_are_those_of_version_one() -> None:
    """Nine, each once."""
    assert len(set(ERROR_KINDS)) == len(ERROR_KINDS) == 9


@pytest.mark.parametrize(
    "payload",
    ["", "text", "\0 æ \U0001f4c8", b"", b"\0\xff\xfe", b"text", bytes(range(256))],
)
def test_a_payload_comes_back_with_its_bytes_and_its_type(payload: bytes | str) -> None:
    """Check 5: NUL, invalid UTF-8 and text alike, through the bytes of the event."""
    given = market_event(raw_payload="")
    made = msgspec.structs.replace(given, raw_payload=payload)
    again = read_event(encode(made)).payload
    assert (type(again), again) == (type(payload), payload)


def test_unknown_fields_stand_beside_the_others_on_the_wire() -> None:
    """Check 3: they are read as `extra`, one of that very name too, and written where they were."""
    fields = event(venue={"mic": "XOSL"}, extra=[1, 1.0], event_type="Auction")
    data = msgspec.json.encode(fields, order="sorted")
    read = read_event(data)
    assert read.extra == {"venue": {"mic": "XOSL"}, "extra": (1, 1.0)}
    assert read.event_type == "Auction"
    assert encode(read) == data


def test_an_event_without_unknown_fields_has_no_extra() -> None:
    """An empty mapping is none."""
    made = msgspec.structs.replace(market_event(), extra={})
    assert made.extra is None
    assert made == market_event()


def test_bytes_that_are_no_event_are_not_read() -> None:
    """A log holds none; a file that claims to does."""
    for data in (b"", b"[]", b"{}", b'{"schema":"other"}', b"\xff"):
        with pytest.raises(NotCanonical, match="no RawMarketEvent"):
            read_event(data)


def test_a_number_that_is_none_does_not_become_null() -> None:
    """NaN in `normalized` or in a payload is refused where the record is made."""
    with pytest.raises(NotCanonical, match=r"normalized\.price: nan"):
        msgspec.structs.replace(market_event(), normalized={"price": float("nan")})
    with pytest.raises(NotCanonical, match=r"payload\.x: inf"):
        msgspec.structs.replace(RECORDS[3], payload={"x": float("inf")})


def test_what_a_replay_need_not_give_again_is_left_out() -> None:
    """Instants of execution are operational; all else is compared."""
    run, output = RECORDS[2], RECORDS[3]
    assert isinstance(run, EngineRunRecord)
    later = msgspec.structs.replace(run, started_ts_ms=5, completed_ts_ms=6)
    assert authoritative(later) == authoritative(run)
    assert authoritative(msgspec.structs.replace(run, attempts=1)) != authoritative(run)
    assert "published_ts_ms" not in authoritative(output)
    assert "payload" in authoritative(output)
    for name, fields in OPERATIONAL.items():
        (kind,) = [kind for kind in CONTRACTS.values() if kind.__name__ == name]
        assert fields <= set(kind.__struct_fields__)


def test_every_type_of_version_one_has_a_sample() -> None:
    """The samples of these tests are complete."""
    assert set(NORMALIZED) == set(EVENT_TYPES)
    assert len(EVENT_TYPES) == 11
