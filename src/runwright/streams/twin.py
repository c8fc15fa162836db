"""A second process in which engines are executed again, with another clock, seeds and hash order.

It is started when the first sampled run needs it and kept. Its wall clock stands still at an
instant long ago, so a time in an answer differs at once; intervals pass as they do. Generators of
random numbers seed themselves, in every process otherwise. It ends when its pipe closes, so with
the process that started it.
"""

from __future__ import annotations

import atexit
import datetime as dt
import functools
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, Final

import msgspec

from runwright.streams.canary import checked, is_sampled
from runwright.streams.engine import EngineRequest, Result, execute

#: Where the wall clock of a twin stands: 9 September 2001, 01:46:40.123457 UTC.
FROZEN_NS: Final = 1_000_000_000_123_457_000
#: Bytes of a message's length.
LENGTH_BYTES: Final = 4
READ_BYTES: Final = 1 << 18
_START: Final = "from runwright.streams.twin import main; main()"
_NS: Final = 1_000_000_000


def execute_checked(
    request: EngineRequest, *, run_id: str, canary_ppm: int, limit_s: float
) -> Result:
    """Execute an engine once, and a second time in the twin if the run is sampled.

    `limit_s` is for the second time. Raises: deferred when the engine does.
    """
    first = execute(request)
    if not is_sampled(run_id, canary_ppm):
        return first
    return checked(request, first, lambda again: twin().ask(again, limit_s))


class Twin:
    """The process, as long as it answers in time."""

    def __init__(self) -> None:
        """Start nothing yet."""
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, request: EngineRequest, limit_s: float) -> Result | None:
        """Return what an engine answers there; None when it did not in time, or died of it."""
        process = self._started()
        if process.stdin is None or process.stdout is None:
            return None
        body = _ENCODER.encode(request)
        try:
            process.stdin.write(len(body).to_bytes(LENGTH_BYTES, "big") + body)
            process.stdin.flush()
        except OSError:
            self.close()
            return None
        answer = _message(process.stdout.fileno(), limit_s)
        if answer is None:
            self.close()
            return None
        return msgspec.msgpack.decode(answer, type=Result)

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self.close()
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter
                [sys.executable, "-c", _START],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=_environment(),
            )
        return self._process

    def close(self) -> None:
        """Kill the process; the next request starts another one."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            # What was not sent goes with it.
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    _close(pipe)
            process.wait()


def _close(pipe: Any) -> None:
    try:
        pipe.close()
    except OSError:
        return


@functools.cache
def twin() -> Twin:
    """Return the twin of this process."""
    made = Twin()
    atexit.register(made.close)
    return made


def _environment() -> dict[str, str]:
    """Return the whole environment: nothing of this process but what it needs to start."""
    return {
        "PATH": os.defpath,
        "LANG": "C.UTF-8",
        "PYTHONPATH": os.pathsep.join(os.path.abspath(path) for path in sys.path),  # noqa: PTH100
        "PYTHONSAFEPATH": "1",
        "PYTHONHASHSEED": "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1",
    }


def _message(source: int, limit_s: float) -> bytes | None:
    """Return the next message; None when it is not whole in time, or never will be."""
    poll = select.poll()
    poll.register(source, select.POLLIN)
    until_s = time.monotonic() + limit_s
    data = b""
    while len(data) < LENGTH_BYTES or len(data) < LENGTH_BYTES + _size(data):
        left_s = until_s - time.monotonic()
        if left_s <= 0 or not poll.poll(int(left_s * 1000) + 1):
            return None
        piece = os.read(source, READ_BYTES)
        if not piece:
            return None
        data += piece
    return data[LENGTH_BYTES:]


def _size(data: bytes) -> int:
    return int.from_bytes(data[:LENGTH_BYTES], "big")


_ENCODER: Final = msgspec.msgpack.Encoder()


# --------------------------------------------------------------------------- inside of the twin


def main() -> None:
    """Execute what is asked until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.dup(1)
    # What an engine prints must not stand among the answers.
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    stop_clock()
    data = b""
    while piece := os.read(0, READ_BYTES):
        data += piece
        if len(data) >= LENGTH_BYTES and len(data) >= LENGTH_BYTES + _size(data):
            request = msgspec.msgpack.decode(data[LENGTH_BYTES:], type=EngineRequest)
            body = _ENCODER.encode(_executed(request))
            os.write(answers, len(body).to_bytes(LENGTH_BYTES, "big") + body)
            data = b""
    os._exit(0)


def _executed(request: EngineRequest) -> Result:
    # Deferred as well: there was an answer the first time.
    try:
        return execute(request)
    except Exception as error:  # noqa: BLE001 - an engine may raise anything, and has answered once
        return Result(error_kind="engine_failure", error_detail=type(error).__name__)


def stop_clock() -> None:
    """Have every reading of the wall clock answer one instant, in this process from now on."""
    seconds = FROZEN_NS / _NS
    stopped: dict[str, Callable[..., Any]] = {
        "time": lambda: seconds,
        "time_ns": lambda: FROZEN_NS,
        "gmtime": _of_instant(time.gmtime),
        "localtime": _of_instant(time.localtime),
        "ctime": _of_instant(time.ctime),
    }
    real_strftime, real_asctime, gmtime = time.strftime, time.asctime, time.gmtime
    stopped["strftime"] = lambda form, at=None: real_strftime(form, at or gmtime(seconds))
    stopped["asctime"] = lambda at=None: real_asctime(at or gmtime(seconds))
    for name, function in stopped.items():
        setattr(time, name, function)
    dt.datetime = _stopped_datetime(dt.datetime)  # type: ignore[misc]
    dt.date = _stopped_date(dt.date)  # type: ignore[misc]


def _of_instant(real: Callable[[float], Any]) -> Callable[..., Any]:
    return lambda seconds=None: real(FROZEN_NS / _NS if seconds is None else seconds)


def _kind_of(real: type) -> type:
    """Return a metaclass for which values of the real type are values of the stopped one."""

    class Kind(type(real)):  # type: ignore[misc]
        def __instancecheck__(cls, value: object) -> bool:
            return isinstance(value, real)

        def __subclasscheck__(cls, kind: type) -> bool:
            return issubclass(kind, real)

    return Kind


def _stopped_datetime(real: type[dt.datetime]) -> type[dt.datetime]:
    class Stopped(real, metaclass=_kind_of(real)):  # type: ignore[metaclass,misc,valid-type]
        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> Any:
            return cls.fromtimestamp(FROZEN_NS / _NS, tz)

        @classmethod
        def utcnow(cls) -> Any:
            return cls.fromtimestamp(FROZEN_NS / _NS, dt.UTC).replace(tzinfo=None)

        @classmethod
        def today(cls) -> Any:
            return cls.now()

    _name_alike(Stopped, real)
    return Stopped


def _stopped_date(real: type[dt.date]) -> type[dt.date]:
    class Stopped(real, metaclass=_kind_of(real)):  # type: ignore[metaclass,misc,valid-type]
        @classmethod
        def today(cls) -> Any:
            return cls.fromtimestamp(FROZEN_NS / _NS)

    _name_alike(Stopped, real)
    return Stopped


def _name_alike(stopped: type, real: type) -> None:
    """Give a type the name of the real one, as its values show it."""
    stopped.__name__ = stopped.__qualname__ = real.__name__
    stopped.__module__ = real.__module__
