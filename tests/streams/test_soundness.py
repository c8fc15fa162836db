"""A spec that cannot be meant is refused with file, line and dotted key (check 6)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from ruamel.yaml import YAML

from runwright.cli.specfile import read
from runwright.kernel.errors import InvalidSpec
from runwright.streams import WORKLOAD
from runwright.streams.freeze import minimal_spec
from runwright.streams.soundness import check_spec, warnings_of
from runwright.streams.spec import MINIMAL, StreamSpec

MAPPING = {
    "event_type": "FundingRate",
    "columns": {"normalized.funding_rate": "rate", "recv_ts_ms": "at"},
}
FILE = {"path": "x.csv", "format": "csv", "mapping": MAPPING}
OUT = {"transport": "nats", "url": "nats://h:1", "stream": "S"}
NATS = {"url": "nats://h:1", "stream": "S", "subject": "s.>"}


def changed(**changes: Any) -> dict[str, Any]:
    """Return the minimal spec with keys changed by their dotted names; `...` takes one away."""
    plain = minimal_spec()
    for key, value in changes.items():
        part: Any = plain
        *way, last = key.replace("[", ".").replace("]", "").split(".")
        for step in way:
            part = part[int(step)] if step.isdigit() else part.setdefault(step, {})
        if value is ...:
            del part[last]
        else:
            part[int(last) if last.isdigit() else last] = value
    return plain


def with_file(**changes: Any) -> dict[str, Any]:
    """Return keys of a spec whose source is a file, with keys of its mapping changed."""
    mapping = {k: v for k, v in {**MAPPING, **changes}.items() if v is not ...}
    return {"sources[0].stdin": ..., "sources[0].file": {**FILE, "mapping": mapping}}


PARQUET = {"sources[0].file.format": "parquet", "sources[0].file.path": "x.parquet"}
TIMER = {"scheduler.mode": "timer", "scheduler.boundary_interval_ms": ...}
SOURCE = "sources[0]"
#: Changes -> the key and the words of the message.
BAD: list[tuple[dict[str, Any], str, str]] = [
    ({"name": "a b"}, "name", "is not of letters"),
    ({"schedule": {"interval_s": 5}}, "schedule", "a stream has `scheduler` instead"),
    ({"sources": []}, "sources", "0 sources is not within 1 to 100"),
    ({"sources": ...}, "", "missing required field `sources`"),
    ({"sources[0].source_id": ""}, f"{SOURCE}.source_id", "is not of letters"),
    ({"sources[0].source_id": ...}, SOURCE, "missing required field `source_id`"),
    ({"sources[0].symbols": []}, f"{SOURCE}.symbols", "0 symbols is not within 1 to 10000"),
    ({"sources[0].symbols": [""]}, f"{SOURCE}.symbols[0]", "is not 1 to 64 visible ASCII"),
    ({"sources[0].symbols": ["A", "Ø"]}, f"{SOURCE}.symbols[1]", "is not 1 to 64 visible ASCII"),
    ({"sources[0].symbols": ["A", "A"]}, f"{SOURCE}.symbols[1]", "A is declared twice"),
    ({"sources[0].stdin": ...}, SOURCE, "none given; give one of file, stdin, nats, python"),
    ({"sources[0].nats": NATS}, SOURCE, "stdin and nats given"),
    ({"sources[0].stdin": {"format": "csv"}}, f"{SOURCE}.stdin.mapping", "rows of csv"),
    ({"sources[0].stdin": {"format": "xml"}}, f"{SOURCE}.stdin.format", "Invalid enum value"),
    ({"sources[0].colour": "red"}, f"{SOURCE}.colour", "unknown key"),
    (
        {**with_file(), "sources[0].file.path": "a/"},
        f"{SOURCE}.file.path",
        "is not the name of a file",
    ),
    (with_file(event_type=...), f"{SOURCE}.file.mapping.event_type", "give it, or a column"),
    (
        with_file(columns={"recv_ts_ms": "at"}),
        f"{SOURCE}.file.mapping.columns",
        "FundingRate needs normalized.funding_rate",
    ),
    (
        with_file(constants={"raw_payload": "x"}),
        f"{SOURCE}.file.mapping.constants",
        "raw_payload is no field of an event",
    ),
    (
        with_file(constants={"recv_ts_ms": 1}),
        f"{SOURCE}.file.mapping.constants",
        "recv_ts_ms stands in columns too",
    ),
    (
        with_file(constants={"normalized.funding_rate.a": 1}),
        f"{SOURCE}.file.mapping.columns",
        "stands inside normalized.funding_rate",
    ),
    (
        with_file(constants={"event_type": "X"}),
        f"{SOURCE}.file.mapping.constants",
        "event_type has a key of its own",
    ),
    (
        with_file(columns={**MAPPING["columns"], "event_type": "t"}),
        f"{SOURCE}.file.mapping.event_type",
        "not both",
    ),
    (with_file(delimiter=";;"), f"{SOURCE}.file.mapping.delimiter", "is not one character"),
    (with_file(header=["rate"]), f"{SOURCE}.file.mapping.columns", "at is not in the header"),
    (with_file(header=["at", "at"]), f"{SOURCE}.file.mapping.header", "a column stands twice"),
    (with_file(time_unit="days"), f"{SOURCE}.file.mapping.time_unit", "Invalid enum value"),
    (
        {**with_file(), "sources[0].symbols": ["A", "B"]},
        f"{SOURCE}.file.mapping.columns",
        "symbol is needed",
    ),
    (
        {
            **with_file(columns={"normalized.funding_rate": "rate"}),
            "scheduler.time": "events",
        },
        f"{SOURCE}.file.mapping.columns",
        "recv_ts_ms is needed: scheduler.time is events",
    ),
    (
        {"sources[0].stdin": ..., "sources[0].python": {"ref": "nothing"}},
        f"{SOURCE}.python.ref",
        "is not package.module:callable",
    ),
    (
        {"sources[0].stdin": ..., "sources[0].nats": {**NATS, "url": "http://h"}},
        f"{SOURCE}.nats.url",
        "is not nats://HOST:PORT",
    ),
    (
        {"sources[0].stdin": ..., "sources[0].nats": {**NATS, "url": "nats://u:p@h:1"}},
        f"{SOURCE}.nats.url",
        "it has credentials",
    ),
    (
        {"sources[0].stdin": ..., "sources[0].nats": {**NATS, "stream": "a.b"}},
        f"{SOURCE}.nats.stream",
        "is not the name of a stream",
    ),
    (
        {"sources[0].stdin": ..., "sources[0].nats": {**NATS, "subject": ""}},
        f"{SOURCE}.nats.subject",
        "is not a subject",
    ),
    (
        {"sources[0].stdin": ..., "sources[0].nats": {**NATS, "durable": "a b"}},
        f"{SOURCE}.nats.durable",
        "is not the name of one",
    ),
    (
        {"sources[0].stdin": ..., "sources[0].nats": {**NATS, "user_env": "U"}},
        f"{SOURCE}.nats.password_env",
        "needed, as user_env is given",
    ),
    (
        {"sources[0].stdin": ..., "sources[0].nats": {**NATS, "password_env": "P"}},
        f"{SOURCE}.nats.user_env",
        "needed, as password_env is given",
    ),
    (
        {
            "sources[0].stdin": ...,
            "sources[0].nats": {**NATS, "user_env": "U", "password_env": "my secret"},
        },
        f"{SOURCE}.nats.password_env",
        "what it has is not the name of a variable",
    ),
    (
        {
            "sources[0].stdin": ...,
            "sources[0].nats": {
                **NATS,
                "user_env": "U",
                "password_env": "P",
                "credentials": "a.creds",
            },
        },
        f"{SOURCE}.nats.user_env",
        "credentials say who signs in",
    ),
    (
        {"sources[0].stdin": ..., "sources[0].nats": {**NATS, "credentials": "folder/"}},
        f"{SOURCE}.nats.credentials",
        "is not the name of a file",
    ),
    (
        with_file() | {"sources[0].file.follow": True, **PARQUET},
        f"{SOURCE}.file.follow",
        "so it never grows",
    ),
    ({"scheduler.mode": "cron"}, "scheduler.mode", "Invalid enum value"),
    (TIMER, "scheduler.timer_interval_ms", "needed, as scheduler.mode is timer"),
    ({**TIMER, "scheduler.timer_interval_ms": 0}, "scheduler.timer_interval_ms", "not above 0"),
    (
        {**TIMER, "scheduler.timer_interval_ms": 1000},
        "scheduler.timer_interval_ms",
        "1000 is no multiple of engine.alignment_ms 180000",
    ),
    (
        {**TIMER, "scheduler.timer_interval_ms": 180_000, "scheduler.timer_anchor_ms": 1},
        "scheduler.timer_anchor_ms",
        "1 is no multiple of engine.alignment_ms 180000",
    ),
    (
        {**TIMER, "scheduler.timer_interval_ms": 180_000, "scheduler.timer_anchor_ms": -1},
        "scheduler.timer_anchor_ms",
        "is not within 0",
    ),
    ({"scheduler.timer_interval_ms": 5}, "scheduler.timer_interval_ms", "goes with"),
    ({"scheduler.timer_anchor_ms": 5}, "scheduler.timer_anchor_ms", "goes with"),
    ({"scheduler.boundary_interval_ms": 0}, "scheduler.boundary_interval_ms", "not above 0"),
    ({"scheduler.boundary_interval_ms": -1}, "scheduler.boundary_interval_ms", "not above 0"),
    (
        {"scheduler.boundary_interval_ms": 100_000},
        "scheduler.boundary_interval_ms",
        "100000 is no multiple of engine.alignment_ms 180000",
    ),
    ({"scheduler.boundary_delay_ms": -1}, "scheduler.boundary_delay_ms", "is not within 0"),
    ({"scheduler.on_restart": "forget"}, "scheduler.on_restart", "Invalid enum value"),
    ({"scheduler.time": "sidereal"}, "scheduler.time", "Invalid enum value"),
    ({"engine.engine_mode": "both"}, "engine.engine_mode", "Invalid enum value"),
    ({"engine.ref": ...}, "engine", "missing required field `ref`"),
    ({"engine.ref": "engine.py"}, "engine.ref", "is neither package.module:callable nor cmd:"),
    ({"engine.ref": "cmd:  "}, "engine.ref", "is neither"),
    (
        {"engine.ref": "cmd: ./engine", "engine.isolation": "inline"},
        "engine.isolation",
        "a command has a process of its own",
    ),
    (
        {"engine.engine_mode": "hysteresis"},
        "engine.hysteresis_state_path",
        "needed in hysteresis mode; give store:",
    ),
    (
        {"engine.engine_mode": "hysteresis", "engine.hysteresis_state_path": "state.jsonl"},
        "engine.hysteresis_state_path",
        "states live in the store",
    ),
    ({"engine.alignment_ms": -1}, "engine.alignment_ms", "is not within 0"),
    ({"engine.timeout_ms": 0}, "engine.timeout_ms", "not above 0"),
    ({"engine.isolation": "thread"}, "engine.isolation", "Invalid enum value"),
    ({"engine.input": "ticks"}, "engine.input", "Invalid enum value"),
    ({"engine.determinism_check": "hope"}, "engine.determinism_check", "is not off, lint"),
    ({"engine.determinism_check": "canary:0.0"}, "engine.determinism_check", "is not off"),
    ({"engine.determinism_check": "canary:2"}, "engine.determinism_check", "is not off"),
    ({"engine.config": []}, "engine.config", "Expected `object`"),
    *(
        case
        for domain in ("ingestion_retry", "buffer_retry", "engine_retry", "publish_retry")
        for case in (
            ({f"{domain}.min_delay_ms": 0}, f"{domain}.min_delay_ms", "not above 0"),
            ({f"{domain}.max_delay_ms": 99}, f"{domain}.max_delay_ms", "is below min_delay_ms"),
            ({f"{domain}.max_attempts": 0}, f"{domain}.max_attempts", "not above 0"),
            ({f"{domain}.max_attempts": 101}, f"{domain}.max_attempts", "within 1 to 100"),
            ({f"{domain}.max_elapsed_ms": 0}, f"{domain}.max_elapsed_ms", "not above 0"),
        )
    ),
    ({"buffer_retention.max_records": 0}, "buffer_retention.max_records", "not above 0"),
    ({"buffer_retention.max_age_ms": 0}, "buffer_retention.max_age_ms", "not above 0"),
    ({"buffer.durability": "some"}, "buffer.durability", "Invalid enum value"),
    ({"buffer.group_commit_ms": -1}, "buffer.group_commit_ms", "is not within 0"),
    ({"buffer.segment_records": 0}, "buffer.segment_records", "not above 0"),
    (
        {"buffer.segment_records": 11, "buffer_retention.max_records": 10},
        "buffer.segment_records",
        "11 is above half of buffer_retention.max_records 10",
    ),
    ({"output_publish.max_pending": 0}, "output_publish.max_pending", "not above 0"),
    ({"output_publish.max_block_ms": 0}, "output_publish.max_block_ms", "not above 0"),
    ({"output_publish.transport": "kafka"}, "output_publish.transport", "Invalid enum value"),
    ({"output_publish.transport": "jsonl"}, "output_publish.path", "needed by transport jsonl"),
    ({"output_publish.path": "x"}, "output_publish.path", "transport log has none"),
    (
        {"output_publish.transport": "nats", "output_publish.stream": "S"},
        "output_publish.url",
        "needed by transport nats",
    ),
    (
        {
            "output_publish.transport": "nats",
            "output_publish.stream": "S",
            "output_publish.url": "nats://h:1",
            "output_publish.subject": "a.*",
        },
        "output_publish.subject",
        "is not a subject",
    ),
    (
        {"output_publish": {**OUT, "monitor": "http://ada:word@h:8222"}},
        "output_publish.monitor",
        "is not http://HOST:PORT",
    ),
    (
        {"output_publish": {**OUT, "user_env": "U"}},
        "output_publish.password_env",
        "needed, as user_env is given",
    ),
    ({"output_publish.user_env": "U"}, "output_publish.user_env", "transport log has none"),
    ({"concurrency.max_symbols": 0}, "concurrency.max_symbols", "not above 0"),
]


@pytest.mark.parametrize(("changes", "key", "words"), BAD, ids=lambda part: str(part)[:60])
def test_a_bad_key_is_refused_with_its_name(
    tmp_path: Path, changes: dict[str, Any], key: str, words: str
) -> None:
    """Check 6: through the reader of spec files, which adds file and line."""
    path = tmp_path / "spec.yaml"
    with path.open("w", encoding="utf-8") as file:
        YAML().dump(changed(**changes), file)
    with pytest.raises(InvalidSpec) as refused:
        read(path, {"streams": WORKLOAD})
    message = str(refused.value)
    place, _, told = message.removeprefix(f"{path}:").partition(": ")
    assert place.isdigit(), message
    named, _, reason = told.partition(": ") if key else ("", "", told)
    assert (named, words in reason) == (key, True), message


def test_an_error_names_the_line(tmp_path: Path) -> None:
    """The line of the innermost key, in a file as people write one."""
    path = tmp_path / "spec.yaml"
    path.write_text(
        "kind: streams\nname: s\nsources:\n  - source_id: a\n    symbols: [A]\n"
        "    stdin: {format: jsonl}\nscheduler:\n  mode: boundary\n  boundary_delay_ms: -5\n"
        "engine: {ref: 'a:b'}\n"
    )
    with pytest.raises(InvalidSpec, match=r"spec\.yaml:9: scheduler\.boundary_delay_ms: -5 is"):
        read(path, {"streams": WORKLOAD})


def test_a_source_declared_twice_is_refused() -> None:
    """By its id; two readers of standard input as well; a symbol of two sources is fine."""
    one, two = (
        {"source_id": name, "symbols": ["A"], "python": {"ref": "a:b"}} for name in ("one", "two")
    )
    check(sources=[one, two])
    with pytest.raises(InvalidSpec, match=r"^sources\[1\]\.source_id: one is declared twice$"):
        check(sources=[one, one])
    readers = [{**part, "python": None, "stdin": {"format": "jsonl"}} for part in (one, two)]
    with pytest.raises(InvalidSpec, match=r"^sources\[0\]\.stdin: one reads standard input"):
        check(sources=readers)


def check(**sections: Any) -> StreamSpec:
    """Check the minimal spec with other sections."""
    spec = msgspec.convert({**minimal_spec(), **sections}, StreamSpec)
    check_spec(spec)
    return spec


def test_the_minimal_spec_is_accepted_and_each_key_of_it_needed(tmp_path: Path) -> None:
    """Check 6: in both modes; without one of its keys another spec is meant, or none."""
    path = tmp_path / "spec.yaml"
    for without in ("", *MINIMAL):
        with path.open("w", encoding="utf-8") as file:
            YAML().dump(msgspec.to_builtins(minimal_spec(without)), file)
        defaults = {"", "scheduler.mode", "scheduler.boundary_interval_ms", "engine.engine_mode"}
        if without in defaults:
            body = read(path, {"streams": WORKLOAD}).body
            assert msgspec.json.decode(body, type=StreamSpec).engine.engine_mode == "truth"
        else:
            with pytest.raises(InvalidSpec):
                read(path, {"streams": WORKLOAD})
    engine = {"engine_mode": "hysteresis", "hysteresis_state_path": "store:", "ref": "a.b:c"}
    check(engine=engine)
    check(scheduler={"mode": "timer", "timer_interval_ms": 180_000})
    check(scheduler={"mode": "timer", "timer_interval_ms": 7}, engine={**engine, "alignment_ms": 0})


def test_what_can_hardly_be_meant_is_accepted_and_warned_of() -> None:
    """max_elapsed_ms below min_delay_ms: attempt 1 is made all the same (check 34)."""
    spec = check(engine_retry={"max_elapsed_ms": 50})
    (told,) = warnings_of(spec)
    assert told.startswith("engine_retry.max_elapsed_ms: 50 is below min_delay_ms 100: the first")
    engine = {**minimal_spec()["engine"], "hysteresis_state_path": "store:"}
    (told,) = warnings_of(check(engine=engine))
    assert told.startswith("engine.hysteresis_state_path: engine_mode truth keeps no state")
    assert warnings_of(check()) == ()
