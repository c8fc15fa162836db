"""What the benchmarks share: whole processes timed, a quiet machine, pairs, one line each."""

from __future__ import annotations

import os
import platform
import sqlite3
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

#: The share of idle processor time at which the machine counts as quiet; how long that is sought.
IDLE_MIN = 0.90
QUIET_MAX_S = 30.0
LOOK_S = 0.25
#: The share of processor time that the host of a machine may take for others while a pair is
#: measured, and how often a pair is measured again where it took more.
STOLEN_MAX = 0.02
AGAIN_MAX = 4


Measured = TypeVar("Measured")


class Timed(NamedTuple):
    """One whole process, its children included."""

    wall_ms: float
    cpu_ms: float
    peak_mib: float
    exit: int


class Row(NamedTuple):
    """One line of the table."""

    name: str
    #: In `unit`; the floor is empty where there is nothing to hold it against.
    ours: Sequence[float]
    unit: str
    floor: Sequence[float] = ()
    #: What the target is about: "ratio" of pairs, or "ours".
    about: str = "ours"
    target: float = 0.0
    #: True: the target is a least value; False: a most.
    at_least: bool = False
    note: str = ""

    def ratio(self) -> float | None:
        """Return the median of ours / floor, pair by pair."""
        if not self.floor:
            return None
        return statistics.median(a / b for a, b in zip(self.ours, self.floor, strict=True))

    def value(self) -> float:
        """Return what is held against the target."""
        ratio = self.ratio()
        if self.about == "ratio" and ratio is not None:
            return ratio
        return statistics.median(self.ours)

    def holds(self) -> bool:
        """Say whether the target is reached."""
        if not self.target:
            return True
        return self.value() >= self.target if self.at_least else self.value() <= self.target

    def as_json(self) -> Mapping[str, Any]:
        """Return the row with every figure that led to it."""
        return {**self._asdict(), "ratio": self.ratio(), "ok": self.holds()}


class Quiet:
    """Waits for a quiet machine, and counts how often it did not come."""

    def __init__(self, most_s: float = QUIET_MAX_S) -> None:
        self.most_s = most_s
        self.noisy = 0
        #: How many pairs were measured again.
        self.again = 0

    def measured(self, measure: Callable[[], Measured]) -> Measured:
        """Measure in quiet, and again where the host took processor time for others meanwhile.

        What counts is the measurement that lost least.
        """
        found: list[tuple[float, int, Measured]] = []
        while len(found) <= AGAIN_MAX:
            self.wait()
            before = _ticks()
            result = measure()
            found.append((_stolen_share(before), len(found), result))
            if found[-1][0] <= STOLEN_MAX:
                break
        self.again += len(found) - 1
        stolen, _, best = min(found, key=lambda each: each[:2])
        self.noisy += stolen > STOLEN_MAX
        return best

    def wait(self) -> None:
        """Wait until the processors are idle, at most so long."""
        until = time.monotonic() + self.most_s
        while _idle_share() < IDLE_MIN:
            if time.monotonic() > until:
                self.noisy += 1
                return


def _stolen_share(before: list[int]) -> float:
    spent = [b - a for a, b in zip(before, _ticks(), strict=True)]
    # The eighth number: what the host gave to others.
    return spent[7] / (sum(spent[:8]) or 1)


def _idle_share() -> float:
    before = _ticks()
    time.sleep(LOOK_S)
    spent = [b - a for a, b in zip(before, _ticks(), strict=True)]
    # The fourth and the fifth number: idle, and waiting for a disk.
    return (spent[3] + spent[4]) / (sum(spent[:8]) or 1)


def _ticks() -> list[int]:
    try:
        first = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0]
    except OSError:
        return [0, 0, 0, 1, 0, 0, 0, 0]
    return [int(word) for word in first.split()[1:]]


def process(argv: Sequence[str], environment: Mapping[str, str]) -> Timed:
    """Run a command to its end, output thrown away; the time of its children counts.

    posix_spawn, because a fork of a large parent would count as the child's peak memory.
    """
    null = os.open(os.devnull, os.O_RDWR)
    began = time.perf_counter()
    actions = [(os.POSIX_SPAWN_DUP2, null, target) for target in (0, 1, 2)]
    pid = os.posix_spawn(argv[0], list(argv), dict(environment), file_actions=actions)
    _, status, used = os.wait4(pid, 0)
    wall_ms = (time.perf_counter() - began) * 1000
    os.close(null)
    cpu_ms = (used.ru_utime + used.ru_stime) * 1000
    return Timed(wall_ms, cpu_ms, used.ru_maxrss / 1024, os.waitstatus_to_exitcode(status))


def pairs(
    count: int, quiet: Quiet, ours: Callable[[], Timed], floor: Callable[[], Timed]
) -> tuple[list[Timed], list[Timed]]:
    """Return the figures of A B A B …, after one pair that warms the caches and is thrown away."""
    ours(), floor()
    one, other = [], []
    for _ in range(count):
        quiet.wait()
        one.append(ours())
        other.append(floor())
    return one, other


def machine(folder: Path) -> str:
    """Return what the figures depend on, in one line."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    return (
        f"{os.cpu_count()} x {model}, {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, "
        f"write + fsync {fsync_ms(folder):.2f} ms"
    )


def fsync_ms(folder: Path) -> float:
    """Return the median of a small write and its flush."""
    path = folder / "fsync.probe"
    times = []
    with path.open("wb", buffering=0) as file:
        for _ in range(50):
            began = time.perf_counter()
            file.write(b"x" * 512)
            os.fsync(file.fileno())
            times.append((time.perf_counter() - began) * 1000)
    path.unlink()
    return statistics.median(times)


def table(rows: Sequence[Row]) -> str:
    """Return the rows as text."""
    head = ["benchmark", "ours [min to max]", "floor", "ratio", "target", "", "note"]
    lines = [head, *(_cells(row) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    texts = (
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
    return "\n".join(texts)


def _cells(row: Row) -> list[str]:
    ratio = row.ratio()
    sign = ">=" if row.at_least else "<="
    suffix = "x" if row.about == "ratio" else f" {row.unit}"
    span = f"{_text(min(row.ours))} to {_text(max(row.ours))}"
    return [
        row.name,
        f"{_text(statistics.median(row.ours))} {row.unit} [{span}]",
        f"{_text(statistics.median(row.floor))} {row.unit}" if row.floor else "",
        f"{ratio:.2f}" if ratio is not None else "",
        f"{sign} {row.target:g}{suffix}" if row.target else "",
        ("ok" if row.holds() else "miss") if row.target else "",
        row.note,
    ]


def _text(number: float) -> str:
    return f"{number:,.0f}" if abs(number) >= 1000 else f"{number:.3g}"


def progress(text: str) -> None:
    """Say on stderr what is being measured."""
    print(text, file=sys.stderr, flush=True)
