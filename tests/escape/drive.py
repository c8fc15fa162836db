"""Runs every attack of one user at one level and writes down what was seen of each.

A program of its own: the tests start it, where they may, in process, mount and IPC namespaces of
their own, so that nothing of what it runs reaches the machine. It looks from outside, as the
parent of whatever escapes its tree.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import hashlib
import json
import os
import select
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from tests.e2e.project import until
from tests.escape import alone
from tests.escape.attacks import Attack, Topic, attacks, is_shown
from tests.escape.looking import look, processes, seen_from_here, survivors
from tests.escape.scene import Scene, UserProject
from tests.escape.witnesses import tables, tracers, witness_of

LOOK_S: Final = 0.004
CYCLE_S: Final = 500.0
#: Those whose traces are read when the cycle has ended.
LATE: Final = ("print_secret", "print_reversed")


class Clock:
    """Hears from the kernel when somebody sets the clock."""

    def __init__(self) -> None:
        """Ask for it: a timer far ahead that is cancelled when the clock is set."""
        library = ctypes.CDLL(None, use_errno=True)
        self._timer = library.timerfd_create(0, os.O_NONBLOCK | os.O_CLOEXEC)
        far = struct.pack("=qqqq", 0, 0, int(time.time()) + 10_000, 0)
        library.timerfd_settime(self._timer, 3, far, None)

    def was_set(self) -> bool:
        """Say whether it was set since this was asked last."""
        try:
            os.read(self._timer, 8)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return False


class Cycle:
    """One cycle under way, and what is seen of its functions from outside."""

    def __init__(self, scene: Scene, argv: list[str], project: UserProject, scratch: Path) -> None:
        """Start it."""
        self.scene = scene
        self.scratch = scratch
        self.messages = project.base / f"messages.{time.monotonic_ns()}"
        self.seen: dict[str, dict[str, Any]] = {}
        self.runs: dict[str, str] = {}
        self.on_hold: dict[str, Callable[[Cycle, Mapping[str, Any]], bool]] = {}
        self.memory = next((path for path in project.state.rglob("*.memory")), None)
        self.memories: set[str] = set()
        self._written = 0
        self._read = 0
        self._looked: set[Path] = set()
        with self.messages.open("wb") as file:
            self.process = subprocess.Popen(
                argv,
                cwd=project.folder,
                env=project.environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=file,
            )
        self.known = {self.process.pid, *(each.pid for each in scene.bystanders.values())}

    def watch(self, within_s: float = CYCLE_S) -> None:
        """Follow it to its end."""
        until_s = time.monotonic() + within_s
        while self.step():
            if time.monotonic() > until_s:
                self.process.kill()
                self.process.wait()
                raise TimeoutError(f"no end of {self.process.args}: {list(self.seen)[-3:]}")

    def step(self) -> bool:
        """Look once; False when it has ended."""
        ended = self.process.poll() is not None
        self._remember()
        reap(self.known)
        for event in self._events():
            name = event.get("event")
            if name == "run.started":
                self.runs[event["key"]] = event["run"]
            elif name == "run.finished":
                self._finished(event)
        # The folders of a template's children stand in one of its own.
        for ready in [*self.scratch.glob("*/ready"), *self.scratch.glob("warm-*/*/ready")]:
            if ready not in self._looked:
                self._looked.add(ready)
                self._hold(ready)
        if not ended:
            select.select([], [], [], LOOK_S)
        return not ended

    def _remember(self) -> None:
        """Keep the digest of everything that the signer remembered meanwhile."""
        if self.memory is not None and (at := self.memory.stat().st_mtime_ns) != self._written:
            self._written = at
            self.memories.add(hashlib.sha256(self.memory.read_bytes()).hexdigest())

    def _events(self) -> Iterator[dict[str, Any]]:
        with self.messages.open("rb") as file:
            file.seek(self._read)
            data = file.read()
        lines = data[: data.rfind(b"\n") + 1]
        self._read += len(lines)
        for line in lines.splitlines():
            if line.startswith(b"{"):
                yield json.loads(line)

    def _finished(self, event: dict[str, Any]) -> None:
        """Count who is left of a run that has ended, at once."""
        seen = self.of(event["key"])
        run = self.runs.get(event["key"], event["key"])
        left = survivors(run, conductor=self.process.pid, known=self.known)
        if self.process.poll() is not None:
            # Its launcher is about to end as well; who counts at the end of the cycle waits for it.
            left = []
        for text in left:
            # What one leaves must not be counted as the next one's.
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(text.split()[0]), signal.SIGKILL)
        if self._is_locked(event["key"]):
            # Who forks and ends all the time is in no list, but its lock is seen.
            left = [*left, "somebody who holds its lock"]
        seen |= {**event, "survivors": left, "finished": True}
        if self.scratch.name == "bare":
            (self.scratch / f"counted.{event['key']}").touch()

    def of(self, name: str) -> dict[str, Any]:
        """Return what was seen of one function so far."""
        return self.seen.setdefault(name, {"look": {}, "survivors": [], "word": {}})

    def _hold(self, path: Path) -> None:
        """Look at a child that stands still, and let it go on."""
        ready = json.loads(path.read_bytes())
        ready["pid"] = seen_from_here(ready["pid"], path.parent.name)
        roles = self.roles(ready["pid"])
        seen = look(ready, path.parent, root=self.process.pid)
        seen["tracers"] = tracers(roles)
        seen["tables"] = tables(seen)
        seen["locked"] = self._is_locked(ready["attack"])
        self.of(ready["attack"])["look"] = {**seen, "roles": roles}
        action = self.on_hold.get(ready["attack"])
        if action is None or action(self, self.of(ready["attack"])["look"]):
            with contextlib.suppress(FileNotFoundError):
                (path.parent / "seen").touch()

    def roles(self, pid: int) -> dict[str, int]:
        """Return who stands above a child, up to the conductor."""
        chain, found = [pid], processes()
        while chain[-1] != self.process.pid and chain[-1] in found:
            chain.append(found[chain[-1]].parent)
        above = chain[-3:] if len(chain) > 3 else [0, 0, self.process.pid]
        names = ("supervisor", "launcher", "conductor")
        told = {"bystander": self.scene.told["bystander"]["pid"]}
        return {**dict(zip(names, above, strict=True)), **told}

    def _is_locked(self, name: str) -> bool:
        path = self.scene.folder / name / "file"
        if not path.exists():
            return False
        try:
            with path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def reap(known: set[int]) -> None:
    """Collect what ended and was left to this process, but for those that it started itself."""
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
            if ended.si_pid in known:
                return
            os.waitpid(ended.si_pid, 0)


def shared(scene: Scene, wanted: Callable[[Attack], bool]) -> Iterator[dict[str, Any]]:
    """Run every attack that lets the others go on, in one cycle."""
    project = scene.project
    scene.initialise(project)
    chosen = [(topic, each) for topic, each in attacks() if wanted(each) and not each.alone]
    tasks = [_plain(scene, "overture")]
    for topic, attack in chosen:
        tasks.append(scene.task(project, topic, attack, **_more(scene, attack)))
        if attack.name == "write_module":
            tasks.append(project.task("importing", function_path="functions/importing.py"))
        if attack.name == "write_sibling":
            tasks.append(project.task("sibling", function_path="functions/sibling.py"))
    tasks.append(_plain(scene, "finale"))
    spec = project.spec(*tasks, title=scene.token("store"))
    project.own()
    project.done("apply", spec, within_s=60)
    clock = Clock()
    argv = project._argv(("run", "demo"))
    cycle = Cycle(scene, argv, project, project.folder / ".runwright/scratch")
    size = project.store.stat().st_size
    answers: list[dict[str, Any]] = []

    def overture(_cycle: Cycle, _look: Mapping[str, Any]) -> bool:
        other = cycle.scratch / "other"
        other.mkdir(mode=0o700)
        (other / "secret").write_text(scene.token("scratch"), encoding="utf-8")
        scene.own(other)
        return True

    def finale(_cycle: Cycle, _look: Mapping[str, Any]) -> bool:
        store = [project.store, Path(f"{project.store}-wal")]
        facts = {
            "conductor": cycle.process.pid,
            "clock_was_set": clock.was_set(),
            "kept_kib": (sum(path.stat().st_size for path in store) - size) // 1024,
            "peak_kib": _peak_kib(cycle.process.pid),
            "memories": cycle.memories,
        }
        answers.extend(
            answer(cycle, topic, attack, facts)
            for topic, attack in chosen
            if attack.name not in LATE
        )
        return True

    cycle.on_hold = {"overture": overture, "finale": finale}
    cycle.watch()
    scene.unlock()
    assert answers or not [each for _topic, each in chosen if each.name not in LATE], (
        f"the cycle ended early: {cycle.messages.read_text()[-2000:]}"
    )
    yield from answers
    if any(attack.name in LATE for _topic, attack in chosen):
        printed = {each["task_name"]: each["stdout"] for each in project.evidence()["results"]}
        for topic, attack in chosen:
            if attack.name in LATE:
                facts = {"conductor": 0, "printed": printed[attack.name]}
                yield answer(cycle, topic, attack, facts)


def _plain(scene: Scene, name: str) -> dict[str, Any]:
    """Return a task that stands still until the tests have looked around."""
    config = {"attack": name, "as": "stand", "victim": {"folder": str(scene.folder)}}
    more = {"level": scene.level, "timeout_s": 60}
    return scene.project.task(name, function_path="functions/staying.py", **config, **more)


def _more(scene: Scene, attack: Attack) -> dict[str, Any]:
    if attack.name == "flood":
        # A plain script keeps it all, so little of it is enough to see that.
        most = 32 if scene.level == "bare" else scene.mebibytes
        return {"mebibytes": most, "timeout_s": 400}
    return {"levels": scene.levels, "timeout_s": 200} if attack.name == "deep_folders" else {}


def _peak_kib(pid: int) -> int:
    from tests.escape.looking import status_of

    return int(status_of(pid).get("VmHWM", "0").split()[0])


def answer(cycle: Cycle, topic: Topic, attack: Attack, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Ask the witness of an attack, and put all that is known about it together."""
    seen = {**cycle.of(attack.name), **facts}
    bodies = {each["key"]: each for each in cycle.scene.project.bodies("run.finished")}
    body = bodies.get(attack.name, {})
    value = body.get("value", {})
    seen["value"] = value
    seen["word"] = value.get("result", {})
    seen["reason"] = body.get("reason", "")
    seen["cpu_ms"] = body.get("used", {}).get("cpu_ms", 0)
    run = cycle.runs.get(attack.name, "?")
    seen["run"] = run
    seen["scratch_left"] = [path.name for path in cycle.scratch.rglob(f"{run[:24]}*")]
    later = {name: bodies.get(name, {}) for name in ("importing", "sibling")}
    seen["later"] = {
        name: each.get("value", {}).get("result", {}).get("is") for name, each in later.items()
    }
    detected = attack.name == "write_sibling" and later["sibling"].get("reason") == "changed"
    return {
        "name": attack.name,
        "witnessed": witness_of(topic.program, attack)(cycle.scene, attack, seen),
        "detected": detected,
        "survivors": seen["survivors"],
        "word": seen["word"],
        "status": body.get("status", ""),
        "reason": seen["reason"],
        "level": body.get("level", ""),
        "warmth": body.get("warmth", {}),
        "message": body.get("message", ""),
        "ms": seen.get("duration_ms"),
    }


