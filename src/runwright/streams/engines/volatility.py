"""A small engine: how wide a market moves against its own past, as a regime with its reasons.

Only `market.atr_z` and `market.range_expansion` decide; which way it moves is told by the price
against `market.vwap`, or against the one of `market.structure_levels` that `config.level` names. A
snapshot without them explains nothing, and the run fails by that name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from runwright.streams.engine import EngineInput
from runwright.streams.missing import MISSING
from runwright.streams.regime import ExplainabilityValidationError, RegimeOutput
from runwright.streams.snapshot import MarketSnapshot

#: By default, from how many deviations above its mean the range counts as wide.
WIDE_Z: Final = 1.0
#: From how many below as narrow.
NARROW_Z: Final = -1.0
#: From which share of the usual range a bar expands.
EXPANDING: Final = 1.5
#: Deviations at which nothing more is added to the confidence.
SATURATED_Z: Final = 3.0
#: What an average market leaves of confidence.
CONFIDENCE_MIN: Final = 0.5

_PERMISSIONS: Final = {
    "CHOP_BALANCED": ("mean_reversion",),
    "CHOP_STOPHUNT": ("reduce_size",),
    "SQUEEZE_UP": ("prepare_breakout",),
    "SQUEEZE_DOWN": ("prepare_breakout",),
    "TREND_BUILD_UP": ("follow_up",),
    "TREND_BUILD_DOWN": ("follow_down",),
}


def engine(given: EngineInput) -> RegimeOutput:
    """Name the volatility regime of a snapshot. Raises: ExplainabilityValidationError."""
    if given.snapshot is None:
        raise ExplainabilityValidationError("there is no snapshot")
    market = given.snapshot.market
    z = _number(market, "atr_z")
    expansion = _number(market, "range_expansion")
    side = "UP" if _number(market, "price") >= _level(market, given.config.get("level")) else "DOWN"
    wide, narrow = given.config.get("wide_z", WIDE_Z), given.config.get("narrow_z", NARROW_Z)
    if z >= wide:
        is_expanding = expansion >= given.config.get("expanding", EXPANDING)
        regime = f"TREND_BUILD_{side}" if is_expanding else "CHOP_STOPHUNT"
        invalidation = f"atr_z below {wide}"
    elif z <= narrow:
        regime, invalidation = f"SQUEEZE_{side}", f"atr_z above {narrow}"
    else:
        regime, invalidation = "CHOP_BALANCED", f"atr_z outside {narrow} to {wide}"
    strength = min(abs(z), SATURATED_Z) / SATURATED_Z
    return RegimeOutput(
        symbol=given.symbol,
        timestamp=given.engine_timestamp_ms,
        regime=regime,
        confidence=CONFIDENCE_MIN + (1 - CONFIDENCE_MIN) * strength,
        drivers=(f"atr_z {z}", f"range_expansion {expansion}"),
        invalidations=(invalidation,),
        permissions=_PERMISSIONS[regime],
    )


def _number(market: MarketSnapshot, name: str) -> float:
    return _given(getattr(market, name), name)


def _level(market: MarketSnapshot, name: str | None) -> float:
    """Return what the price is held against."""
    if name is None:
        return _number(market, "vwap")
    levels = market.structure_levels
    value = levels.get(name) if isinstance(levels, Mapping) else MISSING
    return _given(value, f"structure_levels.{name}")


def _given(value: Any, path: str) -> float:
    if not isinstance(value, int | float):
        raise ExplainabilityValidationError(f"market.{path} was not given")
    return value
