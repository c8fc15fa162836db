"""SIGKILL from outside at points that the process announces, and what the next start finds."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

import runwright
from tests.e2e.project import Project, processes, until

#: Appends a line to `effects/NAME`, as a function with a side effect would.
EFFECT = """
import pathlib, sys
folder = pathlib.Path(__file__).parent.parent / "effects"
folder.mkdir(exist_ok=True)
with open(folder / pathlib.Path(__file__).stem, "a") as file:
    file.write("x")
"""


def effects(project: Project) -> dict[str, int]:
    """Return how often each function acted."""
    return {path.name: path.stat().st_size for path in (project.folder / "effects").glob("*")}


def is_whole(project: Project) -> bool:
    """Say whether nothing is open: each planned round is judged, each started run finished."""
    entries = project.entries()
    planned = [entry["round"] for entry in entries if entry["type"] == "round.planned"]
    judged = [entry["round"] for entry in entries if entry["type"] == "round.judged"]
    started = {entry["run"] for entry in entries if entry["type"] == "run.started"}
    finished = [entry["run"] for entry in entries if entry["type"] == "run.finished"]
    (open_ticks,) = project.sql("SELECT count(*) FROM tick WHERE state = 'open'")
    return (
        sorted(planned) == sorted(judged)
        and started <= set(finished)
        and len(finished) == len(set(finished))
        and open_ticks == (0,)
        and [entry["seq"] for entry in entries] == list(range(len(entries)))
    )


def test_a_killed_conductor_takes_its_functions_along(project: Project, tmp_path: Path) -> None:
    """The child, and a grandchild in another session, are gone without anybody's next start."""
    gate = project.gate()
    marker = f"orphan-{tmp_path.name}"
    source = f"""
import subprocess, sys
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", {marker!r}],
                 start_new_session=True)
"""
    project.apply(project.task("a", source + gate.source, args=[marker]))
    running = project.start("run", "demo")
    gate.wait_begun()
    until(lambda: len(processes(marker)) == 2, "both processes are up")
    running.kill()
    until(lambda: processes(marker) == [], "no orphan is left")


def test_the_next_start_closes_what_was_under_way_as_interrupted(project: Project) -> None:
    """What had ended counts, what was under way is interrupted, what had not begun is skipped."""
    gate = project.gate()
    project.apply(
        project.task("a", EFFECT),
        project.task("b", EFFECT + gate.source),
        project.task("c", EFFECT),
    )
    running = project.start("run", "demo")
    label = running.wait_event("round.planned")["label"]
    gate.wait_begun()
    running.kill()
    assert not is_whole(project)
    assert project.done("show", label, "--json").json["outcome"] == "under way"

    done = project.done("apply", "demo.yaml")
    assert "tick.recovered" in [event["event"] for event in done.events]
    shown = project.done("show", label, "--json").json
    assert shown["outcome"] == "INTERRUPTED"
    assert [run["status"] for run in shown["runs"]] == ["done", "interrupted", "skipped"]
    assert [run["reason"] for run in shown["runs"]][1:] == ["conductor-died", "conductor-died"]
    assert effects(project) == {"a": 1, "b": 1}
    assert is_whole(project)
    evidence = project.evidence(label)
    assert evidence["cycle_status"] == "INTERRUPTED"
    assert (evidence["success_count"], evidence["failure_count"]) == (1, 0)
    assert project.sql("SELECT max(size) FROM seal") == [(len(project.entries()),)]


def test_a_build_that_does_not_recover_fails_this_test(project: Project) -> None:
    """The control: without recovery the record stays open, and `is_whole` says so."""
    gate = project.gate()
    project.apply(project.task("a", gate.source))
    running = project.start("run", "demo")
    gate.wait_begun()
    running.kill()
    sabotage = (
        "import runwright.kernel.drive.conductor as it\n"
        "it.Conductor.recover = lambda self: []\n"
        "from runwright.cli.main import main\nmain()\n"
    )
    argv = [sys.executable, "-c", sabotage, "apply", "demo.yaml"]
    done = subprocess.run(
        argv, cwd=project.folder, env=project.environment, capture_output=True, timeout=30
    )
    assert done.returncode == 0, done
    assert not is_whole(project)
    project.done("apply", "demo.yaml")
    assert is_whole(project)


