"""Wires settings to adapters and workloads; the only place that knows the concrete ones."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from runwright import __version__
from runwright.adapters.clock import SystemClock
from runwright.adapters.sqlite import SqliteStore
from runwright.config import Loaded
from runwright.kernel.errors import (
    InvalidSetting,
    RunwrightError,
    StoreCorrupt,
    StoreMissing,
    StoreUnwritable,
    Usage,
    VerificationFailed,
)
from runwright.kernel.ports import Batch, Bell, Messages, Store, Table
from runwright.kernel.record.entries import LedgerOpened, decode

if TYPE_CHECKING:
    from runwright.adapters.libpq import Target
    from runwright.adapters.listening import Channel
    from runwright.adapters.notify import Notifier
    from runwright.adapters.postgres import Layout, PostgresStore
    from runwright.adapters.signer import FileSigner, Keys
    from runwright.kernel.drive.conductor import Conductor, Ports
    from runwright.kernel.drive.lifecycle import Stop
    from runwright.kernel.record.ledger import StoredBlock, StoredEntry
    from runwright.kernel.record.papers import StoredPaper
    from runwright.kernel.record.seal import Heads
    from runwright.kernel.record.signed import AgentSignature
    from runwright.kernel.record.verify import Report
    from runwright.kernel.run import Command
    from runwright.kernel.workload import Workload

#: The workloads of this product, by kind.
KINDS: Final = ("cycles", "streams")
CLOCK: Final = SystemClock()
#: Beside the keys while `init` makes a store for them.
_UNFINISHED: Final = "unfinished"
#: The folder of the agents' keys, below that of the keys.
AGENTS: Final = "agents"
#: Where batches are kept that a shared store did not take.
_UNWRITTEN: Final = ".runwright/unwritten"
#: What reconciles a cycle and signs what it left; `fractions` compares.
_ENDINGS: Final = (
    "fractions",
    "runwright.cycles.reconcile",
    "runwright.cycles.snapshots",
    "runwright.kernel.drive.agents",
)
#: What stands beside a store under its name.
STORE_FILES: Final = ("", "-wal", "-shm", "-journal", ".lease", ".bell", ".part")


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


class _ByKind(Mapping[str, Any]):
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


def workloads() -> Mapping[str, Workload]:
    """Return the workloads by kind; each is imported when it is asked for."""
    return _WORKLOADS


def _workload(kind: str) -> Workload:
    # lazy: verify and show need no workload
    found: Workload = importlib.import_module(f"runwright.{kind}").WORKLOAD
    return found


_WORKLOADS: Final = _ByKind(_workload)


def open_store(
    loaded: Loaded, *, read_only: bool = False, messages: Messages | None = None
) -> ProjectStore:
    """Open the project's store. Raises: store-missing, store-version, store-unreachable."""
    if not is_shared(loaded):
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

    return PostgresStore(place, layout=_layout(loaded), read_only=read_only, unwritten=unwritten)


def _layout(loaded: Loaded) -> Layout:
    """Return where the tables of workloads stand in a shared store, as the settings have it."""
    # lazy: only for a shared store
    import msgspec  # lazy: as above

    from runwright.adapters.postgres import Layout  # lazy: as above

    relation, schemas = loaded.settings.registry.table, loaded.settings.schemas
    adopted = {"task_registry": relation} if relation else {}
    return Layout(_tables, msgspec.structs.asdict(schemas), adopted)


def _tables() -> Sequence[Table]:
    return [table for workload in workloads().values() for table in workload.tables]


def is_shared(loaded: Loaded) -> bool:
    """Say whether the store is a PostgreSQL database."""
    return bool(loaded.settings.store.url)


def target(loaded: Loaded) -> Target:
    """Return where the shared store is. Raises: invalid-setting."""
    settings = loaded.settings.store
    _require_psycopg(loaded)
    from runwright.adapters import libpq  # lazy: only for a shared store

    return libpq.target(
        settings.url, settings.schema, os.environ, origin=loaded.origins["store.url"]
    )


def _require_psycopg(loaded: Loaded) -> None:
    try:
        importlib.import_module("psycopg")
    except ImportError as error:
        message = f"{loaded.origins['store.url']}: store.url needs psycopg, which is missing"
        hint = "pip install 'runwright[postgres]'"
        raise InvalidSetting(message, hint=hint) from error


