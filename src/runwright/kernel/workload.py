"""The five questions that a workload answers, and what it may know when it does.

A workload never holds the store, the ledger or the outbox, so it cannot act before it is planned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple, Protocol, TypeAlias

import msgspec

from runwright.kernel.criteria import Verdict
from runwright.kernel.ports import Entry, Row, Table, World
from runwright.kernel.record.entries import Compared as Compared  # noqa: PLC0414 - offered here
from runwright.kernel.record.entries import StateReconciled as StateReconciled  # noqa: PLC0414
from runwright.kernel.record.entries import (
    SuspensionRequested as SuspensionRequested,  # noqa: PLC0414
)
from runwright.kernel.run import (
    ONCE,
    Content,
    Facts,
    InForce,
    Memory,
    Outcome,
    Retry,
    Round,
    RunPlan,
    Schedule,
    Tick,
)

#: Rows of a table, as a store returns them.
Rows: TypeAlias = Sequence[Mapping[str, Any]]


class SpecBase(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every spec file says."""

    kind: str
    #: Unique among the specs of its kind.
    name: str
    #: When it runs by itself; None: only when it is asked for.
    schedule: Schedule | None = None
    #: The folder of the spec file, put in when it is applied: relative paths start there.
    folder: str = ""


class Finished(msgspec.Struct, frozen=True, kw_only=True):
    """An earlier round of this tick, with what came of it."""

    round: Round
    #: In key order.
    outcomes: Sequence[Outcome]
    verdict: Verdict


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """All that a pure room may know; its digest stands in round.planned."""

    #: The spec as the workload's own type.
    spec: Any
    tick: Tick
    #: Epoch ms, stamped once by the conductor: the only clock of the pure rooms.
    at: int
    facts: Facts
    #: Lane -> what its last outcome left.
    memory: Mapping[str, Memory] = {}
    done: Sequence[Finished] = ()


