"""The conductor's side of templates: which one fits a command, and whether it still does.

A template stands for what a cold start would find: the same interpreter, folder and modules. What
is compared before each run is what may have changed since: the files of all that it imported, what
could be imported in their place, and the files that lie beside private ones, which a sandbox names
one by one. One that no longer fits, that ended or that started many runs makes way for another.
"""

from __future__ import annotations

import contextlib
import os
import resource
import select
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from runwright.adapters import supervisor as words
from runwright.adapters.children import (
    PATH,
    READ_BYTES,
    SOURCE_BYTES_MAX,
    Child,
    Launcher,
    LauncherLost,
    Report,
    Start,
    hand_over,
)
from runwright.adapters.processes import pass_on
from runwright.adapters.scratch import MODE, remove
from runwright.kernel.canonical import digest_of
from runwright.kernel.ports import Clock
from runwright.kernel.run import Command

#: What a template is started as: `python -c START package folder seen-by-the-function import…`.
START: Final = (
    "import sys; seen = set(sys.modules); del sys.path[0]; sys.path.append(sys.argv[1]); "
    "from runwright.adapters.template import main; main(seen, *sys.argv[2:])"
)
#: Variables that keep the libraries of linear algebra from starting threads when imported.
ONE_THREAD: Final = {
    f"{name}_NUM_THREADS": "1"
    for name in ("OMP", "OPENBLAS", "MKL", "NUMEXPR", "VECLIB_MAXIMUM", "BLIS", "RAYON", "POLARS")
}
#: Runs after which a template makes way for another.
RUNS_MAX: Final = 1_000
#: Templates that are kept at once; the one that was used longest ago makes way.
TEMPLATES_MAX: Final = 8
#: Seconds that a template may take to import.
IMPORT_S: Final = 60.0
#: Seconds for which imports that failed are not tried again.
REFUSED_S: Final = 300.0
#: Seconds for which files of an installation, which no function may write, are not compared again.
INSTALLED_S: Final = 0.1
#: Characters of a reason.
REASON_MAX: Final = 300
#: A file system may give two changes this close the same time, nanoseconds.
TICK_NS: Final = 20_000_000
MILLISECOND_NS: Final = 1_000_000
#: The words of what a template says.
_WORDS: Final = ("problem", "path", "top", "file", "version")
#: Where a template finds this package.
_PACKAGE: Final = words.__file__.rpartition("/runwright/")[0]
#: Variables that an interpreter, its loader or its libraries read when they start.
READ_AT_START: Final = ("PYTHON", "LD_", "LC_", "MALLOC_", "GLIBC_")
READ_AT_START_TOO: Final = frozenset({"PATH", "HOME", "TMPDIR", "TZ", "LANG", *ONE_THREAD})

ONE_SHOT: Final = "no further cycle is expected of this process, so a template would not pay"
ENDED: Final = "its template ended while it imported"
NO_LAUNCHER: Final = "no launcher could be started for its template"
IS_LENT: Final = "its template is at work"


class _Place(NamedTuple):
    """What tells a template from another."""

    program: str
    #: The folder of the script: the first place to import from.
    folder: str
    imports: tuple[str, ...]
    network: str
    #: What may be written, with the inode that a sandbox goes by.
    grants: tuple[tuple[str, int, int], ...]