def connection(loaded: Loaded) -> list[dict[str, str]]:
    """Return where the shared store is, part by part with its origin; nothing for a file."""
    if not is_shared(loaded):
        return []
    _require_psycopg(loaded)
    from runwright.adapters import libpq  # lazy: only for a shared store

    url, origin = loaded.settings.store.url, loaded.origins["store.url"]
    return [each._asdict() for each in libpq.parameters(url, os.environ, origin=origin)]


def roles(loaded: Loaded, *, is_applied: bool) -> str:
    """Return the SQL that makes the roles of the shared store, executed when that is asked for.

    Raises: usage when the store is a file.
    """
    if not is_shared(loaded):
        message = f"{store_path(loaded)} is a file: who may change it is a matter of its mode"
        raise Usage(message, hint="Roles are those of a PostgreSQL store (setting store.url).")
    place = target(loaded)
    from runwright.adapters.postgres import PostgresStore  # lazy: only for a shared store

    store = PostgresStore(place, layout=_layout(loaded))
    try:
        script = store.roles()
        if is_applied:
            store.execute(script)
        return script
    finally:
        store.close()


def store_name(loaded: Loaded) -> str:
    """Return what messages call the store."""
    return target(loaded).name if is_shared(loaded) else str(store_path(loaded))


def store_path(loaded: Loaded) -> Path:
    """Return the file of a store that is one."""
    return loaded.path(loaded.settings.store.path)


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


def memory_path(loaded: Loaded, ledger: str, environment: Mapping[str, str]) -> Path:
    """Return the file in which the signer remembers a ledger."""
    given = loaded.settings.signer.memory
    if given:
        return loaded.path(given) / f"{ledger}.memory"
    state = environment.get("XDG_STATE_HOME", "")
    folder = Path(state) if state.startswith("/") else Path.home() / ".local" / "state"
    return folder / "runwright" / f"{ledger}.memory"


def signer(loaded: Loaded, store: ProjectStore) -> FileSigner:
    """Return the signer of the project's ledger."""
    from runwright.adapters.signer import FileSigner, SignerMemory  # lazy: only writers sign

    ledger = opened(store).ledger
    memory = SignerMemory(memory_path(loaded, ledger, os.environ), ledger)
    keys, shared = loaded.path(loaded.settings.signer.keys), is_shared(loaded)
    return FileSigner(keys, memory, origin_of(store), is_shared=shared)


def bell_path(loaded: Loaded) -> Path | Channel:
    """Return where the conductor of the project's store listens."""
    if is_shared(loaded):
        return _channel(loaded, "bell")
    path = store_path(loaded)
    return path.with_name(path.name + ".bell")


def reply_path(loaded: Loaded) -> Path | Channel:
    """Return where somebody who submitted listens, and nobody else."""
    if is_shared(loaded):
        return _channel(loaded, f"wait_{CLOCK.entropy(8).hex()}")
    path = store_path(loaded)
    return path.with_name(f"{path.name}.wait.{os.getpid()}")


def _channel(loaded: Loaded, name: str) -> Channel:
    place = target(loaded)
    from runwright.adapters.listening import Channel  # lazy: only for a shared store

    return Channel(place, f"{place.schema}_{name}")


def ring(path: Path | Channel) -> None:
    """Knock at a bell."""
    if isinstance(path, Path):
        from runwright.adapters.bell import ring as knock  # lazy: only submitters knock

        knock(path)
    else:
        from runwright.adapters.listening import ring as notify  # lazy: as above

        notify(path)


def bell(path: Path | Channel) -> Bell:
    """Hang a bell."""
    if isinstance(path, Path):
        from runwright.adapters.bell import SocketBell  # lazy: a one-shot run has no bell

        return SocketBell(path)
    from runwright.adapters.listening import ListeningBell  # lazy: as above

    return ListeningBell(path)


def notifier(loaded: Loaded, stop: Stop) -> Notifier:
    """Return what speaks to the service manager that started this process, if one did."""
    from runwright.adapters.notify import Notifier  # lazy: only a conductor that stays is watched

    drain_s = loaded.settings.conductor.drain_s
    return Notifier(os.environ, clock=CLOCK, stop=stop, drain_s=drain_s)


