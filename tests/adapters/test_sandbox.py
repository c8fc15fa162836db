"""What a child at T1 is left with; the attacks on it are in `tests/escape`."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runwright.adapters.cgroups import find, sweep
from runwright.adapters.clock import SystemClock
from runwright.adapters.commands import PLAIN, best_level
from runwright.adapters.places import LocalPlaces
from runwright.adapters.sandbox import _ABSENT, _NETWORK, _REFUSED, Sandbox, outside
from runwright.kernel.run import Executed, Limits, Round
from tests.adapters.hostile import SOON_S
from tests.adapters.work import command, finish, kept
from tests.e2e.project import until

Execute = Callable[..., Executed]

#: Tries each statement and says what came of it.
TRY = """
import json, os, socket, subprocess, sys, threading
said = {}
for statement in sys.argv[1:]:
    try:
        exec(statement)
        said[statement] = ""
    except OSError as error:
        said[statement] = type(error).__name__
print(json.dumps(said))
"""


def batched(code: bytes) -> list[bytes]:
    """Return the instructions of a filter."""
    return [code[at : at + 8] for at in range(0, len(code), 8)]


@pytest.fixture
def hidden(tmp_path: Path) -> Path:
    """A private file of the project."""
    path = tmp_path / "private" / "ledger.key"
    path.parent.mkdir()
    path.write_text("secret", encoding="utf-8")
    return path


@pytest.fixture
def confined(tmp_path: Path, hidden: Path) -> Iterator[Execute]:
    """Execute one command at T1 to its end."""
    if best_level() == PLAIN:
        pytest.skip("needs Landlock of Linux 6.12 and seccomp")
    places = LocalPlaces(
        clock=SystemClock(), environment={}, scratch=tmp_path / "scratch", private=[hidden]
    )
    place = places.open(Round(key="cycle", place="command"))

    def run(*argv: str, limits: Limits | None = None, **fields: object) -> Executed:
        fields = {"level": "T1", **fields}
        work = command(*argv, limits=limits or Limits(timeout_s=SOON_S), **fields)
        return finish(place, [work])[0]

    yield run
    places.close()


def tried(confined: Execute, *statements: str, **fields: object) -> dict[str, str]:
    """Return what came of statements: nothing, or the name of an error."""
    executed = confined(sys.executable, "-I", "-S", "-c", TRY, *statements, **fields)
    found: dict[str, str] = json.loads(kept(executed, "stdout"))
    return found


def test_what_is_outside_is_all_but_what_is_hidden(tmp_path: Path) -> None:
    """Siblings along the way, no link, nothing that leads to what is hidden."""
    for path in ("a/b/key", "a/b/open", "a/beside", "c"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("x", encoding="utf-8")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    found = set(outside([f"{tmp_path}/a/b/key", f"{tmp_path}/none/key/"]))
    mine = {path.removeprefix(f"{tmp_path}/") for path in found if path.startswith(str(tmp_path))}
    assert mine == {"a/b/open", "a/beside", "c"}
    assert {"/etc", "/usr"} <= found
    assert not any(str(tmp_path).startswith(f"{path}/") for path in found)


def test_what_is_inside_of_something_hidden_is_hidden(tmp_path: Path) -> None:
    """The inner one adds nothing."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "other").write_text("x", encoding="utf-8")
    found = set(outside([f"{tmp_path}/a", f"{tmp_path}/a/key"]))
    assert not any(path.startswith(f"{tmp_path}/a") for path in found)


def test_a_confined_child_writes_only_where_it_may(
    confined: Execute, tmp_path: Path, hidden: Path
) -> None:
    """Its scratch folder, what was granted, and the devices that programs expect."""
    (tmp_path / "granted").mkdir()
    (tmp_path / "file").write_text("old", encoding="utf-8")
    denied = [
        f"open('{tmp_path}/new', 'w')",
        f"open('{hidden}', 'a')",
        f"os.mkdir('{tmp_path}/made')",
        f"os.rename('{tmp_path}/file', '{tmp_path}/moved')",
        f"os.truncate('{hidden}', 0)",
    ]
    allowed = [
        "open(os.environ['TMPDIR'] + '/new', 'w')",
        f"os.makedirs('{tmp_path}/granted/deep')",
        f"open('{tmp_path}/granted/deep/new', 'w').write('x')",
        f"os.rename('{tmp_path}/granted/deep/new', '{tmp_path}/granted/moved')",
        f"open('{tmp_path}/file', 'w').write('new')",
        "open('/dev/null', 'w').write('x')",
    ]
    granted = (f"{tmp_path}/granted", f"{tmp_path}/file")
    found = tried(confined, *allowed[:-2], *denied, *allowed[-2:], write=granted)
    assert {found[each] for each in allowed} == {""}
    assert {found[each] for each in denied} <= {"PermissionError", "OSError"}
    assert (tmp_path / "granted" / "moved").read_text() == "x"
    assert (tmp_path / "file").read_text() == "new"
    assert hidden.read_text() == "secret"


