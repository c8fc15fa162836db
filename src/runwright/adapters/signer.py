"""Keys on disk, and a signer that remembers what it signed last in a file outside the store.

The memory is one file with two slots of a fixed size. A write goes to the older slot and is synced
before a signature is released, so a torn write leaves the other slot, and with it the last head
that was released, as it was.
"""

from __future__ import annotations

import binascii
import contextlib
import hashlib
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from runwright.kernel.errors import (
    Refused,
    RollbackDetected,
    SignerMemoryLost,
    StoreUnwritable,
    Usage,
    VerificationFailed,
    require,
)
from runwright.kernel.record.ledger import Head, extend
from runwright.kernel.record.seal import (
    Checkpoint,
    Remembered,
    VerifyKey,
    make_key,
    open_note,
    parse_key,
    sign_note,
)

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

#: Names of the files in a folder of keys.
LEDGER_KEY: Final = "ledger.key"
NEXT_KEY: Final = "ledger.next.key"
EVIDENCE_KEY: Final = "evidence.key"

#: Bytes of one slot, and of the digest at its end.
SLOT_SIZE: Final = 512
_DIGEST_SIZE: Final = 32
_MAGIC: Final = "runwright signer memory 1"
#: The largest key file that is read.
_KEY_FILE_MAX: Final = 16 * 1024


#: A private key in PEM, and what stands before the 32 bytes of an Ed25519 one (RFC 8410, 7).
_PEM_HEAD: Final = b"-----BEGIN PRIVATE KEY-----\n"
_PEM_TAIL: Final = b"\n-----END PRIVATE KEY-----\n"
_PKCS8_ED25519: Final = bytes.fromhex("302e020100300506032b657004220420")
_SEED_SIZE: Final = 32


class Keys(msgspec.Struct, frozen=True, kw_only=True):
    """The public half of what `create_keys` made."""

    #: The verifier key of the seals.
    seal: VerifyKey
    #: SHA-256 of the DER public key that signs bundles, hex.
    bundle: str


# ------------------------------------------------------------------------------------------ keys


def create_keys(folder: Path, origin: str) -> Keys:
    """Create the keys of a ledger: Ed25519 for its seals, P-256 for its bundles.

    Beside each private key (mode 0600) lies its public half; `ledger.vkey` names it by the origin.

    Raises: usage when a key is there already.
    """
    make_folder(folder)
    from cryptography.hazmat.primitives.asymmetric import ec  # lazy: signing only, 15 ms

    seal = _create_seal_key(folder, LEDGER_KEY, origin)
    evidence = ec.generate_private_key(ec.SECP256R1())
    write_new(folder / EVIDENCE_KEY, private_pem(evidence), 0o600)
    write_new(folder / "evidence.pub.pem", public_pem(evidence), 0o644)
    sync_folder(folder)
    return Keys(seal=seal, bundle=hashlib.sha256(_public_der(evidence)).hexdigest())


def begin_rotation(folder: Path, origin: str) -> VerifyKey:
    """Create the next seal key; until `finish_rotation` both sign. Again: return the one begun."""
    path = folder / NEXT_KEY
    if path.exists():
        return _verify_key(origin, load_seal_key(path))
    key = _create_seal_key(folder, NEXT_KEY, origin)
    sync_folder(folder)
    return key


def finish_rotation(folder: Path) -> None:
    """Put the next seal key in the place of the one before it, whose private half is gone then.

    Its public half stays as `ledger.<key id>.pub.pem` and `.vkey`, for the seals it signed. Cut off
    half way it can be called again.

    Raises: usage when no rotation was begun.
    """
    if not (folder / NEXT_KEY).exists():
        msg = f"no rotation was begun in {folder}"
        raise Usage(msg)
    origin = parse_key((folder / "ledger.vkey").read_text()).name
    old = load_seal_key(folder / LEDGER_KEY)
    _replace_public(folder, f"ledger.{_verify_key(origin, old).id.hex()}", old, origin)
    _replace_public(folder, "ledger", load_seal_key(folder / NEXT_KEY), origin)
    # The private key last: until then the rotation counts as begun.
    (folder / NEXT_KEY).replace(folder / LEDGER_KEY)
    for end in (".pub.pem", ".vkey"):
        (folder / f"ledger.next{end}").unlink(missing_ok=True)
    sync_folder(folder)


