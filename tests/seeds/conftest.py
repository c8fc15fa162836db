"""Projects for the tests of the command line."""

from __future__ import annotations

from tests.e2e.fixtures import initialised, project

__all__ = ["initialised", "project"]
