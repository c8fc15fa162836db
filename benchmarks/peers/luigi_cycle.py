"""Luigi: each function a task, its output a file. Nothing else is kept, and nothing is flushed."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import luigi

HOME, PYTHON, *SCRIPTS = sys.argv[1:]


class Function(luigi.Task):
    """One function."""

    cycle = luigi.Parameter()
    script = luigi.Parameter()

    def output(self) -> luigi.LocalTarget:
        """Return where it leaves what it printed."""
        return luigi.LocalTarget(f"{HOME}/{self.cycle}/{Path(self.script).stem}.json")

    def run(self) -> None:
        """Run it."""
        done = subprocess.run([PYTHON, self.script], capture_output=True, timeout=300, check=True)
        with self.output().open("w") as file:
            file.write(done.stdout.decode())


class Cycle(luigi.WrapperTask):
    """All of them."""

    cycle = luigi.Parameter()

    def requires(self) -> list[luigi.Task]:
        """Return the functions."""
        return [Function(self.cycle, script) for script in SCRIPTS]


cycle = Cycle(str(time.time_ns()))
ended = luigi.build([cycle], local_scheduler=True, workers=1, log_level="WARNING")
sys.exit(0 if ended else 1)
