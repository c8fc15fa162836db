"""How fast a stream runs: engine runs a second, from tick to published, replay, memory.

python ticks.py live SYMBOLS TICKS         runs a second of history, planned, recorded, published
python ticks.py latency SECONDS [beside]   ms from tick to published at 1,000 events/s, 50 symbols
python ticks.py replay TICKS               runs replayed a second, at 50 symbols, 20 events a cut
python ticks.py memory EVENTS              resident memory after each tenth of so many events

Without words: all of it, as a table. Every store is verified, and its ticks are counted.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from runwright.bootstrap import replays, streams
from runwright.bootstrap.streaming import streaming
from runwright.cli.main import GARBAGE_MIN
from runwright.config import load
from runwright.kernel.drive.lifecycle import Stop
from runwright.kernel.drive.telemetry import silent

START_MS: Final = 1_763_632_800_000
#: The events have about 300 bytes.
EVENT: Final = (
    '{"channel":"trades","event_type":"TradeTick","exchange_ts_ms":%d,"normalized":{"price":%r,'
    '"quantity":1.5,"side":"buy"},"raw_payload":"%s","recv_ts_ms":%d,"schema":"raw_market_event",'
    '"schema_version":"1","source_id":"feed","symbol":"S%03d"}'
)
PAYLOAD: Final = "x" * 90
SPEC: Final = """\
kind: streams
name: bench
sources: {sources}
scheduler: {{mode: boundary, boundary_interval_ms: {interval}, time: {time}}}
engine: {{ref: "runwright.streams.engines.echo:engine", alignment_ms: {interval}, input: events,
  isolation: inline, determinism_check: "off"}}
