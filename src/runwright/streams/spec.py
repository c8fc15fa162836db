"""What a stream's spec file says: its sources, when it ticks, its engine, its bounds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple

import msgspec

from runwright.kernel.run import Retry
from runwright.kernel.workload import SpecBase
from runwright.streams.frozen import hold

#: The engine timestamps of the engine that streams were first made for: closes of three minutes.
ALIGNMENT_MS: Final = 180_000
#: The most records of a segment, unless the spec says otherwise.
SEGMENT_RECORDS: Final = 100_000


class Mapped(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a row becomes an event: direct mappings only, nothing is computed."""

    #: The event type of every row; "": `columns` names the column that holds it.
    event_type: str = ""
    #: Field of the event -> column: "symbol", "recv_ts_ms", "normalized.open", …
    columns: Mapping[str, str] = {}
    #: Field of the event -> value, the same for every row.
    constants: Mapping[str, Any] = {}
    #: How instants are written: a number of these since the epoch, or ISO 8601, without an offset
    #: in UTC.
    time_unit: Literal["ms", "s", "us", "ns", "iso"] = "ms"
    #: What separates the columns of CSV.
    delimiter: str = ","
    #: The names of the columns of a CSV file without a first line of names.
    header: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        hold(self, "columns", "constants")


class FileSource(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file of events, or of rows that a mapping makes events of."""

    #: Relative to the folder of the spec file.
    path: str
    format: Literal["jsonl", "csv", "parquet"]
    mapping: Mapped | None = None
    #: Whether it is never over, and its end is looked at; None: by the clock it is.
    follow: bool | None = None


class StdinSource(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Standard input."""

    format: Literal["jsonl", "csv"]
    mapping: Mapped | None = None


class NatsSource(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A stream of NATS JetStream, one event a message."""

    url: str
    stream: str
    subject: str
    #: The name of the consumer that the server keeps; "": made from stream and source.
    durable: str = ""
    #: A file of credentials, relative to the folder of the spec file.
    credentials: str = ""
    #: The names of the variables of the environment that hold user and password.
    user_env: str = ""
    password_env: str = ""
    #: Whether what comes after the last message that is there at the start is waited for.
    follow: bool = True


class PythonSource(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A function that returns an iterator of events."""

    #: "package.module:callable".
    ref: str


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where events come from: exactly one of `file`, `stdin`, `nats` and `python`."""

    #: Unique in its spec.
    source_id: str
    #: What it brings; a symbol may come from several sources.
    symbols: tuple[str, ...]
    file: FileSource | None = None
    stdin: StdinSource | None = None
    nats: NatsSource | None = None
    python: PythonSource | None = None

    @property
    def mapping(self) -> Mapped | None:
        """How its rows become events; None: what arrives are events."""
        rows = self.file or self.stdin
        return rows.mapping if rows else None

    @property
    def format(self) -> str:
        """How an item is written: jsonl, csv or parquet."""
        rows = self.file or self.stdin
        return rows.format if rows else "jsonl"


class Scheduler(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a tick is due."""

    mode: Literal["timer", "boundary"] = "boundary"
    #: Of `timer`: between ticks.
    timer_interval_ms: int | None = None
    #: Of `timer`: an instant of its grid; None: see `anchor_of`.
    timer_anchor_ms: int | None = None
    #: Of `boundary`: the grid, from the epoch on.
    boundary_interval_ms: int = ALIGNMENT_MS
    #: Of `boundary`: how long after its instant a tick is planned.
    boundary_delay_ms: int = 0
    #: What becomes of ticks that nobody conducted: each is run, or recorded as skipped.
    on_restart: Literal["resume", "skip"] = "resume"
    #: Whose time it is: the wall clock's, or that of the events, for history.
    time: Literal["clock", "events"] = "clock"

    @property
    def interval_ms(self) -> int:
        """The interval of its mode."""
        return (self.timer_interval_ms or 0) if self.mode == "timer" else self.boundary_interval_ms


class Engine(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is run on each cut, and how."""

    #: "package.module:callable", or "cmd: program arguments".
    ref: str
    engine_mode: Literal["truth", "hysteresis"] = "truth"
    #: Where the states are kept: "store:".
    hysteresis_state_path: str = ""
    #: What an engine timestamp is a multiple of; 0: of nothing.
    alignment_ms: int = ALIGNMENT_MS
    timeout_ms: int = 30_000
    isolation: Literal["inline", "process"] = "process"
    #: "off", "lint", "canary:RATE" or "lint+canary:RATE".
    determinism_check: str = "lint+canary:0.01"
    #: What the engine is given: the snapshot for its timestamp, which must be in the cut, or all
    #: events of the cut.
    input: Literal["snapshot", "events"] = "snapshot"
    #: For the engine alone.
    config: Mapping[str, Any] = {}

    def __post_init__(self) -> None:
        hold(self, "config")


class Bounds(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How often something is tried: delays min * 2^k, at most max, without jitter."""

    min_delay_ms: int = 100
    max_delay_ms: int = 1000
    max_attempts: int = 3
    #: No delay is begun that would bring their sum above this; attempt 1 is always made.
    max_elapsed_ms: int | None = None


class Retention(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much of the log is kept."""

    #: Records that are not retired; when so many are there, intake stops.
    max_records: int = 10_000_000
    max_age_ms: int | None = None


class Buffer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the log is written."""

    #: Whether an acknowledged event survives the loss of power, or of the process alone.
    durability: Literal["full", "normal"] = "full"
    #: How long an event may wait for others of its commit; 0: every event has its own.
    group_commit_ms: int = 2
    #: Records of a segment, the unit of sealing and retention; None: see `segment_records_of`.
    segment_records: int | None = None


class Publish(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where outputs go, and how many may wait."""

    #: Outputs that wait; when so many do, ticks pause.
    max_pending: int = 1000
    max_block_ms: int | None = 5000
    transport: Literal["log", "jsonl", "stdout", "nats"] = "log"
    #: Of `jsonl`: a file, relative to the folder of the spec file.
    path: str = ""
    #: Of `nats`.
    url: str = ""
    #: Of `nats`: the name of its stream.
    stream: str = ""
    #: Of `nats`: what its subjects begin with; "": runwright.streams.NAME.
    subject: str = ""
    #: Of `nats`: a file of credentials, relative to the folder of the spec file.
    credentials: str = ""
    #: Of `nats`: the names of the variables of the environment that hold user and password.
    user_env: str = ""
    password_env: str = ""
    #: Of `nats`: the server's monitoring, which says how it syncs: http://HOST:PORT.
    monitor: str = ""


class Concurrency(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much happens at once; outputs do not depend on it."""

    #: None: as many as this machine has processors.
    max_symbols: int | None = None


class StreamSpec(SpecBase, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A stream: what comes in, when and by what it is run, what goes out."""

    sources: tuple[Source, ...]
    scheduler: Scheduler
    engine: Engine
    ingestion_retry: Bounds = Bounds()
    buffer_retry: Bounds = Bounds()
    engine_retry: Bounds = Bounds()
    publish_retry: Bounds = Bounds()
    buffer_retention: Retention = Retention()
    buffer: Buffer = Buffer()
    output_publish: Publish = Publish()
    concurrency: Concurrency = Concurrency()


#: The failure domains, each with bounds of its own.
RETRIES: Final = ("ingestion_retry", "buffer_retry", "engine_retry", "publish_retry")
#: What a file must say so that one symbol runs from end to end, each with a value that does; in
#: hysteresis mode `engine.hysteresis_state_path` joins them.
MINIMAL: Final[Mapping[str, Any]] = {
    "sources[0].source_id": "binance",
    "sources[0].symbols": ("BTCUSDT",),
    "sources[0].stdin": {"format": "jsonl"},
    "scheduler.mode": "boundary",
    "scheduler.boundary_interval_ms": ALIGNMENT_MS,
    "engine.engine_mode": "truth",
    "engine.ref": "runwright.streams.engines.echo:engine",
}


class Determinism(NamedTuple):
    """What is done about an engine that may not be a function of its input."""

    has_lint: bool
    #: Of a million runs, how many are run twice.
    canary_ppm: int


def symbols_of(spec: StreamSpec) -> tuple[str, ...]:
    """Return the symbols that have runs, each once, by code point."""
    return tuple(sorted({symbol for source in spec.sources for symbol in source.symbols}))


def delays_ms(bounds: Bounds) -> tuple[int, ...]:
    """Return the delays between attempts: one fewer than there are attempts at most."""
    delays: list[int] = []
    spent = 0
    for attempt in range(bounds.max_attempts - 1):
        delay = min(bounds.max_delay_ms, bounds.min_delay_ms << min(attempt, 64))
        spent += delay
        if bounds.max_elapsed_ms is not None and spent > bounds.max_elapsed_ms:
            break
        delays.append(delay)
    return tuple(delays)


def retry_of(bounds: Bounds) -> Retry:
    """Return bounds as the kernel takes them: max_elapsed_ms has become fewer attempts.

    The sum of the delays decides, not a clock, so a repetition makes as many attempts.
    """
    attempts = 1 + len(delays_ms(bounds))
    return Retry(
        attempts=attempts,
        min_s=_seconds(bounds.min_delay_ms),
        max_s=_seconds(bounds.max_delay_ms),
        on_failure=attempts > 1,
    )


def _seconds(milliseconds: int) -> int | float:
    whole, rest = divmod(milliseconds, 1000)
    return milliseconds / 1000 if rest else whole


def anchor_of(scheduler: Scheduler, alignment_ms: int, started_ms: int) -> int:
    """Return an instant of the grid: what the file says, else the first aligned one from a start.

    A stream asks once and keeps the answer.
    """
    if scheduler.mode == "boundary":
        return 0
    if scheduler.timer_anchor_ms is not None:
        return scheduler.timer_anchor_ms
    step = alignment_ms or 1
    return -(-started_ms // step) * step


def segment_records_of(spec: StreamSpec) -> int:
    """Return how many records a segment has: at most a quarter of the log unless the file says."""
    if spec.buffer.segment_records is not None:
        return spec.buffer.segment_records
    return max(1, min(SEGMENT_RECORDS, spec.buffer_retention.max_records // 4))


def determinism_of(engine: Engine) -> Determinism:
    """Return what `engine.determinism_check` asks for; the spec was checked."""
    rate = engine.determinism_check.partition("canary:")[2]
    ppm = max(1, round(float(rate) * 1_000_000)) if rate else 0
    return Determinism("lint" in engine.determinism_check, ppm)
