"""A registry that a site has already is read in the place of ours, and never written to."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from runwright.bootstrap.project import open_store
from runwright.config import load
from runwright.kernel.errors import InternalError, InvalidSetting
from tests.e2e.project import Project
from tests.postgres import site
from tests.postgres.project import SharedProject
from tests.postgres.server import Server

pytestmark = pytest.mark.slow

COLUMNS = ("task_id", "task_name", "task_type", "agent_id", "task_config", "enabled")


@pytest.fixture(scope="module")
def place(server: Server) -> str:
    """A database that these tests use one after the other: each of its own would take longer."""
    return server.new_database()


@pytest.fixture
def bare(server: Server, place: str, tmp_path: Path) -> Iterator[SharedProject]:
    """A project that is not made yet, in a database with a site's registry."""
    site.make(server, place)
    made = SharedProject(tmp_path, server, place)
    yield made
    made.close()
    schemas = "fhq_governance, audit, public, runwright, vision_core, fhq_meta"
    server.sql(place, f"DROP SCHEMA IF EXISTS {schemas} CASCADE")
    server.sql(place, "CREATE SCHEMA public")


@pytest.fixture
def adopted(bare: SharedProject) -> SharedProject:
    """A project that reads the site's registry, which holds three functions."""
    bare.done("init", "--name", "demo", env=site.ADOPTING)
    for name, priority in (("zebra", 1), ("beta", None), ("alpha", None)):
        bare.write(f"functions/{name}.py", f"print('{name} ran')\n")
        config: dict[str, Any] = {"function_path": f"functions/{name}.py"}
        if priority:
            config["priority"] = priority
        register(bare, name, config)
    return bare


def register(project: SharedProject, name: str, config: Any, **columns: Any) -> None:
    site.insert(project.server, project.database, name, config, **columns)


def alter(project: SharedProject, change: str) -> None:
    project.server.sql(project.database, f"ALTER TABLE {site.TABLE} {change}")


def planned(project: SharedProject) -> list[str]:
    done = project.done("run", "demo", "--dry-run", "--json")
    return [run["function"] for run in done.json["runs"]]


# ----------------------------------------------------------------------------------- read


def test_a_site_s_registry_says_what_runs_and_stays_as_it_was(adopted: SharedProject) -> None:
    """By priority, then by name where ids are no numbers; every command reads it."""
    before = site.kept(adopted.server, adopted.database)
    adopted.apply()
    assert planned(adopted) == ["zebra", "alpha", "beta"]
    label = adopted.done("run", "demo", "--json").json["label"]
    evidence = adopted.evidence(label)
    assert [each["task_name"] for each in evidence["results"]] == ["zebra", "alpha", "beta"]
    assert {each["agent_id"] for each in evidence["results"]} == {"FINN"}
    # The store remembers: no setting was given since `init`.
    assert adopted.sql("SELECT schema, relation FROM place WHERE name = 'task_registry'") == [
        ("fhq_governance", "task_registry")
    ]
    assert "alpha ran" in adopted.done("show", label).stdout
    assert adopted.done("doctor", "--json").json[0]["state"] == "ok"
    assert adopted.done("db", "check", "--json").json["problems"] == []
    assert adopted.done("db", "rebuild", "--check", "--json").json["differences"] == []
    adopted.done("db", "rebuild")
    assert "governance_actions_log" in adopted.done("db", "install-views").stdout
    assert adopted.done("verify", "--store", "--json").json["held"]
    # Who registered stands in the ledger and its log, not in the site's table.
    registered = adopted.sql(
        "SELECT decision FROM governance_actions_log"
        " WHERE action_type = 'VISION_ORCHESTRATOR_REGISTRATION'"
    )
    assert registered == [("APPROVED",)]
    assert site.kept(adopted.server, adopted.database) == before
    assert {what for what, _ in site.touched(adopted.server, adopted.database)} == {"INSERT"}
    assert {who for _, who in site.touched(adopted.server, adopted.database)} == {""}


