"""What holds after every simulation, whatever happened in it, told from what was committed.

Each invariant is computed here from the record itself: the rules of the product are written down a
second time, so that a rule that changes is seen.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import msgspec

from runwright.adapters.memory import MemoryStore
from runwright.bootstrap import replays
from runwright.kernel.drive import rebuild
from runwright.kernel.drive.blocks import every
from runwright.kernel.drive.conductor import Conductor, Ports
from runwright.kernel.drive.log import Log, LogLimits, LogRecord
from runwright.kernel.drive.recall import Recalled
from runwright.kernel.drive.writer import Writer
from runwright.kernel.record.bundle import public_keys
from runwright.kernel.record.entries import Draft, Entry, LedgerOpened, RunFinished, decode
from runwright.kernel.record.verify import Evidence, verify
from runwright.kernel.run import Outcome
from runwright.streams import WORKLOAD
from tests.streams.engines_simulated import STAGE
from tests.streams.script import INTERVAL_MS, Feed
from tests.streams.simulated import SimulatedPlaces, Stage, World

if TYPE_CHECKING:
    from tests.streams.simulator import Simulation

NAME: Final = "sim"
_TERMINAL: Final = ("EngineRunCompleted", "EngineRunFailed")


class Broken(AssertionError):
    """An invariant that does not hold, and why."""

    def __init__(self, invariant: str, why: str) -> None:
        super().__init__(f"{invariant}: {why}")
        self.invariant = invariant


@dataclass
class Found:
    """What a simulation left, read once."""

    simulation: Simulation

    @property
    def store(self) -> Any:
        return self.simulation.world.store

    @cached_property
    def log(self) -> Log:
        clock = self.simulation.world.clock
        return Log(self.store, NAME, limits=LogLimits(), clock=clock)

    @property
    def records(self) -> list[LogRecord]:
        """Every record that ever was durable."""
        return self.simulation.world.records

    @cached_property
    def entries(self) -> list[Entry]:
        return [decode(stored.raw) for stored in self.store.entries()]

    @cached_property
    def ticks(self) -> list[tuple[Recalled, bytes]]:
        return list(replays.ticks(self.store, NAME))

    @cached_property
    def papers(self) -> list[dict[str, Any]]:
        return self.store.rows("paper", order="seq")

    @cached_property
    def events(self) -> list[dict[str, Any]]:
        lines = (line for paper in self.papers for line in paper["body"].splitlines())
        return [msgspec.json.decode(line) for line in lines]


def hold(simulation: Simulation) -> None:
    """Hold a simulation that is at its end against every invariant."""
    found = Found(simulation)
    for invariant in INVARIANTS:
        try:
            invariant(found)
        except AssertionError as error:
            raise Broken(invariant.__name__, str(error)) from error


# ------------------------------------------------------------------------------------ the log


def every_event_is_there_as_it_arrived(found: Found) -> None:
    """Checks 8, 9, 11: ingest_seq is 1..N, and what was acknowledged is there byte for byte."""
    assert [record.seq for record in found.records] == list(range(1, found.log.last_seq + 1))
    there = list(found.log.records(found.log.retired_seq + 1, found.log.last_seq))
    assert there == found.records[found.log.retired_seq :]
    world = found.simulation.world
    assert not world.told_early, "a source was told that something is durable that was not"
    assert world.script.max_age_ms is not None or not found.log.retired_seq
    for feed in found.simulation.script.feeds:
        kept = [each for each in map(_identity, found.records) if each[0] == feed.name]
        brought = [(feed.name, hashlib.sha256(item).hexdigest()) for _, item in feed.items]
        if feed.kind == "pipe":
            _is_in_order(kept, brought)
            # What was in flight when the process died is gone with the pipe, and nothing else.
            if not world.crashed:
                assert kept == brought, f"{feed.name} lost something without a crash"
        else:
            assert kept == brought, _difference(feed, kept, brought)


def _identity(record: LogRecord) -> tuple[str, str]:
    """Return where a record came from, and the digest of what arrived."""
    event = msgspec.json.decode(record.data)
    if event["event_type"] == "DecodeFailure":
        return event["source_id"], event["payload_hash"]
    return event["source_id"], hashlib.sha256(record.data).hexdigest()


def _is_in_order(kept: Sequence[Any], brought: Sequence[Any]) -> None:
    left = iter(brought)
    assert all(one in left for one in kept), "a pipe's events are doubled or out of order"


def _difference(feed: Feed, kept: Sequence[Any], brought: Sequence[Any]) -> str:
    at = next(
        (n for n, (one, other) in enumerate(zip(kept, brought, strict=False)) if one != other),
        min(len(kept), len(brought)),
    )
    return f"{feed.name} ({feed.kind}): {len(kept)} of {len(brought)}, first otherwise at {at}"


def stamps_never_go_back(found: Found) -> None:
    """Check 12."""
    stamps = [record.ingest_ts_ms for record in found.records]
    assert stamps == sorted(stamps)


# ------------------------------------------------------------------------------ ticks and cuts


def every_tick_of_the_grid_has_one_record(found: Found) -> None:
    """Checks 15, 19: conducted, or recorded as skipped where the spec says so; never neither."""
    spec = found.simulation.spec
    scheduler = spec.scheduler
    ticks = [each.planned.occurrence.planned_ms for each, _ in found.ticks]
    passed = [entry.body for entry in found.entries if entry.type == "tick.passed"]
    assert not passed or scheduler.on_restart == "skip"
    there = ticks + [
        ms for body in passed for ms in range(body.first_ms, body.last_ms + 1, INTERVAL_MS)
    ]
    opened = [entry.body for entry in found.entries if entry.type == "stream.opened"]
    if scheduler.time == "events" and not any(record.ingest_ts_ms for record in found.records):
        assert not there
        return
    assert len(opened) == 1
    first = _first_tick(found, opened[0].opened_ms)
    assert sorted(there) == list(range(first, first + INTERVAL_MS * len(there), INTERVAL_MS))
    assert not found.records or max(there) >= found.log.last_ms
    rounds = [entry.body.occurrence.planned_ms for entry in _of(found, "round.planned")]
    assert sorted(rounds) == ticks, "a tick was planned twice, or not to its end"
    for each, _ in found.ticks:
        planned_ms = each.planned.occurrence.planned_ms
        delay_ms = scheduler.boundary_delay_ms if scheduler.mode == "boundary" else 0
        at = {run.work.args["engine_timestamp_ms"] for run in each.round.runs}
        assert at == {planned_ms - delay_ms}


def _first_tick(found: Found, opened_ms: int) -> int:
    """Return the first instant of the grid, by the rule of the specification."""
    spec = found.simulation.spec
    scheduler = spec.scheduler
    if scheduler.time == "events":
        # What is no event has no time: at the beginning, its stamp is 0.
        stamps = (record.ingest_ts_ms for record in found.records)
        assert opened_ms == next(stamp for stamp in stamps if stamp) - 1
    if scheduler.mode == "boundary":
        delay_ms = scheduler.boundary_delay_ms
        return ((opened_ms - delay_ms) // INTERVAL_MS + 1) * INTERVAL_MS + delay_ms
    anchor_ms = scheduler.timer_anchor_ms
    if anchor_ms is None:
        step_ms = spec.engine.alignment_ms or 1
        anchor_ms = -(-opened_ms // step_ms) * step_ms
    return anchor_ms + -(-(opened_ms - anchor_ms) // INTERVAL_MS) * INTERVAL_MS


def _of(found: Found, name: str) -> Iterator[Entry]:
    return (entry for entry in found.entries if entry.type == name)


def nothing_is_executed_before_it_is_planned(found: Found) -> None:
    """Check 16: in the order of the record, and at the very moment of each execution."""
    assert found.simulation.early == [], "the engine was called before the plan was durable"
    for each, _ in found.ticks:
        assert each.entries[0].seq == each.seq
        assert all(entry.seq > each.seq for entry in each.entries[1:])


def cuts_follow_from_the_log(found: Found) -> None:
    """Checks 17, 18: cut_end by the rule, and the cuts of a symbol tile the log."""
    ends: dict[str, int] = {}
    for each, _ in found.ticks:
        planned_ms = each.planned.occurrence.planned_ms
        seqs = [record.seq for record in found.records if record.ingest_ts_ms <= planned_ms]
        wanted = max(seqs, default=0)
        assert each.facts["log"]["end"] == wanted
        for run in each.round.runs:
            assert run.cut is not None
            own = (record.seq for record in found.records if record.key == run.key)
            first = min((seq for seq in own if seq <= wanted), default=wanted + 1)
            begins = ends[run.key] + 1 if run.key in ends else first
            assert (run.cut.first, run.cut.last) == (begins, wanted), (planned_ms, run.key)
            ends[run.key] = wanted


# ---------------------------------------------------------------------------- what is published


def every_run_ends_once(found: Found) -> None:
    """Check 30, and 20: exactly one terminal event, also of a quiet symbol."""
    finished = [entry.run for entry in found.entries if isinstance(entry.body, RunFinished)]
    assert len(set(finished)) == len(finished)
    by_run: dict[str, list[str]] = {}
    for event in found.events:
        by_run.setdefault(event["run_id"], []).append(event["event_type"])
    is_hysteresis = found.simulation.spec.engine.engine_mode == "hysteresis"
    for types in by_run.values():
        decided = ["HysteresisDecisionPublished"] if is_hysteresis else []
        wanted = [["EngineRunStarted", *decided, _TERMINAL[0]], ["EngineRunStarted", _TERMINAL[1]]]
        assert types in wanted
    planned = [run.work.args["run_id"] for each, _ in found.ticks for run in each.round.runs]
    assert list(by_run) == planned


def publish_seq_has_no_gap(found: Found) -> None:
    """Check 29."""
    for symbol in {event["symbol"] for event in found.events}:
        own = [event for event in found.events if event["symbol"] == symbol]
        assert [event["publish_seq"] for event in own] == list(range(1, len(own) + 1)), symbol
        times = [event["engine_timestamp_ms"] for event in own]
        assert all(one <= other for one, other in pairwise(times))


def what_was_delivered_is_what_was_published(found: Found) -> None:
    """Check 30 on the wire: in order, at least once, duplicates of equal bytes only."""
    if found.simulation.spec.output_publish.transport == "log":
        assert {paper["state"] for paper in found.papers} <= {"kept"}
        return
    assert {paper["state"] for paper in found.papers} <= {"delivered"}
    first: dict[str, bytes] = {}
    for delivery in found.simulation.world.delivered:
        assert first.setdefault(delivery.id, delivery.body) == delivery.body
    assert list(first.items()) == [(paper["id"], paper["body"]) for paper in found.papers]


# ------------------------------------------------------------------------ what it is proved by


def a_replay_gives_the_same_bytes(found: Found) -> None:
    """Check 38."""
    report = replays.replay(found.store, NAME, lambda done, of: None)
    assert (report["different"], report["differences"]) == (0, [])
    assert report["executed"] + report["from_record"] == report["runs"]
    retired = found.log.retired_seq
    gone = [each for each, _ in found.ticks if _reads(each, 1, retired)]
    assert report["retired"] == len(gone)
    assert gone or report["events"] == len(found.events)


def _is_of_its_moment(outcome: Outcome) -> bool:
    """Say whether a run failed for a reason that does not follow from the log."""
    kind = outcome.value.get("error_kind", "engine_failure")
    return outcome.status != "done" and kind == "engine_failure"


def _reads(tick: Recalled, first: int, last: int) -> bool:
    """Say whether a tick reads records of a range."""
    cuts = [
        run.cut
        for run in tick.round.runs
        if run.cut is not None and not _is_of_its_moment(tick.outcomes[run.key])
    ]
    return any(max(cut.first, first) <= min(cut.last, last) for cut in cuts)


def history_comes_in_as_it_happened(found: Found) -> None:
    """By the events' own time, neither chunks nor crashes change what is where in the log."""
    simulation = found.simulation
    has_pipe = any(feed.kind == "pipe" for feed in simulation.script.feeds)
    if simulation.script.time == "clock" or (simulation.world.crashed and has_pipe):
        return
    again = simulation.again()
    ours, theirs = (
        [(record.seq, record.ingest_ts_ms, record.key, _identity(record)) for record in records]
        for records in (found.records, again.world.records)
    )
    assert ours == theirs


