"""The stores of the suite, for every file of it."""

from __future__ import annotations

from tests.conformance.test_store import store

__all__ = ["store"]
