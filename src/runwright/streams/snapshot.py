"""What an engine sees of a SnapshotInputs event: its values where they were given, else MISSING.

Nothing is computed, converted or filled in. None was given by somebody and stays None. A missing
part is missing in each of its fields.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

import msgspec

from runwright.streams.missing import MISSING, Missing, frozen, is_marker, text_of, unmarked

Number: TypeAlias = float | int | Missing | None
Text: TypeAlias = str | Missing | None

EVENT_TYPE: Final = b"SnapshotInputs"
#: JSON can only spell that word differently with an escape; a single byte is found much faster.
ESCAPE: Final = b"\\u"
_BACKSLASH: Final = b"\\"


class SnapshotInvalid(ValueError):
    """A SnapshotInputs event holds a value of a type that its field does not have."""


class _Part(msgspec.Struct, frozen=True, kw_only=True):
    """One part of a snapshot; a field that was not given is MISSING."""


class MarketSnapshot(_Part, frozen=True, kw_only=True):
    """The market itself."""

    price: Number = MISSING
    vwap: Number = MISSING
    atr: Number = MISSING
    atr_z: Number = MISSING
    range_expansion: Number = MISSING
    #: Name -> level; what is missing in it is MISSING at its own path.
    structure_levels: Mapping[str, Any] | Missing | None = MISSING
    acceptance_score: Number = MISSING
    sweep_score: Number = MISSING


class DerivativesSnapshot(_Part, frozen=True, kw_only=True):
    """Open interest, funding and liquidations."""

    open_interest: Number = MISSING
    oi_slope_short: Number = MISSING
    oi_slope_med: Number = MISSING
    oi_accel: Number = MISSING
    funding_rate: Number = MISSING
    funding_slope: Number = MISSING
    funding_z: Number = MISSING
    liquidation_intensity: Number = MISSING


class FlowSnapshot(_Part, frozen=True, kw_only=True):
    """Who buys and who sells."""

    cvd: Number = MISSING
    cvd_slope: Number = MISSING
    cvd_efficiency: Number = MISSING
    aggressive_volume_ratio: Number = MISSING


class ContextSnapshot(_Part, frozen=True, kw_only=True):
    """What stands around it."""

    rs_vs_btc: Number = MISSING
    beta_to_btc: Number = MISSING
    alt_breadth: Number = MISSING
    btc_regime: Text = MISSING
    eth_regime: Text = MISSING


class RegimeInputSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """All that was given about one symbol at one engine timestamp."""

    symbol: str
    #: The engine timestamp, epoch ms.
    timestamp: int
    market: MarketSnapshot
    derivatives: DerivativesSnapshot
    flow: FlowSnapshot
    context: ContextSnapshot

    def __reduce__(self) -> tuple[Callable[[str], RegimeInputSnapshot], tuple[str]]:
        """Have pickle send the JSON text: a read-only mapping cannot be pickled."""
        return from_text, (text_of(self),)


class Selected(NamedTuple):
    """The event that a snapshot was made of."""

    #: Its place among the events of the cut.
    place: int
    snapshot: RegimeInputSnapshot


class _Normalized(msgspec.Struct, gc=False):
    timestamp_ms: Any = None
    market: Any = MISSING
    derivatives: Any = MISSING
    flow: Any = MISSING
    context: Any = MISSING


class _Head(msgspec.Struct, gc=False):
    event_type: Any = None
    symbol: Any = None
    normalized: msgspec.Raw = msgspec.Raw(b"null")


_HEAD: Final = msgspec.json.Decoder(_Head)
_NORMALIZED: Final = msgspec.json.Decoder(_Normalized)


def select(events: Sequence[bytes], *, symbol: str, at_ms: int) -> Selected | None:
    """Return the snapshot of a cut: of the matching SnapshotInputs events the last one.

    It matches by symbol and by `normalized.timestamp_ms`. None: there is none.
    Raises: SnapshotInvalid.
    """
    if not _is_spelled(b"".join(events)):
        return None
    for index in range(len(events) - 1, -1, -1):
        event = events[index]
        if not _is_spelled(event):
            continue
        given = _matching(event, symbol, at_ms)
        if given is not None:
            return Selected(index, _built(given, symbol, at_ms))
    return None


def _is_spelled(text: bytes) -> bool:
    """Say whether the word may stand in a text: of most cuts it does not in the whole of it."""
    return EVENT_TYPE in text or (_BACKSLASH in text and ESCAPE in text)


def _matching(event: bytes, symbol: str, at_ms: int) -> _Normalized | None:
    try:
        head = _HEAD.decode(event)
        if head.event_type != "SnapshotInputs" or head.symbol != symbol:
            return None
        given = _NORMALIZED.decode(head.normalized)
    except msgspec.MsgspecError:
        # What is no event of this type by its form was kept as a DecodeFailure.
        return None
    return given if _is_instant(given.timestamp_ms, at_ms) else None


def _is_instant(value: object, at_ms: int) -> bool:
    """Say whether a value means an instant: an integer, also as an integral float or as text."""
    if isinstance(value, str):
        return value == str(at_ms)
    return type(value) in (int, float) and value == at_ms


def from_text(text: str | bytes) -> RegimeInputSnapshot:
    """Return the snapshot that `missing.text_of` made a text of. Raises: SnapshotInvalid."""
    value = msgspec.json.decode(text)
    given = msgspec.convert(value, _Normalized)
    return _built(given, value["symbol"], value["timestamp"])


def _built(given: _Normalized, symbol: str, at_ms: int) -> RegimeInputSnapshot:
    return RegimeInputSnapshot(
        symbol=symbol,
        timestamp=at_ms,
        market=_part(MarketSnapshot, given.market, "market"),
        derivatives=_part(DerivativesSnapshot, given.derivatives, "derivatives"),
        flow=_part(FlowSnapshot, given.flow, "flow"),
        context=_part(ContextSnapshot, given.context, "context"),
    )


_P = TypeVar("_P", bound=_Part)
_NUMBERS: Final[frozenset[type]] = frozenset({int, float, type(None)})
#: Fields that hold no number.
_OTHERS: Final[Mapping[str, frozenset[type]]] = {
    "btc_regime": frozenset({str, type(None)}),
    "eth_regime": frozenset({str, type(None)}),
    "structure_levels": frozenset({dict, type(None)}),
}
#: The type of a part -> (field, the types that it may have).
_FIELDS: Final[Mapping[type, Sequence[tuple[str, frozenset[type]]]]] = {
    kind: [
        (field.name, _OTHERS.get(field.name, _NUMBERS)) for field in msgspec.structs.fields(kind)
    ]
    for kind in (MarketSnapshot, DerivativesSnapshot, FlowSnapshot, ContextSnapshot)
}


def _part(kind: type[_P], given: Any, path: str) -> _P:
    """Return a part of what was given of it. Raises: SnapshotInvalid."""
    if given is MISSING or is_marker(given):
        return kind()
    if type(given) is not dict:
        raise SnapshotInvalid(f"{path} is no object: leave it out when it is not known")
    known = {}
    for name, types in _FIELDS[kind]:
        if name not in given:
            continue
        value = given[name]
        if type(value) is dict:
            value = frozen(unmarked(value))
            if value is MISSING:
                continue
        if type(given[name]) not in types:
            raise SnapshotInvalid(f"{path}.{name} is of type {type(value).__name__}")
        known[name] = value
    return kind(**known)
