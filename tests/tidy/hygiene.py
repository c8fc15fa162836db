"""The rules about single files: names, clocks, broad excepts, assertions, blobs, collection."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.tidy.tree import modules, parsed, tracked

EMPTY_NAMES = frozenset(
    [
        "util",
        "utils",
        "helper",
        "helpers",
        "common",
        "base",
        "manager",
        "managers",
        "misc",
        "core",
        "tools",
        "lib",
        "stuff",
    ]
)
DIGIT = re.compile(r"\d")

CLOCK = "runwright.adapters.clock"
CLOCK_CALLS = frozenset(
    [
        "datetime.datetime.now",
        "datetime.datetime.utcnow",
        "datetime.datetime.today",
        "datetime.date.today",
        "time.time",
        "time.time_ns",
        "time.clock_gettime",
        "time.clock_gettime_ns",
        "uuid.uuid1",
        "uuid.uuid4",
        "os.urandom",
        "os.getrandom",
    ]
)
CLOCK_PACKAGES = frozenset({"random", "secrets"})

# Where a broad `except` may swallow, how many times, and why. One that ends in a bare `raise`
# swallows nothing and is not counted.
BROAD_EXCEPTS: dict[str, tuple[int, str]] = {
    "runwright.cli.main": (1, "turns what nobody expected into exit status 1"),
    "runwright.kernel.drive.conductor": (1, "one run may fail in any way; it leaves an entry"),
    "runwright.kernel.drive.outbox": (1, "one paper may fail in any way; it leaves an entry"),
    "runwright.adapters.template": (2, "an import and a script may fail in any way, as in Python"),
    "runwright.bootstrap.replays": (1, "an engine's module may fail in any way; it is refused"),
    "runwright.streams.engine": (1, "an engine may fail in any way; it leaves a result"),
    "runwright.streams.twin": (1, "an engine may fail in any way; it leaves a result"),
    "runwright.adapters.sources": (1, "an iterator may fail in any way; the source is away"),
    "runwright.adapters.functions": (1, "a call may fail in any way; it leaves an outcome"),
}

BLOB_BYTES_MAX = 256 * 1024
BLOB_FOLDER = Path("docs/images")
CODE_SUFFIXES = frozenset({".py", ".sql", ".sh", ".toml", ".yaml", ".yml"})
UNFINISHED = "FIX" + "ME"
UNCOLLECTED_FOLDERS = frozenset({"build", "dist", "node_modules", "venv"})


def module_names(root: Path) -> list[str]:
    """A module is a noun that says something, without digits or dates."""
    violations = []
    for module in modules(root).values():
        if module.stem in EMPTY_NAMES:
            violations.append(module.at(1, f"`{module.stem}` names no noun"))
        if DIGIT.search(module.stem):
            violations.append(module.at(1, "a number in a module name"))
    return violations


def clock_and_randomness(root: Path) -> list[str]:
    """Only adapters/clock.py reads the clock or draws randomness."""
    return [
        module.at(line, f"{name} belongs to {CLOCK}")
        for module in modules(root).values()
        if module.name != CLOCK
        for name, line in sorted(set(_clock_uses(module.tree)), key=lambda use: use[1])
    ]


def _clock_uses(tree: ast.Module) -> Iterator[tuple[str, int]]:
    aliases = _aliases(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            for name in _imported(node):
                if name.split(".")[0] in CLOCK_PACKAGES or name in CLOCK_CALLS:
                    yield name, node.lineno
        elif isinstance(node, ast.Attribute):
            name = _dotted(node, aliases)
            if name in CLOCK_CALLS:
                yield name, node.lineno


def _imported(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    for alias in node.names:
        if isinstance(node, ast.ImportFrom):
            yield f"{node.module}.{alias.name}"
        else:
            yield alias.name


def _aliases(tree: ast.Module) -> dict[str, str]:
    aliases = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                first = alias.name.split(".")[0]
                aliases[alias.asname or first] = alias.name if alias.asname else first
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                aliases[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return aliases


def _dotted(node: ast.Attribute, aliases: dict[str, str]) -> str:
    parts: list[str] = []
    value: ast.expr = node
    while isinstance(value, ast.Attribute):
        parts.append(value.attr)
        value = value.value
    if not isinstance(value, ast.Name) or value.id not in aliases:
        return ""
    return ".".join([aliases[value.id], *reversed(parts)])


def broad_excepts(root: Path) -> list[str]:
    """A broad `except` stands in the few places that may swallow anything."""
    violations = []
    for module in modules(root).values():
        allowed, _ = BROAD_EXCEPTS.get(module.name, (0, ""))
        lines = sorted(broad_except_lines(module.tree))
        violations += [
            module.at(line, f"a broad except; {allowed} allowed here") for line in lines[allowed:]
        ]
    return violations


def broad_except_lines(tree: ast.Module) -> Iterator[int]:
    """Yield where everything is caught and not raised again."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler) and _is_broad(node.type):
            last = node.body[-1]
            if not (isinstance(last, ast.Raise) and last.exc is None):
                yield node.lineno
        elif (
            isinstance(node, ast.Call) and _called(node) == "suppress" and _is_any_broad(node.args)
        ):
            yield node.lineno


