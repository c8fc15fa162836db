"""`runwright service`: what is written, what is kept, what is refused and leaves nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runwright.adapters.commands import best_level
from tests.e2e.project import Project

READ = """
import json, pathlib
try:
    print(pathlib.Path({path!r}).read_text())
except OSError as error:
    print(json.dumps(type(error).__name__))
"""


@pytest.fixture
def kept(project: Project) -> Project:
    """A project with a spec to keep."""
    project.apply(
        project.task("a", "print(1)\n", env=["TOKEN"], secret=["TOKEN"]),
        schedule={"interval_s": 1800},
    )
    return project


def tree(folder: Path) -> dict[str, bytes]:
    """Return every file of a folder but the store's, which a reader touches too."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "store.db" not in path.name
    }


@pytest.mark.parametrize("target", ["systemd", "cron", "docker", "windows"])
def test_show_changes_nothing_and_prints_no_secret(kept: Project, target) -> None:
    """And what it shows is what `install` writes."""
    before = tree(kept.folder)
    env = {"TOKEN": "hunter22", "PGPASSWORD": "swordfish"}
    shown = kept.done("service", "show", "demo", "--for", target, "--out", "o", env=env)
    as_json = kept.done("service", "show", "demo", "--for", target, "--out", "o", "--json", env=env)
    assert tree(kept.folder) == before
    assert "hunter22" not in shown.stdout + as_json.stdout
    assert "swordfish" not in shown.stdout + as_json.stdout
    kept.done("service", "install", "demo", "--for", target, "--out", "o", env=env)
    for file in as_json.json["files"]:
        path = Path(file["path"])
        assert f"{path.stat().st_mode & 0o777:o}" == file["mode"]
        if file["mode"] == "644":
            encoding = "utf-16" if path.suffix == ".xml" else "utf-8"
            assert path.read_bytes().decode(encoding).replace("\r\n", "\n") == file["text"]


def test_a_file_that_differs_is_left_and_nothing_is_written(kept: Project) -> None:
    """Until --force; what was written before is the same, and nothing to write."""
    unit = kept.write("o/runwright-demo.service", "mine\n")
    before = tree(kept.folder)
    words = ["service", "install", "demo", "--for", "systemd", "--out", "o"]
    refused = kept.done(*words, status=2)
    assert refused.error == ("usage", f"{unit}: there already, and not what would be written")
    assert tree(kept.folder) == before
    states = kept.done(*words, "--force", "--json").json["files"]
    assert [file["state"] for file in states] == ["written", "written"]
    assert [file["state"] for file in kept.done(*words, "--json").json["files"]] == ["same"] * 2


def test_variables_that_somebody_filled_in_are_kept(kept: Project) -> None:
    """They are named as missing first; --force writes them anew."""
    words = ["service", "install", "demo", "--for", "systemd", "--out", "o", "--json"]
    first = kept.done(*words).json
    file = kept.folder / ".runwright" / "service" / "demo.env"
    assert first["next"][0] == f"fill in TOKEN in {file}"
    assert "# TOKEN=\n" in file.read_text()
    file.write_text(file.read_text().replace("# TOKEN=", "TOKEN='filled'"))
    assert [each["state"] for each in kept.done(*words).json["files"]] == ["kept", "same"]
    assert "TOKEN='filled'" in file.read_text()
    kept.done(*words, "--force")
    assert "filled" not in file.read_text()


def test_uninstall_removes_what_install_wrote_and_nothing_else(kept: Project) -> None:
    """Not a file of the same name that somebody else wrote."""
    before = tree(kept.folder)
    for target in ("systemd", "cron", "docker", "windows"):
        words = ["demo", "--for", target, "--out", "o"]
        kept.done("service", "install", *words)
        removed = kept.done("service", "uninstall", *words, "--json").json["removed"]
        assert removed
        assert tree(kept.folder) == before
    assert "nothing is installed" in kept.done("service", "uninstall", *words).stdout
    kept.done("service", "install", "demo", "--for", "docker")
    dockerfile = kept.write("Dockerfile", "FROM mine\n")
    refused = kept.done("service", "uninstall", "demo", "--for", "docker", status=2)
    assert refused.error[1] == f"{dockerfile}: not written by this command, so not removed"
    assert (kept.folder / ".dockerignore").exists()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (
            ["none", "--for", "cron"],
            "unknown-name",
            "no cycles spec of the name 'none' was applied",
        ),
        (["demo"], "usage", "Missing option '--for'"),
        (["demo", "--for", "cron", "--user"], "usage", "--user and --run-as go with --for systemd"),
        (
            ["demo", "--for", "systemd", "--user", "--run-as", "x"],
            "usage",
            "--run-as does not go with --user",
        ),
        (["demo", "--for", "cron", "--interval", "0"], "usage", "--interval: 0 is not above 0"),
        (
            ["demo", "--for", "cron", "--interval", "7"],
            "usage",
            "cron cannot keep an interval of 7 s",
        ),
        (
            ["demo", "--for", "systemd", "--out", "runwright.toml/x"],
            "usage",
            "/project/runwright.toml is not yours to write to",
        ),
    ],
)
def test_bad_input_is_refused_and_leaves_nothing(kept: Project, words, code, message) -> None:
    """With status 2, before the first file."""
    before = tree(kept.folder)
    done = kept.done("service", "install", *words, status=2)
    assert done.error[0] == code
    assert message in done.error[1]
    assert tree(kept.folder) == before


def test_settings_that_stand_in_no_file_go_with_the_service(kept: Project) -> None:
    """It would not have them otherwise; and where the signer remembers is not left to its home."""
    words = ["--set", "conductor.drain_s=77", "service", "install", "demo", "--for", "systemd"]
    kept.done(*words, "--out", "o", env={"RUNWRIGHT_CONDUCTOR_DRAIN_S": "1"})
    text = (kept.folder / ".runwright" / "service" / "demo.env").read_text()
    assert "RUNWRIGHT_CONDUCTOR_DRAIN_S='77.0'" in text
    assert f"RUNWRIGHT_SIGNER_MEMORY='{kept.state}/runwright'" in text
    assert "TimeoutStopSec=107" in (kept.folder / "o" / "runwright-demo.service").read_text()


@pytest.mark.external
@pytest.mark.skipif(best_level() != "T1", reason="this machine holds no T1")
@pytest.mark.parametrize(("level", "is_read"), [("T1", False), ("T0", True)])
def test_no_function_reads_the_variables_at_level_t1(project: Project, level, is_read) -> None:
    """Its passwords are the conductor's; T0, the control, is no sandbox."""
    file = project.folder / ".runwright" / "service" / "demo.env"
    look = project.task("look", READ.format(path=str(file)), level=level)
    project.apply(look, schedule={"interval_s": 1800})
    env = {"PGPASSWORD": "swordfish"}
    project.done("service", "install", "demo", "--for", "systemd", "--out", "o", env=env)
    project.done("run", "demo")
    seen = project.done("show", "latest", "--output", "stdout").stdout
    if is_read:
        assert "swordfish" in seen
    else:
        assert json.loads(seen) == "PermissionError"
