"""Keys on disk and the memory of the signer, on real files."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from runwright.adapters import signer as signers
from runwright.adapters.signer import SLOT_SIZE, FileSigner, SignerMemory
from runwright.kernel.errors import (
    Refused,
    RollbackDetected,
    SignerMemoryLost,
    StoreUnwritable,
    Usage,
)
from runwright.kernel.record import seal
from runwright.kernel.record.ledger import Head, extend, leaf_hash
from runwright.kernel.record.seal import Remembered

ORIGIN = "example.org/ledger"
LEAVES = [leaf_hash(b"%d" % number) for number in range(20)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    signers.create_keys(tmp_path / "keys", ORIGIN)
    return tmp_path / "keys"


@pytest.fixture
def memory(tmp_path: Path) -> SignerMemory:
    return SignerMemory(tmp_path / "state" / "memory", "0f" * 16)


@pytest.fixture
def signer(folder: Path, memory: SignerMemory) -> FileSigner:
    return FileSigner(folder, memory, ORIGIN)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# ------------------------------------------------------------------------------------------ keys


def test_private_keys_are_made_for_their_owner_only(tmp_path: Path) -> None:
    umask = os.umask(0)
    try:
        keys = signers.create_keys(tmp_path / "deep" / "keys", ORIGIN)
    finally:
        os.umask(umask)
    folder = tmp_path / "deep" / "keys"
    assert mode(folder) == 0o700
    assert mode(folder / "ledger.key") == mode(folder / "evidence.key") == 0o600
    assert sorted(path.name for path in folder.iterdir()) == [
        "evidence.key",
        "evidence.pub.pem",
        "ledger.key",
        "ledger.pub.pem",
        "ledger.vkey",
    ]
    assert seal.parse_key((folder / "ledger.vkey").read_text()) == keys.seal
    assert len(keys.bundle) == 64


def test_a_key_is_never_overwritten(folder: Path) -> None:
    before = (folder / "ledger.key").read_bytes()
    with pytest.raises(Usage, match="is there already; a key is never overwritten"):
        signers.create_keys(folder, ORIGIN)
    assert (folder / "ledger.key").read_bytes() == before


@pytest.mark.parametrize("bits", [0o640, 0o604, 0o620])
def test_a_private_key_that_others_may_read_is_refused(folder: Path, bits: int) -> None:
    (folder / "ledger.key").chmod(bits)
    with pytest.raises(Refused, match="may be read by others") as caught:
        signers.load_seal_key(folder / "ledger.key")
    assert "chmod 600" in caught.value.hint


def test_a_file_that_is_no_key_or_another_key_is_refused(folder: Path) -> None:
    with pytest.raises(Usage, match="does not hold an Ed25519 key"):
        signers.load_seal_key(folder / "evidence.key")
    with pytest.raises(Usage, match="does not hold a P-256 key"):
        signers.load_evidence_key(folder / "ledger.key")
    (folder / "ledger.key").write_text("nothing")
    with pytest.raises(Usage, match="does not hold a private key in PEM"):
        signers.load_seal_key(folder / "ledger.key")
    with pytest.raises(Usage, match="cannot be read: No such file"):
        signers.load_seal_key(folder / "absent")


# ---------------------------------------------------------------------------------------- memory


def test_nothing_is_remembered_before_the_first_time(memory: SignerMemory) -> None:
    assert memory.last() is None


def test_the_newest_of_two_slots_is_remembered(memory: SignerMemory, tmp_path: Path) -> None:
    for size in range(1, 6):
        memory.remember(Remembered(size, bytes([size]) * 32))
        assert SignerMemory(tmp_path / "state" / "memory", "0f" * 16).last() == Remembered(
            size, bytes([size]) * 32
        )
    path = tmp_path / "state" / "memory"
    assert path.stat().st_size == 2 * SLOT_SIZE
    assert mode(path) == 0o600
    assert mode(path.parent) == 0o700


@pytest.mark.parametrize("length", [0, 1, 100, SLOT_SIZE - 1])
def test_a_torn_write_leaves_the_slot_before_it(
    memory: SignerMemory, tmp_path: Path, length: int
) -> None:
    path = tmp_path / "state" / "memory"
    memory.remember(Remembered(1, bytes(32)))
    memory.remember(Remembered(2, bytes(32)))
    before = path.read_bytes()
    memory.remember(Remembered(3, bytes(32)))
    after = path.read_bytes()
    changed = [place for place in (0, SLOT_SIZE) if before[place:][:64] != after[place:][:64]]
    assert len(changed) == 1, "one slot is written, the other left alone"
    start = changed[0]
    torn = bytearray(before)
    torn[start : start + length] = after[start : start + length]
    path.write_bytes(bytes(torn))
    assert memory.last() == Remembered(2, bytes(32))
    torn[start : start + SLOT_SIZE] = b"\0" * SLOT_SIZE
    path.write_bytes(bytes(torn))
    assert memory.last() == Remembered(2, bytes(32))
    memory.remember(Remembered(4, bytes(32)))
    assert memory.last() == Remembered(4, bytes(32))


def test_the_first_write_torn_is_a_memory_that_is_lost_or_was_never(
    memory: SignerMemory, tmp_path: Path
) -> None:
    path = tmp_path / "state" / "memory"
    memory.remember(Remembered(1, bytes(32)))
    whole = path.read_bytes()
    path.write_bytes(b"")
    assert memory.last() is None
    path.write_bytes(whole[:100])
    with pytest.raises(SignerMemoryLost, match="holds no valid slot"):
        memory.last()


def test_every_flipped_bit_of_a_slot_is_noticed(memory: SignerMemory, tmp_path: Path) -> None:
    path = tmp_path / "state" / "memory"
    memory.remember(Remembered(1, bytes(32)))
    memory.remember(Remembered(2, bytes(32)))
    whole = path.read_bytes()
    for place in range(SLOT_SIZE, 2 * SLOT_SIZE):
        flipped = bytearray(whole)
        flipped[place] ^= 4
        path.write_bytes(bytes(flipped))
        assert memory.last() == Remembered(1, bytes(32))


def test_the_memory_of_another_ledger_is_not_taken(memory: SignerMemory, tmp_path: Path) -> None:
    memory.remember(Remembered(1, bytes(32)))
    other = SignerMemory(tmp_path / "state" / "memory", "aa" * 16)
    with pytest.raises(SignerMemoryLost, match="is that of another ledger"):
        other.last()


def test_a_memory_that_cannot_be_written_releases_no_signature(
    folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "taken").mkdir()
    signer = FileSigner(folder, SignerMemory(tmp_path / "taken", "0f" * 16), ORIGIN)
    with pytest.raises((StoreUnwritable, SignerMemoryLost)):
        signer.sign(Head(), LEAVES)


# ---------------------------------------------------------------------------------------- signer


def test_what_is_signed_is_remembered_first(
    signer: FileSigner, memory: SignerMemory, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    fsync, note = os.fsync, signers.sign_note
    monkeypatch.setattr(os, "fsync", lambda file: (order.append("synced"), fsync(file))[1])
    monkeypatch.setattr(
        signers, "sign_note", lambda *args: (order.append("signed"), note(*args))[1]
    )
    text = signer.sign(Head(), LEAVES)
    assert order[-1] == "signed"
    assert "synced" in order
    head = extend(Head(), LEAVES)
    assert memory.last() == Remembered(20, head.root())
    key = seal.parse_key((folder / "ledger.vkey").read_text())
    assert seal.open_note(text, [key]) == seal.Checkpoint(ORIGIN, 20, head.root())


def test_the_same_request_again_returns_the_same_bytes(
    signer: FileSigner, folder: Path, memory: SignerMemory
) -> None:
    first = signer.sign(Head(), LEAVES)
    assert signer.sign(Head(), LEAVES) == first
    assert signer.sign(extend(Head(), LEAVES), []) == first
    again = FileSigner(folder, memory, ORIGIN)
    assert again.sign(Head(), LEAVES) == first


def test_the_signer_goes_on_from_before_what_it_remembers(signer: FileSigner) -> None:
    signer.sign(Head(), LEAVES[:7])
    signer.sign(extend(Head(), LEAVES[:3]), LEAVES[3:])
    assert signer.last() == Remembered(20, extend(Head(), LEAVES).root())


@pytest.mark.parametrize(
    ("start", "leaves"),
    [
        (0, LEAVES[:5]),
        (0, [*LEAVES[:9], bytes(32)]),
        (0, [bytes(32), *LEAVES[1:], *LEAVES]),
        (12, LEAVES[12:]),
        (5, []),
    ],
)
def test_the_signer_never_goes_back_and_never_signs_another_history(
    signer: FileSigner, memory: SignerMemory, start: int, leaves: list[bytes]
) -> None:
    signer.sign(Head(), LEAVES[:10])
    before = memory.last()
    with pytest.raises(RollbackDetected, match="do not continue the 10 signed before"):
        signer.sign(extend(Head(), LEAVES[:start]), leaves)
    assert memory.last() == before


def test_a_signer_that_lost_its_memory_refuses_until_a_head_is_adopted(
    signer: FileSigner, folder: Path, tmp_path: Path
) -> None:
    sealed = extend(Head(), LEAVES[:10])
    with pytest.raises(
        SignerMemoryLost, match="after 10 sealed entries, the signer remembers none"
    ):
        signer.sign(sealed, LEAVES[10:])
    signer.adopt(sealed)
    assert FileSigner(folder, SignerMemory(tmp_path / "state" / "memory", "0f" * 16), ORIGIN).last()
    signer.sign(sealed, LEAVES[10:])


# -------------------------------------------------------------------------------------- rotation


def test_a_rotation_signs_with_both_keys_and_then_with_the_new_one(
    signer: FileSigner, folder: Path
) -> None:
    old = seal.parse_key((folder / "ledger.vkey").read_text())
    signer.sign(Head(), LEAVES[:1])
    new = signers.begin_rotation(folder, ORIGIN)
    assert signers.begin_rotation(folder, ORIGIN) == new
    signer.reload()
    both = signer.sign(extend(Head(), LEAVES[:1]), LEAVES[1:3])
    assert seal.signers_of(seal.parse_note(both), [old, new]) == [old, new]
    signers.finish_rotation(folder)
    signer.reload()
    after = signer.sign(extend(Head(), LEAVES[:3]), LEAVES[3:])
    assert seal.signers_of(seal.parse_note(after), [old, new]) == [new]
    assert seal.parse_key((folder / "ledger.vkey").read_text()) == new
    kept = folder / f"ledger.{old.id.hex()}.vkey"
    assert seal.parse_key(kept.read_text()) == old
    assert not (folder / "ledger.next.key").exists()
    with pytest.raises(Usage, match="no rotation was begun"):
        signers.finish_rotation(folder)


def test_a_rotation_cut_off_half_way_can_be_finished(folder: Path) -> None:
    new = signers.begin_rotation(folder, ORIGIN)
    (folder / "ledger.next.pub.pem").replace(folder / "ledger.pub.pem")
    (folder / "ledger.vkey.draft").write_text("half")
    signers.finish_rotation(folder)
    assert seal.parse_key((folder / "ledger.vkey").read_text()) == new
    assert "next" not in " ".join(path.name for path in folder.iterdir())
