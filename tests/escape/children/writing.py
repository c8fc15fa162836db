"""Children that write where they have nothing to write, or leave something in memory or on disk."""

from __future__ import annotations

import ctypes
import fcntl
import os
import stat
import struct
from pathlib import Path

from child import CONFIG, LIBC, SCRATCH, TARGET, VICTIM, hold, main, must, role, syscall

FILE = TARGET / "file"


def write_new() -> None:
    (TARGET / "new").write_text("planted")


def write_append() -> None:
    with FILE.open("a") as file:
        file.write("appended")


def write_truncate() -> None:
    os.truncate(FILE, 0)


def write_rename() -> None:
    (SCRATCH / "mine").write_text("replaced")
    (SCRATCH / "mine").rename(FILE)


def write_unlink() -> None:
    FILE.unlink()


def write_folder() -> None:
    (TARGET / "folder").mkdir()


def write_symlink() -> None:
    (TARGET / "link").symlink_to("/etc/passwd")


def write_hard_link() -> None:
    os.link(FILE, SCRATCH / "link")
    (SCRATCH / "link").write_text("through a hard link")


def write_by_cwd() -> None:
    os.chdir(TARGET)
    Path("/proc/self/cwd/file").write_text("through cwd")


def write_by_descriptor() -> None:
    place = os.open(FILE, os.O_PATH)
    Path(f"/proc/self/fd/{place}").write_text("through a descriptor")


def write_by_root() -> None:
    Path(f"/proc/self/root{FILE}").write_text("through root")


def write_by_link() -> None:
    (SCRATCH / "there").symlink_to(TARGET)
    (SCRATCH / "there" / "file").write_text("through a link")


def write_by_dots() -> None:
    os.chdir(SCRATCH)
    Path(os.path.relpath(FILE)).write_text("through ..")


def write_shared_map() -> None:
    import mmap

    with FILE.open("r+b") as file, mmap.mmap(file.fileno(), 0) as view:
        view[:4] = b"maps"


def write_exchange() -> None:
    """Swap a file of one's own with the victim (renameat2 with RENAME_EXCHANGE)."""
    (SCRATCH / "mine").write_text("exchanged")
    must(LIBC.renameat2(-100, bytes(SCRATCH / "mine"), -100, bytes(FILE), 2))


def change_mode() -> None:
    FILE.chmod(0o666)


def change_times() -> None:
    os.utime(FILE, (1, 1))


def change_attribute() -> None:
    os.setxattr(FILE, "user.escape", b"planted")


def change_owner() -> None:
    os.chown(FILE, 12345, 12345)


def make_device() -> None:
    os.mknod(TARGET / "device", 0o600 | stat.S_IFCHR, os.makedev(1, 3))


def write_module() -> None:
    """Change what a later function of the cycle imports."""
    path = Path(__file__).with_name("imported.py")
    path.write_text(path.read_text().replace("as planned", "changed"))


def write_sibling() -> None:
    """Change the script of a later function of the cycle."""
    with Path(__file__).with_name("sibling.py").open("a") as file:
        file.write("\nprint('changed')\n")


def leave_temporary_file() -> None:
    """Leave a file where everybody looks for temporary ones."""
    Path(VICTIM["temporary"]).write_text("left")


def leave_shared_file() -> None:
    Path(VICTIM["shared"]).write_text("left behind")


def leave_shared_memory() -> None:
    must(LIBC.shmget(VICTIM["shm_key"], 4096, 0o1600), "shmget")


def leave_queue() -> None:
    LIBC.mq_open.argtypes = (ctypes.c_char_p, ctypes.c_int, ctypes.c_uint, ctypes.c_void_p)
    must(LIBC.mq_open(VICTIM["queue"].encode(), os.O_CREAT | os.O_RDWR, 0o600, None), "mq_open")


def leave_key() -> None:
    """Leave a key in the user's keyring, which outlives every process."""
    data = b"left behind"
    syscall(248, b"user\0", VICTIM["keyring"].encode(), data, len(data), -4)


def choose_victim_of_memory() -> None:
    """Have the kernel kill somebody else first when memory runs out."""
    pid = role("bystander")
    Path(f"/proc/{pid}/oom_score_adj").write_text("777")


