"""A COMMIT that raises although it is durable: nobody goes on, and the next start reads what is."""

from __future__ import annotations

import pytest

from tests.crash.closed import Finding, held
from tests.crash.points import Traced
from tests.crash.stage import Stage
from tests.crash.trial import code_of, started_again
from tests.e2e.project import Done

#: The commits of a cycle of three functions: plan and first start, two ends with the next start,
#: the verdict, the reconciliation, the seal, the delivery.
COMMITS = 7

pytestmark = pytest.mark.slow


def went_on(done: Done) -> list[Finding]:
    """Find a writer that did not stop when a commit raised."""
    found = []
    if (done.status, code_of(done)) != (4, "commit-unknown"):
        found.append(Finding("unclear", f"it ended with {done}"))
    if "began again" in done.stdout:
        found.append(Finding("repeated", "it began another transaction"))
    return found


@pytest.mark.parametrize("at", range(1, COMMITS + 1))
def test_a_durable_commit_that_raised_stops_the_writer_and_is_found_again(
    demo: Stage, at: int
) -> None:
    """The k-th commit is on the disk; nothing is written after it, lost or repeated."""
    before = held(demo.put_back())
    done = demo.command("run", "demo", sabotage=f"doubtful-{at}").run()
    assert went_on(done) == []
    # Of the first four each adds two entries, the fifth one, with or without somebody knowing.
    assert len(held(demo.project).raw) - len(before.raw) == min(2 * at, 9)
    assert started_again(demo, before, Traced(done, []), ("run", "demo")) == []


def test_a_cycle_has_no_further_commit(demo: Stage) -> None:
    """The points above are all there are."""
    demo.put_back()
    done = demo.command("run", "demo", sabotage=f"doubtful-{COMMITS + 1}").run()
    assert done.status == 0, done


def test_a_writer_that_goes_on_after_a_commit_that_raised_is_caught(demo: Stage) -> None:
    """The control: the same check sees one that takes a COMMIT that raised for one that worked."""
    demo.put_back()
    done = demo.command("run", "demo", sabotage="careless+doubtful-2").run()
    assert {finding.word for finding in went_on(done)} == {"unclear", "repeated"}
