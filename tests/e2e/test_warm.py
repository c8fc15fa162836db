"""Functions that wish to start warm, by the commands of an operator."""

from __future__ import annotations

import signal

import pytest

from runwright.adapters.commands import best_level
from tests.e2e.project import Project, processes, until

pytestmark = pytest.mark.skipif(best_level() != "T1", reason="templates are held at T1")

TEMPLATE = "runwright.adapters.template"
HELLO = "import json\nprint('hello')\n"


def mine(project: Project) -> list[int]:
    """Return the templates of a project, and what they forked."""
    return [pid for pid in processes(TEMPLATE) if pid in processes(str(project.folder))]


def test_a_single_run_starts_cold_and_says_why(project: Project) -> None:
    """The wish stands in the plan, what came of it in the outcome; neither breaks the record."""
    project.apply(project.task("a", HELLO, warm=True), project.task("b", HELLO))
    project.done("run", "demo")
    first, second = project.bodies("run.finished")
    assert (first["warmth"]["state"], "warmth" in second) == ("cold", False)
    shown = project.done("show", "latest").stdout
    assert "warm     0 of 1" in shown
    assert "a started cold: no further cycle is expected of this process" in shown
    (a, b) = project.done("show", "latest", "--json").json["runs"]
    assert (a["work"]["warm"], a["warmth"]["state"]) == ({}, "cold")
    assert ("warm" in b["work"], b["warmth"]) == (False, None)
    project.done("verify", "--store", "--rejudge")


def test_a_setting_makes_a_single_run_warm(project: Project) -> None:
    """Functions of one cycle share a template; nothing of it is left."""
    tasks = [project.task(name, HELLO, warm={"imports": ["json"]}) for name in ("a", "b")]
    project.apply(*tasks)
    project.done("run", "demo", env={"RUNWRIGHT_CONDUCTOR_WARM": "always"})
    found = [body["warmth"] for body in project.bodies("run.finished")]
    assert [each["state"] for each in found] == ["warm", "warm"]
    assert len({each["template"] for each in found}) == 1
    assert mine(project) == []
    assert "warm     2 of 2" in project.done("show", "latest").stdout
    project.done("run", "demo", env={"RUNWRIGHT_CONDUCTOR_WARM": "never"})
    assert project.bodies("run.finished")[-1]["warmth"]["state"] == "cold"
    error = project.run("run", "demo", env={"RUNWRIGHT_CONDUCTOR_WARM": "often"}).error
    assert error[0] == "invalid-setting"


def test_a_schedule_is_warm_from_its_first_cycle_and_sees_a_changed_row(project: Project) -> None:
    """Imports are those of the plan; a template ends with its conductor, also with a killed one."""
    project.apply(project.task("a", HELLO, warm={"imports": ["json"]}))
    running = project.start("run", "demo", "--continuous", "--interval", 1)
    running.wait_event("round.judged")
    config = '{"function_path": "functions/a.py", "warm": {"imports": ["json", "csv"]}}'
    project.sql("UPDATE task_registry SET task_config = ?", config)
    seen = len(project.bodies("round.judged"))
    running.wait_event("round.judged", count=seen + 2)
    assert mine(project)
    running.kill()
    until(lambda: not mine(project), "every template ended")
    found = [body["warmth"] for body in project.bodies("run.finished")]
    assert {each["state"] for each in found} == {"warm"}
    assert len({each["template"] for each in found}) == 2


def test_a_template_ends_with_a_schedule_that_ends(project: Project) -> None:
    """As every process does that a conductor started."""
    project.apply(project.task("a", HELLO, warm=True))
    running = project.start("run", "demo", "--continuous", "--interval", 1)
    running.wait_event("round.judged")
    running.send(signal.SIGTERM)
    assert running.end().status == 0
    assert mine(project) == []
    assert list((project.folder / ".runwright" / "scratch").glob("*")) == []
