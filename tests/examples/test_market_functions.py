"""The three functions of the market example, run as the processes that they are.

Every expected number is computed here a second time, from the CSV text with `statistics`.
"""

from __future__ import annotations

import ast
import csv
import gzip
import hashlib
import json
import math
import shutil
import statistics
import subprocess
import sys
import zipfile
from datetime import date, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from ruamel.yaml import YAML

MARKET = Path(__file__).resolve().parents[2] / "examples" / "market"
DATA = MARKET / "data"
FUNCTIONS = MARKET / "functions"
SCRIPTS = ("signal_inference_baseline", "noise_floor_estimator", "meta_state_sync")
AGENTS = {
    "signal_inference_baseline": "FINN",
    "noise_floor_estimator": "STIG",
    "meta_state_sync": "LARS",
}
#: The default; falling and normal; rising, calm and ended on a Saturday; above the implied
#: volatility; over a year; hours that are no whole days.
WINDOWS: tuple[dict[str, Any], ...] = (
    {},
    {"default_window_hours": 960, "as_of": "2015-08-21"},
    {"as_of": "2016-08-06"},
    {"default_window_hours": 960, "as_of": "2018-02-06"},
    {"default_window_hours": 8760, "as_of": "2018-02-09"},
    {"default_window_hours": 1080.5, "as_of": "2016-07-03"},
)


class Run(NamedTuple):
    """What one process left behind."""

    status: int
    stdout: str
    stderr: str
    result: Any
    written: bytes | None


def run(script: str, folder: Path, config: object = None, **environment: str) -> Run:
    """Run one function under the contract, in a folder of its own, with nothing else granted."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / "result.json"
    granted = {"RUNWRIGHT_RESULT": str(target), **environment}
    if config is not None:
        text = config if isinstance(config, str) else json.dumps(config)
        (folder / "config.json").write_text(text, encoding="utf-8")
        granted["RUNWRIGHT_CONFIG"] = str(folder / "config.json")
    done = subprocess.run(
        [sys.executable, FUNCTIONS / f"{script}.py"],
        env=granted,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert not list(folder.glob("*.partial")), "a half-written result was left behind"
    written = target.read_bytes() if target.exists() else None
    result = None if written is None else json.loads(written)
    return Run(done.returncode, done.stdout, done.stderr, result, written)


def refused(done: Run, status: int, *words: str) -> None:
    """Assert one clear line on stderr, the status, and that nothing was published."""
    assert done.status == status, done.stderr
    assert done.written is None
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    for word in words:
        assert word in done.stderr


def rows_of(name: str, folder: Path = DATA) -> list[dict[str, str]]:
    """Return the rows of one CSV file as text."""
    with (folder / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def window_of(name: str, config: dict[str, Any]) -> list[dict[str, str]]:
    """Return the rows that a configuration asks for, by the definition in the README."""
    as_of = date.fromisoformat(config.get("as_of", "2018-12-31"))
    hours = config.get("default_window_hours", 960)
    return [
        row
        for row in rows_of(name)
        if timedelta(0) <= as_of - date.fromisoformat(row["date"]) < timedelta(hours=hours)
    ]


def numbers(rows: list[dict[str, str]], column: str) -> list[float]:
    """Return one column as numbers."""
    return [float(row[column]) for row in rows]


def returns_of(closes: list[float]) -> list[float]:
    """Return the logarithmic returns."""
    return [math.log(closes[i] / closes[i - 1]) for i in range(1, len(closes))]


def mad(values: list[float]) -> float:
    """Return the median absolute deviation on the scale of a standard deviation."""
    middle = statistics.median(values)
    scale = 1 / statistics.NormalDist().inv_cdf(0.75)
    return scale * statistics.median(abs(value - middle) for value in values)


def drift_of(returns: list[float]) -> float:
    """Return the mean return in standard errors."""
    return statistics.mean(returns) * math.sqrt(len(returns)) / statistics.stdev(returns)


def planted(folder: Path, sp500: list[tuple[str, float]], vix: list[tuple[str, float]]) -> Path:
    """Write a data folder with these closes."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"{day},{close},{close},{close}" for day, close in sp500]
    (folder / "sp500.csv").write_text("\n".join(["date,high,low,close", *lines]) + "\n")
    lines = [f"{day},{close}" for day, close in vix]
    (folder / "vix.csv").write_text("\n".join(["date,close", *lines]) + "\n")
    return folder


