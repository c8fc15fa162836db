"""One suite for the Store port, run on every store; then what only a file can get wrong.

Another store joins by a line in `STORES`.
"""

from __future__ import annotations

import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runwright.adapters.libpq import target
from runwright.adapters.memory import MemoryStore
from runwright.adapters.postgres import Layout, PostgresStore
from runwright.adapters.sqlite import APPLICATION_ID, SCHEMA_VERSION, SqliteStore
from runwright.kernel.errors import (
    CommitUnknown,
    Halt,
    InternalError,
    StoreBusy,
    StoreCorrupt,
    StoreMissing,
    StoreUnwritable,
    StoreVersion,
    Usage,
)
from runwright.kernel.ports import Batch, Request, Row, SealRow, StoredEntry, Table, Tile
from runwright.kernel.run import Content

#: A table of a workload.
THING = Table(
    name="thing",
    columns=("name", "n", "note"),
    key=("name",),
    sql=str(Path(__file__).with_name("thing.sql")),
)


#: A table whose columns have types of their own where a store has them.
TYPED = Table(
    name="typed",
    columns=("id", "config", "at", "enabled", "score"),
    key=("id",),
    sql=str(Path(__file__).with_name("thing.sql")),
    types={"config": "json", "at": "instant", "enabled": "flag", "score": "number"},
)


def sqlite(folder: Path) -> SqliteStore:
    return SqliteStore(folder / "store.db", tables=[THING, TYPED], create=True)


def postgres(request: pytest.FixtureRequest) -> PostgresStore:
    server = request.getfixturevalue("server")
    # A schema of its own: a database would take a hundred times as long.
    place = target(server.url("postgres"), server.new_schema(), {})
    making = PostgresStore(place, layout=Layout(lambda: [THING, TYPED]), create=True)
    making.finish()
    making.close()
    return PostgresStore(place)


STORES: dict[str, Callable[[Path, pytest.FixtureRequest], Any]] = {
    "memory": lambda folder, request: MemoryStore(tables=[THING, TYPED]),
    "sqlite": lambda folder, request: sqlite(folder),
    "postgres": lambda folder, request: postgres(request),
}


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """A new store of each kind."""
    made = STORES[request.param](tmp_path, request)
    yield made
    made.close()


@pytest.fixture
def file(tmp_path: Path) -> Iterator[SqliteStore]:
    """A new SQLite store."""
    made = sqlite(tmp_path)
    yield made
    made.close()


def entry(seq: int, text: str = "") -> StoredEntry:
    return StoredEntry(seq, f"entry {seq} {text}".encode(), bytes([seq % 256]) * 32)


def lane(name: str, memory: str = "{}", **fields: Any) -> Row:
    return Row("lane", {"kind": "toy", "name": "demo", "lane": name, "memory": memory}, **fields)


def request(identity: str, created_ms: int = 1) -> Request:
    return Request(
        id=identity, kind="run", body=b"{}", created_ms=created_ms, by="ada", reply="/reply"
    )


# -------------------------------------------------------------------------------------- entries


def test_a_new_store_is_empty(store):
    """No entries, tiles, seals, blobs or rows."""
    assert store.size() == 0
    assert list(store.entries()) == []
    assert store.tiles(0, 0, 10) == []
    assert store.seals() == store.seals(latest=True) == []
    assert store.blob("00") is None
    for table in ("request", "spec", "tick", "round", "lane", "paper", "thing"):
        assert store.rows(table) == []


def test_entries_come_back_in_order_byte_for_byte(store):
    """All of them, or from start up to before stop."""
    written = [entry(seq) for seq in range(10)]
    store.commit(Batch(entries=written[:4]))
    store.commit(Batch(entries=written[4:]))
    assert store.size() == 10
    assert list(store.entries()) == written
    assert list(store.entries(3)) == written[3:]
    assert list(store.entries(3, 5)) == written[3:5]
    assert list(store.entries(5, 5)) == []
    assert list(store.entries(8, 99)) == written[8:]
    assert list(store.entries(99)) == []


def test_entries_can_be_read_while_others_are_committed(store):
    """What was there when the reading began comes in order."""
    store.commit(Batch(entries=[entry(0), entry(1)]))
    reading = store.entries()
    first = next(reading)
    store.commit(Batch(entries=[entry(2)]))
    assert [first, *reading][:2] == [entry(0), entry(1)]


def test_many_entries_come_back_in_order(store):
    """Readers go by the chunk; nothing is lost at its edge."""
    written = [entry(seq) for seq in range(4_100)]
    store.commit(Batch(entries=written))
    assert list(store.entries(1)) == written[1:]


