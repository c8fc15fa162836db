"""Cuts the power under what the product does, again and again, each time at another moment."""

from __future__ import annotations

import select
import signal
from collections.abc import Callable
from pathlib import Path
from random import Random

from tests.disk import builds
from tests.disk.builds import Built
from tests.disk.cuts import (
    Campaign,
    Driver,
    Left,
    acknowledged_by,
    examine,
    made_on,
    wait_moment,
)
from tests.disk.volumes import Volumes
from tests.e2e.project import Project, until

#: Cuts of one drive; the next ones get a new one.
CUTS_MAX = 25
#: What `init` writes beside the store and the keys.
INIT_FILES = ("runwright.toml", ".gitignore")
#: How long `init`, and a rotation of the key, write, about.
INIT_S, ROTATION_S = 0.08, 0.04


def never(_left: Left) -> bool:
    """Go on to the last cut."""
    return False


def cut_ledger(
    volumes: Volumes,
    *,
    build: str = builds.WHOLE,
    count: int,
    seed: int,
    is_enough: Callable[[Left], bool] = never,
) -> Campaign:
    """Cut the power under a process that commits entries and seals; examine each copy."""
    random, campaign = Random(seed), Campaign()
    while campaign.goes_on(count, is_enough):
        drive = volumes.drive()
        project = made_on(drive, build, volumes.base / "effects")
        driver = Driver(project)
        try:
            for _ in range(CUTS_MAX):
                driver.wait_lines(random.randint(3, 40))
                wait_moment(random)
                told = driver.acknowledged()
                with drive.cut() as at:
                    # The cut is made; until the next one it only takes time and space.
                    driver.send(signal.SIGSTOP)
                    campaign.cuts.append(examine(at, told, set()))
                driver.send(signal.SIGCONT)
                if not campaign.goes_on(count, is_enough):
                    break
        finally:
            driver.close()
        drive.close()
    return campaign


def cut_cycles(
    volumes: Volumes,
    *,
    build: str = builds.WHOLE,
    count: int,
    seed: int,
    is_enough: Callable[[Left], bool] = never,
) -> Campaign:
    """Cut the power under cycles of the real command line; examine each copy."""
    random, campaign = Random(seed), Campaign()
    effects = volumes.base / "effects"
    effects.touch()
    while campaign.goes_on(count, is_enough):
        drive = volumes.drive()
        project = made_on(drive, build, effects)
        told = None
        effects.write_text("")
        for _ in range(CUTS_MAX):
            running = project.start("run", "demo")
            event = random.choice(("round.planned", "run.started", "run.finished", "round.judged"))
            running.wait_event(event, random.randint(1, 3) if event.startswith("run.") else 1)
            wait_moment(random)
            now = acknowledged_by(running.so_far(), told)
            acted = effects.read_text().splitlines()
            with drive.cut() as at:
                campaign.cuts.append(examine(at, now, set(acted)))
            done = running.end()
            assert done.status == 0, done
            told = acknowledged_by(done, told)
            acted = effects.read_text().splitlines()
            assert len(acted) == len(set(acted)), "a run acted twice"
            if not campaign.goes_on(count, is_enough):
                break
        project.close()
        drive.close()
    return campaign


def cut_init(volumes: Volumes, *, build: str = builds.WHOLE, count: int, seed: int) -> list[str]:
    """Cut the power under `runwright init`; return what is wrong with a project it left."""
    random = Random(seed)
    drive = volumes.drive()
    wrong = []
    for index in range(count):
        project = Built(drive.at / f"base{index}")
        project.build = build
        running = project.start("init", "--name", "demo")
        until((project.folder / ".runwright").exists, "the project is begun")
        if index % 2:
            running.end()
        else:
            select.select([], [], [], random.uniform(0, INIT_S))
        is_made = running.process.poll() == 0
        with drive.cut() as at:
            wrong += [f"cut {index}: {words}" for words in _wrong(at / project.base.name, is_made)]
        done = running.end()
        assert done.status == 0, done
        project.close()
    drive.close()
    return wrong


def _wrong(base: Path, is_made: bool) -> list[str]:
    """Return what is wrong with a project: it is whole, or `init` can be given again."""
    project = Project(base)
    if is_made and not all((project.folder / name).stat().st_size for name in INIT_FILES):
        return ["`init` had ended well and a file is empty"]
    if not project.store.exists():
        if is_made:
            return ["`init` had ended well and there is no store"]
        again = project.run("init", "--name", "demo")
        if again.status:
            return [f"`init` cannot be given again: {again.error}"]
    for words in (("apply", project.spec()), ("verify", "--store")):
        done = project.run(*words)
        if done.status:
            return [f"{words[0]} after `init`: {done.error}"]
    return []


def cut_rotation(volumes: Volumes, *, count: int, seed: int) -> list[str]:
    """Cut the power under `runwright ledger rotate-key`; return what the next commands miss."""
    random = Random(seed)
    drive = volumes.drive()
    project = made_on(drive, builds.WHOLE, volumes.base / "effects")
    next_key = project.folder / ".runwright/keys/ledger.next.key"
    wrong = []
    for index in range(count):
        running = project.start("ledger", "rotate-key")
        until(lambda: next_key.exists() or running.process.poll() is not None, "it began")  # noqa: B023
        select.select([], [], [], random.uniform(0, ROTATION_S))
        with drive.cut() as at:
            after = Project(at / project.base.name)
            for words in (("apply", "demo.yaml"), ("ledger", "rotate-key"), ("verify", "--store")):
                done = after.run(*words)
                if done.status:
                    wrong.append(f"cut {index}: {words} ends with {done.stderr}{done.stdout}")
                    break
        done = running.end()
        assert done.status == 0, done
    project.close()
    drive.close()
    return wrong


def cut_export(volumes: Volumes, build: str) -> tuple[int, list[str]]:
    """Cut the power once `runwright export` has ended well.

    Return how many files it wrote, and which of them are not whole.
    """
    drive = volumes.drive()
    project = made_on(drive, build, volumes.base / "effects")
    project.done("run", "demo")
    folder = project.folder / "bundle"
    project.done("export", "latest", "--out", folder)
    files = {path.relative_to(drive.at): path for path in folder.rglob("*") if path.is_file()}
    with drive.cut() as at:
        wrong = [
            str(name)
            for name, path in files.items()
            if not (at / name).exists() or (at / name).read_bytes() != path.read_bytes()
        ]
    project.close()
    drive.close()
    return len(files), wrong
