"""What one seed of the simulator leads to: events, troubles and crashes, all drawn ahead.

Each kind of thing is drawn by a generator of its own, so that the crashes of a seed can be left out
and everything else stays as it was.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias

import msgspec

from runwright.kernel.canonical import encode

#: When every simulation begins: on no grid of its streams, but for some.
START_MS: Final = 1_700_000_040_000
INTERVAL_MS: Final = 60_000
#: Where the process dies: (step, when).
POINTS: Final = (
    *((step, when) for step in ("append", "plan", "commit") for when in ("before", "after")),
    *((step, "unknown") for step in ("append", "plan", "commit", "delivered", "seal")),
    *((step, when) for step in ("start", "publish", "acknowledge") for when in ("before", "after")),
    ("engine", "inside"),
    ("append", "unwritable"),
    ("commit", "unwritable"),
    *((step, when) for step in ("seal", "delivered", "other") for when in ("before", "after")),
)

Kind: TypeAlias = Literal["file", "broker", "pipe"]


class Crash(msgspec.Struct, frozen=True):
    """Where the process dies next, and how long it stays away."""

    step: str
    when: str
    #: The so-manieth time that it comes there.
    count: int
    down_s: float


class Feed(msgspec.Struct, frozen=True, kw_only=True):
    """One source: what it will bring, and when it is away."""

    name: str
    #: file: goes on at a position. broker: too, but forgets what is acknowledged. pipe: has none.
    kind: Kind
    symbols: tuple[str, ...]
    #: (seconds from the start, the bytes that arrive).
    items: tuple[tuple[float, bytes], ...]
    away: tuple[tuple[float, float], ...] = ()
    #: The most items that one poll brings.
    chunk: int = 1_000
    look_s: float | None = None


class Outage(msgspec.Struct, frozen=True):
    """For how long a sink is not well, and in which way."""

    from_s: float
    until_s: float
    how: Literal["down", "broken", "slow", "lossy", "partial"]


class Script(msgspec.Struct, frozen=True, kw_only=True):
    """All that is decided for one seed."""

    seed: int
    spec: Mapping[str, Any]
    feeds: tuple[Feed, ...]
    outages: tuple[Outage, ...]
    #: (seconds from the start, milliseconds): the wall clock is put forward or back.
    steps: tuple[tuple[float, int], ...]
    crashes: tuple[Crash, ...]
    #: Seconds from the start at which it is asked to stop, and starts again.
    stops: tuple[float, ...]
    #: Where the grid of a stream of history or of the clock stands to the start.
    start_ms: int
    seal_every_s: float
    segment_records: int
    #: How many records the log holds, and for how long; with an age, segments are retired.
    max_records: int
    max_age_ms: int | None
    #: The sink takes many papers at once.
    is_batched: bool
    #: Of a thousand runs, how many fail at first.
    failing: int

    @property
    def time(self) -> str:
        """Whose time it is: the clock's or the events'."""
        return str(self.spec["scheduler"]["time"])

    @property
    def body(self) -> bytes:
        """The spec as it is applied."""
        return encode(self.spec)

    def without_trouble(self) -> Script:
        """Return the same script for a process that lives, and is kept from nothing."""
        feeds = tuple(msgspec.structs.replace(feed, away=(), chunk=7) for feed in self.feeds)
        quiet: dict[str, Any] = {"crashes": (), "stops": (), "outages": (), "steps": ()}
        limits = {"max_records": 100_000, "max_age_ms": None}
        return msgspec.structs.replace(self, feeds=feeds, **quiet, **limits)

    def attempts_failed(self, symbol: str, at_ms: int) -> tuple[int, str]:
        """Return how many attempts of a run fail, and how."""
        drawn = _drawn(self.seed, "engine", symbol, at_ms)
        if drawn % 1000 >= self.failing:
            return 0, ""
        return 1 + drawn // 1000 % 3, ("raise", "defer", "exit")[drawn // 10_000 % 3]


def _drawn(*what: object) -> int:
    text = "/".join(map(str, what))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big")


def _die(seed: int, what: str) -> random.Random:
    return random.Random(f"{seed}/{what}")


def script_of(seed: int) -> Script:
    """Draw everything for one seed."""
    die = _die(seed, "spec")
    time = die.choice(["clock", "clock", "events"])
    ticks = die.randint(3, 9)
    spec = _spec(die, time, seed)
    steps, stops = (), ()
    if time == "clock":
        troubles = _die(seed, "clock")
        steps = tuple(
            (troubles.uniform(0, ticks * 60), troubles.choice([-3_600_000, -70_000, -900, 130_000]))
            for _ in range(troubles.choice([0, 0, 1, 2]))
        )
        stops = tuple(
            sorted(troubles.uniform(0, ticks * 60) for _ in range(troubles.choice([0, 0, 1])))
        )
    retention = _retention(_die(seed, "retention"), time)
    if retention["max_age_ms"] is not None:
        # With the clock put back, what is in the log is young for as long.
        steps = ()
    length_s = ticks * INTERVAL_MS / 1000
    return Script(
        seed=seed,
        spec=spec,
        feeds=tuple(_feeds(_die(seed, "feeds"), spec, length_s)),
        outages=tuple(_outages(_die(seed, "sink"), length_s)),
        steps=steps,
        crashes=tuple(_crashes(_die(seed, "crashes"), spec)),
        stops=stops,
        start_ms=START_MS + die.choice([0, 1, 17_311, 59_999]),
        seal_every_s=die.choice([0.0, 1.0, 30.0, 3600.0]),
        **retention,
        is_batched=die.random() < 0.5,
        failing=die.choice([0, 100, 400]),
    )


def _retention(die: random.Random, time: str) -> dict[str, Any]:
    """Return the limits of the log: in a few seeds it fills up, and old segments go."""
    segment_records = die.choice([5, 40, 65_536])
    if die.random() < 0.8:
        return {"segment_records": segment_records, "max_records": 100_000, "max_age_ms": None}
    return {
        "segment_records": 5,
        # History goes on when a tick is passed: all up to there has to fit.
        "max_records": die.choice([20, 50]) if time == "clock" else 100_000,
        "max_age_ms": die.choice([1_000, 90_000]),
    }


def _spec(die: random.Random, time: str, seed: int) -> dict[str, Any]:
    mode = die.choice(["boundary", "boundary", "timer"])
    scheduler: dict[str, Any] = {"mode": mode, "time": time}
    if mode == "boundary":
        delay_ms = die.choice([0, 500, 2_500])
        scheduler |= {"boundary_interval_ms": INTERVAL_MS, "boundary_delay_ms": delay_ms}
    else:
        scheduler["timer_interval_ms"] = INTERVAL_MS
        if die.random() < 0.5:
            scheduler["timer_anchor_ms"] = START_MS - 20 * INTERVAL_MS
    if time == "clock" and die.random() < 0.2:
        scheduler["on_restart"] = "skip"
    is_hysteresis = die.random() < 0.5
    engine: dict[str, Any] = {
        "ref": "tests.streams.engines_simulated:" + ("held" if is_hysteresis else "seen"),
        "engine_mode": "hysteresis" if is_hysteresis else "truth",
        "alignment_ms": die.choice([0, INTERVAL_MS]),
        "input": die.choice(["snapshot", "events"]),
        "isolation": "inline",
        "determinism_check": "off",
        "config": {"seed": seed},
    }
    if is_hysteresis:
        engine["hysteresis_state_path"] = "store:"
    if mode == "timer" and "timer_anchor_ms" not in scheduler and time == "events":
        # The grid of history begins where its first event is.
        engine["alignment_ms"] = 0
    transport = die.choice(["log", "jsonl", "jsonl"])
    attempts = die.choice([1, 2, 3])
    return {
        "kind": "streams",
        "name": "sim",
        "folder": ".",
        "sources": [],
        "scheduler": scheduler,
        "engine": engine,
        "engine_retry": {"min_delay_ms": 50, "max_delay_ms": 400, "max_attempts": attempts},
        "publish_retry": {"min_delay_ms": 500, "max_delay_ms": 4_000, "max_attempts": 4},
        "buffer": {"group_commit_ms": die.choice([0, 2, 2])},
        "output_publish": {
            "transport": transport,
            "path": "out.jsonl" if transport == "jsonl" else "",
            "max_pending": die.choice([1, 2, 1000]),
            "max_block_ms": die.choice([None, 5_000]),
        },
        "concurrency": {"max_symbols": die.choice([1, 2, 8])},
    }


def _feeds(die: random.Random, spec: dict[str, Any], length_s: float) -> list[Feed]:
    is_history = spec["scheduler"]["time"] == "events"
    symbols = ("AAA", "BBB", "CCC")[: die.randint(1, 3)]
    feeds = []
    for number in range(die.randint(1, 3)):
        kinds: list[Kind] = ["file", "file", "pipe"] if is_history else ["file", "broker", "pipe"]
        own = symbols if number == 0 else tuple(die.sample(symbols, die.randint(1, len(symbols))))
        name = f"source{number}"
        feed = Feed(
            name=name,
            kind=die.choice(kinds),
            symbols=own,
            items=tuple(_items(die, name, own, length_s, is_history=is_history)),
            away=tuple((at_s, at_s + die.uniform(1, 150)) for at_s in _moments(die, length_s, 2)),
            chunk=die.choice([1, 3, 10, 1_000]),
            look_s=die.choice([None, 3.0, 15.0]),
        )
        feeds.append(feed)
        one = {"path": f"{name}.jsonl", "format": "jsonl"}
        spec["sources"].append({"source_id": name, "symbols": list(own), "file": one})
    return feeds


def _moments(die: random.Random, length_s: float, most: int) -> list[float]:
    return sorted(die.uniform(0, length_s) for _ in range(die.randint(0, most)))


def _items(
    die: random.Random, name: str, symbols: tuple[str, ...], length_s: float, *, is_history: bool
) -> list[tuple[float, bytes]]:
    """Return what a source brings, in the order in which it does."""
    items: list[tuple[float, bytes]] = []
    at_s = 0.0
    while at_s < length_s and len(items) < 60:
        for _ in range(die.choice([1, 1, 2, 7])):
            # Late ones say that they were received before others that came first.
            late_s = die.choice([0, 0, 0, die.uniform(0, 130)])
            # Whole seconds, so that events of several sources have the same stamp.
            stamp_ms = START_MS + int(max(0.0, at_s - late_s)) * 1000
            item = _item(die, f"{name}/{len(items)}", die.choice(symbols), stamp_ms)
            items.append((0.0 if is_history else at_s, item))
            if die.random() < 0.05 and not item.startswith(b"broken"):
                items.append(items[-1])
        at_s += die.expovariate(1 / 12) + (die.uniform(60, 200) if die.random() < 0.05 else 0)
    return items


def _item(die: random.Random, own: str, symbol: str, stamp_ms: int) -> bytes:
    """Return one event, or what is none."""
    if die.random() < 0.05:
        return die.choice([b"broken ", b'{"schema": "raw_', b"\xff\x00 "]) + own.encode()
    kind = die.choice(["TradeTick", "SnapshotInputs", "Unheard"])
    normalized: dict[str, Any] = {"price": round(die.uniform(1, 9), 3), "quantity": 1, "side": None}
    if kind == "SnapshotInputs":
        near_ms = -(-stamp_ms // INTERVAL_MS) * INTERVAL_MS + die.choice([0, 0, 0, 0, INTERVAL_MS])
        normalized = {"timestamp_ms": near_ms, "market": {"price": round(die.uniform(1, 9), 3)}}
    event = {
        "schema": "raw_market_event",
        "schema_version": "1",
        "event_type": kind,
        "source_id": own.partition("/")[0],
        "symbol": "ZZZ" if die.random() < 0.04 else symbol,
        "exchange_ts_ms": None,
        "recv_ts_ms": stamp_ms,
        "raw_payload": "",
        "normalized": normalized,
        "source_event_id": own,
    }
    if die.random() < 0.1:
        event["of_tomorrow"] = {"n": [1, 2.5, None, "\u00e9"]}
    return msgspec.json.encode(event)


def _outages(die: random.Random, length_s: float) -> list[Outage]:
    found = []
    for at_s in _moments(die, length_s, 3):
        how = die.choice(["down", "broken", "slow", "lossy", "partial"])
        found.append(Outage(at_s, at_s + die.uniform(1, 240), how))
    return found


def _crashes(die: random.Random, spec: Mapping[str, Any]) -> list[Crash]:
    is_kept = spec["output_publish"]["transport"] == "log"
    points = [each for each in POINTS if not is_kept or each[0] not in ("publish", "delivered")]
    found = []
    for _ in range(die.choice([0, 1, 2, 3, 4, 6])):
        step, when = die.choice(points)
        down_s = die.choice([0.0, 0.2, 3.0, die.uniform(1, 90), die.uniform(60, 700)])
        found.append(Crash(step, when, min(9, 1 + int(die.expovariate(0.5))), down_s))
    return found
