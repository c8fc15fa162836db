"""Closes the log at a tick: where every cut ends, and which code the engine is."""

from __future__ import annotations

import os
from functools import cache
from typing import Any

from runwright.kernel.ports import World
from runwright.kernel.run import Facts, Tick
from runwright.streams.calls import engine_digest
from runwright.streams.spec import StreamSpec, symbols_of


def observe(spec: StreamSpec, tick: Tick, world: World) -> Facts:
    """Return the end of the log at the tick, and the first records of symbols that are new."""
    log = world.log(spec.name)
    end = log.end_at(tick.planned_ms)
    known = world.memory()
    first = {
        symbol: seq
        for symbol in symbols_of(spec)
        if symbol not in known and (seq := log.first_of(symbol, end.seq)) is not None
    }
    facts: dict[str, Any] = {
        "log": {"end": end.seq, "block": end.block, "digest": end.digest},
        "first": first,
        "engine": {"ref": spec.engine.ref, "sha256": engine_digest(spec.engine.ref)},
    }
    if spec.concurrency.max_symbols is None:
        facts["processors"] = _processors()
    return facts


@cache
def _processors() -> int:
    """Return how many there are; asking takes 20 us."""
    return os.cpu_count() or 1
