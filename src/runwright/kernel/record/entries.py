"""The closed, versioned, additive list of entry types, and the bytes an entry is stored as.

An entry is its canonical bytes: they are hashed as stored and never encoded again to verify.

    {"v":1, "origin":…, "seq":N, "prev":<leaf hash of N-1>, "ts":<ms>, "type":…,
     "run"|"round"|"tick": <id>, "n": <k-th entry of that id>, "actor":…, "body":{…}, "blobs":[…],
     "sup":M}

`origin` and `seq` stand inside the bytes, so an entry cannot be replayed elsewhere; `prev` makes
the entries a hash chain that the RFC 6962 tree over them commits to. Nothing is ever edited: a
correction is a new entry with `sup`.
"""

from collections.abc import Mapping
from typing import Any, Final, Generic, Literal, TypeAlias, TypeVar

import msgspec

from runwright.kernel.criteria import Finding
from runwright.kernel.run import (
    Arrived,
    Blob,
    OutcomeStatus,
    Requested,
    Resources,
    Schedule,
    Scheduled,
    Warmth,
)

_B = TypeVar("_B")

#: What a person may be.
Role: TypeAlias = Literal["owner", "approver", "operator", "auditor"]
#: The closed list of what a person may decide.
Act: TypeAlias = Literal[
    "approve",
    "reject",
    "waive",
    "amend",
    "close",
    "extend",
    "freeze",
    "continue",
    "override",
    "acknowledge",
    "attest",
    "sign-off",
]

#: The version of the entry format.
FORMAT: Final = 1
#: The largest entry in bytes.
ENTRY_MAX: Final = 16 * 1024
#: `prev` of the first entry.
NO_PREV: Final = "0" * 64


class _Body(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    forbid_unknown_fields=True,
    gc=False,
):
    """The body of one entry type."""


class LedgerOpened(_Body, frozen=True, kw_only=True):
    """The first entry: whose ledger this is and which keys seal it."""

    #: The random id under which the signer remembers this ledger.
    ledger: str
    #: The C2SP verifier key of the seals.
    seal_key: str
    #: SHA-256 of the DER public key that signs bundles (P-256).
    bundle_key: str
    product: str
    retention: str = "keep"


class LedgerAdopted(_Body, frozen=True, kw_only=True):
    """Somebody decided that this store goes on although the signer does not vouch for its past."""

    reason: str
    #: What the signer last remembered: -1 when it remembered nothing.
    remembered_size: int
    remembered_root: str
    #: What the store held when it was adopted.
    found_size: int
    found_root: str


class KeyAdded(_Body, frozen=True, kw_only=True):
    """A key seals from here on; the seal over this entry is signed by the old and the new one."""

    role: Literal["seal", "bundle"]
    #: The C2SP verifier key, or the SHA-256 of the DER public key.
    key: str


class KeyRetired(_Body, frozen=True, kw_only=True):
    """A key does not sign anything after this entry."""

    role: Literal["seal", "bundle"]
    key: str


class SpecApplied(_Body, frozen=True, kw_only=True):
    """A spec was applied; its canonical bytes are the blob `spec`."""

    kind: str
    name: str
    digest: str
    #: The digest of the spec that it replaces.
    replaces: str = ""
    #: How many rows of the workload's tables were added, changed and disabled.
    rows: Mapping[str, int] = {}


class ScheduleOverridden(_Body, frozen=True, kw_only=True):
    """A process runs a spec on another schedule than the spec says, for as long as it lives."""

    kind: str
    name: str
    interval_s: int


class ScheduleChanged(_Body, frozen=True, kw_only=True):
    """What a spec runs by was changed beside it, by a row that operators edit."""

    kind: str
    name: str
    #: What is in force from here on; None: it runs only when it is asked for.
    schedule: Schedule | None = None
    #: Why nothing runs by itself.
    refused: str = ""


class StreamOpened(_Body, frozen=True, kw_only=True):
    """A stream runs for the first time: from here on every instant of its grid is owed."""

    kind: str
    name: str
    #: What the grid starts from, epoch ms.
    opened_ms: int


class TickPassed(_Body, frozen=True, kw_only=True):
    """Due occurrences that did not run, with the reason; adjacent ones share an entry."""

    kind: str
    name: str
    status: Literal["MISSED", "SKIPPED"]
    reason: str
    first_ms: int
    last_ms: int
    count: int
    #: How late this was recorded, ms after the last of them.
    lag_ms: int = 0


