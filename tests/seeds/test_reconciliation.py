"""What cycles-001 demands of reconciliation (ADR-010) and of budgets (ADR-012)."""

from __future__ import annotations

import json

import pytest

from tests.e2e.people import decide, person
from tests.e2e.project import Project

#: Leaves a trace that it ran.
ACTS = "open('../effects/trace', 'a').write('x')\n"


@pytest.mark.seed(
    "cycles-001/state-field-reconciliation",
    "cycles-001/reconciliation-field-level",
    "cycles-001/reconciliation-rules-in-table",
    "cycles-001/reconciliation-writes-state",
    "cycles-001/state-vega-attestation",
)
def test_a_cycle_is_reconciled_field_by_field_and_attested(project: Project) -> None:
    """Its state is in the store, six weights in the table; a wrong field weighs what it should."""
    project.apply(project.task("acts", ACTS))
    rules = (
        "SELECT field_name, criticality_weight, tolerance_type FROM reconciliation_field_weights"
    )
    assert project.sql(f"{rules} ORDER BY weight_id") == [
        ("cycle_id", "1.0", "EXACT"),
        ("tasks_executed", "1.0", "EXACT"),
        ("success_count", "0.8", "EXACT"),
        ("failure_count", "0.8", "EXACT"),
        ("orchestrator_version", "0.5", "EXACT"),
        ("execution_timestamp", "0.3", "TIMESTAMP"),
    ]
    label = project.done("run", "demo", "--json").json["label"]
    ((state,),) = project.sql("SELECT state_value FROM execution_state")
    assert json.loads(state)["cycle_id"] == label
    scores = "SELECT discrepancy_score, reconciliation_status FROM reconciliation_snapshots"
    assert project.sql(scores) == [("0.000000", "RECONCILED")]
    # The rules are those of the table: a version that the cycle does not report.
    project.sql(
        "INSERT INTO reconciliation_field_weights (component_name, field_name, criticality_weight,"
        " tolerance_type) VALUES ('vision_ios_orchestrator', 'region', '0.1', 'EXACT')"
    )
    project.done("run", "demo")
    assert project.sql(scores)[1] == ("0.022222", "RECONCILED")

    person(project, "ada", "owner")
    person(project, "VEGA", "auditor")
    decide(project, label, "attest", name="VEGA")
    assert project.sql(
        "SELECT verified_by, verified FROM reconciliation_evidence"
        " WHERE evidence_type = 'VEGA_ATTESTATION'"
    ) == [("VEGA", 1)]
    (told,) = project.done("show", label, "--json").json["reconciliation"]
    assert (told["classification"], told["attested_by"]) == ("NORMAL", ["VEGA"])


@pytest.mark.seed("cycles-001/economic-budgets")
def test_spending_is_bounded_before_the_call(project: Project) -> None:
    """The second call of the day leaves no trace; the violation is in the chain."""
    held = {"name": "daily", "scope": {"agent": "FINN"}, "limits": {"calls": 1}}
    project.apply(project.task("acts", ACTS), budgets=[held])
    for status in (0, 5):
        project.done("run", "demo", "--at", "2026-01-01T10:00:00Z", status=status)
    assert (project.folder / "effects" / "trace").read_text() == "x"
    ((violation, kind, allowed, actual),) = project.sql(
        "SELECT violation_id, violation_type, limit_value, actual_value FROM budget_violation"
    )
    assert (kind, allowed, actual) == ("RATE", "1", "1")
    entry = project.done("ledger", "entry", violation, "--json").json
    assert (entry["type"], entry["body"]["reason"]) == ("run.finished", "refused")
    project.done("verify", "--store")
