"""The launcher ends whole trees, whatever is in them and whoever dies first."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

import runwright
from runwright.adapters import supervisor as words
from runwright.adapters.children import (
    STAYING_MAX,
    Child,
    Launcher,
    LauncherLost,
    Report,
    Start,
)
from runwright.adapters.processes import descendants, pass_on
from tests.adapters.hostile import SOON_S, Holders, alive, all_gone
from tests.adapters.work import unique
from tests.e2e.project import until

#: A grandchild, marked with `$2`, in a session of its own that holds pipe `$1` and stdout.
ESCAPE = 'MARKER="$2" setsid sh -c \'exec 3>"$0"; echo up >&3; exec sleep 600\' "$1" &\n'


@pytest.fixture
def launcher() -> Iterator[Launcher]:
    """A launcher, ended after the test."""
    made = Launcher()
    yield made
    made.close()


def run(launcher: Launcher, *argv: str, **fields: object) -> tuple[Report | None, bytes]:
    """Run a child to its end; return the report and what it wrote to both streams."""
    heard: list[bytes] = []
    start = Start(argv[0], argv, {"PATH": os.defpath, "A": "1"}, "/", **fields)  # type: ignore[arg-type]
    report = launcher.run(start, stdout=heard.append, stderr=heard.append, started=len_of)
    return report, b"".join(heard)


def len_of(child: Child) -> int:
    """Take notice of a child, and do nothing."""
    return child.stdout


def test_a_child_gets_nothing_but_three_descriptors_and_its_environment(launcher: Launcher) -> None:
    """Nothing of the conductor or the launcher is inherited."""
    # The listing itself holds one more.
    _report, output = run(launcher, "/bin/ls", "/proc/self/fd")
    assert output.split() == [b"0", b"1", b"2", b"3"]
    _report, output = run(launcher, "/usr/bin/env")
    assert sorted(output.split()) == [b"A=1", b"PATH=" + os.defpath.encode()]


def test_a_child_leads_a_session_of_its_own(launcher: Launcher) -> None:
    """Its group and its session are its own pid, so no signal to the conductor's group hits it."""
    _report, output = run(launcher, "/bin/sh", "-c", "echo $$; cut -d' ' -f5,6 /proc/$$/stat")
    pid, group, session = output.split()
    assert pid == group == session


def test_signals_that_the_conductor_ignores_are_not_ignored_by_a_child(launcher: Launcher) -> None:
    """No signal is ignored or blocked in a child."""
    _report, output = run(launcher, "/bin/grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status")
    # Signals 32 and 33 belong to the C library, whose posix_spawn ignores them for good.
    assert [int(line.split()[1], 16) & ~(3 << 31) for line in output.splitlines()] == [0, 0]


def test_exit_codes_and_signals_are_told_apart(launcher: Launcher) -> None:
    """An exit status above 128 is not a signal."""
    exited, _ = run(launcher, "/bin/sh", "-c", "exit 137")
    killed, _ = run(launcher, "/bin/sh", "-c", "kill -9 $$")
    assert exited is not None
    assert killed is not None
    assert (exited.exit, exited.signal) == (137, 0)
    assert (killed.exit, killed.signal) == (-1, 9)


@pytest.mark.parametrize(
    ("program", "folder", "step", "errno"),
    [
        ("/no/such/program", "/", "program", 2),
        ("/etc/passwd", "/", "program", 13),
        ("/bin/true", "/no/such/folder", "folder", 2),
    ],
)
def test_what_failed_before_the_program_ran_is_told_apart(
    launcher: Launcher, program: str, folder: str, step: str, errno: int
) -> None:
    """A program that exits with 127 did run; one that could not be executed did not."""
    start = Start(program, [program], {}, folder)
    report = launcher.run(start, stdout=len, stderr=len, started=len_of)
    assert report is not None
    assert (report.step, report.errno) == (step, errno)
    ran, _ = run(launcher, "/bin/sh", "-c", "exit 127")
    assert ran is not None
    assert (ran.step, ran.exit) == ("", 127)


