"""Each sentence that verify prints can be broken alone, by a forger who chains and signs again."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from runwright.kernel.canonical import digest, encode
from runwright.kernel.record import entries, ledger
from runwright.kernel.record.entries import decode
from runwright.kernel.record.ledger import Head, SealRow, StoredEntry
from runwright.kernel.record.papers import SENTENCES as OF_THE_OUTBOX
from runwright.kernel.record.verify import (
    SENTENCES,
    Report,
    _read_roster,
    _run_ids,
    verify,
)
from runwright.kernel.run import (
    Call,
    Content,
    RunPlan,
    Scheduled,
    round_id,
    run_id,
    tick_id,
)
from tests.kernel.record.forge import (
    ORIGIN,
    TS_MS,
    Book,
    broken,
    flipped,
    note_of,
    opened,
    private,
    public,
    rewritten,
)
from tests.kernel.record.test_logged import WORDS as OF_LOGS
from tests.kernel.record.test_signed import WORDS as OF_PEOPLE

#: Entries: 0 opened, 1 applied, 2..7 first round (2 runs), 8 stepped, 9..14 second round.
FIRST, STEPPED, SECOND = 2, 8, 9


def honest() -> Book:
    """Return a ledger with two rounds, sealed twice."""
    book = opened()
    spec = book.keep("spec", b'{"kind":"cycles"}')
    book.write(entries.SpecApplied(kind="cycles", name="demo", digest=spec.digest), blobs=(spec,))
    assert book.round("baseline", "noise") == FIRST
    book.seal()
    book.write(entries.ClockStepped(step_ms=2500))
    book.round("baseline", "noise", planned_ms=TS_MS + 3_600_000)
    book.seal()
    return book


def names(book: Book) -> list[str]:
    return [entries.TYPES[type(draft.body)] for draft in book.drafts]


def test_an_honest_ledger_holds() -> None:
    report = honest().verify()
    assert broken(report) == set()
    assert report.held
    assert (report.entries, report.sealed, report.judged, report.open) == (15, 15, 2, 0)
    assert report.origin == ORIGIN
    assert report.signers == (f"{ORIGIN}+{public(1).id.hex()}",)
    assert report.first_bad is None


def test_without_the_lint_the_sentences_it_stands_for_are_not_stated() -> None:
    report = honest().verify(lint=False)
    assert report.held
    stated = {check.word for check in report.checks}
    assert {"canonical", "form", "inclusion", "complete", "tiles"} & stated == set()


def test_an_unsealed_tail_is_reported_and_does_not_fail() -> None:
    book = honest()
    book.write(entries.ClockStepped(step_ms=1))
    report = book.verify()
    assert report.held
    assert (report.entries, report.sealed) == (16, 15)
    assert any(
        "1 entries after the newest one are not sealed yet" in c.detail for c in report.checks
    )


def test_a_round_under_way_at_the_end_is_open() -> None:
    book = opened()
    book.round("baseline", judged=False)
    report = book.verify()
    assert report.held
    assert report.open == 1


# ------------------------------------------------------------- one forger for each sentence


def drop(book: Book, seq: int) -> None:
    """Leave an entry out, as if it had never been."""
    del book.drafts[seq]
    book.seals = [(size - (size > seq), keys) for size, keys in book.seals]


def at(book: Book, seq: int, body: Any, **fields: Any) -> None:
    """Put an entry in before a seq."""
    book.write(body, **fields)
    book.drafts.insert(seq, book.drafts.pop())
    book.seals = [(size + (size >= seq), keys) for size, keys in book.seals]


def changed(book: Book, seq: int, change: Callable[[dict[str, Any]], None]) -> Report:
    """Verify with the bytes of one entry changed, everything after it chained again."""
    raws: list[bytes | None] = [None] * len(book.drafts)
    raws[seq] = rewritten(book.stored()[seq], change)
    return book.verify(entries=book.chained(raws))


def size(book: Book) -> Report:
    return changed(book, STEPPED, lambda f: f["actor"].update(id="x" * entries.ENTRY_MAX))


def kind(book: Book) -> Report:
    return changed(book, STEPPED, lambda f: f.update(type="clock.wound"))


def version(book: Book) -> Report:
    return changed(book, STEPPED, lambda f: f.update(v=2))


def form(book: Book) -> Report:
    return changed(book, STEPPED, lambda f: f["body"].update(extra=1))


def form_of_envelope(book: Book) -> Report:
    return changed(book, STEPPED, lambda f: f.update(extra=1))


def canonical(book: Book) -> Report:
    raws: list[bytes | None] = [None] * len(book.drafts)
    raws[STEPPED] = book.stored()[STEPPED].raw.replace(b'"n":0', b'"n": 0')
    return book.verify(entries=book.chained(raws))


def canonical_order(book: Book) -> Report:
    raws: list[bytes | None] = [None] * len(book.drafts)
    fields = msgspec.json.decode(book.stored()[STEPPED].raw)
    raws[STEPPED] = msgspec.json.encode(dict(reversed(fields.items())))
    return book.verify(entries=book.chained(raws))


def canonical_twice(book: Book) -> Report:
    raws: list[bytes | None] = [None] * len(book.drafts)
    raws[STEPPED] = book.stored()[STEPPED].raw.replace(b'"n":0', b'"n":7,"n":0')
    return book.verify(entries=book.chained(raws))


def seq(book: Book) -> Report:
    return changed(book, len(book.drafts) - 1, lambda f: f.update(seq=99))


def prev(book: Book) -> Report:
    return changed(book, STEPPED, lambda f: f.update(prev="5" * 64))


def origin(book: Book) -> Report:
    return changed(book, STEPPED, lambda f: f.update(origin="example.org/other"))


def origin_of_seal(book: Book) -> Report:
    stored = book.stored()
    rows = book.rows(stored)
    root = rows[0].root
    note = note_of(rows[0].size, root, origin="example.org/other")
    keys = [public(1), public(1, "example.org/other")]
    return book.verify(seals=[SealRow(rows[0].size, root, note), rows[1]], keys=keys)


def leaf(book: Book) -> Report:
    stored = book.stored()
    stored[3] = StoredEntry(3, stored[3].raw, bytes(32))
    rows = book.rows(book.stored())
    return book.verify(entries=stored, seals=rows)


def length(book: Book) -> Report:
    stored = book.stored()
    return book.verify(entries=stored[:-1], seals=book.rows(stored))


def root(book: Book) -> Report:
    stored = book.stored()
    rows = book.rows(stored)
    rows[-1] = SealRow(rows[-1].size, bytes(32), note_of(rows[-1].size, bytes(32)))
    return book.verify(seals=rows)


def roots(book: Book) -> Report:
    rows = book.rows(book.stored())
    rows[0] = SealRow(rows[0].size, bytes(32), note_of(rows[0].size, bytes(32)))
    return book.verify(seals=rows)


def noted(book: Book) -> Report:
    rows = book.rows(book.stored())
    rows[0] = SealRow(rows[0].size - 1, rows[0].root, rows[0].note)
    return book.verify(seals=rows)


def tiles(book: Book) -> Report:
    for step in range(300):
        book.write(entries.ClockStepped(step_ms=step))
    appended = ledger.append(Head(), ORIGIN, TS_MS, book.drafts)
    kept = {0: [entry.leaf for entry in appended.entries], 1: [bytes(32)]}
    return book.verify(tiles=lambda level, start, stop: kept.get(level, [])[start:stop])


def sealed(book: Book) -> Report:
    return book.verify(seals=[])


def signature(book: Book) -> Report:
    return book.verify(keys=[public(2)])


def signature_wrong(book: Book) -> Report:
    rows = book.rows(book.stored())
    words = rows[0].note.rstrip("\n").split(" ")
    note = " ".join([*words[:-1], flipped(words[-1])]) + "\n"
    return book.verify(seals=[SealRow(rows[0].size, rows[0].root, note), rows[1]])


def signature_unreadable(book: Book) -> Report:
    rows = book.rows(book.stored())
    return book.verify(seals=[SealRow(rows[0].size, rows[0].root, "no note\n"), rows[1]])


def retired(book: Book) -> Report:
    book.write(entries.KeyAdded(role="seal", key=public(2).text()))
    book.seal(1, 2)
    book.write(entries.KeyRetired(role="seal", key=public(1).text()))
    book.seal(1, 2)
    return book.verify()


def kept(book: Book) -> Report:
    named = book.drafts[FIRST + 2].blobs[0].digest
    return book.verify(blob=lambda wanted: None if wanted == named else book.contents[wanted])


def matching(book: Book) -> Report:
    blob = book.drafts[FIRST + 2].blobs[0]
    old = book.contents[blob.digest]
    book.contents[blob.digest] = msgspec.structs.replace(old, data=b"x" * len(old.data))
    return book.verify()


def matching_salt(book: Book) -> Report:
    blob = book.drafts[FIRST + 2].blobs[0]
    old = book.contents[blob.digest]
    book.contents[blob.digest] = msgspec.structs.replace(old, salt=b"other")
    return book.verify()


def matching_size(book: Book) -> Report:
    draft = book.drafts[FIRST + 2]
    blob = msgspec.structs.replace(draft.blobs[0], size=1)
    book.change(FIRST + 2, blobs=(blob,))
    return book.verify()


def opened_late(book: Book) -> Report:
    body = entries.LedgerOpened(ledger="1", seal_key="k", bundle_key="k", product="p")
    at(book, STEPPED, body)
    return book.verify()


def never_opened(book: Book) -> Report:
    drop(book, 0)
    return book.verify()


def belongs(book: Book) -> Report:
    book.change(STEPPED, run="ab" * 32)
    return book.verify()


def belongs_round(book: Book) -> Report:
    book.change(len(book.drafts) - 1, tick="ab" * 32)
    return book.verify()


def counted(book: Book) -> Report:
    book.change(FIRST + 2, n=2)
    return book.verify()


def counted_round(book: Book) -> Report:
    book.change(len(book.drafts) - 1, n=2)
    return book.verify()


def counted_alone(book: Book) -> Report:
    book.change(STEPPED, n=1)
    return book.verify()


def other_tick(book: Book) -> Report:
    # The occurrence is another one: the ids of round and runs follow from the tick as it is named.
    book.change(FIRST, body={"occurrence": Scheduled(planned_ms=1)})
    return book.verify()


def other_tick_refused(book: Book) -> Report:
    spec = book.keep("spec", b"{}")
    body = entries.TickRefused(
        kind="cycles",
        name="demo",
        spec=spec.digest,
        occurrence=Scheduled(planned_ms=1),
        code="usage",
        message="no",
    )
    book.write(body, tick="ab" * 32, blobs=(spec,))
    return book.verify()


def other_round(book: Book) -> Report:
    book.change(FIRST, body={"key": "smoke"})
    return book.verify()


def other_run(book: Book) -> Report:
    book.change(FIRST + 1, body={"key": "noise"})
    return book.verify()


def roster_count(book: Book) -> Report:
    book.change(FIRST, body={"runs": 3})
    return book.verify()


def roster_blob(book: Book) -> Report:
    draft = book.drafts[FIRST]
    others = tuple(blob for blob in draft.blobs if blob.name != "roster")
    book.change(FIRST, blobs=(*others, book.keep("roster", b"[]")))
    return book.verify()


def roster_twice(book: Book) -> Report:
    plans = [RunPlan(key=key, work=Call(name="d:w")) for key in ("baseline", "noise", "noise")]
    blob = book.keep("roster", encode(plans))
    draft = book.drafts[FIRST]
    blobs = tuple(blob if old.name == "roster" else old for old in draft.blobs)
    book.change(FIRST, body={"roster": blob.digest, "runs": 3}, blobs=blobs)
    return book.verify()


def roster_unreadable(book: Book) -> Report:
    book.drafts = book.drafts[: FIRST + 1]
    book.seals = []
    blob = book.keep("roster", b"not json")
    blobs = tuple(blob if old.name == "roster" else old for old in book.drafts[FIRST].blobs)
    book.change(FIRST, body={"roster": blob.digest}, blobs=blobs)
    return book.verify()


def pinned(book: Book) -> Report:
    book.change(FIRST, body={"seen": digest(b"something else")})
    return book.verify()


def pinned_spec(book: Book) -> Report:
    book.change(1, body={"digest": digest(b"something else")})
    return book.verify()


def rostered(book: Book) -> Report:
    at(book, STEPPED, entries.RunStarted(key="third"), run="ab" * 32)
    return book.verify()


def planned(book: Book) -> Report:
    # The start of the first run stands before the plan of its round.
    book.drafts[FIRST], book.drafts[FIRST + 1] = book.drafts[FIRST + 1], book.drafts[FIRST]
    # Afterwards its count starts at the end, which then needs no start: a pure round has none.
    book.change(FIRST + 1, body={"pure": True})
    book.change(FIRST + 2, n=0)
    return book.verify()


def order(book: Book) -> Report:
    # The second round of a tick has the index of a third.
    book.round("x", planned_ms=TS_MS, key="second", index=2)
    book.seals = []
    return book.verify()


def order_overlap(book: Book) -> Report:
    other = opened()
    other.round("x", key="first", judged=False)
    verdict = entries.RoundJudged(status="PASS", outcomes={"done": 1})
    first = other.drafts[1].round
    other.round("x", key="second", index=1)
    other.write(verdict, round=first, n=1)
    return other.verify()


def started(book: Book) -> Report:
    drop(book, FIRST + 1)
    book.change(FIRST + 1, n=0)
    return book.verify()


def started_deferred(book: Book) -> Report:
    run = book.drafts[FIRST + 1].run
    body = entries.RunDeferred(key="baseline", attempt=1, next_ms=1)
    at(book, FIRST + 1, body, run=run)
    book.change(FIRST + 2, n=1)
    book.change(FIRST + 3, n=2)
    return book.verify()


def ended(book: Book) -> Report:
    draft = book.drafts[FIRST + 2]
    at(book, FIRST + 3, draft.body, run=draft.run, n=2)
    return book.verify()


def judged(book: Book) -> Report:
    drop(book, len(book.drafts) - 2)
    book.change(len(book.drafts) - 1, body={"outcomes": {"done": 1}})
    return book.verify()


def outcomes(book: Book) -> Report:
    book.change(len(book.drafts) - 1, body={"outcomes": {"done": 1, "failed": 1}})
    return book.verify()


def closed(book: Book) -> Report:
    draft = book.drafts[-1]
    book.write(draft.body, round=draft.round, n=2)
    return book.verify()


def closed_run(book: Book) -> Report:
    book.write(entries.RunStarted(key="noise"), run=book.drafts[-2].run, n=2)
    return book.verify()


def closed_again(book: Book) -> Report:
    draft = book.drafts[FIRST]
    book.write(draft.body, round=draft.round, n=2, blobs=draft.blobs)
    return book.verify()


def erased(book: Book) -> Report:
    spec = book.drafts[1].blobs[0]
    book.write(entries.BlobErased(digest=spec.digest, reason="asked"))
    return book.verify()


def correction(book: Book) -> Report:
    book.change(STEPPED, sup=STEPPED)
    return book.verify()


FORGERS: list[tuple[str, Callable[[Book], Report], int | None]] = [
    ("size", size, STEPPED),
    ("type", kind, STEPPED),
    ("type", version, STEPPED),
    ("form", form, STEPPED),
    ("form", form_of_envelope, STEPPED),
    ("canonical", canonical, STEPPED),
    ("canonical", canonical_order, STEPPED),
    ("canonical", canonical_twice, STEPPED),
    ("seq", seq, 14),
    ("prev", prev, STEPPED),
    ("origin", origin, STEPPED),
    ("origin", origin_of_seal, None),
    ("leaf", leaf, 3),
    ("length", length, 14),
    ("root", root, None),
    ("roots", roots, None),
    ("noted", noted, None),
    ("tiles", tiles, 0),
    ("sealed", sealed, None),
    ("signature", signature, None),
    ("signature", signature_wrong, None),
    ("signature", signature_unreadable, None),
    ("retired", retired, 16),
    ("kept", kept, FIRST + 2),
    ("matching", matching, FIRST + 2),
    ("matching", matching_salt, FIRST + 2),
    ("matching", matching_size, FIRST + 2),
    ("opened", opened_late, STEPPED),
    ("opened", never_opened, 0),
    ("belongs", belongs, STEPPED),
    ("belongs", belongs_round, 14),
    ("counted", counted, FIRST + 2),
    ("counted", counted_round, 14),
    ("counted", counted_alone, STEPPED),
    ("tick-id", other_tick, FIRST),
    ("tick-id", other_tick_refused, 15),
    ("round-id", other_round, FIRST),
    ("run-id", other_run, FIRST + 1),
    ("roster", roster_count, FIRST),
    ("roster", roster_blob, FIRST),
    ("roster", roster_unreadable, FIRST),
    ("pinned", pinned, FIRST),
    ("pinned", pinned_spec, 1),
    ("rostered", rostered, STEPPED),
    ("planned", planned, FIRST),
    ("order", order, 15),
    ("order", order_overlap, 4),
    ("started", started, FIRST + 1),
    ("started", started_deferred, FIRST + 1),
    ("ended", ended, FIRST + 3),
    ("judged", judged, 13),
    ("outcomes", outcomes, 14),
    ("closed", closed, 15),
    ("closed", closed_run, 15),
    ("closed", closed_again, 15),
    ("erased", erased, 15),
    ("correction", correction, STEPPED),
]
#: Sentences of a part of a ledger; tests/kernel/record/test_bundle.py breaks them.
OF_A_PART = {"inclusion", "complete"}


@pytest.mark.parametrize(
    ("word", "forge", "first"), FORGERS, ids=lambda value: getattr(value, "__name__", None)
)
def test_a_forged_ledger_breaks_only_the_sentence_that_it_breaks(
    word: str, forge: Callable[[Book], Report], first: int | None
) -> None:
    report = forge(honest())
    assert {(c.word, c.detail) for c in report.checks if not c.held and c.word != word} == set()
    assert broken(report) == {word}
    assert report.first_bad == first
    assert not report.held


def test_a_roster_with_a_key_twice_is_named() -> None:
    report = roster_twice(honest())
    assert {"roster"} <= broken(report) <= {"roster", "judged"}


def test_every_sentence_has_a_forger() -> None:
    stated = {word for word, _, _ in FORGERS} | OF_A_PART | OF_PEOPLE | OF_LOGS | {*OF_THE_OUTBOX}
    assert stated == set(SENTENCES)


# ----------------------------------------------------------------------------- what is accepted


def test_an_erased_blob_with_its_entry_holds() -> None:
    book = honest()
    named = book.drafts[FIRST + 2].blobs[0].digest
    book.write(entries.BlobErased(digest=named, reason="asked"))
    del book.contents[named]
    assert book.verify().held


def test_a_run_refused_or_skipped_needs_no_start() -> None:
    for status, reason in (("failed", "refused"), ("skipped", "signal")):
        book = opened()
        seq = book.round("only")
        drop(book, seq + 1)
        book.change(seq + 1, n=0, body={"status": status, "reason": reason})
        book.change(seq + 2, body={"outcomes": {status: 1}})
        assert broken(book.verify()) == set()


def test_a_deferred_run_starts_again() -> None:
    book = opened()
    seq = book.round("only")
    run = book.drafts[seq + 1].run
    at(book, seq + 2, entries.RunDeferred(key="only", attempt=1, next_ms=1), run=run, n=1)
    at(book, seq + 3, entries.RunStarted(key="only", attempt=2), run=run, n=2)
    book.change(seq + 4, n=3)
    assert broken(book.verify()) == set()


def test_a_tick_of_two_rounds_holds() -> None:
    book = opened()
    book.round("a", key="smoke", last=False)
    book.round("a", "b", key="full", index=1, pure=True)
    book.round(key="verdict", index=2)
    report = book.verify()
    assert broken(report) == set()
    assert report.judged == 3


def test_keys_that_a_trusted_seal_introduces_are_trusted() -> None:
    book = honest()
    book.write(entries.KeyAdded(role="seal", key=public(2).text()))
    book.seal(1, 2)
    book.write(entries.KeyRetired(role="seal", key=public(1).text()))
    book.seal(2)
    for keys in ([public(1)], [public(2)], [public(1), public(2)]):
        report = book.verify(keys=keys)
        assert broken(report) == set(), keys
        assert report.sealed == 17


def test_a_key_that_only_names_itself_is_not_trusted() -> None:
    book = honest()
    book.write(entries.KeyAdded(role="seal", key=public(2).text()))
    book.seal(2)
    report = book.verify()
    assert broken(report) == {"signature"}
    assert report.sealed == 15


def test_the_caller_may_say_which_ledger_it_has_to_be() -> None:
    assert honest().verify(origin=ORIGIN).held
    assert broken(honest().verify(origin="example.org/other")) == {"origin"}


def test_no_entries_are_not_a_ledger() -> None:
    report = Book().verify(seals=[])
    assert broken(report) == {"sealed", "opened"}


def test_run_ids_of_a_roster_are_those_of_run_id() -> None:
    keys = ["a", 'quote"', "back\\slash", "é\u2028", "\x7f/"]
    identity = "ab" * 32
    plans = [RunPlan(key=key, work=Call(name="d:w")) for key in keys]
    roster = _read_roster("", encode(plans))
    assert roster.keys == keys
    assert _run_ids(identity, roster) == [run_id(round=identity, key=key) for key in keys]


def test_honest_tiles_hold() -> None:
    book = opened()
    for step in range(70_000):
        book.write(entries.ClockStepped(step_ms=step))
    appended = ledger.append(Head(), ORIGIN, TS_MS, book.drafts)
    kept: dict[int, list[bytes]] = {0: [entry.leaf for entry in appended.entries]}
    for tile in appended.tiles:
        kept.setdefault(tile.level, []).append(tile.hash)

    def read(level: int, start: int, stop: int) -> list[bytes]:
        return kept.get(level, [])[start:stop]

    evidence = book.evidence(entries=appended.entries, tiles=read)
    assert broken(verify(evidence, lint=False)) == set()
    kept[2][0] = bytes(32)
    report = verify(evidence, lint=False)
    assert broken(report) == {"tiles"}
    assert report.first_bad == 0


# ------------------------------------------------------------------------------------- tampering


def tampered(entries_: list[StoredEntry], seq: int, raw: bytes) -> list[StoredEntry]:
    """Alter the bytes of one row, and the leaf beside them to match."""
    changed = [*entries_]
    changed[seq] = StoredEntry(seq, raw, ledger.leaf_hash(raw))
    return changed


def test_every_flipped_bit_is_found_at_its_entry() -> None:
    book = honest()
    stored, rows = book.stored(), book.rows(book.stored())
    draw = random.Random(7)
    for entry in stored:
        for _ in range(12):
            place = draw.randrange(len(entry.raw))
            raw = bytearray(entry.raw)
            raw[place] ^= 1 << draw.randrange(8)
            bad = tampered(stored, entry.seq, bytes(raw))
            report = book.verify(entries=bad, seals=rows, lint=draw.random() < 0.5)
            assert not report.held
            # The one altered, or the one after it, which no longer continues it.
            assert report.first_bad in (entry.seq, entry.seq + 1, None)


def test_deleted_swapped_and_truncated_rows_are_found() -> None:
    book = honest()
    stored, rows = book.stored(), book.rows(book.stored())
    for place in range(len(stored) - 1):
        deleted = stored[:place] + stored[place + 1 :]
        report = book.verify(entries=deleted, seals=rows)
        assert not report.held
        assert report.first_bad == place
        swapped = [*stored]
        swapped[place], swapped[place + 1] = swapped[place + 1], swapped[place]
        report = book.verify(entries=swapped, seals=rows)
        assert not report.held
        assert report.first_bad == place
    for length_ in range(len(stored)):
        assert "length" in broken(book.verify(entries=stored[:length_], seals=rows))


def test_a_tampered_ledger_chained_again_without_the_key_is_found() -> None:
    book = honest()
    rows = book.rows(book.stored())
    book.change(STEPPED, body={"step_ms": 1})
    report = book.verify(seals=rows)
    assert broken(report) == {"root"}


def test_the_control_a_verifier_that_looks_at_signatures_only_would_not_see_it() -> None:
    """The signature of the old checkpoint still verifies: what fails is the root."""
    book = honest()
    rows = book.rows(book.stored())
    book.change(STEPPED, body={"step_ms": 1})
    report = book.verify(seals=rows)
    assert {c.word for c in report.checks if c.level == "signatures" and not c.held} == set()


def test_decode_reads_every_type_and_refuses_what_it_does_not_know() -> None:
    for entry in honest().stored():
        assert decode(entry.raw).seq == entry.seq
    raw = honest().stored()[STEPPED].raw
    with pytest.raises(msgspec.ValidationError, match=r"unknown entry type 'clock\.wound'"):
        decode(raw.replace(b"clock.stepped", b"clock.wound"))


def test_content_of_another_digest_is_not_taken_for_a_roster() -> None:
    book = honest()
    roster = next(b for b in book.drafts[FIRST].blobs if b.name == "roster")
    book.contents[roster.digest] = Content(digest=roster.digest, data=b"[]")
    assert "matching" in broken(book.verify())


def test_ids_are_those_of_the_conductor() -> None:
    book = honest()
    body = book.drafts[FIRST].body
    assert body.tick == tick_id(origin=ORIGIN, workload="cycles", spec="demo", tick=body.occurrence)
    assert book.drafts[FIRST].round == round_id(tick=body.tick, round_key="cycle")
    assert private(1) is not None
