"""A seeded simulator of streams: the real loop over the real kernel, killed wherever a seed says.

`python -m tests.streams.simulator SEED [STORE]` repeats one seed. A life of the process begins as
`streams run` begins one; a crash abandons all of its objects, and the next life goes on with what
is durable.
"""

from __future__ import annotations

import random
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from runwright.adapters.signer import FileSigner, SignerMemory, create_keys
from runwright.kernel.drive import conductor as driving
from runwright.kernel.drive.conductor import Conductor, Ports
from runwright.kernel.drive.execution import Execution
from runwright.kernel.drive.inflow import Inflow
from runwright.kernel.drive.lifecycle import Stop
from runwright.kernel.drive.log import Log, LogLimits
from runwright.kernel.drive.outbox import SinkLimits
from runwright.kernel.drive.service import Service
from runwright.kernel.drive.streaming import Stream, Streaming
from runwright.kernel.drive.ticks import decode_spec
from runwright.kernel.drive.writer import Writer
from runwright.kernel.errors import Halt
from runwright.kernel.record.entries import Draft, LedgerOpened
from runwright.kernel.workload import Workload
from runwright.streams import WORKLOAD
from runwright.streams.flow import flow_of
from runwright.streams.spec import StreamSpec, retry_of
from tests.streams.engines_simulated import STAGE
from tests.streams.script import Script, script_of
from tests.streams.simulated import (
    Crashed,
    SimulatedBell,
    SimulatedPlaces,
    SimulatedSink,
    SimulatedSource,
    SimulatedStore,
    Stage,
    World,
)

ORIGIN: Final = "example.org/simulated"
LEDGER: Final = "0e" * 8
KIND: Final = "streams"
NAME: Final = "sim"
#: More lives than any script has crashes and stops.
LIVES_MAX: Final = 20


@dataclass(frozen=True)
class Build:
    """The parts of the product that are simulated; a sabotage puts others in their place."""

    workload: Workload = WORKLOAD
    streaming: type[Streaming] = Streaming
    log: type[Log] = Log
    inflow: type[Inflow] = Inflow
    store: type[SimulatedStore] = SimulatedStore
    execution: type[Execution] = Execution


