"""A stream from NATS to NATS, on a real server that asks who it is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.project import Project
from tests.e2e.streams import history, published, spec
from tests.nats.server import NatsServer

pytestmark = pytest.mark.slow

USER, PASSWORD = "ada", "a-word-of-many"
ENV = {"FEED_USER": USER, "FEED_PASSWORD": PASSWORD}
SIGNS = {"user_env": "FEED_USER", "password_env": "FEED_PASSWORD"}


@pytest.fixture(scope="module")
def strict() -> Iterator[NatsServer]:
    """A server that lets one user in."""
    users = f'authorization {{ users: [ {{ user: "{USER}", password: "{PASSWORD}" }} ] }}\n'
    made = NatsServer(users, user=USER, password=PASSWORD)
    yield made
    made.close()


@pytest.fixture
def market(strict: NatsServer) -> str:
    """The name of a stream that holds a history."""
    name = strict.new_name()
    strict.make(name)
    strict.publish(f"{name}.raw", *(line.encode() for line in history()))
    return name


def applied(project: Project, strict: NatsServer, market: str, **publish: Any) -> None:
    """Apply a stream that reads the history, which has an end, and publishes to the server."""
    nats = {"url": strict.url, "stream": market, "subject": f"{market}.>", "follow": False}
    source = {"source_id": "feed", "symbols": ["BTC", "ETH"], "nats": {**nats, **SIGNS}}
    out = {"transport": "nats", "url": strict.url, "stream": f"{market}-out", **SIGNS}
    out |= {"subject": f"out.{market}", "monitor": strict.monitor, **publish}
    project.done("apply", spec(project, sources=[source], output_publish=out))


def test_a_history_from_nats_to_nats_signs_in_and_has_an_end(
    project: Project, strict: NatsServer, market: str
) -> None:
    """Source, outputs, audit and tail; the password stands nowhere in the project."""
    applied(project, strict, market)
    ran = project.done("streams", "run", "toy", "--json", env=ENV)
    assert (ran.json["records"], ran.json["ticks"]) == (24, 3)
    (connected,) = [each for each in ran.events if each["event"] == "sink.connected"]
    assert connected["transport_durability"] == "flushed"
    assert [json.loads(data) for _, data in strict.held(f"{market}-out")] == published(project)
    assert project.done("streams", "audit", "toy", "--json", env=ENV).json["held"] is True
    tail = ("streams", "tail", "toy", "--transport", "--no-follow")
    assert len(project.done(*tail, env=ENV).stdout.splitlines()) == 12
    kept = [path.read_bytes() for path in project.base.rglob("*") if path.is_file()]
    assert any(b"FEED_PASSWORD" in data for data in kept), "its name is what is kept"
    assert not any(PASSWORD.encode() in data for data in kept)
    assert PASSWORD not in ran.stderr + ran.stdout


def test_a_wrong_password_of_a_source_ends_it_and_names_the_key(
    project: Project, strict: NatsServer, market: str
) -> None:
    """The control; with the right one it goes on as if nothing had been."""
    applied(project, strict, market)
    done = project.run("streams", "run", "toy", env={**ENV, "FEED_PASSWORD": "another-word"})
    assert done.status == 2
    code, message = done.error
    assert code == "invalid-spec"
    assert message.startswith(f"feed: the NATS server at {strict.url} lets nobody in")
    assert "sources[0].nats.user_env and password_env" in done.stderr
    assert "another-word" not in done.stderr
    found = project.done("streams", "health", "toy", "--json", status=4).json
    assert "lets nobody in" in found["domains"]["ingest"]
    assert project.done("streams", "run", "toy", "--json", env=ENV).json["records"] == 24


def test_a_wrong_password_of_outputs_leaves_them_waiting(
    project: Project, strict: NatsServer, market: str
) -> None:
    """They are kept, and delivered once somebody is let in."""
    applied(project, strict, market, user_env="OUT_USER", max_pending=1)
    running = project.start("streams", "run", "toy", env={**ENV, "OUT_USER": "eve"})
    deferred = running.wait_event("delivery.deferred")
    assert "lets nobody in" in deferred["text"]
    running.wait_event("scheduling.paused")
    running.send(15)
    assert running.end().status == 0
    project.done("streams", "run", "toy", env={**ENV, "OUT_USER": USER})
    assert [json.loads(data) for _, data in strict.held(f"{market}-out")] == published(project)


def test_a_variable_that_is_not_set_is_named_with_its_key(
    project: Project, strict: NatsServer, market: str
) -> None:
    """Before anything is taken in."""
    applied(project, strict, market)
    done = project.done("streams", "run", "toy", env={"FEED_USER": USER}, status=2)
    assert done.error == (
        "refused",
        "output_publish.password_env: the variable FEED_PASSWORD is not set",
    )
    assert published(project) == []
