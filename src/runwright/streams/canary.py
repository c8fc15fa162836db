"""A second execution of some runs, whose answer has to be the same, byte for byte.

Which runs are sampled follows from their ids alone, so it is the same in every repetition and
replay. The second execution is done by a `twin`, where everything differs that an engine must not
look at: the clock, the seeds, the order of sets, the environment and what earlier runs left behind.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import msgspec

from runwright.streams.difference import ABSENT, first_place
from runwright.streams.engine import EngineRequest, Result

#: Of so many runs, `canary_ppm` are sampled.
MILLION: Final = 1_000_000
#: Digits of a run id that decide: 64 bits.
DIGITS: Final = 16
#: Characters of each value that a difference is told with.
VALUE_MAX: Final = 80
#: Milliseconds that a twin may take to start.
START_MS: Final = 10_000


class Difference(NamedTuple):
    """Where two answers differ first, by sorted keys."""

    #: "output.reasons[0].at".
    path: str
    #: Both values as JSON, shortened; "" where there is none.
    first: str
    second: str

    def __str__(self) -> str:
        return f"{self.path}: {self.first or 'nothing'} != {self.second or 'nothing'}"


def is_sampled(run_id: str, canary_ppm: int) -> bool:
    """Say whether a run is executed twice, by its id."""
    return int(run_id[:DIGITS], 16) % MILLION < canary_ppm


def timeout_ms(engine_ms: int, *, sampled: bool) -> int:
    """Return how long a run may take: a sampled one twice as long, and the start of its twin."""
    return 2 * engine_ms + START_MS if sampled else engine_ms


def checked(
    request: EngineRequest, first: Result, second: Callable[[EngineRequest], Result | None]
) -> Result:
    """Return the first result where a second execution gives the same, else what differs.

    A run that has failed already is not executed again. `second` answers None when it did not end.
    """
    if first.is_failed:
        return first
    again = second(request)
    if again is None:
        detail = "the second execution did not end"
    elif again.is_failed:
        detail = f"output: the second execution fails by {again.error_kind} {again.error_detail}"
    else:
        difference = difference_of(first, again)
        if difference is None:
            return first
        detail = str(difference)
    return Result(
        error_kind="engine_nondeterministic",
        error_detail=detail,
        snapshot_index=first.snapshot_index,
        snapshot_sha256=first.snapshot_sha256,
    )


def difference_of(first: Result, second: Result) -> Difference | None:
    """Return where two results differ first: in the output, the decision or the state."""
    for name in ("output", "decision", "state"):
        one, other = getattr(first, name), getattr(second, name)
        if one != other:
            return first_difference(_value(one), _value(other), name)
    return None


def _value(text: str) -> Any:
    return msgspec.json.decode(text) if text else None


def first_difference(one: Any, other: Any, path: str) -> Difference | None:
    """Return the first place where two JSON values have another text, as it is told."""
    found = first_place(one, other, path)
    if found is None:
        return None
    return Difference(found.path, _told(found.first), _told(found.second))


def _told(value: Any) -> str:
    if value is ABSENT:
        return ""
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= VALUE_MAX else f"{text[: VALUE_MAX - 1]}…"
