"""Ticks that follow at once: one commit each, nothing older than the record, nothing said early."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from runwright.adapters.memory import MemoryStore
from runwright.kernel.drive.known import Known
from runwright.kernel.errors import Deferred, StoreUnwritable
from runwright.kernel.ports import Row
from runwright.kernel.record.entries import Draft, HaltRaised
from runwright.kernel.run import Arrived, Requested, Scheduled, Tick
from runwright.kernel.workload import Paper
from tests.kernel.drive.rig import NOW_MS, Rig, plan_of, round_of, workload_of


def at(index: int) -> Scheduled:
    return Scheduled(planned_ms=NOW_MS + index * 60_000)


def follow(made: Rig, *ticks: Tick | Callable[[], object], heard: Any = None) -> int:
    """Conduct ticks that follow at once; what is no tick is called in between."""
    left: Iterator[Tick | Callable[[], object]] = iter(ticks)

    def following() -> Tick | None:
        for each in left:
            if not callable(each):
                return each
            each()
        return None

    return made.conductor.conduct_all("toy", "demo", following, heard=heard or (lambda found: None))


def counting(*, reconcile: Any = None, **fields: Any) -> Any:
    """Return a workload of one run that counts the ticks of its lane."""
    made = workload_of(round_of(runs=[plan_of("a", "count", lane="a")]), **fields)
    return msgspec.structs.replace(made, reconcile=reconcile)


def counted(made: Rig) -> list[int]:
    return [entry.body.value["was"] for entry in made.entries("run.finished")]


def a_paper(hold: str = "none") -> Any:
    def report(seen: Any, this: Any, outcomes: Any, verdict: Any) -> list[Paper]:
        name = f"{seen.tick.planned_ms - NOW_MS}"
        return [Paper(sink="list", name=name, body="{}", hold=hold)]  # type: ignore[arg-type]

    return report


# -------------------------------------------------------------------------------------- commits


def test_the_end_of_a_tick_is_written_with_the_plan_of_the_next(rig):
    """One commit a tick, and one more for the end of the last."""
    made = rig(counting())
    assert follow(made, at(0), at(1), at(2)) == 3
    end = ["run.finished", "round.judged"]
    assert made.commits() == [["round.planned"], *[[*end, "round.planned"]] * 2, end]
    assert counted(made) == [0, 1, 2]
    assert made.store.rows("tick", {"state": "open"}) == []


def test_the_record_is_that_of_ticks_one_by_one(rig, tmp_path):
    """The same entries in the same order, with the same ids, and the same rows."""
    made = rig(counting(report=a_paper()))
    other = Rig(MemoryStore(), tmp_path / "other", counting(report=a_paper()))
    other.apply()
    follow(made, at(0), at(1), at(2))
    for index in range(3):
        other.conduct(index)
    found = [[(it.type, it.round, it.run, it.n) for it in each.entries()] for each in (made, other)]
    assert found[0] == found[1]
    for table in ("lane", "paper", "round", "tick"):
        assert made.store.rows(table) == other.store.rows(table)


def test_a_plan_is_durable_before_its_runs_start(rig):
    """With the end of the tick before it, whatever waits for its commit."""
    made = rig(counting())
    seen, opened = [], made.places.open

    def spying(round):  # noqa: A002 - the word of the port
        place = opened(round)
        start = place.start

        def started(work):
            seen.append([entry.type for entry in made.entries("round.planned", "round.judged")])
            start(work)

        place.start = started
        return place

    made.places.open = spying
    follow(made, at(0), at(1), at(2))
    two = ["round.planned", "round.judged"]
    assert seen == [two[:1], [*two, two[0]], [*two, *two, two[0]]]


@pytest.mark.parametrize(
    ("fields", "tick"),
    [
        ({"report": a_paper("sealed")}, at(0)),
        ({"reconcile": lambda closed, tables: []}, at(0)),
        ({}, Requested(id="r", planned_ms=NOW_MS)),
        ({}, Arrived(id="r", planned_ms=NOW_MS)),
    ],
)
def test_an_end_that_somebody_waits_for_is_written_at_once(rig, fields, tick):
    """A paper that waits for a seal, a reconciliation, an answer to a request."""
    made = rig(counting(**fields))
    seen = []
    follow(made, tick, lambda: seen.append(made.types()[-1]), at(1))
    assert seen == ["round.judged"]


def test_ticks_without_runs_are_not_piled_up(rig):
    """One may wait for the next, and not for a third."""
    made = rig(workload_of(round_of()))
    follow(made, *map(at, range(4)))
    both = ["round.planned", "round.judged"]
    assert made.commits() == [both * 2, both * 2]


def test_a_tick_of_several_rounds_waits_only_at_its_end(rig):
    """The verdicts between its rounds are durable before the next plan is made."""
    made = rig(workload_of(round_of("a", key="one"), round_of("b", key="two")))
    follow(made, at(0), at(1))
    end = ["run.finished", "round.judged"]
    assert made.commits() == [
        ["round.planned"],
        end,
        ["round.planned"],
        [*end, "round.planned"],
        end,
        ["round.planned"],
        end,
    ]


# --------------------------------------------------------------------------- never stale


def test_what_is_observed_is_what_the_tick_before_left(rig):
    """Lanes and the recorded past, although their rows may not be in the store yet."""
    seen = []

    def observe(spec, tick, world):
        memory = {lane: dict(left) for lane, left in world.memory().items()}
        seen.append((memory, [row["state"] for row in world.recorded("tick")]))
        return {}

    made = rig(counting(observe=observe))
    follow(made, at(0), at(1), at(2))
    assert seen == [
        ({}, []),
        ({"a": {"n": 1}}, ["closed"]),
        ({"a": {"n": 2}}, ["closed", "closed"]),
    ]


def test_whoever_asks_for_a_table_has_what_is_staged_committed_first(rig):
    """And only for one of which rows are staged."""
    asked = "spec"

    def observe(spec, tick, world):
        return {"rows": len(world.rows(asked))}

    made = rig(counting(observe=observe))
    follow(made, at(0), at(1))
    assert len(made.commits()) == 3
    asked = "lane"
    made.store.batches.clear()
    follow(made, at(2), at(3))
    assert len(made.commits()) == 4


def test_what_is_known_is_what_the_store_says(rig):
    """After everything that changes it, asked again from nothing."""
    made = rig(counting())

    def check():
        made.writer.flush()
        fresh = Known(made.store, made.writer)
        known = made.conductor._known
        assert known.lanes("toy", "demo") == fresh.lanes("toy", "demo")
        assert known.spec("toy", "demo") == fresh.spec("toy", "demo")
        assert known.decisions("spec/demo") == fresh.decisions("spec/demo")
        for index in range(8):
            found = [it.tick("toy", "demo", at(index), "?") for it in (known, fresh)]
            assert found[0] == found[1]
        assert known._last_ms == fresh._last_ms

    check()
    follow(made, at(0), check, at(1), check)
    made.apply("demo", settings={"of": "another kind"})
    check()
    follow(made, at(2), lambda: made.apply("demo"), check, at(3))
    made.conduct("r")
    check()
    decision = {
        "seq": 99, "document": "d", "subject": "spec/demo", "action": "continue", "person": "ada",
        "reason": "", "evidence": "[]", "seen": "", "first_seq": 0, "last_seq": 1, "expires_ms": 0,
        "made_ms": 0, "at_ms": 0, "key": "k",
    }  # fmt: skip
    made.writer.commit(rows=[Row("decision", decision)])
    assert len(made.conductor._known.decisions("spec/demo")) == 1
    check()


def test_what_a_lane_remembers_cannot_be_changed_by_who_gets_it(rig):
    """Each tick gets values of its own: an engine that keeps hold of one changes nothing."""
    got = []

    def plan(seen):
        if seen.done:
            return None
        got.append(seen.memory)
        return round_of(runs=[plan_of("a", "count", lane="a")])

    made = rig(workload_of(plan=plan))
    follow(made, at(0), at(1))
    got[-1]["a"]["n"] = 77
    follow(made, at(2))
    assert counted(made) == [0, 1, 2]


def test_a_spec_that_is_applied_in_between_counts_from_the_next_tick(rig):
    """As well as a decision of a person would."""
    specs = []

    def observe(spec, tick, world):
        specs.append(dict(spec.settings))
        return {}

    made = rig(counting(observe=observe))
    follow(made, at(0), lambda: made.apply("demo", settings={"n": 2}), at(1))
    assert specs == [{}, {"n": 2}]


def test_a_commit_of_somebody_else_takes_what_is_staged_with_it(rig):
    """A block of a log, an act: entries keep their order, and one that is urgent is sealed."""
    made = rig(counting())
    urgent = Draft(body=HaltRaised(code="halt", message="stop"))
    lanes: list[Any] = []

    def committed():
        made.writer.commit(
            rows=[Row("lane", {"kind": "x", "name": "x", "lane": "x", "memory": ""})]
        )
        lanes.append(made.store.rows("lane", {"kind": "toy"}))

    follow(made, at(0), committed, at(1), lambda: made.writer.commit([urgent]), at(2))
    assert lanes == [[{"kind": "toy", "name": "demo", "lane": "a", "memory": '{"n":1}'}]]
    end = ["run.finished", "round.judged"]
    assert made.commits() == [
        ["round.planned"],
        end,
        ["round.planned"],
        [*end, "halt.raised"],
        ["seal"],
        ["round.planned"],
        end,
    ]


def test_a_seal_and_a_delivery_in_between_cover_what_had_ended(rig):
    """Nothing leaves, and nothing is signed, that is not durable."""
    made = rig(counting(report=a_paper()), seal_every_s=60)
    seals = []

    def sealed():
        made.writer.seal()
        made.conductor.outbox.pump()
        seals.append((made.store.seals(latest=True)[0].size, made.store.size(), made.sink.names[:]))

    follow(made, at(0), sealed, at(1), sealed)
    assert seals == [(5, 5, ["0"]), (8, 8, ["0", "60000"])]


# --------------------------------------------------------------------------- heard when durable


def test_what_came_of_a_tick_is_heard_once_it_is_durable(rig):
    """In order, and its messages are said no earlier."""
    made = rig(counting())
    heard, said = [], []

    def hear(found):
        assert made.store.rows("tick", {"id": found.tick})[0]["state"] == "closed"
        heard.append(found)

    def look():
        said.append([event for event, _ in made.said].count("round.judged"))

    assert follow(made, at(0), look, at(1), look, heard=hear) == 2
    assert [found.tick for found in heard] == [row["id"] for row in made.store.rows("tick")]
    assert said == [0, 1]
    assert [event for event, _ in made.said].count("round.judged") == 2


def test_an_error_leaves_everything_before_it_durable(rig):
    """It is raised for the tick that was given last; those before it are heard."""
    made = rig(counting(report=a_paper()), outbox_max=2)
    heard: list[Any] = []
    with pytest.raises(Deferred, match="2 papers wait"):
        follow(made, at(0), at(1), at(2), heard=heard.append)
    assert len(heard) == 2
    assert [row["state"] for row in made.store.rows("tick")] == ["closed", "closed"]
    assert len(made.store.rows("paper")) == 2


def test_an_error_of_who_listens_loses_nothing(rig):
    """It is raised once what waits is durable."""
    made = rig(counting())

    def hear(found):
        raise KeyError(found.tick)

    with pytest.raises(KeyError):
        follow(made, at(0), at(1), heard=hear)
    assert [row["state"] for row in made.store.rows("tick")] == ["closed", "closed"]


def test_what_could_not_be_written_is_not_heard(rig):
    """The first tick ended only in memory: its end goes with the commit that failed."""
    made = rig(counting())
    heard: list[Any] = []

    def fail():
        made.store.failure = StoreUnwritable("full")

    with pytest.raises(StoreUnwritable):
        follow(made, at(0), fail, at(1), heard=heard.append)
    assert heard == []
    assert made.types()[-1] == "round.planned"
    again = made.again()
    assert [found.verdict for found in again.conductor.recover()] == ["PASS"]
    follow(again, at(1))
    assert counted(again) == [0, 1]


def test_a_tick_that_the_record_holds_is_recognised(rig):
    """Also the one whose end is staged, and an older one."""
    made = rig(counting())
    heard: list[Any] = []
    follow(made, at(0), at(2), at(2), at(0), at(1), heard=heard.append)
    assert [found.tick for found in heard[1:4]] == [heard[1].tick] * 2 + [heard[0].tick]
    assert counted(made) == [0, 1, 2]
    assert len(made.store.rows("tick")) == 3


def test_a_stop_ends_it_after_the_tick_under_way(rig):
    """Nothing new is asked for."""
    made = rig(counting())
    assert follow(made, at(0), made.stop.ask, at(1)) == 1
    assert follow(made, at(2)) == 0
    assert [row["state"] for row in made.store.rows("tick")] == ["closed"]
