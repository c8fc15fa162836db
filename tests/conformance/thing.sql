-- name: thing sqlite
CREATE TABLE thing (
    name TEXT PRIMARY KEY,
    n    INTEGER,
    note TEXT
)
