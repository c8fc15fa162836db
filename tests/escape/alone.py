"""Attacks after which a cycle could not go on: each has one of its own, and some a project."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tests.e2e.project import SOON_S, until
from tests.escape.attacks import SHORT_S, Attack, Topic
from tests.escape.looking import processes, survivors
from tests.escape.scene import Scene, UserProject
from tests.escape.witnesses import SPARE_MS, witness_of

#: After these the record itself is another one.
FORGING: Final = ("expose_keys", "forge_entry", "remove_store", "forge_memory", "forge_key")
#: Times that a script is offered to be swapped in time.
SWAPS: Final = 40
GONE_S: Final = 3.0


def run(
    scene: Scene, chosen: Sequence[tuple[Topic, Attack]], cycle_of: Callable[..., Any]
) -> Iterator[dict[str, Any]]:
    """Run each attack in a cycle of its own; say what it came to."""
    project = scene.project
    here = [(topic, attack) for topic, attack in chosen if attack.name not in FORGING]
    text = project.write("functions/nothing.py", "")
    tasks = [project.task("nothing", function_path=f"functions/{text.name}", level=scene.level)]
    tasks += [scene.task(project, *pair) for pair in here if pair[1].name != "swap_script"]
    spec = project.spec(*tasks, name="alone")
    project.own()
    project.done("apply", spec)
    for topic, attack in chosen:
        if attack.name == "swap_script":
            yield swap(scene, project)
        elif attack.name in FORGING:
            yield _forge(scene, topic, attack, cycle_of)
        else:
            answer, seen = _cycle(scene, project, attack, cycle_of)
            yield {**answer, **_ended(scene, topic, attack, seen)}


def _cycle(
    scene: Scene, project: UserProject, attack: Attack, cycle_of: Callable[..., Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Run one cycle with one function; return an answer without its end, and what was seen."""
    argv = project._argv(("run", "alone", "--function", attack.name))
    cycle = cycle_of(scene, argv, project, project.folder / ".runwright/scratch")
    if attack.function == "outlive":
        cycle.on_hold = {attack.name: _kill(attack.name.removeprefix("outlive_"))}
    cycle.watch(SOON_S)
    run_id = cycle.runs.get(attack.name, "?")

    def left() -> list[str]:
        return survivors(run_id, conductor=cycle.process.pid, known=cycle.known)

    with contextlib.suppress(AssertionError):
        until(lambda: not left(), "it is gone", GONE_S)
    seen = cycle.of(attack.name)
    still = [*seen["survivors"], *left()]
    for text in still:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(text.split()[0]), signal.SIGKILL)
    answer = {
        "name": attack.name,
        "witnessed": False,
        "detected": False,
        "survivors": still,
        "level": scene.level,
        "conducted": cycle.process.returncode,
    }
    return answer, seen


def _forge(
    scene: Scene, topic: Topic, attack: Attack, cycle_of: Callable[..., Any]
) -> dict[str, Any]:
    """Attack the record of a project made for it; say whether a later command says so."""
    project = UserProject(scene.base / attack.name, scene)
    scene.initialise(project)
    spec = project.spec(scene.task(project, topic, attack), name="alone")
    project.own()
    project.done("apply", spec)
    memory, key = (Path(scene.victim(project)[name]) for name in ("memory", "key"))
    before = key.read_bytes()
    answer, _seen = _cycle(scene, project, attack, cycle_of)
    witnessed = {
        "expose_keys": lambda: bool(key.stat().st_mode & 0o044),
        "forge_entry": lambda: b"omed" in _second_entry(project),
        "remove_store": lambda: not project.store.exists(),
        "forge_memory": lambda: memory.read_bytes()[:512] == bytes(512),
        "forge_key": lambda: key.read_bytes() != before,
    }[attack.name]()
    checks = [project.run("verify", "--store"), project.run("run", "alone")]
    said = [each.stderr[-300:] for each in checks if each.status not in (0, 5)]
    return {**answer, "witnessed": witnessed, "detected": witnessed and bool(said), "said": said}


def _kill(role: str) -> Callable[[Any, Mapping[str, Any]], bool]:
    """Return what kills one of those who watch, from outside."""

    def kill(_cycle: Any, look: Mapping[str, Any]) -> bool:
        os.kill(look["roles"][role], signal.SIGKILL)
        return False

    return kill


