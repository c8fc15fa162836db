"""What is due: a pure function of a schedule, the last recorded occurrence and the time now.

Every occurrence after the last recorded one and until now is fired, left waiting, or passed over
with a reason; none is produced twice and none is lost, however rarely somebody asks. The grid of
an interval hangs on its anchor, never on when work ended, so nothing drifts.

Instants are epoch milliseconds. The caller reads the clock, and records a decision before it
acts: first `passed`, then `fire` in order. After a crash in between, the same question gives the
rest again, and the misfire policy settles what is late by then.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import count, islice, takewhile
from typing import Final, Literal, NamedTuple, TypeAlias

import msgspec

from runwright.kernel.drive.cron import EPOCH, MILLISECOND, check_cron, instants
from runwright.kernel.errors import InvalidSpec
from runwright.kernel.run import Dst, Schedule, instant_text

#: An occurrence seen less than this after its instant is on time.
GRACE_MS: Final = 1_000
#: The most occurrences of a cron schedule that one decision looks at: a week of minutes, and a
#: quarter of a second of work. A longer outage is settled by several decisions. An interval is
#: counted, not walked.
SCAN_MAX: Final = 10_000
#: The largest number of seconds in a schedule: ten years.
SECONDS_MAX: Final = 10 * 366 * 86_400
#: The largest `misfire.max`, and the largest `pause_on_failures`.
COUNT_MAX: Final = 1_000

#: Where the grid of an interval hangs unless the schedule says otherwise: the epoch.
ANCHOR: Final = "1970-01-01T00:00:00Z"

PassedStatus: TypeAlias = Literal["MISSED", "SKIPPED"]
PassedReason: TypeAlias = Literal["misfire", "overlap", "window", "paused", "deadline"]


class Passed(msgspec.Struct, frozen=True, kw_only=True):
    """Neighbouring occurrences that do not run, for one reason."""

    #: The first and the last of them, epoch ms.
    first_ms: int
    last_ms: int
    #: How many there are, both ends counted.
    count: int
    #: MISSED: it was not seen or not started in time. SKIPPED: it was seen and left out.
    status: PassedStatus
    reason: PassedReason


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What must be recorded now. All of `passed` comes before `fire` or `waiting_ms`."""

    #: The occurrences to run, rising: one after the other, or side by side under overlap `allow`.
    #: Until the last one is recorded, ask with `last_ms` = that one, or they are judged anew.
    fire: tuple[int, ...] = ()
    #: The occurrences that do not run, rising, neighbours of one reason merged.
    passed: tuple[Passed, ...] = ()
    #: The occurrence that waits for the run under way (overlap `queue_one`). It is not recorded:
    #: ask again with `queued` when a newer one is due (which takes its place) or the run ended.
    waiting_ms: int | None = None
    #: When to ask again: at the next occurrence, or at once (now) when an outage was too long for
    #: one decision. None: never by itself, since nothing is left or the schedule is paused.
    next_ms: int | None = None


class _Limit(NamedTuple):
    """How late an occurrence may start."""

    ms: int
    reason: PassedReason


def check(schedule: Schedule) -> None:
    """Refuse a schedule that contradicts itself or never fires.

    Raises:
        InvalidSpec: naming the key and the reason.

    """
    given = [key for key in ("once_at", "interval_s", "cron") if getattr(schedule, key) is not None]
    if len(given) != 1:
        found = " and ".join(given) or "none"
        raise InvalidSpec(
            f"schedule: give exactly one of once_at, interval_s and cron, not {found}"
        )
    _check_owned_keys(schedule)
    _check_number("interval_s", schedule.interval_s, 1, SECONDS_MAX)
    _check_number("misfire.window_s", schedule.misfire.window_s, 1, SECONDS_MAX)
    _check_number("misfire.max", schedule.misfire.max, 1, COUNT_MAX)
    _check_number("deadline_s", schedule.deadline_s, 1, SECONDS_MAX)
    _check_number("pause_on_failures", schedule.pause_on_failures, 0, COUNT_MAX)
    if schedule.misfire.policy == "all" and schedule.misfire.window_s is None:
        raise InvalidSpec(
            "schedule.misfire.window_s: policy all needs it, for one period holds one occurrence"
        )
    _instant("anchor", schedule.anchor or ANCHOR)
    if schedule.once_at is not None:
        _instant("once_at", schedule.once_at)
    if schedule.cron is not None:
        check_cron(schedule.cron, timezone=schedule.timezone, dst=schedule.dst)


