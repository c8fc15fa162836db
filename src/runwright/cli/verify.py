"""`runwright verify`: a bundle with the caller's keys, or the project's whole record."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from runwright.cli.output import json_option, print_json, settings, style
from runwright.kernel.errors import Exit, Usage


@click.command("verify")
@click.argument("bundle", required=False, type=click.Path(path_type=Path))
@click.option("--store", is_flag=True, help="The project's own record, all of it.")
@click.option(
    "--key",
    "keys",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A public key you trust: PEM or C2SP verifier key; repeatable.",
)
@click.option("--lint/--no-lint", default=True, help="Also check that entries are canonical.")
@click.option("--rejudge", is_flag=True, help="With --store: plan and judge every round again.")
@click.option("--all", "every", is_flag=True, help="Print every sentence, not only broken ones.")
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    bundle: Path | None,
    keys: tuple[Path, ...],
    *,
    store: bool,
    lint: bool,
    rejudge: bool,
    every: bool,
    as_json: bool,
) -> int:
    """Verify BUNDLE, a folder that `runwright export` wrote, or the whole record with --store.

    Exits 6 and names the first bad entry when something does not hold. A bundle is checked with the
    keys given here, never with one that lies in it; inside a project its own public keys stand in
    when none is given.
    """
    if bool(bundle) == store:
        message = "give a bundle, or --store"
        raise Usage(message)
    if rejudge and not store:
        message = "--rejudge: goes with --store"
        raise Usage(message)
    from runwright.bootstrap import verification  # lazy: `--help` verifies nothing

    texts = [_text(ctx.obj["start"] / key) for key in keys]
    if bundle is not None:
        report = verification.verify_bundle(
            ctx.obj["start"] / bundle, texts, settings(ctx), lint=lint
        )
    else:
        report = verification.verify_store(settings(ctx), texts, lint=lint, rejudge=rejudge)
    if as_json:
        print_json(report)
    else:
        _print(report, every=every)
    return Exit.DONE if report["held"] else Exit.VERIFICATION


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        message = f"--key {path}: {error}"
        raise Usage(message) from error


def _print(report: Mapping[str, Any], *, every: bool) -> None:
    levels: dict[str, list[dict[str, Any]]] = {}
    for check in report["checks"]:
        levels.setdefault(check["level"], []).append(check)
    for level, checks in levels.items():
        broken = [check for check in checks if not check["held"]]
        count = f"{len(checks) - len(broken)} of {len(checks)} sentences hold"
        click.echo(f"{_mark(held=not broken)}  {level:<10}  {count}")
        for check in checks if every else broken:
            place = "" if check.get("seq") is None else f" [first at seq {check['seq']}]"
            detail = f" {check['detail']}" if check.get("detail") else ""
            mark = f"{_mark(held=check['held'])}  " if every else ""
            click.echo(
                f"          {mark}{check['sentence']}{'' if check['held'] else place}{detail}"
            )
    click.echo("")
    word = style("VERIFIED", fg="green") if report["held"] else style("NOT VERIFIED", fg="red")
    first = report["first_bad"]
    where = "" if report["held"] or first is None else f", first bad entry: seq {first}"
    rounds = f"{report['judged']} round{'s' * (report['judged'] != 1)} judged"
    click.echo(
        f"{word}  {report['origin']}: {report['entries']} entries of {report['sealed']} sealed, "
        f"{rounds}{where}"
    )
    for seq, reason, remembered, found in report["adopted"]:
        known = f"{remembered} entries" if remembered >= 0 else "nothing"
        click.echo(
            f"adopted at seq {seq}: the signer remembered {known}, the store held {found}: {reason}"
        )
    if report["held"]:
        click.echo("unwitnessed: nobody but this signer vouches that no other history exists")


def _mark(*, held: bool) -> str:
    return style("held  ", fg="green") if held else style("BROKEN", fg="red", bold=True)
