"""A throw-away gate: rungs of impure runs against something outside that counts them.

Every call leaves a line in a file that is not the ledger's, so a run that is repeated without a
record is seen.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from runwright.kernel.criteria import Verdict
from runwright.kernel.ports import World
from runwright.kernel.run import Call, Outcome, Rate, Requested, Round, RunPlan, Tick, tick_key
from runwright.kernel.workload import Paper, Seen, SpecBase, Workload, register_nothing

SMOKE = ("case-1", "case-2")
FULL = ("case-1", "case-2", "case-3", "case-4", "case-5", "case-6")
#: Fails in the full rung; with two failures nothing can make it GO any more.
BAD = ("case-2", "case-3")
FAILED_MAX = 1
RATE = Rate(starts=2, period_s=0.02)
RUNGS = ("smoke", "smoke-2", "full", "sign-off")
START_MS = 1_763_632_800_000


class GateSpec(SpecBase, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file of calls stands in the folder."""


def observe(spec: GateSpec, tick: Tick, world: World) -> Mapping[str, Any]:
    """Read who is to be asked."""
    return {"calls": str(Path(spec.folder) / "calls.jsonl")}


def plan(seen: Seen) -> Round | None:
    """The next rung, if the one before it held; the last is a judgement on the others."""
    keys = [done.round.key for done in seen.done]
    if keys and keys[-1] == "sign-off":
        return None
    held = all(done.verdict.status == "PASS" for done in seen.done)
    rung = RUNGS[len(keys)] if held else "sign-off"
    if rung == "sign-off":
        return Round(key=rung, pure=False)
    cases = FULL if rung == "full" else SMOKE
    return Round(
        key=rung,
        pure=False,
        rate=RATE if rung == "full" else None,
        judge_every=1 if rung == "full" else 0,
        runs=[
            RunPlan(
                key=case,
                work=Call(
                    name=f"{__name__}:ask",
                    args={
                        "tick": tick_key(seen.tick),
                        "rung": rung,
                        "calls": seen.facts["calls"],
                    },
                ),
            )
            for case in cases
        ],
    )


def ask(run: RunPlan, inputs: Sequence[bytes], memory: object) -> Outcome:
    """Leave a line outside, durably, then answer."""
    assert isinstance(run.work, Call)
    args = run.work.args
    line = {"tick": args["tick"], "rung": args["rung"], "case": run.key, "at_s": time.monotonic()}
    file = os.open(args["calls"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(file, msgspec.json.encode(line) + b"\n")
        os.fsync(file)
    finally:
        os.close(file)
    good = args["rung"] != "full" or run.key not in BAD
    return Outcome(
        key=run.key, status="done" if good else "failed", value={"case": run.key, "good": good}
    )


def judge(seen: Seen, this: Round, outcomes: Sequence[Outcome]) -> Verdict:
    """A rung holds when all of it was done; sign-off says what the rungs come to."""
    if this.key == "sign-off":
        worst = [done.verdict.status for done in seen.done]
        status = "FAIL" if "FAIL" in worst else "INCONCLUSIVE" if len(worst) < 3 else "PASS"
        return Verdict(status=status, label="GO" if status == "PASS" else "NO-GO")
    by = {
        status: sum(outcome.status == status for outcome in outcomes)
        for status in ("done", "failed", "interrupted", "skipped")
    }
    if by["failed"] > FAILED_MAX:
        return Verdict(status="FAIL", counts=by, stop=True)
    if by["interrupted"] or by["skipped"]:
        return Verdict(status="INCONCLUSIVE", counts=by)
    return Verdict(status="PASS", counts=by)


def report(
    seen: Seen, this: Round, outcomes: Sequence[Outcome], verdict: Verdict
) -> Sequence[Paper]:
    """The decision leaves once it is sealed."""
    if this.key != "sign-off":
        return []
    body = msgspec.json.encode(
        {"decision": verdict.label, "rungs": [done.verdict.status for done in seen.done]}
    )
    return [
        Paper(sink="events", name=tick_key(seen.tick), body=body.decode(), hold="sealed"),
    ]


WORKLOAD = Workload(
    kind="gate",
    Spec=GateSpec,
    register=register_nothing,
    observe=observe,
    plan=plan,
    judge=judge,
    report=report,
)


def ticks() -> list[Requested]:
    return [Requested(id="release-1", planned_ms=START_MS, by="ada")]
