"""The sample of tests/tamper in a database, altered as a superuser without triggers would.

What is altered and what is verified go by one connection, so that a few statements take it back.
`python -m tests.postgres.tampering FOLDER URL STRIDE FIELDS...` is the matrix in a process of its
own, as tests/tamper/flips.py has it.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import psycopg
from psycopg.pq import TransactionStatus

from runwright.adapters import postgres
from runwright.bootstrap.project import open_store
from runwright.config import load
from tests.postgres.project import SCHEMAS, SharedProject, spoken
from tests.postgres.server import Server
from tests.tamper import flips
from tests.tamper.sample import Sample, fill

#: What keeps its row also from a start that is refused: who asked for the lease last.
NOT_OF_THE_RECORD = "lease"


class Altering:
    """A connection of a superuser that takes the statements of tests/tamper."""

    def __init__(self, db: psycopg.Connection[Any]) -> None:
        """Take the triggers off, for this connection."""
        self.db = db
        db.execute("SET session_replication_role = replica")
        # Nobody cuts the power here; it makes thousands of alterations quick.
        db.execute("SET synchronous_commit = off")

    def execute(self, statement: str, values: Sequence[Any] = ()) -> Any:
        """Execute one; what the server refuses leaves the transaction that it stands in usable."""
        inside = self.db.info.transaction_status == TransactionStatus.INTRANS
        with self.db.transaction() if inside else contextlib.nullcontext():
            return self.db.execute(spoken(statement).encode(), values or None)


class SharedSample(Sample):
    """A sample whose store is a database."""

    project: SharedProject

    def __init__(self, project: SharedProject) -> None:
        """Open the project; the keys are read now and never again."""
        memory = project.state / "runwright"
        flags = {"signer.memory": str(memory), "store.url": project.url}
        self.project = project
        self.loaded = load({}, start=project.folder, flags=flags)
        folder = self.loaded.path(self.loaded.settings.signer.keys)
        self.keys = [path.read_text() for path in sorted(folder.glob("*.pub.pem"))]
        (self.memory,) = memory.glob("*.memory")

    @property
    def matrix(self) -> tuple[str, ...]:
        """The module that flips its bits in a process of its own, and how it finds the sample."""
        return "tests.postgres.tampering", str(self.project.base), self.project.url

    def copy_to(self, base: Path) -> SharedSample:
        """Return a copy of the whole project in a database of its own."""
        shutil.copytree(self.project.base, base, dirs_exist_ok=True)
        server = self.project.server
        copy = server.new_database(template=self.project.database)
        return SharedSample(SharedProject(base, server, copy))

    @contextlib.contextmanager
    def altering(self) -> Iterator[Any]:
        """Hand out a connection past the triggers; what is verified meanwhile goes by it too."""
        store = open_store(self.loaded)
        opened = mock.patch.object(postgres, "PostgresStore", return_value=store)
        kept_open = mock.patch.object(store, "close")
        with contextlib.closing(store._db), opened, kept_open:
            yield Altering(store._db)

    @contextlib.contextmanager
    def taking_back(self) -> Iterator[Any]:
        """Hand out such a connection in a transaction that is rolled back."""
        with self.altering() as other, other.db.transaction(force_rollback=True):
            yield other

    def everything(self) -> dict[str, Any]:
        """Return all that a start may write: every row of every table, and every file beside."""
        names = self.project.sql(
            "SELECT quote_ident(table_schema) || '.' || quote_ident(table_name)"
            " FROM information_schema.tables WHERE table_type = 'BASE TABLE'"
            " AND table_schema = ANY(?) AND table_name <> ?",
            SCHEMAS.split(", "),
            NOT_OF_THE_RECORD,
        )
        rows = {name: sorted(map(repr, self.project.sql(f"TABLE {name}"))) for (name,) in names}
        files = {str(path): data for path, data in self.project.everything()}
        return {"rows": rows, "files": files}


def make(base: Path, server: Server) -> SharedSample:
    """Make the sample in a database."""
    project = SharedProject(base, server, server.new_database())
    fill(project)
    return SharedSample(project)


class _Elsewhere(SharedProject):
    """A project of whose server only the URL is known."""

    def __init__(self, base: Path, url: str) -> None:
        super(SharedProject, self).__init__(base)
        self.url = url

    def sql(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url, autocommit=True) as db:
            return self.asked(db, statement, *values)


if __name__ == "__main__":
    sample = SharedSample(_Elsewhere(Path(sys.argv[1]), sys.argv[2]))
    flips.main(sample, int(sys.argv[3]), sys.argv[4:])
