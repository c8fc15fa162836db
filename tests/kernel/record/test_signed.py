"""Each sentence about people and agents can be broken alone, by a forger who seals it all again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from runwright.kernel.people import NAMESPACE, document_bytes
from runwright.kernel.record import entries, sshsig
from runwright.kernel.record.entries import PersonRevoked
from runwright.kernel.record.verify import Report, verify
from tests.kernel.record.forge import broken, private
from tests.kernel.record.signing import (
    AGENT,
    AGENT_NEXT,
    ATTESTED,
    AUDITOR,
    HOUR_MS,
    OLD,
    OWNER,
    ROUND,
    STEPPED,
    STRANGER,
    Signing,
    agent_key,
    decided,
    person_key,
    vega,
)


def test_a_ledger_in_which_people_decided_and_agents_signed_holds() -> None:
    report = decided().verify()
    assert broken(report) == set()
    assert report.held
    assert report.judged == 1


def reworded(book: Signing) -> Report:
    """The reason is another one than was signed."""
    body = book.drafts[ATTESTED].body
    altered = msgspec.structs.replace(body.document, reason="looked at it twice")
    book.change(ATTESTED, body={"document": altered})
    return book.verify()


def taken_over(book: Signing) -> Report:
    """Somebody else's signature stands under it."""
    body = book.drafts[ATTESTED].body
    data = document_bytes(body.document)
    book.change(ATTESTED, body={"signature": sshsig.sign(private(STRANGER), data, NAMESPACE)})
    return book.verify()


def elsewhere(book: Signing) -> Report:
    """It was signed for another purpose."""
    body = book.drafts[ATTESTED].body
    data = document_bytes(body.document)
    book.change(ATTESTED, body={"signature": sshsig.sign(private(AUDITOR), data, "file")})
    return book.verify()


def unsigned_decision(book: Signing) -> Report:
    book.change(ATTESTED, body={"signature": ""})
    return book.verify()


def unknown_key(book: Signing) -> Report:
    """The owner signs in the name of the auditor."""
    document = book.drafts[ATTESTED].body.document
    del book.drafts[ATTESTED:]
    book.decide(document, OWNER)
    book.seals, book.signed = [], []
    return book.verify()


def revoked_key(book: Signing) -> Report:
    """Its key was revoked before."""
    again = msgspec.structs.replace(
        book.drafts[ATTESTED].body.document,
        reason="and again",
        made_ms=book.at(len(book.drafts)),
    )
    key = person_key(AUDITOR).fingerprint
    book.approve(PersonRevoked(id="VEGA", key=key, reason="lost"))
    book.decide(again)
    return book.verify()


def ended_key(book: Signing) -> Report:
    """Its key had ended when it was recorded, though not when it says that it was made."""
    until_ms = book.at(ATTESTED)
    del book.drafts[3:]
    book.seals, book.signed = [], []
    book.approve(vega(keys=(person_key(AUDITOR, until_ms=until_ms),)))
    book.round("baseline")
    book.decide(
        book.document(
            f"round/{book.drafts[ROUND].round}", ROUND, ROUND + 3, made_ms=until_ms - 60_000
        )
    )
    return book.verify()


def unborn_key(book: Signing) -> Report:
    del book.drafts[3:]
    book.seals, book.signed = [], []
    book.approve(vega(keys=(person_key(AUDITOR, from_ms=book.at(ATTESTED) + 1),)))
    book.round("baseline")
    book.decide(book.document(f"round/{book.drafts[ROUND].round}", ROUND, ROUND + 3))
    return book.verify()


def of(book: Signing, **fields: Any) -> Report:
    """Somebody decides something else about the same round, properly signed."""
    number = fields.pop("number", AUDITOR)
    identity = book.drafts[ROUND].round
    named = fields.pop("subject", f"round/{identity}")
    book.decide(book.document(named, ROUND, ROUND + 3, **fields), number)
    return book.verify()


def approved_by_an_auditor(book: Signing) -> Report:
    return of(book, action="approve")


def frozen_by_an_auditor(book: Signing) -> Report:
    return of(book, action="freeze")


def attested_by_an_owner(book: Signing) -> Report:
    return of(book, person="ada", number=OWNER)


def of_the_future(book: Signing) -> Report:
    return of(book, made_ms=book.at(len(book.drafts)) + HOUR_MS)


def expired(book: Signing) -> Report:
    return of(book, expires_ms=book.at(len(book.drafts)))


def of_another_ledger(book: Signing) -> Report:
    return of(book, origin="example.org/other")


def without_a_reason(book: Signing) -> Report:
    return of(book, reason=" ")


def revoked_person(book: Signing) -> Report:
    book.approve(PersonRevoked(id="VEGA", reason="left"))
    return of(book)


def made_twice(book: Signing) -> Report:
    book.decide(book.drafts[ATTESTED].body.document)
    return book.verify()


def by_its_author(book: Signing) -> Report:
    """The auditor asked for the round."""
    book.drafts[ROUND] = msgspec.structs.replace(
        book.drafts[ROUND], actor=entries.Actor(kind="person", id="vega")
    )
    del book.drafts[ATTESTED:]
    book.seals, book.signed = [], []
    return of(book)


def other_root(book: Signing) -> Report:
    return of(book, seen="ab" * 32)


def other_subject(book: Signing) -> Report:
    return of(book, subject=f"round/{'ab' * 32}")


def shorter_range(book: Signing) -> Report:
    identity = book.drafts[ROUND].round
    book.decide(book.document(f"round/{identity}", ROUND, ROUND + 2))
    return book.verify()


def not_there_yet(book: Signing) -> Report:
    seq = len(book.drafts)
    book.decide(book.document(f"entry/{seq}", seq, seq, seen="ab" * 32))
    return book.verify()


