"""A keeper: the supervisor of a template, and of one child after the other that it forks.

What a template imported is no code of ours, so nothing that it says decides anything: its children
come to the keeper as orphans come to every supervisor, are limited by it from outside, counted by
what the kernel says of them, and ended with all that descends from them. The next child is forked
after the one before it has ended and stands ready up to its last step.
"""

from __future__ import annotations

import _socket
import marshal
import os
import select
import time

from runwright.adapters.cgroups import join
from runwright.adapters.processes import INT_BYTES, SIGKILL, close, descendants, receive, send
from runwright.adapters.supervisor import (
    BY_ITSELF,
    LENGTH_BYTES,
    STARTING,
    STEPS,
    Supervisor,
    report,
    set_limit,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    # typing alone takes as long to import as everything else here.
    from typing import Any, Final

#: What a keeper says to its template: fork the next child.
FORK: Final = b"f"
#: The most bytes in which a template says what it imported.
TOLD_BYTES_MAX: Final = 8 << 20
#: Seconds that a template has to fork a child.
FORK_S: Final = 10.0


class Keeper(Supervisor):
    """Keeps a template and supervises what it forks, one at a time."""

    def __init__(self, started: Supervisor) -> None:
        """Go on with a supervisor that has just started a template."""
        self.channel = self.control = started.control
        self.lifeline = started.lifeline
        self.wake = started.wake
        self.ends = started.ends
        #: What the template is told, and tells, by.
        self.errand = started.errand
        self.trouble = started.trouble
        self.template = started.child
        self.child = 0
        self.status = None
        self.ended = BY_ITSELF
        self.urgent = False
        self.childless = False
        self.killed = set()
        self.group = started.group
        self.may_stay = False
        #: The child that stands ready, and the socket that it waits at.
        self.ready = 0
        self.door: _socket.socket | None = None
        #: That of the child at work.
        self.sent: _socket.socket | None = None
        self.cpu_s, self.peak = 0.0, 0
        #: The template says nothing more, or nothing that makes sense.
        self.is_broken = False
        self.told = select.poll()
        self.told.register(started.errand.fileno(), select.POLLIN)

    def serve(self, taking: int = -1) -> int:  # noqa: ARG002 - that of a supervisor
        """Supervise a child for each request until the conductor or the template is gone."""
        poll = select.poll()
        for descriptor in (self.wake, self.lifeline, self.channel.fileno(), self.errand.fileno()):
            poll.register(descriptor, select.POLLIN)
        try:
            if self._pass_on_what_it_says(poll):
                self._order()
                while self._turn(poll):
                    pass
        except OSError:
            # Somebody went away, and with nobody to ask or to be asked this is over.
            pass
        self._end_template()
        return 0

    def _turn(self, poll: select.poll) -> bool:
        """Do what comes next; False when it is over."""
        events = {descriptor for descriptor, _events in poll.poll()}
        if self.wake in events:
            os.read(self.wake, 512)
            self._reap()
        if self.lifeline in events or not self.template:
            return False
        if self.errand.fileno() in events and not self._hear_of_next() and self._is_silent():
            return False
        if self.channel.fileno() in events:
            _word, passed = receive(self.channel, 1)
            if not passed:
                # Closed, or told to end.
                return False
            self._run(passed[0])
        return bool(self.template) and not self.is_broken

    # --------------------------------------------------------------------------- the template

    def _pass_on_what_it_says(self, poll: select.poll) -> bool:
        """Tell the conductor what the template imported; False when there is nothing to go on with.

        The conductor closes the channel when that takes too long.
        """
        told = b""
        size = LENGTH_BYTES
        while len(told) < size:
            events = {descriptor for descriptor, _events in poll.poll()}
            if self.lifeline in events or self.channel.fileno() in events:
                return False
            if self.errand.fileno() in events:
                piece = self.errand.recv(size - len(told))
                told += piece
                if len(told) == LENGTH_BYTES:
                    size += int.from_bytes(told, "big")
                if not piece or size > TOLD_BYTES_MAX:
                    self._say(self._why_it_ended())
                    return False
            elif self.wake in events:
                os.read(self.wake, 512)
        if self._others():
            self._say("its imports left processes behind")
            return False
        self.channel.sendall(told)
        return True

    def _why_it_ended(self) -> str:
        send(self.template, SIGKILL)
        _pid, status = os.waitpid(self.template, 0)
        self.template = 0
        step, _, number = os.read(self.trouble, 64).partition(b" ")
        if step:
            return f"its template could not start: {os.strerror(int(number or 0))}"
        code = os.waitstatus_to_exitcode(status)
        how = f"exit status {code}" if code >= 0 else f"signal {-code}"
        return f"its template ended while it imported: {how}"

    def _say(self, problem: str) -> None:
        body = f"problem\0{problem}\0".encode()
        self.channel.sendall(len(body).to_bytes(LENGTH_BYTES, "big") + body)

    def _order(self) -> None:
        """Have the next child forked."""
        self.errand.send(FORK)

    def _take_ready(self) -> None:
        """Take in which child stands ready. Raises: OSError when that is none of ours."""
        data, passed = receive(self.errand, INT_BYTES)
        pid = int.from_bytes(data, "big")
        if self.ready or len(passed) != 1 or pid == self.template or not _is_process(pid):
            for descriptor in passed:
                os.close(descriptor)
            raise OSError
        self.ready = pid
        self.door = _socket.socket(-1, -1, -1, passed[0])

    def _end_template(self) -> None:
        """Kill the template and what stands ready."""
        self.template = self.ready = 0
        self.status = None
        self.childless = False
        self.child = 0
        self._kill()

    # -------------------------------------------------------------------------------- a child

    def _run(self, passed: int) -> None:
        """Let the child that stands ready do what is asked, see it to its end, order the next."""
        self.control = _socket.socket(-1, -1, -1, passed)
        frame, output = self._read_request()
        try:
            if output:
                self._send_off(self.control, frame, output)
        finally:
            close(output)
            self.control.close()
            self.control = self.channel

    def _send_off(self, control: _socket.socket, frame: bytes, output: list[int]) -> None:
        if not self._is_ready():
            # Nothing was said, so the conductor knows that nothing was started.
            self.template = 0
            return
        request = marshal.loads(frame[LENGTH_BYTES:])  # noqa: S302 - written by our conductor
        self.child, self.ready = self.ready, 0
        self.sent, self.door = self.door, None
        self.status, self.ended = None, BY_ITSELF
        self.urgent = self.childless = False
        self.killed = set()
        self.cpu_s, self.peak = 0.0, 0
        self.events = select.poll()
        for descriptor in (self.wake, self.lifeline, control.fileno()):
            self.events.register(descriptor, select.POLLIN)
        problem = self._limit(request)
        if problem:
            send(self.child, SIGKILL)
            self._complaint()
            control.send(problem)
            return
        control.send(STARTING)
        started = time.monotonic()
        self._send_on(self._at_work(), frame, output)
        # Forked while this one runs, the next one need not be waited for.
        try:
            self._order()
        except OSError:
            self.is_broken = True
        self.see_to_end(request, started)

    def _at_work(self) -> _socket.socket:
        if self.sent is None:
            raise OSError
        return self.sent

    def _is_ready(self) -> bool:
        """Wait until a child stands ready and is ours; False when there will be none."""
        if not self.ready and not self.told.poll(FORK_S * 1000):
            return False
        if not self.ready:
            self._take_ready()
        until = time.monotonic() + FORK_S
        # The process between it and the template is about to end.
        while self.ready not in self._children():
            if time.monotonic() > until or not _is_process(self.ready):
                return False
            os.sched_yield()
        return True

    def _limit(self, request: dict[str, Any]) -> bytes:
        """Limit the child, which waits; return the report of why it could not be, if so."""
        try:
            if request["tasks"]:
                join(self.group, request["tasks"], self.child)
            for limit, value, spare in request["limits"]:
                set_limit(self.child, limit, value, spare)
        except OSError as error:
            return report({"step": STEPS.index("limits"), "errno": error.errno or 0})
        except ValueError:
            return report({"step": STEPS.index("limits")})
        return b""

    def _complaint(self) -> bytes:
        """Return what failed before its code ran."""
        door = self._at_work()
        try:
            return door.recv(64, _socket.MSG_DONTWAIT)
        except OSError:
            return b""
        finally:
            door.close()

    def _reap(self) -> None:
        """Collect what ended; what is left is looked for when the child has ended."""
        while True:
            try:
                pid, status, used = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                self.childless = True
                break
            if pid == 0:
                break
            if pid == self.template:
                self.template = 0
                continue
            self.cpu_s += used.ru_utime + used.ru_stime
            self.peak = max(self.peak, used.ru_maxrss)
            if pid == self.child:
                self.status = status
        if self.child and self.status is not None and not self._others():
            self.childless = True

    def _others(self) -> list[int]:
        """Return what is there beside the template and what stands ready."""
        children = self._children()
        # One that came to stand ready was announced before it came here.
        if len(children) > 1:
            self._hear_of_next()
        return [each for each in children if each not in (self.template, self.ready)]

    def _children(self) -> list[int]:
        """Return the children of this process, those that ended and were not collected too."""
        own = os.getpid()
        try:
            with open(f"/proc/{own}/task/{own}/children") as file:  # noqa: PTH123 - pathlib is slow
                return [int(word) for word in file.read().split()]
        except OSError:
            # A kernel without that list.
            return descendants(own, apart={self.template} if self.template else frozenset())

    def _descendants(self) -> list[int]:
        while True:
            apart = {each for each in (self.template, self.ready) if each}
            found = descendants(os.getpid(), apart=apart)
            # Whoever came to stand ready meanwhile is among them.
            if not self._hear_of_next():
                return found

    def _is_silent(self) -> bool:
        """Say whether the template ended, or says what nobody asked."""
        return self.is_broken or bool(self.told.poll(0))

    def _hear_of_next(self) -> bool:
        """Take in who stands ready, if somebody does and was not known; False otherwise."""
        if self.ready or self.is_broken or not self.template or not self.told.poll(0):
            return False
        try:
            self._take_ready()
        except OSError:
            # Its death is not that of the child that runs.
            self.is_broken = True
        return not self.is_broken


def _is_process(pid: int) -> bool:
    return pid > 1 and send(pid, 0)
