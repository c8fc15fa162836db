"""The market example as a user runs it: applied, run, and what the evidence says."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
import statistics
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.project import Project

MARKET = Path(__file__).resolve().parents[2] / "examples" / "market"
NAMES = [
    "vision_signal_inference_baseline",
    "vision_noise_floor_estimator",
    "vision_meta_state_sync",
]


@pytest.fixture
def market(project: Project) -> Project:
    """A project with the example in it, applied."""
    shutil.copytree(MARKET, project.folder / "market", ignore=shutil.ignore_patterns("__pycache__"))
    done = project.done("apply", "market/cycle.yaml")
    assert done.stdout == "cycles/market: applied (3 added)\n"
    return project


def window(days: int, as_of: date) -> list[dict[str, str]]:
    """Return the rows of the S&P 500 within so many days up to a date."""
    with (MARKET / "data" / "sp500.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    first = (as_of - timedelta(days=days)).isoformat()
    return [row for row in rows if first < row["date"] <= as_of.isoformat()]


def results(project: Project, *words: str, status: int = 0) -> list[dict[str, Any]]:
    """Run the cycle; return the results in its evidence."""
    label = project.done("run", "market", "--json", *words, status=status).json["label"]
    found: list[dict[str, Any]] = project.evidence(label)["results"]
    return found


def test_the_cycle_of_the_example_completes_and_tells_what_the_prices_say(market: Project) -> None:
    """Mean, extremes and count of the last 40 days, computed here a second time."""
    signal, noise, state = results(market)
    rows = window(40, date(2018, 12, 31))
    closes = [float(row["close"]) for row in rows]
    stats = signal["result"]["baseline_stats"]
    assert signal["result"]["rows"] == len(rows) == 25
    assert float(stats["mean_price"]) == pytest.approx(statistics.fmean(closes), abs=1e-4)
    assert float(stats["max_price"]) == pytest.approx(max(closes), abs=1e-4)
    assert float(stats["last_price"]) == pytest.approx(closes[-1], abs=1e-4)
    assert float(stats["stdev_price"]) == pytest.approx(statistics.stdev(closes), abs=1e-4)
    assert noise["result"]["noise_state"] in ("NOISE", "SIGNAL")
    assert state["result"]["meta_state"]["state"] == "IN_SYNC"
    assert [each["task_name"] for each in (signal, noise, state)] == NAMES
    assert [each["agent_id"] for each in (signal, noise, state)] == ["FINN", "STIG", "LARS"]


def test_the_functions_say_which_data_they_read(market: Project) -> None:
    """The digest of each file stands in the result, and that of each script in the plan."""
    for result in results(market):
        for name, digest in result["result"]["inputs"].items():
            data = (market.folder / "market" / "data" / name).read_bytes()
            assert hashlib.sha256(data).hexdigest() == digest
    for run in market.done("show", "latest", "--json").json["runs"]:
        script = run["work"]["script"]
        assert hashlib.sha256(Path(script["path"]).read_bytes()).hexdigest() == script["digest"]


def test_a_row_of_the_data_that_changes_changes_the_result(market: Project) -> None:
    """Nothing is taken from anywhere else."""
    before = results(market)[0]["result"]
    file = market.folder / "market" / "data" / "sp500.csv"
    lines = file.read_text().splitlines()
    fields = lines[-1].split(",")
    column = lines[0].split(",").index("close")
    fields[column] = f"{float(fields[column]) * 0.99:.6f}"
    for name in ("low", "adj_close"):
        if name in lines[0].split(","):
            place = lines[0].split(",").index(name)
            fields[place] = f"{float(fields[place]) * 0.9:.6f}"
    file.write_text("\n".join([*lines[:-1], ",".join(fields)]) + "\n")
    after = results(market)[0]["result"]
    assert before["inputs"] != after["inputs"]
    assert before["baseline_stats"]["last_price"] != after["baseline_stats"]["last_price"]


def test_an_operator_looks_from_another_day_by_sql(market: Project) -> None:
    """as_of in August 2015, when volatility returned: another window, another regime."""
    calm = results(market, "--function", NAMES[0])[0]["result"]
    market.sql(
        "UPDATE task_registry SET task_config = json_set(task_config, '$.as_of', '2015-08-26')"
    )
    signal, _, state = results(market)
    assert signal["result"]["as_of"] == "2015-08-26"
    assert signal["result"]["signal"] == "BEARISH"
    assert state["result"]["meta_state"]["stress"] == "STRESSED"
    assert signal["result"]["baseline_stats"] != calm["baseline_stats"]


def test_too_few_rows_are_refused_and_the_others_run(market: Project) -> None:
    """A window of two days is no baseline: that function fails and says why."""
    market.sql(
        "UPDATE task_registry SET task_config = json_set(task_config, '$.default_window_hours', 48)"
        " WHERE task_name = ?",
        NAMES[0],
    )
    first, *others = results(market, status=5)
    assert (first["success"], first["exit_code"]) == (False, 1)
    assert "rows" in first["stderr"]
    assert "result" not in first
    assert [each["success"] for each in others] == [True, True]


def test_two_cycles_of_the_example_compute_the_same(market: Project) -> None:
    """Same prices, same answers, byte for byte; only times and ids differ."""
    first, second = results(market), results(market)
    for one, other in zip(first, second, strict=True):
        assert json.dumps(one["result"]) == json.dumps(other["result"])
        assert one["stdout"] == other["stdout"]
