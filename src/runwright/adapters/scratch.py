"""Folders that last as long as one attempt.

A child may leave anything in its folder: links, pipes, folders without permissions, a thousand of
them inside each other. None of that may lead outside, block or stop the removal.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

#: The folders of attempts are only for the user who conducts.
MODE: Final = 0o700
#: The most that is read of what a child left as its result, bytes.
RESULT_BYTES_MAX: Final = 256 * 1024


class ResultUnreadable(Exception):
    """What stands where the result belongs cannot be read."""


class Scratch:
    """The folder of one attempt."""

    def __init__(self, base: Path, name: str) -> None:
        """Make the folder, in place of what an attempt of that name left behind."""
        self.path = os.path.join(base, name)  # noqa: PTH118 - strings are what the child gets
        self.config = f"{self.path}/config.json"
        self.result = f"{self.path}/result.json"
        try:
            os.mkdir(self.path, MODE)  # noqa: PTH102 - as above
        except FileNotFoundError:
            # In two steps: the mode is that of the last folder alone.
            os.makedirs(base, MODE, exist_ok=True)  # noqa: PTH103 - as above
            os.mkdir(self.path, MODE)  # noqa: PTH102 - as above
        except FileExistsError:
            remove(self.path)
            os.mkdir(self.path, MODE)  # noqa: PTH102 - as above

    def write_config(self, text: str) -> None:
        """Write what the command finds in RUNWRIGHT_CONFIG. Raises: OSError, naming the file."""
        try:
            with open(_make(self.config), "w", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            # A full disk is met by the write, whose error names no file.
            raise OSError(error.errno, error.strerror, self.config) from error

    def read_result(self) -> bytes | None:
        """Return what the child left as its result, None when it left nothing.

        Raises: ResultUnreadable when it is too long, or no plain file.
        """
        try:
            # Neither through a link nor waiting for the writer of a pipe.
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            descriptor = os.open(self.result, flags)
        except FileNotFoundError:
            return None
        except OSError as error:
            msg = f"the result cannot be read: {error.strerror}"
            raise ResultUnreadable(msg) from error
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise ResultUnreadable("the result is not a plain file")
            data = os.read(descriptor, RESULT_BYTES_MAX + 1)
        finally:
            os.close(descriptor)
        if len(data) > RESULT_BYTES_MAX:
            msg = f"the result is longer than {RESULT_BYTES_MAX} bytes"
            raise ResultUnreadable(msg)
        return data

    def remove(self) -> bool:
        """Remove the folder; False when something in it could not be removed."""
        return remove(self.path)


def _make(path: str) -> int:
    """Open a file to write, new or still empty, never through a link."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)


def sweep(base: Path) -> int:
    """Remove what attempts of an earlier conductor left; return how many folders that were."""
    try:
        names = os.listdir(base)  # noqa: PTH208 - as above
    except FileNotFoundError:
        return 0
    return sum(remove(f"{base}/{name}") for name in names)


def remove(path: str) -> bool:
    """Remove a folder and all that is in it; False when something could not be removed."""
    # Each folder found is moved beside the first one, so no path grows and nothing recurses.
    folders = [path]
    found = 0
    try:
        while folders:
            folder = folders.pop()
            os.chmod(folder, MODE)  # noqa: PTH101 - strings, as above
            with os.scandir(folder) as entries:
                for entry in entries:
                    if not entry.is_dir(follow_symlinks=False):
                        os.unlink(entry.path)  # noqa: PTH108 - as above
                        continue
                    found += 1
                    # Moving a folder writes its "..".
                    os.chmod(entry.path, MODE)  # noqa: PTH101 - as above
                    moved = f"{path}.{found}"
                    os.rename(entry.path, moved)  # noqa: PTH104 - as above
                    folders.append(moved)
            os.rmdir(folder)  # noqa: PTH106 - as above
    except OSError:
        return False
    return True
