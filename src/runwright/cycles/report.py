"""The evidence bundle of a cycle, under the seed's keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from runwright.cycles.spec import CycleSpec
from runwright.kernel.criteria import Verdict
from runwright.kernel.run import Outcome, Round, instant_text
from runwright.kernel.workload import Insert, Paper, Seen


def report(
    seen: Seen,
    round: Round,  # noqa: A002 - the word
    outcomes: Sequence[Outcome],
    verdict: Verdict,
) -> Sequence[Paper]:
    """Return the evidence file, held until the verdict is sealed.

    What a function printed is put in when the file is delivered, as far as it was not erased.
    """
    spec: CycleSpec = seen.spec
    by_key = {outcome.key: outcome for outcome in outcomes}
    ordered = [(run, by_key[run.key]) for run in round.runs if run.key in by_key]
    inserts = [
        Insert(path=("results", index, blob.name), digest=blob.digest)
        for index, (_, outcome) in enumerate(ordered)
        for blob in outcome.blobs
        if blob.name in ("stdout", "stderr")
    ]
    found = bundle(
        spec,
        round.label,
        at_ms=max([seen.at, *(outcome.finished_ms for outcome in outcomes)]),
        counts=verdict.counts,
        status=verdict.label,
        results=[(run.agent, outcome) for run, outcome in ordered],
    )
    return [
        Paper(
            sink="files",
            name=f"evidence/{round.label}.json",
            body=msgspec.json.encode(found).decode(),
            hold="sealed",
            inserts=tuple(inserts),
        )
    ]


def bundle(
    spec: CycleSpec,
    cycle_id: str,
    *,
    at_ms: int,
    counts: Mapping[str, int],
    status: str,
    results: Sequence[tuple[str, Any]],
) -> dict[str, Any]:
    """Return the evidence of a cycle under the seed's keys.

    `results`: the agent of each function, and its Outcome or the body that records it.
    """
    return {
        "cycle_id": cycle_id,
        "orchestrator": spec.orchestrator,
        "orchestrator_version": spec.orchestrator_version,
        "hash_chain_id": hash_chain_id(spec, cycle_id),
        "execution_timestamp": instant_text(at_ms),
        "tasks_executed": counts["tasks_executed"],
        "success_count": counts["success_count"],
        "failure_count": counts["failure_count"],
        "cycle_status": status,
        "results": [_result(agent, ended) for agent, ended in results],
    }


def hash_chain_id(spec: CycleSpec, cycle_id: str) -> str:
    """Return the seed's label for a cycle; it is a label, the chain itself is the ledger."""
    return f"HC-{spec.agent}-ORCHESTRATOR-{cycle_id}"


def _result(agent: str, outcome: Any) -> dict[str, Any]:
    used = outcome.used
    result = {
        "task_name": outcome.key,
        "agent_id": agent,
        "success": outcome.status == "done",
        "status": outcome.status,
        "exit_code": used.exit,
        "execution_time_seconds": used.duration_ms / 1000,
        "cpu_seconds": used.cpu_ms / 1000,
        "peak_memory_kib": used.peak_kib,
        "attempts": outcome.attempts,
        "stdout": "",
        "stderr": "",
    }
    if outcome.status != "done":
        result["error"] = outcome.message or outcome.reason
    if "result" in outcome.value:
        result["result"] = outcome.value["result"]
    return result
