"""A project whose store is a database of its own on the tests' server."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg

from tests.e2e.project import Project
from tests.postgres.server import Server

#: Where the tables of a project stand.
SCHEMAS = "runwright, fhq_governance, vision_core, fhq_meta"


def spoken(statement: str) -> str:
    """Return a statement of SQLite as PostgreSQL understands it."""
    statement = re.sub(r"\bx'([0-9a-f]*)'", r"'\\x\1'::bytea", statement.replace("?", "%s"))
    statement = re.sub(r"CAST\((note|digest) AS BLOB\)", r"convert_to(\1, 'UTF8')", statement)
    statement = statement.replace("CAST(%s AS TEXT)", "convert_from(%s, 'UTF8')")
    return statement.replace(" AS BLOB)", " AS bytea)").replace(" AS INTEGER)", " AS bigint)")


class SharedProject(Project):
    """A folder with a project in it that keeps its record in PostgreSQL."""

    def __init__(self, base: Path, server: Server, database: str) -> None:
        """Use a database; what may be asked of a file is asked of it."""
        super().__init__(base)
        self.server = server
        self.database = database
        self.url = server.url(database)

    @property
    def environment(self) -> dict[str, str]:
        """What a command finds in its environment."""
        return {**super().environment, "RUNWRIGHT_STORE_URL": self.url}

    def sql(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Execute a statement on the store, as an operator would."""
        with self.server.connect(self.database) as db:
            return self.asked(db, statement, *values)

    @staticmethod
    def asked(db: psycopg.Connection[Any], statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Execute a statement by a connection, as SQL for SQLite is written."""
        db.execute(f"SET search_path = {SCHEMAS}, public".encode())
        done = db.execute(spoken(statement).encode(), values or None)
        return done.fetchall() if done.description else []

    @contextlib.contextmanager
    def reading(self) -> Iterator[Callable[[str], list[Any]]]:
        """Hand out what reads the store, once nobody who crashed is connected any more."""
        self.server.leave(self.database)
        with self.server.connect(self.database) as db:
            yield lambda statement: self.asked(db, statement)

    def beside(self, base: Path) -> SharedProject:
        """Return a project on another machine: the same store and keys, another folder."""
        copy = self.copy_to(base)
        return SharedProject(copy.base, self.server, self.database)
