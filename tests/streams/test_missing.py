"""MISSING is one value, apart from None, wherever it goes."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys

import msgspec
import pytest

from runwright.streams.missing import (
    MISSING,
    Missing,
    frozen,
    is_missing,
    missing_paths,
    text_of,
    unmarked,
)
from runwright.streams.snapshot import MarketSnapshot


def test_there_is_one_missing_value_and_it_is_not_none() -> None:
    """Made again, copied or pickled it is the same object (check 24)."""
    assert Missing() is MISSING
    assert copy.copy(MISSING) is MISSING
    assert copy.deepcopy([MISSING])[0] is MISSING
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps({"a": MISSING}, protocol))["a"] is MISSING
    assert is_missing(MISSING)
    assert not any(map(is_missing, (None, 0, "", False, {"__xray_missing__": True})))
    assert repr(MISSING) == "MISSING"


@pytest.mark.slow
def test_missing_survives_a_process_boundary() -> None:
    """Pickled there and back again, and told by identity on both sides (check 24)."""
    there = (
        "import pickle, sys; from runwright.streams.missing import is_missing; "
        "value = pickle.load(sys.stdin.buffer); assert is_missing(value['a']); "
        "assert value['b'] is None; pickle.dump(value, sys.stdout.buffer)"
    )
    sent = pickle.dumps({"a": MISSING, "b": None})
    back = subprocess.run([sys.executable, "-c", there], input=sent, capture_output=True)
    assert back.stderr == b""
    assert pickle.loads(back.stdout)["a"] is MISSING


@pytest.mark.parametrize("use", [bool, lambda x: x + 1, lambda x: x < 1, float])
def test_missing_cannot_be_computed_with(use) -> None:
    """An engine that forgets to ask for it raises instead of going on with a zero."""
    with pytest.raises(TypeError, match=r"MISSING|Missing"):
        use(MISSING)


def test_missing_in_json_is_its_marker() -> None:
    """To text and back, in objects and lists; a marker with more in it is an ordinary object."""
    value = {"b": [1, MISSING], "a": {"c": MISSING, "d": None}, "e": {"__xray_missing__": 1}}
    text = text_of(value)
    assert text == (
        '{"a":{"c":{"__xray_missing__":true},"d":null},'
        '"b":[1,{"__xray_missing__":true}],"e":{"__xray_missing__":1}}'
    )
    assert unmarked(msgspec.json.decode(text)) == value
    assert text_of(frozen(value)) == text
    with pytest.raises(TypeError, match="object is no JSON value"):
        text_of({"a": object()})


def test_missing_paths_name_the_places() -> None:
    """Fields of structs, keys of mappings, places in lists; the value itself has no path."""
    value = {"x": [MISSING, 1, {"y": MISSING}], "market": MarketSnapshot(price=1, atr_z=None)}
    assert missing_paths(value) == {
        "x[0]",
        "x[2].y",
        *(
            f"market.{name}"
            for name in MarketSnapshot.__struct_fields__
            if name not in ("price", "atr_z")
        ),
    }
    assert missing_paths(MISSING) == {""}
    assert missing_paths({"a": None}) == frozenset()


def test_a_frozen_value_cannot_be_changed() -> None:
    """However deep; what it was made of stays as it was."""
    made = {"a": [{"b": 1}]}
    kept = frozen(made)
    with pytest.raises(TypeError, match="item assignment"):
        kept["a"][0]["b"] = 2
    with pytest.raises(AttributeError, match="append"):
        kept["a"].append(2)
    assert made == {"a": [{"b": 1}]}
