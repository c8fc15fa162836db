"""The lint finds what makes an answer differ the next time, and says what to use instead."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from runwright.kernel.errors import InvalidSpec
from runwright.streams.enginecode import digest_of_sources, read
from runwright.streams.lint import Finding, Report, Source, lint


def linted(code: str) -> Report:
    """Lint one file."""
    return lint([Source(module="engine", path="engine.py", text=dedent(code))])


def found_in(code: str) -> list[tuple[int, str]]:
    """Return the lines and what was found in them."""
    return [(finding.line, finding.what) for finding in linted(code).findings]


@pytest.mark.parametrize(
    ("code", "what"),
    [
        ("import time\nx = time.time()", "time.time"),
        ("import time as t\nx = t.time_ns()", "time.time_ns"),
        ("import time\nread = time.monotonic", "time.monotonic"),
        ("import time\nx = time.gmtime()", "time.gmtime"),
        ("import time\nx = time.strftime('%Y')", "time.strftime"),
        ("import datetime\nx = datetime.datetime.now()", "datetime.datetime.now"),
        ("import datetime as dt\nx = dt.date.today()", "datetime.date.today"),
        ("from datetime import datetime\nx = datetime.utcnow()", "datetime.datetime.utcnow"),
        ("import pandas as pd\nx = pd.Timestamp.now()", "pandas.Timestamp.now"),
        ("import random\nx = random.random()", "random.random"),
        ("import random\nx = random.Random()", "random.Random"),
        ("import numpy as np\nx = np.random.rand(3)", "numpy.random.rand"),
        ("import numpy as np\nx = np.random.default_rng()", "numpy.random.default_rng"),
        ("from numpy import random\nx = random.rand(3)", "numpy.random.rand"),
        ("import secrets\nx = secrets.token_hex()", "secrets.token_hex"),
        ("import uuid\nx = uuid.uuid4()", "uuid.uuid4"),
        ("import os\nx = os.urandom(8)", "os.urandom"),
        ("import os\nx = os.environ['A']", "os.environ"),
        ("import os\nx = os.getenv('A')", "os.getenv"),
        ("import os\nx = os.getpid()", "os.getpid"),
        ("import socket\nx = socket.socket()", "socket.socket"),
        ("import urllib.request\nurllib.request.urlopen('x')", "urllib.request.urlopen"),
        ("import requests\nx = requests.get('x')", "requests.get"),
        ("import httpx\nx = httpx.get('x')", "httpx.get"),
        ("import threading\nthreading.Thread()", "threading.Thread"),
        (
            "import concurrent.futures\nconcurrent.futures.ThreadPoolExecutor()",
            "concurrent.futures.ThreadPoolExecutor",
        ),
        ("import asyncio\nasyncio.run(f())", "asyncio.run"),
        ("import subprocess\nsubprocess.run(['x'])", "subprocess.run"),
        ("import os\nos.system('x')", "os.system"),
        ("x = open('model.bin')", "open"),
        ("import pathlib\npathlib.Path('x').read_text()", "pathlib.Path"),
        ("x = hash('a')", "hash"),
        ("x = id(object())", "id"),
        ("key = hash", "hash"),
        ("x = eval('1')", "eval"),
        ("import importlib\nimportlib.import_module('time')", "importlib.import_module"),
        ("import time\nx = getattr(time, 'time')()", "getattr(time, …)"),
        ("for x in {1, 2}:\n    pass", "iteration over a set"),
        ("s = set(y)\nout = [x for x in s]", "iteration over a set"),
        ("s = {a for a in y}\nt = s | z\nout = list(t)", "list() of a set"),
        ("def f(s: set[str]):\n    return ','.join(s)", "join() of a set"),
        ("def f(s: frozenset):\n    return sum(s)", "sum() of a set"),
        ("s = frozenset(y)\nx = s.pop()", "pop() of a set"),
        ("s = set(y)\na, b = s", "a set unpacked"),
        ("s = set(y)\na = [*s]", "a set unpacked"),
        ("s = set(y).union(z)\nx = next(iter(s))", "iter() of a set"),
        ("s = set(y)\nd = {k: 1 for k in s - z}", "iteration over a set"),
        ("s = set(y)\ndef f():\n    return [x for x in s]", "iteration over a set"),
        ("s = set(y)\nd = dict.fromkeys(s)", "fromkeys() of a set"),
    ],
)
def test_what_may_differ_is_found(code: str, what: str) -> None:
    """By its whole name, however it was imported, called or not."""
    last = code.count("\n") + 1
    found = found_in(code)
    assert what in [each for _line, each in found]
    assert {line for line, _what in found} <= {1, 2, last}


def test_a_name_that_was_imported_is_found_where_it_is_imported_and_used() -> None:
    """Under its own name and under another one."""
    assert found_in("from time import time\nx = time()") == [(1, "time.time"), (2, "time.time")]
    assert found_in("from os import environ as e\nx = e['A']") == [
        (1, "os.environ"),
        (2, "os.environ"),
    ]
    assert found_in("from random import *\nx = 1") == [(1, "random.*")]


@pytest.mark.parametrize(
    "code",
    [
        "import time\nx = time.gmtime(at / 1000)",
        "import time\nx = time.strftime('%Y', at)",
        "from datetime import UTC, datetime\nx = datetime.fromtimestamp(at, UTC)",
        "import random\nx = random.Random(7).random()",
        "from random import Random\nx = Random(seed)",
        "import numpy as np\nx = np.random.default_rng(seed=7).normal()",
        "import numpy as np\nx = np.mean(values)",
        "from pathlib import PurePath\nx = PurePath('a')",
        "import urllib.parse\nx = urllib.parse.quote('a')",
        "import uuid\nx = uuid.uuid5(uuid.NAMESPACE_DNS, 'a')",
        "import hashlib\nx = hashlib.sha256(b'a').hexdigest()",
        "s = {1, 2}\nx = sorted(s), len(s), 3 in s, min(s), max(s)",
        "s = set(y)\nx = any(a > 1 for a in s), sorted(a for a in s)",
        "s = set(y)\nt = {a for a in s}\nx = t <= s",
        "d = {'a': 1}\nx = [k for k in d]",
        "for x in sorted({1, 2}):\n    pass",
        "def f(s):\n    s = sorted(s)\n    return list(s)",
        "s = set(y)\ndef f(s):\n    return [x for x in s]",
        "class A:\n    id = 1\nx = A().id",
        "def f(id, hash):\n    return id + hash",
        "x = store.open('a'), clock.time()",
        "x = 'import time; time.time()'",
    ],
)
def test_what_cannot_differ_is_left_alone(code: str) -> None:
    """A seed, an instant that is given, the order of what has one."""
    assert found_in(code) == []


def test_a_finding_names_file_line_and_what_to_use() -> None:
    """One sentence that a person can act on."""
    (finding,) = linted("import time\n\nx = time.time()\n").findings
    assert str(finding) == (
        "engine.py:3: time.time; use engine_timestamp_ms of the input, the only clock of an engine"
    )
    (finding,) = linted("x = {*'ab'}\ny = [z for z in x]").findings
    assert str(finding) == (
        "engine.py:2: iteration over a set; use sorted(...), or a dict or list, which keep their"
        " order"
    )


def test_a_waiver_with_a_reason_is_listed_and_one_without_is_no_waiver() -> None:
    """The reason stands on a line of the statement; in a string it is no comment."""
    report = linted(
        """
        import time, os
        a = time.time()  # det-ok: goes to a log of its own, never into the answer
        b = os.getenv(
            "A",
        )  # det-ok: read once
        c = time.time()  # det-ok
        d = "# det-ok: no", time.time()
        """
    )
    assert [(each.finding.line, each.finding.what, each.reason) for each in report.waived] == [
        (3, "time.time", "goes to a log of its own, never into the answer"),
        (4, "os.getenv", "read once"),
    ]
    assert [(each.line, each.what) for each in report.findings] == [
        (7, "time.time, with a waiver that names no reason"),
        (8, "time.time"),
    ]


def test_a_file_that_is_no_python_is_a_finding() -> None:
    """What cannot be read has not been looked at."""
    (finding,) = linted("def f(:\n").findings
    assert (finding.line, finding.what.partition(":")[0]) == (1, "no Python")


# ----------------------------------------------------------------------- which files are looked at


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of modules that can be imported."""
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def write(folder: Path, **files: str) -> None:
    """Write modules: a__b is b of the package a."""
    for name, text in files.items():
        path = folder.joinpath(*name.split("__")).with_suffix(".py")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")


