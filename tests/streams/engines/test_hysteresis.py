"""The rules of hysteresis, one test for each (check 26)."""

from __future__ import annotations

import json

import pytest

from runwright.streams.engine import execute
from runwright.streams.engines.hysteresis import (
    HysteresisConfig,
    HysteresisError,
    HysteresisState,
    Update,
    decide,
)
from runwright.streams.regime import RegimeOutput
from tests.streams.given import AT_MS, inputs, request

STEP_MS = 180_000
UP, CHOP, SQUEEZE = "TREND_BUILD_UP", "CHOP_BALANCED", "SQUEEZE_UP"
ENGINE = "runwright.streams.engines.hysteresis:engine"


def seen(regime: str, confidence: float = 0.9, *, step: int = 1) -> RegimeOutput:
    """Return what an engine sees at a step of the grid."""
    return RegimeOutput(
        symbol="TEST",
        timestamp=step * STEP_MS,
        regime=regime,
        confidence=confidence,
        drivers=("d",),
        invalidations=("i",),
        permissions=("p",),
    )


def after(*outputs: RegimeOutput, rules: HysteresisConfig | None = None) -> Update:
    """Return the last decision after these updates."""
    state = HysteresisState()
    update = None
    for output in outputs:
        update = decide(output, state, rules)
        state = update.state
    assert update is not None
    return update


def test_the_first_output_stands_at_once() -> None:
    """Nothing stood before, so nothing is weighed against it."""
    update = after(seen(UP, 0.3))
    assert update.decision.selected_output == seen(UP, 0.3)
    assert update.decision.effective_confidence == 0.3
    assert update.decision.transition.stable_regime is None
    assert update.state == HysteresisState(stable_output=seen(UP, 0.3), last_timestamp=STEP_MS)


def test_the_same_regime_confirms_itself_and_clears_the_candidate() -> None:
    """The newest output of it stands, with its own confidence."""
    update = after(seen(UP), seen(CHOP, step=2), seen(UP, 0.7, step=3))
    assert update.decision.selected_output == seen(UP, 0.7, step=3)
    assert update.decision.effective_confidence == 0.7
    assert (update.state.candidate_regime, update.state.candidate_count) == (None, 0)
    assert not update.decision.transition.transition_active


def test_another_regime_is_counted_and_a_third_one_counts_anew() -> None:
    """What stands is held meanwhile."""
    two = after(seen(UP), seen(CHOP, step=2), seen(CHOP, step=3))
    assert (two.state.candidate_regime, two.state.candidate_count) == (CHOP, 2)
    assert two.decision.selected_output == seen(UP)
    assert two.decision.transition.transition_active
    other = after(seen(UP), seen(CHOP, step=2), seen(CHOP, step=3), seen(SQUEEZE, step=4))
    assert (other.state.candidate_regime, other.state.candidate_count) == (SQUEEZE, 1)
    assert other.decision.selected_output == seen(UP)


def test_the_third_update_with_confidence_flips() -> None:
    """0.6 is enough; then the candidate stands and nothing is counted any more."""
    outputs = [seen(UP), *(seen(CHOP, 0.6, step=step) for step in (2, 3, 4))]
    update = after(*outputs)
    assert update.decision.selected_output == outputs[-1]
    assert update.decision.effective_confidence == 0.6
    transition = update.decision.transition
    assert (transition.flipped, transition.candidate_count) == (True, 3)
    assert transition.stable_regime == UP
    assert update.state == HysteresisState(stable_output=outputs[-1], last_timestamp=4 * STEP_MS)
    unsure = after(*outputs[:-1], seen(CHOP, 0.59, step=4))
    assert unsure.decision.selected_output == seen(UP)
    assert unsure.state.candidate_count == 3
    later = decide(seen(CHOP, 0.61, step=5), unsure.state)
    assert later.decision.transition.flipped


@pytest.mark.parametrize(("updates", "factor"), [(1, 0.85), (2, 0.85**2), (4, 0.85**4)])
def test_what_is_held_decays_with_every_update(updates: int, factor: float) -> None:
    """The confidence that it had, times 0.85 for each."""
    outputs = [seen(CHOP, 0.5, step=2 + update) for update in range(updates)]
    update = after(seen(UP, 0.8), *outputs)
    assert update.decision.selected_output == seen(UP, 0.8)
    assert update.decision.effective_confidence == pytest.approx(0.8 * factor, abs=1e-15)
    assert update.state.stable_output == seen(UP, 0.8)


def test_the_confidence_of_what_is_held_has_a_floor() -> None:
    """0.2, also for what had less from the start."""
    outputs = [seen(CHOP, 0.1, step=2 + update) for update in range(20)]
    assert after(seen(UP), *outputs).decision.effective_confidence == 0.2
    assert after(seen(UP, 0.1), outputs[0]).decision.effective_confidence == 0.2


def test_after_a_gap_everything_starts_anew() -> None:
    """One interval is none; a millisecond more is."""
    held = after(seen(UP), seen(CHOP, step=2))
    assert held.decision.selected_output == seen(UP)
    rules = HysteresisConfig(update_interval_ms=STEP_MS - 1)
    update = after(seen(UP), seen(CHOP, 0.1, step=2), rules=rules)
    assert update.decision.selected_output == seen(CHOP, 0.1, step=2)
    assert update.decision.transition.reset_due_to_gap
    assert (update.state.candidate_regime, update.state.candidate_count) == (None, 0)
    assert not held.decision.transition.reset_due_to_gap


@pytest.mark.parametrize("step", [0, 1])
def test_a_time_that_is_not_later_is_an_error(step: int) -> None:
    """The state is left as it was."""
    state = after(seen(UP)).state
    with pytest.raises(HysteresisError, match=f"{step * STEP_MS} is not after {STEP_MS}"):
        decide(seen(UP, step=step), state)
    assert state == after(seen(UP)).state


def test_the_rules_hold_over_the_seam() -> None:
    """States go from run to run as text; the fourth of a new regime in a row has flipped."""
    state, regimes, counts = "", [], []
    for step, z in enumerate((0.0, 2.0, 2.0, 2.0, 2.0), 1):
        at_ms = step * STEP_MS
        market = {"price": 2, "vwap": 1, "atr_z": z, "range_expansion": 2.0}
        asked = request(
            ENGINE,
            inputs(at_ms, market=market),
            mode="hysteresis",
            engine_timestamp_ms=at_ms,
            state=state,
            state_timestamp_ms=at_ms - STEP_MS if state else None,
        )
        result = execute(asked)
        assert execute(asked) == result
        state = result.state
        assert json.loads(result.decision)["selected_output"] == json.loads(result.output)
        regimes.append(json.loads(result.output)["regime"])
        counts.append(json.loads(state)["candidate_count"])
    assert regimes == [CHOP, CHOP, CHOP, UP, UP]
    assert counts == [0, 1, 2, 0, 0]


def test_its_own_violation_has_the_name_of_the_seam() -> None:
    """Also where the seam was not told when the state was made."""
    state = execute(request(ENGINE, inputs(market=WIDE), mode="hysteresis")).state
    again = execute(request(ENGINE, inputs(market=WIDE), mode="hysteresis", state=state))
    assert (again.error_kind, again.error_detail) == (
        "hysteresis_monotonicity_violation",
        "HysteresisError",
    )
    assert json.loads(state)["last_timestamp"] == AT_MS


WIDE = {"price": 2, "vwap": 1, "atr_z": 2.0, "range_expansion": 2.0}
