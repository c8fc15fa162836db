"""Cycles: the registered functions, each isolated, in order; proof of what ran."""

from __future__ import annotations

from runwright.cycles.budget import permit
from runwright.cycles.closing import reconcile
from runwright.cycles.fold import fold
from runwright.cycles.judge import judge
from runwright.cycles.observe import observe
from runwright.cycles.plan import plan
from runwright.cycles.registry import declare
from runwright.cycles.report import report
from runwright.cycles.spec import CYCLE_INTERVAL_S, CycleSpec, agents_of
from runwright.cycles.tables import TABLES
from runwright.cycles.timetable import in_force
from runwright.kernel.workload import Workload

WORKLOAD = Workload(
    kind="cycles",
    Spec=CycleSpec,
    tables=TABLES,
    interval_s=CYCLE_INTERVAL_S,
    agents=agents_of,
    register=declare,
    schedule=in_force,
    observe=observe,
    plan=plan,
    judge=judge,
    report=report,
    fold=fold,
    permit=permit,
    reconcile=reconcile,
)
