"""A throw-away stream: ticks cut a log for each symbol, an engine with a memory executes the cuts.

The engine is a running hysteresis: it turns hot above one level and calm below another, and a cut
starts where the one before it ended, so an outcome that is lost, doubled or overtaken changes all
that follow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from runwright.kernel.canonical import encode
from runwright.kernel.criteria import Verdict
from runwright.kernel.ports import World
from runwright.kernel.run import Call, Outcome, Ref, Round, RunPlan, Scheduled, Tick
from runwright.kernel.workload import Paper, Seen, SpecBase, Workload, register_nothing

SYMBOLS = ("BTC", "ETH")
TICKS = 3
STEP_MS = 60_000
START_MS = 1_763_632_800_000
#: The state turns hot above the one and calm below the other.
HOT, CALM = 12, 8


class StreamSpec(SpecBase, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file of events stands in the folder."""


def write_events(folder: Path) -> None:
    """Write a log in which both symbols cross the levels, also between two cuts."""
    levels = [10, 13, 9, 7, 9, 11, 13, 12, 7, 8, 9, 14]
    lines = []
    for seq in range(len(levels) * 2):
        symbol = SYMBOLS[seq % 2]
        level = levels[(seq // 2 + (3 if symbol == "ETH" else 0)) % len(levels)]
        at_ms = START_MS + (seq + 1) * STEP_MS * TICKS // (len(levels) * 2)
        lines.append(encode({"seq": seq, "at_ms": at_ms, "symbol": symbol, "level": level}))
    (folder / "events.jsonl").write_bytes(b"\n".join(lines) + b"\n")


def observe(spec: StreamSpec, tick: Tick, world: World) -> Mapping[str, Any]:
    """Close the log at the tick: where it ends for each symbol, and what is in it up to there."""
    found: dict[str, list[bytes]] = {symbol: [] for symbol in SYMBOLS}
    ends = dict.fromkeys(SYMBOLS, -1)
    for line in (Path(spec.folder) / "events.jsonl").read_bytes().splitlines():
        event = msgspec.json.decode(line)
        if event["at_ms"] <= tick.planned_ms:
            found[event["symbol"]].append(line)
            ends[event["symbol"]] = event["seq"]
    return {
        symbol: {
            "end": ends[symbol],
            "log": msgspec.to_builtins(world.keep(b"\n".join(found[symbol]))),
        }
        for symbol in SYMBOLS
    }


def plan(seen: Seen) -> Round | None:
    """One pure round: a run for each symbol, from the end of its last cut to the end of this."""
    if seen.done:
        return None
    return Round(
        key="cut",
        runs=[
            RunPlan(
                key=symbol,
                lane=symbol,
                inputs=(Ref(**seen.facts[symbol]["log"]),),
                work=Call(
                    name=f"{__name__}:engine",
                    args={
                        "start": seen.memory.get(symbol, {"end": -1})["end"],
                        "end": seen.facts[symbol]["end"],
                    },
                ),
            )
            for symbol in SYMBOLS
        ],
    )


def engine(run: RunPlan, inputs: Sequence[bytes], memory: Mapping[str, Any] | None) -> Outcome:
    """Go through a cut with the state that the one before it left."""
    assert isinstance(run.work, Call)
    before = memory or {"state": "calm", "end": -1, "turns": 0}
    state, turns, events = before["state"], before["turns"], 0
    for line in inputs[0].splitlines():
        event = msgspec.json.decode(line)
        if not run.work.args["start"] < event["seq"] <= run.work.args["end"]:
            continue
        events += 1
        turned = "hot" if event["level"] > HOT else "calm" if event["level"] < CALM else state
        turns += turned != state
        state = turned
    value = {"state": state, "turns": turns, "events": events, "since": before["state"]}
    left = {"state": state, "turns": turns, "end": run.work.args["end"]}
    return Outcome(key=run.key, status="done", value=value, memory=left)


def judge(seen: Seen, this: Round, outcomes: Sequence[Outcome]) -> Verdict:
    """Count; the engine owns the transitions."""
    done = sum(outcome.status == "done" for outcome in outcomes)
    return Verdict(status="PASS" if done == len(this.runs) else "FAIL", counts={"done": done})


def report(
    seen: Seen, this: Round, outcomes: Sequence[Outcome], verdict: Verdict
) -> Sequence[Paper]:
    """An event for each symbol, in order, and a file of the newest state."""
    assert isinstance(seen.tick, Scheduled)
    papers = []
    for outcome in outcomes:
        body = encode({"tick": seen.tick.planned_ms, "symbol": outcome.key, **outcome.value})
        papers.append(Paper(sink="events", name=outcome.key, body=body.decode()))
        name = f"{outcome.key}/{seen.tick.planned_ms}.json"
        papers.append(Paper(sink="files", name=name, body=body.decode()))
    return papers


WORKLOAD = Workload(
    kind="stream",
    Spec=StreamSpec,
    register=register_nothing,
    observe=observe,
    plan=plan,
    judge=judge,
    report=report,
)


def ticks() -> list[Scheduled]:
    return [Scheduled(planned_ms=START_MS + (index + 1) * STEP_MS) for index in range(TICKS)]
