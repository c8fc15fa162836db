"""`runwright streams`: run a stream, look at it, follow it, audit it, derive its plan again."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, Final

import click
import msgspec

from runwright.bootstrap import streams
from runwright.cli.output import (
    json_option,
    print_json,
    print_table,
    reader_may_be_gone,
    settings,
)
from runwright.kernel.errors import Exit, Usage

#: What an audit counts.
_AUDITED: Final = (
    "published",
    "seen",
    "missing",
    "altered",
    "duplicated",
    "out_of_order",
    "foreign",
)


@click.group("streams")
def command() -> None:
    """Run streams of events through engines, and prove what came of it."""


# ------------------------------------------------------------------------------------------- run


@command.command("run")
@click.argument("name")
@json_option
@click.pass_context
def run(ctx: click.Context, name: str, *, as_json: bool) -> None:
    """Run the stream NAME until a signal, or until its history is at its end.

    The first signal ends it after the tick under way; a second one ends it at once, and the next
    start completes what was open.
    """
    from runwright.cli.stream_run import run_stream  # lazy: only this command runs one

    ctx.exit(run_stream(settings(ctx), name, as_json=as_json))


# ------------------------------------------------------------------------------------------ show


@command.command("show")
@click.argument("name", default="")
@click.option("--metrics", is_flag=True, help="Print the metrics as Prometheus text.")
@click.option("--records", is_flag=True, help="Print EngineRunRecord v1, a line each.")
@click.option("--inputs", is_flag=True, help="Print RawInputBufferRecord v1 with derived hashes.")
@click.option("--states", is_flag=True, help="Print the hysteresis states, a line each.")
@click.option("--symbol", default="", help="Only this symbol.")
@click.option("--limit", type=click.IntRange(1, 1_000_000), default=20, show_default=True)
@json_option
@click.pass_context
def show(
    ctx: click.Context,
    name: str,
    symbol: str,
    limit: int,
    *,
    metrics: bool,
    records: bool,
    inputs: bool,
    states: bool,
    as_json: bool,
) -> None:
    """Show the streams of this project, or the newest runs of the stream NAME."""
    loaded = settings(ctx)
    wanted = [flag for flag in (metrics, records, inputs, states) if flag]
    if len(wanted) > 1:
        message = "give one of --metrics, --records, --inputs, --states"
        raise Usage(message)
    if wanted and not name:
        message = "name the stream"
        raise Usage(message)
    from runwright.bootstrap import reports  # lazy: who runs or replays a stream needs none

    with streams.looking(loaded) as store:
        if metrics:
            click.echo(reports.metrics_text(loaded, store, name), nl=False)
        elif records or inputs or states:
            what = "records" if records else "inputs" if inputs else "states"
            with reader_may_be_gone():
                for row in reports.rows_of(store, name, what, symbol, limit):
                    click.echo(msgspec.json.encode(row).decode())
        elif name:
            found = reports.overview(loaded, store, name, symbol, limit)
            _print_json_or(found, _print_overview, as_json=as_json)
        else:
            _print_json_or(reports.listing(loaded, store), _print_list, as_json=as_json)


def _print_json_or(found: Any, printer: Any, *, as_json: bool) -> None:
    if as_json:
        print_json(found)
    else:
        printer(found)


def _print_list(found: list[dict[str, Any]]) -> None:
    print_table(
        ["stream", "state", "records", "ticks", "last tick", "published"],
        [
            [row["name"], row["state"], row["records"], row["ticks"], row["last"], row["published"]]
            for row in found
        ],
        right=["records", "ticks", "published"],
    )


def _print_overview(found: Mapping[str, Any]) -> None:
    state = found["health"]
    domains = " ".join(f"{name}={text}" for name, text in state["domains"].items())
    click.echo(f"{found['name']}: {state['state']}, {'ready' if state['ready'] else 'not ready'}")
    click.echo(f"domains: {domains}")
    log = found["log"]
    click.echo(
        f"log: {log['records']} records up to {log['last_seq']}, {log['unsealed']} in no sealed "
        f"segment yet, retired through {log['retired_through']}"
    )
    click.echo("")
    print_table(
        ["tick", "symbol", "cut", "mode", "status", "error", "attempts"],
        [
            [
                row["tick"],
                row["symbol"],
                row["cut"],
                row["engine_mode"],
                row["status"],
                ": ".join(filter(None, (row["error_kind"], row["error_detail"]))),
                row["attempts"],
            ]
            for row in found["runs"]
        ],
        right=["attempts"],
    )


# ---------------------------------------------------------------------------------------- health


@command.command("health")
@click.argument("name")
@json_option
@click.pass_context
def health(ctx: click.Context, name: str, *, as_json: bool) -> None:
    """Say whether the stream NAME lives and is ready; exit non-zero with the failing domain.

    0: ready. 3: it lives and is paused. 4: degraded. 7: it does not run.
    """
    from runwright.bootstrap import reports  # lazy: as for `show`

    loaded = settings(ctx)
    with streams.looking(loaded) as store:
        found = reports.health(loaded, store, name)
    if as_json:
        print_json(found)
    else:
        bad = [f"{domain}: {text}" for domain, text in found["domains"].items() if text != "ok"]
        click.echo(f"{name}: {found['state']}, {'ready' if found['ready'] else 'not ready'}")
        for line in bad:
            click.echo(line)
    if found["ready"]:
        ctx.exit(Exit.DONE)
    by_state = {"degraded": Exit.HALT, "running": Exit.NEGATIVE}
    ctx.exit(by_state.get(found["state"], Exit.INCONCLUSIVE))


# ------------------------------------------------------------------------------ tail and audit


@command.command("tail")
@click.argument("name")
@click.option("--symbol", default="", help="Only this symbol.")
@click.option("--type", "types", multiple=True, help="Only events of this type; repeat for more.")
@click.option("--from-start", is_flag=True, help="From the first event on, not from now.")
@click.option("--follow/--no-follow", default=True, show_default=True, help="Wait for more.")
@click.option("--limit", type=click.IntRange(1), default=None, help="End after so many events.")
@click.option("--transport", is_flag=True, help="Read the stream's transport, not the store.")
@click.pass_context
def tail(
    ctx: click.Context,
    name: str,
    symbol: str,
    types: tuple[str, ...],
    limit: int | None,
    *,
    from_start: bool,
    follow: bool,
    transport: bool,
) -> None:
    """Print the events of the stream NAME, duplicates dropped, and stop at a gap (exit 6)."""
    from runwright.bootstrap import following  # lazy: only this command follows

    loaded = settings(ctx)
    with reader_may_be_gone():
        try:
            found = following.tail(
                loaded,
                name,
                following.Wanted(symbol, types),
                from_start=from_start,
                follow=follow,
                transport=transport,
            )
            for number, line in enumerate(found, 1):
                sys.stdout.buffer.write(line + b"\n")
                if follow:
                    sys.stdout.buffer.flush()
                if number == limit:
                    break
        except KeyboardInterrupt:
            ctx.exit(Exit.DONE)


@command.command("audit")
@click.argument("name")
@click.option("--repair", is_flag=True, help="Publish again what the transport lost.")
@json_option
@click.pass_context
def audit(ctx: click.Context, name: str, *, repair: bool, as_json: bool) -> None:
    """Compare what the transport of NAME holds with what was published; exit 6 when it differs."""
    from runwright.bootstrap import audits  # lazy: only this command audits

    loaded = settings(ctx)
    found = audits.audit(loaded, name, repair=repair)
    if as_json:
        print_json(found)
    else:
        _print_audit(found)
    ctx.exit(Exit.DONE if found["held"] else Exit.VERIFICATION)


def _print_audit(found: Mapping[str, Any]) -> None:
    click.echo(" ".join(f"{word}={found[word]}" for word in _AUDITED))
    for item in found["findings"][:20]:
        click.echo(
            f"{item['kind']}: {item['symbol']} {item['publish_seq']} {item['detail']}".rstrip()
        )
    if found["repaired"]:
        click.echo(f"{found['repaired']} events published again")
    click.echo("the transport holds what was published" if found["held"] else "it does not hold")


# ------------------------------------------------------------------------------ freeze and plan


@command.command("freeze")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def freeze(ctx: click.Context, *, as_json: bool) -> None:
    """Print the contract-freeze note: schemas, event types, minimal keys, non-goals as checked."""
    from runwright.bootstrap import freezing  # lazy: only this command needs the note

    note = freezing.freeze()
    if as_json:
        print_json(note)
    else:
        click.echo(note["text"], nl=False)
    ctx.exit(Exit.DONE if note["held"] else Exit.VERIFICATION)


@command.command("plan")
@click.argument("name")
@click.option("--from-log", is_flag=True, help="Derive every recorded tick again from the log.")
@click.option("--next", "count", type=click.IntRange(1, 1000), default=5, show_default=True)
@json_option
@click.pass_context
def plan(ctx: click.Context, name: str, count: int, *, from_log: bool, as_json: bool) -> None:
    """Show the next ticks of NAME, or compare its recorded plan with the log (exit 6).

    Ticks whose inputs are retired cannot be told: exit 7.
    """
    loaded = settings(ctx)
    with streams.looking(loaded) as store:
        if not from_log:
            from runwright.bootstrap import reports  # lazy: as for `show`

            found = reports.next_ticks(store, name, count)
            if as_json:
                print_json(found)
                return
            if not found:
                click.echo("nothing came in yet: the first tick follows the first event")
                return
            print_table(
                ["planned", "engine timestamp", "planned_ts_ms"],
                [[row["planned"], row["engine"], row["planned_ts_ms"]] for row in found],
            )
            return
        from runwright.bootstrap import replays  # lazy: most commands execute nothing again

        progress = progress_line("derived", as_json=as_json)
        report = replays.plan_from_log(store, name, progress)
    if as_json:
        print_json(report)
    else:
        click.echo(
            f"{report['ticks']} ticks, {report['runs']} runs derived again from "
            f"{report['records']} records: {report['different']} differences"
        )
        if report["retired"]:
            click.echo(f"{report['retired']} ticks: inputs retired, so only their instants are")
        for item in report["deviations"]:
            click.echo(
                f"tick {item['planned_ms']} {item['symbol']} {item['field']}: recorded "
                f"{item['recorded']!r}, derived {item['derived']!r}"
            )
    if report["different"]:
        ctx.exit(Exit.VERIFICATION)
    ctx.exit(Exit.INCONCLUSIVE if report["retired"] else Exit.DONE)


def progress_line(word: str, *, as_json: bool) -> Any:
    """Return what shows how far long work is, on a terminal."""
    if as_json or not sys.stderr.isatty():
        return lambda done, of: None  # noqa: ARG005

    def show(done: int, of: int) -> None:
        end = "\n" if done == of else "\r"
        sys.stderr.write(f"{word} {done} of {of} ticks{end}")
        sys.stderr.flush()

    return show
