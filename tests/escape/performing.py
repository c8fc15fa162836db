"""Starts the driver for one user at one level, kept apart from the machine, and judges it."""

from __future__ import annotations

import functools
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import runwright
from tests.escape.attacks import Attack, Level, User, attacks
from tests.escape.scene import interpreter
from tests.tidy.tree import REPOSITORY

#: A user that nobody else is.
OTHER: Final = 23_456
#: Where a folder of these tests stands.
PLACES: Final = ("/srv", "/opt", Path.home())
WITHIN_S: Final = 600
#: Its bit in a set of capabilities.
SYS_RESOURCE: Final = 24
#: Endless output ends there, and folders inside each other.
SIZES: Final = {"mebibytes": 300, "levels": 3_000}
CAMPAIGN_SIZES: Final = {"mebibytes": 10_240, "levels": 10_000}


def is_root() -> bool:
    """Say whether these tests may become anybody."""
    return os.geteuid() == 0


def apart() -> list[str]:
    """Return the words before a command that keep it apart: what it ends is its own."""
    words = ["unshare", "--pid", "--fork", "--mount-proc", "--ipc", "--kill-child"]
    return words if is_root() else [*words, "--user", "--map-current-user"]


def unable() -> str:
    """Return why nothing can be run here; empty when it can."""
    if sys.platform != "linux":
        return "needs Linux"
    done = subprocess.run([*apart(), "true"], capture_output=True, check=False)
    return "" if done.returncode == 0 else "needs root, or user namespaces"


@functools.cache
def unheld(level: Level, user: User) -> str:
    """Return why a level is not held for a user of this machine; empty when it is."""
    if level != "T2":
        return ""
    uid = 0 if user == "root" else OTHER if is_root() else os.geteuid()
    switch = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--"]
    with folder() as base:
        source = interpreter(base, uid)
        code = "from runwright.adapters.commands import lacking; print(lacking())"
        argv = [*apart(), *(switch if os.geteuid() != uid else []), source["python"], "-c", code]
        done = subprocess.run(
            argv, env=source["environment"], cwd="/", capture_output=True, text=True, check=True
        )
    return done.stdout.strip()


def unshown(user: User) -> dict[str, str]:
    """Return the attacks that this machine stops by itself, and how, so that nothing is shown."""
    found = {}
    rights = int(Path("/proc/self/status").read_text().split("CapEff:\t")[1].split()[0], 16)
    if platform.machine() != "x86_64":
        names = "relay_fast foreign_calls offline_foreign_calls administer load_bpf io_uring"
        found |= dict.fromkeys(names.split(), "numbers of system calls are those of x86_64")
    if not is_root():
        found["set_user_program"] = "needs root to make a set-user-id program"
    if user == "root" and not rights >> SYS_RESOURCE & 1:
        found["raise_limits"] = "needs CAP_SYS_RESOURCE, which root lacks here"
    if user == "root" and not _reads_disk():
        found["read_disk"] = "needs a disk that root may open"
    if _setting("/proc/sys/user/max_user_namespaces", "0") == "0":
        names = "mount_in_namespace clone_namespace"
        found |= dict.fromkeys(names.split(), "needs user namespaces")
    if _setting("/proc/sys/kernel/io_uring_disabled", "2") != "0":
        found["io_uring"] = "needs kernel.io_uring_disabled = 0"
    if _setting("/proc/sys/kernel/yama/ptrace_scope", "0") != "0" and user != "root":
        names = [each.name for _topic, each in attacks() if "trace" in each.name]
        found |= dict.fromkeys(names, "needs kernel.yama.ptrace_scope = 0")
    return found


def _setting(path: str, absent: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return absent


def _reads_disk() -> bool:
    device = Path(tempfile.gettempdir()).stat().st_dev
    try:
        name = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}").resolve(strict=True)
        with (Path("/dev") / name.name).open("rb", buffering=0) as disk:
            return bool(disk.read(4096)[1024:].strip(b"\0"))
    except OSError:
        return False


@contextmanager
def folder() -> Iterator[Path]:
    """Lend a folder that every user can reach, whatever was left in it."""
    # Not where temporary files stand: those are private at T2, and what stands there is hidden.
    place = next((path for path in PLACES if os.access(path, os.W_OK)), None)
    made = Path(tempfile.mkdtemp(prefix="escape-", dir=place))
    made.chmod(0o755)
    try:
        yield made
    finally:
        # No path is too long for them, and no folder too deep.
        subprocess.run(["chmod", "-R", "u+rwX", str(made)], capture_output=True, check=False)
        subprocess.run(["rm", "-rf", str(made)], check=False)


