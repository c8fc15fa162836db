"""Searches bytes for canaries by undoing encodings, which the masker never does.

The masker knows forms and looks for them; this takes apart what it finds and looks for the value.
So the two share nothing, and an encoding that only one of them knows shows as a leak.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from tests.e2e.project import Project

#: How many encodings may lie over each other.
DEPTH = 3
#: Of a value at least twice as long, so many bytes in one piece are a leak as well.
PIECE = 16

_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{7,}")
_HEX = re.compile(rb"[0-9a-fA-F]{12,}")
_ESCAPE = re.compile(
    rb"\\(?:u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})|u([0-9a-fA-F]{4})"
    rb"|U00(0[0-9a-fA-F]{5}|10[0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|([nrtbf])|([^nrtbfuUx]))",
    re.DOTALL,
)
_WIDE = re.compile(rb"\\x([89a-f][0-9a-f])")
_SHORT = dict(zip(b"nrtbf", b"\n\r\t\b\f", strict=True))
_URL_SAFE = bytes.maketrans(b"-_", b"+/")


class Leak(NamedTuple):
    """A canary that was found: which, where, and what had to be undone."""

    canary: str
    place: str
    undone: tuple[str, ...]


class Search:
    """Looks for canaries, and counts what it looked through."""

    def __init__(self, canaries: Mapping[str, bytes]) -> None:
        """Prepare the values and, of long ones, their pieces."""
        self.places = 0
        self.bytes = 0
        self._wanted: list[tuple[bytes, str]] = []
        for name, value in canaries.items():
            self._wanted.append((value, name))
            if value != value.strip():
                self._wanted.append((value.strip(), name))
            if len(value) >= 2 * PIECE:
                starts = range(0, len(value) - PIECE + 1, PIECE // 2)
                self._wanted += [(value[at : at + PIECE], name) for at in starts]

    def look(self, place: str, data: bytes) -> set[Leak]:
        """Return what stands in these bytes."""
        self.places += 1
        self.bytes += len(data)
        return {
            Leak(name, place, undone)
            for undone, view in _views(data)
            for value, name in self._wanted
            if value in view
        }

    def look_all(self, places: Iterable[tuple[str, bytes]]) -> set[Leak]:
        """Return what stands in any of these places."""
        return {leak for place, data in places for leak in self.look(place, data)}


def leaks(project: Project, canaries: Mapping[str, bytes]) -> set[Leak]:
    """Return every canary in what the product wrote: files, and each value of each row."""
    return Search(canaries).look_all(kept(project))


def kept(project: Project) -> Iterator[tuple[str, bytes]]:
    """Yield all that the product keeps: every file as it is, and the values of the store.

    A value longer than a page lies in the file in pieces, so the rows are read as well.
    """
    for path, data in project.everything():
        yield str(path.relative_to(project.base)), data
        yield "a name", str(path.relative_to(project.base)).encode()
    for (table,) in project.sql("SELECT name FROM sqlite_master WHERE type = 'table'"):
        rows = project.sql(f'SELECT * FROM "{table}"')
        yield f"table {table}", b"\0".join(_bytes(value) for row in rows for value in row)


def _bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode(errors="surrogatepass")


# -------------------------------------------------------------------------------------- undoing


def _views(data: bytes) -> Iterator[tuple[tuple[str, ...], bytes]]:
    """Yield the bytes, and what comes of undoing encodings in every order, each view once."""
    seen = {data}
    layer: list[tuple[tuple[str, ...], bytes]] = [((), data)]
    yield from layer
    for _ in range(DEPTH):
        found = []
        for undone, view in layer:
            for name, undo in _UNDO.items():
                decoded = undo(view)
                if decoded and decoded not in seen:
                    seen.add(decoded)
                    found.append(((*undone, name), decoded))
        yield from found
        layer = found


def _from_base64(data: bytes) -> bytes:
    """Return what each run of letters says, begun at each of its first four letters."""
    found = []
    for text in {data, re.sub(rb"\s+", b"", data)}:
        for run in set(_BASE64.findall(text)):
            for start in range(4):
                part = run[start:].translate(_URL_SAFE)
                part = part[: len(part) - (len(part) % 4 == 1)]
                found.append(base64.b64decode(part + b"=" * (-len(part) % 4)))
    return b"\0".join(found)


def _from_hex(data: bytes) -> bytes:
    found = []
    for run in set(_HEX.findall(data)):
        for start in range(2):
            part = run[start:]
            found.append(binascii.unhexlify(part[: len(part) // 2 * 2]))
    return b"\0".join(found)


def _from_escapes(data: bytes) -> bytes:
    return _ESCAPE.sub(_unescaped, data) if b"\\" in data else b""


def _from_text_escapes(data: bytes) -> bytes:
    """Undo what Python writes of text, in which an escaped byte is a character."""
    if not _WIDE.search(data):
        return b""
    return _from_escapes(_WIDE.sub(rb"\\u00\1", data))


def _unescaped(found: re.Match[bytes]) -> bytes:
    high, low, unit, wide, byte, short, itself = found.groups()
    if high:
        pair = bytes.fromhex((high + low).decode())
        return pair.decode("utf-16-be").encode()
    if unit or wide:
        return chr(int(unit or wide, 16)).encode(errors="surrogatepass")
    if byte:
        return bytes([int(byte, 16)])
    return bytes([_SHORT[short[0]]]) if short else bytes(itself)


_UNDO: dict[str, Callable[[bytes], bytes]] = {
    "base64": _from_base64,
    "hex": _from_hex,
    "escapes": _from_escapes,
    "escapes of text": _from_text_escapes,
    "URL": lambda data: unquote_to_bytes(data) if b"%" in data else b"",
    "form": lambda data: unquote_to_bytes(data.replace(b"+", b" ")) if b"+" in data else b"",
}
