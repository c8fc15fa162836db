"""Wires what belongs to one stream: sources, log, sink and loop, and the views of it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from runwright import bootstrap
from runwright.config import Loaded
from runwright.kernel.errors import (
    InternalError,
    InvalidSpec,
    Refused,
    UnknownName,
    Usage,
    VerificationFailed,
)
from runwright.kernel.ports import EventSource, Messages, Sink, Store
from runwright.kernel.run import ONCE, instant_text
from runwright.streams.events import MEDIA
from runwright.streams.spec import NatsSource, Publish, Source, StreamSpec, retry_of

if TYPE_CHECKING:
    from runwright.bootstrap import ProjectStore
    from runwright.kernel.drive.lifecycle import Stop
    from runwright.kernel.drive.log import Log
    from runwright.kernel.drive.streaming import Streaming

KIND: Final = "streams"
#: Findings of the lint that an error names.
FINDINGS_MAX: Final = 10
#: Seconds between two looks for new events.
FOLLOW_S: Final = 0.2
#: Papers read from the store at once.
_PAGE: Final = 64
#: Ticks between two reports of progress.
PROGRESS_EVERY: Final = 50


def spec_of(store: Store, name: str) -> StreamSpec:
    """Return the spec of a stream that was applied. Raises: unknown-name."""
    rows = store.rows("spec", {"kind": KIND, "name": name})
    if not rows:
        known = ", ".join(row["name"] for row in store.rows("spec", {"kind": KIND})) or "none"
        message = f"no streams spec of the name {name!r} was applied; known: {known}"
        raise UnknownName(message, hint="runwright apply FILE")
    spec: StreamSpec = bootstrap.spec_of(bootstrap.workloads(), rows[0])
    return spec


def look_beside(spec: StreamSpec) -> None:
    """Let Python look for engines and sources beside the spec file, after everywhere else."""
    if spec.folder not in sys.path:
        sys.path.append(spec.folder)


def state_path(loaded: Loaded, name: str) -> Path:
    """Return the file in which a running stream keeps its state for others."""
    return loaded.folder / ".runwright" / "streams" / f"{name}.json"


@contextmanager
def streaming(
    loaded: Loaded,
    name: str,
    *,
    messages: Messages,
    stop: Stop,
    pulse: Callable[[], float | None] | None = None,
    is_verbose: bool = False,
) -> Iterator[Streaming]:
    """Hold the store's lease and make ready to run a stream.

    Raises: unknown-name, store-busy, and what a source or a sink that is not there raises.
    """
    # lazy: only a running stream needs these
    from runwright.adapters.files import write_whole  # lazy: as above
    from runwright.kernel.drive.inflow import Inflow  # lazy: as above
    from runwright.kernel.drive.log import Log, LogLimits  # lazy: as above
    from runwright.kernel.drive.outbox import SinkLimits  # lazy: as above
    from runwright.kernel.drive.service import Service  # lazy: as above
    from runwright.kernel.drive.streaming import Stream, Streaming  # lazy: as above
    from runwright.streams.flow import flow_of  # lazy: as above
    from runwright.streams.soundness import warnings_of  # lazy: as above
    from runwright.streams.spec import segment_records_of  # lazy: as above

    with ExitStack() as stack:
        quiet = _quieter(messages)
        made = bootstrap.conducting(loaded, messages=quiet, continuous=True, pulse=pulse)
        conductor, ports = stack.enter_context(made)
        spec = spec_of(ports.store, name)
        look_beside(spec)
        _check_engine(spec, messages)
        for text in warnings_of(spec):
            messages("spec.warning", text, level="warning", name=name)
        bell = bootstrap.bell(bootstrap.bell_path(loaded))
        stack.callback(bell.close)
        retention = spec.buffer_retention
        log = Log(
            ports.store,
            name,
            limits=LogLimits(
                max_records=retention.max_records,
                max_age_ms=retention.max_age_ms,
                segment_records=segment_records_of(spec),
            ),
            clock=ports.clock,
            commit=ports.writer.commit,
            config=ports.store.rows("spec", {"kind": KIND, "name": name})[0]["digest"],
        )
        conductor.logs[name] = log
        published = spec.output_publish
        if published.transport != "log":
            sink = sink_of(spec, messages)
            ports.sinks[f"stream:{name}"] = sink  # type: ignore[index]
            limits = SinkLimits(retry=retry_of(spec.publish_retry), most=published.max_pending)
            conductor.outbox.limits[f"stream:{name}"] = limits  # type: ignore[index]
        positions = {source.source_id: log.position(source.source_id) for source in spec.sources}
        sources = [
            source_of(spec, source, _at(positions[source.source_id]), bell.wake)
            for source in spec.sources
        ]
        by_name = {source.name: source for source in sources}
        flow = flow_of(spec, lambda name: getattr(by_name[name], "header", ""))
        state = state_path(loaded, name)
        state.parent.mkdir(parents=True, exist_ok=True)

        def tell(report: Mapping[str, Any]) -> None:
            kept = {"pid": os.getpid(), "at_ms": ports.clock.now_ms(), **report}
            write_whole(state, msgspec.json.encode(kept))

        conductor.recover()
        requests = Service(conductor, ports, bell, only=(KIND, name)).drain
        inflow = Inflow(sources, flow, ports.clock, positions)
        stream = Stream(KIND, name, flow, log, inflow, tell, requests, is_verbose)
        yield Streaming(conductor, bell, stream, stop)


def _check_engine(spec: StreamSpec, messages: Messages) -> None:
    """Look at an engine before anything runs. Raises: invalid-spec, refused by the lint."""
    # lazy: only a running stream needs these
    from runwright.streams.enginecode import defines, read  # lazy: as above
    from runwright.streams.lint import lint  # lazy: as above
    from runwright.streams.spec import determinism_of  # lazy: as above

    reference = spec.engine.ref
    if reference.startswith("cmd:"):
        return
    sources = read(reference)
    attribute = reference.partition(":")[2]
    if not defines(sources[0], attribute):
        message = f"engine.ref: {sources[0].path} has no {attribute!r}"
        raise InvalidSpec(message, hint="engine.ref is package.module:callable.")
    if not determinism_of(spec.engine).has_lint:
        return
    report = lint(sources)
    for waived in report.waived:
        messages("engine.waived", str(waived.finding), reason=waived.reason)
    if report.findings:
        shown = "\n".join(f"  {finding}" for finding in report.findings[:FINDINGS_MAX])
        message = f"engine {reference} may answer otherwise the next time:\n{shown}"
        hint = "Change it, or answer for a line with `# det-ok: reason` on it."
        raise Refused(message, hint=hint)


def _quieter(messages: Messages) -> Messages:
    """Return messages in which what every tick says is for who debugs."""

    def say(event: str, text: str = "", /, *, level: str = "info", **fields: Any) -> None:
        is_usual = event.startswith(("run.", "round.")) and level == "info"
        messages(event, text, level="debug" if is_usual else level, **fields)

    return say


def _at(position: Any) -> Any:
    """Return where a source itself stands; what it had brought beyond is passed over."""
    return None if position is None else position["at"]


def source_of(
    spec: StreamSpec, source: Source, position: Any, wake: Callable[[], None]
) -> EventSource:
    """Return a source of a spec, standing where it goes on. Raises: invalid-spec, refused."""
    # lazy: each kind of source brings its own
    name, now_ms = source.source_id, bootstrap.CLOCK.now_ms
    has_header = source.format == "csv" and not (source.mapping and source.mapping.header)
    if source.file is not None:
        path = Path(spec.folder) / source.file.path
        if source.file.format == "parquet":
            from runwright.adapters.parquet import ParquetSource  # lazy: as above

            return ParquetSource(name, path, now_ms=now_ms, position=position)
        from runwright.adapters.sources import FileSource  # lazy: as above

        given = source.file.follow
        follows = spec.scheduler.time == "clock" if given is None else given
        return FileSource(
            name,
            path,
            now_ms=now_ms,
            has_header=has_header,
            follow=follows,
            position=position,
        )
    if source.python is not None:
        from runwright.adapters.sources import IterableSource  # lazy: as above

        return IterableSource(name, source.python.ref, now_ms=now_ms, position=position)
    if source.stdin is not None:
        from runwright.adapters.standard import StdinSource  # lazy: as above

        return StdinSource(name, now_ms=now_ms, wake=wake, has_header=has_header)
    from runwright.adapters.subscription import NatsSource, Subscribed  # lazy: as above

    nats = source.nats
    if nats is None:
        raise InternalError("a source is a file, standard input, NATS or Python")
    subscribed = Subscribed(
        server=_server_of(spec, f"sources[{spec.sources.index(source)}].nats", nats),
        stream=nats.stream,
        subject=nats.subject,
        durable=nats.durable or f"{spec.name}-{name}",
        follow=nats.follow,
        # How long it is left alone after a failure is for whoever asks it.
        retry=ONCE,
    )
    return NatsSource(name, subscribed, now_ms=now_ms, wake=wake, position=position)


def sink_of(spec: StreamSpec, messages: Messages) -> Sink:
    """Return the transport of a spec. Raises: refused without its extra."""
    # lazy: each transport brings its own
    published = spec.output_publish
    if published.transport == "jsonl":
        from runwright.adapters.eventfile import JsonlSink  # lazy: as above

        return JsonlSink(Path(spec.folder) / published.path)
    if published.transport == "stdout":
        from runwright.adapters.standard import StdoutSink  # lazy: as above

        return StdoutSink()
    from runwright.adapters.publication import JetStreamSink, Published  # lazy: as above

    server, prefix = _server(spec)
    return JetStreamSink(Published(server=server, stream=published.stream, prefix=prefix), messages)


def _server(spec: StreamSpec) -> tuple[Any, str]:
    """Return the NATS server of a spec's outputs, and what their subjects begin with."""
    from runwright.adapters.jetstream import prefix_of  # lazy: only streams with NATS

    published = spec.output_publish
    server = _server_of(spec, "output_publish", published)
    return server, published.subject or prefix_of(spec.name)


