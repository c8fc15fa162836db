"""Runs the driver of a toy and ends it from outside, by SIGKILL, at a commit of one's choice."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from runwright.kernel.record.entries import Entry, decode
from tests.kernel.toys import driver

ROOT = Path(__file__).parents[3]
#: More than any driver announces.
POINTS_MAX = 200


class Ended(NamedTuple):
    """How a driver ended."""

    #: What it announced, in order.
    points: list[str]
    was_killed: bool


def run(folder: Path, toy: str, *, kill_at: int | None = None, sabotage: str = "") -> Ended:
    """Drive a project to its end, or kill its driver at the k-th announcement."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.kernel.toys.driver", str(folder), toy, sabotage],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    points: list[str] = []
    try:
        while (line := process.stdout.readline()) not in (b"end\n", b""):
            points.append(line.decode().strip())
            assert len(points) < POINTS_MAX
            if len(points) - 1 == kill_at:
                os.kill(process.pid, signal.SIGKILL)
                break
            process.stdin.write(b"!")
        process.stdin.close()
        errors = process.stderr.read().decode()
        status = process.wait(60)
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            pipe.close()
    assert status in (0, -signal.SIGKILL), errors
    return Ended(points, status == -signal.SIGKILL)


class Project:
    """A project of a toy that can be copied, killed and read."""

    def __init__(self, folder: Path, toy: str) -> None:
        self.folder = folder
        self.toy = toy
        #: What its last driver announced.
        self.points: list[str] = []

    def copy(self, folder: Path) -> Project:
        shutil.copytree(self.folder, folder)
        return Project(folder, self.toy)

    def run(self, *, kill_at: int | None = None, sabotage: str = "") -> Ended:
        ended = run(self.folder, self.toy, kill_at=kill_at, sabotage=sabotage)
        self.points = ended.points
        return ended

    def store(self) -> Any:
        return driver.open_store(self.folder)

    def entries(self) -> list[Entry]:
        store = self.store()
        found = [decode(stored.raw) for stored in store.entries()]
        assert store.check() == []
        assert store.rows("tick", {"state": "open"}) == [], "every tick is closed"
        assert store.rows("paper", {"state": "open"}) == [], "every paper has left"
        assert store.seals(latest=True)[0].size == store.size()
        store.close()
        return found

    def events(self) -> list[dict[str, str]]:
        """Return what arrived, each delivery once, in the order of its first arrival."""
        seen: dict[str, dict[str, str]] = {}
        path = self.folder / "events.out"
        for line in path.read_bytes().splitlines() if path.exists() else []:
            event = msgspec.json.decode(line)
            assert seen.setdefault(event["id"], event) == event, "one id, one paper"
        return list(seen.values())

    def papers(self) -> dict[str, bytes]:
        folder = self.folder / "papers"
        return {
            str(file.relative_to(folder)): file.read_bytes()
            for file in sorted(folder.rglob("*"))
            if file.is_file()
        }


def prepared(folder: Path, toy: str, shared: str = "") -> Project:
    """Make a project of a toy; `shared` is the URL and the schema of a database."""
    folder.mkdir(parents=True)
    if shared:
        (folder / driver.SHARED).write_text(shared)
    if toy == "stream":
        driver.stream.write_events(folder)
    driver.prepare(folder, toy)
    return Project(folder, toy)


def killed(
    project: Project,
    folder: Path,
    points: int,
    *,
    sabotage: str = "",
    start: int = 0,
    step: int = 1,
) -> Iterator[tuple[int, Project, str]]:
    """Kill a copy at each of so many points, restart it to its end, and yield it."""
    for at in range(start, points, step):
        copy = project.copy(folder / f"{at:03}")
        first = copy.run(kill_at=at, sabotage=sabotage)
        if not first.was_killed:
            return
        copy.run(sabotage=sabotage)
        yield at, copy, first.points[-1]


def failures(
    copies: Iterator[tuple[int, Project, str]], check: Callable[[Project], None]
) -> Iterator[str]:
    """Yield what the check finds in copies that were killed."""
    for at, copy, point in copies:
        try:
            check(copy)
        except AssertionError as error:
            yield f"killed at {at} ({point}): {error}"
