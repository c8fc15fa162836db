"""A conductor on a real store and a real signer; clock, places, sinks and bell are of the tests.

Nothing here waits: a place of the tests moves the clock to the moment when something ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from runwright.adapters.memory import MemoryStore
from runwright.adapters.places import LocalPlaces
from runwright.adapters.signer import FileSigner, SignerMemory, create_keys
from runwright.adapters.sqlite import SqliteStore
from runwright.kernel.canonical import encode
from runwright.kernel.criteria import Verdict
from runwright.kernel.drive.conductor import Conductor, Ports
from runwright.kernel.drive.lifecycle import Stop
from runwright.kernel.drive.service import Service
from runwright.kernel.drive.ticks import Conducted
from runwright.kernel.drive.writer import Writer
from runwright.kernel.errors import Deferred
from runwright.kernel.ports import Batch, Delivery, Request, Store, Table, Work
from runwright.kernel.record.entries import Draft, Entry, LedgerOpened, decode
from runwright.kernel.run import (
    Call,
    Executed,
    Facts,
    Outcome,
    Requested,
    Round,
    RunPlan,
    Scheduled,
    Tick,
)
from runwright.kernel.workload import Paper, Seen, SpecBase, Workload, register_nothing

NOW_MS = 1_763_632_800_000
ORIGIN = "example.org/rig"
LEDGER = "0f" * 8
CALLS = "tests.kernel.drive.calls"


class ToyClock:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.wall_ms = NOW_MS
        self.at_s = 1_000.0

    def now_ms(self) -> int:
        return self.wall_ms

    def monotonic_s(self) -> float:
        return self.at_s

    def entropy(self, size: int) -> bytes:
        return b"\x07" * size

    def advance(self, seconds: float) -> None:
        self.at_s += seconds
        self.wall_ms += round(seconds * 1000)


class ToySpec(SpecBase, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a spec of the tests says."""

    settings: Mapping[str, Any] = {}


def plan_of(key: str, name: str = "echo", /, lane: str = "", **fields: Any) -> RunPlan:
    """Return a run that calls a function of `calls`."""
    args = fields.pop("args", {})
    return RunPlan(key=key, work=Call(name=f"{CALLS}:{name}", args=args), lane=lane, **fields)


def round_of(*keys: str, **fields: Any) -> Round:
    """Return a round of runs that echo."""
    return Round(**{"key": "only", "runs": [plan_of(key) for key in keys], **fields})


def judged(seen: Seen, this: Round, outcomes: Sequence[Outcome]) -> Verdict:
    """PASS when every outcome is done."""
    done = sum(outcome.status == "done" for outcome in outcomes)
    status = "PASS" if done == len(this.runs) else "FAIL"
    return Verdict(status=status, counts={"done": done, "planned": len(this.runs)})


def workload_of(
    *rounds: Round,
    kind: str = "toy",
    observe: Callable[[Any, Tick, Any], Facts] = lambda spec, tick, world: {},
    plan: Callable[[Seen], Round | None] | None = None,
    judge: Callable[..., Verdict] = judged,
    report: Callable[..., Sequence[Paper]] = lambda seen, this, outcomes, verdict: (),
    tables: Sequence[Table] = (),
    register: Callable[..., Any] = register_nothing,
) -> Workload:
    """Return a workload that plans these rounds one after the other."""

    def in_order(seen: Seen) -> Round | None:
        return rounds[len(seen.done)] if len(seen.done) < len(rounds) else None

    return Workload(
        kind=kind,
        Spec=ToySpec,
        tables=tables,
        register=register,
        observe=observe,
        plan=plan or in_order,
        judge=judge,
        report=report,
    )


