"""A planned command becomes a supervised child, and how it ended an outcome.

Nothing is started that is not as it was planned: the script's bytes, its place below a declared
root, the granted variables and folders, the level and the network that were demanded. Between the
check of the script and the moment its interpreter opens it lie about two milliseconds, in which
somebody who may write that folder can still change it; a child at T1 may not write there.

A child gets an environment made from nothing: the granted variables, a fixed PATH, its scratch
folder as HOME and TMPDIR, and what RUNWRIGHT_* tells it.
"""

from __future__ import annotations

import hashlib
import os
import resource
import stat
import sys
import time
from _thread import allocate_lock, start_new_thread
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from runwright.adapters import supervisor as words
from runwright.adapters.children import (
    PATH,
    SOURCE_BYTES_MAX,
    Child,
    Launcher,
    LauncherLost,
    Report,
    Start,
)
from runwright.adapters.scratch import ResultUnreadable, Scratch
from runwright.kernel.canonical import commitment, encode, exact
from runwright.kernel.errors import NotCanonical, Refused
from runwright.kernel.ports import Clock, Work
from runwright.kernel.record.redact import Capture, Masker
from runwright.kernel.run import (
    Blob,
    Command,
    Content,
    Executed,
    Limits,
    Outcome,
    Resources,
    Script,
    Warmth,
)

if TYPE_CHECKING:
    from runwright.adapters.templates import Template, Templates

#: The isolation level without anything that a kernel may lack.
PLAIN: Final = "T0" if sys.platform == "linux" else "session"
#: Every level, the weakest first.
LEVELS: Final = ("session", "T0", "T1", "T2")
#: Those that take something away from a child.
CONFINING: Final = ("T1", "T2")
#: By how many processes and threads a user may grow beyond all there are, at T1 without a limit.
GROWTH_MAX: Final = 1024
#: The exit status by which a command asks to be repeated.
EXIT_DEFERRED: Final = 75
#: Canonical bytes of a result that stands in the outcome itself; a longer one is a blob.
RESULT_INLINE_MAX: Final = 4096
#: Canonical bytes of a reported `usage` that stands in the outcome beside a longer result.
USAGE_MAX: Final = 512
#: Bytes of salt under a commitment.
SALT_BYTES: Final = 32
#: Bytes of a script hashed at once.
HASH_BYTES: Final = 1 << 18
#: Neither through a link nor waiting for the writer of a pipe.
_FILE_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
#: Why a run was cold whose template went away.
LOST: Final = "its template ended before it could fork"
#: Characters of a run id in the name of its scratch folder.
NAME_LENGTH: Final = 24

_EXPLAINED: Final = {
    "SIGXCPU": ", its limit of CPU seconds",
    "SIGXFSZ": ", its limit of file size",
}


class NotStarted(Exception):
    """A command that must not, or cannot, be started."""

    def __init__(self, reason: str, message: str) -> None:
        """Keep the word and the sentence of the outcome."""
        super().__init__(message)
        self.reason = reason
        self.message = message


class Held(msgspec.Struct, frozen=True):
    """What is applied to a command, or to a worker."""

    level: str
    #: Whether `limits.processes` counts its tree alone, in a control group.
    counts: bool
    #: What it is forked from, if it is, with the checked bytes of its script.
    template: Template | None = None
    source: bytes = b""
    #: What the record says of that.
    warmth: Warmth | None = None


