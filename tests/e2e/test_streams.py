"""Streams in real processes that are killed, stopped and started twice."""

from __future__ import annotations

import contextlib
import json
import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.project import Project, Running, until
from tests.e2e.streams import START_MS, event, history, published, stream

pytestmark = pytest.mark.slow

#: What makes a stream live: it follows its file, and ticks by the wall clock.
LIVE: dict[str, Any] = {
    "scheduler": {"time": "clock", "boundary_interval_ms": 200},
    "engine": {"alignment_ms": 0},
}


def honest(project: Project) -> None:
    """Insist that replay, the plan from the log and the whole record hold."""
    replay = project.done("replay", "toy", "--json").json
    assert (replay["different"], replay["retired"]) == (0, 0)
    assert project.done("streams", "plan", "toy", "--from-log", "--json").json["different"] == 0
    project.done("verify", "--store")


def kept(project: Project) -> list[dict[str, Any]]:
    """Return every record of the log."""
    done = project.done("streams", "show", "toy", "--inputs", "--limit", "100000")
    return [json.loads(line) for line in done.stdout.splitlines()]


def outlived(running: Running, within_s: float) -> bool:
    """Kill a process after some time; say whether it had ended by itself before."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        running.process.wait(within_s)
        return True
    running.kill()
    return False


def health(project: Project) -> int:
    """Return the status of `streams health`."""
    return project.run("streams", "health", "toy").status


@pytest.mark.proves("a stream killed at any moment leaves the bytes of one that was not")
def test_a_history_that_is_killed_again_and_again_leaves_the_same_bytes(
    project: Project, initialised: Project, tmp_path: Path
) -> None:
    """Whenever SIGKILL comes, the next start goes on; check 9 and the engines' outputs."""
    lines = [*history(60)]
    whole = initialised.copy_to(tmp_path / "whole")
    for made in (project, whole):
        # Each event in a commit of its own, so that there is much to be killed in.
        stream(made, *lines, buffer={"group_commit_ms": 0})
    began_s = time.monotonic()
    whole.done("streams", "run", "toy")
    took_s = time.monotonic() - began_s
    die, kills = random.Random(5), 0
    while not outlived(project.start("streams", "run", "toy"), die.uniform(0.4, 0.9) * took_s):
        kills += 1
        assert kills < 50, "it never comes to its end"
    assert kills, "it was never killed under way"
    assert published(project) == published(whole)
    records = kept(project)
    assert [record["ingest_seq"] for record in records] == list(range(1, len(lines) + 1))
    assert [(one["ingest_ts_ms"], one["event"]) for one in records] == [
        (one["ingest_ts_ms"], one["event"]) for one in kept(whole)
    ]
    honest(project)
    whole.close()


def test_a_live_stream_that_is_killed_loses_no_line_and_no_tick(project: Project) -> None:
    """By the clock: every line once, in order; missed ticks are conducted, none is skipped."""
    stream(project, event("BTC", START_MS), **LIVE)
    file = project.folder / "events.jsonl"
    for life in range(3):
        running = project.start("streams", "run", "toy", env={"RUNWRIGHT_MESSAGES_LEVEL": "debug"})
        with file.open("a") as lines:
            for number in range(1, 4):
                lines.write(event("ETH", START_MS + 10 * life + number) + "\n")
        running.wait_event("round.judged", 3)
        running.kill()
    running = project.start("streams", "run", "toy", env={"RUNWRIGHT_MESSAGES_LEVEL": "debug"})
    running.wait_event("round.judged", 2)
    until(lambda: len(kept(project)) == 10, "every line is there")
    running.send(signal.SIGTERM)
    assert running.end().status == 0
    assert [record["event"]["recv_ts_ms"] - START_MS for record in kept(project)] == [
        *(0, 1, 2, 3),
        *(11, 12, 13, 21, 22, 23),
    ]
    lines_of = project.done("streams", "show", "toy", "--records", "--limit", "100000").stdout
    ticks = sorted({json.loads(line)["planned_ts_ms"] for line in lines_of.splitlines()})
    assert ticks == list(range(ticks[0], ticks[-1] + 200, 200))
    honest(project)


def test_a_signal_ends_a_stream_soon_however_long_its_interval_is(project: Project) -> None:
    """Check 35: under two seconds, with 180 seconds between ticks."""
    scheduler = {"time": "clock", "boundary_interval_ms": 180_000}
    stream(project, scheduler=scheduler, engine={"alignment_ms": 180_000})
    running = project.start("streams", "run", "toy")
    until(lambda: health(project) == 0, "it is ready")
    began_s = time.monotonic()
    running.send(signal.SIGTERM)
    assert running.end().status == 0
    assert time.monotonic() - began_s < 2
    assert health(project) == 7


def test_a_stream_that_runs_is_not_run_twice(project: Project) -> None:
    """The second one says who holds the store, with the status of what may be tried later."""
    stream(project, **LIVE)
    running = project.start("streams", "run", "toy")
    until(lambda: health(project) == 0, "it is ready")
    code, message = project.done("streams", "run", "toy", status=75).error
    assert code == "store-busy"
    assert str(running.pid) in message
    assert health(project) == 0


def without_sink(project: Project, *, max_block_ms: int | None, **fields: Any) -> None:
    """Apply a stream whose sink is away: a folder lies where its file belongs."""
    (project.folder / "out.jsonl").mkdir()
    published = {"transport": "jsonl", "path": "out.jsonl", "max_pending": 1}
    stream(project, output_publish={**published, "max_block_ms": max_block_ms}, **fields)


def test_health_has_a_status_for_each_state(project: Project) -> None:
    """Running 0, degraded by a sink that stays away 4 with its domain, well again 0, gone 7."""
    retry = {"min_delay_ms": 20, "max_delay_ms": 20, "max_attempts": 3}
    without_sink(project, max_block_ms=1, **LIVE, publish_retry=retry)
    running = project.start("streams", "run", "toy")
    until(lambda: health(project) == 4, "it is degraded")
    assert "publish: " in project.done("streams", "health", "toy", status=4).stdout
    (project.folder / "out.jsonl").rmdir()
    until(lambda: health(project) == 0, "it is well again")
    running.kill()
    assert health(project) == 7


def test_a_stream_that_waits_for_its_sink_is_not_ready(project: Project) -> None:
    """It lives and goes on with its intake: status 3; a signal ends it as it is."""
    without_sink(project, max_block_ms=None)
    running = project.start("streams", "run", "toy")
    until(lambda: health(project) == 3, "it is paused")
    running.send(signal.SIGTERM)
    ended = running.end()
    assert ended.status == 0
    assert "The outputs of 1 tick are not delivered yet" in ended.stderr
    (project.folder / "out.jsonl").rmdir()
    assert project.done("streams", "run", "toy", "--json").json["waiting"] == 0
    assert project.done("streams", "audit", "toy", "--json").json["held"] is True
    assert len(published(project)) == 12
    honest(project)