def unapproved(book: Signing) -> Report:
    book.write(vega(id="eve", name="Eve", keys=(person_key(STRANGER),)))
    return book.verify()


def approved_for_another(book: Signing) -> Report:
    """An approval is used for another key than the one that was seen."""
    seq = book.approve(vega(id="eve", name="Eve", keys=(person_key(STRANGER),)))
    book.change(seq, body={"name": "Mallory"})
    return book.verify()


def approved_once_used_twice(book: Signing) -> Report:
    seq = book.approve(vega(id="eve", name="Eve", keys=(person_key(STRANGER),)))
    book.drafts.append(book.drafts[seq])
    return book.verify()


def second_first(book: Signing) -> Report:
    """The first person is no owner."""
    del book.drafts[2:]
    book.seals, book.signed = [], []
    book.write(vega())
    return book.verify()


def goes_back(book: Signing) -> Report:
    book.write(agent_key(AGENT))
    return book.verify()


def two_active(book: Signing) -> Report:
    book.write(agent_key(STRANGER))
    return book.verify()


def longer_lived(book: Signing) -> Report:
    until_ms = book.drafts[OLD].body.until_ms + HOUR_MS
    book.write(agent_key(AGENT, "ARCHIVED", until_ms=until_ms))
    return book.verify()


def moved(book: Signing) -> Report:
    """A signature stands at another entry than the one that was signed."""
    first, *others = book.signatures()
    moved = msgspec.structs.replace(first, seq=first.seq + 1)
    return book.verify(signatures=[moved, *others])


def after_its_end(book: Signing) -> Report:
    """The old key signs a record that was made after its end."""
    seq = book.write(entries.ClockStepped(step_ms=3000))
    book.times[seq] = book.drafts[OLD].body.until_ms
    book.signed.append((seq, "FINN", AGENT))
    book.seals = []
    return book.verify()


def before_it_began(book: Signing) -> Report:
    book.signed.append((ROUND + 1, "FINN", AGENT_NEXT))
    return book.verify()


def by_another_agent(book: Signing) -> Report:
    book.signed.append((ROUND + 1, "STIG", AGENT))
    return book.verify()


def never_introduced(book: Signing) -> Report:
    book.signed.append((ROUND + 1, "FINN", STRANGER))
    return book.verify()


def of_no_entry(book: Signing) -> Report:
    first, *others = book.signatures()
    return book.verify(signatures=[*others, msgspec.structs.replace(first, seq=99)])


def missing(book: Signing) -> Report:
    first, *others = book.signatures()
    waits = msgspec.structs.replace(first, key="", value="")
    return book.verify(signatures=[waits, *others])


END = STEPPED + 1
FORGERS: list[tuple[str, Callable[[Signing], Report], int]] = [
    ("decided", reworded, ATTESTED),
    ("decided", taken_over, ATTESTED),
    ("decided", elsewhere, ATTESTED),
    ("decided", unsigned_decision, ATTESTED),
    ("decided", unknown_key, ATTESTED),
    ("decided", revoked_key, END + 2),
    ("decided", ended_key, ATTESTED),
    ("decided", unborn_key, ATTESTED),
    ("allowed", approved_by_an_auditor, END),
    ("allowed", frozen_by_an_auditor, END),
    ("allowed", attested_by_an_owner, END),
    ("allowed", of_the_future, END),
    ("allowed", expired, END),
    ("allowed", of_another_ledger, END),
    ("allowed", without_a_reason, END),
    ("allowed", revoked_person, END + 2),
    ("allowed", made_twice, END),
    ("allowed", by_its_author, ATTESTED),
    ("looked", other_root, END),
    ("looked", other_subject, END),
    ("looked", shorter_range, END),
    ("looked", not_there_yet, END),
    ("people", unapproved, END),
    ("people", approved_for_another, END + 1),
    ("people", approved_once_used_twice, END + 2),
    ("people", second_first, 2),
    ("agent-keys", goes_back, END),
    ("agent-keys", two_active, END),
    ("agent-keys", longer_lived, END),
    ("agents", moved, ROUND + 3),
    ("agents", after_its_end, END),
    ("agents", before_it_began, ROUND + 1),
    ("agents", by_another_agent, ROUND + 1),
    ("agents", never_introduced, ROUND + 1),
    ("agents", of_no_entry, 99),
    ("unsigned", missing, ROUND + 2),
]
#: The sentences that are broken here.
WORDS = {word for word, _, _ in FORGERS}


@pytest.mark.parametrize(
    ("word", "forge", "first"), FORGERS, ids=lambda value: getattr(value, "__name__", None)
)
def test_a_forgery_breaks_only_its_sentence(
    word: str, forge: Callable[[Signing], Report], first: int
) -> None:
    report = forge(decided())
    assert {(c.word, c.detail) for c in report.checks if not c.held and c.word != word} == set()
    assert broken(report) == {word}
    assert report.first_bad == first


def test_a_record_of_a_key_that_is_archived_since_holds() -> None:
    book = decided()
    until_ms = book.drafts[OLD].body.until_ms
    book.write(agent_key(AGENT, "ARCHIVED", until_ms=until_ms))
    assert broken(book.verify()) == set()


def test_a_decision_of_somebody_who_was_revoked_later_holds() -> None:
    book = decided()
    book.approve(PersonRevoked(id="VEGA", reason="left"))
    assert broken(book.verify()) == set()


def test_entries_that_cannot_be_read_again_are_not_taken_for_looked_at() -> None:
    book = decided()
    stored = book.stored()
    evidence = msgspec.structs.replace(book.evidence(), entries=iter(stored))
    assert {"looked", "agents"} <= broken(verify(evidence))
