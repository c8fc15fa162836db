"""The verifier in Go: built from `verify.go` beside this file, with Go's own x/mod/sumdb.

Debian's packages hold compiler and library, so nothing is fetched: no module proxy, no network.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("verify.go")
#: Where Debian's golang-golang-x-mod-dev keeps its source.
GOPATH = Path("/usr/share/gocode")
MODULE = GOPATH / "src/golang.org/x/mod/sumdb/tlog"


def require_go() -> None:
    """Skip the test when there is no Go here, and say what is missing."""
    if shutil.which("go") is None:
        pytest.skip("needs Go: apt-get install golang-go")
    if not MODULE.is_dir():
        pytest.skip("needs Go's x/mod: apt-get install golang-golang-x-mod-dev")


def build(folder: Path, changes: Mapping[str, str] | None = None) -> Path:
    """Build the verifier in a folder, after replacements in its text; return the program."""
    text = SOURCE.read_text(encoding="utf-8")
    for old, new in (changes or {}).items():
        assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in {SOURCE.name}"
        text = text.replace(old, new)
    folder.mkdir(parents=True, exist_ok=True)
    source = folder / SOURCE.name
    source.write_text(text, encoding="utf-8")
    done = subprocess.run(
        ["go", "build", "-o", folder / "verify", source],
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "GOPATH": str(GOPATH),
            "GOCACHE": str(folder / "cache"),
            "GO111MODULE": "off",
            "GOFLAGS": "",
            "GOPROXY": "off",
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return folder / "verify"