def closes_from(name: str) -> list[tuple[str, float]]:
    """Return day and close of every real row."""
    return [(row["date"], float(row["close"])) for row in rows_of(name)]


# The values.


@pytest.mark.parametrize("config", WINDOWS)
def test_the_baseline_is_what_statistics_computes(tmp_path: Path, config: dict[str, Any]) -> None:
    """Level, drift and signal of the window agree with a second computation."""
    result = run("signal_inference_baseline", tmp_path, config).result
    rows = window_of("sp500", config)
    closes = numbers(rows, "close")
    returns = returns_of(closes)
    drift = drift_of(returns)
    assert result["rows"] == len(rows)
    assert (result["first_day"], result["last_day"]) == (rows[0]["date"], rows[-1]["date"])
    expected = {
        "first_price": closes[0],
        "last_price": closes[-1],
        "max_price": max(closes),
        "mean_price": statistics.mean(closes),
        "mean_return": statistics.mean(returns),
        "min_price": min(closes),
        "momentum": closes[-1] / closes[0] - 1,
        "price_z": (closes[-1] - statistics.mean(closes)) / statistics.stdev(closes),
        "stdev_price": statistics.stdev(closes),
        "stdev_return": statistics.stdev(returns),
    }
    assert result["baseline_stats"] == pytest.approx(expected, abs=6e-5, rel=0)
    assert result["baseline_stats"]["stdev_return"] == pytest.approx(
        expected["stdev_return"], abs=6e-9, rel=0
    )
    assert result["metrics"]["drift_t"] == pytest.approx(drift, abs=6e-5)
    strength = 2 * statistics.NormalDist().cdf(abs(drift)) - 1
    assert result["signal_strength"] == pytest.approx(strength, abs=1e-4)
    direction = "BULLISH" if drift > 0 else "BEARISH"
    assert result["signal"] == (direction if abs(drift) >= 1 else "NEUTRAL")


@pytest.mark.parametrize("config", WINDOWS)
def test_the_noise_profile_is_what_statistics_computes(
    tmp_path: Path, config: dict[str, Any]
) -> None:
    """The floor, its outliers and the volatilities agree with a second computation."""
    result = run("noise_floor_estimator", tmp_path, config).result
    rows, vix_rows = window_of("sp500", config), window_of("vix", config)
    returns, vix = returns_of(numbers(rows, "close")), numbers(vix_rows, "close")
    floor, middle = mad(returns), statistics.median(returns)
    outliers = sum(abs(value - middle) > 3 * floor for value in returns)
    ranges = [math.log(float(row["high"]) / float(row["low"])) ** 2 for row in rows]
    year = 100 * math.sqrt(252)
    realised, implied = statistics.stdev(returns) * year, statistics.mean(vix)
    by_range = math.sqrt(statistics.mean(ranges) / (4 * math.log(2))) * year
    expected = {
        "noise_floor": floor,
        "vix_noise_floor": mad(returns_of(vix)),
        "outliers": outliers,
        "outlier_share": outliers / len(returns),
        "signal_to_noise": abs(sum(returns)) / (floor * math.sqrt(len(returns))),
        "realised_volatility": realised,
        "range_volatility": by_range,
        "implied_volatility": implied,
        "implied_volatility_last": vix[-1],
        "volatility_premium": implied - realised,
        "volatility_ratio": realised / implied,
    }
    assert result["noise_profile"] == pytest.approx(expected, abs=6e-5, rel=0)
    assert result["noise_profile"]["noise_floor"] == pytest.approx(floor, abs=6e-9, rel=0)
    assert (result["rows"], result["vix_rows"]) == (len(rows), len(vix_rows))
    assert result["noise_state"] == ("SIGNAL" if expected["signal_to_noise"] >= 1 else "NOISE")


