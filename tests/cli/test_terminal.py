"""Lines are written as click writes them."""

from __future__ import annotations

import io

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runwright.cli import terminal


class Screen(io.StringIO):
    """A stream that is, or is not, a terminal."""

    def __init__(self, *, is_terminal: bool) -> None:
        super().__init__()
        self.is_terminal = is_terminal

    def isatty(self) -> bool:
        return self.is_terminal


def written(text: str, *, is_terminal: bool) -> str:
    """Return what `echo` writes to a stream."""
    with pytest.MonkeyPatch.context() as patch:
        screen = Screen(is_terminal=is_terminal)
        patch.setattr("sys.stdout", screen)
        terminal.echo(text)
    return screen.getvalue()


@pytest.mark.parametrize("fg", [None, "red", "green", "yellow"])
@pytest.mark.parametrize("bold", [False, True])
def test_a_style_is_that_of_click(fg, bold):
    """The same bytes round a text; click writes a word about bold only when it is asked."""
    assert terminal.style("text", fg=fg, bold=bold) == click.style("text", fg=fg, bold=bold or None)


@given(
    text=st.lists(st.sampled_from(["a", "\n", "\x1b[31m", "\x1b[0m", "\x1b[1;2H", "\x1b"])).map(
        "".join
    ),
    is_terminal=st.booleans(),
)
def test_a_line_is_that_of_click(text, is_terminal):
    """On a terminal all of it is written; into a file no control sequence is."""
    screen = Screen(is_terminal=is_terminal)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("NO_COLOR", raising=False)
        click.echo(text, file=screen)
        assert written(text, is_terminal=is_terminal) == screen.getvalue()


def test_no_color_takes_styles_out_on_a_terminal(monkeypatch):
    """NO_COLOR wins over a terminal, and only with a value."""
    styled = terminal.style("text", fg="red")
    monkeypatch.setenv("NO_COLOR", "1")
    assert written(styled, is_terminal=True) == "text\n"
    monkeypatch.setenv("NO_COLOR", "")
    assert written(styled, is_terminal=True) == f"{styled}\n"


def test_a_stream_that_is_closed_is_no_error(monkeypatch):
    """A process that was started without stdout says nothing there."""
    monkeypatch.setattr("sys.stdout", None)
    terminal.echo("text")
