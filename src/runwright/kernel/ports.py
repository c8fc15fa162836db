"""What the kernel asks of the outside: stores, places, sinks, clocks, and the world as sources."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

import msgspec

from runwright.kernel.errors import RunwrightError
from runwright.kernel.record.entries import Entry as Entry  # noqa: PLC0414 - offered here too
from runwright.kernel.record.ledger import SealRow as SealRow  # noqa: PLC0414
from runwright.kernel.record.ledger import StoredBlock as StoredBlock  # noqa: PLC0414
from runwright.kernel.record.ledger import StoredEntry as StoredEntry  # noqa: PLC0414
from runwright.kernel.record.ledger import Tile as Tile  # noqa: PLC0414
from runwright.kernel.run import Content, Cut, Executed, Ref, Round, RunPlan

# ---------------------------------------------------------------------------------------- store


class Row(msgspec.Struct, frozen=True, gc=False):
    """A row to write: inserted, or replacing the one with the same primary key."""

    table: str
    values: Mapping[str, Any]
    #: Change these columns of the row with this primary key; without such a row, nothing.
    update: bool = False


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody asks the conductor to do."""

    id: str
    #: "run", "apply", "erase", "decide", "people", "key".
    kind: str
    #: Canonical JSON.
    body: bytes
    created_ms: int
    by: str = ""
    state: Literal["open", "done"] = "open"
    #: Canonical JSON once it is done.
    result: bytes = b""
    #: A datagram socket to knock on when it is done.
    reply: str = ""


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """Blocks of a log that are deleted: those that lie wholly in a range of ingest_seq."""

    log: str
    first_seq: int
    last_seq: int


class Batch(msgspec.Struct, kw_only=True):
    """What one transaction writes."""

    entries: list[StoredEntry] = []
    tiles: list[Tile] = []
    contents: list[Content] = []
    rows: list[Row] = []
    seals: list[SealRow] = []
    #: Blocks of input logs, each the next of its log.
    blocks: list[StoredBlock] = []
    #: Blocks of input logs that are deleted.
    retired: list[Span] = []
    #: Digests of blobs to delete, with their salts.
    erased: list[str] = []
    #: Tables that are emptied before `rows` are written.
    emptied: list[str] = []
    #: Why its rows could not be told: it is never written, and kept aside where a store does that.
    failure: RunwrightError | None = None

    def __bool__(self) -> bool:
        """Say whether there is anything to write."""
        return bool(
            self.entries
            or self.tiles
            or self.contents
            or self.rows
            or self.seals
            or self.blocks
            or self.retired
            or self.erased
            or self.emptied
        )


#: What a column holds beside integers, text and bytes. Rows carry JSON as text, an instant as
#: "2026-03-01T06:00:00Z", a flag as 0 or 1 and a number as a decimal in text, on every store.
ColumnType: TypeAlias = Literal["json", "instant", "flag", "number"]


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """A table that a store keeps."""

    name: str
    #: Column names, in order.
    columns: tuple[str, ...]
    #: The columns of the primary key; none of a view, which stands behind the tables it shows.
    key: tuple[str, ...]
    #: The .sql file that holds its DDL, in a block `-- name: TABLE STORE` for each kind of store.
    sql: str = ""
    #: Where it stands on a store with schemas: the settings give "governance" and others a name.
    schema: str = ""
    #: Column -> what it holds, of the columns that a store may have a type of its own for.
    types: Mapping[str, ColumnType] = {}
    #: The columns that follow from the record: all of a projection, none of what people keep.
    folded: tuple[str, ...] = ()
    #: The columns that a site's own table in its place may lack; None: it has no such place.
    spared: tuple[str, ...] | None = None

    @property
    def is_view(self) -> bool:
        """Whether it only shows other tables."""
        return not self.key

    @property
    def is_edited(self) -> bool:
        """Whether operators edit it."""
        return bool(self.key) and self.folded != self.columns


class Lease(Protocol):
    """The right to conduct a store."""

    def release(self) -> None:
        """Give it up; releasing twice is nothing."""


