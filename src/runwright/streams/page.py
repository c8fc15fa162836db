"""docs/reference/stream-contracts.md, made from the schemas so that it cannot say anything else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from runwright.streams.contracts import ERROR_KINDS, OUTPUT_TYPES, RUN_ID_FIELDS
from runwright.streams.failure import KEPT_BYTES, MAX_EVENT_BYTES
from runwright.streams.schema import schemas
from runwright.streams.spec import RETRIES

_OPENING: Final = """\
# Stream contracts, version 1

What goes into a [stream](spec-streams.md) and what comes out of it. This page is made from the JSON
Schemas in `src/runwright/streams/schemas`, which are made from the types: `python -m
tests.streams.generate` writes all of them anew, and a test compares them with what is here.

Everything is JSON in UTF-8. What Runwright writes has sorted keys and no spaces, integers and
floats kept apart, floats in their shortest form. A field without a default is always there, null
included; an optional one that has nothing to say is left out. Of class `auth` is what a replay
gives again, byte for byte; of class `op` what is operational and no part of a replay digest.
"""
_TITLES: Final = {
    "raw_market_event": "RawMarketEvent",
    "raw_input_buffer_record": "RawInputBufferRecord",
    "engine_run_record": "EngineRunRecord",
    "orchestrator_event": "OrchestratorEvent",
    "hysteresis_state_record": "HysteresisStateRecord",
}
_NOTES: Final = {
    "raw_market_event": f"""\
An event is kept as the bytes that arrived, and its digest is over them: fields and types that
version 1 does not know, numbers beyond 2^53 and the order of keys survive. Duplicates are kept.
Input that is no event becomes a `DecodeFailure` event around it, with its symbol where the source
has only one: nothing is dropped. Its `raw_payload` is what arrived, and `payload_hash` the digest
of that; of an item above {MAX_EVENT_BYTES} bytes the first {KEPT_BYTES} are kept.
`raw_payload_encoding` says whether `raw_payload` is text or bytes in base64, so both come back with
the type that they had.
""",
    "raw_input_buffer_record": """\
`ingest_ts_ms` is the clock's, but never below that of the record before and never within a cut that
is closed. An event is acknowledged after the commit that holds it. When the log is full, intake
stops; nothing is dropped. Digests of single records follow from the segment that holds them: `show`
and bundles give them.
""",
    "engine_run_record": """\
One record for each step of a run: `planned` before any attempt, then `started`, then `completed` or
`failed`; the last one is in force. A symbol has at most one run under way.
""",
    "orchestrator_event": """\
A run has one `EngineRunStarted`, without payload, and one of `EngineRunCompleted` and
`EngineRunFailed`; what hysteresis says stands between them. Delivery is at least once: the same
`event_id` means the same bytes, so drop what you have seen. Within a symbol, order is by
`engine_timestamp_ms` and `publish_seq`, which has no gaps.
""",
    "hysteresis_state_record": """\
The latest one of a symbol is what its next run starts from. A run whose engine timestamp is not
above it fails with `hysteresis_monotonicity_violation`.
""",
}
#: Lists of words: contract -> what they are.
_WORDS: Final[Mapping[str, tuple[str, Sequence[str]]]] = {
    "engine_run_record": ("Values of `error_kind`; more may come:", ERROR_KINDS),
    "orchestrator_event": ("Event types; more may come:", OUTPUT_TYPES),
}
_RUN_ID: Final = """\
## The id of a run

`run_id` is the SHA-256, in hex, of the following in this order, joined by `|`. `TEST|100|10|truth`
gives `977204d4613841a755fc6ec57cf63f792c20c4e2f0d3c1e796291a529fec83d3`.
"""
_RUN_ID_NOTES: Final = """\
`cut_start_ingest_seq` is not among them: it is the end of the cut before plus one, so it follows
from the run before and tells no run from another. Neither is `cut_kind`, which follows from the
configuration. `event_id` is the SHA-256 of `run_id` and `event_type`, joined by `|`.
"""
_RULES: Final = """\
## What may change

Version 1 only grows. Allowed: a new optional field, a new event type, a new value of a list. A
reader ignores fields and event types that it does not know. Not allowed without `schema_version` 2:
a field that goes, gets another name, another type, another class or another default, becomes
required or is no longer. A test compares the schemas with the copies that were frozen.

## Replay

Log, run records, configuration and the same engine give the same outputs:

- The cut of a run is a function of the log: its end is the highest `ingest_seq` stamped at or
  before `planned_ts_ms`, 0 where there is none; its start is the end of the symbol's cut before
  plus one, for the first run the symbol's first event. It is empty where the start is the end plus
  one.
