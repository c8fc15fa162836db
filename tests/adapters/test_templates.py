"""A warm start is a cold one in less time: same contract, nothing shared, never a failure."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import re
import runpy
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runwright.adapters import templates as words
from runwright.adapters.clock import SystemClock
from runwright.adapters.commands import LOST, best_level
from runwright.adapters.places import LocalPlaces
from runwright.adapters.processes import descendants
from runwright.adapters.templates import imported_by
from runwright.kernel.ports import Work
from runwright.kernel.run import Command, Executed, Limits, Round, RunPlan, Script, Warm
from tests.adapters.conftest import ENVIRONMENT
from tests.adapters.hostile import SOON_S, Holders
from tests.adapters.work import finish, kept, unique
from tests.e2e.project import until

pytestmark = pytest.mark.skipif(best_level() != "T1", reason="templates are held at T1")

RESULT = "import json, os\njson.dump({}, open(os.environ['RUNWRIGHT_RESULT'], 'w'))\n"


class Scene:
    """A folder with scripts, and places that start them."""

    def __init__(self, base: Path) -> None:
        self.root = base / "root"
        self.root.mkdir()
        self.private = base / "private"
        self.private.mkdir()
        self.places = LocalPlaces(
            clock=SystemClock(),
            environment=ENVIRONMENT,
            scratch=base / "private" / "scratch",
            private=[base / "private" / "scratch", base / "private" / "key"],
        )
        self.places.warm_after = 0

    def write(self, name: str, text: str) -> Path:
        path = self.root / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def work(
        self, text: str, *, imports: tuple[str, ...] | None = (), warm: bool = True, **more: Any
    ) -> Work:
        path = self.write("script.py", text)
        command = Command(
            argv=(sys.executable, str(path), "one", "two"),
            script=Script(
                path=str(path),
                root=str(self.root),
                digest=hashlib.sha256(path.read_bytes()).hexdigest(),
            ),
            folder=str(self.root),
            warm=Warm(imports=imports) if warm else None,
            limits=more.pop("limits", Limits(timeout_s=SOON_S)),
            **more,
        )
        return Work(plan=RunPlan(key="run", work=command), run=unique(), scheduled_ms=0)

    def run(self, text: str, **more: Any) -> Executed:
        place = self.places.open(Round(key="cycle", place="command"))
        try:
            return finish(place, [self.work(text, **more)])[0]
        finally:
            place.close()

    def warm(self, text: str, **more: Any) -> Executed:
        """Run it, and hold that it was warm."""
        executed = self.run(text, **more)
        assert executed.outcome.warmth is not None, executed.outcome
        assert executed.outcome.warmth.state == "warm", executed.outcome
        return executed

    def two(self, text: str, **more: Any) -> list[Executed]:
        """Run it warm until two in a row came from one template.

        A file that somebody makes in a folder above has it replaced.
        """
        found = [self.warm(text, **more)]
        for _ in range(20):
            found.append(self.warm(text, **more))
            before, last = (each.outcome.warmth for each in found[-2:])
            assert before is not None
            assert last is not None
            if last.n == before.n + 1:
                return found[-2:]
        raise AssertionError("no template was used twice")

    def cold(self, text: str, **more: Any) -> str:
        """Run it, and hold that it was done although it was cold; return why it was."""
        outcome = self.run(text, **more).outcome
        assert outcome.status == "done", outcome
        assert outcome.warmth is not None
        assert outcome.warmth.state == "cold"
        return outcome.warmth.reason

    def keeper(self) -> int:
        """Return the pid of the only keeper."""
        (found,) = {parent_of(pid) for pid in self.template_pids()}
        return found

    def template_pids(self) -> list[int]:
        """Return the template and what stands ready, the template first."""
        found = []
        for pid in descendants(self.places._launcher._pid):
            # It may have ended since.
            with contextlib.suppress(OSError):
                is_template = b"adapters.template" in Path(f"/proc/{pid}/cmdline").read_bytes()
                if is_template and parent_of(parent_of(pid)) == self.places._launcher._pid:
                    found.append(pid)
        return sorted(found)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    yield made
    made.places.close()
    assert not list((tmp_path / "private" / "scratch").glob("*"))


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


# ------------------------------------------------------------------------------- the contract

LOOKS = """
import json, os, resource, signal, sys, threading
umask = os.umask(0)
ignored = [int(n) for n in signal.Signals if signal.getsignal(n) == signal.SIG_IGN]
found = {
    "name": __name__, "file": __file__, "doc": __doc__, "spec": repr(__spec__),
    "package": __package__, "cached": __cached__, "loader": type(__loader__).__name__,
    "names": sorted(n for n in globals() if n.startswith("__")),
    "main": sys.modules["__main__"].__dict__ is globals(),
    "argv": sys.argv, "orig": sys.orig_argv, "path": sys.path, "flags": repr(sys.flags),
    "executable": sys.executable, "cwd": os.getcwd(), "umask": umask, "ignored": ignored,
    "handler": repr(signal.getsignal(signal.SIGINT)).partition(" at ")[0],
    "environment": sorted(os.environ), "granted": os.environ.get("PRICE_KEY"),
    "config": json.load(open(os.environ["RUNWRIGHT_CONFIG"])),
    "stdin": sys.stdin.read(), "encoding": sys.stdout.encoding, "isatty": sys.stdout.isatty(),
    "buffered": sys.stdout.line_buffering, "errors": sys.stderr.errors,
    "leads": os.getsid(0) == os.getpid() == os.getpgid(0),
    "thread": threading.current_thread() is threading.main_thread(),
    "count": threading.active_count(), "files": sorted(os.listdir("/proc/self/fd"))[:3],
    "limits": [resource.getrlimit(n) for n in (resource.RLIMIT_CPU, resource.RLIMIT_NOFILE,
               resource.RLIMIT_FSIZE, resource.RLIMIT_CORE, resource.RLIMIT_AS)],
    "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
    "ours": sorted(n for n in sys.modules if n.startswith("runwright")),
    "recursion": sys.getrecursionlimit(), "gc": __import__("gc").isenabled(),
    "rights": [l for l in open("/proc/self/status") if l[:5] in ("NoNew", "CapEf", "CapBn")],
}
json.dump(found, open(os.environ["RUNWRIGHT_RESULT"], "w"))
"""


def test_a_warm_script_sees_what_a_cold_one_sees(scene: Scene) -> None:
    """Its name, arguments, folder, environment, streams, session, limits and privileges."""
    more: dict[str, Any] = {
        "env": ("PRICE_KEY",),
        "secret": ("PRICE_KEY",),
        "config": '{"a": 1}',
        "limits": Limits(timeout_s=SOON_S, cpu_s=50, open_files=77, memory_mib=4096),
    }
    cold = scene.run(LOOKS, warm=False, **more).outcome
    warm = scene.warm(LOOKS, **more).outcome
    assert cold.status == warm.status == "done", (cold, warm)
    assert (cold.warmth, cold.level) == (None, warm.level)
    if "result" in cold.value:
        assert warm.value == cold.value
    else:
        assert warm.value["result_digest"]
    for first, second in zip(warm.blobs, cold.blobs, strict=True):
        assert (first.name, first.size) == (second.name, second.size)
    seen, wanted = (as_result(scene.run(LOOKS, warm=each, **more)) for each in (True, False))
    assert seen == wanted


def as_result(executed: Executed) -> Any:
    data = kept(executed, "result")
    return json.loads(data) if data else executed.outcome.value["result"]


ENDINGS = {
    "plain": "print('out')\nimport sys\nprint('err', file=sys.stderr)",
    "status": "import sys\nprint('x', end='')\nsys.exit(3)",
    "large status": "raise SystemExit(259)",
    "text": "import sys\nsys.exit('what went wrong')",
    "none": "raise SystemExit",
    "deferred": "raise SystemExit(75)",
    "raised": "def f():\n    return 1 / 0\nf()",
    "chained": "try:\n    {}['a']\nexcept KeyError as e:\n    raise ValueError('v') from e",
    "syntax": "def f(:\n    pass",
    "nul": "x = '\\0'\nprint(x)",
    "latin": "# -*- coding: latin-1 -*-\nprint('caf\xc3\xa9')",
    "handlers": "import atexit\natexit.register(print, 'first')\natexit.register(print, 'last')",
    "handler raises": "import atexit\natexit.register(lambda: 1 / 0)",
    "threads": "import threading, time\n"
    "threading.Thread(target=lambda: (time.sleep(0.05), print('late'))).start()",
    "unclosed": "import os\nf = open(os.environ['RUNWRIGHT_RESULT'], 'w')\nf.write('{\"a\": 1}')",
    "unclosed elsewhere": "import os, string\n"
    "string.f = open(os.environ['RUNWRIGHT_RESULT'], 'w')\nstring.f.write('{\"a\": 1}')",
    "at once": "import os\nprint('lost')\nos._exit(4)",
    "signal": "import os, signal\nos.kill(os.getpid(), signal.SIGTERM)",
    "interrupted": "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(9)",
    "finaliser": "class A:\n    def __del__(self):\n        print('gone')\na = A()",
    "hook": "import sys\nsys.excepthook = lambda *a: print('hooked', a[0].__name__)\n1 / 0",
    "pickles itself": "import pickle\nclass A:\n    pass\n"
    "print(type(pickle.loads(pickle.dumps(A()))).__module__)",
    "child": "import subprocess, sys\n"
    "print(subprocess.check_output([sys.executable, '-c', 'print(5)']))",
    "ctypes": "import ctypes, struct\nprint(ctypes.sizeof(ctypes.c_long), struct.calcsize('q'))",
    "blank": "",
}


def test_a_warm_script_ends_as_a_cold_one_ends(scene: Scene) -> None:
    """Exit status, signal, traceback, exit handlers, threads, and what stood in buffers."""
    for name, text in ENDINGS.items():
        cold, warm = scene.run(text, warm=False), scene.warm(text)
        for field in ("status", "reason", "message", "value"):
            seen, wanted = getattr(warm.outcome, field), getattr(cold.outcome, field)
            assert seen == wanted, (name, field, kept(warm, "stderr"))
        assert warm.outcome.used.exit == cold.outcome.used.exit, name
        assert warm.outcome.used.signal == cold.outcome.used.signal, name
        for stream in ("stdout", "stderr"):
            seen, wanted = (re.sub(rb"0x\w+", b"", kept(each, stream)) for each in (warm, cold))
            assert seen == wanted, (name, stream)


def test_what_is_used_is_counted_for_the_child_alone(scene: Scene) -> None:
    """Neither its template's processor time nor that of the run before is in its record."""
    scene.write("heavy.py", "sum(i * i for i in range(3_000_000))\nx = bytearray(30_000_000)\n")
    burn = "sum(i * i for i in range(3_000_000))"
    busy = scene.warm(burn, imports=("heavy",)).outcome.used
    idle = scene.warm("pass", imports=("heavy",)).outcome.used
    assert busy.cpu_ms > 3 * idle.cpu_ms
    assert idle.peak_kib < busy.peak_kib + 10_000
    tall = scene.warm("x = bytearray(90_000_000)", imports=("heavy",)).outcome.used
    low = scene.warm("pass", imports=("heavy",)).outcome.used
    assert tall.peak_kib > low.peak_kib + 60_000


