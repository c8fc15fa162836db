"""A JetStream stream as a sink, on a real server that is killed, filled, purged and shared."""

from __future__ import annotations

import os
import signal

import pytest
from nats.js.api import StreamConfig

from runwright.adapters.eventfile import JsonlSink
from runwright.adapters.jetstream import Server, escaped, subject_of, symbol_of
from runwright.adapters.publication import JetStreamSink, Published
from runwright.adapters.readback import read_jetstream, read_jsonl, redrive_jetstream
from runwright.kernel.errors import Deferred, InvalidSpec
from runwright.streams.audit import audit, to_redrive
from runwright.streams.consumer import Consumer
from tests.streams.samples import delivery, event, events, of


class Told:
    """The Messages port, kept."""

    def __init__(self):
        self.events = []

    def __call__(self, name, text="", /, **fields):
        self.events.append((name, fields))


class Wire:
    """A stream on the server, its sinks, and what it holds."""

    def __init__(self, nats):
        self.nats, self.told, self.sinks = nats, Told(), []
        self.name = nats.new_name()
        self.prefix = f"runwright.streams.{self.name}"

    def sink(self, kind=JetStreamSink, **keys):
        published = Published(
            **{"server": self.nats.server, "stream": self.name, "prefix": self.prefix, **keys}
        )
        self.sinks.append(kind(published, self.told))
        return self.sinks[-1]

    def held(self):
        return [data for _, data in self.nats.held(self.name)]

    def read(self, **keys):
        return [each.data for each in read_jetstream(self.nats.server, self.name, **keys)]

    def purge(self, **keys):
        self.nats.ask(lambda client: client.jsm().purge_stream(self.name, **keys))


@pytest.fixture
def wire(nats):
    """A stream that nobody made yet."""
    made = Wire(nats)
    yield made
    for sink in made.sinks:
        sink.close()


def test_events_arrive_in_order_on_the_subject_of_their_symbol(wire):
    """The stream is made as it has to be; each event is one message under its id."""
    lines = events(30)
    sink = wire.sink()
    sink.deliver([delivery(lines[:25]), delivery(lines[25:])])
    assert wire.held() == lines
    subjects = {subject for subject, _ in wire.nats.held(wire.name)}
    assert subjects == {f"{wire.prefix}.BTC", f"{wire.prefix}.ETH"}
    first = wire.nats.ask(lambda client: client.jsm().get_msg(wire.name, 1))
    assert len(first.headers["Nats-Msg-Id"]) == 64
    assert sink.is_batched


def test_a_missing_stream_is_made_with_one_limit_and_refuses_what_is_new(wire):
    """One limit, `max_msgs`; a full stream says so in place of removing the oldest."""
    wire.sink(messages_max=123).deliver([delivery(events(1))])
    config = wire.nats.info(wire.name).config
    assert (config.max_msgs, config.max_bytes, config.max_age) == (123, -1, 0)
    assert (config.discard, config.retention, config.storage) == ("new", "limits", "file")
    assert config.subjects == [f"{wire.prefix}.>"]


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"max_bytes": 10_000_000, "max_msgs": 1000}, "max_bytes: 10000000"),
        ({"discard": "old"}, "discard: old removes the oldest"),
        ({"max_age": 60}, "max_age: 60 s"),
        ({"storage": "memory"}, "storage: memory forgets"),
        ({"retention": "workqueue"}, "retention: workqueue removes"),
        ({"max_msgs_per_subject": 5}, "max_msgs_per_subject: 5"),
        ({"no_ack": True}, "no_ack"),
        ({"subjects": ["elsewhere.>"]}, "lack runwright.streams."),
        ({"persist_mode": "async"}, "persist_mode: async acknowledges"),
    ],
)
def test_a_stream_that_would_lose_events_is_refused_by_the_key(wire, keys, text):
    """Every configuration that loses, refuses or moves events is named before any is published."""
    right = {"discard": "new", "storage": "file"}
    wire.nats.make(wire.name, **{"subjects": [f"{wire.prefix}.>"], **right, **keys})
    with pytest.raises(InvalidSpec, match="would lose events") as caught:
        wire.sink().deliver([delivery(events(1))])
    assert text in str(caught.value)
    assert wire.nats.held(wire.name) == []


