"""What `runwright run` does: one cycle, a dry run, one function, or the schedule until a signal."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # typeshed knows only `signal`, an enum of 1 ms
import os
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import closing
from types import FrameType
from typing import Any, Final

import msgspec

from runwright.bootstrap import project
from runwright.cli.output import (
    messages,
    print_json,
    print_table,
    reader_may_be_gone,
    user,
)
from runwright.cli.terminal import echo, style
from runwright.config import Loaded
from runwright.kernel.drive.lifecycle import Stop
from runwright.kernel.drive.requests import RunBody
from runwright.kernel.errors import (
    CommitUnknown,
    Exit,
    Frozen,
    Halt,
    InvalidSpec,
    StoreBusy,
    StoreUnreachable,
    UnknownName,
    Usage,
)
from runwright.kernel.ports import Messages, Request, Store
from runwright.kernel.run import Command, Requested, Round, RunPlan
from runwright.kernel.workload import Seen, Workload

#: Seconds until a shared store that went away is tried again: doubled each time, up to the most.
OUTAGE_MIN_S: Final = 0.5
OUTAGE_MAX_S: Final = 30.0


def run(loaded: Loaded, name: str, options: Mapping[str, Any]) -> int:
    """Run the spec of a name as the options say; return the exit status."""
    _check_options(options)
    if options["dry_run"]:
        return dry_run(loaded, name, options)
    say = narrator(loaded)
    if options["continuous"]:
        return continuous(loaded, name, options, say)
    wish = RunBody(kind=options["kind"], name=name, at_ms=_instant(options["at"]))
    if options["function"]:
        wish.args["function"] = options["function"]
    result = once(loaded, wish, say)
    return finish(loaded, result, as_json=options["as_json"])


def once(loaded: Loaded, wish: RunBody, say: Messages) -> Mapping[str, Any]:
    """Conduct one tick, or hand it to whoever conducts; return what came of it.

    Raises: unknown-name, halt.
    """
    from runwright.bootstrap.conducting import conducting  # lazy: a dry run only looks

    stop = handle_signals()
    _wait_until(wish.at_ms, stop, say)
    if stop:
        return {"tick": "", "stopped": "signal", "signal": stop.signal}
    time = project.clock()
    request = Request(
        id=time.entropy(16).hex(), kind="run", body=b"", created_ms=time.now_ms(), by=user()
    )
    try:
        with conducting(loaded, messages=say, stop=stop) as (conductor, ports):
            try:
                conductor.recover()
                tick = Requested(
                    id=request.id,
                    planned_ms=wish.at_ms or request.created_ms,
                    by=request.by,
                    args=wish.args,
                )
                inline = wish.inline.encode() if wish.inline else None
                found = conductor.conduct(wish.kind, wish.name, tick, inline=inline)
                conductor.outbox.pump()
                if ports.store.rows("request", {"state": "open"}, limit=1) and not stop:
                    # lazy: others asked
                    from runwright.bootstrap import bells  # lazy: as above
                    from runwright.kernel.drive.service import Service  # lazy: as above

                    bell = bells.bell(bells.bell_path(loaded))
                    try:
                        Service(conductor, ports, bell).drain()
                    finally:
                        bell.close()
            except Halt as error:
                conductor.halt(error)
                raise
        return {**msgspec.to_builtins(found), "signal": stop.signal}
    except StoreBusy as error:
        if wish.args.get("env"):
            # Its values would be those of the conductor's environment, not of this one.
            message = f"{error}; a command with granted variables is not handed over"
            raise StoreBusy(message, hint="Give it again when the conductor has ended.") from error
        from runwright.cli import submit  # lazy: only beside another conductor

        body = msgspec.json.encode(wish)
        request = msgspec.structs.replace(request, body=body)
        answer: Mapping[str, Any] = submit.hand_over(loaded, request, say)
        return answer


def continuous(loaded: Loaded, name: str, options: Mapping[str, Any], say: Messages) -> int:
    """Serve the schedule of one spec until a signal, through outages of a shared store.

    Raises: store-busy, unknown-name, halt.
    """
    from runwright.bootstrap import bells  # lazy: one cycle is told to nobody

    stop = handle_signals()
    serving = Serving(kind=options["kind"], name=name, interval_s=options["interval"])
    serving.since_ms = project.clock().now_ms()
    with closing(bells.notifier(loaded, stop)) as notifier:
        serving.pulse = notifier.pulse
        return _through_outages(loaded, serving, stop, notifier.telling(say))


def _through_outages(loaded: Loaded, serving: Serving, stop: Stop, say: Messages) -> int:
    while True:
        try:
            return serve(loaded, serving, stop, say)
        except (StoreUnreachable, CommitUnknown, StoreBusy) as error:
            if not project.is_shared(loaded) or not serving.has_begun:
                raise
            # A commit that raised is looked up by the next start, which is what comes now. A store
            # that is busy has another conductor, or has not noticed yet that this one was cut off.
            serving.outages += 1
            wait_s = min(OUTAGE_MAX_S, OUTAGE_MIN_S * 2 ** (serving.outages - 1))
            say("store.lost", str(error), level="error", code=error.code, again_s=wait_s)
            serving.pulse()
        if wait_or_stop(wait_s, stop):
            return 128 + stop.signal


class Serving(msgspec.Struct, kw_only=True):
    """A schedule that is served, through several conductors when the store goes away."""

    kind: str
    name: str
    interval_s: int | None = None
    #: The interval stands in for a schedule that is missing.
    gives_way: bool = False
    #: When the command was given: a schedule without a grid of its own hangs on it.
    since_ms: int = 0
    #: Whether it was ever served: what is wrong from the start ends the command.
    has_begun: bool = False
    #: How often the store was lost since it last was reached.
    outages: int = 0
    #: Tells a service manager that all is well, and says when it is to be told again.
    pulse: Callable[[], float | None] = lambda: None


def serve(loaded: Loaded, serving: Serving, stop: Stop, say: Messages) -> int:
    """Conduct until a signal. Raises: store-busy, unknown-name, halt."""
    # lazy: one cycle needs no schedule
    from runwright.bootstrap import bells  # lazy: as above
    from runwright.bootstrap.conducting import conducting  # lazy: as above
    from runwright.kernel.drive.service import Service  # lazy: as above

    kind, name = serving.kind, serving.name
    with conducting(loaded, messages=say, stop=stop, continuous=True, pulse=serving.pulse) as made:
        conductor, ports = made
        try:
            bell = bells.bell(bells.bell_path(loaded))
            try:
                conductor.recover()
                if not ports.store.rows("spec", {"kind": kind, "name": name}):
                    message = f"no {kind} spec of the name {name!r} was applied"
                    raise UnknownName(message)

                def service() -> Service:
                    made = Service(
                        conductor,
                        ports,
                        bell,
                        only=(kind, name),
                        interval_s=serving.interval_s,
                        by=user(),
                    )
                    # Also after an outage: what fell due in it is owed.
                    made.started_ms, made.gives_way = serving.since_ms, serving.gives_way
                    return made

                serves = service()
                if serving.interval_s is None and serves.has_none():
                    serving.interval_s = ports.workloads[kind].interval_s
                    if serving.interval_s is None:
                        message = f"the spec {name!r} has no schedule"
                        raise InvalidSpec(message, hint="Give it one, or use --interval SECONDS.")
                    serving.gives_way = True
                    serves = service()
                say(
                    "store.reached" if serving.outages else "conductor.started",
                    name=name,
                    kind=kind,
                )
                serving.has_begun, serving.outages = True, 0
                serves.run()
                say("conductor.stopped", signal=stop.signal)
            finally:
                bell.close()
        except Halt as error:
            conductor.halt(error)
            raise
    return 128 + stop.signal if serves.undone else Exit.DONE


def dry_run(loaded: Loaded, name: str, options: Mapping[str, Any]) -> int:
    """Show what one cycle would execute; the store is opened for reading only."""
    from runwright.kernel.drive.ticks import decode_spec  # lazy: dry runs only
    from runwright.kernel.drive.world import StoreWorld  # lazy: dry runs only

    store = project.open_store(loaded, read_only=True)
    try:
        rows = store.rows("spec", {"kind": options["kind"], "name": name})
        if not rows:
            message = f"no {options['kind']} spec of the name {name!r} was applied"
            raise UnknownName(message, hint=_stream_hint(store, name))
        workload = project.workloads()[options["kind"]]
        spec = decode_spec(workload, rows[0]["body"])
        at = _instant(options["at"]) or project.clock().now_ms()
        args = {"function": options["function"]} if options["function"] else {}
        tick = Requested(id="dry-run", planned_ms=at, args=args)
        frozen = _frozen_reason(store, name, project.clock().now_ms())
        facts = workload.observe(spec, tick, StoreWorld(store))
        seen = Seen(spec=spec, tick=tick, at=at, facts=facts)
        planned = workload.plan(seen)
    finally:
        store.close()
    runs = [
        _planned_run(loaded, index, run)
        for index, run in enumerate(_permitted(workload, seen, planned), 1)
    ]
    problems = [f"{run['function']}: {run['problem']}" for run in runs if run["problem"]]
    problems += [frozen] if frozen else []
    if options["as_json"]:
        label = planned.label if planned else ""
        print_json({"name": name, "label": label, "runs": runs, "problems": problems})
    else:
        print_table(
            ["", "function", "agent", "timeout s", "path or command"],
            [[r["order"], r["function"], r["agent"], r["timeout_s"], r["path"]] for r in runs],
            right=["timeout s"],
        )
    for problem in problems:
        echo(f"cannot run: {problem}", err=True)
    return Exit.USAGE if problems else Exit.DONE


def _frozen_reason(store: Store, name: str, now_ms: int) -> str:
    """Return which decision of a person stands against a spec; empty when none does."""
    from runwright.kernel.people import stand  # lazy: dry runs only

    found = stand(store.rows("decision", {"subject": f"spec/{name}"}, order="seq"), now_ms)
    if found is None:
        return ""
    return f"{found['action']} by {found['person']} (entry {found['seq']}): {found['reason']}"


def _stream_hint(store: Store, name: str) -> str:
    """Return what to do when the name is that of a stream."""
    is_stream = store.rows("spec", {"kind": "streams", "name": name}, columns=("name",))
    return f"It is a stream: runwright streams run {name}" if is_stream else ""


def _permitted(workload: Workload, seen: Seen, planned: Round | None) -> list[RunPlan]:
    """Return the runs of a round, refused where they would be if every other one started once."""
    found, starts = [], dict[str, int]()
    for run in planned.runs if planned else ():
        permit = workload.permit
        if run.refused or permit is None or planned is None:
            found.append(run)
            continue
        answer = permit(seen, planned, run, {}, starts)
        found.append(msgspec.structs.replace(run, refused=answer.refused))
        if not answer.refused:
            starts[run.key] = 1
    return found


def _planned_run(loaded: Loaded, index: int, run: RunPlan) -> dict[str, Any]:
    """Return a planned run as a row of the plan, with the reason why it could not run."""
    shown = {"order": index, "function": run.key, "agent": run.agent, "problem": run.refused}
    if not isinstance(run.work, Command):
        return {**shown, "path": run.work.name, "timeout_s": None}
    from runwright.bootstrap import isolation  # lazy: dry runs only

    return {
        **shown,
        "problem": run.refused or isolation.problem_of(loaded, run.work),
        "path": run.work.script.path if run.work.script else " ".join(run.work.argv),
        "timeout_s": run.work.limits.timeout_s,
        "environment": list(run.work.env),
        "network": run.work.network,
        "network_enforced": run.work.network != "any",
        "write": list(run.work.write),
        "level": isolation.level_of(run.work),
    }


def finish(loaded: Loaded, result: Mapping[str, Any], *, as_json: bool) -> int:
    """Print what came of a run and return the exit status."""
    status = status_of(result)
    with reader_may_be_gone():
        _print_result(loaded, result, status, as_json=as_json)
    return status


def _print_result(loaded: Loaded, result: Mapping[str, Any], status: int, *, as_json: bool) -> None:
    if as_json:
        print_json({**result, "exit": status})
        return
    if result.get("error"):
        label = style(f"error[{result['error']}]", fg="red", bold=True)
        echo(f"{label}: {result['message']}", err=True)
        return
    if result.get("label"):
        counts = ", ".join(f"{count} {word}" for word, count in result["outcomes"].items())
        evidence = (
            loaded.path(loaded.settings.files.folder) / "evidence" / f"{result['label']}.json"
        )
        echo(f"{result['label']}  {result['outcome']}  {counts}")
        if evidence.exists():
            echo(f"evidence  {evidence}")
        echo(f"look      runwright show {result['label']}")


def status_of(result: Mapping[str, Any]) -> int:
    """Return the exit status of what came of a tick: the most severe wins."""
    if result.get("error"):
        return Exit.INCONCLUSIVE if result["error"] == Frozen.code else Exit.USAGE
    outcomes = result.get("outcomes", {})
    undone = outcomes.get("interrupted", 0) + outcomes.get("skipped", 0)
    if result.get("verdict") == "INVALID":
        return Exit.HALT
    if result.get("signal") and (undone or not result.get("tick")):
        return 128 + int(result["signal"])
    if outcomes.get("failed", 0):
        return Exit.FAILED_FUNCTIONS
    if undone:
        return Exit.INCONCLUSIVE
    return Exit.DONE


def handle_signals() -> Stop:
    """Turn SIGTERM and SIGINT into requests to stop: the first drains, the second kills."""
    stop = Stop()

    def handler(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        stop.ask(number)

    # A signal that comes just before the main thread blocks does not end that wait, and the handler
    # runs only after it. The number of each signal arrives here as well, and this thread ends it.
    arrived, arriving = os.pipe()
    os.set_blocking(arriving, False)
    _signal.set_wakeup_fd(arriving, warn_on_full_buffer=False)

    def watch() -> None:
        while os.read(arrived, 64):
            stop.wake()

    threading.Thread(target=watch, daemon=True).start()
    for number in (_signal.SIGTERM, _signal.SIGINT):
        _signal.signal(number, handler)
    return stop


def narrator(loaded: Loaded) -> Messages:
    """Return where messages go: a cycle as lines for people, JSON lines for machines."""
    plain = messages(loaded)
    form = loaded.settings.messages.form
    if form == "json" or (form == "auto" and not sys.stderr.isatty()):
        return plain
    from runwright.cli.narrate import Narrator  # lazy: machines read the messages as they are

    specs: dict[tuple[str, str], Any] = {}

    def spec(kind: str, name: str) -> Any:
        if (kind, name) not in specs:
            store = project.open_store(loaded, read_only=True)
            rows = store.rows("spec", {"kind": kind, "name": name})
            store.close()
            known = project.workloads()[kind].Spec
            specs[kind, name] = msgspec.json.decode(rows[0]["body"], type=known) if rows else None
        return specs[kind, name]

    store = project.store_name(loaded)
    return Narrator(project.clock(), spec, plain, store=store)


def _check_options(options: Mapping[str, Any]) -> None:
    if options["interval"] is not None and not options["continuous"]:
        message = "--interval: goes with --continuous"
        raise Usage(message)
    if options["interval"] is not None and options["interval"] <= 0:
        message = f"--interval: {options['interval']} is not above 0"
        raise Usage(message)
    if options["function"] is not None and not options["function"].strip():
        message = f"--function: {options['function']!r} is no name of a function"
        raise Usage(message)
    for name in ("dry_run", "at", "function"):
        if options["continuous"] and options[name]:
            message = f"--{name.replace('_', '-')}: does not go with --continuous"
            raise Usage(message)


def _instant(text: str | None) -> int:
    """Return an instant in epoch ms; 0 for none. Raises: usage."""
    if text is None:
        return 0
    from datetime import UTC, datetime  # lazy: only --at names an instant

    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        message = f"--at: {text!r} is not an instant in ISO 8601, like 2026-11-20T06:00:00Z"
        raise Usage(message) from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return int(moment.timestamp() * 1000)


def wait_or_stop(wait_s: float, stop: Stop) -> bool:
    """Wait; return whether a signal asked to stop."""
    woken = threading.Event()
    stop.on(woken.set)
    if not stop:
        woken.wait(wait_s)
    return bool(stop)


def _wait_until(at_ms: int, stop: Stop, say: Messages) -> None:
    wait_ms = at_ms - project.clock().now_ms()
    if wait_ms <= 0:
        return
    say("run.waiting", seconds=round(wait_ms / 1000, 1))
    woken = threading.Event()
    stop.on(woken.set)
    while not stop and (wait_ms := at_ms - project.clock().now_ms()) > 0:
        woken.wait(min(wait_ms / 1000, 60.0))