@pytest.mark.parametrize("seqs", [[0], [1], [3], [2, 2], [4]])
def test_an_entry_out_of_its_place_is_refused(store, seqs: list[int]):
    """A seq that is taken, or one after a gap, is a store that somebody else wrote."""
    store.commit(Batch(entries=[entry(0), entry(1)]))
    with pytest.raises(StoreCorrupt) as caught:
        store.commit(Batch(entries=[entry(seq, "again") for seq in seqs], rows=[lane("x")]))
    assert caught.value.code == "store-corrupt"
    assert list(store.entries()) == [entry(0), entry(1)]
    assert store.rows("lane") == []


def test_leaves_and_tiles_are_read_by_level(store):
    """Level 0 is the leaf hashes; above it are the roots that were committed."""
    entries = [entry(seq) for seq in range(3)]
    tiles = [Tile(1, 0, b"a" * 32), Tile(1, 1, b"b" * 32), Tile(2, 0, b"c" * 32)]
    store.commit(Batch(entries=entries, tiles=tiles))
    assert store.tiles(0, 1, 3) == [bytes([1]) * 32, bytes([2]) * 32]
    assert store.tiles(1, 0, 9) == [b"a" * 32, b"b" * 32]
    assert store.tiles(2, 0, 9) == [b"c" * 32]
    assert store.tiles(3, 0, 9) == []


def test_seals_are_kept_by_size(store):
    """In order, and the newest by itself; one of the same size takes the place of the other."""
    seals = [SealRow(size, bytes([size]) * 32, f"note {size}\n") for size in (3, 9, 10)]
    for seal in (seals[1], seals[0], seals[2]):
        store.commit(Batch(seals=[seal]))
    assert store.seals() == seals
    assert store.seals(latest=True) == seals[2:]
    again = SealRow(10, bytes([10]) * 32, "signed by another key\n")
    store.commit(Batch(seals=[again]))
    assert store.seals(latest=True) == [again]


# ---------------------------------------------------------------------------------------- blobs


def test_blobs_come_back_by_their_digest(store):
    """With their salt, byte for byte, the empty ones too."""
    kept = [
        Content(digest="a", data=b"\x00\xff" * 1_000),
        Content(digest="b", data=b"", salt=b"salt"),
    ]
    store.commit(Batch(contents=kept))
    assert [store.blob("a"), store.blob("b")] == kept


def test_a_blob_is_written_once(store):
    """The digest says that the bytes are the same."""
    store.commit(Batch(contents=[Content(digest="a", data=b"first")]))
    store.commit(Batch(contents=[Content(digest="a", data=b"first")] * 2))
    assert store.blob("a").data == b"first"


def test_an_erased_blob_is_gone_with_its_salt(store):
    """Erasing one that is not there is nothing."""
    store.commit(Batch(contents=[Content(digest="a", data=b"x", salt=b"s")]))
    store.commit(Batch(erased=["a", "b"], entries=[entry(0)]))
    assert store.blob("a") is None
    assert store.size() == 1


# ----------------------------------------------------------------------------------------- rows


def test_a_row_is_inserted_or_takes_the_place_of_the_one_with_its_key(store):
    """By the primary key of its table."""
    store.commit(Batch(rows=[lane("x", "1"), lane("y", "2")]))
    store.commit(Batch(rows=[lane("x", "3"), lane("z", "4")]))
    found = [(row["lane"], row["memory"]) for row in store.rows("lane", order="lane")]
    assert found == [("x", "3"), ("y", "2"), ("z", "4")]


def test_later_rows_of_a_batch_win(store):
    """They are written in order."""
    store.commit(Batch(rows=[lane("x", "1"), lane("x", "2")]))
    assert store.rows("lane")[0]["memory"] == "2"


def test_an_update_changes_the_columns_it_names(store):
    """The others stay; without such a row nothing happens."""
    store.commit(Batch(rows=[Row("thing", {"name": "a", "n": 1, "note": "kept"})]))
    changes = [
        Row("thing", {"name": "a", "n": 2}, update=True),
        Row("thing", {"name": "b", "n": 3}, update=True),
    ]
    store.commit(Batch(rows=changes))
    assert store.rows("thing") == [{"name": "a", "n": 2, "note": "kept"}]


