"""What people do: decisions, changes of the people, keys of agents; checked, then one commit each.

Everything is checked here whoever checked it before: a command that signs on another machine, or
somebody who inserted a request by hand. A decision that was made before is found again and not
repeated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from runwright.kernel.drive import agents
from runwright.kernel.drive.requests import DecideBody, KeyBody, PeopleBody
from runwright.kernel.errors import Denied, NotCanonical, Refused, UnknownName, Usage
from runwright.kernel.people import (
    NAMESPACE,
    HeldKey,
    People,
    Person,
    act_objection,
    author_objection,
    authors_of,
    change_of,
    document_bytes,
    document_digest,
    fingerprint_of,
    key_objection,
    misfit,
    stand,
)
from runwright.kernel.ports import Keyring, Store
from runwright.kernel.record import sshsig
from runwright.kernel.record.entries import (
    Actor,
    AgentKey,
    Decision,
    DecisionMade,
    Draft,
    PersonAdded,
    Role,
    RoundPlanned,
    decode,
)
from runwright.kernel.record.ledger import leaf_hash, root_of
from runwright.kernel.run import RunPlan

#: The longest time that a key signs on after it was rotated out: 90 days.
GRACE_S_MAX: Final = 90 * 86_400


class Acting(NamedTuple):
    """What an act is checked and made with."""

    store: Store
    origin: str
    now_ms: int
    keyring: Keyring | None
    #: Who gives the command, as the system names them.
    by: str


class Act(NamedTuple):
    """What an act comes to: what is written, and what whoever asked is told."""

    drafts: Sequence[Draft]
    result: Mapping[str, Any]
    #: Keys of agents whose files follow the commit.
    keys: Sequence[AgentKey] = ()


class Span(NamedTuple):
    """The entries that a subject stands for."""

    first: int
    last: int


def act(kind: str, body: bytes, acting: Acting) -> Act:
    """Return what a request of a person comes to. Raises: denied, usage, unknown-name, refused."""
    try:
        if kind == "decide":
            return decide(msgspec.json.decode(body, type=DecideBody), acting)
        if kind == "people":
            return change_people(msgspec.json.decode(body, type=PeopleBody), acting)
        return change_keys(msgspec.json.decode(body, type=KeyBody), acting)
    except msgspec.DecodeError as error:
        raise Usage(str(error)) from error


# ------------------------------------------------------------------------------------- decisions


def decide(wish: DecideBody, acting: Acting) -> Act:
    """Return a decision to record. Raises: denied, saying why it does not count."""
    document = document_of(wish.document)
    if document.subject.startswith("person/"):
        message = "people are changed by `runwright people add` and `people revoke`"
        raise Denied(message)
    known = _recorded(document, acting.store)
    if known is not None:
        return Act([], known)
    entry = _checked(document, wish.signature, people_of(acting.store), acting)
    _require_seen(document, people_of(acting.store), acting.store)
    _require_open(document, acting)
    return Act([entry], {**_told(document), "recorded": True})


def document_of(plain: Mapping[str, Any]) -> Decision:
    """Return the document that JSON holds. Raises: denied."""
    try:
        return msgspec.convert(plain, Decision)
    except msgspec.ValidationError as error:
        message = f"not a decision: {error}"
        raise Denied(message) from error


def span_of(store: Store, subject: str) -> Span:
    """Return the entries that a subject stands for now. Raises: unknown-name, denied."""
    kind, _, name = subject.partition("/")
    if kind in ("round", "tick"):
        return _span_of_rounds(store, kind, name)
    if kind in ("entry", "suspension"):
        if not name.isdigit() or len(name) > 15 or int(name) >= store.size():  # noqa: PLR2004
            message = f"there is no entry {name}"
            raise UnknownName(message, hint="`runwright show ledger` lists the newest.")
        return Span(int(name), int(name))
    if kind == "spec":
        rows = store.rows("spec", {"name": name}, order="-seq")
    elif kind == "agent":
        rows = store.rows("agent_key", {"agent": name}, order="-seq")
    elif kind == "budget":
        # A name that no entry is: what was seen is the record up to now, through its newest entry.
        rows = [{"seq": store.size() - 1}]
    else:
        message = f"{kind!r} is no kind of subject"
        raise UnknownName(message)
    if not rows:
        message = f"nothing in the record is {subject}"
        raise UnknownName(message)
    return Span(rows[0]["seq"], rows[0]["seq"])


def seen_of(store: Store, span: Span) -> str:
    """Return the root over the leaf hashes of the entries, as they are read back."""
    raws = [stored.raw for stored in store.entries(span.first, span.last + 1)]
    return root_of(list(map(leaf_hash, raws))).hex()


def people_of(store: Store) -> People:
    """Return the people as their tables have them."""
    persons = {
        row["id"]: Person(
            id=row["id"],
            name=row["name"],
            roles=msgspec.json.decode(row["roles"], type=tuple[Role, ...]),
            users=msgspec.json.decode(row["users"], type=tuple[str, ...]),
            revoked=bool(row["revoked_ms"]),
        )
        for row in store.rows("person")
    }
    for row in store.rows("person_key"):
        persons[row["person"]].keys[row["fingerprint"]] = HeldKey(
            key=row["key"],
            fingerprint=row["fingerprint"],
            from_ms=row["from_ms"],
            until_ms=row["until_ms"],
            revoked=bool(row["revoked_ms"]),
        )
    return People(persons)


def objection(store: Store, document: Decision, fingerprint: str, now_ms: int) -> str:
    """Return why a decision would not count, before it is signed; empty when it would."""
    people = people_of(store)
    person = people.persons.get(document.person)
    wrong = act_objection(document, person, document.origin, now_ms)
    wrong = wrong or key_objection(document, fingerprint, person, now_ms)
    if wrong or document.subject.startswith("person/"):
        return wrong
    try:
        _require_seen(document, people, store)
    except Denied as error:
        return str(error)
    return ""


def standing(store: Store, name: str, now_ms: int) -> Mapping[str, Any] | None:
    """Return the decision that stands against a spec, or None."""
    rows = store.rows("decision", {"subject": f"spec/{name}"}, order="seq")
    return stand(rows, now_ms) if rows else None


def _span_of_rounds(store: Store, kind: str, name: str) -> Span:
    column = "id" if kind == "round" else "tick"
    rows = store.rows("round", {column: name}, order="idx")
    if not rows:
        refused = store.rows("tick", {"id": name, "state": "refused"}) if kind == "tick" else []
        if refused:
            return Span(refused[0]["seq"], refused[0]["seq"])
        message = f"there is no {kind} {name}"
        raise UnknownName(message)
    is_open = any(row["judged_seq"] is None for row in rows)
    tick = store.rows("tick", {"id": rows[0]["tick"]})
    if is_open or (kind == "tick" and tick[0]["state"] == "open"):
        message = f"{kind} {name[:12]} is under way: decide about it when it has ended"
        raise Denied(message)
    return Span(rows[0]["seq"], rows[-1]["judged_seq"])


def _recorded(document: Decision, store: Store) -> Mapping[str, Any] | None:
    try:
        rows = store.rows("decision", {"document": document_digest(document)}, limit=1)
    except NotCanonical as error:
        raise Denied(str(error)) from error
    return {**_told(document), "recorded": False, "seq": rows[0]["seq"]} if rows else None


def _checked(document: Decision, signature: str, people: People, acting: Acting) -> Draft:
    """Return the entry of a decision whose person, role and signature are right."""
    person = people.persons.get(document.person)
    key = sshsig.key_of(signature)
    named = fingerprint_of(key)
    wrong = act_objection(document, person, acting.origin, acting.now_ms)
    wrong = wrong or key_objection(document, named, person, acting.now_ms)
    wrong = wrong or sshsig.objection(signature, document_bytes(document), key, NAMESPACE)
    if wrong:
        raise Denied(wrong)
    body = DecisionMade(document=document, key=named, signature=signature)
    return Draft(body=body, actor=Actor(kind="person", id=document.person))


def _require_seen(document: Decision, people: People, store: Store) -> None:
    """Hold what was seen against the record as it stands. Raises: denied."""
    kind = document.subject.partition("/")[0]
    span = span_of(store, document.subject)
    seen = Span(document.first_seq, document.last_seq)
    if kind == "budget" and 0 <= seen.first == seen.last <= span.last:
        span = seen
    if seen != span:
        message = f"{document.subject} is not what was signed any more: look at it again"
        raise Denied(message)
    stored = list(store.entries(span.first, span.last + 1))
    entries = [decode(each.raw) for each in stored]
    wrong = misfit(document, entries)
    if not wrong and root_of([leaf_hash(each.raw) for each in stored]).hex() != document.seen:
        wrong = "what was signed is not what the record holds"
    rosters = {
        entry.seq: _roster_agents(store, entry.body)
        for entry in entries
        if isinstance(entry.body, RoundPlanned)
    }
    person = people.persons.get(document.person)
    wrong = wrong or author_objection(person, authors_of(document, entries, rosters))
    if wrong:
        raise Denied(wrong)


def _roster_agents(store: Store, planned: RoundPlanned) -> set[str]:
    kept = store.blob(planned.roster)
    runs = msgspec.json.decode(kept.data, type=list[RunPlan]) if kept else []
    return {run.agent for run in runs}


def _require_open(document: Decision, acting: Acting) -> None:
    kind, _, name = document.subject.partition("/")
    found = standing(acting.store, name, acting.now_ms) if kind == "spec" else None
    if found and found["action"] == "close" and document.action in ("freeze", "continue", "extend"):
        message = f"spec/{name} was closed by {found['person']} (entry {found['seq']}) for good"
        raise Denied(message)


def _told(document: Decision) -> dict[str, Any]:
    return {
        "document": document_digest(document),
        "subject": document.subject,
        "action": document.action,
        "person": document.person,
    }


# ---------------------------------------------------------------------------------------- people


def change_people(wish: PeopleBody, acting: Acting) -> Act:
    """Return a change of the people, with the owner's approval of it. Raises: denied."""
    people = people_of(acting.store)
    change = change_of(wish.change, wish.body)
    approval = document_of(wish.approval.document) if wish.approval else None
    if approval is not None and wish.approval is not None:
        known = _recorded(approval, acting.store)
        if known is not None:
            return Act([], {**known, "changed": False})
        change = msgspec.structs.replace(change, approved=document_digest(approval))
    added = isinstance(change, PersonAdded)
    if isinstance(change, PersonAdded):
        for key in change.keys:
            sshsig.parse_key(key.key)
        wrong = people.add_objection(change, approval)
    else:
        wrong = people.revoke_objection(change, approval)
    if wrong:
        raise Denied(wrong)
    drafts = []
    if approval is not None and wish.approval is not None:
        drafts.append(_checked(approval, wish.approval.signature, people, acting))
    by = approval.person if approval else acting.by
    drafts.append(Draft(body=change, actor=Actor(kind="person", id=by)))
    told = {"id": change.id, "changed": True, "first": approval is None and added}
    return Act(drafts, told)


