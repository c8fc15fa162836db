"""The demands of cycles-001 that speak to the governance tables, asked on both stores.

The statements are those of the document. On SQLite the store is attached under the names of the
schemas; only `::INTEGER`, which SQLite does not know, is written as a CAST there.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import sqlite3
from collections.abc import Iterator
from typing import Any, NamedTuple

import psycopg.rows
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from tests.e2e.project import SOON_S, Project
from tests.postgres.project import SharedProject
from tests.seeds.test_cycles_001 import FUNCTIONS, MARKET, NAMES

pytestmark = pytest.mark.slow

SCHEMAS = ("fhq_governance", "vision_core")


class Asked(NamedTuple):
    """A project of the market example in which two cycles ran: one whole, one with a failure."""

    project: Project
    first: str
    second: str

    def ask(self, statement: str) -> list[dict[str, Any]]:
        """Return the rows of a statement as values by column, JSON decoded."""
        return [
            {name: _value(name, value) for name, value in row.items()}
            for row in _rows(self.project, statement)
        ]


def _value(name: str, value: Any) -> Any:
    is_json = isinstance(value, str) and name in ("metadata", "state_value", "task_config")
    return json.loads(value) if is_json else value


def _rows(project: Project, statement: str) -> list[dict[str, Any]]:
    if isinstance(project, SharedProject):
        with psycopg.connect(
            project.url, autocommit=True, row_factory=psycopg.rows.dict_row
        ) as shared:
            done = shared.execute(statement.encode())
            return done.fetchall() if done.description else []
    statement = statement.replace(
        "(state_value->>'tasks_executed')::INTEGER",
        "CAST(state_value->>'tasks_executed' AS INTEGER)",
    )
    with contextlib.closing(sqlite3.connect(":memory:", timeout=SOON_S)) as db:
        db.row_factory = sqlite3.Row
        for schema in SCHEMAS:
            db.execute(f"ATTACH ? AS {schema}", (str(project.store),))
        rows = [dict(row) for row in db.execute(statement).fetchall()]
        db.commit()
    return rows


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def asked(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Asked]:
    """The two cycles, on each store."""
    folder = tmp_path_factory.mktemp(request.param)
    project = Project(folder)
    if request.param == "postgres":
        server = request.getfixturevalue("server")
        project = SharedProject(folder, server, server.new_database())
    project.done("init", "--name", "market")
    shutil.copytree(MARKET, project.folder / "market", ignore=shutil.ignore_patterns("*.pyc"))
    project.done("apply", "market/cycle.yaml")
    first = project.done("run", "market", "--json").json["label"]
    script = project.folder / "market" / "functions" / FUNCTIONS[1][2]
    source = script.read_text()
    script.write_text("import sys\nsys.exit('no noise today')\n")
    second = project.done("run", "market", "--json", status=5).json["label"]
    script.write_text(source)
    yield Asked(project, first, second)
    project.close()


# ------------------------------------------------------------------------------- the log


@pytest.mark.seed(
    "cycles-001/diagram-governance-tables",
    "cycles-001/install-foundation-schemas",
    "cycles-001/monitor-support-log",
    "cycles-001/log-cycle-start",
    "cycles-001/log-cycle-completion",
    "cycles-001/audit-logs-all-cycles",
)
def test_all_cycles_stand_in_the_governance_log(asked: Asked) -> None:
    """Newest first: both ends of both cycles, and the registration before them."""
    rows = asked.ask(
        """
        SELECT * FROM fhq_governance.governance_actions_log
        WHERE action_type LIKE 'VISION_ORCHESTRATOR%'
        ORDER BY timestamp DESC
        LIMIT 20;
        """
    )
    found = [(row["action_type"], row["decision"], row["metadata"].get("cycle_id")) for row in rows]
    assert sorted(found, key=str) == sorted(
        [
            ("VISION_ORCHESTRATOR_CYCLE", "COMPLETED_WITH_FAILURES", asked.second),
            ("VISION_ORCHESTRATOR_CYCLE_START", "IN_PROGRESS", asked.second),
            ("VISION_ORCHESTRATOR_CYCLE", "COMPLETED", asked.first),
            ("VISION_ORCHESTRATOR_CYCLE_START", "IN_PROGRESS", asked.first),
            ("VISION_ORCHESTRATOR_REGISTRATION", "APPROVED", None),
        ],
        key=str,
    )
    started = rows[[name for name, *_ in found].index("VISION_ORCHESTRATOR_CYCLE_START")]
    assert started["metadata"]["tasks_scheduled"] == 3
    assert started["metadata"]["task_names"] == NAMES
    ended = rows[[decision for _, decision, _ in found].index("COMPLETED_WITH_FAILURES")]
    counts = {name: ended["metadata"][name] for name in ("tasks_executed", "success_count")}
    assert (counts, ended["metadata"]["failure_count"]) == (
        {"tasks_executed": 3, "success_count": 2},
        1,
    )
    assert [it["task_name"] for it in ended["metadata"]["execution_results"]] == NAMES


def test_the_log_has_the_columns_of_the_document_in_its_order(asked: Asked) -> None:
    """And action_id is the seq of the entry."""
    rows = asked.ask("SELECT * FROM fhq_governance.governance_actions_log ORDER BY action_id")
    assert (
        list(rows[0])
        == (
            "action_id action_type action_target action_target_type initiated_by initiated_at"
            " decision decision_rationale metadata hash_chain_id signature vega_reviewed"
            " vega_override agent_id timestamp"
        ).split()
    )
    assert len(rows) == 1 + 2 * (2 + 3)
    assert [row["action_id"] for row in rows] == [row["metadata"]["seq"] for row in rows]


@pytest.mark.seed("cycles-001/log-hash-chain-ids")
def test_each_action_names_its_chain_and_its_leaf(asked: Asked) -> None:
    """hash_chain_id is the label; the leaf is the hash in the tree, computed here again."""
    import hashlib  # the standard's own words, beside the test that uses them

    raws = {
        json.loads(bytes(raw))["seq"]: bytes(raw)
        for (raw,) in asked.project.sql("SELECT raw FROM entry")
    }
    rows = asked.ask("SELECT * FROM fhq_governance.governance_actions_log")
    for row in rows:
        label = row["metadata"].get("cycle_id", "market")
        assert row["hash_chain_id"] == f"HC-LARS-ORCHESTRATOR-{label}"
        leaf = hashlib.sha256(b"\0" + raws[row["action_id"]]).hexdigest()
        assert row["metadata"]["leaf"] == leaf


@pytest.mark.seed("cycles-001/log-signatures")
def test_each_action_is_checked_with_the_public_key_alone(asked: Asked) -> None:
    """Ed25519 of its agent over its leaf; a leaf that is altered by one bit does not verify."""
    rows = asked.ask("SELECT * FROM fhq_governance.governance_actions_log")
    assert len(rows) == 1 + 2 * (2 + 3)
    for row in rows:
        (held,) = asked.project.done("key", "show", "--agent", row["agent_id"], "--json").json
        public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(held["key"]))
        leaf = bytes.fromhex(row["metadata"]["leaf"])
        public.verify(bytes.fromhex(row["signature"]), leaf)
        with pytest.raises(InvalidSignature):
            public.verify(bytes.fromhex(row["signature"]), bytes([leaf[0] ^ 1]) + leaf[1:])


def test_what_an_auditor_attested_is_reviewed(asked: Asked) -> None:
    """The rows of that cycle and no other; an attestation overrides nothing."""
    project = asked.project
    for name in ("ada", "VEGA"):
        project.done("key", "new", name)
    signed = ["--as", "ada", "--signing-key", "ada.key", "--yes"]
    owner = ["--name", "Ada", "--role", "owner", "--key", "ada.key.pub"]
    project.done("people", "add", "ada", *owner)
    auditor = ["--name", "Vega", "--role", "auditor", "--key", "VEGA.key.pub"]
    project.done("people", "add", "VEGA", *auditor, *signed)
    words = ["--as", "VEGA", "--reason", "as planned", "--key", "VEGA.key", "--yes"]
    project.done("decide", asked.first, "attest", *words)
    rows = asked.ask("SELECT * FROM fhq_governance.governance_actions_log")
    for row in rows:
        assert bool(row["vega_reviewed"]) == (row["metadata"].get("cycle_id") == asked.first)
        assert not row["vega_override"]
    words = ["--as", "ada", "--reason", "it stands", "--key", "ada.key", "--yes"]
    project.done("decide", asked.second, "override", *words)
    rows = asked.ask("SELECT * FROM fhq_governance.governance_actions_log")
    for row in rows:
        assert bool(row["vega_override"]) == (row["metadata"].get("cycle_id") == asked.second)


@pytest.mark.seed(
    "cycles-001/architecture-agent-identity",
    "cycles-001/support-owner",
    "cycles-001/registration-migration",
    "cycles-001/registration-compliance",
)
def test_the_orchestrator_is_registered_as_lars(asked: Asked) -> None:
    """By an action and a row of the registry, with its rules and what it manages."""
    (row,) = asked.ask(
        "SELECT * FROM fhq_governance.task_registry WHERE task_type = 'SYSTEM_ORCHESTRATOR'"
    )
    assert (row["task_name"], row["agent_id"]) == ("vision_ios_orchestrator", "LARS")
    assert row["task_config"] == {
        "manages_tasks": NAMES,
        "compliance": ["ADR-007", "ADR-010", "ADR-002"],
        "version": "1.0.0",
    }
    rows = asked.ask(
        "SELECT * FROM fhq_governance.governance_actions_log"
        " WHERE action_type LIKE 'VISION_ORCHESTRATOR%'"
    )
    assert {row["agent_id"] for row in rows} == {"LARS"}
    (registered,) = (row for row in rows if row["decision"] == "APPROVED")
    assert registered["metadata"]["compliance"] == ["ADR-007", "ADR-010", "ADR-002"]
    assert registered["metadata"]["manages_tasks"] == NAMES


@pytest.mark.seed("cycles-001/monitor-function-evidence", "cycles-001/monitor-function-metadata")
def test_the_evidence_of_functions_is_asked_for_by_sql(asked: Asked) -> None:
    """The result of a function stands in the metadata of its row."""
    rows = asked.ask(
        """
        SELECT
            action_id,
            timestamp,
            decision,
            metadata->>'function' AS function_name,
            metadata->>'agent_id' AS agent_id,
            metadata->'baseline_stats'->>'mean_price' AS mean_price
        FROM fhq_governance.governance_actions_log
        WHERE action_type = 'VISION_FUNCTION_EXECUTION'
        ORDER BY timestamp DESC
        LIMIT 10;
        """
    )
    rows.sort(key=lambda row: row["action_id"])
    agents = [(name, agent) for name, agent, _ in FUNCTIONS]
    assert [(row["function_name"], row["agent_id"]) for row in rows] == agents * 2
    assert [row["decision"] for row in rows] == [
        *["COMPLETED"] * 3,
        *["COMPLETED", "FAILED", "COMPLETED"],
    ]
    detail = asked.project.done("show", asked.first, "--json").json
    mean = detail["runs"][0]["value"]["result"]["baseline_stats"]["mean_price"]
    assert [row["mean_price"] for row in rows] == [str(mean), None, None] * 2


# ------------------------------------------------------------------------------- state, metrics


@pytest.mark.seed(
    "cycles-001/state-execution-state",
    "cycles-001/monitor-orchestrator-state",
    "cycles-001/evidence-in-execution-state",
    "cycles-001/reconciliation-writes-state",
)
def test_the_state_of_the_orchestrator_is_asked_for_by_sql(asked: Asked) -> None:
    """One row a cycle, its value the evidence that also left as a file."""
    rows = asked.ask(
        """
        SELECT
            state_id,
            component_name,
            state_type,
            state_value->>'cycle_id' AS cycle_id,
            state_value->>'cycle_status' AS cycle_status,
            (state_value->>'tasks_executed')::INTEGER AS tasks,
            created_at
        FROM vision_core.execution_state
        WHERE component_name = 'vision_ios_orchestrator'
        ORDER BY created_at DESC
        LIMIT 5;
        """
    )
    rows.sort(key=lambda row: -row["state_id"])
    assert [(row["cycle_id"], row["cycle_status"], row["tasks"]) for row in rows] == [
        (asked.second, "COMPLETED_WITH_FAILURES", 3),
        (asked.first, "COMPLETED", 3),
    ]
    assert {row["state_type"] for row in rows} == {"ACTIVE"}
    states = asked.ask("SELECT * FROM vision_core.execution_state ORDER BY state_id")
    assert [state["state_version"] for state in states] == [1, 2]
    assert states[1]["previous_state_id"] == states[0]["state_id"]
    for label, state in zip((asked.first, asked.second), states, strict=True):
        value, left = state["state_value"], asked.project.evidence(label)
        for key in ("cycle_id", "execution_timestamp", "tasks_executed", "cycle_status"):
            assert value[key] == left[key]
        for held, gone in zip(value["results"], left["results"], strict=True):
            assert {key: held[key] for key in gone} == gone


@pytest.mark.seed("cycles-001/performance-metrics-table")
def test_metrics_stand_in_a_table(asked: Asked) -> None:
    """Time, processor, memory and exit of each function, and the rates of each cycle."""
    rows = asked.ask("SELECT * FROM vision_core.orchestrator_metrics ORDER BY metric_id")
    kinds = {
        (row["cycle_id"], row["metric_name"], row["metric_type"]): float(row["metric_value"])
        for row in rows
    }
    assert len(kinds) == len(rows) == 2 * (3 * 4 + 3)
    assert kinds[asked.second, NAMES[1], "FUNCTION_EXIT"] == 1
    assert kinds[asked.first, NAMES[1], "FUNCTION_EXIT"] == 0
    assert kinds[asked.first, "vision_ios_orchestrator", "SUCCESS_RATE"] == 100
    assert kinds[asked.second, "vision_ios_orchestrator", "SUCCESS_RATE"] == 66.67
    assert kinds[asked.second, "vision_ios_orchestrator", "ERROR_RATE"] == 33.33
    for name in NAMES:
        assert kinds[asked.first, name, "FUNCTION_DURATION"] > 0
        assert kinds[asked.first, name, "FUNCTION_PEAK_MEMORY_KIB"] > 0


# ------------------------------------------------------------------------------- the views


@pytest.mark.seed(
    "cycles-001/monitor-latest-executions", "cycles-001/monitor-latest-executions-columns"
)
def test_the_latest_executions_are_asked_for_by_sql(asked: Asked) -> None:
    """Newest first, under the columns of the document, with the whole metadata last."""
    rows = asked.ask(
        """
        SELECT * FROM vision_core.v_orchestrator_latest_executions
        LIMIT 10;
        """
    )
    assert (
        list(rows[0])
        == (
            "action_id timestamp cycle_status cycle_id tasks_executed success_count failure_count"
            " metadata"
        ).split()
    )
    values = [tuple(row.values())[2:7] for row in rows]
    assert values == [
        ("COMPLETED_WITH_FAILURES", asked.second, 3, 2, 1),
        ("COMPLETED", asked.first, 3, 3, 0),
    ]


@pytest.mark.seed("cycles-001/monitor-performance", "cycles-001/monitor-performance-columns")
def test_the_performance_is_asked_for_by_sql(asked: Asked) -> None:
    """One row about seven days."""
    (row,) = asked.ask("SELECT * FROM vision_core.v_orchestrator_performance;")
    assert (
        list(row)
        == (
            "total_cycles_7d total_tasks_executed total_successes total_failures"
            " success_rate_percent earliest_cycle latest_cycle"
        ).split()
    )
    *counts, earliest, latest = row.values()
    assert [float(count) for count in counts] == [2, 6, 5, 1, 83.33]
    assert earliest < latest


@pytest.mark.seed("cycles-001/performance-views")
def test_views_are_taken_down_and_made_again(asked: Asked) -> None:
    """Twice is as once; what has the name of one is left alone, and then nothing is made."""
    project = asked.project
    names = [
        "governance_actions_log",
        "v_orchestrator_latest_executions",
        "v_orchestrator_performance",
    ]
    before = asked.ask("SELECT * FROM vision_core.v_orchestrator_latest_executions")
    assert project.done("db", "install-views", "--json").json["views"] == names
    assert project.done("db", "uninstall-views", "--json").json["views"] == names
    assert project.done("db", "uninstall-views", "--json").json["views"] == []
    schema = "vision_core." if isinstance(project, SharedProject) else ""
    project.sql(f"CREATE VIEW {schema}v_orchestrator_performance AS SELECT 7 AS mine")
    taken = project.run("db", "install-views")
    assert (taken.status, taken.error[0]) == (2, "usage")
    assert "v_orchestrator_performance" in taken.error[1]
    assert project.done("db", "uninstall-views", "--json").json["views"] == []
    assert project.sql(f"SELECT mine FROM {schema}v_orchestrator_performance") == [(7,)]
    project.sql(f"DROP VIEW {schema}v_orchestrator_performance")
    assert project.done("db", "install-views", "--json").json["views"] == names
    assert asked.ask("SELECT * FROM vision_core.v_orchestrator_latest_executions") == before


def test_every_table_follows_from_the_ledger(asked: Asked) -> None:
    """Asked on the store itself; a row that is altered by SQL is found, and put right."""
    project = asked.project
    check = ("db", "rebuild", "--check", "--json")
    assert project.done(*check).json["differences"] == []
    name = "fhq_governance.governance_action"
    if not isinstance(project, SharedProject):
        name = "governance_action"
    project.sql(f"UPDATE {name} SET decision = 'PERFECT' WHERE decision = 'FAILED'")
    (found,) = project.done(*check, status=4).json["differences"]
    assert (found["table"], found["what"]) == ("governance_action", "decision")
    project.done("db", "rebuild")
    assert project.done(*check).json["differences"] == []
    assert project.sql(f"SELECT count(*) FROM {name} WHERE decision = 'FAILED'") == [(1,)]


# ------------------------------------------------------------------------------- the schedule


@pytest.mark.seed("cycles-001/config-schedule-row")
def test_the_row_of_the_schedule_drives_the_next_run(asked: Asked) -> None:
    """The statement of the document, beside a conductor that runs: obeyed without a restart."""
    project = asked.project

    def row() -> dict[str, Any]:
        (found,) = asked.ask(
            "SELECT * FROM vision_core.orchestrator_schedule"
            " WHERE schedule_name = 'vision_ios_hourly'"
        )
        return found

    before = row()
    assert (before["schedule_type"], before["interval_seconds"]) == ("INTERVAL", 3600)
    assert (before["execution_count"], before["last_execution_at"]) == (0, None)
    running = project.start("run", "market", "--continuous")
    running.wait_event("round.judged")
    asked.ask(
        """
        UPDATE vision_core.orchestrator_schedule
        SET interval_seconds = 1800  -- 30 minutes
        WHERE schedule_name = 'vision_ios_hourly';
        """
    )
    # A request wakes the conductor; applying the same spec again leaves what operators set.
    project.done("apply", "market/cycle.yaml")
    running.wait_event("schedule.changed")
    (shown,) = project.done("show", "schedule", "--json").json
    assert shown["schedule"] == "every 1800 s"
    running.send(signal.SIGTERM)
    assert running.end().status == 0
    after = row()
    assert (after["interval_seconds"], after["execution_count"]) == (1800, 1)
    assert after["next_execution_at"] > after["last_execution_at"]
    asked.ask("UPDATE vision_core.orchestrator_schedule SET schedule_type = 'EVENT_DRIVEN'")
    findings = project.run("doctor", "--json").json
    (found,) = (each for each in findings if each["what"] == "schedule")
    assert found["state"] == "problem"
    assert "EVENT_DRIVEN is not something that cycles run by" in found["detail"]
    asked.ask("UPDATE vision_core.orchestrator_schedule SET schedule_type = 'INTERVAL'")
    assert project.done("db", "rebuild", "--check", "--json").json["differences"] == []
