"""When a run that asked to be repeated is due again: bounded, and the same every time."""

from __future__ import annotations

from typing import Final

from runwright.kernel.errors import InvalidSpec
from runwright.kernel.run import Retry

#: The most attempts that a spec may ask for.
ATTEMPTS_MAX: Final = 100


def delay_s(retry: Retry, attempts: int) -> float | None:
    """Return the wait after so many attempts, or None when there is no further one.

    delay = min_s * 2 ** k, capped at max_s, k from 0; no jitter, no wait after the last attempt.
    """
    if attempts >= retry.attempts:
        return None
    doublings = min(attempts - 1, 100)
    return float(min(retry.max_s, retry.min_s * 2**doublings))


def check(retry: Retry) -> None:
    """Refuse a table that cannot be meant. Raises: invalid-spec."""
    if not 1 <= retry.attempts <= ATTEMPTS_MAX:
        message = f"retry.attempts: {retry.attempts} is not within 1 to {ATTEMPTS_MAX}"
        raise InvalidSpec(message)
    if retry.on_failure and retry.attempts == 1:
        message = "retry.on_failure: with one attempt nothing is repeated; give attempts"
        raise InvalidSpec(message)
    if retry.min_s < 0 or retry.max_s < retry.min_s:
        message = f"retry.max_s: {retry.max_s} is below retry.min_s {retry.min_s}"
        raise InvalidSpec(message)
