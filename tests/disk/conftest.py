"""Mounts for tests of the disk, and the check that none of them is left."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.disk.volumes import Volumes


@pytest.fixture
def volumes(tmp_path: Path) -> Iterator[Volumes]:
    """Mounts of the test's own, gone after it, whatever came of it."""
    if os.geteuid() != 0:
        pytest.skip("needs root to mount")
    made = Volumes(tmp_path / "volumes")
    made.base.mkdir()
    try:
        yield made
    finally:
        made.close()
    assert made.left() == []
