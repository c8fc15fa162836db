"""People decide, through the real command line: two people, two machines, a running conductor."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.people import decide, person
from tests.e2e.project import Project, until

HELLO = "print('hello')\n"


@pytest.fixture(scope="module")
def template(initialised: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with an owner and an auditor, in which a cycle ran, to copy."""
    made = initialised.copy_to(tmp_path_factory.mktemp("staffed"))
    made.apply(made.task("hello", HELLO))
    made.done("run", "demo")
    person(made, "ada", "owner")
    person(made, "VEGA", "auditor")
    return made


@pytest.fixture
def staffed(template: Project, tmp_path: Path) -> Iterator[Project]:
    """A copy of that project."""
    made = template.copy_to(tmp_path / "staffed")
    yield made
    made.close()


def verified(project: Project) -> None:
    report = project.run("verify", "--store", "--json").json
    assert [check for check in report["checks"] if not check["held"]] == []


def test_an_auditor_attests_and_it_shows_everywhere(staffed: Project, tmp_path: Path) -> None:
    made = decide(staffed, "latest", "attest", name="VEGA")
    assert made["recorded"]
    shown = staffed.done("show", "latest", "--json").json
    (decision,) = shown["decisions"]
    assert (decision["action"], decision["person"]) == ("attest", "VEGA")
    assert decision["seqs"] == shown["seq"]
    assert "attest by VEGA" in staffed.done("show", "latest").stdout
    # In the bundle, for somebody who has nothing but two keys.
    bundle = tmp_path / "bundle"
    staffed.done("export", "latest", "--out", bundle)
    keys = staffed.folder / ".runwright" / "keys"
    trusted = ["--key", keys / "ledger.pub.pem", "--key", keys / "evidence.pub.pem"]
    assert staffed.done("verify", bundle, *trusted, "--json").json["held"]
    entries = [json.loads(line) for line in (bundle / "entries.jsonl").read_text().splitlines()]
    types = [entry["type"] for entry in entries]
    assert types.count("decision.made") == 2
    assert types.count("person.added") == 2
    verified(staffed)


def test_what_is_signed_is_printed_and_nobody_there_signs_nothing(staffed: Project) -> None:
    key = staffed.base / "desk" / "VEGA.key"
    words = ["--as", "VEGA", "--reason", "seen by me", "--key", key]
    done = staffed.run("decide", "latest", "attest", *words)
    assert done.status == 2
    assert done.error == ("usage", "nobody is there to agree to what is signed")
    for text in ("subject   round/", "action    attest", "seen by me", "digest    "):
        assert text in done.stderr
    assert staffed.bodies("decision.made")[1:] == []


@pytest.mark.parametrize(
    ("words", "name", "reason"),
    [
        (("latest", "approve"), "VEGA", "VEGA is auditor; to approve a round takes owner"),
        (("spec/demo", "freeze"), "VEGA", "VEGA is auditor; to freeze a spec takes owner"),
        (("latest", "attest"), "ada", "ada is owner; to attest a round takes auditor"),
        (("latest", "freeze"), "ada", "freeze does not go with a round"),
        (("agent/ada", "freeze"), "ada", "nothing in the record is agent/ada"),
        (("entry/9999", "approve"), "ada", "there is no entry 9999"),
        (("latest", "approve", "--evidence", "abc"), "ada", "'abc' is no SHA-256"),
        (("latest", "approve", "--expires", "2020-01-01"), "ada", "it has expired"),
        (("latest", "approve", "--expires", "soon"), "ada", "'soon' is not an instant"),
        (("nothing", "approve"), "ada", "nothing in the record is called 'nothing'"),
    ],
)
def test_what_does_not_count_is_refused_with_the_reason(
    staffed: Project, words: tuple[str, ...], name: str, reason: str
) -> None:
    before = len(staffed.entries())
    _, message = decide(staffed, *words, name=name, status=2)
    assert reason in message
    assert len(staffed.entries()) == before


