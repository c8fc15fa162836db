"""The demands of the document cycles-001, each with the command that answers it.

Most of them are asked of one cycle of the market example, which runs once for this file.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import runwright
from runwright.adapters.commands import best_level
from tests.e2e.project import Done, Project, processes

REPOSITORY = Path(__file__).resolve().parents[2]
MARKET = REPOSITORY / "examples" / "market"
FUNCTIONS = (
    ("vision_signal_inference_baseline", "FINN", "signal_inference_baseline.py"),
    ("vision_noise_floor_estimator", "STIG", "noise_floor_estimator.py"),
    ("vision_meta_state_sync", "LARS", "meta_state_sync.py"),
)
NAMES = [name for name, _, _ in FUNCTIONS]
HELLO = "print('hello')\n"


class Market(NamedTuple):
    """A project in which one cycle of the market example ran."""

    project: Project
    ran: Done
    label: str
    evidence: dict[str, Any]
    shown: dict[str, Any]


@pytest.fixture(scope="module")
def market(initialised: Project, tmp_path_factory: pytest.TempPathFactory) -> Market:
    """The cycle that these tests ask about, run with the lines that people read."""
    project = initialised.copy_to(tmp_path_factory.mktemp("market"))
    shutil.copytree(MARKET, project.folder / "market", ignore=shutil.ignore_patterns("*.pyc"))
    project.done("apply", "market/cycle.yaml")
    ran = project.done("run", "market", env={"RUNWRIGHT_MESSAGES_FORM": "human"})
    label = ran.stdout.split()[0]
    shown = project.done("show", label, "--json").json
    return Market(project, ran, label, project.evidence(label), shown)


@pytest.fixture
def fresh(market: Market, tmp_path: Path) -> Iterator[Project]:
    """A copy of that project, to change."""
    made = market.project.copy_to(tmp_path / "fresh")
    # The spec knows the folder of its file, and that is another one now.
    made.done("apply", "market/cycle.yaml")
    yield made
    made.close()


def lines(market: Market) -> list[str]:
    """Return the lines that the cycle printed, without time, name and level."""
    return [line.split(" - ", 3)[3] for line in market.ran.stderr.splitlines()]


def plan(project: Project, *words: str, name: str = "market", status: int = 0) -> Any:
    """Return what a dry run plans."""
    return project.done("run", name, "--dry-run", "--json", *words, status=status).json


# ---------------------------------------------------------------------- purpose and architecture


@pytest.mark.seed(
    "cycles-001/purpose-coordinated-cycles",
    "cycles-001/purpose-on-demand",
    "cycles-001/mode-single-cycle",
    "cycles-001/usage-single-cycle",
    "cycles-001/architecture-executes-functions",
)
def test_one_command_runs_the_registered_functions_once_and_exits(market: Market) -> None:
    """All three, in one cycle, on demand."""
    assert market.ran.status == 0
    assert market.ran.stdout.splitlines()[0] == f"{market.label}  COMPLETED  3 done"
    assert [run["key"] for run in market.shown["runs"]] == NAMES
    assert len(market.project.done("show", "--json").json) == 1


@pytest.mark.seed("cycles-001/purpose-scheduled")
def test_a_schedule_runs_cycles_by_itself(fresh: Project) -> None:
    """The tick of such a cycle is an occurrence of the schedule, not a request."""
    running = fresh.start("run", "market", "--continuous")
    label = running.wait_event("round.judged")["label"]
    running.send(signal.SIGTERM)
    assert running.end().status == 0
    assert fresh.done("show", label, "--json").json["occurrence"]["type"] == "scheduled"
    (row,) = fresh.done("show", "schedule", "--json").json
    assert row["schedule"] == "every 3600 s"


@pytest.mark.seed("cycles-001/version-reported", "cycles-001/output-version")
def test_the_version_is_reported(market: Market) -> None:
    """That of the product by --version, that of the orchestrator in the first line of a cycle."""
    assert market.project.done("--version").stdout == f"runwright {runwright.__version__}\n"
    assert lines(market)[0] == "VISION-IOS ORCHESTRATOR v1.0.0"


@pytest.mark.seed(
    "cycles-001/diagram-reads-tasks",
    "cycles-001/registry-reads-functions",
    "cycles-001/architecture-task-registry",
    "cycles-001/mode-dry-run",
    "cycles-001/usage-dry-run",
    "cycles-001/test-dry-run",
)
def test_a_dry_run_shows_the_registry_and_runs_nothing(market: Market) -> None:
    """The plan is the rows of task_registry; no table has more rows after it."""
    counts = market.project.counts()
    planned = plan(market.project)["runs"]
    rows = market.project.sql(
        "SELECT task_name, agent_id FROM task_registry WHERE task_type = 'VISION_FUNCTION'"
        " ORDER BY task_id"
    )
    assert [(run["function"], run["agent"]) for run in planned] == rows
    text = market.project.done("run", "market", "--dry-run").stdout.splitlines()
    assert [line.split()[1] for line in text[1:]] == NAMES
    assert market.project.counts() == counts


@pytest.mark.seed("cycles-001/diagram-logs-cycle-start-end")
def test_start_and_end_of_a_cycle_stand_in_the_ledger(market: Market) -> None:
    """Before the first function and after the last."""
    found = market.project.done("show", "ledger", "--json").json["entries"]
    types = [entry["type"] for entry in found]
    assert types[5] == "round.planned"
    assert types[6:12] == ["run.started", "run.finished"] * 3
    assert types[12] == "round.judged"
    assert [found[5]["seq"], found[12]["seq"]] == market.shown["seq"]


@pytest.mark.seed(
    "cycles-001/diagram-logs-execution-evidence",
    "cycles-001/diagram-writes-cycle-results",
    "cycles-001/subprocess-structured-results",
)
def test_show_gives_the_evidence_of_each_execution(market: Market) -> None:
    """As text for people and as structured values."""
    for run, (name, agent, script) in zip(market.shown["runs"], FUNCTIONS, strict=True):
        assert (run["key"], run["agent"], run["status"]) == (name, agent, "done")
        assert Path(run["work"]["script"]["path"]).name == script
        assert run["value"]["result"]["function"] == name
    text = market.project.done("show", market.label).stdout
    assert all(name in text for name in NAMES)
    assert market.shown["outcome"] == "COMPLETED"


@pytest.mark.seed("cycles-001/diagram-logs-hash-chains")
def test_each_entry_holds_the_hash_of_the_one_before(market: Market) -> None:
    """Computed here from the stored bytes: SHA-256 over 0x00 and the entry."""
    import hashlib  # the standard's own words, beside the test that uses them

    prev = "0" * 64
    for (raw,) in market.project.sql("SELECT raw FROM entry ORDER BY seq"):
        assert json.loads(raw)["prev"] == prev
        prev = hashlib.sha256(b"\0" + raw).hexdigest()
    assert market.project.done("verify", "--store").status == 0


@pytest.mark.seed("cycles-001/diagram-subprocess-execution", "cycles-001/registry-respects-order")
def test_functions_run_as_processes_in_order(fresh: Project) -> None:
    """By priority, those without one last; none begins before the one before it has ended."""
    for name, priority in zip(NAMES, ("null", "7", "-1"), strict=True):
        fresh.sql(
            "UPDATE task_registry SET task_config = json_set(task_config, '$.priority', json(?))"
            " WHERE task_name = ?",
            *(priority, name),
        )
    order = [NAMES[2], NAMES[1], NAMES[0]]
    assert [run["function"] for run in plan(fresh)["runs"]] == order
    fresh.done("run", "market")
    runs = fresh.done("show", "latest", "--json").json["runs"]
    assert [run["key"] for run in runs] == order
    finished = {body["key"]: body for body in fresh.bodies("run.finished")[-3:]}
    for earlier, later in itertools.pairwise(order):
        assert finished[earlier]["finished_ms"] <= finished[later]["started_ms"]
    assert {run["work"]["type"] for run in runs} == {"command"}


@pytest.mark.seed(
    "cycles-001/diagram-function-signal-inference",
    "cycles-001/diagram-function-noise-floor",
    "cycles-001/diagram-function-meta-state",
)
@pytest.mark.parametrize("index", range(3))
def test_the_three_functions_answer_under_their_names(market: Market, index: int) -> None:
    """File, agent and something of what each of them computes from the real prices."""
    name, agent, script = FUNCTIONS[index]
    run = market.shown["runs"][index]
    result = run["value"]["result"]
    assert (result["function"], result["agent_id"]) == (name, agent)
    assert run["work"]["script"]["path"] == str(market.project.folder / "market/functions" / script)
    key = ("baseline_stats", "noise_profile", "meta_state")[index]
    assert result[key]
    assert result["as_of"] == "2018-12-31"


@pytest.mark.seed(
    "cycles-001/diagram-writes-evidence-bundles",
    "cycles-001/state-complete-evidence",
    "cycles-001/evidence-stored-per-cycle",
    "cycles-001/reconciliation-evidence-bundles",
    "cycles-001/audit-complete-evidence",
)
def test_a_cycle_is_exported_as_a_bundle_that_verifies(market: Market, tmp_path: Path) -> None:
    """Entries, proofs, outputs and checkpoint, checked with the public keys and nothing else."""
    bundle = tmp_path / "bundle"
    market.project.done("export", market.label, "--out", bundle)
    keys = market.project.folder / ".runwright" / "keys"
    trust = [
        word for name in ("ledger", "evidence") for word in ("--key", keys / f"{name}.pub.pem")
    ]
    report = market.project.done("verify", bundle, *trust, "--json", folder=tmp_path).json
    assert report["held"]
    assert report["judged"] == 1
    entries = (bundle / "entries.jsonl").read_text().splitlines()
    types = [json.loads(line)["type"] for line in entries]
    assert types.count("run.finished") == 3
    (bundle / "entries.jsonl").write_text("\n".join(entries).replace('"done"', '"dome"') + "\n")
    assert market.project.run("verify", bundle, *trust, folder=tmp_path).status == 6


# ------------------------------------------------------------------------------ key features


@pytest.mark.seed("cycles-001/registry-filter-task-type", "cycles-001/registry-filter-enabled")
def test_only_enabled_rows_of_the_type_run(fresh: Project) -> None:
    """A row of another type and a disabled one are not in the plan."""
    change = "UPDATE task_registry SET {} WHERE task_name = ?"
    fresh.sql(change.format("task_type = 'SYSTEM_FUNCTION'"), NAMES[0])
    fresh.sql(change.format("enabled = FALSE"), NAMES[1])
    assert [run["function"] for run in plan(fresh)["runs"]] == [NAMES[2]]
    fresh.sql(change.format("enabled = TRUE"), NAMES[1])
    assert [run["function"] for run in plan(fresh)["runs"]] == NAMES[1:]


@pytest.mark.seed(
    "cycles-001/registry-respects-configuration", "cycles-001/registry-changed-by-sql"
)
def test_a_row_changed_by_sql_shows_in_the_next_plan(fresh: Project) -> None:
    """And in what the function does with its configuration."""
    fresh.sql(
        "UPDATE task_registry SET task_config = json_set(task_config, '$.as_of', '2015-08-26',"
        " '$.timeout_s', 44) WHERE task_name = ?",
        NAMES[0],
    )
    assert plan(fresh)["runs"][0]["timeout_s"] == 44
    fresh.done("run", "market", "--function", NAMES[0])
    (run,) = fresh.done("show", "latest", "--json").json["runs"]
    assert run["value"]["result"]["as_of"] == "2015-08-26"


@pytest.mark.seed("cycles-001/subprocess-isolated")
def test_each_function_is_isolated_and_the_level_is_recorded(project: Project) -> None:
    """Sessions, scratch folders and processes of their own, and nothing of our environment."""
    source = (
        "import os\nprint(os.getpid() == os.getsid(0), os.environ['HOME'], 'X' in os.environ)\n"
    )
    project.apply(project.task("a", source), project.task("b", source))
    project.done("run", "demo", env={"X": "1"})
    runs = project.done("show", "demo", "--json").json["runs"]
    told = [run["outputs"][0]["tail"].split() for run in runs]
    assert [(first, last) for first, _, last in told] == [("True", "False")] * 2
    assert told[0][1] != told[1][1]
    assert [run["level"] for run in runs] == [best_level()] * 2


@pytest.mark.seed("cycles-001/subprocess-timeout-default", "cycles-001/config-function-timeout")
def test_five_minutes_are_the_default_for_a_function(project: Project) -> None:
    """Unless its task_config says otherwise."""
    project.apply(project.task("a", HELLO), project.task("b", HELLO, timeout_s=20))
    found = [run["timeout_s"] for run in plan(project, name="demo")["runs"]]
    assert found == [300, 20]


@pytest.mark.seed("cycles-001/subprocess-captures-output")
def test_both_outputs_are_captured(project: Project) -> None:
    """Both apart, as evidence and on the terminal."""
    project.apply(project.task("a", "import sys\nprint('out')\nprint('err', file=sys.stderr)\n"))
    project.done("run", "demo")
    (result,) = project.evidence()["results"]
    assert (result["stdout"], result["stderr"]) == ("out\n", "err\n")
    assert project.done("show", "demo", "--output", "stderr").stdout == "err\n"


@pytest.mark.seed(
    "cycles-001/mode-continuous",
    "cycles-001/usage-continuous",
    "cycles-001/config-continuous-interval",
)
def test_continuous_runs_every_hour_by_default(project: Project) -> None:
    """3600 s for a spec that says nothing, and it goes on until a signal."""
    project.apply(project.task("a", HELLO))
    running = project.start("run", "demo", "--continuous")
    running.wait_event("round.judged")
    assert running.process.poll() is None
    running.send(signal.SIGTERM)
    assert running.end().status == 0
    assert [body["interval_s"] for body in project.bodies("schedule.overridden")] == [3600]


@pytest.mark.seed("cycles-001/usage-continuous-interval")
def test_another_interval_wins_for_this_process_and_is_recorded(fresh: Project) -> None:
    """--interval 1800, as the document gives it."""
    running = fresh.start("run", "market", "--continuous", "--interval=1800")
    running.wait_event("conductor.started")
    running.send(signal.SIGTERM)
    assert running.end().status in (0, 143)
    (override,) = fresh.bodies("schedule.overridden")
    assert (override["name"], override["interval_s"]) == ("market", 1800)
    (row,) = fresh.done("show", "schedule", "--json").json
    assert row["schedule"] == "every 3600 s"


@pytest.mark.seed("cycles-001/mode-filtered", "cycles-001/usage-function")
def test_one_function_is_executed_by_its_name(fresh: Project) -> None:
    """--function=vision_signal_inference_baseline, as the document gives it."""
    done = fresh.done("run", "market", f"--function={NAMES[0]}", "--json")
    assert done.json["outcomes"] == {"done": 1}
    assert [
        result["task_name"] for result in fresh.evidence(done.json["label"])["results"]
    ] == NAMES[:1]


@pytest.mark.seed(
    "cycles-001/performance-time-per-function", "cycles-001/economic-resource-tracking"
)
def test_time_processor_and_memory_of_each_function_are_recorded(market: Market) -> None:
    """In the ledger, in show, and in the evidence, with the same values."""
    for run, result in zip(market.shown["runs"], market.evidence["results"], strict=True):
        used = run["used"]
        assert 0 < used["duration_ms"] < 60_000
        assert 0 < used["cpu_ms"] < 60_000
        assert used["peak_kib"] > 5_000
        assert result["execution_time_seconds"] == used["duration_ms"] / 1000
        assert result["cpu_seconds"] == used["cpu_ms"] / 1000
        assert result["peak_memory_kib"] == used["peak_kib"]
        assert (
            f"{used['duration_ms'] / 1000:.3f}" in market.project.done("show", market.label).stdout
        )


@pytest.mark.seed("cycles-001/performance-success-failure-counts")
def test_successes_and_failures_are_counted(fresh: Project) -> None:
    """In the verdict and in the evidence."""
    fresh.sql(
        "UPDATE task_registry SET task_config = json_set(task_config, '$.min_rows', 9999)"
        " WHERE task_name = ?",
        NAMES[0],
    )
    label = fresh.done("run", "market", "--json", status=5).json["label"]
    counts = fresh.done("show", label, "--json").json["counts"]
    assert (counts["success_count"], counts["failure_count"]) == (2, 1)
    evidence = fresh.evidence(label)
    assert (evidence["success_count"], evidence["failure_count"]) == (2, 1)


# --------------------------------------------------------------------- installation and grants


@pytest.mark.seed("cycles-001/install-functions-registered", "cycles-001/trouble-no-tasks-register")
def test_apply_registers_three_functions_as_often_as_wanted(fresh: Project) -> None:
    """The second time nothing changes; a row that was deleted comes back."""
    counted = "SELECT count(*) FROM task_registry WHERE enabled AND task_type = 'VISION_FUNCTION'"
    assert fresh.sql(counted) == [(3,)]
    assert fresh.done("apply", "market/cycle.yaml").stdout == "cycles/market: unchanged\n"
    fresh.sql("DELETE FROM task_registry WHERE task_name = ?", NAMES[1])
    assert fresh.done("apply", "market/cycle.yaml").stdout == "cycles/market: applied (1 added)\n"
    assert fresh.sql(counted) == [(3,)]


@pytest.mark.seed("cycles-001/install-function-files-exist", "cycles-001/trouble-file-not-found")
def test_a_function_file_that_is_missing_is_named(fresh: Project) -> None:
    """The dry run exits 2 and names each; the cycle runs the others and fails those."""
    for name in NAMES[:2]:
        fresh.sql(
            "UPDATE task_registry SET task_config = json_set(task_config, '$.function_path', ?)"
            " WHERE task_name = ?",
            *(f"functions/{name}.moved.py", name),
        )
    problems = plan(fresh, status=2)["problems"]
    folder = fresh.folder / "market" / "functions"
    assert problems == [
        f"{name}: Function file not found: {folder / name}.moved.py" for name in NAMES[:2]
    ]
    done = fresh.done("run", "market", "--json", status=5)
    assert done.json["outcomes"] == {"failed": 2, "done": 1}


@pytest.mark.seed("cycles-001/env-granted-to-functions")
def test_a_function_reaches_what_was_granted_and_nothing_else(project: Project) -> None:
    """PGHOST to the one that may, nothing to the other."""
    source = "import os\nprint(os.environ.get('PGHOST'), os.environ.get('PGPORT'))\n"
    project.apply(project.task("a", source, env=["PGHOST"]), project.task("b", source))
    project.done("run", "demo", env={"PGHOST": "127.0.0.1", "PGPORT": "54322"})
    told = [result["stdout"] for result in project.evidence()["results"]]
    assert told == ["127.0.0.1 None\n", "None None\n"]


@pytest.mark.seed("cycles-001/env-anthropic-api-key")
def test_the_key_of_a_model_is_granted_and_masked(project: Project) -> None:
    """The function has it; nothing that is kept or printed does."""
    key = "sk-ant-abcdefghij"
    source = "import os\nkey = os.environ['ANTHROPIC_API_KEY']\nprint(len(key), key)\n"
    grant = ["ANTHROPIC_API_KEY"]
    project.apply(project.task("a", source, env=grant, secret=grant))
    done = project.done("run", "demo", env={"ANTHROPIC_API_KEY": key})
    told = project.evidence()["results"][0]["stdout"]
    assert told.startswith(f"{len(key)} ")
    assert key not in told + done.stdout + done.stderr
    assert all(key.encode() not in data for _, data in project.everything())


# ------------------------------------------------------------------------------- usage, output


@pytest.mark.seed("cycles-001/usage-help", "cycles-001/support-documentation")
def test_every_command_explains_itself(tmp_path: Path) -> None:
    """--help of the product, of `run` with every option of the document, and of the others."""
    project = Project(tmp_path)
    text = project.done("run", "--help").stdout
    for option in ("--continuous", "--interval", "--dry-run", "--function", "--help"):
        assert option in text
    commands = re.findall(r"^  ([a-z]+) ", project.done("--help").stdout, re.MULTILINE)
    assert {"init", "apply", "run", "show", "export", "verify"} <= set(commands)
    reference = (REPOSITORY / "docs" / "reference" / "commands.md").read_text(encoding="utf-8")
    for name in commands:
        usage = project.done(name, "--help").stdout.splitlines()[0]
        assert usage.startswith("Usage: ")
        assert f"runwright {name}" in reference


@pytest.mark.seed("cycles-001/output-timestamps")
def test_messages_carry_time_and_level(fresh: Project, market: Market) -> None:
    """In lines for people as the document shows them, and as JSON lines for machines."""
    form = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d - vision_ios_orchestrator - INFO - .+")
    assert all(form.fullmatch(line) for line in market.ran.stderr.splitlines())
    events = fresh.done("run", "market").events
    assert {event["level"] for event in events} == {"info"}
    assert events[0]["event"] == "round.planned"
    assert all(isinstance(event["ts"], int) for event in events)


@pytest.mark.seed("cycles-001/output-cycle-id", "cycles-001/output-hash-chain")
def test_the_output_names_cycle_and_chain(market: Market) -> None:
    """CYCLE_ and the planned time in UTC; the chain's label is made of it."""
    planned = re.sub(r"[-:Z]", "", market.shown["planned"]).replace("T", "_")
    assert market.label == f"CYCLE_{planned}"
    assert lines(market)[1] == f"Cycle ID: {market.label}"
    assert lines(market)[2] == f"Hash Chain: HC-LARS-ORCHESTRATOR-{market.label}"
    assert market.evidence["hash_chain_id"] == f"HC-LARS-ORCHESTRATOR-{market.label}"