def _server_of(spec: StreamSpec, key: str, given: NatsSource | Publish) -> Any:
    """Return the server that a key names, and who signs in there. Raises: refused, invalid-spec."""
    from runwright.adapters.jetstream import Server  # lazy: only streams with NATS

    credentials = str(Path(spec.folder) / given.credentials) if given.credentials else ""
    return Server(
        url=given.url,
        user=_granted(f"{key}.user_env", given.user_env),
        password=_granted(f"{key}.password_env", given.password_env),
        credentials=credentials,
        monitor=given.monitor if isinstance(given, Publish) else "",
        key=key,
    )


def _granted(key: str, variable: str) -> str:
    """Return what a variable holds that a key names. Raises: refused when it is not set."""
    value = os.environ.get(variable, "") if variable else ""
    if variable and not value:
        message = f"{key}: the variable {variable} is not set"
        raise Refused(message, hint="Set it where the stream is run; its value is never kept.")
    return value


def transported(spec: StreamSpec, *, after: int = 0, follow: bool = False) -> Iterator[bytes]:
    """Yield the events that the transport of a spec holds. Raises: usage where none can be read."""
    # lazy: each transport brings its own
    published = spec.output_publish
    if published.transport == "jsonl":
        from runwright.adapters.readback import read_jsonl  # lazy: as above

        path = Path(spec.folder) / published.path
        found = read_jsonl(path, after=after, follow=follow)
    elif published.transport == "nats":
        from runwright.adapters.readback import read_jetstream  # lazy: as above

        server, prefix = _server(spec)
        found = read_jetstream(
            server, published.stream, subject=f"{prefix}.>", after=after, follow=follow
        )
    else:
        message = f"the transport {published.transport!r} of {spec.name} cannot be read back"
        hint = "`runwright streams tail NAME` reads the store; jsonl and nats can be read back."
        raise Usage(message, hint=hint)
    for item in found:
        yield item.data


