"""Tells operators of events that could not be read: at once, then in counts."""

from __future__ import annotations

from collections import Counter
from typing import Final

from runwright.kernel.drive.inflow import Taken
from runwright.kernel.ports import Clock, Messages
from runwright.kernel.workload import Flow

#: Seconds between two lines about them.
EVERY_S: Final = 1.0


class Unread:
    """Counts what was kept as an event that could not be read, and says why the newest was one."""

    def __init__(self, flow: Flow, name: str, messages: Messages, clock: Clock) -> None:
        """Count for the stream `name`."""
        self._flow = flow
        self._name = name
        self._messages = messages
        self._clock = clock
        #: Source -> how many were not told yet.
        self._more: Counter[str] = Counter()
        #: Source -> why one of its events could not be read.
        self._why: dict[str, str] = {}
        self._told_s: float | None = None
        #: How many there were since the start.
        self.count = 0

    def take(self, taken: Taken) -> None:
        """Look at a block of events."""
        kind = self._flow.unread
        found = {source: count for (source, each), count in taken.tally.items() if each == kind}
        if not found:
            return
        self.count += sum(found.values())
        self._more.update(found)
        now_s = self._clock.monotonic_s()
        if self._told_s is None or now_s - self._told_s >= EVERY_S:
            if len(found) == 1:
                # Of several sources nobody knows here whose the first one is.
                why = next(filter(None, map(self._flow.why_unread, taken.items)), "")
                self._why[next(iter(found))] = why
            self._told_s = now_s
            self.tell()

    def tell(self) -> None:
        """Tell what was counted and not told."""
        more, self._more = self._more, Counter()
        for source, count in sorted(more.items()):
            what = f"{count} event{'s' * (count > 1)} of {source} could not be read"
            text = f"{what}, and {'is' if count == 1 else 'are'} kept as {self._flow.unread}"
            if why := self._why.get(source):
                text += f": {why}" if count == 1 else f"; one: {why}"
            fields = {"name": self._name, "source_id": source, "count": count}
            self._messages("events.unread", text, level="warning", **fields)
