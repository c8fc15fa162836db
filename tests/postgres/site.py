"""A registry of a site's own, made by plain SQL: other ids, other columns, kept by the site."""

from __future__ import annotations

import json
from typing import Any, Final

from tests.postgres.server import Server

TABLE: Final = "fhq_governance.task_registry"
ADOPTING: Final = {"RUNWRIGHT_REGISTRY_TABLE": TABLE}

#: With a UUID as its key, columns of the site's own, and a log of every statement that changes it.
SITE: Final = """
CREATE SCHEMA fhq_governance;
CREATE SCHEMA audit;
CREATE TYPE fhq_governance.kind AS ENUM ('VISION_FUNCTION', 'SYSTEM_ORCHESTRATOR', 'OTHER');
CREATE TABLE fhq_governance.task_registry (
    task_id     uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    task_name   varchar(200) NOT NULL,
    task_type   fhq_governance.kind NOT NULL,
    description text NOT NULL,
    domain      text NOT NULL,
    assigned_to text NOT NULL,
    agent_id    varchar(50),
    status      text NOT NULL DEFAULT 'ACTIVE',
    tags        text[],
    task_config jsonb,
    enabled     boolean,
    created_at  timestamp NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE audit.touched (what text, who text);
CREATE FUNCTION audit.note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO audit.touched VALUES (TG_OP, current_setting('application_name'));
    RETURN NULL;
END $$;
CREATE TRIGGER noted AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON fhq_governance.task_registry
    FOR EACH STATEMENT EXECUTE FUNCTION audit.note();
"""

#: What a site does that lets nobody change a row.
IMMUTABLE: Final = """
CREATE FUNCTION audit.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'the registry is append-only'; END $$;
CREATE TRIGGER immutable BEFORE UPDATE OR DELETE ON fhq_governance.task_registry
    FOR EACH ROW EXECUTE FUNCTION audit.refuse();
"""


def make(server: Server, database: str) -> None:
    """Make the site's registry, empty."""
    server.psql(database, SITE)


def insert(server: Server, database: str, name: str, config: Any, **columns: Any) -> None:
    """Insert a row, as the site does."""
    row = {
        "task_name": name,
        "task_type": "VISION_FUNCTION",
        "description": "",
        "domain": "vision",
        "assigned_to": "somebody",
        "agent_id": "FINN",
        "task_config": json.dumps(config),
        "enabled": True,
        **columns,
    }
    marks = ", ".join(["%s"] * len(row))
    statement = f"INSERT INTO {TABLE} ({', '.join(row)}) VALUES ({marks})"
    server.sql(database, statement, *row.values())


def touched(server: Server, database: str) -> list[tuple[str, str]]:
    """Return what changed the registry since it was made, and who."""
    rows: list[tuple[str, str]] = server.sql(database, "SELECT what, who FROM audit.touched")
    return rows


def kept(server: Server, database: str) -> list[tuple[Any, ...]]:
    """Return the whole registry, and what makes it up."""
    rows = server.sql(database, f"SELECT t::text, t.xmin::text FROM {TABLE} t ORDER BY 1")
    columns = server.sql(
        database,
        "SELECT column_name, data_type FROM information_schema.columns"
        " WHERE table_schema = 'fhq_governance' AND table_name = 'task_registry' ORDER BY 1",
    )
    return [*rows, *columns]
