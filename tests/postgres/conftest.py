"""Projects whose store is a database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from runwright.adapters.libpq import target
from runwright.adapters.postgres import PostgresStore
from tests.postgres.project import SharedProject
from tests.postgres.server import Server


@pytest.fixture
def shared(server: Server, database: str, tmp_path: Path) -> Iterator[SharedProject]:
    """A project in a database of the test's own; what it started is ended after the test."""
    made = SharedProject(tmp_path, server, database)
    made.done("init", "--name", "demo")
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
