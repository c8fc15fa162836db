"""One cycle, from the registry to the evidence: order, isolation, statuses, what is recorded."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from runwright.adapters.commands import best_level
from tests.e2e.project import Project, processes, until

HELLO = "print('hello')\n"
#: The isolation level that this machine holds.
BEST = best_level()
FAIL = "import sys\nprint('half')\nsys.exit('it went wrong')\n"
#: Writes its own name into a file of the project, one line each time it runs.
TRACE = """
import json, os, pathlib
config = json.load(open(os.environ["RUNWRIGHT_CONFIG"]))
with open(pathlib.Path(__file__).parent.parent / "effects" / "trace", "a") as file:
    file.write(config["word"] + "\\n")
"""


def trace(project: Project) -> list[str]:
    """Return what the functions wrote, in order."""
    path = project.folder / "effects" / "trace"
    return path.read_text().split() if path.exists() else []


# ------------------------------------------------------------------------------ what is recorded


def test_a_cycle_is_recorded_before_between_and_after_its_functions(project: Project) -> None:
    """START is durable before the first function, END follows the last; all of it is sealed."""
    project.apply(project.task("a", HELLO), project.task("b", HELLO))
    project.done("run", "demo")
    types = [entry["type"] for entry in project.entries()]
    assert types[types.index("round.planned") :] == [
        *("round.planned", "run.started", "run.finished"),
        *("run.started", "run.finished", "round.judged", "state.reconciled"),
    ]
    assert project.sql("SELECT max(size) FROM seal") == [(len(project.entries()),)]


def test_a_function_finds_its_start_in_the_record(project: Project) -> None:
    """While it runs, round.planned and its own run.started are committed already."""
    source = f"""
import sqlite3
store = sqlite3.connect({str(project.store)!r})
for (raw,) in store.execute("SELECT raw FROM entry ORDER BY seq"):
    print(raw[raw.rfind(b'"type"'):].decode())
"""
    project.apply(project.task("a", source, level="T0"))
    project.done("run", "demo")
    seen = project.done("show", "demo", "--output", "stdout").stdout
    types = re.findall(r'"type":"([a-z.]+)"', seen)
    assert types[-2:] == ["round.planned", "run.started"]


def test_the_evidence_has_the_keys_of_the_seed(project: Project) -> None:
    """Counts, results in order, and what each function used and said."""
    result = "import json, os\njson.dump({'n': 3}, open(os.environ['RUNWRIGHT_RESULT'], 'w'))\n"
    project.apply(
        project.task("a", HELLO + result, agent_id="FINN", priority=2),
        project.task("b", FAIL, agent_id="STIG", priority=1),
    )
    label = project.done("run", "demo", "--json", status=5).json["label"]
    evidence = project.evidence(label)
    assert evidence["cycle_id"] == label
    assert evidence["orchestrator_version"] == "1.0.0"
    assert evidence["hash_chain_id"] == f"HC-LARS-ORCHESTRATOR-{label}"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", evidence["execution_timestamp"])
    counts = [evidence[name] for name in ("tasks_executed", "success_count", "failure_count")]
    assert counts == [2, 1, 1]
    assert evidence["cycle_status"] == "COMPLETED_WITH_FAILURES"
    first, second = evidence["results"]
    assert (first["task_name"], first["agent_id"]) == ("b", "STIG")
    assert (first["success"], first["exit_code"], first["error"]) == (False, 1, "exit status 1")
    assert (first["stdout"], first["stderr"]) == ("half\n", "it went wrong\n")
    assert (second["task_name"], second["success"], second["exit_code"]) == ("a", True, 0)
    assert second["stdout"] == "hello\n"
    assert second["result"] == {"n": 3}
    assert 0 < second["execution_time_seconds"] < 30
    assert second["peak_memory_kib"] > 1000
    assert second["cpu_seconds"] >= 0


def test_a_function_is_told_what_the_contract_says(project: Project) -> None:
    """Run id, attempt, planned time, configuration and a place for the result; nothing else."""
    source = """
