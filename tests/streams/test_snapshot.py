"""A snapshot holds what a SnapshotInputs event gave, and MISSING where it gave nothing."""

from __future__ import annotations

import json
import pickle

import msgspec
import pytest

from runwright.streams.missing import MISSING, missing_paths, text_of
from runwright.streams.snapshot import (
    ContextSnapshot,
    DerivativesSnapshot,
    FlowSnapshot,
    MarketSnapshot,
    RegimeInputSnapshot,
    SnapshotInvalid,
    from_text,
    select,
)
from tests.streams.given import AT_MS, FULL, event, inputs, tick

PARTS = {
    "market": MarketSnapshot,
    "derivatives": DerivativesSnapshot,
    "flow": FlowSnapshot,
    "context": ContextSnapshot,
}


def built(**parts: object) -> RegimeInputSnapshot:
    """Return the snapshot of an event with these parts."""
    selected = select([inputs(**parts)], symbol="TEST", at_ms=AT_MS)
    assert selected is not None
    return selected.snapshot


def test_of_three_snapshot_inputs_the_last_matching_one_is_used() -> None:
    """Two match; a later one of another symbol and one of another time do not (check 23)."""
    events = [
        tick(),
        inputs(market={"price": 1.0}),
        inputs(market={"price": 2.0}),
        inputs(AT_MS + 180_000, market={"price": 3.0}),
        inputs(symbol="OTHER", market={"price": 4.0}),
        event("MarkPrice", timestamp_ms=AT_MS, mark_price=5.0),
        b'{"event_type":"SnapshotInputs","symbol":"TEST","normalized":7}',
        b'{"event_type":"SnapshotInputs","symbol":"TEST"',
        tick(),
    ]
    selected = select(events, symbol="TEST", at_ms=AT_MS)
    assert selected is not None
    assert (selected.place, selected.snapshot.market.price) == (2, 2.0)
    assert select(events[3:], symbol="TEST", at_ms=AT_MS) is None
    assert select([], symbol="TEST", at_ms=AT_MS) is None


def test_an_event_type_spelt_with_escapes_is_the_same_word() -> None:
    """No search over the bytes may be quicker and miss one."""
    escaped = inputs(market={"price": 9.0}).replace(b'"SnapshotInputs"', b'"Snapshot\\u0049nputs"')
    assert json.loads(escaped)["event_type"] == "SnapshotInputs"
    selected = select([inputs(market={"price": 1.0}), escaped], symbol="TEST", at_ms=AT_MS)
    assert selected is not None
    assert selected.place == 1


@pytest.mark.parametrize(
    ("given", "is_it"),
    [
        (180_000, True),
        (180_000.0, True),
        ("180000", True),
        ("180000.0", False),
        (180_000.5, False),
        (None, False),
        ([180_000], False),
    ],
)
def test_a_timestamp_is_an_integer_in_any_form(given: object, is_it: bool) -> None:
    """As integral float and as text too, as sources write them."""
    assert (select([inputs(given)], symbol="TEST", at_ms=AT_MS) is not None) is is_it


def test_a_true_timestamp_is_not_one() -> None:
    """A boolean equals 1, and is no time."""
    assert select([inputs(1)], symbol="TEST", at_ms=1) is not None
    assert select([inputs(True)], symbol="TEST", at_ms=1) is None


def test_a_full_snapshot_misses_nothing_and_keeps_every_value() -> None:
    """Integers stay integers, None stays None (check 24)."""
    snapshot = built(**FULL)
    assert missing_paths(snapshot) == frozenset()
    assert (snapshot.symbol, snapshot.timestamp) == ("TEST", AT_MS)
    for name, part in FULL.items():
        assert {key: getattr(getattr(snapshot, name), key) for key in part} == part
    assert type(snapshot.market.atr) is int
    assert snapshot.market.sweep_score is None


@pytest.mark.parametrize("absent", list(PARTS))
def test_an_absent_part_is_missing_in_each_of_its_fields(absent: str) -> None:
    """In exactly those (check 24)."""
    snapshot = built(**{name: part for name, part in FULL.items() if name != absent})
    assert missing_paths(snapshot) == {
        f"{absent}.{field}" for field in PARTS[absent].__struct_fields__
    }


@pytest.mark.parametrize(
    ("part", "field"), [(part, field) for part, given in FULL.items() for field in given]
)
def test_an_absent_field_is_missing_at_its_path_alone(part: str, field: str) -> None:
    """Left out, or given as the marker of what is missing (check 24)."""
    less = {**FULL, part: {key: value for key, value in FULL[part].items() if key != field}}
    marked = {**FULL, part: {**FULL[part], field: {"__xray_missing__": True}}}
    for given in (less, marked):
        assert missing_paths(built(**given)) == {f"{part}.{field}"}


def test_a_level_can_be_missing_at_its_own_path() -> None:
    """And a whole part can be marked as missing."""
    market = {"structure_levels": {"poc": {"__xray_missing__": True}, "vah": [1, None]}}
    snapshot = built(**{**FULL, "market": {**FULL["market"], **market}})
    assert missing_paths(snapshot) == {"market.structure_levels.poc"}
    assert built(market={"__xray_missing__": True}).market == MarketSnapshot()


@pytest.mark.parametrize("parts", [FULL, {}, {"market": {"structure_levels": {"poc": None}}}])
def test_a_snapshot_survives_text_and_pickle(parts: dict[str, object]) -> None:
    """Equal, and missing at the same paths (check 24)."""
    snapshot = built(**parts)
    for again in (from_text(text_of(snapshot)), pickle.loads(pickle.dumps(snapshot))):
        assert again == snapshot
        assert missing_paths(again) == missing_paths(snapshot)
        assert text_of(again) == text_of(snapshot)


def test_a_snapshot_is_immutable() -> None:
    """Its fields, its parts and the mapping in it."""
    snapshot = built(**FULL)
    with pytest.raises(AttributeError):
        snapshot.market.price = 2.0  # type: ignore[misc]
    with pytest.raises(TypeError):
        snapshot.market.structure_levels["poc"] = 1  # type: ignore[index]


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"market": {"price": "101.5"}}, "market.price is of type str"),
        ({"market": {"price": True}}, "market.price is of type bool"),
        ({"market": {"price": {"poc": 1}}}, "market.price is of type mappingproxy"),
        ({"market": {"structure_levels": [1]}}, "market.structure_levels is of type list"),
        ({"context": {"btc_regime": 1}}, "context.btc_regime is of type int"),
        ({"flow": None}, "flow is no object: leave it out when it is not known"),
        ({"flow": [1]}, "flow is no object: leave it out when it is not known"),
    ],
)
def test_a_value_of_another_type_is_no_snapshot(parts: dict[str, object], message: str) -> None:
    """It is refused by its path; nothing is converted."""
    with pytest.raises(SnapshotInvalid, match=message):
        built(**parts)


def test_unknown_fields_are_left_out() -> None:
    """A later version may add fields; an engine finds them in the event."""
    assert built(market={"price": 1.0, "skew": 2.0}).market == MarketSnapshot(price=1.0)
    assert MarketSnapshot().price is MISSING
    assert msgspec.json.decode(text_of(built()))["flow"]["cvd"] == {"__xray_missing__": True}