def next_after(schedule: Schedule, after_ms: int) -> int | None:
    """Return the first occurrence strictly after an instant, or None when there is none."""
    return next(_after(schedule, after_ms), None)


def occurrences(schedule: Schedule, after_ms: int, until_ms: int) -> Iterator[int]:
    """Yield the occurrences after one instant and until another, that one included."""
    return takewhile(lambda moment_ms: moment_ms <= until_ms, _after(schedule, after_ms))


def start_of(since_ms: int) -> int:
    """Return the whole second in which a schedule came into force.

    The grid of an interval hangs on it, so its first occurrence is due at once.
    """
    return since_ms // 1000 * 1000


def anchored(schedule: Schedule, applied_ms: int) -> Schedule:
    """Return the schedule with the grid of an interval hung on when its spec was first applied.

    A schedule that names an anchor keeps it.
    """
    if schedule.interval_s is None or schedule.anchor:
        return schedule
    return msgspec.structs.replace(schedule, anchor=instant_text(applied_ms))


def with_failures(schedule: Schedule, failures: int) -> Schedule:
    """Return the schedule as it stands after failures in a row: disabled once they are enough."""
    if 0 < schedule.pause_on_failures <= failures:
        return msgspec.structs.replace(schedule, enabled=False)
    return schedule


def due(
    schedule: Schedule,
    *,
    last_ms: int | None,
    start_ms: int,
    now_ms: int,
    running: bool = False,
    queued: bool = False,
) -> Decision:
    """Decide what becomes of every occurrence since the last recorded one.

    `start_ms` is when the schedule came into force: nothing before it is due. `running` says that
    a run of it is under way; `queued` that the decision before left an occurrence waiting, so its
    lag is no misfire. A paused schedule wants no waking: ask once before it goes on (or from time
    to time), and the pause is one record.
    """
    after_ms = start_ms - 1 if last_ms is None else max(last_ms, start_ms - 1)
    overdue = _between(schedule, after_ms, now_ms)
    is_cut = schedule.cron is not None and len(overdue) == SCAN_MAX
    if not schedule.enabled:
        skipped = _passed(overdue, "SKIPPED", "paused")
        return Decision(passed=skipped, next_ms=now_ms if is_cut else None)
    waited = queued and schedule.overlap == "queue_one"
    limit = _limit(schedule, waited=waited)
    too_late = 0 if limit is None else bisect_left(overdue, now_ms - limit.ms)
    keep = 1 if waited else _keep(schedule, overdue, now_ms)
    begin = max(too_late, len(overdue) - keep)
    passed = (
        *_passed(overdue[:too_late], "MISSED", limit.reason if limit else "misfire"),
        *(
            _passed(overdue[too_late:begin], "SKIPPED", "overlap")
            if waited
            else _passed(overdue[too_late:begin], "MISSED", "misfire")
        ),
    )
    if is_cut:
        # The newest is further on, so nothing fires yet, and what might is not recorded.
        return Decision(passed=passed, next_ms=now_ms)
    ready = tuple(overdue[begin:])
    next_ms = next_after(schedule, max(after_ms, now_ms))
    if not running or schedule.overlap == "allow":
        return Decision(fire=ready, passed=passed, next_ms=next_ms)
    waiting = ready[-1:] if schedule.overlap == "queue_one" else ()
    passed += _passed(ready[: len(ready) - len(waiting)], "SKIPPED", "overlap")
    return Decision(passed=passed, waiting_ms=max(waiting, default=None), next_ms=next_ms)


