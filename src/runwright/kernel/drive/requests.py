"""What a request to the conductor holds: run a spec, apply one, erase captured bytes."""

from __future__ import annotations

from typing import Any

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
