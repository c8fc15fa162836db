"""Looks for what makes an engine answer otherwise the next time: clocks, chance, the order of sets.

Source text in, findings out; nothing is executed. It reads what is written: a clock that a library
reads is not seen here, the canary is for that. A line that ends in `# det-ok: reason` is waived,
and shown with its reason.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

_WAIVER: Final = re.compile(r"#\s*det-ok\b(?::\s*(?P<reason>\S.*))?")

_TIME: Final = "engine_timestamp_ms of the input, the only clock of an engine"
_CHANCE: Final = "random.Random(seed) with a seed from the configuration or the input"
_ORDER: Final = "sorted(...), or a dict or list, which keep their order"
_CONFIG: Final = "engine.config of the spec"
_EVENTS: Final = "the events of the cut: what is read elsewhere is not replayed"
_ALONE: Final = "one call in one thread: symbols run side by side by themselves"
_PLAIN: Final = "a plain import: what is looked up by a text cannot be looked at"
_HASH: Final = "a digest (hashlib), or a key of your own"

#: What must not be used -> what to use instead. A name ends in "." for all that is in it.
BANNED: Final[Mapping[str, str]] = {
    **dict.fromkeys(
        (
            *("time.time", "time.time_ns", "time.monotonic", "time.monotonic_ns"),
            *("time.perf_counter", "time.perf_counter_ns", "time.process_time"),
            *("time.process_time_ns", "time.thread_time", "time.thread_time_ns"),
            *("time.clock_gettime", "time.clock_gettime_ns", "time.localtime", "time.gmtime"),
            *("time.ctime", "time.asctime", "time.strftime", "time.sleep"),
            *("datetime.datetime.now", "datetime.datetime.utcnow", "datetime.datetime.today"),
            *("datetime.date.today", "pandas.Timestamp.now", "pandas.Timestamp.utcnow"),
            *("pandas.Timestamp.today", "os.times"),
        ),
        _TIME,
    ),
    **dict.fromkeys(
        ("random.", "secrets.", "numpy.random.", "os.urandom", "os.getrandom", "uuid.uuid1"),
        _CHANCE,
    ),
    "uuid.uuid4": _CHANCE,
    **dict.fromkeys(
        (
            *("os.environ", "os.environb", "os.getenv", "os.getenvb", "os.getcwd", "os.getpid"),
            *("os.getppid", "os.uname", "os.cpu_count", "platform.", "locale.", "getpass."),
            *("sys.argv", "sys.flags", "sys.getswitchinterval", "socket.gethostname"),
        ),
        _CONFIG,
    ),
    **dict.fromkeys(
        (
            *("socket.", "ssl.", "http.", "urllib.request.", "urllib3.", "requests.", "httpx."),
            *("aiohttp.", "websockets.", "websocket.", "ftplib.", "smtplib.", "grpc.", "nats."),
            *("redis.", "psycopg.", "sqlite3.", "boto3.", "open", "io.open", "os.open", "input"),
            *("os.listdir", "os.scandir", "os.walk", "os.stat", "glob.", "tempfile.", "pathlib."),
        ),
        _EVENTS,
    ),
    **dict.fromkeys(
        (
            *("threading.", "_thread.", "multiprocessing.", "concurrent.", "asyncio.", "queue."),
            *("subprocess.", "os.system", "os.popen", "os.fork", "os.kill", "signal.", "ctypes."),
            *("os.posix_spawn", "os.waitpid"),
        ),
        _ALONE,
    ),
    **dict.fromkeys(
        ("eval", "exec", "compile", "__import__", "importlib.", "globals", "runpy."), _PLAIN
    ),
    **dict.fromkeys(("hash", "id"), _HASH),
}
#: Of what is banned as a whole, what is not: paths and queues as values, a generator with a seed.
ALLOWED: Final = frozenset({"pathlib.PurePath", "pathlib.PurePosixPath", "urllib.parse"})
#: Generators that follow from a seed, and conversions of an instant: with so many arguments.
GIVEN: Final[Mapping[str, int]] = {
    "random.Random": 1,
    "numpy.random.default_rng": 1,
    "numpy.random.RandomState": 1,
    "numpy.random.PCG64": 1,
    "time.gmtime": 1,
    "time.asctime": 1,
    "time.strftime": 2,
}
_BUILTINS: Final = frozenset({"open", "input", "eval", "exec", "compile", "hash", "id"}) | {
    "__import__",
    "globals",
}
#: Calls whose answer depends on the order of what they are given.
#: Calls whose answer does not, so what goes over a set in them is free to.
_UNORDERED: Final = frozenset({"any", "all", "sorted", "min", "max", "set", "frozenset", "len"})
_ORDERED: Final = frozenset(
    "list tuple iter next enumerate zip map filter sum reversed join fromkeys reduce extend".split()
)
#: Methods of a set that give a set.
_SET_METHODS: Final = frozenset("union intersection difference symmetric_difference".split())


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """One file of an engine."""

    #: Its dotted name.
    module: str
    path: str
    text: str


class Finding(NamedTuple):
    """A line that may answer otherwise the next time."""

    path: str
    line: int
    #: "time.time", "iteration over a set".
    what: str
    #: What to use in its place.
    instead: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.what}; use {self.instead}"


class Waived(NamedTuple):
    """A finding that somebody has answered for."""

    finding: Finding
    reason: str


class Report(NamedTuple):
    """What the lint says of an engine."""

    findings: tuple[Finding, ...]
    waived: tuple[Waived, ...]
    #: How many files were looked at.
    files: int


def lint(sources: Sequence[Source]) -> Report:
    """Look at the sources of an engine."""
    findings: list[Finding] = []
    waived: list[Waived] = []
    for source in sources:
        for finding, reason in _judged(source):
            if reason:
                waived.append(Waived(finding, reason))
            else:
                findings.append(finding)
    return Report(tuple(findings), tuple(waived), len(sources))


def _judged(source: Source) -> Iterator[tuple[Finding, str]]:
    """Yield what is found in a file, in order, with the reason for which it is waived."""
    try:
        tree = ast.parse(source.text)
        waivers = _waivers(source.text)
    except (SyntaxError, ValueError, tokenize.TokenError) as error:
        line = getattr(error, "lineno", None) or 1
        yield Finding(source.path, line, f"no Python: {error}", "Python that can be read"), ""
        return
    spans = _spans(tree)
    for line, what, instead in sorted(set(_Reader(tree).found())):
        lines = spans.get(line, range(line, line + 1))
        reason = next((waivers[n] for n in lines if n in waivers), None)
        if reason == "":
            what = f"{what}, with a waiver that names no reason"  # noqa: PLW2901 - said more exactly
        yield Finding(source.path, line, what, instead), reason or ""


def _waivers(text: str) -> dict[int, str]:
    """Return line -> reason for the comments that waive; text in quotes is no comment."""
    waivers = {}
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT and (match := _WAIVER.search(token.string)):
            waivers[token.start[0]] = (match["reason"] or "").strip()
    return waivers


def _spans(tree: ast.Module) -> dict[int, range]:
    """Return line -> the lines of its statement, or of the head of a statement with a body."""
    spans = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt):
            body = getattr(node, "body", None)
            last = body[0].lineno - 1 if body else node.end_lineno or node.lineno
            lines = range(node.lineno, max(last, node.lineno) + 1)
            # Inner statements come later, and know their lines better.
            spans.update(dict.fromkeys(lines, lines))
    return spans


class _Reader:
    """Finds in one file what is banned."""

    def __init__(self, tree: ast.Module) -> None:
        self._tree = tree
        self._aliases = _aliases(tree)
        #: Names that the file itself binds are not the builtins.
        self._bound = {
            node.id
            for node in ast.walk(tree)
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
        } | {
            node.name
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef)
        }
        self._bound |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
        #: Nodes that are part of a longer dotted name, or are given what they need.
        self._passed: set[int] = set()

    def found(self) -> Iterator[tuple[int, str, str]]:
        """Yield the line, what it is and what to use instead."""
        for node in ast.walk(self._tree):
            if isinstance(node, ast.Call):
                self._pass_given(node)
        for node in ast.walk(self._tree):
            for what, instead in (*self._names(node), *self._lookups(node)):
                yield _line(node), what, instead
        yield from self._orders()

    def _pass_given(self, node: ast.Call) -> None:
        wanted = GIVEN.get(self._dotted(node.func), 0)
        if wanted and len(node.args) + len(node.keywords) >= wanted:
            self._passed.update(map(id, ast.walk(node.func)))

    def _names(self, node: ast.AST) -> Iterator[tuple[str, str]]:
        """Yield what a name, an attribute or an import means that is banned."""
        if id(node) in self._passed:
            return
        if isinstance(node, ast.ImportFrom) and not node.level:
            for alias in node.names:
                yield from _banned(f"{node.module}.{alias.name}", is_import=True)
        elif isinstance(node, ast.Attribute):
            name = self._dotted(node)
            if name:
                self._passed.update(map(id, ast.walk(node)))
                yield from _banned(name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            if node.id in self._aliases:
                yield from _banned(self._aliases[node.id])
            elif node.id in _BUILTINS - self._bound:
                yield from _banned(node.id)

    def _lookups(self, node: ast.AST) -> Iterator[tuple[str, str]]:
        """Yield a look-up by text in a module that has banned names."""
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in {"getattr", "vars"}:
            target = self._dotted(node.args[0]) if node.args else ""
            if target and any(name.startswith(f"{target}.") for name in BANNED):
                yield f"{getattr(node.func, 'id', '')}({target}, …)", _PLAIN

    def _dotted(self, node: ast.AST) -> str:
        """Return the whole name of an attribute of something imported; "" for anything else."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name) or node.id not in self._aliases:
            return ""
        return ".".join([self._aliases[node.id], *reversed(parts)])

    # ----------------------------------------------------------------------- the order of sets

    def _orders(self) -> Iterator[tuple[int, str, str]]:
        shared = _set_names(list(_own_nodes(self._tree)), frozenset())
        for scope in ast.walk(self._tree):
            if isinstance(scope, ast.Module | ast.FunctionDef | ast.AsyncFunctionDef):
                nodes = list(_own_nodes(scope))
                sets = _set_names(nodes, shared - _bound_in(nodes))
                free = {id(each) for node in nodes for each in _unordered(node)}
                for node in nodes:
                    if id(node) in free:
                        continue
                    for place, what in _uses_order(node, sets):
                        yield _line(place), what, _ORDER


