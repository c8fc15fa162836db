-- name: create
CREATE TABLE about (
    product text NOT NULL,
    version integer NOT NULL
);

-- Where the tables of workloads stand: the settings may be others tomorrow.
CREATE TABLE place (
    name     text PRIMARY KEY,
    schema   text NOT NULL,
    -- The name of a site's own table that is read in its place; empty: the table is ours.
    relation text NOT NULL DEFAULT ''
);

-- One row. The token grows with each conductor; a commit under an older one is refused.
CREATE TABLE lease (
    id    integer PRIMARY KEY CHECK (id = 1),
    token bigint NOT NULL,
    pid   bigint NOT NULL,
    host  text NOT NULL,
    taken timestamptz NOT NULL DEFAULT now()
);
INSERT INTO lease (id, token, pid, host) VALUES (1, 0, 0, '');

CREATE TABLE entry (
    seq  bigint PRIMARY KEY,
    raw  bytea NOT NULL,
    leaf bytea NOT NULL
);

-- Roots of full subtrees of 256 ** level entries.
CREATE TABLE tile (
    level bigint NOT NULL,
    idx   bigint NOT NULL,
    hash  bytea NOT NULL,
    PRIMARY KEY (level, idx)
);

-- Signed checkpoints, C2SP tlog-checkpoint.
CREATE TABLE seal (
    size bigint PRIMARY KEY,
    root bytea NOT NULL,
    note text NOT NULL
);

CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'a row of % is never %', TG_TABLE_NAME,
        CASE TG_OP WHEN 'UPDATE' THEN 'edited' ELSE 'deleted' END;
END $$;
CREATE TRIGGER entry_is_never_changed BEFORE UPDATE OR DELETE OR TRUNCATE ON entry
    FOR EACH STATEMENT EXECUTE FUNCTION refuse();
CREATE TRIGGER tile_is_never_changed BEFORE UPDATE OR DELETE OR TRUNCATE ON tile
    FOR EACH STATEMENT EXECUTE FUNCTION refuse();
CREATE TRIGGER seal_is_never_deleted BEFORE DELETE OR TRUNCATE ON seal
    FOR EACH STATEMENT EXECUTE FUNCTION refuse();
-- Signed again under another key it may be; never for another root.
CREATE TRIGGER seal_is_never_edited BEFORE UPDATE ON seal FOR EACH ROW
    WHEN (OLD.size <> NEW.size OR OLD.root <> NEW.root) EXECUTE FUNCTION refuse();

-- salt is empty for pinned bytes; captured ones are erased with their salt.
CREATE TABLE blob (
    digest text PRIMARY KEY,
    salt   bytea NOT NULL,
    data   bytea NOT NULL
);

CREATE TABLE request (
    id         text PRIMARY KEY,
    kind       text NOT NULL,
    body       bytea NOT NULL,
    created_ms bigint NOT NULL,
    "by"       text NOT NULL DEFAULT '',
    state      text NOT NULL DEFAULT 'open',
    result     bytea NOT NULL DEFAULT '',
    reply      text NOT NULL DEFAULT '',
    -- Whoever may insert may insert anything: instants are within the years 1970 to 9999.
    CHECK (created_ms BETWEEN 0 AND 253402300799999),
    CHECK (length(id) BETWEEN 1 AND 200 AND length(kind) <= 100 AND length("by") <= 200),
    CHECK (length(reply) <= 1000 AND length(body) <= 16777216)
);
CREATE INDEX request_open ON request (created_ms) WHERE state = 'open';

CREATE TABLE spec (
    kind       text NOT NULL,
    name       text NOT NULL,
    digest     text NOT NULL,
    body       bytea NOT NULL,
    applied_ms bigint NOT NULL,
    -- When the schedule that it has now came into force.
    since_ms   bigint NOT NULL,
    -- What it runs by: JSON of its schedule, or of what operators made of it.
    in_force   text NOT NULL,
    -- When a stream of it ran for the first time; 0: never.
    opened_ms  bigint NOT NULL DEFAULT 0,
    seq        bigint NOT NULL,
    PRIMARY KEY (kind, name)
);

