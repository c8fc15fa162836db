"""A worker that hangs, dies or lies costs the run that did it, and no other."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runwright.adapters.clock import SystemClock
from runwright.adapters.commands import best_level
from runwright.adapters.places import LocalPlaces
from runwright.kernel.ports import Work
from runwright.kernel.run import Executed, Outcome, Round
from tests.adapters.conftest import ENVIRONMENT
from tests.adapters.hostile import SOON_S, Holders
from tests.adapters.work import call, finish

pytestmark = pytest.mark.slow

#: A limit for calls that are to reach it, and one for those that are not.
SHORT, LONG = {"timeout_ms": 200}, {"timeout_ms": SOON_S * 1000}


@pytest.fixture(scope="module")
def kept_places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalPlaces]:
    """Places whose workers are there for all tests of this file: starting one takes its time."""
    scratch = tmp_path_factory.mktemp("places") / "scratch"
    made = LocalPlaces(clock=SystemClock(), environment=ENVIRONMENT, scratch=scratch)
    yield made
    made.close()


def outcomes(places: LocalPlaces, work: list[Work], workers: int = 1) -> dict[str, Outcome]:
    """Execute work in a place of its own; return what came of it by key."""
    place = places.open(Round(key="round", place="process", workers=workers))
    try:
        ended: list[Executed] = finish(place, work)
    finally:
        place.close()
    assert len(ended) == len(work)
    return {executed.outcome.key: executed.outcome for executed in ended}


def test_workers_are_kept_for_the_next_round(kept_places: LocalPlaces) -> None:
    """Two rounds meet the same process; starting it costs more than both."""
    first, second = (
        {each.value["pid"] for each in outcomes(kept_places, [call("answer")]).values()}
        for _ in range(2)
    )
    assert first == second
    assert os.getpid() not in first


def test_a_call_that_hangs_is_killed_at_its_limit_and_its_neighbours_are_run_again(
    kept_places: LocalPlaces,
) -> None:
    """It is recorded as a timeout with its duration; the place goes on (check 28)."""
    work = [
        call("hang" if key == "3" else "answer", key=key, limits=SHORT if key == "3" else LONG)
        for key in "0123456789"
    ]
    began_s = time.monotonic()
    ended = outcomes(kept_places, work)
    assert 0.2 <= time.monotonic() - began_s < SOON_S
    hung = ended.pop("3")
    assert (hung.status, hung.reason) == ("failed", "timeout")
    assert hung.message == "no end after 0.2 s; its process was ended"
    assert hung.used.duration_ms >= 200
    assert hung.finished_ms - hung.started_ms == hung.used.duration_ms
    assert {each.status for each in ended.values()} == {"done"}


def test_without_a_limit_a_call_may_take_its_time(
    kept_places: LocalPlaces, holders: Holders
) -> None:
    """The control: the same call is still there after the time that ended the other one."""
    place = kept_places.open(Round(key="round", place="process", workers=1))
    place.start([call("hang", held=str(holders.path))])
    assert holders.came()
    assert place.wait(0.3) == []
    assert holders.held()
    place.close()
    assert holders.gone()


def test_the_whole_tree_of_a_call_that_hangs_is_killed(
    kept_places: LocalPlaces, holders: Holders
) -> None:
    """Also a descendant with a session of its own."""
    limits = {"timeout_ms": 1000}
    ended = outcomes(kept_places, [call("hang", limits=limits, held=str(holders.path))])
    assert ended["run"].reason == "timeout"
    assert holders.gone()


@pytest.mark.parametrize(
    ("name", "reason", "message"),
    [
        ("raise_signal", "worker-died", "its worker process was ended by SIGSEGV"),
        ("die", "worker-died", "its worker process ended with exit status 9"),
        ("shut", "worker-died", "its worker process "),
        ("garble", "worker-died", "its worker process was ended by SIGKILL"),
    ],
)
def test_a_call_that_takes_its_worker_down_fails_alone(
    kept_places: LocalPlaces, name: str, reason: str, message: str
) -> None:
    """How it ended is known, and every other call of its chunk is done."""
    work = [call(name if key == "4" else "answer", key=key) for key in "0123456789"]
    ended = outcomes(kept_places, work)
    guilty = ended.pop("4")
    assert (guilty.status, guilty.reason) == ("failed", reason)
    assert guilty.message.startswith(message)
    assert {each.status for each in ended.values()} == {"done"}


def test_many_that_hang_and_die_among_many_are_told_apart(kept_places: LocalPlaces) -> None:
    """Two workers, chunks of several, and every run has the outcome that is its own."""
    kinds = {7: "hang", 8: "die", 40: "raise_signal", 41: "hang", 77: "fail"}
    work = [
        call(
            kinds.get(number, "answer"),
            key=f"{number:03}",
            limits=SHORT if kinds.get(number) == "hang" else LONG,
        )
        for number in range(100)
    ]
    ended = outcomes(kept_places, work, workers=2)
    assert {key: each.reason for key, each in ended.items() if each.status != "done"} == {
        "007": "timeout",
        "008": "worker-died",
        "040": "worker-died",
        "041": "timeout",
        "077": "raised",
    }


@pytest.mark.parametrize(
    "forged", ["", "00", "ff" * 24, "01" + "00" * 7 + "01" + "00" * 7 + "ff" * 8]
)
def test_a_call_that_lies_about_what_is_under_way_is_ended_all_the_same(
    kept_places: LocalPlaces, monkeypatch: pytest.MonkeyPatch, forged: str
) -> None:
    """The file that it shares decides only whom to blame, never how long it may go on."""
    monkeypatch.setattr("runwright.adapters.pool.SPARE_S", 0.2)
    ended = outcomes(kept_places, [call("forge", limits=SHORT, forged=forged)])
    assert ended["run"].reason == "timeout"


def test_what_a_call_prints_is_not_an_answer(kept_places: LocalPlaces) -> None:
    """More than a pipe holds blocks nobody; a text that cannot be sent is escaped."""
    ended = outcomes(kept_places, [call("talk"), call("answer", key="after")])
    assert (ended["run"].reason, ended["run"].message) == ("odd", "half \\udc80")
    assert ended["after"].status == "done"


def test_memory_has_its_limit(kept_places: LocalPlaces) -> None:
    """A call of that kind has a worker of that kind; without the limit it gets what it asks."""
    work = [
        call("hoard", key="limited", limits={"memory_mib": 256}),
        call("hoard", key="free"),
    ]
    ended = outcomes(kept_places, work)
    assert (ended["limited"].reason, ended["limited"].message) == ("raised", "MemoryError: ")
    assert ended["free"].value == {"size": 1 << 28}


def test_a_worker_knows_little_and_a_confined_one_may_do_little(
    kept_places: LocalPlaces, tmp_path: Path
) -> None:
    """The environment is made from nothing; T1 takes the network and foreign files away."""
    free, confined = (
        outcomes(
            kept_places,
            [call("look", limits={"confined": wish}, write=str(tmp_path / "note"))],
        )["run"]
        for wish in ("", "wished")
    )
    seen = free.value["environment"]
    assert set(seen) <= {
        *("PATH", "LANG", "LC_ALL", "HOME", "TMPDIR"),
        *("PYTHONPATH", "PYTHONSAFEPATH", "PYTHONHASHSEED"),
    }
    assert seen["PYTHONHASHSEED"] == "0"
    # A set of words has another order in most processes, and one order in these two.
    assert free.value["words"] == confined.value["words"]
    assert free.value["leads"] is True
    assert [free.value[name] for name in ("own", "other", "network")] == ["allowed"] * 3
    assert free.level == "T0"
    if best_level() != "T1":
        pytest.skip("this machine does not hold T1")
    assert confined.level == "T1"
    assert [confined.value[name] for name in ("own", "other", "network")] == [
        "allowed",
        "Permission denied",
        "Operation not permitted",
    ]


def test_a_demand_that_this_machine_does_not_hold_is_refused(
    kept_places: LocalPlaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not called with less; a wish is."""
    monkeypatch.setattr(kept_places._workers, "_holds", False)
    work = [
        call("answer", key="must", limits={"confined": "demanded"}),
        call("answer", key="may", limits={"confined": "wished"}),
    ]
    ended = outcomes(kept_places, work)
    assert (ended["must"].reason, ended["must"].message) == (
        "refused",
        "tests.adapters.hostile:answer demands confinement, and this machine does not hold T1",
    )
    assert (ended["may"].status, ended["may"].level) == ("done", "T0")


