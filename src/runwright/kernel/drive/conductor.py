"""The conductor owns the road: it records before it acts, keeps order, commits, seals, delivers.

    tick -> observe -> plan -> [round.planned] -> execute -> judge -> report
         -> [outcomes + verdict + outbox, one commit] -> plan again, until it answers None

It is the only writer, and its thread runs nothing else.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final, NamedTuple, cast

import msgspec

from runwright.kernel.canonical import digest, encode
from runwright.kernel.criteria import Verdict
from runwright.kernel.drive.execution import (
    MESSAGE_MAX,
    Ask,
    Execution,
    Means,
    Pending,
    UnderWay,
    by_status,
    printable,
    without_log,
)
from runwright.kernel.drive.known import Known
from runwright.kernel.drive.lifecycle import Stop, unwatched
from runwright.kernel.drive.outbox import Outbox, SinkLimits
from runwright.kernel.drive.projection import Projection
from runwright.kernel.drive.recall import Recalled, pinned, recall, reconciled, verdict_of
from runwright.kernel.drive.recording import (
    Judgement,
    Refusal,
    add_interrupted,
    add_judged,
    add_planned,
    add_refused,
    blob_of,
)
from runwright.kernel.drive.telemetry import silent
from runwright.kernel.drive.ticks import (
    Conducted,
    Spec,
    TickState,
    conducted,
    decode_spec,
    request_row,
)
from runwright.kernel.drive.world import StoreWorld
from runwright.kernel.drive.writer import Writer
from runwright.kernel.errors import (
    Deferred,
    Frozen,
    Halt,
    RunwrightError,
    UnknownName,
    Usage,
    require,
)
from runwright.kernel.ports import Clock, LogReader, Messages, Places, Row, Sink, Store
from runwright.kernel.record.entries import (
    TYPES,
    Actor,
    AgentKey,
    Draft,
    HaltRaised,
    RoundJudged,
    SpecApplied,
    StateReconciled,
)
from runwright.kernel.run import (
    Content,
    Cut,
    Outcome,
    Round,
    RunPlan,
    Scheduled,
    Tick,
    tick_id,
)
from runwright.kernel.workload import Closed, Finished, Permit, Seen, Workload

#: How many entries after a verdict are looked at for its reconciliation, which comes first.
LOOKED_MAX: Final = 8


class Ports(NamedTuple):
    """All that a conductor acts through; `bootstrap` fills it."""

    store: Store
    writer: Writer
    workloads: Mapping[str, Workload]
    places: Places
    sinks: Mapping[str, Sink]
    clock: Clock
    messages: Messages = silent
    #: Say nothing of rounds and runs that end as they should: whoever conducts tells it in sums.
    is_quiet: bool = False
    product: str = ""
    #: kind -> digest of the workload's code.
    codes: Mapping[str, str] = {}
    #: Seconds that running functions may go on after the first signal.
    drain_s: float = 10.0
    outbox_max: int = 10_000
    #: Sink -> how it is delivered to, where it is not as every other one.
    limits: Mapping[str, SinkLimits] = {}
    #: What only the end of a round needs, and may be done while its first runs execute.
    meanwhile: Sequence[Callable[[], object]] = ()
    #: Says that the loop goes round; returns seconds until it wants to be called again.
    pulse: Callable[[], float | None] = unwatched
    #: The tables of a site that the store reads in the place of ours.
    adopted: Callable[[], list[dict[str, Any]]] = list


class Conductor:
    """Drives ticks to their end."""

    def __init__(self, ports: Ports, *, stop: Stop | None = None) -> None:
        """Take over; `recover` comes first."""
        self.ports = self._ports = ports
        self._writer = ports.writer
        self._store = self._known = Known(ports.store, ports.writer)
        self._writer.fold = Projection(self._known, ports.workloads, self._known).fold
        self.stop = Stop() if stop is None else stop
        #: The logs of streams that run here, by the names of their specs.
        self.logs: dict[str, LogReader] = {}
        #: The row of the spec that ticked last, and what it says.
        self._spec_of: tuple[Mapping[str, Any], Spec] | None = None
        #: Agents that are known to have a key; nobody is called "".
        self._keyed: set[str] = {""}
        self.stop.on(ports.places.wake)
        self._means = Means(
            writer=ports.writer,
            store=self._known,
            places=ports.places,
            clock=ports.clock,
            stop=self.stop,
            drain_s=ports.drain_s,
            meanwhile=iter(ports.meanwhile),
            pulse=ports.pulse,
            log=self._records,
        )
        self.outbox = Outbox(
            ports.store,
            ports.writer,
            ports.sinks,
            clock=ports.clock,
            messages=ports.messages,
            most=ports.outbox_max,
        )
        self.outbox.limits = ports.limits
        self._writer.note = self._note

    def _note(self, rows: Sequence[Row]) -> None:
        self._known.note(rows)
        self.outbox.note(rows)

    # -------------------------------------------------------------------------------- the doors

    def apply(
        self, kind: str, body: bytes, *, by: str = "", request: str = ""
    ) -> Mapping[str, Any]:
        """Make a spec the one that ticks from now on, with the rows that it declares.

        The request with the id `request` is closed in the same commit.

        Raises: invalid-spec, unknown-name.
        """
        workload = self._workload(kind)
        spec = decode_spec(workload, body)
        if spec.schedule is not None:
            from runwright.kernel.drive.schedule import check  # lazy: 4 ms, scheduled specs only

            check(spec.schedule)
        now_ms = self._ports.clock.now_ms()
        known = self._store.rows("spec", {"kind": kind})
        before = [row for row in known if row["name"] == spec.name]
        # What operators edit; a projection is nobody's to declare, and grows.
        edited = [table.name for table in workload.tables if table.is_edited]
        tables = {name: self._store.rows(name) for name in edited}
        tables |= {"spec": known, "adopted": self._ports.adopted()}
        rows, counts = workload.register(spec, now_ms, tables)
        kept = Content(digest=digest(body), data=body)
        replaces = before[0]["digest"] if before else ""
        is_changed = replaces != kept.digest or bool(rows)
        result = {
            "name": spec.name,
            "kind": kind,
            "changed": is_changed,
            "rows": dict(counts) if is_changed else {},
        }
        closing = [request_row(request, result)] if request else []
        if not is_changed:
            if closing:
                self._writer.commit(rows=closing)
            return result
        actor = Actor(kind="person", id=by)
        keys = [
            Draft(body=key, actor=actor)
            for key in self._keys_for(workload.agents(spec), from_ms=now_ms)
        ]
        self._writer.commit(
            [
                *keys,
                Draft(
                    body=SpecApplied(
                        kind=kind,
                        name=spec.name,
                        digest=kept.digest,
                        replaces=replaces,
                        rows=counts,
                    ),
                    actor=actor,
                    blobs=(blob_of("spec", kept),),
                ),
            ],
            contents=[kept],
            rows=[*rows, *closing],
        )
        return result

    def act(self, kind: str, body: bytes, *, by: str = "", request: str = "") -> Mapping[str, Any]:
        """Do what a person asks ("decide", "people", "key"), and return what came of it.

        The request with the id `request` is closed in the same commit.

        Raises: denied, usage, unknown-name, refused.
        """
        from runwright.kernel.drive import acts, agents  # lazy: few commands are acts of people

        writer = self._writer
        writer.flush()
        acting = acts.Acting(
            self._ports.store, writer.origin, self._ports.clock.now_ms(), writer.keyring, by
        )
        done = acts.act(kind, body, acting)
        told = {"seq": writer.next_seq + len(done.drafts) - 1} if done.drafts else {}
        result = {**told, **done.result}
        closing = [request_row(request, result)] if request else []
        if done.drafts or closing:
            writer.commit(done.drafts, rows=closing)
        if writer.keyring is not None:
            agents.settle(writer.keyring, done.keys)
        return result

    def _keys_for(self, names: Collection[str], *, from_ms: int) -> list[AgentKey]:
        """Return a key for each agent that has none, to be recorded in the next commit."""
        missing = set(names) - self._keyed
        if self._writer.keyring is None or not missing:
            return []
        self._keyed |= {row["agent"] for row in self._store.rows("agent_key")}
        missing -= self._keyed
        if not missing:
            return []
        from runwright.kernel.drive.agents import introduced  # lazy: only who is new gets a key

        return introduced(self._store, self._writer.keyring, missing, from_ms=from_ms)

    def conduct(
        self,
        kind: str,
        name: str,
        tick: Tick,
        *,
        inline: bytes | None = None,
    ) -> Conducted:
        """Drive one tick of a spec to its end; `inline` is a spec that was never applied.

        A tick that the record already holds is recognised and not repeated. A tick that cannot be
        planned is recorded as refused. Raises: unknown-name, deferred when the outbox is full,
        frozen for a scheduled tick of a spec that a person stopped.
        """
        return self._conduct(self._spec(kind, name, inline), tick)

    def conduct_all(
        self,
        kind: str,
        name: str,
        ticks: Callable[[], Tick | None],
        *,
        heard: Callable[[Conducted], object],
    ) -> int:
        """Drive tick after tick of a spec while `ticks` has the next one; return how many.

        What a scheduled tick ends with (outcomes, memory, verdict, papers) is written by the commit
        that plans the next one, so that each costs one commit and the last costs two. Everything is
        durable when this returns, also when it raises. `heard` gets what came of each tick, in
        order, once that is durable. In `ticks` and in `heard` the caller may deliver and seal;
        whoever has something else to do lets `ticks` return None and comes again. Raises: as
        `conduct`, for the tick that `ticks` gave last.
        """
        unheard: list[Conducted] = []
        count = 0
        try:
            while not self.stop and (tick := ticks()) is not None and not self.stop:
                unheard.append(self._conduct(self._spec(kind, name, None), tick, followed=True))
                count += 1
                # What ended before was written with the plan of this one.
                while len(unheard) > 1:
                    heard(unheard.pop(0))
        finally:
            self._writer.flush()
            while unheard and not self._writer.is_broken:
                heard(unheard.pop(0))
        return count

    def _conduct(self, spec: Spec, tick: Tick, *, followed: bool = False) -> Conducted:
        """Drive one tick to its end; one that is followed at once may leave its end staged."""
        kind, name = spec.kind, spec.name
        identity = tick_id(origin=self._writer.origin, workload=kind, spec=name, tick=tick)
        known = self._known.tick(kind, name, tick, identity)
        if known is not None:
            return self._recorded(known)
        frozen = self._frozen(name)
        if frozen is not None:
            if isinstance(tick, Scheduled):
                raise frozen
            return self._refuse(Refusal(spec, tick, identity, frozen))
        why_full = self.outbox.why_full()
        if why_full:
            raise Deferred(why_full)
        at = self._ports.clock.now_ms()
        lanes = self._known.lanes(kind, name)
        world = StoreWorld(self._known, logs=self.logs, memory=lanes)
        try:
            observed = self._ports.workloads[kind].observe(spec.value, tick, world)
            # The pure rooms see what the record will give back, here as after a crash.
            facts = encode(dict(observed))
            seen = Seen(
                spec=spec.value,
                tick=tick,
                at=at,
                facts=msgspec.json.decode(facts),
                memory=lanes,
            )
            state = TickState(
                spec=spec,
                tick=tick,
                id=identity,
                seen=seen,
                facts=facts,
                kept=world.kept,
                followed=followed,
            )
            planned = self._ports.workloads[kind].plan(seen)
            if planned is None:
                message = "the plan has nothing for this tick"
                raise Usage(message)
            return self._drive(state, planned, None)
        except Usage as error:
            if self._store.rows("tick", {"id": identity}):
                raise
            return self._refuse(Refusal(spec, tick, identity, error))

    def _refuse(self, refusal: Refusal) -> Conducted:
        """Record a tick that cannot be planned."""
        pending = Pending(self._ports.messages)
        refused = add_refused(refusal, pending)
        pending.commit(self._writer)
        spec = refusal.spec
        fields = {"kind": spec.kind, "name": spec.name, "code": refusal.error.code}
        self._ports.messages("tick.refused", refused.message, level="error", **fields)
        return refused

    def _frozen(self, name: str) -> Frozen | None:
        """Return the decision of a person that stands against a spec, as an error."""
        rows = self._known.decisions(f"spec/{name}")
        if not rows:
            return None
        from runwright.kernel.people import stand  # lazy: only specs that somebody decided about

        found = stand(rows, self._ports.clock.now_ms())
        if found is None:
            return None
        word = "closed" if found["action"] == "close" else "frozen"
        message = f"{word} by {found['person']} (entry {found['seq']}): {found['reason']}"
        return Frozen(message)

    def recover(self) -> list[Conducted]:
        """Bring to an end what another conductor left under way.

        An impure run that had started ends as interrupted, never silently repeated; a pure round is
        completed.
        """
        self._reconcile_newest()
        return [
            self._resume(row) for row in self._store.rows("tick", {"state": "open"}, order="seq")
        ]

    def halt(self, error: Halt) -> None:
        """Record that the conductor stops; when even that fails, the message is all there is."""
        text = printable(str(error), MESSAGE_MAX)
        self._ports.messages("halt.raised", text, level="error", code=error.code)
        with contextlib.suppress(RunwrightError):
            self._writer.commit([Draft(body=HaltRaised(code=error.code, message=text))])

    # ------------------------------------------------------------------------------- the road

    def _drive(
        self,
        state: TickState,
        planned: Round | None,
        recalled: Recalled | None,
    ) -> Conducted:
        """Drive a tick from a planned or a recalled round to its end."""
        pending = Pending(silent if self._ports.is_quiet else self._ports.messages)
        try:
            return self._drive_rounds(state, planned, recalled, pending)
        except Halt as error:
            # The store went away while it was asked: what happened meanwhile is not lost with it.
            pending.keep_aside(self._writer, error)
            raise

    def _drive_rounds(
        self,
        state: TickState,
        planned: Round | None,
        recalled: Recalled | None,
        pending: Pending,
    ) -> Conducted:
        workload = self._ports.workloads[state.spec.kind]
        verdict: Verdict | None = None
        stopped = ""
        while planned is not None:
            under_way = (
                add_planned(
                    state,
                    planned,
                    pending,
                    next_seq=self._writer.next_seq,
                    code=self._ports.codes.get(state.spec.kind, ""),
                    product=self._ports.product,
                )
                if recalled is None
                else self._take_over(state, recalled, pending)
            )
            recalled = None
            seen, this = state.seen, under_way.round

            def judge(
                outcomes: Sequence[Outcome], seen: Seen = seen, this: Round = this
            ) -> Verdict:
                return workload.judge(seen, this, outcomes)

            execution = Execution(
                under_way,
                pending,
                means=self._means,
                judge=judge,
                permit=_permit(workload, seen, this),
            )
            outcomes = execution.run()
            # Whether a rule could have stopped it is over, and is not recorded.
            verdict = msgspec.structs.replace(judge(outcomes), stop=False)
            papers = workload.report(seen, this, outcomes, verdict)
            finished = Finished(round=this, outcomes=outcomes, verdict=verdict)
            state.seen = msgspec.structs.replace(
                seen, done=[*seen.done, finished], memory=dict(under_way.memory)
            )
            planned = workload.plan(state.seen)
            stopped = execution.stopped
            judgement = Judgement(
                outcomes=outcomes,
                verdict=verdict,
                papers=papers,
                stopped=stopped,
                is_last=planned is None,
                at_ms=self._ports.clock.now_ms(),
            )
            # Somebody may have named an agent by SQL; its records wait for a key until here.
            names = {*workload.agents(state.spec.value), *(run.agent for run in this.runs)}
            for key in self._keys_for(names, from_ms=seen.at):
                pending.add([Draft(body=key)])
            add_judged(state, under_way, judgement, pending, next_seq=self._writer.next_seq)
            if self._may_be_staged(state, judgement):
                pending.stage(self._writer)
                break
            pending.commit(self._writer)
            self._reconcile(state.spec.kind, state.spec.value, under_way.seq)
            if any(paper.hold == "sealed" for paper in papers):
                self._writer.seal()
        require(verdict is not None, "a driven tick has at least one round")
        return conducted(state, cast("Verdict", verdict), stopped)

    def _may_be_staged(self, state: TickState, judgement: Judgement) -> bool:
        """Say whether the end of a tick may wait for the plan of the next one, and for no other."""
        return (
            state.followed
            and judgement.is_last
            and isinstance(state.tick, Scheduled)
            and self._ports.workloads[state.spec.kind].reconcile is None
            and not any(paper.hold == "sealed" for paper in judgement.papers)
            and not self._writer.has_staged
        )

    # --------------------------------------------------------------------------- reconciliation

    def _reconcile(self, kind: str, spec: Any, seq: int) -> None:
        """Hold what the tables say of a judged round against the record, in one commit."""
        reconcile = self._ports.workloads[kind].reconcile
        if reconcile is None:
            return
        found = recall(self._store, seq)
        require(found.judged is not None, f"round {found.id} has a verdict")
        closed = Closed(
            spec=spec,
            id=found.id,
            next_seq=self._writer.next_seq,
            round=found.round,
            tick=found.planned.occurrence,
            at=found.planned.at,
            outcomes=[found.outcomes[key] for key in sorted(found.outcomes)],
            verdict=verdict_of(cast("RoundJudged", found.judged)),
        )
        bodies = reconcile(closed, self._store)
        if bodies:
            self._writer.commit([Draft(body=body) for body in bodies])
        for body in bodies:
            if body.problem if isinstance(body, StateReconciled) else True:
                fields = {"label": body.label, "component": body.component, "agent": body.agent}
                self._ports.messages(TYPES[type(body)], level="warning", **fields)

    def _reconcile_newest(self) -> None:
        """Reconcile the newest judged round when a conductor died before it did.

        No other can be left: whoever judges a round reconciles it next.
        """
        for row in self._store.rows("round", order="-seq", limit=1):
            workload = self._ports.workloads.get(row["kind"])
            if workload is None or workload.reconcile is None or row["judged_seq"] is None:
                continue
            after = self._store.entries(row["judged_seq"] + 1, row["judged_seq"] + 1 + LOOKED_MAX)
            if any(reconciled(stored.raw) == row["id"] for stored in after):
                continue
            planned = recall(self._store, row["seq"]).planned
            data = pinned(self._store, planned.spec, row["seq"])
            self._reconcile(row["kind"], decode_spec(workload, data), row["seq"])

    # ------------------------------------------------------------------------------- recovery

    def _resume(self, row: Mapping[str, Any]) -> Conducted:
        rounds = [
            recall(self._store, found["seq"])
            for found in self._store.rows("round", {"tick": row["id"]}, order="idx")
        ]
        first, last = rounds[0].planned, rounds[-1]
        lanes = self._known.lanes(first.kind, first.name)
        workload = self._workload(first.kind)
        body = self._store.blob(first.spec)
        require(body is not None, f"the spec {first.spec} of an open tick is kept")
        data = body.data if body is not None else b""
        spec = Spec(first.kind, first.name, data, decode_spec(workload, data))
        state = TickState(
            spec=spec,
            tick=first.occurrence,
            id=row["id"],
            label=row["label"],
            rounds=[found.id for found in rounds],
            seen=Seen(
                spec=spec.value,
                tick=first.occurrence,
                at=first.at,
                facts=rounds[0].facts,
                memory=last.memory if last.judged is None else lanes,
                done=[
                    Finished(
                        round=found.round,
                        outcomes=[found.outcomes[key] for key in sorted(found.outcomes)],
                        verdict=verdict_of(found.judged),
                    )
                    for found in rounds
                    if found.judged is not None
                ],
            ),
        )
        for finished in state.seen.done:
            for status, count in by_status(finished.outcomes).items():
                state.outcomes[status] = state.outcomes.get(status, 0) + count
        self._ports.messages(
            "tick.recovered", kind=spec.kind, name=spec.name, label=state.label, level="warning"
        )
        if last.judged is None:
            return self._drive(state, last.round, last)
        planned = workload.plan(state.seen)
        require(planned is not None, "an open tick has a further round")
        return self._drive(state, planned, None)

    def _take_over(self, state: TickState, found: Recalled, pending: Pending) -> UnderWay:
        """Return a recalled round as one under way, its open impure runs ended as interrupted."""
        lanes = self._known.lanes(state.spec.kind, state.spec.name)
        under_way = UnderWay(
            kind=state.spec.kind,
            name=state.spec.name,
            tick=state.id,
            id=found.id,
            seq=found.seq,
            planned_ms=state.tick.planned_ms,
            round=found.round,
            outcomes=found.outcomes,
            counts=found.counts,
            memory=lanes,
        )
        if found.round.pure:
            return under_way
        for run in found.round.runs:
            if run.key not in found.outcomes:
                at_ms = self._ports.clock.now_ms()
                add_interrupted(under_way, found, run, pending, at_ms=at_ms)
        return under_way

    # -------------------------------------------------------------------------------- helpers

    def _records(self, cut: Cut) -> Sequence[bytes]:
        """Return the records of a cut. Raises: usage, inputs-retired."""
        log = self.logs.get(cut.log)
        return without_log(cut) if log is None else log.slice(cut)

    def _recorded(self, row: Mapping[str, Any]) -> Conducted:
        """Return what the record says of a tick that is there already."""
        rounds = self._store.rows("round", {"tick": row["id"]}, order="idx")
        outcomes: dict[str, int] = {}
        for found in rounds:
            for status, count in by_status(
                list(recall(self._store, found["seq"]).outcomes.values())
            ).items():
                outcomes[status] = outcomes.get(status, 0) + count
        return Conducted(
            tick=row["id"],
            rounds=tuple(found["id"] for found in rounds),
            label=row["label"],
            verdict=rounds[-1]["verdict"] if rounds else "",
            outcome=rounds[-1]["outcome"] if rounds else "",
            outcomes=outcomes,
            error=row["reason"].partition(": ")[0] if row["state"] == "refused" else "",
            message=row["reason"].partition(": ")[2],
        )

    def _workload(self, kind: str) -> Workload:
        workload = self._ports.workloads.get(kind)
        if workload is None:
            known = ", ".join(sorted(self._ports.workloads))
            message = f"there is no workload of kind {kind!r}; known: {known}"
            raise UnknownName(message)
        return workload

    def _spec(self, kind: str, name: str, inline: bytes | None) -> Spec:
        workload = self._workload(kind)
        if inline is not None:
            return Spec(kind, name, inline, decode_spec(workload, inline))
        row = self._known.spec(kind, name)
        if row is None:
            message = f"no {kind} spec of the name {name!r} was applied"
            others = self._store.rows("spec", {"name": name}, columns=("kind",))
            is_stream = any(row["kind"] == "streams" for row in others) and kind != "streams"
            hint = f"It is a stream: runwright streams run {name}" if is_stream else ""
            raise UnknownName(message, hint=hint)
        if self._spec_of is None or self._spec_of[0] is not row:
            body = row["body"]
            self._spec_of = row, Spec(kind, name, body, decode_spec(workload, body), is_kept=True)
        return self._spec_of[1]


def _permit(workload: Workload, seen: Seen, this: Round) -> Ask | None:
    """Return what is asked before each start of a round; None when every run may start."""
    permit = workload.permit
    if permit is None:
        return None

    def ask(run: RunPlan, outcomes: Mapping[str, Outcome], starts: Mapping[str, int]) -> Permit:
        return permit(seen, this, run, outcomes, starts)

    return ask
