"""Level T2 from the outside: a cycle and a command that reach what they were granted."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from runwright.adapters.commands import lacking
from tests.e2e.project import Project

ASK = """
import json, os, socket
said = {}
for port in json.loads(open(os.environ["RUNWRIGHT_CONFIG"]).read())["ports"]:
    try:
        with socket.create_connection(("localhost", port), 20) as link:
            said[str(port)] = link.recv(9).decode()
    except OSError as error:
        said[str(port)] = type(error).__name__
json.dump(said, open(os.environ["RUNWRIGHT_RESULT"], "w"))
"""


@pytest.fixture(autouse=True)
def _held() -> None:
    if reason := lacking():
        pytest.skip(f"needs T2: {reason}")


@pytest.fixture
def ports() -> Iterator[list[int]]:
    """Two servers that greet."""
    doors = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]

    def greet(door: socket.socket) -> None:
        while True:
            try:
                link, _address = door.accept()
            except OSError:
                return
            with link:
                link.sendall(b"hello")

    for door in doors:
        threading.Thread(target=greet, args=(door,), daemon=True).start()
    yield [door.getsockname()[1] for door in doors]
    for door in doors:
        door.shutdown(socket.SHUT_RDWR)
        door.close()


@pytest.mark.usefixtures("initialised")
def test_a_function_reaches_what_its_row_grants(project: Project, ports: list[int]) -> None:
    """At T2 without naming it; the record says the level, and `show` what was granted."""
    grant = f"localhost:{ports[0]}"
    project.apply(
        project.task("granted", ASK, network=[grant], ports=ports),
        project.task("other", ASK, ports=ports[:1]),
    )
    dry = project.done("run", "demo", "--dry-run", "--json").json
    assert [run["level"] for run in dry["runs"]] == ["T2", "T1"]
    assert [run["network"] for run in dry["runs"]] == [[grant], "any"]
    project.done("run", "demo")
    granted, other = project.bodies("run.finished")
    said = {str(ports[0]): "hello", str(ports[1]): "ConnectionRefusedError"}
    assert (granted["level"], granted["value"]["result"]) == ("T2", said)
    assert (other["level"], other["value"]["result"]) == ("T1", {str(ports[0]): "hello"})
    assert f"network  any, {grant}" in project.done("show", "demo").stdout
    project.done("verify", "--store")


@pytest.mark.usefixtures("initialised")
def test_a_command_by_hand_reaches_what_it_is_granted(project: Project, ports: list[int]) -> None:
    """`--network` may be given several times; what is no host and port is refused at once."""
    code = f"import socket; print(socket.create_connection(('localhost', {ports[1]})).recv(9))"
    grants = [word for port in ports for word in ("--network", f"localhost:{port}")]
    done = project.done("exec", "--level", "T2", *grants, "--", "python3", "-c", code)
    assert done.stdout == "b'hello'\n"
    project.done("exec", *grants[:2], "--", "python3", "-c", code, status=1)
    levels = {body["level"] for body in project.bodies("run.finished")}
    assert levels == {"T2"}
    for wrong in ("localhost", "localhost:0", ":80", "localhost:http"):
        refused = project.run("exec", "--network", wrong, "--", "true")
        assert refused.status == 2
        assert f"--network {wrong} is not any, none or host:port" in refused.stderr


@pytest.mark.usefixtures("initialised")
def test_a_port_that_is_none_is_refused_when_it_is_declared(project: Project) -> None:
    """With the key and the value."""
    spec = project.spec(project.task("a", "", network=["localhost:70000"]))
    refused = project.run("apply", spec)
    assert refused.status == 2
    assert "network: ['localhost:70000'] is not any, none or host:port" in refused.stderr


@pytest.mark.usefixtures("initialised")
def test_the_doctor_says_which_levels_are_held(project: Project) -> None:
    """And that the second one is not the default."""
    found = project.run("doctor", "--json").json
    details = [each["detail"] for each in found if each["what"] == "isolation"]
    assert details[1] == "T2 where it is demanded (bubblewrap: namespaces, a network of its own)"
    assert details[0].startswith("T1")
