"""`runwright people`: who may decide what, and with which keys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import msgspec

from runwright import views
from runwright.bootstrap import project
from runwright.cli import signing
from runwright.cli.output import json_option, messages, print_json, print_table, settings
from runwright.config import Loaded
from runwright.kernel.drive import acts
from runwright.kernel.drive.requests import DecideBody, PeopleBody
from runwright.kernel.errors import Denied, UnknownName, Usage
from runwright.kernel.people import ROLES, change_digest, fingerprint_of
from runwright.kernel.record.entries import Decision, PersonAdded, PersonKey, PersonRevoked
from runwright.kernel.record.sshsig import parse_key


@click.group("people")
def command() -> None:
    """Look after the people who decide."""


_AS = click.option("--as", "by", metavar="PERSON", help="The owner who signs the change.")
_SIGNED = click.option(
    "--signing-key", "file", type=click.Path(path_type=Path), help="The owner's private key."
)
_YES = click.option("--yes", is_flag=True, help="Sign without asking.")


@command.command("add")
@click.argument("person")
@click.option("--name", help="What people call them; not needed for somebody who is known.")
@click.option(
    "--role", "roles", multiple=True, type=click.Choice(ROLES), help="What they may do; repeatable."
)
@click.option("--key", "keys", multiple=True, metavar="FILE|TEXT", help="A public key; repeatable.")
@click.option("--from", "since", metavar="T", help="The keys sign from then on, ISO 8601.")
@click.option("--until", metavar="T", help="The keys sign until then.")
@click.option("--user", "users", multiple=True, help="A name the system knows them by; repeatable.")
@_AS
@_SIGNED
@_YES
@json_option
@click.pass_context
def add(ctx: click.Context, /, person: str, **options: Any) -> None:
    """Add PERSON, or keys and roles of one who is known.

    The first person of a project is an owner and is added by whoever owns it. After that an owner
    signs: --as PERSON. A key is an OpenSSH public key (ssh-ed25519, ecdsa, rsa), or its file.
    """
    loaded, start = settings(ctx), ctx.obj["start"]
    store = project.open_store(loaded, read_only=True)
    try:
        known = acts.people_of(store).persons.get(person)
        origin = project.origin_of(store)
    finally:
        store.close()
    if known is None and not (options["name"] and options["roles"] and options["keys"]):
        message = "somebody who is not known yet needs --name, --role and --key"
        raise Usage(message)
    begins, ends = (signing.instant(f"--{n}", options[k]) for n, k in _BOUNDS)
    body = PersonAdded(
        id=person,
        name=options["name"] or (known.name if known else ""),
        roles=options["roles"] or (known.roles if known else ()),
        users=options["users"] or (known.users if known else ()),
        keys=tuple(
            PersonKey(key=key, fingerprint=fingerprint_of(key), from_ms=begins, until_ms=ends)
            for key in (_key(start, text) for text in options["keys"])
        ),
    )
    _change(loaded, start, body, origin, options)


_BOUNDS = (("from", "since"), ("until", "until"))


@command.command("revoke")
@click.argument("person")
@click.option("--key", metavar="FINGERPRINT", default="", help="Only this key.")
@click.option("--reason", required=True, help="Why; it stands in the ledger.")
@_AS
@_SIGNED
@_YES
@json_option
@click.pass_context
def revoke(ctx: click.Context, /, person: str, **options: Any) -> None:
    """Let PERSON decide no more, or one of their keys; what was signed before stays as it is."""
    loaded, start = settings(ctx), ctx.obj["start"]
    store = project.open_store(loaded, read_only=True)
    try:
        origin = project.origin_of(store)
    finally:
        store.close()
    body = PersonRevoked(id=person, key=options["key"], reason=options["reason"])
    _change(loaded, start, body, origin, options)


@command.command("list")
@json_option
@click.pass_context
def listed(ctx: click.Context, *, as_json: bool) -> None:
    """List the people."""
    found = _read(ctx)
    if as_json:
        print_json(found)
        return
    if not found:
        click.echo("Nobody is known yet. `runwright people add ID --role owner …` adds the first.")
        return
    print_table(
        ["id", "name", "roles", "keys", ""],
        [
            [
                row["id"],
                row["name"],
                ", ".join(row["roles"]),
                sum(key["revoked"] is None for key in row["keys"]),
                f"revoked {row['revoked']}" if row["revoked"] else "",
            ]
            for row in found
        ],
        right=["keys"],
    )


@command.command("show")
@click.argument("person")
@json_option
@click.pass_context
def show(ctx: click.Context, person: str, *, as_json: bool) -> None:
    """Show PERSON, with their keys."""
    found = next((row for row in _read(ctx) if row["id"] == person), None)
    if found is None:
        message = f"nobody of the id {person!r} is known"
        raise UnknownName(message, hint="`runwright people list` shows who is.")
    if as_json:
        print_json(found)
        return
    click.echo(f"{found['id']}  {found['name']}")
    click.echo(f"roles    {', '.join(found['roles'])}")
    if found["users"]:
        click.echo(f"users    {', '.join(found['users'])}")
    if found["revoked"]:
        click.echo(f"revoked  {found['revoked']}: {found['reason']}")
    for key in found["keys"]:
        ends = f"revoked {key['revoked']}" if key["revoked"] else f"until {key['until'] or 'ever'}"
        click.echo(f"key      {key['fingerprint']}  from {key['from'] or 'ever'} {ends}")
        click.echo(f"         {key['key']}")


def _read(ctx: click.Context) -> list[dict[str, Any]]:
    store = project.open_store(settings(ctx), read_only=True)
    try:
        return views.people(store)
    finally:
        store.close()


def _key(start: Path, text: str) -> str:
    """Return a public key that stands here, or in a file. Raises: usage."""
    file = start / Path(text).expanduser()
    if " " not in text.strip() and file.is_file():
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            message = f"--key {file}: {error}"
            raise Usage(message) from error
    return parse_key(text)


def _change(
    loaded: Loaded,
    start: Path,
    body: PersonAdded | PersonRevoked,
    origin: str,
    options: dict[str, Any],
) -> None:
    """Have a change recorded, signed by the owner who was named."""
    wish = PeopleBody(
        change="added" if isinstance(body, PersonAdded) else "revoked", body=_plain(body)
    )
    if options["by"]:
        wish.approval = _approval(loaded, start, body, origin, options)
    from runwright.cli import submit  # lazy: a look at people changes nothing

    found = submit.act(loaded, "people", wish, messages(loaded))
    if options["as_json"]:
        print_json(found)
        return
    click.echo(f"{body.id}: {wish.change}, entry {found['seq']}")
    if found.get("first"):
        click.echo("They are the first: from here on an owner signs every change of the people.")


def _approval(
    loaded: Loaded,
    start: Path,
    body: PersonAdded | PersonRevoked,
    origin: str,
    options: dict[str, Any],
) -> DecideBody:
    who = signing.signer(loaded, start, options["by"], options["file"])
    document = Decision(
        origin=origin,
        subject=f"person/{body.id}",
        seen=change_digest(body),
        first_seq=-1,
        last_seq=-1,
        action="approve",
        person=who.person,
        reason=options.get("reason") or f"{body.id} is added or changed",
        evidence=(),
        expires_ms=0,
        made_ms=project.clock().now_ms(),
    )
    signing.check_form(document)
    store = project.open_store(loaded, read_only=True)
    try:
        wrong = acts.objection(store, document, who.fingerprint, document.made_ms)
    finally:
        store.close()
    if wrong:
        raise Denied(wrong)
    text = msgspec.json.encode(body).decode()
    signing.show(document, who, [("change", text)])
    return signing.sign(document, who, is_agreed=options["yes"])


def _plain(body: PersonAdded | PersonRevoked) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.to_builtins(body)
    return found
