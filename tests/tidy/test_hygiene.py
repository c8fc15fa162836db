"""Single files, and a control for each rule about them."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tidy import hygiene
from tests.tidy.planting import module, plant
from tests.tidy.tree import REPOSITORY, tracked


@pytest.mark.parametrize("rule", hygiene.RULES, ids=lambda rule: rule.__name__)
def test_the_files_keep_the_rule(rule: Callable[[Path], list[str]]) -> None:
    assert rule(REPOSITORY) == []


@pytest.mark.parametrize("name", ["utils", "helpers", "common", "base", "manager", "misc", "core"])
def test_a_module_without_a_noun_is_caught(tmp_path: Path, name: str) -> None:
    root = plant(tmp_path, {module(f"kernel.{name}"): "", module(f"cli.{name}.run"): ""})
    assert hygiene.module_names(root) == [
        f"runwright.cli.{name}:1: `{name}` names no noun",
        f"runwright.kernel.{name}:1: `{name}` names no noun",
    ]


def test_a_number_in_a_module_name_is_caught(tmp_path: Path) -> None:
    root = plant(tmp_path, {module("cycles.plan_2024"): "", module("stage2.plan"): ""})
    assert len(hygiene.module_names(root)) == 2


@pytest.mark.parametrize(
    "source",
    [
        "import time\ntime.time()",
        "from time import time_ns",
        "import time as moment\nmoment.time_ns()",
        "import datetime\ndatetime.datetime.now()",
        "from datetime import datetime\nread = datetime.utcnow",
        "from datetime import date\ndate.today()",
        "import random",
        "from random import choice",
        "import secrets",
        "import uuid\nuuid.uuid4()",
        "from uuid import uuid4",
        "import os\nos.urandom(8)",
    ],
)
def test_a_clock_or_a_die_in_the_wrong_place_is_caught(tmp_path: Path, source: str) -> None:
    root = plant(tmp_path, {module("kernel.run"): source, module("adapters.clock"): source})
    assert len(hygiene.clock_and_randomness(root)) == 1


def test_a_clock_that_was_handed_in_is_no_violation(tmp_path: Path) -> None:
    source = "import time\n\ndef at(clock):\n    time.monotonic()\n    return clock.now()\n"
    root = plant(tmp_path, {module("kernel.run"): source})
    assert hygiene.clock_and_randomness(root) == []


@pytest.mark.parametrize(
    "source",
    [
        "try:\n    pass\nexcept Exception:\n    pass",
        "try:\n    pass\nexcept BaseException as error:\n    raise ValueError from error",
        "try:\n    pass\nexcept:\n    pass",
        "try:\n    pass\nexcept (OSError, Exception):\n    pass",
        "import contextlib\nwith contextlib.suppress(Exception):\n    pass",
    ],
)
def test_a_broad_except_is_caught(tmp_path: Path, source: str) -> None:
    root = plant(tmp_path, {module("views"): source, module("cli.main"): source})
    assert len(hygiene.broad_excepts(root)) == 1


def test_one_broad_except_too_many_is_caught(tmp_path: Path) -> None:
    source = "try:\n    pass\nexcept Exception:\n    pass\n"
    root = plant(tmp_path, {module("cli.main"): source * 2})
    assert len(hygiene.broad_excepts(root)) == 1


def test_a_broad_except_that_raises_again_swallows_nothing(tmp_path: Path) -> None:
    source = "try:\n    pass\nexcept BaseException:\n    print()\n    raise\n"
    root = plant(tmp_path, {module("views"): source})
    assert hygiene.broad_excepts(root) == []


def test_every_broad_except_has_its_reason() -> None:
    assert all(reason for _, reason in hygiene.BROAD_EXCEPTS.values())


def test_an_assertion_is_caught(tmp_path: Path) -> None:
    root = plant(tmp_path, {module("kernel.run"): "def check(x):\n    assert x\n"})
    assert hygiene.assertions(root) == ["runwright.kernel.run:2: an assert; use require()"]


@pytest.mark.parametrize("with_git", [True, False])
def test_a_large_file_is_caught(tmp_path: Path, *, with_git: bool) -> None:
    if with_git:
        subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
        (tmp_path / ".gitignore").write_text("made/\n")
        (tmp_path / "made").mkdir()
        (tmp_path / "made/out.bin").write_bytes(b"x" * (hygiene.BLOB_BYTES_MAX + 1))
    (tmp_path / "docs/images").mkdir(parents=True)
    (tmp_path / "docs/images/picture.png").write_bytes(b"x" * (hygiene.BLOB_BYTES_MAX + 1))
    (tmp_path / "data.bin").write_bytes(b"x" * (hygiene.BLOB_BYTES_MAX + 1))
    (tmp_path / "fits.bin").write_bytes(b"x" * hygiene.BLOB_BYTES_MAX)
    assert hygiene.large_files(tmp_path) == ["data.bin: 262145 bytes, 262144 at most"]


def test_the_environment_is_no_part_of_the_repository(tmp_path: Path) -> None:
    plant(tmp_path, {".venv/lib/x.py": "", "src/y.py": "", "src/__pycache__/y.pyc": ""})
    names = {path.relative_to(tmp_path).as_posix() for path in tracked(tmp_path)}
    assert names == {"src/y.py", "src/__init__.py"}


def test_unfinished_work_is_caught(tmp_path: Path) -> None:
    plant(tmp_path, {"tests/test_x.py": f"# {hygiene.UNFINISHED}: later\n", "docs/x.md": ""})
    assert hygiene.unfinished(tmp_path) == [f"tests/test_x.py:1: {hygiene.UNFINISHED}"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("tests/kernel/run_test.py", "def test_it(): ..."),
        ("tests/kernel/ledger.py", "class TestLedger:\n    def test_it(self): ..."),
        ("tests/build/test_x.py", "def test_it(): ..."),
        ("tests/kernel/conftest.py", "async def test_it(): ..."),
    ],
)
def test_a_test_that_is_never_collected_is_caught(tmp_path: Path, name: str, text: str) -> None:
    plant(tmp_path, {name: text, "tests/test_fine.py": text, "tests/drivers/child.py": "x = 1"})
    violations = hygiene.collected(tmp_path)
    assert len(violations) == 1
    assert violations[0].startswith(f"{name}: ")


def test_a_test_hidden_by_another_of_its_name_is_caught(tmp_path: Path) -> None:
    text = "def test_it(): ...\n\n\ndef test_it(): ...\n"
    plant(tmp_path, {"tests/test_x.py": text})
    assert hygiene.shadowed_tests(tmp_path) == ["tests/test_x.py:4: a second test_it"]
