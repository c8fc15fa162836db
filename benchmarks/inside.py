"""What is measured inside a running process; each answer is one line of JSON.

python inside.py size PROJECT                      how many entries its store holds
python inside.py warm PROJECT                      cycles, as many as each line of input says
python inside.py append PROJECT BATCH COUNT HOW    rates of ours and of bare rows
python inside.py fill PROJECT ENTRIES              a record of pure rounds that verifies
python inside.py verify PROJECT                    seconds to verify it, and to chain it only
python inside.py grow PROJECT ENTRIES              a ledger of single entries, for proofs
python inside.py proof PROJECT COUNT               ms of inclusion proofs
python inside.py knock PROJECT COUNT               ms from a request to its first start
"""

from __future__ import annotations

import gc
import hashlib
import json
import os
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec
import pure_rounds

from runwright.adapters.sqlite import SqliteStore
from runwright.bootstrap.bells import bell_path, ring
from runwright.bootstrap.conducting import conducting
from runwright.bootstrap.project import clock, open_store, origin_of, signer
from runwright.cli.main import GARBAGE_MIN
from runwright.config import Loaded, load
from runwright.kernel.drive.conductor import Conductor
from runwright.kernel.drive.requests import RunBody
from runwright.kernel.drive.telemetry import silent
from runwright.kernel.drive.writer import Writer
from runwright.kernel.ports import Request
from runwright.kernel.record import ledger
from runwright.kernel.record.entries import Draft, Header, RunFinished, RunStarted, decode
from runwright.kernel.run import Requested, Resources

#: Runs of a pure round.
ROUND: Final = 1_000


def size(project: Path) -> None:
    """Print how many entries there are."""
    store = open_store(_loaded(project), read_only=True)
    print(store.size())


def warm(project: Path) -> None:
    """Conduct cycles in one process and count the commits of each."""
    commits = 0
    commit = SqliteStore.commit

    def counted(store: SqliteStore, batch: Any) -> None:
        nonlocal commits
        commits += 1
        commit(store, batch)

    wished = "warm: " in (project / "three.yaml").read_text()
    SqliteStore.commit = counted  # type: ignore[method-assign]
    made = conducting(_loaded(project), messages=silent, continuous=True)
    with made as (conductor, ports):
        for line in sys.stdin:
            if line.strip() == "commits":
                print(json.dumps([commits]), flush=True)
                continue
            times = []
            for _ in range(int(line)):
                commits = 0
                began = time.perf_counter()
                tick = Requested(id=os.urandom(8).hex(), planned_ms=ports.clock.now_ms())
                result = conductor.conduct("cycles", "three", tick)
                # As the loop that serves requests does.
                conductor.outbox.pump(later=True)
                times.append((time.perf_counter() - began) * 1000)
                if result.outcomes != {"done": 3}:
                    raise SystemExit(f"a cycle ended with {result.outcomes}")
                if wished and not _all_warm(ports.store):
                    raise SystemExit("a cycle that was to be warm was not")
            print(json.dumps(times), flush=True)


def _all_warm(store: SqliteStore) -> bool:
    """Say whether all of the newest cycle started warm."""
    bodies = [decode(row.raw).body for row in store.entries(store.size() - 10)]
    ended = [body for body in bodies if isinstance(body, RunFinished)][-3:]
    return all(body.warmth is not None and body.warmth.state == "warm" for body in ended)


def append(project: Path, batch: str, count: str, how: str) -> None:
    """Append entries of about 400 bytes, and as many bare rows of the same bytes."""
    each, total = int(batch), int(count)
    drafts = [_draft(number) for number in range(total)]
    gc.freeze()
    with _writer(project) as (writer, store):
        before = store.size()
        began = time.perf_counter()
        for start in range(0, total, each):
            writer.commit(drafts[start : start + each])
            wait_s = writer.wait_before_seal_s()
            if how == "at-once" or (wait_s is not None and wait_s <= 0):
                writer.seal()
        ours = total / (time.perf_counter() - began)
        written = [(row.seq, row.raw) for row in store.entries(before)]
    floor = _bare_rows(project / "bare.db", written, each)
    length = sum(len(raw) for _, raw in written) / total
    print(json.dumps({"ours": ours, "floor": floor, "bytes": length}))


def _bare_rows(path: Path, rows: list[tuple[int, bytes]], each: int) -> float:
    path.unlink(missing_ok=True)
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    database.execute("CREATE TABLE row (seq INTEGER PRIMARY KEY, raw BLOB NOT NULL)")
    began = time.perf_counter()
    for start in range(0, len(rows), each):
        database.execute("BEGIN IMMEDIATE")
        database.executemany("INSERT INTO row VALUES (?, ?)", rows[start : start + each])
        database.execute("COMMIT")
    rate = len(rows) / (time.perf_counter() - began)
    database.close()
    return rate


