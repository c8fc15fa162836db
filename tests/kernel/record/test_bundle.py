"""Bundles: written, checked by us, and forged in every way that a folder can be."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from runwright.kernel.canonical import encode
from runwright.kernel.errors import Usage
from runwright.kernel.record import bundle, entries, ledger
from runwright.kernel.record.ledger import Head, StoredEntry
from runwright.kernel.record.verify import Report, verify
from tests.kernel.record.forge import (
    ORIGIN,
    TS_MS,
    Book,
    broken,
    opened,
    private,
    public,
)

EVIDENCE = ec.derive_private_key(0x1234567, ec.SECP256R1())
OTHER = ec.derive_private_key(0x7654321, ec.SECP256R1())
SEQS = range(8, 14)


def pem(key: ec.EllipticCurvePrivateKey | object) -> str:
    made: bytes = key.public_key().public_bytes(  # type: ignore[attr-defined]
        Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
    )
    return made.decode()


KEYS = [pem(EVIDENCE), pem(private(1))]


def honest() -> Book:
    """Return a ledger of three rounds; the second has the entries 8 to 13."""
    book = opened()
    book.round("baseline", "noise")
    book.write(entries.ClockStepped(step_ms=2500))
    assert book.round("baseline", "noise", planned_ms=TS_MS + 1) == SEQS.start
    book.round("baseline", planned_ms=TS_MS + 2)
    return book


def written(
    book: Book,
    chosen: Callable[[list[StoredEntry]], list[StoredEntry]] | None = None,
    *,
    key: ec.EllipticCurvePrivateKey = EVIDENCE,
) -> dict[str, bytes]:
    """Write the bundle of the second round, or of the entries chosen."""
    stored = book.stored()
    leaves = [entry.leaf for entry in stored]
    round_id = book.drafts[SEQS.start].round

    def tiles(level: int, start: int, stop: int) -> list[bytes]:
        return leaves[start:stop] if level == 0 else []

    found = bundle.entries_of(stored, {round_id}, book.contents.get)
    return bundle.write_bundle(
        chosen(stored) if chosen else found,
        seal=book.rows(stored)[-1],
        tiles=tiles,
        blob=book.contents.get,
        key=key,
    )


def resigned(
    files: dict[str, bytes], key: ec.EllipticCurvePrivateKey = EVIDENCE
) -> dict[str, bytes]:
    """Make manifest and signature anew over files that a forger changed."""
    plain = {
        name: data
        for name, data in files.items()
        if name not in (*bundle.SIGNED_PARTS, "MANIFEST.json")
    }
    plain["MANIFEST.json"] = encode(bundle._manifest(plain))
    statement = msgspec.json.decode(files["statement.json"])
    statement["subject"] = [
        {"name": name, "digest": {"sha256": hashlib.sha256(data).hexdigest()}}
        for name, data in sorted(plain.items())
    ]
    return {**plain, **bundle._signed(encode(statement), key)}


def test_the_bundle_of_a_round_holds() -> None:
    files = written(honest())
    report = bundle.verify_bundle(files, KEYS)
    assert broken(report) == set()
    assert [check.word for check in report.checks][:4] == ["shape", "manifest", "files", "stated"]
    assert {"inclusion", "complete"} <= {check.word for check in report.checks}
    assert {"seq", "root", "opened"} & {check.word for check in report.checks} == set()
    assert (report.entries, report.judged, report.sealed) == (6, 1, 18)
    assert files["entries.jsonl"].count(b"\n") == 6
    assert len([name for name in files if name.startswith("proofs/")]) == 6
    assert bundle.verify_bundle(files, [pem(EVIDENCE), public(1).text()]).held


def test_the_bundle_of_a_whole_ledger_holds_without_paths() -> None:
    files = written(honest(), lambda stored: stored)
    report = bundle.verify_bundle(files, KEYS)
    assert broken(report) == set()
    assert {"seq", "root", "opened"} <= {check.word for check in report.checks}
    assert not any(name.startswith("proofs/") for name in files)


def test_a_round_comes_with_corrections_and_erasures() -> None:
    book = honest()
    named = book.drafts[SEQS.start + 2].blobs[0].digest
    book.write(entries.BlobErased(digest=named, reason="asked"))
    book.write(entries.ClockStepped(step_ms=1), sup=SEQS.start + 2)
    del book.contents[named]
    files = written(book)
    report = bundle.verify_bundle(files, KEYS)
    assert broken(report) == set()
    assert report.entries == 8


def test_what_is_not_sealed_is_not_bundled() -> None:
    book = honest()
    book.seals = [(5, (1,))]
    with pytest.raises(Usage, match="entry 13 is not sealed yet"):
        written(book)
    with pytest.raises(Usage, match="there are no entries"):
        written(honest(), lambda _stored: [])


def test_the_manifest_is_a_statement_in_an_envelope() -> None:
    files = written(honest())
    envelope = msgspec.json.decode(files["manifest.dsse.json"])
    assert envelope["payloadType"] == "application/vnd.in-toto+json"
    assert envelope["signatures"][0]["keyid"] == bundle.bundle_key_id(EVIDENCE.public_key())
    statement = msgspec.json.decode(files["statement.json"])
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == "urn:runwright:bundle:v1"
    assert statement["predicate"]["origin"] == ORIGIN
    assert statement["predicate"]["last_seq"] == 13
    assert files["manifest.pae"].startswith(b"DSSEv1 28 application/vnd.in-toto+json ")
    assert {f"schemas/{name}.json" for name in entries.BODIES} <= files.keys()


# ---------------------------------------------------------------------------------------- forged


def test_keys_in_the_bundle_are_not_taken() -> None:
    """Signed again with a key of its own, which lies in it, a bundle fails."""
    files = written(honest(), key=OTHER)
    files = resigned({**files, "evidence.pub.pem": pem(OTHER).encode()}, OTHER)
    assert broken(bundle.verify_bundle(files, KEYS)) == {"manifest"}
    # The control: with that key it holds.
    assert bundle.verify_bundle(files, [pem(OTHER), KEYS[1]]).held


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ([], {"manifest", "signature"}),
        ([KEYS[0]], {"signature"}),
        ([KEYS[1]], {"manifest"}),
        ([pem(OTHER), pem(private(2))], {"manifest", "signature"}),
    ],
)
def test_without_the_right_keys_it_does_not_hold(keys: list[str], words: set[str]) -> None:
    assert broken(bundle.verify_bundle(written(honest()), keys)) == words


def test_every_file_altered_missing_or_added_is_named() -> None:
    files = written(honest())
    for name in files:
        changed = {**files, name: files[name] + b" "}
        assert not bundle.verify_bundle(changed, KEYS).held, name
        without = {other: data for other, data in files.items() if other != name}
        assert not bundle.verify_bundle(without, KEYS).held, name
    added = bundle.verify_bundle({**files, "notes.txt": b"x"}, KEYS)
    assert broken(added) == {"files"}
    assert any("notes.txt is not in the manifest" in check.detail for check in added.checks)


@pytest.mark.parametrize(
    "name",
    ["../x", "/etc/x", "a//b", "a/./b", "a/../b", ".hidden", "a\\b", "a b", "", "a\n", "a/b/c/d"],
)
def test_a_name_that_leads_out_of_the_folder_is_refused(name: str) -> None:
    files = {**written(honest()), name: b"x"}
    report = bundle.verify_bundle(files, KEYS)
    assert broken(report) == {"shape"}
    assert "cannot be the name of a file" in report.checks[0].detail


def test_a_key_twice_in_the_manifest_is_refused() -> None:
    files = written(honest())
    payload = files["statement.json"].replace(b'"_type":', b'"_type":"x","_type":', 1)
    forged = {**files, **bundle._signed(payload, EVIDENCE)}
    report = bundle.verify_bundle(forged, KEYS)
    assert "shape" in broken(report)
    assert any("not in canonical form" in check.detail for check in report.checks)


def test_a_statement_about_something_else_is_refused() -> None:
    files = written(honest())
    statement = msgspec.json.decode(files["statement.json"])
    statement["predicate"]["last_seq"] = 99
    forged = {**files, **bundle._signed(encode(statement), EVIDENCE)}
    assert broken(bundle.verify_bundle(forged, KEYS)) == {"stated"}
    statement["predicateType"] = "https://example.org/other"
    forged = {**files, **bundle._signed(encode(statement), EVIDENCE)}
    assert "shape" in broken(bundle.verify_bundle(forged, KEYS))


def test_a_signature_over_another_type_of_payload_is_refused() -> None:
    files = written(honest())
    envelope = msgspec.json.decode(files["manifest.dsse.json"])
    envelope["payloadType"] = "text/plain"
    files["manifest.dsse.json"] = encode(envelope)
    assert broken(bundle.verify_bundle(files, KEYS)) == {"manifest"}


def test_an_entry_that_is_not_in_the_tree_breaks_inclusion_only() -> None:
    """The forger holds the bundle's key, not the one of the seals."""
    book = honest()
    files = written(book)
    book.change(SEQS.stop - 1, body={"label": "GO"})
    forged_raw = book.stored()[SEQS.stop - 1].raw
    lines = files["entries.jsonl"].splitlines(keepends=True)
    files["entries.jsonl"] = b"".join([*lines[:-1], forged_raw + b"\n"])
    report = bundle.verify_bundle(resigned(files), KEYS)
    assert broken(report) == {"inclusion"}
    assert report.first_bad == SEQS.stop - 1


