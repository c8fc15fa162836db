"""`runwright ledger`: keys, entries, proofs, adoption and erasure."""

from __future__ import annotations

import click
import msgspec

from runwright import views
from runwright.bootstrap import project, sealing
from runwright.cli.output import json_option, messages, print_json, settings, user
from runwright.kernel.drive.requests import EraseBody
from runwright.kernel.errors import StoreBusy, UnknownName


@click.group("ledger")
def command() -> None:
    """Look after the ledger."""


@command.command("head")
@json_option
@click.pass_context
def head(ctx: click.Context, *, as_json: bool) -> None:
    """Print the newest signed checkpoint, for somebody who keeps it."""
    store = project.open_store(settings(ctx), read_only=True)
    try:
        found = views.ledger(store, 1)
    finally:
        store.close()
    del found["entries"]
    if as_json:
        print_json(found)
    else:
        click.echo(found["checkpoint"], nl=False)


@command.command("entry")
@click.argument("seq", type=click.IntRange(min=0))
@click.option("--raw", is_flag=True, help="The bytes as they are stored.")
@click.option("--json", "as_json", is_flag=True, help="Accepted for every command: this is JSON.")
@click.pass_context
def entry(ctx: click.Context, seq: int, *, raw: bool, as_json: bool) -> None:  # noqa: ARG001
    """Print one entry."""
    store = project.open_store(settings(ctx), read_only=True)
    try:
        found = next(iter(store.entries(seq, seq + 1)), None)
    finally:
        store.close()
    if found is None:
        message = f"there is no entry {seq}"
        raise UnknownName(message)
    if raw:
        click.echo(found.raw.decode())
    else:
        print_json({**views.entry_row(found.raw), "leaf": found.leaf.hex()})


@command.command("proof")
@click.argument("seq", type=click.IntRange(min=0))
@json_option
@click.pass_context
def proof(ctx: click.Context, seq: int, *, as_json: bool) -> None:
    """Print the inclusion proof of one sealed entry (C2SP tlog-proof)."""
    store = project.open_store(settings(ctx), read_only=True)
    try:
        text = sealing.proof_text(store, seq)
    finally:
        store.close()
    if as_json:
        print_json({"seq": seq, "proof": text})
    else:
        click.echo(text, nl=False)


@command.command("keys")
@json_option
@click.pass_context
def keys(ctx: click.Context, *, as_json: bool) -> None:
    """List the public keys, for auditors."""
    loaded = settings(ctx)
    found = sealing.public_keys(loaded)
    if as_json:
        print_json(found)
        return
    for item in found:
        click.echo(f"{item['role']:<8}  {item['file']}")
        click.echo(f"          {item['key']}")


@command.command("rotate-key")
@json_option
@click.pass_context
def rotate_key(ctx: click.Context, *, as_json: bool) -> None:
    """Seal with a new key from now on; the seal over the change is signed by both.

    Old records stay verifiable: the old public key is kept, and the new one is introduced under it.
    """
    from runwright.bootstrap.conducting import conducting  # lazy: most only look

    loaded = settings(ctx)
    with conducting(loaded, messages=messages(loaded)) as (conductor, ports):
        conductor.recover()
        found = sealing.rotate(loaded, ports, by=user())
    if as_json:
        print_json(found)
    else:
        click.echo(f"retired  {found['old']}")
        click.echo(f"added    {found['new']}")


@command.command("adopt")
@click.option("--reason", required=True, help="Why this store goes on; it stands in the ledger.")
@json_option
@click.pass_context
def adopt(ctx: click.Context, reason: str, *, as_json: bool) -> None:
    """Go on with a store that the signer does not vouch for: a restored copy, a lost memory.

    The decision is an entry of its own, which every verification shows.
    """
    loaded = settings(ctx)
    found = sealing.adopt(loaded, reason, by=user())
    if as_json:
        print_json(found)
    else:
        click.echo(
            f"adopted at {found['found_size']} entries; {found['remembered_size']} remembered"
        )


@command.command("erase")
@click.argument("digest")
@click.option("--reason", required=True, help="Why; it stands in the ledger.")
@json_option
@click.pass_context
def erase(ctx: click.Context, digest: str, reason: str, *, as_json: bool) -> None:
    """Delete captured output and its salt; every proof still holds.

    DIGEST stands in `runwright show RUN --json`. Pinned things cannot be erased.
    """
    # lazy: most only look
    from runwright.bootstrap import bells  # lazy: as above
    from runwright.bootstrap.conducting import conducting  # lazy: as above
    from runwright.cli import submit  # lazy: as above
    from runwright.kernel.drive.service import Service  # lazy: as above

    loaded = settings(ctx)
    say = messages(loaded)
    body = msgspec.json.encode(EraseBody(digest=digest, reason=reason))
    wanted = submit.request("erase", body)
    try:
        with conducting(loaded, messages=say) as (conductor, ports):
            conductor.recover()
            bell = bells.bell(bells.bell_path(loaded))
            try:
                ports.store.submit(wanted)
                Service(conductor, ports, bell).drain()
                found = submit.answer(ports.store, wanted.id)
            finally:
                bell.close()
    except StoreBusy:
        found = submit.hand_over(loaded, wanted, say)
    if as_json:
        print_json(found)
    else:
        click.echo(f"erased {found['erased']}")