import json, os
found = dict(os.environ)
found["config"] = json.load(open(found["RUNWRIGHT_CONFIG"]))
found["cwd"] = os.getcwd()
json.dump(found, open(os.environ["RUNWRIGHT_RESULT"], "w"))
"""
    project.apply(project.task("a", source, window=48, write=["effects"]))
    project.done("run", "demo", "--at", "2024-02-29T06:00:00Z")
    shown = project.done("show", "demo", "--json").json
    (run,) = shown["runs"]
    found = run["value"]["result"]
    assert found["RUNWRIGHT_RUN_ID"] == run["run"]
    assert found["RUNWRIGHT_ATTEMPT"] == "1"
    assert found["RUNWRIGHT_SCHEDULED_AT"] == "2024-02-29T06:00:00Z"
    assert found["config"] == {
        "function_path": "functions/a.py",
        "window": 48,
        "write": ["effects"],
    }
    assert found["cwd"] == str(project.folder / "functions")
    names = {name for name in found if name.isupper() and not name.startswith("RUNWRIGHT_")}
    assert names - {"LC_CTYPE"} == {"PATH", "LANG", "LC_ALL", "HOME", "TMPDIR"}


# ----------------------------------------------------------------------------------------- order


def test_functions_run_by_priority_then_as_registered(project: Project) -> None:
    """A missing priority is last; the plan prints the same order."""
    wishes = {"none": None, "two": 2, "minus": -1, "two_more": 2, "last": None, "ten": 10}
    project.apply(
        *(
            project.task(name, TRACE, word=name, **({} if wish is None else {"priority": wish}))
            for name, wish in wishes.items()
        )
    )
    order = ["minus", "two", "two_more", "ten", "none", "last"]
    plan = project.done("run", "demo", "--dry-run", "--json").json
    assert [run["function"] for run in plan["runs"]] == order
    assert [run["order"] for run in plan["runs"]] == [1, 2, 3, 4, 5, 6]
    project.done("run", "demo")
    assert trace(project) == order


def test_functions_of_a_cycle_never_run_side_by_side(project: Project) -> None:
    """The second starts when the first has ended, not before."""
    gate = project.gate()
    second = project.gate("second")
    project.apply(project.task("a", gate.source), project.task("b", second.announce))
    running = project.start("run", "demo")
    gate.wait_begun()
    assert not second.begun()
    gate.let_go()
    second.wait_begun()
    assert running.end().status == 0


# -------------------------------------------------------------------------------------- statuses


@pytest.mark.parametrize(
    ("sources", "outcome", "status"),
    [
        ((HELLO, HELLO), "COMPLETED", 0),
        ((HELLO, FAIL), "COMPLETED_WITH_FAILURES", 5),
        ((FAIL, HELLO), "COMPLETED_WITH_FAILURES", 5),
        ((FAIL, FAIL), "FAILED", 5),
        ((FAIL,), "FAILED", 5),
    ],
)
def test_the_status_of_a_cycle_follows_from_its_functions(
    project: Project, sources: tuple[str, ...], outcome: str, status: int
) -> None:
    """One failure does not stop the others, and all failing is not "with failures"."""
    project.apply(*(project.task(f"f{n}", source) for n, source in enumerate(sources)))
    done = project.done("run", "demo", "--json", status=status)
    assert done.json["outcome"] == outcome
    assert sum(done.json["outcomes"].values()) == len(sources)
    assert project.evidence()["cycle_status"] == outcome


def test_a_cycle_that_was_stopped_is_interrupted(project: Project) -> None:
    """What ran stays as it ended, what did not is skipped, and the status is the signal's."""
    gate = project.gate()
    project.apply(
        project.task("a", HELLO), project.task("b", gate.source), project.task("c", HELLO)
    )
    running = project.start("run", "demo", "--json", env={"RUNWRIGHT_CONDUCTOR_DRAIN_S": "0"})
    gate.wait_begun()
    running.send(15)
    done = running.end()
    assert done.status == 143
    assert done.json["outcome"] == "INTERRUPTED"
    assert done.json["outcomes"] == {"done": 1, "interrupted": 1, "skipped": 1}
    assert done.json["stopped"] == "signal"
    evidence = project.evidence()
    assert evidence["cycle_status"] == "INTERRUPTED"
    assert [result["status"] for result in evidence["results"]] == [
        "done",
        "interrupted",
        "skipped",
    ]
    assert [result["exit_code"] for result in evidence["results"]] == [0, None, None]


