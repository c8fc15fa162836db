"""The commands of streams, as somebody uses them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.project import Project, until
from tests.e2e.streams import MINUTE_MS, START_MS, history, published, spec, stream

pytestmark = pytest.mark.slow


def test_a_history_runs_to_its_end_and_every_tick_of_every_symbol_is_published(
    project: Project,
) -> None:
    """Started and one end for each run, numbered through for each symbol."""
    stream(project)
    done = project.done("streams", "run", "toy", "--json").json
    counts = {"records": 24, "ticks": 3, "completed": 6, "failed": 0}
    assert done == {"name": "toy", **counts, "unread": 0, "waiting": 0}
    events = published(project)
    for symbol in ("BTC", "ETH"):
        own = [event for event in events if event["symbol"] == symbol]
        assert [event["publish_seq"] for event in own] == [1, 2, 3, 4, 5, 6]
        ends = [START_MS + minute * MINUTE_MS for minute in (1, 2, 3)]
        assert [event["engine_timestamp_ms"] for event in own[::2]] == ends
        assert {event["event_type"] for event in own[1::2]} == {"EngineRunCompleted"}
        answers = [event["payload"]["regime_output"]["events"] for event in own[1::2]]
        assert answers == [4, 4, 4]


def test_a_file_is_followed_or_has_an_end_as_the_spec_says(project: Project) -> None:
    """Whatever the time is: history that grows is waited for, and by the clock a file may end."""
    source = {"source_id": "feed", "symbols": ["BTC", "ETH"]}
    file = {"path": "events.jsonl", "format": "jsonl"}
    stream(project, sources=[{**source, "file": {**file, "follow": True}}])
    running = project.start("streams", "run", "toy", "--json")
    until(lambda: len(published(project)) == 8, "the ticks that later events made due")
    with (project.folder / "events.jsonl").open("a") as grown:
        grown.writelines(line + "\n" for line in list(history(5))[24:])
    until(lambda: len(published(project)) == 16, "two more")
    running.send(15)
    assert running.end().json["records"] == 40
    sources = [{**source, "file": {**file, "follow": False}}]
    swift = {"scheduler": {"time": "clock", "boundary_interval_ms": 100}}
    other = Project(project.base / "other")
    other.done("init", "--name", "demo")
    stream(other, sources=sources, engine={"alignment_ms": 100}, **swift)
    assert other.done("streams", "run", "toy", "--json").json["records"] == 24


def test_what_is_there_goes_on_where_it_was(project: Project) -> None:
    """A second run of a history that has not grown takes in nothing and conducts nothing."""
    stream(project)
    project.done("streams", "run", "toy")
    again = project.done("streams", "run", "toy", "--json").json
    assert (again["records"], again["ticks"]) == (0, 0)
    lines = (project.folder / "events.jsonl").read_text()
    grown = lines.replace(str(START_MS)[:8], str(START_MS + 3 * MINUTE_MS)[:8])
    assert grown


def test_show_gives_the_frozen_contracts_line_by_line(project: Project) -> None:
    """Records of runs, records of the buffer with their hashes, and a selection by symbol."""
    stream(project)
    project.done("streams", "run", "toy")
    lines = project.done("streams", "show", "toy", "--records", "--symbol", "ETH").stdout
    records = [json.loads(line) for line in lines.splitlines()]
    assert [record["symbol"] for record in records] == ["ETH"] * 3
    assert {record["status"] for record in records} == {"completed"}
    # Cuts tile the log, newest first.
    cuts = [(record["cut_start_ingest_seq"], record["cut_end_ingest_seq"]) for record in records]
    assert cuts == [(17, 24), (9, 16), (2, 8)]
    lines = project.done("streams", "show", "toy", "--inputs", "--limit", "2").stdout
    inputs = [json.loads(line) for line in lines.splitlines()]
    assert [record["ingest_seq"] for record in inputs] == [23, 24]
    assert inputs[1]["prev_hash"] == inputs[0]["record_hash"]
    listed = project.done("streams", "show", "--json").json
    assert [(row["name"], row["records"], row["published"]) for row in listed] == [("toy", 24, 12)]


def test_tail_narrows_what_it_prints_and_not_what_it_checks(project: Project) -> None:
    """By type, by several, and by symbol as well; a gap among the others is still a gap."""
    stream(project)
    project.done("streams", "run", "toy")
    tail = ("streams", "tail", "toy", "--no-follow", "--type", "EngineRunCompleted")

    def seen(*words: str) -> list[tuple[str, str]]:
        lines = project.done(*tail, *words).stdout.splitlines()
        events = [json.loads(line) for line in lines]
        return [(event["symbol"], event["event_type"]) for event in events]

    ended = [(symbol, "EngineRunCompleted") for symbol in ("BTC", "ETH")] * 3
    assert seen() == ended
    assert seen("--symbol", "ETH") == [("ETH", "EngineRunCompleted")] * 3
    assert seen("--limit", "2") == ended[:2]
    assert len(seen("--type", "EngineRunStarted")) == 12
    # Another number of an event of the other type: the next of that symbol is not the next one.
    project.sql("""UPDATE paper SET body = replace(body, '"publish_seq":3', '"publish_seq":2')""")
    done = project.done(*tail, status=6)
    assert done.error[1].startswith("toy: conflict at BTC 2")


def test_tail_lists_the_types_there_are_for_one_that_is_none(project: Project) -> None:
    """A word that no stream publishes prints nothing for ever, so it is refused."""
    stream(project)
    done = project.done("streams", "tail", "toy", "--type", "EngineRunDone", status=2)
    known = "EngineRunStarted, EngineRunCompleted, EngineRunFailed, HysteresisDecisionPublished"
    message = f"no stream publishes 'EngineRunDone'; known: {known}, HysteresisStatePublished"
    assert done.error == ("usage", message)


def test_metrics_are_text_that_prometheus_reads(project: Project) -> None:
    """Every line is a comment or name{labels} value."""
    stream(project)
    project.done("streams", "run", "toy")
    text = project.done("streams", "show", "toy", "--metrics").stdout
    samples = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    wanted = 'runwright_stream_engine_runs_total{stream="toy",status="completed"}'
    assert samples[wanted] == "6"
    assert samples['runwright_stream_up{stream="toy"}'] == "0"


def test_health_of_a_stream_that_does_not_run_is_inconclusive(project: Project) -> None:
    """Before its first run and after its last; an unknown one is a usage error."""
    stream(project)
    found = project.done("streams", "health", "toy", "--json", status=7).json
    assert (found["state"], found["alive"]) == ("init", False)
    project.done("streams", "run", "toy")
    found = project.done("streams", "health", "toy", "--json", status=7).json
    assert (found["state"], found["ready"]) == ("stopped", False)
    assert project.done("streams", "health", "nope", status=2).error[0] == "unknown-name"


def test_replay_and_the_plan_from_the_log_find_nothing_in_an_honest_record(
    project: Project,
) -> None:
    """And what they looked at is counted, so that nothing cannot pass."""
    stream(project)
    assert project.done("replay", "toy", status=7).stdout.splitlines()[-1] == "nothing to replay"
    project.done("streams", "run", "toy")
    found = project.done("replay", "toy", "--json").json
    assert (found["executed"], found["different"], found["events"]) == (6, 0, 12)
    planned = project.done("streams", "plan", "toy", "--from-log", "--json").json
    assert (planned["ticks"], planned["runs"], planned["different"]) == (3, 6, 0)


def test_replay_names_the_first_difference_by_symbol_place_and_both_values(
    project: Project,
) -> None:
    """Somebody made a published answer better than it was."""
    stream(project)
    project.done("streams", "run", "toy")
    project.sql(
        "UPDATE paper SET body = replace(body, '\"events\":4', '\"events\":5') WHERE seq = "
        "(SELECT min(seq) FROM paper)"
    )
    found = project.done("replay", "toy", "--json", status=6).json
    first = found["differences"][0]
    assert (first["symbol"], first["path"]) == ("BTC", "payload.regime_output.events")
    assert (first["published"], first["replayed"]) == (5, 4)
    assert found["different"] == 2
    assert project.done("verify", "--store", status=6).stdout.count("BROKEN") >= 1


def test_an_altered_event_of_the_log_is_found_by_its_number(project: Project) -> None:
    """By verify; and the engine comes to another answer."""
    stream(project)
    project.done("streams", "run", "toy")
    project.sql("DROP TRIGGER log_block_is_never_edited")
    project.sql("UPDATE log_block SET body = replace(body, '100.5', '100.9') WHERE last_seq > 0")
    found = project.done("verify", "--store", "--json", status=6).json
    assert found["held"] is False
    broken = [check["sentence"] for check in found["checks"] if not check["held"]]
    assert broken


def test_audit_finds_what_a_file_lost_and_publishes_it_again(project: Project) -> None:
    """A line that is gone is missing; after the repair a reader in order gets all."""
    stream(project, output_publish={"transport": "jsonl", "path": "out.jsonl"})
    project.done("streams", "run", "toy")
    assert project.done("streams", "audit", "toy", "--json").json["held"] is True
    path = Path(project.folder / "out.jsonl")
    lines = path.read_bytes().splitlines(keepends=True)
    assert len(lines) == 12
    path.write_bytes(b"".join(lines[:3] + lines[4:]))
    found = project.done("streams", "audit", "toy", "--json", status=6).json
    assert (found["missing"], found["held"]) == (1, False)
    found = project.done("streams", "audit", "toy", "--repair", "--json").json
    assert found["held"] is True
    assert found["repaired"] >= 1


def test_the_freeze_note_names_the_schemas_and_runs_its_checks(project: Project) -> None:
    """Exit 0 says that every check held."""
    note = project.done("streams", "freeze", "--json").json
    assert note["held"] is True
    assert "orchestrator_event.json" in note["schemas"]
    assert all(check["violations"] == [] for check in note["checks"])


def test_the_next_ticks_are_shown_before_they_are_due(project: Project) -> None:
    """From the grid alone."""
    stream(project)
    project.done("streams", "run", "toy")
    found = project.done("streams", "plan", "toy", "--next", "2", "--json").json
    last_ms = START_MS + 3 * MINUTE_MS
    assert [row["planned_ts_ms"] for row in found] == [last_ms + MINUTE_MS, last_ms + 2 * MINUTE_MS]


def test_outputs_are_the_same_bytes_for_any_number_of_workers_and_hash_seed(
    project: Project, tmp_path: Path
) -> None:
    """Check 40: in worker processes, one or four, under two hash seeds."""
    seen = set()
    for workers, seed in ((1, "0"), (4, "7")):
        made = Project(tmp_path / f"w{workers}")
        made.done("init", "--name", "demo")
        stream(made, engine={"isolation": "process"}, concurrency={"max_symbols": workers})
        made.done("streams", "run", "toy", env={"PYTHONHASHSEED": seed})
        seen.add(made.done("replay", "toy", "--json").json["digest"])
    assert len(seen) == 1


def test_a_bundle_of_a_tick_holds_what_it_published_and_verifies_with_the_keys_alone(
    project: Project, tmp_path: Path
) -> None:
    """Check 49: in an empty folder; an altered event is found although the manifest is mended."""
    stream(project)
    project.done("streams", "run", "toy")
    label = f"toy/{START_MS + MINUTE_MS}"
    project.done("export", label, "--out", tmp_path / "bundle")
    (paper,) = (tmp_path / "bundle" / "papers").iterdir()
    lines = [json.loads(line) for line in paper.read_text().splitlines()]
    assert lines == published(project)[:4]
    keys = [
        project.folder / ".runwright" / "keys" / f"{name}.pub.pem"
        for name in ("ledger", "evidence")
    ]
    words = ["verify", tmp_path / "bundle", *(word for key in keys for word in ("--key", key))]
    auditor = Project(tmp_path / "auditor")
    auditor.done(*words)
    paper.write_bytes(paper.read_bytes().replace(b'"events":4', b'"events":5'))
    broken = auditor.done(*words, "--json", status=6).json
    assert {check["level"] for check in broken["checks"] if not check["held"]} >= {
        "bundle",
        "outbox",
    }


def test_run_of_a_stream_says_which_command_runs_it(project: Project) -> None:
    """`run` is for cycles."""
    stream(project)
    done = project.run("run", "toy")
    assert done.status == 2
    assert "runwright streams run toy" in done.stderr


def test_a_spec_of_another_grid_goes_on_after_the_last_tick(project: Project) -> None:
    """Nothing is conducted twice, and the plan is derived with the spec of each tick."""
    stream(project)
    project.done("streams", "run", "toy")
    project.done("apply", spec(project, scheduler={"boundary_interval_ms": 2 * MINUTE_MS}))
    found = project.done("streams", "plan", "toy", "--next", "1", "--json").json
    assert found[0]["planned_ts_ms"] > START_MS + 3 * MINUTE_MS
    assert found[0]["planned_ts_ms"] % (2 * MINUTE_MS) == 0


def test_messages_have_the_names_and_the_fields_of_the_seed(project: Project) -> None:
    """Check 37: a line for each event and each run for who debugs; one for each failure, always."""
    stream(project, engine={"input": "snapshot"})
    debug = {"RUNWRIGHT_MESSAGES_LEVEL": "debug"}
    events = project.done("streams", "run", "toy", env=debug).events
    of = {
        name: [one for one in events if one["event"] == f"orchestrator.{name}"] for name in FIELDS
    }
    assert {name: len(lines) for name, lines in of.items()} == {
        "ingest": 24, "engine_run": 6, "failure": 6,
    }  # fmt: skip
    for name, wanted in FIELDS.items():
        assert all(wanted <= set(line) for line in of[name]), name
    assert {line["failure_domain"] for line in of["failure"]} == {"engine"}
    assert {line["error_kind"] for line in of["failure"]} == {"missing_snapshot_inputs"}


#: The minimum fields of the seed's log lines.
FIELDS = {
    "ingest": {"source_id", "symbol", "ingest_seq", "recv_ts_ms", "exchange_ts_ms"},
    "engine_run": {
        "run_id", "symbol", "engine_timestamp_ms", "cut_start", "cut_end", "engine_mode", "attempt",
    },
    "failure": {"failure_domain", "error_kind", "error_detail", "run_id", "symbol"},
}  # fmt: skip