def test_what_an_engine_imports_of_its_own_is_looked_at_too(folder: Path) -> None:
    """Its package, by absolute and relative imports, however far; packages on the way as well."""
    write(
        folder,
        quant__init="x = 1",
        quant__engine="from quant.parts import levels\nfrom . import clocks\nimport numpy, json",
        quant__clocks="from .deep import now",
        quant__deep="import time\ndef now(): return time.time()",
        quant__unused="import time\ntime.time()",
    )
    (folder / "quant/init.py").rename(folder / "quant/__init__.py")
    (folder / "quant/parts").mkdir()
    (folder / "quant/parts/__init__.py").write_text("import random\nrandom.seed(1)\n")
    (folder / "quant/parts/levels.py").write_text("x = hash('a')\n")
    sources = read("quant.engine:run")
    assert [source.module for source in sources] == [
        "quant.engine",
        "quant",
        "quant.parts",
        "quant.parts.levels",
        "quant.clocks",
        "quant.deep",
    ]
    found = [(Path(each.path).name, each.line, each.what) for each in lint(sources).findings]
    assert found == [
        ("__init__.py", 2, "random.seed"),
        ("levels.py", 1, "hash"),
        ("deep.py", 2, "time.time"),
    ]


def test_a_module_beside_an_engine_is_its_own(folder: Path) -> None:
    """In a folder that is no package; nothing is executed while it is looked for."""
    write(folder, lone="import beside, json, random\nraise SystemExit", beside="import time")
    assert [source.module for source in read("lone:run")] == ["lone", "beside"]


