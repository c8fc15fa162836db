"""What a document shows is what happens: its shell examples run, and print what it says.

In a fenced block called `console`, a line after `$ ` is a command, one after `> ` continues it, and
the lines below are what it prints. A line `...` stands for any lines. All commands of a document
run in one shell, in an empty folder that has the repository's examples beside it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.tidy.tree import REPOSITORY

DOCUMENTS = (
    "README.md",
    "docs/tutorial/first-cycle.md",
    "docs/tutorial/first-stream.md",
    "docs/reference/service.md",
)
BLOCK = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
#: Where documents pretend to be.
HOME = "/home/ada/runwright"
#: What the shell prints between the outputs of two commands.
BORDER = "--- example ---"
ANYTHING = "..."
#: What differs from run to run, in this order, and what stands for it.
CHANGING = (
    (re.compile(r"CYCLE_\d{8}_\d{6}(_\d+)?"), "CYCLE"),
    (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?Z?"), "TIME"),
    (re.compile(r"(?<![0-9A-Za-z+/])[0-9A-Za-z+/]{40,}={0,2}(?![0-9A-Za-z+/=])"), "BYTES"),
    (re.compile(r"\b[0-9a-f]{12,}\b"), "DIGEST"),
    (re.compile(r"\+[0-9a-f]{8}\b"), "+KEY"),
    (re.compile(r"\b\d+\.\d+\b"), "NUMBER"),
    (re.compile(r"\b\d+ bytes"), "SIZE bytes"),
    # A machine with an older kernel holds T0.
    (re.compile(r"\bT[01]\b"), "LEVEL"),
    (re.compile(r"[ \t]+"), " "),
)


class Example(NamedTuple):
    """A command, and what a document says that it prints."""

    command: str
    expected: tuple[str, ...]


def examples(text: str) -> Iterator[Example]:
    """Yield the examples of a document, in order."""
    for block in BLOCK.findall(text):
        command, expected = "", list[str]()
        for line in block.splitlines():
            if line.startswith("$ "):
                if command:
                    yield Example(command, tuple(expected))
                command, expected = line[2:], []
            elif (line == ">" or line.startswith("> ")) and not expected:
                command += f"\n{line[2:]}"
            else:
                expected.append(line)
        yield Example(command, tuple(expected))


def run(commands: Sequence[str], folder: Path) -> list[str]:
    """Run commands one after the other in one shell; return what each prints, errors included."""
    home = folder / "runwright"
    shutil.copytree(
        REPOSITORY / "examples", home / "examples", ignore=shutil.ignore_patterns("__pycache__")
    )
    # The status of a command is still there for the next one: `echo $?` works.
    border = f'\nstatus=$?; echo "{BORDER}"; (exit $status)\n'
    done = subprocess.run(
        ["bash"],
        input=border.join(commands) + "\n",
        cwd=home,
        env={
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(folder),
            "USER": "ada",
            "LC_ALL": "C.UTF-8",
            # What a reader sees on a terminal.
            "RUNWRIGHT_MESSAGES_FORM": "human",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=120,
    )
    return done.stdout.replace(str(home), HOME).split(f"{BORDER}\n")


def normal(line: str) -> str:
    """Return a line without what differs from run to run."""
    for pattern, word in CHANGING:
        line = pattern.sub(word, line)
    return line.strip()


def agrees(expected: Sequence[str], printed: Sequence[str]) -> bool:
    """Say whether lines are those expected, where one `...` stands for any lines."""
    if ANYTHING not in expected:
        return [*map(normal, expected)] == [*map(normal, printed)]
    place = expected.index(ANYTHING)
    above, below = expected[:place], expected[place + 1 :]
    return len(printed) >= len(above) + len(below) and (
        agrees(above, printed[: len(above)])
        and any(agrees(below, printed[start:]) for start in range(len(above), len(printed) + 1))
    )


def lies(text: str, folder: Path) -> list[str]:
    """Return the commands of a document that print something else than it says, with the output."""
    shown = list(examples(text))
    printed = run([example.command for example in shown], folder)
    assert len(printed) == len(shown), f"the shell ended early:\n{printed[-1]}"
    return [
        f"$ {example.command}\n{output}"
        for example, output in zip(shown, printed, strict=True)
        if not agrees(_stripped(example.expected), _stripped(output.splitlines()))
    ]


def _stripped(lines: Sequence[str]) -> list[str]:
    """Return lines without the empty ones: a fence cannot end with one."""
    return [line for line in lines if line.strip()]


@pytest.mark.slow
@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_example_prints_what_the_document_says(document: str, tmp_path: Path) -> None:
    """A reader who types the commands sees the same, but for times, ids and durations."""
    text = (REPOSITORY / document).read_text(encoding="utf-8")
    assert sum(1 for _ in examples(text)) >= 5
    assert lies(text, tmp_path) == []


WRONG = {
    "output": "$ echo one\ntwo\n",
    "status": "$ false\n$ echo $?\n0\n",
    "missing": "$ printf 'one\\ntwo\\n'\none\n",
    "too-much": "$ echo one\none\ntwo\n",
    "elided": "$ printf 'one\\ntwo\\n'\none\n...\nthree\n",
    "error": "$ runwright show\nNothing ran yet.\n",
}


@pytest.mark.parametrize("example", WRONG.values(), ids=list(WRONG))
def test_a_wrong_example_is_caught(example: str, tmp_path: Path) -> None:
    """The control: each is wrong in one way, and each is named with what it really prints."""
    (lie,) = lies(f"# Title\n\n```console\n{example}```\n", tmp_path)
    assert lie.startswith("$ ")


def test_a_right_example_is_not_caught(tmp_path: Path) -> None:
    """Times, ids, durations, widths and elided lines may differ; the folder is the shell's."""
    text = """
```console
$ mkdir inner && cd inner
$ pwd
/home/ada/runwright/inner
$ echo "at 2026-01-01T00:00:00Z   took 0.25 s, CYCLE_20260101_000000"
at 2020-12-31T23:59:59Z took 17.1 s, CYCLE_20250101_000000_2
```

text between

```console
$ printf 'first\\n%s\\nlast\\n' \\
>   between
first
...
last
$ basename "$PWD"; ls ../examples/market/cycle.yaml
inner
../examples/market/cycle.yaml
```
"""
    assert lies(text, tmp_path) == []
