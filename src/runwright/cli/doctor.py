"""`runwright doctor`: what is wrong with this project and this machine, asked from outside."""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
from pathlib import Path
from typing import Any, Final, NamedTuple

import click

from runwright import views
from runwright.bootstrap import isolation, project
from runwright.cli.output import json_option, print_json, settings, style
from runwright.config import Loaded
from runwright.kernel.drive.schedule import anchored, due, start_of
from runwright.kernel.drive.ticks import in_force_of
from runwright.kernel.errors import Exit, RunwrightError, StoreUnwritable
from runwright.kernel.record.entries import ConductorStopped, decode

#: Less free space than this beside the store is a problem, bytes.
FREE_MIN: Final = 64 * 1024 * 1024
#: SQLite before this may corrupt a WAL when two connections checkpoint at once.
SQLITE_FIXED: Final = (3, 51, 3)

#: Level -> what it means here.
LEVELS: Final = {
    "T1": "T1 (Landlock, seccomp, no capabilities)",
    "T0": "T0 only: T1 needs Landlock of Linux 6.12 or later and seccomp, on x86_64 or aarch64",
    "session": "sessions only: levels need Linux",
}
#: What is held beside the level that is applied by default.
T2: Final = "T2 where it is demanded (bubblewrap: namespaces, a network of its own)"


class Finding(NamedTuple):
    """One thing that was looked at."""

    what: str
    #: "ok", "note", "problem".
    state: str
    detail: str


@click.command("doctor")
@json_option
@click.pass_context
def command(ctx: click.Context, *, as_json: bool) -> int:
    """Look at the project and the machine; exits 4 when something is wrong.

    A schedule whose time has passed while nobody conducts is a problem: a dead scheduler is noticed
    here, not by itself.
    """
    loaded = settings(ctx)
    findings = [*_machine(), *_project(loaded)]
    if as_json:
        print_json([finding._asdict() for finding in findings])
    else:
        colours = {"ok": "green", "note": "yellow", "problem": "red"}
        for finding in findings:
            mark = style(finding.state.ljust(7), fg=colours[finding.state])
            click.echo(f"{mark}  {finding.what}: {finding.detail}")
    return Exit.HALT if any(finding.state == "problem" for finding in findings) else Exit.DONE


def _machine() -> list[Finding]:
    version = sqlite3.sqlite_version_info
    old = version < SQLITE_FIXED
    level = isolation.best_level()
    lacking = isolation.lacking()
    return [
        Finding("python", "ok", sys.version.split()[0]),
        Finding(
            "sqlite",
            "note" if old else "ok",
            sqlite3.sqlite_version
            + (
                " (before 3.51.3 two connections that checkpoint at once may corrupt a WAL; "
                "only the conductor writes here)"
                if old
                else ""
            ),
        ),
        Finding(
            "isolation",
            "ok" if level == "T1" else "note",
            LEVELS[level],
        ),
        Finding("isolation", "note" if lacking else "ok", f"no T2: {lacking}" if lacking else T2),
    ]


def _project(loaded: Loaded) -> list[Finding]:
    try:
        store = project.open_store(loaded, read_only=True)
    except RunwrightError as error:
        return [Finding("store", "problem", f"{error}. {error.hint}")]
    findings = []
    try:
        problems = store.check()
        findings.append(
            Finding("store", "problem" if problems else "ok", "; ".join(problems) or store.name)
        )
        if not project.is_shared(loaded):
            free = shutil.disk_usage(project.store_path(loaded).parent).free
            state = "ok" if free >= FREE_MIN else "problem"
            findings.append(Finding("space", state, f"{free >> 20} MiB free"))
        holder = ""
        try:
            holder = store.holder()
            state = "ok" if holder else "note"
            findings.append(Finding("conductor", state, holder or "nobody conducts"))
        except StoreUnwritable as error:
            findings.append(Finding("store", "problem", f"nobody can conduct: {error}"))
        findings += _keys(loaded)
        findings += _memory(loaded, store)
        findings += _late(store, conducted=bool(holder))
        findings += [
            Finding("decision", "note", f"{row['subject']} ({row['state']}): {row['text']}")
            for row in views.waiting(store)
        ]
        findings += _gone(store, conducted=bool(holder))
        waiting = views.outbox(store)
        stuck = [row for row in waiting if row["attempts"]]
        state = "problem" if stuck else "ok"
        findings.append(Finding("outbox", state, f"{len(waiting)} waiting, {len(stuck)} failing"))
    finally:
        store.close()
    return findings


def _keys(loaded: Loaded) -> list[Finding]:
    folder = loaded.path(loaded.settings.signer.keys)
    found = []
    for name in ("ledger.key", "evidence.key"):
        file = folder / name
        if not file.exists():
            found.append(Finding("keys", "problem", f"{file} is missing"))
        elif file.stat().st_mode & 0o077:
            found.append(Finding("keys", "problem", f"{file} may be read by others: chmod 600"))
    return found or [Finding("keys", "ok", str(folder))]


def _memory(loaded: Loaded, store: Any) -> list[Finding]:
    try:
        heads = project.heads(loaded, store)
    except RunwrightError as error:
        return [Finding("signer", "problem", f"{error}. {error.hint}")]
    file = project.memory_path(loaded, project.opened(store).ledger, os.environ)
    unsealed = heads.head.size - heads.sealed.size
    beside = Path(file).is_relative_to(loaded.folder)
    where = f"remembers in {file}" + (" (beside the store: both can be put back together)" * beside)
    state = "note" if beside or unsealed else "ok"
    return [Finding("signer", state, f"{heads.sealed.size} sealed, {unsealed} not yet; {where}")]


def _late(store: Any, *, conducted: bool) -> list[Finding]:
    """Say which schedules have an occurrence that nobody recorded."""
    known, now_ms, found = project.workloads(), project.clock().now_ms(), []
    for row in store.rows("spec"):
        now = views.runs_by(store, known, row)
        if now.refused:
            detail = f"nothing runs {row['name']} by itself: {now.refused}"
            found.append(Finding("schedule", "problem", detail))
        if now.schedule is None or not now.schedule.enabled:
            continue
        last = store.rows(
            "tick",
            {"kind": row["kind"], "name": row["name"], "scheduled": 1},
            order="-last_ms",
            limit=1,
        )
        decision = due(
            anchored(now.schedule, row["applied_ms"]),
            last_ms=last[0]["last_ms"] if last else None,
            # What nobody has recorded yet is in force from the next look on.
            start_ms=start_of(row["since_ms"] if now == in_force_of(row) else now_ms),
            now_ms=now_ms - 60_000,
        )
        late = len(decision.fire) + sum(item.count for item in decision.passed)
        if late:
            state = "problem" if last or conducted else "note"
            found.append(Finding("schedule", state, f"{row['name']}: {late} due and not recorded"))
    return found or [Finding("schedule", "ok", "nothing is late")]


def _gone(store: Any, *, conducted: bool) -> list[Finding]:
    """Say that whoever kept a schedule last ended without saying so, and nobody took its place."""
    last = store.rows("tick", {"scheduled": 1}, order="-seq", limit=1)
    if conducted or not last:
        return []
    stopped = any(
        isinstance(decode(stored.raw).body, ConductorStopped)
        for stored in store.entries(last[0]["seq"])
    )
    if stopped:
        return []
    name = last[0]["name"]
    detail = f"whoever kept the schedule of {name} is gone without having stopped"
    return [Finding("scheduler", "problem", detail)]