def test_a_stream_that_is_as_it_has_to_be_is_taken(wire):
    """The control: the same stream without the fault takes events, and is not changed."""
    wire.nats.make(wire.name, subjects=[f"{wire.prefix}.>"], discard="new", max_msgs=77)
    wire.sink().deliver([delivery(events(1))])
    assert wire.held() == events(1)
    assert wire.nats.info(wire.name).config.max_msgs == 77


@pytest.mark.parametrize(
    "symbol", ["BTC.USD", "BTC/USD", "A B", "*", ">", "$X", "%41", "Ω", "a~b_c-d", "BTC\r\nPUB"]
)
def test_every_symbol_has_a_subject_of_its_own(wire, symbol):
    """What a subject gives a meaning to is escaped, and comes back."""
    token = escaped(symbol)
    assert not set(token) & set(". *>$\r\n\t")
    assert symbol_of(f"{wire.prefix}.{token}") == symbol
    wire.sink().deliver([delivery([event(symbol, 1)])])
    assert wire.nats.held(wire.name) == [(f"{wire.prefix}.{token}", event(symbol, 1))]


def test_papers_that_come_again_are_not_published_again(wire):
    """Check 30: acknowledged to nobody, they come again; the subject says how far it came."""
    lines = events(20)
    wire.sink().deliver([delivery(lines)])
    again = wire.sink()
    again.deliver([delivery(lines), delivery([event("BTC", 21)])])
    assert wire.held() == [*lines, event("BTC", 21)]
    again.deliver([delivery(lines[:6])])
    assert wire.held() == [*lines, event("BTC", 21)], "older ones are known by their id"


def test_what_is_known_by_its_number_needs_no_memory_of_the_server(wire):
    """The server remembers ids for two minutes only; without that memory it is the same."""
    config = StreamConfig(
        name=wire.name, subjects=[f"{wire.prefix}.>"], discard="new", duplicate_window=0.1
    )
    wire.nats.ask(lambda client: client.jsm().add_stream(config))
    lines = events(20)
    sink = wire.sink()
    sink.deliver([delivery(lines)])
    wire.nats.kill()
    wire.nats.start()
    wire.sink().deliver([delivery(lines), delivery([event("ETH", 21)])])
    assert wire.held() == [*lines, event("ETH", 21)]


def test_a_stream_of_another_store_is_refused(wire):
    """Another event of the same number: two outboxes are not mixed on one subject."""
    wire.sink().deliver([delivery(events(4))])
    other = event("BTC", 4, run_id="another", event_id="0" * 64)
    with pytest.raises(InvalidSpec, match="holds another event 4 of it"):
        wire.sink().deliver([delivery([other])])
    assert wire.held() == events(4)


def test_another_writer_is_fenced_off(wire):
    """Messages of somebody else in between do not break the order; each symbol stays in order."""
    sink = wire.sink()
    sink.deliver([delivery(events(3))])
    wire.nats.publish(f"{wire.prefix}.other", b"foreign")
    sink.deliver([delivery(events(6)[6:])])
    wire.nats.publish(f"{wire.prefix}.BTC", event("BTC", 7))
    sink.deliver([delivery(events(8)[12:])])
    assert of("BTC", [line for line in wire.held() if line != b"foreign"]) == of("BTC", events(8))
    assert of("ETH", [line for line in wire.held() if line != b"foreign"]) == of("ETH", events(8))


class Unfenced(JetStreamSink):
    """A sink that does not say which message it expects to follow."""

    async def _send(self, event, last_seq):
        return await super()._send(event, None)


def test_without_the_fence_another_writer_gets_in_between(wire):
    """The control: the event that somebody else published stands there twice."""
    sink = wire.sink(kind=Unfenced)
    sink.deliver([delivery(events(3))])
    wire.nats.publish(f"{wire.prefix}.BTC", event("BTC", 4))
    sink.deliver([delivery(events(5)[6:])])
    assert of("BTC", wire.held()) != of("BTC", events(5))