def test_nobody_decides_about_what_they_started(staffed: Project) -> None:
    """The owner of the project gives the commands as `operator`."""
    key = staffed.base / "desk" / "ada.key"
    signed = ["--as", "ada", "--signing-key", key, "--yes"]
    staffed.done("people", "add", "ada", "--user", "operator", *signed)
    code, message = decide(staffed, "latest", "approve", status=2)
    assert (code, "ada is its author (operator)" in message) == ("denied", True)
    person(staffed, "bob", "approver")
    assert decide(staffed, "latest", "approve", name="bob")["recorded"]


def test_an_agent_does_not_approve_its_own_run(staffed: Project) -> None:
    person(staffed, "FINN", "approver")
    _, message = decide(staffed, "latest", "approve", name="FINN", status=2)
    assert "FINN is its author" in message


def test_a_freeze_is_obeyed_until_it_is_lifted(staffed: Project) -> None:
    decide(staffed, "spec/demo", "freeze")
    done = staffed.done("run", "demo", status=7)
    code, message = done.error
    assert code == "frozen"
    assert message.startswith("frozen by ada (entry ")
    assert message.endswith("because")
    (refused,) = staffed.bodies("tick.refused")
    assert refused["code"] == "frozen"
    assert "because" in staffed.done("run", "demo", "--dry-run", status=2).stderr
    decide(staffed, "spec/demo", "continue")
    staffed.done("run", "demo")
    verified(staffed)


def test_a_freeze_that_expired_no_longer_counts(staffed: Project) -> None:
    decide(staffed, "spec/demo", "freeze", "--expires", "2999-01-01")
    staffed.done("run", "demo", status=7)
    # The row is what the conductor asks; the entry keeps what was signed.
    staffed.sql("UPDATE decision SET expires_ms = 1")
    staffed.done("run", "demo")


def test_what_was_closed_stays_closed(staffed: Project) -> None:
    decide(staffed, "spec/demo", "close")
    assert staffed.done("run", "demo", status=7).error[1].startswith("closed by ada")
    code, message = decide(staffed, "spec/demo", "continue", status=2)
    assert code == "denied"
    assert "was closed by ada" in message


def test_scheduled_ticks_of_a_frozen_spec_are_skipped_with_the_reason(staffed: Project) -> None:
    running = staffed.start("run", "demo", "--continuous", "--interval", "1")
    until(lambda: len(staffed.bodies("round.judged")) > 1, "a scheduled cycle")
    # Handed to the conductor that runs.
    made = decide(staffed, "spec/demo", "freeze")

    def found() -> list[dict[str, Any]]:
        # On a slow machine one may have been missed before.
        return [body for body in staffed.bodies("tick.passed") if body["status"] == "SKIPPED"]

    skipped = until(found, "a skipped tick")
    assert skipped[0]["reason"].startswith(f"frozen by ada (entry {made['seq']}): because")
    judged = len(staffed.bodies("round.judged"))
    decide(staffed, "spec/demo", "continue")
    until(lambda: len(staffed.bodies("round.judged")) > judged, "a cycle after that")
    running.send(signal.SIGTERM)
    assert running.end().status == 0
    verified(staffed)