def the_plan_follows_from_the_log(found: Found) -> None:
    """Check 39."""
    report = replays.plan_from_log(found.store, NAME, lambda done, of: None)
    assert (report["different"], report["deviations"]) == (0, []), report
    assert report["ticks"] == len(found.ticks)
    assert bool(report["retired"]) == bool(found.log.retired_seq and found.ticks)


def an_untroubled_run_of_the_same_log_gives_the_same_bytes(found: Found) -> None:
    """Checks 18, 38: other blocks, another store, another order of ends, no crash, no pause."""
    script = found.simulation.script.without_trouble()
    world = World(script, found.simulation.folder, "memory")
    writer = Writer(
        world.store, clock=world.clock, signer=found.simulation.signer("again"), seal_every_s=3600
    )
    places = SimulatedPlaces(world, random.Random(f"{script.seed}/again"))
    ports = Ports(
        store=world.store,
        writer=writer,
        workloads={"streams": WORKLOAD},
        places=places,
        sinks={},
        clock=world.clock,
        outbox_max=1_000_000,
    )
    conductor = Conductor(ports)
    writer.commit(
        [Draft(body=LedgerOpened(ledger="0a" * 8, seal_key="", bundle_key="", product=""))]
    )
    conductor.apply("streams", script.body)
    log = Log(world.store, NAME, limits=LogLimits(), clock=world.clock, commit=writer.commit)
    conductor.logs[NAME] = log
    die, left = random.Random(f"{script.seed}/blocks"), found.records
    while left:
        some, left = left[: (count := die.randint(1, 40))], left[count:]
        stamps = [record.ingest_ts_ms for record in some]
        log.append([record.data for record in some], [record.key for record in some], stamps)
    stage = Stage(world)
    stage.is_watching = False
    STAGE[:] = [stage]
    try:
        for each, _ in found.ticks:
            conductor.conduct("streams", NAME, each.planned.occurrence)
    finally:
        STAGE.clear()
    again = [paper["body"] for paper in world.store.rows("paper", order="seq")]
    assert again == [paper["body"] for paper in found.papers]


