"""Every place hands back one outcome for each attempt, whatever the attempt does."""

from __future__ import annotations

import base64
import json
import os
import resource
import signal
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runwright.adapters.commands import best_level, instant
from runwright.adapters.places import LocalPlaces
from runwright.kernel.canonical import commitment, digest
from runwright.kernel.errors import Refused
from runwright.kernel.ports import Place
from runwright.kernel.run import Call, Executed, Limits, Round, RunPlan, Script
from tests.adapters.hostile import SOON_S, Holders, alive
from tests.adapters.work import call, collect, command, finish, kept
from tests.e2e.project import until

Execute = Callable[..., Executed]

RESULT = 'cat >"$RUNWRIGHT_RESULT" <<"END"\n%s\nEND\n'


@pytest.fixture(params=["inline", "thread", "process"])
def calling(request: pytest.FixtureRequest, places: LocalPlaces) -> Iterator[Place]:
    """Each place in which calls execute."""
    place = places.open(Round(key="round", place=request.param, workers=2))
    yield place
    place.close()


# ------------------------------------------------------------------------------------------ calls


def test_a_call_gets_its_inputs_and_memory_and_answers(calling: Place) -> None:
    """The answer is kept, under the key of the plan and with the times of the place."""
    (executed,) = finish(calling, [call("answer", key="a", inputs=(b"12", b"345"))])
    outcome = executed.outcome
    assert (outcome.key, outcome.status, outcome.attempts) == ("a", "done", 1)
    assert (outcome.value["size"], outcome.value["lane"]) == (5, "kept")
    assert 0 < outcome.started_ms <= outcome.finished_ms


@pytest.mark.parametrize(
    ("name", "reason", "message"),
    [
        ("fail", "raised", "RuntimeError: no no "),
        ("leave", "raised", "SystemExit: 3"),
        ("defer", "deferred", "Deferred: the other side is busy"),
        ("mumble", "returned", "tests.adapters.hostile:mumble returned dict instead of an Outcome"),
        ("blur", "returned", "tests.adapters.hostile:blur returned $.mean: float has no canonical"),
        ("missing", "unknown", "'missing' is no module-level function of tests.adapters.hostile"),
        ("Holders", "unknown", "'Holders' is no module-level function of tests.adapters.hostile"),
    ],
)
def test_a_call_that_goes_wrong_fails_alone(
    calling: Place, name: str, reason: str, message: str
) -> None:
    """Its neighbours are done, and the outcome says what happened in at most 500 characters."""
    work = [call("answer", key="a"), call(name, key="b"), call("answer", key="c")]
    ended = {executed.outcome.key: executed for executed in finish(calling, work)}
    assert (ended["a"].outcome.status, ended["c"].outcome.status) == ("done", "done")
    wrong = ended["b"].outcome
    assert (wrong.status, wrong.reason) == ("failed", reason)
    assert wrong.message.startswith(message)
    assert len(wrong.message) <= 500
    assert ended["b"].deferred is (name == "defer")


@pytest.mark.parametrize("name", ["no_such_module:f", "json", "", ":f", "json:dumps.__call__"])
def test_a_name_that_leads_nowhere_is_an_outcome(places: LocalPlaces, name: str) -> None:
    """A plan may name anything; what is no module-level function is not called."""
    place = places.open(Round(key="round"))
    wrong = call("answer")
    plan = RunPlan(key="b", work=Call(name=name))
    work = type(wrong)(plan=plan, run=wrong.run)
    (executed,) = finish(place, [work])
    assert (executed.outcome.status, executed.outcome.reason) == ("failed", "unknown")


def test_a_refused_plan_does_not_execute(places: LocalPlaces, calling: Place) -> None:
    """What the plan refuses is recorded with its sentence, in every place."""
    for place, work in (
        (calling, call("die")),
        (places.open(Round(key="cycle", place="command")), command("true")),
    ):
        plan = RunPlan(key="r", work=work.plan.work, refused="its path lies outside the roots")
        (executed,) = finish(place, [type(work)(plan=plan, run=work.run)])
        assert (executed.outcome.reason, executed.outcome.message) == (
            "refused",
            "its path lies outside the roots",
        )