def test_a_full_stream_defers_and_goes_on_when_there_is_room(wire):
    """Check 31: beyond the limit nothing is acknowledged; what was read is purged; it goes on."""
    sink = wire.sink(messages_max=10)
    lines = events(8)
    with pytest.raises(Deferred, match="is full: max_msgs is 10"):
        sink.deliver([delivery(lines)])
    assert wire.held() == lines[:10]
    with pytest.raises(Deferred, match="is full"):
        sink.deliver([delivery(lines)])
    read = wire.held()[:8]
    wire.purge(keep=2)
    sink.deliver([delivery(lines)])
    assert [*read, *wire.held()] == lines


def test_a_window_that_does_not_empty_defers(wire):
    """A server that acknowledges nothing in time is slow: the window is bounded, and so is time."""
    sink = wire.sink(window=4, timeout_s=0.2)
    sink.deliver([delivery(events(1))])
    process = wire.nats._process.pid
    os.kill(process, signal.SIGSTOP)
    try:
        with pytest.raises(Deferred, match=r"did not acknowledge everything within 0\.2 s"):
            sink.deliver([delivery(events(40)[2:])])
    finally:
        os.kill(process, signal.SIGCONT)
    sink._where = Published(server=wire.nats.server, stream=wire.name, prefix=wire.prefix)
    sink.deliver([delivery(events(40)[2:])])
    assert audit(events(40), wire.read()).is_clean


def test_an_event_larger_than_a_message_is_refused_by_name(wire):
    """The limit of the server is named, and nothing of the call is published."""
    large = event("BTC", 2, payload={"x": "y" * 2_000_000})
    with pytest.raises(InvalidSpec, match=r"BTC: event 2 has 2000\d\d\d bytes; .* takes 1048576"):
        wire.sink().deliver([delivery([event("BTC", 1), large])])
    assert wire.nats.held(wire.name) == []


def test_a_server_that_is_away_defers(wire):
    """The address stands in the message, and the password does not."""
    server = Server(url="nats://ada:secret@127.0.0.1:1")
    with pytest.raises(
        Deferred, match=r"no NATS server answers at nats://127\.0\.0\.1:1"
    ) as caught:
        wire.sink(server=server).deliver([delivery(events(1))])
    assert "secret" not in str(caught.value)


@pytest.mark.slow
def test_a_server_that_is_killed_amid_publishing_loses_nothing(wire):
    """Checks 31 and 46: the outbox holds what was not acknowledged, and delivers it again."""
    lines = events(60)
    sink, crashes, at = wire.sink(timeout_s=2), 0, 0
    while at < len(lines):
        paper = delivery(lines[at : at + 20])
        if crashes < 3 and at >= 20 * (crashes + 1):
            crashes += 1
            wire.nats.kill()
            with pytest.raises(Deferred):
                sink.deliver([paper])
            wire.nats.start()
        sink.deliver([paper])
        at += 20
    assert crashes == 3
    assert wire.held() == lines
    assert audit(lines, wire.read()).is_clean


@pytest.mark.slow
def test_what_a_purge_removed_is_found_and_driven_again(wire):
    """Check 46: the audit fails, names what is missing, and the repair gives a reader everything.

    The consumer reads the stream from its first message on, as one that was there all the time.
    """
    lines = events(30)
    sink = wire.sink()
    sink.deliver([delivery(lines)])
    assert audit(lines, wire.read()).is_clean
    consumer = Consumer()
    acted = [line for line in wire.read()[:20] if consumer.take(line).is_new]
    wire.nats.delete(wire.name, 24, 25, 26)
    report = audit(lines, wire.read())
    assert not report.is_clean
    assert {(each.kind, each.symbol, each.publish_seq) for each in report.findings} == {
        ("missing", "ETH", 12),
        ("missing", "BTC", 13),
        ("missing", "ETH", 13),
    }
    again = list(to_redrive(report, lines))
    assert redrive_jetstream(wire.nats.server, wire.name, wire.prefix, again) == len(again) == 37
    assert audit(lines, wire.read()).is_clean
    acted += [line for line in wire.read(after=20) if consumer.take(line).is_new]
    assert [of("BTC", acted), of("ETH", acted)] == [of("BTC", lines), of("ETH", lines)]
    sink.deliver([delivery([event("BTC", 31)])])
    assert wire.held()[-1] == event("BTC", 31)


