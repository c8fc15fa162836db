"""The contract-freeze note: what of streams is frozen, and the checks of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from runwright.adapters.memory import MemoryStore
from runwright.bootstrap.project import clock
from runwright.bootstrap.streams import KIND
from runwright.kernel.drive.log import Log, LogLimits
from runwright.kernel.ports import Batch
from runwright.streams.freeze import freeze_note, note_text


def freeze() -> Mapping[str, Any]:
    """Return the contract-freeze note, as text and as data, with whether its checks hold."""
    folder = Path(__file__).parents[1] / KIND
    sources = {
        ".".join(["runwright", KIND, *file.relative_to(folder).with_suffix("").parts]): (
            file.read_text(encoding="utf-8")
        )
        for file in sorted(folder.rglob("*.py"))
    }
    shipped = {file.name: file.read_bytes() for file in (folder / "schemas").glob("*.json")}
    note = freeze_note(sources, shipped, _kept)
    return {**msgspec.to_builtins(note), "held": note.holds, "text": note_text(note)}


def _kept(items: Sequence[bytes], symbols: Sequence[str]) -> Iterator[bytes]:
    """Append to a log in memory, and yield what it holds then."""
    store = MemoryStore()

    def commit(drafts: Any = (), *, blocks: Any = (), retired: Any = ()) -> int:  # noqa: ARG001
        store.commit(Batch(blocks=list(blocks)))
        return 0

    log = Log(store, "freeze", limits=LogLimits(), clock=clock(), commit=commit)
    log.append(items, symbols)
    yield from (record.data for record in log.records(1, log.last_seq))
