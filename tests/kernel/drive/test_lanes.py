"""Order inside a lane, lanes side by side, one rate for all runs of a round."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from runwright.kernel.drive.lanes import Lanes
from runwright.kernel.run import Rate
from tests.kernel.drive.rig import plan_of

FREE = 100


def keys(runs: list) -> list[str]:
    return [run.key for run in runs]


def in_lanes(*names: str) -> list:
    """Return a run for each "lane/key"; "/key" knows no lane."""
    return [plan_of(name, lane=name.partition("/")[0]) for name in names]


def test_runs_without_a_lane_may_all_start_at_once():
    """They start in the order of the plan, as many as there is room for."""
    lanes = Lanes(in_lanes("/a", "/b", "/c"))
    assert keys(lanes.take(0.0, 2)) == ["/a", "/b"]
    assert keys(lanes.take(0.0, 2)) == ["/c"]
    assert len(lanes) == 0


def test_a_lane_lets_one_run_go_at_a_time():
    """The next run of a lane may start when the one before it has ended; other lanes go on."""
    lanes = Lanes(in_lanes("x/1", "x/2", "y/1", "x/3", "y/2"))
    first = lanes.take(0.0, FREE)
    assert keys(first) == ["x/1", "y/1"]
    assert lanes.take(0.0, FREE) == []
    lanes.ended(first[1])
    assert keys(lanes.take(0.0, FREE)) == ["y/2"]
    lanes.ended(first[0])
    assert keys(lanes.take(0.0, FREE)) == ["x/2"]
    assert len(lanes) == 1


def test_a_repeat_holds_its_lane_until_it_is_due():
    """A run that waits to be repeated keeps the rest of its lane waiting, and comes first."""
    lanes = Lanes(in_lanes("x/1", "x/2", "/free"))
    (first, free) = lanes.take(0.0, FREE)
    lanes.repeat(first, 5.0)
    lanes.ended(free)
    assert lanes.take(4.9, FREE) == []
    assert lanes.next_s(4.9) == 5.0
    assert keys(lanes.take(5.0, FREE)) == ["x/1"]


def test_repeats_that_are_due_start_before_what_has_not_started():
    """The one that is due first starts first."""
    lanes = Lanes(in_lanes("/a", "/b", "/c"))
    a, b = lanes.take(0.0, 2)
    lanes.repeat(a, 2.0)
    lanes.repeat(b, 1.0)
    assert keys(lanes.take(3.0, FREE)) == ["/b", "/a", "/c"]


def test_what_has_not_started_is_cleared_in_the_order_of_the_plan():
    """Runs that wait in a lane, for a repeat or for room come back as they were planned."""
    planned = in_lanes("x/1", "x/2", "/a", "x/3", "y/1", "/b")
    lanes = Lanes(planned)
    (first,) = lanes.take(0.0, 1)
    lanes.repeat(first, 9.0)
    assert lanes.clear() == planned
    assert len(lanes) == 0
    assert lanes.take(99.0, FREE) == []


def test_nothing_is_due_when_only_an_end_can_tell():
    """Without a rate or a repeat there is no instant to wait for."""
    lanes = Lanes(in_lanes("x/1", "x/2"))
    lanes.take(0.0, FREE)
    assert lanes.next_s(0.0) is None


def test_a_full_window_says_when_the_next_run_may_start():
    """The start leaves the window a period after it was made."""
    lanes = Lanes(in_lanes("/a", "/b", "/c"), Rate(starts=2, period_s=10))
    assert keys(lanes.take(1.0, 1)) == ["/a"]
    assert keys(lanes.take(4.0, FREE)) == ["/b"]
    assert lanes.take(10.9, FREE) == []
    assert lanes.next_s(10.9) == 11.0
    assert keys(lanes.take(11.0, FREE)) == ["/c"]


def test_a_start_counts_from_when_it_was_made():
    """Not from when it was allowed; what was taken and not started does not count."""
    lanes = Lanes(in_lanes("/a", "/b", "/c", "/d"), Rate(starts=2, period_s=10))
    assert keys(lanes.take(1.0, FREE)) == ["/a", "/b"]
    lanes.stamp(taken=2, started=1, at_s=5.0)
    assert keys(lanes.take(6.0, FREE)) == ["/c"]
    lanes.stamp(taken=1, started=1, at_s=6.0)
    assert lanes.take(14.9, FREE) == []
    assert lanes.next_s(14.9) == 15.0
    assert keys(lanes.take(15.0, FREE)) == ["/d"]


@given(
    starts=st.integers(1, 4),
    period_s=st.sampled_from([0.5, 1, 3]),
    lanes=st.lists(st.sampled_from(["", "x", "y"]), min_size=1, max_size=24),
    steps=st.lists(st.tuples(st.floats(0, 2), st.integers(0, 5)), min_size=1, max_size=60),
)
def test_a_rate_is_never_exceeded(starts: int, period_s: float, lanes: list, steps: list):
    """In no window of a period are there more starts, whenever one asks and whatever ends."""
    queue = Lanes(
        [plan_of(str(index), lane=lane) for index, lane in enumerate(lanes)],
        Rate(starts=starts, period_s=period_s),
    )
    now_s, made = 0.0, []
    for wait_s, free in steps:
        now_s += wait_s
        taken = queue.take(now_s, free)
        made += [now_s] * len(taken)
        for run in taken:
            queue.ended(run)
    for first in made:
        assert sum(first <= at_s < first + period_s for at_s in made) <= starts


@given(
    lanes=st.lists(st.sampled_from(["", "x", "y", "z"]), max_size=20),
    choices=st.lists(st.integers(0, 10), max_size=60),
)
def test_every_run_starts_once_and_in_the_order_of_its_lane(lanes: list, choices: list):
    """Whatever ends first: nothing is lost, doubled or overtaken inside its lane."""
    planned = [plan_of(f"{index:03}", lane=lane) for index, lane in enumerate(lanes)]
    queue, under_way, started = Lanes(planned), [], []
    for choice in [*choices, *([0] * 2 * len(planned))]:
        taken = queue.take(0.0, 1 + choice % 3)
        under_way += taken
        started += taken
        if under_way:
            queue.ended(under_way.pop(choice % len(under_way)))
    assert sorted(keys(started)) == keys(planned)
    for lane in set(lanes) - {""}:
        assert [run for run in started if run.lane == lane] == [
            run for run in planned if run.lane == lane
        ]
