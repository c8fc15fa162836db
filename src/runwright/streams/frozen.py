"""JSON values that nothing changes any more, nested ones too.

A frozen Struct holds what it was given, so a dict in a field would still be open to everybody. What
a contract holds is frozen on its way in: objects become FrozenMap, lists tuples. FrozenMap is a
dict to every reader (msgspec, json, `==`) and refuses each way in which a dict changes; as with
`object.__setattr__` on a frozen Struct, only a call of `dict`'s own methods on it gets past that.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final, NoReturn

import msgspec

from runwright.kernel.errors import NotCanonical

#: How deep a value may nest: more is a mistake or an attack on who reads it.
DEPTH_MAX: Final = 64


class FrozenMap(dict[str, Any]):
    """A dict that refuses to change; hashable, and itself when copied."""

    __slots__ = ()

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError("a contract's value is frozen; make another one")

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))

    def __copy__(self) -> FrozenMap:
        return self

    def __deepcopy__(self, memo: Any) -> FrozenMap:
        return self

    def copy(self) -> FrozenMap:
        """Return itself."""
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return FrozenMap, (dict(self),)

    def __or__(self, other: Any) -> FrozenMap:  # type: ignore[override]
        return FrozenMap({**self, **other})

    def __repr__(self) -> str:
        return f"FrozenMap({super().__repr__()})"


def freeze(value: Any, path: str = "$", depth: int = 0) -> Any:
    """Return a JSON value that nothing changes any more.

    Raises: not-canonical, naming the path, for what JSON has no form for: NaN, bytes, objects.
    """
    kind = type(value)
    if kind is FrozenMap or kind is str or kind is int or kind is bool or value is None:
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise NotCanonical(f"{path}: {value} is not a number that can be recorded")
        return value
    if depth >= DEPTH_MAX:
        raise NotCanonical(f"{path}: nested deeper than {DEPTH_MAX}")
    if isinstance(value, Mapping):
        return FrozenMap(
            {
                _key(key, path): freeze(item, f"{path}.{key}", depth + 1)
                for key, item in value.items()
            }
        )
    if isinstance(value, list | tuple):
        return tuple(
            freeze(item, f"{path}[{index}]", depth + 1) for index, item in enumerate(value)
        )
    if isinstance(value, str | int):
        # A subclass may carry more than its value does.
        return str(value) if isinstance(value, str) else int(value)
    raise NotCanonical(f"{path}: {kind.__name__} has no form in JSON")


def _key(key: Any, path: str) -> str:
    if not isinstance(key, str):
        raise NotCanonical(f"{path}: the key {key!r} is not text")
    return key


def thaw(value: Any) -> Any:
    """Return a copy of plain dicts and lists, for who needs to change it."""
    if isinstance(value, Mapping):
        return {key: thaw(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [thaw(item) for item in value]
    return value


def hold(struct: msgspec.Struct, *names: str) -> None:
    """Freeze fields of a frozen Struct while it is made. Raises: not-canonical."""
    for name in names:
        value = getattr(struct, name)
        if value is not None and value is not msgspec.UNSET:
            msgspec.structs.force_setattr(struct, name, freeze(value, name))
