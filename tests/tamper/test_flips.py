"""Every byte of a record flipped, in the store and in a bundle: found, and named where it is.

A session tries every thirteenth byte, with another bit each time; `--campaign` tries every byte of
everything, and every bit of what is small.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from runwright.adapters.files import write_folder
from runwright.adapters.signer import EVIDENCE_KEY, load_evidence_key
from runwright.bootstrap.verification import verify_bundle
from tests.kernel.record.test_bundle import resigned
from tests.tamper.flips import Pick, Tally, flip_bundle, flip_store, flipped
from tests.tamper.sample import Sample, asked

#: What has so few bytes that every bit of it is tried in a campaign.
SMALL = ("entry.leaf", "entry.seq", "seal.root", "seal.note", "seal.size", "blob.salt")
#: The size of a ledger with one tile.
WITH_A_TILE = 257
#: A bundle's files whose bytes are also held by a sentence about the record itself.
OF_THE_RECORD = ("entries.jsonl", "checkpoint", "proofs/", "blobs/")


def whole(tallies: Mapping[str, Tally], record_property: Callable[[str, object], None]) -> None:
    """Insist that every flip was found and named where it was; keep the counts."""
    for name, tally in tallies.items():
        assert (name, tally.lost, tally.misnamed) == (name, [], [])
    assert sum(tally.tried for tally in tallies.values())
    record_property("flips", {name: tally.tried for name, tally in tallies.items()})


@pytest.mark.slow
@pytest.mark.proves("tampering with a sealed record is found")
def test_every_flipped_byte_of_the_store_is_found_at_its_entry(
    sample: Sample, is_campaign: bool, record_property
) -> None:
    """Bytes, leaf hashes, seals, roots, blobs, salts and keys; the entry named is the one hit."""
    assert sample.verify().held
    tallies = flip_store(sample, Pick(1 if is_campaign else 13))
    assert {name for name, tally in tallies.items() if not tally.tried} == {"tile.hash"}
    whole(tallies, record_property)
    if is_campaign:
        whole(flip_store(sample, Pick(every_bit=True), only=SMALL), record_property)
    assert sample.verify().held


@pytest.mark.slow
def test_without_the_lint_a_flipped_byte_is_found_at_its_entry_too(
    sample: Sample, is_campaign: bool, record_property
) -> None:
    """`--no-lint` leaves out two sentences, and no flip."""
    stride = Pick(1 if is_campaign else 41)
    whole(flip_store(sample, stride, lint=False), record_property)


@pytest.mark.slow
def test_every_flipped_byte_of_a_tile_is_found_at_its_first_entry(
    sample: Sample, is_campaign: bool, record_property
) -> None:
    """The root over 256 entries, which proofs read."""
    sample.grow_to(WITH_A_TILE)
    assert sample.verify().held
    tallies = flip_store(sample, Pick(1, every_bit=is_campaign), only=("tile.hash",))
    assert tallies["tile.hash"].tried >= 32
    whole(tallies, record_property)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["all", "part"])
def test_every_flipped_byte_of_a_bundle_is_found(
    made: Sample, is_campaign: bool, name: str, record_property
) -> None:
    """Also of what is only documentation: VERIFY.md and the schemas are in the manifest."""
    files = made.bundle(name)
    assert made.verify_files(files).held
    tallies = flip_bundle(made, files, Pick(1 if is_campaign else 61))
    assert tallies.keys() == files.keys()
    whole(tallies, record_property)


@pytest.mark.slow
def test_every_flipped_byte_of_an_envelope_is_found(
    made: Sample, is_campaign: bool, record_property
) -> None:
    """Its key id and the last bits of its base64 too, which a lenient reader would skip."""
    files = made.bundle("part")
    small = ("manifest.sig", "checkpoint")
    pick = Pick(every_bit=is_campaign)
    whole(flip_bundle(made, files, pick, only=small), record_property)
    name = "manifest.dsse.json"
    data = files[name]
    start = data.index(b'"payloadType"')
    for place, bit in pick.of(len(data) - start):
        verdict = made.verify_files({**files, name: flipped(data, start + place, bit)})
        assert not verdict.held, (place, bit)
        assert not verdict.raised, (place, bit, verdict)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["all", "part"])
def test_every_flipped_byte_is_found_under_a_manifest_that_was_signed_again(
    made: Sample, is_campaign: bool, name: str, record_property
) -> None:
    """Whoever holds the evidence key alone can say something else only in VERIFY.md and schemas."""
    key = load_evidence_key(
        made.loaded.path(made.loaded.settings.signer.keys) / EVIDENCE_KEY,
    )
    files = made.bundle(name)
    chosen = [file for file in files if file.startswith(OF_THE_RECORD)]
    pick = Pick(1 if is_campaign else 47)
    tallies = flip_bundle(made, files, pick, only=chosen, then=lambda found: resigned(found, key))
    whole(tallies, record_property)
    # The control: what is left out above is vouched for by the signature of the manifest alone.
    described = {**files, "VERIFY.md": flipped(files["VERIFY.md"], 0, 0)}
    assert not made.verify_files(described).held
    assert made.verify_files(resigned(described, key)).held


@pytest.mark.slow
def test_a_flipped_byte_on_the_disk_is_found(made: Sample, tmp_path: Path) -> None:
    """One byte of each file, in a folder, as the command reads it."""
    files = made.bundle("part")
    folder = tmp_path / "bundle"
    write_folder(folder, files)
    own = made.loaded

    def verified() -> bool:
        return asked(lambda: verify_bundle(folder, made.keys, own)).held

    assert verified()
    for name, data in files.items():
        (folder / name).write_bytes(flipped(data, len(data) // 2, 3))
        assert not verified(), name
        (folder / name).write_bytes(data)
    shutil.copy(folder / "checkpoint", folder / "added")
    assert not verified()


@pytest.mark.slow
def test_the_command_names_the_entry_and_ends_with_its_status(sample: Sample) -> None:
    """A flipped byte of entry 3: status 6, and seq 3 in the last line."""
    keys = sample.loaded.path(sample.loaded.settings.signer.keys)
    words = ("verify", "--store", "--key", keys / "ledger.pub.pem")
    assert "VERIFIED" in sample.project.done(*words).stdout
    raw = sample.project.sql("SELECT raw FROM entry WHERE seq = 3")[0][0]
    sample.alter("UPDATE entry SET raw = ? WHERE seq = 3", (flipped(raw, 100, 2),))
    done = sample.project.done(*words, status=6)
    assert "NOT VERIFIED" in done.stdout
    assert done.stdout.rstrip().endswith("first bad entry: seq 3")


@pytest.mark.slow
def test_of_a_seal_with_two_signatures_one_may_be_made_unknown_and_no_more(
    sample: Sample,
) -> None:
    """Under a name or an id that nobody knows a signature says nothing; the other one still does.

    Such seals are made by `rotate-key`. A flip anywhere else in them is found.
    """
    sample.project.done("ledger", "rotate-key")
    seals = sample.project.sql("SELECT size, note FROM seal ORDER BY size")
    size, note = next((size, note) for size, note in seals if note.count("\u2014 ") == 2)
    data = note.encode()
    lines = data.index("\u2014 ".encode())
    assert sample.verify().held
    unnoticed = []
    with sample.altering() as other:
        statement = "UPDATE seal SET note = CAST(? AS TEXT) WHERE size = ?"
        for place, bit in Pick(3).of(len(data)):
            other.execute(statement, (flipped(data, place, bit), size))
            verdict = sample.verify()
            assert not verdict.raised
            if verdict.held:
                unnoticed.append(place)
        other.execute(statement, (data, size))
    ends = [data.index(b"\n", lines), len(data) - 1]
    # Base64 of an id of 4 bytes and a signature of 64: the id ends within the sixth sign.
    ids = {place for end in ends for place in range(end - 92, end - 86)}
    assert unnoticed
    assert set(unnoticed) <= ids | _named(data, lines)
    assert sample.verify().held


def _named(data: bytes, lines: int) -> set[int]:
    """Return the places of the names in the signature lines of a note."""
    name = data.partition(b"\n")[0]
    starts = [at for at in range(lines, len(data)) if data.startswith(name, at)]
    return {place for start in starts for place in range(start, start + len(name))}
