"""`runwright config`: the settings and where each value comes from."""

from __future__ import annotations

import click

from runwright.bootstrap import database
from runwright.cli.output import json_option, print_json, print_table, settings
from runwright.config import fields, shown


@click.group("config")
def command() -> None:
    """Show the settings."""


@command.command("show")
@click.option("--origin", is_flag=True, help="Also say where each value comes from.")
@json_option
@click.pass_context
def show(ctx: click.Context, *, origin: bool, as_json: bool) -> None:
    """Show every setting: flag > environment > project file > default.

    With a store in a database also where that is: host, port, dbname, user. No password is shown.
    """
    loaded = settings(ctx)
    rows = [
        {"name": name, "value": shown(loaded.settings, name), "origin": loaded.origins[name]}
        for name, _ in fields()
    ]
    rows += database.connection(loaded)
    if as_json:
        print_json(rows)
    elif origin:
        print_table(["setting", "value", "from"], [list(row.values()) for row in rows])
    else:
        print_table(["setting", "value"], [[row["name"], row["value"]] for row in rows])