def _aliases(tree: ast.Module) -> dict[str, str]:
    """Return name -> what was imported under it."""
    aliases = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                first = alias.name.partition(".")[0]
                aliases[alias.asname or first] = alias.name if alias.asname else first
        elif isinstance(node, ast.ImportFrom) and not node.level:
            for alias in node.names:
                aliases[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return aliases


def _banned(name: str, *, is_import: bool = False) -> Iterator[tuple[str, str]]:
    """Yield a name and what to use instead of it, when it is banned."""
    if any(name == each or name.startswith(f"{each}.") for each in ALLOWED):
        return
    # A generator is judged where it is made, by whether it is given a seed.
    if is_import and (name in GIVEN or name.endswith(".*")):
        if name.endswith(".*") and any(each.startswith(name[:-1]) for each in BANNED):
            yield name, _PLAIN
        return
    for each, instead in BANNED.items():
        is_in = each.endswith(".") and f"{name}.".startswith(each) and f"{name}." != each
        if name == each or name.startswith(f"{each}.") or is_in:
            yield name, instead
            return


def _own_nodes(scope: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes of a scope without those of the functions in it."""
    for child in ast.iter_child_nodes(scope):
        yield child
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _own_nodes(child)


def _bound_in(nodes: Sequence[ast.AST]) -> frozenset[str]:
    """Return the names that a scope binds itself."""
    stored = {
        node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
    return frozenset(stored | {node.arg for node in nodes if isinstance(node, ast.arg)})


def _set_names(nodes: Sequence[ast.AST], names: frozenset[str]) -> frozenset[str]:
    """Return the names of a scope that hold sets, however many steps away, with those given."""
    while True:
        more = names | {
            target.id
            for node in nodes
            for target, value in _assigned(node)
            if isinstance(target, ast.Name) and _is_set(value, names)
        }
        more |= {
            node.arg
            for node in nodes
            if isinstance(node, ast.arg) and node.annotation and _names_set(node.annotation)
        }
        if more == names:
            return names
        names = more


def _assigned(node: ast.AST) -> Iterator[tuple[ast.AST, ast.AST]]:
    if isinstance(node, ast.Assign):
        yield from ((target, node.value) for target in node.targets)
    elif isinstance(node, ast.AnnAssign | ast.NamedExpr | ast.AugAssign) and node.value:
        yield node.target, node.value


def _names_set(annotation: ast.AST) -> bool:
    node = annotation.value if isinstance(annotation, ast.Subscript) else annotation
    return isinstance(node, ast.Name) and node.id in {"set", "frozenset", "Set", "AbstractSet"}


def _is_set(node: ast.AST, names: frozenset[str]) -> bool:
    """Say whether an expression surely is a set."""
    if isinstance(node, ast.Set | ast.SetComp):
        return True
    if isinstance(node, ast.Name):
        return node.id in names
    if isinstance(node, ast.BinOp) and isinstance(
        node.op, ast.BitOr | ast.BitAnd | ast.Sub | ast.BitXor
    ):
        return _is_set(node.left, names) or _is_set(node.right, names)
    if isinstance(node, ast.IfExp):
        return _is_set(node.body, names) or _is_set(node.orelse, names)
    if isinstance(node, ast.Call):
        if isinstance(node.func, ast.Name):
            return node.func.id in {"set", "frozenset"}
        if isinstance(node.func, ast.Attribute) and node.func.attr in {*_SET_METHODS, "copy"}:
            return _is_set(node.func.value, names)
    return False


def _unordered(node: ast.AST) -> Iterator[ast.AST]:
    """Yield what is only asked for something that has no order."""
    if isinstance(node, ast.Call) and getattr(node.func, "id", "") in _UNORDERED:
        yield from node.args


def _uses_order(node: ast.AST, sets: frozenset[str]) -> Iterator[tuple[ast.AST, str]]:
    """Yield where the order of a set decides something."""
    if isinstance(node, ast.For | ast.AsyncFor) and _is_set(node.iter, sets):
        yield node.iter, "iteration over a set"
    elif isinstance(node, ast.ListComp | ast.DictComp | ast.GeneratorExp):
        for part in node.generators:
            if _is_set(part.iter, sets):
                yield part.iter, "iteration over a set"
    elif isinstance(node, ast.Starred) and _is_set(node.value, sets):
        yield node, "a set unpacked"
    elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Tuple | ast.List):
        if _is_set(node.value, sets):
            yield node, "a set unpacked"
    elif isinstance(node, ast.Call):
        name = getattr(node.func, "id", getattr(node.func, "attr", ""))
        if name in _ORDERED and any(_is_set(argument, sets) for argument in node.args):
            yield node, f"{name}() of a set"
        elif name == "pop" and _is_set(getattr(node.func, "value", node), sets):
            yield node, "pop() of a set"


def _line(node: ast.AST) -> int:
    return getattr(node, "lineno", 1)