@pytest.mark.parametrize("config", WINDOWS)
def test_the_meta_state_is_what_statistics_computes(tmp_path: Path, config: dict[str, Any]) -> None:
    """Regime, agreement and coverage agree with a second computation."""
    result = run("meta_state_sync", tmp_path, config).result
    as_of = config.get("as_of", "2018-12-31")
    rows, vix_rows = window_of("sp500", config), window_of("vix", config)
    returns, vix = returns_of(numbers(rows, "close")), numbers(vix_rows, "close")
    realised = statistics.stdev(returns) * 100 * math.sqrt(252)
    implied = statistics.mean(vix)
    history = [float(row["close"]) for row in rows_of("vix") if row["date"] <= as_of]
    rank = sum(value <= implied for value in history) / len(history)
    gap = math.log(realised / implied) * math.sqrt(2 * (len(returns) - 1))
    end, hours = date.fromisoformat(as_of), config.get("default_window_hours", 960)
    weekdays = sum(
        (end - timedelta(days)).weekday() < 5 for days in range(400) if days * 24 < hours
    )
    expected = {
        "completeness": 1.0,
        "correlation": statistics.correlation(returns, returns_of(vix)),
        "coverage": len(rows) / weekdays,
        "doubts": 0,
        "drift_t": drift_of(returns),
        "implied_rank": rank,
        "implied_volatility": implied,
        "realised_volatility": realised,
        "rows": len(rows),
        "sp500_lag_weekdays": 0,
        "vix_lag_weekdays": 0,
        "volatility_gap": gap,
        "volatility_ratio": realised / implied,
    }
    assert result["metrics"] == pytest.approx(expected, abs=6e-5, rel=0)
    state = result["meta_state"]
    drift = expected["drift_t"]
    trend = "FLAT" if abs(drift) < 1 else ("RISING" if drift > 0 else "FALLING")
    stress = "CALM" if rank < 1 / 3 else ("STRESSED" if rank > 2 / 3 else "NORMAL")
    above = "REALISED_ABOVE_IMPLIED" if gap > 0 else "REALISED_BELOW_IMPLIED"
    assert (state["trend"], state["stress"]) == (trend, stress)
    assert state["regime"] == f"{trend}_{stress}"
    assert state["agreement"] == ("AGREE" if abs(gap) <= 2 else above)
    assert (state["state"], state["doubts"]) == ("IN_SYNC", [])


@pytest.mark.parametrize(
    ("step", "signal"), [(0.004, "BULLISH"), (-0.004, "BEARISH"), (0.0, "NEUTRAL")]
)
def test_a_planted_drift_is_called_by_its_direction(
    tmp_path: Path, step: float, signal: str
) -> None:
    """Prices that rise, fall or only swing give the signal that anybody would give."""
    days = [day for day, _ in closes_from("sp500")[:21]]
    swing = [0.002 if place % 2 else -0.002 for place in range(21)]
    closes = [1000 * math.exp(step * place + swing[place]) for place in range(21)]
    data = planted(tmp_path / "data", list(zip(days, closes, strict=True)), [])
    done = run("signal_inference_baseline", tmp_path, {"data_dir": str(data)})
    assert done.result["signal"] == signal


# The window.


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_window_changes_what_is_computed(tmp_path: Path, script: str) -> None:
    """A wider window has more rows and gives other numbers."""
    narrow = run(script, tmp_path / "narrow", {"default_window_hours": 960}).result
    wide = run(script, tmp_path / "wide", {"default_window_hours": 4800}).result
    assert (narrow["window_hours"], wide["window_hours"]) == (960, 4800)
    assert wide["rows"] > narrow["rows"]
    assert wide["first_day"] < narrow["first_day"]
    same = [name for name, value in narrow["metrics"].items() if value == wide["metrics"][name]]
    assert set(same) <= {
        "last_price",
        "min_price",
        "implied_volatility_last",
        "completeness",
        "doubts",
        "sp500_lag_weekdays",
        "vix_lag_weekdays",
    }


@pytest.mark.parametrize("script", SCRIPTS)
def test_no_row_after_as_of_is_looked_at(tmp_path: Path, script: str) -> None:
    """With the later rows cut off, everything but the digests of the files is the same."""
    whole = run(script, tmp_path / "whole", {"as_of": "2016-03-15"}).result
    data = tmp_path / "data"
    data.mkdir()
    for name in ("sp500", "vix"):
        lines = (DATA / f"{name}.csv").read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if line.startswith("date") or line[:10] <= "2016-03-15"]
        (data / f"{name}.csv").write_text("".join(kept), encoding="utf-8")
    cut = run(script, tmp_path / "cut", {"data_dir": str(data)}).result
    assert cut["as_of"] == "2016-03-15"
    assert cut.pop("inputs") != whole.pop("inputs")
    assert cut == whole


