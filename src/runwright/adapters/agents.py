"""Private keys of agents, each in a file of its own that only the owner may read.

`agents/FINN.key` is the current one; a key that waits to come into force, or goes on signing for a
while after it was rotated out, is `agents/FINN.<fingerprint>.key`. What a file is called is for
people: a key is found by its public half.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from runwright.adapters.signer import (
    load_seal_key,
    make_folder,
    private_pem,
    sync_folder,
    write_new,
)

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

#: The longest name of letters, digits, "_" and "-" that is the name of its file as well.
_PLAIN_MAX: Final = 100


class FileKeyring:
    """The Keyring port on a folder."""

    def __init__(self, folder: Path) -> None:
        """Use a folder, which is made with the first key."""
        self._folder = folder
        self._loaded: dict[Path, Ed25519PrivateKey] = {}
        #: Public half -> the path of the private one.
        self._places: dict[str, Path] = {}
        #: Agent -> the path of its current key.
        self._paths: dict[str, Path] = {}

    def create(self, agent: str) -> str:
        """Make another key, durably; return its public half. Raises: store-unwritable."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import (  # lazy: signing only, 15 ms
            Ed25519PrivateKey,
        )

        make_folder(self._folder)
        private = Ed25519PrivateKey.generate()
        public = _public(private)
        current = self._current(agent)
        path = self._beside(agent, public) if current.exists() else current
        write_new(path, private_pem(private), 0o600)
        sync_folder(self._folder)
        return public

    def keys(self, agent: str) -> list[str]:
        """Return the public halves of the keys that are kept, the current one first."""
        return [_public(private) for _, private in self._kept(agent)]

    def sign(self, agent: str, key: str, data: bytes) -> bytes | None:
        """Return a signature; None when the key is not kept here. Raises: refused, usage."""
        path = self._places.get(key)
        # Every record is signed: a key that was found is not looked for, but must still be there.
        if path in self._loaded and os.path.exists(path):  # noqa: PTH110 - hot
            return self._loaded[path].sign(data)
        for _, private in self._kept(agent):
            if _public(private) == key:
                return private.sign(data)
        return None

    def promote(self, agent: str, key: str) -> None:
        """Make a key the current one."""
        current = self._current(agent)
        for path, private in list(self._kept(agent)):
            if _public(private) == key and path != current:
                if current.exists():
                    old = _public(self._load(current))
                    current.rename(self._beside(agent, old))
                path.rename(current)
                sync_folder(self._folder)
                self._loaded.clear()

    def remove(self, agent: str, key: str) -> None:
        """Delete the private half of a key; again is nothing."""
        for path, private in list(self._kept(agent)):
            if _public(private) == key:
                path.unlink()
                sync_folder(self._folder)
                self._loaded.clear()

    def _kept(self, agent: str) -> Iterator[tuple[Path, Ed25519PrivateKey]]:
        current = self._current(agent)
        if current.exists():
            yield current, self._load(current)
        for path in sorted(self._folder.glob(f"{_file_name(agent)}.*.key")):
            yield path, self._load(path)

    def _load(self, path: Path) -> Ed25519PrivateKey:
        if path not in self._loaded:
            self._loaded[path] = load_seal_key(path)
            self._places[_public(self._loaded[path])] = path
        return self._loaded[path]

    def _current(self, agent: str) -> Path:
        # Every seal asks for that of each agent several times.
        if agent not in self._paths:
            self._paths[agent] = self._folder / f"{_file_name(agent)}.key"
        return self._paths[agent]

    def _beside(self, agent: str, public: str) -> Path:
        named = hashlib.sha256(bytes.fromhex(public)).hexdigest()[:16]
        return self._folder / f"{_file_name(agent)}.{named}.key"


def _file_name(agent: str) -> str:
    """Return a name that no other agent has, and that no path can be made of."""
    bare = agent.replace("_", "").replace("-", "")
    if agent[:1].isalnum() and bare.isascii() and bare.isalnum() and len(agent) <= _PLAIN_MAX:
        return agent
    # The first form never begins like this, so the two never meet.
    return f"_{hashlib.sha256(agent.encode()).hexdigest()[:32]}"


def _public(private: Ed25519PrivateKey) -> str:
    return private.public_key().public_bytes_raw().hex()
