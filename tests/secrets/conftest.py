"""Projects whose functions are granted canaries."""

from __future__ import annotations

from tests.e2e.fixtures import initialised, project

__all__ = ["initialised", "project"]
