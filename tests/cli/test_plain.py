"""A plain `run` is read without click, and what it says is what click would have said."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from runwright.cli import plain, run_command
from runwright.cli.root import root

#: Every word that the two commands know, values good and bad, and words that nobody knows.
WORDS = [
    *("run", "three", "show", "", "-", "--", ".", "/", "/nowhere", "a b", "é", "\udcff", "--json"),
    *("--function", "--function=f", "--at", "2026-11-20T06:00:00Z", "--at=x", "--kind", "cycles"),
    *("--kind=cycles", "--dry-run", "--continuous", "--interval", "60", "-1", "--help", "-h"),
    *("--project", "-C", "-C.", "--project=.", "--set", "--set=a=b", "a=b", "=", "--version"),
    *("--js", "--jsonx", "-j", "--no-json"),
]


def by_click(words: list[str], monkeypatch: pytest.MonkeyPatch) -> plain.Asked | None:
    """Return what click makes of the words; None when it ends with help or an error."""
    found: list[plain.Asked] = []

    def note(given, name, options):
        start, said = given
        found.append(plain.Asked(start=str(start), settings=said, name=name, options=options))
        return 0

    with monkeypatch.context() as patch:
        patch.setattr(run_command, "settings", lambda ctx: (ctx.obj["start"], ctx.obj["set"]))
        patch.setattr(run_command.run, "run", note)
        try:
            root.main(words, standalone_mode=False)
        except (click.ClickException, click.exceptions.Exit):
            return None
    return found[0] if found else None


def without_click(words: list[str]) -> plain.Asked | None:
    """Return what is read without click, its folder as the command makes it."""
    asked = plain.read(words)
    if asked is not None:
        asked.start = str(Path(asked.start).absolute())
    return asked


@st.composite
def lines(draw):
    """Words as they are given to `run`, most of them in good order."""
    before = draw(st.lists(st.sampled_from([["-C", "."], ["--project", "/"], ["--set", "a=b"]])))
    after = draw(
        st.lists(
            st.sampled_from([["--json"], ["--function", "f"], ["--at", "x"], ["three"], ["two"]])
        )
    )
    said = [word for each in [*before, ["run"], *after] for word in each]
    for word in draw(st.lists(st.sampled_from(WORDS), max_size=2)):
        said.insert(draw(st.integers(0, len(said))), word)
    return said


@settings(max_examples=400, deadline=None)
@given(words=st.one_of(lines(), st.lists(st.sampled_from(WORDS), max_size=6)))
@example(words=["run", "three"])
@example(words=["run", "--json", "three", "--function", "f", "--at", "x", "--function", "g"])
@example(words=["-C", ".", "--project", "/", "--set", "a=b", "--set", "=", "run", "run"])
def test_a_plain_run_is_read_as_click_reads_it(words):
    """Whatever is said: what is read without click is what click reads, down to the defaults."""
    asked = without_click(words)
    if asked is not None:
        with pytest.MonkeyPatch.context() as patch:
            assert by_click(words, patch) == asked


@pytest.mark.parametrize(
    "words",
    [
        ["run", "three"],
        ["run", "three", "--json"],
        ["run", "--json", "three"],
        ["run", "three", "--function", "first"],
        ["run", "three", "--at", "2026-11-20T06:00:00Z"],
        ["--project", "/", "run", "three"],
        ["-C", ".", "--set", "a=b", "run", "three"],
    ],
    ids=" ".join,
)
def test_what_is_said_most_is_read_without_click(words):
    """The forms that the reading exists for are among those it reads."""
    asked = plain.read(words)
    assert asked is not None
    assert asked.name == "three"


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["run"],
        ["three"],
        ["run", "three", "two"],
        ["run", "three", "--dry-run"],
        ["run", "three", "--at"],
        ["run", "three", "--function", "--json"],
        ["run", "--help"],
        ["--project", "/nowhere", "run", "three"],
        ["--project", __file__, "run", "three"],
        ["run", ""],
    ],
    ids=" ".join,
)
def test_what_is_not_plain_is_left_to_click(words):
    """Other options, other commands and everything wrong is for click to read and to answer."""
    assert plain.read(words) is None


def test_a_drift_of_an_option_would_be_seen(monkeypatch):
    """The comparison can fail: another default of an option, and it no longer holds."""
    words = ["run", "three"]
    assert by_click(words, monkeypatch) == without_click(words)
    monkeypatch.setattr(plain, "DEFAULTS", {**plain.DEFAULTS, "kind": "trials"})
    assert by_click(words, monkeypatch) != without_click(words)


@pytest.mark.parametrize("words", [["run", "nobody"], ["run", "nobody", "--json"]], ids=" ".join)
def test_an_error_reads_the_same_with_and_without_click(tmp_path: Path, words):
    """A plain run that fails says what the same run says that click has read."""
    environment = {**os.environ, "NO_COLOR": "1"}
    start = [sys.executable, "-m", "runwright", "--project", str(tmp_path)]
    plainly, clicked = (
        subprocess.run([*start, *words, *more], capture_output=True, text=True, env=environment)
        for more in ([], ["--kind", "cycles"])
    )
    assert (plainly.returncode, plainly.stdout, plainly.stderr) == (
        clicked.returncode,
        clicked.stdout,
        clicked.stderr,
    )
    assert plainly.returncode == 2
    assert "error[store-missing]" in plainly.stderr
