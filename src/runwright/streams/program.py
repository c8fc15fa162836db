"""An engine that is a program: it finds its input in files, and leaves its answer in one.

It runs in a folder of its own and with an environment made from nothing. A limit of time, and what
it may reach, are those of the worker process that starts it; its whole tree ends with that.
"""

from __future__ import annotations

import os
import select
import shlex
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from runwright.kernel.errors import Deferred, InvalidSpec
from runwright.streams.answer import OutputInvalid
from runwright.streams.missing import text_of, unmarked

#: Where a program is looked for.
PATH: Final = "/usr/local/bin:/usr/bin:/bin"
#: The exit status by which a program asks to be repeated.
EXIT_DEFERRED: Final = 75
#: The most that is read of what it leaves, bytes.
RESULT_MAX: Final = 256 * 1024
#: The longest that a program may take where nobody else ends it: in a replay.
LIMIT_S: Final = 600


class ProgramFailed(Exception):
    """The program ended with another exit status than 0 or 75."""


class ProgramKilled(Exception):
    """The program was ended by a signal."""


class ResultUnreadable(OutputInvalid):
    """What the program left is no JSON object."""


def program(command: str) -> Callable[..., Any]:
    """Return the engine that a program is. Raises: invalid-spec for a command without words."""
    argv = words_of(command)

    def engine(given: Any, *state: Any) -> Any:
        import shutil  # lazy: 10 ms that every other command saves
        import tempfile  # lazy: as above

        folder = Path(tempfile.mkdtemp(prefix="engine-"))
        try:
            return _answer(argv, folder, given, state)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    return engine


def words_of(command: str) -> list[str]:
    """Return the words of a command, as a shell would part them. Raises: invalid-spec."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise InvalidSpec(f"engine.ref: cmd:{command}: {error}") from error
    if not words:
        raise InvalidSpec("engine.ref: cmd: names no program")
    return words


def _answer(argv: list[str], folder: Path, given: Any, state: tuple[Any, ...]) -> Any:
    """Run the program once; return its output, or its decision and state.

    Raises: deferred, ProgramFailed, ProgramKilled, OutputInvalid, OSError.
    """
    inputs, config, result = (folder / name for name in ("input.jsonl", "config.json", "result"))
    # A line break in JSON is white space between words; a text has it escaped.
    inputs.write_bytes(b"".join(_line(event) for event in given.events.raw))
    asked = {
        "symbol": given.symbol,
        "engine_timestamp_ms": given.engine_timestamp_ms,
        "mode": "hysteresis" if state else "truth",
        "snapshot": given.snapshot,
        "state": state[0] if state else None,
        "config": given.config,
    }
    config.write_text(text_of(asked), encoding="utf-8")
    status = _run(
        argv,
        folder,
        {
            "PATH": PATH,
            "LANG": "C.UTF-8",
            "LC_ALL": "C.UTF-8",
            "HOME": str(folder),
            "TMPDIR": str(folder),
            "PYTHONHASHSEED": os.environ.get("PYTHONHASHSEED", "0"),
            "RUNWRIGHT_INPUT": str(inputs),
            "RUNWRIGHT_CONFIG": str(config),
            "RUNWRIGHT_RESULT": str(result),
        },
    )
    if status == EXIT_DEFERRED:
        raise Deferred(f"{argv[0]} ended with exit status {EXIT_DEFERRED}: not now")
    if status < 0:
        raise ProgramKilled(f"{argv[0]} was ended by signal {-status}")
    if status:
        raise ProgramFailed(f"{argv[0]} ended with exit status {status}")
    answer = _result(result)
    return answer if state else answer.get("output")


def _line(event: bytes) -> bytes:
    return event.replace(b"\n", b" ").replace(b"\r", b" ") + b"\n"


def _run(argv: list[str], folder: Path, environment: Mapping[str, str]) -> int:
    """Return the exit status; negative for a signal. Raises: OSError, TimeoutError."""
    import subprocess  # lazy: as above

    process = subprocess.Popen(  # noqa: S603 - starting the engine that the spec names
        argv,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    watch = os.pidfd_open(process.pid)
    try:
        poll = select.poll()
        poll.register(watch, select.POLLIN)
        has_ended = bool(poll.poll(LIMIT_S * 1000))
    finally:
        # What it left running has nothing more to say; until it is collected, its number is its.
        os.killpg(process.pid, signal.SIGKILL)
        status = process.wait()
        os.close(watch)
    if not has_ended:
        raise TimeoutError(f"{argv[0]} did not end in {LIMIT_S} s")
    return status


def _result(path: Path) -> dict[str, Any]:
    """Return what the program left. Raises: ResultUnreadable."""
    try:
        # Neither through a link nor waiting for the writer of a pipe.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with open(os.open(path, flags), "rb") as file:  # noqa: PTH123 - flags of our own
            data = file.read(RESULT_MAX + 1)
        value = unmarked(msgspec.json.decode(data))
    except (OSError, msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise ResultUnreadable(f"the result cannot be read: {error}") from error
    if len(data) > RESULT_MAX or not isinstance(value, dict):
        raise ResultUnreadable(f"the result is no JSON object of at most {RESULT_MAX} bytes")
    return value
