"""Reads the words of a plain `run` without click; a test holds what it says against click.

    [--project|-C DIR] [--set NAME=VALUE]… run [NAME --function F --at T --json, in any order]

Whatever else is said, and whatever is wrong with it, is for click.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any, Final

#: What click gives the command for the options that are not said.
DEFAULTS: Final[Mapping[str, Any]] = {
    "kind": "cycles",
    "dry_run": False,
    "function": None,
    "continuous": False,
    "interval": None,
    "at": None,
    "as_json": False,
}
#: Options that take the word behind them.
_VALUES: Final = {"--function": "function", "--at": "at"}


class Asked(SimpleNamespace):
    """A run that is asked for; no Struct, because `--version` does without msgspec."""

    #: The folder as it is said.
    start: str
    #: NAME=VALUE.
    settings: tuple[str, ...]
    name: str
    options: Mapping[str, Any]


class _NotPlain(Exception):
    """Something is said that click has to read."""


def read(words: Iterable[str]) -> Asked | None:
    """Return what the words ask for; None when click has to read them."""
    try:
        return _read(iter(words))
    except _NotPlain:
        return None


def _read(words: Iterator[str]) -> Asked:
    project = "."
    settings: list[str] = []
    names: list[str] = []
    options = dict(DEFAULTS)
    for word in words:
        if word == "run":
            break
        if word in ("--project", "-C"):
            project = _word(words)
        elif word == "--set":
            settings.append(_word(words))
        else:
            raise _NotPlain
    for word in words:
        if word == "--json":
            options["as_json"] = True
        elif word in _VALUES:
            options[_VALUES[word]] = _word(words)
        else:
            names.append(_word(iter([word])))
    # As click looks at a folder.
    if len(names) != 1 or not (os.path.isdir(project) and os.access(project, os.R_OK)):  # noqa: PTH112
        raise _NotPlain
    return Asked(start=project, settings=tuple(settings), name=names[0], options=options)


def _word(words: Iterator[str]) -> str:
    """Return the next word. Raises: _NotPlain when there is none, or it looks like an option."""
    word = next(words, "")
    if not word or word[0] == "-":
        raise _NotPlain
    return word
