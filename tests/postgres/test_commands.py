"""The command line on a shared store: cycles, submitters, takeover, people with SQL."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import psycopg
import pytest

from runwright.adapters.postgres import PostgresStore
from runwright.kernel.ports import Batch, SealRow, StoredEntry, Tile
from tests.e2e.project import until
from tests.postgres.project import SharedProject
from tests.postgres.server import Server

pytestmark = pytest.mark.slow

#: Statements of an application, an operator and a reader -> what the server says to each of them.
REFUSED = [
    "INSERT INTO runwright.entry VALUES (99, '', '')",
    "UPDATE runwright.entry SET raw = ''",
    "DELETE FROM runwright.entry",
    "TRUNCATE runwright.entry",
    "UPDATE runwright.seal SET note = ''",
    "DELETE FROM runwright.blob",
    "UPDATE runwright.request SET state = 'done'",
    "UPDATE runwright.lease SET token = 99",
    "ALTER TABLE runwright.entry DISABLE TRIGGER ALL",
]


def test_a_cycle_runs_and_verifies(shared: SharedProject, tmp_path: Path) -> None:
    """Apply, run, show, export, verify; the same rows as on SQLite, and nothing on the disk."""
    tasks = [shared.task(name, f"print('{name}')\n") for name in ("a", "b")]
    shared.apply(*tasks)
    again = shared.done("apply", "demo.yaml", "--json").json
    assert again[0]["changed"] is False, "JSON comes back in another order, and is the same"
    ran = shared.done("run", "demo", "--json").json
    assert (ran["outcome"], ran["outcomes"]) == ("COMPLETED", {"done": 2})
    assert shared.evidence(ran["label"])["cycle_status"] == "COMPLETED"
    shown = shared.done("show", ran["label"], "--json").json
    assert [run["key"] for run in shown["runs"]] == ["a", "b"]
    assert shown["sealed"]
    shared.done("export", "latest", "--json")
    bundle = shared.folder / "out" / "bundles" / ran["label"]
    assert shared.done("verify", bundle, "--json").json["held"]
    report = shared.done("verify", "--store", "--rejudge", "--json").json
    assert report["held"]
    assert report["entries"] == shared.sql("SELECT count(*) FROM entry")[0][0]
    assert not shared.store.exists()


def test_an_init_over_a_store_is_refused(shared: SharedProject) -> None:
    """Whoever else works there keeps what is theirs."""
    before = shared.sql("SELECT raw FROM entry")
    other = SharedProject(shared.base / "other", shared.server, shared.database)
    done = other.run("init", "--name", "other")
    assert (done.status, done.error[0]) == (2, "usage")
    assert "There is a store at postgresql://" in done.error[1]
    assert not (other.folder / ".runwright" / "keys").exists(), "no keys are left behind"
    assert shared.sql("SELECT raw FROM entry") == before


def test_an_init_that_is_cut_off_leaves_nothing_in_the_database(
    server: Server, database: str, tmp_path: Path
) -> None:
    """Its tables, its first entry and its seal come together; given again it ends well."""
    project = SharedProject(tmp_path, server, database)
    # The folder of the signer's memory cannot be made: the last step before the seal fails.
    project.state.write_text("in the way")
    done = project.run("init", "--name", "demo")
    assert done.status != 0
    schemas = "SELECT nspname FROM pg_namespace WHERE nspname IN ('runwright', 'fhq_governance')"
    assert server.sql(database, schemas) == []
    project.state.unlink()
    project.done("init", "--name", "demo")
    assert len(server.sql(database, schemas)) == 2
    assert project.done("verify", "--store", "--json").json["held"]


def test_an_init_whose_last_commit_was_not_heard_of_is_ended_by_the_next(
    shared: SharedProject,
) -> None:
    """The store is there, and its keys still lie as unfinished: it belongs to them."""
    (shared.folder / ".runwright" / "keys" / "unfinished").touch()
    made = shared.done("init", "--name", "demo", "--json").json
    assert made["origin"].startswith("runwright.local/demo/")
    assert not (shared.folder / ".runwright" / "keys" / "unfinished").exists()
    assert shared.run("init", "--name", "demo").status == 2


def test_a_table_of_somebody_else_is_left_alone(
    server: Server, database: str, tmp_path: Path
) -> None:
    """A site that has a task_registry keeps it; the message says which setting helps."""
    server.sql(database, "CREATE SCHEMA fhq_governance")
    server.sql(database, "CREATE TABLE fhq_governance.task_registry (theirs text)")
    project = SharedProject(tmp_path, server, database)
    done = project.run("init", "--name", "demo")
    assert (done.status, done.error[0]) == (2, "usage")
    assert '"task_registry" already exists' in done.error[1]
    assert "[schemas]" in done.stderr
    assert 'registry.table = "fhq_governance.task_registry"' in done.stderr
    here = {"RUNWRIGHT_SCHEMAS_GOVERNANCE": "of_runwright"}
    project.done("init", "--name", "demo", env=here)
    # Where the tables stand is kept with them: the setting is for `init`.
    project.apply(project.task("a", "print(1)\n"))
    project.done("run", "demo")
    assert server.sql(
        database, "SELECT task_name FROM of_runwright.task_registry WHERE spec_name > ''"
    ) == [("a",)]
    assert server.sql(database, "SELECT * FROM fhq_governance.task_registry") == []


def test_rows_that_operators_insert_get_numbers_of_their_own(shared: SharedProject) -> None:
    """Whatever `apply` wrote before: it leaves the numbers to the tables, as they do."""
    every = {"schedule": {"interval_s": 3600}}
    one, two = shared.task("a", "print(1)\n"), shared.task("b", "print(2)\n")
    shared.apply(one, two, **every)
    shared.apply({**one, "agent_id": "STIG"}, schedule={"interval_s": 60})
    for name in ("c", "d"):
        shared.sql(
            "INSERT INTO task_registry (task_name, task_type, agent_id, task_config)"
            " VALUES (?, 'VISION_FUNCTION', 'FINN', '{\"command\": [\"true\"]}')",
            name,
        )
        shared.sql(
            "INSERT INTO orchestrator_schedule (schedule_name, schedule_type) VALUES (?, 'MANUAL')",
            f"by-hand-{name}",
        )
        shared.apply(shared.task(f"of-{name}", "print(3)\n"), name=f"spec-{name}", **every)
    tasks, schedules = {"a", "b", "c", "d", "of-c", "of-d"}, {"by-hand-c", "by-hand-d", "spec-d"}
    for table, number, name, wanted in (
        ("task_registry", "task_id", "task_name", tasks),
        ("orchestrator_schedule", "schedule_id", "schedule_name", schedules),
    ):
        rows = shared.sql(f"SELECT {number}, {name} FROM {table}")
        assert len({number for number, _ in rows}) == len(rows), rows
        assert wanted <= {name for _, name in rows}
    # The control: a number that was written by hand is in the way of the table's own.
    shared.sql(
        "INSERT INTO orchestrator_schedule (schedule_id, schedule_name, schedule_type)"
        " SELECT max(schedule_id) + 1, 'numbered', 'MANUAL' FROM orchestrator_schedule"
    )
    with pytest.raises(psycopg.errors.UniqueViolation):
        for count in range(100):
            shared.sql(
                "INSERT INTO orchestrator_schedule (schedule_name, schedule_type)"
                " VALUES (?, 'MANUAL')",
                f"more-{count}",
            )


def test_beside_a_conductor_commands_are_handed_over(shared: SharedProject) -> None:
    """From the same machine or another one; a second conductor is told who holds the store."""
    gate = shared.gate()
    slow, quick = shared.task("slow", gate.source, timeout_s=60), shared.task("q", "print(1)\n")
    shared.apply(slow, name="first")
    shared.apply(quick, name="second")
    holder = shared.start("run", "first", "--continuous", "--interval", "3600")
    gate.wait_begun()
    other = SharedProject(shared.base / "elsewhere", shared.server, shared.database)
    asking = other.start("run", "second", "--json")
    event = asking.wait_event("request.submitted")
    gate.let_go()
    done = asking.end()
    assert done.status == 0, done
    assert done.json["outcome"] == "COMPLETED"
    assert shared.sql("SELECT state FROM request WHERE id = ?", event["id"]) == [("done",)]
    busy = shared.run("run", "second", "--continuous")
    assert (busy.status, busy.error[0]) == (75, "store-busy")
    assert f"(process {holder.pid} on " in busy.error[1]
    findings = {each["what"]: each for each in shared.run("doctor", "--json").json}
    assert f"process {holder.pid}" in findings["conductor"]["detail"]
    holder.send(signal.SIGTERM)
    assert holder.end().status == 0
    other.close()


def test_a_killed_conductor_is_followed_by_the_next(shared: SharedProject) -> None:
    """What it had started ends as interrupted; a request that it was handed is answered."""
    gate = shared.gate()
    shared.apply(shared.task("slow", gate.source, timeout_s=60), name="first")
    shared.apply(shared.task("q", "print(1)\n"), name="second")
    holder = shared.start("run", "first", "--continuous", "--interval", "3600")
    gate.wait_begun()
    asking = shared.start("run", "second", "--json")
    asking.wait_event("request.submitted")
    holder.kill()
    done = asking.end()
    assert done.status == 0, done
    assert done.json["outcome"] == "COMPLETED"
    statuses = [(body["key"], body["status"]) for body in shared.bodies("run.finished")]
    assert statuses == [("slow", "interrupted"), ("q", "done")]
    assert shared.done("verify", "--store", "--json").json["held"]


def test_another_machine_conducts_once_it_adopted_the_ledger(
    shared: SharedProject, tmp_path: Path
) -> None:
    """It has the keys and no memory of what was signed: a person says that it may go on."""
    shared.apply(shared.task("a", "print(1)\n"))
    other = shared.beside(tmp_path / "other")
    for file in other.state.rglob("*.memory"):
        file.unlink()
    refused = other.run("run", "demo")
    assert (refused.status, refused.error[0]) == (4, "signer-memory-lost")
    other.done("ledger", "adopt", "--reason", "the second machine conducts from now on")
    other.done("run", "demo")
    # And back again: what this machine remembers lies on the way, and its key signed the rest.
    shared.done("run", "demo")
    other.done("run", "demo")
    assert other.done("verify", "--store", "--json").json["held"]


def test_a_seal_of_another_key_is_not_taken_for_that_of_another_machine(
    shared: SharedProject, tmp_path: Path
) -> None:
    """The control: a machine whose memory is behind goes on under its own key's seals alone."""
    shared.apply(shared.task("a", "print(1)\n"))
    other = shared.beside(tmp_path / "other")
    other.done("run", "demo")
    forged = "UPDATE runwright.seal SET note = replace(note, E'\\u2014 ', E'\\u2014 x')"
    shared.server.psql(shared.database, forged)
    assert shared.run("run", "demo").error[0] == "signer-memory-lost"


