-- name: create
CREATE TABLE entry (
    seq  INTEGER PRIMARY KEY,
    raw  BLOB NOT NULL,
    leaf BLOB NOT NULL
);
CREATE TRIGGER entry_is_never_edited BEFORE UPDATE ON entry
BEGIN SELECT RAISE(ABORT, 'a ledger entry is never edited'); END;
CREATE TRIGGER entry_is_never_deleted BEFORE DELETE ON entry
BEGIN SELECT RAISE(ABORT, 'a ledger entry is never deleted'); END;

-- Roots of full subtrees of 256 ** level entries.
CREATE TABLE tile (
    level INTEGER NOT NULL,
    idx   INTEGER NOT NULL,
    hash  BLOB NOT NULL,
    PRIMARY KEY (level, idx)
) WITHOUT ROWID;

-- Signed checkpoints, C2SP tlog-checkpoint.
CREATE TABLE seal (
    size INTEGER PRIMARY KEY,
    root BLOB NOT NULL,
    note TEXT NOT NULL
);

-- salt is empty for pinned bytes; captured ones are erased with their salt. Digests come in no order:
-- beside the bytes, an index of them stays small, where the bytes in it would be all over the file.
CREATE TABLE blob (
    digest TEXT PRIMARY KEY,
    salt   BLOB NOT NULL,
    data   BLOB NOT NULL
);

CREATE TABLE request (
    id         TEXT PRIMARY KEY,
    kind       TEXT NOT NULL,
    body       BLOB NOT NULL,
    created_ms INTEGER NOT NULL,
    "by"       TEXT NOT NULL DEFAULT '',
    state      TEXT NOT NULL DEFAULT 'open',
    result     BLOB NOT NULL DEFAULT x'',
    reply      TEXT NOT NULL DEFAULT ''
);
CREATE INDEX request_open ON request (created_ms) WHERE state = 'open';

CREATE TABLE spec (
    kind       TEXT NOT NULL,
    name       TEXT NOT NULL,
    digest     TEXT NOT NULL,
    body       BLOB NOT NULL,
    applied_ms INTEGER NOT NULL,
    -- When the schedule that it has now came into force.
    since_ms   INTEGER NOT NULL,
    -- What it runs by: JSON of its schedule, or of what operators made of it.
    in_force   TEXT NOT NULL,
    -- When a stream of it ran for the first time; 0: never.
    opened_ms  INTEGER NOT NULL DEFAULT 0,
    seq        INTEGER NOT NULL,
    PRIMARY KEY (kind, name)
);

-- One row an occurrence, also those that did not run.
CREATE TABLE tick (
    seq        INTEGER PRIMARY KEY,
    id         TEXT NOT NULL,
    kind       TEXT NOT NULL,
    name       TEXT NOT NULL,
    occurrence TEXT NOT NULL,
    scheduled  INTEGER NOT NULL,
    planned_ms INTEGER NOT NULL,
    last_ms    INTEGER NOT NULL,
    count      INTEGER NOT NULL DEFAULT 1,
    at         INTEGER NOT NULL,
    state      TEXT NOT NULL,
    label      TEXT NOT NULL DEFAULT '',
    reason     TEXT NOT NULL DEFAULT ''
);
CREATE INDEX tick_id ON tick (id);
CREATE INDEX tick_last ON tick (kind, name, last_ms);
CREATE INDEX tick_open ON tick (seq) WHERE state = 'open';

CREATE TABLE round (
    seq        INTEGER PRIMARY KEY,
    id         TEXT NOT NULL,
    tick       TEXT NOT NULL,
    idx        INTEGER NOT NULL,
    kind       TEXT NOT NULL,
    name       TEXT NOT NULL,
    key        TEXT NOT NULL,
    label      TEXT NOT NULL,
    runs       INTEGER NOT NULL,
    at         INTEGER NOT NULL,
    judged_seq INTEGER,
    judged_ms  INTEGER,
    verdict    TEXT NOT NULL DEFAULT '',
    outcome    TEXT NOT NULL DEFAULT ''
);
CREATE INDEX round_id ON round (id);
CREATE INDEX round_tick ON round (tick);
CREATE INDEX round_label ON round (label);
CREATE INDEX round_open ON round (seq) WHERE judged_seq IS NULL;

