"""Rows that are made of entries alone, so that their tables can be rebuilt from a ledger."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from runwright.kernel.people import document_digest
from runwright.kernel.ports import Row
from runwright.kernel.record.entries import (
    AgentKey,
    DecisionMade,
    Entry,
    LogRetired,
    LogSealed,
    PersonAdded,
    PersonRevoked,
)

#: The tables that are made of them.
TABLES = ("person", "person_key", "decision", "agent_key", "log_segment")


def rows_of(entry: Entry) -> Sequence[Row]:
    """Return the rows that an entry leaves; folding all entries in order makes the tables."""
    body = entry.body
    if isinstance(body, PersonAdded):
        return _added(entry, body)
    if isinstance(body, PersonRevoked):
        gone = {"revoked_ms": entry.ts, "reason": body.reason}
        if body.key:
            key = {"person": body.id, "fingerprint": body.key}
            return [Row("person_key", {**key, **gone}, update=True)]
        return [Row("person", {"id": body.id, **gone}, update=True)]
    if isinstance(body, DecisionMade):
        return [_decided(entry, body)]
    if isinstance(body, AgentKey):
        return [Row("agent_key", {**msgspec.structs.asdict(body), "seq": entry.seq})]
    if isinstance(body, LogSealed):
        fields = msgspec.structs.asdict(body)
        index = fields.pop("index")
        return [Row("log_segment", {**fields, "idx": index, "seq": entry.seq})]
    if isinstance(body, LogRetired):
        log = {"kind": body.kind, "name": body.name}
        return [
            Row("log_segment", {**log, "idx": index, "retired": entry.seq}, update=True)
            for index in range(body.first, body.last + 1)
        ]
    return ()


def _added(entry: Entry, body: PersonAdded) -> list[Row]:
    person = {
        "id": body.id,
        "name": body.name,
        "roles": msgspec.json.encode(body.roles).decode(),
        "users": msgspec.json.encode(body.users).decode(),
        "seq": entry.seq,
    }
    keys = [
        Row("person_key", {"person": body.id, **msgspec.structs.asdict(key), "seq": entry.seq})
        for key in body.keys
    ]
    return [Row("person", person), *keys]


def _decided(entry: Entry, body: DecisionMade) -> Row:
    document = body.document
    return Row(
        "decision",
        {
            "seq": entry.seq,
            "document": document_digest(document),
            "subject": document.subject,
            "action": document.action,
            "person": document.person,
            "reason": document.reason,
            "evidence": msgspec.json.encode(document.evidence).decode(),
            "seen": document.seen,
            "first_seq": document.first_seq,
            "last_seq": document.last_seq,
            "expires_ms": document.expires_ms,
            "made_ms": document.made_ms,
            "at_ms": entry.ts,
            "key": body.key,
        },
    )
