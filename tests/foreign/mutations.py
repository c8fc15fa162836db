"""Seeded changes of the notes, the proofs and the entries of a bundle.

A change is blind (a bit, a byte, a line, a cut) or knows what it does: another checkpoint, signed
by the ledger's own key. Some of them change nothing that counts, and both verifiers have to pass
them; nothing here says what the verdict has to be.
"""

from __future__ import annotations

import base64
import binascii
import random
import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from runwright.kernel.record.seal import Checkpoint
from tests.foreign.samples import Files, Sample, above

Change = Callable[[random.Random, bytes], bytes]


class Mutation(NamedTuple):
    """A change, in words and as the files that it touches."""

    name: str
    changes: Mapping[str, bytes]


def mutation(sample: Sample, chance: random.Random) -> Mutation:
    """Draw one mutation of a bundle."""
    target = chance.choice([draw for draw in TARGETS if sample.proofs() or draw not in OF_PROOFS])
    found = target(sample, chance)
    while all(sample.files[name] == data for name, data in found.changes.items()):
        found = target(sample, chance)
    return found


# ---------------------------------------------------------------------------------------- blind


def flip(chance: random.Random, data: bytes) -> bytes:
    """Flip one bit."""
    place, bit = chance.randrange(len(data)), chance.randrange(8)
    return data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :]


def put(chance: random.Random, data: bytes) -> bytes:
    """Put a byte in the place of another."""
    place = chance.randrange(len(data))
    return data[:place] + _byte(chance) + data[place + 1 :]


def insert(chance: random.Random, data: bytes) -> bytes:
    """Put a byte between others."""
    place = chance.randrange(len(data) + 1)
    return data[:place] + _byte(chance) + data[place:]


def drop(chance: random.Random, data: bytes) -> bytes:
    """Take a byte out."""
    place = chance.randrange(len(data))
    return data[:place] + data[place + 1 :]


def cut(chance: random.Random, data: bytes) -> bytes:
    """Cut the end off."""
    return data[: chance.randrange(len(data))]


def drop_line(chance: random.Random, data: bytes) -> bytes:
    """Take a line out."""
    lines = data.splitlines(keepends=True)
    del lines[chance.randrange(len(lines))]
    return b"".join(lines)


def double_line(chance: random.Random, data: bytes) -> bytes:
    """Write a line twice."""
    lines = data.splitlines(keepends=True)
    place = chance.randrange(len(lines))
    return b"".join([*lines[:place], lines[place], *lines[place:]])


def swap_lines(chance: random.Random, data: bytes) -> bytes:
    """Swap two lines."""
    lines = data.splitlines(keepends=True)
    first, second = chance.randrange(len(lines)), chance.randrange(len(lines))
    lines[first], lines[second] = lines[second], lines[first]
    return b"".join(lines)


def count_on(chance: random.Random, data: bytes) -> bytes:
    """Add to a number, if there is one."""
    numbers = list(re.finditer(rb"(?<![\w+/=])\d+(?![\w+/=])", data))
    if not numbers:
        return flip(chance, data)
    found = chance.choice(numbers)
    number = int(found[0]) + chance.choice([-1, 1, 2, -256, 256, 1 << 40])
    return data[: found.start()] + b"%d" % number + data[found.end() :]


def flip_coded(chance: random.Random, data: bytes) -> bytes:
    """Flip one bit of what is written in base64: a root, a hash, a signature."""
    words = list(re.finditer(rb"[A-Za-z0-9+/]{40,}={0,2}(?=\n|$)", data))
    if not words:
        return flip(chance, data)
    found = chance.choice(words)
    try:
        coded = base64.b64encode(flip(chance, base64.b64decode(found[0], validate=True)))
    except binascii.Error:
        return flip(chance, data)
    return data[: found.start()] + coded + data[found.end() :]


def _byte(chance: random.Random) -> bytes:
    """Return any byte, more often one that means something in a text."""
    return chance.choice(
        [bytes([chance.randrange(256)]), chance.choice(b"\n\r =+-0A/ ").to_bytes()]
    )


BLIND: tuple[Change, ...] = (
    *(flip, put, insert, drop, cut),
    *(drop_line, double_line, swap_lines, count_on, flip_coded, flip_coded),
)


