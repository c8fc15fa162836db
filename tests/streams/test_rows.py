"""Rows become events by their mapping; what cannot is a failure around the row."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from runwright.kernel.errors import InvalidSpec
from runwright.streams.contracts import RawMarketEvent, read_event
from runwright.streams.decode import Decoder
from runwright.streams.spec import FileSource, Mapped, Source, StdinSource

CANDLE = Mapped(
    event_type="Candle",
    columns={
        "recv_ts_ms": "Date",
        "exchange_ts_ms": "Date",
        **{f"normalized.{name.lower()}": name for name in "Open High Low Close Volume".split()},
    },
    constants={"normalized.interval_ms": 86_400_000, "normalized.is_final": True},
    time_unit="iso",
)
HEADER = b"Date,Open,High,Low,Close,Volume"


def csv_source(mapping: Mapped = CANDLE, *symbols: str) -> Source:
    """Return a source of CSV."""
    return Source(
        source_id="file",
        symbols=symbols or ("SPX",),
        stdin=StdinSource(format="csv", mapping=mapping),
    )


def one(mapping: Mapped, row: dict[str, Any], *symbols: str) -> RawMarketEvent:
    """Return what a row of a JSON or Parquet source becomes."""
    file = FileSource(path="x", format="parquet", mapping=mapping)
    source = Source(source_id="file", symbols=symbols or ("SPX",), file=file)
    decoded = Decoder.of(source).decode([msgspec.json.encode(row)], 7)
    assert len(decoded.items) == 1
    return read_event(decoded.items[0])


def test_rows_of_csv_become_candles() -> None:
    """The first line names the columns; the row is the payload, as it arrived."""
    decoder = Decoder.of(csv_source())
    first = decoder.decode([HEADER, b'2024-01-02,"4.5",4.6e0,4,4.5,1_0'], 7)
    assert first.kinds == ["DecodeFailure"]
    decoded = decoder.decode([b'2024-01-02,"4.5",4.6e0,4,4.5,10\r'], 7)
    read = read_event(decoded.items[0])
    assert read.raw_payload == '2024-01-02,"4.5",4.6e0,4,4.5,10\r'
    assert read.recv_ts_ms == read.exchange_ts_ms == decoded.stamps[0] == 1_704_153_600_000
    assert (read.source_id, decoded.keys) == ("file", ["SPX"])
    assert read.normalized == {
        "open": 4.5,
        "high": 4.6,
        "low": 4.0,
        "close": 4.5,
        "volume": 10.0,
        "interval_ms": 86_400_000,
        "is_final": True,
    }


def test_columns_are_known_without_a_first_line() -> None:
    """By the mapping, or handed in where a source goes on in the middle."""
    row = b"2024-01-02,1,2,0,1,5"
    names = tuple(HEADER.decode().split(","))
    in_mapping = csv_source(msgspec.structs.replace(CANDLE, header=names))
    for decoder in (Decoder.of(in_mapping), Decoder.of(csv_source(), names)):
        assert decoder.header == names
        assert decoder.decode([row], 7).kinds == ["Candle"]
    begun = Decoder.of(csv_source())
    assert begun.header == ()
    assert begun.decode([b"\xef\xbb\xbf" + HEADER], 7).items == []
    assert begun.header == names


def test_a_header_that_is_none_is_refused() -> None:
    """One that is handed in; as the first item of a source it is a failure (next test)."""
    with pytest.raises(InvalidSpec, match="file: the first line is no header: a column stands tw"):
        Decoder.of(csv_source(), ["Date", " Date"])
    assert Decoder.of(csv_source()).decode([b"Date,Date"], 7).kinds == ["DecodeFailure"]


def test_after_a_broken_first_line_nothing_is_dropped() -> None:
    """The line itself and each row after it are failures."""
    decoder = Decoder.of(csv_source())
    rows = [b'"Date', b"2024-01-02,1,2,0,1,5"]
    assert decoder.decode(rows, 7).kinds == ["DecodeFailure"] * 2
    decoded = decoder.decode(rows[1:], 7)
    assert read_event(decoded.items[0]).normalized["error_detail"] == (
        "the first line names no columns"
    )


@pytest.mark.parametrize(
    ("row", "kind", "detail"),
    [
        (b"2024-01-02,1,2,0,,5", "missing_required_field", "normalized.close is empty"),
        (b"2024-01-02,1,2,0,nan,5", "parse_error", "Close: 'nan' is no number"),
        (b"2024-01-02,1,2,0,inf,5", "parse_error", "Close: 'inf' is no number"),
        (b"2024-01-02,1,2,0,1e400,5", "schema_mismatch", "Close: beyond what a number holds"),
        (b"2024-01-02,1,2,0,1_0,5", "parse_error", "Close: '1_0' is no number"),
        (b"yesterday,1,2,0,1,5", "parse_error", "Date: 'yesterday' is not ISO 8601"),
        (b"1960-01-01,1,2,0,1,5", "schema_mismatch", "Expected `int` >= 0"),
        (b"2024-01-02,1,2,0,1", "parse_error", "5 cells in a row of 6 columns"),
        (b'"2024-01-02', "parse_error", "broken CSV"),
        (b"", "parse_error", "0 cells in a row of 6 columns"),
        (b"2024-01-02,1,2,0,1,5\xff", "decode_error", "not UTF-8 text"),
        (b"2024-01-02,1,2,0,1,5\n2024-01-02,1,2,0,1,5", "parse_error", "broken CSV"),
        (b"2024-01-02,1,2,0,1," + b"5" * 200_000, "parse_error", "field larger than"),
        (b"," * (1024 * 1024 + 1), "schema_mismatch", "larger than"),
    ],
)
def test_a_row_that_cannot_be_read_is_a_failure(row: bytes, kind: str, detail: str) -> None:
    """With the kind, the column and the row; the rows beside it are candles."""
    good = b"2024-01-02,1,2,0,1,5"
    decoded = Decoder.of(csv_source()).decode([HEADER, good, row, good], 7)
    assert decoded.kinds == ["Candle", "DecodeFailure", "Candle"]
    assert decoded.stamps[1] == 0
    failed = read_event(decoded.items[1])
    assert failed.normalized["error_kind"] == kind
    assert detail in failed.normalized["error_detail"]
    payload = failed.payload
    assert row.startswith(payload if isinstance(payload, bytes) else payload.encode())


@pytest.mark.parametrize(
    ("unit", "value", "stamp"),
    [
        ("ms", 5, 5),
        ("ms", "5", 5),
        ("ms", 5.0, 5),
        ("ms", "5.0", 5),
        ("s", 1.5, 1500),
        ("s", "1700000000.1239", 1_700_000_000_123),
        ("us", 1_999, 1),
        ("ns", 1_700_000_000_000_999_999, 1_700_000_000_000),
        ("iso", "1970-01-01T01:00:00.0019+01:00", 1),
        ("iso", "1970-01-02", 86_400_000),
        ("iso", "1970-01-01T00:00:01Z", 1000),
    ],
)
def test_instants_are_brought_to_milliseconds(unit: Any, value: object, stamp: int) -> None:
    """And to nothing else; what is finer is cut off."""
    mapping = Mapped(event_type="Note", columns={"recv_ts_ms": "at"}, time_unit=unit)
    assert one(mapping, {"at": value}).recv_ts_ms == stamp


@pytest.mark.parametrize(
    ("field", "value", "found"),
    [
        ("normalized.price", "1.50", 1.5),
        ("normalized.price", 2, 2.0),
        ("normalized.price", ".5", 0.5),
        ("normalized.side", "BUY", "buy"),
        ("normalized.side", "", None),
        ("normalized.side", None, None),
        ("source_seq", "7.0", 7),
        ("channel", 5, "5"),
    ],
)
def test_values_become_those_of_the_contract(field: str, value: object, found: object) -> None:
    """Numbers written as text, whole numbers with a point, sides in any case; empty is absent."""
    columns = {"normalized.price": "p", "normalized.quantity": "q", field: "x"}
    made = one(Mapped(event_type="TradeTick", columns=columns), {"p": 1, "q": 1, "x": value})
    assert made.event_type == "TradeTick", made
    name = field.rpartition(".")[2]
    got = made.normalized.get(name) if "." in field else getattr(made, name)
    assert (got, type(got)) == (found, type(found))
    assert made.recv_ts_ms == 7


@pytest.mark.parametrize(
    ("field", "value", "detail"),
    [
        ("normalized.price", True, "x: bool is no number"),
        ("normalized.price", [1], "x: list is no number"),
        ("normalized.side", "hold", "Invalid enum value 'hold'"),
        ("recv_ts_ms", True, "x: bool is no number"),
        ("recv_ts_ms", 1.5e300, "x: beyond 2**53 - 1"),
        ("source_seq", "7.5", "x: 7.5 is not whole"),
        ("channel", 1.5, "x: float is no text"),
    ],
)
def test_values_of_another_type_are_refused(field: str, value: object, detail: str) -> None:
    """A flag is no number, a number no text."""
    columns = {"normalized.price": "p", "normalized.quantity": "q", field: "x"}
    made = one(Mapped(event_type="TradeTick", columns=columns), {"p": 1, "q": 1, "x": value})
    assert made.event_type == "DecodeFailure"
    assert made.normalized["error_kind"] == "schema_mismatch"
    assert detail in made.normalized["error_detail"]


def test_snapshot_inputs_are_made_without_what_is_not_there() -> None:
    """Nested by dots; an empty cell is left out, never made up; text stays text."""
    mapping = Mapped(
        event_type="SnapshotInputs",
        columns={
            "recv_ts_ms": "at",
            "normalized.timestamp_ms": "at",
            "normalized.market.price": "p",
            "normalized.market.vwap": "v",
            "normalized.context.btc_regime": "r",
        },
    )
    row = {"at": 180_000, "p": "4.5", "v": "", "r": "TREND_BUILD_UP"}
    assert one(mapping, row).normalized == {
        "timestamp_ms": 180_000,
        "market": {"price": 4.5},
        "context": {"btc_regime": "TREND_BUILD_UP"},
    }


def test_symbol_and_type_may_come_from_columns() -> None:
    """Of a source with several symbols; a type that nobody knows is kept."""
    mapping = Mapped(columns={"symbol": "s", "event_type": "t", "normalized.level": "x"})
    made = one(mapping, {"s": "B", "t": "Auction", "x": "n/a"}, "A", "B")
    assert (made.symbol, made.event_type, made.normalized) == ("B", "Auction", {"level": "n/a"})
    without = one(mapping, {"s": "", "t": "Auction", "x": 1}, "A", "B")
    assert without.normalized == {
        "error_kind": "missing_required_field",
        "error_detail": "symbol is empty",
    }
    lacking = one(mapping, {"s": "B", "x": 1}, "A", "B")
    assert lacking.normalized["error_detail"] == "no column 't'"


def test_levels_of_a_book_may_be_written_as_json() -> None:
    """In a cell of CSV as in a list of Parquet."""
    mapping = Mapped(
        event_type="BookDelta", columns={"normalized.bids": "b", "normalized.asks": "a"}
    )
    made = one(mapping, {"b": "[[1, 2.5]]", "a": [[3, 4]]})
    assert made.normalized == {"bids": ((1, 2.5),), "asks": ((3, 4),)}
    assert one(mapping, {"b": "1;2", "a": []}).event_type == "DecodeFailure"
