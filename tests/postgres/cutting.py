"""A cycle by the command line whose connection to its store is a wire with a fault."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.crash.closed import Finding, held
from tests.crash.points import Command, Traced
from tests.crash.stage import EFFECT, FUNCTIONS, Stage
from tests.crash.trial import Trial, code_of, started_again, unclear
from tests.e2e.project import SOON_S, Done
from tests.postgres.project import SharedProject
from tests.postgres.server import Server
from tests.postgres.wire import KILL, Point, Wire

CYCLE = ("run", "demo")


class SharedStage(Stage):
    """A stage whose project has its store in a database, which is put back too."""

    project: SharedProject

    def __init__(self, folder: Path, server: Server) -> None:
        """Make a project with a sealed cycle in its past, and a spec of three functions."""
        super().__init__(folder)
        project = SharedProject(folder / "work", server, server.new_database())
        self.project = project
        self.environment |= {"RUNWRIGHT_STORE_URL": project.url}
        (project.base / "effects").mkdir()
        project.done("init", "--name", "demo")
        project.apply(*(project.task(name, EFFECT, level="T0") for name in FUNCTIONS))
        project.done(*CYCLE, env={"RUNWRIGHT_FILES_FOLDER": "out-before"})
        self._kept = server.new_database(template=project.database)
        self.save()

    def put_back(self) -> SharedProject:
        """Put back the folder and the database."""
        super().put_back()
        self.project.server.copy_database(self._kept, self.project.database)
        return self.project

    def command(self, *words: str, sabotage: str = "", starts_others: bool = True) -> Command:
        """Return a command of the product, or of a sabotaged one."""
        start = ["-m", "tests.postgres.driver", sabotage] if sabotage else ["-m", "runwright"]
        argv = [sys.executable, *start, *words]
        return Command(argv, self.project.folder, self.environment, starts_others)


def by_wire(stage: SharedStage, wire: Wire, sabotage: str = "") -> Done:
    """Run a cycle whose every connection goes by the wire."""
    command = stage.command(*CYCLE, sabotage=sabotage)
    process = subprocess.Popen(
        list(command.argv),
        cwd=command.folder,
        env={**command.environment, "RUNWRIGHT_STORE_URL": wire.url(stage.project.database)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    wire.victim(process.pid)
    texts = [text.decode(errors="replace") for text in process.communicate(timeout=SOON_S)]
    return Done(process.returncode, *texts)


def points(stage: SharedStage, wire: Wire) -> list[Point]:
    """Return every point of a whole cycle: before each request, and after its answer."""
    stage.put_back()
    wire.arm()
    done = by_wire(stage, wire)
    assert done.status == 0, done
    return [each for point in wire.seen for each in (point, point._replace(is_answered=True))]


def trial(stage: SharedStage, wire: Wire, point: Point, fault: str, sabotage: str = "") -> Trial:
    """Put the project back, do harm at a point of a cycle, start again, check."""
    before = held(stage.put_back())
    wire.arm(point, fault)
    done = by_wire(stage, wire, sabotage)
    found = []
    if not wire.was_met or (done.status == -9) != (fault == KILL):
        found.append(Finding("unclear", f"the fault was not met: {done}"))
    if fault != KILL:
        found += unclear(done)
    found += started_again(stage, before, Traced(done, []), CYCLE)
    return Trial(point, done.status, code_of(done), found)
