"""Who may append: one conductor, whatever it believes of itself."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from runwright.adapters import postgres as module
from runwright.adapters.libpq import target
from runwright.adapters.postgres import PostgresStore
from runwright.kernel.errors import (
    CommitUnknown,
    Halt,
    LeaseLost,
    StoreBusy,
    StoreCorrupt,
    StoreUnreachable,
)
from runwright.kernel.ports import Batch, Request, Row, StoredEntry
from tests.e2e.project import SOON_S, until
from tests.postgres.server import Server

HOLDER = """
import sys
from runwright.adapters.libpq import target
from runwright.adapters.postgres import PostgresStore
from runwright.kernel.errors import Halt
from runwright.kernel.ports import Batch, StoredEntry
store = PostgresStore(target(sys.argv[1], sys.argv[2], {}))
if len(sys.argv) > 3:
    from runwright.adapters import postgres
    postgres.PostgresStore._fence = lambda self: None
held = store.lease()
print("held", flush=True)
for line in sys.stdin:
    try:
        seq = store.size() if line.strip() == "next" else int(line)
        store.commit(Batch(entries=[StoredEntry(seq, b"by the first", b"1" * 32)]))
        print("committed", seq, flush=True)
    except Halt as error:
        print(error.code, error, flush=True)
"""


def entry(seq: int, raw: bytes = b"entry") -> StoredEntry:
    return StoredEntry(seq, raw, bytes(32))


def request(identity: str) -> Request:
    return Request(id=identity, kind="run", body=b"{}", created_ms=1)


class Holder:
    """A conductor in a process of its own that appends when it is told to."""

    def __init__(self, url: str, schema: str, sabotage: str) -> None:
        words = [url, schema, *([sabotage] if sabotage else [])]
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.answer() == "held"

    def answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def append(self, seq: int | str) -> str:
        """Let it append at a seq, or at the "next" one; return what came of it."""
        assert self.process.stdin is not None
        print(seq, file=self.process.stdin, flush=True)
        return self.answer()


Holding = Callable[..., Any]


@pytest.fixture
def holding(store: PostgresStore, url: str) -> Holding:
    """Start conductors of the store of this test."""

    @contextmanager
    def start(sabotage: str = "") -> Iterator[Holder]:
        made = Holder(url, store.target.schema, sabotage)
        try:
            yield made
        finally:
            made.process.kill()
            made.process.wait(SOON_S)
            for pipe in (made.process.stdin, made.process.stdout):
                pipe.close()

    return start


def cut(server: Server, store: PostgresStore, role: str = "runwright lease") -> None:
    """End the connections of a role, as a network that fails does for the server."""
    ended = server.sql(
        "postgres",
        "SELECT pg_terminate_backend(a.pid) FROM pg_stat_activity a JOIN pg_locks l USING (pid) "
        "WHERE l.locktype = 'advisory' AND a.application_name = %s "
        "AND l.classid = %s::bigint::oid AND l.objid = %s::bigint::oid",
        role,
        *store.host_key,
    )
    assert ended == [(True,)]
    until(lambda: not store.holder(), "the lock is free")


@pytest.mark.slow
@pytest.mark.parametrize("end", ["killed", "closed"])
def test_the_lease_of_another_process_ends_with_it(
    store: PostgresStore, holding: Holding, end: str
) -> None:
    """While it lives the lease is taken, and the message names it; then it is free."""
    with holding() as first:
        with pytest.raises(StoreBusy) as caught:
            store.lease()
        who = f"(process {first.process.pid} on {socket.gethostname()})"
        assert who in str(caught.value)
        assert who in store.holder()
        store.submit(request("r1"))
        if end == "killed":
            first.process.send_signal(signal.SIGKILL)
        else:
            first.process.stdin.close()
        first.process.wait(SOON_S)
        until(lambda: not store.holder(), "the server notices")
        held = store.lease()
        assert f"process {os.getpid()} " in store.holder()
        held.release()
        assert store.holder() == ""


@pytest.mark.slow
def test_a_conductor_whose_lease_was_taken_over_never_appends(
    server: Server, store: PostgresStore, holding: Holding
) -> None:
    """Suspended, its connection cut, another one took over: what it wants to write is refused."""
    with holding() as first:
        assert first.append(0) == "committed 0"
        first.process.send_signal(signal.SIGSTOP)
        cut(server, store)
        held = store.lease()
        store.commit(Batch(entries=[entry(1)]))
        first.process.send_signal(signal.SIGCONT)
        for seq in ("next", 1, 2):
            assert first.append(seq).startswith("lease-lost ")
        store.commit(Batch(entries=[entry(2)]))
        assert [each.raw for each in store.entries()] == [b"by the first", b"entry", b"entry"]
        held.release()


@pytest.mark.slow
def test_without_the_token_it_would_append(
    server: Server, store: PostgresStore, holding: Holding
) -> None:
    """The control: the same road, with nobody reading the token, ends in a doubled history."""
    with holding("careless") as first:
        assert first.append(0) == "committed 0"
        cut(server, store)
        held = store.lease()
        store.commit(Batch(entries=[entry(1)]))
        assert first.append("next") == "committed 2"
        with pytest.raises(StoreCorrupt):
            store.commit(Batch(entries=[entry(2)]))
        held.release()


def test_a_store_without_the_lease_does_not_commit_beside_a_conductor(
    store: PostgresStore, url: str
) -> None:
    """Nobody has to have asked for the lease to be kept from writing."""
    other = PostgresStore(store.target)
    held = store.lease()
    with pytest.raises(LeaseLost):
        other.commit(Batch(entries=[entry(0)]))
    assert store.size() == 0
    held.release()
    other.commit(Batch(entries=[entry(0)]))
    other.close()


def test_whoever_takes_over_waits_for_a_commit_that_is_under_way(store: PostgresStore) -> None:
    """It reads what that commit wrote, and the old one's next is refused."""
    old = PostgresStore(store.target)
    lease = old.lease()
    old._db.execute("BEGIN")
    old._fence()
    old._write(Batch(entries=[entry(0)]))
    # Its lock is gone, its transaction is not: the next one may not count entries yet.
    lease._db.close()
    until(lambda: not store.holder(), "the lock is free")
    with pytest.MonkeyPatch.context() as patched:
        patient = module.SQL["session"].replace(b"lock_timeout = '30s'", b"lock_timeout = '50ms'")
        assert patient != module.SQL["session"]
        patched.setitem(module.SQL, "session", patient)  # type: ignore[arg-type]
        with pytest.raises(StoreBusy, match="still under way"):
            store.lease()
    old._db.execute("COMMIT")
    held = store.lease()
    assert store.size() == 1
    with pytest.raises(LeaseLost):
        old.commit(Batch(entries=[entry(1)]))
    held.release()
    old.close()


