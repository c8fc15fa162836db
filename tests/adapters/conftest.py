"""Places and pipes for the tests of adapters."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runwright.adapters.clock import SystemClock
from runwright.adapters.places import LocalPlaces
from runwright.kernel.run import Executed, Limits, Round
from tests.adapters.hostile import SOON_S, Holders
from tests.adapters.work import command, finish

ENVIRONMENT = {
    "PGHOST": "db.example",
    "PRICE_KEY": "s3cr3t/v4lue+",
    "NUMBER_KEY": "1234567890",
    "SHORT_KEY": "abc",
    "UNGRANTED": "must-not-leak",
}


@pytest.fixture
def places(tmp_path: Path) -> Iterator[LocalPlaces]:
    """Places with a scratch folder of their own and a known environment."""
    made = LocalPlaces(
        clock=SystemClock(),
        environment=ENVIRONMENT,
        scratch=tmp_path / "scratch",
    )
    yield made
    made.close()


@pytest.fixture
def holders(tmp_path: Path) -> Iterator[Holders]:
    """A named pipe that knows whether somebody holds it."""
    made = Holders(tmp_path / "holders")
    yield made
    made.close()


@pytest.fixture
def execute(places: LocalPlaces) -> Callable[..., Executed]:
    """Execute one command to its end."""
    place = places.open(Round(key="cycle", place="command"))

    def run(*argv: str, limits: Limits | None = None, **fields: Any) -> Executed:
        work = command(*argv, limits=limits or Limits(timeout_s=SOON_S), **fields)
        return finish(place, [work])[0]

    return run