# ---------------------------------------------------------------------- nothing of one run stays

POLLUTES = """
import json, os, signal, sys, threading, decimal, helper
seen = {
    "global": helper.state, "list": list(helper.items),
    "builtin": hasattr(__import__("builtins"), "leak"),
    "variable": os.environ.get("LEAK"), "module": "planted" in sys.modules,
    "path": "/leak" in sys.path, "cwd": os.getcwd(), "umask": oct(os.umask(0)),
    "handler": signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL,
    "threads": threading.active_count(), "scratch": sorted(os.listdir(os.environ["HOME"])),
    "shared": helper.cell[0], "precision": decimal.getcontext().prec,
    "recursion": sys.getrecursionlimit(), "descriptors": len(os.listdir("/proc/self/fd")),
    "argv": len(sys.argv), "priority": os.getpriority(os.PRIO_PROCESS, 0),
}
open(os.environ["RUNWRIGHT_RESULT"], "w").write(json.dumps(seen))
helper.state = "used"; helper.items.append(1); __import__("builtins").leak = True
os.environ["LEAK"] = "yes"; sys.modules["planted"] = helper; sys.path.append("/leak")
open(os.environ["HOME"] + "/left", "w").write("left"); os.chdir("/"); os.umask(0o11)
signal.signal(signal.SIGUSR1, signal.SIG_IGN); helper.cell[0] = 7; decimal.getcontext().prec = 3
threading.Thread(target=threading.Event().wait, daemon=True).start()
sys.setrecursionlimit(5000); sys.argv.append("more"); os.nice(1); helper.kept = open("/dev/null")
"""
HELPER = "import array\nstate = 'fresh'\nitems = []\ncell = array.array('i', [0])\n"


