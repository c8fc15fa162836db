"""A file of lines as a source."""

from __future__ import annotations

import json

import pytest

from runwright.adapters import lines as lines_module
from runwright.adapters.lines import Lines
from runwright.adapters.sources import FileSource
from runwright.kernel.errors import InvalidSpec
from tests.adapters.reading import now_ms, taken

#: Events of several sizes, one larger than what is read at once.
LINES = [b'{"n":%d,"pad":"%s"}' % (n, b"x" * (n * 37 % 301)) for n in range(2000)]
HUGE = b'{"huge":"%s"}' % (b"y" * 10 * 1024 * 1024)


def written(path, lines, end=b"\n"):
    """Write lines to a file; return its path."""
    path.write_bytes(end.join(lines) + end)
    return path


# --------------------------------------------------------------------------------- lines


def test_lines_come_out_whole_wherever_the_pieces_were_cut():
    """Every way of cutting bytes into two pieces gives the same lines and counts."""
    data = b"one\n\ntwo\nthree"
    for at in range(len(data) + 1):
        lines = Lines("it")
        for piece in (data[:at], data[at:]):
            lines.feed(piece)
        assert (lines.open, lines.size) == (5, 6)
        assert lines.take(9) == [b"one", b"", b"two"]
        assert lines.finish()
        assert lines.take(9) == [b"three"]
        assert (lines.open, lines.size, lines.finish()) == (0, 0, False)


def test_a_line_without_an_end_is_refused_before_it_fills_the_memory():
    """What is no file of lines is not read into memory whole."""
    lines = Lines("data.bin", line_max=100)
    lines.feed(b"x" * 100)
    with pytest.raises(InvalidSpec, match=r"data\.bin: a line of more than 100 bytes"):
        lines.feed(b"x")


# --------------------------------------------------------------------------------- files


def test_a_file_brings_its_lines_in_order_with_positions_and_the_time(tmp_path):
    """Each line is one event, as its bytes; a line of 10 MiB is one as well."""
    path = written(tmp_path / "events.jsonl", [*LINES, HUGE])
    source = FileSource("file", path, now_ms=now_ms)
    first = source.poll(3)
    assert (first.source, first.received_ms, first.items) == ("file", now_ms(), LINES[:3])
    assert first.position["offset"] == sum(len(line) + 1 for line in LINES[:3])
    assert not source.is_over
    assert taken(source) == [*LINES[3:], HUGE]
    assert source.is_over


@pytest.mark.parametrize("most", [1, 7, 900])
def test_a_source_made_anew_at_any_position_goes_on_exactly_there(tmp_path, most):
    """After every poll the file is opened again at the position, as after a crash."""
    path = written(tmp_path / "events.jsonl", LINES[:200], b"\r\n")
    items, position = [], None
    while True:
        source = FileSource("file", path, now_ms=now_ms, position=position)
        arrival = source.poll(most)
        source.close()
        if arrival is None:
            break
        items += arrival.items
        position = json.loads(json.dumps(arrival.position))
    assert items == LINES[:200]


def test_empty_lines_and_a_byte_order_mark_are_no_events(tmp_path):
    """What a text editor leaves in a file is not decoded as an event."""
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'\xef\xbb\xbf\n{"a":1}\n\r\n\n{"a":2}\n\n')
    assert taken(FileSource("file", path, now_ms=now_ms)) == [b'{"a":1}', b'{"a":2}']


def test_a_last_line_without_a_newline_is_taken_where_nobody_writes(tmp_path):
    """The file is over, so what stands there is a line; a newline that comes later adds none."""
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"one\ntwo")
    source = FileSource("file", path, now_ms=now_ms)
    assert taken(source, most=1) == [b"one", b"two"]
    source = FileSource("file", path, now_ms=now_ms)
    position = [source.poll(1), source.poll(1)][1].position
    assert position["offset"] == 7
    assert taken(FileSource("file", path, now_ms=now_ms, position=position)) == []
    path.write_bytes(b"one\ntwo\r\nthree\n")
    assert taken(FileSource("file", path, now_ms=now_ms, position=position)) == [b"three"]
    path.write_bytes(b"one\ntwofold\n")
    with pytest.raises(InvalidSpec, match="the line before 7 grew after it was taken"):
        FileSource("file", path, now_ms=now_ms, position=position)


def test_a_followed_file_brings_a_line_once_it_is_whole(tmp_path):
    """With `follow` it is never over, and half a line waits for its other half."""
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"one\ntw")
    source = FileSource("file", path, now_ms=now_ms, follow=True)
    assert source.look_s is not None
    assert taken(source) == [b"one"]
    with path.open("ab") as file:
        file.write(b"o\nthree\n")
        file.flush()
        assert taken(source) == [b"two", b"three"]
    assert not source.is_over


