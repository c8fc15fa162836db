"""What was not given: a value of its own, apart from None, which somebody gave.

There is one such value in a process, so `is` tells it. It stays that one value when it is copied,
pickled or sent to another process, and in JSON it is the object {"__xray_missing__": true}. It has
no truth and no arithmetic: an engine that forgets to ask for it raises.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Final, NoReturn, Self, TypeGuard, cast

import msgspec

#: The key of the JSON object that stands for the missing value.
MARKER: Final = "__xray_missing__"


class Missing:
    """The type of MISSING."""

    __slots__ = ()
    _only: ClassVar[Any] = None

    def __new__(cls) -> Self:
        """Return the one there is."""
        if cls._only is None:
            cls._only = super().__new__(cls)
        return cast("Self", cls._only)

    def __reduce__(self) -> str:
        """Have pickle and copy name it instead of making another."""
        return "MISSING"

    def __repr__(self) -> str:
        return "MISSING"

    def __bool__(self) -> NoReturn:
        """Refuse: it is neither true nor false. Raises: TypeError."""
        raise TypeError("MISSING is neither true nor false; ask is_missing()")


MISSING: Final = Missing()


def is_missing(value: object) -> TypeGuard[Missing]:
    """Say whether a value was not given."""
    return value is MISSING


def missing_paths(value: object) -> frozenset[str]:
    """Return where in a value something is missing: "market.price", "levels[0]"; "" for itself."""
    return frozenset(_paths(value, ""))


def _paths(value: object, path: str) -> Iterator[str]:
    if value is MISSING:
        yield path
    elif isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            yield from _paths(getattr(value, name), f"{path}.{name}" if path else name)
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from _paths(item, f"{path}.{name}" if path else str(name))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _paths(item, f"{path}[{index}]")


def unmarked(value: Any) -> Any:
    """Return a JSON value in which each marker has become MISSING."""
    if isinstance(value, dict):
        if is_marker(value):
            return MISSING
        return {key: unmarked(item) for key, item in value.items()}
    if isinstance(value, list):
        return [unmarked(item) for item in value]
    return value


def frozen(value: Any) -> Any:
    """Return a JSON value as one that cannot be changed, however deep."""
    if isinstance(value, dict):
        return MappingProxyType({key: frozen(item) for key, item in value.items()})
    if isinstance(value, list):
        return tuple(map(frozen, value))
    return value


def is_marker(value: object) -> bool:
    """Say whether a JSON value stands for what is missing."""
    return isinstance(value, Mapping) and len(value) == 1 and value.get(MARKER) is True


def marked(value: Any) -> Any:
    """Return what stands in JSON for a value that JSON does not know. Raises: TypeError."""
    if value is MISSING:
        return {MARKER: True}
    if isinstance(value, MappingProxyType):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is no JSON value")


_ENCODER: Final = msgspec.json.Encoder(order="sorted", enc_hook=marked)


def text_of(value: Any) -> str:
    """Return a value as compact JSON with sorted keys; MISSING is its marker.

    Raises: TypeError for what is no JSON value. It does not look for NaN, see `engine`.
    """
    return _ENCODER.encode(value).decode()
