"""A stream in real processes, killed at every commit: its bytes are those of an unkilled run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from runwright.kernel.canonical import encode
from runwright.kernel.drive.recall import recall
from runwright.kernel.run import Call, run_id
from tests.kernel.toys import stream
from tests.kernel.toys.killing import Project, failures, killed, prepared

#: Parts that the kill points are dealt into, so that processors share them.
PARTS = 4


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A stream that has not run."""
    return prepared(tmp_path_factory.mktemp("stream") / "project", "stream")


@pytest.fixture(scope="module")
def whole(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The same one, driven to its end by one process."""
    made = project.copy(tmp_path_factory.mktemp("stream") / "whole")
    ended = made.run()
    assert not ended.was_killed
    return made


def outcomes(project: Project) -> list[tuple]:
    """Return the outcomes in the order of the ledger, without how long they took."""
    return [
        (entry.run, entry.body.key, entry.body.status, encode(entry.body.value), entry.body.left)
        for entry in project.entries()
        if entry.type == "run.finished"
    ]


def verdicts(project: Project) -> list[tuple]:
    return [
        (entry.round, entry.body.status, entry.body.counts, entry.body.papers)
        for entry in project.entries()
        if entry.type == "round.judged"
    ]


def check_against(whole: Project):
    """Return what compares a project with the unkilled one."""
    expected = (whole.papers(), whole.events(), sorted(outcomes(whole)), verdicts(whole))

    def check(copy: Project) -> None:
        assert copy.papers() == expected[0], "the files differ"
        assert copy.events() == expected[1], "the events differ"
        assert sorted(outcomes(copy)) == expected[2], "the outcomes differ"
        assert verdicts(copy) == expected[3], "the verdicts differ"
        planned = [entry.seq for entry in copy.entries() if entry.type == "round.planned"]
        assert len(planned) == stream.TICKS, "a tick was planned twice or never"

    return check


def replay(project: Project) -> list[bytes]:
    """Execute the engine again on the recorded inputs, from nothing; return what it answers."""
    store, memory, answers = project.store(), {}, []
    for row in store.rows("round", order="seq"):
        found = recall(store, row["seq"])
        for run in found.round.runs:
            assert isinstance(run.work, Call)
            inputs = [store.blob(ref.digest).data for ref in run.inputs]
            outcome = stream.engine(run, inputs, memory.get(run.lane))
            memory[run.lane] = outcome.memory
            answers.append(encode(dict(outcome.value)))
    store.close()
    return answers


def test_a_stream_turns_on_what_it_saw_before(whole: Project):
    """The toy is worth the test: state crosses cuts, and both symbols turn."""
    values = [entry.body.value for entry in whole.entries() if entry.type == "run.finished"]
    assert len(values) == stream.TICKS * len(stream.SYMBOLS)
    assert {value["state"] for value in values} == {"hot", "calm"}
    assert any(value["since"] == "hot" for value in values)
    assert all(value["events"] for value in values)


def test_a_stream_costs_two_commits_a_tick_and_one_to_acknowledge(whole: Project):
    """Planned; outcomes, memory, verdict and papers; delivered."""
    earlier = [point for point in whole.points if point.startswith("before")]
    kinds = [
        "planned" if "round.planned" in p else "judged" if "judged" in p else "" for p in earlier
    ]
    assert kinds == ["planned", "judged", ""] * stream.TICKS + [""]
    assert "[paper],[paper],[paper],[paper]" in earlier[2]
    assert "run.finished,run.finished,round.judged,[paper]" in earlier[1]
    assert "[lane],[lane],[round],[tick]" in earlier[1]


def test_a_replay_of_the_record_gives_the_same_bytes(whole: Project):
    """From the recorded inputs alone."""
    recorded = [
        encode(dict(entry.body.value)) for entry in whole.entries() if entry.type == "run.finished"
    ]
    assert replay(whole) == recorded
    bodies = [event["body"].encode() for event in whole.events()]
    assert all(
        answer[1:-1].split(b",")[0] in body for answer, body in zip(recorded, bodies, strict=True)
    )


def test_events_arrive_in_the_order_of_ticks(whole: Project):
    """Symbol by symbol within a tick."""
    names = [event["name"] for event in whole.events()]
    assert names == [*stream.SYMBOLS] * stream.TICKS


def test_a_second_driver_finds_nothing_to_do(whole: Project, tmp_path: Path):
    """Every tick is recognised; nothing is written or delivered again."""
    copy = whole.copy(tmp_path / "again")
    before = copy.entries(), (copy.folder / "events.out").read_bytes()
    assert copy.run().points == []
    assert (copy.entries(), (copy.folder / "events.out").read_bytes()) == before


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_a_stream_killed_at_any_commit_leaves_the_same_bytes(
    project: Project, whole: Project, tmp_path: Path, part: int
):
    """Before each commit and after it: nothing lost, nothing doubled, nothing else."""
    count = len(whole.points)
    assert count >= 2 * (3 * stream.TICKS + 1)
    copies = killed(project, tmp_path, count, start=part, step=PARTS)
    seen = []

    def check(copy: Project) -> None:
        seen.append(copy)
        check_against(whole)(copy)
        assert replay(copy) == replay(whole)

    assert list(failures(copies, check)) == []
    assert len(seen) == len(range(part, count, PARTS))


@pytest.mark.slow
@pytest.mark.parametrize("sabotage", ["split", "forgetful"])
def test_a_sabotaged_stream_is_seen(
    project: Project, whole: Project, tmp_path: Path, sabotage: str
):
    """A control: memory apart from its outcome, or a sink that acknowledges too early."""
    check = check_against(whole)
    unkilled = project.copy(tmp_path / "unkilled")
    count = len(unkilled.run(sabotage=sabotage).points)
    check(unkilled)
    found = next(failures(killed(project, tmp_path, count, sabotage=sabotage), check), None)
    assert found is not None


# ---------------------------------------------------------------------- ticks that follow at once


def planned_runs(project: Project) -> set[str]:
    """Return the ids of all runs that the store holds the plan of."""
    store = project.store()
    rounds = [recall(store, row["seq"]) for row in store.rows("round")]
    store.close()
    return {run_id(round=found.id, key=run.key) for found in rounds for run in found.round.runs}


def started_runs(project: Project) -> list[str]:
    """Return the ids of the runs that a place began to execute, crashed or not."""
    path = project.folder / "starts.out"
    return path.read_text().split() if path.exists() else []


def killed_between_commits(
    project: Project, whole: Project, folder: Path, sabotage: str = "followed"
) -> Iterator[str]:
    """Kill ticks that follow at every commit; yield what is wrong then, and after a restart."""
    unkilled = project.copy(folder / "unkilled")
    points = len(unkilled.run(sabotage=sabotage).points)
    for at in range(points):
        copy = project.copy(folder / f"{at:03}")
        assert copy.run(kill_at=at, sabotage=sabotage).was_killed
        if not set(started_runs(copy)) <= planned_runs(copy):
            yield f"killed at {at}: a run had started before its plan was durable"
        copy.run(sabotage=sabotage)
        try:
            check_against(whole)(copy)
            assert replay(copy) == replay(whole)
        except AssertionError as error:
            yield f"killed at {at}: {error}"


def test_ticks_that_follow_at_once_cost_one_commit_each(
    project: Project, whole: Project, tmp_path: Path
):
    """The end of one is written with the plan of the next; the record is the same."""
    copy = project.copy(tmp_path / "followed")
    copy.run(sabotage="followed")
    earlier = [point for point in copy.points if point.startswith("before")]
    kinds = [
        ("judged " if "judged" in point else "") + ("planned" if "round.planned" in point else "")
        for point in earlier
    ]
    assert kinds == ["planned", *["judged planned"] * (stream.TICKS - 1), "judged ", "", ""]
    check_against(whole)(copy)
    assert started_runs(copy)
    assert [entry.type for entry in copy.entries()] == [entry.type for entry in whole.entries()]
    assert replay(copy) == replay(whole)


@pytest.mark.slow
def test_ticks_that_follow_at_once_may_be_killed_at_any_commit(
    project: Project, whole: Project, tmp_path: Path
):
    """The first is closed and the next one planned and open, or neither; nothing else is lost."""
    assert list(killed_between_commits(project, whole, tmp_path)) == []


@pytest.mark.slow
@pytest.mark.parametrize("sabotage", ["late", "stale", "split"])
def test_a_sabotaged_stream_of_following_ticks_is_seen(
    project: Project, whole: Project, tmp_path: Path, sabotage: str
):
    """A control: starts before plans, lanes as they were before, memory apart from its outcome."""
    wrong = killed_between_commits(project, whole, tmp_path, f"followed {sabotage}")
    assert next(wrong, None) is not None