@pytest.mark.seed("cycles-001/output-store-connection", "cycles-001/output-functions-found")
def test_the_output_says_that_the_store_is_reached_and_what_was_found(market: Market) -> None:
    """The path of the store, and how many functions are enabled; `doctor` says it too."""
    assert lines(market)[3:6] == [
        f"Connected to {market.project.store}",
        "Reading tasks from registry...",
        "Found 3 enabled functions",
    ]
    found = {each["what"]: each for each in market.project.done("doctor", "--json").json}
    assert found["store"] == {"what": "store", "state": "ok", "detail": str(market.project.store)}


@pytest.mark.seed("cycles-001/output-action-id")
def test_the_action_id_is_the_place_of_the_start_in_the_ledger(market: Market) -> None:
    """The entry that it names is the START of this cycle."""
    found = re.fullmatch(r"Cycle start logged: action_id=(\d+)", lines(market)[6])
    assert found
    entry = market.project.done("ledger", "entry", found[1]).json
    assert (entry["type"], entry["body"]["label"]) == ("round.planned", market.label)


@pytest.mark.seed("cycles-001/output-progress", "cycles-001/output-result")
def test_the_output_shows_progress_and_result_of_each_function(market: Market) -> None:
    """[1/3] Executing, then SUCCESS, three times; a failure says why."""
    told = lines(market)[7:13]
    assert told[0] == "[1/3] Executing: vision_signal_inference_baseline (Agent: FINN)"
    for index, (name, agent, _) in enumerate(FUNCTIONS):
        assert told[2 * index] == f"[{index + 1}/3] Executing: {name} (Agent: {agent})"
        assert re.fullmatch(rf"SUCCESS: {name} \(\d+\.\d\d s\)", told[2 * index + 1])


