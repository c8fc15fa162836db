"""The file of events as a sink, cut off, filled up, moved away and written by others."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys

import pytest

from runwright.adapters.eventfile import JsonlSink
from runwright.adapters.readback import read_jsonl, redrive_jsonl
from runwright.kernel.errors import Deferred, InvalidSpec
from runwright.streams.audit import audit, to_redrive
from tests.e2e.project import SOON_S
from tests.streams.samples import delivery, event, events
from tests.tidy.tree import REPOSITORY


@pytest.fixture
def path(tmp_path):
    """Where the events go: a folder that is not there yet."""
    return tmp_path / "out" / "events.jsonl"


def deliver(path, *papers):
    """Deliver papers by a sink that ends after them, as its process does."""
    sink = JsonlSink(path)
    try:
        sink.deliver(papers)
    finally:
        sink.close()


def held(path):
    """Return the lines of a file, the last of which has to be whole."""
    data = path.read_bytes()
    assert data.endswith(b"\n")
    return data.splitlines()


def test_events_are_appended_in_order(path):
    """One line an event, several papers at once, over several openings."""
    lines = events(6)
    sink = JsonlSink(path)
    sink.deliver([delivery(lines[:3]), delivery(lines[3:5])])
    sink.deliver([delivery(lines[5:8])])
    sink.close()
    deliver(path, delivery(lines[8:]))
    assert held(path) == lines
    assert (sink.is_batched, sink.durability) == (True, "fsync")


@pytest.mark.slow
def test_after_a_crash_at_any_byte_the_file_is_whole_and_holds_each_event_once(path):
    """A tail torn anywhere is repaired; what was written already is not written again."""
    lines = events(4)
    body = b"".join(line + b"\n" for line in lines)
    path.parent.mkdir()
    cuts = [*range(0, 420, 7), *range(len(body) - 120, len(body) + 1)]
    for cut in cuts:
        path.write_bytes(body[:cut])
        deliver(path, delivery(lines))
        assert held(path) == lines, cut


class Forgetful(JsonlSink):
    """A sink that appends to whatever is there."""

    def _read_tail(self):
        """Remember nothing."""


def test_a_sink_that_does_not_read_the_tail_back_writes_twice(path):
    """The control: the same papers after a crash stand there twice."""
    lines = events(4)
    deliver(path, delivery(lines))
    sink = Forgetful(path)
    sink.deliver([delivery(lines)])
    sink.close()
    assert held(path) == lines * 2


def test_a_paper_that_comes_again_after_others_is_not_written_again(path):
    """Delivered and not acknowledged: the same papers come again, in pages of another size."""
    lines = events(6)
    deliver(path, delivery(lines))
    again = JsonlSink(path)
    for at in range(0, len(lines), 2):
        again.deliver([delivery(lines[at : at + 2])])
    again.deliver([delivery([event("BTC", 7), event("BTC", 7)])])
    again.deliver([delivery([event("BTC", 7)])])
    assert held(path) == [*lines, event("BTC", 7)]


def test_also_where_the_file_is_longer_than_what_is_read_of_it(path):
    """An event from before the tail that was read is looked for in the whole file."""
    lines = events(40)
    deliver(path, delivery(lines))
    sink = JsonlSink(path, tail_max=500)
    sink.deliver([delivery([*lines[:4], event("ETH", 41)])])
    assert held(path) == [*lines, event("ETH", 41)]


def test_the_events_of_another_store_are_refused(path):
    """A file that holds other events of the same numbers is not mixed with these."""
    deliver(path, delivery(events(4)))
    other = event("BTC", 2, run_id="other", event_id="0" * 64)
    with pytest.raises(InvalidSpec, match="holds BTC up to event 4, and not event 2") as caught:
        deliver(path, delivery([other]))
    assert "output_publish.path" in caught.value.hint
    with pytest.raises(InvalidSpec, match="is no published event"):
        deliver(path, delivery([b"no event"]))
    assert held(path) == events(4)


def test_two_processes_do_not_write_one_file(path):
    """The second one is told to wait, and nothing of it is mixed in."""
    first, second = JsonlSink(path), JsonlSink(path)
    first.deliver([delivery(events(1))])
    with pytest.raises(Deferred, match="is written by another process"):
        second.deliver([delivery(events(2))])
    first.close()
    second.deliver([delivery(events(2))])
    assert held(path) == events(2)


def test_a_file_that_was_moved_away_is_begun_anew(path):
    """As rotation does; what is delivered goes to the new file."""
    sink = JsonlSink(path)
    sink.deliver([delivery(events(1))])
    path.rename(path.with_name("events.1.jsonl"))
    sink.deliver([delivery([event("BTC", 2)])])
    assert held(path) == [event("BTC", 2)]


FILLED = """
import sys
from pathlib import Path
from runwright.adapters.eventfile import JsonlSink
from runwright.kernel.errors import Deferred
from tests.streams.samples import delivery, events
lines = events(4)
sink = JsonlSink(Path(sys.argv[1]))
sink.deliver([delivery(lines[:5])])
try:
    sink.deliver([delivery(lines[5:])])