@contextmanager
def conducting(
    loaded: Loaded,
    *,
    messages: Messages,
    stop: Stop | None = None,
    continuous: bool = False,
    pulse: Callable[[], float | None] | None = None,
    is_quiet: bool = False,
) -> Iterator[tuple[Conductor, Ports]]:
    """Hold the store's lease, recover what was left under way, and seal at the end.

    `continuous`: more than one cycle is to come, so functions that wish it start warm. `is_quiet`:
    say nothing of single rounds and runs.

    Raises: store-busy, rollback-detected, signer-memory-lost, store-corrupt, store-unwritable.
    """
    from runwright.adapters.children import Launcher  # lazy: only a conductor starts commands

    # First of all, so that it gets ready beside the imports that follow.
    launcher = Launcher()
    launcher.start()
    # lazy: only a conductor needs these
    from runwright.adapters.agents import FileKeyring  # lazy: as above
    from runwright.adapters.files import FilesSink  # lazy: as above
    from runwright.adapters.places import LocalPlaces  # lazy: as above
    from runwright.kernel.drive.conductor import Conductor, Ports  # lazy: as above
    from runwright.kernel.drive.writer import Writer  # lazy: as above

    settings = loaded.settings
    places = LocalPlaces(
        clock=CLOCK,
        environment=os.environ,
        scratch=loaded.path(settings.conductor.scratch),
        private=private_paths(loaded),
        messages=messages,
        launcher=launcher,
    )
    first = 0 if continuous else 1
    places.warm_after = {"always": 0, "never": None, "auto": first}[settings.conductor.warm]
    try:
        known = workloads()
        store = open_store(loaded, messages=messages)
        try:
            writer = Writer(
                store,
                clock=CLOCK,
                signer=signer(loaded, store),
                seal_every_s=settings.signer.every_s,
                keyring=FileKeyring(loaded.path(settings.signer.keys) / AGENTS),
            )
            places.sweep()
            ports = Ports(
                store=store,
                writer=writer,
                workloads=known,
                places=places,
                sinks={"files": FilesSink(loaded.path(settings.files.folder))},
                clock=CLOCK,
                messages=messages,
                is_quiet=is_quiet,
                product=__version__,
                codes=_ByKind(code_digest),
                drain_s=settings.conductor.drain_s,
                outbox_max=settings.conductor.outbox_max,
                meanwhile=[_import_signatures, _prepare_entries, _import_endings],
                adopted=store.adopted,
            )
            if pulse is not None:
                ports = ports._replace(pulse=pulse)
            try:
                conductor = Conductor(ports, stop=stop)
                yield conductor, ports
                # Nothing starts from here on; the launcher ends beside what follows.
                places.hang_up()
                # What recovery or a request caused leaves now, not with somebody's next cycle.
                writer.seal()
                conductor.outbox.pump()
            finally:
                writer.close()
        finally:
            store.close()
    finally:
        places.close()


def _import_signatures() -> None:
    """Import what a seal needs: 15 ms that pass while the first child runs."""
    importlib.import_module("cryptography.hazmat.primitives.asymmetric.ed25519")


def _prepare_entries() -> None:
    """Prepare the entries that a round ends with: 4 ms that pass while a child runs."""
    from runwright.kernel.drive import recall  # lazy: as above
    from runwright.kernel.record import entries, ledger  # lazy: as above

    ledger.prepare(entries.RunFinished, entries.RoundJudged, entries.StateReconciled)
    recall.prepare()


def _import_endings() -> None:
    """Import what only the end of a cycle needs: 5 ms that pass while a child runs."""
    for name in _ENDINGS:
        importlib.import_module(name)


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


def problem_of(loaded: Loaded, work: Command) -> str:
    """Return why this machine cannot hold what a command demands; empty when it can."""
    from runwright.adapters.commands import demand_problem  # lazy: only a dry run asks

    return demand_problem(work, os.environ, private_paths(loaded))


def level_of(work: Command) -> str:
    """Return the isolation level that this machine applies to a command."""
    from runwright.adapters import commands  # lazy: only a dry run asks

    return commands.level_of(work, commands.best_level())


