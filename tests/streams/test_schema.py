"""The shipped schemas are those of the types, and version 1 only grows (checks 2 and 7)."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from importlib.resources import files
from typing import Any

import pytest

from runwright.streams.page import contracts_page
from runwright.streams.schema import CONTRACTS, breaks, schema_files, schemas
from tests.streams.generate import FROZEN, PAGE, SCHEMAS

Change = Callable[[dict[str, Any]], object]


def frozen(name: str) -> dict[str, Any]:
    """Return the copy of a schema that was frozen."""
    found: dict[str, Any] = json.loads((FROZEN / f"{name}.json").read_bytes())
    return found


def test_schema_files_ship_with_the_package() -> None:
    """Check 2: they are found where the package is installed, one for each contract."""
    shipped = {file.name for file in (files("runwright.streams") / "schemas").iterdir()}
    assert shipped == {f"{name}.json" for name in CONTRACTS}


@pytest.mark.parametrize("name", CONTRACTS)
def test_a_shipped_schema_is_that_of_its_type(name: str) -> None:
    """`python -m tests.streams.generate` writes it."""
    assert (SCHEMAS / f"{name}.json").read_bytes() == schema_files()[f"{name}.json"]


def test_the_page_is_made_from_the_schemas() -> None:
    """`python -m tests.streams.generate` writes it; another word in it is seen."""
    text = PAGE.read_text(encoding="utf-8")
    assert text == contracts_page()
    assert text.replace("| auth |", "| op |", 1) != contracts_page()


@pytest.mark.parametrize("name", CONTRACTS)
def test_nothing_that_was_frozen_has_gone(name: str) -> None:
    """Check 7: what is in force adds to version 1 and breaks nothing of it."""
    assert breaks(frozen(name), schemas()[name]) == []


def remove(path: str) -> Change:
    """Return what takes something away."""

    def change(schema: dict[str, Any]) -> None:
        *way, last = path.split("/")
        del at(schema, way)[int(last) if last.isdigit() else last]

    return change


def put(path: str, value: Any) -> Change:
    """Return what puts something in."""

    def change(schema: dict[str, Any]) -> None:
        *way, last = path.split("/")
        at(schema, way)[last] = value

    return change


def rename(path: str, name: str) -> Change:
    """Return what gives a field another name."""

    def change(schema: dict[str, Any]) -> None:
        *way, last = path.split("/")
        part = at(schema, way)
        part[name] = part.pop(last)

    return change


def at(schema: Any, way: list[str]) -> Any:
    for step in way:
        schema = schema[int(step)] if step.isdigit() else schema[step]
    return schema


BREAKS: list[tuple[str, Change, str]] = [
    ("orchestrator_event", remove("properties/cut_kind"), "$.properties.cut_kind is gone"),
    (
        "orchestrator_event",
        rename("properties/publish_seq", "sequence"),
        "$.properties.publish_seq is gone",
    ),
    (
        "orchestrator_event",
        put("properties/symbol/type", "integer"),
        "$.properties.symbol.type: 'string' became 'integer'",
    ),
    (
        "engine_run_record",
        lambda schema: schema["required"].append("engine_ref"),
        "$.engine_ref is required and was not",
    ),
    (
        "engine_run_record",
        lambda schema: schema["required"].remove("status"),
        "$.status was required and is not",
    ),
    (
        "engine_run_record",
        put("properties/attempts/x-class", "op"),
        "$.properties.attempts.x-class: 'auth' became 'op'",
    ),
    (
        "engine_run_record",
        put("properties/attempts/maximum", 9),
        "$.properties.attempts.maximum is new and narrows what is valid",
    ),
    (
        "engine_run_record",
        put("properties/status/enum", ["planned", "completed", "failed"]),
        "$.properties.status.enum: 'started' is gone",
    ),
    (
        "raw_market_event",
        remove("allOf/0"),
        "$.allOf: 'TradeTick' is gone",
    ),
    (
        "raw_market_event",
        remove("allOf/0/then/properties/normalized/properties/price"),
        "$.allOf.TradeTick.properties.normalized.properties.price is gone",
    ),
    (
        "raw_market_event",
        lambda schema: at(schema, "allOf/0/then/properties/normalized/required".split("/")).append(
            "side"
        ),
        "$.allOf.TradeTick.properties.normalized.side is required and was not",
    ),
    (
        "raw_input_buffer_record",
        remove("$defs/RawMarketEvent/properties/raw_payload"),
        "$.$defs.RawMarketEvent.properties.raw_payload is gone",
    ),
    (
        "hysteresis_state_record",
        put("additionalProperties", False),
        "$.additionalProperties is new and narrows what is valid",
    ),
    (
        "configuration",
        put("$defs/Retention/properties/max_records/default", 50_000),
        "$.$defs.Retention.properties.max_records.default: 10000000 became 50000",
    ),
    (
        "configuration",
        remove("$defs/Scheduler/properties/on_restart"),
        "$.$defs.Scheduler.properties.on_restart is gone",
    ),
]


@pytest.mark.parametrize(("name", "change", "told"), BREAKS)
def test_a_break_is_named(name: str, change: Change, told: str) -> None:
    """Check 7: what is removed, renamed, retyped, or newly required fails, with its path."""
    changed = copy.deepcopy(frozen(name))
    change(changed)
    assert told in breaks(frozen(name), changed)


NEW_TYPE = {
    "if": {"properties": {"event_type": {"const": "Auction"}}},
    "then": {"properties": {"normalized": {"type": "object"}}, "required": ["normalized"]},
}
ADDITIONS: list[tuple[str, Change]] = [
    ("orchestrator_event", put("properties/region", {"type": "string", "x-class": "auth"})),
    ("orchestrator_event", put("properties/symbol/description", "in other words")),
    ("raw_market_event", lambda schema: schema["allOf"].append(NEW_TYPE)),
    ("raw_market_event", put("allOf/0/then/properties/normalized/properties/venue", {})),
    ("engine_run_record", lambda schema: schema["properties"]["status"]["enum"].append("lost")),
    ("configuration", put("$defs/Buffer/properties/compress", {"default": False})),
    ("configuration", put("properties/buffer/default/compress", False)),
]


@pytest.mark.parametrize(("name", "change"), ADDITIONS)
def test_an_addition_is_none(name: str, change: Change) -> None:
    """Check 7: a new optional field, event type or value of a list passes."""
    changed = copy.deepcopy(frozen(name))
    change(changed)
    assert changed != frozen(name)
    assert breaks(frozen(name), changed) == []


def test_what_was_added_may_not_go_once_it_is_frozen() -> None:
    """An addition is an addition one way only."""
    name, change = ADDITIONS[0]
    grown = copy.deepcopy(frozen(name))
    change(grown)
    assert breaks(grown, frozen(name)) == ["$.properties.region is gone"]


def test_every_key_of_the_configuration_stands_in_its_page() -> None:
    """docs/reference/spec-streams.md has a row for each key, and none for another."""
    text = (PAGE.parent / "spec-streams.md").read_text(encoding="utf-8")
    documented = {
        row.split("|")[1].strip().strip("`") for row in text.splitlines() if row.startswith("| `")
    }
    assert documented == set(keys(schemas()["configuration"]))


def keys(whole: dict[str, Any]) -> list[str]:
    """Return the dotted keys of the configuration, as its page names them."""
    found = []

    def walk(part: dict[str, Any], prefix: str) -> None:
        for key, schema in part["properties"].items():
            name, inner = key, schema
            if schema.get("type") == "array":
                inner = schema.get("items", {})
                name = f"{key}[]" if "$ref" in inner else key
            refs = [one["$ref"] for one in (inner, *inner.get("anyOf", ())) if "$ref" in one]
            if name.endswith("_retry"):
                found.append(f"{prefix}{name}")
            elif refs and name != "mapping":
                walk(whole["$defs"][refs[0].rpartition("/")[2]], f"{prefix}{name}.")
            else:
                found.append(f"{prefix}{name}")

    walk(whole, "")
    for name in ("Mapped", "Bounds"):
        walk(whole["$defs"][name], {"Mapped": "mapping.", "Bounds": "*_retry."}[name])
    return found
