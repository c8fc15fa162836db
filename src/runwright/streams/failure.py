"""Input that is no event becomes an event that says so, and why; nothing is dropped."""

from __future__ import annotations

import hashlib
from typing import Final

import msgspec

from runwright.streams.contracts import RawMarketEvent, encode_event, kept_text
from runwright.streams.normalized import DECODE_FAILURE, ErrorKind

#: The largest event, bytes.
MAX_EVENT_BYTES: Final = 1024 * 1024
#: How much of a larger one is kept, bytes; its digest is that of all of it.
KEPT_BYTES: Final = 1024
#: The longest `error_detail`, characters.
DETAIL_MAX: Final = 300


class Unreadable(Exception):
    """An item is no event: the kind of the error, and what is wrong in words."""

    def __init__(self, kind: ErrorKind, detail: str) -> None:
        super().__init__(kind, detail)
        self.kind: ErrorKind = kind
        self.detail = detail


def failure_event(
    item: bytes, why: Unreadable, *, source_id: str, symbol: str, received_ms: int
) -> bytes:
    """Return the DecodeFailure event around an item, as the bytes of an envelope."""
    kept = item if len(item) <= MAX_EVENT_BYTES else item[:KEPT_BYTES]
    text, encoding = kept_text(kept)
    event = RawMarketEvent(
        raw_payload=text,
        raw_payload_encoding=encoding,
        event_type=DECODE_FAILURE,
        source_id=source_id,
        symbol=symbol,
        exchange_ts_ms=None,
        recv_ts_ms=received_ms,
        payload_hash=hashlib.sha256(item).hexdigest(),
        normalized={"error_kind": why.kind, "error_detail": why.detail[:DETAIL_MAX]},
    )
    return encode_event(event)


class _Normalized(msgspec.Struct):
    error_kind: str = ""
    error_detail: str = ""


class _Failure(msgspec.Struct):
    event_type: str = ""
    normalized: msgspec.Raw = msgspec.Raw(b"{}")


def why_unread(event: bytes) -> str:
    """Return why an event is a DecodeFailure, for people; "" when it is none."""
    try:
        found = msgspec.json.decode(event, type=_Failure)
        if found.event_type != DECODE_FAILURE:
            return ""
        why = msgspec.json.decode(found.normalized, type=_Normalized)
    except msgspec.MsgspecError:
        return ""
    return f"{why.error_kind}: {why.error_detail}"
