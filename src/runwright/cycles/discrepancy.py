"""How far two states are apart: sum(w d) / sum(w) over weighted fields, as exact fractions.

Pure arithmetic: weights and tolerances come from rows of `reconciliation_field_weights`. Anything
that cannot be weighed is a problem that is told, never a match.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any, Final, Literal, NamedTuple, TypeAlias

Classification: TypeAlias = Literal["NORMAL", "WARNING", "CATASTROPHIC"]

#: From the first on a score is a warning, above the second it is a catastrophe.
WARNING_FROM: Final = "0.05"
CATASTROPHIC_ABOVE: Final = "0.10"
#: The least and the most that a field weighs.
WEIGHT_MIN: Final = "0.1"
WEIGHT_MAX: Final = "1.0"
#: The most fields that one component is compared by.
FIELDS_MAX: Final = 32
TOLERANCES: Final = ("EXACT", "TIMESTAMP", "FLOAT", "STRING")
#: What a tolerance without a value stands for: seconds, and a share of what is recorded.
DEFAULT_WITHIN: Final = {"TIMESTAMP": "5", "FLOAT": "0.001"}
#: The columns of a row that say how a field is weighed.
_COLUMNS: Final = ("field_name", "criticality_weight", "tolerance_type", "tolerance_value")
_FIELD: Final = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}"
_NUMBER: Final = r"[+-]?\d{1,40}(\.\d{1,40})?([eE][+-]?\d{1,3})?"


class Unweighable(ValueError):
    """A component cannot be compared; the text says which row is wrong."""


class Weight(NamedTuple):
    """How much one field counts and how it is compared."""

    field: str
    weight: Decimal
    tolerance: str
    #: A decimal; "" where the tolerance takes none.
    within: str


class Compared(NamedTuple):
    """One field of both states."""

    rule: Weight
    matches: bool


def weights(component: str, rows: Sequence[Mapping[str, Any]]) -> list[Weight]:
    """Return what the rows of a component say, by field. Raises: Unweighable."""
    if not rows:
        msg = f"reconciliation_field_weights has no row for {component}"
        raise Unweighable(msg)
    if len(rows) > FIELDS_MAX:
        msg = f"{component} has {len(rows)} field weights; at most {FIELDS_MAX} are compared"
        raise Unweighable(msg)
    found = [_weight(component, *(row[name] for name in _COLUMNS)) for row in rows]
    if len({rule.field for rule in found}) != len(found):
        msg = f"{component} has two weights for one field"
        raise Unweighable(msg)
    return sorted(found)


def compare(
    rules: Sequence[Weight], reported: Mapping[str, Any], recorded: Mapping[str, Any]
) -> list[Compared]:
    """Hold two states against each other; a field that one of them lacks does not match."""
    return [Compared(rule, _is_match(rule, reported, recorded)) for rule in rules]


def score(compared: Sequence[Compared]) -> Any:
    """Return sum(w d) / sum(w) as a Fraction, d being 1 for a field that does not match."""
    from fractions import Fraction  # lazy: 1 ms that only a reconciliation needs

    if not any(item.rule.weight for item in compared):
        msg = "nothing was compared"
        raise Unweighable(msg)
    apart = [Fraction(item.rule.weight) for item in compared if not item.matches]
    if not apart:
        return Fraction(0)
    return sum(apart) / sum(Fraction(item.rule.weight) for item in compared)


def classify(value: Any) -> Classification:
    """Return NORMAL below 0.05, WARNING from there to 0.10, CATASTROPHIC above."""
    from fractions import Fraction  # lazy: as above

    if value < Fraction(WARNING_FROM):
        return "NORMAL"
    return "WARNING" if value <= Fraction(CATASTROPHIC_ABOVE) else "CATASTROPHIC"


def score_text(value: Any) -> str:
    """Return a score as a decimal with six places, halves to even."""
    millionths = round(value * 1_000_000)
    return f"{millionths // 1_000_000}.{millionths % 1_000_000:06d}"


# ------------------------------------------------------------------------------------- the rows


@lru_cache(maxsize=256, typed=True)
def _weight(component: str, name: Any, criticality: Any, kind: Any, given: Any) -> Weight:
    """Return what the columns of a row say. Raises: Unweighable."""
    field = str(name)
    where = f"weight of {component}.{field[:64]}"
    if not re.fullmatch(_FIELD, field):
        msg = f"{where}: the field name is not of letters, digits, '_', '.', '-'"
        raise Unweighable(msg)
    weight = number(criticality)
    if weight is None or not Decimal(WEIGHT_MIN) <= weight <= Decimal(WEIGHT_MAX):
        msg = f"{where}: {criticality!r} is not within {WEIGHT_MIN} to {WEIGHT_MAX}"
        raise Unweighable(msg)
    tolerance = str(kind)
    if tolerance not in TOLERANCES:
        msg = f"{where}: {tolerance[:40]!r} is none of {', '.join(TOLERANCES)}"
        raise Unweighable(msg)
    if tolerance not in DEFAULT_WITHIN:
        return Weight(field, weight, tolerance, "")
    within = DEFAULT_WITHIN[tolerance] if given in (None, "") else str(given)
    bound = number(within)
    if bound is None or bound < 0:
        msg = f"{where}: the tolerance {str(given)[:40]!r} is not a number from 0 on"
        raise Unweighable(msg)
    return Weight(field, weight, tolerance, within)


def number(value: Any) -> Decimal | None:
    """Return a number, or the one that a text holds, exactly; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    text = repr(value) if isinstance(value, float) else str(value)
    if not re.fullmatch(_NUMBER, text.strip()):
        return None
    try:
        return Decimal(text.strip())
    except InvalidOperation:
        return None


