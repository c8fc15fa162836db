"""When a run that asked to be repeated is due again."""

from __future__ import annotations

import pytest

from runwright.kernel.drive.retry import check, delay_s
from runwright.kernel.errors import InvalidSpec
from runwright.kernel.run import ONCE, Retry
from tests.kernel.drive.rig import Rig, plan_of, round_of, workload_of


def virtual(rig, **fields) -> Rig:
    made: Rig = rig(workload_of(round_of(**fields)), virtual=True)
    return made


def test_the_wait_doubles_up_to_its_cap_and_ends():
    """The wait is min * 2 ** k, capped at max; none after the last attempt."""
    retry = Retry(attempts=6, min_s=1, max_s=5)
    assert [delay_s(retry, attempts) for attempts in range(1, 7)] == [1, 2, 4, 5, 5, None]


def test_without_a_table_there_is_no_repeat():
    """The default is one attempt."""
    assert delay_s(ONCE, 1) is None


def test_many_doublings_stay_at_the_cap():
    """A table of a million attempts has no number that is too large."""
    assert delay_s(Retry(attempts=1_000_000, min_s=1, max_s=300), 999_999) == 300


@pytest.mark.parametrize(
    ("retry", "message"),
    [
        (Retry(attempts=0), "retry.attempts: 0 is not within 1 to 100"),
        (Retry(attempts=101), "retry.attempts: 101 is not within 1 to 100"),
        (Retry(min_s=5, max_s=4), "retry.max_s: 4 is below retry.min_s 5"),
        (Retry(min_s=-1), "retry.max_s: 60 is below retry.min_s -1"),
        (
            Retry(on_failure=True),
            "retry.on_failure: with one attempt nothing is repeated; give attempts",
        ),
    ],
)
def test_a_table_that_cannot_be_meant_is_refused(retry: Retry, message: str):
    """The message names the key."""
    with pytest.raises(InvalidSpec) as caught:
        check(retry)
    assert str(caught.value) == message
    assert caught.value.code == "invalid-spec"


def test_a_run_that_defers_is_repeated_by_the_table(rig):
    """Attempt 1 starts at once, the others after 1, 2 and 4 seconds of the conductor's clock."""
    retry = Retry(attempts=5, min_s=1, max_s=60)
    made = virtual(rig, runs=[plan_of("a", args={"defers": 3})], retry=retry, pure=False)
    began_s = made.clock.at_s
    made.conduct()
    assert [at_s - began_s for at_s in made.places.starts()] == [0, 1, 3, 7]
    assert [entry.body.attempt for entry in made.entries("run.started")] == [1, 2, 3, 4]
    assert [entry.body.attempt for entry in made.entries("run.deferred")] == [1, 2, 3]
    finished = made.outcomes()["a"]
    assert (finished.status, finished.attempts) == ("done", 4)
    numbers = [entry.n for entry in made.entries() if entry.run]
    assert numbers == list(range(8))


def test_there_is_no_wait_after_the_last_attempt(rig):
    """A run that defers to the end has failed at the moment of its last attempt."""
    retry = Retry(attempts=3, min_s=10, max_s=60)
    made = virtual(rig, runs=[plan_of("a", args={"defers": 9})], retry=retry, pure=False)
    began_s = made.clock.at_s
    result = made.conduct()
    assert made.clock.at_s - began_s == 30
    finished = made.outcomes()["a"]
    assert (finished.status, finished.reason, finished.attempts) == ("failed", "deferred", 3)
    assert result.outcomes == {"failed": 1}


def test_the_entry_of_a_deferral_says_when_the_next_attempt_is_due(rig):
    """`next_ms` is the instant of the next start."""
    retry = Retry(attempts=2, min_s=5, max_s=5)
    made = virtual(rig, runs=[plan_of("a", args={"defers": 1})], retry=retry, pure=False)
    now_ms = made.clock.now_ms()
    made.conduct()
    assert made.entries("run.deferred")[0].body.next_ms == now_ms + 5_000


def test_others_run_while_one_waits_to_be_repeated(rig):
    """A deferred run holds its own lane only."""
    runs = [
        plan_of("x1", lane="x", args={"defers": 1}),
        plan_of("x2", lane="x"),
        plan_of("free"),
    ]
    made = virtual(rig, runs=runs, retry=Retry(attempts=2, min_s=3), pure=False)
    made.conduct()
    assert [key for what, key, _ in made.places.log if what == "start"] == [
        "x1",
        "free",
        "x1",
        "x2",
    ]


def test_a_pure_run_that_defers_is_repeated_too(rig):
    """Only the record is shorter: a pure round has no run.started."""
    made = virtual(rig, runs=[plan_of("a", args={"defers": 1})], retry=Retry(attempts=2))
    made.conduct()
    types = [entry.type for entry in made.entries() if entry.run]
    assert types == ["run.deferred", "run.finished"]


def test_a_call_that_raises_deferred_without_a_table_has_failed(rig):
    """A round without a retry table starts it once."""
    made = rig(workload_of(round_of(runs=[plan_of("a", "defers")])))
    assert made.conduct().outcomes == {"failed": 1}
    assert made.outcomes()["a"].reason == "deferred"
