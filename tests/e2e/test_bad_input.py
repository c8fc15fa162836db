"""Everything that can be wrong, one by one: a clear message, the right status, nothing lost."""

from __future__ import annotations

import contextlib
import hashlib
import os
import resource
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.project import Done, Project, processes

HELLO = "print('hello')\n"
ROOT = os.geteuid() == 0
needs_root = pytest.mark.skipif(not ROOT, reason="mounting needs root")


def refused(done: Done, code: str, *words: str, status: int = 2) -> None:
    """Assert that a command ended with an error of this code whose message holds these words."""
    assert done.status == status, done
    found, message = done.error
    assert found == code
    for word in words:
        assert word in message


# ------------------------------------------------------------------------------------ spec files

TASK = """\
kind: cycles
name: demo
tasks:
  - task_name: a
    agent_id: FINN
    task_config: {function_path: functions/a.py}
"""


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("kind: cycles\nname: demo\nbogus: 1\n", 3, "bogus: unknown key"),
        (TASK + "    bogus: 1\n", 7, "tasks[0].bogus: unknown key"),
        ("kind: cycels\nname: demo\n", 1, "kind: 'cycels' is not a kind; known: cycles"),
        ("name: demo\n", 1, "kind: None is not a kind"),
        ("kind: [cycles]\nname: demo\n", 1, "kind: ['cycles'] is not a kind"),
        ("kind: cycles\nname: demo\nfolder: /tmp\n", 3, "folder: unknown key"),
        ("kind: cycles\n", 1, "Object missing required field `name`"),
        (TASK.replace("    agent_id: FINN\n", ""), 4, "tasks[0]: Object missing required field"),
        ("kind: cycles\nname: 7\n", 2, "name: Expected `str`, got `int`"),
        ("kind: cycles\nname: two words\n", 2, "name: 'two words' is not of letters"),
        ("kind: cycles\nname: demo\nname: again\n", 3, "found duplicate key"),
        ("kind: cycles\nname: demo\n\ttasks: []\n", 3, "found character '\\t'"),
        ("kind: cycles\nname: 'demo\n", 3, "found unexpected end of stream"),
        ("kind: cycles\nname: [demo\n", 3, "expected ',' or ']'"),
        ("kind: cycles\nname: *demo\n", 2, "found undefined alias"),
        ("kind: cycles\nname: demo\nfunction_timeout_s: .nan\n", 3, "function_timeout_s: nan"),
        (
            "kind: cycles\nname: demo\nfunction_timeout_s: 0\n",
            3,
            "function_timeout_s: 0 is not above 0",
        ),
        ("kind: cycles\nname: demo\nschedule: {interval_s: 0}\n", 3, "0 is not from 1"),
        ("kind: cycles\nname: demo\nschedule:\n  interval_s: -5\n", 4, "schedule.interval_s: -5"),
        (
            "kind: cycles\nname: demo\nschedule:\n  interval_s: soon\n",
            4,
            "schedule.interval_s: Expected",
        ),
        ("kind: cycles\nname: demo\nschedule:\n  cron: '61 * * * *'\n", 4, "schedule.cron"),
        (
            "kind: cycles\nname: demo\nschedule:\n  cron: '* * * * *'\n  timezone: Mars/Base\n",
            5,
            "Mars",
        ),
        (
            "kind: cycles\nname: demo\nschedule:\n  cron: '* * * * *'\n  interval_s: 5\n",
            3,
            "exactly one",
        ),
        ("kind: cycles\nname: demo\nretry:\n  attempts: 0\n", 4, "retry.attempts: 0"),
        (TASK.replace("{function_path: functions/a.py}", "{}"), 6, "Missing function_path"),
        (TASK.replace("a.py}", "a.py, timeout_s: '5'}"), 6, "task_config: timeout_s: Expected"),
        (TASK.replace("a.py}", "a.py, timeout_s: 0}"), 6, "timeout_s: 0 is not within"),
        (TASK.replace("a.py}", "a.py, env: [A=B]}"), 6, "env: 'A=B' is not the name of a variable"),
        (TASK.replace("a.py}", "a.py, secret: [KEY]}"), 6, "secret: KEY is not granted by env"),
        (TASK.replace("a.py}", "a.py, network: [nowhere]}"), 6, "network: "),
        (TASK.replace("a.py}", 'a.py, args: ["a\\0b"]}'), 6, "holds a NUL byte"),
        (
            TASK.replace("function_path: functions/a.py", "command: [ls], warm: true"),
            6,
            "warm: goes",
        ),
        (TASK.replace("a.py}", "a.py, warm: {imports: []}}"), 6, "warm.imports: 0 names"),
        (TASK.replace("a.py}", "a.py, warm: {imports: [a-b]}}"), 6, "'a-b' is not the name of a"),
        (TASK.replace("a.py}", "a.py, warm: {import: [a]}}"), 6, "unknown field `import`"),
        (TASK.replace("a.py}", "a.py, warm: yes please}"), 6, "warm: Expected"),
        (TASK + TASK[TASK.index("  - ") :], 7, "tasks[1].task_name: a is declared twice"),
        (TASK.replace("name: a\n", "name: '../a'\n"), 4, "task_name: '../a' is not a name"),
    ],
)
def test_a_spec_that_is_wrong_is_named_with_file_line_and_key(
    project: Project, text: str, line: int, said: str
) -> None:
    """Nothing is applied and nothing is recorded."""
    file = project.write("bad.yaml", text)
    done = project.run("apply", file)
    refused(done, "invalid-spec", f"{file}:{line}: ", said)
    assert [entry["type"] for entry in project.entries()] == ["ledger.opened"]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"kind: cycles\nname: \xff\xfe\n", "bad.yaml:2: not UTF-8 text"),
        (b"kind: cycles\nname: de\0mo\n", "bad.yaml:2: a NUL byte"),
        (b"", "bad.yaml: a spec is a mapping"),
        (b"- kind: cycles\n", "bad.yaml: a spec is a mapping"),
        (b"kind: cycles\n---\nkind: cycles\n", "bad.yaml:2: "),
        (b"a: " + b"[" * 1200, "bad.yaml"),
        (b"#" * (5 << 20), "bad.yaml: 5242880 bytes; a spec file has at most 4194304"),
    ],
)
def test_a_file_that_is_no_spec_is_refused(project: Project, data: bytes, said: str) -> None:
    """Bytes that are not text, text that is no mapping, too much of it."""
    refused(project.run("apply", project.write("bad.yaml", data)), "invalid-spec", said)


