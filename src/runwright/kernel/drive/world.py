"""What `observe` may ask of the store: tables as they stand now, and the recorded past."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from runwright.kernel.canonical import digest
from runwright.kernel.errors import Usage, require
from runwright.kernel.ports import LogReader, Reader
from runwright.kernel.run import Content, Memory, Ref

#: Nothing by any name.
NO_LOGS: Final[Mapping[str, Any]] = {}


class StoreWorld:
    """The World port on the conductor's store."""

    def __init__(
        self,
        store: Reader,
        *,
        logs: Mapping[str, LogReader] = NO_LOGS,
        memory: Mapping[str, Memory] = NO_LOGS,
    ) -> None:
        """Ask this store; `logs` by the names of their specs, `memory` by lane."""
        self._store = store
        self._logs = logs
        self._memory = memory
        self.kept: list[Content] = []

    def rows(self, table: str, where: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """Return rows of a table as they stand now."""
        return self._store.rows(table, where)

    def log(self, name: str) -> LogReader:
        """Return a log by the name of its spec. Raises: usage when no stream of it runs here."""
        if name not in self._logs:
            message = f"the stream {name!r} does not run here"
            raise Usage(message, hint=f"runwright streams run {name}")
        return self._logs[name]

    def memory(self) -> Mapping[str, Memory]:
        """Return what the last outcome of each lane left."""
        return self._memory

    def keep(self, data: bytes) -> Ref:
        """Keep a large thing with the round that this observation leads to."""
        self.kept.append(Content(digest=digest(data), data=data))
        return Ref(digest=self.kept[-1].digest, size=len(data))

    def recorded(self, table: str, where: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """Return rows of the recorded past."""
        require(table in ("round", "tick", "lane"), f"{table} is not a table of the past")
        return self._store.rows(table, where)
