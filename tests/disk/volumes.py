"""File systems of a test's own: small ones that fill up, and one whose power can be cut.

A power cut is a copy of what a mounted ext4 file system had handed to its device at one instant.
The device is a loop device; its backing file lies on a file system that is frozen for the copy, so
that also a write that was under way stands still half way. What was only in the page cache of the
mounted file system is not in the copy. What the device had is: a drive that loses or reorders
writes it has taken before the next flush is not modelled.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.project import SOON_S, until

PAGE = 4096
MIB = 1 << 20
#: Seconds that a mount may still be in use after whoever used it has ended.
BUSY_S = 5.0
#: The requests of ioctl that stop and continue all writes of a file system (linux/fs.h).
FIFREEZE, FITHAW = 0xC0045877, 0xC0045878


class Volumes:
    """What a test mounted below its folder; all of it is unmounted at the end."""

    def __init__(self, base: Path) -> None:
        """Mount below this folder."""
        self.base = base
        self._mounted: list[Path] = []
        self._busy: list[str] = []

    def mount(self, *words: object, name: str) -> Path:
        """Mount something at a new folder of this name; skip the test where that is forbidden."""
        at = self.base / name
        at.mkdir()
        done = subprocess.run(
            ["mount", *map(str, words), str(at)], capture_output=True, text=True, timeout=30
        )
        if done.returncode:
            reason = done.stderr.splitlines()[0].rpartition(": ")[2]
            pytest.skip(f"needs to mount tmpfs and loop devices: {reason}")
        self._mounted.append(at)
        return at

    def unmount(self, at: Path) -> None:
        """Unmount it; the loop device below it is let go with it."""

        def is_unmounted() -> bool:
            done = subprocess.run(["umount", str(at)], capture_output=True, timeout=SOON_S)
            return done.returncode == 0

        try:
            # What ended just now may hold it for a moment longer.
            until(is_unmounted, f"{at} is let go", BUSY_S)
        except AssertionError:
            subprocess.run(["umount", "--lazy", str(at)], check=True, timeout=SOON_S)
            self._busy.append(f"{at} was still in use")
        self._mounted.remove(at)
        at.rmdir()

    def small(self, name: str, *, size: int = 16 * MIB, inodes: int = 0) -> Path:
        """Mount a file system in memory that has so many bytes, and so many inodes."""
        options = f"size={size},mode=700" + (f",nr_inodes={inodes}" if inodes else "")
        return self.mount("-t", "tmpfs", "-o", options, "tmpfs", name=name)

    def drive(self, size: int = 48 * MIB) -> Drive:
        """Mount a file system whose power can be cut."""
        return Drive(self, size)

    def close(self) -> None:
        """Unmount everything, the last one first."""
        for at in reversed(self._mounted.copy()):
            self.unmount(at)

    def left(self) -> list[str]:
        """Return what is still mounted or attached below the folder."""
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
        loops = subprocess.run(["losetup", "-a"], capture_output=True, text=True, timeout=SOON_S)
        lines = mounts + loops.stdout.splitlines()
        return [*self._busy, *(line for line in lines if str(self.base) in line)]


class Drive:
    """A mounted ext4 file system, and the device below it."""

    def __init__(self, volumes: Volumes, size: int) -> None:
        """Make it and mount it at `at`; its journal commits when it is asked to, not by time."""
        self._volumes = volumes
        # What is written fast and read once needs no real disk below it.
        self._room = volumes.mount("-t", "tmpfs", "-o", f"size={4 * size}", "tmpfs", name="room")
        outer = self._made(self._room / "outer", size + size // 4, "-O", "^has_journal", "-m", "0")
        self._outer = volumes.mount("-o", "loop", outer, name="outer")
        self._backing = self._made(self._outer / "disk", size)
        self.at = volumes.mount("-o", "loop,commit=300", self._backing, name="drive")

    def sync(self) -> None:
        """Hand everything to the device: where a test's own preparations end."""
        subprocess.run(["sync", "--file-system", str(self.at)], check=True, timeout=SOON_S)

    @contextlib.contextmanager
    def cut(self) -> Iterator[Path]:
        """Copy what the device holds at this instant; yield a mount of the copy."""
        copy = self._room / "copy"
        # Holes stay holes: nothing is copied but what was written.
        argv = ["cp", "--sparse=auto", str(self._backing), str(copy)]
        folder = os.open(self._outer, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(folder, FIFREEZE, 0)
            try:
                subprocess.run(argv, check=True, timeout=SOON_S)
            finally:
                fcntl.ioctl(folder, FITHAW, 0)
        finally:
            os.close(folder)
        at = self._volumes.mount("-o", "loop", copy, name="after")
        try:
            yield at
        finally:
            self._volumes.unmount(at)
            copy.unlink()

    def close(self) -> None:
        """Unmount it, and what it lies on."""
        for at in (self.at, self._outer, self._room):
            self._volumes.unmount(at)

    def _made(self, path: Path, size: int, *words: str) -> Path:
        with path.open("wb") as file:
            file.truncate(size)
        argv = ["mkfs.ext4", "-q", "-F", *words, str(path)]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=SOON_S)
        if done.returncode:
            pytest.skip(f"needs mkfs.ext4: {done.stderr.strip()}")
        return path


def leave(folder: Path, pages: int) -> Path:
    """Fill a file system up to so many free pages with one file; return that file."""
    ballast = folder / "ballast"
    ballast.touch()
    held = os.statvfs(folder)
    size = held.f_bavail * held.f_frsize - pages * PAGE
    assert size > 0, f"{folder} has no {pages} free pages"
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, size)
    held = os.statvfs(folder)
    assert held.f_bavail * held.f_frsize == pages * PAGE
    return ballast
