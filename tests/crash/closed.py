"""One check of a project after a fault and the next start: what was lost, doubled, left, repeated.

It compares three moments: before the command, what the disk held when the command had ended, and
what the next start made of that.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from tests.crash.stage import FUNCTIONS
from tests.e2e.project import Done, Project

#: What a finding may be about.
WORDS = ("lost", "duplicated", "orphaned", "repeated", "open", "unverified", "unclear")


class Finding(NamedTuple):
    """Something that the check does not let pass."""

    word: str
    text: str

    def __str__(self) -> str:
        return f"{self.word}: {self.text}"


class Held(NamedTuple):
    """What a store's files hold at one moment."""

    raw: list[bytes]
    seals: list[tuple[int, bytes, str]]
    papers: list[tuple[int, str, str, str]]
    open_ticks: int
    open_requests: int
    effects: dict[str, int]

    @property
    def entries(self) -> list[dict[str, Any]]:
        """The entries, decoded."""
        return [json.loads(raw) for raw in self.raw]

    def bodies(self, kind: str) -> list[dict[str, Any]]:
        """The bodies of the entries of one type."""
        return [entry["body"] for entry in self.entries if entry["type"] == kind]

    def runs(self, kind: str) -> Counter[str]:
        """How often each run has an entry of this type."""
        return Counter(entry["run"] for entry in self.entries if entry["type"] == kind)

    def keys(self, kind: str) -> Counter[str]:
        """How often each function has an entry of this type."""
        return Counter(body["key"] for body in self.bodies(kind))


def held(project: Project) -> Held:
    """Read what is durable, as a reader after a crash would."""
    with project.reading() as read:
        return Held(
            raw=[row[0] for row in read("SELECT raw FROM entry ORDER BY seq")],
            seals=read("SELECT size, root, note FROM seal ORDER BY size"),
            papers=read("SELECT seq, id, name, state FROM paper ORDER BY seq, idx"),
            open_ticks=read("SELECT count(*) FROM tick WHERE state = 'open'")[0][0],
            open_requests=read("SELECT count(*) FROM request WHERE state = 'open'")[0][0],
            effects={
                name: len(path.read_text().splitlines())
                for name in FUNCTIONS
                if (path := project.base / "effects" / name).exists()
            },
        )


def closed(project: Project, before: Held, said: Done, ended: Held) -> list[Finding]:
    """Return what is wrong after the next start; nothing when the record is whole and closed."""
    now = held(project)
    found = [
        *_lost(project, before, said, ended, now),
        *_duplicated(now),
        *_repeated(ended, now),
        *_open(now),
    ]
    verified = project.run("verify", "--store")
    if verified.status != 0:
        found.append(Finding("unverified", f"{verified.stdout} {verified.stderr}"))
    return found


def _lost(project: Project, before: Held, said: Done, ended: Held, now: Held) -> Iterator[Finding]:
    """What was kept is kept; what was said, or given to a sink, is on the record."""
    for name, earlier, later in (("the command", before, ended), ("the next start", ended, now)):
        if later.raw[: len(earlier.raw)] != earlier.raw:
            yield Finding("lost", f"{name} changed entries that were there")
        if not set(earlier.seals) <= set(later.seals):
            yield Finding("lost", f"{name} changed seals that were there")
    events = said.events
    labels = Counter(event["label"] for event in events if event["event"] == "round.planned")
    yield from _short("round.planned", labels, _labels(ended, "round.planned"))
    runs = Counter(event["run"] for event in events if event["event"] == "run.started")
    yield from _short("run.started", runs, ended.runs("run.started"))
    ends = Counter(event["key"] for event in events if event["event"] == "run.finished")
    yield from _short(
        "run.finished", ends, ended.keys("run.finished") - before.keys("run.finished")
    )
    judged = {event["label"]: event["seq"] for event in events if event["event"] == "round.judged"}
    for label, seq in judged.items():
        if seq >= len(ended.raw) or ended.entries[seq]["type"] != "round.judged":
            yield Finding("lost", f"the verdict on {label} was said and is not kept")
    for seq, _, name, _ in now.papers:
        if seq < len(before.raw):
            continue
        path = project.folder / "out" / name
        try:
            body = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            yield Finding("lost", f"the paper {name} did not arrive whole: {error}")
        else:
            if f"evidence/{body['cycle_id']}.json" != name:
                yield Finding("lost", f"the paper {name} holds {body['cycle_id']}")
    caused = {seq for seq, *_ in now.papers}
    for entry in now.entries:
        has_papers = entry["type"] == "round.judged" and entry["body"]["papers"]
        if has_papers and entry["seq"] not in caused:
            yield Finding("lost", f"the papers of the verdict at {entry['seq']} are gone")