def _is_broad(caught: ast.expr | None) -> bool:
    if caught is None:
        return True
    if isinstance(caught, ast.Tuple):
        return _is_any_broad(caught.elts)
    return isinstance(caught, ast.Name) and caught.id in {"Exception", "BaseException"}


def _is_any_broad(caught: list[ast.expr]) -> bool:
    return any(_is_broad(one) for one in caught)


def _called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def assertions(root: Path) -> list[str]:
    """An invariant is a `require(...)`: `-O` strips an `assert`."""
    return [
        module.at(node.lineno, "an assert; use require()")
        for module in modules(root).values()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Assert)
    ]


def large_files(root: Path) -> list[str]:
    """No file over 256 KiB outside docs/images."""
    return [
        f"{path.relative_to(root)}: {path.stat().st_size} bytes, {BLOB_BYTES_MAX} at most"
        for path in tracked(root)
        if path.stat().st_size > BLOB_BYTES_MAX
        and not path.relative_to(root).is_relative_to(BLOB_FOLDER)
    ]


def unfinished(root: Path) -> list[str]:
    """Nothing is merged that its author marked as unfinished."""
    return [
        f"{path.relative_to(root)}:{number}: {UNFINISHED}"
        for path in tracked(root)
        if path.suffix in CODE_SUFFIXES
        for number, line in enumerate(path.read_text("utf-8", "replace").splitlines(), start=1)
        if UNFINISHED in line
    ]


def collected(root: Path) -> list[str]:
    """A file that holds tests has the name and the place by which pytest finds it."""
    tests = root / "tests"
    violations = []
    for path in sorted(tests.rglob("*.py")):
        relative = path.relative_to(root)
        if "__pycache__" in relative.parts or not any(_tests(parsed(path)[1])):
            continue
        if not path.name.startswith("test_"):
            violations.append(f"{relative}: holds tests, but pytest collects test_*.py")
        hidden = [
            part
            for part in relative.parts[:-1]
            if part.startswith(".") or part in UNCOLLECTED_FOLDERS
        ]
        if hidden:
            violations.append(f"{relative}: pytest does not look into {hidden[0]}")
    return violations


def _tests(tree: ast.Module) -> Iterator[ast.AST]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            if node.name.startswith("test_"):
                yield node
        elif isinstance(node, ast.ClassDef) and node.name.startswith("Test"):
            yield from (
                inner
                for inner in node.body
                if isinstance(inner, ast.FunctionDef) and inner.name.startswith("test_")
            )


def shadowed_tests(root: Path) -> list[str]:
    """Two tests of one name in one file are one test."""
    violations = []
    for path in sorted((root / "tests").rglob("test_*.py")):
        seen: set[str] = set()
        for node in parsed(path)[1].body:
            name = getattr(node, "name", "")
            if name.startswith("test_") and name in seen:
                violations.append(f"{path.relative_to(root)}:{node.lineno}: a second {name}")
            seen.add(name)
    return violations


RULES = (
    module_names,
    clock_and_randomness,
    broad_excepts,
    assertions,
    large_files,
    unfinished,
    collected,
    shadowed_tests,
)
