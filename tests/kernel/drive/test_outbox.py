"""What must leave leaves in order, at least once, and not before it may."""

from __future__ import annotations

import json

import pytest

from runwright.kernel.canonical import commitment
from runwright.kernel.drive.outbox import READ_MAX, SinkLimits, paper_rows
from runwright.kernel.errors import Deferred, Halt, StoreUnwritable, Usage
from runwright.kernel.run import Content, Retry
from runwright.kernel.workload import Insert, Paper
from tests.kernel.drive.rig import NOW_MS, defers, round_of, workload_of


def papers(made, *names: str, seq: int = 1, is_waiting: bool = True, **fields) -> None:
    """Commit papers to the sink "list", or to the one named before a slash."""
    found = []
    for name in names:
        sink, _, rest = name.rpartition("/")
        found.append(Paper(sink=sink or "list", name=rest, body=f'"{rest}"', **fields))
    made.writer.commit(rows=paper_rows(found, seq=seq, round_id=f"{seq:064}"))
    made.conductor.outbox.waiting = made.conductor.outbox.waiting or is_waiting
    made.store.batches.clear()


def test_papers_leave_in_the_order_of_their_verdicts(rig):
    """By the verdict that caused them, then as the report gave them; one commit acknowledges."""
    made = rig()
    papers(made, "c", "d", seq=7)
    papers(made, "a", "b", seq=3)
    assert made.conductor.outbox.pump() is None
    assert made.sink.names == ["a", "b", "c", "d"]
    assert made.commits() == [["[paper]"] * 4]
    rows = made.store.rows("paper")
    assert {(row["state"], row["attempts"], row["delivered_ms"]) for row in rows} == {
        ("delivered", 1, NOW_MS)
    }


def test_an_empty_outbox_is_not_looked_into_again(rig):
    """Once a pump found nothing, the next one does not read the store."""
    made = rig()
    assert made.conductor.outbox.pump() is None
    assert made.conductor.outbox.waiting is False
    assert made.conductor.outbox.is_full() is False


def test_a_paper_has_an_id_of_its_own_that_stays_the_same(rig):
    """A consumer drops duplicates by it."""
    rows = paper_rows([Paper(sink="s", name="n", body="")] * 2, seq=1, round_id="r")
    again = paper_rows([Paper(sink="s", name="n", body="")] * 2, seq=1, round_id="r")
    ids = [row.values["id"] for row in rows]
    assert len(set(ids)) == 2
    assert ids == [row.values["id"] for row in again]


def test_a_sink_that_defers_gets_the_same_paper_first(rig):
    """It is asked again after 1, 2 and 4 seconds; nothing overtakes."""
    made = rig()
    papers(made, "a", "b")
    made.sink.failures = defers(3)
    waits = []
    while (wait_s := made.conductor.outbox.pump()) is not None:
        waits.append(wait_s)
        made.clock.advance(wait_s)
    assert waits == [1.0, 2.0, 4.0]
    assert made.sink.names == ["a", "b"]
    assert [row["attempts"] for row in made.store.rows("paper", order="idx")] == [4, 1]


def test_a_sink_is_not_asked_before_its_time(rig):
    """A pump in between asks nobody and says how long is left."""
    made = rig()
    papers(made, "a")
    made.sink.failures = defers(1)
    made.conductor.outbox.pump()
    made.clock.advance(0.25)
    assert made.conductor.outbox.pump() == 0.75
    assert made.sink.asked == 1


def test_a_paper_does_not_wait_for_a_clock_that_was_put_back(rig):
    """With the clock an hour back, its time would come in an hour: nothing waits for so long."""
    made = rig()
    papers(made, "a")
    made.sink.failures = defers(1)
    assert made.conductor.outbox.pump() == 1.0
    made.clock.wall_ms -= 3_600_000
    assert made.conductor.outbox.pump() is None
    assert made.sink.names == ["a"]


def test_one_sink_does_not_wait_for_another(rig):
    """However many papers wait for a sink that defers."""
    made = rig()
    papers(made, *(f"p{index}" for index in range(READ_MAX + 1)))
    papers(made, "other/x", seq=2)
    made.sink.failures = defers(1)
    assert made.conductor.outbox.pump() == 1.0
    assert made.other.names == ["x"]
    assert made.sink.names == []


