"""A child at T2: ended, limited and reported as at every level, and what it reaches by a grant."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runwright.adapters import bubblewrap
from runwright.adapters.cgroups import find
from runwright.adapters.clock import SystemClock
from runwright.adapters.commands import best_level, demand_problem, lacking, level_of
from runwright.adapters.places import LocalPlaces
from runwright.adapters.processes import GIVE_UP_S
from runwright.kernel.run import Command, Executed, Limits, Round
from tests.adapters.hostile import SOON_S
from tests.adapters.work import command, finish, kept
from tests.e2e.project import until
from tests.escape.looking import below, processes

Execute = Callable[..., Executed]

#: Asks each host:port for an echo of more than any buffer holds.
ASK = """
import json, socket, sys, threading
SIZE = 3_000_000
def echo(place):
    host, _, port = place.rpartition(":")
    with socket.create_connection((host.strip("[]"), int(port)), 20) as link:
        def say():
            link.sendall(bytes(SIZE))
            link.shutdown(socket.SHUT_WR)
        threading.Thread(target=say).start()
        size = 0
        first = link.recv(1)
        while piece := link.recv(65536):
            size += len(piece)
    return first.decode() if size == SIZE else size
said = {}
for place in sys.argv[1:]:
    try:
        said[place] = echo(place)
    except OSError as error:
        said[place] = type(error).__name__