class Commands:
    """Executes commands, each in a child under a supervisor."""

    def __init__(
        self,
        *,
        launcher: Launcher,
        clock: Clock,
        environment: Mapping[str, str],
        scratch: Path,
        private: Sequence[str] = (),
        templates: Templates | None = None,
    ) -> None:
        """Keep what every command is made from.

        `private` are resolved paths, hidden from a child at T1. Without `templates` all start cold.
        """
        self._launcher = launcher
        self._clock = clock
        self._environment = environment
        self._scratch = scratch
        self._private = private
        self._ahead = 0
        #: One attempt comes after the other; what the last ones left, to be removed behind them.
        self._is_alone = False
        self._left: list[tuple[Scratch, Template | None]] = []
        #: Held while a thread beside removes some of it.
        self._removing = allocate_lock()
        self._templates = templates

    def execute(self, work: Work, started: Callable[[Child], object]) -> Executed:
        """Execute one attempt to its end; `started` gets the child, to stop it."""
        began_ms = self._clock.now_ms()
        masker = Masker({})
        try:
            command = _command_of(work)
            masker = _masker(command, self._environment)
            held = self._held(command)
            _check_demands(command, held)
            check_grants(command, self._private)
            source = b"" if command.script is None else check_script(command.script)
            held = self._warm(command, held, source, started)

            def begun(child: Child) -> None:
                started(child)
                self._tidy_beside()

            executed = self._supervised(work, command, held, masker, begun)
        except NotStarted as refusal:
            outcome = Outcome(
                key=work.plan.key,
                status="failed",
                reason=refusal.reason,
                message=refusal.message,
            )
            executed = Executed(outcome=outcome)
        outcome = msgspec.structs.replace(
            executed.outcome,
            # It may quote a variable: the PATH where a program is not.
            message=_masked_text(executed.outcome.message, masker),
            attempts=work.attempt,
            started_ms=began_ms,
            finished_ms=max(began_ms, self._clock.now_ms()),
        )
        return msgspec.structs.replace(executed, outcome=outcome)

    def expect(self, count: int) -> None:
        """Know that so many come one by one: what one left can be removed beside the next."""
        self._ahead = count
        self._is_alone = count > 0

    def prepare(self) -> None:
        """Give back the template that the last attempt was forked from, and look after the next.

        Nothing may be under way. It is done while what came of the last one is being recorded; all
        that can wait waits until the conductor does, with which it shares an interpreter.
        """
        if any(template is not None for _scratch, template in self._left):
            self.tidy()
        if self._ahead > 0 and self._templates is not None:
            self._templates.look_ahead()

    def close(self) -> None:
        """Remove what is left, and wait for the thread that removes some of it."""
        self.tidy()
        with self._removing:
            return

    def tidy(self) -> None:
        """Remove what the last attempts left, now."""
        left, self._left = self._left, []
        for each in left:
            _remove(*each)

    def _tidy_beside(self) -> None:
        """Remove what is left in a thread of its own, unless the last one is still busy."""
        if self._left and self._removing.acquire(blocking=False):
            left, self._left = self._left, []
            start_new_thread(self._remove_beside, (left,))

    def _remove_beside(self, left: list[tuple[Scratch, Template | None]]) -> None:
        try:
            for each in left:
                _remove(*each)
        finally:
            self._removing.release()

    def _warm(
        self, command: Command, held: Held, source: bytes, started: Callable[[Child], object]
    ) -> Held:
        """Return with it what the command is forked from, or why it starts cold."""
        if command.warm is None or command.script is None:
            return held
        found: Template | str
        if self._templates is None:
            from runwright.adapters.templates import ONE_SHOT  # lazy: few commands wish it

            found = ONE_SHOT
        else:
            try:
                found = self._templates.lend(command, held.level, source, started)
            except OSError as error:
                found = f"no template: {error.strerror}"
        if isinstance(found, str):
            return msgspec.structs.replace(held, warmth=Warmth(state="cold", reason=found))
        warmth = Warmth(state="warm", template=found.digest, n=found.count)
        return msgspec.structs.replace(held, template=found, source=source, warmth=warmth)

    def _held(self, command: Command) -> Held:
        """Return what is applied: the best there is, unless less is demanded."""
        try:
            best = "T1" if self._launcher.holds(words.HOLDS_T1) else PLAIN
            return Held(level_of(command, best), self._launcher.holds(words.COUNTS))
        except LauncherLost as error:
            raise NotStarted("not-started", "no launcher could be started") from error

    def _supervised(
        self,
        work: Work,
        command: Command,
        held: Held,
        masker: Masker,
        started: Callable[[Child], object],
    ) -> Executed:
        """Start the child in a scratch folder of its own and make an outcome of its end."""
        self._ahead -= 1
        try:
            name = f"{work.run[:NAME_LENGTH]}-{work.attempt}"
            base = held.template.folder if held.template else self._scratch
            scratch = Scratch(base, name)
        except OSError as error:
            if held.template:
                held.template.give_back(is_clean=False)
            raise NotStarted("not-started", f"no scratch folder: {error.strerror}") from error
        try:
            report, captures, warmth = self._follow(work, command, scratch, held, masker, started)
            ending = _ending(report, command)
            value: Mapping[str, Any] = {}
            try:
                value, result = self._result(scratch, masker)
                captures += result
            except ResultUnreadable as error:
                if ending.status == "done":
                    ending = _Ending("failed", "result", str(error))
        finally:
            if self._is_alone:
                self._left.append((scratch, held.template))
            else:
                _remove(scratch, held.template)
        outcome = Outcome(
            key=work.plan.key,
            status=ending.status,
            reason=ending.reason,
            message=ending.message,
            value=value,
            used=_used(report),
            level=held.level,
            warmth=warmth,
            blobs=tuple(blob for blob, _content in captures),
        )
        return Executed(
            outcome=outcome,
            contents=tuple(content for _blob, content in captures),
            deferred=ending.reason == "deferred",
        )

    def _follow(
        self,
        work: Work,
        command: Command,
        scratch: Scratch,
        held: Held,
        masker: Masker,
        started: Callable[[Child], object],
    ) -> tuple[Report | None, list[tuple[Blob, Content]], Warmth | None]:
        """Start the child, keep its output, and return how it ended and how it started."""
        stdout, stderr = (self._capture(command.limits, masker) for _ in range(2))
        environment = self._variables(work, command, scratch)
        try:
            scratch.write_config(command.config)
            program = _program(command.argv, environment["PATH"])
            sandbox, spaces = self._confined(command, program, scratch, held.level)
            start = Start(
                program=program,
                argv=command.argv,
                environment=environment,
                folder=command.folder or scratch.path,
                limits=limits_of(command.limits, held),
                timeout_s=command.limits.timeout_s,
                grace_s=command.limits.grace_s,
                sandbox=sandbox,
                spaces=spaces,
                tasks=command.limits.processes if held.counts else 0,
            )
            report, warmth = self._run(
                start,
                command,
                held,
                lambda run, begin: run(
                    begin, stdout=stdout.feed, stderr=stderr.feed, started=started
                ),
            )
        except LauncherLost as error:
            raise NotStarted("not-started", "no launcher could be started") from error
        except (OSError, ValueError) as error:
            raise NotStarted("not-started", f"it could not be started: {error}") from error
        _check_started(report, command)
        kept = (stdout.close("stdout"), stderr.close("stderr"))
        return report, [(each.blob, each.content) for each in kept if each is not None], warmth

    def _run(
        self,
        start: Start,
        command: Command,
        held: Held,
        follow: Callable[[Callable[..., Report | None], Start], Report | None],
    ) -> tuple[Report | None, Warmth | None]:
        """Have the child forked from its template, or started where that is gone."""
        if held.template is None or command.script is None:
            return follow(self._launcher.run, start), held.warmth
        forked = msgspec.structs.replace(start, program=command.script.path, source=held.source)
        try:
            return follow(held.template.run, forked), held.warmth
        except LauncherLost:
            cold = Warmth(state="cold", reason=LOST, template=held.template.digest)
            return follow(self._launcher.run, start), cold

    def _confined(
        self, command: Command, program: str, scratch: Scratch, level: str
    ) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
        """Return what a child at T1 is left with, and what one at T2 is shown."""
        if level not in CONFINING:
            return None, None
        own = os.path.realpath(scratch.path)
        granted = [*map(os.path.realpath, command.write)]
        sandbox = {
            "hidden": self._private,
            "writable": [own, *granted],
            "offline": command.network == "none",
        }
        if level != "T2":
            return sandbox, None
        from runwright.adapters.bubblewrap import wish_of, writable_inside  # lazy: only at T2

        spaces = wish_of(
            command, program=program, scratch=own, private=self._private, writable=granted
        )
        sandbox["writable"] = [own, *granted, *writable_inside(spaces)]
        sandbox["reach"] = isinstance(command.network, tuple)
        return sandbox, spaces

    def _capture(self, limits: Limits, masker: Masker) -> Capture:
        salt = self._clock.entropy(SALT_BYTES)
        return Capture(limit=limits.output_kib * 1024, masker=masker, salt=salt)

    def _variables(self, work: Work, command: Command, scratch: Scratch) -> dict[str, str]:
        """Return the whole environment of the child."""
        return {
            "PATH": PATH,
            "LANG": "C.UTF-8",
            "LC_ALL": "C.UTF-8",
            "HOME": scratch.path,
            "TMPDIR": scratch.path,
            **{name: self._environment[name] for name in command.env if name in self._environment},
            "RUNWRIGHT_RUN_ID": work.run,
            "RUNWRIGHT_ATTEMPT": str(work.attempt),
            "RUNWRIGHT_SCHEDULED_AT": instant(work.scheduled_ms),
            "RUNWRIGHT_CONFIG": scratch.config,
            "RUNWRIGHT_RESULT": scratch.result,
        }

    def _result(
        self,
        scratch: Scratch,
        masker: Masker,
    ) -> tuple[Mapping[str, Any], list[tuple[Blob, Content]]]:
        """Return what the child left as its result: in the value, or as a blob beside it.

        Raises: ResultUnreadable.
        """
        raw = scratch.read_result()
        if raw is None:
            return {}, []
        result, data = parse_result(raw, masker)
        if len(data) <= RESULT_INLINE_MAX:
            return {"result": result}, []
        salt = self._clock.entropy(SALT_BYTES)
        digest = commitment(salt, data)
        blob = Blob(
            name="result", digest=digest, size=len(data), media="application/json", salted=True
        )
        value: dict[str, Any] = {"result_digest": digest}
        if "usage" in result and len(encode(result["usage"])) <= USAGE_MAX:
            value["usage"] = result["usage"]
        return value, [(blob, Content(digest=digest, data=data, salt=salt))]


