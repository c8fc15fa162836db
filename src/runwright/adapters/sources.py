"""Sources that are read where the conductor stands: a file of lines, a Python iterator.

A position says exactly where to go on: a file's is its offset and what stood just before it, so
that another file in its place is refused instead of read from the middle.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from runwright.adapters.functions import resolve, text_of
from runwright.adapters.items import as_bytes
from runwright.adapters.lines import CHUNK, Lines, events_of, header_of
from runwright.kernel.canonical import digest
from runwright.kernel.errors import Deferred, InvalidSpec, RunwrightError, UnknownName
from runwright.kernel.ports import Arrival

#: Bytes before an offset whose digest its position holds.
BEFORE: Final = 256
#: Bytes of events in one arrival, give or take one event: a block of the log holds them.
ARRIVAL_MAX: Final = 4 * 1024 * 1024
#: Seconds after which to ask again a source that nobody wakes for.
LOOK_S: Final = 0.1
MARK: Final = b"\xef\xbb\xbf"
RESTORE: Final = (
    "Put the file back as it was, or give the source another source_id: then it begins at the start"
)


class FileSource:
    """The EventSource port on a file of lines: JSONL or CSV, whose first line may be its header."""

    def __init__(
        self,
        name: str,
        path: Path,
        *,
        now_ms: Callable[[], int],
        has_header: bool = False,
        follow: bool = False,
        position: Any = None,
    ) -> None:
        """Read from a position on; with `follow` it is never over, and a line counts by its end.

        Raises: invalid-spec for a file that is not there, or is another one than the position's.
        """
        self.name = name
        self.is_over = False
        #: Seconds after which to look again when there was nothing; None: when woken.
        self.look_s = LOOK_S if follow else None
        #: The first line, where it is a header; it is in every position as well.
        self.header = ""
        self._path = path
        self._now_ms = now_ms
        self._has_header = has_header
        self._follow = follow
        self._paused = False
        self._lacks_header = has_header
        self._file = _opened(path)
        self._lines = Lines(str(path))
        #: Up to where lines were handed out, and up to where the file was read.
        self._offset = 0
        self._read = 0
        try:
            if position is None:
                self._begin()
            else:
                self._go_on(position)
        except RunwrightError:
            self.close()
            raise

    def _begin(self) -> None:
        mark = len(MARK) if os.pread(self._file, len(MARK), 0) == MARK else 0
        self._offset = self._read = mark
        if self._lacks_header:
            self._take_header()

    def _take_header(self) -> None:
        """Keep the first line aside, once it is whole."""
        while not len(self._lines):
            if not self._fill():
                if self._follow:
                    return
                if not self._lines.finish():
                    message = f"{self._path} is empty: its first line has to be its header"
                    raise InvalidSpec(message)
        raw = self._lines.take(1)[0]
        self._offset = min(self._offset + len(raw) + 1, self._read)
        self._lacks_header = False
        self.header = header_of(raw, str(self._path))

    def _go_on(self, position: Any) -> None:
        """Stand where a position says. Raises: invalid-spec when the file is another one."""
        try:
            offset, before = int(position["offset"]), str(position["before"])
            self.header = str(position.get("header", ""))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            message = f"{self.name}: {position!r} is no position in a file"
            raise InvalidSpec(message) from error
        size = os.fstat(self._file).st_size
        if size < offset:
            message = f"{self._path} has {size} bytes; {self.name} goes on after {offset}"
            raise InvalidSpec(message, hint=f"It was cut or replaced. {RESTORE}.")
        if before != self._before(offset):
            message = f"{self._path} is another file than the one {self.name} was reading"
            raise InvalidSpec(message, hint=f"What stands before {offset} is new. {RESTORE}.")
        self._offset = self._read = offset
        if offset and size > offset and os.pread(self._file, 1, offset - 1) != b"\n":
            # The last line had no end, and was taken as it was: only its end may have come since.
            after = os.pread(self._file, 2, offset)
            if not (after.startswith(b"\n") or after == b"\r\n"):
                message = f"{self._path}: the line before {offset} grew after it was taken"
                hint = "A file that is still written to has to be followed."
                raise InvalidSpec(message, hint=hint)
            skipped = 1 if after.startswith(b"\n") else len(after)
            self._offset = self._read = offset + skipped
        self._lacks_header = False

    def _before(self, offset: int) -> str:
        start = max(0, offset - BEFORE)
        return digest(os.pread(self._file, offset - start, start))[:16]

    def poll(self, most: int) -> Arrival | None:
        """Return the next lines; None while it is paused, over, or has no whole line.

        Raises: invalid-spec when the file was cut or replaced, deferred when it cannot be read.
        """
        if self._paused or self.is_over:
            return None
        if self._lacks_header:
            self._take_header()
            if self._lacks_header:
                return None
        items = list[bytes]()
        while not items:
            is_ended = not len(self._lines) and not self._fill()
            if is_ended and (self._follow or not self._lines.finish()):
                self._look_for_another()
                self.is_over = not self._follow
                return None
            raw = self._lines.take(most)
            # The last line may have had no newline.
            self._offset = min(self._offset + sum(map(len, raw)) + len(raw), self._read)
            items = events_of(raw)
        position = {"offset": self._offset, "before": self._before(self._offset)}
        if self._has_header:
            position["header"] = self.header
        return Arrival(source=self.name, items=items, position=position, received_ms=self._now_ms())

    def _fill(self) -> bool:
        """Read the next piece; False at the end. Raises: deferred, invalid-spec."""
        try:
            piece = os.pread(self._file, CHUNK, self._read)
        except OSError as error:
            message = f"{self._path} cannot be read: {error.strerror}"
            raise Deferred(message) from error
        self._read += len(piece)
        if piece:
            self._lines.feed(piece)
        return bool(piece)

    def _look_for_another(self) -> None:
        """Refuse to wait at the end of a file that was cut or whose name leads to another one."""
        here = os.fstat(self._file)
        if here.st_size < self._read:
            message = f"{self._path} has {here.st_size} bytes; {self.name} goes on after "
            raise InvalidSpec(f"{message}{self._offset}", hint=f"It was cut. {RESTORE}.")
        if self._follow:
            with suppress(FileNotFoundError):
                there = self._path.stat()
                if (there.st_dev, there.st_ino) != (here.st_dev, here.st_ino):
                    message = f"{self._path} was replaced while {self.name} followed it"
                    hint = "A followed file only grows: rotate by copying, or use one file a source"
                    raise InvalidSpec(message, hint=f"{hint}.")

    def acknowledge(self, position: Any) -> None:
        """Nothing: a file is not told what was read of it."""

    def pause(self) -> None:
        """Read no further; the offset stays where it is."""
        self._paused = True

    def resume(self) -> None:
        """Go on at the offset."""
        self._paused = False

    def close(self) -> None:
        """Close the file; again is nothing."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        self.is_over = True


