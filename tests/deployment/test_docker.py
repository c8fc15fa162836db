"""The Dockerfile: no engine is at hand, so its lines are executed one by one, in an empty folder.

`FROM` is a fresh environment of this Python, `WORKDIR` a fresh folder, `USER` a user of that number
where this may be one. What pip would fetch is a wheel of this very source, and what that needs is
taken from the environment of the tests.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import venv
import zipfile
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest

import runwright
from runwright.deployment import docker
from tests.deployment.test_systemd import job
from tests.e2e.fixtures import initialised, project
from tests.e2e.project import SOON_S, Project, until

__all__ = ["initialised", "project"]

CONTEXT_OF = ("Dockerfile", ".dockerignore")


def instructions(text: str) -> list[tuple[str, str]]:
    """Return the instructions of a Dockerfile; none of ours goes on over lines."""
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines)]


def wheel(folder: Path) -> None:
    """Make a wheel of the source that the tests import."""
    found = distribution("runwright")
    name = f"runwright-{runwright.__version__}"
    needs = "".join(f"Requires-Dist: {need}\n" for need in found.requires or ())
    extras = "".join(f"Provides-Extra: {x}\n" for x in found.metadata.get_all("Provides-Extra", []))
    source = Path(runwright.__file__).parent
    files = {
        f"runwright/{path.relative_to(source)}": path.read_bytes()
        for path in source.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    head = f"Metadata-Version: 2.1\nName: runwright\nVersion: {runwright.__version__}\n"
    info = f"{name}.dist-info"
    files[f"{info}/METADATA"] = (head + extras + needs).encode()
    files[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files[f"{info}/entry_points.txt"] = b"[console_scripts]\nrunwright = runwright.cli.main:main\n"
    record = "".join(f"{file},{_digest(data)},{len(data)}\n" for file, data in files.items())
    files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    with zipfile.ZipFile(folder / f"{name}-py3-none-any.whl", "w") as archive:
        for file, data in files.items():
            archive.writestr(file, data)


def _digest(data: bytes) -> str:
    text = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode()
    return f"sha256={text.rstrip('=')}"


class Image:
    """What the lines of a Dockerfile left: a folder with files, and how to start it."""

    def __init__(self, base: Path, context: Path) -> None:
        """Execute the Dockerfile of a folder."""
        self.base, self.context = base, context
        self.environment = {"HOME": "/nonexistent", "LANG": "C.UTF-8"}
        self.work = base
        self.command: list[str] = []
        self.check: list[str] = []
        self.seen: dict[str, list[str]] = {}
        for word, rest in instructions((context / "Dockerfile").read_text()):
            self.seen.setdefault(word, []).append(rest)
            getattr(self, f"_{word.lower()}")(rest)

    def start(self, *words: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start a command in it, or what it starts by itself."""
        return subprocess.Popen(
            list(words) or self.command,
            executable=shutil.which((list(words) or self.command)[0], path=self._path()),
            cwd=self.work,
            env={**self.environment, "PATH": self._path(), **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def run(self, *words: str) -> tuple[int, str]:
        """Run a command in it to its end."""
        with self.start(*words) as process:
            text = process.communicate(timeout=SOON_S)[0].decode()
        return process.returncode, text

    def _path(self) -> str:
        return f"{self.base / 'python' / 'bin'}:/usr/bin:/bin"

    def _from(self, rest: str) -> None:
        assert rest == "python:3.11-slim"
        venv.create(self.base / "python", symlinks=True)
        (there,) = (self.base / "python" / "lib").glob("python*/site-packages")
        needs = self.base / "needs"
        needs.mkdir()
        for folder in [Path(path) for path in sys.path if path.endswith("site-packages")]:
            for path in folder.iterdir():
                # Not what it is about to install.
                if "runwright" not in path.name and not (needs / path.name).exists():
                    (needs / path.name).symlink_to(path)
        (there / "needs.pth").write_text(f"{needs}\n")
        pip = self.base / "python" / "bin" / "pip"
        pip.write_text(f'#!/bin/sh\nexec "{pip.parent}/python" -m pip "$@"\n')
        pip.chmod(0o755)
        wheels = self.base / "index"
        wheels.mkdir()
        wheel(wheels)
        # The index that an image would ask.
        self.index = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels)}

    def _workdir(self, rest: str) -> None:
        self.work = self.base / rest.lstrip("/")
        self.work.mkdir(parents=True)

    def _run(self, rest: str) -> None:
        done = subprocess.run(
            ["/bin/sh", "-c", rest],
            cwd=self.work,
            env={**self.environment, "PATH": self._path(), **self.index},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"RUN {rest}\n{done.stdout}{done.stderr}"

    def _copy(self, rest: str) -> None:
        source, target = rest.split()
        assert (source, target) == (".", "/app/")
        ignored = (self.context / ".dockerignore").read_text().split("\n")[1:]
        names = [name.removeprefix("**/") for name in ignored if name]
        shutil.copytree(
            self.context, self.work, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*names)
        )

    def _env(self, rest: str) -> None:
        name, _, value = rest.partition("=")
        # Its quotes and backslashes are those of sh; a variable would be substituted in both.
        done = subprocess.run(["/bin/sh", "-c", f"printf %s {value}"], capture_output=True)
        self.environment[name] = done.stdout.decode()

    def _user(self, rest: str) -> None:
        assert rest == f"{docker.USER}:{docker.USER}"

    def _volume(self, rest: str) -> None:
        for path in json.loads(rest):
            assert (self.base / path.lstrip("/")).is_dir()

    def _stopsignal(self, rest: str) -> None:
        self.stop = signal.Signals[rest]

    def _healthcheck(self, rest: str) -> None:
        self.check = json.loads(rest.partition(" CMD ")[2])

    def _cmd(self, rest: str) -> None:
        self.command = json.loads(rest)


