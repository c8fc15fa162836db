"""The floor of a cycle: what somebody writes by hand who wants every step durable, and no more.

Three children by `subprocess.run`, one after the other; a planned row before and a result row after
each, six flushed commits. No plan, no chain, no seal, no isolation, no lock, no recovery.

    python floor_cycle.py DATABASE PYTHON SCRIPT SCRIPT SCRIPT      one cycle
    … --warm    as many cycles as each line of standard input says, their ms printed as JSON
    … --bare    likewise, of nothing but the three `subprocess.run`
"""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import time

TABLE = """CREATE TABLE IF NOT EXISTS run (
    id INTEGER PRIMARY KEY, cycle TEXT, function TEXT, state TEXT, status INTEGER,
    output BLOB, errors BLOB, started REAL, ended REAL)"""
PLANNED = "INSERT INTO run (cycle, function, state, started) VALUES (?, ?, 'planned', ?)"
ENDED = "UPDATE run SET state = ?, status = ?, output = ?, errors = ?, ended = ? WHERE id = ?"


def cycle(database: sqlite3.Connection, python: str, scripts: list[str]) -> None:
    """Run the scripts once and record each before and after."""
    name = f"cycle-{time.time_ns()}"
    for script in scripts:
        planned = database.execute(PLANNED, (name, script, time.time()))
        done = subprocess.run([python, script], capture_output=True, timeout=300, check=False)
        state = "done" if done.returncode == 0 else "failed"
        values = (state, done.returncode, done.stdout, done.stderr, time.time(), planned.lastrowid)
        database.execute(ENDED, values)


def bare(python: str, scripts: list[str]) -> None:
    """Run the scripts once and record nothing."""
    for script in scripts:
        subprocess.run([python, script], capture_output=True, timeout=300, check=True)


def main() -> None:
    """Run one cycle, or as many as standard input asks for."""
    path, python, *scripts = sys.argv[1:]
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    database.execute(TABLE)
    how = scripts.pop() if scripts[-1].startswith("--") else ""
    if not how:
        cycle(database, python, scripts)
        return
    for line in sys.stdin:
        times = []
        for _ in range(int(line)):
            began = time.perf_counter()
            if how == "--warm":
                cycle(database, python, scripts)
            else:
                bare(python, scripts)
            times.append((time.perf_counter() - began) * 1000)
        print(json.dumps(times), flush=True)


if __name__ == "__main__":
    main()
