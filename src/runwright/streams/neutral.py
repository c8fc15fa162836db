"""Looks for what an orchestrator does not do: compute on market values, know its consumers.

Source text in, violations out. A value is a market value when it is read by a market field's name,
or comes from one: through names, calls, loops. The engines are examples of the seam and may
compute; nothing else in the package may. It does not follow a value into another function, which
is why the names are looked for everywhere.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from runwright.streams.normalized import FLOATS

#: Where computing on market values is the point.
ENGINES: Final = "runwright.streams.engines"
#: What a module of streams may import beside the standard library.
ALLOWED: Final = (
    "msgspec",
    "runwright.streams",
    *(
        f"runwright.kernel.{name}"
        for name in ("errors", "canonical", "run", "criteria", "workload", "ports")
    ),
)
#: Modules of the standard library that are for computing.
COMPUTING: Final = frozenset({"statistics", "fractions", "cmath"})
_SNAPSHOT: Final = (
    "market derivatives flow context price vwap atr atr_z range_expansion structure_levels"
    " acceptance_score sweep_score open_interest oi_slope_short oi_slope_med oi_accel funding_rate"
    " funding_slope funding_z liquidation_intensity cvd cvd_slope cvd_efficiency"
    " aggressive_volume_ratio rs_vs_btc beta_to_btc alt_breadth"
).split()
#: Names under which market values are read.
FIELDS: Final = frozenset(
    [
        "normalized",
        "bids",
        "asks",
        *_SNAPSHOT,
        *FLOATS,
    ]
)
#: Names that Python has taken: they mean a field only where they are read by their text.
_PYTHON: Final = frozenset({"open", "close", "context", "flow"})
_ARITHMETIC: Final = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow)
_REDUCING: Final = frozenset({"sum", "min", "max", "round", "abs", "pow", "divmod", "sorted"})
#: Calls whose answer is about a value and no longer the value.
_ABOUT: Final = frozenset({"len", "isinstance", "type", "bool", "repr", "id", "hash", "keys"})


def computations(sources: Mapping[str, str]) -> list[str]:
    """Return where modules outside the engines compute on market values: "module:line: what"."""
    return [
        f"{name}:{line}: {what}"
        for name, tree in _modules(sources)
        for line, what in _computations(tree)
    ]


def consumers(sources: Mapping[str, str]) -> list[str]:
    """Return where modules outside the engines import what they have no business with."""
    found = []
    for name, tree in _modules(sources):
        for line, target in _imports(tree):
            if not _is_allowed(target):
                found.append(f"{name}:{line}: imports {target}")
    return found


def _modules(sources: Mapping[str, str]) -> Iterator[tuple[str, ast.Module]]:
    for name in sorted(sources):
        if name != ENGINES and not name.startswith(f"{ENGINES}."):
            yield name, ast.parse(sources[name], filename=name)


def _imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, "." * node.level + (node.module or "")
        elif isinstance(node, ast.Call) and _called(node) in {"import_module", "__import__"}:
            for argument in node.args[:1]:
                if isinstance(argument, ast.Constant):
                    yield node.lineno, str(argument.value)


def _is_allowed(target: str) -> bool:
    if any(target == one or target.startswith(f"{one}.") for one in ALLOWED):
        return True
    top = target.partition(".")[0]
    return top in sys.stdlib_module_names and top not in COMPUTING


# --------------------------------------------------------------------------------- arithmetic


def _computations(tree: ast.Module) -> list[tuple[int, str]]:
    found = set()
    scopes = [tree, *(node for node in ast.walk(tree) if isinstance(node, _SCOPES))]
    for scope in scopes:
        nodes = list(_inside(scope))
        tainted = _tainted(nodes)
        for node in nodes:
            what = _computes(node, tainted)
            if what:
                found.add((node.lineno, what))  # type: ignore[attr-defined]
    return sorted(found)


_SCOPES: Final = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


def _inside(scope: ast.AST) -> Iterator[ast.AST]:
    """Yield what a scope holds: a function the functions in it, a module none, as they are next."""
    if isinstance(scope, _SCOPES):
        yield from ast.walk(scope)
        return
    for child in ast.iter_child_nodes(scope):
        if not isinstance(child, _SCOPES):
            yield child
            yield from _inside(child)


def _tainted(nodes: Sequence[ast.AST]) -> frozenset[str]:
    """Return the names of a scope that hold market values, however many steps away."""
    names: frozenset[str] = frozenset()
    while True:
        more = names | {
            name
            for node in nodes
            for target, value in _bindings(node)
            if _is_market(value, names)
            for name in _names(target)
        }
        if more == names:
            return names
        names = more


def _bindings(node: ast.AST) -> Iterator[tuple[ast.AST, ast.AST]]:
    if isinstance(node, ast.Assign):
        yield from ((target, node.value) for target in node.targets)
    elif isinstance(node, ast.AnnAssign | ast.NamedExpr | ast.AugAssign) and node.value:
        yield node.target, node.value
    elif isinstance(node, ast.For | ast.AsyncFor | ast.comprehension):
        yield node.target, node.iter
    elif isinstance(node, ast.withitem) and node.optional_vars:
        yield node.optional_vars, node.context_expr
    elif isinstance(node, ast.Match):
        yield from ((case.pattern, node.subject) for case in node.cases)
    elif isinstance(node, ast.MatchMapping):
        nothing = ast.Constant(None)
        for key, pattern in zip(node.keys, node.patterns, strict=True):
            yield pattern, ast.Subscript(value=nothing, slice=key)
    elif isinstance(node, ast.MatchClass):
        nothing = ast.Constant(None)
        for name, pattern in zip(node.kwd_attrs, node.kwd_patterns, strict=True):
            yield pattern, ast.Attribute(value=nothing, attr=name)


def _names(target: ast.AST) -> Iterator[str]:
    for node in ast.walk(target):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.MatchAs | ast.MatchStar) and node.name:
            yield node.name
        elif isinstance(node, ast.MatchMapping) and node.rest:
            yield node.rest


def _is_market(node: ast.AST, tainted: frozenset[str]) -> bool:
    """Say whether an expression gives a market value or something that holds one."""
    if isinstance(node, ast.Name):
        return node.id in tainted or node.id in FIELDS - _PYTHON
    if isinstance(node, ast.Constant | ast.Compare | ast.JoinedStr | ast.Lambda):
        return False
    if isinstance(node, ast.Attribute):
        return node.attr in FIELDS - _PYTHON or _is_market(node.value, tainted)
    if isinstance(node, ast.Subscript):
        by_name = isinstance(node.slice, ast.Constant) and node.slice.value in FIELDS
        return by_name or _is_market(node.value, tainted)
    if isinstance(node, ast.Call):
        if _called(node) in _ABOUT:
            return False
        key = node.args[0] if node.args else None
        by_name = isinstance(key, ast.Constant) and key.value in FIELDS
        parts: list[ast.AST] = [*node.args, *(keyword.value for keyword in node.keywords)]
        if isinstance(node.func, ast.Attribute):
            parts.append(node.func.value)
        return by_name or any(_is_market(part, tainted) for part in parts)
    return any(_is_market(child, tainted) for child in ast.iter_child_nodes(node))


def _computes(node: ast.AST, tainted: frozenset[str]) -> str:
    if isinstance(node, ast.BinOp) and isinstance(node.op, _ARITHMETIC):
        if _is_market(node.left, tainted) or _is_market(node.right, tainted):
            return f"computes {ast.unparse(node)}"
    elif isinstance(node, ast.AugAssign) and isinstance(node.op, _ARITHMETIC):
        if _is_market(node.target, tainted) or _is_market(node.value, tainted):
            return f"computes {ast.unparse(node)}"
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        if _is_market(node.operand, tainted):
            return f"computes {ast.unparse(node)}"
    elif isinstance(node, ast.Call) and (_called(node) in _REDUCING or _is_math(node)):
        touched = any(_is_market(argument, tainted) for argument in node.args)
        return f"computes {ast.unparse(node)}" if touched else ""
    return ""


def _called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def _is_math(node: ast.Call) -> bool:
    function = node.func
    return (
        isinstance(function, ast.Attribute)
        and isinstance(function.value, ast.Name)
        and function.value.id in {"math", "operator"}
        and function.attr not in {"isfinite", "isnan", "itemgetter", "attrgetter"}
    )
