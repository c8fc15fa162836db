"""Read-only questions about the record, for the command line and the page.

Every answer is plain data: what `--json` prints. Nothing here decides anything.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

import msgspec

from runwright.kernel.drive.recall import Recalled, read, recall
from runwright.kernel.drive.schedule import anchored, occurrences
from runwright.kernel.drive.service import read_schedule
from runwright.kernel.drive.ticks import decode_spec, in_force_of
from runwright.kernel.errors import UnknownName
from runwright.kernel.ports import Store
from runwright.kernel.run import InForce, instant_text, run_id
from runwright.kernel.workload import Flow, Workload

#: How many characters of an output are shown as its tail.
TAIL: Final = 2_000
#: The fewest characters of an id that name it.
PREFIX_MIN: Final = 6


def recent(store: Store, limit: int = 20) -> list[dict[str, Any]]:
    """Return the newest ticks, also those that did not run, newest first."""
    found = []
    for tick in store.rows("tick", order="-seq", limit=limit):
        rounds = store.rows("round", {"tick": tick["id"]}, order="idx")
        last = rounds[-1] if rounds else {}
        ended = last.get("judged_ms")
        found.append(
            {
                "label": tick["label"],
                "kind": tick["kind"],
                "name": tick["name"],
                "planned": instant_text(tick["planned_ms"]),
                "state": tick["state"],
                "outcome": last.get("outcome") or tick["state"],
                "verdict": last.get("verdict", ""),
                "rounds": len(rounds),
                "runs": sum(row["runs"] for row in rounds),
                "count": tick["count"],
                "seconds": (ended - tick["at"]) / 1000 if ended else None,
                "seq": tick["seq"],
                "tick": tick["id"],
                "reason": tick["reason"],
            }
        )
    return found


def find_round(store: Store, name: str) -> dict[str, Any]:
    """Return the row of the round that a label, an id, the start of one or a seq names.

    "latest" is the newest one. Raises: unknown-name.
    """
    if name == "latest":
        rows = store.rows("round", order="-seq", limit=1)
    else:
        rows = store.rows("round", {"label": name}, order="-seq") or store.rows(
            "round", {"id": name}
        )
    if not rows and name.isdigit():
        rows = store.rows("round", {"seq": int(name)})
    if not rows and len(name) >= PREFIX_MIN:
        rows = [row for row in store.rows("round") if row["id"].startswith(name)]
    if not rows:
        rows = _round_of_run(store, name) or store.rows(
            "round", {"name": name}, order="-seq", limit=1
        )
    if not rows:
        message = f"nothing in the record is called {name!r}"
        raise UnknownName(message, hint="`runwright show` lists what there is.")
    return rows[0]


def _round_of_run(store: Store, name: str) -> list[dict[str, Any]]:
    if len(name) < PREFIX_MIN or not set(name) <= set("0123456789abcdef"):
        return []
    for row in store.rows("round", order="-seq"):
        found = recall(store, row["seq"])
        if any(run_id(round=found.id, key=run.key).startswith(name) for run in found.round.runs):
            return [row]
    return []


def round_detail(store: Store, name: str) -> dict[str, Any]:
    """Return a round with its runs, outcomes, evidence and place in the ledger.

    Raises: unknown-name.
    """
    row = find_round(store, name)
    found = recall(store, row["seq"])
    sealed = store.seals(latest=True)
    judged_seq = row["judged_seq"]
    return {
        "label": row["label"],
        "kind": row["kind"],
        "name": row["name"],
        "round": found.id,
        "key": row["key"],
        "tick": row["tick"],
        "occurrence": msgspec.to_builtins(found.planned.occurrence),
        "planned": instant_text(found.planned.occurrence.planned_ms),
        "at": instant_text(found.planned.at),
        "outcome": row["outcome"] or "under way",
        "verdict": row["verdict"],
        "counts": dict(found.judged.counts) if found.judged else {},
        "reasons": list(found.judged.reasons) if found.judged else [],
        "stopped": found.judged.stopped if found.judged else "",
        "seq": [row["seq"], judged_seq],
        "sealed": bool(sealed and judged_seq is not None and sealed[0].size > judged_seq),
        "spec": found.planned.spec,
        "code": found.planned.code,
        "product": found.planned.product,
        "runs": _runs(store, found),
        "reconciliation": _reconciled(store, found.id),
        "decisions": decisions(store, {f"round/{found.id}", f"tick/{row['tick']}"}),
        "papers": [
            {
                "name": paper["name"],
                "sink": paper["sink"],
                "state": paper["state"],
                "attempts": paper["attempts"],
            }
            for paper in (
                store.rows(
                    "paper",
                    {"seq": judged_seq},
                    order="idx",
                    columns=("name", "sink", "state", "attempts"),
                )
                if judged_seq
                else []
            )
        ],
    }


def _reconciled(store: Store, round_id: str) -> list[dict[str, Any]]:
    """Return how far reported and recorded state of a round's components are apart."""
    return [
        {
            "seq": row["snapshot_id"],
            "component": row["component_name"],
            "agent": row["agent_id"],
            "score": row["discrepancy_score"],
            "classification": row["classification"],
            "status": row["reconciliation_status"],
            "action": row["reconciliation_action"],
            "request": row["vega_suspension_request_id"],
            "differences": msgspec.json.decode(row["field_discrepancies"]),
            "attested_by": [
                it["verified_by"]
                for it in store.rows(
                    "reconciliation_evidence",
                    {"snapshot_id": row["snapshot_id"], "evidence_type": "VEGA_ATTESTATION"},
                    order="evidence_id",
                )
            ],
        }
        for row in store.rows("reconciliation_snapshots", {"round_id": round_id})
    ]