class Insert(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A place in a JSON paper that takes the tail of a blob when it is delivered.

    Output of functions can be erased, so no paper holds a copy while it waits.
    """

    #: Where in the JSON: keys and indices.
    path: tuple[str | int, ...]
    #: The digest of the blob.
    digest: str
    #: At most so many characters from its end.
    characters: int = 500


#: The sink of papers that are read where they are: nothing delivers them, and none waits.
LOG: Final = "log"


class Paper(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Something that leaves: delivered at least once, in order, until acknowledged."""

    #: The sink: "files", …; "log": it stays in the store, for those who read it there.
    sink: str
    #: The name in the sink: a relative path for files.
    name: str
    #: UTF-8 text.
    body: str
    media: str = "application/json"
    #: "sealed": not before a signed checkpoint covers the verdict.
    hold: Literal["none", "sealed"] = "none"
    inserts: tuple[Insert, ...] = ()


def agents_of_none(spec: Any) -> Sequence[str]:  # noqa: ARG001
    """Return no agents: for a workload whose specs name none."""
    return ()


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """An entry as a fold sees it, with what the record says of the round that it belongs to."""

    entry: Entry
    #: Its hash in the tree, hex.
    leaf: str
    #: The spec of the round, or the one that was applied, as the workload's own type.
    spec: Any = None
    #: round.planned of the round, and its runs in order.
    planned: Entry | None = None
    runs: Sequence[RunPlan] = ()
    #: The run that the entry is about.
    run: RunPlan | None = None
    #: The ends of runs of the round that the record held before this entry.
    finished: Sequence[Recorded] = ()


class Tables(Protocol):
    """What a fold may ask: tables as they stood before the entry, and kept bytes."""

    def rows(self, table: str, where: Mapping[str, Any] | None = None, **how: Any) -> Any:
        """Return rows whose columns equal `where`; `order` and `limit` as a store knows them."""

    def blob(self, wanted: str) -> Content | None:
        """Return kept bytes by digest; None when they were erased."""

    def next_ms(self, recorded: Recorded) -> int | None:
        """Return the next occurrence of the spec's schedule, as both stand after an entry."""


class Permit(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a run may start now, and for how long."""

    #: Why it must not; it is recorded as failed without being started.
    refused: str = ""
    #: By which rule, with its figures: kept in the value of the outcome.
    refusal: Mapping[str, Any] = {}
    #: Wall seconds that it may use, where that is less than its plan says.
    timeout_s: float | None = None


class Closed(msgspec.Struct, frozen=True, kw_only=True):
    """A round that has its verdict, as the record gives it back."""

    spec: Any
    #: Its id, and the seq that the first entry about it will have.
    id: str
    next_seq: int
    round: Round
    tick: Tick
    #: Epoch ms: when it was planned, as the pure rooms saw it.
    at: int
    #: In key order.
    outcomes: Sequence[Outcome]
    verdict: Verdict


class Kept(Protocol):
    """What a reconciliation may read: tables as they stand in the store, and kept bytes."""

    def rows(
        self,
        table: str,
        where: Mapping[str, Any] | None = None,
        *,
        order: str = "",
        limit: int = 0,
    ) -> list[dict[str, Any]]:
        """Return rows whose columns equal `where`; order is "column" or "-column"."""

    def blob(self, digest: str) -> Content | None:
        """Return kept bytes by digest; None when they were erased."""


class Decoded(NamedTuple):
    """A chunk of events as a workload reads them; nothing is dropped, whatever it holds."""

    #: As they arrived; one that cannot be read is replaced by an event that says so.
    items: list[bytes]
    #: Whose each is: the symbol.
    keys: list[str]
    #: When each was received, epoch ms.
    stamps: list[int]
    #: What each is: the event type.
    kinds: list[str]


def why_of_none(_item: bytes) -> str:
    """Say that every event can be read."""
    return ""


class Flow(msgspec.Struct, frozen=True, kw_only=True):
    """How a spec takes in events and when it ticks; all of it pure."""

    #: The source_ids, in the order of the spec.
    sources: Sequence[str]
    #: clock: events are stamped and ticks fall due by the clock; events: by their own time.
    time: Literal["clock", "events"]
    #: (source_id, items, received_ms) -> what they are.
    decode: Callable[[str, list[bytes], int], Decoded]
    #: (last planned instant or None, when the stream was opened) -> the next planned instant.
    next_ms: Callable[[int | None, int], int]
    #: Key counts by status of a tick -> how many events of each type it published.
    published: Callable[[Mapping[str, int]], Mapping[str, int]]
    #: What a tick published -> (name, level, fields) of the messages for operators.
    said: Callable[[bytes], Iterable[tuple[str, str, Mapping[str, Any]]]]
    #: What events are called that could not be read, and why one could not; "" for others.
    unread: str = ""
    why_unread: Callable[[bytes], str] = why_of_none
    #: After a restart, record the missed ticks as skipped instead of conducting them.
    skips_missed: bool = False
    #: Events that one commit takes in at most.
    block_max: int = 1_000
    #: How often a source that is away is asked again.
    ingestion_retry: Retry = ONCE
    #: Milliseconds after which an outbox that stays full degrades the stream; None: never.
    max_block_ms: int | None = None


class Workload(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of work: the answers to five questions, all but `observe` and the calls pure."""

    kind: str
    #: The msgspec type of its spec files, a SpecBase.
    Spec: type
    #: The seed's tables that it keeps.
    tables: Sequence[Table] = ()
    #: What a spec runs by, as operators left it; None: what its file says.
    schedule: Callable[[Any, World], InForce] | None = None
    #: Seconds between ticks when a spec without a schedule is served; None: it needs a schedule.
    interval_s: int | None = None
    #: The agents that a spec names: each has a key once the spec is applied.
    agents: Callable[[Any], Sequence[str]] = agents_of_none
    #: (spec, at_ms, table -> its rows) -> the rows that applying a spec leaves, and counts of them.
    #: Under "spec" stand the specs of its kind that were applied before, under "adopted" the tables
    #: of a site in the place of ours: name, relation, columns of ours, others that are required.
    #: Raises: invalid-spec.
    register: Callable[[Any, int, Mapping[str, Rows]], tuple[Sequence[Row], Mapping[str, int]]]
    #: Read the world into facts. Raises: usage when there is nothing that could be planned.
    observe: Callable[[Any, Tick, World], Facts]
    #: Answer with the next round, or None when the tick is done.
    plan: Callable[[Seen], Round | None]
    #: Judge a round by its outcomes, in key order.
    judge: Callable[[Seen, Round, Sequence[Outcome]], Verdict]
    #: Return what leaves because of a verdict.
    report: Callable[[Seen, Round, Sequence[Outcome], Verdict], Sequence[Paper]]
    #: Return the rows of `tables` that an entry leaves, by the record alone; None: it leaves none.
    fold: Callable[[Recorded, Tables], Sequence[Row]] | None = None
    #: (seen, round, run, key -> outcome so far, key -> starts so far): asked before each start of
    #: a run that the plan lets start; pure. None: every run may start.
    permit: (
        Callable[[Seen, Round, RunPlan, Mapping[str, Outcome], Mapping[str, int]], Permit] | None
    ) = None
    #: Return the bodies of entries that hold what the tables say of a round against the record.
    #: Asked once its verdict is durable, and again after a crash; committed together.
    reconcile: Callable[[Closed, Kept], Sequence[Any]] | None = None
    #: How a spec of this kind takes in events; None: it reads no log.
    flow: Callable[[Any], Flow] | None = None


def register_nothing(
    spec: Any,  # noqa: ARG001
    at_ms: int,  # noqa: ARG001
    tables: Mapping[str, Rows],  # noqa: ARG001
) -> tuple[Sequence[Row], Mapping[str, int]]:
    """Return no rows: for a workload without tables of its own."""
    return (), {}


class CallFunction(Protocol):
    """What a Call names."""

    def __call__(self, run: RunPlan, inputs: Sequence[bytes], memory: Memory | None) -> Outcome:
        """Execute one run. Raises: deferred to be repeated."""
