"""Reported against recorded state, through the real command line and a real store."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.people import decide, person
from tests.e2e.project import Project

HELLO = "print('hello')\n"
#: Reports what its task_config says, and acts: a line in effects/NAME.
REPORTS = """
import json, os, pathlib
config = json.load(open(os.environ["RUNWRIGHT_CONFIG"]))
folder = pathlib.Path(__file__).parent.parent / "effects"
with open(folder / pathlib.Path(__file__).stem, "a") as file:
    file.write("x")
json.dump(config.get("says", {}), open(os.environ["RUNWRIGHT_RESULT"], "w"))
"""
SNAPSHOTS = """SELECT component_name, discrepancy_score, reconciliation_status,
    reconciliation_action FROM reconciliation_snapshots ORDER BY snapshot_id"""


def tamper(project: Project, change: str) -> None:
    """Have the store change each new execution_state: what a broken writer would do."""
    project.sql("DROP TRIGGER IF EXISTS wrong")
    project.sql(
        "CREATE TRIGGER wrong AFTER INSERT ON execution_state BEGIN"
        f" {change.replace('$id', 'NEW.state_id')}; END"
    )


def set_field(field: str, value: str) -> str:
    return (
        f"UPDATE execution_state SET state_value = json_set(state_value, '$.{field}', {value})"
        " WHERE state_id = $id"
    )


def last(project: Project) -> dict[str, Any]:
    """Return the newest comparison, as the ledger has it."""
    found: dict[str, Any] = project.bodies("state.reconciled")[-1]
    return found


def effects(project: Project) -> dict[str, int]:
    folder = project.folder / "effects"
    return {path.name: path.stat().st_size for path in sorted(folder.glob("*"))}


def verified(project: Project) -> None:
    """The record holds, and every table follows from it."""
    project.done("verify", "--store")
    project.done("db", "rebuild", "--check")


@pytest.fixture
def one(project: Project) -> Iterator[Project]:
    """A project with one function."""
    project.apply(project.task("hello", HELLO))
    yield project
    project.close()


def test_a_cycle_that_reports_what_is_recorded_is_normal(one: Project) -> None:
    """Six fields, weighed by the table, in one entry between the verdict and the seal."""
    one.done("run", "demo")
    found = last(one)
    assert (found["component"], found["agent"]) == ("vision_ios_orchestrator", "LARS")
    assert (found["classification"], found["score"]) == ("NORMAL", "0.000000")
    assert {item["field"]: item["weight"] for item in found["fields"]} == {
        "cycle_id": "1.0",
        "tasks_executed": "1.0",
        "success_count": "0.8",
        "failure_count": "0.8",
        "orchestrator_version": "0.5",
        "execution_timestamp": "0.3",
    }
    types = [entry["type"] for entry in one.entries()]
    assert types[types.index("round.judged") + 1] == "state.reconciled"
    shown = one.done("show", "latest", "--json").json
    assert shown["sealed"]
    (told,) = shown["reconciliation"]
    assert (told["score"], told["classification"], told["differences"]) == (
        "0.000000",
        "NORMAL",
        [],
    )
    evidence = one.sql("SELECT evidence_type, verified, evidence_data FROM reconciliation_evidence")
    assert [row[:2] for row in evidence] == [("STATE", 1), ("HASH_CHAIN", 1)]
    entry = one.entries("state.reconciled")[0]
    assert json.loads(evidence[1][2])["prev"] == entry["prev"]
    verified(one)


def test_an_altered_state_is_found_and_a_suspension_is_requested_once(one: Project) -> None:
    """The worked values, made by a store that writes something else than it was given."""
    scores = []
    for field, value in (
        ("execution_timestamp", "'2020-01-01T00:00:00Z'"),
        ("orchestrator_version", "'9.9.9'"),
        ("success_count", "7"),
        ("tasks_executed", "7"),
    ):
        tamper(one, set_field(field, value))
        one.done("run", "demo")
        scores.append((last(one)["score"], last(one)["classification"]))
    tamper(one, "DELETE FROM execution_state WHERE state_id = $id")
    one.done("run", "demo")
    scores.append((last(one)["score"], last(one)["classification"]))
    one.sql("DROP TRIGGER wrong")
    one.done("run", "demo")
    scores.append((last(one)["score"], last(one)["classification"]))
    assert scores == [
        ("0.068182", "WARNING"),
        ("0.113636", "CATASTROPHIC"),
        ("0.181818", "CATASTROPHIC"),
        ("0.227273", "CATASTROPHIC"),
        ("1.000000", "CATASTROPHIC"),
        ("0.000000", "NORMAL"),
    ]
    # Nobody is asked again while a request waits, and nothing was suspended by asking.
    (asked,) = one.bodies("suspension.requested")
    assert (asked["agent"], asked["score"]) == ("LARS", "0.113636")
    assert [row[2:] for row in one.sql(SNAPSHOTS)] == [
        ("DIVERGENT", "MONITORED"),
        ("DIVERGENT", "SUSPENSION_REQUESTED"),
        *[("DIVERGENT", "SUSPENSION_PENDING")] * 3,
        ("RECONCILED", "CERTIFIED"),
    ]
    (row,) = one.sql(
        "SELECT vega_suspension_requested, vega_suspension_request_id, threshold_exceeded"
        " FROM reconciliation_snapshots WHERE vega_suspension_requested"
    )
    (request,) = one.entries("suspension.requested")
    assert row == (1, request["seq"], 1)
    assert f"suspension/{request['seq']}" in one.done("show").stdout
    assert f"suspension/{request['seq']}" in one.run("doctor").stdout
    catastrophe = one.entries("state.reconciled")[1]["body"]["label"]
    table = one.done("show", catastrophe).stdout
    assert "orchestrator_version" in table
    assert '"9.9.9"' in table
    one.done("verify", "--store")
    # The rows themselves were changed: that is what the rebuilt tables say too.
    assert "execution_state" in one.run("db", "rebuild", "--check").stdout


def test_weights_and_tolerances_are_those_of_the_table(one: Project) -> None:
    """Each change shows in the next cycle, and a table that says nothing certifies nothing."""
    tamper(one, set_field("orchestrator_version", "' 1.0.0 '"))
    weights = "UPDATE reconciliation_field_weights SET"
    version = "WHERE field_name = 'orchestrator_version'"
    one.sql(f"{weights} criticality_weight = 0.1 {version}")
    one.done("run", "demo")
    assert (last(one)["score"], last(one)["classification"]) == ("0.025000", "NORMAL")
    one.sql(f"{weights} criticality_weight = 1.0 {version}")
    one.done("run", "demo")
    assert (last(one)["score"], last(one)["classification"]) == ("0.204082", "CATASTROPHIC")
    one.sql(f"{weights} tolerance_type = 'STRING' {version}")
    one.done("run", "demo")
    assert (last(one)["score"], last(one)["classification"]) == ("0.000000", "NORMAL")
    one.sql("DELETE FROM reconciliation_field_weights")
    done = one.done("run", "demo")
    assert (last(one).get("classification", ""), last(one).get("score", "")) == ("", "")
    assert last(one)["problem"] == (
        "reconciliation_field_weights has no row for vision_ios_orchestrator"
    )
    assert [event["level"] for event in done.events if event["event"] == "state.reconciled"] == [
        "warning"
    ]
    assert one.sql(SNAPSHOTS)[-1][1:3] == (None, "PENDING")
    (told,) = one.done("show", "latest", "--json").json["reconciliation"]
    assert (told["status"], told["classification"]) == ("PENDING", "")
    # Applied again, the six rows are back.
    one.done("apply", "demo.yaml")
    one.done("run", "demo")
    assert len(last(one)["fields"]) == 6


def test_a_row_that_cannot_be_meant_is_told_and_nothing_passes(one: Project) -> None:
    """The store refuses it; where its checks are off, the cycle says which row is wrong."""
    wrong = "UPDATE reconciliation_field_weights SET criticality_weight = 1.5 WHERE weight_id = 2"
    with pytest.raises(Exception, match="CHECK constraint failed"):
        one.sql(wrong)
    one.sql("DROP TABLE reconciliation_field_weights")
    one.sql(
        "CREATE TABLE reconciliation_field_weights (weight_id, component_name, field_name,"
        " criticality_weight, tolerance_type, tolerance_value, description)"
    )
    one.sql(
        "INSERT INTO reconciliation_field_weights VALUES"
        " (1, 'vision_ios_orchestrator', 'cycle_id', 1.5, 'EXACT', NULL, '')"
    )
    one.done("run", "demo")
    assert "cycle_id: 1.5 is not within 0.1 to 1.0" in last(one)["problem"]
    assert one.sql(SNAPSHOTS)[-1][2] == "PENDING"


def test_a_function_is_held_against_its_own_record(project: Project) -> None:
    """What it reports, what it reports wrongly, and that it reports nothing."""
    says = {"task_name": "honest", "success": True, "exit_code": 0}
    project.apply(
        project.task("honest", REPORTS, says={"reported_state": says}),
        project.task("liar", REPORTS, says={"reported_state": {**says, "exit_code": 3}}),
        project.task("silent", REPORTS),
        project.task("unknown", REPORTS, says={"reported_state": says}),
        project.task("fails", "raise SystemExit(1)"),
        project.task("unasked", REPORTS),
    )
    for name in ("honest", "liar", "silent", "fails"):
        for field, weight in (("success", "1.0"), ("exit_code", "0.5")):
            project.sql(
                "INSERT INTO reconciliation_field_weights (component_name, field_name,"
                " criticality_weight, tolerance_type) VALUES (?, ?, ?, 'EXACT')",
                name,
                field,
                weight,
            )
    project.done("run", "demo", status=5)
    found = {body["component"]: body for body in project.bodies("state.reconciled")}
    scores = {name: body.get("score", "") for name, body in found.items()}
    assert scores == {
        "honest": "0.000000",
        "liar": "0.333333",
        "silent": "1.000000",
        "unknown": "",
        "vision_ios_orchestrator": "0.000000",
    }
    assert found["unknown"]["problem"] == "reconciliation_field_weights has no row for unknown"
    # Both belong to one agent: one request for it.
    assert [body["component"] for body in project.bodies("suspension.requested")] == ["liar"]
    verified(project)


def test_an_approved_suspension_is_obeyed_until_it_is_closed(project: Project) -> None:
    """Asked, approved, refused at plan time while the others run, closed, and run again."""
    says = {"reported_state": {"success": False}}
    project.apply(
        project.task("liar", REPORTS, says=says, agent_id="FINN"),
        project.task("other", REPORTS, agent_id="STIG"),
    )
    project.sql(
        "INSERT INTO reconciliation_field_weights (component_name, field_name,"
        " criticality_weight, tolerance_type) VALUES ('liar', 'success', '1.0', 'EXACT')"
    )
    person(project, "ada", "owner")
    person(project, "VEGA", "auditor")
    project.done("run", "demo")
    (request,) = project.entries("suspension.requested")
    subject = f"suspension/{request['seq']}"
    # A request suspends nobody.
    project.done("run", "demo")
    assert effects(project) == {"liar": 2, "other": 2}
    # An auditor never does.
    _, message = decide(project, subject, "approve", name="VEGA", status=2)
    assert "VEGA is auditor" in message

    approved = decide(project, subject, "approve")
    dry = project.done("run", "demo", "--dry-run", status=2)
    assert "liar: suspended: FINN by ada" in dry.stderr
    project.done("run", "demo", status=5)
    assert effects(project) == {"liar": 2, "other": 3}
    refused = project.bodies("run.finished")[-2]
    assert (refused["status"], refused["reason"]) == ("failed", "refused")
    assert f"suspended: FINN by ada (entry {approved['seq']}): because" in refused["message"]
    assert refused["value"]["refused"] == {
        "rule": "suspended",
        "agent": "FINN",
        "request": request["seq"],
        "decision": approved["seq"],
    }
    assert project.sql(SNAPSHOTS)[0][2:] == ("SUSPENDED", "AGENT_SUSPENDED")
    (waiting,) = project.done("show", "waiting", "--json").json
    assert (waiting["subject"], waiting["state"]) == (subject, "APPROVED")
    verified(project)

    decide(project, subject, "close")
    project.done("run", "demo")
    assert effects(project) == {"liar": 3, "other": 4}
    verified(project)


def test_a_rejected_request_is_an_override_on_the_record(one: Project) -> None:
    """The agent goes on; a further catastrophe asks again."""
    tamper(one, set_field("success_count", "7"))
    person(one, "ada", "owner")
    one.done("run", "demo")
    (first,) = one.entries("suspension.requested")
    decide(one, f"suspension/{first['seq']}", "reject")
    assert one.sql("SELECT state, decided_by, decision_reason FROM suspension_request") == [
        ("REJECTED", "ada", "because")
    ]
    assert one.sql(SNAPSHOTS)[0][2:] == ("DIVERGENT", "OVERRIDDEN")
    assert one.done("show", "waiting", "--json").json == []
    one.done("run", "demo")
    assert len(one.entries("suspension.requested")) == 2
    assert one.sql("SELECT state FROM suspension_request ORDER BY request_id") == [
        ("REJECTED",),
        ("PENDING",),
    ]


def test_a_suspended_orchestrator_executes_nothing(one: Project) -> None:
    """Until its agent is continued."""
    tamper(one, set_field("success_count", "7"))
    person(one, "ada", "owner")
    one.done("run", "demo")
    one.sql("DROP TRIGGER wrong")
    (request,) = one.entries("suspension.requested")
    decide(one, f"suspension/{request['seq']}", "approve")
    one.done("run", "demo", status=5)
    assert one.bodies("round.judged")[-1]["label"] == "FAILED"
    decide(one, "agent/LARS", "continue")
    one.done("run", "demo")
    assert one.sql("SELECT state FROM suspension_request") == [("CLOSED",)]


def test_only_a_request_is_decided_as_one(one: Project) -> None:
    """Another entry is no suspension."""
    one.done("run", "demo")
    person(one, "ada", "owner")
    _, message = decide(one, "suspension/1", "approve", status=2)
    assert "is not suspension/1" in message or "are not suspension/1" in message


def test_an_attestation_is_evidence_of_the_cycle(one: Project) -> None:
    """Of its snapshots, with what the auditor signed."""
    one.done("run", "demo")
    person(one, "ada", "owner")
    person(one, "VEGA", "auditor")
    made = decide(one, "latest", "attest", name="VEGA")
    ((data, by, hash_),) = one.sql(
        "SELECT evidence_data, verified_by, evidence_hash FROM reconciliation_evidence"
        " WHERE evidence_type = 'VEGA_ATTESTATION'"
    )
    assert (json.loads(data)["decision"], by, len(hash_)) == (made["seq"], "VEGA", 64)
    (told,) = one.done("show", "latest", "--json").json["reconciliation"]
    assert told["attested_by"] == ["VEGA"]
    verified(one)
