"""Engines that do what engines do: answer, answer nonsense, raise, look at the clock."""

from __future__ import annotations

import enum
import time
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import msgspec

from runwright.kernel.errors import Deferred
from runwright.streams.engine import EngineInput, HysteresisAnswer
from runwright.streams.missing import MISSING

#: The symbols that `called` was asked about.
CALLS: list[str] = []


def called(given: EngineInput, state: Any = None) -> Any:
    """Say that it was called."""
    CALLS.append(given.symbol)
    answer = {"called": True}
    return answer if state is None else {"decision": {"selected_output": answer}, "state": state}


def seen(given: EngineInput) -> dict[str, Any]:
    """Answer with all that it was given."""
    return {
        "symbol": given.symbol,
        "at": given.engine_timestamp_ms,
        "types": [event["event_type"] for event in given.events],
        "last": given.events[-1]["symbol"],
        "two": len(given.events[:2]),
        "raw": len(given.events.raw),
        "has_snapshot": given.snapshot is not None,
        "config": given.config,
    }


def fail(given: EngineInput) -> Any:
    """Raise, with a text that differs from call to call."""
    raise RuntimeError(f"no {time.perf_counter_ns()}")


def leave(given: EngineInput) -> Any:
    """Call exit, as a script would."""
    raise SystemExit(3)


def defer(given: EngineInput) -> Any:
    """Ask to be repeated."""
    raise Deferred("the model is being loaded")


def spoil(given: EngineInput) -> Any:
    """Change what it was given, as far as that goes, and count how often that was seen."""
    events = [event for event in given.events if "spoilt" in event]
    for event in given.events:
        event["spoilt"] = True  # type: ignore[index]
    try:
        given.config["window"].append(1)
    except AttributeError:
        return {"seen": len(events)}
    return {"seen": -1}


def clock(given: EngineInput) -> Any:
    """Put the time of the wall into the answer."""
    return {"reasons": [{"at": time.time()}]}


class Side(enum.StrEnum):
    """A word."""

    UP = "up"


class Level(msgspec.Struct, rename="camel"):
    """A struct with names of its own on the wire."""

    far_away: float = 0.5


@dataclass
class Answer:
    """A dataclass."""

    side: Side
    level: Level
    text: str = "grüße"


def rich(given: EngineInput) -> Any:
    """Answer with types that are JSON by another name."""
    return Answer(Side.UP, Level())


#: What an engine may answer wrongly.
WRONG: dict[str, Any] = {
    "nan": {"x": float("nan")},
    "infinity": {"x": [1, {"y": float("-inf")}]},
    "none": None,
    "list": [1],
    "text": "{}",
    "missing": MISSING,
    "bytes": {"x": b"1"},
    "decimal": {"x": Decimal("1.5")},
    "set": {"x": {1}},
    "type": {"x": Answer},
    "number_key": {1: 2},
    "surrogate": {"x": "\ud800"},
    "surrogate_key": {"\ud800": 1},
    "huge": {"x": 2**53},
    "long": {"x": "y" * 7200},
    "quotes": {"x": ['"' * 10] * 230},
}


def wrong(given: EngineInput) -> Any:
    """Answer what the configuration names."""
    return WRONG[given.config["answer"]]


def deep(given: EngineInput) -> Any:
    """Answer with something that nests without an end."""
    answer: dict[str, Any] = {}
    answer["again"] = answer
    return answer


def count(given: EngineInput, state: Any) -> Any:
    """Count its updates in its state, which it changes in place."""
    state = state or {"n": 0, "absent": MISSING}
    state["n"] += 1
    decision = {"selected_output": {"n": state["n"], "absent": state["absent"] is MISSING}}
    return HysteresisAnswer(decision, state)


#: What a hysteresis engine may answer wrongly.
UNDECIDED: dict[str, Any] = {
    "none": None,
    "output": {"regime": "CHOP_BALANCED"},
    "no_state": {"decision": {"selected_output": {"a": 1}}},
    "no_output": {"decision": {"selected_output": None}, "state": {}},
    "text": {"decision": "up", "state": {}},
    "nan": {"decision": {"selected_output": {}, "confidence": float("nan")}, "state": {}},
    "list": {"decision": {"selected_output": [1]}, "state": {}},
    "twice": {"decision": {"selected_output": {"x": "y" * 3700}}, "state": {}},
    "large_state": {"decision": {"selected_output": {}}, "state": "x" * 70_000},
}


def undecided(given: EngineInput, state: Any) -> Any:
    """Answer what the configuration names."""
    return UNDECIDED[given.config["answer"]]


no_engine = "text"