def test_a_decision_travels_from_another_machine(staffed: Project, tmp_path: Path) -> None:
    """The auditor has a bundle and a key, and no store."""
    away = tmp_path / "away"
    away.mkdir()
    staffed.done("export", "latest", "--out", away / "bundle")
    shutil.copy(staffed.base / "desk" / "VEGA.key", away / "VEGA.key")
    alone = Project(tmp_path / "other")
    words = ["--as", "VEGA", "--reason", "seen from afar", "--key", away / "VEGA.key", "--yes"]
    words += ["--bundle", away / "bundle", "--out", away / "decision.json"]
    alone.done("decide", "latest", "attest", *words)
    assert not alone.store.exists()
    first = staffed.done("decide", "--import", away / "decision.json", "--json").json
    assert first["recorded"]
    # The same document again is the same decision.
    again = staffed.done("decide", "--import", away / "decision.json", "--json").json
    assert (again["recorded"], again["seq"]) == (False, first["seq"])
    assert len(staffed.bodies("decision.made")) == 2
    (shown,) = staffed.done("show", "latest", "--json").json["decisions"]
    assert shown["reason"] == "seen from afar"
    verified(staffed)


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("reason", "seen from nearby", "it is not a signature over this"),
        ("person", "ada", "ada is owner"),
        ("action", "approve", "VEGA is auditor"),
        ("seen", "ab" * 32, "it is not a signature over this"),
        ("origin", "example.org/other", "it is about the ledger example.org/other"),
        ("v", 2, "not a decision"),
        ("more", 1, "not a decision"),
    ],
)
def test_a_decision_that_was_altered_on_its_way_is_refused(
    staffed: Project, tmp_path: Path, field: str, value: Any, reason: str
) -> None:
    file = tmp_path / "decision.json"
    key = staffed.base / "desk" / "VEGA.key"
    words = ["--as", "VEGA", "--reason", "seen", "--key", key, "--yes", "--out", file]
    staffed.done("decide", "latest", "attest", *words)
    signed = json.loads(file.read_text())
    signed["document"][field] = value
    file.write_text(json.dumps(signed))
    done = staffed.done("decide", "--import", file, status=2)
    assert done.error[0] == "denied"
    assert reason in done.error[1]
    assert len(staffed.bodies("decision.made")) == 1


def test_a_decision_of_another_project_is_refused(staffed: Project, tmp_path: Path) -> None:
    """Two projects, the same people, the same keys."""
    other = Project(tmp_path / "other")
    other.done("init", "--name", "demo")
    other.apply(other.task("hello", HELLO))
    other.done("run", "demo")
    shutil.copytree(staffed.base / "desk", other.base / "desk")
    desk = other.base / "desk"
    other.done(
        "people", "add", "ada", "--name", "Ada", "--role", "owner", "--key", desk / "ada.key.pub"
    )
    file = tmp_path / "decision.json"
    words = ["--as", "ada", "--reason", "x", "--key", desk / "ada.key", "--yes", "--out", file]
    staffed.done("decide", "latest", "approve", *words)
    assert "is about the ledger" in other.done("decide", "--import", file, status=2).error[1]


def test_what_changed_since_it_was_signed_is_looked_at_again(
    staffed: Project, tmp_path: Path
) -> None:
    file = tmp_path / "decision.json"
    key = staffed.base / "desk" / "ada.key"
    words = ["--as", "ada", "--reason", "x", "--key", key, "--yes", "--out", file]
    staffed.done("decide", "spec/demo", "freeze", *words)
    staffed.apply(staffed.task("hello", HELLO), staffed.task("other", HELLO))
    done = staffed.done("decide", "--import", file, status=2)
    assert "is not what was signed any more" in done.error[1]


def test_a_revoked_key_and_a_revoked_person_decide_nothing(staffed: Project) -> None:
    key = staffed.base / "desk" / "ada.key"
    signed = ["--as", "ada", "--signing-key", key, "--yes"]
    decide(staffed, "latest", "attest", name="VEGA")
    person(staffed, "bob", "approver")
    shown = staffed.done("people", "show", "bob", "--json").json
    print_of = shown["keys"][0]["fingerprint"]
    staffed.done("people", "revoke", "bob", "--key", print_of, "--reason", "lost", *signed)
    assert "was revoked" in decide(staffed, "latest", "approve", name="bob", status=2)[1]
    staffed.done("people", "revoke", "VEGA", "--reason", "left", *signed)
    assert "VEGA was revoked" in decide(staffed, "latest", "attest", name="VEGA", status=2)[1]
    done = staffed.done("people", "revoke", "ada", "--reason", "left", *signed, status=2)
    assert "last owner" in done.error[1]
    # What was signed before holds.
    verified(staffed)


