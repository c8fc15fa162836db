"""The list of entry types is closed and frozen: what was written once can be read for ever.

`tests/golden/entries.json` holds the JSON schema of every type. An addition is written down with

    python -m tests.kernel.record.test_entries
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from runwright.kernel.canonical import encode
from runwright.kernel.errors import InternalError, NotCanonical
from runwright.kernel.record.entries import (
    BODIES,
    ENTRY_MAX,
    FORMAT,
    NO_PREV,
    SEALED_AT_ONCE,
    TYPES,
    Actor,
    ClockStepped,
    Draft,
    Entry,
    HaltRaised,
    decode,
)
from runwright.kernel.record.ledger import Head, append
from runwright.kernel.run import Blob

GOLDEN = Path(__file__).parents[2] / "golden/entries.json"


def schemas() -> dict[str, Any]:
    """Return the schema of the envelope and of every body, without words for people."""
    made = {"entry": msgspec.json.schema(Entry)}
    made |= {name: msgspec.json.schema(body) for name, body in BODIES.items()}
    plain: dict[str, Any] = json.loads(json.dumps(made, sort_keys=True))
    return {name: without_words(schema) for name, schema in plain.items()}


def without_words(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {
            key: without_words(value)
            for key, value in schema.items()
            if not (key in {"description", "title"} and isinstance(value, str))
        }
    return [without_words(item) for item in schema] if isinstance(schema, list) else schema


def breaks(old: Any, new: Any, path: str = "") -> list[str]:
    """Return where a schema does more than grow.

    It may gain properties that are not required, definitions, and alternatives.
    """
    if isinstance(old, dict) and isinstance(new, dict):
        found = []
        for key, value in old.items():
            place = f"{path}/{key}"
            if key not in new:
                found.append(f"{place} is gone")
            elif key == "required" and sorted(value) != sorted(new[key]):
                found.append(f"{place} was {sorted(value)} and is {sorted(new[key])}")
            elif key in {"enum", "anyOf"}:
                found += [f"{place} lost {item}" for item in value if item not in new[key]]
            else:
                found += breaks(value, new[key], place)
        if "required" in new and "required" not in old and "properties" in old:
            found.append(f"{path}/required is new")
        return found
    return [] if old == new else [f"{path} was {old!r} and is {new!r}"]


def golden() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(GOLDEN.read_text())
    return found


def test_entry_types_only_grow():
    """No type and no field that was written down is changed or taken away."""
    assert breaks(golden(), schemas()) == []


def test_every_entry_type_is_written_down():
    """An addition is frozen with the change that makes it."""
    assert golden() == schemas(), "write it down: python -m tests.kernel.record.test_entries"


def dropped(schema: dict[str, Any]) -> None:
    del schema["halt.raised"]


def renamed(schema: dict[str, Any]) -> None:
    of = definition(schema, "run.finished")
    of["properties"]["state"] = of["properties"].pop("status")


def retyped(schema: dict[str, Any]) -> None:
    definition(schema, "run.started")["properties"]["attempt"]["type"] = "string"


def required(schema: dict[str, Any]) -> None:
    of = definition(schema, "run.started")
    of["properties"]["host"] = {"type": "string"}
    of["required"].append("host")


def narrowed(schema: dict[str, Any]) -> None:
    definition(schema, "tick.passed")["properties"]["status"]["enum"].remove("MISSED")


def definition(schema: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = schema[name]["$defs"][BODIES[name].__name__]
    return found


@pytest.mark.parametrize("change", [dropped, renamed, retyped, required, narrowed])
def test_a_change_that_is_no_addition_is_seen(change):
    """A control: each of these would make old ledgers unreadable."""
    changed = copy.deepcopy(schemas())
    change(changed)
    assert breaks(schemas(), changed)


def test_an_addition_is_allowed():
    """A new type, a new optional field and a new word of a closed set."""
    changed = copy.deepcopy(schemas())
    changed["run.adjusted"] = {"type": "object"}
    definition(changed, "run.started")["properties"]["host"] = {"type": "string", "default": ""}
    definition(changed, "tick.passed")["properties"]["status"]["enum"].append("LATE")
    assert breaks(schemas(), changed) == []


def test_each_type_has_a_name_of_its_own():
    """A noun and a past participle; those that are sealed at once are among them."""
    assert len(TYPES) == len(BODIES)
    assert all(name.count(".") == 1 and name.islower() for name in BODIES)
    assert set(BODIES) >= SEALED_AT_ONCE


# ------------------------------------------------------------------------------------- the bytes


def stored(draft: Draft) -> bytes:
    return append(Head(), "example.org/ledger", 5, [draft]).entries[0].raw


def test_an_entry_is_its_canonical_bytes():
    """Keys sorted, defaults left out, the type and the version at the end."""
    raw = stored(Draft(body=ClockStepped(step_ms=-5)))
    assert raw == (
        b'{"actor":{},"body":{"step_ms":-5},"n":0,"origin":"example.org/ledger","prev":"'
        + NO_PREV.encode()
        + b'","seq":0,"ts":5,"type":"clock.stepped","v":1}'
    )
    assert encode(json.loads(raw)) == raw


def test_an_entry_reads_back_with_its_body_typed():
    """With the id that it belongs to, its count, its blobs and what it corrects."""
    blob = Blob(name="spec", digest="00", size=3)
    draft = Draft(
        body=HaltRaised(code="halt", message="ä"),
        run="r" * 64,
        n=2,
        actor=Actor(kind="person", id="ada"),
        blobs=(blob,),
        sup=7,
    )
    entry = decode(stored(draft))
    assert entry.body == draft.body
    assert (entry.v, entry.seq, entry.type) == (FORMAT, 0, "halt.raised")
    assert (entry.run, entry.n, entry.actor, entry.blobs, entry.sup) == (
        draft.run,
        2,
        draft.actor,
        (blob,),
        7,
    )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"clock.stepped", b"clock.jumped", "unknown entry type 'clock.jumped'"),
        (b'"v":1', b'"v":2', "of version 2"),
        (b'"step_ms":-5', b'"step_ms":"-5"', "Expected `int`, got `str`"),
        (b'"step_ms":-5', b'"step_ms":-5,"why":1', "unknown field `why`"),
        (b'"n":0,', b'"n":0,"colour":1,', "unknown field `colour`"),
        (b'"step_ms":-5', b"", "missing required field `step_ms`"),
    ],
)
def test_what_is_no_entry_is_not_read(old: bytes, new: bytes, message: str):
    """An unknown type, version or field, or one of another type."""
    raw = stored(Draft(body=ClockStepped(step_ms=-5)))
    with pytest.raises(msgspec.ValidationError, match=message):
        decode(raw.replace(old, new))


def test_an_entry_has_a_largest_size():
    """What is larger belongs into a blob."""
    with pytest.raises(NotCanonical, match=f"is over the limit of {ENTRY_MAX}") as caught:
        stored(Draft(body=HaltRaised(code="halt", message="x" * ENTRY_MAX)))
    assert caught.value.hint == "Keep large things as a blob and name them by digest."


def test_only_bodies_of_the_list_are_written():
    """Anything else is a defect of ours."""
    with pytest.raises(InternalError, match="Actor is not the body of an entry"):
        stored(Draft(body=Actor()))


def write() -> None:
    """Write down what was added; refuse to write down anything else."""
    found = breaks(golden(), schemas()) if GOLDEN.exists() else []
    if found:
        raise SystemExit("not an addition:\n" + "\n".join(found))
    GOLDEN.write_text(json.dumps(schemas(), indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    write()
