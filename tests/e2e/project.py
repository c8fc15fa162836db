"""A project in a folder of its own, worked on through the real command line in real processes."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import runwright

#: Seconds within which what is certain to happen happens, also on a busy machine.
SOON_S = 30.0
#: Seconds between two looks at something that cannot be waited for.
LOOK_S = 0.005
#: What a project has before anything was applied to it: enough to copy.
ERROR = re.compile(r"^error\[([a-z-]+)\]: (.*)$", re.MULTILINE)


def until(condition: Callable[[], Any], what: str, within_s: float = SOON_S) -> Any:
    """Look until a condition holds; return what it returned. Fails when it does not in time."""
    deadline_s = time.monotonic() + within_s
    while not (found := condition()):
        if time.monotonic() > deadline_s:
            raise AssertionError(f"waited {within_s} s in vain: {what}")
        select.select([], [], [], LOOK_S)
    return found


def processes(marker: str) -> list[int]:
    """Return the processes that carry a marker in their arguments."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            # It may have ended since.
            with contextlib.suppress(OSError):
                if marker.encode() in (folder / "cmdline").read_bytes():
                    found.append(int(folder.name))
    return found


class Done(NamedTuple):
    """What one command left behind."""

    status: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        """The one JSON document that it printed."""
        return json.loads(self.stdout)

    @property
    def events(self) -> list[dict[str, Any]]:
        """The messages that it wrote as JSON lines."""
        return [json.loads(line) for line in self.stderr.splitlines() if line.startswith("{")]

    @property
    def error(self) -> tuple[str, str]:
        """The code and the message of the error that it ended with."""
        found = ERROR.search(self.stderr)
        assert found, f"no error in {self}"
        return found[1], found[2]


class Gate:
    """Two named pipes: a function says on one that it began, and ends when the other lets it."""

    def __init__(self, folder: Path, name: str = "gate") -> None:
        """Make the pipes and hold both, so that neither side waits for the other to open one."""
        folder.mkdir(parents=True, exist_ok=True)
        self.up, self.go = folder / f"{name}.up", folder / f"{name}.go"
        os.mkfifo(self.up)
        os.mkfifo(self.go)
        self._up = os.open(self.up, os.O_RDWR | os.O_NONBLOCK)
        self._go = os.open(self.go, os.O_RDWR | os.O_NONBLOCK)

    @property
    def source(self) -> str:
        """Python text that says that it began, and waits."""
        return f"{self.announce}open({str(self.go)!r}, 'rb', 0).read(1)\n"

    @property
    def announce(self) -> str:
        """Python text that says that it began, with its pid."""
        return f"import os\nopen({str(self.up)!r}, 'w').write(f'{{os.getpid()}}\\n')\n"

    def wait_begun(self) -> int:
        """Wait until a function said that it began; return its pid."""
        ready, _, _ = select.select([self._up], [], [], SOON_S)
        assert ready, f"nobody announced itself on {self.up.name}"
        line = b""
        while not line.endswith(b"\n"):
            line += os.read(self._up, 1)
        return int(line)

    def begun(self) -> bool:
        """Say whether a function said that it began and nobody took notice yet."""
        return bool(select.select([self._up], [], [], 0)[0])

    def let_go(self) -> None:
        """Let one function end."""
        os.write(self._go, b"!")

    def close(self) -> None:
        """Let go of the pipes."""
        os.close(self._up)
        os.close(self._go)


