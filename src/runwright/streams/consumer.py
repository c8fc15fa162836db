"""A consumer of a stream, on any transport: copies are dropped, gaps and disorder are seen.

A transport delivers at least once. Per symbol `publish_seq` counts from 1 without a gap, so what is
expected next is one number, and a consumer's whole memory is small enough to be kept with its own
results.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias

import msgspec

from runwright.kernel.errors import InvalidSpec
from runwright.streams.contracts import event_id

#: Ids of a symbol's newest events that are remembered: by them a changed event is told from a copy.
REMEMBERED: Final = 16
#: Characters of an id that are remembered.
ID: Final = 16
#: Ranges of missing events of a symbol that are remembered; the oldest are forgotten first.
RANGES_MAX: Final = 1000

TakenKind: TypeAlias = Literal["new", "duplicate", "gap", "late", "conflict", "disorder", "invalid"]


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """What an event is to this consumer."""

    #: new: the next one. duplicate: a copy. gap: events before it have not come. late: it was
    #: missing before. conflict: another event of the same number, or another number of the same
    #: event. disorder: the next one, but its engine time lies before that of the one before.
    #: invalid: no event.
    kind: TakenKind
    symbol: str = ""
    publish_seq: int = 0
    event_id: str = ""
    event_type: str = ""
    run_id: str = ""
    engine_timestamp_ms: int = 0
    #: The first and the last publish_seq of those that have not come before it.
    missing: tuple[int, int] | None = None
    #: Why it is no event, or a conflict.
    detail: str = ""
    #: The event as it came.
    data: bytes = b""

    @property
    def is_new(self) -> bool:
        """Whether it is to be acted on: everything else was acted on, or has to wait."""
        return self.kind in ("new", "late", "disorder")


class _Head(msgspec.Struct, frozen=True, gc=False):
    """What of an event is read."""

    event_id: str
    run_id: str
    event_type: str
    symbol: str
    publish_seq: int
    engine_timestamp_ms: int


class _Place(msgspec.Struct):
    """How far a consumer is with one symbol."""

    #: The publish_seq that comes next.
    next: int = 1
    engine_timestamp_ms: int = 0
    #: Missing ranges that were passed by.
    missing: list[tuple[int, int]] = []
    #: publish_seq -> event_id of the newest.
    ids: dict[str, str] = {}


_DECODER: Final = msgspec.json.Decoder(_Head)


class Consumer:
    """Tells of each event whether it is new; pure, so whoever reads the transport calls it.

    With `waits` an event behind a gap is not taken, and is `gap` again when it comes again: the
    missing ones are published again together with all that follow. Without, it is taken, the gap is
    told once, and what was missing is `late` when it comes.
    """

    def __init__(
        self,
        position: Mapping[str, Any] | None = None,
        *,
        waits: bool = True,
        begins_anywhere: bool = False,
    ) -> None:
        """Go on at a position, or begin: at 1, or with the first event of each symbol that comes.

        Raises: invalid-spec for what is no position of a consumer.
        """
        try:
            self._places = msgspec.convert(dict(position or {}), dict[str, _Place])
        except (msgspec.ValidationError, TypeError, ValueError) as error:
            message = f"this is no position of a consumer: {error}"
            raise InvalidSpec(message) from error
        self._waits = waits
        self._begins_anywhere = begins_anywhere

    @property
    def position(self) -> dict[str, Any]:
        """Where it is, a JSON value: keep it with the results of what was taken."""
        value = msgspec.to_builtins(self._places)
        return {str(symbol): place for symbol, place in value.items()}

    def take(self, data: bytes) -> Taken:
        """Take the next event of the transport in; say what it is."""
        try:
            head = _DECODER.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return Taken(kind="invalid", detail=str(error), data=data)
        if head.event_id != event_id(head.run_id, head.event_type) or head.publish_seq < 1:
            return _taken(head, "invalid", data, detail="event_id is not that of this event")
        place = self._places.get(head.symbol)
        if place is None:
            first = head.publish_seq if self._begins_anywhere else 1
            place = self._places[head.symbol] = _Place(next=first)
        known = place.ids.get(str(head.publish_seq))
        if known is not None and known != head.event_id[:ID]:
            detail = f"event {head.publish_seq} was {known} before"
            return _taken(head, "conflict", data, detail=detail)
        if head.publish_seq < place.next:
            return self._again(place, head, data)
        if head.event_id[:ID] in place.ids.values():
            return _taken(head, "conflict", data, detail="it had another publish_seq before")
        missing = (place.next, head.publish_seq - 1) if head.publish_seq > place.next else None
        if missing and self._waits:
            return _taken(head, "gap", data, missing=missing)
        kind: TakenKind = "new"
        if head.engine_timestamp_ms < place.engine_timestamp_ms:
            kind = "disorder"
        if missing:
            place.missing = [*place.missing, missing][-RANGES_MAX:]
        place.next = head.publish_seq + 1
        place.engine_timestamp_ms = max(place.engine_timestamp_ms, head.engine_timestamp_ms)
        _remember(place, head)
        return _taken(head, kind, data, missing=missing)

    def _again(self, place: _Place, head: _Head, data: bytes) -> Taken:
        """Tell a copy from one that was missing."""
        for index, (first, last) in enumerate(place.missing):
            if first <= head.publish_seq <= last:
                parts = [(first, head.publish_seq - 1), (head.publish_seq + 1, last)]
                place.missing[index : index + 1] = [part for part in parts if part[0] <= part[1]]
                _remember(place, head)
                return _taken(head, "late", data)
        return _taken(head, "duplicate", data)

    def pass_by(self, symbol: str, publish_seq: int) -> None:
        """Go on after a number of a symbol, knowing that what was before it may never come."""
        place = self._places.setdefault(symbol, _Place())
        if publish_seq >= place.next:
            place.missing = [*place.missing, (place.next, publish_seq)][-RANGES_MAX:]
            place.next = publish_seq + 1


def _remember(place: _Place, head: _Head) -> None:
    place.ids[str(head.publish_seq)] = head.event_id[:ID]
    while len(place.ids) > REMEMBERED:
        del place.ids[next(iter(place.ids))]


def _taken(
    head: _Head,
    kind: TakenKind,
    data: bytes,
    *,
    missing: tuple[int, int] | None = None,
    detail: str = "",
) -> Taken:
    return Taken(
        kind=kind,
        symbol=head.symbol,
        publish_seq=head.publish_seq,
        event_id=head.event_id,
        event_type=head.event_type,
        run_id=head.run_id,
        engine_timestamp_ms=head.engine_timestamp_ms,
        missing=missing,
        detail=detail,
        data=data,
    )
