"""Plans and judges recorded rounds again with the pure rooms of today, and says what differs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, cast

import msgspec

from runwright.kernel.drive.recall import Recalled, pinned, policy_of, recall, verdict_of
from runwright.kernel.drive.ticks import decode_spec
from runwright.kernel.errors import require
from runwright.kernel.ports import Store
from runwright.kernel.record.entries import RoundJudged
from runwright.kernel.run import RunPlan
from runwright.kernel.workload import Finished, Seen, Workload

_SORTED = msgspec.json.Encoder(order="sorted")


class Rejudged(msgspec.Struct, frozen=True, kw_only=True):
    """What came of planning and judging one round again."""

    round: str
    label: str
    seq: int
    #: same: by the same code; other-code: the same answer by other code; different.
    result: Literal["same", "other-code", "different"]
    detail: str = ""


def rejudge(
    store: Store, workloads: Mapping[str, Workload], codes: Mapping[str, str]
) -> list[Rejudged]:
    """Plan and judge every judged round again, from what the record says was seen.

    `codes` holds today's digest of each workload's code. Raises: store-corrupt.
    """
    found: list[Rejudged] = []
    ticks: dict[str, list[Recalled]] = {}
    for row in store.rows("round", order="seq"):
        recalled = recall(store, row["seq"])
        rounds = ticks.setdefault(row["tick"], [])
        if recalled.judged is not None:
            found.append(_again(store, workloads, codes, recalled, rounds))
        rounds.append(recalled)
    return found


def _again(
    store: Store,
    workloads: Mapping[str, Workload],
    codes: Mapping[str, str],
    it: Recalled,
    earlier: Sequence[Recalled],
) -> Rejudged:
    workload = workloads[it.planned.kind]
    body = pinned(store, it.planned.spec, it.seq)
    seen = Seen(
        spec=decode_spec(workload, body),
        tick=it.planned.occurrence,
        at=it.planned.at,
        facts=it.facts,
        memory=it.memory,
        done=[_finished(before) for before in earlier],
    )
    problems = []
    planned = workload.plan(seen)
    if planned is None or _plan_bytes(planned.runs) != _plan_bytes(it.round.runs):
        problems.append("the plan differs")
    elif policy_of(planned) != policy_of(it.round):
        problems.append("the policy of the round differs")
    this = _finished(it)
    verdict = workload.judge(seen, it.round, this.outcomes)
    if msgspec.structs.replace(verdict, stop=False) != this.verdict:
        problems.append(f"the verdict is {verdict.status} {verdict.label}".rstrip())
    same_code = codes.get(it.planned.kind) == it.planned.code
    return Rejudged(
        round=it.id,
        label=it.planned.label,
        seq=it.seq,
        result="different" if problems else ("same" if same_code else "other-code"),
        detail="; ".join(problems),
    )


def _finished(it: Recalled) -> Finished:
    outcomes = [it.outcomes[key] for key in sorted(it.outcomes)]
    require(it.judged is not None, f"round {it.id} has a verdict")
    judged = cast("RoundJudged", it.judged)
    return Finished(round=it.round, outcomes=outcomes, verdict=verdict_of(judged))


def _plan_bytes(runs: Sequence[RunPlan]) -> bytes:
    return _SORTED.encode(runs)
