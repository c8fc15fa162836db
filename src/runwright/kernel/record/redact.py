"""Masks secrets in a stream of bytes, and keeps a bounded part of the stream with a commitment.

A secret is masked as it is and as programs print it: base64 (at each of its three alignments, both
alphabets, in lines), hex, one of them over another, and any mixture of URL and backslash escapes,
also when it is cut by the border of a chunk. Nothing is kept or hashed before it was masked. What
is longer than the limit is kept at its two ends, and the commitment to the whole masked stream says
what was left out.
"""

from __future__ import annotations

import binascii
import hashlib
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, quote_plus

import msgspec

from runwright.kernel.canonical import commitment
from runwright.kernel.errors import Refused
from runwright.kernel.run import Blob, Content

if TYPE_CHECKING:
    from runwright.kernel.record.escapes import Span

#: A shorter value would mask half of the output, and could be guessed from what is left.
SECRET_MIN: Final = 6
#: The longest value that is masked; the masker holds back as much as its longest form.
SECRET_MAX: Final = 64 * 1024
#: The shortest part of a value that is masked alone: a line of it, or of its base64.
_PART_MIN: Final = 8
#: Where programs break lines of base64 (MIME and coreutils, PEM).
_WIDTHS: Final = (76, 64)
#: How much longer escapes make a value, and encodings of a value, at most.
_GROWTH: Final = 12
_GROWTH_ENCODED: Final = 2
#: What is kept of what was passed on, so that escapes are read from their beginning.
_CONTEXT: Final = 64
#: What is taken in at once.
_BLOCK: Final = 1 << 20

_URL_SAFE: Final = bytes.maketrans(b"+/", b"-_")


class Masker:
    """Knows every form of the secrets and replaces it by `[secret:NAME]`; holds no stream."""

    def __init__(self, secrets: Mapping[str, str | bytes]) -> None:
        """Prepare for the values by name.

        Raises: refused for a value under SECRET_MIN or over SECRET_MAX bytes.
        """
        found: dict[bytes, _Form] = {}
        longest = 1
        for name, value in secrets.items():
            data = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
            if not SECRET_MIN <= len(data) <= SECRET_MAX:
                msg = f"the secret {name} has {len(data)} bytes; {SECRET_MIN} to {SECRET_MAX} work"
                raise Refused(msg, hint="Use a longer value, or do not declare it secret.")
            for text in _forms(data):
                if len(text) < SECRET_MIN:
                    # A short value of which a character became one byte.
                    continue
                found.setdefault(text, _Form(text, b"[secret:%s]" % name.encode()))
                longest = max(longest, _GROWTH_ENCODED * len(text))
            longest = max(longest, _GROWTH * len(data))
        # Every form is found by its first bytes; of those that share them the longest comes first.
        self._forms: dict[bytes, list[_Form]] = {}
        for form in sorted(found.values(), key=lambda form: len(form.text), reverse=True):
            self._forms.setdefault(form.text[:SECRET_MIN], []).append(form)
        places = [
            b"[%b]" % b"".join(re.escape(bytes([byte])) for byte in sorted(set(place)))
            for place in zip(*self._forms, strict=True)
        ]
        self._starts = re.compile(b"".join(places[:1]) + b"(?=%b)" % b"".join(places[1:]))
        #: How many bytes of a stream may be the start of a value that goes on.
        self.held_max = longest - 1

    def mask(self, data: bytes) -> bytes:
        """Return bytes that are all there is, masked."""
        stream = self.stream()
        return stream.feed(data) + stream.close()

    def stream(self) -> Masking:
        """Return what masks one stream, chunk by chunk."""
        return Masking(self)

    def spans(self, data: bytes) -> list[Span]:
        """Return where values stand, by their start; of those that start together the longest."""
        # lazy: 2 ms that only runs with secrets need
        from runwright.kernel.record.escapes import Span, views  # lazy: as above

        found: set[Span] = set()
        for view in views(data):
            for form, start in self._find(view.data):
                span = Span(start, start + len(form.text), form.label)
                found.add(view.placed(span))
        return sorted(found, key=lambda span: (span.start, -span.end))

    def _find(self, data: bytes) -> Iterator[tuple[_Form, int]]:
        forms = self._forms
        for found in self._starts.finditer(data):
            at = found.start()
            for form in forms.get(data[at : at + SECRET_MIN], ()):
                if data.startswith(form.text, at):
                    yield form, at
                    break