def test_a_site_s_registry_is_asked_for_columns_and_for_rows_above_a_value(
    adopted: SharedProject,
) -> None:
    """As a table of ours is: what the site keeps as varchar is ordered by bytes."""
    store = open_store(load({**adopted.environment, **site.ADOPTING}, start=adopted.folder))
    found = store.rows("task_registry", after={"task_name": "alpha"}, columns=("task_name",))
    assert sorted(row["task_name"] for row in found) == ["beta", "zebra"]
    found = store.rows("task_registry", {"task_name": "beta"}, columns=("task_config", "enabled"))
    config = '{"function_path":"functions/beta.py"}'
    assert found == [{"task_config": config, "enabled": 1}]
    with pytest.raises(InternalError, match="task_config has no order on every store"):
        store.rows("task_registry", after={"task_config": "{}"})
    store.close()


def test_a_write_of_ours_would_have_been_seen(adopted: SharedProject) -> None:
    """The control: a store that takes the table for its own writes to it, and the log says so."""
    change = "ADD spec_name text NOT NULL DEFAULT '', ADD task_description text DEFAULT ''"
    alter(adopted, change)
    for name in ("description", "domain", "assigned_to"):
        alter(adopted, f"ALTER {name} SET DEFAULT ''")
    task = adopted.task("mine", "print(1)\n")
    refused = adopted.run("apply", adopted.spec(task))
    assert (refused.status, refused.error[0]) == (2, "invalid-spec")
    assert ("INSERT", "runwright") not in site.touched(adopted.server, adopted.database)
    adopted.sql("UPDATE place SET relation = '' WHERE name = 'task_registry'")
    adopted.apply(task)
    assert ("INSERT", "runwright") in site.touched(adopted.server, adopted.database)


def test_numbers_order_functions_as_they_were_registered(bare: SharedProject) -> None:
    """And a view serves as well as a table: here of one whose columns have other names."""
    bare.server.psql(
        bare.database,
        """
        CREATE TABLE public.jobs (nr smallint, title text, config json, is_on boolean);
        CREATE VIEW public.tasks AS SELECT nr AS task_id, title AS task_name,
            'VISION_FUNCTION'::text AS task_type, 'FINN'::text AS agent_id, config AS task_config,
            is_on AS enabled FROM public.jobs;
        """,
    )
    bare.done("init", "--name", "demo", env={"RUNWRIGHT_REGISTRY_TABLE": "public.tasks"})
    bare.apply()
    for number, name in ((30, "a"), (4, "c"), (5, "b"), (6, "off"), (7, "unset")):
        config = json.dumps({"command": ["true"]})
        on = {"off": False, "unset": None}.get(name, True)
        bare.sql("INSERT INTO public.jobs VALUES (?, ?, ?, ?)", number, name, config, on)
    assert planned(bare) == ["c", "b", "a"]


def test_rows_that_cannot_be_obeyed_are_named(adopted: SharedProject) -> None:
    """No configuration: refused by itself. Two rows of one name: nothing says which is meant."""
    adopted.apply()
    register(adopted, "unset", None)
    adopted.sql(f"UPDATE {site.TABLE} SET task_config = NULL WHERE task_name = 'unset'")
    dry = adopted.run("run", "demo", "--dry-run")
    assert dry.status == 2
    assert "unset" in dry.stdout + dry.stderr
    adopted.sql(f"UPDATE {site.TABLE} SET enabled = false WHERE task_name = 'unset'")
    register(adopted, "nobody's", {"command": ["true"]}, agent_id=None)
    dry = adopted.run("run", "demo", "--dry-run")
    assert dry.status == 2
    assert "agent_id is empty" in dry.stdout + dry.stderr
    register(adopted, "alpha", {"command": ["true"]})
    refused = adopted.run("run", "demo")
    assert (refused.status, refused.error[0]) == (2, "usage")
    assert "two enabled rows of the name 'alpha'" in refused.error[1]


