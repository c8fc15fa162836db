"""How the tests of sources read one to its end."""

from __future__ import annotations

NOW_MS = 1_700_000_000_123


def now_ms():
    """Return an instant that does not pass."""
    return NOW_MS


def taken(source, most=700):
    """Return all that a source brings until it has nothing."""
    items = []
    while (arrival := source.poll(most)) is not None:
        assert len(arrival.items) <= most
        items += arrival.items
    return items
