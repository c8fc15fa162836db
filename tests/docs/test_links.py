"""A link in a document leads somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.tidy.planting import plant
from tests.tidy.tree import REPOSITORY, tracked

FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`[^`\n]*`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)
ROOMS = ("tutorial", "guides", "reference", "concepts", "decisions")


def broken_links(root: Path) -> list[str]:
    """Return the relative links of all documents whose file or heading does not exist."""
    broken = []
    for path in tracked(root):
        if path.suffix != ".md":
            continue
        for link in LINK.findall(CODE.sub("", FENCE.sub("", path.read_text("utf-8")))):
            if "://" in link or link.startswith("mailto:"):
                continue
            file, _, anchor = link.partition("#")
            target = (path.parent / file).resolve() if file else path
            if not target.exists() or (anchor and anchor not in anchors(target)):
                broken.append(f"{path.relative_to(root)}: {link}")
    return broken


def anchors(path: Path) -> set[str]:
    """Return the anchors of a document's headings, as the common renderers make them."""
    titles = HEADING.findall(FENCE.sub("", path.read_text("utf-8")))
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def unlisted(root: Path) -> list[str]:
    """Return the documents of a room that its index does not link to."""
    missing = []
    for room in ROOMS:
        folder = root / "docs" / room
        index = folder / "README.md"
        listed = set(LINK.findall(index.read_text("utf-8"))) if index.exists() else set()
        missing += [
            path.relative_to(root).as_posix()
            for path in sorted(folder.glob("*.md"))
            if path != index and path.name not in listed
        ]
    return missing


def test_every_link_leads_somewhere() -> None:
    assert broken_links(REPOSITORY) == []


def test_every_document_stands_in_the_index_of_its_room() -> None:
    assert unlisted(REPOSITORY) == []


@pytest.mark.parametrize("link", ["gone.md", "there.md#gone", "#gone", "../gone/"])
def test_a_broken_link_is_caught(tmp_path: Path, link: str) -> None:
    text = f"# Here\n\n[fine](there.md#two-words) [here](#here)\n`[code](x.md)`\n[bad]({link})\n"
    plant(tmp_path, {"docs/here.md": text, "docs/there.md": "# There\n\n## Two words\n"})
    assert broken_links(tmp_path) == [f"docs/here.md: {link}"]


def test_a_document_that_no_index_names_is_caught(tmp_path: Path) -> None:
    plant(
        tmp_path,
        {
            "docs/guides/README.md": "[one](one.md)\n",
            "docs/guides/one.md": "# One\n",
            "docs/guides/two.md": "# Two\n",
        },
    )
    assert unlisted(tmp_path) == ["docs/guides/two.md"]
