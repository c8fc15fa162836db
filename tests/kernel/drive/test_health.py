"""What a stream says of itself: its states, its failing domains, its metrics as Prometheus text."""

from __future__ import annotations

import re
from itertools import product
from typing import Any

import pytest

from runwright.kernel.drive.health import DOMAINS, RECENT_MAX, Health, Metrics
from runwright.kernel.errors import Usage

STATES = ("init", "running", "drained", "stopped", "degraded")
ACTIONS = ("start", "drain", "stop", "degrade", "recover")
#: (state, action) -> the state it leads to; every other pair is refused.
TABLE = {
    ("init", "start"): "running",
    ("drained", "start"): "running",
    ("running", "drain"): "drained",
    ("degraded", "recover"): "running",
    **{(state, "stop"): "stopped" for state in STATES},
    **{(state, "degrade"): "degraded" for state in STATES},
}
#: Every metric that the specification names, with its kind and its labels.
METRICS = {
    "ingest.count": ("counter", {"source_id", "event_type"}),
    "buffer.depth": ("gauge", set()),
    "buffer.age_ms": ("gauge", set()),
    "scheduler.ticks": ("counter", set()),
    "scheduler.lag_ms": ("summary", set()),
    "engine.runs": ("counter", {"status"}),
    "engine.duration_ms": ("summary", set()),
    "publish.count": ("counter", {"event_type"}),
    "publish.latency_ms": ("summary", set()),
    "backpressure.count": ("counter", {"domain"}),
    "backpressure.blocked_ms": ("counter", {"domain"}),
}


@pytest.mark.parametrize(("state", "action"), [*product(STATES, ACTIONS)])
def test_states_change_as_the_table_says_and_in_no_other_way(state: Any, action: str) -> None:
    """Checks 35 and 36: stopping is idempotent, degrading is possible from anywhere."""
    health = Health()
    health.state = state
    if (state, action) in TABLE:
        health.change(action)
        assert health.state == TABLE[state, action]
    else:
        with pytest.raises(Usage, match=f"a stream that is {state} cannot {action}"):
            health.change(action)
        assert health.state == state


def test_ready_is_running_with_nothing_paused_and_nothing_at_fault() -> None:
    """Each of them alone is enough to be not ready."""
    health = Health()
    assert not health.is_ready
    health.change("start")
    assert health.is_ready
    for flag in ("is_ingestion_paused", "is_scheduling_paused"):
        setattr(health, flag, True)
        assert not health.is_ready
        setattr(health, flag, False)
    for domain in DOMAINS:
        health.fault(domain, "away")
        assert not health.is_ready
        assert health.report()["domains"] == {**dict.fromkeys(DOMAINS, "ok"), domain: "away"}
        health.mend(domain)
    assert health.is_ready
    health.change("drain")
    assert not health.is_ready


def told() -> Health:
    """Return a health of which every metric has been told."""
    health = Health()
    health.count("ingest.count", 7, source_id='a "feed"\\', event_type="Two\nlines")
    health.count("scheduler.ticks", 3)
    health.count("engine.runs", 5, status="completed")
    health.count("publish.count", 5, event_type="EngineRunStarted")
    health.count("backpressure.blocked_ms", 12, domain="publish")
    for metric in ("scheduler.lag_ms", "engine.duration_ms", "publish.latency_ms"):
        for value_ms in (3.0, 1.0, 2_000_000.125):
            health.observe(metric, value_ms)
    health.gauges = {"buffer.depth": 12, "buffer.age_ms": 1.5}
    return health


SAMPLE = re.compile(r'([a-z_]+)\{((?:[a-z_]+="(?:[^"\\\n]|\\["\\n])*",?)*)\} (-?[0-9.e+-]+)')
LABEL = re.compile(r'([a-z_]+)="((?:[^"\\\n]|\\["\\n])*)"')


class Parsed:
    """The exposition text of Prometheus (0.0.4), read as strictly as its grammar is."""

    def __init__(self, text: str) -> None:
        assert text.endswith("\n")
        #: Family -> kind; (name, labels) -> value.
        self.kinds: dict[str, str] = {}
        self.samples: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
        family = ""
        for line in text.splitlines():
            if line.startswith("#"):
                _, word, family, kind = line.split(" ")
                assert word == "TYPE"
                assert family not in self.kinds, "the lines of a family stand together"
                self.kinds[family] = kind
                continue
            found = SAMPLE.fullmatch(line)
            assert found, line
            name, labels = found[1], frozenset(LABEL.findall(found[2]))
            endings = ("", "_sum", "_count") if self.kinds[family] == "summary" else ("",)
            assert name in {family + ending for ending in endings}
            assert (name, labels) not in self.samples, "a sample is there twice"
            self.samples[name, labels] = float(found[3])

    def of(self, name: str) -> dict[frozenset[tuple[str, str]], float]:
        return {labels: value for (own, labels), value in self.samples.items() if own == name}


@pytest.mark.parametrize("dotted", METRICS)
def test_every_metric_of_the_specification_is_exported(dotted: str) -> None:
    """Check 37: under its name with underscores, `_total` behind a counter."""
    kind, labels = METRICS[dotted]
    parsed = Parsed(Metrics().text(told().report(), "prices"))
    name = "runwright_stream_" + dotted.replace(".", "_") + "_total" * (kind == "counter")
    assert parsed.kinds[name] == kind
    names = [f"{name}_count", f"{name}_sum"] if kind == "summary" else [name]
    for each in names:
        samples = parsed.of(each)
        assert samples
        for found in samples:
            assert {key for key, _ in found} == {"stream", *labels}
            assert ("stream", "prices") in found


def test_values_and_labels_survive_the_text() -> None:
    """Quotes, backslashes and line ends are escaped; a sum has all of its digits."""
    parsed = Parsed(Metrics().text(told().report(), "prices"))
    ((labels, value),) = parsed.of("runwright_stream_ingest_count_total").items()
    assert value == 7
    assert ("source_id", 'a \\"feed\\"\\\\') in labels
    assert ("event_type", "Two\\nlines") in labels
    (total,) = parsed.of("runwright_stream_engine_duration_ms_sum").values()
    assert total == 2_000_004.125
    quantiles = {
        dict(labels)["quantile"]: value
        for labels, value in parsed.of("runwright_stream_engine_duration_ms").items()
    }
    assert quantiles == {"0.5": 3.0, "0.99": 2_000_000.125}


def test_quantiles_are_of_recent_durations_and_counts_of_all() -> None:
    """What is held of a metric is bounded."""
    health = Health()
    for value_ms in range(3 * RECENT_MAX):
        health.observe("engine.duration_ms", float(value_ms))
    assert {word: value for _, word, value in health.quantiles()} == {
        "0.5": 2 * RECENT_MAX + RECENT_MAX / 2 - 1,
        "0.99": 2 * RECENT_MAX + 1013,
    }
    assert health.counters["engine.duration_ms.count", ()] == 3 * RECENT_MAX


def test_text_that_is_no_exposition_is_seen() -> None:
    """A control for the parser."""
    for text in (
        "# TYPE a counter\nb{} 1\n",
        "# TYPE a counter\na{} 1\na{} 1\n",
        '# TYPE a gauge\na{x="1} 1\n',
        "# TYPE a gauge\na{} 1",
    ):
        with pytest.raises(AssertionError):
            Parsed(text)
