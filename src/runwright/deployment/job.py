"""What is to be kept running, and the files that say so to somebody else's software."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from runwright.kernel.errors import Usage
from runwright.kernel.run import Schedule

#: Stands in the first lines of each file, so that `uninstall` removes nothing else.
MARK = "Written by `runwright service install`"


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A spec of a project, and how it is run."""

    #: The name of the spec.
    spec: str
    kind: str = "cycles"
    #: The absolute path of the project, on the machine that runs it.
    folder: str
    #: The words that start this runwright, the first an absolute path.
    program: tuple[str, ...]
    version: str = ""
    #: As the spec says; None for the interval of its kind.
    schedule: Schedule | None = None
    #: Seconds between cycles instead of the schedule.
    interval_s: int | None = None
    #: The seconds between cycles of a spec without a schedule.
    default_s: int = 3600
    #: The absolute path of the file of variables, beside the project.
    environment_file: str
    #: Variables that the job needs, with their values.
    variables: Mapping[str, str] = {}
    #: Variables that it needs and that have no value yet.
    absent: tuple[str, ...] = ()
    #: Those whose values may be shown.
    public: frozenset[str] = frozenset()
    #: Whose process it is; "": whoever the service manager runs as.
    user: str = ""
    #: Whether it is kept by the manager of one user's session instead of the machine's.
    is_session: bool = False
    drain_s: float = 10.0
    log: str = ""

    @property
    def name(self) -> str:
        """The name of the job among others of its machine."""
        return f"runwright-{self.spec}"

    def command(self, *, continuous: bool) -> tuple[str, ...]:
        """Return the words that run it."""
        words = [*self.program, "run", self.spec]
        if self.kind != "cycles":
            words += ["--kind", self.kind]
        if continuous:
            words.append("--continuous")
            if self.interval_s is not None:
                words += ["--interval", str(self.interval_s)]
        return tuple(words)


class File(msgspec.Struct, frozen=True, kw_only=True):
    """A file to write."""

    #: Where, relative to the folder that the command was given, or absolute.
    path: str
    data: bytes
    mode: int = 0o644
    #: Its text as it may be shown: without secrets.
    shown: str = ""


def check(job: Job) -> None:
    """Refuse what none of the files can carry. Raises: usage."""
    texts = {"the project folder": job.folder, "the user": job.user, "the log": job.log}
    texts["the program"] = "".join(job.program)
    # A value may be a secret: its name says enough.
    for what, text in {**texts, **job.variables}.items():
        if any(ord(sign) < ord(" ") or sign == "\x7f" for sign in text):
            message = f"{what} holds a control character, which no service file carries"
            raise Usage(message)


def environment(job: Job) -> File:
    """Return the file of variables, which systemd and a shell read alike.

    Only its owner may read it: it holds passwords, so that no unit and no crontab does.
    """
    head = [f"# {MARK}; read by systemd and by sh.", "# Add NAME='value'; keep it readable for you"]
    head[1] += " alone (chmod 600)."
    lines = [f"{name}={quoted(value)}" for name, value in sorted(job.variables.items())]
    shown = [
        f"{name}={quoted(value) if name in job.public else '(its value here, not shown)'}"
        for name, value in sorted(job.variables.items())
    ]
    missing = [f"# {name}=" for name in sorted(job.absent)]
    return File(
        path=job.environment_file,
        data=text_of([*head, *lines, *missing]),
        mode=0o600,
        shown=text_of([*head, *shown, *missing]).decode(),
    )


def quoted(value: str) -> str:
    """Return a value as one word, for sh and for systemd's EnvironmentFile alike."""
    if "'" not in value:
        return f"'{value}'"
    for sign in '\\"$`':
        value = value.replace(sign, f"\\{sign}")
    return f'"{value}"'


def text_of(lines: list[str]) -> bytes:
    """Return lines as the bytes of a file."""
    return ("\n".join(lines) + "\n").encode()
