"""A template: a Python that has imported what functions need, and forks a child for each run.

It runs confined as its children will be. What it imports, it imports in a thread that may neither
write nor use the network, so an import leaves nothing behind that no record speaks of. It knows no
granted variable. It forks only while it has a single thread, no open file and no memory that is
shared with others, so that nothing of one run can reach the next.

A child takes the place of `python script.py`: it gives up what the template may do and it may not,
then executes the bytes that it was given, as `__main__`.
"""

from __future__ import annotations

import _contextvars  # what `contextvars` is made of
import _signal  # type: ignore[import-not-found]  # typeshed knows only `signal`, which imports enum
import _socket
import _thread
import gc
import marshal
import os
import sys
import time
from importlib import import_module

from runwright.adapters.processes import INT_BYTES, OUTPUTS
from runwright.adapters.sandbox import Sandbox
from runwright.adapters.supervisor import LENGTH_BYTES, READ_BYTES, STEPS

TYPE_CHECKING = False
if TYPE_CHECKING:
    # typing alone takes as long to import as everything else here.
    from collections.abc import Callable, Sequence
    from typing import Any, Final, NoReturn

#: Seconds that threads of an import have to end by themselves.
SETTLE_S: Final = 0.5
#: The words of a line of /proc/self/maps that names a file.
MAPPED_WORDS: Final = 6
#: Seconds between two looks at what the parent is.
WAIT_S: Final = 0.0005
#: How Python ends when it could not write what was left in a buffer.
EXIT_UNFLUSHED: Final = 120


def main(seen: set[str], folder: str, *names: str) -> None:
    """Import the names, say what was imported, and fork a child for each word of the keeper."""
    keeper = _socket.socket(-1, -1, -1, os.dup(0))
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    sandbox = Sandbox()
    # From here on everything looks as it does to a script: nothing of ours is there to be found.
    sys.path.pop()
    sys.path.insert(0, folder)
    for name in sys.modules.keys() - seen:
        del sys.modules[name]
    own = _descriptors()
    # What an import sets for its context (the precision of decimals) is set for the script.
    context = _contextvars.copy_context()
    problem = _import(sandbox, context, names) or _left(own)
    _flush()
    told = _told(problem, names)
    keeper.sendall(len(told).to_bytes(LENGTH_BYTES, "big") + told)
    # The first compilation of a process makes the classes of syntax trees: 3 ms of every child.
    compile("", folder, "exec")
    gc.collect()
    gc.freeze()
    own_keeper = os.getppid()
    while not problem and keeper.recv(1):
        _fork(keeper, lambda door: _Run(door, own_keeper, sandbox).run(context))
    os._exit(0)


# ------------------------------------------------------------------------------- what it imports


def _import(sandbox: Sandbox, context: Any, names: Sequence[str]) -> str:
    """Import in a thread that gives up writing and the network; return what went wrong."""
    done = _thread.allocate_lock()
    problems: list[str] = []

    def work() -> None:
        name = "the sandbox"
        try:
            sandbox.narrow((), offline=True)
            for name in names:
                context.run(import_module, name)
        except BaseException as error:  # noqa: BLE001 - an import may fail in any way; runs are cold
            problems.append(f"import of {name}: {type(error).__name__}: {error}")
        finally:
            done.release()

    done.acquire()
    _thread.start_new_thread(work, ())
    done.acquire()
    return problems[0] if problems else ""


def _left(own: set[str]) -> str:
    """Return what imports left that a fork would share or lose; nothing when all is well."""
    until = time.monotonic() + SETTLE_S
    while (threads := len(os.listdir("/proc/self/task"))) > 1:  # noqa: PTH208 - before any import
        if time.monotonic() > until:
            return f"its imports left {threads - 1} threads running"
        time.sleep(0.001)
    if _has_children():
        return "its imports left processes behind"
    if opened := _descriptors() - own:
        return f"its imports left {len(opened)} files or sockets open"
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as file:  # noqa: PTH123
        shared = [line.split()[-1] for line in file if line.split()[1][1::2] == "ws"]
    if shared:
        return f"its imports left shared memory: {shared[0]}"
    return ""


