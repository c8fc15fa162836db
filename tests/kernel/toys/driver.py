"""Drives a toy on SQLite in a process of its own, which a test may end at every commit.

    python -m tests.kernel.toys.driver FOLDER TOY [SABOTAGE]

Before and after each commit it writes a line to descriptor 1 and waits for a byte on descriptor 0,
so whoever holds the other ends kills it exactly there. A sabotage is a defect that the tests have
to see. After the word "followed", which may stand before it, ticks follow at once.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from runwright.adapters.files import FilesSink
from runwright.adapters.places import LocalPlaces
from runwright.adapters.signer import FileSigner, SignerMemory, create_keys
from runwright.adapters.sqlite import SqliteStore
from runwright.kernel.canonical import encode
from runwright.kernel.drive import conductor as driving
from runwright.kernel.drive.conductor import Conductor, Ports
from runwright.kernel.drive.execution import Execution
from runwright.kernel.drive.known import Known
from runwright.kernel.drive.writer import Writer
from runwright.kernel.ports import Batch, Delivery, Place, Work
from runwright.kernel.record.entries import Draft, LedgerOpened, decode
from runwright.kernel.run import Round
from tests.kernel.toys import gate, stream

ORIGIN = "example.org/toy"
LEDGER = "0f" * 8
TOYS: dict[str, Any] = {"stream": stream, "gate": gate}


class StandingClock:
    """A clock that stands still, so that nothing that is recorded depends on it."""

    def now_ms(self) -> int:
        return stream.START_MS

    def monotonic_s(self) -> float:
        return 0.0

    def entropy(self, size: int) -> bytes:
        return b"\x07" * size


class RunningClock(StandingClock):
    """A clock that runs, for a round with a rate; the wall clock runs with it."""

    def now_ms(self) -> int:
        return stream.START_MS + int(time.monotonic() * 1000)

    def monotonic_s(self) -> float:
        return time.monotonic()


#: In a project's folder when its store is a database: the URL and the schema.
SHARED = "shared"


class AnnouncedStore:
    """A store that says before and after each commit where it is, and waits to be told to go on."""

    def __init__(self, inner: SqliteStore) -> None:
        self._inner = inner

    def commit(self, batch: Batch) -> None:
        what = [decode(entry.raw).type for entry in batch.entries]
        what += ["seal"] * len(batch.seals) + [f"[{row.table}]" for row in batch.rows]
        announce("before", what)
        self._inner.commit(batch)
        announce("after", what)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def announce(when: str, what: Sequence[str]) -> None:
    os.write(1, f"{when} {','.join(what)}\n".encode())
    if not os.read(0, 1):
        os._exit(3)


class AppendingSink:
    """A sink that appends to a file; it gets everything at least once."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def deliver(self, deliveries: Sequence[Delivery]) -> None:
        with self._path.open("ab") as file:
            for each in deliveries:
                line = {"id": each.id, "name": each.name, "body": each.body.decode()}
                file.write(msgspec.json.encode(line) + b"\n")
            file.flush()
            os.fsync(file.fileno())


class WatchedPlaces(LocalPlaces):
    """Keeps the ids of runs in a file before they start, for whoever looks after a crash."""

    def __init__(self, path: Path, **fields: Any) -> None:
        super().__init__(**fields)
        self._path = path

    def open(self, round: Round) -> Place:  # noqa: A002 - the word of the port
        place = super().open(round)
        start = place.start

        def started(work: Sequence[Work]) -> None:
            with self._path.open("a") as file:
                file.writelines(f"{each.run}\n" for each in work)
            start(work)

        place.start = started  # type: ignore[method-assign]
        return place


# ------------------------------------------------------------------------------------- sabotages


class LateExecution(Execution):
    """Starts a run first and records that it started after."""

    def _start(self, *args: Any) -> None:
        commit, self._commit = self._commit, lambda: None  # type: ignore[method-assign]
        super()._start(*args)
        self._commit = commit  # type: ignore[method-assign]
        if self._pending.drafts:
            self._commit()


class SplitStore(AnnouncedStore):
    """Commits what a lane remembers apart from the outcome that left it."""

    def commit(self, batch: Batch) -> None:
        lanes = [row for row in batch.rows if row.table == "lane"]
        batch.rows = [row for row in batch.rows if row.table != "lane"]
        super().commit(batch)
        if lanes:
            super().commit(Batch(rows=lanes))


def leave_open(*args: Any, **fields: Any) -> None:
    """Do not end what had started before a crash, so that it is run again."""


