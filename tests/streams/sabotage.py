"""Builds of the product with one thing wrong each, and the invariants that have to see it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from runwright.kernel.drive.execution import Execution
from runwright.kernel.drive.inflow import Inflow, Taken
from runwright.kernel.drive.log import Log
from runwright.kernel.drive.streaming import Streaming
from runwright.kernel.ports import Batch, LogEnd
from runwright.streams import WORKLOAD
from runwright.streams.events import tick_events
from runwright.streams.observe import observe
from runwright.streams.report import report
from tests.streams.simulated import SimulatedStore
from tests.streams.simulator import Build


class EagerInflow(Inflow):
    """Acknowledges to the sources what is not durable yet."""

    def take(self, room: int) -> Taken | None:
        taken = super().take(room)
        if taken is not None:
            super().acknowledge(taken)
        return taken

    def acknowledge(self, taken: Taken) -> None:
        """Nothing: it was."""


class LateExecution(Execution):
    """Starts runs first, and commits their plan after."""

    def _start(self, *args: Any) -> None:
        commit, self._commit = self._commit, lambda: None  # type: ignore[method-assign]
        super()._start(*args)
        self._commit = commit  # type: ignore[method-assign]
        if self._pending.drafts:
            self._commit()


class _Latest:
    """A log whose cuts end wherever it ends."""

    def __init__(self, log: Any) -> None:
        self._log = log

    def end_at(self, planned_ms: int) -> LogEnd:
        return self._log.end_at(2**60)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)


class _LatestWorld:
    def __init__(self, world: Any) -> None:
        self._world = world

    def log(self, name: str) -> Any:
        return _Latest(self._world.log(name))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._world, name)


class _SplitStore(SimulatedStore):
    """Commits the rows of one table apart from what caused them."""

    apart = ""

    def commit(self, batch: Batch) -> None:
        rows = [row for row in batch.rows if row.table == self.apart]
        if not rows or not batch.entries:
            super().commit(batch)
            return
        batch.rows = [row for row in batch.rows if row.table != self.apart]
        super().commit(batch)
        super().commit(Batch(rows=rows))


class SplitPapers(_SplitStore):
    """Commits papers apart from the outcomes that they tell of."""

    apart = "paper"


class SplitLanes(_SplitStore):
    """Commits what a lane remembers apart from the outcome that left it."""

    apart = "lane"


class SkippingStreaming(Streaming):
    """Goes on with the next tick after a restart, and says nothing of those it missed."""

    def _open(self) -> None:
        super()._open()
        now_ms = self._ports.clock.now_ms()
        if self._last_ms is not None and self._flow.time == "clock":
            while (next_ms := self._flow.next_ms(self._last_ms, self._opened_ms or 0)) <= now_ms:
                self._last_ms = next_ms


#: Symbol -> its newest publish_seq, as the process counts it.
_COUNTED: Counter[str] = Counter()


class CountingStreaming(Streaming):
    """Begins to count where the process begins."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        _COUNTED.clear()


def counted(seen: Any, this: Any, outcomes: Sequence[Any], verdict: Any) -> Any:
    """Report a tick with numbers that the process counts."""
    (paper,) = report(seen, this, outcomes, verdict)
    memory: Mapping[str, Any] = {run.key: {"publish_seq": _COUNTED[run.key]} for run in this.runs}
    lines = list(tick_events(this.runs, outcomes, memory))
    for line in lines:
        _COUNTED[msgspec.json.decode(line)["symbol"]] += 1
    body = b"".join(line + b"\n" for line in lines).decode()
    return [msgspec.structs.replace(paper, body=body)]


class UnclampedLog(Log):
    """Stamps records with the clock, wherever that stands."""

    def append(self, *args: Any, **fields: Any) -> int:
        self.last_ms, self.closed_ms = 0, -1
        return super().append(*args, **fields)


class Sabotage(NamedTuple):
    """What is wrong, and who may be the first to see it."""

    build: Build
    seen_by: frozenset[str]


_LATEST: Final = msgspec.structs.replace(
    WORKLOAD, observe=lambda spec, tick, world: observe(spec, tick, _LatestWorld(world))
)

SABOTAGES: Final[Mapping[str, Sabotage]] = {
    "acknowledged before the commit": Sabotage(
        Build(inflow=EagerInflow), frozenset({"every_event_is_there_as_it_arrived"})
    ),
    "executed before the plan is durable": Sabotage(
        Build(execution=LateExecution), frozenset({"nothing_is_executed_before_it_is_planned"})
    ),
    "cut at the latest record": Sabotage(
        Build(workload=_LATEST), frozenset({"cuts_follow_from_the_log"})
    ),
    "papers in another commit than outcomes": Sabotage(
        Build(store=SplitPapers), frozenset({"every_run_ends_once"})
    ),
    "lane memory in another commit than outcomes": Sabotage(
        Build(store=SplitLanes),
        frozenset({"cuts_follow_from_the_log", "publish_seq_has_no_gap"}),
    ),
    "missed ticks skipped without a word": Sabotage(
        Build(streaming=SkippingStreaming), frozenset({"every_tick_of_the_grid_has_one_record"})
    ),
    "publish_seq counted in the process": Sabotage(
        Build(
            streaming=CountingStreaming, workload=msgspec.structs.replace(WORKLOAD, report=counted)
        ),
        frozenset({"publish_seq_has_no_gap"}),
    ),
    "stamps as the clock has them": Sabotage(
        Build(log=UnclampedLog),
        frozenset({"stamps_never_go_back", "every_event_is_there_as_it_arrived"}),
    ),
}
