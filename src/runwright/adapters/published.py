"""The events of a paper as a transport sees them: lines, of which it reads what it needs."""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from runwright.kernel.errors import InvalidSpec


class Event(NamedTuple):
    """One event on its way."""

    event_id: str
    symbol: str
    publish_seq: int
    #: The event itself, one line without its newline.
    data: bytes


class _Head(msgspec.Struct, frozen=True, gc=False):
    """What of an event is read."""

    event_id: str
    symbol: str
    publish_seq: int


_DECODER: Final = msgspec.json.Decoder(_Head)


def events_in(body: bytes) -> list[Event]:
    """Return the events of a body of lines, in order. Raises: invalid-spec for another line."""
    return [event_of(line) for line in body.split(b"\n") if line]


def event_of(line: bytes) -> Event:
    """Return the event of a line. Raises: invalid-spec when it is none."""
    try:
        head = _DECODER.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        message = f"{line[:80]!r} is no published event: {error}"
        raise InvalidSpec(message) from error
    return Event(head.event_id, head.symbol, head.publish_seq, line)