def test_an_interrupted_cycle_is_not_repeated_by_itself(project: Project) -> None:
    """The next run is a cycle of its own, with its own id; nothing acts for the old one."""
    gate = project.gate()
    project.apply(project.task("a", EFFECT + gate.source))
    running = project.start("run", "demo")
    child = gate.wait_begun()
    running.kill()
    until(lambda: not Path(f"/proc/{child}").exists(), "its function is gone")
    gate.let_go()
    done = project.done("run", "demo", "--json")
    assert done.json["outcome"] == "COMPLETED"
    assert effects(project) == {"a": 2}
    labels = [body["label"] for body in project.bodies("round.judged")]
    assert labels == ["INTERRUPTED", "COMPLETED"]


def test_a_scheduled_occurrence_that_was_interrupted_is_not_fired_again(project: Project) -> None:
    """It has its record; the schedule goes on with the next one."""
    gate = project.gate()
    once = datetime.fromtimestamp(int(time.time()) + 1, UTC).isoformat()
    project.apply(project.task("a", EFFECT + gate.source), schedule={"once_at": once})
    first = project.start("run", "demo", "--continuous")
    gate.wait_begun()
    first.kill()
    second = project.start("run", "demo", "--continuous")
    second.wait_event("conductor.started")
    second.send(15)
    assert second.end().status == 0
    assert effects(project) == {"a": 1}
    assert [body["label"] for body in project.bodies("round.judged")] == ["INTERRUPTED"]
    assert is_whole(project)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("event", "count"),
    [
        *(("round.planned", 1), ("run.started", 1), ("run.finished", 1), ("run.started", 2)),
        *(("run.finished", 2), ("run.started", 3), ("run.finished", 3), ("round.judged", 1)),
    ],
)
def test_kill_at_any_announced_moment_loses_and_repeats_nothing(
    project: Project, tmp_path: Path, event: str, count: int
) -> None:
    """Whatever was announced is in the record, no function acts twice, and the record is whole."""
    marker = f"moment-{tmp_path.name}"
    project.apply(*(project.task(name, EFFECT, args=[marker]) for name in ("a", "b", "c")))
    running = project.start("run", "demo")
    running.wait_event(event, count)
    running.kill()
    said = [json.loads(line) for line in running.so_far().stderr.splitlines()]
    types = [entry["type"] for entry in project.entries()]
    for name in ("round.planned", "run.started", "run.finished", "round.judged"):
        assert types.count(name) >= sum(each["event"] == name for each in said), name
    until(lambda: processes(marker) == [], "no orphan is left")
    acted = effects(project)
    project.done("apply", "demo.yaml")
    assert is_whole(project)
    assert effects(project) == acted
    assert all(times == 1 for times in acted.values())
    shown = project.done("show", "demo", "--json").json
    for run in shown["runs"]:
        if run["status"] == "done":
            assert acted[run["key"]] == 1
        if run["status"] == "skipped":
            assert run["key"] not in acted
    (evidence,) = (project.folder / "out" / "evidence").glob("*.json")
    assert json.loads(evidence.read_text())["cycle_status"] == shown["outcome"]
    assert project.done("run", "demo", "--json").json["outcome"] == "COMPLETED"
    assert project.done("doctor").status == 0


@pytest.mark.slow
def test_a_store_killed_in_the_middle_of_init_is_no_project(tmp_path: Path) -> None:
    """`init` leaves a whole project or none, whenever it is killed, and can be given again."""
    source = """
import os, sys
from runwright.adapters.sqlite import SqliteStore
real = SqliteStore.commit
def commit(self, batch):
    real(self, batch)
    print("committed", flush=True)
    sys.stdin.read()
SqliteStore.commit = commit
from runwright.cli.main import main
sys.argv = ["runwright", "init", "--name", "half"]
main()
"""
    project = Project(tmp_path)
    process = subprocess.Popen(
        [sys.executable, "-c", source],
        cwd=project.folder,
        env=project.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"committed\n"
    process.kill()
    process.communicate()
    assert not project.store.exists()
    done = project.run("show")
    assert (done.status, done.error[0]) == (2, "store-missing")
    again = project.run("init", "--name", "half")
    assert again.status == 0, again
    assert [entry["type"] for entry in project.entries()] == ["ledger.opened"]


def test_the_package_under_test_is_the_one_that_runs(project: Project) -> None:
    """The processes of these tests import what these tests import."""
    where = "import runwright; print(runwright.__file__)"
    argv = [sys.executable, "-c", where]
    done = subprocess.run(argv, env=project.environment, capture_output=True, text=True, timeout=30)
    assert done.stdout.strip() == runwright.__file__
