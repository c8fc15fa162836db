"""Plans a tick: one run for each symbol on its cut, planned before any of them starts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

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
    tick = _Tick.of(seen, grid_of(spec, 0).engine_timestamp_ms(planned_ms))
    return Round(
        key="tick",
        runs=[_run(seen, symbol, tick) for symbol in symbols_of(spec)],
        label=f"{spec.name}/{planned_ms}",
        place="process" if tick.is_apart else "inline",
        workers=spec.concurrency.max_symbols or seen.facts["processors"],
        retry=retry_of(spec.engine_retry),
    )


class _Tick(NamedTuple):
    """What is the same for every symbol of a tick."""

    at_ms: int
    end: int
    mode: str
    args: Mapping[str, Any]
    is_apart: bool
    canary_ppm: int

    @classmethod
    def of(cls, seen: Seen, at_ms: int) -> _Tick:
        """Look into the spec once for all symbols."""
        spec: StreamSpec = seen.spec
        args: dict[str, Any] = {
            "alignment_ms": spec.engine.alignment_ms,
            "cut_kind": spec.scheduler.mode,
            "engine": spec.engine.ref,
            "engine_mode": spec.engine.engine_mode,
            "engine_timestamp_ms": at_ms,
            "input": spec.engine.input,
        }
        if spec.engine.config:
            args["config"] = msgspec.json.encode(spec.engine.config, order="sorted").decode()
        return cls(
            at_ms=at_ms,
            end=seen.facts["log"]["end"],
            mode=spec.engine.engine_mode,
            args=args,
            is_apart=spec.engine.isolation == "process",
            canary_ppm=determinism_of(spec.engine).canary_ppm,
        )


def _run(seen: Seen, symbol: str, tick: _Tick) -> RunPlan:
    spec: StreamSpec = seen.spec
    before = seen.memory.get(symbol)
    identity = run_id(symbol, tick.at_ms, tick.end, tick.mode)
    args = {**tick.args, "run_id": identity}
    sampled = tick.canary_ppm > 0 and is_sampled(identity, tick.canary_ppm)
    if sampled:
        args["canary_ms"] = spec.engine.timeout_ms
    limit_ms = timeout_ms(spec.engine.timeout_ms, sampled=sampled) if tick.is_apart else 0
    return RunPlan(
        key=symbol,
        lane=symbol,
        work=Call(
            name=EXECUTE,
            args=args,
            timeout_ms=limit_ms,
            confined="wished" if tick.is_apart else "",
        ),
        cut=Cut(
            log=spec.name,
            key=symbol,
            first=cut_start(symbol, seen.memory, seen.facts["first"], tick.end),
            last=tick.end,
        ),
        leaves={
            "cut_end": tick.end,
            "engine_timestamp_ms": tick.at_ms,
            "publish_seq": (before["publish_seq"] if before else 0) + EVENTS_MIN,
        },
    )
