"""What a user can meet stands in the reference, and a control for each kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tidy import reference
from tests.tidy.planting import module, plant
from tests.tidy.tree import REPOSITORY


@pytest.mark.parametrize("rule", reference.RULES, ids=lambda rule: rule.__name__)
def test_the_reference_is_complete(rule: Callable[[Path], list[str]]) -> None:
    assert rule(REPOSITORY) == []


@pytest.mark.parametrize("name", ["root", "program"])
def test_a_command_without_reference_is_caught(tmp_path: Path, name: str) -> None:
    source = f"""
    import click

    @click.group()
    def {name}(): ...

    @{name}.command()
    def run(): ...

    @{name}.command(hidden=True)
    def child(): ...

    @{name}.group()
    def db(): ...

    @db.command()
    def check(): ...

    @db.command()
    def migrate(): ...
    """
    text = "## runwright run\n\n`runwright db check [--json]`\n\n`runwright db migrate-all`\n"
    root = plant(tmp_path, {module("cli.root"): source, "docs/reference/commands.md": text})
    assert reference.commands(root) == [
        "docs/reference/commands.md: `runwright db migrate` is missing"
    ]


def test_an_error_without_reference_is_caught(tmp_path: Path) -> None:
    source = """
    class Wrong(Exception):
        code = "wrong"

    class Halt(Wrong):
        code = "halt"

    class Inherits(Halt): ...
    """
    root = plant(
        tmp_path, {module("kernel.errors"): source, "docs/reference/errors.md": "| `halt` | 4 |"}
    )
    assert reference.errors(root) == ["docs/reference/errors.md: `wrong` is missing"]


def test_a_setting_without_reference_is_caught(tmp_path: Path) -> None:
    source = """
    from __future__ import annotations
    import msgspec

    class Signer(msgspec.Struct, frozen=True):
        memory: str = ""
        key: str = ""

    class Settings(msgspec.Struct, frozen=True, rename="kebab"):
        signer: Signer
        home_dir: str = ""
    """
    text = "| `signer.memory` | where |\n| `home` | where |\n"
    root = plant(tmp_path, {module("config"): source, "docs/reference/settings.md": text})
    assert reference.settings(root) == [
        "docs/reference/settings.md: `signer.key` is missing",
        "docs/reference/settings.md: `home-dir` is missing",
    ]


def test_an_entry_type_without_reference_is_caught(tmp_path: Path) -> None:
    source = 'BODIES = {"run.started": dict, "run.finished": dict}\n'
    root = plant(tmp_path, {module("kernel.record.entries"): source})
    assert len(reference.entries(root)) == 2
    plant(root, {"docs/reference/entries.md": "`run.started` and run.finished\n"})
    assert reference.entries(root) == ["docs/reference/entries.md: `run.finished` is missing"]


def test_what_is_not_there_needs_no_reference(tmp_path: Path) -> None:
    assert [rule(tmp_path) for rule in reference.RULES] == [[], [], [], []]
