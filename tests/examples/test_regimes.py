"""The regimes example: its data, the events made of them, and the stream that they go through.

What `events.py` computes is computed here a second time, from the text of the CSV files.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import importlib.util
import json
import shutil
import sqlite3
import statistics
import subprocess
import sys
from collections import Counter
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from runwright.kernel.canonical import encode
from runwright.streams.contracts import read_event
from runwright.streams.engine import EngineRequest, execute
from tests.e2e.project import Project

REGIMES = Path(__file__).resolve().parents[2] / "examples" / "regimes"
DATA = REGIMES / "data"
DAY_MS = 86_400_000
HYSTERESIS = "runwright.streams.engines.hysteresis:engine"
#: The days of the streams that run here: the summer in which volatility returned.
FIRST, LAST = "2015-08-03", "2015-09-11"
SYMBOLS = ("IXIC", "SPX", "VIX")


def loaded(name: str) -> ModuleType:
    """Return a script of the example as a module."""
    found = importlib.util.spec_from_file_location(f"regimes_{name}", REGIMES / f"{name}.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules[found.name] = module
    found.loader.exec_module(module)
    return module


def made(folder: Path, *words: str) -> list[dict[str, Any]]:
    """Return the events that the script writes."""
    command = [sys.executable, str(REGIMES / "events.py"), "--out", str(folder / "e"), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    events = [json.loads(line) for line in (folder / "e").read_text().splitlines()]
    assert done.stdout == f"{len(events)} events of IXIC, SPX, VIX: {folder / 'e'}\n"
    return events


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """All five years."""
    return made(tmp_path_factory.mktemp("events"))


def day_of(event: dict[str, Any]) -> str:
    """Return the day that an event was received on."""
    return (date(1970, 1, 1) + timedelta(days=event["recv_ts_ms"] // DAY_MS)).isoformat()


def rows_of(name: str) -> list[dict[str, str]]:
    with (DATA / name).open(newline="") as file:
        return list(csv.DictReader(file))


# The data.


def test_the_data_have_the_digests_that_are_written_down() -> None:
    """SHA256SUMS and the README both name the bytes that lie here; they are few."""
    readme = (DATA / "README.md").read_text(encoding="utf-8")
    lines = (DATA / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    assert {line.split("  ")[1] for line in lines} == {"spx.csv", "ixic.csv", "vix.csv"}
    for line in lines:
        digest, name = line.split("  ")
        assert hashlib.sha256((DATA / name).read_bytes()).hexdigest() == digest
        assert line in readme
    assert sum(file.stat().st_size for file in DATA.iterdir()) < 300 * 1024
    assert "Copyright (c) 2017 Kevin Sheppard" in (DATA / "LICENSE-arch.md").read_text("utf-8")


def test_the_data_agree_with_those_of_the_market_example() -> None:
    """Both were cut out of one source: highs, lows and closes are the same text."""
    ours = {row["date"]: row for row in rows_of("spx.csv")}
    with (REGIMES.parent / "market" / "data" / "sp500.csv").open(newline="") as file:
        theirs = list(csv.DictReader(file))
    assert len(theirs) == 1257
    for row in theirs:
        assert {name: ours[row["date"]][name] for name in row} == row


def test_the_extract_keeps_the_text_of_the_source(tmp_path: Path) -> None:
    """ISO dates, the years that are wanted, no gaps; --check compares and writes nothing."""
    bars = (
        "Date,Open,High,Low,Close,Adj Close,Volume\n"
        "12/31/2012,1,1,1,1,1,1\n1/2/2013,1,9.50,1.5,2.250000,2.25,10\n"
    )
    sources = {"sp500": bars, "nasdaq": bars, "vix": "Date,vix\n1/3/2014,13.76\n1/20/2014,.\n"}
    for name, text in sources.items():
        member = tmp_path / "arch" / "data" / name / f"{name}.csv.gz"
        member.parent.mkdir(parents=True)
        member.write_bytes(gzip.compress(text.encode()))
    out = tmp_path / "out"
    assert extract(tmp_path / "arch", "--out", out).returncode == 0
    kept = "date,open,high,low,close,volume\n2013-01-02,1,9.50,1.5,2.250000,10\n"
    assert (out / "spx.csv").read_text() == (out / "ixic.csv").read_text() == kept
    assert (out / "vix.csv").read_text() == "date,close\n2014-01-03,13.76\n"
    assert extract(tmp_path / "arch", "--check", "--out", out).returncode == 0
    (out / "vix.csv").write_text("date,close\n")
    done = extract(tmp_path / "arch", "--check", "--out", out)
    assert (done.returncode, "vix.csv differs" in done.stderr) == (1, True)


def extract(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(DATA / "extract.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=30)


# The events.


@pytest.mark.slow
def test_every_event_is_one_of_version_1(events: list[dict[str, Any]]) -> None:
    """Two of each symbol and trading day, in the order of receipt."""
    for event in events:
        read_event(encode_event(event))
    assert Counter(event["event_type"] for event in events) == {
        "Candle": 2 * 1257,
        "IndexPrice": 1257,
        "SnapshotInputs": 3 * 1257,
    }
    stamps = [event["recv_ts_ms"] for event in events]
    assert stamps == sorted(stamps)
    assert (day_of(events[0]), day_of(events[-1])) == ("2014-01-03", "2018-12-31")
    assert {event["symbol"] for event in events} == set(SYMBOLS)
    assert {event["exchange_ts_ms"] for event in events} == {None}


def encode_event(event: dict[str, Any]) -> bytes:
    return json.dumps(event).encode()


@pytest.mark.slow
def test_the_same_rows_give_the_same_bytes(events: list[dict[str, Any]], tmp_path: Path) -> None:
    """A part of the days is that part of the events."""
    part = made(tmp_path, "--first", FIRST, "--last", LAST)
    assert part == [event for event in events if FIRST <= day_of(event) <= LAST]


@pytest.mark.slow
def test_a_snapshot_holds_what_its_rows_give(events: list[dict[str, Any]]) -> None:
    """For the day on which prices fell, computed a second time from the text."""
    rows = rows_of("spx.csv")
    at = next(place for place, row in enumerate(rows) if row["date"] == "2015-08-24")
    closes = [float(row["close"]) for row in rows]
    highs = [max(float(row["high"]), closes[place - 1]) for place, row in enumerate(rows)]
    lows = [min(float(row["low"]), closes[place - 1]) for place, row in enumerate(rows)]
    ranges = [high - low for high, low in zip(highs, lows, strict=True)]
    atr = [statistics.mean(ranges[place - 13 : place + 1]) for place in range(at - 120, at + 1)]
    shares = [mean / closes[at - 120 + place] for place, mean in enumerate(atr)]
    (given,) = snapshots(events, "SPX", "2015-08-24")
    assert given["normalized"]["timestamp_ms"] == 1_440_460_800_000
    market = given["normalized"]["market"]
    assert market["price"] == closes[at] == 1893.209961
    assert market["atr"] == pytest.approx(atr[-1], abs=1e-5)
    z = (shares[-1] - statistics.mean(shares[:-1])) / statistics.stdev(shares[:-1])
    assert market["atr_z"] == pytest.approx(z, abs=1e-4)
    assert market["atr_z"] > 6
    assert market["range_expansion"] == pytest.approx(ranges[at] / atr[-2], abs=1e-5)
    last = rows[at - 19 : at + 1]
    weights = [float(row["volume"]) for row in last]
    typical = [(float(row["high"]) + float(row["low"]) + float(row["close"])) / 3 for row in last]
    assert market["vwap"] == pytest.approx(statistics.fmean(typical, weights), abs=1e-5)
    levels = market["structure_levels"]
    assert levels["mean_20"] == pytest.approx(statistics.mean(closes[at - 19 : at + 1]), abs=1e-5)
    assert levels["high_20"] == max(closes[at - 19 : at + 1])
    assert levels["low_20"] == min(closes[at - 19 : at + 1]) == closes[at]
    assert given["raw_payload"] == ",".join(rows[at].values())


def snapshots(events: list[dict[str, Any]], symbol: str, day: str = "") -> list[dict[str, Any]]:
    return [
        event
        for event in events
        if event["event_type"] == "SnapshotInputs"
        and event["symbol"] == symbol
        and day in ("", day_of(event))
    ]


@pytest.mark.slow
def test_what_the_rows_do_not_say_is_left_out(events: list[dict[str, Any]]) -> None:
    """The VIX begins with the events and has no volumes; the README says how much it needs."""
    found = [event["normalized"]["market"] for event in snapshots(events, "VIX")]
    first = {
        name: next(number for number, market in enumerate(found, 1) if name in market)
        for name in {name for market in found for name in market}
    }
    assert first == {
        "price": 1,
        "atr": 15,
        "range_expansion": 16,
        "structure_levels": 20,
        "atr_z": 135,
    }
    whole = {"price", "vwap", "atr", "atr_z", "range_expansion", "structure_levels"}
    # The source has no volume for two days of one index; twenty rows need each of them.
    unknown = {"2015-05-12", "2018-01-09"}
    assert {row["date"] for row in rows_of("ixic.csv") if row["volume"] == "0"} == unknown
    for symbol, lacking in (("SPX", 0), ("IXIC", 40)):
        markets = [event["normalized"]["market"] for event in snapshots(events, symbol)]
        assert sum(set(market) == whole - {"vwap"} for market in markets) == lacking
        assert sum(set(market) == whole for market in markets) == 1257 - lacking
    assert not any(None in market.values() for market in found)


def test_data_that_are_not_there_are_refused(tmp_path: Path) -> None:
    """By the name of the file, and nothing is written."""
    shutil.copy(REGIMES / "events.py", tmp_path)
    command = [sys.executable, str(tmp_path / "events.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert "ixic.csv" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "events.jsonl").exists()


# What the engines say of five years, without a stream.


@pytest.mark.slow
def test_five_years_have_the_regimes_that_the_readme_says(events: list[dict[str, Any]]) -> None:
    """The engine run on each snapshot in order, as the stream does; weekends have none."""
    config = encode({"level": "mean_20", "hysteresis": {"update_interval_ms": 4 * DAY_MS}})
    config = config[:-1] + b',"expanding":1.0}'
    flips, changes, completed, failed = Counter[str](), Counter[str](), 0, Counter[str]()
    regimes: dict[str, list[str]] = {symbol: [] for symbol in SYMBOLS}
    for symbol in SYMBOLS:
        state, state_ms, seen = "", None, ""
        for event in snapshots(events, symbol):
            at_ms = event["normalized"]["timestamp_ms"]
            request = EngineRequest(
                engine=HYSTERESIS,
                mode="hysteresis",
                symbol=symbol,
                engine_timestamp_ms=at_ms,
                events=(encode_event(event),),
                alignment_ms=DAY_MS,
                config=config.decode(),
                state=state,
                state_timestamp_ms=state_ms,
            )
            result = execute(request)
            if result.is_failed:
                failed[symbol, result.error_detail] += 1  # type: ignore[index]
                continue
            completed, state, state_ms = completed + 1, result.state, at_ms
            decision = json.loads(result.decision)
            stands, change = decision["selected_output"]["regime"], decision["transition"]
            now = change["candidate_regime"] if change["transition_active"] else stands
            flips[symbol] += change["flipped"]
            changes[symbol] += bool(seen) and seen != now
            seen = now
            regimes[symbol].append(stands)
    assert failed == {("VIX", "ExplainabilityValidationError"): 134}
    assert (completed, flips) == (3637, {"SPX": 70, "IXIC": 62, "VIX": 53})
    assert changes == {"SPX": 225, "IXIC": 211, "VIX": 159}
    ends = {symbol: (found[0], found[-1]) for symbol, found in regimes.items()}
    assert ends == {
        "SPX": ("CHOP_BALANCED", "TREND_BUILD_DOWN"),
        "IXIC": ("CHOP_BALANCED", "TREND_BUILD_DOWN"),
        "VIX": ("CHOP_BALANCED", "CHOP_BALANCED"),
    }
    ticks = (date(2019, 1, 1) - date(2014, 1, 4)).days + 1
    readme = " ".join((REGIMES / "README.md").read_text(encoding="utf-8").split())
    assert f"{ticks} ticks and {3 * ticks} runs, {completed} of them completed" in readme
    assert f"regime {flips['SPX']} times, and {changes['SPX']} times without" in readme


# The stream.


class Streamed:
    """A project in which the stream ran over some weeks."""

    def __init__(self, project: Project) -> None:
        """Write the example and its events into a project."""
        self.project = project
        ignored = shutil.ignore_patterns("__pycache__", "events.jsonl")
        shutil.copytree(REGIMES, project.folder / "regimes", ignore=ignored)
        made(project.folder / "regimes", "--first", FIRST, "--last", LAST)
        shutil.move(project.folder / "regimes" / "e", project.folder / "regimes" / "events.jsonl")

    def run(self, spec: str = "regimes", hash_seed: str = "0", **changes: str) -> dict[str, Any]:
        """Run a spec of the example with some lines of it replaced; return the summary."""
        file = self.project.folder / "regimes" / f"{spec}.yaml"
        text = file.read_text()
        for old, new in changes.items():
            text = text.replace(f"{old}:", new, 1)
        file.write_text(text)
        self.project.done("apply", file)
        env = {"PYTHONHASHSEED": hash_seed}
        name = {"raw": "regimes-raw"}.get(spec, spec)
        found: dict[str, Any] = self.project.done(
            "streams", "run", name, "--json", env=env, within_s=60
        ).json
        return found

    def published(self, name: str = "regimes") -> bytes:
        """Return what consumers read."""
        words = ("streams", "tail", name, "--from-start", "--no-follow")
        return self.project.done(*words).stdout.encode()


@pytest.fixture(scope="module")
def streamed(initialised: Project, tmp_path_factory: pytest.TempPathFactory) -> Streamed:
    """The stream as its spec says it."""
    found = Streamed(initialised.copy_to(tmp_path_factory.mktemp("regimes")))
    assert found.run() == {
        "name": "regimes",
        "records": 29 * 6,
        "ticks": 40,
        "completed": 29 * 3,
        "failed": 11 * 3,
        "unread": 0,
        "waiting": 0,
    }
    return found


def by_day(published: bytes, symbol: str) -> dict[str, dict[str, Any]]:
    """Return the last event of each day of one symbol."""
    found = {}
    for event in map(json.loads, published.splitlines()):
        if event["symbol"] == symbol:
            day = date(1970, 1, 1) + timedelta(days=event["engine_timestamp_ms"] // DAY_MS - 1)
            found[day.isoformat()] = event
    return found


@pytest.mark.slow
def test_the_stream_names_the_regime_of_every_day(streamed: Streamed) -> None:
    """From the first day to the last, weekends and Labor Day among them."""
    found = by_day(streamed.published(), "SPX")
    assert len(found) == 40
    assert (min(found), max(found)) == (FIRST, LAST)
    regimes = {
        day: event["payload"]["regime_output"]["regime"]
        for day, event in found.items()
        if event["event_type"] == "EngineRunCompleted"
    }
    closed = {day: event for day, event in found.items() if day not in regimes}
    weekdays = {day for day in closed if date.fromisoformat(day).weekday() < 5}
    assert weekdays == {"2015-09-07"}
    assert {event["payload"]["error_kind"] for event in closed.values()} == {
        "missing_snapshot_inputs"
    }
    first = {
        regime: min(day for day in regimes if regimes[day] == regime)
        for regime in set(regimes.values())
    }
    assert first == {
        "CHOP_BALANCED": "2015-08-03",
        "TREND_BUILD_DOWN": "2015-08-24",
        "CHOP_STOPHUNT": "2015-09-04",
    }
    numbers = [
        json.loads(line)["publish_seq"]
        for line in streamed.published().splitlines()
        if json.loads(line)["symbol"] == "SPX"
    ]
    assert numbers == list(range(1, len(numbers) + 1))


@pytest.mark.slow
def test_the_stream_comes_out_the_same_from_its_log(streamed: Streamed) -> None:
    """Replayed, planned again, verified."""
    project = streamed.project
    replayed = project.done("replay", "regimes", "--json").json
    assert (replayed["ticks"], replayed["executed"], replayed["different"]) == (40, 120, 0)
    assert replayed["other_code"] == 0
    planned = project.done("streams", "plan", "regimes", "--from-log", "--json").json
    assert (planned["ticks"], planned["runs"], planned["different"]) == (40, 120, 0)
    assert project.done("verify", "--store", "--json").json["held"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("hash_seed", "isolation", "max_symbols"), [("1", "inline", 1), ("4242", "process", 8)]
)
def test_the_digest_depends_on_neither_hash_seed_nor_concurrency(
    streamed: Streamed,
    initialised: Project,
    tmp_path: Path,
    hash_seed: str,
    isolation: str,
    max_symbols: int,
) -> None:
    """Another run, one symbol at a time or eight, inline or apart: the same bytes and digest."""
    other = Streamed(initialised.copy_to(tmp_path))
    other.run(
        hash_seed=hash_seed,
        engine_retry=f"concurrency: {{max_symbols: {max_symbols}}}\nengine_retry:",
        engine_mode=f"isolation: {isolation}\n  engine_mode:",
    )
    assert other.published() == streamed.published()
    digests = {
        each.project.done("replay", "regimes", "--json").json["digest"]
        for each in (streamed, other)
    }
    assert len(digests) == 1


@pytest.mark.slow
def test_without_hysteresis_the_regime_changes_more_often(
    streamed: Streamed, initialised: Project, tmp_path: Path
) -> None:
    """raw.yaml: the same events, and what the engine sees each day."""
    other = Streamed(initialised.copy_to(tmp_path))
    other.run("raw")
    counts = []
    for published in (streamed.published(), other.published("regimes-raw")):
        outputs = [
            event["payload"]["regime_output"]["regime"]
            for event in by_day(published, "IXIC").values()
            if event["event_type"] == "EngineRunCompleted"
        ]
        counts.append(sum(one != two for one, two in pairwise(outputs)))
    assert counts[0] < counts[1]
    assert other.project.done("replay", "regimes-raw", "--json").json["different"] == 0


@pytest.mark.slow
def test_one_byte_of_a_published_event_is_named(streamed: Streamed, tmp_path: Path) -> None:
    """By replay with symbol, run, place and both values; by verify with the entry."""
    project = streamed.project.copy_to(tmp_path)
    name = f"regimes/{1_440_460_800_000}"
    with sqlite3.connect(project.store) as store:
        ((seq, body),) = store.execute("SELECT seq, body FROM paper WHERE name = ?", (name,))
        changed = body.replace(b'"confidence":1.0', b'"confidence":0.0', 1)
        assert changed != body
        store.execute("UPDATE paper SET body = ? WHERE name = ?", (changed, name))
    store.close()
    replayed = project.done("replay", "regimes", "--json", status=6).json
    (found,) = replayed["differences"]
    assert (found["symbol"], found["engine_timestamp_ms"]) == ("IXIC", 1_440_460_800_000)
    assert found["path"] == "payload.hysteresis_decision.selected_output.confidence"
    assert (found["published"], found["replayed"]) == (0.0, 1.0)
    report = project.done("verify", "--store", "--json", status=6).json
    assert report["first_bad"] == seq
    assert [each["word"] for each in report["checks"] if not each["held"]] == ["papers"]


@pytest.mark.slow
def test_a_paper_that_is_gone_is_missed_once(streamed: Streamed, tmp_path: Path) -> None:
    """The ticks after it keep theirs."""
    project = streamed.project.copy_to(tmp_path)
    project.sql("DELETE FROM paper WHERE name = ?", f"regimes/{1_440_460_800_000}")
    replayed = project.done("replay", "regimes", "--json", status=6).json
    assert replayed["different"] == 3
    assert {each["symbol"] for each in replayed["differences"]} == set(SYMBOLS)
    assert project.done("verify", "--store", "--json", status=6).json["first_bad"] is not None


@pytest.mark.slow
def test_the_demo_runs_to_its_end(tmp_path: Path, initialised: Project) -> None:
    """On the same weeks: each command as it expects, the table, the charts, the tampered byte."""
    project = initialised.copy_to(tmp_path)
    command = [sys.executable, str(REGIMES / "demo.py"), "--first", FIRST, "--last", LAST]
    env = {**project.environment, "NO_COLOR": "1"}
    done = subprocess.run(
        command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    table = {line[:29].strip(): line[29:].split() for line in lines if line[29:].strip()}
    assert table["D TREND_BUILD_DOWN"] == ["17", "9", "0"]
    assert table["regime changes"] == ["2", "2", "2"]
    assert table["without hysteresis"] == ["9", "8", "4"]
    assert "SPX, 2015-08-03 to 2015-09-11, 1 trading days a column" in lines
    assert "40 ticks, 120 runs derived again from 174 records: 0 differences" in lines
    assert any(line.startswith("VERIFIED  ") for line in lines)
    assert "1 run differs" in lines
    assert any(line.startswith("NOT VERIFIED  ") for line in lines)


def test_the_drawing_says_from_when_to_when_a_regime_stood() -> None:
    """Stretches of equal days, to the day before the next or to the end of the last one."""
    demo = loaded("demo")
    days = [
        demo.Day(date(2015, 1, day), float(day), regime, regime, flipped=False)
        for day, regime in ((1, "A"), (2, "A"), (5, "B"))
    ]
    assert list(demo.spans(days)) == [
        {"first": "2015-01-01", "last": "2015-01-05", "regime": "A"},
        {"first": "2015-01-05", "last": "2015-01-06", "regime": "B"},
    ]
    assert [len(each) for each in demo.split(days, 2)] == [1, 2]
