"""A bundle: entries, proofs, blobs and a signed manifest, for somebody who has nothing else.

    entries.jsonl            the stored bytes, one entry a line     checkpoint      the signed head
    proofs/<seq>.tlog-proof  that an entry is in its tree           schemas/        of all entries
    log/<digest>.head .body  blocks of input logs that runs read    papers/<seq>-<n>  what left
    blobs/<digest>[.salt]    what the entries name                  VERIFY.md       checks by hand
    signatures.json          what agents signed of the entries, when they did
    MANIFEST.json            digest and size of every file
    manifest.dsse.json       DSSE over an in-toto Statement v1 over all of them, ECDSA P-256
    statement.json manifest.pae manifest.sig    the same in parts, for openssl

It is checked with the caller's keys only, never with one that lies in it. A bundle of rounds proves
each entry by its own path, and that nothing of the rounds is missing by their rosters and counts; a
bundle of a whole ledger needs no paths: its root is computed again.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from runwright.kernel.canonical import digest, encode
from runwright.kernel.errors import NotCanonical, Usage, VerificationFailed
from runwright.kernel.record.entries import (
    BODIES,
    BlobErased,
    DecisionMade,
    Entry,
    Header,
    RoundPlanned,
    RunFinished,
    StateReconciled,
    SuspensionRequested,
    decode,
    tail_for,
)
from runwright.kernel.record.ledger import SealRow, StoredBlock, StoredEntry, Tiles, inclusion_proof
from runwright.kernel.record.log import restored
from runwright.kernel.record.logged import Facts
from runwright.kernel.record.papers import StoredPaper
from runwright.kernel.record.seal import (
    Checkpoint,
    Proof,
    VerifyKey,
    is_name,
    make_key,
    parse_checkpoint,
    parse_key,
    parse_note,
    parse_proof,
    proof_text,
)
from runwright.kernel.record.signed import AgentSignature
from runwright.kernel.record.verify import Check, Evidence, Level, Report, verify
from runwright.kernel.run import Content, RunPlan, run_ids

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import (
        EllipticCurvePrivateKey,
        EllipticCurvePublicKey,
    )

#: What the signature of a manifest is over (DSSE, in-toto).
PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE: Final = "urn:runwright:bundle:v1"

#: The most that a bundle may hold.
FILES_MAX: Final = 200_000
BYTES_MAX: Final = 2 * 1024**3
#: Files that are made of the statement, so it cannot hold their digests.
PAPERS: Final = "papers/"
_PAPER: Final = re.compile(r"papers/([0-9]{1,18})-([0-9]{1,9})")
NO_PAPERS: Final[Mapping[tuple[int, int], bytes]] = {}
SIGNATURES: Final = "signatures.json"
SIGNED_PARTS: Final = ("manifest.dsse.json", "manifest.pae", "manifest.sig", "statement.json")

#: Word -> its level and sentence, as in `verify.SENTENCES`.
SENTENCES: Final[Mapping[str, tuple[Level, str]]] = {
    "shape": ("bundle", "Every file has a plain name, a readable form and a bounded size."),
    "manifest": ("bundle", "The manifest is signed by a trusted key."),
    "files": ("bundle", "Every file is the one in the manifest, and there is no other."),
    "stated": ("bundle", "What the signed statement says of the bundle is what is in it."),
}

#: Bodies that name the round that they are about and belong to none.
_ABOUT: Final = (StateReconciled, SuspensionRequested)
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*){0,2}")
_HEADER: Final = msgspec.json.Decoder(Header)


class PublicKeys(msgspec.Struct, frozen=True):
    """What a caller trusts."""

    seal: tuple[VerifyKey, ...]
    #: P-256 public keys of the manifest.
    bundle: tuple[EllipticCurvePublicKey, ...] = ()


# --------------------------------------------------------------------------------------- writing


def entries_of(
    entries: Iterable[StoredEntry],
    ids: Collection[str],
    blob: Callable[[str], Content | None],
) -> list[StoredEntry]:
    """Return the entries of rounds and refused ticks by their ids, in order.

    With them come the entries of their runs, their reconciliation, corrections of any of them, and
    the erasures of blobs that they name.
    """
    found: list[StoredEntry] = []
    runs: set[str] = set()
    seqs: set[int] = set()
    named: set[str] = set()
    for stored in entries:
        entry = decode(stored.raw)
        is_erasure = isinstance(entry.body, BlobErased) and entry.body.digest in named
        is_ours = entry.round in ids or entry.tick in ids or entry.run in runs
        is_about = isinstance(entry.body, _ABOUT) and entry.body.round in ids
        if not (is_ours or is_about or is_erasure or entry.sup in seqs):
            continue
        found.append(stored)
        seqs.add(entry.seq)
        named |= {item.digest for item in entry.blobs}
        if isinstance(entry.body, RoundPlanned):
            runs |= {*run_ids(round=entry.round, keys=_roster(entry.body, blob)).values()}
    return found


class Reading(NamedTuple):
    """What runs read of a log: from which record on, up to where it ended for their round."""

    log: str
    first: int
    end: int


_FACTS: Final = msgspec.json.Decoder(Facts)


def readings_of(
    entries: Iterable[StoredEntry], blob: Callable[[str], Content | None]
) -> list[Reading]:
    """Return what the runs of planned rounds read of logs, as far as they read anything."""
    found = []
    for stored in entries:
        entry = decode(stored.raw)
        if not isinstance(entry.body, RoundPlanned):
            continue
        cuts = [run.cut for run in _runs(entry.body, blob) if run.cut]
        firsts = [cut.first for cut in cuts if cut.first <= cut.last]
        facts = next((blob(one.digest) for one in entry.blobs if one.name == "facts"), None)
        pin = _FACTS.decode(facts.data).log if facts else None
        if firsts and pin:
            found.append(Reading(entry.body.name, min(firsts), pin.end))
    return found


#: How the bytes of entries end that say who may decide.
_PEOPLE: Final = tuple(map(tail_for, ("person.added", "person.revoked")))
_DECIDED: Final = tail_for("decision.made")
_KEYED: Final = tail_for("agent.key")


def with_companions(
    ledger: Iterable[StoredEntry],
    entries: Sequence[StoredEntry],
    decided: Mapping[int, range],
    agents: Collection[str],
) -> list[StoredEntry]:
    """Return entries with what shows who decided about them and which agents signed them.

    That is: the decisions at some seqs with the entries that each of them saw, all changes of the
    people with the approvals of them, and the keys of agents.
    """
    found = {stored.seq: stored for stored in entries}
    named = {seq for span in decided.values() for seq in span} | decided.keys()
    for stored in ledger:
        keep = stored.seq in named
        if stored.raw.endswith(_PEOPLE):
            keep = keep or bool(decided)
        elif stored.raw.endswith(_DECIDED):
            subject = decode(stored.raw).body.document.subject
            keep = keep or (bool(decided) and subject.startswith("person/"))
        elif stored.raw.endswith(_KEYED):
            keep = keep or decode(stored.raw).body.agent in agents
        if keep:
            found[stored.seq] = stored
    return [found[seq] for seq in sorted(found)]


def _roster(planned: RoundPlanned, blob: Callable[[str], Content | None]) -> list[str]:
    return [run.key for run in _runs(planned, blob)]


def _runs(planned: RoundPlanned, blob: Callable[[str], Content | None]) -> list[RunPlan]:
    content = blob(planned.roster)
    if content is None:
        return []
    return msgspec.json.decode(content.data, type=list[RunPlan])


def write_bundle(  # noqa: PLR0913 - what a bundle is made of
    entries: Sequence[StoredEntry],
    *,
    seal: SealRow,
    tiles: Tiles,
    blob: Callable[[str], Content | None],
    key: EllipticCurvePrivateKey,
    signatures: Sequence[AgentSignature] = (),
    blocks: Iterable[StoredBlock] = (),
    papers: Mapping[tuple[int, int], bytes] = NO_PAPERS,
) -> dict[str, bytes]:
    """Return the files of a bundle by their names.

    Raises: usage when there are no entries, or when one of them is not sealed yet.
    """
    if not entries or entries[-1].seq >= seal.size:
        msg = f"entry {entries[-1].seq} is not sealed yet" if entries else "there are no entries"
        raise Usage(msg)
    decoded = [decode(entry.raw) for entry in entries]
    files = {
        "entries.jsonl": b"".join(entry.raw + b"\n" for entry in entries),
        "checkpoint": seal.note.encode(),
        **_blob_files(decoded, blob),
        **_schema_files(),
    }
    if signatures:
        files[SIGNATURES] = encode([msgspec.structs.asdict(one) for one in signatures])
    for block in blocks:
        name = f"log/{digest(block.head)}"
        files |= {f"{name}.head": block.head, f"{name}.body": block.body}
    files |= {f"{PAPERS}{seq}-{place}": body for (seq, place), body in papers.items()}
    if len(entries) != seal.size:
        for entry in entries:
            path = tuple(inclusion_proof(tiles, entry.seq, seal.size))
            text = proof_text(Proof(entry.seq, path, seal.note))
            files[f"proofs/{entry.seq}.tlog-proof"] = text.encode()
    checkpoint = parse_checkpoint(parse_note(seal.note).text)
    is_whole = len(entries) == seal.size
    files["VERIFY.md"] = _verify_text(checkpoint, decoded, files, is_whole=is_whole).encode()
    files["MANIFEST.json"] = encode(_manifest(files))
    statement = encode(
        {
            "_type": STATEMENT_TYPE,
            "subject": [
                {"name": name, "digest": {"sha256": digest(data)}}
                for name, data in sorted(files.items())
            ],
            "predicateType": PREDICATE_TYPE,
            "predicate": _predicate(checkpoint, decoded),
        }
    )
    return {**files, **_signed(statement, key)}


def _manifest(files: Mapping[str, bytes]) -> dict[str, Any]:
    return {
        "files": {
            name: {"sha256": digest(data), "size": len(data)}
            for name, data in sorted(files.items())
        }
    }


def _predicate(checkpoint: Checkpoint, entries: Sequence[Entry]) -> dict[str, Any]:
    return {
        "origin": checkpoint.origin,
        "size": checkpoint.size,
        "root": checkpoint.root.hex(),
        "entries": len(entries),
        "first_seq": entries[0].seq if entries else -1,
        "last_seq": entries[-1].seq if entries else -1,
        "rounds": [entry.round for entry in entries if isinstance(entry.body, RoundPlanned)],
    }


def _blob_files(
    entries: Sequence[Entry], blob: Callable[[str], Content | None]
) -> dict[str, bytes]:
    files = {}
    for entry in entries:
        for named in entry.blobs:
            content = blob(named.digest)
            if content is None:
                continue
            files[f"blobs/{named.digest}"] = content.data
            if named.salted:
                files[f"blobs/{named.digest}.salt"] = content.salt
        memory = blob(entry.body.memory) if isinstance(entry.body, RunFinished) else None
        if memory is not None:
            files[f"blobs/{memory.digest}"] = memory.data
    return files


def _schema_files() -> dict[str, bytes]:
    schemas = {"entry": Entry, **BODIES}
    return {
        f"schemas/{name}.json": encode(msgspec.json.schema(kind)) for name, kind in schemas.items()
    }


def pae(payload_type: str, payload: bytes) -> bytes:
    """Return what a DSSE signature is over (pre-authentication encoding)."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def _signed(statement: bytes, key: EllipticCurvePrivateKey) -> dict[str, bytes]:
    from cryptography.hazmat.primitives.asymmetric import ec  # lazy: signing only, 15 ms
    from cryptography.hazmat.primitives.hashes import SHA256  # lazy: signing only, 15 ms

    encoded = pae(PAYLOAD_TYPE, statement)
    signature = key.sign(encoded, ec.ECDSA(SHA256()))
    signed = _Signature(bundle_key_id(key.public_key()), signature)
    return {
        "manifest.dsse.json": encode(_envelope(statement, PAYLOAD_TYPE, [signed])),
        "manifest.pae": encoded,
        "manifest.sig": signature,
        "statement.json": statement,
    }


