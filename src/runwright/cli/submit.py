"""Handing a request to the conductor that holds the store, and waiting for its answer."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from runwright.bootstrap import project
from runwright.bootstrap.conducting import conducting
from runwright.cli.output import user
from runwright.config import Loaded
from runwright.kernel.errors import RunwrightError, StoreBusy, Usage
from runwright.kernel.ports import Messages, Request, Store

#: A waiter looks by itself after so many seconds, in case the knock or the conductor was lost.
LOOK_S: Final = 1.0


def request(kind: str, body: bytes) -> Request:
    """Return a request with a fresh id."""
    return Request(
        id=project.clock().entropy(16).hex(),
        kind=kind,
        body=body,
        created_ms=project.clock().now_ms(),
        by=user(),
    )


def act(loaded: Loaded, kind: str, body: Any, messages: Messages) -> Any:
    """Have a conductor do what a person asks: this one, or the one that holds the store.

    Raises: the error that answered it.
    """
    data = msgspec.json.encode(body)
    try:
        with conducting(loaded, messages=messages) as (conductor, _):
            conductor.recover()
            return conductor.act(kind, data, by=user())
    except StoreBusy:
        return hand_over(loaded, request(kind, data), messages)


def hand_over(loaded: Loaded, wanted: Request, messages: Messages) -> Any:
    """Submit a request and wait for its result; conduct it when the conductor vanished.

    Raises: the error that answered it, as usage.
    """
    from runwright.bootstrap import bells  # lazy: mostly nobody else conducts

    reply = bells.reply_path(loaded)
    bell = bells.bell(reply)
    store = project.open_store(loaded)
    try:
        store.submit(msgspec.structs.replace(wanted, reply=str(reply)))
        bells.ring(bells.bell_path(loaded))
        messages("request.submitted", id=wanted.id, kind=wanted.kind)
        while True:
            bell.wait(LOOK_S)
            if store.rows("request", {"id": wanted.id}, columns=("state",))[0]["state"] == "done":
                return answer(store, wanted.id)
            _conduct_if_free(loaded, store, messages)
    finally:
        store.close()
        bell.close()


def _conduct_if_free(loaded: Loaded, store: Store, messages: Messages) -> None:
    """Answer what is open when nobody else does: the conductor may have died."""
    try:
        store.lease().release()
        with conducting(loaded, messages=messages) as (conductor, ports):
            # lazy: most waiters get an answer
            from runwright.bootstrap import bells  # lazy: as above
            from runwright.kernel.drive.service import Service  # lazy: as above

            conductor.recover()
            with_bell = bells.bell(bells.bell_path(loaded))
            try:
                Service(conductor, ports, with_bell).drain()
            finally:
                with_bell.close()
    except StoreBusy:
        return


def answer(store: Store, request_id: str) -> Any:
    """Return the result of a request that is done. Raises: the error that answered it."""
    result = msgspec.json.decode(store.rows("request", {"id": request_id})[0]["result"])
    if isinstance(result, dict) and result.get("error") and "tick" not in result:
        raise _known(result["error"])(result.get("message", ""))
    return result


def _known(code: str) -> type[RunwrightError]:
    """Return the class of an error code; usage for one that is not known here."""
    found: list[type[RunwrightError]] = [Usage]
    while found:
        kind = found.pop()
        if kind.code == code:
            return kind
        found.extend(kind.__subclasses__())
    return Usage
