"""The regimes example from an empty folder to a tampered store, with every command it gives.

`make demo-regimes` runs it. Five years of three indices go through one stream: what regime they
were in, as a table and over the prices; the same again from the log, engine and all; the plan
derived from the log; one tick for an auditor; and what replay and verify say of a published event
with one byte changed. Everything is left in `build/demo-regimes` to look at.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
FOLDER = Path.cwd() / "build" / "demo-regimes"
DAY_MS = 86_400_000
#: A day on which prices fell and their ranges widened: the auditor asks about it.
DAY = date(2015, 8, 24)
#: Regime -> letter and colour of the charts, and terminal colour.
REGIMES = {
    "SQUEEZE_UP": ("s", "#7fb3d5", "36"),
    "SQUEEZE_DOWN": ("z", "#2e6f9e", "34"),
    "CHOP_BALANCED": (".", "#e2e2e2", "90"),
    "CHOP_STOPHUNT": ("x", "#e0a23c", "33"),
    "TREND_BUILD_UP": ("U", "#3d9a57", "32"),
    "TREND_BUILD_DOWN": ("D", "#c0392b", "31"),
}
#: Why runs fail here -> what it means.
WHY = {
    "missing_snapshot_inputs": "weekends and holidays, on the record as every other day.",
    "ExplainabilityValidationError": "the first months of the VIX: too few rows for a score.",
}


class Day(NamedTuple):
    """What one symbol's run of a day published."""

    day: date
    price: float
    #: The regime that stands, the one that the engine saw, and whether it stands from now on.
    regime: str
    seen: str
    flipped: bool


class Published(NamedTuple):
    """What a stream published."""

    #: Symbol -> its days with a regime.
    days: dict[str, list[Day]]
    #: Symbol -> why runs failed -> how many.
    failed: dict[str, Counter[str]]
    #: Symbol, engine timestamp -> price, of days without a regime too.
    prices: dict[tuple[str, int], float]


def main(arguments: Sequence[str]) -> int:
    """Run the demo, its arguments handed on to events.py; return the exit status."""
    began = time.monotonic()
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    ignored = shutil.ignore_patterns("__pycache__", "events.jsonl")
    shutil.copytree(HERE, FOLDER / "regimes", ignore=ignored)

    title("1. Five years of daily prices, as events")
    words = ("regimes/events.py", *arguments)
    print(paint(f"$ python {' '.join(words)}", "36"), flush=True)
    subprocess.run([sys.executable, *words], cwd=FOLDER, check=True)
    run("init")
    run("apply", "regimes/regimes.yaml")

    title("2. The stream: what comes in is kept, every tick is planned before its engine runs")
    run("streams", "run", "regimes")
    run("streams", "show", "regimes", "--limit", "6")

    title("3. What it published")
    published = read_events()
    print_table(published)
    for symbol in ("SPX", "VIX"):
        chart(symbol, published.days[symbol])
    draw(published)

    title("4. The same again: every engine run from the log, every byte compared")
    run("replay", "regimes")

    title("5. Nor is the plan to be trusted: it follows from the log")
    run("streams", "plan", "regimes", "--from-log")

    title(f"6. One tick, {DAY}, for somebody who has only the public keys")
    label = f"regimes/{engine_ms(DAY)}"
    run("export", label, "--out", "bundle")
    auditor = FOLDER / "auditor"
    auditor.mkdir()
    for name in ("ledger.pub.pem", "evidence.pub.pem"):
        shutil.copy(FOLDER / ".runwright" / "keys" / name, auditor / name)
    shutil.copytree(FOLDER / "bundle", auditor / "bundle")
    trust = ("--key", "ledger.pub.pem", "--key", "evidence.pub.pem")
    run("verify", "bundle", *trust, folder=auditor)

    title("7. One byte of one published event changed, in a copy of the store")
    copy = FOLDER / "tampered"
    copy.mkdir()
    for name in (".runwright", "runwright.toml"):
        source, target = FOLDER / name, copy / name
        shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
    print(flip_a_byte(copy / ".runwright" / "store.db", label))
    run("replay", "regimes", folder=copy, expect=6)
    run("verify", "--store", folder=copy, expect=6)
    left = "regimes/events.jsonl, published.jsonl, bundle, tampered"
    print(f"{time.monotonic() - began:.0f} s. Everything is in {FOLDER}: {left}")
    return 0


# ----------------------------------------------------------------------------------- commands


def title(text: str) -> None:
    """Print a heading."""
    print(f"\n{paint(text, '1')}\n")


def paint(text: str, code: str) -> str:
    """Colour text for a terminal that wants it."""
    if os.environ.get("NO_COLOR") or not sys.stdout.isatty():
        return text
    return f"\033[{code}m{text}\033[0m"


