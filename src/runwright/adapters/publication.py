"""A JetStream stream as a sink: events in order, each once, acknowledged one by one.

The subject of a symbol holds its events in the order of `publish_seq`, and its last message says
how far it came. So after any interruption this goes on exactly there, however long ago it was. A
fence on each message, the sequence of the one before it, keeps two writers and a lost message from
breaking the order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NamedTuple, NoReturn

import msgspec

from runwright.adapters.jetstream import (
    ANSWER_S,
    MESSAGES_MAX,
    Connection,
    Durability,
    Loop,
    Server,
    connect,
    deferred,
    durability,
    ensure_stream,
    require_library,
    subject_of,
    troubles,
)
from runwright.adapters.published import Event, events_in
from runwright.adapters.window import Acknowledged, PublishError, Window
from runwright.kernel.errors import Deferred, InvalidSpec, RunwrightError
from runwright.kernel.ports import Delivery, Messages

if TYPE_CHECKING:
    from nats.aio.client import Client

#: What the server says when a stream holds as many messages as it may.
FULL: Final = 10077
#: What it says when another message is the last one of a subject.
FENCED: Final = 10071
MESSAGE_ID: Final = "Nats-Msg-Id"
EXPECTED_STREAM: Final = "Nats-Expected-Stream"
EXPECTED_LAST: Final = "Nats-Expected-Last-Subject-Sequence"


class Published(msgspec.Struct, frozen=True, kw_only=True):
    """Where the events of a stream go."""

    server: Server
    #: The name of the JetStream stream; it is made when it is missing.
    stream: str
    #: What the subjects begin with: `runwright.streams.NAME`.
    prefix: str
    #: Messages that may wait for their acknowledgement at once.
    window: int = 1000
    #: Seconds for everything that is delivered at once.
    timeout_s: float = 5.0
    #: What a new stream holds at most before it takes no more.
    messages_max: int = MESSAGES_MAX


class _Last(NamedTuple):
    """The last message of a subject."""

    #: Its number in the stream; 0: there is none.
    seq: int
    publish_seq: int
    data: bytes


class _Unforeseen(Exception):
    """A sequence was not the expected one: what is there has to be asked again."""


class JetStreamSink:
    """The Sink port on a JetStream stream; a thread of its own keeps the connection."""

    is_batched = True

    def __init__(self, published: Published, messages: Messages) -> None:
        """Connect at the first delivery. Raises: refused without the extra."""
        require_library(published.stream)
        self._where = published
        self._messages = messages
        #: How far an acknowledged event is safe at the server.
        self.durability: Durability = "unknown"
        self._loop: Loop | None = None
        self._connection: Connection | None = None
        self._window: Window | None = None
        self._stream_seq = 0
        self._max_msgs = 0
        #: Symbol -> subject.
        self._subjects: dict[str, str] = {}
        #: Subject -> its last message; empty whenever that is not certain.
        self._last: dict[str, _Last] = {}

    def deliver(self, deliveries: Sequence[Delivery]) -> None:
        """Publish the events of each delivery and wait for every acknowledgement.

        Raises: deferred when the server is away, slow or full; invalid-spec when its stream would
        lose events or holds those of another, or an event is larger than a message may be.
        """
        events = [event for delivery in deliveries for event in events_in(delivery.body)]
        if self._loop is None:
            self._loop = Loop(f"nats {self._where.stream}")
        try:
            self._loop.call(self._deliver(events), self._where.timeout_s + 3 * ANSWER_S)
        except troubles() as error:
            raise self._deferred(error) from error

    def close(self) -> None:
        """End the thread and the connection; again is nothing."""
        if self._loop is not None:
            if self._connection is not None:
                self._loop.call(self._connection.close(), ANSWER_S)
            self._loop.close()
            self._loop = None

    # --------------------------------------------------------------------------- in the thread

    async def _deliver(self, events: Sequence[Event]) -> None:
        try:
            client = await self._connected()
            largest = max(events, key=lambda event: len(event.data), default=None)
            if largest is not None and len(largest.data) > client.max_payload:
                message = f"{largest.symbol}: event {largest.publish_seq} has {len(largest.data)} "
                message += f"bytes; {self._where.server.shown} takes {client.max_payload}"
                raise InvalidSpec(message, hint="Raise max_payload of the server.")
            async with asyncio.timeout(self._where.timeout_s):
                try:
                    await self._publish(await self._fresh(client, events))
                except _Unforeseen:
                    # Something was there, or was not: one after the other, each by what is there.
                    self._last.clear()
                    await self._repeat(client, events)
        except RunwrightError:
            self._last.clear()
            raise
        except troubles():
            self._last.clear()
            if self._connection is not None:
                await self._connection.close()
            raise

    async def _repeat(self, client: Client, events: Sequence[Event]) -> None:
        """Publish singly. Raises: deferred when another writer comes between even so."""
        try:
            await self._publish_singly(await self._fresh(client, events))
        except _Unforeseen as error:
            message = f"another writer publishes to the JetStream stream {self._where.stream!r}"
            hint = "A stream has one writer. Does `runwright streams run` run twice?"
            raise Deferred(message, hint=hint) from error

    async def _connected(self) -> Client:
        """Return a connection to a stream that is as it has to be."""
        if self._connection is not None and self._connection.is_open:
            return self._connection.client
        where = self._where
        self._last.clear()
        if self._connection is not None:
            await self._connection.close()
        self._connection = await connect(where.server, where.stream, self._on_lost)
        client = self._connection.client
        info = await ensure_stream(
            client, where.stream, where.prefix, messages_max=where.messages_max
        )
        self._max_msgs = info.config.max_msgs or 0
        self._window = await Window(client, where.window).open()
        self.durability = await asyncio.get_running_loop().run_in_executor(
            None, durability, where.server, info.config.num_replicas or 1
        )
        self._messages(
            "sink.connected",
            server=where.server.shown,
            stream=where.stream,
            transport_durability=self.durability,
        )
        return client

    def _on_lost(self) -> None:
        if self._window is not None:
            self._window.fail()

    async def _fresh(self, client: Client, events: Sequence[Event]) -> list[Event]:
        """Return the events that the stream does not hold yet. Raises: invalid-spec."""
        subjects = dict.fromkeys(self._subject(event) for event in events)
        unknown = [subject for subject in subjects if subject not in self._last]
        if unknown:
            self._stream_seq = (await client.jsm().stream_info(self._where.stream)).state.last_seq
            found = await asyncio.gather(*(self._ask(client, subject) for subject in unknown))
            self._last.update(zip(unknown, found, strict=True))
        newest = {self._subject(event): event.publish_seq for event in events}
        fresh = []
        for event in events:
            subject = self._subject(event)
            last = self._last[subject]
            if event.publish_seq == last.publish_seq and event.data != last.data:
                message = f"{subject}: the JetStream stream {self._where.stream!r} holds another "
                message += f"event {event.publish_seq} of it than the one to be published"
                hint = "It is another stream's, or another store's: name a stream of its own."
                raise InvalidSpec(message, hint=hint)
            # With the last one of its subject among them, those before it were published too.
            if event.publish_seq > last.publish_seq or newest[subject] < last.publish_seq:
                fresh.append(event)
        return fresh

    async def _ask(self, client: Client, subject: str) -> _Last:
        """Return the last message of a subject."""
        from nats.js.errors import NotFoundError

        try:
            found = await client.jsm().get_last_msg(self._where.stream, subject)
        except NotFoundError:
            return _Last(0, 0, b"")
        data = found.data or b""
        events = events_in(data)
        return _Last(found.seq or 0, events[0].publish_seq if events else 0, data)

    def _subject(self, event: Event) -> str:
        subject = self._subjects.get(event.symbol)
        if subject is None:
            subject = self._subjects[event.symbol] = subject_of(self._where.prefix, event.symbol)
        return subject

    async def _publish(self, events: Sequence[Event]) -> None:
        """Publish with a window of messages under way, each fenced by the foreseen one before."""
        if not self._ascends(events):
            raise _Unforeseen
        first, waiting = self._stream_seq, list[asyncio.Future[Acknowledged]]()
        for event in events:
            subject = self._subject(event)
            waiting.append(await self._send(event, self._last[subject].seq))
            self._stream_seq += 1
            self._last[subject] = _Last(self._stream_seq, event.publish_seq, event.data)
        # Each error is looked at, in order: the first one says what happened.
        answers = await asyncio.gather(*waiting, return_exceptions=True)
        for offset, answer in enumerate(answers):
            if isinstance(answer, BaseException):
                self._refuse(answer)
            elif answer.duplicate or answer.seq != first + offset + 1:
                raise _Unforeseen

    def _ascends(self, events: Sequence[Event]) -> bool:
        """Say whether each event comes after the last one of its subject."""
        newest = {subject: last.publish_seq for subject, last in self._last.items()}
        for event in events:
            subject = self._subject(event)
            if event.publish_seq <= newest[subject]:
                return False
            newest[subject] = event.publish_seq
        return True

    async def _publish_singly(self, events: Sequence[Event]) -> None:
        """Publish one after the other, each fenced by what was acknowledged before it."""
        for event in events:
            subject = self._subject(event)
            last = self._last[subject]
            is_old = event.publish_seq <= last.publish_seq
            try:
                answer = await (await self._send(event, None if is_old else last.seq))
            except PublishError as error:
                self._refuse(error)
            else:
                # A duplicate is a success: the server has, or had, this event.
                if not answer.duplicate:
                    publish_seq = max(event.publish_seq, last.publish_seq)
                    self._last[subject] = _Last(answer.seq, publish_seq, event.data)
        # Where others stand now is not certain, and the next delivery asks.
        self._last.clear()

    async def _send(self, event: Event, last_seq: int | None) -> asyncio.Future[Acknowledged]:
        if self._window is None:
            raise ConnectionError("the connection ended")
        headers = {MESSAGE_ID: event.event_id, EXPECTED_STREAM: self._where.stream}
        if last_seq is not None:
            headers[EXPECTED_LAST] = str(last_seq)
        return await self._window.send(self._subject(event), event.data, headers)

    def _refuse(self, error: BaseException) -> NoReturn:
        """Raise what an error of one message means. Raises: deferred, what is unforeseen."""
        if isinstance(error, PublishError):
            if error.err_code == FENCED:
                raise _Unforeseen from error
            if error.err_code == FULL:
                message = f"the JetStream stream {self._where.stream!r} is full: max_msgs is "
                hint = "Purge what consumers have read, or raise max_msgs; nothing was lost."
                raise Deferred(f"{message}{self._max_msgs}", hint=hint) from error
            message = f"the JetStream stream {self._where.stream!r} refuses an event: {error}"
            raise Deferred(message) from error
        raise error

    def _deferred(self, error: BaseException) -> RunwrightError:
        """Return our error for trouble with the server."""
        where = self._where
        if isinstance(error, TimeoutError) and not str(error):
            message = f"the JetStream stream {where.stream!r} did not acknowledge everything "
            return Deferred(f"{message}within {where.timeout_s:g} s")
        return deferred(where.stream, where.server, error)
