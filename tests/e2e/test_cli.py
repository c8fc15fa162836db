"""Every command as a user gives it: what it prints, how it ends, what it changes."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

import runwright
from runwright.adapters.commands import best_level
from tests.e2e.project import Done, Project

HELLO = "print('hello')\n"


def refused(done: Done, code: str, *words: str, status: int = 2) -> None:
    """Assert that a command ended with an error of this code whose message holds these words."""
    assert done.status == status, done
    found, message = done.error
    assert found == code
    for word in words:
        assert word in message


# ------------------------------------------------------------------------------------------ init


def test_init_makes_keys_a_store_and_an_open_sealed_ledger(tmp_path: Path) -> None:
    """Private keys are for their owner alone; the first entry opens the ledger and is sealed."""
    project = Project(tmp_path)
    made = project.done("init", "--name", "first", "--json").json
    assert made["origin"].startswith("runwright.local/first/")
    keys = project.folder / ".runwright" / "keys"
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in keys.glob("*.key")}
    assert modes == {"ledger.key": 0o600, "evidence.key": 0o600}
    assert [entry["type"] for entry in project.entries()] == ["ledger.opened"]
    assert project.sql("SELECT size FROM seal") == [(1,)]
    assert list((project.state / "runwright").glob("*.memory"))
    assert (project.folder / ".gitignore").read_text() == ".runwright/\nout/\n"
    assert (project.folder / "runwright.toml").read_text().startswith("# Settings")


def test_init_takes_a_folder_and_names_the_ledger_after_it(tmp_path: Path) -> None:
    """The folder is made when it is not there."""
    project = Project(tmp_path)
    made = project.done("init", "deep/below", "--json").json
    assert made["folder"] == str(project.folder / "deep" / "below")
    assert made["origin"].startswith("runwright.local/below/")


def test_init_never_touches_a_project_that_is_there(project: Project) -> None:
    """A second init is refused and leaves the store and the keys as they are."""
    before = dict(project.everything())
    refused(project.run("init"), "usage", "There is a store at")
    assert dict(project.everything()) == before


def test_init_refuses_a_name_that_no_checkpoint_could_hold(tmp_path: Path) -> None:
    """The name is the first line of every seal."""
    project = Project(tmp_path)
    refused(project.run("init", "--name", "two words"), "usage", "--name: 'two words'")
    assert not project.store.exists()


def test_a_command_outside_a_project_says_how_to_make_one(tmp_path: Path) -> None:
    """There is no store, and nothing is created by asking."""
    project = Project(tmp_path)
    for words in (("show",), ("run", "demo"), ("run", "demo", "--dry-run"), ("doctor",)):
        done = project.run(*words)
        assert "There is no store at" in done.stderr + done.stdout
        assert "`runwright init` makes one" in done.stderr + done.stdout
        assert done.status == (4 if words == ("doctor",) else 2)
    assert not list(project.folder.iterdir())


# ----------------------------------------------------------------------------------------- apply


def test_apply_records_the_spec_and_its_rows_and_says_what_changed(project: Project) -> None:
    """The canonical spec is pinned in the ledger, and applying it again changes nothing."""
    first = project.apply(project.task("a", HELLO), project.task("b", HELLO))
    assert first.stdout == "cycles/demo: applied (2 added)\n"
    assert project.bodies("spec.applied")[0]["rows"] == {"added": 2, "changed": 0, "disabled": 0}
    size = len(project.entries())
    again = project.done("apply", "demo.yaml", "--json").json
    assert again == [{"name": "demo", "kind": "cycles", "changed": False, "rows": {}}]
    assert len(project.entries()) == size


def test_applying_again_disables_what_is_declared_no_more(project: Project) -> None:
    """A row is never deleted: what ran under its name stays explained."""
    project.apply(project.task("a", HELLO), project.task("b", HELLO))
    done = project.apply(project.task("a", HELLO, timeout_s=5))
    assert done.stdout == "cycles/demo: applied (1 changed, 1 disabled)\n"
    rows = project.sql(
        "SELECT task_name, enabled FROM task_registry WHERE spec_name > '' ORDER BY task_id"
    )
    assert rows == [("a", 1), ("b", 0)]
    plan = project.done("run", "demo", "--dry-run", "--json").json
    assert [run["function"] for run in plan["runs"]] == ["a"]
    again = project.apply(project.task("a", HELLO, timeout_s=5), project.task("b", HELLO))
    assert again.stdout == "cycles/demo: applied (1 changed)\n"
    assert project.done("run", "demo", "--json").json["outcomes"] == {"done": 2}


def test_apply_checks_every_file_before_it_applies_one(project: Project) -> None:
    """One bad file of two, and nothing was applied."""
    good = project.spec(project.task("a", HELLO), name="good")
    bad = project.write("bad.yaml", "kind: cycles\nname: bad\nbogus: 1\n")
    refused(project.run("apply", good, bad), "invalid-spec", "bad.yaml:3: bogus: unknown key")
    assert project.sql("SELECT count(*) FROM spec") == [(0,)]


def test_two_specs_may_not_declare_one_function(project: Project) -> None:
    """The registry has one row for a name, and the spec that declares it is named."""
    project.apply(project.task("a", HELLO), name="one")
    project.spec(project.task("a", HELLO), name="two")
    refused(project.run("apply", "two.yaml"), "invalid-spec", "a is declared by the spec one too")


def test_a_spec_runs_its_own_functions_and_not_those_of_another(project: Project) -> None:
    """Two specs in one project share the registry; rows nobody declared belong to both."""
    project.apply(project.task("a", HELLO), name="one")
    project.apply(project.task("b", HELLO), name="two")
    project.sql(
        "INSERT INTO task_registry (task_name, task_type, agent_id, task_config)"
        " VALUES (?, ?, ?, ?)",
        *("c", "VISION_FUNCTION", "STIG", json.dumps({"command": ["true"]})),
    )
    for name, functions in (("one", ["a", "c"]), ("two", ["b", "c"])):
        plan = project.done("run", name, "--dry-run", "--json").json
        assert [run["function"] for run in plan["runs"]] == functions


# ------------------------------------------------------------------------------------------- run


def test_run_answers_with_one_json_document_and_messages_beside_it(project: Project) -> None:
    """The document is on stdout, stderr is JSON lines, and both tell one story."""
    project.apply(project.task("a", HELLO))
    done = project.done("run", "demo", "--json")
    assert done.json["outcome"] == "COMPLETED"
    assert done.json["outcomes"] == {"done": 1}
    assert done.json["exit"] == 0
    names = [event["event"] for event in done.events]
    assert names == ["round.planned", "run.started", "run.finished", "round.judged"]
    assert {event["level"] for event in done.events} == {"info"}
    assert all(event["ts"] > 1_700_000_000_000 for event in done.events)
    assert done.events[0]["label"] == done.json["label"]


def test_run_without_json_ends_with_where_to_look(project: Project) -> None:
    """The evidence is there when the command says that it is."""
    project.apply(project.task("a", HELLO))
    lines = project.done("run", "demo").stdout.splitlines()
    label = lines[0].split()[0]
    assert lines[0].split()[1:] == ["COMPLETED", "1", "done"]
    assert Path(lines[1].removeprefix("evidence  ")).is_file()
    assert lines[2] == f"look      runwright show {label}"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--interval", "5"), "--interval: goes with --continuous"),
        (("--continuous", "--interval", "0"), "--interval: 0 is not above 0"),
        (("--continuous", "--interval", "-3"), "--interval: -3 is not above 0"),
        (("--continuous", "--interval", "abc"), "'abc' is not a valid integer"),
        (("--continuous", "--dry-run"), "--dry-run: does not go with --continuous"),
        (("--continuous", "--function", "a"), "--function: does not go with --continuous"),
        (("--continuous", "--at", "2026-01-01"), "--at: does not go with --continuous"),
        (("--at", "tomorrow"), "--at: 'tomorrow' is not an instant in ISO 8601"),
        (("--at", ""), "--at: '' is not an instant"),
        (("--function", ""), "--function: '' is no name of a function"),
        (("--bogus",), "No such option"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(
    project: Project, words: tuple[str, ...], said: str
) -> None:
    """Nothing is recorded, and the option is named."""
    project.apply(project.task("a", HELLO))
    size = len(project.entries())
    refused(project.run("run", "demo", *words), "usage", said)
    assert len(project.entries()) == size


def test_a_spec_that_was_never_applied_is_named(project: Project) -> None:
    """Also by a dry run and by --continuous."""
    for words in ((), ("--dry-run",), ("--continuous",)):
        done = project.run("run", "nothing", *words)
        refused(done, "unknown-name", "no cycles spec of the name 'nothing' was applied")
        done = project.run("run", "demo", "--kind", "gate", *words)
        refused(done, "usage", "'--kind': 'gate' is not one of 'cycles', 'streams'")


# ------------------------------------------------------------------------------------------ exec


def test_exec_runs_any_command_as_a_sealed_run(project: Project) -> None:
    """Its output comes out as it is, our words go to stderr, and its status is ours."""
    done = project.run("exec", "--", "/bin/sh", "-c", "echo out; echo err >&2; exit 7")
    assert done.status == 7
    assert done.stdout == "out\n"
    assert "err\n" in done.stderr
    assert "exit status 7 (exit 7)" in done.stderr
    (judged,) = project.bodies("round.judged")
    assert (judged["status"], judged["label"]) == ("FAIL", "FAILED")
    assert project.sql("SELECT max(size) FROM seal") == [(len(project.entries()),)]


def test_exec_passes_options_of_the_command_on(project: Project) -> None:
    """What follows `--` is not ours, whatever it looks like."""
    done = project.done("exec", "--", "printf", "%s.", "--json", "--timeout", "a b")
    assert done.stdout == "--json.--timeout.a b."


def test_exec_says_how_a_child_ended(project: Project) -> None:
    """A timeout is 124, a signal 128 and its number."""
    slow = project.run("exec", "--timeout", "0.2", "--", "sleep", "600")
    assert slow.status == 124
    assert "no end after 0.2 s" in slow.stderr
    killed = project.run("exec", "--", "sh", "-c", "kill -9 $$")
    assert killed.status == 137
    assert "ended by SIGKILL" in killed.stderr


def test_exec_grants_what_is_asked_for_and_nothing_else(project: Project) -> None:
    """A variable is absent unless it is granted; a secret is masked in what is shown and kept."""
    env = {"PLAIN": "seen", "TOKEN": "sk-very-secret", "OTHER": "unseen"}
    done = project.done("exec", "--env", "PLAIN", "--secret", "TOKEN", "--", "env", env=env)
    assert "PLAIN=seen" in done.stdout
    assert "OTHER" not in done.stdout
    assert "TOKEN=" in done.stdout
    assert "sk-very-secret" not in done.stdout + done.stderr
    assert all(b"sk-very-secret" not in data for _, data in project.everything())


def test_exec_of_a_program_that_is_not_there_is_refused(project: Project) -> None:
    """Nothing ran, and the record says that it was planned and could not start."""
    done = project.run("exec", "--", "no-such-program")
    assert done.status == 5
    assert "command not found: no-such-program" in done.stderr
    (finished,) = project.bodies("run.finished")
    assert (finished["status"], finished["reason"]) == ("failed", "refused")


def test_exec_works_in_the_folder_where_it_is_given(project: Project) -> None:
    """Not in the scratch folder and not in the project's."""
    inner = project.folder / "inner"
    inner.mkdir()
    assert project.done("exec", "--", "pwd", folder=inner).stdout.strip() == str(inner)


