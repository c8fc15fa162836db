"""Two verifiers that share no code get the same bundles, whole and altered, and never disagree."""

from __future__ import annotations

import hashlib
import random
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

import runwright
from runwright.kernel.record.seal import Proof, proof_text
from tests.e2e.project import Project
from tests.foreign import golang
from tests.foreign.forgeries import FORGERIES
from tests.foreign.mutations import files_respelled, mutation
from tests.foreign.samples import Files, Sample, bare, lay_out, raw_entry, resigned
from tests.foreign.verdicts import Verdict, agree, ask_command, ask_go, ask_ours
from tests.kernel.record.forge import note_of, public

pytestmark = pytest.mark.external


class Compared:
    """What two verifiers said of many mutations."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.disagreements: list[tuple[str, Verdict, Verdict]] = []

    def take(self, name: str, go: Verdict, ours: Verdict, *, is_respelled: bool = False) -> None:
        """Count one pair of verdicts."""
        if is_respelled and go.held:
            # The one known difference: ours reads base64 in one spelling only.
            self.counts["respelled"] += 1
            is_expected = not ours.held
        else:
            self.counts["passed" if go.held else next(iter(go.levels))] += 1
            is_expected = agree(go, ours)
        if not is_expected:
            self.disagreements.append((name, go, ours))


def compared(program: Path, sample: Sample, seeds: Iterator[str], folder: Path) -> Compared:
    """Ask both verifiers about one mutation of a bundle for each seed."""
    found = Compared()
    lay_out(sample.files, folder)
    for seed in seeds:
        tried = mutation(sample, random.Random(seed))
        for name, data in tried.changes.items():
            (folder / name).write_bytes(data)
        go = ask_go(program, sample.vkey, folder)
        ours = ask_ours(sample.changed(tried.changes), sample.trusted)
        is_respelled = files_respelled(sample.files, tried.changes)
        found.take(tried.name, go, ours, is_respelled=is_respelled)
        for name in tried.changes:
            (folder / name).write_bytes(sample.files[name])
    return found


def seeds_of(sample: Sample, count: int) -> Iterator[str]:
    """Yield the seeds of a bundle; they do not depend on its random keys and ids."""
    return (f"{len(sample.proofs())} {number}" for number in range(count))


@pytest.mark.slow
def test_go_and_ours_never_disagree_about_a_mutated_bundle(
    go: Path, sample: Sample, tmp_path: Path, is_campaign: bool
) -> None:
    """Seeded mutations of note, proof and entry bytes: refused ones, and some that do no harm."""
    count = 1000 if is_campaign else 80
    found = compared(go, sample, seeds_of(sample, count), tmp_path / "bundle")
    print(found.counts)
    assert found.disagreements == []
    assert found.counts.total() == count
    assert {"note", "tree", "passed"} <= set(found.counts)


# ------------------------------------------------------------------------- trees too large to make


class Claim(NamedTuple):
    """That an entry is at an index of a tree of some size, with a path that may be right."""

    index: int
    size: int
    path: list[bytes]

    def files(self, root: bytes) -> Files:
        """Return a bundle of this one entry."""
        note = note_of(self.size, root)
        proof = proof_text(Proof(self.index, tuple(self.path), note))
        return bare(
            {
                "entries.jsonl": raw_entry(self.index) + b"\n",
                "checkpoint": note.encode(),
                f"proofs/{self.index}.tlog-proof": proof.encode(),
            }
        )


def sides(index: int, size: int) -> list[bool]:
    """Say of each hash on the path from a leaf to the root whether it stands left (RFC 6962)."""
    found = []
    while size > 1:
        left = 1 << (size - 1).bit_length() - 1
        is_right = index >= left
        found.append(is_right)
        index, size = (index - left, size - left) if is_right else (index, left)
    return found[::-1]


def root_of(node: bytes, others: Mapping[int, bytes], way: list[bool]) -> bytes:
    """Return the root above a leaf."""
    for place, is_left in enumerate(way):
        pair = (others[place], node) if is_left else (node, others[place])
        node = hashlib.sha256(b"\1" + b"".join(pair)).digest()
    return node


def drawn(chance: random.Random) -> tuple[Claim, bytes, str]:
    """Draw a tree of up to 2 ** 53 entries and a claim about it, which is true or nearly so."""
    size = chance.getrandbits(chance.randrange(1, 53)) + 1
    size = chance.choice([size, 1 << size.bit_length(), (1 << size.bit_length()) + 1])
    index = chance.choice([chance.randrange(size), 0, size - 1])
    way = sides(index, size)
    path = [chance.randbytes(32) for _ in way]
    what = chance.choice(["true", "index", "size", "less", "more", "swapped", "flipped"])
    claim = Claim(index, size, [*path])
    step = chance.choice([-1, 1, 1 << chance.randrange(50)])
    if what == "index":
        claim = claim._replace(index=max(0, index + step))
    elif what == "size":
        claim = claim._replace(size=max(2, size + step))
    elif what == "less" and path:
        del claim.path[chance.randrange(len(path))]
    elif what == "more":
        claim.path.insert(chance.randrange(len(path) + 1), chance.randbytes(32))
    elif what == "swapped" and len(path) > 1:
        claim.path.reverse()
    elif what == "flipped" and path:
        place = chance.randrange(len(path))
        claim.path[place] = bytes([path[place][0] ^ 1]) + path[place][1:]
    leaf = hashlib.sha256(b"\0" + raw_entry(claim.index)).digest()
    return claim, root_of(leaf, dict(enumerate(path)), way), what


@pytest.mark.slow
def test_go_and_ours_never_disagree_about_a_path_in_a_tree_of_any_size(
    go: Path, tmp_path: Path, is_campaign: bool
) -> None:
    """Also where a path holds at two sizes, as the first of three entries does at four."""
    found, count = Compared(), 1000 if is_campaign else 150
    is_double = False
    for seed in range(count):
        claim, root, what = drawn(random.Random(seed))
        files = claim.files(root)
        said = ask_go(go, public(1).text(), lay_out(files, tmp_path / "bundle"))
        found.take(f"{seed} {what} {claim}", said, ask_ours(files, [public(1).text()]))
        assert said.held or what != "true", said
        is_double |= said.held and what == "size"
    print(found.counts)
    assert found.disagreements == []
    assert is_double
    assert set(found.counts) == {"passed", "tree"}


def test_ours_refuses_trees_of_ten_to_the_sixteen_and_go_does_not(go: Path, tmp_path: Path) -> None:
    """A number of over 16 digits is not exact in every JSON reader, so no entry can have it."""
    index = 5
    for size, is_read in ((10**16 - 1, True), (10**16, False)):
        way = sides(index, size)
        path = [bytes([place]) * 32 for place in range(len(way))]
        leaf = hashlib.sha256(b"\0" + raw_entry(index)).digest()
        root = root_of(leaf, dict(enumerate(path)), way)
        files = Claim(index, size, path).files(root)
        assert ask_go(go, public(1).text(), lay_out(files, tmp_path / "bundle")).held
        assert ask_ours(files, [public(1).text()]).held == is_read


# -------------------------------------------------------------------------------------- controls

ACCEPTS_ALL = "type careless struct{ note.Verifier }\n\nfunc (careless) Verify(_, _ []byte) bool"
#: What is taken out of the verifier in Go -> which bundle shows it.
SABOTAGE = {
    "inclusion": ("last", {"err = tlog.CheckRecord(": "_ = tlog.CheckRecord("}),
    "root": ("whole", {"root != b.tree.Hash": "root == (tlog.Hash{})"}),
    "signature": (
        "whole",
        {
            "note.VerifierList(b.verifier)": "note.VerifierList(careless{b.verifier})",
            "func main() {": f"{ACCEPTS_ALL} {{ return true }}\n\nfunc main() {{",
        },
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SABOTAGE)
def test_a_verifier_in_go_that_lacks_a_check_disagrees(
    samples: dict[str, Sample], tmp_path: Path, name: str
) -> None:
    """The control: the same seeds, and a program that was built without the check."""
    golang.require_go()
    bundle, changes = SABOTAGE[name]
    careless = golang.build(tmp_path / "go", changes)
    sample = samples[bundle]
    found = compared(careless, sample, seeds_of(sample, 80), tmp_path / "bundle")
    print(name, len(found.disagreements), found.counts)
    # It passes what ours refuses, and refuses nothing that ours passes.
    assert len(found.disagreements) > 4
    assert not any(ours.held for _, _, ours in found.disagreements)


#: What is taken out of ours: file, text, its replacement -> forgeries that show it, one that not.
CARELESS = {
    "inclusion": (
        ("kernel/record/ledger.py", "return last == 0 and node == root", "return True"),
        {"a byte of an entry", "a byte of a hash in a proof", "another root, truly signed"},
        "a byte of the signature",
    ),
    "signature": (
        (
            "kernel/record/seal.py",
            "except (InvalidSignature, ValueError):\n        return False",
            "except (InvalidSignature, ValueError):\n        return True",
        ),
        {"a byte of the signature"},
        "a byte of an entry",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CARELESS)
def test_a_verifier_of_ours_that_lacks_a_check_disagrees(
    go: Path, samples: dict[str, Sample], ledger: Project, tmp_path: Path, name: str
) -> None:
    """The control of the other side: a copy of the package without the check, as a command."""
    (path, old, new), shown, not_shown = CARELESS[name]
    package = tmp_path / "lib" / "runwright"
    shutil.copytree(Path(runwright.__file__).parent, package)
    text = (package / path).read_text(encoding="utf-8")
    assert text.count(old) == 1
    (package / path).write_text(text.replace(old, new), encoding="utf-8")
    environment = {**ledger.environment, "PYTHONPATH": str(package.parent)}
    sample, found = samples["last"], Compared()
    for forged in sorted({*shown, not_shown}):
        changed = sample.changed(FORGERIES[forged].changes(sample))
        folder = lay_out(resigned(changed, sample.keys / "evidence.key"), tmp_path / "bundle")
        said = ask_go(go, sample.vkey, folder)
        found.take(forged, said, ask_command(folder, sample.trusted, environment))
    assert {forged for forged, _, ours in found.disagreements if ours.held} == shown
