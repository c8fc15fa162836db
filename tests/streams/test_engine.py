"""Whatever an engine does, its run has a result: texts, or a word for what went wrong."""

from __future__ import annotations

import hashlib
import json
from typing import get_args

import pytest

from runwright.kernel.errors import Deferred, InvalidSpec
from runwright.streams.answer import OutputInvalid
from runwright.streams.engine import ErrorKind, Result, execute, load
from runwright.streams.missing import MARKER
from tests.streams.given import AT_MS, FULL, inputs, request, tick
from tests.streams.hostile import CALLS, UNDECIDED, WRONG
from tests.tidy.tree import REPOSITORY


def outcome(result: Result) -> tuple[str, str]:
    """Return what went wrong, and that nothing was answered."""
    assert (result.output, result.decision, result.state) == ("", "", "")
    assert result.is_failed
    return result.error_kind, result.error_detail


# ------------------------------------------------------------------------------------- the input


def test_an_engine_sees_its_cut_its_snapshot_and_its_configuration() -> None:
    """Events come decoded, in order, and as the bytes that arrived."""
    snapshot = inputs(**FULL)
    asked = request("seen", tick(), snapshot, tick(), config='{"a":{"b":[1]}}')
    result = execute(asked)
    assert json.loads(result.output) == {
        "symbol": "TEST",
        "at": AT_MS,
        "types": ["TradeTick", "SnapshotInputs", "TradeTick"],
        "last": "TEST",
        "two": 2,
        "raw": 3,
        "has_snapshot": True,
        "config": {"a": {"b": [1]}},
    }
    assert (result.snapshot_index, result.error_kind) == (1, "")
    assert result.snapshot_sha256 == hashlib.sha256(snapshot).hexdigest()


def test_output_is_compact_sorted_and_equal_for_equal_values() -> None:
    """The text of a run and of its repetition are the same bytes."""
    results = {execute(request("seen")).output for _ in range(3)}
    assert len(results) == 1
    text = results.pop()
    assert text == json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"))


def test_floats_have_their_shortest_form() -> None:
    """1.0 is not 1, and 0.1 is not 0.1000000000000000055."""
    text = execute(request("runwright.streams.engines.echo:full")).output
    market = json.loads(text)["snapshot"]["market"]
    assert market == FULL["market"]
    assert '"vwap":100.0' in text
    assert '"atr":2,' in text


def test_an_engine_cannot_change_what_the_next_run_is_given() -> None:
    """Neither the events, which each run decodes anew, nor the configuration, which they share."""
    asked = request("spoil", inputs(), tick(), config='{"window":[1]}')
    assert [execute(asked).output for _ in range(2)] == ['{"seen":0}'] * 2


def test_without_snapshot_inputs_the_engine_is_not_called() -> None:
    """The run fails by name, unless the spec says that a snapshot is optional (check 20)."""
    CALLS.clear()
    assert outcome(execute(request("called", tick()))) == ("missing_snapshot_inputs", "")
    other = inputs(AT_MS + 180_000)
    assert outcome(execute(request("called", other))) == ("missing_snapshot_inputs", "")
    assert CALLS == []
    asked = request("seen", tick(), snapshot="optional")
    result = execute(asked)
    assert json.loads(result.output)["has_snapshot"] is False
    assert (result.snapshot_index, result.snapshot_sha256) == (None, "")


def test_a_snapshot_that_cannot_be_built_is_named() -> None:
    """The engine is not called, and the detail is the class alone."""
    CALLS.clear()
    result = execute(request("called", inputs(market={"price": "1"})))
    assert outcome(result) == ("snapshot_build_failure", "SnapshotInvalid")
    assert CALLS == []


@pytest.mark.parametrize("offset", [1, -1, 60_000])
def test_a_misaligned_timestamp_is_refused_before_the_engine(offset: int) -> None:
    """It is recorded by name; without an alignment any timestamp will do (check 21)."""
    CALLS.clear()
    at_ms = AT_MS + offset
    asked = request("called", inputs(at_ms), engine_timestamp_ms=at_ms)
    assert outcome(execute(asked)) == ("engine_timestamp_misaligned", "")
    assert CALLS == []
    free = request("called", inputs(at_ms), engine_timestamp_ms=at_ms, alignment_ms=0)
    assert execute(free).output == '{"called":true}'
    assert CALLS == ["TEST"]


# ------------------------------------------------------------------------------------ the failure


@pytest.mark.parametrize(
    ("engine", "detail"),
    [
        ("fail", "RuntimeError"),
        ("leave", "SystemExit"),
        ("nobody", "InvalidSpec"),
        ("no_engine", "InvalidSpec"),
        ("no_such_module:run", "ModuleNotFoundError"),
        ("tests.streams.hostile:a.b", "InvalidSpec"),
        ("tests.streams.hostile:count", "TypeError"),
    ],
)
def test_an_engine_that_raises_fails_its_run(engine: str, detail: str) -> None:
    """The detail is the name of the class, because a text may differ on every call."""
    assert outcome(execute(request(engine))) == ("engine_failure", detail)


def test_an_engine_may_ask_to_be_repeated() -> None:
    """That is no failure yet."""
    with pytest.raises(Deferred, match="the model is being loaded"):
        execute(request("defer"))