def best_level() -> str:
    """Return the isolation level that this machine holds."""
    from runwright.adapters import commands  # lazy: only the doctor asks

    return commands.best_level()


def lacking() -> str:
    """Return why this machine does not hold T2; empty when it does."""
    from runwright.adapters import commands  # lazy: only the doctor asks

    return commands.lacking()


def code_digest(kind: str) -> str:
    """Return the digest of a workload's source files: which code planned and judged."""
    from runwright.kernel.canonical import digest, digest_of  # lazy: only a conductor needs it

    if kind not in KINDS:
        message = f"there is no workload of kind {kind!r}"
        raise Usage(message)
    found = {}
    folder = f"{os.path.dirname(__file__)}/{kind}"  # noqa: PTH120 - 2 ms faster than pathlib
    for name in sorted(os.listdir(folder)):  # noqa: PTH208 - as above
        if name.endswith(".py"):
            with open(f"{folder}/{name}", "rb", buffering=0) as file:  # noqa: PTH123 - as above
                found[name] = digest(file.read())
    return digest_of(found)


def create(loaded: Loaded, name: str) -> Mapping[str, Any]:
    """Make a project's keys and its store, and open the ledger.

    Called again after it was cut off it begins anew, or makes the last step when only that is left.

    Raises: usage when there is one already, store-unwritable.
    """
    from runwright.adapters.signer import create_keys  # lazy: only init makes keys

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
    ledger = CLOCK.entropy(8).hex()
    origin = f"runwright.local/{name}/{ledger}"
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = _begin_keys(loaded.path(loaded.settings.signer.keys))
    keys = create_keys(unfinished.parent, origin)
    tables = [table for workload in workloads().values() for table in workload.tables]
    for left in path.parent.glob(part.name + "*"):
        left.unlink()
    store = SqliteStore(part, tables=tables, create=True)
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


def _open_ledger(loaded: Loaded, store: ProjectStore, keys: Keys, origin: str) -> None:
    """Write the first entry of a ledger, and seal it."""
    # lazy: only init
    from runwright.adapters.signer import FileSigner, SignerMemory  # lazy: as above
    from runwright.kernel.drive.writer import Writer  # lazy: as above
    from runwright.kernel.record.entries import Draft  # lazy: as above

    ledger = origin.rpartition("/")[2]
    memory = SignerMemory(memory_path(loaded, ledger, os.environ), ledger)
    maker = FileSigner(loaded.path(loaded.settings.signer.keys), memory, origin)
    writer = Writer(store, clock=CLOCK, signer=maker)
    body = LedgerOpened(
        ledger=ledger,
        seal_key=keys.seal.text(),
        bundle_key=keys.bundle,
        product=__version__,
    )
    writer.commit([Draft(body=body)])
    writer.close()


def _create_shared(loaded: Loaded, name: str) -> Mapping[str, Any]:
    """Make the keys and, in one transaction, the shared store with an open, sealed ledger.

    Raises: usage when there is a store that these keys do not seal.
    """
    # lazy: only init
    from runwright.adapters.postgres import PostgresStore  # lazy: as above
    from runwright.adapters.signer import create_keys  # lazy: as above

    place, folder = target(loaded), loaded.path(loaded.settings.signer.keys)
    if (folder / _UNFINISHED).exists() and (found := _sealed_by(loaded, folder)):
        # An `init` whose last commit was cut off: it was durable.
        (folder / _UNFINISHED).unlink()
        return found
    # Before the keys: where a store cannot be made, none are left behind.
    store: PostgresStore = PostgresStore(place, layout=_layout(loaded), create=True)
    try:
        origin = f"runwright.local/{name}/{CLOCK.entropy(8).hex()}"
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


def keep(path: Path, text: str | bytes, *, mode: int = 0o644) -> None:
    """Write a small file of a project, whole and synced. Raises: store-unwritable."""
    from runwright.adapters.files import write_whole  # lazy: only init

    try:
        write_whole(path, text if isinstance(text, bytes) else text.encode(), mode=mode)
    except OSError as error:
        message = f"{path} cannot be written: {error.strerror}"
        raise StoreUnwritable(message) from error


def _put_in_place(loaded: Loaded, part: Path, name: str) -> Mapping[str, Any]:
    """Give a whole new store its name. Raises: usage when it is not what the keys belong to."""
    from runwright.adapters.files import sync_folder  # lazy: only init

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


