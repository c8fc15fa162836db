"""The rooms of the house, and a control for each rule about them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tidy import layers
from tests.tidy.planting import module, plant
from tests.tidy.tree import REPOSITORY


@pytest.mark.parametrize("rule", layers.RULES, ids=lambda rule: rule.__name__)
def test_the_house_keeps_the_rule(rule: Callable[[Path], list[str]]) -> None:
    assert rule(REPOSITORY) == []


@pytest.mark.parametrize(
    ("importer", "statement"),
    [
        ("kernel.run", "from runwright.views import runs"),
        ("kernel.run", "import runwright"),
        ("kernel.record.verify", "from runwright.kernel.drive.lanes import Lane"),
        ("kernel.record.verify", "from runwright.kernel.drive import lanes"),
        ("cycles.plan", "from runwright.kernel.record import ledger"),
        ("cycles.plan", "from runwright.kernel.drive import conductor"),
        ("cycles.plan", "from runwright.trials import spec"),
        ("cycles.calls", "from runwright.adapters import sqlite"),
        ("cycles.calls", "from runwright import config"),
        ("adapters.sqlite", "from runwright.cycles import spec"),
        ("adapters.sqlite", "from runwright.bootstrap import wired"),
        ("bootstrap.reports", "from runwright.cycles import spec"),
        ("views", "from runwright.adapters.sqlite import Store"),
        ("config", "from runwright.adapters import files"),
        ("cli.run", "from runwright.adapters import sqlite"),
        ("cli.run", "from runwright.cycles import spec"),
        ("web.pages", "from runwright.gates import spec"),
        ("__main__", "from runwright.kernel import run"),
        ("cli.run", "import importlib\nimportlib.import_module('runwright.adapters.sqlite')"),
        ("cycles.plan", "from ..trials import spec"),
        (
            "cycles.plan",
            "import typing\nif typing.TYPE_CHECKING:\n    from runwright.trials import spec",
        ),
        ("cycles.plan", "def later():\n    from runwright.adapters import clock"),
        ("surprise", "import json"),
    ],
)
def test_an_import_in_the_wrong_direction_is_caught(
    tmp_path: Path, importer: str, statement: str
) -> None:
    root = plant(
        tmp_path,
        {
            module("kernel.record.ledger"): "",
            module("kernel.drive.lanes"): "",
            module("kernel.drive.conductor"): "",
            module("trials.spec"): "",
            module("cycles.spec"): "",
            module("gates.spec"): "",
            module("adapters.sqlite"): "",
            module("adapters.clock"): "",
            module(importer): statement,
        },
    )
    violations = layers.import_direction(root)
    assert len(violations) == 1
    assert violations[0].startswith(f"runwright.{importer}:")


def test_the_map_allows_what_it_draws(tmp_path: Path) -> None:
    root = plant(
        tmp_path,
        {
            module("kernel.run"): "from runwright.kernel import errors",
            module("kernel.errors"): "",
            module("kernel.drive.conductor"): "from runwright.kernel.record import ledger",
            module("kernel.record.ledger"): "from runwright.kernel import errors",
            module("cycles.plan"): "from runwright.kernel.run import Round",
            module("adapters.sqlite"): "from runwright.kernel import errors",
            module("bootstrap.project"): "from runwright.adapters import sqlite",
            module("cli.main"): "from runwright import __version__",
            module("cli.run"): "from runwright.bootstrap import project",
            module("__main__"): "from runwright.cli.main import main",
        },
    )
    assert layers.import_direction(root) == []


@pytest.mark.parametrize(
    "second",
    [
        "from runwright.kernel.first import one",
        "import typing\nif typing.TYPE_CHECKING:\n    from runwright.kernel import first",
        "def later():\n    import runwright.kernel.first",
    ],
)
def test_a_cycle_is_caught_in_whatever_way_it_hides(tmp_path: Path, second: str) -> None:
    root = plant(
        tmp_path,
        {
            module("kernel.first"): "from runwright.kernel import middle",
            module("kernel.middle"): "import runwright.kernel.second",
            module("kernel.second"): second,
        },
    )
    names = ("first", "middle", "second", "first")
    cycle = " -> ".join(f"runwright.kernel.{name}" for name in names)
    assert layers.import_cycles(root) == [cycle]


def test_an_unexplained_import_in_a_function_is_caught(tmp_path: Path) -> None:
    root = plant(
        tmp_path,
        {
            module("cli.run"): """
            def explained():
                import rich  # lazy: takes 60 ms, and only a terminal needs it
                from rich.table import (  # lazy: as above
                    Table,
                )

            def extra():
                import altair

            def unexplained():
                import json
                import csv  # lazy:
            """
        },
    )
    assert layers.imports_in_functions(root) == [
        "runwright.cli.run:12: import of json in a function without `# lazy: <reason>`",
        "runwright.cli.run:13: import of csv in a function without `# lazy: <reason>`",
    ]


@pytest.mark.parametrize("room", ["cycles.plan", "trials.judge", "gates.report", "streams.cuts"])
@pytest.mark.parametrize(
    "statement",
    ["import os", "from pathlib import Path", "import urllib.request", "text = open('x').read()"],
)
def test_a_pure_room_that_touches_the_world_is_caught(
    tmp_path: Path, room: str, statement: str
) -> None:
    root = plant(tmp_path, {module(room): statement})
    assert [line.partition(":")[0] for line in layers.purity(root)] == [f"runwright.{room}"]


def test_the_rooms_of_the_world_may_touch_it(tmp_path: Path) -> None:
    root = plant(
        tmp_path,
        {
            module("cycles.observe"): "import os",
            module("cycles.calls"): "from pathlib import Path",
            module("adapters.files"): "import shutil",
        },
    )
    assert layers.purity(root) == []


def test_a_verifier_of_fifteen_modules_is_caught(tmp_path: Path) -> None:
    chain = {
        module(f"kernel.link_{letter}"): f"from runwright.kernel import link_{following}"
        for letter, following in zip("abcdefghijklmn", "bcdefghijklmno", strict=True)
    }
    root = plant(
        tmp_path,
        {module("kernel.record.verify"): "import runwright.kernel.link_b", **chain},
    )
    assert layers.verify_closure(root) == []
    plant(root, {module("kernel.record.verify"): "import runwright.kernel.link_a"})
    plant(root, {module("kernel.link_o"): ""})
    assert layers.verify_closure(root)[0].startswith("verify needs 16 modules, 14 at most")


def test_a_verifier_that_reaches_a_store_or_the_network_is_caught(tmp_path: Path) -> None:
    root = plant(
        tmp_path,
        {
            module("kernel.record.verify"): "from runwright.kernel import canonical",
            module("kernel.canonical"): "import sqlite3\nimport urllib.request",
        },
    )
    assert layers.verify_closure(root) == [
        "runwright.kernel.canonical:1: verify reaches sqlite3",
        "runwright.kernel.canonical:2: verify reaches urllib.request",
    ]


@pytest.mark.parametrize(
    ("package", "text"),
    [
        ("kernel", '"""Doc."""\nfrom runwright.kernel import run\n'),
        ("cli", '"""Doc."""\nLIMIT = 3\n'),
        ("cycles", '"""Doc."""\nLIMIT = 3\n'),
    ],
)
def test_a_package_file_with_code_is_caught(tmp_path: Path, package: str, text: str) -> None:
    root = plant(tmp_path, {f"src/runwright/{package}/__init__.py": text})
    assert [line.partition(":")[0] for line in layers.package_files(root)] == [
        f"runwright.{package}"
    ]


def test_a_workload_may_name_itself_and_the_root_its_version(tmp_path: Path) -> None:
    root = plant(
        tmp_path,
        {
            "src/runwright/__init__.py": '"""Doc."""\n__version__ = "1"\n',
            "src/runwright/cycles/__init__.py": (
                "from runwright.cycles.plan import Cycles\n\nWORKLOAD = Cycles()\n"
            ),
            module("cycles.plan"): "",
        },
    )
    assert layers.package_files(root) == []


def test_every_exception_has_its_reason() -> None:
    assert all(layers.WORLD_MODULES.values())