def _has_children() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _descriptors() -> set[str]:
    """Return what is open, with what it leads to."""
    found = set()
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - as above
        try:
            found.add(f"{name} {os.readlink(f'/proc/self/fd/{name}')}")  # noqa: PTH115 - as above
        except OSError:
            # That of the listing itself.
            continue
    return found


def _told(problem: str, names: Sequence[str]) -> bytes:
    """Return what the conductor is told, as words and values that each end with a NUL."""
    told = [("problem", problem)] if problem else []
    told += [("path", path) for path in sys.path]
    told += [("top", top) for top in sorted({name.partition(".")[0] for name in sys.modules})]
    told += [("file", path) for path in _files()]
    told += _versions(names)
    return "".join(f"{word}\0{value}\0" for word, value in told).encode(errors="surrogateescape")


def _files() -> list[str]:
    """Return the files of all that is loaded: modules, and what is mapped as code."""
    found = set()
    for module in list(sys.modules.values()):
        path = getattr(module, "__file__", None)
        if isinstance(path, str):
            found.add(path)
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as file:  # noqa: PTH123
        for line in file:
            words = line.rstrip("\n").split(maxsplit=5)
            if len(words) == MAPPED_WORDS and "x" in words[1] and words[5].startswith("/"):
                found.add(words[5])
    return sorted(found)


def _versions(names: Sequence[str]) -> list[tuple[str, str]]:
    """Return the versions that packages say of themselves."""
    found = []
    for name in sorted({name.partition(".")[0] for name in names}):
        version = getattr(sys.modules.get(name), "__version__", None)
        if isinstance(version, str):
            found.append(("version", f"{name} {version[:100]}"))
    return found


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            continue


# ---------------------------------------------------------------------------------------- a child


def _fork(keeper: _socket.socket, run: Callable[[_socket.socket], NoReturn]) -> None:
    """Fork a child that is the keeper's: what forks it ends, and orphans are the keeper's."""
    door, mine = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
    between = os.fork()
    if between:
        door.close()
        mine.close()
        os.waitpid(between, 0)
        return
    # Whatever happens, neither of the two must go on as a second template.
    try:
        child = os.fork()
        if child:
            rights = door.fileno().to_bytes(INT_BYTES, sys.byteorder)
            note = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)]
            keeper.sendmsg([child.to_bytes(INT_BYTES, "big")], note)
        else:
            door.close()
            keeper.close()
            run(mine)
    finally:
        os._exit(127)


