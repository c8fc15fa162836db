"""Run the benchmarks and hold each against its floor and its target.

    python benchmarks/run.py [NAME …] [--json FILE] [--pairs N] [--strict] [--peers]

Every comparison is a ratio taken pair by pair (A B A B …) in one run, after the machine was quiet:
absolute times mean nothing on another machine, and little on this one while it does something else.
What a benchmark left behind is verified afterwards and its entries are counted.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import peers
from measure import Quiet, Row, Timed, machine, pairs, process, progress, table
from stage import FRAMES, FUNCTIONS, Stage, Worker, cpu_ms, in_turn

#: Entries of one cycle of three functions: planned, three starts, three ends, judged.
ENTRIES_PER_CYCLE: Final = 9
#: Cycles of one side of a warm pair, of which the median counts.
WARM_CYCLES: Final = 7
FORKED_CYCLES: Final = 3
#: Entries that the record has which is verified, and the ledger that is proven from.
VERIFIED: Final = 200_000
PROVEN: Final = 1_000_000
#: Seconds for which an idle conductor is watched.
IDLE_S: Final = 6.0


class Setup(NamedTuple):
    """What every benchmark gets."""

    stage: Stage
    pairs: int
    quiet: Quiet


def cold(setup: Setup) -> list[Row]:
    """Hold one `runwright run`, from start to exit, against the plain script."""
    stage = setup.stage
    project = stage.project("cold")
    before = stage.size(project)
    argv = stage.command(project, "run", "three")
    ours, floor = pairs(
        setup.pairs,
        setup.quiet,
        lambda: _done(process(argv, stage.environment)),
        lambda: _done(process(stage.floor("cold.db"), stage.environment)),
    )
    stage.verify(project, entries=before + ENTRIES_PER_CYCLE * (setup.pairs + 1))
    return [
        Row(
            "cold cycle",
            [timed.wall_ms for timed in ours],
            "ms",
            [timed.wall_ms for timed in floor],
            about="ratio",
            target=1.8,
            note=f"cpu {_median_cpu(ours):.0f} against {_median_cpu(floor):.0f} ms",
        ),
        Row(
            "cold cycle, peak memory",
            [timed.peak_mib for timed in ours],
            "MiB",
            [timed.peak_mib for timed in floor],
            target=40,
        ),
    ]


def warm(setup: Setup) -> list[Row]:
    """Hold a cycle in a running process, at T0 and T1, against the plain script's loop."""
    stage = setup.stage
    levels = ("T0", "T1")
    projects = {level: stage.project(f"warm-{level}", level) for level in levels}
    before = {level: stage.size(projects[level]) for level in levels}
    workers = {
        level: Worker(stage.script("inside.py", "warm", str(project)), stage.environment)
        for level, project in projects.items()
    }
    workers["floor"] = Worker(stage.floor("warm.db", "--warm"), stage.environment)
    times: dict[str, list[float]] = {name: [] for name in workers}
    turns = 0

    def turn() -> Mapping[str, float]:
        nonlocal turns
        turns += 1
        return in_turn(workers, WARM_CYCLES)

    for index in range(setup.pairs + 1):
        spent = setup.quiet.measured(turn)
        if index:
            for name, each in spent.items():
                times[name].append(each)
    commits = workers["T1"].ask("commits")
    for worker in workers.values():
        worker.close()
    for level, project in projects.items():
        entries = ENTRIES_PER_CYCLE * WARM_CYCLES * turns
        stage.verify(project, entries=before[level] + entries)
    floor = times["floor"]
    child = [(t1 - t0) / 3 for t0, t1 in zip(times["T0"], times["T1"], strict=True)]
    return [
        Row("warm cycle, T0", times["T0"], "ms", floor, about="ratio", target=1.15),
        Row("warm cycle, T1", times["T1"], "ms", floor, about="ratio", target=1.3),
        Row("T1 over T0, a child", child, "ms", target=5),
        Row("warm cycle, commits", commits, "", target=6),
    ]


