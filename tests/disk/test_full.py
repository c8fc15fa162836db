"""A disk that is full at any moment: a documented end, nothing lost, and the next start goes on."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.disk import builds
from tests.disk.builds import Built
from tests.disk.cuts import is_json
from tests.disk.full import Met, acted, apply_three, broken_in, made, meet, recovered, told
from tests.disk.volumes import MIB, Volumes
from tests.e2e.project import until

pytestmark = pytest.mark.slow

#: Free pages of 4096 bytes that a session tries; a campaign tries all up to the last of each row.
STORE_PAGES = (0, 1, 4, 6, 8, 9, 12, 16, 20, 28, 40, 80, 160)
BLOB_PAGES = (8, 40, 100, 200, 260, 280, 285, 290, 295, 300, 560, 800)
PAPER_PAGES = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12)
SCRATCH_PAGES = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12)
MEMORY_PAGES = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12)
INIT_PAGES = (0, 1, 2, 4, 6, 8, 12, 20, 32, 44, 48, 52, 60, 64, 90, 120, 160)
BUNDLE_PAGES = (0, 1, 5, 10, 20, 30, 36, 40, 44, 48, 52, 80)


def tried(pages: Sequence[int], is_campaign: bool, step: int = 1) -> Sequence[int]:
    """Return the sizes to try."""
    return range(0, pages[-1] + 1, step) if is_campaign else pages


def sweep_cycles(
    project: Built, small: Path, pages: Sequence[int], *, build: str = builds.WHOLE, named: Path
) -> list[Met]:
    """Run a cycle on a disk with each number of free pages, and recover."""
    found = []
    for free in pages:
        met = meet(project, small, free, "run", "demo", build=build, named=named)
        met.broken.extend(recovered(project, met.done))
        found.append(met)
    # It covers every entry, those of the first size too.
    if project.run("verify", "--store").status:
        found[-1].broken.append("the record does not verify")
    print(told(found))
    return found


# --------------------------------------------------------------------------- the store, its blobs


@pytest.mark.parametrize(
    ("pages", "output", "step"), [(STORE_PAGES, 60_000, 1), (BLOB_PAGES, 1_000_000, 10)]
)
def test_a_full_disk_under_the_store_halts_and_loses_nothing(
    volumes: Volumes, is_campaign: bool, pages: Sequence[int], output: int, step: int
) -> None:
    """Its log and its blobs lie in the same file system: each size meets it somewhere else."""
    small = volumes.small("small", size=160 * MIB)
    project = made(volumes, store_path=small / "kept" / "store.db")
    apply_three(project, output=output)
    pages = tried(pages, is_campaign, step)
    found = sweep_cycles(project, small, pages, named=project.store)
    assert not broken_in(found), told(found)
    assert (found[0].done.status, found[-1].done.status) == (4, 0)
    assert {met.code for met in found} <= {"", "store-unwritable", "commit-unknown"}
    interrupted = project.bodies("round.judged")
    assert "INTERRUPTED" in [body["label"] for body in interrupted]


def test_a_store_that_ignores_a_full_disk_is_caught(volumes: Volumes) -> None:
    """The control: a build that goes on after a failed write says more than it keeps."""
    small = volumes.small("small")
    project = made(volumes, store_path=small / "kept" / "store.db")
    apply_three(project, output=60_000)
    found = sweep_cycles(project, small, (20,), build=builds.STORE_DEAF, named=project.store)
    assert "something acknowledged is lost" in broken_in(found), told(found)


# ------------------------------------------------------------------------------------ the papers


def gone(project: Built) -> list[str]:
    """Return the papers that count as delivered and are not there, whole."""
    folder = Path(project.settings["RUNWRIGHT_FILES_FOLDER"])
    rows = project.sql("SELECT name FROM paper WHERE state = 'delivered'")
    return [name for (name,) in rows if not is_json(folder / name)]


def is_delivered(project: Built) -> bool:
    """Start once more; say whether no paper waits."""
    project.done("apply", "demo.yaml")
    return not project.sql("SELECT 1 FROM paper WHERE state = 'open'")


def test_a_full_disk_under_the_papers_delays_them(volumes: Volumes, is_campaign: bool) -> None:
    """The cycle counts; its evidence waits, by name, and leaves whole when there is space."""
    small = volumes.small("small")
    project = made(volumes, files_folder=small / "kept" / "out")
    apply_three(project, result=4000)
    waited = 0
    for pages in tried(PAPER_PAGES, is_campaign):
        met = meet(project, small, pages, "run", "demo", named=small)
        assert (met.done.status, met.broken) == (0, []), met
        late = [each for each in met.done.events if each["event"] == "delivery.deferred"]
        assert all(str(small / "kept") in each["text"] for each in late), late
        assert not gone(project)
        waited += len(late)
        # The first attempt after a failed one is due in a second.
        until(lambda: is_delivered(project), "the paper leaves")
        assert not gone(project)
    assert 2 <= waited <= 6
    papers = sorted((small / "kept" / "out" / "evidence").iterdir())
    assert len(papers) == len(project.bodies("round.judged"))
    assert {path.suffix for path in papers} == {".json"}
    project.done("verify", "--store")


def test_a_sink_that_ignores_a_full_disk_is_caught(volumes: Volumes) -> None:
    """The control: a paper that was not written counts as delivered."""
    small = volumes.small("small")
    project = made(volumes, files_folder=small / "kept" / "out")
    apply_three(project, result=4000)
    meet(project, small, 1, "run", "demo", build=builds.SINK_DEAF, named=small)
    assert len(gone(project)) == 1


# ----------------------------------------------------------------------------------- the scratch


def sweep_scratch(volumes: Volumes, pages: Sequence[int], build: str) -> tuple[Built, list[Met]]:
    """Run functions whose scratch folders have so many free pages."""
    small = volumes.small("small")
    project = made(volumes, conductor_scratch=small / "kept" / "scratch")
    apply_three(project, result=4000, temporary=20_000)
    return project, sweep_cycles(project, small, pages, build=build, named=small)


def test_a_full_scratch_folder_fails_the_function_by_name(
    volumes: Volumes, is_campaign: bool
) -> None:
    """What cannot be started fails, on the record; no function gets half of its config."""
    project, found = sweep_scratch(volumes, tried(SCRATCH_PAGES, is_campaign), builds.WHOLE)
    assert not broken_in(found), told(found)
    assert (found[0].done.status, found[-1].done.status) == (5, 0)
    failed = [body for body in project.bodies("run.finished") if body["status"] != "done"]
    reasons = {body["reason"] for body in failed}
    assert reasons == {"not-started", "exit"}
    for body in failed:
        if body["reason"] == "not-started":
            assert project.settings["RUNWRIGHT_CONDUCTOR_SCRATCH"] in body["message"]
    assert len({size for _, size in acted(project)}) == 1


def test_a_config_that_is_cut_short_is_caught(volumes: Volumes) -> None:
    """The control: a build that starts functions with what there was room for."""
    project, _ = sweep_scratch(volumes, (0, 12), builds.SCRATCH_DEAF)
    assert len({size for _, size in acted(project)}) > 1


# ----------------------------------------------------------------------- what the signer remembers


def adopt(project: Built, small: Path, pages: int, build: str = builds.WHOLE) -> Met:
    """Lose the signer's memory, and adopt the store with so many pages free."""
    folder = Path(project.settings["RUNWRIGHT_SIGNER_MEMORY"])
    for memory in folder.glob("*.memory"):
        memory.unlink()
    words = ("ledger", "adopt", "--reason", "its disk was replaced")
    met = meet(project, small, pages, *words, build=build, named=folder)
    if met.done.status:
        project.done(*words)
    if (done := project.run("apply", "demo.yaml")).status:
        met.broken.append(f"the next start ends with {done.error}")
    return met


