"""Canaries: values of many shapes, declared secret, that must never be seen again."""

from __future__ import annotations

import base64
import hashlib
import random
import string

#: The variable that is granted and not declared secret: the search has to find it.
OPEN = ("OPEN_WORD", b"not-a-secret-4711-at-all")


def _letters(seed: str, length: int) -> bytes:
    text = b""
    while len(text) < length:
        text += base64.b64encode(hashlib.sha256(b"%d" % len(text) + seed.encode()).digest())
    return text.replace(b"+", b"x").replace(b"/", b"y").replace(b"=", b"z")[:length]


#: The name of a variable -> its value.
CANARIES: dict[str, bytes] = {
    "CANARY_ASCII": b"sk-live-4f9a1cQ7TzX2mB8e",
    "CANARY_PATTERN": rb"a.*+?^${}()|[\]x(?P<n>)7\d",
    "CANARY_QUOTED": "pä\"ss\\wo'rd\nß☃\U0001f600/%41 end".encode(),
    "CANARY_PLUS": b"Zm9v+/bar==+/+=Qx9==",
    "CANARY_PART": b"hunter22xyz",
    "CANARY_WHOLE": b"prefix-hunter22xyz-suffix-0001",
    "CANARY_SHORT": b"q7$Wz!",
    "CANARY_LONG": _letters("long", 300),
    "CANARY_NUMBER": b"739201846512",
    "CANARY_BACKSLASHES": b'\\\\srv\\new\\t\\u0041\\"%25\\',
    # It begins with the end of the first one.
    "CANARY_OVERLAP": b"X2mB8e-and-goes-on-for-a-good-while-Kq3",
    # What a file holds, as `$(cat file; echo)` does not leave it.
    "CANARY_TRAILED": b"tr4iled-n3wline\n",
}


def random_canaries(seed: int, count: int) -> dict[str, bytes]:
    """Return so many values of random lengths and alphabets, made from a seed."""
    chance = random.Random(seed)
    alphabets = (
        string.ascii_letters + string.digits,
        string.printable,
        "\\\"'/%+= \n",
        string.ascii_letters + "äßøЖ☃\U0001f600\u2028",
        string.hexdigits,
    )
    found = {}
    for number in range(count):
        letters = chance.choice(alphabets)
        length = chance.choice((6, 7, 8, 11, 16, 24, 33, 64, 257))
        value = "".join(chance.choice(letters) for _ in range(length))
        # A value of one sign says nothing about a search; one of blanks is not masked without them.
        if len(set(value)) > 3 and len(value.strip()) >= 6:
            found[f"CANARY_{number}"] = value.encode()
    return found