# ------------------------------------------------------------------------------------------ keys


def bundle_key_id(key: EllipticCurvePublicKey) -> str:
    """Return the SHA-256 of the DER of a public key, hex: `bundle_key` of ledger.opened."""
    from cryptography.hazmat.primitives.serialization import (  # lazy: signing only, 15 ms
        Encoding,
        PublicFormat,
    )

    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()


def public_keys(texts: Iterable[str], origin: str) -> PublicKeys:
    """Read the keys that a caller trusts: C2SP verifier keys, and PEM of Ed25519 or P-256.

    A PEM has no name, so an Ed25519 key in PEM is taken for one of the ledger `origin`.

    Raises: usage for anything else, a private key too.
    """
    seal: list[VerifyKey] = []
    bundle: list[EllipticCurvePublicKey] = []
    for text in texts:
        if "-----BEGIN" not in text:
            seal.append(parse_key(text))
            continue
        found = _public_pem(text)
        if isinstance(found, bytes):
            seal.append(make_key(origin, found))
        else:
            bundle.append(found)
    return PublicKeys(tuple(seal), tuple(bundle))


def _public_pem(text: str) -> bytes | EllipticCurvePublicKey:
    """Return the 32 bytes of an Ed25519 key, or a P-256 key."""
    from cryptography.exceptions import UnsupportedAlgorithm  # lazy: signing only, 15 ms
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519  # lazy: signing only, 15 ms
    from cryptography.hazmat.primitives.serialization import (  # lazy: signing only, 15 ms
        load_pem_public_key,
    )

    try:
        key = load_pem_public_key(text.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        msg = "not a public key in PEM"
        raise Usage(msg) from error
    if isinstance(key, ed25519.Ed25519PublicKey):
        return key.public_bytes_raw()
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name == "secp256r1":
        return key
    msg = "a public key of another kind: Ed25519 and P-256 are used here"
    raise Usage(msg)


# ------------------------------------------------------------------------------------- verifying


class _Statement(NamedTuple):
    """What a signed manifest says, once it was read."""

    subject: Mapping[str, str]
    predicate: Mapping[str, Any]


def verify_bundle(files: Mapping[str, bytes], keys: Sequence[str], *, lint: bool = True) -> Report:
    """Check a bundle with the caller's keys, and then all that `verify` checks.

    Raises: usage for a key that cannot be read.
    """
    found = _Bundle(files)
    try:
        found.check_shape()
        checkpoint = parse_checkpoint(parse_note(found.text("checkpoint")).text)
        if not is_name(checkpoint.origin):
            msg = f"the checkpoint names no ledger: {checkpoint.origin[:80]!r}"
            raise VerificationFailed(msg)
        trusted = public_keys(keys, checkpoint.origin)
        statement = found.check_manifest(trusted.bundle)
        found.check_files(statement)
        report = verify(found.evidence(checkpoint, trusted), lint=lint)
        found.check_stated(statement, checkpoint)
    except VerificationFailed as error:
        found.add("shape", str(error))
        return Report(
            checks=found.checks(),
            origin="",
            entries=0,
            sealed=0,
            root="",
            judged=0,
            open=0,
        )
    return msgspec.structs.replace(report, checks=(*found.checks(), *report.checks))


class _Bundle:
    """The files of a bundle, and what was found wrong with them."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = files
        self._found: dict[str, str] = {}
        self._stated: list[str] = ["shape"]
        self._entries: list[StoredEntry] = []

    def add(self, word: str, detail: str) -> None:
        """State what broke a sentence; the first one counts."""
        self._found.setdefault(word, detail)

    def checks(self) -> tuple[Check, ...]:
        """Return the sentences that were checked."""
        return tuple(
            Check(
                word=word,
                level=level,
                sentence=sentence,
                held=word not in self._found,
                detail=self._found.get(word, ""),
            )
            for word, (level, sentence) in SENTENCES.items()
            if word in self._stated or word in self._found
        )

    def text(self, name: str) -> str:
        """Return a file as text. Raises: verification-failed."""
        try:
            return self._files[name].decode()
        except (KeyError, UnicodeDecodeError) as error:
            msg = f"the file {name} is missing or not text"
            raise VerificationFailed(msg) from error

    def check_shape(self) -> None:
        """Refuse what no bundle holds. Raises: verification-failed."""
        if len(self._files) > FILES_MAX or sum(map(len, self._files.values())) > BYTES_MAX:
            msg = "it is larger than any bundle that is read"
            raise VerificationFailed(msg)
        for name in self._files:
            if not _NAME.fullmatch(name):
                msg = f"{name[:80]!r} cannot be the name of a file in a bundle"
                raise VerificationFailed(msg)
        raw = self._files.get("entries.jsonl", b"")
        if not raw.endswith(b"\n"):
            msg = "entries.jsonl is missing or cut off"
            raise VerificationFailed(msg)
        self._entries = [StoredEntry(_seq_of(line), line, b"") for line in raw[:-1].split(b"\n")]

    def check_manifest(self, keys: Sequence[EllipticCurvePublicKey]) -> _Statement:
        """Check the signature of the manifest. Raises: verification-failed when it is none."""
        self._stated += ["manifest", "files", "stated"]
        envelope = self._canonical("manifest.dsse.json")
        payload, signatures = _opened(envelope)
        signed = pae(PAYLOAD_TYPE, payload)
        named = {bundle_key_id(key): key for key in keys}
        # A signature counts under the key that it names; of an unknown one it says nothing.
        is_signed = any(
            one.key in named and _signs(named[one.key], one.data, signed) for one in signatures
        )
        if not is_signed or envelope["payloadType"] != PAYLOAD_TYPE:
            self.add("manifest", "no signature of the manifest is by a trusted key")
        parts = {
            "manifest.pae": signed,
            "manifest.sig": signatures[0].data if signatures else b"",
            "statement.json": payload,
        }
        for name, data in parts.items():
            if self._files.get(name) != data:
                self.add("files", f"{name} is not the part of the manifest that it says")
        return _statement(payload)

    def check_files(self, statement: _Statement) -> None:
        """Hold every file against the statement and the manifest."""
        plain = {name: data for name, data in self._files.items() if name not in SIGNED_PARTS}
        for name in sorted(plain.keys() | statement.subject.keys()):
            if name not in plain:
                self.add("files", f"{name} is missing")
            elif name not in statement.subject:
                self.add("files", f"{name} is not in the manifest")
            elif digest(plain[name]) != statement.subject[name]:
                self.add("files", f"{name} was altered")
        manifest = plain.pop("MANIFEST.json", b"")
        if manifest != encode(_manifest(plain)):
            self.add("files", "MANIFEST.json does not say what is there")

    def evidence(self, checkpoint: Checkpoint, keys: PublicKeys) -> Evidence:
        """Return the record that the bundle holds."""
        note = self.text("checkpoint")
        is_whole = len(self._entries) == checkpoint.size
        return Evidence(
            entries=self._entries,
            seals=[SealRow(checkpoint.size, checkpoint.root, note)],
            blob=self._blob,
            keys=keys.seal,
            origin=checkpoint.origin,
            proofs=None if is_whole else self._proof,
            signatures=self._signatures(),
            blocks=None if is_whole else self._blocks(),
            papers=self._papers(),
        )

    def check_stated(self, statement: _Statement, checkpoint: Checkpoint) -> None:
        """Hold the predicate against the entries and the checkpoint."""
        decoded = []
        for entry in self._entries:
            try:
                decoded.append(decode(entry.raw))
            except (msgspec.DecodeError, UnicodeDecodeError):
                # Named by a sentence of its own.
                continue
        if dict(statement.predicate) != _predicate(checkpoint, decoded):
            self.add("stated", "the statement is one about other entries")

    def _blob(self, named: str) -> Content | None:
        data = self._files.get(f"blobs/{named}")
        if data is None:
            return None
        return Content(digest=named, data=data, salt=self._files.get(f"blobs/{named}.salt", b""))

    def _blocks(self) -> list[StoredBlock]:
        """Return the blocks of logs, log by log and in order."""
        found = []
        for name, data in self._files.items():
            if name.startswith("log/") and name.endswith(".head"):
                body = self._files.get(name.removesuffix(".head") + ".body", b"")
                found.append(restored(data, body))
        return sorted(found, key=lambda block: (block.log, block.number))

    def _papers(self) -> list[StoredPaper] | None:
        """Return what left because of the verdicts, in order; None where the bundle has none."""
        found = [
            StoredPaper(int(at[1]), int(at[2]), "", "", digest(data))
            for name, data in self._files.items()
            if (at := _PAPER.fullmatch(name))
        ]
        return sorted(found) or None

    def _signatures(self) -> list[AgentSignature]:
        if SIGNATURES not in self._files:
            return []
        try:
            return msgspec.convert(self._canonical(SIGNATURES), list[AgentSignature])
        except msgspec.ValidationError as error:
            msg = f"{SIGNATURES} cannot be read: {error}"
            raise VerificationFailed(msg) from error

    def _proof(self, seq: int) -> Proof | None:
        try:
            return parse_proof(self.text(f"proofs/{seq}.tlog-proof"))
        except VerificationFailed:
            return None

    def _canonical(self, name: str) -> Any:
        """Return a JSON file that has to be canonical, and so has no key twice."""
        return _canonical(name, self._files.get(name, b""))


def _canonical(name: str, data: bytes) -> Any:
    try:
        value = msgspec.json.decode(data)
        is_canonical = encode(value) == data
    except (msgspec.DecodeError, UnicodeDecodeError, NotCanonical, RecursionError) as error:
        msg = f"{name} is missing or not JSON"
        raise VerificationFailed(msg) from error
    if not is_canonical:
        msg = f"{name} is not in canonical form"
        raise VerificationFailed(msg)
    return value


class _Signature(NamedTuple):
    """One signature of an envelope."""

    #: The id of the key, which counts only when it is that of a trusted one.
    key: str
    data: bytes


def _opened(envelope: Any) -> tuple[bytes, list[_Signature]]:
    """Take a DSSE envelope apart; it has to be the only one that holds what is in it.

    Raises: verification-failed.
    """
    try:
        payload = base64.b64decode(envelope["payload"])
        signatures = [
            _Signature(one["keyid"], base64.b64decode(one["sig"])) for one in envelope["signatures"]
        ]
        only = _envelope(payload, envelope["payloadType"], signatures)
    except (KeyError, TypeError, ValueError, binascii.Error) as error:
        msg = "manifest.dsse.json is not a DSSE envelope"
        raise VerificationFailed(msg) from error
    if envelope != only or not all(isinstance(one.key, str) for one in signatures):
        msg = "manifest.dsse.json holds more than an envelope, or base64 that is not the only one"
        raise VerificationFailed(msg)
    return payload, signatures


def _envelope(payload: bytes, kind: str, signatures: Iterable[_Signature]) -> dict[str, Any]:
    return {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": kind,
        "signatures": [
            {"keyid": one.key, "sig": base64.b64encode(one.data).decode()} for one in signatures
        ],
    }


def _statement(payload: bytes) -> _Statement:
    value = _canonical("the statement", payload)
    try:
        is_ours = value["_type"] == STATEMENT_TYPE and value["predicateType"] == PREDICATE_TYPE
        subject = {one["name"]: one["digest"]["sha256"] for one in value["subject"]}
        is_ours = is_ours and len(subject) == len(value["subject"])
        is_ours = is_ours and all(isinstance(name, str) for name in subject)
        predicate = dict(value["predicate"])
    except (KeyError, TypeError, ValueError) as error:
        msg = "the payload is not an in-toto statement about a bundle"
        raise VerificationFailed(msg) from error
    if not is_ours:
        msg = "the statement is not one about a bundle, or names a file twice"
        raise VerificationFailed(msg)
    return _Statement(subject, predicate)


def _signs(key: EllipticCurvePublicKey, signature: bytes, data: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature  # lazy: signing only, 15 ms
    from cryptography.hazmat.primitives.asymmetric import ec  # lazy: signing only, 15 ms
    from cryptography.hazmat.primitives.hashes import SHA256  # lazy: signing only, 15 ms

    try:
        key.verify(signature, data, ec.ECDSA(SHA256()))
    except InvalidSignature:
        return False
    return True


def _seq_of(raw: bytes) -> int:
    try:
        return _HEADER.decode(raw).seq
    except (msgspec.DecodeError, UnicodeDecodeError):
        return 0


# ---------------------------------------------------------------------------------- VERIFY.md

_VERIFY: Final = r"""# Checking this bundle without Runwright

It holds {what} of the ledger `{origin}`, under a
checkpoint over {size} entries. You need `sh`, `awk`, `sed`, `sha256sum` and `openssl` (3.0 or
newer), and two public keys **that you got from somewhere else than this folder**, laid beside it:
`../evidence.pub.pem` and `../ledger.pub.pem`. Every command is run in this folder and ends with
status 0 when it holds.

## 1. The manifest is signed, and the files are those of the manifest

```sh
openssl dgst -sha256 -verify ../evidence.pub.pem -signature manifest.sig manifest.pae
tail -c "$(wc -c < statement.json)" manifest.pae | cmp - statement.json
grep -o '"sha256":"[0-9a-f]*"}},"name":"[^"]*"' statement.json |
  sed 's/"sha256":"\(.*\)"}},"name":"\(.*\)"/\1  \2/' | sha256sum --check --quiet --strict
```

## 2. The checkpoint is signed

```sh
tmp="$(mktemp -d)"
awk 'NF == 0 {{ exit }} {{ print }}' checkpoint > "$tmp/text"
awk '$1 == "—" {{ print $3; exit }}' checkpoint | base64 -d | tail -c 64 > "$tmp/sig"
openssl pkeyutl -verify -pubin -inkey ../ledger.pub.pem -rawin -in "$tmp/text" -sigfile "$tmp/sig"
```

A checkpoint signed by two keys, during a rotation, has two such lines.

## 3. Entries continue each other

The leaf hash of an entry is SHA-256 over a zero byte and its line without the newline. An entry
whose `seq` is one higher holds it as `prev`. For the first line:

```sh
{{ printf '\0'; sed -n 1p entries.jsonl | tr -d '\n'; }} | sha256sum
```

{tree}
## 4. The blobs are those that the entries name

```sh
for blob in blobs/*; do
  case "$blob" in *.salt | 'blobs/*') continue ;; esac
  salt=/dev/null; if [ -e "$blob.salt" ]; then salt="$blob.salt"; fi
  printf '%s %s\n' "${{blob#blobs/}}" "$(cat "$salt" "$blob" | sha256sum)"
done | awk '$1 != $2 {{ print $1 ": FAILED"; bad = 1 }} END {{ exit bad }}'
```

{read}{decided}## {all}. All of it, with what the entries mean together

```sh
pip install runwright
runwright verify . --key ../ledger.pub.pem --key ../evidence.pub.pem
```
"""

_PART: Final = """`proofs/<seq>.tlog-proof` is the path from that leaf to the root in the
checkpoint, in the format c2sp.org/tlog-proof@v1, which other tools read (Go:
golang.org/x/mod/sumdb/tlog).

"""
_WHOLE: Final = """The bundle holds every entry of the checkpoint, so the root in it can be
computed: it is the RFC 6962 tree hash over all leaf hashes.

"""


_READ: Final = r"""## 5. What the runs read is what arrived

A file in `log` is a block of an input log: its head, which is named by its digest, and its body,
the records one after the other. A head holds the digest of its body, and as `prev` that of the
block before. The facts of a round, in `blobs`, name the block in which the log ended for it.

```sh
body='s/^{{"at":[0-9]*,\("before":\[[0-9,]*\],\)\{{0,1\}}"body":"\([0-9a-f]*\)".*/\2/'
for head in log/*.head; do
  name="${{head%.head}}"
  printf '%s %s\n' "${{name#log/}}" "$(sha256sum < "$head")"
  printf '%s %s\n' "$(sed "$body" "$head")" "$(sha256sum < "$name.body")"
done | awk '$1 != $2 {{ print $1 ": FAILED"; bad = 1 }} END {{ exit bad }}'
grep -ho '"log":{{"block":[0-9]*,"digest":"[0-9a-f]*"' blobs/* | sed 's/.*"digest":"//; s/"//' |
  while read -r digest; do test -e "log/$digest.head" || exit 1; done
```

"""
_DECISION: Final = r"""## {number}. A person signed their decision

Entry {seq} is a decision of {person}: a document, and the signature over it. You need `ssh-keygen`,
and a public key of that person **that you got from somewhere else**, laid beside this folder as
`../{person}.pub`.

```sh
tmp="$(mktemp -d)"
grep '"seq":{seq},' entries.jsonl > "$tmp/entry"
parts='s/.*"body":{{"document":\(.*\),"key":"SHA256:[^"]*".*"signature":"\([^"]*\)".*'
sed "$parts/\1/" "$tmp/entry" | tr -d '\n' > "$tmp/document"
{{ echo '-----BEGIN SSH SIGNATURE-----'
  sed "$parts/\2/" "$tmp/entry" | fold -w 70
  echo '-----END SSH SIGNATURE-----'; }} > "$tmp/signature"
echo "signer $(cat ../{person}.pub)" > "$tmp/signers"
ssh-keygen -Y verify -f "$tmp/signers" -I signer -n decision@runwright \
  -s "$tmp/signature" < "$tmp/document"
```

"""


def _verify_text(
    checkpoint: Checkpoint, entries: Sequence[Entry], files: Collection[str], *, is_whole: bool
) -> str:
    made = [entry for entry in entries if isinstance(entry.body, DecisionMade)]
    # One about the work tells more than one about the people.
    made.sort(key=lambda entry: entry.body.document.subject.startswith("person/"))
    read = _READ.format() if any(name.startswith("log/") for name in files) else ""
    number = 6 if read else 5
    decided = ""
    if made:
        person = made[0].body.document.person
        decided = _DECISION.format(number=number, seq=made[0].seq, person=person)
    return _VERIFY.format(
        read=read,
        decided=decided,
        all=number + bool(made),
        what="all entries" if is_whole else "some entries",
        origin=checkpoint.origin,
        size=checkpoint.size,
        tree=_WHOLE if is_whole else _PART,
    )