# ---------------------------------------------------------------------------------- roles, SQL


def test_roles_let_nobody_change_the_record(shared: SharedProject) -> None:
    """Each as a real user: the application asks, the reader looks, the conductor only appends."""
    shared.apply(shared.task("a", "print(1)\n"))
    shared.done("run", "demo")
    script = shared.done("db", "roles").stdout
    shared.server.psql(shared.database, script)
    shared.done("db", "roles", "--apply")  # as often as wanted
    for name in ("conductor", "application", "operator", "reader"):
        user = f"{shared.database}_{name}"
        shared.sql(f'CREATE ROLE "{user}" LOGIN')
        shared.sql(f'GRANT "runwright_{name}" TO "{user}"')

    def sql(who: str, statement: str) -> Any:
        user = f"{shared.database}_{who}"
        return shared.server.sql(shared.database, statement, user=user)

    size = shared.sql("SELECT count(*) FROM entry")
    for who in ("application", "operator", "reader"):
        assert sql(who, "SELECT count(*) FROM runwright.entry") == size
        for statement in REFUSED:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                sql(who, statement)
    for statement in REFUSED[1:4] + REFUSED[-1:]:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            sql("conductor", statement)
    assert shared.sql("SELECT count(*) FROM entry") == size
    # Asking is open to the application, and to it alone of those who conduct nothing.
    ask = "INSERT INTO runwright.request (id, kind, body, created_ms) VALUES ('{0}', 'run', '', 1)"
    sql("application", ask.format("by-sql"))
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        sql("reader", ask.format("no"))
    change = "UPDATE fhq_governance.task_registry SET enabled = true"
    sql("operator", change)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        sql("application", change)
    # And a whole cycle needs no more than the conductor's role.
    url = shared.server.url(shared.database, f"{shared.database}_conductor")
    ran = shared.done("run", "demo", "--json", env={"RUNWRIGHT_STORE_URL": url}).json
    assert ran["outcome"] == "COMPLETED"
    reading = shared.server.url(shared.database, f"{shared.database}_reader")
    asked = {"RUNWRIGHT_STORE_URL": reading}
    assert shared.done("verify", "--store", "--json", env=asked).json["held"]
    shared.done("doctor", env=asked)
    refused = shared.run("run", "demo", env=asked)
    assert (refused.status, refused.error[0]) == (4, "store-unwritable")
    assert "permission denied" in refused.error[1]


