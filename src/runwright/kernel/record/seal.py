"""A seal: a signed checkpoint over a ledger, in the C2SP formats that others already verify.

    <origin>                                  the text, a tlog-checkpoint: three lines
    <size>
    <root in base64>
                                              an empty line, then one line for each key:
    — <name> <base64 of key id || signature>  (a signed note)

Formats: c2sp.org/signed-note, c2sp.org/tlog-checkpoint, c2sp.org/tlog-proof, keys of type 0x01
(Ed25519). Three rules: what is sealed was read back from the store and hashed again just before;
the signer remembers the last size and root and never goes back; a signature of an unknown key says
nothing, and one trusted key has to verify.
"""

from __future__ import annotations

import binascii
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

import msgspec

from runwright.kernel.errors import (
    RollbackDetected,
    SignerMemoryLost,
    StoreCorrupt,
    Usage,
    VerificationFailed,
    require,
)
from runwright.kernel.record.entries import Header
from runwright.kernel.record.ledger import (
    PROOF_MAX,
    Head,
    SealRow,
    StoredEntry,
    extend,
    head_of,
    leaf_hash,
)

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

#: The signature type of an Ed25519 key in a signed note.
ED25519: Final = b"\x01"
#: The largest note that is read, in bytes, and the most signatures in it.
NOTE_MAX: Final = 64 * 1024
SIGNATURES_MAX: Final = 16
#: The first line of an inclusion proof.
PROOF_HEADER: Final = "c2sp.org/tlog-proof@v1"

_DASH: Final = "\u2014"
_HEADER: Final = msgspec.json.Decoder(Header)


class VerifyKey(msgspec.Struct, frozen=True):
    """A public key of a signed note: "<name>+<key id>+<base64(type || key)>"."""

    name: str
    #: The first four bytes of SHA-256(name || newline || type || key).
    id: bytes
    #: 32 bytes.
    public: bytes

    def text(self) -> str:
        """Return the key as a C2SP verifier key."""
        return f"{self.name}+{self.id.hex()}+{_base64(ED25519 + self.public)}"


class Checkpoint(msgspec.Struct, frozen=True):
    """What a seal says: the first `size` entries of `origin` have this root."""

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        """Return the bytes that are signed, as text."""
        return f"{self.origin}\n{self.size}\n{_base64(self.root)}\n"


class Signature(msgspec.Struct, frozen=True):
    """One line below a note."""

    name: str
    key_id: bytes
    #: What follows the key id.
    data: bytes


class Note(msgspec.Struct, frozen=True):
    """A text and its signatures, none of them checked yet."""

    text: str
    signatures: tuple[Signature, ...]


class Proof(msgspec.Struct, frozen=True):
    """That an entry is in the tree of a checkpoint (c2sp.org/tlog-proof)."""

    index: int
    hashes: tuple[bytes, ...]
    #: The signed checkpoint.
    note: str


class Remembered(msgspec.Struct, frozen=True):
    """What a signer last signed."""

    size: int
    root: bytes


class Heads(NamedTuple):
    """Where a ledger stands: up to where its seals reach, and up to where it reaches."""

    sealed: Head
    head: Head
    #: The leaf hashes of the entries between the two.
    leaves: list[bytes]


class Signer(Protocol):
    """Signs the heads of one ledger and remembers the last one, outside the store."""

    #: The name of the ledger, inside every entry and every seal.
    origin: str

    def last(self) -> Remembered | None:
        """Return what was signed last; None when nothing is remembered."""

    def sign(self, sealed: Head, leaves: Sequence[bytes]) -> str:
        """Sign the head that `leaves` lead to from `sealed`; return the note.

        The way there has to pass through what was signed last. What is remembered is synced before
        the note is returned; the same request again returns the same bytes.

        Raises: rollback-detected when the way does not pass through what was signed last,
        signer-memory-lost when nothing is remembered although something was sealed.
        """

    def adopt(self, head: Head) -> None:
        """Remember a head without signing it, whatever was remembered before.

        For `ledger adopt`: called once the entry that says so is durable, never before.
        """

    def follow(self, sealed: Head, note: str) -> bool:
        """Go on from a seal beyond what is remembered, if another machine made it; say whether."""

    def reload(self) -> None:
        """Load the keys again, after a rotation was begun or finished."""


