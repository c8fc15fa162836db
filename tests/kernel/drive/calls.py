"""What the runs of the tests execute."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from runwright.kernel.errors import Deferred
from runwright.kernel.run import Call, Outcome, RunPlan


def _args(run: RunPlan) -> Mapping[str, Any]:
    assert isinstance(run.work, Call)
    return run.work.args


def echo(run: RunPlan, inputs: Sequence[bytes], memory: object) -> Outcome:
    """Answer with the args and the inputs."""
    value = {"args": dict(_args(run)), "inputs": [item.decode() for item in inputs]}
    return Outcome(key=run.key, status="done", value=value)


def count(run: RunPlan, inputs: Sequence[bytes], memory: Mapping[str, Any] | None) -> Outcome:
    """Count the runs of a lane."""
    seen = (memory or {"n": 0})["n"]
    return Outcome(key=run.key, status="done", value={"was": seen}, memory={"n": seen + 1})


def raises(run: RunPlan, inputs: Sequence[bytes], memory: object) -> Outcome:
    """Fail."""
    raise ValueError("broken: " + _args(run).get("text", ""))


def raises_surrogate(run: RunPlan, inputs: Sequence[bytes], memory: object) -> Outcome:
    """Fail with a text that has no UTF-8 form, as a file name can have."""
    raise ValueError("no such file: \udcff")


def defers(run: RunPlan, inputs: Sequence[bytes], memory: object) -> Outcome:
    """Ask to be repeated."""
    message = "not now"
    raise Deferred(message)


def says_too_much(run: RunPlan, inputs: Sequence[bytes], memory: object) -> Outcome:
    """Answer with more than an entry holds."""
    return Outcome(key=run.key, status="done", value={"text": "x" * 9_000})


def talks(run: RunPlan, inputs: Sequence[bytes], memory: object) -> Outcome:
    """Fail with a message longer than an entry."""
    return Outcome(key=run.key, status="failed", reason="r" * 9_000, message="m" * 20_000)


def pairs(run: RunPlan, inputs: Sequence[bytes], memory: object) -> Outcome:
    """Answer with what JSON reads back as something else: a tuple."""
    return Outcome(key=run.key, status="done", value={"pair": (1, 2)}, memory={"pair": (3, 4)})


def grows(run: RunPlan, inputs: Sequence[bytes], memory: Mapping[str, Any] | None) -> Outcome:
    """Leave a text of so many characters, and say how long the one before was."""
    left = {"text": "x" * _args(run)["size"]}
    value = {"was": len((memory or {"text": ""})["text"])}
    return Outcome(key=run.key, status="done", value=value, memory=left)


def scribbles(run: RunPlan, inputs: Sequence[bytes], memory: dict[str, Any] | None) -> Outcome:
    """Leave a count, and spoil what the run before left."""
    seen = memory["n"] if memory else 0
    if memory:
        memory["n"] = -1
    return Outcome(key=run.key, status="done", memory={"n": seen + 1})
