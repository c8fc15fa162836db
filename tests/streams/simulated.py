"""The world of the simulator: a clock, sources, a sink, a place and a store, all in one thread.

What is outside of the process outlives its crashes: the wall clock, what producers hold, what a
consumer has got, and what the store has committed.
"""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from runwright.adapters.functions import Instants, attempted, call
from runwright.adapters.memory import MemoryStore
from runwright.adapters.sqlite import SqliteStore
from runwright.kernel.drive.log import LogRecord
from runwright.kernel.errors import CommitUnknown, Deferred, StoreUnwritable
from runwright.kernel.ports import Arrival, Batch, Delivery, Work
from runwright.kernel.record.entries import (
    RoundJudged,
    RoundPlanned,
    RunDeferred,
    RunFinished,
    decode,
)
from runwright.kernel.record.log import read
from runwright.kernel.run import Executed, Round
from tests.streams.script import Crash, Feed, Outage, Script

#: Seconds that pass whenever somebody reads a clock: a real one never stands still.
INSTANT_S: Final = 0.000_01
#: More waits than any simulation needs: one that does not end is a defect.
WAITS_MAX: Final = 60_000
#: On the monotonic clock.
BEGIN_S: Final = 1_000.0


class Crashed(BaseException):
    """The process dies here; nothing of it may catch this."""


class VirtualClock:
    """Wall and monotonic clock, moved by waits; the wall clock is stepped as the script says."""

    def __init__(self, start_ms: int, steps: Sequence[tuple[float, int]]) -> None:
        self.at_s = BEGIN_S
        self._offset_ms = start_ms
        self._steps = sorted(steps)

    @property
    def since_s(self) -> float:
        """Seconds from the start of the simulation."""
        return self.at_s - BEGIN_S

    def now_ms(self) -> int:
        self.advance(INSTANT_S)
        return self._offset_ms + int(self.since_s * 1000)

    def monotonic_s(self) -> float:
        self.advance(INSTANT_S)
        return self.at_s

    def entropy(self, size: int) -> bytes:
        return b"\x07" * size

    def advance(self, seconds: float) -> None:
        self.at_s += seconds
        while self._steps and self._steps[0][0] <= self.since_s:
            self._offset_ms += self._steps.pop(0)[1]


class World:
    """What is outside of the process, and where the process is to die."""

    def __init__(self, script: Script, folder: Path, kind: str) -> None:
        self.script = script
        self.folder = folder
        self.clock = VirtualClock(script.start_ms, script.steps)
        self.store: Any = MemoryStore()
        self._files = 0
        if kind == "sqlite":
            self.store = SqliteStore(folder / "store.0.db", create=True)
            self._hurry()
        self.crashes = list(script.crashes)
        #: The process has died: what still runs of it leaves no trace.
        self.is_dead = False
        #: (step, when) of the crashes that happened.
        self.crashed: list[tuple[str, str]] = []
        self._counts: dict[tuple[str, str], int] = {}
        self.stops = list(script.stops)
        #: Source -> how many of its items were handed out, and were acknowledged.
        self.handed: dict[str, int] = {feed.name: 0 for feed in script.feeds}
        self.acknowledged: dict[str, int] = dict(self.handed)
        #: How many of its events are durable, and sources that were told so too early.
        self.durable: Counter[str] = Counter()
        self.told_early: set[str] = set()
        self.delivered: list[Delivery] = []
        #: Every record that ever was durable, also what is retired since.
        self.records: list[LogRecord] = []
        #: Ticks whose plan is durable.
        self.planned: set[int] = set()
        self.waits = 0
        self.said: list[str] = []

    # -- crashes

    def at(self, step: str, when: str) -> None:
        """Die here when it is time to. Raises: Crashed."""
        if self.is_due(step, when):
            self.is_dead = True
            raise Crashed(step, when)

    def is_due(self, step: str, when: str) -> bool:
        """Say whether the next crash of the script is here and now."""
        if not self.crashes:
            return False
        count = self._counts[step, when] = self._counts.get((step, when), 0) + 1
        wanted = self.crashes[0]
        if (wanted.step, wanted.when) != (step, when) or count < wanted.count:
            return False
        self.crashed.append((step, when))
        return True

    def fallen(self) -> Crash:
        """Take the crash that has happened off the script."""
        self._counts.clear()
        return self.crashes.pop(0)

    # -- the store

    def reopen(self) -> None:
        """Go on with what is durable: of a file, a copy of it and of its log."""
        self.is_dead = False
        if isinstance(self.store, MemoryStore):
            self.store.leased = False
            return
        old = self.store.path
        self._files += 1
        new = self.folder / f"store.{self._files}.db"
        for suffix in ("", "-wal"):
            part = old.with_name(old.name + suffix)
            if part.exists():
                shutil.copyfile(part, new.with_name(new.name + suffix))
        self.store.close()
        self.store = SqliteStore(new)
        self._hurry()

    def _hurry(self) -> None:
        """Leave flushing out: what a loss of power takes is not what is simulated."""
        self.store._db.execute("PRAGMA synchronous = OFF")

    # -- time

    def next_s(self) -> float | None:
        """Return when something happens outside that wakes the process, from the start."""
        now_s = self.clock.since_s
        found = [
            feed.items[self.handed[feed.name]][0]
            for feed in self.script.feeds
            if feed.look_s is None and self.handed[feed.name] < len(feed.items)
        ]
        found += [until_s for feed in self.script.feeds for _, until_s in feed.away]
        found += self.stops
        return min((at_s for at_s in found if at_s > now_s), default=None)