class Stored(Protocol):
    """What of a store is read to seal it; every Store is one."""

    def size(self) -> int:
        """Return how many entries there are."""

    def entries(self, start: int = 0, stop: int | None = None) -> Iterator[StoredEntry]:
        """Yield the entries with start <= seq < stop, in order."""

    def tiles(self, level: int, start: int, stop: int) -> list[bytes]:
        """Return the hashes of full subtrees of a level."""

    def seals(self, *, latest: bool = False) -> list[SealRow]:
        """Return the seals by size, or the newest one only."""


# --------------------------------------------------------------------------------------- sealing


def seal(
    store: Stored, signer: Signer, *, sealed: Head, head: Head, leaves: Sequence[bytes]
) -> SealRow:
    """Read back what was committed since the last seal, hash it again and have its head signed.

    `leaves` are the leaf hashes with which it was committed, and `head` follows from them. Raises:
    store-corrupt, naming the seq, when the store does not hold what was committed; nothing is
    signed then. rollback-detected and signer-memory-lost come from the signer.
    """
    require(sealed.size + len(leaves) == head.size, "a seal covers every entry since the last")
    seq = sealed.size
    for entry in store.entries(sealed.size, head.size):
        committed = leaves[seq - sealed.size]
        if entry.seq != seq or entry.leaf != committed or leaf_hash(entry.raw) != committed:
            msg = f"entry {seq} in the store is not what was committed"
            raise StoreCorrupt(msg)
        seq += 1
    _require_end(seq, head.size)
    return SealRow(head.size, head.root(), signer.sign(sealed, leaves))


def reread(entries: Iterable[StoredEntry], after: Head, stop: int, origin: str) -> list[bytes]:
    """Hash stored entries again, from `after` up to `stop`, and return their leaf hashes.

    Raises: store-corrupt, naming the first seq that is missing, altered or out of place.
    """
    leaves: list[bytes] = []
    seq, prev = after.size, after.prev
    for entry in entries:
        leaf = leaf_hash(entry.raw)
        if entry.seq != seq or leaf != entry.leaf:
            msg = f"entry {seq} in the store is not what was committed"
            raise StoreCorrupt(msg)
        try:
            header = _HEADER.decode(entry.raw)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            msg = f"entry {seq} in the store cannot be read: {error}"
            raise StoreCorrupt(msg) from error
        if header.seq != seq or header.prev != prev.hex() or header.origin != origin:
            msg = f"entry {seq} in the store belongs somewhere else"
            raise StoreCorrupt(msg)
        leaves.append(leaf)
        prev = leaf
        seq += 1
    _require_end(seq, stop)
    return leaves


def _require_end(seq: int, stop: int) -> None:
    if seq != stop:
        msg = f"entry {seq} is missing in the store"
        raise StoreCorrupt(msg)


def open_head(store: Stored, signer: Signer) -> Heads:
    """Return where a ledger stands, once the store agrees with what the signer remembers.

    The newest seal in the store may be older than what the signer remembers, when a conductor
    ended between signing and committing; the next seal then covers both.

    Raises: rollback-detected when the store is shorter than, or different at, the last signed
    head; signer-memory-lost; store-corrupt when the unsealed tail does not hold together.
    """
    remembered = signer.last()
    newest = next(iter(store.seals(latest=True)), None)
    if remembered is None and newest is not None:
        msg = f"the store is sealed up to {newest.size} entries, the signer remembers none"
        raise SignerMemoryLost(msg)
    if remembered is not None:
        size = store.size()
        if size < remembered.size:
            msg = f"the store holds {size} entries, {remembered.size} were sealed"
            raise RollbackDetected(msg)
        if head_of(store.tiles, remembered.size).root() != remembered.root:
            msg = f"the first {remembered.size} entries are not those that were sealed"
            raise RollbackDetected(msg)
    heads = _heads(store, newest, signer.origin)
    is_beyond = remembered and newest and newest.size > remembered.size
    if remembered and newest and is_beyond and not signer.follow(heads.sealed, newest.note):
        msg = (
            f"the store is sealed up to {newest.size} entries, "
            f"the signer remembers {remembered.size}"
        )
        raise SignerMemoryLost(msg)
    return heads


