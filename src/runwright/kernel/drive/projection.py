"""Folds entries into the rows of tables: the same rows when they are written and when rebuilt.

A row that the record determines is never written by hand: the kernel's own tables and those of a
workload follow from the entries alone, so that whoever doubts a table folds the ledger again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from runwright.kernel.canonical import digest
from runwright.kernel.drive.recall import ROSTER, left_by, pinned, read
from runwright.kernel.drive.ticks import decode_spec, in_force_of
from runwright.kernel.ports import Reader, Row
from runwright.kernel.record.entries import (
    FOLDED,
    Entry,
    RoundJudged,
    RoundPlanned,
    RunFinished,
    ScheduleChanged,
    SpecApplied,
    StreamOpened,
    TickPassed,
    TickRefused,
)
from runwright.kernel.record.ledger import Appended
from runwright.kernel.run import Content, InForce, RunPlan, Scheduled, run_ids
from runwright.kernel.workload import Recorded, Workload

#: Types that a workload's fold sees beside those of its own rounds and specs.
_EVERYBODYS: Final = ("blob.erased", "decision.made")


class _Open(msgspec.Struct, kw_only=True):
    """A round that is planned and not judged, as the fold knows it."""

    planned: Entry
    #: The first entry of its tick, and what the tick is called so far.
    tick_seq: int
    label: str
    #: Whether a workload makes tables of it.
    is_folded: bool
    #: The runs as they are pinned; empty when that was done by another process.
    roster: bytes = b""
    #: run id -> plan; None before it is needed.
    runs: dict[str, RunPlan] | None = None
    spec: Any = None
    #: run.finished of its runs so far.
    finished: list[Recorded]


class _Folding(Mapping[str, Workload]):
    """The workloads that fold entries to tables; one that no entry is about is not asked."""

    def __init__(self, workloads: Mapping[str, Workload]) -> None:
        self._all = workloads

    def __contains__(self, kind: object) -> bool:
        found = self._all.get(kind) if isinstance(kind, str) else None
        return found is not None and found.fold is not None

    def __getitem__(self, kind: str) -> Workload:
        return self._all[kind]

    def __iter__(self) -> Iterator[str]:
        return (kind for kind in self._all if kind in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)


class Projection:
    """Knows the rounds that are open, and what each further entry makes of the tables."""

    def __init__(self, tables: Reader, workloads: Mapping[str, Workload], past: Reader) -> None:
        """Fold into these tables; blobs, and what was open before, stand in the `past`."""
        self._tables = tables
        self._past = past
        self._workloads = workloads
        self._folding = _Folding(workloads)
        self._open: dict[str, _Open] = {}
        self._by_run: dict[str, _Open] = {}
        self._contents: dict[str, Content] = {}
        self._kernel: Mapping[type, Callable[[Entry], Iterable[Row]]] = {
            SpecApplied: self._spec_applied,
            ScheduleChanged: self._schedule_changed,
            StreamOpened: self._stream_opened,
            TickPassed: self._tick_passed,
            TickRefused: self._tick_refused,
            RoundPlanned: self._round_planned,
            RunFinished: self._run_finished,
            RoundJudged: self._round_judged,
            **dict.fromkeys(FOLDED, _acted),
        }

    # --------------------------------------------------------------------- what a fold may ask

    def rows(self, table: str, where: Mapping[str, Any] | None = None, **how: Any) -> Any:
        """Return rows of a table as they stand before this entry."""
        return self._tables.rows(table, where, **how)

    def blob(self, wanted: str) -> Content | None:
        """Return kept bytes, also those that are about to be written."""
        return self._contents.get(wanted) or self._past.blob(wanted)

    # ------------------------------------------------------------------------------- the fold

    def fold(self, appended: Appended, contents: Sequence[Content] = ()) -> list[Row]:
        """Return the rows that entries leave, in the order in which they are to be written."""
        self._contents = {item.digest: item for item in contents}
        rows: list[Row] = []
        for entry, stored in zip(appended.decoded, appended.entries, strict=True):
            rows += self.rows_of(entry, stored.leaf)
        self._contents = {}
        return rows

    def rows_of(self, entry: Entry, leaf: bytes) -> list[Row]:
        """Return the rows that one entry leaves."""
        fold = self._kernel.get(type(entry.body))
        rows = [] if fold is None else list(fold(entry))
        if not (entry.run or entry.round) or self._is_any_folded():
            rows += self._workload_rows(entry, leaf)
        if isinstance(entry.body, RoundJudged):
            self._close(entry)
        return rows

    def _spec_applied(self, entry: Entry) -> Iterator[Row]:
        body: SpecApplied = entry.body
        kept = pinned(self, body.digest, entry.seq)
        before = self.rows("spec", {"kind": body.kind, "name": body.name})
        yield Row(
            "spec",
            {
                "kind": body.kind,
                "name": body.name,
                "digest": body.digest,
                "body": kept,
                "applied_ms": before[0]["applied_ms"] if before else entry.ts,
                **self._by_now(entry, before, kept),
                "opened_ms": before[0]["opened_ms"] if before else 0,
                "seq": entry.seq,
            },
        )

    def _by_now(
        self, entry: Entry, before: Sequence[Mapping[str, Any]], kept: bytes
    ) -> Mapping[str, Any]:
        """Return what a spec runs by and since when: it owes nothing from before.

        What operators made of a schedule stays in force until the spec has another one.
        """
        workload = self._workloads[entry.body.kind]
        new = decode_spec(workload, kept)
        if before and decode_spec(workload, before[0]["body"]).schedule == new.schedule:
            return {name: before[0][name] for name in ("in_force", "since_ms")}
        return {"in_force": _text(InForce(schedule=new.schedule)), "since_ms": entry.ts}

    def _schedule_changed(self, entry: Entry) -> Iterator[Row]:
        body: ScheduleChanged = entry.body
        values = {"kind": body.kind, "name": body.name, "since_ms": entry.ts}
        found = InForce(schedule=body.schedule, refused=body.refused)
        yield Row("spec", {**values, "in_force": _text(found)}, update=True)

    def _stream_opened(self, entry: Entry) -> Iterator[Row]:
        body: StreamOpened = entry.body
        values = {"kind": body.kind, "name": body.name, "opened_ms": body.opened_ms}
        yield Row("spec", values, update=True)

    def next_ms(self, recorded: Recorded) -> int | None:
        """Return the next occurrence of the spec's schedule, as both stand after an entry."""
        # lazy: 4 ms, and only what a schedule caused asks
        from runwright.kernel.drive.schedule import anchored, next_after, start_of  # lazy: as above

        entry, named = recorded.entry, (recorded.planned or recorded.entry).body
        rows = self.rows("spec", {"kind": named.kind, "name": named.name})
        row = dict(rows[0]) if rows else {}
        if isinstance(entry.body, SpecApplied | ScheduleChanged):
            (found,) = self._kernel[type(entry.body)](entry)
            row |= found.values
        schedule = in_force_of(row).schedule if row else None
        if schedule is None or not schedule.enabled:
            return None
        passed_ms = getattr(named, "last_ms", 0)
        if isinstance(getattr(named, "occurrence", None), Scheduled):
            passed_ms = named.occurrence.planned_ms
        where = {"kind": named.kind, "name": named.name, "scheduled": 1}
        last = self.rows("tick", where, order="-last_ms", limit=1)
        # In force from this very second on, it may have its first occurrence in it.
        is_new = row["since_ms"] == entry.ts
        after_ms = start_of(entry.ts) - 1 if is_new else entry.ts
        after_ms = max(after_ms, passed_ms, last[0]["last_ms"] if last else 0)
        return next_after(anchored(schedule, row["applied_ms"]), after_ms)

    def _tick_passed(self, entry: Entry) -> Iterator[Row]:
        body: TickPassed = entry.body
        yield _tick(
            entry,
            Scheduled(planned_ms=body.first_ms),
            id=digest(f"{body.kind}/{body.name}/{body.last_ms}".encode()),
            last_ms=body.last_ms,
            count=body.count,
            state=body.status.lower(),
            reason=body.reason,
        )

    def _tick_refused(self, entry: Entry) -> Iterator[Row]:
        body: TickRefused = entry.body
        reason = f"{body.code}: {body.message}"
        yield _tick(entry, body.occurrence, id=entry.tick, state="refused", reason=reason)

    def _round_planned(self, entry: Entry) -> Iterator[Row]:
        body: RoundPlanned = entry.body
        if body.index == 0:
            tick_seq, label = entry.seq, body.label
            state = {"id": body.tick, "at": body.at, "state": "open", "label": label}
            yield _tick(entry, body.occurrence, **state)
        else:
            (tick,) = self.rows("tick", {"id": body.tick, "state": "open"})
            tick_seq, label = tick["seq"], tick["label"] or body.label
            if label != tick["label"]:
                yield Row("tick", {"seq": tick_seq, "label": label}, update=True)
        kept = self._contents.get(body.roster)
        self._open[entry.round] = _Open(
            planned=entry,
            tick_seq=tick_seq,
            label=label,
            is_folded=body.kind in self._folding,
            roster=kept.data if kept else b"",
            finished=[],
        )
        yield Row(
            "round",
            {
                "seq": entry.seq,
                "id": entry.round,
                "tick": body.tick,
                "idx": body.index,
                "kind": body.kind,
                "name": body.name,
                "key": body.key,
                "label": body.label,
                "runs": body.runs,
                "at": body.at,
            },
        )

    def _run_finished(self, entry: Entry) -> Sequence[Row]:
        body: RunFinished = entry.body
        if body.left is None and not body.memory:
            return ()
        under_way = self._round_of_run(entry)
        planned: RoundPlanned = under_way.planned.body
        lane, memory = self._runs(under_way)[entry.run].lane, left_by(self, entry).decode()
        key = {"kind": planned.kind, "name": planned.name, "lane": lane}
        return (Row("lane", {**key, "memory": memory}),)

    def _round_judged(self, entry: Entry) -> Iterator[Row]:
        body: RoundJudged = entry.body
        under_way = self._round(entry.round)
        judged = {
            "judged_seq": entry.seq,
            "judged_ms": entry.ts,
            "verdict": body.status,
            "outcome": body.label,
        }
        yield Row("round", {"seq": under_way.planned.seq, **judged}, update=True)
        if body.last:
            closed = {"seq": under_way.tick_seq, "state": "closed"}
            yield Row("tick", closed, update=True)

    # --------------------------------------------------------------------- folds of workloads

    def _workload_rows(self, entry: Entry, leaf: bytes) -> Sequence[Row]:
        kind = getattr(entry.body, "kind", "")
        if entry.type in _EVERYBODYS:
            asked = [self._ask(workload, entry, leaf) for workload in self._folding.values()]
            return [row for rows in asked for row in rows]
        under_way = None
        if entry.run or entry.round:
            under_way = self._round_of_run(entry) if entry.run else self._round(entry.round)
            kind = under_way.planned.body.kind
        if kind not in self._folding:
            return ()
        return self._ask(self._folding[kind], entry, leaf, under_way)

    def _ask(
        self, workload: Workload, entry: Entry, leaf: bytes, under_way: _Open | None = None
    ) -> Sequence[Row]:
        spec, runs = None, {}
        if under_way is not None:
            runs = self._runs(under_way)
            if under_way.spec is None:
                under_way.spec = self._decoded(workload, under_way.planned.body.spec, entry.seq)
            spec = under_way.spec
        elif isinstance(entry.body, SpecApplied):
            spec = self._decoded(workload, entry.body.digest, entry.seq)
        recorded = Recorded(
            entry=entry,
            leaf=leaf.hex(),
            spec=spec,
            planned=under_way.planned if under_way else None,
            runs=tuple(runs.values()),
            run=runs.get(entry.run),
            finished=tuple(under_way.finished) if under_way else (),
        )
        if under_way is not None and isinstance(entry.body, RunFinished):
            under_way.finished.append(recorded)
        return workload.fold(recorded, self) if workload.fold else ()

    def _decoded(self, workload: Workload, spec: str, seq: int) -> Any:
        return decode_spec(workload, pinned(self, spec, seq))

    # ------------------------------------------------------------------------- what is open

    def _round(self, identity: str) -> _Open:
        if identity not in self._open:
            self._load()
        return self._open[identity]

    def _is_any_folded(self) -> bool:
        """Say whether tables are made of a round that is open; of most streams none are."""
        if not self._open:
            self._load()
        return any(under_way.is_folded for under_way in self._open.values())

    def _round_of_run(self, entry: Entry) -> _Open:
        if entry.run not in self._by_run:
            if not self._open:
                self._load()
            for under_way in self._open.values():
                self._runs(under_way)
        return self._by_run[entry.run]

    def _runs(self, under_way: _Open) -> dict[str, RunPlan]:
        if under_way.runs is None:
            planned = under_way.planned
            roster = under_way.roster or pinned(self, planned.body.roster, planned.seq)
            plans = ROSTER.decode(roster)
            ids = run_ids(round=planned.round, keys=[plan.key for plan in plans])
            under_way.runs = {ids[plan.key]: plan for plan in plans}
            self._by_run.update(dict.fromkeys(under_way.runs, under_way))
        return under_way.runs

    def _load(self) -> None:
        """Take over the rounds that another process left open."""
        for row in self.rows("round", {"judged_seq": None}, order="seq"):
            (tick,) = self.rows("tick", {"id": row["tick"], "state": "open"})
            entries = self._past.entries(row["seq"])
            planned = read(next(entries).raw)
            under_way = _Open(
                planned=planned,
                tick_seq=tick["seq"],
                label=tick["label"],
                is_folded=planned.body.kind in self._folding,
                finished=[],
            )
            self._open[planned.round] = under_way
            if under_way.is_folded:
                runs = self._runs(under_way)
                for stored in entries:
                    entry = read(stored.raw)
                    if entry.run in runs and isinstance(entry.body, RunFinished):
                        found = Recorded(entry=entry, leaf=stored.leaf.hex(), run=runs[entry.run])
                        under_way.finished.append(found)

    def _close(self, entry: Entry) -> None:
        closed = self._open.pop(entry.round)
        for run in closed.runs or ():
            del self._by_run[run]


def _acted(entry: Entry) -> Iterator[Row]:
    from runwright.kernel.drive.fold import rows_of  # lazy: few entries are acts of people

    yield from rows_of(entry)


def _text(found: InForce) -> str:
    return msgspec.json.encode(found).decode()


def _tick(entry: Entry, occurrence: Any, **more: Any) -> Row:
    """Return the row of a tick by the entry that it begins with."""
    values = {
        "seq": entry.seq,
        "kind": entry.body.kind,
        "name": entry.body.name,
        "occurrence": msgspec.json.encode(occurrence).decode(),
        "scheduled": int(isinstance(occurrence, Scheduled)),
        "planned_ms": occurrence.planned_ms,
        "last_ms": occurrence.planned_ms,
        "at": entry.ts,
    }
    return Row("tick", {**values, **more})
