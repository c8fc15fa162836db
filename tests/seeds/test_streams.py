"""What streams-003 demands of a running stream (phases 1 to 7), each with the command that answers.

Most of it is asked of one stream: the regimes example over some weeks, with hysteresis. A second
one has an engine of its own beside the spec, which raises for one of its symbols.
"""

from __future__ import annotations

import hashlib
import json
import resource
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from runwright.kernel.drive.health import Health
from runwright.kernel.errors import RunwrightError
from runwright.streams.cuts import grid_of
from runwright.streams.spec import StreamSpec, delays_ms
from tests.e2e.project import Done, Project, Running, until
from tests.streams.test_soundness import changed

pytestmark = pytest.mark.slow

REGIMES = Path(__file__).resolve().parents[2] / "examples" / "regimes"
SYMBOLS = ("IXIC", "SPX", "VIX")
DAY_MS = 86_400_000
FIRST_MS = 1_767_225_600_000
#: An engine, a source, and the events of a file, beside the spec.
TICKS = f"""
import os


def engine(given):
    if given.symbol == "BAD":
        raise RuntimeError(given.engine_timestamp_ms)
    return {{"events": len(given.events)}}


def events(skip):
    return iter([event(number, "OK", "python") for number in range(3)][skip:])


def away(skip):
    if not os.path.exists("there"):
        raise ConnectionError("nobody there")
    return events(skip)


def event(number, symbol, source):
    return {{
        "schema": "raw_market_event", "schema_version": "1", "event_type": "TradeTick",
        "source_id": source, "symbol": symbol, "exchange_ts_ms": None,
        "recv_ts_ms": {FIRST_MS} + number * 10_000, "raw_payload": "\\u00fc\\u0000",
        "normalized": {{"price": 1.0, "quantity": 1, "side": None}}, "later": {{"n": 2**60}},
    }}
"""
SPEC: Mapping[str, Any] = {
    "kind": "streams",
    "name": "ticks",
    "sources": [
        {"source_id": "file", "symbols": ["OK", "BAD"], "file": {"path": "e", "format": "jsonl"}},
        {"source_id": "python", "symbols": ["OK"], "python": {"ref": "ticks:events"}},
    ],
    "scheduler": {"mode": "boundary", "boundary_interval_ms": 60_000, "time": "events"},
    "engine": {"ref": "ticks:engine", "alignment_ms": 60_000, "input": "events"},
    "engine_retry": {"min_delay_ms": 1, "max_delay_ms": 2, "max_attempts": 4},
}


class Stream(NamedTuple):
    """A stream that ran."""

    project: Project
    name: str
    ran: Done

    def show(self, what: str, *words: str) -> list[dict[str, Any]]:
        """Return the rows of one of the frozen contracts."""
        words = ("streams", "show", self.name, f"--{what}", "--limit", "100000", *words)
        return [json.loads(line) for line in self.project.done(*words).stdout.splitlines()]

    def published(self) -> list[dict[str, Any]]:
        """Return what a consumer reads."""
        words = ("streams", "tail", self.name, "--from-start", "--no-follow")
        return [json.loads(line) for line in self.project.done(*words).stdout.splitlines()]

    def health(self, status: int) -> Any:
        return self.project.done("streams", "health", self.name, "--json", status=status).json


@pytest.fixture(scope="module")
def regimes(initialised: Project, tmp_path_factory: pytest.TempPathFactory) -> Stream:
    """Six weeks of three symbols, with hysteresis."""
    project = initialised.copy_to(tmp_path_factory.mktemp("regimes"))
    ignored = shutil.ignore_patterns("__pycache__", "events.jsonl")
    shutil.copytree(REGIMES, project.folder / "regimes", ignore=ignored)
    script = str(project.folder / "regimes" / "events.py")
    words = [sys.executable, script, "--first", "2015-08-03", "--last", "2015-09-11"]
    subprocess.run(words, check=True, capture_output=True, timeout=60)
    project.done("apply", "regimes/regimes.yaml")
    return Stream(project, "regimes", project.done("streams", "run", "regimes"))