except Deferred as error:
    print(error)
"""


@pytest.mark.slow
def test_a_full_disk_leaves_no_torn_line(path):
    """A write that the system cuts off is taken back and deferred; later it goes on."""
    lines = events(4)
    most = sum(len(line) + 1 for line in lines[:5]) + 100

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))

    done = subprocess.run(
        [sys.executable, "-c", FILLED, str(path)],
        capture_output=True,
        text=True,
        check=True,
        timeout=SOON_S,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONDONTWRITEBYTECODE": "1"},
        preexec_fn=limit,
    )
    assert "cannot be written: File too large" in done.stdout
    assert held(path) == lines[:5]
    deliver(path, delivery(lines[5:]))
    assert held(path) == lines


def test_a_folder_that_cannot_be_written_defers(tmp_path):
    """The message names the file."""
    (tmp_path / "out").write_text("a file")
    with pytest.raises(Deferred, match=r"events\.jsonl cannot be written: "):
        deliver(tmp_path / "out" / "events.jsonl", delivery(events(1)))


def test_what_somebody_removed_is_found_and_appended_again(path):
    """Check 46, for a file: the audit names the hole, the repair fills it, a reader gets all."""
    lines = events(8)
    deliver(path, delivery(lines))
    assert audit(lines, [each.data for each in read_jsonl(path)]).is_clean
    kept = [line for line in lines if line not in (event("BTC", 3), event("ETH", 8))]
    path.write_bytes(b"".join(line + b"\n" for line in kept))
    report = audit(lines, [each.data for each in read_jsonl(path)])
    assert (report.is_clean, report.total("missing")) == (False, 2)
    assert redrive_jsonl(path, to_redrive(report, lines)) == 7
    assert audit(lines, [each.data for each in read_jsonl(path)]).is_clean


def test_a_file_is_read_back_from_any_position_and_followed(path):
    """Half a line is not read; a reader that went away goes on at its position."""
    lines = events(4)
    deliver(path, delivery(lines[:6]))
    reader = read_jsonl(path, follow=True)
    first = [next(reader) for _ in range(6)]
    assert [each.data for each in first] == lines[:6]
    with path.open("ab") as file:
        file.write(lines[6] + b"\n" + lines[7][:9])
    assert next(reader).data == lines[6]
    reader.close()
    after = [each.data for each in read_jsonl(path, after=first[2].position)]
    assert after == lines[3:7]
    with pytest.raises(InvalidSpec, match="is shorter than"):
        next(read_jsonl(path, after=10**9))
    with pytest.raises(InvalidSpec, match="No such file"):
        next(read_jsonl(path.with_name("absent")))
