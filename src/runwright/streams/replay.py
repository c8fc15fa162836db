"""Executes recorded ticks again and compares what would be published with what was.

The engine gets the records of the log and the state that its own last replayed run left, so the
whole history follows from the log. A run that failed for a reason of its moment (a timeout, a
worker that died, an exception) is not executed again: its failure is told from the record, and
counted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, cast

import msgspec

from runwright.kernel.canonical import digest_of
from runwright.kernel.errors import require
from runwright.kernel.run import Cut, Memory, Outcome, RunPlan
from runwright.streams.calls import outcome_of, request_of
from runwright.streams.difference import ABSENT, Place, first_place
from runwright.streams.engine import EngineRequest, Result
from runwright.streams.events import run_events

#: Failures that follow from the log, so that a replay has to come to them too.
DERIVED: Final = frozenset(
    [
        "missing_snapshot_inputs",
        "snapshot_build_failure",
        "engine_timestamp_misaligned",
        "engine_output_invalid",
        "hysteresis_monotonicity_violation",
    ]
)
#: Differences that are kept with their values; all are counted.
DIFFERENCES_MAX: Final = 20


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """An event that comes out otherwise."""

    symbol: str
    run_id: str
    engine_timestamp_ms: int
    event_type: str
    #: Where in the event: "payload.regime_output.confidence"; "": there is no such event.
    path: str
    published: Any
    replayed: Any


class Tick(msgspec.Struct, frozen=True, kw_only=True):
    """A recorded tick."""

    planned_ms: int
    runs: Sequence[RunPlan]
    outcomes: Mapping[str, Outcome]
    #: JSON Lines, as they were published.
    published: bytes


class Replay(msgspec.Struct, kw_only=True):
    """What came of it so far."""

    ticks: int = 0
    runs: int = 0
    events: int = 0
    #: Runs that were executed again, and those whose failure was told from the record.
    executed: int = 0
    from_record: int = 0
    #: Runs that differ, and the first differences.
    different: int = 0
    differences: list[Difference] = []
    #: Ticks whose inputs are retired: nothing can be said about them.
    retired: int = 0
    memory: dict[str, Memory] = {}
    hashes: dict[str, Any] = {}

    @property
    def digest(self) -> str:
        """The replay digest: SHA-256 over {symbol: SHA-256 of its event lines}, canonical JSON."""
        return digest_of({symbol: found.hexdigest() for symbol, found in self.hashes.items()})


def replay_tick(
    so_far: Replay,
    tick: Tick,
    records: Callable[[Cut], Sequence[bytes]],
    execute: Callable[[EngineRequest], Result],
) -> None:
    """Execute one tick again. Raises: inputs-retired."""
    lines: list[bytes] = []
    bounds: list[tuple[RunPlan, int, int]] = []
    # All of them first: of a tick that cannot be told whole, nothing is.
    read = {
        run.key: records(_cut_of(run)) for run in tick.runs if _is_derived(tick.outcomes[run.key])
    }
    for run in tick.runs:
        begins = len(lines)
        lines += _again(so_far, run, tick.outcomes[run.key], read.get(run.key, ()), execute)
        bounds.append((run, begins, len(lines)))
    so_far.ticks += 1
    so_far.runs += len(tick.runs)
    so_far.events += len(lines)
    for run, begins, ends in bounds:
        found = so_far.hashes.get(run.key)
        if found is None:
            found = so_far.hashes[run.key] = hashlib.sha256()
        found.update(b"\n".join(lines[begins:ends]) + b"\n")
    if b"\n".join(lines) + b"\n" != tick.published:
        _compare(so_far, tick, lines, bounds)


def _again(
    so_far: Replay,
    run: RunPlan,
    recorded: Outcome,
    inputs: Sequence[bytes],
    execute: Callable[[EngineRequest], Result],
) -> list[bytes]:
    """Return the events of one run, executed again."""
    before = so_far.memory.get(run.key)
    if _is_derived(recorded):
        so_far.executed += 1
        result = execute(request_of(run, inputs, before))
        outcome = outcome_of(run, result, before)
        # How often it was tried is of its moment; what ended it is not.
        outcome = msgspec.structs.replace(outcome, attempts=recorded.attempts)
    else:
        so_far.from_record += 1
        outcome = recorded
    left = (
        outcome.memory if outcome.memory is not None else {**(before or {}), **(run.leaves or {})}
    )
    so_far.memory[run.key] = left
    return run_events(run, outcome, before["publish_seq"] if before else 0)


def _is_derived(recorded: Outcome) -> bool:
    """Say whether what came of a run follows from the log."""
    return recorded.status == "done" or recorded.value.get("error_kind", "") in DERIVED


def _cut_of(run: RunPlan) -> Cut:
    require(run.cut is not None, "a run of a stream has a cut")
    return cast("Cut", run.cut)


def _compare(
    so_far: Replay,
    tick: Tick,
    lines: Sequence[bytes],
    bounds: Sequence[tuple[RunPlan, int, int]],
) -> None:
    """Name what differs, run by run."""
    published: dict[str, list[bytes]] = {}
    for line in tick.published.splitlines():
        published.setdefault(msgspec.json.decode(line)["symbol"], []).append(line)
    for run, begins, ends in bounds:
        ours, theirs = lines[begins:ends], published.pop(run.key, [])
        if list(ours) == theirs:
            continue
        so_far.different += 1
        if len(so_far.differences) < DIFFERENCES_MAX:
            so_far.differences.append(_first_difference(run, theirs, ours))
    # Events of symbols that no run of the tick is about.
    so_far.different += len(published)


def _first_difference(
    run: RunPlan, published: Sequence[bytes], replayed: Sequence[bytes]
) -> Difference:
    at_ms = run.work.args["engine_timestamp_ms"]  # type: ignore[union-attr]
    run_id = run.work.args["run_id"]  # type: ignore[union-attr]
    for index in range(max(len(published), len(replayed))):
        one = msgspec.json.decode(published[index]) if index < len(published) else None
        other = msgspec.json.decode(replayed[index]) if index < len(replayed) else None
        place = _difference(one, other)
        if place is None:
            continue
        return Difference(
            symbol=run.key,
            run_id=run_id,
            engine_timestamp_ms=at_ms,
            event_type=one["event_type"] if one else other["event_type"] if other else "",
            path=place.path,
            published=_shown(place.first),
            replayed=_shown(place.second),
        )
    return Difference(
        symbol=run.key,
        run_id=run_id,
        engine_timestamp_ms=at_ms,
        event_type="",
        path="bytes",
        published=b"\n".join(published).decode(errors="replace"),
        replayed=b"\n".join(replayed).decode(),
    )


def _difference(one: Any, other: Any) -> Place | None:
    """Return where two events differ; of events of two types, the types say most."""
    if one and other and one["event_type"] != other["event_type"]:
        return Place("event_type", one["event_type"], other["event_type"])
    return first_place(one, other)


def _shown(value: Any) -> Any:
    return None if value is ABSENT else value
