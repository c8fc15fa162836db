"""What a person decides with: their keys, a bundle to look at, a file that travels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def sign_decision(file: Path, message: bytes) -> str:
    """Sign with a person's private key; return the base64 of an SSHSIG. Raises: usage, refused."""
    from runwright.adapters.persons import sign  # lazy: only decisions are signed

    return sign(file, message)


def person_key(file: Path) -> str:
    """Return the public half of a person's key, of its file or of the one beside it."""
    from runwright.adapters.persons import public_of  # lazy: only decisions are signed

    return public_of(file)


def create_person_key(file: Path, comment: str) -> str:
    """Make a key pair for a person; return the line of the public half. Raises: usage."""
    from runwright.adapters.persons import create  # lazy: only key new

    return create(file, comment)


def keep_new(path: Path, data: bytes) -> None:
    """Write a file that must not be there yet. Raises: usage, store-unwritable."""
    from runwright.adapters.signer import write_new  # lazy: only a decision that travels

    write_new(path, data, 0o644)


def read_bundle(folder: Path) -> Mapping[str, bytes]:
    """Return the files of a bundle. Raises: usage."""
    from runwright.adapters.files import read_folder  # lazy: only a decision over a bundle

    return read_folder(folder)
