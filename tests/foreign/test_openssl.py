"""The commands of VERIFY.md, as they are printed, on a bundle that is whole and on altered ones.

A block is run by `sh -e`, in a folder that holds the bundle and nothing else; the reader's keys lie
beside it. Each alteration says which blocks refuse it, so what openssl does not check is seen too.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.e2e.project import Project
from tests.foreign.forgeries import FORGERIES, flipped
from tests.foreign.samples import Files, Sample, lay_out, read, resigned
from tests.foreign.verdicts import ask_ours

pytestmark = pytest.mark.skipif(
    shutil.which("openssl") is None, reason="needs openssl: apt-get install openssl"
)

MANIFEST, CHECKPOINT, LEAF, BLOBS, ALL = range(1, 6)


class Desk:
    """Where a reader puts a bundle, beside the keys that they got from somewhere else."""

    def __init__(self, base: Path, files: Files, keys: Path) -> None:
        self.folder = lay_out(files, base / "bundle")
        for name in ("ledger.pub.pem", "evidence.pub.pem"):
            shutil.copy(keys / name, base / name)
        text = (self.folder / "VERIFY.md").read_text(encoding="utf-8")
        self.blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
        assert len(self.blocks) == ALL
        self._environment = {
            # The `pip` and the `runwright` of this environment; nothing is fetched.
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(base),
            "TMPDIR": str(base),
            "LANG": "C.UTF-8",
            "PIP_NO_INDEX": "1",
        }

    def run(self, number: int) -> subprocess.CompletedProcess[str]:
        """Run one block."""
        return subprocess.run(
            ["sh", "-e"],
            input=self.blocks[number - 1],
            cwd=self.folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def refusing(self) -> set[int]:
        """Return the blocks that do not end with status 0, all but the last one tried."""
        return {number for number in range(1, ALL) if self.run(number).returncode}


@pytest.mark.slow
def test_the_commands_of_verify_md_hold_on_what_export_wrote(
    sample: Sample, tmp_path: Path
) -> None:
    """Every block, the last one included when `pip` has nothing to fetch for it."""
    desk = Desk(tmp_path, sample.files, sample.keys)
    assert desk.run(MANIFEST).stdout == "Verified OK\n"
    assert desk.run(CHECKPOINT).stdout == "Signature Verified Successfully\n"
    assert desk.run(BLOBS).stdout == ""
    assert desk.refusing() == set()
    first, second, *_ = sample.files["entries.jsonl"].splitlines()
    assert json.loads(second)["seq"] == json.loads(first)["seq"] + 1
    assert desk.run(LEAF).stdout.split()[0] == json.loads(second)["prev"]
    # Nothing was left in the folder: the commands may be given again.
    assert read(desk.folder) == sample.files


@pytest.mark.slow
def test_the_last_command_of_verify_md_says_verified(
    samples: dict[str, Sample], tmp_path: Path
) -> None:
    """The folder holds the bundle alone, or `runwright verify .` would name what else is in it."""
    try:
        importlib.metadata.distribution("runwright")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("needs runwright installed, so that pip has nothing to fetch")
    sample = samples["last"]
    desk = Desk(tmp_path, sample.files, sample.keys)
    done = desk.run(ALL)
    assert done.returncode == 0, done
    assert "\nVERIFIED " in done.stdout
    shutil.copy(tmp_path / "ledger.pub.pem", desk.folder)
    assert "ledger.pub.pem is not in the manifest" in desk.run(ALL).stdout


@pytest.mark.slow
def test_the_commands_of_verify_md_hold_on_a_ledger_without_blobs(
    project: Project, tmp_path: Path
) -> None:
    """Right after `init` there is an entry, a seal and nothing that an entry names."""
    project.done("export", "all", "--out", project.base / "all")
    files = read(project.base / "all")
    assert not any(name.startswith("blobs/") for name in files)
    desk = Desk(tmp_path / "desk", files, project.folder / ".runwright" / "keys")
    assert desk.refusing() == set()


# --------------------------------------------------------------------------------------- altered


def flip(name: str, place: int = -1) -> Callable[[Sample], Files]:
    """Return what flips one bit of a file."""

    def changes(sample: Sample) -> Files:
        data = bytearray(sample.files[name])
        data[place] ^= 1
        return {name: bytes(data)}

    return changes


def _payload(sample: Sample) -> Files:
    """A digest in the statement, the same way wherever the statement stands."""
    old, new = b'"sha256":"', b'"sha256":"0'
    return {
        name: sample.files[name].replace(old, new, 1) for name in ("manifest.pae", "statement.json")
    }


def _envelope(sample: Sample) -> Files:
    envelope = json.loads(sample.files["manifest.dsse.json"])
    envelope["payload"] = flipped(envelope["payload"].encode()).decode()
    text = json.dumps(envelope, sort_keys=True, separators=(",", ":"))
    return {"manifest.dsse.json": text.encode()}


def _added(_sample: Sample) -> Files:
    return {"schemas/more.json": b"{}"}


def blob(*, is_salted: bool, end: str = "") -> Callable[[Sample], Files]:
    """Return what flips one bit of a blob, or of its salt."""

    def changes(sample: Sample) -> Files:
        names = [name for name in sample.files if name.startswith("blobs/") and "." not in name]
        chosen = [name for name in names if (f"{name}.salt" in sample.files) == is_salted]
        return flip(f"{chosen[0]}{end}")(sample)

    return changes


def forged(name: str) -> Callable[[Sample], Files]:
    """Return one of the named forgeries."""
    return lambda sample: dict(FORGERIES[name].changes(sample))


#: Name -> what is altered, by which blocks it is refused as it is, and by which of them when the
#: forger holds the key of bundles and signs anew.
ALTERED: Mapping[str, tuple[Callable[[Sample], Files], set[int], set[int] | None]] = {
    "a byte of the payload": (flip("manifest.pae"), {MANIFEST}, None),
    "a byte of the statement": (flip("statement.json"), {MANIFEST}, None),
    "a digest in the payload": (_payload, {MANIFEST}, None),
    "a byte of the signature": (flip("manifest.sig"), {MANIFEST}, None),
    "the payload of the envelope": (_envelope, set(), None),
    "a file more": (_added, set(), None),
    "a captured blob": (blob(is_salted=True), {MANIFEST, BLOBS}, {BLOBS}),
    "the salt of a blob": (blob(is_salted=True, end=".salt"), {MANIFEST, BLOBS}, {BLOBS}),
    "a pinned blob": (blob(is_salted=False), {MANIFEST, BLOBS}, {BLOBS}),
    "the root": (forged("a byte of the root"), {MANIFEST, CHECKPOINT}, {CHECKPOINT}),
    "the size": (forged("another size"), {MANIFEST, CHECKPOINT}, {CHECKPOINT}),
    "the seal": (forged("a byte of the signature"), {MANIFEST, CHECKPOINT}, {CHECKPOINT}),
    "the id of the seal's key": (forged("another key id"), {MANIFEST}, set()),
    "an entry": (forged("a byte of an entry"), {MANIFEST}, set()),
    "a proof": (forged("a byte of a hash in a proof"), {MANIFEST}, set()),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ALTERED)
def test_the_commands_of_verify_md_refuse_what_was_altered(
    samples: dict[str, Sample], tmp_path: Path, name: str
) -> None:
    """Ours refuses each of them; the blocks refuse what they are there for, and no other does."""
    sample = samples["last"]
    changes, refusing, refusing_signed_anew = ALTERED[name]
    changed = sample.changed(changes(sample))
    assert ask_ours(changed, sample.trusted).words
    assert Desk(tmp_path / "as it is", changed, sample.keys).refusing() == refusing
    if refusing_signed_anew is not None:
        again = resigned(changed, sample.keys / "evidence.key")
        assert ask_ours(again, sample.trusted).words.isdisjoint({"manifest", "files"})
        assert ask_ours(again, sample.trusted).words
        assert Desk(tmp_path / "anew", again, sample.keys).refusing() == refusing_signed_anew


@pytest.mark.slow
def test_the_commands_of_verify_md_refuse_another_key(
    samples: dict[str, Sample], stranger: Path, tmp_path: Path
) -> None:
    """Of the reader's two keys, each is asked for what it has to have signed."""
    sample = samples["last"]
    for name, refusing in (("evidence", {MANIFEST}), ("ledger", {CHECKPOINT})):
        desk = Desk(tmp_path, sample.files, sample.keys)
        shutil.copy(stranger / f"{name}.pub.pem", tmp_path / f"{name}.pub.pem")
        assert desk.refusing() == refusing


@pytest.mark.slow
def test_a_bundle_signed_anew_with_a_key_of_its_own_is_refused(
    samples: dict[str, Sample], stranger: Path, tmp_path: Path
) -> None:
    """By somebody who alters nothing else, and puts the key that fits into the bundle."""
    sample = samples["last"]
    key = stranger / "evidence.pub.pem"
    changed = sample.changed({key.name: key.read_bytes()})
    files = resigned(changed, stranger / "evidence.key")
    desk = Desk(tmp_path, files, sample.keys)
    assert desk.refusing() == {MANIFEST}
    assert ask_ours(files, sample.trusted).words == {"manifest"}
    # The control: with that key it would hold.
    shutil.copy(key, tmp_path)
    assert desk.refusing() == set()