def rebuild(loaded: Loaded, *, write: bool) -> list[Mapping[str, str]]:
    """Fold the ledger again and return where the tables in use differ; `write` mends them.

    Raises: store-busy when they are to be written and another conductor holds the store.
    """
    # lazy: only `db rebuild` folds again
    import msgspec  # lazy: as above

    from runwright.adapters.memory import MemoryStore  # lazy: as above
    from runwright.kernel.drive import rebuild as folding  # lazy: as above

    known = workloads()
    tables = [table for workload in known.values() for table in workload.tables]
    store = open_store(loaded, read_only=not write)
    try:
        lease = store.lease() if write else None
        try:
            again = MemoryStore(tables=tables)
            folding.fold_again(store, known, again)
            found = folding.differences(store, again, tables)
            if write and found:
                store.commit(folding.rows_of(again, tables))
        finally:
            if lease is not None:
                lease.release()
    finally:
        store.close()
    return [msgspec.structs.asdict(item) for item in found]


def views_of(loaded: Loaded, *, install: bool) -> Mapping[str, Any]:
    """Make or take down the views over the tables of workloads. Raises: usage."""
    tables = [table for workload in workloads().values() for table in workload.tables]
    store = open_store(loaded)
    try:
        done = store.install_views(tables) if install else store.uninstall_views(tables)
        return {"store": store.name, "views": done}
    finally:
        store.close()


def spec_of(known: Mapping[str, Workload], row: Mapping[str, Any]) -> Any:
    """Return the typed spec of a row of the spec table."""
    from runwright.kernel.drive.ticks import decode_spec  # lazy: only who looks at specs

    return decode_spec(known[row["kind"]], row["body"])


def heads(loaded: Loaded, store: ProjectStore) -> Heads:
    """Return where the ledger stands, held against the signer's memory.

    Raises: rollback-detected, signer-memory-lost, store-corrupt.
    """
    from runwright.kernel.record.seal import open_head  # lazy: only doctor asks without writing

    return open_head(store, signer(loaded, store))


def proof_text(store: ProjectStore, seq: int) -> str:
    """Return the inclusion proof of a sealed entry. Raises: usage."""
    from runwright.kernel.record.ledger import inclusion_proof  # lazy: only proofs
    from runwright.kernel.record.seal import Proof, proof_text  # lazy: as above

    newest = next(iter(store.seals(latest=True)), None)
    if newest is None or seq >= newest.size:
        message = f"entry {seq} is not sealed; {newest.size if newest else 0} entries are"
        raise Usage(message)
    hashes = tuple(inclusion_proof(store.tiles, seq, newest.size))
    return proof_text(Proof(index=seq, hashes=hashes, note=newest.note))


def frozen_reason(store: ProjectStore, name: str) -> str:
    """Return which decision of a person stands against a spec; empty when none does."""
    from runwright.kernel.people import stand  # lazy: only a dry run asks

    found = stand(store.rows("decision", {"subject": f"spec/{name}"}, order="seq"), CLOCK.now_ms())
    if found is None:
        return ""
    return f"{found['action']} by {found['person']} (entry {found['seq']}): {found['reason']}"


def sign_decision(file: Path, message: bytes) -> str:
    """Sign with a person's private key; return the base64 of an SSHSIG. Raises: usage, refused."""
    from runwright.adapters.persons import sign  # lazy: only decisions are signed

    return sign(file, message)


def person_key(file: Path) -> str:
    """Return the public half of a person's key, of its file or of the one beside it."""
    from runwright.adapters.persons import public_of  # lazy: only decisions are signed

    return public_of(file)


def create_person_key(file: Path, comment: str) -> str:
    """Make a key pair for a person; return the line of the public half. Raises: usage."""
    from runwright.adapters.persons import create  # lazy: only key new

    return create(file, comment)


def keep_new(path: Path, data: bytes) -> None:
    """Write a file that must not be there yet. Raises: usage, store-unwritable."""
    from runwright.adapters.signer import write_new  # lazy: only a decision that travels

    write_new(path, data, 0o644)


