"""A cycle that is killed, cut off or ended by an administrator at any request to its store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import pytest

from tests.crash.closed import by_word
from tests.postgres.cutting import SharedStage, points, trial
from tests.postgres.server import Server
from tests.postgres.wire import CUT, END, KILL, Point, Wire

pytestmark = pytest.mark.slow

#: How many points a test session tries of each; a campaign tries all.
#: The commits of a cycle of three functions.
COMMITS = 6
PARTS = 2
MOST = {KILL: 4, CUT: 4, END: 2}


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory, server: Server) -> SharedStage:
    """A project with a cycle in its past and three functions that act."""
    return SharedStage(tmp_path_factory.mktemp("shared-stage"), server)


@pytest.fixture(scope="session")
def wire(server: Server) -> Iterator[Wire]:
    """The way to the server on which harm is done."""
    made = Wire(server)
    yield made
    made.close()


@pytest.fixture
def share(stage: SharedStage, wire: Wire, is_campaign: bool) -> Callable[[str], list[Point]]:
    """Return the points that are tried with a fault."""
    found = points(stage, wire)

    def share_of(fault: str) -> list[Point]:
        # An administrator who ends a backend after an answer ends it before the next request.
        wanted = [point for point in found if fault != END or not point.is_answered]
        return wanted if is_campaign else thin(wanted, MOST[fault])

    return share_of


def thin(chosen: Sequence[Point], most: int) -> list[Point]:
    """Return a fixed part: commits first, then evenly."""
    commits = [point for point in chosen if point.text.startswith("COMMIT")]
    others = [point for point in chosen if point not in commits]
    return [*_evenly(commits, most - most // 2), *_evenly(others, most // 2)]


def _evenly(chosen: Sequence[Point], most: int) -> list[Point]:
    step = max(1.0, len(chosen) / most)
    return [chosen[int((index + 0.5) * step)] for index in range(min(most, len(chosen)))]


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("fault", [KILL, CUT, END])
def test_a_fault_at_any_request_of_a_cycle_loses_and_repeats_nothing(
    stage: SharedStage, wire: Wire, share: Callable[[str], list[Point]], fault: str, part: int
) -> None:
    """The server has not got the request, or the conductor has not heard the answer.

    Whoever is cut off ends with a code and a status of the table, or goes on unharmed.
    """
    chosen = share(fault)[part::PARTS]
    trials = [trial(stage, wire, point, fault) for point in chosen]
    figures = {
        "ends": dict(Counter(f"{each.status} {each.code}".strip() for each in trials)),
        "found": by_word([finding for each in trials for finding in each.found]),
    }
    print(f"{fault}: {len(trials)} points, {figures}")
    bad = "\n".join(str(each) for each in trials if each.found)
    assert not bad, f"{figures}\n{bad}"


def test_a_commit_that_is_given_again_is_caught(stage: SharedStage, wire: Wire) -> None:
    """The control: a build that takes a COMMIT that raised for one that was not written.

    Cut off after the server made it durable, the same build writes everything twice.
    """
    commits = [point for point in points(stage, wire) if point.text == "COMMIT"]
    assert len(commits) >= 2 * COMMITS
    second = next(point for point in commits if point.is_answered and point.n == 2)
    whole = trial(stage, wire, second, CUT)
    assert (whole.status, whole.code, whole.found) == (4, "commit-unknown", [])
    found = trial(stage, wire, second, CUT, sabotage="retrying").found
    assert "duplicated" in {finding.word for finding in found}, found
