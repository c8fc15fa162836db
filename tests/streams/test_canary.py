"""Sampled runs are executed a second time, and where the answers differ is named."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from typing import Any

import pytest

from runwright.kernel.errors import Deferred
from runwright.streams import twin as twins
from runwright.streams.canary import (
    MILLION,
    Difference,
    checked,
    first_difference,
    is_sampled,
    timeout_ms,
)
from runwright.streams.engine import Result, execute
from runwright.streams.twin import execute_checked, twin
from tests.streams.given import request, tick

pytestmark = pytest.mark.slow

RUN = hashlib.sha256(b"run").hexdigest()


@pytest.fixture(scope="module", autouse=True)
def a_twin() -> Iterator[None]:
    """End the second process with the tests of this file."""
    yield
    twin().close()


def twice(engine: str, *, limit_s: float = 20, **fields: Any) -> Result:
    """Execute an engine of `unsteady`, and again in its twin."""
    asked = request(f"tests.streams.unsteady:{engine}", **fields)
    return execute_checked(asked, run_id=RUN, canary_ppm=MILLION, limit_s=limit_s)


# --------------------------------------------------------------------------------- the sampling


def test_a_run_is_sampled_by_its_id() -> None:
    """So it is in every repetition, and about as many are as were asked for."""
    ids = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(20_000)]
    sampled = [run for run in ids if is_sampled(run, 10_000)]
    assert 140 < len(sampled) < 260
    assert sampled == [run for run in ids if is_sampled(run, 10_000)]
    assert set(sampled) < {run for run in ids if is_sampled(run, 50_000)}
    assert not any(is_sampled(run, 0) for run in ids)
    assert all(is_sampled(run, MILLION) for run in ids)
    assert (timeout_ms(500, sampled=False), timeout_ms(500, sampled=True)) == (500, 11_000)


def test_a_run_that_is_not_sampled_is_executed_once() -> None:
    """The control: the same engine goes through when nobody looks twice."""
    asked = request("tests.streams.unsteady:clock")
    assert not execute_checked(asked, run_id=RUN, canary_ppm=0, limit_s=20).is_failed


# -------------------------------------------------------------------------------- the difference


@pytest.mark.parametrize(
    ("engine", "path"),
    [
        ("clock", "output.reasons[1].at: "),
        ("today", 'output.day: "20'),
        ("now", "output.year: 20"),
        ("formatted", 'output.year: "20'),
        ("chance", "output.draw: 0."),
        ("named", 'output.name: "'),
        ("hashed", "output.bucket: "),
        ("address", "output.at: "),
        ("environment", 'output.home: "set" != null'),
    ],
)
def test_an_answer_that_differs_is_caught_by_its_path(
    engine: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both values are told; there is no output (check 41: an engine with time.time())."""
    monkeypatch.setenv("RUNWRIGHT_TEST_ONLY", "set")
    result = twice(engine)
    assert (result.output, result.error_kind) == ("", "engine_nondeterministic")
    assert result.error_detail.startswith(path)
    assert " != " in result.error_detail
    assert result.snapshot_index == 0


def test_the_clock_of_the_twin_stands_still() -> None:
    """At an instant that no answer of today can hold."""
    assert " != 1000000000" in twice("clock").error_detail
    assert twice("today").error_detail.endswith(' != "2001-09-09"')
    assert twice("now").error_detail.endswith(" != 2001")
    assert twice("formatted").error_detail.endswith(' != "2001"')


def test_the_order_of_a_set_is_caught() -> None:
    """Where this process has another order than the twin, which 720 to 1 it has."""
    asked = request("tests.streams.unsteady:order")
    here = execute(asked)
    there = twin().ask(asked, 20)
    assert there is not None
    result = twice("order")
    assert result.is_failed is (here.output != there.output)
    assert is_other_order("0", "1")


def is_other_order(one: str, other: str) -> bool:
    """Say whether a worker and its twin have another order of the words, by their hash seeds."""
    import subprocess
    import sys

    words = "print(list(frozenset({'alpha', 'beta', 'gamma', 'delta', 'epsilon', 'zeta'})))"
    printed = [
        subprocess.check_output(
            [sys.executable, "-c", words], env={**os.environ, "PYTHONHASHSEED": seed}
        )
        for seed in (one, other)
    ]
    return printed[0] != printed[1]


