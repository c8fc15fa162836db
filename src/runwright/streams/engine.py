"""The seam to an engine: what it is given, what it may answer, and what becomes of an error.

An engine is a callable of somebody else. It gets the events of its cut, the snapshot selected from
them, its configuration and, in hysteresis mode, the state that its last run left; all of it are
arguments, so a run can be repeated. Nothing here reads a market value. Whatever the engine does,
the answer is a Result: output, decision and state as JSON text, or a word for what went wrong.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, Literal, NamedTuple, TypeAlias, overload

import msgspec

from runwright.kernel.canonical import digest
from runwright.kernel.errors import Deferred, InvalidSpec
from runwright.streams.answer import (
    ANSWER_MAX,
    STATE_MAX,
    NoDecision,
    OutputInvalid,
    TooLarge,
    answer_text,
    kept_size,
    plain,
)
from runwright.streams.contracts import ErrorKind
from runwright.streams.missing import MARKER, frozen, text_of, unmarked
from runwright.streams.snapshot import RegimeInputSnapshot, Selected, SnapshotInvalid, select

Mode: TypeAlias = Literal["truth", "hysteresis"]


class MonotonicityViolation(ValueError):
    """An engine was asked about a time that is not after the one its state is from."""


class EngineRequest(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One execution of an engine, as data."""

    #: "package.module:callable", or "cmd: program arguments".
    engine: str
    mode: Mode = "truth"
    symbol: str
    #: Epoch ms.
    engine_timestamp_ms: int
    #: The events of the cut, as the bytes that arrived, in order.
    events: Sequence[bytes] = ()
    #: The timestamp must be a multiple of it; 0: any may be.
    alignment_ms: int = 180_000
    #: Without a SnapshotInputs event the run fails, or the engine gets None.
    snapshot: Literal["required", "optional"] = "required"
    #: What the spec gives the engine, a JSON object as text.
    config: str = "{}"
    #: What the last run of the symbol left in hysteresis mode, JSON text; "": nothing yet.
    state: str = ""
    #: The engine timestamp of the run that left it; None: there was none.
    state_timestamp_ms: int | None = None


