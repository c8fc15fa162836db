"""What `observe` may ask of the store: tables as they stand now, and the recorded past."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runwright.kernel.canonical import digest
from runwright.kernel.errors import require
from runwright.kernel.ports import Store
from runwright.kernel.run import Content, Ref


class StoreWorld:
    """The World port on the conductor's store."""

    def __init__(self, store: Store) -> None:
        """Ask this store."""
        self._store = store
        self.kept: list[Content] = []

    def rows(self, table: str, where: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """Return rows of a table as they stand now."""
        return self._store.rows(table, where)

    def keep(self, data: bytes) -> Ref:
        """Keep a large thing with the round that this observation leads to."""
        self.kept.append(Content(digest=digest(data), data=data))
        return Ref(digest=self.kept[-1].digest, size=len(data))

    def recorded(self, table: str, where: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """Return rows of the recorded past."""
        require(table in ("round", "tick", "lane"), f"{table} is not a table of the past")
        return self._store.rows(table, where)