def test_even_the_owner_is_stopped_by_triggers(server: Server, store: PostgresStore) -> None:
    """A superuser who did not take them off first."""
    store.commit(Batch(entries=[StoredEntry(0, b"raw", bytes(32))]))
    store.commit(Batch(tiles=[Tile(1, 0, b"t")], seals=[SealRow(1, b"root", "note")]))
    for statement in (
        "UPDATE {0}.entry SET raw = raw",
        "DELETE FROM {0}.entry",
        "TRUNCATE {0}.entry",
        "UPDATE {0}.tile SET idx = 7",
        "DELETE FROM {0}.tile",
        "TRUNCATE {0}.seal",
        "DELETE FROM {0}.seal",
        "UPDATE {0}.seal SET root = ''",
    ):
        with pytest.raises(psycopg.errors.RaiseException, match="is never"):
            server.sql("postgres", statement.format(store.target.schema))
    assert store.size() == len(store.seals()) == len(store.tiles(1, 0, 9)) == 1


def test_rows_that_were_altered_behind_the_triggers_are_found(shared: SharedProject) -> None:
    """By a superuser who took them off: `verify` names the first bad entry, `check` the trigger."""
    shared.apply(shared.task("a", "print(1)\n"))
    shared.done("run", "demo")
    assert shared.done("verify", "--store", "--json").json["held"]
    shared.sql("ALTER TABLE runwright.entry DISABLE TRIGGER ALL")
    found = shared.done("db", "check", "--json", status=4).json["problems"]
    assert found == ["the trigger entry_is_never_changed is disabled"]
    for change in (
        "UPDATE runwright.entry SET raw = set_byte(raw, 40, get_byte(raw, 40) # 1) WHERE seq = 3",
        "UPDATE runwright.entry SET leaf = set_byte(leaf, 0, get_byte(leaf, 0) # 1) WHERE seq = 3",
        "DELETE FROM runwright.entry WHERE seq = 3",
    ):
        with shared.server.connect(shared.database) as db:
            ((raw, leaf),) = db.execute("SELECT raw, leaf FROM runwright.entry WHERE seq = 3")
            db.execute(change.encode())
            report = shared.done("verify", "--store", "--json", status=6).json
            assert report["first_bad"] == 3, change
            db.execute("DELETE FROM runwright.entry WHERE seq = 3")
            db.execute("INSERT INTO runwright.entry VALUES (3, %s, %s)", (raw, leaf))
    shared.sql("ALTER TABLE runwright.entry ENABLE TRIGGER ALL")
    shared.done("db", "check")
    assert shared.done("verify", "--store", "--json").json["held"]