def test_many_papers_leave_in_one_pump(rig):
    """They are read and acknowledged by the page."""
    made = rig()
    names = [f"p{index}" for index in range(2 * READ_MAX + 3)]
    papers(made, *names)
    assert made.conductor.outbox.pump() is None
    assert made.sink.names == names
    assert [len(batch.rows) for batch in made.store.batches] == [READ_MAX, READ_MAX, 3]


@pytest.mark.parametrize("failure", [Usage("leads out"), ValueError("broken"), KeyError("x")])
def test_a_sink_that_raises_anything_is_asked_again(rig, failure):
    """The paper stays on the record, and the conductor goes on."""
    made = rig()
    papers(made, "a")
    made.sink.failures = [failure]
    assert made.conductor.outbox.pump() == 1.0
    assert made.said[-1][0] == "delivery.deferred"
    made.clock.advance(1)
    assert made.conductor.outbox.pump() is None
    assert made.sink.names == ["a"]


def test_a_halt_is_no_deferral(rig):
    """It ends the conductor."""
    made = rig()
    papers(made, "a")
    made.sink.failures = [Halt("stop")]
    with pytest.raises(Halt, match="stop"):
        made.conductor.outbox.pump()


def test_a_paper_to_a_sink_that_is_not_there_waits(rig):
    """Until a start that has it."""
    made = rig()
    papers(made, "nowhere/a", "b")
    assert made.conductor.outbox.pump() == 1.0
    assert made.sink.names == ["b"]
    assert made.said[-1][1]["text"] == "there is no sink 'nowhere'"


def test_a_held_paper_waits_for_a_seal_that_covers_its_verdict(rig):
    """Nobody polls for it: whoever seals pumps again."""
    made = rig(seal_every_s=60)
    papers(made, "held", seq=made.writer.next_seq - 1, hold="sealed")
    papers(made, "later", seq=made.writer.next_seq)
    assert made.writer.sealed.size < made.writer.next_seq
    assert made.conductor.outbox.pump() is None
    assert made.conductor.outbox.waiting is True
    assert made.sink.names == []
    made.writer.seal()
    assert made.conductor.outbox.pump() is None
    assert made.sink.names == ["held", "later"]


def test_a_held_paper_keeps_what_comes_after_it_in_the_same_sink(rig):
    """Order goes before speed; another sink does not wait."""
    made = rig(seal_every_s=60)
    made.apply("second")
    papers(made, "held", "other/free", seq=made.writer.next_seq - 1, hold="sealed")
    papers(made, "other/now", "after", seq=made.writer.next_seq)
    made.conductor.outbox.pump()
    assert made.sink.names == []
    assert made.other.names == []
    made.writer.seal()
    made.conductor.outbox.pump()
    assert made.sink.names == ["held", "after"]
    assert made.other.names == ["free", "now"]


def test_a_delivery_that_was_not_acknowledged_is_made_again(rig):
    """At least once: the acknowledgement may be lost, the paper may not."""
    made = rig()
    papers(made, "a", "b")
    made.store.failure = StoreUnwritable("full")
    with pytest.raises(StoreUnwritable):
        made.conductor.outbox.pump()
    other = made.again()
    other.conductor.outbox.pump()
    assert made.sink.names == ["a", "b"]
    assert other.sink.names == ["a", "b"]
    assert [item.id for item in made.sink.got] == [item.id for item in other.sink.got]


def states(made) -> list[str]:
    """Return the states of papers in the store, as a process beside this one reads them."""
    return [row["state"] for row in made.store.rows("paper", order="seq")]


def test_an_acknowledgement_may_stand_in_the_next_commit(rig):
    """For whoever writes more; nothing is delivered twice meanwhile."""
    made = rig()
    papers(made, "a", "b")
    assert made.conductor.outbox.pump(later=True) is None
    assert made.conductor.outbox.pump(later=True) is None
    assert (made.sink.names, made.commits(), states(made)) == (["a", "b"], [], ["open"] * 2)
    papers(made, "c", seq=2)
    assert states(made) == ["delivered", "delivered", "open"]