def read_bundle(folder: Path) -> Mapping[str, bytes]:
    """Return the files of a bundle. Raises: usage."""
    from runwright.adapters.files import read_folder  # lazy: only a decision over a bundle

    return read_folder(folder)


def public_keys(loaded: Loaded) -> list[dict[str, str]]:
    """Return the public keys of the project, for auditors."""
    folder = loaded.path(loaded.settings.signer.keys)
    found = []
    for file in sorted(folder.glob("*.vkey")):
        role = "seal" if file.name == "ledger.vkey" else "retired"
        found.append({"role": role, "file": str(file), "key": file.read_text().strip()})
    evidence = folder / "evidence.pub.pem"
    if evidence.exists():
        lines = evidence.read_text().splitlines()
        found.append({"role": "bundle", "file": str(evidence), "key": "".join(lines[1:-1])})
    return found


def rotate(loaded: Loaded, ports: Ports, *, by: str) -> Mapping[str, str]:
    """Introduce a new seal key under the old one, then seal with the new one alone."""
    from runwright.adapters.signer import begin_rotation, finish_rotation  # lazy: rotation only
    from runwright.kernel.record.entries import Actor, Draft, KeyAdded, KeyRetired  # lazy: as above

    folder = loaded.path(loaded.settings.signer.keys)
    old = (folder / "ledger.vkey").read_text().strip()
    signing, actor = ports.writer.signer, Actor(kind="person", id=by)
    new = begin_rotation(folder, signing.origin).text()
    signing.reload()
    # Sealed at once, by both keys: whoever trusts the old one learns of the new one from it.
    ports.writer.commit([Draft(body=KeyAdded(role="seal", key=new), actor=actor)])
    finish_rotation(folder)
    signing.reload()
    ports.writer.commit([Draft(body=KeyRetired(role="seal", key=old), actor=actor)])
    ports.writer.seal()
    return {"old": old, "new": new}


def adopt(loaded: Loaded, reason: str, *, by: str) -> Mapping[str, Any]:
    """Go on with a store that the signer does not vouch for; the entry that says so is sealed.

    Raises: usage when the signer does vouch for it, store-busy, store-corrupt.
    """
    # lazy: adoption only
    import msgspec  # lazy: as above

    from runwright.kernel.drive import writer  # lazy: as above

    store = open_store(loaded)
    try:
        signing = signer(loaded, store)
        body = writer.adopt(store, clock=CLOCK, signer=signing, reason=reason, by=by)
        found: Mapping[str, Any] = msgspec.structs.asdict(body)
        return found
    finally:
        store.close()


def verify_store(
    loaded: Loaded, trusted: Sequence[str], *, lint: bool = True, rejudge: bool = False
) -> Mapping[str, Any]:
    """Verify the whole record of the project with the keys given, or its own public keys.

    Raises: usage for a key that cannot be read.
    """
    # lazy: only verify verifies
    from runwright.kernel.drive.blocks import every  # lazy: as above
    from runwright.kernel.record.bundle import public_keys as parse  # lazy: as above
    from runwright.kernel.record.verify import Evidence, verify  # lazy: as above

    store = open_store(loaded, read_only=True)
    try:
        origin = _claimed_origin(store)
        keys = parse(trusted or _own_keys(loaded), origin)
        evidence = Evidence(
            # From the lowest key on: what was put in below the first entry is found too.
            entries=store.entries(-(1 << 63)),
            seals=store.seals(),
            blob=store.blob,
            keys=keys.seal,
            origin=origin,
            tiles=store.tiles,
            signatures=_signatures(store),
            again=store.entries,
            blocks=every(store),
            papers=_papers(store),
        )
        report = _report(verify(evidence, lint=lint))
        if rejudge:
            _add_rejudged(report, store)
        return report
    finally:
        store.close()


def _signatures(store: ProjectStore, seqs: Sequence[int] | None = None) -> list[AgentSignature]:
    """Return what agents signed, of all entries or of some."""
    from runwright.kernel.record.signed import AgentSignature  # lazy: only verify and export

    wanted = None if seqs is None else set(seqs)
    return [
        AgentSignature(**row)
        for row in store.rows("signature", order="seq")
        if wanted is None or row["seq"] in wanted
    ]