def test_a_large_request_arrives_whole(launcher: Launcher) -> None:
    """Arguments and environment may fill what the kernel allows for one of them."""
    report, output = run(launcher, "/usr/bin/printf", "%s", "x" * 131_000)
    assert report is not None
    assert output == b"x" * 131_000


@pytest.mark.slow
def test_plain_subprocess_leaves_a_grandchild(tmp_path: Path, holders: Holders) -> None:
    """The control: what these tests look for is there when nobody prevents it."""
    marker = unique()
    with pytest.raises(subprocess.TimeoutExpired):
        subprocess.run(
            ["/bin/sh", "-c", ESCAPE + "sleep 600", "sh", str(holders.path), marker],
            stdout=subprocess.DEVNULL,
            env={**os.environ, "MARKER": marker},
            timeout=0.3,
        )
    assert holders.came()
    assert holders.held()
    survivors = alive(marker)
    assert survivors
    for pid in survivors:
        os.kill(pid, signal.SIGKILL)
    assert holders.gone()


@pytest.mark.slow
def test_a_timeout_ends_a_grandchild_that_left_the_session(
    launcher: Launcher, holders: Holders
) -> None:
    """Although it called setsid and holds stdout, it is gone, and the output ends."""
    marker = unique()
    report, _ = run(
        launcher,
        *("/bin/sh", "-c", ESCAPE + "sleep 600", "sh", str(holders.path), marker),
        timeout_s=0.3,
        grace_s=0.2,
    )
    assert report is not None
    assert report.ended == words.TIMEOUT
    assert report.survivors == 0
    assert holders.gone()
    assert alive(marker) == []


def test_the_end_of_a_child_is_the_end_of_its_tree(launcher: Launcher, holders: Holders) -> None:
    """A daemon that outlives a child that ended well is found, killed and counted."""
    marker = unique()
    gate = f"{holders.path}.gate"
    os.mkfifo(gate)

    def opened(_child: Child) -> None:
        assert holders.came()
        Path(gate).write_text("go\n", encoding="utf-8")

    argv = ["sh", "-c", ESCAPE + 'read go <"$3"', "sh", str(holders.path), marker, gate]
    start = Start("/bin/sh", argv, {"PATH": os.defpath}, "/")
    report = launcher.run(start, stdout=len, stderr=len, started=opened)
    assert report is not None
    assert (report.exit, report.ended) == (0, words.BY_ITSELF)
    assert (report.strays, report.survivors) == (1, 0)
    assert holders.gone()
    assert alive(marker) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "script",
    [
        "trap '' TERM HUP INT; while :; do sleep 600; done",
        "kill -STOP $$; sleep 600",
        "exec <&- >&- 2>&-; sleep 600",
        "trap '' TERM; setsid sh -c 'kill -STOP $$; sleep 600' & sleep 600",
    ],
    ids=["ignores-term", "stops-itself", "closes-stdio", "stopped-grandchild"],
)
def test_a_child_that_resists_is_ended(launcher: Launcher, script: str) -> None:
    """Ignoring SIGTERM, stopping itself or closing its streams does not keep a tree alive."""
    marker = unique()
    report, _ = run(launcher, "/bin/sh", "-c", script, marker, marker, timeout_s=0.3, grace_s=0.1)
    assert report is not None
    assert report.ended == words.TIMEOUT
    assert report.duration_ms < 5_000
    assert alive(marker) == []


@pytest.mark.slow
def test_a_child_may_clean_up_in_its_grace(launcher: Launcher) -> None:
    """SIGTERM comes first, and what a child writes then is kept."""
    script = "trap 'echo cleaned; exit 0' TERM; echo begun; sleep 600 & wait"
    report, output = run(launcher, "/bin/sh", "-c", script, timeout_s=0.3, grace_s=10)
    assert report is not None
    assert (report.ended, report.exit) == (words.TIMEOUT, 0)
    assert output == b"begun\ncleaned\n"
    assert report.duration_ms < 5_000


