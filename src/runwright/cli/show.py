"""`runwright show`: what ran, what is late, what is planned, and what the ledger holds."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import click

from runwright import views
from runwright.bootstrap import project
from runwright.cli.output import (
    COLOURS,
    clean,
    denied,
    json_option,
    print_json,
    print_table,
    settings,
    style,
)


@click.command("show")
@click.argument("what", default="runs")
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True)
@click.option(
    "--output",
    "stream",
    type=click.Choice(["stdout", "stderr", "result"]),
    help="Write what is kept of an output, as it is.",
)
@click.option("--function", default="", help="With --output: of this function.")
@json_option
@click.pass_context
def command(
    ctx: click.Context, what: str, limit: int, stream: str | None, function: str, *, as_json: bool
) -> None:
    """Show WHAT: runs, ledger, schedule, outbox, waiting, decisions, or one run.

    A run is named by its label (CYCLE_…), its id or the start of it, its seq, the name of its spec,
    or `latest`.
    """
    loaded = settings(ctx)
    store = project.open_store(loaded, read_only=True)
    try:
        if stream:
            detail = views.round_detail(store, what)
            sys.stdout.buffer.write(views.output(store, detail, stream, function))
            return
        found: Any
        waiting: list[dict[str, Any]] = []
        printer: Callable[[Any], None]
        if what == "runs":
            found, printer = views.recent(store, limit), _print_recent
            waiting = [] if as_json else views.waiting(store)
        elif what == "ledger":
            found, printer = views.ledger(store, limit), _print_ledger
        elif what == "schedule":
            now_ms = project.clock().now_ms()
            found, printer = views.schedule(store, project.workloads(), now_ms), _print_schedule
        elif what == "outbox":
            found, printer = views.outbox(store, limit), _print_outbox
        elif what == "waiting":
            found, printer = views.waiting(store), _print_waiting
        elif what == "decisions":
            found, printer = views.decisions(store)[-limit:], _print_decisions
        else:
            found, printer = views.round_detail(store, what), _print_round
    finally:
        store.close()
    if as_json:
        print_json(found)
    else:
        printer(found)
        if waiting:
            click.echo("")
            _print_waiting(waiting)


def _print_recent(rows: list[dict[str, Any]]) -> None:
    if not rows:
        click.echo("Nothing ran yet. `runwright run NAME` runs an applied spec.")
        return
    print_table(
        ["planned", "spec", "label", "outcome", "runs", "seconds", "seq", ""],
        [
            [
                row["planned"],
                f"{row['kind']}/{row['name']}",
                row["label"] or "-",
                row["outcome"],
                row["runs"] or (f"x{row['count']}" if row["count"] > 1 else ""),
                "" if row["seconds"] is None else f"{row['seconds']:.2f}",
                row["seq"],
                row["reason"],
            ]
            for row in rows
        ],
        right=["runs", "seconds", "seq"],
    )


def _print_ledger(found: dict[str, Any]) -> None:
    click.echo(f"origin  {found['origin']}")
    click.echo(f"size    {found['size']} entries, sealed up to {found['sealed_size']}")
    click.echo(f"root    {found['root']}")
    print_table(
        ["seq", "at", "type", "about", "blobs"],
        [
            [
                entry["seq"],
                entry["at"],
                entry["type"],
                _about(entry["body"]),
                ", ".join(blob["name"] for blob in entry.get("blobs", ())),
            ]
            for entry in found["entries"]
        ],
        right=["seq"],
    )


def _about(body: dict[str, Any]) -> str:
    """Return the one word that says what an entry is about."""
    document = body.get("document", {})
    for name in ("agent", "key", "name"):
        if body.get(name) and not document:
            return str(body[name])
    return f"{document['action']} {document['subject'][:20]}" if document else ""


def _print_schedule(rows: list[dict[str, Any]]) -> None:
    if not rows:
        click.echo("No spec was applied yet. `runwright apply SPEC.yaml` applies one.")
        return
    print_table(
        ["spec", "schedule", "last", "", "next"],
        [
            [
                f"{row['kind']}/{row['name']}",
                row["schedule"],
                row["last"] or "-",
                row["last_state"] or "",
                ", ".join(row["next"]) or "-",
            ]
            for row in rows
        ],
    )


def _print_outbox(rows: list[dict[str, Any]]) -> None:
    if not rows:
        click.echo("The outbox is empty: everything was delivered.")
        return
    print_table(
        ["sink", "name", "attempts", "next"],
        [[row["sink"], row["name"], row["attempts"], row["next"] or "-"] for row in rows],
    )


def _print_waiting(rows: list[dict[str, Any]]) -> None:
    if not rows:
        click.echo("Nothing waits for a decision.")
        return
    print_table(
        ["waits for a decision", "", "since", "label", ""],
        [[row["subject"], row["state"], row["since"], row["label"], row["text"]] for row in rows],
    )


def _print_reconciled(rows: list[dict[str, Any]]) -> None:
    if not rows:
        return
    click.echo("")
    print_table(
        ["reconciled", "agent", "score", "class", "", "seq"],
        [
            [
                row["component"],
                row["agent"],
                row["score"] or "-",
                row["classification"] or row["status"],
                row["action"] + "".join(f", attested by {by}" for by in row["attested_by"]),
                row["seq"],
            ]
            for row in rows
        ],
        right=["score", "seq"],
    )
    for row in rows:
        if row["differences"]:
            click.echo(style(f"\n{row['component']}", bold=True))
            print_table(
                ["field", "weight", "tolerance", "reported", "recorded"],
                [
                    [
                        item["field"],
                        item["weight"],
                        f"{item['tolerance']} {item.get('within', '')}".rstrip(),
                        clean(item.get("reported", "")) or "(missing)",
                        clean(item.get("recorded", "")) or "(missing)",
                    ]
                    for item in row["differences"]
                ],
                right=["weight"],
            )


def _print_decisions(rows: list[dict[str, Any]]) -> None:
    if not rows:
        click.echo("Nobody decided anything yet. `runwright decide --help` says how.")
        return
    print_table(
        ["seq", "made", "person", "action", "subject", "expires", "reason"],
        [
            [
                row["seq"],
                row["made"],
                row["person"],
                row["action"],
                row["subject"][:40],
                row["expires"] or "-",
                row["reason"],
            ]
            for row in rows
        ],
        right=["seq"],
    )


def _print_round(found: dict[str, Any]) -> None:
    outcome = style(found["outcome"], fg=COLOURS.get(found["outcome"]), bold=True)
    click.echo(f"{found['label'] or found['key']}  {outcome}")
    seal = "sealed" if found["sealed"] else "not sealed yet"
    click.echo(f"spec     {found['kind']}/{found['name']}  planned {found['planned']}")
    click.echo(f"round    {found['round']}")
    first, last = found["seq"]
    span = f"seq {first} to {last}, {seal}" if last is not None else f"from seq {first} on"
    click.echo(f"ledger   {span}")
    warm = [run["warmth"] for run in found["runs"] if run["warmth"]]
    if warm:
        click.echo(f"warm     {sum(each['state'] == 'warm' for each in warm)} of {len(warm)}")
    granted = [run["work"].get("network", "any") for run in found["runs"]]
    networks = {each if isinstance(each, str) else " ".join(each) for each in granted}
    if networks - {"any"}:
        click.echo(f"network  {', '.join(sorted(networks))}")
    if found["stopped"]:
        click.echo(f"stopped  by {found['stopped']}")
    for made in found["decisions"]:
        text = f"{made['action']} by {made['person']}, {made['made']}, entry {made['seq']}"
        click.echo(f"decided  {text}: {clean(made['reason'])}")
    click.echo("")
    print_table(
        ["function", "agent", "status", "exit", "seconds", "cpu s", "peak MiB", "level", "run"],
        [
            [
                run["key"],
                run["agent"],
                run["status"],
                run["used"].get("exit"),
                f"{run['used'].get('duration_ms', 0) / 1000:.3f}",
                f"{run['used'].get('cpu_ms', 0) / 1000:.3f}",
                f"{run['used'].get('peak_kib', 0) / 1024:.1f}",
                run["level"],
                run["run"][:12],
            ]
            for run in found["runs"]
        ],
        right=["exit", "seconds", "cpu s", "peak MiB"],
    )
    _print_reconciled(found["reconciliation"])
    for run in found["runs"]:
        _print_run(run)
    for paper in found["papers"]:
        click.echo(f"\npaper    {paper['name']} ({paper['sink']}, {paper['state']})")


def _print_run(run: dict[str, Any]) -> None:
    if run["message"] or run["reason"]:
        click.echo(f"\n{run['key']}: {clean(run['reason'])} {clean(run['message'])}".rstrip())
    warmth = run["warmth"] or {}
    if warmth.get("reason"):
        click.echo(f"\n{run['key']} started cold: {clean(warmth['reason'])}")
    for blob in run["outputs"]:
        click.echo(style(f"\n{run['key']} {blob['name']} ({blob['whole_size']} bytes)", bold=True))
        click.echo(clean(blob["tail"]) if blob["tail"] is not None else "(erased)")
    told = [blob["tail"] or "" for blob in run["outputs"] if blob["name"] == "stderr"]
    if hint := denied(run, "".join(told)):
        click.echo(f"\n{hint}")
