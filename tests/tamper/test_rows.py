"""Rows of a record deleted, swapped, put in and chained again: what `verify --store` says.

Some of it cannot be seen in the store alone: a copy that simply ends earlier is a record too. Those
states are listed here as what they are, and tests/tamper/test_start.py shows who notices them.
"""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from runwright.bootstrap.verification import verify_store
from runwright.kernel.record import ledger
from tests.tamper.flips import named_first
from tests.tamper.forging import after, forged, rechained, rows, signed
from tests.tamper.sample import Sample

pytestmark = pytest.mark.slow

#: Keys far beyond the last entry, and the last that there can be.
FAR, LAST = 1 << 40, (1 << 63) - 1


# ---------------------------------------------------------------------------------- deleted rows


def test_a_deleted_entry_is_named(sample: Sample) -> None:
    """Each of them, the first and the last too."""
    for seq in range(sample.size()):
        verdict = after(sample, ("DELETE FROM entry WHERE seq = ?", (seq,)))
        assert (verdict.held, verdict.raised, verdict.first_bad) == (False, False, seq)
        assert verdict.words & {"seq", "length"}
    assert sample.verify().held


def test_a_deleted_blob_is_named_by_the_entry_that_names_it(sample: Sample) -> None:
    """Only an erasure on the record explains that it is gone."""
    for digest, seq in named_first(sample).items():
        verdict = after(sample, ("DELETE FROM blob WHERE digest = ?", (digest,)))
        assert (verdict.held, verdict.first_bad) == (False, seq)
        assert "kept" in verdict.words


def test_a_deleted_or_added_tile_is_named(sample: Sample) -> None:
    """The tile over entry 0 is missing; another one stands for entries that there are not."""
    sample.grow_to(ledger.TILE_WIDTH + 1)
    verdict = after(sample, ("DELETE FROM tile", ()))
    assert (verdict.words, verdict.first_bad) == ({"tiles"}, 0)
    for level, index in ((1, 1), (1, FAR), (2, 0), (3, 0), (7, 0)):
        added = ("INSERT INTO tile VALUES (?, ?, ?)", (level, index, bytes(32)))
        verdict = after(sample, added)
        assert (verdict.words, verdict.first_bad) == ({"tiles"}, sample.size())


def test_deleted_seals_leave_a_record_that_is_sealed_less_far(sample: Sample) -> None:
    """No row says that there was a seal: the rest holds, and the tail is reported as unsealed."""
    sizes = [row[0] for row in rows(sample, "seal")]
    for size in sizes:
        assert after(sample, ("DELETE FROM seal WHERE size = ?", (size,))).held
    sample.alter("DELETE FROM seal WHERE size = ?", (sizes[-1],))
    report = verify_store(sample.loaded, sample.keys)
    assert (report["held"], report["sealed"]) == (True, sizes[-2])
    unsealed = sizes[-1] - sizes[-2]
    assert any(check["detail"].startswith(f"{unsealed} entries") for check in detailed(report))
    sample.alter("DELETE FROM seal")
    assert "sealed" in sample.verify().words


def detailed(report: Any) -> list[dict[str, Any]]:
    """Return the checks that say more than their sentence."""
    return [check for check in report["checks"] if "detail" in check]


# ---------------------------------------------------------------------------------- swapped rows


def test_swapped_entries_are_named(sample: Sample) -> None:
    """Each neighbouring pair: whole rows, the bytes alone, the leaf hashes alone."""
    stored = rows(sample, "entry")
    for (first, *left), (second, *right) in itertools.pairwise(stored):
        for columns in (("raw", "leaf"), ("raw",), ("leaf",)):
            sets = ", ".join(f"{column} = ?" for column in columns)
            chosen = [("raw", "leaf").index(column) for column in columns]
            statement = f"UPDATE entry SET {sets} WHERE seq = ?"
            verdict = after(
                sample,
                (statement, (*(right[place] for place in chosen), first)),
                (statement, (*(left[place] for place in chosen), second)),
            )
            assert (verdict.held, verdict.raised, verdict.first_bad) == (False, False, first)


