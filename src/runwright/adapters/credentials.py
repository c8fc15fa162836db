"""A file of NATS credentials: the token that says who a user is, and the key that proves it.

The server sends a nonce, and the key signs it. Key and token stay in the file: they are read for
each connection, so a file that is replaced counts from the next one on.
"""

from __future__ import annotations

import base64
import binascii
import re
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from runwright.kernel.errors import InvalidSpec

#: A file of credentials is some hundred bytes; what is larger is none.
FILE_MAX: Final = 64 * 1024
#: What stands between `-----BEGIN …-----` and the line that ends it.
_PART: Final = r"-+BEGIN {}-+\s+(\S+)\s+-+END {}-+"
#: Two bytes that say what key it is, the seed, and two that check them.
_SEED_BYTES: Final = 36
#: A private key (18 << 3) of a user (20 << 3).
_USER_SEED: Final = (18 << 3 | 20 << 3 >> 5, (20 << 3 & 31) << 3)


class Credentials:
    """Who a user is, and what signs for it."""

    def __init__(self, token: bytes, key: Ed25519PrivateKey) -> None:
        """Take over a token and its key."""
        self._token = token
        self._key = key

    def token(self) -> bytes:
        """Return the token."""
        return self._token

    def sign(self, nonce: str) -> bytes:
        """Return the signature of what a server sent, in base64."""
        return base64.b64encode(self._key.sign(nonce.encode()))


def read_credentials(path: Path) -> Credentials:
    """Read a file of credentials. Raises: invalid-spec, naming the file and never what is in it."""
    try:
        with path.open("rb") as file:
            text = file.read(FILE_MAX + 1).decode("ascii", "replace")
    except OSError as error:
        raise InvalidSpec(f"{path} cannot be read: {error.strerror}") from error
    token = re.search(_PART.format("NATS USER JWT", "NATS USER JWT"), text)
    seed = re.search(_PART.format("USER NKEY SEED", "USER NKEY SEED"), text)
    if len(text) > FILE_MAX or token is None or seed is None:
        hint = "A user token and the seed of its key stand in it, as `nsc` writes them."
        raise InvalidSpec(f"{path} is no file of NATS credentials", hint=hint)
    return Credentials(token[1].encode(), _key_of(seed[1], path))


def _key_of(seed: str, path: Path) -> Ed25519PrivateKey:
    """Return the key of a seed: base32 of what it is, the seed and a CRC."""
    try:
        raw = base64.b32decode(seed + "=" * (-len(seed) % 8))
    except (binascii.Error, ValueError):
        raw = b""
    is_whole = len(raw) == _SEED_BYTES and int.from_bytes(raw[-2:], "little") == crc16(raw[:-2])
    if not is_whole or tuple(raw[:2]) != _USER_SEED:
        # Without the cause: it may show a part of the seed.
        raise InvalidSpec(f"{path}: its seed is not that of a user's key") from None
    return Ed25519PrivateKey.from_private_bytes(raw[2:-2])


def crc16(data: bytes) -> int:
    """Return the CRC of NATS keys: XMODEM, polynomial 0x1021."""
    return binascii.crc_hqx(data, 0)
