-- What two of the example's functions write beside their results, once a database is granted to them:
--   psql "$DATABASE_URL" -f tables.sql
--   UPDATE fhq_governance.task_registry SET task_config = task_config || '{"env": ["DATABASE_URL"]}'
--   WHERE task_type = 'VISION_FUNCTION';
-- They are the functions' own: Runwright neither makes nor reads them.
CREATE SCHEMA IF NOT EXISTS vision_signals;
CREATE SCHEMA IF NOT EXISTS vision_core;

CREATE TABLE IF NOT EXISTS vision_signals.signal_baseline (
    run_id          text PRIMARY KEY,
    as_of           date NOT NULL,
    window_hours    integer NOT NULL,
    mean_price      numeric NOT NULL,
    stdev_price     numeric NOT NULL,
    mean_return     numeric NOT NULL,
    stdev_return    numeric NOT NULL,
    signal          text NOT NULL,
    signal_strength numeric NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE IF NOT EXISTS vision_core.noise_profile (
    run_id              text PRIMARY KEY,
    as_of               date NOT NULL,
    window_hours        integer NOT NULL,
    noise_floor         numeric NOT NULL,
    realised_volatility numeric NOT NULL,
    implied_volatility  numeric NOT NULL,
    signal_to_noise     numeric NOT NULL,
    noise_state         text NOT NULL,
    created_at          timestamptz NOT NULL DEFAULT clock_timestamp()
);
