"""Messages for operators."""

from __future__ import annotations

import io
import json

from runwright.kernel.drive.telemetry import Lines, silent
from tests.kernel.drive.rig import NOW_MS, ToyClock


def lines(**fields) -> tuple[Lines, io.StringIO]:
    stream = io.StringIO()
    return Lines(stream, ToyClock(), **fields), stream


def test_a_message_for_people_is_its_text_and_its_fields():
    """Without a text the event stands in its place; a level above info comes first."""
    say, stream = lines()
    say("run.started", key="a", attempt=1)
    say("halt.raised", "disk full", level="error", code="halt")
    assert stream.getvalue() == "run.started key=a attempt=1\nerror: disk full code=halt\n"


def test_a_message_for_machines_is_a_line_of_json():
    """It has the time, the level, the event, the text and the fields."""
    say, stream = lines(form="json")
    say("run.started", "go", key="ä\n", level="warning")
    assert json.loads(stream.getvalue()) == {
        "ts": NOW_MS,
        "level": "warning",
        "event": "run.started",
        "text": "go",
        "key": "ä\n",
    }
    assert stream.getvalue().count("\n") == 1


def test_messages_below_the_level_are_not_written():
    """A writer of warnings writes warnings and errors."""
    say, stream = lines(level="warning")
    say("a", level="debug")
    say("b")
    say("c", level="warning")
    say("d", level="error")
    assert stream.getvalue() == "warning: c\nerror: d\n"


def test_a_silent_conductor_says_nothing():
    """The default of a conductor in a library writes no message."""
    assert silent("event", "text", level="error", key="a") is None
