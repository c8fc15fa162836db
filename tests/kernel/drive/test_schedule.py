"""What is due, what is passed over and why."""

from __future__ import annotations

import subprocess
import sys
from datetime import datetime
from itertools import islice

import msgspec
import pytest

from runwright.kernel.drive.schedule import (
    SCAN_MAX,
    Decision,
    Passed,
    check,
    due,
    next_after,
    occurrences,
    with_failures,
)
from runwright.kernel.errors import InvalidSpec, Usage
from runwright.kernel.run import Dst, Misfire, Schedule

MINUTE = 60_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR
MINUTELY = Schedule(interval_s=60)


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1000)


def minutely(**changes: object) -> Schedule:
    return msgspec.structs.replace(MINUTELY, **changes)


def passed(first: int, last: int, status: str, reason: str) -> Passed:
    """Return minutes first to last as one record."""
    return Passed(
        first_ms=first * MINUTE,
        last_ms=last * MINUTE,
        count=last - first + 1,
        status=status,
        reason=reason,
    )


# ------------------------------------------------------------------------------ the occurrences


def test_the_grid_of_an_interval_hangs_on_its_anchor():
    """Occurrences are anchor + k * interval, before the anchor too, whenever one asks."""
    schedule = Schedule(interval_s=600, anchor="2026-01-01T00:03:00+01:00")
    assert next_after(schedule, ms("2025-12-31T12:00Z")) == ms("2025-12-31T12:03Z")
    assert next_after(schedule, ms("2025-12-31T12:03Z")) == ms("2025-12-31T12:13Z")
    assert next_after(schedule, ms("2026-05-01T09:59:59.999Z")) == ms("2026-05-01T10:03Z")


def test_once_happens_once():
    """The instant itself is an occurrence, and there is none after it."""
    schedule = Schedule(once_at="2026-03-29T06:00:00.250+02:00")
    at = ms("2026-03-29T04:00:00.250Z")
    assert next_after(schedule, at - 1) == at
    assert next_after(schedule, at) is None
    assert list(occurrences(schedule, at - 1, at - 1)) == []


def test_a_span_excludes_its_start_and_includes_its_end():
    """So spans that touch share no occurrence and lose none."""
    assert list(occurrences(MINUTELY, 0, 2 * MINUTE)) == [MINUTE, 2 * MINUTE]
    cron = Schedule(cron="0 6 * * *", timezone="Europe/Oslo")
    start, end = ms("2026-03-28T06:00+01:00"), ms("2026-03-30T06:00+02:00")
    assert list(occurrences(cron, start, end)) == [ms("2026-03-29T06:00+02:00"), end]


def test_the_policy_for_changing_clocks_reaches_the_calendar():
    """`dst` of the schedule decides what a fixed time does."""
    schedule = Schedule(cron="30 2 * * *", timezone="Europe/Oslo", dst=Dst(overlap="both"))
    start = ms("2026-10-25T00:00+02:00")
    assert list(islice(occurrences(schedule, start, start + DAY), 3)) == [
        ms("2026-10-25T02:30+02:00"),
        ms("2026-10-25T02:30+01:00"),
    ]


# -------------------------------------------------------------------------------- what is due


def test_an_occurrence_on_time_fires():
    """At its instant the occurrence fires and the next one is named."""
    assert due(MINUTELY, last_ms=MINUTE, start_ms=0, now_ms=2 * MINUTE) == Decision(
        fire=(2 * MINUTE,), next_ms=3 * MINUTE
    )


def test_nothing_is_due_between_occurrences():
    """Asking early changes nothing."""
    assert due(MINUTELY, last_ms=MINUTE, start_ms=0, now_ms=119_999) == Decision(next_ms=2 * MINUTE)


def test_nothing_before_the_start_is_due():
    """The start itself may be due; a start ahead of now is waited for."""
    assert due(MINUTELY, last_ms=None, start_ms=MINUTE, now_ms=MINUTE).fire == (MINUTE,)
    assert due(MINUTELY, last_ms=None, start_ms=5 * MINUTE, now_ms=0) == Decision(
        next_ms=5 * MINUTE
    )


def test_a_newer_start_hides_what_the_schedule_before_left():
    """A changed schedule owes nothing for the time before it came into force."""
    decision = due(MINUTELY, last_ms=MINUTE, start_ms=9 * MINUTE, now_ms=9 * MINUTE)
    assert decision == Decision(fire=(9 * MINUTE,), next_ms=10 * MINUTE)


