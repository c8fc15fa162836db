"""`runwright db`: the store itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from runwright.bootstrap import database, project
from runwright.cli.output import json_option, print_json, settings
from runwright.kernel.errors import Exit


@click.group("db")
def command() -> None:
    """Check the store, or bring it up to this version."""


@command.command("check")
@json_option
@click.pass_context
def check(ctx: click.Context, *, as_json: bool) -> int:
    """Check the store: its version, its integrity or its server; `verify` checks what it says."""
    store = project.open_store(settings(ctx), read_only=True)
    try:
        found: dict[str, Any] = {
            "store": store.name,
            "schema": store.version(),
            "problems": store.check(),
        }
    finally:
        store.close()
    if as_json:
        print_json(found)
    else:
        click.echo(f"{found['store']}: schema {found['schema']}")
        for problem in found["problems"] or ["none found"]:
            click.echo(f"problems: {problem}")
    return Exit.HALT if found["problems"] else Exit.DONE


@command.command("migrate")
@json_option
@click.pass_context
def migrate(ctx: click.Context, *, as_json: bool) -> None:
    """Bring the store up to the schema of this version; a store at it is left as it is."""
    store = project.open_store(settings(ctx))
    try:
        found: dict[str, Any] = {
            "store": store.name,
            "schema": store.version(),
            "migrated": store.migrate(),
        }
    finally:
        store.close()
    if as_json:
        print_json(found)
    else:
        done = ", ".join(found["migrated"]) or "nothing to do"
        click.echo(f"{found['store']}: schema {found['schema']}, {done}")


@command.command("rebuild")
@click.option("--check", "only_check", is_flag=True, help="Change nothing; exit 4 on a difference.")
@json_option
@click.pass_context
def rebuild(ctx: click.Context, *, only_check: bool, as_json: bool) -> int:
    """Fold the ledger again and put right every table that does not follow from it."""
    found = database.rebuild(settings(ctx), write=not only_check)
    if as_json:
        print_json({"differences": found, "written": bool(found) and not only_check})
    else:
        for item in found:
            click.echo(f"{item['table']} {item['key']}: {item['what']}")
        done = "differ" if only_check else "were put right"
        click.echo(f"{len(found)} rows {done}" if found else "every table follows from the ledger")
    return Exit.HALT if found and only_check else Exit.DONE


@command.command("install-views")
@json_option
@click.pass_context
def install_views(ctx: click.Context, *, as_json: bool) -> None:
    """Make the views over the governance tables anew; `init` made them first."""
    found = database.views_of(settings(ctx), install=True)
    _print_views(found, "made", as_json=as_json)


@command.command("uninstall-views")
@json_option
@click.pass_context
def uninstall_views(ctx: click.Context, *, as_json: bool) -> None:
    """Take down the views that were made here; what the tables hold stays."""
    found = database.views_of(settings(ctx), install=False)
    _print_views(found, "taken down", as_json=as_json)


def _print_views(found: Mapping[str, Any], what: str, *, as_json: bool) -> None:
    if as_json:
        print_json(found)
    else:
        click.echo(f"{found['store']}: {', '.join(found['views']) or 'no view'} {what}")


@command.command("roles")
@click.option("--apply", "is_applied", is_flag=True, help="Execute it, as the user of the store.")
@json_option
@click.pass_context
def roles(ctx: click.Context, *, is_applied: bool, as_json: bool) -> None:
    """Print the SQL that makes the roles of a shared store.

    Conductor, application, operator and reader: each gets what it needs and no more, and none of
    them can change or delete an entry.
    """
    script = database.roles(settings(ctx), is_applied=is_applied)
    if as_json:
        print_json({"sql": script, "applied": is_applied})
    else:
        click.echo("-- done" if is_applied else script, nl=is_applied)
