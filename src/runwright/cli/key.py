"""`runwright key`: keys of agents, and a key for a person who has none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from runwright import views
from runwright.bootstrap import project
from runwright.cli.output import json_option, messages, print_json, print_table, settings
from runwright.kernel.drive.requests import KeyBody
from runwright.kernel.errors import UnknownName, Usage
from runwright.kernel.run import instant_text

_HOUR_S = 3_600


@click.group("key")
def command() -> None:
    """Make and rotate keys of agents; make a key for a person."""


_AGENT = click.option("--agent", required=True, help="The agent whose key it is.")


@command.command("new")
@click.argument("person", required=False)
@click.option("--agent", help="Make a key for this agent instead of a person.")
@click.option(
    "--out", type=click.Path(path_type=Path), help="The file of a person's private key; PERSON.key."
)
@json_option
@click.pass_context
def new(
    ctx: click.Context, person: str | None, agent: str | None, out: Path | None, *, as_json: bool
) -> None:
    """Make a key pair for PERSON, or the next key of an agent with --agent.

    A person's private key stays in the file (mode 0600), and nothing is recorded: an owner adds the
    public half with `people add`. The first key of an agent is ACTIVE at once, a further one
    PENDING until it is rotated to.
    """
    if bool(person) == bool(agent):
        message = "give a PERSON, or --agent AGENT"
        raise Usage(message)
    if agent:
        if out is not None:
            message = "--out: goes with a PERSON; keys of agents stay with the signer's"
            raise Usage(message)
        _act(ctx, KeyBody(agent=agent, act="new"), as_json=as_json)
        return
    file = ctx.obj["start"] / (out.expanduser() if out else Path(f"{person}.key"))
    from runwright.bootstrap import decisions  # lazy: only a person's key is made here

    line = decisions.create_person_key(file, str(person))
    if as_json:
        print_json({"person": person, "file": str(file), "key": line})
    else:
        click.echo(line)
        click.echo(f"private half in {file}: keep it, and give nobody a copy", err=True)


@command.command("rotate")
@_AGENT
@click.option(
    "--grace",
    type=click.FloatRange(min=0),
    default=24.0,
    show_default=True,
    help="Hours that the old key goes on signing.",
)
@json_option
@click.pass_context
def rotate(ctx: click.Context, agent: str, grace: float, *, as_json: bool) -> None:
    """Sign with a new key from now on; the old one is DEPRECATED, then ARCHIVED.

    Records made before stay verifiable for ever.
    """
    body = KeyBody(agent=agent, act="rotate", grace_s=round(grace * _HOUR_S))
    _act(ctx, body, as_json=as_json)


@command.command("archive")
@_AGENT
@click.option("--key", default="", help="The start of a fingerprint; the DEPRECATED key otherwise.")
@json_option
@click.pass_context
def archive(ctx: click.Context, agent: str, key: str, *, as_json: bool) -> None:
    """End a key: it signs no record that is made from now on, and its private half is deleted."""
    _act(ctx, KeyBody(agent=agent, act="archive", key=key), as_json=as_json)


@command.command("list")
@json_option
@click.pass_context
def listed(ctx: click.Context, *, as_json: bool) -> None:
    """List the keys of all agents, with the state that each is in now."""
    _print(_read(ctx), as_json=as_json)


@command.command("show")
@_AGENT
@json_option
@click.pass_context
def show(ctx: click.Context, agent: str, *, as_json: bool) -> None:
    """Show the keys of one agent, whole."""
    found = _read(ctx, agent)
    if not found:
        message = f"{agent} has no key"
        raise UnknownName(message, hint=f"runwright key new --agent {agent}")
    if as_json:
        print_json(found)
        return
    for row in found:
        click.echo(f"{row['agent']}  {row['state']}")
        click.echo(f"fingerprint  {row['fingerprint']}")
        click.echo(f"public       {row['key']}")
        click.echo(f"valid        {row['from'] or '-'} until {row['until'] or '-'}")
        click.echo(f"ledger       entry {row['seq']}")


def _act(ctx: click.Context, body: KeyBody, *, as_json: bool) -> None:
    loaded = settings(ctx)
    from runwright.cli import submit  # lazy: a look at keys changes nothing

    found = submit.act(loaded, "key", body, messages(loaded))
    if as_json:
        print_json(found)
        return
    for key in found["keys"]:
        ends = f", until {instant_text(key['until_ms'])}" if key["until_ms"] else ""
        click.echo(f"{key['agent']}  {key['state']}  {key['fingerprint'][:16]}{ends}")


def _read(ctx: click.Context, agent: str = "") -> list[dict[str, Any]]:
    store = project.open_store(settings(ctx), read_only=True)
    try:
        return views.agent_keys(store, project.clock().now_ms(), agent)
    finally:
        store.close()


def _print(found: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    if not found:
        click.echo("No agent has a key yet. Applying a spec that names one makes it.")
        return
    print_table(
        ["agent", "state", "fingerprint", "from", "until", "entry"],
        [
            [
                row["agent"],
                row["state"],
                row["fingerprint"][:16],
                row["from"] or "-",
                row["until"] or "-",
                row["seq"],
            ]
            for row in found
        ],
        right=["entry"],
    )
