"""What the conductor knows without asking the store again: tables that only its writer changes.

Specs, lanes, decisions and the newest occurrence are read once and then kept up by the rows that
are written. What is staged for the next commit counts already: whoever asks for a table with staged
rows in it has them committed first, so that no answer is ever older than the record.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import msgspec

from runwright.kernel.drive.writer import Writer
from runwright.kernel.ports import Row, Store
from runwright.kernel.record.ledger import StoredEntry
from runwright.kernel.run import Content, Memory, Scheduled, Tick

#: The kind and the name of a spec.
_Place: TypeAlias = tuple[str, str]


class Known:
    """The store as it stands, what is staged included; asked as seldom as can be."""

    def __init__(self, store: Store, writer: Writer) -> None:
        """Know nothing yet; `note` has to hear of every row that the writer writes."""
        self._store = store
        self._writer = writer
        self._specs: dict[_Place, Mapping[str, Any]] = {}
        #: Lane -> its memory as JSON text: whoever gets it as a value may change that.
        self._lanes: dict[_Place, dict[str, str]] = {}
        self._decisions: dict[str, list[dict[str, Any]]] = {}
        #: The last instant that a tick of the schedule covers; -1: there is none.
        self._last_ms: dict[_Place, int] = {}

    def note(self, rows: Sequence[Row]) -> None:
        """Take notice of rows that are staged or written."""
        for row in rows:
            values = row.values
            if row.table == "lane":
                lanes = self._lanes.get((values["kind"], values["name"]))
                if lanes is not None:
                    lanes[values["lane"]] = values["memory"]
            elif row.table == "tick":
                if not row.update and values["scheduled"]:
                    place = values["kind"], values["name"]
                    if place in self._last_ms:
                        self._last_ms[place] = max(self._last_ms[place], values["last_ms"])
            elif row.table == "spec":
                self._specs.pop((values["kind"], values["name"]), None)
            elif row.table == "decision":
                self._decisions.clear()

    # ------------------------------------------------------------------------ what is remembered

    def spec(self, kind: str, name: str) -> Mapping[str, Any] | None:
        """Return the row of a spec; None when it was never applied."""
        place = kind, name
        if place not in self._specs:
            rows = self.rows("spec", {"kind": kind, "name": name})
            if not rows:
                return None
            self._specs[place] = rows[0]
        return self._specs[place]

    def lanes(self, kind: str, name: str) -> dict[str, Memory]:
        """Return what the last outcome of each lane left, as a value of the caller's own."""
        place = kind, name
        if place not in self._lanes:
            rows = self.rows("lane", {"kind": kind, "name": name})
            self._lanes[place] = {row["lane"]: row["memory"] for row in rows}
        return {lane: msgspec.json.decode(text) for lane, text in self._lanes[place].items()}

    def decisions(self, subject: str) -> Sequence[Mapping[str, Any]]:
        """Return the decisions about a subject, in the order of the record."""
        if subject not in self._decisions:
            self._decisions[subject] = self.rows("decision", {"subject": subject}, order="seq")
        return self._decisions[subject]

    def tick(self, kind: str, name: str, tick: Tick, identity: str) -> Mapping[str, Any] | None:
        """Return the row of a tick that the record holds; None for a new one."""
        place = kind, name
        if isinstance(tick, Scheduled):
            if place not in self._last_ms:
                where = {"kind": kind, "name": name, "scheduled": 1}
                newest = self.rows("tick", where, order="-last_ms", limit=1, columns=("last_ms",))
                self._last_ms[place] = newest[0]["last_ms"] if newest else -1
            if tick.planned_ms > self._last_ms[place]:
                return None
        rows = self.rows("tick", {"id": identity})
        return rows[0] if rows else None

    # ---------------------------------------------------------------------------- what is asked

    def rows(self, table: str, where: Mapping[str, Any] | None = None, **how: Any) -> Any:
        """Return rows of a table, as a store does."""
        if self._writer.has_staged_rows(table):
            self._writer.flush()
        return self._store.rows(table, where, **how)

    def blob(self, digest: str) -> Content | None:
        """Return kept bytes by digest."""
        return self._writer.staged_blob(digest) or self._store.blob(digest)

    def entries(self, start: int = 0, stop: int | None = None) -> Iterator[StoredEntry]:
        """Yield the entries with start <= seq < stop, in order."""
        self._writer.flush()
        return self._store.entries(start, stop)
