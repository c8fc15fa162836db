"""What is planned, executed and recorded: ticks, rounds, runs and their outcomes.

A tick says when; a round is recorded, executed and judged together; a run is one unit of it. All of
it is data: frozen, canonical, and the same on every machine.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias

import msgspec

from runwright.kernel.canonical import digest, digest_of, encode

#: ISO 8601 to the second, without and with its zone.
_ISO: Final = ("%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%SZ")
_TEXTS: Final = msgspec.json.Encoder(order="sorted")
#: What a lane's last outcome left for its next run: a small canonical value.
Memory: TypeAlias = Mapping[str, Any]
#: What `observe` read: a small canonical value; large things stand in it as a Ref.
Facts: TypeAlias = Mapping[str, Any]


class _Data(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Frozen, keyword-only data; trees, so that nothing looks for cycles in them."""


class _Strict(_Data, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Frozen data that refuses a field it does not know."""


# ---------------------------------------------------------------------------------------- ticks


class Scheduled(_Strict, frozen=True, tag="scheduled"):
    """An occurrence of a schedule."""

    #: The planned instant, epoch ms.
    planned_ms: int


class Requested(_Strict, frozen=True, tag="requested"):
    """Somebody asked for it."""

    #: The unique id of the request.
    id: str
    #: The planned instant, epoch ms: when it was asked for, or `--at`.
    planned_ms: int
    #: Who asked.
    by: str = ""
    #: What was asked for, by the workload's words.
    args: Mapping[str, Any] = {}


class Arrived(_Strict, frozen=True, tag="arrived"):
    """A decision or a reading arrived."""

    #: The unique id of what arrived.
    id: str
    #: When it arrived, epoch ms.
    planned_ms: int
    #: What it is about.
    subject: str = ""


Tick: TypeAlias = Scheduled | Requested | Arrived


def tick_key(tick: Tick) -> str:
    """Return the word that tells one tick of a spec from another, on every machine."""
    if isinstance(tick, Scheduled):
        return f"scheduled:{tick.planned_ms}"
    return f"{'requested' if isinstance(tick, Requested) else 'arrived'}:{tick.id}"


# ------------------------------------------------------------------------------------ schedules


class Dst(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """What a fixed time does on the dates when clocks change; others follow elapsed time."""

    #: A time that does not exist: shift it to the first instant after the gap, or skip it.
    gap: Literal["shift", "skip"] = "shift"
    #: A time that exists twice: fire at the first, at the last, or at both.
    overlap: Literal["first", "last", "both"] = "first"


class Misfire(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """What happens to occurrences that nobody saw in time."""

    #: Run none of them, only the newest, or the newest `max`; the rest is recorded as MISSED.
    policy: Literal["skip", "latest", "all"] = "latest"
    #: How many seconds after its instant one may still run. None: within one period, which the
    #: newest always is; a schedule with a single occurrence has no period and no limit.
    window_s: int | None = None
    #: How many run under `all`; at most 1,000.
    max: int = 5


class Schedule(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """When a spec runs, as its file says: exactly one of `once_at`, `interval_s` and `cron`."""

    #: The one instant, ISO 8601 with an offset or Z.
    once_at: str | None = None
    #: Seconds between occurrences, on the grid anchor + k * interval, k any integer.
    interval_s: int | None = None
    #: The instant that the grid of `interval_s` goes through, ISO 8601 with an offset or Z;
    #: "": when the spec was first applied.
    anchor: str = ""
    #: Five fields: minute, hour, day of month, month, day of week.
    cron: str | None = None
    #: The IANA time zone of `cron`.
    timezone: str = "UTC"
    #: What a fixed time of `cron` does when clocks change.
    dst: Dst = Dst()
    #: What happens to occurrences that nobody saw in time.
    misfire: Misfire = Misfire()
    #: While a run is under way: drop what comes due, let the newest wait for its end, or start it.
    overlap: Literal["skip", "queue_one", "allow"] = "skip"
    #: An occurrence that has not started this many seconds after its instant is MISSED.
    deadline_s: int | None = None
    #: Pause after this many failures in a row; 0: never.
    pause_on_failures: int = 0
    #: False: every occurrence is recorded as SKIPPED.
    enabled: bool = True


class InForce(_Strict, frozen=True):
    """What a spec runs by now: its own schedule, or what operators made of it."""

    #: None: only when it is asked for.
    schedule: Schedule | None = None
    #: Why nothing runs by itself: what operators left cannot be meant.
    refused: str = ""


# ------------------------------------------------------------------------------------- the plan


class Ref(_Strict, frozen=True):
    """A large thing by its digest."""

    #: SHA-256 of the bytes, hex.
    digest: str
    #: Their length in bytes.
    size: int = 0


class Call(_Strict, frozen=True, tag="call"):
    """A module-level function by name, with its arguments: data, never code."""

    #: "package.module:function".
    name: str
    args: Mapping[str, Any] = {}
    #: Milliseconds that it may take in a place of processes, which ends it then; 0: no limit.
    timeout_ms: int = 0
    #: Address space in MiB of the process that it executes in there; 0: no limit.
    memory_mib: int = 0
    #: Whether that process has no network, and writes only to its scratch folder (T1): "wished"
    #: where the machine holds it, "demanded" refuses the call elsewhere.
    confined: Literal["", "wished", "demanded"] = ""


class Limits(_Strict, frozen=True):
    """The most that one command may use; 0 means no limit of that kind."""

    #: Wall seconds before the whole process tree is ended.
    timeout_s: float | int = 300
    #: Seconds between SIGTERM and SIGKILL.
    grace_s: float | int = 2
    #: CPU seconds of any one process (RLIMIT_CPU).
    cpu_s: int = 0
    #: Address space of any one process in MiB (RLIMIT_AS).
    memory_mib: int = 0
    #: Largest file that may be written in MiB (RLIMIT_FSIZE).
    file_mib: int = 1024
    #: Open file descriptors (RLIMIT_NOFILE).
    open_files: int = 1024
    #: Processes and threads of its tree where a control group counts them, else of the user
    #: (RLIMIT_NPROC), which does not hold for root.
    processes: int = 0
    #: Bytes of each output stream that are kept, in KiB; the rest is hashed and counted.
    output_kib: int = 1024


class Cut(_Strict, frozen=True):
    """Records of a log: those of one key in a range of it. Where first = last + 1 it is empty."""

    #: The log: the name of the spec that it belongs to.
    log: str
    #: Whose records: the symbol.
    key: str
    #: The first and the last ingest_seq of the range, records of other keys included.
    first: int
    last: int


class Script(_Strict, frozen=True):
    """A file that a command executes, as it was when the run was planned."""

    #: Absolute path with every link resolved.
    path: str
    #: The declared root that it lies below.
    root: str
    #: SHA-256 of its bytes when it was planned; checked again at the start.
    digest: str


class Warm(_Strict, frozen=True):
    """A wish to be forked from a process that has imported what the script needs."""

    #: What is imported ahead; None for what the script's own first-level imports name.
    imports: tuple[str, ...] | None = None


class Command(_Strict, frozen=True, tag="command"):
    """A program to execute in a process of its own."""

    #: The program and its arguments.
    argv: tuple[str, ...]
    #: The file whose digest was planned, when there is one.
    script: Script | None = None
    #: The folder it starts in; empty for its scratch folder.
    folder: str = ""
    #: Names of the variables granted from the conductor's environment.
    env: tuple[str, ...] = ()
    #: Of those granted, the names whose values are secret and are masked in all that is kept.
    secret: tuple[str, ...] = ()
    #: "any", "none", or the host:port pairs that may be reached.
    network: Literal["any", "none"] | tuple[str, ...] = "any"
    #: Absolute paths below which it may write, beside its scratch folder.
    write: tuple[str, ...] = ()
    #: JSON text that the command finds in the file RUNWRIGHT_CONFIG.
    config: str = "{}"
    limits: Limits = Limits()
    #: The isolation level that it demands; empty for the best this machine holds.
    level: Literal["", "T0", "T1", "T2"] = ""
    #: It may be forked from a template; only for a Python script.
    warm: Warm | None = None


class RunPlan(_Strict, frozen=True):
    """One unit of work, as planned."""

    #: Unique in its round: function, trial, symbol, case, cell.
    key: str
    work: Call | Command
    #: Runs of one lane execute one at a time, in order, with a memory; "" knows no order.
    lane: str = ""
    #: What the run reads, by digest; the place resolves it.
    inputs: tuple[Ref, ...] = ()
    #: What the run reads of a log; its records are the inputs, as the bytes that arrived.
    cut: Cut | None = None
    #: What of the lane's memory changes when the run ends without leaving one of its own.
    leaves: Mapping[str, Any] | None = None
    #: Digest of all that the result may depend on; a pure run of equal content may be reused.
    content: str = ""
    #: On whose behalf it executes.
    agent: str = ""
    #: Why this run must not start; it is recorded as failed without being started.
    refused: str = ""
    #: By which rule it was refused, with its figures: kept in the value of the outcome.
    refusal: Mapping[str, Any] = {}


class Rate(_Strict, frozen=True):
    """At most so many starts in a period, for all runs of a round together."""

    starts: int
    period_s: float | int = 1


class Retry(_Strict, frozen=True):
    """How often a run that raised Deferred is repeated: delay = min * 2^k, capped, no jitter."""

    #: Attempts in all; 1 means no repeat.
    attempts: int = 1
    min_s: float | int = 1
    max_s: float | int = 60
    #: Repeat one that failed by its exit, a signal or its timeout too, not only one that asks.
    on_failure: bool = False


#: No repeat.
ONCE = Retry()


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """Runs that are recorded, executed, judged and reported together."""

    #: Unique in its tick: "cycle", "smoke-2", "units/workers=4".
    key: str
    #: None: a judgement on facts alone.
    runs: Sequence[RunPlan] = ()
    #: What people call it: the cycle id.
    label: str = ""
    #: True: outcomes commit in batches and missing runs are run again after a crash.
    #: False: started and finished are durable each; open ones end as interrupted.
    pure: bool = True
    place: Literal["inline", "thread", "process", "command"] = "inline"
    workers: int = 1
    #: One limiter for all runs of the round.
    rate: Rate | None = None
    #: For a run that raised Deferred.
    retry: Retry = ONCE
    #: Wall seconds after which no run starts and running ones are ended.
    deadline_s: float | int | None = None
    #: Above 0: judge prefixes of so many outcomes too; a verdict that stops cancels the rest.
    judge_every: int = 0


# ---------------------------------------------------------------------------------- the outcome


class Resources(_Strict, frozen=True):
    """What a run used."""

    duration_ms: int = 0
    cpu_ms: int = 0
    #: Peak resident memory of its largest process, KiB.
    peak_kib: int = 0
    #: Exit code; None when it ended by a signal or never started.
    exit: int | None = None
    signal: int | None = None


class Warmth(_Strict, frozen=True):
    """How a command started that wished to be warm."""

    state: Literal["warm", "cold"]
    #: Why it was cold.
    reason: str = ""
    #: Digest of what its template had imported: names, versions, files with size and time.
    template: str = ""
    #: How many runs that template had started, this one included.
    n: int = 0


class Blob(_Strict, frozen=True):
    """Bytes kept beside the ledger, bound to an entry by a digest or a salted commitment."""

    name: str
    #: SHA-256 hex of the bytes (pinned), or of salt || bytes (captured).
    digest: str
    size: int
    media: str = "application/octet-stream"
    #: Captured bytes have a salt, kept beside them, so that they can be erased.
    salted: bool = False
    #: For output longer than what is kept: commitment to the whole masked stream.
    whole_digest: str = ""
    #: Length of the whole masked stream in bytes, when it is longer than `size`.
    whole_size: int = 0
    #: How many secret values were masked in it.
    masked: int = 0


OutcomeStatus: TypeAlias = Literal["done", "failed", "skipped", "interrupted"]


class Outcome(_Strict, frozen=True):
    """How one run ended."""

    #: The key of its RunPlan.
    key: str
    status: OutcomeStatus
    #: A word, then text: "exit", "timeout", "signal", "raised", "refused", "cancelled", "changed".
    reason: str = ""
    #: A sentence for people; never output of the run.
    message: str = ""
    #: What the run answered: a small canonical value.
    value: Mapping[str, Any] = {}
    attempts: int = 1
    started_ms: int = 0
    finished_ms: int = 0
    used: Resources = Resources()
    #: The isolation level that was applied, for a command.
    level: str = ""
    #: Whether it was forked from a template, for a command that wished it.
    warmth: Warmth | None = None
    blobs: tuple[Blob, ...] = ()
    #: What the next run of the lane will know; None leaves it as it was.
    memory: Mapping[str, Any] | None = None
    #: The run whose recorded result was reused.
    reused: str = ""


class Content(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Bytes that a run left, on their way to the blob store."""

    #: The digest under which a Blob names them.
    digest: str
    data: bytes
    #: Empty for pinned bytes.
    salt: bytes = b""


class Executed(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a place hands back for one run."""

    outcome: Outcome
    contents: tuple[Content, ...] = ()
    #: The run asks to be repeated (Deferred; exit status 75).
    deferred: bool = False
    #: What it answered was found to have a canonical form, by this very process.
    fits: bool = False


# ---------------------------------------------------------------------------------------- ids


def tick_id(*, origin: str, workload: str, spec: str, tick: Tick) -> str:
    """Return the id of a tick: the same on every machine, so a repeat is recognised."""
    return _id_of(origin=origin, spec=spec, tick=tick_key(tick), workload=workload)


def round_id(*, tick: str, round_key: str) -> str:
    """Return the id of a round of a tick (by its id)."""
    return _id_of(round=round_key, tick=tick)


def run_id(*, round: str, key: str) -> str:  # noqa: A002 - the word of the field
    """Return the id of a run: which occurrence of {origin, workload, spec, tick, round, key}."""
    return _id_of(key=key, round=round)


def run_ids(*, round: str, keys: Iterable[str]) -> dict[str, str]:  # noqa: A002 - as above
    """Return key -> run id for the runs of a round: `run_id` of each, for less."""
    end = b',"round":' + _text(round) + b"}"
    return {key: digest(b'{"key":' + _text(key) + end) for key in keys}


def _id_of(**texts: str) -> str:
    """Return the digest of the canonical bytes of texts by name."""
    if all(map(str.isascii, texts.values())):
        # What is ASCII is text, and needs no other look.
        return digest(_TEXTS.encode(texts))
    return digest_of(texts)


def _text(text: str) -> bytes:
    return _TEXTS.encode(text) if text.isascii() else encode(text)


def instant_text(epoch_ms: int, form: str = "%Y-%m-%dT%H:%M:%SZ") -> str:
    """Return an instant in UTC, ISO 8601 to the second unless the form says otherwise.

    One after the year 9999, which is hardly meant, is shown as its number.
    """
    from datetime import UTC, datetime  # lazy: 2 ms that a command without instants saves

    try:
        instant = datetime.fromtimestamp(epoch_ms // 1000, UTC)
    except (ValueError, OverflowError):
        return f"{epoch_ms} ms"
    if form in _ISO:
        # Five times as fast as to have the form read.
        return instant.isoformat()[:19] + form[len(_ISO[0]) :]
    return instant.strftime(form)