def _ended(scene: Scene, topic: Topic, attack: Attack, seen: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the attack did, and what the record says once the next cycle has run."""
    name = attack.name
    after = 0
    if name in ("kill_conductor", "kill_everything", "outlive_conductor"):
        # The next start closes what was under way.
        after = scene.project.run("run", "alone", "--function", "nothing").status
    bodies = [each for each in scene.project.bodies("run.finished") if each["key"] == name]
    body = bodies[-1] if bodies else {}
    reason = body.get("reason", "")
    found: dict[str, Any] = {
        "status": body.get("status", ""),
        "reason": reason,
        "warmth": body.get("warmth", {}),
        "word": body.get("value", {}).get("result", {}),
        "after": after,
        "ms": seen.get("duration_ms"),
    }
    if name == "stop_supervisor":
        late_ms = (SHORT_S + 0.2) * 1000 + SPARE_MS
        found["witnessed"] = (seen.get("duration_ms") or 0) > late_ms
    elif name == "kill_everything":
        found["witnessed"] = scene.bystanders["bystander"].poll() is not None
    elif name.startswith("kill_"):
        wanted = {"kill_supervisor": "supervisor-died", "kill_launcher": "launcher-died"}
        found["detected"] = reason == wanted.get(name, "conductor-died")
        found["witnessed"] = body.get("status") != "done"
    elif name == "outlive_launcher":
        # It lived on until its time was over.
        found["witnessed"] = reason == "timeout"
    elif not name.startswith("outlive_"):
        found["witnessed"] = witness_of(topic.program, attack)(scene, attack, {**seen, **found})
    return found


def _second_entry(project: UserProject) -> bytes:
    raw = project.sql("SELECT raw FROM entry WHERE seq = 1")[0][0]
    return raw if isinstance(raw, bytes) else str(raw).encode()


def swap(scene: Scene, project: UserProject) -> dict[str, Any]:
    """Swap a script in a tight loop from outside while a cycle runs it many times.

    What ran says what it is; the record says what was planned. They differ when a swap fell between
    the check and the moment the interpreter opened the file.
    """
    folder = project.folder / "functions"
    text = "import json, os\njson.dump({'ran': '%s'}, open(os.environ['RUNWRIGHT_RESULT'], 'w'))\n"
    for name in ("good", "evil"):
        (folder / f"{name}.py").write_text(text % name, encoding="utf-8")
    (folder / "swapped.py").write_text(text % "good", encoding="utf-8")
    config = {"function_path": "functions/swapped.py", "level": scene.level}
    tasks = [project.task(f"swapped_{number}", **config) for number in range(SWAPS)]
    spec = project.spec(*tasks, name="only_swap")
    project.own()
    project.done("apply", spec)
    stop = threading.Event()

    def attacker() -> None:
        names = ["evil", "good"]
        while not stop.is_set():
            for name in names:
                os.link(folder / f"{name}.py", folder / "next.py")
                (folder / "next.py").rename(folder / "swapped.py")
                (folder / "next.py").unlink(missing_ok=True)
                # About as long as an interpreter takes to open its script.
                until_s = time.monotonic() + 0.0007
                while time.monotonic() < until_s:
                    stop.wait(0.0001)

    # Planned while it is good: what is planned is the same for all.
    cycle = project.start("run", "only_swap")
    cycle.wait_event("round.planned")
    thread = threading.Thread(target=attacker)
    thread.start()
    try:
        cycle.end()
    finally:
        stop.set()
        thread.join()
    bodies = [each for each in project.bodies("run.finished") if each["key"].startswith("swapped_")]
    ran = [each.get("value", {}).get("result", {}).get("ran") for each in bodies]
    reasons = [each.get("reason", "") for each in bodies]
    return {
        "name": "swap_script",
        "witnessed": "evil" in ran,
        "detected": False,
        "survivors": survivors("", conductor=0, known={p.pid for p in scene.bystanders.values()}),
        "level": bodies[-1].get("level", scene.level) or scene.level,
        "evil": ran.count("evil"),
        "good": ran.count("good"),
        "changed": reasons.count("changed"),
        "count": len(processes()),
    }