def test_work_in_the_wrong_place_is_refused(places: LocalPlaces, calling: Place) -> None:
    """A command never runs in the conductor's process, and a call never as a command."""
    cycle = places.open(Round(key="cycle", place="command"))
    for place, work in ((calling, command("true")), (cycle, call("die"))):
        (executed,) = finish(place, [work])
        assert (executed.outcome.status, executed.outcome.reason) == ("failed", "refused")


def test_threads_execute_side_by_side_and_a_stop_takes_back_what_waits(
    places: LocalPlaces, tmp_path: Path
) -> None:
    """Two calls of three begin; the third is taken back, the others end by themselves."""
    place = places.open(Round(key="round", place="thread", workers=2))
    begun = [tmp_path / f"begun-{number}" for number in range(3)]
    gates = [tmp_path / f"gate-{number}" for number in range(3)]
    for path in (*begun[:2], *gates[:2]):
        os.mkfifo(path)
    place.start(
        [
            call("await_gate", key=str(number), begun=str(begun[number]), gate=str(gates[number]))
            for number in range(3)
        ],
    )
    for path in begun[:2]:
        path.read_bytes()
    place.stop(kill=False)
    for path in gates[:2]:
        path.write_bytes(b"go")
    ended = {each.outcome.key: each.outcome for each in collect(place, 3)}
    assert [ended[key].status for key in "012"] == ["done", "done", "interrupted"]
    assert ended["2"].reason == "stopped"
    assert not begun[2].exists()


@pytest.mark.slow
def test_only_the_run_that_kills_its_worker_fails(places: LocalPlaces) -> None:
    """A broken pool loses nothing: its runs are run again, and the guilty one is named."""
    place = places.open(Round(key="round", place="process", workers=2))
    work = [
        call("die" if number in (3, 70) else "answer", key=f"{number:03}") for number in range(100)
    ]
    ended = finish(place, work)
    outcomes = {each.outcome.key: each.outcome for each in ended}
    assert len(ended) == len(outcomes) == 100
    assert {key: each.reason for key, each in outcomes.items() if each.status != "done"} == {
        "003": "worker-died",
        "070": "worker-died",
    }
    place.close()


@pytest.mark.slow
def test_a_killed_pool_gives_everything_back(places: LocalPlaces, holders: Holders) -> None:
    """What was with the pool and what waited for it both come back as interrupted."""
    place = places.open(Round(key="round", place="process", workers=1))
    never = str(holders.path) + ".never"
    os.mkfifo(never)
    work = [
        call("await_gate", key=f"{number:02}", begun=str(holders.path), gate=never)
        for number in range(10)
    ]
    place.start(work)
    assert holders.gone()
    place.stop(kill=True)
    ended = collect(place, 10)
    assert {each.outcome.reason for each in ended} == {"stopped"}
    place.close()


def test_wake_makes_wait_return_even_from_a_signal_handler(places: LocalPlaces) -> None:
    """A conductor that waits without end is woken by a signal, in every place."""
    before = signal.signal(signal.SIGUSR1, lambda _number, _frame: places.wake())
    try:
        for kind in ("inline", "thread", "process", "command"):
            place = places.open(Round(key="round", place=kind))
            timer = threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGUSR1))
            timer.start()
            assert place.wait(None) == []
            timer.join()
            assert place.wait(0) == []
            place.close()
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_round_without_workers_is_refused(places: LocalPlaces) -> None:
    """Nobody would ever execute its runs."""
    with pytest.raises(Refused, match="asks for 0 workers") as caught:
        places.open(Round(key="round", workers=0))
    assert caught.value.code == "refused"


# --------------------------------------------------------------------------------------- commands


def test_a_command_that_ends_well_is_done(execute: Execute) -> None:
    """Its output is kept under a salted commitment, and what it used is measured."""
    executed = execute("sh", "-c", "echo out; echo err >&2")
    outcome = executed.outcome
    assert (outcome.status, outcome.reason, outcome.message) == ("done", "", "")
    assert (outcome.used.exit, outcome.used.signal, outcome.level) == (0, None, best_level())
    assert (kept(executed, "stdout"), kept(executed, "stderr")) == (b"out\n", b"err\n")
    for content in executed.contents:
        assert len(content.salt) == 32
        assert content.digest == commitment(content.salt, content.data)
    assert all(blob.salted for blob in outcome.blobs)
    assert outcome.started_ms <= outcome.finished_ms