@pytest.mark.proves("warm-isolation")
def test_a_run_sees_nothing_of_the_one_before(scene: Scene) -> None:
    """Modules, globals, environment, files, threads, folder, mask, handlers: as for the first."""
    scene.write("helper.py", HELPER)
    first, second = scene.two(POLLUTES, imports=("helper",))
    assert as_result(first) == as_result(second)
    assert as_result(first)["global"] == "fresh"
    assert as_result(first)["umask"] == "0o77"


def test_without_a_fork_for_each_run_the_next_one_sees_it_all(scene: Scene, tmp_path: Path) -> None:
    """The control: executed twice in one process, every line of the same list differs."""
    scene.write("helper.py", HELPER)
    script = scene.write("script.py", POLLUTES)
    out, home = tmp_path / "out", tmp_path / "home"
    home.mkdir()
    out.mkdir()
    if (child := os.fork()) == 0:
        status = 1
        try:
            os.chdir(scene.root)
            os.umask(0o77)
            sys.path.insert(0, str(scene.root))
            for number in range(2):
                os.environ |= {"HOME": str(home), "RUNWRIGHT_RESULT": f"{out}/{number}"}
                sys.argv = ["script"] if number == 0 else sys.argv
                runpy.run_path(str(script), run_name="__main__")
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    first, second = (json.loads((out / str(number)).read_text()) for number in range(2))
    # run_path puts sys.argv back.
    assert {name for name in first if first[name] == second[name]} <= {"argv"}


