"""Canonical bytes against an independent RFC 8785 encoder, and what hangs on them: ids, retries."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
import rfc8785
from hypothesis import assume, given
from hypothesis import strategies as st

from runwright.kernel.canonical import (
    DEPTH_MAX,
    INT_MAX,
    check,
    decimal_text,
    digest_of,
    encode,
    exact,
)
from runwright.kernel.drive.retry import delay_s
from runwright.kernel.errors import NotCanonical
from runwright.kernel.run import (
    Arrived,
    Requested,
    Retry,
    Scheduled,
    round_id,
    run_id,
    tick_id,
    tick_key,
)

KEYS = st.text(st.characters(max_codepoint=127), max_size=8)
#: Any text but lone surrogates.
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(min_value=-INT_MAX, max_value=INT_MAX), TEXTS
)
DOCUMENTS = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=25,
)
#: One value outside the profile, with what is said of it.
OUTSIDE = st.one_of(
    st.sampled_from([float("nan"), float("inf"), -0.0, 0.5, 1.0]).map(
        lambda value: (value, "float has no canonical form")
    ),
    st.integers(min_value=INT_MAX + 1).map(lambda value: (value, f"{value} is beyond 2**53 - 1")),
    st.integers(max_value=-INT_MAX - 1).map(lambda value: (value, f"{value} is beyond 2**53 - 1")),
    st.sampled_from(["\ud800", "a\udfffb", "\ude00\ud83d"]).map(
        lambda value: (value, "lone surrogate in text")
    ),
    st.sampled_from([b"bytes", {1}, object, 1j]).map(
        lambda value: (value, f"{type(value).__name__} has no canonical form")
    ),
    st.sampled_from([{"ä": 1}, {"\ud800": 1}, {1: 2}, {None: 1}, {b"k": 1}]).map(
        lambda value: (value, f"key {next(iter(value))!r} is not ASCII text")
    ),
)
STEPS = st.lists(st.one_of(st.integers(0, 3), st.sampled_from("abc")), max_size=6)


class Pair(msgspec.Struct, frozen=True):
    second: Any
    first: Any


def nested(value: Any, steps: list[int | str]) -> tuple[Any, str]:
    """Return a document that holds the value at a path, and that path."""
    path = "$"
    for step in steps:
        path += f"[{step}]" if isinstance(step, int) else f".{step}"
    for step in reversed(steps):
        value = [None] * step + [value] if isinstance(step, int) else {"0": 1, step: value}
    return value, path


# --------------------------------------------------------------------------------------- inside


@given(DOCUMENTS)
def test_canonical_bytes_are_those_of_rfc_8785(document: Any):
    """An encoder that is not ours writes the same bytes."""
    assert encode(document) == rfc8785.dumps(document)


@given(DOCUMENTS)
def test_canonical_bytes_read_back_as_the_value(document: Any):
    """And encode to themselves."""
    data = encode(document)
    assert json.loads(data) == document
    assert encode(json.loads(data)) == data


@given(st.dictionaries(KEYS, DOCUMENTS, min_size=2, max_size=6), st.randoms())
def test_the_order_in_which_keys_were_put_in_does_not_matter(document: dict, chance: Any):
    """Equal values have equal digests."""
    keys = list(document)
    chance.shuffle(keys)
    assert digest_of({key: document[key] for key in keys}) == digest_of(document)


@given(DOCUMENTS, DOCUMENTS)
def test_a_struct_is_the_object_of_its_fields(first: Any, second: Any):
    """Fields are sorted like keys, and tuples are arrays."""
    plain = {"first": first, "second": [second]}
    assert encode(Pair(first=first, second=(second,))) == rfc8785.dumps(plain)


@given(DOCUMENTS, DOCUMENTS)
def test_values_that_differ_have_other_bytes(first: Any, second: Any):
    """Nothing inside the profile collapses."""
    assume(json.dumps(first, sort_keys=True) != json.dumps(second, sort_keys=True))
    assert encode(first) != encode(second)


# -------------------------------------------------------------------------------------- outside


@given(OUTSIDE, STEPS)
def test_what_is_outside_the_profile_is_refused_by_its_path(wrong: tuple[Any, str], steps: list):
    """The place and the reason are named, wherever it stands."""
    value, reason = wrong
    document, path = nested(value, steps)
    with pytest.raises(NotCanonical) as caught:
        encode(document)
    assert str(caught.value) == f"{path}: {reason}"
    assert caught.value.code == "not-canonical"


@given(OUTSIDE, DOCUMENTS)
def test_the_first_value_outside_is_named(wrong: tuple[Any, str], document: Any):
    """In the order of the document."""
    with pytest.raises(NotCanonical, match=r"^\$\[1\]"):
        check([document, wrong[0], float("nan")])


@given(st.integers(0, 3))
def test_a_document_has_a_depth(extra: int):
    """So that no reader runs out of stack."""
    value: Any = 1
    for _ in range(DEPTH_MAX):
        value = [value]
    check(value)
    for _ in range(extra + 1):
        value = {"k": value}
    with pytest.raises(NotCanonical, match=f"nested deeper than {DEPTH_MAX}"):
        check(value)


# --------------------------------------------------------------------------------------- floats


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_float_becomes_the_decimal_of_its_shortest_form(number: float):
    """It reads back as the same float, has no exponent, and equal numbers have one text."""
    text = decimal_text(number)
    assert float(text) == number
    assert "e" not in text.lower()


@given(
    st.recursive(
        st.one_of(SCALARS, st.floats(allow_nan=False, allow_infinity=False)),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
        max_leaves=12,
    )
)
def test_an_exact_copy_is_inside_the_profile(document: Any):
    """Whatever JSON document it was made of."""
    check(exact(document))


# ------------------------------------------------------------------------------------------ ids

NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
TICKS = st.one_of(
    st.builds(Scheduled, planned_ms=st.integers(0, INT_MAX)),
    st.builds(Requested, id=NAMES, planned_ms=st.integers(0, 5), by=NAMES),
    st.builds(Arrived, id=NAMES, planned_ms=st.integers(0, 5), subject=NAMES),
)
OCCURRENCES = st.tuples(NAMES, NAMES, NAMES, TICKS, NAMES, NAMES)


def identity(origin: str, workload: str, spec: str, tick: Any, round_key: str, key: str) -> str:
    made = tick_id(origin=origin, workload=workload, spec=spec, tick=tick)
    return run_id(round=round_id(tick=made, round_key=round_key), key=key)


@given(OCCURRENCES, OCCURRENCES)
def test_two_runs_have_one_id_when_they_are_one_occurrence(first: tuple, second: tuple):
    """Origin, workload, spec, tick, round and key: one that differs makes another run."""

    def words(found: tuple) -> tuple:
        return (*found[:3], tick_key(found[3]), *found[4:])

    assert (identity(*first) == identity(*second)) == (words(first) == words(second))


@given(OCCURRENCES)
def test_an_id_is_64_hex_characters(found: tuple):
    """A SHA-256."""
    made = identity(*found)
    assert len(made) == 64
    assert int(made, 16) >= 0


# ---------------------------------------------------------------------------------------- retry

TABLES = st.builds(
    lambda attempts, least, more: Retry(attempts=attempts, min_s=least, max_s=least + more),
    st.integers(1, 100),
    st.one_of(st.integers(0, 100), st.floats(0, 100)),
    st.one_of(st.integers(0, 10_000), st.floats(0, 10_000)),
)


@given(TABLES)
def test_a_retry_table_is_bounded_rising_and_the_same_every_time(retry: Retry):
    """One wait fewer than attempts, each at least the one before, within min and max."""
    waits = [delay_s(retry, attempts) for attempts in range(1, retry.attempts + 2)]
    assert waits[retry.attempts - 1 :] == [None, None]
    found = [wait for wait in waits if wait is not None]
    assert len(found) == retry.attempts - 1
    assert found == sorted(found)
    assert all(retry.min_s <= wait <= retry.max_s for wait in found)
    assert waits == [delay_s(retry, attempts) for attempts in range(1, retry.attempts + 2)]


@given(TABLES)
def test_each_wait_is_twice_the_one_before_until_the_cap(retry: Retry):
    """No jitter."""
    for attempts in range(1, retry.attempts - 1):
        first, second = delay_s(retry, attempts), delay_s(retry, attempts + 1)
        assert first is not None
        assert second == min(float(retry.max_s), 2 * first)
