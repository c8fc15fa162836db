"""A systemd unit: the conductor as a service that is watched, drained and started again.

Hardened is what costs a function nothing that it was granted. What would break isolation is left
out: ProtectKernelTunables, ProtectProc, RestrictNamespaces and ProtectHostname (no user namespace
could be set up), ProtectControlGroups (no group could count processes), PrivateTmp and
ProtectSystem=strict (a granted folder would be another one, or read-only).
"""

from __future__ import annotations

import re

from runwright.deployment.job import MARK, File, Job, environment, text_of
from runwright.kernel.errors import Usage

#: Seconds without a sign of life after which the conductor is ended and started again.
WATCHDOG_S = 120
#: Seconds until it is started again.
RESTART_S = 60
#: Seconds that a stop takes beside the draining of functions.
AFTER_DRAIN_S = 30
#: What ends the program for a reason that starting again does not mend: usage, halt.
FINAL = (2, 4)

_USER = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,30}\$?")


def files(job: Job) -> list[File]:
    """Return the unit and its variables. Raises: usage for what systemd cannot carry."""
    unit = _unit(job)
    return [
        environment(job),
        File(path=f"{job.name}.service", data=text_of(unit), shown=text_of(unit).decode()),
    ]


def _unit(job: Job) -> list[str]:
    if job.user and not _USER.fullmatch(job.user):
        message = f"--run-as: {job.user!r} is not the name of a user"
        raise Usage(message)
    stop_s = int(job.drain_s) + AFTER_DRAIN_S
    unit = [
        f"# {MARK}.",
        "[Unit]",
        f"Description=Runwright: the schedule of {specifiers(job.spec)}",
        "After=network.target postgresql.service",
        "",
        "[Service]",
        "Type=notify",
        *([f"User={job.user}"] if job.user else []),
        f"WorkingDirectory={plain_path(job.folder)}",
        f"EnvironmentFile={glob_path(job.environment_file)}",
        f"ExecStart={command(job.command(continuous=True))}",
        "Restart=on-failure",
        f"RestartSec={RESTART_S}",
        f"RestartPreventExitStatus={' '.join(map(str, FINAL))}",
        "TimeoutStartSec=300",
        f"WatchdogSec={WATCHDOG_S}",
        "# The conductor alone is asked to stop; it lets its functions end, and then ends them.",
        "KillSignal=SIGTERM",
        "KillMode=mixed",
        f"TimeoutStopSec={stop_s}",
        "NoNewPrivileges=yes",
        "ProtectSystem=full",
        "ProtectKernelModules=yes",
        "ProtectClock=yes",
        "RestrictSUIDSGID=yes",
        "RestrictRealtime=yes",
        "LockPersonality=yes",
        *(["CapabilityBoundingSet="] if job.user not in ("", "root") else []),
        "",
        "[Install]",
        f"WantedBy={'default' if job.is_session else 'multi-user'}.target",
    ]
    return [line for line in unit if not (job.is_session and line.startswith(_MACHINE_ONLY))]


#: What the manager of a session may not do.
_MACHINE_ONLY = (
    "User=",
    "ProtectSystem=",
    "ProtectKernelModules=",
    "ProtectClock=",
    "CapabilityBoundingSet=",
)


def command(words: tuple[str, ...]) -> str:
    """Return words as the value of ExecStart, without substitution of variables.

    Raises: usage when systemd would not start a program of such a path.
    """
    if set(words[0]) & set("\"'\\"):
        message = f"systemd starts no program whose path holds quotes or backslashes: {words[0]}"
        raise Usage(message, hint="Name another one with --program.")
    return ":" + " ".join(word(text) for text in words)


def word(text: str) -> str:
    """Return text as one word of a command line of systemd."""
    return '"' + specifiers(text.replace("\\", "\\\\").replace('"', '\\"')) + '"'


def specifiers(text: str) -> str:
    """Return text in which systemd finds no specifier."""
    return text.replace("%", "%%")


def plain_path(path: str) -> str:
    """Return a path as a value that systemd takes as it stands. Raises: usage."""
    if path != path.strip() or path.endswith("\\"):
        message = f"systemd takes no path that ends with a blank or a backslash: {path!r}"
        raise Usage(message)
    return specifiers(path)


def glob_path(path: str) -> str:
    """Return a path as a value that systemd takes for a pattern of names. Raises: usage."""
    if set(path) & set("*?[\\"):
        message = f"systemd takes * ? [ and a backslash in this path for a pattern: {path}"
        raise Usage(message, hint="Move the project to a folder without them in its name.")
    return plain_path(path)