def published_again(spec: StreamSpec, lines: Iterator[bytes]) -> int:
    """Publish events again to the transport of a spec; return how many."""
    # lazy: only `streams audit --repair`
    published = spec.output_publish
    if published.transport == "jsonl":
        from runwright.adapters.readback import redrive_jsonl  # lazy: as above

        return redrive_jsonl(Path(spec.folder) / published.path, lines)
    from runwright.adapters.readback import redrive_jetstream  # lazy: as above

    server, prefix = _server(spec)
    return redrive_jetstream(server, published.stream, prefix, lines)


class Wanted(NamedTuple):
    """Which events of a stream somebody wants to see; what is empty narrows nothing."""

    symbol: str = ""
    types: Sequence[str] = ()


def tail(
    loaded: Loaded,
    name: str,
    wanted: Wanted,
    *,
    from_start: bool = False,
    follow: bool = True,
    transport: bool = False,
) -> Iterator[bytes]:
    """Yield the events of a stream that are wanted, each once, in order.

    All of them are looked at, so a gap is seen between those that are not wanted too.

    Raises: usage for a type that no stream publishes, unknown-name, verification-failed at a gap, a
    conflict or what is no event.
    """
    from runwright.streams.consumer import Consumer  # lazy: only who follows
    from runwright.streams.contracts import OUTPUT_TYPES  # lazy: as above

    for event_type in wanted.types:
        if event_type not in OUTPUT_TYPES:
            message = f"no stream publishes {event_type!r}; known: {', '.join(OUTPUT_TYPES)}"
            raise Usage(message)
    with looking(loaded) as store:
        spec = spec_of(store, name)
        if transport:
            found = transported(spec, follow=follow)
        else:
            found = _followed(store, name, from_start=from_start, follow=follow)
        consumer = Consumer(begins_anywhere=True)
        for line in found:
            taken = consumer.take(line)
            if taken.kind in ("gap", "conflict", "disorder", "invalid"):
                missing = f", missing {taken.missing}" if taken.missing else ""
                message = (
                    f"{name}: {taken.kind} at {taken.symbol} {taken.publish_seq}{missing} "
                    f"{taken.detail}".rstrip()
                )
                hint = f"`runwright streams audit {name}` says what the transport lost."
                raise VerificationFailed(message, hint=hint)
            is_wanted = wanted.symbol in ("", taken.symbol) and (
                not wanted.types or taken.event_type in wanted.types
            )
            if taken.kind in ("new", "late") and is_wanted:
                yield line