def test_a_followed_file_that_is_cut_or_replaced_is_refused(tmp_path):
    """Neither is taken for a file that has not grown."""
    path = written(tmp_path / "events.jsonl", LINES[:9])
    source = FileSource("file", path, now_ms=now_ms, follow=True)
    taken(source)
    path.write_bytes(b"short\n")
    with pytest.raises(InvalidSpec, match="has 6 bytes; file goes on after"):
        source.poll(1)
    source = FileSource("file", path, now_ms=now_ms, follow=True)
    taken(source)
    path.rename(tmp_path / "rotated.jsonl")
    written(path, LINES[:1])
    with pytest.raises(InvalidSpec, match="was replaced while file followed it"):
        source.poll(1)


def test_a_position_in_another_file_is_refused(tmp_path):
    """A file that is shorter, or has other bytes before the offset, is not read from the middle."""
    path = written(tmp_path / "events.jsonl", LINES[:100])
    position = FileSource("file", path, now_ms=now_ms).poll(50).position
    written(path, [line.replace(b"x", b"z") for line in LINES[:100]])
    with pytest.raises(InvalidSpec, match="is another file than the one file was reading"):
        FileSource("file", path, now_ms=now_ms, position=position)
    path.write_bytes(b"short\n")
    with pytest.raises(InvalidSpec, match="has 6 bytes; file goes on after"):
        FileSource("file", path, now_ms=now_ms, position=position)
    with pytest.raises(InvalidSpec, match="no position in a file"):
        FileSource("file", path, now_ms=now_ms, position={"seq": 4})


def test_a_file_that_is_missing_or_none_is_refused_by_name(tmp_path):
    """The message names the file; a folder and a pipe are no files of events."""
    with pytest.raises(InvalidSpec, match=r"absent\.jsonl: No such file") as caught:
        FileSource("file", tmp_path / "absent.jsonl", now_ms=now_ms)
    assert "sources[].file.path" in caught.value.hint
    with pytest.raises(InvalidSpec, match="is not a plain file"):
        FileSource("file", tmp_path, now_ms=now_ms)


def test_a_header_is_kept_aside_and_in_every_position(tmp_path):
    """The first line of CSV is no event; after a restart it is known without reading it again."""
    rows = [b"%d,%d" % (n, n * n) for n in range(50)]
    path = written(tmp_path / "rows.csv", [b"\xef\xbb\xbfday,close", *rows], b"\r\n")
    source = FileSource("file", path, now_ms=now_ms, has_header=True)
    assert source.header == "day,close"
    arrival = source.poll(20)
    assert arrival.items == rows[:20]
    assert arrival.position["header"] == "day,close"
    again = FileSource("file", path, now_ms=now_ms, has_header=True, position=arrival.position)
    assert (again.header, taken(again)) == ("day,close", rows[20:])


def test_a_header_has_to_be_there_and_to_be_text(tmp_path):
    """An empty file and a header of other bytes are refused; a followed file may get it later."""
    path = tmp_path / "rows.csv"
    path.write_bytes(b"")
    with pytest.raises(InvalidSpec, match="its first line has to be its header"):
        FileSource("file", path, now_ms=now_ms, has_header=True)
    source = FileSource("file", path, now_ms=now_ms, has_header=True, follow=True)
    assert source.poll(9) is None
    path.write_bytes(b"day,close\n1,2\n")
    assert (taken(source), source.header) == ([b"1,2"], "day,close")
    path.write_bytes(b"d\xffy\n1\n")
    with pytest.raises(InvalidSpec, match="the header is not UTF-8"):
        FileSource("file", path, now_ms=now_ms, has_header=True)


def test_backpressure_on_a_file_leaves_its_offset_where_it_is(tmp_path):
    """Paused, nothing is read and no position moves; resumed, the very next line comes."""
    path = written(tmp_path / "events.jsonl", LINES)
    source = FileSource("file", path, now_ms=now_ms)
    before = source.poll(10).position
    read = source._read
    source.pause()
    assert [source.poll(10) for _ in range(3)] == [None] * 3
    assert (source._offset, source._read, source.is_over) == (before["offset"], read, False)
    source.resume()
    assert source.poll(1).items == [LINES[10]]


def test_reading_in_small_pieces_gives_the_same(tmp_path, monkeypatch):
    """The size of the pieces shows nowhere: every line spans several of them."""
    monkeypatch.setattr("runwright.adapters.sources.CHUNK", 5)
    assert lines_module.CHUNK > 5
    path = written(tmp_path / "events.jsonl", LINES[:40])
    source = FileSource("file", path, now_ms=now_ms)
    arrivals = [arrival for _ in range(40) if (arrival := source.poll(9))]
    assert [item for arrival in arrivals for item in arrival.items] == LINES[:40]
    assert arrivals[-1].position["offset"] == path.stat().st_size