-- One row an occurrence, also those that did not run.
CREATE TABLE tick (
    seq        bigint PRIMARY KEY,
    id         text NOT NULL,
    kind       text NOT NULL,
    name       text NOT NULL,
    occurrence text NOT NULL,
    scheduled  bigint NOT NULL,
    planned_ms bigint NOT NULL,
    last_ms    bigint NOT NULL,
    count      bigint NOT NULL DEFAULT 1,
    at         bigint NOT NULL,
    state      text NOT NULL,
    label      text NOT NULL DEFAULT '',
    reason     text NOT NULL DEFAULT ''
);
CREATE INDEX tick_id ON tick (id);
CREATE INDEX tick_last ON tick (kind, name, last_ms);
CREATE INDEX tick_open ON tick (seq) WHERE state = 'open';

CREATE TABLE round (
    seq        bigint PRIMARY KEY,
    id         text NOT NULL,
    tick       text NOT NULL,
    idx        bigint NOT NULL,
    kind       text NOT NULL,
    name       text NOT NULL,
    key        text NOT NULL,
    label      text NOT NULL,
    runs       bigint NOT NULL,
    at         bigint NOT NULL,
    judged_seq bigint,
    judged_ms  bigint,
    verdict    text NOT NULL DEFAULT '',
    outcome    text NOT NULL DEFAULT ''
);
CREATE INDEX round_id ON round (id);
CREATE INDEX round_tick ON round (tick);
CREATE INDEX round_label ON round (label);
CREATE INDEX round_open ON round (seq) WHERE judged_seq IS NULL;

CREATE TABLE lane (
    kind   text NOT NULL,
    name   text NOT NULL,
    lane   text NOT NULL,
    memory text NOT NULL,
    PRIMARY KEY (kind, name, lane)
);

-- The outbox: what leaves, in order, until it is acknowledged.
CREATE TABLE paper (
    seq          bigint NOT NULL,
    idx          bigint NOT NULL,
    id           text NOT NULL,
    sink         text NOT NULL,
    name         text NOT NULL,
    media        text NOT NULL,
    body         bytea NOT NULL,
    inserts      text NOT NULL DEFAULT '[]',
    sealed_size  bigint NOT NULL DEFAULT 0,
    state        text NOT NULL DEFAULT 'open',
    attempts     bigint NOT NULL DEFAULT 0,
    next_ms      bigint NOT NULL DEFAULT 0,
    delivered_ms bigint,
    PRIMARY KEY (seq, idx)
);
CREATE INDEX paper_open ON paper (seq, idx) WHERE state = 'open';

CREATE TABLE person (
    id         text PRIMARY KEY,
    name       text NOT NULL,
    roles      text NOT NULL,
    users      text NOT NULL,
    revoked_ms bigint NOT NULL DEFAULT 0,
    reason     text NOT NULL DEFAULT '',
    seq        bigint NOT NULL
);

CREATE TABLE person_key (
    person      text NOT NULL,
    fingerprint text NOT NULL,
    key         text NOT NULL,
    from_ms     bigint NOT NULL,
    until_ms    bigint NOT NULL,
    revoked_ms  bigint NOT NULL DEFAULT 0,
    reason      text NOT NULL DEFAULT '',
    seq         bigint NOT NULL,
    PRIMARY KEY (person, fingerprint)
);

CREATE TABLE decision (
    seq        bigint PRIMARY KEY,
    document   text NOT NULL,
    subject    text NOT NULL,
    action     text NOT NULL,
    person     text NOT NULL,
    reason     text NOT NULL,
    evidence   text NOT NULL,
    seen       text NOT NULL,
    first_seq  bigint NOT NULL,
    last_seq   bigint NOT NULL,
    expires_ms bigint NOT NULL,
    made_ms    bigint NOT NULL,
    at_ms      bigint NOT NULL,
    key        text NOT NULL
);
CREATE INDEX decision_subject ON decision (subject);
CREATE INDEX decision_document ON decision (document);

CREATE TABLE agent_key (
    agent       text NOT NULL,
    fingerprint text NOT NULL,
    key         text NOT NULL,
    state       text NOT NULL,
    from_ms     bigint NOT NULL,
    until_ms    bigint NOT NULL,
    seq         bigint NOT NULL,
    PRIMARY KEY (agent, fingerprint)
);

-- Signatures of agents over leaf hashes; an empty value waits for the next seal.
CREATE TABLE signature (
    seq   bigint PRIMARY KEY,
    agent text NOT NULL,
    key   text NOT NULL DEFAULT '',
    value text NOT NULL DEFAULT ''
);
CREATE INDEX signature_waiting ON signature (seq) WHERE value = '';