def test_columns_that_a_row_leaves_out_have_their_defaults(store):
    """The same on every store."""
    tick = {
        "seq": 4,
        "id": "t",
        "kind": "toy",
        "name": "demo",
        "occurrence": "{}",
        "scheduled": 1,
        "planned_ms": 5,
        "last_ms": 5,
        "at": 6,
        "state": "open",
    }
    this = {
        "seq": 4,
        "id": "r",
        "tick": "t",
        "idx": 0,
        "kind": "toy",
        "name": "demo",
        "key": "k",
        "label": "",
        "runs": 1,
        "at": 6,
    }
    paper = {"seq": 4, "idx": 0, "id": "p", "sink": "s", "name": "n", "media": "m", "body": b"b"}
    spec = {
        "kind": "toy",
        "name": "demo",
        "digest": "d",
        "body": b"{}",
        "applied_ms": 5,
        "since_ms": 5,
        "in_force": "{}",
        "seq": 4,
    }
    rows = [Row("tick", tick), Row("round", this), Row("paper", paper), Row("spec", spec)]
    store.commit(Batch(rows=rows))
    assert store.rows("spec") == [{**spec, "opened_ms": 0}]
    assert store.rows("tick") == [{**tick, "count": 1, "label": "", "reason": ""}]
    unjudged = {"judged_seq": None, "judged_ms": None, "verdict": "", "outcome": ""}
    assert store.rows("round") == [{**this, **unjudged}]
    assert store.rows("paper") == [
        {
            **paper,
            "inserts": "[]",
            "sealed_size": 0,
            "state": "open",
            "attempts": 0,
            "next_ms": 0,
            "delivered_ms": None,
        }
    ]


def test_rows_are_filtered_by_equal_columns(store):
    """All of them have to be equal; None finds what has no value."""
    rows = [("a", 1, "x"), ("b", 1, None), ("c", 2, None)]
    store.commit(Batch(rows=[Row("thing", {"name": a, "n": b, "note": c}) for a, b, c in rows]))

    def names(where: dict[str, Any]) -> list[str]:
        return [row["name"] for row in store.rows("thing", where, order="name")]

    assert names({"n": 1}) == ["a", "b"]
    assert names({"n": 1, "note": None}) == ["b"]
    assert names({"note": None}) == ["b", "c"]
    assert names({"note": "x", "n": 2}) == []
    assert names({}) == ["a", "b", "c"]


def test_rows_are_ordered_and_limited(store):
    """Rising or falling by one column; what has no value comes first."""
    rows = [("a", 3), ("b", None), ("c", 1)]
    store.commit(Batch(rows=[Row("thing", {"name": a, "n": n, "note": ""}) for a, n in rows]))

    def names(**fields: Any) -> list[str]:
        return [row["name"] for row in store.rows("thing", **fields)]

    assert names(order="n") == ["b", "c", "a"]
    assert names(order="-n") == ["a", "c", "b"]
    assert names(order="-n", limit=2) == ["a", "c"]
    assert names(order="n", limit=9) == ["b", "c", "a"]
    assert names(order="name", limit=0) == ["a", "b", "c"]


def test_rows_above_values_are_found(store):
    """Strictly above, by bytes for text; what has no value lies above nothing."""
    rows = [("B", 1), ("a", 2), ("\u00fc", 3), ("b", 3), ("c", None)]
    store.commit(Batch(rows=[Row("thing", {"name": a, "n": n, "note": "x"}) for a, n in rows]))

    def names(after: dict[str, Any], where: dict[str, Any] | None = None, **fields: Any) -> Any:
        found = store.rows("thing", where, after=after, order="name", **fields)
        return [row["name"] for row in found]

    assert names({"n": 1}) == ["a", "b", "\u00fc"]
    assert names({"n": 3}) == []
    assert names({"name": "a"}) == ["b", "c", "\u00fc"]
    assert names({"name": "B", "n": 2}) == ["b", "\u00fc"]
    assert names({"n": 1}, {"n": 3}) == ["b", "\u00fc"]
    assert names({"n": 1}, {"note": None}) == []
    assert names({"n": 1}, limit=2) == ["a", "b"]
    assert names({}) == ["B", "a", "b", "c", "\u00fc"]


def test_only_the_columns_that_are_named_come_back(store):
    """In the order in which they are named, whatever is looked for and ordered by."""
    rows = [("a", 1, "x"), ("b", 2, "y"), ("c", 3, "y")]
    store.commit(Batch(rows=[Row("thing", {"name": a, "n": b, "note": c}) for a, b, c in rows]))
    found = store.rows("thing", {"note": "y"}, order="-name", columns=("n",))
    assert found == [{"n": 3}, {"n": 2}]
    found = store.rows("thing", after={"n": 2}, columns=("note", "name"))
    assert [list(row.items()) for row in found] == [[("note", "y"), ("name", "c")]]
    typed = {"id": 1, "config": '{"a":1}', "at": "2026-03-01T06:00:00Z", "enabled": 1, "score": "1"}
    store.commit(Batch(rows=[Row("typed", typed)]))
    assert store.rows("typed", columns=("config", "at")) == [
        {"config": '{"a":1}', "at": "2026-03-01T06:00:00Z"}
    ]


