"""Why a history cannot be taken in with its spec: decided before the events are in the log.

Its time is that of its events, so a mistake in them is not waited for but conducted: as millions of
ticks, or as one that never comes due.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Final

import msgspec

from runwright.kernel.drive.inflow import Taken
from runwright.kernel.drive.log import Log
from runwright.kernel.errors import InvalidSpec
from runwright.kernel.run import instant_text

#: What stamps of one unit never do from one event to the next: step over ten years, to a hundred
#: times the milliseconds since 1970 or more. From seconds to milliseconds it is a thousand times.
STEP_MIN_MS: Final = 10 * 365 * 86_400_000
STEP_TIMES_MIN: Final = 100
#: Between March 1973 and the year 5138: now in seconds lies before, in microseconds after it.
USUAL_MS: Final = range(10**11, 10**14)


def step_of(before_ms: int, stamps: Sequence[int]) -> int | None:
    """Return the place of the first stamp that is of another unit than the one before it.

    `before_ms` stands before them. None: they are of one unit; what is no event, 0, has none. Only
    the ends are looked at, but where a history begins or steps.
    """
    if not stamps or stamps[-1] < max(STEP_MIN_MS, STEP_TIMES_MIN * before_ms):
        return None
    for place in range(bisect_right(stamps, 0), len(stamps)):
        stamp_ms = stamps[place]
        is_far = stamp_ms - before_ms >= STEP_MIN_MS and stamp_ms >= STEP_TIMES_MIN * before_ms
        if is_far and before_ms > 0:
            return place
        before_ms = stamp_ms
    return None


def two_units(log: Log, taken: Taken) -> InvalidSpec | None:
    """Return why events cannot follow those of a log; None: their stamps are of one unit."""
    stamps = taken.stamps or ()
    place = step_of(log.last_ms, stamps)
    if place is None:
        return None
    event, before_ms = msgspec.json.decode(taken.items[place]), (log.last_ms, *stamps)[place]
    message = (
        f"source {event.get('source_id')}: recv_ts_ms of record {log.last_seq + place + 1} is "
        f"{stamps[place]}, and that of the record before it {before_ms}: one of them is not in "
        "milliseconds since 1970, and each interval between them would be a tick"
    )
    hint = "Mend what brings it, or say in `time_unit` of its mapping how instants are written."
    if 0 < log.last_ms < USUAL_MS.start:
        hint += " The log begins with the other unit: apply the spec under another name."
    else:
        hint += " Nothing of it was taken in: then run again."
    return InvalidSpec(message, hint=hint)


def no_room(log: Log, cut_seq: int, next_ms: int | None) -> InvalidSpec:
    """Return why a log that is full stays so: the next tick waits for events behind it."""
    which = f", {instant_text(next_ms)}," if next_ms is not None else ""
    message = (
        f"buffer_retention.max_records: the log is full with {log.last_seq - log.retired_seq} "
        f"records, and the next tick{which} is due only after later ones: "
        f"{log.last_seq - cut_seq} came since the last tick, and none can be retired"
    )
    if log.limits.max_age_ms is None:
        message += " without buffer_retention.max_age_ms"
    hint = (
        "Raise buffer_retention.max_records, let old records go with max_age_ms, or shorten "
        "the interval of `scheduler`; apply the spec and run again: it goes on where it is, "
        "and nothing was lost."
    )
    return InvalidSpec(message, hint=hint)
