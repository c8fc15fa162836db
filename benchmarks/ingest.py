"""Events a second that a log takes in durably, against the same bytes bare, and against peers.

    python benchmarks/ingest.py [--pairs N] [--events N] [--long] [--strict] [--folder DIR]
    python benchmarks/ingest.py --peers nats redis

Ours decodes each event by its type, hashes, indexes and chains it, and commits with synchronous =
FULL, from one process. The floors keep the same bytes in bare SQLite, as plain blocks or one by
one, with the same synchronous. Ours and the floor take turns and the ratio is taken pair by pair.
What has no floor, the time to read, has a target that is longer on a machine that takes fewer bare
blocks than that of the target did. Peers store the same events in the same run: NATS JetStream from
the package of the tests, Redis Streams when a `redis-server` is on the PATH. 300 bytes an event, 50
symbols.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parents[1]))

import measure

from runwright.adapters.clock import SystemClock
from runwright.adapters.signer import FileSigner, SignerMemory, create_keys
from runwright.adapters.sqlite import SqliteStore
from runwright.kernel.drive.intake import Intake
from runwright.kernel.drive.log import Log, LogLimits
from runwright.kernel.drive.writer import Writer
from runwright.kernel.record.entries import Draft, LedgerOpened
from runwright.streams.decode import Decoder
from runwright.streams.spec import Source

ORIGIN: Final = "example.org/bench"
SYMBOLS: Final = [f"S{number:03}" for number in range(50)]
EVENT: Final = (
    '{"channel":"trades","event_type":"TradeTick","exchange_ts_ms":%d,"normalized":{"price":%r,'
    '"quantity":1.5,"side":"buy"},"raw_payload":"%s","recv_ts_ms":%d,"schema":"raw_market_event",'
    '"schema_version":"1","source_id":"feed","symbol":"%s"}'
)
START_MS: Final = 1_763_632_800_000
NEWEST: Final = 100
#: Events a second as bare blocks of 100, on the machine that the targets are of.
TARGET_BLOCKS_S: Final = 504_000
NEWEST_MS: Final = 5.0


def events(count: int) -> tuple[list[bytes], list[str]]:
    """Return so many events of about 300 bytes, and their symbols."""
    keys = [SYMBOLS[number % len(SYMBOLS)] for number in range(count)]
    return [
        (EVENT % (START_MS + at, 100.0 + at % 50, "x" * 90, START_MS + at, key)).encode()
        for at, key in enumerate(keys)
    ], keys


class Ours:
    """A store with a writer and a log, as a stream has them."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.store = SqliteStore(folder / "store.db", create=True)
        keys = create_keys(folder / "keys", ORIGIN)
        signer = FileSigner(folder / "keys", SignerMemory(folder / "memory", "00" * 8), ORIGIN)
        self.clock = SystemClock()
        self.writer = Writer(self.store, clock=self.clock, signer=signer)
        body = LedgerOpened(
            ledger="00" * 8, seal_key=keys.seal.text(), bundle_key=keys.bundle, product="bench"
        )
        self.writer.commit([Draft(body=body)])
        self.log = self.open()
        self.decoder = Decoder.of(Source(source_id="feed", symbols=tuple(SYMBOLS)))

    def open(self) -> Log:
        """Open the log as a new start does."""
        limits = LogLimits(max_records=100_000_000)
        return Log(self.store, "bench", limits=limits, clock=self.clock, commit=self.writer.commit)

    def take(self, items: Sequence[bytes], each: int) -> float:
        """Decode and append events, so many a commit; return events a second."""
        began, log, decode = time.perf_counter(), self.log, self.decoder.decode
        for start in range(0, len(items), each):
            found = decode(items[start : start + each], START_MS)
            log.append(found.items, found.keys, None, {"feed": start})
            log.seal()
        return len(items) / (time.perf_counter() - began)

    def put(self, items: Sequence[bytes], keys: Sequence[str]) -> float:
        """Put events one by one; return events a second."""
        began = time.perf_counter()
        with Intake(self.log) as intake:
            put = intake.put
            for item, key in zip(items, keys, strict=True):
                put(item, key)
        return len(items) / (time.perf_counter() - began)

    def batches(self, items: Sequence[bytes], keys: Sequence[str], each: int) -> float:
        """Append batches that the caller made; return events a second."""
        began = time.perf_counter()
        for start in range(0, len(items), each):
            self.log.append(items[start : start + each], keys[start : start + each])
        return len(items) / (time.perf_counter() - began)


