"""One round under way: starts what may start, records before it starts, collects what ended.

An impure run's start is durable before it starts, and the end of one run shares its commit with the
start of the next. The outcomes of a pure round are committed in batches. What is not committed when
the round ends is left in `pending`, so that the verdict shares its commit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

import msgspec

from runwright.kernel.canonical import digest, encode, encode_again
from runwright.kernel.criteria import Verdict
from runwright.kernel.drive.lanes import Lanes
from runwright.kernel.drive.lifecycle import Stop, unwatched
from runwright.kernel.drive.retry import delay_s
from runwright.kernel.drive.telemetry import silent
from runwright.kernel.drive.writer import Writer
from runwright.kernel.errors import Halt, NotCanonical, Refused, StoreCorrupt, Usage, require
from runwright.kernel.ports import (
    Clock,
    Messages,
    Place,
    Places,
    Reader,
    Row,
    Work,
)
from runwright.kernel.record.entries import Draft, RunDeferred, RunFinished, RunStarted
from runwright.kernel.run import (
    Command,
    Content,
    Cut,
    Executed,
    Memory,
    Outcome,
    Round,
    RunPlan,
    run_ids,
)
from runwright.kernel.workload import Permit

#: Outcomes of a pure round share a commit until there are so many, or the oldest is so old.
BATCH_MAX: Final = 256
BATCH_AGE_S: Final = 0.020
#: The largest answer of a run that an entry holds, in canonical bytes.
VALUE_MAX: Final = 8 * 1024
#: The largest memory of a lane that an entry holds; a longer one is a blob.
LEFT_MAX: Final = 4 * 1024
#: The most characters of a reason and of a message that an entry holds.
REASON_MAX: Final = 100
MESSAGE_MAX: Final = 1_000
#: How far a place has been told to stop: not, asked, killed.
KILLED: Final = 2
#: Why a run failed that another attempt may mend.
REPEATABLE: Final = frozenset({"exit", "signal", "timeout", "raised", "worker-died"})
#: Seconds after which what was started is under way, and something else may take the processor.
IDLE_S: Final = 0.003
#: How many runs of a pure round are handed to a place at once, for each worker.
HANDED_MAX: Final = 32


class Pending:
    """What will be written with the next commit."""

    def __init__(self, messages: Messages) -> None:
        """Start empty."""
        self.drafts: list[Draft] = []
        self.contents: list[Content] = []
        self.rows: list[Row] = []
        self._messages = messages
        self._unsaid: list[tuple[str, dict[str, Any]]] = []

    def add(
        self,
        drafts: Sequence[Draft] = (),
        contents: Sequence[Content] = (),
        rows: Sequence[Row] = (),
    ) -> None:
        """Put more to it."""
        self.drafts.extend(drafts)
        self.contents.extend(contents)
        self.rows.extend(rows)

    def keep_aside(self, writer: Writer, failure: Halt) -> None:
        """Have kept beside the store what can no longer be written. Raises: the failure."""
        if self.drafts:
            writer.keep_aside(failure, self.drafts, contents=self.contents, rows=self.rows)

    def say(self, event: str, **fields: Any) -> None:
        """Say something once it is durable."""
        if self._messages is silent:
            return
        self._unsaid.append((event, fields))

    def commit(self, writer: Writer) -> int:
        """Write it in one transaction, say what was to be said, and start anew.

        Return the seq of the first draft.
        """
        first = writer.commit(self.drafts, contents=self.contents, rows=self.rows)
        self.drafts, self.contents, self.rows = [], [], []
        self._say_all()
        return first

    def stage(self, writer: Writer) -> None:
        """Leave it for the next commit; what was to be said is said after that."""
        writer.stage(self.drafts, contents=self.contents, rows=self.rows, then=self._say_all)
        self.drafts, self.contents, self.rows = [], [], []

    def _say_all(self) -> None:
        unsaid, self._unsaid = self._unsaid, []
        for event, fields in unsaid:
            self._messages(event, **fields)


class UnderWay(msgspec.Struct, kw_only=True):
    """A round that has been planned and not yet judged."""

    kind: str
    name: str
    #: The id of the tick and of the round.
    tick: str
    id: str
    #: The seq of round.planned.
    seq: int
    #: The planned instant of the tick, epoch ms.
    planned_ms: int
    round: Round
    #: Key -> outcome, of the runs that have one.
    outcomes: dict[str, Outcome]
    #: Key -> how many entries the run has.
    counts: dict[str, int]
    #: Lane -> what its last outcome left.
    memory: dict[str, Memory]


#: (run, key -> outcome so far, key -> starts so far) -> whether it may start.
Ask: TypeAlias = Callable[[RunPlan, Mapping[str, Outcome], Mapping[str, int]], Permit]


def without_log(cut: Cut) -> Sequence[bytes]:
    """Refuse to read a log, where there is none. Raises: usage."""
    message = f"a run reads {cut.key} of the log {cut.log!r}, and this conductor has no log"
    raise Usage(message, hint="Have it conducted by the process that keeps the log.")


class Means(msgspec.Struct, frozen=True):
    """What a round is executed with."""

    writer: Writer
    store: Reader
    places: Places
    clock: Clock
    stop: Stop
    #: Seconds that running functions may go on after the first signal.
    drain_s: float
    #: Errands, done one by one whenever nothing has ended for IDLE_S.
    meanwhile: Iterator[Callable[[], object]] | None = None
    #: Says that the loop goes round; returns seconds until it wants to be called again.
    pulse: Callable[[], float | None] = unwatched
    #: The records of a cut of a log, as the bytes that arrived.
    log: Callable[[Cut], Sequence[bytes]] = without_log


class Execution:
    """Executes what is left of a round."""

    def __init__(
        self,
        under_way: UnderWay,
        pending: Pending,
        *,
        means: Means,
        judge: Callable[[Sequence[Outcome]], Verdict],
        permit: Ask | None = None,
    ) -> None:
        """Take over a round; `pending` may hold its round.planned, not yet written."""
        self._it = under_way
        self._pending = pending
        self._judge = judge
        self._permit = permit
        self._writer = means.writer
        self._store = means.store
        self._places = means.places
        self._clock = means.clock
        self._stop = means.stop
        self._drain_s = means.drain_s
        self._pulse = means.pulse
        self._log = means.log
        self._meanwhile = means.meanwhile
        self._errand = next(means.meanwhile, None) if means.meanwhile is not None else None
        self._plans = {run.key: run for run in under_way.round.runs}
        self._index = {run.key: index for index, run in enumerate(under_way.round.runs, 1)}
        require(len(self._plans) == len(under_way.round.runs), "two runs of a round share a key")
        self._ids = run_ids(round=under_way.id, keys=self._plans)
        self._in_flight: dict[str, int] = {}
        self._attempts: dict[str, int] = {}
        self._pending_since_s: float | None = None
        self._judged_at = 0
        self._began_s = 0.0
        self._asked_at_s: float | None = None
        #: How far the place was told to stop: 0 not yet, 1 asked, 2 killed.
        self._pressed = 0
        #: Why no further run starts: "", "signal", "deadline", "verdict".
        self.stopped = ""

    def run(self) -> list[Outcome]:
        """Execute what has no outcome yet; return all outcomes in key order."""
        left = [run for run in self._it.round.runs if run.key not in self._it.outcomes]
        if left:
            lanes = Lanes(left, self._it.round.rate)
            try:
                place = self._places.open(self._it.round)
            except Refused as error:
                for run in left:
                    self._refuse(run, str(error))
            else:
                try:
                    self._execute(lanes, place)
                finally:
                    place.close()
                for run in lanes.clear():
                    self._skip(run)
        return [self._it.outcomes[key] for key in sorted(self._it.outcomes)]

    def _execute(self, lanes: Lanes, place: Place) -> None:
        self._began_s = self._clock.monotonic_s()
        # A place that holds runs back would start them in a burst, past the rate of the round.
        ahead = self._it.round.pure and self._it.round.rate is None
        capacity = place.workers * (HANDED_MAX if ahead else 1)
        while True:
            now_s = self._clock.monotonic_s()
            self._look_for_reason_to_stop(now_s)
            if not self.stopped:
                self._start(lanes.take(now_s, capacity - len(self._in_flight)), lanes, place)
            if not self._in_flight and (self.stopped or not len(lanes)):
                return
            if self.stopped:
                self._press(place, now_s)
            timeout_s = self._timeout_s(lanes, now_s)
            if self._in_flight or timeout_s is not None:
                if not self._it.round.pure and self._pending.drafts:
                    # No start shares the commit of what ended: it is durable before the wait.
                    self._commit()
                self._wait(place, timeout_s, lanes)
            self._commit_batch_if_due()
            self._seal_if_due()
            self._judge_prefix()

    def _wait(self, place: Place, timeout_s: float | None, lanes: Lanes) -> None:
        """Take what has ended; with nothing to take for a moment, do one of the errands."""
        if self._errand is not None and self._in_flight:
            timeout_s = IDLE_S if timeout_s is None else min(timeout_s, IDLE_S)
        ended = place.wait(timeout_s)
        for executed in ended:
            self._end(executed, lanes)
        if self._errand is not None and self._meanwhile is not None and not ended:
            self._errand()
            self._errand = next(self._meanwhile, None)

    def _look_for_reason_to_stop(self, now_s: float) -> None:
        deadline_s = self._it.round.deadline_s
        if self.stopped:
            return
        if self._stop:
            self.stopped = "signal"
        elif deadline_s is not None and now_s - self._began_s >= deadline_s:
            self.stopped = "deadline"

    def _press(self, place: Place, now_s: float) -> None:
        """End what is under way: a first signal lets it go on for a while, a second kills it."""
        if self._asked_at_s is None:
            self._asked_at_s = now_s
        patience_s = self._drain_s if self.stopped == "signal" else 0.0
        is_over = now_s - self._asked_at_s >= patience_s
        wanted = KILLED if self._stop.level > 1 else int(is_over)
        if wanted > self._pressed:
            self._pressed = wanted
            place.stop(kill=wanted == KILLED)

    def _timeout_s(self, lanes: Lanes, now_s: float) -> float | None:
        """Return how long to wait for an end before something else is due; None for ever."""
        wakes: list[float | None] = []
        if not self.stopped:
            wakes.append(lanes.next_s(now_s))
            if self._it.round.deadline_s is not None:
                wakes.append(self._began_s + float(self._it.round.deadline_s))
        elif self._asked_at_s is not None and not self._pressed:
            wakes.append(self._asked_at_s + self._drain_s)
        if self._pending_since_s is not None and self._it.round.pure:
            wakes.append(self._pending_since_s + BATCH_AGE_S)
        unsealed_s = self._writer.wait_before_seal_s()
        if unsealed_s is not None:
            wakes.append(now_s + unsealed_s)
        if (pulse_s := self._pulse()) is not None:
            wakes.append(now_s + pulse_s)
        due = [wake for wake in wakes if wake is not None]
        return max(0.0, min(due) - self._clock.monotonic_s()) if due else None

    def _seal_if_due(self) -> None:
        """Seal what a long run leaves unsealed, so that its start is soon beyond doubt."""
        unsealed_s = self._writer.wait_before_seal_s()
        if unsealed_s is not None and unsealed_s <= 0:
            self._writer.seal()

    def _start(self, runs: Sequence[RunPlan], lanes: Lanes, place: Place) -> None:
        works: list[Work] = []
        for run in runs:
            permit = self._ask(run)
            if permit.refused:
                self._refuse(run, permit.refused, permit.refusal)
                lanes.ended(run)
                continue
            attempt = self._attempts.get(run.key, 0) + 1
            self._attempts[run.key] = self._in_flight[run.key] = attempt
            granted = _with_timeout(run, permit.timeout_s)
            if not self._it.round.pure:
                timeout_ms = 0 if granted is run else int((permit.timeout_s or 0) * 1000)
                body = RunStarted(key=run.key, attempt=attempt, timeout_ms=timeout_ms)
                self._draft(run.key, body)
            works.append(self._work(granted, attempt))
            self._pending.say(
                "run.started",
                key=run.key,
                agent=run.agent,
                index=self._index[run.key],
                of=len(self._plans),
                attempt=attempt,
                run=works[-1].run,
            )
        if works and (not self._it.round.pure or self._it.seq >= self._writer.next_seq):
            self._commit()
        # However long the commit took: it is the start that the rate is about.
        lanes.stamp(taken=len(runs), started=len(works), at_s=self._clock.monotonic_s())
        if works:
            place.start(works)

    def _work(self, run: RunPlan, attempt: int) -> Work:
        inputs: list[bytes] = []
        for ref in run.inputs:
            kept = self._store.blob(ref.digest) or self._unwritten(ref.digest)
            if kept is None or digest(kept.data) != ref.digest:
                state = "missing" if kept is None else "altered"
                message = f"the input {ref.digest} of {run.key} is {state}"
                raise StoreCorrupt(message)
            inputs.append(kept.data)
        if run.cut is not None:
            inputs.extend(self._log(run.cut))
        return Work(
            plan=run,
            run=self._ids[run.key],
            attempt=attempt,
            scheduled_ms=self._it.planned_ms,
            inputs=tuple(inputs),
            memory=self._it.memory.get(run.lane) if run.lane else None,
        )

    def _unwritten(self, wanted: str) -> Content | None:
        return next((item for item in self._pending.contents if item.digest == wanted), None)

    def _end(self, executed: Executed, lanes: Lanes) -> None:
        outcome = executed.outcome
        run = self._plans[outcome.key]
        attempt = self._in_flight.pop(outcome.key)
        if self._is_repeatable(executed) and not self.stopped:
            wait_s = delay_s(self._it.round.retry, attempt)
            if wait_s is not None:
                next_ms = self._clock.now_ms() + int(wait_s * 1000)
                message = printable(outcome.message, MESSAGE_MAX)
                body = RunDeferred(key=run.key, attempt=attempt, next_ms=next_ms, message=message)
                self._draft(run.key, body)
                lanes.repeat(run, self._clock.monotonic_s() + wait_s)
                return
        self._finish(outcome, executed.contents, attempts=attempt, fits=executed.fits)
        lanes.ended(run)

    def _is_repeatable(self, executed: Executed) -> bool:
        """Say whether a run asks to be repeated, or failed in a round that repeats failures."""
        outcome = executed.outcome
        has_failed = outcome.status == "failed" and outcome.reason in REPEATABLE
        return executed.deferred or (self._it.round.retry.on_failure and has_failed)

    def _ask(self, run: RunPlan) -> Permit:
        """Return whether a run may start: as planned, and as things stand now."""
        if run.refused:
            return Permit(refused=run.refused, refusal=run.refusal)
        if self._permit is None:
            return Permit()
        return self._permit(run, self._it.outcomes, self._attempts)

    def _refuse(self, run: RunPlan, message: str, refusal: Mapping[str, Any] | None = None) -> None:
        self._finish(
            Outcome(
                key=run.key,
                status="failed",
                reason="refused",
                message=message,
                value={"refused": dict(refusal)} if refusal else {},
                attempts=self._attempts.get(run.key, 0),
                finished_ms=self._clock.now_ms(),
            )
        )

    def _skip(self, run: RunPlan) -> None:
        self._finish(
            Outcome(
                key=run.key,
                status="skipped",
                reason=self.stopped or "cancelled",
                attempts=self._attempts.get(run.key, 0),
                finished_ms=self._clock.now_ms(),
            )
        )

    def _finish(
        self,
        outcome: Outcome,
        contents: Sequence[Content] = (),
        *,
        attempts: int | None = None,
        fits: bool = False,
    ) -> None:
        run = self._plans[outcome.key]
        outcome, kept = _recordable(outcome, attempts, fits=fits)
        self._it.outcomes[run.key] = outcome
        if kept is None and run.leaves is not None:
            kept = encode({**self._it.memory.get(run.lane, {}), **run.leaves})
        left, memory = None, ""
        if kept is not None and run.lane:
            # A value of its own for the next run, which may do with it what it likes.
            self._it.memory[run.lane] = msgspec.json.decode(kept)
            if len(kept) <= LEFT_MAX:
                left = msgspec.json.decode(kept)
            else:
                memory = digest(kept)
                self._pending.contents.append(Content(digest=memory, data=kept))
        self._pending.contents.extend(contents)
        body = finished_body(outcome, left, memory)
        self._draft(run.key, body, blobs=outcome.blobs, fits=True)
        if self._pending_since_s is None:
            self._pending_since_s = self._clock.monotonic_s()
        self._pending.say(
            "run.finished",
            key=run.key,
            status=outcome.status,
            reason=outcome.reason,
            message=outcome.message,
            duration_ms=outcome.used.duration_ms,
            index=self._index[run.key],
            of=len(self._plans),
        )

    def _draft(self, key: str, body: Any, **fields: Any) -> None:
        n = self._it.counts.get(key, 0)
        self._it.counts[key] = n + 1
        self._pending.drafts.append(Draft(body=body, run=self._ids[key], n=n, **fields))

    def _commit(self) -> None:
        self._pending.commit(self._writer)
        self._pending_since_s = None

    def _commit_batch_if_due(self) -> None:
        if not self._it.round.pure or self._pending_since_s is None:
            return
        age_s = self._clock.monotonic_s() - self._pending_since_s
        if len(self._pending.drafts) >= BATCH_MAX or age_s >= BATCH_AGE_S:
            self._commit()

    def _judge_prefix(self) -> None:
        every = self._it.round.judge_every
        if not every or self.stopped or len(self._it.outcomes) // every == self._judged_at:
            return
        self._judged_at = len(self._it.outcomes) // every
        if len(self._it.outcomes) < len(self._plans):
            verdict = self._judge([self._it.outcomes[key] for key in sorted(self._it.outcomes)])
            if verdict.stop:
                self.stopped = "verdict"


def _with_timeout(run: RunPlan, timeout_s: float | None) -> RunPlan:
    """Return a command with a shorter time limit; the same run when it is no shorter."""
    work = run.work
    if timeout_s is None or not isinstance(work, Command):
        return run
    if 0 < work.limits.timeout_s <= timeout_s:
        return run
    limits = msgspec.structs.replace(work.limits, timeout_s=timeout_s)
    return msgspec.structs.replace(run, work=msgspec.structs.replace(work, limits=limits))


def finished_body(outcome: Outcome, left: Memory | None = None, memory: str = "") -> RunFinished:
    """Return the body of run.finished for an outcome.

    What it left for its lane stands in it, or is the blob of the digest `memory`.
    """
    return RunFinished(
        key=outcome.key,
        status=outcome.status,
        reason=outcome.reason,
        message=outcome.message,
        value=outcome.value,
        attempts=outcome.attempts,
        started_ms=outcome.started_ms,
        finished_ms=outcome.finished_ms,
        used=outcome.used,
        level=outcome.level,
        warmth=outcome.warmth,
        left=left,
        memory=memory,
        reused=outcome.reused,
    )


def _recordable(
    outcome: Outcome, attempts: int | None, *, fits: bool
) -> tuple[Outcome, bytes | None]:
    """Return an outcome as the record gives it back, and the memory that it left, as JSON.

    One whose answer cannot stand in an entry has failed; `fits`: that was looked at.
    """
    problem, value, memory = "", b"{}", None
    encoded = encode_again if fits else encode
    try:
        value = encoded(dict(outcome.value))
        if outcome.memory is not None:
            memory = encoded(dict(outcome.memory))
        if len(value) > VALUE_MAX:
            problem = f"the answer is {len(value)} bytes; at most {VALUE_MAX} are kept in an entry"
    except NotCanonical as error:
        problem = f"the answer has no canonical form: {error}"
    changed: dict[str, Any] = {
        "reason": printable(outcome.reason, REASON_MAX),
        "message": printable(outcome.message, MESSAGE_MAX),
        "value": msgspec.json.decode(value),
        "memory": None,
        "attempts": outcome.attempts if attempts is None else attempts,
    }
    if problem:
        changed |= {"status": "failed", "reason": "value", "message": problem, "value": {}}
        memory = None
    return msgspec.structs.replace(outcome, **changed), memory


def printable(text: str, most: int) -> str:
    """Return at most so many characters, without lone surrogates, which no entry can hold."""
    if text.isascii():
        return text[:most]
    return text.encode("utf-8", "backslashreplace").decode()[:most]


def by_status(outcomes: Sequence[Outcome]) -> Mapping[str, int]:
    """Return how many outcomes there are of each status."""
    counts: dict[str, int] = {}
    for outcome in outcomes:
        counts[outcome.status] = counts.get(outcome.status, 0) + 1
    return counts
