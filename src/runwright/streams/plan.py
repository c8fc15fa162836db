"""Plans a tick: one run for each symbol on its cut, planned before any of them starts."""

from __future__ import annotations

from typing import Any

import msgspec

from runwright.kernel.run import Call, Cut, Round, RunPlan
from runwright.kernel.workload import Seen
from runwright.streams.canary import is_sampled, timeout_ms
from runwright.streams.contracts import run_id
from runwright.streams.cuts import cut_start, grid_of
from runwright.streams.events import EVENTS_MIN
from runwright.streams.spec import StreamSpec, determinism_of, retry_of, symbols_of

#: The call that executes an engine on its cut.
EXECUTE = "runwright.streams.calls:execute"


def plan(seen: Seen) -> Round | None:
    """Answer with one pure round: every symbol of the spec, in the order of their code points."""
    if seen.done:
        return None
    spec: StreamSpec = seen.spec
    planned_ms = seen.tick.planned_ms
    at_ms = grid_of(spec, 0).engine_timestamp_ms(planned_ms)
    return Round(
        key="tick",
        runs=[_run(seen, symbol, at_ms) for symbol in symbols_of(spec)],
        label=f"{spec.name}/{planned_ms}",
        place="process" if spec.engine.isolation == "process" else "inline",
        workers=spec.concurrency.max_symbols or seen.facts["processors"],
        retry=retry_of(spec.engine_retry),
    )


def _run(seen: Seen, symbol: str, at_ms: int) -> RunPlan:
    spec: StreamSpec = seen.spec
    end = seen.facts["log"]["end"]
    before = seen.memory.get(symbol)
    mode = spec.engine.engine_mode
    args: dict[str, Any] = {
        "alignment_ms": spec.engine.alignment_ms,
        "cut_kind": spec.scheduler.mode,
        "engine": spec.engine.ref,
        "engine_mode": mode,
        "engine_timestamp_ms": at_ms,
        "input": spec.engine.input,
        "run_id": run_id(symbol, at_ms, end, mode),
    }
    if spec.engine.config:
        args["config"] = msgspec.json.encode(spec.engine.config, order="sorted").decode()
    sampled = is_sampled(args["run_id"], determinism_of(spec.engine).canary_ppm)
    if sampled:
        args["canary_ms"] = spec.engine.timeout_ms
    is_apart = spec.engine.isolation == "process"
    return RunPlan(
        key=symbol,
        lane=symbol,
        work=Call(
            name=EXECUTE,
            args=args,
            timeout_ms=timeout_ms(spec.engine.timeout_ms, sampled=sampled) if is_apart else 0,
            confined="wished" if is_apart else "",
        ),
        cut=Cut(
            log=spec.name,
            key=symbol,
            first=cut_start(symbol, seen.memory, seen.facts["first"], end),
            last=end,
        ),
        leaves={
            "cut_end": end,
            "engine_timestamp_ms": at_ms,
            "publish_seq": (before["publish_seq"] if before else 0) + EVENTS_MIN,
        },
    )
