"""The same cycle in other orchestrators: three functions, each in its own process, cold.

Each peer gets an environment of its own by pip, when the package index is reachable. Its children
are the same as ours and the floor's, by the same interpreter. What it records differs, and its
script says what that is.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from measure import Quiet, Row, pairs, process, progress
from stage import FUNCTIONS, Stage

HERE: Final = Path(__file__).parent


class Peer(NamedTuple):
    """An orchestrator that runs the cycle."""

    script: str
    packages: Sequence[str]


PEERS: Final = {
    "luigi": Peer("luigi_cycle.py", ["luigi"]),
    "dbos": Peer("dbos_cycle.py", ["dbos"]),
    "dagster": Peer("dagster_cycle.py", ["dagster"]),
    # Newer fastapi breaks it at import or when its server starts.
    "prefect": Peer("prefect_cycle.py", ["prefect", "fastapi==0.119.1"]),
}


def cold(stage: Stage, names: Sequence[str], count: int, quiet: Quiet) -> list[Row]:
    """Return a row for each peer that could be installed."""
    rows = []
    for name in names:
        progress(f"peer {name} …")
        python = _installed(stage.folder / name, PEERS[name].packages)
        if python is None:
            progress(f"peer {name} could not be installed: left out")
            continue
        home = stage.folder / f"{name}-home"
        home.mkdir()
        argv = [python, str(HERE / PEERS[name].script), str(home), stage.python]
        argv += [str(script) for script in FUNCTIONS]
        environment = {**stage.environment, "HOME": str(home)}
        ours, floor = pairs(
            count,
            quiet,
            lambda argv=argv, environment=environment: process(argv, environment),
            lambda: process(stage.floor("peers.db"), stage.environment),
        )
        if any(timed.exit for timed in ours):
            progress(f"peer {name} ended with {ours[0].exit}: left out")
            continue
        rows.append(
            Row(
                f"{name}, cold cycle",
                [timed.wall_ms for timed in ours],
                "ms",
                [timed.wall_ms for timed in floor],
                note=f"peak {max(timed.peak_mib for timed in ours):.0f} MiB",
            )
        )
    return rows


def _installed(folder: Path, packages: Sequence[str]) -> str | None:
    """Return the Python of an environment with the packages; None when they cannot be had."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = folder / "bin" / "python"
    done = subprocess.run(
        [str(python), "-m", "pip", "install", "--quiet", *packages], check=False, timeout=900
    )
    return str(python) if done.returncode == 0 else None
