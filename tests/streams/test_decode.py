"""What arrives is kept: envelopes as their bytes, the rest as failures (checks 3, 4, 5, 11)."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runwright.streams import envelope
from runwright.streams.contracts import RawMarketEvent, encode_event, read_event
from runwright.streams.decode import Decoded, Decoder
from runwright.streams.envelope import read_chunk
from runwright.streams.failure import KEPT_BYTES, MAX_EVENT_BYTES
from runwright.streams.normalized import EVENT_TYPES
from tests.streams.events import NORMALIZED, ONE, TWO, event, line

#: Event types that may lack a key, which then is null.
NULLABLE = {"side", "is_final", "market", "derivatives", "flow", "context"}


def decode(*items: bytes, received_ms: int = 7) -> Decoded:
    """Decode items of a source with one symbol."""
    return Decoder.of(ONE).decode(items, received_ms)


def failure(item: bytes) -> RawMarketEvent:
    """Return the failure that an item becomes, also with good ones beside it."""
    good = line()
    decoded = decode(good, item, good)
    assert decoded.kinds == ["TradeTick", "DecodeFailure", "TradeTick"]
    assert (decoded.items[0], decoded.items[2]) == (good, good)
    assert (decoded.keys, decoded.stamps[1]) == (["A"] * 3, 0)
    assert decode(item).items == [decoded.items[1]]
    # A failure is an event like others: what is kept is read again as what it is.
    assert decode(decoded.items[1]).kinds == ["DecodeFailure"]
    return read_event(decoded.items[1])


@pytest.mark.parametrize("event_type", EVENT_TYPES)
def test_every_type_of_version_one_is_kept_as_it_arrived(event_type: str) -> None:
    """Check 4: eleven types validate, in one call, and the bytes are those that came."""
    item = line(event_type, recv_ts_ms=12)
    assert read_chunk([item, item]) == (["A"] * 2, [12] * 2, [event_type] * 2)
    assert decode(item) == Decoded([item], ["A"], [12], [event_type])


@pytest.mark.parametrize(
    ("event_type", "key"),
    [(kind, key) for kind, keys in NORMALIZED.items() for key in keys if key not in NULLABLE],
)
def test_a_missing_key_makes_a_failure_with_the_payload(event_type: str, key: str) -> None:
    """Check 4: the kind of the error is right and what arrived is all there; null is no value."""
    keys = {name: value for name, value in NORMALIZED[event_type].items() if name != key}
    item = line(event_type, normalized=keys)
    failed = failure(item)
    assert failed.normalized["error_kind"] == "missing_required_field"
    assert failed.normalized["error_detail"].startswith(f"Object missing required field `{key}`")
    assert failed.payload == item.decode()
    null = failure(line(event_type, normalized={**keys, key: None}))
    assert null.normalized["error_kind"] == "schema_mismatch"


@pytest.mark.parametrize(("event_type", "key"), [("TradeTick", "side"), ("Candle", "is_final")])
def test_a_nullable_key_may_be_absent(event_type: str, key: str) -> None:
    """Check 4: absent is null, and null is null."""
    for keys in ({}, {key: None}):
        given_keys = {**NORMALIZED[event_type], **keys}
        if not keys:
            del given_keys[key]
        item = line(event_type, normalized=given_keys)
        assert decode(item).items == [item]
        assert read_event(item).normalized.get(key) is None


@pytest.mark.parametrize("name", [f for f in event() if f != "normalized"])
def test_a_missing_field_of_the_envelope_makes_a_failure(name: str) -> None:
    """Each required field of the contract, one by one."""
    failed = failure(line(**{name: ...}))
    assert failed.normalized["error_kind"] == "missing_required_field"
    assert f"`{name}`" in failed.normalized["error_detail"]


@pytest.mark.parametrize(
    ("item", "kind", "detail"),
    [
        (b"", "parse_error", "truncated"),
        (b"nonsense", "parse_error", "malformed"),
        (b"[]", "schema_mismatch", "Expected `object`"),
        (line() + line(), "parse_error", "trailing"),
        (line()[:-1], "parse_error", "truncated"),
        (b'{"a":NaN}', "parse_error", "malformed"),
        (line().replace(b'"A"', b'"\xff"'), "decode_error", "not UTF-8"),
        (line(note="x").replace(b'"x"', b'"\xff"'), "decode_error", "not UTF-8"),
        (line(note="x").replace(b'"x"', b'"\\ud800"'), "parse_error", "truncated"),
        (line(note=1).replace(b'"note":1', b'"note":1e999'), "schema_mismatch", "out of range"),
        (b"[" * 9000, "parse_error", "nested too deeply"),
        (line(schema="other"), "schema_mismatch", "$.schema"),
        (line(schema_version="2"), "schema_mismatch", "$.schema_version"),
        (line(symbol=""), "schema_mismatch", "$.symbol"),
        (line(symbol="A" * 257), "schema_mismatch", "$.symbol"),
        (line(recv_ts_ms=-1), "schema_mismatch", "$.recv_ts_ms"),
        (line(recv_ts_ms=2**53), "schema_mismatch", "$.recv_ts_ms"),
        (line(recv_ts_ms="5"), "schema_mismatch", "$.recv_ts_ms"),
        (line(recv_ts_ms=True), "schema_mismatch", "$.recv_ts_ms"),
        (line(exchange_ts_ms=-1), "schema_mismatch", "$.exchange_ts_ms"),
        (line(normalized=[]), "schema_mismatch", "$.normalized"),
        (line("Auction", normalized=5), "schema_mismatch", "$.normalized"),
        (line(event_type=5), "schema_mismatch", "$.event_type"),
        (line(raw_payload="?", raw_payload_encoding="base64"), "decode_error", "base64"),
        (line(raw_payload_encoding="hex"), "schema_mismatch", "$.raw_payload_encoding"),
    ],
)
def test_what_is_no_event_becomes_a_failure(item: bytes, kind: str, detail: str) -> None:
    """Its kind and words say what is wrong, and the payload is what arrived, byte for byte."""
    failed = failure(item)
    assert failed.normalized["error_kind"] == kind
    assert detail in failed.normalized["error_detail"]
    payload = failed.payload
    assert (payload if isinstance(payload, bytes) else payload.encode()) == item
    assert failed.payload_hash == hashlib.sha256(item).hexdigest()
    assert (failed.source_id, failed.symbol, failed.recv_ts_ms) == ("one", "A", 7)


def test_the_words_of_a_failure_are_bounded_and_the_same_every_time() -> None:
    """No address, and no more than a few hundred characters of what somebody sent."""
    item = line(schema="x" * 5000)
    detail = failure(item).normalized["error_detail"]
    assert len(detail) <= 300
    assert " at 0x" not in detail
    assert failure(item) == failure(item)


def test_a_failure_of_a_source_with_several_symbols_has_none() -> None:
    """Nobody can know whose it was."""
    decoded = Decoder.of(TWO).decode([b"x"], 7)
    assert decoded.keys == [""]
    assert read_event(decoded.items[0]).symbol == ""
    assert Decoder.of(TWO).decode(decoded.items, 7).items == decoded.items


def test_an_event_of_ten_megabytes_is_a_failure_with_its_digest() -> None:
    """Its first KiB is kept; one of the largest size is an event."""
    large = line(raw_payload="x" * 10_000_000)
    failed = failure(large)
    assert failed.normalized["error_kind"] == "schema_mismatch"
    assert failed.normalized["error_detail"] == f"larger than {MAX_EVENT_BYTES} bytes"
    assert failed.payload == large[:KEPT_BYTES].decode()
    assert failed.payload_hash == hashlib.sha256(large).hexdigest()
    largest = line(raw_payload="")
    largest = line(raw_payload="x" * (MAX_EVENT_BYTES - len(largest)))
    assert len(largest) == MAX_EVENT_BYTES
    assert decode(largest, line()).items == [largest, line()]


def test_unknown_types_and_fields_are_kept_unchanged() -> None:
    """Check 3: bytes that are nobody's order of keys and spaces, known and unknown ones mixed."""
    items = [
        b" " + line("Auction", normalized={"uncrossed": True}, venue={"mic": "XOSL"}) + b" ",
        line(count=2**70, other=1.50),
        line(normalized={**NORMALIZED["TradeTick"], "liquidity": "taker"}),
        line().replace(b'"schema":', b'"schema" :\t'),
        line() + b"\r",
    ]
    decoded = decode(*items)
    assert decoded.items == items
    assert decoded.kinds == ["Auction"] + ["TradeTick"] * 4
    for item in items:
        assert decode(item, item).items == [item, item]


