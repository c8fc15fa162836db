"""The seed's tables that cycles keep: columns that operators edit are facts, read at every tick."""

from __future__ import annotations

from typing import Final

from runwright.kernel.ports import Table

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
        sql=__file__.removesuffix(".py") + ".sql",
        schema="governance",
        types={
            "task_config": "json",
            "enabled": "flag",
            "created_at": "instant",
            "updated_at": "instant",
        },
    ),
)
