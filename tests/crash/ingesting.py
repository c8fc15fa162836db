"""Takes events in without end, and says what was acknowledged; it ends by being killed.

    python -m tests.crash.ingesting FOLDER TRIAL BUILD

Two threads put numbered events; after each group the driver prints the newest ingest_seq that is
durable and waits for an answer. The build "early" acknowledges a group before it is committed.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from runwright.kernel.drive.intake import Intake
from tests.crash.logs import opened

THREADS = 2


class Telling(Intake):
    """An intake that tells after each group what is durable."""

    is_early = False

    def _append(self) -> None:
        if self.is_early:
            tell(self.acknowledged + min(len(self._pending), self._group))
        super()._append()
        if not self.is_early:
            tell(self.acknowledged)


def tell(acknowledged: int) -> None:
    sys.stdout.write(f"{acknowledged}\n")
    sys.stdout.flush()
    sys.stdin.read(1)


def put(intake: Intake, name: str) -> None:
    number = 0
    while True:
        intake.put(b"%s/%d" % (name.encode(), number), name)
        number += 1


def main() -> None:
    """Take events in until somebody kills it."""
    folder, trial, build = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    stage = opened(folder)
    intake = Telling(stage.log(segment_records=400), window=100, group=40)
    intake.is_early = build == "early"
    with intake:
        for number in range(THREADS):
            name = f"{trial}-{number}"
            threading.Thread(target=put, args=[intake, name], daemon=True).start()
        while True:
            with intake.alone() as log:
                log.seal()


if __name__ == "__main__":
    main()