def environment() -> dict[str, str]:
    """Return the environment of a command: what the signer remembers stays in the folder."""
    return {
        **os.environ,
        "RUNWRIGHT_SIGNER_MEMORY": str(FOLDER / "signer-memory"),
        "RUNWRIGHT_MESSAGES_FORM": "human",
        # A line for each weekend is too much for a demo; the record has them.
        "RUNWRIGHT_MESSAGES_LEVEL": "error",
    }


def run(*words: str, folder: Path = FOLDER, expect: int = 0) -> int:
    """Give one command, show it with what it prints, and insist on its status."""
    print(paint(f"$ runwright {' '.join(words)}", "36"), flush=True)
    command = [sys.executable, "-m", "runwright", *words]
    done = subprocess.run(command, cwd=folder, env=environment(), check=False)
    print(flush=True)
    if done.returncode != expect:
        sys.exit(f"demo: `runwright {' '.join(words)}` exited {done.returncode}, not {expect}")
    return done.returncode


# ----------------------------------------------------------------------- what was published


def read_events() -> Published:
    """Read what the stream published, as a consumer does."""
    words = ("streams", "tail", "regimes", "--from-start", "--no-follow")
    print(paint(f"$ runwright {' '.join(words)} > published.jsonl", "36"), flush=True)
    published = FOLDER / "published.jsonl"
    with published.open("wb") as file:
        command = [sys.executable, "-m", "runwright", *words]
        subprocess.run(command, cwd=FOLDER, env=environment(), stdout=file, check=True)
    prices = closes(FOLDER / "regimes" / "events.jsonl")
    days: dict[str, list[Day]] = {}
    failed: dict[str, Counter[str]] = {}
    with published.open(encoding="utf-8") as file:
        for event in map(json.loads, file):
            symbol, at_ms = event["symbol"], event["engine_timestamp_ms"]
            if event["event_type"] == "EngineRunFailed":
                kind = event["payload"]["error_detail"] or event["payload"]["error_kind"]
                failed.setdefault(symbol, Counter())[kind] += 1
            elif event["event_type"] == "HysteresisDecisionPublished":
                decision = event["payload"]["hysteresis_decision"]
                price = prices[symbol, at_ms]
                days.setdefault(symbol, []).append(decided(decision, at_ms, price))
    return Published(days, failed, prices)


def decided(decision: Mapping[str, Any], at_ms: int, price: float) -> Day:
    """Return a day of what was decided at its end."""
    regime, change = decision["selected_output"]["regime"], decision["transition"]
    seen = change["candidate_regime"] if change["transition_active"] else regime
    return Day(day_of(at_ms), price, regime, seen, flipped=change["flipped"])


def closes(file: Path) -> dict[tuple[str, int], float]:
    """Return the closing price by symbol and engine timestamp."""
    found = {}
    with file.open(encoding="utf-8") as lines:
        for event in map(json.loads, lines):
            if event["event_type"] == "SnapshotInputs":
                given = event["normalized"]
                found[event["symbol"], given["timestamp_ms"]] = given["market"]["price"]
    return found


