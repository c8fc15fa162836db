"""Control groups that count the processes and threads of one tree, where they can be made.

RLIMIT_NPROC counts everything of a user and does not hold for root; `pids.max` of a group counts
what is in it, whoever it is. A group is made when a limit is demanded and not before: to move into
one costs up to 20 ms. With version 2 a group can be made only below one that hands `pids` on.
"""

from __future__ import annotations

import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    # typing alone takes as long to import as everything else here.
    from typing import Final

_NAME: Final = "runwright-"


def find() -> str:
    """Return the folder below which groups can be made that count; nothing when there is none."""
    try:
        with open("/proc/self/cgroup") as file:  # noqa: PTH123 - pathlib is slow to import
            own = {kind: path for _id, kind, path in (line.split(":", 2) for line in file)}
        with open("/proc/self/mountinfo") as file:  # noqa: PTH123 - as above
            mounts = [line.split() for line in file if " - cgroup" in line]
    except (OSError, ValueError):
        return ""
    for mount in mounts:
        kind, _source, options = mount[mount.index("-") + 1 :]
        version_2 = kind == "cgroup2"
        if not version_2 and "pids" not in options.split(","):
            continue
        path = next((p for k, p in own.items() if (not k if version_2 else "pids" in k)), "")
        folder = _below(mount[4], mount[3], path.rstrip("\n"))
        if os.access(folder, os.W_OK) and (not version_2 or _hands_on(folder)):
            return folder
    return ""


def _below(point: str, root: str, path: str) -> str:
    """Return the folder of a group in a hierarchy of which `root` is mounted at a point."""
    return (point + "/" + path.removeprefix(root)).rstrip("/")


def _hands_on(folder: str) -> bool:
    try:
        with open(f"{folder}/cgroup.subtree_control") as file:  # noqa: PTH123 - as above
            return "pids" in file.read().split()
    except OSError:
        return False


def sweep(base: str) -> None:
    """Remove empty groups of launchers that are gone."""
    for name in os.listdir(base):  # noqa: PTH208 - strings, as above
        owner = name.removeprefix(_NAME).partition("-")[0]
        if name.startswith(_NAME) and not os.path.exists(f"/proc/{owner}"):  # noqa: PTH110 - as above
            # One that is in use cannot be removed.
            remove(f"{base}/{name}")


def prefix(base: str) -> str:
    """Return how the paths of one launcher's groups begin; the pid of a supervisor follows."""
    # Launchers in other namespaces may have this pid, but did not start in this nanosecond.
    return f"{base}/{_NAME}{os.getpid()}-{time.monotonic_ns()}-"


def join(path: str, most: int, pid: int = 0) -> None:
    """Make a group and move a process into it, or this one; at most so many processes and threads.

    Raises: OSError.
    """
    door = make(path, most)
    os.write(door, b"%d" % pid)
    os.close(door)


def make(path: str, most: int) -> int:
    """Make such a group; who writes 0 to the descriptor returned moves into it. Raises: OSError."""
    os.mkdir(path)  # noqa: PTH102 - strings, as above
    with open(f"{path}/pids.max", "w") as file:  # noqa: PTH123 - as above
        file.write(str(most))
    return os.open(f"{path}/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)


def remove(path: str) -> None:
    """Remove a group whose processes have ended, if there is one."""
    try:
        os.rmdir(path)  # noqa: PTH106 - strings, as above
    except OSError:
        return