def test_the_default_window_has_enough_rows_at_every_day() -> None:
    """From 40 days after the first row on, 960 hours hold at least 20 rows, as promised 25."""
    days = [date.fromisoformat(row["date"]) for row in rows_of("sp500")]
    ends = [days[0] + timedelta(n) for n in range(40, (days[-1] - days[0]).days + 1)]
    fewest = min(sum(0 <= (end - day).days < 40 for day in days) for end in ends)
    assert fewest == 25


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize(
    ("config", "count"),
    [
        ({"default_window_hours": 48}, "1 rows"),
        ({"default_window_hours": 960, "min_rows": 26}, "25 rows"),
        ({"as_of": "2014-01-02"}, "0 rows"),
        ({"as_of": "2019-02-09"}, "0 rows"),
        ({"as_of": "0001-01-01"}, "0 rows"),
    ],
)
def test_too_few_rows_are_refused(
    tmp_path: Path, script: str, config: dict[str, Any], count: str
) -> None:
    """Status 1, a message that says what to change, and no result."""
    refused(run(script, tmp_path, config), 1, count, "min_rows", "default_window_hours")


@pytest.mark.parametrize("script", SCRIPTS)
def test_fewer_rows_are_accepted_when_the_configuration_says_so(
    tmp_path: Path, script: str
) -> None:
    """min_rows is the limit, not a constant in the code."""
    config = {"default_window_hours": 168, "min_rows": 4}
    done = run(script, tmp_path, config)
    assert (done.status, done.result["rows"]) == (0, 4)


# The contract.


