"""When a stream ticks and which records each run gets: pure functions of the log and the spec.

A tick's cut ends at cut_end = max{ingest_seq : ingest_ts_ms <= planned_ts_ms}, and the cut of a
symbol starts after its last one. So no thread, pause or restart can change a cut, and whoever has
the log and the spec derives the whole plan again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from runwright.kernel.run import Memory
from runwright.streams.spec import StreamSpec, anchor_of


class Grid(msgspec.Struct, frozen=True, kw_only=True):
    """The instants at which a stream ticks: anchor + k * interval + delay, epoch ms."""

    #: How the runs of these ticks were cut: `cut_kind`.
    mode: Literal["timer", "boundary"]
    interval_ms: int
    #: boundary: how long after the boundary the tick is planned.
    delay_ms: int = 0
    #: timer: the instant that the grid goes through.
    anchor_ms: int = 0

    def next_after(self, instant_ms: int) -> int:
        """Return the first planned instant after an instant."""
        origin_ms = self.anchor_ms + self.delay_ms
        return origin_ms + ((instant_ms - origin_ms) // self.interval_ms + 1) * self.interval_ms

    def first(self, opened_ms: int) -> int:
        """Return the first planned instant of a stream that was opened at an instant.

        A timer starts there, or at its anchor; a boundary is strictly the next one.
        """
        return self.next_after(opened_ms - 1 if self.mode == "timer" else opened_ms)

    def engine_timestamp_ms(self, planned_ms: int) -> int:
        """Return the instant that the engine is asked about."""
        return planned_ms - self.delay_ms


def grid_of(spec: StreamSpec, opened_ms: int) -> Grid:
    """Return the grid of a spec; a timer without an anchor starts from the instant of opening."""
    scheduler = spec.scheduler
    return Grid(
        mode=scheduler.mode,
        interval_ms=scheduler.interval_ms,
        delay_ms=scheduler.boundary_delay_ms if scheduler.mode == "boundary" else 0,
        anchor_ms=anchor_of(scheduler, spec.engine.alignment_ms, opened_ms),
    )


def next_planned(spec: StreamSpec, last_ms: int | None, opened_ms: int) -> int:
    """Return the instant at which the tick after `last_ms` has to stand."""
    grid = grid_of(spec, opened_ms)
    return grid.first(opened_ms) if last_ms is None else grid.next_after(last_ms)


def cut_start(symbol: str, memory: Mapping[str, Memory], first: Mapping[str, Any], end: int) -> int:
    """Return where a symbol's cut starts: after its last one, or at its first record.

    Without any record up to `end` the cut is empty: it starts at end + 1.
    """
    before = memory.get(symbol)
    if before is not None:
        return int(before["cut_end"]) + 1
    return int(first.get(symbol, end + 1))
