"""What people and agents signed, held against the record: part of `verify`.

People are folded as the entries come, so each decision meets the people as they stood then. What
a decision was about, and the entries that agents signed, are read again at the end, when the whole
record was hashed; agents' keys are asked by the time at which a record was made.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import NamedTuple

import msgspec

from runwright.kernel.canonical import digest
from runwright.kernel.errors import NotCanonical
from runwright.kernel.people import (
    NAMESPACE,
    People,
    act_objection,
    agent_key_held,
    agent_key_objection,
    author_objection,
    authors_of,
    document_bytes,
    key_objection,
    misfit,
)
from runwright.kernel.record import sshsig
from runwright.kernel.record.entries import (
    AgentKey,
    Decision,
    DecisionMade,
    Entry,
    PersonAdded,
    PersonRevoked,
    RoundPlanned,
    decode,
)
from runwright.kernel.record.ledger import StoredEntry, leaf_hash, root_of
from runwright.kernel.record.seal import verifies


class AgentSignature(msgspec.Struct, frozen=True, kw_only=True):
    """An agent's Ed25519 signature over the leaf hash of an entry."""

    seq: int
    agent: str
    #: The fingerprint of the key, and 64 bytes in hex; empty while it waits for the next seal.
    key: str = ""
    value: str = ""


class _Made(NamedTuple):
    seq: int
    document: Decision


class Signed:
    """Takes in the entries of people and agents, and says which sentences they break."""

    def __init__(self, add: Callable[[str, int | None, str], None]) -> None:
        """Report what is wrong to `add`: a word, the seq, the detail."""
        self._add = add
        self._people = People()
        self._approvals: dict[str, Decision] = {}
        self._documents: set[str] = set()
        self._made: list[_Made] = []
        self._agents: dict[str, dict[str, AgentKey]] = {}

    # ---------------------------------------------------------------------------------- entries

    def changed(self, entry: Entry, seq: int) -> None:
        """Take in a change of the people."""
        body: PersonAdded | PersonRevoked = entry.body
        approval = self._approvals.pop(body.approved, None)
        if isinstance(body, PersonAdded):
            wrong = self._people.add_objection(body, approval)
            self._people.add(body)
        else:
            wrong = self._people.revoke_objection(body, approval)
            self._people.revoke(body)
        if wrong:
            self._add("people", seq, f"entry {seq}: {wrong}")

    def decided(self, entry: Entry, seq: int) -> None:
        """Take in a decision: who signed it, and whether they may."""
        body: DecisionMade = entry.body
        document = body.document
        try:
            data = document_bytes(document)
        except NotCanonical as error:
            self._add("decided", seq, f"entry {seq}: {error}")
            return
        person = self._people.persons.get(document.person)
        wrong = key_objection(document, body.key, person, entry.ts)
        if not wrong and person is not None:
            key = person.keys[body.key].key
            wrong = sshsig.objection(body.signature, data, key, NAMESPACE)
        if wrong:
            self._add("decided", seq, f"the signature of entry {seq}: {wrong}")
        named = digest(data)
        again = "it was made before" if named in self._documents else ""
        wrong = again or act_objection(document, person, entry.origin, entry.ts)
        if wrong:
            self._add("allowed", seq, f"entry {seq}: {wrong}")
        self._documents.add(named)
        if document.subject.startswith("person/"):
            self._approvals[named] = document
        self._made.append(_Made(seq, document))

    def keyed(self, entry: Entry, seq: int) -> None:
        """Take in a state of an agent's key."""
        body: AgentKey = entry.body
        keys = self._agents.setdefault(body.agent, {})
        wrong = agent_key_objection(keys.get(body.fingerprint), body)
        is_second = body.state == "ACTIVE" and any(
            key.state == "ACTIVE" and key.fingerprint != body.fingerprint for key in keys.values()
        )
        if wrong or is_second:
            self._add("agent-keys", seq, f"entry {seq}: {wrong or 'a second key is ACTIVE'}")
        keys[body.fingerprint] = body

    # ----------------------------------------------------------------------------------- the end

    def close(
        self,
        again: Callable[[int, int], Iterable[StoredEntry]] | None,
        agents_of: Callable[[RoundPlanned], Collection[str]],
        signatures: Iterable[AgentSignature],
        sealed: int,
    ) -> None:
        """Hold decisions and signatures against the entries that they name.

        `again` reads entries a second time, first to stop; `sealed` is how far a trusted seal goes.
        """
        for made in self._made:
            self._looked(made, again, agents_of)
        for signature in signatures:
            self._signed(signature, again, sealed)

    def _looked(
        self,
        made: _Made,
        again: Callable[[int, int], Iterable[StoredEntry]] | None,
        agents_of: Callable[[RoundPlanned], Collection[str]],
    ) -> None:
        seq, document = made
        first, last = document.first_seq, document.last_seq
        is_later = last >= seq or first > last
        if document.subject.startswith("person/"):
            entries, raws = [], []
        elif again is None or is_later or first < 0:
            self._add("looked", seq, f"entry {seq} is about entries that are not before it")
            return
        else:
            raws = [stored.raw for stored in again(first, last + 1)]
            entries = _decoded(raws)
        wrong = misfit(document, entries)
        if not wrong and raws and root_of(list(map(leaf_hash, raws))).hex() != document.seen:
            wrong = f"entries {first} to {last} are not those that were seen"
        if wrong:
            self._add("looked", seq, f"entry {seq}: {wrong}")
            return
        rosters = {
            entry.seq: agents_of(entry.body)
            for entry in entries
            if isinstance(entry.body, RoundPlanned)
        }
        person = self._people.persons.get(document.person)
        if not document.subject.startswith("person/"):
            wrong = author_objection(person, authors_of(document, entries, rosters))
        if wrong:
            self._add("allowed", seq, f"entry {seq}: {wrong}")

    def _signed(
        self,
        signature: AgentSignature,
        again: Callable[[int, int], Iterable[StoredEntry]] | None,
        sealed: int,
    ) -> None:
        seq = signature.seq
        if not signature.value:
            if seq < sealed:
                self._add("unsigned", seq, f"entry {seq} waits for {signature.agent}")
            return
        found = list(again(seq, seq + 1)) if again is not None else []
        entries = _decoded([stored.raw for stored in found])
        if not entries:
            self._add("agents", seq, f"{signature.agent} signed entry {seq}, which is not there")
            return
        wrong = self._unheld(signature, found[0].raw, entries[0].ts)
        if wrong:
            self._add("agents", seq, f"the signature of {signature.agent} on entry {seq}: {wrong}")

    def _unheld(self, signature: AgentSignature, raw: bytes, at_ms: int) -> str:
        key = self._agents.get(signature.agent, {}).get(signature.key)
        if key is None:
            return f"{signature.key[:16]} is no key of this agent"
        if not agent_key_held(key, at_ms):
            return "the record was made when its key did not sign"
        try:
            public, data = bytes.fromhex(key.key), bytes.fromhex(signature.value)
        except ValueError:
            return "it is not hex"
        return "" if verifies(public, data, leaf_hash(raw)) else "it is not over this entry"


def _decoded(raws: Sequence[bytes]) -> list[Entry]:
    """Return the entries that can be read; one that cannot leaves a gap, which is seen."""
    entries = []
    for raw in raws:
        try:
            entries.append(decode(raw))
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
    return entries