@pytest.mark.parametrize("script", SCRIPTS)
def test_by_hand_the_result_is_printed_and_nothing_is_written(tmp_path: Path, script: str) -> None:
    """Without any environment the defaults hold; the JSON comes first, then the summary."""
    done = subprocess.run(
        [sys.executable, FUNCTIONS / f"{script}.py"],
        env={},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (done.returncode, done.stderr) == (0, "")
    result, end = json.JSONDecoder().raw_decode(done.stdout)
    assert result == run(script, tmp_path / "contract").result
    assert 3 <= len(done.stdout[end:].strip().splitlines()) <= 6
    assert [entry.name for entry in tmp_path.iterdir()] == ["contract"]


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_result_names_its_function_and_its_inputs(tmp_path: Path, script: str) -> None:
    """The result says who computed it, of which bytes, and its metrics are flat numbers."""
    done = run(script, tmp_path)
    result = done.result
    assert result["function"] == f"vision_{script}"
    assert result["agent_id"] == AGENTS[script]
    assert (result["as_of"], result["window_hours"]) == ("2018-12-31", 960)
    for name, digest in result["inputs"].items():
        assert digest == hashlib.sha256((DATA / name).read_bytes()).hexdigest()
    assert result["metrics"]
    for value in result["metrics"].values():
        assert type(value) in (int, float)
        assert math.isfinite(value)
    assert 3 <= len(done.stdout.splitlines()) <= 6


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_same_input_gives_the_same_bytes(tmp_path: Path, script: str) -> None:
    """Neither the run, the attempt, the time nor the folder shows in the result."""
    first = run(script, tmp_path / "first", {}, RUNWRIGHT_RUN_ID="a", RUNWRIGHT_ATTEMPT="1")
    second = run(
        script,
        tmp_path / "second",
        {},
        RUNWRIGHT_RUN_ID="b",
        RUNWRIGHT_ATTEMPT="2",
        RUNWRIGHT_SCHEDULED_AT="2025-11-23T14:30:00Z",
    )
    assert first.written is not None
    assert (first.written, first.stdout) == (second.written, second.stdout)


@pytest.mark.parametrize("script", SCRIPTS)
def test_keys_of_the_orchestrator_are_ignored(tmp_path: Path, script: str) -> None:
    """A whole task_config may be given as the configuration."""
    config = {"function_path": "x.py", "priority": 1, "timeout_s": 60, "as_of": None}
    assert run(script, tmp_path / "a", config).written == run(script, tmp_path / "b").written


BAD_VALUES = [
    ("default_window_hours", "960"),
    ("default_window_hours", True),
    ("default_window_hours", None),
    ("default_window_hours", [960]),
    ("default_window_hours", 0),
    ("default_window_hours", -24),
    ("default_window_hours", 1e300),
    ("default_window_hours", math.nan),
    ("default_window_hours", math.inf),
    ("min_rows", 20.0),
    ("min_rows", "20"),
    ("min_rows", False),
    ("min_rows", 2),
    ("as_of", 20181231),
    ("as_of", "20181231"),
    ("as_of", "2018-W52-1"),
    ("as_of", "31/12/2018"),
    ("as_of", "2018-02-30"),
    ("as_of", ""),
    ("data_dir", 7),
    ("data_dir", ""),
    ("data_dir", "a\0b"),
]


@pytest.mark.parametrize(("key", "value"), BAD_VALUES)
def test_a_wrong_value_is_named_with_status_two(tmp_path: Path, key: str, value: object) -> None:
    """The same in all three: the key and what it must be, and no result."""
    for script in SCRIPTS:
        refused(run(script, tmp_path / script, {key: value}), 2, f"vision_{script}: {key} must be")


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", "{}{}", "[" * 100_000, "9" * 5000])
def test_a_configuration_that_is_no_json_object_is_refused(tmp_path: Path, text: str) -> None:
    """Broken or nested JSON and other kinds of JSON end with status 2."""
    for script in SCRIPTS:
        refused(run(script, tmp_path / script, text), 2, "the configuration", "JSON")


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_configuration_that_is_missing_is_refused(tmp_path: Path, script: str) -> None:
    """A path that was given and cannot be read never means the defaults."""
    path = str(tmp_path / "absent.json")
    refused(run(script, tmp_path, RUNWRIGHT_CONFIG=path), 2, path, "No such file")


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_result_that_cannot_be_written_fails(tmp_path: Path, script: str) -> None:
    """Status 1, and nothing half-written beside a folder that stands in the way."""
    taken = tmp_path / "taken"
    taken.mkdir()
    for target in (tmp_path / "absent" / "result.json", taken):
        done = run(script, tmp_path / "run", RUNWRIGHT_RESULT=str(target))
        refused(done, 1, str(target), "cannot be written")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["run", "taken"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, ("cannot be read",)),
        (b"", ("must begin with",)),
        (b"\xff\xfe", ("cannot be read",)),
        (b"date,high,low\n", ("must begin with",)),
        (b"date,high,low,close\n", ("holds no rows",)),
        (b"date,high,low,close\n2018-12-28,3,1\n", (":2:", "3 positive values")),
        (b"date,high,low,close\n2018-12-28,3,1,0\n", (":2:", "3 positive values")),
        (b"date,high,low,close\n2018-12-28,3,1,nan\n", (":2:", "3 positive values")),
        (b"date,high,low,close\n2018-12-28,3,1,inf\n", (":2:", "3 positive values")),
        (b"date,high,low,close\n2018-12-28,3,1,.\n", (":2:", "could not convert")),
        (b"date,high,low,close\n12/28/2018,3,1,2\n", (":2:", "isoformat")),
        (
            b"date,high,low,close\n2018-12-28,3,1,2\n2018-12-28,3,1,2\n",
            (":3:", "does not follow"),
        ),
    ],
)
def test_wrong_data_are_refused_by_their_place(
    tmp_path: Path, content: bytes | None, words: tuple[str, ...]
) -> None:
    """A file that is absent, cut or damaged never gives a result."""
    data = tmp_path / "data"
    data.mkdir()
    shutil.copy(DATA / "vix.csv", data)
    if content is not None:
        (data / "sp500.csv").write_bytes(content)
    for script in SCRIPTS:
        done = run(script, tmp_path / script, {"data_dir": str(data)})
        refused(done, 1, "sp500.csv", *words)


def test_prices_that_do_not_vary_are_refused(tmp_path: Path) -> None:
    """Nothing can be measured where nothing moves, and no number is made up."""
    flat = [(day, 2500.0) for day, _ in closes_from("sp500")]
    data = planted(tmp_path / "data", flat, closes_from("vix"))
    for script in SCRIPTS:
        refused(run(script, tmp_path / script, {"data_dir": str(data)}), 1, "do not vary")


def test_no_noise_floor_where_most_returns_are_equal(tmp_path: Path) -> None:
    """One move among standing prices has a deviation but no median deviation."""
    days = [day for day, _ in closes_from("sp500")]
    one_move = [(day, 2500.0 if day < "2018-12-20" else 2400.0) for day in days]
    data = planted(tmp_path / "data", one_move, closes_from("vix"))
    refused(run("noise_floor_estimator", tmp_path, {"data_dir": str(data)}), 1, "no noise floor")


