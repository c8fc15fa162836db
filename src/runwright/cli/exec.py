"""`runwright exec`: any command as a sealed run."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click
import msgspec

from runwright import views
from runwright.bootstrap import project
from runwright.cli import run
from runwright.cli.output import denied, json_option, messages, print_json, settings
from runwright.kernel.drive.requests import RunBody
from runwright.kernel.errors import Exit, Usage


@click.command("exec", context_settings={"ignore_unknown_options": True})
@click.option("--env", multiple=True, metavar="NAME", help="Grant a variable of this environment.")
@click.option("--secret", multiple=True, metavar="NAME", help="Grant one and mask its value.")
@click.option("--write", multiple=True, metavar="PATH", help="Grant a folder or file to write.")
@click.option(
    "--network",
    multiple=True,
    metavar="any|none|HOST:PORT",
    help="What it may reach; HOST:PORT may be given several times.  [default: any]",
)
@click.option(
    "--level", type=click.Choice(["T0", "T1", "T2"]), help="The best there is unless given."
)
@click.option("--timeout", type=float, default=300.0, show_default=True, help="Seconds.")
@json_option
@click.argument("words", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_context
def command(ctx: click.Context, /, words: tuple[str, ...], *, as_json: bool, **granted: Any) -> int:
    """Run `-- COMMAND …` isolated, recorded and sealed; exits with its status.

    It gets no variable that is not granted, and from level T1 on writes only below its scratch
    folder and what --write grants. Its output is shown when it has ended.
    """
    loaded = settings(ctx)
    env, secret = granted["env"], granted["secret"]
    for name in secret:
        value = os.environ.get(name)
        if value and any(value in word for word in words):
            # A shell put it there before this command saw it; recording it would publish it.
            msg = f"the command holds the value of {name}, and a command is recorded as it is"
            raise Usage(msg, hint="Let the command read the variable: sh -c 'tool \"$NAME\"'.")
    spec = {"kind": "cycles", "name": "exec", "folder": str(Path.cwd()), "orchestrator": "exec"}
    wish = RunBody(
        kind="cycles",
        name="exec",
        inline=msgspec.json.encode(spec).decode(),
        args={
            "command": list(words),
            "env": [*env, *(name for name in secret if name not in env)],
            "secret": list(secret),
            "write": [str(Path(path).absolute()) for path in granted["write"]],
            "network": _network(granted["network"]),
            "level": granted["level"] or "",
            "timeout_ms": int(granted["timeout"] * 1000),
            "folder": str(Path.cwd()),
        },
    )
    result = run.once(loaded, wish, messages(loaded))
    if result.get("error") or not result.get("rounds"):
        return run.finish(loaded, result, as_json=as_json)
    store = project.open_store(loaded, read_only=True)
    try:
        shown = views.round_detail(store, result["rounds"][-1])
        outputs = {name: views.output(store, shown, name) for name in ("stdout", "stderr")}
    finally:
        store.close()
    ran = shown["runs"][0]
    status = _status(ran, result)
    if as_json:
        print_json({**result, "run": ran, "exit": status})
    else:
        sys.stdout.buffer.write(outputs["stdout"])
        sys.stdout.flush()
        sys.stderr.buffer.write(outputs["stderr"])
    if hint := denied(ran, outputs["stderr"].decode(errors="replace")):
        click.echo(f"runwright: {hint} See --write and --level.", err=True)
    note = f"runwright: {result['label']} {ran['status']} {ran['message']}".rstrip()
    click.echo(f"{note} (exit {status})", err=True)
    return status


def _network(words: tuple[str, ...]) -> str | list[str]:
    """Return what may be reached. Raises: usage."""
    if not words or words in (("any",), ("none",)):
        return words[0] if words else "any"
    for word in words:
        host, _, port = word.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
            msg = f"--network {word} is not any, none or host:port"
            raise Usage(msg, hint="Give any, or none, or HOST:PORT once or several times.")
    return [*words]


def _status(ran: dict[str, object], result: object) -> int:
    """Return the child's status; 124 when it timed out; 128 + n for a signal."""
    used = ran["used"]
    if ran["reason"] == "timeout":
        return Exit.TIMED_OUT
    if isinstance(used, dict):
        if used.get("exit") is not None:
            return int(used["exit"])
        if used.get("signal"):
            return 128 + int(used["signal"])
    return run.status_of(result) if isinstance(result, dict) else Exit.FAILED_FUNCTIONS
