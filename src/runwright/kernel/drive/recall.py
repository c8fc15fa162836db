"""Reads a recorded round back into values: its plan, its outcomes, its verdict."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, Protocol

import msgspec

from runwright.kernel.canonical import digest, encode_again, exact
from runwright.kernel.criteria import Verdict
from runwright.kernel.errors import StoreCorrupt
from runwright.kernel.ports import Reader
from runwright.kernel.record.entries import (
    TYPES,
    Entry,
    RoundJudged,
    RoundPlanned,
    RunFinished,
    RunStarted,
    StateReconciled,
    decode,
    decoder_of,
    tail_for,
    tail_of,
)
from runwright.kernel.run import Content, Outcome, Round, RunPlan, run_ids

#: Reads the pinned runs of a round.
ROSTER: Final = msgspec.json.Decoder(list[RunPlan])
#: The fields of a round that stand in `policy` of round.planned.
POLICY: Final = ("rate", "retry", "deadline_s", "judge_every")


class Blobs(Protocol):
    """Where kept bytes are."""

    def blob(self, wanted: str, /) -> Content | None:
        """Return kept bytes by digest."""


class Recalled(msgspec.Struct, kw_only=True):
    """A round as it stands in the record."""

    id: str
    #: The seq of round.planned.
    seq: int
    planned: RoundPlanned
    round: Round
    #: What was seen when it was planned: {"facts": …, "memory": …}.
    facts: Mapping[str, Any]
    memory: Mapping[str, Any]
    #: Key -> outcome, of the runs that have one.
    outcomes: dict[str, Outcome]
    #: Key -> how many entries the run has.
    counts: dict[str, int]
    #: Key -> attempts of the runs that started.
    started: dict[str, int]
    #: Every entry of the round and its runs, by seq.
    entries: list[Entry]
    judged: RoundJudged | None = None


def prepare() -> None:
    """Make ahead what the first round that is recalled would have to wait for."""
    for body in (RoundPlanned, RunStarted, RunFinished, RoundJudged):
        decoder_of(TYPES[body])
    # What a type says of itself is looked up once, by whoever decodes it first.
    msgspec.json.Decoder(list[RunPlan])
    msgspec.json.Decoder(Round)


def reconciled(raw: bytes) -> str:
    """Return the round that a reconciliation is about; "" for any other entry.

    Raises: store-corrupt when the bytes are no entry.
    """
    if tail_of(raw) != tail_for(TYPES[StateReconciled]):
        return ""
    try:
        return msgspec.json.decode(raw, type=_Reconciled).body.round
    except msgspec.MsgspecError as error:
        message = f"the store holds bytes that are no entry: {error}"
        raise StoreCorrupt(message) from error


class _About(msgspec.Struct, frozen=True):
    """What a reconciliation is about; its whole body takes 1 ms to get ready to read."""

    round: str


class _Reconciled(msgspec.Struct, frozen=True):
    """The part of its entry that says so."""

    body: _About


def policy_of(round: Round) -> Mapping[str, Any]:  # noqa: A002 - the word
    """Return what a round says beside its runs, as a canonical value."""
    # As MessagePack, which tells 1 from 1.0 and knows infinities.
    return _policy(msgspec.msgpack.encode([getattr(round, name) for name in POLICY]))


@lru_cache(maxsize=16)
def _policy(values: bytes) -> Mapping[str, Any]:
    plain = zip(POLICY, msgspec.msgpack.decode(values), strict=True)
    policy: Mapping[str, Any] = exact(dict(plain))
    return policy


def recall(store: Reader, seq: int, stop: int | None = None) -> Recalled:
    """Return the round whose round.planned stands at `seq`; `stop` bounds the entries read.

    Raises: store-corrupt when the record or a pinned blob is missing or not what was pinned.
    """
    entries = store.entries(seq, stop)
    first = read(next(entries).raw)
    planned = first.body
    if not isinstance(planned, RoundPlanned):
        message = f"seq {seq} is {first.type}, not round.planned"
        raise StoreCorrupt(message)
    runs = ROSTER.decode(pinned(store, planned.roster, seq))
    plain = {
        **planned.policy,
        "key": planned.key,
        "label": planned.label,
        "pure": planned.pure,
        "place": planned.place,
        "workers": planned.workers,
    }
    policy = msgspec.convert(plain, Round, strict=False)
    seen = msgspec.json.decode(pinned(store, planned.seen, seq))
    found = Recalled(
        id=first.round,
        seq=seq,
        planned=planned,
        round=msgspec.structs.replace(policy, runs=runs),
        facts=msgspec.json.decode(pinned(store, seen["facts"], seq)),
        memory=seen["memory"],
        outcomes={},
        counts={},
        started={},
        entries=[first],
    )
    ids = run_ids(round=first.round, keys=[run.key for run in runs])
    keys = {identity: key for key, identity in ids.items()}
    for stored in entries:
        entry = read(stored.raw)
        key = keys.get(entry.run)
        if key is not None:
            found.entries.append(entry)
            found.counts[key] = found.counts.get(key, 0) + 1
            if isinstance(entry.body, RunFinished):
                found.outcomes[key] = outcome_of(entry)
            elif entry.type == "run.started":
                found.started[key] = entry.body.attempt
        elif entry.round == first.round and isinstance(entry.body, RoundJudged):
            found.entries.append(entry)
            found.judged = entry.body
            break
    return found


def read(raw: bytes) -> Entry:
    """Return a stored entry. Raises: store-corrupt when the bytes are none."""
    try:
        return decode(raw)
    except msgspec.MsgspecError as error:
        message = f"the store holds bytes that are no entry: {error}"
        raise StoreCorrupt(message) from error


def pinned(store: Blobs, wanted: str, seq: int) -> bytes:
    """Return pinned bytes, checked against their digest. Raises: store-corrupt."""
    kept = store.blob(wanted)
    if kept is None or digest(kept.data) != wanted:
        message = f"seq {seq}: the blob {wanted} is {'missing' if kept is None else 'altered'}"
        raise StoreCorrupt(message)
    return kept.data


def left_by(store: Blobs, entry: Entry) -> bytes:
    """Return what a run left for its lane, as JSON, by its run.finished; empty: nothing.

    Raises: store-corrupt.
    """
    body: RunFinished = entry.body
    if body.left is not None:
        return encode_again(body.left)
    return pinned(store, body.memory, entry.seq) if body.memory else b""


def outcome_of(entry: Entry) -> Outcome:
    """Return the outcome that a run.finished entry records."""
    body: RunFinished = entry.body
    return Outcome(
        key=body.key,
        status=body.status,
        reason=body.reason,
        message=body.message,
        value=body.value,
        attempts=body.attempts,
        started_ms=body.started_ms,
        finished_ms=body.finished_ms,
        used=body.used,
        level=body.level,
        warmth=body.warmth,
        blobs=entry.blobs,
        reused=body.reused,
    )


def verdict_of(body: RoundJudged) -> Verdict:
    """Return the verdict that a round.judged entry records."""
    return Verdict(
        status=body.status,
        label=body.label,
        counts=body.counts,
        reasons=body.reasons,
        findings=body.findings,
        value=body.value,
    )
