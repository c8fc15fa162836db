"""Engines of every kind go through the whole road, and come out of a replay as they went in."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from runwright.adapters.commands import best_level
from tests.e2e.project import Project
from tests.e2e.streams import MINUTE_MS, START_MS, SYMBOLS, event, published, stream

pytestmark = pytest.mark.slow

LOOKING = '''
import os, socket
from pathlib import Path


def engine(given):
    """Answer with what it could do."""
    answer = {}
    store = given.config["store"]
    for name, attempt in (
        ("read", lambda: Path(store).read_bytes()),
        ("write", lambda: Path(store).with_name("note").write_text("x")),
        ("network", lambda: socket.socket().close()),
    ):
        try:
            attempt()
        except OSError as error:
            answer[name] = type(error).__name__
        else:
            answer[name] = "done"
    return answer
'''

PROGRAM = """
import json, os
config = json.load(open(os.environ["RUNWRIGHT_CONFIG"]))
events = [json.loads(line) for line in open(os.environ["RUNWRIGHT_INPUT"])]
n = (config["state"] or {"n": 0})["n"] + 1
output = {"symbol": config["symbol"], "n": n, "events": len(events), "half": n / 2}
answer = {"decision": {"selected_output": output, "sure": 1.0}, "state": {"n": n}}
json.dump(answer, open(os.environ["RUNWRIGHT_RESULT"], "w"))
"""


def inputs(minutes: int = 4) -> list[str]:
    """Return snapshots of both symbols, which turn from calm to wide after the first."""
    return [
        event(
            symbol,
            START_MS + minute * MINUTE_MS + 1,
            event_type="SnapshotInputs",
            normalized={
                "timestamp_ms": START_MS + (minute + 1) * MINUTE_MS,
                "market": {
                    "price": 2.0,
                    "vwap": 1.0,
                    "atr_z": 2.0 if minute else 0.0,
                    "range_expansion": 2.0,
                },
            },
        )
        for minute in range(minutes)
        for symbol in SYMBOLS
    ]


def replayed(project: Project) -> str:
    """Execute everything again and insist on the same bytes; return the replay digest."""
    done = project.done("replay", "toy", "--json")
    digest: str = json.loads(done.stdout)["digest"]
    return digest


def by_type(events: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """Return the events of one type in order."""
    return [each for each in events if each["event_type"] == kind]


@pytest.mark.parametrize("isolation", ["inline", "process"])
def test_hysteresis_decides_the_same_wherever_it_executes(project: Project, isolation: str) -> None:
    """States go from run to run; the third update that is wide and sure has flipped (check 26)."""
    engine = {
        "ref": "runwright.streams.engines.hysteresis:engine",
        "engine_mode": "hysteresis",
        "hysteresis_state_path": "store:",
        "input": "snapshot",
        "isolation": isolation,
        "config": {"hysteresis": {"update_interval_ms": MINUTE_MS}},
        "determinism_check": "lint+canary:1",
    }
    stream(project, *inputs(), engine=engine)
    project.done("streams", "run", "toy")
    events = published(project)
    decisions = by_type(events, "HysteresisDecisionPublished")
    regimes = [
        each["payload"]["hysteresis_decision"]["selected_output"]["regime"] for each in decisions
    ]
    assert regimes == ["CHOP_BALANCED"] * 6 + ["TREND_BUILD_UP"] * 2
    assert len(by_type(events, "EngineRunCompleted")) == len(decisions)
    assert replayed(project)


def test_a_program_is_an_engine(project: Project) -> None:
    """With a state, one process a run, floats as it wrote them (check 24)."""
    path = project.write("engine.py", PROGRAM)
    engine = {
        "ref": f"cmd: {sys.executable} {path}",
        "engine_mode": "hysteresis",
        "hysteresis_state_path": "store:",
        "isolation": "process",
    }
    stream(project, *inputs(3), engine=engine)
    project.done("streams", "run", "toy")
    completed = by_type(published(project), "EngineRunCompleted")
    assert [each["payload"]["regime_output"] for each in completed] == [
        {"symbol": symbol, "n": n, "events": 1, "half": n / 2}
        for n in (1, 2, 3)
        for symbol in SYMBOLS
    ]
    assert replayed(project)


def test_an_isolated_engine_reaches_neither_the_record_nor_the_network(project: Project) -> None:
    """Where the machine holds T1, and the record says so."""
    if best_level() != "T1":
        pytest.skip("this machine does not hold T1")
    project.write("looking.py", LOOKING)
    engine = {
        "ref": "looking:engine",
        "isolation": "process",
        "config": {"store": str(project.store)},
    }
    stream(project, *inputs(2), engine=engine)
    project.done("streams", "run", "toy")
    answers = [
        each["payload"]["regime_output"]
        for each in by_type(published(project), "EngineRunCompleted")
    ]
    refused = {"read": "PermissionError", "write": "PermissionError", "network": "PermissionError"}
    assert answers == [refused] * 4
    assert {body["level"] for body in project.bodies("run.finished")} == {"T1"}