-- The input logs of streams: one row for each commit. A block is never edited; those of segments
-- that were sealed may be deleted.
CREATE TABLE log_block (
    log       text NOT NULL,
    last_seq  bigint NOT NULL,
    number    bigint NOT NULL,
    first_seq bigint NOT NULL,
    first_ms  bigint NOT NULL,
    last_ms   bigint NOT NULL,
    -- Bytes of its records.
    size      bigint NOT NULL,
    digest    bytea NOT NULL,
    head      bytea NOT NULL,
    body      bytea NOT NULL,
    PRIMARY KEY (log, last_seq)
);
-- What arrived is not packed again: that costs more than it saves at the rate of an intake.
ALTER TABLE log_block ALTER COLUMN body SET STORAGE EXTERNAL;
CREATE TRIGGER log_block_is_never_edited BEFORE UPDATE OR TRUNCATE ON log_block
    FOR EACH STATEMENT EXECUTE FUNCTION refuse();

-- Segments of input logs that are sealed in the ledger: made of entries alone.
CREATE TABLE log_segment (
    kind      text NOT NULL,
    name      text NOT NULL,
    idx       bigint NOT NULL,
    first_seq bigint NOT NULL,
    last_seq  bigint NOT NULL,
    blocks    bigint NOT NULL,
    root      text NOT NULL,
    head      text NOT NULL,
    first_ms  bigint NOT NULL,
    last_ms   bigint NOT NULL,
    bytes     bigint NOT NULL,
    seq       bigint NOT NULL,
    -- The entry that says that its blocks were deleted.
    retired   bigint,
    PRIMARY KEY (kind, name, idx)
);

-- name: session
-- Whatever the server's defaults are: a commit is on its disk when it returns, a vanished client
-- is noticed, and one that was stopped inside a transaction does not hold it for ever.
SET synchronous_commit = on;
SET default_transaction_isolation = 'read committed';
SET statement_timeout = 0;
SET lock_timeout = '30s';
SET idle_session_timeout = 0;
SET idle_in_transaction_session_timeout = '60s';
SET tcp_keepalives_idle = 30;
SET tcp_keepalives_interval = 10;
SET tcp_keepalives_count = 3;
SET client_encoding = 'UTF8';
SET TimeZone = 'UTC'

-- name: schema
SELECT FROM pg_namespace WHERE nspname = %s

-- name: tables
SELECT FROM pg_tables WHERE schemaname = %s AND tablename = 'about'

-- name: about
SELECT product, version FROM about

-- name: insert-about
INSERT INTO about (product, version) VALUES (%s, %s)

-- name: insert-place
INSERT INTO place (name, schema, relation) VALUES (%s, %s, %s)

-- name: delete-place
DELETE FROM place WHERE name = %s

-- name: relation
SELECT c.relkind::text, coalesce(obj_description(c.oid, 'pg_class'), '')
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND c.relname = %s

-- name: places
SELECT name, schema, relation FROM place

-- name: columns
SELECT a.attname, format_type(a.atttypid, NULL), a.attnotnull,
       coalesce(a.attnum = ANY (i.indkey), false)
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary
WHERE n.nspname = %s AND c.relname = %s
ORDER BY a.attnum

-- name: columns-of-a-site
-- The type below a domain; whether an INSERT has to give it; whether this user may read it.
SELECT a.attname, format_type(coalesce(nullif(t.typbasetype, 0), a.atttypid), NULL),
       a.attnotnull AND NOT a.atthasdef AND a.attidentity = '',
       has_schema_privilege(n.oid, 'USAGE') AND has_column_privilege(c.oid, a.attnum, 'SELECT')
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN pg_type t ON t.oid = a.atttypid
WHERE n.nspname = %s AND c.relname = %s AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
ORDER BY a.attnum

-- name: try-lock
SELECT pg_try_advisory_lock(%s)

-- name: try-lock-once
SELECT pg_try_advisory_xact_lock(%s)

-- name: unlock
SELECT pg_advisory_unlock_all()

-- name: take-lease
UPDATE lease SET token = token + 1, pid = %s, host = %s, taken = now() WHERE id = 1 RETURNING token

-- name: holder
SELECT pid, host FROM lease WHERE id = 1 AND EXISTS (
    SELECT FROM pg_locks
    WHERE locktype = 'advisory' AND granted AND objsubid = 1
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND classid = %s::bigint::oid AND objid = %s::bigint::oid
)

-- name: last-holder
SELECT pid, host FROM lease WHERE id = 1

-- name: fence
-- Locked until the commit: whoever takes the lease waits for it, and reads what it wrote.
SELECT token FROM lease WHERE id = 1 FOR SHARE