def _followed(store: ProjectStore, name: str, *, from_start: bool, follow: bool) -> Iterator[bytes]:
    """Yield the events that the store holds, and with `follow` those that come."""
    import time  # lazy: only who follows

    seq = -1
    if not from_start and follow:
        newest = store.rows("paper", {"media": MEDIA}, columns=("seq",), order="-seq", limit=1)
        seq = newest[0]["seq"] if newest else -1
    while True:
        for at, body in papers(store, name, seq):
            seq = at
            yield from body.splitlines()
        if not follow:
            return
        time.sleep(FOLLOW_S)


def freeze() -> Mapping[str, Any]:
    """Return the contract-freeze note, as text and as data, with whether its checks hold."""
    from runwright.streams.freeze import freeze_note, note_text  # lazy: only the note

    folder = Path(__file__).parent / KIND
    sources = {
        ".".join(["runwright", KIND, *file.relative_to(folder).with_suffix("").parts]): (
            file.read_text(encoding="utf-8")
        )
        for file in sorted(folder.rglob("*.py"))
    }
    shipped = {file.name: file.read_bytes() for file in (folder / "schemas").glob("*.json")}
    note = freeze_note(sources, shipped, _kept)
    return {**msgspec.to_builtins(note), "held": note.holds, "text": note_text(note)}


def _kept(items: Sequence[bytes], symbols: Sequence[str]) -> Iterator[bytes]:
    """Append to a log in memory, and yield what it holds then."""
    # lazy: only the note
    from runwright.adapters.memory import MemoryStore  # lazy: as above
    from runwright.kernel.drive.log import Log, LogLimits  # lazy: as above
    from runwright.kernel.ports import Batch  # lazy: as above

    store = MemoryStore()

    def commit(drafts: Any = (), *, blocks: Any = (), retired: Any = ()) -> int:  # noqa: ARG001
        store.commit(Batch(blocks=list(blocks)))
        return 0

    log = Log(store, "freeze", limits=LogLimits(), clock=bootstrap.CLOCK, commit=commit)
    log.append(items, symbols)
    yield from (record.data for record in log.records(1, log.last_seq))


def reading(store: ProjectStore, name: str) -> Log:
    """Return the log of a stream for reading."""
    from runwright.kernel.drive.log import Log, LogLimits  # lazy: only who looks at streams

    return Log(store, name, limits=LogLimits(), clock=bootstrap.CLOCK)


