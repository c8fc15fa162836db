"""What a service manager hears of `run --continuous`, and when it hears nothing."""

from __future__ import annotations

import os
import select
import signal
import socket
from collections.abc import Iterator

import pytest

from tests.e2e.project import SOON_S, Project, until

HELLO = "print('hello')\n"


class Manager:
    """A service manager's ear."""

    def __init__(self, project: Project) -> None:
        self.path = project.base / "notify"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(self.path))
        self.heard: list[str] = []

    def environment(self, watchdog_s: float = 0) -> dict[str, str]:
        """What it gives a service; the pid is not known before, and not needed."""
        given = {"NOTIFY_SOCKET": str(self.path)}
        return {**given, "WATCHDOG_USEC": str(int(watchdog_s * 1e6))} if watchdog_s else given

    def listen(self, timeout_s: float = 0.0) -> bool:
        """Take one datagram, if one comes in time."""
        if not select.select([self.socket], [], [], timeout_s)[0]:
            return False
        self.heard += self.socket.recv(4096).decode().splitlines()
        return True

    def wait(self, line: str, count: int = 1) -> None:
        """Wait until a line was heard so many times."""
        while self.heard.count(line) < count:
            assert self.listen(SOON_S), f"{line} in {self.heard}"


@pytest.fixture
def manager(project: Project) -> Iterator[Manager]:
    """The ear of a manager that starts commands of the project."""
    made = Manager(project)
    yield made
    made.socket.close()


def test_a_manager_does_not_hear_ready_from_one_that_found_the_store_taken(
    project: Project, manager: Manager
) -> None:
    """Ready is who holds the lease."""
    gate = project.gate()
    project.apply(project.task("a", gate.source))
    first = project.start("run", "demo")
    gate.wait_begun()
    assert project.run("run", "demo", "--continuous", env=manager.environment()).status == 75
    assert not manager.listen()
    gate.let_go()
    assert first.end().status == 0


@pytest.mark.slow
@pytest.mark.proves("a conductor that hangs is noticed")
def test_signs_of_life_come_while_it_waits_and_while_a_function_runs_and_end_when_it_hangs(
    project: Project, manager: Manager
) -> None:
    """They come from the loop: one that stands still sends none, and one that goes on does."""
    gate = project.gate()
    project.apply(project.task("a", gate.source), schedule={"interval_s": 3600})
    running = project.start("run", "demo", "--continuous", env=manager.environment(0.2))
    gate.wait_begun()
    manager.heard.clear()
    manager.wait("WATCHDOG=1", 3)
    gate.let_go()
    running.wait_event("round.judged")
    until(lambda: not manager.listen(), "quiet")
    manager.heard.clear()
    manager.wait("WATCHDOG=1", 3)
    # Hung as by a disk that does not answer: the process is there, its loop is not.
    running.send(signal.SIGSTOP)
    os.waitid(os.P_PID, running.pid, os.WSTOPPED | os.WNOWAIT)
    while manager.listen():
        pass
    manager.heard.clear()
    assert not manager.listen(1.0)
    running.send(signal.SIGCONT)
    manager.wait("WATCHDOG=1", 2)
    running.send(signal.SIGTERM)
    assert running.end(SOON_S).status == 0


@pytest.mark.slow
def test_a_conductor_nobody_watches_is_not_woken_for_it(project: Project, manager: Manager) -> None:
    """Without WATCHDOG_USEC nothing is sent between two cycles."""
    project.apply(project.task("a", HELLO), schedule={"interval_s": 3600})
    running = project.start("run", "demo", "--continuous", env=manager.environment())
    running.wait_event("round.judged")
    until(
        lambda: manager.listen(0.05) and manager.heard[-1].endswith("COMPLETED"), "end of the cycle"
    )
    assert not manager.listen(1.0)
    running.send(signal.SIGTERM)
    assert running.end().status == 0


@pytest.mark.slow
def test_a_dead_scheduler_is_noticed_from_outside(project: Project) -> None:
    """Also one whose spec has no schedule of its own; one that stopped is none, nor one at work."""
    project.apply(project.task("a", HELLO))
    assert project.run("doctor").status == 0
    running = project.start("run", "demo", "--continuous")
    running.wait_event("round.judged")
    assert project.run("doctor").status == 0
    running.kill()
    done = project.run("doctor", "--json")
    assert done.status == 4
    problems = [found for found in done.json if found["state"] == "problem"]
    assert [(found["what"], found["detail"]) for found in problems] == [
        ("scheduler", "whoever kept the schedule of demo is gone without having stopped")
    ]
    again = project.start("run", "demo", "--continuous")
    again.wait_event("conductor.started")
    again.send(signal.SIGTERM)
    assert again.end().status == 0
    assert project.run("doctor").status == 0
