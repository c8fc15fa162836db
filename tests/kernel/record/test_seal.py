"""Seals: the C2SP formats, the read-back before signing, and the check when a ledger is opened."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runwright.kernel.errors import (
    RollbackDetected,
    SignerMemoryLost,
    StoreCorrupt,
    Usage,
    VerificationFailed,
)
from runwright.kernel.record import ledger, seal
from runwright.kernel.record.entries import ClockStepped, Draft
from runwright.kernel.record.ledger import Head, SealRow, StoredEntry
from runwright.kernel.record.seal import Checkpoint, Proof, Remembered
from tests.kernel.record.forge import ORIGIN, TS_MS, note_of, public


class Shelf:
    """A store as far as sealing reads it."""

    def __init__(self) -> None:
        self.rows: list[StoredEntry] = []
        self.kept: dict[int, list[bytes]] = {}
        self.sealed: list[SealRow] = []
        self.head = Head()
        #: As they were committed, whatever becomes of the rows.
        self.leaves: list[bytes] = []

    def append(self, count: int) -> None:
        drafts = [Draft(body=ClockStepped(step_ms=number)) for number in range(count)]
        appended = ledger.append(self.head, ORIGIN, TS_MS, drafts)
        self.rows += appended.entries
        for tile in appended.tiles:
            self.kept.setdefault(tile.level, []).append(tile.hash)
        self.head = appended.head
        self.leaves += [entry.leaf for entry in appended.entries]

    def size(self) -> int:
        return len(self.rows)

    def entries(self, start: int = 0, stop: int | None = None) -> Iterator[StoredEntry]:
        return iter(self.rows[start:stop])

    def tiles(self, level: int, start: int, stop: int) -> list[bytes]:
        if level == 0:
            return [row.leaf for row in self.rows[start:stop]]
        return self.kept.get(level, [])[start:stop]

    def seals(self, *, latest: bool = False) -> list[SealRow]:
        return self.sealed[-1:] if latest else self.sealed

    def seal(self, signer: Pen, sealed: Head) -> SealRow:
        leaves = self.leaves[sealed.size :]
        row = seal.seal(self, signer, sealed=sealed, head=self.head, leaves=leaves)
        self.sealed.append(row)
        return row


class Pen:
    """A signer in memory; it counts what it signs."""

    def __init__(self) -> None:
        self.origin = ORIGIN
        self.remembered: Remembered | None = None
        self.signed = 0

    def last(self) -> Remembered | None:
        return self.remembered

    def sign(self, sealed: Head, leaves: list[bytes]) -> str:
        head = ledger.extend(sealed, leaves)
        self.remembered = Remembered(head.size, head.root())
        self.signed += 1
        return note_of(head.size, head.root())

    def follow(self, sealed: Head, note: str) -> bool:
        return False


# ----------------------------------------------------------------------------- before signing


def test_a_seal_is_a_signed_checkpoint_over_what_was_read_back() -> None:
    shelf, pen = Shelf(), Pen()
    shelf.append(5)
    row = shelf.seal(pen, Head())
    assert (row.size, row.root) == (5, shelf.head.root())
    checkpoint = seal.open_note(row.note, [public(1)])
    assert checkpoint == Checkpoint(ORIGIN, 5, shelf.head.root())
    sealed = shelf.head
    shelf.append(600)
    assert shelf.seal(pen, sealed).root == ledger.root_of([entry.leaf for entry in shelf.rows])


def alter(shelf: Shelf, seq: int, *, own_leaf: bool) -> None:
    raw = shelf.rows[seq].raw.replace(b'"step_ms":', b'"step_ms":9')
    leaf = ledger.leaf_hash(raw) if own_leaf else shelf.rows[seq].leaf
    shelf.rows[seq] = StoredEntry(seq, raw, leaf)


@pytest.mark.parametrize("own_leaf", [True, False])
@pytest.mark.parametrize("seq", [3, 5, 6])
def test_a_row_altered_between_commit_and_seal_is_not_signed(seq: int, own_leaf: bool) -> None:
    shelf, pen = Shelf(), Pen()
    shelf.append(3)
    shelf.seal(pen, Head())
    sealed = shelf.head
    shelf.append(4)
    alter(shelf, seq, own_leaf=own_leaf)
    with pytest.raises(StoreCorrupt, match=f"entry {seq} in the store is not what was committed"):
        shelf.seal(pen, sealed)
    assert pen.signed == 1
    assert len(shelf.sealed) == 1


def test_a_missing_or_foreign_row_is_not_signed() -> None:
    shelf, pen = Shelf(), Pen()
    shelf.append(4)
    whole = [*shelf.rows]
    del shelf.rows[-1]
    with pytest.raises(StoreCorrupt, match="entry 3 is missing in the store"):
        shelf.seal(pen, Head())
    shelf.rows = [*whole[:1], *whole[2:]]
    with pytest.raises(StoreCorrupt, match="entry 1 in the store is not what was committed"):
        shelf.seal(pen, Head())
    shelf.rows = [*whole[:3], whole[2]]
    with pytest.raises(StoreCorrupt, match="entry 3 in the store is not what was committed"):
        shelf.seal(pen, Head())
    assert pen.signed == 0


# ---------------------------------------------------------------------------- opening a ledger


def test_an_empty_store_opens_at_the_beginning() -> None:
    heads = seal.open_head(Shelf(), Pen())
    assert heads == (Head(), Head(), [])


def test_a_store_opens_at_its_seal_and_its_end() -> None:
    shelf, pen = Shelf(), Pen()
    shelf.append(300)
    shelf.seal(pen, Head())
    sealed = shelf.head
    shelf.append(7)
    whole = (sealed, shelf.head, shelf.leaves[300:])
    assert seal.open_head(shelf, pen) == whole
    assert seal.adopt_head(shelf, ORIGIN) == whole


def test_a_seal_that_was_signed_and_not_committed_is_made_again() -> None:
    shelf, pen = Shelf(), Pen()
    shelf.append(4)
    lost = shelf.seal(pen, Head())
    shelf.sealed.clear()
    heads = seal.open_head(shelf, pen)
    assert heads == (Head(), shelf.head, shelf.leaves)
    assert shelf.seal(pen, heads.sealed) == lost


def test_a_store_shorter_than_its_last_seal_was_rolled_back() -> None:
    shelf, pen = Shelf(), Pen()
    shelf.append(4)
    shelf.seal(pen, Head())
    shelf.rows.pop()
    with pytest.raises(RollbackDetected, match="the store holds 3 entries, 4 were sealed"):
        seal.open_head(shelf, pen)


def test_a_store_that_differs_at_its_last_seal_was_rolled_back() -> None:
    shelf, pen = Shelf(), Pen()
    shelf.append(4)
    shelf.seal(pen, Head())
    other = Shelf()
    other.append(1)
    other.append(5)
    with pytest.raises(
        RollbackDetected, match="the first 4 entries are not those that were sealed"
    ):
        seal.open_head(other, pen)


def test_a_signer_without_memory_of_a_sealed_store_refuses() -> None:
    shelf, pen = Shelf(), Pen()
    shelf.append(4)
    shelf.seal(pen, Head())
    shelf.append(1)
    shelf.seal(pen, ledger.head_of(shelf.tiles, 4))
    pen.remembered = None
    with pytest.raises(SignerMemoryLost, match="sealed up to 5 entries, the signer remembers none"):
        seal.open_head(shelf, pen)
    pen.remembered = Remembered(4, shelf.sealed[0].root)
    with pytest.raises(SignerMemoryLost, match="sealed up to 5 entries, the signer remembers 4"):
        seal.open_head(shelf, pen)


def test_an_unsealed_tail_is_hashed_again_when_a_store_is_opened() -> None:
    shelf, pen = Shelf(), Pen()
    shelf.append(4)
    shelf.seal(pen, Head())
    shelf.append(3)
    alter(shelf, 5, own_leaf=False)
    with pytest.raises(StoreCorrupt, match="entry 5"):
        seal.open_head(shelf, pen)


@pytest.mark.parametrize(
    ("raw", "problem"), [(b"{", "cannot be read"), (None, "belongs somewhere else")]
)
def test_an_unsealed_tail_is_followed_as_a_chain(raw: bytes | None, problem: str) -> None:
    shelf = Shelf()
    shelf.append(2)
    other = ledger.append(Head(), "example.org/other", TS_MS, [Draft(body=ClockStepped(step_ms=0))])
    data = other.entries[0].raw if raw is None else raw
    shelf.rows[0] = StoredEntry(0, data, ledger.leaf_hash(data))
    with pytest.raises(StoreCorrupt, match=f"entry 0 in the store {problem}"):
        seal.open_head(shelf, Pen())


def test_adopting_hashes_everything_and_holds_tiles_and_seals_against_it() -> None:
    shelf, pen = Shelf(), Pen()
    shelf.append(300)
    shelf.seal(pen, Head())
    shelf.kept[1][0] = bytes(32)
    with pytest.raises(StoreCorrupt):
        seal.adopt_head(shelf, ORIGIN)
    shelf.kept[1][0] = ledger.root_of([row.leaf for row in shelf.rows[:256]])
    seal.adopt_head(shelf, ORIGIN)
    shelf.sealed[0] = SealRow(300, bytes(32), "")
    with pytest.raises(StoreCorrupt, match="the first 300 entries in the store are not those"):
        seal.adopt_head(shelf, ORIGIN)


# -------------------------------------------------------------------------------------- formats


def test_a_verifier_key_is_that_of_the_specification() -> None:
    """The example of Go's sumdb/note."""
    text = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
    key = seal.parse_key(text)
    assert key.name == "PeterNeumann"
    assert key.text() == text


