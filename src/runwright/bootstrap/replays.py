"""Reads recorded streams back: replays them, and derives their plan again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

from runwright.bootstrap import streams
from runwright.bootstrap.project import ProjectStore
from runwright.kernel.drive.recall import Recalled, left_by, pinned, recall
from runwright.kernel.drive.world import StoreWorld
from runwright.kernel.errors import InputsRetired, InvalidSpec
from runwright.kernel.record.entries import RunFinished
from runwright.kernel.run import Memory
from runwright.streams import derive
from runwright.streams.calls import args_of, engine_digest
from runwright.streams.cuts import next_planned
from runwright.streams.engine import execute, load
from runwright.streams.replay import Replay, Tick, replay_tick
from runwright.streams.spec import StreamSpec

if TYPE_CHECKING:
    from runwright.kernel.drive.log import Log

#: Deviations that are named; all are counted.
DEVIATIONS_MAX: Final = 20
#: Ticks between two reports of progress.
PROGRESS_EVERY: Final = 50


def ticks(store: ProjectStore, name: str) -> Iterator[tuple[Recalled, bytes]]:
    """Yield the recorded ticks of a stream that ended, in order: (round, what it published)."""
    published = streams.papers(store, name)
    seq, body = next(published, _NO_PAPER)
    for row in _rounds(store, name):
        while seq is not None and seq < row["judged_seq"]:
            seq, body = next(published, _NO_PAPER)
        # A tick without a paper published nothing; the papers after it are not its own.
        own = body if seq == row["judged_seq"] else b""
        yield recall(store, row["seq"], row["judged_seq"] + 1), own


_NO_PAPER: Final[tuple[int | None, bytes]] = (None, b"")


def _rounds(store: ProjectStore, name: str) -> list[dict[str, Any]]:
    rows = store.rows(
        "round",
        {"kind": streams.KIND, "name": name},
        columns=("seq", "judged_seq"),
        order="seq",
    )
    return [row for row in rows if row["judged_seq"] is not None]


class _Specs:
    """The specs that rounds were planned by, each decoded once."""

    def __init__(self, store: ProjectStore) -> None:
        self._store = store
        self._known: dict[str, StreamSpec] = {}

    def of(self, found: Recalled) -> StreamSpec:
        """Return the spec of a round."""
        digest = found.planned.spec
        if digest not in self._known:
            data = pinned(self._store, digest, found.seq)
            self._known[digest] = msgspec.json.decode(data, type=StreamSpec)
        return self._known[digest]


def replay(
    store: ProjectStore, name: str, progress: Callable[[int, int], None]
) -> Mapping[str, Any]:
    """Execute every recorded run again and compare.

    Raises: unknown-name, and invalid-spec when an engine cannot be loaded.
    """
    streams.look_beside(streams.spec_of(store, name))
    log, so_far, code = streams.reading(store, name), Replay(), _Code()
    of = len(_rounds(store, name))
    for number, (found, body) in enumerate(ticks(store, name), 1):
        code.see(found)
        planned_ms = found.planned.occurrence.planned_ms
        tick = Tick(
            planned_ms=planned_ms,
            runs=found.round.runs,
            outcomes=found.outcomes,
            published=body,
        )
        try:
            replay_tick(so_far, tick, log.slice, execute)
        except InputsRetired:
            so_far.retired += 1
            # What comes after goes on from what the record says that these left.
            so_far.memory = _left(store, found, so_far.memory)
        if number % PROGRESS_EVERY == 0 or number == of:
            progress(number, of)
    return {
        "stream": name,
        "ticks": so_far.ticks,
        "runs": so_far.runs,
        "events": so_far.events,
        "executed": so_far.executed,
        "from_record": so_far.from_record,
        "retired": so_far.retired,
        "different": so_far.different,
        "differences": [msgspec.structs.asdict(item) for item in so_far.differences],
        "digest": so_far.digest,
        "other_code": code.others,
    }


class _Code:
    """Whether what is executed again is the code that ran."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}
        #: Ticks of which the engine's source was another one.
        self.others = 0

    def see(self, found: Recalled) -> None:
        """Look at the engine of a tick. Raises: invalid-spec when it cannot be loaded."""
        for reference in {args_of(run)["engine"] for run in found.round.runs}:
            if reference not in self._known:
                _load(reference)
                self._known[reference] = engine_digest(reference)
            self.others += self._known[reference] != found.facts["engine"]["sha256"]


