"""The unit file: what systemd reads in it is what was meant, whatever the names hold."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from runwright.deployment import systemd
from runwright.deployment.job import Job, check, environment, quoted
from runwright.kernel.errors import Usage

ANALYZE = shutil.which("systemd-analyze")
#: Every sign that means something to somebody, and some that do not.
SIGNS = "ab/ %$\"'\\{}~;:@-+!|#=*?[]`&<>()é\N{SNOWMAN}"
WORDS = st.text(SIGNS, min_size=1, max_size=12)
PATHS = st.lists(WORDS, min_size=1, max_size=3).map(lambda parts: "/" + "/".join(parts))


def job(**fields) -> Job:
    """Return a job of a project."""
    given_ = {"spec": "demo", "folder": "/srv/p", "program": ("/usr/bin/env",)}
    return Job(**{**given_, "environment_file": "/srv/p/demo.env", **fields})


def unit(made: Job) -> dict[str, str]:
    """Return the assignments of a unit."""
    text = systemd.files(made)[-1].data.decode()
    lines = [line for line in text.splitlines() if "=" in line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def expanded(text: str) -> str:
    """Return text as systemd expands specifiers; only `%%` stands for something here."""
    found, rest = "", text
    while "%" in rest:
        before, _, rest = rest.partition("%")
        assert rest[:1] == "%", f"a specifier in {text!r}"
        found, rest = f"{found}{before}%", rest[1:]
    return found + rest


def words(line: str) -> list[str]:
    """Split a command line as systemd does: quotes, C escapes, then specifiers.

    systemd.service(5), "Command lines", and systemd.syntax(7), "Quoting".
    """
    found: list[str] = []
    word, quote, signs = None, "", iter(line)
    for sign in signs:
        if quote:
            if sign == quote:
                quote = ""
            elif sign == "\\":
                follower = next(signs)
                assert follower in "\\\"'", f"an escape \\{follower}"
                word = f"{word}{follower}"
            else:
                word = f"{word}{sign}"
        elif sign in " \t":
            if word is not None:
                found.append(word)
            word = None
        elif sign in "\"'" and word is None:
            word, quote = "", sign
        else:
            word = f"{word or ''}{sign}"
    assert not quote, "an open quote"
    return [expanded(text) for text in [*found, *([] if word is None else [word])]]


@given(st.lists(WORDS, min_size=1, max_size=4))
@example(['a "b"', "%h %%", "$HOME ${x}", "\\", "it's", "a\\"])
def test_a_command_line_is_read_as_it_was_meant(given_) -> None:
    """Every word, whatever it holds; `:` before the first switches variables off."""
    line = systemd.command(("/bin/p", *given_))
    assert words(line.removeprefix(":")) == ["/bin/p", *given_]
    assert line.startswith(":")


@given(PATHS)
@example("/a/100% of $HOME")
@example("/a\\")
def test_a_working_folder_is_read_as_it_was_meant(path) -> None:
    """Or it is refused with its reason: a path that a line cannot carry."""
    try:
        value = unit(job(folder=path))["WorkingDirectory"]
    except Usage:
        assert path != path.strip() or path.endswith("\\")
        return
    assert expanded(value) == path
    assert value.startswith("/")


@given(PATHS)
def test_a_file_of_variables_is_read_as_it_was_meant(path) -> None:
    """It is taken for a pattern, so one that could be is refused."""
    try:
        value = unit(job(environment_file=path))["EnvironmentFile"]
    except Usage:
        assert set(path) & set("*?[\\") or path != path.strip()
        return
    assert expanded(value) == path


@pytest.mark.parametrize("program", ["/a/'b", '/a/"b', "/a\\b"])
def test_a_program_that_systemd_would_not_start_is_refused(program) -> None:
    """Its own rule for the first word."""
    with pytest.raises(Usage, match="systemd starts no program whose path holds quotes"):
        systemd.files(job(program=(program,)))


@pytest.mark.parametrize(
    "fields",
    [{"folder": "/a\nb"}, {"program": ("/a", "b\x1b")}, {"variables": {"SECRET": "x\ny"}}],
    ids=["folder", "program", "variable"],
)
def test_a_control_character_is_refused_and_a_secret_not_printed(fields) -> None:
    """No line of any file could carry it."""
    with pytest.raises(Usage, match="holds a control character") as caught:
        check(job(**fields))
    assert "x\ny" not in str(caught.value)


def test_a_user_that_is_none_is_refused() -> None:
    """It would be another line of the unit."""
    with pytest.raises(Usage, match="--run-as: 'a b' is not the name of a user"):
        systemd.files(job(user="a b"))


@given(st.text(SIGNS + "\t", max_size=12))
@example('it\'s $x `y` "z" \\')
@settings(max_examples=40, deadline=None)
def test_a_shell_reads_a_variable_as_it_was_meant(value) -> None:
    """The file serves cron through sh, and systemd, whose rules for it are the same."""
    done = subprocess.run(
        ["sh", "-c", f'X={quoted(value)}; printf %s "$X"'], capture_output=True, check=True
    )
    assert done.stdout.decode() == value


def test_no_secret_is_shown_and_none_stands_in_the_unit() -> None:
    """It stands in the file of variables alone, which only its owner may read."""
    made = job(variables={"PGPASSWORD": "hunter22", "PGHOST": "db"}, public=frozenset({"PGHOST"}))
    files = systemd.files(made)
    assert [file.mode for file in files] == [0o600, 0o644]
    assert [b"hunter22" in file.data for file in files] == [True, False]
    assert not any("hunter22" in file.shown for file in files)
    assert "PGHOST='db'" in environment(made).shown


@pytest.mark.external
@pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize("is_session", [False, True], ids=["machine", "session"])
@pytest.mark.parametrize("name", ["plain", "100% \"odd\" 'name' $HOME", "é ~ {x};"])
def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path, name, is_session) -> None:
    """Not a word: it warns of what it does not know, and of what it would ignore."""
    folder = tmp_path / name
    folder.mkdir()
    made = job(folder=str(folder), environment_file=f"{folder}/x.env", is_session=is_session)
    assert verified(tmp_path, systemd.files(made)[-1].data) == (0, "")


@pytest.mark.external
@pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize(
    ("was", "is_", "says"),
    [
        ("WatchdogSec=120", "WatchdogSec=often", "ignoring"),
        ("KillMode=mixed", "KillMode=some", "ignoring"),
        ("LockPersonality", "LockEverything", "ignoring"),
        ("/usr/bin/env", "/usr/bin/no such", "is not executable"),
    ],
)
def test_a_wrong_unit_is_caught(tmp_path, was, is_, says) -> None:
    """The control: each is wrong in one way, and named."""
    text = systemd.files(job())[-1].data.decode()
    assert was in text
    assert says in verified(tmp_path, text.replace(was, is_).encode())[1]


def verified(folder: Path, data: bytes) -> tuple[int, str]:
    """Return what `systemd-analyze verify` ends with, and says."""
    file = folder / "runwright-demo.service"
    file.write_bytes(data)
    done = subprocess.run(
        [str(ANALYZE), "verify", file], capture_output=True, text=True, check=False
    )
    return done.returncode, "\n".join(
        line for line in done.stderr.splitlines() if file.name in line or str(folder) in line
    )