def waiting(store: Store) -> list[dict[str, Any]]:
    """Return what waits for a decision of a person or stands by one: suspensions, budgets."""
    found = [
        {
            "subject": f"suspension/{row['request_id']}",
            "state": row["state"],
            "since": row["requested_at"],
            "label": row["cycle_id"],
            "text": f"{row['component_name']} of {row['agent_id']}: score"
            f" {row['discrepancy_score']}"
            + (f"; approved by {row['decided_by']}" if row["state"] == "APPROVED" else ""),
        }
        for state in ("PENDING", "APPROVED")
        for row in store.rows("suspension_request", {"state": state}, order="request_id")
    ]
    breaches: dict[tuple[str, str], dict[str, Any]] = {}
    for row in store.rows("budget_violation", {"state": "OPEN"}, order="violation_id"):
        breaches.setdefault((row["spec_name"], row["budget_name"]), row)
    names = [budget for _, budget in breaches]
    for (spec, budget), row in breaches.items():
        subject = budget if names.count(budget) == 1 else f"{spec}/{budget}"
        found.append(
            {
                "subject": f"budget/{subject}",
                "state": "CLOSED",
                "since": row["created_at"],
                "label": row["cycle_id"],
                "text": f"{row['task_name']} of {row['agent_id']} refused: {row['actual_value']} of"
                f" {row['limit_value']} {row['limit_name']} used in {row['window_key']}",
            }
        )
    return found


def decisions(store: Store, subjects: Collection[str] = ()) -> list[dict[str, Any]]:
    """Return what people decided, about some subjects or about everything but the people."""
    found = []
    for row in store.rows("decision", order="seq"):
        is_change = row["subject"].startswith("person/")
        if row["subject"] in subjects if subjects else not is_change:
            expires = row["expires_ms"]
            found.append(
                {
                    "seq": row["seq"],
                    "subject": row["subject"],
                    "action": row["action"],
                    "person": row["person"],
                    "reason": row["reason"],
                    "evidence": msgspec.json.decode(row["evidence"]),
                    "seen": row["seen"],
                    "seqs": [row["first_seq"], row["last_seq"]],
                    "made": instant_text(row["made_ms"]),
                    "expires": instant_text(expires) if expires else None,
                    "document": row["document"],
                    "key": row["key"],
                }
            )
    return found


def subject_of(store: Store, text: str) -> str:
    """Return the subject that a person names: "round/ID", "spec/NAME" and the others as they are.

    A run is named as in `find_round`, or by the start of the id of its tick. Raises: unknown-name.
    """
    kind, _, name = text.partition("/")
    if kind in ("entry", "suspension", "spec", "agent", "budget", "person") and name:
        return text
    if kind == "round" and name:
        return f"round/{find_round(store, name)['id']}"
    wanted = name if kind == "tick" else text
    if len(wanted) >= PREFIX_MIN and set(wanted) <= set("0123456789abcdef"):
        ticks = {row["id"] for row in store.rows("tick") if row["id"].startswith(wanted)}
        if len(ticks) == 1:
            return f"tick/{ticks.pop()}"
    if kind == "tick" and name:
        message = f"no tick, or more than one, begins with {name!r}"
        raise UnknownName(message)
    return f"round/{find_round(store, text)['id']}"


