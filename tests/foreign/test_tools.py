"""`make tools` installs what is missing, and a machine without a network only hears what is."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.foreign.golang import MODULE
from tests.tidy.tree import REPOSITORY

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")


def tools(folder: Path, installed: str, *, apt_status: int) -> subprocess.CompletedProcess[str]:
    """Run the target where only these programs are found, and an apt-get that logs its words."""
    for name in (*installed.split(), "apt-get"):
        program = folder / name
        program.write_text(f'#!/bin/sh\necho "$@" >> {folder}/log\nexit {apt_status}\n')
        program.chmod(0o755)
    make = shutil.which("make")
    assert make is not None
    return subprocess.run(
        [make, "-C", REPOSITORY, "--no-print-directory", "-s", "tools"],
        env={"PATH": str(folder)},
        capture_output=True,
        text=True,
        timeout=60,
    )


def asked(folder: Path) -> list[str]:
    """Return what apt-get was asked for: the last word of each call."""
    log = folder / "log"
    return [line.split()[-1] for line in log.read_text().splitlines()] if log.exists() else []


def test_what_cannot_be_installed_is_named_and_fails_nothing(tmp_path: Path) -> None:
    """No index, no root, no network: the tests that need it are skipped, the rest goes on."""
    done = tools(tmp_path, "", apt_status=100)
    assert done.returncode == 0, done
    assert done.stderr.startswith(
        "warning: not installed, what needs it is skipped: openssl strace"
    )
    wanted = ["update", "openssl", "strace", "bubblewrap", "golang-go", "openssh-client", "systemd"]
    assert asked(tmp_path)[:7] == wanted


def test_only_what_is_missing_is_installed(tmp_path: Path) -> None:
    """Nothing is asked of apt-get where everything is there."""
    if not MODULE.is_dir():
        pytest.skip("needs Go's x/mod: apt-get install golang-golang-x-mod-dev")
    assert (
        tools(tmp_path, "openssl bwrap go ssh-keygen systemd-analyze", apt_status=0).returncode == 0
    )
    assert asked(tmp_path) == ["update", "strace"]
    (tmp_path / "log").unlink()
    done = tools(tmp_path, "openssl bwrap go strace ssh-keygen systemd-analyze", apt_status=100)
    assert (done.returncode, done.stderr, asked(tmp_path)) == (0, "", [])