print(json.dumps(said))
"""


@pytest.fixture
def places(tmp_path: Path) -> Iterator[LocalPlaces]:
    """Where commands execute; nothing of them is left when it closes."""
    if reason := lacking():
        pytest.skip(f"needs T2: {reason}")
    places = LocalPlaces(
        clock=SystemClock(), environment={}, scratch=tmp_path / "scratch", private=[]
    )
    yield places
    places.close()
    until(lambda: not [*below(os.getpid())], "the end of every process")


@pytest.fixture
def confined(places: LocalPlaces) -> Execute:
    """Execute one command at T2 to its end."""
    place = places.open(Round(key="cycle", place="command"))

    def run(*argv: str, limits: Limits | None = None, **fields: object) -> Executed:
        fields = {"level": "T2", **fields}
        work = command(*argv, limits=limits or Limits(timeout_s=SOON_S), **fields)
        return finish(place, [work])[0]

    return run


@pytest.fixture
def echoes() -> Iterator[Callable[..., int]]:
    """Start servers that answer with their own sign and all that they hear."""
    doors: list[socket.socket] = []

    def serve(link: socket.socket, sign: str) -> None:
        with link:
            link.sendall(sign.encode())
            while piece := link.recv(65536):
                link.sendall(piece)

    def accept(door: socket.socket, sign: str) -> None:
        while True:
            try:
                link, _address = door.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(link, sign), daemon=True).start()

    def start(sign: str, address: str = "127.0.0.1", port: int = 0) -> int:
        door = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        door.bind((address, port))
        door.listen()
        doors.append(door)
        threading.Thread(target=accept, args=(door, sign), daemon=True).start()
        return int(door.getsockname()[1])

    yield start
    for door in doors:
        door.shutdown(socket.SHUT_RDWR)
        door.close()


def asked(
    confined: Execute, *places: str, grant: tuple[str, ...], **fields: object
) -> dict[str, object]:
    """Return what each host and port answered to a child that was granted some of them."""
    executed = confined(sys.executable, "-I", "-S", "-c", ASK, *places, network=grant, **fields)
    found: dict[str, object] = json.loads(kept(executed, "stdout"))
    return found


@pytest.mark.parametrize(
    ("script", "status", "code", "number"),
    [
        ("exit 0", "done", 0, None),
        ("exit 7", "failed", 7, None),
        ("exit 75", "failed", 75, None),
        # As a shell would say of a signal, but said by itself.
        ("exit 137", "failed", 137, None),
        ("kill -KILL $$", "failed", None, 9),
        ("kill -SEGV $$", "failed", None, 11),
        ("kill -TERM $$", "failed", None, 15),
        ("kill -34 $$", "failed", None, 34),
    ],
)
def test_an_end_is_reported_as_it_was(
    confined: Execute, script: str, status: str, code: int | None, number: int | None
) -> None:
    """A status is never taken for a signal, nor a signal for a status."""
    outcome = confined("sh", "-c", script).outcome
    assert (outcome.status, outcome.used.exit, outcome.used.signal) == (status, code, number)
    assert outcome.level == "T2"


def test_a_tree_is_asked_and_then_killed(confined: Execute) -> None:
    """Who obeys SIGTERM ends by it; who does not, and what left its session, is killed."""
    limits = Limits(timeout_s=0.5, grace_s=30)
    obeys = confined(
        "sh", "-c", "trap 'echo asked; exit 3' TERM; while :; do sleep 0.05; done", limits=limits
    )
    assert (obeys.outcome.reason, obeys.outcome.used.exit) == ("timeout", 3)
    assert kept(obeys, "stdout") == b"asked\n"
    script = "trap '' TERM; setsid sleep 600 & while :; do sleep 600; done"
    resists = confined("sh", "-c", script, limits=Limits(timeout_s=0.3, grace_s=0.2)).outcome
    assert (resists.reason, resists.used.signal) == ("timeout", 9)


def test_what_outlives_it_is_killed_and_counted(confined: Execute) -> None:
    """Two processes, one in a session of its own; what holds the namespaces is not counted."""
    outcome = confined("sh", "-c", "sleep 600 & setsid sleep 600 & exit 0").outcome
    assert outcome.status == "done"
    assert outcome.message == "2 of its processes outlived it and were killed"
    assert confined("sh", "-c", "sleep 0 & exit 0").outcome.message == ""


def test_what_it_uses_is_counted(confined: Execute) -> None:
    """Processor time and memory, those of its children too."""
    code = "import os, time\nif os.fork():\n os.wait()\nelse:\n b = bytearray(90 << 20)\n"
    code += " b[::4096] = bytes(len(b[::4096]))\n while time.process_time() < 0.4: pass\n"
    used = confined(sys.executable, "-I", "-S", "-c", code).outcome.used
    assert used.cpu_ms >= 400
    assert 90 << 10 < used.peak_kib < 200 << 10


def test_limits_hold(confined: Execute) -> None:
    """Memory, files and processor time by the child's own limits, processes by its group."""
    code = "bytearray(300 << 20)"
    executed = confined(sys.executable, "-I", "-S", "-c", code, limits=Limits(memory_mib=200))
    assert b"MemoryError" in kept(executed, "stderr")
    outcome = confined("sh", "-c", "while :; do :; done", limits=Limits(cpu_s=1)).outcome
    assert outcome.message == "ended by SIGXCPU, its limit of CPU seconds"
    if not find():
        pytest.skip("needs a pids control group that can be written")
    code = """
import os, time
count = 0
try:
    while True:
        os.fork() or time.sleep(600)
        count += 1
except OSError:
    print(count)
"""
    # What holds the namespaces is not in the group: the limit is the function's own.
    executed = confined(sys.executable, "-I", "-S", "-c", code, limits=Limits(processes=8))
    assert kept(executed, "stdout") == b"7\n"


def test_a_killed_supervisor_holds_up_nobody(places: LocalPlaces) -> None:
    """Its tree is gone at once, and the launcher is there for the next ones."""
    place = places.open(Round(key="cycle", place="command"))
    work = command("sleep", "600", level="T2", limits=Limits(timeout_s=SOON_S))
    place.start([work])

    def supervisor() -> int:
        found = processes()
        asleep = [each for each in found.values() if each.is_of(work.run)]
        return found[asleep[0].parent].parent if asleep else 0

    until(lambda: supervisor() != 0, "the start of the program")
    os.kill(supervisor(), signal.SIGKILL)
    assert [each.outcome.reason for each in place.wait(SOON_S * 3)] == ["supervisor-died"]
    until(lambda: not supervisor(), "the end of its tree")
    began_s = time.monotonic()
    for _ in range(3):
        assert finish(place, [command("true", level="T2")])[0].outcome.status == "done"
    assert time.monotonic() - began_s < GIVE_UP_S / 2