def test_a_note_of_the_specification_verifies() -> None:
    """The example of Go's sumdb/note."""
    key = seal.parse_key("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW")
    text = (
        "If you think cryptography is the answer to your problem,\n"
        "then you don't know what your problem is.\n"
    )
    signature = (
        "\u2014 PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqf"
        "qdngotpRZb6KE6RyyBwJnAM=\n"
    )
    note = seal.parse_note(f"{text}\n{signature}")
    assert note.text == text
    assert seal.signers_of(note, [key]) == [key]
    wrong = seal.parse_note(f"{text.replace('think', 'know')}\n{signature}")
    with pytest.raises(VerificationFailed, match="signature of PeterNeumann"):
        seal.signers_of(wrong, [key])


def test_signatures_of_unknown_keys_are_ignored_and_one_trusted_has_to_verify() -> None:
    note = note_of(3, bytes(32), keys=(1, 2))
    assert seal.open_note(note, [public(1)]) == seal.open_note(note, [public(2)])
    with pytest.raises(VerificationFailed, match="no signature of the checkpoint is by a trusted"):
        seal.open_note(note, [public(3)])
    with pytest.raises(VerificationFailed):
        seal.open_note(note, [])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "name",
        "name+00000000+AAAA",
        "na me+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "PeterNeumann+c74f20a4+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10T=",
        "PeterNeumann+c74f20a3+Ahpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
    ],
)
def test_what_is_not_a_verifier_key_is_refused(text: str) -> None:
    with pytest.raises(Usage, match="verifier key"):
        seal.parse_key(text)