# ------------------------------------------------------------------------------------- commits


def test_a_backend_that_is_ended_in_a_transaction_leaves_nothing_of_it(
    server: Server, store: PostgresStore
) -> None:
    """The commit says that it was not written; a new connection finds the store as it was."""
    ((pid,),) = store._db.execute("SELECT pg_backend_pid()").fetchall()
    write = store._write

    def ended(batch: Batch) -> None:
        write(batch)
        server.sql("postgres", "SELECT pg_terminate_backend(%s)", pid)

    store._write = ended  # type: ignore[method-assign]
    with pytest.raises(Halt) as caught:
        store.commit(Batch(entries=[entry(0)]))
    # Whether the server ended it before or at COMMIT is not known on this side.
    assert caught.value.code in ("commit-unknown", "store-unreachable")
    with pytest.raises(StoreUnreachable):
        store.size()
    again = PostgresStore(store.target)
    assert again.size() == 0
    again.commit(Batch(entries=[entry(0)]))
    again.close()


class Doubtful:
    """A connection whose COMMIT raises after it is durable."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def execute(self, statement: Any, *values: Any, **how: Any) -> Any:
        done = self._inner.execute(statement, *values, **how)
        if statement == "COMMIT":
            message = "server closed the connection unexpectedly"
            raise psycopg.OperationalError(message)
        return done

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def test_a_commit_that_raised_is_unknown_and_found_by_the_next_start(store: PostgresStore) -> None:
    """It was durable, and nobody writes it twice."""
    store._db = Doubtful(store._db)  # type: ignore[assignment]
    kept: list[Batch] = []
    store._unwritten = lambda batch, error: kept.append(batch) or "FILE"  # type: ignore[func-returns-value]
    with pytest.raises(CommitUnknown, match=r"COMMIT on .* raised: .*kept in FILE"):
        store.commit(Batch(entries=[entry(0)]))
    assert [len(batch.entries) for batch in kept] == [1]
    again = PostgresStore(store.target)
    assert again.size() == 1
    with pytest.raises(StoreCorrupt):
        again.commit(Batch(entries=[entry(0)]))
    again.close()


def test_requests_of_many_connections_are_all_kept(store: PostgresStore) -> None:
    """Beside a conductor that commits."""
    held = store.lease()
    others = [PostgresStore(store.target) for _ in range(8)]
    for round_ in range(5):
        for index, other in enumerate(others):
            other.submit(request(f"{index}-{round_}"))
        store.commit(Batch(entries=[entry(round_)]))
    assert len(store.rows("request", {"state": "open"})) == 40
    done = Row("request", {"id": "0-0", "state": "done", "result": b"{}"}, update=True)
    store.commit(Batch(rows=[done]))
    assert len(others[3].rows("request", {"state": "open"})) == 39
    for other in others:
        other.close()
    held.release()


def test_a_reader_cannot_write(store: PostgresStore, url: str) -> None:
    """A store that was opened for reading sees what others commit, and changes nothing."""
    reader = PostgresStore(target(url, store.target.schema, {}), read_only=True)
    store.commit(Batch(entries=[entry(0)]))
    assert reader.size() == 1
    with pytest.raises(Halt, match="read-only transaction"):
        reader.commit(Batch(entries=[entry(1)]))
    assert store.size() == 1
    reader.close()
