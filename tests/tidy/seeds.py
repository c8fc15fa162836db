"""The rule about demands: each has an answer, and the answer a test, a decision or an issue."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from tests.tidy.tree import parsed

TABLE = Path("docs/reference/seeds.md")
MARKED = Path("tests/seeds")
# Workloads that claim to be whole: none of their rows may stay open.
FINISHED: frozenset[str] = frozenset()

CELLS = re.compile(r"(?<!\\)\|")
ID = re.compile(r"^`?([a-z]+-\d{3}/[a-z0-9-]+)`?$")
DECLINED = re.compile(r"^declined: (?:\[[^\]]*\]\()?([^)\s]+\.md)\)?$")
OPEN = re.compile(r"^open \(issue (\d+)\)$")


class Row(NamedTuple):
    """One demand."""

    id: str
    line: int
    status: Literal["tested", "declined", "open", "unknown"]
    detail: str


def rows(root: Path) -> Iterator[Row]:
    """Yield the demands of the table, in its order."""
    path = root / TABLE
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    for number, line in enumerate(text.splitlines(), start=1):
        cells = [cell.strip() for cell in CELLS.split(line)][1:-1]
        if not cells or cells[0] == "id" or set(cells[0]) <= set("-: "):
            continue
        yield _row(cells, number)


def _row(cells: list[str], line: int) -> Row:
    matched = ID.match(cells[0])
    name, status = (matched[1] if matched else cells[0]), cells[-1]
    if not matched or len(cells) != len(("id", "demand", "answer", "status")):
        return Row(name, line, "unknown", "not four cells, or no id in the first")
    if status == "tested":
        return Row(name, line, "tested", "")
    if declined := DECLINED.match(status):
        return Row(name, line, "declined", declined[1])
    if issue := OPEN.match(status):
        return Row(name, line, "open", issue[1])
    return Row(name, line, "unknown", f"status `{status}`")


def marks(root: Path) -> Iterator[tuple[str, str]]:
    """Yield each marked id and the place of its mark."""
    for path in sorted((root / MARKED).rglob("*.py")):
        for node in ast.walk(parsed(path)[1]):
            if not isinstance(node, ast.Call) or ast.unparse(node.func) != "pytest.mark.seed":
                continue
            place = f"{path.relative_to(root)}:{node.lineno}"
            for argument in node.args:
                is_text = isinstance(argument, ast.Constant) and isinstance(argument.value, str)
                yield (str(argument.value) if is_text else ast.unparse(argument)), place


def marks_without_rows(root: Path) -> list[str]:
    """Every mark names a row."""
    known = {row.id for row in rows(root)}
    return [f"{place}: no row `{name}`" for name, place in marks(root) if name not in known]


def tested_without_marks(root: Path) -> list[str]:
    """Every row that says `tested` has a marked test."""
    marked = {name for name, _ in marks(root)}
    return [
        _at(row, "is tested by nothing")
        for row in rows(root)
        if row.status == "tested" and row.id not in marked
    ]


def declined_without_decision(root: Path) -> list[str]:
    """Every declined row links to a decision that exists."""
    violations = []
    for row in rows(root):
        if row.status != "declined":
            continue
        base = root if row.detail.startswith("docs/") else root / TABLE.parent
        target = (base / row.detail).resolve()
        if not target.is_file() or target.parent != (root / "docs/decisions").resolve():
            violations.append(_at(row, f"{row.detail} is no decision record"))
    return violations


def malformed(root: Path) -> list[str]:
    """Every row has a status that means something, and an id of its own."""
    found = list(rows(root))
    counted = Counter(row.id for row in found)
    violations = [_at(row, row.detail) for row in found if row.status == "unknown"]
    violations += [_at(row, "stands twice") for row in found if counted[row.id] > 1]
    return violations


def open_although_finished(root: Path) -> list[str]:
    """No row stays open once its workload is finished."""
    return [
        _at(row, "is open, and its workload is finished")
        for row in rows(root)
        if row.status == "open" and row.id.split("/")[0] in FINISHED
    ]


def open_rows(root: Path) -> dict[str, list[str]]:
    """Return the open ids by issue."""
    found: dict[str, list[str]] = {}
    for row in rows(root):
        if row.status == "open":
            found.setdefault(row.detail, []).append(row.id)
    return found


def _at(row: Row, message: str) -> str:
    return f"{TABLE}:{row.line}: `{row.id}` {message}"


RULES = (
    marks_without_rows,
    tested_without_marks,
    declined_without_decision,
    malformed,
    open_although_finished,
)