"""


def event(symbol: int, at_ms: int, number: int) -> str:
    return EVENT % (at_ms, 100.0 + number % 50, PAYLOAD, at_ms, symbol)


def history(path: Path, *, symbols: int, ticks: int, each: int, interval: int = 1000) -> None:
    """Write events: so many of each symbol before each tick."""
    with path.open("w", encoding="ascii") as file:
        for tick in range(ticks):
            for number in range(each):
                at_ms = START_MS + tick * interval + 1 + number * (interval - 2) // each
                for symbol in range(symbols):
                    file.write(event(symbol, at_ms, number) + "\n")


def names(symbols: int) -> str:
    return "[" + ", ".join(f"S{symbol:03}" for symbol in range(symbols)) + "]"


def project(folder: Path, spec: str) -> None:
    """Make a project with the stream `bench`."""
    (folder / "bench.yaml").write_text(spec, encoding="ascii")
    for words in (["init", "--name", "bench"], ["apply", "bench.yaml"]):
        command = [sys.executable, "-m", "runwright", *words]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)


def of_history(folder: Path, *, symbols: int, ticks: int, each: int) -> None:
    history(folder / "events.jsonl", symbols=symbols, ticks=ticks, each=each)
    sources = "[" + of_file("feed", "events.jsonl", symbols) + "]"
    project(folder, SPEC.format(sources=sources, interval=1000, time="events"))


def of_file(name: str, path: str, symbols: int) -> str:
    """Return a source that reads a file."""
    file = f"{{path: {path}, format: jsonl}}"
    return f"{{source_id: {name}, symbols: {names(symbols)}, file: {file}}}"


def live(symbols: int, ticks: int, each: int = 2) -> Mapping[str, Any]:
    """Run a history flat out; the events are in the log before the clock starts."""
    with scratch() as folder:
        of_history(folder, symbols=symbols, ticks=ticks, each=each)
        loaded = load(os.environ, start=folder)
        commits = counted_commits()
        with streaming(loaded, "bench", messages=silent, stop=Stop()) as it:
            began, cpu = time.perf_counter(), time.process_time()
            it.run()
            took, cpu = time.perf_counter() - began, time.process_time() - cpu
            done = it.summary()
        if done["completed"] != symbols * ticks:
            raise SystemExit(f"{done} is not {symbols * ticks} runs")
        verified(folder)
        return {
            "runs_s": done["completed"] / took,
            "ms_per_tick": 1000 * took / ticks,
            "cpu_ms_per_tick": 1000 * cpu / ticks,
            "commits_per_tick": commits[0] / ticks,
            "events": symbols * ticks * each,
        }


def counted_commits() -> list[int]:
    """Count the commits of every store from now on."""
    from runwright.adapters.sqlite import SqliteStore

    commits, commit = [0], SqliteStore.commit

    def counted(store: SqliteStore, batch: Any) -> None:
        commits[0] += 1
        commit(store, batch)

    SqliteStore.commit = counted  # type: ignore[method-assign]
    return commits


def latency(seconds: int, *, beside: bool) -> Mapping[str, Any]:
    """Feed 1,000 events a second by a pipe; with `beside` another source catches up flat out."""
    with scratch() as folder:
        reading, writing = os.pipe()
        sources = [f"{{source_id: feed, symbols: {names(50)}, stdin: {{format: jsonl}}}}"]
        if beside:
            history(folder / "old.jsonl", symbols=50, ticks=100 * seconds, each=20)
            sources.append(of_file("old", "old.jsonl", 50))
        spec = SPEC.format(sources="[" + ", ".join(sources) + "]", interval=100, time="clock")
        project(folder, spec)
        os.dup2(reading, 0)
        stop, latencies = Stop(), list[float]()
        loaded = load(os.environ, start=folder)
        with streaming(loaded, "bench", messages=silent, stop=stop) as it:
            observe = it.health.observe

            def observed(metric: str, value_ms: float) -> None:
                if metric == "publish.latency_ms":
                    latencies.append(value_ms)
                observe(metric, value_ms)

            it.health.observe = observed  # type: ignore[method-assign]
            feeder = threading.Thread(target=feed, args=(writing, seconds, stop))
            feeder.start()
            it.run()
            feeder.join()
            done = it.summary()
        latencies = sorted(latencies[5:])
        bare = bare_commits(folder / "bare.db")
        verified(folder)
        return {
            "p50_ms": latencies[len(latencies) // 2],
            "p99_ms": latencies[int(len(latencies) * 0.99)],
            "max_ms": latencies[-1],
            "ticks": len(latencies),
            "records": done["records"],
            "five_bare_commits_ms": 5 * bare,
        }


def feed(descriptor: int, seconds: int, stop: Stop) -> None:
    """Write 1,000 events a second, 50 at once, then ask the stream to stop."""
    began = time.monotonic()
    for step in range(seconds * 20):
        at_ms = int(time.time() * 1000)
        lines = "".join(event(number, at_ms, step) + "\n" for number in range(50))
        os.write(descriptor, lines.encode())
        time.sleep(max(0.0, began + (step + 1) / 20 - time.monotonic()))
    stop.ask()


def bare_commits(path: Path, count: int = 200) -> float:
    """Return the ms of a durable commit of one row."""
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    database.execute("CREATE TABLE row (raw BLOB)")
    began = time.perf_counter()
    for _ in range(count):
        database.execute("INSERT INTO row VALUES (zeroblob(300))")
    took = time.perf_counter() - began
    database.close()
    return 1000 * took / count


def replay(ticks: int, symbols: int = 50, each: int = 20) -> Mapping[str, Any]:
    """Run a history, then replay it."""
    with scratch() as folder:
        of_history(folder, symbols=symbols, ticks=ticks, each=each)
        loaded = load(os.environ, start=folder)
        with streaming(loaded, "bench", messages=silent, stop=Stop()) as it:
            it.run()
        gc.collect()
        with streams.looking(loaded) as store:
            began, cpu = time.perf_counter(), time.process_time()
            found = replays.replay(store, "bench", lambda *_: None)
            took, cpu = time.perf_counter() - began, time.process_time() - cpu
        if found["executed"] != symbols * ticks or found["different"]:
            raise SystemExit(f"the replay came to {found}")
        return {"runs_s": found["runs"] / took, "runs_cpu_s": found["runs"] / cpu}


def memory(events: int) -> Mapping[str, Any]:
    """Run a long history in a process of its own, and look at its memory on the way."""
    with scratch() as folder:
        of_history(folder, symbols=50, ticks=events // 1000, each=20)
        loaded, seen = load(os.environ, start=folder), list[float]()
        with streaming(loaded, "bench", messages=silent, stop=Stop()) as it:
            it.watch = lambda _: seen.append(resident_mib())
            it.run()
        tenths = [seen[len(seen) * index // 10] for index in range(10)] if len(seen) > 9 else seen
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        return {"resident_mib": [round(value, 1) for value in tenths], "peak_mib": round(peak, 1)}


def resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1024**2


def verified(folder: Path) -> None:
    command = [sys.executable, "-m", "runwright", "verify", "--store", "--no-lint"]
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)


class scratch:  # noqa: N801 - read as a word
    """A folder of its own, with the signer's memory in it."""

    def __enter__(self) -> Path:
        self._made = tempfile.TemporaryDirectory(prefix="ticks-")
        folder = Path(self._made.name)
        os.environ["XDG_STATE_HOME"] = str(folder / "state")
        return folder

    def __exit__(self, *ignored: object) -> None:
        self._made.cleanup()


#: What is measured when nothing is named, each in a process of its own.
ALL: Final = (
    ("live", "50", "200"),
    ("live", "2", "1000"),
    ("latency", "10"),
    ("latency", "10", "beside"),
    ("replay", "200"),
)


def table() -> Iterator[str]:
    for words in ALL:
        command = [sys.executable, __file__, *words]
        out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        figures = json.loads(out.splitlines()[-1])
        shown = "  ".join(
            f"{name} {value:,.1f}" if isinstance(value, float) else f"{name} {value:,}"
            for name, value in figures.items()
        )
        yield f"{' '.join(words):20}  {shown}"


def main(words: list[str]) -> None:
    gc.set_threshold(GARBAGE_MIN)
    if not words:
        for line in table():
            print(line, flush=True)
        return
    what, *rest = words
    if what == "live":
        print(json.dumps(live(int(rest[0]), int(rest[1]))))
    elif what == "latency":
        print(json.dumps(latency(int(rest[0]), beside="beside" in rest)))
    elif what == "replay":
        print(json.dumps(replay(int(rest[0]))))
    else:
        print(json.dumps(memory(int(rest[0]))))


if __name__ == "__main__":
    main(sys.argv[1:])