def test_a_clock_that_went_back_repeats_nothing():
    """What is recorded stays recorded; the next one comes after it."""
    assert due(MINUTELY, last_ms=9 * MINUTE, start_ms=0, now_ms=5 * MINUTE) == Decision(
        next_ms=10 * MINUTE
    )


@pytest.mark.parametrize(
    ("misfire", "expected_passed", "expected_fire"),
    [
        (Misfire(policy="skip"), [(1, 10, "misfire")], []),
        (Misfire(policy="latest"), [(1, 9, "misfire")], [10]),
        (Misfire(policy="latest", window_s=29), [(1, 10, "window")], []),
        (Misfire(policy="latest", window_s=30), [(1, 9, "window")], [10]),
        (
            Misfire(policy="all", window_s=150, max=2),
            [(1, 7, "window"), (8, 8, "misfire")],
            [9, 10],
        ),
        (Misfire(policy="all", window_s=150, max=5), [(1, 7, "window")], [8, 9, 10]),
        (Misfire(policy="all", window_s=86_400, max=3), [(1, 7, "misfire")], [8, 9, 10]),
    ],
)
def test_what_is_late_follows_the_misfire_policy(misfire, expected_passed, expected_fire):
    """Ten minutes were slept through, and the newest is half a minute late."""
    now = 10 * MINUTE + 30_000
    decision = due(minutely(misfire=misfire), last_ms=0, start_ms=0, now_ms=now)
    assert list(decision.passed) == [
        passed(first, last, "MISSED", reason) for first, last, reason in expected_passed
    ]
    assert decision.fire == tuple(minute * MINUTE for minute in expected_fire)
    assert decision.next_ms == 11 * MINUTE


@pytest.mark.parametrize(("lag_ms", "fires"), [(0, True), (999, True), (1000, False)])
def test_a_lag_below_a_second_is_on_time(lag_ms, fires):
    """Even under misfire `skip`, the occurrence of this very second runs."""
    schedule = minutely(misfire=Misfire(policy="skip"))
    decision = due(schedule, last_ms=0, start_ms=0, now_ms=2 * MINUTE + lag_ms)
    assert bool(decision.fire) is fires
    assert decision.passed[0].count == (1 if fires else 2)


def test_once_has_no_period_and_fires_however_late():
    """Only a window or a deadline ends the claim of a single occurrence."""
    schedule = Schedule(once_at="2026-03-29T06:00:00Z")
    at = ms("2026-03-29T06:00Z")
    assert due(schedule, last_ms=None, start_ms=0, now_ms=at + 90 * DAY) == Decision(fire=(at,))
    late = msgspec.structs.replace(schedule, deadline_s=3600)
    assert due(late, last_ms=None, start_ms=0, now_ms=at + 3_600_000).fire == (at,)
    decision = due(late, last_ms=None, start_ms=0, now_ms=at + 3_600_001)
    assert [(item.status, item.reason) for item in decision.passed] == [("MISSED", "deadline")]


def test_a_deadline_tighter_than_the_window_names_the_reason():
    """The limit that ends the claim first is the reason."""
    misfire = Misfire(policy="all", window_s=3600)
    schedule = minutely(misfire=misfire, deadline_s=90)
    decision = due(schedule, last_ms=0, start_ms=0, now_ms=10 * MINUTE + 30_000)
    assert decision.passed == (passed(1, 8, "MISSED", "deadline"),)
    assert decision.fire == (9 * MINUTE, 10 * MINUTE)


def test_overlap_skip_drops_what_comes_due_during_a_run():
    """A run under way is the reason, on the record."""
    decision = due(MINUTELY, last_ms=0, start_ms=0, now_ms=MINUTE, running=True)
    assert decision == Decision(passed=(passed(1, 1, "SKIPPED", "overlap"),), next_ms=2 * MINUTE)


def test_overlap_allow_starts_beside_the_run_under_way():
    """Runs side by side are what was asked for."""
    schedule = minutely(overlap="allow")
    decision = due(schedule, last_ms=0, start_ms=0, now_ms=MINUTE, running=True)
    assert decision.fire == (MINUTE,)


