"""Follows the events of a stream, from the store or from its transport, each once and in order."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

from runwright.bootstrap.project import ProjectStore
from runwright.bootstrap.streams import looking, papers, spec_of
from runwright.bootstrap.transports import transported
from runwright.config import Loaded
from runwright.kernel.errors import VerificationFailed
from runwright.streams.consumer import Consumer
from runwright.streams.events import MEDIA

#: Seconds between two looks for new events.
FOLLOW_S: Final = 0.2


def tail(
    loaded: Loaded,
    name: str,
    *,
    symbol: str = "",
    from_start: bool = False,
    follow: bool = True,
    transport: bool = False,
) -> Iterator[bytes]:
    """Yield the events of a stream, each once, in order.

    Raises: unknown-name, verification-failed at a gap, a conflict or what is no event.
    """
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
            if taken.kind in ("new", "late") and symbol in ("", taken.symbol):
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
