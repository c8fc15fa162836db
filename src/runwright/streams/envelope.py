"""Validates envelopes of market events: one call for a chunk of lines, each line alone if need be.

What passes is kept as the bytes that arrived, so it is enough that readers will be able to read it.
Three passes, each slower and more lenient: known types without other fields; the same with other
fields, which are then parsed in full; single lines, unknown types among them.
"""

from __future__ import annotations

import binascii
from collections.abc import Mapping, Sequence
from operator import attrgetter, itemgetter
from typing import Annotated, Any, Final, Literal, NamedTuple, TypeAlias, Union

import msgspec
from msgspec import Meta

from runwright.streams.failure import MAX_EVENT_BYTES, Unreadable
from runwright.streams.normalized import DECODE_FAILURE, EVENT_TYPES, Instant

#: The longest symbol that an event may have, characters.
SYMBOL_MAX: Final = 256
_Symbol: TypeAlias = Annotated[str, Meta(min_length=1, max_length=SYMBOL_MAX)]
#: A failure of a source with several symbols has none.
_AnySymbol: TypeAlias = Annotated[str, Meta(max_length=SYMBOL_MAX)]


def _field(name: str, kind: Any, *default: None) -> tuple[Any, ...]:
    return (name, kind, *default)


def _fields(symbol: Any, normalized: Any) -> list[Any]:
    return [
        _field("schema", Literal["raw_market_event"]),
        _field("schema_version", Literal["1"]),
        _field("source_id", str),
        _field("symbol", symbol),
        _field("exchange_ts_ms", Instant | None),
        _field("recv_ts_ms", Instant),
        _field("raw_payload", str),
        _field("normalized", normalized),
        _field("raw_payload_encoding", Literal["text", "base64"] | None, None),
        _field("source_event_id", str | None, None),
        _field("source_seq", int | None, None),
        _field("channel", str | None, None),
        _field("payload_content_type", str | None, None),
        _field("payload_hash", str | None, None),
    ]


def _envelope(name: str, *, strict: bool) -> type[msgspec.Struct]:
    """Return the type of an envelope; a strict one refuses fields that it does not know."""
    keys: Any = EVENT_TYPES[name]
    if strict:
        known = [
            (field.name, field.type, *([] if field.required else [field.default]))
            for field in msgspec.structs.fields(keys)
        ]
        keys = msgspec.defstruct(
            f"{name}Keys", known, kw_only=True, gc=False, forbid_unknown_fields=True
        )
    symbol = _AnySymbol if name == DECODE_FAILURE else _Symbol
    return msgspec.defstruct(
        f"{name}Envelope",
        _fields(symbol, keys),
        tag_field="event_type",
        tag=name,
        kw_only=True,
        gc=False,
        forbid_unknown_fields=strict,
    )


#: An event whose type nobody knows here.
_UNKNOWN: Final = msgspec.defstruct(
    "UnknownEnvelope",
    [
        _field("event_type", Annotated[str, Meta(min_length=1, max_length=SYMBOL_MAX)]),
        *_fields(_Symbol, dict[str, Any]),
    ],
    kw_only=True,
)
_STRICT: Final = [_envelope(name, strict=True) for name in EVENT_TYPES]
_LENIENT: Final = [_envelope(name, strict=False) for name in EVENT_TYPES]
_KIND_OF: Final[Mapping[type, str]] = {
    kind: name
    for kinds in (_STRICT, _LENIENT)
    for kind, name in zip(kinds, EVENT_TYPES, strict=True)
}
_READ_STRICT: Final = msgspec.json.Decoder(Union[tuple(_STRICT)])  # noqa: UP007
_READ: Final = msgspec.json.Decoder(Union[tuple(_LENIENT)])  # noqa: UP007
_READ_UNKNOWN: Final = msgspec.json.Decoder(_UNKNOWN)
_READ_ANY: Final = msgspec.json.Decoder()
_FIRST: Final = itemgetter(0)
_LAST: Final = itemgetter(-1)
_OPENING, _CLOSING, _RETURN = b"{}\r"
_SYMBOL_OF: Final = attrgetter("symbol")
_STAMP_OF: Final = attrgetter("recv_ts_ms")
_ENCODING_OF: Final = attrgetter("raw_payload_encoding")


class Read(NamedTuple):
    """What the log and its readers need of one event beside its bytes."""

    symbol: str
    recv_ts_ms: int
    event_type: str


def read_chunk(items: Sequence[bytes]) -> tuple[list[str], list[int], list[str]] | None:
    """Return symbols, stamps and types of a chunk of known events; None: look at each alone."""
    joined = b"\n".join(items)
    if not _is_one_a_line(joined, items):
        return None
    try:
        events = _READ_STRICT.decode_lines(joined)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        try:
            # Fields that a type does not know are skipped unread, so somebody has to read them.
            _READ_ANY.decode_lines(joined)
            events = _READ.decode_lines(joined)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None
    if len(events) != len(items):
        return None
    if any(map(_ENCODING_OF, events)) and not all(map(_has_payload, events)):
        return None
    kinds = list(map(_KIND_OF.__getitem__, map(type, events)))
    return list(map(_SYMBOL_OF, events)), list(map(_STAMP_OF, events)), kinds


def _is_one_a_line(joined: bytes, items: Sequence[bytes]) -> bool:
    """Say whether a value that the chunk holds can only begin where an item begins.

    Every item begins with `{` and ends with `}`, and no line ends inside one. No string holds a
    line's end, and inside a value no `{` follows a `}`: so no value spans two items, and as many
    values as items are one in each.
    """
    if len(joined) > MAX_EVENT_BYTES and max(map(len, items)) > MAX_EVENT_BYTES:
        return False
    if joined.count(b"\n") != len(items) - 1 or not all(items):
        return False
    ends = set(map(_LAST, items))
    if ends == {_RETURN}:
        ends = {item[-2:-1] == b"}" and _CLOSING for item in items}
    return ends == {_CLOSING} and set(map(_FIRST, items)) == {_OPENING}


def _has_payload(event: Any) -> bool:
    """Say whether a payload can be given back."""
    if event.raw_payload_encoding != "base64":
        return True
    try:
        binascii.a2b_base64(event.raw_payload, strict_mode=True)
    except (binascii.Error, ValueError):
        return False
    return True


def read_item(item: bytes) -> Read:
    """Return what is needed of one event. Raises: Unreadable."""
    if len(item) > MAX_EVENT_BYTES:
        raise Unreadable("schema_mismatch", f"larger than {MAX_EVENT_BYTES} bytes")
    try:
        whole = _READ_ANY.decode(item)
    except UnicodeDecodeError as error:
        raise Unreadable("decode_error", "not UTF-8 text") from error
    except RecursionError as error:
        raise Unreadable("parse_error", "nested too deeply") from error
    except msgspec.ValidationError as error:
        raise Unreadable("schema_mismatch", str(error)) from error
    except msgspec.DecodeError as error:
        raise Unreadable("parse_error", str(error)) from error
    kind = whole.get("event_type") if isinstance(whole, dict) else None
    is_new = isinstance(kind, str) and kind not in EVENT_TYPES
    try:
        event: Any = (_READ_UNKNOWN if is_new else _READ).decode(item)
    except msgspec.ValidationError as error:
        is_missing = str(error).startswith("Object missing required field")
        why = Unreadable("missing_required_field" if is_missing else "schema_mismatch", str(error))
        raise why from error
    if not _has_payload(event):
        raise Unreadable("decode_error", "raw_payload is not base64")
    return Read(event.symbol, event.recv_ts_ms, _KIND_OF.get(type(event)) or event.event_type)
