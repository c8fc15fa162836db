"""What a ledger is sealed with: its proofs, its public keys, new ones, a store that goes on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from runwright.bootstrap.project import ProjectStore, clock, open_store, signer
from runwright.config import Loaded
from runwright.kernel.errors import Usage

if TYPE_CHECKING:
    from runwright.kernel.drive.conductor import Ports


def proof_text(store: ProjectStore, seq: int) -> str:
    """Return the inclusion proof of a sealed entry. Raises: usage."""
    from runwright.kernel.record.ledger import inclusion_proof  # lazy: only proofs
    from runwright.kernel.record.seal import Proof, proof_text  # lazy: as above

    newest = next(iter(store.seals(latest=True)), None)
    if newest is None or seq >= newest.size:
        message = f"entry {seq} is not sealed; {newest.size if newest else 0} entries are"
        raise Usage(message)
    hashes = tuple(inclusion_proof(store.tiles, seq, newest.size))
    return proof_text(Proof(index=seq, hashes=hashes, note=newest.note))


def public_keys(loaded: Loaded) -> list[dict[str, str]]:
    """Return the public keys of the project, for auditors."""
    folder = loaded.path(loaded.settings.signer.keys)
    found = []
    for file in sorted(folder.glob("*.vkey")):
        role = "seal" if file.name == "ledger.vkey" else "retired"
        found.append({"role": role, "file": str(file), "key": file.read_text().strip()})
    evidence = folder / "evidence.pub.pem"
    if evidence.exists():
        lines = evidence.read_text().splitlines()
        found.append({"role": "bundle", "file": str(evidence), "key": "".join(lines[1:-1])})
    return found


def rotate(loaded: Loaded, ports: Ports, *, by: str) -> Mapping[str, str]:
    """Introduce a new seal key under the old one, then seal with the new one alone."""
    from runwright.adapters.signer import begin_rotation, finish_rotation  # lazy: rotation only
    from runwright.kernel.record.entries import Actor, Draft, KeyAdded, KeyRetired  # lazy: as above

    folder = loaded.path(loaded.settings.signer.keys)
    old = (folder / "ledger.vkey").read_text().strip()
    signing, actor = ports.writer.signer, Actor(kind="person", id=by)
    new = begin_rotation(folder, signing.origin).text()
    signing.reload()
    # Sealed at once, by both keys: whoever trusts the old one learns of the new one from it.
    ports.writer.commit([Draft(body=KeyAdded(role="seal", key=new), actor=actor)])
    finish_rotation(folder)
    signing.reload()
    ports.writer.commit([Draft(body=KeyRetired(role="seal", key=old), actor=actor)])
    ports.writer.seal()
    return {"old": old, "new": new}


def adopt(loaded: Loaded, reason: str, *, by: str) -> Mapping[str, Any]:
    """Go on with a store that the signer does not vouch for; the entry that says so is sealed.

    Raises: usage when the signer does vouch for it, store-busy, store-corrupt.
    """
    # lazy: adoption only
    import msgspec  # lazy: as above

    from runwright.kernel.drive import writer  # lazy: as above

    store = open_store(loaded)
    try:
        signing = signer(loaded, store)
        body = writer.adopt(store, clock=clock(), signer=signing, reason=reason, by=by)
        found: Mapping[str, Any] = msgspec.structs.asdict(body)
        return found
    finally:
        store.close()