# ----------------------------------------------------------------------------------- the fields


def _is_match(rule: Weight, reported: Mapping[str, Any], recorded: Mapping[str, Any]) -> bool:
    if rule.field not in reported or rule.field not in recorded:
        return False
    ours, theirs = recorded[rule.field], reported[rule.field]
    if rule.tolerance == "TIMESTAMP":
        return _is_same_time(ours, theirs, Decimal(rule.within))
    if rule.tolerance == "FLOAT":
        return _is_close(ours, theirs, Decimal(rule.within))
    if rule.tolerance == "STRING":
        return isinstance(ours, str) and isinstance(theirs, str) and _loose(ours) == _loose(theirs)
    return _is_equal(ours, theirs)


def _is_equal(ours: Any, theirs: Any) -> bool:
    """Compare by value: 3 is 3.0 and "3.0" where a float was recorded as text; true is not 1."""
    if isinstance(ours, bool) or isinstance(theirs, bool):
        return ours is theirs
    if type(ours) is int and type(theirs) is int:
        return ours == theirs
    if isinstance(ours, int | float) or isinstance(theirs, int | float):
        left, right = number(ours), number(theirs)
        return left is not None and left == right
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return ours.keys() == theirs.keys() and all(_is_equal(ours[k], theirs[k]) for k in ours)
    if isinstance(ours, list) and isinstance(theirs, list):
        return len(ours) == len(theirs) and all(map(_is_equal, ours, theirs))
    return bool(ours == theirs)


def _is_close(ours: Any, theirs: Any, within: Decimal) -> bool:
    """Compare numbers: they differ by no more than that share of what is recorded."""
    from fractions import Fraction  # lazy: as above

    left, right = number(ours), number(theirs)
    if left is None or right is None:
        return False
    if left == right:
        return True
    return abs(Fraction(right) - Fraction(left)) <= Fraction(within) * abs(Fraction(left))


def _is_same_time(ours: Any, theirs: Any, within: Decimal) -> bool:
    from fractions import Fraction  # lazy: as above

    left, right = _seconds(ours), _seconds(theirs)
    if left is None or right is None:
        return False
    return abs(Fraction(right) - Fraction(left)) <= Fraction(within)


def _seconds(value: Any) -> Decimal | None:
    """Return an instant in seconds: of ISO 8601, in UTC without an offset, or a number of them."""
    if not isinstance(value, str) or re.fullmatch(_NUMBER, value.strip()):
        return number(value)
    from datetime import UTC, datetime  # lazy: 2 ms that only a timestamp needs

    try:
        moment = datetime.fromisoformat(value.strip())
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    micros = (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
    return Decimal(micros) / 1_000_000


def _loose(text: str) -> str:
    return " ".join(text.split()).casefold()
