"""Values of contracts do not change, whoever holds them."""

from __future__ import annotations

import copy
import json
import pickle

import msgspec
import pytest

from runwright.kernel.errors import NotCanonical
from runwright.streams.frozen import FrozenMap, freeze, thaw

#: The methods of dict that leave it as it is; each other one must be refused.
READING = frozenset(
    "__class__ __class_getitem__ __contains__ __delattr__ __dir__ __doc__ __eq__ __format__ __ge__"
    " __getattribute__ __getitem__ __getstate__ __gt__ __hash__ __init__ __init_subclass__ __iter__"
    " __le__ __len__ __lt__ __ne__ __new__ __or__ __reduce__ __reduce_ex__ __repr__ __reversed__"
    " __ror__ __setattr__ __sizeof__ __str__ __subclasshook__ copy fromkeys get items keys"
    " values".split()
)
CALLS = {
    "__setitem__": ("a", 2),
    "__delitem__": ("a",),
    "__ior__": ({"a": 2},),
    "pop": ("a",),
    "setdefault": ("z", 1),
    "update": ({"a": 2},),
}
NESTED = {"a": {"b": [1, {"c": 2.5}]}, "n": None, "t": True}


@pytest.mark.parametrize("name", sorted(set(dir(dict)) - READING))
def test_every_way_in_which_a_dict_changes_is_refused(name: str) -> None:
    """The list is that of this Python's dict, so a way that is new is not forgotten."""
    frozen = freeze(NESTED)
    for inner in (frozen, frozen["a"], frozen["a"]["b"][1]):
        with pytest.raises(TypeError, match="frozen"):
            getattr(inner, name)(*CALLS.get(name, ()))
    assert thaw(frozen) == NESTED


def test_a_plain_dict_in_its_place_would_change() -> None:
    """The control: the same calls change a dict."""
    changed = []
    for name in sorted(set(dir(dict)) - READING):
        plain = {"a": 1}
        getattr(plain, name)(*CALLS.get(name, ()))
        changed.append(plain != {"a": 1})
    assert all(changed)
    assert len(changed) == 8


def test_nothing_can_be_hung_on_it_and_lists_are_tuples() -> None:
    """No attribute, no item of a list, no change of what was frozen."""
    source = {"a": [1, 2]}
    frozen = freeze(source)
    source["a"].append(3)
    with pytest.raises(AttributeError):
        frozen.extra = 1
    with pytest.raises(TypeError):
        frozen["a"][0] = 9
    assert frozen["a"] == (1, 2)


def test_it_is_a_dict_to_every_reader() -> None:
    """msgspec, json, pickle, copies, `==` and `|` see what was frozen."""
    frozen = freeze(NESTED)
    assert msgspec.json.decode(msgspec.json.encode(frozen)) == NESTED
    assert json.loads(json.dumps(frozen)) == NESTED
    kept = pickle.loads(pickle.dumps(frozen))
    assert (type(kept), kept, hash(kept)) == (FrozenMap, frozen, hash(frozen))
    assert type(kept["a"]) is FrozenMap
    assert copy.copy(frozen) is frozen
    assert copy.deepcopy(frozen) is frozen
    assert frozen.copy() is frozen
    assert frozen | {"n": 1} == {**frozen, "n": 1}
    assert isinstance(frozen | {"n": 1}, FrozenMap)
    assert repr(freeze({"a": 1})) == "FrozenMap({'a': 1})"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": [float("nan")]}, r"\$\.a\[0\]: nan is not a number"),
        ({"a": float("-inf")}, r"\$\.a: -inf is not a number"),
        ({"a": b"x"}, r"\$\.a: bytes has no form in JSON"),
        ({"a": {1: 2}}, r"\$\.a: the key 1 is not text"),
        ({"a": object()}, r"\$\.a: object has no form in JSON"),
    ],
)
def test_what_json_has_no_form_for_is_refused_with_its_path(value: object, message: str) -> None:
    """The encoder alone would make null of NaN."""
    with pytest.raises(NotCanonical, match=message):
        freeze(value)
    assert msgspec.json.encode(float("nan")) == b"null"


def test_a_value_that_holds_itself_is_refused() -> None:
    """Depth has a bound."""
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises(NotCanonical, match="nested deeper than 64"):
        freeze(loop)
