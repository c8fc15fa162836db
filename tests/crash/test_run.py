"""A cycle that is killed, or whose disk fails, at each call that changes what is durable."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest

from tests.crash.points import EIO, ENOSPC, KILL, Point
from tests.crash.stage import Stage
from tests.crash.trial import trial

#: Shares of the points, so that several workers can try them.
PARTS = 6
#: How many points a test session tries of each; a campaign tries all.
MOST = {KILL: 12, EIO: 5, ENOSPC: 3}
BESIDE_MOST = 3
#: An error in a thread beside the main one meets the same number in every other thread too; of
#: handing over, that would be in the supervisor of another child.
BESIDE_ERRORS = frozenset({"mkdir", "chmod", "unlink", "rmdir"})

pytestmark = pytest.mark.slow


@cache
def points(stage: Stage) -> list[Point]:
    """Count the calls of the main thread, once in a process."""
    stage.put_back()
    return stage.command("run", "demo").points()


@cache
def points_beside(stage: Stage) -> list[Point]:
    """Count the calls of the thread that follows the children."""
    stage.put_back()
    return stage.command("run", "demo").points_beside()


@pytest.mark.proves("a kill at any step loses and repeats nothing")
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("fault", [KILL, EIO, ENOSPC])
def test_a_fault_at_any_call_of_a_cycle_loses_and_repeats_nothing(
    demo: Stage, share: Callable, all_closed: Callable, fault: str, part: int
) -> None:
    """The next start closes what was under way, and the record is whole.

    An error of the disk ends the cycle with a code and a status of the table, or harms nothing.
    """
    command = demo.command("run", "demo")
    chosen = share(points(demo), part, PARTS, MOST[fault])
    all_closed(f"run {fault}", [trial(demo, command, point, fault) for point in chosen])


@pytest.mark.parametrize("part", range(2))
@pytest.mark.parametrize("fault", [KILL, EIO])
def test_a_fault_beside_a_function_loses_and_repeats_nothing(
    demo: Stage, share: Callable, all_closed: Callable, fault: str, part: int
) -> None:
    """Just before a function is handed over and just after it acted, as in the main thread.

    A function that could not be started has failed on the record, and did not act.
    """
    command = demo.command("run", "demo")
    wanted = [
        point for point in points_beside(demo) if fault == KILL or point.kind in BESIDE_ERRORS
    ]
    chosen = share(wanted, part, 2, BESIDE_MOST)
    all_closed(f"run, beside, {fault}", [trial(demo, command, point, fault) for point in chosen])