class TickRefused(_Body, frozen=True, kw_only=True):
    """A tick that could not be planned: nothing was executed."""

    kind: str
    name: str
    spec: str
    occurrence: Scheduled | Requested | Arrived
    #: The code of the error and its message.
    code: str
    message: str


class RoundPlanned(_Body, frozen=True, kw_only=True):
    """A round and its whole roster, durable before the first run starts.

    Blobs: `roster` (the canonical RunPlans in order), `seen` (facts and lane memory), `spec`.
    """

    kind: str
    name: str
    #: The id of the tick.
    tick: str
    occurrence: Scheduled | Requested | Arrived
    #: The instant stamped by the conductor, the only clock of the pure rooms.
    at: int
    #: The round's key in its tick, and its place in the tick, from 0.
    key: str
    index: int
    #: How many runs it has.
    runs: int
    pure: bool
    place: str
    workers: int
    #: Digests: the spec, the roster, what was seen, the workload's code.
    spec: str
    roster: str
    seen: str
    code: str
    product: str
    #: Rate, retry, deadline and judge_every of the round, as far as they are set.
    policy: Mapping[str, Any] = {}
    #: A label that the workload gives the round (cycles: the cycle id).
    label: str = ""


class RunStarted(_Body, frozen=True, kw_only=True):
    """An impure run is about to start; durable before it does."""

    key: str
    attempt: int = 1
    #: Wall ms that it may use when that is less than its plan says; 0: as planned.
    timeout_ms: int = 0


class RunDeferred(_Body, frozen=True, kw_only=True):
    """A run asked to be repeated."""

    key: str
    attempt: int
    #: When the next attempt is due, epoch ms.
    next_ms: int
    message: str = ""


class RunFinished(_Body, frozen=True, kw_only=True):
    """How a run ended."""

    key: str
    status: OutcomeStatus
    reason: str = ""
    message: str = ""
    #: Digest of the canonical value; the value itself is the blob `value` when it is long.
    value: Mapping[str, Any] = {}
    attempts: int = 1
    started_ms: int = 0
    finished_ms: int = 0
    used: Resources = Resources()
    level: str = ""
    #: Whether it was forked from a template, for a command that wished it.
    warmth: Warmth | None = None
    #: What it left for the next run of its lane; a long one is the blob of the digest `memory`.
    left: Mapping[str, Any] | None = None
    memory: str = ""
    reused: str = ""


class RoundJudged(_Body, frozen=True, kw_only=True):
    """The verdict on a round, in the commit of its last outcomes.

    Blob: `papers`, the sink, the name and the digest of each paper that leaves because of it.
    """

    status: Literal["PASS", "FAIL", "INCONCLUSIVE", "INVALID"]
    label: str = ""
    counts: Mapping[str, int] = {}
    reasons: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    value: Mapping[str, Any] = {}
    #: How many outcomes by status: they add up to the roster.
    outcomes: Mapping[str, int] = {}
    #: The plan has nothing more for this tick.
    last: bool = True
    #: A stop rule, a deadline or a signal ended the round before all of it ran.
    stopped: str = ""
    #: How many papers leave because of it.
    papers: int = 0


