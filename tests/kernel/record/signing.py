"""Ledgers in which people decided and agents signed, honest or forged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from runwright.kernel.canonical import digest
from runwright.kernel.people import NAMESPACE, change_digest, document_bytes, fingerprint_of
from runwright.kernel.record import entries, ledger, sshsig
from runwright.kernel.record.entries import AgentKey, Decision, PersonAdded, PersonKey
from runwright.kernel.record.ledger import Head, StoredEntry
from runwright.kernel.record.signed import AgentSignature
from runwright.kernel.record.verify import Evidence
from tests.kernel.record.forge import ORIGIN, TS_MS, Book, opened, private, public

HOUR_MS = 3_600_000
#: Whose key is which.
OWNER, AUDITOR, STRANGER, AGENT, AGENT_NEXT = 21, 22, 23, 31, 32


def ssh_key(number: int) -> str:
    """Return the public half of a key as OpenSSH writes it."""
    signature = sshsig.sign(private(number), b"", NAMESPACE)
    return sshsig.key_of(signature)


def person_key(number: int, **bounds: int) -> PersonKey:
    key = ssh_key(number)
    return PersonKey(key=key, fingerprint=fingerprint_of(key), **bounds)


def agent_key(number: int, state: Any = "ACTIVE", agent: str = "FINN", **fields: int) -> AgentKey:
    raw = public(number).public
    bounds = {"from_ms": TS_MS, **fields}
    return AgentKey(agent=agent, state=state, key=raw.hex(), fingerprint=digest(raw), **bounds)


class Signing(Book):
    """A ledger whose entries have times of their own, with what agents signed of them."""

    def __init__(self, book: Book) -> None:
        super().__init__()
        self.drafts, self.contents, self.seals = book.drafts, book.contents, book.seals
        #: seq -> when; one minute after the other unless it is said here.
        self.times: dict[int, int] = {}
        self.signed: list[tuple[int, str, int]] = []

    def at(self, seq: int) -> int:
        return self.times.get(seq, TS_MS + seq * 60_000)

    def chained(self, raws: Sequence[bytes | None]) -> list[StoredEntry]:
        found: list[StoredEntry] = []
        head = Head()
        for seq, draft in enumerate(self.drafts):
            entry = ledger.append(head, ORIGIN, self.at(seq), [draft]).entries[0]
            found.append(entry)
            head = ledger.extend(head, [entry.leaf])
        return found

    def evidence(self, **fields: Any) -> Evidence:
        if "signatures" not in fields:
            fields["signatures"] = self.signatures()
        return super().evidence(**fields)

    def signatures(self) -> list[AgentSignature]:
        stored = self.stored()
        return [
            AgentSignature(
                seq=seq,
                agent=agent,
                key=digest(public(number).public),
                value=private(number).sign(stored[seq].leaf).hex(),
            )
            for seq, agent, number in self.signed
        ]

    # -- acts

    def document(self, subject: str, first: int, last: int, **fields: Any) -> Decision:
        leaves = [entry.leaf for entry in self.stored()[first : last + 1]]
        values = {
            "origin": ORIGIN,
            "subject": subject,
            "seen": ledger.root_of(leaves).hex(),
            "first_seq": first,
            "last_seq": last,
            "action": "attest",
            "person": "VEGA",
            "reason": "looked at it",
            "evidence": (),
            "expires_ms": 0,
            "made_ms": self.at(len(self.drafts)),
        }
        return Decision(**{**values, **fields})

    def decide(self, document: Decision, number: int = AUDITOR) -> int:
        data = document_bytes(document)
        body = entries.DecisionMade(
            document=document,
            key=fingerprint_of(ssh_key(number)),
            signature=sshsig.sign(private(number), data, NAMESPACE),
        )
        actor = entries.Actor(kind="person", id=document.person)
        return self.write(body, actor=actor)

    def approve(self, change: Any, **fields: Any) -> int:
        """Write an owner's approval of a change of the people, and the change."""
        document = self.document(
            f"person/{change.id}",
            -1,
            -1,
            **{"seen": change_digest(change), "action": "approve", "person": "ada", **fields},
        )
        self.decide(document, OWNER)
        approved = digest(document_bytes(document))
        return self.write(type(change)(**{**_fields(change), "approved": approved}))


def _fields(change: Any) -> dict[str, Any]:
    return {name: getattr(change, name) for name in change.__struct_fields__}


def vega(**fields: Any) -> PersonAdded:
    values = {"id": "VEGA", "name": "Vega", "roles": ("auditor",), "keys": (person_key(AUDITOR),)}
    return PersonAdded(**{**values, **fields})


#: 0 opened, 1 agent's key, 2 first person, 3 and 4 the auditor, 5..8 a round, 9 attested,
#: 10 the agent's old key, 11 its next one, 12 stepped.
ROUND, ATTESTED, OLD, STEPPED = 5, 9, 10, 12


def decided() -> Signing:
    """Return a ledger in which a round was attested, and that an agent signed with two keys."""
    book = Signing(opened())
    book.write(agent_key(AGENT))
    ada = PersonAdded(id="ada", name="Ada", roles=("owner",), keys=(person_key(OWNER),))
    book.write(ada)
    book.approve(vega())
    assert book.round("baseline") == ROUND
    identity = book.drafts[ROUND].round
    book.decide(book.document(f"round/{identity}", ROUND, ROUND + 3))
    end = book.at(OLD) + HOUR_MS
    book.write(agent_key(AGENT, "DEPRECATED", until_ms=end))
    book.write(agent_key(AGENT_NEXT, from_ms=book.at(OLD + 1)))
    book.write(entries.ClockStepped(step_ms=2500))
    book.seal()
    book.signed = [(ROUND + 2, "FINN", AGENT), (STEPPED, "FINN", AGENT_NEXT)]
    return book
