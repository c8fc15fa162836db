"""A stream of a few events in a project, for the tests of its commands."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from tests.e2e.project import Project

START_MS = 1_763_632_800_000
MINUTE_MS = 60_000
SYMBOLS = ("BTC", "ETH")


def event(symbol: str, at_ms: int, **fields: Any) -> str:
    """Return a trade as a line."""
    return json.dumps(
        {
            "schema": "raw_market_event",
            "schema_version": "1",
            "event_type": "TradeTick",
            "source_id": "feed",
            "symbol": symbol,
            "exchange_ts_ms": at_ms,
            "recv_ts_ms": at_ms,
            "raw_payload": "as it came",
            "normalized": {"price": 100.5, "quantity": 2, "side": "buy"},
            **fields,
        }
    )


def history(minutes: int = 3, each: int = 4) -> Iterator[str]:
    """Yield some trades of both symbols in each of so many minutes."""
    for minute in range(minutes):
        for number in range(each):
            at_ms = START_MS + minute * MINUTE_MS + 1 + number * MINUTE_MS // each
            yield from (event(symbol, at_ms) for symbol in SYMBOLS)


def stream(project: Project, *lines: str, **fields: Any) -> None:
    """Write a file of events and apply a stream of it, by the events' own time."""
    project.write("events.jsonl", "".join(line + "\n" for line in lines or history()))
    project.done("apply", spec(project, **fields))


def spec(project: Project, **fields: Any) -> Any:
    """Write the spec of the stream `toy`; JSON is YAML too."""
    engine = {
        "ref": "runwright.streams.engines.echo:engine",
        "alignment_ms": MINUTE_MS,
        "input": "events",
        "isolation": "inline",
        "determinism_check": "off",
    }
    scheduler = {"mode": "boundary", "boundary_interval_ms": MINUTE_MS, "time": "events"}
    source = {
        "source_id": "feed",
        "symbols": list(SYMBOLS),
        "file": {"path": "events.jsonl", "format": "jsonl"},
    }
    whole: Mapping[str, Any] = {
        "kind": "streams",
        "name": "toy",
        "sources": [source],
        "scheduler": {**scheduler, **fields.pop("scheduler", {})},
        "engine": {**engine, **fields.pop("engine", {})},
        **fields,
    }
    return project.write("toy.yaml", json.dumps(whole, indent=1))


def published(project: Project) -> list[dict[str, Any]]:
    """Return what the stream published, in order."""
    done = project.done("streams", "tail", "toy", "--no-follow")
    return [json.loads(line) for line in done.stdout.splitlines()]
