"""Criteria, readings and verdicts: exact, and without support never passed."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runwright.kernel.criteria import Criterion, Finding, Reading, conclude, find

ROLES = ("success", "failure", "guard")
RESULTS = ("passed", "failed", "missing")


def criterion(op: str = ">=", threshold: int | str = "0.7", **fields) -> Criterion:
    return Criterion(signal="s", op=op, threshold=threshold, **fields)


def finding(role: str, result: str) -> Finding:
    return Finding(criterion=criterion(role=role), result=result)


@pytest.mark.parametrize(
    ("op", "below", "equal", "above"),
    [
        ("<", "passed", "failed", "failed"),
        ("<=", "passed", "passed", "failed"),
        ("==", "failed", "passed", "failed"),
        ("!=", "passed", "failed", "passed"),
        (">=", "failed", "passed", "passed"),
        (">", "failed", "failed", "passed"),
    ],
)
def test_every_operator_means_what_it_says(op: str, below: str, equal: str, above: str):
    """The value stands on the left."""
    results = [
        find(criterion(op), Reading(signal="s", value=value)).result
        for value in ("0.69", "0.7", "0.71")
    ]
    assert results == [below, equal, above]


def test_numbers_are_compared_exactly():
    """0.7 as text is 7/10, which no float is."""
    assert Fraction(0.7) < Fraction("0.7")
    exact = find(criterion(">="), Reading(signal="s", value="0.7"))
    assert (exact.result, exact.value) == ("passed", "0.7")
    closest = find(criterion(">="), Reading(signal="s", value="0.69999999999999999999"))
    assert closest.result == "failed"


def test_integers_of_any_size_are_compared_exactly():
    """Without rounding."""
    reading = Reading(signal="s", value=2**60 + 1)
    assert find(criterion(">", str(2**60)), reading).result == "passed"
    assert find(criterion("==", str(2**60)), reading).result == "failed"


@pytest.mark.parametrize(
    "reading",
    [None, Reading(signal="s", value=None), Reading(signal="s", value=1, n=29)],
)
def test_a_reading_that_is_missing_or_too_small_is_missing(reading):
    """Neither passed nor failed, and it shows no value."""
    assert find(criterion(min_n=30), reading) == Finding(
        criterion=criterion(min_n=30), result="missing"
    )


@pytest.mark.parametrize(
    ("findings", "status"),
    [
        ([], "INCONCLUSIVE"),
        ([("success", "passed")], "PASS"),
        ([("success", "passed"), ("success", "failed")], "FAIL"),
        ([("success", "passed"), ("success", "missing")], "INCONCLUSIVE"),
        ([("success", "failed"), ("success", "missing")], "INCONCLUSIVE"),
        ([("failure", "passed")], "FAIL"),
        ([("failure", "passed"), ("success", "passed")], "FAIL"),
        ([("failure", "failed")], "INCONCLUSIVE"),
        ([("failure", "failed"), ("success", "passed")], "PASS"),
        ([("failure", "missing"), ("success", "passed")], "INCONCLUSIVE"),
        ([("guard", "failed"), ("success", "passed")], "INVALID"),
        ([("guard", "missing"), ("success", "passed")], "INVALID"),
        ([("guard", "passed"), ("success", "passed")], "PASS"),
        ([("guard", "failed"), ("failure", "passed")], "INVALID"),
        ([("guard", "passed")], "INCONCLUSIVE"),
    ],
)
def test_findings_lead_to_a_verdict(findings: list[tuple[str, str]], status: str):
    """Guards first, then failure, then success; nothing passes without support."""
    assert conclude([finding(role, result) for role, result in findings]) == status


@given(st.lists(st.tuples(st.sampled_from(ROLES), st.sampled_from(RESULTS)), max_size=8))
def test_a_pass_has_support_and_nothing_against_it(pairs: list[tuple[str, str]]):
    """Whatever the findings are: at least one success passed, and none is open or against it."""
    status = conclude([finding(role, result) for role, result in pairs])
    good = {("success", "passed"), ("failure", "failed"), ("guard", "passed")}
    assert (status == "PASS") == (("success", "passed") in pairs and set(pairs) <= good)


@given(
    st.lists(st.tuples(st.sampled_from(ROLES), st.sampled_from(RESULTS)), max_size=8),
    st.randoms(),
)
def test_the_order_of_findings_does_not_matter(pairs: list[tuple[str, str]], chance):
    """A verdict is on a set."""
    findings = [finding(role, result) for role, result in pairs]
    status = conclude(findings)
    chance.shuffle(findings)
    assert conclude(findings) == status