# ------------------------------------------------------------------------------- keys of agents


def change_keys(wish: KeyBody, acting: Acting) -> Act:
    """Return the states that keys of an agent come into. Raises: usage, unknown-name, refused."""
    keyring, store, now_ms = acting.keyring, acting.store, acting.now_ms
    if keyring is None:
        message = "this conductor keeps no keys of agents"
        raise Refused(message)
    if not wish.agent.strip() or not wish.agent.isprintable():
        message = f"--agent: {wish.agent!r} is no name of an agent"
        raise Usage(message)
    if not 0 <= wish.grace_s <= GRACE_S_MAX:
        message = f"--grace: {wish.grace_s} s is not within 0 to {GRACE_S_MAX}"
        raise Usage(message)
    ended = agents.expired(store, now_ms=now_ms)
    if wish.act == "new":
        changed = agents.create(store, keyring, wish.agent, now_ms=now_ms)
    elif wish.act == "rotate":
        changed = agents.rotate(
            store, keyring, wish.agent, now_ms=now_ms, grace_ms=wish.grace_s * 1000
        )
    else:
        gone = {key.fingerprint for key in ended}
        found = agents.archive(store, wish.agent, wish.key, now_ms=now_ms)
        changed = [key for key in found if key.fingerprint not in gone]
    keys = [*ended, *changed]
    actor = Actor(kind="person", id=acting.by)
    drafts = [Draft(body=key, actor=actor) for key in keys]
    told = {"agent": wish.agent, "keys": [msgspec.structs.asdict(key) for key in keys]}
    return Act(drafts, told, keys)
