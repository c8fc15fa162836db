"""Compares what the transport of a stream holds with what was published, and mends it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec

from runwright.bootstrap.project import ProjectStore
from runwright.bootstrap.streams import looking, paper_rows, spec_of
from runwright.bootstrap.transports import published_again, transported
from runwright.config import Loaded
from runwright.streams.audit import audit as compare
from runwright.streams.audit import to_redrive


def audit(loaded: Loaded, name: str, *, repair: bool) -> Mapping[str, Any]:
    """Compare what a stream's transport holds with what was published; mend it when asked to.

    Raises: unknown-name, usage where the transport cannot be read back, deferred when it is away.
    """
    with looking(loaded) as store:
        spec = spec_of(store, name)
        delivered = _delivered(store, name)
        report = compare(delivered(), transported(spec))
        repaired = 0
        if repair and not report.is_clean:
            repaired = published_again(spec, to_redrive(report, delivered()))
            report = compare(delivered(), transported(spec))
    found: dict[str, Any] = msgspec.to_builtins(report)
    return {
        **found,
        "held": report.is_clean,
        "repaired": repaired,
        **{word: report.total(word) for word in ("missing", "altered", "duplicated")},
        "out_of_order": report.total("out_of_order"),
    }


def _delivered(store: ProjectStore, name: str) -> Callable[[], Iterator[bytes]]:
    """Return what yields the events that the transport acknowledged: others are on their way."""

    def events() -> Iterator[bytes]:
        for row in paper_rows(store, name):
            if row["state"] == "delivered":
                yield from row["body"].splitlines()

    return events