@pytest.mark.skipif(best_level() != "T1", reason="needs Landlock of Linux 6.12 and seccomp")
def test_exec_writes_only_where_it_may_and_says_so(project: Project) -> None:
    """What was in the way is told; --write grants it, --level T0 asks for less on the record."""
    (project.folder / "out").mkdir(exist_ok=True)
    command = ("--", "sh", "-c", "echo x >out/file")
    denied = project.run("exec", *command)
    assert denied.status == 2
    assert "Permission denied" in denied.stderr
    assert "At level T1 a function writes only to its scratch folder" in denied.stderr
    assert "writes only to its scratch folder" in project.done("show", "latest").stdout
    assert "scratch folder" not in project.run("exec", "--", "sh", "-c", "exit 3").stderr
    assert not (project.folder / "out" / "file").exists()
    project.done("exec", "--write", "out", *command)
    (project.folder / "out" / "file").unlink()
    project.done("exec", "--level", "T0", *command)
    assert (project.folder / "out" / "file").read_text() == "x\n"
    assert [body["level"] for body in project.bodies("run.finished")] == ["T1", "T1", "T1", "T0"]


@pytest.mark.skipif(best_level() != "T1", reason="needs Landlock of Linux 6.12 and seccomp")
def test_exec_without_a_network_has_none(project: Project) -> None:
    """Held at T1 and refused at T0, where nothing would hold it."""
    source = "import socket; socket.socket()"
    done = project.run("exec", "--network", "none", "--", "python3", "-c", source)
    assert done.status == 1
    assert "PermissionError" in done.stderr
    done = project.run("exec", "--network", "none", "--level", "T0", "--", "true")
    assert done.status == 5
    assert "network none cannot be held at T0" in done.stderr


