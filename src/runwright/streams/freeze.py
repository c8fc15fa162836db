"""The note that says what version 1 is, and that what it is not was looked for and not found.

Every check is run when the note is made: its answer is a list of violations, never an assertion.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from runwright.kernel.errors import InvalidSpec
from runwright.streams.contracts import OUTPUT_TYPES, VERSION, RawMarketEvent, encode_event
from runwright.streams.decode import Decoder
from runwright.streams.neutral import computations, consumers
from runwright.streams.normalized import EVENT_TYPES
from runwright.streams.schema import schema_files
from runwright.streams.soundness import check_spec
from runwright.streams.spec import MINIMAL, Source, StdinSource, StreamSpec

#: (items, symbols) -> what a log holds after they were appended: the records' bytes, in order.
Keep = Callable[[Sequence[bytes], Sequence[str]], Iterable[bytes]]
_SOURCE: Final = Source(source_id="freeze", symbols=("TEST",), stdin=StdinSource(format="jsonl"))


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was looked for."""

    #: What holds when nothing was found.
    promise: str
    #: How it was looked for.
    how: str
    violations: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether nothing was found."""
        return not self.violations


class FreezeNote(msgspec.Struct, frozen=True, kw_only=True):
    """What version 1 of the contracts is."""

    version: str
    #: File of a schema -> SHA-256 of its bytes, hex.
    schemas: Mapping[str, str]
    event_types: tuple[str, ...]
    output_types: tuple[str, ...]
    #: What a file must say so that one symbol runs from end to end.
    minimal_keys: tuple[str, ...]
    checks: tuple[Check, ...]

    @property
    def holds(self) -> bool:
        """Whether every check found nothing."""
        return all(check.holds for check in self.checks)


def freeze_note(sources: Mapping[str, str], shipped: Mapping[str, bytes], keep: Keep) -> FreezeNote:
    """Return the note.

    `sources` is the text of every module of the package by its dotted name, `shipped` the schema
    files by name, `keep` a log to try.
    """
    return FreezeNote(
        version=VERSION,
        schemas={name: hashlib.sha256(shipped[name]).hexdigest() for name in sorted(shipped)},
        event_types=tuple(EVENT_TYPES),
        output_types=OUTPUT_TYPES,
        minimal_keys=tuple(MINIMAL),
        checks=(
            Check(
                promise="the schema files are those of the types",
                how="made anew and compared",
                violations=tuple(_stale(shipped)),
            ),
            Check(
                promise="the minimal keys are enough, and each is needed or has that default",
                how="a spec of these keys alone is read and checked",
                violations=tuple(_minimal()),
            ),
            Check(
                promise="nothing outside the engines computes on market values",
                how=f"the syntax trees of {len(sources)} modules",
                violations=tuple(computations(sources)),
            ),
            Check(
                promise="nothing outside the engines knows who consumes a stream",
                how=f"the imports of {len(sources)} modules",
                violations=tuple(consumers(sources)),
            ),
            Check(
                promise="duplicates are kept, none is dropped",
                how="one event is decoded and kept twice, in one chunk and in two",
                violations=tuple(_duplicates(keep)),
            ),
            Check(
                promise="unknown event types and fields are kept unchanged",
                how="an event of a type and with a field that nobody knows is decoded and kept",
                violations=tuple(_unknown(keep)),
            ),
        ),
    )


def note_text(note: FreezeNote) -> str:
    """Return the note for people."""
    lines = [f"Stream contracts, version {note.version}", "", "Schemas (SHA-256)"]
    lines += [f"  {digest}  {name}" for name, digest in note.schemas.items()]
    lines += ["", "Event types in", *(f"  {name}" for name in note.event_types)]
    lines += ["", "Event types out", *(f"  {name}" for name in note.output_types)]
    lines += ["", "Keys that run one symbol", *(f"  {name}" for name in note.minimal_keys)]
    lines += ["", "What was looked for"]
    for check in note.checks:
        lines.append(f"  {'holds ' if check.holds else 'BROKEN'}  {check.promise} ({check.how})")
        lines += [f"            {violation}" for violation in check.violations]
    return "\n".join(lines) + "\n"


# ------------------------------------------------------------------------------------- checks


def _stale(shipped: Mapping[str, bytes]) -> list[str]:
    made = schema_files()
    return [
        f"{name}: {'differs' if name in made and name in shipped else 'is missing or unknown'}"
        for name in sorted({*made, *shipped})
        if made.get(name) != shipped.get(name)
    ]


def _minimal() -> list[str]:
    try:
        whole = _spec(minimal_spec())
    except (msgspec.ValidationError, InvalidSpec) as error:
        return [f"refused: {error}"]
    found = []
    for key in MINIMAL:
        try:
            without = _spec(minimal_spec(key))
        except (msgspec.ValidationError, InvalidSpec):
            continue
        if without != whole:
            found.append(f"{key}: without it another spec is accepted")
    return found


def _spec(plain: Mapping[str, Any]) -> StreamSpec:
    spec = msgspec.convert(plain, StreamSpec)
    check_spec(spec)
    return spec


def minimal_spec(without: str = "") -> dict[str, Any]:
    """Return a spec file of the minimal keys alone, or of all but one of them, as plain data."""
    plain: dict[str, Any] = {"kind": "streams", "name": "minimal", "sources": [{}]}
    for key, value in MINIMAL.items():
        if key == without:
            continue
        section, _, name = key.partition(".")
        target = plain["sources"][0] if section == "sources[0]" else plain.setdefault(section, {})
        target[name] = value
    return plain


def _event(**fields: Any) -> bytes:
    return encode_event(
        RawMarketEvent(
            event_type=fields.pop("event_type", "TradeTick"),
            source_id="freeze",
            symbol="TEST",
            exchange_ts_ms=None,
            recv_ts_ms=1,
            raw_payload=b"\x00\xff",  # type: ignore[arg-type]
            normalized=fields.pop("normalized", {"price": 1.0, "quantity": 2.0}),
            extra=fields or None,
        )
    )


def _kept(keep: Keep, *chunks: Sequence[bytes]) -> list[bytes]:
    """Return what a log holds of chunks after they went the way of every chunk."""
    decoder = Decoder.of(_SOURCE)
    items: list[bytes] = []
    keys: list[str] = []
    for chunk in chunks:
        decoded = decoder.decode(chunk, 1)
        items += decoded.items
        keys += decoded.keys
    return list(keep(items, keys))


def _duplicates(keep: Keep) -> list[str]:
    event = _event()
    kept = _kept(keep, [event, event], [event])
    return [] if kept == [event] * 3 else [f"of 3 equal events {len(kept)} were kept"]


def _unknown(keep: Keep) -> list[str]:
    events = [
        _event(event_type="Auction", normalized={"uncrossed": True}, venue={"mic": "XOSL"}),
        _event(new_field=[1, 1.0, "text", None]),
        # Neither the order of keys nor a space of it is ours.
        _event().replace(b'"schema":', b' "schema" : ').replace(b"1.0", b"1.00"),
    ]
    kept = _kept(keep, events)
    if len(kept) != len(events):
        return [f"of {len(events)} events {len(kept)} were kept"]
    return [
        f"{event.decode()} was kept as {found.decode(errors='replace')}"
        for event, found in zip(events, kept, strict=True)
        if event != found
    ]
