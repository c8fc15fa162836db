"""The promises of a schedule: nothing lost, nothing doubled, right when clocks change."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runwright.kernel.drive import schedule as schedule_module
from runwright.kernel.drive.cron import instants
from runwright.kernel.drive.schedule import check, due, next_after, occurrences
from runwright.kernel.run import Dst, Misfire, Schedule

MINUTE_MS = 60_000
HOURS_BESIDE = 30
HOURS_SCANNED = HOURS_BESIDE + 26

# Changes by 30 and 120 minutes, at midnight, for Ramadan, backwards in summer, a skipped date,
# offsets of 30 and 45 minutes, zones that gave changes up, and two that had none.
ZONES = (
    "Africa/Cairo",
    "Africa/Casablanca",
    "America/Havana",
    "America/New_York",
    "America/Santiago",
    "America/Sao_Paulo",
    "America/St_Johns",
    "Antarctica/Casey",
    "Antarctica/Troll",
    "Asia/Beirut",
    "Asia/Gaza",
    "Asia/Kathmandu",
    "Asia/Kolkata",
    "Asia/Tehran",
    "Atlantic/Azores",
    "Australia/Adelaide",
    "Australia/Lord_Howe",
    "Europe/Dublin",
    "Europe/Lisbon",
    "Europe/Oslo",
    "Pacific/Apia",
    "Pacific/Chatham",
)


class Field(NamedTuple):
    text: str
    values: frozenset[int]


class Scan(NamedTuple):
    """Each minute of a span of the time line, with what the clock on the wall shows."""

    minutes: tuple[int, ...]
    walls: tuple[datetime, ...]


# ------------------------------------------------------------------- an oracle that only looks


@lru_cache
def changes(zone: str) -> tuple[date, ...]:
    """Return the dates from 2005 to 2035 before which the offset of a zone changed."""
    info, day, found = ZoneInfo(zone), datetime(2005, 1, 1, tzinfo=UTC), [date(2026, 6, 1)]
    before = day.astimezone(info).utcoffset()
    while day.year < 2036:
        after = day.astimezone(info).utcoffset()
        if after != before:
            found.append(day.date())
        before, day = after, day + timedelta(days=1)
    return tuple(found)


@lru_cache
def scan(zone: str, day: date) -> Scan:
    middle = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())
    span = HOURS_SCANNED * 3600
    minutes = range(middle - span, middle + span, 60)
    info = ZoneInfo(zone)
    walls = (datetime.fromtimestamp(at, info).replace(tzinfo=None, fold=0) for at in minutes)
    return Scan(tuple(at * 1000 for at in minutes), tuple(walls))


def jumps(seen: Scan) -> list[int]:
    """Return where the clock on the wall does not go on by one minute, near the middle."""
    near = range((HOURS_SCANNED - 25) * 60, (HOURS_SCANNED + 25) * 60)
    minute = timedelta(minutes=1)
    return [index for index in near if seen.walls[index] - seen.walls[index - 1] != minute]


def matches(wall: datetime, minute: Field, hour: Field, weekday: Field) -> bool:
    return (
        wall.minute in minute.values
        and wall.hour in hour.values
        and wall.isoweekday() % 7 in weekday.values
    )


def by_elapsed_time(seen: Scan, fields: tuple[Field, Field, Field]) -> set[int]:
    pairs = zip(seen.minutes, seen.walls, strict=True)
    return {at for at, wall in pairs if matches(wall, *fields)}


def by_date(seen: Scan, fields: tuple[Field, Field, Field], dst: Dst) -> set[int]:
    """Return for each matching wall time what the policy says, by looking it up in the scan."""
    shown: dict[datetime, list[int]] = {}
    for at, wall in zip(seen.minutes, seen.walls, strict=True):
        shown.setdefault(wall, []).append(at)
    found: set[int] = set()
    wall, end = seen.walls[0], seen.walls[-1]
    while wall < end:
        if matches(wall, *fields):
            if wall not in shown:
                if dst.gap == "shift":
                    pairs = zip(seen.minutes, seen.walls, strict=True)
                    found.add(next(at for at, later in pairs if later > wall))
            elif dst.overlap == "both":
                found.update(shown[wall])
            else:
                found.add(shown[wall][0 if dst.overlap == "first" else -1])
        wall += timedelta(minutes=1)
    return found


# ------------------------------------------------------------------------------------ strategies


def plain(low: int, high: int) -> st.SearchStrategy[Field]:
    """Build a field of values, a list or a range."""
    lists = st.sets(st.integers(low, high), min_size=1, max_size=3).map(
        lambda values: Field(",".join(map(str, sorted(values))), frozenset(values))
    )
    spans = st.tuples(st.integers(low, high), st.integers(0, 4)).map(
        lambda pair: (pair[0], min(pair[0] + pair[1], high))
    )
    return lists | spans.map(
        lambda span: Field(f"{span[0]}-{span[1]}", frozenset(range(span[0], span[1] + 1)))
    )


def stepped(low: int, high: int) -> st.SearchStrategy[Field]:
    """Build a field with a star or a step."""
    return st.integers(1, (high - low) // 2).map(
        lambda step: Field(
            "*" if step == 1 else f"*/{step}", frozenset(range(low, high + 1)[::step])
        )
    )


early_hours = plain(0, 4) | plain(0, 23)
weekdays = st.just(Field("*", frozenset(range(7)))) | plain(0, 6)
policies = st.builds(
    Dst, gap=st.sampled_from(["shift", "skip"]), overlap=st.sampled_from(["first", "last", "both"])
)
wildcards = st.one_of(
    st.tuples(stepped(0, 59), early_hours, weekdays),
    st.tuples(stepped(0, 59), stepped(0, 23), weekdays),
    st.tuples(plain(0, 59), stepped(0, 23), weekdays),
)


@st.composite
def places(draw: st.DrawFn) -> tuple[str, date]:
    zone = draw(st.sampled_from(ZONES))
    return zone, draw(st.sampled_from(changes(zone)))


def assert_agrees(
    fields: tuple[Field, Field, Field], place: tuple[str, date], dst: Dst, expected: set[int]
) -> None:
    """Compare with the oracle from several starts, since the start must not matter."""
    minute, hour, weekday = fields
    expression = f"{minute.text} {hour.text} * * {weekday.text}"
    seen = scan(*place)
    middle = HOURS_SCANNED * 60
    end = seen.minutes[middle + HOURS_BESIDE * 60]
    beside = (index + step for index in jumps(seen) for step in (-170, -50, -1, 0, 20, 50))
    for index in (middle - HOURS_BESIDE * 60, *beside):
        start = seen.minutes[index]
        found = []
        for moment in instants(expression, timezone=place[0], dst=dst, after_ms=start):
            if moment > end:
                break
            found.append(moment)
        assert found == sorted(moment for moment in expected if start < moment <= end)


# ------------------------------------------------------------------------------ changing clocks


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(
    fields=st.tuples(plain(0, 59), early_hours, weekdays),
    place=places(),
    dst=policies,
)
def test_a_fixed_time_is_where_a_look_at_every_minute_finds_it(fields, place, dst):
    """Each matching date has each time once, or what the policy says, in 22 zones."""
    assert_agrees(fields, place, dst, by_date(scan(*place), fields, dst))


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(fields=wildcards, place=places(), dst=policies)
def test_a_wildcard_is_where_a_look_at_every_minute_finds_it(fields, place, dst):
    """Whenever the clock on the wall shows a match, and at no other instant."""
    assert_agrees(fields, place, dst, by_elapsed_time(scan(*place), fields))


@pytest.mark.slow
@pytest.mark.parametrize("zone", ZONES)
def test_a_daily_time_has_one_occurrence_on_every_date_of_a_decade(zone):
    """One run for one logical date, whatever the clocks did."""
    first, end = datetime(2012, 1, 2, 12, tzinfo=UTC), datetime(2022, 1, 2, 12, tzinfo=UTC)
    schedule = Schedule(cron="30 2 * * *", timezone=zone)
    span = (int(first.timestamp() * 1000), int(end.timestamp() * 1000))
    dates = [
        datetime.fromtimestamp(moment / 1000, ZoneInfo(zone)).date()
        for moment in occurrences(schedule, *span)
    ]
    assert dates == [dates[0] + timedelta(days=count) for count in range(len(dates))]
    assert abs(len(dates) - (end - first).days) <= 1


# ------------------------------------------------------------------ nothing lost, nothing doubled


misfires = st.builds(
    Misfire,
    policy=st.sampled_from(["skip", "latest", "all"]),
    window_s=st.integers(1, 100_000),
    max=st.integers(1, 5),
)
grids = st.one_of(
    st.builds(
        lambda seconds, minute: {
            "interval_s": seconds,
            "anchor": f"2026-03-01T00:{minute:02}:00+01:00",
        },
        st.integers(60, 200_000),
        st.integers(0, 59),
    ),
    st.builds(
        lambda cron, zone: {"cron": cron, "timezone": zone},
        st.sampled_from(["*/7 * * * *", "0 * * * *", "30 2 * * *", "0,15 1-3 * * *", "5 4 * * 1"]),
        st.sampled_from(["Europe/Oslo", "Australia/Lord_Howe", "UTC"]),
    ),
    st.just({"once_at": "2026-03-29T01:30:00+01:00"}),
)


@st.composite
def schedules(draw: st.DrawFn) -> Schedule:
    schedule = Schedule(
        **draw(grids),
        misfire=draw(misfires),
        overlap=draw(st.sampled_from(["skip", "queue_one", "allow"])),
        deadline_s=draw(st.none() | st.integers(1, 100_000)),
        enabled=draw(st.integers(0, 9)) > 0,
    )
    check(schedule)
    return schedule


class Poll(NamedTuple):
    """How long nobody asked, and whether a run was under way and a waiting one remembered."""

    pause_ms: int
    running: bool
    remembers: bool


polls = st.lists(
    st.builds(
        Poll,
        st.one_of(st.integers(0, 2_000), st.integers(0, 4_000_000), st.integers(0, 200_000_000)),
        st.booleans(),
        st.booleans(),
    ),
    min_size=1,
    max_size=8,
)
# Half an hour or so before each change of Oslo in 2026, and a day without a change.
starts = st.sampled_from([1_774_740_000_000, 1_792_882_800_000, 1_780_000_000_123])


class Run(NamedTuple):
    """What a conductor recorded over several polls."""

    fired: list[int]
    passed: list[int]
    waiting: int | None
    now_ms: int


def conduct(schedule: Schedule, start_ms: int, asked: list[Poll]) -> Run:
    """Record decision after decision, as a conductor does, checking each."""
    fired, passed, now, last, waiting = [], [], start_ms, None, None
    for poll in asked:
        now += poll.pause_ms
        again = True
        while again:
            arguments = {
                "last_ms": last,
                "start_ms": start_ms,
                "now_ms": now,
                "running": poll.running,
                "queued": waiting is not None and poll.remembers,
            }
            decision = due(schedule, **arguments)
            assert decision == due(schedule, **arguments)
            recorded = []
            for item in decision.passed:
                covered = list(occurrences(schedule, item.first_ms - 1, item.last_ms))
                assert (covered[0], covered[-1]) == (item.first_ms, item.last_ms)
                assert len(covered) == item.count
                recorded += covered
            passed += recorded
            recorded += decision.fire
            fired += decision.fire
            assert recorded == sorted(set(recorded))
            assert all(last is None or moment > last for moment in recorded)
            pairs = [(item.status, item.reason) for item in decision.passed]
            assert all(one != two for one, two in pairwise(pairs))
            last = max(recorded, default=last)
            waiting = decision.waiting_ms
            assert waiting is None or last is None or waiting > last
            # Cut decisions ask for another one at once; every other names the next occurrence.
            again = decision.next_ms == now
            if not again and schedule.enabled:
                assert decision.next_ms == next_after(schedule, now)
    return Run(fired, passed, waiting, now)


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(schedule=schedules(), start_ms=starts, asked=polls, cap=st.sampled_from([12, 10_000]))
def test_every_occurrence_is_recorded_once_however_it_is_polled(schedule, start_ms, asked, cap):
    """Over any polls, what fired and what passed are together exactly the occurrences."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schedule_module, "SCAN_MAX", cap)
        run = conduct(schedule, start_ms, asked)
    recorded = sorted(run.fired + run.passed)
    expected = list(occurrences(schedule, start_ms - 1, run.now_ms))
    if run.waiting is not None:
        assert expected.pop() == run.waiting
    assert recorded == expected