def day_of(at_ms: int) -> date:
    """Return the day at whose end an engine timestamp stands."""
    return date(1970, 1, 1) + timedelta(days=at_ms // DAY_MS - 1)


def engine_ms(day: date) -> int:
    """Return the engine timestamp at the end of a day."""
    return ((day - date(1970, 1, 1)).days + 1) * DAY_MS


def print_table(published: Published) -> None:
    """Print how many days each regime stood, and how often it changed."""
    print(f"\n{'days in each regime':<29}", *(f"{symbol:>7}" for symbol in published.days))
    for regime, (letter, _, code) in REGIMES.items():
        counts = [sum(each.regime == regime for each in days) for days in published.days.values()]
        print(f"{paint(letter, code)} {regime:<27}", *(f"{count:>7}" for count in counts))
    rows = {
        "regime changes": [sum(day.flipped for day in days) for days in published.days.values()],
        "without hysteresis": [changes(days) for days in published.days.values()],
    }
    kinds = sorted({kind for counts in published.failed.values() for kind in counts})
    rows |= {kind: [published.failed[symbol][kind] for symbol in published.days] for kind in kinds}
    for name, counts in rows.items():
        print(f"{name:<29}", *(f"{count:>7}" for count in counts))
    print("", *(f"{kind}: {WHY[kind]}" for kind in kinds), sep="\n")


def changes(days: Sequence[Day]) -> int:
    """Return how often what the engine saw was another regime than the day before."""
    return sum(one.seen != other.seen for one, other in pairwise(days))


# ------------------------------------------------------------------------------------- charts


def chart(symbol: str, days: Sequence[Day], width: int = 96, height: int = 9) -> None:
    """Draw a price with the regime of each stretch of days, for a terminal."""
    stretches = [list(each) for each in split(days, min(width, len(days)))]
    means = [sum(day.price for day in each) / len(each) for each in stretches]
    low, high = min(means), max(means)
    levels = [round((mean - low) / (high - low) * (height - 1)) for mean in means]
    usual = [Counter(day.regime for day in each).most_common(1)[0][0] for each in stretches]
    each = f"{len(days) / len(stretches):.0f} trading days a column"
    print(f"\n{symbol}, {days[0].day} to {days[-1].day}, {each}")
    for line in reversed(range(height)):
        cells = "".join(
            paint(REGIMES[regime][0], REGIMES[regime][2]) if level == line else " "
            for level, regime in zip(levels, usual, strict=True)
        )
        label = high if line == height - 1 else low if line == 0 else None
        print(f"{'' if label is None else f'{label:8.1f}':>8} {cells}".rstrip())
    years = [each[0].day.year for each in stretches]
    marks = [str(year) for year in sorted(set(years))]
    axis = [" "] * (len(years) + 4)
    for mark in marks:
        place = years.index(int(mark))
        axis[place : place + 4] = mark
    print(f"{'':8} {''.join(axis).rstrip()}")
    print(f"{'':8} {'  '.join(f'{letter} {name}' for name, (letter, _, _) in REGIMES.items())}")


def split(days: Sequence[Day], count: int) -> Iterator[Sequence[Day]]:
    """Split days into so many stretches, as equal as they can be."""
    for place in range(count):
        yield days[place * len(days) // count : (place + 1) * len(days) // count]


def draw(published: Published) -> None:
    """Draw all symbols as SVG and PNG when the `charts` extra is installed."""
    try:
        import altair as alt
        import vl_convert
    except ImportError:
        print("\n(pip install 'runwright[charts]' draws this as SVG, too)")
        return
    colour = alt.Color(
        "regime:N",
        title=None,
        scale=alt.Scale(domain=[*REGIMES], range=[hue for _, hue, _ in REGIMES.values()]),
        legend=alt.Legend(orient="top", columns=len(REGIMES), symbolType="square"),
    )
    time_axis = alt.X("first:T", title=None, scale=alt.Scale(domain=ends(published)))
    panels = []
    for symbol, days in published.days.items():
        prices = alt.Data(
            values=[
                {"first": day_of(at_ms).isoformat(), "price": price}
                for (named, at_ms), price in published.prices.items()
                if named == symbol
            ]
        )
        bands = alt.Data(values=list(spans(days)))
        line = alt.Chart(prices).mark_line(color="#222222", strokeWidth=1)
        price = alt.Y("price:Q", title=symbol, scale=alt.Scale(zero=False))
        band = alt.Chart(bands).mark_rect(opacity=0.75)
        panels.append(
            alt.layer(
                band.encode(x=time_axis, x2="last:T", color=colour),
                line.encode(x=time_axis, y=price),
            ).properties(width=960, height=190)
        )
    text = alt.vconcat(*panels, title="Volatility regimes, day by day").to_json()
    (FOLDER / "regimes.svg").write_text(vl_convert.vegalite_to_svg(text))
    (FOLDER / "regimes.png").write_bytes(vl_convert.vegalite_to_png(text, scale=2))
    print(f"\ndrawn to {FOLDER / 'regimes'}.svg and .png")


def ends(published: Published) -> list[str]:
    """Return the first and the last day of all symbols."""
    days = [day_of(at_ms) for _, at_ms in published.prices]
    return [min(days).isoformat(), max(days).isoformat()]


def spans(days: Sequence[Day]) -> Iterator[dict[str, str]]:
    """Yield from when to when which regime stood."""
    first = days[0]
    for day, after in zip(days, [*days[1:], None], strict=True):
        if after is None or after.regime != first.regime:
            last = day.day + timedelta(days=1) if after is None else after.day
            yield {
                "first": first.day.isoformat(),
                "last": last.isoformat(),
                "regime": first.regime,
            }
            first = after or day


# ------------------------------------------------------------------------------------ tampering


def flip_a_byte(store: Path, name: str) -> str:
    """Change one byte of a published event, as somebody with the file could; say which."""
    with sqlite3.connect(store) as opened:
        ((seq, body),) = opened.execute("SELECT seq, body FROM paper WHERE name = ?", (name,))
        place = body.index(b'"regime":"TREND_BUILD_DOWN"') + len(b'"regime":"')
        data = bytearray(body)
        data[place] ^= 1
        opened.execute("UPDATE paper SET body = ? WHERE name = ?", (bytes(data), name))
    opened.close()
    return f"paper {name} (entry {seq}), byte {place}: 'T' became {chr(data[place])!r}\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
