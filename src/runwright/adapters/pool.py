"""The place in which the calls of a pure round execute in processes of their own.

Calls go to workers by the chunk, as many as a few milliseconds of work are; a worker has one chunk
to work on and one that it need not wait for. A call that does not end in its time is killed with
its worker, and so is the one that took its worker down; what else was with that worker is run again
by another one, which is harmless because only pure rounds execute here.
"""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections import deque
from collections.abc import Sequence
from typing import Final

import msgspec

from runwright.adapters.children import LauncherLost
from runwright.adapters.functions import Instants, failed, stopped, text_of
from runwright.adapters.worker import Chunk
from runwright.adapters.workers import Kind, Worker, Workers, timeout_s
from runwright.kernel.ports import Clock, Work
from runwright.kernel.run import Call, Executed, Resources

#: Calls that one message to a worker holds at most.
CHUNK_MAX: Final = 64
#: Seconds of work that a message should be.
CHUNK_S: Final = 0.004
#: Chunks that are with a worker: one at work, one that it need not wait for.
CHUNKS_AHEAD: Final = 2
#: Seconds that a call is taken to last before one was measured.
GUESS_S: Final = 0.000_5
#: How much of what was measured last goes into the estimate.
NEWEST: Final = 0.3
#: Workers that may end one after the other without a call being to blame.
MISSES_MAX: Final = 3
#: Seconds beyond their limits that the calls of a chunk may take together, starting included.
SPARE_S: Final = 30.0


