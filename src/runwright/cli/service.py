"""`runwright service`: files by which a machine keeps a spec running."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from runwright import __version__
from runwright.bootstrap import project
from runwright.cli.output import json_option, print_json, settings, style
from runwright.config import Loaded, fields, value_of
from runwright.deployment import cron, docker, systemd, windows
from runwright.deployment.job import MARK, File, Job, check
from runwright.kernel.errors import StoreUnwritable, UnknownName, Usage

KINDS: Final = ("systemd", "cron", "docker", "windows")
#: Where a client of PostgreSQL looks, and may be shown to look.
PUBLIC: Final = ("PGHOST", "PGPORT", "PGDATABASE", "PGUSER", "PGSSLMODE", "PGSSLROOTCERT")
#: What goes with it and is nobody else's business.
PRIVATE: Final = ("PGPASSWORD", "PGPASSFILE", "DATABASE_URL")
#: How a file of variables is told from the others.
PRIVATE_MODE: Final = 0o600
#: How a machine may call the zone that its clock shows when that is UTC.
UTC_NAMES: Final = frozenset(
    {"UTC", "Etc/UTC", "Etc/UCT", "Zulu", "Universal", "Etc/Universal", ""}
)


def _options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that say which files of which job."""
    for option in (
        click.option("--for", "target", type=click.Choice(KINDS), required=True, help="For whom."),
        click.option("--kind", type=click.Choice(project.KINDS), default="cycles", hidden=True),
        click.option("--interval", type=int, help="Seconds between cycles, not the schedule."),
        click.option("--user", "session", is_flag=True, help="systemd: of your own session."),
        click.option("--run-as", default="", metavar="USER", help="systemd: this user's process."),
        click.option("--program", metavar="PATH", help="The runwright of the machine it is for."),
        click.option("--folder", metavar="PATH", help="The project on the machine it is for."),
        click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder."),
        click.argument("name"),
    ):
        function = option(function)
    return function


@click.group("service")
def command() -> None:
    """Keep a spec running by what this machine keeps things running with."""


@command.command("show")
@_options
@json_option
@click.pass_context
def show(ctx: click.Context, /, name: str, *, as_json: bool, **options: Any) -> None:
    """Show the files that `install` would write, without the values of secrets."""
    files, steps = _files(settings(ctx), name, options, ctx.obj["start"])
    if as_json:
        print_json({"files": [_described(path, file) for path, file in files], "next": steps})
        return
    for path, file in files:
        click.echo(style(f"# {path} ({_state(path, file)}, mode {file.mode:o})", bold=True))
        click.echo(file.shown)


@command.command("install")
@_options
@click.option("--force", is_flag=True, help="Overwrite files that are there and differ.")
@json_option
@click.pass_context
def install(
    ctx: click.Context, /, name: str, *, force: bool, as_json: bool, **options: Any
) -> None:
    """Write the files, and say what to type next; nothing is started.

    A file of variables that is there already is kept: somebody may have put a password into it.
    """
    files, steps = _files(settings(ctx), name, options, ctx.obj["start"])
    states = {path: _state(path, file) for path, file in files}
    kept = [path for path, file in files if file.mode == PRIVATE_MODE and states[path] == "differs"]
    different = [path for path, state in states.items() if state == "differs" and path not in kept]
    if different and not force:
        message = f"{', '.join(map(str, different))}: there already, and not what would be written"
        raise Usage(message, hint="Look with `service show`; --force overwrites.")
    done = []
    for path, state in states.items():
        is_kept = path in kept and not force
        word = "same" if state == "same" else "kept" if is_kept else "written"
        done.append({"path": str(path), "state": word})
    _check_folders([path for path, _ in files])
    for (path, file), what in zip(files, done, strict=True):
        if what["state"] == "written":
            project.keep(path, file.data, mode=file.mode)
    if as_json:
        print_json({"files": done, "next": steps})
        return
    for what in done:
        click.echo(f"{what['state']:<8} {what['path']}")
    for step in steps:
        click.echo(f"next     {step}")


