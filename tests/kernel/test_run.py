"""Ticks, plans and ids by example."""

from __future__ import annotations

import msgspec
import pytest

from runwright.kernel.canonical import digest_of, encode
from runwright.kernel.run import (
    ONCE,
    Arrived,
    Call,
    Command,
    Limits,
    Outcome,
    Ref,
    Requested,
    Round,
    RunPlan,
    Scheduled,
    Script,
    Tick,
    instant_text,
    round_id,
    run_id,
    tick_id,
    tick_key,
)

ORIGIN = "example.org/ledger"


def test_a_tick_is_told_by_its_instant_or_by_its_id():
    """Not by who asked, nor by what was asked for."""
    assert tick_key(Scheduled(planned_ms=5)) == "scheduled:5"
    assert tick_key(Requested(id="r", planned_ms=5, by="ada")) == "requested:r"
    assert tick_key(Arrived(id="d", planned_ms=5, subject="x")) == "arrived:d"


def test_ids_are_digests_of_what_they_name():
    """Anybody can derive them again."""
    tick = tick_id(origin=ORIGIN, workload="cycles", spec="demo", tick=Scheduled(planned_ms=5))
    assert tick == digest_of(
        {"origin": ORIGIN, "workload": "cycles", "spec": "demo", "tick": "scheduled:5"}
    )
    this = round_id(tick=tick, round_key="cycle")
    assert this == digest_of({"tick": tick, "round": "cycle"})
    assert run_id(round=this, key="a") == digest_of({"round": this, "key": "a"})


def test_the_ids_of_a_known_occurrence_stay():
    """Change this only with the version of the entry format: old ledgers name their runs so."""
    tick = tick_id(
        origin=ORIGIN, workload="cycles", spec="demo", tick=Scheduled(planned_ms=1_763_632_800_000)
    )
    this = round_id(tick=tick, round_key="cycle")
    assert [tick, this, run_id(round=this, key="a")] == [
        "9ec5a791ecb7aa3342c78a52fb6a7308504e501b832095a803542d3056682cb5",
        "f096678b9e3926b8d416a9f68fc194196694a079f54ad52e8a1becf740bf3272",
        "c8ef787ba9be9c57523c82f485d84bc2f50b5915ccf5e3f558dc58ee66127554",
    ]


@pytest.mark.parametrize(
    "plan",
    [
        RunPlan(key="a", work=Call(name="m:f", args={"n": 1}), lane="x", agent="LARS"),
        RunPlan(
            key="b",
            work=Command(
                argv=("python3", "f.py"),
                script=Script(path="/r/f.py", root="/r", digest="00"),
                env=("PGHOST",),
                network=("db:5432",),
                limits=Limits(timeout_s=5, memory_mib=64),
                level="T0",
            ),
            inputs=(Ref(digest="00", size=3),),
            content="c",
            refused="no such file",
        ),
    ],
)
def test_a_plan_is_data(plan: RunPlan):
    """It reads back from its canonical bytes as it was."""
    assert msgspec.json.decode(encode(plan), type=RunPlan) == plan


@pytest.mark.parametrize(
    "tick",
    [Scheduled(planned_ms=1), Requested(id="r", planned_ms=2), Arrived(id="d", planned_ms=3)],
)
def test_a_tick_is_data(tick: Tick):
    """Its type stands in it."""
    assert msgspec.json.decode(encode(tick), type=Scheduled | Requested | Arrived) == tick


def test_an_unknown_field_is_refused():
    """A record from a newer version is not read as if it were known."""
    with pytest.raises(msgspec.ValidationError, match="unknown field `colour`"):
        msgspec.json.decode(b'{"key":"a","status":"done","colour":1}', type=Outcome)


def test_a_status_is_one_of_four():
    """Skipped is not done."""
    with pytest.raises(msgspec.ValidationError, match="Invalid enum value 'ok'"):
        msgspec.json.decode(b'{"key":"a","status":"ok"}', type=Outcome)


def test_a_round_is_pure_inline_and_runs_once_unless_it_says_otherwise():
    """The defaults."""
    made = Round(key="k")
    assert (made.pure, made.place, made.workers, made.retry) == (True, "inline", 1, ONCE)
    assert (made.rate, made.deadline_s, made.judge_every) == (None, None, 0)


def test_data_is_frozen():
    """A plan that was recorded does not change."""
    with pytest.raises(AttributeError, match="immutable"):
        RunPlan(key="a", work=Call(name="m:f")).key = "b"  # type: ignore[misc]


def test_an_instant_is_shown_in_utc():
    """To the second, or in another form."""
    assert instant_text(1_763_632_800_999) == "2025-11-20T10:00:00Z"
    assert instant_text(0, "%Y%m%d_%H%M%S") == "19700101_000000"
