"""Demands and their answers, and a control for each rule about them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tidy import seeds
from tests.tidy.planting import plant
from tests.tidy.tree import REPOSITORY

HEAD = "| id | demand | answer | status |\n|---|---|---|---|\n"


def table(*lines: str) -> dict[str, str]:
    return {seeds.TABLE.as_posix(): HEAD + "".join(f"| {line} |\n" for line in lines)}


@pytest.mark.parametrize("rule", seeds.RULES, ids=lambda rule: rule.__name__)
def test_the_demands_keep_the_rule(rule: Callable[[Path], list[str]]) -> None:
    assert rule(REPOSITORY) == []


def test_the_demands_are_read() -> None:
    assert len(list(seeds.rows(REPOSITORY))) > 50


@pytest.mark.parametrize(
    "mark",
    [
        '@pytest.mark.seed("cycles-001/gone")\ndef test_it(): ...',
        'pytestmark = pytest.mark.seed("cycles-001/gone")',
        'X = pytest.param(1, marks=pytest.mark.seed("cycles-001/gone"))',
        "@pytest.mark.seed(NAME)\ndef test_it(): ...",
    ],
)
def test_a_mark_without_a_row_is_caught(tmp_path: Path, mark: str) -> None:
    files = table("`cycles-001/here` | do it | `run` | tested")
    plant(tmp_path, {**files, "tests/seeds/test_x.py": f"import pytest\n{mark}\n"})
    assert len(seeds.marks_without_rows(tmp_path)) == 1


def test_a_tested_row_without_a_mark_is_caught(tmp_path: Path) -> None:
    files = table(
        "`cycles-001/proven` | a \\| b | `run` | tested",
        "cycles-001/claimed | do it | `run` | tested",
    )
    test = 'import pytest\n@pytest.mark.seed("cycles-001/proven")\ndef test_it(): ...\n'
    plant(tmp_path, {**files, "tests/seeds/test_x.py": test})
    assert seeds.tested_without_marks(tmp_path) == [
        "docs/reference/seeds.md:4: `cycles-001/claimed` is tested by nothing"
    ]
    assert seeds.marks_without_rows(tmp_path) == []
    assert seeds.malformed(tmp_path) == []


def test_a_declined_row_without_a_decision_is_caught(tmp_path: Path) -> None:
    files = table(
        "`cycles-001/a` | x | - | declined: docs/decisions/kept.md",
        "`cycles-001/b` | x | - | declined: [kept](../decisions/kept.md)",
        "`cycles-001/c` | x | - | declined: docs/decisions/gone.md",
        "`cycles-001/d` | x | - | declined: docs/reference/seeds.md",
    )
    plant(tmp_path, {**files, "docs/decisions/kept.md": "# Kept\n"})
    assert [line.split("`")[1] for line in seeds.declined_without_decision(tmp_path)] == [
        "cycles-001/c",
        "cycles-001/d",
    ]


def test_a_row_that_says_nothing_or_stands_twice_is_caught(tmp_path: Path) -> None:
    plant(
        tmp_path,
        table(
            "`cycles-001/a` | x | - | soon",
            "`cycles-001/b` | x | open (issue 2)",
            "no id | x | - | tested",
            "`cycles-001/c` | x | - | open (issue 2)",
            "`cycles-001/c` | x | - | open (issue 2)",
        ),
    )
    assert len(seeds.malformed(tmp_path)) == 5


def test_an_open_row_of_a_finished_workload_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(
        tmp_path,
        table("`cycles-001/a` | x | - | open (issue 2)", "`trials-000/a` | x | - | open (issue 5)"),
    )
    assert seeds.open_although_finished(tmp_path) == []
    monkeypatch.setattr(seeds, "FINISHED", frozenset({"cycles-001"}))
    assert len(seeds.open_although_finished(tmp_path)) == 1
    assert seeds.open_rows(tmp_path) == {"2": ["cycles-001/a"], "5": ["trials-000/a"]}
