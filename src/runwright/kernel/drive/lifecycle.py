"""How far a conductor has been asked to stop, safe to change from a signal handler."""

from __future__ import annotations

from collections.abc import Callable


class Stop:
    """The first signal drains, the second kills."""

    def __init__(self) -> None:
        """Start with nothing asked."""
        self.signal = 0
        self.level = 0
        self._wakes: list[Callable[[], None]] = []

    def __bool__(self) -> bool:
        """Say whether no new work may start."""
        return self.level > 0

    def on(self, wake: Callable[[], None]) -> None:
        """Call `wake` at every request to stop."""
        self._wakes.append(wake)

    def ask(self, signal: int = 0) -> None:
        """Ask to stop: at first what is under way may finish, then it is ended."""
        self.signal = self.signal or signal
        self.level = min(2, self.level + 1)
        self.wake()

    def wake(self) -> None:
        """Make whoever waits look again."""
        for wake in self._wakes:
            wake()


def unwatched() -> None:
    """Say that the loop goes round to nobody."""