class Running:
    """A command under way."""

    def __init__(self, process: subprocess.Popen[bytes], stdout: Path) -> None:
        """Take over a process whose stderr is a pipe and whose stdout is a file."""
        self.process = process
        self.pid = process.pid
        self._stdout = stdout
        self._text = b""
        assert process.stderr is not None
        self._stderr = process.stderr
        os.set_blocking(self._stderr.fileno(), False)

    def wait_event(self, name: str, count: int = 1, **fields: Any) -> dict[str, Any]:
        """Wait until it wrote a message of this name, with these fields, so many times.

        Return the last one.
        """

        def found() -> dict[str, Any] | None:
            self._read(LOOK_S)
            events = [
                each
                for each in self.so_far().events
                if each["event"] == name and fields.items() <= each.items()
            ]
            assert events or self.process.poll() is None or self._read(0), self.so_far()
            return events[count - 1] if len(events) >= count else None

        event: dict[str, Any] = until(found, f"event {name} in {self.so_far().stderr!r}")
        return event

    def send(self, number: int) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """Kill it from outside, at once, and take notice of its end."""
        self.process.kill()
        self.process.wait(SOON_S)

    def end(self, within_s: float = SOON_S) -> Done:
        """Wait until it has ended; return what it left."""
        until(lambda: self._read(LOOK_S) == b"", f"end of {self.process.args!r}", within_s)
        self.process.wait(within_s)
        return self.so_far()

    def so_far(self) -> Done:
        """Return what it wrote up to now."""
        lines = self._text[: self._text.rfind(b"\n") + 1]
        status = self.process.returncode
        text = self._stdout.read_text(encoding="utf-8", errors="replace")
        return Done(-1 if status is None else status, text, lines.decode(errors="replace"))

    def close(self) -> None:
        """End it when it has not ended."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._stderr.close()

    def _read(self, timeout_s: float) -> bytes | None:
        """Read what is there; nothing at the end, None when there is nothing yet."""
        ready, _, _ = select.select([self._stderr], [], [], timeout_s)
        if not ready:
            return None
        data = os.read(self._stderr.fileno(), 1 << 16)
        self._text += data
        return data


class Project:
    """A folder with a project in it."""

    def __init__(self, base: Path) -> None:
        """Use `project` below a folder, and `state` beside it for what the signer remembers."""
        self.base = base
        self.folder = base / "project"
        self.state = base / "state"
        self.folder.mkdir(parents=True, exist_ok=True)
        self._running: list[Running] = []
        self._gates: list[Gate] = []

    @property
    def store(self) -> Path:
        """The store's file."""
        return self.folder / ".runwright" / "store.db"

    @property
    def environment(self) -> dict[str, str]:
        """What a command finds in its environment unless a test says otherwise."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.base),
            "USER": "operator",
            "XDG_STATE_HOME": str(self.state),
            "LANG": "C.UTF-8",
            # The package that the tests import, wherever it lies; functions do not get this.
            "PYTHONPATH": str(Path(runwright.__file__).parents[1]),
            "RUNWRIGHT_CONDUCTOR_DRAIN_S": "20",
        }

    # ------------------------------------------------------------------------------- commands

    def run(
        self,
        *words: object,
        env: Mapping[str, str] | None = None,
        folder: Path | None = None,
        within_s: float = SOON_S,
        before: Callable[[], object] | None = None,
    ) -> Done:
        """Give one command and wait for its end."""
        done = subprocess.run(
            self._argv(words),
            cwd=folder or self.folder,
            env={**self.environment, **(env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=within_s,
            preexec_fn=before,
        )
        stdout, stderr = (text.decode(errors="replace") for text in (done.stdout, done.stderr))
        return Done(done.returncode, stdout, stderr)

    def start(self, *words: object, env: Mapping[str, str] | None = None) -> Running:
        """Give one command and leave it under way."""
        stdout = self.base / f"stdout.{len(self._running)}"
        with stdout.open("wb") as file:
            process = subprocess.Popen(
                self._argv(words),
                cwd=self.folder,
                env={**self.environment, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.PIPE,
            )
        self._running.append(Running(process, stdout))
        return self._running[-1]

    def done(self, *words: object, status: int = 0, **how: Any) -> Done:
        """Give one command and insist on its status."""
        done = self.run(*words, **how)
        assert done.status == status, done
        return done

    def _argv(self, words: tuple[object, ...]) -> list[str]:
        return [sys.executable, "-m", "runwright", *map(str, words)]

    # --------------------------------------------------------------------------- what it holds

    def gate(self, name: str = "gate") -> Gate:
        """Make a gate beside the project."""
        self._gates.append(Gate(self.base, name))
        return self._gates[-1]

    def write(self, name: str, text: str | bytes) -> Path:
        """Write a file of the project."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    def task(self, name: str, source: str = "", **config: Any) -> dict[str, Any]:
        """Return a task whose function is a Python file with this text.

        Unless `write` says otherwise it may write below `effects` and to the gates made so far.
        """
        if "function_path" not in config and "command" not in config:
            self.write(f"functions/{name}.py", source)
            config["function_path"] = f"functions/{name}.py"
        (self.folder / "effects").mkdir(parents=True, exist_ok=True)
        gates = [str(path) for gate in self._gates for path in (gate.up, gate.go)]
        config.setdefault("write", ["effects", *gates])
        top = {
            key: config.pop(key) for key in ("agent_id", "enabled", "task_type") if key in config
        }
        return {"task_name": name, "agent_id": "FINN", **top, "task_config": config}

    def spec(self, *tasks: Mapping[str, Any], name: str = "demo", **fields: Any) -> Path:
        """Write a spec file of cycles; JSON is YAML too."""
        text = json.dumps({"kind": "cycles", "name": name, **fields, "tasks": tasks}, indent=1)
        return self.write(f"{name}.yaml", text)

    def apply(self, *tasks: Mapping[str, Any], name: str = "demo", **fields: Any) -> Done:
        """Write a spec file and apply it."""
        return self.done("apply", self.spec(*tasks, name=name, **fields))

    def sql(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Execute a statement on the store, as an operator would."""
        with contextlib.closing(sqlite3.connect(self.store, timeout=SOON_S)) as store:
            rows = store.execute(statement, values).fetchall()
            store.commit()
        return rows

    @contextlib.contextmanager
    def reading(self) -> Iterator[Callable[[str], list[Any]]]:
        """Hand out what reads a copy of the store's files; they stay as a crash left them."""
        with tempfile.TemporaryDirectory() as folder:
            for end in ("", "-wal"):
                path = self.store.with_name(self.store.name + end)
                if path.exists():
                    shutil.copy(path, folder)
            with contextlib.closing(sqlite3.connect(Path(folder, self.store.name))) as store:
                yield lambda statement: store.execute(statement).fetchall()

    def entries(self, kind: str = "") -> list[dict[str, Any]]:
        """Return the entries of the ledger, of one type or all."""
        found = [json.loads(raw) for (raw,) in self.sql("SELECT raw FROM entry ORDER BY seq")]
        return [entry for entry in found if kind in ("", entry["type"])]

    def bodies(self, kind: str) -> list[dict[str, Any]]:
        """Return the bodies of the entries of one type."""
        return [entry["body"] for entry in self.entries(kind)]

    def evidence(self, label: str = "") -> Any:
        """Return the evidence of a cycle; of the newest unless it is named."""
        files = sorted((self.folder / "out" / "evidence").glob(f"{label or '*'}.json"))
        return json.loads(files[-1].read_text(encoding="utf-8"))

    def counts(self) -> dict[str, int]:
        """Return how many rows each table has."""
        names = self.sql("SELECT name FROM sqlite_master WHERE type = 'table'")
        return {name: self.sql(f'SELECT count(*) FROM "{name}"')[0][0] for (name,) in names}

    def everything(self) -> Iterator[tuple[Path, bytes]]:
        """Yield every file that the product wrote, with its bytes."""
        for folder in (self.folder / ".runwright", self.folder / "out", self.state):
            for path in sorted(folder.rglob("*")):
                if path.is_file():
                    yield path, path.read_bytes()

    def copy_to(self, base: Path) -> Project:
        """Return a copy of the whole project, with what its signer remembers."""
        shutil.copytree(self.base, base, dirs_exist_ok=True)
        return Project(base)

    def close(self) -> None:
        """End what is still under way."""
        for running in self._running:
            if running.process.poll() is None:
                running.send(signal.SIGKILL)
            running.close()
        for gate in self._gates:
            gate.close()