def test_what_has_left_is_written_before_papers_are_read_again(rig):
    made = rig()
    papers(made, "a")
    made.conductor.outbox.pump(later=True)
    made.conductor.outbox.waiting = True
    assert made.conductor.outbox.pump() is None
    assert (made.sink.names, made.commits()) == (["a"], [["[paper]"]])


def test_an_acknowledgement_that_was_not_written_is_as_one_that_was_lost(rig):
    made = rig()
    papers(made, "a", "b")
    made.conductor.outbox.pump(later=True)
    other = made.again()
    other.conductor.outbox.pump()
    assert [item.id for item in made.sink.got] == [item.id for item in other.sink.got]
    assert states(other) == ["delivered"] * 2


def test_a_full_outbox_refuses_ticks(rig):
    """Deferred, not lost: the tick can be asked for again once papers have left."""
    made = rig(workload_of(round_of("a")), outbox_max=2)
    papers(made, "a", "b")
    made.sink.failures = defers(1)
    made.conductor.outbox.pump()
    with pytest.raises(Deferred, match="2 papers wait in the outbox: no new ticks"):
        made.conduct()
    assert made.entries("round.planned") == []
    made.clock.advance(1)
    made.conductor.outbox.pump()
    assert made.conduct().verdict == "PASS"


def test_papers_are_counted_without_being_read_again(rig):
    """What is written and what leaves is counted as it happens; a start counts what it finds."""
    made = rig(outbox_max=3)
    papers(made, "a", "b")
    made.sink.failures = defers(1)
    made.conductor.outbox.pump()
    assert made.conductor.outbox.why_full() == ""
    asked, inner = [], made.store._inner.rows
    made.store.rows = lambda *args, **how: asked.append(how) or inner(*args, **how)
    papers(made, "other/c", seq=2)
    assert made.conductor.outbox.why_full() == "3 papers wait in the outbox: no new ticks"
    assert asked == []
    made.clock.advance(1)
    made.conductor.outbox.pump()
    assert made.conductor.outbox.is_full() is False
    papers(made, "d", "e", seq=3)
    assert made.conductor.outbox.is_full() is False
    papers(made, "f", seq=4)
    assert made.conductor.outbox.is_full() is True
    again = made.again(outbox_max=3)
    assert again.conductor.outbox.is_full() is True
    assert again.again(outbox_max=4).conductor.outbox.is_full() is False


def test_papers_to_the_log_stay_and_wait_for_nothing(rig):
    """They are in the store as they were written; nothing delivers them, and none is counted."""
    made = rig(outbox_max=1)
    assert made.conductor.outbox.pump() is None
    papers(made, "log/a", "log/b", is_waiting=False)
    assert made.conductor.outbox.waiting is False
    papers(made, "log/c", seq=2, hold="sealed")
    assert made.conductor.outbox.is_full() is False
    assert made.conductor.outbox.pump() is None
    assert made.commits() == []
    found = [(row["name"], row["state"], row["body"]) for row in made.store.rows("paper")]
    assert found == [(name, "kept", f'"{name}"'.encode()) for name in "abc"]


def test_a_sink_with_a_limit_of_its_own_is_named_when_it_is_full(rig):
    """Its papers count for it alone, and those of the others among themselves."""
    made = rig(workload_of(round_of("a")), outbox_max=3, limits={"list": SinkLimits(most=2)})
    papers(made, "a", "other/x", "other/y")
    assert made.conductor.outbox.why_full() == ""
    papers(made, "b", seq=2)
    assert made.conductor.outbox.why_full() == "2 papers wait for the sink 'list': no new ticks"
    with pytest.raises(Deferred, match="2 papers wait for the sink 'list': no new ticks"):
        made.conduct()
    again = made.again(outbox_max=2, limits={"list": SinkLimits(most=3)})
    assert again.conductor.outbox.why_full() == "2 papers wait in the outbox: no new ticks"
    again.conductor.outbox.pump()
    assert again.conduct().verdict == "PASS"


