"""Alterations of a store that take more than one statement, and the verdict after them."""

from __future__ import annotations

from typing import Any

from runwright.kernel.record import ledger, seal
from tests.kernel.record.forge import private, rewritten
from tests.tamper.sample import Sample, Verdict


def after(sample: Sample, *changes: tuple[str, tuple[Any, ...]]) -> Verdict:
    """Verify after some changes, and take them back."""
    with sample.taking_back() as other:
        for statement, values in changes:
            other.execute(statement, values)
        return sample.verify()


def rows(sample: Sample, table: str) -> list[tuple[Any, ...]]:
    """Return the rows of a table in the order of their keys."""
    return sample.project.sql(f"SELECT * FROM {table} ORDER BY 1, 2")


def forged(sample: Sample, prev: str) -> bytes:
    """Return the bytes of an entry after the last one, with `prev` as a forger has it."""
    last = rows(sample, "entry")[-1]
    stored = ledger.StoredEntry(*last)
    return rewritten(stored, lambda fields: fields.update(seq=fields["seq"] + 1, prev=prev))


def rechained(sample: Sample, seq: int) -> list[tuple[str, tuple[Any, ...]]]:
    """Return what alters an entry and chains everything after it again, with nobody's signature."""
    changes: list[tuple[str, tuple[Any, ...]]] = []
    prev = b""

    def change(fields: dict[str, Any]) -> None:
        fields["prev"] = prev.hex() or fields["prev"]
        fields["ts"] += not prev

    for number, raw, leaf in rows(sample, "entry")[seq:]:
        stored = ledger.StoredEntry(number, raw, leaf)
        forged_raw = rewritten(stored, change)
        prev = ledger.leaf_hash(forged_raw)
        changes.append(
            ("UPDATE entry SET raw = ?, leaf = ? WHERE seq = ?", (forged_raw, prev, number))
        )
    return changes


def signed(sample: Sample, size: int, root: bytes, number: int = 9) -> str:
    """Return a seal by a key that nobody trusts, under the name of the ledger."""
    origin = sample.project.entries()[0]["origin"]
    return seal.sign_note(seal.Checkpoint(origin, size, root).text(), [(origin, private(number))])
