"""The place in which the calls of a pure round execute in a pool of processes."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import deque
from collections.abc import Sequence
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final

from runwright.adapters.functions import Instants, call_all, failed, stopped, text_of
from runwright.kernel.ports import Clock, Work
from runwright.kernel.run import Executed

if TYPE_CHECKING:
    from concurrent.futures import Future, ProcessPoolExecutor

#: Runs that one message to a worker process holds at most.
CHUNK_MAX: Final = 16
#: Messages per worker process that a round is cut into when it has runs enough.
CHUNKS_PER_WORKER: Final = 4
#: Chunks that are with the pool per worker: one at work, one that it need not wait for.
CHUNKS_AHEAD: Final = 2


class ProcessPlace:
    """Calls of a pure round execute in a pool of processes, several to a message.

    A worker that dies takes the whole pool with it, so all that was with the pool is run again, one
    by one, until the run that kills its worker is found.
    """

    level = ""

    def __init__(self, workers: int, clock: Clock) -> None:
        """So many processes, started when there is work."""
        self.workers = workers
        self.closed = False
        self._clock = clock
        self._pool: ProcessPoolExecutor | None = None
        self._landed: SimpleQueue[Future[list[Executed]] | None] = SimpleQueue()
        self._flying: dict[Future[list[Executed]], list[Work]] = {}
        self._waiting: deque[Work] = deque()
        self._suspects: deque[Work] = deque()
        #: A suspect is with the pool, and nothing else.
        self._alone = False
        self._chunk = 1
        self._stopping = False
        self._back: list[Executed] = []

    def start(self, work: Sequence[Work]) -> None:
        """Start attempts."""
        self._waiting.extend(work)
        self._chunk = max(1, min(CHUNK_MAX, len(work) // (CHUNKS_PER_WORKER * self.workers)))
        self._fill()

    def wait(self, timeout_s: float | None) -> list[Executed]:
        """Return what has ended, waiting until something has, `wake` was called or time is up."""
        until = None if timeout_s is None else time.monotonic() + timeout_s
        if not self._flying:
            # Nothing would land, so what could not be handed over is tried again here.
            self._fill()
        while not self._back:
            left = None if until is None else max(0.0, until - time.monotonic())
            try:
                future = self._landed.get(timeout=left)
            except Empty:
                break
            if future is None:
                break
            self._land(future)
            self._fill()
        back, self._back = self._back, []
        return back

    def wake(self) -> None:
        """Make `wait` return; safe in a signal handler."""
        self._landed.put(None)

    def stop(self, *, kill: bool) -> None:
        """Take back what is not with the pool; kill its processes when that is asked for."""
        self._stopping = True
        self._back += [stopped(work) for work in (*self._suspects, *self._waiting)]
        self._suspects.clear()
        self._waiting.clear()
        if kill:
            self._kill()

    def close(self) -> None:
        """Kill what is under way and let go of the pool."""
        self.closed = True
        self._stopping = True
        if self._flying:
            self._kill()
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None

    def _fill(self) -> None:
        """Hand work to the pool: suspects alone, others by the chunk."""
        if self._suspects:
            # A pool that broke is replaced once all that was with it has come back.
            if not self._flying:
                self._alone = True
                self._submit([self._suspects.popleft()])
            return
        if self._alone and self._flying:
            return
        self._alone = False
        while self._waiting and not self._suspects and self._has_room():
            count = min(self._chunk, len(self._waiting))
            self._submit([self._waiting.popleft() for _ in range(count)])

    def _has_room(self) -> bool:
        return len(self._flying) < CHUNKS_AHEAD * self.workers

    def _submit(self, work: list[Work]) -> None:
        from concurrent.futures import BrokenExecutor  # lazy: 20 ms, for this place only

        is_fresh = self._pool is None
        try:
            self._pool = self._pool or _make_pool(self.workers)
            future = self._pool.submit(call_all, work, Instants.of(self._clock))
        # A pool that breaks meanwhile may also say that one of its pipes is closed.
        except (BrokenExecutor, OSError) as error:
            self._let_go()
            if is_fresh:
                self._back += [failed(each, "not-started", text_of(error)) for each in work]
                return
            self._suspects.extend(work)
            if not self._flying:
                self._fill()
            return
        self._flying[future] = work
        future.add_done_callback(self._landed.put)

    def _land(self, future: Future[list[Executed]]) -> None:
        """Take back a chunk: what came of it, or what has to be run again."""
        from concurrent.futures import BrokenExecutor  # lazy: as above

        work = self._flying.pop(future)
        error = future.exception()
        if error is None:
            self._back += future.result()
        elif not isinstance(error, BrokenExecutor):
            self._back += [failed(each, "raised", text_of(error)) for each in work]
        else:
            self._let_go()
            if self._stopping:
                self._back += [stopped(each) for each in work]
            elif self._alone:
                self._back.append(failed(work[0], "worker-died", "its worker process died"))
            else:
                self._suspects.extend(work)

    def _let_go(self) -> None:
        """Forget a pool that is broken."""
        if self._pool is not None:
            self._pool.shutdown(wait=False)
            self._pool = None

    def _kill(self) -> None:
        import multiprocessing  # lazy: as above

        for process in multiprocessing.active_children():
            process.kill()


def _make_pool(workers: int) -> ProcessPoolExecutor:
    """Return a pool of fresh interpreters: a fork of a process with threads may deadlock."""
    import multiprocessing  # lazy: as above
    from concurrent.futures import ProcessPoolExecutor  # lazy: as above

    return ProcessPoolExecutor(
        workers,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_attend,
    )


def _attend() -> None:
    """Let a worker end with its conductor, and leave Ctrl-C to the conductor."""
    import multiprocessing  # lazy: as above

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_after, args=(parent,), daemon=True).start()


def _end_after(parent: Any) -> None:
    parent.join()
    os._exit(1)