def test_the_digest_of_an_engine_is_that_of_all_its_files(folder: Path) -> None:
    """A changed line of a module that it imports is another engine."""
    write(folder, first="import second_part", second_part="x = 1")
    before = digest_of_sources(read("first:run"))
    assert digest_of_sources(read("first:run")) == before
    write(folder, second_part="x = 2")
    assert digest_of_sources(read("first:run")) != before


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("no_such_module:run", "engine.ref: there is no module no_such_module"),
        ("json.nothing:run", "engine.ref: there is no module json.nothing"),
        (":run", "engine.ref: there is no module "),
        ("math:sqrt", "engine.ref: math has no Python source that could be looked at|no module"),
        ("binary:run", "binary.py cannot be read"),
    ],
)
def test_an_engine_without_a_source_is_refused(folder: Path, reference: str, message: str) -> None:
    """What cannot be looked at cannot pass."""
    (folder / "binary.py").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidSpec, match=message):
        read(reference)


def test_the_engines_that_ship_pass() -> None:
    """With nothing waived."""
    for name in ("echo", "volatility", "hysteresis"):
        report = lint(read(f"runwright.streams.engines.{name}:engine"))
        assert report.findings == ()
        assert report.waived == ()


@pytest.mark.parametrize(
    ("engine", "what"),
    [("clock", "time.time"), ("order", "iteration over a set"), ("hashed", "hash")],
)
def test_the_engines_that_the_canary_catches_are_found_too(engine: str, what: str) -> None:
    """Check 41: each of both is enough."""
    sources = read(f"tests.streams.unsteady:{engine}")
    found: list[Finding] = list(lint(sources).findings)
    text = Path(sources[0].path).read_text(encoding="utf-8").splitlines()
    starts = next(n for n, line in enumerate(text, 1) if line.startswith(f"def {engine}("))
    assert what in [each.what for each in found if starts < each.line <= starts + 2]
