"""What is done until the power is cut, what was acknowledged by then, and what is left after it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import select
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from runwright.adapters.signer import SignerMemory
from runwright.kernel.errors import SignerMemoryLost
from tests.disk.builds import Built
from tests.disk.volumes import Drive
from tests.e2e.project import SOON_S, Done, Project
from tests.e2e.test_crash import is_whole

#: The longest that a cut waits after what was acknowledged last: a few commits.
AFTER_S = 0.004
#: What a cut leaves of a sink that does not sync.
GONE = "a delivered paper is gone or empty"

#: Commits one entry after the other, seals now and then, and says on stdout what is durable.
LEDGER = """
import hashlib, itertools, json, os
from pathlib import Path
from runwright.bootstrap.conducting import conducting
from runwright.config import load
from runwright.kernel.drive.telemetry import silent
loaded = load(os.environ, start=Path.cwd())
def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())
with conducting(loaded, messages=silent) as (conductor, ports):
    conductor.recover()
    first = ports.writer.next_seq
    for count in itertools.count(first):
        seq = ports.writer.next_seq
        spec = {"kind": "cycles", "name": f"spec{count % 40}", "function_timeout_s": count + 1}
        conductor.apply("cycles", json.dumps(spec).encode())
        (entry,) = ports.store.entries(seq, seq + 1)
        say("entry", seq, hashlib.sha256(entry.raw).hexdigest())
        if count % 2 == 0:
            ports.writer.seal()
            say("seal", ports.writer.sealed.size)
"""

#: Says on a file that no cut reaches which run acts; the run id is that of one attempt.
EFFECT = """
import os
with open({path!r}, "a") as file:
    file.write(os.environ["RUNWRIGHT_RUN_ID"] + "\\n")
