"""What the commands share: settings, results as JSON or text, tables, statuses."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from runwright.bootstrap import project
from runwright.cli import terminal
from runwright.cli.terminal import echo
from runwright.config import Loaded, load
from runwright.kernel.errors import Usage

if TYPE_CHECKING:
    import click

    from runwright.kernel.drive.telemetry import Lines

#: A word of the record -> the colour that people expect of it.
COLOURS: Final[Mapping[str, str]] = {
    "COMPLETED": "green",
    "PASS": "green",
    "done": "green",
    "held": "green",
    "COMPLETED_WITH_FAILURES": "yellow",
    "INTERRUPTED": "yellow",
    "interrupted": "yellow",
    "skipped": "yellow",
    "missed": "yellow",
    "INCONCLUSIVE": "yellow",
    "FAILED": "red",
    "FAIL": "red",
    "failed": "red",
    "refused": "red",
    "INVALID": "red",
}


def json_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the option --json."""
    import click  # lazy: a plain run needs none

    option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
    return option(function)


def settings(ctx: click.Context) -> Loaded:
    """Return the settings of this command. Raises: invalid-setting."""
    return settings_at(ctx.obj["start"], ctx.obj["set"])


def settings_at(start: Path, given: Sequence[str]) -> Loaded:
    """Return the settings in a folder, with those given as NAME=VALUE. Raises: invalid-setting."""
    flags: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            message = f"--set {text}: give NAME=VALUE"
            raise Usage(message)
        flags[name] = value
    return load(os.environ, start=start, flags=flags)


def messages(loaded: Loaded) -> Lines:
    """Return where messages for operators go: text on a terminal, JSON lines otherwise."""
    from runwright.kernel.drive.telemetry import Lines  # lazy: who only looks has no messages

    form, level = message_form(loaded), loaded.settings.messages.level
    return Lines(sys.stderr, project.clock(), form=form, level=level)


def message_form(loaded: Loaded) -> Literal["human", "json"]:
    """Return whether messages are text or JSON lines."""
    form = loaded.settings.messages.form
    if form == "auto":
        return "human" if sys.stderr.isatty() else "json"
    return form


def print_json(value: Any) -> None:
    """Print a value as one JSON document."""
    echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def print_table(
    head: Sequence[str], rows: Sequence[Sequence[Any]], *, right: Sequence[str] = ()
) -> None:
    """Print rows in aligned columns, words of the record coloured."""
    texts = [[clean(str("" if cell is None else cell)) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(head, *texts, strict=True)]
    aligns = [str.rjust if name in right else str.ljust for name in head]
    for index, row in enumerate([list(head), *texts]):
        cells = [align(cell, width) for align, cell, width in zip(aligns, row, widths, strict=True)]
        if index == 0:
            cells = [style(cell, bold=True) for cell in cells]
        else:
            cells = [style(cell, fg=COLOURS.get(cell.strip())) for cell in cells]
        echo("  ".join(cells).rstrip())


@contextmanager
def reader_may_be_gone() -> Iterator[None]:
    """Print to a reader that may have gone away: what was done counts, not who looked on."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def style(text: str, **how: Any) -> str:
    """Colour text for a terminal that wants it."""
    if os.environ.get("NO_COLOR") or not sys.stdout.isatty() or not any(how.values()):
        return text
    return terminal.style(text, **how)


def denied(run: Mapping[str, Any], stderr: str) -> str:
    """Return what may have been in the way of a run that failed; empty when nothing shows."""
    words = ("Permission denied", "Operation not permitted", "Read-only file system")
    is_denied = any(word in stderr for word in words)
    if run["status"] != "failed" or run["level"] not in ("T1", "T2") or not is_denied:
        return ""
    return (
        f"At level {run['level']} a function writes only to its scratch folder and to what `write` "
        "grants, and cannot read the store and the keys."
    )


def clean(text: str) -> str:
    """Return text without control characters: output of functions must not drive a terminal."""
    return "".join(
        sign if sign.isprintable() or sign in "\n\t" else "\N{REPLACEMENT CHARACTER}"
        for sign in text
    )


def user() -> str:
    """Return who gives this command, as the system names them."""
    return os.environ.get("USER") or os.environ.get("LOGNAME") or str(os.getuid())