def test_what_earlier_runs_left_behind_is_caught() -> None:
    """The twin was asked less often, so it counts otherwise."""
    execute(request("tests.streams.unsteady:counting"))
    result = twice("counting")
    assert result.error_kind == "engine_nondeterministic"
    assert result.error_detail.startswith("output.n: ")


@pytest.mark.parametrize(
    ("engine", "detail"),
    [
        ("failing", "output: the second execution fails by engine_failure RuntimeError"),
        ("deferring", "output: the second execution fails by engine_failure Deferred"),
        ("dying", "the second execution did not end"),
    ],
)
def test_a_second_execution_that_goes_wrong_is_a_difference(engine: str, detail: str) -> None:
    """The first had an answer; the next run is checked again."""
    assert twice(engine).error_detail == detail
    assert not twice("steady").is_failed


def test_a_second_execution_that_hangs_is_ended() -> None:
    """At its limit; the twin is started anew for the next run."""
    assert twice("hanging", limit_s=0.3).error_detail == "the second execution did not end"
    assert not twice("steady").is_failed


@pytest.mark.parametrize(
    ("engine", "path"),
    [("decided", "decision.confidence: "), ("remembered", "state.seen[1]: ")],
)
def test_a_decision_and_a_state_are_compared_too(engine: str, path: str) -> None:
    """Also where the output is the same."""
    result = twice(engine, mode="hysteresis")
    assert result.error_detail.startswith(path)
    assert (result.decision, result.state) == ("", "")


@pytest.mark.parametrize(
    "engine",
    [
        "tests.streams.unsteady:steady",
        "tests.streams.hostile:seen",
        "runwright.streams.engines.echo:full",
        "runwright.streams.engines.volatility:engine",
    ],
)
def test_an_engine_that_is_a_function_of_its_input_passes(engine: str) -> None:
    """With a generator of a fixed seed, intervals and sorted sets (check 24: MISSING too)."""
    asked = request(engine, config='{"a":[1,{"b":null}]}')
    first = execute(asked)
    assert execute_checked(asked, run_id=RUN, canary_ppm=MILLION, limit_s=20) == first
    assert first.output


def test_a_run_that_failed_is_not_executed_again() -> None:
    """Its failure is its outcome; and one that asks for time is repeated by the conductor."""

    def never(_request: object) -> Result:
        raise AssertionError("it was executed again")

    failed = execute(request("tests.streams.hostile:fail"))
    assert checked(request("fail"), failed, never) is failed
    missing = execute(request("seen", tick()))
    assert checked(request("seen"), missing, never) is missing
    with pytest.raises(Deferred):
        execute_checked(
            request("tests.streams.hostile:defer"), run_id=RUN, canary_ppm=MILLION, limit_s=20
        )


def test_a_twin_that_was_killed_is_started_again() -> None:
    """Whoever killed it, the next run is checked."""
    assert not twice("steady").is_failed
    process = twins.twin()._process
    assert process is not None
    process.kill()
    process.wait()
    assert not twice("steady").is_failed


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, None),
        ({"a": 1}, {"a": 1.0}, ("x.a", "1", "1.0")),
        ({"a": None}, {}, ("x.a", "null", "")),
        ({}, {"b": [1]}, ("x.b", "", "[1]")),
        ({"a": [1, 2]}, {"a": [1]}, ("x.a[1]", "2", "")),
        ({"a": [1, 2]}, {"a": [3, 2, 1]}, ("x.a[0]", "1", "3")),
        ({"b": 1, "a": {"c": 2}}, {"b": 0, "a": {"c": 3}}, ("x.a.c", "2", "3")),
        ({"a": {"c": 2}}, {"a": 5}, ("x.a", '{"c":2}', "5")),
        ({"a": "t" * 100 + "1"}, {"a": "t" * 100 + "2"}, ("x.a", f'"{"t" * 78}…', f'"{"t" * 78}…')),
    ],
)
def test_the_first_difference_is_by_sorted_keys(one: Any, other: Any, expected: Any) -> None:
    """Types count; long values are shortened."""
    found = first_difference(one, other, "x")
    assert found == (Difference(*expected) if expected else None)
