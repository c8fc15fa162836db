"""People of a project, and what they decide through the real command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.e2e.project import Project


def person(project: Project, name: str, *roles: str, by: str = "ada") -> Path:
    """Make a key for a person and add them; the first one needs nobody's signature."""
    key = project.base / "desk" / f"{name}.key"
    key.parent.mkdir(exist_ok=True)
    project.done("key", "new", name, "--out", key)
    words: list[object] = ["--name", name.title(), "--key", f"{key}.pub"]
    for role in roles:
        words += ["--role", role]
    if project.done("people", "list", "--json").json:
        words += ["--as", by, "--signing-key", project.base / "desk" / f"{by}.key", "--yes"]
    project.done("people", "add", name, *words)
    return key


def decide(project: Project, *words: object, name: str = "ada", status: int = 0) -> Any:
    """Decide as somebody; return what the command answered."""
    key = project.base / "desk" / f"{name}.key"
    given = ["--reason", "because", "--key", key, "--yes", "--as", name]
    done = project.done("decide", *words, *given, "--json", status=status)
    return done.json if status == 0 else done.error