-- name: insert-entry
INSERT INTO entry (seq, raw, leaf) VALUES (%s, %s, %s)

-- name: insert-tile
INSERT INTO tile (level, idx, hash) VALUES (%s, %s, %s)

-- name: insert-seal
INSERT INTO seal (size, root, note) VALUES (%s, %s, %s)
ON CONFLICT (size) DO UPDATE SET root = excluded.root, note = excluded.note

-- name: insert-block
-- Only as the next of its log: nothing is written when somebody else wrote one.
INSERT INTO log_block
    (log, last_seq, number, first_seq, first_ms, last_ms, size, digest, head, body)
SELECT %s, %s, %s, %s, %s, %s, %s, %s, %s, %s
WHERE coalesce((SELECT max(last_seq) FROM log_block WHERE log = %s), -1) = %s

-- name: retire-blocks
DELETE FROM log_block WHERE log = %s AND last_seq >= %s AND last_seq <= %s AND first_seq >= %s

-- name: insert-blob
INSERT INTO blob (digest, salt, data) VALUES (%s, %s, %s) ON CONFLICT (digest) DO NOTHING

-- name: erase-blob
DELETE FROM blob WHERE digest = %s

-- name: insert-request
INSERT INTO request (id, kind, body, created_ms, "by", reply) VALUES ($1, $2, $3, $4, $5, $6)

-- name: last-seq
-- One is added by whoever asks: somebody may have put in a row at the last number there is.
SELECT coalesce(max(seq), -1) FROM entry

-- name: entries
SELECT seq, raw, leaf FROM entry WHERE seq >= %s AND seq <= %s ORDER BY seq LIMIT %s

-- name: leaves
SELECT leaf FROM entry WHERE seq >= %s AND seq < %s ORDER BY seq

-- name: tiles
SELECT hash FROM tile WHERE level = %s AND idx >= %s AND idx < %s ORDER BY idx

-- name: seals
SELECT size, root, note FROM seal ORDER BY size

-- name: latest-seal
SELECT size, root, note FROM seal ORDER BY size DESC LIMIT 1

-- name: blob
SELECT digest, data, salt FROM blob WHERE digest = %s

-- name: server
SELECT current_setting('server_version'), current_setting('fsync'),
       current_setting('full_page_writes'), pg_is_in_recovery()

-- name: triggers
SELECT tgname, tgenabled::text FROM pg_trigger
WHERE NOT tgisinternal AND tgrelid IN ('entry'::regclass, 'tile'::regclass, 'seal'::regclass)

-- name: gaps
SELECT count(*), coalesce(max(seq), -1), coalesce(min(seq), 0) FROM entry

-- name: roles
DO $$
DECLARE
    part text;
BEGIN
    FOREACH part IN ARRAY ARRAY['conductor', 'application', 'operator', 'reader'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{schema}_' || part) THEN
            EXECUTE format('CREATE ROLE %I NOLOGIN', '{schema}_' || part);
        END IF;
    END LOOP;
END $$;

-- Everybody may look; `GRANT "{schema}_reader" TO somebody`.
GRANT "{schema}_reader" TO "{schema}_conductor", "{schema}_application", "{schema}_operator";
GRANT USAGE ON SCHEMA {schemas} TO "{schema}_reader";
GRANT SELECT ON ALL TABLES IN SCHEMA "{schema}" TO "{schema}_reader";

-- The application asks; it changes nothing, and no state but 'open' can be inserted.
GRANT INSERT (id, kind, body, created_ms, "by", reply) ON "{schema}".request TO "{schema}_application";
GRANT "{schema}_application" TO "{schema}_conductor", "{schema}_operator";

-- The conductor appends, and keeps the rows that entries change.
GRANT INSERT ON "{schema}".entry, "{schema}".tile TO "{schema}_conductor";
GRANT INSERT, UPDATE ON "{schema}".seal, "{schema}".spec, "{schema}".tick, "{schema}".round, "{schema}".lane,
    "{schema}".paper, "{schema}".request, "{schema}".decision, "{schema}".signature, "{schema}".lane,
    "{schema}".person, "{schema}".person_key, "{schema}".agent_key, "{schema}".log_segment
    TO "{schema}_conductor";
GRANT INSERT, DELETE ON "{schema}".blob, "{schema}".log_block TO "{schema}_conductor";
GRANT UPDATE ON "{schema}".lease TO "{schema}_conductor";
