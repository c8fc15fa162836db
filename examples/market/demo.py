"""The market example from an empty folder to a verified bundle, with every command it gives.

`make demo` runs it. Two cycles over real prices, what they found as a table and a chart, the bundle
of the second for an auditor, its verification with the public keys alone, and the same bundle with
one byte changed. Everything is left in `build/demo` to look at.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
FOLDER = Path.cwd() / "build" / "demo"
#: A week in which volatility returned: the second cycle looks from here.
STRESSED_DAY = "2015-08-26"
BLOCKS = " ▁▂▃▄▅▆▇█"


def main() -> int:
    """Run the demo; return the exit status."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    shutil.copytree(HERE, FOLDER / "market", ignore=shutil.ignore_patterns("__pycache__"))

    title("1. A project: keys, a store, an open ledger")
    run("init")
    run("apply", "market/cycle.yaml")

    title("2. A cycle: planned and recorded before it runs, sealed after")
    run("run", "market")

    title(
        f"3. An operator changes the registry by SQL, and a second cycle looks from {STRESSED_DAY}"
    )
    look_from(STRESSED_DAY)
    run("run", "market", "--dry-run")
    run("run", "market")

    title("4. What they found")
    evidence = [json.loads(file.read_text()) for file in sorted(FOLDER.glob("out/evidence/*.json"))]
    print_results(evidence)
    for cycle in evidence:
        chart(cycle)

    title("5. What the record holds")
    run("show")
    run("show", "ledger", "--limit", "9")

    title("6. The bundle of the second cycle, verified by somebody who has only the public keys")
    run("export", "latest", "--out", "bundle")
    keys = FOLDER / ".runwright" / "keys"
    auditor = FOLDER / "auditor"
    auditor.mkdir()
    for name in ("ledger.pub.pem", "evidence.pub.pem"):
        shutil.copy(keys / name, auditor / name)
    shutil.copytree(FOLDER / "bundle", auditor / "bundle")
    trust = ("--key", "ledger.pub.pem", "--key", "evidence.pub.pem")
    run("verify", "bundle", *trust, folder=auditor)

    title("7. The same bundle with one byte of one entry changed")
    print(flip_a_byte(auditor / "bundle" / "entries.jsonl"))
    status = run("verify", "bundle", *trust, folder=auditor, expect=6)

    title("8. And the whole record of the project")
    run("verify", "--store")
    print(f"\nEverything is in {FOLDER}: out/evidence, bundle, .runwright/store.db")
    return 0 if status == 6 else 1


def title(text: str) -> None:
    """Print a heading."""
    print(f"\n{paint(text, '1')}\n")


def paint(text: str, code: str) -> str:
    """Colour text for a terminal that wants it."""
    if os.environ.get("NO_COLOR") or not sys.stdout.isatty():
        return text
    return f"\033[{code}m{text}\033[0m"


def run(*words: str, folder: Path = FOLDER, expect: int = 0) -> int:
    """Give one command, show it with what it prints, and insist on its status."""
    print(paint(f"$ runwright {' '.join(words)}", "36"), flush=True)
    environment = {
        **os.environ,
        "RUNWRIGHT_SIGNER_MEMORY": str(FOLDER / "signer-memory"),
        "RUNWRIGHT_MESSAGES_FORM": "human",
    }
    done = subprocess.run(
        [sys.executable, "-m", "runwright", *words], cwd=folder, env=environment, check=False
    )
    print(flush=True)
    if done.returncode != expect:
        sys.exit(f"demo: `runwright {' '.join(words)}` exited {done.returncode}, not {expect}")
    return done.returncode


def look_from(day: str) -> None:
    """Change every function's `as_of` in the registry, as an operator would."""
    statement = "UPDATE task_registry SET task_config = json_set(task_config, '$.as_of', ?)"
    print(paint(f"sqlite> {statement.replace('?', repr(day))};", "36"))
    with sqlite3.connect(FOLDER / ".runwright" / "store.db") as store:
        changed = store.execute(statement, (day,)).rowcount
    store.close()
    print(f"{changed} rows changed\n")


def print_results(evidence: list[dict[str, Any]]) -> None:
    """Print one row for each cycle and what its three functions answered."""
    head = ["cycle", "status", "as of", "mean price", "signal", "noise", "regime"]
    rows = []
    for cycle in evidence:
        signal, noise, state = (result["result"] for result in cycle["results"])
        rows.append(
            [
                cycle["cycle_id"],
                cycle["cycle_status"],
                signal["as_of"],
                signal["baseline_stats"]["mean_price"],
                signal["signal"],
                noise["noise_state"],
                state["meta_state"]["regime"],
            ]
        )
    widths = [max(len(str(row[index])) for row in [head, *rows]) for index in range(len(head))]
    for row in [head, *rows]:
        print("  ".join(str(cell).ljust(width) for cell, width in zip(row, widths, strict=True)))


def chart(cycle: dict[str, Any], days: int = 72, height: int = 7) -> None:
    """Draw the closing prices up to the day that a cycle looked from."""
    as_of = cycle["results"][0]["result"]["as_of"]
    first = cycle["results"][0]["result"]["first_day"]
    with (FOLDER / "market" / "data" / "sp500.csv").open(newline="") as file:
        rows = [(row["date"], float(row["close"])) for row in csv.DictReader(file)]
    rows = [row for row in rows if row[0] <= as_of][-days:]
    low, high = min(price for _, price in rows), max(price for _, price in rows)
    print(f"\nS&P 500, {rows[0][0]} to {as_of}; the window of {cycle['cycle_id']} is marked below")
    levels = [round((price - low) / (high - low) * height * 8) for _, price in rows]
    for line in reversed(range(height)):
        cells = "".join(BLOCKS[max(0, min(8, level - line * 8))] for level in levels)
        label = high if line == height - 1 else low if line == 0 else None
        print(f"{'' if label is None else f'{label:8.1f}':>8} {paint(cells, '34')}")
    print(" " * 9 + "".join("^" if day >= first else " " for day, _ in rows))
    draw(cycle["cycle_id"], rows, first)


def draw(name: str, rows: list[tuple[str, float]], first: str) -> None:
    """Draw the same as SVG and PNG when the `charts` extra is installed."""
    try:
        import altair as alt
        import vl_convert
    except ImportError:
        return
    words = ("before the window", "in the window")
    values = [{"day": day, "close": price, "window": words[day >= first]} for day, price in rows]
    line = alt.Chart(
        alt.Data(values=values), width=640, height=240, title=f"S&P 500 close, {name}"
    ).encode(
        x=alt.X("day:T", title=None),
        y=alt.Y("close:Q", scale=alt.Scale(zero=False), title=None),
    )
    colour = alt.Color("window:N", title=None, sort=list(words))
    picture = line.mark_line(color="#888888") + line.mark_point(filled=True, opacity=1).encode(
        color=colour
    )
    text = picture.to_json()
    (FOLDER / f"{name}.svg").write_text(vl_convert.vegalite_to_svg(text))
    (FOLDER / f"{name}.png").write_bytes(vl_convert.vegalite_to_png(text, scale=2))
    print(f"{'':8} drawn to {FOLDER / name}.svg and .png")


def flip_a_byte(file: Path) -> str:
    """Change one byte in the middle of a file and say which."""
    data = bytearray(file.read_bytes())
    place = data.index(b'"status":"done"') + len(b'"status":"d')
    line = data[:place].count(b"\n") + 1
    data[place] ^= 1
    file.write_bytes(bytes(data))
    return f"byte {place} of entries.jsonl (line {line}): 'o' became {chr(data[place])!r}"


if __name__ == "__main__":
    sys.exit(main())
