"""Flips bits of everything that verification covers, one at a time, and asks the verifier.

`python -m tests.tamper.flips PROJECT` prints the tally of a project made before as JSON: the
controls run it so with a verifier that was sabotaged, and it has to name what that one no longer
sees.
"""

from __future__ import annotations

import json
import sqlite3
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import psycopg

from tests.tamper.sample import Sample, Verdict

BITS = 8


class Pick(NamedTuple):
    """Which bits are tried: every so many bytes one bit, another one each time; or all bits."""

    stride: int = 1
    every_bit: bool = False

    def of(self, size: int) -> Iterator[tuple[int, int]]:
        """Yield the place and the bit of each flip of so many bytes."""
        for count, place in enumerate(range(0, size, self.stride)):
            for bit in range(BITS) if self.every_bit else (count % BITS,):
                yield place, bit


class Field(NamedTuple):
    """A column that verification covers, and what is promised of a flip in it."""

    column: str
    kind: str
    #: The sentences of which one has to break; none says any.
    words: frozenset[str]
    #: A row -> what the first bad seq may be.
    first: Callable[[Row], set[int | None]]


class Row(NamedTuple):
    """A row of the store, and what a report may name instead of it."""

    key: tuple[Any, ...]
    #: How many entries there are.
    size: int
    #: The first entry that names a blob.
    naming: int | None


class Tally:
    """What came of the flips of one field or file."""

    def __init__(self) -> None:
        self.tried = 0
        #: Flips after which the verifier said that everything holds.
        self.lost: list[str] = []
        #: Flips that it found, but named by another entry or sentence, or ended with an error.
        self.misnamed: list[str] = []

    def add(self, place: str, verdict: Verdict, words: frozenset[str], first: set[Any]) -> None:
        """Count one flip: `first` is what the first bad seq may be, nothing says anything."""
        self.tried += 1
        if verdict.held:
            self.lost.append(place)
        elif (
            verdict.raised
            or (words and not words & verdict.words)
            or (first and verdict.first_bad not in first)
        ):
            said = ",".join(sorted(verdict.words))
            self.misnamed.append(f"{place}: {said} at {verdict.first_bad}")


def flipped(data: bytes, place: int, bit: int) -> bytes:
    """Return bytes with one bit flipped."""
    changed = bytearray(data)
    changed[place] ^= 1 << bit
    return bytes(changed)


# --------------------------------------------------------------------------------------- a store


def _own(row: Row) -> set[int | None]:
    return {row.key[0]}


def _own_or_first(row: Row) -> set[int | None]:
    """Return the entry, or the first one: before it comes what is kept below 0."""
    return {row.key[0], 0}


def _no_entry(row: Row) -> set[int | None]:
    """Return no entry, or the first that a seal claims and that is not there."""
    return {None, row.size}


def _naming(row: Row) -> set[int | None]:
    return {row.naming}


def _first_under(row: Row) -> set[int | None]:
    """Return the first entry under a tile."""
    level, index = row.key
    return {index << (BITS * level)}


_LEAF, _NOTED = frozenset({"leaf"}), frozenset({"noted"})
_PLACED = frozenset({"seq", "length"})
_ABOUT_SEALS = frozenset({"signature", "noted", "origin", "length", "root", "roots"})
_ALTERED = frozenset({"matching"})

#: Table -> its key, and its columns that are covered.
FIELDS: Mapping[str, tuple[Mapping[str, str], tuple[Field, ...]]] = {
    "entry": (
        {"seq": "INTEGER"},
        (
            Field("raw", "BLOB", _LEAF, _own),
            Field("leaf", "BLOB", _LEAF, _own),
            Field("seq", "INTEGER", _PLACED, _own_or_first),
        ),
    ),
    "tile": (
        {"level": "INTEGER", "idx": "INTEGER"},
        (Field("hash", "BLOB", frozenset({"tiles"}), _first_under),),
    ),
    "seal": (
        {"size": "INTEGER"},
        (
            Field("root", "BLOB", _NOTED, _no_entry),
            Field("note", "TEXT", _ABOUT_SEALS, _no_entry),
            Field("size", "INTEGER", _NOTED, _no_entry),
        ),
    ),
    "blob": (
        {"digest": "TEXT"},
        (
            Field("data", "BLOB", _ALTERED, _naming),
            Field("salt", "BLOB", _ALTERED, _naming),
            Field("digest", "TEXT", frozenset({"kept"}), _naming),
        ),
    ),
}


