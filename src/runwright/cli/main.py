"""The `runwright` command: has its words read, and turns every error into words and a status.

A plain `run` is read without click: its import, 25 ms, is as long as a function that does little.
"""

from __future__ import annotations

import atexit
import errno
import gc
import os
import sys
from typing import Final, NoReturn

from runwright.cli import plain
from runwright.cli.startup import import_msgspec, put_off
from runwright.cli.terminal import echo, style
from runwright.kernel.errors import Exit, RunwrightError, StoreUnwritable

#: What a disk says that is full, failing or read-only.
DISK_ERRORS: Final = frozenset({errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EROFS})
#: Objects made before the collector looks for garbage; its own default, 700, fits small scripts.
GARBAGE_MIN: Final = 50_000


def main() -> None:
    """Run the command line and exit with a status of the table in docs/reference."""
    # Nothing that is imported from here on is ever garbage; looking for some takes a tenth of it.
    gc.freeze()
    gc.set_threshold(GARBAGE_MIN)
    put_off()
    as_json = "--json" in sys.argv
    try:
        status = _conduct(sys.argv[1:])
    except RunwrightError as error:
        _fail(error.code, str(error), error.hint, as_json=as_json)
        status = error.status
    except KeyboardInterrupt:
        # Before anything was begun: who conducts takes signals otherwise.
        echo(err=True)
        status = Exit.SIGINT
    except SystemExit:
        # How click answers when whoever read stdout went away.
        status = Exit.DONE
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = Exit.DONE
    except Exception as error:  # the last door: a defect ends with its name, not with a traceback
        if os.environ.get("RUNWRIGHT_TRACEBACK"):
            raise
        if isinstance(error, OSError) and error.errno in DISK_ERRORS:
            what = error.filename or "a file, or the output of this command"
            message = f"{what} cannot be read or written: {error.strerror}"
            _fail(StoreUnwritable.code, message, StoreUnwritable.hint, as_json=as_json)
            _leave(StoreUnwritable.status)
        hint = "This is a defect. RUNWRIGHT_TRACEBACK=1 shows where it happened."
        _fail("internal", f"{type(error).__name__}: {error}", hint, as_json=as_json)
        status = Exit.INTERNAL
    _leave(int(status))


def _conduct(words: list[str]) -> int:
    """Do what the words of the command line say; return the exit status."""
    asked = plain.read(words)
    if asked is None:
        from runwright.cli import root  # lazy: a plain run needs no click

        return root.main()
    import_msgspec()
    # lazy: most commands run nothing, and what these import was put off first
    from pathlib import Path  # lazy: as above

    from runwright.cli import output, run  # lazy: as above

    settings = output.settings_at(Path(asked.start).absolute(), asked.settings)
    return run.run(settings, asked.name, asked.options)


def _leave(status: int) -> NoReturn:
    """End the process at once: taking all its modules apart takes as long as running a function."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            status = status or Exit.INTERNAL
    # What others hung there: coverage writes its figures, multiprocessing ends its helpers.
    atexit._run_exitfuncs()  # noqa: SLF001 - the only name it has
    os._exit(status)


def _fail(code: str, message: str, hint: str, *, as_json: bool) -> None:
    if as_json:
        import json  # lazy: only for an error as JSON

        echo(json.dumps({"error": {"code": code, "message": message, "hint": hint}}))
    echo(f"{style(f'error[{code}]', fg='red', bold=True)}: {message}", err=True)
    if hint:
        echo(f"  {hint}", err=True)


if __name__ == "__main__":
    main()
