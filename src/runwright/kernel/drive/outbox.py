"""The outbox: papers are committed with what caused them and delivered until acknowledged.

At least once, in order for each sink; the delivery id lets a consumer drop duplicates. A paper that
is held waits for a seal that covers it. Text that a paper takes from a blob is put in at delivery,
so that what was erased by then does not leave. A paper to the log stays where it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from runwright.kernel.canonical import digest
from runwright.kernel.drive.retry import delay_s
from runwright.kernel.drive.writer import Writer
from runwright.kernel.errors import Deferred, Halt
from runwright.kernel.ports import Clock, Delivery, Messages, Row, Sink, Store
from runwright.kernel.run import Retry
from runwright.kernel.workload import LOG, Insert, Paper

#: Papers read from the store at once.
READ_MAX: Final = 256
#: Between attempts of a delivery.
RETRY: Final = Retry(attempts=1_000_000, min_s=1, max_s=300)


class SinkLimits(msgspec.Struct, frozen=True):
    """How one sink is delivered to, where it is not as every other one."""

    #: Between attempts; after the last of them it goes on at the longest wait.
    retry: Retry = RETRY
    #: With so many papers waiting for it there are no new ticks; None: those of all are counted.
    most: int | None = None


def paper_rows(papers: Sequence[Paper], *, seq: int, round_id: str) -> list[Row]:
    """Return the outbox rows of papers that the verdict at `seq` causes."""
    return [
        Row(
            "paper",
            {
                "seq": seq,
                "idx": index,
                "id": digest(f"{round_id}/{index}".encode())[:32],
                "sink": paper.sink,
                "name": paper.name,
                "media": paper.media,
                "body": paper.body.encode(),
                "inserts": msgspec.json.encode(paper.inserts).decode(),
                "sealed_size": seq + 1 if paper.hold == "sealed" else 0,
                "state": "kept" if paper.sink == LOG else "open",
            },
        )
        for index, paper in enumerate(papers)
    ]


class _Page(msgspec.Struct, frozen=True):
    """What came of the next papers of a sink."""

    written: list[Row]
    #: When the paper that waits is due; None when it waits for a seal, or none waits.
    due_ms: int | None
    is_blocked: bool
    #: How many of them have left.
    left: int


class Outbox:
    """Delivers what waits, and says when to come again."""

    def __init__(
        self,
        store: Store,
        writer: Writer,
        sinks: Mapping[str, Sink],
        *,
        clock: Clock,
        messages: Messages,
        most: int = 10_000,
    ) -> None:
        """Deliver to these sinks; with more than `most` papers waiting there are no new ticks."""
        self._store = store
        self._writer = writer
        self._sinks = sinks
        self._clock = clock
        self._messages = messages
        self._most = most
        #: Sink -> how it is delivered to, where it is not as every other one.
        self.limits: Mapping[str, SinkLimits] = {}
        #: Whether there may be anything to deliver; False after a pump found nothing.
        self.waiting = True
        #: What came of deliveries waits for the next commit.
        self._is_staged = False
        #: Sink -> how many papers wait for it; None before they were counted.
        self._open: dict[str, int] | None = None

    def note(self, rows: Sequence[Row]) -> None:
        """Take notice of rows that are written."""
        for row in rows:
            if row.table == "paper" and row.values.get("state") == "open":
                self.waiting = True
                if self._open is not None:
                    sink = row.values["sink"]
                    self._open[sink] = self._open.get(sink, 0) + 1

    def is_full(self) -> bool:
        """Say whether no new tick may start."""
        return bool(self.why_full())

    def why_full(self) -> str:
        """Return why no new tick may start; empty when one may."""
        rest = 0
        for sink, count in self.left().items():
            most = self.limits[sink].most if sink in self.limits else None
            if most is None:
                rest += count
            elif count >= most:
                return f"{most} papers wait for the sink {sink!r}: no new ticks"
        return f"{self._most} papers wait in the outbox: no new ticks" * (rest >= self._most)

    def left(self) -> Mapping[str, int]:
        """Return how many papers wait for each sink; beyond a full one not all are counted."""
        if not self.waiting:
            return {}
        if self._open is None:
            self._settle()
            self._open = self._counted()
        return self._open

    def _counted(self) -> dict[str, int]:
        """Return how many papers wait for each sink, without reading their bodies."""
        # With so many there is a sink that is full, whatever else there is.
        enough = self._most + sum(each.most or 0 for each in self.limits.values())
        rows = self._store.rows("paper", {"state": "open"}, limit=enough, columns=("sink",))
        return dict(Counter(row["sink"] for row in rows))

    def pump(self, *, later: bool = False) -> float | None:
        """Deliver what may leave now; return seconds until the next attempt, None for nothing.

        A paper that waits for a seal is not waited for: whoever seals pumps again. `later`: what
        came of it is written with the next commit, and whoever pumps flushes the writer before it
        rests. After a crash in between a paper is delivered again, as after any.
        """
        if self.waiting:
            # What was staged for later says which papers have left.
            self._settle()
        going = self._going() if self.waiting else {}
        self.waiting, next_ms = False, list[int]()
        while going:
            written, more, left = list[Row](), dict[str, None](), dict[str, int]()
            for name, rows in going.items():
                page = self._page(name, rows)
                written += page.written
                left[name] = page.left
                self.waiting = self.waiting or page.is_blocked
                if page.due_ms is not None:
                    next_ms.append(page.due_ms)
                if page.left == READ_MAX and not page.is_blocked:
                    more[name] = None
            if written:
                self._write(written, later=later and not more)
                self._forget(left)
            going = more
        if not next_ms:
            return None
        return max(0.0, (min(next_ms) - self._clock.now_ms()) / 1000)

    def _write(self, rows: Sequence[Row], *, later: bool) -> None:
        if later:
            self._is_staged = True
            self._writer.stage((), rows=rows, then=self._is_written)
        else:
            self._writer.commit(rows=rows)

    def _is_written(self) -> None:
        self._is_staged = False

    def _settle(self) -> None:
        if self._is_staged:
            self._writer.flush()

    def _forget(self, left: Mapping[str, int]) -> None:
        """Count no more what has left."""
        if self._open is not None:
            for name, count in left.items():
                self._open[name] = max(0, self._open.get(name, 0) - count)

    def _going(self) -> Mapping[str, list[dict[str, Any]] | None]:
        """Return the sinks, also one that papers name and that there is not, with their papers.

        None where not all that wait for a sink were read.
        """
        first = self._store.rows("paper", {"state": "open"}, order="seq", limit=READ_MAX)
        if len(first) == READ_MAX:
            return dict.fromkeys([*(row["sink"] for row in first), *self._sinks])
        by_sink: dict[str, list[dict[str, Any]]] = {}
        for row in first:
            by_sink.setdefault(row["sink"], []).append(row)
        return by_sink

    def _page(self, name: str, rows: list[dict[str, Any]] | None) -> _Page:
        """Deliver the next papers of one sink, in order, until one has to wait."""
        if rows is None:
            wanted = {"state": "open", "sink": name}
            rows = self._store.rows("paper", wanted, order="seq", limit=READ_MAX)
        rows.sort(key=lambda row: (row["seq"], row["idx"]))
        free, due_ms = self._free(name, rows)
        takes_many = getattr(self._sinks.get(name), "is_batched", False)
        written: list[Row] = []
        while len(written) < free:
            row = rows[len(written)]
            # One that was tried before goes alone, so that the next ones do not wait with it.
            many = free if takes_many and not row["attempts"] else len(written) + 1
            error = self._deliver(rows[len(written) : many])
            if error is not None:
                waits = self._deferred(row, error)
                at_ms = waits.values["next_ms"]
                return _Page([*written, waits], at_ms, is_blocked=True, left=len(written))
            written += map(self._delivered, rows[len(written) : many])
        return _Page(written, due_ms, is_blocked=free < len(rows), left=free)

    def _free(self, name: str, rows: Sequence[Mapping[str, Any]]) -> tuple[int, int | None]:
        """Return how many papers may leave now, and when the first that has to wait is due."""
        longest_ms = int(self._retry(name).max_s * 1000)
        for index, row in enumerate(rows):
            if row["sealed_size"] > self._writer.sealed.size:
                return index, None
            # Who would have to wait for longer than anything waits: the clock was put back.
            if 0 < row["next_ms"] - self._clock.now_ms() <= longest_ms:
                return index, row["next_ms"]
        return len(rows), None

    def _retry(self, name: str) -> Retry:
        return self.limits[name].retry if name in self.limits else RETRY

    def _deliver(self, rows: Sequence[Mapping[str, Any]]) -> Exception | None:
        """Deliver papers of one sink together; return why it did not work. Raises: halt."""
        name = rows[0]["sink"]
        try:
            sink = self._sinks.get(name)
            if sink is None:
                message = f"there is no sink {name!r}"
                raise Deferred(message)
            sink.deliver(
                [
                    Delivery(
                        id=row["id"],
                        name=row["name"],
                        media=row["media"],
                        body=self._filled(row["body"], row["inserts"]),
                    )
                    for row in rows
                ]
            )
        except Halt:
            raise
        # Whatever a sink raises, the paper waits on the record and no other sink waits for it.
        except Exception as error:  # noqa: BLE001 - the one that the comment explains
            return error
        return None

    def _delivered(self, row: Mapping[str, Any]) -> Row:
        """Return the row that says that a paper has left."""
        key = {"seq": row["seq"], "idx": row["idx"]}
        delivered = {"state": "delivered", "delivered_ms": self._clock.now_ms()}
        return Row("paper", {**key, **delivered, "attempts": row["attempts"] + 1}, update=True)

    def _deferred(self, row: Mapping[str, Any], error: Exception) -> Row:
        """Return the row that says when the first of papers that did not leave is due again."""
        attempts, name = row["attempts"] + 1, row["sink"]
        retry = self._retry(name)
        wait_s = delay_s(retry, attempts) or retry.max_s
        fields = {"sink": name, "name": row["name"], "attempts": attempts}
        self._messages("delivery.deferred", str(error), level="warning", **fields)
        next_ms = self._clock.now_ms() + int(wait_s * 1000)
        key = {"seq": row["seq"], "idx": row["idx"]}
        return Row("paper", {**key, "attempts": attempts, "next_ms": next_ms}, update=True)

    def _filled(self, body: bytes, inserts: str) -> bytes:
        places = msgspec.json.decode(inserts, type=list[Insert])
        if not places:
            return body
        value = msgspec.json.decode(body)
        for insert in places:
            kept = self._store.blob(insert.digest)
            text = None
            if kept is not None:
                text = kept.data.decode("utf-8", "replace")[-insert.characters :]
            target = value
            for step in insert.path[:-1]:
                target = target[step]
            target[insert.path[-1]] = text
        return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"
