"""Sizes are measured, not guessed."""

from __future__ import annotations

from pathlib import Path

from tests.tidy.metrics import metrics
from tests.tidy.planting import module, plant


def test_sizes_are_counted(tmp_path: Path) -> None:
    root = plant(
        tmp_path,
        {
            "src/runwright/__init__.py": '"""Doc."""\n',
            module("kernel.drive.conductor"): (
                "class Conductor:\n    def conduct(self):\n        try:\n            pass\n"
                "        except Exception:\n            pass\n"
            ),
            "tests/test_x.py": "x = 1\n" * 16,
        },
    )
    found = {metric.name: metric.ours for metric in metrics(root)}
    assert found["function lines max"] == "5 (runwright.kernel.drive.conductor.conduct)"
    assert found["largest class"] == "6 (runwright.kernel.drive.conductor.Conductor)"
    assert found["conductor lines"] == "6"
    assert found["broad excepts"] == "1 (125.0 per 1000 lines)"
    assert found["test lines / source lines"] == "2.00 (16 / 8)"


def test_an_empty_tree_has_no_sizes(tmp_path: Path) -> None:
    assert metrics(tmp_path)[0].ours == "-"