def test_a_spec_file_that_cannot_be_read_is_named(project: Project) -> None:
    """It is not there, or it is a folder."""
    refused(project.run("apply", "none.yaml"), "invalid-spec", "none.yaml: No such file")
    refused(project.run("apply", "."), "invalid-spec", "Is a directory")


# -------------------------------------------------------------------------------------- registry


def test_an_empty_registry_is_no_success(project: Project) -> None:
    """No row, no enabled row: 2, and the record says that the tick was refused."""
    project.apply()
    said = "No tasks found: task_registry has no enabled row of task_type VISION_FUNCTION"
    refused(project.run("run", "demo"), "unknown-name", said)
    project.apply(project.task("a", HELLO, enabled=False))
    refused(project.run("run", "demo"), "unknown-name", said)
    refused(project.run("run", "demo", "--dry-run"), "unknown-name", said)
    assert [body["code"] for body in project.bodies("tick.refused")] == ["unknown-name"] * 2
    (newest, _) = project.done("show", "--json").json
    assert newest["outcome"] == "refused"
    assert said in newest["reason"]


def test_an_unknown_function_is_named_with_those_that_there_are(project: Project) -> None:
    """A disabled one is called disabled."""
    project.apply(
        project.task("a", HELLO), project.task("b", HELLO), project.task("c", HELLO, enabled=False)
    )
    done = project.run("run", "demo", "--function", "nope")
    refused(done, "unknown-name", "there is no function 'nope'; enabled functions: a, b")
    done = project.run("run", "demo", "--function", "c")
    refused(done, "unknown-name", "the function 'c' is disabled in task_registry")
    dry = project.run("run", "demo", "--function", "nope", "--dry-run")
    refused(dry, "unknown-name", "there is no function 'nope'")
    assert len(project.bodies("tick.refused")) == 2


