"""A statement without a cursor answers as one with a cursor does, whatever happens to it."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import errors as pg

from runwright.adapters.postgres import PostgresStore
from runwright.adapters.prepared import Prepared
from runwright.kernel.errors import StoreUnreachable, StoreUnwritable
from runwright.kernel.ports import Request
from tests.postgres.server import Server


@pytest.fixture
def db(server: Server, url: str) -> Iterator[psycopg.Connection]:
    """A connection of autocommitted statements, with a table of its own."""
    with psycopg.connect(url, autocommit=True) as made:
        made.execute("CREATE TEMPORARY TABLE line (text text PRIMARY KEY, at bigint)")
        yield made


@pytest.fixture
def insert(db: psycopg.Connection) -> Prepared:
    """What inserts into that table."""
    return Prepared(db, "insert", b"INSERT INTO line VALUES ($1, $2)")


def at(number: int) -> bytes:
    return number.to_bytes(8, "big", signed=True)


def lines(db: psycopg.Connection) -> list[tuple[str, int]]:
    return db.execute("SELECT text, at FROM line ORDER BY at").fetchall()


def test_values_arrive_as_they_are(db, insert):
    """Texts of several bytes, the empty one, and numbers below zero; each is committed."""
    values = [("", -(1 << 63)), ("é", -1), ("two\nlines", 0), ("%s $1", (1 << 63) - 1)]
    for text, number in values:
        insert.execute([text.encode(), at(number)])
    assert lines(db) == values
    assert db.info.transaction_status == psycopg.pq.TransactionStatus.IDLE


def test_a_refusal_is_the_error_of_a_cursor_and_the_connection_goes_on(db, insert):
    """A key that is taken, and a NUL, which no text holds: nothing of either is kept."""
    insert.execute([b"one", at(1)])
    with pytest.raises(pg.UniqueViolation, match="line_pkey") as caught:
        insert.execute([b"one", at(2)])
    assert caught.value.sqlstate == "23505"
    with pytest.raises(pg.DataError):
        insert.execute([b"a\0b", at(3)])
    insert.execute([b"four", at(4)])
    assert lines(db) == [("one", 1), ("four", 4)]


def test_it_is_prepared_again_when_the_server_let_it_go(db, insert):
    """As psycopg has it do after a ROLLBACK; the values are executed once."""
    insert.execute([b"one", at(1)])
    db.execute("DEALLOCATE ALL")
    insert.execute([b"two", at(2)])
    assert lines(db) == [("one", 1), ("two", 2)]


def test_a_value_that_fills_the_socket_arrives(db, insert):
    """Neither side waits for the other for ever."""
    text = "x" * (4 << 20)
    db.execute("ALTER TABLE line DROP CONSTRAINT line_pkey")
    insert.execute([text.encode(), at(1)])
    assert db.execute("SELECT length(text) FROM line").fetchall() == [(len(text),)]


def test_a_statement_that_is_none_is_refused(db):
    """When it is prepared, by name."""
    with pytest.raises(pg.UndefinedTable):
        Prepared(db, "none", b"INSERT INTO nothing VALUES ($1)").execute([b"x"])


def test_an_interruption_leaves_no_connection_in_the_middle_of_a_question(db):
    """Ctrl-C ends the wait at once, and nobody takes a late answer for another's."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    waiting = Prepared(db, "waiting", b"SELECT pg_sleep(60), $1::text")
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(KeyboardInterrupt):
            waiting.execute([b""])
    finally:
        signal.signal(signal.SIGALRM, before)
    assert db.closed


def test_a_connection_that_is_cut_is_an_unreachable_store(
    server: Server, store: PostgresStore
) -> None:
    """Whether it was cut before the request or never was there again."""
    store.submit(Request(id="one", kind="run", body=b"{}", created_ms=1))
    ((pid,),) = store._one(b"SELECT pg_backend_pid()")
    server.sql("postgres", "SELECT pg_terminate_backend(%s)", pid)
    for _ in range(2):
        with pytest.raises(StoreUnreachable):
            store.submit(Request(id="two", kind="run", body=b"{}", created_ms=2))


def test_a_request_that_no_table_takes_is_refused_and_the_next_is_taken(
    store: PostgresStore,
) -> None:
    """A NUL in its id is not cut off there, which would make it another request."""
    with pytest.raises(StoreUnwritable):
        store.submit(Request(id="a\0b", kind="run", body=b"{}", created_ms=1))
    store.submit(Request(id="c", kind="run", body=b"\0\xff", created_ms=2, by="é"))
    assert [(row["id"], row["body"], row["by"]) for row in store.rows("request")] == [
        ("c", b"\0\xff", "é")
    ]