def paper_rows(store: ProjectStore, name: str, after: int = -1) -> Iterator[dict[str, Any]]:
    """Yield the outbox rows of a stream in order: seq of the verdict, body, state."""
    while True:
        rows = store.rows(
            "paper",
            {"media": MEDIA},
            after={"seq": after},
            columns=("seq", "name", "body", "state"),
            order="seq",
            limit=_PAGE,
        )
        for row in rows:
            if row["name"].rpartition("/")[0] == name:
                body = row["body"]
                # Whoever altered a row may have left text in it.
                yield row if isinstance(body, bytes) else {**row, "body": str(body).encode()}
        if len(rows) < _PAGE:
            return
        after = rows[-1]["seq"]


def papers(store: ProjectStore, name: str, after: int = -1) -> Iterator[tuple[int, bytes]]:
    """Yield the outputs of a stream, tick by tick: (seq of the verdict, JSON Lines)."""
    for row in paper_rows(store, name, after):
        yield row["seq"], row["body"]


def events(store: ProjectStore, name: str, after: int = -1) -> Iterator[bytes]:
    """Yield what a stream published, event by event, in order."""
    for _, body in papers(store, name, after):
        yield from body.splitlines()


# ------------------------------------------------------------------------------------- looking


@contextmanager
def looking(loaded: Loaded) -> Iterator[ProjectStore]:
    """Open the store for reading."""
    store = bootstrap.open_store(loaded, read_only=True)
    try:
        yield store
    finally:
        store.close()


def health(loaded: Loaded, store: ProjectStore, name: str) -> Mapping[str, Any]:
    """Return the state of a stream as its process keeps it; of one that is not alive, the last.

    Raises: unknown-name.
    """
    spec_of(store, name)
    file = state_path(loaded, name)
    found = msgspec.json.decode(file.read_bytes()) if file.exists() else dict(_NEVER)
    is_alive = found["pid"] > 0 and bool(store.holder()) and _lives(found["pid"])
    if not is_alive:
        found["ready"] = False
        # One that died without a word was running when it was heard of last.
        found["state"] = "stopped" if found["state"] in ("running", "drained") else found["state"]
    return {"stream": name, "alive": is_alive, **found}


_NEVER: Final[Mapping[str, Any]] = {
    "pid": 0,
    "at_ms": 0,
    "state": "init",
    "ready": False,
    "ingestion_paused": False,
    "scheduling_paused": False,
    "domains": {"ingest": "ok", "buffer": "ok", "engine": "ok", "publish": "ok"},
    "counters": [],
    "gauges": {},
    "quantiles": [],
}


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def metrics_text(loaded: Loaded, store: ProjectStore, name: str) -> str:
    """Return the metrics of a stream as Prometheus text. Raises: unknown-name."""
    from runwright.kernel.drive.health import Metrics  # lazy: only who scrapes

    found = health(loaded, store, name)
    gauges = {
        **found["gauges"],
        "ready": float(found["ready"]),
        "up": float(found["alive"]),
    }
    return Metrics().text({**found, "gauges": gauges}, name)


def listing(loaded: Loaded, store: ProjectStore) -> list[dict[str, Any]]:
    """Return the streams of a project, a row each."""
    rows = []
    for found in store.rows("spec", {"kind": KIND}, order="name"):
        name = found["name"]
        ticks = store.rows(
            "tick",
            {"kind": KIND, "name": name, "scheduled": 1},
            columns=("last_ms", "count"),
            order="-last_ms",
        )
        last = instant_text(ticks[0]["last_ms"]) if ticks else ""
        rows.append(
            {
                "name": name,
                "state": health(loaded, store, name)["state"],
                "records": reading(store, name).last_seq,
                "ticks": sum(row["count"] for row in ticks),
                "last": last,
                "published": sum(body.count(b"\n") for _, body in papers(store, name)),
            }
        )
    return rows


def overview(
    loaded: Loaded, store: ProjectStore, name: str, symbol: str, limit: int
) -> Mapping[str, Any]:
    """Return where a stream stands and its newest runs. Raises: unknown-name."""
    state, log = health(loaded, store, name), reading(store, name)
    return {
        "name": name,
        "health": state,
        "log": {
            "records": log.last_seq - log.retired_seq,
            "last_seq": log.last_seq,
            "retired_through": log.retired_seq,
            "unsealed": log.unsealed,
        },
        "runs": list(_newest_runs(store, name, symbol, limit)),
    }


