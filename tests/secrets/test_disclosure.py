"""What no masker can keep: a value that its owner wrote down, or a function disguised."""

from __future__ import annotations

import re

import pytest

from tests.e2e.project import Project
from tests.secrets.canaries import CANARIES
from tests.secrets.channels import HEAD, environment, granted
from tests.secrets.search import Search, kept
from tests.tidy.tree import REPOSITORY

VALUE = CANARIES["CANARY_ASCII"].decode()
TOKEN = {"CANARY_ASCII": CANARIES["CANARY_ASCII"]}
GUIDES = REPOSITORY / "docs/guides"


@pytest.mark.slow
def test_a_value_written_into_a_spec_is_recorded_as_documented(project: Project) -> None:
    """Arguments and task_config are on the record as they are; what is printed is masked still."""
    source = HEAD + "print(sys.argv[1:], CONFIG['key'])\nleave({'config': CONFIG})\n"
    project.apply(project.task("a", source, args=[VALUE], key=VALUE, **granted(TOKEN)))
    project.done("run", "demo", env=environment(TOKEN))
    search = Search(TOKEN)
    assert {leak.canary for leak in search.look_all(kept(project))} == set(TOKEN)
    for stream in ("stdout", "stderr"):
        kept_of_it = project.done("show", "latest", "--output", stream).stdout
        assert search.look(stream, kept_of_it.encode()) == set()
    (finished,) = project.bodies("run.finished")
    assert search.look("run.finished", repr(finished).encode()) == set()
    handing, erasing = (
        re.sub(r"\s+", " ", (GUIDES / name).read_text(encoding="utf-8"))
        for name in ("hand-a-bundle-to-an-auditor.md", "erase-captured-output.md")
    )
    assert "The bundle holds the spec, the configuration and the output" in handing
    assert "cannot be erased; neither can the spec, the roster and the facts." in erasing


@pytest.mark.slow
def test_a_command_that_holds_its_secret_is_refused_before_it_is_recorded(
    project: Project,
) -> None:
    """A shell that put the value into the command is noticed, and nothing of it is kept."""
    size = len(project.entries())
    words = ("exec", "--secret", "CANARY_ASCII", "--", "curl", "-H", f"Bearer {VALUE}")
    done = project.done(*words, status=2, env=environment(TOKEN))
    assert done.error == (
        "usage",
        "the command holds the value of CANARY_ASCII, and a command is recorded as it is",
    )
    assert len(project.entries()) == size
    search = Search(TOKEN)
    told = (done.stdout + done.stderr).encode()
    assert search.look_all([("exec", told), *kept(project)]) == set()
    # The control: the same words without the declaration are recorded.
    project.run(*words[:1], *words[3:], env=environment(TOKEN))
    assert search.look_all(kept(project)) != set()


@pytest.mark.slow
def test_a_command_may_read_its_secret_from_the_variable(project: Project) -> None:
    """The way that the refusal names works, and leaves nothing."""
    words = ("exec", "--secret", "CANARY_ASCII", "--", "sh", "-c", 'echo "$CANARY_ASCII"')
    done = project.done(*words, env=environment(TOKEN))
    assert done.stdout == "[secret:CANARY_ASCII]\n"
    assert Search(TOKEN).look_all(kept(project)) == set()


@pytest.mark.slow
def test_a_disguise_that_no_masker_knows_passes_as_documented(project: Project) -> None:
    """Reversed, letter by letter, shifted: kept as written, and the reference calls that open."""
    source = HEAD + (
        "value = CANARIES[b'CANARY_ASCII'].decode()\n"
        "print(value[::-1])\nprint(*value)\nprint(''.join(chr(ord(c) ^ 1) for c in value))\n"
    )
    project.apply(project.task("a", source, **granted(TOKEN)))
    project.done("run", "demo", env=environment(TOKEN))
    lines = project.done("show", "latest", "--output", "stdout").stdout.splitlines()
    assert lines == [VALUE[::-1], " ".join(VALUE), "".join(chr(ord(sign) ^ 1) for sign in VALUE)]
    text = (REPOSITORY / "docs/reference/isolation.md").read_text(encoding="utf-8")
    (row,) = [line for line in text.splitlines() if "that no masker knows" in line]
    states = {cell.strip() for cell in row.strip("|").split("|")[1:]} - {""}
    assert states == {"open"}
