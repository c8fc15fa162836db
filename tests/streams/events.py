"""Market events for tests: one of each type of version 1."""

from __future__ import annotations

from typing import Any

import msgspec

from runwright.streams.spec import PythonSource, Source

#: Event type -> a `normalized` that has every key.
NORMALIZED: dict[str, dict[str, Any]] = {
    "TradeTick": {"price": 100.25, "quantity": 3, "side": "buy"},
    "BookTop": {
        "best_bid_price": 1.5,
        "best_bid_quantity": 2.0,
        "best_ask_price": 1.6,
        "best_ask_quantity": 4.0,
    },
    "BookDelta": {"bids": [[1.5, 2.0]], "asks": []},
    "Candle": {
        "open": 1.0,
        "high": 2.0,
        "low": 0.5,
        "close": 1.5,
        "volume": 10.0,
        "interval_ms": 60000,
        "is_final": True,
    },
    "FundingRate": {"funding_rate": 0.0001},
    "OpenInterest": {"open_interest": 12.0},
    "MarkPrice": {"mark_price": 1.0},
    "IndexPrice": {"index_price": 1.0},
    "LiquidationPrint": {"price": 1.0, "quantity": 2.0, "side": "sell"},
    "SnapshotInputs": {"timestamp_ms": 180000, "market": {"price": 1.0, "btc": None}},
    "DecodeFailure": {"error_kind": "parse_error", "error_detail": "broken"},
}
ONE = Source(source_id="one", symbols=("A",), python=PythonSource(ref="a:b"))
TWO = Source(source_id="two", symbols=("A", "B"), python=PythonSource(ref="a:b"))


def event(event_type: str = "TradeTick", **changes: Any) -> dict[str, Any]:
    """Return an envelope; a change to `...` takes the field away."""
    fields = {
        "schema": "raw_market_event",
        "schema_version": "1",
        "event_type": event_type,
        "source_id": "binance",
        "symbol": "A",
        "exchange_ts_ms": 1_700_000_000_000,
        "recv_ts_ms": 1_700_000_000_005,
        "raw_payload": '{"e":"trade"}',
        "normalized": NORMALIZED.get(event_type, {}),
        **changes,
    }
    return {name: value for name, value in fields.items() if value is not ...}


def line(event_type: str = "TradeTick", **changes: Any) -> bytes:
    """Return an envelope as a line of JSON."""
    return msgspec.json.encode(event(event_type, **changes))
