"""The loop of a stream: takes events in, conducts the ticks that are due, delivers what they left.

One thread does all of it in small steps, so closing the log at a tick needs no lock, and a tick
waits for one block at most. Whatever cannot go on says so by its domain: a source that is away, a
buffer that is full, an outbox that nobody empties. Nothing is dropped.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, NoReturn

import msgspec

from runwright.kernel.drive.conductor import Conductor
from runwright.kernel.drive.health import Domain, Health
from runwright.kernel.drive.inflow import Inflow, Taken
from runwright.kernel.drive.lifecycle import Stop
from runwright.kernel.drive.log import Log
from runwright.kernel.drive.ticks import Conducted
from runwright.kernel.drive.unfit import USUAL_MS, no_room, two_units
from runwright.kernel.drive.unread import Unread
from runwright.kernel.errors import BufferFull, Deferred, Frozen, Halt, InvalidSpec, Usage
from runwright.kernel.ports import Bell
from runwright.kernel.record.entries import Actor, ConductorStopped, Draft, StreamOpened, TickPassed
from runwright.kernel.run import Scheduled, Tick
from runwright.kernel.workload import Flow

#: Ticks conducted in a row before events are taken in and outputs delivered again.
TICKS_MAX: Final = 16
#: The longest wait between two looks, seconds.
LOOK_S: Final = 30.0
#: Seconds between two reports of the state.
TELL_S: Final = 1.0
#: What a message about an event says of it.
_SAID_OF_EVENTS: Final = ("source_id", "recv_ts_ms", "exchange_ts_ms")
#: Seconds until a buffer that is full is looked at again.
FULL_S: Final = 0.05


class Stream(NamedTuple):
    """What belongs to one stream."""

    kind: str
    name: str
    flow: Flow
    log: Log
    inflow: Inflow
    #: Keeps the state where others read it.
    tell: Callable[[Mapping[str, Any]], None]
    #: Answers the requests that came meanwhile.
    requests: Callable[[], object]
    #: Write a message for each event and each run.
    is_verbose: bool = False


class _Begun(NamedTuple):
    """A tick that was given to the conductor."""

    planned_ms: int
    at_ms: int
    at_s: float
    #: The tick before it.
    before_ms: int | None


class Streaming:
    """Runs one stream until it is asked to stop, or until nothing will ever come again."""

    def __init__(self, conductor: Conductor, bell: Bell, stream: Stream, stop: Stop) -> None:
        """Take over a conductor whose lease is held and whose past is recovered."""
        self._conductor = conductor
        self._ports = conductor.ports
        self._bell = bell
        self._kind, self._name = stream.kind, stream.name
        self._flow, self._log, self._inflow = stream.flow, stream.log, stream.inflow
        self._stream = stream
        self._stop = stop
        self.health = Health()
        ports = self._ports
        self._unread = Unread(stream.flow, stream.name, ports.messages, ports.clock)
        #: Ticks that are under way, and how many were given since others had their turn.
        self._began: deque[_Begun] = deque()
        self._given = 0
        self._told_s = 0.0
        self._last_ms: int | None = None
        #: The last tick that was conducted, neither skipped nor refused.
        self._cut_ms: int | None = None
        self._opened_ms: int | None = None
        self._full_since_s: float | None = None
        self._buffer_full_s = 0.0
        #: Called with the summary, at most once a second.
        self.watch: Callable[[Mapping[str, Any]], None] | None = None
        stop.on(bell.wake)

    def run(self) -> None:
        """Run until a signal, or until every source is over and every tick is conducted.

        Raises: halt, invalid-spec for a source or a history that is not what the spec needs.
        """
        self._open()
        self.health.change("start")
        self._tell(force=True)
        try:
            while not self._stop:
                has_taken = self._take_in()
                has_ticked = self._conduct_due()
                worked = has_taken or has_ticked
                waits = [self._deliver(), self._keep_up(has_ticked=has_ticked), self._ports.pulse()]
                self._tell()
                if worked:
                    continue
                if self._is_done():
                    break
                waits += [self._wait_s(), LOOK_S]
                if self._bell.wait(max(0.0, min(wait for wait in waits if wait is not None))):
                    self._stream.requests()
            self._close()
        except Halt as error:
            self._fail(error)
            self._conductor.halt(error)
            raise

    # ------------------------------------------------------------------------------ open, close

    def _open(self) -> None:
        """Find where the stream stands, and say on the record that it goes on."""
        store, now_ms = self._ports.store, self._ports.clock.now_ms()
        wanted = {"kind": self._kind, "name": self._name, "scheduled": 1}
        last = store.rows("tick", wanted, order="-last_ms", limit=1)
        self._last_ms = last[0]["last_ms"] if last else None
        last = store.rows("tick", {**wanted, "state": "closed"}, order="-last_ms", limit=1)
        self._cut_ms = last[0]["last_ms"] if last else None
        (spec,) = store.rows("spec", {"kind": self._kind, "name": self._name})
        if spec["opened_ms"]:
            self._opened_ms = spec["opened_ms"]
        elif self._flow.time == "clock":
            self._say_opened(now_ms)
        else:
            self._open_history()
        if self._last_ms is not None:
            self._log.close_through(self._last_ms)
            if self._flow.skips_missed and self._flow.time == "clock":
                self._skip_missed(now_ms)

    def _open_history(self) -> None:
        """Open a stream of history just before its first event; what is no event has no time.

        Whoever died before this was said finds the same instant in the log.
        """
        if self._log.last_ms <= 0:
            return
        stamps = (record.ingest_ts_ms for record in self._log.records(1, self._log.last_seq))
        opened_ms = next(stamp for stamp in stamps if stamp > 0) - 1
        self._say_opened(opened_ms)
        if opened_ms not in USUAL_MS:
            self._ports.messages(
                "history.doubtful",
                f"the first recv_ts_ms is {opened_ms + 1}: is that milliseconds since 1970?",
                level="warning",
                name=self._name,
            )

    def _say_opened(self, opened_ms: int) -> None:
        body = StreamOpened(kind=self._kind, name=self._name, opened_ms=opened_ms)
        self._ports.writer.commit([Draft(body=body)])
        self._opened_ms = opened_ms

    def _skip_missed(self, now_ms: int) -> None:
        first_ms = last_ms = self._flow.next_ms(self._last_ms, self._opened_ms or 0)
        count = 0
        while (next_ms := self._flow.next_ms(last_ms if count else self._last_ms, 0)) <= now_ms:
            last_ms, count = next_ms, count + 1
        if not count:
            return
        body = TickPassed(
            kind=self._kind,
            name=self._name,
            status="SKIPPED",
            reason="restart",
            first_ms=first_ms,
            last_ms=last_ms,
            count=count,
            lag_ms=now_ms - last_ms,
        )
        self._ports.writer.commit([Draft(body=body, actor=Actor(kind="schedule"))])
        self._log.close_through(last_ms)
        self._last_ms = last_ms

    def _close(self) -> None:
        """Stop taking in; what is under way has ended, what waits in the outbox stays there."""
        if self.health.state == "running":
            # One that is degraded stops as it is.
            self.health.change("drain")
        self._let_go()
        self.health.change("stop")
        self._tell(force=True)

    def _let_go(self) -> None:
        """Close what brings events, and leave log and record in good order."""
        self._inflow.close()
        self._unread.tell()
        self._log.seal(whole=False)
        body = ConductorStopped(reason="drained", signal=self._stop.signal)
        self._ports.writer.commit([Draft(body=body)])
        self._deliver()

    def _fail(self, error: Halt) -> None:
        """Say that the record cannot be kept: nothing is taken in or acknowledged after it."""
        self._inflow.pause()
        self.health.is_ingestion_paused = True
        self.health.fault("buffer", f"{error.code}: {error}")
        self.health.change("degrade")
        self._failure("buffer", error.code, type(error).__name__, str(error))
        self._tell(force=True)

    def _is_done(self) -> bool:
        """Say whether nothing will ever come again, and a tick has closed over what came."""
        if not self._inflow.is_over or self._due_ms() is not None:
            return False
        return not self._log.last_seq or (self._last_ms or 0) >= self._log.last_ms

    # ----------------------------------------------------------------------------------- intake

    def _take_in(self) -> bool:
        """Take in at most one block; say whether there was anything."""
        try:
            taken = self._inflow.take(self._log.most())
        except Deferred as error:
            # The source is asked again after its delay; what it had brought is kept.
            self.health.fault("ingest", str(error))
            self._failure("ingest", error.code, type(error).__name__, str(error))
            return False
        except InvalidSpec as error:
            # What it has is not what was taken, or nobody is let in: asking again changes nothing.
            self._give_up("ingest", error)
        if taken is None:
            self._look_at_room()
            return False
        if not self._inflow.is_away:
            self.health.mend("ingest")
        if (unfit := two_units(self._log, taken)) is not None:
            self._give_up("ingest", unfit)
        try:
            last = self._log.append(taken.items, taken.keys, taken.stamps, taken.positions)
        except BufferFull:
            self._inflow.put_back(taken)
            self._look_at_room()
            return False
        self._inflow.acknowledge(taken)
        if self._opened_ms is None:
            self._open_history()
        for (source, kind), count in taken.tally.items():
            self.health.count("ingest.count", count, source_id=source, event_type=kind)
        self._unread.take(taken)
        if self._stream.is_verbose:
            self._say_ingested(taken, last)
        if self._log.seal():
            self._retire()
        return True

    def _say_ingested(self, taken: Taken, last: int) -> None:
        """Write a line for each event, for who asked for them."""
        for seq, (item, key) in enumerate(
            zip(taken.items, taken.keys, strict=True), last - len(taken.items) + 1
        ):
            event = msgspec.json.decode(item)
            fields = {name: event.get(name) for name in _SAID_OF_EVENTS}
            self._ports.messages(
                "orchestrator.ingest", level="debug", symbol=key, ingest_seq=seq, **fields
            )

    def _look_at_room(self) -> None:
        """Pause the sources of a buffer that is full, and let them go on when it is not."""
        if self._log.room() <= 0:
            self._retire()
        is_full = self._log.room() <= 0
        if is_full and self._flow.time == "events":
            if not self._inflow.is_waiting:
                return
            self._look_for_an_end()
        if is_full and not self.health.is_ingestion_paused:
            self._inflow.pause()
            self.health.is_ingestion_paused = True
            self._buffer_full_s = self._ports.clock.monotonic_s()
            self.health.fault("buffer", "the buffer is full")
            self.health.count("backpressure.count", domain="buffer")
            self._ports.messages(
                "buffer.full",
                f"{self._log.last_seq - self._log.retired_seq} records are not retired: no intake",
                level="warning",
                name=self._name,
            )
        elif not is_full and self.health.is_ingestion_paused:
            self.health.is_ingestion_paused = False
            self.health.mend("buffer")
            blocked_ms = int((self._ports.clock.monotonic_s() - self._buffer_full_s) * 1000)
            self.health.count("backpressure.blocked_ms", blocked_ms, domain="buffer")
            self._inflow.resume()

    def _look_for_an_end(self) -> None:
        """Give a history up whose next tick waits for events that will never have room.

        By the clock a tick comes due while its events wait. Raises: invalid-spec.
        """
        log, cut_seq = self._log, self._cut_seq()
        if self._due_ms() is not None or log.may_retire(cut_seq):
            return
        opened_ms = self._opened_ms
        next_ms = None if opened_ms is None else self._flow.next_ms(self._last_ms, opened_ms)
        self._give_up("buffer", no_room(log, cut_seq, next_ms))

    def _give_up(self, domain: Domain, error: Usage) -> NoReturn:
        """End in good order, degraded, because the spec cannot be kept. Raises: the error."""
        self.health.fault(domain, f"{error.code}: {error}")
        self.health.change("degrade")
        self._failure(domain, error.code, type(error).__name__, str(error))
        self._let_go()
        self._tell(force=True)
        raise error

    def _cut_seq(self) -> int:
        """Return the end of the last cut: a further tick reads after it."""
        return 0 if self._cut_ms is None else self._log.end_at(self._cut_ms).seq

    def _retire(self) -> None:
        """Let go of segments whose time is over."""
        if self._cut_ms is not None:
            self._log.retire(self._cut_seq())

    # ------------------------------------------------------------------------------------ ticks

    def _due_ms(self) -> int | None:
        """Return the next planned instant when it is due now."""
        if self._opened_ms is None:
            return None
        planned_ms = self._flow.next_ms(self._last_ms, self._opened_ms)
        if self._flow.time == "clock":
            return planned_ms if planned_ms <= self._ports.clock.now_ms() else None
        newest_ms = self._log.last_ms
        # Of history, a tick is due once the log has passed it, or will never come to.
        if newest_ms > planned_ms:
            return planned_ms
        before_ms = self._last_ms
        is_left = before_ms is None or before_ms < newest_ms
        return planned_ms if self._inflow.is_over and is_left and self._log.last_seq else None

    def _conduct_due(self) -> bool:
        """Conduct what is due, some of it when it is much; say whether anything was.

        Each tick of many shares its commit with the plan of the next.
        """
        if self._is_paused() or self._due_ms() is None:
            return False
        self._given = 0
        try:
            self._conductor.conduct_all(self._kind, self._name, self._next_tick, heard=self._heard)
        except (Deferred, Frozen) as error:
            # The tick that was given last did not begin: it is due still.
            self._last_ms = self._began.pop().before_ms
            self._pause_scheduling(str(error))
        return True

    def _next_tick(self) -> Tick | None:
        """Return the tick that is due now, unless others have to have their turn."""
        if self._given == TICKS_MAX or self._stop:
            return None
        planned_ms = self._due_ms()
        if planned_ms is None:
            return None
        clock = self._ports.clock
        self._log.close_through(planned_ms)
        self._began.append(_Begun(planned_ms, clock.now_ms(), clock.monotonic_s(), self._last_ms))
        self._given += 1
        self._last_ms = planned_ms
        return Scheduled(planned_ms=planned_ms)

    def _heard(self, found: Conducted) -> None:
        """Count what came of a tick that is durable now."""
        clock, health = self._ports.clock, self.health
        begun = self._began.popleft()
        if not found.error:
            self._cut_ms = begun.planned_ms
        health.count("scheduler.ticks")
        health.observe("engine.duration_ms", (clock.monotonic_s() - begun.at_s) * 1000)
        if self._flow.time == "clock":
            health.observe("scheduler.lag_ms", max(0, begun.at_ms - begun.planned_ms))
            health.observe("publish.latency_ms", max(0, clock.now_ms() - begun.planned_ms))
        for status, count in found.outcomes.items():
            health.count("engine.runs", count, status="completed" if status == "done" else "failed")
        for event_type, count in self._flow.published(found.outcomes).items():
            health.count("publish.count", count, event_type=event_type)
        has_failed = any(status != "done" for status in found.outcomes)
        if has_failed or self._stream.is_verbose:
            self._say_runs(found)

    def _say_runs(self, found: Conducted) -> None:
        """Write a line for each run that failed, and for every run for who asked for them."""
        store = self._ports.store
        for row in store.rows("round", {"id": found.rounds[-1]}, columns=("judged_seq",)):
            for paper in store.rows("paper", {"seq": row["judged_seq"]}, columns=("body",)):
                for name, level, fields in self._flow.said(paper["body"]):
                    self._ports.messages(name, level=level, **fields)

    def _is_paused(self) -> bool:
        """Say whether no tick may start, and look whether that is over."""
        if not self.health.is_scheduling_paused:
            return False
        if self._conductor.outbox.is_full():
            self._look_how_long()
            return True
        now_s = self._ports.clock.monotonic_s()
        if self._full_since_s is not None:
            blocked_ms = int((now_s - self._full_since_s) * 1000)
            self.health.count("backpressure.blocked_ms", blocked_ms, domain="publish")
        self._full_since_s = None
        self.health.is_scheduling_paused = False
        self.health.mend("publish")
        if self.health.state == "degraded":
            self.health.change("recover")
        self._tell(force=True)
        return False

    def _pause_scheduling(self, reason: str) -> None:
        self.health.is_scheduling_paused = True
        self.health.fault("publish", reason)
        self.health.count("backpressure.count", domain="publish")
        self._full_since_s = self._ports.clock.monotonic_s()
        # Whoever reads the message and asks finds it so.
        self._tell(force=True)
        self._ports.messages("scheduling.paused", reason, level="warning", name=self._name)

    def _look_how_long(self) -> None:
        """Degrade when the outbox stays full for longer than the spec allows."""
        since_s, most_ms = self._full_since_s, self._flow.max_block_ms
        if since_s is None or most_ms is None or self.health.state != "running":
            return
        if (self._ports.clock.monotonic_s() - since_s) * 1000 >= most_ms:
            self.health.change("degrade")
            self._failure(
                "publish", "outbox_full", "Deferred", self.health.faults.get("publish", "")
            )

    # ---------------------------------------------------------------------------------- the rest

    def _deliver(self) -> float | None:
        return self._conductor.outbox.pump()

    def _keep_up(self, *, has_ticked: bool) -> float | None:
        """Seal what is due; return seconds until a seal is due.

        Between two ticks of the clock, the best moment is behind the first: what would come to
        stand before the second is done there, so that nobody waits for it.
        """
        writer, ahead_s = self._ports.writer, 0.0
        if has_ticked and self._flow.time == "clock":
            self._ports.store.merge()
            ahead_s = self._until_tick_s()
        unsealed_s = writer.wait_before_seal_s()
        if unsealed_s is None or unsealed_s > ahead_s:
            return unsealed_s
        writer.seal()
        return None

    def _until_tick_s(self) -> float:
        """Return seconds until the next tick of a stream that is open."""
        planned_ms = self._flow.next_ms(self._last_ms, self._opened_ms or 0)
        return (planned_ms - self._ports.clock.now_ms()) / 1000

    def _wait_s(self) -> float | None:
        """Return seconds until a tick is due or a source is to be asked again."""
        waits = [self._inflow.wait_s()]
        is_on_clock = self._opened_ms is not None and self._flow.time == "clock"
        if is_on_clock and not self.health.is_scheduling_paused:
            waits.append(self._until_tick_s())
        if self.health.is_ingestion_paused or self.health.is_scheduling_paused:
            waits.append(FULL_S)
        return min((wait for wait in waits if wait is not None), default=None)

    def _failure(self, domain: Domain, kind: str, detail: str, text: str) -> None:
        fields = {"failure_domain": domain, "error_kind": kind, "error_detail": detail}
        self._ports.messages("orchestrator.failure", text, level="error", name=self._name, **fields)

    def _tell(self, *, force: bool = False) -> None:
        now_s = self._ports.clock.monotonic_s()
        if not force and now_s - self._told_s < TELL_S:
            return
        self._told_s = now_s
        health, log = self.health, self._log
        health.gauges = {
            "buffer.depth": log.last_seq - log.retired_seq,
            "buffer.age_ms": max(0, self._ports.clock.now_ms() - log.last_ms) if log.last_ms else 0,
        }
        report = {"last_seq": log.last_seq, "last_planned_ms": self._last_ms, **health.report()}
        self._stream.tell(report)
        if self.watch is not None:
            self.watch(self.summary())

    def summary(self) -> Mapping[str, Any]:
        """Return what was done since the start, in figures."""
        counters = self.health.counters
        runs = {
            status: counters["engine.runs", (("status", status),)]
            for status in ("completed", "failed")
        }
        records = sum(value for (name, _), value in counters.items() if name == "ingest.count")
        ticks = counters["scheduler.ticks", ()]
        waiting = sum(self._conductor.outbox.left().values())
        found = {"name": self._name, "records": records, "ticks": ticks, **runs}
        return {**found, "unread": self._unread.count, "waiting": waiting}
