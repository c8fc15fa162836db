"""Masks secrets in a stream of bytes, and keeps a bounded part of the stream with a commitment.

A secret is masked as it is and as programs print it: base64 (at each of its three alignments, both
alphabets), hex, URL-encoded and escaped as in JSON, also when it is cut by the border of a chunk.
Nothing is kept or hashed before it was masked. What is longer than the limit is kept at its two
ends, and the commitment to the whole masked stream says what was left out.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from typing import Final, NamedTuple
from urllib.parse import quote, quote_plus

import msgspec

from runwright.kernel.canonical import commitment
from runwright.kernel.errors import Refused
from runwright.kernel.run import Blob, Content

#: A shorter value would mask half of the output, and could be guessed from what is left.
SECRET_MIN: Final = 6
#: The longest value that is masked; the masker holds back as much as its longest form.
SECRET_MAX: Final = 64 * 1024
#: The shortest part of a value that is masked alone: a line of it, or of its base64.
_PART_MIN: Final = 8
#: Where programs break lines of base64 (MIME and coreutils, PEM).
_WIDTHS: Final = (76, 64)
#: What is taken in at once.
_BLOCK: Final = 1 << 20


class Masker:
    """Knows every form of the secrets and replaces it by `[secret:NAME]`; holds no stream."""

    def __init__(self, secrets: Mapping[str, str | bytes]) -> None:
        """Prepare for the values by name.

        Raises: refused for a value under SECRET_MIN or over SECRET_MAX bytes.
        """
        forms: dict[bytes, bytes] = {}
        for name, value in secrets.items():
            data = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
            if not SECRET_MIN <= len(data) <= SECRET_MAX:
                msg = f"the secret {name} has {len(data)} bytes; {SECRET_MIN} to {SECRET_MAX} work"
                raise Refused(msg, hint="Use a longer value, or do not declare it secret.")
            for form in _forms(data):
                forms.setdefault(form, b"[secret:%s]" % name.encode())
        self._forms = forms
        # The longest first: a value that contains another one is masked as a whole.
        ordered = sorted(forms, key=len, reverse=True)
        self._pattern = re.compile(b"|".join(map(re.escape, ordered))) if ordered else None
        #: How many bytes of a stream may be the start of a value that goes on.
        self.held_max = len(ordered[0]) - 1 if ordered else 0

    def mask(self, data: bytes) -> bytes:
        """Return bytes that are all there is, masked."""
        stream = self.stream()
        return stream.feed(data) + stream.close()

    def stream(self) -> Masking:
        """Return what masks one stream, chunk by chunk."""
        return Masking(self)

    def replace(self, data: bytes, final: int) -> Replaced:
        """Replace what starts before `final`; say how far it went."""
        if self._pattern is None:
            return Replaced(data, len(data), 0)
        parts: list[bytes] = []
        at = count = 0
        for found in self._pattern.finditer(data):
            if found.start() >= final:
                break
            parts += (data[at : found.start()], self._forms[found.group()])
            at = found.end()
            count += 1
        stop = max(at, final)
        parts.append(data[at:stop])
        return Replaced(b"".join(parts), stop, count)


class Replaced(NamedTuple):
    """A stretch of a stream after masking."""

    data: bytes
    #: How many bytes of the stretch it stands for.
    stop: int
    #: How many values were masked in it.
    masked: int


class Masking:
    """Masks one stream; a value that is cut by the border of chunks is masked too."""

    def __init__(self, masker: Masker) -> None:
        """Start a stream; `Masker.stream` does."""
        self._masker = masker
        self._held: list[bytes] = []
        self._size = 0
        # Waiting for several times what is held back keeps the work linear for tiny chunks.
        self._enough = 4 * masker.held_max
        #: How many values were masked so far.
        self.count = 0

    def feed(self, chunk: bytes) -> bytes:
        """Take in a chunk; return what is masked and can be passed on."""
        if not self._masker.held_max:
            return chunk
        self._held.append(chunk)
        self._size += len(chunk)
        return self._release(is_last=False) if self._size > self._enough else b""

    def close(self) -> bytes:
        """Return what was held back."""
        return self._release(is_last=True) if self._held else b""

    def _release(self, *, is_last: bool) -> bytes:
        data = b"".join(self._held)
        # What starts before this place cannot become a longer value by what follows.
        final = len(data) if is_last else len(data) - self._masker.held_max
        replaced = self._masker.replace(data, final)
        self.count += replaced.masked
        self._held = [data[replaced.stop :]]
        self._size = len(data) - replaced.stop
        return replaced.data


def _forms(value: bytes) -> set[bytes]:
    """Return how a value shows in output."""
    text = value.decode("utf-8", "surrogateescape")
    forms = {value, value.hex().encode(), value.hex().upper().encode()}
    for quoted in (quote(value, safe=""), quote(value), quote_plus(value)):
        forms |= {quoted.encode(), re.sub("%..", lambda m: m.group().lower(), quoted).encode()}
    for start in range(3):
        forms |= _encoded(value, start)
    as_base64 = base64.b64encode(value)
    for width in _WIDTHS:
        forms |= {as_base64[at : at + width] for at in range(0, len(as_base64), width)}
    forms |= {line.strip() for line in value.splitlines()}
    if not any("\ud800" <= sign <= "\udfff" for sign in text):
        as_json = msgspec.json.encode(text)[1:-1]
        forms |= {as_json, as_json.replace(b"/", b"\\/"), _ascii(text)}
    return {form for form in forms if len(form) >= (SECRET_MIN if form == value else _PART_MIN)}


def _encoded(value: bytes, start: int) -> set[bytes]:
    """Return base64 of a value that starts at an alignment, less what its neighbours decide."""
    text = base64.b64encode(bytes(start) + value)
    # 8 bits of each byte before it spoil the first characters, padding or the next byte the last.
    first = -(-start * 8 // 6)
    last = (start + len(value)) * 8 // 6
    part = text[first:last]
    return {part, part.translate(bytes.maketrans(b"+/", b"-_"))}


def _ascii(text: str) -> bytes:
    """Return a text as JSON in ASCII alone."""
    parts = []
    for sign in text:
        code = ord(sign)
        if code > 0xFFFF:  # noqa: PLR2004 - beyond the basic plane: a pair of surrogates
            code -= 0x10000
            parts.append(f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}")
        elif code > 0x7E:  # noqa: PLR2004 - ASCII
            parts.append(f"\\u{code:04x}")
        else:
            parts.append(msgspec.json.encode(sign).decode()[1:-1])
    return "".join(parts).encode()


class Captured(NamedTuple):
    """What is kept of a stream, and what its entry says of it."""

    blob: Blob
    content: Content


class Capture:
    """Takes in one stream of a run: masks it, hashes all of it, keeps its two ends.

    Of a stream over the limit the first half of what is kept is its start, the second its end.
    """

    def __init__(self, *, limit: int, masker: Masker, salt: bytes) -> None:
        """Keep at most `limit` bytes; `salt` makes the commitments of this stream."""
        self._head_max = limit // 2
        self._tail_max = limit - self._head_max
        self._masking = masker.stream()
        self._salt = salt
        self._whole = hashlib.sha256(salt)
        self._size = 0
        self._head = bytearray()
        self._tail = bytearray()

    def feed(self, chunk: bytes) -> None:
        """Take in what the run wrote."""
        if len(chunk) <= _BLOCK:
            self._take(self._masking.feed(chunk))
            return
        view = memoryview(chunk)
        for start in range(0, len(chunk), _BLOCK):
            self._take(self._masking.feed(bytes(view[start : start + _BLOCK])))

    def close(self, name: str, media: str = "text/plain") -> Captured | None:
        """Return what is kept of a stream that has ended; None when there was nothing in it."""
        self._take(self._masking.close())
        if not self._size:
            return None
        kept = bytes(self._head + self._tail[-self._tail_max :] if self._tail_max else self._head)
        is_cut = self._size > len(kept)
        blob = Blob(
            name=name,
            digest=commitment(self._salt, kept),
            size=len(kept),
            media=media,
            salted=True,
            whole_digest=self._whole.hexdigest() if is_cut else "",
            whole_size=self._size if is_cut else 0,
            masked=self._masking.count,
        )
        return Captured(blob, Content(digest=blob.digest, data=kept, salt=self._salt))

    def _take(self, masked: bytes) -> None:
        self._whole.update(masked)
        self._size += len(masked)
        room = self._head_max - len(self._head)
        if room:
            self._head += masked[:room]
            masked = masked[room:]
        self._tail += masked[-self._tail_max :] if self._tail_max else b""
        # Cut now and then, not each time: every byte is moved once on average.
        if len(self._tail) > 2 * self._tail_max + _BLOCK:
            del self._tail[: -self._tail_max]
