"""A program is an engine by three files: its input, its configuration, its result."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from runwright.kernel.errors import Deferred, InvalidSpec
from runwright.streams import program as programs
from runwright.streams.engine import Result, execute, load
from tests.streams.given import AT_MS, FULL, inputs, request, tick

pytestmark = pytest.mark.slow


def run(script: str, *events: bytes, **fields: object) -> Result:
    """Execute a shell script as an engine."""
    return execute(request(f"cmd: sh -c {shlex.quote(script)}", *events, **fields))


def python(code: str, *events: bytes, **fields: object) -> Result:
    """Execute a Python program that has `config` and leaves `answer`."""
    script = (
        "import json, os\n"
        "config = json.load(open(os.environ['RUNWRIGHT_CONFIG']))\n"
        "lines = open(os.environ['RUNWRIGHT_INPUT'], 'rb').read().splitlines()\n"
        f"{code}\n"
        "json.dump(answer, open(os.environ['RUNWRIGHT_RESULT'], 'w'))\n"
    )
    return execute(request(f"cmd: {sys.executable} -c {shlex.quote(script)}", *events, **fields))


def test_a_program_finds_its_cut_its_snapshot_and_its_configuration() -> None:
    """Events as they arrived, one a line; what was not given as its marker (check 24)."""
    wide = tick().replace(b",", b",\n ")
    code = (
        "seen = {key: config[key] for key in ('symbol', 'engine_timestamp_ms', 'mode', 'state')}\n"
        "answer = {'output': {**seen, 'n': len(lines), 'first': json.loads(lines[0])['symbol'],\n"
        "  'exact': lines[1].decode(), 'price': config['snapshot']['market']['price'],\n"
        "  'cvd': config['snapshot']['flow']['cvd'], 'levels': config['config']['levels'],\n"
        "  'names': sorted(os.environ), 'files': sorted(os.listdir('.'))}}"
    )
    snapshot = inputs(market=FULL["market"])
    result = python(code, wide, snapshot, config='{"levels":[0.5,1]}')
    assert result.error_kind == ""
    assert json.loads(result.output) == {
        "symbol": "TEST",
        "engine_timestamp_ms": AT_MS,
        "mode": "truth",
        "state": None,
        "n": 2,
        "first": "TEST",
        "exact": snapshot.decode(),
        "price": 101.5,
        "cvd": {"__xray_missing__": True},
        "levels": [0.5, 1],
        "names": [
            *("HOME", "LANG", "LC_ALL", "PATH", "PYTHONHASHSEED"),
            *("RUNWRIGHT_CONFIG", "RUNWRIGHT_INPUT", "RUNWRIGHT_RESULT", "TMPDIR"),
        ],
        "files": ["config.json", "input.jsonl"],
    }
    assert result.snapshot_index == 1


def test_a_program_decides_with_its_state() -> None:
    """It is given what its last run left, and a repeated run decides the same."""
    code = (
        "n = (config['state'] or {'n': 0})['n'] + 1\n"
        "answer = {'decision': {'selected_output': {'n': n}}, 'state': {'n': n, 'x': 0.1}}"
    )
    first = python(code, mode="hysteresis")
    assert (first.output, first.state) == ('{"n":1}', '{"n":1,"x":0.1}')
    fields = {"state": first.state, "state_timestamp_ms": AT_MS - 1, "mode": "hysteresis"}
    assert python(code, **fields) == python(code, **fields)
    assert python(code, **fields).output == '{"n":2}'


def test_floats_of_a_program_stay_what_they_are() -> None:
    """They are read from its text, and written as those of any engine."""
    result = run('echo \'{"output":{"a":1.0,"b":1,"c":1e-7,"d":0.1}}\' >"$RUNWRIGHT_RESULT"')
    assert result.output == '{"a":1.0,"b":1,"c":1e-7,"d":0.1}'


@pytest.mark.parametrize(
    ("script", "kind", "detail"),
    [
        ("exit 3", "engine_failure", "ProgramFailed"),
        ("kill -9 $$", "engine_failure", "ProgramKilled"),
        ("true", "engine_output_invalid", "ResultUnreadable"),
        ('echo "[1]" >"$RUNWRIGHT_RESULT"', "engine_output_invalid", "ResultUnreadable"),
        (
            'echo \'{"output":{"a":NaN}}\' >"$RUNWRIGHT_RESULT"',
            "engine_output_invalid",
            "ResultUnreadable",
        ),
        ('echo "{}" >"$RUNWRIGHT_RESULT"', "engine_output_invalid", "NoObject"),
        ('mkfifo "$RUNWRIGHT_RESULT"', "engine_output_invalid", "ResultUnreadable"),
        ('ln -s input.jsonl "$RUNWRIGHT_RESULT"', "engine_output_invalid", "ResultUnreadable"),
        ('mkdir "$RUNWRIGHT_RESULT"', "engine_output_invalid", "ResultUnreadable"),
        (
            '(yes "" | head -n 300000; echo "{}") >"$RUNWRIGHT_RESULT"',
            "engine_output_invalid",
            "ResultUnreadable",
        ),
    ],
)
def test_a_program_that_goes_wrong_fails_its_run(script: str, kind: str, detail: str) -> None:
    """By a name that is the same every time."""
    result = run(script)
    assert (result.output, result.error_kind, result.error_detail) == ("", kind, detail)


def test_a_program_that_is_not_there_fails_its_run() -> None:
    """By the name of the operating system."""
    result = execute(request("cmd: no-such-program"))
    assert (result.error_kind, result.error_detail) == ("engine_failure", "FileNotFoundError")


def test_exit_status_75_asks_to_be_repeated() -> None:
    """As in every command."""
    with pytest.raises(Deferred, match="sh ended with exit status 75: not now"):
        run("exit 75")


def test_what_a_program_leaves_running_ends_with_it(tmp_path: Path) -> None:
    """Also where nobody else would end it; and its folder is removed."""
    pipe = tmp_path / "held"
    subprocess.run(["mkfifo", str(pipe)], check=True)
    reader = subprocess.Popen(["cat", str(pipe)], stdout=subprocess.PIPE)
    script = (
        f'exec 3>"{pipe}"; pwd >&3; sleep 3600 & echo \'{{"output":{{}}}}\' >"$RUNWRIGHT_RESULT"'
    )
    assert run(script).output == "{}"
    # Nothing holds the pipe any more, or this would never end.
    folder = reader.communicate(timeout=20)[0].decode().strip()
    assert folder
    assert not Path(folder).exists()


def test_a_program_that_hangs_in_a_replay_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Live, its worker is ended by the limit of the spec."""
    monkeypatch.setattr(programs, "LIMIT_S", 0.5)
    result = run("sleep 3600")
    assert (result.error_kind, result.error_detail) == ("engine_failure", "TimeoutError")


@pytest.mark.parametrize(("reference", "message"), [("cmd:", "no program"), ("cmd: 'a", "quot")])
def test_a_command_without_words_is_refused(reference: str, message: str) -> None:
    """With the key of the setting."""
    with pytest.raises(InvalidSpec, match=f"engine.ref: cmd:.*{message}"):
        load(reference)