def test_silence_leaves_no_blob(execute: Execute) -> None:
    """An empty stream is not kept."""
    executed = execute("true")
    assert executed.outcome.blobs == ()
    assert executed.contents == ()


@pytest.mark.parametrize(
    ("script", "reason", "message"),
    [
        ("exit 3", "exit", "exit status 3"),
        ("exit 127", "exit", "exit status 127"),
        ("exit 75", "deferred", "exit status 75: not now"),
        ("kill -9 $$", "signal", "ended by SIGKILL"),
        ("kill -34 $$", "signal", "ended by SIGRTMIN"),
    ],
)
def test_how_a_command_failed_is_told(
    execute: Execute, script: str, reason: str, message: str
) -> None:
    """A status, a signal, and the wish to be repeated are three things."""
    executed = execute("sh", "-c", f"echo kept; {script}")
    outcome = executed.outcome
    assert (outcome.status, outcome.reason, outcome.message) == ("failed", reason, message)
    assert executed.deferred is (reason == "deferred")
    assert kept(executed, "stdout") == b"kept\n"


@pytest.mark.slow
def test_a_timeout_keeps_what_was_written(execute: Execute, holders: Holders) -> None:
    """The partial output is there; the tree is not, nor who holds stdout in another session."""
    escape = f"setsid sh -c 'exec 3>{holders.path}; echo up >&3; exec sleep 600' & "
    executed = execute(
        *("sh", "-c", f"echo begun; {escape} sleep 600"),
        limits=Limits(timeout_s=0.3, grace_s=0.2),
        write=(str(holders.path),),
    )
    outcome = executed.outcome
    assert (outcome.status, outcome.reason) == ("failed", "timeout")
    assert outcome.message == "no end after 0.3 s; the process tree was ended"
    assert kept(executed, "stdout") == b"begun\n"
    assert holders.gone()


def test_a_daemon_left_behind_is_killed_and_mentioned(
    places: LocalPlaces, holders: Holders, tmp_path: Path
) -> None:
    """A command that leaves a process is done, and its outcome says that one was killed."""
    place = places.open(Round(key="cycle", place="command"))
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    escape = f"setsid sh -c 'exec 3>{holders.path}; echo up >&3; exec sleep 600' & "
    granted = (str(holders.path),)
    place.start([command("sh", "-c", f"{escape} read go <{gate}", write=granted)])
    assert holders.came()
    gate.write_text("go\n", encoding="utf-8")
    (executed,) = collect(place, 1)
    assert executed.outcome.status == "done"
    assert executed.outcome.message == "1 of its processes outlived it and were killed"
    assert holders.gone()


@pytest.mark.slow
def test_commands_execute_side_by_side(places: LocalPlaces, tmp_path: Path) -> None:
    """Two workers: each of two commands ends only when the other one runs."""
    place = places.open(Round(key="cycle", place="command", workers=2))
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    limits = Limits(timeout_s=SOON_S)
    write = command(
        "sh", "-c", f"echo hello >{pipe}", key="write", limits=limits, write=(str(pipe),)
    )
    read = command("cat", str(pipe), key="read", limits=limits)
    ended = {each.outcome.key: each for each in finish(place, [write, read])}
    assert {each.outcome.status for each in ended.values()} == {"done"}
    assert kept(ended["read"], "stdout") == b"hello\n"


@pytest.mark.slow
@pytest.mark.parametrize("kill", [False, True])
def test_a_stop_interrupts_what_is_under_way_and_what_waits(
    places: LocalPlaces, holders: Holders, kill: bool
) -> None:
    """Asked, a command may clean up in its grace; killed, it may not; both come back."""
    place = places.open(Round(key="cycle", place="command"))
    trap = "trap 'echo cleaned; exit 0' TERM"
    script = f"exec 3>{holders.path}; {trap}; echo up >&3; while :; do :; done"
    granted = (str(holders.path),)
    place.start([command("sh", "-c", script, key="a", write=granted), command("true", key="b")])
    assert holders.came()
    place.stop(kill=kill)
    ended = {each.outcome.key: each for each in collect(place, 2)}
    for executed in ended.values():
        assert (executed.outcome.status, executed.outcome.reason) == ("interrupted", "stopped")
    assert kept(ended["a"], "stdout") == (b"" if kill else b"cleaned\n")
    assert holders.gone()