print("effect")
"""


class Acknowledged(NamedTuple):
    """What was said to be durable."""

    #: seq -> digest of the entry; "" where only its type is known.
    entries: dict[int, str]
    #: seq -> type.
    types: dict[int, str]
    #: Runs that started, and how many finished.
    started: set[str]
    finished: int
    sealed: int


@dataclass
class Left:
    """What one cut left."""

    #: Acknowledged entries that are not in the store as they were.
    lost: int = 0
    #: The code of the error with which the next start ended; "" when it went on.
    code: str = ""
    #: What else is not as it was promised, in words.
    broken: list[str] = field(default_factory=list)
    #: How many entries there were and how many of them nobody had been told of.
    entries: int = 0
    unannounced: int = 0
    #: How the memory of the signer and the newest seal in the store stood to each other.
    order: str = ""
    recovered: bool = False

    @property
    def is_sound(self) -> bool:
        """Say whether every promise was kept."""
        return not (self.lost or self.code or self.broken)


class Campaign:
    """Sums up many cuts of one build."""

    def __init__(self) -> None:
        """Begin with none."""
        self.cuts: list[Left] = []
        self._began_s = time.monotonic()

    def goes_on(self, count: int, is_enough: Callable[[Left], bool]) -> bool:
        """Say whether there are to be more cuts."""
        return len(self.cuts) < count and not (self.cuts and is_enough(self.cuts[-1]))

    @property
    def unsound(self) -> list[Left]:
        """The cuts after which a promise was broken."""
        return [left for left in self.cuts if not left.is_sound]

    def report(self, name: str) -> str:
        """Return one line of figures."""
        figures = {
            "cuts": len(self.cuts),
            "cuts that lost": sum(left.lost > 0 for left in self.cuts),
            "acknowledgements lost": sum(left.lost for left in self.cuts),
            "compared": sum(left.entries for left in self.cuts),
            "kept unannounced": sum(max(0, left.unannounced) for left in self.cuts),
            "recovered": sum(left.recovered for left in self.cuts),
            "codes": dict(Counter(left.code for left in self.cuts if left.code)),
            "orders": dict(Counter(left.order for left in self.cuts)),
            "broken": dict(Counter(words for left in self.cuts for words in left.broken)),
            "seconds": round(time.monotonic() - self._began_s, 1),
        }
        return f"{name}: " + ", ".join(f"{key} {value}" for key, value in figures.items())


# ------------------------------------------------------------------------------------- drivers


class Driver:
    """A process that commits, and what it acknowledged."""

    def __init__(self, project: Built) -> None:
        """Start it on a project."""
        argv = [sys.executable, "-c", project.build + LEDGER]
        self._process = subprocess.Popen(
            argv,
            cwd=project.folder,
            env=project.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        self._out = self._process.stdout.fileno()
        os.set_blocking(self._out, False)
        self._text = b""

    def wait_lines(self, count: int) -> None:
        """Wait until it acknowledged so much more."""
        wanted = self._text.count(b"\n") + count
        deadline_s = time.monotonic() + SOON_S
        while self._text.count(b"\n") < wanted:
            assert time.monotonic() < deadline_s, "the driver acknowledges nothing"
            select.select([self._out], [], [], 1.0)
            if not self._read() and self._process.poll() is not None:
                assert self._process.stderr is not None
                raise AssertionError(self._process.stderr.read().decode())

    def acknowledged(self) -> Acknowledged:
        """Return what it acknowledged up to now."""
        while self._read():
            pass
        found = Acknowledged({}, {}, set(), 0, 0)
        sealed = 0
        for line in self._text[: self._text.rfind(b"\n") + 1].decode().splitlines():
            word, number, *rest = line.split()
            if word == "seal":
                sealed = int(number)
            else:
                found.entries[int(number)] = rest[0]
                found.types[int(number)] = "spec.applied"
        return found._replace(sealed=sealed)

    def send(self, number: int) -> None:
        """Send it a signal: to stop while a copy is examined, and to go on."""
        self._process.send_signal(number)

    def close(self) -> None:
        """Kill it."""
        self._process.send_signal(signal.SIGKILL)
        self._process.communicate()

    def _read(self) -> bytes:
        try:
            data = os.read(self._out, 1 << 16)
        except BlockingIOError:
            return b""
        self._text += data
        return data


def acknowledged_by(done: Done, before: Acknowledged | None = None) -> Acknowledged:
    """Return what the messages of a command say is durable, on top of what was before."""
    found = before or Acknowledged({}, {}, set(), 0, 0)
    finished = found.finished
    for event in done.events:
        if event["event"] in ("round.planned", "round.judged"):
            found.entries[event["seq"]] = ""
            found.types[event["seq"]] = event["event"]
        elif event["event"] == "run.started":
            found.started.add(event["run"])
        elif event["event"] == "run.finished":
            finished += 1
    return found._replace(finished=finished)


def wait_moment(random: Random) -> None:
    """Let a random part of a few commits pass."""
    select.select([], [], [], random.uniform(0, AFTER_S))


def made_on(drive: Drive, build: str, effects: Path) -> Built:
    """Make a project on a drive, with three functions whose effects are elsewhere."""
    project = Built(drive.at / "base")
    project.build = build
    project.done("init", "--name", "demo")
    source = EFFECT.format(path=str(effects))
    # At T0 a function may write where it likes: what acts outside is what a cut must not repeat.
    project.apply(*(project.task(name, source, level="T0") for name in ("a", "b", "c")))
    drive.sync()
    return project


# --------------------------------------------------------------------------------- after a cut


def examine(at: Path, told: Acknowledged, effects: set[str]) -> Left:
    """Say what a copy of the drive kept, and what the next start makes of it."""
    project = Project(at / "base")
    left = Left()
    try:
        raws = dict(project.sql("SELECT seq, raw FROM entry"))
        ((sealed,),) = project.sql("SELECT coalesce(max(size), 0) FROM seal")
    except sqlite3.DatabaseError:
        raws, sealed = {}, 0
    left.entries = len(told.entries) + len(told.started) + told.finished
    left.lost = lost(told, raws)
    left.unannounced = len(raws) - 1 - max(told.entries, default=0)
    left.order = _order(project, sealed, len(raws))
    if told.sealed > sealed:
        left.broken.append("a seal is lost")

    done = project.run("apply", project.folder / "demo.yaml")
    if done.status:
        left.code = done.error[0]
        return left
    left.recovered = "tick.recovered" in {event["event"] for event in done.events}
    left.broken += _broken(project, raws, effects)
    return left


def lost(told: Acknowledged, raws: dict[int, bytes]) -> int:
    """Count what was acknowledged and is not there, or is another."""
    entries: dict[int, dict[str, Any]] = {seq: json.loads(raw) for seq, raw in raws.items()}
    started = {entry["run"] for entry in entries.values() if entry["type"] == "run.started"}
    finished = sum(entry["type"] == "run.finished" for entry in entries.values())
    count = len(told.started - started) + max(0, told.finished - finished)
    for seq, digest in told.entries.items():
        found = entries.get(seq)
        is_same = digest in ("", hashlib.sha256(raws.get(seq, b"")).hexdigest())
        if found is None or found["type"] != told.types[seq] or not is_same:
            count += 1
    return count


def _order(project: Project, sealed: int, size: int) -> str:
    """Say which of the three is ahead: the signer's memory, the newest seal, the entries."""
    (path,) = (project.state / "runwright").glob("*.memory")
    try:
        last = SignerMemory(path, path.stem).last()
    except SignerMemoryLost:
        last = None
    if last is None:
        return "no memory"
    if last.size > size:
        return "memory beyond the entries"
    if last.size != sealed:
        return "memory ahead of the seal" if last.size > sealed else "seal ahead of the memory"
    return "entries ahead of both" if size > sealed else "all equal"


def _broken(project: Project, raws: dict[int, bytes], effects: set[str]) -> list[str]:
    """Return what is not as it was promised once the next start has ended well."""
    broken = []
    if not is_whole(project):
        broken.append("the record is not whole")
    after = dict(project.sql("SELECT seq, raw FROM entry"))
    if any(after.get(seq) != raw for seq, raw in raws.items()):
        broken.append("recovery changed entries")
    if project.run("verify", "--store").status:
        broken.append("the record does not verify")
    started = {entry["run"] for entry in project.entries("run.started")}
    if not effects <= started:
        broken.append("something acted that is not recorded")
    papers = project.sql("SELECT name FROM paper WHERE state = 'delivered'")
    if not all(is_json(project.folder / "out" / name) for (name,) in papers):
        broken.append(GONE)
    if project.sql("SELECT 1 FROM paper WHERE state = 'open'"):
        broken.append("a paper was not delivered")
    return broken


def is_json(path: Path) -> bool:
    """Say whether a file is there and whole."""
    with contextlib.suppress(OSError, ValueError):
        return bool(json.loads(path.read_bytes()))
    return False