def test_what_a_tree_used_is_counted(launcher: Launcher) -> None:
    """CPU time of grandchildren counts, also of those that were orphaned."""
    script = "i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done"
    report, _ = run(launcher, "/bin/sh", "-c", f"sh -c '{script}'; true")
    assert report is not None
    assert report.cpu_ms >= 20
    assert report.duration_ms >= report.cpu_ms // 2
    assert report.peak_kib > 1_000


def test_a_killed_launcher_is_replaced_and_its_children_are_gone(
    launcher: Launcher, holders: Holders
) -> None:
    """Its death ends what is under way, and the next child gets a new launcher."""
    marker = unique()

    def killed(_child: Child) -> None:
        assert holders.came()
        os.kill(launcher._pid, signal.SIGKILL)

    script = ESCAPE + "sleep 600"
    argv = ["/bin/sh", "-c", script, "sh", str(holders.path), marker]
    start = Start("/bin/sh", argv, {"PATH": os.defpath}, "/")
    report = launcher.run(start, stdout=len, stderr=len, started=killed)
    assert report is not None
    assert report.ended == words.NO_LAUNCHER
    assert holders.gone()
    assert all_gone(marker)
    again, output = run(launcher, "/bin/echo", "again")
    assert again is not None
    assert output == b"again\n"


def test_a_tree_whose_supervisor_was_killed_is_gone(launcher: Launcher, holders: Holders) -> None:
    """A child that kills its supervisor escapes neither itself nor by a grandchild."""
    marker = unique()
    script = ESCAPE + 'read line <"$3"; kill -9 $PPID; sleep 600'
    gate = str(holders.path) + ".gate"
    os.mkfifo(gate)

    def opened(_child: Child) -> None:
        assert holders.came()
        Path(gate).write_text("go\n", encoding="utf-8")

    argv = ["/bin/sh", "-c", script, "sh", str(holders.path), marker, gate]
    start = Start("/bin/sh", argv, {"PATH": os.defpath}, "/")
    assert launcher.run(start, stdout=len, stderr=len, started=opened) is None
    assert holders.gone()
    assert all_gone(marker)
    again, _ = run(launcher, "/bin/true")
    assert again is not None


def parent(launcher: Launcher) -> int:
    """Return the pid of the supervisor of a child that ends by itself."""
    _report, output = run(launcher, "/bin/sh", "-c", "echo $PPID")
    return int(output)


def test_a_supervisor_stays_for_the_next_child(launcher: Launcher) -> None:
    """It is one and the same, and the second child gets no more than the first one."""
    assert parent(launcher) == parent(launcher)
    _report, output = run(launcher, "/bin/ls", "/proc/self/fd")
    assert output.split() == [b"0", b"1", b"2", b"3"]
    _report, output = run(launcher, "/usr/bin/env")
    assert sorted(output.split()) == [b"A=1", b"PATH=" + os.defpath.encode()]
    _report, output = run(launcher, "/bin/sh", "-c", "echo $$; cut -d' ' -f5,6 /proc/$$/stat")
    pid, group, session = output.split()
    assert pid == group == session


def test_what_a_child_used_is_not_counted_for_the_next(launcher: Launcher) -> None:
    """Neither the processor time nor the memory of one child stands in the report of another."""
    hungry = "x = bytearray(96 << 20); [None for _ in range(3_000_000)]"
    first, _ = run(launcher, sys.executable, "-I", "-S", "-c", hungry)
    second, _ = run(launcher, "/bin/true")
    assert first is not None
    assert second is not None
    assert first.stays
    assert (first.peak_kib > 96 << 10, second.peak_kib < 48 << 10) == (True, True)
    assert (first.cpu_ms >= 20, second.cpu_ms < 20) == (True, True)


