"""A JetStream stream as a source: pulled in order, acknowledged once it is durable here.

A durable consumer keeps at the server what is not acknowledged yet. Order and completeness do not
rest on it: what it sent and did not arrive is read from the stream by its number, and what it sends
again is known by its number. So a connection, a server and this process may end at any moment.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final, NoReturn

import msgspec

from runwright.adapters.jetstream import (
    Connection,
    Loop,
    Server,
    connect,
    deferred,
    require_library,
    troubles,
)
from runwright.adapters.pulling import Message, Pull, consumer_config
from runwright.adapters.sources import ARRIVAL_MAX
from runwright.kernel.canonical import digest
from runwright.kernel.drive.retry import delay_s
from runwright.kernel.errors import Deferred, InvalidSpec, RunwrightError
from runwright.kernel.ports import Arrival
from runwright.kernel.run import Retry

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.js.api import ConsumerInfo, StreamInfo

#: Messages and bytes that wait for the conductor; with more of them nothing is pulled.
WAITING_MAX: Final = 4096
WAITING_BYTES_MAX: Final = 64 * 1024 * 1024
#: Messages that a server which forgot acknowledgements in a crash is told of again at once.
TOLD_MAX: Final = 100_000
#: Between attempts to reach the server.
RETRY: Final = Retry(attempts=8, min_s=0.1, max_s=5)
HINT_GAP: Final = (
    "`accept_loss` goes on with what is there; what is missing stays missing. Look first whether "
    "the stream's limits are too low, or whether it was purged or restored."
)


class Subscribed(msgspec.Struct, frozen=True, kw_only=True):
    """What a NATS source takes from where."""

    server: Server
    #: The name of the JetStream stream.
    stream: str
    #: Only these subjects; "": all of the stream.
    subject: str = ""
    #: The name of the consumer that the server keeps.
    durable: str
    #: Messages that may be unacknowledged at once.
    window: int = 1000
    #: Seconds after which the server sends an unacknowledged message again.
    ack_wait_s: float = 30.0
    retry: Retry = RETRY
    #: Whether what comes after the last message that is there now is waited for.
    follow: bool = True
    #: Go on although the server has not kept all that this source has not taken.
    accept_loss: bool = False


class NatsSource:
    """The EventSource port on a JetStream stream; a thread of its own keeps the connection."""

    look_s: float | None = None

    def __init__(
        self,
        name: str,
        subscribed: Subscribed,
        *,
        now_ms: Callable[[], int],
        wake: Callable[[], None],
        position: Any = None,
    ) -> None:
        """Go on after a position; `wake` is called from the thread whenever something came.

        Raises: refused without the extra, invalid-spec for a position of another kind.
        """
        require_library(name)
        self.name = name
        self.is_over = False
        self._what = subscribed
        self._now_ms = now_ms
        self._wake = wake
        try:
            self._taken = 0 if position is None else int(position["seq"])
            self._created = "" if position is None else str(position["created"])
            self._digest = "" if position is None else str(position["digest"])
        except (KeyError, TypeError, ValueError) as error:
            message = f"{name}: {position!r} is no position in a JetStream stream"
            raise InvalidSpec(message) from error
        #: Up to where it is durable here; what the server sends of it is acknowledged at once.
        self._durable = self._taken
        #: The number of the last delivery of the consumer that was seen, and whether one before it
        #: did not come.
        self._delivered = 0
        self._has_gap = False
        #: The last message that there was, when nothing after it is waited for.
        self._end: int | None = None
        #: Stream sequence -> where it is acknowledged.
        self._replies: dict[int, str] = {}
        self._lock = threading.Lock()
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._waiting_bytes = 0
        self._paused = False
        self._failure: RunwrightError | None = None
        self._is_away = False
        self._loop: Loop | None = None
        self._life: concurrent.futures.Future[None] | None = None
        self._connection: Connection | None = None
        self._pull: Pull | None = None
        #: Set in the loop: there may be room, somebody asked again, the connection ended.
        self._room: asyncio.Event
        self._asked: asyncio.Event
        self._lost: asyncio.Event

    # ------------------------------------------------------------------- the conductor's side

    @property
    def is_away(self) -> bool:
        """Whether there is no connection now."""
        return self._is_away

    def poll(self, most: int) -> Arrival | None:
        """Return the messages that came; None while it is paused or nothing has.

        Raises: deferred when the server is away and every attempt of the retry was made: asking
        again begins anew; invalid-spec when the stream is not what was taken from.
        """
        if self.is_over or self._paused:
            return None
        if self._loop is None:
            self._loop = Loop(f"nats {self.name}")
            self._life = self._loop.start(self._live())
        elif self._life is not None and self._life.done():
            # It never ends by itself: what nobody expected is raised here, where it is seen.
            self._life.result()
        items, seq, size = list[bytes](), 0, 0
        with self._lock:
            while self._is_wanted() and len(items) < most and size < ARRIVAL_MAX:
                seq, data = self._waiting.popleft()
                items.append(data)
                size += len(data)
            self._waiting_bytes -= size
            failure = self._failure if not items else None
            if failure is not None:
                self._failure = None
            is_at_end = self._end is not None and self._taken >= self._end
        if failure is not None:
            self._set("_asked")
            raise failure
        if not items:
            # Nothing up to the end waits, or it would have been taken.
            self.is_over = is_at_end
            return None
        self._set("_room")
        position = {"seq": seq, "created": self._created, "digest": digest(items[-1])[:16]}
        return Arrival(source=self.name, items=items, position=position, received_ms=self._now_ms())

    def _is_wanted(self) -> bool:
        """Say whether a message waits, and does not lie behind the end."""
        return bool(self._waiting) and (self._end is None or self._waiting[0][0] <= self._end)

    def acknowledge(self, position: Any) -> None:
        """Acknowledge at the server everything up to a position."""
        if position is None:
            return
        with self._lock:
            self._durable = max(self._durable, int(position["seq"]))
        if self._loop is not None:
            self._start(self._acknowledge())

    def pause(self) -> None:
        """Stop pulling; what came is kept and not acknowledged."""
        self._paused = True
        if self._loop is not None:
            self._loop.soon(self._wake_pull)

    def resume(self) -> None:
        """Pull again."""
        self._paused = False
        self._set("_room")

    def close(self) -> None:
        """End the thread and the connection; what is not acknowledged stays at the server."""
        self.is_over = True
        if self._loop is not None:
            self._loop.close()
            self._loop = None

    def _set(self, event: str) -> None:
        """Set an event of the loop from the conductor's thread."""
        if self._loop is not None:
            self._loop.soon(lambda: getattr(self, event).set())

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        if self._loop is not None:
            self._loop.start(work)

    # --------------------------------------------------------------------------- in the thread

    async def _live(self) -> None:
        """Keep a connection: bounded delays between attempts, then wait to be asked again."""
        self._room, self._asked, self._lost = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._attempts = 0
        while True:
            try:
                await self._session()
            except RunwrightError as error:
                failure = error
            except troubles() as error:
                failure = deferred(self.name, self._what.server, error)
            finally:
                self._is_away = True
                if self._connection is not None:
                    await self._connection.close()
                    self._connection = None
            self._attempts += 1
            delay = delay_s(self._what.retry, self._attempts)
            if delay is not None and isinstance(failure, Deferred):
                await asyncio.sleep(delay)
                continue
            if isinstance(failure, Deferred):
                failure = Deferred(f"{failure} ({self._attempts} attempts)")
            self._asked.clear()
            with self._lock:
                self._failure = failure
            self._wake()
            await self._asked.wait()
            self._attempts = 0

    async def _session(self) -> NoReturn:
        """Connect, catch up and pull until the connection ends, which raises."""
        self._lost.clear()
        self._connection = await connect(self._what.server, self.name, self._on_lost)
        client = self._connection.client
        stream = await self._stream(client)
        consumer = await self._consumer(client, stream)
        self._delivered = consumer.delivered.consumer_seq if consumer.delivered else 0
        self._has_gap = False
        self._pull = None
        self._attempts = 0
        self._is_away = False
        if consumer.delivered:
            floor = consumer.ack_floor.stream_seq if consumer.ack_floor else 0
            first = max(floor + 1, self._durable - TOLD_MAX)
            for seq in range(first, min(self._durable, consumer.delivered.stream_seq) + 1):
                # Durable here, and the server was not told, or the word was lost on its way.
                await client.publish(self._reply_of(seq), b"+ACK")
            # It sent these to somebody who is gone, and would send them again much later.
            await self._catch_up(client, consumer.delivered.stream_seq)
        if not self._what.follow and self._end is None:
            self._end = await self._last(client)
            self._wake()
        while not self._lost.is_set():
            if self._has_room():
                if self._pull is None:
                    self._pull = await Pull(client, self._what.stream, self._what.durable).open()
                for message in await self._pull.next():
                    await self._take(client, message)
                continue
            if self._paused:
                await self._stop_pulling()
            self._room.clear()
            if not self._has_room():
                await self._room.wait()
        raise ConnectionError("the connection ended")

    async def _last(self, client: Client) -> int:
        """Return the number of the last message that there is to take; 0: there is none."""
        from nats.js.errors import NotFoundError

        try:
            found = await client.jsm().get_last_msg(self._what.stream, self._what.subject or ">")
        except NotFoundError:
            return 0
        return found.seq or 0

    async def _stop_pulling(self) -> None:
        """Take back the request that stands; what is on its way is read by its number later."""
        if self._pull is not None:
            pull, self._pull = self._pull, None
            await pull.close()

    def _on_lost(self) -> None:
        self._lost.set()
        self._room.set()
        self._wake_pull()

    def _wake_pull(self) -> None:
        if self._pull is not None:
            self._pull.wake()

    def _has_room(self) -> bool:
        return (
            not self._paused
            and len(self._waiting) < WAITING_MAX
            and self._waiting_bytes < WAITING_BYTES_MAX
        )

    async def _stream(self, client: Client) -> StreamInfo:
        """Return the stream, held against the position. Raises: invalid-spec."""
        from nats.js.errors import NotFoundError

        name = self._what.stream
        try:
            info = await client.jsm().stream_info(name)
        except NotFoundError as error:
            message = f"{self.name}: {self._what.server.shown} has no JetStream stream {name!r}"
            raise InvalidSpec(message, hint="Make it, or correct sources[].nats.stream.") from error
        created = info.created.isoformat() if info.created else ""
        if self._created and self._created != created:
            message = f"{self.name}: the JetStream stream {name!r} was made anew on {created}"
            self._lose(message)
            self._taken = self._durable = 0
        self._created = created
        state = info.state
        if self._taken and state.last_seq < self._taken:
            message = f"{self.name}: the JetStream stream {name!r} ends at {state.last_seq}, and "
            self._lose(f"{message}{self._taken} was taken: the server lost messages")
            self._taken = self._durable = state.last_seq
        elif self._taken and self._digest:
            await self._compare(client)
        if self._taken and state.first_seq > self._taken + 1 and not self._what.subject:
            message = f"{self.name}: the JetStream stream {name!r} begins at {state.first_seq} and "
            message += f"{self._taken} was taken last: what was between them was removed"
            # What was acknowledged may be removed, and so may what another reader acknowledged.
            if _word(info.config.retention) == "limits":
                self._lose(message)
        return info

    async def _compare(self, client: Client) -> None:
        """Hold the last message that was taken against the server's. Raises: invalid-spec."""
        from nats.js.errors import NotFoundError

        try:
            there = await client.jsm().get_msg(self._what.stream, self._taken)
        except NotFoundError:
            return
        if digest(there.data or b"")[:16] != self._digest:
            message = f"{self.name}: message {self._taken} of the JetStream stream "
            message += f"{self._what.stream!r} is another one than was taken: the server lost "
            self._lose(f"{message}messages and gave their numbers again")
        self._digest = ""

    def _lose(self, message: str) -> None:
        """Refuse what cannot be gone on with without a loss. Raises: invalid-spec."""
        if not self._what.accept_loss:
            raise InvalidSpec(message, hint=HINT_GAP)

    async def _consumer(self, client: Client, stream: StreamInfo) -> ConsumerInfo:
        """Return the durable consumer, made when it is missing. Raises: invalid-spec."""
        from nats.js.api import AckPolicy, DeliverPolicy
        from nats.js.errors import NotFoundError

        what, manager = self._what, client.jsm()
        found: ConsumerInfo
        try:
            found = await manager.consumer_info(what.stream, what.durable)
        except NotFoundError:
            starts = self._taken and _word(stream.config.retention) == "limits"
            policy = DeliverPolicy.BY_START_SEQUENCE if starts else DeliverPolicy.ALL
            config = consumer_config(
                durable_name=what.durable,
                deliver_policy=policy,
                opt_start_seq=self._taken + 1 if starts else None,
                ack_policy=AckPolicy.EXPLICIT,
                ack_wait=what.ack_wait_s,
                max_ack_pending=what.window,
                filter_subject=what.subject or None,
            )
            found = await manager.add_consumer(what.stream, config)
        config, wrong = found.config, list[str]()
        if config.deliver_subject:
            wrong.append("it is pushed")
        if _word(config.ack_policy) != "explicit":
            wrong.append(f"ack_policy is {_word(config.ack_policy)}")
        if (config.filter_subject or "") != what.subject:
            wrong.append(f"filter_subject is {config.filter_subject!r}")
        if (config.max_deliver or -1) > 0:
            wrong.append(f"max_deliver is {config.max_deliver}")
        if config.headers_only:
            wrong.append("it has headers only")
        if wrong:
            message = f"{self.name}: the consumer {what.durable!r} of {what.stream!r} is not as a "
            message += f"source needs it: {', '.join(wrong)}"
            raise InvalidSpec(message, hint="Name another durable: it is made when it is missing.")
        return found

    async def _catch_up(self, client: Client, last: int) -> None:
        """Read from the stream, by their numbers, what is to be taken up to one."""
        from nats.js.errors import NotFoundError

        while self._taken < last:
            try:
                message = await client.jsm().get_msg(
                    self._what.stream, self._taken + 1, self._what.subject or ">", next=True
                )
            except NotFoundError:
                return
            if message.seq is None or message.seq > last:
                return
            self._replies[message.seq] = self._reply_of(message.seq)
            self._keep(message.seq, message.data or b"")

    def _reply_of(self, seq: int) -> str:
        """Return where a message is acknowledged that did not bring that along.

        The server finds a delivery by its number in the stream; a word that it does not understand
        it passes over, and sends the message again.
        """
        return f"$JS.ACK.{self._what.stream}.{self._what.durable}.1.{seq}.{seq}.0.0"

    async def _take(self, client: Client, message: Message) -> None:
        """Take a message in, or know it again."""
        self._has_gap = self._has_gap or message.delivery != self._delivered + 1
        self._delivered = message.delivery
        if self._has_gap and message.seq > self._taken:
            await self._catch_up(client, message.seq - 1)
            self._has_gap = False
        if message.seq <= self._durable:
            await client.publish(message.reply, b"+ACK")
            return
        self._replies[message.seq] = message.reply
        if message.seq > self._taken:
            self._keep(message.seq, message.data)

    def _keep(self, seq: int, data: bytes) -> None:
        with self._lock:
            self._taken = seq
            self._waiting.append((seq, data))
            self._waiting_bytes += len(data)
            is_first = len(self._waiting) == 1
        if is_first:
            self._wake()

    async def _acknowledge(self) -> None:
        """Acknowledge what is durable; what this cannot tell is sent again and known again."""
        connection = self._connection
        replies = [seq for seq in self._replies if seq <= self._durable]
        for seq in replies:
            reply = self._replies.pop(seq)
            if connection is not None and connection.is_open:
                try:
                    await connection.client.publish(reply, b"+ACK")
                except troubles():
                    return


def _word(value: Any) -> str:
    return str(getattr(value, "value", value) or "")