def _replace_public(folder: Path, stem: str, private: Ed25519PrivateKey, origin: str) -> None:
    vkey = f"{_verify_key(origin, private).text()}\n".encode()
    for end, data in ((".pub.pem", public_pem(private)), (".vkey", vkey)):
        draft = folder / f"{stem}{end}.draft"
        draft.unlink(missing_ok=True)
        write_new(draft, data, 0o644)
        draft.replace(folder / f"{stem}{end}")


def _create_seal_key(folder: Path, name: str, origin: str) -> VerifyKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (  # lazy: signing only, 15 ms
        Ed25519PrivateKey,
    )

    private = Ed25519PrivateKey.generate()
    key = _verify_key(origin, private)
    stem = name.removesuffix(".key")
    write_new(folder / name, private_pem(private), 0o600)
    write_new(folder / f"{stem}.pub.pem", public_pem(private), 0o644)
    write_new(folder / f"{stem}.vkey", f"{key.text()}\n".encode(), 0o644)
    return key


def load_seal_key(path: Path) -> Ed25519PrivateKey:
    """Load an Ed25519 private key. Raises: usage, refused when others may read it."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (  # lazy: signing only, 15 ms
        Ed25519PrivateKey,
    )

    data = _read_private(path)
    seed = _seed_of(data)
    if seed is not None:
        return Ed25519PrivateKey.from_private_bytes(seed)
    key = _load_private(path, data)
    if not isinstance(key, Ed25519PrivateKey):
        msg = f"{path} does not hold an Ed25519 key"
        raise Usage(msg)
    return key


def load_evidence_key(path: Path) -> EllipticCurvePrivateKey:
    """Load a P-256 private key. Raises: usage, refused when others may read it."""
    from cryptography.hazmat.primitives.asymmetric import ec  # lazy: signing only, 15 ms

    key = _load_private(path, _read_private(path))
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != "secp256r1":
        msg = f"{path} does not hold a P-256 key"
        raise Usage(msg)
    return key


def _seed_of(pem: bytes) -> bytes | None:
    """Return the 32 bytes of an Ed25519 key in the form that `create_keys` writes.

    None for any other form: what reads them all takes 15 ms to import, too long for every run.
    """
    if not pem.startswith(_PEM_HEAD) or not pem.endswith(_PEM_TAIL):
        return None
    try:
        key = binascii.a2b_base64(pem[len(_PEM_HEAD) : -len(_PEM_TAIL)], strict_mode=True)
    except binascii.Error:
        return None
    seed = key.removeprefix(_PKCS8_ED25519)
    return seed if len(seed) == _SEED_SIZE and len(key) > _SEED_SIZE else None


def _read_private(path: Path) -> bytes:
    """Return a file that only its owner may read. Raises: usage, refused."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(_KEY_FILE_MAX)
    except OSError as error:
        msg = f"the key {path} cannot be read: {error.strerror}"
        raise Usage(msg) from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        msg = f"the key {path} may be read by others (mode {stat.S_IMODE(mode):04o})"
        hint = f"If nobody else read it: chmod 600 {path}. If somebody may have: rotate it."
        raise Refused(msg, hint=hint)
    return data


def _load_private(path: Path, data: bytes) -> object:
    from cryptography.exceptions import UnsupportedAlgorithm  # lazy: signing only, 15 ms
    from cryptography.hazmat.primitives.serialization import (  # lazy: signing only, 15 ms
        load_pem_private_key,
    )

    try:
        return load_pem_private_key(data, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        msg = f"{path} does not hold a private key in PEM"
        raise Usage(msg) from error


def _verify_key(origin: str, private: Ed25519PrivateKey) -> VerifyKey:
    from cryptography.hazmat.primitives.serialization import (  # lazy: signing only, 15 ms
        Encoding,
        PublicFormat,
    )

    return make_key(origin, private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))


