"""Functions that a plan names, and the outcomes of calling them."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from types import FunctionType
from typing import Any, Final

import msgspec

from runwright.kernel.canonical import check, fit
from runwright.kernel.errors import Deferred, InternalError, NotCanonical
from runwright.kernel.ports import Clock, Work
from runwright.kernel.run import Call, Executed, Outcome, OutcomeStatus, Resources

#: Characters of an exception's text that an outcome holds.
MESSAGE_LENGTH_MAX: Final = 500


class Instants(msgspec.Struct, frozen=True):
    """The wall clock of a worker: the conductor's, carried on by a clock that never goes back."""

    now_ms: int
    at_s: float

    @classmethod
    def of(cls, clock: Clock) -> Instants:
        """Read the conductor's clock."""
        return cls(clock.now_ms(), time.monotonic())

    def read_ms(self) -> int:
        """Return the wall clock, epoch ms."""
        return self.now_ms + round((time.monotonic() - self.at_s) * 1000)


def attempted(work: Work, execute: Callable[[Work], Executed]) -> Executed:
    """Execute one attempt; whatever it raises becomes its outcome."""
    try:
        return execute(work)
    except Deferred as error:
        executed = failed(work, "deferred", text_of(error))
        return msgspec.structs.replace(executed, deferred=True)
    # Code of a workload may raise anything, exit included; it fails that run alone, on the record.
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the one that the comment explains
        return failed(work, "raised", text_of(error))


def call(
    work: Work, instants: Instants, find: Callable[[str], Callable[..., Any] | str] | None = None
) -> Executed:
    """Call the function that a plan names. Raises: deferred, and whatever the function raises."""
    plan = work.plan
    if plan.refused:
        return failed(work, "refused", plan.refused)
    if not isinstance(plan.work, Call):
        return failed(work, "refused", "a command runs only in a place for commands")
    function = (find or resolve)(plan.work.name)
    if isinstance(function, str):
        return failed(work, "unknown", function)
    began_ms, began_s, cpu_s = instants.read_ms(), time.monotonic(), time.thread_time()
    answer = function(plan, work.inputs, work.memory)
    if not isinstance(answer, Outcome):
        kind = type(answer).__name__
        return failed(work, "returned", f"{plan.work.name} returned {kind} instead of an Outcome")
    if not fit((answer.value, answer.memory)):
        return failed(work, "returned", f"{plan.work.name} returned {_misfit(answer)}")
    duration_ms = round((time.monotonic() - began_s) * 1000)
    # Nothing uses more of one processor than the time that passes; asking costs a microsecond.
    cpu_ms = round((time.thread_time() - cpu_s) * 1000) if duration_ms else 0
    used = Resources(duration_ms=duration_ms, cpu_ms=cpu_ms)
    outcome = msgspec.structs.replace(
        answer,
        key=plan.key,
        attempts=work.attempt,
        started_ms=began_ms,
        finished_ms=max(began_ms, instants.read_ms()),
        used=used,
    )
    return Executed(outcome=outcome, fits=True)


def _misfit(answer: Outcome) -> str:
    """Return what has no canonical form in an answer, and where."""
    try:
        check(answer.value)
        check(answer.memory)
    except NotCanonical as error:
        return str(error)
    raise InternalError("what does not fit has a place")


def resolve(name: str) -> Callable[..., Any] | str:
    """Return the function that "module:name" names, or a sentence that says why there is none."""
    module_name, _, attribute = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        return f"no module {module_name}: {text_of(error)}"
    except ValueError:
        return f"{name!r} is not of the form module:function"
    function = getattr(module, attribute, None)
    if isinstance(function, FunctionType) and function.__qualname__ == function.__name__:
        return function
    return f"{attribute!r} is no module-level function of {module_name}"


def failed(work: Work, reason: str, message: str) -> Executed:
    """Return the outcome of an attempt that failed before, or without, an answer."""
    return _without_answer(work, "failed", reason, message)


def stopped(work: Work) -> Executed:
    """Return the outcome of an attempt that was taken back, or ended from outside."""
    return _without_answer(work, "interrupted", "stopped", "it was stopped before it had ended")


def _without_answer(work: Work, status: OutcomeStatus, reason: str, message: str) -> Executed:
    outcome = Outcome(
        key=work.plan.key,
        status=status,
        reason=reason,
        message=message,
        attempts=work.attempt,
    )
    return Executed(outcome=outcome)


def text_of(error: BaseException) -> str:
    """Return an exception as the sentence of an outcome."""
    return f"{type(error).__name__}: {error}"[:MESSAGE_LENGTH_MAX]
