"""Messages of a JetStream consumer, pulled: nothing comes that was not asked for.

A server counts as delivered what it has sent, whether it arrived or not. Every message carries a
number of its consumer as well, so one that was lost on the way shows as a gap in those.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from runwright.adapters.jetstream import ANSWER_S

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg
    from nats.js.api import ConsumerConfig, StreamInfo

#: Seconds for which one request stands at the server.
STANDS_S: Final = 2.0
#: Messages asked for at once.
MOST: Final = 500
#: Tokens of the subject that a message is acknowledged by, without and with a domain.
PLAIN: Final = 9
#: Seconds after which a server forgets a reader that is gone.
FORGOTTEN_S: Final = 60


class Message(NamedTuple):
    """One message of a stream."""

    #: Its number in the stream, and the number of this delivery in the consumer.
    seq: int
    delivery: int
    #: Messages of the consumer behind it.
    pending: int
    subject: str
    data: bytes
    #: Where it is acknowledged.
    reply: str


class Pull:
    """Pulls from one consumer; one request stands at a time."""

    def __init__(self, client: Client, stream: str, consumer: str) -> None:
        """Pull over a connection; `open` subscribes."""
        self._client = client
        self._subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"
        self._got: list[Message] = []
        #: Messages that the standing request may still bring.
        self._asked = 0
        self._until_s = 0.0
        self._status: tuple[str, str] | None = None
        self._changed = asyncio.Event()
        self._inbox = client.new_inbox()
        self._subscription: Any = None

    async def open(self) -> Pull:
        """Subscribe to what the requests bring."""
        self._subscription = await self._client.subscribe(self._inbox, cb=self._receive)
        return self

    async def close(self) -> None:
        """Let go of the subscription; with a lost connection there is none."""
        if not self._client.is_closed:
            await self._subscription.unsubscribe()

    async def _receive(self, message: Msg) -> None:
        if not message.reply:
            headers = message.headers or {}
            status = headers.get("Status", "")
            if status != "100":
                self._asked = 0
                self._status = (status, headers.get("Description", ""))
        else:
            self._asked -= 1
            self._got.append(read(message))
        self._changed.set()

    def wake(self) -> None:
        """Make `next` return."""
        self._changed.set()

    async def next(self, most: int = MOST) -> list[Message]:
        """Return what has come, in order; [] when nothing has for a while, or after `wake`.

        Raises: an error of the library when the consumer is not there any more.
        """
        if not self._got:
            if self._asked <= 0:
                await self._ask(most)
            self._changed.clear()
            try:
                async with asyncio.timeout(max(0.0, self._until_s - _now_s())):
                    if not self._got and self._status is None:
                        await self._changed.wait()
            except TimeoutError:
                # The server says when a request ends; without a word, it is gone.
                self._asked = 0
        got, self._got = self._got, []
        if not got and self._status is not None:
            self._raise()
        return got

    async def _ask(self, most: int) -> None:
        self._status = None
        self._asked = most
        self._until_s = _now_s() + STANDS_S + ANSWER_S
        request = {"batch": most, "expires": int(STANDS_S * 1e9)}
        await self._client.publish(self._subject, msgspec.json.encode(request), self._inbox)

    def _raise(self) -> None:
        """Raise what a status says, unless that is only that there was nothing."""
        from nats.js.errors import APIError

        (status, description), self._status = self._status or ("", ""), None
        if status not in ("404", "408") and "leadership" not in description.lower():
            code = int(status) if status.isdecimal() else None
            raise APIError(code=code, description=description or "the consumer is not there")


def _now_s() -> float:
    return asyncio.get_running_loop().time()


def read(message: Msg) -> Message:
    """Return a delivered message with the numbers that its reply subject holds."""
    tokens = message.reply.split(".")
    first = 4 if len(tokens) == PLAIN else 6
    return Message(
        seq=int(tokens[first + 1]),
        delivery=int(tokens[first + 2]),
        pending=int(tokens[first + 4]),
        subject=message.subject,
        data=message.data,
        reply=message.reply,
    )


async def read_stream(
    client: Client, info: StreamInfo, *, subject: str = "", first: int = 1, follow: bool = False
) -> AsyncIterator[list[Message]]:
    """Yield the messages of a stream in its order, from a number on, gaps on the way filled.

    Without `follow` up to the last one that was there when it began; with it, [] whenever nothing
    has come for a while. Raises: whatever the library does when the server is away.
    """
    last = info.state.last_seq
    while follow or first <= last:
        consumer = await _reader(client, info, subject, first)
        pull = await Pull(client, str(info.config.name), consumer).open()
        expected = 1
        try:
            while follow or first <= last:
                got = await pull.next()
                whole = [each for at, each in enumerate(got) if each.delivery == expected + at]
                expected += len(whole)
                if whole:
                    first = whole[-1].seq + 1
                    yield [each for each in whole if follow or each.seq <= last]
                    if not follow and whole[-1].pending == 0:
                        return
                elif not got:
                    if not follow:
                        return
                    yield []
                if len(whole) < len(got):
                    # Something was lost on the way: a new consumer begins after what came.
                    break
        finally:
            await pull.close()


async def _reader(client: Client, info: StreamInfo, subject: str, first: int) -> str:
    """Make a consumer that acknowledges nothing and that the server forgets; return its name."""
    from nats.js.api import AckPolicy, DeliverPolicy

    config = consumer_config(
        deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
        opt_start_seq=max(1, first),
        ack_policy=AckPolicy.NONE,
        filter_subject=subject or None,
        inactive_threshold=FORGOTTEN_S,
        mem_storage=True,
        num_replicas=1,
    )
    made = await client.jsm().add_consumer(str(info.config.name), config)
    return str(made.name)


def consumer_config(**keys: Any) -> ConsumerConfig:
    """Return the configuration of a consumer."""
    from nats.js.api import ConsumerConfig

    return ConsumerConfig(**keys)
