"""Signatures of people, in the format of `ssh-keygen -Y sign` (PROTOCOL.sshsig).

    "SSHSIG" || uint32 1 || string public key || string namespace || string reserved
             || string hash || string signature                            the signature, in base64
    "SSHSIG" || string namespace || string reserved || string hash || string H(message)   is signed

One format for our own keys and for those that people have already: what is signed with either is
checked here, and by `ssh-keygen -Y verify`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from runwright.kernel.errors import Usage

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_MAGIC: Final = b"SSHSIG"
_BEGIN: Final = "-----BEGIN SSH SIGNATURE-----"
_END: Final = "-----END SSH SIGNATURE-----"
#: The largest signature that is read, base64: one of RSA with 8192 bits fits.
SIGNATURE_MAX: Final = 6_000
KEY_MAX: Final = 3_000
RSA_BITS_MIN: Final = 2_048
#: The algorithm of a key -> those of its signatures.
ALGORITHMS: Final = {
    "ssh-ed25519": ("ssh-ed25519",),
    "ecdsa-sha2-nistp256": ("ecdsa-sha2-nistp256",),
    "ecdsa-sha2-nistp384": ("ecdsa-sha2-nistp384",),
    "ecdsa-sha2-nistp521": ("ecdsa-sha2-nistp521",),
    "ssh-rsa": ("rsa-sha2-256", "rsa-sha2-512"),
}
_HASHES: Final = {"sha256": hashlib.sha256, "sha512": hashlib.sha512}


class _Parsed(NamedTuple):
    """What a signature says."""

    key: bytes
    namespace: str
    reserved: bytes
    hash: str
    algorithm: str
    data: bytes


class _Malformed(Exception):
    """These bytes are no signature and no key."""


def parse_key(text: str) -> str:
    """Return an OpenSSH public key without its comment: "ssh-ed25519 AAAA…".

    Raises: usage for anything else, for a short RSA key, and for one held in hardware.
    """
    parts = text.split()
    if text.lstrip().startswith("-----BEGIN"):
        msg = "this is a private key or a PEM: give the line of its .pub file"
        raise Usage(msg)
    if len(parts) < 2 or parts[0] not in ALGORITHMS or len(parts[1]) > KEY_MAX:  # noqa: PLR2004
        msg = f"not an OpenSSH public key of {', '.join(ALGORITHMS)}: {text[:40]!r}"
        raise Usage(msg)
    key = f"{parts[0]} {parts[1]}"
    try:
        public = _loaded(key)
    except _Malformed as error:
        msg = f"the key {text[:40]!r} cannot be read: {error}"
        raise Usage(msg) from error
    if parts[0] == "ssh-rsa" and public.key_size < RSA_BITS_MIN:
        msg = f"an RSA key of {public.key_size} bits is too short; {RSA_BITS_MIN} at least"
        raise Usage(msg)
    return key


def sign(private: Ed25519PrivateKey, message: bytes, namespace: str) -> str:
    """Return the base64 of a signature, as `ssh-keygen -Y sign` would make it."""
    raw = private.public_key().public_bytes_raw()
    key = _string(b"ssh-ed25519") + _string(raw)
    data = _string(b"ssh-ed25519") + _string(private.sign(_signed(namespace, "sha512", message)))
    parts = (key, namespace.encode(), b"", b"sha512", data)
    blob = _MAGIC + (1).to_bytes(4, "big") + b"".join(map(_string, parts))
    return base64.b64encode(blob).decode()


def objection(signature: str, message: bytes, key: str, namespace: str) -> str:
    """Return why a signature is not one over a message by a key; empty when it is."""
    try:
        found = _parse(signature)
        if found.key != _blob_of(key):
            return "it is by another key"
        if found.namespace != namespace or found.reserved:
            return f"it was made for {found.namespace[:80]!r}, not for {namespace!r}"
        if found.hash not in _HASHES:
            return f"its hash {found.hash[:20]!r} is not known"
        if found.algorithm not in ALGORITHMS.get(key.split(" ", maxsplit=1)[0], ()):
            return f"its algorithm {found.algorithm[:30]!r} is not one of the key"
        public = _loaded(key)
        return _refused(public, found, _signed(namespace, found.hash, message))
    except _Malformed as error:
        return str(error)


def key_of(signature: str) -> str:
    """Return the public key that a signature says it is by; empty for what is no signature."""
    try:
        found = _parse(signature)
        name, _ = _take(found.key)
    except _Malformed:
        return ""
    return f"{name.decode('ascii', 'replace')} {base64.b64encode(found.key).decode()}"


def unarmoured(text: str) -> str:
    """Return the base64 of an armoured signature. Raises: usage."""
    lines = [line.strip() for line in text.strip().splitlines()]
    if len(lines) < 3 or lines[0] != _BEGIN or lines[-1] != _END:  # noqa: PLR2004 - and a body
        msg = "not an SSH signature"
        raise Usage(msg)
    return "".join(lines[1:-1])


def armoured(signature: str) -> str:
    """Return a signature as a file that `ssh-keygen -Y verify` reads."""
    lines = [signature[start : start + 70] for start in range(0, len(signature), 70)]
    return "\n".join([_BEGIN, *lines, _END, ""])


def _parse(signature: str) -> _Parsed:
    if len(signature) > SIGNATURE_MAX:
        msg = "it is longer than any signature"
        raise _Malformed(msg)
    try:
        blob = base64.b64decode(signature, validate=True)
    except (binascii.Error, ValueError) as error:
        msg = "it is not base64"
        raise _Malformed(msg) from error
    if not blob.startswith(_MAGIC + (1).to_bytes(4, "big")):
        msg = "it is no SSH signature of version 1"
        raise _Malformed(msg)
    fields, rest = [], blob[len(_MAGIC) + 4 :]
    for _ in range(5):
        field, rest = _take(rest)
        fields.append(field)
    algorithm, after = _take(fields[4])
    data, end = _take(after)
    if rest or end or base64.b64encode(blob).decode() != signature:
        msg = "it holds more than a signature"
        raise _Malformed(msg)
    try:
        words = [word.decode("ascii") for word in (fields[1], fields[3], algorithm)]
    except UnicodeDecodeError as error:
        msg = "its words are not text"
        raise _Malformed(msg) from error
    return _Parsed(fields[0], words[0], fields[2], words[1], words[2], data)


def _signed(namespace: str, hash_name: str, message: bytes) -> bytes:
    hashed = _HASHES[hash_name](message).digest()
    return _MAGIC + b"".join(map(_string, (namespace.encode(), b"", hash_name.encode(), hashed)))


def _refused(public: Any, found: _Parsed, signed: bytes) -> str:
    # lazy: signing only, 15 ms
    from cryptography.exceptions import InvalidSignature  # lazy: as above
    from cryptography.hazmat.primitives import hashes  # lazy: as above
    from cryptography.hazmat.primitives.asymmetric import ec, padding  # lazy: as above
    from cryptography.hazmat.primitives.asymmetric.utils import (  # lazy: as above
        encode_dss_signature,
    )

    by_size = {256: hashes.SHA256(), 384: hashes.SHA384(), 521: hashes.SHA512()}
    try:
        if found.algorithm == "ssh-ed25519":
            public.verify(found.data, signed)
        elif found.algorithm.startswith("ecdsa"):
            first, after = _take(found.data)
            second, end = _take(after)
            if end:
                return "it holds more than a signature"
            pair = (int.from_bytes(first, "big"), int.from_bytes(second, "big"))
            way = ec.ECDSA(by_size[public.curve.key_size])
            public.verify(encode_dss_signature(*pair), signed, way)
        else:
            is_long = found.algorithm == "rsa-sha2-512"
            hashing = hashes.SHA512() if is_long else hashes.SHA256()
            public.verify(found.data, signed, padding.PKCS1v15(), hashing)
    except (InvalidSignature, ValueError):
        return "it is not a signature over this"
    return ""


def _loaded(key: str) -> Any:
    from cryptography.exceptions import UnsupportedAlgorithm  # lazy: signing only, 15 ms
    from cryptography.hazmat.primitives.serialization import (  # lazy: signing only, 15 ms
        load_ssh_public_key,
    )

    blob = _blob_of(key)
    if _take(blob)[0].decode("ascii", "replace") != key.split(" ", maxsplit=1)[0]:
        msg = "its bytes are a key of another kind"
        raise _Malformed(msg)
    try:
        return load_ssh_public_key(key.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _Malformed(str(error)) from error


def _blob_of(key: str) -> bytes:
    parts = key.split(" ")
    try:
        blob = base64.b64decode(parts[1], validate=True)
    except (IndexError, binascii.Error, ValueError) as error:
        msg = "the key is not base64"
        raise _Malformed(msg) from error
    if len(parts) != 2 or base64.b64encode(blob).decode() != parts[1]:  # noqa: PLR2004
        msg = "the key is not written in the only way"
        raise _Malformed(msg)
    return blob


def _string(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def _take(data: bytes) -> tuple[bytes, bytes]:
    """Return the first string, and what follows it."""
    size = int.from_bytes(data[:4], "big")
    if len(data) < 4 + size:
        msg = "it is cut off"
        raise _Malformed(msg)
    return data[4 : 4 + size], data[4 + size :]
