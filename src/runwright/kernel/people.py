"""Who may decide what: people with roles and keys, and every reason why a decision does not count.

Pure: the conductor asks it before it records a decision, and `verify` asks the same of the record.
A role is for one kind of act. An auditor looks and says what was seen, and holds no other role, so
whoever attests never approved. Nobody decides about their own work.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, Literal, get_args

import msgspec

from runwright.kernel.canonical import INT_MAX, digest, digest_of, encode
from runwright.kernel.errors import NotCanonical
from runwright.kernel.record.entries import (
    Act,
    AgentKey,
    Decision,
    DecisionMade,
    Entry,
    PersonAdded,
    PersonKey,
    PersonRevoked,
    Role,
    RoundJudged,
    RoundPlanned,
    SpecApplied,
    SuspensionRequested,
    TickRefused,
)

ROLES: Final[tuple[str, ...]] = get_args(Role)
#: The closed list of acts.
ACTIONS: Final[tuple[str, ...]] = get_args(Act)
#: Role -> what it may do.
ALLOWED: Final[Mapping[str, frozenset[str]]] = {
    "owner": frozenset(ACTIONS) - {"attest"},
    "approver": frozenset(
        {"approve", "reject", "waive", "extend", "override", "acknowledge", "sign-off"}
    ),
    "operator": frozenset({"freeze", "continue", "close", "acknowledge"}),
    "auditor": frozenset({"attest", "acknowledge"}),
}
#: Kind of subject -> what may be done about it.
SUBJECTS: Final[Mapping[str, frozenset[str]]] = {
    "round": frozenset(ACTIONS) - {"freeze", "continue", "extend", "amend"},
    "tick": frozenset(ACTIONS) - {"freeze", "continue", "extend", "amend"},
    "entry": frozenset(ACTIONS) - {"freeze", "continue"},
    "spec": frozenset(ACTIONS) - {"override", "waive"},
    "agent": frozenset(ACTIONS) - {"override", "waive", "amend"},
    "suspension": frozenset(
        {"approve", "reject", "override", "close", "continue", "acknowledge", "attest"}
    ),
    "budget": frozenset({"continue", "waive", "acknowledge", "attest"}),
    "person": frozenset({"approve"}),
}
#: Changes of the people are the owners' alone.
OWNERS_ONLY: Final = frozenset({"person"})

#: The namespace of the signatures (PROTOCOL.sshsig).
NAMESPACE: Final = "decision@runwright"
#: How far a person's clock may run ahead of the conductor's.
AHEAD_MS_MAX: Final = 5 * 60_000
REASON_MAX: Final = 2_000
EVIDENCE_MAX: Final = 32
KEYS_MAX: Final = 8

_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}")
_HEX: Final = re.compile(r"[0-9a-f]{64}")
_NUMBER: Final = re.compile(r"0|[1-9][0-9]{0,14}")
_SUBJECT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@/:-]{0,199}")
#: What stands in a subject, by its kind.
_NAMES: Final[Mapping[str, re.Pattern[str]]] = {
    "round": _HEX,
    "tick": _HEX,
    "entry": _NUMBER,
    "suspension": _NUMBER,
    "spec": _SUBJECT,
    "agent": re.compile(r".{1,200}"),
    "budget": _SUBJECT,
    "person": _ID,
}


class HeldKey(msgspec.Struct, kw_only=True):
    """A key of a person, as it stands."""

    key: str
    fingerprint: str
    from_ms: int = 0
    until_ms: int = 0
    revoked: bool = False


class Person(msgspec.Struct, kw_only=True):
    """A person, as the record has them."""

    id: str
    name: str
    roles: tuple[Role, ...]
    users: tuple[str, ...] = ()
    keys: dict[str, HeldKey] = {}
    revoked: bool = False


class Objection(msgspec.Struct, frozen=True):
    """Why a decision does not count."""

    #: The signature or its key, or what the person may not do.
    about: Literal["key", "act"]
    text: str


# ------------------------------------------------------------------------------------ decisions


def document_bytes(document: Decision) -> bytes:
    """Return what is signed. Raises: not-canonical."""
    return encode(document)


def document_digest(document: Decision) -> str:
    """Return the digest by which a decision is known. Raises: not-canonical."""
    return digest(encode(document))


def malformed(document: Decision) -> str:
    """Return what is wrong with the form of a document, whoever signed it; empty when nothing."""
    kind, _, name = document.subject.partition("/")
    if kind not in SUBJECTS or not _NAMES[kind].fullmatch(name):
        return f"subject: {document.subject[:80]!r} is none of {', '.join(SUBJECTS)} with its name"
    if not _ID.fullmatch(document.person):
        return f"person: {document.person[:80]!r} is no id of a person"
    if not document.reason.strip() or len(document.reason) > REASON_MAX:
        return f"reason: give one, of at most {REASON_MAX} characters"
    if any(not sign.isprintable() for sign in document.reason):
        return "reason: it holds characters that cannot be printed"
    if len(document.evidence) > EVIDENCE_MAX:
        return f"evidence: at most {EVIDENCE_MAX} digests"
    for named in (document.seen, *document.evidence):
        if not _HEX.fullmatch(named):
            return f"evidence: {named[:80]!r} is no SHA-256 in 64 lower-case hex digits"
    if not 0 <= document.expires_ms <= INT_MAX or not 0 < document.made_ms <= INT_MAX:
        return "expires_ms, made_ms: not an instant"
    return ""


def key_objection(document: Decision, fingerprint: str, person: Person | None, at_ms: int) -> str:
    """Return why a key could not sign for a person then; empty when it could."""
    key = person.keys.get(fingerprint) if person else None
    if key is None:
        return f"{fingerprint} is no key of {document.person}"
    if key.revoked:
        return f"the key {fingerprint} of {document.person} was revoked"
    for instant in (document.made_ms, at_ms):
        if instant < key.from_ms:
            return f"the key {fingerprint} of {document.person} was not valid yet"
        if key.until_ms and instant >= key.until_ms:
            return f"the key {fingerprint} of {document.person} had ended"
    return ""


def act_objection(document: Decision, person: Person | None, origin: str, at_ms: int) -> str:
    """Return why a person may not decide that; empty when they may. Authors are asked apart."""
    wrong = malformed(document)
    kind = document.subject.partition("/")[0]
    if wrong:
        return wrong
    if document.origin != origin:
        return f"it is about the ledger {document.origin[:80]}, this is {origin}"
    if person is None:
        return f"nobody of the id {document.person} is known"
    if person.revoked:
        return f"{person.id} was revoked"
    if document.action not in SUBJECTS[kind]:
        fitting = ", ".join(action for action in ACTIONS if action in SUBJECTS[kind])
        return f"{document.action} does not go with a {kind}; these do: {fitting}"
    roles = [role for role in person.roles if document.action in ALLOWED.get(role, ())]
    if kind in OWNERS_ONLY:
        roles = [role for role in roles if role == "owner"]
    if not roles:
        able = [role for role in ROLES if document.action in ALLOWED[role]]
        needed = "owner" if kind in OWNERS_ONLY else " or ".join(able)
        held = ", ".join(person.roles)
        return f"{person.id} is {held}; to {document.action} a {kind} takes {needed}"
    if document.made_ms > at_ms + AHEAD_MS_MAX:
        return "it was made in the future: look at the clock of the machine that signed it"
    if document.expires_ms and document.expires_ms <= at_ms:
        return "it has expired"
    return ""


def author_objection(person: Person | None, authors: Collection[str]) -> str:
    """Return why nobody decides about their own work; empty when somebody else did it."""
    if person is None:
        return ""
    names = {name.casefold() for name in (person.id, *person.users)}
    own = sorted(author for author in authors if author.casefold() in names)
    return f"{person.id} is its author ({own[0]}): somebody else has to decide" if own else ""


# -------------------------------------------------------------------------------------- subjects


def misfit(document: Decision, entries: Sequence[Entry]) -> str:
    """Return why the entries that were seen are not what a subject names; empty when they are."""
    kind, _, name = document.subject.partition("/")
    if kind == "person":
        return "" if (document.first_seq, document.last_seq) == (-1, -1) else "a person has no seq"
    seqs = [entry.seq for entry in entries]
    span = range(document.first_seq, document.last_seq + 1)
    if not seqs or seqs != list(span):
        return f"entries {document.first_seq} to {document.last_seq} are not there"
    first, last = entries[0], entries[-1]
    if kind == "round":
        fits = isinstance(first.body, RoundPlanned) and first.round == name == last.round
        fits = fits and isinstance(last.body, RoundJudged)
    elif kind == "tick":
        refused = isinstance(first.body, TickRefused) and first.tick == name and first is last
        ended = isinstance(first.body, RoundPlanned) and first.body.tick == name
        whole = isinstance(last.body, RoundJudged) and last.body.last
        fits = refused or (ended and whole)
    elif kind in ("entry", "suspension"):
        fits = first is last and name == str(first.seq)
        fits = fits and (kind == "entry" or isinstance(first.body, SuspensionRequested))
    elif kind == "spec":
        fits = first is last and isinstance(first.body, SpecApplied) and first.body.name == name
    elif kind == "agent":
        fits = first is last and isinstance(first.body, AgentKey) and first.body.agent == name
    else:
        fits = first is last
    return "" if fits else f"entries {first.seq} to {last.seq} are not {document.subject}"


def authors_of(
    document: Decision, entries: Sequence[Entry], agents: Mapping[int, Collection[str]]
) -> set[str]:
    """Return who made what a decision is about: who caused it, and the agents it is about.

    `agents` holds those in the roster of a round, by the seq of its plan.
    """
    kind, _, name = document.subject.partition("/")
    found = {name} if kind in ("agent", "person") else set()
    if kind == "budget":
        return found
    for entry in entries:
        if kind in ("round", "tick") and not isinstance(entry.body, RoundPlanned | TickRefused):
            continue
        body: Any = entry.body
        found |= {entry.actor.id} if entry.actor.kind == "person" else set()
        found |= {getattr(body, "agent", ""), *agents.get(entry.seq, ())}
        if isinstance(body, DecisionMade):
            found.add(body.document.person)
        elif isinstance(body, PersonAdded | PersonRevoked):
            found.add(body.id)
    return found - {""}


def stand(decisions: Sequence[Mapping[str, Any]], now_ms: int) -> Mapping[str, Any] | None:
    """Return the row of the decision that stands against a subject, of its rows by seq, or None.

    A freeze stands until somebody continues or it expires; what was closed stays closed.
    """
    standing: Mapping[str, Any] | None = None
    for row in decisions:
        if row["expires_ms"] and row["expires_ms"] <= now_ms:
            continue
        if row["action"] == "close":
            return row
        if row["action"] in ("freeze", "continue"):
            standing = row if row["action"] == "freeze" else None
    return standing


# ---------------------------------------------------------------------------------------- people


class People:
    """The people of a ledger, folded from its entries in order."""

    def __init__(self, persons: Mapping[str, Person] | None = None) -> None:
        """Start from nobody, or from those that rows hold."""
        self.persons: dict[str, Person] = dict(persons or {})

    def add_objection(self, added: PersonAdded, approval: Decision | None) -> str:
        """Return why somebody cannot be added or changed; empty when they can."""
        known = self.persons.get(added.id)
        wrong = self._misshapen(added, known)
        if wrong or (not self.persons and not added.approved):
            lone = "" if "owner" in added.roles else "the first person has to be an owner"
            return wrong or lone
        if known and approval and approval.person == added.id and known.roles != added.roles:
            return f"{added.id} cannot change their own roles"
        return self._unapproved(added, approval) or self._ownerless(added.id, added.roles)

    def revoke_objection(self, revoked: PersonRevoked, approval: Decision | None) -> str:
        """Return why somebody cannot be revoked; empty when they can."""
        known = self.persons.get(revoked.id)
        if known is None or known.revoked:
            return f"nobody of the id {revoked.id} decides"
        key = known.keys.get(revoked.key) if revoked.key else None
        if revoked.key and (key is None or key.revoked):
            return f"{revoked.key} is no key that {revoked.id} signs with"
        others = [held for held in known.keys.values() if not held.revoked and held is not key]
        is_gone = not revoked.key or not others
        lone = self._ownerless(revoked.id, ()) if is_gone else ""
        return self._unapproved(revoked, approval) or lone

    def add(self, added: PersonAdded) -> None:
        """Take in a person, or what was changed of one."""
        known = self.persons.get(added.id)
        keys = dict(known.keys) if known else {}
        for key in added.keys:
            keys[key.fingerprint] = HeldKey(
                key=key.key,
                fingerprint=key.fingerprint,
                from_ms=key.from_ms,
                until_ms=key.until_ms,
            )
        self.persons[added.id] = Person(
            id=added.id, name=added.name, roles=added.roles, users=added.users, keys=keys
        )

    def revoke(self, revoked: PersonRevoked) -> None:
        """Take in a revocation."""
        known = self.persons.get(revoked.id)
        if known is None:
            return
        if not revoked.key:
            known.revoked = True
        elif revoked.key in known.keys:
            known.keys[revoked.key].revoked = True

    def _misshapen(self, added: PersonAdded, known: Person | None) -> str:
        if not _ID.fullmatch(added.id) or not added.name.strip() or len(added.name) > REASON_MAX:
            return f"id, name: {added.id[:80]!r} is no id, or there is no name"
        if known and known.revoked:
            return f"{added.id} was revoked; an id is never used again"
        if not added.roles or len(set(added.roles)) != len(added.roles):
            return "roles: give at least one, each once"
        if "auditor" in added.roles and len(added.roles) > 1:
            return "roles: an auditor holds no other role, or they would audit themselves"
        if (not added.keys and known is None) or len(added.keys) > KEYS_MAX:
            return f"keys: give at least one and at most {KEYS_MAX}"
        return next(filter(None, (self._misheld(added.id, key) for key in added.keys)), "")

    def _misheld(self, owner: str, key: PersonKey) -> str:
        if fingerprint_of(key.key) != key.fingerprint:
            return f"keys: {key.key[:40]!r} has another fingerprint than {key.fingerprint}"
        if key.until_ms and key.until_ms <= key.from_ms:
            return f"keys: {key.fingerprint} ends before it begins"
        for person in self.persons.values():
            held = person.keys.get(key.fingerprint)
            if held is not None and person.id != owner:
                return f"keys: {key.fingerprint} is a key of {person.id}"
            if held is not None and held.revoked:
                return f"keys: {key.fingerprint} was revoked"
        return ""

    def _unapproved(self, change: PersonAdded | PersonRevoked, approval: Decision | None) -> str:
        if approval is None:
            return f"no owner approved this change of {change.id}"
        named = (f"person/{change.id}", "approve", change_digest(change))
        if (approval.subject, approval.action, approval.seen) != named:
            return f"what {approval.person} signed is not this change of {change.id}"
        return ""

    def _ownerless(self, changed: str, roles: Collection[str]) -> str:
        known = self.persons.get(changed)
        if "owner" in roles or known is None or "owner" not in known.roles:
            return ""
        others = [
            person
            for person in self.persons.values()
            if person.id != changed
            and "owner" in person.roles
            and not person.revoked
            and any(not key.revoked for key in person.keys.values())
        ]
        return "" if others else "nobody could change the people any more: it is the last owner"


def change_digest(change: PersonAdded | PersonRevoked) -> str:
    """Return the digest of a change of the people, which an owner approves."""
    plain = msgspec.to_builtins(msgspec.structs.replace(change, approved=""))
    return digest_of({"change": type(change).__name__, **plain})


def fingerprint_of(key: str) -> str:
    """Return the fingerprint of an OpenSSH public key; empty for what is none."""
    parts = key.split(" ")
    try:
        blob = base64.b64decode(parts[1], validate=True)
    except (IndexError, binascii.Error, ValueError):
        return ""
    named = base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")
    return f"SHA256:{named}"


# ---------------------------------------------------------------------------------------- agents

#: A key of an agent goes through them in this order; it may leave some out.
AGENT_STATES: Final = ("PENDING", "ACTIVE", "DEPRECATED", "ARCHIVED")


def agent_key_objection(before: AgentKey | None, after: AgentKey) -> str:
    """Return why a key cannot come into a state; empty when it can."""
    try:
        own = digest(bytes.fromhex(after.key)) if _HEX.fullmatch(after.key) else ""
    except ValueError:
        own = ""
    if own != after.fingerprint:
        return f"a key of {after.agent} has another fingerprint than it says"
    if after.state != "PENDING" and not after.from_ms and after.state != "ARCHIVED":
        return f"a key of {after.agent} is {after.state} from no time on"
    if after.state in ("DEPRECATED", "ARCHIVED") and not after.until_ms:
        return f"a key of {after.agent} is {after.state} without an end"
    if before is None:
        is_start = after.state in ("PENDING", "ACTIVE")
        return "" if is_start else f"a key of {after.agent} begins as {after.state}"
    if AGENT_STATES.index(after.state) <= AGENT_STATES.index(before.state):
        return f"a key of {after.agent} goes from {before.state} to {after.state}"
    if before.state != "PENDING" and after.from_ms != before.from_ms:
        return f"a key of {after.agent} is valid from another time than before"
    if before.until_ms and after.until_ms > before.until_ms:
        return f"a key of {after.agent} ends later than it was said"
    return ""


def agent_key_held(key: AgentKey, at_ms: int) -> bool:
    """Say whether a record made at a time may be signed with a key."""
    is_begun = bool(key.from_ms) and key.from_ms <= at_ms
    return is_begun and (not key.until_ms or at_ms < key.until_ms)


def change_of(kind: str, plain: Any) -> PersonAdded | PersonRevoked:
    """Return a change of the people. Raises: not-canonical for what is none."""
    body: Any = PersonAdded if kind == "added" else PersonRevoked
    try:
        change: PersonAdded | PersonRevoked = msgspec.convert(plain, body)
    except msgspec.ValidationError as error:
        raise NotCanonical(str(error)) from error
    return change
