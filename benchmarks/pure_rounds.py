"""A workload that fills a ledger: one pure round of calls that answer at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from runwright.kernel.criteria import Verdict
from runwright.kernel.run import Call, Facts, Memory, Outcome, Requested, Round, RunPlan, Tick
from runwright.kernel.workload import Paper, Seen, SpecBase, Workload, register_nothing


class Spec(SpecBase, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Nothing but its name."""


def observe(spec: Spec, tick: Tick, world: Any) -> Facts:  # noqa: ARG001 - the protocol
    return {"runs": int(tick.args["runs"]) if isinstance(tick, Requested) else 1}


def plan(seen: Seen) -> Round | None:
    if seen.done:
        return None
    work = Call("pure_rounds:answer")
    return Round(
        key="all",
        runs=[RunPlan(key=f"run-{number:06}", work=work) for number in range(seen.facts["runs"])],
        place="inline",
    )


def answer(run: RunPlan, inputs: Sequence[bytes], memory: Memory | None) -> Outcome:  # noqa: ARG001
    return Outcome(key=run.key, status="done", value={"answer": run.key, "share": "0.25"})


def judge(seen: Seen, round: Round, outcomes: Sequence[Outcome]) -> Verdict:  # noqa: A002, ARG001
    return Verdict(status="PASS", label="DONE", counts={"runs": len(outcomes)})


def report(
    seen: Seen,  # noqa: ARG001
    round: Round,  # noqa: A002, ARG001
    outcomes: Sequence[Outcome],  # noqa: ARG001
    verdict: Verdict,  # noqa: ARG001
) -> Sequence[Paper]:
    return ()


WORKLOAD: Final = Workload(
    kind="pure",
    Spec=Spec,
    register=register_nothing,
    observe=observe,
    plan=plan,
    judge=judge,
    report=report,
)