class _Form(msgspec.Struct, frozen=True):
    """One way in which a value shows, and what stands there instead."""

    text: bytes
    label: bytes


class Masking:
    """Masks one stream; a value that is cut by the border of chunks is masked too."""

    def __init__(self, masker: Masker) -> None:
        """Start a stream; `Masker.stream` does."""
        self._masker = masker
        self._held: list[bytes] = []
        self._size = 0
        # What of the held bytes was passed on already, and up to where they are masked.
        self._passed = 0
        self._covered = 0
        # Waiting for several times what is held back keeps the work linear for tiny chunks.
        self._enough = 4 * masker.held_max + _CONTEXT
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
        masked: list[bytes] = []
        covered = self._covered
        for start, end, label in self._masker.spans(data):
            if not self._passed <= start < final:
                continue
            # Values that overlap are masked together: neither shows what lies beyond the other.
            if start >= covered:
                masked += (data[covered:start], label)
                self.count += 1
            covered = max(covered, end)
        masked.append(data[covered:final])
        kept = max(final - _CONTEXT, 0)
        self._held = [data[kept:]]
        self._size = len(data) - kept
        self._passed = final - kept
        self._covered = max(covered, final) - kept
        return b"".join(masked)


# ----------------------------------------------------------------------------------------- forms


def _forms(value: bytes) -> Iterator[bytes]:
    """Yield how a value shows in output where no escapes are left; the value itself first."""
    for whole in dict.fromkeys((value, value.strip())):
        if len(whole) < SECRET_MIN:
            continue
        yield whole
        written = _encoded(whole)
        yield from written
        # As URLs of forms write spaces, and as Python writes characters up to U+00FF.
        yield whole.replace(b" ", b"+")
        yield from _narrow(whole)
        for text in {*written, *_escaped(whole)}:
            yield from _encoded(text)
    as_base64 = binascii.b2a_base64(value, newline=False)
    parts = [line.strip() for line in value.splitlines()]
    for width in _WIDTHS:
        parts += [as_base64[at : at + width] for at in range(0, len(as_base64), width)]
    yield from (part for part in parts if len(part) >= _PART_MIN)


def _encoded(value: bytes) -> set[bytes]:
    """Return a value in hex, and in base64 at each alignment less what its neighbours decide."""
    forms = {value.hex().encode(), value.hex().upper().encode()}
    for start in range(3):
        text = binascii.b2a_base64(bytes(start) + value, newline=False)
        # 8 bits of each byte before it spoil the first characters, padding or the next byte the
        # last.
        part = text[-(-start * 8 // 6) : (start + len(value)) * 8 // 6]
        forms |= {part, part.translate(_URL_SAFE)}
    return forms


def _escaped(value: bytes) -> set[bytes]:
    """Return a value as the usual encoders escape it, for what is encoded after that."""
    forms = set()
    for quoted in (quote(value, safe=""), quote(value), quote_plus(value)):
        forms |= {quoted.encode(), re.sub("%..", lambda m: m.group().lower(), quoted).encode()}
    text = _text(value)
    if text:
        as_json = msgspec.json.encode(text)[1:-1]
        forms |= {as_json, as_json.replace(b"/", b"\\/"), _ascii(text)}
    return forms


def _narrow(value: bytes) -> Iterator[bytes]:
    """Yield a value with characters up to U+00FF as one byte: all, and those that do not print."""
    text = _text(value)
    if not text.isascii():
        for is_all in (True, False):
            yield b"".join(
                sign.encode(
                    "latin-1" if sign <= "\xff" and (is_all or not sign.isprintable()) else "utf-8"
                )
                for sign in text
            )


def _text(value: bytes) -> str:
    """Return a value as text; nothing when it is none."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return ""


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


class Captured(msgspec.Struct, frozen=True):
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
