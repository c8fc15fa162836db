"""What entries make of the tables of reconciliation: snapshots, their evidence, suspensions.

A request is PENDING until a person approves it (the agent is suspended), rejects it (an override,
with the reason) or closes it; a decision about the agent itself ends its suspension too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from runwright.cycles.discrepancy import CATASTROPHIC_ABOVE
from runwright.kernel.canonical import digest_of
from runwright.kernel.ports import Row
from runwright.kernel.run import instant_text
from runwright.kernel.workload import Recorded, Tables

#: What was found -> the status of the snapshot, and what follows from it.
_STATUS: Final = {
    "NORMAL": ("RECONCILED", "CERTIFIED"),
    "WARNING": ("DIVERGENT", "MONITORED"),
    "CATASTROPHIC": ("DIVERGENT", "SUSPENSION_PENDING"),
    "": ("PENDING", ""),
}
#: What a person decides about a request -> its state, and status and action of its snapshot.
_DECIDED: Final = {
    "approve": ("APPROVED", "SUSPENDED", "AGENT_SUSPENDED"),
    "reject": ("REJECTED", "DIVERGENT", "OVERRIDDEN"),
    "override": ("REJECTED", "DIVERGENT", "OVERRIDDEN"),
    "close": ("CLOSED", "DIVERGENT", "CLOSED"),
    "continue": ("CLOSED", "DIVERGENT", "CLOSED"),
}
#: Who vouches for what needs no person: the arithmetic of the record.
CHECKER: Final = "runwright"
#: What ends the suspension of an agent when it is said of the agent itself.
_LIFTING: Final = ("continue", "close")
#: Evidence of one entry is numbered from its seq times this.
_EVIDENCE_MAX: Final = 10_000
_JSON: Final = msgspec.json.Encoder(order="sorted")


def fold(recorded: Recorded, tables: Tables) -> Sequence[Row]:
    """Return the rows of a reconciliation, of a request, or of a decision about one."""
    answer = _FOLDS.get(recorded.entry.type)
    return list(answer(recorded, tables)) if answer else ()


def _reconciled(recorded: Recorded, _tables: Tables) -> Iterator[Row]:
    entry, body = recorded.entry, recorded.entry.body
    apart = [msgspec.to_builtins(item) for item in body.fields if not item.matches]
    status, action = _STATUS[body.classification]
    states = {
        side: {item.field: getattr(item, side) for item in body.fields if getattr(item, side)}
        for side in ("reported", "recorded")
    }
    at = _instant(entry.ts)
    yield Row(
        "reconciliation_snapshots",
        {
            "snapshot_id": entry.seq,
            "component_name": body.component,
            "snapshot_type": "SCHEDULED",
            "agent_state": _json(states["reported"]),
            "canonical_state": _json(states["recorded"]),
            "discrepancy_score": body.score or None,
            "discrepancy_threshold": CATASTROPHIC_ABOVE,
            "threshold_exceeded": int(body.classification == "CATASTROPHIC"),
            "field_discrepancies": _json(apart),
            "discrepancy_count": len(apart),
            "reconciliation_status": status,
            "reconciliation_action": body.problem or action,
            "vega_suspension_requested": 0,
            "vega_suspension_request_id": None,
            "created_by": body.agent,
            "created_at": at,
            "classification": body.classification,
            "agent_id": body.agent,
            "cycle_id": body.label,
            "round_id": body.round,
        },
    )
    state = {"fields": msgspec.to_builtins(body.fields), "score": body.score}
    chain = {"seq": entry.seq, "leaf": recorded.leaf, "prev": entry.prev}
    by = CHECKER if body.classification == "NORMAL" else ""
    yield _evidence(entry, 0, entry.seq, _Found("STATE", state, by))
    yield _evidence(entry, 1, entry.seq, _Found("HASH_CHAIN", chain, CHECKER))


def _requested(recorded: Recorded, _tables: Tables) -> Iterator[Row]:
    entry, body = recorded.entry, recorded.entry.body
    yield Row(
        "suspension_request",
        {
            "request_id": entry.seq,
            "agent_id": body.agent,
            "component_name": body.component,
            "snapshot_id": body.snapshot,
            "cycle_id": body.label,
            "discrepancy_score": body.score,
            "state": "PENDING",
            "requested_at": _instant(entry.ts),
            "decision_id": None,
            "decided_by": "",
            "decision_reason": "",
            "decided_at": None,
            "expires_ms": 0,
        },
    )
    asked = {"vega_suspension_requested": 1, "vega_suspension_request_id": entry.seq}
    action = {"reconciliation_action": "SUSPENSION_REQUESTED"}
    yield Row(
        "reconciliation_snapshots", {"snapshot_id": body.snapshot, **asked, **action}, update=True
    )


def _decided(recorded: Recorded, tables: Tables) -> Iterator[Row]:
    document = recorded.entry.body.document
    kind, _, name = document.subject.partition("/")
    if kind == "suspension" and name.isdigit() and document.action in _DECIDED:
        for row in tables.rows("suspension_request", {"request_id": int(name)}):
            yield from _answered(recorded, row, document.action)
    elif kind == "agent" and document.action in _LIFTING:
        standing = {"agent_id": name, "state": "APPROVED"}
        for row in tables.rows("suspension_request", standing):
            yield from _answered(recorded, row, document.action)
    elif kind in ("round", "tick") and document.action == "attest":
        yield from _attested(recorded, tables, kind, name)


def _answered(recorded: Recorded, row: Mapping[str, Any], action: str) -> Iterator[Row]:
    entry, document = recorded.entry, recorded.entry.body.document
    state, status, follows = _DECIDED[action]
    yield Row(
        "suspension_request",
        {
            "request_id": row["request_id"],
            "state": state,
            "decision_id": entry.seq,
            "decided_by": document.person,
            "decision_reason": document.reason,
            "decided_at": _instant(entry.ts),
            "expires_ms": document.expires_ms,
        },
        update=True,
    )
    yield Row(
        "reconciliation_snapshots",
        {
            "snapshot_id": row["snapshot_id"],
            "reconciliation_status": status,
            "reconciliation_action": follows,
        },
        update=True,
    )


def _attested(recorded: Recorded, tables: Tables, kind: str, name: str) -> Iterator[Row]:
    """Yield the attestation of a cycle as evidence of each of its snapshots."""
    entry, document = recorded.entry, recorded.entry.body.document
    rounds = (
        [name] if kind == "round" else [it["id"] for it in tables.rows("round", {"tick": name})]
    )
    found = [
        row
        for round_id in rounds
        for row in tables.rows("reconciliation_snapshots", {"round_id": round_id})
    ]
    told = {
        "decision": entry.seq,
        "person": document.person,
        "reason": document.reason,
        "seen": document.seen,
        "evidence": list(document.evidence),
    }
    for index, row in enumerate(found):
        attested = _Found("VEGA_ATTESTATION", told, document.person)
        yield _evidence(entry, index, row["snapshot_id"], attested)


_FOLDS: Final = {
    "state.reconciled": _reconciled,
    "suspension.requested": _requested,
    "decision.made": _decided,
}


class _Found(NamedTuple):
    """A piece of evidence, and who vouches for it; "": nobody does."""

    kind: str
    data: Mapping[str, Any]
    by: str


def _evidence(entry: Any, index: int, snapshot: int, found: _Found) -> Row:
    at = _instant(entry.ts)
    return Row(
        "reconciliation_evidence",
        {
            "evidence_id": entry.seq * _EVIDENCE_MAX + index,
            "snapshot_id": snapshot,
            "evidence_type": found.kind,
            "evidence_data": _json(found.data),
            "evidence_hash": digest_of(found.data),
            "verified": int(bool(found.by)),
            "verified_by": found.by,
            "verified_at": at if found.by else None,
            "created_at": at,
        },
    )


def _json(value: Any) -> str:
    return _JSON.encode(value).decode().replace("\\u0000", "\\ufffd")


def _instant(epoch_ms: int) -> str:
    return f"{instant_text(epoch_ms, '%Y-%m-%dT%H:%M:%S')}.{epoch_ms % 1000:03d}Z"
