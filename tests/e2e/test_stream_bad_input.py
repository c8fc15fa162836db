"""Bad input of streams: a clear error or a record, the right status, and nothing lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.project import Project
from tests.e2e.streams import MINUTE_MS, START_MS, event, history, published, spec, stream

pytestmark = pytest.mark.slow

#: One attempt, or two at once after the other.
ONCE = {"max_attempts": 1}
TWICE = {"max_attempts": 2, "min_delay_ms": 1, "max_delay_ms": 1}


def ends(project: Project) -> dict[tuple[str, int], dict[str, Any]]:
    """Return (symbol, minute) -> the event that ended the run."""
    found = {}
    for one in published(project):
        if one["event_type"] != "EngineRunStarted":
            minute = (one["engine_timestamp_ms"] - START_MS) // MINUTE_MS
            key = (one["symbol"], minute)
            assert key not in found, "a run has one end"
            found[key] = one
    return found


def with_engine(project: Project, name: str, **fields: Any) -> None:
    """Apply a stream whose engine is one that goes wrong."""
    source = Path(__file__).with_name("engines_of_streams.py").read_text()
    project.write("wrong.py", source)
    engine = {"ref": f"wrong:{name}", "isolation": "process", **fields.pop("engine", {})}
    stream(project, engine=engine, **{"engine_retry": ONCE, **fields})


@pytest.mark.parametrize(
    ("name", "kind", "detail"),
    [
        ("raises", "engine_failure", "ValueError"),
        ("wrong_type", "engine_output_invalid", "NoObject"),
        ("not_a_number", "engine_output_invalid", "NumberNotFinite"),
        ("dies", "engine_failure", None),
    ],
)
def test_an_engine_that_fails_for_one_symbol_fails_its_runs_alone(
    project: Project, name: str, kind: str, detail: str | None
) -> None:
    """The other symbol and the next ticks go on, and replay comes to the same bytes."""
    with_engine(project, name)
    done = project.done("streams", "run", "toy", "--json").json
    assert (done["ticks"], done["completed"], done["failed"]) == (3, 3, 3)
    found = ends(project)
    assert {found["ETH", minute]["event_type"] for minute in (1, 2, 3)} == {"EngineRunCompleted"}
    failed = found["BTC", 2]["payload"]
    assert failed["error_kind"] == kind
    if detail:
        assert failed["error_detail"] == detail
    assert project.done("replay", "toy", "--json").json["different"] == 0


def test_an_engine_that_hangs_is_killed_at_its_timeout_and_counted(project: Project) -> None:
    """Check 28: twice, as its retry says; then the run has failed and the next tick proceeds."""
    with_engine(project, "hangs", engine={"timeout_ms": 300}, engine_retry=TWICE)
    project.done("streams", "run", "toy", within_s=60)
    found = ends(project)
    assert len(found) == 6
    for minute in (1, 2, 3):
        assert found["BTC", minute]["payload"]["error_kind"] == "engine_timeout"
        assert found["BTC", minute]["attempt"] == 2
        assert found["ETH", minute]["event_type"] == "EngineRunCompleted"


def test_an_engine_that_reads_the_clock_is_refused_by_the_lint(project: Project) -> None:
    """With the file, the line and what to use instead; nothing has run."""
    with_engine(project, "differs", engine={"determinism_check": "lint"})
    done = project.run("streams", "run", "toy")
    assert done.status == 2
    assert "wrong.py" in done.stderr
    assert "time.time" in done.stderr
    assert published(project) == []


def test_an_engine_that_reads_the_clock_is_caught_by_the_canary_and_by_replay(
    project: Project,
) -> None:
    """Check 41: with the lint off, both name the place."""
    with_engine(project, "differs", engine={"determinism_check": "canary:1"})
    project.done("streams", "run", "toy")
    failed = ends(project)["BTC", 1]["payload"]
    assert failed["error_kind"] == "engine_nondeterministic"
    assert failed["error_detail"].startswith("output.at: ")
    other = Project(project.base / "off")
    other.done("init", "--name", "demo")
    with_engine(other, "differs", engine={"determinism_check": "off"})
    other.done("streams", "run", "toy")
    found = other.done("replay", "toy", "--json", status=6).json
    assert found["differences"][0]["path"] == "payload.regime_output.at"
    assert {item["symbol"] for item in found["differences"]} == {"BTC"}


def test_what_is_no_event_is_kept_as_a_failure_and_never_dropped(project: Project) -> None:
    """Garbage, a missing key, 10 MB in one event, an unknown type and an unknown symbol."""
    lines = [
        event("BTC", START_MS + 1),
        "this is no json {",
        json.dumps({"schema": "raw_market_event", "schema_version": "1"}),
        event("BTC", START_MS + 2, raw_payload="x" * 10_000_000),
        event("BTC", START_MS + 3, event_type="OptionGreeks", normalized={"delta": 0.5}, extra=[1]),
        event("DOGE", START_MS + 4),
        event("ETH", START_MS + 5),
    ]
    stream(project, *lines)
    done = project.done("streams", "run", "toy", "--json").json
    assert done["records"] == len(lines)
    shown = project.done("streams", "show", "toy", "--inputs", "--limit", "100").stdout
    kept = [json.loads(line)["event"] for line in shown.splitlines()]
    kinds = [one["event_type"] for one in kept]
    failure = "DecodeFailure"
    assert kinds == [
        "TradeTick", failure, failure, failure, "OptionGreeks", "TradeTick", "TradeTick",
    ]  # fmt: skip
    assert kept[1]["raw_payload"] == lines[1]
    assert kept[2]["normalized"]["error_kind"] == "missing_required_field"
    assert kept[4]["extra"] == [1]
    assert {symbol for symbol, _ in ends(project)} == {"BTC", "ETH"}


def test_a_quiet_symbol_has_a_run_that_says_that_its_snapshot_is_missing(
    project: Project,
) -> None:
    """Check 20: Started and Failed, never nothing."""
    lines = [line for line in history() if '"BTC"' in line]
    stream(project, *lines, engine={"input": "snapshot"})
    project.done("streams", "run", "toy")
    found = ends(project)
    assert len(found) == 6
    assert {one["payload"]["error_kind"] for one in found.values()} == {"missing_snapshot_inputs"}
    records = project.done("streams", "show", "toy", "--records", "--symbol", "ETH").stdout
    cut = json.loads(records.splitlines()[-1])
    assert cut["cut_start_ingest_seq"] == cut["cut_end_ingest_seq"] + 1


@pytest.mark.parametrize(
    ("fields", "key"),
    [
        ({"scheduler": {"boundary_interval_ms": 0}}, "scheduler.boundary_interval_ms"),
        ({"scheduler": {"boundary_interval_ms": 90_000}}, "scheduler.boundary_interval_ms"),
        ({"scheduler": {"boundary_delay_ms": -1}}, "scheduler.boundary_delay_ms"),
        ({"scheduler": {"mode": "timer"}}, "scheduler.timer_interval_ms"),
        ({"engine": {"engine_mode": "hysteresis"}}, "engine.hysteresis_state_path"),
        ({"engine_retry": {"max_attempts": 0}}, "engine_retry.max_attempts"),
        ({"publish_retry": {"min_delay_ms": 9, "max_delay_ms": 1}}, "publish_retry.max_delay_ms"),
        ({"buffer_retention": {"max_records": 0}}, "buffer_retention.max_records"),
        ({"output_publish": {"transport": "nats"}}, "output_publish.url"),
        ({"nonsense": 1}, "nonsense"),
    ],
)
def test_a_spec_that_cannot_be_meant_is_refused_with_its_key(
    project: Project, fields: dict[str, Any], key: str
) -> None:
    """And with the file; nothing is applied."""
    done = project.done("apply", spec(project, **fields), status=2)
    assert key.rpartition(".")[2] in done.stderr
    assert "toy.yaml" in done.stderr
    assert project.done("streams", "show", "--json").json == []


def test_a_source_that_is_named_twice_is_refused(project: Project) -> None:
    """By its id."""
    text = json.loads(spec(project).read_text())
    text["sources"] *= 2
    done = project.done("apply", project.write("twice.yaml", json.dumps(text)), status=2)
    assert "feed" in done.stderr


def test_a_retry_without_time_still_makes_its_first_attempt(project: Project) -> None:
    """Check 34: max_elapsed_ms below min_delay_ms; attempt 1 is made, and no other."""
    retry = {"max_attempts": 3, "min_delay_ms": 100, "max_delay_ms": 100, "max_elapsed_ms": 1}
    with_engine(project, "raises", engine_retry=retry)
    project.done("streams", "run", "toy")
    found = ends(project)
    assert found["BTC", 1]["attempt"] == 1
    assert found["ETH", 1]["event_type"] == "EngineRunCompleted"


def test_a_file_that_is_not_there_is_named(project: Project) -> None:
    """Before anything is taken in."""
    project.done("apply", spec(project))
    done = project.run("streams", "run", "toy")
    assert done.status == 2
    assert "events.jsonl" in done.stderr


def test_a_sink_that_is_down_pauses_ticks_and_loses_nothing(project: Project) -> None:
    """Check 31: the outbox grows to its most; back again, everything is delivered in order."""
    (project.folder / "out.jsonl").mkdir()
    stream(
        project,
        output_publish={"transport": "jsonl", "path": "out.jsonl", "max_pending": 2},
        publish_retry={"min_delay_ms": 20, "max_delay_ms": 20, "max_attempts": 3},
    )
    running = project.start("streams", "run", "toy")
    running.wait_event("scheduling.paused")

    def health() -> dict[str, Any]:
        found: dict[str, Any] = project.run("streams", "health", "toy", "--json").json
        return found

    found = health()
    assert found["ready"] is False
    assert found["domains"]["publish"] != "ok"
    (project.folder / "out.jsonl").rmdir()
    done = running.end()
    assert done.status == 0
    lines = (project.folder / "out.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == published(project)
    assert len(lines) == 12
    assert project.done("streams", "audit", "toy", "--json").json["held"] is True


def test_history_that_its_buffer_cannot_hold_ends_and_says_what_to_change(
    project: Project,
) -> None:
    """The next tick needs more events than there is room for; with more room all is as usual."""
    stream(project, buffer_retention={"max_records": 7, "max_age_ms": 1000})
    done = project.run("streams", "run", "toy")
    assert done.status == 2
    code, message = done.error
    assert (code, message.partition(":")[0]) == ("invalid-spec", "buffer_retention.max_records")
    assert "full with 7 records" in message
    assert "2025-11-20T10:01:00Z" in message
    assert "7 came since the last tick" in message
    (failure,) = [each for each in done.events if each["event"] == "orchestrator.failure"]
    assert (failure["failure_domain"], failure["text"]) == ("buffer", message)
    found = project.done("streams", "health", "toy", "--json", status=4).json
    assert (found["state"], found["ready"], found["alive"]) == ("degraded", False, False)
    assert found["domains"]["buffer"] == f"invalid-spec: {message}"
    assert inputs(project) == list(history())[:7]
    # Eight fit into an interval, so the same source goes on where it was.
    project.done("apply", spec(project, buffer_retention={"max_records": 16, "max_age_ms": 1000}))
    assert project.done("streams", "run", "toy", "--json").json["ticks"] == 3
    whole = Project(project.base / "whole")
    whole.done("init", "--name", "demo")
    stream(whole)
    whole.done("streams", "run", "toy")
    assert published(project) == published(whole)


def test_history_that_nothing_is_retired_of_says_which_key_retires(project: Project) -> None:
    """After the ticks that its room is enough for; each of them has its outputs."""
    stream(project, buffer_retention={"max_records": 10})
    done = project.run("streams", "run", "toy")
    assert done.status == 2
    assert done.error[1].endswith("none can be retired without buffer_retention.max_age_ms")
    assert len(published(project)) == 4
    project.done("apply", spec(project, buffer_retention={"max_records": 24}))
    project.done("streams", "run", "toy")
    assert inputs(project) == list(history())


def test_a_stamp_in_seconds_is_refused_before_a_grid_is_opened_in_1970(project: Project) -> None:
    """With source, record and key; nothing was taken in, so the mended file runs as usual."""
    seconds = event("ETH", START_MS // 1000)
    stream(project, "no event", seconds, *history())
    done = project.run("streams", "run", "toy", within_s=10)
    assert done.status == 2
    code, message = done.error
    assert code == "invalid-spec"
    assert message.startswith(
        f"source feed: recv_ts_ms of record 3 is {START_MS + 1}, and that of the record before it "
        f"{START_MS // 1000}: one of them is not in milliseconds"
    )
    assert "another name" not in done.stderr
    found = project.done("streams", "health", "toy", "--json", status=4).json
    assert found["domains"]["ingest"] == f"invalid-spec: {message}"
    assert inputs(project) == []
    stream(project, *history())
    assert project.done("streams", "run", "toy", "--json").json["ticks"] == 3


def test_a_stamp_in_microseconds_in_the_middle_keeps_what_came_before(project: Project) -> None:
    """The log has milliseconds, so the mended file goes on behind them."""
    commits = {"buffer": {"group_commit_ms": 0}}
    stream(project, *history(), event("BTC", 1000 * START_MS), **commits)
    done = project.run("streams", "run", "toy", within_s=10)
    assert done.status == 2
    assert f"record 25 is {1000 * START_MS}" in done.error[1]
    assert inputs(project) == list(history())
    stream(project, *history(4), **commits)
    assert project.done("streams", "run", "toy", "--json").json["records"] == 8
    assert inputs(project) == list(history(4))


def test_history_in_microseconds_is_asked_about_and_shown(project: Project) -> None:
    """Its instants have no date, so they are shown as what they are."""
    at_ms = 1000 * START_MS
    stream(project, event("BTC", at_ms + 1))
    done = project.done("streams", "run", "toy")
    assert [each["event"] for each in done.events].count("history.doubtful") == 1
    assert f"{at_ms + MINUTE_MS} ms" in project.done("streams", "show", "toy").stdout
    assert f"{at_ms + 2 * MINUTE_MS} ms" in project.done("streams", "plan", "toy").stdout


def test_a_log_that_begins_in_seconds_has_to_be_begun_again(project: Project) -> None:
    """Its first block was durable before anything could be compared with it."""
    lines = [event("BTC", START_MS // 1000), *history()]
    stream(project, *lines, buffer={"group_commit_ms": 0})
    done = project.run("streams", "run", "toy", within_s=10)
    assert done.status == 2
    assert "apply the spec under another name" in done.stderr
    assert inputs(project) == lines[:1]


def test_history_of_days_with_a_gap_of_years_is_no_mistake(project: Project) -> None:
    """A tick for each day of it, as the grid says; only history from 1970 is asked about."""
    day_ms = 86_400_000
    days = [1, 2, 5, 800]
    scheduler, engine = {"boundary_interval_ms": day_ms}, {"alignment_ms": day_ms}
    lines = [event("BTC", day * day_ms) for day in days]
    stream(project, *lines, scheduler=scheduler, engine=engine)
    done = project.done("streams", "run", "toy")
    (asked,) = [each for each in done.events if each["event"] == "history.doubtful"]
    assert (asked["level"], asked["name"]) == ("warning", "toy")
    assert str(day_ms) in asked["text"]
    assert project.done("streams", "show", "--json").json[0]["ticks"] == 800


def inputs(project: Project) -> list[str]:
    """Return the events of the log as they came."""
    rows = project.done("streams", "show", "toy", "--inputs", "--limit", "100").stdout.splitlines()
    found = [json.loads(row) for row in rows]
    assert [row["ingest_seq"] for row in found] == list(range(1, len(found) + 1))
    return [json.dumps(row["event"]) for row in found]


def test_runs_that_fail_one_after_the_other_are_counted_for_people(project: Project) -> None:
    """Text has the first of each symbol and the numbers; JSON has a line for every run."""
    lines = list(history(100, 1))
    stream(project, *lines, engine={"input": "snapshot"})
    human = {"RUNWRIGHT_MESSAGES_FORM": "human"}
    text = project.done("streams", "run", "toy", env=human).stderr
    told = [line for line in text.splitlines() if "orchestrator.failure" in line]
    assert [line.count("run_id=") for line in told[:2]] == [1, 1]
    assert all("error_kind=missing_snapshot_inputs" in line for line in told)
    counted = [int(line.split(" more ")[0].rpartition(" ")[2]) for line in told if " more " in line]
    whole = sum("run_id=" in line for line in told)
    assert whole + sum(counted) == 200
    assert len(told) < 50
    other = Project(project.base / "other")
    other.done("init", "--name", "demo")
    stream(other, *lines, engine={"input": "snapshot"})
    events = other.done("streams", "run", "toy").events
    failures = [each for each in events if each["event"] == "orchestrator.failure"]
    assert len({each["run_id"] for each in failures}) == len(failures) == 200


def test_a_history_of_which_nothing_can_be_read_says_so(project: Project) -> None:
    """Every line is kept, none has a time, so no tick is due: a warning says why, and the sum."""
    lines = [line.replace('"quantity"', '"size"') for line in history()]
    stream(project, *lines)
    done = project.done("streams", "run", "toy")
    assert "24 records, 0 ticks" in done.stdout
    assert "24 records could not be read" in done.stdout
    assert "24 events of feed could not be read, and are kept as DecodeFailure" in done.stderr
    assert "missing required field `quantity`" in done.stderr
    again = project.done("streams", "run", "toy", "--json").json
    assert (again["records"], again["unread"]) == (0, 0)
