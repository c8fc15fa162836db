"""A JetStream stream as a source, on a real server that is killed and started again."""

from __future__ import annotations

import json
import threading

import pytest

from runwright.adapters.subscription import NatsSource, Subscribed
from runwright.kernel.errors import Deferred, InvalidSpec
from runwright.kernel.run import Retry
from tests.adapters.reading import NOW_MS, now_ms
from tests.e2e.project import SOON_S, until

ITEMS = [b"event %d" % number for number in range(40)]
SWIFT = Retry(attempts=4, min_s=0.02, max_s=0.1)
STEADY = Retry(attempts=100, min_s=0.02, max_s=0.1)


@pytest.fixture
def stream(nats):
    """The name of a stream with forty messages."""
    name = nats.new_name()
    nats.make(name)
    nats.publish(f"{name}.a", *ITEMS)
    return name


@pytest.fixture
def opened(nats):
    """Make sources, and close them."""
    sources = []

    def make(stream, position=None, kind=NatsSource, **keys):
        rung = threading.Event()
        # Nothing here may rest on the server sending again by itself.
        options = {"retry": STEADY, "durable": "runwright", "ack_wait_s": 600, **keys}
        subscribed = Subscribed(server=nats.server, stream=stream, **options)
        source = kind("wire", subscribed, now_ms=now_ms, wake=rung.set, position=position)
        sources.append(source)
        return source, rung

    yield make
    for source in sources:
        source.close()


def next_of(source, most=500):
    """Return the next arrival, once there is one."""
    return until(lambda: source.poll(most), "an arrival")


def items_of(source, count, *, acknowledges=True):
    """Return the next items, acknowledged as they are taken, and the last position."""
    items, position = [], None
    while len(items) < count:
        arrival = next_of(source)
        items += arrival.items
        position = json.loads(json.dumps(arrival.position))
        if acknowledges:
            source.acknowledge(position)
    return items, position


def failure_of(source):
    """Return the error that a source ends with."""

    def look():
        try:
            source.poll(10)
        except (Deferred, InvalidSpec) as error:
            return error
        return None

    return until(look, "an error")


def pending(nats, stream):
    """Return how many messages the server waits for, and up to where all are acknowledged."""
    info = nats.consumer(stream, "runwright")
    return info.num_ack_pending, info.ack_floor.stream_seq


def test_messages_arrive_in_order_and_ring(opened, stream):
    """Each message is one event; the position is its number in the stream."""
    source, rung = opened(stream)
    assert source.poll(9) is None
    assert rung.wait(SOON_S)
    arrival = next_of(source, 10)
    assert (arrival.source, arrival.received_ms) == ("wire", NOW_MS)
    assert arrival.items == ITEMS[: len(arrival.items)]
    assert arrival.position["seq"] == len(arrival.items)
    rest, position = items_of(source, 40 - len(arrival.items))
    assert rest == ITEMS[len(arrival.items) :]
    assert (position["seq"], source.is_over, source.is_away) == (40, False, False)


def test_nothing_is_acknowledged_before_it_is_durable(nats, opened, stream):
    """Check 32's way for a broker: what was taken stays the server's until `acknowledge`."""
    source, _ = opened(stream)
    _, position = items_of(source, 40, acknowledges=False)
    assert pending(nats, stream) == (40, 0)
    source.acknowledge({**position, "seq": 25})
    until(lambda: pending(nats, stream) == (15, 25), "the server knows of 25")
    source.acknowledge(position)
    until(lambda: pending(nats, stream) == (0, 40), "the server knows of all")


class Hasty(NatsSource):
    """A source that acknowledges what it takes."""

    def _keep(self, seq, data):
        super()._keep(seq, data)
        self.acknowledge({"seq": seq})


def test_a_source_that_acknowledges_too_early_is_seen(nats, opened, stream):
    """The control: the same look at the server finds everything acknowledged."""
    source, _ = opened(stream, kind=Hasty)
    items_of(source, 40, acknowledges=False)
    until(lambda: pending(nats, stream) == (0, 40), "the server knows of all")


