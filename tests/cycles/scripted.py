"""A conductor of cycles whose functions end as a script says, on the clock of the tests."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runwright.cycles import WORKLOAD
from runwright.kernel.drive.rebuild import Difference, differences, fold_again
from runwright.kernel.errors import RunwrightError
from runwright.kernel.ports import Batch, Row, Work
from runwright.kernel.run import Blob, Content, Executed, Outcome, Resources, Round
from tests.kernel.drive.rig import MemoryStore, Rig, ToyClock

SALT = b"\x05" * 16


class Gone(RunwrightError):
    """The machine went away in the middle of a run."""


class ScriptedPlace:
    """Ends every run at once: as the next word of its script says, else done."""

    workers = 1

    def __init__(self, script: dict[str, list[str]], clock: ToyClock) -> None:
        self._script = script
        self._clock = clock
        self._ended: list[Executed] = []

    def start(self, work: Sequence[Work]) -> None:
        self._ended += [self._executed(one) for one in work]

    def wait(self, timeout_s: float | None) -> list[Executed]:
        if not self._ended and timeout_s:
            self._clock.advance(timeout_s)
        self._clock.advance(0.25)
        ended, self._ended = self._ended, []
        return ended

    def _executed(self, work: Work) -> Executed:
        words = self._script.get(work.plan.key, [])
        word = words.pop(0) if words else "done"
        if word == "gone":
            raise Gone
        text = f"{work.plan.key} {work.run[:8]} {work.attempt}\n".encode()
        kept = Content(digest=hashlib.sha256(SALT + text).hexdigest(), data=text, salt=SALT)
        blob = Blob(name="stdout", digest=kept.digest, size=len(text), salted=True)
        outcome = Outcome(
            key=work.plan.key,
            status="done" if word == "done" else "failed",
            reason="" if word == "done" else word,
            value={"result": {"agent_id": "X", "mean": "1.5"}} if word == "done" else {},
            finished_ms=self._clock.now_ms(),
            used=Resources(duration_ms=250, cpu_ms=10, peak_kib=99, exit=int(word == "exit")),
            level="T0",
            blobs=(blob,),
        )
        return Executed(outcome=outcome, contents=(kept,), deferred=word == "deferred")

    def stop(self, *, kill: bool) -> None:
        """Nothing runs for longer than a moment."""

    def close(self) -> None:
        """Nothing is held."""


class ScriptedPlaces:
    """Makes scripted places."""

    def __init__(self, clock: ToyClock) -> None:
        self.script: dict[str, list[str]] = {}
        self._clock = clock

    def open(self, round: Round) -> ScriptedPlace:  # noqa: A002 - the words of the port
        return ScriptedPlace(self.script, self._clock)

    def wake(self) -> None:
        """Nobody waits."""

    def close(self) -> None:
        """Nothing is held."""


class CyclesRig(Rig):
    """A rig whose one workload is cycles."""

    def __init__(self, store: Any, folder: Path, *_: Any, clock: ToyClock | None = None) -> None:
        super().__init__(store, folder, WORKLOAD, clock=clock, virtual=True)
        self.places = ScriptedPlaces(self.clock)
        self.ports = self.ports._replace(places=self.places, sinks={"files": self.sink})
        self.conductor = type(self.conductor)(self.ports, stop=self.stop)

    def again(self, *_: Any, **__: Any) -> CyclesRig:
        """Return the next conductor of the same store, as after a crash."""
        self.writer._lease.release()
        return CyclesRig(self.store._inner, self.folder, clock=self.clock)

    @property
    def script(self) -> dict[str, list[str]]:
        """Function -> how its next attempts end."""
        return self.places.script

    def declare(self, *names: str, name: str = "demo", **fields: Any) -> Any:
        """Apply a spec with functions of these names."""
        tasks = [
            {"task_name": it, "agent_id": "FINN", "task_config": {"command": ["true"]}}
            for it in names
        ]
        return self.apply(name, "cycles", tasks=tasks, folder=str(self.folder), **fields)

    def edit(self, **values: Any) -> None:
        """Change columns of the row of the schedule, as an operator does."""
        row = Row("orchestrator_schedule", {"schedule_name": "demo", **values}, update=True)
        self.store._inner.commit(Batch(rows=[row]))

    def row(self, table: str = "orchestrator_schedule", **where: Any) -> dict[str, Any]:
        """Return the one row that fits."""
        (row,) = self.store.rows(table, where)
        return dict(row)

    def differences(self) -> list[Difference]:
        """Return where the tables differ from the ledger, folded again."""
        again = MemoryStore(tables=WORKLOAD.tables)
        fold_again(self.store, self.ports.workloads, again)
        return differences(self.store, again, WORKLOAD.tables)


def store() -> MemoryStore:
    """Return a new store with the tables of cycles."""
    return MemoryStore(tables=WORKLOAD.tables)