def _limit(schedule: Schedule, *, waited: bool) -> _Limit | None:
    limits = []
    if schedule.deadline_s is not None:
        limits.append(_Limit(schedule.deadline_s * 1000, "deadline"))
    if schedule.misfire.window_s is not None and not waited:
        limits.append(_Limit(schedule.misfire.window_s * 1000, "window"))
    return min(limits, default=None)


def _keep(schedule: Schedule, overdue: Sequence[int], now_ms: int) -> int:
    """Return how many of the newest the misfire policy lets run, the one on time included."""
    if schedule.misfire.policy == "all":
        return schedule.misfire.max
    if schedule.misfire.policy == "latest":
        return 1
    return int(len(overdue) > 0 and now_ms - overdue[-1] < GRACE_MS)


def _passed(
    moments: Sequence[int], status: PassedStatus, reason: PassedReason
) -> tuple[Passed, ...]:
    if not moments:
        return ()
    first_ms, last_ms = moments[0], moments[-1]
    counted = len(moments)
    return (
        Passed(first_ms=first_ms, last_ms=last_ms, count=counted, status=status, reason=reason),
    )


def _between(schedule: Schedule, after_ms: int, until_ms: int) -> Sequence[int]:
    """Return the occurrences of a span: of an interval all of them, unwalked; else SCAN_MAX."""
    if schedule.interval_s is not None:
        first_ms = _first_on_grid(schedule.anchor, schedule.interval_s, after_ms)
        return range(first_ms, until_ms + 1, schedule.interval_s * 1000)
    return list(islice(occurrences(schedule, after_ms, until_ms), SCAN_MAX))


def _after(schedule: Schedule, after_ms: int) -> Iterator[int]:
    if schedule.interval_s is not None:
        first_ms = _first_on_grid(schedule.anchor, schedule.interval_s, after_ms)
        return count(first_ms, schedule.interval_s * 1000)
    if schedule.cron is not None:
        return instants(
            schedule.cron, timezone=schedule.timezone, dst=schedule.dst, after_ms=after_ms
        )
    once_ms = _instant("once_at", schedule.once_at or "")
    return iter([once_ms] if once_ms > after_ms else [])


def _first_on_grid(anchor: str, interval_s: int, after_ms: int) -> int:
    anchor_ms, interval_ms = _instant("anchor", anchor or ANCHOR), interval_s * 1000
    return after_ms + interval_ms - (after_ms - anchor_ms) % interval_ms


def _instant(key: str, text: str) -> int:
    """Return epoch ms, exactly."""
    try:
        moment = msgspec.convert(text, datetime)
    except msgspec.ValidationError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise InvalidSpec(
            f"schedule.{key}: {text!r} is no instant such as 2026-03-29T06:00:00Z or "
            "2026-03-29T06:00:00+02:00"
        )
    if moment.microsecond % 1000:
        raise InvalidSpec(f"schedule.{key}: {text!r} is finer than a millisecond")
    return (moment - EPOCH) // MILLISECOND


def _check_owned_keys(schedule: Schedule) -> None:
    """Refuse a key that would have no effect."""
    if schedule.interval_s is None and schedule.anchor:
        raise InvalidSpec("schedule.anchor: only interval_s has one")
    if schedule.cron is None and schedule.timezone != "UTC":
        raise InvalidSpec("schedule.timezone: only cron has one")
    if schedule.cron is None and schedule.dst != Dst():
        raise InvalidSpec("schedule.dst: only cron has one")


def _check_number(key: str, value: int | None, lowest: int, highest: int) -> None:
    if value is not None and not lowest <= value <= highest:
        raise InvalidSpec(f"schedule.{key}: {value} is not from {lowest} to {highest}")
