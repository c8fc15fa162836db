"""A bundle in memory, with the keys that its reader trusts and those that a forger might hold."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from runwright.adapters.signer import load_seal_key
from runwright.kernel.record import seal
from tests.kernel.record.forge import ORIGIN

#: What is made of the statement, so it cannot hold their digests.
SIGNED = ("manifest.dsse.json", "manifest.pae", "manifest.sig", "statement.json")
KIND = "application/vnd.in-toto+json"

Files = dict[str, bytes]


class Sample(NamedTuple):
    """A bundle and where its keys lie: public ones for its reader, private ones for a forger."""

    files: Files
    keys: Path

    @property
    def vkey(self) -> str:
        """The verifier key that its reader trusts."""
        return (self.keys / "ledger.vkey").read_text(encoding="utf-8").strip()

    @property
    def trusted(self) -> list[Path]:
        """The files of the keys that its reader trusts."""
        return [self.keys / "ledger.pub.pem", self.keys / "evidence.pub.pem"]

    @property
    def origin(self) -> str:
        """The ledger that it is of."""
        return self.vkey.partition("+")[0]

    @property
    def checkpoint(self) -> seal.Checkpoint:
        """What its checkpoint says."""
        return seal.parse_checkpoint(seal.parse_note(self.files["checkpoint"].decode()).text)

    def proofs(self) -> list[str]:
        """Return the names of its proofs, in order."""
        names = [name for name in self.files if name.startswith("proofs/")]
        return sorted(names, key=lambda name: int(Path(name).stem))

    def noted(self, note: bytes) -> Files:
        """Return the files that change when every note in it becomes this one."""
        proofs = {name: above(self.files[name]) + note for name in self.proofs()}
        return {"checkpoint": note, **proofs}

    def sealed(self, text: str, *names: str) -> bytes:
        """Sign the text of a note as the ledger's own signer would."""
        key = load_seal_key(self.keys / "ledger.key")
        return seal.sign_note(text, [(name, key) for name in names or (self.origin,)]).encode()

    def changed(self, changes: Mapping[str, bytes | None]) -> Files:
        """Return the files after a change; None takes a file away."""
        return {name: data for name, data in {**self.files, **changes}.items() if data is not None}


def above(proof: bytes) -> bytes:
    """Return what stands in a proof above its note."""
    head, border, _ = proof.partition(b"\n\n")
    return head + border


def canonical(value: Any) -> bytes:
    """Return the canonical bytes of a value, by another encoder than the product's."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode()


def resigned(files: Mapping[str, bytes], key: Path) -> Files:
    """Make manifest, statement and envelope anew over files, and have openssl sign them.

    So does a forger who holds the key of bundles, and so would any other tool that writes them.
    """
    plain = {name: data for name, data in files.items() if name not in (*SIGNED, "MANIFEST.json")}
    listed = {name: {"sha256": sha256(data), "size": len(data)} for name, data in plain.items()}
    plain["MANIFEST.json"] = canonical({"files": listed})
    statement = json.loads(files["statement.json"])
    statement["subject"] = [
        {"digest": {"sha256": sha256(plain[name])}, "name": name} for name in sorted(plain)
    ]
    payload = canonical(statement)
    pae = b"DSSEv1 %d %s %d %s" % (len(KIND), KIND.encode(), len(payload), payload)
    signature = subprocess.run(
        ["openssl", "dgst", "-sha256", "-sign", key], input=pae, capture_output=True, check=True
    ).stdout
    encoded = base64.b64encode(signature).decode()
    envelope = {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": KIND,
        "signatures": [{"keyid": key_id(key), "sig": encoded}],
    }
    parts = (canonical(envelope), pae, signature, payload)
    return {**plain, **dict(zip(SIGNED, parts, strict=True))}


def key_id(key: Path) -> str:
    """Return the digest of a public key, which lies beside the private one."""
    lines = key.with_name(f"{key.stem}.pub.pem").read_text(encoding="ascii").splitlines()
    return sha256(base64.b64decode("".join(lines[1:-1])))


def bare(files: Mapping[str, bytes]) -> Files:
    """Add a statement that nobody signed and that names nothing, for what is no whole bundle."""
    payload = canonical(
        {
            "_type": "https://in-toto.io/Statement/v1",
            "predicate": {},
            "predicateType": "urn:runwright:bundle:v1",
            "subject": [],
        }
    )
    encoded = base64.b64encode(payload).decode()
    envelope = {"payload": encoded, "payloadType": KIND, "signatures": []}
    return {**files, "manifest.dsse.json": canonical(envelope)}


def raw_entry(seq: int) -> bytes:
    """Return the bytes of an entry with any number."""
    zeros = "0" * 64
    return (
        f'{{"actor":"","body":{{"step_ms":1}},"n":0,"origin":"{ORIGIN}","prev":"{zeros}",'
        f'"seq":{seq},"ts":1,"type":"clock.stepped","v":1}}'
    ).encode()


def sha256(data: bytes) -> str:
    """Return a digest in hex."""
    return hashlib.sha256(data).hexdigest()


def read(folder: Path) -> Files:
    """Return the files of a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def lay_out(files: Mapping[str, bytes], folder: Path) -> Path:
    """Write files below a folder; return it."""
    shutil.rmtree(folder, ignore_errors=True)
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder
