"""What arrived becomes events: envelopes as they are, rows by their mapping, the rest as failures.

Nothing is dropped, reordered or deduplicated. An item that is no event becomes a DecodeFailure
event around it; its stamp is 0, which the log raises to that of the event before, as a failure must
not move the time of a history.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from runwright.kernel.errors import InvalidSpec, NotCanonical
from runwright.streams.contracts import VERSION, RawMarketEvent, encode_event, payload_text
from runwright.streams.envelope import Read, read_chunk, read_item
from runwright.streams.failure import MAX_EVENT_BYTES, Unreadable, failure_event
from runwright.streams.frozen import freeze
from runwright.streams.normalized import DECODE_FAILURE
from runwright.streams.rows import Rows
from runwright.streams.spec import Source


class Decoded(NamedTuple):
    """Events of one chunk, in the order in which they arrived."""

    #: Their bytes: those that arrived where those were an envelope.
    items: list[bytes]
    #: Their symbols; "" for a failure of a source with several.
    keys: list[str]
    #: Their recv_ts_ms; 0 for what was no event.
    stamps: list[int]
    #: Their event types.
    kinds: list[str]


class Decoder:
    """Decodes the items of one source."""

    def __init__(self, source: Source, header: Sequence[str] = ()) -> None:
        self._source = source
        self._symbol = source.symbols[0] if len(source.symbols) == 1 else ""
        self._rows = Rows(source, source.mapping, header) if source.mapping else None
        self._has_begun = source.format != "csv" or bool(self.header)

    @classmethod
    def of(cls, source: Source, header: Sequence[str] = ()) -> Decoder:
        """Return the decoder of a source; `header` names the columns of CSV, where they are known.

        Without it, and where the mapping names them as little, the first item is the header.

        Raises: invalid-spec for a header that names a column twice.
        """
        try:
            return cls(source, header)
        except Unreadable as why:
            message = f"{source.source_id}: the first line is no header: {why.detail}"
            raise InvalidSpec(message) from why

    @property
    def header(self) -> tuple[str, ...]:
        """The names of the columns, as far as they are known."""
        return self._rows.header if self._rows else ()

    def decode(self, items: Sequence[bytes], received_ms: int) -> Decoded:
        """Return the events of a chunk: as many as items, but for the header of CSV."""
        if not items:
            return Decoded([], [], [], [])
        if self._rows is None:
            found = read_chunk(items)
            if found is not None:
                return Decoded(list(items), *found)
        decoded = Decoded([], [], [], [])
        for item in items:
            if self._rows and not self._has_begun:
                self._begin(self._rows, item, received_ms, decoded)
            else:
                self._decode_one(item, received_ms, decoded)
        return decoded

    def _begin(self, rows: Rows, item: bytes, received_ms: int, decoded: Decoded) -> None:
        """Take the first line of CSV; when it names no columns, no row can be read, and is kept."""
        self._has_begun = True
        try:
            rows.read_header(item)
        except Unreadable as why:
            self._fail(item, why, received_ms, decoded)

    def _decode_one(self, item: bytes, received_ms: int, decoded: Decoded) -> None:
        try:
            data, read = self._read(item, received_ms)
        except Unreadable as why:
            self._fail(item, why, received_ms, decoded)
            return
        decoded.items.append(data)
        decoded.keys.append(read.symbol)
        decoded.stamps.append(read.recv_ts_ms)
        decoded.kinds.append(read.event_type)

    def _read(self, item: bytes, received_ms: int) -> tuple[bytes, Read]:
        if self._rows is None or len(item) > MAX_EVENT_BYTES:
            return item, read_item(item)
        envelope = self._rows.envelope(self._rows.row_of(item), item, received_ms)
        return envelope, read_item(envelope)

    def _fail(self, item: bytes, why: Unreadable, received_ms: int, decoded: Decoded) -> None:
        data = failure_event(
            item,
            why,
            source_id=self._source.source_id,
            symbol=self._symbol,
            received_ms=received_ms,
        )
        decoded.items.append(data)
        decoded.keys.append(self._symbol)
        decoded.stamps.append(0)
        decoded.kinds.append(DECODE_FAILURE)

    def item_of(self, thing: Any, received_ms: int) -> bytes:
        """Return what a Python iterator gave as an item: bytes, a RawMarketEvent or a mapping.

        What has no form in JSON becomes a failure, which `decode` then keeps as it is.
        """
        if isinstance(thing, bytes):
            return thing
        try:
            return _envelope_of(thing)
        except (NotCanonical, UnicodeEncodeError, OverflowError) as error:
            return failure_event(
                _shown(thing),
                Unreadable("schema_mismatch", str(error)),
                source_id=self._source.source_id,
                symbol=self._symbol,
                received_ms=received_ms,
            )


def _envelope_of(thing: Any) -> bytes:
    """Return an event as the bytes of its envelope. Raises: not-canonical."""
    if isinstance(thing, RawMarketEvent):
        return encode_event(thing)
    if isinstance(thing, str):
        return thing.encode("utf-8", "surrogatepass")
    if not isinstance(thing, Mapping):
        raise NotCanonical(f"{type(thing).__name__} is no event")
    fields = {"schema": "raw_market_event", "schema_version": VERSION, **thing}
    payload = fields.get("raw_payload")
    if isinstance(payload, bytes):
        fields["raw_payload"], fields["raw_payload_encoding"] = payload_text(payload)
    return msgspec.json.encode(freeze(fields, "event"), order="sorted")


def _shown(thing: Any) -> bytes:
    """Return what no JSON holds as nearly as text can tell it: never an address."""
    try:
        return json.dumps(thing, default=lambda inner: type(inner).__name__, skipkeys=True).encode()
    except (ValueError, RecursionError):
        return type(thing).__name__.encode()
