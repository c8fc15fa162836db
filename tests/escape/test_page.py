"""docs/reference/isolation.md says what the table says, and every attack has a program."""

from __future__ import annotations

import ast
from pathlib import Path

from tests.escape.attacks import TOPICS, WORDS, attacks, page
from tests.tidy.tree import REPOSITORY

PAGE = REPOSITORY / "docs/reference/isolation.md"
OPENING, CLOSING = "<!-- attacks -->\n", "\n<!-- /attacks -->"


def table_of(text: str) -> str:
    """Return what stands between the two comments of a page."""
    return text.partition(OPENING)[2].partition(CLOSING)[0].strip()


def test_the_page_shows_the_table() -> None:
    """`python -m tests.escape.attacks` prints what belongs there."""
    assert table_of(PAGE.read_text(encoding="utf-8")) == page()


def test_a_page_that_differs_in_one_word_is_caught() -> None:
    """The control of the comparison above."""
    text = f"# Page\n\n{OPENING}\n{page()}\n{CLOSING}\n"
    assert table_of(text) == page()
    assert table_of(text.replace("| open |", "| contained |", 1)) != page()


def test_every_attack_has_a_function_and_a_word() -> None:
    """Names are unique, the words are the three, and each function is in its program."""
    names = [attack.name for _topic, attack in attacks()]
    assert len(names) == len(set(names)) > 30
    assert all(set(attack.root + attack.other) <= {*WORDS, "-"} for _topic, attack in attacks())
    for topic in TOPICS:
        path = Path(__file__).parent / "children" / f"{topic.program}.py"
        tree = ast.parse(path.read_text(encoding="utf-8"))
        functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert {attack.function for attack in topic.attacks} <= functions