def test_a_signal_that_finds_everything_done_in_time_leaves_nothing_undone(
    project: Project,
) -> None:
    """The last function may finish: the cycle is complete and the status 0."""
    gate = project.gate()
    project.apply(project.task("a", gate.source))
    running = project.start("run", "demo", "--json")
    gate.wait_begun()
    running.send(2)
    gate.let_go()
    done = running.end()
    assert (done.status, done.json["outcome"]) == (0, "COMPLETED")


def test_ctrl_c_ends_with_its_own_status(project: Project) -> None:
    """130 for SIGINT that left work undone."""
    gate = project.gate()
    project.apply(project.task("a", gate.source))
    running = project.start("run", "demo", env={"RUNWRIGHT_CONDUCTOR_DRAIN_S": "0"})
    gate.wait_begun()
    running.send(2)
    assert running.end().status == 130


# ---------------------------------------------------------------------------------------- limits


def test_a_timeout_ends_the_whole_tree_and_keeps_what_was_said(
    project: Project, tmp_path: Path
) -> None:
    """Also a grandchild in a session of its own that holds stdout; the next function runs."""
    marker = f"runaway-{tmp_path.name}"
    source = f"""
import subprocess, sys, time
print("partial", flush=True)
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", {marker!r}],
                 start_new_session=True)
print("grandchild is up", flush=True)
time.sleep(600)
"""
    project.apply(project.task("a", source, timeout_s=1), project.task("b", HELLO))
    done = project.done("run", "demo", "--json", status=5)
    assert done.json["outcome"] == "COMPLETED_WITH_FAILURES"
    assert processes(marker) == []
    first, second = project.done("show", "demo", "--json").json["runs"]
    assert (first["status"], first["reason"]) == ("failed", "timeout")
    assert first["message"].startswith("no end after 1 s; the process tree was ended")
    assert first["outputs"][0]["tail"] == "partial\ngrandchild is up\n"
    assert first["used"]["duration_ms"] >= 1000
    assert first["used"]["exit"] is None
    assert second["status"] == "done"


def test_a_function_without_a_timeout_has_five_minutes(project: Project) -> None:
    """The spec may say otherwise for all, and a task for itself; the plan shows each."""
    tasks = (project.task("a", HELLO), project.task("b", HELLO, timeout_s=600))
    project.apply(*tasks)
    plan = project.done("run", "demo", "--dry-run", "--json").json
    assert [run["timeout_s"] for run in plan["runs"]] == [300, 600]
    project.apply(*tasks, function_timeout_s=7.5)
    plan = project.done("run", "demo", "--dry-run", "--json").json
    assert [run["timeout_s"] for run in plan["runs"]] == [7.5, 600]


def test_a_function_is_held_to_its_resource_limits(project: Project) -> None:
    """Memory, CPU seconds and file size; how it ended says which."""
    project.apply(
        project.task("memory", "b = bytearray(1 << 30)\n", limits={"memory_mib": 256}),
        project.task("cpu", "while True: pass\n", limits={"cpu_s": 1}),
        project.task(
            "file",
            "import os\nopen(os.environ['TMPDIR'] + '/big', 'wb').write(bytes(4 << 20))\n",
            limits={"file_mib": 1},
        ),
    )
    project.done("run", "demo", status=5)
    runs = {run["key"]: run for run in project.done("show", "demo", "--json").json["runs"]}
    assert {run["status"] for run in runs.values()} == {"failed"}
    stderr = project.done("show", "demo", "--output", "stderr", "--function", "memory").stdout
    assert "MemoryError" in stderr
    assert runs["cpu"]["message"] == "ended by SIGXCPU, its limit of CPU seconds"
    # The kernel holds the limit against whole ticks, each charged to whoever runs when it comes;
    # what is recorded is the time that was really used, on a busy machine less than that.
    assert 100 <= runs["cpu"]["used"]["cpu_ms"] <= 3000
    assert runs["file"]["reason"] in ("exit", "signal")