@pytest.mark.parametrize(
    ("script", "fields"),
    [
        ("sleep 600 & exit 0", {}),
        ("sleep 600", {"timeout_s": 0.1, "grace_s": 0.1}),
    ],
    ids=["a-stray", "a-timeout"],
)
def test_a_supervisor_with_more_to_do_than_to_wait_stays_only_when_nothing_is_left(
    launcher: Launcher, script: str, fields: dict[str, float]
) -> None:
    """It stays after a tree that ended by itself, once what was left is killed, or else it goes."""
    report, output = run(launcher, "/bin/sh", "-c", f"echo $PPID; {script}", **fields)
    assert report is not None
    assert bool(report.stays) == (report.ended == words.BY_ITSELF)
    assert (parent(launcher) == int(output)) == bool(report.stays)


def test_a_supervisor_that_was_killed_while_it_stayed_is_replaced(launcher: Launcher) -> None:
    """Nobody hears of it but the next child's request, which another one takes."""
    first = parent(launcher)
    os.kill(first, signal.SIGKILL)
    assert gone([first])
    assert parent(launcher) != first


def test_a_launcher_that_was_killed_while_a_supervisor_stayed_is_replaced(
    launcher: Launcher,
) -> None:
    """The supervisor ends with it, and what is asked next starts."""
    first = parent(launcher)
    os.kill(launcher._pid, signal.SIGKILL)
    assert gone([first])
    assert parent(launcher) != first


def test_a_waiting_child_that_was_killed_is_replaced(launcher: Launcher) -> None:
    """Nothing was started, which the next request finds out before it is made."""
    first = parent(launcher)
    until(lambda: descendants(first), "the next child waits")
    (waiting,) = descendants(first)
    os.kill(waiting, signal.SIGKILL)
    assert gone([waiting])
    assert parent(launcher) != first
    assert gone([first])


def test_a_child_of_which_its_supervisor_hears_nothing_is_ended_with_its_tree(
    launcher: Launcher, holders: Holders
) -> None:
    """Whoever is killed between the two messages leaves nothing, although the child runs."""
    first, marker = parent(launcher), unique()
    staying = launcher._staying.pop()
    argv = ["/bin/sh", "-c", ESCAPE + "sleep 600", "sh", str(holders.path), marker]
    frame = Start("/bin/sh", argv, {"PATH": os.defpath}, "/").frame()
    null = os.open(os.devnull, os.O_WRONLY)
    pass_on(staying.errand, frame, [null, null])
    os.close(null)
    assert holders.came()
    assert len(descendants(first)) >= 2
    staying.close()
    assert holders.gone()
    assert all_gone(marker)
    assert gone([first])


def test_a_word_for_one_child_does_not_reach_the_next(launcher: Launcher) -> None:
    """Whoever is asked to end when it has ended already takes its supervisor with it."""
    children: list[Child] = []
    start = Start("/bin/sh", ["/bin/sh", "-c", "exit 0"], {"PATH": os.defpath}, "/")
    for told in (Child.ask, Child.kill):
        assert launcher.run(start, stdout=len, stderr=len, started=children.append) is not None
        # Its socket is the next child's by now.
        told(children[-1])
        report, output = run(launcher, "/bin/echo", "unharmed")
        assert report is not None
        assert (report.ended, report.exit, output) == (words.BY_ITSELF, 0, b"unharmed\n")
    report = launcher.run(start, stdout=len, stderr=len, started=Child.kill)
    assert report is not None
    assert parent(launcher)


def test_a_supervisor_does_not_grow(launcher: Launcher) -> None:
    """What one child leaves in its memory and its descriptors is gone before the next."""
    staying = parent(launcher)
    for _ in range(20):
        run(launcher, "/bin/true")
    before = held(staying)
    for _ in range(150):
        run(launcher, "/bin/true")
    assert parent(launcher) == staying
    after = held(staying)
    assert after[0] == before[0]
    assert after[1] <= before[1] + 64


