"""Sabotaged builds: where one part of the isolation is taken out, the same suite reports it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import pytest

from tests.escape.attacks import Level, attacks
from tests.escape.performing import came_to, is_root, mismatches, perform, unable, unheld, unshown

pytestmark = pytest.mark.slow


class Build(NamedTuple):
    """A build without one of its parts, and the attacks that get through it."""

    level: Level
    edits: Mapping[str, tuple[str, str]]
    escapes: tuple[str, ...]


PROCESSES, SUPERVISOR = "adapters/processes.py", "adapters/supervisor.py"
COMMANDS = "adapters/commands.py"
SANDBOX, LAUNCHER = "adapters/sandbox.py", "adapters/launcher.py"
CGROUPS = "adapters/cgroups.py"
BUBBLEWRAP, NAMESPACES = "adapters/bubblewrap.py", "adapters/namespaces.py"
FORWARDER = "adapters/forwarder.py"
#: Goes where it is asked to, as a proxy would.
OBLIGING = (
    "(lambda asked: (asked[0], int(asked[1])))(inner.recv(4096).decode().split()[1].split(':'))"
)

BUILDS = {
    "no subreaper": Build(
        "T0",
        {PROCESSES: ("CHILD_SUBREAPER: Final = 36", "CHILD_SUBREAPER: Final = 37")},
        ("double_fork", "daemon", "fork_at_exit"),
    ),
    "descendants are not killed": Build(
        "T0",
        {SUPERVISOR: ("survivors = self._kill()", "survivors = 0")},
        ("own_session", "hold_stdout", "hold_stderr", "respawn"),
    ),
    "the end of the conductor is not noticed": Build(
        "T0",
        {
            SUPERVISOR: (
                "self._end(STOPPED if word else NO_CONDUCTOR, urgent=word != ASK)",
                "self.events.unregister(descriptor)",
            )
        },
        ("outlive_conductor",),
    ),
    "the end of the launcher is not noticed": Build(
        "T0",
        {
            SUPERVISOR: (
                "self._end(NO_LAUNCHER, urgent=True)",
                "self.events.unregister(descriptor)",
            )
        },
        ("outlive_launcher",),
    ),
    "what a killed supervisor leaves is not killed": Build(
        "T0",
        {LAUNCHER: ("                self._kill_left()", "                pass")},
        ("outlive_supervisor",),
    ),
    "no Landlock": Build(
        "T1",
        {SANDBOX: ("self._must(self._sys(_LANDLOCK_RESTRICT, rules, 0))", "pass")},
        ("write_new", "write_by_link", "read_key", "read_store", "kill_bystander"),
    ),
    "no system call is refused": Build(
        "T1",
        {SANDBOX: ("_REFUSE: Final = 0x00050000", "_REFUSE: Final = 0x7FFF0000")},
        ("offline_udp_send", "offline_path_connect", "leave_key", "io_uring", "catch_faults"),
    ),
    "forks are not counted": Build(
        "T1",
        {CGROUPS: ("str(most)", '"max"')},
        ("thread_bomb", "fork_bomb"),
    ),
    "rights are kept": Build(
        "T1",
        {
            SANDBOX: (
                'self._must(self._capset(struct.pack("=Ii", _CAPABILITY_VERSION, 0), bytes(24)))',
                "pass",
            )
        },
        ("keep_rights", "change_owner"),
    ),
    "the network is that of the machine": Build(
        "T2",
        {
            BUBBLEWRAP: ('*(["--unshare-net"] if network else [])', "*[]"),
            # What was granted is in use there, by who listens.
            NAMESPACES: ('if wish["doors"] else (0, None)', "if False else (0, None)"),
        },
        (
            "granted_tcp_connect",
            "granted_tcp_connect_new",
            "granted_scan_ports",
            "granted_udp_send",
        ),
    ),
    "the forwarder goes where it is told": Build(
        "T2",
        {FORWARDER: ("outer = connected(target)", f"outer = connected({OBLIGING})")},
        ("granted_ask_forwarder",),
    ),
    "any socket may be made where something is granted": Build(
        "T2",
        {
            COMMANDS: (
                'sandbox["reach"] = isinstance(command.network, tuple)',
                'sandbox["reach"] = False',
            )
        },
        ("granted_path_connect", "granted_aimed_pair", "granted_netlink"),
    ),
    "the store is not hidden": Build(
        "T2",
        {BUBBLEWRAP: ("*_hidden(private, shown, scratch),", "")},
        ("see_private",),
    ),
    "other processes are seen": Build(
        "T2",
        {BUBBLEWRAP: ('        "--unshare-pid",\n', "")},
        ("list_processes", "arguments_of_bystander"),
    ),
    "what is shown may be changed": Build(
        "T2",
        {
            BUBBLEWRAP: (
                '("--ro-bind", "/", "/", "--tmpfs", "/dev")',
                '("--bind", "/", "/", "--tmpfs", "/dev")',
            )
        },
        ("change_mode", "change_times", "change_attribute"),
    ),
}


@pytest.mark.parametrize("name", BUILDS)
def test_a_build_without_a_part_is_caught(name: str) -> None:
    """What that part holds back is seen to escape, by the witnesses of the suite."""
    if reason := unable():
        pytest.skip(reason)
    if not is_root():
        pytest.skip("needs root: the sabotaged parts hold for root")
    build = BUILDS[name]
    if reason := unheld(build.level, "root"):
        pytest.skip(f"{build.level} is refused: {reason}")
    names = set(build.escapes) - set(unshown("root"))
    answers = perform(build.level, "root", only=names, edits=build.edits)
    assert {each for each, seen in answers.items() if came_to(seen) == "open"} == names
    assert len(mismatches(answers, build.level, "root")) == len(names)


def test_every_build_names_attacks_of_the_table() -> None:
    """A control of something that is not tried would prove nothing."""
    known = {attack.name for _topic, attack in attacks()}
    assert {each for build in BUILDS.values() for each in build.escapes} <= known