def write_terminal() -> None:
    """Write to the terminal that somebody works at."""
    with Path(VICTIM["terminal"]["path"]).open("wb", buffering=0) as file:
        file.write(b"\x1b]0;escaped\x07")


def type_into_terminal() -> None:
    """Type a command into the terminal that somebody works at."""
    place = os.open(VICTIM["terminal"]["path"], os.O_RDWR | os.O_NOCTTY)
    for sign in b"echo escaped\n":
        fcntl.ioctl(place, 0x5412, bytes([sign]))


def lock_file() -> None:
    """Lock a file that others use."""
    with FILE.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        hold()


def fill_with_files() -> None:
    """Use much more room than one file may, in many small files."""
    for number in range(CONFIG["files"]):
        (SCRATCH / f"{number}").write_bytes(b"x" * 4096)
    hold()


def lock_folders() -> None:
    """Leave folders that nobody may enter."""
    inner = SCRATCH / "a" / "b" / "c"
    inner.mkdir(parents=True)
    for folder in (inner, *inner.parents[:2]):
        folder.chmod(0)


def deep_folders() -> None:
    """Leave folders inside each other, far deeper than a path may be long."""
    os.chdir(SCRATCH)
    for _ in range(CONFIG["levels"]):
        Path("d").mkdir()
        os.chdir("d")
    os.chdir("/")


def immutable_file() -> None:
    """Leave a file that not even its owner may remove."""
    path = SCRATCH / "stays"
    path.write_text("immutable")
    with path.open() as file:
        fcntl.ioctl(file, 0x40086602, struct.pack("l", 0x10))


def result_link() -> None:
    """Have the conductor read a secret for the child, through a link."""
    Path(os.environ["RUNWRIGHT_RESULT"]).symlink_to(FILE)


def result_pipe() -> None:
    """Have the conductor wait for a writer that never comes."""
    os.mkfifo(os.environ["RUNWRIGHT_RESULT"])


def result_folder() -> None:
    Path(os.environ["RUNWRIGHT_RESULT"]).mkdir()


def result_sparse() -> None:
    """Have the conductor read a gibibyte of nothing."""
    path = Path(os.environ["RUNWRIGHT_RESULT"])
    path.touch()
    os.truncate(path, 1 << 30)


def print_secret() -> None:
    """Print a granted secret as it is, and in base64."""
    import base64

    value = os.environ["ESCAPE_GRANTED"]
    print(value, base64.b64encode(value.encode()).decode())


def print_reversed() -> None:
    """Print a granted secret so that no masker knows it."""
    print(os.environ["ESCAPE_GRANTED"][::-1])


def forge_entry() -> None:
    """Alter what the record says about the past."""
    import contextlib
    import sqlite3

    with contextlib.closing(sqlite3.connect(VICTIM["store"], timeout=5)) as store:
        triggers = store.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")
        for (name,) in triggers.fetchall():
            store.execute(f'DROP TRIGGER "{name}"')
        store.execute("UPDATE entry SET raw = replace(raw, 'demo', 'omed') WHERE seq = 1")
        store.commit()


def forge_memory() -> None:
    """Have the signer forget what it signed."""
    path = Path(VICTIM["memory"])
    path.write_bytes(bytes(len(path.read_bytes())))


def forge_key() -> None:
    """Put another key, a good one, in the place of the ledger's."""
    import base64

    body = bytes.fromhex("302e020100300506032b657004220420") + os.urandom(32)
    lines = (b"-----BEGIN PRIVATE KEY-----", base64.b64encode(body), b"-----END PRIVATE KEY-----")
    Path(VICTIM["key"]).write_bytes(b"\n".join(lines) + b"\n")


def remove_store() -> None:
    """Remove the record."""
    Path(VICTIM["store"]).unlink()


def expose_keys() -> None:
    """Let everybody on the machine read the ledger's key."""
    key = Path(VICTIM["key"])
    key.parent.chmod(0o755)
    key.chmod(0o644)


def nothing() -> None:
    """Do nothing: another one swaps this script."""


if __name__ == "__main__":
    main(globals())
