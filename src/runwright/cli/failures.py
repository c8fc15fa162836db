"""Tells people of runs that fail again and again: the first at once, then how many more there were.

History of years fails thousands of runs for one reason. Each of them is on the record and in the
JSON lines; a person reads one line a second for each symbol and kind of error.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from runwright.kernel.ports import Messages

#: Seconds between two lines about one symbol and kind of error.
EVERY_S: Final = 1.0
_EVENT: Final = "orchestrator.failure"


class _Failing(msgspec.Struct):
    """One symbol that fails in one way."""

    told_s: float
    #: How many were not told since, and the newest of them.
    more: int = 0
    level: str = ""
    fields: dict[str, Any] = {}


class Failures:
    """The Messages port over another one; what is no failure of a run passes as it is."""

    def __init__(self, say: Messages, monotonic_s: Callable[[], float]) -> None:
        """Tell through `say`."""
        self._say = say
        self._monotonic_s = monotonic_s
        #: (symbol, error_kind) -> how it stands.
        self._failing: dict[tuple[str, str], _Failing] = {}

    def __call__(
        self, event: str, text: str = "", /, *, level: str = "info", **fields: Any
    ) -> None:
        """Write a message, or count it and write the count when it is time to."""
        if event != _EVENT or "run_id" not in fields:
            if event == "stream.stopped":
                self.close()
            self._say(event, text, level=level, **fields)
            return
        key, now_s = (fields["symbol"], fields["error_kind"]), self._monotonic_s()
        failing = self._failing.get(key)
        if failing is None or (not failing.more and now_s - failing.told_s >= EVERY_S):
            self._failing[key] = _Failing(told_s=now_s)
            self._say(event, text, level=level, **fields)
            return
        failing.more += 1
        failing.level, failing.fields = level, fields
        self._tell_due(failing, now_s)

    def pulse(self) -> float | None:
        """Write the counts that are due; return seconds until the next is, None: nothing waits."""
        now_s = self._monotonic_s()
        for failing in self._failing.values():
            self._tell_due(failing, now_s)
        waiting = (failing.told_s for failing in self._failing.values() if failing.more)
        told_s = min(waiting, default=None)
        return None if told_s is None else max(0.0, told_s + EVERY_S - now_s)

    def close(self) -> None:
        """Write what was counted and not told."""
        for failing in self._failing.values():
            self._tell(failing, self._monotonic_s())

    def _tell_due(self, failing: _Failing, now_s: float) -> None:
        if now_s - failing.told_s >= EVERY_S:
            self._tell(failing, now_s)

    def _tell(self, failing: _Failing, now_s: float) -> None:
        more, fields = failing.more, failing.fields
        if not more:
            return
        text = ""
        if more > 1:
            text = f"{_EVENT} ... and {more} more"
            names = ("failure_domain", "error_kind", "symbol", "engine_timestamp_ms")
            fields = {name: fields[name] for name in names}
        self._say(_EVENT, text, level=failing.level, **fields)
        failing.told_s, failing.more = now_s, 0
