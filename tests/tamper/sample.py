"""A small sealed project, altered through a second connection as somebody with the file would.

The project is made by the real command line; the verifier is called in process, as the command
calls it, so that thousands of alterations take seconds. Nothing here tells the verifier anything.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from runwright.adapters.files import read_folder
from runwright.bootstrap.project import clock, open_store, signer
from runwright.bootstrap.verification import verify_store
from runwright.config import Loaded, load
from runwright.kernel.drive.writer import Writer
from runwright.kernel.record.bundle import verify_bundle
from runwright.kernel.record.entries import ClockStepped, Draft
from runwright.kernel.record.verify import Report
from tests.e2e.project import Project

#: What refuses an UPDATE and a DELETE of an entry; whoever holds the file drops it first.
TRIGGERS = ("entry_is_never_edited", "entry_is_never_deleted")
#: The tables that verification reads.
RECORD = ("entry", "tile", "seal", "blob")


class Verdict(NamedTuple):
    """What a verification said."""

    held: bool
    #: The sentences that broke, or the class of an error that ended it.
    words: frozenset[str]
    first_bad: int | None

    @property
    def raised(self) -> bool:
        """Whether it ended with an error and no report."""
        return any(word.startswith("raised ") for word in self.words)


def asked(verify: Callable[[], Report | Mapping[str, Any]]) -> Verdict:
    """Run a verification; an error that ends it is a verdict too, and never the right one."""
    try:
        found = verify()
    except Exception as error:  # noqa: BLE001 - whatever it is, the matrix has to name it
        return Verdict(False, frozenset({f"raised {type(error).__name__}"}), None)
    if isinstance(found, Report):
        words = frozenset(check.word for check in found.checks if not check.held)
        return Verdict(found.held, words, found.first_bad)
    words = frozenset(check["word"] for check in found["checks"] if not check["held"])
    return Verdict(found["held"], words, found["first_bad"])


class Sample:
    """A project that was made before, its keys as somebody outside keeps them, and its store."""

    def __init__(self, base: Path) -> None:
        """Open the project below a folder; the keys are read now and never again."""
        self.project = Project(base)
        memory = base / "state" / "runwright"
        self.loaded: Loaded = load(
            {}, start=self.project.folder, flags={"signer.memory": str(memory)}
        )
        folder = self.loaded.path(self.loaded.settings.signer.keys)
        self.keys = [path.read_text() for path in sorted(folder.glob("*.pub.pem"))]
        (self.memory,) = memory.glob("*.memory")

    @property
    def matrix(self) -> tuple[str, ...]:
        """The module that flips its bits in a process of its own, and how it finds the sample."""
        return "tests.tamper.flips", str(self.project.base)

    def copy_to(self, base: Path) -> Sample:
        """Return a copy of the whole project, with what its signer remembers."""
        shutil.copytree(self.project.base, base, dirs_exist_ok=True)
        return Sample(base)

    def verify(self, *, lint: bool = True) -> Verdict:
        """Verify the store as `runwright verify --store --key …` does."""
        return asked(lambda: verify_store(self.loaded, self.keys, lint=lint))

    def verify_files(self, files: Mapping[str, bytes]) -> Verdict:
        """Verify the files of a bundle as `runwright verify BUNDLE --key …` does."""
        return asked(lambda: verify_bundle(files, self.keys))

    def bundle(self, name: str) -> dict[str, bytes]:
        """Return the files of a bundle that was exported beside the project."""
        return dict(read_folder(self.project.base / name))

    @contextlib.contextmanager
    def altering(self) -> Iterator[sqlite3.Connection]:
        """Hand out a second connection to the store, past the triggers."""
        path = self.project.store
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
            # Nobody cuts the power here; it makes thousands of alterations quick.
            other.execute("PRAGMA synchronous = OFF")
            for trigger in TRIGGERS:
                other.execute(f"DROP TRIGGER IF EXISTS {trigger}")
            yield other

    @contextlib.contextmanager
    def taking_back(self) -> Iterator[sqlite3.Connection]:
        """Hand out such a connection, and take back whatever was done by it."""
        with (
            self.altering() as other,
            contextlib.closing(sqlite3.connect(":memory:")) as backup,
        ):
            other.backup(backup)
            try:
                yield other
            finally:
                backup.backup(other)

    def alter(self, statement: str, values: Sequence[Any] = ()) -> None:
        """Execute one statement past the triggers."""
        with self.altering() as other:
            other.execute(statement, values)

    def size(self) -> int:
        """Return how many entries there are."""
        return int(self.project.sql("SELECT count(*) FROM entry")[0][0])

    def grow_to(self, size: int) -> None:
        """Let a conductor append entries up to a size, and seal them when it lets go."""
        store = open_store(self.loaded)
        try:
            signing = signer(self.loaded, store)
            writer = Writer(store, clock=clock(), signer=signing)
            missing = range(size - writer.head.size)
            writer.commit([Draft(body=ClockStepped(step_ms=step)) for step in missing])
            writer.close()
        finally:
            store.close()

    def everything(self) -> dict[str, Any]:
        """Return all that a start may write: every row of every table, and every file beside."""
        names = self.project.sql("SELECT name FROM sqlite_master WHERE type = 'table'")
        rows = {name: self.project.sql(f'SELECT * FROM "{name}"') for (name,) in names}
        files = {
            str(path): data
            for path, data in self.project.everything()
            if not path.name.startswith("store.db")
        }
        return {"rows": rows, "files": files}


def make(base: Path) -> Sample:
    """Make the sample in a file."""
    fill(Project(base))
    return Sample(base)


def fill(project: Project) -> None:
    """Make it by the command line: one cycle of two functions, sealed, exported twice."""
    base = project.base
    project.done("init", "--name", "demo")
    project.apply(project.task("alpha", "print('a')\n"), project.task("beta", "print('b')\n"))
    label = project.done("run", "demo", "--json").json["label"]
    project.done("export", "all", "--out", base / "all")
    # Something after the cycle, so that its bundle is one of a part, with a proof of each entry.
    project.apply(project.task("gamma"), name="other")
    project.done("export", label, "--out", base / "part")
    project.close()
