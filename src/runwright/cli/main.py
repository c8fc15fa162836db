"""The `runwright` command: finds the subcommand, and turns every error into words and a status."""

from __future__ import annotations

import atexit
import errno
import gc
import importlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click

from runwright import __version__
from runwright.kernel.errors import Exit, RunwrightError, StoreUnwritable

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Command -> the module that holds it and what it does, in the order of a first day.
COMMANDS: Final[Mapping[str, tuple[str, str]]] = {
    "init": ("init", "Make a project: its keys, its store, its ledger."),
    "apply": ("apply", "Apply spec files: what may run from now on."),
    "run": ("run", "Run a spec once, or on its schedule."),
    "exec": ("exec", "Run one command as a sealed run, without a spec."),
    "show": ("show", "Show runs, one run, the ledger, the schedule or the outbox."),
    "export": ("export", "Write the bundle of a run for an auditor."),
    "verify": ("verify", "Verify a bundle, or the project's whole record."),
    "doctor": ("doctor", "Say what is wrong with this project and this machine."),
    "service": ("service", "Write what keeps a spec running: systemd, cron, Docker, Windows."),
    "ledger": ("ledger", "Look after the ledger: keys, proofs, adoption, erasure."),
    "config": ("config", "Show the settings and where they come from."),
    "db": ("db", "Check the store, or bring it up to this version."),
}


#: What a disk says that is full, failing or read-only.
DISK_ERRORS: Final = frozenset({errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EROFS})
#: Objects made before the collector looks for garbage; its own default, 700, fits small scripts.
GARBAGE_MIN: Final = 50_000


class _Commands(click.Group):
    """Loads a command's module when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        # lazy: a command loads what it needs and nothing else
        module = importlib.import_module(f"runwright.cli.{COMMANDS[cmd_name][0]}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="runwright %(version)s")
@click.option(
    "--project",
    "-C",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Work in this folder instead of the current one.",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    help="A setting for this command: --set store.path=other.db",
)
@click.pass_context
def root(ctx: click.Context, project: Path | None, settings: tuple[str, ...]) -> None:
    """Run what you can answer for: planned, recorded, judged, sealed, verifiable offline."""
    ctx.obj = {"start": (project or Path.cwd()).absolute(), "set": settings}


def main() -> None:
    """Run the command line and exit with a status of the table in docs/reference."""
    # Nothing that is imported from here on is ever garbage; looking for some takes a tenth of it.
    gc.freeze()
    gc.set_threshold(GARBAGE_MIN)
    as_json = "--json" in sys.argv
    try:
        status = root.main(standalone_mode=False)
    except click.exceptions.Exit as error:
        status = error.exit_code
    except click.Abort:
        status = Exit.SIGINT
    except click.ClickException as error:
        _fail("usage", error.format_message(), _usage_hint(error), as_json=as_json)
        status = Exit.USAGE
    except RunwrightError as error:
        _fail(error.code, str(error), error.hint, as_json=as_json)
        status = error.status
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
    _leave(int(status or 0))


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

        click.echo(json.dumps({"error": {"code": code, "message": message, "hint": hint}}))
    label = click.style(f"error[{code}]", fg="red", bold=True)
    click.echo(f"{label}: {message}", err=True, color=_color())
    if hint:
        click.echo(f"  {hint}", err=True)


def _usage_hint(error: click.ClickException) -> str:
    context: Any = getattr(error, "ctx", None)
    return f"`{context.command_path} --help` shows how it is used." if context else ""


def _color() -> bool | None:
    """Return whether to colour: NO_COLOR wins, otherwise click decides by the terminal."""
    return False if os.environ.get("NO_COLOR") else None


if __name__ == "__main__":
    main()
