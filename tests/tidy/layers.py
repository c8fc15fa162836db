"""The rules about rooms: which way imports go, what stays pure, what an auditor must read."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.tidy.tree import Import, Module, imports, is_ours, modules, within

WORKLOADS = ("cycles", "trials", "streams", "gates", "contracts")

# What every workload may see of the kernel: values, criteria, the protocol and the ports' types.
WORKLOAD_KERNEL = tuple(
    f"runwright.kernel.{name}"
    for name in ("errors", "canonical", "run", "criteria", "workload", "ports")
)

# What of the wiring belongs to streams, and knows no other workload.
STREAM_WIRING = (
    "audits",
    "following",
    "freezing",
    "replays",
    "reports",
    "streaming",
    "streams",
    "transports",
)

# Layer -> what its modules may import. The longest layer that holds a module decides.
ALLOWED: dict[str, tuple[str, ...]] = {
    "runwright.kernel": ("runwright.kernel",),
    **{f"runwright.{name}": (*WORKLOAD_KERNEL, f"runwright.{name}") for name in WORKLOADS},
    "runwright.adapters": ("runwright.kernel", "runwright.adapters", "runwright.config"),
    "runwright.config": ("runwright.kernel", "runwright.config"),
    "runwright.views": ("runwright.kernel", "runwright.config", "runwright.views"),
    "runwright.deployment": ("runwright.kernel", "runwright.deployment"),
    **dict.fromkeys(
        [f"runwright.bootstrap.{name}" for name in STREAM_WIRING],
        (
            "runwright.kernel",
            "runwright.adapters",
            "runwright.config",
            "runwright.bootstrap",
            "runwright.streams",
        ),
    ),
    "runwright.bootstrap": (
        "runwright.kernel",
        "runwright.adapters",
        "runwright.config",
        "runwright.views",
        "runwright.bootstrap",
        *(f"runwright.{name}" for name in WORKLOADS),
    ),
    **{
        f"runwright.{name}": (
            "runwright.kernel",
            "runwright.views",
            "runwright.bootstrap",
            "runwright.config",
            "runwright.deployment",
            f"runwright.{name}",
        )
        for name in ("cli", "web")
    },
    "runwright.__main__": ("runwright.cli",),
}

# What a layer may not import although the map allows what holds it: the record never acts.
DENIED: dict[str, tuple[str, ...]] = {"runwright.kernel.record": ("runwright.kernel.drive",)}

# Layers that may read the version; the kernel and the workloads get what they need as values.
READS_VERSION = tuple(f"runwright.{name}" for name in ("cli", "web", "bootstrap", "adapters"))

# Third-party packages that an extra brings: imported inside the function that needs them.
OPTIONAL_PACKAGES = frozenset(
    [
        "altair",
        "apprise",
        "dask",
        "distributed",
        "httpx",
        "jinja2",
        "litestar",
        "nats",
        "opentelemetry",
        "prometheus_client",
        "psycopg",
        "scipy",
        "uvicorn",
        "vl_convert",
    ]
)
LAZY = re.compile(r"#\s*lazy:\s*\S+")

# Modules of a workload that may touch the world. Another one needs its reason beside it.
WORLD_MODULES: dict[str, str] = {
    "observe": "reads the world into facts",
    "calls": "is what a run executes, in its own place",
    "streams.enginecode": "reads the source files of an engine",
    "streams.program": "runs an engine that is a program",
    "streams.twin": "is a second process in which a run executes again",
}
# Kernel modules that are as pure as a plan.
PURE_KERNEL = frozenset(
    f"runwright.kernel.{name}" for name in ("errors", "canonical", "run", "criteria", "workload")
) | {"runwright.kernel.record.entries"}
WORLD_PACKAGES = frozenset(
    [
        "http",
        "os",
        "pathlib",
        "random",
        "secrets",
        "shutil",
        "socket",
        "sqlite3",
        "subprocess",
        "tempfile",
        "time",
        "urllib",
    ]
)
WORLD_BUILTINS = frozenset({"open", "print", "input"})

VERIFY = "runwright.kernel.record.verify"
VERIFY_MODULES_MAX = 14
VERIFY_BANNED = frozenset(
    [
        "asyncio",
        "http",
        "httpx",
        "psycopg",
        "requests",
        "socket",
        "sqlite3",
        "ssl",
        "subprocess",
        "urllib",
    ]
)


def import_direction(root: Path) -> list[str]:
    """Imports go one way; a module outside the map of layers is a violation too."""
    known = modules(root)
    violations = []
    for module in known.values():
        if module.name == "runwright":
            violations += [
                module.at(found.line, f"the package imports {found.target} when it is imported")
                for found in imports(module, known)
                if found.target != "__future__"
            ]
            continue
        layer = _layer(module.name)
        if layer is None:
            violations.append(module.at(1, "no layer holds this module; draw the map first"))
            continue
        violations += [
            module.at(found.line, f"{layer} may not import {found.target}")
            for found in imports(module, known)
            if is_ours(found.target) and not _may_import(module.name, layer, found.target)
        ]
    return violations


def _layer(name: str) -> str | None:
    holding = [layer for layer in ALLOWED if within(name, layer)]
    return max(holding, key=len, default=None)


def _may_import(name: str, layer: str, target: str) -> bool:
    for room, denied in DENIED.items():
        if within(name, room) and any(within(target, prefix) for prefix in denied):
            return False
    if target == "runwright":
        return layer in READS_VERSION
    return any(within(target, allowed) for allowed in ALLOWED[layer])


def import_cycles(root: Path) -> list[str]:
    """No cycle, not even under TYPE_CHECKING or inside a function."""
    known = modules(root)
    graph = {
        name: sorted({found.target for found in imports(module, known)} & known.keys() - {name})
        for name, module in known.items()
    }
    cycles = {_rotated(cycle) for name in graph if (cycle := _path(graph, name, name))}
    return [" -> ".join((*cycle, cycle[0])) for cycle in sorted(cycles)]


def _path(graph: dict[str, list[str]], source: str, target: str) -> tuple[str, ...] | None:
    """Return the shortest way from a module back to itself, without its last step."""
    ways: list[tuple[str, ...]] = [(source,)]
    seen: set[str] = set()
    while ways:
        way = ways.pop(0)
        for step in graph[way[-1]]:
            if step == target:
                return way
            if step not in seen:
                seen.add(step)
                ways.append((*way, step))
    return None


def _rotated(cycle: tuple[str, ...]) -> tuple[str, ...]:
    first = cycle.index(min(cycle))
    return cycle[first:] + cycle[:first]


def imports_in_functions(root: Path) -> list[str]:
    """An import inside a function is one of an extra, or says on its line why it is lazy."""
    known = modules(root)
    return [
        module.at(found.line, f"import of {found.target} in a function without `# lazy: <reason>`")
        for module in known.values()
        for found in imports(module, known)
        if found.in_function and _is_statement(found) and not _is_excused(found)
    ]


def _is_statement(found: Import) -> bool:
    return found.text.lstrip().startswith(("import ", "from "))


def _is_excused(found: Import) -> bool:
    return found.target.split(".")[0] in OPTIONAL_PACKAGES or bool(LAZY.search(found.text))


def purity(root: Path) -> list[str]:
    """A room that decides does not touch the world."""
    known = modules(root)
    violations = []
    for module in known.values():
        if not _is_pure(module):
            continue
        violations += [
            module.at(found.line, f"a pure module imports {found.target}")
            for found in imports(module, known)
            if found.target.split(".")[0] in WORLD_PACKAGES
        ]
        violations += [
            module.at(line, f"a pure module calls {name}()")
            for name, line in _builtin_calls(module.tree)
        ]
    return violations


def _is_pure(module: Module) -> bool:
    if module.name in PURE_KERNEL:
        return True
    for workload in WORKLOADS:
        package = f"runwright.{workload}"
        if within(module.name, package):
            inner = module.name.removeprefix(f"{package}.")
            return inner not in WORLD_MODULES and f"{workload}.{inner}" not in WORLD_MODULES
    return False


def _builtin_calls(tree: ast.Module) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        name = getattr(node.func, "id", "") if isinstance(node, ast.Call) else ""
        if name in WORLD_BUILTINS:
            yield name, node.lineno


def verify_closure(root: Path) -> list[str]:
    """An auditor reads at most thirteen modules, none of which can reach a store or the network."""
    known = modules(root)
    if VERIFY not in known:
        return []
    closure, violations, waiting = set(), [], [VERIFY]
    while waiting:
        name = waiting.pop()
        if name in closure:
            continue
        closure.add(name)
        for found in imports(known[name], known):
            if found.target.split(".")[0] in VERIFY_BANNED:
                violations.append(known[name].at(found.line, f"verify reaches {found.target}"))
            if found.target in known:
                waiting.append(found.target)
    counted = sorted(name for name in closure if not known[name].is_package)
    if len(counted) > VERIFY_MODULES_MAX:
        violations.append(
            f"verify needs {len(counted)} modules, {VERIFY_MODULES_MAX} at most: {counted}"
        )
    return violations


def package_files(root: Path) -> list[str]:
    """A package file holds a docstring; the root its version, a workload its WORKLOAD."""
    return [
        module.at(node.lineno, "a package file holds a docstring and nothing else")
        for module in modules(root).values()
        if module.is_package
        for position, node in enumerate(module.tree.body)
        if not _belongs_in_package_file(module.name, node, position)
    ]


def _belongs_in_package_file(name: str, node: ast.stmt, position: int) -> bool:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return position == 0
    if isinstance(node, ast.ImportFrom) and node.module == "__future__":
        return True
    is_workload = name.removeprefix("runwright.") in WORKLOADS
    if is_workload and isinstance(node, ast.ImportFrom | ast.Import):
        return True
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    names = {getattr(target, "id", None) for target in targets}
    return (name == "runwright" and names == {"__version__"}) or (
        is_workload and names == {"WORKLOAD"}
    )


RULES = (
    import_direction,
    import_cycles,
    imports_in_functions,
    purity,
    verify_closure,
    package_files,
)