# ----------------------------------------------------------------------------------------- paths


def outside(project: Project) -> Path:
    """Return a script beside the project, which no spec in it may run."""
    path = project.base / "outside.py"
    path.write_text("import pathlib\npathlib.Path(__file__).with_suffix('.ran').touch()\n")
    return path


def test_a_function_outside_the_root_is_refused_whatever_way_it_leads(project: Project) -> None:
    """Dots, an absolute path, a link to a file, a link to a folder; none of them starts."""
    script = outside(project)
    project.write("functions/x.py", HELLO)
    (project.folder / "link.py").symlink_to(script)
    (project.folder / "linked").symlink_to(project.base)
    paths = {
        "dots": "../outside.py",
        "absolute": str(script),
        "link": "link.py",
        "folder": "linked/outside.py",
    }
    project.apply(*(project.task(name, function_path=path) for name, path in paths.items()))
    dry = project.run("run", "demo", "--dry-run")
    assert dry.status == 2
    assert dry.stderr.count(f"out of the root {project.folder}") == 4
    assert dry.stderr.count("through a link") == 2
    done = project.done("run", "demo", "--json", status=5)
    assert done.json["outcome"] == "FAILED"
    reasons = {body["key"]: body["reason"] for body in project.bodies("run.finished")}
    assert reasons == dict.fromkeys(paths, "refused")
    assert not script.with_suffix(".ran").exists()


def test_a_path_that_is_no_file_is_refused(project: Project) -> None:
    """Missing, a folder, a dangling link, a link to itself."""
    (project.folder / "folder.py").mkdir()
    (project.folder / "dangling.py").symlink_to("nowhere.py")
    (project.folder / "circle.py").symlink_to("circle.py")
    names = ("missing", "folder", "dangling", "circle")
    project.apply(*(project.task(name, function_path=f"{name}.py") for name in names))
    dry = project.run("run", "demo", "--dry-run")
    assert dry.status == 2
    for name in ("missing", "dangling", "circle"):
        assert f"{name}: Function file not found: {project.folder / name}.py" in dry.stderr
    assert "folder: function_path folder.py is not a file" in dry.stderr
    project.done("run", "demo", status=5)


def test_a_link_that_stays_inside_the_root_is_followed(project: Project) -> None:
    """The record has the file that really ran, with its digest."""
    project.write("functions/real.py", HELLO)
    (project.folder / "alias.py").symlink_to("functions/real.py")
    project.apply(project.task("a", function_path="alias.py"))
    project.done("run", "demo")
    (run,) = project.done("show", "demo", "--json").json["runs"]
    assert run["work"]["script"] == {
        "path": str(project.folder / "functions" / "real.py"),
        "root": str(project.folder),
        "digest": hashlib.sha256(HELLO.encode()).hexdigest(),
    }


def test_a_script_that_changes_between_plan_and_start_does_not_run(project: Project) -> None:
    """The first function rewrites the second, replaces the third by a link, removes the fourth."""
    script = outside(project)
    source = f"""
import pathlib
here = pathlib.Path(__file__).parent
(here / "b.py").write_text("print('other')")
(here / "c.py").unlink()
(here / "c.py").symlink_to({str(script)!r})
(here / "d.py").unlink()
"""
    names = ("a", "b", "c", "d", "e")
    # At T1 it could not: what is granted to write is not where scripts stand.
    first = project.task("a", source, level="T0")
    project.apply(first, *(project.task(name, HELLO) for name in names[1:]))
    project.done("run", "demo", status=5)
    runs = {run["key"]: run for run in project.done("show", "demo", "--json").json["runs"]}
    assert [runs[name]["status"] for name in names] == [
        "done",
        "failed",
        "failed",
        "failed",
        "done",
    ]
    assert runs["b"]["reason"] == "changed"
    assert runs["b"]["message"].endswith("b.py changed after it was planned")
    assert runs["c"]["reason"] in ("changed", "outside-root")
    assert runs["d"]["message"].endswith("d.py was removed after it was planned")
    assert not script.with_suffix(".ran").exists()
    # The next plan sees what stands there now, and says so by another digest.
    project.sql("UPDATE task_registry SET enabled = 0 WHERE task_name IN ('a', 'c', 'd', 'e')")
    project.done("run", "demo")
    (again,) = project.done("show", "latest", "--json").json["runs"]
    assert again["work"]["script"]["digest"] != runs["b"]["work"]["script"]["digest"]