def test_a_row_that_was_returned_is_a_copy(store):
    """Changing it does not change the store."""
    store.commit(Batch(rows=[lane("x", "1")]))
    store.rows("lane")[0]["memory"] = "2"
    assert store.rows("lane")[0]["memory"] == "1"


def test_typed_columns_carry_the_same_values_on_every_store(store):
    """JSON as text, an instant as text in UTC, a flag as 0 or 1, a number as a decimal, or none."""
    written = [
        {
            "id": 1,
            "config": '{"a":[1,null,"x"],"priority":10,"z":{"b":0.5}}',
            "at": "2026-03-01T06:00:00Z",
            "enabled": 1,
            "score": "0.050",
        },
        {
            "id": 2,
            "config": '{"text":"\\"quoted\\" \u00fc"}',
            "at": "1999-12-31T23:59:59.125Z",
            "enabled": 0,
            "score": "-12345678901234567890.000000000000000001",
        },
        {"id": 3, "config": None, "at": None, "enabled": None, "score": None},
    ]
    store.commit(Batch(rows=[Row("typed", values) for values in written]))
    assert store.rows("typed", order="id") == written
    changed = {"id": 2, "enabled": 1, "at": "2026-03-01T06:00:00Z", "score": "7", "config": "{}"}
    store.commit(Batch(rows=[Row("typed", changed, update=True)]))
    assert store.rows("typed", {"id": 2}) == [changed]
    for name, value in (("enabled", 1), ("at", "2026-03-01T06:00:00Z"), ("score", "7")):
        found = [row["id"] for row in store.rows("typed", {name: value}, order="id")]
        assert 2 in found
        assert 3 not in found, name
    assert [row["id"] for row in store.rows("typed", {"enabled": None})] == [3]


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda store: store.rows("nothing"), "there is no table nothing"),
        (lambda store: store.rows("lane", {"colour": 1}), r"no columns \['colour'\]"),
        (lambda store: store.rows("lane", order="-colour"), r"no columns \['colour'\]"),
        (lambda store: store.rows("lane", after={"colour": 1}), r"no columns \['colour'\]"),
        (lambda store: store.rows("lane", columns=("colour",)), r"no columns \['colour'\]"),
        (lambda store: store.rows("typed", after={"at": "x"}), "have no order|has no order"),
        (lambda store: store.commit(Batch(rows=[Row("no", {"a": 1})])), "there is no table no"),
        (
            lambda store: store.commit(Batch(rows=[Row("lane", {"colour": 1})])),
            r"no columns \['colour'\]",
        ),
    ],
)
def test_an_unknown_table_or_column_is_refused(store, act, message: str):
    """It is a defect of the caller, not a query that finds nothing."""
    with pytest.raises(InternalError, match=message):
        act(store)


def test_names_cannot_carry_sql(store):
    """A column is looked up, never pasted."""
    with pytest.raises(InternalError):
        store.rows("lane", {'memory" = 1 OR "1': 1})
    with pytest.raises(InternalError):
        store.rows('lane"; DROP TABLE lane; --')
    store.commit(Batch(rows=[lane("x'; DROP TABLE lane; --")]))
    assert len(store.rows("lane", {"lane": "x'; DROP TABLE lane; --"})) == 1


# ------------------------------------------------------------------------------ all or nothing


def whole(**fields: Any) -> Batch:
    """Return a batch with something of everything."""
    values: dict[str, Any] = {
        "entries": [entry(1)],
        "tiles": [Tile(1, 0, b"t" * 32)],
        "contents": [Content(digest="new", data=b"x")],
        "rows": [lane("new")],
        "seals": [SealRow(2, b"r" * 32, "note")],
        "erased": ["old"],
    }
    return Batch(**{**values, **fields})


def parts(store: Any) -> list[Any]:
    return [
        list(store.entries()),
        store.tiles(1, 0, 9),
        store.blob("new"),
        store.blob("old"),
        store.rows("lane"),
        store.seals(),
    ]