class ForgetfulSink(AppendingSink):
    """Says that it has a paper, and writes it later."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._held: list[Delivery] = []

    def deliver(self, deliveries: Sequence[Delivery]) -> None:
        held, self._held = self._held, list(deliveries)
        super().deliver(held)

    def flush(self) -> None:
        self.deliver([])


class StaleKnown(Known):
    """Asks the store for lanes although their newest rows are not there yet."""

    def lanes(self, kind: str, name: str) -> dict[str, Any]:
        rows = self._store.rows("lane", {"kind": kind, "name": name})
        return {row["lane"]: msgspec.json.decode(row["memory"]) for row in rows}


# ---------------------------------------------------------------------------------------- driving


def prepare(folder: Path, toy: str) -> None:
    """Make a project: keys, a store with an open ledger, an applied spec."""
    keys = create_keys(folder / "keys", ORIGIN)
    store = new_store(folder)
    writer = _writer(folder, store, toy)
    body = LedgerOpened(
        ledger=LEDGER, seal_key=keys.seal.text(), bundle_key=keys.bundle, product="test"
    )
    writer.commit([Draft(body=body)])
    _conductor(folder, store, writer, toy).apply(
        toy, encode({"kind": toy, "name": "toy", "folder": "."})
    )
    writer.close()
    store.close()


def new_store(folder: Path) -> Any:
    """Make the store of a project: a file, or the schema of a database that `shared` names."""
    if not (folder / SHARED).exists():
        return SqliteStore(folder / "store.db", create=True)
    from runwright.adapters.postgres import PostgresStore

    making = PostgresStore(_target(folder), create=True)
    making.finish()
    making.close()
    return PostgresStore(_target(folder))


def open_store(folder: Path) -> Any:
    """Open the store of a project."""
    if not (folder / SHARED).exists():
        return SqliteStore(folder / "store.db")
    from runwright.adapters.postgres import PostgresStore

    return PostgresStore(_target(folder))


def _target(folder: Path) -> Any:
    from runwright.adapters.libpq import target

    url, schema = (folder / SHARED).read_text().split()
    return target(url, schema, {})


def _clock(toy: str) -> StandingClock:
    return RunningClock() if toy == "gate" else StandingClock()


def _writer(folder: Path, store: Any, toy: str) -> Writer:
    memory = SignerMemory(folder / "signer.memory", LEDGER)
    signer = FileSigner(folder / "keys", memory, ORIGIN)
    # Sealed at the end, or when a paper is held: the cadence would depend on the clock.
    return Writer(store, clock=_clock(toy), signer=signer, seal_every_s=3600)


def _conductor(folder: Path, store: Any, writer: Writer, toy: str, sabotage: str = "") -> Conductor:
    clock = _clock(toy)
    sink = ForgetfulSink if sabotage == "forgetful" else AppendingSink
    ports = Ports(
        store=store,
        writer=writer,
        workloads={toy: TOYS[toy].WORKLOAD},
        places=WatchedPlaces(
            folder / "starts.out", clock=clock, environment={}, scratch=folder / "scratch"
        ),
        sinks={"files": FilesSink(folder / "papers"), "events": sink(folder / "events.out")},
        clock=clock,
        product="test",
    )
    return Conductor(ports)


def drive(folder: Path, toy: str, sabotage: str) -> None:
    """Recover, conduct every tick, deliver, seal."""
    is_followed = sabotage.startswith("followed")
    sabotage = sabotage.removeprefix("followed").strip()
    # Paths in facts are relative, so that they are the same in every copy of the project.
    os.chdir(folder)
    folder = Path()
    if sabotage == "late":
        driving.Execution = LateExecution  # type: ignore[misc]
    if sabotage == "repeating":
        driving.add_interrupted = leave_open
    if sabotage == "stale":
        driving.Known = StaleKnown  # type: ignore[misc]
    opened = open_store(folder)
    store = (SplitStore if sabotage == "split" else AnnouncedStore)(opened)
    writer = _writer(folder, store, toy)
    conductor = _conductor(folder, store, writer, toy, sabotage)
    conductor.recover()
    ticks = iter(TOYS[toy].ticks())
    if is_followed:
        conductor.conduct_all(toy, "toy", lambda: next(ticks, None), heard=lambda found: None)
    for tick in ticks:
        conductor.conduct(toy, "toy", tick)
        conductor.outbox.pump()
    writer.seal()
    conductor.outbox.pump()
    if sabotage == "forgetful":
        conductor._ports.sinks["events"].flush()  # type: ignore[attr-defined]
    writer.close()
    opened.close()


if __name__ == "__main__":
    drive(Path(sys.argv[1]), sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else "")
    os.write(1, b"end\n")
