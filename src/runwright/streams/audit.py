"""What was published against what a transport holds: missing, altered, out of order, foreign.

The outbox is the authority and a transport may lose what it acknowledged. What counts is what a
reader in order gets: one that takes an event only after the one before it, and drops copies. So
where something is missing, it and all that follows of its symbol is published again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Final, Literal, TypeAlias

import msgspec

#: Findings that a report names; the others are counted.
FINDINGS_MAX: Final = 1000
#: Bytes of the digest by which two events are compared.
DIGEST: Final = 16
PRESENT: Final = 1

FindingKind: TypeAlias = Literal["missing", "altered", "out_of_order", "foreign", "unsound"]


class AuditFinding(msgspec.Struct, frozen=True, kw_only=True):
    """One event that is not as it was published."""

    kind: FindingKind
    symbol: str
    publish_seq: int
    detail: str = ""


class SymbolAudit(msgspec.Struct, frozen=True, kw_only=True):
    """What was found of one symbol."""

    symbol: str
    #: The first and the last publish_seq of the outbox.
    first: int
    last: int
    #: Events that the transport never had, or has with other bytes.
    missing: int
    altered: int
    #: Copies beyond the first, byte for byte the same: allowed.
    duplicated: int
    #: Events that came only after a later one; 0 where all of them came in order again.
    out_of_order: int
    #: The first publish_seq that a reader in order did not get; last + 1: it got all.
    next: int

    @property
    def is_clean(self) -> bool:
        """Whether a reader in order got everything, and nothing was altered."""
        return self.next > self.last and not self.altered


class AuditReport(msgspec.Struct, frozen=True, kw_only=True):
    """What came of an audit."""

    published: int
    seen: int
    symbols: tuple[SymbolAudit, ...]
    #: Events of the transport that the outbox does not hold, or that are no events.
    foreign: int
    #: What is wrong with the outbox itself: a gap, two events of one number.
    unsound: int
    #: Events of the transport from before the first one of the outbox.
    older: int
    findings: tuple[AuditFinding, ...]
    #: Findings that are counted and not named.
    omitted: int

    @property
    def is_clean(self) -> bool:
        """Whether the transport holds what was published, in order, and nothing else."""
        return not (self.foreign or self.unsound) and all(each.is_clean for each in self.symbols)

    def total(self, kind: Literal["missing", "altered", "duplicated", "out_of_order"]) -> int:
        """Return a count over all symbols."""
        return sum(getattr(each, kind) for each in self.symbols)


class _Head(msgspec.Struct, frozen=True, gc=False):
    """What of an event is read."""

    event_id: str
    symbol: str
    publish_seq: int


_DECODER: Final = msgspec.json.Decoder(_Head)


class _Symbol:
    """The events of one symbol: 17 bytes each."""

    def __init__(self, first: int) -> None:
        self.first = first
        self.digests = bytearray()
        self.flags = bytearray()
        self.altered = 0
        self.duplicated = 0
        self.late: list[int] = []
        self.late_count = 0
        self.highest = 0
        self.next = first

    @property
    def last(self) -> int:
        return self.first + len(self.flags) - 1

    def add(self, digest: bytes) -> None:
        self.digests += digest
        self.flags.append(0)

    def is_same(self, publish_seq: int, digest: bytes) -> bool:
        at = (publish_seq - self.first) * DIGEST
        return self.digests[at : at + DIGEST] == digest

    def see(self, publish_seq: int) -> None:
        """Take in an event whose bytes are right."""
        at = publish_seq - self.first
        if self.flags[at] & PRESENT:
            self.duplicated += 1
        elif publish_seq < self.highest:
            self.late_count += 1
            if len(self.late) < FINDINGS_MAX:
                self.late.append(publish_seq)
        self.flags[at] |= PRESENT
        self.highest = max(self.highest, publish_seq)
        if publish_seq == self.next:
            self.next += 1


class _Audit:
    """One comparison under way."""

    def __init__(self) -> None:
        self.symbols: dict[str, _Symbol] = {}
        self.published = self.seen = self.foreign = self.unsound = self.older = 0
        self.findings: list[AuditFinding] = []
        self.omitted = 0

    def find(self, kind: FindingKind, symbol: str, publish_seq: int, detail: str = "") -> None:
        if len(self.findings) >= FINDINGS_MAX:
            self.omitted += 1
            return
        self.findings.append(
            AuditFinding(kind=kind, symbol=symbol, publish_seq=publish_seq, detail=detail)
        )

    def publish(self, data: bytes) -> None:
        """Take in an event of the outbox."""
        self.published += 1
        head = _head(data)
        if head is None:
            self.unsound += 1
            self.find("unsound", "", 0, f"no event: {_start(data)}")
            return
        symbol = self.symbols.get(head.symbol)
        if symbol is None:
            symbol = self.symbols[head.symbol] = _Symbol(head.publish_seq)
        if head.publish_seq == symbol.last + 1:
            symbol.add(_digest(data))
        elif symbol.first <= head.publish_seq <= symbol.last:
            if not symbol.is_same(head.publish_seq, _digest(data)):
                self.unsound += 1
                self.find("unsound", head.symbol, head.publish_seq, "two events of one number")
        else:
            self.unsound += 1
            detail = f"{symbol.last} comes before it in the outbox"
            self.find("unsound", head.symbol, head.publish_seq, detail)

    def see(self, data: bytes) -> None:
        """Take in an event of the transport."""
        self.seen += 1
        head = _head(data)
        symbol = self.symbols.get(head.symbol) if head else None
        if head is None:
            self.foreign += 1
            self.find("foreign", "", 0, f"no event: {_start(data)}")
        elif symbol is None or head.publish_seq > symbol.last:
            self.foreign += 1
            self.find("foreign", head.symbol, head.publish_seq, head.event_id)
        elif head.publish_seq < symbol.first:
            self.older += 1
        elif symbol.is_same(head.publish_seq, _digest(data)):
            symbol.see(head.publish_seq)
        else:
            symbol.altered += 1
            self.find("altered", head.symbol, head.publish_seq, head.event_id)

    def report(self) -> AuditReport:
        """Return what was found."""
        return AuditReport(
            published=self.published,
            seen=self.seen,
            symbols=tuple(self._of(name) for name in sorted(self.symbols)),
            foreign=self.foreign,
            unsound=self.unsound,
            older=self.older,
            findings=tuple(self.findings),
            omitted=self.omitted,
        )

    def _of(self, name: str) -> SymbolAudit:
        symbol = self.symbols[name]
        missing = symbol.flags.count(0)
        at = symbol.flags.find(0)
        while at >= 0:
            self.find("missing", name, symbol.first + at)
            at = symbol.flags.find(0, at + 1)
        is_healed = symbol.next > symbol.last
        if not is_healed:
            for publish_seq in symbol.late:
                self.find("out_of_order", name, publish_seq, "it came after a later one")
        return SymbolAudit(
            symbol=name,
            first=symbol.first,
            last=symbol.last,
            missing=missing,
            altered=symbol.altered,
            duplicated=symbol.duplicated,
            out_of_order=0 if is_healed else symbol.late_count,
            next=symbol.next,
        )


def audit(published: Iterable[bytes], seen: Iterable[bytes]) -> AuditReport:
    """Compare the events of the outbox with those of a transport, each in its own order.

    Symbols are independent of each other. Memory: 17 bytes for each event that was published.
    """
    under_way = _Audit()
    for data in published:
        under_way.publish(data)
    for data in seen:
        under_way.see(data)
    return under_way.report()


def to_redrive(report: AuditReport, published: Iterable[bytes]) -> Iterator[bytes]:
    """Yield, of the outbox, what has to be published again so that a reader in order gets all.

    That is, of each symbol, the first event that it did not get and all that follow.
    """
    wanted = {each.symbol: each.next for each in report.symbols if each.next <= each.last}
    for data in published:
        head = _head(data)
        if head is not None and head.publish_seq >= wanted.get(head.symbol, head.publish_seq + 1):
            yield data


def _head(data: bytes) -> _Head | None:
    try:
        return _DECODER.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()[:DIGEST]


def _start(data: bytes) -> str:
    return repr(data[:60])
