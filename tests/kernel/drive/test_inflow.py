"""What sources bring becomes blocks: by turns, or as it happened; nothing lost, nothing twice."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from runwright.kernel.drive.inflow import Inflow, Taken
from runwright.kernel.errors import Deferred
from runwright.kernel.ports import Arrival
from runwright.kernel.run import Retry
from runwright.kernel.workload import Decoded, Flow
from tests.kernel.drive.rig import ToyClock


class ListedSource:
    """A source of `stamp:text` items that it has in a list, some of them at a time."""

    look_s: float | None = None

    def __init__(
        self,
        name: str,
        *items: str,
        chunk: int = 1_000,
        position: Any = None,
        has_places: bool = True,
    ) -> None:
        self.name = name
        self.chunk = chunk
        self.acknowledged: list[Any] = []
        self.failures: list[Exception] = []
        self.is_paused = False
        self._items = [item.encode() for item in items]
        self._at = position or 0
        self._has_places = has_places

    @property
    def is_over(self) -> bool:
        return self._at >= len(self._items)

    def poll(self, most: int) -> Arrival | None:
        if self.failures:
            raise self.failures.pop(0)
        items = self._items[self._at : self._at + min(most, self.chunk)]
        self._at += len(items)
        position = self._at if self._has_places else None
        return Arrival(source=self.name, items=items, position=position) if items else None

    def acknowledge(self, position: Any) -> None:
        self.acknowledged.append(position)

    def pause(self) -> None:
        self.is_paused = True

    def resume(self) -> None:
        self.is_paused = False

    def close(self) -> None:
        """Nothing is held."""


def decode(source: str, items: list[bytes], received_ms: int) -> Decoded:
    """Read `stamp:text`; what has no stamp is a failure, with the stamp 0."""
    stamps = [int(item.partition(b":")[0] or 0) for item in items]
    return Decoded(items, [source] * len(items), stamps, ["Any"] * len(items))


def inflow(
    *sources: ListedSource,
    time: Any = "events",
    positions: Mapping[str, Any] | None = None,
    clock: ToyClock | None = None,
    **fields: Any,
) -> Inflow:
    flow = Flow(
        sources=[source.name for source in sources],
        time=time,
        decode=decode,
        next_ms=lambda last_ms, opened_ms: 0,
        published=lambda outcomes: {},
        said=lambda outcomes: (),
        ingestion_retry=Retry(attempts=3, min_s=1, max_s=4),
        **fields,
    )
    return Inflow(sources, flow, clock or ToyClock(), positions or {})


def all_of(made: Inflow, room: int = 1_000) -> list[Taken]:
    """Take until nothing comes."""
    found = []
    while (taken := made.take(room)) is not None:
        found.append(taken)
    return found


def texts(blocks: Sequence[Taken]) -> list[str]:
    return [item.decode() for taken in blocks for item in taken.items]


A = ("10:a", "20:b", "20:c", "30:d")
B = ("5:p", "20:q", "20:r", "20:s", "40:t")
MERGED = ["5:p", "10:a", "20:b", "20:c", "20:q", "20:r", "20:s", "30:d", "40:t"]


@pytest.mark.parametrize("chunks", [(1, 1), (1, 9), (9, 1), (2, 3), (3, 2), (9, 9)])
@pytest.mark.parametrize("room", [1, 2, 1_000])
def test_history_comes_in_as_it_happened_whatever_the_chunks(
    chunks: tuple[int, int], room: int
) -> None:
    """Events of one instant in the order of their sources, and no block above the room."""
    made = inflow(ListedSource("A", *A, chunk=chunks[0]), ListedSource("B", *B, chunk=chunks[1]))
    blocks = all_of(made, room)
    assert texts(blocks) == MERGED
    assert made.is_over
    stamps = [stamp for taken in blocks for stamp in taken.stamps or ()]
    assert stamps == sorted(stamps)
    assert max(len(taken.items) for taken in blocks) <= room


def test_the_order_of_history_does_not_depend_on_chunks_or_rooms() -> None:
    """Drawn histories of three sources with many equal stamps and late events."""
    for seed in range(60):
        die = random.Random(seed)
        lists = [
            [
                f"{max(0, number // 3 * 10 - die.choice([0, 0, 0, 25]))}:{name}{number}"
                for number in range(die.randint(0, 30))
            ]
            for name in "xyz"
        ]

        def taken(lists: list[list[str]] = lists, die: random.Random = die) -> list[str]:
            sources = [
                ListedSource(f"s{n}", *items, chunk=die.randint(1, 9))
                for n, items in enumerate(lists)
            ]
            return texts(all_of(inflow(*sources), die.randint(1, 12)))

        first = taken()
        assert sorted(first) == sorted(item for items in lists for item in items)
        assert all(taken() == first for _ in range(4)), f"seed {seed}"


def test_what_is_late_or_no_event_takes_the_time_of_the_one_before() -> None:
    """It stays behind that one, and does not hold the others back."""
    made = inflow(ListedSource("A", "10:a", "3:late", ":broken", "30:b"), ListedSource("B", "20:p"))
    (block,) = all_of(made)[:1]
    assert texts([block]) == ["10:a", "3:late", ":broken", "20:p"]
    assert block.stamps == [10, 10, 10, 20]


def test_history_waits_for_a_source_that_has_not_come_as_far() -> None:
    """Nobody knows what it will bring; once it is over, the others go on."""
    first, second = ListedSource("A", *A), ListedSource("B", *B)
    second.failures = [Deferred("away")]
    made = inflow(first, second)
    with pytest.raises(Deferred, match="away"):
        made.take(100)
    assert made.is_away
    assert not made.is_over


def test_by_the_clock_sources_take_turns_in_their_own_chunks() -> None:
    """A source with much does not keep another one waiting."""
    made = inflow(ListedSource("A", *A, chunk=2), ListedSource("B", *B, chunk=3), time="clock")
    blocks = all_of(made)
    assert [texts([taken]) for taken in blocks] == [
        ["10:a", "20:b"],
        ["5:p", "20:q", "20:r"],
        ["20:c", "30:d"],
        ["20:s", "40:t"],
    ]
    assert {taken.stamps for taken in blocks if taken.stamps is None} == {None}
    assert blocks[0].tally == {("A", "Any"): 2}


@pytest.mark.parametrize("time", ["clock", "events"])
@pytest.mark.parametrize("killed", range(1, 9))
def test_whoever_goes_on_at_the_positions_brings_the_rest_and_nothing_twice(
    time: Any, killed: int
) -> None:
    """Also behind a chunk that was taken in part: the positions of each block say how much."""

    def life(positions: Mapping[str, Any]) -> tuple[Inflow, list[ListedSource]]:
        at = {name: found["at"] for name, found in positions.items()}
        sources = [
            ListedSource("A", *A, chunk=3, position=at.get("A")),
            ListedSource("B", *B, chunk=4, position=at.get("B")),
        ]
        return inflow(*sources, time=time, positions=positions), sources

    whole = texts(all_of(life({})[0], 2))
    made, sources = life({})
    positions: dict[str, Any] = {}
    found: list[Taken] = []
    while len(found) < killed and (taken := made.take(2)) is not None:
        found.append(taken)
        positions.update(taken.positions)
        made.acknowledge(taken)
    for source in sources:
        kept = positions.get(source.name)
        assert all(at <= (kept["at"] or 0) for at in source.acknowledged if at), "told too early"
    again, _ = life(positions)
    assert sorted(texts([*found, *all_of(again, 2)])) == sorted(whole)
    if time == "events":
        assert texts([*found, *all_of(life(positions)[0], 2)]) == whole


def test_a_source_without_positions_is_never_passed_over() -> None:
    """What a pipe brings after a restart is something else: it counts from its beginning."""
    made = inflow(
        ListedSource("A", *A, has_places=False), ListedSource("B", "15:p", "50:q"), time="events"
    )
    taken = made.take(100)
    assert taken is not None
    assert texts([taken]) == ["10:a", "15:p", "20:b", "20:c", "30:d"]
    part = inflow(ListedSource("A", *A, has_places=False), time="events").take(2)
    assert part is not None
    assert part.positions == {"A": {"at": None, "skip": 0}}
    after = inflow(
        ListedSource("A", "60:new", has_places=False), time="events", positions=part.positions
    )
    assert texts(all_of(after)) == ["60:new"]


def test_what_could_not_be_appended_comes_again_first() -> None:
    """And the inflow is not over before."""
    made = inflow(ListedSource("A", *A))
    taken = made.take(100)
    assert taken is not None
    made.put_back(taken)
    assert not made.is_over
    assert made.take(100) is taken
    assert made.is_over


def test_a_source_that_is_away_is_asked_again_after_its_delays() -> None:
    """1, 2, then 4 seconds for as long as it is away; the others go on."""
    clock = ToyClock()
    away, other = ListedSource("A", "1:a"), ListedSource("B", *B, chunk=1)
    away.failures = [Deferred("away") for _ in range(4)]
    made = inflow(away, other, time="clock", clock=clock)
    waits = []
    for _ in range(4):
        assert made.take(100) is not None
        waits.append(made.wait_s())
        clock.advance(waits[-1] or 0.0)
    assert waits == [1.0, 2.0, 4.0, 4.0]
    assert sorted(texts(all_of(made))) == ["1:a", "40:t"]
    assert not made.is_away


def test_a_pause_stops_every_source_and_asks_none() -> None:
    """Also not one whose turn has come: a loop that waits for it would not wait at all."""
    clock = ToyClock()
    away, other = ListedSource("A", "1:a"), ListedSource("B", *B)
    away.failures = [Deferred("away")]
    away.look_s = other.look_s = 0.5
    made = inflow(away, other, time="clock", clock=clock)
    assert made.take(100) is not None
    made.pause()
    clock.advance(60)
    assert (away.is_paused, other.is_paused) == (True, True)
    assert made.take(100) is None
    assert made.wait_s() is None
    made.resume()
    assert made.wait_s() == 0.0
    assert texts(all_of(made)) == ["1:a"]