def test_an_operator_works_on_the_registry_by_sql(shared: SharedProject) -> None:
    """Rows that are inserted and changed by plain SQL are what the next plan reads."""
    shared.apply(shared.task("declared", "print(1)\n"))
    shared.write("functions/mine.py", "print(2)\n")
    shared.server.psql(
        shared.database,
        """
        INSERT INTO fhq_governance.task_registry (task_name, task_type, agent_id, task_config)
        VALUES ('mine', 'VISION_FUNCTION', 'STIG', '{"function_path": "functions/mine.py"}');
        UPDATE fhq_governance.task_registry
        SET task_config = task_config || jsonb_build_object('priority', 1) WHERE task_name = 'mine';
        """,
    )
    planned = shared.done("run", "demo", "--dry-run", "--json").json["runs"]
    assert [run["function"] for run in planned] == ["mine", "declared"]
    # A spec that is applied after that takes the next id: the two ways do not meet.
    shared.apply(shared.task("declared", "print(1)\n"), shared.task("third", "print(3)\n"))
    rows = shared.sql("SELECT task_id, task_name FROM task_registry ORDER BY task_id")
    assert rows == [
        (1, "declared"),
        (2, "vision_ios_orchestrator"),
        (3, "mine"),
        (4, "third"),
    ]
    ((stamp,),) = shared.sql("SELECT created_at FROM task_registry WHERE task_name = 'mine'")
    assert stamp.tzinfo is not None
    shared.sql("UPDATE task_registry SET enabled = false WHERE task_name = 'declared'")
    planned = shared.done("run", "demo", "--dry-run", "--json").json["runs"]
    assert [run["function"] for run in planned] == ["mine", "third"]


