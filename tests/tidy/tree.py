"""A source tree as modules: each file parsed once, its imports resolved to full names.

Every rule of this suite is a function from the root of a tree to a list of violations, so that a
control can plant a small tree and see the rule catch what it is there to catch.
"""

from __future__ import annotations

import ast
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = "runwright"
UNTRACKED = frozenset({".git", ".venv", "__pycache__", "build", "dist"})


class Import(NamedTuple):
    """One imported module or name, where it stands, and whether a function holds it."""

    target: str
    line: int
    text: str
    in_function: bool


@dataclass(frozen=True)
class Module:
    """One Python file of the package."""

    name: str
    path: Path
    source: str
    tree: ast.Module

    @property
    def is_package(self) -> bool:
        return self.path.name == "__init__.py"

    @property
    def stem(self) -> str:
        return self.name.rpartition(".")[2]

    def at(self, line: int, message: str) -> str:
        """Return a violation that names its place."""
        return f"{self.name}:{line}: {message}"


def modules(root: Path) -> dict[str, Module]:
    """Return the package's modules by full name."""
    source_root = root / "src"
    found = {}
    for path in sorted((source_root / PACKAGE).rglob("*.py")):
        parts = path.relative_to(source_root).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        source, tree = parsed(path)
        found[name] = Module(name=name, path=path, source=source, tree=tree)
    return found


def parsed(path: Path) -> tuple[str, ast.Module]:
    """Return a file's text and syntax tree."""
    status = path.stat()
    return _parsed(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=1024)
def _parsed(path: Path, _changed_ns: int, _size: int) -> tuple[str, ast.Module]:
    source = path.read_text(encoding="utf-8")
    return source, ast.parse(source, filename=str(path))


def imports(module: Module, known: dict[str, Module]) -> Iterator[Import]:
    """Yield what a module imports, under TYPE_CHECKING and by literal `import_module` too.

    A name imported from a package is reported as the submodule when there is one.
    """
    lines = module.source.splitlines()
    for node, in_function in _walk(module.tree, in_function=False):
        for target in _targets(node, module, known):
            text = "\n".join(lines[node.lineno - 1 : node.end_lineno])
            yield Import(target, node.lineno, text, in_function)


def _walk(node: ast.AST, *, in_function: bool) -> Iterator[tuple[ast.AST, bool]]:
    for child in ast.iter_child_nodes(node):
        yield child, in_function
        inside = in_function or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
        yield from _walk(child, in_function=inside)


def _targets(node: ast.AST, module: Module, known: dict[str, Module]) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = _base(node, module)
        for alias in node.names:
            submodule = f"{base}.{alias.name}"
            yield submodule if submodule in known else base
    elif isinstance(node, ast.Call) and _is_import_module(node):
        argument = node.args[0]
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
            yield argument.value


def _base(node: ast.ImportFrom, module: Module) -> str:
    if not node.level:
        return node.module or ""
    package = module.name.split(".")
    if not module.is_package:
        package = package[:-1]
    package = package[: len(package) - node.level + 1]
    return ".".join([*package, *([node.module] if node.module else [])])


def _is_import_module(node: ast.Call) -> bool:
    called = node.func
    name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
    return name in {"import_module", "__import__"} and bool(node.args)


def is_ours(target: str) -> bool:
    """Say whether an import names this package or something in it."""
    return within(target, PACKAGE)


def within(name: str, prefix: str) -> bool:
    """Say whether a dotted name is a prefix or lies under it."""
    return name == prefix or name.startswith(f"{prefix}.")


def tracked(root: Path) -> Iterator[Path]:
    """Yield the files that belong to the repository: git's list, or all but the made ones."""
    git = shutil.which("git")
    if git and (root / ".git").exists():
        listed = subprocess.run(
            [git, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=root,
            capture_output=True,
            check=True,
        )
        names = sorted({name.decode() for name in listed.stdout.split(b"\0") if name})
        yield from (path for path in (root / name for name in names) if path.is_file())
        return
    for path in sorted(root.rglob("*")):
        if path.is_file() and UNTRACKED.isdisjoint(path.relative_to(root).parts):
            yield path
