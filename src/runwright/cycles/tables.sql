-- name: task_registry sqlite
CREATE TABLE task_registry (
    task_id          INTEGER PRIMARY KEY,
    task_name        TEXT NOT NULL UNIQUE,
    task_type        TEXT NOT NULL,
    agent_id         TEXT NOT NULL,
    task_description TEXT NOT NULL DEFAULT '',
    task_config      TEXT NOT NULL DEFAULT '{}',
    enabled          INTEGER NOT NULL DEFAULT 1,
    created_at       TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%SZ', 'now')),
    updated_at       TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%SZ', 'now')),
    spec_name        TEXT NOT NULL DEFAULT ''
);
