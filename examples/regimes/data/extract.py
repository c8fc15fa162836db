"""Cut the example's three price series out of the data that the package `arch` ships.

Downloads nothing: `pip download arch --no-deps` fetches the wheel, and this script reads it (or the
folder of an installed `arch`). Values are copied as the text they are in the source, so the output
depends on nothing but that text; only dates are rewritten, to ISO form.

    python extract.py arch-8.0.0-….whl            write the CSV files and SHA256SUMS
    python extract.py --check arch-8.0.0-….whl    write nothing, compare with the files in place
"""

from __future__ import annotations

import argparse
import csv
import gzip
import hashlib
import sys
import zipfile
from datetime import date
from pathlib import Path

#: The mark of the source for a day without a value (exchange closed).
MISSING = "."
#: What is kept: a year before the first events, for windows that look back.
FIRST, LAST = "2013-01-01", "2018-12-31"
BARS = {"Open": "open", "High": "high", "Low": "low", "Close": "close", "Volume": "volume"}
#: File of the extract -> series of the source, and source column -> column of the extract.
SERIES = {
    "spx.csv": ("sp500", BARS),
    "ixic.csv": ("nasdaq", BARS),
    "vix.csv": ("vix", {"vix": "close"}),
}


def main(arguments: list[str] | None = None) -> int:
    """Write or check the extract; 0 when it is written or equal, 1 otherwise."""
    parser = argparse.ArgumentParser(description="Cut the example's data out of the package arch.")
    parser.add_argument("source", type=Path, help="a wheel of arch, or the folder of arch")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent)
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    options = parser.parse_args(arguments)
    try:
        files = extract(options.source)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        print(f"extract: {options.source}: {error}", file=sys.stderr)
        return 1
    if options.check:
        return check(files, options.out)
    options.out.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (options.out / name).write_bytes(content)
    print(files["SHA256SUMS"].decode(), end="")
    return 0


def extract(source: Path) -> dict[str, bytes]:
    """Return the bytes of every file of the extract by name, SHA256SUMS among them."""
    files = {
        name: rendered(read(source, series), columns) for name, (series, columns) in SERIES.items()
    }
    sums = [f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in files.items()]
    return {**files, "SHA256SUMS": "".join(sums).encode()}


def read(source: Path, series: str) -> list[dict[str, str]]:
    """Return the rows of one series of the source."""
    member = f"data/{series}/{series}.csv.gz"
    if source.is_dir():
        packed = (source / member).read_bytes()
    else:
        with zipfile.ZipFile(source) as wheel:
            packed = wheel.read(f"arch/{member}")
    return list(csv.DictReader(gzip.decompress(packed).decode().splitlines()))


def rendered(rows: list[dict[str, str]], columns: dict[str, str]) -> bytes:
    """Return rows as CSV, oldest first; days without a value and outside are left out."""
    lines = {}
    for row in rows:
        month, day, year = (int(part) for part in row["Date"].split("/"))
        iso = date(year, month, day).isoformat()
        values = [row[column] for column in columns]
        if MISSING not in values and FIRST <= iso <= LAST:
            lines[iso] = ",".join([iso, *values])
    head = ",".join(["date", *columns.values()])
    return ("\n".join([head, *(lines[iso] for iso in sorted(lines))]) + "\n").encode()


def check(files: dict[str, bytes], folder: Path) -> int:
    """Compare the extract with the files in `folder`, naming each that differs."""
    differing = [
        name
        for name, content in files.items()
        if not (folder / name).is_file() or (folder / name).read_bytes() != content
    ]
    for name in differing:
        print(f"extract: {folder / name} differs from the source", file=sys.stderr)
    if not differing:
        print(f"{len(files)} files are byte for byte what the source gives")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