def _newest_runs(
    store: ProjectStore, name: str, symbol: str, limit: int
) -> Iterator[dict[str, Any]]:
    for record in records(store, name, symbol, limit):
        first, last = record["cut_start_ingest_seq"], record["cut_end_ingest_seq"]
        yield {
            **record,
            "tick": instant_text(record["engine_timestamp_ms"]),
            "cut": f"{first}..{last}" if first <= last else "empty",
        }


def records(
    store: ProjectStore, name: str, symbol: str = "", limit: int = 0
) -> Iterator[dict[str, Any]]:
    """Yield EngineRunRecords v1, newest tick first, derived from the ledger."""
    from runwright.kernel.drive.recall import recall  # lazy: only who looks at runs
    from runwright.streams.records import run_records  # lazy: as above

    rows = store.rows(
        "round",
        {"kind": KIND, "name": name},
        columns=("seq", "judged_seq"),
        order="-seq",
        limit=limit,
    )
    count = 0
    for row in rows:
        stop = None if row["judged_seq"] is None else row["judged_seq"] + 1
        for record in run_records(recall(store, row["seq"], stop)):
            if symbol in ("", record["symbol"]):
                yield record
                count += 1
            if count == limit:
                return


def rows_of(
    store: ProjectStore, name: str, what: str, symbol: str, limit: int
) -> Iterator[Mapping[str, Any]]:
    """Yield rows of one of the frozen contracts. Raises: unknown-name."""
    spec_of(store, name)
    if what == "records":
        yield from records(store, name, symbol, limit)
    elif what == "inputs":
        yield from inputs(store, name, symbol, limit)
    else:
        for row in store.rows("lane", {"kind": KIND, "name": name}, order="lane"):
            memory = msgspec.json.decode(row["memory"])
            if symbol in ("", row["lane"]) and "state" in memory:
                yield {
                    "symbol": row["lane"],
                    "engine_timestamp_ms": memory["state_ms"],
                    "state": msgspec.Raw(memory["state"].encode()),
                }


def inputs(store: ProjectStore, name: str, symbol: str, limit: int) -> Iterator[Mapping[str, Any]]:
    """Yield the newest RawInputBufferRecords v1 in order, with the hashes that derive from blocks.

    Raises: unknown-name.
    """
    log = reading(store, name)
    if symbol:
        seqs = [record.seq for record in log.newest(symbol, limit)]
    else:
        seqs = list(range(max(log.retired_seq + 1, log.last_seq - limit + 1), log.last_seq + 1))
    wanted = set(seqs)
    for found in log.derived(seqs[0], seqs[-1]) if seqs else ():
        if found.ingest_seq in wanted:
            yield {
                "ingest_seq": found.ingest_seq,
                "ingest_ts_ms": found.ingest_ts_ms,
                "event": msgspec.Raw(found.data),
                "event_sha256": found.event_sha256,
                "prev_hash": found.prev_hash,
                "record_hash": found.record_hash,
            }


def next_ticks(store: ProjectStore, name: str, count: int) -> list[dict[str, Any]]:
    """Return the next planned ticks of a stream; none before the first event of history.

    Raises: unknown-name.
    """
    from runwright.streams.flow import flow_of  # lazy: only who looks ahead

    spec = spec_of(store, name)
    (row,) = store.rows("spec", {"kind": KIND, "name": name})
    last = store.rows(
        "tick", {"kind": KIND, "name": name, "scheduled": 1}, order="-last_ms", limit=1
    )
    flow, last_ms = flow_of(spec), last[0]["last_ms"] if last else None
    if spec.scheduler.time == "events" and not row["opened_ms"]:
        return []
    opened_ms = row["opened_ms"] or bootstrap.CLOCK.now_ms()
    found = []
    for _ in range(count):
        last_ms = flow.next_ms(last_ms, opened_ms)
        engine_ms = last_ms - spec.scheduler.boundary_delay_ms
        found.append(
            {
                "planned_ts_ms": last_ms,
                "engine_timestamp_ms": engine_ms,
                "planned": instant_text(last_ms),
                "engine": instant_text(engine_ms),
            }
        )
    return found
