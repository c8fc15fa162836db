"""Start children and end their whole trees: a program of its own, bare enough to fork cheaply.

The conductor starts it before anything else and keeps a socket to it (file descriptor 0 here). For
each child it sends three descriptors: a control socket and the write ends of two output pipes. A
supervisor takes them, reads from the control socket what to start, starts it in a session of its
own, ends it in time, and reports when no descendant is left. One supervisor, with its child up to
the last step, always stands ready: two forks cost more than all the rest.

A supervisor is a subreaper, so a descendant that forked twice or left its session is still found.
It ends its tree when its control socket closes (the conductor died) or its launcher does. The
launcher is a subreaper too and kills what a supervisor that was itself killed left behind. Only
modules that import in no time stand here: `socket` and `signal` alone would double the start.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # typeshed knows only `signal`, which imports enum
import _socket
import gc
import os
import select
import time

from runwright.adapters.cgroups import find, prefix, remove, sweep
from runwright.adapters.processes import (
    CHILD_SUBREAPER,
    GIVE_UP_S,
    IGNORED,
    SEARCH_S,
    SIGKILL,
    descendants,
    load_prctl,
    receive,
    send,
    wake_on_child,
)
from runwright.adapters.sandbox import Sandbox
from runwright.adapters.supervisor import (
    CONDUCTOR,
    COUNTS,
    HOLDS_T1,
    NOBODY_ASKS,
    STEPS,
    Supervisor,
    report,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    # typing alone takes as long to import as everything else here.
    from collections.abc import Callable
    from typing import Final

#: Supervisors that may end one after the other before they were asked.
MISSES_MAX: Final = 10


def main() -> None:
    """Serve the conductor until its socket closes and the last supervisor has ended."""
    gc.disable()
    gc.freeze()
    prctl = load_prctl()
    prctl(CHILD_SUBREAPER, 1)
    for number in IGNORED:
        _signal.signal(number, _signal.SIG_IGN)
    base = find()
    Launcher(prctl, _load_sandbox(), prefix(base) if base else "").serve()
    if base:
        sweep(base)
    os._exit(0)


def _load_sandbox() -> Sandbox | None:
    """Return what children are confined with, None where T1 is not held."""
    try:
        return Sandbox()
    except OSError:
        return None


class Launcher:
    """Keeps one supervisor ready and knows those that are at work."""

    def __init__(
        self, prctl: Callable[[int, int], object], sandbox: Sandbox | None, groups: str
    ) -> None:
        """Tell the conductor what is held here."""
        self.prctl = prctl
        self.sandbox = sandbox
        self.groups = groups
        self.conductor = _socket.socket(-1, -1, -1, CONDUCTOR)
        try:
            self.conductor.send(bytes([HOLDS_T1 * bool(sandbox) | COUNTS * bool(groups)]))
        except OSError:
            # The conductor is gone already.
            os._exit(0)
        # Supervisors hold the read end, nobody but the launcher the write end.
        self.lifeline, self.alive = os.pipe()
        # A supervisor writes here once it has taken a request.
        self.taken, self.taking = os.pipe()
        self.wake = wake_on_child()
        self.supervisors: set[int] = set()
        #: Supervisors that ended while something else was being waited for, with their status.
        self.ended: list[tuple[int, int]] = []
        self.ready = 0
        self.misses = 0
        self.serving = True

    def serve(self) -> None:
        """Keep a supervisor ready until the conductor is gone, and wait for those at work."""
        poll = select.poll()
        poll.register(self.taken, select.POLLIN)
        poll.register(self.wake, select.POLLIN)
        while self.serving or self.supervisors:
            if self.serving and not self.ready:
                self._make_ready()
            events = poll.poll()
            # In this order: one that has been taken may have ended as well.
            for descriptor, _events in sorted(events):
                if descriptor == self.taken:
                    os.read(self.taken, 1)
                    self.ready = 0
                    self.misses = 0
                else:
                    os.read(self.wake, 512)
                    self._reap()

    def _make_ready(self) -> None:
        """Fork the next supervisor; when that fails, tell the one who asks next."""
        try:
            pid = os.fork()
        except OSError as error:
            self._decline(error.errno or 0)
            return
        if pid:
            self.ready = pid
            self.supervisors.add(pid)
            return
        status = 1
        # Whatever happens, this process must not go on as a second launcher.
        try:
            os.close(self.alive)
            os.close(self.taken)
            os.close(self.wake)
            supervisor = Supervisor(
                self.conductor, self.lifeline, self.prctl, self.sandbox, self.groups
            )
            status = supervisor.serve(self.taking)
            if supervisor.keeps:
                from runwright.adapters.keeper import Keeper  # lazy: few children are templates

                Keeper(supervisor).serve()
        finally:
            os._exit(status)

    def _decline(self, errno: int) -> None:
        data, passed = receive(self.conductor, 1)
        if passed:
            os.write(passed[0], report({"step": STEPS.index("fork"), "errno": errno}))
        for descriptor in passed:
            os.close(descriptor)
        self.serving = bool(data)

    def _reap(self) -> None:
        """Forget supervisors that ended; one that was killed left its tree to the launcher."""
        while self.supervisors:
            pid, status = self.ended.pop() if self.ended else os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            if pid not in self.supervisors:
                continue
            self.supervisors.discard(pid)
            if pid == self.ready:
                self.ready = 0
                self.misses += 1
                gone = os.waitstatus_to_exitcode(status) == NOBODY_ASKS
                self.serving = self.serving and not gone and self.misses < MISSES_MAX
            if os.WIFSIGNALED(status):
                self._kill_left()
                if self.groups:
                    remove(f"{self.groups}{pid}")

    def _kill_left(self) -> None:
        """Kill descendants that no living supervisor answers for."""
        until = time.monotonic() + GIVE_UP_S
        while time.monotonic() < until:
            left = descendants(os.getpid(), apart=self.supervisors)
            if not left:
                return
            for pid in left:
                send(pid, SIGKILL)
            # A killed parent's children come here a moment later.
            select.poll().poll(SEARCH_S * 1000)
            self._collect()

    def _collect(self) -> None:
        """Collect what has ended: the first process of a namespace ends only after that."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid in self.supervisors:
                self.ended.append((pid, status))
