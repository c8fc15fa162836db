"""What leaves after a tick: its events, as one paper of JSON Lines."""

from __future__ import annotations

from collections.abc import Sequence

from runwright.kernel.criteria import Verdict
from runwright.kernel.run import Outcome, Round
from runwright.kernel.workload import Paper, Seen
from runwright.streams.events import MEDIA, tick_events
from runwright.streams.spec import StreamSpec


def report(
    seen: Seen,
    this: Round,
    outcomes: Sequence[Outcome],
    verdict: Verdict,  # noqa: ARG001
) -> Sequence[Paper]:
    """Return the events of every symbol, in order, for the transport of the spec.

    The paper stays in the store, whatever the transport is: it is what replay compares with.
    """
    spec: StreamSpec = seen.spec
    lines = tick_events(this.runs, outcomes, seen.memory)
    body = b"".join(line + b"\n" for line in lines).decode()
    transport = spec.output_publish.transport
    sink = "log" if transport == "log" else f"stream:{spec.name}"
    return [Paper(sink=sink, name=this.label, body=body, media=MEDIA)]