def test_backpressure_on_a_broker_leaves_messages_with_it(nats, opened, stream):
    """Paused, nothing is taken or acknowledged; with a full window the server sends no more."""
    source, _ = opened(stream, window=8)
    items, _ = items_of(source, 8, acknowledges=False)
    source.pause()
    assert [source.poll(10) for _ in range(3)] == [None] * 3
    info = nats.consumer(stream, "runwright")
    assert (info.num_ack_pending, info.ack_floor.stream_seq, info.num_pending) == (8, 0, 32)
    source.resume()
    assert source.poll(10) is None, "the window is full"
    source.acknowledge({"seq": 8})
    rest, _ = items_of(source, 32)
    assert items + rest == ITEMS


def test_a_paused_source_pulls_nothing_that_comes(nats, opened, stream):
    """Messages published during a pause are not even sent, once the standing request ended."""
    source, _ = opened(stream)
    items_of(source, 40)
    until(lambda: pending(nats, stream) == (0, 40), "all are acknowledged")
    source.pause()
    nats.publish(f"{stream}.a", b"later")
    assert source.poll(9) is None
    assert pending(nats, stream)[1] == 40
    source.resume()
    assert items_of(source, 1)[0] == [b"later"]


@pytest.mark.parametrize("taken", [1, 17, 40])
def test_a_source_made_anew_goes_on_after_its_position(nats, opened, stream, taken):
    """What the first one took and did not make durable comes again; what it did does not."""
    first, _ = opened(stream, window=25)
    items_of(first, 20, acknowledges=False)
    position = {"seq": taken, "created": nats.info(stream).created.isoformat(), "digest": ""}
    first.close()
    nats.publish(f"{stream}.a", b"later")
    again, _ = opened(stream, position=position, window=25)
    items, _ = items_of(again, 41 - taken)
    assert items == [*ITEMS, b"later"][taken:]
    until(lambda: again.poll(9) is None and again._taken == 41, "there is no more")


def test_what_is_sent_again_is_neither_taken_twice_nor_left_unacknowledged(nats, opened, stream):
    """A server that waited too long sends again; each message is taken once, in order."""
    source, _ = opened(stream, ack_wait_s=0.2)
    items, position = items_of(source, 40, acknowledges=False)

    def is_redelivered():
        return nats.consumer(stream, "runwright").num_redelivered

    until(is_redelivered, "the server sends again")
    assert source.poll(9) is None
    source.acknowledge(position)
    until(lambda: pending(nats, stream) == (0, 40), "all are acknowledged in the end")
    assert items == ITEMS


def test_what_another_reader_of_the_consumer_took_is_read_by_its_number(nats, opened, stream):
    """Messages that the server counts as delivered and that never came are not passed over."""
    source, _ = opened(stream)
    items_of(source, 40)

    steal_one(nats, source, stream)
    nats.publish(f"{stream}.a", b"after")
    assert items_of(source, 2)[0] == [b"stolen", b"after"]


def steal_one(nats, source, stream):
    """Publish a message that another reader of the same consumer gets."""

    async def steal(client):
        subscription = await client.jetstream().pull_subscribe_bind("runwright", stream)
        await client.jetstream().publish(f"{stream}.a", b"stolen")
        return [message.data for message in await subscription.fetch(1, timeout=SOON_S)]

    source.pause()
    until(lambda: source._pull is None, "no request stands")
    assert nats.ask(steal) == [b"stolen"]
    source.resume()


class Trusting(NatsSource):
    """A source that believes that whatever the consumer sent has arrived."""

    async def _catch_up(self, client, last):
        """Do nothing."""


def test_a_source_that_trusts_the_consumer_would_lose_it(nats, opened, stream):
    """The control: without reading by number the same theft, and a restart, lose messages."""
    source, _ = opened(stream, kind=Trusting)
    items_of(source, 40)
    steal_one(nats, source, stream)
    nats.publish(f"{stream}.a", b"after")
    items, position = items_of(source, 1, acknowledges=False)
    assert items == [b"after"]
    source.close()
    again, _ = opened(stream, position={**position, "seq": 40, "digest": ""}, kind=Trusting)
    nats.publish(f"{stream}.a", b"last")
    assert items_of(again, 1)[0] == [b"last"]


