"""What is imported before anything else, and how; and what only once something of it is used.

Commands start often and end soon, so what a library imports for its rare uses is felt: a third of
what `run` does before its first child would be such imports.
"""

from __future__ import annotations

import os
import sys
from types import ModuleType
from typing import Any, Final

#: Modules that others import, and that few commands use: 15 ms on a slow machine.
LATER: Final = ("ipaddress", "msgspec.inspect", "platform", "textwrap")


class Later(ModuleType):
    """Stands for a module until something of it is asked for, and imports it then."""

    def __getattr__(self, name: str) -> Any:
        """Return what the module has of this name."""
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        __import__(self.__name__)
        return getattr(sys.modules[self.__name__], name)


def put_off() -> None:
    """Have modules imported when they are used, those of `LATER` that nobody imported yet."""
    for name in LATER:
        if name not in sys.modules:
            sys.modules[name] = Later(name)
    later = sys.modules["platform"]
    if isinstance(later, Later) and hasattr(os, "uname"):
        # `uuid`, which msgspec imports, asks for it at once.
        later.__dict__["system"] = lambda: os.uname().sysname


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
