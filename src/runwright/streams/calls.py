"""What a run of a stream executes: the engine on its cut, with the state of its lane."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, cast

from runwright.kernel.errors import require
from runwright.kernel.run import Call, Memory, Outcome, RunPlan
from runwright.streams.canary import MILLION
from runwright.streams.engine import PROGRAM, EngineRequest, Result
from runwright.streams.engine import execute as execute_engine
from runwright.streams.enginecode import digest_of_program, digest_of_sources, read

#: Failures that another attempt may mend; the kernel repeats them under the spec's engine_retry.
REPEATED = frozenset({"engine_failure"})


def execute(run: RunPlan, inputs: Sequence[bytes], memory: Memory | None) -> Outcome:
    """Execute an engine once on the records of a cut. Raises: deferred when the engine does."""
    request, args = request_of(run, inputs, memory), args_of(run)
    if "canary_ms" not in args:
        return outcome_of(run, execute_engine(request), memory)
    from runwright.streams.twin import execute_checked  # lazy: few runs are executed twice

    limit_s = args["canary_ms"] / 1000
    result = execute_checked(request, run_id=args["run_id"], canary_ppm=MILLION, limit_s=limit_s)
    return outcome_of(run, result, memory)


def request_of(run: RunPlan, inputs: Sequence[bytes], memory: Memory | None) -> EngineRequest:
    """Return what the engine is asked, by the plan of the run and nothing else."""
    args = args_of(run)
    state = memory.get("state", "") if memory else ""
    return EngineRequest(
        engine=args["engine"],
        mode=args["engine_mode"],
        symbol=run.key,
        engine_timestamp_ms=args["engine_timestamp_ms"],
        events=inputs,
        alignment_ms=args["alignment_ms"],
        snapshot="required" if args["input"] == "snapshot" else "optional",
        config=args.get("config", "{}"),
        state=state,
        state_timestamp_ms=memory["state_ms"] if memory and state else None,
    )


def outcome_of(run: RunPlan, result: Result, memory: Memory | None) -> Outcome:
    """Return the outcome that the record keeps, with what the next run of the lane will know."""
    if result.is_failed:
        value: dict[str, Any] = {"error_kind": result.error_kind}
        if result.error_detail:
            value["error_detail"] = result.error_detail
        reason = "raised" if result.error_kind in REPEATED else result.error_kind
        return Outcome(key=run.key, status="failed", reason=reason, value=value)
    value = {"output": result.output}
    if result.snapshot_sha256:
        value["snapshot_sha256"] = result.snapshot_sha256
    left = {**(memory or {}), **(run.leaves or {})}
    if result.decision:
        value["decision"] = result.decision
        left["publish_seq"] += 1
        left["state"] = result.state
        left["state_ms"] = left["engine_timestamp_ms"]
    return Outcome(key=run.key, status="done", value=value, memory=left)


def args_of(run: RunPlan) -> Mapping[str, Any]:
    """Return the arguments of the call that a run of a stream is."""
    require(isinstance(run.work, Call), "a run of a stream calls its engine")
    return cast("Call", run.work).args


@lru_cache(maxsize=32)
def engine_digest(reference: str) -> str:
    """Return the digest of an engine's sources: its module, and what that imports of its own.

    Of a program it is that of its words and of the files that they name.

    They are read once in a process, as the code is: what runs is what was there at the start.
    Raises: invalid-spec when there is no such module, or its source cannot be read.
    """
    if reference.startswith(PROGRAM):
        return digest_of_program(reference.removeprefix(PROGRAM))
    return digest_of_sources(read(reference))
