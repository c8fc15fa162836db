"""Looks after the store itself: where it is, its roles and views, its tables folded again."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from runwright.bootstrap.project import (
    is_shared,
    layout,
    open_store,
    require_psycopg,
    store_path,
    tables,
    target,
    workloads,
)
from runwright.config import Loaded
from runwright.kernel.errors import Usage


def connection(loaded: Loaded) -> list[dict[str, str]]:
    """Return where the shared store is, part by part with its origin; nothing for a file."""
    if not is_shared(loaded):
        return []
    require_psycopg(loaded)
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

    store = PostgresStore(place, layout=layout(loaded))
    try:
        script = store.roles()
        if is_applied:
            store.execute(script)
        return script
    finally:
        store.close()


def rebuild(loaded: Loaded, *, write: bool) -> list[Mapping[str, str]]:
    """Fold the ledger again and return where the tables in use differ; `write` mends them.

    Raises: store-busy when they are to be written and another conductor holds the store.
    """
    # lazy: only `db rebuild` folds again
    import msgspec  # lazy: as above

    from runwright.adapters.memory import MemoryStore  # lazy: as above
    from runwright.kernel.drive import rebuild as folding  # lazy: as above

    known, ours = workloads(), tables()
    store = open_store(loaded, read_only=not write)
    try:
        lease = store.lease() if write else None
        try:
            again = MemoryStore(tables=ours)
            folding.fold_again(store, known, again)
            found = folding.differences(store, again, ours)
            if write and found:
                store.commit(folding.rows_of(again, ours))
        finally:
            if lease is not None:
                lease.release()
    finally:
        store.close()
    return [msgspec.structs.asdict(item) for item in found]


def views_of(loaded: Loaded, *, install: bool) -> Mapping[str, Any]:
    """Make or take down the views over the tables of workloads. Raises: usage."""
    ours = tables()
    store = open_store(loaded)
    try:
        done = store.install_views(ours) if install else store.uninstall_views(ours)
        return {"store": store.name, "views": done}
    finally:
        store.close()
