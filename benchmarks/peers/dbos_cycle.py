"""DBOS on SQLite: the cycle a workflow, each function a step whose result is kept."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from dbos import DBOS

HOME, PYTHON, *SCRIPTS = sys.argv[1:]
DBOS(
    config={
        "name": "cycle",
        "system_database_url": f"sqlite:///{HOME}/dbos.sqlite",
        "log_level": "ERROR",
        "run_admin_server": False,
    }
)


@DBOS.step()
def run(script: str) -> Any:
    done = subprocess.run([PYTHON, script], capture_output=True, timeout=300, check=True)
    return json.loads(done.stdout)


@DBOS.workflow()
def cycle() -> list[Any]:
    return [run(script) for script in SCRIPTS]


DBOS.launch()
cycle()
DBOS.destroy()