class Bare:
    """A table in SQLite: the bytes, and nothing that says or proves anything of them."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute("CREATE TABLE block (id INTEGER PRIMARY KEY, body BLOB NOT NULL)")

    def take(self, items: Sequence[bytes], each: int) -> float:
        """Keep events, so many a commit; return events a second."""
        began, db = time.perf_counter(), self._db
        for start in range(0, len(items), each):
            body = b"".join(items[start : start + each])
            db.execute("BEGIN IMMEDIATE")
            db.execute("INSERT INTO block (body) VALUES (?)", (body,))
            db.execute("COMMIT")
        return len(items) / (time.perf_counter() - began)


def turns(
    count: int, quiet: measure.Quiet, ours: Callable[[], float], floor: Callable[[], float]
) -> tuple[list[float], list[float]]:
    """Return the rates of A B A B …, after one pair that warms up."""
    ours(), floor()
    pairs = []
    for _ in range(count):
        quiet.wait()
        pairs.append((ours(), floor()))
    one, other = zip(*pairs, strict=True)
    return list(one), list(other)


def ingest(folder: Path, options: argparse.Namespace, quiet: measure.Quiet) -> list[measure.Row]:
    """Return the rows about taking events in."""
    items, keys = events(options.events)
    few = items[: max(200, options.events // 50)]
    ours, bare = Ours(folder / "ours"), Bare(folder / "bare.db")

    def row(name: str, pair: tuple[list[float], list[float]], target: float) -> measure.Row:
        return measure.Row(
            name, pair[0], "events/s", pair[1], about="ratio", target=target, at_least=True
        )

    measure.progress("100 a commit")
    whole = turns(
        options.pairs, quiet, lambda: ours.take(items, 100), lambda: bare.take(items, 100)
    )
    measure.progress("1 a commit")
    single = turns(options.pairs, quiet, lambda: ours.take(few, 1), lambda: bare.take(few, 1))
    measure.progress("one-event API")
    door = turns(
        options.pairs,
        quiet,
        lambda: ours.put(items, keys),
        lambda: ours.batches(items, keys, 100),
    )
    return [
        row("100 a commit, against plain blocks", whole, 0.4),
        row("1 a commit, against a commit", single, 0.6),
        row("one event a call, against batches", door, 0.75),
    ]


def slower(folder: Path) -> float:
    """Return how many times slower this machine is than that of the targets; 1.0: it is not."""
    items, _ = events(50_000)
    bare = Bare(folder / "slower.db")
    return max(1.0, TARGET_BLOCKS_S / max(bare.take(items, 100) for _ in range(3)))


def newest(folder: Path, options: argparse.Namespace) -> list[measure.Row]:
    """Return the rows about reading the newest events of one symbol."""
    most_ms = NEWEST_MS * slower(folder)
    items, keys = events(100_000)
    ours = Ours(folder / "long")
    # Durability is not what is measured here.
    ours.store._db.execute("PRAGMA synchronous = OFF")  # noqa: SLF001
    rows: list[measure.Row] = []
    for size in [100_000, 1_000_000, *([10_000_000] if options.long else [])]:
        measure.progress(f"newest {NEWEST} of {size:,}")
        while ours.log.last_seq < size:
            ours.batches(items, keys, 100)
            ours.log.seal()
        log, times = ours.open(), []
        for symbol in SYMBOLS:
            began = time.perf_counter()
            found = log.newest(symbol, NEWEST)
            times.append((time.perf_counter() - began) * 1000)
            if len(found) != NEWEST or found[-1].key != symbol:
                raise SystemExit(f"newest of {symbol} is wrong")
        first = rows[0].ours if rows else times
        rows.append(
            measure.Row(
                f"newest {NEWEST} of one symbol of {size:,}",
                times,
                "ms",
                note=f"{statistics.median(times) / statistics.median(first):.2f} x the first",
                target=most_ms,
            )
        )
    return rows


# ----------------------------------------------------------------------------------------- peers


def nats(folder: Path, items: Sequence[bytes], sync: str) -> float:
    """Publish with a window of 100 that are not acknowledged; return events a second."""
    from nats.aio.client import Client

    port = _free_port()
    conf = folder / "nats.conf"
    conf.write_text(
        f'listen: "127.0.0.1:{port}"\n'
        f'jetstream {{ store_dir: "{folder}/jetstream", sync_interval: {sync} }}\n'
    )
    program = shutil.which("nats-server") or str(Path(sys.executable).with_name("nats-server"))

    async def publish() -> float:
        client = Client()
        await client.connect(f"nats://127.0.0.1:{port}")
        stream = client.jetstream()
        await stream.add_stream(name="bench", subjects=["bench.>"])
        began = time.perf_counter()
        for start in range(0, len(items), 100):
            chunk = items[start : start + 100]
            await asyncio.gather(*(stream.publish("bench.all", item) for item in chunk))
        rate = len(items) / (time.perf_counter() - began)
        await client.close()
        return rate

    with _server([program, "-c", str(conf)], port):
        return asyncio.run(publish())


def redis(folder: Path, items: Sequence[bytes], sync: str) -> float:
    """Add to a stream, 100 commands to a pipeline; return events a second."""
    program = shutil.which("redis-server")
    if program is None:
        return 0.0
    port = _free_port()
    argv = [program, "--port", str(port), "--dir", str(folder), "--save", ""]
    argv += ["--appendonly", "yes", "--appendfsync", sync]
    with _server(argv, port), socket.create_connection(("127.0.0.1", port)) as link:
        answers = link.makefile("rb")
        began = time.perf_counter()
        for start in range(0, len(items), 100):
            chunk = items[start : start + 100]
            link.sendall(
                b"".join(
                    b"*5\r\n$4\r\nXADD\r\n$5\r\nbench\r\n$1\r\n*\r\n$1\r\ne\r\n$%d\r\n%s\r\n"
                    % (len(item), item)
                    for item in chunk
                )
            )
            for _ in chunk:
                if not answers.readline().startswith(b"$"):
                    raise SystemExit("redis refused an event")
                answers.readline()
        return len(items) / (time.perf_counter() - began)


@contextmanager
def _server(argv: Sequence[str], port: int) -> Iterator[None]:
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", port), 0.1).close()
                break
            except OSError:
                time.sleep(0.05)
        yield
    finally:
        process.kill()
        process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


#: Peer -> how it is asked, durably at each acknowledgement and as it is by default; and how many
#: times as fast ours is to be where both are durable.
PEERS: Final[dict[str, tuple[Callable[..., float], dict[str, str], float]]] = {
    "nats": (nats, {"always": "always", "default": '"2m"'}, 2.0),
    "redis": (redis, {"always": "always", "everysec": "everysec"}, 1.0),
}


def peers(folder: Path, options: argparse.Namespace, quiet: measure.Quiet) -> list[measure.Row]:
    """Return the rows about peers; ours, durable at 100 a commit, is measured beside each."""
    items, _ = events(options.events // 2)
    rows = []
    for name in options.peers:
        run, levels, target = PEERS[name]
        for level, sync in levels.items():
            measure.progress(f"{name} {level}")
            ours, theirs = [], []
            for number in range(options.pairs):
                place = folder / f"{name}-{level}-{number}"
                place.mkdir()
                quiet.wait()
                ours.append(Ours(place / "ours").take(items, 100))
                theirs.append(run(place, items, sync))
            if not all(theirs):
                measure.progress(f"{name} is not installed: nothing was measured")
                break
            is_equal = level == "always"
            rows.append(
                measure.Row(
                    f"{name}, {level}",
                    ours,
                    "events/s",
                    theirs,
                    about="ratio",
                    target=target if is_equal else 0.0,
                    at_least=True,
                    note="" if is_equal else "not durable when it acknowledges",
                )
            )
    return rows


def main() -> None:
    """Measure, print the table, and say by the status whether every target is reached."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--events", type=int, default=50_000)
    parser.add_argument("--long", action="store_true", help="ten million records too")
    parser.add_argument("--strict", action="store_true")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--peers", nargs="*", choices=list(PEERS), default=None)
    options = parser.parse_args()
    quiet = measure.Quiet()
    with tempfile.TemporaryDirectory(dir=options.folder) as made:
        folder = Path(made)
        print(measure.machine(folder))
        if options.peers is None:
            rows = [*ingest(folder, options, quiet), *newest(folder, options)]
        else:
            options.peers = options.peers or list(PEERS)
            rows = peers(folder, options, quiet)
    print(measure.table(rows))
    if quiet.noisy:
        print(f"the machine was not quiet before {quiet.noisy} of the pairs")
    if options.strict and not all(map(measure.Row.holds, rows)):
        sys.exit(1)


if __name__ == "__main__":
    main()