def test_closing_leaves_nothing_under_way(places: LocalPlaces, holders: Holders) -> None:
    """A closed place has killed its commands."""
    place = places.open(Round(key="cycle", place="command"))
    script = f"exec 3>{holders.path}; echo up >&3; sleep 600"
    work = command("sh", "-c", script, write=(str(holders.path),))
    place.start([work])
    assert holders.came()
    place.close()
    assert holders.gone()
    assert alive(work.run) == []


# ---------------------------------------------------------------------------- what a command gets


def test_a_child_gets_the_granted_variables_and_ours_and_no_more(
    execute: Execute, tmp_path: Path
) -> None:
    """Its environment is made from nothing; a granted name that is not set is absent."""
    executed = execute("env", "-0", env=("PGHOST", "NOT_SET"))
    variables = dict(
        item.split("=", 1) for item in kept(executed, "stdout").decode().split("\0") if item
    )
    scratch = variables["HOME"]
    assert Path(scratch).parent == tmp_path / "scratch"
    run = variables.pop("RUNWRIGHT_RUN_ID")
    assert len(run) == 64
    assert variables == {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
        "HOME": scratch,
        "TMPDIR": scratch,
        "PGHOST": "db.example",
        "RUNWRIGHT_ATTEMPT": "1",
        "RUNWRIGHT_SCHEDULED_AT": "2023-11-14T22:13:20Z",
        "RUNWRIGHT_CONFIG": f"{scratch}/config.json",
        "RUNWRIGHT_RESULT": f"{scratch}/result.json",
    }


def test_an_instant_has_milliseconds_only_when_there_are_some() -> None:
    """ISO 8601 in UTC."""
    assert instant(0) == "1970-01-01T00:00:00Z"
    assert instant(1_700_000_000_001) == "2023-11-14T22:13:20.001Z"


def test_a_command_starts_in_its_scratch_folder_with_its_configuration(
    execute: Execute, tmp_path: Path
) -> None:
    """The folder is its own, private, and removed with everything in it."""
    script = (
        'cat "$RUNWRIGHT_CONFIG"; pwd; stat -c %a .; umask; mkdir -p a/b; ln -s / a/b/root; '
        "mkfifo pipe; chmod 0 a"
    )
    executed = execute("sh", "-c", script, config='{"window":20}\n')
    config, folder, mode, mask = kept(executed, "stdout").decode().split()
    assert (config, mode, mask) == ('{"window":20}', "700", "0077")
    assert Path(folder).parent == tmp_path / "scratch"
    assert list((tmp_path / "scratch").iterdir()) == []
    assert Path("/etc").exists()


def test_a_command_starts_in_the_folder_that_the_plan_names(
    execute: Execute, tmp_path: Path
) -> None:
    """The scratch folder stays HOME; a folder that is not there is no start."""
    executed = execute("pwd", folder=str(tmp_path))
    assert kept(executed, "stdout").decode().strip() == str(tmp_path)
    missing = execute("pwd", folder=str(tmp_path / "missing")).outcome
    assert (missing.status, missing.reason) == ("failed", "not-started")
    assert missing.message == f"folder {tmp_path}/missing: No such file or directory"


@pytest.mark.parametrize("depth", [1_100])
def test_a_scratch_folder_of_any_depth_is_removed(
    execute: Execute, tmp_path: Path, depth: int
) -> None:
    """Deeper than a path may be long, and than a recursion may go."""
    code = f"import os\nfor _ in range({depth}):\n    os.mkdir('deep'); os.chdir('deep')"
    executed = execute(sys.executable, "-I", "-S", "-c", code)
    assert executed.outcome.status == "done"
    assert list((tmp_path / "scratch").iterdir()) == []


