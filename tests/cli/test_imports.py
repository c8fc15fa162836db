"""A command must start fast, so what it imports is a promise."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

#: Packages that take from 40 ms to a second to import, and that no start may pay for.
BANNED = frozenset(["numpy", "scipy", "pydantic", "sqlalchemy", "structlog", "rich", "psycopg"])

_SHOW = "import json, sys; print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
_VERSION = """
import atexit, sys
sys.argv = ["runwright", "--version"]
atexit.register(lambda: show())
def show():
    {show}
from runwright.cli.main import main
main()
"""


def imported(script: str) -> set[str]:
    """Return the top-level packages that a fresh interpreter holds after a script."""
    environment = {name: text for name, text in os.environ.items() if "COVERAGE" not in name}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(f"import runwright.cli\n{_SHOW}", id="the package"),
        pytest.param(f"import runwright.cli.main\n{_SHOW}", id="the entry point"),
        pytest.param(f"import runwright.cli.run, runwright.cli.show\n{_SHOW}", id="run and show"),
        pytest.param(_VERSION.format(show=_SHOW), id="--version"),
    ],
)
def test_a_start_imports_none_of_the_slow_packages(script):
    """Importing the command line, and asking for the version, brings in no slow package."""
    assert imported(script) & BANNED == set()


def test_a_slow_package_would_be_seen():
    """The same look finds a banned package that is imported: the test can fail."""
    assert imported(f"import runwright.cli.main, rich\n{_SHOW}") & BANNED == {"rich"}


def test_a_conductor_imports_cryptography_only_while_a_child_runs():
    """What `run` imports before its first child starts holds no cryptography."""
    script = f"import runwright.cli.run, runwright.kernel.drive.conductor\n{_SHOW}"
    assert "cryptography" not in imported(script)


@pytest.mark.parametrize(
    ("words", "clicks"),
    [
        pytest.param(["run", "nobody"], False, id="a plain run"),
        pytest.param(["run", "nobody", "--json", "--function", "f"], False, id="with options"),
        pytest.param(["run", "nobody", "--kind", "cycles"], True, id="another option"),
        pytest.param(["show"], True, id="another command"),
    ],
)
def test_a_plain_run_needs_no_click(tmp_path, words, clicks):
    """From its start to its error a plain `run` imports no click; whatever else is said does."""
    script = f"""
import atexit, os, sys
sys.argv = ["runwright", "--project", {str(tmp_path)!r}, *{words!r}]
def show():
    {_SHOW}
    sys.stdout.flush()
    os._exit(0)
atexit.register(show)
from runwright.cli.main import main
main()
"""
    assert ("click" in imported(script)) is clicks


def test_msgspec_comes_without_typing_extensions_and_leaves_it_to_others():
    """It is not there after the import of msgspec, and whoever wants it then gets it."""
    start = "from runwright.cli.startup import import_msgspec\nimport_msgspec()\n"
    assert "msgspec" in imported(start + _SHOW)
    assert "typing_extensions" not in imported(start + _SHOW)
    assert "typing_extensions" in imported(f"{start}import typing_extensions\n{_SHOW}")
    assert "typing_extensions" in imported(f"import msgspec\n{_SHOW}")


def test_what_few_commands_use_is_imported_once_it_is_used():
    """A module that was put off stands for itself until something of it is asked for."""
    script = """
import os, sys
from runwright.cli.startup import LATER, Later, import_msgspec, put_off
put_off()
import_msgspec()
import msgspec, pathlib, uuid
assert all(type(sys.modules[name]) is Later for name in LATER), sys.modules
import ipaddress, platform, textwrap
assert platform.system() == os.uname().sysname
assert type(sys.modules["platform"]) is Later
assert platform.machine() == os.uname().machine
assert textwrap.dedent("  a") == "a"
assert str(ipaddress.ip_address("::1")) == "::1"
assert msgspec.inspect.type_info(int) == msgspec.inspect.IntType()
assert msgspec.json.schema(list[int])["type"] == "array"
assert not any(type(sys.modules[name]) is Later for name in LATER), sys.modules
import platform as again
assert again.__file__
print("[]")
"""
    assert imported(script) == set()


def test_what_is_imported_already_is_left_alone():
    """Nothing that somebody holds is put away, whoever imports the command line."""
    script = f"""
import platform, textwrap
from runwright.cli.startup import put_off
put_off()
import sys
assert sys.modules["platform"] is platform and platform.__file__
assert sys.modules["textwrap"] is textwrap and textwrap.__file__
{_SHOW}
"""
    assert "platform" in imported(script)


def test_a_conductor_imports_what_ends_a_cycle_only_while_a_child_runs():
    """Before its first child there is nothing of templates, reconciliation, keys and people."""
    script = """
import json, sys
import runwright.cli.run, runwright.kernel.drive.conductor, runwright.adapters.places
import runwright.adapters.agents, runwright.cycles
wanted = ("cycles.reconcile", "cycles.snapshots", "cycles.discrepancy", "adapters.templates",
          "adapters.pool", "kernel.people", "kernel.drive.agents", "kernel.record.log")
print(json.dumps([name for name in wanted if f"runwright.{name}" in sys.modules]))
"""
    assert imported(script) == set()


@pytest.mark.parametrize(
    ("command", "wiring"),
    [
        ("run", ["project"]),
        ("show", ["project"]),
        ("verify", ["project"]),
        ("key", ["project"]),
        ("export", ["bundles", "project"]),
        ("db", ["database", "project"]),
        ("streams", ["project", "streams"]),
        ("stream_run", ["bells", "conducting", "project", "streaming", "streams", "transports"]),
    ],
)
def test_a_command_imports_the_wiring_that_it_needs_and_no_store(command, wiring):
    """What only some of its ways need comes when one of them is gone; no store comes before."""
    script = f"""
import json, sys
import runwright.cli.{command}
room = "runwright.bootstrap."
names = [name.removeprefix(room) for name in sys.modules if name.startswith(room)]
print(json.dumps(names + [name for name in ("sqlite3", "psycopg") if name in sys.modules]))
"""
    assert imported(script) == set(wiring)