def test_overlap_queue_one_lets_the_newest_wait_and_then_fires_it():
    """The waiting one is not recorded; a newer one takes its place; its lag is no misfire."""
    schedule = minutely(overlap="queue_one", misfire=Misfire(policy="skip"))
    first = due(schedule, last_ms=0, start_ms=0, now_ms=MINUTE, running=True)
    assert first == Decision(waiting_ms=MINUTE, next_ms=2 * MINUTE)
    second = due(schedule, last_ms=0, start_ms=0, now_ms=2 * MINUTE, running=True, queued=True)
    assert second == Decision(
        passed=(passed(1, 1, "SKIPPED", "overlap"),), waiting_ms=2 * MINUTE, next_ms=3 * MINUTE
    )
    third = due(schedule, last_ms=MINUTE, start_ms=0, now_ms=2 * MINUTE + 40_000, queued=True)
    assert third == Decision(fire=(2 * MINUTE,), next_ms=3 * MINUTE)


def test_a_waiting_occurrence_is_not_bound_by_the_misfire_window():
    """It was seen in time; only a deadline ends its wait."""
    schedule = minutely(overlap="queue_one", misfire=Misfire(window_s=5))
    decision = due(schedule, last_ms=0, start_ms=0, now_ms=MINUTE + 40_000, queued=True)
    assert decision.fire == (MINUTE,)


def test_the_newest_of_several_waits():
    """Under misfire `all` beside a run under way, one waits and the older are left out."""
    schedule = minutely(overlap="queue_one", misfire=Misfire(policy="all", window_s=600, max=3))
    decision = due(schedule, last_ms=0, start_ms=0, now_ms=5 * MINUTE, running=True)
    assert decision == Decision(
        passed=(passed(1, 2, "MISSED", "misfire"), passed(3, 4, "SKIPPED", "overlap")),
        waiting_ms=5 * MINUTE,
        next_ms=6 * MINUTE,
    )


def test_a_waiting_occurrence_that_a_crash_forgot_is_a_misfire():
    """Without the flag the lag is judged by the misfire policy, so nothing is lost."""
    schedule = minutely(overlap="queue_one", misfire=Misfire(policy="skip"))
    decision = due(schedule, last_ms=0, start_ms=0, now_ms=MINUTE + 40_000)
    assert decision.passed == (passed(1, 1, "MISSED", "misfire"),)


def test_a_waiting_occurrence_has_a_deadline():
    """It is MISSED while the run is still under way."""
    schedule = minutely(overlap="queue_one", deadline_s=30)
    decision = due(
        schedule, last_ms=0, start_ms=0, now_ms=MINUTE + 30_001, running=True, queued=True
    )
    assert decision == Decision(passed=(passed(1, 1, "MISSED", "deadline"),), next_ms=2 * MINUTE)


def test_a_disabled_schedule_records_its_pause_and_wakes_nobody():
    """A whole pause is one record."""
    decision = due(minutely(enabled=False), last_ms=0, start_ms=0, now_ms=600 * MINUTE)
    assert decision == Decision(passed=(passed(1, 600, "SKIPPED", "paused"),))


@pytest.mark.parametrize(
    ("limit", "failures", "enabled"),
    [(0, 99, True), (3, 0, True), (3, 2, True), (3, 3, False), (3, 4, False)],
)
def test_enough_failures_in_a_row_pause_the_schedule(limit, failures, enabled):
    """Zero means never."""
    assert with_failures(minutely(pause_on_failures=limit), failures).enabled is enabled


def test_a_month_of_seconds_is_counted_not_walked():
    """The cost of an outage does not grow with its length."""
    decision = due(Schedule(interval_s=1), last_ms=0, start_ms=0, now_ms=30 * DAY + 250)
    assert decision.fire == (30 * DAY,)
    assert [item.count for item in decision.passed] == [30 * 86_400 - 1]


def test_a_long_outage_of_a_cron_schedule_is_settled_by_several_decisions():
    """No decision looks at more than the limit, and the newest fires at the end."""
    schedule = Schedule(cron="* * * * *")
    now = (2 * SCAN_MAX + 5) * MINUTE
    first = due(schedule, last_ms=0, start_ms=0, now_ms=now)
    assert first == Decision(passed=(passed(1, SCAN_MAX - 1, "MISSED", "misfire"),), next_ms=now)
    last, fired, total = 0, (), 0
    while not fired:
        decision = due(schedule, last_ms=last, start_ms=0, now_ms=now)
        total += sum(item.count for item in decision.passed)
        last, fired = decision.passed[-1].last_ms, decision.fire
    assert fired == (now,)
    assert total == 2 * SCAN_MAX + 4


