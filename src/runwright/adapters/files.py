"""The files sink: papers become files below one folder, each written whole or not at all."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

from runwright.kernel.errors import Deferred, Usage
from runwright.kernel.ports import Delivery


class FilesSink:
    """The Sink port on a folder; delivering a paper again writes the same file again."""

    def __init__(self, folder: Path) -> None:
        """Write below a folder, which is made when the first paper arrives."""
        self._folder = folder

    def deliver(self, deliveries: Sequence[Delivery]) -> None:
        """Write each paper to a new file, sync it and put it in its place.

        Raises: deferred when the file system would not take it; usage for a name that leads out.
        """
        for delivery in deliveries:
            path = self._folder / delivery.name
            if Path(delivery.name).is_absolute() or ".." in Path(delivery.name).parts:
                message = f"the paper {delivery.name!r} leads out of the folder of papers"
                raise Usage(message)
            try:
                write_whole(path, delivery.body)
            except OSError as error:
                message = f"{path}: {error.strerror}"
                raise Deferred(message) from error


def write_whole(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Write a file so that at every moment it is either the old one or the new one, synced."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    file = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        # Also when a part was left there by one that was cut off, and it was another's to read.
        os.fchmod(file, mode & os.fstat(file).st_mode)
        view = memoryview(data)
        while view:
            view = view[os.write(file, view) :]
        os.fsync(file)
    finally:
        os.close(file)
    part.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make durable which names a folder holds."""
    _sync(folder)


def _sync(path: Path) -> None:
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)


#: The most files and bytes of a bundle that are read.
BUNDLE_FILES_MAX = 200_000
BUNDLE_BYTES_MAX = 2 * 1024**3


def read_folder(folder: Path) -> Mapping[str, bytes]:
    """Return every file below a folder by its relative name; links and devices are refused.

    Raises: usage when there is no folder, or it holds what no bundle holds.
    """
    if not folder.is_dir():
        message = f"{folder} is not a folder"
        raise Usage(message)
    found: dict[str, bytes] = {}
    size = 0
    for root, folders, names in os.walk(folder):
        for name in (*folders, *names):
            path = Path(root, name)
            mode = path.lstat().st_mode
            if stat.S_ISDIR(mode):
                continue
            if not stat.S_ISREG(mode):
                message = f"{path} is not a plain file: a bundle holds nothing else"
                raise Usage(message)
            size += path.lstat().st_size
            if size > BUNDLE_BYTES_MAX or len(found) >= BUNDLE_FILES_MAX:
                message = f"{folder} is larger than any bundle that is read"
                raise Usage(message)
            found[path.relative_to(folder).as_posix()] = path.read_bytes()
    return found


def write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write a new folder of files, whole or not at all, synced.

    Raises: usage when it is there already, deferred when the file system would not take it.
    """
    if folder.exists():
        message = f"{folder} is there already"
        raise Usage(message, hint="--out names a folder that does not exist yet.")
    import shutil  # lazy: only export writes folders, 10 ms

    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        for name, data in files.items():
            path = part / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        # Synced before it gets its name, or a power cut leaves that name on empty files.
        for name in files:
            _sync(part / name)
        part.rename(folder)
        sync_folder(folder.parent)
    except OSError as error:
        shutil.rmtree(part, ignore_errors=True)
        message = f"{folder} cannot be written: {error.strerror}"
        hint = "Free space, or name another folder with --out, then export again."
        raise Deferred(message, hint=hint) from error
