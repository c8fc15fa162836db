"""The seed's tables that cycles keep: columns that operators edit are facts, read at every tick."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from runwright.kernel.ports import ColumnType, Table

_SQL: Final = __file__.removesuffix(".py") + ".sql"


def _projection(
    name: str, columns: str, *, schema: str, types: Mapping[str, ColumnType], key: int = 1
) -> Table:
    """Return a table whose every column follows from the record; the first are its key."""
    names = tuple(columns.split())
    return Table(
        name=name,
        columns=names,
        key=names[:key],
        sql=_SQL,
        schema=schema,
        types=types,
        folded=names,
    )


def _view(name: str, columns: str, *, schema: str) -> Table:
    """Return a view: it has no key, and stands behind the tables that it shows."""
    return Table(name=name, columns=tuple(columns.split()), key=(), sql=_SQL, schema=schema)


TABLES: Final = (
    Table(
        name="task_registry",
        columns=(
            "task_id",
            "task_name",
            "task_type",
            "agent_id",
            "task_description",
            "task_config",
            "enabled",
            "created_at",
            "updated_at",
            "spec_name",
        ),
        key=("task_id",),
        sql=_SQL,
        schema="governance",
        types={
            "task_config": "json",
            "enabled": "flag",
            "created_at": "instant",
            "updated_at": "instant",
        },
        spared=("task_description", "created_at", "updated_at", "spec_name"),
    ),
    _projection(
        "governance_action",
        "action_id action_type action_target action_target_type initiated_by initiated_at decision"
        " decision_rationale metadata hash_chain_id agent_id timestamp",
        schema="governance",
        types={"initiated_at": "instant", "metadata": "json", "timestamp": "instant"},
    ),
    _projection(
        "execution_state",
        "state_id component_name state_type state_value state_version previous_state_id created_by"
        " created_at updated_at hash_chain_id signature_id",
        schema="vision",
        types={"state_value": "json", "created_at": "instant", "updated_at": "instant"},
    ),
    _projection(
        "orchestrator_metrics",
        "metric_id cycle_id metric_type metric_name metric_value metadata recorded_at",
        schema="vision",
        types={"metric_value": "number", "metadata": "json", "recorded_at": "instant"},
    ),
    Table(
        name="orchestrator_schedule",
        columns=(
            "schedule_id",
            "schedule_name",
            "schedule_type",
            "cron_expression",
            "interval_seconds",
            "enabled",
            "last_execution_at",
            "next_execution_at",
            "execution_count",
            "failure_count",
            "config",
        ),
        key=("schedule_name",),
        sql=_SQL,
        schema="vision",
        types={
            "enabled": "flag",
            "last_execution_at": "instant",
            "next_execution_at": "instant",
            "config": "json",
        },
        folded=("last_execution_at", "next_execution_at", "execution_count", "failure_count"),
    ),
    _view(
        "governance_actions_log",
        "action_id action_type action_target action_target_type initiated_by initiated_at decision"
        " decision_rationale metadata hash_chain_id signature vega_reviewed vega_override agent_id"
        " timestamp",
        schema="governance",
    ),
    _view(
        "v_orchestrator_latest_executions",
        "action_id timestamp cycle_status cycle_id tasks_executed success_count failure_count"
        " metadata",
        schema="vision",
    ),
    _view(
        "v_orchestrator_performance",
        "total_cycles_7d total_tasks_executed total_successes total_failures success_rate_percent"
        " earliest_cycle latest_cycle",
        schema="vision",
    ),
    Table(
        name="reconciliation_field_weights",
        columns=(
            "weight_id",
            "component_name",
            "field_name",
            "criticality_weight",
            "tolerance_type",
            "tolerance_value",
            "description",
        ),
        key=("weight_id",),
        sql=_SQL,
        schema="meta",
        types={"criticality_weight": "number", "tolerance_value": "number"},
    ),
    _projection(
        "reconciliation_snapshots",
        "snapshot_id component_name snapshot_type agent_state canonical_state discrepancy_score"
        " discrepancy_threshold threshold_exceeded field_discrepancies discrepancy_count"
        " reconciliation_status reconciliation_action vega_suspension_requested"
        " vega_suspension_request_id created_by created_at classification agent_id cycle_id"
        " round_id",
        schema="meta",
        types={
            "agent_state": "json",
            "canonical_state": "json",
            "discrepancy_score": "number",
            "discrepancy_threshold": "number",
            "threshold_exceeded": "flag",
            "field_discrepancies": "json",
            "vega_suspension_requested": "flag",
            "created_at": "instant",
        },
    ),
    _projection(
        "reconciliation_evidence",
        "evidence_id snapshot_id evidence_type evidence_data evidence_hash verified verified_by"
        " verified_at created_at",
        schema="meta",
        types={
            "evidence_data": "json",
            "verified": "flag",
            "verified_at": "instant",
            "created_at": "instant",
        },
    ),
    _projection(
        "suspension_request",
        "request_id agent_id component_name snapshot_id cycle_id discrepancy_score state"
        " requested_at decision_id decided_by decision_reason decided_at expires_ms",
        schema="governance",
        types={
            "discrepancy_score": "number",
            "requested_at": "instant",
            "decided_at": "instant",
        },
    ),
    _projection(
        "budget_usage",
        "spec_name budget_name window_key calls steps duration_ms cost unreadable cycle_id"
        " updated_at",
        schema="governance",
        types={"cost": "number", "updated_at": "instant"},
        key=3,
    ),
    _projection(
        "budget_violation",
        "violation_id spec_name budget_name window_key agent_id task_name cycle_id violation_type"
        " limit_name limit_value actual_value governance_action severity hash_prev hash_self"
        " created_at state decision_id decided_by decision_reason",
        schema="governance",
        types={"created_at": "instant"},
    ),
)
