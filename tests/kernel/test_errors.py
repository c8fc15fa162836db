"""One tree of errors: each with a code, an exit status and a hint."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from runwright.kernel import errors
from runwright.kernel.errors import (
    Deferred,
    Exit,
    Halt,
    InternalError,
    NotCanonical,
    Refused,
    RunwrightError,
    StoreBusy,
    StoreUnwritable,
    Usage,
    VerificationFailed,
    WorkFailed,
    require,
)


def tree(kind: type[RunwrightError] = RunwrightError) -> Iterator[type[RunwrightError]]:
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            yield child
            yield from tree(child)


def test_every_error_has_a_code_of_its_own():
    """A stable word in lower case."""
    codes = [kind.code for kind in tree()]
    assert len(set(codes)) == len(codes) > 15
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", code) for code in codes)


def test_every_error_is_drawn_in_the_tree():
    """The docstring of the module names each of them."""
    for kind in tree():
        assert re.search(rf"\b{kind.__name__}\b", errors.__doc__ or ""), kind


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (Halt, 4),
        (StoreUnwritable, 4),
        (Deferred, 75),
        (StoreBusy, 75),
        (WorkFailed, 5),
        (Usage, 2),
        (NotCanonical, 2),
        (Refused, 2),
        (VerificationFailed, 6),
        (InternalError, 1),
    ],
)
def test_an_error_ends_a_command_with_its_status(kind: type[RunwrightError], status: int):
    """Inherited along the tree."""
    assert kind.status == status


def test_exit_statuses_are_told_apart():
    """One table for every command."""
    assert len(set(Exit)) == len(Exit.__members__)
    assert Exit.DONE == 0


def test_the_docstring_is_the_default_message():
    """Its first line."""
    assert str(StoreBusy()) == "Another conductor holds the store."
    assert str(StoreBusy("it is taken")) == "it is taken"


def test_a_hint_says_what_to_do():
    """The class has one, an instance may have another."""
    assert "Free space" in StoreUnwritable().hint
    assert StoreUnwritable("x", hint="do this").hint == "do this"
    assert StoreUnwritable("y").hint == StoreUnwritable.hint
    assert Usage("x").hint == ""


def test_an_invariant_is_required():
    """What does not hold is a defect of ours."""
    require(condition=True, message="never said")
    with pytest.raises(InternalError, match="two is one") as caught:
        require(condition=[], message="two is one")
    assert (caught.value.code, caught.value.status) == ("internal", Exit.INTERNAL)
