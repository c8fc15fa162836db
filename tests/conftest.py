"""What a session of tests may be asked, and ends with: what was skipped, what is open."""

from __future__ import annotations

import textwrap
from collections import Counter

import pytest

from tests.nats.server import nats, nats_session
from tests.postgres.server import database, server
from tests.tidy.seeds import open_rows
from tests.tidy.tree import REPOSITORY

__all__ = ["database", "nats", "nats_session", "server"]

TIDY = REPOSITORY / "tests/tidy"
WIDTH = 100


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let a campaign try every point, where a test session tries a fixed part of them."""
    parser.addoption("--campaign", action="store_true", help="try every point of each campaign")
    parser.addoption("--seeds", type=int, default=100, help="simulate so many seeds of streams")


@pytest.fixture(scope="session")
def is_campaign(request: pytest.FixtureRequest) -> bool:
    """Whether every point is to be tried."""
    return bool(request.config.getoption("--campaign"))


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Count what was skipped by its reason; print the open rows when the architecture ran."""
    reasons = Counter(
        report.longrepr[2].removeprefix("Skipped: ")
        for report in terminalreporter.stats.get("skipped", [])
        if isinstance(report.longrepr, tuple)
    )
    for reason, count in sorted(reasons.items()):
        terminalreporter.write_line(f"skipped {count}: {reason}")
    asked = [config.invocation_params.dir / name.split("::")[0] for name in config.args]
    if not any(TIDY.is_relative_to(path.resolve()) for path in asked):
        return
    for issue, names in open_rows(REPOSITORY).items():
        for seed in sorted({name.split("/")[0] for name in names}):
            listed = [inner for name in names if (inner := name.removeprefix(f"{seed}/")) != name]
            terminalreporter.write_line(f"open (issue {issue}): {len(listed)} of {seed}")
            for line in textwrap.wrap(", ".join(listed), WIDTH - 2, break_on_hyphens=False):
                terminalreporter.write_line(f"  {line}")