def fill(project: Path, entries: str) -> None:
    """Fill a record with pure rounds until it has so many entries."""
    spec = msgspec.json.encode({"kind": "pure", "name": "fill"})
    with conducting(_loaded(project), messages=silent) as (_, ports):
        mine = ports._replace(workloads={"pure": pure_rounds.WORKLOAD}, codes={"pure": "0" * 64})
        conductor = Conductor(mine)
        while ports.store.size() < int(entries):
            now_ms = ports.clock.now_ms()
            tick = Requested(id=os.urandom(8).hex(), planned_ms=now_ms, args={"runs": ROUND})
            conductor.conduct("pure", "fill", tick, inline=spec)
    size(project)


def verify(project: Path) -> None:
    """Verify a store without the canonical lint; print the entries, the seconds, and if it held."""
    from runwright.kernel.record.bundle import public_keys
    from runwright.kernel.record.verify import Evidence
    from runwright.kernel.record.verify import verify as check

    loaded = _loaded(project)
    store = open_store(loaded, read_only=True)
    origin = origin_of(store)
    folder = loaded.path(loaded.settings.signer.keys)
    keys = public_keys([file.read_text() for file in folder.glob("*.pub.pem")], origin)
    began = time.perf_counter()
    evidence = Evidence(
        entries=store.entries(),
        seals=store.seals(),
        blob=store.blob,
        keys=keys.seal,
        origin=origin,
        tiles=store.tiles,
    )
    report = check(evidence, lint=False)
    took_s = time.perf_counter() - began
    found = {"entries": store.size(), "seconds": took_s, "held": report.held}
    print(json.dumps({**found, "floor_seconds": _bare_chain(store)}))


def _bare_chain(store: SqliteStore) -> float:
    """Return the seconds to read every entry, decode its header, hash it and follow the chain."""
    header = msgspec.json.Decoder(Header)
    prev = "0" * 64
    began = time.perf_counter()
    for stored in store.entries():
        if header.decode(stored.raw).prev != prev:
            raise SystemExit(f"the chain breaks at {stored.seq}")
        prev = hashlib.sha256(b"\0" + stored.raw).hexdigest()
    return time.perf_counter() - began


def grow(project: Path, entries: str) -> None:
    """Append single entries until there are so many."""
    with _writer(project) as (writer, store):
        drafts = [_draft(number) for number in range(1_000)]
        while store.size() < int(entries):
            writer.commit(drafts)
        writer.seal()
    size(project)


def proof(project: Path, count: str) -> None:
    """Make inclusion proofs all over the ledger, and check each."""
    store = open_store(_loaded(project), read_only=True)
    total = store.size()
    root = ledger.head_of(store.tiles, total).root()
    times = []
    for number in range(int(count)):
        seq = (number * 7_368_787 + 11) % total
        began = time.perf_counter()
        path = ledger.inclusion_proof(store.tiles, seq, total)
        times.append((time.perf_counter() - began) * 1000)
        (leaf,) = store.tiles(0, seq, seq + 1)
        if not ledger.check_inclusion(leaf, seq, total, path, root):
            raise SystemExit(f"the proof of {seq} does not hold")
    print(json.dumps(times))


def knock(project: Path, count: str) -> None:
    """Submit requests to a running conductor; print the ms until the first run of each started."""
    loaded = _loaded(project)
    store = open_store(loaded)
    body = msgspec.json.encode(RunBody(kind="cycles", name="three"))
    times = []
    for _ in range(int(count)):
        first = store.size()
        asked_ms = clock().now_ms()
        asked = Request(id=os.urandom(16).hex(), kind="run", body=body, created_ms=asked_ms, by="")
        store.submit(asked)
        ring(bell_path(loaded))
        until = time.monotonic() + 60
        while store.rows("request", {"id": asked.id})[0]["state"] == "open":
            if time.monotonic() > until:
                raise SystemExit("the conductor did not answer")
            time.sleep(0.02)
        started = (decode(row.raw) for row in store.entries(first))
        times.append(next(e.ts for e in started if isinstance(e.body, RunStarted)) - asked_ms)
        # Let it fall idle again.
        time.sleep(1.5)
    print(json.dumps(times))


def _loaded(project: Path) -> Loaded:
    return load(os.environ, start=project)


@contextmanager
def _writer(project: Path) -> Iterator[tuple[Writer, SqliteStore]]:
    loaded = _loaded(project)
    store = open_store(loaded)
    writer = Writer(store, clock=clock(), signer=signer(loaded, store))
    try:
        yield writer, store
    finally:
        writer.close()
        store.close()


def _draft(number: int) -> Draft:
    body = RunFinished(
        key=f"function-{number % 300}",
        status="done",
        attempts=1,
        started_ms=1_700_000_000_000 + number,
        finished_ms=1_700_000_000_014 + number,
        used=Resources(duration_ms=14, cpu_ms=13, peak_kib=11_264, exit=0),
    )
    return Draft(body=body, run=f"{number:064x}", n=1)


if __name__ == "__main__":
    # As every command does.
    gc.set_threshold(GARBAGE_MIN)
    what, folder, *words = sys.argv[1:]
    globals()[what](Path(folder), *words)
