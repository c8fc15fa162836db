"""Runs you can answer for: planned before they execute, sealed after, open to anyone's check."""

from __future__ import annotations

__version__ = "0.1.0"