class SimulatedStore:
    """The store of one life of the process: it dies at commits, and is dead after that."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._inner = world.store
        self.kind = self._inner.kind

    def commit(self, batch: Batch) -> None:
        world = self._world
        if world.is_dead:
            raise Crashed("dead", "commit")
        step = step_of(batch)
        world.at(step, "before")
        if world.is_due(step, "unwritable"):
            raise StoreUnwritable("no space left on device")
        is_unknown = world.is_due(step, "unknown")
        self._inner.commit(batch)
        world.planned |= planned_of(batch)
        appended = records_of(batch)
        world.records += appended
        world.durable.update(msgspec.json.decode(each.data)["source_id"] for each in appended)
        if is_unknown:
            raise CommitUnknown("COMMIT raised: the disk went away")
        world.at(step, "after")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def step_of(batch: Batch) -> str:
    """Return which step of a stream a commit is."""
    if any(block.number for block in batch.blocks):
        return "append"
    bodies = {type(decode(entry.raw).body) for entry in batch.entries}
    if RoundPlanned in bodies:
        return "plan"
    if bodies & {RoundJudged, RunFinished, RunDeferred}:
        return "commit"
    if batch.seals:
        return "seal"
    return "delivered" if any(row.table == "paper" for row in batch.rows) else "other"


def records_of(batch: Batch) -> list[LogRecord]:
    """Return the records that a batch appends to the log."""
    found = []
    for block in map(read, batch.blocks):
        if block.head.count:
            keys = [block.head.keys[number] for number in block.ids()]
            whole = zip(block.stamps(), keys, block.items(), strict=True)
            found += [LogRecord(seq, *each) for seq, each in enumerate(whole, block.first_seq)]
    return found


def planned_of(batch: Batch) -> set[int]:
    """Return the ticks that a batch plans."""
    bodies = [decode(entry.raw).body for entry in batch.entries]
    return {body.occurrence.planned_ms for body in bodies if isinstance(body, RoundPlanned)}


class SimulatedSource:
    """The EventSource port over what a feed brings up to now."""

    def __init__(self, world: World, feed: Feed, position: Any) -> None:
        self._world, self._feed = world, feed
        self.name, self.look_s = feed.name, feed.look_s
        self._at = world.handed[feed.name]
        if feed.kind == "file":
            self._at = 0 if position is None else position["items"]
        elif feed.kind == "broker":
            # It has forgotten what was acknowledged, and nothing else.
            known = 0 if position is None else position["items"]
            self._at = max(known, world.acknowledged[feed.name])
        world.handed[feed.name] = self._at
        self._is_paused = False

    @property
    def is_over(self) -> bool:
        return self._at >= len(self._feed.items)

    def poll(self, most: int) -> Arrival | None:
        now_s = self._world.clock.since_s
        if any(from_s <= now_s < until_s for from_s, until_s in self._feed.away):
            raise Deferred(f"{self.name} is away")
        if self._is_paused:
            return None
        stop = min(self._at + min(most, self._feed.chunk), len(self._feed.items))
        items = [item for at_s, item in self._feed.items[self._at : stop] if at_s <= now_s]
        if not items:
            return None
        self._at += len(items)
        self._world.handed[self.name] = self._at
        position = None if self._feed.kind == "pipe" else {"items": self._at}
        now_ms = self._world.clock.now_ms()
        return Arrival(source=self.name, items=items, position=position, received_ms=now_ms)

    def acknowledge(self, position: Any) -> None:
        self._world.at("acknowledge", "before")
        if position is not None:
            if position["items"] > self._world.durable[self.name]:
                self._world.told_early.add(self.name)
            known = self._world.acknowledged[self.name]
            self._world.acknowledged[self.name] = max(known, position["items"])
        self._world.at("acknowledge", "after")

    def pause(self) -> None:
        self._is_paused = True

    def resume(self) -> None:
        self._is_paused = False

    def close(self) -> None:
        """Nothing is held."""


class SimulatedSink:
    """The Sink port to a consumer that keeps what it gets, and is not always well."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.is_batched = world.script.is_batched

    def deliver(self, deliveries: Sequence[Delivery]) -> None:
        world = self._world
        world.at("publish", "before")
        outage = self._outage()
        how = outage.how if outage else ""
        if how == "down":
            raise Deferred("the sink is down")
        if how == "broken":
            raise ConnectionResetError("the sink went away")
        if how == "slow":
            world.clock.advance(2.5)
        if how == "partial" and len(deliveries) > 1:
            world.delivered += deliveries[: len(deliveries) // 2]
            raise TimeoutError("only half of it got there")
        world.delivered += deliveries
        if how == "lossy":
            raise TimeoutError("the acknowledgement was lost")
        world.at("publish", "after")

    def _outage(self) -> Outage | None:
        now_s = self._world.clock.since_s
        found = (each for each in self._world.script.outages if each.from_s <= now_s < each.until_s)
        return next(found, None)


class SimulatedPlace:
    """A place in which runs take a while on the virtual clock, and end in any order."""

    def __init__(self, world: World, round: Round, die: random.Random) -> None:  # noqa: A002 - the word
        self.workers = round.workers
        self._world, self._die = world, die
        self._queue: list[Work] = []
        self._running: list[tuple[float, int, Work]] = []
        self._ended: list[Executed] = []

    def start(self, work: Sequence[Work]) -> None:
        self._world.at("start", "before")
        self._queue += work
        self._begin()
        self._world.at("start", "after")

    def _begin(self) -> None:
        while self._queue and len(self._running) < self.workers:
            work, takes_s = self._queue.pop(0), self._die.choice([0.0, 0.0, 0.001, 0.03, 0.4])
            if takes_s:
                due_s = self._world.clock.at_s + takes_s
                self._running.append((due_s, self._die.getrandbits(32), work))
            else:
                # As in the conductor's own thread: it has ended when it is started.
                self._execute(work)

    def _execute(self, work: Work) -> None:
        instants = Instants.of(self._world.clock)
        self._ended.append(attempted(work, lambda each: call(each, instants)))

    def wait(self, timeout_s: float | None) -> list[Executed]:
        clock = self._world.clock
        due_s = min((due_s for due_s, _, _ in self._running), default=None)
        until_s = None if timeout_s is None else clock.at_s + timeout_s
        if self._ended:
            until_s = clock.at_s
        if due_s is None or (until_s is not None and until_s < due_s):
            assert until_s is not None, "waits for ever with nothing under way"
            clock.advance(max(INSTANT_S, until_s - clock.at_s))
        else:
            clock.advance(max(0.0, due_s - clock.at_s))
        over = sorted((one for one in self._running if one[0] <= clock.at_s), key=_by_end)
        self._running = [one for one in self._running if one[0] > clock.at_s]
        for _, _, work in over:
            self._execute(work)
        self._begin()
        ended, self._ended = self._ended, []
        return ended

    def stop(self, *, kill: bool) -> None:
        """Nothing: what is under way ends by itself."""

    def close(self) -> None:
        """Nothing is held."""


def _by_end(running: tuple[float, int, Work]) -> tuple[float, int]:
    return running[:2]


class SimulatedPlaces:
    """Makes such places."""

    def __init__(self, world: World, die: random.Random) -> None:
        self._world, self._die = world, die

    def open(self, round: Round) -> SimulatedPlace:  # noqa: A002 - the word of the port
        return SimulatedPlace(self._world, round, self._die)

    def wake(self) -> None:
        """Nobody waits."""

    def close(self) -> None:
        """Nothing is held."""


class SimulatedBell:
    """A bell whose waits move the clock to what happens next."""

    def __init__(self, world: World, on_stop: Callable[[], None]) -> None:
        self._world, self._on_stop = world, on_stop

    def wait(self, timeout_s: float | None) -> bool:
        assert timeout_s is not None, "the loop waits for ever"
        world = self._world
        world.waits += 1
        assert world.waits < WAITS_MAX, "the simulation does not come to its end"
        due_s = world.next_s()
        wait_s = max(INSTANT_S, timeout_s)
        is_woken = due_s is not None and due_s <= world.clock.since_s + wait_s
        if due_s is not None and is_woken:
            wait_s = max(INSTANT_S, due_s - world.clock.since_s)
        world.clock.advance(wait_s)
        while world.stops and world.stops[0] <= world.clock.since_s:
            world.stops.pop(0)
            self._on_stop()
        return is_woken

    def wake(self) -> None:
        """Nobody waits."""

    def ring(self, address: str) -> None:
        """Nobody asked."""

    def close(self) -> None:
        """Nothing is held."""


class Stage:
    """What the engines of one life of the process meet: failures of the moment, and its death."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._attempts: dict[tuple[str, int], int] = {}
        self.is_watching = True
        #: (symbol, engine_timestamp_ms) of executions whose plan was not durable yet.
        self.early: list[tuple[str, int]] = []

    def __call__(self, symbol: str, at_ms: int) -> None:
        world = self._world
        delay_ms = world.script.spec["scheduler"].get("boundary_delay_ms", 0)
        if self.is_watching and at_ms + delay_ms not in world.planned:
            self.early.append((symbol, at_ms))
        world.at("engine", "inside")
        attempt = self._attempts[symbol, at_ms] = self._attempts.get((symbol, at_ms), 0) + 1
        failed, how = world.script.attempts_failed(symbol, at_ms)
        if attempt > failed:
            return
        if how == "defer":
            raise Deferred("not now")
        if how == "exit":
            raise SystemExit(3)
        raise RuntimeError("drawn")
