"""What two verifiers say of one bundle, brought to the same terms, and whether they agree.

The verifier in Go checks notes and inclusion only; ours has some forty sentences. So of ours only
those about the same are taken: of the note (a seal is there, of this ledger, signed by a trusted
key) and of the tree (every entry is in it; for a whole ledger, it has the sealed root). A file that
cannot be read at all counts for both.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from runwright.kernel.record.bundle import verify_bundle
from tests.e2e.project import Project

#: Level -> the words of our sentences that say the same as a check in Go.
LEVELS = {
    "note": {"shape", "sealed", "signature", "noted", "origin"},
    "tree": {"shape", "inclusion", "root", "roots", "length"},
}


class Verdict(NamedTuple):
    """What a verifier says."""

    #: The levels at which it found something wrong; the one in Go stops at the first.
    levels: frozenset[str]
    #: What it printed; of ours, what is wrong.
    detail: str
    #: All sentences of ours that are broken, those about other things too.
    words: frozenset[str] = frozenset()

    @property
    def held(self) -> bool:
        """Whether it found nothing wrong with notes and proofs."""
        return not self.levels


def agree(go: Verdict, ours: Verdict) -> bool:
    """Say whether both find nothing wrong, or both something, and ours what Go stopped at."""
    return go.held == ours.held and go.levels <= ours.levels


def ask_go(program: Path, vkey: str, folder: Path) -> Verdict:
    """Have the verifier in Go check a folder."""
    done = subprocess.run([program, vkey, folder], capture_output=True, text=True, timeout=60)
    lines = done.stdout.splitlines()
    # Anything but its own two ends, a panic for one, is no verdict.
    assert done.returncode in (0, 1), done
    assert not done.stderr, done
    assert all(line.startswith("ok ") for line in lines[:-1]), lines
    if done.returncode == 0:
        assert lines[-1].startswith("ok   tree: "), lines
        return Verdict(frozenset(), done.stdout)
    level = lines[-1].removeprefix("FAIL ").partition(":")[0]
    assert level in {"key", *LEVELS}, lines
    return Verdict(frozenset({level}), done.stdout)


def ask_ours(files: Mapping[str, bytes], keys: Iterable[Path | str]) -> Verdict:
    """Have ours check the same, in this process."""
    texts = [key if isinstance(key, str) else key.read_text(encoding="utf-8") for key in keys]
    report = verify_bundle(files, texts)
    return _of({check.word: check.detail for check in report.checks if not check.held})


def ask_command(folder: Path, keys: Iterable[Path], environment: Mapping[str, str]) -> Verdict:
    """Have `runwright verify` check a folder, in a process of its own."""
    asker = Project(folder.parent)
    options = [word for key in keys for word in ("--key", key)]
    done = asker.run("verify", folder, *options, "--json", env=environment, folder=folder.parent)
    assert done.status in (0, 6), done
    checks = done.json["checks"]
    broken = {check["word"]: check["detail"] for check in checks if not check["held"]}
    assert (done.status == 0) == (not broken)
    return _of(broken)


def _of(broken: Mapping[str, str]) -> Verdict:
    levels = {level for level, words in LEVELS.items() if words & broken.keys()}
    detail = "".join(f"{word}: {detail}\n" for word, detail in broken.items())
    return Verdict(frozenset(levels), detail, frozenset(broken))
