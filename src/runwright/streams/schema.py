"""The contracts as JSON Schemas, and what is not allowed between two versions of one.

The schemas are made from the types, so they say what is enforced. Version 1 only grows: a new
optional field, a new event type, a new value of a list. Whatever else differs is a break.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from runwright.streams.contracts import (
    OPERATIONAL,
    EngineRunRecord,
    HysteresisStateRecord,
    OrchestratorEvent,
    RawInputBufferRecord,
    RawMarketEvent,
)
from runwright.streams.frozen import thaw
from runwright.streams.normalized import EVENT_TYPES
from runwright.streams.spec import StreamSpec

#: Name of the schema -> the type that it is made from.
CONTRACTS: Final[Mapping[str, type[msgspec.Struct]]] = {
    "raw_market_event": RawMarketEvent,
    "raw_input_buffer_record": RawInputBufferRecord,
    "engine_run_record": EngineRunRecord,
    "orchestrator_event": OrchestratorEvent,
    "hysteresis_state_record": HysteresisStateRecord,
    "configuration": StreamSpec,
}
_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
#: Keys of every spec that a stream's file does not have, and the types behind them.
_NOT_IN_FILES: Final = ("folder", "schedule")
_NOT_OURS: Final = frozenset({"Schedule", "Dst", "Misfire"})
#: Always encoded, although a constructor has a value for them.
_CONSTANT: Final = ("schema", "schema_version")


class EngineRunCompleted(msgspec.Struct, frozen=True, kw_only=True):
    """A run has its output."""

    regime_output: Any


class EngineRunFailed(msgspec.Struct, frozen=True, kw_only=True):
    """A run has none, and why."""

    error_kind: str
    error_detail: str | None


class HysteresisDecisionPublished(msgspec.Struct, frozen=True, kw_only=True):
    """What hysteresis made of the output."""

    hysteresis_decision: Any


class HysteresisStatePublished(msgspec.Struct, frozen=True, kw_only=True):
    """The state that a run left."""

    hysteresis_state: Any


#: Event type -> the keys of its payload; EngineRunStarted has none.
PAYLOADS: Final[Mapping[str, type[msgspec.Struct]]] = {
    kind.__name__: kind
    for kind in (
        EngineRunCompleted,
        EngineRunFailed,
        HysteresisDecisionPublished,
        HysteresisStatePublished,
    )
}
#: Contract -> the field that an event type types, and by which types.
_TYPED: Final[Mapping[str, tuple[str, Mapping[str, type[msgspec.Struct]]]]] = {
    "RawMarketEvent": ("normalized", EVENT_TYPES),
    "OrchestratorEvent": ("payload", PAYLOADS),
}


def schema_files() -> dict[str, bytes]:
    """Return the files of `streams/schemas`: name -> text."""
    return {
        f"{name}.json": msgspec.json.format(msgspec.json.encode(schema), indent=2) + b"\n"
        for name, schema in schemas().items()
    }


def schemas() -> dict[str, dict[str, Any]]:
    """Return the schemas by name."""
    return {name: _schema(kind) for name, kind in CONTRACTS.items()}


def _schema(kind: type[msgspec.Struct]) -> dict[str, Any]:
    made = msgspec.json.schema(kind)
    parts: dict[str, Any] = made["$defs"]
    for name, part in parts.items():
        _complete(name, part)
    root = parts.pop(kind.__name__)
    for key in _NOT_IN_FILES if kind is StreamSpec else ():
        root["properties"].pop(key)
    for name in _NOT_OURS & parts.keys():
        del parts[name]
    whole: dict[str, Any] = thaw({"$schema": _DIALECT, **root, "$defs": parts})
    return whole if parts else {name: part for name, part in whole.items() if name != "$defs"}


def _complete(name: str, part: dict[str, Any]) -> None:
    """Add what the types cannot say: constants, classes, and what an event type demands."""
    if name not in {kind.__name__ for kind in CONTRACTS.values()} or name == "StreamSpec":
        return
    properties = part["properties"]
    properties.pop("extra", None)
    part["required"] = [
        *(field for field in _CONSTANT if field in properties),
        *part["required"],
    ]
    left_out = OPERATIONAL.get(name, frozenset())
    for field, schema in properties.items():
        schema["x-class"] = "op" if field in left_out else "auth"
    if name in _TYPED:
        field, kinds = _TYPED[name]
        part["allOf"] = [_branch(field, word, kind) for word, kind in kinds.items()]


def _branch(field: str, word: str, kind: type[msgspec.Struct]) -> dict[str, Any]:
    keys = msgspec.json.schema(kind)["$defs"][kind.__name__]
    return {
        "if": {"properties": {"event_type": {"const": word}}},
        "then": {"properties": {field: keys}, "required": [field]},
    }


# ------------------------------------------------------------------------------- additions only

#: What says nothing about which values are valid.
_WORDS: Final = frozenset({"description", "title", "$id", "$schema"})


def breaks(old: Mapping[str, Any], new: Mapping[str, Any], path: str = "$") -> list[str]:
    """Return what a reader or a writer of the old schema would stumble over in the new one."""
    return sorted(set(_breaks(old, new, path)))


def _breaks(old: Any, new: Any, path: str) -> Iterator[str]:
    if not isinstance(old, Mapping) or not isinstance(new, Mapping):
        if old != new:
            yield f"{path}: {old!r} became {new!r}"
        return
    for key in sorted({*old, *new} - _WORDS):
        place = f"{path}.{key}"
        if key in {"properties", "$defs"}:
            yield from _grown(old.get(key, {}), new.get(key, {}), place)
        elif key == "required":
            yield from _required(old.get(key, []), new.get(key, []), path)
        elif key in {"enum", "allOf"} and key in old and key in new:
            yield from _listed(old[key], new[key], place)
        elif key not in new:
            yield f"{place} is gone"
        elif key == "default" and isinstance(old.get(key), Mapping):
            # A key that is new below has a default of its own.
            yield from _breaks(old[key], {name: new[key].get(name) for name in old[key]}, place)
        elif key not in old:
            yield f"{place} is new and narrows what is valid"
        else:
            yield from _breaks(old[key], new[key], place)


def _grown(old: Mapping[str, Any], new: Mapping[str, Any], path: str) -> Iterator[str]:
    for name, schema in old.items():
        if name not in new:
            yield f"{path}.{name} is gone"
        else:
            yield from _breaks(schema, new[name], f"{path}.{name}")


def _required(old: list[str], new: list[str], path: str) -> Iterator[str]:
    for name in sorted(set(new) - set(old)):
        yield f"{path}.{name} is required and was not"
    for name in sorted(set(old) - set(new)):
        yield f"{path}.{name} was required and is not"


def _listed(old: list[Any], new: list[Any], path: str) -> Iterator[str]:
    """Every value, and every rule of an event type, is still there; more may be."""
    for item in old:
        if item in new:
            continue
        same = [other for other in new if _word(item) is not None and _word(other) == _word(item)]
        if same:
            yield from _breaks(item["then"], same[0]["then"], f"{path}.{_word(item)}")
        else:
            yield f"{path}: {_word(item) or item!r} is gone"


def _word(branch: Any) -> Any:
    """Return the event type that a rule is about."""
    try:
        return branch["if"]["properties"]["event_type"]["const"]
    except (KeyError, TypeError):
        return None