def test_swapped_seals_and_blobs_are_found(sample: Sample) -> None:
    """Each neighbouring pair: a seal under another size, bytes under another digest."""
    kept = rows(sample, "seal")
    for (first, *left), (second, *right) in itertools.pairwise(kept):
        statement = "UPDATE seal SET root = ?, note = ? WHERE size = ?"
        verdict = after(sample, (statement, (*right, first)), (statement, (*left, second)))
        assert "noted" in verdict.words
    naming, kept = named_first(sample), rows(sample, "blob")
    for (first, *left), (second, *right) in itertools.pairwise(kept):
        statement = "UPDATE blob SET salt = ?, data = ? WHERE digest = ?"
        verdict = after(sample, (statement, (*right, first)), (statement, (*left, second)))
        assert "matching" in verdict.words
        assert verdict.first_bad == min(naming[first], naming[second])


# ---------------------------------------------------------------------------------------- put in


def test_a_copy_of_an_entry_put_in_anywhere_is_named(sample: Sample) -> None:
    """At the end, far beyond it, at the last key that there can be, and below the first."""
    size = sample.size()
    for seq in range(size):
        for key, bad in ((size, size), (FAR, size), (LAST, size), (-1, 0), (-LAST, 0)):
            copied = "INSERT INTO entry SELECT ?, raw, leaf FROM entry WHERE seq = ?"
            verdict = after(sample, (copied, (key, seq)))
            assert (verdict.held, verdict.raised) == (False, False), (seq, key)
            assert verdict.first_bad == bad, (seq, key, verdict)


def test_a_forged_entry_is_named_unless_it_continues_an_unsealed_tail(sample: Sample) -> None:
    """What no seal covers is vouched for by nobody, and the report says how much that is."""
    size = sample.size()
    wrong = forged(sample, "5" * 64)
    insert = "INSERT INTO entry VALUES (?, ?, ?)"
    verdict = after(sample, (insert, (size, wrong, ledger.leaf_hash(wrong))))
    assert (verdict.words, verdict.first_bad) == ({"prev"}, size)
    right = forged(sample, rows(sample, "entry")[-1][2].hex())
    sample.alter(insert, (size, right, ledger.leaf_hash(right)))
    report = verify_store(sample.loaded, sample.keys)
    assert (report["held"], report["entries"], report["sealed"]) == (True, size + 1, size)


def test_a_forged_seal_is_found(sample: Sample) -> None:
    """Another key's, at a size that has none; a copy of a genuine one under another size."""
    leaves = [row[2] for row in rows(sample, "entry")]
    root = ledger.root_of(leaves[:5])
    insert = "INSERT INTO seal VALUES (?, ?, ?)"
    verdict = after(sample, (insert, (5, root, signed(sample, 5, root))))
    assert verdict.words == {"signature"}
    copied = "INSERT INTO seal SELECT size + 100, root, note FROM seal"
    assert "noted" in after(sample, (copied, ())).words


def test_a_blob_and_a_salt_that_nothing_names(sample: Sample) -> None:
    """A salt beside pinned bytes breaks a sentence; bytes that no entry names are not looked at."""
    named = named_first(sample)
    (digest,) = sample.project.sql("SELECT digest FROM blob WHERE salt = x'' LIMIT 1")[0]
    verdict = after(sample, ("UPDATE blob SET salt = x'00' WHERE digest = ?", (digest,)))
    assert (verdict.words, verdict.first_bad) == ({"matching"}, named[digest])
    insert = "INSERT INTO blob VALUES (?, x'', x'00')"
    assert after(sample, (insert, ("ab" * 32,))).held