@pytest.mark.parametrize(
    ("helper", "reason"),
    [
        ("import mmap\nshared = mmap.mmap(-1, 4096)", "its imports left shared memory"),
        ("import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()",
         "its imports left 1 threads running"),
        ("kept = open('/etc/passwd')", "its imports left 1 files or sockets open"),
        ("import os\nif os.fork() == 0:\n    import time\n    time.sleep(60)\n    os._exit(0)",
         "its imports left processes behind"),
        ("import subprocess, sys\nsubprocess.Popen(['/bin/sh', '-c', 'setsid sleep 60 &'])",
         "its imports left processes behind"),
        ("print('hello')", "its imports write to stdout or stderr"),
        ("import warnings\nwarnings.warn('old')", "its imports write to stdout or stderr"),
        ("print('x' * 200_000)", "its imports write to stdout or stderr"),
        ("import os\nos._exit(5)", "its template ended while it imported: exit status 5"),
        ("import os\nos.kill(os.getpid(), 9)", "its template ended while it imported: signal 9"),
        ("raise SystemExit", "import of helper: SystemExit"),
        ("import no_such_module", "import of helper: ModuleNotFoundError: No module named"),
        ("import signal\nsignal.signal(signal.SIGUSR1, signal.SIG_IGN)",
         "import of helper: ValueError"),
    ],
)  # fmt: skip
def test_what_a_fork_would_share_or_lose_is_cold_for_a_reason(
    scene: Scene, helper: str, reason: str
) -> None:
    """Whatever imports leave that no fork copies, the run is done, cold, and it says why."""
    scene.write("helper.py", helper)
    assert scene.cold("pass", imports=("helper",)).startswith(reason)
    # It is not tried again at once.
    started = scene.places._templates._made
    assert scene.cold("pass", imports=("helper",)).startswith(reason)
    assert scene.places._templates._made == started