def test_workers_that_cannot_start_fail_their_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the third in a row nobody tries any more, and the runs say why."""
    monkeypatch.setattr("runwright.adapters.workers._START", "import sys; sys.exit(3)")
    places = LocalPlaces(clock=SystemClock(), environment={}, scratch=tmp_path / "scratch")
    ended = outcomes(places, [call("answer", key=key) for key in "012"])
    places.close()
    assert {(each.reason, each.message) for each in ended.values()} == {
        ("not-started", "its worker process ended with exit status 3")
    }


def test_a_worker_dies_with_its_conductor(tmp_path: Path, holders: Holders) -> None:
    """One that hangs in a call as well, without a limit, when the conductor is killed."""
    script = (
        "import sys; from pathlib import Path; from tests.adapters.work import call; "
        "from runwright.adapters.clock import SystemClock; "
        "from runwright.adapters.places import LocalPlaces; "
        "from runwright.kernel.run import Round; "
        "places = LocalPlaces(clock=SystemClock(), environment={}, scratch=Path(sys.argv[1])); "
        "place = places.open(Round(key='round', place='process')); "
        "place.start([call('hang', held=sys.argv[2])]); place.wait(None)"
    )
    words = [sys.executable, "-c", script, str(tmp_path / "scratch"), str(holders.path)]
    with subprocess.Popen(words) as conductor:
        has_begun = holders.came()
        conductor.send_signal(signal.SIGKILL)
    assert has_begun
    assert holders.gone()


def test_closed_places_leave_nothing(tmp_path: Path) -> None:
    """Neither a scratch folder nor a descriptor."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    places = LocalPlaces(clock=SystemClock(), environment={}, scratch=tmp_path / "scratch")
    outcomes(places, [call("die", key="a"), call("answer", key="b")])
    places.close()
    assert list((tmp_path / "scratch").iterdir()) == []
    assert len(list(Path("/proc/self/fd").iterdir())) == before
