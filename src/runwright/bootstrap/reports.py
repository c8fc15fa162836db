"""What is told of a stream: its health and metrics, its runs and rows, its next ticks."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from runwright.bootstrap.project import ProjectStore, clock
from runwright.bootstrap.streams import KIND, papers, reading, spec_of, state_path
from runwright.config import Loaded
from runwright.kernel.run import instant_text


def health(loaded: Loaded, store: ProjectStore, name: str) -> Mapping[str, Any]:
    """Return the state of a stream as its process keeps it; of one that is not alive, the last.

    Raises: unknown-name.
    """
    spec_of(store, name)
    file = state_path(loaded, name)
    found = msgspec.json.decode(file.read_bytes()) if file.exists() else dict(_NEVER)
    is_alive = found["pid"] > 0 and bool(store.holder()) and _lives(found["pid"])
    if not is_alive:
        found["ready"] = False
        # One that died without a word was running when it was heard of last.
        found["state"] = "stopped" if found["state"] in ("running", "drained") else found["state"]
    return {"stream": name, "alive": is_alive, **found}


_NEVER: Final[Mapping[str, Any]] = {
    "pid": 0,
    "at_ms": 0,
    "state": "init",
    "ready": False,
    "ingestion_paused": False,
    "scheduling_paused": False,
    "domains": {"ingest": "ok", "buffer": "ok", "engine": "ok", "publish": "ok"},
    "counters": [],
    "gauges": {},
    "quantiles": [],
}


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def metrics_text(loaded: Loaded, store: ProjectStore, name: str) -> str:
    """Return the metrics of a stream as Prometheus text. Raises: unknown-name."""
    from runwright.kernel.drive.health import Metrics  # lazy: only who scrapes

    found = health(loaded, store, name)
    gauges = {
        **found["gauges"],
        "ready": float(found["ready"]),
        "up": float(found["alive"]),
    }
    return Metrics().text({**found, "gauges": gauges}, name)


def listing(loaded: Loaded, store: ProjectStore) -> list[dict[str, Any]]:
    """Return the streams of a project, a row each."""
    rows = []
    for found in store.rows("spec", {"kind": KIND}, order="name"):
        name = found["name"]
        ticks = store.rows(
            "tick",
            {"kind": KIND, "name": name, "scheduled": 1},
            columns=("last_ms", "count"),
            order="-last_ms",
        )
        last = instant_text(ticks[0]["last_ms"]) if ticks else ""
        rows.append(
            {
                "name": name,
                "state": health(loaded, store, name)["state"],
                "records": reading(store, name).last_seq,
                "ticks": sum(row["count"] for row in ticks),
                "last": last,
                "published": sum(body.count(b"\n") for _, body in papers(store, name)),
            }
        )
    return rows


def overview(
    loaded: Loaded, store: ProjectStore, name: str, symbol: str, limit: int
) -> Mapping[str, Any]:
    """Return where a stream stands and its newest runs. Raises: unknown-name."""
    state, log = health(loaded, store, name), reading(store, name)
    return {
        "name": name,
        "health": state,
        "log": {
            "records": log.last_seq - log.retired_seq,
            "last_seq": log.last_seq,
            "retired_through": log.retired_seq,
            "unsealed": log.unsealed,
        },
        "runs": list(_newest_runs(store, name, symbol, limit)),
    }


def _newest_runs(
    store: ProjectStore, name: str, symbol: str, limit: int
) -> Iterator[dict[str, Any]]:
    for record in records(store, name, symbol, limit):
        first, last = record["cut_start_ingest_seq"], record["cut_end_ingest_seq"]
        yield {
            **record,
            "tick": instant_text(record["engine_timestamp_ms"]),
            "cut": f"{first}..{last}" if first <= last else "empty",
        }


def records(
    store: ProjectStore, name: str, symbol: str = "", limit: int = 0
) -> Iterator[dict[str, Any]]:
    """Yield EngineRunRecords v1, newest tick first, derived from the ledger."""
    from runwright.kernel.drive.recall import recall  # lazy: only who looks at runs
    from runwright.streams.records import run_records  # lazy: as above

    rows = store.rows(
        "round",
        {"kind": KIND, "name": name},
        columns=("seq", "judged_seq"),
        order="-seq",
        limit=limit,
    )
    count = 0
    for row in rows:
        stop = None if row["judged_seq"] is None else row["judged_seq"] + 1
        for record in run_records(recall(store, row["seq"], stop)):
            if symbol in ("", record["symbol"]):
                yield record
                count += 1
            if count == limit:
                return


def rows_of(
    store: ProjectStore, name: str, what: str, symbol: str, limit: int
) -> Iterator[Mapping[str, Any]]:
    """Yield rows of one of the frozen contracts. Raises: unknown-name."""
    spec_of(store, name)
    if what == "records":
        yield from records(store, name, symbol, limit)
    elif what == "inputs":
        yield from inputs(store, name, symbol, limit)
    else:
        for row in store.rows("lane", {"kind": KIND, "name": name}, order="lane"):
            memory = msgspec.json.decode(row["memory"])
            if symbol in ("", row["lane"]) and "state" in memory:
                yield {
                    "symbol": row["lane"],
                    "engine_timestamp_ms": memory["state_ms"],
                    "state": msgspec.Raw(memory["state"].encode()),
                }


def inputs(store: ProjectStore, name: str, symbol: str, limit: int) -> Iterator[Mapping[str, Any]]:
    """Yield the newest RawInputBufferRecords v1 in order, with the hashes that derive from blocks.

    Raises: unknown-name.
    """
    log = reading(store, name)
    if symbol:
        seqs = [record.seq for record in log.newest(symbol, limit)]
    else:
        seqs = list(range(max(log.retired_seq + 1, log.last_seq - limit + 1), log.last_seq + 1))
    wanted = set(seqs)
    for found in log.derived(seqs[0], seqs[-1]) if seqs else ():
        if found.ingest_seq in wanted:
            yield {
                "ingest_seq": found.ingest_seq,
                "ingest_ts_ms": found.ingest_ts_ms,
                "event": msgspec.Raw(found.data),
                "event_sha256": found.event_sha256,
                "prev_hash": found.prev_hash,
                "record_hash": found.record_hash,
            }


def next_ticks(store: ProjectStore, name: str, count: int) -> list[dict[str, Any]]:
    """Return the next planned ticks of a stream; none before the first event of history.

    Raises: unknown-name.
    """
    from runwright.streams.flow import flow_of  # lazy: only who looks ahead

    spec = spec_of(store, name)
    (row,) = store.rows("spec", {"kind": KIND, "name": name})
    last = store.rows(
        "tick", {"kind": KIND, "name": name, "scheduled": 1}, order="-last_ms", limit=1
    )
    flow, last_ms = flow_of(spec), last[0]["last_ms"] if last else None
    if spec.scheduler.time == "events" and not row["opened_ms"]:
        return []
    opened_ms = row["opened_ms"] or clock().now_ms()
    found = []
    for _ in range(count):
        last_ms = flow.next_ms(last_ms, opened_ms)
        engine_ms = last_ms - spec.scheduler.boundary_delay_ms
        found.append(
            {
                "planned_ts_ms": last_ms,
                "engine_timestamp_ms": engine_ms,
                "planned": instant_text(last_ms),
                "engine": instant_text(engine_ms),
            }
        )
    return found
