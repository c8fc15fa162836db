"""A stage on a file, made by the first who opens it."""

from __future__ import annotations

from pathlib import Path

from runwright.adapters.sqlite import SqliteStore
from tests.kernel.drive.logs import Stage


def opened(folder: Path) -> Stage:
    """Open the store of a folder with its writer, as the next start does."""
    path = folder / "store.db"
    return Stage(SqliteStore(path, create=not path.exists()), folder)
