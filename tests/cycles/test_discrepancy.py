"""The score of two states: the worked values, every tolerance at its edge, and what is no match."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runwright.cycles import discrepancy
from runwright.cycles.discrepancy import Unweighable, classify, compare, score, score_text, weights
from runwright.cycles.reconcile import DEFAULTS

COMPONENT = "vision_ios_orchestrator"
STATE = {
    "cycle_id": "CYCLE_20261121_060000",
    "tasks_executed": 3,
    "success_count": 2,
    "failure_count": 1,
    "orchestrator_version": "1.0.0",
    "execution_timestamp": "2026-11-21T06:00:00Z",
}
#: The same with one field wrong.
WRONG = {
    "cycle_id": "CYCLE_20261121_060001",
    "tasks_executed": 4,
    "success_count": 3,
    "failure_count": 0,
    "orchestrator_version": "1.0.1",
    "execution_timestamp": "2026-11-21T06:00:06Z",
}


def row(field: str, weight: Any = "1.0", tolerance: str = "EXACT", within: Any = None) -> Any:
    return {
        "component_name": COMPONENT,
        "field_name": field,
        "criticality_weight": weight,
        "tolerance_type": tolerance,
        "tolerance_value": within,
    }


def of(reported: Any, recorded: Any, *rows: Any) -> Any:
    return score(compare(weights(COMPONENT, rows), reported, recorded))


def matches(reported: Any, recorded: Any, tolerance: str, within: Any = None) -> bool:
    rules = weights(COMPONENT, [row("x", "1.0", tolerance, within)])
    return compare(rules, {"x": reported}, {"x": recorded})[0].matches


# ----------------------------------------------------------------------------- the worked values


@pytest.mark.parametrize(
    ("field", "text", "classification"),
    [
        ("cycle_id", "0.227273", "CATASTROPHIC"),
        ("tasks_executed", "0.227273", "CATASTROPHIC"),
        ("success_count", "0.181818", "CATASTROPHIC"),
        ("failure_count", "0.181818", "CATASTROPHIC"),
        ("orchestrator_version", "0.113636", "CATASTROPHIC"),
        ("execution_timestamp", "0.068182", "WARNING"),
        ("", "0.000000", "NORMAL"),
    ],
)
def test_one_wrong_field_of_six_gives_the_worked_value(
    field: str, text: str, classification: str
) -> None:
    """The six weights add up to 4.4."""
    reported = {**STATE, **({field: WRONG[field]} if field else {})}
    value = of(reported, STATE, *(row(*default) for default in DEFAULTS))
    assert (score_text(value), classify(value)) == (text, classification)


@pytest.mark.parametrize(
    ("value", "classification"),
    [
        ("0", "NORMAL"),
        ("0.049999999999", "NORMAL"),
        ("0.05", "WARNING"),
        ("0.10", "WARNING"),
        ("0.100000000001", "CATASTROPHIC"),
        ("1", "CATASTROPHIC"),
    ],
)
def test_the_middle_class_is_closed_at_both_ends(value: str, classification: str) -> None:
    """The exact value decides, not the six places that are shown."""
    assert classify(Fraction(value)) == classification


def test_a_score_on_the_edge_is_exact() -> None:
    """0.1 of 2.0 is 0.05 exactly, which floats would miss on one side or the other."""
    rows = [row("a", "0.1"), row("b", "1.0"), row("c", "0.9")]
    value = of({"a": 1, "b": 1, "c": 1}, {"a": 2, "b": 1, "c": 1}, *rows)
    assert value == Fraction(1, 20)
    assert classify(value) == "WARNING"


# --------------------------------------------------------------------------------- tolerances


@pytest.mark.parametrize(
    ("reported", "recorded", "within", "same"),
    [
        ("2026-11-21T06:00:05.000Z", "2026-11-21T06:00:00Z", "5.0", True),
        ("2026-11-21T06:00:05.001Z", "2026-11-21T06:00:00Z", "5.0", False),
        ("2026-11-21T05:59:55.000Z", "2026-11-21T06:00:00Z", "5.0", True),
        ("2026-11-21T05:59:54.999Z", "2026-11-21T06:00:00Z", "5.0", False),
        ("2026-11-21T07:00:00+01:00", "2026-11-21T06:00:00Z", "0", True),
        ("2026-11-21T06:00:00", "2026-11-21T06:00:00Z", "0", True),
        (1795240805, "2026-11-21T06:00:00Z", None, True),
        (1795240805.001, "2026-11-21T06:00:00Z", None, False),
        ("yesterday", "2026-11-21T06:00:00Z", "5.0", False),
        (None, None, "5.0", False),
    ],
)
def test_a_timestamp_matches_within_seconds(
    reported: Any, recorded: Any, within: Any, same: bool
) -> None:
    """5.000 s apart match, 5.001 s do not, and what is no instant matches nothing."""
    assert matches(reported, recorded, "TIMESTAMP", within) is same


@pytest.mark.parametrize(
    ("reported", "recorded", "same"),
    [
        (1001, 1000, True),
        (999, 1000, True),
        (1001.0001, 1000, False),
        (998.9999, 1000, False),
        ("1.001", "1", True),
        ("1.0010000001", "1", False),
        (-1001, -1000, True),
        (1000, -1000, False),
        (0, 0, True),
        ("1e-300", 0, False),
        (0.3, "0.1", False),
        (True, 1, False),
        ("nan", "nan", False),
    ],
)
def test_a_float_matches_within_a_thousandth(reported: Any, recorded: Any, same: bool) -> None:
    """Of what is recorded, exactly; nothing but a number is a number."""
    assert matches(reported, recorded, "FLOAT", "0.001") is same
    assert matches(reported, recorded, "FLOAT") is same


@pytest.mark.parametrize(
    ("reported", "recorded", "same"),
    [
        ("Completed ", "completed", True),
        ("with  failures", "WITH\nFAILURES", True),
        ("STRASSE", "straße", True),
        ("complete", "completed", False),
        (3, "3", False),
    ],
)
def test_a_string_matches_but_for_case_and_white_space(
    reported: Any, recorded: Any, same: bool
) -> None:
    """Letters have to be the same ones."""
    assert matches(reported, recorded, "STRING") is same


@pytest.mark.parametrize(
    ("reported", "recorded", "same"),
    [
        (3, 3, True),
        (3, 4, False),
        ("3.0", 3, True),
        (3.0, 3, True),
        (True, True, True),
        (True, 1, False),
        (0, False, False),
        (None, None, True),
        ("a", "A", False),
        ([1, {"a": 2}], [1, {"a": 2}], True),
        ([1, {"a": 2}], [1, {"a": 3}], False),
        ([1], [1, 1], False),
        (9007199254740993, 9007199254740992, False),
    ],
)
def test_exact_compares_by_value(reported: Any, recorded: Any, same: bool) -> None:
    """Integers as integers, a truth value as nothing else."""
    assert matches(reported, recorded, "EXACT") is same


def test_a_field_that_one_side_lacks_does_not_match() -> None:
    """Neither side, nor both: no data never passes."""
    rules = weights(COMPONENT, [row("x")])
    for reported, recorded in (({}, {"x": 1}), ({"x": 1}, {}), ({}, {})):
        assert compare(rules, reported, recorded)[0].matches is False
        assert score(compare(rules, reported, recorded)) == 1


# --------------------------------------------------------------------------------------- rows


@pytest.mark.parametrize(
    ("rows", "word"),
    [
        ([], "no row"),
        ([row("x", "0.05")], "0.1 to 1.0"),
        ([row("x", "1.1")], "0.1 to 1.0"),
        ([row("x", "heavy")], "0.1 to 1.0"),
        ([row("x", None)], "0.1 to 1.0"),
        ([row("x", "1.0", "ABOUT")], "'ABOUT' is none of EXACT"),
        ([row("x", "1.0", "FLOAT", "-0.1")], "not a number from 0 on"),
        ([row("x", "1.0", "TIMESTAMP", "soon")], "not a number from 0 on"),
        ([row("x y")], "field name"),
        ([row("x"), row("x")], "two weights"),
        ([row(f"x{n}") for n in range(33)], "at most 32"),
    ],
)
def test_a_row_that_cannot_be_meant_is_told(rows: Any, word: str) -> None:
    """It is never taken for a match."""
    with pytest.raises(Unweighable, match=word):
        weights(COMPONENT, rows)


# ----------------------------------------------------------------------------------- properties

WEIGHTS = st.integers(1, 10).map(lambda tenths: f"{tenths / 10:.1f}")
FLAGS = st.lists(st.tuples(WEIGHTS, st.booleans()), min_size=1, max_size=32)


@given(FLAGS)
def test_a_score_is_the_share_of_the_weight_that_differs(flags: list[tuple[str, bool]]) -> None:
    """Between 0 and 1, 0 when all match and 1 when none does, whatever the order of the rows."""
    rows = [row(f"x{index}", weight) for index, (weight, _) in enumerate(flags)]
    recorded = {f"x{index}": 1 for index in range(len(flags))}
    reported = {f"x{index}": 1 if same else 2 for index, (_, same) in enumerate(flags)}
    value = of(reported, recorded, *rows)
    differing = sum(Fraction(weight) for weight, same in flags if not same)
    assert value == differing / sum(Fraction(weight) for weight, _ in flags)
    assert 0 <= value <= 1
    assert (value == 0) is all(same for _, same in flags)
    assert (value == 1) is not any(same for _, same in flags)
    assert value == of(reported, recorded, *reversed(rows))
    assert abs(Fraction(score_text(value)) - value) <= Fraction(1, 2_000_000)


@given(FLAGS, st.integers(0, 31))
def test_one_more_difference_never_lowers_a_score(
    flags: list[tuple[str, bool]], which: int
) -> None:
    """Nor its class."""
    order = ["NORMAL", "WARNING", "CATASTROPHIC"]
    rows = [row(f"x{index}", weight) for index, (weight, _) in enumerate(flags)]
    recorded = {f"x{index}": 1 for index in range(len(flags))}
    reported = {f"x{index}": 1 if same else 2 for index, (_, same) in enumerate(flags)}
    before = of(reported, recorded, *rows)
    reported[f"x{which % len(flags)}"] = 3
    after = of(reported, recorded, *rows)
    assert after >= before
    assert order.index(classify(after)) >= order.index(classify(before))


@given(st.integers(-(10**12), 10**12), st.integers(0, 2_000_000))
def test_a_float_is_compared_as_the_fraction_that_it_is(recorded: int, millionths: int) -> None:
    """The edge lies at a thousandth and nowhere near it."""
    reported = recorded + Fraction(recorded * millionths, 1_000_000_000)
    is_within = recorded == 0 or millionths <= 1_000_000
    assert matches(_decimal(reported), recorded, "FLOAT") is is_within


def _decimal(value: Fraction) -> str:
    scaled = value * 10**9
    assert scaled.denominator == 1
    sign, digits = "-" if scaled < 0 else "", str(abs(scaled.numerator)).zfill(10)
    return f"{sign}{digits[:-9]}.{digits[-9:]}"


def test_the_thresholds_stand_once() -> None:
    """The classes and the threshold of the table are the same figures."""
    assert (discrepancy.WARNING_FROM, discrepancy.CATASTROPHIC_ABOVE) == ("0.05", "0.10")