def people(store: Store) -> list[dict[str, Any]]:
    """Return the people and their keys."""
    keys = store.rows("person_key", order="seq")
    return [
        {
            "id": row["id"],
            "name": row["name"],
            "roles": msgspec.json.decode(row["roles"]),
            "users": msgspec.json.decode(row["users"]),
            "revoked": instant_text(row["revoked_ms"]) if row["revoked_ms"] else None,
            "reason": row["reason"],
            "seq": row["seq"],
            "keys": [
                {
                    "fingerprint": key["fingerprint"],
                    "key": key["key"],
                    "from": instant_text(key["from_ms"]) if key["from_ms"] else None,
                    "until": instant_text(key["until_ms"]) if key["until_ms"] else None,
                    "revoked": instant_text(key["revoked_ms"]) if key["revoked_ms"] else None,
                    "reason": key["reason"],
                }
                for key in keys
                if key["person"] == row["id"]
            ],
        }
        for row in store.rows("person", order="seq")
    ]


def agent_keys(store: Store, now_ms: int, agent: str = "") -> list[dict[str, Any]]:
    """Return the keys of one agent or all, with the state that each is in now."""
    where = {"agent": agent} if agent else None
    rows = sorted(
        store.rows("agent_key", where), key=lambda row: (row["agent"], row["from_ms"], row["seq"])
    )
    return [
        {
            "agent": row["agent"],
            "state": "ARCHIVED"
            if row["state"] == "DEPRECATED" and row["until_ms"] <= now_ms
            else row["state"],
            "fingerprint": row["fingerprint"],
            "key": row["key"],
            "from": instant_text(row["from_ms"]) if row["from_ms"] else None,
            "until": instant_text(row["until_ms"]) if row["until_ms"] else None,
            "seq": row["seq"],
        }
        for row in rows
    ]


def _runs(store: Store, found: Recalled) -> list[dict[str, Any]]:
    shown = []
    for plan in found.round.runs:
        outcome = found.outcomes.get(plan.key)
        work = msgspec.to_builtins(plan.work)
        shown.append(
            {
                "key": plan.key,
                "agent": plan.agent,
                "run": run_id(round=found.id, key=plan.key),
                "work": work,
                "status": outcome.status if outcome else "open",
                "reason": outcome.reason if outcome else "",
                "message": outcome.message if outcome else "",
                "value": dict(outcome.value) if outcome else {},
                "attempts": outcome.attempts if outcome else found.started.get(plan.key, 0),
                "used": {
                    "duration_ms": outcome.used.duration_ms,
                    "cpu_ms": outcome.used.cpu_ms,
                    "peak_kib": outcome.used.peak_kib,
                    "exit": outcome.used.exit,
                    "signal": outcome.used.signal,
                }
                if outcome
                else {},
                "level": outcome.level if outcome else "",
                "warmth": msgspec.to_builtins(outcome.warmth)
                if outcome and outcome.warmth
                else None,
                "outputs": [
                    {
                        "name": blob.name,
                        "digest": blob.digest,
                        "size": blob.size,
                        "whole_size": blob.whole_size or blob.size,
                        "masked": blob.masked,
                        "tail": _tail(store, blob.digest),
                    }
                    for blob in (outcome.blobs if outcome else ())
                ],
            }
        )
    return shown


def _tail(store: Store, digest: str) -> str | None:
    kept = store.blob(digest)
    return None if kept is None else kept.data[-4 * TAIL :].decode("utf-8", "replace")[-TAIL:]


def output(store: Store, detail: Mapping[str, Any], name: str, key: str = "") -> bytes:
    """Return what is kept of an output of a run, its first unless a key is given."""
    for run in detail["runs"]:
        if key in ("", run["key"]):
            for blob in run["outputs"]:
                if blob["name"] == name:
                    kept = store.blob(blob["digest"])
                    return kept.data if kept else b""
            if name in run["value"]:
                return (
                    msgspec.json.format(msgspec.json.encode(run["value"][name]), indent=2) + b"\n"
                )
    return b""