# The doubts of the meta state.


def test_a_series_that_stopped_is_a_doubt(tmp_path: Path) -> None:
    """Two weekdays without a VIX row: stale, incomplete and therefore degraded."""
    data = planted(tmp_path / "data", closes_from("sp500"), closes_from("vix")[:-2])
    done = run("meta_state_sync", tmp_path, {"data_dir": str(data)})
    assert done.result["meta_state"]["state"] == "DEGRADED"
    assert done.result["meta_state"]["doubts"] == [
        "vix has no row for 2 weekdays",
        "some days are in one series only",
    ]
    assert done.result["metrics"]["vix_lag_weekdays"] == 2
    assert done.result["metrics"]["completeness"] == pytest.approx(23 / 25)
    assert "doubts: vix has no row" in done.stdout


def test_one_holiday_is_no_doubt_and_two_weekdays_are(tmp_path: Path) -> None:
    """New Year's Day alone leaves the data fresh; the day after it does not."""
    fresh = run("meta_state_sync", tmp_path / "a", {"as_of": "2019-01-01"}).result
    stale = run("meta_state_sync", tmp_path / "b", {"as_of": "2019-01-02"}).result
    assert fresh["meta_state"]["state"] == "IN_SYNC"
    assert stale["meta_state"]["doubts"] == [
        "sp500 has no row for 2 weekdays",
        "vix has no row for 2 weekdays",
    ]


def test_a_window_that_begins_before_the_data_is_a_doubt(tmp_path: Path) -> None:
    """A window of a year over a few weeks of data says so."""
    config = {"as_of": "2014-02-28", "default_window_hours": 8760}
    doubts = run("meta_state_sync", tmp_path, config).result["meta_state"]["doubts"]
    assert doubts == ["the data do not fill the window"]


# The scripts as text.


def test_the_scripts_import_little_and_never_runwright() -> None:
    """Only light modules of the standard library: a start is most of what a run costs."""
    light = {"__future__", "contextlib", "datetime", "hashlib", "itertools", "json", "math"}
    for script in SCRIPTS:
        tree = ast.parse((FUNCTIONS / f"{script}.py").read_text(encoding="utf-8"))
        imported = {
            name
            for node in ast.walk(tree)
            for name in (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module]
                if isinstance(node, ast.ImportFrom)
                else []
            )
        }
        # The driver of a database that was granted is imported when there is one.
        assert imported <= light | {"os", "sys", "psycopg"}
        at_start = [node for node in tree.body if isinstance(node, ast.Import)]
        assert "psycopg" not in {alias.name for node in at_start for alias in node.names}


def test_what_the_scripts_have_in_common_is_the_same() -> None:
    """A function or class under one name is one text, so that no copy drifts."""
    seen: dict[str, str] = {}
    shared = set()
    for script in SCRIPTS:
        tree = ast.parse((FUNCTIONS / f"{script}.py").read_text(encoding="utf-8"))
        for node in tree.body:
            if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name == "main":
                continue
            text = ast.unparse(node)
            assert seen.setdefault(node.name, text) == text, f"{node.name} differs in {script}"
            shared.add(node.name)
    assert {"Refusal", "Settings", "Series", "publish", "read_settings"} <= shared


def test_the_cycle_names_the_three_functions_in_order(tmp_path: Path) -> None:
    """Each task of cycle.yaml is what its script says it is, and runs as configured."""
    cycle = YAML(typ="safe").load(MARKET / "cycle.yaml")
    assert (cycle["kind"], cycle["name"]) == ("cycles", "market")
    assert (cycle["orchestrator"], cycle["agent"]) == ("vision_ios_orchestrator", "LARS")
    assert cycle["schedule"] == {"interval_s": 3600}
    root = (MARKET / cycle["root"]).resolve()
    tasks = sorted(cycle["tasks"], key=lambda task: task["task_config"]["priority"])
    assert [task["task_name"] for task in tasks] == [f"vision_{script}" for script in SCRIPTS]
    for task in tasks:
        path = (root / task["task_config"]["function_path"]).resolve()
        assert path.is_relative_to(root)
        done = run(path.stem, tmp_path / path.stem, task["task_config"])
        assert done.result["function"] == task["task_name"]
        assert done.result["agent_id"] == task["agent_id"]
        assert done.result["window_hours"] == 960


# The data.