# ------------------------------------------------------------------------------- before the start


def _remove(scratch: Scratch, template: Template | None) -> None:
    """Remove the folder of an attempt, and give back what it was forked from."""
    # What cannot be removed now is swept when the conductor starts again.
    is_removed = scratch.remove()
    if template is not None:
        template.give_back(is_clean=is_removed)


def _command_of(work: Work) -> Command:
    if work.plan.refused:
        raise NotStarted("refused", work.plan.refused)
    if not isinstance(work.plan.work, Command):
        raise NotStarted("refused", "a call does not run in a place for commands")
    if not work.plan.work.argv:
        raise NotStarted("refused", "the command is empty")
    return work.plan.work


def _masker(command: Command, environment: Mapping[str, str]) -> Masker:
    """Return what masks the secret values. Raises: NotStarted, for one that is not set or short."""
    for name in command.secret:
        if name not in environment:
            raise NotStarted("refused", f"granted variable {name} is not set, and it is secret")
    try:
        return Masker({name: environment[name] for name in command.secret})
    except Refused as error:
        raise NotStarted("refused", str(error)) from error


def _check_demands(command: Command, held: Held) -> None:
    """Refuse what cannot be held. Raises: NotStarted."""
    level = held.level
    if command.level and LEVELS.index(command.level) > LEVELS.index(level):
        why = f": {lacking()}" if command.level == "T2" else ""
        message = f"level {command.level} is demanded, and this machine holds {level}{why}"
        raise NotStarted("refused", message)
    if command.limits.processes and not held.counts and os.geteuid() == 0:
        message = "limits.processes: there is no pids control group, and no other limit holds root"
        raise NotStarted("refused", message)
    if level == "T2" or (command.network == "none" and level == "T1"):
        return
    if command.network != "any":
        demand = "none" if command.network == "none" else ", ".join(command.network)
        message = f"network {demand} cannot be held at {level}"
        if command.network != "none" and not command.level:
            message += f", and this machine does not hold T2: {lacking()}"
        raise NotStarted("refused", message)


