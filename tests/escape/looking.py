"""What is seen from outside: processes, who traces whom, descriptors, namespaces, sockets."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

PROC = Path("/proc")
#: PF_EXITING, of the flags in /proc/PID/stat.
EXITING = 0x4
#: Stands in the command of a template and of all that it forks.
TEMPLATE = b"runwright.adapters.template"


class Process(NamedTuple):
    """One process that runs."""

    pid: int
    parent: int
    command: bytes
    environment: bytes

    def is_of(self, run: str) -> bool:
        """Say whether it descends from a run and did not hide that."""
        return bool(run) and f"RUNWRIGHT_RUN_ID={run}\0".encode() in self.environment


def processes() -> dict[int, Process]:
    """Return every process that runs; those that have ended are left out."""
    found = {}
    for folder in PROC.iterdir():
        if folder.name.isdigit():
            # It may have ended since.
            with contextlib.suppress(OSError):
                words = (folder / "stat").read_bytes().rpartition(b")")[2].split()
                state, parent = words[:2]
                # The first process of a namespace waits for its others, when it runs no more.
                if state not in b"ZX" and not int(words[6]) & EXITING:
                    command = (folder / "cmdline").read_bytes()
                    environment = b""
                    with contextlib.suppress(PermissionError):
                        environment = (folder / "environ").read_bytes()
                    pid = int(folder.name)
                    found[pid] = Process(pid, int(parent), command, environment)
    return found


def below(root: int) -> Iterator[int]:
    """Yield what descends from a process."""
    waiting, all_of_them = [root], processes()
    while waiting:
        parent = waiting.pop()
        for process in all_of_them.values():
            if process.parent == parent:
                waiting.append(process.pid)
                yield process.pid


def survivors(run: str, *, conductor: int, known: set[int]) -> list[str]:
    """Return what is left of a run: its processes, and all that nobody answers for.

    Whoever left its tree was given to the conductor, to the launcher or to this process; `known`
    are the children of this one that it started itself. Without a run, of every run.
    """
    found = processes()
    children = (each.pid for each in found.values() if conductor and each.parent == conductor)
    launcher = next(children, 0)
    plain = found[launcher].command if launcher else b""
    templates = {pid for pid, each in found.items() if TEMPLATE in each.command}
    keepers = {found[pid].parent for pid in templates}
    left = []
    for each in found.values():
        stray = each.parent == os.getpid() and each.pid not in known
        stray |= bool(conductor) and each.parent == conductor and each.pid != launcher
        stray |= bool(launcher) and each.parent == launcher and each.command != plain
        # What a template forks looks like it; what became another program does not.
        stray |= bool(launcher) and each.parent in keepers and each.pid not in templates
        stray &= not run or b"RUNWRIGHT_RUN_ID=" not in each.environment
        if (stray or each.is_of(run)) and each.pid not in (os.getpid(), conductor):
            words = each.command.replace(b"\0", b" ").decode(errors="replace")
            left.append(f"{each.pid} (child of {each.parent}): {words[:100]}")
    return left


def status_of(pid: int) -> Mapping[str, str]:
    """Return the fields of /proc/PID/status; none when it has ended."""
    try:
        text = (PROC / str(pid) / "status").read_text()
    except OSError:
        return {}
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


def tracer(pid: int) -> int:
    """Return who traces a process; 0 for nobody."""
    return int(status_of(pid).get("TracerPid", "0"))


def seen_from_here(pid: int, scratch: str) -> int:
    """Return the pid that a process of a run has here, which may not be what it calls itself."""
    for process in processes().values():
        spaces = status_of(process.pid).get("NSpid", "").split()
        if spaces[-1:] == [str(pid)] and scratch.encode() in process.environment:
            return process.pid
    return pid


def look(ready: Mapping[str, Any], scratch: Path, *, root: int) -> dict[str, Any]:
    """Return what is seen of a child that stands still, and of its tree below `root`."""
    folder = PROC / str(ready["pid"])
    seen: dict[str, Any] = dict(ready)
    seen["descriptors"] = {}
    with contextlib.suppress(OSError):
        for each in (folder / "fd").iterdir():
            with contextlib.suppress(OSError):
                seen["descriptors"][int(each.name)] = str(each.readlink())
    status = status_of(ready["pid"])
    seen["capabilities"] = int(status.get("CapEff", "0"), 16) | int(status.get("CapPrm", "0"), 16)
    for name in ("root", "ns/user", "ns/mnt"):
        seen[name] = ""
        with contextlib.suppress(OSError):
            seen[name] = str((folder / name).readlink())
    seen["mounts"] = ""
    with contextlib.suppress(OSError):
        seen["mounts"] = (folder / "mountinfo").read_text()
    tree = [pid for pid in below(root) if scratch.name.encode() in _environment(pid)]
    seen["processes"] = len(tree)
    seen["tasks"] = sum(int(status_of(pid).get("Threads", "0")) for pid in tree)
    seen["kib"] = {pid: int(status_of(pid).get("VmRSS", "0").split()[0]) for pid in tree}
    seen["files"] = len(list(scratch.iterdir()))
    seen["bytes"] = max(path.lstat().st_size for path in scratch.iterdir())
    if "port" in ready:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", ready["port"]), timeout=1).close()
            seen["answered"] = True
    return seen


def _environment(pid: int) -> bytes:
    with contextlib.suppress(OSError):
        return (PROC / str(pid) / "environ").read_bytes()
    return b""


def has(seen: Mapping[str, Any], *words: str) -> bool:
    """Say whether a child has a descriptor whose link holds one of some words."""
    return any(word in link for link in seen.get("descriptors", {}).values() for word in words)


def sockets(seen: Mapping[str, Any], *tables: str) -> set[str]:
    """Return the sockets of a child that stand in the tables of its network of these names."""
    numbers = {
        link[8:-1] for link in seen.get("descriptors", {}).values() if link.startswith("socket:[")
    }
    return numbers & {
        word
        for table in tables
        for line in (PROC / str(seen["pid"]) / "net" / table).read_text().splitlines()
        for word in line.split()
    }