def test_what_a_function_left_behind_is_ended_with_it(project: Project, tmp_path: Path) -> None:
    """A daemon that outlives its function is killed, and the record says that there was one."""
    marker = f"daemon-{tmp_path.name}"
    source = f"""
import subprocess, sys
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", {marker!r}],
                 start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
"""
    project.apply(project.task("a", source))
    project.done("run", "demo")
    assert processes(marker) == []
    (run,) = project.done("show", "demo", "--json").json["runs"]
    assert run["message"] == "1 of its processes outlived it and were killed"


@pytest.mark.parametrize(
    ("demand", "said"),
    [
        ({"network": "none", "level": "T0"}, "network none cannot be held at T0"),
        (
            {"network": ["localhost:5432"], "level": BEST},
            f"network localhost:5432 cannot be held at {BEST}",
        ),
        ({"write": ["missing"]}, "write: {folder}/missing does not exist"),
        (
            {"write": [".runwright/scratch"]},
            (
                "write: {folder}/.runwright/scratch would give {folder}/.runwright/scratch away; "
                "grant a folder beside it"
            ),
        ),
        (
            {"write": ["."]},
            (
                "write: {folder} would give {folder}/.runwright/store.db away; "
                "grant a folder beside it"
            ),
        ),
        (
            {"write": [".runwright/keys/new"]},
            "write: {folder}/.runwright/keys/new does not exist",
        ),
    ],
)
def test_a_demand_that_cannot_be_held_is_refused(
    project: Project, demand: dict[str, object], said: str
) -> None:
    """Before the function starts, on the record, and in a dry run already."""
    project.apply(project.task("a", TRACE, word="ran", **demand))
    said = said.format(folder=project.folder)
    (project.folder / ".runwright" / "scratch").mkdir(exist_ok=True)
    dry = project.run("run", "demo", "--dry-run")
    assert dry.status == 2
    assert f"cannot run: a: {said}" in dry.stderr
    project.done("run", "demo", status=5)
    (finished,) = project.bodies("run.finished")
    assert (finished["reason"], finished["message"]) == ("refused", said)
    assert trace(project) == []


# ----------------------------------------------------------------------------------------- retry


def test_a_function_that_exits_75_is_repeated_as_the_spec_says(project: Project) -> None:
    """Each attempt knows its number; the last one counts, and the others stay on the record."""
    source = """
import os, sys
print("attempt", os.environ["RUNWRIGHT_ATTEMPT"])
sys.exit(0 if os.environ["RUNWRIGHT_ATTEMPT"] == "3" else 75)
"""
    retry = {"attempts": 3, "min_s": 0.01, "max_s": 0.02}
    project.apply(project.task("a", source), project.task("b", HELLO), retry=retry)
    done = project.done("run", "demo", "--json")
    assert done.json["outcome"] == "COMPLETED"
    assert [body["attempt"] for body in project.bodies("run.deferred")] == [1, 2]
    assert [result["attempts"] for result in project.evidence()["results"]] == [3, 1]
    assert project.evidence()["results"][0]["stdout"] == "attempt 3\n"


def test_a_function_that_asks_too_often_fails(project: Project) -> None:
    """With the reason that it gave last; other statuses are never repeated."""
    project.apply(
        project.task("a", "raise SystemExit(75)\n"),
        project.task("b", TRACE + "raise SystemExit(74)\n", word="b"),
        retry={"attempts": 2, "min_s": 0.01, "max_s": 0.01},
    )
    project.done("run", "demo", status=5)
    first, second = project.done("show", "demo", "--json").json["runs"]
    assert (first["status"], first["reason"], first["attempts"]) == ("failed", "deferred", 2)
    assert (second["status"], second["reason"], second["attempts"]) == ("failed", "exit", 1)
    assert trace(project) == ["b"]


# --------------------------------------------------------------------------------------- dry run


