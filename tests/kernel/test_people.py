"""Who may decide what, for every role, act and subject, and at every instant."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runwright.kernel.canonical import digest
from runwright.kernel.people import (
    ACTIONS,
    AGENT_STATES,
    ALLOWED,
    ROLES,
    SUBJECTS,
    HeldKey,
    People,
    Person,
    act_objection,
    agent_key_held,
    agent_key_objection,
    author_objection,
    change_digest,
    document_digest,
    key_objection,
    malformed,
    stand,
)
from runwright.kernel.record.entries import AgentKey, Decision, PersonAdded, PersonRevoked
from tests.kernel.record.signing import person_key

ORIGIN = "example.org/ledger"
NOW_MS = 1_763_632_800_000
NAMES = {
    "round": "ab" * 32,
    "tick": "cd" * 32,
    "entry": "7",
    "suspension": "8",
    "spec": "demo",
    "agent": "FINN",
    "budget": "calls",
    "person": "eve",
}
instants = st.integers(1, 2**53 - 1)


def document(**fields: Any) -> Decision:
    values = {
        "origin": ORIGIN,
        "subject": "spec/demo",
        "seen": "ab" * 32,
        "first_seq": 3,
        "last_seq": 3,
        "action": "freeze",
        "person": "ada",
        "reason": "because",
        "evidence": (),
        "expires_ms": 0,
        "made_ms": NOW_MS,
    }
    return Decision(**{**values, **fields})


def person(*roles: Any, **fields: Any) -> Person:
    return Person(**{"id": "ada", "name": "Ada", "roles": roles, **fields})


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("kind", SUBJECTS)
@pytest.mark.parametrize("action", ACTIONS)
def test_a_role_may_do_what_its_table_says_and_nothing_else(
    role: str, kind: str, action: str
) -> None:
    asked = document(subject=f"{kind}/{NAMES[kind]}", action=action)
    objection = act_objection(asked, person(role), ORIGIN, NOW_MS)
    may = action in ALLOWED[role] and action in SUBJECTS[kind]
    may = may and (kind != "person" or role == "owner")
    assert (objection == "") == may, objection


def test_an_auditor_attests_and_acknowledges_and_nothing_else() -> None:
    assert ALLOWED["auditor"] == {"attest", "acknowledge"}
    assert [role for role in ROLES if "attest" in ALLOWED[role]] == ["auditor"]


@given(made=instants, at=instants, begins=instants, ends=st.one_of(st.just(0), instants))
def test_a_key_signs_exactly_within_its_bounds(made: int, at: int, begins: int, ends: int) -> None:
    key = HeldKey(key="k", fingerprint="f", from_ms=begins, until_ms=ends)
    held = person("owner", keys={"f": key})
    inside = all(begins <= when and (not ends or when < ends) for when in (made, at))
    assert (key_objection(document(made_ms=made), "f", held, at) == "") == inside
    key.revoked = True
    assert "revoked" in key_objection(document(made_ms=made), "f", held, at)
    assert "no key of ada" in key_objection(document(made_ms=made), "other", held, at)


@given(expires=instants, at=instants)
def test_an_expired_decision_is_refused(expires: int, at: int) -> None:
    asked = document(expires_ms=expires, made_ms=min(at, expires))
    assert (act_objection(asked, person("owner"), ORIGIN, at) == "it has expired") == (
        expires <= at
    )


@given(field=st.sampled_from(["subject", "person", "reason", "seen", "origin"]), data=st.data())
def test_another_document_has_another_digest(field: str, data: st.DataObject) -> None:
    text = data.draw(st.text(st.characters(codec="utf-8"), max_size=40))
    other = document(**{field: text})
    same = getattr(document(), field) == text
    assert (document_digest(other) == document_digest(document())) == same


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"subject": "demo"}, "subject"),
        ({"subject": "spec/"}, "subject"),
        ({"subject": "entry/01"}, "subject"),
        ({"subject": "round/abc"}, "subject"),
        ({"subject": "moon/1"}, "subject"),
        ({"person": "../ada"}, "person"),
        ({"reason": "  "}, "reason"),
        ({"reason": "x" * 2001}, "reason"),
        ({"reason": "a\x1b[2J"}, "reason"),
        ({"evidence": ("AB" * 32,)}, "evidence"),
        ({"evidence": ("ab" * 32,) * 33}, "evidence"),
        ({"seen": ""}, "evidence"),
        ({"made_ms": 0}, "made_ms"),
        ({"expires_ms": -1}, "expires_ms"),
        ({"expires_ms": 2**53}, "expires_ms"),
    ],
)
def test_a_document_of_another_form_is_refused(fields: dict[str, Any], reason: str) -> None:
    assert reason in malformed(document(**fields))
    assert malformed(document()) == ""


@pytest.mark.parametrize("author", ["ada", "ADA", "alovelace"])
def test_nobody_decides_about_their_own_work(author: str) -> None:
    ada = person("owner", users=("alovelace",))
    assert "somebody else has to decide" in author_objection(ada, {author, "FINN"})
    assert author_objection(ada, {"bob", "FINN"}) == ""


def test_a_person_who_was_revoked_decides_nothing() -> None:
    assert act_objection(document(), person("owner", revoked=True), ORIGIN, NOW_MS)
    assert act_objection(document(), None, ORIGIN, NOW_MS)


# ---------------------------------------------------------------------------------- what stands


def row(action: str, expires_ms: int = 0) -> dict[str, Any]:
    return {"action": action, "expires_ms": expires_ms, "seq": 1}


acts = st.lists(
    st.tuples(
        st.sampled_from(["freeze", "continue", "close", "acknowledge"]),
        st.one_of(st.just(0), st.integers(NOW_MS - 5, NOW_MS + 5)),
    ),
    max_size=8,
)


@given(acts)
def test_the_last_word_that_has_not_expired_stands(made: list[tuple[str, int]]) -> None:
    found = stand([row(*each) for each in made], NOW_MS)
    valid = [action for action, ends in made if not ends or ends > NOW_MS]
    words = [action for action in valid if action in ("freeze", "continue")]
    stops = "close" in valid or words[-1:] == ["freeze"]
    assert (found is not None) == stops


# --------------------------------------------------------------------------------------- people


def added(number: int, **fields: Any) -> PersonAdded:
    values = {"id": "ada", "name": "Ada", "roles": ("owner",), "keys": (person_key(number),)}
    return PersonAdded(**{**values, **fields})


def approval(change: PersonAdded | PersonRevoked, by: str = "ada") -> Decision:
    return document(
        subject=f"person/{change.id}", action="approve", seen=change_digest(change), person=by
    )


def registry() -> People:
    people = People()
    people.add(added(1))
    people.add(added(2, id="bob", name="Bob", roles=("owner", "operator")))
    return people


def test_the_first_person_is_an_owner() -> None:
    assert People().add_objection(added(1), None) == ""
    assert "owner" in People().add_objection(added(1, roles=("approver",)), None)


def test_everybody_after_the_first_is_approved_for_exactly_what_is_recorded() -> None:
    eve = added(3, id="eve", name="Eve", roles=("approver",))
    people = registry()
    assert "no owner approved" in people.add_objection(eve, None)
    assert people.add_objection(eve, approval(eve)) == ""
    other = added(3, id="eve", name="Eve", roles=("owner",))
    assert "is not this change" in people.add_objection(other, approval(eve))


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"roles": ()}, "at least one"),
        ({"roles": ("auditor", "owner")}, "no other role"),
        ({"roles": ("owner", "owner")}, "each once"),
        ({"keys": ()}, "at least one"),
        ({"keys": (person_key(1),)}, "is a key of ada"),
        ({"keys": (person_key(3, from_ms=5, until_ms=5),)}, "ends before it begins"),
        ({"id": "a b"}, "no id"),
        ({"name": " "}, "no name"),
    ],
)
def test_a_person_of_another_form_is_refused(fields: dict[str, Any], reason: str) -> None:
    eve = added(3, **{"id": "eve", "name": "Eve", **fields})
    assert reason in registry().add_objection(eve, approval(eve))


def test_nobody_changes_their_own_roles() -> None:
    bob = added(4, id="bob", name="Bob", roles=("owner", "approver"))
    assert "their own roles" in registry().add_objection(bob, approval(bob, "bob"))
    assert registry().add_objection(bob, approval(bob, "ada")) == ""
    same = added(4, id="bob", name="Bob", roles=("owner", "operator"))
    assert registry().add_objection(same, approval(same, "bob")) == ""


def test_the_last_owner_stays() -> None:
    people = registry()
    gone = PersonRevoked(id="bob", reason="left")
    assert people.revoke_objection(gone, approval(gone)) == ""
    people.revoke(gone)
    last = PersonRevoked(id="ada", reason="left")
    assert "last owner" in people.revoke_objection(last, approval(last))
    key = PersonRevoked(id="ada", reason="lost", key=person_key(1).fingerprint)
    assert "last owner" in people.revoke_objection(key, approval(key))
    lesser = added(5, roles=("approver",))
    assert "last owner" in people.add_objection(lesser, approval(lesser, "bob"))


def test_an_id_and_a_key_that_were_revoked_never_come_back() -> None:
    people = registry()
    people.revoke(PersonRevoked(id="bob", reason="left"))
    bob = added(6, id="bob", name="Bob")
    assert "never used again" in people.add_objection(bob, approval(bob))
    people.add(added(7))
    people.revoke(PersonRevoked(id="ada", reason="lost", key=person_key(7).fingerprint))
    again = added(7)
    assert "was revoked" in people.add_objection(again, approval(again, "bob"))


# --------------------------------------------------------------------------------------- agents


@given(
    before=st.sampled_from(AGENT_STATES),
    after=st.sampled_from(AGENT_STATES),
    grace=st.integers(1, 10**9),
)
def test_a_key_of_an_agent_only_goes_forward(before: str, after: str, grace: int) -> None:
    raw = b"\x05" * 32

    def key(state: Any) -> AgentKey:
        ends = NOW_MS + grace if state in ("DEPRECATED", "ARCHIVED") else 0
        begins = 0 if state == "PENDING" else NOW_MS
        return AgentKey(
            agent="FINN",
            state=state,
            key=raw.hex(),
            fingerprint=digest(raw),
            from_ms=begins,
            until_ms=ends,
        )

    forward = AGENT_STATES.index(after) > AGENT_STATES.index(before)
    assert (agent_key_objection(key(before), key(after)) == "") == forward
    held = agent_key_held(key(after), NOW_MS)
    assert held == (after != "PENDING")
    if after in ("DEPRECATED", "ARCHIVED"):
        assert not agent_key_held(key(after), NOW_MS + grace)
        assert agent_key_held(key(after), NOW_MS + grace - 1)