- The snapshot is the `SnapshotInputs` event of the symbol in the cut whose
  `normalized.timestamp_ms` is the engine timestamp; of several the one with the highest
  `ingest_seq`.
- An engine is a function of its input, its configuration and the state before. A failed run is
  repeated from these, never from what an attempt left.
- Compared are the fields of class `auth`, for each symbol in the order of `publish_seq`.
- What retention has taken cannot be replayed: the answer is that inputs are retired, never that all
  is well.
"""
_BOUNDS: Final = """\
Delay k is `min_delay_ms` * 2^k, at most `max_delay_ms`, without jitter. Attempt 1 is made at once
and always; there is no delay after the last one. A delay that would bring the sum of delays above
`max_elapsed_ms` is not begun.
"""


def contracts_page() -> str:
    """Return the page."""
    made = schemas()
    parts = [_OPENING]
    for name, title in _TITLES.items():
        schema = made[name]
        parts += [f"## {title}\n", f"{schema['description']}\n", _fields(schema), _NOTES[name]]
        if name in _WORDS:
            told, words = _WORDS[name]
            parts += [f"{told}\n", _list(words)]
        parts += _by_type(schema)
    parts += [_RUN_ID, _list(RUN_ID_FIELDS), _RUN_ID_NOTES, _RULES, _bounds(made["configuration"])]
    return "\n".join(parts)


def _fields(schema: Mapping[str, Any]) -> str:
    rows = [
        (
            f"`{name}`",
            _type(part),
            "yes" if name in schema["required"] else "no",
            part["x-class"],
            part.get("description", ""),
        )
        for name, part in schema["properties"].items()
    ]
    return _table(("field", "type", "required", "class", "meaning"), rows)


def _by_type(schema: Mapping[str, Any]) -> Iterator[str]:
    rows = []
    for branch in schema.get("allOf", ()):
        ((_, keys),) = branch["then"]["properties"].items()
        named = [
            f"`{name}` ({_type(part)}{'' if name in keys['required'] else ', optional'})"
            for name, part in keys["properties"].items()
        ]
        rows.append((f"`{branch['if']['properties']['event_type']['const']}`", ", ".join(named)))
    if rows:
        ((field, _),) = schema["allOf"][0]["then"]["properties"].items()
        yield _table(("event type", f"`{field}`"), rows)


def _bounds(schema: Mapping[str, Any]) -> str:
    parts = schema["$defs"]
    retries = [
        (f"`{domain}.{name}`", _default(part.get("default")))
        for domain in RETRIES
        for name, part in parts["Bounds"]["properties"].items()
    ]
    capacity = [
        (domain, f"`{section}.{name}`", _default(part.get("default")), word)
        for domain, section, kind, name, word in (
            ("buffer", "buffer_retention", "Retention", "max_records", "intake stops"),
            ("buffer", "buffer_retention", "Retention", "max_age_ms", "sealed segments retire"),
            ("publish", "output_publish", "Publish", "max_pending", "ticks pause"),
            ("publish", "output_publish", "Publish", "max_block_ms", "the stream is not ready"),
            ("engine", "engine", "Engine", "timeout_ms", "the attempt is ended"),
        )
        for part in (parts[kind]["properties"][name],)
    ]
    return (
        "\n".join(
            (
                "## Bounds of retries\n",
                _BOUNDS,
                _table(("key", "default"), retries),
                "## Capacity\n",
                _table(("domain", "key", "default", "at the bound"), capacity),
            )
        ).rstrip("\n")
        + "\n"
    )


def _default(value: Any) -> str:
    return "none" if value is None else f"`{value}`"


def _type(part: Mapping[str, Any]) -> str:
    """Return a schema in a few words."""
    if "anyOf" in part:
        words = [_type(one) for one in part["anyOf"]]
        return " or ".join(words)
    if "enum" in part:
        return ", ".join(f"`{value}`" for value in part["enum"])
    if "$ref" in part:
        return str(part["$ref"].rpartition("/")[2])
    if part.get("type") == "array":
        inner = part.get("items") or part.get("prefixItems", [{}])[0]
        return f"list of {_type(inner)}" if inner else "list"
    return str(part.get("type", "any"))


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    escaped = [[cell.replace("|", "\\|") for cell in cells] for cells in lines]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in escaped)


def _list(words: Sequence[str]) -> str:
    return "".join(f"- `{word}`\n" for word in words)
