"""What a request to the conductor holds: run or apply a spec, erase bytes, what a person did."""

from __future__ import annotations

from typing import Any, Literal

import msgspec


class RunBody(msgspec.Struct, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """The body of a request to run a spec now or at an instant."""

    kind: str
    name: str
    #: The planned instant, epoch ms; 0: when it was asked for.
    at_ms: int = 0
    args: dict[str, Any] = {}
    #: A spec that was never applied, as JSON text.
    inline: str = ""


class ApplyBody(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The body of a request to apply a spec."""

    kind: str
    #: Canonical JSON text.
    spec: str


class EraseBody(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The body of a request to erase captured bytes."""

    digest: str
    reason: str


class DecideBody(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The body of a request to record a decision; also what `decide --out` writes."""

    #: The document as JSON, and the base64 of the SSHSIG over its canonical bytes.
    document: dict[str, Any]
    signature: str
    kind: Literal["sshsig"] = "sshsig"


class PeopleBody(msgspec.Struct, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """The body of a request to change the people."""

    change: Literal["added", "revoked"]
    #: The body of the entry, as JSON.
    body: dict[str, Any]
    #: An owner's decision to approve it; None for the first person.
    approval: DecideBody | None = None


class KeyBody(msgspec.Struct, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """The body of a request about the keys of an agent."""

    agent: str
    act: Literal["new", "rotate", "archive"]
    #: The start of a fingerprint.
    key: str = ""
    grace_s: int = 86_400