def test_children_draw_different_numbers(scene: Scene) -> None:
    """`random` and numpy's are seeded anew in each child; hash seeds are those of the template."""
    scene.write("numpy/__init__.py", "from numpy import random\n")
    scene.write(
        "numpy/random.py",
        "import os\ndef seed():\n    global n\n    n = os.urandom(8).hex()\nseed()\n",
    )
    draw = (
        "import json, os, random, numpy, uuid\n"
        "json.dump([{}, {'r': str(random.random()), 'n': numpy.random.n, 'u': str(uuid.uuid4()),"
        " 'o': os.urandom(8).hex(), 'h': str(hash('text'))}][1],"
        " open(os.environ['RUNWRIGHT_RESULT'], 'w'))"
    )  # fmt: skip
    drawn = [as_result(scene.warm(draw, imports=("random", "numpy", "uuid"))) for _ in range(2)]
    assert {key: drawn[0][key] == drawn[1][key] for key in drawn[0]} == {
        "r": False, "n": False, "u": False, "o": False, "h": True,
    }  # fmt: skip
    # The control: forked without that, two children draw the same.
    assert len({forked(lambda: str(STILL.random())) for _ in "12"}) == 1


STILL = random.Random(1)  # what is not seeded again


def forked(draw: Callable[[], str]) -> str:
    read, write = os.pipe()
    if (child := os.fork()) == 0:
        os.write(write, draw().encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(write)
    text = os.read(read, 1000).decode()
    os.close(read)
    return text


# -------------------------------------------------------------------------- what imports may do

ACTS = """
import os, socket
found = {"secrets": sorted(set(os.environ) & {"PRICE_KEY", "UNGRANTED", "PGHOST"})}
def attempt(name, action):
    try:
        action()
        found[name] = "works"
    except OSError as error:
        found[name] = type(error).__name__
attempt("write", lambda: open(os.path.join(os.path.dirname(__file__), "granted", "file"), "w"))
attempt("scratch", lambda: open(os.environ["HOME"] + "/file", "w"))
attempt("tcp", lambda: socket.create_server(("127.0.0.1", 0)).close())
attempt("udp", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close())
attempt("key", lambda: open(KEY).read())
"""


def test_imports_act_on_nothing(scene: Scene) -> None:
    """They neither write, where the run may, nor use the network, nor see a granted variable."""
    (scene.root / "granted").mkdir()
    key = scene.private / "key"
    key.write_text("secret")
    scene.write("helper.py", f"KEY = {str(key)!r}\n{ACTS}")
    text = (
        "import helper, json, os\n"
        "json.dump(helper.found, open(os.environ['RUNWRIGHT_RESULT'], 'w'))"
    )
    more: dict[str, Any] = {
        "imports": ("helper",),
        "env": ("PRICE_KEY",),
        "secret": ("PRICE_KEY",),
        "write": (str(scene.root / "granted"),),
    }
    found = as_result(scene.warm(text, **more))
    assert found == {
        "secrets": [], "write": "PermissionError", "scratch": "PermissionError",
        "tcp": "PermissionError", "udp": "PermissionError", "key": "PermissionError",
    }  # fmt: skip
    # The control: imported by the run itself, they may what the run may.
    again = as_result(scene.warm(text, **{**more, "imports": ("json",)}))
    assert again == {
        "secrets": ["PRICE_KEY"], "write": "works", "scratch": "works",
        "tcp": "works", "udp": "works", "key": "PermissionError",
    }  # fmt: skip


LOOKS_AROUND = """
import json, os, signal
keeper = os.getppid()
template = int(open(f"/proc/{keeper}/task/{keeper}/children").read().split()[0])
found = {}
def attempt(name, action):
    try:
        found[name] = str(action() or "works")
    except OSError as error:
        found[name] = type(error).__name__
for name, pid in (("template", template), ("keeper", keeper)):
    attempt(name + " environ", lambda: open(f"/proc/{pid}/environ", "rb").read())
    attempt(name + " memory", lambda: open(f"/proc/{pid}/mem", "rb").read(1))
    attempt(name + " files", lambda: os.readlink(f"/proc/{pid}/fd/0"))
    attempt(name + " kill", lambda: os.kill(pid, signal.SIGKILL))
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
found["trace"] = str(libc.ptrace(16, template, 0, 0))
attempt("own scratch", lambda: open(os.environ["HOME"] + "/file", "w"))
attempt("scratch of others", lambda: open(os.path.dirname(os.environ["HOME"]) + "/file", "w"))
attempt("outside", lambda: open("file", "w"))
found["descriptors"] = " ".join(sorted(os.listdir("/proc/self/fd"))[:3])
json.dump(found, open(os.environ["RUNWRIGHT_RESULT"], "w"))
"""


@pytest.mark.proves("warm-isolation")
def test_a_child_reaches_neither_its_template_nor_its_keeper(scene: Scene) -> None:
    """No signal, no tracing, no memory, no descriptor, and no folder but its own."""
    scene.warm("pass")
    (template, *_) = scene.template_pids()
    assert b"s3cr3t" not in Path(f"/proc/{template}/environ").read_bytes()
    more: dict[str, Any] = {"env": ("PRICE_KEY",), "secret": ("PRICE_KEY",)}
    found = as_result(scene.warm(LOOKS_AROUND, **more))
    denied = {name for name, word in found.items() if word in ("PermissionError", "-1")}
    assert {name for name in found if name.startswith(("template", "keeper"))} <= denied, found
    assert {"trace", "scratch of others", "outside"} <= denied, found
    assert found["own scratch"].startswith("<_io")
    for template in scene.template_pids():
        assert b"s3cr3t" not in Path(f"/proc/{template}/environ").read_bytes()


# ------------------------------------------------------------------------ limits and whole trees


@pytest.mark.parametrize(
    ("text", "limits", "reason"),
    [
        ("import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(60)",
         {"timeout_s": 0.5, "grace_s": 0.2}, "timeout"),
        ("while True: pass", {"cpu_s": 1}, "signal"),
        ("x = bytearray(1 << 31)", {"memory_mib": 900}, "exit"),
        ("open(__import__('os').environ['HOME'] + '/f', 'wb').write(bytes(3 << 20))",
         {"file_mib": 1}, "exit"),
        ("f = [open('/dev/null') for _ in range(99)]", {"open_files": 50}, "exit"),
    ],
)  # fmt: skip
def test_limits_hold_for_a_warm_run(
    scene: Scene, text: str, limits: dict[str, Any], reason: str
) -> None:
    """Wall and processor time, memory, file size, open files; the next run is none the worse."""
    outcome = scene.warm(text, limits=Limits(**{"timeout_s": SOON_S, **limits})).outcome
    assert (outcome.status, outcome.reason) == ("failed", reason), outcome
    assert scene.warm("pass").outcome.status == "done"


def test_processes_are_counted_for_a_warm_run(scene: Scene) -> None:
    """A fork bomb ends at its limit, where a control group holds it or the user is not root."""
    bomb = (
        "import os, time\nn = 0\n"
        "try:\n    while n < 200:\n        if os.fork() == 0:\n            time.sleep(60)\n"
        "        n += 1\nexcept OSError:\n    pass\nprint(n)"
    )
    executed = scene.run(bomb, limits=Limits(timeout_s=SOON_S, processes=20))
    if executed.outcome.reason == "refused":
        assert "no pids control group" in executed.outcome.message
        return
    assert executed.outcome.warmth is not None
    assert executed.outcome.warmth.state == "warm"
    assert int(kept(executed, "stdout")) < 200
    assert "outlived it and were killed" in executed.outcome.message
    assert scene.warm("pass").outcome.message == ""


STAYS = """
import os, sys, time
for number in range(2):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            held = open({path!r}, "w")
            held.write("here\\n")
            held.flush()
            time.sleep(600)
        os._exit(0)
os.wait()
os.wait()
"""


def test_nothing_that_a_warm_run_left_survives_it(scene: Scene, holders: Holders) -> None:
    """Forked twice, in sessions of their own: found, killed and counted, the template spared."""
    (scene.root / "granted").mkdir()
    text = STAYS.format(path=str(holders.path))
    outcome = scene.warm(text, write=(str(holders.path),)).outcome
    assert holders.came()
    assert holders.gone()
    assert (outcome.status, outcome.message) == (
        "done",
        "2 of its processes outlived it and were killed",
    )
    assert scene.warm("pass", write=(str(holders.path),)).outcome.message == ""


# ------------------------------------------------------------------------- templates come and go


def test_a_template_that_was_killed_never_fails_a_run(scene: Scene) -> None:
    """Killed while idle it is replaced; killed at work, the run goes on and the next one too."""
    scene.warm("pass")
    first = scene.template_pids()
    os.kill(first[0], signal.SIGKILL)
    until(lambda: not alive(first[0]), "the template ended")
    outcome = scene.run("pass").outcome
    assert outcome.status == "done"
    gate = scene.root / "gate"
    os.mkfifo(gate)
    place = scene.places.open(Round(key="cycle", place="command"))
    place.start([scene.work(f"open({str(gate)!r}, 'rb').read()\nprint('went on')")])
    with gate.open("wb"):
        (template, *_) = scene.template_pids()
        os.kill(template, signal.SIGKILL)
        until(lambda: not alive(template), "the template ended")
    (executed,) = place.wait(SOON_S)
    place.close()
    assert (executed.outcome.status, kept(executed, "stdout")) == ("done", b"went on\n")
    outcome = scene.run("pass").outcome
    assert (outcome.status, outcome.message) == ("done", "")
    assert outcome.warmth is not None
    assert outcome.warmth.state == "warm" or outcome.warmth.reason == LOST
    assert scene.warm("pass").outcome.status == "done"


def test_a_keeper_that_was_killed_ends_its_run_and_nothing_else(scene: Scene) -> None:
    """As a killed supervisor does; template and tree go with it, and the next run is warm."""
    gate = scene.root / "gate"
    os.mkfifo(gate)
    place = scene.places.open(Round(key="cycle", place="command"))
    place.start([scene.work(f"open({str(gate)!r}, 'rb').read()")])
    with gate.open("wb"):
        keeper, pids = scene.keeper(), scene.template_pids()
        os.kill(keeper, signal.SIGKILL)
        until(lambda: not any(map(alive, pids)), "all of it ended")
    (executed,) = place.wait(SOON_S)
    place.close()
    assert (executed.outcome.status, executed.outcome.reason) == ("failed", "supervisor-died")
    assert scene.warm("pass").outcome.status == "done"


def test_a_killed_launcher_takes_its_templates_along(scene: Scene) -> None:
    """Nothing of them is left, and the next run is done."""
    scene.warm("pass")
    pids = scene.template_pids()
    os.kill(scene.places._launcher._pid, signal.SIGKILL)
    until(lambda: not any(map(alive, pids)), "all of it ended")
    assert scene.run("pass").outcome.status == "done"
    assert scene.warm("pass").outcome.status == "done"


def test_closed_places_leave_no_template(scene: Scene) -> None:
    """Neither processes nor folders."""
    scene.warm("pass")
    pids = scene.template_pids()
    scene.places.close()
    assert not any(map(alive, pids))


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_a_changed_import_has_a_new_template(scene: Scene) -> None:
    """What a module says now is what a run gets; the digest in the record tells them apart."""
    shown = "import helper\nprint(helper.word)"
    scene.write("helper.py", "word = 1\n")
    first, same = scene.two(shown, imports=None)
    scene.write("helper.py", "word = 'two'\n")
    second = scene.warm(shown, imports=None)
    assert [kept(each, "stdout") for each in (first, same, second)] == [b"1\n", b"1\n", b"two\n"]
    digests = [each.outcome.warmth.template for each in (first, same, second)]  # type: ignore[union-attr]
    assert digests[0] == digests[1] != digests[2]
    scene.write("helper/__init__.py", "word = 'package'\n")
    assert kept(scene.warm(shown, imports=None), "stdout") == b"package\n"


def test_a_new_file_beside_private_ones_can_be_read(scene: Scene) -> None:
    """A sandbox names what lies beside the key; what came later is found as by a cold run."""
    text = f"print(open({str(scene.private / 'later')!r}).read())"
    scene.warm("pass")
    (scene.private / "later").write_text("new")
    assert kept(scene.warm(text), "stdout") == b"new\n"
    (scene.private / "other").write_text("newer")
    (scene.private / "other").rename(scene.private / "later")
    assert kept(scene.warm(text), "stdout") == b"newer\n"


def test_a_template_makes_way_after_many_runs(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next one begins to count anew; and of many templates the oldest makes way."""
    monkeypatch.setattr(words, "RUNS_MAX", 2)
    scene.two("pass")
    counts = {scene.warm("pass").outcome.warmth.n for _ in range(6)}  # type: ignore[union-attr]
    assert max(counts) <= 2
    monkeypatch.setattr(words, "TEMPLATES_MAX", 1)
    pids = scene.template_pids()
    scene.warm("pass", imports=("json",))
    until(lambda: not any(map(alive, pids)), "the older one ended")


def test_a_changed_script_is_refused_and_the_checked_bytes_are_what_runs(scene: Scene) -> None:
    """Also at a warm start the file must be the one that was planned."""
    work = scene.work("print(1)")
    scene.write("script.py", "print(2)")
    place = scene.places.open(Round(key="cycle", place="command"))
    (executed,) = finish(place, [work])
    place.close()
    assert executed.outcome.reason == "changed"


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"level": "T0"}, "level T0: a template is held at T1 and nowhere else"),
        ({"env": ("PYTHONHASHSEED",)}, "env grants PYTHONHASHSEED, which is read when an"),
        ({"env": ("OMP_NUM_THREADS",)}, "env grants OMP_NUM_THREADS, which is read when an"),
    ],
)
def test_what_cannot_be_warm_is_cold_for_a_reason(
    scene: Scene, more: dict[str, Any], reason: str
) -> None:
    """Never silently, and never a failure."""
    assert scene.cold("pass", **more).startswith(reason)


def test_the_first_cycle_of_a_process_is_cold(scene: Scene) -> None:
    """A template would cost a single cycle more than it saves."""
    scene.places.warm_after = 1
    assert scene.cold("pass") == words.ONE_SHOT
    assert scene.warm("pass").outcome.status == "done"
    scene.places.warm_after = None
    assert scene.cold("pass") == words.ONE_SHOT


def test_a_stop_ends_a_template_that_imports(scene: Scene) -> None:
    """An import that takes for ever holds nobody up."""
    scene.write("helper.py", "import time\ntime.sleep(600)\n")
    place = scene.places.open(Round(key="cycle", place="command"))
    place.start([scene.work("import time\ntime.sleep(600)", imports=("helper",))])
    until(scene.template_pids, "the template imports")
    place.stop(kill=True)
    (executed,) = place.wait(SOON_S)
    place.close()
    assert executed.outcome.status in ("interrupted", "failed")


def test_the_imports_of_a_script_are_those_of_its_first_level() -> None:
    """Not what it imports later, under a condition, or relatively."""
    source = (
        b"from __future__ import annotations\nimport os, json as j\nfrom a.b import c\n"
        b"from . import d\nif j:\n    import e\ndef f():\n    import g\n"
    )
    assert imported_by(source) == ("os", "json", "a.b")
    assert imported_by(b"def (") == ()
