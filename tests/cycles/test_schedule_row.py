"""The row of orchestrator_schedule drives: what operators change is obeyed, or refused aloud."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from runwright.cycles import WORKLOAD, timetable
from runwright.cycles.spec import CycleSpec
from runwright.cycles.tables import TABLES
from runwright.kernel.run import InForce, Schedule
from tests.cycles.scripted import CyclesRig, store
from tests.kernel.drive.rig import NOW_MS

HOURLY = {"interval_s": 3600}


@pytest.fixture
def rig(tmp_path: Path) -> CyclesRig:
    """A conductor of one spec that runs hourly."""
    made = CyclesRig(store(), tmp_path)
    made.declare("a", "b", schedule=HOURLY)
    return made


def instant(seconds: int) -> str:
    """Return the text of an instant after the start of the tests."""
    from runwright.kernel.run import instant_text

    return f"{instant_text(NOW_MS + seconds * 1000, '%Y-%m-%dT%H:%M:%S')}.000Z"


def test_a_spec_declares_its_row(rig: CyclesRig) -> None:
    """With its first occurrence, and counters that stand at nothing."""
    row = rig.row()
    assert row["schedule_name"] == "demo"
    assert (row["schedule_type"], row["interval_seconds"], row["enabled"]) == ("INTERVAL", 3600, 1)
    assert json.loads(row["config"]) == {"timezone": "UTC"}
    assert (row["execution_count"], row["failure_count"]) == (0, 0)
    assert (row["last_execution_at"], row["next_execution_at"]) == (None, instant(0))


def test_counters_move_with_each_scheduled_cycle_and_no_other(rig: CyclesRig) -> None:
    """What somebody asked for is no execution of the schedule."""
    rig.script["b"] = ["exit"]
    rig.serve()
    row = rig.row()
    assert (row["execution_count"], row["failure_count"]) == (1, 1)
    assert row["last_execution_at"] == instant(0)
    assert row["next_execution_at"] == instant(3600)
    rig.conduct("asked", kind="cycles")
    assert rig.row() == row
    again = rig.again()
    again.clock.advance(3600)
    again.serve()
    row = again.row()
    assert (row["execution_count"], row["failure_count"]) == (2, 1)
    assert row["next_execution_at"] == instant(7200)
    assert again.differences() == []


def test_an_interval_that_is_changed_is_in_force_at_the_next_look(rig: CyclesRig) -> None:
    """Recorded, without a restart; the grid stays, and nothing is owed from before."""
    rig.serve(lambda: rig.edit(interval_seconds=1800), None, None)
    (changed,) = rig.entries("schedule.changed")
    assert changed.body.schedule.interval_s == 1800
    assert rig.row("spec")["since_ms"] == changed.ts
    planned = [entry.body.occurrence.planned_ms for entry in rig.entries("round.planned")]
    assert planned[0] == NOW_MS
    assert rig.row()["next_execution_at"] == instant(1800)
    assert rig.differences() == []


def test_what_operators_made_of_it_stays_until_the_spec_has_another_schedule(
    rig: CyclesRig,
) -> None:
    """Applied again for its tasks, the row is left; applied with a new schedule, it is written."""
    rig.serve(lambda: rig.edit(interval_seconds=1800))
    rig.declare("a", schedule=HOURLY)
    assert rig.row()["interval_seconds"] == 1800
    assert msgspec.json.decode(rig.row("spec")["in_force"])["schedule"]["interval_s"] == 1800
    rig.declare("a", schedule={"interval_s": 60})
    assert rig.row()["interval_seconds"] == 60
    assert rig.row()["execution_count"] == 1
    assert msgspec.json.decode(rig.row("spec")["in_force"])["schedule"]["interval_s"] == 60
    assert rig.differences() == []


def test_a_disabled_row_is_skipped_on_the_record(rig: CyclesRig) -> None:
    """Also what fell due between the last look and the one that sees it enabled again."""

    def pass_hours() -> None:
        rig.clock.advance(2 * 3600)

    rig.serve(
        lambda: rig.edit(enabled=0), pass_hours, pass_hours, lambda: rig.edit(enabled=1), None
    )
    passed = rig.entries("tick.passed")
    assert {(entry.body.status, entry.body.reason) for entry in passed} == {("SKIPPED", "paused")}
    assert sum(entry.body.count for entry in passed) == 4
    assert [entry.body.schedule.enabled for entry in rig.entries("schedule.changed")] == [
        False,
        True,
    ]
    assert rig.row()["execution_count"] == 1
    assert rig.differences() == []


#: What an operator leaves -> what is in force, or the start of why nothing is.
ROWS: list[tuple[dict[str, Any], Schedule | str | None]] = [
    ({"interval_seconds": 60}, Schedule(interval_s=60)),
    ({"interval_seconds": 0}, "schedule.interval_s: 0 is not from 1"),
    ({"interval_seconds": None}, "interval_seconds: a row of type INTERVAL needs one"),
    ({"enabled": 0}, Schedule(interval_s=3600, enabled=False)),
    ({"schedule_type": "EVENT_DRIVEN"}, "schedule_type: EVENT_DRIVEN is not something"),
    ({"schedule_type": "MANUAL"}, "interval_seconds: a row of type MANUAL has none"),
    ({"schedule_type": "MANUAL", "interval_seconds": None}, None),
    ({"schedule_type": "CRON"}, "cron_expression: a row of type CRON needs one"),
    (
        {"schedule_type": "CRON", "cron_expression": "0 6 * * *", "interval_seconds": None},
        Schedule(cron="0 6 * * *"),
    ),
    (
        {"schedule_type": "CRON", "cron_expression": "bogus", "interval_seconds": None},
        "schedule.cron: ",
    ),
    ({"cron_expression": "0 6 * * *"}, "cron_expression: a row of type INTERVAL has none"),
    ({"schedule_type": "CRON", "cron_expression": "0 6 * * *"}, "interval_seconds: a row of type"),
    (
        {
            "schedule_type": "CRON",
            "cron_expression": "0 6 * * *",
            "interval_seconds": None,
            "config": '{"timezone":"Europe/Oslo"}',
        },
        Schedule(cron="0 6 * * *", timezone="Europe/Oslo"),
    ),
    ({"config": '{"timezone":"Europe/Oslo"}'}, "config.timezone: 'Europe/Oslo': only CRON"),
    ({"config": "no json"}, "config: broken JSON"),
    ({"config": '{"bogus":1}'}, "config: Object contains unknown field `bogus`"),
    ({"config": '{"max_retries":"3"}'}, "config.max_retries: Expected `int | null`"),
    ({"config": '{"max_retries":100}'}, "config.max_retries: 100 is not within 0 to 99"),
    ({"config": '{"retry_on_failure":true,"max_retries":3}'}, Schedule(interval_s=3600)),
    ({"config": '{"once_at":"2030-01-01T00:00:00Z"}'}, "config.once_at: a row of type INTERVAL"),
    (
        {
            "schedule_type": "MANUAL",
            "interval_seconds": None,
            "config": '{"once_at":"2030-01-01T00:00:00Z"}',
        },
        Schedule(once_at="2030-01-01T00:00:00Z"),
    ),
]


@pytest.mark.parametrize(("values", "wanted"), ROWS, ids=lambda each: str(each)[:60])
def test_every_column_and_key_is_obeyed_or_refused(
    rig: CyclesRig, values: dict[str, Any], wanted: Schedule | str | None
) -> None:
    """Refused: recorded with its reason, and nothing runs by itself."""
    rig.serve(lambda: rig.edit(**values), None)
    found = msgspec.json.decode(rig.row("spec")["in_force"], type=InForce)
    if isinstance(wanted, str):
        assert found.refused.startswith(("orchestrator_schedule demo: " + wanted, wanted))
        assert rig.entries("schedule.changed")[0].body.refused == found.refused
        assert rig.service().timed() == []
        assert rig.row()["next_execution_at"] is None
    else:
        assert found == InForce(schedule=wanted)
    assert rig.differences() == []


def test_the_walk_above_is_whole() -> None:
    """A column or a key that is added has to be walked too."""
    (table,) = (table for table in TABLES if table.name == timetable.TABLE)
    counted = {*table.folded, "schedule_id", "schedule_name"}
    assert set(table.columns) - counted == set(timetable.EDITED)
    walked = {column for values, _ in ROWS for column in values}
    assert walked == set(timetable.EDITED)
    keys = {
        key
        for values, _ in ROWS
        if values.get("config", "").startswith("{")
        for key in json.loads(values["config"])
    }
    assert keys >= set(timetable.RowConfig.__struct_fields__)


def test_a_row_that_is_gone_runs_nothing(rig: CyclesRig) -> None:
    """Fail closed, and said; applying the spec again writes it anew."""
    rig.store._inner._rows["orchestrator_schedule"].clear()
    rig.serve()
    assert "has no row demo" in rig.entries("schedule.changed")[0].body.refused
    assert rig.entries("round.planned") == []
    assert [found.what for found in rig.differences()] == ["missing"]
    rig.declare("a", "b", "c", schedule=HOURLY)
    again = rig.again()
    again.serve()
    assert len(again.entries("round.planned")) == 1


def test_two_specs_may_not_share_a_row(rig: CyclesRig) -> None:
    """The one that has it is named."""
    from runwright.kernel.errors import InvalidSpec

    with pytest.raises(InvalidSpec, match="schedule_name: demo is that of the spec demo"):
        rig.declare("c", name="other", schedule_name="demo")


# ------------------------------------------------------------------------------------- repeats


def test_retry_on_failure_of_the_row_repeats_what_failed(rig: CyclesRig) -> None:
    """Each repeat is recorded, and failures that were mended fail no cycle."""
    rig.edit(config='{"retry_on_failure":true,"max_retries":3}')
    rig.script["a"] = ["exit", "timeout", "signal"]
    done = rig.conduct("first", kind="cycles")
    assert (done.outcome, done.outcomes) == ("COMPLETED", {"done": 2})
    assert rig.outcomes()["a"].attempts == 4
    assert [entry.body.attempt for entry in rig.entries("run.deferred")] == [1, 2, 3]
    rig.script["a"] = ["exit"] * 4
    done = rig.conduct("second", kind="cycles")
    assert (done.outcome, done.outcomes) == ("COMPLETED_WITH_FAILURES", {"failed": 1, "done": 1})
    assert rig.differences() == []


def test_without_it_nothing_that_failed_is_repeated(rig: CyclesRig) -> None:
    """Not by default, and not when the row says no."""
    for config in ('{"timezone":"UTC"}', '{"retry_on_failure":false,"max_retries":3}'):
        rig.edit(config=config)
        rig.script["a"] = ["exit"]
        assert rig.conduct(config, kind="cycles").outcomes == {"failed": 1, "done": 1}
    assert rig.entries("run.deferred") == []


def test_what_was_refused_is_never_repeated(rig: CyclesRig) -> None:
    """Another attempt mends nothing there."""
    rig.edit(config='{"retry_on_failure":true,"max_retries":3}')
    rig.script["a"] = ["changed"]
    assert rig.conduct("first", kind="cycles").outcomes == {"failed": 1, "done": 1}
    assert rig.entries("run.deferred") == []


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ('{"retry_on_failure":true}', "max_retries is missing or 0"),
        ('{"retry_on_failure":true,"max_retries":0}', "max_retries is missing or 0"),
        ('{"retry_on_failure":"yes"}', "config.retry_on_failure: Expected `bool | null`"),
        ("no json", "config: broken JSON"),
    ],
)
def test_a_config_that_cannot_be_obeyed_refuses_the_cycle(
    rig: CyclesRig, config: str, why: str
) -> None:
    """Whoever asks for it: how it repeats would be a guess."""
    rig.edit(config=config)
    refused = rig.conduct("first", kind="cycles")
    assert (refused.error, why in refused.message) == ("usage", True)
    assert rig.entries("tick.refused")[0].body.message == refused.message


def test_a_spec_that_repeats_failures_says_so_in_its_row(tmp_path: Path) -> None:
    """As the seed's own row does."""
    rig = CyclesRig(store(), tmp_path)
    rig.declare("a", schedule=HOURLY, retry={"attempts": 4, "on_failure": True})
    wanted = {"timezone": "UTC", "retry_on_failure": True, "max_retries": 3}
    assert json.loads(rig.row()["config"]) == wanted
    rig.script["a"] = ["exit"]
    assert rig.conduct("first", kind="cycles").outcomes == {"done": 1}


def test_a_declared_row_reads_back_as_the_schedule_of_its_spec() -> None:
    """Whatever the schedule: applying one changes nothing beside it."""

    class World:
        def __init__(self, row: dict[str, Any]) -> None:
            self.row = row

        def rows(self, table: str, where: Any = None) -> list[dict[str, Any]]:
            return [self.row]

    for schedule in (
        None,
        Schedule(interval_s=5, anchor="2030-01-01T00:00:00Z", overlap="queue_one"),
        Schedule(cron="0 6 * * *", timezone="Europe/Oslo", enabled=False),
        Schedule(once_at="2030-01-01T00:00:00+02:00", deadline_s=9),
    ):
        spec = CycleSpec(kind="cycles", name="demo", schedule=schedule)
        world: Any = World({"schedule_name": "demo", **timetable.declared(spec)})
        assert timetable.in_force(spec, world) == InForce(schedule=schedule)
        if schedule is not None:
            assert timetable._schedule(world.row, spec) == schedule
    assert WORKLOAD.schedule is timetable.in_force
