"""The controls: a verifier made blind in one place, and the same matrix names that place.

Each is a copy of the package with one passage replaced, run in a process of its own.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

import runwright
from tests.tamper.sample import Sample
from tests.tidy.tree import REPOSITORY

#: The size of a ledger with one tile.
WITH_A_TILE = 257


class Sabotage(NamedTuple):
    """What is replaced in which module, and what the matrix then has to report as lost."""

    module: str
    passages: tuple[tuple[str, str], ...]
    #: The fields that flips are lost in.
    blind: frozenset[str]
    #: The fields that are tried; none says all.
    only: tuple[str, ...] = ()
    #: Every so many bytes one is flipped.
    stride: int = 17


VERIFY, SEAL, BUNDLE = (f"kernel/record/{name}.py" for name in ("verify", "seal", "bundle"))

SABOTAGES = {
    "the leaf hash is not compared": Sabotage(
        VERIFY,
        (("if stored.leaf != leaf and (stored.leaf or is_store):", "if False:"),),
        frozenset({"entry.leaf"}),
        ("entry.leaf", "entry.seq", "seal.root", "blob.digest"),
    ),
    "the tiles are not compared": Sabotage(
        VERIFY,
        (("if place >= len(kept) or kept[place] != tile.hash:", "if False:"),),
        frozenset({"tile.hash"}),
        ("tile.hash", "seal.root"),
    ),
    "every signature of a seal holds": Sabotage(
        SEAL,
        (("ValueError):\n        return False\n", "ValueError):\n        return True\n"),),
        frozenset({"seal.note"}),
        ("seal.note", "seal.root", "entry.leaf"),
    ),
    "a seal may be kept under anything": Sabotage(
        VERIFY,
        (("if checkpoint.size != row.size or checkpoint.root != row.root:", "if False:"),),
        frozenset({"seal.root", "seal.size"}),
        ("seal.root", "seal.size", "seal.note", "entry.leaf"),
    ),
    "the bytes of a blob are only counted": Sabotage(
        VERIFY,
        (("if own != blob.digest or ", "if "),),
        frozenset({"blob.data", "blob.salt"}),
        ("blob.data", "blob.salt", "blob.digest", "entry.leaf"),
    ),
    "the files of a bundle are not compared": Sabotage(
        BUNDLE,
        (
            ("elif digest(plain[name]) != statement.subject[name]:", "elif False:"),
            ("if manifest != encode(_manifest(plain)):", "if False:"),
        ),
        frozenset({"all/VERIFY.md", "part/VERIFY.md", "all/MANIFEST.json", "part/MANIFEST.json"}),
        ("VERIFY.md", "MANIFEST.json", "entries.jsonl", "checkpoint", "manifest.sig"),
        61,
    ),
    "a signature counts under any name": Sabotage(
        BUNDLE,
        (("one.key in named and _signs(named[one.key], ", "_signs(*named.values(), "),),
        frozenset({"all/manifest.dsse.json", "part/manifest.dsse.json"}),
        ("manifest.dsse.json", "manifest.sig"),
    ),
}


def lost(sample: Sample, package: Path, only: tuple[str, ...], stride: int) -> set[str]:
    """Run the matrix with a package, and return the fields in which it lost flips."""
    done = subprocess.run(
        [sys.executable, "-m", *sample.matrix, str(stride), *only],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": f"{package.parent}{os.pathsep}{REPOSITORY}"},
        capture_output=True,
        check=True,
    )
    tallies = json.loads(done.stdout)
    assert any(tally["tried"] for tally in tallies.values())
    return {name for name, tally in tallies.items() if tally["lost"]}


def copied(folder: Path) -> Path:
    """Return a copy of the package."""
    package = folder / "src" / "runwright"
    shutil.copytree(Path(runwright.__file__).parent, package)
    return package


def blinded(folder: Path, sabotage: Sabotage) -> Path:
    """Return a copy of the package that is blind in one place."""
    package = copied(folder)
    path = package / sabotage.module
    text = path.read_text()
    for passage, instead in sabotage.passages:
        assert text.count(passage) == 1, passage
        text = text.replace(passage, instead)
    path.write_text(text)
    return package


@pytest.mark.slow
@pytest.mark.parametrize("name", SABOTAGES)
def test_the_matrix_names_what_a_blind_verifier_does_not_see(
    sample: Sample, tmp_path: Path, name: str
) -> None:
    """Exactly the blinded fields, and no other; all of them still hold when nothing is flipped."""
    sabotage = SABOTAGES[name]
    if "tile.hash" in sabotage.only:
        sample.grow_to(WITH_A_TILE)
    package = blinded(tmp_path, sabotage)
    assert lost(sample, package, sabotage.only, sabotage.stride) == sabotage.blind


@pytest.mark.slow
def test_a_copy_that_is_not_blind_loses_nothing(sample: Sample, tmp_path: Path) -> None:
    """The control of the controls: copying the package alone changes nothing."""
    assert lost(sample, copied(tmp_path), (), 61) == set()
