"""What `normalized` of a market event must hold, for the eleven event types of version 1.

Other event types are welcome and kept; nothing is known of their keys. Names of fields are those of
the contract. A nullable one may be absent, which means null.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, TypeAlias

import msgspec
from msgspec import Meta

#: The largest instant, epoch ms: what every JSON reader keeps exactly.
INSTANT_MAX: Final = 2**53 - 1
#: Epoch milliseconds.
Instant: TypeAlias = Annotated[int, Meta(ge=0, le=INSTANT_MAX)]
#: Price and quantity.
Level: TypeAlias = tuple[float, float]
Side: TypeAlias = Literal["buy", "sell"] | None
ErrorKind: TypeAlias = Literal[
    "decode_error", "schema_mismatch", "missing_required_field", "parse_error"
]


class _Keys(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Required keys; others are allowed."""


class TradeTick(_Keys, frozen=True, kw_only=True):
    """One trade."""

    price: float
    quantity: float
    #: The side of who took it.
    side: Side = None


class BookTop(_Keys, frozen=True, kw_only=True):
    """The best bid and the best ask."""

    best_bid_price: float
    best_bid_quantity: float
    best_ask_price: float
    best_ask_quantity: float


class BookDelta(_Keys, frozen=True, kw_only=True):
    """Changed levels of a book."""

    bids: tuple[Level, ...]
    asks: tuple[Level, ...]


class Candle(_Keys, frozen=True, kw_only=True):
    """A bar."""

    open: float
    high: float
    low: float
    close: float
    volume: float
    interval_ms: Instant
    is_final: bool | None = None


class FundingRate(_Keys, frozen=True, kw_only=True):
    """The funding rate of a perpetual contract."""

    funding_rate: float


class OpenInterest(_Keys, frozen=True, kw_only=True):
    """Contracts that are open."""

    open_interest: float


class MarkPrice(_Keys, frozen=True, kw_only=True):
    """The price by which positions are valued."""

    mark_price: float


class IndexPrice(_Keys, frozen=True, kw_only=True):
    """The price of the underlying index."""

    index_price: float


class LiquidationPrint(_Keys, frozen=True, kw_only=True):
    """A forced trade."""

    price: float
    quantity: float
    side: Side = None


class SnapshotInputs(_Keys, frozen=True, kw_only=True):
    """What an engine's snapshot is made from; what is not known is left out, never made up."""

    #: The engine timestamp that it is for.
    timestamp_ms: Instant
    market: Mapping[str, Any] | msgspec.UnsetType = msgspec.UNSET
    derivatives: Mapping[str, Any] | msgspec.UnsetType = msgspec.UNSET
    flow: Mapping[str, Any] | msgspec.UnsetType = msgspec.UNSET
    context: Mapping[str, Any] | msgspec.UnsetType = msgspec.UNSET


class DecodeFailure(_Keys, frozen=True, kw_only=True):
    """Input that was no event; it stands in `raw_payload` as it arrived."""

    error_kind: ErrorKind
    #: For people: never an address or an instant.
    error_detail: str


#: Event type -> the keys of its `normalized`.
EVENT_TYPES: Final[Mapping[str, type[msgspec.Struct]]] = {
    kind.__name__: kind
    for kind in (
        TradeTick,
        BookTop,
        BookDelta,
        Candle,
        FundingRate,
        OpenInterest,
        MarkPrice,
        IndexPrice,
        LiquidationPrint,
        SnapshotInputs,
        DecodeFailure,
    )
}
#: Event type -> the keys that its `normalized` must have.
REQUIRED: Final[Mapping[str, tuple[str, ...]]] = {
    name: tuple(field.name for field in msgspec.structs.fields(kind) if field.required)
    for name, kind in EVENT_TYPES.items()
}
#: The keys that are numbers with a fraction.
FLOATS: Final = frozenset(
    field.name
    for kind in EVENT_TYPES.values()
    for field in msgspec.structs.fields(kind)
    if field.type is float
)
#: Event types that streams make or look for.
DECODE_FAILURE: Final = DecodeFailure.__name__
SNAPSHOT_INPUTS: Final = SnapshotInputs.__name__