def test_what_a_run_left_is_removed_beside_the_next_one_or_soon(
    places: LocalPlaces, tmp_path: Path, holders: Holders
) -> None:
    """Not while an outcome is recorded; but a round that waits or is over keeps none."""
    scratch = tmp_path / "scratch"
    wait = f"exec 3>{holders.path}; echo up >&3; read line <{holders.path}.gate"
    os.mkfifo(f"{holders.path}.gate")
    waiting = command("sh", "-c", wait, key="waiting", write=(str(holders.path),))
    works = [command("true", key="first"), waiting, command("true", key="last")]
    place = places.open(
        Round(key="cycle", place="command", runs=tuple(work.plan for work in works))
    )
    finish(place, works[:1])
    assert stat.S_IMODE(scratch.stat().st_mode) == 0o700
    place.start(works[1:2])
    assert holders.came()
    until(lambda: len(list(scratch.iterdir())) == 1, "the folder of the first run is removed")
    Path(f"{holders.path}.gate").write_text("go\n", encoding="utf-8")
    collect(place, 1)
    until(lambda: list(scratch.iterdir()) == [], "a round that waits has removed the second")
    finish(place, works[2:])
    place.close()
    places.close()
    assert list(scratch.iterdir()) == []


def test_what_an_earlier_conductor_left_is_swept(places: LocalPlaces, tmp_path: Path) -> None:
    """Scratch folders of a conductor that was killed go when the next one starts."""
    (tmp_path / "scratch" / "old" / "inner").mkdir(parents=True)
    (tmp_path / "scratch" / "old" / "inner" / "file").write_text("x", encoding="utf-8")
    assert places.sweep() == 1
    assert list((tmp_path / "scratch").iterdir()) == []
    assert places.sweep() == 0


def test_a_child_has_no_input(execute: Execute) -> None:
    """Reading stdin ends at once."""
    assert execute("cat").outcome.status == "done"


@pytest.mark.slow
def test_limits_hold(execute: Execute) -> None:
    """CPU seconds, file size, open files, address space and core dumps are limited."""
    spun = execute("sh", "-c", "while :; do :; done", limits=Limits(cpu_s=1)).outcome
    assert (spun.reason, spun.message) == ("signal", "ended by SIGXCPU, its limit of CPU seconds")
    argv = ("dd", "if=/dev/zero", "of=large", "bs=1M", "count=3")
    large = execute(*argv, limits=Limits(file_mib=1)).outcome
    assert (large.reason, large.message) == ("signal", "ended by SIGXFSZ, its limit of file size")
    told = execute(
        *("sh", "-c", "ulimit -n; ulimit -v; ulimit -c"),
        limits=Limits(open_files=64, memory_mib=512),
    )
    assert kept(told, "stdout").split() == [b"64", b"524288", b"0"]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("no-such-program",), "no program no-such-program on PATH /usr/local/bin:/usr/bin:/bin"),
        (("/no/such/program",), "/no/such/program: No such file or directory"),
        (("/etc/passwd",), "/etc/passwd: Permission denied"),
        (("echo", "a\0b"), "echo: a value is not valid"),
    ],
)
def test_what_cannot_be_executed_is_not_started(
    execute: Execute, argv: tuple[str, ...], message: str
) -> None:
    """It is told apart from a program that ran and failed."""
    outcome = execute(*argv).outcome
    assert (outcome.status, outcome.reason, outcome.message) == ("failed", "not-started", message)
    assert outcome.used.exit is None
    assert outcome.level == ""


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"network": "none", "level": "T0"}, "network none cannot be held at T0"),
        (
            {"network": ("db:5432", "x:1"), "level": "T0"},
            "network db:5432, x:1 cannot be held at T0",
        ),
        ({"write": ("/no/such/folder",)}, "write: /no/such/folder does not exist"),
        (
            {"env": ("TOKEN",), "secret": ("TOKEN",)},
            "granted variable TOKEN is not set, and it is secret",
        ),
        (
            {"env": ("SHORT_KEY",), "secret": ("SHORT_KEY",)},
            "the secret SHORT_KEY has 3 bytes",
        ),
    ],
)
def test_a_demand_that_cannot_be_held_is_refused(
    execute: Execute, fields: dict[str, object], message: str, tmp_path: Path
) -> None:
    """Nothing is started, and the outcome says why."""
    outcome = execute("touch", str(tmp_path / "started"), **fields).outcome
    assert (outcome.status, outcome.reason) == ("failed", "refused")
    assert outcome.message.startswith(message)
    assert not (tmp_path / "started").exists()


