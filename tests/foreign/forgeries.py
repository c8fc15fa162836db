"""Alterations of a bundle with a name, each with the level at which a verifier has to refuse it.

All but the first group are those of somebody who signs the manifest anew, so that nothing but the
notes and the proofs speaks against them.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from runwright.kernel.record.seal import Checkpoint
from tests.foreign.samples import Sample, above

Changes = Mapping[str, bytes | None]


class Forgery(NamedTuple):
    """An alteration, and what is wrong with it."""

    changes: Callable[[Sample], Changes]
    #: Where the verifier in Go refuses it.
    level: str
    #: The sentences of ours that it breaks, and no other.
    words: frozenset[str]


def flipped(text: bytes, place: int = 0) -> bytes:
    """Return base64 text with one bit of its bytes flipped."""
    data = bytearray(base64.b64decode(text))
    data[place] ^= 1
    return base64.b64encode(data)


def _line(text: bytes, number: int, change: Callable[[bytes], bytes]) -> bytes:
    """Return a text with one of its lines changed."""
    lines = text.split(b"\n")
    lines[number] = change(lines[number])
    return b"\n".join(lines)


def _entry(sample: Sample) -> Changes:
    """One bit of the last entry: a digit of its time."""
    raw = sample.files["entries.jsonl"]
    place = raw.rindex(b'"ts":') + 6
    return {"entries.jsonl": raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :]}


def _hash(sample: Sample) -> Changes:
    name = sample.proofs()[0]
    return {name: _line(sample.files[name], 2, flipped)}


def _no_hash(sample: Sample) -> Changes:
    name = sample.proofs()[-1]
    lines = sample.files[name].split(b"\n")
    return {name: b"\n".join(lines[:2] + lines[3:])}


def _no_proof(sample: Sample) -> Changes:
    return {sample.proofs()[2]: None}


def _of_another(sample: Sample) -> Changes:
    first, second, *_ = sample.proofs()
    return {first: sample.files[second]}


def _index(sample: Sample) -> Changes:
    """Say in the proof of one entry that it is of the next one."""
    name = sample.proofs()[0]
    said = b"index %d" % (int(Path(name).stem) + 1)
    return {name: _line(sample.files[name], 1, lambda _: said)}


def _root(sample: Sample) -> Changes:
    return sample.noted(_line(sample.files["checkpoint"], 2, flipped))


def _size(sample: Sample) -> Changes:
    less = b"%d" % (sample.checkpoint.size - 1)
    return sample.noted(_line(sample.files["checkpoint"], 1, lambda _: less))


def _signature(sample: Sample) -> Changes:
    return sample.noted(signature(sample.files["checkpoint"], lambda text: flipped(text, -1)))


def _key_id(sample: Sample) -> Changes:
    return sample.noted(signature(sample.files["checkpoint"], flipped))


def signature(note: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """Return a note with a changed signature."""
    head, _, text = note.rstrip(b"\n").rpartition(b" ")
    return head + b" " + change(text) + b"\n"


def _other_name(sample: Sample) -> Changes:
    note = sample.files["checkpoint"]
    name = sample.origin.encode()
    return sample.noted(note.replace(b"\xe2\x80\x94 " + name, b"\xe2\x80\x94 x" + name))


def _signed(sample: Sample, **fields: object) -> Changes:
    """Return every note replaced by one that the ledger's own key signed."""
    checkpoint = sample.checkpoint
    said = {"origin": checkpoint.origin, "size": checkpoint.size, "root": checkpoint.root}
    return sample.noted(sample.sealed(Checkpoint(**{**said, **fields}).text()))


def _root_signed(sample: Sample) -> Changes:
    return _signed(sample, root=bytes(32))


def _size_signed(sample: Sample) -> Changes:
    return _signed(sample, size=sample.checkpoint.size - 7)


def _origin_signed(sample: Sample) -> Changes:
    return _signed(sample, origin=f"{sample.origin}0")


def _older(sample: Sample) -> Changes:
    """In one proof: another checkpoint of the ledger, as truly signed as the bundle's."""
    name = sample.proofs()[0]
    checkpoint = sample.checkpoint
    note = sample.sealed(Checkpoint(checkpoint.origin, checkpoint.size - 1, bytes(32)).text())
    return {name: above(sample.files[name]) + note}


def _moved(sample: Sample) -> Changes:
    """Say in an entry that it is another one that has a proof."""
    raw = sample.files["entries.jsonl"]
    lines = raw.splitlines(keepends=True)
    seqs = [json.loads(line)["seq"] for line in lines]
    lines[-1] = lines[-1].replace(b'"seq":%d' % seqs[-1], b'"seq":%d' % (seqs[-1] + 1))
    name = f"proofs/{seqs[-1]}.tlog-proof"
    proof = sample.files[name].replace(b"index %d" % seqs[-1], b"index %d" % (seqs[-1] + 1))
    return {
        "entries.jsonl": b"".join(lines),
        name: None,
        f"proofs/{seqs[-1] + 1}.tlog-proof": proof,
    }


def _forgery(changes: Callable[[Sample], Changes], level: str, words: str) -> Forgery:
    return Forgery(changes, level, frozenset(words.split()))


#: Name -> what is altered in the bundle of one round.
FORGERIES: Mapping[str, Forgery] = {
    "a byte of an entry": _forgery(_entry, "tree", "inclusion"),
    "an entry under another number": _forgery(_moved, "tree", "inclusion stated"),
    "a byte of a hash in a proof": _forgery(_hash, "tree", "inclusion"),
    "a hash less in a proof": _forgery(_no_hash, "tree", "inclusion"),
    "a proof less": _forgery(_no_proof, "tree", "inclusion"),
    "the proof of another entry": _forgery(_of_another, "tree", "inclusion"),
    "another index in a proof": _forgery(_index, "tree", "inclusion"),
    "a byte of the root": _forgery(_root, "note", "signature inclusion stated"),
    "another size": _forgery(_size, "note", "signature inclusion stated"),
    "a byte of the signature": _forgery(_signature, "note", "signature"),
    "another key id": _forgery(_key_id, "note", "signature"),
    "another name of the key": _forgery(_other_name, "note", "signature"),
    "another root, truly signed": _forgery(_root_signed, "tree", "inclusion stated"),
    "another size, truly signed": _forgery(_size_signed, "tree", "inclusion stated"),
    "another ledger, truly signed": _forgery(_origin_signed, "note", "origin signature stated"),
    "another checkpoint in one proof": _forgery(_older, "tree", "inclusion"),
}
