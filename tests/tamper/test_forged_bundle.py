"""A bundle put together anew: by whom it is signed, what it leaves out, which checkpoint it has.

The forger may hold a key of their own, or even the evidence key; never the key of the seals.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

from runwright.adapters.signer import EVIDENCE_KEY, load_evidence_key, public_pem
from runwright.bootstrap.project import open_store
from runwright.kernel.canonical import encode
from runwright.kernel.record import bundle, ledger, seal
from runwright.kernel.record.ledger import StoredEntry
from runwright.kernel.record.seal import Proof
from runwright.kernel.record.verify import Report
from tests.kernel.record.forge import private
from tests.kernel.record.test_bundle import resigned
from tests.tamper.sample import Sample, asked

pytestmark = pytest.mark.slow

OTHER = ec.derive_private_key(0x7654321, ec.SECP256R1())
Files = dict[str, bytes]


def evidence_key(made: Sample) -> EllipticCurvePrivateKey:
    """Return the project's own key of bundles: of a forger who got hold of it."""
    return load_evidence_key(made.loaded.path(made.loaded.settings.signer.keys) / EVIDENCE_KEY)


def stated(files: Files, key: EllipticCurvePrivateKey, **predicate: object) -> Files:
    """Sign a bundle again whose statement says something else."""
    statement = msgspec.json.decode(files["statement.json"])
    statement["predicate"].update(predicate)
    return resigned({**files, "statement.json": encode(statement)}, key)


def words(made: Sample, files: Files) -> set[str]:
    """Return the sentences that break; no verification of a bundle may end with an error."""
    verdict = made.verify_files(files)
    assert not verdict.raised
    assert verdict.held is not bool(verdict.words)
    return set(verdict.words)


def seqs(files: Files) -> list[int]:
    """Return the entries of a bundle."""
    return [msgspec.json.decode(line)["seq"] for line in files["entries.jsonl"].splitlines()]


# ------------------------------------------------------------------------------------------ keys


@pytest.mark.proves("a bundle is checked with the caller's keys only")
def test_a_bundle_signed_again_with_a_key_that_lies_in_it_fails(made: Sample) -> None:
    """Every signature is by a new key whose public half lies in the bundle."""
    files = made.bundle("all")
    entries = [
        StoredEntry(seq, line, ledger.leaf_hash(line))
        for seq, line in enumerate(files["entries.jsonl"].splitlines())
    ]
    root = ledger.root_of([entry.leaf for entry in entries])
    origin = made.project.entries()[0]["origin"]
    text = seal.Checkpoint(origin, len(entries), root).text()
    files["checkpoint"] = seal.sign_note(text, [(origin, private(9))]).encode()
    files["ledger.pub.pem"] = public_pem(private(9))
    files["evidence.pub.pem"] = public_pem(OTHER)
    forged = resigned(files, OTHER)
    assert words(made, forged) == {"manifest", "signature"}
    # The control: for somebody who takes the keys out of the bundle, all of it holds.
    taken = [forged[name].decode() for name in ("evidence.pub.pem", "ledger.pub.pem")]
    assert asked(lambda: bundle.verify_bundle(forged, taken)).held


def test_a_signature_under_another_keys_name_says_nothing(made: Sample) -> None:
    """A genuine signature that names another key, and another key's that names the trusted one."""
    files = made.bundle("part")
    envelope = msgspec.json.decode(files["manifest.dsse.json"])
    envelope["signatures"][0]["keyid"] = "ab" * 32
    assert words(made, {**files, "manifest.dsse.json": encode(envelope)}) == {"manifest"}
    own = msgspec.json.decode(files["manifest.dsse.json"])["signatures"][0]["keyid"]
    forged = resigned(files, OTHER)
    envelope = msgspec.json.decode(forged["manifest.dsse.json"])
    envelope["signatures"][0]["keyid"] = own
    assert words(made, {**forged, "manifest.dsse.json": encode(envelope)}) == {"manifest"}


# -------------------------------------------------------------------------------------- envelope


