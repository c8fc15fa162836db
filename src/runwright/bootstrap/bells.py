"""Bells: how a conductor is woken, how whoever waits hears of it, what its manager is told."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from runwright.bootstrap.project import clock, is_shared, store_path, target
from runwright.config import Loaded
from runwright.kernel.ports import Bell

if TYPE_CHECKING:
    from runwright.adapters.listening import Channel
    from runwright.adapters.notify import Notifier
    from runwright.kernel.drive.lifecycle import Stop


def bell_path(loaded: Loaded) -> Path | Channel:
    """Return where the conductor of the project's store listens."""
    if is_shared(loaded):
        return _channel(loaded, "bell")
    path = store_path(loaded)
    return path.with_name(path.name + ".bell")


def reply_path(loaded: Loaded) -> Path | Channel:
    """Return where somebody who submitted listens, and nobody else."""
    if is_shared(loaded):
        return _channel(loaded, f"wait_{clock().entropy(8).hex()}")
    path = store_path(loaded)
    return path.with_name(f"{path.name}.wait.{os.getpid()}")


def _channel(loaded: Loaded, name: str) -> Channel:
    place = target(loaded)
    from runwright.adapters.listening import Channel  # lazy: only for a shared store

    return Channel(place, f"{place.schema}_{name}")


def ring(path: Path | Channel) -> None:
    """Knock at a bell."""
    if isinstance(path, Path):
        from runwright.adapters.bell import ring as knock  # lazy: only submitters knock

        knock(path)
    else:
        from runwright.adapters.listening import ring as notify  # lazy: as above

        notify(path)


def bell(path: Path | Channel) -> Bell:
    """Hang a bell."""
    if isinstance(path, Path):
        from runwright.adapters.bell import SocketBell  # lazy: a one-shot run has no bell

        return SocketBell(path)
    from runwright.adapters.listening import ListeningBell  # lazy: as above

    return ListeningBell(path)


def notifier(loaded: Loaded, stop: Stop) -> Notifier:
    """Return what speaks to the service manager that started this process, if one did."""
    from runwright.adapters.notify import Notifier  # lazy: only a conductor that stays is watched

    drain_s = loaded.settings.conductor.drain_s
    return Notifier(os.environ, clock=clock(), stop=stop, drain_s=drain_s)