@pytest.fixture
def begun(store):
    """A store with something in it."""
    store.commit(Batch(entries=[entry(0)], contents=[Content(digest="old", data=b"o")]))
    return store


def test_a_batch_is_written_as_a_whole(begun):
    """Entries, tiles, blobs, rows, seals and what is erased."""
    begun.commit(whole())
    assert parts(begun) == [
        [entry(0), entry(1)],
        [b"t" * 32],
        Content(digest="new", data=b"x"),
        None,
        [lane("new").values],
        [SealRow(2, b"r" * 32, "note")],
    ]


@pytest.mark.parametrize(
    "wrong",
    [
        {"entries": [entry(0)]},
        {"entries": [entry(1), entry(1)]},
        {"rows": [lane("new"), Row("nothing", {"a": 1})]},
        {"rows": [lane("new"), Row("lane", {"colour": 1})]},
    ],
)
def test_a_batch_that_fails_in_part_writes_nothing(begun, wrong):
    """Whatever came before the part that failed."""
    before = parts(begun)
    with pytest.raises((StoreCorrupt, InternalError)):
        begun.commit(whole(**wrong))
    assert parts(begun) == before
    begun.commit(whole())
    assert begun.size() == 2


def test_an_empty_batch_is_nothing(begun):
    """It says so, and can be committed."""
    assert not Batch()
    assert whole()
    before = parts(begun)
    begun.commit(Batch())
    assert parts(begun) == before


# ------------------------------------------------------------------------------ requests, lease


def test_a_request_is_inserted_without_the_lease(store):
    """It is open, with all that it says."""
    held = store.lease()
    store.submit(request("r1"))
    held.release()
    assert store.rows("request") == [
        {
            "id": "r1",
            "kind": "run",
            "body": b"{}",
            "created_ms": 1,
            "by": "ada",
            "state": "open",
            "result": b"",
            "reply": "/reply",
        }
    ]


def test_the_id_of_a_request_is_taken_once(store):
    """The second is refused, and the first stays as it was."""
    store.submit(request("r1"))
    with pytest.raises(StoreCorrupt):
        store.submit(request("r1", created_ms=2))
    assert [row["created_ms"] for row in store.rows("request")] == [1]


def test_a_request_is_closed_by_the_conductor(store):
    """With the batch that answers it."""
    store.submit(request("r1"))
    done = Row("request", {"id": "r1", "state": "done", "result": b"{}"}, update=True)
    store.commit(Batch(entries=[entry(0)], rows=[done]))
    assert store.rows("request", {"state": "open"}) == []
    assert store.rows("request")[0]["by"] == "ada"


def test_one_holds_the_lease(store):
    """The others are told to come later; releasing twice is nothing."""
    held = store.lease()
    with pytest.raises(StoreBusy) as caught:
        store.lease()
    assert caught.value.code == "store-busy"
    held.release()
    held.release()
    store.lease().release()


# ================================================================================ only a file


def test_a_store_is_opened_again_with_all_that_was_committed(tmp_path: Path):
    """Closing twice is nothing."""
    first = sqlite(tmp_path)
    first.commit(whole(entries=[entry(0), entry(1)]))
    before = parts(first)
    first.close()
    first.close()
    second = SqliteStore(tmp_path / "store.db")
    assert parts(second) == before
    assert second.check() == []
    assert second.version() == SCHEMA_VERSION
    assert second.migrate() == []
    second.close()


def test_a_store_is_private(tmp_path: Path, file: SqliteStore):
    """Nobody but its owner reads it."""
    assert (tmp_path / "store.db").stat().st_mode & 0o777 == 0o600


def test_a_commit_is_flushed(file: SqliteStore):
    """A write-ahead log with synchronous FULL."""
    assert file._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert file._db.execute("PRAGMA synchronous").fetchone() == (2,)


def in_the_file(path: Path) -> int:
    """How many blobs stand in the file itself, without what stands beside it."""
    alone = path.with_name("alone.db")
    shutil.copyfile(path, alone)
    other = sqlite3.connect(f"{alone.as_uri()}?immutable=1", uri=True)
    ((count,),) = other.execute("SELECT count(*) FROM blob").fetchall()
    other.close()
    return int(count)


def big(number: int) -> Batch:
    return Batch(contents=[Content(digest=f"{number:064}", data=bytes(3 * 1024**2))])


def test_a_log_is_merged_when_whoever_commits_has_time(tmp_path: Path, file: SqliteStore):
    """Once it was asked, no commit merges a log of this length; short ones wait."""
    path = tmp_path / "store.db"
    file.merge()
    for number in range(6):
        file.commit(big(number))
    assert in_the_file(path) == 0
    file.merge()
    assert in_the_file(path) == 6
    file.commit(big(6))
    file.merge()
    assert in_the_file(path) == 6
    assert file.check() == []


