"""The loop of a conductor: requests as they come, schedules as they fall due, nothing in between.

Every due occurrence becomes a record, also the one that did not run. Between ticks the loop blocks
on the bell; it looks by itself every 30 s in case a knock was lost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from runwright.kernel.drive.conductor import Conductor, Ports
from runwright.kernel.drive.execution import MESSAGE_MAX, printable
from runwright.kernel.drive.requests import ApplyBody, EraseBody, RunBody
from runwright.kernel.drive.schedule import (
    SECONDS_MAX,
    Decision,
    Passed,
    anchored,
    check,
    due,
    start_of,
    with_failures,
)
from runwright.kernel.drive.ticks import (
    Conducted,
    decode_spec,
    failed_request_row,
    in_force_of,
    request_row,
)
from runwright.kernel.drive.world import StoreWorld
from runwright.kernel.errors import (
    Deferred,
    Frozen,
    InvalidSpec,
    NotCanonical,
    RunwrightError,
    Usage,
)
from runwright.kernel.ports import Bell, Store
from runwright.kernel.record.entries import (
    Actor,
    BlobErased,
    ConductorStopped,
    Draft,
    ScheduleChanged,
    ScheduleOverridden,
    TickPassed,
)
from runwright.kernel.run import InForce, Misfire, Requested, Schedule, Scheduled
from runwright.kernel.workload import Workload

#: The longest wait between two looks, seconds.
LOOK_S: Final = 30.0
#: How many requests are taken before the schedules are looked at again.
REQUESTS_MAX: Final = 64
#: Seconds until a request that was put off is looked at again.
PUT_OFF_S: Final = 1.0


class Timed(NamedTuple):
    """A spec with a schedule."""

    kind: str
    name: str
    schedule: Schedule
    #: When the schedule came into force, epoch ms.
    since_ms: int


class Service:
    """Drains requests and fires schedules until it is asked to stop."""

    def __init__(
        self,
        conductor: Conductor,
        ports: Ports,
        bell: Bell,
        *,
        only: tuple[str, str] | None = None,
        interval_s: int | None = None,
        by: str = "",
    ) -> None:
        """Serve every scheduled spec, or `only` (kind, name), perhaps on another interval."""
        self._conductor = conductor
        self._ports = ports
        self._bell = bell
        self._only = only
        self._interval_s = interval_s
        self._by = by
        #: From when on an interval of its own is in force.
        self.started_ms = ports.clock.now_ms()
        self._queued: set[tuple[str, str]] = set()
        #: An interval stands in for a schedule that is missing, and gives way to one.
        self.gives_way = False
        self._specs: dict[str, Any] = {}
        self._seen: dict[tuple[str, str, str], Timed | None] = {}
        self._has_put_off = False
        #: A signal left work of a tick undone.
        self.undone = False
        conductor.stop.on(bell.wake)

    def run(self) -> None:
        """Serve until the conductor is asked to stop. Raises: halt."""
        if self._only and self._interval_s:
            kind, name = self._only
            body = ScheduleOverridden(kind=kind, name=name, interval_s=self._interval_s)
            actor = Actor(kind="person", id=self._by)
            self._ports.writer.commit([Draft(body=body, actor=actor)])
        while not self._conductor.stop:
            answered = self.drain()
            waits = [LOOK_S, self._fire_due()]
            if answered == REQUESTS_MAX:
                waits.append(0.0)
            if self._has_put_off:
                waits.append(PUT_OFF_S)
            unsealed_s = self._ports.writer.wait_before_seal_s()
            if unsealed_s is not None and unsealed_s <= 0:
                self._ports.writer.seal()
                unsealed_s = None
            waits += [unsealed_s, self._conductor.outbox.pump(later=True), self._ports.pulse()]
            if self._conductor.stop:
                break
            self._ports.writer.flush()
            self._bell.wait(max(0.0, min(wait for wait in waits if wait is not None)))

        self._ports.pulse()
        signal = self._conductor.stop.signal
        reason = "signal" if self.undone else "drained"
        self._ports.writer.commit([Draft(body=ConductorStopped(reason=reason, signal=signal))])

    def drain(self) -> int:
        """Answer the requests that are open now; return how many there were."""
        rows = self._ports.store.rows(
            "request", {"state": "open"}, order="created_ms", limit=REQUESTS_MAX
        )
        answered, self._has_put_off = 0, False
        for row in rows:
            if self._conductor.stop:
                break
            try:
                self._answer(row)
            except Deferred as error:
                self._ports.messages("request.deferred", str(error), level="warning", id=row["id"])
                self._has_put_off = True
                continue
            except (Usage, NotCanonical) as error:
                self._ports.writer.commit(rows=[failed_request_row(row["id"], error)])
            answered += 1
            if row["reply"]:
                # Whoever waits finds what its run caused in place.
                self._conductor.outbox.pump(later=True)
                self._bell.ring(row["reply"])
        return answered

    def timed(self) -> list[Timed]:
        """Return the specs that have a schedule, as they stand in the store now."""
        found = []
        for known in self._ports.store.rows("spec"):
            if self._only and self._only != (known["kind"], known["name"]):
                continue
            row = self._with_changes(known)
            place = (row["kind"], row["name"], f"{row['in_force']} {row['since_ms']}")
            if place not in self._seen:
                self._seen[place] = self._timed(row)
            timed = self._seen[place]
            if timed is not None:
                found.append(timed)
        return found

    def has_none(self) -> bool:
        """Say whether the one spec that is served neither has a schedule nor was refused one."""
        rows = self._ports.store.rows("spec")
        (known,) = (row for row in rows if (row["kind"], row["name"]) == self._only)
        row = self._with_changes(known)
        return self._spec(row).schedule is None and in_force_of(row) == InForce()

    def _timed(self, row: Mapping[str, Any]) -> Timed | None:
        found, anchor_ms, since_ms = in_force_of(row), row["applied_ms"], row["since_ms"]
        schedule = found.schedule
        if self._interval_s and not (self.gives_way and found != InForce()):
            # In force from the start of this process: nothing is owed from before.
            schedule = every(self._interval_s, schedule or self._spec(row).schedule)
            anchor_ms = since_ms = self.started_ms
        if schedule is None:
            return None
        schedule = anchored(schedule, anchor_ms)
        check(schedule)
        return Timed(row["kind"], row["name"], schedule, start_of(since_ms))

    def _spec(self, row: Mapping[str, Any]) -> Any:
        if row["digest"] not in self._specs:
            workload = self._ports.workloads[row["kind"]]
            self._specs[row["digest"]] = decode_spec(workload, row["body"])
        return self._specs[row["digest"]]

    def _with_changes(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the row of a spec; when operators changed what it runs by, record that first."""
        workload = self._ports.workloads[row["kind"]]
        before = in_force_of(row)
        if workload.schedule is None:
            return row
        found = read_schedule(workload, self._spec(row), self._ports.store)
        if found == before:
            return row
        if before.schedule is not None and not before.schedule.enabled:
            # What fell due while it was paused is on the record as such.
            paused = self._timed(row)
            if paused is not None:
                self._decide(paused, running=False)
        body = ScheduleChanged(
            kind=row["kind"], name=row["name"], schedule=found.schedule, refused=found.refused
        )
        self._ports.writer.commit([Draft(body=body)])
        level = "error" if found.refused else "info"
        self._ports.messages("schedule.changed", found.refused, level=level, name=row["name"])
        (changed,) = self._ports.store.rows("spec", {"kind": row["kind"], "name": row["name"]})
        return changed

    # ---------------------------------------------------------------------------------- requests

    def _answer(self, row: Mapping[str, Any]) -> None:
        try:
            if row["kind"] == "run":
                self._run(row, msgspec.json.decode(row["body"], type=RunBody))
            elif row["kind"] == "apply":
                wish = msgspec.json.decode(row["body"], type=ApplyBody)
                spec = wish.spec.encode()
                self._conductor.apply(wish.kind, spec, by=row["by"], request=row["id"])
            elif row["kind"] == "erase":
                self._erase(row, msgspec.json.decode(row["body"], type=EraseBody))
            elif row["kind"] in ("decide", "people", "key"):
                self._conductor.act(row["kind"], row["body"], by=row["by"], request=row["id"])
            else:
                message = f"there is no request of kind {row['kind']!r}"
                raise Usage(message)
        except msgspec.DecodeError as error:
            message = f"request {row['id']}: {error}"
            raise Usage(message) from error

    def _run(self, row: Mapping[str, Any], wish: RunBody) -> None:
        tick = Requested(
            id=row["id"],
            planned_ms=wish.at_ms or row["created_ms"],
            by=row["by"],
            args=wish.args,
        )
        inline = wish.inline.encode() if wish.inline else None
        result = self._conductor.conduct(wish.kind, wish.name, tick, inline=inline)
        self._note(result)
        # A tick that the record held already was not closed with this request.
        found = self._ports.store.rows("request", {"id": row["id"]}, columns=("state",))
        if found and found[0]["state"] == "open":
            self._ports.writer.commit(rows=[request_row(row["id"], result)])

    def _erase(self, row: Mapping[str, Any], wish: EraseBody) -> None:
        kept = self._ports.store.blob(wish.digest)
        if kept is None or not kept.salt:
            what = "not kept" if kept is None else "pinned: proofs need it"
            message = f"blob {wish.digest} is {what}"
            raise Usage(message)
        self._ports.writer.commit(
            [
                Draft(
                    body=BlobErased(digest=wish.digest, reason=wish.reason),
                    actor=Actor(kind="person", id=row["by"]),
                )
            ],
            erased=[wish.digest],
            rows=[request_row(row["id"], {"erased": wish.digest})],
        )

    # --------------------------------------------------------------------------------- schedules

    def _fire_due(self) -> float | None:
        """Fire what is due; return seconds until the next occurrence of any schedule."""
        waits = []
        for timed in self.timed():
            decision = self._decide(timed, running=False)
            for instant in decision.fire:
                if self._conductor.stop:
                    return 0.0
                self._fire(timed, instant)
            # What came due while it ran is passed over or waits, as its overlap policy says.
            if decision.fire and timed.schedule.overlap != "allow":
                decision = self._decide(timed, running=True)
            if decision.fire or decision.waiting_ms is not None:
                waits.append(0.0)
            elif decision.next_ms is not None:
                waits.append((decision.next_ms - self._ports.clock.now_ms()) / 1000)
        return max(0.0, min(waits)) if waits else None

    def _decide(self, timed: Timed, *, running: bool) -> Decision:
        key = (timed.kind, timed.name)
        last = self._ports.store.rows(
            "tick",
            {"kind": timed.kind, "name": timed.name, "scheduled": 1},
            order="-last_ms",
            limit=1,
        )
        schedule = timed.schedule
        if running:
            # None of these is a misfire: they were seen, and something was under way.
            everything = Misfire(policy="all", window_s=SECONDS_MAX, max=SECONDS_MAX)
            schedule = msgspec.structs.replace(schedule, misfire=everything)
        if schedule.pause_on_failures:
            schedule = with_failures(schedule, self._failures(timed))
        now_ms = self._ports.clock.now_ms()
        decision = due(
            schedule,
            last_ms=last[0]["last_ms"] if last else None,
            start_ms=timed.since_ms,
            now_ms=now_ms,
            running=running,
            queued=key in self._queued,
        )
        if decision.waiting_ms is not None:
            self._queued.add(key)
        else:
            self._queued.discard(key)
        if decision.passed:
            self._record_passed(timed, decision.passed, now_ms)
        return decision

    def _note(self, result: Conducted) -> None:
        undone = result.outcomes.get("interrupted", 0) + result.outcomes.get("skipped", 0)
        self.undone = self.undone or bool(result.stopped == "signal" and undone)

    def _fire(self, timed: Timed, instant: int) -> None:
        try:
            tick = Scheduled(planned_ms=instant)
            self._note(self._conductor.conduct(timed.kind, timed.name, tick))
        except Deferred as error:
            passed = Passed(
                first_ms=instant,
                last_ms=instant,
                count=1,
                status="SKIPPED",
                reason="paused",
            )
            self._ports.messages("tick.deferred", str(error), level="warning", name=timed.name)
            self._record_passed(timed, (passed,), self._ports.clock.now_ms(), reason=error.code)
        except Frozen as error:
            passed = Passed(
                first_ms=instant,
                last_ms=instant,
                count=1,
                status="SKIPPED",
                reason="paused",
            )
            reason = printable(str(error), MESSAGE_MAX)
            self._record_passed(timed, (passed,), self._ports.clock.now_ms(), reason=reason)
        except RunwrightError as error:
            self._ports.messages("tick.failed", str(error), level="error", name=timed.name)
            raise

    def _record_passed(
        self, timed: Timed, passed: Sequence[Passed], now_ms: int, *, reason: str = ""
    ) -> None:
        drafts = []
        for item in passed:
            drafts.append(
                Draft(
                    body=TickPassed(
                        kind=timed.kind,
                        name=timed.name,
                        status=item.status,
                        reason=reason or item.reason,
                        first_ms=item.first_ms,
                        last_ms=item.last_ms,
                        count=item.count,
                        lag_ms=now_ms - item.last_ms,
                    ),
                    actor=Actor(kind="schedule"),
                )
            )
            self._ports.messages(
                "tick.passed",
                level="warning",
                name=timed.name,
                status=item.status,
                reason=reason or item.reason,
                count=item.count,
            )
        self._ports.writer.commit(drafts)

    def _failures(self, timed: Timed) -> int:
        """Return how many of the newest ticks failed in a row, by their last verdicts."""
        store = self._ports.store
        ticks = store.rows(
            "tick",
            {"kind": timed.kind, "name": timed.name, "state": "closed"},
            order="-seq",
            limit=timed.schedule.pause_on_failures,
        )
        failed = 0
        for tick in ticks:
            (last,) = store.rows("round", {"tick": tick["id"]}, order="-idx", limit=1)
            if last["verdict"] == "PASS":
                break
            failed += 1
        return failed


def read_schedule(workload: Workload, spec: Any, store: Store) -> InForce:
    """Return what a spec runs by, as operators left it now; what contradicts itself is refused."""
    if workload.schedule is None:
        return InForce(schedule=spec.schedule)
    found = workload.schedule(spec, StoreWorld(store))
    if found.schedule is not None:
        try:
            check(found.schedule)
        except InvalidSpec as error:
            return InForce(refused=str(error))
    return found


def every(interval_s: int, schedule: Schedule | None) -> Schedule:
    """Return a schedule with another interval and the policies of the one that it stands for."""
    base = schedule or Schedule()
    return Schedule(
        interval_s=interval_s,
        misfire=base.misfire,
        overlap=base.overlap,
        deadline_s=base.deadline_s,
        pause_on_failures=base.pause_on_failures,
    )
