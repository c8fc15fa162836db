"""Keys and tokens of NATS: an operator, an account and its users, for a server and its clients."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from runwright.adapters.credentials import crc16

SEED = 18 << 3
OPERATOR, ACCOUNT, USER = 14 << 3, 0, 20 << 3
ALL_OF_JETSTREAM = ("mem_storage", "disk_storage", "streams", "consumer")
ALL = dict.fromkeys(
    ("subs", "data", "payload", "imports", "exports", "conn", "leaf", *ALL_OF_JETSTREAM), -1
)


def _text(raw: bytes) -> str:
    whole = raw + crc16(raw).to_bytes(2, "little")
    return base64.b32encode(whole).decode().rstrip("=")


class Key:
    """A key of an operator, an account or a user."""

    def __init__(self, kind: int) -> None:
        """Draw one."""
        self._kind = kind
        self._key = Ed25519PrivateKey.generate()

    @property
    def public(self) -> str:
        """Its public half, as NATS writes it."""
        return _text(bytes([self._kind]) + self._key.public_key().public_bytes_raw())

    @property
    def seed(self) -> str:
        """Its private half, as NATS writes it."""
        prefix = bytes([SEED | self._kind >> 5, (self._kind & 31) << 3])
        return _text(prefix + self._key.private_bytes_raw())

    def token(self, of: Key, **claims: Any) -> str:
        """Return a token in which it says what another key may."""
        body = {"jti": of.public, "iat": 1, "iss": self.public, "sub": of.public, "name": "test"}
        parts = [{"typ": "JWT", "alg": "ed25519-nkey"}, {**body, "nats": {**claims, "version": 2}}]
        signed = ".".join(_coded(json.dumps(part).encode()) for part in parts)
        return f"{signed}.{_coded(self._key.sign(signed.encode()))}"


def _coded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def configuration(operator: Key, account: Key) -> str:
    """Return what a server is told of an operator with one account."""
    limits, system = {**ALL, "wildcards": True}, Key(ACCOUNT)
    # That of the system may have no JetStream.
    own = {name: value for name, value in limits.items() if name not in ALL_OF_JETSTREAM}
    told = [
        f"{account.public}: {operator.token(account, type='account', limits=limits)}",
        f"{system.public}: {operator.token(system, type='account', limits=own)}",
    ]
    return (
        f"operator: {operator.token(operator, type='operator')}\n"
        f"system_account: {system.public}\n"
        f"resolver: MEMORY\nresolver_preload: {{ {', '.join(told)} }}\n"
    )


def write_credentials(path: Path, account: Key, user: Key, seed: str = "") -> Path:
    """Write a file of credentials of a user, with the seed of its key or another one."""
    token = account.token(user, type="user", subs=-1, data=-1, payload=-1, pub={}, sub={})
    path.write_text(
        f"-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n"
        "************************* IMPORTANT *************************\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{seed or user.seed}\n------END USER NKEY SEED------\n"
    )
    return path
