"""Which runs of a round may start now: order in a lane, lanes side by side, one rate for all."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from runwright.kernel.run import Rate, RunPlan


class Lanes:
    """The runs of a round that have not started, by lane; pure bookkeeping."""

    def __init__(self, runs: Sequence[RunPlan], rate: Rate | None = None) -> None:
        """Queue the runs in the order of the plan."""
        self._ready: deque[RunPlan] = deque()
        self._waiting: dict[str, deque[RunPlan]] = {}
        #: How many runs wait for another one of their lane.
        self._queued = 0
        self._repeats: list[tuple[float, int, RunPlan]] = []
        self._rate = rate
        self._starts: deque[float] = deque()
        self._place = {run.key: index for index, run in enumerate(runs)}
        for run in runs:
            if run.lane and run.lane in self._waiting:
                self._waiting[run.lane].append(run)
                self._queued += 1
            else:
                if run.lane:
                    self._waiting[run.lane] = deque()
                self._ready.append(run)

    def __len__(self) -> int:
        """Return how many runs have not started or wait to be repeated."""
        return len(self._ready) + self._queued + len(self._repeats)

    def take(self, now_s: float, free: int) -> list[RunPlan]:
        """Return at most `free` runs that may start now, repeats that are due first."""
        due = [item for item in self._repeats if item[0] <= now_s]
        for item in sorted(due, key=lambda item: item[:2], reverse=True):
            self._repeats.remove(item)
            self._ready.appendleft(item[2])
        taken: list[RunPlan] = []
        while self._ready and len(taken) < free and self._may_start(now_s):
            taken.append(self._ready.popleft())
            if self._rate is not None:
                self._starts.append(now_s)
        return taken

    def stamp(self, *, taken: int, started: int, at_s: float) -> None:
        """Say when runs that were taken last did start, and how many of them."""
        if self._rate is not None:
            for _ in range(taken):
                self._starts.pop()
            self._starts.extend([at_s] * started)

    def ended(self, run: RunPlan) -> None:
        """Let the next run of the lane start."""
        queue = self._waiting.get(run.lane) if run.lane else None
        if queue:
            self._ready.append(queue.popleft())
            self._queued -= 1

    def repeat(self, run: RunPlan, due_s: float) -> None:
        """Start a run again at an instant; its lane waits for it."""
        self._repeats.append((due_s, len(self._repeats), run))

    def next_s(self, now_s: float) -> float | None:
        """Return when a run may start that may not start now; None when only an end can tell."""
        instants = [item[0] for item in self._repeats]
        if self._ready and self._rate is not None and not self._may_start(now_s):
            instants.append(self._starts[0] + float(self._rate.period_s))
        return min(instants, default=None)

    def clear(self) -> list[RunPlan]:
        """Forget every run that has not started and return them in order of the plan."""
        left = [*self._ready, *(item[2] for item in self._repeats)]
        for queue in self._waiting.values():
            left.extend(queue)
        self._ready.clear()
        self._waiting.clear()
        self._queued = 0
        self._repeats.clear()
        return sorted(left, key=lambda run: self._place[run.key])

    def _may_start(self, now_s: float) -> bool:
        if self._rate is None:
            return True
        while self._starts and self._starts[0] + float(self._rate.period_s) <= now_s:
            self._starts.popleft()
        return len(self._starts) < self._rate.starts