def test_a_program_that_is_missing_is_named(confined: Execute) -> None:
    """As at every level."""
    outcome = confined("/nowhere/program").outcome
    assert (outcome.reason, outcome.message) == (
        "not-started",
        "/nowhere/program: No such file or directory",
    )


def test_folders_that_cannot_be_shown_are_said(
    confined: Execute, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What bubblewrap refuses is not run."""
    monkeypatch.setattr(bubblewrap, "SHARED", ("/nowhere",))
    monkeypatch.setattr(bubblewrap, "_base", lambda: ["--ro-bind", "/nowhere", "/nowhere"])
    outcome = confined("true").outcome
    assert (outcome.status, outcome.reason) == ("failed", "not-started")
    assert outcome.message.startswith("its namespaces: ")


def test_its_folders_are_its_own_and_go_with_it(confined: Execute, tmp_path: Path) -> None:
    """Temporary folders start empty but for what is shown; what is left there is gone."""
    own = " ".join(f"{folder}/left" for folder in ("/tmp", "/var/tmp", "/dev/shm"))
    for _ in range(2):
        script = f"cat {own} 2>/dev/null; touch {own} && echo made; ls /run"
        assert kept(confined("sh", "-c", script), "stdout") == b"made\n"
    assert not any(Path(path).exists() for path in own.split())


def test_a_grant_is_met_and_nothing_else(confined: Execute, echoes: Callable[..., int]) -> None:
    """By name, by address, two hosts with one port; more bytes than buffers, both ways at once."""
    port = echoes("a")
    echoes("b", "127.0.0.3", port)
    other = echoes("c")
    found = asked(
        confined,
        *(f"localhost:{port}", f"127.0.0.1:{port}", f"127.0.0.3:{port}"),
        *(f"127.0.0.1:{other}", f"127.0.0.2:{port}", f"127.0.0.3:{other}"),
        grant=(f"localhost:{port}", f"127.0.0.3:{port}"),
    )
    assert [*found.values()] == ["a", "a", "b", *["ConnectionRefusedError"] * 3]


def test_a_grant_by_an_address_of_version_six_is_met(
    confined: Execute, echoes: Callable[..., int]
) -> None:
    """And one of an address that is not of this machine has a way of its own."""
    try:
        port = echoes("6", "::1")
    except OSError:
        pytest.skip("needs IPv6")
    found = asked(
        confined, f"[::1]:{port}", f"[::1]:{port + 1}", grant=(f"[::1]:{port}", "192.0.2.1:99")
    )
    assert [*found.values()] == ["6", "ConnectionRefusedError"]


def test_a_name_is_resolved_outside(confined: Execute, echoes: Callable[..., int]) -> None:
    """Inside it is an address of this machine; of a name that nobody knows comes a reset."""
    port = echoes("n")
    name = socket.gethostname()
    script = "import socket, sys; print(*(socket.gethostbyname(name) for name in sys.argv[1:]))"
    granted = (f"{name}:{port}", f"nobody.invalid:{port}", f"127.0.0.1:{port}")
    executed = confined(
        *(sys.executable, "-I", "-S", "-c", script, name, "nobody.invalid"), network=granted
    )
    assert kept(executed, "stdout") == b"127.0.0.2 127.0.0.3\n"
    found = asked(confined, f"nobody.invalid:{port}", "somebody.invalid:1", grant=granted)
    assert [*found.values()] == ["ConnectionResetError", "gaierror"]


def test_the_way_out_of_one_run_is_not_that_of_another(
    places: LocalPlaces, echoes: Callable[..., int], tmp_path: Path
) -> None:
    """Both at once: each reaches what it was granted, and not what the other was."""
    ports = [echoes("a"), echoes("b")]
    place = places.open(Round(key="cycle", place="command", workers=2))
    meeting = tmp_path / "meeting"
    meeting.mkdir()
    wait = "import pathlib, time\nhere = pathlib.Path(sys.argv.pop())\n"
    wait += "here.joinpath(sys.argv.pop()).touch()\n"
    wait += "while len([*here.iterdir()]) < 2: time.sleep(0.005)\n"
    code = ASK.replace("said = {}\n", f"{wait}said = {{}}\n")
    asks = [f"127.0.0.1:{port}" for port in ports]
    work = [
        command(
            *(sys.executable, "-I", "-S", "-c", code, *asks, str(number), str(meeting)),
            key=str(number),
            network=(asks[number],),
            write=(str(meeting),),
            limits=Limits(timeout_s=SOON_S),
        )
        for number in range(2)
    ]
    found = {each.outcome.key: json.loads(kept(each, "stdout")) for each in finish(place, work)}
    refused = "ConnectionRefusedError"
    assert [*found["0"].values()] == ["a", refused]
    assert [*found["1"].values()] == [refused, "b"]


def test_a_grant_needs_no_level_by_name() -> None:
    """T2 is applied where it is needed, T1 otherwise, and a weaker one that is demanded refuses."""
    if reason := lacking():
        pytest.skip(f"needs T2: {reason}")
    granted = ("db:5432",)
    levels = [
        level_of(Command(argv=("true",), network=network, level=level), best_level())
        for network, level in ((granted, ""), ("none", ""), ("any", "T2"), (granted, "T1"))
    ]
    assert levels == ["T2", "T1", "T2", "T1"]
    problem = demand_problem(Command(argv=("true",), network=granted, level="T1"), {}, [])
    assert problem == "network db:5432 cannot be held at T1"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"level": "T2"}, "level T2 is demanded, and this machine holds {}: bubblewrap is not"),
        (
            {"network": ("db:1",)},
            "network db:1 cannot be held at {}, and this machine does not hold T2: bubblewrap",
        ),
    ],
)
def test_a_machine_without_bubblewrap_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fields: dict[str, object], said: str
) -> None:
    """Before it starts, with the reason, in a dry run as well; nothing was executed."""
    if best_level() != "T1":
        pytest.skip("needs T1: without it nothing else is missing")
    monkeypatch.setattr(bubblewrap, "PATH", str(tmp_path))
    bubblewrap.problem.cache_clear()
    try:
        mark = tmp_path / "ran"
        wish = {"write": (str(tmp_path),), **fields}
        problem = demand_problem(Command(argv=("touch", str(mark)), **wish), {}, [])  # type: ignore[arg-type]
        places = LocalPlaces(clock=SystemClock(), environment={}, scratch=tmp_path / "scratch")
        place = places.open(Round(key="cycle", place="command"))
        outcome = finish(place, [command("touch", str(mark), **wish)])[0].outcome
        places.close()
    finally:
        bubblewrap.problem.cache_clear()
    assert (outcome.status, outcome.reason, outcome.level) == ("failed", "refused", "")
    assert outcome.message == problem
    assert problem.startswith(said.format("T1"))
    assert not mark.exists()


def test_a_level_below_imports_nothing_of_it(tmp_path: Path) -> None:
    """Neither in the conductor nor in a child: what T2 needs costs nobody else anything."""
    code = """
import sys
from pathlib import Path
from runwright.adapters.clock import SystemClock
from runwright.adapters.places import LocalPlaces
from runwright.kernel.run import Round
from tests.adapters.work import command, finish
places = LocalPlaces(clock=SystemClock(), environment={}, scratch=Path(sys.argv[1]))
place = places.open(Round(key="cycle", place="command"))
print(finish(place, [command("true", level=sys.argv[2])])[0].outcome.level)
places.close()
print(*(name for name in sys.modules if name.endswith(("bubblewrap", "namespaces", "forwarder"))))
"""
    import subprocess

    for level in ("T0", "T1"):
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path), level],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).parents[2],
        )
        assert done.stdout.splitlines()[1:] == [""]


def test_processes_of_the_machine_are_not_those_inside(confined: Execute) -> None:
    """It sees its own tree and what holds it."""
    script = "ls /proc | grep -c '^[0-9]'; cat /proc/1/cmdline | tr '\\0' ' '; cat /proc/1/environ"
    count, *words = kept(confined("sh", "-c", script), "stdout").split()
    assert int(count) <= 6 < len(processes())
    # Neither paths nor variables: what is shown where is told through a descriptor.
    assert [word for word in words if b"/" in word] == [words[0], words[-1]]
    assert words[0].endswith(b"/bwrap")
    assert words[-1].endswith(b"/cat")