def swapped(files: dict[str, bytes]) -> None:
    first, second = "proofs/8.tlog-proof", "proofs/9.tlog-proof"
    files[first], files[second] = files[second], files[first]


def emptied(files: dict[str, bytes]) -> None:
    del files["proofs/8.tlog-proof"]


def unreadable(files: dict[str, bytes]) -> None:
    files["proofs/8.tlog-proof"] = b"\xff"


@pytest.mark.parametrize("change", [swapped, emptied, unreadable])
def test_a_wrong_proof_breaks_inclusion_only(change: Callable[[dict[str, bytes]], None]) -> None:
    files = written(honest())
    change(files)
    report = bundle.verify_bundle(resigned(files), KEYS)
    assert broken(report) == {"inclusion"}
    assert report.first_bad == 8


def test_a_round_without_its_verdict_breaks_complete_only() -> None:
    files = written(honest(), lambda stored: stored[SEQS.start : SEQS.stop - 1])
    report = bundle.verify_bundle(files, KEYS)
    assert broken(report) == {"complete"}
    assert report.first_bad == SEQS.start


def test_a_run_left_out_of_a_bundle_is_noticed() -> None:
    files = written(honest(), lambda s: [*s[SEQS.start : SEQS.start + 3], *s[SEQS.stop - 1 :][:1]])
    assert {"judged", "outcomes"} <= broken(bundle.verify_bundle(files, KEYS))


