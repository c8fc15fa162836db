"""The deployment that the document cycles-001 describes, each part with what stands for it."""

from __future__ import annotations

import json
import shlex
import signal
from pathlib import Path

import pytest

from tests.e2e.project import Project
from tests.e2e.test_notify import Manager, manager

__all__ = ["manager"]

TABLE = {"PGHOST": "127.0.0.1", "PGPORT": "54322", "PGDATABASE": "postgres", "PGUSER": "vision"}


@pytest.fixture
def unit(project: Project) -> tuple[dict[str, str], str, Project]:
    """The assignments of the unit, the file of variables, and their project."""
    project.apply(project.task("a", "print(1)\n"), schedule={"interval_s": 3600})
    words = ["service", "install", "demo", "--for", "systemd", "--run-as", "vision"]
    project.done(*words, "--out", "units", env={**TABLE, "PGPASSWORD": "hunter22"})
    text = (project.folder / "units" / "runwright-demo.service").read_text()
    lines = [line.partition("=") for line in text.splitlines() if "=" in line]
    variables = (project.folder / ".runwright" / "service" / "demo.env").read_text()
    return {name: value for name, _, value in lines}, variables, project


@pytest.mark.seed("cycles-001/deploy-systemd-unit")
def test_there_is_a_unit_after_network_and_database(unit) -> None:
    """It tells when it is ready, which `simple` would not."""
    assert unit[0]["After"] == "network.target postgresql.service"
    assert unit[0]["Type"] == "notify"


@pytest.mark.seed("cycles-001/deploy-systemd-user")
def test_the_unit_names_user_and_folder(unit) -> None:
    """Those of the document, whatever they are called here."""
    assert unit[0]["User"] == "vision"
    assert Path(unit[0]["WorkingDirectory"]) == unit[2].folder


@pytest.mark.seed("cycles-001/deploy-systemd-environment")
def test_the_variables_stand_in_a_file_of_their_own(unit) -> None:
    """The password too, and only there; nobody else may read it."""
    assigned, variables, project = unit
    read = dict(
        shlex.split(line)[0].split("=", 1)
        for line in variables.splitlines()
        if not line.startswith("#")
    )
    assert {**TABLE, "PGPASSWORD": "hunter22"}.items() <= read.items()
    file = Path(assigned["EnvironmentFile"])
    assert file == project.folder / ".runwright" / "service" / "demo.env"
    assert file.stat().st_mode & 0o777 == 0o600
    assert "hunter22" not in (project.folder / "units" / "runwright-demo.service").read_text()


@pytest.mark.seed("cycles-001/deploy-systemd-execstart")
def test_the_unit_starts_this_runwright_continuously(unit) -> None:
    """By its absolute path: no PATH is asked."""
    program, *words = shlex.split(unit[0]["ExecStart"].removeprefix(":"))
    assert Path(program).is_absolute()
    assert Path(program).exists()
    assert words[-3:] == ["run", "demo", "--continuous"]


@pytest.mark.seed("cycles-001/deploy-systemd-restart")
def test_the_unit_is_started_again_after_a_failure(unit) -> None:
    """After a minute, but for failures that a person must look at."""
    assert (unit[0]["Restart"], unit[0]["RestartSec"]) == ("on-failure", "60")
    assert unit[0]["RestartPreventExitStatus"] == "2 4"


@pytest.mark.seed("cycles-001/deploy-systemd-install")
def test_the_unit_is_wanted_by_the_machine(unit) -> None:
    """Or by the session, for a unit of one's own."""
    assert unit[0]["WantedBy"] == "multi-user.target"
    shown = unit[2].done("service", "show", "demo", "--for", "systemd", "--user", "--json").json
    assert "WantedBy=default.target" in shown["files"][1]["text"]


