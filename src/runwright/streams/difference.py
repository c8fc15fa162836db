"""Where two JSON values differ first: by sorted keys, and by their text, so 1 is not 1.0."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import msgspec

#: What stands where one of the two has nothing.
ABSENT: Final = object()


class Place(NamedTuple):
    """The first place in which two values differ, and what each has there."""

    #: "payload.reasons[0].at"; "" for the values themselves.
    path: str
    #: A JSON value, or ABSENT.
    first: Any
    second: Any


def first_place(one: Any, other: Any, path: str = "") -> Place | None:
    """Return the first place where two values have another text; None where they have not."""
    if isinstance(one, dict) and isinstance(other, dict):
        prefix = f"{path}." if path else ""
        for key in sorted({*one, *other}):
            if key not in one or key not in other:
                return Place(f"{prefix}{key}", one.get(key, ABSENT), other.get(key, ABSENT))
            if (found := first_place(one[key], other[key], f"{prefix}{key}")) is not None:
                return found
        return None
    if isinstance(one, list) and isinstance(other, list):
        for index, (left, right) in enumerate(zip(one, other, strict=False)):
            if (found := first_place(left, right, f"{path}[{index}]")) is not None:
                return found
        if len(one) == len(other):
            return None
        shared = min(len(one), len(other))
        longer = [*one[shared:], ABSENT][0], [*other[shared:], ABSENT][0]
        return Place(f"{path}[{shared}]", *longer)
    is_same = msgspec.json.encode(one) == msgspec.json.encode(other)
    return None if is_same else Place(path, one, other)