def test_only_the_subjects_that_were_asked_for_come(nats, opened, stream):
    """Also where a reconnection reads by number: what is on other subjects is passed over."""
    nats.publish(f"{stream}.b", b"b1", b"b2")
    nats.publish(f"{stream}.a", b"a41")
    nats.publish(f"{stream}.b", b"b3")
    source, _ = opened(stream, subject=f"{stream}.b")
    assert items_of(source, 3, acknowledges=False)[0] == [b"b1", b"b2", b"b3"]
    source.close()
    again, _ = opened(stream, subject=f"{stream}.b")
    assert items_of(again, 3)[0] == [b"b1", b"b2", b"b3"]


@pytest.mark.slow
def test_a_server_that_is_killed_and_started_again_loses_nothing(nats, opened, stream):
    """Check 46, on the way in: three crashes amid the traffic, everything once and in order."""
    source, _ = opened(stream, window=16)
    items, position = [], None
    published = list(ITEMS)
    for crash in range(3):
        more, position = items_of(source, 15)
        items += more
        nats.kill()
        until(lambda: source.is_away, "it is away")
        nats.start()
        later = [b"crash %d, %d" % (crash, number) for number in range(10)]
        nats.publish(f"{stream}.a", *later)
        published += later
    more, position = items_of(source, len(published) - len(items))
    assert items + more == published
    until(lambda: pending(nats, stream) == (0, len(published)), "all are acknowledged")
    assert position["seq"] == len(published)


@pytest.mark.slow
def test_a_source_that_dies_with_its_server_goes_on_at_its_position(nats, opened, stream):
    """Both are gone in the middle; the position that was durable decides."""
    source, _ = opened(stream, window=16)
    items, position = items_of(source, 10)
    nats.kill()
    source.close()
    nats.start()
    again, _ = opened(stream, position=position, window=16)
    assert items + items_of(again, 40 - len(items))[0] == ITEMS


def test_a_server_that_stays_away_is_told_after_the_attempts_of_the_retry(nats, opened, stream):
    """Each series has as many attempts; asking again begins anew, and finds it when it is back."""
    source, rung = opened(stream, retry=SWIFT)
    items, _ = items_of(source, 40)
    nats.kill()
    error = failure_of(source)
    assert (error.code, rung.is_set()) == ("deferred", True)
    assert f"no NATS server answers at {nats.url}" in str(error)
    assert str(error).endswith("(4 attempts)")
    assert "(4 attempts)" in str(failure_of(source))
    nats.start()
    nats.publish(f"{stream}.a", b"back")

    def back():
        try:
            return source.poll(9)
        except Deferred:
            return None

    assert until(back, "it is back").items == [b"back"]
    assert items == ITEMS


def test_a_stream_or_a_server_that_is_not_there_is_told_by_name(nats, opened):
    """The key that names the stream stands in the hint."""
    source, _ = opened("absent")
    error = failure_of(source)
    assert f"wire: {nats.url} has no JetStream stream 'absent'" in str(error)
    assert (error.code, "sources[].nats.stream" in error.hint) == ("invalid-spec", True)


def test_a_password_stands_in_no_message(nats, opened, stream):
    """The address of a server is shown without whoever signs in."""
    where = nats.server.__class__(url=f"nats://ada:secret@127.0.0.1:{nats.port}, nats://ada:x@b:1")
    assert where.shown == f"nats://127.0.0.1:{nats.port}, nats://b:1"


def test_a_stream_that_was_made_anew_is_not_read_from_the_middle(nats, opened, stream):
    """Numbers of another stream of the same name mean nothing; with `accept_loss` it begins."""
    source, _ = opened(stream)
    _, position = items_of(source, 40)
    source.close()
    nats.ask(lambda client: client.jsm().delete_stream(stream))
    nats.make(stream)
    nats.publish(f"{stream}.a", *[b"new %d" % number for number in range(60)])
    again, _ = opened(stream, position=position)
    error = failure_of(again)
    assert "was made anew on" in str(error)
    assert "accept_loss" in error.hint
    accepting, _ = opened(stream, position=position, accept_loss=True)
    assert items_of(accepting, 60)[0][0] == b"new 0"