def payload(files: Files) -> None:
    envelope = msgspec.json.decode(files["manifest.dsse.json"])
    envelope["payload"] = envelope["payload"][:-4]
    files["manifest.dsse.json"] = encode(envelope)


def other_signature(files: Files) -> None:
    signed = resigned({**files, "VERIFY.md": b"another bundle\n"}, OTHER)
    files["manifest.sig"] = signed["manifest.sig"]
    envelope = msgspec.json.decode(files["manifest.dsse.json"])
    other = msgspec.json.decode(signed["manifest.dsse.json"])
    envelope["signatures"] = other["signatures"]
    files["manifest.dsse.json"] = encode(envelope)


def key_of_another_kind(files: Files) -> None:
    envelope = msgspec.json.decode(files["manifest.dsse.json"])
    envelope["signatures"][0]["keyid"] = ["a", "list"]
    files["manifest.dsse.json"] = encode(envelope)


def more_in_it(files: Files) -> None:
    envelope = msgspec.json.decode(files["manifest.dsse.json"])
    files["manifest.dsse.json"] = encode({**envelope, "note": "trust me"})


def wrapped(files: Files) -> None:
    envelope = msgspec.json.decode(files["manifest.dsse.json"])
    envelope["payload"] = envelope["payload"][:8] + "\n" + envelope["payload"][8:]
    files["manifest.dsse.json"] = encode(envelope)


def number_for_a_name(files: Files) -> None:
    statement = msgspec.json.decode(files["statement.json"])
    statement["subject"][0]["name"] = 5
    files.update(bundle._signed(encode(statement), OTHER))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (payload, "shape"),
        (other_signature, "manifest"),
        (key_of_another_kind, "shape"),
        (more_in_it, "shape"),
        (wrapped, "shape"),
        (number_for_a_name, "shape"),
    ],
)
def test_an_envelope_that_is_not_the_one_that_was_signed_is_refused(
    made: Sample, change: Callable[[Files], None], word: str
) -> None:
    """It is a broken sentence each time, and never an error."""
    files = made.bundle("part")
    change(files)
    assert word in words(made, files)


def test_a_signature_of_another_bundle_of_the_same_key_is_refused(made: Sample) -> None:
    """All four signed parts of the whole ledger's bundle, put into the bundle of a cycle."""
    files, other = made.bundle("part"), made.bundle("all")
    for name in bundle.SIGNED_PARTS:
        files[name] = other[name]
    assert {"files", "stated"} <= words(made, files)
    files = {**made.bundle("part"), "manifest.sig": other["manifest.sig"]}
    assert words(made, files) == {"files"}


# -------------------------------------------------------------------------------------- manifest


def test_a_manifest_that_omits_adds_or_misstates_a_file_is_refused(made: Sample) -> None:
    """Signed with the evidence key, so that only what it says is wrong."""
    files, key = made.bundle("part"), evidence_key(made)
    digest = hashlib.sha256(b"x").hexdigest()
    for place in range(len(msgspec.json.decode(files["statement.json"])["subject"])):
        for change in ("omit", "misstate", "add", "twice"):
            statement = msgspec.json.decode(files["statement.json"])
            subject = statement["subject"]
            if change == "omit":
                del subject[place]
            elif change == "misstate":
                subject[place]["digest"]["sha256"] = digest
            elif change == "add":
                subject.append({"name": f"more{place}", "digest": {"sha256": digest}})
            else:
                subject.append(subject[place])
            forged = {**files, **bundle._signed(encode(statement), key)}
            expected = {"shape"} if change == "twice" else {"files"}
            assert words(made, forged) == expected, (change, place)


def test_a_file_taken_out_added_or_renamed_is_named(made: Sample) -> None:
    """Each file of the bundle, and a new one beside each."""
    files = made.bundle("part")
    for name in files:
        rest = {other: data for other, data in files.items() if other != name}
        assert words(made, rest) & {"files", "shape"}, name
        assert words(made, {**rest, f"{name}2": files[name]}) & {"files", "shape"}, name
        assert words(made, {**files, f"{name}2": files[name]}) == {"files"}, name


# ------------------------------------------------------------------------- proofs and checkpoints


