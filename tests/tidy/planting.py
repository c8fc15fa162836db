"""Small trees for the controls: each rule must be seen to catch what it forbids."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent


def plant(root: Path, files: dict[str, str]) -> Path:
    """Write files under a root, with a package file beside each module of the package."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text), encoding="utf-8")
    for folder in sorted({path.parent for path in (root / "src").rglob("*.py")}):
        package = folder / "__init__.py"
        if not package.exists():
            package.write_text('"""A package."""\n', encoding="utf-8")
    return root


def module(name: str) -> str:
    """Return the file of a module below the package."""
    return f"src/runwright/{name.replace('.', '/')}.py"