def prepared(project: Project, **changes: Any) -> str:
    """Write and apply a spec with its engine, source and events; return its name."""
    project.write("ticks.py", TICKS)
    events: dict[str, Any] = {}
    exec(TICKS, events)
    lines = [
        json.dumps(events["event"](number, ("OK", "BAD")[number % 2], "file"))
        for number in range(30)
    ]
    project.write("e", "\n".join(lines) + "\n")
    spec = {**SPEC, **changes}
    project.done("apply", project.write("ticks.yaml", json.dumps(spec)))
    return str(spec["name"])


@pytest.fixture(scope="module")
def ticks(initialised: Project, tmp_path_factory: pytest.TempPathFactory) -> Stream:
    """Five minutes of two symbols, of which one always fails, with messages for who debugs."""
    project = initialised.copy_to(tmp_path_factory.mktemp("ticks"))
    name = prepared(project)
    env = {"RUNWRIGHT_MESSAGES_LEVEL": "debug"}
    return Stream(project, name, project.done("streams", "run", name, env=env))


@pytest.fixture
def running(project: Project) -> Iterator[Project]:
    """A project of the test's own, in which streams stay under way."""
    yield project
    project.close()


def wait_state(stream: Stream, process: Running, **wanted: Any) -> Any:
    """Wait until a stream that runs says this of itself."""

    def found() -> Any:
        assert process.process.poll() is None, process.so_far()
        words = ("streams", "health", stream.name, "--json")
        told = stream.project.run(*words).json
        return told if wanted.items() <= told.items() else None

    return until(found, f"{wanted} of {stream.name}")


# ------------------------------------------------------------------ phase 1: intake and buffer


@pytest.mark.seed("streams-003/intake-subscription")
def test_a_stream_takes_in_market_events_of_its_sources(ticks: Stream) -> None:
    """Here of a file and of an iterator; the kinds of sources are those of the spec."""
    found = Counter(row["event"]["source_id"] for row in ticks.show("inputs"))
    assert found == {"file": 30, "python": 3}
    assert {"file", "stdin", "nats", "python"} <= set(
        msgspec.json.schema(StreamSpec)["$defs"]["Source"]["properties"]
    )


@pytest.mark.seed("streams-003/buffer-ingest-seq")
def test_ingest_seq_is_strictly_increasing(regimes: Stream, ticks: Stream) -> None:
    """From 1 without a gap, across sources and blocks; stamps never go back."""
    for stream, count in ((regimes, 174), (ticks, 33)):
        rows = stream.show("inputs")
        assert [row["ingest_seq"] for row in rows] == list(range(1, count + 1))
        stamps = [row["ingest_ts_ms"] for row in rows]
        assert stamps == sorted(stamps)


@pytest.mark.seed("streams-003/buffer-unchanged")
def test_an_event_is_kept_as_it_arrived(ticks: Stream) -> None:
    """Byte for byte, with fields and numbers that version 1 does not know."""
    lines = (ticks.project.folder / "e").read_bytes().splitlines()
    words = ("streams", "show", ticks.name, "--inputs", "--limit", "100")
    shown = ticks.project.done(*words).stdout.encode().splitlines()
    kept = [line for line in shown if b'"source_id": "file"' in line]
    assert len(kept) == len(lines) == 30
    for line, row in zip(lines, kept, strict=True):
        assert b'"event":' + line + b',"event_sha256":' in row
        assert json.loads(row)["event_sha256"] == hashlib.sha256(line).hexdigest()
    assert b'"later": {"n": 1152921504606846976}' in kept[0]


@pytest.mark.seed("streams-003/buffer-backpressure", "streams-003/backpressure-buffer")
def test_a_full_buffer_stops_intake_and_drops_nothing(running: Project) -> None:
    """It says so and is not ready; with more room the rest comes in."""
    live = {"name": "full", "scheduler": {**SPEC["scheduler"], "time": "clock"}}
    name = prepared(running, **live, buffer_retention={"max_records": 10})
    process = running.start("streams", "run", name)
    stream = Stream(running, name, process.so_far())
    told = wait_state(stream, process, ingestion_paused=True)
    assert (told["ready"], told["domains"]["buffer"]) == (False, "the buffer is full")
    assert stream.health(3)["ingestion_paused"]
    process.send(signal.SIGTERM)
    assert process.end().status == 0
    assert len(stream.show("inputs")) == 10
    prepared(running, **live)
    process = running.start("streams", "run", name)
    until(lambda: len(stream.show("inputs")) == 33, "the rest")
    process.send(signal.SIGTERM)
    assert process.end().status == 0