@settings(max_examples=150, deadline=None)
@given(
    schedule=schedules(),
    start_ms=starts,
    pause_ms=st.integers(0, 10_000_000),
    running=st.booleans(),
)
def test_what_fires_is_what_the_policies_allow(schedule, start_ms, pause_ms, running):
    """Never more than the misfire policy lets run, never later than the limits, never beside."""
    now = start_ms + pause_ms
    decision = due(schedule, last_ms=None, start_ms=start_ms, now_ms=now, running=running)
    ready = [*decision.fire, *([] if decision.waiting_ms is None else [decision.waiting_ms])]
    most = {"skip": 1, "latest": 1, "all": schedule.misfire.max}[schedule.misfire.policy]
    assert len(ready) <= (most if schedule.enabled else 0)
    if schedule.misfire.policy == "skip":
        assert all(now - moment < 1_000 for moment in ready)
    latest_s = min(schedule.misfire.window_s, schedule.deadline_s or 10**9)
    assert all(now - moment <= latest_s * 1000 for moment in ready)
    if running and schedule.overlap != "allow":
        assert decision.fire == ()
    if decision.waiting_ms is not None:
        assert running
        assert schedule.overlap == "queue_one"


@settings(max_examples=100, deadline=None)
@given(
    interval_s=st.integers(1, 10**8),
    anchor=st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1)),
    after_ms=st.integers(-(10**12), 10**13),
)
def test_an_interval_never_leaves_its_grid(interval_s, anchor, after_ms):
    """The next occurrence is on the grid, later than now and at most one interval away."""
    anchor = anchor.replace(microsecond=0, tzinfo=UTC)
    schedule = Schedule(interval_s=interval_s, anchor=anchor.isoformat())
    found = next_after(schedule, after_ms)
    assert found is not None
    assert 0 < found - after_ms <= interval_s * 1000
    assert (found - int(anchor.timestamp()) * 1000) % (interval_s * 1000) == 0
