"""A project as its settings have it: its store, its signer, its places, the workloads."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from runwright.config import Loaded
from runwright.kernel.errors import (
    InvalidSetting,
    RunwrightError,
    StoreCorrupt,
    StoreUnwritable,
    Usage,
)
from runwright.kernel.ports import Batch, Clock, Messages, Store, Table
from runwright.kernel.record.entries import LedgerOpened, decode

if TYPE_CHECKING:
    from runwright.adapters.libpq import Target
    from runwright.adapters.postgres import Layout
    from runwright.adapters.signer import FileSigner
    from runwright.kernel.record.seal import Heads
    from runwright.kernel.record.signed import AgentSignature
    from runwright.kernel.workload import Workload

#: The workloads of this product, by kind.
KINDS: Final = ("cycles", "streams")
#: What stands beside a store under its name.
STORE_FILES: Final = ("", "-wal", "-shm", "-journal", ".lease", ".bell", ".part")
#: Where batches are kept that a shared store did not take.
_UNWRITTEN: Final = ".runwright/unwritten"
#: The folder of this package.
_PACKAGE: Final = os.path.dirname(os.path.dirname(__file__))  # noqa: PTH120 - 2 ms faster than pathlib


class ProjectStore(Store, Protocol):
    """A store of a project, as commands use it."""

    @property
    def name(self) -> str:
        """What messages call it."""

    def version(self) -> int:
        """Return the version of the schema."""

    def migrate(self) -> list[str]:
        """Bring it up to this version; return what was done."""

    def check(self) -> list[str]:
        """Return what is wrong with it."""

    def holder(self) -> str:
        """Return who conducts; empty when nobody does."""

    def install_views(self, tables: Sequence[Table]) -> list[str]:
        """Make the views anew; return their names. Raises: usage."""

    def uninstall_views(self, tables: Sequence[Table]) -> list[str]:
        """Take down those that are ours; return their names."""

    def adopted(self) -> list[dict[str, Any]]:
        """Return the tables of a site that are read in the place of ours."""


def open_store(
    loaded: Loaded, *, read_only: bool = False, messages: Messages | None = None
) -> ProjectStore:
    """Open the project's store. Raises: store-missing, store-version, store-unreachable."""
    if not is_shared(loaded):
        from runwright.adapters.sqlite import SqliteStore  # lazy: only where the store is a file

        return SqliteStore(loaded.path(loaded.settings.store.path), read_only=read_only)
    place = target(loaded)
    from runwright.adapters.postgres import PostgresStore  # lazy: only for a shared store

    def unwritten(batch: Batch, failure: RunwrightError) -> str:
        from runwright.adapters.unwritten import keep_batch  # lazy: only when a commit failed

        file = keep_batch(loaded.path(_UNWRITTEN), place.name, batch, failure)
        if messages and file:
            fields = {"file": file, "entries": len(batch.entries)}
            messages("store.unwritten", str(failure), level="error", **fields)
        return file

    return PostgresStore(place, layout=layout(loaded), read_only=read_only, unwritten=unwritten)


def layout(loaded: Loaded) -> Layout:
    """Return where the tables of workloads stand in a shared store, as the settings have it."""
    # lazy: only for a shared store
    import msgspec  # lazy: as above

    from runwright.adapters.postgres import Layout  # lazy: as above

    relation, schemas = loaded.settings.registry.table, loaded.settings.schemas
    adopted = {"task_registry": relation} if relation else {}
    return Layout(tables, msgspec.structs.asdict(schemas), adopted)


def tables() -> Sequence[Table]:
    """Return the tables of all workloads."""
    return [table for workload in workloads().values() for table in workload.tables]


def is_shared(loaded: Loaded) -> bool:
    """Say whether the store is a PostgreSQL database."""
    return bool(loaded.settings.store.url)


def target(loaded: Loaded) -> Target:
    """Return where the shared store is. Raises: invalid-setting."""
    settings = loaded.settings.store
    require_psycopg(loaded)
    from runwright.adapters import libpq  # lazy: only for a shared store

    return libpq.target(
        settings.url, settings.schema, os.environ, origin=loaded.origins["store.url"]
    )


def require_psycopg(loaded: Loaded) -> None:
    """Do nothing where psycopg is installed. Raises: invalid-setting where it is not."""
    try:
        importlib.import_module("psycopg")
    except ImportError as error:
        message = f"{loaded.origins['store.url']}: store.url needs psycopg, which is missing"
        hint = "pip install 'runwright[postgres]'"
        raise InvalidSetting(message, hint=hint) from error


def store_name(loaded: Loaded) -> str:
    """Return what messages call the store."""
    return target(loaded).name if is_shared(loaded) else str(store_path(loaded))


def store_path(loaded: Loaded) -> Path:
    """Return the file of a store that is one."""
    return loaded.path(loaded.settings.store.path)


def private_paths(loaded: Loaded) -> list[Path]:
    """Return what a function must neither read nor write, but for a scratch folder of its own."""
    settings = loaded.settings
    store = loaded.path(settings.store.path)
    beside = [store.with_name(store.name + end) for end in STORE_FILES]
    folder = memory_path(loaded, "", os.environ).parent
    # `glob` would compile a pattern.
    found = folder.iterdir() if folder.is_dir() else ()
    memories = [path for path in found if path.suffix == ".memory"]
    keys, scratch = loaded.path(settings.signer.keys), loaded.path(settings.conductor.scratch)
    return [*beside, keys, scratch, service_folder(loaded), *memories]


