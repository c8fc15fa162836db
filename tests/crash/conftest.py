"""Stages for the crash campaign, and its figures at the end of a session."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

import pytest

from tests.crash.closed import by_word
from tests.crash.points import Point, thin, unusable
from tests.crash.stage import Stage, empty, with_spec
from tests.crash.trial import Trial

#: What tests record under this name is added up.
FIGURES = "crash"


@pytest.fixture(scope="session", autouse=True)
def _strace() -> None:
    """Skip all of it, and say why, where strace cannot be used."""
    reason = unusable()
    if reason:
        pytest.skip(reason)


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    """A project with a cycle in its past and three functions that act."""
    return with_spec(tmp_path_factory.mktemp("demo"))


@pytest.fixture(scope="session")
def changed(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    """The same, with a spec file that was changed and not yet applied."""
    return with_spec(tmp_path_factory.mktemp("changed"), applied=False)


@pytest.fixture(scope="session")
def nothing(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    """An empty folder."""
    return empty(tmp_path_factory.mktemp("nothing"))


@pytest.fixture
def share(is_campaign: bool) -> Callable[..., list[Point]]:
    """Return the points that one of several tests tries: all, or a fixed part of at most `most`."""

    def share_of(points: Sequence[Point], part: int, parts: int, most: int) -> list[Point]:
        chosen = list(points) if is_campaign else thin(points, most)
        return chosen[part::parts]

    return share_of


@pytest.fixture
def all_closed(record_property: Callable[[str, Any], None]) -> Callable[..., None]:
    """Insist that no trial found anything, and hand its figures to the end of the session."""
    began_s = time.monotonic()

    def insist(what: str, trials: Sequence[Trial]) -> None:
        found = [finding for trial in trials for finding in trial.found]
        figures = {
            "what": what,
            "kinds": dict(Counter(trial.point.kind for trial in trials)),
            "ends": dict(Counter(f"{trial.status} {trial.code}".strip() for trial in trials)),
            "found": by_word(found),
            "seconds": round(time.monotonic() - began_s, 1),
        }
        record_property(FIGURES, figures)
        bad = "\n".join(str(trial) for trial in trials if trial.found)
        assert not bad, bad

    return insist


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print points, ends and findings of each campaign."""
    reports = [*terminalreporter.stats.get("passed", []), *terminalreporter.stats.get("failed", [])]
    figures = [
        value
        for report in reports
        if getattr(report, "when", "") == "call"
        for name, value in report.user_properties
        if name == FIGURES
    ]
    figures.sort(key=lambda each: each["what"])
    for what, group in groupby(figures, key=lambda each: each["what"]):
        parts = list(group)
        sums = {
            name: sum((Counter(part[name]) for part in parts), Counter())
            for name in ("kinds", "ends")
        }
        words = {word: sum(part["found"][word] for part in parts) for word in parts[0]["found"]}
        seconds = sum(part["seconds"] for part in parts)
        write = terminalreporter.write_line
        write(f"{what}: {sums['kinds'].total()} points in {seconds:.0f} s: {_words(words)}")
        write(f"  calls: {_words(sums['kinds'])}")
        write(f"  ended: {_words(sums['ends'])}")


def _words(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