@pytest.mark.seed("streams-003/buffer-read-apis")
def test_the_buffer_is_read_by_range_and_by_symbol(regimes: Stream) -> None:
    """The newest records of one symbol; a run's cut names the first and the last of its own."""
    newest = regimes.show("inputs", "--symbol", "VIX")[-2:]
    assert [row["event"]["symbol"] for row in newest] == ["VIX", "VIX"]
    assert [row["ingest_seq"] for row in newest] == [173, 174]
    assert len(regimes.show("inputs", "--symbol", "SPX")) == 58


# --------------------------------------------------------------- phase 2: lifecycle and schedule


@pytest.mark.seed("streams-003/lifecycle-states")
def test_a_stream_goes_through_its_states(running: Project) -> None:
    """Init, running, stopped, each as `streams health` says it; others are not allowed."""
    changes = {"scheduler": {**SPEC["scheduler"], "time": "clock"}, "name": "live"}
    name = prepared(running, **changes)
    stream = Stream(running, name, running.run("version"))
    assert stream.health(7)["state"] == "init"
    process = running.start("streams", "run", name)
    assert wait_state(stream, process, state="running")["ready"]
    assert stream.health(0)["alive"]
    process.send(signal.SIGTERM)
    assert process.end().status == 0
    assert stream.health(7)["state"] == "stopped"
    health, states = Health(), []
    for act in ("start", "degrade", "recover", "drain", "start", "drain", "stop", "stop"):
        health.change(act)
        states.append(health.state)
    assert set(states) == {"running", "degraded", "drained", "stopped"}
    with pytest.raises(RunwrightError):
        health.change("start")


@pytest.mark.seed("streams-003/scheduler-modes")
def test_two_modes_tick_as_the_specification_says(regimes: Stream) -> None:
    """The published grids, and the next ticks of a stream after its last one."""
    timer = changed(scheduler={"mode": "timer", "timer_interval_ms": 1000, "timer_anchor_ms": 100})
    boundary = {"mode": "boundary", "boundary_interval_ms": 3000, "boundary_delay_ms": 500}
    for spec, opened_ms, expected in (
        (timer, 100, (100, 1100, 2100)),
        (changed(scheduler=boundary), 1000, (3500, 6500)),
    ):
        grid = grid_of(msgspec.convert(spec, StreamSpec), opened_ms)
        found = [grid.first(opened_ms)]
        while len(found) < len(expected):
            found.append(grid.next_after(found[-1]))
        assert tuple(found) == expected
    planned = regimes.project.done("streams", "plan", "regimes", "--next", "2", "--json").json
    assert [row["planned"] for row in planned] == ["2015-09-13T00:00:00Z", "2015-09-14T00:00:00Z"]


@pytest.mark.seed("streams-003/planned-before-attempt")
def test_every_run_is_on_the_record_before_it_is_attempted(ticks: Stream) -> None:
    """round.planned of a tick stands before each outcome of it, with planned_ts_ms."""
    entries = ticks.project.entries()
    planned = {
        entry["round"]: entry["seq"] for entry in entries if entry["type"] == "round.planned"
    }
    assert len(planned) == 6
    for record in ticks.show("records"):
        finished = [entry["seq"] for entry in entries if entry["type"] == "run.finished"]
        assert record["record_seq"] in planned.values()
        assert sum(seq > record["record_seq"] for seq in finished) >= 2
        assert record["planned_ts_ms"] == record["engine_timestamp_ms"]
    report = ticks.project.done("verify", "--store", "--json").json
    assert {"planned", "rostered"} <= {check["word"] for check in report["checks"]}
    assert report["held"]