def test_duplicates_are_kept_twice() -> None:
    """Check 11, as far as decoding goes."""
    item = line()
    assert decode(item, item).items == [item, item]


def test_an_undeclared_symbol_is_kept_under_its_own() -> None:
    """It just has no runs."""
    assert decode(line(symbol="ZZZ")).keys == ["ZZZ"]


def test_a_value_over_two_items_is_no_event() -> None:
    """Items that only make sense together, beside one that holds two, are three failures.

    The chunk as a whole would be as many valid lines as items.
    """
    one = line()
    cut = one.index(b",") + 1
    for tail in (b"", b"\n", b" "):
        items = [one + tail + one, one[:cut], one[cut:]]
        assert decode(*items).kinds == ["DecodeFailure"] * 3
        assert msgspec.json.Decoder().decode_lines(b"\n".join(items)) == [event()] * 3


def test_without_the_look_at_boundaries_it_would_be_taken_for_events(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The control of the test above."""
    monkeypatch.setattr(envelope, "_is_one_a_line", lambda *_: True)
    one = line()
    items = [one + b" " + one, one[:50], one[50:]]
    assert decode(*items).kinds == ["TradeTick"] * 3


@pytest.mark.parametrize("payload", [b"\0\xff\xfe", "text \0 æ"])
def test_payloads_come_back_with_their_type(payload: bytes | str) -> None:
    """Check 5: bytes with NUL and invalid UTF-8, and text, through what is kept."""
    given_event = msgspec.structs.replace(read_event(line()), raw_payload=payload)
    (item,) = decode(encode_event(given_event)).items
    again = read_event(item).payload
    assert (type(again), again) == (type(payload), payload)


@pytest.mark.parametrize(
    "thing",
    [
        event(),
        read_event(line()),
        line(),
        line().decode(),
        event(schema=..., schema_version=...),
        event(raw_payload=b"\0\xff"),
    ],
)
def test_what_an_iterator_gives_becomes_an_item(thing: Any) -> None:
    """A mapping, an event of the contract, bytes and text; a payload of bytes stays one."""
    item = Decoder.of(ONE).item_of(thing, 7)
    decoded = decode(item)
    assert (decoded.items, decoded.kinds) == ([item], ["TradeTick"])
    if isinstance(thing, dict):
        assert read_event(item).payload == thing["raw_payload"]


class Thing:
    """Nothing that JSON knows."""


LOOP: list[Any] = []
LOOP.append(LOOP)


@pytest.mark.parametrize(
    ("thing", "detail", "shown"),
    [
        (event(normalized={"price": float("nan")}), "nan is not a number", "NaN"),
        (event(note=Thing()), "event.note: Thing has no form in JSON", '"Thing"'),
        (Thing(), "Thing is no event", "Thing"),
        (LOOP, "list is no event", "list"),
        (event(note=LOOP), "nested deeper", "dict"),
        (event(note="\ud800"), "surrogates not allowed", "\\ud800"),
        (5, "int is no event", "5"),
    ],
)
def test_what_has_no_form_in_json_becomes_a_failure(thing: Any, detail: str, shown: str) -> None:
    """It is shown as nearly as text can, without an address, and NaN does not become null."""
    (item,) = decode(Decoder.of(ONE).item_of(thing, 7)).items
    failed = read_event(item)
    assert failed.normalized["error_kind"] == "schema_mismatch"
    assert detail in failed.normalized["error_detail"]
    assert shown in failed.raw_payload
    assert " at 0x" not in item.decode()


def test_nothing_of_nothing() -> None:
    """A poll that brought nothing."""
    assert decode() == Decoded([], [], [], [])


GOOD = [line(kind) for kind in EVENT_TYPES] + [
    line("Auction", extra={"a": [1]}),
    line(note="x", raw_payload=base64.b64encode(b"\0").decode(), raw_payload_encoding="base64"),
]
SPLICES = st.binary(max_size=4) | st.sampled_from(
    [b"{", b"}", b"}\n{", b"\n", b",", b'"', b"1e999", b"\\ud800", b"null", b"[", b" ", b"\r"]
)
# A good line, one with a few bytes put in its place, or two lines cut anew.
BROKEN = st.builds(
    lambda item, at, gone, splice: item[: at % len(item)] + splice + item[at % len(item) + gone :],
    st.sampled_from(GOOD),
    st.integers(0, 2000),
    st.integers(0, 3),
    SPLICES,
)
RECUT = st.builds(
    lambda one, two, at: [(one + two)[: at % len(one + two)], (one + two)[at % len(one + two) :]],
    st.sampled_from(GOOD),
    st.sampled_from(GOOD),
    st.integers(0, 2000),
)
CHUNKS = st.lists(
    st.sampled_from(GOOD).map(lambda item: [item]) | BROKEN.map(lambda item: [item]) | RECUT,
    max_size=5,
).map(lambda parts: [item for part in parts for item in part])


@pytest.mark.slow
@pytest.mark.proves("decoding is the same for a chunk as for each of its items")
@given(CHUNKS)
@settings(max_examples=400, deadline=None)
def test_a_chunk_is_decoded_as_each_of_its_items_is(items: list[bytes]) -> None:
    """The fast way accepts what the slow one accepts, and all of it can be read again."""
    decoded = decode(*items)
    alone = [decode(item) for item in items]
    assert decoded.items == [one.items[0] for one in alone]
    assert decoded.keys == [one.keys[0] for one in alone]
    assert decoded.stamps == [one.stamps[0] for one in alone]
    assert decoded.kinds == [one.kinds[0] for one in alone]
    for item, kept, kind in zip(items, decoded.items, decoded.kinds, strict=True):
        read = read_event(kept)
        assert read.event_type == kind
        assert read.payload is not None
        if kept != item:
            assert kind == "DecodeFailure"
            payload = read.payload
            assert (payload if isinstance(payload, bytes) else payload.encode()) == item
