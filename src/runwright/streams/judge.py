"""Counts what came of a tick; the engine owns the meaning."""

from __future__ import annotations

from collections.abc import Sequence

from runwright.kernel.criteria import Verdict
from runwright.kernel.run import Outcome, Round
from runwright.kernel.workload import Seen


def judge(seen: Seen, this: Round, outcomes: Sequence[Outcome]) -> Verdict:  # noqa: ARG001
    """Return PASS when every run completed, FAIL otherwise, with the counts."""
    completed = sum(outcome.status == "done" for outcome in outcomes)
    counts = {"completed": completed, "failed": len(outcomes) - completed}
    if completed == len(this.runs):
        return Verdict(status="PASS", label="COMPLETED", counts=counts)
    label = "COMPLETED_WITH_FAILURES" if completed else "FAILED"
    return Verdict(status="FAIL", label=label, counts=counts)