def check_grants(command: Command, private: Sequence[str]) -> None:
    """Refuse to grant what is not there, and what would give the record away. Raises: NotStarted.

    `private` are resolved paths: the store's, the keys', the signer's memory, the scratch folders.
    """
    for given in command.write:
        path = os.path.realpath(given)
        if not os.path.exists(path):  # noqa: PTH110 - hot
            raise NotStarted("refused", f"write: {given} does not exist")
        for hidden in private:
            if os.path.commonpath((path, hidden)) in (path, hidden):
                message = f"write: {given} would give {hidden} away; grant a folder beside it"
                raise NotStarted("refused", message)


def best_level() -> str:
    """Return the isolation level that this machine holds."""
    from runwright.adapters.sandbox import Sandbox  # lazy: a conductor hears it from its launcher

    try:
        Sandbox()
    except OSError:
        return PLAIN
    return "T1"


def lacking() -> str:
    """Return why this machine does not hold T2; empty when it does."""
    return _without_spaces() if best_level() == "T1" else "T1 is not held"


def _without_spaces() -> str:
    """Return why no namespaces can be made; empty when they can."""
    from runwright.adapters.bubblewrap import problem  # lazy: only at T2

    return problem()


def level_of(command: Command, best: str) -> str:
    """Return the level that is applied to a command where `best` is the default.

    T2 costs more than all other levels together, so it is applied where it is needed alone.
    """
    if command.level in LEVELS[: LEVELS.index(PLAIN) + 1]:
        return PLAIN
    by_name = not command.level and isinstance(command.network, tuple)
    if (command.level == "T2" or by_name) and best == "T1" and not _without_spaces():
        return "T2"
    return best


