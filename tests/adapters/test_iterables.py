"""A Python function as a source, and what becomes of its items."""

from __future__ import annotations

import datetime as dt
import json
import sys
from decimal import Decimal
from typing import ClassVar

import msgspec
import pytest

from runwright.adapters.items import as_bytes
from runwright.adapters.sources import IterableSource
from runwright.kernel.errors import Deferred, InvalidSpec, UnknownName
from runwright.streams.contracts import RawMarketEvent
from tests.adapters.reading import now_ms, taken


class Calls:
    """What the functions below were asked."""

    skips: ClassVar[list[int]] = []
    given = 0


def numbers(skip, count=10):
    """Yield items of every kind, and remember how many were asked for."""
    Calls.skips.append(skip)
    kinds = [lambda n: b"%d" % n, str, lambda n: {"n": n, "x": 0.5}]
    for number in range(skip, count):
        Calls.given = number + 1
        yield kinds[number % 3](number)


def pausing(skip):
    """Yield an item and then, for now, nothing."""
    yield from [b"one", None, b"two"][skip:]


def failing(skip):
    """Yield two items, then fail, except when it is asked to go on after them."""
    Calls.skips.append(skip)
    if skip < 2:
        yield from [b"one", b"two"][skip:]
        raise OSError("the network is gone")
    yield b"three"


def wrong(skip):
    """Yield what is no event."""
    yield 42


@pytest.fixture
def here(monkeypatch):
    """The name by which a source finds the functions of this module."""
    monkeypatch.setitem(sys.modules, "streamed_items", sys.modules[__name__])
    Calls.skips, Calls.given = [], 0
    return "streamed_items"


def test_an_iterator_brings_bytes_text_and_mappings(here):
    """Each item is one event: bytes as they are, text as UTF-8, a mapping as JSON."""
    source = IterableSource("python", f"{here}:numbers", now_ms=now_ms, args={"count": 5})
    assert taken(source, 2) == [b"0", b"1", b'{"n":2,"x":0.5}', b"3", b"4"]
    assert source.is_over


def test_an_iterator_made_anew_is_asked_to_skip_what_was_taken(here):
    """The position is a count, and the function gets it."""
    first = IterableSource("python", f"{here}:numbers", now_ms=now_ms)
    position = first.poll(4).position
    first.close()
    again = IterableSource("python", f"{here}:numbers", now_ms=now_ms, position=position)
    assert again.poll(1).items == [b"4"]
    assert Calls.skips == [0, 4]


def test_backpressure_on_an_iterator_does_not_advance_it(here):
    """It is asked for no item more than was taken, and for none while paused."""
    source = IterableSource("python", f"{here}:numbers", now_ms=now_ms)
    source.poll(3)
    assert Calls.given == 3
    source.pause()
    assert source.poll(3) is None
    assert Calls.given == 3
    source.resume()
    source.poll(1)
    assert Calls.given == 4


def test_an_iterator_may_have_nothing_for_now(here):
    """An item None ends a poll and not the source."""
    source = IterableSource("python", f"{here}:pausing", now_ms=now_ms)
    assert source.poll(9).items == [b"one"]
    assert source.poll(9).items == [b"two"]
    assert source.look_s is not None


def test_an_iterator_that_fails_keeps_what_it_gave_and_is_called_again(here):
    """The items before the failure come first; then deferred; then it goes on after them."""
    source = IterableSource("python", f"{here}:failing", now_ms=now_ms)
    assert source.poll(9).items == [b"one", b"two"]
    with pytest.raises(Deferred, match="failing: OSError: the network is gone"):
        source.poll(9)
    assert source.poll(9).items == [b"three"]
    assert Calls.skips == [0, 2]


def test_an_item_that_is_no_event_is_refused_by_its_number(here):
    """An integer is neither bytes nor text nor a mapping; an unknown function is told at once."""
    source = IterableSource("python", f"{here}:wrong", now_ms=now_ms)
    with pytest.raises(InvalidSpec, match="wrong, item 0 is of type int"):
        source.poll(1)
    with pytest.raises(UnknownName, match="is no module-level function"):
        IterableSource("python", f"{here}:absent", now_ms=now_ms)
    with pytest.raises(InvalidSpec, match="no position of a Python source"):
        IterableSource("python", f"{here}:numbers", now_ms=now_ms, position={"row": 3})


def test_an_event_of_the_contract_becomes_the_bytes_that_the_decoder_takes():
    """A RawMarketEvent, payload of bytes included, comes back as itself."""
    made = RawMarketEvent(
        event_type="MarkPrice",
        source_id="python",
        symbol="BTC",
        exchange_ts_ms=None,
        recv_ts_ms=now_ms(),
        raw_payload=b"\x00\xff",
        normalized={"mark_price": 1.5},
    )
    back = msgspec.json.decode(as_bytes(made, "it"), type=RawMarketEvent)
    assert back == made
    assert (back.raw_payload, back.raw_payload_encoding) == ("AP8=", "base64")


def test_a_mapping_keeps_what_json_cannot_hold():
    """Floats that are no numbers and bytes are tagged, instants are epoch ms; sets are refused."""
    when = dt.datetime(2026, 3, 1, 6, tzinfo=dt.timezone(dt.timedelta(hours=1)))
    item = {
        "nan": float("nan"),
        "inf": [float("inf"), float("-inf")],
        "raw": b"\x00\xff",
        "at": when,
        "day": dt.date(1970, 1, 2),
        "price": Decimal("1.10"),
    }
    assert json.loads(as_bytes(item, "it")) == {
        "nan": {"$f": "nan"},
        "inf": [{"$f": "inf"}, {"$f": "-inf"}],
        "raw": {"$b64": "AP8="},
        "at": 1772341200000,
        "day": 86_400_000,
        "price": "1.10",
    }
    assert as_bytes({"raw_payload": b"\x00\xff"}, "it") == (
        b'{"raw_payload":"AP8=","raw_payload_encoding":"base64"}'
    )
    with pytest.raises(InvalidSpec, match="it has no JSON form: set is no value of an event"):
        as_bytes({"a": {1}}, "it")
