"""Where a store is, who may know the password, and what is said when nobody is let in."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from runwright.adapters.libpq import parameters, target
from runwright.adapters.postgres import SCHEMA_VERSION
from runwright.config import load, shown
from runwright.kernel.errors import InvalidSetting
from tests.e2e.project import Project
from tests.postgres.project import SharedProject
from tests.postgres.server import Server

#: In no name, path or message by chance.
PASSWORD = "K9x-Qq7.vault"


def found(url: str, environment: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    return {
        each.name: (each.value, each.origin)
        for each in parameters(url, environment, origin="file x")
    }


# ----------------------------------------------------------------------------------- precedence


def test_a_url_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it does not say comes from libpq's variables, then from libpq."""
    monkeypatch.setenv("PGHOST", "from-environment")
    monkeypatch.setenv("PGUSER", "somebody")
    monkeypatch.delenv("PGPORT", raising=False)
    environment = {"PGHOST": "from-environment", "PGUSER": "somebody", "DATABASE_URL": "mysql://x"}
    assert found("postgresql://db.example/ledger", environment) == {
        "PGHOST": ("db.example", "file x"),
        "PGPORT": ("5432", "default"),
        "PGDATABASE": ("ledger", "file x"),
        "PGUSER": ("somebody", "environment PGUSER"),
    }


def test_without_a_url_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """DATABASE_URL first, else PGHOST and its kin."""
    monkeypatch.setenv("PGHOST", "from-environment")
    environment = {"PGHOST": "from-environment"}
    assert found("postgresql:", environment)["PGHOST"] == (
        "from-environment",
        "environment PGHOST",
    )
    environment["DATABASE_URL"] = "postgres://ada@db.example:6000/ledger"
    assert found("postgresql:", environment) == {
        "PGHOST": ("db.example", "environment DATABASE_URL"),
        "PGPORT": ("6000", "environment DATABASE_URL"),
        "PGDATABASE": ("ledger", "environment DATABASE_URL"),
        "PGUSER": ("ada", "environment DATABASE_URL"),
    }
    place = target("postgresql:", "runwright", environment)
    assert place.name == "postgresql://db.example:6000/ledger (schema runwright)"


def test_a_database_url_alone_changes_nothing(tmp_path: Path) -> None:
    """Many have one in their environment: which store a project has is the project's to say."""
    project = Project(tmp_path)
    project.done("init", "--name", "demo", env={"DATABASE_URL": "postgresql://nowhere/x"})
    assert project.store.exists()
    rows = project.done("config", "show", "--json").json
    assert "PGHOST" not in {row["name"] for row in rows}


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mysql://ada@host/x", "file x: the URL of the store begins not with postgresql://"),
        ("postgresql+psycopg://a@h/x", r"but with postgresql\+psycopg:"),
        (f"postgresql://ada:{PASSWORD} x@host:77/x", "special characters are %-encoded"),
        (f"postgresql://ada:{PASSWORD}@host/x?no=such", "file x: the URL of the store cannot be"),
    ],
)
def test_a_url_that_is_none_is_refused_without_showing_it(url: str, message: str) -> None:
    """The message names the setting, not what stands in it."""
    with pytest.raises(InvalidSetting, match=message) as caught:
        target(url, "runwright", {}, origin="file x")
    assert PASSWORD not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("url", "printed"),
    [
        (f"postgresql://ada:{PASSWORD}@host/db", "postgresql://ada:***@host/db"),
        (f"postgresql://ada:a@b/{PASSWORD}@host/db", "postgresql://ada:***@host/db"),
        (f"postgresql://host/db?password={PASSWORD}&x=1", "postgresql://host/db?password=***&x=1"),
        ("postgresql://ada@host:5432/db", "postgresql://ada@host:5432/db"),
        ("postgresql:", "postgresql:"),
    ],
)
def test_a_password_is_not_shown(url: str, printed: str, tmp_path: Path) -> None:
    """Wherever it stands in the URL."""
    loaded = load({"RUNWRIGHT_STORE_URL": url}, start=tmp_path)
    assert shown(loaded.settings, "store.url") == printed


@pytest.mark.parametrize("name", ["", "Capital", "with space", 'quo"te', "x" * 41, "9x"])
@pytest.mark.parametrize("setting", ["store.schema", "schemas.governance"])
def test_a_schema_is_a_plain_name(name: str, setting: str, tmp_path: Path) -> None:
    """It is refused with the setting's name and where it comes from."""
    with pytest.raises(InvalidSetting, match=f"flag: {setting}: not a name"):
        load({}, start=tmp_path, flags={setting: name})


