"""Refuses a stream's spec that cannot be meant; every message begins with the dotted key."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from runwright.kernel.errors import InvalidSpec
from runwright.kernel.ports import Row
from runwright.kernel.workload import Rows
from runwright.streams.contracts import RawMarketEvent
from runwright.streams.normalized import INSTANT_MAX, REQUIRED
from runwright.streams.spec import (
    RETRIES,
    Bounds,
    Engine,
    FileSource,
    Mapped,
    NatsSource,
    Publish,
    Source,
    StreamSpec,
)

#: The most sources of a stream.
SOURCES_MAX: Final = 100
#: The most symbols of a source.
SYMBOLS_MAX: Final = 10_000
#: The most attempts that bounds may ask for.
ATTEMPTS_MAX: Final = 100
#: The longest time that a key may say, ms: a week.
TIME_MAX: Final = 7 * 86_400_000
#: Where states are kept.
STORE: Final = "store:"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_SYMBOL: Final = re.compile(r"[!-~]{1,64}")
_FUNCTION: Final = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
_COMMAND: Final = re.compile(r"cmd:\s*\S.*", re.DOTALL)
_CHECK: Final = re.compile(r"off|lint|(?:lint\+)?canary:(?P<rate>0\.\d{1,6}|1(?:\.0{1,6})?)")
_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_URL: Final = re.compile(r"(nats|tls|ws|wss)://\S+")
_MONITOR: Final = re.compile(r"https?://[^\s@/]+/?")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
#: The keys of outputs that go to NATS.
_OF_NATS: Final = (
    "url",
    "stream",
    "subject",
    "credentials",
    "user_env",
    "password_env",
    "monitor",
)
_KINDS: Final = ("file", "stdin", "nats", "python")
_RECEIPT: Final = frozenset(RawMarketEvent.__struct_fields__) - {
    "schema",
    "schema_version",
    "raw_payload",
    "raw_payload_encoding",
    "normalized",
    "extra",
}


def check_spec(spec: StreamSpec) -> None:
    """Refuse a spec that cannot be meant. Raises: invalid-spec, beginning with the dotted key."""
    if not _NAME.fullmatch(spec.name):
        raise InvalidSpec(f"name: {spec.name!r} is not of letters, digits, '_', '.', '-'")
    if spec.schedule is not None:
        raise InvalidSpec("schedule: a stream has `scheduler` instead")
    _check_sources(spec)
    _check_scheduler(spec)
    _check_engine(spec.engine)
    for domain in RETRIES:
        _check_bounds(domain, getattr(spec, domain))
    _above("buffer_retention.max_records", spec.buffer_retention.max_records, INSTANT_MAX)
    _above("buffer_retention.max_age_ms", spec.buffer_retention.max_age_ms, INSTANT_MAX)
    _within("buffer.group_commit_ms", spec.buffer.group_commit_ms, 0, 10_000)
    segment, capacity = spec.buffer.segment_records, spec.buffer_retention.max_records
    _above("buffer.segment_records", segment, INSTANT_MAX)
    # The newest segment stays, so what is retired has to fit in beside it.
    if segment is not None and segment * 2 > capacity:
        raise InvalidSpec(
            f"buffer.segment_records: {segment} is above half of buffer_retention.max_records "
            f"{capacity}; a log that fills before a second segment ends would never empty"
        )
    _check_publish(spec.output_publish)
    _above("concurrency.max_symbols", spec.concurrency.max_symbols, SYMBOLS_MAX)


def warnings_of(spec: StreamSpec) -> tuple[str, ...]:
    """Return what a spec says that can be meant but hardly is, each with its key."""
    found = []
    for domain in RETRIES:
        bounds: Bounds = getattr(spec, domain)
        limit = bounds.max_elapsed_ms
        if limit is not None and limit < bounds.min_delay_ms and bounds.max_attempts > 1:
            found.append(
                f"{domain}.max_elapsed_ms: {limit} is below min_delay_ms {bounds.min_delay_ms}:"
                " the first attempt is the only one"
            )
    if spec.engine.engine_mode == "truth" and spec.engine.hysteresis_state_path:
        found.append("engine.hysteresis_state_path: engine_mode truth keeps no state")
    return tuple(found)


def declare(
    spec: StreamSpec,
    at_ms: int,  # noqa: ARG001 - what the kernel hands every workload
    tables: Mapping[str, Rows],  # noqa: ARG001
) -> tuple[Sequence[Row], Mapping[str, int]]:
    """Return no rows: a stream keeps no tables. Raises: invalid-spec."""
    check_spec(spec)
    return (), {}


# -------------------------------------------------------------------------------------- sources


def _check_sources(spec: StreamSpec) -> None:
    _within("sources", len(spec.sources), 1, SOURCES_MAX, of="sources")
    seen: set[str] = set()
    readers = [source.source_id for source in spec.sources if source.stdin]
    for index, source in enumerate(spec.sources):
        key = f"sources[{index}]"
        if not _NAME.fullmatch(source.source_id):
            raise InvalidSpec(
                f"{key}.source_id: {source.source_id!r} is not of letters, digits, '_', '.', '-'"
            )
        if source.source_id in seen:
            raise InvalidSpec(f"{key}.source_id: {source.source_id} is declared twice")
        seen.add(source.source_id)
        _check_symbols(f"{key}.symbols", source.symbols)
        given = [name for name in _KINDS if getattr(source, name) is not None]
        if len(given) != 1:
            told = " and ".join(given) or "none"
            raise InvalidSpec(f"{key}: {told} given; give one of {', '.join(_KINDS)}")
        if source.stdin and len(readers) > 1:
            raise InvalidSpec(f"{key}.stdin: {readers[0]} reads standard input already")
        _check_kind(f"{key}.{given[0]}", source, spec)


def _check_symbols(key: str, symbols: tuple[str, ...]) -> None:
    _within(key, len(symbols), 1, SYMBOLS_MAX, of="symbols")
    seen: set[str] = set()
    for index, symbol in enumerate(symbols):
        if not _SYMBOL.fullmatch(symbol):
            raise InvalidSpec(f"{key}[{index}]: {symbol!r} is not 1 to 64 visible ASCII characters")
        if symbol in seen:
            raise InvalidSpec(f"{key}[{index}]: {symbol} is declared twice")
        seen.add(symbol)


def _check_kind(key: str, source: Source, spec: StreamSpec) -> None:
    if source.python and not _FUNCTION.fullmatch(source.python.ref):
        raise InvalidSpec(f"{key}.ref: {source.python.ref!r} is not package.module:callable")
    if source.nats:
        _check_nats(key, source.nats)
        if not source.nats.subject or re.search(r"\s", source.nats.subject):
            raise InvalidSpec(f"{key}.subject: {source.nats.subject!r} is not a subject")
        if source.nats.durable and not _TOKEN.fullmatch(source.nats.durable):
            raise InvalidSpec(f"{key}.durable: {source.nats.durable!r} is not the name of one")
    if isinstance(source.file, FileSource) and not _is_path(source.file.path):
        raise InvalidSpec(f"{key}.path: {source.file.path!r} is not the name of a file")
    if source.file and source.file.follow and source.file.format == "parquet":
        raise InvalidSpec(f"{key}.follow: a file of Parquet is written whole, so it never grows")
    if source.mapping:
        _check_mapping(f"{key}.mapping", source, source.mapping, spec)
    elif source.format != "jsonl":
        raise InvalidSpec(f"{key}.mapping: needed, as rows of {source.format} are not events")


def _check_mapping(key: str, source: Source, mapping: Mapped, spec: StreamSpec) -> None:
    for part in ("columns", "constants"):
        for name in getattr(mapping, part):
            if name not in _RECEIPT and not re.fullmatch(r"normalized(\.[^.]+){1,8}", name):
                raise InvalidSpec(f"{key}.{part}: {name} is no field of an event")
    both = sorted(set(mapping.columns) & set(mapping.constants))
    if both:
        raise InvalidSpec(f"{key}.constants: {both[0]} stands in columns too")
    for name in sorted(given := {*mapping.columns, *mapping.constants}):
        parts = name.split(".")
        inner = {".".join(parts[:depth]) for depth in range(2, len(parts))} & given
        if inner:
            raise InvalidSpec(f"{key}.columns: {name} stands inside {min(inner)}, given as well")
    if bool(mapping.event_type) == ("event_type" in mapping.columns):
        raise InvalidSpec(f"{key}.event_type: give it, or a column for it, and not both")
    if "event_type" in mapping.constants:
        raise InvalidSpec(f"{key}.constants: event_type has a key of its own")
    if "symbol" not in given and len(source.symbols) > 1:
        raise InvalidSpec(f"{key}.columns: symbol is needed, as the source has several")
    if "recv_ts_ms" not in given and spec.scheduler.time == "events":
        raise InvalidSpec(f"{key}.columns: recv_ts_ms is needed: scheduler.time is events")
    for name in REQUIRED.get(mapping.event_type, ()):
        if f"normalized.{name}" not in given:
            raise InvalidSpec(f"{key}.columns: {mapping.event_type} needs normalized.{name}")
    if len(mapping.delimiter) != 1 or mapping.delimiter in '"\r\n\0':
        raise InvalidSpec(f"{key}.delimiter: {mapping.delimiter!r} is not one character")
    if mapping.header and source.format != "csv":
        raise InvalidSpec(f"{key}.header: only CSV has one")
    if len(set(mapping.header)) != len(mapping.header):
        raise InvalidSpec(f"{key}.header: a column stands twice")
    missing = sorted(set(mapping.columns.values()) - set(mapping.header))
    if mapping.header and missing:
        raise InvalidSpec(f"{key}.columns: {missing[0]} is not in the header")


# ---------------------------------------------------------------------------- ticks and engine


def _check_scheduler(spec: StreamSpec) -> None:
    scheduler, alignment = spec.scheduler, spec.engine.alignment_ms
    _within("engine.alignment_ms", alignment, 0, TIME_MAX)
    if scheduler.mode == "timer":
        if scheduler.timer_interval_ms is None:
            raise InvalidSpec("scheduler.timer_interval_ms: needed, as scheduler.mode is timer")
        _within("scheduler.timer_anchor_ms", scheduler.timer_anchor_ms or 0, 0, INSTANT_MAX)
        grids: tuple[str, ...] = ("timer_interval_ms", "timer_anchor_ms")
    else:
        for name in ("timer_interval_ms", "timer_anchor_ms"):
            if getattr(scheduler, name) is not None:
                raise InvalidSpec(f"scheduler.{name}: goes with scheduler.mode timer")
        grids = ("boundary_interval_ms",)
    _above("scheduler.timer_interval_ms", scheduler.timer_interval_ms, TIME_MAX)
    _above("scheduler.boundary_interval_ms", scheduler.boundary_interval_ms, TIME_MAX)
    _within("scheduler.boundary_delay_ms", scheduler.boundary_delay_ms, 0, TIME_MAX)
    for name in grids:
        value = getattr(scheduler, name)
        if value is not None and alignment and value % alignment:
            raise InvalidSpec(
                f"scheduler.{name}: {value} is no multiple of engine.alignment_ms {alignment};"
                " engine.alignment_ms: 0 turns the demand off"
            )


def _check_engine(engine: Engine) -> None:
    if not _FUNCTION.fullmatch(engine.ref) and not _COMMAND.fullmatch(engine.ref):
        raise InvalidSpec(
            f"engine.ref: {engine.ref!r} is neither package.module:callable nor cmd: and a program"
        )
    if engine.ref.startswith("cmd:") and engine.isolation == "inline":
        raise InvalidSpec("engine.isolation: a command has a process of its own, not inline")
    path = engine.hysteresis_state_path
    if engine.engine_mode == "hysteresis" and not path:
        raise InvalidSpec(f"engine.hysteresis_state_path: needed in hysteresis mode; give {STORE}")
    if path not in ("", STORE):
        raise InvalidSpec(
            f"engine.hysteresis_state_path: {path!r}: states live in the store, committed with"
            f" what a run left; give {STORE}"
        )
    _above("engine.timeout_ms", engine.timeout_ms, TIME_MAX)
    found = _CHECK.fullmatch(engine.determinism_check)
    if not found or (found["rate"] and float(found["rate"]) == 0):
        raise InvalidSpec(
            f"engine.determinism_check: {engine.determinism_check!r} is not off, lint,"
            " canary:RATE or lint+canary:RATE with a rate above 0, at most 1"
        )


# -------------------------------------------------------------------------------------- bounds


def _check_bounds(key: str, bounds: Bounds) -> None:
    _above(f"{key}.min_delay_ms", bounds.min_delay_ms, TIME_MAX)
    _above(f"{key}.max_delay_ms", bounds.max_delay_ms, TIME_MAX)
    if bounds.max_delay_ms < bounds.min_delay_ms:
        raise InvalidSpec(
            f"{key}.max_delay_ms: {bounds.max_delay_ms} is below min_delay_ms {bounds.min_delay_ms}"
        )
    _above(f"{key}.max_attempts", bounds.max_attempts, ATTEMPTS_MAX)
    _above(f"{key}.max_elapsed_ms", bounds.max_elapsed_ms, INSTANT_MAX)


def _check_publish(publish: Publish) -> None:
    _above("output_publish.max_pending", publish.max_pending, 1_000_000)
    _above("output_publish.max_block_ms", publish.max_block_ms, TIME_MAX)
    needed = {"jsonl": ("path",), "nats": ("url", "stream")}.get(publish.transport, ())
    allowed = {"jsonl": ("path",), "nats": _OF_NATS}.get(publish.transport, ())
    for name in ("path", *_OF_NATS):
        value = getattr(publish, name)
        if name in needed and not value:
            raise InvalidSpec(f"output_publish.{name}: needed by transport {publish.transport}")
        if value and name not in allowed:
            raise InvalidSpec(f"output_publish.{name}: transport {publish.transport} has none")
    if publish.transport == "jsonl" and not _is_path(publish.path):
        raise InvalidSpec(f"output_publish.path: {publish.path!r} is not the name of a file")
    if publish.transport == "nats":
        _check_nats("output_publish", publish)
        if publish.monitor and not _MONITOR.fullmatch(publish.monitor):
            raise InvalidSpec(
                f"output_publish.monitor: {publish.monitor!r} is not http://HOST:PORT"
            )
        if re.search(r"[\s*>]", publish.subject):
            raise InvalidSpec(f"output_publish.subject: {publish.subject!r} is not a subject")


def _check_nats(key: str, given: NatsSource | Publish) -> None:
    if "@" in given.url:
        raise InvalidSpec(
            f"{key}.url: it has credentials, and a spec stands in the record; name the variables "
            "that hold them in user_env and password_env, or a file in credentials"
        )
    if not _URL.fullmatch(given.url):
        raise InvalidSpec(f"{key}.url: {given.url!r} is not nats://HOST:PORT")
    if not _TOKEN.fullmatch(given.stream):
        raise InvalidSpec(f"{key}.stream: {given.stream!r} is not the name of a stream")
    if given.credentials and not _is_path(given.credentials):
        raise InvalidSpec(f"{key}.credentials: {given.credentials!r} is not the name of a file")
    for name, other in (("user_env", "password_env"), ("password_env", "user_env")):
        variable = getattr(given, name)
        if not variable:
            continue
        if not _VARIABLE.fullmatch(variable):
            # It may be the secret itself, so it is not shown.
            raise InvalidSpec(f"{key}.{name}: what it has is not the name of a variable")
        if not getattr(given, other):
            raise InvalidSpec(f"{key}.{other}: needed, as {name} is given")
        if given.credentials:
            raise InvalidSpec(f"{key}.{name}: credentials say who signs in; give one of them")


def _is_path(text: str) -> bool:
    return bool(text) and "\0" not in text and not text.endswith("/")


def _above(key: str, value: Any, most: int) -> None:
    if value is not None:
        if value <= 0:
            raise InvalidSpec(f"{key}: {value} is not above 0")
        _within(key, value, 1, most)


def _within(key: str, value: Any, least: int, most: int, *, of: str = "") -> None:
    if not least <= value <= most:
        told = f" {of}" if of else ""
        raise InvalidSpec(f"{key}: {value}{told} is not within {least} to {most}")
