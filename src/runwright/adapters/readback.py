"""Events read back from where they were published, in order, and published again where lost.

What is published again carries no message id: the server would take it for a copy of what it still
remembers and does not hold any more. Consumers know it by its event_id.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final, NamedTuple

from runwright.adapters.eventfile import JsonlSink
from runwright.adapters.jetstream import (
    ANSWER_S,
    Connection,
    Loop,
    Server,
    connect,
    deferred,
    require_library,
    subject_of,
    troubles,
)
from runwright.adapters.lines import CHUNK, Lines
from runwright.adapters.publication import EXPECTED_LAST, EXPECTED_STREAM, FENCED
from runwright.adapters.published import event_of
from runwright.adapters.pulling import STANDS_S, Message, read_stream
from runwright.adapters.subscription import RETRY
from runwright.kernel.drive.retry import delay_s
from runwright.kernel.errors import Deferred, InvalidSpec
from runwright.kernel.run import Retry

#: Seconds between two looks at the end of a file that is followed.
LOOK_S: Final = 0.1
#: Says that a message is not the first of its event.
REDRIVEN: Final = "Runwright-Redriven"


class Read(NamedTuple):
    """One event as it was read, and where to go on after it."""

    data: bytes
    #: Bytes of a file, or the sequence of a stream: what `after` takes.
    position: int


def read_jsonl(path: Path, *, after: int = 0, follow: bool = False) -> Iterator[Read]:
    """Yield the whole lines of a file after so many bytes; with `follow` wait for more.

    Raises: invalid-spec when there is no such file, or it is shorter than that.
    """
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        message = f"{path}: {error.strerror}"
        raise InvalidSpec(message) from error
    try:
        if os.fstat(file).st_size < after:
            message = f"{path} is shorter than {after} bytes: it was cut or replaced"
            raise InvalidSpec(message)
        lines, offset = Lines(str(path)), after
        while True:
            piece = os.pread(file, CHUNK, offset + lines.open)
            if piece:
                lines.feed(piece)
            elif follow:
                time.sleep(LOOK_S)
            else:
                return
            for line in lines.take(len(lines)):
                offset += len(line) + 1
                if line:
                    yield Read(line, offset)
    finally:
        os.close(file)


def read_jetstream(
    server: Server,
    stream: str,
    *,
    subject: str = "",
    after: int = 0,
    follow: bool = False,
    retry: Retry = RETRY,
) -> Iterator[Read]:
    """Yield the messages of a stream after a sequence, in its order; with `follow` wait for more.

    A connection that ends is made again, with bounded delays. Raises: refused without the extra,
    deferred when the server stays away, invalid-spec when there is no such stream.
    """
    require_library(stream)
    away: tuple[type[Exception], ...] = (Deferred, *troubles())
    with closing(Loop(f"nats {stream}")) as loop:
        attempts = 0
        while True:
            messages = _messages(server, stream, subject, after + 1, follow=follow)
            try:
                while True:
                    try:
                        got = loop.call(anext(messages), STANDS_S + 3 * ANSWER_S)
                    except StopAsyncIteration:
                        return
                    attempts = 0
                    for message in got:
                        after = message.seq
                        yield Read(message.data, after)
            except away as error:
                attempts += 1
                delay = delay_s(retry, attempts)
                if delay is None:
                    raise deferred(stream, server, error) from error
                time.sleep(delay)
            finally:
                loop.call(messages.aclose(), ANSWER_S)


async def _messages(server: Server, stream: str, subject: str, first: int, *, follow: bool) -> Any:
    from nats.js.errors import NotFoundError

    connection = await connect(server, stream)
    client = connection.client
    try:
        try:
            info = await client.jsm().stream_info(stream)
        except NotFoundError as error:
            message = f"{server.shown} has no JetStream stream {stream!r}"
            raise InvalidSpec(message) from error
        found: AsyncIterator[list[Message]] = read_stream(
            client, info, subject=subject, first=first, follow=follow
        )
        async for messages in found:
            yield messages
            if not connection.is_open:
                raise ConnectionError("the connection ended")
    finally:
        await connection.close()


def redrive_jsonl(path: Path, events: Iterable[bytes]) -> int:
    """Append events again, synced; return how many. Raises: deferred."""
    return JsonlSink(path).append_again(events)


def redrive_jetstream(server: Server, stream: str, prefix: str, events: Iterable[bytes]) -> int:
    """Publish events again, one after the other; return how many.

    Raises: refused without the extra, deferred when the server is away, or somebody else publishes.
    """
    require_library(stream)
    with closing(Loop(f"nats {stream}")) as loop:
        connection = loop.call(connect(server, stream), 3 * ANSWER_S)
        publisher, count = _Again(connection, stream, prefix), 0
        try:
            for data in events:
                loop.call(publisher.publish(data), 2 * ANSWER_S)
                count += 1
        except troubles() as error:
            raise deferred(stream, server, error) from error
        finally:
            loop.call(connection.close(), ANSWER_S)
        return count


class _Again:
    """Publishes events that were published before."""

    def __init__(self, connection: Connection, stream: str, prefix: str) -> None:
        self._client = connection.client
        self._stream = stream
        self._prefix = prefix
        #: Subject -> the sequence of its last message.
        self._last: dict[str, int] = {}

    async def publish(self, data: bytes) -> None:
        from nats.js.errors import APIError, NotFoundError

        subject = subject_of(self._prefix, event_of(data).symbol)
        if subject not in self._last:
            try:
                found = await self._client.jsm().get_last_msg(self._stream, subject)
                self._last[subject] = found.seq or 0
            except NotFoundError:
                self._last[subject] = 0
        headers = {
            EXPECTED_STREAM: self._stream,
            EXPECTED_LAST: str(self._last[subject]),
            REDRIVEN: "1",
        }
        try:
            answer = await self._client.jetstream().publish(subject, data, headers=headers)
        except APIError as error:
            if error.err_code == FENCED:
                message = f"{subject}: somebody else publishes to the stream {self._stream!r}"
                hint = "Stop the run of this stream, then repair, then start it again."
                raise Deferred(message, hint=hint) from error
            raise
        self._last[subject] = answer.seq
