"""What `runwright streams run` does: hold the store, run the loop, say what came of it."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Mapping
from contextlib import closing
from types import FrameType
from typing import Any

from runwright import bootstrap, bootstrap_streams
from runwright.cli.output import messages, print_json
from runwright.cli.terminal import echo
from runwright.config import Loaded
from runwright.kernel.drive.lifecycle import Stop
from runwright.kernel.errors import Exit


def run_stream(loaded: Loaded, name: str, *, as_json: bool) -> int:
    """Run a stream until a signal or its end; return the exit status.

    Raises: unknown-name, store-busy, halt.
    """
    stop = Stop()
    _handle_signals(stop)
    say = messages(loaded)
    is_verbose = loaded.settings.messages.level == "debug"
    with closing(bootstrap.notifier(loaded, stop)) as notifier:
        made = bootstrap_streams.streaming(
            loaded,
            name,
            messages=notifier.telling(say),
            stop=stop,
            pulse=notifier.pulse,
            is_verbose=is_verbose,
        )
        with made as streaming:
            say("stream.started", name=name)
            streaming.watch = _Progress(name) if _wants_progress(as_json=as_json) else None
            streaming.run()
            say("stream.stopped", name=name, signal=stop.signal)
            found = streaming.summary()
    if as_json:
        print_json(found)
    else:
        _print(found)
    return Exit.DONE


def _wants_progress(*, as_json: bool) -> bool:
    return not as_json and sys.stderr.isatty()


class _Progress:
    """One line that says how far it is."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, found: Mapping[str, Any]) -> None:
        text = (
            f"{self._name}: {found['records']} records, {found['ticks']} ticks, "
            f"{found['completed']} completed, {found['failed']} failed"
        )
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()


def _print(found: Mapping[str, Any]) -> None:
    if sys.stderr.isatty():
        sys.stderr.write("\r\x1b[K")
    echo(
        f"{found['name']}: {found['records']} records, {found['ticks']} ticks, "
        f"{found['completed']} runs completed, {found['failed']} failed"
    )


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