def test_a_dry_run_changes_nothing(project: Project) -> None:
    """No row, no byte of any file, and no function starts."""
    project.apply(project.task("a", TRACE, word="a"))
    project.done("run", "demo")
    counts, before = project.counts(), dict(project.everything())
    project.done("run", "demo", "--dry-run")
    project.done("run", "demo", "--dry-run", "--json", "--function", "a")
    assert project.counts() == counts
    assert dict(project.everything()) == before
    assert trace(project) == ["a"]


def test_a_dry_run_prints_order_agent_timeout_and_path(project: Project) -> None:
    """What would run, in the order in which it would."""
    project.apply(
        project.task("late", HELLO, agent_id="STIG", priority=9, timeout_s=12),
        project.task("early", command=["sleep", "1"], agent_id="LARS", priority=1),
    )
    lines = project.done("run", "demo", "--dry-run").stdout.splitlines()
    assert lines[0].split() == "function agent timeout s path or command".split()
    assert lines[1].split()[:4] == ["1", "early", "LARS", "300"]
    assert lines[1].endswith("sleep 1")
    path = str(project.folder / "functions" / "late.py")
    assert lines[2].split() == ["2", "late", "STIG", "12", path]


def test_a_dry_run_names_every_reason_why_it_could_not_run(project: Project) -> None:
    """All of them at once, with status 2; the plan is printed all the same."""
    project.apply(
        project.task("fine", HELLO),
        project.task("missing", function_path="functions/none.py"),
        project.task("program", command=["no-such-program"]),
        project.task("token", HELLO, env=["TOKEN"], secret=["TOKEN"]),
        project.task("network", HELLO, network="none", level="T0"),
    )
    done = project.run("run", "demo", "--dry-run")
    assert done.status == 2
    reasons = done.stderr.splitlines()
    path = project.folder / "functions" / "none.py"
    assert reasons == [
        f"cannot run: missing: Function file not found: {path}",
        "cannot run: program: command not found: no-such-program",
        "cannot run: token: granted variable TOKEN is not set, and it is secret",
        "cannot run: network: network none cannot be held at T0",
    ]
    assert len(done.stdout.splitlines()) == 6
    as_json = project.run("run", "demo", "--dry-run", "--json")
    assert as_json.status == 2
    assert [f"cannot run: {problem}" for problem in as_json.json["problems"]] == reasons


# --------------------------------------------------------------------------- one function, times


def test_one_function_runs_when_it_is_named(project: Project) -> None:
    """The others are not in the plan, and the record says which one was asked for."""
    project.apply(*(project.task(name, TRACE, word=name) for name in ("a", "b", "c")))
    done = project.done("run", "demo", "--function", "b", "--json")
    assert done.json["outcomes"] == {"done": 1}
    assert trace(project) == ["b"]
    (planned,) = project.bodies("round.planned")
    assert planned["occurrence"]["args"] == {"function": "b"}
    assert project.evidence()["tasks_executed"] == 1


def test_the_planned_time_names_the_cycle_in_utc(project: Project) -> None:
    """A past time runs at once; an offset is converted, no offset is UTC."""
    project.apply(project.task("a", HELLO))
    cases = {
        "2024-02-29T23:59:58Z": "CYCLE_20240229_235958",
        "2024-03-01T01:00:00+02:00": "CYCLE_20240229_230000",
        "2023-12-31T00:00:00": "CYCLE_20231231_000000",
    }
    for text, label in cases.items():
        assert project.done("run", "demo", "--at", text, "--json").json["label"] == label
        assert project.evidence(label)["cycle_id"] == label
    planned = project.done("show", "CYCLE_20240229_230000", "--json").json["planned"]
    assert planned == "2024-02-29T23:00:00Z"


def test_a_repeat_within_a_second_has_a_number(project: Project) -> None:
    """Ids never collide, and each cycle keeps its own evidence."""
    project.apply(project.task("a", HELLO))
    base = "CYCLE_20240101_000000"
    labels = [
        project.done("run", "demo", "--at", f"2024-01-01T00:00:00.{n}00Z", "--json").json["label"]
        for n in (0, 0, 9)
    ]
    assert labels == [base, f"{base}_2", f"{base}_3"]
    assert {project.evidence(label)["cycle_id"] for label in labels} == set(labels)
    ids = {entry["round"] for entry in project.entries("round.planned")}
    assert len(ids) == 3


