"""Events, snapshots and requests for the tests of engines."""

from __future__ import annotations

from typing import Any

import msgspec

from runwright.streams.engine import EngineRequest

#: An engine timestamp on the grid of three minutes.
AT_MS = 180_000

FULL = {
    "market": {
        "price": 101.5,
        "vwap": 100.0,
        "atr": 2,
        "atr_z": 1.5,
        "range_expansion": 1.8,
        "structure_levels": {"poc": 99.5, "vah": 103},
        "acceptance_score": 0.4,
        "sweep_score": None,
    },
    "derivatives": {
        "open_interest": 1e6,
        "oi_slope_short": 0.1,
        "oi_slope_med": 0.2,
        "oi_accel": 0.0,
        "funding_rate": 0.0001,
        "funding_slope": 0.0,
        "funding_z": -0.3,
        "liquidation_intensity": None,
    },
    "flow": {
        "cvd": 12.5,
        "cvd_slope": 0.5,
        "cvd_efficiency": 0.7,
        "aggressive_volume_ratio": 0.55,
    },
    "context": {
        "rs_vs_btc": 1.01,
        "beta_to_btc": 1.2,
        "alt_breadth": 0.6,
        "btc_regime": None,
        "eth_regime": "TREND_BUILD_UP",
    },
}


def event(kind: str, *, symbol: str = "TEST", **normalized: Any) -> bytes:
    """Return a market event as it arrives."""
    return msgspec.json.encode(
        {
            "schema": "raw_market_event",
            "schema_version": "1",
            "event_type": kind,
            "source_id": "feed",
            "symbol": symbol,
            "exchange_ts_ms": None,
            "recv_ts_ms": AT_MS - 1,
            "raw_payload": "",
            "normalized": normalized,
        }
    )


def tick(price: float = 1.0) -> bytes:
    """Return a trade."""
    return event("TradeTick", price=price, quantity=1, side="buy")


def inputs(at_ms: Any = AT_MS, *, symbol: str = "TEST", **parts: Any) -> bytes:
    """Return a SnapshotInputs event with these parts."""
    return event("SnapshotInputs", symbol=symbol, timestamp_ms=at_ms, **parts)


def request(engine: str, *events: bytes, **fields: Any) -> EngineRequest:
    """Return a request to an engine of the tests, or to one by its whole name."""
    name = engine if ":" in engine else f"tests.streams.hostile:{engine}"
    known = {"symbol": "TEST", "engine_timestamp_ms": AT_MS, **fields}
    return EngineRequest(engine=name, events=events or (inputs(**FULL),), **known)
