"""Verifies the record of a project, or a bundle, with the caller's keys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from runwright.bootstrap.project import (
    ProjectStore,
    code_digest,
    open_store,
    signatures,
    workloads,
)
from runwright.config import Loaded
from runwright.kernel.canonical import digest
from runwright.kernel.drive.blocks import every
from runwright.kernel.errors import StoreCorrupt, Usage, VerificationFailed
from runwright.kernel.record import bundle
from runwright.kernel.record.entries import Header
from runwright.kernel.record.papers import StoredPaper
from runwright.kernel.record.seal import is_name, parse_checkpoint, parse_note
from runwright.kernel.record.verify import Evidence, Report, verify


def verify_store(
    loaded: Loaded, trusted: Sequence[str], *, lint: bool = True, rejudge: bool = False
) -> Mapping[str, Any]:
    """Verify the whole record of the project with the keys given, or its own public keys.

    Raises: usage for a key that cannot be read.
    """
    store = open_store(loaded, read_only=True)
    try:
        origin = _claimed_origin(store)
        keys = bundle.public_keys(trusted or _own_keys(loaded), origin)
        evidence = Evidence(
            # From the lowest key on: what was put in below the first entry is found too.
            entries=store.entries(-(1 << 63)),
            seals=store.seals(),
            blob=store.blob,
            keys=keys.seal,
            origin=origin,
            tiles=store.tiles,
            signatures=signatures(store),
            again=store.entries,
            blocks=every(store),
            papers=_papers(store),
        )
        report = _report(verify(evidence, lint=lint))
        if rejudge:
            _add_rejudged(report, store)
        return report
    finally:
        store.close()


def verify_bundle(
    folder: Path, trusted: Sequence[str], project: Loaded, *, lint: bool = True
) -> Mapping[str, Any]:
    """Verify a bundle with the keys given, or the public keys of the project one stands in.

    Raises: usage when there is no key to trust, or no bundle.
    """
    from runwright.adapters.files import read_folder  # lazy: only verify reads bundles

    texts = trusted or _own_keys(project)
    if not texts:
        message = "no key to trust was given"
        raise Usage(message, hint="--key FILE, for the ledger's and the evidence key; repeatable.")
    return _report(bundle.verify_bundle(read_folder(folder), texts, lint=lint))


def _papers(store: ProjectStore) -> Iterator[StoredPaper]:
    """Yield what is in the outbox, verdict by verdict."""
    seq = -(1 << 63)
    while seqs := store.rows("paper", after={"seq": seq}, order="seq", limit=1, columns=("seq",)):
        seq = seqs[0]["seq"]
        for row in store.rows("paper", {"seq": seq}, order="idx"):
            # Whoever altered a row may have left text in it: what is hashed are bytes.
            body = row["body"]
            named = digest(body if isinstance(body, bytes) else str(body).encode())
            yield StoredPaper(seq, row["idx"], row["sink"], row["name"], named)


def _claimed_origin(store: ProjectStore) -> str:
    """Return the ledger that the first readable entry or seal names, to name keys in PEM by.

    It is a claim and nothing more: entries and seals that say otherwise break a sentence.

    Raises: store-corrupt when there is none.
    """
    for origin in _claims(store):
        if is_name(origin):
            return origin
    message = f"{store.name} holds no entry and no seal that can be read"
    raise StoreCorrupt(message)


def _claims(store: ProjectStore) -> Iterator[str]:
    # What cannot be read is for a sentence to name; a ValueError is what msgspec's errors are.
    for stored in store.entries():
        with suppress(ValueError):
            yield msgspec.json.decode(stored.raw, type=Header).origin
    for row in store.seals():
        with suppress(VerificationFailed):
            yield parse_checkpoint(parse_note(row.note).text).origin


def _own_keys(loaded: Loaded) -> list[str]:
    folder = loaded.path(loaded.settings.signer.keys)
    return [file.read_text() for file in sorted(folder.glob("*.pub.pem"))]


def _report(report: Report) -> dict[str, Any]:
    plain = msgspec.to_builtins(report)
    checks = list(plain["checks"])
    return {**plain, "checks": checks, "held": report.held, "first_bad": report.first_bad}


def _add_rejudged(report: dict[str, Any], store: ProjectStore) -> None:
    from runwright.kernel.drive.replay import rejudge  # lazy: only --rejudge

    codes = {kind: code_digest(kind) for kind in workloads()}
    found = rejudge(store, workloads(), codes)
    different = [item for item in found if item.result == "different"]
    counts = {
        word: sum(item.result == word for item in found)
        for word in ("same", "other-code", "different")
    }
    report["checks"].append(
        {
            "word": "rejudged",
            "level": "rejudged",
            "sentence": "Every round, planned and judged again, gives what is recorded.",
            "held": not different,
            "detail": f"{different[0].label}: {different[0].detail}"
            if different
            else f"{counts['same']} by the same code, {counts['other-code']} by other code",
            "seq": different[0].seq if different else None,
        }
    )
    report["held"] = report["held"] and not different
