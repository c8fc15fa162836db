"""Cron expressions as instants, on the dates when clocks change."""

from __future__ import annotations

from datetime import datetime
from itertools import islice
from zoneinfo import ZoneInfo

import pytest

from runwright.kernel.drive.cron import check_cron, instants, is_fixed_time
from runwright.kernel.errors import InvalidSpec
from runwright.kernel.run import Dst

OSLO = "Europe/Oslo"
LORD_HOWE = "Australia/Lord_Howe"
SPRING = ("2026-03-28T12:00Z", "2026-03-29T12:00Z")
AUTUMN = ("2026-10-24T12:00Z", "2026-10-25T12:00Z")
HOWE_SPRING = ("2026-10-03T12:00Z", "2026-10-03T20:00Z")
HOWE_AUTUMN = ("2026-04-04T12:00Z", "2026-04-04T18:00Z")


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1000)


def local(expression: str, zone: str, span: tuple[str, str], **dst: str) -> list[str]:
    """Return what fires in a span as `day hour:minute+offset` of the zone."""
    found = []
    first, last = map(ms, span)
    for moment in instants(expression, timezone=zone, dst=Dst(**dst), after_ms=first):
        if moment > last:
            break
        at = datetime.fromtimestamp(moment / 1000, ZoneInfo(zone))
        found.append(at.strftime("%d %H:%M%z"))
    return found


@pytest.mark.parametrize(
    ("expression", "zone", "span", "dst", "expected"),
    [
        ("30 2 * * *", OSLO, SPRING, {}, ["29 03:00+0200"]),
        ("30 2 * * *", OSLO, SPRING, {"gap": "skip"}, []),
        ("0,30 2 * * *", OSLO, SPRING, {}, ["29 03:00+0200"]),
        ("0 2,3 * * *", OSLO, SPRING, {}, ["29 03:00+0200"]),
        ("0 2,3 * * *", OSLO, SPRING, {"gap": "skip"}, ["29 03:00+0200"]),
        ("30 2 * * *", OSLO, AUTUMN, {}, ["25 02:30+0200"]),
        ("30 2 * * *", OSLO, AUTUMN, {"overlap": "last"}, ["25 02:30+0100"]),
        ("30 2 * * *", OSLO, AUTUMN, {"overlap": "both"}, ["25 02:30+0200", "25 02:30+0100"]),
        (
            "0,30 2 * * *",
            OSLO,
            AUTUMN,
            {"overlap": "both"},
            ["25 02:00+0200", "25 02:30+0200", "25 02:00+0100", "25 02:30+0100"],
        ),
        ("15 2 * * *", LORD_HOWE, HOWE_SPRING, {}, ["04 02:30+1100"]),
        ("15 2 * * *", LORD_HOWE, HOWE_SPRING, {"gap": "skip"}, []),
        ("45 1 * * *", LORD_HOWE, HOWE_AUTUMN, {}, ["05 01:45+1100"]),
        ("45 1 * * *", LORD_HOWE, HOWE_AUTUMN, {"overlap": "last"}, ["05 01:45+1030"]),
        (
            "45 1 * * *",
            LORD_HOWE,
            HOWE_AUTUMN,
            {"overlap": "both"},
            ["05 01:45+1100", "05 01:45+1030"],
        ),
    ],
)
def test_a_fixed_time_follows_the_declared_policy(expression, zone, span, dst, expected):
    """The default fires once for the date: shifted to the end of a gap, at the first of two."""
    assert local(expression, zone, span, **dst) == expected


@pytest.mark.parametrize("dst", [{}, {"gap": "skip", "overlap": "last"}, {"overlap": "both"}])
def test_a_wildcard_follows_elapsed_time_whatever_the_policy(dst):
    """Every half hour that elapses has one occurrence: none lost, none doubled."""
    for span in (SPRING, AUTUMN):
        found = instants("*/30 * * * *", timezone=OSLO, dst=Dst(**dst), after_ms=ms(span[0]))
        expected = [ms(span[0]) + step * 1_800_000 for step in range(1, 49)]
        assert list(islice(found, 48)) == expected


def test_a_wildcard_minute_inside_the_missing_hour_does_not_fire_that_day():
    """`*/30 2 * * *` has no elapsed half hour to fire in when the hour 02 does not exist."""
    assert local("*/30 2 * * *", OSLO, SPRING) == []
    assert len(local("*/30 2 * * *", OSLO, AUTUMN)) == 4


def test_hourly_on_lord_howe_fires_at_each_full_local_hour():
    """A 30-minute change makes one distance of 90 minutes, in spring and in autumn."""
    span = ("2026-10-03T13:00Z", "2026-10-03T17:00Z")
    assert local("0 * * * *", LORD_HOWE, span) == [
        "04 00:00+1030",
        "04 01:00+1030",
        "04 03:00+1100",
        "04 04:00+1100",
    ]
    span = ("2026-04-04T13:30Z", "2026-04-04T17:00Z")
    assert local("0 * * * *", LORD_HOWE, span) == [
        "05 01:00+1100",
        "05 02:00+1030",
        "05 03:00+1030",
    ]


