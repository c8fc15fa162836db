"""Builds of the product, whole and sabotaged: Python text that runs before a command."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.e2e.project import Project

#: What a build does differently, by name; nothing is different in the whole one.
WHOLE = ""

_LEVEL = """
import runwright.adapters.sqlite as it
connect = it.SqliteStore._connect
def connected(self, **how):
    db = connect(self, **how)
    db.execute("PRAGMA synchronous = {level}")
    return db
it.SqliteStore._connect = connected
"""
#: SQLite flushes its log when it merges it, not at a commit.
NORMAL = _LEVEL.format(level="NORMAL")
#: SQLite never flushes.
OFF = _LEVEL.format(level="OFF")

#: What the signer remembers is written, and not synced.
MEMORY_UNSYNCED = """
import os
import runwright.adapters.signer as it
def write(self, place, data):
    self._path.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
    os.pwrite(file, data, place * it.SLOT_SIZE)
    os.close(file)
it.SignerMemory._write = write
"""

#: The signer remembers a moment after the seal is committed, not before its signature is released.
MEMORY_LATE = """
import select
import runwright.adapters.signer as it
import runwright.kernel.drive.writer as writers
remember, seal, late = it.FileSigner._remember, writers.Writer.seal, []
it.FileSigner._remember = lambda self, head: late.append((self, head))
def sealed(self, rows=()):
    seal(self, rows)
    while late:
        select.select([], [], [], 0.02)
        remember(*late.pop(0))
writers.Writer.seal = sealed
"""

#: Papers are put in their place without being synced.
PAPERS_UNSYNCED = """
import runwright.adapters.files as it
def write(path, data, mode=0o644):
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_bytes(data)
    part.replace(path)
it.write_whole = write
"""

#: `init` does not make durable under which name the store lies.
INIT_UNSYNCED = """
import runwright.adapters.files as it
sync = it.sync_folder
it.sync_folder = lambda folder: folder.name == ".runwright" or sync(folder)
"""

#: What a bundle holds is not synced before it gets its name.
BUNDLES_UNSYNCED = """
import runwright.adapters.files as it
it._sync = lambda path: None
"""

#: A store that takes no notice of a write that failed.
STORE_DEAF = """
import contextlib
import runwright.adapters.sqlite as it
from runwright.kernel.errors import Halt
commit = it.SqliteStore.commit
def committed(self, batch):
    with contextlib.suppress(Halt):
        commit(self, batch)
it.SqliteStore.commit = committed
"""

#: A sink that takes no notice of a paper that could not be written.
SINK_DEAF = """
import contextlib
import runwright.adapters.files as it
write_whole = it.write_whole
def write(path, data, mode=0o644):
    with contextlib.suppress(OSError):
        write_whole(path, data, mode=mode)
it.write_whole = write
"""

#: A scratch folder whose config may be cut short.
SCRATCH_DEAF = """
import contextlib
import runwright.adapters.scratch as it
write_config = it.Scratch.write_config
def write(self, text):
    with contextlib.suppress(OSError):
        write_config(self, text)
it.Scratch.write_config = write
"""

#: A signer that takes no notice of a memory that could not be written.
MEMORY_DEAF = """
import contextlib
import runwright.adapters.signer as it
remember = it.SignerMemory.remember
def remembered(self, what):
    with contextlib.suppress(Exception):
        remember(self, what)
it.SignerMemory.remember = remembered
"""


class Built(Project):
    """A project whose commands are those of a build."""

    build: str = WHOLE

    def __init__(self, base: Path, **settings: Path) -> None:
        """Use a folder; `store_path=FILE` is the setting `store.path`."""
        super().__init__(base)
        self.settings = {f"RUNWRIGHT_{name.upper()}": str(at) for name, at in settings.items()}

    @property
    def store(self) -> Path:
        """The store's file."""
        return Path(self.settings.get("RUNWRIGHT_STORE_PATH", super().store))

    @property
    def environment(self) -> dict[str, str]:
        """What a command finds in its environment."""
        return {**super().environment, **self.settings}

    def _argv(self, words: tuple[object, ...]) -> list[str]:
        if not self.build:
            return super()._argv(words)
        source = f"{self.build}\nfrom runwright.cli.main import main\nmain()\n"
        return [sys.executable, "-c", source, *map(str, words)]
