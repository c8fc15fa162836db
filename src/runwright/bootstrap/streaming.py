"""Settings -> a stream that runs: its log, its sources, its sink and its loop."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Final

import msgspec

from runwright.adapters.files import write_whole
from runwright.bootstrap import bells
from runwright.bootstrap.conducting import conducting
from runwright.bootstrap.streams import KIND, look_beside, spec_of, state_path
from runwright.bootstrap.transports import sink_of, source_of
from runwright.config import Loaded
from runwright.kernel.drive.inflow import Inflow
from runwright.kernel.drive.lifecycle import Stop
from runwright.kernel.drive.log import Log, LogLimits
from runwright.kernel.drive.outbox import SinkLimits
from runwright.kernel.drive.service import Service
from runwright.kernel.drive.streaming import Stream, Streaming
from runwright.kernel.errors import InvalidSpec, Refused
from runwright.kernel.ports import Messages
from runwright.streams.flow import flow_of
from runwright.streams.soundness import warnings_of
from runwright.streams.spec import StreamSpec, determinism_of, retry_of, segment_records_of

#: Findings of the lint that an error names.
FINDINGS_MAX: Final = 10


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
    with ExitStack() as stack:
        made = conducting(
            loaded,
            messages=_quieter(messages),
            continuous=True,
            pulse=pulse,
            is_quiet=not is_verbose,
        )
        conductor, ports = stack.enter_context(made)
        spec = spec_of(ports.store, name)
        look_beside(spec)
        _check_engine(spec, messages)
        for text in warnings_of(spec):
            messages("spec.warning", text, level="warning", name=name)
        bell = bells.bell(bells.bell_path(loaded))
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


def _at(position: Any) -> Any:
    """Return where a source itself stands; what it had brought beyond is passed over."""
    return None if position is None else position["at"]


def _check_engine(spec: StreamSpec, messages: Messages) -> None:
    """Look at an engine before anything runs. Raises: invalid-spec, refused by the lint."""
    reference = spec.engine.ref
    if reference.startswith("cmd:"):
        return
    # lazy: an engine that is a program has no code to look at
    from runwright.streams.enginecode import defines, read  # lazy: as above
    from runwright.streams.lint import lint  # lazy: as above

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