def _opened(path: Path) -> int:
    """Open a plain file. Raises: invalid-spec, naming it."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        message = f"{path}: {error.strerror}"
        hint = "sources[].file.path is relative to the folder of the spec."
        raise InvalidSpec(message, hint=hint) from error
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        message = f"{path} is not a plain file"
        raise InvalidSpec(message, hint="A pipe is read as standard input: `stdin: {}`.")
    return file


class IterableSource:
    """The EventSource port on what a Python function returns: bytes, text or mappings.

    The function is called with how many items were taken before, and skips them. An item None says
    that there is nothing now.
    """

    def __init__(
        self,
        name: str,
        ref: str,
        *,
        now_ms: Callable[[], int],
        args: Mapping[str, Any] | None = None,
        position: Any = None,
    ) -> None:
        """Take from the function "package.module:callable" on. Raises: unknown-name."""
        function = resolve(ref)
        if isinstance(function, str):
            message = f"{name}: {function}"
            raise UnknownName(message, hint="sources[].python.ref names package.module:callable.")
        try:
            self._count = 0 if position is None else int(position["items"])
        except (KeyError, TypeError, ValueError) as error:
            message = f"{name}: {position!r} is no position of a Python source"
            raise InvalidSpec(message) from error
        self.name = name
        self.is_over = False
        #: Nobody wakes for an iterator: ask again.
        self.look_s = LOOK_S
        self._ref = ref
        self._function: Callable[..., Iterable[Any]] = function
        self._args = dict(args or {})
        self._now_ms = now_ms
        self._paused = False
        self._items: Iterator[Any] | None = None
        self._error: RunwrightError | None = None

    def poll(self, most: int) -> Arrival | None:
        """Return the next items; None while it is paused, over, or said that there is nothing.

        Raises: deferred for whatever the function raises, after what it gave before: it is called
        again then; invalid-spec for an item that is no event.
        """
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        if self._paused or self.is_over:
            return None
        items, size = list[bytes](), 0
        try:
            while len(items) < most and size < ARRIVAL_MAX:
                item = next(self._started())
                if item is None:
                    break
                items.append(as_bytes(item, f"{self._ref}, item {self._count + len(items)}"))
                size += len(items[-1])
        except StopIteration:
            self.is_over = True
        except InvalidSpec as error:
            self._fail(error)
        # An iterator is the user's and may raise anything; what it gave is kept and it is repeated.
        except Exception as error:  # noqa: BLE001 - the one that the comment explains
            self._fail(Deferred(f"{self._ref}: {text_of(error)}"))
        if not items:
            if self._error is not None:
                error, self._error = self._error, None
                raise error
            return None
        self._count += len(items)
        return Arrival(
            source=self.name,
            items=items,
            position={"items": self._count},
            received_ms=self._now_ms(),
        )

    def _started(self) -> Iterator[Any]:
        if self._items is None:
            self._items = iter(self._function(self._count, **self._args))
        return self._items

    def _fail(self, error: RunwrightError) -> None:
        """Keep an error until what came before it was handed out, and begin anew after it."""
        self._error = error
        self._items = None

    def acknowledge(self, position: Any) -> None:
        """Nothing: the function is told at the next start how many items to skip."""

    def pause(self) -> None:
        """Ask the iterator for nothing more."""
        self._paused = True

    def resume(self) -> None:
        """Ask again."""
        self._paused = False

    def close(self) -> None:
        """Close the iterator; again is nothing."""
        items, self._items = self._items, None
        if items is not None and hasattr(items, "close"):
            items.close()
        self.is_over = True
