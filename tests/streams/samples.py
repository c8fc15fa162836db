"""Published events for tests: those of runs of several symbols, as a stream publishes them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from runwright.kernel.ports import Delivery
from runwright.streams.contracts import event_id

INTERVAL_MS = 180_000


def event(symbol: str, publish_seq: int, **changed: Any) -> bytes:
    """Return one event of a symbol: odd numbers start a run, even ones complete it."""
    run = (publish_seq + 1) // 2
    event_type = "EngineRunStarted" if publish_seq % 2 else "EngineRunCompleted"
    run_id = f"{symbol}-{run}"
    value = {
        "schema": "orchestrator_event",
        "schema_version": "1",
        "event_type": event_type,
        "run_id": run_id,
        "symbol": symbol,
        "engine_timestamp_ms": run * INTERVAL_MS,
        "event_id": event_id(run_id, event_type),
        "publish_seq": publish_seq,
        **changed,
    }
    return json.dumps(value, separators=(",", ":")).encode()


def events(count: int, symbols: Iterable[str] = ("BTC", "ETH")) -> list[bytes]:
    """Return the first events of each symbol, those of a tick beside each other."""
    return [event(symbol, number) for number in range(1, count + 1) for symbol in symbols]


def delivery(data: Iterable[bytes], name: str = "tick") -> Delivery:
    """Return the paper that holds events."""
    body = b"".join(line + b"\n" for line in data)
    return Delivery(id=name, name=name, body=body, media="application/x-ndjson")


def of(symbol: str, data: Iterable[bytes]) -> list[bytes]:
    """Return the events of one symbol."""
    return [line for line in data if json.loads(line)["symbol"] == symbol]
