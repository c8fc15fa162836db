"""Standard input and output on real pipes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from runwright.adapters.lines import LINE_MAX
from runwright.adapters.standard import WAITING_MAX, StdinSource, StdoutSink
from runwright.kernel.errors import Deferred, InvalidSpec
from runwright.kernel.ports import Delivery
from tests.adapters.reading import now_ms
from tests.e2e.project import SOON_S, until
from tests.streams.samples import delivery, events

#: A child that writes numbered lines to its output until that is closed, and says how many.
WRITER = """
import os, sys
count = 0
while count < int(sys.argv[1]):
    data = b"%d %s\\n" % (count, b"x" * 90)
    while data:
        data = data[os.write(1, data):]
    count += 1
    if count % 100 == 0:
        os.write(2, b"%d\\n" % count)
"""


@pytest.fixture
def pipe():
    """A pipe of which nobody closed an end yet."""
    ends = list(os.pipe())
    yield ends
    for end in ends:
        if end >= 0:
            os.close(end)


@pytest.fixture
def made(pipe):
    """Make sources on the pipe, and close them."""
    sources = []

    def make(**keys):
        rung = threading.Event()
        source = StdinSource("stdin", now_ms=now_ms, wake=rung.set, file=pipe[0], **keys)
        sources.append(source)
        return source, rung

    yield make
    for source in sources:
        source.close()


def shut(pipe):
    """Close the end that is written to."""
    os.close(pipe[1])
    pipe[1] = -1


def collected(source, most=1000):
    """Return what a source brings until it is over."""
    items = []

    def look():
        while (arrival := source.poll(most)) is not None:
            items.extend(arrival.items)
        return source.is_over

    until(look, "the source is over")
    return items


def test_lines_of_a_pipe_arrive_whole_and_ring(pipe, made):
    """Half a line waits for its other half; the thread wakes whoever waits; the end is told."""
    source, rung = made()
    assert source.poll(9) is None
    os.write(pipe[1], b"one\ntw")
    assert rung.wait(SOON_S)
    arrival = until(lambda: source.poll(9), "a line")
    assert (arrival.items, arrival.position, arrival.source) == ([b"one"], None, "stdin")
    os.write(pipe[1], b"o\n\nthree")
    shut(pipe)
    assert collected(source) == [b"two", b"three"]
    assert source.poll(9) is None


def test_the_header_of_a_pipe_is_kept_aside(pipe, made):
    """The first line is no event, and every position holds it for whoever decodes later."""
    source, _ = made(has_header=True)
    os.write(pipe[1], b"day,close\r\n1,2\r\n")
    arrival = until(lambda: source.poll(9), "a row")
    assert (arrival.items, arrival.position) == ([b"1,2"], {"header": "day,close"})
    assert source.header == "day,close"


def test_what_comes_without_an_end_is_refused(pipe, made):
    """A line longer than any event fails the source in place of filling the memory."""
    source, _ = made()
    source._lines._line_max = 1000
    assert LINE_MAX > 1000
    os.write(pipe[1], b"fine\n" + b"x" * 2000)
    assert until(lambda: source.poll(9), "the line before").items == [b"fine"]

    def refused():
        try:
            return source.poll(9)
        except InvalidSpec as error:
            return error

    assert "a line of more than 1000 bytes" in str(until(refused, "the refusal"))


def waits(process):
    """Say whether a process waits for room in a pipe."""
    folder = Path("/proc", str(process.pid))
    name = (folder / "wchan").read_text()
    state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
    return state == "S" and (name in ("0", "") or "pipe" in name)


@pytest.mark.slow
def test_backpressure_on_a_pipe_blocks_its_writer(pipe, made):
    """Paused, the pipe fills and the writer waits in its write; resumed, no line is missing."""
    count = 20_000
    source, _ = made()
    source.poll(1)
    source.pause()
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(count)], stdout=pipe[1], stderr=subprocess.PIPE
    ) as writer:
        os.close(pipe[1])
        pipe[1] = -1
        os.set_blocking(writer.stderr.fileno(), False)
        written = []

        def is_stuck():
            said = writer.stderr.read()
            written.extend((said or b"").split())
            return said is None and written and waits(writer)

        until(is_stuck, "the writer waits")
        assert writer.poll() is None
        # The pipe holds 64 KiB, and nothing of it was taken.
        assert int(written[-1]) * 92 <= 64 * 1024
        assert source.poll(10) is None
        source.resume()
        lines = collected(source)
        writer.wait(SOON_S)
    assert [int(line.split()[0]) for line in lines] == list(range(count))


@pytest.mark.slow
def test_a_conductor_that_does_not_poll_blocks_the_writer_as_well(pipe, made):
    """The queue between thread and conductor is bounded: beyond it the pipe fills."""
    count = 40_000
    source, rung = made()
    source.poll(1)
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(count)], stdout=pipe[1], stderr=subprocess.DEVNULL
    ) as writer:
        os.close(pipe[1])
        pipe[1] = -1
        assert rung.wait(SOON_S)
        until(lambda: source._lines.size >= WAITING_MAX and waits(writer), "the writer waits")
        assert source._lines.size < WAITING_MAX + 2 * 64 * 1024
        assert len(collected(source)) == count
        writer.wait(SOON_S)


def test_a_source_that_is_closed_ends_its_thread(pipe, made):
    """Also while nothing comes, and while it is paused."""
    source, _ = made()
    source.poll(1)
    source.close()
    source.close()
    assert source.is_over
    assert not source._thread.is_alive()
    paused, _ = made()
    paused.poll(1)
    paused.pause()
    paused.close()
    assert not paused._thread.is_alive()


# -------------------------------------------------------------------------------- output


def drained(file):
    """Return what a pipe holds now."""
    os.set_blocking(file, False)
    found = b""
    try:
        while piece := os.read(file, 65536):
            found += piece
    except BlockingIOError:
        pass
    os.set_blocking(file, True)
    return found


def test_events_leave_as_whole_lines_in_order(pipe):
    """Several papers in one call, with or without a newline at the end."""
    lines = events(4)
    sink = StdoutSink(file=pipe[1])
    bare = Delivery(id="b", name="b", body=b"\n".join(lines[4:]))
    sink.deliver([delivery(lines[:4], "a"), bare])
    assert drained(pipe[0]).split(b"\n") == [*lines, b""]
    assert sink.is_batched


@pytest.mark.slow
def test_a_slow_reader_defers_and_no_line_is_torn_or_doubled(pipe):
    """What was written of a call that failed is not written again; the cut line is finished."""
    lines = events(1500)
    papers = [delivery(lines[at : at + 500], str(at)) for at in range(0, 3000, 500)]
    sink = StdoutSink(file=pipe[1], timeout_s=0.05)
    found, refusals = b"", []
    while not refusals or refusals[-1]:
        try:
            refusals.append(sink.deliver(papers))
        except Deferred as error:
            refusals.append(str(error))
        found += drained(pipe[0])
    assert len(refusals) > 4
    assert set(refusals[:-1]) == {"standard output takes nothing for 0.05 s: a slow reader"}
    assert found.split(b"\n") == [*lines, b""]


def test_a_line_that_was_cut_off_is_finished_before_another_paper(pipe):
    """Also where the next call does not begin with the paper that was cut off."""
    lines = events(1500)
    sink = StdoutSink(file=pipe[1], timeout_s=0.01)
    with pytest.raises(Deferred):
        sink.deliver([delivery(lines, "large")])
    found = drained(pipe[0])
    assert not found.endswith(b"\n")
    sink._timeout_s = SOON_S
    reader = threading.Thread(target=sink.deliver, args=([delivery(lines[:1], "small")],))
    reader.start()
    while reader.is_alive():
        found += drained(pipe[0])
    reader.join()
    found += drained(pipe[0])
    assert found.split(b"\n") == [*lines, lines[0], b""]


def test_a_reader_that_is_gone_defers(pipe):
    """A closed pipe is told as such; nothing is lost, since nothing is acknowledged."""
    sink = StdoutSink(file=pipe[1])
    os.close(pipe[0])
    pipe[0] = -1
    with pytest.raises(Deferred, match="standard output cannot be written: Broken pipe"):
        sink.deliver([delivery(events(1))])