class Compared(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """One field of two states, held against each other."""

    field: str
    #: A decimal as text: how much the field counts.
    weight: str
    #: How the two were compared, and how far they may be apart.
    tolerance: str
    within: str = ""
    matches: bool
    #: JSON text of both sides, cut when they are long; "": the side does not have the field.
    reported: str = ""
    recorded: str = ""


class StateReconciled(_Body, frozen=True, kw_only=True):
    """What was reported of a component was held, field by field, against what is recorded of it."""

    kind: str
    #: The id and the label of the round that it is about.
    round: str
    label: str
    component: str
    #: On whose behalf the component acts.
    agent: str
    #: The key of the run when the component is a function.
    key: str = ""
    #: "": there was nothing to judge by, as `problem` says.
    classification: Literal["", "NORMAL", "WARNING", "CATASTROPHIC"] = ""
    #: sum(w d) / sum(w), a decimal with six places; "" without a classification.
    score: str = ""
    fields: tuple[Compared, ...] = ()
    problem: str = ""


class SuspensionRequested(_Body, frozen=True, kw_only=True):
    """Somebody has to decide whether an agent is suspended: its states are too far apart."""

    kind: str
    round: str
    label: str
    component: str
    agent: str
    score: str
    #: The seq of state.reconciled.
    snapshot: int


class HaltRaised(_Body, frozen=True, kw_only=True):
    """The conductor stopped because the record or the machine cannot be trusted."""

    code: str
    message: str


class BlobErased(_Body, frozen=True, kw_only=True):
    """Captured bytes and their salt were deleted; every proof still holds."""

    digest: str
    reason: str


class ClockStepped(_Body, frozen=True, kw_only=True):
    """The wall clock moved against the monotonic clock."""

    step_ms: int


class ConductorStopped(_Body, frozen=True, kw_only=True):
    """A conductor let go of the store in good order."""

    #: "drained", or "signal" when work of a tick was left undone.
    reason: str
    signal: int = 0


class PersonKey(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """A public key of a person."""

    #: An OpenSSH public key without its comment: "ssh-ed25519 AAAA…".
    key: str
    #: "SHA256:…", as OpenSSH prints it.
    fingerprint: str
    #: Epoch ms; it signs from the first on and no more at the second; 0: no such bound.
    from_ms: int = 0
    until_ms: int = 0


class PersonAdded(_Body, frozen=True, kw_only=True):
    """A person may decide from here on; again for one who is known: what was changed."""

    id: str
    name: str
    roles: tuple[Role, ...]
    #: Keys that are added to those that the person has.
    keys: tuple[PersonKey, ...]
    #: Names under which the system knows the person, for the rule about authors.
    users: tuple[str, ...] = ()
    #: The digest of the owner's decision; empty only for the first person of a ledger.
    approved: str = ""


class PersonRevoked(_Body, frozen=True, kw_only=True):
    """A person, or one of their keys, decides nothing after this entry."""

    id: str
    reason: str
    #: The fingerprint of the key; empty for the person.
    key: str = ""
    #: The digest of the owner's decision.
    approved: str = ""


class Decision(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a person signs: its canonical bytes, in which every field stands."""

    v: Literal[1] = 1
    origin: str
    #: "round/ID", "tick/ID", "entry/SEQ", "spec/NAME", "agent/ID", "suspension/SEQ", …
    subject: str
    #: The RFC 6962 root over the leaf hashes of the entries that were seen.
    seen: str
    first_seq: int
    last_seq: int
    action: Act
    person: str
    reason: str
    #: Digests of what else was looked at.
    evidence: tuple[str, ...]
    #: When it counts no more, epoch ms; 0: it does not end.
    expires_ms: int
    made_ms: int


class DecisionMade(_Body, frozen=True, kw_only=True):
    """A person decided; the signature is over the canonical bytes of the document."""

    document: Decision
    #: The fingerprint of the key that signed.
    key: str
    #: The base64 of an SSHSIG, as `ssh-keygen -Y sign` makes it, without its armour.
    signature: str
    kind: Literal["sshsig"] = "sshsig"


class AgentKey(_Body, frozen=True, kw_only=True):
    """A key of an agent is in this state from here on."""

    agent: str
    state: Literal["PENDING", "ACTIVE", "DEPRECATED", "ARCHIVED"]
    #: The 32 bytes of an Ed25519 key, hex.
    key: str
    #: SHA-256 of them, hex.
    fingerprint: str
    #: Epoch ms; it signs records made from the first on and none at the second; 0: open.
    from_ms: int = 0
    until_ms: int = 0


class LogSealed(_Body, frozen=True, kw_only=True):
    """A segment of an input log is whole: what its blocks hash to is in the ledger."""

    #: The kind and the name of the spec that the log belongs to.
    kind: str
    name: str
    #: Segments are counted from 0 on.
    index: int
    first_seq: int
    last_seq: int
    #: How many blocks it has.
    blocks: int
    #: The RFC 6962 root over the digests of its blocks, hex.
    root: str
    #: The digest of its last block, hex: the block after it names it as the one before.
    head: str
    first_ms: int
    last_ms: int
    #: How many bytes its records have.
    bytes: int


class LogRetired(_Body, frozen=True, kw_only=True):
    """The blocks of some sealed segments of an input log were deleted."""

    kind: str
    name: str
    #: The first and the last of the segments.
    first: int
    last: int
    first_seq: int
    last_seq: int
    #: "age" or "count".
    reason: str


#: Entry type -> the type of its body. Additions only: a test holds the list against a frozen one.
BODIES: Final[Mapping[str, type[_Body]]] = {
    "ledger.opened": LedgerOpened,
    "ledger.adopted": LedgerAdopted,
    "key.added": KeyAdded,
    "key.retired": KeyRetired,
    "spec.applied": SpecApplied,
    "schedule.overridden": ScheduleOverridden,
    "schedule.changed": ScheduleChanged,
    "stream.opened": StreamOpened,
    "tick.passed": TickPassed,
    "tick.refused": TickRefused,
    "round.planned": RoundPlanned,
    "run.started": RunStarted,
    "run.deferred": RunDeferred,
    "run.finished": RunFinished,
    "round.judged": RoundJudged,
    "halt.raised": HaltRaised,
    "state.reconciled": StateReconciled,
    "suspension.requested": SuspensionRequested,
    "blob.erased": BlobErased,
    "clock.stepped": ClockStepped,
    "conductor.stopped": ConductorStopped,
    "person.added": PersonAdded,
    "person.revoked": PersonRevoked,
    "decision.made": DecisionMade,
    "agent.key": AgentKey,
    "log.sealed": LogSealed,
    "log.retired": LogRetired,
}
#: The type of a body -> its entry type.
TYPES: Final[Mapping[type, str]] = {body: name for name, body in BODIES.items()}
#: A seal follows at once after these.
SEALED_AT_ONCE: Final = frozenset(
    {"ledger.opened", "ledger.adopted", "key.added", "halt.raised"}
) | {
    "person.added",
    "person.revoked",
    "decision.made",
    "agent.key",
}
#: Bodies whose rows are made of the entry alone, in `drive.fold`.
FOLDED: Final = frozenset(
    {PersonAdded, PersonRevoked, DecisionMade, AgentKey, LogSealed, LogRetired}
)


class Actor(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Who caused an entry."""

    kind: Literal["conductor", "person", "schedule"] = "conductor"
    id: str = ""


class Draft(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An entry before it has a place in the ledger."""

    #: One of the body types of BODIES.
    body: Any
    #: The id of the run, the round or the tick that it belongs to, and its count in it from 0.
    run: str = ""
    round: str = ""
    tick: str = ""
    n: int = 0
    actor: Actor = Actor()
    blobs: tuple[Blob, ...] = ()
    #: The seq of the entry that it corrects.
    sup: int | None = None
    #: The mappings and lists in its body were read from canonical bytes.
    fits: bool = False


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """An entry as it is stored; `body` is of the type that BODIES names for `type`."""

    v: int
    origin: str
    seq: int
    prev: str
    ts: int
    type: str
    n: int
    actor: Actor
    body: Any
    run: str = ""
    round: str = ""
    tick: str = ""
    blobs: tuple[Blob, ...] = ()
    sup: int | None = None


class Header(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The part of an entry that a fast pass over a ledger reads."""

    origin: str
    seq: int
    prev: str
    type: str
    n: int
    run: str = ""
    round: str = ""
    tick: str = ""


class _Typed(Entry, Generic[_B], frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """An entry whose body has to be of one type, and that knows no other field."""

    body: _B


def decode(raw: bytes) -> Entry:
    """Return the entry that bytes hold, its body typed.

    Raises: msgspec.DecodeError or ValidationError for bytes that are not an entry.
    """
    decoder = _BY_TAIL.get(tail_of(raw))
    if decoder is None:
        heading = _HEADING.decode(raw)
        decoder = decoder_of(heading.type, heading.v)
    entry: Entry = decoder.decode(raw)
    return entry


def tail_of(raw: bytes) -> bytes:
    """Return the end of an entry's bytes that says type and version.

    Keys are sorted, so canonical bytes end with the two, and one pass is enough to decode them.
    """
    return raw[raw.rfind(TYPE_MARK) :]


def tail_for(name: str) -> bytes:
    """Return the end of the bytes of every entry of a type."""
    return b'%s%s","v":%d}' % (TYPE_MARK, name.encode(), FORMAT)


def decoder_of(name: str, version: int = FORMAT) -> msgspec.json.Decoder[Any]:
    """Return the decoder of the entries of a type. Raises: msgspec.ValidationError if unknown."""
    kind = BODIES.get(name)
    if kind is None or version != FORMAT:
        msg = f"unknown entry type {name!r} of version {version}"
        raise msgspec.ValidationError(msg)
    tail = tail_for(name)
    decoder = _BY_TAIL.get(tail)
    if decoder is None:
        typed: Any = _Typed
        decoder = _BY_TAIL[tail] = msgspec.json.Decoder(typed[kind])
    return decoder


class _Heading(msgspec.Struct, frozen=True):
    """The part of an entry that says how to read it."""

    type: str
    v: int


_HEADING: Final = msgspec.json.Decoder(_Heading)
#: Where the end of canonical bytes starts that says type and version.
TYPE_MARK: Final = b'"type":"'
#: That end -> the decoder of the type, filled as types are met.
_BY_TAIL: Final[dict[bytes, msgspec.json.Decoder[Any]]] = {}