def test_a_long_pause_of_a_cron_schedule_is_settled_by_several_decisions():
    """A pause is cut like an outage."""
    schedule = Schedule(cron="* * * * *", enabled=False)
    now = (SCAN_MAX + 1) * MINUTE
    first = due(schedule, last_ms=0, start_ms=0, now_ms=now)
    assert first.next_ms == now
    second = due(schedule, last_ms=first.passed[-1].last_ms, start_ms=0, now_ms=now)
    assert second == Decision(passed=(passed(SCAN_MAX + 1, SCAN_MAX + 1, "SKIPPED", "paused"),))


# ------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (Schedule(), "exactly one of once_at, interval_s and cron, not none"),
        (Schedule(interval_s=60, cron="0 6 * * *"), "not interval_s and cron"),
        (Schedule(interval_s=0), "schedule.interval_s: 0 is not from 1 to"),
        (Schedule(interval_s=-5), "schedule.interval_s: -5 is not from 1 to"),
        (Schedule(interval_s=10**12), "schedule.interval_s: 1000000000000 is not from"),
        (Schedule(interval_s=60, anchor="noon"), "schedule.anchor: 'noon' is no instant"),
        (Schedule(once_at="2026-03-29T06:00:00"), "schedule.once_at: .* is no instant"),
        (Schedule(once_at="2026-02-30T06:00:00Z"), "schedule.once_at: .* is no instant"),
        (Schedule(once_at=""), "schedule.once_at: '' is no instant"),
        (Schedule(once_at="2026-03-29T06:00:00.000001Z"), "finer than a millisecond"),
        (Schedule(cron="0 0 30 2 *"), "schedule.cron: '0 0 30 2 .*': Bad day-of-month"),
        (Schedule(cron="0 0 * *"), "schedule.cron: .* is not the five fields"),
        (Schedule(cron="0 0 * * *", timezone="Mars/Base"), "schedule.timezone: 'Mars/Base'"),
        (Schedule(cron="0 0 * * *", anchor="2026-01-01T00:00:00Z"), "schedule.anchor: only"),
        (Schedule(interval_s=60, timezone="Europe/Oslo"), "schedule.timezone: only cron"),
        (Schedule(interval_s=60, dst=Dst(gap="skip")), "schedule.dst: only cron"),
        (minutely(misfire=Misfire(window_s=0)), "schedule.misfire.window_s: 0 is not"),
        (minutely(misfire=Misfire(policy="all", window_s=60, max=0)), "schedule.misfire.max: 0"),
        (minutely(misfire=Misfire(policy="all")), "schedule.misfire.window_s: policy all needs"),
        (minutely(deadline_s=0), "schedule.deadline_s: 0 is not from 1 to"),
        (minutely(pause_on_failures=-1), "schedule.pause_on_failures: -1 is not from 0 to"),
    ],
)
def test_a_schedule_that_cannot_be_is_refused_with_its_key(schedule, message):
    """The message names the key and the reason; the caller is at fault."""
    with pytest.raises(InvalidSpec, match=message) as caught:
        check(schedule)
    assert isinstance(caught.value, Usage)


@pytest.mark.parametrize(
    "text",
    [
        '{"once_at":"2026-03-29T06:00:00+02:00"}',
        '{"interval_s":3600,"anchor":"2026-01-01T00:05:00Z","overlap":"queue_one"}',
        """{"cron":"30 2 * * *","timezone":"Europe/Oslo","dst":{"gap":"skip","overlap":"both"},\
"misfire":{"policy":"all","window_s":86400,"max":3},"deadline_s":600,"pause_on_failures":3,\
"enabled":false}""",
    ],
)
def test_a_schedule_reads_and_writes_as_it_stands_in_a_file(text):
    """What is read is written the same, without the defaults."""
    schedule = msgspec.json.decode(text, type=Schedule)
    check(schedule)
    assert msgspec.json.encode(schedule).decode() == text


@pytest.mark.parametrize(
    "text", ['{"every":60}', '{"interval_s":"60"}', '{"interval_s":60,"overlap":"maybe"}']
)
def test_an_unknown_key_type_or_word_is_no_schedule(text):
    """Nothing is guessed."""
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(text, type=Schedule)


def test_an_interval_schedule_loads_neither_cronsim_nor_time_zones():
    """Only cron schedules pay for cron."""
    program = (
        "import sys\n"
        "from runwright.kernel.drive.schedule import Schedule, check, due\n"
        "schedule = Schedule(interval_s=60)\n"
        "check(schedule)\n"
        "due(schedule, last_ms=None, start_ms=0, now_ms=60_000)\n"
        "print({'cronsim', 'zoneinfo'} & sys.modules.keys())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"
