"""NATS JetStream: connections, subjects, and what a stream has to be so that it loses nothing.

The library needs an event loop; each user has one in a thread of its own. Nothing here reconnects
by itself: whoever holds a connection decides when to try again, the same every time. The extra
`nats` brings the library.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable, Coroutine, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, TypeVar
from urllib.parse import quote, unquote, urlsplit

import msgspec

from runwright.kernel.errors import Deferred, InvalidSpec, Refused, RunwrightError

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.js.api import StreamConfig, StreamInfo

#: How far a message is safe once the server acknowledged it.
Durability: TypeAlias = Literal["fsync", "flushed", "unknown"]

Answer = TypeVar("Answer")

#: What every subject of an output begins with.
PREFIX: Final = "runwright.streams"
#: Seconds that a request to the server may take.
ANSWER_S: Final = 5.0
#: Seconds between two attempts to end work that was cancelled.
CANCEL_S: Final = 0.1
#: A connection that does not answer so many pings, so many seconds apart, is lost.
PING_S: Final = 5
PINGS_MAX: Final = 2
#: Messages that a new stream holds before it takes no more.
MESSAGES_MAX: Final = 10_000_000
INSTALL: Final = "pip install 'runwright[nats]'"


def require_library(name: str) -> None:
    """Refuse to go on without the extra. Raises: refused."""
    try:
        import nats.js  # noqa: F401 - whether it is there
    except ImportError as error:
        message = f"{name}: NATS needs the package nats-py"
        raise Refused(message, hint=INSTALL) from error


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """Where a server is, and who signs in."""

    #: "nats://host:port", several separated by commas; user and password may be part of it.
    url: str
    #: Who signs in; "": whoever the address or the credentials say.
    user: str = ""
    password: str = ""
    #: A file of credentials; "": none.
    credentials: str = ""
    #: The server's monitoring, "http://host:8222", which says how it syncs; "": not known.
    monitor: str = ""
    #: The key of the spec that names the server, for messages; "": none does.
    key: str = ""

    def __repr__(self) -> str:
        """Show where it is, and no secret."""
        return f"Server({self.shown})"

    @property
    def shown(self) -> str:
        """The address without user and password."""
        parts = [urlsplit(each if "://" in each else f"nats://{each}") for each in self.urls]
        return ", ".join(f"{part.scheme}://{part.netloc.rpartition('@')[2]}" for part in parts)

    @property
    def urls(self) -> list[str]:
        """Each server's address."""
        return [each.strip() for each in self.url.split(",") if each.strip()]


