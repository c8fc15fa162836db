"""The note that freezes version 1: its checks are run, and each is seen to fail (check 48)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
import pytest

from runwright.streams import freeze
from runwright.streams.freeze import FreezeNote, freeze_note, note_text
from runwright.streams.schema import CONTRACTS, schema_files
from tests.streams.generate import SCHEMAS
from tests.streams.test_neutral import sources

PLAN = "runwright.streams.plan"


def keep(items: Sequence[bytes], keys: Sequence[str]) -> Iterable[bytes]:
    """Keep as a log does."""
    assert len(items) == len(keys)
    return items


def note(**changes: object) -> FreezeNote:
    """Return the note of an empty module and the shipped schemas, with one thing changed."""
    shipped = {path.name: path.read_bytes() for path in SCHEMAS.iterdir()}
    given: dict[str, object] = {"sources": {PLAN: ""}, "shipped": shipped, "keep": keep, **changes}
    return freeze_note(**given)  # type: ignore[arg-type]


def broken(found: FreezeNote) -> list[str]:
    """Return the promises that do not hold."""
    assert found.holds == all(check.holds for check in found.checks)
    return [check.promise for check in found.checks if not check.holds]


@pytest.mark.slow
def test_the_note_holds_what_version_one_is() -> None:
    """Check 48: schemas with digests, event types, minimal keys, and every check finds nothing."""
    made = note(sources=sources())
    assert broken(made) == []
    assert len(made.checks) == 6
    assert set(made.schemas) == {f"{name}.json" for name in CONTRACTS}
    assert all(len(digest) == 64 for digest in made.schemas.values())
    assert len(made.event_types) == 11
    assert made.output_types[:4] == (
        "EngineRunStarted",
        "EngineRunCompleted",
        "EngineRunFailed",
        "HysteresisDecisionPublished",
    )
    text = note_text(made)
    for word in (*made.schemas.values(), *made.event_types, *made.minimal_keys):
        assert word in text
    assert "BROKEN" not in text
    assert msgspec.json.decode(msgspec.json.encode(made), type=FreezeNote) == made


def test_a_stale_schema_breaks_it() -> None:
    """One byte of one file, a file that is missing and one too many."""
    files = schema_files()
    assert broken(note(shipped=files)) == []
    for shipped in (
        {**files, "configuration.json": files["configuration.json"] + b" "},
        {name: data for name, data in files.items() if name != "configuration.json"},
        {**files, "other.json": b"{}"},
    ):
        assert broken(note(shipped=shipped)) == ["the schema files are those of the types"]


def test_a_computation_and_a_consumer_break_it() -> None:
    """Check 25 is run on what it is handed."""
    planted = {PLAN: "x = lambda e: e.normalized['price'] * 2"}
    assert broken(note(sources=planted)) == [
        "nothing outside the engines computes on market values"
    ]
    found = note(sources={PLAN: "import numpy"})
    assert broken(found) == ["nothing outside the engines knows who consumes a stream"]
    assert "BROKEN  nothing outside the engines knows" in note_text(found)
    assert "runwright.streams.plan:1: imports numpy" in note_text(found)


def test_a_log_that_drops_duplicates_breaks_it() -> None:
    """Check 11 is run on the log that it is handed."""
    deduping = note(keep=lambda items, _: list(dict.fromkeys(items)))
    assert broken(deduping) == ["duplicates are kept, none is dropped"]


def test_a_log_that_writes_events_anew_breaks_it() -> None:
    """Check 3 is run on the log that it is handed: order of keys and spaces are not ours."""
    again = note(
        keep=lambda items, _: [msgspec.json.encode(msgspec.json.decode(item)) for item in items]
    )
    assert broken(again) == ["unknown event types and fields are kept unchanged"]
    short = note(keep=lambda items, _: items[:1])
    assert "unknown event types and fields are kept unchanged" in broken(short)


def test_a_minimal_key_too_few_breaks_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control of the minimal keys: without one the spec is refused, and with idle ones too."""
    few = {key: value for key, value in freeze.MINIMAL.items() if key != "engine.ref"}
    monkeypatch.setattr(freeze, "MINIMAL", few)
    assert len(broken(note())) == 1
    idle = {**few, "engine.ref": "a:b", "engine.timeout_ms": 5}
    monkeypatch.setattr(freeze, "MINIMAL", idle)
    (promise,) = broken(note())
    assert promise.startswith("the minimal keys are enough")