class Cell(NamedTuple):
    """One value of the store."""

    table: str
    keys: Mapping[str, str]
    key: tuple[Any, ...]
    field: Field

    def value(self, other: sqlite3.Connection) -> bytes:
        """Return its bytes; of a number its eight."""
        where, column = self._where(), self.field.column
        ((value,),) = other.execute(
            f"SELECT CAST({column} AS {self._read()}) FROM {self.table} WHERE {where}", self.key
        ).fetchall()
        return value.to_bytes(8, "big", signed=True) if isinstance(value, int) else value

    def write(self, other: sqlite3.Connection, old: bytes, new: bytes) -> bool:
        """Replace its bytes; say whether the store takes them.

        The key may be that of another row, or the bytes no text to PostgreSQL.
        """
        column, kind = self.field.column, self.field.kind
        key = (self._bound(old),) if column in self.keys else self.key
        try:
            other.execute(
                f"UPDATE {self.table} SET {column} = CAST(? AS {kind}) WHERE {self._where()}",
                (self._bound(new), *key),
            )
        except (sqlite3.IntegrityError, psycopg.IntegrityError, psycopg.DataError):
            return False
        return True

    def _where(self) -> str:
        return " AND ".join(f"{key} = CAST(? AS {kind})" for key, kind in self.keys.items())

    def _read(self) -> str:
        return "INTEGER" if self.field.kind == "INTEGER" else "BLOB"

    def _bound(self, data: bytes) -> bytes | int:
        is_number = self.field.kind == "INTEGER"
        return int.from_bytes(data, "big", signed=True) if is_number else data


def flip_store(
    sample: Sample, pick: Pick, *, only: Collection[str] = (), lint: bool = True
) -> dict[str, Tally]:
    """Flip bits of every covered column through a second connection; put each value back."""
    size, naming = sample.size(), named_first(sample)
    tallies: dict[str, Tally] = {}
    with sample.altering() as other:
        for table, (keys, fields) in FIELDS.items():
            found = other.execute(f"SELECT {', '.join(keys)} FROM {table} ORDER BY 1").fetchall()
            for field in fields:
                name = f"{table}.{field.column}"
                if only and name not in only:
                    continue
                tally = tallies[name] = Tally()
                for key in found:
                    row = Row(key, size, naming.get(key[0]))
                    cell = Cell(table, keys, key, field)
                    old = cell.value(other)
                    for place, bit in pick.of(len(old)):
                        new = flipped(old, place, bit)
                        if not cell.write(other, old, new):
                            continue
                        verdict = sample.verify(lint=lint)
                        cell.write(other, new, old)
                        at = f"{'/'.join(map(str, key))[:16]} byte {place} bit {bit}"
                        tally.add(at, verdict, field.words, field.first(row))
    return tallies


def named_first(sample: Sample) -> dict[str, int]:
    """Return the first entry that names each blob."""
    first: dict[str, int] = {}
    for entry in sample.project.entries():
        for blob in entry.get("blobs", ()):
            first.setdefault(blob["digest"], entry["seq"])
    return first


# -------------------------------------------------------------------------------------- a bundle


def flip_bundle(
    sample: Sample,
    files: Mapping[str, bytes],
    pick: Pick,
    *,
    only: Collection[str] = (),
    then: Callable[[dict[str, bytes]], Mapping[str, bytes]] = dict,
) -> dict[str, Tally]:
    """Flip bits of every file of a bundle, one at a time; `then` is what a forger does after."""
    tallies: dict[str, Tally] = {}
    for name, data in sorted(files.items()):
        if only and name not in only:
            continue
        tally = tallies[name] = Tally()
        for place, bit in pick.of(len(data)):
            verdict = sample.verify_files(then({**files, name: flipped(data, place, bit)}))
            tally.add(f"{name} byte {place} bit {bit}", verdict, frozenset(), set())
    return tallies


def main(sample: Sample, stride: int, only: Collection[str]) -> None:
    """Print what came of flips of a project made before, and of its bundles."""
    found = flip_store(sample, Pick(stride), only=only)
    for name in ("all", "part"):
        # The files of a bundle are many, and most of their bytes are in the schemas.
        files, pick = sample.bundle(name), Pick(stride * (1 if only else 5))
        for file, tally in flip_bundle(sample, files, pick, only=only).items():
            found[f"{name}/{file}"] = tally
    print(json.dumps({name: vars(tally) for name, tally in found.items()}))


if __name__ == "__main__":
    main(Sample(Path(sys.argv[1])), int(sys.argv[2]), sys.argv[3:])