def test_a_demand_that_is_held_is_met(execute: Execute) -> None:
    """T0 and any network are what every Linux applies."""
    assert execute("true", level="T0", network="any").outcome.status == "done"


# ----------------------------------------------------------------------------------------- script


@pytest.fixture
def script(tmp_path: Path) -> Script:
    """A script below a declared root, as it was planned."""
    root = tmp_path / "root"
    (root / "inner").mkdir(parents=True)
    path = root / "inner" / "function.sh"
    path.write_text("echo ran\n", encoding="utf-8")
    return Script(path=str(path), root=str(root), digest=digest(path.read_bytes()))


def test_a_script_that_is_as_planned_runs(execute: Execute, script: Script) -> None:
    """Its bytes and its place are those of the plan."""
    executed = execute("sh", script.path, script=script)
    assert kept(executed, "stdout") == b"ran\n"


def test_a_script_that_changed_does_not_run(execute: Execute, script: Script) -> None:
    """One byte more, another kind of file, or none at all: nothing is started."""
    path = Path(script.path)

    def refused() -> tuple[str, str]:
        executed = execute("sh", script.path, script=script)
        assert executed.outcome.status == "failed"
        assert executed.contents == ()
        return executed.outcome.reason, executed.outcome.message

    path.write_text("echo ran\n\n", encoding="utf-8")
    assert refused() == ("changed", f"{path} changed after it was planned")
    path.unlink()
    assert refused() == ("changed", f"{path} was removed after it was planned")
    os.mkfifo(path)
    assert refused() == ("changed", f"{path} changed after it was planned")
    path.unlink()
    other = path.with_name("other.sh")
    other.write_text("echo ran\n", encoding="utf-8")
    path.symlink_to(other)
    assert refused() == ("changed", f"{path} became a link after it was planned")


@pytest.mark.parametrize("swapped", ["function.sh", "inner"])
def test_a_link_out_of_the_root_does_not_run(
    execute: Execute, script: Script, tmp_path: Path, swapped: str
) -> None:
    """The same bytes outside the root are not what was planned."""
    path = Path(script.path)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "function.sh").write_bytes(path.read_bytes())
    path.unlink()
    if swapped == "inner":
        path.parent.rmdir()
        path.parent.symlink_to(outside)
    else:
        path.symlink_to(outside / "function.sh")
    outcome = execute("sh", script.path, script=script).outcome
    assert (outcome.status, outcome.reason) == ("failed", "outside-root")
    assert outcome.message == f"{path} leads outside {script.root}"


# ----------------------------------------------------------------------------------------- output


def test_output_is_kept_as_bytes(execute: Execute) -> None:
    """NUL bytes and invalid UTF-8 are kept as they came."""
    executed = execute("printf", r"a\000b\377\376c\r\n")
    assert kept(executed, "stdout") == b"a\0b\xff\xfec\r\n"


