"""Go's note and tlog packages check a bundle: clean, altered, and where the two may differ."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path

import pytest

from runwright.kernel.errors import Usage
from runwright.kernel.record import ledger as trees
from runwright.kernel.record.ledger import Head, inclusion_proof, leaf_hash
from runwright.kernel.record.seal import Proof, proof_text
from tests.e2e.project import Project
from tests.foreign.forgeries import FORGERIES, Changes, signature
from tests.foreign.samples import Sample, bare, lay_out, raw_entry, read, resigned
from tests.foreign.verdicts import agree, ask_command, ask_go, ask_ours
from tests.kernel.record.forge import note_of, public

pytestmark = pytest.mark.external

# ----------------------------------------------------------------------------------------- clean


@pytest.mark.slow
def test_go_verifies_what_export_wrote(go: Path, sample: Sample, ledger: Project) -> None:
    """Each entry by its path, 290 entries apart; of a whole ledger the root, computed again."""
    folder = lay_out(sample.files, ledger.base / "clean" / "bundle")
    said = ask_go(go, sample.vkey, folder)
    ours = ask_command(folder, sample.trusted, ledger.environment)
    assert said.held
    assert ours.words == set()
    entries = sample.files["entries.jsonl"].count(b"\n")
    size = sample.checkpoint.size
    assert size == 308
    if sample.proofs():
        assert entries == said.detail.count(f"is in the tree of {size}\n") == 9
    else:
        assert entries == size
        assert said.detail.endswith(f"ok   tree: the root of {size} entries\n")


@pytest.mark.slow
def test_go_verifies_under_the_key_of_after_a_rotation_only(
    go: Path, ledger: Project, tmp_path: Path
) -> None:
    """The old key did not sign the newest checkpoint, so who trusts it alone is not served."""
    rotated = ledger.copy_to(tmp_path)
    keys = rotated.folder / ".runwright" / "keys"
    before = (keys / "ledger.vkey").read_text(encoding="utf-8").strip()
    rotated.done("ledger", "rotate-key")
    rotated.done("export", "latest", "--out", rotated.base / "after")
    sample = Sample(read(rotated.base / "after"), keys)
    assert ask_go(go, sample.vkey, rotated.base / "after").held
    assert ask_ours(sample.files, sample.trusted).words == set()
    assert ask_go(go, before, rotated.base / "after").levels == {"note"}
    assert ask_ours(sample.files, [before, sample.trusted[1]]).words == {"signature"}


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 2, 3, 255, 256, 257, 511, 65_535, 65_536, 65_537, 70_001])
def test_go_verifies_proofs_that_read_tiles_of_every_level(
    go: Path, size: int, tmp_path: Path
) -> None:
    """Ours are put together of tiles, Go's are checked by the definition; borders matter."""
    seqs = sorted({0, 1, 254, 255, 256, 257, size // 2, 65_535, 65_536, size - 2, size - 1})
    raws = {seq: raw_entry(seq) for seq in seqs if 0 <= seq < size}
    leaves = [leaf_hash(raws.get(seq, b"%d" % seq)) for seq in range(size)]
    kept: dict[int, list[bytes]] = {0: leaves}
    grown: list[trees.Tile] = []
    head = trees.extend(Head(), leaves, grown)
    for tile in grown:
        kept.setdefault(tile.level, []).append(tile.hash)

    def tiles(level: int, start: int, stop: int) -> list[bytes]:
        return kept.get(level, [])[start:stop]

    note = note_of(size, head.root())
    proofs = {
        f"proofs/{seq}.tlog-proof": proof_text(
            Proof(seq, tuple(inclusion_proof(tiles, seq, size)), note)
        ).encode()
        for seq in raws
    }
    lines = b"".join(raw + b"\n" for raw in raws.values())
    files = bare({"entries.jsonl": lines, "checkpoint": note.encode(), **proofs})
    said = ask_go(go, public(1).text(), lay_out(files, tmp_path / "bundle"))
    assert said.held
    assert said.detail.count("is in the tree of") == len(raws) * (len(raws) != size)
    assert ask_ours(files, [public(1).text()]).held


# --------------------------------------------------------------------------------------- altered


@pytest.mark.slow
@pytest.mark.parametrize("name", FORGERIES)
def test_go_and_the_command_refuse_what_was_altered(
    go: Path, samples: dict[str, Sample], ledger: Project, name: str, tmp_path: Path
) -> None:
    """The manifest is signed anew by openssl, so nothing but notes and proofs speaks against it."""
    sample, forgery = samples["last"], FORGERIES[name]
    files = resigned(sample.changed(forgery.changes(sample)), sample.keys / "evidence.key")
    folder = lay_out(files, tmp_path / "bundle")
    said = ask_go(go, sample.vkey, folder)
    ours = ask_command(folder, sample.trusted, ledger.environment)
    assert said.levels == {forgery.level}
    assert ours.words == forgery.words
    assert agree(said, ours)


@pytest.mark.slow
def test_a_bundle_signed_anew_without_an_alteration_holds(
    go: Path, sample: Sample, tmp_path: Path
) -> None:
    """The control: it is the alteration that was refused, not the signature that openssl made."""
    files = resigned(sample.files, sample.keys / "evidence.key")
    assert files["manifest.sig"] != sample.files["manifest.sig"]
    assert ask_ours(files, sample.trusted).words == set()
    assert ask_go(go, sample.vkey, lay_out(files, tmp_path / "bundle")).held


def test_go_and_ours_refuse_another_key(
    go: Path, samples: dict[str, Sample], stranger: Path, tmp_path: Path
) -> None:
    """The key of another ledger, another key for this one, and what is no key at all."""
    sample = samples["last"]
    folder = lay_out(sample.files, tmp_path / "bundle")
    others = (stranger / "ledger.vkey").read_text(encoding="utf-8").strip()
    for key in (others, public(1, sample.origin).text()):
        assert ask_go(go, key, folder).levels == {"note"}
        assert ask_ours(sample.files, [key, sample.trusted[1]]).words == {"signature"}
    for key in (f"x{sample.vkey}", sample.vkey[:-4], "no key"):
        assert ask_go(go, key, folder).levels == {"key"}
        with pytest.raises(Usage, match="verifier key"):
            ask_ours(sample.files, [key])


# --------------------------------------------------------------------------- where the two differ


def spare_bits(text: bytes) -> bytes:
    """Spell the same bytes in another way: the last character before the padding has bits over."""
    assert text.endswith(b"=")
    assert not text.endswith(b"==")
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    other = alphabet[alphabet.index(text[-2]) ^ 1]
    return text[:-2] + bytes([other]) + text[-1:]


def _spelled(sample: Sample) -> Changes:
    return sample.noted(signature(sample.files["checkpoint"], spare_bits))


def _hash_spelled(sample: Sample) -> Changes:
    name = sample.proofs()[0]
    lines = sample.files[name].split(b"\n")
    return {name: b"\n".join([*lines[:2], spare_bits(lines[2]), *lines[3:]])}


def _carriage_return(sample: Sample) -> Changes:
    name = sample.proofs()[0]
    lines = sample.files[name].split(b"\n")
    return {name: b"\n".join([*lines[:2], lines[2] + b"\r", *lines[3:]])}


def _second_signature(sample: Sample) -> Changes:
    note = sample.files["checkpoint"]
    line = note.splitlines(keepends=True)[-1]
    wrong = signature(line, lambda text: base64.b64encode(base64.b64decode(text)[:-1] + b"!"))
    return sample.noted(note + wrong)


def cosigned(count: int) -> Callable[[Sample], Changes]:
    """Return what adds signatures of keys that nobody here knows."""

    def changes(sample: Sample) -> Changes:
        lines = "".join(
            note_of(1, bytes(32), keys=[number], origin=f"example.org/{number}").splitlines(True)[
                -1
            ]
            for number in range(2, 2 + count)
        )
        return sample.noted(sample.files["checkpoint"] + lines.encode())

    return changes


def extended(size: int) -> Callable[[Sample], Changes]:
    """Return what adds a signed line of extension of this size."""

    def changes(sample: Sample) -> Changes:
        text = sample.checkpoint.text() + "x" * size + "\n"
        return sample.noted(sample.sealed(text))

    return changes


def _extra(sample: Sample) -> Changes:
    name = sample.proofs()[0]
    return {name: sample.files[name].replace(b"\nindex", b"\nextra AAAA\nindex", 1)}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        pytest.param(_spelled, {"shape"}, id="spare bits of a signature"),
        pytest.param(_hash_spelled, {"inclusion"}, id="spare bits of a hash"),
        pytest.param(_carriage_return, {"inclusion"}, id="a carriage return behind a hash"),
        pytest.param(_second_signature, {"signature"}, id="a second signature that is wrong"),
        pytest.param(cosigned(16), {"shape"}, id="17 signatures"),
        pytest.param(extended(70_000), {"shape"}, id="a note over 64 KiB"),
    ],
)
def test_ours_is_stricter_than_go_in_these_and_go_passes_them(
    go: Path,
    samples: dict[str, Sample],
    changes: Callable[[Sample], Changes],
    words: set[str],
    tmp_path: Path,
) -> None:
    """One spelling of base64, no wrong signature of a trusted key, and closer bounds."""
    sample = samples["last"]
    changed = sample.changed(changes(sample))
    assert ask_go(go, sample.vkey, lay_out(changed, tmp_path / "bundle")).held
    ours = ask_ours(changed, sample.trusted)
    assert words <= ours.words <= words | {"files", "stated"}


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param(cosigned(1), id="a cosignature"),
        pytest.param(cosigned(15), id="16 signatures"),
        pytest.param(extended(80), id="a line of extension"),
        pytest.param(_extra, id="extra data in a proof"),
    ],
)
def test_go_and_ours_pass_what_the_formats_allow(
    go: Path, samples: dict[str, Sample], changes: Callable[[Sample], Changes], tmp_path: Path
) -> None:
    """What others may add to a note or a proof does no harm."""
    sample = samples["last"]
    changed = resigned(sample.changed(changes(sample)), sample.keys / "evidence.key")
    assert ask_go(go, sample.vkey, lay_out(changed, tmp_path / "bundle")).held
    assert ask_ours(changed, sample.trusted).words == set()
