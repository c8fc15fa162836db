"""Keys of agents: made, put in force, rotated and ended; and what they sign at a seal.

A key goes through PENDING, ACTIVE, DEPRECATED, ARCHIVED. While one is DEPRECATED the next one is
ACTIVE already and both sign; records are checked against the key of their own time, so a record
stays verifiable after its key has ended.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from runwright.kernel.canonical import digest
from runwright.kernel.errors import UnknownName, Usage
from runwright.kernel.people import agent_key_held
from runwright.kernel.ports import Keyring, Reader, Row, Store
from runwright.kernel.record.entries import AgentKey, decode

#: How long a key that was rotated out goes on signing.
GRACE_MS: Final = 24 * 3_600_000
_LATEST = 1 << 62


def introduced(
    store: Reader, keyring: Keyring, agents: Iterable[str], *, from_ms: int
) -> list[AgentKey]:
    """Return an ACTIVE key for each agent that has none, its private half durable already."""
    made = []
    for agent in sorted(set(agents) - {""}):
        if store.rows("agent_key", {"agent": agent}, limit=1):
            continue
        # One that is there was made for a commit that was never made.
        kept = keyring.keys(agent)
        key = kept[0] if kept else keyring.create(agent)
        made.append(_key(agent, "ACTIVE", key, from_ms=from_ms))
    return made


def create(store: Store, keyring: Keyring, agent: str, *, now_ms: int) -> list[AgentKey]:
    """Return the first key of an agent, ACTIVE, or the next one, PENDING.

    Raises: usage when one is PENDING already.
    """
    first = introduced(store, keyring, [agent], from_ms=now_ms)
    if first:
        return first
    known = keys_of(store, agent)
    if any(key.state == "PENDING" for key in known):
        message = f"a key of {agent} is PENDING already: `runwright key rotate --agent {agent}`"
        raise Usage(message)
    state = "PENDING" if any(key.state == "ACTIVE" for key in known) else "ACTIVE"
    return [_fresh(keyring, agent, known, state, now_ms)]


def rotate(
    store: Store, keyring: Keyring, agent: str, *, now_ms: int, grace_ms: int
) -> list[AgentKey]:
    """Return the old key DEPRECATED, with its end, and the next one ACTIVE.

    Raises: unknown-name when the agent has no key in force.
    """
    known = keys_of(store, agent)
    old = next((key for key in known if key.state == "ACTIVE"), None)
    if old is None:
        message = f"no key of {agent} is ACTIVE"
        raise UnknownName(message, hint=f"runwright key new --agent {agent}")
    pending = next((key for key in known if key.state == "PENDING"), None)
    if pending is None:
        new = _fresh(keyring, agent, known, "ACTIVE", now_ms)
    else:
        new = msgspec.structs.replace(pending, state="ACTIVE", from_ms=now_ms)
    ended = msgspec.structs.replace(old, state="DEPRECATED", until_ms=now_ms + max(grace_ms, 1))
    return [ended, new]


def archive(store: Store, agent: str, fingerprint: str, *, now_ms: int) -> list[AgentKey]:
    """Return a key ARCHIVED: it signs nothing that is made from now on.

    Without a fingerprint, the DEPRECATED one. Raises: unknown-name, usage.
    """
    fitting = [
        key
        for key in keys_of(store, agent)
        if (key.fingerprint.startswith(fingerprint) if fingerprint else key.state == "DEPRECATED")
    ]
    if not fitting:
        message = f"{agent} has no such key" if fingerprint else f"no key of {agent} is DEPRECATED"
        raise UnknownName(message, hint="`runwright key list` shows all of them.")
    if len(fitting) > 1 and fingerprint:
        message = f"{len(fitting)} keys of {agent} begin with {fingerprint}"
        raise Usage(message)
    if fitting[0].state == "ARCHIVED":
        message = f"this key of {agent} is ARCHIVED already"
        raise Usage(message)
    return [_ended(key, now_ms) for key in fitting]


def expired(store: Store, *, now_ms: int) -> list[AgentKey]:
    """Return the DEPRECATED keys whose time has passed, ARCHIVED."""
    rows = store.rows("agent_key", {"state": "DEPRECATED"})
    return [_ended(key_of(row), now_ms) for row in rows if row["until_ms"] <= now_ms]


def settle(keyring: Keyring, keys: Sequence[AgentKey]) -> None:
    """Bring the files in line with what was committed; again is nothing."""
    for key in keys:
        if key.state == "ARCHIVED":
            keyring.remove(key.agent, key.key)
        elif key.state == "ACTIVE":
            keyring.promote(key.agent, key.key)


def keys_of(store: Store, agent: str) -> list[AgentKey]:
    """Return the keys of an agent, in the order in which they came into their state."""
    return [key_of(row) for row in store.rows("agent_key", {"agent": agent}, order="seq")]


def key_of(row: Mapping[str, Any]) -> AgentKey:
    """Return the key that a row of `agent_key` holds."""
    return AgentKey(**{name: row[name] for name in AgentKey.__struct_fields__})


def signatures(
    store: Store,
    keyring: Keyring,
    waiting: Sequence[Mapping[str, Any]],
    *,
    known: dict[str, list[AgentKey]],
) -> list[Row]:
    """Return the rows of signatures over leaf hashes; what no key can sign goes on waiting.

    `known` gets the keys of the agents that are not in it, the newest first.
    """
    rows = []
    for row in waiting:
        stored = next(iter(store.entries(row["seq"], row["seq"] + 1)), None)
        if stored is None:
            continue
        agent = row["agent"]
        if agent not in known:
            known[agent] = sorted(keys_of(store, agent), key=lambda key: -key.from_ms)
        made = signature(keyring, known[agent], stored.leaf, at_ms=decode(stored.raw).ts)
        if made:
            rows.append(Row("signature", {"seq": row["seq"], **made}, update=True))
    return rows


def signature(
    keyring: Keyring, keys: Iterable[AgentKey], leaf: bytes, *, at_ms: int
) -> Mapping[str, str]:
    """Return the key and the value of a signature over a leaf hash; empty when no key can sign it.

    Of the keys of an agent, the newest first, one that was in force when the record was made signs.
    """
    for key in keys:
        made = keyring.sign(key.agent, key.key, leaf) if agent_key_held(key, at_ms) else None
        if made is not None:
            return {"key": key.fingerprint, "value": made.hex()}
    return {}


def _ended(key: AgentKey, now_ms: int) -> AgentKey:
    until_ms = min(key.until_ms or _LATEST, now_ms)
    return msgspec.structs.replace(key, state="ARCHIVED", until_ms=until_ms)


def _fresh(
    keyring: Keyring, agent: str, known: Sequence[AgentKey], state: Any, now_ms: int
) -> AgentKey:
    taken = {key.key for key in known}
    left = [key for key in keyring.keys(agent) if key not in taken]
    key = left[0] if left else keyring.create(agent)
    return _key(agent, state, key, from_ms=0 if state == "PENDING" else now_ms)


def _key(agent: str, state: Any, key: str, *, from_ms: int) -> AgentKey:
    fingerprint = digest(bytes.fromhex(key))
    return AgentKey(agent=agent, state=state, key=key, fingerprint=fingerprint, from_ms=from_ms)
