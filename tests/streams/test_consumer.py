"""The consumer library, on values."""

from __future__ import annotations

import json
import random

import pytest

from runwright.kernel.errors import InvalidSpec
from runwright.streams.audit import audit, to_redrive
from runwright.streams.consumer import REMEMBERED, Consumer
from tests.streams.samples import INTERVAL_MS, event, events, of


def kinds(consumer, lines):
    """Return what a consumer makes of events."""
    return [consumer.take(line).kind for line in lines]


def test_events_in_order_are_new_and_carry_what_they_say():
    """Each event is told with its symbol, number, type, run and engine time, and its bytes."""
    consumer = Consumer()
    taken = [consumer.take(line) for line in events(3)]
    assert {each.kind for each in taken} == {"new"}
    first = taken[0]
    assert (first.symbol, first.publish_seq, first.event_type) == ("BTC", 1, "EngineRunStarted")
    assert (first.run_id, first.engine_timestamp_ms) == ("BTC-1", INTERVAL_MS)
    assert first.data == event("BTC", 1)


def test_copies_are_dropped_also_after_a_restart():
    """Delivered at least once, acted on once; the position is all that a restart needs."""
    lines = events(20)
    consumer = Consumer()
    kinds(consumer, lines)
    again = Consumer(json.loads(json.dumps(consumer.position)))
    assert kinds(again, lines) == ["duplicate"] * 40
    assert kinds(again, [event("BTC", 21)]) == ["new"]


def test_an_event_behind_a_gap_waits_until_the_missing_ones_came():
    """By default nothing behind a gap is taken; published again from the gap on, all is."""
    consumer = Consumer()
    consumer.take(event("BTC", 1))
    behind = consumer.take(event("BTC", 4))
    assert (behind.kind, behind.missing, behind.is_new) == ("gap", (2, 3), False)
    redriven = [event("BTC", number) for number in (2, 3, 4)]
    assert kinds(consumer, redriven) == ["new"] * 3


def test_a_gap_of_one_symbol_does_not_hold_another():
    """Symbols are independent of each other."""
    consumer = Consumer()
    assert kinds(consumer, [event("BTC", 2), event("ETH", 1)]) == ["gap", "new"]


def test_a_consumer_that_does_not_wait_is_told_of_the_gap_and_of_what_is_late():
    """The gap is named once, with its range; the late ones are new, and their copies are not."""
    consumer = Consumer(waits=False)
    lines = [event("BTC", number) for number in (1, 5, 3, 3, 6)]
    taken = [consumer.take(line) for line in lines]
    assert [each.kind for each in taken] == ["new", "new", "late", "duplicate", "new"]
    assert [each.missing for each in taken] == [None, (2, 4), None, None, None]
    again = Consumer(consumer.position, waits=False)
    assert kinds(again, [event("BTC", 2), event("BTC", 4), event("BTC", 4)]) == [
        "late",
        "late",
        "duplicate",
    ]


def test_a_gap_can_be_passed_by_knowingly():
    """What will never come does not hold a consumer for ever."""
    consumer = Consumer()
    assert kinds(consumer, [event("BTC", 4)]) == ["gap"]
    consumer.pass_by("BTC", 3)
    assert kinds(consumer, [event("BTC", 4), event("BTC", 2)]) == ["new", "late"]


def test_a_consumer_that_begins_anywhere_begins_with_what_comes():
    """Without the beginning of a stream, the first event of each symbol is the first one."""
    lines = [event("BTC", 7), event("BTC", 8), event("BTC", 10)]
    assert kinds(Consumer(begins_anywhere=True), lines) == ["new", "new", "gap"]
    assert kinds(Consumer(), lines[:1]) == ["gap"], "the control"


@pytest.mark.parametrize(
    "line",
    [
        b"no event",
        b"\xff",
        event("BTC", 1, event_id="0" * 64),
        event("BTC", 1, event_type="EngineRunCompleted"),
        event("BTC", 0),
        event("BTC", 1).replace(b'"publish_seq":1', b'"publish_seq":"1"'),
    ],
)
def test_what_is_no_event_is_invalid(line):
    """Neither bytes that cannot be read nor an event_id of another event are taken."""
    consumer = Consumer()
    assert consumer.take(line).kind == "invalid"
    assert kinds(consumer, [event("BTC", 1)]) == ["new"]


def test_another_event_of_a_known_number_is_a_conflict():
    """Two events of one number, and one event of two numbers, are never taken for copies."""
    consumer = Consumer()
    kinds(consumer, [event("BTC", 1), event("BTC", 2)])
    other = json.loads(event("BTC", 4))
    assert consumer.take(json.dumps({**other, "publish_seq": 2}).encode()).kind == "conflict"
    same = json.loads(event("BTC", 2))
    assert consumer.take(json.dumps({**same, "publish_seq": 3}).encode()).kind == "conflict"
    assert kinds(consumer, [event("BTC", 3)]) == ["new"]


def test_engine_time_that_goes_back_is_told():
    """Numbers in order with an older engine timestamp violate the order of the stream."""
    consumer = Consumer()
    lines = [event("BTC", 1), event("BTC", 2, engine_timestamp_ms=INTERVAL_MS - 1)]
    assert kinds(consumer, lines) == ["new", "disorder"]


def test_the_position_stays_small():
    """Two thousand events of a symbol leave a position of a few hundred bytes."""
    consumer = Consumer()
    kinds(consumer, of("BTC", events(2000)))
    assert len(consumer.position["BTC"]["ids"]) == REMEMBERED
    assert len(json.dumps(consumer.position)) < 800


@pytest.mark.parametrize("position", [{"BTC": {"next": "x"}}, {"BTC": 7}, {"BTC": {"next": None}}])
def test_what_is_no_position_is_refused(position):
    """A position of something else is not begun with from the start in silence."""
    with pytest.raises(InvalidSpec, match="no position of a consumer"):
        Consumer(position)


def test_a_consumer_gets_each_event_once_and_in_order_whatever_the_transport_does():
    """Over seeds: loss, copies and restarts, then a repair; the consumer acts on each once."""
    published = events(10, ("A", "B"))
    for seed in range(80):
        chance = random.Random(seed)
        held = [line for line in published if chance.random() > 0.1]
        held += chance.sample(held, 3)
        held += to_redrive(audit(published, held), published)
        consumer, acted = Consumer(), []
        for line in held:
            if chance.random() < 0.2:
                consumer = Consumer(json.loads(json.dumps(consumer.position)))
            if consumer.take(line).is_new:
                acted.append(line)
        assert [of("A", acted), of("B", acted)] == [of("A", published), of("B", published)], seed