@pytest.mark.slow
def test_endless_output_needs_no_memory(execute: Execute) -> None:
    """200 MB are hashed and counted as they come, and no more than the limit is kept."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    executed = execute(
        *("head", "-c", "200000000", "/dev/zero"),
        limits=Limits(output_kib=64, timeout_s=60),
    )
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    (blob,) = executed.outcome.blobs
    assert (blob.size, blob.whole_size) == (64 * 1024, 200_000_000)
    assert len(kept(executed, "stdout")) == 64 * 1024
    assert blob.whole_digest not in ("", blob.digest)
    assert grown < 8 * 1024


@pytest.mark.parametrize(
    "script",
    [
        'printf %s "$PRICE_KEY"',
        'printf %s "$PRICE_KEY" >&2',
        'printf %s "$PRICE_KEY" | base64',
        'printf "%.5s" "$PRICE_KEY"; sleep 0.02; printf %s "${PRICE_KEY#?????}"',
        'echo "{\\"note\\":\\"x $PRICE_KEY\\",\\"$PRICE_KEY\\":1}" >"$RUNWRIGHT_RESULT"',
        'echo "{\\"n\\":$NUMBER_KEY,\\"f\\":$NUMBER_KEY.25}" >"$RUNWRIGHT_RESULT"',
    ],
    ids=["stdout", "stderr", "base64", "split", "result", "number"],
)
def test_a_secret_is_masked_in_all_that_is_kept(execute: Execute, script: str) -> None:
    """Neither the outcome nor a blob holds it, in plain or encoded."""
    names = ("PRICE_KEY", "NUMBER_KEY")
    executed = execute("sh", "-c", script, env=names, secret=names)
    assert executed.outcome.status == "done"
    everything = repr(executed).encode() + b"".join(each.data for each in executed.contents)
    assert executed.contents or executed.outcome.value
    for secret in (b"s3cr3t/v4lue+", b"1234567890"):
        assert secret not in everything
        assert base64.b64encode(secret).rstrip(b"=")[:-1] not in everything


# ----------------------------------------------------------------------------------------- result


def test_a_result_stands_in_the_value(execute: Execute) -> None:
    """Its floats are decimal text; it counts after a failure too."""
    result = {"mean": 0.1, "n": 3, "parts": [1e21, None, "ü", {"ok": True}]}
    executed = execute("sh", "-c", RESULT % json.dumps(result) + "exit 4")
    assert executed.outcome.reason == "exit"
    assert executed.outcome.value == {
        "result": {"mean": "0.1", "n": 3, "parts": ["1" + "0" * 21, None, "ü", {"ok": True}]},
    }
    assert execute("true").outcome.value == {}


def test_a_long_result_is_a_blob(execute: Execute) -> None:
    """Above 4 KiB it stands beside the outcome, under a salted commitment."""
    executed = execute("sh", "-c", RESULT % json.dumps({"text": "x" * 5000}))
    data = kept(executed, "result")
    (blob,) = executed.outcome.blobs
    assert json.loads(data) == {"text": "x" * 5000}
    assert executed.outcome.value == {"result_digest": blob.digest}
    assert (blob.salted, blob.media) == (True, "application/json")
    assert blob.digest == commitment(executed.contents[0].salt, data)


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (RESULT % '{"a": NaN}', "the result is not JSON: "),
        (RESULT % '{"a": 1e999}', "the result is not JSON: "),
        (RESULT % '{"a":', "the result is not JSON: "),
        ('printf \'{"a":"\\377"}\' >"$RUNWRIGHT_RESULT"', "the result is not JSON: "),
        (RESULT % ("[" * 5000), "the result is not JSON: "),
        (RESULT % "[1]", "the result is not a JSON object"),
        (': >"$RUNWRIGHT_RESULT"', "the result is not JSON: "),
        (RESULT % '{"é": 1}', "the result cannot be recorded: $: key 'é' is not ASCII text"),
        (RESULT % '{"a": 9007199254740992}', "the result cannot be recorded: $.a: "),
        ('mkfifo "$RUNWRIGHT_RESULT"', "the result is not a plain file"),
        ('mkdir "$RUNWRIGHT_RESULT"', "the result is not a plain file"),
        ('ln -s /etc/passwd "$RUNWRIGHT_RESULT"', "the result cannot be read: "),
        ('head -c 300000 /dev/zero >"$RUNWRIGHT_RESULT"', "the result is longer than 262144 bytes"),
    ],
)
def test_a_malformed_result_is_a_failure(execute: Execute, script: str, message: str) -> None:
    """Also when the command says that all went well."""
    executed = execute("sh", "-c", script)
    assert (executed.outcome.status, executed.outcome.reason) == ("failed", "result")
    assert executed.outcome.message.startswith(message)
    assert executed.outcome.value == {}
    worse = execute("sh", "-c", f"{script}\nexit 4").outcome
    assert (worse.reason, worse.message) == ("exit", "exit status 4")
