"""A JSONL file as a sink: appended to, synced, and never with a torn line or an event twice."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from runwright.adapters.files import sync_folder
from runwright.adapters.lines import last_newline, lines_between
from runwright.adapters.published import Event, event_of, events_in
from runwright.kernel.errors import Deferred, InvalidSpec
from runwright.kernel.ports import Delivery

#: Bytes at the end of a file that are read back when it is opened: far more than one delivery.
TAIL_MAX: Final = 64 * 1024 * 1024


class JsonlSink:
    """The Sink port on a file of events, one a line."""

    is_batched = True
    #: What was delivered is on the disk.
    durability: Final = "fsync"

    def __init__(self, path: Path, *, tail_max: int = TAIL_MAX) -> None:
        """Append to a file, which is made with its folder when the first event comes."""
        self._path = path
        self._tail_max = tail_max
        self._file = -1
        self._size = 0
        #: The ids of the events at the end of the file, when it was opened.
        self._ids = frozenset[str]()
        #: Symbol -> the highest publish_seq in that part of the file, and since.
        self._highest: dict[str, int] = {}

    def deliver(self, deliveries: Sequence[Delivery]) -> None:
        """Append the events that the file does not hold yet, and sync them.

        Raises: deferred when the file system would not take them, or another process writes the
        file; invalid-spec when it holds the events of another stream.
        """
        events = [event for delivery in deliveries for event in events_in(delivery.body)]
        try:
            self._open()
            once = {event.event_id: event for event in events}.values()
            fresh = [event for event in once if self._is_fresh(event)]
            self._append(b"".join(event.data + b"\n" for event in fresh))
        except OSError as error:
            message = f"{self._path} cannot be written: {error.strerror}"
            raise Deferred(message) from error
        except BaseException:
            self.close()
            raise
        for event in fresh:
            self._highest[event.symbol] = event.publish_seq

    def append_again(self, events: Iterable[bytes]) -> int:
        """Append events that the file may hold already, synced; return how many.

        Raises: deferred when the file system would not take them, or another process writes it.
        """
        again = [event_of(data) for data in events]
        try:
            self._open()
            self._append(b"".join(event.data + b"\n" for event in again))
        except OSError as error:
            message = f"{self._path} cannot be written: {error.strerror}"
            raise Deferred(message) from error
        finally:
            self.close()
        return len(again)

    def _is_fresh(self, event: Event) -> bool:
        """Say whether the file lacks an event. Raises: invalid-spec."""
        highest = self._highest.get(event.symbol)
        if highest is None or event.publish_seq > highest:
            return True
        if event.event_id in self._ids or self._has(event):
            return False
        message = f"{self._path} holds {event.symbol} up to event {highest}, and not event "
        message += f"{event.publish_seq} as it is now"
        hint = "It is another stream's, or another store's: give output_publish.path a new name."
        raise InvalidSpec(message, hint=hint)

    def _has(self, event: Event) -> bool:
        """Say whether the whole file holds an event, this process's own included."""
        needle = event.event_id.encode()
        return any(
            needle in line and line == event.data
            for line in lines_between(self._file, 0, self._size)
        )

    def _append(self, data: bytes) -> None:
        """Write and sync; what was written in part is taken back. Raises: OSError."""
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._file, view) :]
            if data:
                os.fsync(self._file)
        except OSError:
            # Whether it is durable is not known: the next delivery reads what is there.
            with suppress(OSError):
                os.ftruncate(self._file, self._size)
            self.close()
            raise
        self._size += len(data)

    def _open(self) -> None:
        """Open the file, repair its end and read what is there. Raises: OSError, deferred."""
        if self._file >= 0:
            with suppress(FileNotFoundError):
                here, there = os.fstat(self._file), self._path.stat()
                if (here.st_dev, here.st_ino, here.st_size) == (
                    there.st_dev,
                    there.st_ino,
                    self._size,
                ):
                    return
            # It was moved away, as rotation does, or somebody wrote to it.
            self.close()
        is_new = not self._path.exists()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._file = os.open(self._path, flags, 0o644)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            message = f"{self._path} is written by another process"
            raise Deferred(message) from error
        if is_new:
            sync_folder(self._path.parent)
        size = os.fstat(self._file).st_size
        self._size = last_newline(self._file, size)
        if self._size < size:
            # A line that was cut off was not acknowledged: it comes again, whole.
            os.ftruncate(self._file, self._size)
            os.fsync(self._file)
        self._read_tail()

    def _read_tail(self) -> None:
        """Remember the events at the end of the file."""
        start = max(0, self._size - self._tail_max)
        if start:
            start = last_newline(self._file, start)
        events = [event_of(line) for line in lines_between(self._file, start, self._size) if line]
        self._ids = frozenset(event.event_id for event in events)
        self._highest = {}
        for event in events:
            self._highest[event.symbol] = max(event.publish_seq, self._highest.get(event.symbol, 0))

    def close(self) -> None:
        """Close the file; again is nothing."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
