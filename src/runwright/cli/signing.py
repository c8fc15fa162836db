"""Showing a person what they sign, and signing it: what `decide` and `people` have in common."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click
import msgspec

from runwright.bootstrap import decisions
from runwright.config import Loaded
from runwright.kernel.drive.requests import DecideBody
from runwright.kernel.errors import Denied, NotCanonical, Usage
from runwright.kernel.people import document_bytes, document_digest, fingerprint_of, malformed
from runwright.kernel.record.entries import Decision
from runwright.kernel.run import instant_text


class Signer(NamedTuple):
    """Who signs, with which file."""

    person: str
    file: Path
    #: "SHA256:…".
    fingerprint: str


def signer(loaded: Loaded, start: Path, person: str, key: Path | None) -> Signer:
    """Return who signs: with the key given, or that of the setting `people.key`. Raises: usage."""
    setting = loaded.settings.people.key
    if key is None and not setting:
        message = "no key to sign with"
        raise Usage(message, hint="--key FILE, or the setting people.key.")
    file = start / key.expanduser() if key is not None else loaded.path(setting)
    return Signer(person, file, fingerprint_of(decisions.person_key(file)))


def check_form(document: Decision) -> None:
    """Refuse a document that nobody could sign. Raises: denied."""
    try:
        document_bytes(document)
    except NotCanonical as error:
        raise Denied(str(error)) from error
    if wrong := malformed(document):
        raise Denied(wrong)


def show(document: Decision, who: Signer, more: Sequence[tuple[str, str]] = ()) -> None:
    """Print what is about to be signed, for people."""
    span = f"entries {document.first_seq} to {document.last_seq}"
    lines = [
        ("ledger", document.origin),
        ("subject", document.subject),
        ("seen", f"{document.seen} ({span})" if document.first_seq >= 0 else document.seen),
        *more,
        ("action", document.action),
        ("person", document.person),
        ("reason", document.reason),
        *(("evidence", named) for named in document.evidence),
        ("expires", instant_text(document.expires_ms) if document.expires_ms else "never"),
        ("made", instant_text(document.made_ms)),
        ("key", who.fingerprint),
        ("digest", document_digest(document)),
    ]
    click.echo("This is what is signed:", err=True)
    for name, text in lines:
        click.echo(f"  {name:<9} {text}", err=True)


def sign(document: Decision, who: Signer, *, is_agreed: bool) -> DecideBody:
    """Ask, unless it was agreed to before, and sign. Raises: usage, refused."""
    if not is_agreed:
        if not sys.stdin.isatty():
            message = "nobody is there to agree to what is signed"
            raise Usage(message, hint="--yes, when you have read it.")
        click.confirm("Sign it?", abort=True, err=True)
    signature = decisions.sign_decision(who.file, document_bytes(document))
    return DecideBody(document=plain(document), signature=signature)


def plain(document: Decision) -> dict[str, Any]:
    """Return a document as JSON."""
    found: dict[str, Any] = msgspec.to_builtins(document)
    return found


def instant(option: str, text: str | None) -> int:
    """Return an instant in epoch ms; 0 for none. Raises: usage."""
    if not text:
        return 0
    from datetime import UTC, datetime  # lazy: few decisions expire

    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        message = f"{option}: {text!r} is not an instant in ISO 8601, like 2026-11-20T06:00:00Z"
        raise Usage(message) from error
    at_ms = int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
    if at_ms <= 0:
        message = f"{option}: {text!r} is before 1970"
        raise Usage(message)
    return at_ms