def _load(reference: str) -> None:
    try:
        load(reference)
    # The module of an engine is somebody else's, and may raise anything.
    except Exception as error:
        if isinstance(error, InvalidSpec):
            raise
        text = f"{type(error).__name__}: {error}"
        raise InvalidSpec(f"engine.ref: {reference} cannot be loaded: {text}") from error


def _left(store: ProjectStore, found: Recalled, memory: Mapping[str, Memory]) -> dict[str, Memory]:
    """Return the memory after a recorded tick, as the record keeps it."""
    left = dict(memory)
    for entry in found.entries:
        kept = left_by(store, entry) if isinstance(entry.body, RunFinished) else b""
        if kept:
            left[entry.body.key] = msgspec.json.decode(kept)
    return left


def plan_from_log(
    store: ProjectStore, name: str, progress: Callable[[int, int], None]
) -> Mapping[str, Any]:
    """Derive every planned field again from log and spec, and compare.

    Of a tick whose records are retired, only its instant can be derived. Raises: unknown-name.
    """
    streams.look_beside(streams.spec_of(store, name))
    log, specs = streams.reading(store, name), _Specs(store)
    (row,) = store.rows("spec", {"kind": streams.KIND, "name": name})
    passed = store.rows(
        "tick", {"kind": streams.KIND, "name": name, "state": "skipped"}, order="last_ms"
    )
    memory: dict[str, Memory] = {}
    found_deviations: list[derive.Deviation] = []
    last_ms: int | None = None
    counts = {"ticks": 0, "runs": 0, "retired": 0, "different": 0}
    rounds = _rounds(store, name)
    for number, (found, _) in enumerate(ticks(store, name), 1):
        spec, planned_ms = specs.of(found), found.planned.occurrence.planned_ms
        problems = []
        while passed and passed[0]["last_ms"] < planned_ms:
            skipped = passed.pop(0)
            expected = next_planned(spec, last_ms, row["opened_ms"])
            if expected != (begins_ms := skipped["planned_ms"]):
                problems.append(_deviation(begins_ms, "planned_ts_ms", begins_ms, expected))
            last_ms = skipped["last_ms"]
        expected = next_planned(spec, last_ms, row["opened_ms"])
        if expected != planned_ms:
            problems.append(_deviation(planned_ms, "planned_ts_ms", planned_ms, expected))
        world = StoreWorld(store, logs={name: log}, memory=memory)
        try:
            problems += _derived(found, spec, log, world)
        except InputsRetired:
            counts["retired"] += 1
        counts["ticks"] += 1
        counts["runs"] += len(found.round.runs)
        counts["different"] += len(problems)
        found_deviations += problems[: DEVIATIONS_MAX - len(found_deviations)]
        derive.memory_after(found.round.runs, found.outcomes, memory)
        last_ms = planned_ms
        if number % PROGRESS_EVERY == 0 or number == len(rounds):
            progress(number, len(rounds))
    return {
        "stream": name,
        "records": log.last_seq,
        **counts,
        "deviations": [msgspec.structs.asdict(item) for item in found_deviations],
    }


def _derived(
    found: Recalled, spec: StreamSpec, log: Log, world: StoreWorld
) -> list[derive.Deviation]:
    """Return where the plan of a tick is not what the log leads to. Raises: inputs-retired."""
    planned_ms, memory = found.planned.occurrence.planned_ms, world.memory()
    if log.retired_seq and not all(run.key in memory for run in found.round.runs):
        # Where the first record of a symbol was, nobody can say any more.
        raise InputsRetired
    again, facts = derive.derived_round(spec, planned_ms, found.planned.at, memory, world)
    problems = []
    if facts["log"] != found.facts["log"]:
        problems.append(_deviation(planned_ms, "log", found.facts["log"], facts["log"]))
    return [*problems, *derive.deviations(planned_ms, found.round.runs, again.runs)]


def _deviation(planned_ms: int, field: str, recorded: Any, derived: Any) -> derive.Deviation:
    return derive.Deviation(
        planned_ms=planned_ms, symbol="", field=field, recorded=recorded, derived=derived
    )
