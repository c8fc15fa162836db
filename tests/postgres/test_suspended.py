"""A conductor that sleeps while another takes over, by the command line; and a clock that jumps."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from runwright.adapters.postgres import PostgresStore
from runwright.kernel.record.entries import ClockStepped, decode
from tests.crash.closed import held
from tests.e2e.project import Done
from tests.kernel.drive.rig import Rig
from tests.kernel.drive.test_writer import NOTE
from tests.postgres.project import SharedProject
from tests.tidy.tree import REPOSITORY

pytestmark = pytest.mark.slow


class Sabotaged(SharedProject):
    """A project whose commands have a defect."""

    @property
    def environment(self) -> dict[str, str]:
        found = super().environment
        return {**found, "PYTHONPATH": f"{found['PYTHONPATH']}:{REPOSITORY}"}

    def _argv(self, words: tuple[object, ...]) -> list[str]:
        return [sys.executable, "-m", "tests.postgres.driver", "unfenced", *map(str, words)]


def overtaken(shared: SharedProject, folder: Path, *, sabotaged: bool) -> Done:
    """Suspend a conductor while its function runs, let another machine take over, wake it.

    Return how the first one ended.
    """
    # With the keys of its agents; named pipes cannot be copied.
    shared.apply(shared.task("slow"))
    other = shared.beside(folder)
    gate = shared.gate()
    shared.apply(shared.task("slow", gate.source, timeout_s=60))
    kind = Sabotaged if sabotaged else SharedProject
    first = kind(shared.base, shared.server, shared.database)
    try:
        sleeping = first.start("run", "demo")
        gate.wait_begun()
        sleeping.send(signal.SIGSTOP)
        # As the server does with a client that it no longer hears of.
        ended = shared.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = ?"
            " AND application_name = 'runwright lease'",
            shared.database,
        )
        assert ended == [(True,)]
        taking = other.start("run", "demo")
        gate.wait_begun()
        gate.let_go()
        gate.let_go()
        assert taking.end().status == 0
        sleeping.send(signal.SIGCONT)
        return sleeping.end()
    finally:
        first.close()
        other.close()


def ends(shared: SharedProject) -> list[int]:
    """Return how many ends each run has."""
    return sorted(held(shared).runs("run.finished").values())


def test_a_suspended_conductor_that_was_overtaken_appends_nothing(
    shared: SharedProject, tmp_path: Path
) -> None:
    """It says that it lost the lease and keeps what it had; the record is the other one's."""
    done = overtaken(shared, tmp_path / "other", sabotaged=False)
    assert (done.status, done.error[0]) == (4, "lease-lost"), done
    assert len(list((shared.folder / ".runwright" / "unwritten").glob("*.json"))) == 1
    assert ends(shared) == [1, 1]
    statuses = [body["status"] for body in shared.bodies("run.finished")]
    assert statuses == ["interrupted", "done"]
    assert shared.done("verify", "--store", "--json").json["held"]
    shared.done("db", "check")


def test_a_build_that_does_not_read_the_token_is_caught(
    shared: SharedProject, tmp_path: Path
) -> None:
    """The control: the same road ends with two ends of one run, and `verify` names the second."""
    done = overtaken(shared, tmp_path / "other", sabotaged=True)
    assert done.status == 0, done
    assert ends(shared) == [1, 2]
    size = len(held(shared).raw)
    report = shared.done("verify", "--store", "--json", status=6).json
    assert report["first_bad"] < size


def test_a_clock_that_jumps_back_changes_neither_order_nor_number(
    store: PostgresStore, tmp_path: Path
) -> None:
    """The jump is on the record, and what comes after it stands after it."""
    made = Rig(store, tmp_path)
    made.writer.commit([NOTE])
    made.clock.wall_ms -= 3_600_000
    made.writer.commit([NOTE, NOTE])
    made.writer.commit([NOTE])
    made.writer.close()
    entries = [decode(stored.raw) for stored in store.entries()]
    assert [entry.seq for entry in entries] == list(range(len(entries)))
    assert [entry.body for entry in made.entries("clock.stepped")] == [
        ClockStepped(step_ms=-3_600_000)
    ]
    assert entries[-1].ts < entries[0].ts
    assert store.seals(latest=True)[0].size == len(entries)
    assert store.check() == []