def bare(scene: Scene, wanted: Callable[[Attack], bool]) -> Iterator[dict[str, Any]]:
    """Run what no level lets work as a plain script would: there it must work."""
    project = scene.project
    project.own()
    scratch = project.base / "bare"
    scratch.mkdir()
    scene.copy_children(project)
    chosen = [
        (topic, each)
        for topic, each in attacks()
        if wanted(each) and not is_shown(each) and not each.alone
    ]
    tasks = [scene.task(project, topic, each, **_more(scene, each)) for topic, each in chosen]
    listed = project.write("tasks.json", json.dumps(tasks))
    project.own()
    argv = [*scene.python, str(scene.source("naive.py")), str(listed), str(scratch)]
    cycle = Cycle(scene, argv, project, scratch)
    cycle.watch()
    for topic, attack in chosen:
        seen = cycle.of(attack.name)
        assert seen.get("finished"), f"{attack.name}: {cycle.messages.read_text()[-2000:]}"
        folder = scratch / attack.name
        seen |= {"value": {}, "conductor": 0, "later": {}, "scratch_left": folder.exists()}
        seen |= {"kept_kib": seen["output"] // 1024, "peak_kib": 0}
        if seen.get("text"):
            seen["value"] = {"text": seen["text"]}
            with contextlib.suppress(ValueError):
                seen["word"] = json.loads(seen["text"])
        harmed = seen.get("blocked") or seen.get("large") or seen.get("error")
        seen["reason"] = "" if harmed else "result"
        witnessed = witness_of(topic.program, attack)(scene, attack, seen)
        yield {
            "name": attack.name,
            "witnessed": bool(witnessed),
            "detected": False,
            "survivors": seen["survivors"],
            "word": seen["word"],
            "level": "bare",
            "reason": seen["reason"],
        }


def main() -> None:
    """Do what the argument says and write the answers to a file."""
    wish: dict[str, Any] = json.loads(sys.argv[1])
    if os.getpid() != 1:
        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
    if os.geteuid() == 0:
        # A disk full of core files, and of root's, is none of what is tried.
        os.chdir("/")
    base = Path(wish["base"])
    level = wish["level"]
    scene = Scene(base, level=level, uid=wish["uid"], source=wish["source"])
    only = wish.get("only")

    def wanted(attack: Attack) -> bool:
        user = "root" if wish["uid"] == 0 else "other"
        if only is not None and attack.name not in only:
            return False
        return level == "bare" or attack.expected(level, user) is not None

    answers: list[dict[str, Any]] = []
    try:
        if level == "bare":
            answers += bare(scene, wanted)
        else:
            answers += shared(scene, wanted)
            chosen = [pair for pair in attacks() if pair[1].alone and wanted(pair[1])]
            # After this one there is no bystander left to look at.
            chosen.sort(key=lambda pair: pair[1].name == "kill_everything")
            answers += alone.run(scene, chosen, Cycle)
        until(lambda: not _left(scene), f"nothing is left: {_left(scene)}", 10)
    finally:
        scene.close()
        Path(wish["out"]).write_text(json.dumps(answers), encoding="utf-8")


def _left(scene: Scene) -> list[str]:
    """Return what nobody answers for when everything has ended."""
    known = {each.pid for each in scene.bystanders.values()}
    return survivors("", conductor=0, known=known)


if __name__ == "__main__":
    main()