def test_only_an_owner_changes_the_people_after_the_first(staffed: Project) -> None:
    key = staffed.base / "desk" / "eve.key"
    staffed.done("key", "new", "eve", "--out", key)
    words = ["people", "add", "eve", "--name", "Eve", "--role", "owner", "--key", f"{key}.pub"]
    assert "no owner approved" in staffed.done(*words, status=2).error[1]
    auditor = staffed.base / "desk" / "VEGA.key"
    signed = ["--as", "VEGA", "--signing-key", auditor, "--yes"]
    assert "takes owner" in staffed.done(*words, *signed, status=2).error[1]
    assert len(staffed.bodies("person.added")) == 2


@pytest.mark.skipif(
    shutil.which("ssh-keygen") is None, reason="needs ssh-keygen: apt-get install openssh-client"
)
def test_a_person_decides_with_the_ssh_key_that_they_have(staffed: Project, tmp_path: Path) -> None:
    """And a stranger checks it with ssh-keygen alone, as VERIFY.md says."""
    key = tmp_path / "id_ecdsa"
    argv = ["ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", key]
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL)
    owner = staffed.base / "desk" / "ada.key"
    signed = ["--as", "ada", "--signing-key", owner, "--yes"]
    staffed.done("people", "add", "VEGA", "--key", f"{key}.pub", *signed)
    words = ["--as", "VEGA", "--reason", 'seen, "all" of it é ', "--key", key, "--yes"]
    staffed.done("decide", "latest", "attest", *words)
    verified(staffed)
    desk = tmp_path / "stranger"
    staffed.done("export", "latest", "--out", desk / "bundle")
    text = (desk / "bundle" / "VERIFY.md").read_text()
    block = text.partition("## 5.")[2].partition("```sh\n")[2].partition("```")[0]

    def check(public: str) -> subprocess.CompletedProcess[bytes]:
        (desk / "VEGA.pub").write_text(public)
        return subprocess.run(
            ["sh", "-e"], input=block.encode(), cwd=desk / "bundle", capture_output=True
        )

    assert check(Path(f"{key}.pub").read_text()).returncode == 0
    assert check(Path(f"{owner}.pub").read_text()).returncode != 0


def test_applying_a_spec_gives_its_agents_keys(project: Project) -> None:
    project.apply(project.task("hello", HELLO, agent_id="FINN"))
    found = project.done("key", "list", "--json").json
    assert [(row["agent"], row["state"]) for row in found] == [
        ("FINN", "ACTIVE"),
        ("LARS", "ACTIVE"),
    ]
    types = [entry["type"] for entry in project.entries()]
    assert types[1:4] == ["agent.key", "agent.key", "spec.applied"]
    project.apply(project.task("hello", HELLO, agent_id="FINN", timeout_s=9))
    assert len(project.bodies("agent.key")) == 2


def test_an_agent_that_sql_named_has_a_key_with_its_first_round(project: Project) -> None:
    project.apply(project.task("hello", HELLO))
    project.sql("UPDATE task_registry SET agent_id = 'STIG'")
    project.done("run", "demo")
    planned = project.entries("round.planned")[0]
    key = project.bodies("agent.key")[-1]
    assert key["agent"] == "STIG"
    # In force for every record of that round.
    assert key["from_ms"] <= planned["ts"]
    verified(project)


def test_keys_rotate_beside_a_running_conductor(staffed: Project) -> None:
    gate = staffed.gate()
    staffed.apply(staffed.task("hello", gate.source))
    running = staffed.start("run", "demo", "--continuous", "--interval", "3600")
    gate.wait_begun()
    rotating = staffed.start("key", "rotate", "--agent", "FINN", "--grace", "2", "--json")
    rotating.wait_event("request.submitted")
    gate.let_go()
    done = rotating.end()
    assert [key["state"] for key in done.json["keys"]] == ["DEPRECATED", "ACTIVE"]
    running.send(signal.SIGTERM)
    running.end()
    staffed.done("key", "archive", "--agent", "FINN")
    states = [row["state"] for row in staffed.done("key", "show", "--agent", "FINN", "--json").json]
    assert states == ["ARCHIVED", "ACTIVE"]
    verified(staffed)


