"""Toy engines of the simulator: every byte of a cut and of a state goes into what they answer.

What fails because of the input fails in a replay too; what fails because of the moment is told by
the stage that is set, and a replay sets none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

from runwright.streams.engine import EngineInput, HysteresisAnswer, MonotonicityViolation

#: Called with (symbol, engine_timestamp_ms) before each execution, and may raise anything.
STAGE: list[Callable[[str, int], object]] = []


def seen(given: EngineInput) -> dict[str, Any]:
    """Answer with a digest of all that was given."""
    for stage in STAGE:
        stage(given.symbol, given.engine_timestamp_ms)
    digest = hashlib.sha256(b"\n".join(given.events.raw)).hexdigest()
    drawn = hashlib.sha256(
        f"{given.config['seed']}/{given.symbol}/{given.engine_timestamp_ms}".encode()
    ).digest()[0]
    if drawn < 8:
        return {"confidence": float("nan")}
    if drawn < 12:
        raise MonotonicityViolation("drawn")
    return {
        "symbol": given.symbol,
        "timestamp": given.engine_timestamp_ms,
        "count": len(given.events),
        "digest": digest,
        "share": drawn / 7,
        "has_snapshot": given.snapshot is not None,
    }


def held(given: EngineInput, state: Mapping[str, Any] | None) -> HysteresisAnswer:
    """Answer with a chain over everything that was answered before."""
    output = seen(given)
    before = state or {"chain": "", "count": 0}
    text = f"{before['chain']}|{output}"
    after = {
        "chain": hashlib.sha256(text.encode()).hexdigest(),
        "count": before["count"] + 1,
        "half": before["count"] / 2,
    }
    return HysteresisAnswer({"selected_output": output, **after}, after)