CREATE TABLE lane (
    kind   TEXT NOT NULL,
    name   TEXT NOT NULL,
    lane   TEXT NOT NULL,
    memory TEXT NOT NULL,
    PRIMARY KEY (kind, name, lane)
);

-- The outbox: what leaves, in order, until it is acknowledged.
CREATE TABLE paper (
    seq          INTEGER NOT NULL,
    idx          INTEGER NOT NULL,
    id           TEXT NOT NULL,
    sink         TEXT NOT NULL,
    name         TEXT NOT NULL,
    media        TEXT NOT NULL,
    body         BLOB NOT NULL,
    inserts      TEXT NOT NULL DEFAULT '[]',
    sealed_size  INTEGER NOT NULL DEFAULT 0,
    state        TEXT NOT NULL DEFAULT 'open',
    attempts     INTEGER NOT NULL DEFAULT 0,
    next_ms      INTEGER NOT NULL DEFAULT 0,
    delivered_ms INTEGER,
    PRIMARY KEY (seq, idx)
);
CREATE INDEX paper_open ON paper (seq, idx) WHERE state = 'open';

-- People, their keys, what they decided, and the keys of agents: made of entries alone.
CREATE TABLE person (
    id         TEXT PRIMARY KEY,
    name       TEXT NOT NULL,
    roles      TEXT NOT NULL,
    users      TEXT NOT NULL,
    revoked_ms INTEGER NOT NULL DEFAULT 0,
    reason     TEXT NOT NULL DEFAULT '',
    seq        INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE person_key (
    person      TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    key         TEXT NOT NULL,
    from_ms     INTEGER NOT NULL,
    until_ms    INTEGER NOT NULL,
    revoked_ms  INTEGER NOT NULL DEFAULT 0,
    reason      TEXT NOT NULL DEFAULT '',
    seq         INTEGER NOT NULL,
    PRIMARY KEY (person, fingerprint)
) WITHOUT ROWID;

CREATE TABLE decision (
    seq        INTEGER PRIMARY KEY,
    document   TEXT NOT NULL,
    subject    TEXT NOT NULL,
    action     TEXT NOT NULL,
    person     TEXT NOT NULL,
    reason     TEXT NOT NULL,
    evidence   TEXT NOT NULL,
    seen       TEXT NOT NULL,
    first_seq  INTEGER NOT NULL,
    last_seq   INTEGER NOT NULL,
    expires_ms INTEGER NOT NULL,
    made_ms    INTEGER NOT NULL,
    at_ms      INTEGER NOT NULL,
    key        TEXT NOT NULL
);
CREATE INDEX decision_subject ON decision (subject);
CREATE INDEX decision_document ON decision (document);

CREATE TABLE agent_key (
    agent       TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    key         TEXT NOT NULL,
    state       TEXT NOT NULL,
    from_ms     INTEGER NOT NULL,
    until_ms    INTEGER NOT NULL,
    seq         INTEGER NOT NULL,
    PRIMARY KEY (agent, fingerprint)
) WITHOUT ROWID;

-- Signatures of agents over leaf hashes; an empty value waits for the next seal.
CREATE TABLE signature (
    seq   INTEGER PRIMARY KEY,
    agent TEXT NOT NULL,
    key   TEXT NOT NULL DEFAULT '',
    value TEXT NOT NULL DEFAULT ''
);
CREATE INDEX signature_waiting ON signature (seq) WHERE value = '';

-- The input logs of streams: one row for each commit. A block is never edited; those of segments
-- that were sealed may be deleted.
CREATE TABLE log_block (
    log       TEXT NOT NULL,
    last_seq  INTEGER NOT NULL,
    number    INTEGER NOT NULL,
    first_seq INTEGER NOT NULL,
    first_ms  INTEGER NOT NULL,
    last_ms   INTEGER NOT NULL,
    -- Bytes of its records.
    size      INTEGER NOT NULL,
    digest    BLOB NOT NULL,
    head      BLOB NOT NULL,
    body      BLOB NOT NULL,
    PRIMARY KEY (log, last_seq)
);
CREATE TRIGGER log_block_is_never_edited BEFORE UPDATE ON log_block
BEGIN SELECT RAISE(ABORT, 'a block of a log is never edited'); END;

-- Segments of input logs that are sealed in the ledger: made of entries alone.
CREATE TABLE log_segment (
    kind      TEXT NOT NULL,
    name      TEXT NOT NULL,
    idx       INTEGER NOT NULL,
    first_seq INTEGER NOT NULL,
    last_seq  INTEGER NOT NULL,
    blocks    INTEGER NOT NULL,
    root      TEXT NOT NULL,
    head      TEXT NOT NULL,
    first_ms  INTEGER NOT NULL,
    last_ms   INTEGER NOT NULL,
    bytes     INTEGER NOT NULL,
    seq       INTEGER NOT NULL,
    -- The entry that says that its blocks were deleted.
    retired   INTEGER,
    PRIMARY KEY (kind, name, idx)
) WITHOUT ROWID;

-- name: insert-entry
INSERT INTO entry (seq, raw, leaf) VALUES (?, ?, ?)

-- name: insert-tile
INSERT INTO tile (level, idx, hash) VALUES (?, ?, ?)

-- name: insert-seal
INSERT INTO seal (size, root, note) VALUES (?, ?, ?)
ON CONFLICT (size) DO UPDATE SET root = excluded.root, note = excluded.note

-- name: insert-block
-- Only as the next of its log: nothing is written when somebody else wrote one.
INSERT INTO log_block
    (log, last_seq, number, first_seq, first_ms, last_ms, size, digest, head, body)
SELECT ?, ?, ?, ?, ?, ?, ?, ?, ?, ?
WHERE coalesce((SELECT max(last_seq) FROM log_block WHERE log = ?), -1) = ?

-- name: retire-blocks
DELETE FROM log_block WHERE log = ? AND last_seq >= ? AND last_seq <= ? AND first_seq >= ?

-- name: insert-blob
INSERT INTO blob (digest, salt, data) VALUES (?, ?, ?) ON CONFLICT (digest) DO NOTHING

-- name: erase-blob
DELETE FROM blob WHERE digest = ?

-- name: insert-request
INSERT INTO request (id, kind, body, created_ms, "by", reply) VALUES (?, ?, ?, ?, ?, ?)

-- name: size
SELECT coalesce(max(seq) + 1, 0) FROM entry

-- name: entries
-- Whoever altered a row may have left text in it: what is hashed are bytes, whatever the type.
SELECT seq, CAST(raw AS BLOB), CAST(leaf AS BLOB) FROM entry WHERE seq >= ? AND seq <= ?
ORDER BY seq LIMIT ?

-- name: leaves
SELECT CAST(leaf AS BLOB) FROM entry WHERE seq >= ? AND seq < ? ORDER BY seq

-- name: tiles
SELECT CAST(hash AS BLOB) FROM tile WHERE level = ? AND idx >= ? AND idx < ? ORDER BY idx

-- name: seals
SELECT size, CAST(root AS BLOB), CAST(note AS BLOB) FROM seal ORDER BY size

-- name: latest-seal
SELECT size, CAST(root AS BLOB), CAST(note AS BLOB) FROM seal ORDER BY size DESC LIMIT 1

-- name: blob
SELECT digest, CAST(data AS BLOB), CAST(salt AS BLOB) FROM blob WHERE digest = ?
