"""The fixtures that hand out projects; other folders of tests use them too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.project import Project


@pytest.fixture(scope="session")
def initialised(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project as `runwright init` leaves it, to copy."""
    made = Project(tmp_path_factory.mktemp("initialised"))
    made.done("init", "--name", "demo")
    return made


@pytest.fixture
def project(initialised: Project, tmp_path: Path) -> Iterator[Project]:
    """A project of the test's own; what it started is ended after the test."""
    made = initialised.copy_to(tmp_path)
    yield made
    made.close()
