"""Level T2, the conductor's side: what bubblewrap is told to show a child, and whether it can.

A child sees the machine read-only but for private folders and, of those that everybody writes to,
what its plan names. What may be reached in its network stands in a hosts file of its own.
"""

from __future__ import annotations

import functools
import ipaddress
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from runwright.kernel.run import Command

#: Where bubblewrap is looked for, whatever the PATH of the conductor.
PATH: Final = "/usr/local/bin:/usr/bin:/bin"
#: Inside it says that all is mounted, and holds the namespaces as long as its input is open.
ECHO: Final = "cat"
PROBE_S: Final = 20
#: Folders that everybody writes to: their own for each child.
SHARED: Final = ("/tmp", "/var/tmp")  # noqa: S108 - exactly these
#: Where sockets of services stand.
SERVICES: Final = "/run"
#: Names that one function may be granted, each with a loopback address of its own.
HOSTS_MAX: Final = 100
_DEVICES: Final = ("null", "zero", "full", "random", "urandom")
_STREAMS: Final = {"fd": "", "stdin": "/0", "stdout": "/1", "stderr": "/2"}
_LOCAL: Final = "127.0.0.1"


@functools.cache
def problem() -> str:
    """Return why this machine does not hold T2, where it holds T1; empty when it does."""
    program, echo = shutil.which("bwrap", path=PATH), shutil.which(ECHO, path=PATH)
    if program is None or echo is None:
        return f"bubblewrap is not installed: no {ECHO if program else 'bwrap'} on {PATH}"
    if Path(program).stat().st_mode & stat.S_ISUID:
        return f"{program} is set-user-id, so what it makes cannot be entered"
    argv = [program, *_spaces(network=True), *_base(), "--", echo]
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=PROBE_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{program}: {error}"
    said = done.stderr.decode(errors="replace").strip().splitlines()
    return "" if done.returncode == 0 else said[-1] if said else f"{program} failed"


def wish_of(
    command: Command,
    *,
    program: str,
    scratch: str,
    private: Sequence[str],
    writable: Sequence[str],
) -> dict[str, Any]:
    """Return what `namespaces.enter` wants; the paths are resolved. Raises: ValueError."""
    isolated = command.network != "any"
    doors = _doors(command.network) if isinstance(command.network, tuple) else []
    shown = _shown(command, program)
    arguments = [
        *_spaces(network=isolated),
        *_base(),
        *_services(isolated=isolated),
        *_bound("--ro-bind", _within(shown, (*SHARED, SERVICES, "/dev/shm"))),  # noqa: S108
        *_hidden(private, shown, scratch),
        *_bound("--bind", (scratch, *writable)),
    ]
    return {
        "program": shutil.which("bwrap", path=PATH) or "bwrap",
        "echo": shutil.which(ECHO, path=PATH) or ECHO,
        "arguments": arguments,
        "network": isolated,
        "hidden": list(private),
        "doors": doors,
        "hosts": _hosts(doors) if isolated else "",
        "hosts_path": os.path.realpath("/etc/hosts"),
    }


def writable_inside(wish: Mapping[str, Any]) -> list[str]:
    """Return the folders inside that are the child's own, so that it may write there."""
    words = wish["arguments"]
    own = {words[at + 1] for at, word in enumerate(words) if word == "--tmpfs"}
    shown = {words[at + 2] for at, word in enumerate(words) if word == "--ro-bind"}
    return [path for path in (*SHARED, "/dev/shm") if path in own - shown]  # noqa: S108


def _spaces(*, network: bool) -> list[str]:
    """Return which namespaces are made; root needs no user namespace for it."""
    return [
        "--unshare-pid",
        "--unshare-ipc",
        "--unshare-uts",
        "--unshare-cgroup-try",
        *(["--unshare-net"] if network else []),
        *(["--unshare-user"] if os.geteuid() else []),
        "--die-with-parent",
    ]


def _base() -> Iterator[str]:
    """Yield the words for a machine that is read-only, with folders and devices of its own."""
    yield from ("--ro-bind", "/", "/", "--tmpfs", "/dev")
    for name in _DEVICES:
        yield from ("--dev-bind", f"/dev/{name}", f"/dev/{name}")
    for name, end in _STREAMS.items():
        yield from ("--symlink", f"/proc/self/fd{end}", f"/dev/{name}")
    yield from ("--perms", "1777", "--tmpfs", "/dev/shm", "--remount-ro", "/dev")  # noqa: S108
    yield from ("--proc", "/proc")
    for path in SHARED:
        if os.path.realpath(path) == path and Path(path).is_dir():
            yield from ("--perms", "1777", "--tmpfs", path)


