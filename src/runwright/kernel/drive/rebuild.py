"""Folds a ledger again from its first entry, and says where a table differs from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

import msgspec

from runwright.kernel.drive.projection import Projection
from runwright.kernel.drive.recall import read
from runwright.kernel.ports import Batch, ColumnType, Row, Store, Table
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
    "log_segment": ("kind", "name", "idx"),
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
    ours = {table.name: table.key for table in tables if table.key and not table.is_edited}
    return {**KERNEL, **ours}


def counting(tables: Sequence[Table]) -> Mapping[str, Table]:
    """Return the tables that operators edit and of which some columns follow from the record."""
    return {table.name: table for table in tables if table.is_edited and table.folded}


def fold_again(store: Store, workloads: Mapping[str, Workload], into: Store) -> None:
    """Fold every entry of a store into the tables of another, which starts empty."""
    projection = Projection(into, workloads, store)
    partly = counting([table for workload in workloads.values() for table in workload.tables])
    for stored in store.entries():
        rows = projection.rows_of(read(stored.raw), stored.leaf)
        # What operators keep stands in no entry: the row begins with what the record knows of it.
        into.commit(
            Batch(rows=[Row(row.table, row.values) if row.table in partly else row for row in rows])
        )


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
    for name, table in counting(tables).items():
        theirs = {column: kind for column, kind in table.types.items() if column in table.folded}
        held, right = (_by_key(it, name, table.key, theirs) for it in (store, again))
        for place, values in sorted(right.items(), key=repr):
            wanted = {column: values[column] for column in table.folded}
            what = _what(held.get(place), wanted)
            if what:
                found.append(Difference(table=name, key=", ".join(map(str, place)), what=what))
    return found


def rows_of(again: Store, tables: Sequence[Table]) -> Batch:
    """Return what puts the tables that were folded again in the place of the ones in use."""
    names = list(folded(tables))
    rows = [Row(name, row) for name in names for row in again.rows(name)]
    for name, table in counting(tables).items():
        for row in again.rows(name):
            values = {column: row[column] for column in (*table.key, *table.folded)}
            rows.append(Row(name, values, update=True))
    return Batch(emptied=names, rows=rows)


def _what(held: Mapping[str, Any] | None, right: Mapping[str, Any] | None) -> str:
    if held is None:
        return "missing"
    if right is None:
        return "not in the record"
    return ", ".join(sorted(column for column in right if held.get(column) != right[column]))


def _by_key(
    store: Store, name: str, key: Sequence[str], types: Mapping[str, ColumnType]
) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Return rows by key, their values in a form that every store gives them back in."""
    found = {}
    for row in store.rows(name):
        values = {column: _plain(value, types.get(column)) for column, value in row.items()}
        found[tuple(row[column] for column in key)] = values
    return found


def _plain(value: Any, kind: ColumnType | None) -> Any:
    """Return a value without what a store is free in: spaces, order, digits that say nothing."""
    if kind in (None, "flag") or not isinstance(value, str):
        return value
    try:
        if kind == "json":
            return msgspec.json.decode(value)
        if kind == "number":
            return Decimal(value)
    except (ValueError, ArithmeticError):  # somebody left what is none, which is a difference
        return value
    return value.removesuffix("Z").rstrip("0").rstrip(".") if "." in value else value[:-1]