# --------------------------------------------------------------------- configuration, monitoring


@pytest.mark.seed("cycles-001/config-default-window-hours")
def test_a_wider_window_changes_what_is_computed(fresh: Project) -> None:
    """default_window_hours in the spec file, then apply, as an operator would."""
    file = fresh.folder / "market" / "cycle.yaml"
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace("default_window_hours: 960", "default_window_hours: 1920", 1))
    assert fresh.done("apply", "market/cycle.yaml").stdout == "cycles/market: applied (1 changed)\n"
    before = fresh.evidence()["results"][0]["result"]
    label = fresh.done("run", "market", "--json").json["label"]
    after = fresh.evidence(label)["results"][0]["result"]
    assert (before["window_hours"], after["window_hours"]) == (960, 1920)
    assert after["rows"] > before["rows"]
    assert after["baseline_stats"] != before["baseline_stats"]


@pytest.mark.seed("cycles-001/monitor-function-result")
def test_the_first_function_reports_its_mean_price(market: Market) -> None:
    """baseline_stats.mean_price of the last 40 days of the extract."""
    result = market.shown["runs"][0]["value"]["result"]
    assert result["baseline_stats"]["mean_price"] == "2600.3512"


# ------------------------------------------------------------------------------------- evidence


@pytest.mark.seed(
    "cycles-001/evidence-cycle-id",
    "cycles-001/evidence-orchestrator-version",
    "cycles-001/evidence-execution-timestamp",
    "cycles-001/evidence-tasks-executed",
    "cycles-001/evidence-cycle-status",
)
def test_the_evidence_has_the_keys_of_the_document(market: Market) -> None:
    """With the document's values for a cycle of three functions that succeeded."""
    evidence = market.evidence
    assert evidence["cycle_id"] == market.label
    assert evidence["orchestrator_version"] == "1.0.0"
    stamp = evidence["execution_timestamp"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", stamp)
    assert stamp >= market.shown["planned"]
    assert evidence["tasks_executed"] == 3
    assert evidence["cycle_status"] == "COMPLETED"


@pytest.mark.seed(
    "cycles-001/evidence-results",
    "cycles-001/evidence-result-task-name",
    "cycles-001/evidence-result-agent-id",
    "cycles-001/evidence-result-success",
    "cycles-001/evidence-result-exit-code",
    "cycles-001/evidence-result-execution-time",
    "cycles-001/evidence-result-stdout",
)
def test_each_result_has_the_keys_of_the_document(market: Market) -> None:
    """One for each function, in order."""
    results = market.evidence["results"]
    assert [result["task_name"] for result in results] == NAMES
    assert [result["agent_id"] for result in results] == ["FINN", "STIG", "LARS"]
    assert [result["success"] for result in results] == [True, True, True]
    assert [result["exit_code"] for result in results] == [0, 0, 0]
    assert all(0 < result["execution_time_seconds"] < 60 for result in results)
    assert results[0]["stdout"].startswith("S&P 500 baseline: 25 rows, 2018-11-23 to 2018-12-31")
    whole = market.project.done("show", market.label, "--output", "stdout", "--function", NAMES[0])
    assert results[0]["stdout"] == whole.stdout[-500:]


# ----------------------------------------------------------------------------------- checklists


@pytest.mark.seed("cycles-001/architecture-deterministic")
def test_the_same_registry_gives_the_same_plan_and_the_same_verdict(market: Market) -> None:
    """Twice the plan is equal, and every recorded round is planned and judged again, equal."""
    first, second = plan(market.project)["runs"], plan(market.project)["runs"]
    assert first == second
    report = market.project.done("verify", "--store", "--rejudge", "--json").json
    assert report["held"]
    assert report["judged"] == 1


@pytest.mark.seed("cycles-001/audit-hash-chain-ids")
def test_a_changed_record_is_found_and_its_place_named(fresh: Project) -> None:
    """One letter of one entry, changed behind our back."""
    fresh.sql("DROP TRIGGER entry_is_never_edited")
    fresh.sql("UPDATE entry SET raw = CAST(replace(raw, 'FINN', 'FYNN') AS BLOB) WHERE seq = 0")
    raw = fresh.sql("SELECT raw FROM entry WHERE seq = 7")[0][0].replace(b'"done"', b'"dome"')
    fresh.sql("UPDATE entry SET raw = ? WHERE seq = 7", raw)
    report = fresh.run("verify", "--store", "--json")
    assert report.status == 6
    assert report.json["first_bad"] == 7


@pytest.mark.seed("cycles-001/audit-signatures")
def test_the_seal_is_checked_with_the_key_of_the_caller(market: Market, tmp_path: Path) -> None:
    """With this ledger's public key it holds; with that of another ledger it does not."""
    other = Project(tmp_path)
    other.done("init", "--name", "other")
    key = market.project.folder / ".runwright/keys/ledger.pub.pem"
    assert market.project.done("verify", "--store", "--key", key).status == 0
    wrong = other.folder / ".runwright/keys/ledger.pub.pem"
    assert market.project.run("verify", "--store", "--key", wrong).status == 6


@pytest.mark.seed("cycles-001/economic-timeout", "cycles-001/trouble-timeout")
def test_a_function_that_takes_too_long_is_ended_with_all_it_started(
    project: Project, tmp_path: Path
) -> None:
    """Reason `timeout`, what it said is kept, and no process of it is left."""
    marker = f"slow-{tmp_path.name}"
    source = f"""
import subprocess, sys, time
print("begun", flush=True)
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", {marker!r}],
                 start_new_session=True)
time.sleep(600)
"""
    project.apply(project.task("a", source, timeout_s=0.5))
    project.done("run", "demo", status=5)
    (run,) = project.done("show", "demo", "--json").json["runs"]
    assert (run["status"], run["reason"]) == ("failed", "timeout")
    assert run["outputs"][0]["tail"] == "begun\n"
    assert processes(marker) == []


@pytest.mark.seed("cycles-001/trouble-timeout-increase")
def test_a_longer_timeout_is_applied(fresh: Project) -> None:
    """timeout_s: 600 in the spec file, then apply."""
    file = fresh.folder / "market" / "cycle.yaml"
    file.write_text(file.read_text().replace("timeout_s: 60", "timeout_s: 600", 1))
    fresh.done("apply", "market/cycle.yaml")
    assert [run["timeout_s"] for run in plan(fresh)["runs"]] == [600, 60, 60]


@pytest.mark.seed("cycles-001/economic-failure-isolation")
def test_one_failure_does_not_stop_the_cycle(project: Project) -> None:
    """COMPLETED_WITH_FAILURES and 5."""
    project.apply(project.task("a", HELLO), project.task("b", "1 / 0\n"), project.task("c", HELLO))
    done = project.run("run", "demo", "--json")
    assert (done.status, done.json["outcome"]) == (5, "COMPLETED_WITH_FAILURES")
    assert [result["success"] for result in project.evidence()["results"]] == [True, False, True]


@pytest.mark.seed("cycles-001/trouble-no-tasks")
def test_no_tasks_is_said_and_is_no_success(fresh: Project) -> None:
    """Disabled or deleted, the message is the document's."""
    fresh.sql("UPDATE task_registry SET enabled = 0")
    done = fresh.run("run", "market")
    assert done.status == 2
    assert "No tasks found" in done.error[1]
    fresh.sql("DELETE FROM task_registry")
    assert "No tasks found" in fresh.run("run", "market").error[1]


# ------------------------------------------------------------------------------ testing, history


@pytest.mark.slow
@pytest.mark.seed("cycles-001/test-single-cycle")
def test_the_demo_runs_cycles_exports_verifies_and_tampers(tmp_path: Path) -> None:
    """What `make demo` runs, in an empty folder."""
    done = subprocess.run(
        [sys.executable, MARKET / "demo.py"],
        cwd=tmp_path,
        env={**os.environ, "NO_COLOR": "1", "PYTHONPATH": str(Path(runwright.__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert len(list(tmp_path.glob("build/demo/out/evidence/CYCLE_*.json"))) == 2
    assert done.stdout.count("COMPLETED") >= 2
    assert re.search(r"^VERIFIED ", done.stdout, re.MULTILINE)
    assert re.search(r"^NOT VERIFIED .*first bad entry: seq \d+", done.stdout, re.MULTILINE)


@pytest.mark.seed("cycles-001/version-history")
def test_the_version_stands_in_the_record_of_each_cycle(fresh: Project, market: Market) -> None:
    """A cycle keeps the versions that it ran with; a new one shows from the next cycle on."""
    assert market.shown["product"] == runwright.__version__
    file = fresh.folder / "market" / "cycle.yaml"
    file.write_text(file.read_text() + "orchestrator_version: 1.1.0\n")
    fresh.done("apply", "market/cycle.yaml")
    label = fresh.done("run", "market", "--json").json["label"]
    assert fresh.evidence(label)["orchestrator_version"] == "1.1.0"
    assert fresh.evidence(market.label)["orchestrator_version"] == "1.0.0"
    applied = fresh.bodies("spec.applied")
    assert [later["replaces"] for later in applied[1:]] == [each["digest"] for each in applied[:-1]]
    assert (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8").startswith("# Changelog")


# ---------------------------------------------------------------------------- people and agents


@pytest.fixture(scope="module")
def audited(market: Market, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A copy of the project with an owner and the auditor VEGA."""
    project = market.project.copy_to(tmp_path_factory.mktemp("audited"))
    for name in ("ada", "VEGA"):
        project.done("key", "new", name)
    owner = ["--name", "Ada", "--role", "owner", "--key", "ada.key.pub"]
    project.done("people", "add", "ada", *owner)
    auditor = ["--name", "Vega", "--role", "auditor", "--key", "VEGA.key.pub"]
    signed = ["--as", "ada", "--signing-key", "ada.key", "--yes"]
    project.done("people", "add", "VEGA", *auditor, *signed)
    return project


@pytest.mark.seed("cycles-001/support-auditor")
def test_vega_is_the_auditor(audited: Project) -> None:
    found = audited.done("people", "show", "VEGA", "--json").json
    assert (found["roles"], found["revoked"]) == (["auditor"], None)
    words = ["--as", "VEGA", "--reason", "x", "--key", "VEGA.key", "--yes"]
    refused = audited.done("decide", "spec/market", "freeze", *words, status=2)
    assert refused.error[0] == "denied"


@pytest.mark.seed("cycles-001/state-vega-attestation")
def test_vega_attests_a_cycle(audited: Project, market: Market) -> None:
    words = ["--as", "VEGA", "--reason", "as planned", "--key", "VEGA.key", "--yes"]
    audited.done("decide", market.label, "attest", *words)
    (made,) = audited.done("show", market.label, "--json").json["decisions"]
    assert (made["action"], made["person"], made["seqs"]) == ("attest", "VEGA", market.shown["seq"])
    assert audited.done("verify", "--store", "--json").json["held"]


@pytest.mark.seed("cycles-001/architecture-agent-identity")
def test_the_orchestrating_agent_has_a_key_of_its_own(audited: Project, market: Market) -> None:
    (key,) = audited.done("key", "show", "--agent", "LARS", "--json").json
    assert key["state"] == "ACTIVE"
    others = {row["agent"]: row["key"] for row in audited.done("key", "list", "--json").json}
    assert set(others) == {"FINN", "LARS", "STIG"}
    assert len(set(others.values())) == 3
    assert market.ran.stderr.count("HC-LARS-ORCHESTRATOR-") >= 1