def test_a_future_time_is_waited_for(project: Project) -> None:
    """It does not start before its planned time, and the waiting is announced."""
    project.apply(project.task("a", HELLO))
    at = datetime.fromtimestamp(time.time() + 1.5, UTC)
    running = project.start("run", "demo", "--at", at.isoformat(), "--json")
    running.wait_event("run.waiting")
    assert project.entries("round.planned") == []
    done = running.end()
    assert done.json["label"] == f"CYCLE_{at:%Y%m%d_%H%M%S}"
    started = project.entries("run.started")[0]["ts"]
    assert 0 <= started - int(at.timestamp() * 1000) < 2000


def test_a_run_that_waits_for_its_time_can_be_called_off(project: Project) -> None:
    """Nothing was planned, so nothing is recorded; the status is the signal's."""
    project.apply(project.task("a", HELLO))
    at = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    running = project.start("run", "demo", "--at", at)
    running.wait_event("run.waiting")
    running.send(15)
    assert running.end().status == 143
    assert project.entries("round.planned") == []


# --------------------------------------------------------------------------- operators and SQL


def test_rows_that_operators_change_by_sql_show_in_the_next_plan(project: Project) -> None:
    """Disabled, changed, added and of another type, without applying anything."""
    project.apply(*(project.task(name, TRACE, word=name) for name in ("a", "b")))
    project.sql("UPDATE task_registry SET enabled = 0 WHERE task_name = 'a'")
    project.sql(
        "UPDATE task_registry SET task_config ="
        " json_set(task_config, '$.timeout_s', 9, '$.word', ?) WHERE task_name = 'b'",
        "changed",
    )
    for name, kind in (("c", "VISION_FUNCTION"), ("d", "OTHER_FUNCTION")):
        config = {"function_path": "functions/a.py", "priority": 1, "word": name}
        config["write"] = ["effects"]
        project.sql(
            "INSERT INTO task_registry (task_name, task_type, agent_id, task_config)"
            " VALUES (?, ?, 'STIG', ?)",
            *(name, kind, json.dumps(config)),
        )
    plan = project.done("run", "demo", "--dry-run", "--json").json
    found = [(run["function"], run["agent"], run["timeout_s"]) for run in plan["runs"]]
    assert found == [("c", "STIG", 300), ("b", "FINN", 9)]
    project.done("run", "demo")
    assert trace(project) == ["c", "changed"]


def test_a_row_that_an_operator_broke_fails_alone(project: Project) -> None:
    """The dry run says so, the cycle runs the others, and the record has the reason."""
    project.apply(*(project.task(name, TRACE, word=name) for name in ("a", "b", "c")))
    project.sql("UPDATE task_registry SET task_config = 'no json' WHERE task_name = 'a'")
    project.sql("UPDATE task_registry SET task_config = '{}' WHERE task_name = 'b'")
    dry = project.run("run", "demo", "--dry-run")
    assert dry.status == 2
    assert "cannot run: a: broken JSON" in dry.stderr
    assert "cannot run: b: Missing function_path in task_config" in dry.stderr
    done = project.done("run", "demo", "--json", status=5)
    assert done.json["outcome"] == "COMPLETED_WITH_FAILURES"
    assert trace(project) == ["c"]
    reasons = project.bodies("round.judged")[0]["reasons"]
    assert [reason.split(":")[0] for reason in reasons] == ["a", "b"]


def test_another_type_of_task_is_another_cycle(project: Project) -> None:
    """Only rows of the spec's task_type are executed."""
    project.apply(
        project.task("a", TRACE, word="a"),
        project.task("b", TRACE, word="b", task_type="MAINTENANCE"),
    )
    project.done("run", "demo")
    assert trace(project) == ["a"]


# ----------------------------------------------------------------------------- grants and secrets