# ------------------------------------------------------------------------------------------ show


def test_show_of_an_empty_project_says_what_to_do(project: Project) -> None:
    """Every list has words for nothing."""
    assert "Nothing ran yet" in project.done("show").stdout
    assert "No spec was applied yet" in project.done("show", "schedule").stdout
    assert "The outbox is empty" in project.done("show", "outbox").stdout
    refused(
        project.run("show", "latest"), "unknown-name", "nothing in the record is called 'latest'"
    )


def test_show_finds_a_run_by_every_name_it_has(project: Project) -> None:
    """Label, round id, the start of one, run id, seq, spec and `latest` name the same run."""
    project.apply(project.task("a", HELLO))
    ran = project.done("run", "demo", "--json").json
    shown = project.done("show", "latest", "--json").json
    run = shown["runs"][0]["run"]
    names = (
        ran["label"],
        shown["round"],
        shown["round"][:8],
        run,
        run[:8],
        shown["seq"][0],
        "demo",
    )
    for name in names:
        assert project.done("show", name, "--json").json["round"] == shown["round"], name


def test_show_prints_the_tail_of_an_output_and_writes_all_of_it(project: Project) -> None:
    """Control characters of a function do not drive the terminal; --output gives the bytes."""
    project.apply(project.task("a", "print('x' * 5000)\nprint('\\x1b[2Jend')\n"))
    project.done("run", "demo")
    text = project.done("show", "latest").stdout
    assert "\x1b" not in text
    assert "\N{REPLACEMENT CHARACTER}[2Jend" in text
    assert "x" * 3000 not in text
    whole = project.done("show", "latest", "--output", "stdout").stdout
    assert whole == "x" * 5000 + "\n\x1b[2Jend\n"
    assert project.done("show", "latest", "--output", "stderr", "--function", "a").stdout == ""


