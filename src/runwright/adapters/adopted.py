"""A table of a site in the place of one of ours: checked against the catalogue, only ever read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from runwright.kernel.ports import ColumnType, Table

#: What a column is for -> the types that it may have.
_TYPES: Final[Mapping[ColumnType, tuple[str, ...]]] = {
    "json": ("jsonb", "json"),
    "flag": ("boolean",),
}
_NUMBERS: Final = ("smallint", "integer", "bigint")
_INSTANT: Final = "timestamp with time zone"
#: What a column that may be missing holds where it is.
_ABSENT: Final = ("text", "''::text")


class Relation(NamedTuple):
    """Where a table of a site stands."""

    schema: str
    name: str

    @property
    def text(self) -> str:
        """Its name as settings and messages have it."""
        return f"{self.schema}.{self.name}"

    @property
    def sql(self) -> str:
        """Its name in a statement."""
        return f'"{self.schema}"."{self.name}"'


class Given(NamedTuple):
    """A column of it, as the catalogue describes it."""

    name: str
    #: Of a domain, the type below it.
    type: str
    #: Whether an INSERT has to give it a value.
    is_required: bool
    is_readable: bool


def problem_of(table: Table, relation: Relation, found: Sequence[Given]) -> str:
    """Return why a table of a site cannot stand in the place of ours; empty when it can."""
    given = {column.name: column for column in found}
    if not given:
        return f"there is no table {relation.text}"
    missing = [
        name for name in table.columns if name not in given and name not in (table.spared or ())
    ]
    if missing:
        what = "columns" if len(missing) > 1 else "column"
        return f"{relation.text} has no {what} {', '.join(missing)}"
    ours = [given[name] for name in table.columns if name in given]
    for column in ours:
        wanted = _TYPES.get(table.types.get(column.name, "instant"), (column.type,))
        if column.type not in wanted:
            is_type = f"the column {column.name} of {relation.text} is of type {column.type}"
            return f"{is_type}, not {' or '.join(wanted)}"
    hidden = [column.name for column in ours if not column.is_readable]
    if hidden:
        return f"this user may not read {', '.join(hidden)} of {relation.text} (GRANT SELECT)"
    return ""


def selected(table: Table, found: Sequence[Given]) -> Mapping[str, tuple[str, str]]:
    """Return column of ours -> its type and the expression that makes it of the site's columns.

    What stands there as NULL reads as what a row without it would have.
    """
    given = {column.name: column.type for column in found}
    return {name: _expression(name, given.get(name), table) for name in table.columns}


def _expression(name: str, kind: str | None, table: Table) -> tuple[str, str]:
    held, column = table.types.get(name), f'"{name}"'
    if kind is None:
        return _ABSENT
    if held == "json":
        return "json", f"coalesce({column}::text, '{{}}')"
    if held == "flag":
        return "boolean", f"coalesce({column}::boolean, false)"
    if kind in _NUMBERS:
        return "bigint", f"coalesce({column}::bigint, 0)"
    if kind == _INSTANT:
        return kind, column
    return "text", f"coalesce({column}::text, '')"