@pytest.mark.seed("streams-003/per-symbol-sequence")
def test_runs_of_a_symbol_never_overlap(regimes: Stream) -> None:
    """Later timestamps later, each started after the one before had ended."""
    for symbol in SYMBOLS:
        rows = sorted(
            regimes.show("records", "--symbol", symbol), key=lambda row: row["record_seq"]
        )
        assert len(rows) == 40
        for one, other in pairwise(rows):
            assert one["engine_timestamp_ms"] < other["engine_timestamp_ms"]
            assert one["completed_ts_ms"] <= other["started_ts_ms"]


# ------------------------------------------------------------------- phase 3: cuts and engines


@pytest.mark.seed("streams-003/cut-selection", "streams-003/tests-cuts")
def test_cuts_follow_from_the_log(regimes: Stream) -> None:
    """Each ends with the last record stamped by then; those of a symbol tile the log."""
    stamps = [row["ingest_ts_ms"] for row in regimes.show("inputs")]
    for symbol in SYMBOLS:
        rows = sorted(
            regimes.show("records", "--symbol", symbol), key=lambda row: row["record_seq"]
        )
        for row in rows:
            assert row["cut_kind"] == "boundary"
            expected = sum(stamp <= row["planned_ts_ms"] for stamp in stamps)
            assert row["cut_end_ingest_seq"] == expected
        assert rows[-1]["cut_end_ingest_seq"] == len(stamps)
        for one, other in pairwise(rows):
            assert other["cut_start_ingest_seq"] == one["cut_end_ingest_seq"] + 1
    found = regimes.project.done("streams", "plan", "regimes", "--from-log", "--json").json
    assert (found["runs"], found["different"]) == (120, 0)


@pytest.mark.seed("streams-003/snapshot-sourcing", "streams-003/snapshot-selection")
def test_the_newest_matching_snapshot_of_the_cut_is_taken(running: Project) -> None:
    """Of two for one timestamp the later one; not that of another time, or of another symbol."""
    prepared(running)
    lines = []
    for symbol, at_ms, price in (
        ("OK", FIRST_MS + 60_000, 1),
        ("OK", FIRST_MS + 60_000, 2),
        ("OK", FIRST_MS + 120_000, 3),
        ("BAD", FIRST_MS + 60_000, 4),
    ):
        normalized = {"timestamp_ms": at_ms, "market": {"price": price}}
        event = {
            "schema": "raw_market_event",
            "schema_version": "1",
            "source_id": "file",
            "event_type": "SnapshotInputs",
            "symbol": symbol,
            "exchange_ts_ms": None,
            "recv_ts_ms": FIRST_MS + 1,
            "raw_payload": "",
            "normalized": normalized,
        }
        lines.append(json.dumps(event))
    running.write("e", "\n".join(lines) + "\n")
    engine = {"ref": "runwright.streams.engines.echo:full", "alignment_ms": 60_000}
    spec = {**SPEC, "name": "snapshots", "engine": engine, "sources": SPEC["sources"][:1]}
    running.done("apply", running.write("snapshots.yaml", json.dumps(spec)))
    stream = Stream(running, "snapshots", running.done("streams", "run", "snapshots"))
    (record,) = stream.show("records", "--symbol", "OK")
    assert record["snapshot_sha256"] == hashlib.sha256(lines[1].encode()).hexdigest()
    (output,) = [
        event["payload"]["regime_output"]["snapshot"]
        for event in stream.published()
        if event["symbol"] == "OK" and event["event_type"] == "EngineRunCompleted"
    ]
    assert output["market"]["price"] == 2
    assert output["market"]["vwap"] == {"__xray_missing__": True}


@pytest.mark.seed("streams-003/snapshot-no-computation")
def test_nothing_outside_the_engines_computes_on_market_values(regimes: Stream) -> None:
    """The freeze note looks for it in the source and names what it finds."""
    note = regimes.project.done("streams", "freeze", "--json").json
    (check,) = [each for each in note["checks"] if "computes on market values" in str(each)]
    assert check["violations"] == []


@pytest.mark.seed("streams-003/engine-truth")
def test_an_engine_in_truth_mode_is_called_on_its_cut(ticks: Stream) -> None:
    """It has no state, and sees the events of its symbol in the cut."""
    rows = ticks.show("records", "--symbol", "OK")
    assert {row["engine_mode"] for row in rows} == {"truth"}
    outputs = [
        event["payload"]["regime_output"]["events"]
        for event in ticks.published()
        if event["event_type"] == "EngineRunCompleted"
    ]
    assert sum(outputs) == 18
    assert ticks.show("states") == []


