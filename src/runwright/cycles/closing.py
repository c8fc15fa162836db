"""The end of a cycle, whose room is imported while the first function runs."""

from __future__ import annotations

from typing import Any

from runwright.kernel.workload import Closed, Kept


def reconcile(closed: Closed, tables: Kept) -> list[Any]:
    """Return what was found of a judged cycle, and what it asks of people."""
    from runwright.cycles.reconcile import reconcile as compare  # lazy: a child runs meanwhile

    return compare(closed, tables)
