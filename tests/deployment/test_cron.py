"""The crontab line: its times, and its command as cron would run it."""

from __future__ import annotations

import subprocess

import pytest

from runwright.deployment import cron
from runwright.deployment.job import Job
from runwright.kernel.errors import Usage
from runwright.kernel.run import Schedule
from tests.deployment.test_systemd import job
from tests.e2e.fixtures import initialised, project
from tests.e2e.project import Project

__all__ = ["initialised", "project"]


def of(schedule: Schedule | None = None, interval_s: int | None = None) -> Job:
    """Return a job with a schedule."""
    return job(schedule=schedule, interval_s=interval_s, log="/srv/p/demo.log")


@pytest.mark.parametrize(
    ("made", "fields"),
    [
        (of(), "0 * * * *"),
        (of(Schedule(interval_s=1800)), "*/30 * * * *"),
        (of(Schedule(interval_s=60)), "*/1 * * * *"),
        (of(Schedule(interval_s=7200)), "0 */2 * * *"),
        (of(Schedule(interval_s=86_400)), "0 0 * * *"),
        (of(Schedule(cron="30 2 * * Mon-Fri")), "30 2 * * Mon-Fri"),
        (of(Schedule(cron="30 2 * * *"), interval_s=600), "*/10 * * * *"),
    ],
)
def test_the_times_are_those_of_the_schedule(made, fields) -> None:
    """An interval that divides an hour or a day, or the expression itself."""
    assert cron.times(made, zone="UTC") == fields


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (of(Schedule(interval_s=2700)), "cron cannot keep an interval of 2700 s"),
        (of(Schedule(interval_s=30)), "cron cannot keep an interval of 30 s"),
        (of(Schedule(cron="0 9 L * *")), "cron does not read '0 9 L"),
        (of(Schedule(cron="0 9 * * *", timezone="Europe/Oslo")), "the schedule is of Europe/Oslo"),
        (of(Schedule(once_at="2030-01-01T00:00:00Z")), "has one instant and no interval"),
    ],
)
def test_what_cron_cannot_keep_is_refused(made, message) -> None:
    """Never kept at other times than those that were meant."""
    with pytest.raises(Usage, match=message.replace("*", "[*]")):
        cron.times(made, zone="UTC")


def test_a_line_that_some_cron_would_misread_is_refused() -> None:
    """Backslashes, of which crons disagree, and lines that are too long."""
    with pytest.raises(Usage, match="backslashes"):
        cron.files(job(folder="/a\\b", log="/l"), zone="UTC")
    with pytest.raises(Usage, match="cron takes 998"):
        cron.files(job(folder="/" + "a" * 990, log="/l"), zone="UTC")


def handed_to_shell(line: str) -> str:
    """Return what cron hands to /bin/sh of a line: crontab(5), "the sixth field"."""
    command = line.split(maxsplit=5)[5]
    done = ""
    while "%" in command:
        before, _, command = command.partition("%")
        assert before.endswith("\\"), f"a newline for the command in {line!r}"
        done += before[:-1] + "%"
    return done + command


@pytest.mark.slow
@pytest.mark.parametrize("name", ["project", "100% \"odd\" 'name' $HOME"])
def test_the_line_runs_a_cycle_in_the_environment_of_cron(project: Project, tmp_path, name) -> None:
    """Nothing but HOME, LOGNAME, SHELL and a short PATH; what it says goes to the log."""
    project.spec(
        project.task("a", "import os\nprint(os.environ['TOKEN'])\n", env=["TOKEN"]),
        schedule={"cron": "0 * * * *"},
    )
    moved = project.folder.rename(tmp_path / name)
    project.folder = moved
    project.done("apply", "demo.yaml")
    secret = {"TOKEN": 'it\'s 100% "secret" $x'}
    project.done("service", "install", "demo", "--for", "cron", env=secret)
    line = (moved / "deploy" / "runwright-demo.crontab").read_text().splitlines()[-1]
    assert line.startswith("0 * * * * cd ")
    assert secret["TOKEN"] not in line
    given = {"HOME": str(tmp_path), "LOGNAME": "ada", "SHELL": "/bin/sh", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        ["/bin/sh", "-c", handed_to_shell(line)],
        env=given,
        cwd="/",
        capture_output=True,
        check=False,
    )
    log = (moved / ".runwright" / "service" / "demo.log").read_text()
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b""), log
    assert "COMPLETED" in log
    assert project.evidence()["results"][0]["stdout"].strip() == secret["TOKEN"]
    assert (moved / ".runwright" / "service" / "demo.env").stat().st_mode & 0o777 == 0o600