@pytest.mark.seed("streams-003/engine-hysteresis")
def test_states_of_hysteresis_are_kept_and_a_replay_comes_to_them(regimes: Stream) -> None:
    """The state of each symbol after its last run with a snapshot; its transitions replay."""
    states = {row["symbol"]: row for row in regimes.show("states")}
    assert set(states) == set(SYMBOLS)
    for row in states.values():
        assert row["state"]["last_timestamp"] == row["engine_timestamp_ms"]
        assert row["state"]["stable_output"]["regime"] == "CHOP_STOPHUNT"
    found = regimes.project.done("replay", "regimes", "--json").json
    assert (found["executed"], found["different"]) == (120, 0)


# ------------------------------------------------------------------------- phase 4: publishing


@pytest.mark.seed(
    "streams-003/event-run-started",
    "streams-003/event-run-completed",
    "streams-003/event-run-failed",
    "streams-003/event-hysteresis-decision",
)
def test_each_run_publishes_its_events(regimes: Stream) -> None:
    """Started; then the decision and Completed with the output, or Failed with its reason."""
    runs: dict[str, list[dict[str, Any]]] = {}
    for event in regimes.published():
        assert (event["schema"], event["schema_version"]) == ("orchestrator_event", "1")
        runs.setdefault(event["run_id"], []).append(event)
    assert len(runs) == 120
    kinds = Counter(tuple(event["event_type"] for event in events) for events in runs.values())
    assert kinds == {
        ("EngineRunStarted", "HysteresisDecisionPublished", "EngineRunCompleted"): 87,
        ("EngineRunStarted", "EngineRunFailed"): 33,
    }
    for started, *rest in runs.values():
        assert "payload" not in started
        if len(rest) == 2:
            decision = rest[0]["payload"]["hysteresis_decision"]
            assert rest[1]["payload"]["regime_output"] == decision["selected_output"]
        else:
            assert rest[0]["payload"]["error_kind"] == "missing_snapshot_inputs"


@pytest.mark.seed("streams-003/publish-order", "streams-003/tests-order")
def test_the_outputs_of_a_symbol_are_in_order(regimes: Stream) -> None:
    """By engine_timestamp_ms, numbered without a gap; an id stands for the same bytes."""
    published = regimes.published()
    for symbol in SYMBOLS:
        own = [event for event in published if event["symbol"] == symbol]
        assert [event["publish_seq"] for event in own] == list(range(1, len(own) + 1))
        stamps = [event["engine_timestamp_ms"] for event in own]
        assert stamps == sorted(stamps)
    assert len({event["event_id"] for event in published}) == len(published)
    for event in published:
        text = f"{event['run_id']}|{event['event_type']}".encode()
        assert event["event_id"] == hashlib.sha256(text).hexdigest()


# ---------------------------------------------------------- phase 5: failures and backpressure


@pytest.mark.seed("streams-003/retry-engine", "streams-003/failure-engine")
def test_an_engine_that_fails_is_tried_so_often_and_the_stream_goes_on(ticks: Stream) -> None:
    """Four attempts as the spec says, then EngineRunFailed; the other symbol is not held up."""
    assert delays_ms(msgspec.convert(SPEC, StreamSpec).engine_retry) == (1, 2, 2)
    rows = ticks.show("records")
    bad = [row for row in rows if row["symbol"] == "BAD"]
    assert {(row["status"], row["attempts"], row["error_kind"]) for row in bad} == {
        ("failed", 4, "engine_failure")
    }
    failed = [event for event in ticks.published() if event["event_type"] == "EngineRunFailed"]
    assert len(failed) == len(bad) == 6
    assert {event["attempt"] for event in failed} == {4}
    assert {row["status"] for row in rows if row["symbol"] == "OK"} == {"completed"}


