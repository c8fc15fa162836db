"""Lines of a file or a pipe: pieces of bytes become whole lines, and none is ever cut in two."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final

from runwright.kernel.errors import InvalidSpec

#: Bytes that are read at once.
CHUNK: Final = 1024 * 1024
#: The longest line that is taken. Memory holds one line whole, and the store has a limit as well.
LINE_MAX: Final = 64 * 1024 * 1024


class Lines:
    """Whole lines out of pieces, with how many bytes each of them took."""

    def __init__(self, what: str, *, line_max: int = LINE_MAX) -> None:
        """Take the lines of something that messages call `what`."""
        self._what = what
        self._line_max = line_max
        self._lines: list[bytes] = []
        self._next = 0
        self._pieces: list[bytes] = []
        #: Bytes of the line whose end has not come yet, and of the whole lines that wait.
        self.open = 0
        self.size = 0

    def __len__(self) -> int:
        """Return how many whole lines wait."""
        return len(self._lines) - self._next

    def feed(self, piece: bytes) -> None:
        """Add the next piece. Raises: invalid-spec for a line longer than any that is taken."""
        first, newline, rest = piece.partition(b"\n")
        self._pieces.append(first)
        self.open += len(first)
        if newline:
            whole = b"".join(self._pieces)
            *more, tail = rest.split(b"\n")
            self._lines = [*self._lines[self._next :], whole, *more]
            self._next = 0
            self.size += len(whole) + sum(map(len, more))
            self._pieces, self.open = [tail], len(tail)
        if self.open > self._line_max:
            message = f"{self._what}: a line of more than {self._line_max} bytes"
            hint = "Each event is one line. Is this a file of lines?"
            raise InvalidSpec(message, hint=hint)

    def finish(self) -> bool:
        """Take what has no end yet as a line; False when there is nothing of it."""
        if not self.open:
            return False
        self._lines.append(b"".join(self._pieces))
        self.size += self.open
        self._pieces, self.open = [], 0
        return True

    def take(self, most: int) -> list[bytes]:
        """Return the next whole lines, without their newlines, at most so many."""
        taken = self._lines[self._next : self._next + most]
        self._next += len(taken)
        self.size -= sum(map(len, taken))
        if self._next == len(self._lines):
            self._lines, self._next = [], 0
        return taken


def events_of(lines: list[bytes]) -> list[bytes]:
    """Return what lines carry: without a carriage return at the end, and without empty ones."""
    if any(line.endswith(b"\r") for line in lines):
        lines = [line.removesuffix(b"\r") for line in lines]
    return [line for line in lines if line] if b"" in lines else lines


def header_of(line: bytes, what: str) -> str:
    """Return the text of a first line. Raises: invalid-spec when it is not UTF-8."""
    try:
        return line.removesuffix(b"\r").decode("utf-8-sig")
    except UnicodeDecodeError as error:
        message = f"{what}: the header is not UTF-8: {error.reason}"
        raise InvalidSpec(message) from error


def last_newline(file: int, size: int) -> int:
    """Return how many bytes of a file there are up to and with its last newline."""
    stop = size
    while stop:
        start = max(0, stop - CHUNK)
        found = os.pread(file, stop - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        stop = start
    return 0


def lines_between(file: int, start: int, stop: int) -> Iterator[bytes]:
    """Yield the lines of a part of a file that begins and ends with a line."""
    lines = Lines("the file")
    while start < stop:
        piece = os.pread(file, min(CHUNK, stop - start), start)
        if not piece:
            return
        start += len(piece)
        lines.feed(piece)
        yield from lines.take(len(lines))
