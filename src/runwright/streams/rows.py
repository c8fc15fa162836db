"""Rows of a table become envelopes by a mapping: fields are renamed and typed, never computed.

A number may be written as text; an instant in the unit that the mapping says; a flag as true or
false; a side in any case. A flag is no number. What a row leaves empty is null, or left out where
the contract has no null for it.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any, Final

import msgspec

from runwright.streams.contracts import VERSION, kept_text
from runwright.streams.failure import Unreadable
from runwright.streams.normalized import FLOATS, INSTANT_MAX, REQUIRED
from runwright.streams.spec import Mapped, Source

_NUMBER: Final = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
#: What one of a unit is in milliseconds, as a power of ten.
_SCALES: Final = {"ms": 0, "s": 3, "us": -3, "ns": -6}
_TEXTS: Final = frozenset(
    "symbol source_id event_type channel source_event_id payload_content_type payload_hash".split()
)
_INSTANTS: Final = frozenset(["exchange_ts_ms", "recv_ts_ms", "normalized.timestamp_ms"])
_WHOLES: Final = frozenset(["source_seq", "normalized.interval_ms"])
_FLAGS: Final = frozenset(["normalized.is_final"])
_LEVELS: Final = frozenset(["normalized.bids", "normalized.asks"])
_ENCODER: Final = msgspec.json.Encoder(order="sorted")
#: The fields that a row must fill, beside those of its event type.
_NEEDED: Final = ("symbol", "event_type")


class Rows:
    """The mapping of one source, ready for its rows."""

    def __init__(self, source: Source, mapping: Mapped, header: Sequence[str] = ()) -> None:
        self._mapping = mapping
        self._format = source.format
        self.header: tuple[str, ...] = mapping.header
        if header and not self.header:
            self._take_header(header)
        self._fixed = {
            "source_id": source.source_id,
            **({"symbol": source.symbols[0]} if len(source.symbols) == 1 else {}),
            **({"event_type": mapping.event_type} if mapping.event_type else {}),
            **mapping.constants,
        }
        self._readers = {
            field: self._reader_of(field) for field in (*self._fixed, *mapping.columns)
        }

    def read_header(self, line: bytes) -> None:
        """Take the names of the columns from the first line. Raises: Unreadable."""
        self._take_header(self._cells(line))

    def _take_header(self, names: Sequence[str]) -> None:
        # A byte order mark stands before the first name of many a file.
        header = tuple(name.removeprefix("\ufeff").strip() for name in names)
        if len(set(header)) != len(header):
            raise Unreadable("parse_error", "a column stands twice in the first line")
        self.header = header

    def row_of(self, item: bytes) -> Mapping[str, Any]:
        """Return an item as a row: column -> value. Raises: Unreadable."""
        if self._format != "csv":
            return _object(item)
        cells = self._cells(item)
        if not self.header:
            raise Unreadable("parse_error", "the first line names no columns")
        if len(cells) != len(self.header):
            told = f"{len(cells)} cells in a row of {len(self.header)} columns"
            raise Unreadable("parse_error", told)
        return dict(zip(self.header, cells, strict=True))

    def _cells(self, item: bytes) -> list[str]:
        try:
            text = item.decode()
            found = list(csv.reader([text], delimiter=self._mapping.delimiter, strict=True))
        except UnicodeDecodeError as error:
            raise Unreadable("decode_error", "not UTF-8 text") from error
        except csv.Error as error:
            raise Unreadable("parse_error", f"broken CSV: {error}") from error
        if len(found) != 1:
            raise Unreadable("parse_error", "not one row of CSV")
        return found[0]

    def envelope(self, row: Mapping[str, Any], item: bytes, received_ms: int) -> bytes:
        """Return a row as the bytes of an envelope, around the line as it arrived.

        Raises: Unreadable.
        """
        payload, encoding = kept_text(item)
        event: dict[str, Any] = {
            "schema": "raw_market_event",
            "schema_version": VERSION,
            "exchange_ts_ms": None,
            "recv_ts_ms": received_ms,
            "raw_payload": payload,
            "normalized": {},
        }
        if encoding:
            event["raw_payload_encoding"] = encoding
        for field, value in self._fixed.items():
            self._put(event, field, value, "constants")
        for field, column in self._mapping.columns.items():
            if column not in row:
                raise Unreadable("missing_required_field", f"no column {column!r}")
            self._put(event, field, row[column], column)
        _require(event)
        try:
            return _ENCODER.encode(event)
        except OverflowError as error:
            raise Unreadable("schema_mismatch", "a number beyond 64 bits") from error

    def _reader_of(self, field: str) -> Callable[[Any, str], Any]:
        if field in _INSTANTS:
            return partial(_instant, self._mapping.time_unit)
        return _reader_of(field)

    def _put(self, event: dict[str, Any], field: str, value: Any, column: str) -> None:
        """Set a field by its dotted path; what was left empty stays as it was, or out."""
        if value is None or value == "":
            return
        *path, name = field.split(".")
        for part in path:
            event = event.setdefault(part, {})
        event[name] = self._readers[field](value, column)


def _require(event: Mapping[str, Any]) -> None:
    """Refuse what was left empty and may not be. Raises: Unreadable."""
    for name in _NEEDED:
        if name not in event:
            raise Unreadable("missing_required_field", f"{name} is empty")
    for name in REQUIRED.get(event["event_type"], ()):
        if name not in event["normalized"]:
            raise Unreadable("missing_required_field", f"normalized.{name} is empty")


def _object(item: bytes) -> Mapping[str, Any]:
    try:
        row = msgspec.json.decode(item)
    except UnicodeDecodeError as error:
        raise Unreadable("decode_error", "not UTF-8 text") from error
    except RecursionError as error:
        raise Unreadable("parse_error", "nested too deeply") from error
    except msgspec.MsgspecError as error:
        raise Unreadable("parse_error", str(error)) from error
    if not isinstance(row, dict):
        raise Unreadable("schema_mismatch", "a row is an object")
    return row


# --------------------------------------------------------------------------------------- values


def _reader_of(field: str) -> Callable[[Any, str], Any]:
    if field in _TEXTS:
        return _text
    if field in _WHOLES:
        return _whole
    if field in _FLAGS:
        return _flag
    if field in _LEVELS:
        return _levels
    if field == "normalized.side":
        return _side
    is_known = field.count(".") == 1 and field.partition(".")[2] in FLOATS
    return _number if is_known else _leaf


def _text(value: Any, column: str) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise Unreadable("schema_mismatch", f"{column}: {type(value).__name__} is no text")
    return str(value)


def _written(value: Any, column: str) -> str:
    """Return a number as it is written. Raises: Unreadable."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise Unreadable("schema_mismatch", f"{column}: {type(value).__name__} is no number")
    text = value.strip() if isinstance(value, str) else repr(value)
    if not _NUMBER.fullmatch(text):
        raise Unreadable("parse_error", f"{column}: {text[:40]!r} is no number")
    return text