@command.command("uninstall")
@_options
@json_option
@click.pass_context
def uninstall(ctx: click.Context, /, name: str, *, as_json: bool, **options: Any) -> None:
    """Remove the files that `install` wrote; stop what they started first."""
    files, _ = _files(settings(ctx), name, options, ctx.obj["start"])
    there = [path for path, _ in files if path.exists()]
    foreign = [path for path in there if MARK not in _text(path)]
    if foreign:
        message = f"{', '.join(map(str, foreign))}: not written by this command, so not removed"
        raise Usage(message)
    for path in there:
        try:
            path.unlink()
        except OSError as error:
            message = f"{path} cannot be removed: {error.strerror}"
            raise StoreUnwritable(message) from error
    if as_json:
        print_json({"removed": [str(path) for path in there]})
        return
    for path in there:
        click.echo(f"removed  {path}")
    if not there:
        click.echo("nothing is installed")


def _files(
    loaded: Loaded, name: str, options: Mapping[str, Any], start: Path
) -> tuple[list[tuple[Path, File]], list[str]]:
    """Return the files of a job with their absolute paths, and what to type when they are there.

    Raises: unknown-name, usage.
    """
    target = options["target"]
    job, since_ms = _job(loaded, name, options)
    check(job)
    if target == "systemd":
        folder, files = _unit_folder(session=job.is_session), systemd.files(job)
    elif target == "cron":
        folder, files = loaded.folder / "deploy", cron.files(job, zone=_zone())
    elif target == "docker":
        folder, files = loaded.folder, docker.files(job)
    else:
        folder, files = loaded.folder / "deploy", windows.files(job, since_ms=since_ms)
    out = start / options["out"] if options["out"] else folder
    private = project.service_folder(loaded)
    placed = [
        (private / Path(file.path).name if file.mode == PRIVATE_MODE else out / file.path, file)
        for file in files
    ]
    return placed, _steps(target, job, placed[-1][0])


def _job(loaded: Loaded, name: str, options: Mapping[str, Any]) -> tuple[Job, int]:
    """Return the job of a spec, and when that was first applied. Raises: unknown-name, usage."""
    if options["target"] != "systemd" and (options["session"] or options["run_as"]):
        message = "--user and --run-as go with --for systemd"
        raise Usage(message)
    if options["session"] and options["run_as"]:
        message = "--run-as does not go with --user: a session is one user's"
        raise Usage(message)
    if options["interval"] is not None and options["interval"] <= 0:
        message = f"--interval: {options['interval']} is not above 0"
        raise Usage(message)
    store = project.open_store(loaded, read_only=True)
    try:
        rows = store.rows("spec", {"kind": options["kind"], "name": name})
        if not rows:
            message = f"no {options['kind']} spec of the name {name!r} was applied"
            raise UnknownName(message)
        tasks = store.rows("task_registry") if options["kind"] == "cycles" else []
        memory = project.memory_path(loaded, project.opened(store).ledger, os.environ).parent
    finally:
        store.close()
    workload = project.workloads()[options["kind"]]
    variables = {"RUNWRIGHT_SIGNER_MEMORY": str(memory), **_overrides(loaded)}
    public = frozenset({*PUBLIC, *variables})
    wanted = {*PUBLIC, *PRIVATE, *_granted(tasks, name)}
    variables.update({each: os.environ[each] for each in wanted if os.environ.get(each)})
    service, folder = project.service_folder(loaded), options["folder"] or str(loaded.folder)
    base = Path(folder) / service.relative_to(loaded.folder)
    job = Job(
        spec=name,
        kind=options["kind"],
        folder=folder,
        program=(options["program"],) if options["program"] else _program(),
        version=__version__,
        schedule=project.spec_of({options["kind"]: workload}, rows[0]).schedule,
        interval_s=options["interval"],
        default_s=workload.interval_s or 3600,
        environment_file=str(base / f"{name}.env"),
        variables=variables,
        absent=tuple(sorted(_granted(tasks, name) - variables.keys())),
        public=public,
        user=options["run_as"],
        is_session=options["session"],
        drain_s=loaded.settings.conductor.drain_s,
        log=str(base / f"{name}.log"),
    )
    return job, rows[0]["applied_ms"]


