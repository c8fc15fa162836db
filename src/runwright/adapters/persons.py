"""A person's private key: a file of their own, or whatever `ssh-keygen` can sign with.

An Ed25519 key without a passphrase is used directly. For any other (RSA, ECDSA, a passphrase, an
agent that holds the private half of a .pub file) `ssh-keygen -Y sign` does it, and asks the person.
"""

from __future__ import annotations

import shutil
import stat
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from runwright.adapters.signer import sync_folder, write_new
from runwright.kernel.errors import Refused, Usage
from runwright.kernel.people import NAMESPACE
from runwright.kernel.record import sshsig

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

#: Seconds that a person has to type a passphrase or to touch a device.
ASKED_S: Final = 300
_FILE_MAX: Final = 64 * 1024


def create(file: Path, comment: str) -> str:
    """Make an Ed25519 key pair, FILE (mode 0600) and FILE.pub; return the line of the public half.

    OpenSSH reads both. Raises: usage when one is there already.
    """
    # lazy: signing only, 15 ms
    from cryptography.hazmat.primitives import serialization  # lazy: as above
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (  # lazy: as above
        Ed25519PrivateKey,
    )

    private = Ed25519PrivateKey.generate()
    line = f"{_public(private)} {comment}"
    beside = file.with_name(file.name + ".pub")
    if beside.exists():
        message = f"{beside} is there already; a key is never overwritten"
        raise Usage(message)
    data = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    )
    try:
        write_new(file, data, 0o600)
        write_new(beside, f"{line}\n".encode(), 0o644)
        sync_folder(file.absolute().parent)
    except OSError as error:
        message = f"{file} cannot be written: {error.strerror}"
        raise Usage(message) from error
    return line


def public_of(file: Path) -> str:
    """Return the public half of a key, from FILE.pub or from the file itself. Raises: usage."""
    beside = file if file.suffix == ".pub" else file.with_name(file.name + ".pub")
    if beside.is_file():
        return sshsig.parse_key(_read(beside).decode(errors="replace"))
    private = _plain(file)
    if private is None:
        message = f"{file}: lay its public half beside it, as {beside.name}"
        raise Usage(message)
    return _public(private)


def sign(file: Path, message: bytes) -> str:
    """Return the base64 of an SSHSIG over a message. Raises: usage, refused."""
    private = None if file.suffix == ".pub" else _plain(file)
    if private is not None:
        return sshsig.sign(private, message, NAMESPACE)
    tool = shutil.which("ssh-keygen")
    if tool is None:
        text = f"{file} is no Ed25519 key without a passphrase, and there is no ssh-keygen"
        raise Refused(text, hint="Install openssh-client.")
    try:
        done = subprocess.run(
            [tool, "-q", "-Y", "sign", "-f", str(file), "-n", NAMESPACE],
            input=message,
            capture_output=True,
            timeout=ASKED_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        text = f"ssh-keygen did not sign with {file} within {ASKED_S} s"
        raise Refused(text) from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        reason = said[-1] if said else f"status {done.returncode}"
        text = f"ssh-keygen does not sign with {file}: {reason}"
        raise Refused(text)
    return sshsig.unarmoured(done.stdout.decode(errors="replace"))


def _plain(file: Path) -> Ed25519PrivateKey | None:
    """Return an Ed25519 key without a passphrase; None for any other. Raises: usage, refused."""
    # lazy: signing only, 15 ms
    from cryptography.exceptions import UnsupportedAlgorithm  # lazy: as above
    from cryptography.hazmat.primitives import serialization  # lazy: as above
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (  # lazy: as above
        Ed25519PrivateKey,
    )

    data = _read(file)
    mode = file.stat().st_mode
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        message = f"the key {file} may be read by others (mode {stat.S_IMODE(mode):04o})"
        hint = f"If nobody else read it: chmod 600 {file}. If somebody may have: revoke it."
        raise Refused(message, hint=hint)
    is_openssh = b"BEGIN OPENSSH PRIVATE KEY" in data
    loader: Any = (
        serialization.load_ssh_private_key if is_openssh else serialization.load_pem_private_key
    )
    try:
        private = loader(data, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # Encrypted, or of a kind that only OpenSSH reads: it says so itself if it cannot either.
        return None
    return private if isinstance(private, Ed25519PrivateKey) else None


def _public(private: Ed25519PrivateKey) -> str:
    # lazy: signing only, 15 ms
    from cryptography.hazmat.primitives.serialization import (  # lazy: as above
        Encoding,
        PublicFormat,
    )

    return private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def _read(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            data = stream.read(_FILE_MAX)
    except OSError as error:
        message = f"the key {file} cannot be read: {error.strerror}"
        raise Usage(message) from error
    return data