def test_a_reference_that_names_no_engine_says_why() -> None:
    """With the key of the setting and the name."""
    with pytest.raises(InvalidSpec, match=r"engine.ref 'x' is not of the form package.module:call"):
        load("x")
    with pytest.raises(InvalidSpec, match=r"engine.ref: 'no_engine' of tests.streams.hostile"):
        load("tests.streams.hostile:no_engine")
    assert load("tests.streams.hostile:seen") is load("tests.streams.hostile:seen")


def test_dataclasses_structs_and_enums_are_json_by_their_fields() -> None:
    """A struct has all its fields under their own names."""
    assert json.loads(execute(request("rich")).output) == {
        "side": "up",
        "level": {"far_away": 0.5},
        "text": "grüße",
    }


@pytest.mark.parametrize(
    ("answer", "detail"),
    [
        ("nan", "NumberNotFinite"),
        ("infinity", "NumberNotFinite"),
        ("none", "NoObject"),
        ("list", "NoObject"),
        ("text", "NoObject"),
        ("missing", "NoObject"),
        ("bytes", "NotJson"),
        ("decimal", "NotJson"),
        ("set", "NotJson"),
        ("type", "NotJson"),
        ("number_key", "NotJson"),
        ("surrogate", "NotJson"),
        ("surrogate_key", "NotJson"),
        ("huge", "NumberTooLarge"),
        ("long", "TooLarge"),
        ("quotes", "TooLarge"),
    ],
)
def test_an_answer_that_cannot_be_kept_is_invalid(answer: str, detail: str) -> None:
    """It is never recorded in part, and NaN never becomes null."""
    config = json.dumps({"answer": answer})
    result = execute(request("wrong", config=config))
    assert outcome(result) == ("engine_output_invalid", detail)
    assert result.snapshot_index == 0


def test_every_wrong_answer_is_tried() -> None:
    """A list that grows is tested as a whole."""
    tried = test_an_answer_that_cannot_be_kept_is_invalid.pytestmark[0].args[1]
    assert {answer for answer, _detail in tried} == WRONG.keys()


def test_an_answer_that_nests_without_end_is_invalid() -> None:
    """It ends by a depth of its own, not by that of the interpreter."""
    assert outcome(execute(request("deep"))) == ("engine_output_invalid", "NotJson")


def test_every_fault_is_in_the_reference() -> None:
    """Each error_kind, and each class that an invalid answer is told by."""
    page = (REPOSITORY / "docs/reference/engines.md").read_text(encoding="utf-8")
    faults = {kind for kind in get_args(ErrorKind) if kind}
    classes: set[str] = set()
    waiting: list[type] = [OutputInvalid]
    load("cmd: true")
    while waiting:
        below = waiting.pop().__subclasses__()
        classes |= {each.__name__ for each in below}
        waiting += below
    assert {"NumberNotFinite", "ResultUnreadable"} <= classes
    assert [word for word in faults | classes if f"`{word}`" not in page] == []


# --------------------------------------------------------------------------------- hysteresis mode


def test_a_state_is_an_argument_so_a_repeated_run_decides_the_same() -> None:
    """The engine changes its state in place; a retry is given the old one again (check 26)."""
    first = execute(request("count", mode="hysteresis"))
    assert first.output == '{"absent":true,"n":1}'
    assert json.loads(first.decision) == {"selected_output": {"n": 1, "absent": True}}
    assert json.loads(first.state) == {"n": 1, "absent": {MARKER: True}}
    again = request(
        "count", mode="hysteresis", state=first.state, state_timestamp_ms=AT_MS - 180_000
    )
    second, retried = execute(again), execute(again)
    assert second == retried
    assert second.output == '{"absent":true,"n":2}'


@pytest.mark.parametrize("since", [0, 180_000])
def test_a_time_that_is_not_after_the_state_is_a_violation(since: int) -> None:
    """It is decided before the engine is called; the same in truth mode is not asked (check 26)."""
    CALLS.clear()
    fields = {"state": "{}", "state_timestamp_ms": AT_MS + since}
    asked = request("called", mode="hysteresis", **fields)
    assert outcome(execute(asked)) == ("hysteresis_monotonicity_violation", "")
    assert CALLS == []
    assert not execute(request("called", mode="truth", **fields)).is_failed
    later = request("called", mode="hysteresis", state="{}", state_timestamp_ms=AT_MS - 1)
    assert not execute(later).is_failed
    assert CALLS == ["TEST", "TEST"]


@pytest.mark.parametrize(
    ("answer", "detail"),
    [
        ("none", "NoDecision"),
        ("output", "NoDecision"),
        ("no_state", "NoDecision"),
        ("no_output", "NoDecision"),
        ("text", "NoDecision"),
        ("nan", "NumberNotFinite"),
        ("list", "NoObject"),
        ("twice", "TooLarge"),
        ("large_state", "TooLarge"),
    ],
)
def test_a_decision_without_its_parts_is_invalid(answer: str, detail: str) -> None:
    """Neither a decision nor a state of it is kept (check 27)."""
    config = json.dumps({"answer": answer})
    asked = request("undecided", mode="hysteresis", config=config)
    assert outcome(execute(asked)) == ("engine_output_invalid", detail)


def test_every_answer_without_a_decision_is_tried() -> None:
    """A list that grows is tested as a whole."""
    tried = test_a_decision_without_its_parts_is_invalid.pytestmark[0].args[1]
    assert {answer for answer, _detail in tried} == UNDECIDED.keys()
