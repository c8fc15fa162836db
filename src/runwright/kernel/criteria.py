"""Criteria fixed beforehand, readings held against them, and the verdict.

Numbers are compared exactly, as fractions; `>` and `>=` are part of the text. No support never
passes: a reading that is missing leaves the criterion missing, and a verdict without a passed
success criterion is not PASS.
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias

import msgspec

VerdictStatus: TypeAlias = Literal["PASS", "FAIL", "INCONCLUSIVE", "INVALID"]
Operator: TypeAlias = Literal["<", "<=", "==", "!=", ">=", ">"]

_COMPARE: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">=": operator.ge,
    ">": operator.gt,
}


class Criterion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One threshold on one signal."""

    signal: str
    op: Operator
    #: An integer, or a decimal as text: "0.7".
    threshold: int | str
    role: Literal["success", "failure", "guard"] = "success"
    unit: str = ""
    #: Fewer observations than this leave it missing.
    min_n: int = 0


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """The value of a signal, and on how many observations it stands."""

    signal: str
    #: None: there is no value.
    value: int | str | None
    n: int = 1


class Finding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of one criterion."""

    criterion: Criterion
    result: Literal["passed", "failed", "missing"]
    value: int | str | None = None


class Verdict(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The judgement on a round, with its counts and reasons."""

    status: VerdictStatus
    #: The workload's own word: COMPLETED_WITH_FAILURES, GO, …
    label: str = ""
    counts: Mapping[str, int] = {}
    reasons: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    #: With `judge_every`: no remaining outcome can change the status, so cancel the rest.
    stop: bool = False
    #: Whatever else the workload's report needs: a small canonical value.
    value: Mapping[str, Any] = {}


def find(criterion: Criterion, reading: Reading | None) -> Finding:
    """Hold one reading against one criterion; a missing or too small reading is `missing`."""
    if reading is None or reading.value is None or reading.n < criterion.min_n:
        return Finding(criterion=criterion, result="missing")
    from fractions import Fraction  # lazy: 1 ms that nothing needs before the first judgement

    met = _COMPARE[criterion.op](Fraction(reading.value), Fraction(criterion.threshold))
    return Finding(
        criterion=criterion,
        result="passed" if met else "failed",
        value=reading.value,
    )


def conclude(findings: Sequence[Finding]) -> VerdictStatus:
    """Return the verdict of findings.

    INVALID when a guard did not hold or is missing; FAIL when a failure criterion was met; PASS
    when there is at least one success criterion and all of them were met; else INCONCLUSIVE.
    """
    by_role = {
        role: [finding.result for finding in findings if finding.criterion.role == role]
        for role in ("success", "failure", "guard")
    }
    if any(result != "passed" for result in by_role["guard"]):
        return "INVALID"
    if "passed" in by_role["failure"]:
        return "FAIL"
    success = by_role["success"]
    if "missing" in success or not success or "missing" in by_role["failure"]:
        return "INCONCLUSIVE"
    return "FAIL" if "failed" in success else "PASS"
