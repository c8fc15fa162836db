"""Lines for a terminal or for what stands in its place, as click writes them, without its import.

Styles are written into the text and taken out again where nobody wants them.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from typing import Final

#: The colours that are used here -> their SGR code.
_COLOURS: Final[Mapping[str, int]] = {"red": 31, "green": 32, "yellow": 33}
#: A control sequence, as click knows it.
_SEQUENCE: Final = r"\x1b\[[0-?]*[ -/]*[@-~]"


def echo(text: str = "", *, err: bool = False) -> None:
    """Write a line and flush it; styles stay on a terminal, unless NO_COLOR is set."""
    stream = sys.stderr if err else sys.stdout
    # A process may have been started with a stream closed.
    if stream is None:
        return
    if "\x1b" in text and (os.environ.get("NO_COLOR") or not stream.isatty()):
        text = re.sub(_SEQUENCE, "", text)
    stream.write(f"{text}\n")
    stream.flush()


def style(text: str, *, fg: str | None = None, bold: bool = False) -> str:
    """Return text in a colour, in bold, or both."""
    codes = ([_COLOURS[fg]] if fg else []) + [1] * bold
    return "".join(f"\x1b[{code}m" for code in codes) + f"{text}\x1b[0m"
