"""`runwright init`: a project with keys, a store and an open ledger."""

from __future__ import annotations

import re
from pathlib import Path

import click

from runwright.bootstrap import creation, project
from runwright.cli.output import json_option, print_json, settings
from runwright.config import FILE
from runwright.kernel.errors import Usage

_TEMPLATE = """\
# Settings of this project; `runwright config show --origin` lists them all.
# Precedence: --set NAME=VALUE, environment (RUNWRIGHT_STORE_PATH), this file, default.
# What stands here are defaults.

# [store]
# path = ".runwright/store.db"

# [files]
# folder = "out"
"""
_IGNORED = ".runwright/\nout/\n"


@click.command("init")
@click.argument("folder", required=False, type=click.Path(file_okay=False, path_type=Path))
@click.option("--name", help="Name of the ledger; the folder's name unless given.")
@json_option
@click.pass_context
def command(ctx: click.Context, folder: Path | None, name: str | None, *, as_json: bool) -> None:
    """Make a project in FOLDER (the current one unless given).

    Creates runwright.toml, the keys (mode 0600) and a store with an open, sealed ledger.
    """
    target = (ctx.obj["start"] / folder if folder else ctx.obj["start"]).absolute()
    wanted = name or target.name
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,60}", wanted):
        message = f"--name: {wanted!r} is not of letters, digits, '_', '.', '-'"
        raise Usage(message)
    target.mkdir(parents=True, exist_ok=True)
    ctx.obj["start"] = target
    # The store comes last: where there is one, nothing of a project is missing.
    for file, text in ((target / FILE, _TEMPLATE), (target / ".gitignore", _IGNORED)):
        if not file.exists():
            project.keep(file, text)
    made = creation.create(settings(ctx), wanted)
    if as_json:
        print_json({**made, "folder": str(target)})
        return
    click.echo(f"Project      {target}")
    click.echo(f"Ledger       {made['origin']}")
    click.echo(f"Public key   {made['seal_key']}")
    click.echo(f"Keys         {made['keys']} (back them up; the public ones are for auditors)")
    click.echo(
        "Next: runwright apply SPEC.yaml, then runwright run NAME, or runwright streams run NAME"
    )
