"""`runwright apply`: specs become what may run."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from runwright.bootstrap import project
from runwright.bootstrap.conducting import conducting
from runwright.cli.output import json_option, messages, print_json, settings, user
from runwright.cli.specfile import read
from runwright.kernel.drive.requests import ApplyBody
from runwright.kernel.errors import StoreBusy


@click.command("apply")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@json_option
@click.pass_context
def command(ctx: click.Context, files: tuple[Path, ...], *, as_json: bool) -> None:
    """Apply spec FILES: validate all of them, then record each and the rows that it declares.

    Beside a running conductor the specs are handed to it.
    """
    loaded = settings(ctx)
    known = project.workloads()
    specs = [read(ctx.obj["start"] / file, known) for file in files]
    results = []
    try:
        with conducting(loaded, messages=messages(loaded)) as (conductor, _):
            conductor.recover()
            results = [conductor.apply(spec.kind, spec.body, by=user()) for spec in specs]
    except StoreBusy:
        from runwright.cli import submit  # lazy: only beside another conductor

        for spec in specs:
            body = ApplyBody(kind=spec.kind, spec=spec.body.decode())
            wanted = submit.request("apply", msgspec.json.encode(body))
            results.append(submit.hand_over(loaded, wanted, messages(loaded)))
    if as_json:
        print_json(results)
        return
    for result in results:
        rows = ", ".join(f"{count} {what}" for what, count in result["rows"].items() if count)
        change = "applied" if result["changed"] else "unchanged"
        click.echo(f"{result['kind']}/{result['name']}: {change}{f' ({rows})' if rows else ''}")