class Templates:
    """The templates that a conductor keeps."""

    def __init__(
        self, launcher: Launcher, clock: Clock, scratch: Path, private: Sequence[str]
    ) -> None:
        """Keep none yet. `private` are resolved paths, hidden from a template and its children."""
        self._launcher = launcher
        self._clock = clock
        self._scratch = scratch
        self._private = private
        self._lock = threading.Lock()
        self._kept: dict[_Place, Template] = {}
        #: What could not be imported: why, and until when that is not tried again.
        self._refused: dict[_Place, tuple[str, float]] = {}
        self._named: dict[bytes, tuple[str, ...]] = {}
        self._made = 0

    def lend(
        self, command: Command, level: str, source: bytes, started: Callable[[Child], object]
    ) -> Template | str:
        """Return a template for a command, started if there is none; or why it must start cold.

        The template is to be given back. `started` gets what can be stopped meanwhile.
        """
        reason = _problem(command, level, source)
        if reason:
            return reason
        with self._lock:
            place = self._place_of(command, source)
            kept: Template | None = self._kept.get(place)
            if kept is not None and kept.is_lent:
                return IS_LENT
            if kept is not None and kept.is_outdated():
                self._kept.pop(place).close()
                kept = None
            if kept is None:
                reason, until_s = self._refused.get(place, ("", 0.0))
                if self._clock.monotonic_s() < until_s:
                    return reason
                made = self._start(place, command, started)
                if isinstance(made, str):
                    reason = _printable(made)
                    if made not in (ENDED, NO_LAUNCHER):
                        self._refused[place] = (reason, self._clock.monotonic_s() + REFUSED_S)
                    return reason
                kept = made
            # The last one is the one used last.
            self._kept.pop(place, None)
            self._kept[place] = kept
            kept.lend()
            return kept

    def look_ahead(self) -> None:
        """Compare installed files now, so that the next command need not wait for it."""
        with self._lock:
            for kept in self._kept.values():
                if not kept.is_lent:
                    kept.look_ahead()

    def close(self) -> None:
        """End them all."""
        with self._lock:
            kept, self._kept = self._kept, {}
        for each in kept.values():
            each.close()

    def _place_of(self, command: Command, source: bytes) -> _Place:
        grants = []
        for path in map(os.path.realpath, command.write):
            found = os.stat(path)  # noqa: PTH116 - hot
            grants.append((path, found.st_dev, found.st_ino))
        imports = command.warm.imports if command.warm else ()
        if imports is None:
            key = source
            if key not in self._named:
                self._named = {key: imported_by(source), **dict([*self._named.items()][:63])}
            imports = self._named[key]
        return _Place(
            program=command.argv[0],
            folder=os.path.dirname(command.script.path if command.script else ""),  # noqa: PTH120
            imports=imports,
            network="none" if command.network == "none" else "any",
            grants=tuple(grants),
        )

    def _start(
        self, place: _Place, command: Command, started: Callable[[Child], object]
    ) -> Template | str:
        """Start a template and hear what it imported; why not, when it cannot be used."""
        while len(self._kept) >= TEMPLATES_MAX:
            self._kept.pop(next(iter(self._kept))).close()
        self._made += 1
        folder = f"{os.path.realpath(self._scratch)}/warm-{os.getpid()}-{self._made}"
        os.makedirs(folder, MODE, exist_ok=True)  # noqa: PTH103 - a string, as scratch folders are
        began_ns = self._clock.now_ms() * 1_000_000
        watched = _Watched(self._private, began_ns)
        begun = Start(
            program=place.program,
            argv=[place.program, "-c", START, _PACKAGE, place.folder, *place.imports],
            environment={
                "PATH": PATH,
                "LANG": "C.UTF-8",
                "LC_ALL": "C.UTF-8",
                "HOME": folder,
                "TMPDIR": folder,
                **ONE_THREAD,
            },
            folder=place.folder,
            limits=[(resource.RLIMIT_CORE, 0, 0)],
            sandbox={
                "hidden": self._private,
                "writable": [folder, *map(os.path.realpath, command.write)],
                "offline": place.network == "none",
            },
            keeps=True,
        )
        try:
            child = self._launcher.begin(begun)
        except LauncherLost:
            remove(folder)
            return NO_LAUNCHER
        started(child)
        template = Template(child, folder, watched)
        try:
            problem = template.hear(place, began_ns)
        except OSError:
            # It was told to end, or was killed.
            problem = ENDED
        if problem:
            template.close()
            return problem
        return template