def demand_problem(
    command: Command, environment: Mapping[str, str], private: Sequence[Path]
) -> str:
    """Return why a command would be refused before it starts; empty when it would not be."""
    try:
        from runwright.adapters.cgroups import find  # lazy: a conductor hears it from its launcher

        _masker(command, environment)
        _check_demands(command, Held(level_of(command, best_level()), bool(find())))
        check_grants(command, [*map(os.path.realpath, private)])
    except NotStarted as refusal:
        return refusal.message
    return ""


def check_script(script: Script) -> bytes:
    """Compare a script with what was planned; return its bytes, at most `SOURCE_BYTES_MAX`.

    Raises: NotStarted, outside-root or changed.
    """
    unchanged = _as_planned(script)
    if unchanged is not None:
        return unchanged
    # Something is not as it was, or cannot be told at once: find out what.
    resolved = os.path.realpath(script.path)
    root = os.path.realpath(script.root)
    if os.path.commonpath((resolved, root)) != root:
        raise NotStarted("outside-root", f"{script.path} leads outside {script.root}")
    if resolved != script.path:
        raise NotStarted("changed", f"{script.path} became a link after it was planned")
    try:
        digest, source = _digest_of_file(script.path)
    except FileNotFoundError as error:
        message = f"{script.path} was removed after it was planned"
        raise NotStarted("changed", message) from error
    except OSError as error:
        message = f"{script.path} cannot be read: {error.strerror}"
        raise NotStarted("not-started", message) from error
    if digest != script.digest:
        raise NotStarted("changed", f"{script.path} changed after it was planned")
    return source