def _published(store: ProjectStore, seqs: Sequence[int]) -> dict[tuple[int, int], bytes]:
    """Return what left because of some verdicts: (seq, place) -> body."""
    return {
        (seq, row["idx"]): row["body"]
        for seq in seqs
        for row in store.rows("paper", {"seq": seq}, columns=("idx", "body"), order="idx")
    }


def _papers(store: ProjectStore) -> Iterator[StoredPaper]:
    """Yield what is in the outbox, verdict by verdict."""
    from runwright.kernel.canonical import digest  # lazy: only verify verifies
    from runwright.kernel.record.papers import StoredPaper  # lazy: as above

    seq = -(1 << 63)
    while seqs := store.rows("paper", after={"seq": seq}, order="seq", limit=1, columns=("seq",)):
        seq = seqs[0]["seq"]
        for row in store.rows("paper", {"seq": seq}, order="idx"):
            # Whoever altered a row may have left text in it: what is hashed are bytes.
            body = row["body"]
            named = digest(body if isinstance(body, bytes) else str(body).encode())
            yield StoredPaper(seq, row["idx"], row["sink"], row["name"], named)


def _claimed_origin(store: ProjectStore) -> str:
    """Return the ledger that the first readable entry or seal names, to name keys in PEM by.

    It is a claim and nothing more: entries and seals that say otherwise break a sentence.

    Raises: store-corrupt when there is none.
    """
    from runwright.kernel.record.seal import is_name  # lazy: only verify verifies

    for origin in _claims(store):
        if is_name(origin):
            return origin
    message = f"{store.name} holds no entry and no seal that can be read"
    raise StoreCorrupt(message)


def _claims(store: ProjectStore) -> Iterator[str]:
    # lazy: only verify verifies
    import msgspec  # lazy: as above

    from runwright.kernel.record.entries import Header  # lazy: as above
    from runwright.kernel.record.seal import parse_checkpoint, parse_note  # lazy: as above

    # What cannot be read is for a sentence to name; a ValueError is what msgspec's errors are.
    for stored in store.entries():
        with suppress(ValueError):
            yield msgspec.json.decode(stored.raw, type=Header).origin
    for row in store.seals():
        with suppress(VerificationFailed):
            yield parse_checkpoint(parse_note(row.note).text).origin


def verify_bundle(
    folder: Path, trusted: Sequence[str], project: Loaded, *, lint: bool = True
) -> Mapping[str, Any]:
    """Verify a bundle with the keys given, or the public keys of the project one stands in.

    Raises: usage when there is no key to trust, or no bundle.
    """
    from runwright.adapters.files import read_folder  # lazy: only verify reads bundles
    from runwright.kernel.record.bundle import verify_bundle as verify  # lazy: as above

    texts = trusted or _own_keys(project)
    if not texts:
        message = "no key to trust was given"
        raise Usage(message, hint="--key FILE, for the ledger's and the evidence key; repeatable.")
    return _report(verify(read_folder(folder), texts, lint=lint))