# ---------------------------------------------------------------------------------------- output


def test_output_that_is_no_text_is_kept_as_it_is(project: Project) -> None:
    """NUL bytes and invalid UTF-8: the bytes are kept, and every view of them is valid JSON."""
    source = "import os\nos.write(1, b'\\0\\xff\\xfe Z\\xc3\\xbcrich \\xed\\xa0\\x80\\n')\n"
    project.apply(project.task("a", source))
    done = project.run("run", "demo", "--json")
    assert (done.status, done.json["outcome"]) == (0, "COMPLETED")
    told = project.evidence()["results"][0]["stdout"]
    assert told.startswith("\0\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER} Zürich")
    (blob,) = project.done("show", "demo", "--json").json["runs"][0]["outputs"]
    assert blob["whole_size"] == 16
    kept = project.sql("SELECT data FROM blob WHERE digest = ?", blob["digest"])[0][0]
    assert kept == b"\0\xff\xfe Z\xc3\xbcrich \xed\xa0\x80\n"
    assert "\0" not in project.done("show", "demo").stdout


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("open(path, 'w').write('{')", "the result is not JSON"),
        ("open(path, 'wb').write(b'\\xff')", "the result is not JSON"),
        ("open(path, 'w').write('[1]')", "the result is not a JSON object"),
        ("open(path, 'w').write('{\"n\": NaN}')", "the result is not JSON"),
        ("open(path, 'w').write('{\"n\": 99999999999999999999}')", "the result"),
        ("open(path, 'w').write('{\"n\": \"' + 'x' * 300000 + '\"}')", "the result is longer than"),
        ("os.mkfifo(path)", "the result is not a plain file"),
        ("os.symlink('/etc/hostname', path)", "the result cannot be read"),
        ("os.mkdir(path)", "the result is not a plain file"),
    ],
)
def test_a_result_that_is_no_result_fails_the_function(
    project: Project, source: str, said: str
) -> None:
    """Its output and what it used are kept all the same."""
    project.apply(
        project.task("a", f"import os\npath = os.environ['RUNWRIGHT_RESULT']\n{source}\n{HELLO}")
    )
    project.done("run", "demo", status=5)
    (run,) = project.done("show", "demo", "--json").json["runs"]
    assert (run["status"], run["reason"]) == ("failed", "result")
    assert said in run["message"]
    assert run["outputs"][0]["tail"] == "hello\n"
    assert run["used"]["exit"] == 0


@pytest.mark.slow
def test_200_megabytes_of_output_are_bounded_and_committed_to_whole(project: Project) -> None:
    """The blob is bounded, its digest covers all of it, and memory does not grow with it."""
    source = (
        "import os\nline = b'0123456789abcde\\n' * 4096\nfor _ in range(3200): os.write(1, line)\n"
    )
    project.apply(project.task("a", source), project.task("b", HELLO))
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    done = project.done("run", "demo", "--json", within_s=60)
    assert done.json["outcomes"] == {"done": 2}
    first, second = project.done("show", "demo", "--json").json["runs"]
    (blob,) = first["outputs"]
    assert blob["whole_size"] == 3200 * 4096 * 16
    assert blob["size"] <= 2 << 20
    assert blob["tail"].endswith("0123456789abcde\n")
    assert project.store.stat().st_size < 8 << 20
    assert second["status"] == "done"
    assert max(before, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) < 200 << 10


