"""The control: runs the same children as a plain script would, and prevents nothing.

It gives each a folder and a time limit, kills it when that is over, and goes on. What the tests
look for must be found here, or they would find nothing anywhere.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

#: Seconds after which a reader that is blocked is called blocked.
BLOCKED_S = 0.5
COUNTED_S = 20
RESULT_BYTES_MAX = 256 * 1024


def read_result(path: Path) -> dict[str, Any]:
    """Read what stands where the result belongs, without any care."""
    found: dict[str, Any] = {"blocked": True}

    def read() -> None:
        found["blocked"] = False
        try:
            found["large"] = path.stat().st_size > RESULT_BYTES_MAX
            if not found["large"]:
                found["blocked"] = path.is_fifo()
                found["text"] = path.read_text()
        except OSError as error:
            found["error"] = str(error)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    reader.join(BLOCKED_S)
    return dict(found)


def run(task: dict[str, Any], scratch: Path) -> dict[str, Any]:
    """Run one child and say how it ended."""
    folder = scratch / task["task_name"]
    folder.mkdir()
    config, result = folder / "config.json", folder / "result.json"
    config.write_text(json.dumps(task["task_config"]))
    environment = {
        **os.environ,
        "HOME": str(folder),
        "RUNWRIGHT_CONFIG": str(config),
        "RUNWRIGHT_RESULT": str(result),
        "RUNWRIGHT_RUN_ID": task["task_name"],
    }
    began_s = time.monotonic()
    argv = [sys.executable, task["task_config"]["function_path"], task["task_name"]]
    with (folder / "output").open("wb") as output:
        child = subprocess.Popen(
            argv,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            close_fds=False,
        )
        try:
            child.wait(task["task_config"].get("timeout_s", 20) + 0.2)
        except subprocess.TimeoutExpired:
            # What a plain script does: ask, and go on when it does not help.
            child.terminate()
    found = read_result(result)
    found["duration_ms"] = round((time.monotonic() - began_s) * 1000)
    found["output"] = (folder / "output").stat().st_size
    found["printed"] = (folder / "output").read_bytes()[:4096].decode(errors="replace")
    # Folders that are too deep for it are left.
    with contextlib.suppress(RecursionError):
        shutil.rmtree(folder, ignore_errors=True)
    return found


def main() -> None:
    """Run the children of a file, one after the other."""
    scratch = Path(sys.argv[2])
    place, path = tempfile.mkstemp()
    Path(path).unlink()
    os.write(place, os.environ["ESCAPE_DESCRIPTOR"].encode())
    os.set_inheritable(place, True)
    for task in json.loads(Path(sys.argv[1]).read_bytes()):
        found = run(task, scratch)
        line = {"event": "run.finished", "key": task["task_name"], **found}
        print(json.dumps(line), file=sys.stderr, flush=True)
        # Nothing else starts before what is left of it was counted.
        deadline_s = time.monotonic() + COUNTED_S
        while not (scratch / f"counted.{task['task_name']}").exists():
            if time.monotonic() > deadline_s:
                raise TimeoutError("nobody counted")
            select.select([], [], [], 0.003)


if __name__ == "__main__":
    main()
