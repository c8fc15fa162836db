"""What the sources of a stream bring, decoded and in one order, a block at a time.

By the clock, sources take turns. By the events' own time they are merged, so that history in
several files comes in as it happened, whatever the size of a chunk.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any, Final

import msgspec

from runwright.kernel.drive.retry import delay_s
from runwright.kernel.errors import Deferred
from runwright.kernel.ports import Arrival, Clock, EventSource
from runwright.kernel.workload import Decoded, Flow

#: Events that one block takes in at most.
BLOCK_MAX: Final = 1_000


class Taken(msgspec.Struct, kw_only=True, gc=False):
    """Events of one block, in order."""

    items: list[bytes]
    keys: list[str]
    #: None: the clock stamps them.
    stamps: list[int] | None
    #: (source, event_type) -> how many.
    tally: Mapping[tuple[str, str], int]
    #: Source -> where it goes on after these.
    positions: Mapping[str, Any]


class _Waiting(msgspec.Struct, kw_only=True):
    """A decoded chunk of one source that is not taken in whole."""

    chunk: Decoded
    #: Where the source was before the chunk, and where it is after.
    before: Any
    after: Any
    #: How many of its events are taken in.
    taken: int = 0


class _Feed:
    """One source, with what it brought and was not taken yet."""

    def __init__(self, source: EventSource, position: Any) -> None:
        self.source = source
        self.position = position["at"] if position else None
        #: Events that an interrupted chunk had delivered before: they are passed over.
        self.skip = position["skip"] if position else 0
        self.waiting: deque[_Waiting] = deque()
        self.newest_ms = 0
        self.failures = 0
        self.next_s = 0.0


class Inflow:
    """Polls, decodes and merges."""

    def __init__(
        self,
        sources: Sequence[EventSource],
        flow: Flow,
        clock: Clock,
        positions: Mapping[str, Any],
    ) -> None:
        """Go on with each source where `positions` says; sources stand there already."""
        self._flow = flow
        self._clock = clock
        self._feeds = [_Feed(source, positions.get(source.name)) for source in sources]
        self._turn = 0
        self._put_back: Taken | None = None
        self._is_paused = False

    @property
    def is_over(self) -> bool:
        """Whether every source is over and everything it brought was taken in."""
        if self._put_back is not None:
            return False
        return all(feed.source.is_over and not feed.waiting for feed in self._feeds)

    @property
    def is_waiting(self) -> bool:
        """Whether events that came wait for room."""
        return self._put_back is not None or any(feed.waiting for feed in self._feeds)

    @property
    def is_away(self) -> bool:
        """Whether a source failed when it was asked last."""
        return any(feed.failures for feed in self._feeds)

    def take(self, room: int) -> Taken | None:
        """Return the events of the next block, at most `room`; None when there are none now.

        Raises: deferred when a source is away and nothing else has brought anything.
        """
        if self._is_paused:
            return None
        if room <= 0:
            # Of history, one that is at its end says so when it is asked again.
            if self._flow.time == "events" and (failure := self._poll()) is not None:
                raise failure
            return None
        if self._put_back is not None:
            kept, self._put_back = self._put_back, None
            return kept
        most = min(room, self._flow.block_max, BLOCK_MAX)
        failure = self._poll()
        taken = self._merged(most) if self._flow.time == "events" else self._by_turns(most)
        if taken is None and failure is not None:
            raise failure
        return taken

    def put_back(self, taken: Taken) -> None:
        """Keep what could not be appended for the next `take`."""
        self._put_back = taken

    def acknowledge(self, taken: Taken) -> None:
        """Say to the sources that what was taken is durable."""
        for feed in self._feeds:
            position = taken.positions.get(feed.source.name)
            if position is not None and not position["skip"]:
                feed.source.acknowledge(position["at"])

    def wait_s(self) -> float | None:
        """Return seconds until a source is to be asked again that wakes nobody, or was away.

        None: none has to be; a pause asks no source.
        """
        if self._is_paused:
            return None
        now_s = self._clock.monotonic_s()
        waits = [max(0.0, feed.next_s - now_s) for feed in self._feeds if feed.failures]
        looks = (feed.source.look_s for feed in self._feeds if not feed.source.is_over)
        waits += [look_s for look_s in looks if look_s is not None]
        return min(waits, default=None)

    def pause(self) -> None:
        """Take nothing in until `resume`; each source stops in its own way."""
        self._is_paused = True
        for feed in self._feeds:
            feed.source.pause()

    def resume(self) -> None:
        """Go on."""
        self._is_paused = False
        for feed in self._feeds:
            feed.source.resume()

    def close(self) -> None:
        """Let go of the sources."""
        for feed in self._feeds:
            feed.source.close()

    # ---------------------------------------------------------------------------------- helpers

    def _poll(self) -> Deferred | None:
        """Ask every source that has nothing waiting; return the failure of one that is away."""
        failure: Deferred | None = None
        now_s = self._clock.monotonic_s()
        for feed in self._feeds:
            if feed.waiting or feed.next_s > now_s or feed.source.is_over:
                continue
            try:
                arrival = feed.source.poll(min(self._flow.block_max, BLOCK_MAX))
            except Deferred as error:
                feed.failures += 1
                retry = self._flow.ingestion_retry
                wait_s = delay_s(retry, feed.failures)
                feed.next_s = now_s + float(retry.max_s if wait_s is None else wait_s)
                failure = error
                continue
            feed.failures = 0
            if arrival is not None:
                self._decode(feed, arrival)
        return failure

    def _decode(self, feed: _Feed, arrival: Arrival) -> None:
        chunk = self._flow.decode(arrival.source, arrival.items, arrival.received_ms)
        if self._flow.time == "events":
            # What is late, or was no event, takes the time of the one before it.
            stamps = list(accumulate(chunk.stamps, max, initial=feed.newest_ms))[1:]
            chunk, feed.newest_ms = chunk._replace(stamps=stamps), max([feed.newest_ms, *stamps])
        skipped = min(feed.skip, len(chunk.items))
        feed.skip -= skipped
        waiting = _Waiting(chunk=chunk, before=feed.position, after=arrival.position, taken=skipped)
        feed.position = arrival.position
        if skipped < len(chunk.items):
            feed.waiting.append(waiting)

    def _by_turns(self, most: int) -> Taken | None:
        """Return what the next source that has something brought."""
        for _ in self._feeds:
            feed = self._feeds[self._turn % len(self._feeds)]
            self._turn += 1
            if feed.waiting:
                count = min(most, len(feed.waiting[0].chunk.items) - feed.waiting[0].taken)
                return self._cut([(feed, count)], stamped=False)
        return None

    def _merged(self, most: int) -> Taken | None:
        """Return events up to the instant that every source has reached.

        Events of one instant come in the order of the sources, however they were brought: so those
        of that last instant wait while a source before theirs may bring more of it.
        """
        live = [feed for feed in self._feeds if not (feed.source.is_over and not feed.waiting)]
        if not live or any(not feed.waiting for feed in live):
            return None
        stamps = [_stamps(feed) for feed in live]
        if len(live) == 1:
            return self._cut([(live[0], min(most, len(stamps[0])))], stamped=True)
        horizon, last = min((found[-1], own) for own, found in enumerate(stamps))
        ends = [
            (bisect_right if own <= last else bisect_left)(found, horizon)
            for own, found in enumerate(stamps)
        ]
        order = sorted((stamp, own) for own, end in enumerate(ends) for stamp in stamps[own][:end])
        counts = Counter(own for _, own in order[:most])
        return self._cut([(live[own], counts[own]) for own in sorted(counts)], stamped=True)

    def _cut(self, counts: Sequence[tuple[_Feed, int]], *, stamped: bool) -> Taken:
        """Take so many events of each feed, in order of their stamps where that counts."""
        stamps, items, keys = list[int](), list[bytes](), list[str]()
        tally: dict[tuple[str, str], int] = {}
        positions: dict[str, Any] = {}
        for feed, count in counts:
            waiting = feed.waiting[0]
            chunk, start, stop = waiting.chunk, waiting.taken, waiting.taken + count
            name = feed.source.name
            stamps += chunk.stamps[start:stop]
            items += chunk.items[start:stop]
            keys += chunk.keys[start:stop]
            for kind, number in Counter(chunk.kinds[start:stop]).items():
                tally[name, kind] = tally.get((name, kind), 0) + number
            waiting.taken = stop
            if stop == len(chunk.items):
                feed.waiting.popleft()
                positions[name] = {"at": waiting.after, "skip": 0}
            else:
                # What a source without positions brings after a restart is not what it brought.
                skip = 0 if waiting.after is None else stop
                positions[name] = {"at": waiting.before, "skip": skip}
        if stamped and len(counts) > 1:
            order = sorted(range(len(stamps)), key=stamps.__getitem__)
            stamps = [stamps[index] for index in order]
            items = [items[index] for index in order]
            keys = [keys[index] for index in order]
        return Taken(
            items=items,
            keys=keys,
            stamps=stamps if stamped else None,
            tally=tally,
            positions=positions,
        )


def _stamps(feed: _Feed) -> list[int]:
    waiting = feed.waiting[0]
    return waiting.chunk.stamps[waiting.taken :]