def private_pem(key: Ed25519PrivateKey | EllipticCurvePrivateKey) -> bytes:
    """Return a private key as PEM, without a password."""
    from cryptography.hazmat.primitives.serialization import (  # lazy: signing only, 15 ms
        Encoding,
        NoEncryption,
        PrivateFormat,
    )

    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def public_pem(key: Ed25519PrivateKey | EllipticCurvePrivateKey) -> bytes:
    """Return the public half of a key as PEM."""
    from cryptography.hazmat.primitives.serialization import (  # lazy: signing only, 15 ms
        Encoding,
        PublicFormat,
    )

    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _public_der(key: EllipticCurvePrivateKey) -> bytes:
    from cryptography.hazmat.primitives.serialization import (  # lazy: signing only, 15 ms
        Encoding,
        PublicFormat,
    )

    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


# ---------------------------------------------------------------------------------------- memory


class _Slot(msgspec.Struct, frozen=True):
    """What one slot says."""

    magic: str
    generation: int
    ledger: str
    size: int
    root: str


class SignerMemory:
    """The last size and root that were signed for one ledger, in two slots of a file."""

    def __init__(self, path: Path, ledger: str) -> None:
        """Remember for the ledger of this random id; the file is made by the first write."""
        self._path = path
        self._ledger = ledger

    def last(self) -> Remembered | None:
        """Return what was remembered last; None when there is no file.

        Raises: signer-memory-lost when the file holds no valid slot, or that of another ledger.
        """
        slots = self._slots()
        if slots is None:
            return None
        newest = max((slot for slot in slots if slot), key=lambda slot: slot.generation)
        return Remembered(newest.size, bytes.fromhex(newest.root))

    def remember(self, remembered: Remembered) -> None:
        """Write the older slot and sync it. Raises: store-unwritable when that did not work."""
        slots = self._slots() or [None, None]
        generations = [slot.generation if slot else 0 for slot in slots]
        place = generations.index(min(generations))
        slot = _Slot(
            _MAGIC,
            max(generations) + 1,
            self._ledger,
            remembered.size,
            remembered.root.hex(),
        )
        try:
            self._write(place, _slot_bytes(slot))
        except OSError as error:
            msg = f"the signer's memory {self._path} cannot be written: {error.strerror}"
            raise StoreUnwritable(msg) from error

    def put_aside(self) -> None:
        """Put a file that cannot be read, or is another ledger's, beside its place."""
        try:
            self._slots()
        except SignerMemoryLost:
            self._path.replace(self._path.with_name(self._path.name + ".aside"))

    def _write(self, place: int, data: bytes) -> None:
        is_new = not self._path.exists()
        if is_new:
            make_folder(self._path.parent)
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            written = os.pwrite(file, data, place * SLOT_SIZE)
            require(written == len(data), "a slot is written at once")
            _sync_data(file)
        finally:
            os.close(file)
        if is_new:
            sync_folder(self._path.parent)

    def _slots(self) -> list[_Slot | None] | None:
        """Return both slots, None for one that does not hold; None when there is no file."""
        try:
            with self._path.open("rb") as file:
                data = file.read(2 * SLOT_SIZE)
        except FileNotFoundError:
            return None
        except OSError as error:
            msg = f"the signer's memory {self._path} cannot be read: {error.strerror}"
            raise SignerMemoryLost(msg) from error
        slots = [_slot_of(data[start : start + SLOT_SIZE]) for start in (0, SLOT_SIZE)]
        if not data:
            # Made, but ended before the first slot was written: nothing was signed yet.
            return None
        held = [slot for slot in slots if slot]
        if not held:
            msg = f"the signer's memory {self._path} holds no valid slot"
            raise SignerMemoryLost(msg)
        if any(slot.ledger != self._ledger for slot in held):
            msg = f"the signer's memory {self._path} is that of another ledger"
            raise SignerMemoryLost(msg)
        return slots


def _slot_bytes(slot: _Slot) -> bytes:
    text = msgspec.json.encode(slot)
    room = SLOT_SIZE - _DIGEST_SIZE
    require(len(text) <= room, "a slot has room for what is remembered")
    padded = text.ljust(room)
    return padded + hashlib.sha256(padded).digest()


def _slot_of(data: bytes) -> _Slot | None:
    padded, digest = data[:-_DIGEST_SIZE], data[-_DIGEST_SIZE:]
    if len(data) != SLOT_SIZE or hashlib.sha256(padded).digest() != digest:
        return None
    try:
        slot = msgspec.json.decode(padded, type=_Slot)
    except msgspec.DecodeError:
        return None
    return slot if slot.magic == _MAGIC else None


# ---------------------------------------------------------------------------------------- signer


