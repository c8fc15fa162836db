"""The one writer of a store: it appends entries, commits batches and seals the ledger.

Whatever happens together is written together: entries, the rows they change, the papers they
cause. When a commit fails nothing is retried; the writer refuses further work, because what the
store holds is then for the next start to find out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias

from runwright.kernel.errors import (
    Halt,
    RollbackDetected,
    RunwrightError,
    SignerMemoryLost,
    Usage,
)
from runwright.kernel.ports import Batch, Clock, Keyring, Row, Span, Store, StoredBlock
from runwright.kernel.record import seal as sealing
from runwright.kernel.record.entries import (
    BODIES,
    FOLDED,
    SEALED_AT_ONCE,
    Actor,
    AgentKey,
    ClockStepped,
    Draft,
    LedgerAdopted,
)
from runwright.kernel.record.ledger import Appended, append
from runwright.kernel.record.seal import Heads, Signer, open_head
from runwright.kernel.run import Content

#: A wall clock that moved this much against the monotonic clock is recorded.
STEP_MS_MIN: Final = 2_000


#: The bodies that are sealed at once.
_URGENT: Final = frozenset(BODIES[name] for name in SEALED_AT_ONCE)
#: Entries in their place, and the bytes kept with them -> the rows that they leave.
Fold: TypeAlias = Callable[[Appended, Sequence[Content]], Sequence[Row]]


def fold_acts(appended: Appended, contents: Sequence[Content]) -> Sequence[Row]:  # noqa: ARG001
    """Return the rows of acts of people and keys, which need no workload to be understood."""
    acts = [entry for entry in appended.decoded if type(entry.body) in FOLDED]
    if not acts:
        return ()
    from runwright.kernel.drive.fold import rows_of  # lazy: few commits are about people

    return [row for entry in acts for row in rows_of(entry)]


class Writer:
    """Holds the lease, the head of the ledger and the last seal.

    The head is that of what is staged too.
    """

    def __init__(
        self,
        store: Store,
        *,
        clock: Clock,
        signer: Signer,
        seal_every_s: float = 1.0,
        find: Callable[[Store, Signer], Heads] = open_head,
        keyring: Keyring | None = None,
    ) -> None:
        """Take the lease and check the store against what the signer remembers.

        Raises: store-busy, rollback-detected, signer-memory-lost, store-corrupt.
        """
        self._store = store
        self._clock = clock
        self.signer = signer
        #: Signs for agents; None: what waits for their signatures goes on waiting.
        self.keyring = keyring
        self._seal_every_s = seal_every_s
        self._lease = store.lease()
        try:
            self.sealed, self.head, self._leaves = find(store, signer)
        except RunwrightError:
            self._lease.release()
            raise
        self._broken: RunwrightError | None = None
        #: What has its place in the ledger and is written with the next commit.
        self._staged = Batch()
        #: Called once that is durable.
        self._then: list[Callable[[], object]] = []
        self._is_urgent = False
        #: What entries make of the tables; a conductor puts in one that knows its workloads.
        self.fold: Fold = fold_acts
        #: Agent -> its keys, the newest first, as a seal has read them.
        self._keys: dict[str, list[AgentKey]] = {}
        #: Whether a record in the store may wait for the signature of its agent.
        self._is_unsigned = True
        #: Hears of rows as they are staged; a conductor puts in what remembers some of them.
        self.note: Callable[[Sequence[Row]], object] = len
        self._unsealed_since_s = clock.monotonic_s()
        self._skew_ms = self._wall_minus_monotonic_ms()

    @property
    def origin(self) -> str:
        """The name of the ledger, inside every entry."""
        return self.signer.origin

    @property
    def next_seq(self) -> int:
        """The seq that the next entry will have, after those that are staged."""
        return self.head.size

    def commit(  # noqa: PLR0913 - what one transaction may hold
        self,
        drafts: Sequence[Draft] = (),
        *,
        contents: Sequence[Content] = (),
        rows: Sequence[Row] = (),
        erased: Sequence[str] = (),
        blocks: Sequence[StoredBlock] = (),
        retired: Sequence[Span] = (),
        seal: bool = True,
    ) -> int:
        """Write it, after what is staged, in one durable transaction.

        Return the seq of the first draft, which `next_seq` said before. Entries of some types are
        sealed at once, unless `seal` is False. Raises: halt.
        """
        if blocks and not (drafts or contents or rows or erased or retired or self._staged):
            # The way of every event of a stream: there is no entry, so nothing to fold or to seal.
            self._require_whole()
            self._write(Batch(blocks=list(blocks)))
            return self.head.size
        first = self._stage(drafts, contents, rows)
        self._staged.erased.extend(erased)
        self._staged.blocks.extend(blocks)
        self._staged.retired.extend(retired)
        self._write_staged(seal=seal)
        return first

    def stage(
        self,
        drafts: Sequence[Draft],
        *,
        contents: Sequence[Content] = (),
        rows: Sequence[Row] = (),
        then: Callable[[], object],
    ) -> int:
        """Give entries their place in the ledger, to be written with the next commit.

        `then` is called once they are durable. Return the seq of the first draft. Raises: halt.
        """
        first = self._stage(drafts, contents, rows)
        self._then.append(then)
        if self._is_urgent or self._staged.failure is not None:
            self._write_staged(seal=True)
        return first

    def flush(self) -> None:
        """Write what is staged, if there is anything. Raises: halt."""
        if self._staged:
            self._require_whole()
            self._write_staged(seal=True)

    @property
    def is_broken(self) -> bool:
        """Whether a commit failed, so that nobody knows here what the store holds."""
        return self._broken is not None

    @property
    def has_staged(self) -> bool:
        """Whether something waits for the next commit."""
        return bool(self._staged)

    def has_staged_rows(self, table: str) -> bool:
        """Say whether the store does not have every row of a table yet."""
        return any(row.table == table for row in self._staged.rows)

    def staged_blob(self, wanted: str) -> Content | None:
        """Return bytes that the store does not have yet, by digest."""
        return next((item for item in self._staged.contents if item.digest == wanted), None)

    def _stage(
        self, drafts: Sequence[Draft], contents: Sequence[Content], rows: Sequence[Row]
    ) -> int:
        self._require_whole()
        drafts = [*drafts, *self._clock_drafts()]
        first = self.head.size
        appended = append(self.head, self.origin, self._clock.now_ms(), drafts)
        failure = None
        more = list(rows)
        try:
            more += self.fold(appended, contents)
        except RunwrightError as error:
            # The store went away while it was asked, and what happened is not to be lost with it.
            failure = error
        more = self._signed(more, appended)
        # After the fold, which may ask for a table and so have written what was staged before.
        staged = self._staged
        staged.entries.extend(appended.entries)
        staged.tiles.extend(appended.tiles)
        staged.contents.extend(contents)
        staged.rows.extend(more)
        staged.failure = failure
        if self.sealed.size == first:
            self._unsealed_since_s = self._clock.monotonic_s()
        self.head = appended.head
        self._leaves.extend([entry.leaf for entry in appended.entries])
        self.note(more)
        if any(type(draft.body) in _URGENT for draft in drafts):
            self._is_urgent = True
        return first

    def _write_staged(self, *, seal: bool) -> None:
        batch, self._staged = self._staged, Batch()
        then, self._then = self._then, []
        is_urgent, self._is_urgent = self._is_urgent, False
        self._write(batch)
        for each in then:
            each()
        if seal and is_urgent:
            self.seal()

    def keep_aside(
        self,
        failure: Halt,
        drafts: Sequence[Draft],
        *,
        contents: Sequence[Content] = (),
        rows: Sequence[Row] = (),
    ) -> None:
        """Have the store keep elsewhere what it cannot take any more, if it can.

        Raises: the failure, naming where. After a commit that failed there is nothing left to keep.
        """
        if self._broken is None:
            appended = append(self.head, self.origin, self._clock.now_ms(), drafts)
            batch, self._staged = self._staged, Batch()
            batch.entries.extend(appended.entries)
            batch.contents.extend(contents)
            batch.rows.extend(rows)
            batch.failure = failure
            self._write(batch)

    def seal(self, rows: Sequence[Row] = ()) -> None:
        """Sign the head as it is read back from the store, and keep the seal with it.

        Raises: store-corrupt when the store holds something else than was written,
        rollback-detected when the signer remembers more.
        """
        if self._staged:
            self._require_whole()
            self._write_staged(seal=False)
        if self.sealed.size == self.head.size:
            if rows:
                self._write(Batch(rows=list(rows)))
            return
        self._require_whole()
        try:
            row = sealing.seal(
                self._store, self.signer, sealed=self.sealed, head=self.head, leaves=self._leaves
            )
        except Halt as error:
            self._broken = error
            raise
        self._write(Batch(seals=[row], rows=[*rows, *self._signatures()]))
        self.sealed, self._leaves = self.head, []

    def wait_before_seal_s(self) -> float | None:
        """Return the seconds until a seal is due; None when everything is sealed."""
        if self.sealed.size == self.head.size:
            return None
        waited_s = self._clock.monotonic_s() - self._unsealed_since_s
        return max(0.0, self._seal_every_s - waited_s)

    def close(self) -> None:
        """Seal what is not sealed, unless the writer is broken, and give up the lease."""
        try:
            if self._broken is None:
                self.seal()
        finally:
            self._lease.release()

    def _signed(self, rows: list[Row], appended: Appended) -> list[Row]:
        """Return rows with those signatures of agents in them that can be made without reading.

        The others are made at the next seal.
        """
        tables = {row.table for row in rows}
        if "agent_key" in tables:
            self._keys.clear()
        if "signature" not in tables:
            return rows
        places = {stored.seq: place for place, stored in enumerate(appended.entries)}
        for index, row in enumerate(rows):
            if row.table != "signature" or row.update:
                continue
            made: Mapping[str, str] = {}
            place, keys = places.get(row.values["seq"]), self._keys.get(row.values["agent"])
            if place is not None and keys:
                leaf, at_ms = appended.entries[place].leaf, appended.decoded[place].ts
                made = self._signature(keys, leaf, at_ms)
            self._is_unsigned = self._is_unsigned or not made
            rows[index] = Row(row.table, {**row.values, **made})
        return rows

    def _signature(self, keys: Sequence[AgentKey], leaf: bytes, at_ms: int) -> Mapping[str, str]:
        if self.keyring is None:
            return {}
        from runwright.kernel.drive.agents import signature  # lazy: only who has agents signs

        try:
            return signature(self.keyring, keys, leaf, at_ms=at_ms)
        except RunwrightError:
            # What happened is recorded all the same, and the seal says why it cannot be signed.
            return {}

    def _signatures(self) -> list[Row]:
        """Return the signatures of agents that wait, as rows of the commit of a seal."""
        if self.keyring is None or not self._is_unsigned:
            return []
        waiting = self._store.rows("signature", {"value": ""})
        made: list[Row] = []
        if waiting:
            from runwright.kernel.drive.agents import signatures  # lazy: only when something waits

            made = signatures(self._store, self.keyring, waiting, known=self._keys)
        self._is_unsigned = len(made) < len(waiting)
        return made

    def _write(self, batch: Batch) -> None:
        try:
            self._store.commit(batch)
        except RunwrightError as error:
            self._broken = error
            raise

    def _require_whole(self) -> None:
        if self._broken is not None:
            raise self._broken

    def _wall_minus_monotonic_ms(self) -> int:
        return self._clock.now_ms() - int(self._clock.monotonic_s() * 1000)

    def _clock_drafts(self) -> list[Draft]:
        skew_ms = self._wall_minus_monotonic_ms()
        step_ms = skew_ms - self._skew_ms
        if abs(step_ms) < STEP_MS_MIN:
            return []
        self._skew_ms = skew_ms
        return [Draft(body=ClockStepped(step_ms=step_ms))]


def adopt(store: Store, *, clock: Clock, signer: Signer, reason: str, by: str) -> LedgerAdopted:
    """Go on with a store that the signer does not vouch for.

    Every entry is hashed again; the entry that says so is durable before the signer remembers it,
    and sealed after. Raises: usage when the signer does vouch for the store, store-corrupt.
    """
    try:
        open_head(store, signer)
    except (RollbackDetected, SignerMemoryLost) as error:
        doubt = str(error)
    else:
        message = "the signer vouches for this store: there is nothing to adopt"
        raise Usage(message)
    try:
        remembered = signer.last()
    except SignerMemoryLost:
        remembered = None
    writer = Writer(store, clock=clock, signer=signer, find=_adopted)
    body = LedgerAdopted(
        reason=f"{reason} ({doubt})",
        remembered_size=remembered.size if remembered else -1,
        remembered_root=remembered.root.hex() if remembered else "",
        found_size=writer.head.size,
        found_root=writer.head.root().hex(),
    )
    writer.commit([Draft(body=body, actor=Actor(kind="person", id=by))], seal=False)
    signer.adopt(writer.head)
    writer.close()
    return body


def _adopted(store: Store, signer: Signer) -> Heads:
    return sealing.adopt_head(store, signer.origin)
