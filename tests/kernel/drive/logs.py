"""Logs of the tests: a store with a writer, a clock that is told, and rounds that read a log."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from runwright.adapters.signer import FileSigner, SignerMemory, create_keys
from runwright.kernel.canonical import digest, encode
from runwright.kernel.drive.blocks import every
from runwright.kernel.drive.log import Log, LogLimits
from runwright.kernel.drive.writer import Writer
from runwright.kernel.ports import LogEnd, Store
from runwright.kernel.record.entries import (
    Draft,
    LedgerOpened,
    RoundJudged,
    RoundPlanned,
    RunFinished,
)
from runwright.kernel.record.seal import VerifyKey, parse_key
from runwright.kernel.record.verify import Evidence, Report, verify
from runwright.kernel.run import (
    Blob,
    Call,
    Content,
    Cut,
    RunPlan,
    Scheduled,
    round_id,
    run_id,
    tick_id,
)
from tests.kernel.drive.rig import ToyClock

ORIGIN = "example.org/log"
LEDGER = "0e" * 8
NAME = "prices"
SYMBOLS = ("BTC", "ETH", "XRP")


class Stage:
    """A store with a writer, and the logs that stand in it."""

    def __init__(self, store: Store, folder: Path) -> None:
        self.store, self.folder, self.clock = store, folder, ToyClock()
        made = None if (folder / "keys").exists() else create_keys(folder / "keys", ORIGIN)
        signer = FileSigner(folder / "keys", SignerMemory(folder / "memory", LEDGER), ORIGIN)
        self.writer = Writer(store, clock=self.clock, signer=signer)
        if made is not None:
            body = LedgerOpened(
                ledger=LEDGER, seal_key=made.seal.text(), bundle_key=made.bundle, product="test"
            )
            self.writer.commit([Draft(body=body)])

    def log(self, name: str = NAME, **limits: Any) -> Log:
        """Open a log to write it."""
        kept = LogLimits(**limits)
        return Log(self.store, name, limits=kept, clock=self.clock, commit=self.writer.commit)

    def reader(self, name: str = NAME, **limits: Any) -> Log:
        """Open a log to read it."""
        return Log(self.store, name, limits=LogLimits(**limits), clock=self.clock)

    def key(self) -> VerifyKey:
        return parse_key((self.folder / "keys/ledger.vkey").read_text().strip())

    def round(self, end: LogEnd, *cuts: Cut, planned_ms: int = 0, name: str = NAME) -> int:
        """Record a round whose runs read a log; return the seq of its plan."""
        occurrence = Scheduled(planned_ms=planned_ms)
        tick = tick_id(origin=ORIGIN, workload="streams", spec=name, tick=occurrence)
        identity = round_id(tick=tick, round_key="tick")
        plans = [
            RunPlan(key=f"{cut.key}-{place}", work=Call(name="demo:work"), cut=cut)
            for place, cut in enumerate(cuts)
        ]
        facts = encode({"log": {"end": end.seq, "block": end.block, "digest": end.digest}})
        kept = {
            "spec": b'{"kind":"streams"}',
            "roster": encode(plans),
            "facts": facts,
            "seen": encode({"at": planned_ms, "facts": digest(facts), "memory": {}}),
        }
        blobs = {
            name: Blob(name=name, digest=digest(data), size=len(data))
            for name, data in kept.items()
        }
        planned = RoundPlanned(
            kind="streams",
            name=name,
            tick=tick,
            occurrence=occurrence,
            at=planned_ms,
            key="tick",
            index=0,
            runs=len(plans),
            pure=True,
            place="inline",
            workers=1,
            spec=blobs["spec"].digest,
            roster=blobs["roster"].digest,
            seen=blobs["seen"].digest,
            code="",
            product="test",
        )
        contents = [Content(digest=digest(data), data=data) for data in kept.values()]
        draft = Draft(body=planned, round=identity, blobs=tuple(blobs.values()))
        seq = self.writer.commit([draft], contents=contents)
        runs = [
            Draft(
                body=RunFinished(key=plan.key, status="done"),
                run=run_id(round=identity, key=plan.key),
            )
            for plan in plans
        ]
        judged = RoundJudged(status="PASS", outcomes={"done": len(runs)} if runs else {})
        self.writer.commit([*runs, Draft(body=judged, round=identity, n=1)])
        return seq

    def evidence(self, **fields: Any) -> Evidence:
        """Return the whole record, sealed."""
        self.writer.seal()
        values = {
            "entries": list(self.store.entries()),
            "seals": self.store.seals(),
            "blob": self.store.blob,
            "keys": [self.key()],
            "tiles": self.store.tiles,
            "blocks": list(every(self.store)),
        }
        return Evidence(**{**values, **fields})

    def verify(self, **fields: Any) -> Report:
        return verify(self.evidence(**fields))


def events(count: int, start: int = 1) -> tuple[list[bytes], list[str]]:
    """Return records that say which they are, of the symbols in turn."""
    numbers = range(start, start + count)
    items = [b'{"n":%d}' % number for number in numbers]
    return items, [SYMBOLS[number % len(SYMBOLS)] for number in numbers]


def cut(key: str, first: int, last: int, log: str = NAME) -> Cut:
    return Cut(log=log, key=key, first=first, last=last)


def told(report: Report) -> dict[str, str]:
    """Return what broke which sentence."""
    return {check.word: check.detail for check in report.checks if not check.held}
