"""Streams under every trouble that a seed draws: what is promised holds, and a defect is seen."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.streams.invariants import Broken
from tests.streams.sabotage import SABOTAGES
from tests.streams.script import POINTS, script_of
from tests.streams.simulator import Build, simulate

#: Seeds that a sabotage has to be seen within.
CONTROL_SEEDS = 100
KINDS = ("memory", "sqlite")


#: The steps of check 44: to die at each of them is what a session of tests does.
STEPS = {"append", "plan", "start", "engine", "commit", "publish", "acknowledge"}


def failures(seeds: range, folder: Path, kind: str, reached: set[str]) -> Iterator[str]:
    """Simulate seed after seed; yield what failed and the command that repeats it."""
    for seed in seeds:
        try:
            made = simulate(seed, folder / f"{seed}", kind)
            reached.update(step for step, _ in made.world.crashed)
        # Whatever a defect leads to is told with the seed that leads to it.
        except Exception as error:  # noqa: BLE001 - the one that the comment explains
            command = f".venv/bin/python -m tests.streams.simulator {seed} {kind}"
            yield f"seed {seed}: {type(error).__name__}: {error}\n  again: {command}"


@pytest.mark.slow
@pytest.mark.proves("a stream killed at any step loses, doubles and reorders nothing")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("part", range(2))
def test_every_invariant_holds_after_every_seed(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str, part: int
):
    """Crashes at every step, pauses, late and broken input, clocks put back: check 44."""
    # SQLite takes twice the time and is tried with the first third of them.
    count = request.config.getoption("--seeds") // (3 if kind == "sqlite" else 1)
    seeds = range(part, count, 2)
    reached: set[str] = set()
    found = list(failures(seeds, tmp_path, kind, reached))
    assert found == [], "\n".join(found)
    assert reached >= STEPS or len(seeds) < CONTROL_SEEDS // 2


@pytest.mark.slow
@pytest.mark.parametrize("word", SABOTAGES)
def test_a_sabotaged_build_is_seen(tmp_path: Path, word: str):
    """A control for the invariants: within the first seeds, and by the one that is about it."""
    sabotage = SABOTAGES[word]
    seen = (broken_by(seed, tmp_path, sabotage.build) for seed in range(CONTROL_SEEDS))
    assert next(filter(None, seen), "") in sabotage.seen_by


def broken_by(seed: int, folder: Path, build: Build) -> str:
    """Return the invariant that a build breaks under a seed; "": none."""
    try:
        simulate(seed, folder / f"{seed}", KINDS[seed % 2], build)
    except Broken as broken:
        return broken.invariant
    return ""


def test_every_crash_point_is_in_the_first_seeds():
    """A control for the scripts."""
    drawn = {
        (crash.step, crash.when)
        for seed in range(CONTROL_SEEDS)
        for crash in script_of(seed).crashes
    }
    assert drawn == set(POINTS)
