"""Derives the plan of recorded ticks again, from the log, the spec and what came of earlier ticks.

Nothing of the recorded plan is trusted: the instants come from the grid, the cuts from the log, the
numbers from the outcomes before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import msgspec

from runwright.kernel.errors import require
from runwright.kernel.ports import World
from runwright.kernel.run import Memory, Outcome, Round, RunPlan, Scheduled
from runwright.kernel.workload import Seen
from runwright.streams.observe import observe
from runwright.streams.plan import plan
from runwright.streams.spec import StreamSpec


class Deviation(msgspec.Struct, frozen=True, kw_only=True):
    """A planned field that comes out otherwise."""

    planned_ms: int
    symbol: str
    field: str
    recorded: Any
    derived: Any


def derived_round(
    spec: StreamSpec, planned_ms: int, at: int, memory: Mapping[str, Memory], world: World
) -> tuple[Round, Mapping[str, Any]]:
    """Return the round that the log and the spec lead to, and the facts it was planned by."""
    tick = Scheduled(planned_ms=planned_ms)
    facts = observe(spec, tick, world)
    seen = Seen(spec=spec, tick=tick, at=at, facts=facts, memory=memory)
    planned = plan(seen)
    require(planned is not None, "a tick of a stream has a round")
    return cast("Round", planned), facts


def deviations(
    planned_ms: int, recorded: Sequence[RunPlan], derived: Sequence[RunPlan]
) -> Iterator[Deviation]:
    """Yield the fields of the planned runs of a tick that come out otherwise."""
    ours = {run.key: msgspec.to_builtins(run) for run in derived}
    theirs = {run.key: msgspec.to_builtins(run) for run in recorded}
    for symbol in sorted({*ours, *theirs}):
        one, other = theirs.get(symbol), ours.get(symbol)
        if one == other:
            continue
        if one is None or other is None:
            yield Deviation(
                planned_ms=planned_ms,
                symbol=symbol,
                field="run",
                recorded=one is not None,
                derived=other is not None,
            )
            continue
        for field, left, right in _fields(one, other):
            yield Deviation(
                planned_ms=planned_ms, symbol=symbol, field=field, recorded=left, derived=right
            )


def _fields(
    one: Mapping[str, Any], other: Mapping[str, Any], path: str = ""
) -> Iterator[tuple[str, Any, Any]]:
    for key in sorted({*one, *other}):
        left, right = one.get(key), other.get(key)
        name = f"{path}{key}"
        if isinstance(left, dict) and isinstance(right, dict):
            yield from _fields(left, right, f"{name}.")
        elif left != right:
            yield name, left, right


def memory_after(
    runs: Sequence[RunPlan], outcomes: Mapping[str, Outcome], memory: dict[str, Memory]
) -> None:
    """Put what each run left of the numbers that plans depend on in the place of what was there."""
    for run in runs:
        leaves = dict(run.leaves or {})
        outcome = outcomes[run.key]
        if outcome.status == "done" and "decision" in outcome.value:
            leaves["publish_seq"] += 1
        memory[run.key] = leaves