@dataclass
class Simulation:
    """One seed on one kind of store, from its first life to its end."""

    script: Script
    folder: Path
    kind: str = "memory"
    build: Build = field(default_factory=Build)

    def __post_init__(self) -> None:
        """Make a project: keys, a store with an open ledger, an applied spec."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.world = World(self.script, self.folder, self.kind)
        self.keys = create_keys(self.folder / "keys", ORIGIN)
        self.spec: StreamSpec = decode_spec(WORKLOAD, self.script.body)
        #: Executions whose plan was not durable when they began.
        self.early: list[tuple[str, int]] = []
        crashes, self.world.crashes = self.world.crashes, []
        conductor = self._conductor(Stop())
        body = LedgerOpened(
            ledger=LEDGER,
            seal_key=self.keys.seal.text(),
            bundle_key=self.keys.bundle,
            product="test",
        )
        conductor.ports.writer.commit([Draft(body=body)])
        conductor.apply(KIND, self.script.body)
        conductor.ports.writer.close()
        self.world.crashes = crashes

    # -- what a life is made of

    def _conductor(self, stop: Stop) -> Conductor:
        """Take the lease, as a start does."""
        world, script = self.world, self.script
        store = self.build.store(world)
        writer = Writer(
            store, clock=world.clock, signer=self.signer(), seal_every_s=script.seal_every_s
        )
        published = self.spec.output_publish
        limits = SinkLimits(retry=retry_of(self.spec.publish_retry), most=published.max_pending)
        ports = Ports(
            store=store,
            writer=writer,
            workloads={KIND: self.build.workload},
            places=SimulatedPlaces(world, random.Random(f"{script.seed}/places")),
            sinks={f"stream:{NAME}": SimulatedSink(world)},
            clock=world.clock,
            messages=self._say,
            product="test",
            limits={f"stream:{NAME}": limits},
        )
        return Conductor(ports, stop=Stop())

    def signer(self, name: str = "signer") -> FileSigner:
        """Return the signer with its memory; another name is another memory."""
        memory = SignerMemory(self.folder / f"{name}.memory", LEDGER)
        return FileSigner(self.folder / "keys", memory, ORIGIN)

    def _say(self, event: str, text: str = "", /, *, level: str = "info", **fields: Any) -> None:
        self.world.said.append(event)

    def streaming(self, conductor: Conductor, stop: Stop) -> Streaming:
        """Recover, and make ready to run, as `streams run` does."""
        ports, script, world = conductor.ports, self.script, self.world
        limits = LogLimits(
            segment_records=script.segment_records,
            max_records=script.max_records,
            max_age_ms=script.max_age_ms,
        )
        commit = ports.writer.commit
        log = self.build.log(ports.store, NAME, limits=limits, clock=ports.clock, commit=commit)
        conductor.logs[NAME] = log
        positions = {feed.name: log.position(feed.name) for feed in script.feeds}
        sources = [
            SimulatedSource(world, feed, at["at"] if (at := positions[feed.name]) else None)
            for feed in script.feeds
        ]
        flow = flow_of(self.spec)
        bell = SimulatedBell(world, stop.ask)
        conductor.recover()
        requests = Service(conductor, ports, bell, only=(KIND, NAME)).drain
        inflow = self.build.inflow(sources, flow, ports.clock, positions)
        stream = Stream(KIND, NAME, flow, log, inflow, lambda report: None, requests)
        return self.build.streaming(conductor, bell, stream, stop)

    # -- lives

    def run(self) -> Simulation:
        """Live until the sources are over, every tick is conducted and every output delivered."""
        for _ in range(LIVES_MAX):
            if self._live():
                return self
        raise AssertionError(f"not at its end after {LIVES_MAX} lives")

    def again(self) -> Simulation:
        """Run the same script once more, without any trouble."""
        return Simulation(self.script.without_trouble(), self.folder / "again").run()

    def _live(self) -> bool:
        """Live once; say whether that was the last life."""
        world, stop, stage = self.world, Stop(), Stage(self.world)
        STAGE[:] = [stage]
        try:
            with executing(self.build.execution):
                conductor = self._conductor(stop)
                streaming = self.streaming(conductor, stop)
                streaming.run()
                conductor.ports.writer.seal()
                conductor.outbox.pump()
                if not stop:
                    self._drain(conductor)
                conductor.ports.writer.close()
        except (Crashed, Halt) as error:
            if not world.crashed or not world.crashes:
                raise AssertionError(f"it ended by itself: {error!r}") from error
            down_s = world.fallen().down_s
            world.clock.advance(down_s)
            world.reopen()
            return False
        finally:
            STAGE.clear()
            self.early += stage.early
        return not stop

    def _drain(self, conductor: Conductor) -> None:
        """Wait until the sink took everything, as the next starts would."""
        for _ in range(1_000):
            wait_s = conductor.outbox.pump()
            if wait_s is None:
                return
            self.world.clock.advance(max(1.0, wait_s))
        raise AssertionError("the outbox is never empty")


@contextmanager
def executing(execution: type[Execution]) -> Iterator[None]:
    """Have conductors execute rounds with another class."""
    before = driving.Execution
    driving.Execution = execution  # type: ignore[misc]
    try:
        yield
    finally:
        driving.Execution = before  # type: ignore[misc]


def simulate(
    seed: int,
    folder: Path,
    kind: str,
    build: Build | None = None,
    check: Callable[..., None] | None = None,
) -> Simulation:
    """Simulate a seed and hold what came of it against every invariant."""
    from tests.streams.invariants import hold

    made = Simulation(script_of(seed), folder, kind, build or Build())
    made.run()
    (check or hold)(made)
    return made


def main() -> None:
    """Repeat one seed."""
    seed, kind = int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "memory"
    with tempfile.TemporaryDirectory() as folder:
        made = simulate(seed, Path(folder), kind)
        print(f"seed {seed} on {kind}: {made.world.crashed}, every invariant holds")


if __name__ == "__main__":
    main()
