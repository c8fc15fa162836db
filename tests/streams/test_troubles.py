"""Single troubles, each scripted by hand: what seeds of the simulator found, told plainly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from runwright.bootstrap import replays
from runwright.kernel.errors import InvalidSpec
from tests.streams.invariants import Found, hold
from tests.streams.script import INTERVAL_MS, START_MS, Crash, Feed, Outage, Script
from tests.streams.simulator import Simulation


def trade(seconds: int, number: int = 0, source: str = "source0") -> bytes:
    """Return an event that was received so many seconds after the start."""
    return msgspec.json.encode(
        {
            "schema": "raw_market_event",
            "schema_version": "1",
            "event_type": "TradeTick",
            "source_id": source,
            "symbol": "AAA",
            "exchange_ts_ms": None,
            "recv_ts_ms": START_MS + seconds * 1000,
            "raw_payload": "",
            "normalized": {"price": 1.5, "quantity": 1, "side": None},
            "source_event_id": f"{seconds}/{number}",
        }
    )


def scripted(*items: tuple[float, bytes], time: str = "clock", **changes: Any) -> Script:
    """Return a script of one source; `publish` and `scheduler` change what its spec says."""
    scheduler = {"mode": "boundary", "boundary_interval_ms": INTERVAL_MS, "time": time}
    published = {"transport": "jsonl", "path": "out.jsonl", **changes.pop("publish", {})}
    spec = {
        "kind": "streams",
        "name": "sim",
        "folder": ".",
        "sources": [
            {
                "source_id": "source0",
                "symbols": ["AAA"],
                "file": {"path": "source0.jsonl", "format": "jsonl"},
            }
        ],
        "scheduler": {**scheduler, **changes.pop("scheduler", {})},
        "engine": {
            "ref": "tests.streams.engines_simulated:seen",
            "input": "events",
            "alignment_ms": 0,
            "isolation": "inline",
            "determinism_check": "off",
            "config": {"seed": 0},
        },
        "output_publish": published,
        "concurrency": {"max_symbols": 1},
    }
    kind = changes.pop("kind", "file")
    feed = Feed(name="source0", kind=kind, symbols=("AAA",), items=items)
    usual: dict[str, Any] = {
        "outages": (),
        "steps": (),
        "crashes": (),
        "stops": (),
        "start_ms": START_MS,
        "seal_every_s": 1.0,
        "segment_records": 65_536,
        "max_records": 100_000,
        "max_age_ms": None,
        "is_batched": False,
        "failing": 0,
    }
    return Script(seed=0, spec=spec, feeds=(feed,), **{**usual, **changes})


def lived(script: Script, folder: Path) -> Found:
    """Live through a script and hold what came of it against every invariant."""
    simulation = Simulation(script, folder)
    simulation.run()
    hold(simulation)
    return Found(simulation)


def opened_ms(found: Found) -> int:
    (body,) = (entry.body for entry in found.entries if entry.type == "stream.opened")
    return body.opened_ms


def history(*seconds: int) -> list[tuple[float, bytes]]:
    return [(0.0, trade(each, number)) for number, each in enumerate(seconds)]


def test_history_that_begins_with_garbage_opens_at_its_first_event(tmp_path: Path):
    """What is no event has no time: the stream does not begin in 1970."""
    found = lived(scripted((0.0, b"broken"), *history(30, 130), time="events"), tmp_path)
    assert opened_ms(found) == START_MS + 30_000 - 1
    assert len(found.ticks) == 3


def test_history_without_any_event_has_no_tick(tmp_path: Path):
    """And comes to its end."""
    found = lived(scripted((0.0, b"broken"), (0.0, b"too"), time="events"), tmp_path)
    assert (found.ticks, len(found.records)) == ([], 2)


def test_history_killed_before_it_is_opened_opens_at_the_same_instant(tmp_path: Path):
    """The first block is durable then, and what it says stands."""
    script = scripted(*history(30, 200), time="events")
    crash = Crash("other", "before", 2, 1.0)
    killed = msgspec.structs.replace(script, crashes=(crash,))
    once, again = lived(script, tmp_path / "once"), lived(killed, tmp_path / "killed")
    assert again.simulation.world.crashed == [("other", "before")]
    assert opened_ms(once) == opened_ms(again)
    assert [paper["body"] for paper in once.papers] == [paper["body"] for paper in again.papers]


def test_a_stream_that_is_degraded_stops_as_it_is(tmp_path: Path):
    """A signal while the sink has been down for too long ends it, without an error."""
    script = scripted(
        *((float(each), trade(each)) for each in (5, 70, 130, 190)),
        publish={"max_pending": 1, "max_block_ms": 5_000},
        outages=(Outage(1.0, 300.0, "down"),),
        stops=(280.0,),
    )
    found = lived(script, tmp_path)
    stopped = [entry for entry in found.entries if entry.type == "conductor.stopped"]
    assert len(stopped) == 2


def test_ticks_that_a_restart_skips_are_in_the_plan_from_the_log(tmp_path: Path):
    """They are recorded, and the next tick stands after them; a gap that is not is a deviation."""
    script = scripted(
        (5.0, trade(5)),
        (700.0, trade(700)),
        scheduler={"on_restart": "skip"},
        crashes=(Crash("plan", "after", 2, 250.0),),
    )
    found = lived(script, tmp_path)
    (passed,) = (entry.body for entry in found.entries if entry.type == "tick.passed")
    assert passed.count == 4
    found.store._rows["tick"] = {
        key: row for key, row in found.store._rows["tick"].items() if row["state"] != "skipped"
    }
    report = replays.plan_from_log(found.store, "sim", lambda done, of: None)
    assert [item["field"] for item in report["deviations"]] == ["planned_ts_ms"]


@pytest.mark.parametrize("kind", ["file", "broker"])
def test_a_buffer_that_was_full_goes_on_when_old_segments_are_retired(tmp_path: Path, kind: str):
    """Check 10: intake stops at the limit, and nothing is lost; nor is a single block too large."""
    script = scripted(
        *((float(each // 4), trade(each // 4, each)) for each in range(60)),
        kind=kind,
        max_records=20,
        segment_records=5,
        max_age_ms=1_000,
    )
    found = lived(script, tmp_path)
    assert "buffer.full" in found.simulation.world.said
    assert len(found.records) == 60
    assert found.log.retired_seq > 30
    assert found.log.last_seq - found.log.retired_seq <= 20


def test_history_that_fills_its_buffer_to_the_last_record_comes_to_its_end(tmp_path: Path):
    """Only the source can say that nothing more comes, so it is asked although there is no room."""
    found = lived(scripted(*history(30, 90, 150, 210), time="events", max_records=4), tmp_path)
    assert (len(found.records), len(found.ticks)) == (4, 4)
    assert "buffer.full" not in found.simulation.world.said


def test_history_waits_for_segments_that_grow_old(tmp_path: Path):
    """They are cut and sealed, so room comes with time: nothing has to be changed."""
    items = history(*range(0, 120, 4))
    limits = {"max_records": 20, "segment_records": 5, "max_age_ms": 5_000}
    found = lived(scripted(*items, time="events", **limits), tmp_path)
    assert "buffer.full" in found.simulation.world.said
    assert len(found.records) == 30
    assert found.log.retired_seq


def test_history_whose_interval_is_larger_than_its_buffer_is_given_up(tmp_path: Path):
    """And all that had room is there, under an end in good order."""
    limits = {"max_records": 20, "segment_records": 5, "max_age_ms": 5_000}
    simulation = Simulation(scripted(*history(*range(1, 31)), time="events", **limits), tmp_path)
    with pytest.raises(InvalidSpec, match=r"^buffer_retention\.max_records: .* 20 came since"):
        simulation.run()
    found = Found(simulation)
    assert len(found.records) == 20
    assert found.entries[-1].type == "conductor.stopped"


def test_what_a_skipped_tick_did_not_read_is_not_retired(tmp_path: Path):
    """The first tick after the skipped ones reads from where the last conducted one ended."""
    items = [(float(each), trade(each)) for each in range(0, 600, 4)]
    script = scripted(
        *items,
        scheduler={"on_restart": "skip"},
        crashes=(Crash("start", "before", 2, 250.0),),
        max_records=100,
        segment_records=5,
        max_age_ms=1_000,
    )
    found = lived(script, tmp_path)
    assert found.log.retired_seq
    assert not [entry for entry in found.entries if entry.type == "tick.refused"]