class Result(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What came of one execution: texts, or a word for what went wrong."""

    #: Compact JSON with sorted keys; equal for equal values.
    output: str = ""
    #: In hysteresis mode: the decision, which holds the output as `selected_output`.
    decision: str = ""
    #: In hysteresis mode: what the next run of the symbol is given.
    state: str = ""
    error_kind: ErrorKind | Literal[""] = ""
    #: The name of an exception's class, or where a second execution differed.
    error_detail: str = ""
    #: The place of the event that the snapshot was made of in the cut; None: there was none.
    snapshot_index: int | None = None
    #: SHA-256 of that event as it arrived, hex.
    snapshot_sha256: str = ""

    @property
    def is_failed(self) -> bool:
        """Whether there is no output."""
        return bool(self.error_kind)


class Events(Sequence[Mapping[str, Any]]):
    """The events of a cut in the order of the log, each decoded when it is looked at."""

    __slots__ = ("_decoded", "raw")

    def __init__(self, raw: Sequence[bytes]) -> None:
        """Decode nothing yet."""
        #: The same events as the bytes that arrived.
        self.raw: Final = raw
        self._decoded: dict[int, Mapping[str, Any]] = {}

    def __len__(self) -> int:
        return len(self.raw)

    @overload
    def __getitem__(self, index: int) -> Mapping[str, Any]: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Mapping[str, Any]]: ...

    def __getitem__(self, index: int | slice) -> Mapping[str, Any] | Sequence[Mapping[str, Any]]:
        if isinstance(index, slice):
            return [self._at(place) for place in range(*index.indices(len(self.raw)))]
        return self._at(index if index >= 0 else index + len(self.raw))

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        return map(self._at, range(len(self.raw)))

    def _at(self, index: int) -> Mapping[str, Any]:
        found = self._decoded.get(index)
        if found is None:
            if index < 0:
                raise IndexError("there are not so many events")
            found = self._decoded[index] = msgspec.json.decode(self.raw[index])
        return found


class EngineInput(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What an engine is given; what it could change in it, no other run sees."""

    symbol: str
    #: The time that the run is about, epoch ms: the only clock of an engine.
    engine_timestamp_ms: int
    events: Events
    #: None where the spec says that a snapshot is optional and the cut holds none.
    snapshot: RegimeInputSnapshot | None
    config: Mapping[str, Any]


class HysteresisAnswer(NamedTuple):
    """What a hysteresis engine answers; a mapping with these keys will do."""

    #: An object of which `selected_output` is the output of the run.
    decision: Any
    #: What the next run of the symbol is given.
    state: Any


Engine: TypeAlias = Callable[..., Any]
#: What the reference of an engine begins with that is a program.
PROGRAM: Final = "cmd:"


def execute(request: EngineRequest) -> Result:
    """Execute an engine once. Raises: deferred when the engine does."""
    at_ms = request.engine_timestamp_ms
    if request.alignment_ms and at_ms % request.alignment_ms:
        return Result(error_kind="engine_timestamp_misaligned")
    last_ms = request.state_timestamp_ms
    if request.mode == "hysteresis" and last_ms is not None and at_ms <= last_ms:
        return Result(error_kind="hysteresis_monotonicity_violation")
    try:
        selected = select(request.events, symbol=request.symbol, at_ms=at_ms)
    except SnapshotInvalid as error:
        return _failed("snapshot_build_failure", error)
    if selected is None and request.snapshot == "required":
        return Result(error_kind="missing_snapshot_inputs")
    result = _called(request, selected)
    if selected is None:
        return result
    return msgspec.structs.replace(
        result,
        snapshot_index=selected.place,
        snapshot_sha256=digest(request.events[selected.place]),
    )


def _called(request: EngineRequest, selected: Selected | None) -> Result:
    try:
        engine = load(request.engine)
        given = EngineInput(
            symbol=request.symbol,
            engine_timestamp_ms=request.engine_timestamp_ms,
            events=Events(request.events),
            snapshot=None if selected is None else selected.snapshot,
            config=_object(request.config),
        )
        is_truth = request.mode == "truth"
        answer = engine(given) if is_truth else engine(given, _state(request.state))
    except Deferred:
        raise
    except MonotonicityViolation as error:
        return _failed("hysteresis_monotonicity_violation", error)
    except OutputInvalid as error:
        return _failed("engine_output_invalid", error)
    # An engine may raise anything, exit included; it fails this run alone, on the record.
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the one that the comment explains
        return _failed("engine_failure", error)
    try:
        return _kept(answer) if is_truth else _decided(answer)
    except OutputInvalid as error:
        return _failed("engine_output_invalid", error)


def load(reference: str) -> Engine:
    """Return the engine that "package.module:callable" names; looked up once.

    Raises: invalid-spec when it names nothing that can be called, and whatever its import raises.
    """
    engine = _ENGINES.get(reference)
    if engine is not None:
        return engine
    if reference.startswith(PROGRAM):
        from runwright.streams.program import program  # lazy: few engines are programs

        return _ENGINES.setdefault(reference, program(reference.removeprefix(PROGRAM)))
    name, _, attribute = reference.partition(":")
    if not name or not attribute.isidentifier():
        raise InvalidSpec(f"engine.ref {reference!r} is not of the form package.module:callable")
    found: Engine | None = getattr(importlib.import_module(name), attribute, None)
    if not callable(found):
        raise InvalidSpec(f"engine.ref: {attribute!r} of {name} is nothing that can be called")
    _ENGINES[reference] = found
    return found


#: Reference -> engine.
_ENGINES: Final[dict[str, Engine]] = {}


@lru_cache(maxsize=64)
def _object(config: str) -> Mapping[str, Any]:
    """Return a configuration that cannot be changed, so that the runs of a process share it."""
    value: Mapping[str, Any] = frozen(unmarked(msgspec.json.decode(config)))
    return value


def _state(text: str) -> Any:
    """Return a state, this run's own copy of it; None where there is none yet."""
    if not text:
        return None
    value = msgspec.json.decode(text)
    return unmarked(value) if MARKER in text else value


def _failed(kind: ErrorKind, error: BaseException) -> Result:
    """Return a failure with nothing in it that differs from one execution to the next."""
    return Result(error_kind=kind, error_detail=type(error).__name__)


# -------------------------------------------------------------------------------- the answer


def _kept(answer: Any) -> Result:
    return Result(output=answer_text(answer, what="output"))


def _decided(answer: Any) -> Result:
    """Return what a hysteresis engine answered. Raises: OutputInvalid."""
    if isinstance(answer, Mapping):
        answer = HysteresisAnswer(answer.get("decision"), answer.get("state"))
    if not isinstance(answer, HysteresisAnswer):
        raise NoDecision("a hysteresis engine answers with a decision and a state")
    return decided(answer.decision, answer.state)


def decided(decision: Any, state: Any) -> Result:
    """Return a decision, its selected output and a state as texts. Raises: OutputInvalid."""
    whole = plain(decision, 0)
    if not isinstance(whole, dict) or whole.get("selected_output") is None:
        raise NoDecision("a decision is an object with a selected_output")
    if state is None:
        raise NoDecision("a hysteresis engine leaves a state")
    output = answer_text(whole["selected_output"], what="selected output")
    kept = text_of(plain(state, 0))
    if len(kept.encode()) > STATE_MAX:
        raise TooLarge(f"the state has more than {STATE_MAX} bytes")
    told = answer_text(whole, what="decision")
    if kept_size(output, told) > ANSWER_MAX:
        raise TooLarge(f"decision and output have more than {ANSWER_MAX} bytes")
    return Result(output=output, decision=told, state=kept)
