"""Writes the schemas and the page that are made from the contracts: `python -m` this module.

With `--freeze` the frozen copies take up what was added since; what breaks version 1 is refused.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from runwright.streams.page import contracts_page
from runwright.streams.schema import breaks, schema_files
from tests.tidy.tree import REPOSITORY

SCHEMAS = REPOSITORY / "src/runwright/streams/schemas"
FROZEN = Path(__file__).parent / "frozen"
PAGE = REPOSITORY / "docs/reference/stream-contracts.md"


def write() -> None:
    """Write what is made from the contracts."""
    SCHEMAS.mkdir(exist_ok=True)
    for name, data in schema_files().items():
        (SCHEMAS / name).write_bytes(data)
    PAGE.write_text(contracts_page(), encoding="utf-8")


def freeze() -> list[str]:
    """Freeze what was added; return what breaks the frozen version, which is then left alone."""
    FROZEN.mkdir(exist_ok=True)
    broken = [
        f"{name}: {found}"
        for name, data in schema_files().items()
        if (FROZEN / name).exists()
        for found in breaks(json.loads((FROZEN / name).read_bytes()), json.loads(data))
    ]
    for name, data in schema_files().items() if not broken else ():
        (FROZEN / name).write_bytes(data)
    return broken


if __name__ == "__main__":
    write()
    problems = freeze() if "--freeze" in sys.argv else []
    sys.exit("\n".join(problems) or None)
