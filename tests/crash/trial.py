"""One trial: a command with a fault at one point, the next start, and what the check found."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import NamedTuple

from tests.crash.closed import Finding, Held, closed, held
from tests.crash.points import KILL, Command, Point, Traced
from tests.crash.stage import Stage, processes_below
from tests.e2e.project import Done, until

#: Seconds within which everything that a killed conductor started is gone.
GONE_S = 10.0
#: The statuses that the reference gives to a disk that fails, and to functions that did not start.
CLEAR = frozenset({0, 2, 4, 5, 7, 75})


class Trial(NamedTuple):
    """What came of one."""

    point: Point
    status: int
    #: The code of the error that it ended with.
    code: str
    found: list[Finding]

    def __str__(self) -> str:
        return f"{self.point} -> {self.status} {self.code}: {'; '.join(map(str, self.found))}"


def orphans(stage: Stage, within_s: float = GONE_S) -> Iterator[Finding]:
    """Wait until no process works for the project any more."""
    try:
        until(lambda: not processes_below(stage.project.base), "no process is left", within_s)
    except AssertionError:
        left = processes_below(stage.project.base)
        yield Finding("orphaned", f"processes {left} are left")


def missed(traced: Traced, fault: str) -> Iterator[Finding]:
    """Find a fault that was not injected: a point that was not tried counts for nothing."""
    if not traced.was_hit or traced.was_killed != (fault == KILL):
        yield Finding("unclear", f"the fault was not met: {traced.done}")


def unclear(done: Done) -> Iterator[Finding]:
    """Find what a user could not understand in how a command ended."""
    code = code_of(done)
    if "Traceback" in done.stderr:
        yield Finding("unclear", f"a traceback: {done.stderr[-300:]}")
    elif done.status not in CLEAR or code == "internal":
        yield Finding("unclear", f"status {done.status}: {done.stderr[-300:]}")
    elif done.status in (2, 4, 75) and not code:
        yield Finding("unclear", f"status {done.status} without an error: {done}")


def code_of(done: Done) -> str:
    """Return the code of the error that a command ended with; empty when it named none."""
    found = re.search(r"^error\[([a-z-]+)\]: .", done.stderr, re.MULTILINE)
    return found[1] if found else ""


def started_again(
    stage: Stage, before: Held, traced: Traced, words: tuple[str, ...], sabotage: str = ""
) -> list[Finding]:
    """Start the next command after a fault and check the record."""
    found = list(orphans(stage))
    ended = held(stage.project)
    after = stage.command(*words, sabotage=sabotage).run()
    if after.status != 0:
        found.append(Finding("unclear", f"the next start: {after}"))
    if "delivery.deferred" in traced.done.stderr:
        # It said that a paper waits; it is tried again by a start that comes late enough.
        waiting = "SELECT coalesce(max(next_ms), 0) FROM paper WHERE state = 'open'"
        ((due_ms,),) = stage.project.sql(waiting)
        until(lambda: time.time() * 1000 > due_ms, "the paper is due")
        stage.command("apply", "demo.yaml", sabotage=sabotage).run()
    return [*found, *closed(stage.project, before, traced.done, ended)]


def trial(
    stage: Stage,
    command: Command,
    point: Point,
    fault: str,
    *,
    after: tuple[str, ...] = ("run", "demo"),
    sabotage: str = "",
) -> Trial:
    """Put the project back, give the command with a fault at a point, start again, check."""
    before = held(stage.put_back())
    traced = command.stopped_at(point, fault)
    found = list(missed(traced, fault))
    if fault != KILL:
        found += unclear(traced.done)
    found += started_again(stage, before, traced, after, sabotage)
    return Trial(point, traced.done.status, code_of(traced.done), found)