def adopt_head(store: Stored, origin: str) -> Heads:
    """Return where a ledger stands without asking a signer: every entry is hashed again.

    For `ledger adopt`, whose entry says that somebody decided to go on.

    Raises: store-corrupt when the store does not hold together.
    """
    newest = next(iter(store.seals(latest=True)), None)
    size = store.size()
    leaves = reread(store.entries(0, size), Head(), size, origin)
    heads = _heads(store, newest, origin)
    if extend(Head(), leaves) != heads.head:
        msg = "the tiles in the store are not those of its entries"
        raise StoreCorrupt(msg)
    return heads


def _heads(store: Stored, newest: SealRow | None, origin: str) -> Heads:
    sealed = head_of(store.tiles, newest.size) if newest else Head()
    if newest and sealed.root() != newest.root:
        msg = f"the first {newest.size} entries in the store are not those of its seal"
        raise StoreCorrupt(msg)
    size = store.size()
    leaves = reread(store.entries(sealed.size, size), sealed, size, origin)
    return Heads(sealed, extend(sealed, leaves), leaves)


# ----------------------------------------------------------------------------------------- notes


def key_id(name: str, public: bytes) -> bytes:
    """Return the id of a key: the first four bytes of SHA-256(name || newline || type || key)."""
    return hashlib.sha256(name.encode() + b"\n" + ED25519 + public).digest()[:4]


def make_key(name: str, public: bytes) -> VerifyKey:
    """Return the verifier key of 32 public bytes.

    Raises: usage when the name cannot stand in a note.
    """
    if not is_name(name):
        msg = f"{name!r} cannot name a key: no spaces and no plus signs"
        raise Usage(msg)
    require(len(public) == 32, "an Ed25519 key has 32 bytes")  # noqa: PLR2004 - RFC 8032
    return VerifyKey(name, key_id(name, public), public)


def parse_key(text: str) -> VerifyKey:
    """Read a verifier key.

    Raises: usage when it is not one, or when its id is not that of its key.
    """
    parts = text.strip().split("+", 2)
    data = _bytes_of(parts[2]) if len(parts) == 3 else None  # noqa: PLR2004 - name, id, key
    if data is None or len(data) != 33 or data[:1] != ED25519 or not is_name(parts[0]):  # noqa: PLR2004
        msg = "not a verifier key of the form name+id+base64 with an Ed25519 key"
        raise Usage(msg)
    key = VerifyKey(parts[0], key_id(parts[0], data[1:]), data[1:])
    if key.id.hex() != parts[1]:
        msg = f"the verifier key of {key.name} has the id {key.id.hex()}, it says {parts[1]}"
        raise Usage(msg)
    return key


def sign_note(text: str, keys: Sequence[tuple[str, Ed25519PrivateKey]]) -> str:
    """Return a note: the text signed under each (name, private key)."""
    lines = []
    for name, private in keys:
        public = private.public_key().public_bytes_raw()
        signature = private.sign(text.encode())
        lines.append(f"{_DASH} {name} {_base64(key_id(name, public) + signature)}\n")
    return f"{text}\n{''.join(lines)}"


def parse_note(note: str) -> Note:
    """Take a note apart, without checking any signature.

    Raises: verification-failed when it is not a signed note.
    """
    if len(note) > NOTE_MAX:
        msg = f"a note of {len(note)} characters is over the limit of {NOTE_MAX}"
        raise VerificationFailed(msg)
    text, blank, below = note.rpartition("\n\n")
    if not blank or not below.endswith("\n") or any(_is_control(sign) for sign in note):
        msg = "not a signed note: text, an empty line, signatures"
        raise VerificationFailed(msg)
    lines = below[:-1].split("\n")
    if len(lines) > SIGNATURES_MAX:
        msg = f"a note with {len(lines)} signatures is over the limit of {SIGNATURES_MAX}"
        raise VerificationFailed(msg)
    return Note(text + "\n", tuple(_signature(line) for line in lines))


def _signature(line: str) -> Signature:
    parts = line.split(" ")
    data = _bytes_of(parts[2]) if len(parts) == 3 else None  # noqa: PLR2004 - dash, name, base64
    if data is None or parts[0] != _DASH or not is_name(parts[1]) or len(data) < 5:  # noqa: PLR2004
        msg = f"not a signature line of a note: {line[:80]!r}"
        raise VerificationFailed(msg)
    return Signature(parts[1], data[:4], data[4:])


