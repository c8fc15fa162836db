"""A regime that holds until another one has shown itself often and clearly enough.

It asks another engine what it sees now, and decides what is to stand: the first regime stands at
once; the same one confirms itself; another one is a candidate, counted from update to update, and
stands once it came often enough in a row with enough confidence. Until then the old one is held,
with a confidence that decays down to a floor. After a gap everything starts anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from runwright.streams.engine import (
    EngineInput,
    HysteresisAnswer,
    MonotonicityViolation,
    load,
)
from runwright.streams.regime import RegimeOutput


class HysteresisError(MonotonicityViolation):
    """The time of an update is not after that of the last one."""


class HysteresisConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When another regime is to stand."""

    #: Updates in a row that name the same other regime.
    min_persistence_updates: int = 3
    #: The confidence of the last of them.
    min_confidence_for_flip: float = 0.6
    #: What is left of the confidence of the one that is held, for each update.
    decay_factor: float = 0.85
    #: Below which that does not fall.
    min_confidence_floor: float = 0.2
    #: A longer time since the last update is a gap.
    update_interval_ms: int = 180_000


class HysteresisState(msgspec.Struct, frozen=True, kw_only=True):
    """What one update leaves for the next."""

    stable_output: RegimeOutput | None = None
    #: The other regime that is being counted.
    candidate_regime: str | None = None
    candidate_count: int = 0
    #: Epoch ms.
    last_timestamp: int | None = None


class HysteresisTransition(msgspec.Struct, frozen=True, kw_only=True):
    """How an update changed what stands."""

    #: What stood before; None: nothing did.
    stable_regime: str | None
    candidate_regime: str | None
    candidate_count: int
    #: Another regime is being counted.
    transition_active: bool
    #: The candidate stands now.
    flipped: bool
    reset_due_to_gap: bool


class HysteresisDecision(msgspec.Struct, frozen=True, kw_only=True):
    """What stands after an update."""

    selected_output: RegimeOutput
    effective_confidence: float
    transition: HysteresisTransition


class Update(msgspec.Struct, frozen=True, kw_only=True):
    """A decision, and the state that it leaves."""

    decision: HysteresisDecision
    state: HysteresisState


#: What this engine asks when its configuration names no other.
TRUTH = "runwright.streams.engines.volatility:engine"


def engine(given: EngineInput, state: Mapping[str, Any] | None) -> HysteresisAnswer:
    """Ask `config.truth` what it sees, and decide by `config.hysteresis` what is to stand."""
    seen = msgspec.convert(_built(load(given.config.get("truth", TRUTH))(given)), RegimeOutput)
    before = msgspec.convert(_built(state or {}), HysteresisState)
    rules = msgspec.convert(_built(given.config.get("hysteresis", {})), HysteresisConfig)
    update = decide(seen, before, rules)
    return HysteresisAnswer(update.decision, update.state)


def _built(value: Any) -> Any:
    """Return a value as msgspec converts it: read-only mappings as dicts, structs as objects."""
    return msgspec.to_builtins(value, enc_hook=dict)


def decide(
    seen: RegimeOutput, state: HysteresisState, rules: HysteresisConfig | None = None
) -> Update:
    """Decide what is to stand. Raises: HysteresisError for a time that is not a later one."""
    rules = rules or HysteresisConfig()
    last = state.last_timestamp
    if last is not None and seen.timestamp <= last:
        raise HysteresisError(f"{seen.timestamp} is not after {last}")
    stable = state.stable_output
    is_gap = last is not None and seen.timestamp - last > rules.update_interval_ms
    if stable is None or is_gap:
        return _stands(seen, stable, is_gap=is_gap)
    if seen.regime == stable.regime:
        return _stands(seen, stable)
    is_known = seen.regime == state.candidate_regime
    count = state.candidate_count + 1 if is_known else 1
    is_clear = seen.confidence >= rules.min_confidence_for_flip
    if count >= rules.min_persistence_updates and is_clear:
        return _stands(seen, stable, count=count, flipped=True)
    decayed = stable.confidence * rules.decay_factor**count
    return Update(
        decision=HysteresisDecision(
            selected_output=stable,
            effective_confidence=max(decayed, rules.min_confidence_floor),
            transition=HysteresisTransition(
                stable_regime=stable.regime,
                candidate_regime=seen.regime,
                candidate_count=count,
                transition_active=True,
                flipped=False,
                reset_due_to_gap=False,
            ),
        ),
        state=HysteresisState(
            stable_output=stable,
            candidate_regime=seen.regime,
            candidate_count=count,
            last_timestamp=seen.timestamp,
        ),
    )


def _stands(
    seen: RegimeOutput,
    before: RegimeOutput | None,
    *,
    count: int = 0,
    flipped: bool = False,
    is_gap: bool = False,
) -> Update:
    """Let what is seen stand, with its own confidence and no candidate."""
    return Update(
        decision=HysteresisDecision(
            selected_output=seen,
            effective_confidence=seen.confidence,
            transition=HysteresisTransition(
                stable_regime=before.regime if before is not None else None,
                candidate_regime=seen.regime if flipped else None,
                candidate_count=count,
                transition_active=False,
                flipped=flipped,
                reset_due_to_gap=is_gap,
            ),
        ),
        state=HysteresisState(stable_output=seen, last_timestamp=seen.timestamp),
    )