def _number(value: Any, column: str) -> float:
    found = float(_written(value, column))
    if math.isinf(found):
        raise Unreadable("schema_mismatch", f"{column}: beyond what a number holds")
    return found


def _whole(value: Any, column: str) -> int:
    found = Decimal(_written(value, column))
    if found != found.to_integral_value():
        raise Unreadable("schema_mismatch", f"{column}: {found} is not whole")
    return _bounded(found, column)


def _bounded(found: Decimal, column: str) -> int:
    if abs(found) > INSTANT_MAX:
        raise Unreadable("schema_mismatch", f"{column}: beyond 2**53 - 1")
    return int(found)


def _instant(unit: str, value: Any, column: str) -> int:
    """Return an instant in ms; what is finer is cut off. Raises: Unreadable."""
    if unit != "iso":
        found = Decimal(_written(value, column)).scaleb(_SCALES[unit])
        return _bounded(found.to_integral_value("ROUND_FLOOR"), column)
    if not isinstance(value, str):
        raise Unreadable("schema_mismatch", f"{column}: {type(value).__name__} is not ISO 8601")
    try:
        instant = datetime.fromisoformat(value.strip())
    except ValueError as error:
        raise Unreadable("parse_error", f"{column}: {value[:40]!r} is not ISO 8601") from error
    aware = instant if instant.tzinfo else instant.replace(tzinfo=UTC)
    return (aware - _EPOCH) // timedelta(milliseconds=1)


def _flag(value: Any, column: str) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lower() in {"true", "false"}:
        return value.strip().lower() == "true"
    raise Unreadable("schema_mismatch", f"{column}: {value!r:.40} is neither true nor false")


def _side(value: Any, column: str) -> str:
    return _text(value, column).strip().lower()


def _levels(value: Any, column: str) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return msgspec.json.decode(value)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise Unreadable("parse_error", f"{column}: no list of price and quantity") from error


def _leaf(value: Any, column: str) -> Any:
    """Return a value of which the contract says nothing: a number where it is written as one."""
    if isinstance(value, str):
        return _number(value, column) if _NUMBER.fullmatch(value.strip()) else value
    return value