def test_a_date_that_a_zone_left_out_shifts_to_the_date_after_it():
    """Samoa had no 30 December 2011; its run comes first thing on the 31st."""
    span = ("2011-12-29T12:00Z", "2011-12-31T12:00Z")
    assert local("0 6 * * *", "Pacific/Apia", span) == [
        "29 06:00-1000",
        "31 00:00+1400",
        "31 06:00+1400",
    ]
    assert local("0 6 30 12 *", "Pacific/Apia", span, gap="skip") == []


def test_a_two_hour_change_shifts_to_its_end():
    """Troll station goes from UTC to UTC+2 in one step."""
    span = ("2026-03-29T00:00Z", "2026-03-29T06:00Z")
    assert local("30 1,2 * * *", "Antarctica/Troll", span) == ["29 03:00+0200"]
    assert local("0 * * * *", "Antarctica/Troll", span)[0] == "29 03:00+0200"


def test_a_change_by_odd_seconds_is_found_to_the_second():
    """Liberia moved from -00:44:30 to UTC on 7 January 1972."""
    span = ("1972-01-06T12:00+00:00", "1972-01-08T12:00+00:00")
    assert local("15 0 * * *", "Africa/Monrovia", span) == ["07 00:44+0000", "08 00:15+0000"]
    first = next(
        instants("15 0 * * *", timezone="Africa/Monrovia", dst=Dst(), after_ms=ms(span[0]))
    )
    assert first == ms("1972-01-07T00:44:30+00:00")


def test_asking_inside_a_repeated_hour_gives_only_what_is_still_to_come():
    """After the first 02:30 the second one is next under `both` and `last`, and no other."""
    after = ms("2026-10-25T02:40+02:00")
    for overlap, expected in [
        ("first", "2026-10-26T02:30+01:00"),
        ("last", "2026-10-25T02:30+01:00"),
        ("both", "2026-10-25T02:30+01:00"),
    ]:
        found = instants("30 2 * * *", timezone=OSLO, dst=Dst(overlap=overlap), after_ms=after)
        assert next(found) == ms(expected)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("30 2 * * *", True),
        ("0,30 1-3 * * *", True),
        ("*/30 2 * * *", False),
        ("0 * * * *", False),
        ("0 8-18/2 * * *", False),
        ("0-59/30 2 * * *", False),
    ],
)
def test_a_fixed_time_has_no_star_and_no_step_in_minute_and_hour(expression, expected):
    """Only minute and hour decide between the two rules."""
    assert is_fixed_time(expression) is expected


@pytest.mark.parametrize(
    ("expression", "zone", "message"),
    [
        ("0 0 30 2 *", "UTC", "a day that none of its months has"),
        ("61 * * * *", "UTC", "Bad minute"),
        ("* * * *", "UTC", "is not the five fields"),
        ("0 0 6 * * *", "UTC", "is not the five fields"),
        ("@daily", "UTC", "is not the five fields"),
        ("0 0 * * " + "1," * 200 + "1", "UTC", "longer than 256 characters"),
        ("0 0 */30 2 1#5", "UTC", "never fires in UTC"),
        ("*/30 2 * 3 0L", OSLO, "never fires in Europe/Oslo"),
        ("0 6 * * *", "Oslo", "no IANA time zone"),
        ("0 6 * * *", "", "no IANA time zone"),
        ("0 6 * * *", "America", "no IANA time zone"),
        ("0 6 * * *", "../etc/passwd", "no IANA time zone"),
        ("0 6 * * *", "localtime", "no IANA time zone"),
        ("0 6 * * *", "right/UTC", "no IANA time zone"),
    ],
)
def test_an_unusable_expression_or_zone_is_refused_with_its_key(expression, zone, message):
    """The message names the key, the value and the reason."""
    with pytest.raises(InvalidSpec, match=message) as caught:
        check_cron(expression, timezone=zone, dst=Dst())
    assert str(caught.value).startswith(("schedule.cron: ", "schedule.timezone: "))
    assert caught.value.code == "invalid-spec"


@pytest.mark.parametrize("expression", ["0 0 29 2 *", "0 9 * * MON-FRI", "0 0 L * *", "5 4 * * 7"])
def test_what_people_write_is_accepted(expression):
    """Names, last days, leap days and Sunday as 7 are all cron."""
    check_cron(expression, timezone="America/St_Johns", dst=Dst())


def test_the_rarest_expression_is_found():
    """A fifth Sunday in February waits from 2088 to 2128, across the year 2100."""
    after = ms("2088-02-29T00:00+00:00")
    found = instants("0 0 * 2 0#5", timezone="UTC", dst=Dst(), after_ms=after)
    assert next(found) == ms("2128-02-29T00:00+00:00")


def test_a_yearly_time_fires_every_year_of_a_century():
    """The search for a next occurrence is bounded; the number of occurrences is not."""
    after = ms("1999-12-31T00:00+00:00")
    found = list(islice(instants("0 0 1 1 *", timezone="UTC", dst=Dst(), after_ms=after), 101))
    assert found[-1] == ms("2100-01-01T00:00+00:00")


def test_the_calendar_has_two_ends():
    """Nothing fires before the epoch, and nothing from the year 9000 on."""
    assert next(instants("0 0 * * *", timezone="UTC", dst=Dst(), after_ms=-(10**15))) == 0
    last = ms("8999-12-31T23:30+00:00")
    assert list(instants("0 0 * * *", timezone="UTC", dst=Dst(), after_ms=last)) == []
    assert list(instants("0 0 * * *", timezone="UTC", dst=Dst(), after_ms=10**18)) == []
