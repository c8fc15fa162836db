"""The source files of an engine: its module, and what that imports of its own package or folder.

They are found without importing anything, so code that is to be looked at is not executed first.
"""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec, PathFinder
from typing import Final

from runwright.kernel.canonical import digest, digest_of
from runwright.kernel.errors import InvalidSpec
from runwright.streams.lint import Source
from runwright.streams.program import PATH, words_of

#: The most files of one engine.
FILES_MAX: Final = 500
#: Of our own package only these are somebody's engines; the rest is the orchestrator.
_OURS, _ENGINES = "runwright", "runwright.streams.engines"


def read(reference: str) -> tuple[Source, ...]:
    """Return the sources of the engine that "package.module:callable" names, its own first.

    Raises: invalid-spec when there is no such module, or its source cannot be read.
    """
    name = reference.partition(":")[0]
    first = _found(name)
    if first is None:
        hint = "It is looked for where Python looks, and in the folder of the spec file."
        raise InvalidSpec(f"engine.ref: there is no module {name}", hint=hint)
    if first.origin is None or not first.origin.endswith(".py"):
        raise InvalidSpec(f"engine.ref: {name} has no Python source that could be looked at")
    folder = os.path.dirname(first.origin)  # noqa: PTH120 - as strings, like those of the finder
    sources: dict[str, Source] = {}
    waiting = [name]
    while waiting:
        module = waiting.pop(0)
        found = first if module == name else _own(module, name, folder)
        if found is None or found.origin is None or found.name in sources:
            continue
        if len(sources) >= FILES_MAX:
            raise InvalidSpec(f"engine.ref: {name} imports more than {FILES_MAX} files of its own")
        source = _source(found)
        sources[found.name] = source
        waiting += _imported(source, found)
    return tuple(sources.values())


def digest_of_sources(sources: tuple[Source, ...]) -> str:
    """Return the digest of an engine: of the names of its modules and their bytes."""
    return digest_of({source.module: digest(source.text.encode()) for source in sources})


def digest_of_program(command: str) -> str:
    """Return the digest of an engine that is a program: its words, and the files that they name."""
    words = words_of(command)
    places = [f"{folder}/{words[0]}" for folder in PATH.split(":")]
    program = words[0] if "/" in words[0] else next(filter(os.path.isfile, places), "")
    files = {}
    for word in (program, *words[1:]):
        try:
            with open(word, "rb") as file:  # noqa: PTH123 - a word of the command
                files[word] = digest(file.read())
        except (OSError, ValueError):
            # It is no file.
            continue
    return digest_of({"words": words, "files": [files[word] for word in sorted(files)]})


def defines(source: Source, attribute: str) -> bool:
    """Say whether a module gives a name to anything, as far as its text tells."""
    try:
        tree = ast.parse(source.text)
    except (SyntaxError, ValueError):
        # The lint says so, or the first run.
        return True
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names):
            return True
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == attribute:
            return True
        if isinstance(node, ast.alias) and (node.asname or node.name) == attribute:
            return True
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id == attribute:
            return True
    return False


def _own(module: str, engine: str, folder: str) -> ModuleSpec | None:
    """Return where a module is that belongs to the engine; None for what does not."""
    top = engine.partition(".")[0]
    if top == _OURS:
        # An engine among ours has that package to itself.
        top = _ENGINES if engine.startswith(f"{_ENGINES}.") else engine
    is_within = module == top or module.startswith(f"{top}.")
    found = _found(module) if is_within or "." not in module else None
    if found is None or not (found.origin or "").endswith(".py"):
        return None
    if is_within:
        return found
    is_beside = os.path.dirname(found.origin or "") == folder  # noqa: PTH120 - as above
    # The folder of the standard library, or of installed packages, is nobody's own.
    return found if is_beside and module not in sys.stdlib_module_names else None


def _found(name: str) -> ModuleSpec | None:
    """Find a module by the files alone; None when there is none."""
    path: list[str] | None = None
    found: ModuleSpec | None = None
    parts = name.split(".")
    for end in range(1, len(parts) + 1):
        try:
            found = PathFinder.find_spec(".".join(parts[:end]), path)
        except (ImportError, ValueError):
            return None
        if found is None:
            return None
        path = found.submodule_search_locations
        if path is None and end < len(parts):
            return None
    return found


def _source(found: ModuleSpec) -> Source:
    path = found.origin or ""
    try:
        with open(path, encoding="utf-8") as file:  # noqa: PTH123 - as above
            return Source(module=found.name, path=path, text=file.read())
    except (OSError, UnicodeError) as error:
        raise InvalidSpec(f"engine.ref: {path} cannot be read: {error}") from error


def _imported(source: Source, found: ModuleSpec) -> Iterator[str]:
    """Yield the names of modules that a source imports, and of what may be modules."""
    try:
        tree = ast.parse(source.text)
    except (SyntaxError, ValueError):
        # The lint says so.
        return
    package = found.name if found.submodule_search_locations else found.name.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _with_packages(alias.name)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.rsplit(".", node.level - 1)[0] if node.level > 1 else package
                base = f"{above}.{base}".strip(".")
            yield from _with_packages(base)
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _with_packages(name: str) -> Iterator[str]:
    """Yield a module and the packages that are imported on the way to it."""
    parts = name.split(".")
    for end in range(1, len(parts) + 1):
        yield ".".join(parts[:end])