@pytest.fixture
def base() -> Any:
    """A folder that is not below one that only root may enter."""
    made = Path(tempfile.mkdtemp())
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.mark.slow
@pytest.mark.external
@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a folder away, as an image does")
def test_its_lines_make_what_keeps_the_schedule(project: Project, base: Path) -> None:
    """An image of the project that, given a volume, runs cycles until it is asked to stop."""
    look = (
        "import os\nprint(os.environ['PGHOST'], os.environ['PGPORT'], os.environ['PGDATABASE'])\n"
    )
    granted = ["PGHOST", "PGPORT", "PGDATABASE"]
    project.apply(project.task("look", look, env=granted), schedule={"interval_s": 3600})
    variables = {"PGHOST": "postgres", "PGPORT": "5432", "PGDATABASE": 'a $db "x"'}
    secret = {"DATABASE_URL": "postgresql://u:hunter22@h/d"}
    project.done("service", "install", "demo", "--for", "docker", env={**variables, **secret})
    file = project.folder / "Dockerfile"
    assert "hunter22" not in file.read_text()
    image = Image(base, project.folder)
    assert image.seen["CMD"] == ['["runwright", "run", "demo", "--continuous"]']
    assert {name: image.environment[name] for name in variables} == variables
    app = image.work
    assert sorted(path.name for path in app.iterdir() if path.name.startswith(".run")) == [
        ".runwright"
    ]
    assert list((app / ".runwright").iterdir()) == []
    for folder in (app, app / ".runwright", app / "out"):
        assert folder.stat().st_uid == docker.USER
    status, text = image.run("runwright", "init", "--name", "demo")
    assert status == 0, text
    status, text = image.run("runwright", "apply", "demo.yaml")
    assert status == 0, text
    process = image.start()
    evidence = app / "out" / "evidence"
    (written,) = until(lambda: list(evidence.glob("*.json")), "a cycle")
    (result,) = json.loads(written.read_text())["results"]
    assert result["stdout"].strip() == " ".join(variables.values())
    status, text = image.run(*image.check)
    assert status == 0, text
    process.kill()
    process.communicate()
    status, text = image.run(*image.check)
    assert (status, "is gone without having stopped" in text) == (4, True), text
    process = image.start()
    assert process.stdout is not None
    until(lambda: b"conductor.started" in process.stdout.readline(), "the next one")
    process.send_signal(image.stop)
    text = process.communicate(timeout=SOON_S)[0].decode()
    assert process.returncode == 0, text


def test_what_no_image_may_hold_is_left_out() -> None:
    """Neither the keys and the record, nor the file of variables."""
    ignored = docker.files(job(version="1.0"))[1].data.decode().splitlines()
    assert {".runwright", "out", "**/*.key", "**/*.env"} <= set(ignored)