def test_a_confined_child_reads_all_but_what_is_hidden(
    confined: Execute, tmp_path: Path, hidden: Path
) -> None:
    """Also beside it, and by another way; what stands beside the hidden file it reads."""
    (hidden.parent / "public").write_text("x", encoding="utf-8")
    (tmp_path / "link").symlink_to(hidden)
    found = tried(
        confined,
        f"open('{hidden}')",
        f"open('{tmp_path}/link')",
        f"open('/proc/self/root{hidden}')",
        f"open('/proc/{os.getpid()}/environ')",
        f"open('{hidden.parent}/public')",
        f"os.listdir('{hidden.parent}')",
        "open('/etc/passwd')",
    )
    assert [*found.values()] == ["PermissionError"] * 4 + [""] * 3


@pytest.mark.parametrize("network", ["any", "none"])
def test_a_network_is_there_or_not(confined: Execute, network: str) -> None:
    """With `none` no socket of any family; a pair inside of the tree works either way."""
    families = ("AF_INET", "AF_INET6", "AF_UNIX", "AF_NETLINK")
    sockets = [f"socket.socket(socket.{family}, socket.SOCK_DGRAM)" for family in families]
    found = tried(confined, *sockets, "socket.socketpair()", network=network)
    assert {found[each] for each in sockets} == ({"PermissionError"} if network == "none" else {""})
    assert found["socket.socketpair()"] == ""


def groups() -> set[str]:
    """Return the control groups that launchers have made."""
    return {entry.name for entry in os.scandir(find()) if entry.name.startswith("runwright-")}


def test_a_group_of_a_launcher_that_is_gone_is_swept(tmp_path: Path) -> None:
    """One of a launcher that lives stays."""
    gone = tmp_path / "runwright-4194305-aa-7"
    mine = tmp_path / f"runwright-{os.getpid()}-aa-7"
    for folder in (gone, mine, tmp_path / "other"):
        folder.mkdir()
    sweep(str(tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == {mine.name, "other"}


@pytest.mark.parametrize("level", ["T0", "T1"])
def test_a_tree_has_no_more_processes_than_it_may(confined: Execute, level: str) -> None:
    """Also when root conducts, and threads count; what has ended makes room again."""
    if not find():
        pytest.skip("needs a pids control group that can be written")
    code = """
import os, signal, threading, time
def children(count):
    pids = []
    try:
        for _ in range(count):
            pids.append(os.fork() or time.sleep(600))
    except OSError as error:
        print(error.errno)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return len(pids)
print(children(20))
for _ in range(30):
    os.waitpid(os.fork() or os._exit(0), 0)
print(children(5))
gate = threading.Event()
count = 0
try:
    for _ in range(20):
        threading.Thread(target=gate.wait).start(); count += 1
except RuntimeError:
    print(count)
gate.set()
"""
    limits = Limits(processes=8, timeout_s=SOON_S)
    executed = confined(sys.executable, "-I", "-S", "-c", code, limits=limits, level=level)
    assert [*map(int, kept(executed, "stdout").split())] == [11, 7, 5, 7]


def test_no_group_is_left(confined: Execute) -> None:
    """The group of a tree goes with it, also when the tree had to be killed."""
    if not find():
        pytest.skip("needs a pids control group that can be written")
    before = groups()
    limits = Limits(processes=8, timeout_s=0.1, grace_s=0.1)
    assert confined("sleep", "600", limits=limits).outcome.reason == "timeout"
    confined("true", limits=limits)
    # Other tests make groups at the same time; theirs go as well.
    until(lambda: groups() <= before, "the end of every new group")


def test_a_shell_forks_as_it_always_does(confined: Execute) -> None:
    """Also while its children end: nothing that confines it interrupts a fork."""
    loop = "for i in 1 2 3 4 5 6 7 8 9 10; do true | true | true; done; echo fine"
    for _ in range(5):
        assert kept(confined("sh", "-c", loop), "stdout") == b"fine\n"


def test_a_demanded_level_is_the_one_applied(confined: Execute) -> None:
    """And the outcome says so."""
    assert confined("true").outcome.level == "T1"


def test_every_refused_call_is_refused_by_its_number() -> None:
    """The filter holds each number of the tables of this machine, and ends with what is allowed."""
    try:
        sandbox = Sandbox()
    except OSError:
        pytest.skip("needs Landlock of Linux 6.12 and seccomp")
    plain, offline = sandbox._filter(offline=False), sandbox._filter(offline=True)
    assert len(plain) % 8 == len(offline) % 8 == 0
    tables = (*_REFUSED.values(), *_ABSENT.values(), *_NETWORK.values())
    numbers = {numbers[sandbox._column] for numbers in tables} - {None}
    jumps = {code[4:] for code in batched(offline) if code[:2] == b"\x15\0"}
    assert {number.to_bytes(4, "little") for number in numbers} <= jumps
    assert jumps > {code[4:] for code in batched(plain) if code[:2] == b"\x15\0"}
    assert plain.endswith((0x7FFF0000).to_bytes(4, "little"))
