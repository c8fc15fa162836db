"""A line of a crontab: one cycle at each time, started by cron."""

from __future__ import annotations

import re
import shlex

from runwright.deployment.job import MARK, File, Job, environment, text_of
from runwright.kernel.errors import Usage

#: The longest line that every cron takes, in bytes.
LINE_MAX = 998
#: What fields mean the same to every cron.
_FIELD = re.compile(r"[0-9*/,-]+|[A-Za-z]{3}(?:[,-][A-Za-z]{3})*")
_HOUR_S, _DAY_S = 3600, 86_400


def files(job: Job, *, zone: str) -> list[File]:
    """Return the line and its variables, for a machine whose clock shows a zone. Raises: usage."""
    line = f"{times(job, zone=zone)} {_command(job)}"
    if len(line.encode()) > LINE_MAX:
        message = f"the line has {len(line.encode())} bytes; cron takes {LINE_MAX}"
        raise Usage(message, hint="Move the project to a shorter path.")
    text = [f"# {MARK}; one line of a crontab.", line]
    return [
        environment(job),
        File(path=f"{job.name}.crontab", data=text_of(text), shown=text_of(text).decode()),
    ]


def times(job: Job, *, zone: str) -> str:
    """Return the five fields of a schedule. Raises: usage when cron cannot keep it."""
    schedule = job.schedule
    if job.interval_s is None and schedule is not None and schedule.cron:
        fields = schedule.cron.split()
        if schedule.timezone != zone:
            message = f"the schedule is of {schedule.timezone}, and cron here runs in {zone}"
            raise Usage(message, hint="A service keeps it: --for systemd.")
        if not all(_FIELD.fullmatch(field) for field in fields):
            message = f"cron does not read {schedule.cron!r}"
            raise Usage(message, hint="A service keeps it: --for systemd.")
        return " ".join(fields)
    interval_s = seconds(job)
    minutes, rest_s = divmod(interval_s, 60)
    if not rest_s and minutes and _HOUR_S % interval_s == 0:
        return f"{'0' if minutes == 60 else f'*/{minutes}'} * * * *"  # noqa: PLR2004 - an hour
    if interval_s % _HOUR_S == 0 and _DAY_S % interval_s == 0:
        hours = interval_s // _HOUR_S
        return "0 0 * * *" if interval_s == _DAY_S else f"0 */{hours} * * *"
    message = f"cron cannot keep an interval of {interval_s} s"
    raise Usage(message, hint="A divisor of an hour or of a day, or a service: --for systemd.")


def seconds(job: Job) -> int:
    """Return the seconds between two cycles. Raises: usage for what has no interval."""
    if job.interval_s is not None:
        return job.interval_s
    if job.schedule is None:
        return job.default_s
    if job.schedule.interval_s is not None:
        return job.schedule.interval_s
    message = f"the schedule of {job.spec} has one instant and no interval"
    raise Usage(message, hint="`runwright run NAME --at T` waits for an instant.")


def _command(job: Job) -> str:
    """Return what cron hands to /bin/sh: nothing of it depends on the environment of cron."""
    run = " ".join(map(shlex.quote, job.command(continuous=False)))
    file = shlex.quote(job.environment_file)
    text = (
        f"cd {shlex.quote(job.folder)} && {{ set -a && . {file} && set +a && {run}; }}"
        f" >> {shlex.quote(job.log)} 2>&1"
    )
    if "\\" in text:
        message = "crons disagree about backslashes, and a path of this line holds one"
        raise Usage(message)
    return text.replace("%", "\\%")
