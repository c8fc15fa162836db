"""Turn the daily history in `data` into market events: one line of JSON for each.

For every trading day and symbol there is an observation (a Candle, or an IndexPrice where the data
have closes only) and then one SnapshotInputs with what can be computed from the rows up to that
day. What cannot be computed, for lack of a column or of enough rows before, is left out: an engine
sees it as MISSING. The README says how each value is defined. Nothing but Python is needed.

    python events.py                        write events.jsonl beside this file
    python events.py --last 2014-12-31      only the first year
    python events.py --out -                to standard output, for `runwright streams run`
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from statistics import fmean, stdev
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
SOURCE = "arch"
#: Symbol -> file of its daily rows.
FILES = {"IXIC": "ixic.csv", "SPX": "spx.csv", "VIX": "vix.csv"}
FIRST, LAST = "2014-01-03", "2018-12-31"
DAY_MS = 86_400_000
#: When the rows of a day are received: 22:00 UTC, after the close in New York all year round.
RECEIVED_MS = 22 * 3_600_000
EPOCH = date(1970, 1, 1).toordinal()
#: Rows that a true range is averaged over, that its score looks back on, that levels are made of.
ATR_ROWS, SCORE_ROWS, LEVEL_ROWS = 14, 120, 20


class Row(NamedTuple):
    """One day of one symbol."""

    day: date
    #: The line of the file, as it stands there.
    text: str
    #: Its place in the file, from 1.
    number: int
    close: float
    #: None where the data have closes only, as the three others.
    open: float | None
    high: float | None
    low: float | None
    volume: float | None


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the events; 0 when they are written, 1 when the data cannot be read."""
    parser = argparse.ArgumentParser(description="Turn the daily history into market events.")
    parser.add_argument("--first", type=date.fromisoformat, default=FIRST, metavar="DAY")
    parser.add_argument("--last", type=date.fromisoformat, default=LAST, metavar="DAY")
    parser.add_argument("--out", default=str(HERE / "events.jsonl"), help="a file, or - for stdout")
    options = parser.parse_args(arguments)
    first, last = date.fromisoformat(str(options.first)), date.fromisoformat(str(options.last))
    try:
        lines = [json.dumps(event) + "\n" for event in events(HERE / "data", first, last)]
    except (OSError, ValueError, KeyError) as error:
        print(f"events: {error}", file=sys.stderr)
        return 1
    if options.out == "-":
        sys.stdout.writelines(lines)
    else:
        Path(options.out).write_text("".join(lines), encoding="utf-8")
        print(f"{len(lines)} events of {', '.join(FILES)}: {options.out}")
    return 0


def events(folder: Path, first: date, last: date) -> Iterator[dict[str, object]]:
    """Yield the events of all symbols from one day to another, in the order of receipt."""
    tables = {symbol: Series(read(folder / name)) for symbol, name in FILES.items()}
    by_day: dict[date, list[tuple[str, int]]] = {}
    for symbol, series in tables.items():
        for place, row in enumerate(series.rows):
            if first <= row.day <= last:
                by_day.setdefault(row.day, []).append((symbol, place))
    for day in sorted(by_day):
        for symbol, place in by_day[day]:
            row = tables[symbol].rows[place]
            yield envelope(symbol, row, *observed(row))
            inputs = {"timestamp_ms": aligned(day), "market": tables[symbol].market(place)}
            yield envelope(symbol, row, "SnapshotInputs", inputs)


def read(file: Path) -> list[Row]:
    """Return the rows of a file, oldest first."""
    lines = file.read_text(encoding="utf-8").splitlines()
    rows = []
    for number, (text, cells) in enumerate(zip(lines[1:], csv.DictReader(lines), strict=True), 1):
        open_, high, low, volume = (
            float(cells[name]) if name in cells else None
            for name in ("open", "high", "low", "volume")
        )
        day, close = date.fromisoformat(cells["date"]), float(cells["close"])
        rows.append(Row(day, text, number, close, open_, high, low, volume))
    return rows


def aligned(day: date) -> int:
    """Return the end of a day in UTC, epoch ms: the engine timestamp that a day is about."""
    return (day.toordinal() - EPOCH + 1) * DAY_MS


