"""What this machine can hold of what a command demands."""

from __future__ import annotations

import os

from runwright.adapters import commands
from runwright.bootstrap.project import private_paths
from runwright.config import Loaded
from runwright.kernel.run import Command


def problem_of(loaded: Loaded, work: Command) -> str:
    """Return why this machine cannot hold what a command demands; empty when it can."""
    return commands.demand_problem(work, os.environ, private_paths(loaded))


def level_of(work: Command) -> str:
    """Return the isolation level that this machine applies to a command."""
    return commands.level_of(work, commands.best_level())


def best_level() -> str:
    """Return the isolation level that this machine holds."""
    return commands.best_level()


def lacking() -> str:
    """Return why this machine does not hold T2; empty when it does."""
    return commands.lacking()
