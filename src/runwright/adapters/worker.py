"""A worker: a process that executes the calls which a place sends it, chunk by chunk.

Its supervisor started it in a session of its own, in its scratch folder, with the limits and the
confinement of its kind. It says in a mapped file which call is under way and since when, so that
nobody has to be told, and the place knows which call hangs or took the process down.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from collections.abc import Sequence
from typing import Final

import msgspec

from runwright.adapters.functions import Instants, attempted, call, failed
from runwright.kernel.ports import Work
from runwright.kernel.run import Executed

#: The names of the pipe and of the shared memory in the scratch folder.
REQUESTS_FILE, PROGRESS_FILE = "requests", "progress"
#: The longest message, bytes; inputs of 64 calls may be long.
FRAME_MAX: Final = 1 << 30
#: Bytes of a frame's length.
LENGTH_BYTES: Final = 4
READ_BYTES: Final = 1 << 18
#: The chunk, the place in it, and since when, ns.
PROGRESS: Final = struct.Struct("=QQQ")


class Chunk(msgspec.Struct, frozen=True, array_like=True):
    """Calls that are sent together."""

    #: Counts the chunks of a place, from 1.
    number: int
    instants: Instants
    work: tuple[Work, ...]


class Answer(msgspec.Struct, frozen=True, array_like=True):
    """What came of a chunk."""

    number: int
    executed: tuple[Executed, ...]
    #: How long it took, seconds.
    took_s: float


class Progress:
    """Which call of which chunk is under way, in a file that is mapped to be written quickly."""

    def __init__(self, path: str) -> None:
        """Map the file; the place has made it."""
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            self._at = memoryview(mmap.mmap(file, PROGRESS.size)).cast("Q")
        finally:
            os.close(file)

    def begin(self, chunk: int, place: int) -> None:
        """Say that the call at this place of a chunk, counted from 1, begins."""
        self._at[2] = time.monotonic_ns()
        self._at[1] = place
        self._at[0] = chunk

    def end(self) -> None:
        """Say that no call is under way."""
        self._at[1] = 0


def make_progress(path: str) -> None:
    """Make the file, with no call under way."""
    file = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(file, bytes(PROGRESS.size))
    finally:
        os.close(file)


def read_progress(file: int) -> tuple[int, int, float]:
    """Return the chunk, the place in it, 0 for none, and since when, by the monotonic clock.

    It is read and not mapped: who reads a mapping of a file that a call made shorter is killed.
    """
    data = os.pread(file, PROGRESS.size, 0)
    if len(data) < PROGRESS.size:
        return 0, 0, 0.0
    chunk, place, since_ns = PROGRESS.unpack(data)
    return chunk, place, since_ns / 1e9


def frame(body: bytes) -> bytes:
    """Return a message with its length before it."""
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


class Frames:
    """Cuts a stream of bytes into messages."""

    def __init__(self) -> None:
        """Hold nothing yet."""
        self._data = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Take in bytes; return the messages that are whole now."""
        self._data += data
        found = []
        while len(self._data) >= LENGTH_BYTES:
            size = int.from_bytes(self._data[:LENGTH_BYTES], "big")
            if size > FRAME_MAX:
                raise OverflowError("a message is longer than any may be")
            end = LENGTH_BYTES + size
            if len(self._data) < end:
                break
            found.append(bytes(self._data[LENGTH_BYTES:end]))
            del self._data[:end]
        return found


def main() -> None:
    """Execute chunks until the pipe closes."""
    requests = os.open(REQUESTS_FILE, os.O_RDONLY | os.O_CLOEXEC)
    progress = Progress(PROGRESS_FILE)
    answers = os.dup(1)
    # What a call prints has no reader, and must not stand among the answers.
    null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    os.dup2(null, 1)
    os.dup2(null, 2)
    decoder = msgspec.msgpack.Decoder(Chunk)
    frames = Frames()
    while data := os.read(requests, READ_BYTES):
        for body in frames.feed(data):
            _write(answers, frame(_execute(decoder.decode(body), progress)))
    os._exit(0)


def _execute(chunk: Chunk, progress: Progress) -> bytes:
    began_s = time.monotonic()
    executed = []
    for place, work in enumerate(chunk.work, 1):
        progress.begin(chunk.number, place)
        executed.append(attempted(work, lambda each: call(each, chunk.instants)))
    progress.end()
    return _encoded(chunk, executed, time.monotonic() - began_s)


def _encoded(chunk: Chunk, executed: Sequence[Executed], took_s: float) -> bytes:
    try:
        return _ENCODER.encode(Answer(chunk.number, tuple(executed), took_s))
    except UnicodeEncodeError:
        sound = [_sound(work, each) for work, each in zip(chunk.work, executed, strict=True)]
        return _ENCODER.encode(Answer(chunk.number, tuple(sound), took_s))


_ENCODER: Final = msgspec.msgpack.Encoder()


def _sound(work: Work, executed: Executed) -> Executed:
    """Return what can be sent: no text with half a character in it."""
    try:
        _ENCODER.encode(executed)
    except UnicodeEncodeError:
        outcome = executed.outcome
        message = outcome.message.encode("utf-8", "backslashreplace").decode()
        return msgspec.structs.replace(
            failed(work, outcome.reason or "returned", message), deferred=executed.deferred
        )
    return executed


def _write(target: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(target, rest) :]