class Template:
    """A template that stands ready."""

    def __init__(self, child: Child, folder: str, watched: _Watched) -> None:
        """Take over its supervisor's socket and its output."""
        #: Where its children's scratch folders are.
        self.folder = Path(folder)
        #: Of all that it imported.
        self.digest = ""
        #: How many runs it was lent for.
        self.count = 0
        self.is_lent = False
        self._child = child
        self._watched = watched
        #: What it imported, with size and time: files of the project, and of an installation.
        self._files: Mapping[str, tuple[int, int]] = {}
        self._installed: Mapping[str, tuple[int, int]] = {}
        self._compared_s = 0.0
        self._beside: _Beside | None = None
        self._is_over = False
        self._wrote = self._is_silent = False

    def hear(self, place: _Place, began_ns: int) -> str:
        """Wait until it has imported; return why it cannot be used, empty when it can."""
        said = self._hear()
        if isinstance(said, str):
            return said
        if said["problem"]:
            return said["problem"][0]
        if self._has_written():
            return "its imports write to stdout or stderr, which every run would lack"
        files = _stats([place.program, *said["file"]])
        # Nothing was read before the interpreter ran, which takes longer than that.
        if any(changed_ns >= began_ns + MILLISECOND_NS for _size, changed_ns in files.values()):
            return "a file changed while it was imported"
        self._beside = _Beside(said["path"], frozenset(said["top"]))
        roots = tuple(f"{root}{os.sep}" for root in (sys.prefix, sys.base_prefix))
        own = {
            path for path in files if not path.startswith(roots) or _is_below(path, place.grants)
        }
        self._files = {path: files[path] for path in own}
        self._installed = {path: files[path] for path in files.keys() - own}
        self._compared_s = time.monotonic()
        self.digest = digest_of(
            {
                "python": sys.version,
                "imports": list(place.imports),
                "versions": said["version"],
                "files": [[path, *map(str, found)] for path, found in sorted(files.items())],
            }
        )
        return ""

    def lend(self) -> None:
        """Take it for one run."""
        self.is_lent = True
        self.count += 1

    def give_back(self, *, is_clean: bool) -> None:
        """Let the next run have it, unless something of this one is left in its folder."""
        self.is_lent = False
        self._is_over = self._is_over or not is_clean

    def look_ahead(self) -> None:
        """Compare the installed files, if that was not done a moment ago."""
        is_due = time.monotonic() - self._compared_s >= INSTALLED_S / 2
        self._is_over = self._is_over or (is_due and self._has_changed_installation())

    def is_outdated(self) -> bool:
        """Say whether it does not stand for a cold start any more."""
        return (
            self._is_over
            or self.count >= RUNS_MAX
            or self._has_ended()
            or self._has_changed()
            or self._beside is None
            or self._beside.has_changed()
            or self._watched.has_changed()
        )

    def run(
        self,
        start: Start,
        *,
        stdout: Callable[[bytes], object],
        stderr: Callable[[bytes], object],
        started: Callable[[Child], object],
    ) -> Report | None:
        """Have a child forked and feed its output until its whole tree has ended.

        Returns None when its supervisor was killed. Raises: LauncherLost when it did not start.
        """
        try:
            child = hand_over(start, lambda passed: pass_on(self._child.control, b".", [passed]))
            try:
                started(child)
                return child.follow(stdout, stderr)
            finally:
                child.close()
        except LauncherLost:
            self._is_over = True
            raise

    def close(self) -> None:
        """End it, and remove the folder of its children."""
        self._child.close()
        remove(str(self.folder))

    def _has_ended(self) -> bool:
        """Say whether its supervisor is gone: it says nothing more by itself."""
        return bool(_readable([self._child.control.fileno()], 0))

    def _has_changed(self) -> bool:
        """Say whether a file that it imported is another one.

        Those of an installation are many: what was compared a moment ago is not compared again.
        """
        if _stats(self._files) != self._files:
            return True
        if time.monotonic() - self._compared_s < INSTALLED_S:
            return False
        return self._has_changed_installation()

    def _has_changed_installation(self) -> bool:
        self._compared_s = time.monotonic()
        return _stats(self._installed) != self._installed

    def _has_written(self) -> bool:
        """Say whether its imports wrote anything, and read it."""
        output = [self._child.stdout, self._child.stderr]
        while readable := _readable(output, 0):
            for descriptor in readable:
                if os.read(descriptor, READ_BYTES):
                    self._wrote = True
                else:
                    output.remove(descriptor)
        return self._wrote

    def _hear(self) -> Mapping[str, list[str]] | str:
        """Return what it says, by word; a sentence when it says nothing in time."""
        until_s = time.monotonic() + IMPORT_S
        control = self._child.control
        told, size = b"", len(words.STARTING) + words.LENGTH_BYTES
        while len(told) < size:
            left_s = until_s - time.monotonic()
            # Output that nobody reads would block an import.
            watched = [control.fileno(), self._child.stdout, self._child.stderr]
            readable = _readable(watched[: 1 if self._is_silent else 3], left_s)
            if left_s <= 0 or not readable:
                return f"its imports took more than {IMPORT_S:g} s"
            if control.fileno() not in readable:
                self._is_silent = not self._has_written()
                continue
            piece = control.recv(size - len(told))
            if not piece:
                return ENDED
            told += piece
            if len(told) == size == len(words.STARTING) + words.LENGTH_BYTES:
                size += int.from_bytes(told[len(words.STARTING) :], "big")
        said: dict[str, list[str]] = {word: [] for word in _WORDS}
        body = told[len(words.STARTING) + words.LENGTH_BYTES :]
        texts = body.decode(errors="replace").split("\0")
        for word, value in zip(texts[::2], texts[1::2], strict=False):
            said.setdefault(word, []).append(value)
        return said


