"""Stamps of two units are told apart from gaps; gaps of real histories never are mistaken."""

from __future__ import annotations

import pytest

from runwright.kernel.drive.unfit import step_of

DAY_MS = 86_400_000
NOW_MS = 1_767_225_600_000


@pytest.mark.parametrize(
    ("before_ms", "stamps", "place"),
    [
        (0, [NOW_MS // 1000, NOW_MS, NOW_MS + 1], 1),
        (0, [0, 0, 1, NOW_MS], 3),
        (NOW_MS // 1000, [NOW_MS], 0),
        (0, [NOW_MS, NOW_MS + 1, NOW_MS * 1000], 2),
        (NOW_MS, [NOW_MS, NOW_MS * 1_000_000], 1),
        # Another source has 1990 in milliseconds after today in seconds.
        (NOW_MS // 1000, [631_152_000_000], 0),
    ],
)
def test_a_step_from_one_unit_to_another_is_found(
    before_ms: int, stamps: list[int], place: int
) -> None:
    """By the place of the first stamp of the other unit, wherever the block begins."""
    assert step_of(before_ms, stamps) == place


@pytest.mark.parametrize(
    ("before_ms", "stamps"),
    [
        (0, []),
        (0, [NOW_MS]),
        (0, [0, 0, NOW_MS]),
        (NOW_MS - 4 * DAY_MS, [NOW_MS]),
        # What a weekend, ten years of silence and fifty years of days from 1970 on look like.
        (NOW_MS, [NOW_MS + 3 * DAY_MS, NOW_MS + 3650 * DAY_MS]),
        (0, [day * DAY_MS for day in range(1, 50 * 365)]),
        (0, [year * 365 * DAY_MS + DAY_MS for year in range(50)]),
        (DAY_MS, [9 * 365 * DAY_MS]),
    ],
)
def test_gaps_of_real_histories_are_no_step(before_ms: int, stamps: list[int]) -> None:
    """However long they are."""
    assert step_of(before_ms, stamps) is None
