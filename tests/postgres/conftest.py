"""Projects whose store is a database."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from runwright.adapters.libpq import target
from runwright.adapters.postgres import PostgresStore
from tests.postgres.project import SharedProject
from tests.postgres.server import Server


@pytest.fixture(scope="session")
def initialised(server: Server, tmp_path_factory: pytest.TempPathFactory) -> SharedProject:
    """A project as `init` leaves it; nobody works on it."""
    made = SharedProject(tmp_path_factory.mktemp("initialised"), server, server.new_database())
    made.done("init", "--name", "demo")
    return made


@pytest.fixture
def shared(initialised: SharedProject, tmp_path: Path) -> Iterator[SharedProject]:
    """A copy of it in a database of the test's own; what it started is ended after the test."""
    server = initialised.server
    made = SharedProject(tmp_path, server, server.new_database(template=initialised.database))
    shutil.copytree(initialised.base, tmp_path, dirs_exist_ok=True)
    yield made
    made.close()


@pytest.fixture
def url(server: Server) -> str:
    """The URL of a database that tests of single stores share."""
    return server.url("postgres")


@pytest.fixture
def store(server: Server, url: str) -> Iterator[PostgresStore]:
    """A new store in a schema of its own."""
    place = target(url, server.new_schema(), {})
    making = PostgresStore(place, create=True)
    making.finish()
    making.close()
    made = PostgresStore(place)
    yield made
    made.close()
