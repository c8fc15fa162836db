"""Folds a ledger again from its first entry, and says where a table differs from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from runwright.kernel.drive.projection import Projection
from runwright.kernel.drive.recall import read
from runwright.kernel.ports import Batch, Row, Store, Table
from runwright.kernel.workload import Workload

#: The kernel's own tables that follow from the record, and their keys.
KERNEL: Final[Mapping[str, tuple[str, ...]]] = {
    "spec": ("kind", "name"),
    "tick": ("seq",),
    "round": ("seq",),
    "lane": ("kind", "name", "lane"),
    "person": ("id",),
    "person_key": ("person", "fingerprint"),
    "decision": ("seq",),
    "agent_key": ("agent", "fingerprint"),
}


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """A row that is not what the record says."""

    table: str
    #: Its key, as text.
    key: str
    #: "missing", "not in the record", or the columns that differ.
    what: str


def folded(tables: Sequence[Table]) -> Mapping[str, tuple[str, ...]]:
    """Return the tables whose every column follows from the record, and their keys."""
    ours = {table.name: table.key for table in tables if table.folded == table.columns}
    return {**KERNEL, **ours}


def fold_again(store: Store, workloads: Mapping[str, Workload], into: Store) -> None:
    """Fold every entry of a store into the tables of another, which starts empty."""
    projection = Projection(into, workloads, store)
    for stored in store.entries():
        into.commit(Batch(rows=projection.rows_of(read(stored.raw), stored.leaf)))


def differences(store: Store, again: Store, tables: Sequence[Table]) -> list[Difference]:
    """Return where the tables of a store differ from the ones that were folded again."""
    types = {table.name: table.types for table in tables}
    found: list[Difference] = []
    for name, key in folded(tables).items():
        held, right = (_by_key(it, name, key, types.get(name, {})) for it in (store, again))
        for place in sorted({*held, *right}, key=repr):
            what = _what(held.get(place), right.get(place))
            if what:
                text = ", ".join(map(str, place))
                found.append(Difference(table=name, key=text, what=what))
    return found


def rows_of(again: Store, tables: Sequence[Table]) -> Batch:
    """Return what puts the tables that were folded again in the place of the ones in use."""
    names = list(folded(tables))
    return Batch(emptied=names, rows=[Row(name, row) for name in names for row in again.rows(name)])


def _what(held: Mapping[str, Any] | None, right: Mapping[str, Any] | None) -> str:
    if held is None:
        return "missing"
    if right is None:
        return "not in the record"
    return ", ".join(sorted(column for column in right if held.get(column) != right[column]))


def _by_key(
    store: Store, name: str, key: Sequence[str], types: Mapping[str, str]
) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Return rows by key, JSON as values: a store may write it in its own way."""
    found = {}
    for row in store.rows(name):
        values = {
            column: msgspec.json.decode(value) if types.get(column) == "json" else value
            for column, value in row.items()
        }
        found[tuple(row[column] for column in key)] = values
    return found
