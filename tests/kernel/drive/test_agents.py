"""Keys of agents on a real store: who signs what at a seal, before and after a rotation."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from runwright.adapters.agents import FileKeyring
from runwright.adapters.memory import MemoryStore
from runwright.adapters.signer import FileSigner, SignerMemory, create_keys
from runwright.adapters.sqlite import SqliteStore
from runwright.kernel.drive import agents
from runwright.kernel.drive.fold import TABLES, rows_of
from runwright.kernel.drive.writer import Writer
from runwright.kernel.errors import RunwrightError, UnknownName, Usage
from runwright.kernel.ports import Batch, Row
from runwright.kernel.record.bundle import public_keys
from runwright.kernel.record.entries import AgentKey, ClockStepped, Draft, LedgerOpened, decode
from runwright.kernel.record.signed import AgentSignature
from runwright.kernel.record.verify import Evidence, Report, verify
from tests.kernel.drive.rig import LEDGER, ORIGIN, ToyClock
from tests.kernel.record.forge import broken

HOUR_S = 3_600


class Desk:
    """A writer with a keyring, and a clock that moves when it is told to."""

    def __init__(self, base: Path, store: Any) -> None:
        self.base, self.store, self.clock = base, store, ToyClock()
        keys = create_keys(base / "keys", ORIGIN)
        signer = FileSigner(base / "keys", SignerMemory(base / "memory", LEDGER), ORIGIN)
        self.keyring = FileKeyring(base / "keys" / "agents")
        self.writer = Writer(store, clock=self.clock, signer=signer, keyring=self.keyring)
        body = LedgerOpened(
            ledger=LEDGER, seal_key=keys.seal.text(), bundle_key=keys.bundle, product="test"
        )
        self.writer.commit([Draft(body=body)])

    def record(self, agent: str) -> int:
        """Commit an entry whose row waits for the signature of an agent."""
        row = Row("signature", {"seq": self.writer.next_seq, "agent": agent})
        return self.writer.commit([Draft(body=ClockStepped(step_ms=3000))], rows=[row])

    def keep(self, keys: list[AgentKey]) -> list[AgentKey]:
        self.writer.commit([Draft(body=key) for key in keys])
        agents.settle(self.keyring, keys)
        return keys

    def new(self, agent: str = "FINN") -> list[AgentKey]:
        now_ms = self.clock.now_ms()
        return self.keep(agents.create(self.store, self.keyring, agent, now_ms=now_ms))

    def rotate(self, agent: str = "FINN", grace_s: int = HOUR_S) -> list[AgentKey]:
        made = agents.rotate(
            self.store,
            self.keyring,
            agent,
            now_ms=self.clock.now_ms(),
            grace_ms=grace_s * 1000,
        )
        return self.keep(made)

    def signatures(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.store.rows("signature", order="seq")
        return rows

    def verify(self) -> Report:
        pem = (self.base / "keys" / "ledger.pub.pem").read_text()
        return verify(
            Evidence(
                entries=self.store.entries(),
                seals=self.store.seals(),
                blob=self.store.blob,
                keys=public_keys([pem], ORIGIN).seal,
                origin=ORIGIN,
                tiles=self.store.tiles,
                signatures=[AgentSignature(**row) for row in self.signatures()],
                again=self.store.entries,
            )
        )

    def folder(self) -> list[str]:
        return sorted(path.name for path in (self.base / "keys" / "agents").iterdir())


@pytest.fixture(params=["sqlite", "memory"])
def desk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Desk]:
    store: Any
    if request.param == "sqlite":
        store = SqliteStore(tmp_path / "store.db", create=True)
    else:
        store = MemoryStore()
    made = Desk(tmp_path, store)
    yield made
    made.writer.close()
    store.close()


def test_a_record_is_signed_in_the_commit_of_its_seal(desk: Desk) -> None:
    (key,) = desk.new()
    seq = desk.record("FINN")
    (waits,) = desk.signatures()
    assert waits == {"seq": seq, "agent": "FINN", "key": "", "value": ""}
    desk.writer.seal()
    (signed,) = desk.signatures()
    assert signed["key"] == key.fingerprint
    (stored,) = desk.store.entries(seq, seq + 1)
    # With the public key alone, and no code of ours.
    public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(key.key))
    public.verify(bytes.fromhex(signed["value"]), stored.leaf)
    assert broken(desk.verify()) == set()


def test_once_a_seal_has_read_the_keys_a_record_is_signed_in_its_own_commit(desk: Desk) -> None:
    desk.new()
    desk.record("FINN")
    desk.writer.seal()
    seq = desk.record("FINN")
    (_, signed) = desk.signatures()
    assert (signed["seq"], bool(signed["value"])) == (seq, True)
    # A key that came since is read again before it is used.
    desk.clock.advance(1)
    _, new = desk.rotate()
    seq = desk.record("FINN")
    assert desk.signatures()[-1] == {"seq": seq, "agent": "FINN", "key": "", "value": ""}
    desk.writer.seal()
    assert desk.signatures()[-1]["key"] == new.fingerprint
    assert broken(desk.verify()) == set()


def test_a_key_that_cannot_be_read_keeps_no_record_from_being_written(desk: Desk) -> None:
    """What happened is recorded; the seal, which is to sign it, says why it cannot."""
    desk.new()
    desk.record("FINN")
    desk.writer.seal()
    desk.keyring._loaded.clear()
    path = desk.base / "keys" / "agents" / "FINN.key"
    path.chmod(0o644)
    seq = desk.record("FINN")
    assert desk.signatures()[-1] == {"seq": seq, "agent": "FINN", "key": "", "value": ""}
    with pytest.raises(Usage, match="may be read by others"):
        desk.writer.seal()
    path.chmod(0o600)
    desk.writer.seal()
    assert broken(desk.verify()) == set()


def test_a_seal_without_waiting_rows_writes_none(desk: Desk) -> None:
    desk.new()
    desk.writer.commit([Draft(body=ClockStepped(step_ms=3000))])
    desk.writer.seal()
    assert desk.signatures() == []


def test_a_private_key_is_for_its_owner_alone(desk: Desk) -> None:
    desk.new()
    desk.new("an agent/with a path")
    files = list((desk.base / "keys" / "agents").iterdir())
    assert len(files) == 2
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert stat.S_IMODE((desk.base / "keys" / "agents").stat().st_mode) == 0o700


def test_each_record_is_signed_with_the_key_of_its_time(desk: Desk) -> None:
    (old,) = desk.new()
    # Sealed only after the rotation: the new key was not there when this was made.
    early = desk.record("FINN")
    desk.clock.advance(1)
    ended, new = desk.rotate()
    assert (ended.state, new.state) == ("DEPRECATED", "ACTIVE")
    late = desk.record("FINN")
    desk.writer.seal()
    keys = {row["seq"]: row["key"] for row in desk.signatures()}
    assert keys == {early: old.fingerprint, late: new.fingerprint}
    assert broken(desk.verify()) == set()


def test_old_records_hold_after_their_key_is_archived(desk: Desk) -> None:
    (old,) = desk.new()
    desk.record("FINN")
    desk.clock.advance(1)
    desk.rotate(grace_s=HOUR_S)
    assert len(desk.folder()) == 2
    desk.clock.advance(2 * HOUR_S)
    gone = desk.keep(agents.expired(desk.store, now_ms=desk.clock.now_ms()))
    assert [(key.fingerprint, key.state) for key in gone] == [(old.fingerprint, "ARCHIVED")]
    # The end that was said stays the end.
    assert gone[0].until_ms < desk.clock.now_ms()
    assert desk.folder() == ["FINN.key"]
    desk.record("FINN")
    desk.writer.seal()
    assert broken(desk.verify()) == set()


def test_a_record_signed_after_the_end_of_its_key_does_not_hold(desk: Desk) -> None:
    (old,) = desk.new()
    private = FileKeyring(desk.base / "keys" / "agents")
    held = private.sign("FINN", old.key, b"kept in memory")
    assert held is not None
    desk.clock.advance(1)
    desk.rotate(grace_s=0)
    desk.clock.advance(1)
    seq = desk.record("FINN")
    (stored,) = desk.store.entries(seq, seq + 1)
    value = private.sign("FINN", old.key, stored.leaf)
    assert value is not None
    row = {"seq": seq, "key": old.fingerprint, "value": value.hex()}
    desk.store.commit(Batch(rows=[Row("signature", row, update=True)]))
    desk.writer.seal()
    assert broken(desk.verify()) == {"agents"}


def test_what_nobody_can_sign_waits_and_is_named(desk: Desk) -> None:
    seq = desk.record("NOBODY")
    desk.writer.seal()
    report = desk.verify()
    assert broken(report) == {"unsigned"}
    assert report.first_bad == seq


def test_a_next_key_waits_as_pending_until_it_is_rotated_to(desk: Desk) -> None:
    desk.new()
    (pending,) = desk.new()
    assert (pending.state, pending.from_ms) == ("PENDING", 0)
    with pytest.raises(Usage, match="PENDING already"):
        desk.new()
    _, active = desk.rotate()
    assert active.fingerprint == pending.fingerprint
    assert desk.folder()[0].startswith("FINN.")
    assert FileKeyring(desk.base / "keys" / "agents").keys("FINN")[0] == active.key
    desk.record("FINN")
    desk.writer.seal()
    assert broken(desk.verify()) == set()


def test_a_key_of_a_commit_that_was_never_made_is_used_again(desk: Desk) -> None:
    public = desk.keyring.create("FINN")
    (key,) = desk.new()
    assert key.key == public
    assert desk.folder() == ["FINN.key"]


def test_what_cannot_be_done_with_a_key_is_refused(desk: Desk) -> None:
    with pytest.raises(UnknownName, match="no key of FINN is ACTIVE"):
        desk.rotate()
    (key,) = desk.new()
    now_ms = desk.clock.now_ms()
    for fingerprint in ("", "00"):
        with pytest.raises(RunwrightError):
            agents.archive(desk.store, "FINN", fingerprint, now_ms=now_ms)
    desk.keep(agents.archive(desk.store, "FINN", key.fingerprint, now_ms=now_ms))
    with pytest.raises(Usage, match="ARCHIVED already"):
        agents.archive(desk.store, "FINN", key.fingerprint, now_ms=now_ms)
    assert desk.folder() == []


def test_the_tables_are_those_that_the_ledger_folds_to(desk: Desk) -> None:
    desk.new()
    desk.new()
    desk.clock.advance(1)
    desk.rotate()
    rebuilt = MemoryStore()
    for stored in desk.store.entries():
        rebuilt.commit(Batch(rows=list(rows_of(decode(stored.raw)))))
    for table in TABLES:
        assert sorted(rebuilt.rows(table), key=repr) == sorted(desk.store.rows(table), key=repr)
    assert len(rebuilt.rows("agent_key")) == 2


def test_a_key_that_others_may_read_does_not_sign(desk: Desk) -> None:
    desk.new()
    (desk.base / "keys" / "agents" / "FINN.key").chmod(0o644)
    fresh = FileKeyring(desk.base / "keys" / "agents")
    with pytest.raises(Usage, match="may be read by others"):
        fresh.keys("FINN")


def test_the_bytes_of_an_entry_hold_no_private_key(desk: Desk) -> None:
    (key,) = desk.new()
    fields = msgspec.to_builtins(key)
    assert set(fields) <= {"agent", "state", "key", "fingerprint", "from_ms", "until_ms"}
    secret = (desk.base / "keys" / "agents" / "FINN.key").read_text().splitlines()[1]
    assert all(secret.encode() not in stored.raw for stored in desk.store.entries())
