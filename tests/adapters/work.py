"""Work for the places under test, and what came of it."""

from __future__ import annotations

import os
from typing import Any

from runwright.kernel.ports import Place, Work
from runwright.kernel.run import Call, Command, Executed, RunPlan
from tests.adapters.hostile import SOON_S


def command(*argv: str, key: str = "run", memory: Any = None, **fields: Any) -> Work:
    """Return work that executes a command."""
    plan = RunPlan(key=key, work=Command(argv=argv, **fields))
    return Work(plan=plan, run=unique(), scheduled_ms=1_700_000_000_000)


def call(
    name: str,
    *,
    key: str = "run",
    inputs: tuple[bytes, ...] = (),
    limits: dict[str, Any] | None = None,
    **args: Any,
) -> Work:
    """Return work that calls a function of `hostile`, under limits of its own."""
    wanted = Call(name=f"tests.adapters.hostile:{name}", args=args, **(limits or {}))
    plan = RunPlan(key=key, work=wanted)
    return Work(plan=plan, run=unique(), inputs=inputs, memory={"lane": "kept"})


def unique() -> str:
    """Return a run id that no other test has."""
    return os.urandom(32).hex()


def finish(place: Place, work: list[Work]) -> list[Executed]:
    """Start work and wait until all of it has ended."""
    place.start(work)
    return collect(place, len(work))


def collect(place: Place, count: int) -> list[Executed]:
    """Wait until so many have ended."""
    ended: list[Executed] = []
    while len(ended) < count:
        some = place.wait(SOON_S * 3)
        assert some, f"only {len(ended)} of {count} ended"
        ended += some
    return ended


def kept(executed: Executed, name: str) -> bytes:
    """Return the bytes of an outcome's blob, nothing when there is none."""
    digests = {blob.name: blob.digest for blob in executed.outcome.blobs}
    data = {content.digest: content.data for content in executed.contents}
    return data[digests[name]] if name in digests else b""