def forked(setup: Setup) -> list[Row]:
    """Hold cycles of functions that start warm against the plain script's loop.

    That floor keeps no rows at all: three `subprocess.run`, and nothing else.
    """
    stage = setup.stage
    stage.add("pandas")
    rows = []
    for name, scripts, target in (
        ("three trivial functions", FUNCTIONS, 0.5),
        ("three that import pandas", FRAMES, 0.05),
    ):
        slug = scripts[0].parent.name
        project = stage.project(f"forked-{slug}", scripts=scripts, more=", warm: true")
        floor = stage.floor(f"{slug}.db", "--bare", scripts=scripts)
        workers = {
            "ours": Worker(stage.script("inside.py", "warm", str(project)), stage.environment),
            "floor": Worker(floor, stage.environment),
        }
        times: list[list[float]] = [[], []]
        for index in range(setup.pairs + 1):
            spent = setup.quiet.measured(lambda each=workers: in_turn(each, FORKED_CYCLES))
            if index:
                times[0].append(spent["ours"])
                times[1].append(spent["floor"])
        for worker in workers.values():
            worker.close()
        stage.verify(project)
        note = f"{statistics.median(b / a for a, b in zip(*times, strict=True)):.1f} x faster"
        rows.append(Row(name, times[0], "ms", times[1], about="ratio", target=target, note=note))
    return rows


def startup(setup: Setup) -> list[Row]:
    """Hold commands that only read against a Python that does nothing."""
    stage = setup.stage
    project = stage.project("startup")
    stage.call(project, "run", "three")
    stage.call(project, "export", "latest", "--out", str(project / "bundle"))
    rows = []
    for name, target, words in (
        # 60 and 120 ms where bare Python takes 9.
        ("--version", 6.7, ["--version"]),
        ("show", 13.3, ["show"]),
        ("verify BUNDLE", 13.3, ["verify", str(project / "bundle")]),
        ("verify --store", 13.3, ["verify", "--store"]),
    ):
        argv = stage.command(project, *words)
        ours, floor = pairs(
            setup.pairs,
            setup.quiet,
            lambda argv=argv: _done(process(argv, stage.environment)),
            lambda: _done(process([stage.python, "-c", "pass"], stage.environment)),
        )
        bare = [timed.wall_ms for timed in floor]
        times = [timed.wall_ms for timed in ours]
        rows.append(Row(name, times, "ms", bare, about="ratio", target=target))
    return rows


def append(setup: Setup) -> list[Row]:
    """Hold entries with chain, tree, checks and seals against bare rows of the same bytes."""
    stage = setup.stage
    rows = []
    for name, batch, count, how, target in (
        ("append, 100 a commit", 100, 50_000, "cadence", 0.35),
        ("append, 1 a commit", 1, 3_000, "cadence", 0.6),
        ("append, 1 a commit, sealed at once", 1, 2_000, "at-once", 0.0),
    ):
        project = stage.project(f"append-{batch}-{how}")
        before = stage.size(project)
        found = []
        for _ in range(setup.pairs):
            setup.quiet.wait()
            words = (str(batch), str(count), how)
            found.append(json.loads(stage.inside("append", project, *words)))
        if stage.size(project) != before + count * setup.pairs:
            raise SystemExit(f"{name}: entries are missing")
        rows.append(
            Row(
                name,
                [one["ours"] for one in found],
                "/s",
                [one["floor"] for one in found],
                about="ratio",
                target=target,
                at_least=True,
                note=f"{found[0]['bytes']:.0f} bytes an entry",
            )
        )
    return rows


def verify_rate(setup: Setup) -> list[Row]:
    """Check every sentence over a record of pure rounds, without the canonical lint."""
    project = setup.stage.project("verify")
    setup.stage.inside("fill", project, str(VERIFIED))
    rates, floor = [], []
    for _ in range(setup.pairs):
        setup.quiet.wait()
        found = json.loads(setup.stage.inside("verify", project))
        if not found["held"]:
            raise SystemExit("the record that was filled does not verify")
        rates.append(found["entries"] / found["seconds"])
        floor.append(found["entries"] / found["floor_seconds"])
    note = f"{found['entries']:,} entries"
    return [Row("verify", rates, "/s", floor, about="ratio", target=0.4, at_least=True, note=note)]


