"""Tells a cycle as it happens, line by line, the way its operators know it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from runwright.cli.output import clean
from runwright.cli.terminal import echo
from runwright.kernel.ports import Clock, Messages
from runwright.kernel.run import instant_text


class Narrator:
    """The Messages port for a terminal: cycles as lines, everything else as it comes."""

    def __init__(
        self, clock: Clock, spec: Callable[[str, str], Any], rest: Messages, *, store: str = ""
    ) -> None:
        """Narrate with the clock; `spec` finds a spec by kind and name in `store`."""
        self._clock = clock
        self._store = store
        self._spec_of = spec
        self._rest = rest
        self._name = "runwright"

    def __call__(
        self, event: str, text: str = "", /, *, level: str = "info", **fields: Any
    ) -> None:
        """Write the lines of one event."""
        teller = getattr(self, f"_{event.replace('.', '_')}", None)
        if teller is None:
            self._rest(event, text, level=level, **fields)
        else:
            teller(fields)

    def _round_planned(self, fields: dict[str, Any]) -> None:
        spec = self._spec_of(fields["kind"], fields["name"])
        if spec is None:
            # Carried by the request itself: one command, no registry.
            self._name = fields["name"]
            self._line(f"Run {fields['label']} logged: action_id={fields['seq']}")
            return
        self._name = getattr(spec, "orchestrator", fields["name"])
        title = getattr(spec, "title", "") or self._name.upper().replace("_", " ")
        agent = getattr(spec, "agent", "")
        self._line(f"{title} v{getattr(spec, 'orchestrator_version', '')}")
        self._line(f"Cycle ID: {fields['label']}")
        self._line(f"Hash Chain: HC-{agent}-ORCHESTRATOR-{fields['label']}")
        self._line(f"Connected to {self._store}")
        self._line("Reading tasks from registry...")
        self._line(f"Found {fields['runs']} enabled functions")
        self._line(f"Cycle start logged: action_id={fields['seq']}")

    def _run_started(self, fields: dict[str, Any]) -> None:
        attempt = f", attempt {fields['attempt']}" if fields["attempt"] > 1 else ""
        self._line(
            f"[{fields['index']}/{fields['of']}] Executing: {fields['key']} "
            f"(Agent: {fields['agent']}{attempt})"
        )

    def _run_finished(self, fields: dict[str, Any]) -> None:
        words = {"done": "SUCCESS", "failed": "FAILED"}
        word = words.get(fields["status"], fields["status"].upper())
        if fields["status"] == "done":
            self._line(f"{word}: {fields['key']} ({fields['duration_ms'] / 1000:.2f} s)")
        else:
            why = fields["message"] or fields["reason"]
            self._line(f"{word}: {fields['key']}: {why}", level="ERROR")

    def _round_judged(self, fields: dict[str, Any]) -> None:
        counts = fields["counts"]
        self._line(
            f"Cycle {fields['outcome']}: {counts.get('tasks_executed', 0)} executed, "
            f"{counts.get('success_count', 0)} succeeded, "
            f"{counts.get('failure_count', 0)} failed; action_id={fields['seq']}"
        )

    def _line(self, text: str, level: str = "INFO") -> None:
        stamp = instant_text(self._clock.now_ms(), "%Y-%m-%d %H:%M:%S")
        # A terminal that is gone ends no cycle.
        with contextlib.suppress(OSError):
            echo(f"{stamp} - {self._name} - {level} - {clean(text)}", err=True)
