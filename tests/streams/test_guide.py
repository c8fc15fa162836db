"""The guide to consuming a stream: its code runs, and does what the guide says."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.streams.samples import event, events
from tests.tidy.tree import REPOSITORY

GUIDE = REPOSITORY / "docs/guides/consume-a-stream.md"


@pytest.mark.slow
def test_the_code_of_the_guide_consumes_a_file_once_and_tells_of_a_gap(tmp_path):
    """Three runs of it: the events, then only what is new, then the gap behind a lost event."""
    code = re.search(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)[1]
    assert len([line for line in code.splitlines() if line]) < 14
    path = tmp_path / "out" / "regimes.jsonl"
    path.parent.mkdir()

    def run(lines):
        path.write_bytes(b"".join(line + b"\n" for line in lines))
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        return done.stdout.splitlines()

    lines = events(2)
    first = run([*lines, *lines])
    assert [line.split()[:2] for line in first] == [
        ["BTC", "1"],
        ["ETH", "1"],
        ["BTC", "2"],
        ["ETH", "2"],
    ]
    assert run([*lines, event("BTC", 3)]) == ["BTC 3 EngineRunStarted"]
    assert run([*lines, event("BTC", 5)]) == ["look: gap BTC 5 (4, 4) "]