def _as_planned(script: Script) -> bytes | None:
    """Return the bytes of a script that stands where it was planned and is what was planned.

    Where the file is that was opened the kernel says, in a tenth of the time that it takes to look
    at each part of its path. None when it says something else, or nothing.
    """
    if not script.path.startswith(script.root.rstrip(os.sep) + os.sep):
        return None
    try:
        file = os.open(script.path, _FILE_FLAGS)
        try:
            if os.readlink(f"/proc/self/fd/{file}") != script.path:  # noqa: PTH115 - hot
                return None
            digest, source = _digest_of(file)
        finally:
            os.close(file)
    except OSError:
        return None
    return source if digest == script.digest else None


def _digest_of_file(path: str) -> tuple[str, bytes]:
    """Return the digest of a plain file, opened once, and its first bytes."""
    file = os.open(path, _FILE_FLAGS)
    try:
        return _digest_of(file)
    finally:
        os.close(file)


def _digest_of(file: int) -> tuple[str, bytes]:
    """Return the digest of an open plain file and its first bytes; else, none that is planned."""
    if not stat.S_ISREG(os.fstat(file).st_mode):
        return "", b""
    digest = hashlib.sha256()
    source = b""
    while piece := os.read(file, HASH_BYTES):
        digest.update(piece)
        if len(source) <= SOURCE_BYTES_MAX:
            source += piece
    return digest.hexdigest(), source


def _program(argv: tuple[str, ...], path: str) -> str:
    """Return the file to execute. Raises: NotStarted when there is none on the PATH."""
    name = argv[0]
    if "/" in name:
        return name
    for folder in path.split(":"):
        candidate = f"{folder or '.'}/{name}"
        if os.path.isfile(candidate) and os.access(candidate, os.X_OK):  # noqa: PTH113 - hot
            return candidate
    raise NotStarted("not-started", f"no program {name} on PATH {path}")


def limits_of(limits: Limits, held: Held) -> list[tuple[int, int, int]]:
    """Return what the child sets: limit, value, and how far above it the hard limit lies."""
    wanted = (
        # SIGXCPU at the limit, and SIGKILL a second later for who ignores it.
        (resource.RLIMIT_CPU, limits.cpu_s, 1),
        (resource.RLIMIT_AS, limits.memory_mib << 20, 0),
        (resource.RLIMIT_FSIZE, limits.file_mib << 20, 0),
        (resource.RLIMIT_NOFILE, limits.open_files, 0),
        (resource.RLIMIT_NPROC, _processes(limits, held), 0),
    )
    return [(resource.RLIMIT_CORE, 0, 0), *(each for each in wanted if each[1])]


def _processes(limits: Limits, held: Held) -> int:
    """Return RLIMIT_NPROC, which counts everything of a user that is not root; 0 for none."""
    if limits.processes:
        return 0 if held.counts else limits.processes
    if held.level not in CONFINING or os.geteuid() == 0:
        return 0
    if held.level == "T2":
        # Its user namespace counts from nothing.
        return GROWTH_MAX
    with open("/proc/loadavg") as file:  # noqa: PTH123 - hot
        return int(file.read().split()[3].partition("/")[2]) + GROWTH_MAX


def instant(epoch_ms: int) -> str:
    """Return an instant as ISO 8601 in UTC, with milliseconds when there are any."""
    seconds, milliseconds = divmod(epoch_ms, 1000)
    text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{text}.{milliseconds:03d}Z" if milliseconds else f"{text}Z"


# ---------------------------------------------------------------------------------- after the end


class _Ending(msgspec.Struct, frozen=True):
    status: Literal["done", "failed", "interrupted"]
    reason: str = ""
    message: str = ""


def _check_started(report: Report | None, command: Command) -> None:
    """Raise NotStarted when the program never ran."""
    if report is None or not report.step:
        return
    text = os.strerror(report.errno) if report.errno else "a value is not valid"
    subject = {
        "fork": "no process could be made",
        "folder": f"folder {command.folder}" if command.folder else "its scratch folder",
        "sandbox": "its sandbox",
        "limits": "its limits",
        "program": command.argv[0],
        "namespaces": "its namespaces",
    }[report.step]
    raise NotStarted("not-started", f"{subject}: {text}")