@pytest.mark.seed("cycles-001/deploy-systemctl-daemon-reload")
@pytest.mark.seed("cycles-001/deploy-systemctl-enable")
def test_what_to_type_next_is_what_the_document_types(unit) -> None:
    """In its order; tests/e2e/test_systemd.py types it to a real systemd."""
    shown = unit[2].done("service", "show", "demo", "--for", "systemd", "--json").json
    verbs = ["daemon-reload", *(f"{verb} runwright-demo" for verb in ("enable", "start", "status"))]
    assert shown["next"] == [f"systemctl {verb}" for verb in verbs]


@pytest.mark.slow
@pytest.mark.seed("cycles-001/deploy-systemctl-start")
@pytest.mark.seed("cycles-001/deploy-systemctl-status")
def test_a_manager_hears_when_it_is_ready_what_it_does_and_that_it_stops(
    project: Project, manager: Manager
) -> None:
    """READY comes before the first cycle, a status with each function, STOPPING with SIGTERM."""
    gate = project.gate()
    project.apply(project.task("a", gate.source), schedule={"interval_s": 3600})
    running = project.start("run", "demo", "--continuous", env=manager.environment())
    gate.wait_begun()
    manager.wait("STATUS=[1/1] a")
    assert manager.heard == ["READY=1", "STATUS=keeps the schedule of demo", "STATUS=[1/1] a"]
    running.send(signal.SIGTERM)
    manager.wait("STOPPING=1")
    gate.let_go()
    assert running.end().status == 0
    while manager.listen():
        pass
    assert "EXTEND_TIMEOUT_USEC=50000000" in manager.heard
    assert any(line.endswith(" COMPLETED") for line in manager.heard)


@pytest.mark.seed("cycles-001/deploy-cron")
def test_there_is_a_crontab_line_as_the_document_has_it(project: Project) -> None:
    """Its times, `cd`, the command, and its log; tests/deployment runs it as cron would."""
    project.apply(project.task("a", "print(1)\n"), schedule={"interval_s": 3600})
    words = [
        "service",
        "show",
        "demo",
        "--for",
        "cron",
        "--program",
        "/usr/bin/runwright",
        "--json",
    ]
    line = project.done(*words).json["files"][1]["text"].splitlines()[-1]
    folder = project.folder
    assert line.startswith(f"0 * * * * cd {folder} && ")
    assert "&& /usr/bin/runwright run demo; }" in line
    assert line.endswith(f" >> {folder}/.runwright/service/demo.log 2>&1")


@pytest.fixture
def dockerfile(project: Project) -> list[str]:
    """The lines of the Dockerfile; tests/deployment executes them."""
    project.apply(project.task("a", "print(1)\n"), schedule={"interval_s": 3600})
    env = {"PGHOST": "postgres", "PGPORT": "5432", "PGDATABASE": "postgres"}
    project.done("service", "install", "demo", "--for", "docker", env=env)
    return (project.folder / "Dockerfile").read_text().splitlines()


@pytest.mark.seed("cycles-001/deploy-docker-image")
def test_the_image_is_of_the_documents_base(dockerfile) -> None:
    """Its folder, what is installed, and the project's files."""
    assert dockerfile[1:3] == ["FROM python:3.11-slim", "WORKDIR /app"]
    assert dockerfile[3].startswith('RUN pip install --no-cache-dir "runwright[postgres]==')
    assert dockerfile[4] == "COPY . /app/"


@pytest.mark.seed("cycles-001/deploy-docker-environment")
def test_the_image_names_the_database(dockerfile) -> None:
    """As the document does, without a password."""
    for line in ("ENV PGHOST=postgres", "ENV PGPORT=5432", "ENV PGDATABASE=postgres"):
        assert line in dockerfile


@pytest.mark.seed("cycles-001/deploy-docker-command")
def test_the_image_keeps_the_schedule(dockerfile) -> None:
    """Without a shell between, so that the signal to stop reaches it."""
    assert dockerfile[-1].startswith("CMD ")
    assert json.loads(dockerfile[-1][4:]) == ["runwright", "run", "demo", "--continuous"]