@pytest.mark.seed("streams-003/retry-ingestion")
def test_a_source_that_is_away_is_asked_again(running: Project) -> None:
    """At its delays, as often as it takes; the message says why, and nothing of it is lost."""
    name = prepared(
        running,
        name="away",
        sources=[{"source_id": "python", "symbols": ["OK"], "python": {"ref": "ticks:away"}}],
        ingestion_retry={"min_delay_ms": 5, "max_delay_ms": 20},
    )
    process = running.start("streams", "run", name)
    failure = process.wait_event("orchestrator.failure", count=5, failure_domain="ingest")
    assert failure["text"].endswith("ConnectionError: nobody there")
    stream = Stream(running, name, process.so_far())
    told = until(lambda: _faulty(stream, "ingest"), "health that names the domain")
    assert told.endswith("ConnectionError: nobody there")
    running.write("there", "")
    assert process.end().status == 0
    assert len(stream.show("inputs")) == 3


def _faulty(stream: Stream, domain: str) -> str:
    """Return what is wrong in a domain, or nothing."""
    words = ("streams", "health", stream.name, "--json")
    told: str = stream.project.run(*words).json["domains"][domain]
    return "" if told == "ok" else told


@pytest.mark.seed(
    "streams-003/retry-publish",
    "streams-003/failure-publish",
    "streams-003/backpressure-output",
)
def test_a_sink_that_is_down_pauses_scheduling_and_loses_nothing(running: Project) -> None:
    """It is tried again and again; once it is back, everything is delivered in order."""
    publish = {"transport": "jsonl", "path": "out.jsonl", "max_pending": 2}
    (running.folder / "out.jsonl").mkdir(parents=True)
    bounds = {"min_delay_ms": 5, "max_delay_ms": 10}
    name = prepared(running, name="down", output_publish=publish, publish_retry=bounds)
    process = running.start("streams", "run", name)
    stream = Stream(running, name, process.so_far())
    told = wait_state(stream, process, scheduling_paused=True)
    assert told["domains"]["publish"].startswith("2 papers wait")
    assert not told["ready"]
    process.wait_event("delivery.deferred", count=3)
    (running.folder / "out.jsonl").rmdir()
    assert process.end().status == 0
    lines = (running.folder / "out.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == stream.published()
    assert len(lines) == 24
    audit = running.done("streams", "audit", name, "--json").json
    assert (audit["held"], audit["missing"]) == (True, 0)


@pytest.mark.seed("streams-003/failure-buffer", "streams-003/log-failures")
def test_a_buffer_that_cannot_be_written_stops_the_stream(running: Project) -> None:
    """Nothing is taken in after it, the exit status says so, and health says degraded."""
    name = prepared(running, name="broken")
    lines = (running.folder / "e").read_text()
    running.write("e", lines * 200)
    most = 2 * running.store.stat().st_size + 400_000

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))

    done = running.run("streams", "run", name, before=limited)
    assert done.status == 4, done
    (failure,) = [each for each in done.events if each.get("failure_domain") == "buffer"]
    assert failure["event"] == "orchestrator.failure"
    assert failure["error_detail"] in ("StoreUnwritable", "CommitUnknown")
    assert failure["error_kind"] in ("store-unwritable", "commit-unknown")
    stream = Stream(running, name, done)
    assert stream.health(4)["state"] == "degraded"
    assert stream.health(4)["domains"]["buffer"].startswith(failure["error_kind"])


# ----------------------------------------------------------------------- phase 6: observability


@pytest.mark.seed("streams-003/log-ingestion")
def test_messages_of_ingestion_have_the_fields_that_are_asked_for(ticks: Stream) -> None:
    """One of every event that was taken in."""
    said = [event for event in ticks.ran.events if event["event"] == "orchestrator.ingest"]
    assert len(said) == 33
    fields = {"source_id", "symbol", "ingest_seq", "recv_ts_ms", "exchange_ts_ms"}
    assert all(fields <= set(event) for event in said)
    assert [event["ingest_seq"] for event in said] == list(range(1, 34))


