"""Makes ledgers of any content, honest or forged: chained, hashed and signed as the product does.

A forger here holds the right key, so the chain, the tree and the signatures of a forged ledger
hold, and only what it says is wrong.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from runwright.kernel.canonical import commitment, digest, encode
from runwright.kernel.record import entries, ledger, seal
from runwright.kernel.record.entries import Draft
from runwright.kernel.record.ledger import Head, SealRow, StoredEntry
from runwright.kernel.record.verify import Evidence, Report, verify
from runwright.kernel.run import (
    Blob,
    Call,
    Content,
    Resources,
    RunPlan,
    Scheduled,
    round_id,
    run_id,
    tick_id,
)

ORIGIN = "example.org/ledger"
TS_MS = 1_763_632_800_000


def private(number: int) -> Ed25519PrivateKey:
    """Return a key that is the same in every run."""
    return Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32)


def public(number: int, name: str = ORIGIN) -> seal.VerifyKey:
    raw = private(number).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return seal.make_key(name, raw)


def note_of(size: int, root: bytes, *, keys: Sequence[int] = (1,), origin: str = ORIGIN) -> str:
    text = seal.Checkpoint(origin, size, root).text()
    return seal.sign_note(text, [(origin, private(number)) for number in keys])


class Book:
    """A ledger under construction: drafts, blobs, and where it was sealed by which keys."""

    def __init__(self) -> None:
        self.drafts: list[Draft] = []
        self.contents: dict[str, Content] = {}
        self.seals: list[tuple[int, tuple[int, ...]]] = []

    def copy(self) -> Book:
        other = Book()
        other.drafts = [*self.drafts]
        other.contents = {**self.contents}
        other.seals = [*self.seals]
        return other

    def write(self, body: Any, **fields: Any) -> int:
        self.drafts.append(Draft(body=body, **fields))
        return len(self.drafts) - 1

    def change(self, seq: int, *, body: Mapping[str, Any] | None = None, **fields: Any) -> None:
        """Replace fields of a draft and of its body."""
        draft = self.drafts[seq]
        changed = msgspec.structs.replace(draft.body, **(body or {}))
        self.drafts[seq] = msgspec.structs.replace(draft, body=changed, **fields)

    def seal(self, *keys: int) -> None:
        self.seals.append((len(self.drafts), keys or (1,)))

    def keep(self, name: str, data: bytes, salt: bytes = b"") -> Blob:
        named = commitment(salt, data) if salt else digest(data)
        self.contents[named] = Content(digest=named, data=data, salt=salt)
        return Blob(name=name, digest=named, size=len(data), salted=bool(salt))

    # -- a round, as the conductor records it

    def round(
        self,
        *keys: str,
        planned_ms: int = TS_MS,
        key: str = "cycle",
        index: int = 0,
        pure: bool = False,
        last: bool = True,
        judged: bool = True,
    ) -> int:
        """Record a whole round; return the seq of its plan."""
        occurrence = Scheduled(planned_ms=planned_ms)
        tick = tick_id(origin=ORIGIN, workload="cycles", spec="demo", tick=occurrence)
        identity = round_id(tick=tick, round_key=key)
        plans = [RunPlan(key=name, work=Call(name="demo:work")) for name in keys]
        blobs = (
            self.keep("spec", b'{"kind":"cycles"}'),
            self.keep("roster", encode(plans)),
            self.keep("seen", encode({"at": planned_ms})),
        )
        seq = self.write(
            entries.RoundPlanned(
                kind="cycles",
                name="demo",
                tick=tick,
                occurrence=occurrence,
                at=planned_ms,
                key=key,
                index=index,
                runs=len(keys),
                pure=pure,
                place="command",
                workers=1,
                spec=blobs[0].digest,
                roster=blobs[1].digest,
                seen=blobs[2].digest,
                code="",
                product="test",
            ),
            round=identity,
            blobs=blobs,
        )
        for name in keys:
            run = run_id(round=identity, key=name)
            if not pure:
                self.write(entries.RunStarted(key=name), run=run)
            output = self.keep("stdout", f"output of {name} {seq}\n".encode(), b"salt" * 8)
            self.write(
                entries.RunFinished(
                    key=name, status="done", reason="exit", used=Resources(exit=0, duration_ms=3)
                ),
                run=run,
                n=int(not pure),
                blobs=(output,),
            )
        if judged:
            outcomes = {"done": len(keys)} if keys else {}
            self.write(
                entries.RoundJudged(status="PASS", outcomes=outcomes, last=last),
                round=identity,
                n=1,
            )
        return seq

    # -- what it comes to

    def stored(self) -> list[StoredEntry]:
        return self.chained([None] * len(self.drafts))

    def chained(self, raws: Sequence[bytes | None]) -> list[StoredEntry]:
        """Chain the drafts, with the bytes given in the place of some of them."""
        found: list[StoredEntry] = []
        head = Head()
        for draft, raw in zip(self.drafts, raws, strict=True):
            if raw is None:
                entry = ledger.append(head, ORIGIN, TS_MS, [draft]).entries[0]
            else:
                entry = StoredEntry(head.size, raw, ledger.leaf_hash(raw))
            found.append(entry)
            head = ledger.extend(head, [entry.leaf])
        return found

    def rows(self, stored: Sequence[StoredEntry]) -> list[SealRow]:
        rows = []
        for size, keys in self.seals or [(len(stored), (1,))]:
            root = ledger.root_of([entry.leaf for entry in stored[:size]])
            rows.append(SealRow(size, root, note_of(size, root, keys=keys)))
        return rows

    def evidence(self, **fields: Any) -> Evidence:
        stored = fields.pop("entries", None)
        stored = self.stored() if stored is None else stored
        values = {
            "entries": stored,
            "seals": fields["seals"] if "seals" in fields else self.rows(stored),
            "blob": self.contents.get,
            "keys": [public(1)],
        }
        return Evidence(**{**values, **fields})

    def verify(self, *, lint: bool = True, **fields: Any) -> Report:
        return verify(self.evidence(**fields), lint=lint)


def opened() -> Book:
    """Return a ledger that is only opened."""
    book = Book()
    book.write(
        entries.LedgerOpened(
            ledger="0f" * 16, seal_key=public(1).text(), bundle_key="ab" * 32, product="test"
        )
    )
    return book


def rewritten(entry: StoredEntry, change: Callable[[dict[str, Any]], None]) -> bytes:
    """Return an entry's bytes after a change of its fields, in canonical form."""
    fields = msgspec.json.decode(entry.raw)
    change(fields)
    return msgspec.json.encode(fields, order="sorted")


def broken(report: Report) -> set[str]:
    """Return the words of the sentences that do not hold."""
    return {check.word for check in report.checks if not check.held}


def flipped(text: str) -> str:
    """Return base64 text with one bit of its bytes flipped."""
    data = bytearray(base64.b64decode(text))
    data[-1] ^= 1
    return base64.b64encode(bytes(data)).decode()