class Reader(Protocol):
    """Answers what is kept."""

    def entries(self, start: int = 0, stop: int | None = None) -> Iterator[StoredEntry]:
        """Yield the entries with start <= seq < stop, in order."""

    def blob(self, digest: str) -> Content | None:
        """Return kept bytes by digest or commitment; None when erased or never kept."""

    def rows(
        self,
        table: str,
        where: Mapping[str, Any] | None = None,
        *,
        order: str = "",
        limit: int = 0,
        after: Mapping[str, Any] | None = None,
        columns: Sequence[str] = (),
    ) -> list[dict[str, Any]]:
        """Return rows whose columns equal `where`; order is "column" or "-column".

        Columns of integers or text that `after` names lie above its values. Only the `columns` that
        are named come back; none named: all.
        """


class Store(Reader, Protocol):
    """Keeps the record. Only the holder of the lease commits; everybody may submit and read."""

    def lease(self) -> Lease:
        """Take the right to conduct. Raises: store-busy when somebody else has it."""

    def commit(self, batch: Batch) -> None:
        """Write a batch in one durable transaction.

        Raises: store-unwritable when it was certainly not written, commit-unknown when it may have
        been, store-corrupt when an entry of that seq is there already.
        """

    def merge(self) -> None:
        """Do now what some later commit would do besides, for long, where there is much of it.

        Raises: store-unwritable.
        """

    def submit(self, request: Request) -> None:
        """Insert a request in a transaction of its own; no lease is needed."""

    def size(self) -> int:
        """Return how many entries there are."""

    def tiles(self, level: int, start: int, stop: int) -> list[bytes]:
        """Return the hashes of full subtrees of a level (0: leaves), start <= index < stop."""

    def seals(self, *, latest: bool = False) -> list[SealRow]:
        """Return the seals by size, or the newest one only."""

    def close(self) -> None:
        """Let go of the store; closing twice is nothing."""


# ---------------------------------------------------------------------------------------- world


class LogEnd(NamedTuple):
    """Where a log ends at an instant."""

    #: The highest ingest_seq that was stamped at or before it; 0: none.
    seq: int
    #: The number of the block that holds it, and its digest, hex; of nothing: block 0.
    block: int
    digest: str


class LogReader(Protocol):
    """A log of events, as far as plans need it."""

    def end_at(self, planned_ms: int) -> LogEnd:
        """Return where it ends at an instant that it is closed through."""

    def first_of(self, key: str, end: int) -> int | None:
        """Return the first ingest_seq of a key up to an end; None: there is none."""

    def slice(self, cut: Cut) -> Sequence[bytes]:
        """Return the records of a cut, as the bytes that arrived. Raises: inputs-retired."""


