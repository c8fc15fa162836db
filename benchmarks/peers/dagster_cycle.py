"""Dagster in one process: the cycle a job, each function an op, events in its instance's SQLite."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

HOME, PYTHON, *SCRIPTS = sys.argv[1:]
os.environ["DAGSTER_HOME"] = HOME
Path(HOME, "dagster.yaml").write_text("telemetry:\n  enabled: false\n")

import dagster  # noqa: E402 - it reads DAGSTER_HOME


def function(script: str) -> Any:
    """Return the op of one script."""

    @dagster.op(name=Path(script).stem)
    def run() -> Any:
        done = subprocess.run([PYTHON, script], capture_output=True, timeout=300, check=True)
        return json.loads(done.stdout)

    return run


@dagster.job(executor_def=dagster.in_process_executor)
def cycle() -> None:
    for script in SCRIPTS:
        function(script)()


ended = cycle.execute_in_process(instance=dagster.DagsterInstance.get())
sys.exit(0 if ended.success else 1)