def test_the_signature_of_an_agent_is_in_the_bundle_and_checked(
    staffed: Project, tmp_path: Path
) -> None:
    """What waits is signed at the next seal; an altered, moved or missing one is named."""
    (finished,) = (entry for entry in staffed.entries("run.finished"))
    staffed.sql("UPDATE signature SET value = '' WHERE seq = ?", finished["seq"])
    assert staffed.run("verify", "--store").status == 6
    decide(staffed, "latest", "attest", name="VEGA")
    verified(staffed)
    bundle = tmp_path / "bundle"
    staffed.done("export", "latest", "--out", bundle)
    kept = {row["seq"]: row for row in json.loads((bundle / "signatures.json").read_text())}
    assert kept[finished["seq"]]["agent"] == "FINN"
    keys = staffed.folder / ".runwright" / "keys"
    trusted = ["--key", keys / "ledger.pub.pem", "--key", keys / "evidence.pub.pem"]
    staffed.done("verify", bundle, *trusted)
    (bundle / "signatures.json").unlink()
    staffed.done("verify", bundle, *trusted, status=6)
    columns = "seq, agent, key, value"
    for change in ("seq = -1", "value = ''", "agent = 'LARS'"):
        select = f"SELECT {columns} FROM signature WHERE seq = ?"
        (before,) = staffed.sql(select, finished["seq"])
        staffed.sql(f"UPDATE signature SET {change} WHERE seq = ?", finished["seq"])
        assert staffed.run("verify", "--store").status == 6, change
        staffed.sql("DELETE FROM signature WHERE seq IN (-1, ?)", finished["seq"])
        staffed.sql(f"INSERT INTO signature ({columns}) VALUES (?, ?, ?, ?)", *before)
        verified(staffed)


def test_a_decision_altered_in_the_store_is_named(staffed: Project, tmp_path: Path) -> None:
    """Whoever rewrites the entry of a decision breaks the seal, and the signature too."""
    made = decide(staffed, "latest", "attest", name="VEGA")
    verified(staffed)
    with contextlib.closing(sqlite3.connect(staffed.store)) as store:
        store.execute("DROP TRIGGER entry_is_never_edited")
        store.execute(
            "UPDATE entry SET raw = CAST(replace(CAST(raw AS TEXT), 'because', 'coerced') AS BLOB) "
            "WHERE seq = ?",
            (made["seq"],),
        )
        store.commit()
    report = staffed.run("verify", "--store", "--json").json
    broken = {check["word"] for check in report["checks"] if not check["held"]}
    assert {"decided", "root"} <= broken
    assert report["first_bad"] == made["seq"]


def test_a_request_that_was_inserted_by_hand_is_checked_like_any_other(staffed: Project) -> None:
    body = {"document": {"action": "approve"}, "signature": "AAAA"}
    for kind, wish in (
        ("decide", body),
        ("people", {"change": "added", "body": {}}),
        ("key", {"agent": "", "act": "new"}),
        ("key", {"agent": "FINN", "act": "destroy"}),
        ("decide", []),
    ):
        identity = f"{kind}{len(json.dumps(wish))}"
        staffed.sql(
            "INSERT INTO request (id, kind, body, created_ms) VALUES (?, ?, ?, 1)",
            identity,
            kind,
            json.dumps(wish).encode(),
        )
    before = len(staffed.entries("decision.made")) + len(staffed.entries("agent.key"))
    staffed.done("run", "demo")
    states = staffed.sql("SELECT state, result FROM request WHERE created_ms = 1")
    assert [state for state, _ in states] == ["done"] * 5
    assert all("error" in json.loads(result) for _, result in states)
    after = len(staffed.entries("decision.made")) + len(staffed.entries("agent.key"))
    assert after == before
    verified(staffed)