def test_a_stream_that_lost_what_was_taken_is_refused(nats, opened, stream):
    """A server that was restored from older files gives numbers again."""
    source, _ = opened(stream)
    _, position = items_of(source, 40)
    source.close()
    beyond, _ = opened(stream, position={**position, "seq": 90})
    assert "ends at 40, and 90 was taken: the server lost messages" in str(failure_of(beyond))
    other, _ = opened(stream, position={**position, "seq": 39})
    assert "message 39 of the JetStream stream" in str(failure_of(other))
    beyond.close()
    other.close()
    same, _ = opened(stream, position=position)
    nats.publish(f"{stream}.a", b"later")
    assert items_of(same, 1)[0] == [b"later"], "the control: the true position is taken"


def test_a_stream_that_removed_what_was_not_taken_is_refused(nats, opened, stream):
    """Retention that is shorter than an outage is told, and gone on with only when asked for."""
    source, _ = opened(stream)
    arrival = next_of(source, 10)
    source.close()
    nats.ask(lambda client: client.jsm().purge_stream(stream, keep=5))
    again, _ = opened(stream, position=arrival.position)
    error = failure_of(again)
    assert "begins at 36" in str(error)
    assert "what was between them was removed" in str(error)
    accepting, _ = opened(stream, position=arrival.position, accept_loss=True)
    assert items_of(accepting, 5)[0] == ITEMS[35:]


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"deliver_subject": "push.me"}, "it is pushed"),
        ({"ack_policy": "none"}, "ack_policy is none"),
        ({"max_deliver": 3}, "max_deliver is 3"),
        ({"filter_subject": "other.a"}, "filter_subject is 'other.a'"),
    ],
)
def test_a_consumer_that_would_lose_messages_is_refused(nats, opened, stream, keys, text):
    """One that is there with another configuration is neither used nor changed."""
    from nats.js.api import ConsumerConfig

    nats.ask(
        lambda client: client.jsm().add_consumer(
            stream, ConsumerConfig(durable_name="runwright", **keys)
        )
    )
    source, _ = opened(stream)
    assert text in str(failure_of(source))


def test_a_work_queue_hands_over_each_message_once(nats, opened):
    """Where an acknowledged message is removed, a source goes on with what is left."""
    name = nats.new_name()
    nats.make(name, retention="workqueue")
    nats.publish(f"{name}.a", *ITEMS)
    source, _ = opened(name, window=12)
    items, position = items_of(source, 30)
    source.close()
    again, _ = opened(name, position=position, window=12)
    rest, _ = items_of(again, 40 - len(items))
    assert items + rest == ITEMS
    until(lambda: nats.info(name).state.messages == 0, "the queue is empty")


def test_a_position_of_something_else_is_refused(opened, stream):
    """An offset in a file is no place in a stream."""
    with pytest.raises(InvalidSpec, match="no position in a JetStream stream"):
        opened(stream, position={"offset": 7})


def test_a_source_that_does_not_follow_is_over_at_the_end_that_it_found(nats, opened, stream):
    """What comes later is for the next one, which goes on behind it."""
    source, _ = opened(stream, follow=False)
    arrivals = [next_of(source, 10)]
    nats.publish(f"{stream}.a", b"later")
    while not source.is_over:
        arrivals += [arrival for arrival in [source.poll(10)] if arrival]
    assert [item for arrival in arrivals for item in arrival.items] == ITEMS
    again, _ = opened(stream, arrivals[-1].position, follow=False)
    assert items_of(again, 1)[0] == [b"later"]
    assert until(lambda: again.poll(10) is None and again.is_over, "its end")


@pytest.mark.parametrize("last", ["", "nobody.>"])
def test_a_source_that_finds_nothing_and_does_not_follow_is_over(nats, opened, last):
    """Of a stream without messages, and of a subject without any."""
    name = nats.new_name()
    nats.make(name)
    if last:
        nats.publish(f"{name}.a", b"of another subject")
    source, _ = opened(name, subject=last and f"{name}.{last}", follow=False)
    assert until(lambda: source.poll(10) is None and source.is_over, "its end")
