"""Where the runs of a round execute: at once, in threads, in processes, or as commands.

The conductor's thread starts runs, waits for what has ended and stops what is under way; it
executes nothing but the calls of an inline place. What has ended arrives in a queue whose `put` is
reentrant, so `wake` may be called in a signal handler.

Calls are functions of ours, named by the plan. In a thread, and inline, they cannot be stopped: a
stop takes back only what has not begun, and a call under way is waited for. Calls in processes can
be killed, which is harmless because only pure rounds use them. Commands are not ours, and can
always be ended (see `launcher`).
"""

from __future__ import annotations

import contextlib
import os
import threading
from _queue import Empty, SimpleQueue  # `queue` imports heapq, too
from _thread import start_new_thread
from collections.abc import Iterable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from runwright.adapters.children import Child, Launcher
from runwright.adapters.commands import Commands
from runwright.adapters.functions import Instants, attempted, call, resolve, stopped
from runwright.adapters.scratch import sweep
from runwright.kernel.errors import Refused
from runwright.kernel.ports import Clock, Messages, Place, Work
from runwright.kernel.run import Executed, Round

if TYPE_CHECKING:
    from runwright.adapters.pool import ProcessPlace
    from runwright.adapters.templates import Templates
    from runwright.adapters.workers import Workers

#: Seconds that the last threads of a closed place have.
JOIN_S: Final = 30.0
#: Seconds after which what is left of a run is removed, when none follows.
REST_S: Final = 0.05


class LocalPlaces:
    """The Places port on this machine."""

    def __init__(
        self,
        *,
        clock: Clock,
        environment: Mapping[str, str],
        scratch: Path,
        private: Sequence[Path] = (),
        messages: Messages | None = None,
        launcher: Launcher | None = None,
    ) -> None:
        """Start nothing; `launcher` is one that was started before these imports.

        `private` are paths of the project that commands must not read, where that can be held.
        """
        self._clock = clock
        self._environment = environment
        self._scratch = scratch
        self._private = [*map(os.path.realpath, private)]
        self._messages = messages
        self._launcher = launcher or Launcher()
        self._templates: Templates | None = None
        self._workers: Workers | None = None
        #: After so many rounds of commands those start warm that wish it; None is never.
        self.warm_after: int | None = 1
        self._rounds = 0
        self._places: tuple[_Place | ProcessPlace, ...] = ()

    def prestart(self) -> None:
        """Start the launcher now, so that the first command need not wait for it."""
        self._launcher.start()

    def sweep(self) -> int:
        """Remove scratch folders that an earlier conductor left; return how many."""
        count = sweep(self._scratch)
        if count and self._messages is not None:
            self._messages("scratch.swept", "scratch folders of an earlier start removed", n=count)
        return count

    def open(self, round: Round) -> Place:  # noqa: A002 - the word
        """Return the place for a round. Raises: refused when its number of workers is not."""
        if round.workers < 1:
            msg = f"round {round.key} asks for {round.workers} workers"
            raise Refused(msg)
        place: InlinePlace | ThreadPlace | ProcessPlace | CommandPlace
        if round.place == "command":
            commands = Commands(
                launcher=self._launcher,
                clock=self._clock,
                environment=self._environment,
                scratch=self._scratch,
                private=self._private,
                templates=self._warm_templates(),
            )
            commands.expect(len(round.runs) if round.workers == 1 else 0)
            self._rounds += 1
            place = CommandPlace(round.workers, commands)
        elif round.place == "process":
            # lazy: few rounds want processes
            from runwright.adapters.pool import ProcessPlace  # lazy: as above
            from runwright.adapters.workers import Workers  # lazy: as above

            if self._workers is None:
                self._workers = Workers(self._launcher, self._scratch, self._private)
            place = ProcessPlace(round.workers, self._clock, self._workers)
        elif round.place == "thread":
            place = ThreadPlace(round.workers, self._clock)
        else:
            place = InlinePlace(self._clock)
        self._places = (*(each for each in self._places if not each.closed), place)
        return place

    def _warm_templates(self) -> Templates | None:
        """Return what functions start warm from; None while they all start cold."""
        if self.warm_after is None or self._rounds < self.warm_after:
            return None
        if self._templates is None:
            from runwright.adapters.templates import Templates  # lazy: one cycle needs none

            self._templates = Templates(self._launcher, self._clock, self._scratch, self._private)
        return self._templates

    def wake(self) -> None:
        """Make `wait` of every open place return; safe in a signal handler."""
        for place in self._places:
            place.wake()

    def hang_up(self) -> None:
        """Let go of places that are still open, and tell the launcher to end."""
        for place in self._places:
            place.close()
            if isinstance(place, CommandPlace):
                place.join()
        self._places = ()
        if self._workers is not None:
            self._workers.close()
        if self._templates is not None:
            self._templates.close()
        self._launcher.hang_up()

    def close(self) -> None:
        """Let go of places that are still open, and of the launcher."""
        self.hang_up()
        self._launcher.close()


