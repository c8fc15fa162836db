"""The status of a cycle, from how its functions ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from runwright.kernel.criteria import Criterion, Reading, Verdict, conclude, find
from runwright.kernel.run import Outcome, Round
from runwright.kernel.workload import Seen

#: What a cycle is judged by: something ran, and nothing that ran failed.
CRITERIA: Final = (
    Criterion(signal="success_count", op=">=", threshold=1),
    Criterion(signal="failure_count", op="==", threshold=0),
)


def judge(seen: Seen, round: Round, outcomes: Sequence[Outcome]) -> Verdict:  # noqa: A002, ARG001
    """Return COMPLETED, COMPLETED_WITH_FAILURES, FAILED or INTERRUPTED, with the counts.

    A function that was skipped or interrupted is neither a success nor a failure; a cycle with one
    is INTERRUPTED, whatever the others did.
    """
    counts = {
        "tasks_executed": sum(outcome.attempts > 0 for outcome in outcomes),
        "success_count": sum(outcome.status == "done" for outcome in outcomes),
        "failure_count": sum(outcome.status == "failed" for outcome in outcomes),
        "interrupted_count": sum(
            outcome.status in ("interrupted", "skipped") for outcome in outcomes
        ),
    }
    readings = {
        name: Reading(signal=name, value=value, n=len(outcomes)) for name, value in counts.items()
    }
    findings = tuple(find(criterion, readings[criterion.signal]) for criterion in CRITERIA)
    if counts["interrupted_count"] or len(outcomes) < len(round.runs):
        status, label = "INCONCLUSIVE", "INTERRUPTED"
    else:
        status = conclude(findings)
        label = "COMPLETED"
        if status != "PASS":
            label = "COMPLETED_WITH_FAILURES" if counts["success_count"] else "FAILED"
    reasons = tuple(
        f"{outcome.key}: {outcome.reason or outcome.status}"
        for outcome in outcomes
        if outcome.status != "done"
    )
    return Verdict(
        status=status,  # type: ignore[arg-type]
        label=label,
        counts=counts,
        reasons=reasons[:20],
        findings=findings,
    )
