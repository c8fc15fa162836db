"""A project that is put back before each point, always in the same place.

A spec names its folder, so a copy elsewhere would act on the first one.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from pathlib import Path

from tests.crash.points import Command
from tests.e2e.project import Project
from tests.tidy.tree import REPOSITORY

#: A function with a side effect: one line in a folder beside the project.
EFFECT = """
import pathlib
place = pathlib.Path(__file__).parents[2] / "effects" / pathlib.Path(__file__).stem
with place.open("a") as file:
    file.write("acted\\n")
"""
FUNCTIONS = ("a", "b", "c")


class Stage:
    """The place of a project, and what stands there before each point."""

    def __init__(self, folder: Path) -> None:
        """Work in `work` below a folder; `saved` keeps what is put back."""
        self.project = Project(folder / "work")
        self._saved = folder / "saved"
        #: What commands find in their environment.
        self.environment = {
            **self.project.environment,
            "PYTHONPATH": f"{self.project.environment['PYTHONPATH']}:{REPOSITORY}",
            # Neither a compiled module nor a seal that is due by the clock changes the count.
            "PYTHONDONTWRITEBYTECODE": "1",
            "RUNWRIGHT_SIGNER_EVERY_S": "3600",
        }

    def save(self) -> None:
        """Keep what stands there now."""
        shutil.copytree(self.project.base, self._saved)

    def put_back(self) -> Project:
        """Put back what was kept."""
        shutil.rmtree(self.project.base)
        shutil.copytree(self._saved, self.project.base)
        return self.project

    def command(self, *words: str, sabotage: str = "", starts_others: bool = True) -> Command:
        """Return a command of the product, or of a sabotaged one."""
        start = ["-m", "tests.crash.driver", sabotage] if sabotage else ["-m", "runwright"]
        argv = [sys.executable, *start, *words]
        return Command(argv, self.project.folder, self.environment, starts_others)


def empty(folder: Path) -> Stage:
    """Return a stage with an empty folder on it."""
    stage = Stage(folder)
    stage.save()
    return stage


def with_spec(folder: Path, *, applied: bool = True) -> Stage:
    """Return a stage with a sealed cycle in its past, and a spec of three functions."""
    stage = Stage(folder)
    project = stage.project
    (project.base / "effects").mkdir()
    project.done("init", "--name", "demo")
    # T0: T1 would forbid the side effect.
    tasks = [project.task(name, EFFECT, level="T0") for name in FUNCTIONS]
    project.apply(*tasks)
    # Elsewhere, so that the folder of evidence has yet to be made.
    project.done("run", "demo", env={"RUNWRIGHT_FILES_FOLDER": "out-before"})
    if not applied:
        project.spec(*tasks, orchestrator_version="1.0.1")
    stage.save()
    return stage


def processes_below(folder: Path) -> list[int]:
    """Return the processes that work below a folder, or name it in their arguments."""
    found = []
    mark = os.fsencode(folder)
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            # It may have ended since.
            with contextlib.suppress(OSError):
                where = os.fsencode((entry / "cwd").readlink())
                if where.startswith(mark) or mark in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
    return found