def _services(*, isolated: bool) -> Iterator[str]:
    """Yield the words that hide the sockets of services; names are still resolved."""
    if Path(SERVICES).is_dir():
        yield from ("--perms", "0755", "--tmpfs", SERVICES)
    names = os.path.realpath("/etc/resolv.conf")
    if not isolated and names.startswith(f"{SERVICES}/"):
        yield from ("--ro-bind-try", names, names)


def _shown(command: Command, program: str) -> list[str]:
    """Return the resolved paths that the plan names."""
    script = [command.script.root, command.script.path] if command.script else []
    folder = [command.folder] if command.folder else []
    found = [*script, *folder, str(Path(command.folder, program).parent)]
    if os.path.realpath(program) == os.path.realpath(sys.executable):
        found += [sys.prefix, sys.base_prefix]
    return [*dict.fromkeys(map(os.path.realpath, found))]


def _within(paths: Iterable[str], folders: Iterable[str]) -> list[str]:
    """Return the paths that stand in one of the folders, outer ones first."""
    return sorted(path for path in paths if any(_holds(folder, path) for folder in folders))


def _holds(folder: str, path: str) -> bool:
    return path == folder or Path(path).is_relative_to(folder)


def _bound(how: str, paths: Iterable[str]) -> Iterator[str]:
    for path in paths:
        yield from (how, path, path)


def _hidden(private: Sequence[str], shown: Sequence[str], scratch: str) -> Iterator[str]:
    """Yield the words that put something empty over every private path.

    A folder that holds nothing but private ones goes whole, so that not even names are left.
    """
    folders = {path for path in private if Path(path).is_dir()}
    files = {path for path in private if Path(path).is_file()}
    for folder in {str(Path(path).parent) for path in private}:
        if _is_private(folder, private) and not any(_holds(folder, path) for path in shown):
            folders.add(folder)
    outer = {path for path in folders if not _inside(path, folders)}
    for path in sorted(outer):
        yield from ("--perms", "0755", "--tmpfs", path)
        if _holds(path, scratch):
            yield from ("--dir", scratch)
        yield from ("--remount-ro", path)
    for path in sorted(files):
        if not _inside(path, outer):
            # Not a device there: nothing of it can be opened.
            yield from ("--ro-bind", os.devnull, path)


def _is_private(folder: str, private: Sequence[str]) -> bool:
    try:
        found = [*map(str, Path(folder).iterdir())]
    except OSError:
        return False
    return all(path in private for path in found)


def _inside(path: str, folders: Collection[str]) -> bool:
    return any(path != folder and _holds(folder, path) for folder in folders)


# ------------------------------------------------------------------------------------ the network


def _doors(granted: Sequence[str]) -> list[dict[str, Any]]:
    """Return where each grant is met inside, and where it leads; each host has one address.

    Raises: ValueError for an address or a port that is none.
    """
    pairs = [
        (host.strip("[]"), int(port)) for host, _, port in (g.rpartition(":") for g in granted)
    ]
    addresses: dict[str, str] = {}
    for host, port in pairs:
        if not 0 < port < 1 << 16:
            msg = f"{host}:{port} has no such port"
            raise ValueError(msg)
        if any(sign.isspace() for sign in host):
            msg = f"{host!r} is not the name of a host"
            raise ValueError(msg)
        if literal := _literal(host):
            addresses[host] = literal
    names = dict.fromkeys(host for host, _port in pairs if host not in addresses)
    if len(names) > HOSTS_MAX:
        msg = f"{len(names)} hosts are granted, and at most {HOSTS_MAX} can be"
        raise ValueError(msg)
    taken = {*addresses.values()}
    free = (address for n in range(1, 255) if (address := f"127.0.0.{n}") not in taken)
    addresses |= dict(zip(names, free, strict=False))
    # Two names of one address and port are one way.
    doors = {(addresses[host], port): (host, port) for host, port in reversed(pairs)}
    return [
        {"address": address, "port": port, "target": target}
        for (address, port), target in doors.items()
    ]


def _literal(host: str) -> str:
    """Return the address that a host is by itself; empty for a name."""
    if host.lower() == "localhost":
        return _LOCAL
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return ""


def _hosts(doors: Iterable[Mapping[str, Any]]) -> str:
    """Return a hosts file: nothing but this machine and what is granted has a name."""
    names = {door["target"][0]: door["address"] for door in doors}
    lines = [f"{_LOCAL} localhost", "::1 localhost"]
    return "\n".join(
        [*lines, *(f"{at} {name}" for name, at in names.items() if not _literal(name)), ""]
    )