def the_record_verifies(found: Found) -> None:
    """Every sentence about ledger, blobs, tiles and input logs."""
    keys = [found.simulation.keys.seal.text()]
    evidence = Evidence(
        entries=found.store.entries(),
        seals=found.store.seals(),
        blob=found.store.blob,
        keys=public_keys(keys, "").seal,
        tiles=found.store.tiles,
        blocks=every(found.store),
        again=found.store.entries,
    )
    report = verify(evidence)
    assert report.held, [check for check in report.checks if not check.held]


def the_tables_follow_from_the_record(found: Found) -> None:
    """What `db rebuild` would write is what is there."""
    again = MemoryStore()
    rebuild.fold_again(found.store, {"streams": WORKLOAD}, again)
    assert rebuild.differences(found.store, again, []) == []


INVARIANTS: Final[tuple[Callable[[Found], None], ...]] = (
    every_event_is_there_as_it_arrived,
    stamps_never_go_back,
    every_tick_of_the_grid_has_one_record,
    nothing_is_executed_before_it_is_planned,
    cuts_follow_from_the_log,
    every_run_ends_once,
    publish_seq_has_no_gap,
    what_was_delivered_is_what_was_published,
    history_comes_in_as_it_happened,
    a_replay_gives_the_same_bytes,
    the_plan_follows_from_the_log,
    an_untroubled_run_of_the_same_log_gives_the_same_bytes,
    the_record_verifies,
    the_tables_follow_from_the_record,
)