def test_a_blob_left_out_or_altered_is_noticed() -> None:
    files = written(honest())
    name = next(name for name in files if name.endswith(".salt")).removesuffix(".salt")
    altered = {**files, name: b"something else"}
    assert broken(bundle.verify_bundle(resigned(altered), KEYS)) == {"matching"}
    del files[name]
    assert broken(bundle.verify_bundle(resigned(files), KEYS)) == {"kept"}


def test_every_flipped_byte_of_the_entries_is_noticed() -> None:
    files = written(honest())
    raw = files["entries.jsonl"]
    for place in range(0, len(raw), 37):
        flipped = bytearray(raw)
        flipped[place] ^= 1
        report = bundle.verify_bundle(resigned({**files, "entries.jsonl": bytes(flipped)}), KEYS)
        assert not report.held, place


# ------------------------------------------------------------------------------------------ keys


def test_only_public_keys_of_two_kinds_are_read() -> None:
    keys = bundle.public_keys([*KEYS, public(2).text()], ORIGIN)
    assert keys.seal == (public(1), public(2))
    assert len(keys.bundle) == 1
    p384 = ec.derive_private_key(7, ec.SECP384R1())
    with pytest.raises(Usage, match="a public key of another kind"):
        bundle.public_keys([pem(p384)], ORIGIN)
    with pytest.raises(Usage, match="not a public key in PEM"):
        bundle.public_keys(["-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----"], ORIGIN)
    with pytest.raises(Usage, match="not a verifier key"):
        bundle.public_keys(["hello"], ORIGIN)


def test_the_proofs_of_a_bundle_are_those_of_the_tree() -> None:
    """Another implementation of the same definition agrees about the root."""
    book = honest()
    leaves = [entry.leaf for entry in book.stored()]
    assert ledger.extend(Head(), leaves).root() == ledger.root_of(leaves)
    report: Report = verify(book.evidence())
    assert report.root == ledger.root_of(leaves).hex()
