"""Hostile children at every level, as root and as another user: what the table says is what is.

*contained* must fail by its witness, *open* must be seen to succeed, so that the table cannot rot.
Nothing may be left running by anybody. Without `--campaign` the other user tries a part of what
holds for all users alike.
"""

from __future__ import annotations

import pytest

from tests.e2e.project import Project
from tests.escape.attacks import LEVELS, USERS, Level, User, attacks, is_shown
from tests.escape.looking import processes
from tests.escape.performing import (
    came_to,
    is_root,
    mismatches,
    perform,
    selected,
    unable,
    unheld,
    unshown,
)

pytestmark = pytest.mark.slow
#: What is tried of a child of a template, the first of it by both users: to stay, and to reach
#: what is around it.
WARM = (
    *("double_fork", "read_key", "write_new", "kill_supervisor", "trace_supervisor", "fork_bomb"),
    *("read_own_environment", "inherited_descriptors", "outlive_supervisor", "daemon", "relay"),
    *("own_session", "fork_at_exit", "respawn", "pester", "ignore_term", "stop_supervisor"),
    *("outlive_conductor", "outlive_launcher", "read_store", "read_scratch", "kill_launcher"),
    *("environment_of_conductor", "memory_by_call", "trace_launcher", "kill_bystander"),
    *("write_by_descriptor", "leave_shared_memory", "offline_tcp_connect", "keep_rights"),
    *("offline_path_connect", "take_memory", "large_file", "print_secret", "result_pipe"),
)
#: Seen by the environment that a process began with, which a fork shares with its template.
BY_ENVIRONMENT = {"thread_bomb_by_default", "take_memory_by_many"}
#: What some machines stop by themselves.
UNSHOWN = ("raise_limits", "read_disk", "set_user_program", "io_uring", "mount_in_namespace")


def check_able(user: User) -> None:
    """Skip what these tests cannot be."""
    if user == "root" and not is_root():
        pytest.skip("needs root to attack as root")
    if reason := unable():
        pytest.skip(reason)


@pytest.mark.proves("isolation")
@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("level", LEVELS)
def test_every_attack_comes_to_what_the_table_says(
    level: Level, user: User, is_campaign: bool, record_property: pytest.RecordProperty
) -> None:
    """In both directions; no process survives; the level in the record is the one applied."""
    check_able(user)
    if reason := unheld(level, user):
        pytest.skip(f"{level} is refused to {user}: {reason}")
    names = selected(level, user, is_campaign=is_campaign)
    names -= {name for name in unshown(user) if name in names}
    answers = perform(level, user, only=names, is_campaign=is_campaign)
    assert set(answers) == names
    assert mismatches(answers, level, user) == []
    assert [seen for seen in answers.values() if seen["survivors"]] == []
    refused = {name for name, seen in answers.items() if seen.get("reason") == "refused"}
    beyond = {"T0": ("offline_", "granted_"), "T1": ("granted_",), "T2": ()}[level]
    assert refused == {name for name in names if name.startswith(beyond)}
    assert {answers[name]["level"] for name in names - refused} == {level}
    words = [came_to(seen) for seen in answers.values()]
    counts = {word: words.count(word) for word in ("contained", "detected", "open")}
    record_property(f"{level} {user}", f"{len(words)} tried, {counts}, 0 survivors")


@pytest.mark.proves("isolation")
@pytest.mark.parametrize("user", USERS)
def test_a_child_of_a_template_comes_no_further(
    user: User, is_campaign: bool, record_property: pytest.RecordProperty
) -> None:
    """Forked warm, it comes to what the table says of T1; without `--campaign` some are tried."""
    check_able(user)
    names = selected("T1", user, is_campaign=is_campaign)
    if not is_campaign:
        names = (
            {name for name in names if name in WARM} if user == "root" else names & set(WARM[:9])
        )
    names -= set(unshown(user))
    answers = perform("T1", user, only=names, is_campaign=is_campaign, is_warm=True)
    assert set(answers) == names
    assert mismatches(answers, "T1", user) == []
    assert [seen for seen in answers.values() if seen["survivors"]] == []
    states = {name: seen.get("warmth", {}).get("state") for name, seen in answers.items()}
    # What attacks the record itself, or ends with its conductor, leaves no word of how it started.
    assert set(states.values()) <= {"warm", None}, answers
    assert [name for name in states if states[name] is None and not _is_alone(name)] == []
    record_property(f"warm {user}", f"{len(answers)} tried, 0 survivors")


def _is_alone(name: str) -> bool:
    return any(each.name == name and each.alone for _topic, each in attacks())


def test_what_no_level_lets_work_works_without_any(is_campaign: bool) -> None:
    """The control: run by a plain script, the same children are seen to get what they want."""
    check_able("other")
    names = {each.name for _topic, each in attacks() if not is_shown(each) and not each.alone}
    names -= set(unshown("other"))
    if not is_campaign:
        names = set(sorted(names)[::2])
    answers = perform("bare", "other", only=names)
    assert set(answers) == names
    failed = {name: seen for name, seen in answers.items() if came_to(seen) == "contained"}
    assert failed == {}


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("name", UNSHOWN)
def test_this_machine_can_show(name: str, user: User) -> None:
    """An attack that the machine itself stops proves nothing about a level: it is counted here."""
    check_able(user)
    if name in unshown(user):
        pytest.skip(f"{name}: {unshown(user)[name]}")
    assert any(each.name == name for _topic, each in attacks())


@pytest.mark.parametrize("level", LEVELS)
def test_a_command_given_by_hand_is_held_to_its_level(project: Project, level: Level) -> None:
    """`exec` writes outside at T0, else only where that is granted, and nothing of it stays."""
    if reason := unheld(level, "root" if is_root() else "other"):
        pytest.skip(f"{level} is refused: {reason}")
    target, granted = project.base / "outside", project.folder / "granted"
    granted.mkdir()
    script = f"echo x > {granted}/file; setsid sleep 600 & echo x > {target}"
    argv = ["exec", "--level", level, "--write", str(granted), "--", "sh", "-c", script]
    done = project.run(*argv)
    assert (granted / "file").exists()
    assert target.exists() is (level == "T0"), done
    (body,) = project.bodies("run.finished")
    assert body["level"] == level
    assert "outlived it and were killed" in body["message"] or body["reason"] == "exit"
    run = project.entries("run.finished")[0]["run"]
    assert [each for each in processes().values() if each.is_of(run)] == []