def held(pid: int) -> tuple[int, int]:
    """Return how many descriptors, and how many KiB of its own, a process holds that rests."""
    seen: list[int] = []

    def rests() -> bool:
        seen.append(counted(pid, "voluntary_ctxt_switches"))
        time.sleep(0.05)
        return seen[-1] == counted(pid, "voluntary_ctxt_switches")

    until(rests, "it rests")
    return len(list(Path(f"/proc/{pid}/fd").iterdir())), counted(pid, "RssAnon")


def counted(pid: int, name: str) -> int:
    """Return a number of what the kernel says of a process."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(f"{name}:")))


def test_children_at_once_have_a_supervisor_each(launcher: Launcher) -> None:
    """Those that stay are asked first, and no more stay than are worth it."""
    start = Start("/bin/sh", ["/bin/sh", "-c", "echo $PPID"], {"PATH": os.defpath}, "/")
    # None is followed to its end before the last one has started.
    together = Barrier(12, timeout=SOON_S)
    heard: list[bytes] = []

    def child(_index: int) -> None:
        launcher.run(start, stdout=heard.append, stderr=len, started=lambda _: together.wait())

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(child, range(12)))
    supervisors = {int(output) for output in heard}
    assert len(supervisors) == 12
    assert len(launcher._staying) == STAYING_MAX
    assert parent(launcher) in supervisors


DRIVER = """
import sys
from runwright.adapters.children import Launcher, Start
launcher = Launcher()
start = Start("/bin/sh", ["/bin/sh", *sys.argv[1:]], {"PATH": "/usr/bin:/bin"}, "/")
launcher.run(start, stdout=len, stderr=len, started=lambda child: None)
"""


@pytest.mark.slow
@pytest.mark.parametrize("script", ["sleep 600", "trap '' TERM; sleep 600; sleep 600"])
def test_no_descendant_survives_a_killed_conductor(script: str, holders: Holders) -> None:
    """SIGKILL of the conductor ends every tree that it started, without its help."""
    marker = unique()
    package = str(Path(runwright.__file__).parents[1])
    argv = [sys.executable, "-c", DRIVER, "-c", ESCAPE + script, "sh", str(holders.path), marker]
    with subprocess.Popen(argv, env={"PYTHONPATH": package, "MARKER": marker}) as driver:
        assert holders.came()
        until(lambda: len(alive(marker)) >= 3, "the whole tree runs")
        driver.kill()
    assert holders.gone()
    assert all_gone(marker)


def test_without_a_launcher_nothing_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """When no launcher can be started, it is said and nothing ran."""
    monkeypatch.setattr(sys, "executable", "/bin/false")
    broken = Launcher()
    with pytest.raises(LauncherLost):
        run(broken, "/bin/true")
    broken.close()


@pytest.mark.parametrize("asked", [0, 1, 3])
def test_a_closed_launcher_leaves_no_process(asked: int) -> None:
    """Closing ends the launcher and what it kept ready, also when it was never asked."""
    made = Launcher()
    made.start()
    for _ in range(asked):
        run(made, "/bin/true")
    pids = [made._pid, *descendants(made._pid)]
    made.close()
    assert gone(pids)
    made.close()


def test_a_killed_launcher_leaves_no_process() -> None:
    """What it kept ready ends with it."""
    made = Launcher()
    run(made, "/bin/true")
    pids = descendants(made._pid)
    os.kill(made._pid, signal.SIGKILL)
    assert gone(pids)
    made.close()


def gone(pids: list[int]) -> bool:
    """Wait until none of these processes runs."""
    until = time.monotonic() + SOON_S
    while any(runs(pid) for pid in pids):
        if time.monotonic() > until:
            return False
        os.sched_yield()
    return True


def runs(pid: int) -> bool:
    """Say whether a process is there and no zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
