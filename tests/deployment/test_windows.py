"""The task of the Windows Task Scheduler, held against a golden file and the rules of its words.

No Windows was at hand: what the scheduler makes of it was not tried.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from runwright.deployment import windows
from runwright.kernel.errors import Usage
from runwright.kernel.run import Schedule
from tests.deployment.test_systemd import job

GOLDEN = Path(__file__).parent / "task.xml"
SINCE_MS = 1_795_000_000_000
NAMESPACE = {"t": windows.NAMESPACE}


def task(schedule: Schedule | None = None, **fields) -> bytes:
    """Return the bytes of a task."""
    made = job(
        schedule=schedule,
        folder="C:\\Runs & <more>\\100% p",
        program=("C:\\Program Files\\Python\\Scripts\\runwright.exe",),
        **fields,
    )
    return windows.files(made, since_ms=SINCE_MS)[0].data


def field(data: bytes, path: str) -> str | None:
    """Return the text of an element, as an XML reader finds it."""
    found = ET.fromstring(data.decode("utf-16")).find(
        "/".join(f"t:{name}" for name in path.split("/")), NAMESPACE
    )
    return None if found is None else found.text


def test_the_task_is_the_golden_one() -> None:
    """Byte for byte: UTF-16 with a mark, lines as Windows ends them."""
    data = task(Schedule(interval_s=1800))
    assert data[:2] == b"\xff\xfe"
    assert data.decode("utf-16").replace("\r\n", "\n") == GOLDEN.read_text(encoding="utf-8")
    assert data.decode("utf-16").count("\n") == data.decode("utf-16").count("\r\n")


def test_it_is_read_as_it_was_meant() -> None:
    """Names with signs that XML gives a meaning; what runs late runs, what overlaps does not."""
    data = task(Schedule(interval_s=1800))
    assert field(data, "Actions/Exec/WorkingDirectory") == "C:\\Runs & <more>\\100% p"
    assert (
        field(
            data,
            "Actions/Exec/Command",
        )
        == "C:\\Program Files\\Python\\Scripts\\runwright.exe"
    )
    assert field(data, "Actions/Exec/Arguments") == "run demo"
    assert field(data, "Settings/MultipleInstancesPolicy") == "IgnoreNew"
    assert field(data, "Settings/StartWhenAvailable") == "true"
    assert field(data, "Triggers/TimeTrigger/Repetition/Interval") == "PT30M"
    assert field(data, "Triggers/TimeTrigger/StartBoundary") == "2026-11-18T11:06:40Z"


def test_a_time_of_days_is_a_calendar() -> None:
    """Daily, or on days of the week; an anchor is where the grid of an interval begins."""
    daily = task(Schedule(cron="30 2 * * *"))
    assert field(daily, "Triggers/CalendarTrigger/StartBoundary") == "2026-11-18T02:30:00Z"
    assert field(daily, "Triggers/CalendarTrigger/ScheduleByDay/DaysInterval") == "1"
    weekly = ET.fromstring(task(Schedule(cron="0 9 * * 7,1")).decode("utf-16"))
    days = weekly.find(".//t:DaysOfWeek", NAMESPACE)
    assert days is not None
    assert [day.tag.partition("}")[2] for day in days] == ["Sunday", "Monday"]
    anchored = task(Schedule(interval_s=3600, anchor="2026-01-01T00:05:00+01:00"))
    assert field(anchored, "Triggers/TimeTrigger/StartBoundary") == "2025-12-31T23:05:00Z"


@pytest.mark.parametrize(
    "schedule",
    [
        Schedule(interval_s=90),
        Schedule(interval_s=30),
        Schedule(cron="*/5 * * * *"),
        Schedule(cron="30 2 * * *", timezone="Europe/Oslo"),
        Schedule(cron="30 2 1 * *"),
    ],
)
def test_what_the_scheduler_cannot_keep_is_refused(schedule) -> None:
    """Never kept at other times than those that were meant."""
    with pytest.raises(Usage, match="the Task Scheduler cannot keep"):
        task(schedule)


def split(line: str) -> list[str]:
    """Split a command line as CommandLineToArgvW does, by the rules of its documentation."""
    found, word, is_open, is_word, index = [], "", False, False, 0
    while index < len(line):
        sign = line[index]
        count = len(line) - index - len(line[index:].lstrip("\\"))
        if count and line[index + count : index + count + 1] == '"':
            word, is_word = word + "\\" * (count // 2), True
            index += count
            if count % 2:
                word += '"'
                index += 1
            continue
        index += 1
        if sign == '"':
            is_open, is_word = not is_open, True
        elif sign in " \t" and not is_open:
            if is_word:
                found.append(word)
            word, is_word = "", False
        else:
            word, is_word = word + sign, True
    return [*found, word] if is_word else found


@given(st.lists(st.text('ab \t"\\%^&', max_size=8), max_size=4))
@example(['a\\"b', "c:\\x y\\", "", '\\\\"'])
def test_words_are_read_as_they_were_meant(words) -> None:
    """Blanks, quotes, and backslashes before either."""
    assert split(" ".join(map(windows.quoted, words))) == words
