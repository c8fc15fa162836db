"""Projects for the command given by hand."""

from __future__ import annotations

from tests.e2e.fixtures import initialised, project

__all__ = ["initialised", "project"]
