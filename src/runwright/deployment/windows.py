"""A task of the Windows Task Scheduler, as `schtasks /Create /XML` reads it: UTF-16 with a mark."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from xml.sax.saxutils import escape

from runwright.deployment.cron import seconds
from runwright.deployment.job import MARK, File, Job
from runwright.kernel.errors import Usage

NAMESPACE = "http://schemas.microsoft.com/windows/2004/02/mit/task"
#: What the scheduler repeats no faster and no slower than, seconds.
INTERVAL_MIN_S, INTERVAL_MAX_S = 60, 31 * 86_400
_DAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
_DAY_S = 86_400


def files(job: Job, *, since_ms: int) -> list[File]:
    """Return the task of a job whose spec came into force at an instant. Raises: usage."""
    shell, *words = job.command(continuous=False)
    text = _TASK.format(
        namespace=NAMESPACE,
        mark=MARK,
        name=escape(job.name),
        spec=escape(job.spec),
        trigger=_trigger(job, since_ms),
        command=escape(shell),
        arguments=escape(" ".join(map(quoted, words))),
        folder=escape(job.folder),
    )
    data = b"\xff\xfe" + text.replace("\n", "\r\n").encode("utf-16-le")
    return [File(path=f"{job.name}.xml", data=data, shown=text)]


def quoted(word: str) -> str:
    """Return a word as CommandLineToArgvW reads one back."""
    if word and not set(word) & set(' \t"'):
        return word
    # Backslashes count only before a quote, and before the one that closes.
    return '"' + re.sub(r"(\\+)$", r"\1\1", re.sub(r'(\\*)"', r'\1\1\\"', word)) + '"'


def _trigger(job: Job, since_ms: int) -> str:
    schedule = job.schedule
    if job.interval_s is None and schedule is not None and schedule.cron:
        return _calendar(schedule.cron, schedule.timezone, since_ms)
    interval_s = seconds(job)
    if not INTERVAL_MIN_S <= interval_s <= INTERVAL_MAX_S or interval_s % 60:
        message = f"the Task Scheduler cannot keep an interval of {interval_s} s"
        raise Usage(message, hint="Whole minutes, from one to 31 days.")
    anchor = schedule.anchor if schedule is not None and job.interval_s is None else ""
    begin = (
        datetime.fromisoformat(anchor) if anchor else datetime.fromtimestamp(since_ms // 1000, UTC)
    )
    return _INTERVAL.format(minutes=interval_s // 60, start=_instant(begin))


def _calendar(expression: str, zone: str, since_ms: int) -> str:
    """Return the trigger of a daily or weekly time. Raises: usage for what has no such form."""
    found = re.fullmatch(r"(\d+) (\d+) \* \* (\*|[0-7](?:,[0-7])*)", " ".join(expression.split()))
    if found is None or zone != "UTC":
        message = f"the Task Scheduler cannot keep {expression!r} of {zone}"
        raise Usage(message, hint="A time of days or of days of the week in UTC, or an interval.")
    begin = datetime.fromtimestamp(since_ms // 1000, UTC)
    start = _instant(begin.replace(hour=int(found[2]), minute=int(found[1]), second=0))
    if found[3] == "*":
        days = "<ScheduleByDay>\n        <DaysInterval>1</DaysInterval>\n      </ScheduleByDay>"
    else:
        names = sorted({int(day) % 7 for day in found[3].split(",")})
        week = "".join(f"\n          <{_DAYS[day]} />" for day in names)
        days = (
            "<ScheduleByWeek>\n        <WeeksInterval>1</WeeksInterval>\n        <DaysOfWeek>"
            f"{week}\n        </DaysOfWeek>\n      </ScheduleByWeek>"
        )
    return _CALENDAR.format(start=start, days=days)


def _instant(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


_INTERVAL = """<TimeTrigger>
      <Repetition>
        <Interval>PT{minutes}M</Interval>
        <StopAtDurationEnd>false</StopAtDurationEnd>
      </Repetition>
      <StartBoundary>{start}</StartBoundary>
      <Enabled>true</Enabled>
    </TimeTrigger>"""
_CALENDAR = """<CalendarTrigger>
      <StartBoundary>{start}</StartBoundary>
      <Enabled>true</Enabled>
      {days}
    </CalendarTrigger>"""
_TASK = """<?xml version="1.0" encoding="UTF-16"?>
<Task version="1.2" xmlns="{namespace}">
  <RegistrationInfo>
    <Description>{mark}: the schedule of {spec}.</Description>
    <URI>\\{name}</URI>
  </RegistrationInfo>
  <Triggers>
    {trigger}
  </Triggers>
  <Principals>
    <Principal id="Author">
      <LogonType>S4U</LogonType>
      <RunLevel>LeastPrivilege</RunLevel>
    </Principal>
  </Principals>
  <Settings>
    <MultipleInstancesPolicy>IgnoreNew</MultipleInstancesPolicy>
    <DisallowStartIfOnBatteries>false</DisallowStartIfOnBatteries>
    <StopIfGoingOnBatteries>false</StopIfGoingOnBatteries>
    <StartWhenAvailable>true</StartWhenAvailable>
    <Enabled>true</Enabled>
    <ExecutionTimeLimit>PT0S</ExecutionTimeLimit>
  </Settings>
  <Actions Context="Author">
    <Exec>
      <Command>{command}</Command>
      <Arguments>{arguments}</Arguments>
      <WorkingDirectory>{folder}</WorkingDirectory>
    </Exec>
  </Actions>
</Task>
"""
