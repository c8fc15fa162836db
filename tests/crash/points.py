"""The system calls by which a command changes what is durable, and faults at exactly one of them.

A first run is traced to count them; a later one is stopped at the n-th call of a kind. strace
counts for each thread: where a thread of the conductor or a child may reach the same number first,
only the main thread is traced, and what is left for the others is read from a trace of all of them.
A signal is delivered on entry, so the call that a point names has not happened.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from tests.e2e.project import SOON_S, Done

KILL, EIO, ENOSPC = "signal=SIGKILL", "error=EIO", "error=ENOSPC"
#: What changes files or their names; those that a machine does not know are left out by `?`.
KINDS = (
    "write pwrite64 writev pwritev pwritev2 fsync fdatasync sync_file_range rename renameat "
    "renameat2 unlink unlinkat rmdir mkdir mkdirat ftruncate truncate fallocate link linkat "
    "symlink symlinkat chmod fchmod fchmodat utimensat copy_file_range sendfile"
).split()
#: In a child, or in a thread that follows one, none of these happens.
MAIN_ONLY = frozenset("pwrite64 fsync fdatasync rename ftruncate".split())
#: By what the thread that follows a child acts: folders of attempts, handing a child over.
BESIDE = "mkdir chmod unlink rmdir sendmsg".split()

_LINE = re.compile(r"^(?:(\d+) +)?(\w+)\((.*)")
_OPEN = re.compile(r"^\d+<([^>]*)>")
_NAMED = re.compile(r'"((?:[^"\\]|\\.)*)"')


class Point(NamedTuple):
    """The n-th call of a kind."""

    kind: str
    n: int
    #: The file or folder, or "" for a socket.
    path: str
    #: By a thread beside the main one.
    is_beside: bool = False

    @property
    def role(self) -> str:
        """What the file is for: its name without what differs from run to run."""
        if self.path.startswith("pipe:"):
            return "output"
        name = Path(self.path).name
        return re.sub(r"[0-9a-f]{12,}|CYCLE_\d+_\d+|\d{2,}|^\d", "*", name)

    def __str__(self) -> str:
        return f"{self.kind} {self.n} on {self.role}"


class Traced(NamedTuple):
    """How a command under strace ended."""

    done: Done
    #: What it wrote about the system calls.
    lines: list[str]

    @property
    def was_hit(self) -> bool:
        """Whether the fault was injected."""
        return any("(INJECTED)" in line for line in self.lines) or self.was_killed

    @property
    def was_killed(self) -> bool:
        """Whether it ended by SIGKILL; strace ends the way its tracee did."""
        return self.done.status in (-9, 137)


class Command(NamedTuple):
    """A command, where it is given, and whether it starts threads or children."""

    argv: Sequence[str]
    folder: Path
    environment: Mapping[str, str]
    starts_others: bool = True

    def run(self) -> Done:
        """Run it to its end, without strace."""
        return self._ended(list(self.argv))

    def traced(self, *options: str, kinds: Sequence[str], follow: bool) -> Traced:
        """Run it to its end under strace."""
        out = self.folder.parent / "strace.out"
        how = ["-f"] if follow else []
        argv = ["strace", "-q", "-y", *how, "-o", str(out)]
        argv += ["-e", "trace=" + ",".join(f"?{kind}" for kind in kinds), *options, *self.argv]
        done = self._ended(argv)
        return Traced(done, out.read_text(errors="replace").splitlines())

    def _ended(self, argv: list[str]) -> Done:
        process = subprocess.run(
            argv,
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=SOON_S,
        )
        texts = (text.decode(errors="replace") for text in (process.stdout, process.stderr))
        return Done(process.returncode, *texts)

    def points(self) -> list[Point]:
        """Return every point of a whole run, in the order of the main thread's, then the others."""
        whole = self.traced(kinds=KINDS, follow=False)
        assert whole.done.status == 0, whole.done
        return [point for _, point in _points(whole.lines) if _is_durable(point)]

    def points_beside(self) -> list[Point]:
        """Return the points of the threads that follow children."""
        whole = self.traced(kinds=BESIDE, follow=True)
        assert whole.done.status == 0, whole.done
        found = list(_points(whole.lines))
        beside = {thread for thread, point in found if "/scratch/" in point.path}
        assert beside, "the folders of attempts are in the trace"
        return [point._replace(is_beside=True) for thread, point in found if thread in beside]

    def stopped_at(self, point: Point, fault: str) -> Traced:
        """Run it with a fault at one point."""
        inject = f"inject={point.kind}:{fault}:when={point.n}"
        follow = point.is_beside or (fault != KILL and self._is_alone(point))
        # With a filter in the kernel the other calls cost nothing, but no signal is delivered.
        filtered = ["--seccomp-bpf"] if follow and fault != KILL else []
        return self.traced("-e", inject, *filtered, kinds=[point.kind], follow=follow)

    def _is_alone(self, point: Point) -> bool:
        """Say whether only the main thread gets to this number of this call."""
        return not self.starts_others or point.kind in MAIN_ONLY


def _points(lines: Sequence[str]) -> Iterator[tuple[str, Point]]:
    """Yield each call with its thread, numbered as strace numbers them."""
    counts: Counter[tuple[str, str]] = Counter()
    for match in filter(None, map(_LINE.match, lines)):
        thread, kind, rest = match[1] or "", match[2], match[3]
        counts[thread, kind] += 1
        named = _OPEN.match(rest) or _NAMED.search(rest)
        yield thread, Point(kind, counts[thread, kind], named[1] if named else "")


def _is_durable(point: Point) -> bool:
    """Leave out what goes to a socket or a pipe that is not the command's own output."""
    return not point.path.startswith(("socket:", "anon_inode:"))


def thin(points: Sequence[Point], most: int) -> list[Point]:
    """Return a fixed part of them: the last of each stretch of like calls, evenly up to `most`."""
    stretches = groupby(points, key=lambda point: (point.kind, point.role))
    lasts = [list(stretch)[-1] for _, stretch in stretches]
    step = max(1.0, len(lasts) / most)
    return [lasts[int(index * step)] for index in range(min(most, len(lasts)))]


def unusable() -> str:
    """Return why strace cannot be used here; empty when it can."""
    if shutil.which("strace") is None:
        return "strace is not installed (`make tools` installs it)"
    argv = ["strace", "-f", "--seccomp-bpf", "-o", "/dev/null", "-e", "trace=write", "true"]
    done = subprocess.run(argv, capture_output=True, timeout=SOON_S)
    if done.returncode != 0:
        return f"strace may not trace here: {done.stderr.decode().strip()[:80]}"
    return ""
