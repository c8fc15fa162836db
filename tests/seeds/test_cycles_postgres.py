"""The demands of cycles-001 that speak to PostgreSQL: its statements, as they are printed there."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import requires
from pathlib import Path

import pytest

from tests.postgres import site
from tests.postgres.project import SharedProject
from tests.postgres.server import Server
from tests.seeds.test_cycles_001 import MARKET, NAMES

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def market(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedProject]:
    """The market example, applied to a database."""
    made = SharedProject(tmp_path_factory.mktemp("market"), server, server.new_database())
    made.done("init", "--name", "market")
    shutil.copytree(MARKET, made.folder / "market", ignore=shutil.ignore_patterns("*.pyc"))
    made.done("apply", "market/cycle.yaml")
    yield made
    made.close()


def psql(project: SharedProject, script: str) -> list[list[str]]:
    """Give a script to psql, as an operator does; return the cells of what it printed."""
    printed = project.server.psql(project.database, script)
    return [line.split("|") for line in printed.splitlines()]


def planned(project: SharedProject) -> dict[str, str]:
    """Return what a dry run plans: function -> path."""
    done = project.run("run", "market", "--dry-run", "--json")
    return {run["function"]: run["path"] for run in done.json["runs"]}


@pytest.mark.seed("cycles-001/config-task-window")
def test_a_key_that_is_set_by_sql_shows_in_the_next_plan(market: SharedProject) -> None:
    """The UPDATE of the document: 48 hours hold too few days for this data, and it says so."""
    psql(
        market,
        """
        UPDATE fhq_governance.task_registry
        SET task_config = task_config || jsonb_build_object(
            'default_window_hours', 48  -- Increase analysis window
        )
        WHERE task_name = 'vision_signal_inference_baseline';
        """,
    )
    label = market.done("run", "market", "--json", status=5).json["label"]
    told = market.done("show", label, "--output", "stderr", "--function", NAMES[0]).stdout
    assert "widen default_window_hours" in told
    psql(
        market,
        """
        UPDATE fhq_governance.task_registry
        SET task_config = task_config || jsonb_build_object('default_window_hours', 1920)
        WHERE task_name = 'vision_signal_inference_baseline';
        """,
    )
    label = market.done("run", "market", "--json").json["label"]
    assert market.evidence(label)["results"][0]["result"]["window_hours"] == 1920


@pytest.mark.seed("cycles-001/install-foundation-schemas", "cycles-001/config-task-window")
def test_a_registry_that_a_site_has_is_adopted(server: Server, tmp_path: Path) -> None:
    """The UPDATE of the document works on it as far as the site allows; the log is made beside."""
    database = server.new_database()
    site.make(server, database)
    project = SharedProject(tmp_path, server, database)
    project.done("init", "--name", "market", env=site.ADOPTING)
    project.write("seen.py", "import os\nprint(open(os.environ['RUNWRIGHT_CONFIG']).read())\n")
    config = {"function_path": "seen.py", "default_window_hours": 24}
    site.insert(server, database, NAMES[0], config)
    project.apply(name="market")
    update = """
        UPDATE fhq_governance.task_registry
        SET task_config = task_config || jsonb_build_object(
            'default_window_hours', 48  -- Increase analysis window
        )
        WHERE task_name = 'vision_signal_inference_baseline';
        """
    psql(project, update)
    label = project.done("run", "market", "--json").json["label"]
    told = project.done("show", label, "--output", "stdout", "--function", NAMES[0]).stdout
    assert json.loads(told)["default_window_hours"] == 48
    rows = psql(
        project,
        "SELECT decision FROM fhq_governance.governance_actions_log"
        " WHERE action_type = 'VISION_FUNCTION_EXECUTION'",
    )
    assert rows == [["COMPLETED"]]
    server.psql(database, site.IMMUTABLE)
    before = site.kept(server, database)
    with pytest.raises(AssertionError, match="append-only"):
        psql(project, update.replace("48", "72"))
    assert [
        run["function"] for run in project.done("run", "market", "--dry-run", "--json").json["runs"]
    ] == [NAMES[0]]
    assert site.kept(server, database) == before
    project.close()


@pytest.mark.seed("cycles-001/trouble-no-tasks-check")
def test_the_registry_is_looked_at_by_sql(market: SharedProject) -> None:
    """The query of the document returns the three functions."""
    rows = psql(
        market,
        """
        -- Check task registry
        SELECT * FROM fhq_governance.task_registry
        WHERE task_type = 'VISION_FUNCTION';
        """,
    )
    assert sorted(row[1] for row in rows) == sorted(NAMES)
    assert {row[2] for row in rows} == {"VISION_FUNCTION"}
    assert {row[6] for row in rows} == {"t"}


@pytest.mark.seed("cycles-001/trouble-file-not-found-check")
def test_paths_are_looked_at_by_sql(market: SharedProject) -> None:
    """The query of the document returns the path of each."""
    rows = psql(
        market,
        """
        SELECT task_name, task_config->'function_path' AS path
        FROM fhq_governance.task_registry
        WHERE task_type = 'VISION_FUNCTION';
        """,
    )
    assert sorted(name for name, _ in rows) == sorted(NAMES)
    for name, path in rows:
        assert (market.folder / "market" / json.loads(path)).is_file(), name


@pytest.mark.seed("cycles-001/trouble-file-not-found-update")
def test_a_path_is_corrected_by_sql(market: SharedProject) -> None:
    """The UPDATE of the document: a wrong path is refused by name, the right one runs again."""
    name = "vision_signal_inference_baseline"
    (before,) = [path for task, path in planned(market).items() if task == name]

    def update(path: str) -> None:
        psql(
            market,
            f"""
            UPDATE fhq_governance.task_registry
            SET task_config = task_config || jsonb_build_object(
                'function_path', '{path}'
            )
            WHERE task_name = '{name}';
            """,
        )

    ((right,),) = psql(
        market,
        "SELECT task_config->>'function_path' FROM fhq_governance.task_registry "
        f"WHERE task_name = '{name}'",
    )
    update("correct/path/to/function.py")
    refused = market.run("run", "market", "--dry-run")
    assert refused.status == 2
    assert "Function file not found" in refused.stderr
    update(right)
    assert planned(market)[name] == before


@pytest.mark.seed("cycles-001/trouble-database-connection")
def test_a_connection_failure_is_said_kept_and_survived(
    market: SharedProject, server: Server
) -> None:
    """A clear error, evidence on the disk, and a schedule that goes on by itself."""
    running = market.start("run", "market", "--continuous", "--interval", "1")
    running.wait_event("round.judged")
    server.stop("immediate")
    try:
        running.wait_event("store.lost")
        refused = market.run("run", "market")
        assert (refused.status, refused.error[0]) == (4, "store-unreachable")
        assert refused.error[1].startswith("postgresql://")
    finally:
        server.start()
    running.wait_event("store.reached")
    running.wait_event("round.judged", 2)
    running.send(signal.SIGTERM)
    assert running.end().status == 0
    assert list((market.folder / ".runwright" / "unwritten").glob("*.json"))


@pytest.mark.seed("cycles-001/trouble-database-ready")
def test_the_doctor_says_whether_the_database_is_ready(market: SharedProject) -> None:
    """As pg_isready would, by exit status and words."""
    findings = {each["what"]: each for each in market.done("doctor", "--json").json}
    assert findings["store"]["state"] == "ok"
    assert findings["store"]["detail"].startswith("postgresql://")
    away = {"RUNWRIGHT_STORE_URL": "postgresql://postgres@127.0.0.1:1/nowhere"}
    (store,) = [
        each
        for each in market.done("doctor", "--json", env=away, status=4).json
        if each["what"] == "store"
    ]
    assert store["state"] == "problem"
    assert "Connection refused" in store["detail"]


@pytest.mark.seed("cycles-001/trouble-environment-check")
def test_the_settings_say_where_the_environment_leads(market: SharedProject) -> None:
    """PGHOST, PGPORT and PGDATABASE, each with where it comes from."""
    environment = {
        "RUNWRIGHT_STORE_URL": "postgresql:",
        "PGHOST": str(market.server.folder),
        "PGPORT": str(market.server.port),
        "PGDATABASE": market.database,
        "PGUSER": "postgres",
    }
    rows = market.done("config", "show", "--origin", "--json", env=environment).json
    found = {row["name"]: (row["value"], row["origin"]) for row in rows}
    for name in ("PGHOST", "PGPORT", "PGDATABASE"):
        assert found[name] == (environment[name], f"environment {name}")
    checked = market.done("db", "check", "--json", env=environment).json
    assert market.database in checked["store"]


@pytest.mark.seed("cycles-001/env-pghost")
@pytest.mark.seed("cycles-001/env-pgport")
@pytest.mark.seed("cycles-001/env-pgdatabase")
@pytest.mark.seed("cycles-001/env-pguser")
@pytest.mark.seed("cycles-001/env-pgpassword")
def test_the_variables_of_libpq_lead_to_the_database(market: SharedProject) -> None:
    """With all five the server is reached; each one that is wrong is missed by name."""
    market.sql("CREATE ROLE by_variable SUPERUSER LOGIN PASSWORD 'of the variable'")
    environment = {
        "RUNWRIGHT_STORE_URL": "postgresql:",
        "PGHOST": "127.0.0.1",
        "PGPORT": str(market.server.port),
        "PGDATABASE": market.database,
        "PGUSER": "by_variable",
        "PGPASSWORD": "of the variable",
    }
    market.done("db", "check", env=environment)
    for name, wrong, status, told in (
        ("PGHOST", "/nowhere", 4, "/nowhere"),
        ("PGPORT", "1", 4, "Connection refused"),
        ("PGDATABASE", "nothing", 2, 'database "nothing" does not exist'),
        ("PGUSER", "nobody", 2, 'user "nobody"'),
        ("PGPASSWORD", "wrong", 2, "password authentication failed"),
    ):
        done = market.run("db", "check", env={**environment, name: wrong})
        assert done.status == status, (name, done)
        assert told in done.error[1], name


@pytest.mark.seed("cycles-001/env-database-url")
@pytest.mark.seed("cycles-001/trouble-connection-test")
def test_the_connection_is_tested(market: SharedProject) -> None:
    """`db check` asks the server; DATABASE_URL is followed when the store is where it says."""
    follow = {"RUNWRIGHT_STORE_URL": "postgresql:", "DATABASE_URL": market.url}
    found = market.done("db", "check", "--json", env=follow).json
    assert (found["schema"], found["problems"]) == (3, [])
    nowhere = {**follow, "DATABASE_URL": "postgresql://postgres@127.0.0.1:1/nowhere"}
    refused = market.run("db", "check", env=nowhere)
    assert (refused.status, refused.error[0]) == (4, "store-unreachable")


@pytest.mark.seed("cycles-001/install-python-dependencies")
def test_the_driver_is_an_extra_that_the_default_store_does_not_need(tmp_path: Path) -> None:
    """Without it a project is made in a file, and one in a database is refused with a hint."""
    wanted = requires("runwright") or []
    assert any("psycopg[binary]" in each and "postgres" in each for each in wanted)
    hidden = (
        "import sys\nsys.modules['psycopg'] = None\nfrom runwright.cli.main import main\nmain()\n"
    )

    def given(*words: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-c", hidden, "-C", str(tmp_path), *words]
        environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path / "state")}
        return subprocess.run(argv, capture_output=True, text=True, env=environment, timeout=60)

    assert given("init", "--name", "demo").returncode == 0
    refused = given("--set", "store.url=postgresql://127.0.0.1/demo", "show")
    assert refused.returncode == 2
    assert "pip install 'runwright[postgres]'" in refused.stderr + refused.stdout
