"""What an operator sees on a terminal, and what a machine sees instead."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import time

from tests.e2e.project import SOON_S, Project
from tests.e2e.streams import stream

HELLO = "print('hello')\n"


def on_terminal(project: Project, *words: str, **env: str) -> tuple[int, str]:
    """Give one command with a terminal for stdout and stderr; return its status and the screen."""
    primary, secondary = pty.openpty()
    process = subprocess.Popen(
        project._argv(words),
        cwd=project.folder,
        env={**project.environment, "TERM": "xterm-256color", "COLUMNS": "200", **env},
        stdin=secondary,
        stdout=secondary,
        stderr=secondary,
        start_new_session=True,
    )
    os.close(secondary)
    screen, deadline_s = b"", time.monotonic() + SOON_S
    try:
        while time.monotonic() < deadline_s:
            if select.select([primary], [], [], 0.1)[0]:
                try:
                    data = os.read(primary, 4096)
                except OSError:
                    break  # how Linux says that nobody holds the other side any more
                screen += data
        return process.wait(SOON_S), screen.decode().replace("\r\n", "\n")
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        os.close(primary)


def normal(project: Project, screen: str) -> str:
    """Return a screen without what differs from one run to the next."""
    screen = screen.replace(str(project.folder), "PROJECT")
    screen = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "TIME", screen)
    screen = re.sub(r"CYCLE_\d{8}_\d{6}", "CYCLE_ID", screen)
    return re.sub(r"\d+\.\d\d s", "N s", screen)


SNAPSHOT = """\
TIME - vision_ios_orchestrator - INFO - VISION-IOS ORCHESTRATOR v1.0.0
TIME - vision_ios_orchestrator - INFO - Cycle ID: CYCLE_ID
TIME - vision_ios_orchestrator - INFO - Hash Chain: HC-LARS-ORCHESTRATOR-CYCLE_ID
TIME - vision_ios_orchestrator - INFO - Connected to PROJECT/.runwright/store.db
TIME - vision_ios_orchestrator - INFO - Reading tasks from registry...
TIME - vision_ios_orchestrator - INFO - Found 3 enabled functions
TIME - vision_ios_orchestrator - INFO - Cycle start logged: action_id=5
TIME - vision_ios_orchestrator - INFO - [1/3] Executing: vision_signal_inference_baseline \
(Agent: FINN)
TIME - vision_ios_orchestrator - INFO - SUCCESS: vision_signal_inference_baseline (N s)
TIME - vision_ios_orchestrator - INFO - [2/3] Executing: vision_noise_floor_estimator (Agent: STIG)
TIME - vision_ios_orchestrator - ERROR - FAILED: vision_noise_floor_estimator: exit status 3
TIME - vision_ios_orchestrator - INFO - [3/3] Executing: vision_meta_state_sync (Agent: LARS)
TIME - vision_ios_orchestrator - INFO - SUCCESS: vision_meta_state_sync (N s)
TIME - vision_ios_orchestrator - INFO - Cycle COMPLETED_WITH_FAILURES: 3 executed, 2 succeeded, \
1 failed; action_id=12
CYCLE_ID  COMPLETED_WITH_FAILURES  2 done, 1 failed
evidence  PROJECT/out/evidence/CYCLE_ID.json
look      runwright show CYCLE_ID
"""


def test_one_cycle_on_a_terminal_reads_as_its_operators_know_it(project: Project) -> None:
    """Version, cycle id, chain id, functions found, action id, [1/3], result; and no banner."""
    project.apply(
        project.task("vision_signal_inference_baseline", HELLO, agent_id="FINN"),
        project.task("vision_noise_floor_estimator", "raise SystemExit(3)\n", agent_id="STIG"),
        project.task("vision_meta_state_sync", HELLO, agent_id="LARS"),
        title="VISION-IOS ORCHESTRATOR",
    )
    status, screen = on_terminal(project, "run", "demo")
    assert status == 5
    assert normal(project, screen) == SNAPSHOT
    assert screen.isascii()


def test_the_title_and_the_agent_are_those_of_the_spec(project: Project) -> None:
    """The defaults are the names of the seed, not part of the product."""
    names = {"orchestrator": "night_watch", "orchestrator_version": "2.1", "agent": "EVE"}
    project.apply(project.task("a", HELLO), **names)
    _, screen = on_terminal(project, "run", "demo")
    lines = normal(project, screen).splitlines()
    assert lines[0] == "TIME - night_watch - INFO - NIGHT WATCH v2.1"
    assert lines[2] == "TIME - night_watch - INFO - Hash Chain: HC-EVE-ORCHESTRATOR-CYCLE_ID"


def test_colours_are_for_terminals_that_want_them(project: Project) -> None:
    """On a terminal words of the record are coloured; NO_COLOR turns that off everywhere."""
    project.apply(project.task("a", HELLO))
    project.done("run", "demo")
    for words in (("show",), ("show", "latest"), ("doctor",), ("run", "nothing")):
        _, coloured = on_terminal(project, *words)
        assert "\x1b[" in coloured, words
        _, plain = on_terminal(project, *words, NO_COLOR="1")
        assert "\x1b[" not in plain, words
        piped = project.run(*words)
        assert "\x1b[" not in piped.stdout + piped.stderr, words


def test_output_of_a_function_cannot_drive_the_terminal(project: Project) -> None:
    """Neither what it prints nor what it is called."""
    project.apply(project.task("a", "import sys\nsys.exit('\\x1b]0;owned\\x07\\x1b[2J')\n"))
    _, screen = on_terminal(project, "run", "demo", NO_COLOR="1")
    assert "\x1b" not in screen
    _, shown = on_terminal(project, "show", "latest", NO_COLOR="1")
    assert "\x1b" not in shown
    assert "\x07" not in shown


def test_messages_take_the_form_that_is_set(project: Project) -> None:
    """JSON lines on a terminal, lines for people in a pipe, when the setting says so."""
    project.apply(project.task("a", HELLO))
    _, screen = on_terminal(project, "run", "demo", RUNWRIGHT_MESSAGES_FORM="json")
    assert screen.startswith('{"ts":')
    done = project.done("run", "demo", env={"RUNWRIGHT_MESSAGES_FORM": "human"})
    assert "INFO - Cycle COMPLETED: 1 executed" in done.stderr
    quiet = project.done("run", "demo", env={"RUNWRIGHT_MESSAGES_LEVEL": "error"})
    assert quiet.stderr == ""


def test_messages_of_a_stream_stand_on_lines_of_their_own(project: Project) -> None:
    """The line that says how far it is makes room for them, and comes again below."""
    stream(project, engine={"input": "snapshot"})
    status, screen = on_terminal(project, "streams", "run", "toy")
    assert status == 0
    assert "0 failed" in screen
    lines = [line.rpartition("\x1b[K")[2] for line in screen.splitlines()]
    failures = [line for line in lines if "orchestrator.failure" in line]
    assert failures
    assert all(line.startswith("warning: orchestrator.failure") for line in failures)
    assert lines[-1] == "toy: 24 records, 3 ticks, 0 runs completed, 6 failed"
