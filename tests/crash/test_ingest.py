"""A process that takes events in is killed anywhere: what it acknowledged is there, in order."""

from __future__ import annotations

import contextlib
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from runwright.kernel.drive.log import Log
from tests.crash.logs import opened

ROOT = Path(__file__).parents[2]
#: Trials of one campaign, each going on where the one before was killed.
SEEDS, SEEDS_OF_A_CAMPAIGN = 5, 50


def killed(folder: Path, trial: int, build: str = "honest") -> int:
    """Run the driver and kill it after some answers; return what it acknowledged last."""
    chance = random.Random(trial)
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.crash.ingesting", str(folder), str(trial), build],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    acknowledged = 0
    try:
        for _ in range(chance.randrange(1, 25)):
            line = process.stdout.readline()
            assert line, process.stderr.read().decode()
            acknowledged = int(line)
            process.stdin.write(b"!")
        if chance.random() < 0.7:
            # Somewhere in the next group: before, in or after its commit.
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(chance.random() * 0.004)
        else:
            # Told, and not answered: right behind an acknowledgement.
            acknowledged = int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            pipe.close()
    return acknowledged


def lost(log: Log, acknowledged: int) -> str:
    """Return what is missing of the events that were acknowledged, or what is out of order."""
    if log.last_seq < acknowledged:
        return f"{acknowledged} were acknowledged, {log.last_seq} are there"
    counts: Counter[str] = Counter()
    for place, record in enumerate(log.records(1, log.last_seq), 1):
        if record.seq != place or record.data != b"%s/%d" % (
            record.key.encode(),
            counts[record.key],
        ):
            return f"record {record.seq} holds {record.data!r}"
        counts[record.key] += 1
    return ""


@pytest.mark.slow
@pytest.mark.proves("nothing acknowledged is lost")
def test_a_kill_during_ingest_loses_nothing_that_was_acknowledged(
    tmp_path: Path, is_campaign: bool
) -> None:
    """Every acknowledged event is there, without a gap, and the whole record verifies."""
    most = 0
    for trial in range(SEEDS_OF_A_CAMPAIGN if is_campaign else SEEDS):
        acknowledged = killed(tmp_path, trial)
        stage = opened(tmp_path)
        log = stage.log()
        assert lost(log, acknowledged) == "", f"seed {trial}"
        report = stage.verify()
        assert report.held, f"seed {trial}: {[c for c in report.checks if not c.held]}"
        assert log.last_seq > most, f"seed {trial} took nothing in"
        most = log.last_seq
        stage.writer.close()
        stage.store.close()


@pytest.mark.slow
def test_the_control_a_build_that_acknowledges_before_the_commit_is_caught(tmp_path: Path) -> None:
    """The same check sees what it loses, within a few trials."""
    found = []
    for trial in range(20):
        acknowledged = killed(tmp_path, trial, "early")
        stage = opened(tmp_path)
        found.append(lost(stage.log(), acknowledged))
        stage.writer.close()
        stage.store.close()
        if found[-1]:
            break
    assert "were acknowledged" in found[-1]