def proof_of(made: Sample, seq: int, size: int, note: str) -> bytes:
    """Return a genuine proof of an entry in the tree of the first `size`."""
    store = open_store(made.loaded, read_only=True)
    try:
        hashes = tuple(ledger.inclusion_proof(store.tiles, seq, size))
    finally:
        store.close()
    return seal.proof_text(Proof(seq, hashes, note)).encode()


def test_a_proof_of_another_index_or_size_is_refused_at_its_entry(made: Sample) -> None:
    """Under a manifest signed again, so that the proof alone has to fail."""
    files, key = made.bundle("part"), evidence_key(made)
    own, note = seqs(files), files["checkpoint"].decode()
    size = seal.parse_checkpoint(seal.parse_note(note).text).size
    for seq in own:
        name = f"proofs/{seq}.tlog-proof"
        genuine = seal.parse_proof(files[name].decode())
        forgeries = {
            "index": files[f"proofs/{own[own.index(seq) - 1]}.tlog-proof"],
            "index alone": seal.proof_text(Proof(seq + 1, genuine.hashes, note)).encode(),
            "size": proof_of(made, seq, size - 1, note),
            "shorter": seal.proof_text(Proof(seq, genuine.hashes[:-1], note)).encode(),
            "longer": seal.proof_text(Proof(seq, (*genuine.hashes, bytes(32)), note)).encode(),
        }
        for forgery, data in forgeries.items():
            # The same path may lead to the root of a tree that is one entry smaller.
            if data != files[name]:
                verdict = made.verify_files(resigned({**files, name: data}, key))
                assert (verdict.words, verdict.first_bad) == ({"inclusion"}, seq), forgery
        assert made.verify_files(resigned(files, key)).held


def notes(made: Sample) -> dict[int, str]:
    """Return the genuine seals by size."""
    return dict(made.project.sql("SELECT size, note FROM seal"))


def test_a_checkpoint_of_an_earlier_size_is_refused(made: Sample) -> None:
    """A genuine seal, but not the one that this bundle's proofs and statement are about."""
    files, key = made.bundle("part"), evidence_key(made)
    for size, note in notes(made).items():
        forged = {**files, "checkpoint": note.encode()}
        if forged == files:
            continue
        assert {"files", "inclusion", "stated"} <= words(made, forged)
        assert words(made, resigned(forged, key)) == {"inclusion", "stated"}
        root = seal.parse_checkpoint(seal.parse_note(note).text).root.hex()
        assert words(made, stated(forged, key, size=size, root=root)) == {"inclusion"}


def test_a_checkpoint_of_a_later_size_is_refused(made: Sample) -> None:
    """The entries of a whole ledger do not reach a later seal, and carry no proofs of it."""
    files, key = made.bundle("all"), evidence_key(made)
    size, note = max(notes(made).items())
    assert size > len(seqs(files))
    forged = {**files, "checkpoint": note.encode()}
    root = seal.parse_checkpoint(seal.parse_note(note).text).root.hex()
    assert words(made, stated(forged, key, size=size, root=root)) == {"inclusion"}


@pytest.mark.parametrize("origin", ["with space", "with+plus", "example.org/other"])
def test_a_checkpoint_of_another_ledger_is_a_broken_sentence(made: Sample, origin: str) -> None:
    """Also one whose name cannot be that of a key: it is not the caller who is wrong."""
    files, key = made.bundle("all"), evidence_key(made)
    own = made.project.entries()[0]["origin"]
    forged = {**files, "checkpoint": files["checkpoint"].replace(own.encode(), origin.encode(), 1)}
    assert words(made, resigned(forged, key)) & {"shape", "signature"}


def test_an_entry_too_deep_to_read_is_a_broken_sentence(made: Sample) -> None:
    """Brackets without an end, in the place of an entry."""
    files, key = made.bundle("all"), evidence_key(made)
    lines = files["entries.jsonl"].splitlines()
    lines[3] = b"[" * 100_000
    forged = resigned({**files, "entries.jsonl": b"\n".join(lines) + b"\n"}, key)
    report: Report = bundle.verify_bundle(forged, made.keys)
    assert not report.held
    assert report.first_bad == 3
