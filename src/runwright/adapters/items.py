"""Items of sources that are no bytes yet: a mapping or a row becomes the bytes of one event."""

from __future__ import annotations

import base64
import datetime as dt
import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

import msgspec

from runwright.kernel.errors import InvalidSpec

_ENCODER: Final = msgspec.json.Encoder()
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MILLISECOND: Final = dt.timedelta(milliseconds=1)


def as_bytes(item: Any, what: str) -> bytes:
    """Return the bytes of an event: bytes as they are, text as UTF-8, a mapping or Struct as JSON.

    Raises: invalid-spec for anything else, naming it as `what`.
    """
    if isinstance(item, bytes):
        return item
    try:
        if isinstance(item, str):
            return item.encode()
        if isinstance(item, msgspec.Struct):
            item = msgspec.structs.asdict(item)
        if isinstance(item, Mapping):
            return _ENCODER.encode(as_json(_with_text(item)))
    except (TypeError, ValueError, RecursionError) as error:
        message = f"{what} has no JSON form: {error}"
        raise InvalidSpec(message) from error
    message = f"{what} is of type {type(item).__name__}, not bytes, text, mapping or event"
    raise InvalidSpec(message)


def _with_text(event: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return an event whose payload is text: bytes are base64, and the event says so."""
    payload = event.get("raw_payload")
    if not isinstance(payload, bytes):
        return event
    text = base64.b64encode(payload).decode()
    return {**event, "raw_payload": text, "raw_payload_encoding": "base64"}


def as_json(value: Any) -> Any:
    """Return a value in which everything has a JSON form that loses nothing.

    What JSON cannot hold is tagged, `{"$f": "nan"}` and `{"$b64": "…"}`; an instant is epoch ms.
    """
    kind = type(value)
    if value is None or kind is str or kind is bool or kind is int:
        return value
    if isinstance(value, float):
        # A subclass of float, of numpy for one, is a float.
        return float(value) if math.isfinite(value) else {"$f": _infinite(value)}
    if isinstance(value, Mapping):
        return {key: as_json(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(inner) for inner in value]
    if isinstance(value, bytes | bytearray | memoryview):
        return {"$b64": base64.b64encode(value).decode()}
    if isinstance(value, dt.datetime):
        return instant_ms(value)
    if isinstance(value, dt.date):
        midnight = dt.datetime(value.year, value.month, value.day, tzinfo=dt.UTC)
        return instant_ms(midnight)
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, str | int):
        return value
    message = f"{kind.__name__} is no value of an event"
    raise TypeError(message)


def _infinite(value: float) -> str:
    if math.isnan(value):
        return "nan"
    return "inf" if value > 0 else "-inf"


def instant_ms(value: dt.datetime) -> int:
    """Return an instant as epoch ms, what is finer cut off; without a zone it is UTC."""
    epoch = _EPOCH if value.tzinfo else _EPOCH.replace(tzinfo=None)
    return (value - epoch) // _MILLISECOND