def test_without_being_asked_a_commit_merges_the_log(tmp_path: Path, file: SqliteStore):
    """The control: a store that nobody tidies does not grow a log for ever."""
    for number in range(6):
        file.commit(big(number))
    assert in_the_file(tmp_path / "store.db") > 0


def test_a_log_that_cannot_be_merged_is_a_halt_and_loses_nothing(file: SqliteStore):
    """No further write is tried on a disk that failed one; a reader in the way is no failure."""

    class Disk:
        error = "SQLITE_IOERR_FSYNC"

        def execute(self, statement: str, *values: Any) -> Any:
            if "wal_checkpoint" not in statement:
                return inner.execute(statement, *values)
            failure = sqlite3.OperationalError("disk I/O error")
            failure.sqlite_errorname = self.error
            raise failure

        def __getattr__(self, name: str) -> Any:
            return getattr(inner, name)

    file.merge()
    inner, disk = file._db, Disk()
    file._db = disk
    for number in range(3):
        file.commit(big(number))
    with pytest.raises(StoreUnwritable, match="disk I/O error"):
        file.merge()
    assert all(file.blob(f"{number:064}") for number in range(3))
    disk.error = "SQLITE_BUSY"
    for number in range(3, 6):
        file.commit(big(number))
    file.merge()
    file._db = inner


def test_a_store_that_is_not_there_is_missing(tmp_path: Path):
    """It is not made by looking for it."""
    with pytest.raises(StoreMissing, match="There is no store at"):
        SqliteStore(tmp_path / "store.db")
    assert list(tmp_path.iterdir()) == []


def test_a_store_is_not_made_over_another(tmp_path: Path, file: SqliteStore):
    """The file stays as it is."""
    with pytest.raises(Usage, match="There is a store at"):
        sqlite(tmp_path)


@pytest.mark.parametrize(
    "content",
    [b"", b"hello, this is text" * 100, bytes(range(256)) * 32],
    ids=["empty", "text", "binary"],
)
def test_a_file_that_is_no_store_is_refused(tmp_path: Path, content: bytes):
    """And left alone."""
    path = tmp_path / "store.db"
    path.write_bytes(content)
    with pytest.raises(StoreMissing, match="is not a Runwright store"):
        SqliteStore(path)
    assert path.read_bytes() == content


def test_a_database_of_somebody_else_is_refused(tmp_path: Path):
    """The application id tells."""
    path = tmp_path / "store.db"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE entry (seq)")
    other.close()
    with pytest.raises(StoreMissing, match="is not a Runwright store"):
        SqliteStore(path)


@pytest.mark.parametrize(
    ("version", "age"), [(SCHEMA_VERSION + 1, "a newer"), (SCHEMA_VERSION - 1, "an older")]
)
def test_a_store_of_another_version_is_refused(tmp_path: Path, version: int, age: str):
    """With both versions in the message, and with nothing written."""
    sqlite(tmp_path).close()
    path = tmp_path / "store.db"
    other = sqlite3.connect(path)
    other.execute(f"PRAGMA user_version = {version}")
    other.close()
    with pytest.raises(StoreVersion, match=f"was written by {age} version") as caught:
        SqliteStore(path)
    assert f"(schema {version}; this one reads {SCHEMA_VERSION})" in str(caught.value)
    assert caught.value.code == "store-version"


def test_others_can_tell_what_the_file_is(tmp_path: Path, file: SqliteStore):
    """The application id stands in its header."""
    assert file._db.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
    assert APPLICATION_ID.to_bytes(4) == b"RWL1"


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("UPDATE entry SET raw = x'00' WHERE seq = 0", "a ledger entry is never edited"),
        ("UPDATE entry SET seq = 7 WHERE seq = 0", "a ledger entry is never edited"),
        ("DELETE FROM entry", "a ledger entry is never deleted"),
        ("INSERT INTO entry VALUES (0, x'00', x'00')", "UNIQUE constraint failed: entry.seq"),
    ],
)
def test_entries_cannot_be_changed_by_sql(tmp_path, file: SqliteStore, statement, message):
    """Not through this connection and not through another."""
    file.commit(Batch(entries=[entry(0)]))
    other = sqlite3.connect(tmp_path / "store.db", isolation_level=None)
    for db in (other, file._db):
        with pytest.raises(sqlite3.IntegrityError, match=message):
            db.execute(statement)
    other.close()
    assert list(file.entries()) == [entry(0)]


