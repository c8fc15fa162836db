-- name: thing sqlite
CREATE TABLE thing (
    name TEXT PRIMARY KEY,
    n    INTEGER,
    note TEXT
)
-- name: thing postgres
CREATE TABLE thing (
    name text PRIMARY KEY,
    n    bigint,
    note text
)
-- name: typed sqlite
CREATE TABLE typed (
    id      INTEGER PRIMARY KEY,
    config  TEXT,
    at      TEXT,
    enabled INTEGER,
    score   TEXT
)
-- name: typed postgres
CREATE TABLE typed (
    id      bigint PRIMARY KEY,
    config  jsonb,
    at      timestamptz,
    enabled boolean,
    score   numeric
)