@pytest.mark.parametrize(
    ("statement", "word"),
    [
        ("UPDATE entry SET leaf = x'' WHERE seq = 3", "leaf"),
        ("UPDATE entry SET leaf = CAST(leaf AS TEXT) || 'x' WHERE seq = 3", "leaf"),
        ("UPDATE entry SET raw = x'' WHERE seq = 3", "leaf"),
        (
            "UPDATE entry SET raw = CAST(replace(hex(zeroblob(60000)), '0', '[') AS BLOB)",
            "canonical",
        ),
        ("UPDATE seal SET note = x'ff'", "signature"),
        ("UPDATE seal SET note = 7, root = 7.5", "signature"),
        ("UPDATE blob SET data = CAST(data AS TEXT) || 'x'", "matching"),
        ("UPDATE blob SET data = 5, salt = 5.5", "matching"),
    ],
)
def test_a_value_of_another_kind_is_a_broken_sentence_and_no_error(
    sample: Sample, statement: str, word: str
) -> None:
    """Whoever writes to the file may leave anything in it."""
    if "60000" in statement:
        statement += " WHERE seq = 3"
    verdict = after(sample, (statement, ()))
    assert (verdict.held, verdict.raised) == (False, False), verdict
    assert word in verdict.words


# --------------------------------------------------------------------------------- chained again


@pytest.mark.parametrize("grown", [0, ledger.TILE_WIDTH + 4])
def test_a_tail_chained_again_breaks_the_root_and_signed_again_the_signature(
    sample: Sample, grown: int
) -> None:
    """From each entry on; tree and tiles are computed again as well."""
    if grown:
        sample.grow_to(grown)
    stored = rows(sample, "entry")
    sizes = [row[0] for row in rows(sample, "seal")]
    signed_by_agents = [row[0] for row in rows(sample, "signature")]
    assert signed_by_agents
    for seq in range(len(stored)) if not grown else (0, 200, grown - 1):
        changes = rechained(sample, seq)
        leaves = [row[2] for row in stored[:seq]] + [values[1] for _, values in changes]
        tiles: list[ledger.Tile] = []
        ledger.extend(ledger.Head(), leaves, tiles)
        changes += [
            ("UPDATE tile SET hash = ? WHERE level = ? AND idx = ?", (t.hash, t.level, t.index))
            for t in tiles
        ]
        verdict = after(sample, *changes)
        assert verdict.words - {"agents"} == ({"root", "roots"} if seq < sizes[-2] else {"root"}), (
            seq
        )
        assert ("agents" in verdict.words) is any(one >= seq for one in signed_by_agents), seq
        # Nobody misses signatures of agents that are gone; the seals still are over other roots.
        changes.append(("DELETE FROM signature", ()))
        assert after(sample, *changes).words == verdict.words - {"agents"}, seq
        for size in sizes:
            root = ledger.root_of(leaves[:size])
            values = (root, signed(sample, size, root), size)
            changes.append(("UPDATE seal SET root = ?, note = ? WHERE size = ?", values))
        assert after(sample, *changes).words == {"signature"}, seq


# ------------------------------------------------------------------------------------- truncated


def test_a_truncated_record_is_too_short_for_its_seals(sample: Sample) -> None:
    """At every length; with the seals beyond it gone as well, it is a record that ends earlier."""
    size = sample.size()
    for length in range(size):
        cut = ("DELETE FROM entry WHERE seq >= ?", (length,))
        verdict = after(sample, cut)
        assert ("length" in verdict.words, verdict.first_bad) == (True, length)
        seals = ("DELETE FROM seal WHERE size > ?", (length,))
        signatures = ("DELETE FROM signature WHERE seq >= ?", (length,))
        assert after(sample, cut, seals, signatures).held is (length > 0), length
        # Signatures of agents that were left behind have nothing that they are over.
        left = {row[0] for row in rows(sample, "signature") if row[0] >= length}
        assert ("agents" in after(sample, cut, seals).words) is bool(left and length), length
