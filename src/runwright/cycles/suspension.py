"""Which agents are suspended by a decision of a person, and which functions that refuses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from runwright.cycles.spec import CycleSpec
from runwright.kernel.ports import World
from runwright.kernel.run import RunPlan, Tick
from runwright.kernel.workload import Seen

#: The rule that a refusal names.
SUSPENDED: Final = "suspended"


def suspensions(tick: Tick, world: World) -> list[dict[str, Any]]:
    """Return the agents that are suspended at the instant of a tick, and by which decision."""
    found: dict[str, dict[str, Any]] = {}
    for row in world.rows("suspension_request", {"state": "APPROVED"}):
        if row["expires_ms"] and row["expires_ms"] <= tick.planned_ms:
            continue
        found[row["agent_id"]] = {
            "agent": row["agent_id"],
            "request": row["request_id"],
            "decision": row["decision_id"],
            "by": row["decided_by"],
            "reason": row["decision_reason"],
        }
    return [found[agent] for agent in sorted(found)]


def suspension_of(seen: Seen, run: RunPlan) -> tuple[str, Mapping[str, Any]]:
    """Return why a run is refused by a suspension, with its figures; empty when it is not.

    A suspended orchestrator executes nothing; any other agent's own functions are refused.
    """
    spec: CycleSpec = seen.spec
    for fact in seen.facts.get("suspended", ()):
        if fact["agent"] in (run.agent, spec.agent):
            request = fact["request"]
            message = (
                f"{SUSPENDED}: {fact['agent']} by {fact['by']} (entry {fact['decision']}):"
                f" {fact['reason']}; `runwright decide suspension/{request} close` ends it"
            )
            named = {name: fact[name] for name in ("agent", "request", "decision")}
            return message[:1000], {"rule": SUSPENDED, **named}
    return "", {}