class Loop:
    """An event loop in a thread of its own."""

    def __init__(self, name: str) -> None:
        """Start the thread."""
        self._loop = asyncio.new_event_loop()
        self._ours = set[asyncio.Task[Any] | None]()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.close()

    def start(self, work: Coroutine[Any, Any, Answer]) -> concurrent.futures.Future[Answer]:
        """Start work, and return what will hold its answer."""
        return asyncio.run_coroutine_threadsafe(self._kept(work), self._loop)

    async def _kept(self, work: Coroutine[Any, Any, Answer]) -> Answer:
        task = asyncio.current_task()
        self._ours.add(task)
        try:
            return await work
        finally:
            self._ours.discard(task)

    def call(self, work: Coroutine[Any, Any, Answer], timeout_s: float) -> Answer:
        """Wait for work. Raises: TimeoutError, and whatever it raises."""
        future = self.start(work)
        try:
            return future.result(timeout_s)
        except TimeoutError:
            future.cancel()
            raise

    def soon(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Call a function in the thread; one that was closed calls nothing."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function, *arguments)

    def close(self) -> None:
        """Cancel what is under way and end the thread; again is nothing."""
        if self._loop.is_closed():
            return
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(2 * ANSWER_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    async def _end(self) -> None:
        """Cancel our work, which closes its connections, and then what the library left."""
        await _cancelled([task for task in self._ours if task is not None])
        await _cancelled(asyncio.all_tasks() - {asyncio.current_task()})
        await self._loop.shutdown_default_executor()


async def _cancelled(tasks: Iterable[asyncio.Task[Any] | None]) -> None:
    """Cancel tasks until they have ended: one cancellation may be lost (`asyncio.wait_for`)."""
    ending = {task for task in tasks if task is not None}
    while ending:
        for task in ending:
            task.cancel()
        _, ending = await asyncio.wait(ending, timeout=CANCEL_S)


class Connection:
    """A connection that is not made again by itself."""

    def __init__(self, name: str, lost: Callable[[], None] | None = None) -> None:
        """Call `lost` when it ends, by itself or by `close`."""
        from nats.aio.client import Client

        self.client: Client = Client()
        self._name = name
        self._lost = lost
        self._ended = asyncio.Event()

    @property
    def is_open(self) -> bool:
        """Whether it is connected."""
        return self.client.is_connected

    async def open(self, server: Server) -> None:
        """Connect once.

        Raises: deferred when no server answers, invalid-spec when it lets nobody in, or the
        credentials cannot be read.
        """
        from nats.errors import AuthorizationError, Error

        name, signs = self._name, _signing(server)
        try:
            await self.client.connect(
                servers=server.urls,
                name=f"runwright {name}",
                allow_reconnect=False,
                max_reconnect_attempts=1,
                reconnect_time_wait=0,
                connect_timeout=2,
                dont_randomize=True,
                ping_interval=PING_S,
                max_outstanding_pings=PINGS_MAX,
                **signs,
                error_cb=self._on_error,
                closed_cb=self._on_closed,
                disconnected_cb=self._on_lost,
            )
        except (Error, OSError, TimeoutError) as error:
            await self.close()
            text = str(self.client.last_error or error)
            if isinstance(error, AuthorizationError) or "authorization" in text.lower():
                message = f"{name}: the NATS server at {server.shown} lets nobody in: {text}"
                hint = "User and password belong to the URL."
                if server.key:
                    hint = f"Look at {server.key}.user_env and password_env, or at credentials."
                raise InvalidSpec(message, hint=hint) from error
            message = f"{name}: no NATS server answers at {server.shown}: {clear(error)}"
            raise Deferred(message) from error
        except BaseException:
            await self.close()
            raise

    async def _on_lost(self) -> None:
        if self._lost is not None:
            self._lost()

    async def _on_closed(self) -> None:
        self._ended.set()
        await self._on_lost()

    async def _on_error(self, _error: Exception) -> None:
        """Say nothing: what fails raises where it is asked for."""

    async def close(self) -> None:
        """Let go of it, also where the library is letting go of it already; again is nothing."""
        await self.client.close()
        async with asyncio.timeout(ANSWER_S):
            await self._ended.wait()


def _signing(server: Server) -> Mapping[str, Any]:
    """Return what the library is told of who signs in. Raises: invalid-spec."""
    if server.credentials:
        from runwright.adapters.credentials import read_credentials  # lazy: only who has a file

        try:
            found = read_credentials(Path(server.credentials))
        except InvalidSpec as error:
            key = f"{server.key}.credentials: " if server.key else ""
            raise InvalidSpec(f"{key}{error}", hint=error.hint) from error
        return {"user_jwt_cb": found.token, "signature_cb": found.sign}
    return {"user": server.user or None, "password": server.password or None}


async def connect(server: Server, name: str, lost: Callable[[], None] | None = None) -> Connection:
    """Return an open connection. Raises: deferred, invalid-spec."""
    made = Connection(name, lost)
    await made.open(server)
    return made


def troubles() -> tuple[type[Exception], ...]:
    """Return what is raised when a server is away, cuts off, or does not answer in time."""
    from nats.errors import Error

    return (Error, OSError, TimeoutError, asyncio.IncompleteReadError)


def clear(error: BaseException) -> str:
    """Return what the library says, in one line."""
    from nats.js.errors import APIError

    if isinstance(error, APIError) and error.description:
        return f"{error.description} ({error.err_code})"
    return " ".join(str(error).removeprefix("nats: ").split()) or type(error).__name__


# ------------------------------------------------------------------------------------- subjects


def subject_of(prefix: str, symbol: str) -> str:
    """Return the subject of a symbol: whatever a subject gives a meaning to is %-encoded."""
    return f"{prefix}.{escaped(symbol)}"


def escaped(symbol: str) -> str:
    """Return a symbol as one token of a subject. Raises: invalid-spec for an empty one."""
    if not symbol:
        message = "an empty symbol has no subject"
        raise InvalidSpec(message)
    return quote(symbol, safe="").replace(".", "%2E").replace("~", "%7E")


def symbol_of(subject: str) -> str:
    """Return the symbol of a subject."""
    return unquote(subject.rpartition(".")[2])


def prefix_of(stream: str) -> str:
    """Return what the subjects of a stream begin with."""
    return f"{PREFIX}.{escaped(stream)}"


# -------------------------------------------------------------------------------------- streams


async def ensure_stream(
    client: Client, name: str, prefix: str, *, messages_max: int = MESSAGES_MAX
) -> StreamInfo:
    """Return a stream that takes the subjects of a prefix; it is made when it is missing.

    Raises: invalid-spec, naming what would lose messages, when it is there and not as it has to be.
    """
    from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType, StreamConfig
    from nats.js.errors import NotFoundError

    manager = client.jsm()
    try:
        info = await manager.stream_info(name)
    except NotFoundError:
        return await manager.add_stream(
            StreamConfig(
                name=name,
                subjects=[f"{prefix}.>"],
                retention=RetentionPolicy.LIMITS,
                storage=StorageType.FILE,
                discard=DiscardPolicy.NEW,
                max_msgs=messages_max,
                max_bytes=-1,
                duplicate_window=120,
                allow_direct=True,
            )
        )
    found = faults(info.config, prefix)
    if found:
        message = f"the JetStream stream {name!r} would lose events: {'; '.join(found)}"
        hint = (
            "Change it with `nats stream edit`, or name another stream: one that is missing is "
            "made as it has to be."
        )
        raise InvalidSpec(message, hint=hint)
    return info


def faults(config: StreamConfig, prefix: str) -> list[str]:
    """Return what in a stream's configuration would lose, refuse or move events, each by its key.

    One limit and no other: with `max_msgs` and `max_bytes` together and `discard: new` a server
    acknowledges messages that it does not keep.
    """
    found = []
    if f"{prefix}.>" not in (config.subjects or ()) and ">" not in (config.subjects or ()):
        found.append(f"subjects: {config.subjects} lack {prefix}.>")
    if _text(config.storage) != "file":
        found.append(f"storage: {_text(config.storage)} forgets everything when the server ends")
    if _text(config.retention) != "limits":
        found.append(f"retention: {_text(config.retention)} removes what somebody has read")
    if _text(config.discard) != "new":
        found.append("discard: old removes the oldest events when it is full; it has to be new")
    if (config.max_bytes or -1) > 0:
        found.append(f"max_bytes: {config.max_bytes}; max_msgs has to be the only limit")
    if config.max_age:
        found.append(f"max_age: {config.max_age:g} s; events are removed by their age")
    if config.max_msgs_per_subject > 0:
        found.append(f"max_msgs_per_subject: {config.max_msgs_per_subject}")
    if config.no_ack:
        found.append("no_ack: nothing is acknowledged")
    if config.sealed:
        found.append("sealed: it takes nothing")
    if config.mirror is not None:
        found.append("mirror: it takes only what another stream has")
    if config.subject_transform is not None:
        found.append("subject_transform: events would be under other subjects")
    if _text(config.persist_mode) == "async":
        found.append("persist_mode: async acknowledges what is not written")
    return found


def _text(value: Any) -> str:
    """Return the word of a setting, whether the library made an Enum of it or not."""
    return str(getattr(value, "value", value) or "")


def durability(server: Server, replicas: int) -> Durability:
    """Return how far an acknowledged message is safe, as the server's monitoring says it.

    Blocks; a server acknowledges after a sync only with `sync_interval: always`. One server cannot
    speak for its replicas.
    """
    if not server.monitor or replicas > 1:
        return "unknown"
    import http.client  # lazy: only a sink with a monitoring address
    import urllib.request  # lazy: the same

    url = f"{server.monitor.rstrip('/')}/jsz"
    if urlsplit(url).scheme not in ("http", "https"):
        message = f"{server.monitor!r} is no address of a server's monitoring: http://host:8222"
        raise InvalidSpec(message)
    try:
        with urllib.request.urlopen(url, timeout=ANSWER_S) as answer:  # noqa: S310 - checked
            config = msgspec.json.decode(answer.read()).get("config", {})
    except (OSError, http.client.HTTPException, msgspec.DecodeError):
        return "unknown"
    return "fsync" if config.get("sync_always") else "flushed"


def deferred(name: str, server: Server, error: BaseException) -> RunwrightError:
    """Return our error for trouble with a server; ours stays as it is."""
    if isinstance(error, RunwrightError):
        return error
    return Deferred(f"{name}: the NATS server at {server.shown}: {clear(error)}")
