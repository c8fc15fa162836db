"""Which processes hold a secret while a function runs, and which folders; and what is refused."""

from __future__ import annotations

import os
import signal
import stat
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from runwright.adapters.clock import SystemClock
from runwright.adapters.places import LocalPlaces
from runwright.kernel.run import Round
from tests.adapters.work import command, finish
from tests.e2e.project import Project, processes, until
from tests.secrets.canaries import CANARIES
from tests.secrets.channels import HEAD, environment, granted
from tests.secrets.search import Search, kept

#: Starts itself again with every canary among its arguments, leaves one in its folder, and waits.
ARMED = """
if len(sys.argv) == 1:
    open(os.environ["HOME"] + "/note", "wb").write(b" ".join(CANARIES.values()))
    os.execv(sys.executable, [sys.executable, __file__, *map(os.fsdecode, CANARIES.values())])
"""


def held(pid: int, *names: str) -> Iterator[tuple[str, bytes]]:
    """Yield what /proc says of a process."""
    for name in names:
        yield f"{name} of {pid}", Path(f"/proc/{pid}/{name}").read_bytes()


@pytest.mark.slow
def test_only_the_function_itself_holds_its_secrets(project: Project) -> None:
    """Arguments of conductor, launcher and supervisors; the environment of the last two.

    The control: the function, which has them in both, is found by the same search.
    """
    gate = project.gate()
    project.apply(project.task("a", HEAD + ARMED + gate.source, **granted(CANARIES)))
    running = project.start("run", "demo", env=environment(CANARIES))
    function = gate.wait_begun()
    ours = [each.pid for each in psutil.Process(running.pid).children(recursive=True)]
    ours.remove(function)
    # The launcher, the supervisor at work and the next one, with the child that it has ready.
    assert len(ours) >= 3
    search = Search(CANARIES)
    assert search.look_all(held(running.pid, "cmdline")) == set()
    for pid in ours:
        assert search.look_all(held(pid, "cmdline", "environ")) == set()
    for name in ("cmdline", "environ"):
        assert {leak.canary for leak in search.look_all(held(function, name))} == set(CANARIES)
    gate.let_go()
    assert running.end().status == 0


@pytest.mark.slow
def test_the_folder_of_a_function_is_private_and_gone_with_it(project: Project) -> None:
    """While it runs only its own file holds a secret, in a folder of mode 0700; after, nothing.

    Also when the conductor is killed in between: the next one removes what is left.
    """
    gate = project.gate()
    project.apply(project.task("a", HEAD + ARMED + gate.source, **granted(CANARIES)))
    running = project.start("run", "demo", env=environment(CANARIES))
    function = gate.wait_begun()
    (note,) = (project.folder / ".runwright").rglob("note")
    assert stat.S_IMODE(note.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(note.stat().st_mode) == 0o600
    found = Search(CANARIES).look_all(kept(project))
    # The control: what the function itself wrote is there, and the search sees it.
    assert {leak.canary for leak in found} == set(CANARIES)
    assert {leak.place for leak in found} == {str(note.relative_to(project.base))}
    os.kill(running.pid, signal.SIGKILL)
    running.process.wait()
    until(lambda: function not in processes(str(project.folder)), "end of the function")
    project.write("functions/a.py", "print('harmless')\n")
    project.done("run", "demo", env=environment(CANARIES))
    assert not note.parent.exists()
    assert Search(CANARIES).look_all(kept(project)) == set()


def test_a_message_does_not_quote_a_variable(tmp_path: Path) -> None:
    """A PATH that is declared secret is masked where a program is not found on it."""
    value = "/nowhere/" + CANARIES["CANARY_ASCII"].decode()
    places = LocalPlaces(clock=SystemClock(), environment={"PATH": value}, scratch=tmp_path)
    place = places.open(Round(key="cycle", place="command"))
    try:
        (executed,) = finish(place, [command("tool", env=("PATH",), secret=("PATH",))])
    finally:
        places.close()
    assert executed.outcome.reason == "not-started"
    assert executed.outcome.message == "no program tool on PATH [secret:PATH]"
