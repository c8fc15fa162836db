"""Ways in which a program writes a value; its text is also what the functions of the tests run."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from urllib.parse import quote, quote_plus


def percent(value: bytes, every: int = 1) -> bytes:
    """Return a value with each byte, or each second one, URL-encoded, whatever it is."""
    return b"".join(
        b"%%%02X" % byte if not at % every or byte > 0x7E else bytes([byte])
        for at, byte in enumerate(value)
    )


def escaped(value: bytes, form: str = "\\u%04x") -> bytes:
    """Return a value with each of its UTF-16 units escaped as in JSON."""
    units = value.decode().encode("utf-16-be")
    return b"".join(
        (form % int.from_bytes(units[at : at + 2], "big")).encode()
        for at in range(0, len(units), 2)
    )


def in_json(value: bytes, **how: bool) -> bytes:
    """Return a value as the inside of a JSON string."""
    return json.dumps(value.decode(), **how).encode()[1:-1]


def in_url(value: bytes, safe: str = "") -> bytes:
    """Return a value URL-encoded but for letters, digits, `_.-~` and what is called safe."""
    return quote(value, safe=safe).encode()


#: A name -> what makes of a value the bytes that a program prints.
WAYS: dict[str, Callable[[bytes], bytes]] = {
    "plain": lambda value: value,
    "base64": base64.b64encode,
    "base64, no padding": lambda value: base64.b64encode(value).rstrip(b"="),
    "base64url": base64.urlsafe_b64encode,
    "base64url, no padding": lambda value: base64.urlsafe_b64encode(value).rstrip(b"="),
    "base64 after one byte": lambda value: base64.b64encode(b"\xff" + value),
    "base64 after two bytes": lambda value: base64.b64encode(b"u:" + value),
    "base64 between others": lambda value: base64.b64encode(b"user:" + value + b"@host/?x>~"),
    "base64url between others": lambda value: base64.urlsafe_b64encode(b"a?" + value + b"~~~b"),
    "base64 in lines": lambda value: base64.encodebytes(b"the whole text: " * 4 + value + b"..."),
    "base64 in lines, as JSON": lambda value: in_json(base64.encodebytes(b"t: " * 19 + value)),
    "hex": lambda value: value.hex().encode(),
    "HEX": lambda value: value.hex().upper().encode(),
    "hex between others": lambda value: (b"\x00\x01" + value + b"\xfe").hex().encode(),
    "URL": in_url,
    "URL with slashes": lambda value: in_url(value, "/"),
    "URL of a browser": lambda value: in_url(value, "!'()*"),
    "URL in small letters": lambda value: (
        percent(value).lower()
        if value.isdigit()
        else b"".join(part.lower() if at % 2 else part for at, part in _parts(in_url(value)))
    ),
    "URL of a form": lambda value: quote_plus(value).encode(),
    "URL, every byte": percent,
    "URL, each second byte": lambda value: percent(value, 2),
    "JSON": in_json,
    "JSON in UTF-8": lambda value: in_json(value, ensure_ascii=False),
    "JSON with slashes": lambda value: in_json(value).replace(b"/", b"\\/"),
    "JSON, every character": escaped,
    "JSON, in capitals": lambda value: escaped(value, "\\u%04X"),
    "repr": lambda value: repr(value.decode()).encode(),
    "repr of bytes": lambda value: repr(value).encode(),
    "base64 of base64": lambda value: base64.b64encode(base64.b64encode(value)),
    "base64 of base64 between": lambda value: base64.b64encode(
        b"k=" + base64.b64encode(b"u:" + value + b"!") + b";"
    ),
    "base64 of hex": lambda value: base64.b64encode(b"0x" + value.hex().encode() + b"."),
    "base64 of JSON": lambda value: base64.urlsafe_b64encode(b'{"k":"' + in_json(value) + b'"}'),
    "base64 of URL": lambda value: base64.b64encode(b"?q=" + in_url(value) + b"&r"),
    "hex of base64": lambda value: base64.b64encode(value).hex().encode(),
    "hex of hex": lambda value: value.hex().encode().hex().encode(),
    "hex of JSON": lambda value: in_json(value).hex().encode(),
    "URL of URL": lambda value: in_url(in_url(value)),
    "URL of base64": lambda value: in_url(base64.b64encode(b"a:" + value)),
    "URL of JSON": lambda value: in_url(in_json(value)),
    "JSON of JSON": lambda value: in_json(in_json(value)),
    "JSON of URL": lambda value: in_json(in_url(value, "/")),
    "JSON of JSON of JSON": lambda value: in_json(in_json(in_json(value))),
    "JSON of base64": lambda value: in_json(base64.b64encode(value)).replace(b"/", b"\\/"),
}


def _parts(quoted: bytes) -> list[tuple[int, bytes]]:
    """Return a URL-encoded text in pieces, those at odd places being its escapes."""
    pieces = quoted.replace(b"%", b"\0%").split(b"\0")
    found = [(0, pieces[0])]
    for piece in pieces[1:]:
        found += [(1, piece[:3]), (0, piece[3:])]
    return found
