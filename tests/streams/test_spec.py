"""What a spec says, as the streams take it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from runwright.kernel.run import Retry
from runwright.streams.freeze import minimal_spec
from runwright.streams.spec import (
    Bounds,
    Determinism,
    Scheduler,
    StreamSpec,
    anchor_of,
    delays_ms,
    determinism_of,
    retry_of,
    segment_records_of,
    symbols_of,
)


def spec(**sections: Any) -> StreamSpec:
    """Return the minimal spec with other sections."""
    return msgspec.convert({**minimal_spec(), **sections}, StreamSpec)


def test_symbols_stand_once_by_code_point() -> None:
    """A symbol of two sources is one; capitals come before small letters, as code points do."""
    sources = [
        {"source_id": "one", "symbols": ["b", "B"], "python": {"ref": "a:b"}},
        {"source_id": "two", "symbols": ["a", "B", "Z"], "python": {"ref": "a:b"}},
    ]
    assert symbols_of(spec(sources=sources)) == ("B", "Z", "a", "b")


@pytest.mark.parametrize(
    ("bounds", "delays"),
    [
        (Bounds(), (100, 200)),
        (Bounds(max_attempts=1), ()),
        (Bounds(max_attempts=6), (100, 200, 400, 800, 1000)),
        (Bounds(min_delay_ms=5, max_delay_ms=5, max_attempts=4), (5, 5, 5)),
        (Bounds(max_attempts=6, max_elapsed_ms=300), (100, 200)),
        (Bounds(max_attempts=6, max_elapsed_ms=299), (100,)),
        (Bounds(max_elapsed_ms=99), ()),
        (Bounds(max_attempts=100, min_delay_ms=1, max_delay_ms=1 << 40), None),
    ],
)
def test_delays_are_those_of_the_table(bounds: Bounds, delays: tuple[int, ...] | None) -> None:
    """Doubling from min, capped at max, bounded by the sum; attempt 1 is always there."""
    found = delays_ms(bounds)
    if delays is None:
        assert found[:3] == (1, 2, 4)
        assert (len(found), max(found)) == (99, 1 << 40)
        delays = found
    assert found == delays
    assert retry_of(bounds).attempts == 1 + len(delays)


def test_bounds_become_those_of_the_kernel() -> None:
    """Seconds, whole where they are; a single attempt repeats nothing."""
    assert retry_of(Bounds(min_delay_ms=2000, max_delay_ms=5000)) == Retry(
        attempts=3, min_s=2, max_s=5, on_failure=True
    )
    assert retry_of(Bounds()) == Retry(attempts=3, min_s=0.1, max_s=1, on_failure=True)
    assert retry_of(Bounds(max_elapsed_ms=1)) == Retry(
        attempts=1, min_s=0.1, max_s=1, on_failure=False
    )


@pytest.mark.parametrize(
    ("scheduler", "alignment", "started", "anchor"),
    [
        (Scheduler(mode="timer", timer_interval_ms=1000), 0, 100, 100),
        (Scheduler(mode="timer", timer_interval_ms=1000), 1000, 100, 1000),
        (Scheduler(mode="timer", timer_interval_ms=1000), 1000, 2000, 2000),
        (Scheduler(mode="timer", timer_interval_ms=1000, timer_anchor_ms=7), 0, 100, 7),
        (Scheduler(), 180_000, 100, 0),
    ],
)
def test_the_grid_goes_through_the_start_unless_the_file_says(
    scheduler: Scheduler, alignment: int, started: int, anchor: int
) -> None:
    """Raised to the next aligned instant, so that no timer is off the grid by chance."""
    assert anchor_of(scheduler, alignment, started) == anchor


def test_a_segment_is_at_most_a_quarter_of_the_log() -> None:
    """So that something can retire before the log is full."""
    assert segment_records_of(spec()) == 100_000
    assert segment_records_of(spec(buffer_retention={"max_records": 100})) == 25
    assert segment_records_of(spec(buffer_retention={"max_records": 1})) == 1
    assert segment_records_of(spec(buffer={"segment_records": 7})) == 7


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("off", Determinism(has_lint=False, canary_ppm=0)),
        ("lint", Determinism(has_lint=True, canary_ppm=0)),
        ("canary:1", Determinism(has_lint=False, canary_ppm=1_000_000)),
        ("lint+canary:0.01", Determinism(has_lint=True, canary_ppm=10_000)),
        ("canary:0.000001", Determinism(has_lint=False, canary_ppm=1)),
    ],
)
def test_the_check_of_determinism_is_read(text: str, found: Determinism) -> None:
    """Rates are of a million, so that no float decides."""
    engine = {**minimal_spec()["engine"], "determinism_check": text}
    assert determinism_of(spec(engine=engine).engine) == found


def test_a_spec_is_immutable_and_comes_back_from_its_bytes() -> None:
    """Its free mapping too: what is applied is what is run."""
    engine = {**minimal_spec()["engine"], "config": {"window": [1, {"a": 2.5}]}}
    made = spec(engine=engine)
    with pytest.raises(TypeError, match="frozen"):
        made.engine.config["window"] = 1  # type: ignore[index]
    body = msgspec.json.Encoder(order="sorted").encode(made)
    assert msgspec.json.decode(body, type=StreamSpec) == made
