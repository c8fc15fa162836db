"""The outbox: papers are committed with what caused them and delivered until acknowledged.

At least once, in order for each sink; the delivery id lets a consumer drop duplicates. A paper that
is held waits for a seal that covers it. Text that a paper takes from a blob is put in at delivery,
so that what was erased by then does not leave.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from runwright.kernel.canonical import digest
from runwright.kernel.drive.retry import delay_s
from runwright.kernel.drive.writer import Writer
from runwright.kernel.errors import Deferred, Halt
from runwright.kernel.ports import Clock, Delivery, Messages, Row, Sink, Store
from runwright.kernel.run import Retry
from runwright.kernel.workload import Insert, Paper

#: Papers read from the store at once.
READ_MAX: Final = 256
#: Between attempts of a delivery.
RETRY: Final = Retry(attempts=1_000_000, min_s=1, max_s=300)


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
        #: Whether there may be anything to deliver; False after a pump found nothing.
        self.waiting = True

    def is_full(self) -> bool:
        """Say whether no new tick may start."""
        if not self.waiting:
            return False
        return len(self._store.rows("paper", {"state": "open"}, limit=self._most)) >= self._most

    def pump(self) -> float | None:
        """Deliver what may leave now; return seconds until the next attempt, None for nothing.

        A paper that waits for a seal is not waited for: whoever seals pumps again.
        """
        going = self._names() if self.waiting else []
        self.waiting, next_ms = False, list[int]()
        while going:
            written, more = list[Row](), list[str]()
            for name in going:
                page = self._page(name)
                written += page.written
                self.waiting = self.waiting or page.is_blocked
                if page.due_ms is not None:
                    next_ms.append(page.due_ms)
                if len(page.written) == READ_MAX and not page.is_blocked:
                    more.append(name)
            if written:
                self._writer.commit(rows=written)
            going = more
        if not next_ms:
            return None
        return max(0.0, (min(next_ms) - self._clock.now_ms()) / 1000)

    def _names(self) -> list[str]:
        """Return the sinks, also one that papers name and that there is not."""
        first = self._store.rows("paper", {"state": "open"}, order="seq", limit=READ_MAX)
        return list(dict.fromkeys([*(row["sink"] for row in first), *self._sinks]))

    def _page(self, sink: str) -> _Page:
        """Deliver the next papers of one sink, in order, until one has to wait."""
        wanted = {"state": "open", "sink": sink}
        rows = self._store.rows("paper", wanted, order="seq", limit=READ_MAX)
        written: list[Row] = []
        for row in sorted(rows, key=lambda row: (row["seq"], row["idx"])):
            if row["sealed_size"] > self._writer.sealed.size:
                return _Page(written, None, is_blocked=True)
            if row["next_ms"] > self._clock.now_ms():
                return _Page(written, row["next_ms"], is_blocked=True)
            written.append(self._deliver(row))
            due_ms = written[-1].values.get("next_ms")
            if due_ms is not None:
                return _Page(written, due_ms, is_blocked=True)
        return _Page(written, None, is_blocked=False)

    def _deliver(self, row: Mapping[str, Any]) -> Row:
        """Deliver one paper; return the row that says what came of it."""
        key = {"seq": row["seq"], "idx": row["idx"]}
        attempts = row["attempts"] + 1
        try:
            sink = self._sinks.get(row["sink"])
            if sink is None:
                message = f"there is no sink {row['sink']!r}"
                raise Deferred(message)
            sink.deliver(
                [
                    Delivery(
                        id=row["id"],
                        name=row["name"],
                        media=row["media"],
                        body=self._filled(row["body"], row["inserts"]),
                    )
                ]
            )
        except Halt:
            raise
        # Whatever a sink raises, the paper waits on the record and no other sink waits for it.
        except Exception as error:  # noqa: BLE001 - the one that the comment explains
            wait_s = delay_s(RETRY, attempts) or RETRY.max_s
            next_ms = self._clock.now_ms() + int(wait_s * 1000)
            self._messages(
                "delivery.deferred",
                str(error),
                level="warning",
                sink=row["sink"],
                name=row["name"],
                attempts=attempts,
            )
            return Row("paper", {**key, "attempts": attempts, "next_ms": next_ms}, update=True)
        delivered = {"state": "delivered", "delivered_ms": self._clock.now_ms()}
        return Row("paper", {**key, **delivered, "attempts": attempts}, update=True)

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
