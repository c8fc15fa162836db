"""Where the benchmarks play: a bare environment for all processes, projects with three functions.

The environment holds what a plain installation holds, linked from the one that runs this: the tools
of a developer would be measured otherwise (msgspec imports typing_extensions where there is one, a
`.pth` file that imports something costs every child 20 ms). Floor and ours, and the children of
both, use the same interpreter.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
FUNCTIONS: Final = tuple(sorted((HERE / "functions").glob("*.py")))
#: The same three, with pandas.
FRAMES: Final = tuple(sorted((HERE / "frames").glob("*.py")))
SPEC: Final = """kind: cycles
name: three
agent: BENCH
tasks:
"""
TASK: Final = """  - task_name: {name}
    agent_id: BENCH
    task_config: {{function_path: functions/{name}.py, priority: {priority}{more}}}
"""


class Stage:
    """A folder with an environment and as many projects as are asked for."""

    def __init__(self, folder: Path) -> None:
        """Make the environment."""
        self.folder = folder
        bare = folder / "bare"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(bare)], check=True)
        self.python = str(bare / "bin" / "python")
        site = Path(subprocess.check_output([self.python, "-c", _SITE], text=True).strip())
        for path in _packages():
            (site / path.name).symlink_to(path)
        # A copy, so that a change of the source while this runs measures nothing else half way.
        ours = site / "runwright"
        source = ours.resolve()
        ours.unlink()
        shutil.copytree(source, ours, ignore=shutil.ignore_patterns("__pycache__"))
        subprocess.run([self.python, "-m", "compileall", "-q", str(ours)], check=True)
        self.runwright = str(bare / "bin" / "runwright")
        script = (
            f"#!{self.python}\nimport sys\nfrom runwright.cli.main import main\nsys.exit(main())\n"
        )
        Path(self.runwright).write_text(script)
        Path(self.runwright).chmod(0o755)
        self.environment: Mapping[str, str] = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": str(folder),
            "USER": "bench",
            "XDG_STATE_HOME": str(folder / "state"),
        }

    def project(
        self, name: str, level: str = "", *, scripts: Sequence[Path] = FUNCTIONS, more: str = ""
    ) -> Path:
        """Make a project whose cycle `three` runs the three functions, at the best level or one.

        `more` is put to each task_config.
        """
        project = self.folder / name
        shutil.copytree(scripts[0].parent, project / "functions")
        more += f", level: {level}" if level else ""
        tasks = (
            TASK.format(name=script.stem, priority=index, more=more)
            for index, script in enumerate(scripts)
        )
        (project / "three.yaml").write_text(SPEC + "".join(tasks))
        self.call(project, "init")
        self.call(project, "apply", str(project / "three.yaml"))
        return project

    def command(self, project: Path, *words: str) -> list[str]:
        """Return the argv of one of our commands in a project."""
        return [self.python, self.runwright, "--project", str(project), *words]

    def call(self, project: Path, *words: str) -> str:
        """Run one of our commands; what it prints. Ends everything when it fails."""
        done = subprocess.run(
            self.command(project, *words),
            capture_output=True,
            text=True,
            env=self.environment,
            check=False,
        )
        if done.returncode:
            message = f"{' '.join(words)}: exit {done.returncode}\n{done.stdout}{done.stderr}"
            raise SystemExit(message)
        return done.stdout

    def script(self, name: str, *words: str) -> list[str]:
        """Return the argv of a script that lies here."""
        return [self.python, str(HERE / name), *words]

    def floor(self, name: str, *words: str, scripts: Sequence[Path] = FUNCTIONS) -> list[str]:
        """Return the argv of the floor of a cycle."""
        paths = [str(script) for script in scripts]
        return self.script("floor_cycle.py", str(self.folder / name), self.python, *paths, *words)

    def add(self, name: str) -> None:
        """Put a package that is installed here, and what it needs, into the environment."""
        site = Path(subprocess.check_output([self.python, "-c", _SITE], text=True).strip())
        for path in _packages(name):
            if not (site / path.name).exists():
                (site / path.name).symlink_to(path)

    def verify(self, project: Path, *, entries: int | None = None) -> None:
        """Verify a project's record after it was measured, and count its entries."""
        self.call(project, "verify", "--store")
        counted = self.size(project)
        if entries is not None and counted != entries:
            message = f"{project.name}: {counted} entries, {entries} were expected"
            raise SystemExit(message)

    def size(self, project: Path) -> int:
        """Return how many entries a project's store holds."""
        return int(self.inside("size", project))

    def inside(self, what: str, project: Path, *words: str) -> str:
        """Return what `inside.py` answers."""
        argv = self.script("inside.py", what, str(project), *words)
        return subprocess.check_output(argv, env=dict(self.environment), text=True).strip()


class Worker:
    """A process that is asked for a number of repetitions and answers with their times, ms."""

    def __init__(self, argv: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start it."""
        self._process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=dict(environment),
        )

    def repeat(self, count: int) -> list[float]:
        """Have it done so many times."""
        return self.ask(str(count))

    def ask(self, word: str) -> list[float]:
        """Return the numbers that it answers to a line."""
        if self._process.stdin is None or self._process.stdout is None:
            raise SystemExit("a worker has both ends")
        self._process.stdin.write(f"{word}\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            message = f"a worker ended with {self._process.wait()}"
            raise SystemExit(message)
        numbers: list[float] = json.loads(line)
        return numbers

    def close(self) -> None:
        """End it, gently."""
        self._process.communicate()


def in_turn(workers: Mapping[str, Worker], count: int) -> dict[str, float]:
    """Have each do it so many times, one after the other; the median of each, ms.

    What else runs on a machine comes and goes within a second, so no side has one for itself.
    """
    times: dict[str, list[float]] = {name: [] for name in workers}
    for _ in range(count):
        for name, worker in workers.items():
            times[name] += worker.repeat(1)
    return {name: statistics.median(each) for name, each in times.items()}


_SITE: Final = "import sysconfig; print(sysconfig.get_path('purelib'))"

_SKIPPED: Final = re.compile("extra|python(_full)?_version *<|win32|Windows")


def _packages(first: str = "runwright") -> list[Path]:
    """Return what a plain installation brings: a package and those that it names, no extras."""
    package = importlib.util.find_spec(first)
    if package is None or package.origin is None:
        message = f"{first} is not installed here: pip install -e '.[dev,bench]'"
        raise SystemExit(message)
    found = {Path(package.origin).parent}
    waiting, known = [first], {first}
    while waiting:
        distribution = metadata.distribution(waiting.pop())
        for line in distribution.requires or ():
            wanted, _, marker = line.partition(";")
            name = re.split(r"[^A-Za-z0-9._-]", wanted.strip(), maxsplit=1)[0]
            # Extras, and what stands in for newer Pythons and for other systems.
            if not _SKIPPED.search(marker) and name not in known:
                known.add(name)
                waiting.append(name)
        for file in distribution.files or ():
            top = file.parts[0]
            if not top.endswith((".pth", ".dist-info")) and top not in ("..", "__pycache__"):
                found.add(Path(str(distribution.locate_file(top))))
    return sorted(found)


def cpu_ms(pid: int) -> float:
    """Return the processor time that a process has used, without its children."""
    words = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) * 1000 / os.sysconf("SC_CLK_TCK")
