"""Runs that fail again and again: the first is told at once, the others as a number."""

from __future__ import annotations

from typing import Any

from runwright.cli.failures import Failures
from tests.kernel.drive.rig import ToyClock


class Told:
    """What was said, with the clock that it is said by."""

    def __init__(self) -> None:
        self.clock = ToyClock()
        self.said: list[tuple[str, dict[str, Any]]] = []
        self.failures = Failures(self._say, self.clock.monotonic_s)

    def _say(self, event: str, text: str = "", /, *, level: str = "info", **fields: Any) -> None:
        self.said.append((text or event, {"level": level, **fields}))

    def fail(self, at_ms: int, symbol: str = "ABC", kind: str = "engine_failure") -> None:
        self.failures(
            "orchestrator.failure",
            level="warning",
            failure_domain="engine",
            error_kind=kind,
            run_id=f"run{at_ms}",
            symbol=symbol,
            engine_timestamp_ms=at_ms,
        )

    def texts(self) -> list[str]:
        return [text for text, _ in self.said]


ONE = "orchestrator.failure"


def test_the_first_of_each_symbol_and_kind_is_told_at_once_and_whole() -> None:
    """Each is news."""
    told = Told()
    told.fail(1)
    told.fail(2, symbol="XYZ")
    told.fail(3, kind="engine_timeout")
    assert told.texts() == [ONE] * 3
    assert [fields["run_id"] for _, fields in told.said] == ["run1", "run2", "run3"]


def test_what_follows_within_a_second_is_a_number_and_none_is_lost() -> None:
    """One line a second for each symbol and kind, with the newest instant; then the rest."""
    told = Told()
    for at_ms in range(1, 31):
        told.fail(at_ms)
        told.clock.advance(0.1)
    told.failures("stream.stopped", name="demo")
    assert told.texts()[0] == ONE
    assert told.texts()[-1] == "stream.stopped"
    counts = told.said[1:-1]
    assert 2 <= len(counts) <= 3
    assert 1 + sum(int(text.split(" ")[3]) for text, _ in counts) == 30
    text, fields = counts[-1]
    assert text.endswith("more")
    assert fields == {
        "level": "warning",
        "failure_domain": "engine",
        "error_kind": "engine_failure",
        "symbol": "ABC",
        "engine_timestamp_ms": 30,
    }


def test_one_alone_is_told_whole_however_often_it_comes_again() -> None:
    """By the clock, ticks are minutes apart: each has its run."""
    told = Told()
    for at_ms in (1, 2, 3):
        told.fail(at_ms)
        told.clock.advance(60)
    assert [fields["run_id"] for _, fields in told.said] == ["run1", "run2", "run3"]


def test_a_single_one_that_waited_is_told_whole_when_it_is_time() -> None:
    """Nothing else has to happen for it: the loop asks when it is."""
    told = Told()
    told.fail(1)
    assert told.failures.pulse() is None
    told.fail(2)
    wait_s = told.failures.pulse()
    assert wait_s == 1.0
    assert told.texts() == [ONE]
    told.clock.advance(wait_s)
    assert told.failures.pulse() is None
    assert [fields["run_id"] for _, fields in told.said] == ["run1", "run2"]


def test_what_is_no_failure_of_a_run_passes_as_it_is() -> None:
    """A source that is away has its own rhythm."""
    told = Told()
    for _ in range(3):
        told.failures("orchestrator.failure", "away", level="error", failure_domain="ingest")
        told.failures("sink.connected", server="x")
    assert told.texts() == ["away", "sink.connected"] * 3
