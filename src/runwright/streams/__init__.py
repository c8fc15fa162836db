"""Streams: an unbounded stream of events as a replayable sequence of engine runs."""

from __future__ import annotations

from runwright.kernel.workload import Workload
from runwright.streams.flow import flow_of
from runwright.streams.judge import judge
from runwright.streams.observe import observe
from runwright.streams.plan import plan
from runwright.streams.report import report
from runwright.streams.soundness import declare
from runwright.streams.spec import StreamSpec

WORKLOAD = Workload(
    kind="streams",
    Spec=StreamSpec,
    register=declare,
    observe=observe,
    plan=plan,
    judge=judge,
    report=report,
    flow=flow_of,
)
