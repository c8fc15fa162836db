"""A project whose store is a database of its own on the tests' server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.e2e.project import Project
from tests.postgres.server import Server


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
            db.execute("SET search_path = runwright, fhq_governance, vision_core, fhq_meta, public")
            done = db.execute(statement.replace("?", "%s").encode(), values or None)
            return done.fetchall() if done.description else []

    def beside(self, base: Path) -> SharedProject:
        """Return a project on another machine: the same store and keys, another folder."""
        copy = self.copy_to(base)
        return SharedProject(copy.base, self.server, self.database)
