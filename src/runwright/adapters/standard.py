"""Standard input and output: a source that lets its pipe fill, a sink that waits a bounded time.

A pipe has no past: what was read of it and not committed when the process dies is gone with it, so
a producer that has to be sure writes a file or a broker.
"""

from __future__ import annotations

import os
import select
import stat
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

from runwright.adapters.lines import Lines, events_of, header_of
from runwright.kernel.errors import Deferred, RunwrightError
from runwright.kernel.ports import Arrival, Delivery

#: Bytes that are read of a pipe at once: what it holds.
PIPE: Final = 64 * 1024
#: Bytes of whole lines that wait for the conductor; with more of them nothing is read.
WAITING_MAX: Final = 1024 * 1024
#: What a pipe takes without blocking once `select` says that it takes something.
ATOMIC: Final = select.PIPE_BUF


class StdinSource:
    """The EventSource port on a descriptor, read by a thread of its own; one line is one event."""

    look_s: float | None = None

    def __init__(
        self,
        name: str,
        *,
        now_ms: Callable[[], int],
        wake: Callable[[], None],
        has_header: bool = False,
        file: int = 0,
    ) -> None:
        """Read once it is polled; `wake` is called from the thread whenever something came."""
        #: The first line, where it is a header; it is in every position as well.
        self.header = ""
        self._lacks_header = has_header
        self.name = name
        self._now_ms = now_ms
        self._wake = wake
        self._file = file
        self._lines = Lines("standard input")
        self._ended = False
        self._error: RunwrightError | None = None
        self._paused = False
        self._closing = False
        self._changed = threading.Condition()
        self._knock_read, self._knock_write = os.pipe()
        for descriptor in (self._knock_read, self._knock_write):
            os.set_blocking(descriptor, False)
        self._thread: threading.Thread | None = None

    @property
    def is_over(self) -> bool:
        """Whether the writer closed it and every line was handed out."""
        with self._changed:
            return self._closing or (self._ended and not len(self._lines) and self._error is None)

    def poll(self, most: int) -> Arrival | None:
        """Return the lines that came; None while it is paused or nothing has.

        Raises: deferred when it cannot be read, invalid-spec for a line that is too long.
        """
        with self._changed:
            if self._thread is None and not self._closing:
                self._thread = threading.Thread(target=self._read, name="stdin", daemon=True)
                self._thread.start()
            if self._paused:
                return None
            if self._lacks_header and len(self._lines):
                self.header = header_of(self._lines.take(1)[0], "standard input")
                self._lacks_header = False
            items = list[bytes]()
            while not items and len(self._lines):
                items = events_of(self._lines.take(most))
            if not items and self._error is not None:
                raise self._error
            self._changed.notify_all()
        if not items:
            return None
        position = {"header": self.header} if self.header else None
        return Arrival(source=self.name, items=items, position=position, received_ms=self._now_ms())

    def _read(self) -> None:
        """Read until the end, as long as there is room; runs in the thread."""
        while True:
            with self._changed:
                self._changed.wait_for(self._may_read)
                if self._closing:
                    return
            ready, _, _ = select.select([self._file, self._knock_read], [], [])
            with self._changed:
                if self._closing:
                    return
                if self._paused or self._file not in ready:
                    # It was paused while nothing came: what came now stays in the pipe.
                    with suppress(BlockingIOError):
                        os.read(self._knock_read, PIPE)
                    continue
                is_ended = self._take()
            self._wake()
            if is_ended:
                return

    def _may_read(self) -> bool:
        return self._closing or (not self._paused and self._lines.size < WAITING_MAX)

    def _take(self) -> bool:
        """Read what is there; say whether that was the end."""
        try:
            piece = os.read(self._file, PIPE)
            if piece:
                self._lines.feed(piece)
                return False
            self._lines.finish()
        except BlockingIOError:
            return False
        except RunwrightError as error:
            self._error = error
        except OSError as error:
            self._error = Deferred(f"standard input cannot be read: {error.strerror}")
        self._ended = True
        return True

    def acknowledge(self, position: Any) -> None:
        """Nothing: a pipe is not told what was read of it."""

    def pause(self) -> None:
        """Stop reading, so that the pipe fills and its writer waits."""
        with self._changed:
            self._paused = True
        self._knock()

    def resume(self) -> None:
        """Go on reading."""
        with self._changed:
            self._paused = False
            self._changed.notify_all()
        self._wake()

    def _knock(self) -> None:
        with suppress(OSError):
            os.write(self._knock_write, b"!")

    def close(self) -> None:
        """End the thread; the descriptor stays open. Again is nothing."""
        with self._changed:
            if self._closing:
                return
            self._closing = True
            self._changed.notify_all()
        self._knock()
        if self._thread is not None:
            self._thread.join()
        os.close(self._knock_read)
        os.close(self._knock_write)


class StdoutSink:
    """The Sink port on a descriptor: whole lines, each once while this process lives."""

    is_batched = True
    #: A reader may be gone with what it read.
    durability: Final = "unknown"

    def __init__(self, *, file: int = 1, timeout_s: float = 5.0) -> None:
        """Write to a descriptor; a reader that takes nothing for so long is slow."""
        self._file = file
        self._timeout_s = timeout_s
        self._is_pipe = stat.S_ISFIFO(os.fstat(file).st_mode) or stat.S_ISSOCK(
            os.fstat(file).st_mode
        )
        #: The delivery that was cut off, and what of it is still to be written.
        self._cut: tuple[str, bytes] = ("", b"")
        #: What was written whole by calls that failed later.
        self._written = set[str]()

    def deliver(self, deliveries: Sequence[Delivery]) -> None:
        """Write each delivery; one that was cut off is gone on with where it was.

        Raises: deferred when the reader is slow or gone.
        """
        for delivery in deliveries:
            if self._cut[1]:
                self._flush()
            if delivery.id in self._written:
                continue
            self._cut = (delivery.id, delivery.body.removesuffix(b"\n") + b"\n")
            self._flush()
        self._written.clear()

    def _flush(self) -> None:
        """Write what is still to be written. Raises: deferred."""
        name, rest = self._cut
        while rest:
            _, ready, _ = select.select([], [self._file], [], self._timeout_s)
            if not ready:
                message = f"standard output takes nothing for {self._timeout_s} s: a slow reader"
                raise Deferred(message)
            try:
                rest = rest[os.write(self._file, rest[: ATOMIC if self._is_pipe else PIPE]) :]
            except BlockingIOError:
                continue
            except OSError as error:
                message = f"standard output cannot be written: {error.strerror}"
                raise Deferred(message) from error
            self._cut = (name, rest)
        self._written.add(name)
