-- Asks with psql alone whether rows, evidence and views of the last cycle agree:
--   psql "$DATABASE_URL" -v ON_ERROR_STOP=1 -f check_live.sql
-- Ends with a status other than 0 at the first disagreement, and when there is no cycle.
\set ON_ERROR_STOP on
DO $$
DECLARE
    last    record;
    state   jsonb;
    n       bigint;
    wanted  bigint;
BEGIN
    SELECT * INTO last FROM vision_core.v_orchestrator_latest_executions LIMIT 1;
    ASSERT FOUND, 'no cycle stands in v_orchestrator_latest_executions';
    ASSERT last.tasks_executed >= last.success_count + last.failure_count,
        'a cycle executed fewer tasks than ended';

    SELECT count(*) INTO n FROM fhq_governance.governance_actions_log
    WHERE action_type = 'VISION_ORCHESTRATOR_CYCLE_START'
      AND metadata ->> 'cycle_id' = last.cycle_id AND action_id < last.action_id;
    ASSERT n = 1, format('%s has %s starts before its end', last.cycle_id, n);

    SELECT (metadata ->> 'tasks_scheduled')::bigint INTO wanted
    FROM fhq_governance.governance_actions_log
    WHERE action_type = 'VISION_ORCHESTRATOR_CYCLE_START'
      AND metadata ->> 'cycle_id' = last.cycle_id;
    SELECT count(*) INTO n FROM fhq_governance.governance_actions_log
    WHERE action_type = 'VISION_FUNCTION_EXECUTION' AND metadata ->> 'cycle_id' = last.cycle_id;
    ASSERT n = wanted, format('%s executions, and %s were scheduled', n, wanted);

    SELECT count(*) INTO n FROM fhq_governance.governance_actions_log
    WHERE action_type = 'VISION_FUNCTION_EXECUTION' AND metadata ->> 'cycle_id' = last.cycle_id
      AND decision = 'COMPLETED';
    ASSERT n = last.success_count, format('%s succeeded, the view says %s', n, last.success_count);

    SELECT state_value INTO state FROM vision_core.execution_state
    WHERE component_name = 'vision_ios_orchestrator' ORDER BY state_id DESC LIMIT 1;
    ASSERT state ->> 'cycle_id' = last.cycle_id, 'the last state is of another cycle';
    ASSERT state ->> 'cycle_status' = last.cycle_status
       AND (state ->> 'tasks_executed')::int = last.tasks_executed
       AND (state ->> 'success_count')::int = last.success_count
       AND (state ->> 'failure_count')::int = last.failure_count,
        'the evidence counts otherwise than the view';
    ASSERT jsonb_array_length(state -> 'results') = wanted, 'the evidence lacks results';

    SELECT count(*) INTO n FROM vision_core.orchestrator_metrics
    WHERE cycle_id = last.cycle_id AND metric_type = 'FUNCTION_DURATION';
    ASSERT n = last.tasks_executed, format('%s durations of %s tasks', n, last.tasks_executed);

    SELECT count(*) INTO n FROM fhq_governance.governance_actions_log
    WHERE action_type LIKE 'VISION_%' AND (hash_chain_id IS NULL OR metadata ->> 'leaf' IS NULL);
    ASSERT n = 0, format('%s actions name no chain', n);

    SELECT total_successes - (
        SELECT sum((metadata ->> 'success_count')::bigint)
        FROM fhq_governance.governance_actions_log
        WHERE action_type = 'VISION_ORCHESTRATOR_CYCLE' AND timestamp > now() - interval '7 days'
    ) INTO n FROM vision_core.v_orchestrator_performance;
    ASSERT n = 0, 'the performance counts otherwise than the log';

    SELECT count(*) INTO n FROM vision_core.orchestrator_schedule
    WHERE schedule_name = 'vision_ios_hourly';
    ASSERT n = 1, 'vision_ios_hourly has no row in orchestrator_schedule';
    RAISE NOTICE '% agrees: %', last.cycle_id, last.cycle_status;
END $$;
