"""When a cron expression fires: wall-clock times of a zone, as instants.

Whoever matches wall times alone loses or doubles occurrences when clocks change. Two kinds of
expression need two rules (Vixie cron, Debian's cron(8)):

- fixed time (no `*` and no `/` in minute and hour): a date has each of its times once. A time
  inside a gap and a time that exists twice are settled by `Dst`.
- any other: elapsed time. It fires whenever the clock on the wall shows a match: never inside a
  gap, both times in a repeated hour. `0 * * * *` across the 30-minute change of Lord Howe Island
  fires at each full local hour, so two of its distances are 90 minutes.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from heapq import heappop, heappush
from typing import Final

from runwright.kernel.errors import InvalidSpec
from runwright.kernel.run import Dst

#: A cron schedule has no occurrence before the epoch or from this year on.
YEAR_END: Final = 9000
#: An expression without an occurrence in this many years has none. cronsim stops there too; the
#: rarest real ones, such as a Sunday 29 February across the year 2100, wait 40 years.
SEARCH_YEARS: Final = 50
#: The longest expression, in characters; far above any that a person can read.
EXPRESSION_MAX: Final = 256

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND: Final = timedelta(milliseconds=1)
SECOND: Final = timedelta(seconds=1)
#: Where `check_cron` looks from: after the changes that tzdata lists, under each standing rule.
STANDING: Final = datetime(2037, 1, 1, tzinfo=UTC)
#: No zone has moved its clocks back by more than this since the epoch.
LOOK_AHEAD: Final = timedelta(hours=24)
#: The system's own files under the zone folder: another zone on another host, or leap seconds.
HOST_ZONES: Final = ("localtime", "posixrules", "posix/", "right/")


ELAPSED: Final = Dst(gap="skip", overlap="both")


def check_cron(expression: str, *, timezone: str, dst: Dst) -> None:
    """Refuse a cron expression or a zone that cannot be used.

    Raises:
        InvalidSpec: `cron` is not five fields that cronsim reads, or never fires; `timezone` is
            no IANA name.

    """
    _zone(timezone)
    if len(expression) > EXPRESSION_MAX:
        raise InvalidSpec(f"schedule.cron: longer than {EXPRESSION_MAX} characters")
    if len(expression.split()) != 5:  # noqa: PLR2004 - the five fields are in the message
        raise InvalidSpec(
            f"schedule.cron: {expression!r} is not the five fields minute, hour, day of month, "
            "month, day of week"
        )
    after_ms = (STANDING - EPOCH) // MILLISECOND
    found = instants(expression, timezone=timezone, dst=dst, after_ms=after_ms)
    if next(found, None) is None:
        raise InvalidSpec(f"schedule.cron: {expression!r} never fires in {timezone}")


def instants(expression: str, *, timezone: str, dst: Dst, after_ms: int) -> Iterator[int]:
    """Yield the occurrences after an instant in epoch ms, rising, each once.

    Times that a gap shifts to one instant are one occurrence.

    Raises:
        InvalidSpec: the expression or the zone cannot be read.

    """
    zone = _zone(timezone)
    policy = dst if is_fixed_time(expression) else ELAPSED
    after_ms = max(after_ms, -1)
    start = EPOCH + min(after_ms, _year_start_ms(YEAR_END)) * MILLISECOND
    pending: list[int] = []
    year = start.year
    for wall in _walls(expression, _earliest_wall(start, zone)):
        if wall.year >= YEAR_END or wall.year > year + SEARCH_YEARS:
            break
        meeting = _Meeting(wall, zone)
        for moment_ms in meeting.chosen(policy):
            heappush(pending, moment_ms)
        # No later wall time comes before this one does first, so all until then is complete.
        while pending and pending[0] <= meeting.first_ms:
            if (moment_ms := heappop(pending)) > after_ms:
                after_ms, year = moment_ms, wall.year
                yield moment_ms
    yield from (moment_ms for moment_ms in sorted(set(pending)) if moment_ms > after_ms)


def is_fixed_time(expression: str) -> bool:
    """Tell whether minute and hour are values, lists and ranges, without `*` and `/`."""
    return not any(sign in field for field in expression.split()[:2] for sign in "*/")


class _Meeting:
    """Where a wall time of a zone meets the time line: once, twice, or in a gap.

    `first_ms` is the first instant at which the clock on the wall shows that time or, in a gap, a
    later one; `second_ms` is another instant only where the time exists twice.
    """

    def __init__(self, wall: datetime, zone: tzinfo) -> None:
        # PEP 495: `fold` chooses between the offset before and the one after the change.
        before = wall.replace(tzinfo=zone).utcoffset() or timedelta()
        after = wall.replace(tzinfo=zone, fold=1).utcoffset() or timedelta()
        self.is_gap = before < after
        elapsed = wall - EPOCH
        self.first_ms = (elapsed - before) // MILLISECOND
        self.second_ms = (elapsed - after) // MILLISECOND
        if self.is_gap:
            # The clock jumps between these two instants; the whole second of it is searched.
            seconds = range((elapsed - after) // SECOND, (elapsed - before) // SECOND)
            jump = bisect_left(seconds, wall, key=lambda second: _wall_at(second, zone))
            self.first_ms = self.second_ms = (seconds.start + jump) * 1000

    def chosen(self, dst: Dst) -> tuple[int, ...]:
        if self.is_gap:
            return (self.first_ms,) if dst.gap == "shift" else ()
        if self.first_ms == self.second_ms or dst.overlap == "first":
            return (self.first_ms,)
        return (self.second_ms,) if dst.overlap == "last" else (self.first_ms, self.second_ms)


def _walls(expression: str, start: datetime) -> Iterator[datetime]:
    """Yield matching wall times after one, labelled UTC so that cronsim moves no clock."""
    from cronsim import CronSim, CronSimError  # lazy: only cron schedules need it

    try:
        return CronSim(expression, start)
    except CronSimError as error:
        raise InvalidSpec(f"schedule.cron: {expression!r}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    words = str(error)
    if words == "Bad day-of-month":
        return f"{words}, or a day that none of its months has"
    return words


def _earliest_wall(start: datetime, zone: tzinfo) -> datetime:
    """Return a wall time before every one that is shown after an instant."""
    offset = start.astimezone(zone).utcoffset() or timedelta()
    ahead = (start + LOOK_AHEAD).astimezone(zone).utcoffset() or timedelta()
    return start + min(offset, ahead)


def _wall_at(second: int, zone: tzinfo) -> datetime:
    return (EPOCH + second * SECOND).astimezone(zone).replace(tzinfo=UTC, fold=0)


def _year_start_ms(year: int) -> int:
    return (EPOCH.replace(year=year) - EPOCH) // MILLISECOND


def _zone(name: str) -> tzinfo:
    import zoneinfo  # lazy: only cron schedules need it

    try:
        if name.startswith(HOST_ZONES):
            raise ValueError(name)
        return zoneinfo.ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise InvalidSpec(f"schedule.timezone: {name!r} is no IANA time zone") from error
