"""A regime with its reasons: one possible output of an engine, the seed's own."""

from __future__ import annotations

from typing import Final

import msgspec

#: The regimes, a closed list.
REGIMES: Final = (
    "CHOP_BALANCED",
    "CHOP_STOPHUNT",
    "LIQUIDATION_UP",
    "LIQUIDATION_DOWN",
    "SQUEEZE_UP",
    "SQUEEZE_DOWN",
    "TREND_BUILD_UP",
    "TREND_BUILD_DOWN",
    "TREND_EXHAUSTION",
)


class ExplainabilityValidationError(ValueError):
    """A regime without its reasons: which one, why, what would end it, what it permits."""


class RegimeOutput(msgspec.Struct, frozen=True, kw_only=True):
    """The regime of one symbol at one engine timestamp."""

    symbol: str
    #: The engine timestamp, epoch ms.
    timestamp: int
    regime: str
    #: 0 to 1.
    confidence: float
    #: What speaks for it.
    drivers: tuple[str, ...]
    #: What would end it.
    invalidations: tuple[str, ...]
    #: What may be done in it.
    permissions: tuple[str, ...]

    def __post_init__(self) -> None:
        """Refuse what explains nothing. Raises: ExplainabilityValidationError."""
        if self.regime not in REGIMES:
            raise ExplainabilityValidationError(f"{self.regime!r} is no regime")
        # Not NaN either, which compares with nothing.
        if not 0 <= self.confidence <= 1:
            raise ExplainabilityValidationError(f"confidence {self.confidence} is not 0 to 1")
        for name in ("drivers", "invalidations", "permissions"):
            if not getattr(self, name):
                raise ExplainabilityValidationError(f"{self.regime} names no {name}")