def envelope(
    symbol: str, row: Row, event_type: str, normalized: dict[str, object]
) -> dict[str, object]:
    """Return an event as RawMarketEvent v1 has it."""
    return {
        "schema": "raw_market_event",
        "schema_version": "1",
        "event_type": event_type,
        "source_id": SOURCE,
        "symbol": symbol,
        # The source knows days, not instants.
        "exchange_ts_ms": None,
        "recv_ts_ms": aligned(row.day) - DAY_MS + RECEIVED_MS,
        "raw_payload": row.text,
        "payload_content_type": "text/csv",
        "channel": FILES[symbol],
        "source_seq": row.number,
        "normalized": normalized,
    }


def observed(row: Row) -> tuple[str, dict[str, object]]:
    """Return event type and values of what a row says itself."""
    if row.open is None:
        return "IndexPrice", {"index_price": row.close}
    bar = {"open": row.open, "high": row.high, "low": row.low, "close": row.close}
    return "Candle", {**bar, "volume": row.volume, "interval_ms": DAY_MS, "is_final": True}


# -------------------------------------------------------------- what is computed, and from what


class Series:
    """The rows of one symbol, and what follows from them; None is what does not."""

    def __init__(self, rows: Sequence[Row]) -> None:
        """Compute the ranges once: scores look back on many of them."""
        self.rows = rows
        self.ranges = [self._true_range(place) for place in range(len(rows))]
        self.atrs = [self._atr(place) for place in range(len(rows))]

    def market(self, place: int) -> dict[str, object]:
        """Return the market part of a snapshot: what the rows up to a place give, and no more."""
        given: dict[str, object] = {
            "price": self.rows[place].close,
            "vwap": self._vwap(place),
            "atr": self.atrs[place],
            "atr_z": self._atr_z(place),
            "range_expansion": self._range_expansion(place),
            "structure_levels": self._levels(place),
        }
        return {name: value for name, value in given.items() if value is not None}

    def _true_range(self, place: int) -> float | None:
        """Return how far a day moved from the close before; with closes only, close to close."""
        if place == 0:
            return None
        before, row = self.rows[place - 1].close, self.rows[place]
        high = row.close if row.high is None else row.high
        low = row.close if row.low is None else row.low
        return max(high, before) - min(low, before)

    def _atr(self, place: int) -> float | None:
        """Return the mean true range of the last days."""
        known = whole(self.ranges[: place + 1], ATR_ROWS)
        return round(fmean(known), 6) if known else None

    def _atr_z(self, place: int) -> float | None:
        """Return how many deviations the mean range, as a share of the price, is above its past."""
        known = whole(self.atrs[: place + 1], SCORE_ROWS + 1)
        if not known:
            return None
        closes = [row.close for row in self.rows[place - SCORE_ROWS : place + 1]]
        *past, today = (mean / close for mean, close in zip(known, closes, strict=True))
        return round((today - fmean(past)) / stdev(past), 6)

    def _range_expansion(self, place: int) -> float | None:
        """Return the range of a day as a share of the mean range before it."""
        today, usual = self.ranges[place], self.atrs[place - 1] if place else None
        return round(today / usual, 6) if today is not None and usual else None

    def _vwap(self, place: int) -> float | None:
        """Return the price of the last days, each weighted by its volume."""
        weighted = [
            ((row.high + row.low + row.close) / 3 * row.volume, row.volume)
            for row in self.rows[max(0, place - LEVEL_ROWS + 1) : place + 1]
            if row.high is not None and row.low is not None and row.volume
        ]
        if len(weighted) < LEVEL_ROWS:
            return None
        return round(sum(each for each, _ in weighted) / sum(each for _, each in weighted), 6)

    def _levels(self, place: int) -> dict[str, float] | None:
        """Return what prices are held against: mean, highest and lowest of the last closes."""
        closes = [row.close for row in self.rows[max(0, place - LEVEL_ROWS + 1) : place + 1]]
        if len(closes) < LEVEL_ROWS:
            return None
        return {"mean_20": round(fmean(closes), 6), "high_20": max(closes), "low_20": min(closes)}


def whole(values: Sequence[float | None], count: int) -> list[float]:
    """Return the last values when there are so many and each is known, else none."""
    known = [value for value in values[-count:] if value is not None]
    return known if len(known) == count else []


if __name__ == "__main__":
    sys.exit(main())