def proof(setup: Setup) -> list[Row]:
    """Make inclusion proofs out of a million entries."""
    project = setup.stage.project("proof")
    setup.stage.inside("grow", project, str(PROVEN))
    setup.quiet.wait()
    times = json.loads(setup.stage.inside("proof", project, "200"))
    return [Row("inclusion proof", times, "ms", target=5, note=f"out of {PROVEN:,} entries")]


def idle(setup: Setup) -> list[Row]:
    """Watch a conductor that waits: its processor time, and how soon it starts a request."""
    stage = setup.stage
    project = stage.project("idle")
    argv = stage.command(project, "run", "three", "--continuous", "--interval", "3600")
    running = subprocess.Popen(
        argv,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=dict(stage.environment),
    )
    try:
        time.sleep(3)
        before = cpu_ms(running.pid)
        time.sleep(IDLE_S)
        spent = (cpu_ms(running.pid) - before) / IDLE_S
        setup.quiet.wait()
        times = json.loads(stage.inside("knock", project, str(setup.pairs)))
    finally:
        running.terminate()
        running.wait()
    stage.verify(project)
    return [
        Row("idle, processor time", [spent], "ms/s", target=1, note=f"over {IDLE_S:g} s"),
        Row("idle, request to start", times, "ms", target=20),
    ]


BENCHMARKS: Final[Mapping[str, Callable[[Setup], list[Row]]]] = {
    "cold": cold,
    "warm": warm,
    "forked": forked,
    "startup": startup,
    "append": append,
    "verify_rate": verify_rate,
    "proof": proof,
    "idle": idle,
}


def main() -> None:
    """Run what was asked for, print the table, and fail with --strict when a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_Plain)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure there")
    parser.add_argument("--pairs", type=int, default=7, help="pairs of each comparison")
    parser.add_argument("--strict", action="store_true", help="exit 1 when a target is missed")
    parser.add_argument("--peers", nargs="*", metavar="PEER", help=", ".join(peers.PEERS))
    parser.add_argument("--folder", type=Path, help="where to work; its disk is what is measured")
    given = parser.parse_args()
    unknown = set(given.names) - set(BENCHMARKS) | set(given.peers or ()) - set(peers.PEERS)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    asked = given.names or ([] if given.peers is not None else list(BENCHMARKS))
    quiet = Quiet()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="runwright-bench-", dir=given.folder) as folder:
        line = machine(Path(folder))
        setup = Setup(Stage(Path(folder)), given.pairs, quiet)
        for name in asked:
            progress(f"{name} …")
            rows += BENCHMARKS[name](setup)
        if given.peers is not None:
            rows += peers.cold(setup.stage, given.peers or list(peers.PEERS), given.pairs, quiet)
    print(table(rows))
    print(f"\n{line}")
    if quiet.noisy:
        print(f"not quiet in {quiet.noisy} measurements: something else was running")
    if quiet.again:
        print(f"{quiet.again} pairs measured again: the host took time for others")
    if given.json:
        found = {"machine": line, "noisy": quiet.noisy, "rows": [row.as_json() for row in rows]}
        given.json.write_text(json.dumps(found, indent=2))
    if given.strict and not all(row.holds() for row in rows):
        sys.exit(1)


class _Plain(argparse.RawDescriptionHelpFormatter):
    """Keeps the lines of the description."""


def _done(timed: Timed) -> Timed:
    if timed.exit:
        raise SystemExit(f"a measured command ended with {timed.exit}")
    return timed


def _median_cpu(timed: Sequence[Timed]) -> float:
    return statistics.median(each.cpu_ms for each in timed)


if __name__ == "__main__":
    main()