def _overrides(loaded: Loaded) -> dict[str, str]:
    """Return the settings that stand in no file: a service would not have them."""
    return {
        f"RUNWRIGHT_{name.upper().replace('.', '_')}": str(value_of(loaded.settings, name))
        for name, _ in fields()
        if loaded.origins[name].startswith(("flag", "environment"))
    }


def _granted(tasks: list[dict[str, Any]], name: str) -> set[str]:
    """Return the variables that the functions of a spec are granted out of the conductor's."""
    found: set[str] = set()
    for row in tasks:
        if row["enabled"] and row["spec_name"] in ("", name):
            try:
                config = msgspec.json.decode(row["task_config"])
            except msgspec.DecodeError:
                # A row that somebody changed by hand; the next plan says what is wrong with it.
                continue
            granted = config.get("env", ()) if isinstance(config, dict) else ()
            found.update(text for text in granted if isinstance(text, str))
    return found


def _program() -> tuple[str, ...]:
    """Return the words that start this very runwright, whatever PATH says later."""
    beside = Path(sys.executable).with_name("runwright")
    return (str(beside),) if beside.exists() else (sys.executable, "-m", "runwright")


def _unit_folder(*, session: bool) -> Path:
    if not session:
        return Path("/etc/systemd/system")
    base = os.environ.get("XDG_CONFIG_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".config") / "systemd" / "user"


def _zone() -> str:
    """Return the time zone that cron of this machine goes by."""
    link = Path("/etc/localtime")
    _, _, name = str(link.resolve()).partition("/zoneinfo/")
    return "UTC" if name in UTC_NAMES else name


def _steps(target: str, job: Job, path: Path) -> list[str]:
    """Return what to type when the files are there."""
    image, volume = job.name, f"-v {job.name}:/app/.runwright"
    missing = [f"fill in {', '.join(job.absent)} in {job.environment_file}"] if job.absent else []
    if target == "systemd":
        manager = "systemctl --user" if job.is_session else "systemctl"
        steps = [f"{manager} daemon-reload", f"{manager} enable {job.name}"]
        return [*missing, *steps, f"{manager} start {job.name}", f"{manager} status {job.name}"]
    if target == "cron":
        return [*missing, f"(crontab -l 2>/dev/null; cat '{path}') | crontab -"]
    secret = sorted({*job.variables, *job.absent} - job.public)
    if target == "docker":
        given = "".join(f" -e {name}" for name in secret)
        return [
            f"docker build -t {image} {path.parent}",
            f"docker run --rm {volume} {image} runwright init --name {job.spec}",
            f"docker run --rm {volume} {image} runwright apply SPEC.yaml",
            f"docker run -d --restart on-failure {volume}{given} {image}",
        ]
    names = sorted({*job.variables, *job.absent})
    return [
        f"schtasks /Create /TN {job.name} /XML {path.name}",
        f"set for the user of the task: {', '.join(names)}",
    ]


def _state(path: Path, file: File) -> str:
    """Return how a file that is there compares with what would be written."""
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return "new"
    except OSError as error:
        message = f"{path} cannot be read: {error.strerror}"
        raise Usage(message) from error
    return "same" if data == file.data else "differs"


def _check_folders(paths: list[Path]) -> None:
    """Refuse before the first file is written what could not be written as a whole."""
    for path in paths:
        folder = next(above for above in path.parents if above.exists())
        if not folder.is_dir() or not os.access(folder, os.W_OK):
            message = f"{path} cannot be written: {folder} is not yours to write to"
            raise Usage(message, hint="Give it as root, or name another folder with --out.")


def _text(path: Path) -> str:
    data = path.read_bytes()
    return data.decode("utf-16" if data[:2] == b"\xff\xfe" else "utf-8", errors="replace")


def _described(path: Path, file: File) -> dict[str, Any]:
    state = _state(path, file)
    return {"path": str(path), "mode": f"{file.mode:o}", "state": state, "text": file.shown}