def test_a_sink_with_waits_of_its_own_is_asked_again_after_them(rig):
    """After the last attempt that it names, at the longest wait; others wait as ever."""
    retry = Retry(attempts=3, min_s=0.1, max_s=0.4)
    made = rig(limits={"list": SinkLimits(retry=retry)})
    papers(made, "a")
    papers(made, "other/x", seq=2)
    made.sink.failures, made.other.failures = defers(4), defers(1)
    waits = []
    while (wait_s := made.conductor.outbox.pump()) is not None and not made.sink.names:
        waits.append(wait_s)
        made.clock.advance(wait_s)
    assert waits == [0.1, 0.2, 0.4, 0.3, 0.1]
    assert made.other.names == ["x"]


def test_a_sink_that_takes_many_gets_a_page_at_once(rig):
    """One call and one commit for each page, in order; one that is held ends a page."""
    made = rig(seal_every_s=60)
    made.sink.is_batched = True
    names = [f"p{index}" for index in range(READ_MAX + 2)]
    papers(made, *names)
    papers(made, "other/x", "other/y", seq=0)
    papers(made, "held", "after", seq=made.writer.next_seq, hold="sealed")
    made.conductor.outbox.pump()
    assert made.sink.names == names
    assert (made.sink.asked, made.other.asked) == (2, 2)
    assert [len(batch.rows) for batch in made.store.batches] == [READ_MAX + 2, 2]
    made.apply("second")
    made.writer.seal()
    made.conductor.outbox.pump()
    assert made.sink.names == [*names, "held", "after"]
    assert made.sink.asked == 3


def test_after_a_page_that_did_not_arrive_its_first_paper_goes_alone(rig):
    """What a sink can never take is found out, and what came before it is acknowledged."""
    made = rig()
    made.sink.is_batched = True
    papers(made, "a", "b", "c")
    made.sink.failures = defers(1)
    assert made.conductor.outbox.pump() == 1.0
    rows = made.store.rows("paper", order="idx")
    assert [(row["state"], row["attempts"]) for row in rows] == [("open", n) for n in (1, 0, 0)]
    calls, deliver = [], made.sink.deliver

    def picky(deliveries):
        calls.append([delivery.name for delivery in deliveries])
        if "b" in calls[-1]:
            raise ValueError("too large")
        deliver(deliveries)

    made.sink.deliver = picky
    made.clock.advance(1)
    made.conductor.outbox.pump()
    made.clock.advance(1)
    made.conductor.outbox.pump()
    assert calls == [["a"], ["b", "c"], ["b"]]
    rows = made.store.rows("paper", order="idx")
    assert [(row["state"], row["attempts"]) for row in rows] == [
        ("delivered", 2),
        ("open", 2),
        ("open", 0),
    ]


def test_text_of_a_blob_is_put_in_when_the_paper_leaves(rig):
    """The tail of it; what was erased by then does not leave."""
    made = rig()
    kept = [
        Content(digest=commitment(b"salt", data), data=data, salt=b"salt")
        for data in ("häuser\n".encode(), b"gone")
    ]
    inserts = (
        Insert(path=("results", 0, "stdout"), digest=kept[0].digest, characters=5),
        Insert(path=("results", 1, "stdout"), digest=kept[1].digest),
    )
    body = '{"results":[{"stdout":""},{"stdout":""}]}'
    paper = Paper(sink="list", name="a", body=body, inserts=inserts)
    made.writer.commit(contents=kept, rows=paper_rows([paper], seq=1, round_id="r"))
    made.writer.commit(erased=[kept[1].digest])
    made.conductor.outbox.pump()
    assert json.loads(made.sink.got[0].body) == {
        "results": [{"stdout": "user\n"}, {"stdout": None}]
    }
    assert made.store.rows("paper")[0]["body"] == body.encode()


def test_a_paper_without_inserts_leaves_byte_for_byte(rig):
    """Nothing is encoded again."""
    made = rig()
    body = '{ "b": 1,\n"a": "ä" }\n'
    paper = Paper(sink="list", name="a", body=body, media="application/json")
    made.writer.commit(rows=paper_rows([paper], seq=1, round_id="r"))
    made.conductor.outbox.pump()
    assert made.sink.got[0].body == body.encode()
