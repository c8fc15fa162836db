"""The server goes away and comes back: what was under way, what fell due, what is said."""

from __future__ import annotations

import itertools
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.project import Project, until
from tests.postgres.project import SharedProject
from tests.postgres.server import Server

pytestmark = pytest.mark.slow


@pytest.fixture
def standing(server: Server) -> Iterator[Server]:
    """The server, started again when a test leaves it stopped."""
    yield server
    if not server.is_running():
        server.start()


def unwritten(project: Project) -> list[dict[str, Any]]:
    """Return what is kept of batches that were not written."""
    folder = project.folder / ".runwright" / "unwritten"
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]


def occurrences(project: Project) -> list[tuple[int, str]]:
    """Return every scheduled second that the record holds, with what became of it."""
    rows = project.sql("SELECT planned_ms, last_ms, count, state FROM tick WHERE scheduled = 1")
    found = []
    for first, last, count, state in sorted(rows):
        assert (last - first) // 1000 + 1 == count
        found += [(first // 1000 + step, state) for step in range(count)]
    return found


def test_a_schedule_survives_an_outage(shared: SharedProject, standing: Server) -> None:
    """It goes on by itself; every second that fell due is on the record, once."""
    shared.apply(shared.task("quick", "print('done')\n"))
    running = shared.start("run", "demo", "--continuous", "--interval", "1")
    running.wait_event("round.judged")
    standing.stop("immediate")
    running.wait_event("store.lost", 2)
    standing.start()
    running.wait_event("store.reached")
    judged = len(shared.bodies("round.judged"))
    until(lambda: len(shared.bodies("round.judged")) > judged, "a cycle after the outage")
    running.send(signal.SIGTERM)
    done = running.end()
    assert done.status == 0, done
    seconds = occurrences(shared)
    assert all(later - earlier == 1 for (earlier, _), (later, _) in itertools.pairwise(seconds)), (
        seconds
    )
    assert {"closed", "missed"} <= {state for _, state in seconds}, seconds
    assert shared.done("verify", "--store", "--json").json["held"]


def test_a_cycle_that_was_under_way_is_closed_and_not_repeated(
    shared: SharedProject, standing: Server
) -> None:
    """Its function is ended with it; what could not be written is kept beside the project."""
    gate = shared.gate()
    acted = shared.folder / "effects" / "acted"
    effect = f"open({str(acted)!r}, 'a').write('acted\\n')\n"
    task = shared.task("slow", effect + gate.source, timeout_s=60)
    shared.apply(task)
    running = shared.start("run", "demo", "--continuous", "--interval", "3600")
    gate.wait_begun()
    standing.stop("immediate")
    gate.let_go()
    running.wait_event("store.lost")
    kept = running.wait_event("store.unwritten")
    assert Path(kept["file"]).is_file()
    assert kept["file"] in running.wait_event("halt.raised")["text"]
    (batch,) = unwritten(shared)
    assert batch["entries"][0]["type"] == "run.finished"
    assert batch["entries"][0]["body"]["status"] == "done"
    assert batch["error"] == "store-unreachable"
    standing.start()
    running.wait_event("tick.recovered")
    running.wait_event("store.reached")
    running.send(signal.SIGTERM)
    assert running.end().status == 0
    (finished,) = shared.bodies("run.finished")
    assert (finished["status"], finished["reason"]) == ("interrupted", "conductor-died")
    assert len(shared.bodies("run.started")) == 1
    assert acted.read_text() == "acted\n"
    assert shared.done("verify", "--store", "--json").json["held"]


def test_one_cycle_ends_with_the_error_and_where_the_evidence_is(
    shared: SharedProject, standing: Server
) -> None:
    """Exit status 4; the next start closes it."""
    gate = shared.gate()
    shared.apply(shared.task("slow", gate.source, timeout_s=60))
    running = shared.start("run", "demo")
    gate.wait_begun()
    standing.stop("immediate")
    gate.let_go()
    done = running.end()
    assert done.status == 4
    code, message = done.error
    assert code == "store-unreachable"
    (batch,) = unwritten(shared)
    assert batch["entries"][0]["body"]["key"] == "slow"
    (file,) = (shared.folder / ".runwright" / "unwritten").iterdir()
    assert f"what was to be written is kept in {file}" in message
    again = shared.run("run", "demo")
    assert again.status == 4
    assert again.error[0] == "store-unreachable"
    assert "Traceback" not in again.stderr
    standing.start()
    shared.done("show", "latest")
    gate.let_go()
    shared.done("run", "demo")
    statuses = [body["status"] for body in shared.bodies("run.finished")]
    assert statuses == ["interrupted", "done"]


def test_a_backend_that_is_ended_loses_nothing(shared: SharedProject) -> None:
    """An administrator ends every connection of a conductor: it takes new ones and goes on."""
    shared.apply(shared.task("quick", "print('done')\n"))
    running = shared.start("run", "demo", "--continuous", "--interval", "1")
    running.wait_event("round.judged")
    ended = shared.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = ? "
        "AND application_name LIKE 'runwright%%'",
        shared.database,
    )
    assert len(ended) >= 3
    running.wait_event("store.reached")
    judged = len(shared.bodies("round.judged"))
    until(lambda: len(shared.bodies("round.judged")) > judged, "a cycle after that")
    running.send(signal.SIGTERM)
    assert running.end().status == 0
    seconds = [second for second, _ in occurrences(shared)]
    assert seconds == list(range(seconds[0], seconds[-1] + 1))
    assert shared.done("verify", "--store", "--json").json["held"]