def export(loaded: Loaded, name: str, folder: Path | None) -> Mapping[str, Any]:
    """Write the bundle of the tick that a name stands for, or of the whole ledger for "all".

    Raises: unknown-name, usage when it is under way, not sealed yet, or the folder is there.
    """
    # lazy: only export bundles
    from runwright import views  # lazy: as above
    from runwright.adapters.files import write_folder  # lazy: as above
    from runwright.adapters.signer import EVIDENCE_KEY, load_evidence_key  # lazy: as above
    from runwright.kernel.record.bundle import (  # lazy: as above
        entries_of,
        with_companions,
        write_bundle,
    )

    store = open_store(loaded, read_only=True)
    try:
        seal = next(iter(store.seals(latest=True)), None)
        if seal is None:
            message = "nothing is sealed yet"
            raise Usage(message)
        blocks: list[StoredBlock] = []
        rounds: list[dict[str, Any]] = []
        if name == "all":
            label, entries = "ledger", list(store.entries(0, seal.size))
        else:
            row = views.find_round(store, name)
            rounds = store.rows("round", {"tick": row["tick"]}, order="idx")
            label = row["label"] or row["id"][:12]
            if rounds[-1]["judged_seq"] is None:
                message = f"{label} is under way: a bundle is of something that ended"
                raise Usage(message)
            ids = {row["tick"], *(found["id"] for found in rounds)}
            entries = entries_of(store.entries(rounds[0]["seq"]), ids, store.blob)
            blocks, entries = _with_blocks(store, entries)
            signed = _signatures(store, [entry.seq for entry in entries])
            subjects = {f"tick/{row['tick']}", *(f"round/{found['id']}" for found in rounds)}
            subjects |= {f"entry/{entry.seq}" for entry in entries}
            decided = _decided(store, subjects, seal.size)
            if decided or signed:
                entries = with_companions(
                    store.entries(0, seal.size), entries, decided, {one.agent for one in signed}
                )
        target = folder or loaded.path(loaded.settings.files.folder) / "bundles" / label
        key = load_evidence_key(loaded.path(loaded.settings.signer.keys) / EVIDENCE_KEY)
        files = write_bundle(
            entries,
            seal=seal,
            tiles=store.tiles,
            blob=store.blob,
            key=key,
            signatures=_signatures(store, [entry.seq for entry in entries]),
            blocks=blocks,
            papers=_published(store, [row["judged_seq"] for row in rounds]) if blocks else {},
        )
        write_folder(target, files)
    finally:
        store.close()
    return {
        "folder": str(target),
        "label": label,
        "entries": len(entries),
        "size": seal.size,
        "files": len(files),
        "bytes": sum(map(len, files.values())),
    }


def _with_blocks(
    store: ProjectStore, entries: Sequence[StoredEntry]
) -> tuple[list[StoredBlock], list[StoredEntry]]:
    """Return the blocks of logs that runs read; with the entries, what says that some retired."""
    from runwright.kernel.drive.blocks import between  # lazy: only export bundles
    from runwright.kernel.record.bundle import readings_of  # lazy: as above

    blocks: dict[bytes, StoredBlock] = {}
    gone: set[int] = set()
    for reading in readings_of(entries, store.blob):
        segments = store.rows("log_segment", {"name": reading.log}, order="idx")
        retired = [row for row in segments if row["retired"] is not None]
        first = reading.first
        if retired and first <= retired[-1]["last_seq"]:
            first = retired[-1]["last_seq"] + 1
            gone.add(retired[-1]["retired"])
        read = between(store, reading.log, first, reading.end)
        blocks.update((block.digest, block) for block in read)
    found = {entry.seq: entry for entry in entries}
    found |= {entry.seq: entry for seq in gone for entry in store.entries(seq, seq + 1)}
    return list(blocks.values()), [found[seq] for seq in sorted(found)]


def _decided(store: ProjectStore, subjects: Collection[str], size: int) -> Mapping[int, range]:
    """Return the sealed decisions about some subjects: seq -> the seqs that each saw."""
    return {
        row["seq"]: range(row["first_seq"], row["last_seq"] + 1)
        for row in store.rows("decision", order="seq")
        if row["subject"] in subjects and row["seq"] < size
    }


def _own_keys(loaded: Loaded) -> list[str]:
    folder = loaded.path(loaded.settings.signer.keys)
    return [file.read_text() for file in sorted(folder.glob("*.pub.pem"))]


def _report(report: Report) -> dict[str, Any]:
    import msgspec  # lazy: only reports

    plain = msgspec.to_builtins(report)
    checks = list(plain["checks"])
    return {**plain, "checks": checks, "held": report.held, "first_bad": report.first_bad}


def _add_rejudged(report: dict[str, Any], store: ProjectStore) -> None:
    from runwright.kernel.drive.replay import rejudge  # lazy: only --rejudge

    codes = {kind: code_digest(kind) for kind in workloads()}
    found = rejudge(store, workloads(), codes)
    different = [item for item in found if item.result == "different"]
    counts = {
        word: sum(item.result == word for item in found)
        for word in ("same", "other-code", "different")
    }
    report["checks"].append(
        {
            "word": "rejudged",
            "level": "rejudged",
            "sentence": "Every round, planned and judged again, gives what is recorded.",
            "held": not different,
            "detail": f"{different[0].label}: {different[0].detail}"
            if different
            else f"{counts['same']} by the same code, {counts['other-code']} by other code",
            "seq": different[0].seq if different else None,
        }
    )
    report["held"] = report["held"] and not different