class _Run:
    """A child, from the moment that it stands ready to its end."""

    def __init__(self, door: _socket.socket, keeper: int, sandbox: Sandbox) -> None:
        self.door = door
        self.keeper = keeper
        self.sandbox = sandbox

    def run(self, context: Any) -> NoReturn:
        """Wait for the errand, become the script, execute it and end as Python would."""
        step = "folder"
        try:
            self._stand_ready()
            request, output = self._await()
            os.dup2(output[0], 1)
            os.dup2(output[1], 2)
            os.close(output[0])
            os.close(output[1])
            os.chdir(request["folder"])
            os.environb.update(request["environment"])
            step = "sandbox"
            self.sandbox.narrow(request["sandbox"]["writable"])
        except (OSError, ValueError, MemoryError) as error:
            number = getattr(error, "errno", None) or 0
            self.door.send(b"%d %d" % (STEPS.index(step), number))
            os._exit(127)
        self.door.close()
        os._exit(_end(context.run(_execute, request)))

    def _await(self) -> tuple[dict[str, Any], list[int]]:
        data, notes, _flags, _address = self.door.recvmsg(
            READ_BYTES, _socket.CMSG_SPACE(OUTPUTS * INT_BYTES)
        )
        frame = data
        size = LENGTH_BYTES + int.from_bytes(frame[:LENGTH_BYTES], "big")
        while data and len(frame) < size:
            data = self.door.recv(READ_BYTES)
            frame += data
        if not data:
            # The keeper is gone, or wants no other child.
            os._exit(0)
        output: list[int] = []
        for _level, _kind, body in notes:
            output += memoryview(body)[: len(body) // INT_BYTES * INT_BYTES].cast("i")
        return marshal.loads(frame[LENGTH_BYTES:]), output  # noqa: S302 - written by our conductor

    def _stand_ready(self) -> None:
        """Do what needs no errand; wait until this is a child of the keeper, and end with it."""
        os.setsid()
        os.umask(0o077)
        door = self.door.fileno()
        os.closerange(3, door)
        os.closerange(door + 1, os.sysconf("SC_OPEN_MAX"))
        os.environb.clear()
        _reseed()
        # What forked this takes as long to end as its memory is large.
        while os.getppid() != self.keeper:
            time.sleep(WAIT_S)
            if _is_closed(self.door):
                os._exit(0)
        self.sandbox.end_with_parent()
        if os.getppid() != self.keeper:
            os._exit(0)


def _is_closed(door: _socket.socket) -> bool:
    try:
        return not door.recv(1, _socket.MSG_PEEK | _socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False


def _reseed() -> None:
    """Have every child draw other numbers; `random` sees to that by itself after a fork."""
    random = sys.modules.get("numpy.random")
    if random is not None:
        random.seed()


def _execute(request: dict[str, Any]) -> int:
    """Execute the bytes as `__main__`; return the exit status that Python would end with."""
    path = os.fsdecode(request["program"])
    argv = [os.fsdecode(word) for word in request["argv"]]
    # Behind the interpreter stand the script and its arguments.
    sys.argv = argv[1:]
    sys.orig_argv = argv
    main = type(sys)("__main__")
    loader = sys.modules["_frozen_importlib_external"].SourceFileLoader("__main__", path)
    values = vars(main)
    values.update(__file__=path, __cached__=None, __loader__=loader, __annotations__={})
    values["__builtins__"] = sys.modules["builtins"]
    sys.modules["__main__"] = main
    try:
        code = compile(request["source"], path, "exec", dont_inherit=True)
        exec(code, values)  # noqa: S102 - what this process is for
    except SystemExit as error:
        return _status_of(error)
    except BaseException as error:  # noqa: BLE001 - a script may fail in any way
        # Without this frame, which a plain start has not.
        error.__traceback__ = error.__traceback__ and error.__traceback__.tb_next
        sys.excepthook(type(error), error, error.__traceback__)
        return -_signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1
    return 0


def _status_of(error: SystemExit) -> int:
    code = error.code
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 0xFF
    _flush()
    sys.stderr.write(f"{code}\n")
    return 1


def _end(status: int) -> int:
    """Do what Python does at its end: threads, exit handlers, what is left in buffers.

    It is not taken apart, which takes longer than most functions.
    """
    threading = sys.modules.get("threading")
    if threading is not None:
        threading._shutdown()  # noqa: SLF001 - as Python does
    import_module("atexit")._run_exitfuncs()  # noqa: SLF001 - as above
    main = sys.modules.get("__main__")
    if main is not None:
        # What its names held goes now, so files that it did not close are written.
        vars(main).clear()
    gc.collect()
    stream: Any
    base = import_module("io").IOBase
    for stream in [each for each in gc.get_objects() if isinstance(each, base)]:
        _try_flush(stream)
    for stream in (sys.stdout, sys.stderr):
        if not _try_flush(stream) and stream is sys.stdout and not status:
            status = EXIT_UNFLUSHED
    if status < 0:
        _signal.signal(-status, _signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    return status


def _try_flush(stream: Any) -> bool:
    try:
        if stream is not None and not stream.closed:
            stream.flush()
    except (OSError, ValueError):
        return False
    return True
