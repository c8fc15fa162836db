"""The outbox and the memories of lanes, held against the entries that name them."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from runwright.kernel.canonical import digest, encode
from runwright.kernel.record.papers import StoredPaper
from tests.kernel.record.forge import Book, broken, opened

BODIES = (b"one\n", b"two\n")
NAMES = ("demo/1", "demo/2")


def published() -> tuple[Book, list[StoredPaper]]:
    """Return a round whose verdict caused two papers, and the outbox that holds them."""
    book = opened()
    seq = book.round("a", pure=True) + 2
    named = [
        {"sink": "log", "name": name, "digest": digest(body)}
        for name, body in zip(NAMES, BODIES, strict=True)
    ]
    book.change(seq, blobs=(book.keep("papers", encode(named)),), body={"papers": 2})
    rows = [
        StoredPaper(seq, index, "log", name, digest(body))
        for index, (name, body) in enumerate(zip(NAMES, BODIES, strict=True))
    ]
    return book, rows


def test_papers_as_their_verdict_names_them_hold() -> None:
    """The honest case, and that without an outbox nothing is said about one."""
    book, rows = published()
    report = book.verify(papers=rows)
    assert broken(report) == set()
    assert [check.word for check in report.checks if check.level == "outbox"] == [
        "papers",
        "caused",
    ]
    assert [check for check in book.verify().checks if check.level == "outbox"] == []


def test_the_outbox_of_a_later_moment_may_hold_more() -> None:
    """It is read after the entries, and whoever conducts goes on meanwhile."""
    book, rows = published()
    later = StoredPaper(len(book.drafts), 0, "log", "demo/3", digest(b"three\n"))
    assert broken(book.verify(papers=[*rows, later])) == set()


CHANGES: tuple[tuple[str, str, Callable[[list[StoredPaper]], list[StoredPaper]]], ...] = (
    ("papers", "altered", lambda rows: [rows[0], rows[1]._replace(digest=digest(b"twO\n"))]),
    ("papers", "altered", lambda rows: [rows[0]._replace(name="demo/9"), rows[1]]),
    ("papers", "altered", lambda rows: [rows[0]._replace(sink="files"), rows[1]]),
    ("papers", "missing", lambda rows: rows[:1]),
    ("papers", "no paper of entry 3", lambda _: []),
    ("caused", "no verdict names", lambda rows: [*rows, rows[1]._replace(place=2)]),
    ("caused", "no verdict names", lambda rows: [rows[0]._replace(seq=2), *rows]),
)


@pytest.mark.parametrize(("word", "detail", "change"), CHANGES)
def test_an_outbox_that_holds_something_else_is_named(
    word: str, detail: str, change: Callable[[list[StoredPaper]], list[StoredPaper]]
) -> None:
    """By the entry of the verdict; the record itself holds."""
    book, rows = published()
    report = book.verify(papers=change(rows))
    (found,) = [check for check in report.checks if not check.held]
    assert found.word == word
    assert detail in found.detail
    assert found.seq in (2, 3)


def test_a_list_of_papers_that_cannot_be_read_names_none() -> None:
    """Its own digest holds, so the outbox is what breaks."""
    book, rows = published()
    book.change(3, blobs=(book.keep("papers", b'{"not":"a list"}'),))
    assert broken(book.verify(papers=rows)) == {"caused"}


# --------------------------------------------------------------------------- what lanes remember


def remembering(book: Book) -> str:
    """Let the run leave a memory; return its digest."""
    kept = book.keep("memory", encode({"publish_seq": 2}))
    book.change(2, body={"memory": kept.digest})
    return kept.digest


@pytest.mark.parametrize("lint", [True, False])
def test_a_memory_that_is_kept_holds(lint: bool) -> None:
    book, _ = published()
    remembering(book)
    assert broken(book.verify(lint=lint)) == set()


@pytest.mark.parametrize("lint", [True, False])
def test_a_memory_that_was_altered_or_is_gone_is_named(lint: bool) -> None:
    """By the entry of the outcome that left it."""
    book, _ = published()
    named = remembering(book)
    book.contents[named] = msgspec.structs.replace(book.contents[named], data=b'{"publish_seq":3}')
    report = book.verify(lint=lint)
    assert (broken(report), report.first_bad) == ({"matching"}, 2)
    del book.contents[named]
    report = book.verify(lint=lint)
    assert (broken(report), report.first_bad) == ({"kept"}, 2)
