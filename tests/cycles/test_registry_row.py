"""A row of task_registry: every column and every key of its config is obeyed or refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from runwright.cycles.spec import TaskConfig
from runwright.cycles.tables import TABLES
from runwright.kernel.errors import InvalidSpec
from runwright.kernel.ports import Batch, Row
from runwright.kernel.run import Command, RunPlan
from tests.cycles.scripted import CyclesRig, store

COMMAND = {"command": ["true"]}


@pytest.fixture
def rig(tmp_path: Path) -> CyclesRig:
    """A conductor of one spec with one function."""
    made = CyclesRig(store(), tmp_path)
    (tmp_path / "a.py").write_text("print(1)\n")
    (tmp_path / "out").mkdir()
    made.declare("a", "z", schedule={"interval_s": 60})
    return made


def change(rig: CyclesRig, **values: Any) -> None:
    """Change columns of the row of `a`, as an operator does."""
    task_id = rig.row("task_registry", task_name="a")["task_id"]
    rig.store._inner.commit(
        Batch(rows=[Row("task_registry", {"task_id": task_id, **values}, update=True)])
    )


def plan(rig: CyclesRig) -> dict[str, RunPlan]:
    """Return what the next cycle plans."""
    from runwright.cycles import WORKLOAD
    from runwright.cycles.spec import CycleSpec
    from runwright.kernel.drive.ticks import decode_spec
    from runwright.kernel.drive.world import StoreWorld
    from runwright.kernel.run import Requested
    from runwright.kernel.workload import Seen

    tick = Requested(id="x", planned_ms=1)
    spec: CycleSpec = decode_spec(WORKLOAD, rig.row("spec")["body"])
    facts = WORKLOAD.observe(spec, tick, StoreWorld(rig.store))
    planned = WORKLOAD.plan(Seen(spec=spec, tick=tick, at=1, facts=facts))
    assert planned is not None
    return {run.key: run for run in planned.runs}


def argv(run: RunPlan) -> list[str]:
    assert isinstance(run.work, Command)
    return [Path(word).name for word in run.work.argv]


def work(run: RunPlan) -> Command:
    assert isinstance(run.work, Command)
    return run.work


#: Key -> a config with it, and what the plan shows of it.
OBEYED: dict[str, tuple[dict[str, Any], Any]] = {
    "function_path": ({"function_path": "a.py"}, lambda run: argv(run)[-1] == "a.py"),
    "script": ({"script": "a.py"}, lambda run: argv(run)[-1] == "a.py"),
    "command": (COMMAND, lambda run: argv(run) == ["true"]),
    "args": ({**COMMAND, "args": ["-v"]}, lambda run: argv(run) == ["true", "-v"]),
    "timeout_s": ({**COMMAND, "timeout_s": 7}, lambda run: work(run).limits.timeout_s == 7),
    "env": ({**COMMAND, "env": ["PGHOST"]}, lambda run: work(run).env == ("PGHOST",)),
    "secret": (
        {**COMMAND, "env": ["PGHOST"], "secret": ["PGHOST"]},
        lambda run: work(run).secret == ("PGHOST",),
    ),
    "network": ({**COMMAND, "network": "none"}, lambda run: work(run).network == "none"),
    "write": (
        {**COMMAND, "write": ["out"]},
        lambda run: [Path(it).name for it in work(run).write] == ["out"],
    ),
    "level": ({**COMMAND, "level": "T0"}, lambda run: work(run).level == "T0"),
    "limits": (
        {**COMMAND, "limits": {"cpu_s": 3}},
        lambda run: work(run).limits.cpu_s == 3,
    ),
    "warm": ({"function_path": "a.py", "warm": True}, lambda run: bool(work(run).warm)),
    "continuous": ({**COMMAND, "continuous": False}, lambda run: run.refused == ""),
}
#: Key -> a config in which it cannot be meant, and why.
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "function_path": ({"function_path": 1}, "function_path: Expected `str`"),
    "script": ({"script": "a.py", "function_path": "a.py"}, "script and function_path: give one"),
    "command": ({**COMMAND, "function_path": "a.py"}, "function_path and command: give one"),
    "args": ({**COMMAND, "args": "-v"}, "args: Expected `array`"),
    "priority": ({**COMMAND, "priority": "first"}, "priority: Expected `int | null`"),
    "timeout_s": ({**COMMAND, "timeout_s": 0}, "timeout_s: 0 is not within"),
    "env": ({**COMMAND, "env": ["A B"]}, "env: 'A B' is not the name of a variable"),
    "secret": ({**COMMAND, "secret": ["X"]}, "secret: X is not granted by env"),
    "network": ({**COMMAND, "network": ["nowhere"]}, "network: ['nowhere'] is not"),
    "write": ({**COMMAND, "write": ["a\0"]}, "holds a NUL byte"),
    "level": ({**COMMAND, "level": "T9"}, "level: Invalid enum value"),
    "limits": ({**COMMAND, "limits": {"bogus": 1}}, "limits: Object contains unknown field"),
    "warm": ({**COMMAND, "warm": True}, "warm: goes with function_path"),
    "continuous": ({**COMMAND, "continuous": True}, "continuous: a function that never ends"),
    "retry": ({**COMMAND, "retry": {"attempts": 2}}, "retry: stands in the spec or in"),
}


@pytest.mark.parametrize("key", OBEYED)
def test_a_key_is_obeyed(rig: CyclesRig, key: str) -> None:
    """As the next plan shows."""
    config, holds = OBEYED[key]
    change(rig, task_config=json.dumps(config))
    found = plan(rig)["a"]
    assert found.refused == ""
    assert holds(found), found


def test_a_priority_is_obeyed(rig: CyclesRig) -> None:
    """Lower runs earlier; without one a function is last."""
    assert list(plan(rig)) == ["a", "z"]
    for task, priority in (("a", 2), ("z", 1)):
        task_id = rig.row("task_registry", task_name=task)["task_id"]
        values = {"task_id": task_id, "task_config": json.dumps({**COMMAND, "priority": priority})}
        rig.store._inner.commit(Batch(rows=[Row("task_registry", values, update=True)]))
    assert list(plan(rig)) == ["z", "a"]


@pytest.mark.parametrize("key", REFUSED)
def test_a_key_that_cannot_be_meant_is_refused_and_the_others_run(rig: CyclesRig, key: str) -> None:
    """That function alone, with the key and the reason."""
    config, why = REFUSED[key]
    change(rig, task_config=json.dumps(config))
    found = plan(rig)
    assert why in found["a"].refused
    assert found["z"].refused == ""
    assert rig.conduct("x", kind="cycles").outcomes == {"failed": 1, "done": 1}
    assert rig.outcomes()["a"].reason == "refused"


def test_broken_json_refuses_that_function_alone(rig: CyclesRig) -> None:
    """And says so."""
    change(rig, task_config="{broken")
    assert plan(rig)["a"].refused.startswith("broken JSON: ")
    assert plan(rig)["z"].refused == ""


def test_every_key_is_walked() -> None:
    """One that is added has to be walked too."""
    known = set(TaskConfig.__struct_fields__)
    assert known == set(REFUSED)
    assert known - {"priority", "retry"} == set(OBEYED)


def test_all_other_keys_reach_the_function(rig: CyclesRig) -> None:
    """The whole config stands in RUNWRIGHT_CONFIG."""
    config = {**COMMAND, "vendors": ["x"], "default_window_hours": 48}
    change(rig, task_config=json.dumps(config))
    found = plan(rig)["a"]
    assert (found.refused, json.loads(work(found).config)) == ("", config)


def test_every_column_is_obeyed(rig: CyclesRig) -> None:
    """All but the description and the stamps, which are for people."""
    columns = set(next(table.columns for table in TABLES if table.name == "task_registry"))
    change(rig, agent_id="STIG")
    assert plan(rig)["a"].agent == "STIG"
    change(rig, task_name="b")
    assert set(plan(rig)) == {"b", "z"}
    for values in ({"enabled": 0}, {"task_type": "OTHER"}, {"spec_name": "other"}):
        before = {name: rig.row("task_registry", task_name="b")[name] for name in values}
        task_id = rig.row("task_registry", task_name="b")["task_id"]
        for these, names in ((values, {"z"}), (before, {"b", "z"})):
            row = Row("task_registry", {"task_id": task_id, **these}, update=True)
            rig.store._inner.commit(Batch(rows=[row]))
            assert set(plan(rig)) == names, these
    walked = {"agent_id", "task_name", "enabled", "task_type", "spec_name", "task_config"}
    shown = {"task_id", "task_description", "created_at", "updated_at"}
    assert columns == walked | shown


# -------------------------------------------------------------------------- the orchestrator


def test_the_orchestrator_is_known_by_a_row_that_executes_nothing(rig: CyclesRig) -> None:
    """What it manages, by which rules and in which version."""
    row = rig.row("task_registry", task_type="SYSTEM_ORCHESTRATOR")
    assert (row["task_name"], row["agent_id"]) == ("vision_ios_orchestrator", "LARS")
    assert json.loads(row["task_config"]) == {
        "manages_tasks": ["a", "z"],
        "compliance": ["ADR-007", "ADR-010", "ADR-002"],
        "version": "1.0.0",
    }
    assert set(plan(rig)) == {"a", "z"}


def test_specs_share_an_orchestrator(rig: CyclesRig) -> None:
    """Its row lists what all of them declare; a stranger's name is its own."""
    rig.declare("c", name="other")
    row = rig.row("task_registry", task_type="SYSTEM_ORCHESTRATOR")
    assert sorted(json.loads(row["task_config"])["manages_tasks"]) == ["a", "c", "z"]
    rig.declare("d", name="third", orchestrator="mine", agent="STIG")
    row = rig.row("task_registry", task_name="mine")
    assert (row["agent_id"], json.loads(row["task_config"])["manages_tasks"]) == ("STIG", ["d"])


def test_an_orchestrator_that_is_disabled_runs_no_cycle(rig: CyclesRig) -> None:
    """The tick is refused, on the record."""
    task_id = rig.row("task_registry", task_type="SYSTEM_ORCHESTRATOR")["task_id"]
    row = Row("task_registry", {"task_id": task_id, "enabled": 0}, update=True)
    rig.store._inner.commit(Batch(rows=[row]))
    refused = rig.conduct("x", kind="cycles")
    assert refused.message == (
        "the orchestrator vision_ios_orchestrator is disabled in task_registry"
    )


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"orchestrator": "a"}, "task_name: a is that of the orchestrator"),
        ({"task_type": "SYSTEM_ORCHESTRATOR"}, "task_type: SYSTEM_ORCHESTRATOR is that of"),
        ({"orchestrator": ""}, "orchestrator: '' is not of letters"),
        ({"schedule_name": "a b"}, "schedule_name: 'a b' is not of letters"),
    ],
)
def test_a_spec_may_not_take_the_place_of_its_orchestrator(
    rig: CyclesRig, fields: dict[str, Any], why: str
) -> None:
    """Refused when it is applied."""
    with pytest.raises(InvalidSpec, match=why):
        rig.declare("a", **fields)
