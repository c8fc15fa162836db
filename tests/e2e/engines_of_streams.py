"""Engines that go wrong, each in its own way; copied beside a spec by the tests."""

from __future__ import annotations

import time


def hangs(given):
    """Never answer about BTC."""
    while given.symbol == "BTC":
        time.sleep(60)
    return {"ok": True}


def raises(given):
    """Raise for BTC."""
    if given.symbol == "BTC":
        raise ValueError("no")
    return {"ok": True}


def wrong_type(given):
    """Answer with no object for BTC."""
    return 5 if given.symbol == "BTC" else {"ok": True}


def not_a_number(given):
    """Answer with NaN for BTC."""
    return {"value": float("nan") if given.symbol == "BTC" else 1.5}


def differs(given):
    """Answer about BTC with what it saw before."""
    return {"at": time.time() if given.symbol == "BTC" else 0}


def dies(given):
    """End the process for BTC."""
    import os

    if given.symbol == "BTC":
        os._exit(9)
    return {"ok": True}