@pytest.mark.parametrize("name", ["sp500", "vix"])
def test_the_data_are_sorted_unique_and_positive(name: str) -> None:
    """Every row has a later day than the one before, a weekday, and positive prices."""
    rows = rows_of(name)
    days = [row["date"] for row in rows]
    assert days == sorted(set(days))
    assert (days[0], days[-1], len(days)) == ("2014-01-03", "2018-12-31", 1257)
    assert all(date.fromisoformat(day).weekday() < 5 for day in days)
    for row in rows:
        values = [float(value) for column, value in row.items() if column != "date"]
        assert all(0 < value < math.inf for value in values)
        if name == "sp500":
            assert float(row["low"]) <= float(row["close"]) <= float(row["high"])
    assert (DATA / f"{name}.csv").stat().st_size < 100 * 1024


def test_the_data_have_the_digests_that_are_written_down() -> None:
    """SHA256SUMS and the README both name the bytes that lie here."""
    readme = (DATA / "README.md").read_text(encoding="utf-8")
    sums = (DATA / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    named = {name: digest for digest, name in (line.split("  ") for line in sums)}
    assert set(named) == {"sp500.csv", "vix.csv"}
    for line in sums:
        assert line in readme
    for name, digest in named.items():
        assert hashlib.sha256((DATA / name).read_bytes()).hexdigest() == digest
    assert "Copyright (c) 2017 Kevin Sheppard" in (DATA / "LICENSE-arch.md").read_text("utf-8")


SOURCES = {
    "sp500": "Date,Open,High,Low,Close,Adj Close,Volume\n"
    "1/2/2014,1,9.50,1.5,2.25,2.25,10\n"
    "1/3/2014,1,9.10,1.6,2.350000,2.35,10\n"
    "1/6/2014,1,9.20,1.7,2.45,2.45,10\n",
    "vix": "Date,vix\n1/3/2014,13.76\n1/6/2014,13.55\n1/20/2014,.\n1/21/2014,12.87\n",
}
EXTRACTED = {
    "sp500.csv": "date,high,low,close\n2014-01-03,9.10,1.6,2.350000\n2014-01-06,9.20,1.7,2.45\n",
    "vix.csv": "date,close\n2014-01-03,13.76\n2014-01-06,13.55\n",
}


@pytest.mark.parametrize("kind", ["wheel", "folder"])
def test_the_extract_keeps_the_text_of_the_source(tmp_path: Path, kind: str) -> None:
    """A wheel and an installed folder give the same bytes: shared days, ISO dates, no gaps."""
    source, out = tmp_path / "arch", tmp_path / "out"
    for name, text in SOURCES.items():
        member = source / "data" / name / f"{name}.csv.gz"
        member.parent.mkdir(parents=True)
        member.write_bytes(gzip.compress(text.encode()))
    if kind == "wheel":
        with zipfile.ZipFile(tmp_path / "arch.whl", "w") as wheel:
            for path in source.rglob("*.gz"):
                wheel.write(path, path.relative_to(tmp_path))
        source = tmp_path / "arch.whl"
    assert extract(source, "--out", out).returncode == 0
    for name, text in EXTRACTED.items():
        assert (out / name).read_bytes() == text.encode()
        digest = hashlib.sha256(text.encode()).hexdigest()
        assert f"{digest}  {name}\n" in (out / "SHA256SUMS").read_text()
    assert extract(source, "--check", "--out", out).returncode == 0
    (out / "vix.csv").write_bytes(b"date,close\n")
    done = extract(source, "--check", "--out", out)
    assert (done.returncode, "vix.csv differs" in done.stderr) == (1, True)
    assert (out / "vix.csv").read_bytes() == b"date,close\n"


def test_the_extract_of_something_else_is_refused(tmp_path: Path) -> None:
    """A file that is no wheel, a wheel without the data, and nothing at all."""
    (tmp_path / "text.whl").write_text("no archive")
    with zipfile.ZipFile(tmp_path / "other.whl", "w") as wheel:
        wheel.writestr("other/__init__.py", "")
    for name in ("text.whl", "other.whl", "absent.whl"):
        done = extract(tmp_path / name, "--out", tmp_path / "out")
        assert done.returncode == 1
        assert done.stderr.startswith(f"extract: {tmp_path / name}: ")
        assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def extract(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the script that made the data."""
    command = [sys.executable, str(DATA / "extract.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=30)
