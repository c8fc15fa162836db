"""The sample that is tampered with: made once for a session, copied for each test."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tamper import sample as samples
from tests.tamper.sample import Sample


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    """The sample as it was made; nobody alters it."""
    return samples.make(tmp_path_factory.mktemp("sample"))


@pytest.fixture
def sample(made: Sample, tmp_path: Path) -> Sample:
    """A copy of the sample, for the test to alter."""
    return made.copy_to(tmp_path / "copy")
