"""What an engine may answer: finite numbers, text, lists and objects, as one text for equal values.

Nothing is repaired: what has no form in JSON, or is too large to be kept, is refused by the name of
its fault.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from math import isfinite
from typing import Any, Final

import msgspec
from msgspec.structs import astuple

from runwright.streams.missing import MISSING, is_marker, text_of

#: The longest output and decision, in bytes as an entry holds them: JSON text in a JSON string.
ANSWER_MAX: Final = 7 * 1024
#: The longest state, in bytes.
STATE_MAX: Final = 64 * 1024
#: How deep an answer may nest.
DEPTH_MAX: Final = 32
#: Integers beyond do not survive every JSON reader.
INT_MAX: Final = 2**53 - 1
#: Characters that cannot outgrow ANSWER_MAX, at four bytes for the largest of them.
_SURELY_SHORT: Final = ANSWER_MAX // 4 - 4


class OutputInvalid(ValueError):
    """What an engine answered cannot be kept."""


class NoObject(OutputInvalid):
    """The output is no JSON object."""


class NotJson(OutputInvalid):
    """A value in the answer is of a type that JSON does not have."""


class NumberNotFinite(OutputInvalid):
    """A number in the answer is NaN or an infinity."""


class NumberTooLarge(OutputInvalid):
    """An integer in the answer is beyond 2**53 - 1."""


class TooLarge(OutputInvalid):
    """The answer has too many bytes."""


class NoDecision(OutputInvalid):
    """A hysteresis engine answered without a decision, its selected output or a state."""


def answer_text(answer: Any, *, what: str) -> str:
    """Return an object as compact JSON with sorted keys. Raises: OutputInvalid."""
    if not isinstance(answer, dict | msgspec.Struct) or not _fits((answer,), (), 0):
        answer = plain(answer, 0)
        if type(answer) is not dict or is_marker(answer):
            raise NoObject(f"the {what} is no object")
    text = text_of(answer)
    if kept_size(text) > ANSWER_MAX:
        raise TooLarge(f"the {what} has more than {ANSWER_MAX} bytes")
    return text


def kept_size(*texts: str) -> int:
    """Return how many bytes texts have as an entry holds them; or, where they are few, fewer."""
    size = sum(map(len, texts))
    return size if size < _SURELY_SHORT else sum(len(msgspec.json.encode(text)) for text in texts)


def _fits(values: Any, keys: Any, depth: int) -> bool:
    """Say whether values are plain JSON already; the hot path, so it names no reason."""
    for key in keys:
        if type(key) is not str or not key.isascii():
            return False
    for value in values:
        kind = type(value)
        if kind is str:
            if not value.isascii():
                return False
        elif kind is float:
            if not isfinite(value):
                return False
        elif kind is int:
            if not -INT_MAX <= value <= INT_MAX:
                return False
        elif value is None or kind is bool:
            pass
        elif depth >= DEPTH_MAX:
            return False
        elif kind is dict:
            if not _fits(value.values(), value, depth + 1):
                return False
        elif kind is list or kind is tuple:
            if not _fits(value, (), depth + 1):
                return False
        elif not _is_plain(kind) or not _fits(astuple(value), (), depth + 1):
            return False
    return True


def _is_plain(kind: Any) -> bool:
    """Say whether a type is a struct that is written with all its fields under their names."""
    known = _PLAIN.get(kind)
    if known is None:
        known = issubclass(kind, msgspec.Struct)
        if known:
            settings = kind.__struct_config__
            is_whole = not (settings.omit_defaults or settings.tag or settings.array_like)
            known = is_whole and kind.__struct_encode_fields__ == kind.__struct_fields__
        _PLAIN[kind] = known
    return known


#: Type -> whether it is such a struct.
_PLAIN: Final[dict[type, bool]] = {}


def plain(value: Any, depth: int) -> Any:
    """Return a value as plain JSON, structs and dataclasses as objects. Raises: OutputInvalid."""
    if value is None or value is MISSING or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _plain_text(value)
    if isinstance(value, int):
        if not -INT_MAX <= value <= INT_MAX:
            raise NumberTooLarge(f"{value} is beyond 2**53 - 1")
        return int(value)
    if isinstance(value, float):
        if not isfinite(value):
            raise NumberNotFinite(f"{value} is not finite")
        return float(value)
    if depth >= DEPTH_MAX:
        raise NotJson(f"it nests deeper than {DEPTH_MAX}")
    if isinstance(value, list | tuple):
        return [plain(item, depth + 1) for item in value]
    pairs: dict[Any, Any]
    if isinstance(value, Mapping):
        pairs = dict(value)
    elif isinstance(value, msgspec.Struct):
        pairs = {name: getattr(value, name) for name in value.__struct_fields__}
    elif is_dataclass(value) and not isinstance(value, type):
        pairs = {field.name: getattr(value, field.name) for field in fields(value)}
    else:
        raise NotJson(f"{type(value).__name__} is no JSON value")
    if not all(isinstance(key, str) for key in pairs):
        raise NotJson("a key is no text")
    return {_plain_text(key): plain(item, depth + 1) for key, item in pairs.items()}


def _plain_text(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise NotJson("a text holds a lone surrogate") from error
    return str.__str__(text)
