"""A project with everything that hostile children want, beside it and as the same user."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import hashlib
import json
import os
import secrets
import shutil
import stat
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.e2e.project import Project
from tests.escape.attacks import Attack, attacks
from tests.escape.listeners import Listeners, Terminal

HERE = Path(__file__).parent
#: FS_IOC_SETFLAGS
SET_FLAGS = 0x40086602
#: The volume id of an ext4 file system, which no folder shows.
DISK_ID = slice(1024 + 0x68, 1024 + 0x78)


class UserProject(Project):
    """A project of another user, worked on by that user."""

    def __init__(self, base: Path, scene: Scene) -> None:
        """Use the scene's user and its interpreter."""
        super().__init__(base)
        self.scene = scene

    @property
    def environment(self) -> dict[str, str]:
        """What a command finds in its environment, with a secret that no function is granted."""
        return {
            **super().environment,
            **self.scene.environment,
            "ESCAPE_SECRET": self.scene.token("conductor"),
            "ESCAPE_GRANTED": self.scene.token("granted"),
            "ESCAPE_DESCRIPTOR": self.scene.token("descriptor"),
            "RUNWRIGHT_MESSAGES_FORM": "json",
            "RUNWRIGHT_CONDUCTOR_WARM": "always",
        }

    def _argv(self, words: tuple[object, ...]) -> list[str]:
        return [*self.scene.python, *self.scene.module, *map(str, words)]

    def own(self) -> None:
        """Give everything to the user."""
        self.scene.own(self.base)


