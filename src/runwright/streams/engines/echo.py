"""An engine that answers with what it was given: for trying a stream, and for measuring one."""

from __future__ import annotations

from typing import Any

from runwright.streams.engine import EngineInput


def engine(given: EngineInput) -> dict[str, Any]:
    """Answer with the symbol, the timestamp and how many events the cut holds."""
    return {
        "symbol": given.symbol,
        "timestamp": given.engine_timestamp_ms,
        "events": len(given.events),
    }


def full(given: EngineInput) -> dict[str, Any]:
    """Answer with the snapshot as well, each missing value as its marker."""
    return {**engine(given), "snapshot": given.snapshot}
