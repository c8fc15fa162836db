"""The controls: defects planted in the product, each of which the campaign's own check catches."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.crash.closed import closed, held
from tests.crash.points import KILL, thin
from tests.crash.stage import Stage
from tests.crash.test_run import MOST
from tests.crash.trial import orphans, trial
from tests.e2e.project import Done

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("sabotage", "words"),
    [
        ("late", {"repeated"}),
        ("split", {"open", "repeated"}),
        ("eager", {"lost"}),
        ("repeating", {"repeated"}),
    ],
)
def test_a_planted_defect_is_caught(demo: Stage, sabotage: str, words: set[str]) -> None:
    """By the points of a test session already; and without a kill it shows nowhere.

    late: a start is recorded after it; split: entries and what they change are committed apart;
    eager: an outcome is acknowledged before its commit; repeating: recovery runs again what had
    started.
    """
    before = held(demo.put_back())
    command = demo.command("run", "demo", sabotage=sabotage)
    whole = command.run()
    assert whole.status == 0, whole
    assert closed(demo.project, before, whole, held(demo.project)) == []
    demo.put_back()
    caught = set()
    for point in thin(command.points(), MOST[KILL]):
        # The other files are written before or after all that is at stake.
        if point.role == "store.db-wal" and words - caught:
            done = trial(demo, command, point, KILL, sabotage=sabotage)
            caught |= {finding.word for finding in done.found}
    assert words <= caught


def test_a_process_that_is_left_is_caught(demo: Stage) -> None:
    """The control of the search for orphans: one that works in the project's folder."""
    demo.put_back()
    argv = [sys.executable, "-c", "input()"]
    process = subprocess.Popen(argv, cwd=demo.project.folder, stdin=subprocess.PIPE)
    try:
        assert [finding.word for finding in orphans(demo, within_s=0.1)] == ["orphaned"]
    finally:
        process.communicate(b"\n")
    assert list(orphans(demo)) == []


def test_a_store_that_lost_its_newest_entry_is_caught(demo: Stage) -> None:
    """The control of the comparison: a store put back to what it was is not what was said."""
    before = held(demo.put_back())
    done = demo.command("run", "demo").run()
    ended = held(demo.project)
    demo.put_back()
    assert "lost" in {finding.word for finding in closed(demo.project, before, done, ended)}
    nothing_said = Done(0, "", "")
    assert closed(demo.project, before, nothing_said, before) == []
