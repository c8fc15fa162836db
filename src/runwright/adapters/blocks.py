"""Statements in .sql files: named blocks, `-- name: NAME` on a line and the statement below it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def blocks(file: str | Path) -> Mapping[str, str]:
    """Return the named blocks of an .sql file."""
    text = Path(file).read_text(encoding="utf-8")
    found = (block.partition("\n") for block in text.split("-- name: ")[1:])
    return {name.strip(): body.strip() for name, _, body in found}