class ProcessPlace:
    """Calls of a pure round execute in worker processes, several to a message."""

    def __init__(self, workers: int, clock: Clock, processes: Workers) -> None:
        """So many workers at once, taken when there is work."""
        self.workers = workers
        self.closed = False
        self._clock = clock
        self._processes = processes
        self._crew: list[Worker] = []
        self._poll = select.poll()
        self._woken, self._wake = os.pipe()
        os.set_blocking(self._woken, False)
        os.set_blocking(self._wake, False)
        self._poll.register(self._woken, select.POLLIN)
        self._waiting: deque[Work] = deque()
        self._number = 0
        self._most = 1
        self._call_s = GUESS_S
        self._misses = 0
        #: The run ids of calls of which one took its worker down after its end; they go alone.
        self._suspects: set[str] = set()
        self._stopping = False
        self._back: list[Executed] = []

    def start(self, work: Sequence[Work]) -> None:
        """Start attempts."""
        self._waiting.extend(work)
        # Every worker gets its share, also of a round that is short.
        self._most = max(1, len(self._waiting) // (CHUNKS_AHEAD * self.workers))
        self._fill()

    def wait(self, timeout_s: float | None) -> list[Executed]:
        """Return what has ended, waiting until something has, `wake` was called or time is up."""
        until_s = None if timeout_s is None else time.monotonic() + timeout_s
        is_woken = False
        self._fill()
        while not self._back and not is_woken:
            is_woken = self._hear(until_s)
            self._end_overdue()
            self._fill()
            if until_s is not None and time.monotonic() >= until_s:
                break
        back, self._back = self._back, []
        return back

    def wake(self) -> None:
        """Make `wait` return; safe in a signal handler."""
        if not self.closed:
            # One that is full wakes as well.
            with contextlib.suppress(BlockingIOError):
                os.write(self._wake, b".")

    def stop(self, *, kill: bool) -> None:
        """Take back what is not with a worker; kill the workers when that is asked for."""
        self._stopping = True
        self._back += [stopped(work) for work in self._waiting]
        self._waiting.clear()
        if kill:
            self._kill()

    def close(self) -> None:
        """Kill what is under way, and keep the workers that have nothing to do."""
        if self.closed:
            return
        self.closed = True
        self._stopping = True
        self._kill()
        for worker in [*self._crew]:
            self._release(worker)
            self._processes.give_back(worker)
        os.close(self._woken)
        os.close(self._wake)

    def _kill(self) -> None:
        for worker in [worker for worker in self._crew if worker.flights]:
            self._back += [stopped(work) for flight in worker.flights for work in flight.work]
            self._release(worker)
            self._processes.end(worker)

    # ------------------------------------------------------------------------------ handing out

    def _fill(self) -> None:
        """Hand work to workers, chunk by chunk, to the one that has least."""
        while self._waiting and not self._stopping:
            kind = self._kind_of(self._waiting[0])
            if isinstance(kind, str):
                self._back.append(failed(self._waiting.popleft(), "refused", kind))
                continue
            worker = self._worker(kind)
            if worker is None:
                return
            self._number += 1
            chunk = Chunk(self._number, Instants.of(self._clock), tuple(self._chunk(kind)))
            worker.send(chunk)
            self._watch(worker)

    def _kind_of(self, work: Work) -> Kind | str:
        """Return what kind of worker a call needs, or why it must not be called."""
        wanted = work.plan.work
        if work.plan.refused:
            return work.plan.refused
        if not isinstance(wanted, Call):
            return "a command runs only in a place for commands"
        is_confined = bool(wanted.confined) and self._processes.holds_confinement()
        if wanted.confined == "demanded" and not is_confined:
            return f"{wanted.name} demands confinement, and this machine does not hold T1"
        return Kind(is_confined, wanted.memory_mib)

    def _chunk(self, kind: Kind) -> list[Work]:
        """Take the calls of one kind that are to go together."""
        count = min(self._most, CHUNK_MAX, max(1, int(CHUNK_S / self._call_s)))
        taken = [self._waiting.popleft()]
        if taken[0].run in self._suspects:
            return taken
        while self._waiting and len(taken) < count and self._kind_of(self._waiting[0]) == kind:
            taken.append(self._waiting.popleft())
        return taken

    def _worker(self, kind: Kind) -> Worker | None:
        """Return a worker with room for a chunk; None when all of them have enough."""
        mine = [worker for worker in self._crew if worker.kind == kind]
        least = min(mine, key=lambda worker: len(worker.flights), default=None)
        if least is not None and not least.flights:
            return least
        if len(self._crew) >= self.workers:
            # One of another kind gives its place away.
            idle = next((each for each in self._crew if not each.flights), None)
            if idle is None:
                return least if least and len(least.flights) < CHUNKS_AHEAD else None
            self._release(idle)
            self._processes.give_back(idle)
        return self._taken(kind)

    def _taken(self, kind: Kind) -> Worker | None:
        """Take one more worker; None when there is none to be had, which fails what waits."""
        try:
            worker = self._processes.take(kind)
        except (LauncherLost, OSError) as error:
            message = f"no worker could be started: {text_of(error)}"
            self._back += [failed(work, "not-started", message) for work in self._waiting]
            self._waiting.clear()
            return None
        self._crew.append(worker)
        self._poll.register(worker.child.stdout, select.POLLIN)
        self._poll.register(worker.child.control.fileno(), select.POLLIN)
        self._poll.register(worker.requests, 0)
        return worker

    def _watch(self, worker: Worker) -> None:
        self._poll.modify(worker.requests, select.POLLOUT if worker.has_unsent else 0)

    def _release(self, worker: Worker) -> None:
        """Let a worker go from this place."""
        self._crew.remove(worker)
        for descriptor in (worker.child.stdout, worker.child.control.fileno(), worker.requests):
            # An output that was closed early is not among them any more.
            with contextlib.suppress(KeyError):
                self._poll.unregister(descriptor)

    # ------------------------------------------------------------------------------ taking back

    def _hear(self, until_s: float | None) -> bool:
        """Take in what workers say, until something happens; True when `wake` was called."""
        now_s = time.monotonic()
        wakes = [until_s, *(self._due_s(worker) for worker in self._crew)]
        # Nobody says that a call begins, so one that has a limit may be under way unseen.
        wakes += [now_s + worker.least_s for worker in self._crew if worker.least_s]
        due_s = min((each for each in wakes if each is not None), default=None)
        left_s = None if due_s is None else max(0.0, due_s - now_s)
        # Rounded up: poll counts in milliseconds, and waking early would only spin.
        events = dict(self._poll.poll(None if left_s is None else int(left_s * 1000) + 1))
        for worker in [*self._crew]:
            if events.get(worker.requests, 0) & select.POLLOUT:
                worker.flush()
                self._watch(worker)
            # In this order: one that ended may have answered before.
            if worker.child.stdout in events:
                self._take(worker)
            if worker.child.control.fileno() in events and not worker.child.hear():
                self._take(worker)
                self._lose(worker)
        if self._woken not in events:
            return False
        os.read(self._woken, 1 << 16)
        return True

    def _take(self, worker: Worker) -> None:
        """Take back the chunks that a worker has answered."""
        answers = worker.answers()
        for answer in answers:
            self._misses = 0
            took_s = answer.took_s / max(1, len(answer.executed))
            self._call_s += NEWEST * (max(took_s, 1e-6) - self._call_s)
            self._back += [_received(each, worker.level) for each in answer.executed]
        if worker.is_garbled or (not answers and worker.is_silent()):
            # Nobody can answer any more; its control socket says how it ended.
            worker.kill()
            with contextlib.suppress(KeyError):
                self._poll.unregister(worker.child.stdout)

    def _lose(self, worker: Worker) -> None:
        """Give up a worker that has ended: the call that was under way has failed by that."""
        message = f"its worker process {worker.ending()}"
        under_way = worker.under_way()
        unanswered = worker.unanswered()
        if under_way is None and len(unanswered) == 1:
            under_way = unanswered[0], worker.flights[0].since_s
        blamed = None
        if under_way is not None:
            blamed, since_s = under_way
            self._back.append(self._ended(worker, blamed, "worker-died", message, since_s))
        elif unanswered:
            self._misses = 0
            self._suspects.update(work.run for work in unanswered)
        self._replace(worker, blamed, message)
        worker.close()

    def _replace(self, worker: Worker, blamed: Work | None, message: str) -> None:
        """Let a worker go, and run again what else was with it."""
        self._release(worker)
        left = [work for flight in worker.flights for work in flight.work if work is not blamed]
        if self._stopping:
            self._back += [stopped(work) for work in left]
            return
        if blamed is None and left:
            self._misses += 1
            if self._misses >= MISSES_MAX:
                self._back += [failed(work, "not-started", message) for work in left]
                return
        self._waiting.extendleft(reversed(left))

    def _end_overdue(self) -> None:
        """Kill workers whose call does not end in its time, and take the next ones."""
        now_s = time.monotonic()
        for worker in [*self._crew]:
            due_s = self._due_s(worker)
            if due_s is None or now_s < due_s:
                continue
            under_way = worker.under_way()
            work = under_way[0] if under_way else worker.flights[0].work[0]
            since_s = under_way[1] if under_way else worker.flights[0].since_s
            message = f"no end after {timeout_s(work):g} s; its process was ended"
            self._back.append(self._ended(worker, work, "timeout", message, since_s))
            self._replace(worker, work, message)
            self._processes.end(worker)

    def _due_s(self, worker: Worker) -> float | None:
        """Return when a worker's call has to have ended; None when it may go on."""
        if not worker.flights:
            return None
        flight = worker.flights[0]
        # By this clock alone, should the call have written into the file that it shares with us.
        at_most = flight.since_s + flight.most_s + SPARE_S if flight.most_s else None
        under_way = worker.under_way()
        if under_way is None or not (limit_s := timeout_s(under_way[0])):
            return at_most
        due_s = under_way[1] + limit_s
        return due_s if at_most is None else min(due_s, at_most)

    def _ended(
        self, worker: Worker, work: Work, reason: str, message: str, since_s: float
    ) -> Executed:
        """Return the outcome of a call that ended with its process."""
        executed = failed(work, reason, message)
        took_ms = max(0, round((time.monotonic() - since_s) * 1000))
        now_ms = self._clock.now_ms()
        outcome = msgspec.structs.replace(
            executed.outcome,
            started_ms=now_ms - took_ms,
            finished_ms=now_ms,
            used=Resources(duration_ms=took_ms),
            level=worker.level,
        )
        return msgspec.structs.replace(executed, outcome=outcome)


def _received(executed: Executed, level: str) -> Executed:
    """Return what a worker sent; that it looked at its answer does not count here."""
    outcome = msgspec.structs.replace(executed.outcome, level=level)
    return msgspec.structs.replace(executed, outcome=outcome, fits=False)
