"""A real systemd of a test's own: the first process of new namespaces, with nothing but our units.

It sees the machine's files, but has its own /run, its own units and a control group of its own; the
machine's settings are read-only to it. Only root may make one.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.e2e.project import until

SYSTEMD = Path("/lib/systemd/systemd")
#: What every unit stands on, empty: those of the machine would clean /tmp and start its services.
TARGETS = ("default", "sysinit", "basic", "multi-user", "network", "shutdown")
_ENTER = 'echo $$ > "$1/cgroup.procs" && shift && exec "$@"'
_SPACES = "unshare --pid --mount --cgroup --ipc --uts --fork --kill-child".split()
_STAGE = r"""
set -e
mount --make-rprivate /
mount -t proc proc /proc
mount --bind /proc/sys /proc/sys
mount -o remount,bind,ro /proc/sys
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/system
mount -t tmpfs tmpfs /lib/systemd/system-generators
mount --bind "$1" /lib/systemd/system
mount --bind "$1" /etc/systemd/system
umount -R /sys/fs/cgroup 2>/dev/null || true
mount -t cgroup2 cgroup2 /sys/fs/cgroup
exec env -i PATH="$PATH" container=test /lib/systemd/systemd --system \
  --log-target=null --show-status=no --default-standard-output=null
"""


def obstacle() -> str:
    """Return why no systemd can be started here; empty when one can."""
    if os.geteuid():
        return "not root"
    missing = [name for name in ("unshare", "nsenter", "systemctl") if not shutil.which(name)]
    if missing or not SYSTEMD.exists():
        return f"not installed: {', '.join([*missing, 'systemd'])}"
    if not _groups():
        return "no control groups of version 2 that can be written"
    probe = subprocess.run(
        ["unshare", "--mount", "--pid", "--cgroup", "--fork", "mount", "-t", "tmpfs", "x", "/run"],
        capture_output=True,
        check=False,
    )
    return probe.stderr.decode().strip() if probe.returncode else ""


def _groups() -> Path | None:
    """Return where control groups of version 2 are."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if " - cgroup2 " in line and os.access(path := Path(line.split()[4]), os.W_OK):
            return path
    return None


class Manager:
    """One systemd under way."""

    def __init__(self) -> None:
        """Start it, and wait until it answers."""
        self.units = Path(tempfile.mkdtemp(prefix="units-"))
        self.units.chmod(0o755)
        for name in TARGETS:
            (self.units / f"{name}.target").write_text("[Unit]\nDefaultDependencies=no\n")
        self._group = (_groups() or Path()) / f"runwright-manager-{os.getpid()}"
        self._group.mkdir()
        self._process = subprocess.Popen(
            [
                "sh",
                "-c",
                _ENTER,
                "sh",
                str(self._group),
                *_SPACES,
                "sh",
                "-c",
                _STAGE,
                "sh",
                self.units,
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            self._first = until(self._child, "the first process")
            until(lambda: self.control("is-system-running")[1].strip() == "running", "systemd")
        except BaseException:
            self.close()
            raise

    def _child(self) -> int | None:
        assert self._process.poll() is None, "systemd ended"
        text = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text()
        return int(text.split()[0]) if text.split() else None

    def control(self, *words: str) -> tuple[int, str]:
        """Give a `systemctl` command; return its status and what it printed."""
        enter = ["nsenter", "-t", str(self._first), "-m", "-p", "-C"]
        done = subprocess.run(
            [*enter, "systemctl", "--no-pager", *words],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        return done.returncode, done.stdout + done.stderr

    def show(self, unit: str, name: str) -> str:
        """Return a property of a unit."""
        return self.control("show", unit, "-P", name)[1].strip()

    def main_pid(self, unit: str) -> int:
        """Return the main process of a unit as this test sees it; 0 for none."""
        inner = self.show(unit, "MainPID")
        for folder in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if folder.name.isdigit():
                    status = (folder / "status").read_text()
                    numbers = status.partition("NSpid:")[2].partition("\n")[0].split()
                    space = (folder / "ns" / "pid").readlink()
                    if numbers[1:] == [inner] and space == self._space():
                        return int(folder.name)
        return 0

    def _space(self) -> Path:
        return Path(f"/proc/{self._first}/ns/pid").readlink()

    def close(self) -> None:
        """End it with everything that it started, and leave nothing behind."""
        self._process.kill()
        self._process.wait()
        folders = sorted(self._group.rglob("*/"), key=lambda path: -len(path.parts))
        for folder in (*folders, self._group):
            until(lambda folder=folder: _removed(folder), f"{folder} is empty")
        shutil.rmtree(self.units)


def _removed(folder: Path) -> bool:
    with contextlib.suppress(OSError):
        folder.rmdir()
    return not folder.exists()
