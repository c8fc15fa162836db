"""How fast a stream runs: engine runs a second, from tick to published, replay, memory.

    python benchmarks/ticks.py [--pairs N] [--strict]

prints the table. Runs and replays take turns with a plain script that does the same and proves
nothing (`floor_ticks.py`), each in a process of its own. A latency has no such floor: its target is
that of a machine which takes 504,000 events a second as bare blocks, and is longer where that is
slower. One thing by itself, as JSON:

    live SYMBOLS TICKS         runs a second of a history, taken in, planned, recorded, published
    latency SECONDS [beside]   ms from tick to published at 1,000 events/s, 50 symbols
    replay TICKS               runs replayed a second, at 50 symbols, 20 events a cut
    memory EVENTS              resident memory after each tenth of so many events
    plain SYMBOLS TICKS EACH   the floor of `live` and of `replay`

Every store is verified, and its ticks are counted.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import resource
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import floor_ticks
import ingest
import measure

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
#: The most that a tick may take until it is published, on the machine that the target is of.
P99_MS: Final = 20.0
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
    """Run a history flat out, its intake included."""
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


def plain(symbols: int, ticks: int, each: int = 2) -> Mapping[str, Any]:
    """Run the same history by the plain script, and replay it."""
    with scratch() as folder:
        history(folder / "events.jsonl", symbols=symbols, ticks=ticks, each=each)
        floor = floor_ticks.Plain(folder / "plain.db", symbols)
        runs_s = floor.run(folder / "events.jsonl", START_MS, 1000)
        return {"runs_s": runs_s, "replayed_s": floor.replay()}


# ------------------------------------------------------------------------------------- the table


def rows(options: argparse.Namespace, quiet: measure.Quiet) -> Iterator[measure.Row]:
    """Yield the rows of the table: pairs with the plain script, and latencies."""

    def ratio(
        name: str, ours: list[str], floor: list[str], word: str, target: float
    ) -> measure.Row:
        measure.progress(name)
        found = []
        for number in range(options.pairs + 1):
            quiet.wait()
            pair = apart(*ours)["runs_s"], apart(*floor)[word]
            # The first one warms up.
            found += [pair] if number else []
        mine, other = zip(*found, strict=True)
        return measure.Row(name, mine, "runs/s", other, about="ratio", target=target, at_least=True)

    yield ratio(
        "live, 50 symbols", ["live", "50", "200"], ["plain", "50", "200", "2"], "runs_s", 0.3
    )
    yield ratio(
        "live, 2 symbols", ["live", "2", "1000"], ["plain", "2", "1000", "2"], "runs_s", 0.53
    )
    yield ratio("replay", ["replay", "200"], ["plain", "50", "200", "20"], "replayed_s", 0.3)
    for name, more in (("tick to published, p99", []), ("the same beside an intake", ["beside"])):
        measure.progress(name)
        found = []
        for _ in range(options.pairs):
            quiet.wait()
            with scratch() as folder:
                found.append((apart("latency", "20", *more), ingest.slower(folder)))
        slower = statistics.median(times for _, times in found)
        middle = statistics.median(each["p50_ms"] for each, _ in found)
        yield measure.Row(
            name,
            [each["p99_ms"] for each, _ in found],
            "ms",
            target=P99_MS * slower,
            note=f"p50 {middle:.0f} ms; a machine {slower:.1f} x slower than that of the target",
        )


def apart(*words: str) -> dict[str, Any]:
    """Measure in a process of its own."""
    command = [sys.executable, __file__, *words]
    out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    found: dict[str, Any] = json.loads(out.splitlines()[-1])
    return found


def whole(words: list[str]) -> None:
    """Print the table; exit with 1 when a target is missed and that was asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--strict", action="store_true")
    options, quiet = parser.parse_args(words), measure.Quiet()
    with scratch() as folder:
        print(measure.machine(folder))
    found = list(rows(options, quiet))
    print(measure.table(found))
    if quiet.noisy:
        print(f"the machine was not quiet before {quiet.noisy} measurements")
    if options.strict and not all(map(measure.Row.holds, found)):
        sys.exit(1)


def main(words: list[str]) -> None:
    gc.set_threshold(GARBAGE_MIN)
    what, *rest = words or ["--pairs=5"]
    if what.startswith("-"):
        whole(words)
        return
    figures: dict[str, Callable[[], Mapping[str, Any]]] = {
        "live": lambda: live(int(rest[0]), int(rest[1])),
        "latency": lambda: latency(int(rest[0]), beside="beside" in rest),
        "replay": lambda: replay(int(rest[0])),
        "memory": lambda: memory(int(rest[0])),
        "plain": lambda: plain(int(rest[0]), int(rest[1]), int(rest[2])),
    }
    print(json.dumps(figures[what]()))


if __name__ == "__main__":
    main(sys.argv[1:])