def service_folder(loaded: Loaded) -> Path:
    """Return the folder of what a service of the project is given: variables with passwords."""
    return loaded.folder / ".runwright" / "service"


def memory_path(loaded: Loaded, ledger: str, environment: Mapping[str, str]) -> Path:
    """Return the file in which the signer remembers a ledger."""
    given = loaded.settings.signer.memory
    if given:
        return loaded.path(given) / f"{ledger}.memory"
    state = environment.get("XDG_STATE_HOME", "")
    folder = Path(state) if state.startswith("/") else Path.home() / ".local" / "state"
    return folder / "runwright" / f"{ledger}.memory"


def opened(store: ProjectStore) -> LedgerOpened:
    """Return what the first entry says. Raises: store-corrupt."""
    first = next(iter(store.entries(0, 1)), None)
    try:
        body = decode(first.raw).body if first else None
    except ValueError:  # what msgspec's errors are: these bytes are no entry
        body = None
    if not isinstance(body, LedgerOpened):
        message = f"{store.name}: the first entry does not open a ledger"
        raise StoreCorrupt(message)
    return body


def origin_of(store: ProjectStore) -> str:
    """Return the name of the ledger. Raises: store-corrupt."""
    first = next(iter(store.entries(0, 1)), None)
    if first is None:
        message = f"{store.name} holds no entries"
        raise StoreCorrupt(message)
    return decode(first.raw).origin


def signer(loaded: Loaded, store: ProjectStore) -> FileSigner:
    """Return the signer of the project's ledger."""
    from runwright.adapters.signer import FileSigner, SignerMemory  # lazy: only writers sign

    ledger = opened(store).ledger
    memory = SignerMemory(memory_path(loaded, ledger, os.environ), ledger)
    keys, shared = loaded.path(loaded.settings.signer.keys), is_shared(loaded)
    return FileSigner(keys, memory, origin_of(store), is_shared=shared)


def heads(loaded: Loaded, store: ProjectStore) -> Heads:
    """Return where the ledger stands, held against the signer's memory.

    Raises: rollback-detected, signer-memory-lost, store-corrupt.
    """
    from runwright.kernel.record.seal import open_head  # lazy: who writes looks by itself

    return open_head(store, signer(loaded, store))


def signatures(store: ProjectStore, seqs: Sequence[int] | None = None) -> list[AgentSignature]:
    """Return what agents signed, of all entries or of some."""
    from runwright.kernel.record.signed import AgentSignature  # lazy: only verify and export

    wanted = None if seqs is None else set(seqs)
    return [
        AgentSignature(**row)
        for row in store.rows("signature", order="seq")
        if wanted is None or row["seq"] in wanted
    ]


def keep(path: Path, text: str | bytes, *, mode: int = 0o644) -> None:
    """Write a small file of a project, whole and synced. Raises: store-unwritable."""
    from runwright.adapters.files import write_whole  # lazy: few commands write one

    try:
        write_whole(path, text if isinstance(text, bytes) else text.encode(), mode=mode)
    except OSError as error:
        message = f"{path} cannot be written: {error.strerror}"
        raise StoreUnwritable(message) from error


def clock() -> Clock:
    """Return the clock of this machine."""
    from runwright.adapters.clock import SystemClock  # lazy: who verifies asks for no time

    return SystemClock()


def workloads() -> Mapping[str, Workload]:
    """Return the workloads by kind; each is imported when it is asked for."""
    return _WORKLOADS


def _workload(kind: str) -> Workload:
    # lazy: verify and show need no workload
    found: Workload = importlib.import_module(f"runwright.{kind}").WORKLOAD
    return found


class ByKind(Mapping[str, Any]):
    """Something of each kind of work, made when it is asked for: a run needs one kind."""

    def __init__(self, make: Callable[[str], Any]) -> None:
        """Make it by the kind."""
        self._make = make
        self._made: dict[str, Any] = {}

    def __getitem__(self, kind: str) -> Any:
        if kind not in self._made:
            if kind not in KINDS:
                raise KeyError(kind)
            self._made[kind] = self._make(kind)
        return self._made[kind]

    def __iter__(self) -> Iterator[str]:
        return iter(KINDS)

    def __len__(self) -> int:
        return len(KINDS)


_WORKLOADS: Final = ByKind(_workload)


def spec_of(known: Mapping[str, Workload], row: Mapping[str, Any]) -> Any:
    """Return the typed spec of a row of the spec table."""
    from runwright.kernel.drive.ticks import decode_spec  # lazy: only who looks at specs

    return decode_spec(known[row["kind"]], row["body"])


def code_digest(kind: str) -> str:
    """Return the digest of a workload's source files: which code planned and judged."""
    from runwright.kernel.canonical import digest, digest_of  # lazy: only a conductor needs it

    if kind not in KINDS:
        message = f"there is no workload of kind {kind!r}"
        raise Usage(message)
    found = {}
    folder = f"{_PACKAGE}/{kind}"
    for name in sorted(os.listdir(folder)):  # noqa: PTH208 - 2 ms faster than pathlib
        if name.endswith(".py"):
            with open(f"{folder}/{name}", "rb", buffering=0) as file:  # noqa: PTH123 - as above
                found[name] = digest(file.read())
    return digest_of(found)