def perform(
    level: Level | str,
    user: User,
    *,
    only: Collection[str] | None = None,
    edits: Mapping[str, tuple[str, str]] | None = None,
    is_campaign: bool = False,
    is_warm: bool = False,
) -> dict[str, dict[str, Any]]:
    """Run attacks and return what was seen of each; `edits` sabotage the product's own files.

    `is_warm`: each child is forked from a template.
    """
    uid = 0 if user == "root" else OTHER if is_root() else os.geteuid()
    with folder() as base:
        source = interpreter(base, uid)
        if edits:
            first = str(sabotaged(base / "build", edits))
            paths = source["environment"]["PYTHONPATH"]
            source["environment"] = {"PYTHONPATH": os.pathsep.join([first, paths])}
        sizes = CAMPAIGN_SIZES if is_campaign else SIZES
        source |= {**sizes, "warm": is_warm}
        wish = {
            "level": level,
            "uid": uid,
            "base": str(base),
            "out": str(base / "out.json"),
            "source": source,
            "only": None if only is None else sorted(only),
        }
        done = subprocess.run(
            [*apart(), sys.executable, "-m", "tests.escape.drive", json.dumps(wish)],
            cwd=REPOSITORY,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join([str(REPOSITORY), *filter(None, sys.path)]),
            },
            capture_output=True,
            text=True,
            timeout=WITHIN_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-4000:]
        return {each["name"]: each for each in json.loads((base / "out.json").read_bytes())}


def sabotaged(folder: Path, edits: Mapping[str, tuple[str, str]]) -> Path:
    """Return a folder with a copy of the product in which some words are others."""
    package = Path(runwright.__file__).parent
    shutil.copytree(package, folder / "runwright", ignore=shutil.ignore_patterns("__pycache__"))
    for name, (old, new) in edits.items():
        path = folder / "runwright" / name
        text = path.read_text(encoding="utf-8")
        assert text.count(old) == 1, f"{name} does not hold {old!r} once"
        path.write_text(text.replace(old, new), encoding="utf-8")
    return folder


def came_to(seen: Mapping[str, Any]) -> str:
    """Return the word for what an attack came to; who left something running got away."""
    if seen["survivors"]:
        return "open"
    if seen["detected"]:
        return "detected"
    return "open" if seen["witnessed"] else "contained"


def mismatches(answers: Mapping[str, Mapping[str, Any]], level: Level, user: User) -> list[str]:
    """Return where the table and what happened differ, with what was seen."""
    found = []
    for _topic, attack in attacks():
        if attack.name in answers:
            seen = answers[attack.name]
            word, wanted = came_to(seen), attack.expected(level, user)
            if word != wanted:
                found.append(f"{attack.name}: {word}, the table says {wanted}: {dict(seen)}")
    return found


#: What is tried at every level, by everybody.
ALWAYS = frozenset(
    (
        *("double_fork", "own_session", "fork_bomb", "ignore_term", "write_new", "read_key"),
        *("read_store", "kill_supervisor", "trace_supervisor", "relay"),
    )
)


def selected(level: Level, user: User, *, is_campaign: bool) -> set[str]:
    """Return the attacks to run; what holds for users alike is tried by one of them in part."""
    every = [attack for _topic, attack in attacks() if attack.expected(level, user)]
    if is_campaign or (level != "T2" and not is_root()):
        return {attack.name for attack in every}
    if level != "T2" and user == "root":
        # At each level another quarter, and what matters most at both.
        turn = 0 if level == "T0" else 1
        return {
            attack.name
            for number, attack in enumerate(every)
            if number % 4 == turn or attack.name in ALWAYS or attack.name.startswith("offline_")
        }
    if level == "T2":
        # T1 is a part of it: what is not held by T1 alone is tried whole, by one of them.
        own = {each.name for each in every if user == "root" and _is_of_t2(each)}
        step = 4 if user == "root" else 8
        return own | {attack.name for number, attack in enumerate(every) if number % step == 2}
    turn = 0 if level == "T0" else 1
    return {
        attack.name
        for number, attack in enumerate(every)
        if attack.other or attack.name == "kill_everything" or number % 8 == turn
    }


def _is_of_t2(attack: Attack) -> bool:
    """Say whether namespaces hold what T1 does not."""
    marks = attack.root + (attack.other or attack.root)
    return attack.name.startswith("granted_") or marks[1::3] != marks[2::3]