class FileSigner:
    """Signs with the keys of a folder and remembers in a file; see `kernel.record.seal.Signer`."""

    def __init__(
        self, folder: Path, memory: SignerMemory, origin: str, *, is_shared: bool = False
    ) -> None:
        """Use the seal key of a folder, and the next one too while a rotation is under way.

        With `is_shared` other machines seal the same ledger, each with a memory of its own.
        """
        self.origin = origin
        self._is_shared = is_shared
        self._folder = folder
        self._memory = memory
        self._keys: list[Ed25519PrivateKey] = []
        self._last: Remembered | None = None
        self._is_read = False

    def last(self) -> Remembered | None:
        """Return what was signed last. Raises: signer-memory-lost when that cannot be read."""
        if not self._is_read:
            self._last, self._is_read = self._memory.last(), True
        return self._last

    def sign(self, sealed: Head, leaves: Sequence[bytes]) -> str:
        """Sign the head that `leaves` lead to from `sealed`; return the note.

        Raises: rollback-detected, signer-memory-lost, store-unwritable.
        """
        keys = [(self.origin, key) for key in self._loaded()]
        last = self.last()
        if last is None and sealed.size > 0:
            msg = f"asked to go on after {sealed.size} sealed entries, the signer remembers none"
            raise SignerMemoryLost(msg)
        known = last or Remembered(0, Head().root())
        beyond = known.size - sealed.size
        passed = extend(sealed, leaves[:beyond]) if 0 <= beyond <= len(leaves) else None
        if passed is None or passed.root() != known.root:
            msg = (
                f"asked to sign {sealed.size + len(leaves)} entries that do not continue "
                f"the {known.size} signed before"
            )
            raise RollbackDetected(msg)
        head = extend(passed, leaves[beyond:])
        if last is None or head.size > known.size:
            self._remember(head)
        return sign_note(Checkpoint(self.origin, head.size, head.root()).text(), keys)

    def adopt(self, head: Head) -> None:
        """Remember a head without signing it, whatever was remembered before.

        For `ledger adopt`: call it once the entry that says so is durable, never before.
        """
        self._memory.put_aside()
        self._remember(head)

    def _remember(self, head: Head) -> None:
        remembered = Remembered(head.size, head.root())
        # While the write is under way nothing is known for certain: read it again if it raises.
        self._is_read = False
        self._memory.remember(remembered)
        self._last, self._is_read = remembered, True

    def follow(self, sealed: Head, note: str) -> bool:
        """Go on from a seal that another machine made under our key; it is kept with the next."""
        if not self._is_shared:
            return False
        publics = [key.public_key().public_bytes_raw() for key in self._loaded()]
        try:
            found = open_note(note, [make_key(self.origin, public) for public in publics])
        except VerificationFailed:
            return False
        if found != Checkpoint(self.origin, sealed.size, sealed.root()):
            return False
        self._last = Remembered(sealed.size, sealed.root())
        return True

    def reload(self) -> None:
        """Load the keys again, after a rotation was begun or finished."""
        self._keys = []

    def _loaded(self) -> list[Ed25519PrivateKey]:
        if not self._keys:
            names = [LEDGER_KEY, *([NEXT_KEY] if (self._folder / NEXT_KEY).exists() else [])]
            self._keys = [load_seal_key(self._folder / name) for name in names]
        return self._keys


# ----------------------------------------------------------------------------------------- files


#: What a slot needs to be read again, its length included, and not when it was written.
_sync_data: Final = getattr(os, "fdatasync", os.fsync)


def make_folder(folder: Path) -> None:
    """Make a folder that only its owner looks into, durably."""
    if not folder.exists():
        folder.mkdir(parents=True, mode=0o700, exist_ok=True)
        sync_folder(folder.parent)


def write_new(path: Path, data: bytes, mode: int) -> None:
    """Write a file that must not be there yet, with its mode from the first moment, synced."""
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    except FileExistsError as error:
        msg = f"{path} is there already; a key is never overwritten"
        raise Usage(msg) from error
    try:
        with contextlib.closing(os.fdopen(file, "wb")) as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        msg = f"the key {path} cannot be written: {error.strerror}"
        raise StoreUnwritable(msg) from error


def sync_folder(folder: Path) -> None:
    """Make durable which names a folder holds."""
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)
