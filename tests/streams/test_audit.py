"""The audit of a transport against the outbox, on values."""

from __future__ import annotations

import random

import pytest

from runwright.streams.audit import FINDINGS_MAX, audit, to_redrive
from tests.streams.samples import event, events, of


def kinds(report):
    """Return what was found, as kind, symbol and number."""
    return [(each.kind, each.symbol, each.publish_seq) for each in report.findings]


def test_a_transport_that_holds_everything_is_clean():
    """All events, in order and once: nothing is found, and a reader got everything."""
    published = events(6)
    report = audit(published, published)
    assert report.is_clean
    assert (report.published, report.seen, report.findings) == (12, 12, ())
    assert [(each.symbol, each.first, each.last, each.next) for each in report.symbols] == [
        ("BTC", 1, 6, 7),
        ("ETH", 1, 6, 7),
    ]
    assert list(to_redrive(report, published)) == []


def test_copies_of_the_same_bytes_are_allowed_and_counted():
    """Check 30: a duplicate on the wire has an equal event_id and equal bytes."""
    published = events(4)
    report = audit(published, [*published[:4], *published[2:]])
    assert report.is_clean
    assert report.total("duplicated") == 2


def test_a_copy_with_other_bytes_is_no_duplicate():
    """Check 30, the control: an equal event_id with other bytes is found as altered."""
    published = events(4)
    changed = event("BTC", 2, payload={"regime": "other"})
    report = audit(published, [*published, changed])
    assert not report.is_clean
    assert kinds(report) == [("altered", "BTC", 2)]


def test_what_is_missing_is_named_and_driven_again_with_all_that_follows():
    """Check 46: a hole in one symbol names its numbers; that symbol is published again from it."""
    published = events(5)
    holed = [line for line in published if line not in (event("BTC", 2), event("BTC", 3))]
    report = audit(published, holed)
    assert not report.is_clean
    assert kinds(report) == [("missing", "BTC", 2), ("missing", "BTC", 3)]
    again = list(to_redrive(report, published))
    assert again == of("BTC", published)[1:]
    healed = audit(published, [*holed, *again])
    assert healed.is_clean, "a reader in order gets everything after the repair"
    assert healed.total("duplicated") == 2


def test_driving_again_only_what_is_missing_would_not_heal():
    """The control: the missing event alone, at the end, leaves those behind it out of order."""
    published = of("BTC", events(5))
    holed = [line for line in published if line != event("BTC", 3)]
    report = audit(published, [*holed, event("BTC", 3)])
    assert not report.is_clean
    assert report.symbols[0].next == 4
    assert kinds(report) == [("out_of_order", "BTC", 3)]


def test_two_events_in_the_wrong_order_are_found():
    """Nothing is missing and nothing altered, and still a reader in order gets less."""
    published = of("BTC", events(4))
    report = audit(published, [published[0], published[2], published[1], published[3]])
    assert not report.is_clean
    assert (report.total("missing"), report.total("out_of_order")) == (0, 1)
    assert list(to_redrive(report, published)) == published[2:]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (event("DOGE", 1), ("foreign", "DOGE", 1)),
        (event("BTC", 9), ("foreign", "BTC", 9)),
        (b"no event", ("foreign", "", 0)),
        (b'{"symbol":"BTC"}', ("foreign", "", 0)),
        (b"\xff\xfe", ("foreign", "", 0)),
    ],
)
def test_what_the_outbox_does_not_hold_is_foreign(line, found):
    """Another symbol, a number beyond the last, and what is no event at all."""
    published = events(3)
    report = audit(published, [*published, line])
    assert not report.is_clean
    assert (report.foreign, kinds(report)) == (1, [found])


def test_an_outbox_that_begins_later_takes_older_events_for_what_they_are():
    """Where old papers were retired, their events in the transport are neither foreign nor lost."""
    everything = events(6)
    report = audit(everything[6:], everything)
    assert report.is_clean
    assert report.older == 6


def test_an_outbox_with_a_hole_is_unsound():
    """The authority itself is looked at: a gap, and two events of one number."""
    published = of("BTC", events(4))
    holed = audit([published[0], published[2]], published[:1])
    assert (holed.unsound, kinds(holed)) == (1, [("unsound", "BTC", 3)])
    double = audit([*published, event("BTC", 2, payload={})], published)
    assert (double.unsound, kinds(double)) == (1, [("unsound", "BTC", 2)])
    assert not holed.is_clean
    assert not double.is_clean


def test_findings_beyond_the_named_ones_are_counted():
    """A transport that lost everything fills a bounded report."""
    published = of("BTC", events(FINDINGS_MAX + 7))
    report = audit(published, [])
    assert (len(report.findings), report.omitted) == (FINDINGS_MAX, 7)
    assert report.total("missing") == FINDINGS_MAX + 7


def test_any_loss_and_any_disorder_is_healed_by_driving_again():
    """Over seeds: what a transport did to the events is found, and repaired by one more pass."""
    published = events(12, ("A", "B", "C"))
    found = 0
    for seed in range(200):
        chance = random.Random(seed)
        held = [line for line in published if chance.random() > 0.15]
        for _ in range(chance.randrange(3)):
            at = chance.randrange(len(held) - 1)
            held[at : at + 2] = reversed(held[at : at + 2])
        held += chance.sample(held, 2)
        report = audit(published, held)
        again = list(to_redrive(report, published))
        found += not report.is_clean
        assert report.is_clean == (not again)
        assert audit(published, [*held, *again]).is_clean, seed
    assert found > 190
