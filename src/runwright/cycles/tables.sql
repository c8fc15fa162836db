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

-- name: governance_action sqlite
-- What governance_actions_log shows, beside signatures and attestations.
CREATE TABLE governance_action (
    action_id          INTEGER PRIMARY KEY,
    action_type        TEXT NOT NULL,
    action_target      TEXT NOT NULL,
    action_target_type TEXT NOT NULL,
    initiated_by       TEXT NOT NULL,
    initiated_at       TEXT NOT NULL,
    decision           TEXT NOT NULL,
    decision_rationale TEXT NOT NULL,
    metadata           TEXT NOT NULL,
    hash_chain_id      TEXT NOT NULL,
    agent_id           TEXT NOT NULL,
    timestamp          TEXT NOT NULL
);
CREATE INDEX governance_action_type ON governance_action (action_type, action_id);

-- name: governance_action postgres
CREATE TABLE governance_action (
    action_id          bigint PRIMARY KEY,
    action_type        varchar(100) NOT NULL,
    action_target      text NOT NULL,
    action_target_type text NOT NULL,
    initiated_by       text NOT NULL,
    initiated_at       timestamptz NOT NULL,
    decision           varchar(50) NOT NULL,
    decision_rationale text NOT NULL,
    metadata           jsonb NOT NULL,
    hash_chain_id      varchar(200) NOT NULL,
    agent_id           varchar(50) NOT NULL,
    timestamp          timestamptz NOT NULL
);
CREATE INDEX governance_action_type ON governance_action (action_type, action_id);

-- name: execution_state sqlite
CREATE TABLE execution_state (
    state_id          INTEGER PRIMARY KEY,
    component_name    TEXT NOT NULL,
    state_type        TEXT NOT NULL,
    state_value       TEXT NOT NULL,
    state_version     INTEGER NOT NULL,
    previous_state_id INTEGER REFERENCES execution_state,
    created_by        TEXT NOT NULL,
    created_at        TEXT NOT NULL,
    updated_at        TEXT NOT NULL,
    hash_chain_id     TEXT NOT NULL,
    signature_id      INTEGER
);
CREATE INDEX execution_state_component ON execution_state (component_name, state_id);

-- name: execution_state postgres
CREATE TABLE execution_state (
    state_id          bigint PRIMARY KEY,
    component_name    text NOT NULL,
    state_type        text NOT NULL,
    state_value       jsonb NOT NULL,
    state_version     integer NOT NULL,
    previous_state_id bigint,
    created_by        text NOT NULL,
    created_at        timestamptz NOT NULL,
    updated_at        timestamptz NOT NULL,
    hash_chain_id     text NOT NULL,
    signature_id      bigint
);
CREATE INDEX execution_state_component ON execution_state (component_name, state_id);

-- name: orchestrator_metrics sqlite
CREATE TABLE orchestrator_metrics (
    metric_id    INTEGER PRIMARY KEY,
    cycle_id     TEXT NOT NULL,
    metric_type  TEXT NOT NULL,
    metric_name  TEXT NOT NULL,
    metric_value TEXT NOT NULL,
    metadata     TEXT NOT NULL,
    recorded_at  TEXT NOT NULL
);
CREATE INDEX orchestrator_metrics_cycle ON orchestrator_metrics (cycle_id);

-- name: orchestrator_metrics postgres
CREATE TABLE orchestrator_metrics (
    metric_id    bigint PRIMARY KEY,
    cycle_id     text NOT NULL,
    metric_type  text NOT NULL,
    metric_name  text NOT NULL,
    metric_value numeric NOT NULL,
    metadata     jsonb NOT NULL,
    recorded_at  timestamptz NOT NULL
);
CREATE INDEX orchestrator_metrics_cycle ON orchestrator_metrics (cycle_id);
