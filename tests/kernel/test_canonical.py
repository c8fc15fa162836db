"""Canonical bytes by example; `tests/properties/test_canonical.py` holds what is always so."""

from __future__ import annotations

import hashlib

import pytest

from runwright.kernel.canonical import (
    INT_MAX,
    commitment,
    decimal_text,
    digest,
    digest_of,
    encode,
    exact,
)
from runwright.kernel.errors import NotCanonical
from runwright.kernel.run import Requested, RunPlan


def test_keys_are_sorted_and_nothing_is_padded():
    """Compact UTF-8, characters as they are."""
    value = {"b": [1, True, None], "a": {"z": "ä\n\u2028", "A": -0}}
    assert encode(value) == '{"a":{"A":0,"z":"ä\\n\u2028"},"b":[1,true,null]}'.encode()


def test_a_struct_is_sorted_too():
    """Its fields do not stay in their place, and its tag is one of them."""
    tick = Requested(id="r", planned_ms=5, by="ada", args={"b": 1, "a": 2})
    text = '{"args":{"a":2,"b":1},"by":"ada","id":"r","planned_ms":5,"type":"requested"}'
    assert encode(tick) == text.encode()


def test_the_largest_integers_are_those_that_every_reader_keeps():
    """2**53 - 1 either way."""
    assert encode([INT_MAX, -INT_MAX]) == b"[9007199254740991,-9007199254740991]"
    with pytest.raises(NotCanonical, match=r"^\$: 9007199254740992 is beyond"):
        encode(INT_MAX + 1)


def test_a_misfit_is_named_by_its_path():
    """Through Structs, mappings and lists."""
    plan = RunPlan(key="a", work=None, inputs=[{"size": 0.5}])  # type: ignore[arg-type]
    with pytest.raises(NotCanonical) as caught:
        encode({"runs": [plan]})
    assert str(caught.value) == "$.runs[0].inputs[0].size: float has no canonical form"
    assert caught.value.hint == "Give a float as the decimal of its shortest form, a string."


def test_a_digest_is_over_bytes():
    """SHA-256, hex; that of a value is over its canonical bytes."""
    assert digest(b"abc") == hashlib.sha256(b"abc").hexdigest()
    assert digest_of({"b": 1, "a": 2}) == digest(b'{"a":2,"b":1}')


def test_a_commitment_is_over_salt_and_bytes():
    """Without the salt the content cannot be guessed."""
    assert commitment(b"salt", b"x") == digest(b"saltx")
    assert commitment(b"other", b"x") != commitment(b"salt", b"x")


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0.7, "0.7"),
        (0.1 + 0.2, "0.30000000000000004"),
        (1e21, "1000000000000000000000"),
        (5e-7, "0.0000005"),
        (-2.50, "-2.5"),
        (3.0, "3.0"),
    ],
)
def test_a_float_is_recorded_as_a_decimal(number: float, text: str):
    """Of its shortest form, without an exponent."""
    assert decimal_text(number) == text


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_what_is_no_number_is_not_recorded(number: float):
    """NaN and infinities have no decimal."""
    with pytest.raises(NotCanonical, match="is not a number that can be recorded"):
        decimal_text(number)
    with pytest.raises(NotCanonical):
        exact({"a": [number]})


def test_an_exact_copy_holds_decimals_in_the_place_of_floats():
    """Everything else is as it was; tuples are lists."""
    assert exact({"a": (0.5, 1, True, None, "x")}) == {"a": ["0.5", 1, True, None, "x"]}