class _Place:
    """What all places have: a queue of what has ended."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.closed = False
        self._ended: SimpleQueue[Executed | None] = SimpleQueue()
        #: How many that ended were taken by `wait`.
        self._taken = 0

    def wait(self, timeout_s: float | None) -> list[Executed]:
        """Return what has ended, waiting until something has, `wake` was called or time is up."""
        ended: list[Executed | None] = []
        # Empty: nothing in time, or all that there was.
        with contextlib.suppress(Empty):
            ended.append(self._ended.get(timeout=timeout_s))
            while True:
                ended.append(self._ended.get_nowait())
        taken = [each for each in ended if each is not None]
        self._taken += len(taken)
        return taken

    def wake(self) -> None:
        """Make `wait` return; safe in a signal handler."""
        self._ended.put(None)

    def close(self) -> None:
        """Let go of what the place holds."""
        self.closed = True


class InlinePlace(_Place):
    """Calls execute in the conductor's own thread, when they are started."""

    def __init__(self, clock: Clock) -> None:
        """One at a time."""
        super().__init__(1)
        self._clock = clock
        # The runs of a round mostly call one function.
        self._find = cache(resolve)

    def start(self, work: Sequence[Work]) -> None:
        """Execute attempts, one after the other."""
        execute = partial(call, instants=Instants.of(self._clock), find=self._find)
        for each in work:
            self._ended.put(attempted(each, execute))

    def stop(self, *, kill: bool) -> None:
        """Do nothing: what was started has ended."""


class _Crew(_Place):
    """Threads that each take work from a queue, execute it and put what came of it in another."""

    def __init__(self, workers: int) -> None:
        super().__init__(workers)
        self._waiting: SimpleQueue[Work | None] = SimpleQueue()
        self._threads = 0
        self._started = 0
        self._stopping = False

    def _execute(self, work: Work) -> Executed:
        raise NotImplementedError

    def start(self, work: Sequence[Work]) -> None:
        """Start attempts; those beyond the number of workers wait for a free one."""
        for each in work:
            self._waiting.put(each)
        self._started += len(work)
        while self._threads < min(self.workers, self._started):
            self._threads += 1
            # A call that never returns does not keep the process from ending. `threading` would
            # wait here until the thread runs.
            start_new_thread(self._serve, ())

    def _serve(self) -> None:
        try:
            while (work := self._next()) is not None:
                if self._stopping:
                    self._ended.put(stopped(work))
                else:
                    self._ended.put(attempted(work, self._execute))
                    self._rest()
        finally:
            self._leave()

    def _next(self) -> Work | None:
        """Return what is to be executed next; None when nothing more is."""
        return self._waiting.get()

    def _leave(self) -> None:
        """Do what a thread does last."""

    def _rest(self) -> None:
        """Do what can be done until more work comes."""

    def stop(self, *, kill: bool) -> None:  # noqa: ARG002 - a thread cannot be killed
        """Take back what has not begun."""
        self._stopping = True

    def close(self) -> None:
        """Send the threads home."""
        super().close()
        self._send_home()

    def _send_home(self) -> None:
        self._stopping = True
        for _ in range(self._threads):
            self._waiting.put(None)


class ThreadPlace(_Crew):
    """Calls execute in threads."""

    def __init__(self, workers: int, clock: Clock) -> None:
        """So many at once."""
        super().__init__(workers)
        self._clock = clock

    def _execute(self, work: Work) -> Executed:
        return call(work, Instants.of(self._clock))


class CommandPlace(_Crew):
    """Commands execute as children, each followed by a thread."""

    def __init__(self, workers: int, commands: Commands) -> None:
        """So many at once."""
        super().__init__(workers)
        self._commands = commands
        self._lock = threading.Lock()
        self._children: set[Child] = set()
        self._killing = False
        #: How many threads have gone home, and whether the last one has.
        self._left = 0
        self._is_left = threading.Event()
        #: Somebody waits for that.
        self._is_hurried = threading.Event()

    def _execute(self, work: Work) -> Executed:
        mine: list[Child] = []

        def started(child: Child) -> None:
            mine.append(child)
            with self._lock:
                self._children.add(child)
                self._end([child])

        try:
            return self._commands.execute(work, started)
        finally:
            with self._lock:
                self._children.difference_update(mine)

    def _rest(self) -> None:
        self._commands.prepare()

    def _next(self) -> Work | None:
        try:
            return self._waiting.get(timeout=REST_S)
        except Empty:
            # Whatever comes next takes its time: a round that repeats waits for minutes.
            self._commands.tidy()
            return super()._next()

    def _leave(self) -> None:
        with self._lock:
            self._left += 1
            is_last = self._left == self._threads
        if is_last:
            # The conductor has a round to end, and would have to share its interpreter.
            self._is_hurried.wait(REST_S)
            self._commands.close()
            self.closed = True
            self._is_left.set()

    def _end(self, children: Iterable[Child]) -> None:
        for child in children:
            if self._killing:
                child.kill()
            elif self._stopping:
                child.ask()

    def stop(self, *, kill: bool) -> None:
        """End what is under way: SIGTERM and, after its grace, SIGKILL; or SIGKILL at once."""
        with self._lock:
            self._stopping = True
            self._killing = self._killing or kill
            self._end(self._children)

    def close(self) -> None:
        """Kill what is under way and send the threads home.

        The last one, which may have a folder to remove, does so later; `join` waits for it.
        """
        is_busy = self._taken < self._started
        self.stop(kill=True)
        self._send_home()
        if not self._threads:
            self.closed = True
        elif is_busy:
            self.join()

    def join(self) -> None:
        """Wait until the threads of a closed place have gone, and what they made with them."""
        if not self.closed:
            self._is_hurried.set()
            self._is_left.wait(JOIN_S)