def test_a_reader_cannot_write(tmp_path: Path, file: SqliteStore):
    """A store that was opened for reading refuses a commit, and sees what others commit."""
    reader = SqliteStore(tmp_path / "store.db", read_only=True)
    file.commit(Batch(entries=[entry(0)]))
    assert reader.size() == 1
    with pytest.raises(StoreUnwritable):
        reader.commit(Batch(entries=[entry(1)]))
    reader.close()
    assert file.size() == 1


def test_requests_of_two_connections_are_both_kept(tmp_path: Path, file: SqliteStore):
    """A submitter has a connection of its own."""
    other = SqliteStore(tmp_path / "store.db")
    other.submit(request("r1"))
    file.submit(request("r2", 2))
    assert [row["id"] for row in file.rows("request", order="created_ms")] == ["r1", "r2"]
    other.close()


def test_a_commit_that_cannot_begin_was_certainly_not_written(tmp_path: Path, file: SqliteStore):
    """Another connection holds the file for longer than a statement waits: a halt, no deferral."""
    file._db.execute("PRAGMA busy_timeout = 1")
    other = sqlite3.connect(tmp_path / "store.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnwritable, match="locked"):
        file.commit(Batch(entries=[entry(0)]))
    with pytest.raises(StoreBusy):
        file.submit(request("r1"))
    other.execute("ROLLBACK")
    other.close()
    assert file.size() == 0
    file.commit(Batch(entries=[entry(0)]))


def test_a_damaged_file_is_found_by_its_check(tmp_path: Path):
    """Pages that are overwritten do not pass."""
    made = sqlite(tmp_path)
    made.commit(Batch(contents=[Content(digest=str(n), data=b"x" * 3000) for n in range(50)]))
    made.close()
    path = tmp_path / "store.db"
    data = bytearray(path.read_bytes())
    middle = len(data) // 2 // 4096 * 4096
    data[middle : middle + 4096] = b"\x5a" * 4096
    path.write_bytes(data)
    damaged = SqliteStore(path)
    try:
        found = damaged.check()
    except StoreCorrupt as error:
        found = [str(error)]
    damaged.close()
    assert found


# ----------------------------------------------------------------------------- other processes

HOLDER = """
import sys
from pathlib import Path
from runwright.adapters.sqlite import SqliteStore
store = SqliteStore(Path(sys.argv[1]))
held = store.lease()
print("held", flush=True)
sys.stdin.read()
"""


def start(script: str, *argv: str, **fields: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *argv],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        **fields,
    )


@pytest.mark.slow
@pytest.mark.parametrize("end", ["killed", "closed"])
def test_the_lease_of_another_process_ends_with_it(tmp_path: Path, file: SqliteStore, end: str):
    """While it lives the lease is taken, and the message names it; SIGKILL releases it."""
    with start(HOLDER, str(tmp_path / "store.db")) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(StoreBusy, match=f"process {holder.pid}"):
            file.lease()
        file.submit(request("r1"))
        if end == "killed":
            holder.send_signal(signal.SIGKILL)
        else:
            holder.stdin.close()
        holder.wait()
    file.lease().release()


@pytest.mark.slow
def test_a_second_writer_past_the_lease_meets_the_key_of_the_entries(tmp_path: Path):
    """Whatever happens to the lock file, two writers cannot both append."""
    first = sqlite(tmp_path)
    first.lease()
    (tmp_path / "store.db.lease").unlink()
    second = SqliteStore(tmp_path / "store.db")
    second.lease()
    first.commit(Batch(entries=[entry(0)]))
    with pytest.raises(StoreCorrupt):
        second.commit(Batch(entries=[entry(0, "of the second")]))
    assert list(second.entries()) == [entry(0)]
    first.close()
    second.close()


FILLING = """
import os, resource, signal, sys
from pathlib import Path
from runwright.adapters.sqlite import SqliteStore
from runwright.kernel.errors import Halt
from runwright.kernel.ports import Batch, StoredEntry
path, limit, size = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
store = SqliteStore(path)
if limit:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
seq = store.size()
try:
    held = store.lease()
    for _ in range(10_000):
        store.commit(Batch(entries=[StoredEntry(seq, b"x" * size, b"l" * 32)]))
        seq += 1
except Halt as error:
    print(error.code, seq, error, sep="|", flush=True)
os._exit(0)
"""