def test_a_function_that_ignores_sigterm_is_killed_after_its_grace(
    project: Project, tmp_path: Path
) -> None:
    """The timeout holds, and nothing of the tree is left."""
    marker = f"deaf-{tmp_path.name}"
    source = """
import signal, time
signal.signal(signal.SIGTERM, lambda *_: print("not me", flush=True))
print("up", flush=True)
while True: time.sleep(1)
"""
    limits = {"grace_s": 0.3}
    project.apply(
        project.task("a", source, args=[marker], timeout_s=0.5, limits=limits),
        project.task("b", HELLO),
    )
    done = project.done("run", "demo", "--json", status=5)
    assert done.json["outcomes"] == {"failed": 1, "done": 1}
    assert processes(marker) == []
    (run, _) = project.done("show", "demo", "--json").json["runs"]
    assert run["reason"] == "timeout"
    assert run["outputs"][0]["tail"] == "up\nnot me\n"
    assert 800 <= run["used"]["duration_ms"] < 5000


# ------------------------------------------------------------------------------------- the store


@contextlib.contextmanager
def mounted(*words: str, at: Path) -> Iterator[None]:
    """Mount something for as long as it is needed."""
    done = subprocess.run(["mount", *words, str(at)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"mount: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(at)], check=True)


@needs_root
def test_a_full_disk_stops_the_conductor_and_loses_nothing(
    project: Project, tmp_path: Path
) -> None:
    """A real file system that a function fills: 4, and the next start goes on from what is kept."""
    small = tmp_path / "small"
    small.mkdir()
    with mounted("-t", "tmpfs", "-o", "size=2m", "tmpfs", at=small):
        shutil.copytree(project.folder / ".runwright", small / "kept")
        stuff = small / "stuff"
        fill = f"""
import os
with open({str(stuff)!r}, "wb") as file:
    try:
        while True: os.write(file.fileno(), bytes(4096))
    except OSError as error:
        print(error)
"""
        env = {
            "RUNWRIGHT_STORE_PATH": str(small / "kept" / "store.db"),
            "RUNWRIGHT_SIGNER_KEYS": str(small / "kept" / "keys"),
        }
        stuff.touch()
        second = project.task("b", fill, write=[str(stuff)])
        project.spec(project.task("a", HELLO), second, project.task("c", HELLO))
        project.done("apply", "demo.yaml", env=env)
        done = project.run("run", "demo", env=env)
        assert done.status == 4, done
        code, message = done.error
        assert code in ("store-unwritable", "commit-unknown")
        assert "store.db" in message
        assert "full" in message
        again = project.run("run", "demo", env=env)
        assert again.status == 4, again
        stuff.unlink()
        project.done("apply", "demo.yaml", env=env)
        shown = project.done("show", "demo", "--json", env=env).json
        assert shown["outcome"] == "INTERRUPTED"
        assert [run["status"] for run in shown["runs"]] == ["done", "interrupted", "skipped"]
        project.sql("SELECT 1")
        assert project.run("doctor", "--json", env=env).json


def test_a_store_that_may_not_grow_stops_the_conductor(project: Project) -> None:
    """The same by a limit of file size, for who is not root."""
    project.apply(project.task("a", "print('x' * 300000)\n"))
    size = project.store.stat().st_size

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    done = project.run("run", "demo", before=limit)
    assert done.status == 4, done
    assert done.error[0] in ("store-unwritable", "commit-unknown")
    project.done("apply", "demo.yaml")
    labels = [body["label"] for body in project.bodies("round.judged")]
    assert labels in ([], ["INTERRUPTED"])
    assert project.done("run", "demo", "--json").json["outcome"] == "COMPLETED"


@needs_root
def test_a_read_only_store_can_be_read_and_not_written(project: Project) -> None:
    """By a bind mount, since root ignores modes: what writes ends with 4, what reads works."""
    project.apply(project.task("a", HELLO))
    project.done("run", "demo")
    kept = project.store.parent
    with mounted("--bind", str(kept), at=kept):
        subprocess.run(["mount", "-o", "remount,ro,bind", str(kept)], check=True)
        for words in (("run", "demo"), ("apply", "demo.yaml"), ("exec", "--", "true")):
            done = project.run(*words)
            assert done.status == 4, (words, done)
            code, message = done.error
            assert code == "store-unwritable"
            assert "read-only file system" in message.lower()
        assert project.done("show", "demo", "--json").json["outcome"] == "COMPLETED"
        assert project.done("run", "demo", "--dry-run").status == 0
        assert project.done("show", "ledger").status == 0
        assert project.done("db", "check").status == 0
        assert project.done("verify", "--store").status == 0
        doctor = project.run("doctor", "--json")
        assert doctor.status == 4
        assert any(each["state"] == "problem" for each in doctor.json)
    assert project.done("run", "demo", "--json").json["outcome"] == "COMPLETED"


def test_a_store_of_a_newer_version_is_left_alone(project: Project) -> None:
    """Every command says which version it is and which one this is."""
    project.sql("PRAGMA user_version = 99")
    before = dict(project.everything())
    said = "was written by a newer version of Runwright (schema 99; this one reads 3)"
    project.spec(project.task("a", HELLO))
    for words in (
        *(("show",), ("run", "demo"), ("run", "demo", "--dry-run"), ("apply", "demo.yaml")),
        *(("db", "check"), ("db", "migrate"), ("ledger", "head"), ("verify", "--store")),
    ):
        refused(project.run(*words), "store-version", said)
    doctor = project.run("doctor")
    assert (doctor.status, said in doctor.stdout) == (4, True)
    assert dict(project.everything()) == before


def test_a_file_that_is_no_store_is_left_alone(project: Project) -> None:
    """Text, another program's database, an empty file."""
    project.store.write_text("this is not a database, it is a text of some length\n" * 20)
    refused(project.run("show"), "store-missing", "is not a Runwright store")
    refused(project.run("run", "demo"), "store-missing", "is not a Runwright store")
    project.store.unlink()
    project.sql("CREATE TABLE t (x)")
    refused(project.run("show"), "store-missing", "is not a Runwright store")
    project.store.write_bytes(b"")
    refused(project.run("show"), "store-missing", "is not a Runwright store")


def test_a_damaged_store_halts(project: Project) -> None:
    """A page of zeros in the middle: 4, and the hint says to keep the file."""
    project.apply(project.task("a", HELLO))
    for _ in range(3):
        project.done("run", "demo")
    data = bytearray(project.store.read_bytes())
    for page in range(2, len(data) // 4096):
        data[page * 4096 : page * 4096 + 200] = bytes(200)
    project.store.write_bytes(bytes(data))
    done = project.run("run", "demo")
    assert done.status == 4, done
    assert done.error[0] == "store-corrupt"
    assert project.run("doctor").status == 4


# -------------------------------------------------------------------------------- the signer


def test_a_rolled_back_copy_of_the_store_halts_until_it_is_adopted(project: Project) -> None:
    """4 and the two sizes; `ledger adopt` says so in the ledger, and work goes on."""
    project.apply(project.task("a", HELLO))
    project.done("run", "demo")
    older = project.store.read_bytes()
    size = len(project.entries())
    project.done("run", "demo")
    project.store.write_bytes(older)

    for words in (("run", "demo"), ("apply", "demo.yaml"), ("exec", "--", "true")):
        done = project.run(*words)
        refused(done, "rollback-detected", status=4)
        assert "`runwright ledger adopt --reason TEXT`" in done.stderr
        assert str(size) in done.error[1]
        assert str(size + 5) in done.error[1]
    assert len(project.entries()) == size
    doctor = project.run("doctor")
    assert doctor.status == 4
    assert project.done("show", "demo").status == 0
    assert project.done("verify", "--store").status == 0

    found = project.done("ledger", "adopt", "--reason", "disk replaced", "--json").json
    assert (found["found_size"], found["remembered_size"]) == (size, size + 5)
    (adopted,) = project.bodies("ledger.adopted")
    assert adopted["reason"].startswith("disk replaced")
    assert project.done("run", "demo", "--json").json["outcome"] == "COMPLETED"
    assert project.done("doctor").status == 0
    assert project.done("verify", "--store").status == 0


def test_a_store_that_took_another_road_halts(
    project: Project, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """As long as the one that was sealed, and different from it."""
    project.apply(project.task("a", HELLO))
    other = project.copy_to(tmp_path_factory.mktemp("other"))
    for each in (project, other):
        each.done("run", "demo")
    assert len(project.entries()) == len(other.entries())
    project.store.write_bytes(other.store.read_bytes())
    refused(project.run("run", "demo"), "rollback-detected", status=4)


@pytest.mark.parametrize("damage", ["removed", "garbage", "of another ledger"])
def test_a_lost_memory_of_the_signer_halts_until_it_is_adopted(
    project: Project, tmp_path: Path, damage: str
) -> None:
    """Nobody can say whether the store is the newest: a person decides, on the record."""
    project.done("exec", "--", "true")
    (memory,) = (project.state / "runwright").glob("*.memory")
    if damage == "removed":
        memory.unlink()
    elif damage == "garbage":
        memory.write_bytes(os.urandom(1024))
    else:
        other = Project(tmp_path / "other")
        other.done("init", "--name", "other")
        memory.write_bytes(next((other.state / "runwright").glob("*.memory")).read_bytes())
    done = project.run("exec", "--", "true")
    refused(done, "signer-memory-lost", status=4)
    assert "Restore the signer's memory" in done.stderr
    assert len(project.bodies("round.planned")) == 1
    project.done("ledger", "adopt", "--reason", "new machine")
    assert project.bodies("ledger.adopted")[0]["remembered_size"] == -1
    project.done("exec", "--", "true")
    assert project.done("doctor").status == 0


def test_a_missing_key_is_named(project: Project) -> None:
    """Nothing can be sealed, so nothing starts."""
    key = project.folder / ".runwright" / "keys" / "ledger.key"
    key.rename(key.with_suffix(".away"))
    done = project.run("exec", "--", "true")
    assert done.status == 2
    assert str(key) in done.error[1]
    doctor = project.run("doctor")
    assert f"{key} is missing" in doctor.stdout
    assert doctor.status == 4


def test_an_entry_altered_behind_the_back_is_found_and_named(project: Project) -> None:
    """Triggers forbid it, so it takes somebody who drops them; text in place of bytes is no way."""
    project.apply(project.task("a", HELLO))
    project.done("run", "demo")
    project.sql("DROP TRIGGER entry_is_never_edited")
    project.sql("UPDATE entry SET raw = replace(raw, 'done', 'dune') WHERE seq = 6")
    report = project.run("verify", "--store", "--json")
    assert report.status == 6
    assert report.json["first_bad"] == 6
    project.sql("UPDATE entry SET raw = 'no entry at all' WHERE seq = 6")
    assert project.run("verify", "--store").status == 6
    shown = project.run("show", "demo")
    assert (shown.status, shown.error[0]) == (4, "store-corrupt")
    project.sql("UPDATE entry SET raw = 'no entry at all' WHERE seq = 0")
    ran = project.run("run", "demo")
    assert (ran.status, ran.error[0]) == (4, "store-corrupt")


def test_papers_that_cannot_be_delivered_wait(project: Project) -> None:
    """The cycle is recorded and sealed; the evidence leaves when it can."""
    project.write("out", "a file where the folder should be")
    project.apply(project.task("a", HELLO))
    done = project.run("run", "demo", "--json")
    assert done.json["outcome"] == "COMPLETED"
    (waiting,) = project.done("show", "outbox", "--json").json
    assert waiting["name"].startswith("evidence/CYCLE_")
    assert waiting["attempts"] >= 1
    (project.folder / "out").unlink()
    project.sql("UPDATE paper SET next_ms = 0")
    project.done("apply", "demo.yaml")
    assert project.evidence()["cycle_status"] == "COMPLETED"
    assert project.done("show", "outbox", "--json").json == []
