"""The command line as click knows it: every command, its words, its help."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import click

from runwright import __version__
from runwright.cli.startup import import_msgspec
from runwright.kernel.errors import Exit, Usage

#: Command -> the module that holds it and what it does, in the order of a first day.
COMMANDS: Final[Mapping[str, tuple[str, str]]] = {
    "init": ("init", "Make a project: its keys, its store, its ledger."),
    "apply": ("apply", "Apply spec files: what may run from now on."),
    "run": ("run_command", "Run a spec once, or on its schedule."),
    "streams": ("streams", "Run streams of events; show, follow, audit and plan them."),
    "replay": ("replay", "Execute a stream's runs again and compare what was published."),
    "exec": ("exec", "Run one command as a sealed run, without a spec."),
    "show": ("show", "Show runs, one run, the ledger, the schedule or the outbox."),
    "export": ("export", "Write the bundle of a run for an auditor."),
    "decide": ("decide", "Decide about a run, a spec or an entry: signed and recorded."),
    "people": ("people", "Look after the people who decide, and their keys."),
    "key": ("key", "Make and rotate keys of agents; make a key for a person."),
    "verify": ("verify", "Verify a bundle, or the project's whole record."),
    "doctor": ("doctor", "Say what is wrong with this project and this machine."),
    "service": ("service", "Write what keeps a spec running: systemd, cron, Docker, Windows."),
    "ledger": ("ledger", "Look after the ledger: keys, proofs, adoption, erasure."),
    "config": ("config", "Show the settings and where they come from."),
    "db": ("db", "Check the store, or bring it up to this version."),
}


class _Commands(click.Group):
    """Loads a command's module when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        import_msgspec()
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


def main() -> int:
    """Do what the command line says and return the exit status. Raises: usage, and any other."""
    try:
        return int(root.main(standalone_mode=False) or Exit.DONE)
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.Abort:
        return Exit.SIGINT
    except click.ClickException as error:
        raise Usage(error.format_message(), hint=_usage_hint(error)) from error


def _usage_hint(error: click.ClickException) -> str:
    context: Any = getattr(error, "ctx", None)
    return f"`{context.command_path} --help` shows how it is used." if context else ""
