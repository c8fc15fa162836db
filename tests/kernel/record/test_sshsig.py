"""Signatures as `ssh-keygen -Y sign` makes them: made here and checked there, and the other way."""

from __future__ import annotations

import base64
import shutil
import subprocess
from pathlib import Path

import pytest

from runwright.adapters import persons
from runwright.kernel.errors import Refused, Usage
from runwright.kernel.people import NAMESPACE, fingerprint_of
from runwright.kernel.record import sshsig
from tests.kernel.record.forge import private

MESSAGE = b'{"action":"attest"}'
KINDS = (("ed25519", "0"), ("ecdsa", "256"), ("ecdsa", "384"), ("ecdsa", "521"), ("rsa", "2048"))

needs_openssh = pytest.mark.skipif(
    shutil.which("ssh-keygen") is None, reason="needs ssh-keygen: apt-get install openssh-client"
)


def made(folder: Path, kind: str, bits: str, passphrase: str = "") -> Path:
    """Make a key pair with the real tool."""
    file = folder / f"{kind}{bits}"
    size = [] if kind == "ed25519" else ["-b", bits]
    argv = ["ssh-keygen", "-q", "-t", kind, *size, "-N", passphrase, "-C", "", "-f", file]
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL)
    return file


def accepted(folder: Path, key: str, signature: str, message: bytes = MESSAGE) -> bool:
    """Ask the real tool."""
    (folder / "signers").write_text(f"somebody {key}\n")
    (folder / "signature").write_text(sshsig.armoured(signature))
    argv = ["ssh-keygen", "-Y", "verify", "-f", folder / "signers", "-I", "somebody"]
    argv += ["-n", NAMESPACE, "-s", folder / "signature"]
    done = subprocess.run(argv, input=message, capture_output=True, check=False)
    return done.returncode == 0


@needs_openssh
@pytest.mark.parametrize(("kind", "bits"), KINDS)
def test_what_ssh_keygen_signs_is_checked_here(tmp_path: Path, kind: str, bits: str) -> None:
    file = made(tmp_path, kind, bits)
    key = persons.public_of(file)
    argv = ["ssh-keygen", "-q", "-Y", "sign", "-f", file, "-n", NAMESPACE]
    armoured = subprocess.run(argv, input=MESSAGE, capture_output=True, check=True).stdout.decode()
    signature = sshsig.unarmoured(armoured)
    assert sshsig.objection(signature, MESSAGE, key, NAMESPACE) == ""
    assert sshsig.key_of(signature) == key
    assert sshsig.armoured(signature) == armoured
    assert "not a signature" in sshsig.objection(signature, MESSAGE + b" ", key, NAMESPACE)
    # The same way as a command goes: directly for Ed25519, through the tool for the others.
    assert sshsig.objection(persons.sign(file, MESSAGE), MESSAGE, key, NAMESPACE) == ""


@needs_openssh
@pytest.mark.parametrize(("kind", "bits"), KINDS)
def test_a_fingerprint_is_the_one_that_openssh_prints(tmp_path: Path, kind: str, bits: str) -> None:
    file = made(tmp_path, kind, bits)
    printed = subprocess.run(["ssh-keygen", "-l", "-f", file], capture_output=True, check=True)
    assert fingerprint_of(persons.public_of(file)) == printed.stdout.decode().split()[1]


@needs_openssh
def test_what_is_signed_here_is_checked_by_ssh_keygen(tmp_path: Path) -> None:
    line = persons.create(tmp_path / "ada.key", "ada")
    signature = persons.sign(tmp_path / "ada.key", MESSAGE)
    key = persons.public_of(tmp_path / "ada.key")
    assert line == f"{key} ada"
    assert accepted(tmp_path, key, signature)
    assert not accepted(tmp_path, key, signature, MESSAGE + b" ")
    assert (tmp_path / "ada.key").stat().st_mode & 0o777 == 0o600
    # OpenSSH reads the private half too, and signs with it.
    argv = ["ssh-keygen", "-y", "-f", tmp_path / "ada.key"]
    read = subprocess.run(argv, capture_output=True, check=True).stdout.decode()
    assert read.split()[:2] == key.split()


@needs_openssh
def test_a_key_with_a_passphrase_that_nobody_types_does_not_sign(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Or it would ask whoever runs the tests on a terminal.
    monkeypatch.setenv("SSH_ASKPASS", "false")
    monkeypatch.setenv("SSH_ASKPASS_REQUIRE", "force")
    file = made(tmp_path, "ed25519", "0", passphrase="correct horse")
    with pytest.raises(Refused, match="ssh-keygen does not sign with"):
        persons.sign(file, MESSAGE)


def test_every_flipped_bit_of_a_signature_is_seen() -> None:
    signature = sshsig.sign(private(7), MESSAGE, NAMESPACE)
    key = sshsig.key_of(signature)
    assert sshsig.objection(signature, MESSAGE, key, NAMESPACE) == ""
    blob = base64.b64decode(signature)
    for place in range(len(blob) * 8):
        altered = bytearray(blob)
        altered[place // 8] ^= 1 << place % 8
        text = base64.b64encode(bytes(altered)).decode()
        assert sshsig.objection(text, MESSAGE, key, NAMESPACE), place


@pytest.mark.parametrize("wrong", ["", "AAAA", "%%", "U1NIU0lH", "A" * 7000])
def test_what_is_no_signature_is_refused(wrong: str) -> None:
    key = sshsig.key_of(sshsig.sign(private(7), MESSAGE, NAMESPACE))
    assert sshsig.objection(wrong, MESSAGE, key, NAMESPACE)
    assert sshsig.key_of(wrong) == ""


def test_more_behind_a_signature_is_seen() -> None:
    signature = sshsig.sign(private(7), MESSAGE, NAMESPACE)
    longer = base64.b64encode(base64.b64decode(signature) + b"\0").decode()
    key = sshsig.key_of(signature)
    assert sshsig.objection(longer, MESSAGE, key, NAMESPACE) == "it holds more than a signature"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not an OpenSSH public key"),
        ("ssh-dss AAAA", "not an OpenSSH public key"),
        ("ssh-ed25519 %%%", "cannot be read"),
        ("ssh-ed25519 AAAAB3NzaC1yc2EAAAADAQABAAAAAQ==", "cannot be read"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA", "private key"),
    ],
)
def test_what_is_no_public_key_is_refused(text: str, reason: str) -> None:
    with pytest.raises(Usage, match=reason):
        sshsig.parse_key(text)


@needs_openssh
def test_a_short_rsa_key_is_refused(tmp_path: Path) -> None:
    file = made(tmp_path, "rsa", "1024")
    with pytest.raises(Usage, match="too short"):
        persons.public_of(file)


def test_a_private_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    persons.create(tmp_path / "ada.key", "ada")
    (tmp_path / "ada.key").chmod(0o640)
    with pytest.raises(Refused, match="may be read by others"):
        persons.sign(tmp_path / "ada.key", MESSAGE)


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    persons.create(tmp_path / "ada.key", "ada")
    before = (tmp_path / "ada.key").read_bytes()
    with pytest.raises(Usage, match="never overwritten"):
        persons.create(tmp_path / "ada.key", "ada")
    assert (tmp_path / "ada.key").read_bytes() == before
