"""Events that could not be read: told at once with a reason, then counted."""

from __future__ import annotations

from typing import Any

from runwright.kernel.drive.inflow import Taken
from runwright.kernel.drive.unread import Unread
from runwright.kernel.workload import Decoded, Flow
from runwright.streams.failure import Unreadable, failure_event, why_unread
from runwright.streams.normalized import DECODE_FAILURE
from tests.kernel.drive.rig import ToyClock

GOOD = b'{"event_type":"TradeTick"}'
BAD = failure_event(
    b"oops",
    Unreadable("parse_error", "it is no JSON"),
    source_id="feed",
    symbol="",
    received_ms=5,
)


FLOW = Flow(
    sources=["feed"],
    time="clock",
    decode=lambda source, items, at_ms: Decoded([], [], [], []),
    next_ms=lambda last_ms, opened_ms: 0,
    published=dict,
    said=lambda body: (),
    unread=DECODE_FAILURE,
    why_unread=why_unread,
)


class Told:
    def __init__(self) -> None:
        self.clock = ToyClock()
        self.said: list[tuple[str, dict[str, Any]]] = []
        self.unread = Unread(FLOW, "toy", self._say, self.clock)

    def _say(self, event: str, text: str = "", /, *, level: str = "info", **fields: Any) -> None:
        assert (event, level) == ("events.unread", "warning")
        self.said.append((text, fields))

    def take(self, good: int, bad: int) -> None:
        tally = {("feed", "TradeTick"): good, ("feed", "DecodeFailure"): bad}
        items = [*[GOOD] * good, *[BAD] * bad]
        self.unread.take(
            Taken(
                items=items,
                keys=[""] * len(items),
                stamps=None,
                tally={key: count for key, count in tally.items() if count},
                positions={},
            )
        )


def test_what_can_be_read_is_not_told() -> None:
    told = Told()
    told.take(10, 0)
    told.unread.tell()
    assert (told.said, told.unread.count) == ([], 0)


def test_the_first_is_told_at_once_with_its_reason_and_the_next_once_a_second() -> None:
    told = Told()
    told.take(3, 1)
    text = "1 event of feed could not be read, and is kept as DecodeFailure"
    told_of = {"name": "toy", "source_id": "feed"}
    assert told.said == [(f"{text}: parse_error: it is no JSON", {**told_of, "count": 1})]
    told.take(0, 4)
    told.take(1, 2)
    assert len(told.said) == 1
    told.clock.advance(1.0)
    told.take(0, 1)
    assert told.said[1][0].startswith("7 events of feed could not be read, and are kept as")
    told.take(0, 5)
    told.unread.tell()
    assert (told.said[2][1]["count"], told.unread.count) == (5, 13)
    told.unread.tell()
    assert len(told.said) == 3


def test_a_reason_is_not_put_down_to_another_source() -> None:
    told = Told()
    tally = {("feed", "DecodeFailure"): 1, ("other", "DecodeFailure"): 1}
    both = Taken(items=[BAD, BAD], keys=["", ""], stamps=None, tally=tally, positions={})
    told.unread.take(both)
    assert [text.partition("kept as ")[2] for text, _ in told.said] == ["DecodeFailure"] * 2


def test_only_a_failure_says_why() -> None:
    assert why_unread(BAD) == "parse_error: it is no JSON"
    assert [why_unread(item) for item in (GOOD, b"", b"7", b"{")] == [""] * 4
