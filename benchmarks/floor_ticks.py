"""A plain script that runs a stream: what a tick costs that nobody has to prove.

It keeps each event and each run in bare SQLite with synchronous = FULL, writes the runs of a tick
down before they start and what came of them after, calls the same engine on the same events, and
appends what it publishes to a table. No digest, chain, seal, lane, crash or criterion.
"""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Final

import msgspec

from runwright.streams.engine import EngineInput, Events
from runwright.streams.engines.echo import engine

#: Events taken in with one commit.
BLOCK: Final = 1_000
SCHEMA: Final = """
    CREATE TABLE event (seq INTEGER PRIMARY KEY, symbol TEXT NOT NULL, raw BLOB NOT NULL);
    CREATE INDEX event_symbol ON event (symbol, seq);
    CREATE TABLE run (
        id INTEGER PRIMARY KEY, tick INTEGER NOT NULL, symbol TEXT NOT NULL,
        first INTEGER NOT NULL, last INTEGER NOT NULL, output TEXT
    );
    CREATE TABLE published (seq INTEGER PRIMARY KEY, event TEXT NOT NULL);
"""


class Head(msgspec.Struct):
    """What a plain script reads of an event."""

    symbol: str
    recv_ts_ms: int


_HEAD: Final = msgspec.json.Decoder(Head)
_ENCODER: Final = msgspec.json.Encoder(order="sorted")


class Plain:
    """The store of the script, and its engine."""

    def __init__(self, path: Path, symbols: int) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.executescript(SCHEMA)
        self._symbols = [f"S{number:03}" for number in range(symbols)]

    def run(self, history: Path, start_ms: int, interval_ms: int) -> float:
        """Run a history of ticks to its end; return runs a second."""
        began, runs, seq = time.perf_counter(), 0, 0
        waiting: dict[str, list[bytes]] = {symbol: [] for symbol in self._symbols}
        last = dict.fromkeys(self._symbols, 0)
        due_ms, block = start_ms + interval_ms, list[tuple[int, str, bytes]]()
        with history.open("rb") as lines:
            for line in lines:
                raw = line.rstrip()
                head = _HEAD.decode(raw)
                if head.recv_ts_ms > due_ms:
                    self._keep(block)
                    runs += self._tick(due_ms, seq, waiting, last)
                    due_ms += interval_ms
                seq += 1
                waiting[head.symbol].append(raw)
                block.append((seq, head.symbol, raw))
                if len(block) == BLOCK:
                    self._keep(block)
        self._keep(block)
        runs += self._tick(due_ms, seq, waiting, last)
        return runs / (time.perf_counter() - began)

    def _keep(self, block: list[tuple[int, str, bytes]]) -> None:
        if block:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany("INSERT INTO event VALUES (?, ?, ?)", block)
            self._db.execute("COMMIT")
            block.clear()

    def _tick(
        self, at_ms: int, end: int, waiting: dict[str, list[bytes]], last: dict[str, int]
    ) -> int:
        planned = [(at_ms, symbol, last[symbol] + 1, end) for symbol in self._symbols]
        db = self._db
        db.execute("BEGIN IMMEDIATE")
        db.executemany("INSERT INTO run (tick, symbol, first, last) VALUES (?, ?, ?, ?)", planned)
        db.execute("COMMIT")
        ended, published = [], []
        for symbol in self._symbols:
            output = answer(symbol, at_ms, waiting[symbol])
            waiting[symbol] = []
            last[symbol] = end
            ended.append((output, at_ms, symbol))
            for kind in ("EngineRunStarted", "EngineRunCompleted"):
                event = {"event_type": kind, "symbol": symbol, "at": at_ms, "output": output}
                published.append((_ENCODER.encode(event).decode(),))
        db.execute("BEGIN IMMEDIATE")
        db.executemany("UPDATE run SET output = ? WHERE id = ?", self._numbered(ended))
        db.executemany("INSERT INTO published (event) VALUES (?)", published)
        db.execute("COMMIT")
        return len(ended)

    def _numbered(self, ended: list[tuple[str, int, str]]) -> list[tuple[str, int]]:
        ((newest,),) = self._db.execute("SELECT max(id) FROM run").fetchall()
        first = newest - len(ended) + 1
        return [(output, first + number) for number, (output, _, _) in enumerate(ended)]

    def replay(self) -> float:
        """Call the engine again for every run and compare; return runs a second."""
        began, db, count = time.perf_counter(), self._db, 0
        for at_ms, symbol, first, last, output in db.execute(
            "SELECT tick, symbol, first, last, output FROM run ORDER BY id"
        ):
            rows = db.execute(
                "SELECT raw FROM event WHERE symbol = ? AND seq BETWEEN ? AND ? ORDER BY seq",
                (symbol, first, last),
            )
            if answer(symbol, at_ms, [raw for (raw,) in rows]) != output:
                raise SystemExit(f"{symbol} at {at_ms} comes out otherwise")
            count += 1
        return count / (time.perf_counter() - began)


def answer(symbol: str, at_ms: int, events: list[bytes]) -> str:
    """Return what the engine says of a cut, as JSON."""
    given = EngineInput(
        symbol=symbol, engine_timestamp_ms=at_ms, events=Events(events), snapshot=None, config={}
    )
    return _ENCODER.encode(engine(given)).decode()