def test_a_name_that_cannot_stand_in_a_note_is_refused() -> None:
    for name in ("", "a b", "a+b", "a\nb", "a\u00a0b"):
        with pytest.raises(Usage, match="cannot name a key"):
            seal.make_key(name, bytes(32))


@pytest.mark.parametrize(
    "change",
    [
        lambda note: note.replace("\n\n", "\n"),
        lambda note: note[:-1],
        lambda note: note.replace("\u2014", "-"),
        lambda note: note + "\n",
        lambda note: note.replace("3\n", "3\r\n", 1),
        lambda note: note + "\u2014 x\n",
        lambda note: note + "\u2014 x AAAA\n",
        lambda note: note + "\u2014 x AAAAAAA\n",
        lambda note: note * 20,
        lambda note: note + note.splitlines(keepends=True)[-1] * 20,
        lambda note: "x" * 70_000 + note,
    ],
)
def test_what_is_not_a_note_is_refused(change: object) -> None:
    note = note_of(3, bytes(32))
    with pytest.raises(VerificationFailed):
        seal.open_note(change(note), [public(1)])  # type: ignore[operator]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "origin\n",
        "origin\n3\n",
        f"origin\n03\n{base64.b64encode(bytes(32)).decode()}\n",
        f"origin\n-3\n{base64.b64encode(bytes(32)).decode()}\n",
        f"origin\n\u0663\n{base64.b64encode(bytes(32)).decode()}\n",
        f"\n3\n{base64.b64encode(bytes(32)).decode()}\n",
        f"origin\n3\n{base64.b64encode(bytes(31)).decode()}\n",
        f"origin\n3\n{base64.b64encode(bytes(32)).decode()}",
        "origin\n3\n????\n",
    ],
)
def test_what_is_not_a_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(VerificationFailed, match="not a checkpoint"):
        seal.parse_checkpoint(text)


@given(st.text(max_size=200))
def test_parsers_answer_or_refuse_and_never_raise_anything_else(text: str) -> None:
    for parse in (seal.parse_note, seal.parse_checkpoint, seal.parse_proof):
        try:
            parse(text)
        except VerificationFailed:
            continue


@given(st.integers(0, 2**40), st.lists(st.binary(min_size=32, max_size=32), max_size=63))
def test_a_proof_is_read_back_as_it_was_written(index: int, hashes: list[bytes]) -> None:
    proof = Proof(index, tuple(hashes), note_of(3, bytes(32)))
    text = seal.proof_text(proof)
    assert text.startswith(f"c2sp.org/tlog-proof@v1\nindex {index}\n")
    assert seal.parse_proof(text) == proof


@pytest.mark.parametrize(
    "text",
    [
        "",
        "c2sp.org/tlog-proof@v1",
        "c2sp.org/tlog-proof@v2\nindex 1\n\nnote",
        "c2sp.org/tlog-proof@v1\nindex 01\n\nnote",
        "c2sp.org/tlog-proof@v1\nindex 1\nAAAA\n\nnote",
        "c2sp.org/tlog-proof@v1\nindex 1\n" + "A" * 43 + "=\n" * 64 + "\nnote",
    ],
)
def test_what_is_not_a_proof_is_refused(text: str) -> None:
    with pytest.raises(VerificationFailed, match="not a proof"):
        seal.parse_proof(text)
