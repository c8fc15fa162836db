"""How far a conductor has been asked to stop."""

from __future__ import annotations

from runwright.kernel.drive.lifecycle import Stop


def test_nothing_is_asked_at_first():
    """A new Stop is false."""
    stop = Stop()
    assert not stop
    assert (stop.level, stop.signal) == (0, 0)


def test_the_first_request_drains_and_the_second_kills():
    """A third one changes nothing; the first signal is the one that is named."""
    stop = Stop()
    stop.ask(15)
    assert stop
    assert stop.level == 1
    stop.ask(2)
    assert stop.level == 2
    stop.ask()
    assert (stop.level, stop.signal) == (2, 15)


def test_every_request_wakes_all_who_wait():
    """Each that registered is called, once for each request."""
    stop = Stop()
    woken: list[str] = []
    stop.on(lambda: woken.append("bell"))
    stop.on(lambda: woken.append("place"))
    stop.ask()
    stop.ask()
    assert woken == ["bell", "place", "bell", "place"]
