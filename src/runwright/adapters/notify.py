"""Tells the service manager that started a conductor how it stands: systemd's sd_notify.

Each message is one datagram to the socket that NOTIFY_SOCKET names; nobody there, or a manager that
went away, is nothing. The keep-alive comes from the loop itself and from nowhere else: a loop that
hangs stops sending, and WatchdogSec of the unit ends it.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping
from typing import Any, Final

from runwright.kernel.drive.lifecycle import Stop
from runwright.kernel.ports import Clock, Messages

#: Seconds that a stop may take after the drain: ending functions, sealing, delivering.
AFTER_DRAIN_S: Final = 30.0
#: The most characters of a status.
STATUS_MAX: Final = 200


class Notifier:
    """Speaks to the service manager of one process; silent when none started it."""

    def __init__(
        self, environment: Mapping[str, str], *, clock: Clock, stop: Stop, drain_s: float
    ) -> None:
        """Read NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID of an environment."""
        self._clock, self._stop, self._drain_s = clock, stop, drain_s
        self._address = _address(environment.get("NOTIFY_SOCKET", ""))
        self._every_s = _keep_alive_s(environment) if self._address else None
        self._next_s = clock.monotonic_s()
        self._is_stopping = False
        self._socket: socket.socket | None = None

    def pulse(self) -> float | None:
        """Say that the loop goes round when that is due, and that it stops once it is asked to.

        Return seconds until this is due again; None when nobody waits for it.
        """
        if self._stop and not self._is_stopping:
            self._is_stopping = True
            extend_us = int((self._drain_s + AFTER_DRAIN_S) * 1_000_000)
            self._send("STOPPING=1", f"EXTEND_TIMEOUT_USEC={extend_us}", _status("stopping"))
        if self._every_s is None:
            return None
        now_s = self._clock.monotonic_s()
        if now_s >= self._next_s:
            self._send("WATCHDOG=1")
            self._next_s = now_s + self._every_s
        return self._next_s - now_s

    def telling(self, say: Messages) -> Messages:
        """Return messages that the service manager hears the gist of, beside whoever reads them.

        The start of the conductor is when it is ready: it holds the lease, and has recovered.
        """
        if not self._address:
            return say

        def message(event: str, text: str = "", /, *, level: str = "info", **fields: Any) -> None:
            say(event, text, level=level, **fields)
            lines = ["READY=1"] if event == "conductor.started" else []
            if gist := _gist(event, text, fields):
                lines.append(_status(gist))
            if lines:
                self._send(*lines)

        return message

    def close(self) -> None:
        """Let go of the socket."""
        if self._socket is not None:
            self._socket.close()

    def _send(self, *lines: str) -> None:
        if not self._address:
            return
        with contextlib.suppress(OSError):
            if self._socket is None:
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
                # A manager that does not read must not hold up a conductor.
                self._socket.settimeout(0)
            self._socket.sendto("\n".join(lines).encode(errors="replace"), self._address)


def _address(name: str) -> str:
    """Return the socket's address; empty for none, and for a kind that is not known here."""
    if name.startswith("@"):
        return "\0" + name[1:]
    return name if name.startswith("/") else ""


def _keep_alive_s(environment: Mapping[str, str]) -> float | None:
    """Return seconds between two signs of life, half of what is allowed; None when none is asked.

    WATCHDOG_PID says of whom they are asked: a child inherits the variables and not the duty.
    """
    allowed_us = environment.get("WATCHDOG_USEC", "")
    pid = environment.get("WATCHDOG_PID", "")
    if not allowed_us.isdecimal() or not int(allowed_us) or pid not in ("", str(os.getpid())):
        return None
    return int(allowed_us) / 2_000_000


def _gist(event: str, text: str, fields: Mapping[str, Any]) -> str:
    """Return what a message says, in a line for `systemctl status`; empty for most messages."""
    if event == "conductor.started":
        return f"keeps the schedule of {fields['name']}"
    if event == "run.started":
        return f"[{fields['index']}/{fields['of']}] {fields['key']}"
    if event == "round.judged":
        return f"{fields['label']} {fields['outcome']}"
    if event == "halt.raised":
        return f"halted: {fields['code']}: {text}"
    return ""


def _status(text: str) -> str:
    return f"STATUS={' '.join(text.split())[:STATUS_MAX]}"
