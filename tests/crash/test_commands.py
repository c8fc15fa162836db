"""`init`, `apply` and `export` under the same faults: given again, the command puts it right."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.crash.closed import Finding, held
from tests.crash.points import EIO, ENOSPC, KILL, Command, Point
from tests.crash.stage import Stage
from tests.crash.trial import Trial, code_of, missed, orphans, trial, unclear
from tests.e2e.project import Done, Project

PARTS = 3
#: How many points a test session tries of each; a campaign tries all.
MOST = {KILL: 4, EIO: 3, ENOSPC: 2}

pytestmark = pytest.mark.slow
faults = pytest.mark.parametrize("fault", [KILL, EIO, ENOSPC])
parts = pytest.mark.parametrize("part", range(PARTS))


def counted(stage: Stage, command: Command) -> list[Point]:
    """Count the calls of a whole run."""
    stage.put_back()
    return command.points()


def given_again(stage: Stage, command: Command, point: Point, fault: str) -> tuple[Trial, Done]:
    """Give a command with a fault, and once more without."""
    stage.put_back()
    traced = command.stopped_at(point, fault)
    found = [*missed(traced, fault), *orphans(stage)]
    if fault != KILL:
        found += unclear(traced.done)
    again = command.run()
    if again.status != 0 and "already" not in again.stderr:
        found.append(Finding("unclear", f"given again: {again}"))
    return Trial(point, traced.done.status, code_of(traced.done), found), again


@faults
@parts
def test_init_that_was_cut_off_is_given_again(
    nothing: Stage, share: Callable, all_closed: Callable, fault: str, part: int
) -> None:
    """It makes a whole project, or says that there is one already."""
    command = nothing.command("init", "--name", "demo", starts_others=False)
    trials = []
    for point in share(counted(nothing, command), part, PARTS, MOST[fault]):
        done, _ = given_again(nothing, command, point, fault)
        done.found.extend(half_done(nothing.project, killed=fault == KILL))
        trials.append(done)
    all_closed(f"init {fault}", trials)


def half_done(project: Project, *, killed: bool) -> Iterator[Finding]:
    """Find what an `init` left undone or lying about."""
    verified = project.run("verify", "--store")
    if verified.status != 0:
        yield Finding("unverified", str(verified))
        return
    types = [entry["type"] for entry in project.entries()]
    if types != ["ledger.opened"]:
        yield Finding("duplicated", f"a new ledger holds {types}")
    for name, line in (("runwright.toml", "# [store]\n"), (".gitignore", ".runwright/\n")):
        if line not in (project.folder / name).read_text().splitlines(keepends=True):
            yield Finding("lost", f"{name} is not whole")
    names = {path.name for path in project.store.parent.rglob("*")}
    left = {name for name in names if "part" in name or name == "unfinished"}
    # A file that could not be removed is in nobody's way.
    if left and killed:
        yield Finding("open", f"left lying about: {left}")


@faults
@parts
def test_apply_that_was_cut_off_is_given_again(
    changed: Stage, share: Callable, all_closed: Callable, fault: str, part: int
) -> None:
    """The spec is on the record once, whether the first attempt committed it or not."""
    command = changed.command("apply", "demo.yaml")
    chosen = share(counted(changed, command), part, PARTS, MOST[fault])
    trials = []
    for point in chosen:
        done = trial(changed, command, point, fault, after=("apply", "demo.yaml"))
        applied = len(held(changed.project).bodies("spec.applied"))
        if applied != 2:
            done.found.append(Finding("lost", f"specs were applied {applied} times, not twice"))
        trials.append(done)
    all_closed(f"apply {fault}", trials)


@faults
@parts
def test_export_that_was_cut_off_is_given_again(
    demo: Stage, share: Callable, all_closed: Callable, fault: str, part: int
) -> None:
    """A bundle is there whole or not at all."""
    command = demo.command("export", "demo", "--out", "bundle", starts_others=False)
    trials = []
    for point in share(counted(demo, command), part, PARTS, MOST[fault]):
        done, _ = given_again(demo, command, point, fault)
        verified = demo.project.run("verify", "bundle")
        if verified.status != 0:
            done.found.append(Finding("unverified", str(verified)))
        trials.append(done)
    all_closed(f"export {fault}", trials)


def test_init_of_another_name_does_not_take_over_what_was_cut_off(nothing: Stage) -> None:
    """Killed just before its last step, `init` says which name makes that step."""
    command = nothing.command("init", "--name", "demo", starts_others=False)
    (step,) = (
        point
        for point in counted(nothing, command)
        if point.kind == "rename" and point.role == "store.db.part"
    )
    nothing.put_back()
    assert command.stopped_at(step, KILL).was_killed
    other = nothing.command("init", "--name", "other").run()
    assert (other.status, code_of(other)) == (2, "usage")
    assert "runwright init --name demo" in other.stderr
    keys = (nothing.project.store.parent / "keys/ledger.vkey").read_text()
    assert command.run().status == 0
    assert (nothing.project.store.parent / "keys/ledger.vkey").read_text() == keys
    assert list(half_done(nothing.project, killed=True)) == []


def test_a_store_without_its_log_is_caught(nothing: Stage) -> None:
    """The control of `half_done`: what `init` left when nobody looked for a log not merged."""
    nothing.put_back()
    assert nothing.command("init", "--name", "demo").run().status == 0
    store = nothing.project.store
    data = store.read_bytes()
    # As an error while the log was merged leaves it: the pages after the first are not written.
    store.write_bytes(data[:4096] + bytes(len(data) - 4096))
    assert "unverified" in {finding.word for finding in half_done(nothing.project, killed=True)}
