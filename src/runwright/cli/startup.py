"""What is imported before anything else, and how."""

from __future__ import annotations

import sys


def import_msgspec() -> None:
    """Import msgspec without typing_extensions, which takes 10 ms where it is installed.

    It asks for two names of it that `typing` has too, and takes those where it is not there.
    """
    name = "typing_extensions"
    if name in sys.modules:
        return
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        import msgspec  # noqa: F401  # lazy: `--version` and `--help` need none
    finally:
        del sys.modules[name]
