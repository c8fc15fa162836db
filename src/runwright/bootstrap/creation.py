"""Makes a project: its keys, its store, the first entry of its ledger."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from runwright import __version__
from runwright.adapters.files import sync_folder
from runwright.adapters.signer import FileSigner, Keys, SignerMemory, create_keys
from runwright.adapters.sqlite import SqliteStore
from runwright.bootstrap.project import (
    ProjectStore,
    clock,
    is_shared,
    layout,
    memory_path,
    open_store,
    opened,
    origin_of,
    tables,
    target,
)
from runwright.config import Loaded
from runwright.kernel.drive.writer import Writer
from runwright.kernel.errors import StoreMissing, StoreUnwritable, Usage
from runwright.kernel.record.entries import Draft, LedgerOpened

if TYPE_CHECKING:
    from runwright.adapters.postgres import PostgresStore

#: Beside the keys while `init` makes a store for them.
_UNFINISHED: Final = "unfinished"


def create(loaded: Loaded, name: str) -> Mapping[str, Any]:
    """Make a project's keys and its store, and open the ledger.

    Called again after it was cut off it begins anew, or makes the last step when only that is left.

    Raises: usage when there is one already, store-unwritable.
    """
    if is_shared(loaded):
        return _create_shared(loaded, name)
    path = loaded.path(loaded.settings.store.path)
    if path.exists():
        message = f"There is a store at {path} already"
        raise Usage(message)
    # Made beside its place and put there whole: a project has a store with an open ledger or none.
    part = path.with_name(path.name + ".part")
    if part.exists() and not (loaded.path(loaded.settings.signer.keys) / _UNFINISHED).exists():
        return _put_in_place(loaded, part, name)
    ledger = clock().entropy(8).hex()
    origin = f"runwright.local/{name}/{ledger}"
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = _begin_keys(loaded.path(loaded.settings.signer.keys))
    keys = create_keys(unfinished.parent, origin)
    for left in path.parent.glob(part.name + "*"):
        left.unlink()
    store = SqliteStore(part, tables=tables(), create=True)
    try:
        _open_ledger(loaded, store, keys, origin)
    finally:
        store.close()
    if part.with_name(part.name + "-wal").exists():
        # Closing says nothing when it could not merge the log, and without it the store is empty.
        message = f"{part} could not be written whole"
        raise StoreUnwritable(message)
    part.with_name(part.name + ".lease").unlink()
    unfinished.unlink(missing_ok=True)
    return _put_in_place(loaded, part, name)


def _create_shared(loaded: Loaded, name: str) -> Mapping[str, Any]:
    """Make the keys and, in one transaction, the shared store with an open, sealed ledger.

    Raises: usage when there is a store that these keys do not seal.
    """
    from runwright.adapters.postgres import PostgresStore  # lazy: only for a shared store

    place, folder = target(loaded), loaded.path(loaded.settings.signer.keys)
    if (folder / _UNFINISHED).exists() and (found := _sealed_by(loaded, folder)):
        # An `init` whose last commit was cut off: it was durable.
        (folder / _UNFINISHED).unlink()
        return found
    # Before the keys: where a store cannot be made, none are left behind.
    store: PostgresStore = PostgresStore(place, layout=layout(loaded), create=True)
    try:
        origin = f"runwright.local/{name}/{clock().entropy(8).hex()}"
        unfinished = _begin_keys(folder)
        keys = create_keys(folder, origin)
        _open_ledger(loaded, store, keys, origin)
        store.finish()
    finally:
        store.close()
    unfinished.unlink(missing_ok=True)
    key = keys.seal.text()
    return {"origin": origin, "store": place.name, "keys": str(folder), "seal_key": key}


def _sealed_by(loaded: Loaded, folder: Path) -> Mapping[str, Any] | None:
    """Return what stands in the shared store when it belongs to the keys of a folder."""
    vkey = folder / "ledger.vkey"
    try:
        store = open_store(loaded, read_only=True)
    except StoreMissing:
        return None
    try:
        origin, key = origin_of(store), opened(store).seal_key
    finally:
        store.close()
    if not vkey.exists() or vkey.read_text().strip() != key:
        return None
    return {"origin": origin, "store": store.name, "keys": str(folder), "seal_key": key}


def _open_ledger(loaded: Loaded, store: ProjectStore, keys: Keys, origin: str) -> None:
    """Write the first entry of a ledger, and seal it."""
    ledger = origin.rpartition("/")[2]
    memory = SignerMemory(memory_path(loaded, ledger, os.environ), ledger)
    maker = FileSigner(loaded.path(loaded.settings.signer.keys), memory, origin)
    writer = Writer(store, clock=clock(), signer=maker)
    body = LedgerOpened(
        ledger=ledger,
        seal_key=keys.seal.text(),
        bundle_key=keys.bundle,
        product=__version__,
    )
    writer.commit([Draft(body=body)])
    writer.close()


def _begin_keys(folder: Path) -> Path:
    """Remove keys of an `init` that was cut off: nothing was ever kept that they sealed.

    Return the file that says so until the store is about to be put in place.
    """
    unfinished = folder / _UNFINISHED
    if unfinished.exists():
        for key in (*folder.glob("ledger*"), *folder.glob("evidence*")):
            key.unlink()
    elif not any(folder.glob("*.key")):
        folder.mkdir(parents=True, mode=0o700, exist_ok=True)
        unfinished.touch()
    return unfinished


def _put_in_place(loaded: Loaded, part: Path, name: str) -> Mapping[str, Any]:
    """Give a whole new store its name. Raises: usage when it is not what the keys belong to."""
    folder = loaded.path(loaded.settings.signer.keys)
    store = SqliteStore(part, read_only=True)
    try:
        origin, seal_key = origin_of(store), opened(store).seal_key
    finally:
        store.close()
    vkey = folder / "ledger.vkey"
    if not vkey.exists() or vkey.read_text().strip() != seal_key:
        message = f"{part} is there, and {folder} holds no key of it"
        raise Usage(message, hint=f"Remove {part} when nothing needs it, and give `init` again.")
    if not origin.startswith(f"runwright.local/{name}/"):
        message = f"an `init` of {origin} was cut off just before its end"
        raise Usage(message, hint=f"runwright init --name {origin.split('/')[1]}")
    path = loaded.path(loaded.settings.store.path)
    part.rename(path)
    # Or a power cut after `init` has ended well leaves the store under the name that it had before.
    sync_folder(path.parent)
    return {"origin": origin, "store": str(path), "keys": str(folder), "seal_key": seal_key}