def test_a_request_by_plain_sql_is_answered(shared: SharedProject) -> None:
    """An application needs no Runwright: a row, and a notification that wakes the conductor."""
    shared.apply(shared.task("a", "print(1)\n"))
    holder = shared.start("run", "demo", "--continuous", "--interval", "3600")
    holder.wait_event("round.judged")
    body = json.dumps({"kind": "cycles", "name": "demo"})
    shared.server.psql(
        shared.database,
        f"""
        INSERT INTO runwright.request (id, kind, body, created_ms, "by")
        VALUES ('from-sql', 'run', '{body}', extract(epoch FROM now())::bigint * 1000, 'app');
        NOTIFY runwright_bell;
        """,
    )
    asked = "SELECT state FROM request WHERE id = 'from-sql'"
    until(lambda: shared.sql(asked) == [("done",)], "it is answered, long before a look")
    holder.send(signal.SIGTERM)
    assert holder.end().status == 0


def test_a_request_that_makes_no_sense_harms_nobody(shared: SharedProject) -> None:
    """An application may insert any text: it is refused, or answered with an error."""
    shared.apply(shared.task("a", "print(1)\n"))
    holder = shared.start("run", "demo", "--continuous", "--interval", "3600")
    holder.wait_event("round.judged")
    insert = 'INSERT INTO request (id, kind, body, created_ms, "by", reply) '
    for created_ms in (-1, 1 << 62):
        with pytest.raises(psycopg.errors.CheckViolation):
            shared.sql(f"{insert} VALUES ('when', 'run', '', ?, '', '')", created_ms)
    bodies = [b"", b"{", b'{"kind":"cycles","name":"no"}', b"\xff", b"[" * 5000]
    for index, body in enumerate(bodies):
        shared.sql(f"{insert} VALUES (?, 'run', ?, 1, 'app', ?)", f"bad-{index}", body, "x" * 99)
    shared.sql(f"{insert} VALUES ('kind', 'no such', '', 1, '', 'runwright_bell')")
    shared.sql("NOTIFY runwright_bell")
    closed = "SELECT count(*) FROM request WHERE state = 'done'"
    until(lambda: shared.sql(closed) == [(len(bodies) + 1,)], "each is answered")
    for (result,) in shared.sql("SELECT result FROM request"):
        assert json.loads(result)["error"] in ("usage", "unknown-name")
    holder.send(signal.SIGTERM)
    assert holder.end().status == 0


def test_a_cycle_is_reconciled_and_a_budget_held(shared: SharedProject) -> None:
    """The same rows as on SQLite, under the types of this store; they follow from the ledger."""
    tasks = [shared.task(name, f"print('{name}')\n") for name in ("a", "b")]
    shared.apply(*tasks, budgets=[{"name": "daily", "limits": {"calls": 3, "cost": "0.5"}}])
    shared.done("run", "demo", "--at", "2026-01-01T10:00:00Z")
    shared.done("run", "demo", "--at", "2026-01-01T11:00:00Z", status=5)
    snapshots = (
        "SELECT discrepancy_score::text, threshold_exceeded, reconciliation_status"
        " FROM fhq_meta.reconciliation_snapshots"
    )
    assert shared.sql(snapshots) == [("0.000000", False, "RECONCILED")] * 2
    assert shared.sql("SELECT calls, cost::text, window_key FROM budget_usage") == [
        (3, "0", "2026-01-01")
    ]
    ((task, limit, actual, state),) = shared.sql(
        "SELECT task_name, limit_value, actual_value, state FROM budget_violation"
    )
    assert (task, limit, actual, state) == ("b", "3", "3", "OPEN")
    # An operator makes the table stricter, and a cycle reports a field that nobody recorded.
    shared.sql(
        "INSERT INTO fhq_meta.reconciliation_field_weights (component_name, field_name,"
        " criticality_weight, tolerance_type) VALUES ('vision_ios_orchestrator', 'x', 1, 'EXACT')"
    )
    shared.done("run", "demo", status=5)
    assert shared.sql(f"{snapshots} ORDER BY snapshot_id DESC LIMIT 1") == [
        ("0.185185", True, "DIVERGENT")
    ]
    assert len(shared.done("show", "waiting", "--json").json) == 2
    shared.done("db", "rebuild", "--check")
