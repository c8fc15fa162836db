"""`runwright replay`: execute a stream's recorded runs again and compare what was published."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from runwright.bootstrap import replays, streams
from runwright.cli.output import json_option, print_json, settings
from runwright.cli.streams import progress_line
from runwright.kernel.errors import Exit
from runwright.kernel.run import instant_text


@click.command("replay")
@click.argument("name")
@json_option
@click.pass_context
def command(ctx: click.Context, name: str, *, as_json: bool) -> None:
    """Execute every recorded run of the stream NAME again; exit 6 at a difference.

    The first difference is named by symbol, run, place in the event and both values. Runs whose
    inputs are retired cannot be told: exit 7.
    """
    loaded = settings(ctx)
    with streams.looking(loaded) as store:
        progress = progress_line("replayed", as_json=as_json)
        found = replays.replay(store, name, progress)
    if as_json:
        print_json(found)
    else:
        _print(found)
    if found["different"]:
        ctx.exit(Exit.VERIFICATION)
    # No data never passes.
    ctx.exit(Exit.INCONCLUSIVE if found["retired"] or not found["executed"] else Exit.DONE)


def _print(found: Mapping[str, Any]) -> None:
    click.echo(
        f"{found['ticks']} ticks, {found['runs']} runs: {found['executed']} executed again, "
        f"{found['from_record']} failures told from the record, {found['events']} events"
    )
    if found["retired"]:
        click.echo(f"{found['retired']} ticks: inputs retired, so nothing can be said about them")
    if not found["ticks"]:
        click.echo("nothing to replay")
        return
    if not found["executed"]:
        click.echo("no run could be executed again, so nothing can be said about the engine")
    if found["other_code"]:
        click.echo(f"{found['other_code']} ticks ran an engine whose source is another one now")
    if not found["different"]:
        click.echo(f"every byte as published; replay digest {found['digest']}")
        return
    click.echo(f"{found['different']} run{'s differ' if found['different'] != 1 else ' differs'}")
    for item in found["differences"]:
        click.echo(
            f"{item['symbol']} at {instant_text(item['engine_timestamp_ms'])} "
            f"({item['engine_timestamp_ms']}) run {item['run_id'][:12]} "
            f"{item['event_type']} {item['path']}: published {item['published']!r}, "
            f"replayed {item['replayed']!r}"
        )
