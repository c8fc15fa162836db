"""What a service manager hears of a conductor, read from a real socket."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runwright.adapters.notify import AFTER_DRAIN_S, STATUS_MAX, Notifier
from runwright.kernel.drive.lifecycle import Stop


class Hands:
    """A clock that moves when a test moves it."""

    def __init__(self) -> None:
        self.at_s = 100.0

    def now_ms(self) -> int:
        return int(self.at_s * 1000)

    def monotonic_s(self) -> float:
        return self.at_s

    def entropy(self, size: int) -> bytes:
        return bytes(size)


class Heard:
    """A notification socket, and the notifier that speaks to it."""

    def __init__(self, address: str, **environment: str) -> None:
        self.clock, self.stop = Hands(), Stop()
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        self.socket.bind(address.replace("@", "\0"))
        environment = {"NOTIFY_SOCKET": address, **environment}
        self.notifier = Notifier(environment, clock=self.clock, stop=self.stop, drain_s=5.0)

    def all(self) -> list[str]:
        """Return the datagrams since the last look."""
        found = []
        while True:
            try:
                found.append(self.socket.recv(4096).decode())
            except BlockingIOError:
                return found


@pytest.fixture
def hear() -> Iterator[Callable[..., Heard]]:
    """Makes what hears, and lets go of it after the test."""
    made: list[Heard] = []

    def make(address: str, **environment: str) -> Heard:
        made.append(Heard(address, **environment))
        return made[-1]

    yield make
    for heard in made:
        heard.socket.close()
        heard.notifier.close()


def silent(event, text="", /, *, level="info", **fields) -> None:
    """Say nothing."""


@pytest.fixture(params=["path", "abstract"])
def address(request, tmp_path: Path) -> str:
    """Both kinds of address that systemd gives."""
    return str(tmp_path / "notify") if request.param == "path" else f"@runwright-{tmp_path}"[:100]


def test_the_keep_alive_is_sent_at_half_of_what_is_allowed(hear, address) -> None:
    """However often the loop goes round; and it says when it wants to be asked again."""
    heard = hear(address, WATCHDOG_USEC="120000000", WATCHDOG_PID=str(os.getpid()))
    sent = []
    for _ in range(121):
        wait_s = heard.notifier.pulse()
        assert wait_s is not None
        assert 0 < wait_s <= 60
        sent += [(heard.clock.at_s, text) for text in heard.all()]
        heard.clock.at_s += 1
    assert sent == [(100.0, "WATCHDOG=1"), (160.0, "WATCHDOG=1"), (220.0, "WATCHDOG=1")]


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "x"},
        {"WATCHDOG_USEC": "9", "WATCHDOG_PID": "1"},
    ],
    ids=["none", "zero", "malformed", "another process"],
)
def test_nobody_waits_for_a_keep_alive_that_is_not_asked_of_this_process(
    hear, environment, address
) -> None:
    """The loop is never woken for it."""
    heard = hear(address, **environment)
    assert heard.notifier.pulse() is None
    assert heard.all() == []


def test_it_is_ready_when_the_conductor_started(hear, address) -> None:
    """Not before: other messages are none of readiness."""
    heard = hear(address)
    say = heard.notifier.telling(silent)
    say("tick.recovered", name="demo")
    assert heard.all() == []
    say("conductor.started", name="demo", kind="cycles")
    assert heard.all() == ["READY=1\nSTATUS=keeps the schedule of demo"]
    say("run.started", index=1, of=3, key="a", agent="FINN")
    say("round.judged", label="CYCLE_1", outcome="COMPLETED")
    assert heard.all() == ["STATUS=[1/3] a", "STATUS=CYCLE_1 COMPLETED"]


def test_a_status_is_one_line(hear, address) -> None:
    """A message cannot smuggle in another assignment."""
    heard = hear(address)
    heard.notifier.telling(silent)("halt.raised", "x\nREADY=1\n" + "y" * 999, code="store-corrupt")
    (text,) = heard.all()
    assert text.startswith("STATUS=halted: store-corrupt: x READY=1 yyy")
    assert len(text) == len("STATUS=") + STATUS_MAX


def test_it_says_once_that_it_stops_and_how_long_that_may_take(hear, address) -> None:
    """Before the unit's own limit is over, whatever the setting became since it was written."""
    heard = hear(address, WATCHDOG_USEC="2000000")
    heard.notifier.pulse()
    heard.all()
    heard.stop.ask(15)
    heard.notifier.pulse()
    heard.notifier.pulse()
    limit_us = int((5 + AFTER_DRAIN_S) * 1e6)
    assert heard.all() == [f"STOPPING=1\nEXTEND_TIMEOUT_USEC={limit_us}\nSTATUS=stopping"]


def test_a_manager_that_is_gone_or_does_not_read_holds_nothing_up(hear, tmp_path) -> None:
    """Its socket may vanish or be full; both are nothing."""
    heard = hear(str(tmp_path / "notify"), WATCHDOG_USEC="2")
    for _ in range(2000):
        heard.clock.at_s += 1
        assert heard.notifier.pulse() is not None
    assert heard.all()
    heard.socket.close()
    heard.clock.at_s += 1
    assert heard.notifier.pulse() is not None
    heard.notifier.close()


def test_without_a_manager_messages_go_where_they_went() -> None:
    """Nothing is wrapped, opened or sent."""
    notifier = Notifier({}, clock=Hands(), stop=Stop(), drain_s=1.0)
    assert notifier.telling(silent) is silent
    assert notifier.pulse() is None
    assert notifier._socket is None
