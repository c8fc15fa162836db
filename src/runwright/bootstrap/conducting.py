"""Settings -> a conductor that holds the store, with all that it acts through."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from runwright import __version__
from runwright.bootstrap.project import (
    ByKind,
    clock,
    code_digest,
    open_store,
    private_paths,
    signer,
    workloads,
)
from runwright.config import Loaded
from runwright.kernel.ports import Messages

if TYPE_CHECKING:
    from runwright.kernel.drive.conductor import Conductor, Ports
    from runwright.kernel.drive.lifecycle import Stop

#: The folder of the agents' keys, below that of the keys.
_AGENTS: Final = "agents"
#: What reconciles a cycle and signs what it left; `fractions` compares.
_ENDINGS: Final = (
    "fractions",
    "runwright.cycles.reconcile",
    "runwright.cycles.snapshots",
    "runwright.kernel.drive.agents",
)


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

    settings, time = loaded.settings, clock()
    places = LocalPlaces(
        clock=time,
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
                clock=time,
                signer=signer(loaded, store),
                seal_every_s=settings.signer.every_s,
                keyring=FileKeyring(loaded.path(settings.signer.keys) / _AGENTS),
            )
            places.sweep()
            ports = Ports(
                store=store,
                writer=writer,
                workloads=known,
                places=places,
                sinks={"files": FilesSink(loaded.path(settings.files.folder))},
                clock=time,
                messages=messages,
                is_quiet=is_quiet,
                product=__version__,
                codes=ByKind(code_digest),
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
