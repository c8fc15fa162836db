"""A value becomes one byte string, and one byte string one digest.

The profile is I-JSON without floats: sorted ASCII keys, |int| <= 2**53 - 1, no lone surrogates, no
NaN. Inside it the bytes equal RFC 8785 (tests compare them). The encoder alone would turn NaN into
null and pass big integers on, so every value goes through a door check first.
"""

from __future__ import annotations

import hashlib
import math
import operator
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any, Final

import msgspec

from runwright.kernel.errors import NotCanonical

#: The largest integer that every JSON reader keeps exactly (RFC 7493, section 2.2).
INT_MAX: Final = 2**53 - 1
#: How deep a canonical value may nest.
DEPTH_MAX: Final = 16

_ENCODER: Final = msgspec.json.Encoder(order="sorted")


def encode(value: Any) -> bytes:
    """Return the canonical bytes of a value made of None, bool, int, str, lists, dicts, Structs.

    Raises: not-canonical, naming the path of the first value outside the profile.
    """
    check(value)
    return _ENCODER.encode(value)


def encode_again(value: Any) -> bytes:
    """Return the canonical bytes of a value that was checked, or read from canonical bytes."""
    return _ENCODER.encode(value)


def digest(data: bytes) -> str:
    """Return the SHA-256 of bytes, as 64 lower-case hex characters."""
    return hashlib.sha256(data).hexdigest()


def digest_of(value: Any) -> str:
    """Return the digest of a value's canonical bytes."""
    return digest(encode(value))


def commitment(salt: bytes, data: bytes) -> str:
    """Return the salted digest of captured bytes: SHA-256(salt || data), hex.

    Without the salt the content cannot be guessed, so salt and data can be erased and every proof
    that quotes the commitment still holds.
    """
    return hashlib.sha256(salt + data).hexdigest()


def decimal_text(number: float) -> str:
    """Return the decimal of a float's shortest form: 0.7 -> "0.7", 1e3 -> "1000.0".

    Raises: not-canonical for NaN and infinities.
    """
    if not math.isfinite(number):
        msg = f"{number!r} is not a number that can be recorded"
        raise NotCanonical(msg)
    return format(Decimal(repr(number)), "f")


def exact(value: Any) -> Any:
    """Return a copy of a JSON value in which every float is its decimal text.

    Raises: not-canonical for NaN and infinities.
    """
    if isinstance(value, float):
        return decimal_text(value)
    if isinstance(value, dict):
        return {key: exact(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [exact(item) for item in value]
    return value


def check(value: Any) -> None:
    """Refuse what has no canonical form.

    Raises: not-canonical, naming the path of the first value outside the profile.
    """
    if not _fits(value, 0):
        path, reason = _misfit(value, "$", 0)
        msg = f"{path}: {reason}"
        raise NotCanonical(msg)


def _fits(value: Any, depth: int) -> bool:
    return fit((value,), depth)


def fit(values: Iterable[Any], depth: int = 0) -> bool:
    """Say whether values are inside the profile; the hot path, so it names no place."""
    for value in values:
        kind = type(value)
        if kind is str:
            if not value.isascii() and not _is_text(value):
                return False
        elif kind is int:
            if not -INT_MAX <= value <= INT_MAX:
                return False
        elif value is None or kind is bool:
            pass
        elif depth >= DEPTH_MAX:
            return False
        elif kind is dict:
            for key in value:
                if type(key) is not str or not key.isascii():
                    return False
            if value and not fit(value.values(), depth + 1):
                return False
        elif kind is list or kind is tuple:
            if value and not fit(value, depth + 1):
                return False
        elif isinstance(value, msgspec.Struct):
            if not fit(_fields_of(kind)(value), depth + 1):
                return False
        else:
            return False
    return True


def _fields_of(kind: type) -> Callable[[Any], tuple[Any, ...]]:
    """Return what takes the values of a Struct's fields, in one call when it has several."""
    getter = _GETTERS.get(kind)
    if getter is None:
        names = msgspec.structs.fields(kind)
        if len(names) > 1:
            getter = operator.attrgetter(*(field.name for field in names))
        else:
            getter = msgspec.structs.astuple
        _GETTERS[kind] = getter
    return getter


#: The type of a Struct -> what takes its values.
_GETTERS: Final[dict[type, Callable[[Any], tuple[Any, ...]]]] = {}


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _misfit(value: Any, path: str, depth: int) -> tuple[str, str]:
    """Return the path of the first value outside the profile and what is wrong with it."""
    if isinstance(value, str):
        return path, "lone surrogate in text"
    if type(value) is int:
        return path, f"{value} is beyond 2**53 - 1"
    if depth >= DEPTH_MAX:
        return path, f"nested deeper than {DEPTH_MAX}"
    if isinstance(value, dict):
        children = [(f"{path}.{key}", key, item) for key, item in value.items()]
    elif isinstance(value, list | tuple):
        children = [(f"{path}[{index}]", "", item) for index, item in enumerate(value)]
    elif isinstance(value, msgspec.Struct):
        fields = value.__struct_fields__
        children = [(f"{path}.{name}", name, getattr(value, name)) for name in fields]
    else:
        return path, f"{type(value).__name__} has no canonical form"
    for place, key, item in children:
        if type(key) is not str or not key.isascii():
            return path, f"key {key!r} is not ASCII text"
        if not _fits(item, depth + 1):
            return _misfit(item, place, depth + 1)
    return path, "has no canonical form"
