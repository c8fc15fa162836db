"""Turns what was decided into what is written: entries, pinned blobs and rows, in one batch.

Everything here only adds to what is pending; the conductor commits it before it acts on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from runwright.kernel.canonical import digest, encode
from runwright.kernel.criteria import Verdict
from runwright.kernel.drive.execution import (
    MESSAGE_MAX,
    Pending,
    UnderWay,
    by_status,
    finished_body,
    printable,
)
from runwright.kernel.drive.outbox import paper_rows
from runwright.kernel.drive.recall import ROSTER, Recalled, policy_of
from runwright.kernel.drive.ticks import Conducted, Spec, TickState, conducted, request_row
from runwright.kernel.errors import Usage, require
from runwright.kernel.record.entries import (
    Actor,
    Draft,
    RoundJudged,
    RoundPlanned,
    TickRefused,
)
from runwright.kernel.run import (
    Blob,
    Content,
    Outcome,
    Requested,
    Round,
    RunPlan,
    Scheduled,
    Tick,
    round_id,
    run_id,
)
from runwright.kernel.workload import Paper

_SORTED: Final = msgspec.json.Encoder(order="sorted")


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """What a round came to."""

    outcomes: Sequence[Outcome]
    verdict: Verdict
    papers: Sequence[Paper]
    #: Why it ended early: "", "signal", "deadline", "verdict".
    stopped: str
    #: The plan has nothing more for this tick.
    is_last: bool
    at_ms: int


class Refusal(msgspec.Struct, frozen=True):
    """A tick that could not be planned, and why."""

    spec: Spec
    tick: Tick
    #: The id of the tick.
    id: str
    error: Usage


def add_planned(
    state: TickState,
    planned: Round,
    pending: Pending,
    *,
    next_seq: int,
    code: str,
    product: str,
) -> UnderWay:
    """Add round.planned, with its roster and what was seen; return the round as one under way."""
    spec, seen = state.spec, state.seen
    identity = round_id(tick=state.id, round_key=planned.key)
    require(identity not in state.rounds, f"round {planned.key} is planned twice in a tick")
    seq = next_seq + len(pending.drafts)
    kept = _seen_and_planned(state, planned)
    body = RoundPlanned(
        kind=spec.kind,
        name=spec.name,
        tick=state.id,
        occurrence=state.tick,
        at=seen.at,
        key=planned.key,
        index=len(state.rounds),
        runs=len(planned.runs),
        pure=planned.pure,
        place=planned.place,
        workers=planned.workers,
        spec=kept["spec"].digest,
        roster=kept["roster"].digest,
        seen=kept["seen"].digest,
        code=code,
        product=product,
        policy=policy_of(planned),
        label=planned.label,
    )
    blobs = tuple(blob_of(name, content) for name, content in kept.items())
    pending.add(
        [Draft(body=body, round=identity, actor=_actor(state.tick), blobs=blobs)],
        [
            *state.kept,
            *(kept[name] for name in kept if not (name == "spec" and state.spec.is_kept)),
        ],
    )
    state.kept = []
    state.rounds.append(identity)
    state.label = state.label or planned.label
    pending.say(
        "round.planned",
        kind=spec.kind,
        name=spec.name,
        label=planned.label,
        round=planned.key,
        runs=len(planned.runs),
        seq=seq,
    )
    runs = ROSTER.decode(kept["roster"].data)
    return UnderWay(
        kind=spec.kind,
        name=spec.name,
        tick=state.id,
        id=identity,
        seq=seq,
        planned_ms=state.tick.planned_ms,
        # As the record will give it back.
        round=msgspec.structs.replace(planned, runs=runs),
        outcomes={},
        counts={},
        memory=dict(seen.memory),
    )


def _seen_and_planned(state: TickState, planned: Round) -> dict[str, Content]:
    """Return what round.planned pins: the spec, the whole roster, and what was seen."""
    seen = state.seen
    facts = _pinned(state.facts or encode(dict(seen.facts)))
    rounds = {"done": list(state.rounds), "facts": facts.digest, "memory": dict(seen.memory)}
    return {
        "spec": _pinned(state.spec.body),
        "roster": _pinned(_SORTED.encode(planned.runs)),
        "facts": facts,
        "seen": _pinned(encode({"at": seen.at, **rounds})),
    }


def add_judged(
    state: TickState, under_way: UnderWay, judgement: Judgement, pending: Pending, *, next_seq: int
) -> None:
    """Add the verdict and the papers that it causes; with the last round the tick is closed."""
    seq = next_seq + len(pending.drafts)
    verdict, papers = judgement.verdict, judgement.papers
    counts = by_status(judgement.outcomes)
    for status, count in counts.items():
        state.outcomes[status] = state.outcomes.get(status, 0) + count
    body = RoundJudged(
        status=verdict.status,
        label=verdict.label,
        counts=verdict.counts,
        reasons=verdict.reasons,
        findings=verdict.findings,
        value=verdict.value,
        outcomes=counts,
        last=judgement.is_last,
        stopped=judgement.stopped,
        papers=len(papers),
    )
    kept = [_pinned(_paper_list(papers))] if papers else []
    pending.add(
        [
            Draft(
                body=body,
                round=under_way.id,
                n=1,
                blobs=tuple(blob_of("papers", content) for content in kept),
            )
        ],
        kept,
        paper_rows(papers, seq=seq, round_id=under_way.id),
    )
    if judgement.is_last and isinstance(state.tick, Requested):
        result = conducted(state, verdict, judgement.stopped)
        pending.add(rows=[request_row(state.tick.id, result)])
    pending.say(
        "round.judged",
        kind=state.spec.kind,
        name=state.spec.name,
        label=state.label,
        round=under_way.round.key,
        verdict=verdict.status,
        outcome=verdict.label,
        counts=dict(verdict.counts),
        seq=seq,
    )


def add_interrupted(
    under_way: UnderWay, found: Recalled, run: RunPlan, pending: Pending, *, at_ms: int
) -> None:
    """Add the end of an impure run that a dead conductor left open: it is not run again."""
    attempts = found.started.get(run.key, 0)
    outcome = Outcome(
        key=run.key,
        status="interrupted" if attempts else "skipped",
        reason="conductor-died",
        message="the conductor ended before the run did" if attempts else "",
        attempts=attempts,
        finished_ms=at_ms,
    )
    n = found.counts.get(run.key, 0)
    run_of = run_id(round=found.id, key=run.key)
    pending.add([Draft(body=finished_body(outcome), run=run_of, n=n)])
    under_way.outcomes[run.key] = outcome


def add_refused(refusal: Refusal, pending: Pending) -> Conducted:
    """Add a tick that could not be planned, and return what came of it."""
    spec, tick, identity, error = refusal.spec, refusal.tick, refusal.id, refusal.error
    message = printable(str(error), MESSAGE_MAX)
    kept = _pinned(spec.body)
    body = TickRefused(
        kind=spec.kind,
        name=spec.name,
        spec=kept.digest,
        occurrence=tick,
        code=error.code,
        message=message,
    )
    result = Conducted(tick=identity, error=error.code, message=message)
    rows = [request_row(tick.id, result)] if isinstance(tick, Requested) else []
    blobs = (blob_of("spec", kept),)
    pending.add([Draft(body=body, tick=identity, actor=_actor(tick), blobs=blobs)], [kept], rows)
    return result


def blob_of(name: str, content: Content) -> Blob:
    """Return the name under which an entry holds pinned JSON."""
    return Blob(name=name, digest=content.digest, size=len(content.data), media="application/json")


def _paper_list(papers: Sequence[Paper]) -> bytes:
    return encode(
        [
            {"sink": paper.sink, "name": paper.name, "digest": digest(paper.body.encode())}
            for paper in papers
        ]
    )


def _pinned(data: bytes) -> Content:
    return Content(digest=digest(data), data=data)


def _actor(tick: Tick) -> Actor:
    if isinstance(tick, Scheduled):
        return Actor(kind="schedule")
    return Actor(kind="person", id=tick.by if isinstance(tick, Requested) else "")