def test_a_row_that_the_site_lets_people_change_changes_the_next_plan(
    adopted: SharedProject,
) -> None:
    """And a site that lets nobody change one keeps it: its trigger refuses, the plan stays."""
    adopted.apply()

    def disable(name: str) -> None:
        adopted.sql(f"UPDATE {site.TABLE} SET enabled = false WHERE task_name = '{name}'")

    disable("zebra")
    assert planned(adopted) == ["alpha", "beta"]
    adopted.server.psql(adopted.database, site.IMMUTABLE)
    with pytest.raises(psycopg.errors.RaiseException, match="append-only"):
        disable("alpha")
    assert planned(adopted) == ["alpha", "beta"]
    assert adopted.done("run", "demo", "--json").json["outcome"] == "COMPLETED"


def test_the_service_is_given_what_the_site_s_rows_grant(adopted: SharedProject) -> None:
    """Variables come from the rows that a cycle would execute."""
    adopted.apply()
    register(adopted, "granted", {"command": ["true"], "env": ["SITE_TOKEN"]})
    shown = adopted.done("service", "show", "demo", "--for", "cron").stdout
    assert "SITE_TOKEN" in shown


# ----------------------------------------------------------------------------------- apply


def test_a_task_of_a_spec_needs_an_equal_row(adopted: SharedProject) -> None:
    """The refusal prints what the keeper would give; once it was given, the spec applies."""
    for name in ("description", "domain", "assigned_to"):
        alter(adopted, f"ALTER {name} SET DEFAULT ''")
    task = adopted.task("new", "print(1)\n", write=[], args=["it's \\ new"])
    before = site.kept(adopted.server, adopted.database)
    refused = adopted.run("apply", adopted.spec(task))
    assert (refused.status, refused.error[0]) == (2, "invalid-spec")
    assert f"new stands in no row of {site.TABLE}" in refused.error[1]
    assert site.kept(adopted.server, adopted.database) == before
    assert adopted.bodies("spec.applied") == []
    (insert,) = re.findall(r"INSERT INTO .*?;", refused.stderr)
    adopted.sql(insert)
    adopted.apply(task)
    adopted.done("run", "demo", "--function", "new")
    adopted.sql(f"UPDATE {site.TABLE} SET agent_id = 'STIG' WHERE task_name = 'new'")
    apart = adopted.run("apply", adopted.spec(task, title="again"))
    assert (apart.status, apart.error[0]) == (2, "invalid-spec")
    assert "new differs in agent_id from its row" in apart.error[1]


def test_what_the_site_requires_beside_is_said(adopted: SharedProject) -> None:
    """Columns without a default that are none of ours."""
    refused = adopted.run("apply", adopted.spec(adopted.task("new", "print(1)\n")))
    assert "It requires description, domain, assigned_to too." in refused.stderr


# ----------------------------------------------------------------------------------- refused


def test_a_registry_without_a_column_is_refused(bare: SharedProject) -> None:
    """By its name; nothing is made, no key is left."""
    for column in COLUMNS:
        alter(bare, f"RENAME {column} TO elsewhere")
        done = bare.run("init", "--name", "demo", env=site.ADOPTING)
        assert (done.status, done.error[0]) == (2, "invalid-setting")
        assert done.error[1].endswith(f"{site.TABLE} has no column {column}")
        assert "registry.table" in done.stderr
        alter(bare, f"RENAME elsewhere TO {column}")
    made = "SELECT 1 FROM pg_namespace WHERE nspname IN ('runwright', 'vision_core')"
    assert bare.server.sql(bare.database, made) == []
    assert not (bare.folder / ".runwright" / "keys").exists()


def test_a_registry_that_became_another_one_is_said(adopted: SharedProject) -> None:
    """By the next run, which records the refusal, by apply, the doctor and `db check`."""
    adopted.apply()
    alter(adopted, "ALTER task_config TYPE text")
    said = f"the column task_config of {site.TABLE} is of type text, not jsonb or json"
    for words in (
        ("run", "demo"),
        ("run", "demo", "--dry-run"),
        ("apply", adopted.spec(title="x")),
    ):
        done = adopted.run(*words)
        assert (done.status, done.error[0]) == (2, "invalid-setting"), done
        assert said in done.error[1]
    assert said in adopted.bodies("tick.refused")[0]["message"]
    assert said in adopted.done("db", "check", status=4).stdout
    assert said in adopted.done("doctor", status=4).stdout
    # What needs no registry goes on.
    assert adopted.done("verify", "--store", "--json").json["held"]
    alter(adopted, "ALTER task_config TYPE json USING task_config::json")
    for change, said in (
        ("ALTER enabled TYPE text", "is of type text, not boolean"),
        ("RENAME TO elsewhere", f"there is no table {site.TABLE}"),
    ):
        assert planned(adopted) == ["zebra", "alpha", "beta"]
        alter(adopted, change)
        assert said in adopted.run("run", "demo", "--dry-run").error[1]
        if "enabled" in change:
            alter(adopted, "ALTER enabled TYPE boolean USING enabled::boolean")