def _blindly(chance: random.Random, data: bytes) -> tuple[str, bytes]:
    change = chance.choice(BLIND)
    return change.__name__, change(chance, data)


def every_note(sample: Sample, chance: random.Random) -> Mutation:
    """Change the checkpoint, the same way wherever it stands."""
    how, note = _blindly(chance, sample.files["checkpoint"])
    return Mutation(f"{how} in every note", sample.noted(note))


def one_checkpoint(sample: Sample, chance: random.Random) -> Mutation:
    """Change the file `checkpoint` only."""
    how, note = _blindly(chance, sample.files["checkpoint"])
    return Mutation(f"{how} in the checkpoint", {"checkpoint": note})


def one_note(sample: Sample, chance: random.Random) -> Mutation:
    """Change the checkpoint in one proof only."""
    name = chance.choice(sample.proofs())
    head = above(sample.files[name])
    how, note = _blindly(chance, sample.files[name][len(head) :])
    return Mutation(f"{how} in the note of {name}", {name: head + note})


def one_path(sample: Sample, chance: random.Random) -> Mutation:
    """Change what stands in one proof above the note."""
    name = chance.choice(sample.proofs())
    head = above(sample.files[name])
    how, changed = _blindly(chance, head)
    return Mutation(
        f"{how} in the path of {name}", {name: changed + sample.files[name][len(head) :]}
    )


def other_proof(sample: Sample, chance: random.Random) -> Mutation:
    """Put one proof in the place of another."""
    name, other = chance.choice(sample.proofs()), chance.choice(sample.proofs())
    return Mutation(f"{other} in the place of {name}", {name: sample.files[other]})


def entries(sample: Sample, chance: random.Random) -> Mutation:
    """Change the entries."""
    how, changed = _blindly(chance, sample.files["entries.jsonl"])
    return Mutation(f"{how} in the entries", {"entries.jsonl": changed})


# ----------------------------------------------------------------------- by who has the seal key


def signed_anew(sample: Sample, chance: random.Random) -> Mutation:
    """Have the ledger's own key sign another checkpoint, and put it everywhere."""
    origin, size, root = sample.origin, sample.checkpoint.size, sample.checkpoint.root
    how = chance.choice(["size", "root", "origin", "extension", "cosigned", "form"])
    text = Checkpoint(origin, size, root).text()
    if how == "size":
        size = max(0, size + chance.choice([-1, 1, -size, 256, -256, size, 1 << 50]))
        text = Checkpoint(origin, size, root).text()
    elif how == "root":
        text = Checkpoint(origin, size, flip(chance, root)).text()
    elif how == "origin":
        text = Checkpoint(f"{origin}{chance.choice('x/.')}", size, root).text()
    elif how == "extension":
        text += chance.choice(["more\n", "more\n\nand more\n", "\n", "1\n2\n3\n"])
    elif how == "form":
        text = _blindly(chance, text.encode())[1].decode(errors="replace")
        text = text.replace("\r", "") + "\n"
    names = [origin, "example.org/witness"][:: chance.choice([1, -1])]
    note = sample.sealed(text, *(names if how == "cosigned" else [origin]))
    return Mutation(f"signed anew: {how}", sample.noted(note))


OF_PROOFS = (one_note, one_path, other_proof)
TARGETS = (every_note, one_checkpoint, entries, signed_anew, *OF_PROOFS)


# ------------------------------------------------------------------------------ another spelling


def is_respelled(before: bytes, after: bytes) -> bool:
    """Say whether two texts differ only in how their base64 is spelled.

    The last character of 32 or 68 bytes has bits to spare, and some readers skip a carriage return.
    """
    return before != after and _respelled(before) == _respelled(after)


def _respelled(text: bytes) -> bytes:
    return re.sub(rb"[A-Za-z0-9+/\r]{8,}={0,2}\r?", _spelling, text)


def _spelling(found: re.Match[bytes]) -> bytes:
    try:
        return base64.b64encode(base64.b64decode(found[0].replace(b"\r", b""), validate=True))
    except binascii.Error:
        return found[0]


def files_respelled(before: Files, changes: Mapping[str, bytes]) -> bool:
    """Say whether nothing but the spelling of base64 changed, in notes and proofs."""
    return all(
        data == before[name] or is_respelled(before[name], data) for name, data in changes.items()
    )
