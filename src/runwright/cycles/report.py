"""The evidence bundle of a cycle, under the seed's keys."""

from __future__ import annotations

from collections.abc import Sequence
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
    ended_ms = max([seen.at, *(outcome.finished_ms for outcome in outcomes)])
    bundle = {
        "cycle_id": round.label,
        "orchestrator": spec.orchestrator,
        "orchestrator_version": spec.orchestrator_version,
        "hash_chain_id": hash_chain_id(spec, round.label),
        "execution_timestamp": instant_text(ended_ms),
        "tasks_executed": verdict.counts["tasks_executed"],
        "success_count": verdict.counts["success_count"],
        "failure_count": verdict.counts["failure_count"],
        "cycle_status": verdict.label,
        "results": [_result(run.agent, outcome) for run, outcome in ordered],
    }
    return [
        Paper(
            sink="files",
            name=f"evidence/{round.label}.json",
            body=msgspec.json.encode(bundle).decode(),
            hold="sealed",
            inserts=tuple(inserts),
        )
    ]


def hash_chain_id(spec: CycleSpec, cycle_id: str) -> str:
    """Return the seed's label for a cycle; it is a label, the chain itself is the ledger."""
    return f"HC-{spec.agent}-ORCHESTRATOR-{cycle_id}"


def _result(agent: str, outcome: Outcome) -> dict[str, Any]:
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
