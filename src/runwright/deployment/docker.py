"""A Dockerfile: this runwright and the project's files, run by a user who is not root.

The record and the keys are no part of an image: they are kept in a volume.
"""

from __future__ import annotations

import json
import re

from runwright.deployment.job import MARK, File, Job, text_of

IMAGE = "python:3.11-slim"
#: Nobody of this number is on the host.
USER = 10001
#: Kept in a volume: the store, the keys, what the signer remembers.
STATE = ".runwright"

_PLAIN = re.compile(r"[A-Za-z0-9_./:@+,=-]+")


def files(job: Job) -> list[File]:
    """Return the Dockerfile, and what of the project no image holds."""
    extra = "[postgres]" if any(name.startswith("PG") for name in job.variables) else ""
    variables = {
        **{name: job.variables[name] for name in sorted(job.variables) if name in job.public},
        "RUNWRIGHT_SIGNER_MEMORY": f"{STATE}/memory",
        "PYTHONUNBUFFERED": "1",
    }
    secret = sorted({*job.variables, *job.absent} - variables.keys())
    program = Job(
        spec=job.spec,
        kind=job.kind,
        folder=job.folder,
        program=("runwright",),
        interval_s=job.interval_s,
        environment_file="",
    ).command(continuous=True)
    lines = [
        f"# {MARK}.",
        f"FROM {IMAGE}",
        "WORKDIR /app",
        f'RUN pip install --no-cache-dir "runwright{extra}=={job.version}"',
        "COPY . /app/",
        f"RUN mkdir -p {STATE} out && chown -R {USER}:{USER} {STATE} out && chown {USER} .",
        *(f"ENV {name}={_value(value)}" for name, value in variables.items()),
        *([f"# Given when it is started, never kept here: {', '.join(secret)}"] if secret else []),
        f"USER {USER}:{USER}",
        f'VOLUME ["/app/{STATE}", "/app/out"]',
        "STOPSIGNAL SIGTERM",
        'HEALTHCHECK --interval=60s --timeout=30s --start-period=60s CMD ["runwright", "doctor"]',
        f"CMD {json.dumps(program)}",
    ]
    ignored = [f"# {MARK}.", STATE, "out", "**/*.key", "**/*.env", ".git", "**/__pycache__"]
    return [
        File(path="Dockerfile", data=text_of(lines), shown=text_of(lines).decode()),
        File(path=".dockerignore", data=text_of(ignored), shown=text_of(ignored).decode()),
    ]


def _value(text: str) -> str:
    """Return a value of ENV, in which Docker substitutes nothing."""
    if _PLAIN.fullmatch(text):
        return text
    for sign in '\\"$':
        text = text.replace(sign, f"\\{sign}")
    return f'"{text}"'
