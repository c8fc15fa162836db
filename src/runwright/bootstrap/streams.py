"""A stream of a project: its spec, its log and what it published, for whoever looks at them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from runwright.bootstrap import project
from runwright.bootstrap.project import ProjectStore
from runwright.config import Loaded
from runwright.kernel.errors import UnknownName
from runwright.kernel.ports import Store
from runwright.streams.events import MEDIA
from runwright.streams.spec import StreamSpec

if TYPE_CHECKING:
    from runwright.kernel.drive.log import Log

KIND: Final = "streams"
#: Papers read from the store at once.
_PAGE: Final = 64


@contextmanager
def looking(loaded: Loaded) -> Iterator[ProjectStore]:
    """Open the store for reading."""
    store = project.open_store(loaded, read_only=True)
    try:
        yield store
    finally:
        store.close()


def spec_of(store: Store, name: str) -> StreamSpec:
    """Return the spec of a stream that was applied. Raises: unknown-name."""
    rows = store.rows("spec", {"kind": KIND, "name": name})
    if not rows:
        known = ", ".join(row["name"] for row in store.rows("spec", {"kind": KIND})) or "none"
        message = f"no streams spec of the name {name!r} was applied; known: {known}"
        raise UnknownName(message, hint="runwright apply FILE")
    spec: StreamSpec = project.spec_of(project.workloads(), rows[0])
    return spec


def look_beside(spec: StreamSpec) -> None:
    """Let Python look for engines and sources beside the spec file, after everywhere else."""
    if spec.folder not in sys.path:
        sys.path.append(spec.folder)


def state_path(loaded: Loaded, name: str) -> Path:
    """Return the file in which a running stream keeps its state for others."""
    return loaded.folder / ".runwright" / "streams" / f"{name}.json"


def reading(store: ProjectStore, name: str) -> Log:
    """Return the log of a stream for reading."""
    from runwright.kernel.drive.log import Log, LogLimits  # lazy: only who looks at streams

    return Log(store, name, limits=LogLimits(), clock=project.clock())


def papers(store: ProjectStore, name: str, after: int = -1) -> Iterator[tuple[int, bytes]]:
    """Yield the outputs of a stream, tick by tick: (seq of the verdict, JSON Lines)."""
    for row in paper_rows(store, name, after):
        yield row["seq"], row["body"]


def paper_rows(store: ProjectStore, name: str, after: int = -1) -> Iterator[dict[str, Any]]:
    """Yield the outbox rows of a stream in order: seq of the verdict, body, state."""
    while True:
        rows = store.rows(
            "paper",
            {"media": MEDIA},
            after={"seq": after},
            columns=("seq", "name", "body", "state"),
            order="seq",
            limit=_PAGE,
        )
        for row in rows:
            if row["name"].rpartition("/")[0] == name:
                body = row["body"]
                # Whoever altered a row may have left text in it.
                yield row if isinstance(body, bytes) else {**row, "body": str(body).encode()}
        if len(rows) < _PAGE:
            return
        after = rows[-1]["seq"]
