"""The seed's tables that cycles keep: columns that operators edit are facts, read at every tick."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from runwright.kernel.ports import ColumnType, Table

_SQL: Final = __file__.removesuffix(".py") + ".sql"


def _projection(name: str, columns: str, *, schema: str, types: Mapping[str, ColumnType]) -> Table:
    """Return a table whose every column follows from the record; the first is its key."""
    names = tuple(columns.split())
    return Table(
        name=name,
        columns=names,
        key=names[:1],
        sql=_SQL,
        schema=schema,
        types=types,
        folded=names,
    )


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
)