def _ending(report: Report | None, command: Command) -> _Ending:
    """Return the status, the word and the sentence for how a command ended."""
    if report is None:
        return _Ending("failed", "supervisor-died", "its supervisor was killed, and it with that")
    if report.ended == words.TIMEOUT:
        message = f"no end after {command.limits.timeout_s:g} s; the process tree was ended"
        ending = _Ending("failed", "timeout", message)
    elif report.ended == words.STOPPED:
        ending = _Ending("interrupted", "stopped", "it was stopped before it had ended")
    elif report.ended in (words.NO_LAUNCHER, words.NO_CONDUCTOR):
        ending = _Ending("interrupted", "launcher-died", "its launcher died, and it with that")
    elif report.signal:
        ending = _Ending("failed", "signal", f"ended by {signal_text(report.signal)}")
    elif report.exit == EXIT_DEFERRED:
        ending = _Ending("failed", "deferred", f"exit status {EXIT_DEFERRED}: not now")
    elif report.exit:
        ending = _Ending("failed", "exit", f"exit status {report.exit}")
    else:
        ending = _Ending("done")
    return _with_strays(ending, report)


def _with_strays(ending: _Ending, report: Report) -> _Ending:
    """Say that descendants were left; one that cannot be killed is a failure of its own."""
    if report.survivors:
        text = f"{report.survivors} of its processes could not be killed"
        if ending.status == "done":
            return _Ending("failed", "survivors", text)
        return _Ending(ending.status, ending.reason, f"{ending.message}; {text}")
    if report.strays and ending.status == "done":
        text = f"{report.strays} of its processes outlived it and were killed"
        return _Ending(ending.status, ending.reason, text)
    return ending


def signal_text(number: int) -> str:
    """Return the name of a signal, and of the limit that it means."""
    import signal  # lazy: 1 ms that only a command that was ended by one needs

    try:
        name = signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
    return f"{name}{_EXPLAINED.get(name, '')}"


def _used(report: Report | None) -> Resources:
    if report is None:
        return Resources()
    return Resources(
        duration_ms=report.duration_ms,
        cpu_ms=report.cpu_ms,
        peak_kib=report.peak_kib,
        exit=report.exit if report.exit >= 0 else None,
        signal=report.signal or None,
    )


def parse_result(raw: bytes, masker: Masker) -> tuple[dict[str, Any], bytes]:
    """Return a result, masked and with its floats as decimal text, and its canonical bytes.

    Raises: ResultUnreadable, with a sentence that holds nothing of a secret.
    """
    try:
        value = msgspec.json.decode(raw)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        msg = f"the result is not JSON: {error}"
        raise ResultUnreadable(msg) from error
    if not isinstance(value, dict):
        raise ResultUnreadable("the result is not a JSON object")
    try:
        result = _masked(exact(value), masker)
        data = encode(result)
    except (NotCanonical, RecursionError) as error:
        msg = f"the result cannot be recorded: {error}"
        raise ResultUnreadable(msg) from error
    return result, data


def _masked(value: Any, masker: Masker) -> Any:
    """Return a JSON value without a secret in any text, key or number."""
    if isinstance(value, dict):
        return {_masked_text(key, masker): _masked(item, masker) for key, item in value.items()}
    if isinstance(value, list):
        return [_masked(item, masker) for item in value]
    if isinstance(value, str):
        return _masked_text(value, masker)
    if type(value) is int:
        text = str(value)
        masked = _masked_text(text, masker)
        return value if masked == text else masked
    return value


def _masked_text(text: str, masker: Masker) -> str:
    data = text.encode(errors="surrogatepass")
    masked = masker.mask(data)
    # A value that is no text may begin or end inside of a character.
    return text if masked == data else masked.decode(errors="replace")