IN_A_FULL_FOLDER = """
set -e
mount -t tmpfs -o size=1m none "$1"
cp "$2" "$1/store.db"
"$3" -c "$4" "$1/store.db" 0 "$5"
cp "$1"/store.db* "$6"
"""

ON_A_READ_ONLY_MOUNT = """
set -e
mount --bind "$1" "$1"
mount -o remount,ro,bind "$1"
"$2" -c "$3" "$1/store.db"
"""

TOUCHING = """
import sys
from pathlib import Path
from runwright.adapters.sqlite import SqliteStore
from runwright.kernel.errors import Halt
from runwright.kernel.ports import Batch, StoredEntry
path = Path(sys.argv[1])
reader = SqliteStore(path, read_only=True)
print("read", reader.size(), flush=True)
reader.close()
for act in ("lease", "commit"):
    try:
        store = SqliteStore(path)
        if act == "lease":
            store.lease()
        else:
            store.commit(Batch(entries=[StoredEntry(5, b"x", b"l" * 32)]))
        print(act, "done", flush=True)
    except Halt as error:
        print(act, error.code, flush=True)
"""

needs_mounts = pytest.mark.skipif(
    shutil.which("unshare") is None
    or subprocess.run(
        ["unshare", "-m", "mount", "-t", "tmpfs", "none", "/tmp"], check=False, capture_output=True
    ).returncode
    != 0,
    reason="this user cannot mount",
)


def survivors(folder: Path, least: int) -> int:
    """Return how many entries a store holds that was written until it was full."""
    store = SqliteStore(folder / "store.db")
    size = store.size()
    assert [entry.seq for entry in store.entries()] == list(range(size))
    assert store.check() == []
    store.commit(Batch(entries=[entry(size)]))
    store.close()
    assert size >= least
    return size


@pytest.mark.slow
@pytest.mark.parametrize("size", [200, 40_000, 3_000_000])
def test_a_file_that_may_not_grow_keeps_what_was_committed(tmp_path: Path, size: int):
    """A real limit on the size of files: the writer stops with a halt, nothing is lost."""
    sqlite(tmp_path).close()
    path = str(tmp_path / "store.db")
    done = subprocess.run(
        [sys.executable, "-c", FILLING, path, str(2**20), str(size)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    code, committed, message = done.stdout.strip().split("|")
    assert code in {StoreUnwritable.code, CommitUnknown.code}
    assert "store.db" in message
    assert survivors(tmp_path, int(committed)) == int(committed)


@pytest.mark.slow
@needs_mounts
@pytest.mark.parametrize("size", [2_000, 3_000_000])
def test_a_full_disk_keeps_what_was_committed(tmp_path: Path, size: int):
    """A real full file system: the writer stops with a halt, nothing is lost."""
    sqlite(tmp_path).close()
    mount, after = tmp_path / "mount", tmp_path / "after"
    mount.mkdir()
    after.mkdir()
    done = subprocess.run(
        [
            *("unshare", "-m", "sh", "-c", IN_A_FULL_FOLDER, "sh", str(mount)),
            *(str(tmp_path / "store.db"), sys.executable, FILLING, str(size), str(after)),
        ],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout, done.stderr
    code, committed, message = done.stdout.strip().split("|")
    assert code in {StoreUnwritable.code, CommitUnknown.code}
    assert "full" in message
    assert survivors(after, int(committed)) == int(committed)


@pytest.mark.slow
@needs_mounts
@pytest.mark.parametrize("end", ["closed", "killed"])
def test_a_read_only_mount_can_be_read_and_not_written(tmp_path: Path, end: str):
    """Every commit is seen, also those that a killed process left in the log."""
    made = sqlite(tmp_path)
    made.commit(Batch(entries=[entry(seq) for seq in range(5)]))
    if end == "closed":
        made.close()
        folder = tmp_path
    else:
        folder = tmp_path / "left"
        folder.mkdir()
        for file in tmp_path.glob("store.db*"):
            shutil.copy(file, folder)
        made.close()
        assert (folder / "store.db-wal").stat().st_size > 0
    done = subprocess.run(
        [
            *("unshare", "-m", "sh", "-c", ON_A_READ_ONLY_MOUNT, "sh"),
            *(str(folder), sys.executable, TOUCHING),
        ],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.splitlines() == [
        "read 5",
        "lease store-unwritable",
        "commit store-unwritable",
    ], done.stderr


def test_every_error_of_a_commit_is_a_halt():
    """A conductor does not go on after any of them."""
    for error in (StoreUnwritable, StoreCorrupt, CommitUnknown):
        assert issubclass(error, Halt)