@pytest.mark.parametrize(
    "name",
    ["tasks", "a.b.c", 'a."b"', "a.b; DROP TABLE x", "a.b c", "1a.b", "a.", ".b", "a.b\n", "é.b"],
)
def test_a_registry_is_named_by_a_plain_name(name: str, tmp_path: Path) -> None:
    """Anything else is refused before a server hears of it."""
    flags = {"registry.table": name, "store.url": "postgresql:"}
    with pytest.raises(InvalidSetting, match=r"flag: registry\.table: not schema\.table"):
        load({}, start=tmp_path, flags=flags)


def test_a_file_has_no_registry_to_adopt(tmp_path: Path) -> None:
    """The setting is refused there, before anything is made."""
    project = Project(tmp_path)
    done = project.run("init", "--name", "demo", env=site.ADOPTING)
    assert (done.status, done.error[0]) == (2, "invalid-setting")
    assert "in a PostgreSQL store only" in done.error[1]
    assert not project.store.exists()


def test_what_init_was_told_stands(adopted: SharedProject) -> None:
    """A setting that says something else later is refused, not ignored; the same is welcome."""
    adopted.done("db", "check", env=site.ADOPTING)
    done = adopted.run("db", "check", env={"RUNWRIGHT_REGISTRY_TABLE": "public.other"})
    assert (done.status, done.error[0]) == (2, "invalid-setting")
    assert f"says public.other; the store reads {site.TABLE}" in done.error[1]


def test_a_store_with_a_registry_of_its_own_keeps_it(shared: SharedProject) -> None:
    """The setting is for `init`."""
    done = shared.run("run", "demo", env=site.ADOPTING)
    assert (done.status, done.error[0]) == (2, "invalid-setting")
    assert "the store reads a table of its own" in done.error[1]


# ----------------------------------------------------------------------------------- rights


def test_no_right_but_select_is_needed(adopted: SharedProject) -> None:
    """A conductor by `db roles` reads the registry and can do nothing else to it."""
    adopted.apply()
    user = f"{adopted.database}_conductor"
    adopted.sql(f'CREATE ROLE "{user}" LOGIN')
    script = adopted.done("db", "roles").stdout
    (grant,) = [line for line in script.splitlines() if '"fhq_governance"."task_registry"' in line]
    assert grant == 'GRANT SELECT ON "fhq_governance"."task_registry" TO "runwright_reader";'
    # All of it but this one: the site has not let us in yet.
    adopted.server.psql(adopted.database, script.replace(grant, ""))
    adopted.sql(f'GRANT "runwright_conductor" TO "{user}"')
    url = {"RUNWRIGHT_STORE_URL": adopted.server.url(adopted.database, user)}
    refused = adopted.run("run", "demo", env=url)
    assert (refused.status, refused.error[0]) == (2, "invalid-setting")
    assert "this user may not read task_id, task_name" in refused.error[1]
    assert "GRANT SELECT" in refused.error[1]
    adopted.server.psql(adopted.database, grant)
    before = site.kept(adopted.server, adopted.database)
    adopted.done("apply", adopted.spec(title="by the conductor"), env=url)
    ran = adopted.done("run", "demo", "--json", env=url).json
    assert ran["outcome"] == "COMPLETED"
    for statement in (
        f"UPDATE {site.TABLE} SET enabled = false",
        f"DELETE FROM {site.TABLE}",
        f"INSERT INTO {site.TABLE} (task_name) VALUES ('x')",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            adopted.server.sql(adopted.database, statement, user=user)
    assert site.kept(adopted.server, adopted.database) == before
