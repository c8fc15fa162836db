"""Messages for operators: an event name and fields, as text for people or as JSON lines."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any, Final, Literal, TextIO

import msgspec

from runwright.kernel.ports import Clock

_LEVELS: Final[Mapping[str, int]] = {"debug": 10, "info": 20, "warning": 30, "error": 40}


class Lines:
    """The Messages port on a text stream."""

    def __init__(
        self,
        stream: TextIO,
        clock: Clock,
        *,
        form: Literal["human", "json"] = "human",
        level: str = "info",
    ) -> None:
        """Write messages of at least this level."""
        self._stream = stream
        self._clock = clock
        self._form = form
        self._least = _LEVELS[level]

    def __call__(
        self, event: str, text: str = "", /, *, level: str = "info", **fields: Any
    ) -> None:
        """Write one message."""
        if _LEVELS[level] < self._least:
            return
        if self._form == "json":
            line = msgspec.json.encode(
                {"ts": self._clock.now_ms(), "level": level, "event": event, "text": text, **fields}
            ).decode()
        else:
            words = " ".join(f"{name}={value}" for name, value in fields.items())
            mark = "" if level == "info" else f"{level}: "
            line = " ".join(part for part in (mark + (text or event), words) if part)
        # What is under way does not end because nobody can be told: the record is what counts.
        with contextlib.suppress(OSError):
            self._stream.write(line + "\n")
            self._stream.flush()


def silent(event: str, text: str = "", /, *, level: str = "info", **fields: Any) -> None:
    """Write nothing."""