class Scene:
    """One user at one level: a project, and beside it what can be harmed."""

    def __init__(self, base: Path, *, level: str, uid: int, source: Mapping[str, Any]) -> None:
        """Make everything; `source` says which interpreter runs which package."""
        self.base = base
        self.mebibytes, self.levels = source["mebibytes"], source["levels"]
        self.level = level
        self.is_warm = source.get("warm", False)
        self.uid = uid
        self.word = secrets.token_hex(8)
        self.environment = dict(source.get("environment", {}))
        self.module = list(source["module"])
        self.python = [source["python"]]
        if os.geteuid() != uid:
            switch = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--"]
            self.python = [*switch, source["python"]]
        self.folder = base / "victims"
        self.folder.mkdir()
        self.listeners = Listeners(self.folder, f"escape-{self.word}")
        self.terminal = Terminal(uid)
        self.before: dict[str, Any] = {}
        self.project = UserProject(base / "main", self)
        for _topic, attack in attacks():
            self._make_victim(attack.name)
        self.own(self.folder)
        self.rooted()
        self.bystanders = {
            name: self._start_bystander(name) for name in ("bystander", "target", "other", "third")
        }
        self.told = {name: json.loads(each.stdout.readline()) for name, each in self._streams()}
        for _topic, attack in attacks():
            self.before[attack.name] = tree(self.folder / attack.name)

    # ------------------------------------------------------------------------------- making

    def token(self, name: str) -> str:
        """Return a secret of this scene that can be told from all others."""
        return f"escape-{name}-{hashlib.sha256((name + self.word).encode()).hexdigest()[:16]}"

    def own(self, path: Path) -> None:
        """Give a folder and all in it to the user."""
        if os.geteuid() == 0:
            for folder, folders, files in os.walk(path):
                for name in (*folders, *files):
                    os.lchown(Path(folder) / name, self.uid, self.uid)
            os.chown(path, self.uid, self.uid)

    def _make_victim(self, name: str) -> None:
        folder = self.folder / name
        folder.mkdir()
        (folder / "file").write_text(f"original {self.token(name)}\n", encoding="utf-8")
        (folder / "file").chmod(0o600)

    def rooted(self) -> None:
        """Make what belongs to root: a set-user-id program, and a file that only root reads."""
        self.set_user_program = self.base / "borrowed"
        self.root_only = self.base / "root_only"
        if os.geteuid() == 0:
            shutil.copy("/bin/cat", self.set_user_program)
            self.set_user_program.chmod(0o4755)
            self.root_only.write_text(self.token("root_only"), encoding="utf-8")
            self.root_only.chmod(0o600)

    def _start_bystander(self, name: str) -> subprocess.Popen[str]:
        wish = {
            "memory": self.token("memory"),
            "file": self.token("descriptor"),
            "arguments": self.token("arguments"),
            "segment": self.token("segment"),
            "queue": self.token("queue"),
            "passes": f"escape-{name}-{self.word}",
            "passed": str(self.folder / "passed_descriptor" / "file"),
        }
        if name == "bystander":
            wish["terminal"] = self.terminal.path
        return subprocess.Popen(
            [*self.python, "-I", str(self.source("bystander.py")), json.dumps(wish)],
            env={"ESCAPE_SECRET": self.token("bystander"), "HOME": str(self.folder)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def source(self, name: str) -> Path:
        """Return a copy of one of these files that the user can read."""
        copied = self.base / name
        if not copied.exists():
            shutil.copy(HERE / name, copied)
            copied.chmod(0o644)
        return copied

    def _streams(self) -> list[tuple[str, Any]]:
        return list(self.bystanders.items())

    @property
    def disk(self) -> dict[str, str]:
        """The disk below the folders of this scene, and the digest of its id."""
        device = self.base.stat().st_dev
        path = Path(f"/dev/block/{os.major(device)}:{os.minor(device)}")
        with contextlib.suppress(OSError):
            name = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}").resolve().name
            path = Path("/dev") / name
        data = b""
        with contextlib.suppress(OSError), path.open("rb", buffering=0) as file:
            data = file.read(4096)[DISK_ID]
        return {"path": str(path), "digest": hashlib.sha256(data).hexdigest() if data else ""}

    def victim(self, project: Project) -> dict[str, Any]:
        """Return where everything is: what an attacker who looked around would know."""
        memory = [path for path in project.state.rglob("*") if path.is_file()]
        return {
            **self.listeners.where,
            **self.told,
            "folder": str(self.folder),
            "terminal": {"path": self.terminal.path},
            "disk": {"path": self.disk["path"]},
            "key": str(project.folder / ".runwright/keys/ledger.key"),
            "memory": str(memory[0]) if memory else "",
            "store": str(project.store),
            "lease": f"{project.store}.lease",
            "shared": f"/dev/shm/escape-{self.word}",
            "temporary": f"/tmp/escape-{self.word}",
            "shm_key": int(self.word[:7], 16),
            "queue": f"/escape-{self.word}",
            "keyring": f"escape-{self.word}",
            "set_user_program": str(self.set_user_program),
            "root_only": str(self.root_only),
        }

    # ------------------------------------------------------------------------------ projects

    def initialise(self, project: UserProject) -> None:
        """Make a project of the user, with the children in it."""
        made = self.base / "made"
        if not made.exists():
            template = UserProject(made, self)
            template.own()
            template.done("init", "--name", "demo")
        shutil.copytree(made, project.base, dirs_exist_ok=True)
        self.copy_children(project)

    def task(self, project: Project, topic: Any, attack: Attack, **more: Any) -> dict[str, Any]:
        """Return the task of one attempt."""
        config = {
            "timeout_s": 20,
            "level": self.level,
            **attack.config,
            "attack": attack.name,
            "as": attack.function,
            "victim": self.victim(project),
            **more,
        }
        if attack.name.startswith("print_"):
            config |= {"env": ["ESCAPE_GRANTED"], "secret": ["ESCAPE_GRANTED"]}
        if attack.name.startswith("granted_"):
            config["network"] = [f"127.0.0.1:{self.listeners.where['granted']}"]
        config["function_path"] = f"functions/{topic.program}.py"
        if self.is_warm:
            config["warm"] = {"imports": ["ctypes", "json", "socket", "subprocess"]}
        return project.task(attack.name, **config, args=[attack.name])

    def copy_children(self, project: Project) -> None:
        """Copy the children into a project, and what some of them alter."""
        target = project.folder / "functions"
        shutil.copytree(HERE / "children", target, ignore=shutil.ignore_patterns("__pycache__"))
        told = (
            "import json, os\n"
            "json.dump({'is': 'as planned'}, open(os.environ['RUNWRIGHT_RESULT'], 'w'))\n"
        )
        (target / "imported.py").write_text(told)
        (target / "importing.py").write_text("import imported\n")
        (target / "sibling.py").write_text(told)

    # -------------------------------------------------------------------------------- ending

    def unlock(self) -> None:
        """Make files that cannot be removed such that can."""
        for path in self.base.glob("*/project/.runwright/scratch/**/stays"):
            with path.open() as file:
                fcntl.ioctl(file, SET_FLAGS, bytes(8))

    def close(self) -> None:
        """End everything and remove what children left outside."""
        for each in self.bystanders.values():
            each.kill()
            each.wait()
        self.project.close()
        self.listeners.close()
        self.terminal.close()
        for folder in ("/dev/shm", "/tmp"):
            Path(f"{folder}/escape-{self.word}").unlink(missing_ok=True)
        library = ctypes.CDLL(None)
        library.mq_unlink(f"/escape-{self.word}".encode())
        number = library.shmget(int(self.word[:7], 16), 0, 0)
        if number >= 0:
            library.shmctl(number, 0, None)
        self.unlock()


def tree(folder: Path) -> dict[str, Any]:
    """Return all that can be altered about a folder and what is in it."""
    found = {}
    for path in [folder, *sorted(folder.rglob("*"))]:
        status = path.lstat()
        plain = stat.S_ISREG(status.st_mode)
        found[str(path)] = (
            *(status.st_mode, status.st_uid, status.st_gid, status.st_ino, status.st_dev),
            status.st_mtime_ns if plain else 0,
            os.listxattr(path, follow_symlinks=False),
            path.read_bytes() if plain else b"",
        )
    return found


def interpreter(base: Path, uid: int) -> dict[str, Any]:
    """Return an interpreter and the folders of the package that a user can reach.

    Raises: LookupError when there is none, saying why.
    """
    import runwright

    src = Path(runwright.__file__).parents[1]
    packages = [path for path in sys.path if path.endswith("site-packages")]
    plain = {"python": sys.executable, "module": ["-m", "runwright"]}
    paths = os.pathsep.join([str(src), *packages])
    if os.geteuid() == uid:
        return {**plain, "environment": {"PYTHONPATH": paths}}
    if any(not path.stat().st_mode & 0o001 for path in (src, *src.parents)):
        # A checkout that only root may enter: what the user needs of it lies outside then.
        copied = base / "packages"
        base.chmod(0o755)
        large = shutil.ignore_patterns("__pycache__", "pixeltable*", "pandas*", "numpy*", "*mypy*")
        for number, folder in enumerate([str(src), *packages]):
            shutil.copytree(folder, copied / str(number), symlinks=True, ignore=large)
        paths = os.pathsep.join(str(path) for path in sorted(copied.iterdir()))
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    for python in (sys.executable, f"/usr/bin/python{version}", f"/usr/local/bin/python{version}"):
        switch = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--"]
        # setpriv itself still reaches what only root may; what it starts does not.
        argv = [*switch, "/usr/bin/env", python]
        wish = [*argv, "-c", "import runwright.bootstrap.project, click, sqlite3, rich"]
        with contextlib.suppress(FileNotFoundError):
            done = subprocess.run(
                wish, env={"PYTHONPATH": paths}, cwd="/", capture_output=True, check=False
            )
            if done.returncode == 0:
                return {**plain, "python": python, "environment": {"PYTHONPATH": paths}}
    raise LookupError(f"no Python {version} with these packages that another user may execute")
