"""A tick while it is driven: the spec it ticks, what it has seen, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from runwright.kernel.criteria import Verdict
from runwright.kernel.drive.execution import MESSAGE_MAX, printable
from runwright.kernel.errors import InvalidSpec, RunwrightError
from runwright.kernel.ports import Row
from runwright.kernel.run import Content, InForce, Tick
from runwright.kernel.workload import Seen, Workload


class Spec(msgspec.Struct, frozen=True):
    """A spec that ticks: applied before and kept, or carried by the request itself."""

    kind: str
    name: str
    #: The bytes that are pinned.
    body: bytes
    #: The same as the workload's own type.
    value: Any
    #: It was applied, so that the store has those bytes already.
    is_kept: bool = False


class TickState(msgspec.Struct, kw_only=True):
    """A tick that is being driven."""

    spec: Spec
    tick: Tick
    id: str
    seen: Seen
    #: What was observed, as it is pinned; empty for a tick that was recalled.
    facts: bytes = b""
    #: What `observe` kept, to be written with the first round.
    kept: list[Content] = []
    #: The ids of its rounds, in order.
    rounds: list[str] = []
    #: How many outcomes there are of each status, over all rounds.
    outcomes: dict[str, int] = {}
    label: str = ""
    #: Whoever asked for it has the next one at once.
    followed: bool = False


class Conducted(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What came of a tick."""

    #: The id of the tick.
    tick: str
    #: The rounds' ids, in order.
    rounds: tuple[str, ...] = ()
    label: str = ""
    #: The last verdict's status and the workload's word for it.
    verdict: str = ""
    outcome: str = ""
    #: How many outcomes by status, over all rounds.
    outcomes: Mapping[str, int] = {}
    #: The code and the message of the error that refused it.
    error: str = ""
    message: str = ""
    #: Why it stopped early: "signal", "deadline", "verdict".
    stopped: str = ""


def conducted(state: TickState, verdict: Verdict, stopped: str) -> Conducted:
    """Return what came of a tick that ended with a verdict."""
    return Conducted(
        tick=state.id,
        rounds=tuple(state.rounds),
        label=state.label,
        verdict=verdict.status,
        outcome=verdict.label,
        outcomes=dict(state.outcomes),
        stopped=stopped,
    )


def decode_spec(workload: Workload, body: bytes) -> Any:
    """Return the typed spec that canonical JSON holds. Raises: invalid-spec."""
    try:
        return msgspec.json.decode(body, type=workload.Spec)
    except msgspec.DecodeError as error:
        message = f"{workload.kind}: {error}"
        raise InvalidSpec(message) from error


def in_force_of(row: Mapping[str, Any]) -> InForce:
    """Return what a row of the spec table says that a spec runs by."""
    return msgspec.json.decode(row["in_force"], type=InForce)


def request_row(request: str, result: Any) -> Row:
    """Return the row that closes a request, whether or not it stands in the store."""
    kept = msgspec.json.encode(result)
    return Row("request", {"id": request, "state": "done", "result": kept}, update=True)


def failed_request_row(request: str, error: RunwrightError) -> Row:
    """Return the row that closes a request with the error that answered it."""
    return request_row(
        request, {"error": error.code, "message": printable(str(error), MESSAGE_MAX)}
    )
