"""What `runwright streams run` does: hold the store, run the loop, say what came of it."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from functools import partial
from types import FrameType
from typing import Any

from runwright.bootstrap import bells, project, streams
from runwright.bootstrap.streaming import streaming
from runwright.cli.failures import Failures
from runwright.cli.output import message_form, messages, print_json
from runwright.cli.run import OUTAGE_MAX_S, OUTAGE_MIN_S, wait_or_stop
from runwright.cli.terminal import echo
from runwright.config import Loaded
from runwright.kernel.drive.lifecycle import Stop
from runwright.kernel.errors import CommitUnknown, Exit, StoreBusy, StoreUnreachable
from runwright.kernel.ports import Messages


def run_stream(loaded: Loaded, name: str, *, as_json: bool) -> int:
    """Run a stream until a signal or its end, through outages of a shared store.

    Return the exit status. Raises: unknown-name, store-busy, halt.
    """
    stop = Stop()
    _handle_signals(stop)
    say: Messages = messages(loaded)
    progress = _Progress(name) if sys.stderr.isatty() and not as_json else None
    if progress is not None:
        say = progress.under(say)
    failures = None
    if message_form(loaded) == "human" and loaded.settings.messages.level != "debug":
        say = failures = Failures(say, project.clock().monotonic_s)
    with streams.looking(loaded) as store:
        transport = streams.spec_of(store, name).output_publish.transport
    attempt = _Attempt(loaded, name, stop, say)
    attempt.watch = progress
    found: Mapping[str, Any] | None = None
    with ExitStack() as stack:
        notifier = stack.enter_context(closing(bells.notifier(loaded, stop)))
        pulses = [notifier.pulse]
        if progress is not None:
            stack.callback(progress.clear)
        if failures is not None:
            stack.callback(failures.close)
            pulses.append(failures.pulse)
        outages = 0
        while found is None:
            try:
                found = attempt.run(notifier.telling(say), partial(_soonest, pulses))
            except (StoreUnreachable, CommitUnknown, StoreBusy) as error:
                if not project.is_shared(loaded) or not attempt.has_begun:
                    raise
                outages += 1
                wait_s = min(OUTAGE_MAX_S, OUTAGE_MIN_S * 2 ** (outages - 1))
                say("store.lost", str(error), level="error", code=error.code, again_s=wait_s)
                if wait_or_stop(wait_s, stop):
                    return 128 + stop.signal
    if as_json:
        print_json(found)
    else:
        # Where the events go there is no place for anything else.
        _print(found, err=transport == "stdout")
    return Exit.DONE


def _soonest(pulses: Sequence[Callable[[], float | None]]) -> float | None:
    """Give every pulse its turn; return seconds until the next one needs it."""
    waits = [pulse() for pulse in pulses]
    return min((wait for wait in waits if wait is not None), default=None)


class _Attempt:
    """Runs the stream as long as the store is there."""

    def __init__(self, loaded: Loaded, name: str, stop: Stop, say: Messages) -> None:
        self._loaded = loaded
        self._name = name
        self._stop = stop
        self._say = say
        #: Whether it ever ran: what is wrong from the start ends the command.
        self.has_begun = False
        self.watch: Callable[[Mapping[str, Any]], None] | None = None

    def run(self, say: Messages, pulse: Callable[[], float | None]) -> Mapping[str, Any]:
        """Run until a signal or the end; return what was done. Raises: store-busy, halt."""
        made = streaming(
            self._loaded,
            self._name,
            messages=say,
            stop=self._stop,
            pulse=pulse,
            is_verbose=self._loaded.settings.messages.level == "debug",
        )
        with made as stream:
            self._say("stream.started", name=self._name)
            self.has_begun = True
            stream.watch = self.watch
            stream.run()
            self._say("stream.stopped", name=self._name, signal=self._stop.signal)
            return stream.summary()


class _Progress:
    """One line that says how far it is."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._is_shown = False

    def __call__(self, found: Mapping[str, Any]) -> None:
        text = (
            f"{self._name}: {found['records']} records, {found['ticks']} ticks, "
            f"{found['completed']} completed, {found['failed']} failed"
        )
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()
        self._is_shown = True

    def clear(self) -> None:
        """Take the line away."""
        if self._is_shown:
            sys.stderr.write("\r\x1b[K")
            self._is_shown = False

    def under(self, say: Messages) -> Messages:
        """Return messages that stand in the place of the line, which comes again below them."""

        def message(event: str, text: str = "", /, *, level: str = "info", **fields: Any) -> None:
            # What nobody reads, hundreds a second, would leave no time to read the line.
            if level != "debug":
                self.clear()
            say(event, text, level=level, **fields)

        return message


def _print(found: Mapping[str, Any], *, err: bool) -> None:
    text = (
        f"{found['name']}: {found['records']} records, {found['ticks']} ticks, "
        f"{found['completed']} runs completed, {found['failed']} failed"
    )
    text += f", {found['unread']} records could not be read" * bool(found["unread"])
    echo(text, err=err)
    if count := found["waiting"]:
        whose = f"The outputs of {count} tick{'s' * (count > 1)}"
        echo(f"{whose} are not delivered yet: they leave with the next run.", err=True)


def _handle_signals(stop: Stop) -> None:
    """Let the first signal drain, and the second end the process at once.

    Whatever was under way then is completed by the next start: the runs of a stream are pure.
    """
    if threading.current_thread() is not threading.main_thread():
        return

    def handle(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        if stop:
            os._exit(128 + number)
        stop.ask(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handle)
