"""Messages on their way to JetStream, a bounded number at once, each with its acknowledgement.

The library's own `publish_async` never completes a message that the server refused (nats-py 2.16),
and one acknowledgement after the other is a round trip a message; hence this.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg

#: What a server says of a message that no stream takes.
NOBODY: Final = "503"


class Acknowledged(msgspec.Struct, frozen=True):
    """What the server says of a message that it keeps."""

    #: Its number in the stream.
    seq: int = 0
    #: It has, or had, a message of this id.
    duplicate: bool = False


class PublishError(Exception):
    """The server refused a message."""

    def __init__(self, err_code: int, description: str) -> None:
        """Keep the server's code and words."""
        super().__init__(description)
        self.err_code = err_code

    def __str__(self) -> str:
        return f"{self.args[0]} ({self.err_code})" if self.err_code else str(self.args[0])


class _Error(msgspec.Struct, frozen=True):
    code: int = 0
    err_code: int = 0
    description: str = ""


class _Answer(Acknowledged, frozen=True):
    error: _Error | None = None


_DECODER: Final = msgspec.json.Decoder(_Answer)


class Window:
    """Publishes over one connection."""

    def __init__(self, client: Client, most: int) -> None:
        """Let at most so many messages wait for their acknowledgement; `open` subscribes."""
        self._client = client
        self._room = asyncio.Semaphore(most)
        self._inbox = client.new_inbox()
        self._count = 0
        self._waiting: dict[str, asyncio.Future[Acknowledged]] = {}

    async def open(self) -> Window:
        """Subscribe to the acknowledgements."""
        await self._client.subscribe(f"{self._inbox}.*", cb=self._receive)
        return self

    async def send(
        self, subject: str, data: bytes, headers: Mapping[str, str]
    ) -> asyncio.Future[Acknowledged]:
        """Publish once there is room; return what will hold the acknowledgement."""
        await self._room.acquire()
        self._count += 1
        reply = f"{self._inbox}.{self._count}"
        waiting = asyncio.get_running_loop().create_future()
        waiting.add_done_callback(lambda _: self._end(reply))
        self._waiting[reply] = waiting
        try:
            await self._client.publish(subject, data, reply, dict(headers))
        except BaseException:
            waiting.cancel()
            raise
        return waiting

    def fail(self) -> None:
        """End every wait: the connection is gone, and nothing more is acknowledged over it."""
        for waiting in list(self._waiting.values()):
            if not waiting.done():
                waiting.set_exception(ConnectionError("the connection ended"))

    def _end(self, reply: str) -> None:
        del self._waiting[reply]
        self._room.release()

    async def _receive(self, message: Msg) -> None:
        waiting = self._waiting.get(message.subject)
        if waiting is None or waiting.done():
            return
        if (message.headers or {}).get("Status") == NOBODY:
            waiting.set_exception(PublishError(0, "no stream takes this subject"))
            return
        try:
            answer = _DECODER.decode(message.data)
        except msgspec.DecodeError as error:
            waiting.set_exception(PublishError(0, f"not understood: {error}"))
            return
        if answer.error is not None:
            refusal = PublishError(answer.error.err_code, answer.error.description)
            waiting.set_exception(refusal)
        else:
            waiting.set_result(Acknowledged(answer.seq, answer.duplicate))