def signers_of(note: Note, keys: Iterable[VerifyKey]) -> list[VerifyKey]:
    """Return those of the keys that signed a note; signatures of unknown keys are ignored.

    Raises: verification-failed when a signature under one of the keys is wrong.
    """
    known = {(key.name, key.id): key for key in keys}
    found = []
    for signature in note.signatures:
        key = known.pop((signature.name, signature.key_id), None)
        if key is None:
            continue
        if not verifies(key.public, signature.data, note.text.encode()):
            msg = f"the signature of {key.name}+{key.id.hex()} is wrong"
            raise VerificationFailed(msg)
        found.append(key)
    return found


def verifies(public: bytes, signature: bytes, data: bytes) -> bool:
    """Say whether an Ed25519 signature holds."""
    from cryptography.exceptions import InvalidSignature  # lazy: signing only, 15 ms
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (  # lazy: signing only, 15 ms
        Ed25519PublicKey,
    )

    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, data)
    except (InvalidSignature, ValueError):
        return False
    return True


def open_note(note: str, keys: Iterable[VerifyKey]) -> Checkpoint:
    """Return the checkpoint of a note that at least one of the keys signed.

    Raises: verification-failed.
    """
    parsed = parse_note(note)
    if not signers_of(parsed, keys):
        msg = "no signature of the checkpoint is by a trusted key"
        raise VerificationFailed(msg)
    return parse_checkpoint(parsed.text)


def parse_checkpoint(text: str) -> Checkpoint:
    """Read the text of a checkpoint; lines after the third are extensions and are kept signed.

    Raises: verification-failed when it is not one.
    """
    lines = text.split("\n")
    size = _number(lines[1]) if len(lines) > 3 else None  # noqa: PLR2004 - origin, size, root, ""
    root = _bytes_of(lines[2]) if size is not None else None
    if size is None or root is None or len(root) != 32 or not lines[0]:  # noqa: PLR2004
        msg = "not a checkpoint: origin, size, root"
        raise VerificationFailed(msg)
    return Checkpoint(lines[0], size, root)


# ---------------------------------------------------------------------------------------- proofs


def proof_text(proof: Proof) -> str:
    """Return an inclusion proof as c2sp.org/tlog-proof@v1."""
    hashes = "".join(f"{_base64(node)}\n" for node in proof.hashes)
    return f"{PROOF_HEADER}\nindex {proof.index}\n{hashes}\n{proof.note}"


def parse_proof(text: str) -> Proof:
    """Read an inclusion proof; neither it nor its checkpoint is checked yet.

    Raises: verification-failed when it is not one.
    """
    above, blank, note = text.partition("\n\n")
    header, *lines = above.split("\n")
    if lines and lines[0].startswith("extra "):
        # Opaque data of the log's own; not used here and not trusted.
        lines = lines[1:]
    index = _number(lines[0].removeprefix("index ")) if lines else None
    hashes = [_bytes_of(line) for line in lines[1:]]
    wrong = any(node is None or len(node) != 32 for node in hashes)  # noqa: PLR2004
    if not blank or header != PROOF_HEADER or index is None or wrong or len(hashes) > PROOF_MAX:
        msg = f"not a proof in the format {PROOF_HEADER}"
        raise VerificationFailed(msg)
    return Proof(index, tuple(node for node in hashes if node is not None), note)


def is_name(name: str) -> bool:
    """Say whether a key or a ledger can have this name in a note."""
    return bool(name) and "+" not in name and not any(sign.isspace() for sign in name)


def _is_control(sign: str) -> bool:
    return sign < " " and sign != "\n"


def _number(text: str) -> int | None:
    """Return a decimal without sign and leading zeros."""
    if not text.isascii() or not text.isdigit() or len(text) > 16 or text != str(int(text)):  # noqa: PLR2004
        return None
    return int(text)


def _base64(data: bytes) -> str:
    return binascii.b2a_base64(data, newline=False).decode()


def _bytes_of(text: str) -> bytes | None:
    """Return what standard base64 says, when it says it in the only way it can."""
    try:
        data = binascii.a2b_base64(text, strict_mode=True)
    except (binascii.Error, ValueError):
        return None
    return data if _base64(data) == text else None