def test_a_full_disk_under_the_signers_memory_stops_only_a_new_one(
    volumes: Volumes, is_campaign: bool
) -> None:
    """The file is as long as it will ever be: only to make it takes space, for `ledger adopt`."""
    small = volumes.small("small")
    project = made(volumes, signer_memory=small / "kept" / "memory")
    apply_three(project)
    met = meet(project, small, 0, "run", "demo", named=small)
    assert (met.done.status, met.broken) == (0, [])
    found = [adopt(project, small, pages) for pages in tried(MEMORY_PAGES, is_campaign)]
    print(told(found))
    assert not broken_in(found), told(found)
    assert {(met.done.status, met.code) for met in found} == {(4, "store-unwritable"), (0, "")}
    # Each attempt is on the record, also the one whose memory could not be written.
    assert len(project.bodies("ledger.adopted")) == len(found) + 1
    project.done("verify", "--store")


def test_a_signer_that_ignores_a_full_disk_is_caught(volumes: Volumes) -> None:
    """The control: what it does not remember, the next start misses."""
    small = volumes.small("small")
    project = made(volumes, signer_memory=small / "kept" / "memory")
    apply_three(project)
    met = adopt(project, small, 0, builds.MEMORY_DEAF)
    assert met.done.status == 0
    assert "signer-memory-lost" in broken_in([met])


# ----------------------------------------------------------------------------- a new one, a bundle


def test_a_full_disk_under_init_leaves_a_project_or_none(
    volumes: Volumes, is_campaign: bool
) -> None:
    """Settings, keys, store and memory on one disk: given again with space, `init` makes it."""
    small = volumes.small("small", size=160 * MIB)
    found = []
    for pages in tried(INIT_PAGES, is_campaign):
        project = Built(small / f"with{pages}")
        met = meet(project, small, pages, "init", "--name", "demo", named=project.base)
        assert project.store.exists() == (met.done.status == 0)
        with contextlib.suppress(AssertionError):
            if met.done.status:
                project.done("init", "--name", "demo")
            project.apply()
            met.is_well = True
        if not met.is_well:
            met.broken.append("there is no whole project, and none can be made")
        found.append(met)
    print(told(found))
    assert not broken_in(found), told(found)
    assert (found[0].done.status, found[-1].done.status) == (4, 0)


def test_a_full_disk_under_a_bundle_leaves_nothing_of_it(
    volumes: Volumes, is_campaign: bool
) -> None:
    """`export` says that it is not the time, names the folder, and can be given again."""
    small = volumes.small("small")
    project = made(volumes, files_folder=small / "kept" / "out")
    apply_three(project)
    project.done("run", "demo")
    keys = [f"--key={path}" for path in (project.folder / ".runwright/keys").glob("*.pub.pem")]
    found = []
    for pages in tried(BUNDLE_PAGES, is_campaign):
        folder = small / f"bundle{pages}"
        words = ("export", "latest", "--out", folder)
        met = meet(project, small, pages, *words, named=folder)
        if met.done.status:
            assert [path.name for path in small.iterdir() if path.name != "kept"] == []
            project.done(*words)
        if pages == BUNDLE_PAGES[-1]:
            project.done("verify", folder, *keys)
        for path in sorted(folder.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        folder.rmdir()
        found.append(met)
    print(told(found))
    assert not broken_in(found), told(found)
    assert {(met.done.status, met.code) for met in found} == {(75, "deferred"), (0, "")}
