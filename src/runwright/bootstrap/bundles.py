"""What an auditor is given: the bundle of a tick, or of the whole ledger."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from runwright import views
from runwright.adapters.files import write_folder
from runwright.adapters.signer import EVIDENCE_KEY, load_evidence_key
from runwright.bootstrap.project import ProjectStore, open_store, signatures
from runwright.config import Loaded
from runwright.kernel.errors import Usage
from runwright.kernel.record.bundle import (
    entries_of,
    readings_of,
    with_companions,
    write_bundle,
)
from runwright.kernel.record.ledger import StoredBlock, StoredEntry


def export(loaded: Loaded, name: str, folder: Path | None) -> Mapping[str, Any]:
    """Write the bundle of the tick that a name stands for, or of the whole ledger for "all".

    Raises: unknown-name, usage when it is under way, not sealed yet, or the folder is there.
    """
    store = open_store(loaded, read_only=True)
    try:
        seal = next(iter(store.seals(latest=True)), None)
        if seal is None:
            message = "nothing is sealed yet"
            raise Usage(message)
        blocks: list[StoredBlock] = []
        rounds: list[dict[str, Any]] = []
        if name == "all":
            label, entries = "ledger", list(store.entries(0, seal.size))
        else:
            row = views.find_round(store, name)
            rounds = store.rows("round", {"tick": row["tick"]}, order="idx")
            label = row["label"] or row["id"][:12]
            if rounds[-1]["judged_seq"] is None:
                message = f"{label} is under way: a bundle is of something that ended"
                raise Usage(message)
            ids = {row["tick"], *(found["id"] for found in rounds)}
            entries = entries_of(store.entries(rounds[0]["seq"]), ids, store.blob)
            blocks, entries = _with_blocks(store, entries)
            signed = signatures(store, [entry.seq for entry in entries])
            subjects = {f"tick/{row['tick']}", *(f"round/{found['id']}" for found in rounds)}
            subjects |= {f"entry/{entry.seq}" for entry in entries}
            decided = _decided(store, subjects, seal.size)
            if decided or signed:
                entries = with_companions(
                    store.entries(0, seal.size), entries, decided, {one.agent for one in signed}
                )
        target = folder or loaded.path(loaded.settings.files.folder) / "bundles" / label
        key = load_evidence_key(loaded.path(loaded.settings.signer.keys) / EVIDENCE_KEY)
        files = write_bundle(
            entries,
            seal=seal,
            tiles=store.tiles,
            blob=store.blob,
            key=key,
            signatures=signatures(store, [entry.seq for entry in entries]),
            blocks=blocks,
            papers=_published(store, [row["judged_seq"] for row in rounds]) if blocks else {},
        )
        write_folder(target, files)
    finally:
        store.close()
    return {
        "folder": str(target),
        "label": label,
        "entries": len(entries),
        "size": seal.size,
        "files": len(files),
        "bytes": sum(map(len, files.values())),
    }


def _with_blocks(
    store: ProjectStore, entries: Sequence[StoredEntry]
) -> tuple[list[StoredBlock], list[StoredEntry]]:
    """Return the blocks of logs that runs read; with the entries, what says that some retired."""
    from runwright.kernel.drive.blocks import between  # lazy: a whole ledger has no use for it

    blocks: dict[bytes, StoredBlock] = {}
    gone: set[int] = set()
    for reading in readings_of(entries, store.blob):
        segments = store.rows("log_segment", {"name": reading.log}, order="idx")
        retired = [row for row in segments if row["retired"] is not None]
        first = reading.first
        if retired and first <= retired[-1]["last_seq"]:
            first = retired[-1]["last_seq"] + 1
            gone.add(retired[-1]["retired"])
        read = between(store, reading.log, first, reading.end)
        blocks.update((block.digest, block) for block in read)
    found = {entry.seq: entry for entry in entries}
    found |= {entry.seq: entry for seq in gone for entry in store.entries(seq, seq + 1)}
    return list(blocks.values()), [found[seq] for seq in sorted(found)]


def _decided(store: ProjectStore, subjects: Collection[str], size: int) -> Mapping[int, range]:
    """Return the sealed decisions about some subjects: seq -> the seqs that each saw."""
    return {
        row["seq"]: range(row["first_seq"], row["last_seq"] + 1)
        for row in store.rows("decision", order="seq")
        if row["subject"] in subjects and row["seq"] < size
    }


def _published(store: ProjectStore, seqs: Sequence[int]) -> dict[tuple[int, int], bytes]:
    """Return what left because of some verdicts: (seq, place) -> body."""
    return {
        (seq, row["idx"]): row["body"]
        for seq in seqs
        for row in store.rows("paper", {"seq": seq}, columns=("idx", "body"), order="idx")
    }
