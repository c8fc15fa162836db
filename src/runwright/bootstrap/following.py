"""Follows the events of a stream, from the store or from its transport, each once and in order."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from runwright.bootstrap.project import ProjectStore
from runwright.bootstrap.streams import looking, papers, spec_of
from runwright.bootstrap.transports import transported
from runwright.config import Loaded
from runwright.kernel.errors import Usage, VerificationFailed
from runwright.streams.consumer import Consumer
from runwright.streams.contracts import OUTPUT_TYPES
from runwright.streams.events import MEDIA

#: Seconds between two looks for new events.
FOLLOW_S: Final = 0.2


class Wanted(NamedTuple):
    """Which events of a stream somebody wants to see; what is empty narrows nothing."""

    symbol: str = ""
    types: Sequence[str] = ()


def tail(
    loaded: Loaded,
    name: str,
    wanted: Wanted,
    *,
    from_start: bool = False,
    follow: bool = True,
    transport: bool = False,
) -> Iterator[bytes]:
    """Yield the events of a stream that are wanted, each once, in order.

    All of them are looked at, so a gap is seen between those that are not wanted too.

    Raises: usage for a type that no stream publishes, unknown-name, verification-failed at a gap, a
    conflict or what is no event.
    """
    for event_type in wanted.types:
        if event_type not in OUTPUT_TYPES:
            message = f"no stream publishes {event_type!r}; known: {', '.join(OUTPUT_TYPES)}"
            raise Usage(message)
    with looking(loaded) as store:
        spec = spec_of(store, name)
        if transport:
            found = transported(spec, follow=follow)
        else:
            found = _followed(store, name, from_start=from_start, follow=follow)
        consumer = Consumer(begins_anywhere=True)
        for line in found:
            taken = consumer.take(line)
            if taken.kind in ("gap", "conflict", "disorder", "invalid"):
                missing = f", missing {taken.missing}" if taken.missing else ""
                message = (
                    f"{name}: {taken.kind} at {taken.symbol} {taken.publish_seq}{missing} "
                    f"{taken.detail}".rstrip()
                )
                hint = f"`runwright streams audit {name}` says what the transport lost."
                raise VerificationFailed(message, hint=hint)
            is_wanted = wanted.symbol in ("", taken.symbol) and (
                not wanted.types or taken.event_type in wanted.types
            )
            if taken.kind in ("new", "late") and is_wanted:
                yield line


def _followed(store: ProjectStore, name: str, *, from_start: bool, follow: bool) -> Iterator[bytes]:
    """Yield the events that the store holds, and with `follow` those that come."""
    seq = -1
    if not from_start and follow:
        newest = store.rows("paper", {"media": MEDIA}, columns=("seq",), order="-seq", limit=1)
        seq = newest[0]["seq"] if newest else -1
    while True:
        for at, body in papers(store, name, seq):
            seq = at
            yield from body.splitlines()
        if not follow:
            return
        time.sleep(FOLLOW_S)
