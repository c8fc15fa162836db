"""A conductor that is killed between any two commits, its store in a database."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kernel.test_toy_gate import check
from tests.kernel.toys.killing import Project, prepared
from tests.postgres.server import Server

pytestmark = pytest.mark.slow

#: How many points a test session tries; a campaign tries all.
MOST = 3


def gate(server: Server, folder: Path) -> Project:
    """Return a gate that has not run."""
    return prepared(folder, "gate", f"{server.url('postgres')} {server.new_schema()}")


def test_a_conductor_that_is_killed_at_a_commit_loses_and_repeats_nothing(
    server: Server, tmp_path: Path, is_campaign: bool
) -> None:
    """At announcements before and after commits; the next start takes the lease and goes on."""
    points = len(gate(server, tmp_path / "whole").run().points)
    assert points >= 24
    step = 1 if is_campaign else points // MOST
    for at in range(1, points, step):
        project = gate(server, tmp_path / f"{at:03}")
        ended = project.run(kill_at=at)
        assert ended.was_killed, at
        project.run()
        check(project)


def test_a_conductor_that_repeats_is_caught(server: Server, tmp_path: Path) -> None:
    """The control: one that runs again what had started does not pass the same check."""
    project = gate(server, tmp_path / "project")
    whole = gate(server, tmp_path / "whole").run().points
    at = next(
        index
        for index, point in enumerate(whole)
        if point.startswith("after") and "run.started" in point
    )
    assert project.run(kill_at=at, sabotage="repeating").was_killed
    project.run(sabotage="repeating")
    with pytest.raises(AssertionError):
        check(project)