def test_a_function_gets_only_what_was_granted(project: Project) -> None:
    """Of the granted variables the record keeps the names, and of no other anything."""
    source = "import os\nprint(sorted(n for n in os.environ if n.startswith('PG')))\n"
    env = {"PGHOST": "db.example", "PGPASSWORD": "hunter2-hunter2", "PGUSER": "me"}
    project.apply(project.task("a", source, env=["PGHOST", "PGUSER"]), project.task("b", source))
    project.done("run", "demo", env=env)
    first, second = project.evidence()["results"]
    assert (first["stdout"], second["stdout"]) == ("['PGHOST', 'PGUSER']\n", "[]\n")
    kept = b"".join(data for _, data in project.everything())
    assert b"PGUSER" in kept
    assert b"db.example" not in kept
    assert b"hunter2-hunter2" not in kept


def test_a_secret_is_masked_wherever_it_is_printed(project: Project) -> None:
    """stdout, stderr, result, evidence, show, and every byte that the product keeps."""
    secret = "sk-ant-0123456789"
    source = """
import base64, json, os, sys
key = os.environ["ANTHROPIC_API_KEY"]
print("key is", key, flush=True)
sys.stdout.write(key[:8]); sys.stdout.flush()
sys.stdout.write(key[8:]); sys.stdout.flush()
print("error with", key, file=sys.stderr)
json.dump({"key": key, key: 1, "list": [key]}, open(os.environ["RUNWRIGHT_RESULT"], "w"))
"""
    project.apply(
        project.task("a", source, env=["ANTHROPIC_API_KEY"], secret=["ANTHROPIC_API_KEY"])
    )
    done = project.done("run", "demo", env={"ANTHROPIC_API_KEY": secret})
    shown = project.done("show", "demo", "--json")
    (run,) = shown.json["runs"]
    assert {blob["name"]: blob["masked"] for blob in run["outputs"]} == {"stdout": 2, "stderr": 1}
    assert run["status"] == "done"
    told = done.stdout + done.stderr + shown.stdout + project.done("show", "demo").stdout
    assert secret not in told
    leaks = [path.name for path, data in project.everything() if secret.encode() in data]
    assert leaks == []
    assert project.evidence()["results"][0]["stdout"].startswith("key is ")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "granted variable TOKEN is not set, and it is secret"),
        ("12345", "the secret TOKEN has 5 bytes; 6 to "),
    ],
)
def test_a_secret_that_cannot_be_masked_is_refused(
    project: Project, value: str | None, said: str
) -> None:
    """The function does not start without what it was granted."""
    project.apply(project.task("a", TRACE, word="ran", env=["TOKEN"], secret=["TOKEN"]))
    env = {} if value is None else {"TOKEN": value}
    project.done("run", "demo", status=5, env=env)
    (finished,) = project.bodies("run.finished")
    assert finished["reason"] == "refused"
    assert finished["message"].startswith(said)
    assert trace(project) == []


def test_scratch_folders_do_not_outlive_their_run(project: Project) -> None:
    """HOME and TMPDIR of a function are gone with it, whatever it left there."""
    source = """
import os, pathlib
home = pathlib.Path(os.environ["HOME"])
(home / "deep" / "deeper").mkdir(parents=True)
(home / "deep" / "left").write_text("x")
print(home)
"""
    project.apply(project.task("a", source))
    project.done("run", "demo")
    scratch = Path(project.evidence()["results"][0]["stdout"].strip())
    assert scratch.parent == project.folder / ".runwright" / "scratch"
    until(lambda: not scratch.exists(), "the scratch folder is removed")


def test_a_reader_that_goes_away_does_not_hide_a_failure(project: Project) -> None:
    """The status is that of the cycle, though nobody reads what it prints."""
    project.apply(project.task("a", "raise SystemExit(3)\n"))
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "runwright", "run", "demo"],
            cwd=project.folder,
            env=project.environment,
            stdout=writing,
            stderr=subprocess.PIPE,
            check=False,
        )
    finally:
        os.close(writing)
    assert done.returncode == 5
    assert b"internal" not in done.stderr
