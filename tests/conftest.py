"""What a session of tests ends with: the demands that nothing answers yet."""

from __future__ import annotations

import textwrap

import pytest

from tests.tidy.seeds import open_rows
from tests.tidy.tree import REPOSITORY

TIDY = REPOSITORY / "tests/tidy"
WIDTH = 100


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print the open rows when the architecture was among what ran."""
    asked = [config.invocation_params.dir / name.split("::")[0] for name in config.args]
    if not any(TIDY.is_relative_to(path.resolve()) for path in asked):
        return
    for issue, names in open_rows(REPOSITORY).items():
        for seed in sorted({name.split("/")[0] for name in names}):
            listed = [inner for name in names if (inner := name.removeprefix(f"{seed}/")) != name]
            terminalreporter.write_line(f"open (issue {issue}): {len(listed)} of {seed}")
            for line in textwrap.wrap(", ".join(listed), WIDTH - 2, break_on_hyphens=False):
                terminalreporter.write_line(f"  {line}")
