"""`runwright decide`: every act of a person, shown, signed and recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import msgspec

from runwright import views
from runwright.bootstrap import decisions, project
from runwright.cli import signing, submit
from runwright.cli.output import json_option, messages, print_json, settings
from runwright.config import Loaded
from runwright.kernel.drive import acts
from runwright.kernel.drive.requests import DecideBody
from runwright.kernel.errors import Denied, UnknownName, Usage
from runwright.kernel.people import ACTIONS
from runwright.kernel.record.entries import Decision, Entry, RoundJudged, RoundPlanned, decode
from runwright.kernel.record.ledger import leaf_hash, root_of


@click.command("decide")
@click.argument("subject", required=False)
@click.argument("action", required=False, type=click.Choice(ACTIONS))
@click.option("--as", "person", metavar="PERSON", help="Who decides, as `people list` has them.")
@click.option("--reason", default="", help="Why; it stands in the ledger.")
@click.option(
    "--evidence", multiple=True, metavar="DIGEST", help="What else was looked at; repeatable."
)
@click.option("--expires", metavar="T", help="When it counts no more, ISO 8601.")
@click.option(
    "--key",
    type=click.Path(path_type=Path),
    help="The private key, or the .pub of one in an agent.",
)
@click.option("--yes", is_flag=True, help="Sign without asking.")
@click.option("--bundle", type=click.Path(path_type=Path), help="Decide about what a bundle shows.")
@click.option(
    "--out", type=click.Path(path_type=Path), help="Write the signed decision, do not record it."
)
@click.option(
    "--import", "taken", type=click.Path(path_type=Path), help="Record a decision made elsewhere."
)
@json_option
@click.pass_context
def command(ctx: click.Context, /, **options: Any) -> None:
    """Decide about SUBJECT: sign ACTION with a reason, and have it recorded.

    SUBJECT is a run as in `runwright show`, `latest`, the id of a tick, `entry/SEQ`, `spec/NAME`,
    `agent/ID`, `suspension/SEQ` or `budget/NAME`.

    What is signed is printed first. It names what was seen by digest, so it counts for that and for
    nothing else. Beside a running conductor it is handed over.
    """
    loaded, start = settings(ctx), ctx.obj["start"]
    if options["taken"] is not None:
        signed = _taken(start / options["taken"], options)
    else:
        signed = _made(loaded, start, options)
        if options["out"] is not None:
            data = msgspec.json.format(msgspec.json.encode(signed), indent=1) + b"\n"
            decisions.keep_new(start / options["out"], data)
            told = {"file": str(start / options["out"]), "document": signed.document}
            _tell(told, f"signed    {start / options['out']}", as_json=options["as_json"])
            return
    found = submit.act(loaded, "decide", signed, messages(loaded))
    word = "recorded" if found["recorded"] else "recorded before"
    line = (
        f"{found['action']} {found['subject']} by {found['person']}: {word}, entry {found['seq']}"
    )
    _tell(found, line, as_json=options["as_json"])


def _tell(found: Any, line: str, *, as_json: bool) -> None:
    if as_json:
        print_json(found)
    else:
        click.echo(line)


def _taken(file: Path, options: dict[str, Any]) -> DecideBody:
    """Return a decision that was made elsewhere. Raises: usage, denied."""
    given = [name for name in ("subject", "action", "person", "bundle", "out") if options[name]]
    if given:
        message = f"--import: goes without {', '.join(given)}: the file says it"
        raise Usage(message)
    try:
        return msgspec.json.decode(file.read_bytes(), type=DecideBody)
    except (OSError, msgspec.DecodeError) as error:
        message = f"--import {file}: {error}"
        raise Usage(message) from error


def _made(loaded: Loaded, start: Path, options: dict[str, Any]) -> DecideBody:
    """Return a decision, shown and signed. Raises: usage, denied, unknown-name."""
    for name, flag in (("subject", "SUBJECT"), ("action", "ACTION"), ("person", "--as PERSON")):
        if not options[name]:
            message = f"{flag} is missing"
            raise Usage(message)
    if options["bundle"] is not None and options["out"] is None:
        message = "--bundle: goes with --out FILE, which `--import` takes where the store is"
        raise Usage(message)
    who = signing.signer(loaded, start, options["person"], options["key"])
    if options["bundle"] is not None:
        document, more = _of_bundle(start / options["bundle"], options), ("bundle", "not verified")
        signing.check_form(document)
        signing.show(document, who, [more])
        return signing.sign(document, who, is_agreed=options["yes"])
    store = project.open_store(loaded, read_only=True)
    try:
        subject = views.subject_of(store, options["subject"])
        span = acts.span_of(store, subject)
        document = _document(
            options, project.origin_of(store), subject, span, acts.seen_of(store, span)
        )
        signing.check_form(document)
        wrong = acts.objection(store, document, who.fingerprint, document.made_ms)
    finally:
        store.close()
    if wrong:
        raise Denied(wrong)
    signing.show(document, who)
    return signing.sign(document, who, is_agreed=options["yes"])


def _document(
    options: dict[str, Any], origin: str, subject: str, span: acts.Span, seen: str
) -> Decision:
    return Decision(
        origin=origin,
        subject=subject,
        seen=seen,
        first_seq=span.first,
        last_seq=span.last,
        action=options["action"],
        person=options["person"],
        reason=options["reason"],
        evidence=options["evidence"],
        expires_ms=signing.instant("--expires", options["expires"]),
        made_ms=project.clock().now_ms(),
    )


# --------------------------------------------------------------------------------------- bundles


def _of_bundle(folder: Path, options: dict[str, Any]) -> Decision:
    """Return a document about what a bundle shows. Raises: usage, unknown-name, denied."""
    raws = decisions.read_bundle(folder).get("entries.jsonl", b"").splitlines()
    try:
        entries = [decode(raw) for raw in raws]
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        message = f"{folder}: {error}"
        raise Usage(message) from error
    if not entries:
        message = f"{folder} holds no entries"
        raise Usage(message)
    subject, span = _in_bundle(entries, options["subject"])
    leaves = {entry.seq: leaf_hash(raw) for entry, raw in zip(entries, raws, strict=True)}
    wanted = range(span.first, span.last + 1)
    if any(seq not in leaves for seq in wanted):
        message = f"the bundle does not hold all of entries {span.first} to {span.last}"
        raise Denied(message)
    seen = root_of([leaves[seq] for seq in wanted]).hex()
    return _document(options, entries[0].origin, subject, span, seen)


def _in_bundle(entries: list[Entry], text: str) -> tuple[str, acts.Span]:
    kind, _, name = text.partition("/")
    if kind == "entry" and name.isdigit():
        return text, acts.Span(int(name), int(name))
    wanted = name if kind in ("round", "tick") and name else text
    for plan in reversed([each for each in entries if isinstance(each.body, RoundPlanned)]):
        ended = [
            each.seq
            for each in entries
            if isinstance(each.body, RoundJudged) and each.round == plan.round
        ]
        is_meant = wanted in ("latest", plan.body.label, str(plan.seq)) or (
            len(wanted) >= views.PREFIX_MIN and plan.round.startswith(wanted)
        )
        if is_meant and ended:
            return f"round/{plan.round}", acts.Span(plan.seq, ended[-1])
    message = f"nothing in the bundle is called {text!r}"
    raise UnknownName(message)
