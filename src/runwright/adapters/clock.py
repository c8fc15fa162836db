"""The machine's clock and its source of chance: the only place that reads either."""

from __future__ import annotations

import os
import time


class SystemClock:
    """The Clock port on the operating system."""

    def now_ms(self) -> int:
        """Return the wall clock, epoch ms."""
        return time.time_ns() // 1_000_000

    def monotonic_s(self) -> float:
        """Return a clock that never goes back, seconds."""
        return time.monotonic()

    def entropy(self, size: int) -> bytes:
        """Return random bytes from the operating system."""
        return os.urandom(size)
