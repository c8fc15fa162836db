"""Local evidence of what a shared store did not take: a file for each batch, for people to read.

Nothing reads it back. What it holds was masked before, as everything that is committed.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from runwright.adapters.files import write_whole
from runwright.kernel.canonical import digest
from runwright.kernel.errors import RunwrightError
from runwright.kernel.ports import Batch


def keep_batch(folder: Path, store: str, batch: Batch, failure: RunwrightError) -> str:
    """Write a batch and the reason why it was not committed; return the file, empty for none."""
    text = msgspec.json.encode(
        {
            "store": store,
            "error": failure.code,
            "message": str(failure),
            "entries": [msgspec.Raw(entry.raw) for entry in batch.entries],
            "rows": [
                {"table": row.table, "values": dict(row.values), "update": row.update}
                for row in batch.rows
            ],
            "blobs": [{"digest": item.digest, "size": len(item.data)} for item in batch.contents],
            "seals": [seal.note for seal in batch.seals],
            "erased": batch.erased,
            # Not their bytes: a source that was not told that they are durable has them still.
            "blocks": [
                {"log": block.log, "first_seq": block.first_seq, "last_seq": block.last_seq}
                for block in batch.blocks
            ],
        }
    )
    first = batch.entries[0].seq if batch.entries else 0
    path = folder / f"{first:09}-{digest(text)[:8]}.json"
    try:
        write_whole(path, text)
    except OSError:
        # What the caller is about to raise is what matters; it then names no file.
        return ""
    return str(path)