def test_psycopg_is_loaded_for_a_shared_store_only(tmp_path: Path) -> None:
    """A project on SQLite does not pay for it, nor need it."""
    project = Project(tmp_path)
    project.done("init", "--name", "demo")
    script = (
        "import sys, atexit; sys.argv = ['runwright', 'show'];"
        "atexit.register(lambda: print('psycopg' in sys.modules, flush=True));"
        "from runwright.cli.main import main; main()"
    )
    environment = project.environment
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=project.folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines()[-1] == "False", done.stderr


# ----------------------------------------------------------------------------------- not let in


@pytest.fixture
def guarded(server: Server, shared: SharedProject) -> SharedProject:
    """A project whose user needs a password."""
    user = f"guarded_{shared.database}"
    shared.sql(f"CREATE ROLE {user} SUPERUSER LOGIN PASSWORD '{PASSWORD}'")
    shared.url = server.tcp_url(shared.database, user, PASSWORD)
    return shared


@pytest.mark.slow
def test_a_password_is_in_nothing_that_is_printed_or_kept(guarded: SharedProject) -> None:
    """Not in messages, the settings, the doctor, or any file that was written."""
    guarded.apply(guarded.task("a", "import os\nprint(sorted(os.environ.items()))\n"))
    wrong = guarded.url.replace(PASSWORD, f"{PASSWORD}-wrong")
    runs = [
        guarded.done("run", "demo", env={"RUNWRIGHT_MESSAGES_FORM": "human"}),
        guarded.done("config", "show", "--origin"),
        guarded.done("config", "show", "--json"),
        guarded.done("doctor"),
        guarded.done("db", "check"),
        guarded.run("db", "check", env={"RUNWRIGHT_STORE_URL": wrong}),
        guarded.run("doctor", env={"RUNWRIGHT_STORE_URL": wrong}),
        guarded.run("db", "check", env={"RUNWRIGHT_STORE_URL": wrong, "RUNWRIGHT_TRACEBACK": "1"}),
    ]
    for done in runs:
        assert PASSWORD not in done.stdout + done.stderr, done
    assert "***" in runs[1].stdout
    for path, data in guarded.everything():
        assert PASSWORD.encode() not in data, path
    assert guarded.sql("SELECT 1 FROM blob WHERE position(? IN data) > 0", PASSWORD.encode()) == []
    # The control: what is searched for is what opens the door.
    assert PASSWORD in guarded.environment["RUNWRIGHT_STORE_URL"]


@pytest.mark.slow
def test_what_is_wrong_is_said_with_what_helps(
    guarded: SharedProject, server: Server, tmp_path: Path
) -> None:
    """Password, user, database, schema, server, version: a code, a status, a hint."""
    database = guarded.database
    right = guarded.url

    def error(url: str, *words: str) -> tuple[int, str, str]:
        done = guarded.run(*(words or ("show",)), env={"RUNWRIGHT_STORE_URL": url})
        assert "Traceback" not in done.stderr
        code, message = done.error
        return done.status, code, f"{message}\n{done.stderr}"

    status, code, text = error(right.replace(PASSWORD, "wrong"))
    assert (status, code) == (2, "invalid-setting")
    assert "password authentication failed" in text
    assert "PGPASSWORD" in text
    status, code, text = error(right.replace("guarded_", "nobody_"))
    assert (status, code) == (2, "invalid-setting")
    status, code, text = error(right.replace(f"/{database}", "/no_such_database"))
    assert (status, code) == (2, "store-missing")
    assert 'database "no_such_database" does not exist' in text
    assert "createdb" in text
    status, code, text = error(right.replace(f":{server.port}/", ":1/"), "run", "demo")
    assert (status, code) == (4, "store-unreachable")
    assert "Connection refused" in text
    done = guarded.run("show", env={"RUNWRIGHT_STORE_SCHEMA": "elsewhere"})
    assert (done.status, done.error[0]) == (2, "store-missing")
    assert "runwright init" in done.stderr
    guarded.sql("UPDATE runwright.about SET version = 99")
    status, code, text = error(right)
    assert (status, code) == (2, "store-version")
    assert f"a newer version of Runwright (schema 99; this one reads {SCHEMA_VERSION})" in text
    status, code, text = error("mysql://x/y", "config", "show")
    assert (status, code) == (2, "invalid-setting")