class _Watched:
    """The files beside private ones, each of which a sandbox names: new ones it does not know."""

    def __init__(self, private: Sequence[str], now_ns: int) -> None:
        self._private = (*private, "/dev")
        self._folders = {path[:end] or "/" for path in private for end in _slashes(path)}
        self._times = _times(self._folders, now_ns)
        self._known = self._look()

    def has_changed(self) -> bool:
        """Say whether something is there that was not."""
        if _times(self._folders) == self._times:
            return False
        return not self._look() <= self._known

    def _look(self) -> set[tuple[str, int]]:
        from runwright.adapters.sandbox import outside  # lazy: only for templates

        found = set()
        for path in outside(self._private):
            # It may have gone since it was listed.
            with contextlib.suppress(OSError):
                found.add((path, os.lstat(path).st_ino))
        return found


class _Beside:
    """The folders that are imported from: a file that appears there may be what is imported."""

    def __init__(self, folders: Sequence[str], tops: frozenset[str]) -> None:
        self._folders = folders
        self._tops = tops
        self._times = _times(folders)
        self._known = self._look()

    def has_changed(self) -> bool:
        """Say whether another file would be imported, or none."""
        return _times(self._folders) != self._times and self._look() != self._known

    def _look(self) -> set[tuple[str, str]]:
        found: set[tuple[str, str]] = set()
        for folder in self._folders:
            with contextlib.suppress(OSError):
                names = os.listdir(folder)  # noqa: PTH208 - hot
                found.update((folder, name) for name in names if name.split(".")[0] in self._tops)
        return found


def _problem(command: Command, level: str, source: bytes) -> str:
    """Return why a command must start cold."""
    if level != "T1":
        return f"level {level}: a template is held at T1 and nowhere else"
    if len(source) > SOURCE_BYTES_MAX:
        return f"its script is longer than {SOURCE_BYTES_MAX} bytes"
    for name in command.env:
        if name in READ_AT_START_TOO or name.startswith(READ_AT_START):
            return f"env grants {name}, which is read when an interpreter starts"
    return ""


def imported_by(source: bytes) -> tuple[str, ...]:
    """Return the modules that the first level of a script imports, in order."""
    import ast  # lazy: 2 ms that a conductor of other commands saves

    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        # The run will say so.
        return ()
    names: dict[str, None] = {}
    for node in tree.body:
        if isinstance(node, ast.Import):
            names.update(dict.fromkeys(alias.name for alias in node.names))
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names[node.module] = None
    names.pop("__future__", None)
    return tuple(names)


def _stats(paths: Iterable[str]) -> dict[str, tuple[int, int]]:
    """Return size and time of files; (-1, 0) for one that is not there."""
    found = {}
    for path in paths:
        try:
            status = os.stat(path)  # noqa: PTH116 - a thousand of them before each run
            found[path] = (status.st_size, status.st_mtime_ns)
        except (OSError, ValueError):
            found[path] = (-1, 0)
    return found


def _times(folders: Iterable[str], now_ns: int = 0) -> dict[str, int]:
    """Return when folders changed; -1 for one that may change again without showing it."""
    found = {path: changed_ns for path, (_size, changed_ns) in _stats(folders).items()}
    if now_ns:
        return {path: -1 if each > now_ns - TICK_NS else each for path, each in found.items()}
    return found


def _is_below(path: str, grants: Iterable[tuple[str, int, int]]) -> bool:
    return any(os.path.commonpath((path, grant)) == grant for grant, _device, _inode in grants)


def _slashes(path: str) -> list[int]:
    return [index for index, sign in enumerate(path) if sign == "/"]


def _readable(descriptors: Sequence[int], timeout_s: float) -> list[int]:
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    return [descriptor for descriptor, _events in poll.poll(max(0.0, timeout_s) * 1000)]


def _printable(text: str) -> str:
    return "".join(sign if sign.isprintable() else " " for sign in text)[:REASON_MAX]
