"""One ledger of 306 entries with two rounds 290 entries apart, and its bundles."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.fixtures import initialised, project
from tests.e2e.project import Project
from tests.foreign import golang
from tests.foreign.samples import Sample, read

__all__ = ["initialised", "project"]

#: So many entries lie between the two rounds: more than one tile of 256, and no power of two.
BETWEEN = 290
BUNDLES = ("first", "last", "whole")


@pytest.fixture(scope="session")
def ledger(initialised: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project that ran a round, applied many specs and ran another round; all exported."""
    made = initialised.copy_to(tmp_path_factory.mktemp("ledger"))
    demo = made.spec(made.task("a", "print('hello')"), made.task("b", "print('there')"))
    made.done("apply", demo)
    made.done("run", "demo")
    (first,) = (row["label"] for row in made.done("show", "--json").json)
    task = made.task("one", "")
    names = [f"s{number}" for number in range(BETWEEN)]
    made.done("apply", *(made.spec({**task, "task_name": name}, name=name) for name in names))
    made.done("run", "demo")
    for name, run in zip(BUNDLES, (first, "latest", "all"), strict=True):
        made.done("export", run, "--out", made.base / "bundles" / name)
    yield made
    made.close()


@pytest.fixture(scope="session")
def samples(ledger: Project) -> dict[str, Sample]:
    """The bundle of the first round, of the last one, and of the whole ledger."""
    keys = ledger.folder / ".runwright" / "keys"
    return {name: Sample(read(ledger.base / "bundles" / name), keys) for name in BUNDLES}


@pytest.fixture(scope="session")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The keys of another ledger."""
    made = Project(tmp_path_factory.mktemp("stranger"))
    made.done("init", "--name", "other")
    return made.folder / ".runwright" / "keys"


@pytest.fixture(params=BUNDLES)
def sample(samples: dict[str, Sample], request: pytest.FixtureRequest) -> Sample:
    """Each of the bundles."""
    return samples[request.param]


@pytest.fixture(scope="session")
def go(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The verifier in Go, built once for the session."""
    golang.require_go()
    return golang.build(tmp_path_factory.mktemp("go"))