class CountedStore:
    """A store that remembers every batch, and fails when it is told to."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.batches: list[Batch] = []
        #: Raised by the next commit, before anything is written.
        self.failure: Exception | None = None

    def commit(self, batch: Batch) -> None:
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure
        self._inner.commit(batch)
        self.batches.append(batch)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class ListSink:
    """A sink that keeps what it got, and defers or fails as often as it is told to."""

    def __init__(self) -> None:
        self.got: list[Delivery] = []
        self.asked = 0
        self.failures: list[Exception] = []

    def deliver(self, deliveries: Sequence[Delivery]) -> None:
        self.asked += 1
        if self.failures:
            raise self.failures.pop(0)
        self.got.extend(deliveries)

    @property
    def names(self) -> list[str]:
        return [delivery.name for delivery in self.got]


class VirtualPlace:
    """A place in which a run takes the seconds that its args say, on the clock of the tests."""

    level = ""

    def __init__(self, round: Round, clock: ToyClock, log: list[tuple[str, str, float]]) -> None:  # noqa: A002 - the word of the port
        self.workers = round.workers
        self._clock = clock
        self._log = log
        self._running: list[tuple[float, Work]] = []
        self._queue: list[Work] = []
        self.is_woken = False

    def start(self, work: Sequence[Work]) -> None:
        self._queue.extend(work)
        self._begin()

    def _begin(self) -> None:
        while self._queue and len(self._running) < self.workers:
            work = self._queue.pop(0)
            self._log.append(("start", work.plan.key, self._clock.at_s))
            self._running.append((self._clock.at_s + _args(work).get("takes_ms", 0) / 1000, work))

    def wait(self, timeout_s: float | None) -> list[Executed]:
        due_s = min((end for end, _ in self._running), default=None)
        until_s = None if timeout_s is None else self._clock.at_s + timeout_s
        if self.is_woken:
            self.is_woken = False
            return []
        if due_s is None or (until_s is not None and until_s < due_s):
            assert until_s is not None, "waits for ever with nothing under way"
            # A real clock never stands still, however short the wait is.
            self._clock.advance(max(1e-6, until_s - self._clock.at_s))
            return []
        self._clock.advance(max(0.0, due_s - self._clock.at_s))
        ended = [item for item in self._running if item[0] <= self._clock.at_s]
        self._running = [item for item in self._running if item[0] > self._clock.at_s]
        back = [self._executed(work) for _, work in ended]
        self._begin()
        return back

    def _executed(self, work: Work) -> Executed:
        key = work.plan.key
        self._log.append(("end", key, self._clock.at_s))
        deferred = work.attempt <= _args(work).get("defers", 0)
        status = "failed" if deferred or _args(work).get("fails") else "done"
        return Executed(
            outcome=Outcome(key=key, status=status, reason="deferred" if deferred else ""),
            deferred=deferred,
        )

    def stop(self, *, kill: bool) -> None:
        self._log.append(("kill" if kill else "ask", "", self._clock.at_s))
        self._running = [
            (self._clock.at_s, msgspec.structs.replace(work, attempt=work.attempt))
            for _, work in self._running
        ]

    def close(self) -> None:
        self._running = []


def _args(work: Work) -> Mapping[str, Any]:
    assert isinstance(work.plan.work, Call)
    return work.plan.work.args


class VirtualPlaces:
    """Makes virtual places; `log` says when what started and ended."""

    def __init__(self, clock: ToyClock) -> None:
        self._clock = clock
        self.log: list[tuple[str, str, float]] = []
        self._open: VirtualPlace | None = None

    def open(self, round: Round) -> VirtualPlace:  # noqa: A002 - the word of the port
        self._open = VirtualPlace(round, self._clock, self.log)
        return self._open

    def starts(self) -> list[float]:
        return [at_s for what, _, at_s in self.log if what == "start"]

    def wake(self) -> None:
        if self._open is not None:
            self._open.is_woken = True

    def close(self) -> None:
        """Nothing is held."""


class ToyBell:
    """A bell whose every wait takes the next step of a script; after the last it asks to stop."""

    def __init__(self, clock: ToyClock, stop: Stop) -> None:
        self._clock = clock
        self._stop = stop
        self.steps: list[Callable[[], object] | None] = []
        self.waits: list[float] = []
        self.rung: list[str] = []

    def wait(self, timeout_s: float | None) -> bool:
        assert timeout_s is not None
        self.waits.append(round(timeout_s, 6))
        if not self.steps:
            self._stop.ask()
            return True
        step = self.steps.pop(0)
        if step is None:
            self._clock.advance(timeout_s)
            return False
        step()
        return True

    def wake(self) -> None:
        """Nobody waits."""

    def ring(self, address: str) -> None:
        self.rung.append(address)

    def close(self) -> None:
        """Nothing is held."""


class Rig:
    """A conductor and all that it acts through."""

    def __init__(
        self,
        store: Any,
        folder: Path,
        *workloads: Workload,
        clock: ToyClock | None = None,
        virtual: bool = False,
        seal_every_s: float = 1.0,
        outbox_max: int = 10_000,
        meanwhile: Sequence[Callable[[], object]] = (),
        **ports: Any,
    ) -> None:
        self.folder = folder
        self.clock = clock or ToyClock()
        self.store = store if isinstance(store, CountedStore) else CountedStore(store)
        keys = folder / "keys"
        known = keys.exists()
        made = None if known else create_keys(keys, ORIGIN)
        self.signer = FileSigner(keys, SignerMemory(folder / "signer.memory", LEDGER), ORIGIN)
        self.writer = Writer(
            self.store, clock=self.clock, signer=self.signer, seal_every_s=seal_every_s
        )
        if made is not None:
            body = LedgerOpened(
                ledger=LEDGER,
                seal_key=made.seal.text(),
                bundle_key=made.bundle,
                product="test",
            )
            self.writer.commit([Draft(body=body)])
        self.places: Any = (
            VirtualPlaces(self.clock)
            if virtual
            else LocalPlaces(clock=self.clock, environment={}, scratch=folder / "scratch")
        )
        self.said: list[tuple[str, dict[str, Any]]] = []
        self.sink = ListSink()
        self.other = ListSink()
        self.stop = Stop()
        self.ports = Ports(
            store=self.store,
            writer=self.writer,
            workloads={workload.kind: workload for workload in workloads},
            places=self.places,
            sinks={"list": self.sink, "other": self.other},
            clock=self.clock,
            messages=self._say,
            product="test",
            codes={"toy": "c0de"},
            outbox_max=outbox_max,
            meanwhile=meanwhile,
            **ports,
        )
        self.conductor = Conductor(self.ports, stop=self.stop)
        self.bell = ToyBell(self.clock, self.stop)
        self.store.batches.clear()

    def _say(self, event: str, text: str = "", /, *, level: str = "info", **fields: Any) -> None:
        self.said.append((event, {"text": text, "level": level, **fields}))

    # -- what is asked of it

    def apply(self, name: str = "demo", kind: str = "toy", **fields: Any) -> Mapping[str, Any]:
        answer = self.conductor.apply(kind, spec_body(name, kind, **fields), by="ada")
        self.store.batches.clear()
        return answer

    def conduct(self, at: int | str = 0, name: str = "demo", kind: str = "toy") -> Conducted:
        """Conduct the k-th occurrence, or the request of an id."""
        tick: Tick
        if isinstance(at, str):
            tick = Requested(id=at, planned_ms=NOW_MS, by="ada")
        else:
            tick = Scheduled(planned_ms=NOW_MS + at * 60_000)
        return self.conductor.conduct(kind, name, tick)

    def submit(self, identity: str, kind: str = "run", body: object = None, **fields: Any) -> None:
        wish = {"kind": "toy", "name": "demo"} if body is None else body
        self.store.submit(
            Request(
                id=identity,
                kind=kind,
                body=wish if isinstance(wish, bytes) else msgspec.json.encode(wish),
                created_ms=self.clock.now_ms(),
                by="ada",
                **fields,
            )
        )

    def answer(self, identity: str) -> dict[str, Any]:
        (row,) = self.store.rows("request", {"id": identity})
        assert row["state"] == "done"
        found: dict[str, Any] = msgspec.json.decode(row["result"])
        return found

    def service(self, **fields: Any) -> Service:
        return Service(self.conductor, self.ports, self.bell, **fields)

    def serve(self, *steps: Callable[[], object] | None, **fields: Any) -> Service:
        """Serve until the script of the bell is at its end; None lets the wait pass."""
        self.bell.steps = list(steps)
        service = self.service(**fields)
        service.run()
        return service

    def again(self, *workloads: Workload, **fields: Any) -> Rig:
        """Return the next conductor of the same store, as after a crash."""
        self.writer._lease.release()
        known = workloads or tuple(self.ports.workloads.values())
        return Rig(self.store._inner, self.folder, *known, clock=self.clock, **fields)

    # -- what came of it

    def entries(self, *types: str) -> list[Entry]:
        found = (decode(stored.raw) for stored in self.store.entries())
        return [entry for entry in found if not types or entry.type in types]

    def types(self, start: int = 0) -> list[str]:
        return [entry.type for entry in self.entries()][start:]

    def outcomes(self) -> dict[str, Any]:
        return {entry.body.key: entry.body for entry in self.entries("run.finished")}

    def commits(self) -> list[list[str]]:
        """Return the entry types of each commit since the last `apply`, other rows in brackets."""
        found = []
        for batch in self.store.batches:
            types = [decode(stored.raw).type for stored in batch.entries]
            types += ["seal" for _ in batch.seals]
            found.append(types or [f"[{row.table}]" for row in batch.rows])
        return found


def spec_body(name: str = "demo", kind: str = "toy", **fields: Any) -> bytes:
    return encode({"kind": kind, "name": name, **fields})


def sqlite_store(folder: Path, **fields: Any) -> SqliteStore:
    folder.mkdir(parents=True, exist_ok=True)
    return SqliteStore(folder / "store.db", **{"create": True, **fields})


def stores(kind: str, folder: Path, **fields: Any) -> Iterator[Store]:
    """Yield a new store of a kind."""
    made: Any = MemoryStore(**fields) if kind == "memory" else sqlite_store(folder, **fields)
    yield made
    made.close()


def defers(times: int) -> list[Exception]:
    return [Deferred("not now") for _ in range(times)]
