"""Stores for the tests of what drives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runwright.kernel.workload import Workload
from tests.kernel.drive.rig import Rig, round_of, sqlite_store, stores, workload_of


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """A new store of each kind."""
    yield from stores(request.param, tmp_path / "store")


@pytest.fixture
def on_sqlite(tmp_path: Path) -> Iterator[Callable[..., Rig]]:
    """Make one rig on a SQLite file."""
    made = sqlite_store(tmp_path / "store")
    yield lambda *workloads, **fields: Rig(made, tmp_path, *workloads, **fields)
    made.close()


@pytest.fixture
def rig(store: Any, tmp_path: Path) -> Callable[..., Rig]:
    """Make one rig on each kind of store."""

    def make(*workloads: Workload, apply: bool = True, **fields: Any) -> Rig:
        known = workloads or (workload_of(round_of("a")),)
        made = Rig(store, tmp_path, *known, **fields)
        if apply:
            made.apply()
        return made

    return make
