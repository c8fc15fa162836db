"""A Parquet file as a source, and what an extra says that is not installed."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet
import pytest

from runwright.adapters.parquet import ParquetSource
from runwright.kernel.errors import InvalidSpec
from tests.adapters.reading import now_ms, taken


@pytest.fixture
def parquet(tmp_path):
    """A file of 250 rows in row groups of 40."""
    path = tmp_path / "rows.parquet"
    start = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    table = pa.table(
        {
            "n": list(range(250)),
            "close": [float("nan") if n == 3 else n / 4 for n in range(250)],
            "at": [start + dt.timedelta(minutes=n) for n in range(250)],
        }
    )
    pyarrow.parquet.write_table(table, path, row_group_size=40)
    return path


def test_parquet_brings_its_rows_in_order_and_goes_on_at_any_of_them(parquet):
    """Each row is one JSON object; a source made anew at any position brings the next row."""
    source = ParquetSource("rows", parquet, now_ms=now_ms)
    items = taken(source, 33)
    assert source.is_over
    assert [json.loads(item)["n"] for item in items] == list(range(250))
    assert json.loads(items[1]) == {"n": 1, "close": 0.25, "at": 1767225660000}
    assert json.loads(items[3])["close"] == {"$f": "nan"}
    identity = ParquetSource("rows", parquet, now_ms=now_ms).poll(1).position["file"]
    for row in (1, 39, 40, 41, 249, 250):
        position = {"row": row, "file": identity}
        again = ParquetSource("rows", parquet, now_ms=now_ms, position=position)
        assert taken(again) == items[row:]


def test_backpressure_on_parquet_leaves_its_row_where_it_is(parquet):
    """Paused, nothing is read; resumed, the next row comes."""
    source = ParquetSource("rows", parquet, now_ms=now_ms)
    before = source.poll(25).position
    source.pause()
    assert source.poll(25) is None
    source.resume()
    after = source.poll(1)
    assert json.loads(after.items[0])["n"] == 25
    assert (before["row"], after.position["row"]) == (25, 26)


def test_another_parquet_file_and_none_at_all_are_refused(parquet, tmp_path):
    """By name, and before anything of them is read."""
    position = ParquetSource("rows", parquet, now_ms=now_ms).poll(1).position
    pyarrow.parquet.write_table(pa.table({"n": list(range(250))}), parquet)
    with pytest.raises(InvalidSpec, match="is another file than the one rows was reading"):
        ParquetSource("rows", parquet, now_ms=now_ms, position=position)
    with pytest.raises(InvalidSpec, match=r"absent\.parquet: "):
        ParquetSource("rows", tmp_path / "absent.parquet", now_ms=now_ms)
    (tmp_path / "text.parquet").write_text("day,close\n" * 20)
    with pytest.raises(InvalidSpec, match=r"text\.parquet: .*Parquet"):
        ParquetSource("rows", tmp_path / "text.parquet", now_ms=now_ms)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("package", "script", "hint"),
    [
        (
            "pyarrow",
            "import runwright.adapters.parquet as p; p.ParquetSource('r', None, now_ms=None)",
            "pip install 'runwright[parquet]'",
        ),
        (
            "nats",
            "from runwright.adapters.jetstream import require_library; require_library('wire')",
            "pip install 'runwright[nats]'",
        ),
    ],
)
def test_without_the_extra_the_error_names_it(package, script, hint):
    """A plain installation imports these modules, and says what to install when they are used."""
    blocked = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "from runwright.kernel.errors import RunwrightError\n"
        f"try:\n    {script}\nexcept RunwrightError as error:\n    print(error.code, error.hint)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", blocked], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == f"refused {hint}"


@pytest.mark.slow
def test_nats_is_imported_by_nobody_who_does_not_use_it():
    """The modules of sources and sinks are imported without the library of the extras."""
    script = (
        "import sys\n"
        "from runwright.adapters import eventfile, parquet, publication, readback, sources\n"
        "from runwright.adapters import standard, subscription\n"
        "from runwright.streams import audit, consumer\n"
        "print({name.split('.')[0] for name in sys.modules} & {'nats', 'pyarrow'})"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"