def test_with_the_id_of_the_event_a_repair_would_change_nothing(wire):
    """The control: the server takes a message of a known id for a copy of what it lost."""
    lines = of("BTC", events(4))
    wire.sink().deliver([delivery(lines)])
    wire.nats.delete(wire.name, 4)
    sink = wire.sink()
    sink.deliver([delivery(lines)])
    assert wire.held() == lines[:3]
    report = audit(lines, wire.read())
    assert report.total("missing") == 1
    again = to_redrive(report, lines)
    assert redrive_jetstream(wire.nats.server, wire.name, wire.prefix, again) == 1
    assert wire.held() == lines


def test_a_purged_stream_is_gone_on_with(wire):
    """What readers had was purged; new events follow, and the fence knows the subject is empty."""
    sink = wire.sink()
    sink.deliver([delivery(events(5))])
    wire.purge()
    sink.deliver([delivery(events(7)[10:])])
    assert wire.held() == events(7)[10:]
    wire.sink().deliver([delivery(events(9)[10:])])
    assert wire.held() == events(9)[10:]


@pytest.mark.slow
def test_how_far_an_event_is_safe_is_recorded(wire):
    """`fsync` only where the server's monitoring says that it syncs before it acknowledges."""
    sink = wire.sink()
    sink.deliver([delivery(events(1))])
    assert sink.durability == "flushed"
    assert not wire.nats.syncs_always()
    unknown = wire.sink(server=Server(url=wire.nats.url))
    unknown.deliver([delivery([event("BTC", 2)])])
    assert unknown.durability == "unknown"
    wire.nats.kill()
    wire.nats.start(sync="always")
    assert wire.nats.syncs_always()
    sink.deliver([delivery([event("BTC", 3)])])
    assert sink.durability == "fsync"
    assert [fields["transport_durability"] for _, fields in wire.told.events] == [
        "flushed",
        "unknown",
        "fsync",
    ]
    wire.nats.kill()


@pytest.mark.slow
def test_a_stream_is_read_back_in_order_through_a_crash_of_the_server(wire):
    """A reader that follows goes on where it was, and ends only when it is closed."""
    lines = events(20)
    sink = wire.sink()
    sink.deliver([delivery(lines[:30])])
    reader = read_jetstream(wire.nats.server, wire.name, follow=True)
    found = [next(reader) for _ in range(12)]
    wire.nats.kill()
    wire.nats.start()
    wire.sink().deliver([delivery(lines[30:])])
    found += [next(reader) for _ in range(28)]
    reader.close()
    assert [each.data for each in found] == lines
    assert wire.read(after=found[11].position) == lines[12:]
    assert wire.read(subject=f"{wire.prefix}.ETH") == of("ETH", lines)


def test_every_transport_holds_the_same_bytes_for_each_symbol(wire, tmp_path):
    """Check 46: the papers of a stream, on JetStream and in a file, event by event the same."""
    lines = events(25, ("BTC.USD", "ETH", "a b"))
    papers = [delivery(lines[at : at + 9], str(at)) for at in range(0, 75, 9)]
    file = JsonlSink(tmp_path / "events.jsonl")
    for sink in (wire.sink(), file):
        sink.deliver(papers[:4])
        sink.deliver(papers[4:])
    file.close()
    written = [each.data for each in read_jsonl(tmp_path / "events.jsonl")]
    for symbol in ("BTC.USD", "ETH", "a b"):
        subject = subject_of(wire.prefix, symbol)
        assert of(symbol, written) == wire.read(subject=subject) == of(symbol, lines)


def test_reading_what_is_not_there_says_so(wire):
    """A missing stream is named; an empty one has no events."""
    with pytest.raises(InvalidSpec, match="has no JetStream stream 'absent'"):
        next(read_jetstream(wire.nats.server, "absent"))
    wire.nats.make(wire.name)
    assert wire.read() == []