def test_show_ledger_lists_the_newest_entries(project: Project) -> None:
    """The head says how much there is and how much of it is sealed."""
    project.apply(project.task("a", HELLO))
    project.done("run", "demo")
    found = project.done("show", "ledger", "--limit", "3", "--json").json
    assert [entry["type"] for entry in found["entries"]][-2:] == [
        "round.judged",
        "state.reconciled",
    ]
    size = len(project.entries())
    assert (found["size"], found["sealed_size"]) == (size, size)
    assert found["checkpoint"].startswith(f"{found['origin']}\n{size}\n")
    assert f"{size} entries, sealed up to {size}" in project.done("show", "ledger").stdout


def test_show_schedule_names_the_next_occurrences(project: Project) -> None:
    """In UTC, three of them, on the grid of the interval."""
    project.apply(project.task("a", HELLO), schedule={"cron": "0 6 * * *"})
    (row,) = project.done("show", "schedule", "--json").json
    assert row["schedule"] == "cron 0 6 * * * (UTC)"
    assert [instant[10:] for instant in row["next"]] == ["T06:00:00Z"] * 3
    assert row["last"] is None


# ------------------------------------------------------------------- config, db, doctor, ledger


def test_config_says_where_each_value_comes_from(project: Project) -> None:
    """A flag wins over the environment, that over the file, that over the default."""
    project.write("runwright.toml", '[store]\npath = ".runwright/store.db"\n')
    rows = project.done(
        *("--set", "signer.every_s=2", "config", "show", "--origin", "--json"),
        env={"RUNWRIGHT_FILES_FOLDER": "papers", "RUNWRIGHT_SIGNER_EVERY_S": "3"},
    ).json
    found = {row["name"]: (row["value"], row["origin"]) for row in rows}
    assert found["signer.every_s"] == (2.0, "flag")
    assert found["files.folder"] == ("papers", "environment RUNWRIGHT_FILES_FOLDER")
    file = f"file {project.folder / 'runwright.toml'}"
    assert found["store.path"] == (".runwright/store.db", file)
    assert found["messages.level"] == ("info", "default")


