"""`runwright export`: the bundle of a run, for somebody who has nothing but a public key."""

from __future__ import annotations

from pathlib import Path

import click

from runwright.bootstrap import bundles
from runwright.cli.output import json_option, print_json, settings


@click.command("export")
@click.argument("run")
@click.option("--out", type=click.Path(path_type=Path), help="Folder to write; must not exist.")
@json_option
@click.pass_context
def command(ctx: click.Context, run: str, out: Path | None, *, as_json: bool) -> None:
    """Write the bundle of RUN: its entries with proofs, blobs, checkpoint and a signed manifest.

    RUN is named as in `runwright show`, or `all` for the whole ledger.
    """
    target = ctx.obj["start"] / out if out else None
    found = bundles.export(settings(ctx), run, target)
    if as_json:
        print_json(found)
        return
    click.echo(f"bundle   {found['folder']}")
    proof = "all of them" if found["entries"] == found["size"] else "each with its proof"
    click.echo(f"entries  {found['entries']} under a checkpoint of {found['size']}, {proof}")
    click.echo(f"files    {found['files']}, {found['bytes']} bytes, digests in MANIFEST.json")
    click.echo("check    runwright verify FOLDER --key ledger.pub.pem --key evidence.pub.pem,")
    click.echo("         or by hand as its VERIFY.md says")
