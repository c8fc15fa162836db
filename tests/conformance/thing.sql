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