@pytest.mark.seed("streams-003/log-runs", "streams-003/log-failures")
def test_messages_of_runs_and_failures_have_the_fields_that_are_asked_for(ticks: Stream) -> None:
    """One of every run that completed, one of every run that failed, with its domain."""
    fields = {
        *("run_id", "symbol", "engine_timestamp_ms", "cut_start", "cut_end"),
        *("engine_mode", "attempt"),
    }
    rows = ticks.show("records")
    for name, wanted, more in (
        ("orchestrator.engine_run", rows, set[str]()),
        (
            "orchestrator.failure",
            [row for row in rows if row["symbol"] == "BAD"],
            {"failure_domain", "error_kind", "error_detail"},
        ),
    ):
        said = [event for event in ticks.ran.events if event["event"] == name]
        assert sorted(event["run_id"] for event in said) == sorted(row["run_id"] for row in wanted)
        assert all(fields | more <= set(event) for event in said)


@pytest.mark.seed("streams-003/metrics-minimum")
def test_the_metrics_have_the_names_of_the_specification(ticks: Stream) -> None:
    """Dots as underscores behind runwright_stream_, counters with _total."""
    text = ticks.project.done("streams", "show", ticks.name, "--metrics").stdout
    found = {
        line.split(" ")[0]: float(line.split(" ")[1])
        for line in text.splitlines()
        if not line.startswith("#")
    }
    prefix = "runwright_stream"
    label = f'stream="{ticks.name}"'
    assert (
        found[f'{prefix}_ingest_count_total{{{label},event_type="TradeTick",source_id="file"}}']
        == 30
    )
    assert found[f'{prefix}_engine_runs_total{{{label},status="completed"}}'] == 6
    assert found[f'{prefix}_engine_runs_total{{{label},status="failed"}}'] == 6
    assert found[f'{prefix}_publish_count_total{{{label},event_type="EngineRunStarted"}}'] == 12
    assert found[f"{prefix}_scheduler_ticks_total{{{label}}}"] == 6
    assert found[f"{prefix}_buffer_depth{{{label}}}"] == 33
    assert found[f"{prefix}_buffer_age_ms{{{label}}}"] > 0
    assert found[f"{prefix}_engine_duration_ms_count{{{label}}}"] == 6
    for domain in ("buffer", "publish"):
        assert found[f'{prefix}_backpressure_count_total{{{label},domain="{domain}"}}'] == 0
        assert f'{prefix}_backpressure_blocked_ms_total{{{label},domain="{domain}"}}' in found


@pytest.mark.seed("streams-003/health-readiness")
def test_health_says_state_readiness_and_domains(regimes: Stream) -> None:
    """A stream that does not run is not ready: exit status 7; each domain has a word."""
    told = regimes.health(7)
    assert (told["state"], told["ready"], told["alive"]) == ("stopped", False, False)
    assert told["domains"] == dict.fromkeys(("ingest", "buffer", "engine", "publish"), "ok")
    assert (told["ingestion_paused"], told["scheduling_paused"]) == (False, False)


# ------------------------------------------------------------- phase 7: determinism and replay


@pytest.mark.seed("streams-003/tests-run-id")
def test_run_ids_follow_from_symbol_time_cut_and_mode(regimes: Stream) -> None:
    """Computed here a second time."""
    for row in regimes.show("records"):
        text = "|".join(
            str(row[name])
            for name in ("symbol", "engine_timestamp_ms", "cut_end_ingest_seq", "engine_mode")
        )
        assert row["run_id"] == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.seed("streams-003/replay-identical")
def test_a_replay_gives_the_same_events(regimes: Stream, tmp_path: Path) -> None:
    """Byte for byte from the log; a state that was altered in between changes nothing of it."""
    first = regimes.project.done("replay", "regimes", "--json").json
    assert (first["events"], first["different"], first["other_code"]) == (327, 0, 0)
    copy = regimes.project.copy_to(tmp_path)
    copy.sql("UPDATE lane SET memory = json_set(memory, '$.state', '{}')")
    second = copy.done("replay", "regimes", "--json").json
    assert second["digest"] == first["digest"]
    copy.sql(
        "UPDATE paper SET body = CAST(replace(CAST(body AS TEXT), 'CHOP_STOPHUNT', 'CHOP_BALANCED')"
        " AS BLOB) WHERE name = ?",
        f"regimes/{FIRST_DAY_OF_CHOP}",
    )
    assert copy.done("replay", "regimes", "--json", status=6).json["different"] > 0


#: The end of 2015-09-09.
FIRST_DAY_OF_CHOP = 1_441_843_200_000