def _labels(store: Held, kind: str) -> Counter[str]:
    return Counter(body["label"] for body in store.bodies(kind))


def _short(what: str, said: Counter[str], kept: Counter[str]) -> Iterator[Finding]:
    for name in (said - kept).elements():
        yield Finding("lost", f"{what} of {name} was said and is not kept")


def _duplicated(now: Held) -> Iterator[Finding]:
    """No run has two ends, no tick two cycles, no paper two ids."""
    planned = [entry for entry in now.entries if entry["type"] == "round.planned"]
    ids = Counter(paper_id for _, paper_id, _, _ in now.papers)
    counted = {
        "ends of a run": now.runs("run.finished"),
        "verdicts on a round": Counter(
            entry["round"] for entry in now.entries if entry["type"] == "round.judged"
        ),
        "plans of a round": Counter(entry["round"] for entry in planned),
        "cycles of a tick": Counter(entry["body"]["tick"] for entry in planned),
        "cycles of a request": Counter(
            json.dumps(entry["body"]["occurrence"], sort_keys=True) for entry in planned
        ),
        "papers of an id": ids,
        "recordings of a spec": Counter(
            f"{body['digest']} after {body.get('replaces')}" for body in now.bodies("spec.applied")
        ),
        "ids of a paper": Counter(name for _, _, name, _ in now.papers),
    }
    for what, counts in counted.items():
        for name, times in counts.items():
            if times > 1:
                yield Finding("duplicated", f"{times} {what} {name}")


def _repeated(ended: Held, now: Held) -> Iterator[Finding]:
    """A function acts once for each start on the record; what had started is not started again."""
    for name, times in now.effects.items():
        starts = now.keys("run.started")[name]
        if times > starts:
            yield Finding("repeated", f"{name} acted {times} times for {starts} starts")
    started, finished = ended.runs("run.started"), ended.runs("run.finished")
    ends = {entry["run"]: entry["body"] for entry in now.entries if entry["type"] == "run.finished"}
    for run in started:
        if now.runs("run.started")[run] != started[run]:
            yield Finding("repeated", f"the run {run} was started again")
        if run not in finished and ends.get(run, {}).get("status") != "interrupted":
            yield Finding("repeated", f"the run {run} was under way and is {ends.get(run)}")


def _open(now: Held) -> Iterator[Finding]:
    """Nothing is under way: no tick, no run, no paper, no request, no entry without a seal."""
    entries = now.entries
    if [entry["seq"] for entry in entries] != list(range(len(entries))):
        yield Finding("open", "the entries have a gap")
    rounds = {
        kind: {entry["round"] for entry in entries if entry["type"] == kind}
        for kind in ("round.planned", "round.judged")
    }
    unended = set(now.runs("run.started")) - set(now.runs("run.finished"))
    undelivered = [name for _, _, name, state in now.papers if state != "delivered"]
    newest = max((size for size, *_ in now.seals), default=0)
    for what, is_open in (
        ("a round has no verdict", rounds["round.planned"] != rounds["round.judged"]),
        ("a run has no end", unended),
        ("a tick is open", now.open_ticks),
        ("a request is open", now.open_requests),
        ("a paper has not left", undelivered),
        (f"{len(entries) - newest} entries have no seal", newest != len(entries)),
    ):
        if is_open:
            yield Finding("open", what)


def by_word(found: Sequence[Finding]) -> dict[str, int]:
    """Return how many findings there are of each word."""
    counts = Counter(finding.word for finding in found)
    return {word: counts[word] for word in WORDS}
