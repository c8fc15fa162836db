"""Where the events of a stream come from and where its outputs go, as its spec says."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from runwright.bootstrap.project import clock
from runwright.kernel.errors import InternalError, Refused, Usage
from runwright.kernel.ports import EventSource, Messages, Sink
from runwright.kernel.run import ONCE
from runwright.streams import spec as specs
from runwright.streams.spec import Publish, Source, StreamSpec


def source_of(
    spec: StreamSpec, source: Source, position: Any, wake: Callable[[], None]
) -> EventSource:
    """Return a source of a spec, standing where it goes on. Raises: invalid-spec, refused."""
    # lazy: each kind of source brings its own
    name, now_ms = source.source_id, clock().now_ms
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


def _server_of(spec: StreamSpec, key: str, given: specs.NatsSource | Publish) -> Any:
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