def test_settings_that_are_not_settings_are_refused(project: Project) -> None:
    """A key that does not exist, a value of another type, one out of bounds."""
    done = project.run("--set", "store.pth=x", "show")
    refused(done, "invalid-setting", "flag: unknown key 'store.pth'")
    done = project.run("--set", "conductor.outbox_max=many", "show")
    refused(done, "invalid-setting", "flag: conductor.outbox_max: Expected `int`, got `str`")
    done = project.run("show", env={"RUNWRIGHT_CONDUCTOR_DRAIN_S": "-1"})
    refused(done, "invalid-setting", "environment RUNWRIGHT_CONDUCTOR_DRAIN_S")
    refused(project.run("--set", "novalue", "show"), "usage", "--set novalue: give NAME=VALUE")
    project.write("runwright.toml", "[store]\npaht = 'x'\n")
    refused(project.run("show"), "invalid-setting", "runwright.toml: unknown key 'store.paht'")
    project.write("runwright.toml", "[store\n")
    refused(project.run("show"), "invalid-setting", "runwright.toml: ")


def test_db_check_and_migrate_say_what_they_found(project: Project) -> None:
    """A sound store of this version has no problems and nothing to migrate."""
    found = project.done("db", "check", "--json").json
    assert (found["schema"], found["problems"]) == (3, [])
    assert project.done("db", "migrate", "--json").json["migrated"] == []
    assert "nothing to do" in project.done("db", "migrate").stdout


def test_doctor_finds_nothing_wrong_with_a_new_project(project: Project) -> None:
    """Every finding is ok or a note."""
    found = project.done("doctor", "--json").json
    assert {each["state"] for each in found} <= {"ok", "note"}
    looked_at = {"python", "sqlite", "isolation", "store", "space", "conductor", "keys", "signer"}
    assert looked_at <= {each["what"] for each in found}


def test_doctor_sees_a_key_that_others_may_read(project: Project) -> None:
    """It exits 4 and says what to do."""
    (project.folder / ".runwright" / "keys" / "ledger.key").chmod(0o644)
    done = project.run("doctor")
    assert done.status == 4
    assert "may be read by others: chmod 600" in done.stdout
    refused(project.run("exec", "--", "true"), "refused", "may be read by others (mode 0644)")


def test_doctor_sees_a_scheduler_that_is_dead(project: Project) -> None:
    """An occurrence that nobody recorded is late, once there was one that somebody did."""
    project.apply(project.task("a", HELLO), schedule={"interval_s": 60})
    project.sql("UPDATE spec SET applied_ms = applied_ms - 600000, since_ms = since_ms - 600000")
    done = project.run("doctor", "--json")
    (late,) = [each for each in done.json if each["what"] == "schedule"]
    assert "demo: " in late["detail"]
    assert "due and not recorded" in late["detail"]


def test_ledger_shows_its_head_entries_proofs_and_keys(project: Project) -> None:
    """Each for an auditor, as JSON and as the standard text."""
    head = project.done("ledger", "head").stdout
    assert head.splitlines()[1] == "1"
    assert project.done("ledger", "head", "--json").json["checkpoint"] == head
    entry = project.done("ledger", "entry", "0").json
    assert entry["type"] == "ledger.opened"
    raw = project.done("ledger", "entry", "0", "--raw").stdout.rstrip("\n")
    assert raw.encode() == project.sql("SELECT raw FROM entry")[0][0]
    refused(project.run("ledger", "entry", "9"), "unknown-name", "there is no entry 9")
    proof = project.done("ledger", "proof", "0", "--json").json["proof"]
    assert proof.startswith("c2sp.org/tlog-proof@v1\nindex 0\n")
    refused(project.run("ledger", "proof", "5"), "usage", "entry 5 is not sealed; 1 entries are")
    roles = [key["role"] for key in project.done("ledger", "keys", "--json").json]
    assert roles == ["seal", "bundle"]


def test_ledger_rotates_its_key_and_goes_on(project: Project) -> None:
    """The new key is introduced under the old one, whose public half is kept."""
    found = project.done("ledger", "rotate-key", "--json").json
    assert found["old"] != found["new"]
    types = [entry["type"] for entry in project.entries()]
    assert types == ["ledger.opened", "key.added", "key.retired"]
    roles = [key["role"] for key in project.done("ledger", "keys", "--json").json]
    assert sorted(roles) == ["bundle", "retired", "seal"]
    project.done("exec", "--", "true")
    assert project.done("doctor").status == 0


