"""Undoes the escapes in bytes, and knows where what it finds stood before.

URL escapes and those behind a backslash (JSON, Python, C) may mix and lie over each other in any
way, so a value is looked for where they are undone, and its place is mapped back.
"""

from __future__ import annotations

import bisect
import functools
import operator
import re
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

#: How many escapes may lie over each other: JSON in JSON in JSON.
_ESCAPES_MAX: Final = 3
_PERCENT: Final = re.compile(rb"%[0-9a-fA-F]{2}")
_BACKSLASH: Final = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u[0-9a-fA-F]{4}"
    rb"|U00(?:0[0-9a-fA-F]|10)[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}|[nrtbf!-/:-@\[-`{-~])"
)
#: The end of a line of base64 that goes on.
_BREAK: Final = re.compile(
    rb"(?:\n(?<=[A-Za-z0-9+/_-]\n)|\r\n(?<=[A-Za-z0-9+/_-]\r\n))(?=[A-Za-z0-9+/_-])"
)
_SHORT: Final = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"f": b"\f"}


class Span(NamedTuple):
    """A place where a value stands."""

    start: int
    end: int
    label: bytes


class _Edit(NamedTuple):
    """An escape that was undone: what stands for it here, and where it stood there."""

    start: int
    end: int
    start_there: int
    end_there: int


_START: Final = operator.attrgetter("start")


class View:
    """Bytes with some of their escapes undone, and where each of them stood before."""

    def __init__(
        self, data: bytes, parent: View | None = None, edits: Sequence[_Edit] = ()
    ) -> None:
        self.data = data
        self._parent = parent
        self._edits = edits

    def undone(self, pattern: re.Pattern[bytes]) -> View | None:
        """Return a view with each of these escapes undone; None when there are none."""
        data = self.data
        parts: list[bytes] = []
        edits: list[_Edit] = []
        at = size = 0
        for found in pattern.finditer(data):
            start, end = found.span()
            sign = _sign(found.group())
            size += start - at
            edits.append(_Edit(size, size + len(sign), start, end))
            parts += (data[at:start], sign)
            size += len(sign)
            at = end
        if not edits:
            return None
        parts.append(data[at:])
        return View(b"".join(parts), self, edits)

    def placed(self, span: Span) -> Span:
        """Return where a span stands in the bytes that nothing was undone in."""
        if self._parent is None:
            return span
        start, _ = self._origin(span.start)
        _, end = self._origin(span.end - 1)
        return self._parent.placed(Span(start, end, span.label))

    def _origin(self, at: int) -> tuple[int, int]:
        """Return from where to where the parent has what stands for one byte here."""
        index = bisect.bisect_right(self._edits, at, key=_START) - 1
        if index < 0:
            return at, at + 1
        edit = self._edits[index]
        if at < edit.end:
            return edit.start_there, edit.end_there
        there = edit.end_there + at - edit.end
        return there, there + 1


def views(data: bytes) -> Iterator[View]:
    """Yield the bytes as they are, and with escapes undone in every order."""
    seen = {data}
    layer = [View(data)]
    for depth in range(_ESCAPES_MAX + 1):
        for view in layer:
            yield view
            joined = view.undone(_BREAK)
            if joined is not None:
                yield joined
        if depth == _ESCAPES_MAX:
            return
        found = []
        for view in layer:
            for pattern in (_PERCENT, _BACKSLASH):
                undone = view.undone(pattern)
                if undone is not None and undone.data not in seen:
                    seen.add(undone.data)
                    found.append(undone)
        layer = found


@functools.lru_cache(4096)
def _sign(escape: bytes) -> bytes:
    """Return what one escape stands for; nothing for the end of a line."""
    kind, digits = escape[:1], escape[2:]
    if kind == b"%":
        return bytes.fromhex(escape[1:].decode())
    if kind != b"\\":
        return b""
    kind = escape[1:2]
    if kind == b"x":
        return bytes.fromhex(digits.decode())
    if kind == b"U":
        return chr(int(digits, 16)).encode(errors="surrogatepass")
    if kind == b"u":
        units = bytes.fromhex(digits.replace(b"\\u", b"").decode())
        return units.decode("utf-16-be", "surrogatepass").encode(errors="surrogatepass")
    return _SHORT.get(kind, kind)