class World(Protocol):
    """What `observe` may ask: rows of the tables, and the folders of the spec."""

    def log(self, name: str) -> LogReader:
        """Return a log by the name of its spec. Raises: usage when no stream of it runs here."""

    def memory(self) -> Mapping[str, Mapping[str, Any]]:
        """Return what the last outcome of each lane left."""

    def rows(self, table: str, where: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """Return rows of a table as they stand now."""

    def keep(self, data: bytes) -> Ref:
        """Keep a large thing with the round that this observation leads to, by its digest."""

    def recorded(self, table: str, where: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """Return rows of the recorded past: `round`, `tick`, `lane`."""


# --------------------------------------------------------------------------------------- places


class Work(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One attempt of one run, handed to a place."""

    plan: RunPlan
    run: str
    attempt: int = 1
    #: Epoch ms.
    scheduled_ms: int = 0
    inputs: tuple[bytes, ...] = ()
    memory: Mapping[str, Any] | None = None


class Place(Protocol):
    """Where the runs of one round execute."""

    #: How many runs may be under way at once.
    workers: int

    def start(self, work: Sequence[Work]) -> None:
        """Start attempts."""

    def wait(self, timeout_s: float | None) -> list[Executed]:
        """Return what has ended, waiting until something has, `wake` was called or time is up."""

    def stop(self, *, kill: bool) -> None:
        """End what is under way: ask first, or kill at once; it comes back from `wait`."""

    def close(self) -> None:
        """Let go of processes and threads."""


class Places(Protocol):
    """Makes the place that a round asks for."""

    def open(self, round: Round) -> Place:  # noqa: A002 - the word
        """Return the place for a round. Raises: refused when this machine cannot hold a demand."""

    def wake(self) -> None:
        """Make `wait` of the open place return; safe in a signal handler."""

    def close(self) -> None:
        """Let go of the launcher and pools."""


# ---------------------------------------------------------------------------------- sinks, clock


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """One paper on its way out."""

    #: Unique for this paper: a consumer drops duplicates by it.
    id: str
    name: str
    body: bytes
    media: str = "application/json"


class Sink(Protocol):
    """Where papers go; one with a true `is_batched` gets many at once."""

    def deliver(self, deliveries: Sequence[Delivery]) -> None:
        """Deliver in order and durably. Raises: deferred when it did not work now.

        After an error the same papers come again, the first of them alone.
        """


class Arrival(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What one poll of a source brought."""

    #: The source_id.
    source: str
    #: One item an event, as the bytes that arrived.
    items: list[bytes]
    #: Where the source goes on after these, a small JSON value; None: it cannot say.
    position: Any = None
    #: When they were received, epoch ms.
    received_ms: int = 0


class EventSource(Protocol):
    """Where events of a stream come from. Nothing here blocks; a thread of its own may."""

    @property
    def name(self) -> str:
        """The source_id."""

    @property
    def is_over(self) -> bool:
        """Whether nothing will ever come again."""

    @property
    def look_s(self) -> float | None:
        """Seconds after which to ask again when nothing came; None: it wakes who waits."""

    def poll(self, most: int) -> Arrival | None:
        """Return what has arrived, at most so many events; None when nothing has.

        Raises: deferred when the source is away; it is asked again after a delay, and goes on
        where it was.
        """

    def acknowledge(self, position: Any) -> None:
        """Say that everything up to a position is durable."""

    def pause(self) -> None:
        """Take nothing more in, in the way of this source, until `resume`."""

    def resume(self) -> None:
        """Go on after `pause`."""

    def close(self) -> None:
        """Let go of files, threads and connections."""


class Keyring(Protocol):
    """Keeps the private keys of agents; a key is named by its 32 public bytes, hex."""

    def create(self, agent: str) -> str:
        """Make another key, durably; return its public half."""

    def keys(self, agent: str) -> list[str]:
        """Return the public halves of the keys that are kept, the current one first."""

    def sign(self, agent: str, key: str, data: bytes) -> bytes | None:
        """Return a signature; None when the key is not kept here."""

    def promote(self, agent: str, key: str) -> None:
        """Make a key the current one."""

    def remove(self, agent: str, key: str) -> None:
        """Delete the private half of a key; again is nothing."""


class Clock(Protocol):
    """Time and chance, the only source of both."""

    def now_ms(self) -> int:
        """Return the wall clock, epoch ms."""

    def monotonic_s(self) -> float:
        """Return a clock that never goes back, seconds."""

    def entropy(self, size: int) -> bytes:
        """Return random bytes from the operating system."""


class Bell(Protocol):
    """Wakes a conductor that waits."""

    def wait(self, timeout_s: float | None) -> bool:
        """Wait until somebody rings, a signal arrives or time is up; True when rung."""

    def wake(self) -> None:
        """Make `wait` return; safe in a signal handler."""

    def ring(self, address: str) -> None:
        """Wake whoever waits at an address; nobody there is nothing."""

    def close(self) -> None:
        """Take the bell down."""


class Messages(Protocol):
    """Text for operators: an event name and fields."""

    def __call__(
        self, event: str, text: str = "", /, *, level: str = "info", **fields: Any
    ) -> None:
        """Write one message."""