def ledger(store: Store, limit: int = 20) -> dict[str, Any]:
    """Return the head of the ledger, its newest seal and its newest entries."""
    size = store.size()
    seals = store.seals(latest=True)
    first = next(iter(store.entries(0, 1)), None)
    return {
        "origin": read(first.raw).origin if first else "",
        "size": size,
        "sealed_size": seals[0].size if seals else 0,
        "root": seals[0].root.hex() if seals else "",
        "checkpoint": seals[0].note if seals else "",
        "entries": [entry_row(entry.raw) for entry in store.entries(max(0, size - limit), size)],
    }


def entry_row(raw: bytes) -> dict[str, Any]:
    """Return an entry as plain data."""
    entry = read(raw)
    plain: dict[str, Any] = msgspec.to_builtins(entry)
    plain["at"] = instant_text(entry.ts)
    return plain


def schedule(
    store: Store, workloads: Mapping[str, Workload], now_ms: int, count: int = 3
) -> list[dict[str, Any]]:
    """Return every applied spec with its last and its next occurrences."""
    shown = []
    for row in store.rows("spec", order="name"):
        found = runs_by(store, workloads, row)
        last = store.rows(
            "tick", {"kind": row["kind"], "name": row["name"]}, order="-last_ms", limit=1
        )
        upcoming: Sequence[int] = ()
        text = f"refused: {found.refused}" if found.refused else "on request"
        if found.schedule is not None:
            planned = anchored(found.schedule, row["applied_ms"])
            text = describe(found.schedule)
            if planned.enabled:
                upcoming = _first(occurrences(planned, now_ms, now_ms + 400 * 86_400_000), count)
        flow = workloads[row["kind"]].flow
        if flow is not None:
            text = "stream"
            grid = flow(decode_spec(workloads[row["kind"]], row["body"]))
            upcoming = _next_ticks(grid, last[0]["last_ms"] if last else None, row, count)
        shown.append(
            {
                "kind": row["kind"],
                "name": row["name"],
                "schedule": text,
                "refused": found.refused,
                "since": instant_text(row["since_ms"]) if found == in_force_of(row) else None,
                "last": instant_text(last[0]["last_ms"]) if last else None,
                "last_state": last[0]["state"] if last else None,
                "next": [instant_text(instant) for instant in upcoming],
            }
        )
    return shown


def _next_ticks(flow: Flow, last_ms: int | None, row: Mapping[str, Any], count: int) -> list[int]:
    """Return the next planned instants of a stream that has run; one that has not has no grid."""
    found: list[int] = []
    while row["opened_ms"] and len(found) < count:
        last_ms = flow.next_ms(last_ms, row["opened_ms"])
        found.append(last_ms)
    return found


def runs_by(store: Store, workloads: Mapping[str, Workload], row: Mapping[str, Any]) -> InForce:
    """Return what the spec of a row runs by, as operators left it now, recorded or not yet."""
    workload = workloads[row["kind"]]
    return read_schedule(workload, decode_spec(workload, row["body"]), store)


def _first(instants: Any, count: int) -> list[int]:
    found = []
    for instant in instants:
        found.append(instant)
        if len(found) == count:
            break
    return found


def describe(planned: Any) -> str:
    """Return a schedule in a few words."""
    if not planned.enabled:
        return "paused"
    if planned.interval_s is not None:
        return f"every {planned.interval_s} s"
    if planned.cron is not None:
        return f"cron {planned.cron} ({planned.timezone})"
    return f"once at {planned.once_at}"


def outbox(store: Store, limit: int = 50) -> list[dict[str, Any]]:
    """Return the papers that wait, oldest first."""
    return [
        {
            "id": row["id"],
            "sink": row["sink"],
            "name": row["name"],
            "held_for_seal": row["sealed_size"],
            "attempts": row["attempts"],
            "next": instant_text(row["next_ms"]) if row["next_ms"] else None,
        }
        for row in store.rows(
            "paper",
            {"state": "open"},
            order="seq",
            limit=limit,
            columns=("id", "sink", "name", "sealed_size", "attempts", "next_ms"),
        )
    ]
