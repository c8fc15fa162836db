"""Streams compute nothing on market values and know no consumer (check 25)."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from runwright.streams.neutral import computations, consumers
from tests.tidy.tree import REPOSITORY

STREAMS = REPOSITORY / "src/runwright/streams"


def sources(root: Path = STREAMS) -> dict[str, str]:
    """Return the text of every module of the package by its name."""
    found = {}
    for path in root.rglob("*.py"):
        parts = [*path.relative_to(root).with_suffix("").parts]
        name = ".".join(["runwright.streams", *(part for part in parts if part != "__init__")])
        found[name] = path.read_text(encoding="utf-8")
    return found


def test_nothing_outside_the_engines_computes_on_market_values() -> None:
    """Check 25, on the package as it is."""
    assert len(sources()) > 10
    assert computations(sources()) == []


def test_nothing_outside_the_engines_knows_a_consumer() -> None:
    """Check 25: only values of the kernel, the standard library and msgspec are imported."""
    assert consumers(sources()) == []


@pytest.mark.parametrize(
    "code",
    [
        "event.normalized['price'] * 2",
        "event.normalized.price + 1",
        "-event['normalized']['price']",
        "row.get('close') - row.get('open')",
        "mid = (top['best_bid_price'] + top['best_ask_price']) / 2",
        "p = event.normalized['price']\nq = p\nr = q ** 2",
        "total = 0\nfor t in trades:\n    total += t['quantity']",
        "sum(t.normalized['quantity'] for t in trades)",
        "max(candle['high'], other)",
        "import math\nmath.log(float(candle['close']))",
        "values = [float(c['close']) for c in candles]\nvalues[1] / values[0]",
        "match event:\n    case {'price': p}:\n        p * 2",
        "match event:\n    case Trade(price=p):\n        p * 2",
        "for name, value in event.normalized.items():\n    value // 2",
        "if (v := snapshot.market.vwap):\n    v % 3",
        "def inner(price):\n    return price * 2",
        "with_open = bar['open'] * 2",
        "lambda e: e.atr_z + 1",
        "with reader(event.normalized) as r:\n    r + 1",
    ],
)
def test_a_computation_is_found(code: str) -> None:
    """The control: through names, calls, loops, patterns."""
    text = "def planted(event):\n" + "\n".join(f"    {line}" for line in code.splitlines())
    found = computations({"runwright.streams.plan": text})
    assert found
    assert all(one.startswith("runwright.streams.plan:") and "computes" in one for one in found)


def test_what_is_no_computation_is_left_alone() -> None:
    """Handing a value on, looking for it, counting, and arithmetic on times and places."""
    text = dedent("""
        import math

        def planted(event, file, record):
            file.close()
            stamp = event.recv_ts_ms + 1
            text = f"{event.normalized['price']} was read"
            count = len(event.normalized) + 1
            there = "price" in event.normalized and event.normalized["price"] is not None
            finite = math.isfinite(event.normalized["price"])
            merged = {**event.normalized} | {"a": 1}
            return handed(event.normalized), stamp, text, count, there, merged, finite

        def other(value):
            return value + 1

        def third(value):
            value = value.normalized
            return value
    """)
    assert computations({"runwright.streams.plan": text}) == []


def test_an_engine_may_compute() -> None:
    """And only there: the same text elsewhere is found."""
    text = "import numpy\nrun = lambda event: event.normalized['price'] * 2\n"
    assert computations({"runwright.streams.engines.volatility": text}) == []
    assert consumers({"runwright.streams.engines.volatility": text}) == []
    assert computations({"runwright.streams.enginesque": text}) != []
    assert consumers({"runwright.streams.enginesque": text}) != []


@pytest.mark.parametrize(
    "code",
    [
        "import numpy",
        "from pandas import DataFrame",
        "import statistics",
        "from runwright.adapters.sqlite import SqliteStore",
        "from runwright.trials import WORKLOAD",
        "import runwright.kernel.drive.conductor",
        "def f():\n    from state_gate import consume",
        "import importlib\nimportlib.import_module('analysis_engine')",
        "from . import sibling",
    ],
)
def test_an_import_of_a_consumer_is_found(code: str) -> None:
    """The control: other workloads, adapters, libraries for computing, whoever reads a stream."""
    (found,) = consumers({"runwright.streams.plan": code})
    assert "imports" in found
