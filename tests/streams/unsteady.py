"""Engines whose answer is not a function of their input, one reason each."""

from __future__ import annotations

import datetime as dt
import os
import random
import time
import uuid
from datetime import datetime
from typing import Any

from runwright.kernel.errors import Deferred
from runwright.streams.engine import EngineInput

_CALLS = [0]
_WORDS = frozenset({"alpha", "beta", "gamma", "delta", "epsilon", "zeta"})


def clock(given: EngineInput) -> Any:
    """Put the time of the wall into a list in the answer."""
    return {"reasons": [{"why": "gap"}, {"at": int(time.time())}]}


def today(given: EngineInput) -> Any:
    """Put the day of the wall into the answer."""
    return {"day": str(dt.date.today())}


def now(given: EngineInput) -> Any:
    """Put the hour into the answer, by a name that was imported before the clock stood still."""
    return {"year": datetime.now(tz=dt.UTC).year}


def formatted(given: EngineInput) -> Any:
    """Put the year into the answer as text."""
    return {"year": time.strftime("%Y")}


def chance(given: EngineInput) -> Any:
    """Draw a number."""
    return {"draw": random.random()}


def named(given: EngineInput) -> Any:
    """Give the answer a name of its own."""
    return {"name": str(uuid.uuid4())}


def order(given: EngineInput) -> Any:
    """Answer in the order of a set."""
    return {"words": [word for word in _WORDS]}  # noqa: C416


def hashed(given: EngineInput) -> Any:
    """Answer by the hash of a word."""
    return {"bucket": hash("alpha") % 1_000_000_007}


def address(given: EngineInput) -> Any:
    """Answer by where something stands in memory."""
    return {"at": id(given)}


def environment(given: EngineInput) -> Any:
    """Answer by the environment."""
    return {"home": os.environ.get("RUNWRIGHT_TEST_ONLY")}


def counting(given: EngineInput) -> Any:
    """Answer by how often this process was asked."""
    _CALLS[0] += 1
    return {"n": _CALLS[0]}


def failing(given: EngineInput) -> Any:
    """Answer in one process, raise in another."""
    if "PYTHONSAFEPATH" in os.environ:
        raise RuntimeError("not here")
    return {"ok": True}


def deferring(given: EngineInput) -> Any:
    """Answer in one process, ask for time in another."""
    if "PYTHONSAFEPATH" in os.environ:
        raise Deferred("not here")
    return {"ok": True}


def hanging(given: EngineInput) -> Any:
    """Answer in one process, never in another."""
    while "PYTHONSAFEPATH" in os.environ:
        time.sleep(3600)
    return {"ok": True}


def dying(given: EngineInput) -> Any:
    """Answer in one process, end the other."""
    if "PYTHONSAFEPATH" in os.environ:
        os._exit(3)
    return {"ok": True}


def decided(given: EngineInput, state: Any) -> Any:
    """Have the same output with another confidence every time."""
    decision = {"selected_output": {"regime": "CHOP"}, "confidence": time.time()}
    return {"decision": decision, "state": {"n": 1}}


def remembered(given: EngineInput, state: Any) -> Any:
    """Leave another state every time."""
    decision = {"selected_output": {"regime": "CHOP"}}
    return {"decision": decision, "state": {"seen": [1, time.time()]}}


def steady(given: EngineInput) -> Any:
    """Use all of that where the answer does not depend on it."""
    drawn = random.Random(7).random()
    began = time.monotonic()
    print("spent", time.monotonic() - began, random.random(), file=None)
    at = datetime.fromtimestamp(given.engine_timestamp_ms / 1000, dt.UTC)
    is_time = isinstance(at, datetime) and isinstance(at.date(), dt.date)
    return {"drawn": drawn, "words": sorted(_WORDS), "at": at.isoformat(), "is_time": is_time}
