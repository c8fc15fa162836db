"""`runwright run` as click reads it."""

from __future__ import annotations

from typing import Any

import click

from runwright.bootstrap import project
from runwright.cli import run
from runwright.cli.output import json_option, settings


@click.command("run")
@click.argument("name")
@click.option(
    "--kind",
    type=click.Choice(project.KINDS),
    default="cycles",
    show_default=True,
    help="Kind of the spec.",
)
@click.option("--dry-run", is_flag=True, help="Show the plan and change nothing.")
@click.option("--function", help="Only the function of this name.")
@click.option("--continuous", is_flag=True, help="Run on the schedule until a signal.")
@click.option("--interval", type=int, help="Seconds between cycles, instead of the schedule.")
@click.option("--at", metavar="T", help="Planned time, ISO 8601; a future one is waited for.")
@json_option
@click.pass_context
def command(ctx: click.Context, /, name: str, **options: Any) -> int:
    """Run the spec NAME.

    Beside a running conductor a one-shot run is handed to it; --continuous exits 75 there.
    """
    return run.run(settings(ctx), name, options)