def test_ledger_erases_captured_output_and_says_so(project: Project) -> None:
    """The bytes are gone from the store and from what shows them; a pinned thing stays."""
    project.apply(project.task("a", "print('embarrassing words')"))
    project.done("run", "demo")
    shown = project.done("show", "latest", "--json").json
    (blob,) = shown["runs"][0]["outputs"]
    done = project.done("ledger", "erase", blob["digest"], "--reason", "a request", "--json")
    assert done.json == {"erased": blob["digest"]}
    assert project.bodies("blob.erased") == [{"digest": blob["digest"], "reason": "a request"}]
    assert "(erased)" in project.done("show", "demo").stdout
    refused(
        project.run("ledger", "erase", shown["spec"], "--reason", "no"), "usage", "pinned: proofs"
    )
    refused(project.run("ledger", "erase", "0" * 64, "--reason", "no"), "usage", "is not kept")


def test_adopting_a_store_that_nobody_doubts_is_refused(project: Project) -> None:
    """There is nothing to adopt, and no entry says that there was."""
    refused(project.run("ledger", "adopt", "--reason", "why not"), "usage", "nothing to adopt")
    assert len(project.entries()) == 1


# ------------------------------------------------------------------------------------ everywhere


JSON_COMMANDS: tuple[tuple[str, ...], ...] = (
    ("apply", "demo.yaml"),
    ("run", "demo"),
    ("run", "demo", "--dry-run"),
    ("run", "demo", "--function", "a"),
    ("exec", "--json", "--", "true"),
    ("show",),
    ("show", "runs"),
    ("show", "latest"),
    ("show", "ledger"),
    ("show", "schedule"),
    ("show", "outbox"),
    ("config", "show"),
    ("config", "show", "--origin"),
    ("db", "check"),
    ("db", "migrate"),
    ("doctor",),
    ("ledger", "head"),
    ("ledger", "entry", "0"),
    ("ledger", "proof", "0"),
    ("ledger", "keys"),
    ("verify", "--store"),
    ("ledger", "rotate-key"),
)


@pytest.mark.slow
def test_every_command_prints_one_json_document(project: Project) -> None:
    """--json gives a document that parses, nothing beside it on stdout, and status 0."""
    project.apply(project.task("a", HELLO), schedule={"interval_s": 3600})
    project.done("run", "demo")
    for words in JSON_COMMANDS:
        done = project.run(*words, *(() if "--json" in words else ("--json",)))
        assert done.status == 0, (words, done)
        assert isinstance(done.json, dict | list), words


def test_an_error_is_json_too_when_json_was_asked_for(project: Project) -> None:
    """Code, message and hint on stdout, and the same words on stderr."""
    done = project.run("show", "nothing-here", "--json")
    assert done.status == 2
    assert done.json["error"]["code"] == "unknown-name"
    assert "nothing-here" in done.json["error"]["message"]
    assert done.error[0] == "unknown-name"
    usage = project.run("run", "--json")
    assert usage.json["error"]["code"] == "usage"
    assert "NAME" in usage.json["error"]["message"]


def test_version_and_help_name_every_command(tmp_path: Path) -> None:
    """Help needs no project."""
    project = Project(tmp_path)
    assert project.done("--version").stdout == f"runwright {runwright.__version__}\n"
    help_text = project.done("--help").stdout
    commands = "init apply run exec show export verify doctor ledger config db".split()
    assert all(f"\n  {name} " in help_text for name in commands)
    for name in set(commands) - {"export"}:
        assert "Usage: " in project.done(name, "--help").stdout


def test_an_unknown_command_is_a_usage_error(tmp_path: Path) -> None:
    """With the status of every misuse."""
    refused(Project(tmp_path).run("frobnicate"), "usage", "No such command 'frobnicate'")


def test_a_reader_that_goes_away_is_no_defect(project: Project) -> None:
    """`runwright show | head` ends quietly."""
    project.apply(*(project.task(f"a{n}", HELLO) for n in range(3)))
    project.done("run", "demo")
    read, write = os.pipe()
    os.close(read)
    import subprocess  # lazy: this test alone needs a stdout of its own

    done = subprocess.run(
        project._argv(("show", "latest")),
        cwd=project.folder,
        env=project.environment,
        stdout=write,
        stderr=subprocess.PIPE,
        timeout=30,
    )
    os.close(write)
    assert done.returncode == 0
    assert done.stderr == b""


def test_a_command_works_in_the_folder_that_it_is_told(project: Project, tmp_path: Path) -> None:
    """-C works from anywhere, and so does any folder below the project."""
    below = project.folder / "a" / "b"
    below.mkdir(parents=True)
    assert "Nothing ran yet" in project.done("show", folder=below).stdout
    assert "Nothing ran yet" in project.done("-C", project.folder, "show", folder=tmp_path).stdout
