"""Says of the outbox whether it holds what verdicts caused: part of `verify`.

A verdict names sink, name and digest of each of its papers. A paper is never deleted, so each of
them has to be there, as it was, and no other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import groupby
from typing import Any, Final, NamedTuple

import msgspec

from runwright.kernel.record.entries import Entry

#: Word -> the sentence that `verify` prints.
SENTENCES: Final[Mapping[str, str]] = {
    "papers": "Every paper that a verdict names is in the outbox, with its bytes.",
    "caused": "Every paper in the outbox is one that its verdict names.",
}
#: The blob of a verdict that names its papers.
NAMED: Final = "papers"


class StoredPaper(NamedTuple):
    """A row of the outbox."""

    #: Of the verdict that caused it, and its place among its papers.
    seq: int
    place: int
    #: "" in a bundle, which holds only bodies.
    sink: str
    name: str
    #: Of its body.
    digest: str


class _Named(msgspec.Struct, frozen=True):
    sink: str
    name: str
    digest: str


_LIST: Final = msgspec.json.Decoder(list[_Named])


class Papers:
    """What verdicts name, held against an outbox."""

    def __init__(self, add: Callable[[str, int | None, str], None]) -> None:
        """Name no paper yet."""
        self._add = add
        #: seq of a verdict -> digest of its list.
        self._lists: dict[int, str] = {}

    def judged(self, entry: Entry, seq: int) -> None:
        """Take in a verdict."""
        for blob in entry.blobs:
            if blob.name == NAMED:
                self._lists[seq] = blob.digest

    def close(
        self, stored: Iterable[StoredPaper], bytes_of: Callable[[str], bytes | None], size: int
    ) -> None:
        """Hold the outbox against the verdicts among so many entries."""
        for seq, rows in groupby(stored, key=lambda paper: paper.seq):
            if seq < size or seq in self._lists:
                self._hold(seq, list(rows), bytes_of(self._lists.pop(seq, "")))
        for seq in self._lists:
            self._add("papers", seq, f"no paper of entry {seq} is in the outbox")

    def _hold(self, seq: int, rows: list[StoredPaper], named: bytes | None) -> None:
        expected: Any = ()
        if named is not None:
            try:
                expected = _LIST.decode(named)
            except msgspec.DecodeError:
                expected = ()
        found = {row.place: row for row in rows}
        for index, paper in enumerate(expected):
            row = found.pop(index, None)
            told = row and (row.sink or paper.sink, row.name or paper.name, row.digest)
            if row is None or told != (paper.sink, paper.name, paper.digest):
                what = "missing" if row is None else "altered"
                detail = f"paper {paper.name} of entry {seq} is {what}"
                self._add("papers", seq, detail)
        for row in found.values():
            self._add("caused", seq, f"no verdict names paper {row.name} of entry {seq}")
