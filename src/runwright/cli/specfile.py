"""Reads spec files: YAML 1.2 into a workload's types, with file, line and key in every error."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from runwright.kernel.drive.retry import check as check_retry
from runwright.kernel.drive.schedule import check as check_schedule
from runwright.kernel.errors import InvalidSpec
from runwright.kernel.workload import Workload

#: The largest spec file, bytes.
SIZE_MAX: Final = 4 * 1024 * 1024
#: Names that mean something else on the command line.
RESERVED: Final = frozenset({"runs", "ledger", "schedule", "outbox", "latest", "all", "exec"})


class SpecFile(NamedTuple):
    """A spec as its file says, valid for its workload."""

    kind: str
    name: str
    #: Canonical JSON: what the store keeps.
    body: bytes


def read(path: Path, workloads: Mapping[str, Workload]) -> SpecFile:
    """Read one spec file.

    Raises: invalid-spec, naming the file, the line, the key and the reason.
    """
    tree = _parse(path)
    kind = tree.get("kind")
    if not isinstance(kind, str) or kind not in workloads:
        known = ", ".join(sorted(workloads))
        raise _error(path, tree, "kind", f"{kind!r} is not a kind; known: {known}")
    if tree.get("name") in RESERVED:
        raise _error(path, tree, "name", f"{tree['name']!r} is a word of `runwright show`")
    if "folder" in tree:
        raise _error(path, tree, "folder", "unknown key: it is put in when the spec is applied")
    plain = _plain(tree, path)
    try:
        spec: Any = msgspec.convert(
            {**plain, "folder": str(path.parent.absolute())}, workloads[kind].Spec
        )
    except msgspec.ValidationError as error:
        text, _, place = str(error).partition(" - at `$")
        place = place.rstrip("`").lstrip(".")
        raise _error(path, tree, place, text) from error
    try:
        if spec.schedule is not None:
            check_schedule(spec.schedule)
        if hasattr(spec, "retry"):
            check_retry(spec.retry)
        # What applying would refuse whatever the store holds is refused with its line, here.
        tables: dict[str, list[Any]] = {table.name: [] for table in workloads[kind].tables}
        workloads[kind].register(spec, 0, tables)
    except InvalidSpec as error:
        place, _, text = str(error).partition(": ")
        raise _error(path, tree, place, text) from error
    body = msgspec.json.Encoder(order="sorted").encode(spec)
    return SpecFile(kind, spec.name, body)


def _parse(path: Path) -> Any:
    from ruamel.yaml import YAML  # lazy: only apply reads YAML, 60 ms
    from ruamel.yaml.comments import CommentedMap  # lazy: as above
    from ruamel.yaml.error import MarkedYAMLError, YAMLError  # lazy: as above

    try:
        data = path.read_bytes()
    except OSError as error:
        message = f"{path}: {error.strerror}"
        raise InvalidSpec(message) from error
    if len(data) > SIZE_MAX:
        message = f"{path}: {len(data)} bytes; a spec file has at most {SIZE_MAX}"
        raise InvalidSpec(message)
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        message = f"{path}:{line}: not UTF-8 text"
        raise InvalidSpec(message) from error
    if "\0" in text:
        message = f"{path}:{text[: text.index(chr(0))].count(chr(10)) + 1}: a NUL byte"
        raise InvalidSpec(message)
    try:
        tree = YAML(typ="rt").load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        message = f"{path}:{line}: {error.problem or error.context}"
        raise InvalidSpec(message) from error
    except (YAMLError, ValueError, RecursionError) as error:
        message = f"{path}: malformed YAML: {error}"
        raise InvalidSpec(message) from error
    if not isinstance(tree, CommentedMap):
        message = f"{path}: a spec is a mapping with `kind` and `name`"
        raise InvalidSpec(message)
    return tree


def _plain(tree: Any, path: Path) -> Any:
    """Return YAML's values as JSON's; a value that JSON has no form for is an error."""
    if isinstance(tree, Mapping):
        found = {}
        for key, item in tree.items():
            if not isinstance(key, str):
                raise _error(path, tree, str(key), "a key is text")
            found[key] = _leaf(item, path, tree, key)
        return found
    return [_leaf(item, path, tree, str(index)) for index, item in enumerate(tree)]


def _leaf(item: Any, path: Path, tree: Any, key: str) -> Any:
    if item is None or isinstance(item, bool):
        return item
    if isinstance(item, Mapping | list):
        return _plain(item, path)
    if isinstance(item, int):
        return int(item)
    if isinstance(item, float):
        if not math.isfinite(item):
            raise _error(path, tree, key, f"{item} is not a number that can be recorded")
        return float(item)
    # Dates and other scalars of YAML are the text that stands in the file.
    return item.isoformat() if hasattr(item, "isoformat") else str(item)


def _error(path: Path, tree: Any, place: str, text: str) -> InvalidSpec:
    """Return the error with the line of the innermost key of a place like `tasks[0].timeout`."""
    node: Any = tree
    line = 1
    steps = place.replace("[", ".").replace("]", "").split(".") if place else []
    if text.startswith("Object contains unknown field"):
        steps.append(text.split("`")[1])
        place = ".".join(part for part in (place, steps[-1]) if part)
        text = "unknown key"
    for step in steps:
        try:
            if step.isdigit():
                line, node = node.lc.item(int(step))[0] + 1, node[int(step)]
            else:
                line = node.lc.key(step)[0] + 1
                node = node[step]
        except (AttributeError, KeyError, IndexError, TypeError, ValueError):
            break
    return InvalidSpec(f"{path}:{line}: {place + ': ' if place else ''}{text}")
