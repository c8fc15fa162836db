"""The example engine names a regime with its reasons, or fails by name."""

from __future__ import annotations

import json

import pytest

from runwright.streams.engine import execute
from runwright.streams.regime import REGIMES, ExplainabilityValidationError, RegimeOutput
from tests.streams.given import AT_MS, inputs, request, tick

ENGINE = "runwright.streams.engines.volatility:engine"


@pytest.mark.parametrize(
    ("z", "expansion", "price", "regime", "confidence"),
    [
        (0.0, 1.0, 2, "CHOP_BALANCED", 0.5),
        (1.5, 2.0, 2, "TREND_BUILD_UP", 0.75),
        (1.5, 2.0, 0.5, "TREND_BUILD_DOWN", 0.75),
        (3.0, 1.0, 2, "CHOP_STOPHUNT", 1.0),
        (-9.0, 1.0, 2, "SQUEEZE_UP", 1.0),
        (-1.0, 1.0, 0.5, "SQUEEZE_DOWN", 0.5 + 0.5 / 3),
    ],
)
def test_a_range_against_its_past_is_a_regime(
    z: float, expansion: float, price: float, regime: str, confidence: float
) -> None:
    """With what drives it, what would end it and what it permits."""
    market = {"price": price, "vwap": 1.0, "atr_z": z, "range_expansion": expansion}
    output = json.loads(execute(request(ENGINE, inputs(market=market))).output)
    assert (output["regime"], output["confidence"]) == (regime, confidence)
    assert output["regime"] in REGIMES
    assert (output["symbol"], output["timestamp"]) == ("TEST", AT_MS)
    assert output["drivers"] == [f"atr_z {z}", f"range_expansion {expansion}"]
    assert output["invalidations"]
    assert output["permissions"]


@pytest.mark.parametrize("absent", ["atr_z", "range_expansion", "price", "vwap"])
@pytest.mark.parametrize("how", ["left out", "none"])
def test_a_sparse_snapshot_explains_nothing(absent: str, how: str) -> None:
    """The run fails by the seed's name."""
    market = {"price": 2, "vwap": 1.0, "atr_z": 1.0, "range_expansion": 1.0}
    market = {**market, absent: None}
    if how == "left out":
        del market[absent]
    result = execute(request(ENGINE, inputs(market=market)))
    assert (result.error_kind, result.error_detail) == (
        "engine_failure",
        "ExplainabilityValidationError",
    )


def test_without_a_snapshot_it_fails_by_that_name_too() -> None:
    """Where the spec leaves a snapshot optional."""
    result = execute(request(ENGINE, tick(), snapshot="optional"))
    assert result.error_detail == "ExplainabilityValidationError"


def test_its_limits_are_configuration() -> None:
    """What is wide for one market is not for another."""
    market = {"price": 2, "vwap": 1.0, "atr_z": 1.5, "range_expansion": 2.0}
    asked = request(ENGINE, inputs(market=market), config='{"wide_z":2.0}')
    assert json.loads(execute(asked).output)["regime"] == "CHOP_BALANCED"


def test_the_price_is_held_against_the_level_that_its_configuration_names() -> None:
    """Above the vwap and below the mean of its closes: the configuration says which one counts."""
    market = {
        "price": 2,
        "vwap": 1.0,
        "atr_z": -1.5,
        "range_expansion": 1.0,
        "structure_levels": {"mean_20": 3.0},
    }
    plain = execute(request(ENGINE, inputs(market=market)))
    asked = execute(request(ENGINE, inputs(market=market), config='{"level":"mean_20"}'))
    assert json.loads(plain.output)["regime"] == "SQUEEZE_UP"
    assert json.loads(asked.output)["regime"] == "SQUEEZE_DOWN"


@pytest.mark.parametrize("levels", [{}, None, {"mean_20": None}, {"mean_50": 3.0}])
def test_a_level_that_was_not_given_explains_nothing(levels: object) -> None:
    """Nothing else stands in for it, the vwap neither."""
    market = {
        "price": 2,
        "vwap": 1.0,
        "atr_z": -1.5,
        "range_expansion": 1.0,
        "structure_levels": levels,
    }
    result = execute(request(ENGINE, inputs(market=market), config='{"level":"mean_20"}'))
    assert result.error_detail == "ExplainabilityValidationError"


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("regime", "BULL", "'BULL' is no regime"),
        ("confidence", 1.1, "confidence 1.1 is not 0 to 1"),
        ("confidence", float("nan"), "confidence nan is not 0 to 1"),
        ("drivers", (), "CHOP_BALANCED names no drivers"),
        ("invalidations", (), "CHOP_BALANCED names no invalidations"),
        ("permissions", (), "CHOP_BALANCED names no permissions"),
    ],
)
def test_an_output_that_does_not_explain_itself_cannot_be_made(
    field: str, value: object, message: str
) -> None:
    """Each of its reasons is required."""
    known = {
        "symbol": "TEST",
        "timestamp": 1,
        "regime": "CHOP_BALANCED",
        "confidence": 0.5,
        "drivers": ("d",),
        "invalidations": ("i",),
        "permissions": ("p",),
    }
    with pytest.raises(ExplainabilityValidationError, match=message):
        RegimeOutput(**{**known, field: value})
