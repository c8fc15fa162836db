"""The state of a stream for people and probes: its lifecycle, its failure domains, its counters.

Pure bookkeeping: the loop says what happened, and whoever asks gets the state, whether it is ready,
and the domain that is at fault.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal, TypeAlias

import msgspec

from runwright.kernel.errors import Usage

State: TypeAlias = Literal["init", "running", "drained", "stopped", "degraded"]
Domain: TypeAlias = Literal["ingest", "buffer", "engine", "publish"]
DOMAINS: Final[tuple[Domain, ...]] = ("ingest", "buffer", "engine", "publish")

#: A change of state -> the states from which it is allowed.
_ALLOWED: Final[Mapping[str, frozenset[State]]] = {
    "start": frozenset(["init", "drained"]),
    "drain": frozenset(["running"]),
    "stop": frozenset(["init", "running", "drained", "stopped", "degraded"]),
    "degrade": frozenset(["init", "running", "drained", "stopped", "degraded"]),
    "recover": frozenset(["degraded"]),
}
_LEADS_TO: Final[Mapping[str, State]] = {
    "start": "running",
    "drain": "drained",
    "stop": "stopped",
    "degrade": "degraded",
    "recover": "running",
}
#: How many of the newest durations a quantile is taken over.
RECENT_MAX: Final = 1_024


class Health:
    """Lifecycle, pauses, faults by domain, and counters of one stream."""

    def __init__(self) -> None:
        """Start in `init`, with nothing paused and no fault."""
        self.state: State = "init"
        self.is_ingestion_paused = False
        self.is_scheduling_paused = False
        #: Domain -> what is wrong there now.
        self.faults: dict[str, str] = {}
        #: (metric, labels) -> its value.
        self.counters: Counter[tuple[str, tuple[tuple[str, str], ...]]] = Counter()
        self.gauges: dict[str, float] = {}
        self._recent: dict[str, deque[float]] = {}
        for domain in ("buffer", "publish"):
            # A series that is not there yet looks like one that nobody measures.
            self.count("backpressure.count", 0, domain=domain)
            self.count("backpressure.blocked_ms", 0, domain=domain)

    def change(self, action: str) -> None:
        """Go to the state that an action leads to. Raises: usage where that is not allowed."""
        if self.state not in _ALLOWED[action]:
            message = f"a stream that is {self.state} cannot {action}"
            raise Usage(message)
        self.state = _LEADS_TO[action]

    @property
    def is_ready(self) -> bool:
        """Whether events are taken in and ticks are conducted."""
        paused = self.is_ingestion_paused or self.is_scheduling_paused
        return self.state == "running" and not paused and not self.faults

    def fault(self, domain: Domain, reason: str) -> None:
        """Say that something is wrong in a domain."""
        self.faults[domain] = reason

    def mend(self, domain: Domain) -> None:
        """Say that a domain works again."""
        self.faults.pop(domain, None)

    def count(self, metric: str, by: int = 1, **labels: str) -> None:
        """Add to a counter."""
        self.counters[metric, tuple(sorted(labels.items()))] += by

    def observe(self, metric: str, value_ms: float) -> None:
        """Note a duration: counted, summed, and kept while it is recent."""
        self.count(f"{metric}.count")
        self.counters[f"{metric}.sum", ()] += value_ms  # type: ignore[assignment]
        self._recent.setdefault(metric, deque(maxlen=RECENT_MAX)).append(value_ms)

    def quantiles(self) -> Iterator[tuple[str, str, float]]:
        """Yield (metric, quantile, ms) of the recent durations."""
        for metric, values in self._recent.items():
            ranked = sorted(values)
            for quantile in ("0.5", "0.99"):
                place = max(0, math.ceil(float(quantile) * len(ranked)) - 1)
                yield metric, quantile, ranked[place]

    def report(self) -> Mapping[str, Any]:
        """Return all of it as one JSON value."""
        return {
            "state": self.state,
            "ready": self.is_ready,
            "ingestion_paused": self.is_ingestion_paused,
            "scheduling_paused": self.is_scheduling_paused,
            "domains": {name: self.faults.get(name, "ok") for name in DOMAINS},
            "counters": [
                {"name": name, "labels": dict(labels), "value": value}
                for (name, labels), value in sorted(self.counters.items())
            ],
            "gauges": dict(self.gauges),
            "quantiles": [
                {"name": name, "quantile": quantile, "value": value}
                for name, quantile, value in self.quantiles()
            ],
        }


class Metrics(msgspec.Struct, frozen=True):
    """What a scraper reads: Prometheus text of a report."""

    #: The words before each name.
    prefix: str = "runwright_stream_"

    def text(self, report: Mapping[str, Any], stream: str) -> str:
        """Return the exposition text (Prometheus 0.0.4).

        A dotted name of the seed becomes `runwright_stream_` and the name with underscores, without
        `orchestrator.` and with `_total` for a counter.
        """
        kinds: dict[str, str] = {}
        lines: dict[str, list[str]] = {}
        for item in report["counters"]:
            name = self._name(item["name"])
            is_part = item["name"].endswith((".sum", ".count")) and self._is_duration(item, report)
            name = name if is_part else f"{name}_total"
            family = name.rpartition("_")[0] if is_part else name
            kinds[family] = "summary" if is_part else "counter"
            lines.setdefault(family, []).append(_line(name, stream, item["labels"], item["value"]))
        for item in report["quantiles"]:
            name = self._name(item["name"])
            labels = {"quantile": item["quantile"]}
            lines.setdefault(name, []).append(_line(name, stream, labels, item["value"]))
        for dotted, value in report["gauges"].items():
            name = self._name(dotted)
            kinds[name] = "gauge"
            lines.setdefault(name, []).append(_line(name, stream, {}, value))
        return "".join(
            f"# TYPE {name} {kinds.get(name, 'gauge')}\n" + "".join(lines[name])
            for name in sorted(lines)
        )

    def _name(self, dotted: str) -> str:
        return self.prefix + dotted.removeprefix("orchestrator.").replace(".", "_")

    def _is_duration(self, item: Mapping[str, Any], report: Mapping[str, Any]) -> bool:
        metric = item["name"].rpartition(".")[0]
        return any(found["name"] == metric for found in report["quantiles"])


def _line(name: str, stream: str, labels: Mapping[str, str], value: float) -> str:
    all_labels = {"stream": stream, **labels}
    inside = ",".join(f'{key}="{_escaped(text)}"' for key, text in all_labels.items())
    figure = int(value) if value == int(value) else repr(value)
    return f"{name}{{{inside}}} {figure}\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
