"""Print the sizes of this code beside those of code that is admired; nothing fails here."""

from __future__ import annotations

import ast
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tests.tidy.hygiene import broad_except_lines
from tests.tidy.tree import REPOSITORY, Module, modules

CONDUCTOR = "runwright.kernel.drive.conductor"
CONDUCTOR_LINES_AIM = 150


class Metric(NamedTuple):
    """One size, what ours is, and what others show."""

    name: str
    ours: str
    anchors: str


class Size(NamedTuple):
    """How many lines something has, and its name."""

    lines: int
    name: str


def metrics(root: Path) -> list[Metric]:
    """Measure a tree."""
    known = list(modules(root).values())
    files = [Size(_lines(module.source), module.name) for module in known]
    functions = _sizes(known, (ast.FunctionDef, ast.AsyncFunctionDef))
    classes = _sizes(known, (ast.ClassDef,))
    source_lines = sum(size.lines for size in files)
    test_lines = sum(_lines(path.read_text("utf-8")) for path in (root / "tests").rglob("*.py"))
    broad = sum(len(list(broad_except_lines(module.tree))) for module in known)
    conductor = next((size.lines for size in files if size.name == CONDUCTOR), 0)
    return [
        Metric("function lines p50", _share(functions, 50), "structlog 7, httpx 9"),
        Metric(
            "function lines p90",
            _share(functions, 90),
            "structlog 29, APScheduler 30, procrastinate 32, httpx 34",
        ),
        Metric("function lines max", _largest(functions), "procrastinate 126, httpx 133"),
        Metric("file lines p50", _share(files, 50), "structlog 245, httpx 248"),
        Metric("file lines p90", _share(files, 90), "APScheduler 434, structlog 516"),
        Metric("file lines max", _largest(files), "procrastinate 1042, structlog 1249"),
        Metric("largest class", _largest(classes), "structlog 671, httpx 713"),
        Metric("conductor lines", str(conductor), f"aim {CONDUCTOR_LINES_AIM}"),
        Metric(
            "broad excepts",
            f"{broad} ({1000 * broad / max(source_lines, 1):.1f} per 1000 lines)",
            "per 1000 lines: structlog 0.3, procrastinate 1.0, httpx 1.1",
        ),
        Metric(
            "test lines / source lines",
            f"{test_lines / max(source_lines, 1):.2f} ({test_lines} / {source_lines})",
            "httpx 1.01, structlog 1.29, procrastinate 1.29, sqlite-utils 1.47",
        ),
    ]


def _lines(text: str) -> int:
    return len(text.splitlines())


def _sizes(known: Sequence[Module], kinds: tuple[type[ast.AST], ...]) -> list[Size]:
    return [
        Size(node.end_lineno - node.lineno + 1, f"{module.name}.{node.name}")
        for module in known
        for node in ast.walk(module.tree)
        if isinstance(node, kinds)
    ]


def _share(sizes: Sequence[Size], percent: int) -> str:
    ordered = sorted(size.lines for size in sizes)
    return str(ordered[(len(ordered) - 1) * percent // 100]) if ordered else "-"


def _largest(sizes: Sequence[Size]) -> str:
    largest = max(sizes, default=None)
    return f"{largest.lines} ({largest.name})" if largest else "-"


def main() -> None:
    """Print one line for each metric."""
    found = metrics(REPOSITORY)
    name_width = max(len(metric.name) for metric in found)
    ours_width = max(len(metric.ours) for metric in found)
    for metric in found:
        sys.stdout.write(
            f"{metric.name:<{name_width}}  {metric.ours:<{ours_width}}  {metric.anchors}\n"
        )


if __name__ == "__main__":
    main()
