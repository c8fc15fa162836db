"""Takes events one by one, from any thread, and appends them to a log in groups.

While one group is made durable the next one gathers, so nobody waits for a commit of its own. What
is taken and not yet durable is bounded: beyond that `put` waits, and says so when it waited long.
While an intake is open its thread is the writer; `alone` lets another thread write in between.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Final, Self

from runwright.kernel.drive.log import Log
from runwright.kernel.errors import BufferFull, InternalError, RunwrightError
from runwright.kernel.record.log import RECORDS_MAX

#: Events that may be taken and not durable yet.
WINDOW: Final = 8_192
#: The most events of one commit.
GROUP_MAX: Final = 4_096
#: Seconds that `put` waits for room before it raises.
PATIENCE_S: Final = 5.0


class Intake:
    """The one-event door of a log."""

    def __init__(
        self,
        log: Log,
        *,
        window: int = WINDOW,
        group: int = GROUP_MAX,
        patience_s: float = PATIENCE_S,
    ) -> None:
        """Take nothing yet: that begins with `with`."""
        self._log = log
        self._window = window
        self._group = min(group, RECORDS_MAX)
        self._patience_s = patience_s
        self._pending: deque[tuple[bytes, str]] = deque()
        #: How many were taken out of `pending` and are being made durable.
        self._under_way = 0
        #: The newest ingest_seq that is durable.
        self.acknowledged = log.last_seq
        self._failure: RunwrightError | None = None
        self._is_idle = self._is_closing = False
        self._wake = threading.Event()
        self._moved = threading.Condition()
        self._writing = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="runwright intake")

    def __enter__(self) -> Self:
        """Begin to take events."""
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Make durable what was taken, and end. Raises: what the log raised."""
        self._is_closing = True
        self._wake.set()
        self._thread.join()
        if kind is None:
            self._require_whole()

    def put(self, data: bytes, key: str) -> None:
        """Take one event; it is durable once `acknowledged` has passed it.

        Events of one thread keep their order. Raises: buffer-full when there was no room for as
        long as one waits, and the event was not taken then; what the log raised for an earlier one.
        """
        if self._failure is not None or len(self._pending) + self._under_way >= self._window:
            self._wait_for_room()
        self._pending.append((data, key))
        if self._is_idle:
            self._wake.set()

    def flush(self) -> int:
        """Wait until all that was taken is durable; return `acknowledged`.

        Raises: buffer-full when the log holds all that it may; what the log raised.
        """
        self._wait(lambda: not self._pending and not self._under_way)
        return self.acknowledged

    @contextmanager
    def alone(self) -> Iterator[Log]:
        """Hold the log for oneself between two groups, to seal, to retire or to close a tick."""
        with self._writing:
            yield self._log
        self._wake.set()

    def _wait_for_room(self) -> None:
        self._wait(lambda: len(self._pending) + self._under_way < self._window)

    def _wait(self, is_so: Callable[[], bool]) -> None:
        with self._moved:
            if self._is_idle:
                self._wake.set()
            done = self._moved.wait_for(
                lambda: self._failure is not None or is_so(), self._patience_s
            )
        self._require_whole()
        if not done:
            message = f"log {self._log.name} took no event for {self._patience_s} s"
            raise BufferFull(message)

    def _require_whole(self) -> None:
        if self._failure is not None:
            raise self._failure

    # ------------------------------------------------------------------------------- its thread

    def _run(self) -> None:
        failure: RunwrightError = InternalError("the thread of an intake ended by itself")
        try:
            while self._await_events():
                self._append()
        except RunwrightError as error:
            failure = error
        else:
            return
        finally:
            with self._moved:
                self._failure = failure if self._pending or self._under_way else None
                self._moved.notify_all()

    def _await_events(self) -> bool:
        """Wait until there is something to append; False: there never will be."""
        while True:
            self._wake.clear()
            self._is_idle = True
            # Looked at once more after saying so: whoever came before saw nobody to wake.
            can_append = bool(self._pending) and self._log.room() > 0
            if not can_append and not self._is_closing:
                self._wake.wait()
            self._is_idle = False
            if self._pending and self._log.room() > 0:
                return True
            if self._is_closing:
                if self._pending:
                    message = f"log {self._log.name} has no room for {len(self._pending)} events"
                    raise BufferFull(message)
                return False

    def _append(self) -> None:
        with self._writing:
            count = min(len(self._pending), self._group, self._log.room())
            self._under_way = count
            take = self._pending.popleft
            items, keys = zip(*[take() for _ in range(count)], strict=True)
            self.acknowledged = self._log.append(items, keys)
        with self._moved:
            self._under_way = 0
            self._moved.notify_all()
