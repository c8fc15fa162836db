"""The unit under a real systemd: it starts, is watched, drained and started again."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from runwright.adapters.commands import best_level
from tests.e2e.manager import Manager, obstacle
from tests.e2e.project import Project, until

OBSTACLE = obstacle()
UNIT = "runwright-demo.service"
SECRET = 'it\'s a $HOME "100%" \\ `x`'
#: What a function finds out about where it runs.
LOOK = """
import json, os, subprocess
status = open("/proc/self/status").read()
field = lambda name: status.partition(name + ":")[2].split()[0]
spaces = subprocess.run(["unshare", "--user", "--map-root-user", "true"], capture_output=True)
print(json.dumps({
    "uid": os.getuid(), "secret": os.environ["PGPASSWORD"],
    "new_privileges": field("NoNewPrivs"), "user_namespace": spaces.returncode,
    "socket": "NOTIFY_SOCKET" in os.environ,
}))
"""
pytestmark = [
    pytest.mark.slow,
    pytest.mark.external,
    pytest.mark.skipif(bool(OBSTACLE), reason=f"no systemd can be started: {OBSTACLE}"),
]


def _user() -> str:
    """Return a user who is not root and may start this runwright; root where there is none."""
    try:
        subprocess.run(
            [sys.executable, "-c", "import runwright"],
            user="nobody",
            capture_output=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "root"
    return "nobody"


@pytest.fixture(scope="module")
def manager() -> Iterator[Manager]:
    """A systemd."""
    made = Manager()
    yield made
    made.close()


@pytest.fixture
def service(manager: Manager, initialised: Project) -> Iterator[Project]:
    """A project of an odd name whose schedule is kept by a unit, not yet started."""
    base = Path(tempfile.mkdtemp(prefix="a 100% \"odd\" 'name' $HOME "))
    base.chmod(0o755)
    project = initialised.copy_to(base)
    yield project
    manager.control("stop", UNIT)
    for name in (UNIT, f"{UNIT}.d/test.conf"):
        (manager.units / name).unlink(missing_ok=True)
    project.close()
    shutil.rmtree(base)


def install(manager: Manager, project: Project, **dropped: str) -> None:
    """Install the unit, with other values of a few of its settings."""
    user = _user()
    words = ["service", "install", "demo", "--for", "systemd", "--out", manager.units]
    project.done(*words, "--run-as", user, "--force", env={"PGPASSWORD": SECRET})
    for path in (project.base, *project.base.rglob("*")):
        if not path.is_symlink():
            shutil.chown(path, user)
    if dropped:
        lines = "\n".join(f"{name}={value}" for name, value in dropped.items())
        folder = manager.units / f"{UNIT}.d"
        folder.mkdir(exist_ok=True)
        (folder / "test.conf").write_text(f"[Service]\n{lines}\n")
    status, text = manager.control("daemon-reload")
    assert status == 0, text


def outputs(project: Project) -> dict[str, dict[str, object]]:
    """Return what the functions of the newest cycle found out, by name."""
    return {
        name: json.loads(
            project.done("show", "latest", "--output", "stdout", "--function", name).stdout
        )
        for name in ("look", "low")
    }


def lookers(project: Project) -> list[dict[str, object]]:
    """Return a function at the best level that there is, and one at the lowest."""
    granted = {"env": ["PATH", "PGPASSWORD"]}
    return [project.task("look", LOOK, **granted), project.task("low", LOOK, level="T0", **granted)]


def cycle(project: Project, count: int = 1) -> str:
    """Wait until so many cycles were judged; return the outcome of the newest."""
    ended = "SELECT outcome FROM round WHERE judged_seq IS NOT NULL ORDER BY seq DESC"
    rows = until(lambda: len(found := project.sql(ended)) >= count and found, "a cycle")
    return str(rows[0][0])


@pytest.mark.proves("the unit weakens no isolation")
def test_a_service_starts_runs_isolated_tells_how_it_stands_and_stops(
    manager: Manager, service: Project
) -> None:
    """In a folder with blanks, percent signs and quotes in its name; nothing of it is expanded."""
    service.apply(*lookers(service), schedule={"interval_s": 3600})
    service.done("run", "demo", env={"PGPASSWORD": SECRET})
    outside = outputs(service)
    install(manager, service)
    status, text = manager.control("enable", UNIT)
    assert status == 0, text
    assert (manager.units / "multi-user.target.wants" / UNIT).is_symlink()
    status, text = manager.control("start", UNIT)
    assert status == 0, text + manager.control("status", UNIT)[1]
    assert cycle(service, 2) == "COMPLETED"
    shown = service.done("show", "latest", "--json").json
    assert [run["level"] for run in shown["runs"]] == [best_level(), "T0"]
    found = outputs(service)
    uid = service.folder.stat().st_uid
    assert outside["low"]["user_namespace"] == 0
    for name, low in (("look", "1"), ("low", "1")):
        same = {"user_namespace": outside[name]["user_namespace"], "secret": SECRET}
        assert found[name] == {"uid": uid, "new_privileges": low, "socket": False, **same}
    until(lambda: 'Status: "CYCLE_' in manager.control("status", UNIT)[1], "the status")
    assert manager.control("stop", UNIT)[0] == 0
    assert manager.show(UNIT, "Result") == "success"
    assert service.bodies("conductor.stopped") == [{"reason": "drained", "signal": signal.SIGTERM}]


def test_hardening_that_breaks_isolation_would_be_seen(manager: Manager, service: Project) -> None:
    """The control: with what the unit leaves out, a function finds another place."""
    service.apply(*lookers(service), schedule={"interval_s": 3600})
    install(manager, service, RestrictNamespaces="yes")
    assert manager.control("start", UNIT)[0] == 0
    cycle(service)
    assert outputs(service)["low"]["user_namespace"] != 0


def test_a_stop_lets_a_running_function_end(manager: Manager, service: Project) -> None:
    """The signal goes to the conductor alone; the function ends in its own time, and well."""
    gate = service.gate()
    service.apply(service.task("a", gate.source), schedule={"interval_s": 3600})
    install(manager, service)
    assert manager.control("start", UNIT)[0] == 0
    gate.wait_begun()
    assert manager.control("stop", "--no-block", UNIT)[0] == 0
    until(lambda: manager.show(UNIT, "ActiveState") == "deactivating", "the stop")
    until(lambda: manager.show(UNIT, "StatusText") == "stopping", "its word")
    gate.let_go()
    until(lambda: manager.show(UNIT, "ActiveState") == "inactive", "the end")
    assert manager.show(UNIT, "Result") == "success"
    assert cycle(service) == "COMPLETED"


@pytest.mark.proves("a conductor that hangs is started again")
def test_a_conductor_that_hangs_is_ended_and_started_again(
    manager: Manager, service: Project
) -> None:
    """And what it left under way is closed by the one that follows."""
    gate = service.gate()
    service.apply(service.task("a", gate.source), schedule={"interval_s": 3600})
    install(manager, service, WatchdogSec="2s", RestartSec="100ms")
    assert manager.control("start", UNIT)[0] == 0
    gate.wait_begun()
    pid = manager.main_pid(UNIT)
    os.kill(pid, signal.SIGSTOP)
    until(lambda: manager.show(UNIT, "NRestarts") == "1", "the watchdog")
    until(lambda: manager.show(UNIT, "ActiveState") == "active", "the next one")
    assert cycle(service) == "INTERRUPTED"
    assert manager.main_pid(UNIT) not in (0, pid)


def test_one_whom_starting_again_does_not_mend_stays_ended(
    manager: Manager, service: Project
) -> None:
    """A schedule that is not there any more ends with 2, and somebody must look."""
    service.apply(service.task("a", "print(1)\n"), schedule={"interval_s": 3600})
    install(manager, service, RestartSec="100ms")
    service.sql("DELETE FROM spec")
    assert manager.control("start", UNIT)[0] != 0
    until(lambda: manager.show(UNIT, "ActiveState") == "failed", "its end")
    assert manager.show(UNIT, "ExecMainStatus") == "2"
    assert manager.show(UNIT, "NRestarts") == "0"
