"""The rule about documents: what a user can meet stands in the reference."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType

import click
import msgspec

REFERENCE = Path("docs/reference")


def commands(root: Path) -> list[str]:
    """Every command stands in docs/reference/commands.md."""
    module = _loaded(root, "cli/root.py")
    groups = [value for value in vars(module).values() if isinstance(value, click.Group)]
    # The outermost one has the most commands.
    names = max(([*_walk(group)] for group in groups), key=len, default=[])
    return _undocumented(root, "commands.md", [f"runwright {name}" for name in names])


def _walk(command: click.Command, prefix: str = "") -> Iterator[str]:
    if not isinstance(command, click.Group):
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        inner = command.get_command(context, name)
        if inner is None or inner.hidden:
            continue
        if not isinstance(inner, click.Group) or inner.invoke_without_command:
            yield f"{prefix}{name}"
        yield from _walk(inner, f"{prefix}{name} ")


def errors(root: Path) -> list[str]:
    """Every error code stands in docs/reference/errors.md."""
    module = _loaded(root, "kernel/errors.py")
    classes = [value for value in vars(module).values() if isinstance(value, type)]
    codes = {
        value.__dict__["code"]
        for value in classes
        if issubclass(value, Exception) and isinstance(value.__dict__.get("code"), str)
    }
    return _undocumented(root, "errors.md", sorted(codes))


def settings(root: Path) -> list[str]:
    """Every setting stands in docs/reference/settings.md, with its section before a dot."""
    found = getattr(_loaded(root, "config.py"), "Settings", None)
    return _undocumented(root, "settings.md", [] if found is None else list(_fields(found)))


def _fields(struct: type, prefix: str = "") -> Iterator[str]:
    for field in msgspec.structs.fields(struct):
        inner = field.type
        if isinstance(inner, type) and issubclass(inner, msgspec.Struct):
            yield from _fields(inner, f"{prefix}{field.encode_name}.")
        else:
            yield f"{prefix}{field.encode_name}"


def entries(root: Path) -> list[str]:
    """Every entry type stands in docs/reference/entries.md."""
    bodies = getattr(_loaded(root, "kernel/record/entries.py"), "BODIES", {})
    return _undocumented(root, "entries.md", sorted(bodies))


def _undocumented(root: Path, file: str, names: Iterable[str]) -> list[str]:
    path = root / REFERENCE / file
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [
        f"{REFERENCE / file}: `{name}` is missing"
        for name in names
        if not re.search(rf"(`|^#+ ){re.escape(name)}(?![\w.-])", text, flags=re.MULTILINE)
    ]


def _loaded(root: Path, file: str) -> ModuleType:
    """Load a module from this tree under a name of its own; an empty one when it is not there."""
    path = root / "src/runwright" / file
    name = f"planted_{abs(hash(path))}"
    if not path.exists():
        return ModuleType(name)
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(path)
    module = importlib.util.module_from_spec(spec)
    # Annotations are resolved through the table of modules, so it must be there while it loads.
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


RULES = (commands, errors, settings, entries)
